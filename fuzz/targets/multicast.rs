//! Any bytes behind the EtherType of BIER or an MPLS label, and any packet to a group, through a whole worker: nothing leaves
//! unless a header is sound, by rules written down here once more; what leaves is a copy with its part of the bits, one hop
//! less and nothing else changed, or the payload for listeners; every frame has one fate and every buffer comes back.
//!
//! The workers keep nothing of a packet, so all inputs go through one.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use millrace_bier::bift::NeighbourIndex;
use millrace_bier::bift_id::BiftIds;
use millrace_bier::compute::{Computed, Options};
use millrace_bier::forward::Down;
use millrace_bier::frr::{Protection, protect};
use millrace_bier::header::{Carriage, View};
use millrace_bier::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};
use millrace_bier::overlay::{Flow, Receivers};
use millrace_bier::plane::AnyBift;
use millrace_bier::te::{Adjacencies, Adjacency, TeBift};
use millrace_bier::topology::{Domain, LinkSpec, RouterSpec};
use millrace_fastpath::tables::bier::Bier;

#[path = "../../fastpath/tests/common/mod.rs"]
mod common;

use common::bier::{INGRESS, LAN_IF, OURS, given, install, neighbour_of};
use common::{Bench, CLIENT_MAC, LAN, LAN_MAC, WAN, WAN_MAC};

const L3: usize = 14;
const GROUPS: [(&str, &str); 2] = [("192.0.2.100", "232.1.1.1"), ("2001:db8::100", "ff3e::1:2")];
/// Hops that packets get that enter here.
const INGRESS_TTL: u8 = 30;
const LINKS: usize = 16;

/// Given rows in sub-domain 0, a computed ring with equal ways and rows for failures in 1, adjacencies in 2; every length.
static WORLD: LazyLock<Mutex<(Bench, Arc<Bier>)>> = LazyLock::new(|| {
    let mut tables = Vec::new();
    for bsl in Bsl::ALL {
        let last = bsl.bits();
        let rows: [&[u16]; 3] = [&[1, 2, last, last + 1], &[3, 6, 7, 8, last - 1], &[4, last + 2]];
        tables.extend(given(SubDomain(0), bsl, &rows, &BiftIds::Static));
    }
    tables.extend(Bsl::ALL.into_iter().flat_map(ring));
    tables.extend(Bsl::ALL.map(adjacencies));
    let carriages: Vec<_> =
        (0..LINKS).map(|at| if at % 2 == 0 { Carriage::NonMpls } else { Carriage::Mpls }).collect();
    let mut bench = Bench::new(1);
    install(&mut bench, BiftIds::Static, tables, &carriages);
    // Neighbour 0 is also at the other end of a cable to ourselves; 13 isn't known yet.
    bench.tables.neighbours.insert(LAN_IF, neighbour_of(0).0, WAN_MAC);
    bench.tables.neighbours.remove(LAN_IF, neighbour_of(13).0);
    let mut bier = (**bench.tables.bier.as_ref().expect("it was just given")).clone();
    bier.resolve(&bench.tables);
    for ((source, group), sub_domain) in GROUPS.into_iter().zip([0, 1]) {
        let flow = Flow { source: source.parse().unwrap(), group: group.parse().unwrap() };
        let receivers = Receivers::new([1, 3, 4, OURS, 11, 26, 257, 258].into_iter().filter_map(BfrId::new));
        bier.overlay.set(flow, SubDomain(sub_domain), Bsl::B256, &receivers);
    }
    let bier = Arc::new(bier);
    bench.tables.bier = Some(bier.clone());
    bench.publish();
    Mutex::new((bench, bier))
});

fn ring(bsl: Bsl) -> Vec<AnyBift> {
    let router = |at: u8| RouterSpec {
        prefix: Some([10, 0, 0, at].into()),
        bfr_id: BfrId::new(u16::from(at) * 5 + 1),
        bsls: vec![bsl],
        ..RouterSpec::bier(&format!("r{at}"))
    };
    let routers: Vec<_> = (0..12).map(router).collect();
    let ends = (0..12).map(|at| (at, (at + 1) % 12)).chain([(0, 6), (0, 4), (3, 9), (0, 8)]);
    let links: Vec<_> =
        ends.map(|(one, other)| LinkSpec::new(&format!("r{one}"), &format!("r{other}"), 1)).collect();
    let (domain, found) = Domain::new(SubDomain(1), bsl, &routers, &links);
    assert!(found.is_empty() && links.len() == LINKS);
    let computed = Computed::new(&domain, domain.router("r0").unwrap(), Options { tables: 3, seed: 1 });
    protect(&domain, &computed, Protection::Node, |link| link.0).into_iter().map(AnyBift::Bier).collect()
}

fn adjacencies(bsl: Bsl) -> AnyBift {
    let key = BiftKey { sub_domain: SubDomain(2), si: Si(0), bsl };
    let connected =
        |neighbour, do_not_clear| Adjacency::ForwardConnected { interface: 1, neighbour, do_not_clear };
    let items = [
        Adjacencies::All(vec![connected(0, false)]),
        Adjacencies::All(vec![connected(1, true)]),
        Adjacencies::All(vec![Adjacency::LocalDecap { vrf: None }]),
        Adjacencies::Ecmp { list: vec![connected(0, false), connected(2, false)], seed: 7 },
    ];
    let bits = (1..).map(|number| BitPosition::new(number, bsl).unwrap());
    AnyBift::BierTe(Arc::new(TeBift::new(key, bits.zip(items).collect()).unwrap()))
}

// The first byte: bit 0 the carriage, 1 to 3 what is sent (see `kind`), 4 to 5 who is down, 6 a port that takes no more than
// three. The second chooses a table where one is wanted.
fuzz_target!(|input: &[u8]| {
    let [choice, table, bytes @ ..] = input else { return };
    // As much as a link brings.
    let bytes = &bytes[..bytes.len().min(1500)];
    let mut world = WORLD.lock().expect("a panic ends the process");
    let (bench, bier) = &mut *world;
    let down = NeighbourIndex(u16::from(choice >> 4 & 3));
    for sub_domain in [0, 1] {
        flags(bier, sub_domain).set(down, down.0 != 3);
    }
    bench.net.limit_transmit(LAN, if choice & 0x40 == 0 { usize::MAX } else { 3 });
    let carriage = if choice & 1 == 0 { Carriage::NonMpls } else { Carriage::Mpls };
    match choice >> 1 & 7 {
        // Any bytes.
        0 | 1 => pass(bench, carriage, bytes, 1),
        // For one of our tables, the rest any.
        2 | 3 => pass(bench, carriage, &for_table(*table, carriage, bytes), 1),
        // The same, and what leaves comes in again, as the links brought it: in two segments where payloads are shared.
        4 | 5 => {
            let mut bytes = for_table(*table, carriage, bytes);
            // Not for us: what is for listeners would come in again as well, and enter.
            if let Some(last) = bytes.get_mut(11 + (4 << (1 + table % 7))) {
                *last &= !0b1_0101;
            }
            pass(bench, carriage, &bytes, 2);
        }
        // A packet to a group of ours.
        kind => enter(bench, kind == 7, bytes),
    }
    for sub_domain in [0, 1] {
        flags(bier, sub_domain).set(down, false);
    }
    bench.net.limit_transmit(LAN, usize::MAX);
    bench.check_laws();
});

fn flags(bier: &Bier, sub_domain: u8) -> &Down {
    bier.down(SubDomain(sub_domain)).expect("both have neighbours")
}

/// The bytes with the fields set that no luck finds: BIFT-id, S, nibble, version, length.
fn for_table(table: u8, carriage: Carriage, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let code = 1 + table % 7;
    if let Some(fixed) = bytes.first_chunk_mut::<12>() {
        (fixed[0], fixed[1]) = (code << 4, (table / 7 % 3) << 4);
        fixed[2] = fixed[2] & 0x1f | 1;
        fixed[4] = if carriage == Carriage::Mpls { 0x50 } else { fixed[4] & 0xf0 };
        fixed[5] = code << 4 | fixed[5] & 0xf;
    }
    bytes
}

/// How long a sound header is, by RFC 8296 section 2 as it stands, or `None`.
fn sound(carriage: Carriage, bytes: &[u8]) -> Option<usize> {
    let (fixed, rest) = bytes.split_first_chunk::<12>()?;
    let code = fixed[0] >> 4;
    let mpls = carriage == Carriage::Mpls;
    let bits = rest.get(..4 << code)?;
    let is = (1..=7).contains(&code)
        && fixed[4] & 15 == 0
        && fixed[5] >> 4 == code
        && (!mpls || fixed[4] >> 4 == 5 && fixed[2] & 1 == 1)
        && bits.iter().any(|byte| *byte != 0);
    is.then_some(12 + bits.len())
}

/// A frame in, and all copies of it out, this many times over.
fn pass(bench: &mut Bench, carriage: Carriage, bytes: &[u8], times: u8) {
    let frame = [&WAN_MAC[..], &CLIENT_MAC, &carriage.ethertype().to_be_bytes(), bytes].concat();
    bench.deliver_and_run(WAN, &frame);
    for _ in 1..times {
        while bench.net.pass(LAN, WAN, 0) {}
        bench.run();
    }
    let sent = bench.sent(LAN);
    assert!(bench.sent(WAN).is_empty(), "no neighbour is there");
    let Some(header) = sound(carriage, bytes) else {
        assert!(sent.is_empty(), "nothing leaves of {bytes:02x?}");
        return;
    };
    let (ttl, payload) = (bytes[3], &bytes[header..]);
    let mut left = bytes[12..header].to_vec();
    // Where bits are adjacencies, all copies have those of others' (RFC 9262 section 4.4).
    let disjoint = bytes[0] & 15 != 0 || bytes[1] >> 4 != 2;
    for frame in &sent {
        let Some(copy) = copy_of(frame) else {
            assert!(ttl > 0, "nothing is delivered with TTL 0");
            assert_delivered(frame, payload);
            continue;
        };
        assert!(ttl > times, "{times} hops of {ttl}");
        let (theirs, fields) = (&copy[12..header], [3, 4, 5, 6, 7, 8, 9, 10, 11].map(|at| copy[at]));
        assert!(sound(carriage_of(frame), copy) == Some(header), "{copy:02x?}");
        assert_eq!(copy[..2], bytes[..2], "length and sub-domain stay");
        let nibble = if carriage_of(frame) == carriage { bytes[4] } else { copy[4] & 0xf0 | bytes[4] & 0xf };
        let passed_on = [bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]];
        assert_eq!((fields[0], &fields[2..]), (ttl - times, &passed_on[..]));
        assert!(times > 1 || copy[4] == nibble);
        assert_eq!(&copy[header..], payload, "the payload isn't touched");
        let again = theirs.iter().zip(&left).any(|(theirs, left)| theirs & !left != 0);
        assert!(!again, "a bit is served once, and none is added");
        if disjoint {
            left.iter_mut().zip(theirs).for_each(|(left, theirs)| *left &= !theirs);
        }
    }
}

/// A packet to one of the groups, with any bytes behind its addresses.
fn enter(bench: &mut Bench, v6: bool, bytes: &[u8]) {
    let address = |text: &str| text.parse::<std::net::IpAddr>().expect("it is one");
    let (source, group) = GROUPS[usize::from(v6)];
    let mut packet = bytes.to_vec();
    let at = if v6 { 8 } else { 12 };
    for (part, text) in [source, group].into_iter().enumerate() {
        let octets = match address(text) {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let from = at + part * octets.len();
        let Some(to) = packet.get_mut(from..from + octets.len()) else { return };
        to.copy_from_slice(&octets);
    }
    packet[0] = if v6 { 0x60 | packet[0] & 15 } else { 0x45 };
    if !v6 {
        packet[10..12].fill(0);
        let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    }
    let head: [&[u8]; 2] = match v6 {
        false => [&[1, 0, 0x5e, 1, 1, 1], &[8, 0]],
        true => [&[0x33, 0x33, 0, 1, 0, 2], &[0x86, 0xdd]],
    };
    bench.deliver_and_run(WAN, &[head[0], &CLIENT_MAC, head[1], &packet].concat());
    let mut entropy = None;
    for frame in bench.sent(LAN) {
        let Some(copy) = copy_of(&frame) else {
            // A hop to enter, a hop to leave.
            assert_ip(&frame, &packet, 2);
            continue;
        };
        let view = View::parse(copy, carriage_of(&frame), Bsl::B256).expect("what we write is sound");
        assert_eq!((view.ttl(), view.bfir_id()), (INGRESS_TTL, BfrId::new(INGRESS)));
        assert_eq!(*entropy.get_or_insert(view.entropy()), view.entropy(), "one way for all of a flow");
        assert_eq!(view.proto().code(), if v6 { 6 } else { 4 });
        assert_ip(&[&[0; L3][..], view.payload()].concat(), &packet, 1);
    }
}

fn carriage_of(frame: &[u8]) -> Carriage {
    if frame[12..L3] == [0xab, 0x37] { Carriage::NonMpls } else { Carriage::Mpls }
}

/// What follows the Ethernet header, if it is BIER.
fn copy_of(frame: &[u8]) -> Option<&[u8]> {
    assert_eq!(frame[6..12], LAN_MAC);
    let is_bier = frame[12..L3] == [0xab, 0x37] || frame[12..L3] == [0x88, 0x47];
    assert!(frame[0] & 1 == u8::from(!is_bier), "copies go to one neighbour, payloads to a group");
    is_bier.then_some(&frame[L3..])
}

/// The payload for listeners, perhaps with a tag before it.
fn assert_delivered(frame: &[u8], payload: &[u8]) {
    assert_ip(frame, payload, 1);
}

/// A packet this many hops later, without what padded it.
fn assert_ip(frame: &[u8], before: &[u8], hops: u8) {
    let tag = if frame[12..L3] == [0x81, 0] { 4 } else { 0 };
    let packet = &frame[L3 + tag..];
    let at = if packet[0] >> 4 == 4 { 8 } else { 7 };
    assert!(packet.len() <= before.len() && before[at] > hops - 1);
    assert_eq!(packet[at], before[at] - hops);
    // All but the hops, and the checksum of IPv4.
    let same = |index: &usize| *index != at && !(at == 8 && (10..12).contains(index));
    let changed = (0..packet.len()).filter(same).find(|index| packet[*index] != before[*index]);
    assert_eq!(changed, None, "{packet:02x?} of {before:02x?}");
}

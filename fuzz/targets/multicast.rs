//! Any bytes behind the EtherType of BIER or an MPLS label, and any packet to a group, through a whole worker: nothing leaves
//! unless a header is sound, by rules written down here once more; what leaves is a copy with its part of the bits, one hop
//! less and nothing else changed, over a link or inside a tunnel, or the payload for listeners; every frame has one fate and
//! every buffer comes back. The same comes in inside tunnels.
//!
//! The workers keep nothing of a packet, so all inputs go through one.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use millrace_bier::bift::{LinkId, NeighbourIndex};
use millrace_bier::bift_id::{BiftId, BiftIds};
use millrace_bier::compute::{Computed, Options};
use millrace_bier::forward::Down;
use millrace_bier::frr::{Protection, protect};
use millrace_bier::header::{Carriage, View};
use millrace_bier::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};
use millrace_bier::overlay::{Flow, Receivers};
use millrace_bier::plane::AnyBift;
use millrace_bier::te::{Adjacencies, Adjacency, TeBift};
use millrace_bier::topology::{Domain, LinkSpec, RouterSpec};
use millrace_fastpath::tables::bier::{Bier, Hop, Link, Tunnel, Tunnels};

#[path = "../../fastpath/tests/all/common/mod.rs"]
#[allow(dead_code, reason = "each target uses its own part of the bench")]
mod common;

use common::bier::{INGRESS, LAN_IF, OURS, VLAN_IF, given_with_hosts, install, neighbour_of};
use common::{Bench, CLIENT_MAC, HOST_MAC, LAN, LAN_MAC, WAN, WAN_MAC, addr};

const L3: usize = 14;
const GROUPS: [(&str, &str); 2] = [("192.0.2.100", "232.1.1.1"), ("2001:db8::100", "ff3e::1:2")];
/// Hops that packets get that enter here.
const INGRESS_TTL: u8 = 30;
const LINKS: usize = 16;
/// Behind the links: UDP over IPv4 and IPv6, and IPv6, to a host on the LAN.
const TUNNELS: [(&str, Tunnel); 3] =
    [("198.51.100.7", Tunnel::Udp), ("2001:db8:1::7", Tunnel::Udp), ("2001:db8:1::7", Tunnel::Ipv6)];
const NEXT_HEADER: u8 = 253;
/// Behind those: hosts on the LAN and on its VLAN, and their numbers in sub-domain 0.
const HOSTS: [(LinkId, &[u16]); 2] = [(LinkId(19), &[9, 10]), (LinkId(20), &[11])];
/// The links that adjacencies of each length lead over.
const HOPS: [u32; 6] = [0, 1, 2, 16, 17, 18];
/// The bits that are adjacencies of ours, and the one that stays in its own copy, to neighbour 1.
const ADJACENT: u8 = 0b11_1111;
const KEPT: u8 = 0b10;
/// As many as a frame of the LAN may have: 1500, an Ethernet header, and a tag.
const FRAME_MAX: usize = 1518;

/// Given rows in sub-domain 0, a computed ring with equal ways and rows for failures in 1, adjacencies in 2; every length.
static WORLD: LazyLock<Mutex<(Bench, Arc<Bier>)>> = LazyLock::new(|| {
    let mut tables = Vec::new();
    for bsl in Bsl::ALL {
        let last = bsl.bits();
        let rows: [&[u16]; 3] = [&[1, 2, last, last + 1], &[3, 6, 7, 8, last - 1], &[4, last + 2]];
        tables.extend(given_with_hosts(SubDomain(0), bsl, &rows, &HOSTS, &BiftIds::Static));
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
    bier.links.extend(TUNNELS.map(|(to, tunnel)| Link::Tunnel { to: addr(to), tunnel }));
    bier.links.extend([LAN_IF, VLAN_IF].map(|interface| Link::Hosts { interface }));
    bier.tunnels = Tunnels { own: None, peers: Vec::new(), next_header: NEXT_HEADER };
    bier.tunnels.peers = [TUNNELS[0].0, TUNNELS[1].0].map(addr).to_vec();
    bier.tunnels.peers.sort_unstable();
    // One row of sub-domain 0 goes through a tunnel, too.
    bier.links[2] = bier.links[LINKS];
    bier.hops = Bsl::ALL.into_iter().flat_map(hops).collect();
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

fn te_key(bsl: Bsl) -> BiftKey {
    BiftKey { sub_domain: SubDomain(2), si: Si(0), bsl }
}

/// What the adjacencies of a length lead to.
fn hops(bsl: Bsl) -> [Hop; HOPS.len()] {
    let id = BiftId::static_form(te_key(bsl));
    HOPS.map(|link| Hop { to: neighbour_of(link as u8).0, link: LinkId(link), id })
}

fn adjacencies(bsl: Bsl) -> AnyBift {
    let key = te_key(bsl);
    let hop = |at: u32| (u32::from(bsl.code()) - 1) * HOPS.len() as u32 + at;
    let connected =
        |at, do_not_clear| Adjacency::ForwardConnected { interface: 1, neighbour: hop(at), do_not_clear };
    let routed = |at| Adjacency::ForwardRouted { vrf: None, neighbour: hop(at) };
    let items = [
        Adjacencies::All(vec![connected(0, false)]),
        Adjacencies::All(vec![connected(1, true)]),
        Adjacencies::All(vec![Adjacency::LocalDecap { vrf: None }]),
        Adjacencies::Ecmp { list: vec![connected(0, false), connected(2, false)], seed: 7 },
        Adjacencies::All(vec![routed(3)]),
        Adjacencies::All(vec![routed(4), routed(5)]),
    ];
    let bits = (1..).map(|number| BitPosition::new(number, bsl).unwrap());
    AnyBift::BierTe(Arc::new(TeBift::new(key, bits.zip(items).collect()).unwrap()))
}

// The first byte: bit 0 the carriage, 1 to 3 what is sent (see `kind`), 4 to 5 who is down, 6 a port that takes no more than
// three, 7 a tunnel that says its packet ends earlier. The second chooses a table where one is wanted, and a tunnel.
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
        0 => pass(bench, carriage, bytes, 1),
        // For one of our tables, inside a tunnel.
        1 => come_in(bench, *table, choice & 0x80 != 0, &for_table(*table, Carriage::NonMpls, bytes)),
        // For one of our tables, the rest any.
        2 | 3 => pass(bench, carriage, &for_table(*table, carriage, bytes), 1),
        // The same, and what leaves comes in again, as the links brought it: in two segments where payloads are shared.
        4 | 5 => {
            let mut bytes = for_table(*table, carriage, bytes);
            // Not for us: what is for listeners would come in again as well, and enter. (With adjacencies that is bit 3.)
            if let Some([hosts, last]) =
                bytes.get_mut(10 + (4 << (1 + table % 7))..).and_then(<[u8]>::first_chunk_mut)
            {
                (*hosts, *last) = (*hosts & !0b111, *last & !0b1_0101);
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
    pass_frame(bench, carriage, &frame, bytes, times);
}

/// These bytes inside one of the tunnels, or from somebody whom none is with; perhaps the tunnel says that it ends earlier.
fn come_in(bench: &mut Bench, table: u8, cut: bool, bytes: &[u8]) {
    let kind = table / 21 % 4;
    let is_v4 = kind == 0 || kind == 3;
    let bytes = &bytes[..bytes.len().min(if is_v4 { 1472 } else { 1452 })];
    let left = bytes.len().saturating_sub(if cut { usize::from(table) } else { 0 });
    let inside = &bytes[..left];
    let mut udp =
        [[0xc1, 0, 0x1f, 0xca].to_vec(), ((8 + left) as u16).to_be_bytes().to_vec(), vec![0; 2]].concat();
    if kind == 2 {
        udp.clear();
    }
    let len = (udp.len() + left) as u16;
    let octets = |text: &str| match text.parse().expect("it is an address") {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (ether_type, ip) = if is_v4 {
        let from = if kind == 3 { "198.51.100.8" } else { TUNNELS[0].0 };
        let mut ip = [&[0x45, 0][..], &(20 + len).to_be_bytes(), &[0, 0, 0x40, 0, 64, 17, 0, 0]].concat();
        ip.extend([octets(from), octets("192.0.2.1")].concat());
        fill_checksum(&mut ip);
        ([8, 0], ip)
    } else {
        let protocol = if kind == 2 { NEXT_HEADER } else { 17 };
        let mut ip = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[protocol, 64]].concat();
        ip.extend([octets(TUNNELS[1].0), octets("2001:db8::1")].concat());
        ([0x86, 0xdd], ip)
    };
    let frame = [&WAN_MAC[..], &CLIENT_MAC, &ether_type, &ip, &udp, bytes].concat();
    // Nobody listens to what a stranger says.
    pass_frame(bench, Carriage::NonMpls, &frame, if kind == 3 { &[] } else { inside }, 1);
}

/// A frame in with these bytes from the BIER header on, and all copies of it out, this many times over.
fn pass_frame(bench: &mut Bench, carriage: Carriage, frame: &[u8], bytes: &[u8], times: u8) {
    bench.deliver_and_run(WAN, frame);
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
    let to_hosts = sent.iter().filter(|frame| frame[0] & 1 == 1 && !is_listened_to(frame));
    let to_hosts: Vec<_> = to_hosts.map(|frame| frame[12..L3] == [0x81, 0]).collect();
    assert!(to_hosts.len() < 2 || to_hosts.len() == 2 && to_hosts[0] != to_hosts[1], "to each network once");
    for frame in &sent {
        assert!(frame.len() <= FRAME_MAX, "no longer than the MTU");
        let Some(copy) = copy_of(frame) else {
            assert!(ttl > 0, "nothing is delivered with TTL 0");
            assert_delivered(frame, payload);
            assert!(
                is_listened_to(frame) || for_hosts(frame, bytes),
                "who has no bit, and doesn't listen, gets nothing"
            );
            continue;
        };
        assert!(ttl > times, "{times} hops of {ttl}");
        let (theirs, fields) = (&copy[12..header], [3, 4, 5, 6, 7, 8, 9, 10, 11].map(|at| copy[at]));
        // Where bits are adjacencies none may be left.
        let mut with_a_bit = copy.to_vec();
        with_a_bit[12] |= u8::from(!disjoint);
        assert!(sound(carriage_of(frame), &with_a_bit) == Some(header), "{copy:02x?}");
        let stays = if frame[..6] == neighbour_of(1).1 { KEPT } else { 0 };
        assert!(disjoint || copy[header - 1] & ADJACENT & !stays == 0, "an adjacency's bit stays here");
        assert_eq!(copy[..2], bytes[..2], "length and sub-domain stay");
        let nibble = if carriage_of(frame) == carriage { bytes[4] } else { copy[4] & 0xf0 | bytes[4] & 0xf };
        // DSCP means nothing with MPLS, so nothing on its other side.
        let mut passed_on = [bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]];
        let is_plain = fields[2..] == passed_on;
        if carriage_of(frame) != carriage || times > 1 && !is_plain {
            (passed_on[3], passed_on[4]) = (bytes[8] & 0xf0, bytes[9] & 0x3f);
        }
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
        fill_checksum(&mut packet);
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

fn fill_checksum(ip: &mut [u8]) {
    ip[10..12].fill(0);
    let sum: u32 = ip[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
}

fn carriage_of(frame: &[u8]) -> Carriage {
    if frame[12..L3] == [0x88, 0x47] { Carriage::Mpls } else { Carriage::NonMpls }
}

/// What follows the Ethernet header, or those of a tunnel, if it is BIER.
fn copy_of(frame: &[u8]) -> Option<&[u8]> {
    assert_eq!(frame[6..12], LAN_MAC);
    let is_bier = frame[12..L3] == [0xab, 0x37] || frame[12..L3] == [0x88, 0x47];
    let is_tunnel = frame[..6] == HOST_MAC;
    assert!(
        frame[0] & 1 == u8::from(!is_bier && !is_tunnel),
        "copies go to one neighbour, payloads to a group"
    );
    if is_tunnel {
        return Some(inside(frame));
    }
    is_bier.then_some(&frame[L3..])
}

/// What a tunnel carries, whose lengths and ports are right.
fn inside(frame: &[u8]) -> &[u8] {
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let (v4, plain) = (frame[12..L3] == [8, 0], frame[20] == NEXT_HEADER);
    let l4 = if v4 { L3 + 20 } else { L3 + 40 };
    let said = if v4 { L3 + word(L3 + 2) } else { l4 + word(L3 + 4) };
    assert_eq!((said, frame[if v4 { L3 + 8 } else { L3 + 7 }]), (frame.len(), 255));
    if plain && !v4 {
        return &frame[l4..];
    }
    assert_eq!((frame[if v4 { L3 + 9 } else { L3 + 6 }], word(l4 + 2)), (17, 8138));
    assert_eq!(word(l4 + 4), frame.len() - l4);
    &frame[l4 + 8..]
}

/// Whether a payload's group is one that somebody listens to.
fn is_listened_to(frame: &[u8]) -> bool {
    let packet = &frame[if frame[12..L3] == [0x81, 0] { L3 + 4 } else { L3 }..];
    GROUPS.iter().any(|(_, group)| match group.parse::<std::net::IpAddr>().expect("it is an address") {
        std::net::IpAddr::V4(group) => packet[0] >> 4 == 4 && packet[16..20] == group.octets(),
        std::net::IpAddr::V6(group) => packet[0] >> 4 == 6 && packet[24..40] == group.octets(),
    })
}

/// Whether a packet has bits of the hosts on the network that a payload went to.
fn for_hosts(frame: &[u8], bytes: &[u8]) -> bool {
    let (_, numbers) = HOSTS[usize::from(frame[12..L3] == [0x81, 0])];
    let end = 12 + (4 << (bytes[0] >> 4));
    let is_set = |number: &u16| bytes[end - 1 - usize::from(number - 1) / 8] >> ((number - 1) % 8) & 1 == 1;
    // Sub-domain 0, set 0.
    bytes[0] & 15 == 0 && bytes[1] == 0 && bytes[2] >> 4 == 0 && numbers.iter().any(is_set)
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

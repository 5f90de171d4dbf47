//! Any bytes as a BIER packet and as an echo message: what is read fits what is there; every bit of a packet ends in
//! exactly one part, by each procedure alike; a copy's header is the packet's but for three fields; what is written
//! is read again.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use millrace_bier::bift::given::{Given, Row, build};
use millrace_bier::bift::{Bift, LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bift_id::BiftIds;
use millrace_bier::bits::{self, BitString};
use millrace_bier::compute::{Computed, Options};
use millrace_bier::forward::{Down, NextHop, Packet, Part, Procedure};
use millrace_bier::frr::{Protection, protect};
use millrace_bier::header::{self, Carriage, Template, View};
use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::oam::{Arrival, Echo, Kind, judge};
use millrace_bier::topology::{Domain, LinkSpec, RouterSpec};
use millrace_bier::wire::{OnWire, clear_others};

/// Tables of one router for every length, with rows for failures: a ring of 12, chords, some numbers unused.
static TABLES: LazyLock<Vec<Arc<Bift>>> = LazyLock::new(|| {
    let all = Bsl::ALL.into_iter().flat_map(|bsl| {
        let router = |at: u8| RouterSpec {
            prefix: Some([10, 0, 0, at].into()),
            bfr_id: BfrId::new(u16::from(at) * 5 + 1),
            bsls: vec![bsl],
            ..RouterSpec::bier(&format!("r{at}"))
        };
        let routers: Vec<_> = (0..12).map(router).collect();
        let ring = (0..12).map(|at| (at, (at + 1) % 12));
        let links: Vec<_> = ring
            .chain([(0, 6), (0, 4), (3, 9), (0, 8)])
            .map(|(one, other)| LinkSpec::new(&format!("r{one}"), &format!("r{other}"), 1))
            .collect();
        let (domain, found) = Domain::new(SubDomain(0), bsl, &routers, &links);
        assert!(found.is_empty());
        let computed = Computed::new(&domain, domain.router("r0").unwrap(), Options { tables: 3, seed: 1 });
        protect(&domain, &computed, Protection::Node, |link| link.0)
    });
    all.chain(Bsl::ALL.map(access_switch)).collect()
});

/// The table of a router beside us, and of two networks of hosts, in sub-domain 1.
fn access_switch(bsl: Bsl) -> Arc<Bift> {
    let reach = [Reach::Links([LinkId(0)].into()), Reach::Hosts(LinkId(1)), Reach::Hosts(LinkId(2))];
    let neighbours = reach.map(|reach| (Neighbour { prefix: [0; 4].into(), reach }, BiftIds::Static));
    let row = |(number, ids): (u16, &[u16])| Row {
        neighbour: NeighbourIndex(number),
        bfr_ids: ids.iter().filter_map(|id| BfrId::new(*id)).collect(),
        backup: None,
    };
    let rows: Vec<_> = (0..).zip([&[1, 2, 33][..], &[3, 64], &[4]]).map(row).collect();
    let own = BfrId::new(5);
    let given = Given {
        sub_domain: SubDomain(1),
        bsl,
        own,
        tables: 1,
        seed: 0,
        neighbours: &neighbours,
        rows: &rows,
    };
    Arc::new(build(&given).expect("the rows are sound").remove(0))
}

// The first byte: carriage, and which neighbour is down.
fuzz_target!(|input: &[u8]| {
    let Some((choice, packet)) = input.split_first() else { return };
    echo(packet);
    let carriage = if choice & 1 == 0 { Carriage::Mpls } else { Carriage::NonMpls };
    let Ok((key, view)) = View::of(packet, carriage, &BiftIds::Static) else { return };
    assert_eq!(header::len(key.bsl) + view.payload().len(), packet.len(), "all bytes are header or payload");
    assert_eq!(BiftIds::Static.id(key), Some(view.bift_id()));
    let Some(bift) = TABLES.iter().find(|bift| bift.key() == key) else { return };
    let mut words = vec![0; key.bsl.words()];
    view.load(&mut words);
    assert!(!bits::is_zero(&words), "empty bit strings are refused");
    let down = Down::new(bift.neighbours().len());
    if usize::from(choice >> 1) < bift.neighbours().len() {
        down.set(NeighbourIndex(u16::from(choice >> 1)), true);
    }
    let (ttl, entropy) = (view.ttl(), view.entropy());
    let walked = run(bift, Procedure::BitWalk, Packet { bits: &words, ttl, entropy }, &down);
    for procedure in [Procedure::NeighbourMajor, Procedure::Fastest] {
        assert_eq!(run(bift, procedure, Packet { bits: &words, ttl, entropy }, &down), walked);
    }
    match key.bsl.words() {
        1 => plain::<1>(bift, &view, &walked, &down),
        2 => plain::<2>(bift, &view, &walked, &down),
        4 => plain::<4>(bift, &view, &walked, &down),
        8 => plain::<8>(bift, &view, &walked, &down),
        16 => plain::<16>(bift, &view, &walked, &down),
        32 => plain::<32>(bift, &view, &walked, &down),
        _ => plain::<64>(bift, &view, &walked, &down),
    }
    let mut left = words.clone();
    for (neighbour, part) in &walked {
        assert!(part.iter().zip(&left).all(|(part, left)| part & !left == 0), "no bit is served twice");
        bits::and_not(&mut left, part);
        let Some(neighbour) = neighbour else { continue };
        if matches!(bift.neighbour(*neighbour).reach, Reach::Hosts(_)) {
            assert!(ttl > 0, "nobody is served with TTL 0");
            continue;
        }
        assert!(ttl > 1, "nothing is sent on with TTL 1");
        let mut copy = packet.to_vec();
        let id = bift.out(*neighbour).expect("whoever gets copies has a BIFT-id");
        let (fixed, string) = copy.split_first_chunk_mut().expect("a header is longer");
        Template::of(&view, carriage, ttl - 1).emit(id, carriage, fixed);
        bits::store(part, &mut string[..key.bsl.bytes()]);
        let sent = View::parse(&copy, carriage, key.bsl).expect("a copy is well-formed");
        assert_eq!((sent.bift_id(), sent.ttl(), sent.entropy()), (id, ttl - 1, entropy));
        assert_eq!((sent.tc(), sent.oam(), sent.dscp()), (view.tc(), view.oam(), view.dscp()));
        assert_eq!(
            (sent.proto(), sent.bfir_id(), sent.payload()),
            (view.proto(), view.bfir_id(), view.payload())
        );
    }
    assert!(ttl <= 1 || bits::is_zero(&left), "every bit is served");
});

/// A packet of which nothing but copies come, by the rows that workers go by: the same.
fn plain<const W: usize>(bift: &Bift, view: &View<'_>, walked: &Served, down: &Down) {
    let (bits, ttl, entropy) = (OnWire::<W>::of(view.bit_string()), view.ttl(), view.entropy());
    let rows = bift.plain(entropy).expect("as many words as the table's");
    if !down.is_empty() || !rows.takes(bits, ttl) {
        return;
    }
    let served = |copies: &mut dyn Iterator<Item = (&NextHop, &[u64; W])>| {
        let mut served: Served =
            copies.map(|(to, mask)| (Some(to.neighbour), bits.and(mask).words().to_vec())).collect();
        served.sort();
        served
    };
    assert_eq!(&served(&mut rows.copies(bits)), walked);
    assert_eq!(&served(&mut rows.walk(bift.table(entropy).rows(), bits.read())), walked);
    let mut string = view.bit_string().to_vec();
    let (_, mask) = rows.copies(bits).next().expect("bits that lead somewhere");
    clear_others(&mut string, mask);
    assert_eq!(OnWire::<W>::of(&string).read(), bits.and(mask));
}

type Served = Vec<(Option<NeighbourIndex>, Vec<u64>)>;

fn run(bift: &Bift, procedure: Procedure, packet: Packet<'_>, down: &Down) -> Served {
    let mut parts = Served::new();
    let outcome = bift.forward_by(procedure, packet, down, |part| {
        parts.push(match part {
            Part::Local => (None, BitString::of(bift.key().bsl, bift.local()).words().to_vec()),
            Part::Copy { neighbour, bits } => (Some(neighbour), bits.to_vec()),
            Part::Unroutable(bits) => (None, bits.to_vec()),
        });
    });
    assert!(!outcome.expired() || packet.ttl <= 1);
    parts.sort();
    parts
}

fn echo(bytes: &[u8]) {
    let salvaged = Echo::salvage(bytes);
    let Ok(echo) = Echo::parse(bytes) else { return };
    let head = Echo { tlvs: Vec::new(), ..echo.clone() };
    assert_eq!(salvaged, (echo.kind == Kind::Request).then_some(head), "its head is that of the whole");
    let written = echo.emit().expect("what was read has lengths that can be written");
    assert_eq!(Echo::parse(&written).as_ref(), Ok(&echo));
    assert!(written.len() <= bytes.len(), "nothing grows by being read");
    let key = TABLES[0].key();
    let arrival = Arrival {
        key,
        bits: &vec![1; key.bsl.words()],
        local: true,
        others: false,
        onward: false,
        carriage: Carriage::Mpls,
        addresses: &[[192, 0, 2, 1].into()],
    };
    let verdict = judge(&echo, &arrival);
    let pointer = verdict.and_then(|verdict| verdict.pointer).unwrap_or(0);
    assert!(pointer as usize <= bytes.len(), "what is wrong is in the message");
}

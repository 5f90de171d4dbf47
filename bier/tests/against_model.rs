//! Tables and forwarding against a model written from the RFCs alone: random domains, bit strings, entropies and TTLs.

mod common;
mod model;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::{Plan, Random, Shape, seed};
use millrace_bier::bift::{Bift, NeighbourIndex, Reach};
use millrace_bier::bift_id::BiftId;
use millrace_bier::bits::{self, BitString};
use millrace_bier::compute::{Computed, Options};
use millrace_bier::forward::{Down, Packet, Part, Procedure};
use millrace_bier::header::{self, Carriage, Header, Proto, Template, View};
use millrace_bier::id::{BfrId, BitPosition, Bsl, Si};
use millrace_bier::topology::RouterIndex;
use millrace_bier::wire::OnWire;

/// Few under Miri, which is to look at every line and not at every domain.
const CASES: usize = if cfg!(miri) { 5 } else { 60_000 };

fn network(plan: &Plan) -> model::Network {
    let index = |name: &str| name[1..].parse::<usize>().unwrap();
    let links = plan.links.iter().flat_map(|link| {
        let [one, other] = [index(&link.ends[0]), index(&link.ends[1])];
        [(one, other, u64::from(link.costs[0])), (other, one, u64::from(link.costs[1]))]
    });
    model::Network {
        speaks: plan.routers.iter().map(|router| router.speaks_bier).collect(),
        links: links.collect(),
    }
}

/// The bits of a set, by the RFC's arithmetic: each BFER's router.
fn members(plan: &Plan, si: u32) -> BTreeMap<u32, usize> {
    let bits = u32::from(plan.bsl.bits());
    let ids = plan
        .routers
        .iter()
        .enumerate()
        .filter_map(|(at, router)| Some((u32::from(router.bfr_id?.get()), at)));
    ids.filter(|(id, _)| (id - 1) / bits == si).map(|(id, at)| ((id - 1) % bits + 1, at)).collect()
}

fn numbers(words: &[u64]) -> model::Bits {
    bits::ones(words).map(|bit| u32::from(bit.number())).collect()
}

/// The copies of a packet that becomes nothing else, as workers make them.
fn plain<const W: usize>(bift: &Bift, packet: Packet<'_>) -> Option<Vec<(NeighbourIndex, model::Bits)>> {
    let mut bytes = vec![0; W * 8];
    bits::store(packet.bits, &mut bytes);
    let bits = OnWire::<W>::of(&bytes);
    let plain = bift.plain(packet.entropy).filter(|plain| plain.takes(bits, packet.ttl))?;
    Some(plain.copies(bits).map(|(to, mask)| (to.neighbour, numbers(&bits.and(mask).words()))).collect())
}

/// What the crate does, in the model's words.
fn done(
    computed: &Computed,
    bift: &Bift,
    procedure: Procedure,
    string: &BitString,
    ttl: u8,
    entropy: u32,
) -> model::Done {
    let mut done = model::Done::default();
    let packet = Packet { bits: string.words(), ttl, entropy };
    let outcome = bift.forward_by(procedure, packet, &Down::default(), |part| match part {
        Part::Local => done.delivered += 1,
        Part::Copy { neighbour, bits } => {
            let router = computed.router(neighbour).unwrap().0 as usize;
            done.copies.push((router, numbers(bits), ttl - 1));
        }
        Part::Unroutable(bits) => done.without_way.extend(numbers(bits)),
    });
    done.copies.sort();
    done.expired = outcome.expired();
    let plain = match packet.bits.len() {
        1 => plain::<1>(bift, packet),
        2 => plain::<2>(bift, packet),
        4 => plain::<4>(bift, packet),
        _ => plain::<16>(bift, packet),
    };
    if let Some(plain) = plain {
        let router = |neighbour| computed.router(neighbour).unwrap().0 as usize;
        let mut copies: Vec<_> = plain.into_iter().map(|(to, bits)| (router(to), bits, ttl - 1)).collect();
        copies.sort();
        assert_eq!((done.delivered, &done.without_way, done.expired), (0, &model::Bits::new(), false));
        assert_eq!(copies, done.copies);
    }
    done
}

fn string(random: &mut Random, bsl: Bsl, members: &BTreeMap<u32, usize>) -> BitString {
    let mut string = BitString::new(bsl);
    let share = 1 + random.below(4);
    for bit in members.keys() {
        if random.once_in(share) {
            string.set(BitPosition::new(*bit as u16, bsl).unwrap());
        }
    }
    // And of routers that there are not.
    for _ in 0..random.below(3) {
        string.set(BitPosition::new(1 + random.below(u64::from(bsl.bits())) as u16, bsl).unwrap());
    }
    string
}

#[test]
fn tables_and_forwarding_agree_with_the_model() {
    let seed = seed();
    let mut compared = 0;
    for case in 0..CASES {
        let mut random = Random(seed.wrapping_add(case as u64));
        let bsl = [Bsl::B64, Bsl::B64, Bsl::B64, Bsl::B128, Bsl::B256, Bsl::B1024][random.below(6) as usize];
        let shape = Shape { routers: (1, 11), plain: 5, gaps: 12, sets: 1 + random.below(3) };
        let plan = Plan::random(&mut random, bsl, shape);
        let domain = plan.domain();
        let network = network(&plan);
        let root = random.below(plan.routers.len() as u64) as usize;
        let options = Options { tables: 1 + random.below(16) as usize, seed: random.next() as u32 };
        let computed = Computed::new(&domain, RouterIndex(root as u32), options);
        let sets: Vec<u32> = (0..3).filter(|si| !members(&plan, *si).is_empty()).collect();
        if !network.speaks[root] || sets.is_empty() {
            assert!(
                computed.bifts().is_empty(),
                "case {case}: without BIER, or without BFERs, there are no tables"
            );
            continue;
        }
        let si = sets[random.below(sets.len() as u64) as usize];
        let bift =
            computed.bift(Si(si as u8)).unwrap_or_else(|| panic!("case {case}: set {si} has no table"));
        let members = members(&plan, si);
        let hops = network.next_hops(root);
        let entropy = random.below(1 << 20) as u32;

        // Every bit alone: its neighbour is one that the model allows, and all tables together use as many as they can.
        let mut chosen = BTreeMap::new();
        for (bit, router) in members.iter().filter(|(_, router)| **router != root) {
            let position = BitPosition::new(*bit as u16, bsl).unwrap();
            let alone =
                done(&computed, bift, Procedure::Fastest, &BitString::of(bsl, [position]), 9, entropy);
            if hops[*router].is_empty() {
                assert_eq!(alone.without_way, [*bit].into(), "case {case}: bit {bit} has no way");
                continue;
            }
            let [(neighbour, _, 8)] = alone.copies[..] else { panic!("case {case}: {alone:?}") };
            assert!(hops[*router].contains(&neighbour), "case {case}: bit {bit} goes to {neighbour}");
            chosen.insert(*bit, neighbour);
            let used: BTreeSet<_> =
                bift.tables().iter().map(|table| table.rows().neighbour_of(position)).collect();
            assert_eq!(used.len(), hops[*router].len().min(options.tables), "case {case}: bit {bit}");
        }

        // A string of them: copies as by the RFC's procedure on the RFC's table. Above all, they don't depend on each
        // other.
        let own = members.iter().find(|(_, router)| **router == root).map(|(bit, _)| *bit);
        let table = model::Table::new(own, &chosen);
        let string = string(&mut random, bsl, &members);
        let ttl = random.below(4) as u8;
        let mut expected = model::forward(&table, numbers(string.words()), ttl);
        expected.copies.sort();
        for procedure in [Procedure::BitWalk, Procedure::NeighbourMajor, Procedure::Fastest] {
            let found = done(&computed, bift, procedure, &string, ttl, entropy);
            assert_eq!(found, expected, "case {case}: {procedure:?}");
        }
        let wire = (random.below(1 << 20) as u32, ttl, entropy);
        check_wire(&string, bsl, wire, random.once_in(2));
        check_domain(&plan, &network, options, root, (si, &members, &string), entropy);
        compared += 1;
    }
    assert!(compared > CASES / 2, "{compared} of {CASES}");
    println!("{compared} domains, strings and entropies compared");
}

/// The same header, read by both.
fn check_wire(string: &BitString, bsl: Bsl, (bift_id, ttl, entropy): (u32, u8, u32), mpls: bool) {
    if bits::is_zero(string.words()) {
        return;
    }
    let carriage = if mpls { Carriage::Mpls } else { Carriage::NonMpls };
    let id = BiftId::new(bift_id).unwrap();
    let (proto, bfir_id) = (Proto::Ipv6, BfrId::new(515));
    let header = Header { carriage, bift_id: id, tc: 0, ttl, entropy, oam: 0, dscp: 0, proto, bfir_id };
    let mut packet = vec![0; header::len(bsl)];
    header.emit(bsl, string.words(), &mut packet).unwrap();
    let mut expected = model::Header {
        bift_id,
        ttl: u32::from(ttl),
        nibble: if mpls { 5 } else { 0 },
        version: 0,
        bsl: u32::from(bsl.bits()).ilog2() - 5,
        entropy,
        proto: 6,
        bfir_id: 515,
        bits: numbers(string.words()),
    };
    assert_eq!(model::read(&packet, u32::from(bsl.bits())), expected);
    let template = Template::of(&View::parse(&packet, carriage, bsl).unwrap(), carriage, ttl ^ 1);
    let lowest = BitString::of(bsl, bits::lowest(string.words()));
    let (fixed, string) = packet.split_first_chunk_mut().unwrap();
    template.emit(BiftId::new(bift_id ^ 0xf_0f0f).unwrap(), carriage, fixed);
    bits::store(lowest.words(), &mut string[..bsl.bytes()]);
    expected = model::Header {
        bift_id: bift_id ^ 0xf_0f0f,
        ttl: u32::from(ttl ^ 1),
        bits: numbers(lowest.words()),
        ..expected
    };
    assert_eq!(model::read(&packet, u32::from(bsl.bits())), expected);
}

/// From router to router, each with its own tables: every BFER that can be reached gets the packet once.
fn check_domain(
    plan: &Plan,
    network: &model::Network,
    options: Options,
    root: usize,
    (si, members, string): (u32, &BTreeMap<u32, usize>, &BitString),
    entropy: u32,
) {
    let domain = plan.domain();
    let distance = network.distances(root);
    let mut tables = BTreeMap::new();
    let mut delivered = BTreeMap::<usize, u32>::new();
    let mut queue = VecDeque::from([(root, string.clone(), 255)]);
    while let Some((router, string, ttl)) = queue.pop_front() {
        assert!(ttl > 200, "nothing goes in circles");
        let computed: &Computed = tables
            .entry(router)
            .or_insert_with(|| Computed::new(&domain, RouterIndex(router as u32), options));
        let bift = computed.bift(Si(si as u8)).expect("copies go to BFRs");
        let packet = Packet { bits: string.words(), ttl, entropy };
        let outcome = bift.forward(packet, &Down::default(), |part| match part {
            Part::Local => *delivered.entry(router).or_default() += 1,
            Part::Copy { neighbour, bits } => {
                let to = computed.router(neighbour).unwrap().0 as usize;
                let beside = network.links.iter().any(|(tail, head, _)| (*tail, *head) == (router, to));
                match &bift.neighbour(neighbour).reach {
                    Reach::Links(links) => assert!(beside && !links.is_empty()),
                    Reach::Tunnel => assert!(network.speaks.contains(&false)),
                    Reach::Hosts(_) => unreachable!("a topology has routers"),
                }
                queue.push_back((to, BitString::from_words(bits), ttl - 1));
            }
            Part::Unroutable(_) => assert_eq!(router, root, "who was a way on the way is one"),
        });
        assert!(!outcome.expired());
    }
    let wanted = numbers(string.words());
    let expected =
        members.iter().filter(|(bit, router)| wanted.contains(bit) && distance[**router].is_some());
    assert_eq!(delivered, expected.map(|(_, router)| (*router, 1)).collect());
}

//! Fast reroute in whole domains: any link or router fails, routers beside it raise their flags, nobody computes anything.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use common::{Plan, Random, Shape, seed};
use millrace_bier::bift::{Bift, LinkId, NeighbourIndex, Reach, Table};
use millrace_bier::bits::{self, BitString};
use millrace_bier::compute::{Computed, Options};
use millrace_bier::forward::{Down, Packet, Part};
use millrace_bier::frr::{Protection, protect};
use millrace_bier::id::{BitPosition, Bsl};
use millrace_bier::topology::{Domain, RouterIndex};

/// Few and small ones under Miri.
const DOMAINS: usize = if cfg!(miri) { 2 } else { 2_000 };
const ROUTERS: (u64, u64) = if cfg!(miri) { (4, 5) } else { (3, 12) };

#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    None,
    Link(LinkId),
    Node(RouterIndex),
}

impl Failure {
    fn hits(self, domain: &Domain, link: LinkId) -> bool {
        match self {
            Self::None => false,
            Self::Link(failed) => failed == link,
            Self::Node(failed) => domain.link(link).unwrap().ends.contains(&failed),
        }
    }
}

/// A router as it stands ready.
struct Station {
    computed: Computed,
    /// Of the one set that there is; routers without BIER have none.
    bift: Option<Arc<Bift>>,
}

impl Station {
    fn bift(&self) -> &Bift {
        self.bift.as_ref().expect("copies go to BFRs")
    }
}

/// A domain whose routers all have their tables.
struct Scene {
    domain: Domain,
    stations: Vec<Station>,
}

/// What came of a packet.
#[derive(Default)]
struct Seen {
    delivered: BTreeMap<RouterIndex, u32>,
    /// Copies over each link, by the router that they leave.
    copies: BTreeMap<(LinkId, RouterIndex), u32>,
    hops: usize,
}

impl Scene {
    fn new(domain: Domain, options: Options, protection: Protection) -> Self {
        let stations = (0..domain.routers().len() as u32).map(|at| {
            let computed = Computed::new(&domain, RouterIndex(at), options);
            let bift = protect(&domain, &computed, protection).into_iter().next();
            Station { computed, bift }
        });
        let stations = stations.collect();
        Self { domain, stations }
    }

    /// How many tables each router has.
    fn tables(&self) -> usize {
        let some = self.stations.iter().find_map(|station| station.bift.as_ref());
        some.expect("there is a BFER").tables().len()
    }

    /// The flags that a router raises: of neighbours that no link leads to, and of those behind tunnels that are gone.
    fn down(&self, router: RouterIndex, failure: Failure) -> Down {
        let Station { computed, .. } = &self.stations[router.0 as usize];
        let bift = self.stations[router.0 as usize].bift();
        let down = Down::new(bift.neighbours().len());
        for (at, neighbour) in (0..).map(NeighbourIndex).zip(bift.neighbours()) {
            let gone = match &neighbour.reach {
                Reach::Links(links) => links.iter().all(|link| failure.hits(&self.domain, *link)),
                Reach::Tunnel => computed.router(at).map(Failure::Node) == Some(failure),
                Reach::Repair(_) => false,
            };
            down.set(at, gone);
        }
        down
    }

    /// Sends a packet through the domain.
    fn send(&self, from: RouterIndex, string: &BitString, entropy: u32, failure: Failure) -> Seen {
        let mut seen = Seen::default();
        let mut queue = VecDeque::from([(from, string.clone(), 255_u8, 0)]);
        let bound = 3 * self.domain.routers().len();
        while let Some((router, string, ttl, hops)) = queue.pop_front() {
            assert!(hops <= bound, "{hops} hops among {} routers", self.domain.routers().len());
            seen.hops = seen.hops.max(hops);
            let Station { computed, .. } = &self.stations[router.0 as usize];
            let bift = self.stations[router.0 as usize].bift();
            let packet = Packet { bits: string.words(), ttl, entropy };
            let outcome = bift.forward(packet, &self.down(router, failure), |part| match part {
                Part::Local => *seen.delivered.entry(router).or_default() += 1,
                Part::Unroutable(_) => {}
                Part::Copy { neighbour, bits } => {
                    let way = match &bift.neighbour(neighbour).reach {
                        Reach::Links(_) => {
                            let up = |link| !failure.hits(&self.domain, link);
                            vec![
                                bift.neighbour(neighbour)
                                    .link(entropy, bift.seed(), up)
                                    .expect("it isn't down"),
                            ]
                        }
                        Reach::Repair(links) => links.to_vec(),
                        Reach::Tunnel => {
                            // Unicast finds its way, if there is one.
                            let end = computed.router(neighbour).unwrap();
                            if self.reachable(router, failure).contains(&end) {
                                queue.push_back((end, BitString::from_words(bits), ttl - 1, hops + 1));
                            }
                            return;
                        }
                    };
                    let mut at = router;
                    for link in &way {
                        *seen.copies.entry((*link, at)).or_default() += 1;
                        if failure.hits(&self.domain, *link) {
                            return;
                        }
                        let [one, other] = self.domain.link(*link).unwrap().ends;
                        at = if at == one { other } else { one };
                    }
                    if let Some(end) = computed.router(neighbour) {
                        assert_eq!(at, end);
                    }
                    queue.push_back((at, BitString::from_words(bits), ttl - 1, hops + way.len()));
                }
            });
            assert!(!outcome.expired());
        }
        seen
    }

    /// The routers that can be reached at all.
    fn reachable(&self, from: RouterIndex, failure: Failure) -> BTreeSet<RouterIndex> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(router) = open.pop() {
            if failure == Failure::Node(router) || !reached.insert(router) {
                continue;
            }
            for (at, link) in self.domain.links().iter().enumerate() {
                let ends = link.unwrap().ends;
                if !failure.hits(&self.domain, LinkId(at as u32)) && ends.contains(&router) {
                    open.extend(ends);
                }
            }
        }
        reached
    }
}

/// Random domains, senders, receivers and every single failure of a kind; tells what came of each, without and with it.
fn all_failures(
    protection: Protection,
    nodes: bool,
    plain: u64,
    mut check: impl FnMut(&Scene, Failure, &Seen, &Seen),
) {
    let seed = seed();
    for case in 0..DOMAINS {
        let mut random = Random(seed.wrapping_add(case as u64));
        let plan = Plan::random(&mut random, Bsl::B64, Shape { routers: ROUTERS, plain, gaps: 0, sets: 1 });
        let options = Options { tables: 1 + random.below(4) as usize, seed: 0 };
        let scene = Scene::new(plan.domain(), options, protection);
        let from = RouterIndex(random.below(plan.routers.len() as u64) as u32);
        let Some(bfers) = scene.domain.bfers().into_values().next() else { continue };
        if scene.domain.get(from).bier().is_none() {
            continue;
        }
        let share = 1 + random.below(2);
        let wanted: Vec<(BitPosition, RouterIndex)> =
            bfers.into_iter().filter(|_| random.once_in(share)).collect();
        let string = BitString::of(Bsl::B64, wanted.iter().map(|(bit, _)| *bit));
        let entropy = random.below(1 << 20) as u32;
        let before = scene.send(from, &string, entropy, Failure::None);
        assert_eq!(before.delivered, wanted.iter().map(|(_, router)| (*router, 1)).collect(), "case {case}");
        let failures: Vec<_> = if nodes {
            let all = (0..plan.routers.len() as u32).map(RouterIndex).filter(|router| *router != from);
            all.map(Failure::Node).collect()
        } else {
            (0..plan.links.len() as u32).map(|at| Failure::Link(LinkId(at))).collect()
        };
        for failure in failures {
            let after = scene.send(from, &string, entropy, failure);
            let reachable = scene.reachable(from, failure);
            let expected = wanted
                .iter()
                .filter(|(_, router)| reachable.contains(router))
                .map(|(_, router)| (*router, 1));
            assert_eq!(after.delivered, expected.collect(), "case {case}: {failure:?}");
            check(&scene, failure, &before, &after);
        }
    }
}

/// The most copies that a link carries more than before.
fn more(before: &Seen, after: &Seen) -> u32 {
    let more = |(link, copies): (&(LinkId, RouterIndex), &u32)| {
        copies - before.copies.get(link).unwrap_or(&0).min(copies)
    };
    after.copies.iter().map(more).max().unwrap_or(0)
}

#[test]
fn a_failed_link_costs_nobody_a_packet_and_no_link_more_copies_than_were_on_it() {
    let mut histogram = BTreeMap::<u32, u32>::new();
    all_failures(Protection::Link, false, 0, |scene, failure, before, after| {
        let Failure::Link(failed) = failure else { unreachable!("links fail") };
        let more = more(before, after);
        // One, unless equal paths had made two of the packet before it came there.
        let were: u32 =
            before.copies.iter().filter(|((link, _), _)| *link == failed).map(|(_, copies)| copies).sum();
        assert!(more <= were, "{failure:?} puts {more} more copies on a link, having carried {were}");
        assert!(scene.tables() > 1 || more <= 1, "without equal paths there is one copy");
        *histogram.entry(more).or_default() += 1;
    });
    println!("failures, by the most copies more on a link: {histogram:?}");
    let all: u32 = histogram.values().sum();
    assert!(histogram[&1] > all / 20, "links that matter have failed: {histogram:?}");
}

/// How many copies a router's rows for a failure add to or enlarge, in the worst of its tables.
fn branches(bift: &Bift, failing: NeighbourIndex) -> u32 {
    let of_table = |table: &Table| {
        let (rows, instead) = (table.rows(), table.on_failure(failing)?);
        let before: BTreeMap<_, _> = rows.iter().collect();
        Some(instead.iter().filter(|(neighbour, mask)| before.get(neighbour) != Some(mask)).count() as u32)
    };
    bift.tables().iter().filter_map(of_table).max().unwrap_or(0)
}

#[test]
fn a_failed_router_costs_only_its_own_packet_and_few_links_two_copies() {
    let mut histogram = BTreeMap::<u32, u32>::new();
    all_failures(Protection::Node, true, 0, |scene, failure, before, after| {
        let Failure::Node(failed) = failure else { unreachable!("routers fail") };
        let more = more(before, after);
        // Each copy that would have gone there becomes as many as its router has branches instead, and each of these goes
        // over a link twice at most: on its way to where it branches, and from there. Equal paths part and meet again.
        let gone = before
            .copies
            .iter()
            .filter(|((link, from), _)| *from != failed && failure.hits(&scene.domain, *link));
        let bound = gone.map(|((_, from), copies)| {
            let station = &scene.stations[from.0 as usize];
            copies * branches(station.bift(), station.computed.neighbour(failed).expect("it sent there"))
        });
        let bound = 2 * bound.sum::<u32>();
        assert!(scene.tables() > 1 || more <= bound, "{failure:?} puts {more} more copies on a link");
        *histogram.entry(more).or_default() += 1;
    });
    println!("failures, by the most copies more on a link: {histogram:?}");
    let all: u32 = histogram.values().sum();
    let beyond: u32 = histogram.range(2..).map(|(_, count)| count).sum();
    assert!(beyond * 10 < all, "branches seldom meet: {histogram:?}");
}

#[test]
fn protection_of_routers_protects_from_failed_links_too() {
    all_failures(Protection::Node, false, 0, |_, _, _, _| {});
}

#[test]
fn repairs_lead_past_and_through_routers_without_bier() {
    for (protection, nodes) in
        [(Protection::Link, false), (Protection::Node, false), (Protection::Node, true)]
    {
        all_failures(protection, nodes, 4, |_, _, _, _| {});
    }
}

#[test]
fn without_protection_packets_are_lost() {
    // The scene can tell: the same failures, with tables that nothing was prepared in.
    let mut random = Random(7);
    let plan = Plan::random(&mut random, Bsl::B64, Shape { routers: (8, 8), plain: 0, gaps: 0, sets: 1 });
    let domain = plan.domain();
    let computed = Computed::new(&domain, RouterIndex(0), Options::default());
    let bift = &computed.bifts()[0];
    let all = BitString::of(Bsl::B64, domain.bfers().into_values().flatten().map(|(bit, _)| bit));
    let (failing, mask) = bift.tables()[0].rows().iter().next().unwrap();
    let down = Down::new(bift.neighbours().len());
    down.set(failing, true);
    let mut lost = BitString::new(Bsl::B64);
    let packet = Packet { bits: all.words(), ttl: 9, entropy: 0 };
    let outcome = bift.forward(packet, &down, |part| match part {
        Part::Unroutable(bits) => bits::or(lost.words_mut(), bits),
        Part::Copy { neighbour, .. } => assert_ne!(neighbour, failing),
        Part::Local => {}
    });
    assert!(!outcome.expired());
    assert_eq!(lost.words(), mask);
}

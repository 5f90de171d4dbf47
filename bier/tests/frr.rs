//! Fast reroute in whole domains: any link or router fails, routers beside it raise their flags, nobody computes anything.
//!
//! Whatever fails, nobody gets a packet twice, nothing goes in circles, no link carries more than one copy more for each
//! that was stopped, and nobody whom a repair was prepared for goes without.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use common::{Plan, Random, Shape, seed};
use millrace_bier::bift::{Bift, LinkId, NeighbourIndex, Reach};
use millrace_bier::bits::{self, BitString};
use millrace_bier::compute::{Computed, Options};
use millrace_bier::forward::{Down, Packet, Part};
use millrace_bier::frr::{Protection, Repairs, protect};
use millrace_bier::id::{BfrId, BitPosition, Bsl, SubDomain};
use millrace_bier::topology::{Domain, LinkSpec, RouterIndex, RouterSpec};

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
    /// Bits that a router had no way for.
    unroutable: BTreeSet<BitPosition>,
    /// Copies that would have gone over what has failed, whether or not they found another way.
    stopped: u32,
    /// The routers where that was.
    stoppers: BTreeSet<RouterIndex>,
    /// Copies to routers further away that stand in.
    remote: u32,
}

impl Scene {
    fn new(domain: Domain, options: Options, repairs: Repairs) -> Self {
        let stations = (0..domain.routers().len() as u32).map(|at| {
            let computed = Computed::new(&domain, RouterIndex(at), options);
            let bift = protect(&domain, &computed, repairs, |link| link.0).into_iter().next();
            Station { computed, bift }
        });
        let stations = stations.collect();
        Self { domain, stations }
    }

    /// The same, with tables that nothing was prepared in.
    fn without_repairs(mut self) -> Self {
        for station in &mut self.stations {
            station.bift = station.computed.bifts().first().cloned();
        }
        self
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
                Reach::Links(links) => {
                    !links.is_empty() && links.iter().all(|link| failure.hits(&self.domain, *link))
                }
                Reach::Tunnel => computed.router(at).map(Failure::Node) == Some(failure),
                Reach::Hosts(_) => unreachable!("a topology has routers"),
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
            let Station { computed, .. } = &self.stations[router.0 as usize];
            let bift = self.stations[router.0 as usize].bift();
            let packet = Packet { bits: string.words(), ttl, entropy };
            let down = self.down(router, failure);
            let outcome = bift.forward(packet, &Down::default(), |part| {
                let Part::Copy { neighbour, .. } = part else { return };
                let link = bift.neighbour(neighbour).link(entropy, bift.seed(), |_| true);
                let is_hit = link.is_some_and(|link| failure.hits(&self.domain, link));
                if down.is_down(neighbour) || is_hit {
                    seen.stopped += 1;
                    seen.stoppers.insert(router);
                }
            });
            assert!(!outcome.expired());
            let outcome = bift.forward(packet, &down, |part| match part {
                Part::Local => *seen.delivered.entry(router).or_default() += 1,
                Part::Unroutable(bits) => seen.unroutable.extend(bits::ones(bits)),
                Part::Copy { neighbour, bits } => {
                    let to = match &bift.neighbour(neighbour).reach {
                        Reach::Hosts(_) => unreachable!("a topology has routers"),
                        Reach::Links(_) => {
                            let up = |link| !failure.hits(&self.domain, link);
                            let link = bift.neighbour(neighbour).link(entropy, bift.seed(), up);
                            let link = link.expect("it isn't down");
                            *seen.copies.entry((link, router)).or_default() += 1;
                            let [one, other] = self.domain.link(link).unwrap().ends;
                            if router == one { other } else { one }
                        }
                        Reach::Tunnel if computed.router(neighbour).is_none() => {
                            // One that stands in: unicast goes as before what has failed is known, and has to arrive.
                            let end = self.of_prefix(bift.neighbour(neighbour).prefix);
                            for (link, from) in self.unicast(router, end, entropy) {
                                assert!(
                                    !failure.hits(&self.domain, link),
                                    "the tunnel goes over what has failed"
                                );
                                *seen.copies.entry((link, from)).or_default() += 1;
                            }
                            seen.remote += 1;
                            end
                        }
                        Reach::Tunnel => {
                            // Unicast finds its way, if there is one.
                            let end = computed.router(neighbour).unwrap();
                            if !self.reachable(router, failure).contains(&end) {
                                return;
                            }
                            end
                        }
                    };
                    queue.push_back((to, BitString::from_words(bits), ttl - 1, hops + 1));
                }
            });
            assert!(!outcome.expired());
        }
        seen
    }

    fn of_prefix(&self, prefix: IpAddr) -> RouterIndex {
        let at = self.domain.routers().iter().position(|router| router.bier() == Some(prefix));
        RouterIndex(at.unwrap() as u32)
    }

    /// The links of one of the shortest ways, each with the router that it leaves.
    fn unicast(&self, from: RouterIndex, to: RouterIndex, choice: u32) -> Vec<(LinkId, RouterIndex)> {
        // By relaxing every link as often as there are routers.
        let routers = self.domain.routers().len();
        let mut far = vec![u64::MAX; routers];
        far[to.0 as usize] = 0;
        let steps = |router: RouterIndex| {
            let links = (0..).map(LinkId).zip(self.domain.links());
            links.filter_map(move |(id, link)| {
                let link = link.as_ref()?;
                let at = link.ends.iter().position(|end| *end == router)?;
                Some((id, link.ends[1 - at], u64::from(link.costs?[at])))
            })
        };
        for _ in 0..routers {
            for router in (0..routers as u32).map(RouterIndex) {
                let best = steps(router).map(|(_, other, cost)| far[other.0 as usize].saturating_add(cost));
                far[router.0 as usize] = best.chain([far[router.0 as usize]]).min().unwrap();
            }
        }
        let mut way = Vec::new();
        let mut at = from;
        while at != to {
            let tight: Vec<_> = steps(at)
                .filter(|(_, other, cost)| far[other.0 as usize].saturating_add(*cost) == far[at.0 as usize])
                .collect();
            let (link, next, _) = tight[choice as usize % tight.len()];
            way.push((link, at));
            at = next;
        }
        way
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

/// What repairs do in one of the cases.
#[derive(Default)]
struct Tally {
    /// Receivers that lost their way and could have been reached by another.
    hit: u32,
    /// Those of them that got the packet.
    repaired: u32,
    /// Failures, by the most copies that a link carries more than before.
    more: BTreeMap<u32, u32>,
    /// Copies to routers further away that stand in.
    remote: u32,
}

/// Random domains, senders, receivers and every single failure of a kind. `plain`: one in so many routers has no BIER.
fn all_failures(repairs: impl Into<Repairs>, nodes: bool, plain: u64) -> Tally {
    let repairs = repairs.into();
    let seed = seed();
    let mut tally = Tally::default();
    for case in 0..DOMAINS {
        let mut random = Random(seed.wrapping_add(case as u64));
        let plan = Plan::random(&mut random, Bsl::B64, Shape { routers: ROUTERS, plain, gaps: 0, sets: 1 });
        let options = Options { tables: 1 + random.below(4) as usize, seed: 0 };
        let scene = Scene::new(plan.domain(), options, repairs);
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
        let bare = Scene::new(plan.domain(), options, repairs).without_repairs();
        for failure in failures {
            let after = scene.send(from, &string, entropy, failure);
            let reachable = scene.reachable(from, failure);
            let unrepaired = bare.send(from, &string, entropy, failure);
            for (bit, router) in wanted.iter().filter(|(_, router)| reachable.contains(router)) {
                let got = after.delivered.get(router).copied().unwrap_or(0);
                let had = unrepaired.delivered.contains_key(router);
                assert!(got <= 1, "case {case}: {failure:?} gives {router:?} {got} packets");
                // Nobody is lost without being counted, and nobody by a repair.
                assert!(
                    got == 1 || !had && after.unroutable.contains(bit),
                    "case {case}: {failure:?}, {router:?}"
                );
                tally.hit += u32::from(!had);
                tally.repaired += u32::from(!had && got == 1);
            }
            let unreachable = after.delivered.keys().find(|router| !reachable.contains(router));
            assert_eq!(unreachable, None, "case {case}: {failure:?}");
            let more = more(&before, &after);
            assert!(more <= after.stopped, "case {case}: {failure:?}: {more} for {}", after.stopped);
            // A tunnel may share a link with what another router does about what it has stopped; and where a router fails, several
            // beside it may stop something, and don't know of each other: each makes one copy more at most.
            let most = if nodes { after.stoppers.len() as u32 } else { 1 };
            let is_alone = scene.tables() > 1 || more <= most || after.remote > 0;
            assert!(is_alone, "case {case}: {failure:?}: without equal paths, {most}");
            tally.remote += after.remote;
            if after.stopped > 0 {
                *tally.more.entry(more).or_default() += 1;
            }
        }
    }
    let share = f64::from(tally.repaired) * 100.0 / f64::from(tally.hit);
    println!("{repairs:?}, {nodes}: {share:.1} % of {} receivers repaired", tally.hit);
    println!("failures that stopped a copy, by the most copies more on a link: {:?}", tally.more);
    tally
}

/// The most copies that a link carries more than before.
fn more(before: &Seen, after: &Seen) -> u32 {
    let more = |(link, copies): (&(LinkId, RouterIndex), &u32)| {
        copies - before.copies.get(link).unwrap_or(&0).min(copies)
    };
    after.copies.iter().map(more).max().unwrap_or(0)
}

#[test]
fn protection_of_links_when_links_fail() {
    let tally = all_failures(Protection::Link, false, 0);
    assert!(tally.repaired * 100 > tally.hit * 55, "{} of {}", tally.repaired, tally.hit);
}

#[test]
fn protection_of_routers_when_routers_fail() {
    let tally = all_failures(Protection::Node, true, 0);
    assert!(tally.repaired * 100 > tally.hit * 55, "{} of {}", tally.repaired, tally.hit);
}

/// Whoever sees a port go down can't tell which of the two has failed behind it.
#[test]
fn protection_of_one_kind_when_the_other_fails() {
    all_failures(Protection::Node, false, 0);
    all_failures(Protection::Link, true, 0);
}

#[test]
fn routers_without_bier_are_passed() {
    for (protection, nodes) in
        [(Protection::Link, false), (Protection::Node, false), (Protection::Node, true)]
    {
        all_failures(protection, nodes, 4);
    }
}

/// Where no neighbour can take over routers further away do: more are repaired, and all that holds for neighbours holds.
#[test]
fn routers_further_away_stand_in_where_no_neighbour_can() {
    for (protection, nodes, plain) in [
        (Protection::Link, false, 0),
        (Protection::Node, true, 0),
        (Protection::Node, false, 0),
        (Protection::Link, true, 0),
        (Protection::Link, false, 4),
        (Protection::Node, true, 4),
    ] {
        let near = all_failures(protection, nodes, plain);
        let far = all_failures(Repairs { protection, remote: true }, nodes, plain);
        assert_eq!((near.hit, near.remote), (far.hit, 0));
        if !cfg!(miri) {
            assert!(far.remote > 0 && far.repaired > near.repaired, "{} and {}", near.repaired, far.repaired);
        }
    }
}

/// A ring of six with equal costs: to the router behind the next one nobody beside us leads, save over it; the one after next the
/// other way does.
#[test]
fn a_ring_needs_a_router_further_away() {
    let router = |id: u16| RouterSpec {
        prefix: Some([192, 0, 2, id as u8].into()),
        bfr_id: BfrId::new(id),
        bsls: vec![Bsl::B64],
        ..RouterSpec::bier(&format!("r{id}"))
    };
    let routers: Vec<_> = (1..=6).map(router).collect();
    let name = |at: usize| format!("r{}", at % 6 + 1);
    let links: Vec<_> = (0..6).map(|at| LinkSpec::new(&name(at), &name(at + 1), 10)).collect();
    let (domain, found) = Domain::new(SubDomain(0), Bsl::B64, &routers, &links);
    assert_eq!(found, []);
    let computed = Computed::new(&domain, domain.router("r1").unwrap(), Options::default());
    let next = computed.neighbour(domain.router("r2").unwrap()).unwrap();
    let lost = |remote| {
        let repairs = Repairs { protection: Protection::Node, remote };
        let bift = protect(&domain, &computed, repairs, |link| link.0).remove(0);
        let ids: Vec<_> = bift.unprotected(next).ones().map(|bit| bit.number()).collect();
        let instead = bift.tables()[0].on_failure(next).unwrap().clone();
        let ways = instead.iter().map(|(one, mask)| {
            let to = bift.neighbour(one);
            let ids: Vec<_> = bits::ones(mask).map(|bit| bit.number()).collect();
            (to.prefix, to.reach == Reach::Tunnel, ids)
        });
        (ids, ways.collect::<Vec<_>>())
    };
    let prefix = |id: u8| IpAddr::from([192, 0, 2, id]);
    let (ids, ways) = lost(false);
    assert!(ids.contains(&2) && ids.contains(&3), "{ids:?} {ways:?}");
    let (ids, ways) = lost(true);
    assert_eq!(ids, [2], "the router itself, which may be what has failed");
    // All of them by one tunnel: a copy to router 4 by the neighbour would go over the same links.
    assert_eq!(ways, [(prefix(6), false, vec![5, 6]), (prefix(5), true, vec![3, 4])]);
}

/// In domains of a thousand routers: how little is done for each neighbour that could fail, by what is allocated for it beside
/// what the tables take.
#[test]
fn failures_of_a_large_domain_cost_little() {
    const ROUTERS: u64 = 1000;
    let mut random = Random(seed());
    let shape = Shape { routers: (ROUTERS, ROUTERS), plain: 0, gaps: 0, sets: 4 };
    let plan = Plan::random(&mut random, Bsl::B256, shape);
    // In a ring, who stands in is far away indeed.
    let name = |at: u64| format!("r{}", at % ROUTERS);
    let ring: Vec<_> = (0..ROUTERS).map(|at| LinkSpec::new(&name(at), &name(at + 1), 10)).collect();
    let ring = Plan { links: ring, bsl: plan.bsl, routers: plan.routers.clone() };
    // And of a star's centre everybody is a neighbour, whom nobody could stand in for.
    let star: Vec<_> = (1..ROUTERS).map(|at| LinkSpec::new(&name(0), &name(at), 10)).collect();
    let star = Plan { links: star, bsl: plan.bsl, routers: plan.routers.clone() };
    let options = Options { tables: 4, seed: 1 };
    for (what, domain) in [("random", plan.domain()), ("ring", ring.domain()), ("star", star.domain())] {
        for root in (0..4).map(RouterIndex) {
            let allocated = |work: &dyn Fn()| {
                let found = allocation_counter::measure(work);
                (found.count_total, found.bytes_total)
            };
            let computed = Computed::new(&domain, root, options);
            let tables = allocated(&|| _ = Computed::new(&domain, root, options));
            let neighbours = computed.neighbours().len() as u64;
            for remote in [false, true] {
                let repairs = Repairs { protection: Protection::Node, remote };
                let rows = allocated(&|| _ = protect(&domain, &computed, repairs, |link| link.0));
                println!("{what}, {neighbours} neighbours, {remote}: {rows:?}, the tables {tables:?}");
                assert!(rows.0 < neighbours * tables.0, "as often as for tables, for each");
                assert!(rows.1 < neighbours * tables.1 * 4, "four times the bytes");
            }
        }
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

/// What is reached over one port fails together, and nobody of it stands in for another.
#[test]
fn neighbours_on_one_port_fail_together() {
    // s is beside a, b and c, which are all beside each other; d is behind a, e behind b.
    let router = |name: &str, id| RouterSpec {
        prefix: Some([192, 0, 2, id as u8].into()),
        bfr_id: BfrId::new(id),
        bsls: vec![Bsl::B64],
        ..RouterSpec::bier(name)
    };
    let routers: Vec<_> =
        (1..).zip(["c", "d", "e", "a", "b", "s"]).map(|(id, name)| router(name, id)).collect();
    let pairs = [("s", "a"), ("s", "b"), ("s", "c"), ("a", "d"), ("b", "e"), ("a", "c"), ("b", "c")];
    let links: Vec<_> = pairs.iter().map(|(one, other)| LinkSpec::new(one, other, 10)).collect();
    let (domain, found) = Domain::new(SubDomain(0), Bsl::B64, &routers, &links);
    assert_eq!(found, []);
    let root = domain.router("s").unwrap();
    let computed = Computed::new(&domain, root, Options::default());
    let neighbour = |name| computed.neighbour(domain.router(name).unwrap()).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(neighbour);
    for (port_of_b, bits_of_b) in [(0, vec![]), (1, vec![3, 5])] {
        let port = |link: LinkId| if link.0 == 1 { port_of_b } else { link.0.min(2) };
        let bift = protect(&domain, &computed, Protection::Link, port).remove(0);
        let instead = bift.tables()[0].on_failure(a).unwrap();
        let ids = |neighbour| {
            let mask = instead.iter().find(|(one, _)| *one == neighbour).map(|(_, mask)| mask.to_vec());
            bits::ones(&mask.unwrap_or_default()).map(|bit| bit.number()).collect::<Vec<_>>()
        };
        assert_eq!((ids(a), ids(b)), (vec![], bits_of_b.clone()));
        let of_c = if port_of_b == 0 { vec![1, 2, 3, 4, 5] } else { vec![1, 2, 4] };
        assert_eq!(ids(c), of_c);
        assert!(bits::is_zero(bift.unprotected(a).words()));
    }
    let bare = computed.bifts()[0].unprotected(a);
    assert_eq!(bare.ones().map(|bit| bit.number()).collect::<Vec<_>>(), [2, 4]);
}

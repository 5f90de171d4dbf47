//! What must hold at each step, and what when all is over.
//!
//! | file | idea |
//! |---|---|
//! | `passing` | what came in, and what left: nothing twice, nothing changed, nothing too early |
//! | `flows` | where a flow begins, and that it stays there |
//! | `notices` | what the orchestrator is told, and how often |
//! | `health` | who is left out, and what disturbs nobody |

mod flows;
mod health;
mod notices;
mod passing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::queue::PARCELS_MAX;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::InterfaceId;

use crate::appliance::{FRAMES, LAN};
use crate::services::Facts;
use crate::wire::End;
use crate::world::World;
use flows::{Begun, FlowId, Owner, Split};
use health::Health;
use notices::Notices;

/// What the checks remember.
#[derive(Default)]
pub(crate) struct Checks {
    /// How often bytes for an end came in, and how often they left.
    carried: HashMap<(bool, u64), (u32, u32)>,
    /// The same for packets that are carried whole.
    whole: HashMap<u64, (u32, u32)>,
    /// Frames that can't be read, in and out.
    broken: (u32, u32),
    /// What clients began.
    begun: HashMap<FlowId, Begun>,
    /// Datagrams that clients cut in pieces, by their identification.
    split: HashMap<u32, Split>,
    /// The numbers that servers begin with.
    first: HashSet<u32>,
    /// Which instances have flows of a client, or of the appliance's port for it.
    owners: BTreeMap<(End, u8), Vec<Owner>>,
    restarts: u64,
    /// Prefixes of whoever sent something, and when they did last.
    prefixes: BTreeMap<u64, u64>,
    /// Since when the tables have the neighbour at a station's address.
    neighbours: BTreeMap<IpAddr, u64>,
    /// Since when services aren't in the configuration, by family (`true` for IPv4).
    absent: BTreeMap<(usize, bool), u64>,
    /// Whom the first pieces of answers came from, and when they left, by their identification.
    answered: HashMap<(u32, IpAddr), (IpAddr, Nanos)>,
    /// When pieces of answers came in, by identification and offset.
    answering: HashMap<(u32, usize), Nanos>,
    /// The most that may have been held for each service, and for each prefix, since the appliance started.
    holds_max: BTreeMap<usize, u32>,
    prefix_max: u32,
    allowance: Allowance,
    notices: Notices,
    pub(crate) health: Health,
    pub(crate) counts: Counts,
}

/// Wakes that each worker may have begun, and those that it has.
#[derive(Clone, Debug, Default)]
struct Allowance {
    wakes: Vec<f64>,
    begun: Vec<u64>,
    counted_ms: u64,
    /// Of the configuration before, which workers go by until they take the next one up.
    before: f64,
    until_ms: u64,
}

macro_rules! counts {
    ($($name:ident)*) => {
        /// That the world isn't empty.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: u64,)*
        }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Whatever the simulation is there for has happened.
            pub(crate) fn check(&self) {
                $(assert!(self.$name > 0, "nothing was {} ever: {self:?}", stringify!($name));)*
            }
        }
    };
}

counts! {
    steps served refused late
    noticed arrived handed_over held expired spliced evicted limited
    carried_l2 carried_ipip carried_gue pieces gathered moved
    downed ejected reloaded outlived
}

pub(crate) fn service_of(services: &[Facts], addr: IpAddr) -> Option<usize> {
    services.iter().position(|service| service.is_at(addr))
}

impl World {
    /// The appliance has begun, or has another configuration.
    pub(crate) fn note_configuration(&mut self) {
        let limits = self.scenario.limits();
        let (now, now_ms) = (self.now, self.now_ms());
        let checks = &mut self.checks;
        checks.prefix_max = checks.prefix_max.max(limits.holds_per_prefix);
        for (at, facts) in self.scenario.services().iter().enumerate() {
            let most = checks.holds_max.entry(at).or_default();
            *most = facts.hold_packets.max(*most);
            if !facts.present {
                checks.health.removed.insert(at, now);
            }
            for v4 in [true, false] {
                if facts.present && (v4 || !facts.without_v6) {
                    checks.absent.remove(&(at, v4));
                } else {
                    checks.absent.entry((at, v4)).or_insert(now_ms);
                }
            }
        }
    }

    /// Workers may have begun more wakes by now.
    pub(crate) fn note_allowance(&mut self) {
        let (now_ms, limit) = (self.now_ms(), self.scenario.limits().wakes);
        let workers = self.scenario.workers;
        let allowance = &mut self.checks.allowance;
        if allowance.counted_ms == 0 {
            let (wakes, begun) = (vec![limit.burst; workers], vec![0; workers]);
            *allowance = Allowance { wakes, begun, counted_ms: now_ms, ..Allowance::default() };
        }
        let known = now_ms >= allowance.until_ms;
        let rate = if known { limit.per_second } else { limit.per_second.max(allowance.before) };
        let more = rate * (now_ms - allowance.counted_ms) as f64 / 1e3;
        allowance.wakes.iter_mut().for_each(|wakes| *wakes += more);
        allowance.counted_ms = now_ms;
    }

    /// Each worker has its share of wakes, and those back that nobody was told of.
    fn check_allowance(&mut self) {
        self.note_allowance();
        let allowance = &self.checks.allowance;
        let workers = self.appliance.shared.workers.iter();
        for ((worker, begun), wakes) in workers.zip(&allowance.begun).zip(&allowance.wakes) {
            let lost = worker.counters.fates.events_lost.get();
            let allowed = wakes + (worker.wakes_returned.get() + lost) as f64;
            // Time is counted in whole milliseconds here.
            assert!(*begun as f64 <= allowed + 0.1, "{begun} wakes of {allowed}");
        }
    }

    /// Another limit holds as soon as the workers know it.
    pub(crate) fn note_other_limit(&mut self, before: f64) {
        let until_ms = self.now_ms() + STALL_MS_MAX;
        let burst = self.scenario.limits().wakes.burst;
        let allowance = &mut self.checks.allowance;
        // A worker counts when it wakes: what it wasn't asked for until then it may have by the new limit, up to the burst.
        for (wakes, begun) in allowance.wakes.iter_mut().zip(&allowance.begun) {
            *wakes = wakes.max(*begun as f64 + burst);
        }
        (allowance.before, allowance.until_ms) = (before, until_ms);
    }

    /// After a turn of the control loop.
    pub(crate) fn note_neighbours(&mut self) {
        let now_ms = self.now_ms();
        let tables = self.appliance.shared.tables();
        for addr in self.stations.iter().flat_map(|station| station.addresses) {
            if tables.neighbours.get(InterfaceId(LAN.0), Addr::from(addr)).is_some() {
                self.checks.neighbours.entry(addr).or_insert(now_ms);
            } else {
                self.checks.neighbours.remove(&addr);
            }
        }
    }

    /// Between two polls.
    pub(crate) fn check_worker(&self, worker: usize) {
        let fates = self.appliance.fates(worker);
        fates.check().unwrap_or_else(|violation| panic!("worker {worker}: {violation:?}: {fates:#?}"));
        let recent = self.now_ms().saturating_sub(HELD_MS_MAX);
        let prefixes = self.checks.prefixes.values().filter(|seen| **seen >= recent).count() as u64;
        let bound = (prefixes * u64::from(self.checks.prefix_max)).min(self.scenario.holds as u64);
        assert!(fates.still_held <= bound, "worker {worker} holds {} of {bound}", fates.still_held);
        assert_eq!(
            fates.released + fates.expired,
            fates.release_sent + fates.release_punted + fates.release_dropped,
            "what left a hold of worker {worker} went somewhere: {fates:#?}"
        );
        let counters = &self.appliance.shared.workers[worker].counters;
        for (at, facts) in self.scenario.services().iter().enumerate() {
            let Some(id) = self.appliance.ids[at] else { continue };
            let holds = counters.service(id).holds.get();
            let share = self.checks.holds_max[&at].div_ceil(self.scenario.workers as u32);
            assert!(holds <= u64::from(share), "worker {worker} holds {holds} for {}", facts.name);
        }
    }

    /// After each step.
    pub(crate) fn check_step(&mut self) {
        self.check_allowance();
        let appliance = &self.appliance;
        let fates = appliance.sum();
        assert!(fates.handed_out >= fates.handed_in, "more came out of the rings than went in");
        for worker in &appliance.shared.workers {
            let queues = &worker.queues;
            let injects = queues.injects.len() + queues.injects_empty.len();
            assert_eq!(injects, PARCELS_MAX, "parcels to the workers go round");
            assert!(queues.punts.len() + queues.punts_empty.len() <= PARCELS_MAX);
        }
        self.checks.counts.steps += 1;
    }

    /// The appliance ends here, with what it has done so far.
    pub(crate) fn close_books(&mut self) {
        let sum = self.appliance.sum();
        let counts = &mut self.checks.counts;
        counts.handed_over += sum.handed_out;
        counts.held += sum.held;
        counts.expired += sum.expired;
        let fates = || self.appliance.shared.workers.iter().map(|worker| &worker.counters.fates);
        counts.evicted += fates().map(|fates| fates.flows_evicted.get()).sum::<u64>();
        counts.moved += fates().map(|fates| fates.flows_by_id.get()).sum::<u64>();
        counts.limited += fates().map(|fates| fates.wakes_limited.get()).sum::<u64>();
        let checks = &mut self.checks;
        checks.restarts += 1;
        checks.neighbours.clear();
        checks.notices = Notices::default();
        checks.allowance = Allowance::default();
        checks.health.restart();
        (checks.prefix_max, checks.holds_max) = (0, BTreeMap::new());
    }

    /// Whether all has come to rest as it should; what hasn't, for who asks why.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let appliance = &self.appliance;
        let sum = appliance.sum();
        if sum.still_held > 0 {
            return Some(format!("{} packets are still held", sum.still_held));
        }
        if sum.handed_in != sum.handed_out {
            return Some("the rings aren't empty".to_owned());
        }
        for (at, facts) in self.scenario.services().iter().enumerate() {
            let Some(id) = appliance.ids[at] else { return Some(format!("{} isn't there", facts.name)) };
            let (phase, _) = appliance.shared.slots.get(id).load();
            if !matches!(phase, Phase::Cold | Phase::Ready) {
                return Some(format!("{} is in phase {phase:?}", facts.name));
            }
        }
        let Some(engine) = &self.plane.engine else { return Some("no orchestrator".to_owned()) };
        let ours = Some((engine.view().generation(), engine.view().digest()));
        let theirs = appliance.task.queues().applied;
        if ours != theirs {
            return Some(format!("the orchestrator's placement is {ours:?}, the appliance's {theirs:?}"));
        }
        for worker in &appliance.shared.workers {
            let queues = &worker.queues;
            if queues.punts.len() + queues.punts_empty.len() != PARCELS_MAX {
                return Some("packets wait for neighbours".to_owned());
            }
        }
        if appliance.net.free_frames() != FRAMES {
            return Some(format!("{} of {FRAMES} frames are back", appliance.net.free_frames()));
        }
        None
    }
}

/// Longer than a worker may stand still.
const STALL_MS_MAX: u64 = 200;
/// Longer than a packet is held: the longest deadline, what it takes to repeat a SYN, and a worker that stands still.
const HELD_MS_MAX: u64 = 2500 + 1200 + STALL_MS_MAX;

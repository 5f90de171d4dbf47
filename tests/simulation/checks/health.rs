//! Who is left out, and who isn't; and that what disturbs nobody disturbs nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::node::{NodeId, host};
use millrace_fastpath::tables::services::{Instance, InstanceState};

use crate::client::{Kind, Outcome, Wish};
use crate::wire::End;
use crate::world::{MS, World};

/// What was noted after each turn of the control loop.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Since when nobody can reach a station's servers.
    lame: BTreeMap<usize, Nanos>,
    /// Since when the tables have an instance that is probed: service, address, port.
    probed: BTreeMap<(usize, u128, u16), Nanos>,
    /// Frames for the appliance itself that were lost: then a probe that runs out of time says nothing.
    losses: u64,
    /// Stations with which something was wrong ever; and whether frames may have got lost ever, so that it is all of them.
    pub(crate) troubled: BTreeSet<usize>,
    pub(crate) lossy: bool,
    /// When a port last didn't take all that was sent.
    pub(super) limited_ms: u64,
    /// When something last happened that may end a connection.
    rough: Nanos,
    /// The orchestrator has lost sight of something ever, and may put another instance in its place.
    pub(crate) shaken: bool,
    /// When services were taken out of the configuration last.
    pub(super) removed: BTreeMap<usize, Nanos>,
    /// When the last reload was.
    reloaded: Nanos,
}

impl Health {
    pub(super) fn reloaded_ms(&self) -> u64 {
        self.reloaded.0 / MS
    }

    /// The appliance begins anew, and knows nothing.
    pub(super) fn restart(&mut self) {
        self.probed.clear();
        self.lossy = true;
    }
}

impl World {
    /// Something happens that may end connections, at once or by what the orchestrator makes of it.
    pub(crate) fn note_fault(&mut self) {
        self.note_rough();
        self.checks.health.shaken = true;
    }

    /// Something happens that may end connections.
    pub(crate) fn note_rough(&mut self) {
        self.checks.health.rough = self.now;
    }

    pub(crate) fn note_reload(&mut self) {
        self.checks.health.reloaded = self.now;
        self.checks.counts.reloaded += 1;
    }

    /// What is wrong now. `turned`: the control loop has had its turn.
    pub(crate) fn note_health(&mut self, turned: bool) {
        let weather = self.weather;
        let workers = self.appliance.shared.workers.iter();
        let full = host::Drop::QueueFull as usize;
        let losses: u64 = workers.map(|worker| worker.counters.node(NodeId::Host).drops[full].get()).sum();
        let health = &mut self.checks.health;
        // As long as the loop doesn't turn nobody finds out anything, nor where answers are lost.
        let blind = !turned || health.losses != losses;
        health.losses = losses;
        health.lossy |= weather.loss > 0 || self.ports_limited;
        if self.ports_limited {
            health.limited_ms = self.now.0 / MS;
        }
        let mut rough = weather.loss > 0 || self.ports_limited || self.plane.engine.is_none();
        for (at, station) in self.stations.iter().enumerate() {
            let lame = !station.up || station.cut || station.refuses;
            if lame {
                let since = health.lame.entry(at).or_insert(self.now);
                if blind {
                    *since = self.now;
                }
                health.troubled.insert(at);
            } else {
                health.lame.remove(&at);
            }
            rough |= lame || station.silent;
        }
        if rough {
            health.rough = self.now;
        }
        if turned {
            self.note_probed();
        }
    }

    fn note_probed(&mut self) {
        let tables = self.appliance.shared.tables();
        let mut probed = BTreeMap::new();
        for (at, facts) in self.scenario.services().iter().enumerate() {
            let (Some(health), Some(id)) = (facts.health, self.appliance.ids[at]) else { continue };
            let Some(entry) = tables.services.get(id) else { continue };
            for one in &entry.instances {
                if one.down != [false; 2] {
                    self.checks.counts.downed += u64::from(health.probed);
                    self.checks.counts.ejected += u64::from(!health.probed);
                    if !health.probed {
                        self.check_ejected(one);
                    }
                }
                let is_probed = health.probed && (one.fixed || one.state != InstanceState::Starting);
                for addr in one.addresses.iter().flatten().filter(|_| is_probed) {
                    let key = (at, addr.0, one.port);
                    let since = self.checks.health.probed.get(&key).copied().unwrap_or(self.now);
                    probed.insert(key, since);
                }
            }
        }
        self.checks.health.probed = probed;
    }

    /// Nobody is left out who has answered all that came.
    fn check_ejected(&self, one: &Instance) {
        let here = |addr: &IpAddr| one.addresses.contains(&Some(Addr::from(*addr)));
        let station = self.stations.iter().position(|station| station.addresses.iter().any(here));
        let troubled = station.is_none_or(|at| self.checks.health.troubled.contains(&at));
        // A SYN with a wrong checksum is passed on, and its instance doesn't say a word about it.
        let reason = troubled || self.checks.health.lossy || self.checks.broken.0 > 0;
        assert!(reason, "left out for nothing: {one:?}");
    }

    /// A flow begins at a station: not where the probes must have found out that nobody is there.
    pub(super) fn check_lame(&self, service: usize, addresses: &[IpAddr], port: u16, station: Option<usize>) {
        let facts = &self.scenario.services()[service];
        let Some(health) = facts.health.filter(|health| health.probed) else { return };
        let Some(lame) = station.and_then(|at| self.checks.health.lame.get(&at)) else { return };
        let long = |since: &Nanos| self.now.since(*since) > health.down_ms_max() * MS;
        let is_probed = addresses.iter().any(|addr| {
            let key = |port: u16| (service, Addr::from(*addr).0, port);
            let since = [port, 0].map(|port| self.checks.health.probed.get(&key(port)));
            since.into_iter().flatten().any(long)
        });
        assert!(
            !(is_probed && long(lame)),
            "a flow of {} begins at {addresses:?}, where nobody has been for {} ms",
            facts.name,
            self.now.since(*lame) / MS
        );
    }

    /// What came of a connection that had an instance since `since`: nothing short of a broken wire, a dead host or a service
    /// that is taken away ends it.
    pub(crate) fn check_outcome(&mut self, wish: Wish, outcome: Outcome, since: Option<(Nanos, End)>) {
        // What is on its way still comes.
        let rough = self.checks.health.rough.plus(LATE_NANOS);
        let Some((since, client)) = since.filter(|(since, _)| wish.kind == Kind::Tcp && *since > rough)
        else {
            return;
        };
        if outcome == Outcome::Served {
            self.checks.counts.outlived += u64::from(self.checks.health.reloaded > since);
            return;
        }
        let facts = &self.scenario.services()[wish.service];
        // Its instances drain with the service, and some time later they end.
        let removed = self.checks.health.removed.get(&wish.service);
        let left_out = facts.wakes && removed.is_some_and(|removed| removed.plus(DRAIN_NANOS) > since);
        let forgotten = self.appliance.forgotten(self.appliance.owner(client, 6)) > 0;
        assert!(
            left_out || forgotten,
            "a connection to {} ends, and nothing was wrong: {outcome:?}",
            facts.name
        );
    }
}

/// How long a connection may have been waited for.
const DRAIN_NANOS: u64 = 3_000 * MS;
/// Longer than a frame is under way, and what one says takes to show.
const LATE_NANOS: u64 = 100 * MS;

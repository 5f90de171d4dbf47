//! What is probed, and when: each address, port and check once, however many services want it. `D` is a probe under way.
//!
//! Probes are spread over their interval, so that those of a hundred backends don't leave at once, and a probe that has no
//! room yet waits for it without being counted. Whoever doesn't answer keeps its room for as long as a probe may take, so
//! those that are known for it have a part of the room alone:
//!
//! ```text
//!   answers    all of it                the last probe succeeded: what happens there has to be seen at once
//!   doubtful   three quarters           never probed yet, or the last probe said the contrary of what it is taken for
//!   silent     a half                   down, and nothing speaks against it
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use millrace_config::model::Check;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::services::ServiceId;

use super::{Failure, Machine, Thresholds};

/// Addresses that are probed at most: at one a second each, as many probes as the control thread has time for.
pub const PROBES_MAX: usize = 16_384;

/// Probes under way at most: those of silent addresses, of these and doubtful ones, and of all.
pub const RUNNING_MAX: [usize; 3] = [64, 96, 128];
const _: () = assert!(RUNNING_MAX[0] < RUNNING_MAX[1] && RUNNING_MAX[1] < RUNNING_MAX[2]);

/// What is probed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The address.
    pub addr: Addr,
    /// The port, whatever the check's own says.
    pub port: u16,
    /// The check.
    pub check: Arc<Check>,
}

impl Target {
    fn thresholds(&self) -> Thresholds {
        Thresholds { down_after: self.check.down_after, up_after: self.check.up_after }
    }
}

/// A probe's place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(usize);

#[derive(Debug)]
struct Probe<D> {
    target: Target,
    machine: Machine,
    users: Vec<ServiceId>,
    /// When it is due, while nothing is under way.
    due: Nanos,
    /// Since its last probe came to an end.
    standing: Standing,
    running: Option<D>,
}

type Probes<D> = Vec<Option<Probe<D>>>;

/// All probes.
#[derive(Debug)]
pub struct Checks<D> {
    probes: Probes<D>,
    free: Vec<usize>,
    by_target: HashMap<Target, usize>,
    /// In the order in which they were asked for, each once.
    of_service: HashMap<ServiceId, Vec<usize>>,
    /// How many a service wanted that there was no room for, where there are any.
    refused: HashMap<ServiceId, usize>,
    /// By [`Standing`].
    schedules: [BTreeSet<(Nanos, usize)>; 3],
    /// Those under way: few, and looked at often.
    running: Vec<usize>,
    /// How many those are, by [`Standing`].
    running_by: [usize; 3],
    /// What was under way when nobody wanted it any more.
    abandoned: Vec<D>,
    spread: u32,
    /// How many there is room for.
    max: usize,
}

impl<D> Default for Checks<D> {
    fn default() -> Self {
        Self {
            probes: Vec::new(),
            free: Vec::new(),
            by_target: HashMap::new(),
            of_service: HashMap::new(),
            refused: HashMap::new(),
            schedules: Default::default(),
            running: Vec::new(),
            running_by: [0; 3],
            abandoned: Vec::new(),
            spread: 0,
            max: PROBES_MAX,
        }
    }
}

impl<D> Checks<D> {
    /// Has these probed for a service, and no others any more. An address of its that is probed in another way from now on
    /// stays what it was. How many there is no room for, where that are others than before.
    pub fn want(
        &mut self,
        now: Nanos,
        service: ServiceId,
        targets: impl IntoIterator<Item = Target>,
    ) -> Option<usize> {
        let targets: Vec<Target> = targets.into_iter().collect();
        let before = self.of_service.remove(&service).unwrap_or_default();
        let known = Known::of(&before, &self.probes);
        let stays: HashSet<usize> =
            targets.iter().filter_map(|one| self.by_target.get(one).copied()).collect();
        // What isn't wanted any more makes room for what is.
        let (had, gone): (HashSet<usize>, Vec<usize>) = (
            before.iter().copied().filter(|at| stays.contains(at)).collect(),
            before.into_iter().filter(|at| !stays.contains(at)).collect(),
        );
        for at in gone {
            self.leave(at, service);
        }
        let (mut wanted, mut have) = (Vec::new(), HashSet::new());
        let mut refused = 0;
        for target in targets {
            let at = self.by_target.get(&target).copied();
            let Some(at) = at.or_else(|| self.begin(now, target, &known)) else {
                refused += 1;
                continue;
            };
            if !have.insert(at) {
                continue;
            }
            wanted.push(at);
            if let Some(probe) = self.probes[at].as_mut().filter(|_| !had.contains(&at)) {
                probe.users.push(service);
            }
        }
        if !wanted.is_empty() {
            self.of_service.insert(service, wanted);
        }
        let refused_before = match refused {
            0 => self.refused.remove(&service),
            _ => self.refused.insert(service, refused),
        };
        (refused_before.unwrap_or(0) != refused).then_some(refused)
    }

    fn begin(&mut self, now: Nanos, target: Target, known: &Known) -> Option<usize> {
        if self.by_target.len() >= self.max {
            return None;
        }
        let machine = match known.get(&target) {
            Some(known) => known.checked_anew(target.thresholds()),
            None => Machine::new(target.thresholds(), now),
        };
        // By the golden ratio each falls into the widest gap that those before it have left.
        self.spread = self.spread.wrapping_add(0x9e37_79b9);
        let offset = (u128::from(nanos(target.check.interval)) * u128::from(self.spread)) >> 32;
        let due = now.plus(offset as u64);
        let standing = Standing::of(&machine);
        let probe =
            Probe { target: target.clone(), machine, users: Vec::new(), due, standing, running: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.probes[at] = Some(probe);
                at
            }
            None => {
                self.probes.push(Some(probe));
                self.probes.len() - 1
            }
        };
        self.by_target.insert(target, at);
        self.schedules[standing as usize].insert((due, at));
        Some(at)
    }

    fn leave(&mut self, at: usize, service: ServiceId) {
        let Some(probe) = &mut self.probes[at] else { return };
        probe.users.retain(|user| *user != service);
        if !probe.users.is_empty() {
            return;
        }
        self.schedules[probe.standing as usize].remove(&(probe.due, at));
        if probe.running.is_some() {
            self.running.retain(|running| *running != at);
            self.running_by[probe.standing as usize] -= 1;
        }
        self.by_target.remove(&probe.target);
        self.abandoned.extend(self.probes[at].take().and_then(|probe| probe.running));
        self.free.push(at);
    }

    /// What was under way and nobody wants any more.
    pub fn abandoned(&mut self) -> impl Iterator<Item = D> {
        self.abandoned.drain(..)
    }

    /// The probe that has been due for longest of those that there is room for, with the time since when it is; it stays so
    /// until it is [started](Self::started) or [put off](Self::put_off).
    pub fn next(&self, now: Nanos) -> Option<(ProbeId, &Target, Nanos)> {
        let with_room = Standing::ALL.into_iter().filter(|standing| self.has_room(*standing));
        let firsts = with_room.filter_map(|standing| self.schedules[standing as usize].first());
        let (due, at) = firsts.min().filter(|(due, _)| *due <= now)?;
        Some((ProbeId(*at), &self.probes[*at].as_ref()?.target, *due))
    }

    fn has_room(&self, standing: Standing) -> bool {
        let mut running = 0;
        // Those that are in a bound are in all wider ones.
        (0..RUNNING_MAX.len()).all(|within| {
            running += self.running_by[within];
            within < standing as usize || running < RUNNING_MAX[within]
        })
    }

    /// When the next one becomes due, whether there is room for it or not.
    pub fn next_due(&self) -> Option<Nanos> {
        self.schedules.iter().filter_map(|schedule| schedule.first()).min().map(|(due, _)| *due)
    }

    /// A probe is under way.
    pub fn started(&mut self, id: ProbeId, running: D) {
        if let Some(probe) = &mut self.probes[id.0] {
            self.schedules[probe.standing as usize].remove(&(probe.due, id.0));
            self.running_by[probe.standing as usize] += 1;
            probe.running = Some(running);
            self.running.push(id.0);
        }
    }

    /// A probe can't begin before `until`.
    pub fn put_off(&mut self, id: ProbeId, until: Nanos) {
        if let Some(probe) = &mut self.probes[id.0] {
            let schedule = &mut self.schedules[probe.standing as usize];
            schedule.remove(&(probe.due, id.0));
            probe.due = until;
            schedule.insert((until, id.0));
        }
    }

    /// Those under way.
    pub fn running(&self) -> impl Iterator<Item = (ProbeId, &Target, &D)> {
        self.running.iter().filter_map(|at| {
            let probe = self.probes[*at].as_ref()?;
            Some((ProbeId(*at), &probe.target, probe.running.as_ref()?))
        })
    }

    /// A probe has come to an end; `None` where nothing can be told from it. Gives the services that its address has
    /// changed its state for, and the probe itself.
    pub fn report(&mut self, now: Nanos, id: ProbeId, result: Option<Result<(), Failure>>) -> Option<Change> {
        let probe = self.probes[id.0].as_mut()?;
        if probe.running.take().is_some() {
            self.running.retain(|running| *running != id.0);
            self.running_by[probe.standing as usize] -= 1;
        }
        self.schedules[probe.standing as usize].remove(&(probe.due, id.0));
        // By its own beat, which the time that a probe takes doesn't shift; unless it is far behind.
        let interval = nanos(probe.target.check.interval);
        let due = probe.due.plus(interval);
        probe.due = if due < now { now.plus(interval) } else { due };
        let changed = result.is_some_and(|result| probe.machine.report(now, result));
        probe.standing = Standing::of(&probe.machine);
        self.schedules[probe.standing as usize].insert((probe.due, id.0));
        if !changed {
            return None;
        }
        Some(Change { services: probe.users.clone(), target: probe.target.clone(), machine: probe.machine })
    }

    /// What is known of a target; `None` where it isn't probed.
    pub fn get(&self, target: &Target) -> Option<&Machine> {
        let at = self.by_target.get(target)?;
        self.probes[*at].as_ref().map(|probe| &probe.machine)
    }

    /// How many are probed.
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How urgent a probe is: by what its address is taken for, and whether the last one bore that out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is down, and was silent the last time, too.
    Silent,
    /// It may soon be something else, or nobody knows yet.
    Doubtful,
    /// It is up, and has answered.
    Answers,
}

impl Standing {
    const ALL: [Self; 3] = [Self::Silent, Self::Doubtful, Self::Answers];

    fn of(machine: &Machine) -> Self {
        match (machine.is_up(), machine.is_borne_out()) {
            (true, true) => Self::Answers,
            (false, true) => Self::Silent,
            (_, false) => Self::Doubtful,
        }
    }
}

/// What a service knows of its addresses, for those of them that are to be probed in another way.
struct Known(HashMap<(Addr, Option<u16>), Machine>);

impl Known {
    fn of<D>(before: &[usize], probes: &Probes<D>) -> Self {
        let mut known = HashMap::new();
        for probe in before.iter().filter_map(|at| probes[*at].as_ref()) {
            let Target { addr, port, .. } = probe.target;
            for port in [Some(port), None] {
                known.entry((addr, port)).or_insert(probe.machine);
            }
        }
        Self(known)
    }

    /// By its port if that is known, for several may be at one address.
    fn get(&self, target: &Target) -> Option<&Machine> {
        self.0.get(&(target.addr, Some(target.port))).or_else(|| self.0.get(&(target.addr, None)))
    }
}

/// An address has another state.
#[derive(Clone, Debug)]
pub struct Change {
    /// The services that use it.
    pub services: Vec<ServiceId>,
    /// What was probed.
    pub target: Target,
    /// Its state.
    pub machine: Machine,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

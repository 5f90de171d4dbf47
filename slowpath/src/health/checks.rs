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

/// Probes under way at most: those of silent addresses, of these and doubtful ones, and of all. See [`Standing`].
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
        let before = self.of_service.remove(&service).unwrap_or_default();
        let had: HashSet<usize> = before.iter().copied().collect();
        let known = Known::of(&before, &self.probes);
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
        for at in before.into_iter().filter(|at| !have.contains(at)) {
            self.leave(at, service);
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
mod tests {
    use millrace_config::model::CheckKind;

    use super::*;

    const MS: u64 = 1_000_000;
    const A: ServiceId = ServiceId(1);
    const B: ServiceId = ServiceId(2);

    fn check(interval_ms: u64) -> Arc<Check> {
        Arc::new(Check {
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_millis(interval_ms),
            down_after: 2,
            up_after: 2,
        })
    }

    fn target(host: u8, check: &Arc<Check>) -> Target {
        Target { addr: Addr::v4([10, 0, 0, host]), port: 80, check: Arc::clone(check) }
    }

    /// Lets everything that becomes due within a while end with `result`; how many probes that were.
    fn run(checks: &mut Checks<u8>, from: u64, ms: u64, result: Result<(), Failure>) -> Vec<(u64, Addr)> {
        let mut ran = Vec::new();
        for now in from..from + ms {
            while let Some((id, target, _)) = checks.next(Nanos(now * MS)) {
                ran.push((now, target.addr));
                checks.started(id, 0);
                checks.report(Nanos(now * MS), id, Some(result));
            }
        }
        ran
    }

    #[test]
    fn each_is_probed_once_in_its_interval_and_all_of_them_spread() {
        let (mut checks, check) = (Checks::default(), check(100));
        let all: Vec<Target> = (0..20).map(|host| target(host, &check)).collect();
        checks.want(Nanos(0), A, all);
        let ran = run(&mut checks, 0, 1000, Ok(()));
        for host in 0..20 {
            let count = ran.iter().filter(|(_, addr)| *addr == Addr::v4([10, 0, 0, host])).count();
            assert_eq!(count, 10, "{host}");
        }
        let busiest = (0..1000).map(|ms| ran.iter().filter(|(at, _)| *at == ms).count()).max();
        assert!(busiest <= Some(2), "{busiest:?} at once");
    }

    #[test]
    fn what_two_services_want_alike_is_probed_once_and_until_neither_does() {
        let (mut checks, check) = (Checks::<u8>::default(), check(100));
        // Equal, though not the same.
        let other = Arc::new((*check).clone());
        checks.want(Nanos(0), A, [target(1, &check), target(1, &check), target(2, &check)]);
        checks.want(Nanos(0), B, [target(1, &other)]);
        assert_eq!(checks.len(), 2);
        checks.want(Nanos(0), A, []);
        assert_eq!(checks.len(), 1);
        let (id, ..) = checks.next(Nanos(1000 * MS)).unwrap();
        checks.started(id, 7);
        checks.want(Nanos(0), B, []);
        assert!(checks.is_empty() && checks.next_due().is_none());
        assert_eq!(checks.abandoned().collect::<Vec<_>>(), [7]);
        assert!(checks.report(Nanos(0), id, Some(Ok(()))).is_none(), "it comes too late");
    }

    #[test]
    fn a_change_is_told_to_whoever_uses_the_address() {
        let (mut checks, check) = (Checks::<u8>::default(), check(100));
        checks.want(Nanos(0), A, [target(1, &check)]);
        checks.want(Nanos(0), B, [target(1, &check), target(2, &check)]);
        let id = ProbeId(0);
        assert!(checks.report(Nanos(1), id, Some(Err(Failure::TimedOut))).is_none());
        assert!(checks.report(Nanos(2), id, None).is_none(), "a probe that tells nothing isn't counted");
        let change = checks.report(Nanos(3), id, Some(Err(Failure::TimedOut))).unwrap();
        assert_eq!((change.services, change.target), (vec![A, B], target(1, &check)));
        assert!(!checks.get(&target(1, &check)).unwrap().is_up());
        assert!(checks.get(&target(2, &check)).unwrap().is_up());
    }

    #[test]
    fn an_address_keeps_its_state_when_it_is_checked_otherwise_and_others_begin_up() {
        let (mut checks, often, seldom) = (Checks::<u8>::default(), check(100), check(5000));
        checks.want(Nanos(0), A, [target(1, &often), target(2, &often)]);
        run(&mut checks, 0, 300, Err(Failure::Refused));
        checks.want(Nanos(300 * MS), A, [target(1, &seldom), target(3, &seldom)]);
        assert_eq!(checks.len(), 2);
        let up = |target: &Target| checks.get(target).map(Machine::is_up);
        assert_eq!(up(&target(1, &seldom)), Some(false));
        assert_eq!(up(&target(3, &seldom)), Some(true));
        assert_eq!(up(&target(2, &often)), None);
    }

    #[test]
    fn a_probe_that_is_put_off_comes_later_and_another_before_it() {
        let (mut checks, check) = (Checks::<u8>::default(), check(100));
        checks.want(Nanos(0), A, [target(1, &check), target(2, &check)]);
        let now = Nanos(100 * MS);
        let (first, ..) = checks.next(now).unwrap();
        checks.put_off(first, now.plus(MS));
        let (second, ..) = checks.next(now).unwrap();
        assert_ne!(first, second);
        checks.put_off(second, now.plus(2 * MS));
        assert!(checks.next(now).is_none());
        assert_eq!(checks.next_due(), Some(now.plus(MS)));
        assert_eq!(checks.running().count(), 0);
    }

    fn many(count: usize, check: &Arc<Check>) -> Vec<Target> {
        let one = |n: u32| Target { addr: Addr::v4(n.to_be_bytes()), port: 80, check: Arc::clone(check) };
        (0..count as u32).map(one).collect()
    }

    #[test]
    fn there_are_no_more_than_fit_and_it_is_told_once_until_it_changes() {
        let (mut checks, check) = (Checks::<u8>::default(), check(100));
        assert_eq!(checks.want(Nanos(0), A, many(PROBES_MAX + 5, &check)), Some(5));
        assert_eq!(checks.len(), PROBES_MAX);
        assert_eq!(checks.want(Nanos(0), A, many(PROBES_MAX + 5, &check)), None, "nothing new");
        assert_eq!(checks.want(Nanos(0), A, many(PROBES_MAX + 2, &check)), Some(2));
        assert_eq!(
            checks.want(Nanos(0), B, [target(1, &Arc::new(Check { down_after: 9, ..(*check).clone() }))]),
            Some(1)
        );
        assert_eq!(checks.want(Nanos(0), A, many(7, &check)), Some(0));
        assert_eq!(checks.want(Nanos(0), A, many(7, &check)), None);
        assert_eq!(checks.len(), 7);
    }

    /// Were each looked for among all, this would take a hundred thousand million comparisons, and the runner would end it.
    #[test]
    fn one_service_may_have_very_many() {
        const MANY: usize = 1 << 18;
        let (often, seldom) = (check(100), check(5000));
        let mut checks = Checks::<u8> { max: 2 * MANY, ..Checks::default() };
        for round in 0..4 {
            // Half of them stay, and half are checked in another way.
            let turn = if round % 2 == 0 { &often } else { &seldom };
            let all = many(MANY, &often).into_iter().enumerate().map(|(at, target)| match at % 2 {
                0 => target,
                _ => Target { check: Arc::clone(turn), ..target },
            });
            assert_eq!((checks.want(Nanos(round), A, all), checks.len()), (None, MANY));
        }
        checks.want(Nanos(4), A, []);
        assert!(checks.is_empty());
    }

    /// 200 addresses that never answer, and one that does until it fails: it is probed to the millisecond, and is found down
    /// as if it were alone.
    #[test]
    fn whoever_never_answers_takes_no_room_from_whoever_does() {
        let (mut checks, slow, quick) = (Checks::<u64>::default(), check(1000), check(100));
        let good = target(250, &quick);
        checks.want(Nanos(0), A, (0..200).map(|host| target(host, &slow)));
        checks.want(Nanos(0), B, [good.clone()]);
        let (mut begun, mut busiest, mut down) = (Vec::new(), 0, None);
        for ms in 0..12_000 {
            let now = Nanos(ms * MS);
            // Silence for a second; and from the tenth second on for fifty milliseconds.
            let over: Vec<ProbeId> =
                checks.running().filter(|(.., until)| **until <= ms).map(|(id, ..)| id).collect();
            for id in over {
                let change = checks.report(now, id, Some(Err(Failure::TimedOut)));
                if change.is_some_and(|change| change.services == [B]) {
                    down = Some(ms);
                }
            }
            while let Some((id, target, _)) = checks.next(now) {
                let is_good = *target == good;
                if is_good {
                    begun.push(ms);
                }
                checks.started(id, ms + if is_good { 50 } else { 1000 });
                if is_good && ms < 10_000 {
                    checks.report(now, id, Some(Ok(())));
                }
            }
            busiest = busiest.max(checks.running().count());
        }
        assert!(busiest <= RUNNING_MAX[1], "{busiest}: some room is left to those that answer");
        // Until it is down: then it waits for its turns as the others do.
        let (failing, on_time) = (begun.iter().find(|ms| **ms >= 10_000).unwrap(), &begun[..102]);
        assert!(on_time.windows(2).all(|pair| pair[1] - pair[0] == 100), "{begun:?}");
        assert_eq!(down, Some(failing + 100 + 50), "two failures in a row");
        let silent: Vec<bool> =
            (0..200).map(|host| checks.get(&target(host, &slow)).unwrap().is_up()).collect();
        assert_eq!(silent, [false; 200], "each of the others had its turns");
    }
}

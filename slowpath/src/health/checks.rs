//! What is probed, and when: each address, port and check once, however many services want it. `D` is a probe under way.
//!
//! Probes are spread over their interval, so that those of a hundred backends don't leave at once, and a probe that has no
//! room yet waits for it without being counted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use millrace_config::model::Check;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::services::ServiceId;

use super::{Failure, Machine, Thresholds};

/// Addresses that are probed at most: at one a second each, as many probes as the control thread has time for.
pub const PROBES_MAX: usize = 16_384;

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
    running: Option<D>,
}

/// All probes.
#[derive(Debug)]
pub struct Checks<D> {
    probes: Vec<Option<Probe<D>>>,
    free: Vec<usize>,
    by_target: HashMap<Target, usize>,
    of_service: HashMap<ServiceId, Vec<usize>>,
    schedule: BTreeSet<(Nanos, usize)>,
    /// Those under way: few, and looked at often.
    running: Vec<usize>,
    /// What was under way when nobody wanted it any more.
    abandoned: Vec<D>,
    spread: u32,
}

impl<D> Default for Checks<D> {
    fn default() -> Self {
        Self {
            probes: Vec::new(),
            free: Vec::new(),
            by_target: HashMap::new(),
            of_service: HashMap::new(),
            schedule: BTreeSet::new(),
            running: Vec::new(),
            abandoned: Vec::new(),
            spread: 0,
        }
    }
}

impl<D> Checks<D> {
    /// Has these probed for a service, and no others any more. An address of its that is probed in another way from now on
    /// stays what it was. How many there was no room for.
    pub fn want(
        &mut self,
        now: Nanos,
        service: ServiceId,
        targets: impl IntoIterator<Item = Target>,
    ) -> usize {
        let before = self.of_service.remove(&service).unwrap_or_default();
        let mut wanted: Vec<usize> = Vec::new();
        let mut refused = 0;
        for target in targets {
            let known = self.by_target.get(&target).copied();
            let Some(at) = known.or_else(|| self.begin(now, target, &before)) else {
                refused += 1;
                continue;
            };
            if !wanted.contains(&at) {
                wanted.push(at);
            }
        }
        for at in wanted.iter().filter(|at| !before.contains(at)) {
            if let Some(probe) = &mut self.probes[*at] {
                probe.users.push(service);
            }
        }
        for at in before.into_iter().filter(|at| !wanted.contains(at)) {
            self.leave(at, service);
        }
        if !wanted.is_empty() {
            self.of_service.insert(service, wanted);
        }
        refused
    }

    fn begin(&mut self, now: Nanos, target: Target, before: &[usize]) -> Option<usize> {
        if self.by_target.len() >= PROBES_MAX {
            return None;
        }
        let same = |at: &&usize| self.probes[**at].as_ref().is_some_and(|one| one.target.addr == target.addr);
        let known = before.iter().find(same).and_then(|at| self.probes[*at].as_ref());
        let machine = match known {
            Some(known) => known.machine.checked_anew(target.thresholds()),
            None => Machine::new(target.thresholds(), now),
        };
        // By the golden ratio each falls into the widest gap that those before it have left.
        self.spread = self.spread.wrapping_add(0x9e37_79b9);
        let offset = (u128::from(nanos(target.check.interval)) * u128::from(self.spread)) >> 32;
        let due = now.plus(offset as u64);
        let probe = Probe { target: target.clone(), machine, users: Vec::new(), due, running: None };
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
        self.schedule.insert((due, at));
        Some(at)
    }

    fn leave(&mut self, at: usize, service: ServiceId) {
        let Some(probe) = &mut self.probes[at] else { return };
        probe.users.retain(|user| *user != service);
        if !probe.users.is_empty() {
            return;
        }
        self.schedule.remove(&(probe.due, at));
        self.running.retain(|running| *running != at);
        self.by_target.remove(&probe.target);
        self.abandoned.extend(self.probes[at].take().and_then(|probe| probe.running));
        self.free.push(at);
    }

    /// What was under way and nobody wants any more.
    pub fn abandoned(&mut self) -> impl Iterator<Item = D> {
        self.abandoned.drain(..)
    }

    /// The probe that has been due for longest; it stays so until it is [started](Self::started) or
    /// [put off](Self::put_off).
    pub fn next(&self, now: Nanos) -> Option<(ProbeId, &Target)> {
        let (due, at) = self.schedule.first()?;
        let probe = self.probes[*at].as_ref().filter(|_| *due <= now)?;
        Some((ProbeId(*at), &probe.target))
    }

    /// When [`Checks::next`] has something.
    pub fn next_due(&self) -> Option<Nanos> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// A probe is under way.
    pub fn started(&mut self, id: ProbeId, running: D) {
        if let Some(probe) = &mut self.probes[id.0] {
            self.schedule.remove(&(probe.due, id.0));
            probe.running = Some(running);
            self.running.push(id.0);
        }
    }

    /// A probe can't begin before `until`.
    pub fn put_off(&mut self, id: ProbeId, until: Nanos) {
        if let Some(probe) = &mut self.probes[id.0] {
            self.schedule.remove(&(probe.due, id.0));
            probe.due = until;
            self.schedule.insert((until, id.0));
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
        }
        // By its own beat, which the time that a probe takes doesn't shift; unless it is far behind.
        let interval = nanos(probe.target.check.interval);
        let due = probe.due.plus(interval);
        self.schedule.remove(&(probe.due, id.0));
        probe.due = if due < now { now.plus(interval) } else { due };
        self.schedule.insert((probe.due, id.0));
        if !probe.machine.report(now, result?) {
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
            while let Some((id, target)) = checks.next(Nanos(now * MS)) {
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
        let (id, _) = checks.next(Nanos(1000 * MS)).unwrap();
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
        let (first, _) = checks.next(now).unwrap();
        checks.put_off(first, now.plus(MS));
        let (second, _) = checks.next(now).unwrap();
        assert_ne!(first, second);
        checks.put_off(second, now.plus(2 * MS));
        assert!(checks.next(now).is_none());
        assert_eq!(checks.next_due(), Some(now.plus(MS)));
        assert_eq!(checks.running().count(), 0);
    }

    #[test]
    fn there_are_no_more_than_fit() {
        let (mut checks, check) = (Checks::<u8>::default(), check(100));
        let many = (0..PROBES_MAX as u32 + 5).map(|n| Target {
            addr: Addr::v4(n.to_be_bytes()),
            port: 80,
            check: Arc::clone(&check),
        });
        // Services have few; one that had all of them would look for each among them.
        let mut refused = 0;
        let many: Vec<Target> = many.collect();
        for (at, some) in many.chunks(256).enumerate() {
            refused += checks.want(Nanos(0), ServiceId(at as u16), some.iter().cloned());
        }
        assert_eq!((checks.len(), refused), (PROBES_MAX, 5));
    }
}

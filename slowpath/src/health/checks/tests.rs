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

/// What isn't wanted any more makes room for what is, so that all may be checked in another way at once.
#[test]
fn checking_all_in_another_way_needs_no_more_room() {
    let mut checks = Checks::<u8> { max: 4, ..Checks::default() };
    assert_eq!(checks.want(Nanos(0), A, many(4, &check(100))), None);
    assert_eq!(checks.want(Nanos(0), A, many(4, &check(200))), None);
    assert!(checks.len() == 4 && many(4, &check(200)).iter().all(|target| checks.get(target).is_some()));
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
    let silent: Vec<bool> = (0..200).map(|host| checks.get(&target(host, &slow)).unwrap().is_up()).collect();
    assert_eq!(silent, [false; 200], "each of the others had its turns");
}

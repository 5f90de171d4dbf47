//! Instances that are left out by what becomes of clients' handshakes.

use super::*;

/// Failures in a second put a backend out for three.
const PASSIVE: &str =
    "health = { passive = { failures = 5, window_ms = 1000, eject_ms = 3000, share_percent = 50 } }";

#[test]
fn a_flood_of_forged_syns_leaves_nobody_out() {
    let mut lab = Lab::new(&file(&web(&[A, B], PASSIVE), ""));
    for _ in 0..20 {
        // Nobody ever finishes.
        lab.reached(false);
        lab.run(300);
    }
    let healths = lab.control.healths();
    let seen: Vec<_> = healths.iter().filter_map(|one| one.handshakes).collect();
    let sum = |of: fn(&HandshakeHealth) -> u64| seen.iter().map(of).sum::<u64>();
    assert_eq!((sum(|one| one.counted.begun), sum(|one| one.counted.answered)), (2000, 2000));
    assert_eq!((sum(|one| one.counted.refused), sum(|one| one.ejections)), (0, 0));
    assert_eq!((lab.down("web"), healths[0].panics), (vec![], 0));
    lab.check_laws();
}

#[test]
fn a_backend_that_refuses_clients_is_left_out_for_a_while() {
    let mut lab = Lab::new(&file(&web(&[A, B], PASSIVE), ""));
    assert_eq!(lab.reached(false), [ip(A), ip(B)]);
    lab.say(A, Says::Rst);
    let mut took = 0;
    while lab.down("web").is_empty() {
        lab.reached(false);
        lab.run(100);
        took += 1;
        assert!(took < 30, "it is never left out");
    }
    assert_eq!(lab.down("web"), [ip(A)]);
    assert_eq!(lab.reached(false), [ip(B)]);
    assert_eq!(lab.phase("web"), Phase::Ready);
    lab.say(A, Says::Accept);
    let back = lab.run_until("it used again", 4000, |lab| lab.down("web").is_empty());
    assert!(back >= 2500, "{back}");
    assert_eq!(lab.reached(false), [ip(A), ip(B)]);

    // Now both fail: whoever is out comes back, and all are used.
    [A, B].iter().for_each(|host| lab.say(host, Says::Rst));
    for _ in 0..30 {
        lab.reached(false);
        lab.run(100);
    }
    assert!(lab.control.healths()[0].panics >= 1);
    assert_eq!((lab.down("web"), lab.phase("web")), (vec![], Phase::Ready));
    assert_eq!(lab.reached(false), [ip(A), ip(B)]);
    lab.check_laws();
}

#[test]
fn a_probe_that_succeeds_vouches_for_whoever_fails_clients() {
    let both = TCP.replace(" }", ", passive = { failures = 5, window_ms = 1000, eject_ms = 3000 } }");
    let mut lab = Lab::new(&file(&web(&[A, B], &both), ""));
    lab.run(200);
    let before: u64 = lab.control.healths().iter().map(|one| one.checks[0].probes).sum();
    // Clients' handshakes that the host's own rules refuse: made up in the workers' counters.
    let slot = lab.control.healths()[0].slot.index();
    for _ in 0..30 {
        lab.shared.workers[0].counters.handshakes[slot].refused.add(100);
        lab.run(100);
    }
    let after: u64 = lab.control.healths().iter().map(|one| one.checks[0].probes).sum();
    assert!(after > before && lab.down("web").is_empty());
    // Without it they put it out.
    lab.reload(&file(&web(&[A, B], PASSIVE), ""));
    for _ in 0..30 {
        lab.shared.workers[0].counters.handshakes[slot].refused.add(100);
        lab.run(100);
    }
    assert_eq!(lab.down("web"), [ip(A)]);
}

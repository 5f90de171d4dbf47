//! Checks of backends and instances, with workers on the heap driver and hosts that the test plays: probes go out by the
//! workers as everything does, and their answers come in.

mod ejection;
mod lab;
mod placed;

use lab::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::{NodeId, host};
use millrace_fastpath::worker::Worker;
use smoltcp::wire::{IpAddress, TcpControl, TcpSeqNumber};

use super::*;
use crate::testing::WAN_MAC;

#[test]
fn a_backend_is_down_after_so_many_probes_and_up_again_and_flows_stay() {
    for says in [Says::Rst, Says::Nothing] {
        let mut lab = Lab::new(&file(&web(&[A, B], TCP), ""));
        lab.run(1000);
        let (of_a, of_b) = (lab.probes(A), lab.probes(B));
        assert!((9..=11).contains(&of_a) && (9..=11).contains(&of_b), "ten a second: {of_a}, {of_b}");
        assert_eq!(lab.down("web"), []);
        assert_eq!(lab.reached(false), [ip(A), ip(B)]);
        let established: Vec<(u16, IpAddress)> = lab.homes.drain().collect();

        lab.say(A, says);
        lab.probes(A);
        let took = lab.run_until("a backend down", 1000, |lab| !lab.down("web").is_empty());
        assert!(took <= 100 * 3 + 50, "{took} ms");
        assert_eq!((lab.down("web"), lab.probes(A)), (vec![ip(A)], 3), "{says:?}");
        assert_eq!(lab.reached(false), [ip(B)]);
        for (port, home) in &established {
            let (from, to) = ((ip("10.1.0.9"), *port), (ip("203.0.113.20"), 80));
            let more =
                write([CLIENT_MAC, WAN_MAC], from, to, TcpControl::None, (2, Some(TcpSeqNumber(901))), b"x");
            assert!(lab.net.deliver(PortId(0), 0, &more));
            while lab.workers.iter_mut().map(Worker::poll).sum::<usize>() > 0 {}
            let sent = read(&lab.net.take(PortId(1)).unwrap()).unwrap();
            assert_eq!((sent.to.0, sent.from.1), (*home, *port), "an established flow stays");
        }

        lab.say(A, Says::Accept);
        let took = lab.run_until("it up", 1000, |lab| lab.down("web").is_empty());
        assert!(took <= 100 * 2 + 50, "{took} ms");
        assert_eq!(lab.probes(A), 2);
        assert_eq!(lab.reached(false), [ip(A), ip(B)]);
        lab.check_laws();
    }
}

#[test]
fn when_all_backends_are_down_the_service_is_and_takes_its_overflow_action() {
    let health = TCP.replace(" }", ", overflow = \"rst\" }");
    let mut lab = Lab::new(&file(&web(&[A, B], &health), ""));
    lab.run(200);
    assert_eq!(lab.phase("web"), Phase::Ready);
    [A, B].iter().for_each(|host| lab.say(host, Says::Nothing));
    lab.run_until("the service down", 1000, |lab| lab.phase("web") == Phase::Down);
    lab.answers.clear();
    assert_eq!(lab.connect(false), None);
    assert_eq!(lab.answers, [(lab.clients, TcpControl::Rst)]);
    lab.say(B, Says::Accept);
    lab.run_until("it up", 1000, |lab| lab.phase("web") == Phase::Ready);
    assert_eq!(lab.reached(false), [ip(B)]);
    lab.check_laws();
}

#[test]
fn an_answer_over_http_is_good_by_its_status() {
    let health = TCP.replace("\"tcp\"", "\"http\", path = \"/up?now\", status = \"200-299\", port = 8080");
    let mut lab = Lab::new(&file(&web(&[A, B], &health), ""));
    [A, B].iter().for_each(|host| lab.say(host, Says::Status(204)));
    lab.run(500);
    assert_eq!(lab.down("web"), []);
    assert!(lab.requests.len() >= 8);
    assert!(lab.requests.iter().all(|text| text.starts_with("GET /up?now HTTP/1.1\r\nHost: 198.51.100.")));
    lab.say(A, Says::Status(302));
    // Accepts, and never answers.
    lab.say(B, Says::Accept);
    lab.run(400);
    assert_eq!(lab.down("web"), [ip(A), ip(B)]);
    let healths = lab.control.healths();
    let errors: Vec<_> = healths.iter().filter_map(|one| Some(one.checks[0].error?.to_string())).collect();
    assert_eq!(errors, ["status 302", "timed out"]);
    lab.say(A, Says::Status(200));
    lab.run(400);
    assert_eq!(lab.down("web"), [ip(B)]);
    lab.check_laws();
}

#[test]
fn each_family_is_up_or_down_by_itself() {
    let mut lab = Lab::new(&file(&web(&[A, B, A6, B6], TCP), ""));
    lab.say(A6, Says::Rst);
    lab.say(B, Says::Rst);
    lab.run(600);
    assert_eq!(lab.down("web"), [ip(B), ip(A6)]);
    assert_eq!((lab.reached(false), lab.reached(true)), (vec![ip(A)], vec![ip(B6)]));
    assert_eq!(lab.phase("web"), Phase::Ready);
    lab.check_laws();
}

#[test]
fn what_two_services_check_alike_is_probed_once() {
    let other = web(&[A], TCP).replace("\"web\"", "\"other\"").replace("203.0.113.20", "203.0.113.21");
    let mut lab = Lab::new(&file(&(web(&[A, B], TCP) + &other), ""));
    lab.run(1000);
    assert!((9..=11).contains(&lab.probes(A)));
    lab.say(A, Says::Rst);
    lab.run(500);
    assert_eq!((lab.down("web"), lab.down("other")), (vec![ip(A)], vec![ip(A)]));
    assert_eq!((lab.phase("web"), lab.phase("other")), (Phase::Ready, Phase::Down));
    lab.check_laws();
}

#[test]
fn checks_come_change_and_go_with_a_reload_and_what_is_known_stays_known() {
    let mut lab = Lab::new(&file(&web(&[A, B], ""), ""));
    lab.say(A, Says::Rst);
    lab.run(500);
    assert_eq!((lab.probes(A), lab.down("web")), (0, vec![]));
    lab.reload(&file(&web(&[A, B], TCP), ""));
    lab.run(500);
    assert_eq!(lab.down("web"), [ip(A)]);
    // Another beat, another threshold, another weight: it is still down, and the other one up.
    let slow =
        TCP.replace("interval_ms = 100", "interval_ms = 300").replace("down_after = 3", "down_after = 9");
    lab.reload(&file(&web(&[A, B], &slow), ""));
    assert_eq!(lab.down("web"), [ip(A)]);
    lab.reload(&file(&web(&[A, B], &slow).replace("8\" }", "8\", weight = 3 }"), ""));
    assert_eq!(lab.down("web"), [ip(A)]);
    lab.probes(A);
    lab.run(900);
    assert!((2..=4).contains(&lab.probes(A)));
    // Nobody checks any more: who knows.
    lab.reload(&file(&web(&[A, B], ""), ""));
    assert_eq!(lab.down("web"), []);
    lab.probes(A);
    lab.run(500);
    assert_eq!(lab.probes(A), 0);
    // The service goes, and its probes with it.
    lab.reload(&file(&web(&[A, B], TCP), ""));
    lab.run(300);
    lab.reload(&file("", ""));
    lab.probes(A);
    lab.run(500);
    assert_eq!(lab.probes(A), 0);
    lab.check_laws();
}

#[test]
fn probes_that_run_out_of_time_in_a_flood_say_nothing() {
    let mut lab = Lab::new(&file(&web(&[A, B], TCP), ""));
    lab.run(200);
    lab.say(A, Says::Nothing);
    lab.say(B, Says::Rst);
    for _ in 0..500 {
        lab.run(1);
        // A worker finds no parcel for a frame to us.
        lab.shared.workers[1].counters.node(NodeId::Host).drops[host::Drop::QueueFull as usize].add(1);
    }
    assert_eq!(lab.down("web"), [ip(B)], "who refuses is down, who was silent may have been heard wrong");
    assert!(lab.control.health.counters.inconclusive >= 4);
    lab.run(500);
    assert_eq!(lab.down("web"), [ip(A), ip(B)]);
}

const UNKNOWN: &str = "198.51.100.99";

#[test]
fn a_backend_that_nobody_finds_on_the_link_is_down() {
    let mut lab = Lab::new(&file(&web(&[A, UNKNOWN], TCP), ""));
    // It is looked for a second and a half.
    lab.run(1450);
    assert_eq!(lab.down("web"), []);
    assert!((14..=15).contains(&lab.control.health.counters.inconclusive));
    lab.run(400);
    assert_eq!(lab.down("web"), [ip(UNKNOWN)]);
    let errors = |lab: &Lab| -> Vec<_> {
        lab.control.healths().iter().filter_map(|one| one.checks[0].error).collect()
    };
    assert_eq!(errors(&lab), [crate::health::Failure::Unreachable]);
    // That it is looked for again is no news of it.
    let before = lab.control.health.counters;
    lab.run(10_000);
    let after = lab.control.health.counters;
    assert_eq!((after.inconclusive, after.failures), (before.inconclusive, before.failures + 100));
    lab.say(UNKNOWN, Says::Accept);
    assert!(lab.net.deliver(PortId(1), 0, &arp_reply(UNKNOWN, HOST_MAC)));
    lab.run_until("it up", 500, |lab| lab.down("web").is_empty());
    lab.check_laws();
}

#[test]
fn a_backend_that_is_found_late_was_never_failing() {
    let mut lab = Lab::new(&file(&web(&[A, UNKNOWN], TCP), ""));
    lab.say(UNKNOWN, Says::Accept);
    lab.run(1000);
    assert_eq!(lab.probes(UNKNOWN), 0);
    assert!(lab.net.deliver(PortId(1), 0, &arp_reply(UNKNOWN, HOST_MAC)));
    lab.run(1000);
    assert!((9..=10).contains(&lab.probes(UNKNOWN)));
    assert_eq!((lab.down("web"), lab.control.health.counters.failures), (vec![], 0));
    lab.check_laws();
}

/// 200 backends behind another router that say nothing for as long as a probe may take, and one that is well, then not.
#[test]
fn backends_that_never_answer_keep_nobody_from_being_probed() {
    let silent: Vec<String> = (1..=200).map(|host| format!("198.18.0.{host}")).collect();
    let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
    let slow = TCP
        .replace("interval_ms = 100", "interval_ms = 1000")
        .replace("timeout_ms = 50", "timeout_ms = 1000");
    let other = web(&[A], TCP).replace("\"web\"", "\"other\"").replace("203.0.113.20", "203.0.113.21");
    let route = format!("[[route]]\nto = \"198.18.0.0/16\"\nvia = \"{B}\"\n");
    let mut lab = Lab::new(&file(&(web(&silent, &slow) + &other + &route), ""));
    for second in 0..8 {
        lab.run(1000);
        assert_eq!(lab.probes(A), 10, "in second {second}");
    }
    assert_eq!((lab.down("web").len(), lab.phase("web")), (200, Phase::Down));
    assert_eq!(lab.phase("other"), Phase::Ready);
    assert!(lab.control.health.counters.put_off > 200, "the others wait for their turns");
    lab.say(A, Says::Nothing);
    let took = lab.run_until("it down", 1000, |lab| lab.phase("other") == Phase::Down);
    assert!(took <= 100 * 3 + 50, "{took} ms");
    lab.check_laws();
}

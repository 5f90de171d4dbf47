//! Checks of what the orchestrator places.

use super::*;

#[test]
fn a_placed_instance_that_is_down_takes_its_service_with_it_and_back() {
    let mut lab = Lab::new(&file("", TCP));
    lab.round();
    let snapshot = |generation, instances: Vec<Instance>| {
        let services = vec![placement(instances, None)];
        Down::Snapshot(Snapshot { generation: Placed(generation), services })
    };
    lab.orchestrator.send(snapshot(1, vec![instance(1, InstanceState::Ready)])).unwrap();
    lab.run_until("readiness", 100, |lab| lab.phase("hello") == Phase::Ready);
    lab.run(500);
    assert_eq!(lab.phase("hello"), Phase::Ready);
    assert!(lab.probes(NODE) >= 4, "at its own port");
    lab.say(NODE, Says::Nothing);
    lab.run_until("it down", 1000, |lab| lab.phase("hello") == Phase::Down);
    // The orchestrator says again what it said, which changes nothing here.
    lab.orchestrator.send(snapshot(2, vec![instance(1, InstanceState::Ready)])).unwrap();
    lab.run(10);
    assert_eq!(lab.phase("hello"), Phase::Down);
    lab.say(NODE, Says::Accept);
    lab.run_until("it up", 1000, |lab| lab.phase("hello") == Phase::Ready);
    // Another instance in its place begins up.
    lab.say(NODE, Says::Rst);
    lab.run_until("it down again", 1000, |lab| lab.phase("hello") == Phase::Down);
    lab.orchestrator.send(snapshot(3, vec![])).unwrap();
    lab.run_until("nothing left", 100, |lab| lab.phase("hello") == Phase::Cold);
    lab.probes(NODE);
    lab.run(300);
    assert_eq!(lab.probes(NODE), 0, "nobody is probed");
    lab.check_laws();
}

#[test]
fn an_instance_that_stays_down_is_given_up_so_that_another_can_be_woken() {
    let mut lab = Lab::new(&file("", TCP));
    lab.round();
    let services = vec![placement(vec![instance(1, InstanceState::Ready)], None)];
    lab.orchestrator.send(Down::Snapshot(Snapshot { generation: Placed(1), services })).unwrap();
    lab.run_until("readiness", 100, |lab| lab.phase("hello") == Phase::Ready);
    lab.say(NODE, Says::Nothing);
    lab.run_until("it down", 1000, |lab| lab.phase("hello") == Phase::Down);
    let idle = |lab: &mut Lab| {
        let ups: Vec<Up> = std::iter::from_fn(|| lab.orchestrator.try_receive()).collect();
        ups.iter().filter(|up| matches!(up, Up::Idle(idle) if idle.service == "hello")).count()
    };
    lab.run(9_000);
    assert_eq!(idle(&mut lab), 0, "it may come back");
    lab.run(2_000);
    assert_eq!((idle(&mut lab), lab.phase("hello")), (1, Phase::Down));
    lab.orchestrator.send(Down::Snapshot(Snapshot { generation: Placed(2), services: vec![] })).unwrap();
    lab.run_until("nothing left", 100, |lab| lab.phase("hello") == Phase::Cold);
    lab.check_laws();
}

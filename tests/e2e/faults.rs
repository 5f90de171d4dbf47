//! What the machine does to an appliance: a port vanishes, privileges or hugepages are missing, it is told to end.

use std::path::Path;

use millrace_hw_tests::edge::client::{curl, dig};
use millrace_hw_tests::edge::{Appliance, DNS, Edge, Shape, Site};
use millrace_hw_tests::lab::{command, wait_until};

use crate::world::{BINARY, SOON, World, functions, hello};

fn site() -> Site {
    Site::new(functions(), vec![hello("hello", 0)])
}

/// The exit code of "the system refused".
const REFUSED: Option<i32> = Some(3);

#[test]
fn a_port_that_vanishes_takes_only_its_traffic() {
    let world = World::build(Shape::TwoPort, site());
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    world.edge.function.run("ip link delete dev eth0").unwrap();
    wait_until("the port to be shown as down", SOON, || {
        world.appliance.row("ports", "lan").unwrap()["up"] == false
    })
    .unwrap();
    let asked = dig(&world.edge.client, &format!("@{} hello.fn.example. A", DNS[0])).unwrap();
    assert_eq!(asked.answers, ["198.18.0.1"], "{}", asked.text);
    world.edge.client.run("ping -n -c 1 -W 5 192.0.2.1").unwrap();
    assert!(world.appliance.process().exited().is_none());
    world.conclude();
}

#[test]
fn without_root_it_says_what_it_lacks() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    let configuration = Appliance::configure(&edge, &site(), "edge.toml").unwrap();
    // The binary and its files where nobody may read them, so that nothing but privilege is missing.
    let copy = edge.lab().folder().join("millrace");
    std::fs::copy(BINARY, &copy).unwrap();
    command::succeed(command::split("chmod -R a+rX").arg(edge.lab().folder())).unwrap();
    let mut run = edge.appliance.command("setpriv");
    run.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["run", "-c"]);
    let output = command::output(run.arg(configuration)).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), REFUSED, "{said}");
    assert_eq!(
        said.lines().filter(|line| line.contains("rror")).count(),
        1,
        "one clear error, not this: {said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}

/// Hides the hugepages of the machine from one process: it sees a kernel that has none.
const WITHOUT_HUGEPAGES: &str = "mount -t tmpfs none /sys/kernel/mm/hugepages && exec \"$@\"";

#[test]
fn without_hugepages_it_warns_and_runs() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    let appliance =
        Appliance::start_by(&edge, Path::new(BINARY), &site(), &["sh", "-c", WITHOUT_HUGEPAGES, "sh"]);
    let world = World { appliance: appliance.unwrap(), node: None, edge, site: site() };
    let warnings = world.appliance.process().stderr().matches("hugepages").count();
    assert_eq!(warnings, 1, "{}", world.appliance.process().stderr());
    let asked = dig(&world.edge.client, &format!("@{} hello.fn.example. A", DNS[0])).unwrap();
    assert_eq!(asked.answers, ["198.18.0.1"]);
    world.conclude();
}

#[test]
fn hugepages_that_are_required_and_missing_end_it() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    let site = Site { hugepages: "require", ..site() };
    let configuration = Appliance::configure(&edge, &site, "edge.toml").unwrap();
    let mut run = edge.appliance.command("sh");
    run.args(["-c", WITHOUT_HUGEPAGES, "sh", BINARY, "run", "-c"]);
    let output = command::output(run.arg(configuration)).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), REFUSED, "{said}");
    assert!(said.contains("hugepages"), "{said}");
}

#[test]
fn told_to_end_it_leaves_nothing() {
    let world = World::build(Shape::TwoPort, site());
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    let id = world.appliance.process().id();
    let World { appliance, node, edge, site } = world;
    appliance.fates().unwrap();
    assert!(appliance.stop().unwrap().success());
    for port in ["wan", "lan", "upstream"] {
        let shown = edge.appliance.run(&format!("ip -details link show dev {port}")).unwrap();
        assert!(!shown.contains("xdp"), "a program stayed on {port}: {shown}");
    }
    assert!(!edge.lab().folder().join("control.sock").exists());
    let runtime = format!("/var/run/dpdk/millrace-{id}");
    assert!(!Path::new(&runtime).exists(), "{runtime} is left over");
    // And again on the same ports.
    let world =
        World { appliance: Appliance::start(&edge, Path::new(BINARY), &site).unwrap(), node, edge, site };
    let asked = dig(&world.edge.client, &format!("@{} hello.fn.example. A", DNS[0])).unwrap();
    assert_eq!(asked.answers, ["198.18.0.1"]);
    world.conclude();
}

/// Killed without a word; the next start finds its ports taken by nobody.
#[test]
fn after_a_kill_it_starts_again() {
    let World { appliance, node, edge, site } = World::without_node(Shape::TwoPort, site());
    appliance.process().kill().unwrap();
    let world =
        World { appliance: Appliance::start(&edge, Path::new(BINARY), &site).unwrap(), node, edge, site };
    let asked = dig(&world.edge.client, &format!("@{} hello.fn.example. A", DNS[0])).unwrap();
    assert_eq!(asked.answers, ["198.18.0.1"]);
    world.conclude();
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_starts() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    let path = edge.lab().write("wrong.toml", "schema_version = 1\n[site]\nnam = \"x\"\n").unwrap();
    let output = command::output(edge.appliance.command(BINARY).args(["run", "-c"]).arg(path)).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("wrong.toml") && said.contains("name"), "{said}");
}

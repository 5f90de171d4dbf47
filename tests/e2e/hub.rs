//! The content hub from the command line: nodes that receive over a LAN, and the store of an appliance.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millrace_hw_tests::edge::{Shape, Site};
use millrace_hw_tests::lab::{Host, Lab, Look, Process, command};
use serde_json::Value;

use crate::world::{BINARY, SOON, World};

/// Segments have 1400 bytes.
const SEGMENT: usize = 1400;
/// A transfer of some seconds, on a busy machine.
const DONE: Duration = Duration::from_secs(120);

/// A hub and three nodes on one bridge. Fields go in this order.
struct Lan {
    hub: Host,
    nodes: Vec<Host>,
    lab: Lab,
}

impl Lan {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let hub = lab.host("hub").unwrap();
        // Without snooping it floods, as the plainest switch does.
        hub.run("ip link add br0 type bridge mcast_snooping 0").unwrap();
        hub.run("ip address add 10.9.0.1/24 dev br0").unwrap();
        hub.run("ip link set br0 up").unwrap();
        let nodes = (2..=4).map(|node| {
            let host = lab.host(&format!("node{node}")).unwrap();
            let peer = host.namespace();
            hub.run(&format!("ip link add p{node} type veth peer name eth0 netns {peer}")).unwrap();
            hub.run(&format!("ip link set p{node} master br0 up")).unwrap();
            host.run(&format!("ip address add 10.9.0.{node}/24 dev eth0")).unwrap();
            host.run("ip link set eth0 up").unwrap();
            host
        });
        let nodes = nodes.collect();
        Self { hub, nodes, lab }
    }

    fn node(&self, number: usize) -> &Host {
        &self.nodes[number - 2]
    }

    /// So many of a thousand datagrams to a node are lost from now on.
    fn lose(&self, node: usize, per_mille: u32) {
        let rule = format!("meta l4proto udp numgen random mod 1000 < {per_mille} counter drop");
        let lines =
            ["table inet l {", "chain i {", "type filter hook input priority 0;", &rule, "}", "}", ""];
        let file = self.lab.write("rules", &lines.join("\n")).unwrap();
        self.node(node).run(&format!("nft -f {}", file.display())).unwrap();
    }

    fn file(&self, name: &str, size: usize) -> (PathBuf, String) {
        let text: String = (0..size.div_ceil(8)).map(|line| format!("{line:07}\n")).collect();
        (self.lab.write(name, &text[..size]).unwrap(), text[..size].to_owned())
    }

    /// Where a node puts what it receives.
    fn folder(&self, node: usize) -> PathBuf {
        self.lab.folder().join(format!("contents{node}"))
    }

    /// Begins to receive; back once the node listens.
    fn receive(&self, node: usize, more: &[&str]) -> Process {
        let host = self.node(node);
        let mut command = host.command(BINARY);
        command.args(["hub", "receive", "--group", "239.1.1.9:6003", "--interface", "eth0"]);
        command.args(["--hub", "10.9.0.1", "--json", "--node", &node.to_string()]);
        command.arg("--into").arg(self.folder(node)).args(more);
        let process = host.spawn(&format!("receive{node}"), &mut command).unwrap();
        wait_for(&process, |event| event["event"] == "listening");
        process
    }

    fn sending(&self, file: &Path, nodes: &[usize], bits_per_second: u64) -> Command {
        let mut command = self.hub.command(BINARY);
        command.args(["hub", "send", "--group", "239.1.1.9:6003", "--interface", "br0"]);
        command.args(["--address", "10.9.0.1", "--content-version", "1", "--json"]);
        command.args(["--bits-per-second", &bits_per_second.to_string(), "--nodes"]);
        command.arg(nodes.iter().map(|node| format!("{node}=10.9.0.{node}")).collect::<Vec<_>>().join(","));
        command.arg(file);
        command
    }

    fn same(&self, node: usize, name: &str, text: &str) {
        let there = std::fs::read_to_string(self.folder(node).join(name)).unwrap();
        assert!(there == text, "node {node} has something else");
    }
}

fn events(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for an event that a process prints.
fn wait_for(process: &Process, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = || match events(&process.stdout()).into_iter().find(&wanted) {
        Some(event) => Look::Done(event),
        None => Look::NotYet(process.stdout()),
    };
    process.wait_until("an event", DONE, look).unwrap()
}

fn summary(text: &str) -> Value {
    events(text).pop().filter(|event| event["event"] == "summary").unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn three_nodes_complete_and_repairs_go_to_the_one_that_loses() {
    let lan = Lan::new();
    lan.lose(3, 50);
    let (file, text) = lan.file("image.bin", 4_000_000);
    let nodes = [2, 3, 4].map(|node| lan.receive(node, &["--count", "1"]));
    let sent = summary(&command::succeed(&mut lan.sending(&file, &[2, 3, 4], 40_000_000)).unwrap());
    for (node, process) in [2, 3, 4].into_iter().zip(nodes) {
        assert!(process.wait(DONE).unwrap().success());
        lan.same(node, "image.bin", &text);
        let received = wait_for(&process, |event| event["event"] == "received");
        assert_eq!((&received["verified"], &received["size"]), (&true.into(), &4_000_000.into()));
        assert_eq!(summary(&process.stdout())["received"], 1);
    }
    let legs = sent["legs"].as_array().unwrap();
    let repairs: Vec<_> = legs.iter().map(|leg| leg["repair_packets"].as_u64().unwrap()).collect();
    // 5 % of 2858 segments are 143.
    assert!(repairs[1] > 70, "{sent}");
    assert_eq!((repairs[0], repairs[2]), (0, 0), "who missed nothing is sent nothing twice: {sent}");
}

#[test]
fn a_node_that_was_killed_goes_on_where_it_was() {
    let lan = Lan::new();
    let size = 6_000_000;
    let (file, text) = lan.file("image.bin", size);
    let first = lan.receive(2, &[]);
    // 6 s, so that there are some checkpoints.
    let mut sending = lan.sending(&file, &[2], 8_000_000);
    let sender = lan.hub.spawn("send", &mut sending).unwrap();
    // A checkpoint comes before the report of the same second.
    let half = |event: &Value| event["held"].as_u64().is_some_and(|held| held > size as u64 / 2);
    let held = wait_for(&first, half)["held"].as_u64().unwrap();
    first.kill().unwrap();
    assert!(!lan.folder(2).join("image.bin").exists(), "what isn't whole has no name");

    let second = lan.receive(2, &["--count", "1"]);
    assert!(second.wait(DONE).unwrap().success());
    assert!(sender.wait(DONE).unwrap().success());
    lan.same(2, "image.bin", &text);
    let after = summary(&second.stdout());
    let came = after["source"].as_u64().unwrap() + after["decoded"].as_u64().unwrap();
    let left = (size as u64 - held).div_ceil(SEGMENT as u64) + 1;
    assert!(came <= left, "{held} bytes were kept, and {came} segments came where {left} lacked: {after}");
}

#[test]
fn signals_end_both_cleanly_and_wrong_calls_have_their_code() {
    let lan = Lan::new();
    let (file, _) = lan.file("image.bin", 6_000_000);
    let receiver = lan.receive(2, &[]);
    let mut sending = lan.sending(&file, &[2], 8_000_000);
    let sender = lan.hub.spawn("send", &mut sending).unwrap();
    wait_for(&receiver, |event| event["held"].as_u64().is_some_and(|held| held > 0));
    sender.terminate();
    // Not everybody has everything.
    assert_eq!(sender.wait(SOON).unwrap().code(), Some(1));
    receiver.interrupt();
    assert_eq!(receiver.wait(SOON).unwrap().code(), Some(0));
    assert_eq!(summary(&receiver.stdout())["received"], 0);

    let code = |args: &[&str]| {
        let all = ["--hub", "10.9.0.1", "--node", "3", "--into", lan.lab.folder().to_str().unwrap()];
        let mut command = lan.node(3).command(BINARY);
        command.args(["hub", "receive"]).args(all).args(args);
        command::output(&mut command).unwrap().status.code()
    };
    assert_eq!(code(&["--group", "10.1.1.9:6003", "--interface", "eth0"]), Some(2));
    assert_eq!(code(&["--group", "239.1.1.9:6003", "--interface", "eth9"]), Some(2));
    assert_eq!(code(&["--group", "239.1.1.9:6003", "--interface", "eth0", "--keys", "/dev/null"]), Some(2));
    assert_eq!(code(&["--group", "239.1.1.9:6003"]), Some(2));
}

/// An appliance with a store, which gives contents out where the host itself asks.
const HUB: &str = r#"
[hub]
store_path = "hub"
budget_bytes = 100_000_000
http_listen = "127.0.0.1:8080"
[[hub.site]]
carriage = "ethernet"
port = "lan"
group = "239.1.1.9"
rate_bits_per_second = 100_000_000
nodes = [{ id = 2, address = "198.51.100.21", groups = ["camera"] }]
"#;

#[test]
fn contents_are_put_into_an_appliance_listed_verified_and_given_out() {
    let site = Site { tables: HUB, ..Site::default() };
    let world = World::without_node(Shape::TwoPort, site);
    let (folder, host) = (world.edge.lab().folder().to_owned(), world.edge.appliance.clone());
    let text: String = (0..40_000).map(|line| format!("{line:07}\n")).collect();
    let file = world.edge.lab().write("image.bin", &text).unwrap();
    let ask = |args: &str| -> Value {
        serde_json::from_str(&world.appliance.ask(&format!("{args} --json")).unwrap()).unwrap()
    };
    let put = ask(&format!("hub put {} --group camera --name firmware.bin", file.display()));
    assert_eq!((&put[0]["taken"]["version"], &put[0]["taken"]["complete"]), (&1.into(), &true.into()));
    let list = ask("hub list");
    assert_eq!((&list[0]["name"], &list[0]["group"]), (&"firmware.bin".into(), &"camera".into()));
    let status = ask("hub status");
    assert_eq!(
        (&status["budget_bytes"], &status["counters"]["contents_complete"]),
        (&100_000_000.into(), &1.into())
    );
    let shown = world.appliance.ask("hub status").unwrap();
    assert!(shown.contains("camera/firmware.bin version 1, 320000 bytes, 100.0 % here"), "{shown}");

    let url = "http://127.0.0.1:8080/content/camera/firmware.bin";
    let range = host.run(&format!("curl -sS --fail -r 100000-100063 {url}")).unwrap();
    assert_eq!(range, text[100_000..100_064]);
    assert_eq!(ask("hub verify")[0]["damaged"], Value::Array(Vec::new()));

    // Nobody else opens the store meanwhile.
    let offline = |args: &[&str]| {
        let mut command = host.command(BINARY);
        command.args(["hub"]).args(args).arg("--store").arg(folder.join("hub"));
        command::output(&mut command).unwrap()
    };
    assert_eq!(offline(&["list"]).status.code(), Some(3));
    let World { appliance, mut edge, .. } = world;
    assert!(appliance.stop().unwrap().success());
    // And what was put is there afterwards, a flipped bit aside.
    let listed = offline(&["list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let root = listed[0]["root"].as_str().unwrap().to_owned();
    assert_eq!(offline(&["verify", "firmware.bin"]).status.code(), Some(0));
    let blob = folder.join("hub/blobs").join(&root[..2]).join(&root);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let verified = offline(&["verify", "firmware.bin", "--json"]);
    assert_eq!(verified.status.code(), Some(1));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified[0]["damaged"], serde_json::json!([{ "start": 65_536, "end": 131_072 }]));
    assert_eq!(offline(&["put", "/nowhere"]).status.code(), Some(2));
    edge.inspect().unwrap();
}

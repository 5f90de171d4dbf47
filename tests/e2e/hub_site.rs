//! The content hub of an appliance: contents that are put into it get to the nodes of its site, and repairs to those alone; or one way
//! to receivers that can't answer.

use std::path::PathBuf;
use std::time::Duration;

use millrace_hw_tests::edge::{Appliance, Driver};
use millrace_hw_tests::lab::{Host, Lab, Look, Process, wait_until};
use serde_json::Value;

use crate::world::BINARY;

/// A transfer of some seconds, on a busy machine.
const DONE: Duration = Duration::from_secs(120);
const NODES: std::ops::RangeInclusive<usize> = 2..=4;

/// An appliance with a hub, and three nodes on one bridge. Fields go in this order.
struct Site {
    appliance: Option<Appliance>,
    nodes: Vec<Host>,
    _switch: Host,
    edge: Host,
    lab: Lab,
}

impl Site {
    /// A site whose nodes say what they miss.
    fn new(carriage: &str) -> Self {
        let list: String = NODES
            .map(|node| {
                let groups = if node == 3 { ", groups = [\"camera\"]" } else { "" };
                format!("  {{ id = {node}, address = \"10.9.0.{node}\"{groups} }},\n")
            })
            .collect();
        Self::with(&format!("carriage = \"{carriage}\"\nnodes = [\n{list}]\n"))
    }

    /// A site that these keys tell of.
    fn with(keys: &str) -> Self {
        let lab = Lab::new().unwrap();
        let (edge, switch) = (lab.host("edge").unwrap(), lab.host("switch").unwrap());
        // Without snooping it floods, as the plainest switch does.
        switch.run("ip link add br0 type bridge mcast_snooping 0").unwrap();
        switch.run("ip link set br0 up").unwrap();
        edge.wire("lan", &switch, "hub").unwrap();
        edge.leave_to_dpdk("lan").unwrap();
        switch.run("ip link set hub master br0").unwrap();
        let nodes = NODES.map(|node| {
            let host = lab.host(&format!("node{node}")).unwrap();
            switch.wire(&format!("p{node}"), &host, "eth0").unwrap();
            switch.run(&format!("ip link set p{node} master br0")).unwrap();
            host.address("eth0", &format!("10.9.0.{node}/24")).unwrap();
            host
        });
        let nodes = nodes.collect();
        let site = Self { appliance: None, nodes, _switch: switch, edge, lab };
        let text = format!(
            "schema_version = 1\n[site]\nname = \"hub\"\n\
             [[port]]\nname = \"lan\"\ndevice = \"{}\"\naddresses = [\"10.9.0.1/24\"]\n\
             [telemetry]\ncontrol_socket = \"{}\"\n\
             [hub]\nid = 5\nstore_path = \"hub\"\nbudget_bytes = 200_000_000\n\
             [[hub.site]]\nname = \"house\"\nport = \"lan\"\ngroup = \"239.1.1.9\"\n\
             rate_bits_per_second = 40_000_000\n{keys}",
            Driver::AfXdp.device(0, "lan", 1),
            site.socket().display(),
        );
        site.lab.write("edge.toml", &text).unwrap();
        site
    }

    fn socket(&self) -> PathBuf {
        self.lab.folder().join("edge.sock")
    }

    fn start(&mut self) {
        let file = self.lab.folder().join("edge.toml");
        let path = std::path::Path::new(BINARY);
        let appliance = Appliance::launch(&self.edge, path, &file, &self.socket(), Driver::AfXdp).unwrap();
        appliance.wait_until_up().unwrap();
        self.appliance = Some(appliance);
    }

    fn appliance(&self) -> &Appliance {
        self.appliance.as_ref().expect("it was started")
    }

    fn node(&self, number: usize) -> &Host {
        &self.nodes[number - NODES.start()]
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

    /// Begins to receive; back once the node listens.
    fn receive(&self, node: usize) -> Process {
        self.receive_as(node, &["--hub-number", "5", "--node", &node.to_string()])
    }

    fn receive_as(&self, node: usize, more: &[&str]) -> Process {
        let host = self.node(node);
        let mut command = host.command(BINARY);
        command.args(["hub", "receive", "--group", "239.1.1.9:6003", "--interface", "eth0"]);
        command.args(["--hub", "10.9.0.1", "--json"]).args(more);
        command.arg("--into").arg(self.folder(node));
        let process = host.spawn(&format!("receive{node}"), &mut command).unwrap();
        let listens = || match process.stdout().contains("listening") {
            true => Look::Done(()),
            false => Look::NotYet(process.stdout()),
        };
        process.wait_until("it to listen", DONE, listens).unwrap();
        process
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.lab.folder().join(format!("contents{node}"))
    }

    fn ask(&self, what: &str) -> Value {
        serde_json::from_str(&self.appliance().ask(&format!("hub {what} --json")).unwrap()).unwrap()
    }

    /// Waits until what became of a content at its nodes is this; the last status.
    fn wait_for(&self, name: &str, states: &[(u32, &str)]) -> Value {
        let wanted: Vec<Value> =
            states.iter().map(|(node, state)| serde_json::json!([node, state])).collect();
        let mut last = Value::Null;
        let done = || {
            last = self.ask("status");
            let contents = last["contents"].as_array().unwrap();
            let Some(content) = contents.iter().find(|one| one["name"] == name) else { return false };
            let nodes = content["nodes"].as_array().unwrap();
            nodes
                .iter()
                .map(|node| serde_json::json!([node["node"], node["state"]]))
                .eq(wanted.iter().cloned())
        };
        wait_until("the nodes to have it", DONE, done)
            .unwrap_or_else(|error| panic!("{error}: {}", self.ask("status")));
        self.ask("status")
    }

    fn same(&self, node: usize, name: &str, text: &str) {
        let there = std::fs::read_to_string(self.folder(node).join(name)).unwrap();
        assert!(there == text, "node {node} has something else");
    }
}

const ALL_ACKED: [(u32, &str); 3] = [(2, "acked"), (3, "acked"), (4, "acked")];

/// Puts a file to three nodes, of which one loses 5 %; what was repaired on each leg.
fn repairs(carriage: &str) -> [u64; 3] {
    let mut site = Site::new(carriage);
    site.lose(3, 50);
    site.start();
    let nodes: Vec<Process> = NODES.map(|node| site.receive(node)).collect();
    let (file, text) = site.file("image.bin", 4_000_000);
    site.ask(&format!("put {}", file.display()));
    let status = site.wait_for("image.bin", &ALL_ACKED);
    NODES.for_each(|node| site.same(node, "image.bin", &text));
    // What is for a group comes to its nodes alone.
    let (file, text) = site.file("firmware.bin", 3_000_000);
    site.ask(&format!("put {} --group camera", file.display()));
    let later = site.wait_for("firmware.bin", &[(3, "acked")]);
    site.same(3, "firmware.bin", &text);
    let first =
        |status: &Value, node: &str| status["sites"][0]["legs"][node]["first_bytes"].as_u64().unwrap();
    for node in ["2", "4"] {
        assert_eq!(first(&status, node), first(&later, node), "node {node} is sent nothing of it: {later}");
        assert!(!site.folder(node.parse().unwrap()).join("firmware.bin").exists());
    }
    drop(nodes);
    assert!(site.appliance.take().unwrap().stop().unwrap().success());
    site.lab.inspect().unwrap();
    ["2", "3", "4"].map(|node| status["sites"][0]["legs"][node]["repair_packets"].as_u64().unwrap())
}

#[test]
fn on_a_lan_repairs_are_frames_to_the_node_that_missed_something() {
    let repairs = repairs("ethernet");
    // 5 % of 2858 segments are 143.
    assert!(repairs[1] > 70 && repairs[0] == 0 && repairs[2] == 0, "{repairs:?}");
}

#[test]
fn by_ip_multicast_repairs_are_packets_to_the_nodes_own_address() {
    let repairs = repairs("ip-multicast");
    assert!(repairs[1] > 70 && repairs[0] == 0 && repairs[2] == 0, "{repairs:?}");
}

/// Puts a file to two receivers that can't answer, each of which loses 5 %; what left the hub.
fn one_way(keys: &str, over: impl Fn(&Value) -> bool) {
    let mut site = Site::with(keys);
    let receivers = [2, 3];
    receivers.iter().for_each(|node| site.lose(*node, 50));
    site.start();
    let nodes = receivers.map(|node| site.receive_as(node, &["--tsi", "7", "--count", "1"]));
    let (file, text) = site.file("image.bin", 3_000_000);
    let put = site.ask(&format!("put {} --name image-v2.bin", file.display()));
    assert_eq!(put[0]["taken"]["complete"], true, "{put}");
    for (node, process) in receivers.into_iter().zip(&nodes) {
        assert!(process.wait(DONE).unwrap().success(), "{}", site.ask("status"));
        site.same(node, "image-v2.bin", &text);
        let told: Vec<Value> =
            process.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let received = told.iter().find(|event| event["event"] == "received");
        assert_eq!(received.map(|event| &event["verified"]), Some(&true.into()), "{told:?}");
    }
    wait_until("its passes to be sent", DONE, || over(&site.ask("status")["sites"][0]["trunk"]))
        .unwrap_or_else(|error| panic!("{error}: {}", site.ask("status")));
    let status = site.ask("status");
    // Who can't answer is owed nothing.
    assert_eq!(status["contents"][0]["nodes"], serde_json::json!([]), "{status}");
    drop(nodes);
    assert!(site.appliance.take().unwrap().stop().unwrap().success());
    site.lab.inspect().unwrap();
}

#[test]
fn receivers_that_cannot_answer_have_a_file_whole_by_raptorq() {
    // 2143 source symbols, and for each of three blocks a fifth of its own.
    one_way(
        "profile = \"flute\"\ncarriage = \"ethernet\"\ntsi = 7\npasses = 1\noverhead_percent = 20\n",
        |trunk| trunk["first_packets"] == 2143 && trunk["repair_packets"] == 3 * 143,
    );
}

#[test]
fn receivers_that_cannot_answer_have_a_file_whole_after_some_passes() {
    one_way(
        "profile = \"flute\"\ncarriage = \"ip-multicast\"\ntsi = 7\ncode = \"none\"\npasses = 8\n",
        |trunk| trunk["first_packets"] == 2143 && trunk["repair_packets"] == 7 * 2143,
    );
}

#[test]
fn what_is_sent_one_way_begins_anew_after_a_restart_and_what_was_sent_is_not_sent_again() {
    // Two passes, for a packet may be lost on a busy machine.
    let keys = "profile = \"flute\"\ncarriage = \"ethernet\"\ntsi = 7\ncode = \"none\"\npasses = 2\n";
    let mut site = Site::with(keys);
    site.start();
    let (file, _) = site.file("old.bin", 14_000);
    site.ask(&format!("put {}", file.display()));
    let packets = |site: &Site| {
        let trunk = &site.ask("status")["sites"][0]["trunk"];
        ["first_packets", "repair_packets"].map(|kind| trunk[kind].as_u64().unwrap()).iter().sum::<u64>()
    };
    wait_until("the small one to be sent", DONE, || packets(&site) == 20).unwrap();
    // 4 s a pass at the site's rate.
    let (file, text) = site.file("new.bin", 20_000_000);
    site.ask(&format!("put {}", file.display()));
    wait_until("the large one to be under way", DONE, || packets(&site) > 1000).unwrap();
    site.appliance.take().unwrap().process().kill().unwrap();

    let node = site.receive_as(2, &["--tsi", "7", "--count", "1"]);
    site.start();
    assert!(node.wait(DONE).unwrap().success());
    site.same(2, "new.bin", &text);
    assert!(!site.folder(2).join("old.bin").exists());
    wait_until("the passes of the large one to be sent", DONE, || packets(&site) >= 28_572).unwrap();
    assert_eq!(packets(&site), 28_572);
    drop(node);
    assert!(site.appliance.take().unwrap().stop().unwrap().success());
    site.lab.inspect().unwrap();
}

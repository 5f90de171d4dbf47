//! A hub that takes content in by plain multicast, behind a switch that lets groups through to those alone who say that they listen:
//! the kernel's bridge, which asks, and listens to the answers.
//!
//! ```text
//!   source ──┐
//!            ├── bridge with snooping ── lan ── appliance with a hub
//!   other  ──┘   and a querier
//! ```

use std::path::PathBuf;
use std::time::Duration;

use millrace_hw_tests::edge::{Appliance, Driver};
use millrace_hw_tests::lab::{Capture, Host, Lab, Look, command, wait_until};
use serde_json::Value;

use crate::world::{BINARY, SOON};

/// A transfer of some seconds, on a busy machine.
const DONE: Duration = Duration::from_secs(120);
/// One source's group, and everybody's, in both families.
const GROUPS: [&str; 4] = ["232.1.1.7", "239.1.1.7", "ff3e::7", "ff1e::7"];
const SOURCE: &str = "10.9.0.2";

/// Fields go in this order.
struct Bench {
    appliance: Appliance,
    source: Host,
    other: Host,
    switch: Host,
    edge: Host,
    lab: Lab,
}

impl Bench {
    /// With a switch that asks by these versions.
    fn new(igmp: u8, mld: u8) -> Self {
        let lab = Lab::new().unwrap();
        let [switch, edge, source, other] =
            ["switch", "edge", "source", "other"].map(|name| lab.host(name).unwrap());
        // Times are in hundredths of a second: it asks each second, and who doesn't answer is gone after three.
        let times = "mcast_query_interval 100 mcast_query_response_interval 50 mcast_membership_interval 300 \
                     mcast_startup_query_interval 50 mcast_last_member_interval 20";
        switch
            .run(&format!(
                "ip link add br0 type bridge mcast_snooping 1 mcast_igmp_version {igmp} \
                 mcast_mld_version {mld} {times}"
            ))
            .unwrap();
        switch.run("ip link set br0 up").unwrap();
        // It floods for as long as answers may take that it knew of when it began to ask.
        switch.run("ip link set br0 type bridge mcast_querier 1").unwrap();
        for (port, host, interface) in
            [("hub", &edge, "lan"), ("source", &source, "eth0"), ("other", &other, "eth0")]
        {
            switch.wire(port, host, interface).unwrap();
            switch.run(&format!("ip link set {port} master br0")).unwrap();
        }
        edge.leave_to_dpdk("lan").unwrap();
        source.address("eth0", &format!("{SOURCE}/24")).unwrap();
        other.address("eth0", "10.9.0.3/24").unwrap();
        let socket = lab.folder().join("edge.sock");
        let accept = GROUPS.iter().map(|group| {
            let source = match *group {
                "232.1.1.7" => format!("source = \"{SOURCE}\""),
                "ff3e::7" => "source = \"2001:db8:9::2\"".to_owned(),
                _ => String::new(),
            };
            format!("[[hub.accept]]\nport = \"lan\"\ngroup = \"{group}\"\nprofile = \"norm\"\n{source}\n")
        });
        let text = format!(
            "schema_version = 1\n[site]\nname = \"hub\"\n\
             [[port]]\nname = \"lan\"\ndevice = \"{}\"\naddresses = [\"10.9.0.1/24\", \"2001:db8:9::1/64\"]\n\
             [telemetry]\ncontrol_socket = \"{}\"\n\
             [hub]\nid = 5\nstore_path = \"hub\"\nbudget_bytes = 200_000_000\n{}",
            Driver::AfXdp.device(0, "lan", 1),
            socket.display(),
            accept.collect::<String>(),
        );
        let file = lab.write("edge.toml", &text).unwrap();
        let path = PathBuf::from(BINARY);
        let appliance = Appliance::launch(&edge, &path, &file, &socket, Driver::AfXdp).unwrap();
        appliance.wait_until_up().unwrap();
        Self { appliance, source, other, switch, edge, lab }
    }

    /// What the switch knows of a group: its ports, and the sources that each wants.
    fn members(&self, group: &str) -> Vec<(String, Vec<String>)> {
        let shown: Value = serde_json::from_str(&self.switch.run("bridge -j -d mdb show").unwrap()).unwrap();
        let rows = shown[0]["mdb"].as_array().cloned().unwrap_or_default();
        let of_group = rows.into_iter().filter(|row| row["grp"] == group && row["src"].is_null());
        let member = |row: Value| {
            let sources = row["source_list"].as_array().cloned().unwrap_or_default();
            let sources =
                sources.iter().map(|source| source["address"].as_str().unwrap().to_owned()).collect();
            (row["port"].as_str().unwrap().to_owned(), sources)
        };
        of_group.map(member).collect()
    }

    fn wait_for_members(&self, are: impl Fn(&str, &[(String, Vec<String>)]) -> bool) {
        for group in GROUPS {
            wait_until("the switch to know", SOON, || {
                let members = self.members(group);
                match are(group, &members) {
                    true => Look::Done(()),
                    false => Look::NotYet(format!("{group}: {members:?}")),
                }
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", self.switch.run("bridge -d mdb show").unwrap()));
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.appliance.show("link").unwrap()["counters"][name].as_u64().unwrap()
    }

    /// Waits until the hub was asked so often more.
    fn wait_for_questions(&self, more: u64) {
        let before = self.counter("joins_queries");
        wait_until("the switch to ask", SOON, || self.counter("joins_queries") >= before + more).unwrap();
    }
}

/// The switch knows of the hub, and with version 3 of its sources; it goes on to while it asks, and no longer than the hub runs.
fn a_switch_knows(igmp: u8, mld: u8) {
    let bench = Bench::new(igmp, mld);
    let sources = |group: &str| match group {
        "232.1.1.7" if igmp == 3 => vec![SOURCE.to_owned()],
        "ff3e::7" if mld == 2 => vec!["2001:db8:9::2".to_owned()],
        _ => Vec::new(),
    };
    let is_there =
        |group: &str, members: &[(String, Vec<String>)]| *members == [("hub".to_owned(), sources(group))];
    bench.wait_for_members(is_there);
    // In both families, for longer than somebody counts who doesn't answer.
    bench.wait_for_questions(10);
    bench.wait_for_members(is_there);

    let text: String = (0..20_000).map(|line| format!("{line:07}\n")).collect();
    let file = bench.lab.write("image.bin", &text).unwrap();
    let capture = Capture::start(&bench.lab, &bench.other, "eth0", "udp port 6003").unwrap();
    let mut send = bench.source.command(BINARY);
    send.args(["hub", "send", "--group", "232.1.1.7:6003", "--interface", "eth0", "--address", SOURCE]);
    send.args(["--hub-number", "7", "--nodes", "5=10.9.0.1", "--bits-per-second", "20000000"]).arg(file);
    let sending = bench.source.spawn("send", &mut send).unwrap();
    assert!(sending.wait(DONE).unwrap().success(), "{}", sending.stderr());
    // It is shown once a second.
    wait_until("the hub to show it", SOON, || {
        let status: Value = serde_json::from_str(&bench.appliance.ask("hub status --json").unwrap()).unwrap();
        let rules = status["rules"].as_array().unwrap();
        match rules.iter().map(|rule| &rule["counters"]["taken"]).eq([1, 0, 0, 0].iter()) {
            true => Look::Done(()),
            false => Look::NotYet(status["rules"].to_string()),
        }
    })
    .unwrap();
    assert!(capture.finish().unwrap().is_empty(), "nobody else is sent anything of it");

    // From now on nothing but a word makes the switch forget it.
    bench.switch.run("ip link set br0 type bridge mcast_membership_interval 360000").unwrap();
    bench.wait_for_questions(4);
    let Bench { appliance, switch, lab, source, other, edge } = bench;
    let fates = appliance.fates().unwrap();
    assert_eq!(fates.unexplained(), 0, "{fates:?}");
    assert!(appliance.stop().unwrap().success());
    let forgotten = || {
        let known = switch.run("bridge mdb show").unwrap();
        match GROUPS.iter().any(|group| known.contains(group)) {
            false => Look::Done(()),
            true => Look::NotYet(known),
        }
    };
    wait_until("the switch to forget", SOON, forgotten).unwrap();
    drop((source, other, edge));
    lab.inspect().unwrap();
}

#[test]
fn a_switch_that_snoops_lets_through_what_the_hub_listens_to() {
    a_switch_knows(3, 2);
}

#[test]
fn and_one_that_asks_by_older_versions() {
    a_switch_knows(2, 1);
}

/// Whatever else is said, it is what it has to be for others.
#[test]
fn tcpdump_reads_what_the_hub_says() {
    let bench = Bench::new(3, 2);
    let mut dump = bench.switch.command("tcpdump");
    dump.args(["-i", "hub", "-n", "-vv", "-l", "--immediate-mode", "-c", "12"]);
    let mac = bench.edge.run("cat /sys/class/net/lan/address").unwrap();
    // MLD is behind the option for routers.
    dump.arg(format!("ether src {} and (igmp or (ip6[6] == 0 and ip6[48] == 143))", mac.trim()));
    let text = command::succeed(&mut dump).unwrap();
    for word in [
        "> 224.0.0.22: igmp v3 report, 2 group record(s)",
        "[gaddr 232.1.1.7 is_in { 10.9.0.2 }]",
        "[gaddr 239.1.1.7 is_ex { }]",
        "options (RA)",
        "> ff02::16: HBH (rtalert: 0x0000)",
        "[icmp6 sum ok] ICMP6, multicast listener report v2, 2 group record(s)",
        "[gaddr ff3e::7 is_in { 2001:db8:9::2 }]",
        "[gaddr ff1e::7 is_ex { }]",
    ] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    assert!(!text.contains("bad"), "{text}");
    let Bench { appliance, lab, .. } = &bench;
    appliance.fates().unwrap();
    lab.inspect().unwrap();
}

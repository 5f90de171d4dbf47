//! Whole files: what is accepted, and what a wrong one is told.

mod bier;
mod hub;
mod mistakes;
mod report;
mod views;

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_config::model::*;
use millrace_config::{Code, Config, Report};

const EXAMPLE: &str = include_str!("../edge.toml");

/// The smallest file there is.
const SMALLEST: &str = r#"
schema_version = 1
[site]
name = "here"
[[port]]
name = "wan"
device = "net_ring0"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
"#;

const VLAN_20: VlanTag = VlanTag { outer: None, id: VlanId(20) };

/// A file that uses most of what is built; tests change one thing in it.
const FULL: &str = r#"
schema_version = 1
[site]
name = "here"
[cores]
controller = { cpus = "0" }
dataplane = { cpus = "1-2" }
[[port]]
name = "wan"
device = "net_ring0"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
[[port]]
name = "lan"
device = "net_ring1"
addresses = ["198.51.100.1/24"]
vlans = [{ id = 20, addresses = ["10.20.0.1/24"] }]
[[route]]
to = "0.0.0.0/0"
via = "192.0.2.254"
[[neighbour]]
address = "10.20.0.7"
mac = "02:00:00:00:00:07"
port = "lan"
[dns]
listen = ["192.0.2.53"]
[[dns.zone]]
name = "fn.example."
soa = { primary = "ns1.fn.example.", contact = "ops.fn.example." }
records = [{ name = "@", type = "NS", data = "ns1" }, { name = "ns1", type = "A", data = "192.0.2.53" }]
[[function]]
name = "hello"
component = "hello.wasm"
[[service]]
name = "hello"
names = ["hello.fn.example."]
address = ["203.0.113.10"]
ports = ["tcp/80"]
function = "hello"
[[service]]
name = "web"
address = ["203.0.113.20"]
ports = ["tcp/80", "udp/443"]
backends = [{ address = "198.51.100.8" }]
[orchestrator]
kind = "embedded"
listen = "127.0.0.1:7443"
[[orchestrator.node]]
name = "fn1"
address = "198.51.100.21"
"#;

fn refused(text: &str) -> Report {
    Config::parse("test.toml", text).expect_err("the file is wrong")
}

/// The codes and the texts underlined, in the order of the file.
fn told(text: &str) -> Vec<(Code, String)> {
    refused(text).diagnostics().iter().map(|d| (d.code, text[d.span.clone()].to_owned())).collect()
}

/// What is written in the file, what instead, what that is told, and what is underlined.
type Mistake = (&'static str, &'static str, Code, &'static str);

/// Each mistake in the file is told, and nothing else.
fn each_is_one_error(file: impl Fn(&str, &str) -> String, mistakes: &[Mistake]) {
    let wrong = mistakes.iter().filter_map(|(from, to, code, underlined)| {
        let text = file(from, to);
        let found = match Config::parse("file.toml", &text) {
            Ok(_) => return Some(format!("{from} -> {to}: accepted")),
            Err(_) => told(&text),
        };
        (found != [(*code, (*underlined).to_owned())]).then(|| format!("{from} -> {to}: {found:?}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Changes the full file in one place, which must be there.
fn with(from: &str, to: &str) -> String {
    assert!(FULL.contains(from), "`{from}` isn't in the file");
    FULL.replacen(from, to, 1)
}

#[test]
fn the_example_is_accepted_less_what_is_not_built() {
    let report = refused(EXAMPLE);
    let named: Vec<_> = report.diagnostics().iter().map(|d| (d.code, d.message.as_str())).collect();
    let expected =
        ["`function.lifecycle = \"reuse\"` isn't built yet", "`function.objective` isn't built yet"];
    assert_eq!(named, expected.map(|message| (Code::NotBuilt, message)));
}

#[test]
fn the_example_without_those_keys_has_the_values_it_says() {
    let built = |line: &&str| !["lifecycle", "objective"].iter().any(|key| line.starts_with(key));
    let text: Vec<_> = EXAMPLE.lines().filter(built).collect();
    let config = Config::parse("edge.toml", &text.join("\n")).unwrap_or_else(|report| panic!("{report}"));

    assert_eq!(config.site.name.as_str(), "edge-42");
    assert_eq!(config.cores.dataplane.cores, CoreSet::Rest);
    assert_eq!(config.ports[0].device, Device::Pci("0000:3b:00.0".into()));
    assert_eq!(config.ports[1].vlans[0].tag, VLAN_20);
    assert_eq!(config.routes[0].interface, Interface { port: PortIndex(0), vlan: None });
    assert_eq!(config.neighbours[0].interface.port, PortIndex(1));
    let dns = config.dns.as_ref().unwrap();
    assert!(dns.intercept && dns.listen.len() == 2);
    assert_eq!(dns.zones[0].records[1].name.as_str(), "ns1.fn.example.");
    assert_eq!(dns.zones[0].records[1].ttl, Duration::from_secs(30));
    assert_eq!(dns.zones[0].cold_ttl, Duration::from_secs(1));
    assert_eq!(config.functions[0].deadline, Duration::from_secs(2));
    let hello = config.services[0].on_demand().unwrap();
    assert_eq!(config.function(hello.function).name.as_str(), "hello");
    assert_eq!(hello.trigger, Triggers { dns: true, syn: true, flow: false });
    assert_eq!(
        hello.hold,
        Hold { packets: 512, deadline: Duration::from_millis(900), overflow: Overflow::Upstream }
    );
    assert_eq!(config.services[1].backends()[0].weight.get(), 2);
    assert_eq!(config.services[1].ports[2].to_string(), "udp/443");
    assert_eq!(config.limits.flows_per_worker, 1_048_576);
    assert_eq!(config.orchestrator.security, Security::Plaintext);
    assert_eq!(config.telemetry.metrics_listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.on_link("10.20.0.9".parse().unwrap()).unwrap().vlan, Some(VLAN_20));
    let bier = config.bier.unwrap();
    let names: Vec<_> = bier.subdomains[0].neighbours.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names, bier.subdomains[0].ecmp_tables), (vec!["p2", "p3"], 4));
    assert_eq!(bier.overlays[0].receivers.as_ref().unwrap().to_string(), "1-3,66");
}

#[test]
fn a_vlan_may_be_inside_another_and_its_id_once_in_each() {
    let text = FULL.replace(
        "{ id = 20,",
        "{ id = 20, outer = 100, addresses = [\"10.30.0.1/24\"] }, { id = 20, outer = 101 }, { id = 20,",
    );
    let config = Config::from_bytes("edge.toml", text.as_bytes()).unwrap();
    let inside = VlanTag { outer: Some(VlanId(100)), id: VlanId(20) };
    assert_eq!(config.on_link("10.30.0.9".parse().unwrap()).unwrap().vlan, Some(inside));
    assert_eq!((inside.to_string(), VLAN_20.to_string()), ("100.20".into(), "20".into()));
    assert_eq!(config.ports[1].vlans.len(), 3);
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let config = Config::parse("s.toml", SMALLEST).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.ports[0].mtu_bytes, 1500);
    assert_eq!(config.cores.controller.cores, CoreSet::Count(1.try_into().unwrap()));
    assert_eq!(config.memory, Memory { hugepages: Hugepages::Auto, frames_per_port: 16384 });
    assert_eq!(config.nat.port_range.to_string(), "16384-65535");
    assert_eq!(config.roles, Roles { dns: false, balancer: false });
    assert_eq!(config.telemetry.control_socket.to_str(), Some("/run/millrace/control.sock"));
    let OrchestratorKind::Embedded { listen, nodes } = config.orchestrator.kind else {
        panic!("embedded by default")
    };
    assert!(listen.ip().is_loopback() && nodes.is_empty());
}

#[test]
fn the_full_file_is_right() {
    let config = Config::parse("f.toml", FULL).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.neighbours[0].interface, Interface { port: PortIndex(1), vlan: Some(VLAN_20) });
    assert_eq!(
        config.services[0].on_demand().unwrap().trigger,
        Triggers { dns: true, syn: true, flow: false }
    );
}

#[test]
fn moving_a_line_changes_nothing() {
    let moved = FULL.replace("[cores]", "# a remark\n\n[cores]");
    assert_eq!(Config::parse("a", FULL).unwrap(), Config::parse("b", &moved).unwrap());
}

#[test]
fn a_service_that_any_packet_wakes_has_its_addresses_for_itself() {
    let flow = "function = \"hello\"\ntrigger = [\"dns\", \"flow\"]\nverify_before_wake = \"second-syn\"";
    let alone = with("function = \"hello\"", flow);
    let config = Config::parse("test.toml", &alone).unwrap_or_else(|report| panic!("{report}"));
    let trigger = config.services[0].on_demand().unwrap().trigger;
    assert_eq!(trigger, Triggers { dns: true, syn: false, flow: true });
    // Ports tell services apart, but not for who doesn't look at them.
    let shared = |text: &str| {
        text.replace("ports = [\"tcp/80\"]", "ports = [\"tcp/8080\"]").replace("203.0.113.10", "203.0.113.20")
    };
    assert!(Config::parse("test.toml", &shared(FULL)).is_ok());
    assert_eq!(told(&shared(&alone)), [(Code::Conflict, "\"203.0.113.20\"".to_owned())]);
    let report = refused(&shared(&alone)).to_string();
    assert!(
        report.contains("another service has it, too") && report.contains("looks at no ports"),
        "{report}"
    );
    let with_dns = |text: &str| text.replace("address = [\"203.0.113.10\"]", "address = [\"192.0.2.53\"]");
    assert!(Config::parse("test.toml", &with_dns(FULL)).is_ok());
    assert_eq!(told(&with_dns(&alone)), [(Code::Conflict, "\"192.0.2.53\"".to_owned())]);
}

#[test]
fn what_is_carried_whole_may_be_of_either_family() {
    for (word, forwarding) in [
        ("l2", Forwarding::L2),
        ("ipip", Forwarding::Ipip),
        ("gue", Forwarding::Gue),
        ("nat", Forwarding::Nat),
    ] {
        let text = with("\"203.0.113.20\"]", &format!("\"2001:db8:f::20\"]\nforwarding = \"{word}\""));
        match forwarding {
            Forwarding::Nat => {
                assert_eq!(told(&text), [(Code::Conflict, "\"2001:db8:f::20\"".to_owned())]);
            }
            _ => assert_eq!(Config::parse("test.toml", &text).unwrap().services[1].forwarding, forwarding),
        }
    }
}

#[test]
fn a_link_to_another_host_is_protected_or_said_not_to_be() {
    let grpc = |keys: &str| {
        let at = FULL.find("[orchestrator]").unwrap();
        format!("{}[orchestrator]\nkind = \"grpc\"\n{keys}\n", &FULL[..at])
    };
    let security = |keys: &str| Config::parse("o", &grpc(keys)).map(|config| config.orchestrator.security);
    let tls = "tls = { cert = \"file:a\", key = \"file:b\", ca = \"file:c\" }";
    assert!(matches!(security(&format!("endpoint = \"https://o.example:1\"\n{tls}")), Ok(Security::Tls(_))));
    assert_eq!(security("endpoint = \"http://127.0.0.1:1\"").unwrap(), Security::Plaintext);
    assert_eq!(security("endpoint = \"http://o.example:1\"\ninsecure = true").unwrap(), Security::Plaintext);
    assert_eq!(told(&grpc("endpoint = \"http://o.example:1\""))[0].0, Code::Insecure);
    assert_eq!(told(&grpc("endpoint = \"https://o.example:1\""))[0].0, Code::Conflict);
    assert_eq!(told(&grpc(&format!("endpoint = \"http://o.example:1\"\n{tls}")))[0].0, Code::Conflict);
    assert_eq!(told(&grpc(""))[0].0, Code::MissingKey);
}

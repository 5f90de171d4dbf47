//! Whole files: what is accepted, and what a wrong one is told.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_config::model::*;
use millrace_config::{Code, Config, Report};

const EXAMPLE: &str = include_str!("edge.toml");

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

/// Changes the full file in one place, which must be there.
fn with(from: &str, to: &str) -> String {
    assert!(FULL.contains(from), "`{from}` isn't in the file");
    FULL.replacen(from, to, 1)
}

#[test]
fn the_example_is_accepted_less_what_is_not_built() {
    let report = refused(EXAMPLE);
    let named: Vec<_> = report.diagnostics().iter().map(|d| (d.code, d.message.as_str())).collect();
    let expected = [
        "`function.lifecycle = \"reuse\"` isn't built yet",
        "`function.objective` isn't built yet",
        "`service.health` isn't built yet",
        "`bier` isn't built yet",
        "`hub` isn't built yet",
    ];
    assert_eq!(named, expected.map(|message| (Code::NotBuilt, message)));
}

#[test]
fn the_example_without_those_keys_has_the_values_it_says() {
    let (before, bier) = EXAMPLE.split_once("[bier]").unwrap();
    let (_, after) = bier.split_once("[orchestrator]").unwrap();
    let built = |line: &&str| !["lifecycle", "objective", "health"].iter().any(|key| line.starts_with(key));
    let text = format!("{before}[orchestrator]{after}");
    let text: Vec<_> = text.lines().filter(built).collect();
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

/// Each row: what is changed into what, and all that the report says.
#[test]
fn one_mistake_is_one_error() {
    use Code::*;
    let rows: &[(&str, &str, Code, &str)] = &[
        ("name = \"wan\"", "nmae = \"wan\"", UnknownKey, "nmae"),
        ("name = \"wan\"", "name = \"wan\"\ncolour = 1", UnknownKey, "colour"),
        ("name = \"wan\"", "", MissingKey, "[[port]]"),
        ("schema_version = 1", "", MissingKey, ""),
        ("schema_version = 1", "schema_version = 2", BadValue, "2"),
        ("name = \"wan\"", "name = 7", WrongType, "7"),
        ("name = \"wan\"", "name = \"two words\"", BadValue, "\"two words\""),
        ("name = \"wan\"", "name = \"lan\"", Duplicate, "\"lan\""),
        ("net_ring1", "net_ring0", Duplicate, "\"net_ring0\""),
        ("net_ring1", "eth1", BadValue, "\"eth1\""),
        ("id = 20", "id = 4095", OutOfRange, "4095"),
        ("2001:db8::1/64\"", "2001:db8::1/64\", \"198.51.100.130/25\"", Overlap, "\"198.51.100.1/24\""),
        ("198.51.100.1/24", "192.0.2.1/24", Duplicate, "\"192.0.2.1/24\""),
        ("192.0.2.254", "203.0.113.254", NotOnLink, "\"203.0.113.254\""),
        ("192.0.2.254", "192.0.2.1", Conflict, "\"192.0.2.1\""),
        ("192.0.2.254", "2001:db8::9", Conflict, "\"2001:db8::9\""),
        ("port = \"lan\"", "port = \"lam\"", UnknownName, "\"lam\""),
        ("port = \"lan\"", "port = \"wan\"", NotOnLink, "\"10.20.0.7\""),
        ("02:00:00:00:00:07", "ff:ff:ff:ff:ff:ff", BadValue, "\"ff:ff:ff:ff:ff:ff\""),
        ("listen = [\"192.0.2.53\"]", "", Conflict, "[dns]"),
        ("name = \"ns1\"", "name = \"ns1.other.\"", OutsideZone, "\"ns1.other.\""),
        ("data = \"192.0.2.53\"", "data = \"2001:db8::53\"", BadValue, "\"2001:db8::53\""),
        ("name = \"@\"", "name = \"sub\"", NotBuilt, "\"NS\""),
        ("type = \"A\"", "type = \"MX\"", BadValue, "\"192.0.2.53\""),
        ("data = \"192.0.2.53\"", "data = \"1.2.3.4\\nx A 1.2.3.4\"", BadValue, "\"1.2.3.4\\nx A 1.2.3.4\""),
        (
            "type = \"A\", data = \"192.0.2.53\"",
            "type = \"MX\", data = \"1 a\\nx A 1.2.3.4\"",
            BadValue,
            "\"1 a\\nx A 1.2.3.4\"",
        ),
        ("type = \"A\"", "type = \"AAA\"", BadValue, "\"AAA\""),
        ("[[dns.zone]]", "cookie_secrets = \"file:x\"\n[[dns.zone]]", Conflict, "\"file:x\""),
        ("[[dns.zone]]", "rate_limit = { slip = 2 }\n[[dns.zone]]", MissingKey, "{ slip = 2 }"),
        ("[[dns.zone]]", "rate_limit = { responses_per_second = 0 }\n[[dns.zone]]", OutOfRange, "0"),
        (
            "[[dns.zone]]",
            "rate_limit = { responses_per_second = 1, per_prefix = { v4 = 33 } }\n[[dns.zone]]",
            OutOfRange,
            "33",
        ),
        ("soa = {", "view = \"inside\"\nsoa = {", UnknownName, "\"inside\""),
        ("[[dns.zone]]", "view = [{ name = \"v\", ports = [\"lan\"] }]\n[[dns.zone]]", Conflict, "\"v\""),
        (
            "[[dns.zone]]",
            "view = [{ name = \"v\" }]\n[[dns.zone]]\nview = \"v\"",
            Conflict,
            "{ name = \"v\" }",
        ),
        (
            "[[dns.zone]]",
            "view = [{ name = \"v\", ports = [\"lam\"] }]\n[[dns.zone]]\nview = \"v\"",
            UnknownName,
            "\"lam\"",
        ),
        (
            "soa = { primary = \"ns1.fn.example.\", contact = \"ops.fn.example.\" }",
            "",
            MissingKey,
            "[[dns.zone]]",
        ),
        ("hello.fn.example.", "hello.example.", OutsideZone, "\"hello.example.\""),
        ("hello.fn.example.", "ns1.fn.example.", Conflict, "\"ns1.fn.example.\""),
        ("{ id = 20,", "{ id = 20 }, { id = 20,", Duplicate, "20"),
        ("{ id = 20,", "{ id = 20, outer = 7 }, { id = 20, outer = 7,", Duplicate, "20"),
        ("{ id = 20,", "{ id = 20, outer = 4095,", OutOfRange, "4095"),
        ("203.0.113.10", "203.0.113.20", Duplicate, "\"203.0.113.20\""),
        ("203.0.113.10", "192.0.2.1", Duplicate, "\"192.0.2.1\""),
        ("\"udp/443\"]", "\"tcp/80\"]", Duplicate, "\"tcp/80\""),
        ("\"udp/443\"]", "\"udp/0\"]", BadValue, "\"udp/0\""),
        ("function = \"hello\"", "function = \"helo\"", UnknownName, "\"helo\""),
        ("component = ", "image = \"x\"\ncomponent = ", NotBuilt, "image"),
        ("component = ", "memory_mib = 8192\ncomponent = ", OutOfRange, "8192"),
        ("component = ", "instances = { min = 20 }\ncomponent = ", Conflict, "20"),
        ("component = ", "lifecycle = \"sticky\"\ncomponent = ", NotBuilt, "\"sticky\""),
        ("component = ", "placement = \"spread\"\ncomponent = ", NotBuilt, "\"spread\""),
        ("function = \"hello\"", "", Conflict, "[[service]]"),
        ("function = \"hello\"", "function = \"hello\"\ntrigger = []", OutOfRange, "[]"),
        ("function = \"hello\"", "function = \"hello\"\ntrigger = [\"syn\", \"syn\"]", Duplicate, "\"syn\""),
        ("ports = [\"tcp/80\"]", "ports = [\"udp/80\"]\nfirst_packet = \"splice\"", Conflict, "\"splice\""),
        ("function = \"hello\"", "function = \"hello\"\nforwarding = \"gue\"", Conflict, "\"gue\""),
        (
            "name = \"web\"",
            "name = \"web\"\nforwarding = \"ipip\"\nsource = \"appliance\"",
            Conflict,
            "\"appliance\"",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"10.9.9.9\" }]\nforwarding = \"l2\"",
            NotOnLink,
            "\"10.9.9.9\"",
        ),
        (
            "function = \"hello\"",
            "function = \"hello\"\nverify_before_wake = \"cookie\"",
            Conflict,
            "\"cookie\"",
        ),
        (
            "function = \"hello\"",
            "function = \"hello\"\ntrigger = [\"syn\", \"flow\"]\nfirst_packet = \"splice\"\nverify_before_wake = \"cookie\"",
            Conflict,
            "\"cookie\"",
        ),
        (
            "function = \"hello\"",
            "function = \"hello\"\ntrigger = [\"dns\"]\nverify_before_wake = \"second-syn\"",
            Conflict,
            "\"second-syn\"",
        ),
        ("function = \"hello\"", "function = \"hello\"\nhold = { deadline_ms = 3001 }", OutOfRange, "3001"),
        (
            "function = \"hello\"",
            "function = \"hello\"\nhold = { overflow = \"fallback\" }",
            Conflict,
            "\"fallback\"",
        ),
        (
            "function = \"hello\"",
            "function = \"hello\"\nbackends = [{ address = \"198.51.100.9\" }]",
            Conflict,
            "[{ address = \"198.51.100.9\" }]",
        ),
        (
            "ports = [\"tcp/80\"]",
            "ports = [\"tcp/80\", \"udp/80\"]\nhold = { overflow = \"rst\" }",
            Conflict,
            "\"rst\"",
        ),
        ("ports = [\"tcp/80\"]", "ports = [\"udp/80\"]\ntrigger = [\"syn\"]", Conflict, "\"syn\""),
        ("names = [\"hello.fn.example.\"]", "dns_answer = \"when-ready\"", Conflict, "\"when-ready\""),
        ("address = \"198.51.100.8\"", "address = \"2001:db8::8\"", Conflict, "\"203.0.113.20\""),
        ("address = \"198.51.100.8\"", "address = \"198.51.100.8\", weight = 0", OutOfRange, "0"),
        ("name = \"web\"", "name = \"web\"\nfirst_packet = \"hold\"", Conflict, "\"hold\""),
        ("name = \"web\"", "name = \"web\"\nhealth = {}", NotBuilt, "health"),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x01\" }]",
            Conflict,
            "\"0x01\"",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\" }]\nquic = { server_id_bytes = 1, nonce_bytes = 4 }",
            MissingKey,
            "{ address = \"198.51.100.8\" }",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"1\" }]\nquic = { server_id_bytes = 1, nonce_bytes = 4 }",
            BadValue,
            "\"1\"",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x0102\" }]\nquic = { server_id_bytes = 1, nonce_bytes = 4 }",
            Conflict,
            "\"0x0102\"",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x01\" }, { address = \"198.51.100.9\", server_id = \"0x01\" }]\n\
             quic = { server_id_bytes = 1, nonce_bytes = 4 }",
            Duplicate,
            "\"0x01\"",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x0102\" }]\nquic = { server_id_bytes = 2, nonce_bytes = 18 }",
            OutOfRange,
            "18",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x01\" }]\n\
             quic = { server_id_bytes = 1, nonce_bytes = 4, rotation = 7 }",
            OutOfRange,
            "7",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x01\" }]\n\
             quic = { server_id_bytes = 1, nonce_bytes = 4, previous = { rotation = 0, nonce_bytes = 5 } }",
            Conflict,
            "0",
        ),
        (
            "[{ address = \"198.51.100.8\" }]",
            "[{ address = \"198.51.100.8\", server_id = \"0x01\" }]\n\
             quic = { server_id_bytes = 1, nonce_bytes = 4, key = \"file:k\", previous = { rotation = 1, nonce_bytes = 5 } }",
            Conflict,
            "{ rotation = 1, nonce_bytes = 5 }",
        ),
        (
            "function = \"hello\"",
            "function = \"hello\"\nquic = { server_id_bytes = 6, nonce_bytes = 4 }",
            Conflict,
            "{ server_id_bytes = 6, nonce_bytes = 4 }",
        ),
        (
            "ports = [\"tcp/80\"]",
            "ports = [\"tcp/80\", \"udp/443\"]\nquic = { server_id_bytes = 2, nonce_bytes = 4 }",
            Conflict,
            "2",
        ),
        ("cpus = \"1-2\"", "cpus = \"2-1\"", BadValue, "\"2-1\""),
        ("cpus = \"1-2\"", "cpus = \"1-2\", count = 2", Conflict, "{ cpus = \"1-2\", count = 2 }"),
        ("cpus = \"1-2\" }", "count = 0 }", OutOfRange, "0"),
        ("[[port]]", "sibling = \"timers\"\n[[port]]", NotBuilt, "\"timers\""),
        ("[[route]]", "[limits]\nflows_per_worker = 99_999_999\n[[route]]", OutOfRange, "99_999_999"),
        ("[[route]]", "[limits]\nholds_per_prefix = 9000\n[[route]]", Conflict, "9000"),
        ("[[route]]", "[roles]\ndns = 1\n[[route]]", WrongType, "1"),
        ("127.0.0.1:7443", "10.20.0.1:7443", Insecure, "\"10.20.0.1:7443\""),
        ("kind = \"embedded\"", "kind = \"kubernetes\"", NotBuilt, "\"kubernetes\""),
        ("kind = \"embedded\"", "endpoint = \"https://o:1\"", Conflict, "\"https://o:1\""),
        ("name = \"fn1\"", "name = \"fn1\"\nkind = \"vm\"", NotBuilt, "\"vm\""),
        (
            "listen = \"127.0.0.1:7443\"",
            "tls = { cert = \"file:a\", key = \"credential:b\", ca = \"file:c\" }",
            NotBuilt,
            "\"credential:b\"",
        ),
    ];
    let mut wrong = String::new();
    for (from, to, code, underlined) in rows {
        let text = with(from, to);
        if told(&text) != [(*code, underlined.to_string())] {
            wrong += &format!("{from} -> {to}: expected {code} at `{underlined}`\n{}\n", refused(&text));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
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
fn all_mistakes_are_in_one_report() {
    let text = with("name = \"wan\"", "nmae = \"wan\"")
        .replace("192.0.2.254", "203.0.113.254")
        .replace("type = \"A\"", "type = \"SRV\"")
        .replace("function = \"hello\"", "function = \"helo\"");
    let codes: Vec<_> = told(&text).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [Code::UnknownKey, Code::NotOnLink, Code::BadValue, Code::UnknownName]);
}

#[test]
fn a_slip_is_met_with_a_suggestion() {
    let report = refused(&with("addresses = [\"198", "adresses = [\"198"));
    let slip = report.diagnostics().iter().find(|d| d.code == Code::UnknownKey).unwrap();
    assert_eq!(slip.help.as_deref(), Some("did you mean `addresses`?"));
}

#[test]
fn a_broken_line_hides_nothing_of_the_others() {
    let text = with("name = \"lan\"", "name = = \"lan\"").replace("tcp/80", "tcp/0");
    let codes: BTreeSet<_> = told(&text).into_iter().map(|(code, _)| code).collect();
    assert!(codes.contains(&Code::Syntax) && codes.contains(&Code::BadValue), "{codes:?}");
    assert!(!codes.contains(&Code::MissingKey), "{codes:?}");
}

#[test]
fn a_key_given_twice_is_an_error_of_its_own() {
    let report = refused(&with("name = \"here\"", "name = \"here\"\nname = \"there\""));
    assert_eq!(report.diagnostics()[0].code, Code::Syntax);
    assert!(report.diagnostics()[0].message.contains("duplicate key"), "{report}");
}

#[test]
fn files_that_are_no_configuration_are_told_so() {
    assert_eq!(told("")[0].0, Code::Empty);
    assert_eq!(told("# nothing\n")[0].0, Code::Empty);
    let report = Config::from_bytes("b.toml", b"schema_version = 1\nname = \"\xff\"").unwrap_err();
    assert_eq!(report.diagnostics()[0].code, Code::Encoding);
    assert_eq!(report.to_json()[0]["line"], 2);
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

#[test]
fn the_report_reads_well() {
    let text = "schema_version = 1\n[site]\nname = \"here\"\n[[port]]\nname = \"wan\"\ndevice = \"eth0\"\nadresses = []\n";
    let expected = "\
config::bad_value

  × `port.device` has a value that can't be used
   ╭─[test.toml:6:10]
 5 │ name = \"wan\"
 6 │ device = \"eth0\"
   ·          ───┬──
   ·             ╰── not a device
 7 │ adresses = []
   ╰────
  help: write a PCI address such as `0000:3b:00.0`, or a vdev such as `net_af_xdp0,iface=wan`

config::unknown_key

  × there is no key `port.adresses`
   ╭─[test.toml:7:1]
 6 │ device = \"eth0\"
 7 │ adresses = []
   · ────┬───
   ·     ╰── unknown key
   ╰────
  help: did you mean `addresses`?

2 errors in test.toml
";
    assert_eq!(refused(text).to_string(), expected);
}

#[test]
fn programs_get_place_and_code() {
    let json = refused(&with("port = \"lan\"", "port = \"lam\"")).to_json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    let error = &json[0];
    assert_eq!(error["code"], "config::unknown_name");
    assert_eq!(error["severity"], "error");
    assert_eq!(error["file"], "test.toml");
    assert_eq!((&error["line"], &error["column"], &error["length"]), (&23.into(), &8.into(), &5.into()));
    assert_eq!(error["help"], "did you mean \"lan\"?");
}

#[test]
fn names_for_all_and_for_some() {
    let views = r#"
cookies = true
cookie_secrets = "file:c.secret"
rate_limit = { responses_per_second = 50, per_prefix = { v6 = 64 } }
[[dns.view]]
name = "inside"
ports = ["lan"]
clients = ["10.0.0.0/8", "2001:db8:a::/48"]
[[dns.zone]]
name = "fn.example."
view = "inside"
file = "inside.zone"
records = [
  { name = "alias", type = "CNAME", data = "hello" },
  { name = "@", type = "MX", data = "10 mail" },
  { name = "@", type = "CAA", data = "0 issue \"ca.example\"" },
  { name = "hello", type = "HTTPS", data = "1 . alpn=h2,h3 port=8443" },
  { name = "_x._tcp", type = "SRV", data = "0 5 443 hello" },
  { name = "p", type = "PTR", data = "hello.fn.example." },
  { name = "*.w", type = "A", data = "192.0.2.9" },
]
[[dns.zone]]"#;
    let config =
        Config::parse("v.toml", &with("[[dns.zone]]", views)).unwrap_or_else(|report| panic!("{report}"));
    let dns = config.dns.unwrap();
    assert_eq!(dns.cookies, Some(Cookies::Shared(SecretRef::File("c.secret".into()))));
    let limit = RateLimit { responses_per_second: 50, prefix_v4: 24, prefix_v6: 64, slip: 2 };
    assert_eq!(dns.rate_limit, Some(limit));
    assert_eq!((dns.views[0].ports.as_slice(), dns.views[0].clients.len()), (&[PortIndex(1)][..], 2));
    let inside = &dns.zones[0];
    assert_eq!(
        (inside.view, &inside.soa, &inside.file),
        (Some(ViewIndex(0)), &None, &Some("inside.zone".into()))
    );
    assert_eq!(dns.zones[1].view, None);
    let data: Vec<_> = inside.records.iter().map(|record| &record.data).collect();
    assert_eq!(data[0], &RecordData::Cname("hello.fn.example.".parse().unwrap()));
    let other = |type_number, bytes: &[u8]| RecordData::Other { type_number, data: bytes.to_vec() };
    assert_eq!(data[1], &other(15, b"\0\x0a\x04mail\x02fn\x07example\0"));
    assert_eq!(data[2], &other(257, b"\0\x05issueca.example"));
    assert_eq!(data[3], &other(65, b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x20\xfb"));
    assert_eq!(data[4], &other(33, b"\0\0\0\x05\x01\xbb\x05hello\x02fn\x07example\0"));
    assert_eq!(data[5], &other(12, b"\x05hello\x02fn\x07example\0"));
}

#[test]
fn a_zone_belongs_to_a_view_once() {
    let zone = "name = \"fn.example.\"\nfile = \"x\"\nview = \"v\"\n";
    let text = format!(
        "view = [{{ name = \"v\", ports = [\"lan\"] }}]\n[[dns.zone]]\n{zone}[[dns.zone]]\n{zone}[[dns.zone]]"
    );
    assert_eq!(told(&with("[[dns.zone]]", &text)), [(Code::Duplicate, "\"fn.example.\"".into())]);
}

//! The content hub: what is accepted, and what a wrong file is told.

use millrace_bier::id::{BfrId, SubDomain};

use super::*;

/// [`FULL`], a sub-domain, and a hub with sites of each carriage.
const HUB: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
table = [{ neighbour = "p2", address = "192.0.2.2", bfr_ids = "1,2,300" }]
[[bier.subdomain]]
id = 1
kind = "bier-te"
bfr_id = 6
[[bier.subdomain]]
id = 2
table = [{ neighbour = "p2", address = "192.0.2.2", bfr_ids = "1" }]
[hub]
store_path = "hub"
budget_bytes = 5_000_000_000
trusted_keys = ["file:a.pub", "file:b.pub"]
accept = [
  { subdomain = 0, group = "232.1.1.9", profile = "norm" },
  { port = "lan.20", group = "232.1.1.10", source = "10.20.0.66", profile = "norm", sender = 9 },
]
[[hub.site]]
name = "switch"
carriage = "bier"
subdomain = 0
group = "239.1.1.9"
rate_bits_per_second = 100_000_000_000
nodes = [
  { id = 1, address = "203.0.113.91", bfr_id = 1, groups = ["camera", "v2"] },
  { id = 2, address = "203.0.113.92", bfr_id = 300 },
]
[[hub.site]]
name = "house"
carriage = "ethernet"
port = "lan"
group = "239.1.1.9"
rate_bits_per_second = 1_000_001
straggler_bits_per_second = 9000
nodes = [
  { id = 11, address = "198.51.100.11", mac = "02:00:00:00:00:11" },
  { id = 12, address = "198.51.100.12" },
]
[[hub.site]]
name = "far"
carriage = "ip-multicast"
port = "lan.20"
group = "239.1.1.9"
ttl = 3
feedback_port = 7000
rate_bits_per_second = 1_000_001
nodes = [{ id = 21, address = "203.0.113.93" }]
[[hub.site]]
name = "field"
profile = "flute"
carriage = "ip-multicast"
port = "lan"
group = "239.1.1.10"
rate_bits_per_second = 1_000_000
overhead_percent = 30
[[hub.site]]
name = "hill"
profile = "flute"
carriage = "bier"
subdomain = 0
group = "239.1.1.10"
rate_bits_per_second = 1_000_000
tsi = 9
code = "none"
passes = 12
nodes = [{ id = 31, address = "203.0.113.94", bfr_id = 2 }]
"#;

fn hub(from: &str, to: &str) -> String {
    assert!(HUB.contains(from), "`{from}` isn't in the file");
    format!("{FULL}{}", HUB.replacen(from, to, 1))
}

#[test]
fn sites_of_each_carriage_know_their_way_and_whose_feedback_comes() {
    let config = Config::parse("h.toml", &hub("", "")).unwrap_or_else(|report| panic!("{report}"));
    let hub = config.hub.unwrap();
    assert_eq!((hub.id, hub.budget_bytes, hub.reserve_bytes), (1, 5_000_000_000, 64 << 20));
    assert_eq!((hub.http_listen, hub.signing_key, hub.late_join), (None, None, Duration::from_secs(86_400)));
    assert_eq!(hub.trusted_keys[1], SecretRef::File("b.pub".into()));
    let lan = Interface { port: PortIndex(1), vlan: None };
    let vlan = Interface { port: PortIndex(1), vlan: Some(VLAN_20) };
    assert_eq!(hub.accept[0].by, HubIntake::Bier(SubDomain(0)));
    assert_eq!((hub.accept[1].by, hub.accept[1].sender), (HubIntake::Multicast(vlan), Some(9)));
    assert_eq!(hub.accept[0].group, "232.1.1.9:6003".parse().unwrap());
    let sites: Vec<_> =
        hub.sites.iter().map(|site| (site.carriage, site.source.to_string(), site.ttl)).collect();
    assert_eq!(
        sites,
        [
            (HubCarriage::Bier(SubDomain(0)), "192.0.2.1:6003".to_owned(), 16),
            (HubCarriage::Ethernet(lan), "198.51.100.1:6003".to_owned(), 1),
            (HubCarriage::IpMulticast(vlan), "10.20.0.1:7000".to_owned(), 3),
            // Nothing comes back to these.
            (HubCarriage::IpMulticast(lan), "198.51.100.1:6003".to_owned(), 16),
            (HubCarriage::Bier(SubDomain(0)), "192.0.2.1:6003".to_owned(), 16),
        ]
    );
    let rates: Vec<_> =
        hub.sites.iter().map(|site| (site.rate_bits_per_second, site.straggler_bits_per_second)).collect();
    assert_eq!(rates[..3], [(100_000_000_000, 10_000_000_000), (1_000_001, 9000), (1_000_001, 100_001)]);
    let flute: Vec<_> = hub.sites.iter().map(|site| (site.flute, site.nodes.len())).collect();
    let field = HubFlute { tsi: 1, passes: 2, overhead_percent: Some(30) };
    let hill = HubFlute { tsi: 9, passes: 12, overhead_percent: None };
    assert_eq!(flute, [(None, 2), (None, 2), (None, 1), (Some(field), 0), (Some(hill), 1)]);
    let node = &hub.sites[0].nodes[0];
    assert_eq!((node.bfr_id, node.groups[1].as_str()), (BfrId::new(1), "v2"));
    assert_eq!(hub.sites[1].nodes[0].mac.unwrap().to_string(), "02:00:00:00:00:11");
}

#[test]
fn one_mistake_is_one_error() {
    use Code::*;
    let rows: &[(&str, &str, Code, &str)] = &[
        ("store_path = \"hub\"", "", MissingKey, "[hub]"),
        ("store_path", "stor_path", UnknownKey, "stor_path"),
        ("budget_bytes = 5_000_000_000", "budget_bytes = 1000", OutOfRange, "1000"),
        ("store_path = \"hub\"", "store_path = \"hub\"\nid = 0", OutOfRange, "0"),
        ("store_path = \"hub\"", "store_path = \"hub\"\nid = 4294967295", OutOfRange, "4294967295"),
        (
            "store_path = \"hub\"",
            "store_path = \"hub\"\nsigning_key = \"credential:k\"",
            NotBuilt,
            "\"credential:k\"",
        ),
        ("\"file:b.pub\"", "\"file:a.pub\"", Duplicate, "\"file:a.pub\""),
        ("\"file:b.pub\"", "\"b.pub\"", BadValue, "\"b.pub\""),
        ("{ subdomain = 0, group", "{ subdomain = 7, group", UnknownName, "7"),
        ("{ subdomain = 0, group", "{ subdomain = 1, group", Conflict, "1"),
        ("{ subdomain = 0, group", "{ subdomain = 2, group", Conflict, "2"),
        (
            "{ subdomain = 0, group = \"232.1.1.9\", profile = \"norm\" }",
            "{ group = \"232.1.1.9\", profile = \"norm\" }",
            Conflict,
            "{ group = \"232.1.1.9\", profile = \"norm\" }",
        ),
        (
            "{ subdomain = 0, group = \"232.1.1.9\", profile = \"norm\" }",
            "{ subdomain = 0, port = \"lan\", group = \"232.1.1.9\", profile = \"norm\" }",
            Conflict,
            "{ subdomain = 0, port = \"lan\", group = \"232.1.1.9\", profile = \"norm\" }",
        ),
        (
            "accept = [",
            "accept = [{ port = \"lan\", group = \"232.1.1.9\", profile = \"norm\" },",
            Duplicate,
            "{ subdomain = 0, group = \"232.1.1.9\", profile = \"norm\" }",
        ),
        ("profile = \"norm\"", "profile = \"norm\", tsi = 1", Conflict, "1"),
        ("sender = 9", "sender = 9, tsi = 1", Conflict, "1"),
        // Nobody signs what comes by FLUTE.
        ("profile = \"norm\", sender = 9", "profile = \"flute\", tsi = 1", Conflict, "\"flute\""),
        ("\"10.20.0.66\"", "\"10.20.0.1\"", Conflict, "\"10.20.0.1\""),
        // What is missing has to be asked for from somewhere.
        ("group = \"232.1.1.9\"", "group = \"ff3e::9\"", Conflict, "\"ff3e::9\""),
        ("group = \"232.1.1.10\", source = \"10.20.0.66\"", "group = \"ff3e::10\"", Conflict, "\"ff3e::10\""),
        ("\"norm\"", "\"uftp\"", BadValue, "\"uftp\""),
        ("\"10.20.0.66\"", "\"2001:db8::66\"", Conflict, "\"2001:db8::66\""),
        ("port = \"lan.20\", group = \"232", "port = \"len\", group = \"232", UnknownName, "\"len\""),
        ("name = \"house\"", "name = \"switch\"", Duplicate, "\"switch\""),
        ("carriage = \"bier\"", "carriage = \"beer\"", BadValue, "\"beer\""),
        ("carriage = \"bier\"\nsubdomain = 0", "carriage = \"bier\"", MissingKey, "[[hub.site]]"),
        ("carriage = \"bier\"\nsubdomain = 0", "carriage = \"bier\"\nsubdomain = 3", UnknownName, "3"),
        ("carriage = \"bier\"", "carriage = \"bier\"\nport = \"lan\"", Conflict, "\"lan\""),
        ("carriage = \"ethernet\"", "carriage = \"ethernet\"\nttl = 3", Conflict, "3"),
        ("carriage = \"ethernet\"", "carriage = \"ethernet\"\nsubdomain = 0", Conflict, "0"),
        ("carriage = \"ethernet\"\nport = \"lan\"", "carriage = \"ethernet\"", MissingKey, "[[hub.site]]"),
        (
            "carriage = \"ethernet\"\nport = \"lan\"",
            "carriage = \"ethernet\"\nport = \"lam\"",
            UnknownName,
            "\"lam\"",
        ),
        // The group's family has no address of ours on that network.
        (
            "port = \"lan.20\"\ngroup = \"239.1.1.9\"\nttl = 3\nfeedback_port = 7000\nrate_bits_per_second = 1_000_001\nnodes = [{ id = 21, address = \"203.0.113.93\" }]",
            "port = \"lan.20\"\ngroup = \"ff3e::1\"\nrate_bits_per_second = 1_000_001\nnodes = [{ id = 21, address = \"2001:db8:3::93\" }]",
            MissingKey,
            "[[hub.site]]",
        ),
        ("ttl = 3", "ttl = 3\naddress = \"10.20.0.9\"", UnknownName, "\"10.20.0.9\""),
        ("feedback_port = 7000", "address = \"192.0.2.1\"", Duplicate, "[[hub.site]]"),
        ("straggler_bits_per_second = 9000", "straggler_bits_per_second = 1_000_002", Conflict, "1_000_002"),
        ("bfr_id = 300", "bfr_id = 301", UnknownName, "301"),
        ("bfr_id = 300", "bfr_id = 1", Duplicate, "1"),
        (", bfr_id = 300", "", MissingKey, "{ id = 2, address = \"203.0.113.92\" }"),
        ("{ id = 12, address = \"198", "{ id = 1, address = \"198", Duplicate, "1"),
        ("198.51.100.12", "198.51.100.11", Duplicate, "\"198.51.100.11\""),
        ("198.51.100.12", "10.20.0.12", NotOnLink, "\"10.20.0.12\""),
        ("198.51.100.12", "198.51.100.1", Conflict, "\"198.51.100.1\""),
        ("203.0.113.93", "2001:db8::93", Conflict, "\"2001:db8::93\""),
        ("bfr_id = 300", "bfr_id = 300, mac = \"02:00:00:00:00:12\"", Conflict, "\"02:00:00:00:00:12\""),
        ("\"v2\"", "\"camera\"", Duplicate, "\"camera\""),
        ("nodes = [{ id = 21, address = \"203.0.113.93\" }]", "nodes = []", MissingKey, "[[hub.site]]"),
        ("nodes = [{ id = 31, address = \"203.0.113.94\", bfr_id = 2 }]", "", MissingKey, "[[hub.site]]"),
        ("name = \"house\"", "name = \"house\"\ntsi = 8", Conflict, "8"),
        ("name = \"house\"", "name = \"house\"\ncode = \"raptorq\"", Conflict, "\"raptorq\""),
        ("name = \"house\"", "name = \"house\"\npasses = 2", Conflict, "2"),
        ("name = \"house\"", "name = \"house\"\noverhead_percent = 20", Conflict, "20"),
        ("name = \"field\"", "name = \"field\"\nstraggler_bits_per_second = 9001", Conflict, "9001"),
        ("code = \"none\"", "code = \"none\"\noverhead_percent = 20", Conflict, "20"),
        ("code = \"none\"", "code = \"rs\"", BadValue, "\"rs\""),
        ("passes = 12", "passes = 0", OutOfRange, "0"),
        ("overhead_percent = 30", "overhead_percent = 101", OutOfRange, "101"),
        ("tsi = 9", "tsi = 1\naddress = \"198.51.100.1\"", Duplicate, "1"),
    ];
    each_is_one_error(hub, rows);
}

/// Receivers would get the packets of both.
#[test]
fn sites_that_are_heard_together_need_groups_or_ports_of_their_own() {
    let told = |from: &str, to: &str| {
        let text = hub(from, to);
        if Config::parse("h.toml", &text).is_ok() { Vec::new() } else { told(&text) }
    };
    let twice = |group: &str| vec![(Code::Duplicate, format!("\"{group}\""))];
    // On one network, whatever the profiles.
    let field = "port = \"lan\"\ngroup = \"239.1.1.10\"";
    assert_eq!(told(field, "port = \"lan\"\ngroup = \"239.1.1.9\""), twice("239.1.1.9"));
    assert_eq!(told(field, "port = \"lan\"\ngroup = \"239.1.1.9\"\nudp_port = 7001"), []);
    // To one bit of a sub-domain.
    let hill = "group = \"239.1.1.10\"\nrate_bits_per_second = 1_000_000\ntsi = 9";
    let same = "group = \"239.1.1.9\"\nrate_bits_per_second = 1_000_000\ntsi = 9";
    assert_eq!(told(hill, same), [], "bit 2 isn't the other's");
    let text = hub(hill, same).replace("bfr_id = 2 }", "bfr_id = 300 }");
    let report = Config::parse("h.toml", &text).unwrap_err().to_string();
    for place in ["the site `hill` sends to 239.1.1.9:6003 where `switch` does", "first here", "again here"] {
        assert!(report.contains(place), "{place}\n{report}");
    }
}

/// What has no keys to believe takes in what nobody signs.
#[test]
fn files_by_flute_need_no_keys() {
    let keys = "trusted_keys = [\"file:a.pub\", \"file:b.pub\"]\n";
    let text = hub(keys, "").replace("profile = \"norm\", sender = 9", "profile = \"flute\", tsi = 1");
    let config = Config::parse("h.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.hub.unwrap().accept[1].tsi, Some(1));
}

/// What can't be read in BIER isn't told again of the hub.
#[test]
fn a_slip_in_bier_is_told_once() {
    let told = told(&hub("bfr_id = 5", "bfr_id = \"five\""));
    assert_eq!(told, [(Code::WrongType, "\"five\"".to_owned())]);
}

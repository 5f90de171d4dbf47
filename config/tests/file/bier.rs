//! BIER: what is accepted, and what a wrong file is told.

use millrace_bier::bift_id::BiftId;
use millrace_bier::id::{BfrId, Si};

use super::*;

/// [`FULL`] and BIER with most of its keys.
const BIER: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
ecmp_tables = 2
table = [
  { neighbour = "p2", address = "192.0.2.2", bfr_ids = "1,2,300" },
  { neighbour = "p3", address = "10.20.0.3", bfr_ids = "3,66-70", backup = "p2" },
  { neighbour = "p2", address = "192.0.2.2", bfr_ids = "66", bift_id = { "si 0" = 7, "si 1" = 8 } },
]
[[bier.subdomain]]
id = 9
bfr_id = 65
bitstring_bits = 64
encapsulation = "mpls"
bift_id = { "si 1" = 1000 }
[[bier.subdomain]]
id = 10
kind = "bier-te"
bitstring_bits = 128
adjacencies = [
  { bit = 1, kind = "connected", address = "192.0.2.2", do_not_clear = true },
  { bit = 2, kind = "routed", address = "203.0.113.99" },
  { bit = 3, kind = "decap" },
  { bit = 4, kind = "connected", address = "192.0.2.7", ecmp_seed = 9 },
  { bit = 4, kind = "connected", address = "10.20.0.3", ecmp_seed = 9 },
  { si = 1, bit = 4, kind = "routed", address = "10.20.0.9", bift_id = { "si 1" = 77 } },
]
[[bier.overlay]]
source = "192.0.2.100"
group = "232.1.1.1"
subdomain = 0
receivers = "1,66"
[[bier.listener]]
group = "232.1.1.2"
ports = ["lan", "lan.20"]
[[bier.querier]]
ports = ["lan"]
response_ms = 5000
"#;

fn bier(from: &str, to: &str) -> String {
    assert!(BIER.contains(from), "`{from}` isn't in the file");
    format!("{FULL}{}", BIER.replacen(from, to, 1))
}

#[test]
fn rows_become_neighbours_and_tables() {
    let config = Config::parse("b.toml", &bier("", "")).unwrap_or_else(|report| panic!("{report}"));
    let bier = config.bier.unwrap();
    let zero = &bier.subdomains[0];
    let neighbours: Vec<_> = zero.neighbours.iter().map(|one| (one.name.as_str(), one.path)).collect();
    let on = |port, vlan| BierPath::Ethernet(Interface { port: PortIndex(port), vlan });
    assert_eq!(neighbours, [("p2", on(0, None)), ("p3", on(1, Some(VLAN_20)))]);
    // What a later row says of a neighbour holds for all its rows.
    let id = |si, id| (Si(si), BiftId::new(id).unwrap());
    assert_eq!(zero.neighbours[0].bift_ids, BiftIdForm::Map(vec![id(0, 7), id(1, 8)]));
    assert_eq!(zero.neighbours[1].bift_ids, BiftIdForm::Static);
    assert_eq!(zero.rows.len(), 3);
    assert_eq!(zero.rows[1].backup, Some(zero.rows[0].neighbour));
    let links = [0, 1].map(millrace_bier::bift::LinkId);
    let sets: Vec<_> = zero.bifts(bier.seed(), &links).unwrap().iter().map(|bift| bift.key().si.0).collect();
    assert_eq!(sets, [0, 1]);
    assert_eq!((zero.bfr_id, zero.ttl), (BfrId::new(5), 64));
    let querier = &bier.queriers[0];
    assert_eq!(querier.ports, [Interface { port: PortIndex(1), vlan: None }]);
    let times = (querier.query_interval_seconds, querier.response_ms, querier.last_member_ms);
    assert_eq!((querier.robustness, times), (2, (125, 5000, 1000)));
    assert_eq!(bier.listeners[0].ports[1], Interface { port: PortIndex(1), vlan: Some(VLAN_20) });
}

#[test]
fn adjacencies_become_tables_of_bits() {
    let config = Config::parse("b.toml", &bier("", "")).unwrap_or_else(|report| panic!("{report}"));
    let te = &config.bier.unwrap().subdomains[2];
    let bifts = te.te_bifts(|at| at as u32).unwrap();
    let bits: Vec<_> =
        bifts.iter().flat_map(|bift| bift.iter().map(|(bit, _)| (bift.key().si.0, bit.number()))).collect();
    assert_eq!(bits, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 4)]);
    let wan = BierPath::Ethernet(Interface { port: PortIndex(0), vlan: None });
    let lan = BierPath::Ethernet(Interface { port: PortIndex(1), vlan: Some(VLAN_20) });
    let far = BierPath::Tunnel(TunnelKind::Udp);
    let links: Vec<_> = te.adjacencies.iter().map(|one| one.link().map(|(path, _)| path)).collect();
    assert_eq!(links, [Some(wan), Some(far), None, Some(wan), Some(lan), Some(lan)]);
    let ids: Vec<_> = te.adjacencies.iter().map(|one| te.adjacency_id(one).map(BiftId::get)).collect();
    // The static form of sub-domain 10 and 128 bits.
    let id = Some(2 << 16 | 10 << 8);
    assert_eq!(ids, [id, id, None, id, id, Some(77)]);
}

/// Neighbours inside UDP or IPv6 may be anywhere, and on networks of ours as well.
#[test]
fn neighbours_elsewhere_are_reached_through_tunnels() {
    let text = bier("\"1,2,300\" },", "\"1,2,300\" },\n{ neighbour = \"far\", address = \"203.0.113.9\", bfr_ids = \"9\", encapsulation = \"udp\" },\n{ neighbour = \"p6\", address = \"2001:db8:9::6\", bfr_ids = \"6\", encapsulation = \"ipv6\", backup = \"far\" },")
        .replacen("\"10.20.0.3\", bfr_ids", "\"10.20.0.3\", encapsulation = \"udp\", bfr_ids", 1);
    let config = Config::parse("b.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    let paths: Vec<_> = config.bier.unwrap().subdomains[0].neighbours.iter().map(|one| one.path).collect();
    let [udp, ipv6] = [TunnelKind::Udp, TunnelKind::Ipv6].map(BierPath::Tunnel);
    let near = BierPath::Ethernet(Interface { port: PortIndex(0), vlan: None });
    assert_eq!(paths, [near, udp, ipv6, udp]);
}

/// Numbers below 16 are no labels, and are numbers where they aren't behind MPLS.
#[test]
fn numbers_are_labels_where_they_are_carried_as_such() {
    let text = bier("bfr_ids = \"66\",", "bfr_ids = \"66\", encapsulation = \"ethernet\",").replacen(
        "ecmp_tables = 2",
        "ecmp_tables = 2\nencapsulation = \"mpls\"",
        1,
    );
    let config = Config::parse("b.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    let paths: Vec<_> = config.bier.unwrap().subdomains[0].neighbours.iter().map(|one| one.path).collect();
    assert!(matches!(paths[..], [BierPath::Ethernet(_), BierPath::Mpls(_)]), "{paths:?}");
}

/// An access switch: two networks of hosts with numbers, one of them with two rows.
const LEGS: &str = r#"  { neighbour = "leg1", encapsulation = "none", port = "lan", bfr_ids = "7", backup = "p2" },
  { neighbour = "leg2", encapsulation = "none", port = "lan.20", bfr_ids = "8,71" },
  { neighbour = "leg2", bfr_ids = "301" },
  { neighbour = "p3", "#;

fn with_legs(from: &str, to: &str) -> String {
    let legs = bier("  { neighbour = \"p3\", ", LEGS);
    assert!(legs.contains(from), "`{from}` isn't in the file");
    legs.replacen(from, to, 1)
}

#[test]
fn hosts_have_a_network_and_no_address() {
    let config = Config::parse("b.toml", &with_legs("", "")).unwrap_or_else(|report| panic!("{report}"));
    let bier = config.bier.unwrap();
    let zero = &bier.subdomains[0];
    let on = |port, vlan| BierPath::Hosts(Interface { port: PortIndex(port), vlan });
    let legs: Vec<_> =
        zero.neighbours[1..3].iter().map(|one| (one.name.as_str(), one.address, one.path)).collect();
    assert_eq!(legs, [("leg1", None, on(1, None)), ("leg2", None, on(1, Some(VLAN_20)))]);
    let links = [0, 1, 2, 3].map(millrace_bier::bift::LinkId);
    let bifts = zero.bifts(bier.seed(), &links).unwrap();
    let reach: Vec<_> = bifts[0].neighbours().iter().map(|one| one.reach.clone()).collect();
    use millrace_bier::bift::Reach::{Hosts, Links};
    assert_eq!(reach, [Links([links[0]].into()), Hosts(links[1]), Hosts(links[2]), Links([links[3]].into())]);
}

#[test]
fn what_is_wrong_with_hosts_is_one_error() {
    use Code::*;
    each_is_one_error(
        with_legs,
        &[
            (
                "port = \"lan\", ",
                "",
                MissingKey,
                "{ neighbour = \"leg1\", encapsulation = \"none\", bfr_ids = \"7\", backup = \"p2\" }",
            ),
            (
                "\"none\", port = \"lan\"",
                "\"none\", port = \"lan\", address = \"192.0.2.9\"",
                Conflict,
                "\"192.0.2.9\"",
            ),
            (
                "\"none\", port = \"lan\"",
                "\"none\", port = \"lan\", bift_id = \"static\"",
                Conflict,
                "\"static\"",
            ),
            ("\"none\", port = \"lan\"", "\"none\", port = \"attic\"", UnknownName, "\"attic\""),
            ("\"none\", port = \"lan\"", "\"none\", port = \"lan.20\"", Duplicate, "\"lan.20\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"301\", port = \"lan.20\"", Duplicate, "\"lan.20\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"301\", address = \"10.20.0.9\"", Conflict, "\"10.20.0.9\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"301\", encapsulation = \"none\"", Duplicate, "\"none\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"71\"", Duplicate, "\"71\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"7\"", Conflict, "\"7\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"3\"", Conflict, "\"3,66-70\""),
            ("bfr_ids = \"301\"", "bfr_ids = \"5\"", Conflict, "\"5\""),
            ("backup = \"p2\"", "backup = \"leg2\"", Conflict, "\"leg2\""),
            ("backup = \"p2\"", "backup = \"p3\"", Conflict, "\"p3\""),
            ("\"3,66-70\", backup = \"p2\"", "\"3,66-70\", port = \"lan\"", Conflict, "\"lan\""),
            (
                "address = \"10.20.0.3\", bfr_ids",
                "bfr_ids",
                MissingKey,
                "{ neighbour = \"p3\", bfr_ids = \"3,66-70\", backup = \"p2\" }",
            ),
            (
                "address = \"10.20.0.3\", bfr_ids",
                "encapsulation = \"ethernet\", bfr_ids",
                MissingKey,
                "{ neighbour = \"p3\", encapsulation = \"ethernet\", bfr_ids = \"3,66-70\", backup = \"p2\" }",
            ),
            // With rows only: not for all of a sub-domain, and so not with a topology, and not with adjacencies.
            ("ecmp_tables = 2", "ecmp_tables = 2\nencapsulation = \"none\"", BadValue, "\"none\""),
            ("id = 9", "id = 9\ntunnel = \"none\"", BadValue, "\"none\""),
            (
                "kind = \"routed\", address = \"203.0.113.99\"",
                "kind = \"routed\", address = \"203.0.113.99\", encapsulation = \"none\"",
                BadValue,
                "\"none\"",
            ),
        ],
    );
}

/// All faults of one file in one report.
#[test]
fn contradictory_adjacencies_are_told_together() {
    let text = bier("bit = 1, kind = \"connected\"", "bit = 200, kind = \"decap\"")
        .replace("bit = 4, kind = \"connected\", address = \"192.0.2.7\"", "bit = 4, kind = \"routed\"")
        .replace("address = \"10.20.0.9\"", "address = \"192.0.2.1\"");
    let found: Vec<_> =
        refused(&text).diagnostics().iter().map(|d| (d.code, text[d.span.clone()].to_owned())).collect();
    let expected = [
        (Code::Conflict, "true"),
        (Code::Conflict, "\"192.0.2.2\""),
        (Code::OutOfRange, "200"),
        (Code::MissingKey, "{ bit = 4, kind = \"routed\", ecmp_seed = 9 }"),
        (Code::Conflict, "\"192.0.2.1\""),
    ];
    let mut expected: Vec<_> = expected.map(|(code, text)| (code, text.to_owned())).into();
    let mut found = found;
    found.sort_by_key(|(_, text)| text.clone());
    expected.sort_by_key(|(_, text)| text.clone());
    assert_eq!(found, expected);
}

#[test]
fn one_mistake_is_one_error() {
    use Code::*;
    let rows: &[(&str, &str, Code, &str)] = &[
        ("bfr_prefix = \"192.0.2.1\"", "", MissingKey, "[bier]"),
        ("bfr_prefix", "bfr_prefx", UnknownKey, "bfr_prefx"),
        ("bfr_prefix = \"192.0.2.1\"", "bfr_prefix = \"232.1.1.1\"", BadValue, "\"232.1.1.1\""),
        ("id = 9", "id = 256", OutOfRange, "256"),
        ("id = 9", "id = 0", Duplicate, "0"),
        ("id = 9", "id = 9\nadjacencies = []", Conflict, "[]"),
        ("id = 9", "id = 9\nprotection = \"link\"", Conflict, "\"link\""),
        ("id = 9", "id = 9\nprotection = \"ring\"", BadValue, "\"ring\""),
        ("id = 10", "id = 10\necmp_tables = 2", Conflict, "2"),
        ("id = 10", "id = 10\nprotection = \"node\"", Conflict, "\"node\""),
        ("id = 10", "id = 10\nremote_backups = true", Conflict, "true"),
        ("id = 9", "id = 9\nremote_backups = true", Conflict, "true"),
        ("id = 10", "id = 10\ntable = []", Conflict, "[]"),
        ("{ bit = 3, kind = \"decap\" }", "{ bit = 3, kind = \"decoy\" }", BadValue, "\"decoy\""),
        ("{ bit = 3, kind = \"decap\" }", "{ bit = 129, kind = \"decap\" }", OutOfRange, "129"),
        ("{ bit = 3, kind = \"decap\" }", "{ bit = 0, kind = \"decap\" }", OutOfRange, "0"),
        ("{ bit = 3, kind = \"decap\" }", "{ kind = \"decap\" }", MissingKey, "{ kind = \"decap\" }"),
        ("kind = \"decap\"", "kind = \"decap\", do_not_clear = true", Conflict, "true"),
        ("kind = \"decap\"", "kind = \"decap\", address = \"192.0.2.2\"", Conflict, "\"192.0.2.2\""),
        ("kind = \"decap\"", "kind = \"decap\", bift_id = \"static\"", Conflict, "\"static\""),
        (
            "kind = \"routed\", address = \"203.0.113.99\"",
            "kind = \"routed\", address = \"203.0.113.99\", do_not_clear = false",
            Conflict,
            "false",
        ),
        (
            "kind = \"routed\", address = \"203.0.113.99\"",
            "kind = \"routed\"",
            MissingKey,
            "{ bit = 2, kind = \"routed\" }",
        ),
        ("address = \"192.0.2.7\"", "address = \"203.0.113.7\"", NotOnLink, "\"203.0.113.7\""),
        ("address = \"192.0.2.7\"", "address = \"192.0.2.1\"", Conflict, "\"192.0.2.1\""),
        ("\"10.20.0.3\", ecmp_seed = 9", "\"10.20.0.3\", ecmp_seed = 8", Conflict, "8"),
        (
            "\"10.20.0.3\", ecmp_seed = 9",
            "\"10.20.0.3\"",
            Conflict,
            "{ bit = 4, kind = \"connected\", address = \"10.20.0.3\" }",
        ),
        (
            "\"10.20.0.3\", ecmp_seed = 9",
            "\"192.0.2.7\", ecmp_seed = 9",
            Duplicate,
            "{ bit = 4, kind = \"connected\", address = \"192.0.2.7\", ecmp_seed = 9 }",
        ),
        ("{ \"si 1\" = 77 }", "{ \"si 0\" = 77 }", Conflict, "{ \"si 0\" = 77 }"),
        ("10.20.0.3\", bfr_ids", "192.0.2.3\", bfr_ids", Conflict, "\"p2\""),
        ("id = 9", "id = 9\ntopology = \"d.toml\"", MissingKey, "\"d.toml\""),
        ("id = 9", "id = 9\nrouter = \"edge\"", Conflict, "\"edge\""),
        ("ecmp_tables = 2", "ecmp_tables = 2\ntopology = \"d.toml\"\nrouter = \"e\"", Conflict, "\"d.toml\""),
        ("\"mpls\"", "\"ip\"", BadValue, "\"ip\""),
        ("id = 9", "id = 9\ntunnel = \"mpls\"", BadValue, "\"mpls\""),
        ("id = 10", "id = 10\ntunnel = \"ipv6\"", Conflict, "\"203.0.113.99\""),
        ("\"3,66-70\"", "\"3,66-70\", encapsulation = \"ipv6\"", Conflict, "\"10.20.0.3\""),
        (
            "bfr_ids = \"66\"",
            "bfr_ids = \"66\", encapsulation = \"udp\" },\n{ neighbour = \"p2\", address = \"192.0.2.2\", bfr_ids = \"67\", encapsulation = \"mpls\"",
            Duplicate,
            "\"mpls\"",
        ),
        (
            "address = \"203.0.113.99\"",
            "address = \"203.0.113.99\", encapsulation = \"ethernet\"",
            NotOnLink,
            "\"203.0.113.99\"",
        ),
        ("kind = \"decap\"", "kind = \"decap\", encapsulation = \"udp\"", Conflict, "\"udp\""),
        ("bfr_prefix", "accept_from = [\"192.0.2.1\"]\nbfr_prefix", Conflict, "\"192.0.2.1\""),
        ("bfr_prefix", "accept_from = [\"10.1.1.1\", \"10.1.1.1\"]\nbfr_prefix", Duplicate, "\"10.1.1.1\""),
        ("bfr_prefix", "ipv6_next_header = 59\nbfr_prefix", OutOfRange, "59"),
        ("bitstring_bits = 64", "bitstring_bits = 65", BadValue, "65"),
        ("bitstring_bits = 64", "bitstring_bits = 8192", OutOfRange, "8192"),
        ("bfr_id = 65", "bfr_id = 16385", OutOfRange, "16385"),
        ("bfr_id = 65", "bfr_id = 0", OutOfRange, "0"),
        ("bfr_id = 65", "", Conflict, "[[bier.subdomain]]"),
        ("bfr_id = 65", "bfr_id = 129", Conflict, "{ \"si 1\" = 1000 }"),
        ("\"si 1\" = 1000", "\"si 1\" = 15", OutOfRange, "15"),
        ("\"si 1\" = 1000", "\"si 1\" = 0x100000", OutOfRange, "0x100000"),
        ("\"si 1\" = 1000", "\"si 1\" = 1000, \"si 256\" = 2000", UnknownKey, "\"si 256\""),
        ("\"si 1\" = 1000", "\"si 1\" = 1000, \"si 2\" = 1000", Duplicate, "1000"),
        // The static form of sub-domain 0, set 1, of 256 bits.
        ("\"si 1\" = 1000", "\"si 1\" = 0x30001", Duplicate, "0x30001"),
        ("ecmp_tables = 2", "ecmp_tables = 2\nmtu_bytes = 60", OutOfRange, "60"),
        (
            "bift_id = { \"si 1\" = 1000 }",
            "bift_id = { \"si 1\" = 1000 }\nmtu_bytes = 1299\n[[bier.overlay]]\nsource = \"2001:db8:9::1\"\ngroup = \"ff3e::7\"\nsubdomain = 9\nreceivers = \"65\"",
            Conflict,
            "1299",
        ),
        // What carries headers to one neighbour makes its numbers labels, and ours.
        (
            "bfr_ids = \"66\", bift_id = { \"si 0\" = 7, \"si 1\" = 8 }",
            "bfr_ids = \"66\", encapsulation = \"mpls\", bift_id = { \"si 0\" = 7, \"si 1\" = 1008 }",
            OutOfRange,
            "7",
        ),
        (
            "bift_id = { \"si 1\" = 77 }",
            "encapsulation = \"mpls\", bift_id = { \"si 1\" = 9 }",
            OutOfRange,
            "9",
        ),
        (
            "bitstring_bits = 128",
            "bitstring_bits = 128\nbift_id = { \"si 0\" = 3, \"si 1\" = 4000 }\nencapsulation = \"mpls\"",
            OutOfRange,
            "3",
        ),
        (
            "[[bier.listener]]",
            "[nat]\nport_range = \"8000-60000\"\n[[bier.listener]]",
            Conflict,
            "\"8000-60000\"",
        ),
        ("ecmp_tables = 2", "ecmp_tables = 17", OutOfRange, "17"),
        ("ecmp_tables = 2", "ecmp_tables = 2\nethernet_ports = [\"attic\"]", UnknownName, "\"attic\""),
        ("ecmp_tables = 2", "ecmp_tables = 2\nlabels = [{ label = 15 }]", OutOfRange, "15"),
        (
            "ecmp_tables = 2",
            "ecmp_tables = 2\nlabels = [{ label = 77, bfir_id = 1 }, { label = 77 }, { bfir_id = 1, label = 77 }]",
            Duplicate,
            "77",
        ),
        ("ecmp_tables = 2", "", Conflict, "\"66\""),
        ("192.0.2.2", "192.0.2.3", Conflict, "\"192.0.2.2\""),
        ("10.20.0.3", "10.21.0.3", NotOnLink, "\"10.21.0.3\""),
        ("10.20.0.3", "10.20.0.1", Conflict, "\"10.20.0.1\""),
        ("10.20.0.3", "192.0.2.2", Duplicate, "\"192.0.2.2\""),
        ("\"3,66-70\"", "\"3,66-70,5\"", Conflict, "\"3,66-70,5\""),
        ("\"3,66-70\"", "\"3,66-70,3\"", BadValue, "\"3,66-70,3\""),
        ("\"3,66-70\"", "\"70-66\"", BadValue, "\"70-66\""),
        ("bfr_ids = \"66\"", "bfr_ids = \"2\"", Duplicate, "\"2\""),
        ("backup = \"p2\"", "backup = \"p4\"", UnknownName, "\"p4\""),
        ("backup = \"p2\"", "backup = \"p3\"", Conflict, "\"p3\""),
        (", \"si 1\" = 8", "", Conflict, "\"1,2,300\""),
        (
            "bfr_ids = \"1,2,300\"",
            "bfr_ids = \"1,2,300\", bift_id = \"static\"",
            Duplicate,
            "{ \"si 0\" = 7, \"si 1\" = 8 }",
        ),
        ("group = \"232.1.1.1\"", "group = \"192.0.2.7\"", BadValue, "\"192.0.2.7\""),
        ("group = \"232.1.1.1\"", "group = \"224.0.0.5\"", BadValue, "\"224.0.0.5\""),
        ("group = \"232.1.1.1\"", "group = \"ff3e::1\"", Conflict, "\"ff3e::1\""),
        ("subdomain = 0", "subdomain = 1", UnknownName, "1"),
        ("receivers = \"1,66\"", "receivers = \"1,5,67,99\"", UnknownName, "\"1,5,67,99\""),
        ("receivers = \"1,66\"", "receivers = \"1\"\nlearn = \"igmp\"", Conflict, "\"igmp\""),
        ("receivers = \"1,66\"", "learn = \"mld\"", Conflict, "\"mld\""),
        ("receivers = \"1,66\"", "learn = \"pim\"", BadValue, "\"pim\""),
        ("ecmp_tables = 2", "ecmp_tables = 2\nreport_to = \"1,4\"", UnknownName, "\"1,4\""),
        ("kind = \"bier-te\"", "kind = \"bier-te\"\nreport_to = \"1\"", Conflict, "\"1\""),
        ("id = 9", "id = 9\nreplies_by = 0", Conflict, "0"),
        ("id = 10", "id = 10\nreplies_by = 10", UnknownName, "10"),
        ("id = 10", "id = 10\nbfr_id = 65\nreplies_by = 0", Conflict, "0"),
        ("receivers = \"1,66\"", "", MissingKey, "[[bier.overlay]]"),
        ("ports = [\"lan\", \"lan.20\"]", "", MissingKey, "[[bier.listener]]"),
        ("bfr_id = 5\n", "", Conflict, "0"),
        ("\"lan.20\"", "\"lan.21\"", UnknownName, "\"lan.21\""),
        ("\"lan.20\"", "\"lan\"", Duplicate, "\"lan\""),
        ("[[bier.listener]]", "[[bier.listener]]\nnext_hops = [\"10.21.0.3\"]", NotOnLink, "\"10.21.0.3\""),
        ("[[bier.listener]]", "[[bier.listener]]\nnext_hops = [\"192.0.2.1\"]", Conflict, "\"192.0.2.1\""),
        (
            "[[bier.listener]]",
            "[[bier.listener]]\ngroup = \"232.1.1.2\"\nports = [\"wan\"]\n[[bier.listener]]",
            Duplicate,
            "\"232.1.1.2\"",
        ),
        ("ports = [\"lan\"]", "ports = [\"len\"]", UnknownName, "\"len\""),
        ("ports = [\"lan\"]", "ports = []", OutOfRange, "[]"),
        (
            "[[bier.querier]]",
            "[[bier.querier]]\nports = [\"lan.20\", \"lan\"]\n[[bier.querier]]",
            Duplicate,
            "\"lan\"",
        ),
        ("response_ms = 5000", "response_ms = 125000", Conflict, "125000"),
        ("response_ms = 5000", "query_interval_seconds = 10", Conflict, "10"),
        ("response_ms = 5000", "robustness = 1", OutOfRange, "1"),
        ("response_ms = 5000", "last_member_ms = 99", OutOfRange, "99"),
    ];
    each_is_one_error(bier, rows);
}

#[test]
fn slips_are_guessed_at() {
    let hint =
        |from: &str, to: &str| refused(&bier(from, to)).diagnostics()[0].help.clone().unwrap_or_default();
    assert_eq!(hint("ecmp_tables", "ecmp_table"), "did you mean `ecmp_tables`?");
    assert_eq!(hint("\"lan.20\"", "\"lan.2\""), "did you mean \"lan.20\"?");
    assert!(hint("ecmp_tables = 2", "ecmp_tables = 1").contains("above 1"));
}

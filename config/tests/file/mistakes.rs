//! What a wrong file is told.

use super::*;

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
        ("name = \"web\"", "name = \"web\"\nhealth = {}", Conflict, "{}"),
        ("name = \"web\"", "name = \"web\"\nhealth = { kind = \"icmp\" }", BadValue, "\"icmp\""),
        (
            "name = \"web\"",
            "name = \"web\"\nhealth = { kind = \"tcp\", path = \"/up\" }",
            Conflict,
            "\"/up\"",
        ),
        ("name = \"web\"", "name = \"web\"\nhealth = { kind = \"http\", path = \"up\" }", BadValue, "\"up\""),
        (
            "name = \"web\"",
            "name = \"web\"\nhealth = { kind = \"http\", status = \"2xx\" }",
            BadValue,
            "\"2xx\"",
        ),
        ("name = \"web\"", "name = \"web\"\nhealth = { kind = \"tcp\", interval_ms = 99 }", OutOfRange, "99"),
        (
            "name = \"web\"",
            "name = \"web\"\nhealth = { kind = \"tcp\", timeout_ms = 1001 }",
            Conflict,
            "1001",
        ),
        ("name = \"web\"", "name = \"web\"\nhealth = { kind = \"tcp\", down_after = 0 }", OutOfRange, "0"),
        ("name = \"web\"", "name = \"web\"\nhealth = { kind = \"tcp\", port = 0 }", OutOfRange, "0"),
        ("name = \"web\"", "name = \"web\"\nhealth = { passive = {}, up_after = 3 }", Conflict, "3"),
        ("name = \"web\"", "name = \"web\"\nhealth = { passive = { failures = 0 } }", OutOfRange, "0"),
        (
            "name = \"web\"",
            "name = \"web\"\nhealth = { passive = { share_percent = 101 } }",
            OutOfRange,
            "101",
        ),
        (
            "name = \"web\"",
            "name = \"web\"\nforwarding = \"gue\"\nhealth = { passive = { failures = 9 } }",
            Conflict,
            "{ failures = 9 }",
        ),
        (
            "name = \"web\"",
            "name = \"web\"\nhealth = { kind = \"tcp\", overflow = \"fallback\" }",
            Conflict,
            "\"fallback\"",
        ),
        (
            "function = \"hello\"",
            "function = \"hello\"\nhealth = { kind = \"tcp\", overflow = \"rst\" }",
            Conflict,
            "\"rst\"",
        ),
        ("ports = [\"tcp/80\"]", "ports = [\"udp/80\"]\nhealth = { kind = \"tcp\" }", Conflict, "\"tcp\""),
        (
            "backends = [{ address = \"198.51.100.8\" }]\n",
            "backends = [{ address = \"198.51.100.8\" }]\nhealth = { kind = \"tcp\" }\n[nat]\nport_range = \"1100-65500\"\n",
            Conflict,
            "\"1100-65500\"",
        ),
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
    each_is_one_error(with, rows);
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

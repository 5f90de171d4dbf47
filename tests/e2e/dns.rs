//! The appliance as an authoritative name server, asked by dig and kdig over UDP, TCP, IPv4 and IPv6.

use millrace_hw_tests::edge::client::{DigAnswer, dig};
use millrace_hw_tests::edge::{DNS, RESOLVER, Shape, Site};

use crate::world::{World, functions, hello};

fn has(answer: &DigAnswer, flag: &str) -> bool {
    answer.flags.iter().any(|it| it == flag)
}

#[test]
fn names_of_ours_are_answered_with_authority() {
    let site = Site::new(functions(), vec![hello("hello", 0)]);
    let world = World::without_node(Shape::TwoPort, site);
    let ask =
        |server: &str, question: &str| dig(&world.edge.client, &format!("@{server} {question}")).unwrap();
    for server in DNS {
        for over in ["+notcp", "+tcp"] {
            let positive: [(&str, &[&str]); 6] = [
                ("hello.fn.example. A", &["198.18.0.1"]),
                ("hello.fn.example. AAAA", &["2001:db8:f::1"]),
                ("ns1.fn.example. A", &["192.0.2.53"]),
                ("fn.example. NS", &["ns1.fn.example."]),
                ("note.fn.example. TXT", &["\"an edge in a lab\""]),
                ("fn.example. SOA", &["ns1.fn.example. ops.fn.example. 1 3600 600 604800 5"]),
            ];
            for (question, data) in positive {
                let answer = ask(server, &format!("{over} {question}"));
                assert_eq!((answer.status.as_str(), &answer.answers[..]), ("NOERROR", &data.map_owned()[..]));
                assert!(has(&answer, "aa") && !has(&answer, "tc") && !has(&answer, "ra"), "{}", answer.text);
            }
            // A name without that type, and no such name: both with the zone's SOA (RFC 2308 sections 2.1 and 2.2).
            for (question, status) in
                [("hello.fn.example. TXT", "NOERROR"), ("nobody.fn.example. A", "NXDOMAIN")]
            {
                let answer = ask(server, &format!("{over} {question}"));
                assert_eq!((answer.status.as_str(), answer.answers.len()), (status, 0), "{}", answer.text);
                assert!(answer.text.contains("ops.fn.example."), "no SOA in {}", answer.text);
            }
            let foreign = ask(server, &format!("{over} www.elsewhere.test. A"));
            assert_eq!(foreign.status, "REFUSED", "{}", foreign.text);
        }
    }
    world.conclude();
}

#[test]
fn case_is_kept_and_edns_is_understood() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    let answer = dig(&world.edge.client, &format!("@{} HeLLo.Fn.eXAMPle. A", DNS[0])).unwrap();
    assert!(answer.text.contains(";HeLLo.Fn.eXAMPle."), "{}", answer.text);
    assert_eq!(answer.answers, ["198.18.0.1"]);
    let answer = dig(&world.edge.client, &format!("@{} +bufsize=1400 hello.fn.example. A", DNS[0])).unwrap();
    assert!(answer.text.contains("EDNS: version: 0"), "{}", answer.text);
    let answer = dig(&world.edge.client, &format!("@{} +noedns hello.fn.example. A", DNS[0])).unwrap();
    assert!(!answer.text.contains("EDNS: version"), "{}", answer.text);
    // A version nobody speaks yet (RFC 6891 section 6.1.3).
    let answer =
        dig(&world.edge.client, &format!("@{} +edns=1 +noednsneg hello.fn.example. A", DNS[0])).unwrap();
    assert_eq!(answer.status, "BADVERS", "{}", answer.text);
    world.conclude();
}

#[test]
fn what_does_not_fit_is_cut_off_and_fetched_over_tcp() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    for server in DNS {
        let cut = dig(&world.edge.client, &format!("@{server} +ignore long.fn.example. TXT")).unwrap();
        assert!(has(&cut, "tc"), "{}", cut.text);
        let whole = dig(&world.edge.client, &format!("@{server} long.fn.example. TXT")).unwrap();
        assert!(!has(&whole, "tc") && whole.text.contains("(TCP)"), "{}", whole.text);
        assert_eq!(whole.text.matches("long ").count(), 400, "{}", whole.text);
    }
    // Several questions over one connection, by another client.
    let text = world
        .edge
        .client
        .run(&format!(
            "kdig +tcp +keepopen +short +time=5 @{} hello.fn.example. A ns1.fn.example. A note.fn.example. TXT",
            DNS[0]
        ))
        .unwrap();
    assert_eq!(text.split_whitespace().take(2).collect::<Vec<_>>(), ["198.18.0.1", "192.0.2.53"], "{text}");
    world.conclude();
}

/// Thousands of queries over four connections, fifty of them on their way at any time (RFC 7766 section 6.2.1.1).
#[test]
fn queries_that_wait_for_no_answer_are_all_answered_over_tcp() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    let questions = "ns1.fn.example. A\nlong.fn.example. TXT\nnobody.fn.example. A\nhello.fn.example. AAAA\n";
    let file = world.edge.lab().write("questions.txt", &questions.repeat(500)).unwrap();
    for server in DNS {
        let asked = format!("dnsperf -m tcp -s {server} -c 4 -q 50 -n 1 -t 20 -d {}", file.display());
        let text = world.edge.client.run(&asked).unwrap();
        let count = |what: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(what));
            line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok())
        };
        assert_eq!((count("Queries sent:"), count("Queries completed:")), (Some(2000), Some(2000)), "{text}");
        assert_eq!(count("Queries lost:"), Some(0), "{text}");
        assert!(text.contains("NOERROR 1500 (75.00%), NXDOMAIN 500 (25.00%)"), "{text}");
    }
    world.conclude();
}

/// Aliases, wildcards, service bindings and ANY, as clients of others read them.
#[test]
fn records_of_all_kinds_are_understood() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    for server in DNS {
        let ask = |question: &str| dig(&world.edge.client, &format!("@{server} {question}")).unwrap();
        let alias = ask("alias.fn.example. A");
        assert_eq!(alias.answers, ["ns1.fn.example.", "192.0.2.53"], "{}", alias.text);
        assert_eq!(ask("any.name.wild.fn.example. A").answers, ["192.0.2.77"]);
        assert_eq!(ask("any.name.wild.fn.example. TXT").status, "NOERROR");
        assert_eq!(ask("note.fn.example. HTTPS").answers, ["1 . alpn=\"h2\""]);
        assert_eq!(ask("note.fn.example. ANY +notcp").answers, ["\"RFC8482\" \"\""]);
        assert!(ask("www.elsewhere.test. A").text.contains("EDE: 20"), "no reason given");
    }
    world.conclude();
}

/// dig shows a cookie that it was given, and recognises its own in the answer.
#[test]
fn cookies_are_good() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    let first = dig(&world.edge.client, &format!("@{} +cookie hello.fn.example. A", DNS[0])).unwrap();
    let line = first.text.lines().find_map(|line| line.split("COOKIE: ").nth(1));
    let Some((cookie, "(good)")) = line.and_then(|line| line.split_once(' ')) else {
        panic!("no good cookie in {}", first.text);
    };
    assert_eq!(cookie.len(), 48, "client's and server's, in hexadecimal digits");
    let again =
        dig(&world.edge.client, &format!("@{} +cookie={cookie} hello.fn.example. A", DNS[0])).unwrap();
    assert!(
        again.text.contains(&format!("COOKIE: {cookie} (good)")),
        "a fresh cookie comes back: {}",
        again.text
    );
    world.conclude();
}

/// Clients see the zones of their view, by where they are; everybody else those of nobody's.
#[test]
fn views_are_told_apart_by_the_clients_prefixes() {
    let tables = r#"
[[dns.view]]
name    = "inside"
clients = ["10.1.0.0/24"]

[[dns.zone]]
name = "fn.example."
view = "inside"
soa  = { primary = "ns1.fn.example.", contact = "ops.fn.example.", serial = 2, minimum_ttl_seconds = 5 }
ttl_seconds = 30
cold_ttl_seconds = 1
records = [{ name = "note", type = "TXT", data = "for us alone" }]

"#;
    let site = Site { tables, ..Site::new(functions(), vec![hello("hello", 0)]) };
    let world = World::without_node(Shape::TwoPort, site);
    // Those that are asked themselves and those that are asked past us, over UDP and over TCP.
    for (server, how) in [(DNS[0], "+notcp"), (DNS[0], "+tcp"), (RESOLVER[0], "+notcp")] {
        for (from, note) in [("10.1.0.10", "\"for us alone\""), ("10.2.0.10", "\"an edge in a lab\"")] {
            let asked =
                dig(&world.edge.client, &format!("@{server} -b {from} {how} note.fn.example. TXT")).unwrap();
            assert_eq!(asked.answers, [note], "{server} {how} {from}: {}", asked.text);
        }
    }
    world.conclude();
}

/// Who asks too much, or is said to, hears nothing but that it may ask over TCP, and only every second time; others are
/// answered as ever.
#[test]
fn too_many_answers_to_one_network_are_held_back() {
    let limit = "{ responses_per_second = 50, per_prefix = { v4 = 24, v6 = 56 }, slip = 2 }";
    let dns_keys = vec![("rate_limit".to_owned(), limit.to_owned())];
    let site = Site { dns_keys, ..Site::new(functions(), vec![hello("hello", 0)]) };
    let world = World::without_node(Shape::TwoPort, site);
    let file = world.edge.lab().write("questions.txt", &"ns1.fn.example. A\n".repeat(2000)).unwrap();
    let asked =
        format!("dnsperf -s {} -a 10.1.0.10 -c 1 -Q 2000 -q 2000 -n 1 -t 1 -d {}", DNS[0], file.display());
    let text = world.edge.client.run(&asked).unwrap();
    let count = |what: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(what));
        line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).unwrap()
    };
    let (sent, lost) = (count("Queries sent:"), count("Queries lost:"));
    assert_eq!(sent, 2000, "{text}");
    // A second's worth at once and as much in each second that it takes; of the rest, every second is told to come by TCP.
    let limited = world.appliance.show("nodes").unwrap()[0].clone();
    assert!((800..=1000).contains(&lost), "{lost} lost: {text} {limited}");
    let other =
        dig(&world.edge.client, &format!("@{} -b 10.2.0.10 +ignore ns1.fn.example. A", DNS[0])).unwrap();
    assert!(!has(&other, "tc") && other.answers == ["192.0.2.53"], "{}", other.text);
    let by_tcp =
        dig(&world.edge.client, &format!("@{} -b 10.1.0.10 +tcp ns1.fn.example. A", DNS[0])).unwrap();
    assert_eq!(by_tcp.answers, ["192.0.2.53"], "{}", by_tcp.text);
    world.conclude();
}

/// A resolver's own answers must not be answered: two servers would talk for ever.
#[test]
fn responses_are_dropped() {
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![hello("hello", 0)]));
    let tried =
        dig(&world.edge.client, &format!("@{} +qr +header-only +time=1 +aaflag hello.fn.example.", DNS[0]));
    assert!(tried.is_ok(), "a query with odd flags is still a query: {tried:?}");
    // dig cannot set QR; a line of the shell can: header with QR=1, one question for "fn.example. A".
    let datagram = r"\x12\x34\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02fn\x07example\x00\x00\x01\x00\x01";
    let script =
        format!("exec 3<>/dev/udp/{}/53; printf '{datagram}' >&3; timeout 1 head -c 1 <&3 | wc -c", DNS[0]);
    let mut command = world.edge.client.command("bash");
    let text = millrace_hw_tests::lab::command::succeed(command.args(["-c", &script])).unwrap();
    assert_eq!(text.trim(), "0", "a response was answered");
    let nodes = world.appliance.show("nodes").unwrap().to_string();
    assert!(nodes.contains("response"), "no drop names the response: {nodes}");
    world.conclude();
}

/// Lists of literals as the answers hold them.
trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for [&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|&text| text.to_owned()).collect()
    }
}

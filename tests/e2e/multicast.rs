//! Multicast at the edges of a BIER domain: hosts whose kernels say what they listen to, and sources whose streams enter.
//!
//! ```text
//!   client, a source ── wan ┌───────────┐ upstream ──► resolver: router p2, to 1 and 2
//!                           │ appliance │ lan ───────► function: router p3, to 3 and 66, and hosts that listen
//!                           └───────────┘
//! ```

use millrace_hw_tests::edge::{Shape, Site};
use millrace_hw_tests::lab::{Capture, Frame, Look, Process, command, wait_until};
use serde_json::Value;

use crate::world::{SOON, World, functions, hello};

/// Hosts are asked often, so that a test sees answers; a group that everybody has left goes on for 0.4 s.
const EDGE: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
ttl = 20
table = [
  { neighbour = "p2", address = "172.16.53.53", bfr_ids = "1,2" },
  { neighbour = "p3", address = "198.51.100.21", bfr_ids = "3,66-70" },
]
[[bier.overlay]]
source = "192.0.2.2"
group = "232.1.1.2"
subdomain = 0
receivers = "1,2,3,5"
[[bier.overlay]]
source = "2001:db8::2"
group = "ff3e::1:2"
subdomain = 0
receivers = "2,5"
[[bier.querier]]
ports = ["lan"]
query_interval_seconds = 2
response_ms = 500
last_member_ms = 200
"#;

const PACKETS: usize = 20;
const GROUPS: [&str; 2] = ["232.1.1.2", "ff3e::1:2"];
const SOURCES: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// Twelve bytes, and 256 bits (RFC 8296 section 2).
const HEADER: usize = 44;

fn world(tables: &'static str) -> World {
    let world = World::without_node(
        Shape::TwoPort,
        Site { tables, ..Site::new(functions(), vec![hello("hello", 0)]) },
    );
    wait_until("both neighbours to be found", SOON, || {
        let shown = shown(&world);
        let rows = shown["neighbours"].as_array().cloned().unwrap_or_default();
        match rows.len() == 2 && rows.iter().all(|row| row["links"][0]["mac"].is_string()) {
            true => Look::Done(()),
            false => Look::NotYet(shown["neighbours"].to_string()),
        }
    })
    .unwrap();
    world
}

fn shown(world: &World) -> Value {
    world.appliance.show("bier").unwrap()
}

/// A socket on the function's host that joins a group, from all sources or one, and prints what it gets. Its kernel says so
/// to the network; when the socket is closed, it says that, too.
fn listen(world: &World, group: &str, source: Option<&str>) -> Process {
    let script = "import socket, struct, sys\n\
        group, source = sys.argv[1], sys.argv[2:]\n\
        six = ':' in group\n\
        s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind((group, 5000))\n\
        index = struct.pack('@I', socket.if_nametoindex('eth0'))\n\
        packed = lambda text: socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)\n\
        def storage(text):\n\
        \x20   family = struct.pack('=H', socket.AF_INET6 if six else socket.AF_INET)\n\
        \x20   rest = b'\\0\\0' + (b'\\0\\0\\0\\0' if six else b'') + packed(text)\n\
        \x20   return (family + rest).ljust(128, b'\\0')\n\
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP\n\
        head = index + b'\\0\\0\\0\\0' + storage(group)\n\
        # MCAST_JOIN_GROUP, or MCAST_JOIN_SOURCE_GROUP (RFC 3678).\n\
        s.setsockopt(level, 46 if source else 42, head + (storage(source[0]) if source else b''))\n\
        print('joined', flush=True)\n\
        while True: print(s.recv(2000).decode(), flush=True)\n";
    let mut command = world.edge.function.command("python3");
    let command = command.args(["-u", "-c", script, group]).args(source);
    let listener = world.edge.function.spawn("listener", command).unwrap();
    listener.wait_until("the listener to join", SOON, || listener.stdout().contains("joined")).unwrap();
    listener
}

fn heard(listener: &Process) -> Vec<String> {
    listener.stdout().lines().skip(1).map(str::to_owned).collect()
}

/// A stream from the client's kernel, a datagram with each of these texts.
fn stream(world: &World, group: &str, texts: &[String]) {
    let script = "import socket, struct, sys\n\
        group = sys.argv[1]\n\
        six = ':' in group\n\
        s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)\n\
        if six:\n\
        \x20   s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 16)\n\
        \x20   s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex('eth0'))\n\
        \x20   s.bind(('2001:db8::2', 0))\n\
        else:\n\
        \x20   s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 16)\n\
        \x20   s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('192.0.2.2'))\n\
        \x20   s.bind(('192.0.2.2', 0))\n\
        for text in sys.argv[2:]: s.sendto(text.encode(), (group, 5000))\n";
    command::succeed(world.edge.client.command("python3").args(["-c", script, group]).args(texts)).unwrap();
}

fn texts(from: usize) -> Vec<String> {
    (from..from + PACKETS).map(|number| format!("packet number {number:04}")).collect()
}

/// The row of a group's members on the lan, if there is one that fits.
fn wait_for_member(world: &World, group: &str, fits: impl Fn(Option<&Value>) -> bool) {
    wait_until("the members to be as they should", SOON, || {
        let shown = shown(world);
        let rows = shown["members"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["group"] == group && row["interface"] == "lan");
        match fits(row) {
            true => Look::Done(()),
            false => Look::NotYet(shown["members"].to_string()),
        }
    })
    .unwrap();
}

fn reports(world: &World) -> u64 {
    world.appliance.show("link").unwrap()["counters"]["membership_reports"].as_u64().unwrap()
}

/// Waits until hosts have answered two questions to everybody more.
fn wait_for_answers(world: &World) {
    let before = reports(world);
    wait_until("hosts to answer", SOON, || reports(world) >= before + 4).unwrap();
}

/// Waits until workers have the tables that the slowpath has: what is shown to listen is served.
fn wait_for_listeners(world: &World, group: &str, served: bool) {
    wait_until("the tables to be out", SOON, || {
        let shown = shown(world);
        let rows = shown["listeners"].as_array().cloned().unwrap_or_default();
        rows.iter().any(|row| row["group"] == group && row["interfaces"][0] == "lan") == served
    })
    .unwrap();
}

#[test]
fn hosts_get_a_stream_while_they_listen_and_once() {
    let world = world(EDGE);
    let listeners: Vec<_> = GROUPS.iter().map(|group| listen(&world, group, None)).collect();
    for (group, version) in GROUPS.into_iter().zip(["igmpv3", "mldv2"]) {
        let fits = |row: &Value| {
            row["mode"] == "exclude"
                && row["version"] == version
                && row["expires_seconds"].as_f64() <= Some(4.5)
        };
        wait_for_member(&world, group, |row| row.is_some_and(fits));
        wait_for_listeners(&world, group, true);
    }
    let queriers = shown(&world)["queriers"].clone();
    let ours = |row: &Value| row["interface"] == "lan" && row["ours"] == true && row["groups"] == 1;
    assert!(queriers.as_array().is_some_and(|rows| rows.len() == 2 && rows.iter().all(ours)), "{queriers}");
    let first = texts(0);
    for group in GROUPS {
        stream(&world, group, &first);
    }
    for listener in &listeners {
        listener.wait_until("the stream", SOON, || heard(listener).len() >= PACKETS).unwrap();
    }
    // Longer than a membership counts without an answer.
    wait_for_answers(&world);
    wait_for_answers(&world);
    let second = texts(PACKETS);
    for group in GROUPS {
        stream(&world, group, &second);
    }
    for listener in &listeners {
        listener.wait_until("the rest", SOON, || heard(listener).len() >= 2 * PACKETS).unwrap();
        let mut all = heard(listener);
        all.sort();
        assert_eq!(all, [first.clone(), second.clone()].concat(), "each once");
    }
    let text = world.appliance.ask("show bier overlay").unwrap();
    for word in ["igmpv3", "mldv2", "exclude", "198.51.100.1 (us)"] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    drop(listeners);
    for group in GROUPS {
        wait_for_member(&world, group, |row| row.is_none());
        wait_for_listeners(&world, group, false);
    }
    let capture = Capture::start(world.edge.lab(), &world.edge.function, "eth0", "udp port 5000").unwrap();
    let before = shown(&world)["counters"]["lost"]["no-listener"].as_u64().unwrap();
    for group in GROUPS {
        stream(&world, group, &texts(2 * PACKETS));
    }
    wait_until("the stream to find nobody", SOON, || {
        shown(&world)["counters"]["lost"]["no-listener"].as_u64() >= Some(before + 2 * PACKETS as u64)
    })
    .unwrap();
    assert!(capture.finish().unwrap().is_empty());
    world.conclude();
}

#[test]
fn hosts_get_the_sources_that_they_name() {
    let world = world(EDGE);
    let right: Vec<_> =
        GROUPS.into_iter().zip(SOURCES).map(|(group, source)| listen(&world, group, Some(source))).collect();
    for (group, source) in GROUPS.into_iter().zip(SOURCES) {
        wait_for_member(&world, group, |row| {
            row.is_some_and(|row| row["mode"] == "include" && row["sources"][0]["source"] == source)
        });
        wait_for_listeners(&world, group, true);
        stream(&world, group, &texts(0));
    }
    for listener in &right {
        listener.wait_until("the stream", SOON, || heard(listener).len() >= PACKETS).unwrap();
    }
    drop(right);
    let others = ["192.0.2.99", "2001:db8::99"];
    let wrong: Vec<_> =
        GROUPS.into_iter().zip(others).map(|(group, source)| listen(&world, group, Some(source))).collect();
    for (group, source) in GROUPS.into_iter().zip(others) {
        // The group goes on to have listeners, and to one source alone.
        wait_for_member(&world, group, |row| {
            row.and_then(|row| row["sources"].as_array())
                .is_some_and(|sources| sources.len() == 1 && sources[0]["source"] == source)
        });
        stream(&world, group, &texts(0));
    }
    wait_until("the streams to find nobody", SOON, || {
        shown(&world)["counters"]["lost"]["no-listener"].as_u64() >= Some(2 * PACKETS as u64)
    })
    .unwrap();
    assert!(wrong.iter().all(|listener| heard(listener).is_empty()));
    drop(wrong);
    world.conclude();
}

/// BFIR-id, bits, time to live, entropy and the payload's own time to live.
fn header(frame: &Frame) -> (u16, Vec<usize>, u8, u32, u8) {
    let bytes = &frame.bytes[14..];
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let is_set = |id: &usize| bytes[HEADER - 1 - (id - 1) / 8] >> ((id - 1) % 8) & 1 == 1;
    let hops = if bytes[HEADER] >> 4 == 4 { bytes[HEADER + 8] } else { bytes[HEADER + 7] };
    (word(8) as u16, (1..=256).filter(is_set).collect(), word(0) as u8, word(4) & 0xf_ffff, hops)
}

/// What a stream's packets become, on both sides and for those who listen here.
#[test]
fn a_stream_enters_with_a_header_for_its_receivers() {
    let world = world(EDGE);
    let capture = |host| Capture::start(world.edge.lab(), host, "eth0", "ether proto 0xab37").unwrap();
    let [p2, p3] = [&world.edge.resolver, &world.edge.function].map(capture);
    let expected = texts(0);
    for group in GROUPS {
        stream(&world, group, &expected);
    }
    wait_until("all copies to be made", SOON, || {
        world.appliance.fates_now().is_ok_and(|fates| fates.get("copies") >= 3 * PACKETS as u64)
    })
    .unwrap();
    let [p2, p3] = [p2, p3].map(|capture| capture.finish().unwrap());
    let split = |frames: &[Frame]| -> [Vec<Frame>; 2] {
        let of =
            |version: u8| frames.iter().filter(move |one| one.bytes[14 + HEADER] >> 4 == version).cloned();
        [of(4).collect(), of(6).collect()]
    };
    let [[v4, v6], [lan, none]] = [split(&p2), split(&p3)];
    assert!(none.is_empty(), "nobody there is a receiver of the second stream");
    for (frames, bits) in [(v4, vec![1, 2]), (v6, vec![2]), (lan, vec![3])] {
        let headers: Vec<_> = frames.iter().map(header).collect();
        let entropy = headers[0].3;
        assert!(headers.iter().all(|one| *one == (5, bits.clone(), 20, entropy, 15)), "{headers:?}");
        let text = |frame: &Frame| {
            let len = frame.bytes.len();
            String::from_utf8_lossy(&frame.bytes[len - expected[0].len()..]).into_owned()
        };
        let mut texts: Vec<_> = frames.iter().map(text).collect();
        texts.sort();
        assert_eq!(texts, expected, "each once");
    }
    let fates = world.conclude();
    assert_eq!(fates.get("replicated"), 2 * PACKETS as u64, "{fates:?}");
}

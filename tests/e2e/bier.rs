//! BIER: one packet comes in, each neighbour gets the one copy that is for it, and who listens behind us gets the payload,
//! once.
//!
//! ```text
//!   client ── BIER ──► wan ┌───────────┐ upstream ──► resolver: router p2, to 1 and 2
//!                          │ appliance │ lan ───────► function: router p3, to 3 and 66, and a listener
//!                          └───────────┘
//! ```

use std::net::Ipv4Addr;

use millrace_hw_tests::edge::{Appliance, Edge, Fates, Shape, Site};
use millrace_hw_tests::lab::{Capture, Frame, Host, Lab, Look, Process, wait_until};

use crate::world::{BINARY, SOON, World, functions, hello};

const BIER: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
bift_id = { "si 0" = 1000 }
table = [
  { neighbour = "p2", address = "172.16.53.53", bfr_ids = "1,2", bift_id = { "si 0" = 2000 } },
  { neighbour = "p3", address = "198.51.100.21", bfr_ids = "3,66-70", bift_id = "static" },
]
[[bier.listener]]
group = "232.1.1.2"
ports = ["lan"]
"#;

/// The same with receiver 2 behind the other neighbour.
const MOVED: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
bift_id = { "si 0" = 1000 }
table = [
  { neighbour = "p2", address = "172.16.53.53", bfr_ids = "1", bift_id = { "si 0" = 2000 } },
  { neighbour = "p3", address = "198.51.100.21", bfr_ids = "2,3,66-70", bift_id = "static" },
]
[[bier.listener]]
group = "232.1.1.2"
ports = ["lan"]
"#;

/// BIFT-id, bits of the bit string by BFR-id, and time to live of a frame.
pub(crate) type Seen = (u32, Vec<usize>, u8);

pub(crate) const PACKETS: usize = 20;
const GROUP: &str = "232.1.1.2";
/// Twelve bytes, and 256 bits (RFC 8296 section 2).
pub(crate) const HEADER: usize = 44;
/// The static form of sub-domain 0, set 0, 256 bits: the length's code is 3.
pub(crate) const STATIC: u32 = 3 << 16;

pub(crate) fn site(tables: &'static str) -> Site {
    Site { tables, ..Site::new(functions(), vec![hello("hello", 0)]) }
}

pub(crate) fn world(tables: &'static str) -> World {
    World::without_node(Shape::TwoPort, site(tables))
}

/// An Ethernet frame from the client with a BIER header for these receivers around a datagram with this text to the group.
pub(crate) fn frame(world: &World, receivers: &[usize], entropy: u32, text: &str) -> String {
    let ends = [world.edge.appliance.mac("wan").unwrap(), world.edge.client.mac("eth0").unwrap()];
    frame_between(ends, receivers, entropy, text)
}

/// The same to one link-layer address from another.
pub(crate) fn frame_between(ends: [String; 2], receivers: &[usize], entropy: u32, text: &str) -> String {
    let mac = |text: String| text.trim().replace(':', "");
    let mut bytes = Vec::new();
    bytes.extend((1000_u32 << 12 | 1 << 8 | 32).to_be_bytes());
    // Version 0, length code 3; IPv4 inside; from BFIR 9. The nibble means nothing here.
    bytes.extend((3 << 20 | entropy).to_be_bytes());
    bytes.extend((4_u32 << 16 | 9).to_be_bytes());
    let mut string = [0; 32];
    for id in receivers {
        string[31 - (id - 1) / 8] |= 1 << ((id - 1) % 8);
    }
    bytes.extend(string);
    bytes.extend(datagram(text));
    let [to, from] = ends.map(mac);
    let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{to}{from}ab37{bytes}\n")
}

/// A UDP datagram to the group, without its optional checksum (RFC 768).
fn datagram(text: &str) -> Vec<u8> {
    let udp = 8 + text.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp).to_be_bytes());
    packet.extend([0, 1, 0, 0, 16, 17, 0, 0, 192, 0, 2, 2]);
    packet.extend(GROUP.parse::<Ipv4Addr>().unwrap().octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    for word in [5000, 5000, udp, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(text.as_bytes());
    packet
}

/// Puts frames on the client's wire.
pub(crate) fn send(world: &World, frames: &[String]) {
    send_from(&world.edge.client, world.edge.lab(), frames);
}

/// Puts frames on a host's wire.
pub(crate) fn send_from(host: &Host, lab: &Lab, frames: &[String]) {
    let path = lab.write("frames.hex", &frames.concat()).unwrap();
    let script = "import socket, sys\n\
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
        wire.bind(('eth0', 0))\n\
        for line in open(sys.argv[1]): wire.send(bytes.fromhex(line.strip()))\n";
    let mut command = host.command("python3");
    millrace_hw_tests::lab::command::succeed(command.args(["-c", script]).arg(path)).unwrap();
}

/// An ordinary receiver of multicast on the function's host, which prints what it gets.
pub(crate) fn listen(world: &World) -> Process {
    listen_at(&world.edge.function, "198.51.100.21")
}

/// The same on any host, by the network where it has this address.
pub(crate) fn listen_at(host: &Host, address: &str) -> Process {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind(('232.1.1.2', 5000))\n\
        join = socket.inet_aton('232.1.1.2') + socket.inet_aton(sys.argv[1])\n\
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, join)\n\
        print('joined', flush=True)\n\
        while True: print(s.recv(2000).decode(), flush=True)\n";
    let mut command = host.command("python3");
    let listener = host.spawn("listener", command.args(["-u", "-c", script, address])).unwrap();
    listener.wait_until("the listener to join", SOON, || listener.stdout().contains("joined")).unwrap();
    listener
}

/// Waits until workers know where all neighbours are: nobody asks for them when a packet comes.
pub(crate) fn wait_for_neighbours(world: &World) {
    wait_until("both neighbours to be found", SOON, || {
        let shown = match world.appliance.show("bier") {
            Ok(shown) => shown,
            Err(error) => return Look::NotYet(error.to_string()),
        };
        let rows = shown["neighbours"].as_array().cloned().unwrap_or_default();
        match rows.len() == 2 && rows.iter().all(|row| row["links"][0]["mac"].is_string()) {
            true => Look::Done(()),
            false => Look::NotYet(shown["neighbours"].to_string()),
        }
    })
    .unwrap();
}

fn seen(frame: &Frame) -> Seen {
    let header = &frame.bytes[14..14 + HEADER];
    let word = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let is_set = |id: &usize| header[HEADER - 1 - (id - 1) / 8] >> ((id - 1) % 8) & 1 == 1;
    (word >> 12, (1..=256).filter(is_set).collect(), word as u8)
}

/// All that a capture has, if each frame is to be like this one, and each payload there once.
pub(crate) fn assert_each_once(capture: Capture, like: &[(Seen, Vec<String>)]) {
    let mut frames = capture.finish().unwrap();
    frames.retain(|frame| frame.ether_type() == Some(0xab37));
    let mut expected: Vec<(Seen, String)> =
        like.iter().flat_map(|(seen, texts)| texts.iter().map(|text| (seen.clone(), text.clone()))).collect();
    let text = |frame: &Frame| String::from_utf8_lossy(&frame.bytes[14 + HEADER + 28..]).into_owned();
    let mut got: Vec<_> = frames.iter().map(|frame| (seen(frame), text(frame))).collect();
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
}

pub(crate) fn texts(from: usize) -> Vec<String> {
    (from..from + PACKETS).map(|number| format!("packet number {number:04}")).collect()
}

fn frames(world: &World, texts: &[String]) -> Vec<String> {
    let all = [1, 2, 3, 5, 66];
    texts.iter().zip(7..).map(|(text, entropy)| frame(world, &all, entropy, text)).collect()
}

pub(crate) fn wait_for_copies(world: &World, count: u64) -> Fates {
    wait_until("all copies to be made", SOON, || match world.appliance.fates_now() {
        Ok(fates) if fates.get("copies") >= count => Look::Done(fates),
        other => Look::NotYet(format!("{other:?}")),
    })
    .unwrap()
}

#[test]
fn each_neighbour_gets_its_copies_and_listeners_the_payload_once_and_a_reload_moves_receivers() {
    let world = world(BIER);
    wait_for_neighbours(&world);
    let listener = listen(&world);
    let capture = |host| Capture::start(world.edge.lab(), host, "eth0", "ether proto 0xab37").unwrap();
    let hosts = [&world.edge.resolver, &world.edge.function, &world.edge.client];
    let [p2, p3, client] = hosts.map(capture);

    let first = texts(0);
    send(&world, &frames(&world, &first));
    wait_for_copies(&world, 3 * PACKETS as u64);
    Appliance::configure(&world.edge, &Site { driver: world.appliance.driver(), ..site(MOVED) }, "edge.toml")
        .unwrap();
    let told = world.appliance.ask("reload").unwrap();
    assert!(told.contains("~ bier-neighbour 0 p2: bfr_ids [1,2] -> [1]"), "{told}");
    let second = texts(PACKETS);
    send(&world, &frames(&world, &second));
    let copies = 6 * PACKETS as u64;
    wait_for_copies(&world, copies);
    let heard = || listener.stdout().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    listener.wait_until("the payloads", SOON, || heard().len() >= 2 * PACKETS).unwrap();

    let shown = world.appliance.show("bier").unwrap();
    let counted: Vec<_> =
        shown["counters"]["copies"].as_array().unwrap().iter().map(|row| &row["copies"]).collect();
    assert_eq!(counted, [2 * PACKETS, 2 * PACKETS], "{shown}");
    let lost = shown["counters"]["lost"].as_object().unwrap();
    assert!(lost.values().all(|count| *count == 0), "{shown}");
    assert!(world.appliance.ask("show bier bift").unwrap().contains("2,3,66-70"));
    assert!(world.appliance.metrics().unwrap().contains("millrace_bier_copies_total{interface=\"lan\""));

    let mut payloads = heard();
    payloads.sort();
    assert_eq!(payloads, [first.clone(), second.clone()].concat(), "each payload once");
    // The TTL is one less, and the BIFT-id what each neighbour calls its table.
    let of = |id, bits: &[usize]| (id, bits.to_vec(), 31);
    assert_each_once(p2, &[(of(2000, &[1, 2]), first.clone()), (of(2000, &[1]), second.clone())]);
    assert_each_once(p3, &[(of(STATIC, &[3, 66]), first.clone()), (of(STATIC, &[2, 3, 66]), second.clone())]);
    let sent = (1000, vec![1, 2, 3, 5, 66], 32);
    assert_each_once(client, &[(sent, [first, second].concat())]);
    drop(listener);
    let fates = world.conclude();
    assert_eq!((fates.get("replicated"), fates.get("copies")), (2 * PACKETS as u64, copies), "{fates:?}");
}

#[test]
fn without_a_configuration_bier_is_empty_and_its_frames_are_dropped_by_name() {
    let world = world("");
    assert!(world.appliance.ask("show bier").unwrap().contains("no BIER is configured"));
    for part in ["bift", "neighbours", "overlay", "counters"] {
        world.appliance.ask(&format!("show bier {part}")).unwrap();
        world.appliance.ask(&format!("show bier {part} --json")).unwrap();
    }
    let wrong = world.appliance.ask("show ports bift").unwrap_err().to_string();
    assert!(wrong.contains("exit status: 2"), "{wrong}");
    send(&world, &frames(&world, &texts(0)));
    wait_until("the frames to be dropped", SOON, || {
        let nodes = world.appliance.show("nodes").unwrap();
        let node = nodes.as_array().unwrap().iter().find(|row| row["node"] == "classify").cloned().unwrap();
        node["drops"]["unknown-ethertype"].as_u64() >= Some(PACKETS as u64)
    })
    .unwrap();
    world.conclude();
}

/// Router 66 is behind p3; p2 and p3 are beside us.
const DOMAIN: &str = r#"
router = [
  { name = "edge", prefix = "192.0.2.1", bfr_id = 5 },
  { name = "p2", prefix = "10.255.0.2", bfr_id = 2 },
  { name = "p3", prefix = "10.255.0.3", bfr_id = 3 },
  { name = "far", prefix = "10.255.0.66", bfr_id = 66 },
]
link = [
  { a = "edge", b = "p2", b_address = "172.16.53.53" },
  { a = "edge", b = "p3", b_address = "198.51.100.21" },
  { a = "p2", b = "far", cost = 50 },
  { a = "p3", b = "far", cost = 20 },
]
"#;

const BY_TOPOLOGY: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
topology = "domain.toml"
router = "edge"
"#;

/// The ways of the only table.
fn ways(world: &World) -> Vec<(String, String)> {
    let shown = world.appliance.show("bier").unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let ways = shown["bift"][0]["ways"].as_array().cloned().unwrap_or_default();
    ways.iter().map(|way| (text(&way["neighbour"]), text(&way["bfr_ids"]))).collect()
}

#[test]
fn ways_are_computed_from_a_topology_and_follow_its_file() {
    let edge = Edge::new(Shape::TwoPort).unwrap();
    edge.lab().write("domain.toml", DOMAIN).unwrap();
    let world = World::in_edge(edge, site(BY_TOPOLOGY));
    wait_for_neighbours(&world);
    let is = |ways: &[(String, String)], expected: [(&str, &str); 2]| {
        let expected = expected.map(|(one, other)| (one.to_owned(), other.to_owned()));
        assert_eq!(ways, expected);
    };
    is(&ways(&world), [("10.255.0.2", "2"), ("10.255.0.3", "3,66")]);
    world.edge.lab().write("domain.toml", &DOMAIN.replace("cost = 20", "cost = 70")).unwrap();
    let told = world.appliance.ask("reload").unwrap();
    assert!(told.contains("~ file domain.toml: text old -> new"), "{told}");
    is(&ways(&world), [("10.255.0.2", "2,66"), ("10.255.0.3", "3")]);
    world.edge.lab().write("domain.toml", &DOMAIN.replace("b = \"far\"", "b = \"fat\"")).unwrap();
    world.appliance.ask("reload").unwrap_err();
    is(&ways(&world), [("10.255.0.2", "2,66"), ("10.255.0.3", "3")]);
    world.conclude();
}

#[test]
fn a_topology_is_computed_and_drawn_without_an_appliance() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("domain.toml");
    std::fs::write(&file, DOMAIN).unwrap();
    let compute = |args: &str| {
        let mut command = std::process::Command::new(BINARY);
        let output =
            command.args(["bier", "compute"]).arg(&file).args(args.split_whitespace()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = compute("--router edge");
    let ways: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let third = ["3,66", "p3", "by", "link", "1", "BIFT-id", "196608"];
    assert!(code == 0 && ways.contains(&third.to_vec()), "{text}");
    let (_, text) = compute("--router edge --json");
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&rows[0]["local"], &rows[0]["ways"][1]["links"][0]), (&5.into(), &1.into()));
    let (code, text) = compute("--from edge --bits 2,5,66,99");
    for line in [
        "edge sends set 0, for 2,5,66,99, delivers, no way to 99",
        "   └─ far by link 3, TTL 63, for 66, delivers",
    ] {
        assert!(code == 0 && text.lines().any(|one| one == line), "{text}");
    }
    let (_, text) = compute("--from edge --bits 66 --json");
    let visits: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&visits[2]["router"], &visits[2]["from"]), (&"far".into(), &1.into()));
    let (_, text) = compute("--from edge --bits 66 --format svg");
    assert!(text.starts_with("<svg ") && text.contains(">far<"), "{text}");
    assert_eq!(compute("--bits 66").0, 2);
    assert_eq!(compute("--router ridge").0, 2);
    std::fs::write(&file, DOMAIN.replace("bfr_id = 3 ", "bfr_id = 2 ")).unwrap();
    let (code, text) = compute("");
    assert!(
        code == 1 && text.contains("the BFR-id 2 is given twice") && text.contains("domain.toml:5"),
        "{text}"
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(compute("").0, 3);
}

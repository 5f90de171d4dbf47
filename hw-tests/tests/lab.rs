//! The lab proves itself before anything is judged by it: hosts reach each other, a name server answers, frames
//! pass through a poll-mode forwarder (testpmd, which nobody here wrote) on AF_XDP ports, and nothing stays behind.

use std::time::Duration;

use millrace_hw_tests::edge::{Edge, Shape};
use millrace_hw_tests::lab::{Capture, Certificates, Lab, command, faults, wait_until};

const START_MAX: Duration = Duration::from_secs(60);

/// Two hosts on a wire: both families, a capture that sees the payload, and an empty machine afterwards.
#[test]
fn hosts_reach_each_other_and_leave_nothing() {
    let lab = Lab::new().unwrap();
    let (left, right) = (lab.host("left").unwrap(), lab.host("right").unwrap());
    left.wire("eth0", &right, "eth0").unwrap();
    for (host, v4, v6) in
        [(&left, "192.0.2.1/24", "2001:db8::1/64"), (&right, "192.0.2.2/24", "2001:db8::2/64")]
    {
        host.address("eth0", v4).unwrap();
        host.address("eth0", v6).unwrap();
    }
    let capture = Capture::start(&lab, &right, "eth0", "icmp or icmp6").unwrap();
    left.run("ping -n -c 1 -W 5 -p 6d696c6c72616365 192.0.2.2").unwrap();
    left.run("ping -n -c 1 -W 5 2001:db8::2").unwrap();
    let holds = |frame: &millrace_hw_tests::lab::Frame| {
        frame.ip_payload().is_some_and(|payload| payload.windows(8).any(|bytes| bytes == b"millrace"))
    };
    let seen = capture.wait_for("request and reply", 2, START_MAX, holds).unwrap();
    assert_eq!(seen.len(), 2, "a request and a reply with our pattern");
    drop(capture);

    let (namespace, folder) = (left.namespace().to_owned(), lab.folder().to_owned());
    drop(lab);
    let list = command::succeed(&mut command::split("ip netns list")).unwrap();
    assert!(!list.contains(&namespace), "{list}");
    assert!(!folder.exists());
}

/// Work inside a host has that host's network and no other.
#[test]
fn sockets_opened_inside_a_host_are_its_own() {
    let lab = Lab::new().unwrap();
    let host = lab.host("host").unwrap();
    host.address("lo", "192.0.2.77/32").unwrap();
    let bind = || std::net::UdpSocket::bind(("192.0.2.77", 0)).is_ok();
    assert!(host.enter(bind).unwrap(), "the host has the address");
    assert!(!bind(), "this machine has not");
}

/// A capture on a wire is well formed; a checksum broken on its way, and a query cut off, are found.
#[test]
fn what_is_malformed_in_a_capture_is_found() {
    let lab = Lab::new().unwrap();
    let (left, right) = (lab.host("left").unwrap(), lab.host("right").unwrap());
    left.wire("eth0", &right, "eth0").unwrap();
    left.address("eth0", "192.0.2.1/24").unwrap();
    right.address("eth0", "192.0.2.2/24").unwrap();
    let capture = Capture::start(&lab, &right, "eth0", "udp port 53").unwrap();
    // Header, and "example. A".
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01";
    let sent = left.enter(|| {
        let socket = std::net::UdpSocket::bind("192.0.2.1:0")?;
        socket.send_to(query, "192.0.2.2:53")
    });
    assert_eq!(sent.unwrap().unwrap(), query.len());
    capture.wait_for("the query", 1, START_MAX, |_| true).unwrap();
    let good = capture.finish().unwrap().remove(0);
    lab.inspect().unwrap();

    let write = |name: &str, bytes: &[u8]| {
        let mut file = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        // Version 2.4, no time zone, up to 64 KiB a frame, Ethernet; then when, and how long.
        file.extend([2_u16, 4].iter().flat_map(|half| half.to_ne_bytes()));
        let length = u32::try_from(bytes.len()).unwrap();
        file.extend([0, 0, 65_536, 1, 7, 0, length, length].iter().flat_map(|word: &u32| word.to_ne_bytes()));
        file.extend(bytes);
        let path = lab.folder().join(name);
        std::fs::write(&path, file).unwrap();
        faults(&path).unwrap()
    };
    assert_eq!(write("good.pcap", &good.bytes), Vec::<String>::new());
    // The last byte of the address, of IP's header checksum, of the question; and a question that says it is longer.
    for (at, bit) in [(33, 1), (25, 1), (good.bytes.len() - 1, 1)] {
        let mut broken = good.bytes.clone();
        broken[at] ^= bit;
        assert_eq!(write("broken.pcap", &broken).len(), 1, "byte {at}");
    }
    // UDP's checksum of none, so that nothing but the message is wrong.
    let mut cut = good.bytes.clone();
    cut[40..42].fill(0);
    assert_eq!(write("none.pcap", &cut), Vec::<String>::new());
    cut[54] = 60;
    assert_eq!(write("cut.pcap", &cut).len(), 1);
}

/// A killed lab's remains go when the next lab is built.
#[test]
fn remains_of_a_dead_process_are_removed() {
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    let name = format!("mr{}-0-ghost", dead.id());
    dead.wait().unwrap();
    command::succeed(&mut command::split(&format!("ip netns add {name}"))).unwrap();
    let _lab = Lab::new().unwrap();
    let list = command::succeed(&mut command::split("ip netns list")).unwrap();
    assert!(!list.contains(&name), "{list}");
}

/// A query crosses two AF_XDP ports of a poll-mode forwarder, over UDP and over TCP, and the address of the server is
/// learnt through it: no checksum is left unfinished, and XDP works on these links.
#[test]
fn a_name_server_answers_through_a_poll_mode_forwarder() {
    let lab = Lab::new().unwrap();
    let client = lab.host("client").unwrap().on_cpu(0);
    let forwarder = lab.host("forwarder").unwrap();
    let server = lab.host("server").unwrap().on_cpu(0);
    forwarder.wire("west", &client, "eth0").unwrap();
    forwarder.wire("east", &server, "eth0").unwrap();
    for port in ["west", "east"] {
        forwarder.leave_to_dpdk(port).unwrap();
    }
    for (host, v4, v6) in
        [(&client, "192.0.2.1/24", "2001:db8::1/64"), (&server, "192.0.2.53/24", "2001:db8::53/64")]
    {
        host.address("eth0", v4).unwrap();
        host.address("eth0", v6).unwrap();
    }
    let _resolver = millrace_hw_tests::lab::NameServer::start(
        &lab,
        &server,
        &["192.0.2.53", "2001:db8::53"],
        "example.",
        "www A 198.51.100.80\nwww AAAA 2001:db8::80\n",
    )
    .unwrap();

    let mut testpmd = forwarder.command("stdbuf");
    testpmd.args([
        "-oL",
        "dpdk-testpmd",
        "--no-pci",
        "--no-telemetry",
        "--no-huge",
        "-m",
        "64",
        "--no-shconf",
    ]);
    testpmd.args([
        "--lcores=0@(0-1),1@(0-1)",
        "--vdev=net_af_xdp0,iface=west",
        "--vdev=net_af_xdp1,iface=east",
    ]);
    testpmd.args([
        "--",
        "--total-num-mbufs=8192",
        "--forward-mode=io",
        "--auto-start",
        "--stats-period=3600",
    ]);
    let testpmd = forwarder.spawn("testpmd", &mut testpmd).unwrap();
    testpmd
        .wait_until("an answer through testpmd", START_MAX, || {
            client
                .run("dig +short +time=1 +tries=1 @192.0.2.53 www.example. A")
                .is_ok_and(|text| text.trim() == "198.51.100.80")
        })
        .unwrap();
    let text = client.run("dig +short +time=5 @2001:db8::53 www.example. AAAA").unwrap();
    assert_eq!(text.trim(), "2001:db8::80");
    let text = client.run("dig +short +tcp +time=5 @192.0.2.53 www.example. A").unwrap();
    assert_eq!(text.trim(), "198.51.100.80");
}

/// A process that ends early is reported with its last words, at once.
#[test]
fn the_early_end_of_a_process_is_told_with_its_last_words() {
    let lab = Lab::new().unwrap();
    let host = lab.host("host").unwrap();
    let mut command = host.command("ls");
    let process = host.spawn("ls", command.arg("/does/not/exist")).unwrap();
    let said = process.wait_until("the impossible", START_MAX, || false).unwrap_err().to_string();
    assert!(said.contains("host-ls") && said.contains("No such file"), "{said}");
}

/// The certificates of a lab verify against their authority, for the name and the address.
#[test]
fn certificates_verify() {
    let lab = Lab::new().unwrap();
    let certificates = Certificates::new(&lab).unwrap();
    let identity = certificates.identity("site", Some("192.168.99.1")).unwrap();
    let mut verify = command::split("openssl verify -x509_strict -verify_ip 192.168.99.1 -CAfile");
    command::succeed(verify.arg(&certificates.authority).arg(&identity.certificate)).unwrap();
    wait_until("the key", Duration::ZERO, || identity.key.exists()).unwrap();
}

/// An edge location stands before any appliance runs in it: the orchestrator link carries packets, the upstream answers,
/// every client has its address, and the kernel keeps its hands off the ports.
#[test]
fn an_edge_location_stands() {
    for shape in [Shape::TwoPort, Shape::OnePort] {
        let edge = Edge::new(shape).unwrap();
        edge.function.run("ping -n -c 1 -W 5 192.168.99.1").unwrap();
        let addresses = edge.client.run("ip -4 -brief address show dev lo").unwrap();
        assert_eq!(addresses.matches("/32").count(), 200, "{addresses}");
        let ports = edge.appliance.run("ip -brief address show").unwrap();
        for port in ["wan", "upstream"] {
            let line = ports.lines().find(|line| line.starts_with(port)).unwrap();
            assert!(!line.contains('/'), "the kernel has an address on {line}");
        }
        assert!(edge.upstream().process().exited().is_none());
        assert_eq!(edge.client.kernel_counter("TcpExtTCPSynRetrans").unwrap(), 0);
    }
}

/// Set for the copy of this program that builds a lab and waits for its end.
const WAIT: &str = "MILLRACE_LAB_WAITS";

/// Who interrupts a lab finds nothing of it left, neither hosts nor processes.
#[test]
fn a_signal_removes_everything() {
    if std::env::var_os(WAIT).is_some() {
        let lab = Lab::new().unwrap();
        let host = lab.host("host").unwrap();
        let process = host.spawn("sleeper", host.command("sleep").arg("1000")).unwrap();
        println!("ready {} {}", host.namespace(), process.id());
        loop {
            std::thread::park();
        }
    }
    let mut copy = std::process::Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "a_signal_removes_everything", "--nocapture"]).env(WAIT, "1");
    let outer = Lab::new().unwrap();
    for end in [millrace_hw_tests::lab::Process::interrupt, millrace_hw_tests::lab::Process::terminate] {
        let process = outer.spawn("copy", &mut copy).unwrap();
        let line = process.wait_until("its lab", START_MAX, || {
            process.stdout().lines().find(|line| line.contains("ready ")).map(str::to_owned)
        });
        let line = line.unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let (namespace, sleeper) = (words[words.len() - 2], words[words.len() - 1]);
        end(&process);
        assert!(!process.wait(START_MAX).unwrap().success());
        let list = command::succeed(&mut command::split("ip netns list")).unwrap();
        assert!(!list.contains(namespace), "{list}");
        let gone = !std::path::Path::new(&format!("/proc/{sleeper}")).exists();
        assert!(gone, "process {sleeper} outlived its lab");
    }
}

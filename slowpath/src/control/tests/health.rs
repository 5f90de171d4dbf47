//! Checks of backends and instances, with workers on the heap driver and hosts that the test plays: probes go out by the
//! workers as everything does, and their answers come in.

use std::sync::atomic::{AtomicU64, Ordering};

use millrace_config::Config;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::heap::{HeapDriver, HeapNet, HeapPlan};
use millrace_fastpath::node::{NodeId, host};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, IpRepr,
    Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::flows::Manual;
use super::*;
use crate::testing::{EDGE, WAN_MAC};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const FRAMES: usize = 4096;
const OWN: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
const A: &str = "198.51.100.7";
const B: &str = "198.51.100.8";
const A6: &str = "2001:db8:1::7";
const B6: &str = "2001:db8:1::8";
/// Probes ten times a second.
const TCP: &str =
    "health = { kind = \"tcp\", interval_ms = 100, timeout_ms = 50, down_after = 3, up_after = 2 }";

/// What a host says to a SYN, and to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Rst,
    Accept,
    Status(u16),
}

/// A TCP segment, as an independent reader finds it.
#[derive(Clone, Debug)]
struct Segment {
    from: (IpAddress, u16),
    to: (IpAddress, u16),
    control: TcpControl,
    next: TcpSeqNumber,
    data: Vec<u8>,
}

fn read(frame: &[u8]) -> Option<Segment> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let payload;
    let (from, to) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            payload = (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload().to_vec())?;
            (packet.src_addr().into(), packet.dst_addr().into())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            payload = (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload().to_vec())?;
            (IpAddress::from(packet.src_addr()), IpAddress::from(packet.dst_addr()))
        }
        _ => return None,
    };
    let packet = TcpPacket::new_checked(&payload[..]).unwrap();
    let tcp = TcpRepr::parse(&packet, &from, &to, &ChecksumCapabilities::default()).unwrap();
    Some(Segment {
        from: (from, tcp.src_port),
        to: (to, tcp.dst_port),
        control: tcp.control,
        next: tcp.seq_number + tcp.segment_len(),
        data: tcp.payload.to_vec(),
    })
}

fn write(
    macs: [[u8; 6]; 2],
    from: (IpAddress, u16),
    to: (IpAddress, u16),
    control: TcpControl,
    (seq, ack): (i32, Option<TcpSeqNumber>),
    data: &[u8],
) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: from.1,
        dst_port: to.1,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack,
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: data,
    };
    let ip = IpRepr::new(from.0, to.0, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let caps = ChecksumCapabilities::default();
    let mut bytes = vec![0; 14 + ip.buffer_len()];
    let ethertype = if from.0.version() == smoltcp::wire::IpVersion::Ipv4 {
        EthernetProtocol::Ipv4
    } else {
        EthernetProtocol::Ipv6
    };
    let ethernet =
        EthernetRepr { src_addr: EthernetAddress(macs[0]), dst_addr: EthernetAddress(macs[1]), ethertype };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    ip.emit(&mut bytes[14..], &caps);
    let at = 14 + ip.header_len();
    tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[at..]), &from.0, &to.0, &caps);
    bytes
}

struct Lab {
    net: HeapNet,
    workers: Vec<Worker<HeapDriver, Manual>>,
    control: Control<MemoryLink>,
    shared: Arc<Shared>,
    orchestrator: OrchestratorEnd,
    now: Nanos,
    clock: Manual,
    says: HashMap<IpAddress, Says>,
    /// SYNs of ours, by the host that they came to.
    probes: HashMap<IpAddress, usize>,
    /// What hosts were asked.
    requests: Vec<String>,
    /// Clients' SYNs, by the client's port: the host that they came to.
    homes: HashMap<u16, IpAddress>,
    /// What clients got, by their port.
    answers: Vec<(u16, TcpControl)>,
    clients: u16,
}

/// [`EDGE`] with another `web`, and `hello` with more keys.
fn file(web: &str, hello: &str) -> Arc<Config> {
    let start = EDGE.find("[[service]]\nname = \"web\"").unwrap();
    let end = EDGE.find("[limits]").unwrap();
    let mut text =
        EDGE[..start].replace("idle_reap_seconds = 120", &format!("idle_reap_seconds = 120\n{hello}"));
    text += web;
    for host in [B, "198.51.100.21", A6, B6] {
        text +=
            &format!("[[neighbour]]\naddress = \"{host}\"\nmac = \"02:00:00:00:00:07\"\nport = \"lan\"\n");
    }
    text += "[[neighbour]]\naddress = \"192.0.2.254\"\nmac = \"02:00:00:00:00:09\"\nport = \"wan\"\n";
    text += &EDGE[end..];
    Arc::new(Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}")))
}

/// `web` with these backends and checks.
fn web(backends: &[&str], health: &str) -> String {
    let list: Vec<String> = backends.iter().map(|host| format!("{{ address = \"{host}\" }}")).collect();
    let v6 = if backends.iter().any(|host| host.contains(':')) { ", \"2001:db8:f::20\"" } else { "" };
    format!(
        "[[service]]\nname = \"web\"\naddress = [\"203.0.113.20\"{v6}]\nports = [\"tcp/80\"]\nbackends = [{}]\n{health}\n",
        list.join(", ")
    )
}

fn ip(text: &str) -> IpAddress {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

impl Lab {
    fn new(config: &Arc<Config>) -> Self {
        let plan = HeapPlan { ports: 2, workers: 2, frames: FRAMES, rx_queue: 1024, tx_queue: 2048 };
        let (net, drivers) = HeapNet::new(&plan);
        let shared = Shared::new(2);
        let (link, orchestrator) = memory_link(16);
        let settings =
            Settings { boot: 7, names_key: HashKey(1, 2), unix_offset_nanos: 5, ..Settings::default() };
        let host = Box::new(SmolStack::new(config, 1));
        let control =
            Control::new(config, &ports(), Arc::clone(&shared), link, host, settings, ms(0)).unwrap();
        let rings = Rings::new(2);
        let clock = Manual(Arc::new(AtomicU64::new(ms(0).0)));
        let limits = WorkerLimits { flows: 1 << 12, holds: 64, ..WorkerLimits::default() };
        let worker = |(index, driver)| {
            Worker::new(index, driver, clock.clone(), shared.clone(), Arc::clone(&rings), [7, 11], &limits)
        };
        let workers = drivers.into_iter().enumerate().map(worker).collect();
        let says = [A, B, A6, B6, "198.51.100.21"].map(|host| (ip(host), Says::Accept)).into();
        let mut lab = Self {
            net,
            workers,
            control,
            shared,
            orchestrator,
            now: ms(0),
            clock,
            says,
            probes: HashMap::new(),
            requests: Vec::new(),
            homes: HashMap::new(),
            answers: Vec::new(),
            clients: 20_000,
        };
        lab.round();
        lab
    }

    /// Everybody does what there is to do.
    fn round(&mut self) {
        for _ in 0..6 {
            self.now = self.now.plus(1000);
            self.clock.0.store(self.now.0, Ordering::Relaxed);
            self.control.turn(self.now);
            while self.workers.iter_mut().map(Worker::poll).sum::<usize>() > 0 {}
            while let Some(frame) = self.net.take(PortId(1)) {
                self.host(&frame);
            }
            while let Some(frame) = self.net.take(PortId(0)) {
                self.answers.extend(read(&frame).map(|segment| (segment.to.1, segment.control)));
            }
            while self.workers.iter_mut().map(Worker::poll).sum::<usize>() > 0 {}
        }
    }

    /// A host hears a frame.
    fn host(&mut self, frame: &[u8]) {
        let Some(heard) = read(frame) else { return };
        let says = self.says[&heard.to.0];
        let of_ours = OWN.iter().any(|own| ip(own) == heard.from.0);
        let say = |control, seq, data: &[u8]| {
            let said =
                write([HOST_MAC, LAN_MAC], heard.to, heard.from, control, (seq, Some(heard.next)), data);
            assert!(self.net.deliver(PortId(1), 0, &said));
        };
        match (heard.control, says) {
            (TcpControl::Syn, Says::Nothing) => {}
            (TcpControl::Syn, Says::Rst) => say(TcpControl::Rst, 0, b""),
            (TcpControl::Syn, _) => say(TcpControl::Syn, 900, b""),
            (TcpControl::Psh, Says::Status(code)) => {
                say(TcpControl::Psh, 901, format!("HTTP/1.1 {code} Whatever\r\n\r\n").as_bytes());
            }
            _ => {}
        }
        if heard.control == TcpControl::Syn {
            match of_ours {
                true => *self.probes.entry(heard.to.0).or_default() += 1,
                false => {
                    self.homes.insert(heard.from.1, heard.to.0);
                }
            }
        }
        if of_ours && !heard.data.is_empty() {
            self.requests.push(String::from_utf8(heard.data).unwrap());
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.plus(1_000_000 - 6000);
            self.round();
        }
    }

    /// Runs until something is so; how many milliseconds that took.
    fn run_until(&mut self, what: &str, patience_ms: u64, so: impl Fn(&Self) -> bool) -> u64 {
        for ms in 0..patience_ms {
            if so(self) {
                return ms;
            }
            self.run(1);
        }
        panic!("never: {what}");
    }

    /// A new client of `web` in each family asked for; the hosts that its SYN came to.
    fn connect(&mut self, v6: bool) -> Option<IpAddress> {
        self.clients += 1;
        let (from, to) = if v6 { ("2001:db8:9::9", "2001:db8:f::20") } else { ("10.1.0.9", "203.0.113.20") };
        let (from, to) = ((ip(from), self.clients), (ip(to), 80));
        let syn = write([CLIENT_MAC, WAN_MAC], from, to, TcpControl::Syn, (1, None), b"");
        assert!(self.net.deliver(PortId(0), self.clients % 2, &syn));
        self.round();
        self.homes.get(&self.clients).copied()
    }

    /// Where a hundred new clients come to, each host once.
    fn reached(&mut self, v6: bool) -> Vec<IpAddress> {
        let mut hosts: Vec<IpAddress> = (0..100).filter_map(|_| self.connect(v6)).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    fn down(&self, service: &str) -> Vec<IpAddress> {
        let tables = self.shared.tables();
        let service = tables.services.get(self.control.builder.find(service).unwrap()).unwrap();
        let instances = service.instances.iter();
        let down =
            instances.flat_map(|one| one.addresses.iter().flatten().filter(|addr| one.is_down_at(**addr)));
        down.map(|addr| addr.to_ip().into()).collect()
    }

    fn phase(&self, service: &str) -> Phase {
        self.shared.slots.get(self.control.builder.find(service).unwrap()).load().0
    }

    fn say(&mut self, host: &str, says: Says) {
        self.says.insert(ip(host), says);
    }

    fn probes(&mut self, host: &str) -> usize {
        self.probes.remove(&ip(host)).unwrap_or(0)
    }

    fn reload(&mut self, config: &Arc<Config>) {
        let reload = drafted(&self.control, config);
        self.control.reload(reload, self.now);
        self.round();
    }

    fn check_laws(&mut self) {
        self.round();
        let mut sum = Fates::default();
        self.shared.workers.iter().for_each(|worker| sum.add(&Fates::read(&worker.counters.fates)));
        sum.check().unwrap();
        assert_eq!((sum.handed_in, self.net.free_frames()), (sum.handed_out, FRAMES));
        for worker in &self.shared.workers {
            let total = millrace_fastpath::queue::PARCELS_MAX;
            let queues = &worker.queues;
            assert_eq!((queues.punts_empty.len(), queues.injects_empty.len()), (total, total));
        }
    }
}

#[test]
fn a_backend_is_down_after_so_many_probes_and_up_again_and_flows_stay() {
    for says in [Says::Rst, Says::Nothing] {
        let mut lab = Lab::new(&file(&web(&[A, B], TCP), ""));
        lab.run(1000);
        let (of_a, of_b) = (lab.probes(A), lab.probes(B));
        assert!((9..=11).contains(&of_a) && (9..=11).contains(&of_b), "ten a second: {of_a}, {of_b}");
        assert_eq!(lab.down("web"), []);
        assert_eq!(lab.reached(false), [ip(A), ip(B)]);
        let established: Vec<(u16, IpAddress)> = lab.homes.drain().collect();

        lab.say(A, says);
        lab.probes(A);
        let took = lab.run_until("a backend down", 1000, |lab| !lab.down("web").is_empty());
        assert!(took <= 100 * 3 + 50, "{took} ms");
        assert_eq!((lab.down("web"), lab.probes(A)), (vec![ip(A)], 3), "{says:?}");
        assert_eq!(lab.reached(false), [ip(B)]);
        for (port, home) in &established {
            let (from, to) = ((ip("10.1.0.9"), *port), (ip("203.0.113.20"), 80));
            let more =
                write([CLIENT_MAC, WAN_MAC], from, to, TcpControl::None, (2, Some(TcpSeqNumber(901))), b"x");
            assert!(lab.net.deliver(PortId(0), 0, &more));
            while lab.workers.iter_mut().map(Worker::poll).sum::<usize>() > 0 {}
            let sent = read(&lab.net.take(PortId(1)).unwrap()).unwrap();
            assert_eq!((sent.to.0, sent.from.1), (*home, *port), "an established flow stays");
        }

        lab.say(A, Says::Accept);
        let took = lab.run_until("it up", 1000, |lab| lab.down("web").is_empty());
        assert!(took <= 100 * 2 + 50, "{took} ms");
        assert_eq!(lab.probes(A), 2);
        assert_eq!(lab.reached(false), [ip(A), ip(B)]);
        lab.check_laws();
    }
}

#[test]
fn when_all_backends_are_down_the_service_is_and_takes_its_overflow_action() {
    let health = TCP.replace(" }", ", overflow = \"rst\" }");
    let mut lab = Lab::new(&file(&web(&[A, B], &health), ""));
    lab.run(200);
    assert_eq!(lab.phase("web"), Phase::Ready);
    [A, B].iter().for_each(|host| lab.say(host, Says::Nothing));
    lab.run_until("the service down", 1000, |lab| lab.phase("web") == Phase::Down);
    lab.answers.clear();
    assert_eq!(lab.connect(false), None);
    assert_eq!(lab.answers, [(lab.clients, TcpControl::Rst)]);
    lab.say(B, Says::Accept);
    lab.run_until("it up", 1000, |lab| lab.phase("web") == Phase::Ready);
    assert_eq!(lab.reached(false), [ip(B)]);
    lab.check_laws();
}

#[test]
fn an_answer_over_http_is_good_by_its_status() {
    let health = TCP.replace("\"tcp\"", "\"http\", path = \"/up?now\", status = \"200-299\", port = 8080");
    let mut lab = Lab::new(&file(&web(&[A, B], &health), ""));
    [A, B].iter().for_each(|host| lab.say(host, Says::Status(204)));
    lab.run(500);
    assert_eq!(lab.down("web"), []);
    assert!(lab.requests.len() >= 8);
    assert!(lab.requests.iter().all(|text| text.starts_with("GET /up?now HTTP/1.1\r\nHost: 198.51.100.")));
    lab.say(A, Says::Status(302));
    // Accepts, and never answers.
    lab.say(B, Says::Accept);
    lab.run(400);
    assert_eq!(lab.down("web"), [ip(A), ip(B)]);
    let healths = lab.control.healths();
    let errors: Vec<_> = healths.iter().filter_map(|one| Some(one.checks[0].error?.to_string())).collect();
    assert_eq!(errors, ["status 302", "timed out"]);
    lab.say(A, Says::Status(200));
    lab.run(400);
    assert_eq!(lab.down("web"), [ip(B)]);
    lab.check_laws();
}

#[test]
fn each_family_is_up_or_down_by_itself() {
    let mut lab = Lab::new(&file(&web(&[A, B, A6, B6], TCP), ""));
    lab.say(A6, Says::Rst);
    lab.say(B, Says::Rst);
    lab.run(600);
    assert_eq!(lab.down("web"), [ip(B), ip(A6)]);
    assert_eq!((lab.reached(false), lab.reached(true)), (vec![ip(A)], vec![ip(B6)]));
    assert_eq!(lab.phase("web"), Phase::Ready);
    lab.check_laws();
}

#[test]
fn what_two_services_check_alike_is_probed_once() {
    let other = web(&[A], TCP).replace("\"web\"", "\"other\"").replace("203.0.113.20", "203.0.113.21");
    let mut lab = Lab::new(&file(&(web(&[A, B], TCP) + &other), ""));
    lab.run(1000);
    assert!((9..=11).contains(&lab.probes(A)));
    lab.say(A, Says::Rst);
    lab.run(500);
    assert_eq!((lab.down("web"), lab.down("other")), (vec![ip(A)], vec![ip(A)]));
    assert_eq!((lab.phase("web"), lab.phase("other")), (Phase::Ready, Phase::Down));
    lab.check_laws();
}

#[test]
fn checks_come_change_and_go_with_a_reload_and_what_is_known_stays_known() {
    let mut lab = Lab::new(&file(&web(&[A, B], ""), ""));
    lab.say(A, Says::Rst);
    lab.run(500);
    assert_eq!((lab.probes(A), lab.down("web")), (0, vec![]));
    lab.reload(&file(&web(&[A, B], TCP), ""));
    lab.run(500);
    assert_eq!(lab.down("web"), [ip(A)]);
    // Another beat, another threshold, another weight: it is still down, and the other one up.
    let slow =
        TCP.replace("interval_ms = 100", "interval_ms = 300").replace("down_after = 3", "down_after = 9");
    lab.reload(&file(&web(&[A, B], &slow), ""));
    assert_eq!(lab.down("web"), [ip(A)]);
    lab.reload(&file(&web(&[A, B], &slow).replace("8\" }", "8\", weight = 3 }"), ""));
    assert_eq!(lab.down("web"), [ip(A)]);
    lab.probes(A);
    lab.run(900);
    assert!((2..=4).contains(&lab.probes(A)));
    // Nobody checks any more: who knows.
    lab.reload(&file(&web(&[A, B], ""), ""));
    assert_eq!(lab.down("web"), []);
    lab.probes(A);
    lab.run(500);
    assert_eq!(lab.probes(A), 0);
    // The service goes, and its probes with it.
    lab.reload(&file(&web(&[A, B], TCP), ""));
    lab.run(300);
    lab.reload(&file("", ""));
    lab.probes(A);
    lab.run(500);
    assert_eq!(lab.probes(A), 0);
    lab.check_laws();
}

#[test]
fn probes_that_run_out_of_time_in_a_flood_say_nothing() {
    let mut lab = Lab::new(&file(&web(&[A, B], TCP), ""));
    lab.run(200);
    lab.say(A, Says::Nothing);
    lab.say(B, Says::Rst);
    for _ in 0..500 {
        lab.run(1);
        // A worker finds no parcel for a frame to us.
        lab.shared.workers[1].counters.node(NodeId::Host).drops[host::Drop::QueueFull as usize].add(1);
    }
    assert_eq!(lab.down("web"), [ip(B)], "who refuses is down, who was silent may have been heard wrong");
    assert!(lab.control.health.counters.inconclusive >= 4);
    lab.run(500);
    assert_eq!(lab.down("web"), [ip(A), ip(B)]);
}

#[test]
fn a_backend_that_nobody_finds_on_the_link_is_down() {
    let gone = "198.51.100.99";
    let mut lab = Lab::new(&file(&web(&[A, gone], TCP), ""));
    lab.run(600);
    assert_eq!(lab.down("web"), [ip(gone)]);
    let healths = lab.control.healths();
    let errors: Vec<_> = healths.iter().filter_map(|one| one.checks[0].error).collect();
    assert_eq!(errors, [crate::health::Failure::Unreachable]);
}

/// Failures in a second put a backend out for three.
const PASSIVE: &str =
    "health = { passive = { failures = 5, window_ms = 1000, eject_ms = 3000, share_percent = 50 } }";

#[test]
fn a_flood_of_forged_syns_leaves_nobody_out() {
    let mut lab = Lab::new(&file(&web(&[A, B], PASSIVE), ""));
    for _ in 0..20 {
        // Nobody ever finishes.
        lab.reached(false);
        lab.run(300);
    }
    let healths = lab.control.healths();
    let seen: Vec<_> = healths.iter().filter_map(|one| one.handshakes).collect();
    let sum = |of: fn(&HandshakeHealth) -> u64| seen.iter().map(of).sum::<u64>();
    assert_eq!((sum(|one| one.counted.begun), sum(|one| one.counted.answered)), (2000, 2000));
    assert_eq!((sum(|one| one.counted.refused), sum(|one| one.ejections)), (0, 0));
    assert_eq!((lab.down("web"), healths[0].panics), (vec![], 0));
    lab.check_laws();
}

#[test]
fn a_backend_that_refuses_clients_is_left_out_for_a_while() {
    let mut lab = Lab::new(&file(&web(&[A, B], PASSIVE), ""));
    assert_eq!(lab.reached(false), [ip(A), ip(B)]);
    lab.say(A, Says::Rst);
    let mut took = 0;
    while lab.down("web").is_empty() {
        lab.reached(false);
        lab.run(100);
        took += 1;
        assert!(took < 30, "it is never left out");
    }
    assert_eq!(lab.down("web"), [ip(A)]);
    assert_eq!(lab.reached(false), [ip(B)]);
    assert_eq!(lab.phase("web"), Phase::Ready);
    lab.say(A, Says::Accept);
    let back = lab.run_until("it used again", 4000, |lab| lab.down("web").is_empty());
    assert!(back >= 2500, "{back}");
    assert_eq!(lab.reached(false), [ip(A), ip(B)]);

    // Now both fail: whoever is out comes back, and all are used.
    [A, B].iter().for_each(|host| lab.say(host, Says::Rst));
    for _ in 0..30 {
        lab.reached(false);
        lab.run(100);
    }
    assert!(lab.control.healths()[0].panics >= 1);
    assert_eq!((lab.down("web"), lab.phase("web")), (vec![], Phase::Ready));
    assert_eq!(lab.reached(false), [ip(A), ip(B)]);
    lab.check_laws();
}

#[test]
fn a_probe_that_succeeds_vouches_for_whoever_fails_clients() {
    let both = TCP.replace(" }", ", passive = { failures = 5, window_ms = 1000, eject_ms = 3000 } }");
    let mut lab = Lab::new(&file(&web(&[A, B], &both), ""));
    lab.run(200);
    let before: u64 = lab.control.healths().iter().map(|one| one.checks[0].probes).sum();
    // Clients' handshakes that the host's own rules refuse: made up in the workers' counters.
    let slot = lab.control.healths()[0].slot.index();
    for _ in 0..30 {
        lab.shared.workers[0].counters.handshakes[slot].refused.add(100);
        lab.run(100);
    }
    let after: u64 = lab.control.healths().iter().map(|one| one.checks[0].probes).sum();
    assert!(after > before && lab.down("web").is_empty());
    // Without it they put it out.
    lab.reload(&file(&web(&[A, B], PASSIVE), ""));
    for _ in 0..30 {
        lab.shared.workers[0].counters.handshakes[slot].refused.add(100);
        lab.run(100);
    }
    assert_eq!(lab.down("web"), [ip(A)]);
}

#[test]
fn a_placed_instance_that_is_down_takes_its_service_with_it_and_back() {
    let mut lab = Lab::new(&file("", TCP));
    lab.round();
    let snapshot = |generation, instances: Vec<Instance>| {
        let services = vec![placement(instances, None)];
        Down::Snapshot(Snapshot { generation: Placed(generation), services })
    };
    lab.orchestrator.send(snapshot(1, vec![instance(1, InstanceState::Ready)])).unwrap();
    lab.run_until("readiness", 100, |lab| lab.phase("hello") == Phase::Ready);
    lab.run(500);
    assert_eq!(lab.phase("hello"), Phase::Ready);
    assert!(lab.probes(NODE) >= 4, "at its own port");
    lab.say(NODE, Says::Nothing);
    lab.run_until("it down", 1000, |lab| lab.phase("hello") == Phase::Down);
    // The orchestrator says again what it said, which changes nothing here.
    lab.orchestrator.send(snapshot(2, vec![instance(1, InstanceState::Ready)])).unwrap();
    lab.run(10);
    assert_eq!(lab.phase("hello"), Phase::Down);
    lab.say(NODE, Says::Accept);
    lab.run_until("it up", 1000, |lab| lab.phase("hello") == Phase::Ready);
    // Another instance in its place begins up.
    lab.say(NODE, Says::Rst);
    lab.run_until("it down again", 1000, |lab| lab.phase("hello") == Phase::Down);
    lab.orchestrator.send(snapshot(3, vec![])).unwrap();
    lab.run_until("nothing left", 100, |lab| lab.phase("hello") == Phase::Cold);
    lab.probes(NODE);
    lab.run(300);
    assert_eq!(lab.probes(NODE), 0, "nobody is probed");
    lab.check_laws();
}

#[test]
fn an_instance_that_stays_down_is_given_up_so_that_another_can_be_woken() {
    let mut lab = Lab::new(&file("", TCP));
    lab.round();
    let services = vec![placement(vec![instance(1, InstanceState::Ready)], None)];
    lab.orchestrator.send(Down::Snapshot(Snapshot { generation: Placed(1), services })).unwrap();
    lab.run_until("readiness", 100, |lab| lab.phase("hello") == Phase::Ready);
    lab.say(NODE, Says::Nothing);
    lab.run_until("it down", 1000, |lab| lab.phase("hello") == Phase::Down);
    let idle = |lab: &mut Lab| {
        let ups: Vec<Up> = std::iter::from_fn(|| lab.orchestrator.try_receive()).collect();
        ups.iter().filter(|up| matches!(up, Up::Idle(idle) if idle.service == "hello")).count()
    };
    lab.run(9_000);
    assert_eq!(idle(&mut lab), 0, "it may come back");
    lab.run(2_000);
    assert_eq!((idle(&mut lab), lab.phase("hello")), (1, Phase::Down));
    lab.orchestrator.send(Down::Snapshot(Snapshot { generation: Placed(2), services: vec![] })).unwrap();
    lab.run_until("nothing left", 100, |lab| lab.phase("hello") == Phase::Cold);
    lab.check_laws();
}

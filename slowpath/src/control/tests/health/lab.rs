//! Workers on the heap driver, hosts that answer as they are told to, and clients.

use std::sync::atomic::Ordering;

use millrace_config::Config;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::heap::{HeapDriver, HeapNet};
use millrace_fastpath::worker::Worker;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, IpRepr,
    Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::super::plant::{FRAMES, Manual, Plant};
use super::super::*;
use crate::testing::{EDGE, WAN_MAC};

pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
pub(super) const OWN: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
pub(super) const A: &str = "198.51.100.7";
pub(super) const B: &str = "198.51.100.8";
pub(super) const A6: &str = "2001:db8:1::7";
pub(super) const B6: &str = "2001:db8:1::8";
/// Probes ten times a second.
pub(super) const TCP: &str =
    "health = { kind = \"tcp\", interval_ms = 100, timeout_ms = 50, down_after = 3, up_after = 2 }";

/// What a host says to a SYN, and to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Rst,
    Accept,
    Status(u16),
}

/// A TCP segment, as an independent reader finds it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) from: (IpAddress, u16),
    pub(super) to: (IpAddress, u16),
    pub(super) control: TcpControl,
    pub(super) next: TcpSeqNumber,
    pub(super) data: Vec<u8>,
}

pub(super) fn read(frame: &[u8]) -> Option<Segment> {
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

pub(super) fn write(
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

pub(super) struct Lab {
    pub(super) net: HeapNet,
    pub(super) workers: Vec<Worker<HeapDriver, Manual>>,
    pub(super) control: Control<MemoryLink>,
    pub(super) shared: Arc<Shared>,
    pub(super) orchestrator: OrchestratorEnd,
    pub(super) now: Nanos,
    pub(super) clock: Manual,
    pub(super) says: HashMap<IpAddress, Says>,
    /// SYNs of ours, by the host that they came to.
    pub(super) probes: HashMap<IpAddress, usize>,
    /// What hosts were asked.
    pub(super) requests: Vec<String>,
    /// Clients' SYNs, by the client's port: the host that they came to.
    pub(super) homes: HashMap<u16, IpAddress>,
    /// What clients got, by their port.
    pub(super) answers: Vec<(u16, TcpControl)>,
    pub(super) clients: u16,
}

/// [`EDGE`] with another `web`, and `hello` with more keys.
pub(super) fn file(web: &str, hello: &str) -> Arc<Config> {
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
pub(super) fn web(backends: &[&str], health: &str) -> String {
    let list: Vec<String> = backends.iter().map(|host| format!("{{ address = \"{host}\" }}")).collect();
    let v6 = if backends.iter().any(|host| host.contains(':')) { ", \"2001:db8:f::20\"" } else { "" };
    format!(
        "[[service]]\nname = \"web\"\naddress = [\"203.0.113.20\"{v6}]\nports = [\"tcp/80\"]\nbackends = [{}]\n{health}\n",
        list.join(", ")
    )
}

pub(super) fn ip(text: &str) -> IpAddress {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

impl Lab {
    pub(super) fn new(config: &Arc<Config>) -> Self {
        let Plant { net, workers, control, shared, orchestrator, clock } = Plant::new(config, 1 << 12);
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
    pub(super) fn round(&mut self) {
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
    pub(super) fn host(&mut self, frame: &[u8]) {
        let Some(heard) = read(frame) else { return };
        let says = self.says.get(&heard.to.0).copied().unwrap_or(Says::Nothing);
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

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.plus(1_000_000 - 6000);
            self.round();
        }
    }

    /// Runs until something is so; how many milliseconds that took.
    pub(super) fn run_until(&mut self, what: &str, patience_ms: u64, so: impl Fn(&Self) -> bool) -> u64 {
        for ms in 0..patience_ms {
            if so(self) {
                return ms;
            }
            self.run(1);
        }
        panic!("never: {what}");
    }

    /// A new client of `web` in each family asked for; the hosts that its SYN came to.
    pub(super) fn connect(&mut self, v6: bool) -> Option<IpAddress> {
        self.clients += 1;
        let (from, to) = if v6 { ("2001:db8:9::9", "2001:db8:f::20") } else { ("10.1.0.9", "203.0.113.20") };
        let (from, to) = ((ip(from), self.clients), (ip(to), 80));
        let syn = write([CLIENT_MAC, WAN_MAC], from, to, TcpControl::Syn, (1, None), b"");
        assert!(self.net.deliver(PortId(0), self.clients % 2, &syn));
        self.round();
        self.homes.get(&self.clients).copied()
    }

    /// Where a hundred new clients come to, each host once.
    pub(super) fn reached(&mut self, v6: bool) -> Vec<IpAddress> {
        let mut hosts: Vec<IpAddress> = (0..100).filter_map(|_| self.connect(v6)).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    pub(super) fn down(&self, service: &str) -> Vec<IpAddress> {
        let tables = self.shared.tables();
        let service = tables.services.get(self.control.builder.find(service).unwrap()).unwrap();
        let instances = service.instances.iter();
        let down =
            instances.flat_map(|one| one.addresses.iter().flatten().filter(|addr| one.is_down_at(**addr)));
        down.map(|addr| addr.to_ip().into()).collect()
    }

    pub(super) fn phase(&self, service: &str) -> Phase {
        self.shared.slots.get(self.control.builder.find(service).unwrap()).load().0
    }

    pub(super) fn say(&mut self, host: &str, says: Says) {
        self.says.insert(ip(host), says);
    }

    pub(super) fn probes(&mut self, host: &str) -> usize {
        self.probes.remove(&ip(host)).unwrap_or(0)
    }

    pub(super) fn reload(&mut self, config: &Arc<Config>) {
        let reload = drafted(&self.control, config);
        self.control.reload(reload, self.now);
        self.round();
    }

    pub(super) fn check_laws(&mut self) {
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

//! [`SmolStack`]: one `smoltcp` interface without link layer for all our addresses.
//!
//! Ethernet headers come off here and go on again by the way that the peer's frames came. What enters the stack is chosen
//! first: echo requests to us, TCP/53 where DNS listens, and what belongs to a connection of ours. Nothing else is
//! answered, so no stranger can make it speak.

use std::collections::{HashSet, VecDeque};

use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};
use smoltcp::iface::{self, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::dial::{Dial, DialId, Dialled, Dials};
use super::dns::Listeners;
use super::peers::Peers;
use super::{HostContext, HostCounters, HostStack};

/// Frames that wait for the stack's next run: two turns' worth of one worker.
const WAITING_MAX: usize = 256;
const ETHERNET: usize = 14;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// The stack.
pub struct SmolStack {
    interface: Interface,
    /// Of the interface's random numbers.
    seed: u64,
    sockets: SocketSet<'static>,
    wire: Wire,
    listeners: Listeners,
    dials: Dials,
    peers: Peers,
    dns: HashSet<Addr>,
    due: Option<Nanos>,
    counters: HostCounters,
}

impl SmolStack {
    /// A stack for the addresses of this configuration. `seed` makes sequence numbers unguessable.
    pub fn new(config: &Config, seed: u64) -> Self {
        let mut wire = Wire { waiting: VecDeque::new(), sent: Vec::new(), mtu: mtu(config) };
        let interface = interface(&mut wire, seed);
        let dns = listened(config);
        let mut sockets = SocketSet::new(Vec::new());
        let listeners = Listeners::new(&mut sockets, !dns.is_empty());
        let counters = HostCounters::default();
        let (dials, peers) = (Dials::new(config.nat.port_range), Peers::default());
        Self { interface, seed, sockets, wire, listeners, dials, peers, dns, due: None, counters }
    }

    /// Whether the stack wants this packet; then, for what.
    fn admit(&self, frame: &[u8]) -> Option<Admitted> {
        let ip = frame.get(ETHERNET..)?;
        let (protocol, source, destination, l4) = match frame.get(12..14)? {
            [0x08, 0x00] => {
                let header = ip.get(..20)?;
                // More fragments, or not the first (RFC 791 §3.1).
                if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
                    return None;
                }
                let addr = |at: usize| Addr::v4([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
                (header[9], addr(12), addr(16), ip.get(usize::from(header[0] & 15) * 4..)?)
            }
            [0x86, 0xdd] => {
                let header = ip.get(..40)?;
                let addr = |range: std::ops::Range<usize>| Some(Addr::v6(header[range].try_into().ok()?));
                (header[6], addr(8..24)?, addr(24..40)?, &ip[40..])
            }
            _ => return None,
        };
        let wanted = match protocol {
            ICMP => l4.first() == Some(&8),
            ICMPV6 => l4.first() == Some(&128),
            TCP if l4.get(2..4) == Some(&[0, 53]) => self.dns.contains(&destination),
            TCP => {
                let ports = l4.first_chunk::<4>()?;
                let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
                let expected = self.dials.expects((source, port(0)), (destination, port(2)));
                return expected.then_some(Admitted::Dialled);
            }
            _ => false,
        };
        (wanted && is_station(source)).then_some(Admitted::Asked(source))
    }

    /// Puts the Ethernet headers on what the stack sent.
    fn deliver(&mut self, context: &mut HostContext<'_>) {
        for mut frame in self.wire.sent.drain(..) {
            let ip = &frame[ETHERNET..];
            let v4 = ip[0] >> 4 == 4;
            let to = if v4 {
                Addr::v4([ip[16], ip[17], ip[18], ip[19]])
            } else {
                Addr::v6(std::array::from_fn(|at| ip[24 + at]))
            };
            // Whoever asked is answered by the way that it came. Whom we ask ourselves is asked as workers would send to it.
            let peer = if is_dialled(ip, &self.dials) { None } else { self.peers.get(to) };
            // What it was sent to may be a group.
            let ours = |interface| Some(context.tables.interfaces.get(interface)?.mac);
            let known = peer.and_then(|peer| Some((peer.interface, peer.mac, ours(peer.interface)?)));
            let Some((interface, mac, ours)) = known.or_else(|| way_to(to, context.tables)) else {
                self.counters.unreachable += 1;
                continue;
            };
            frame[..6].copy_from_slice(&mac);
            frame[6..12].copy_from_slice(&ours);
            frame[12..14].copy_from_slice(if v4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
            self.counters.sent += 1;
            context.frames.push((interface, frame));
        }
    }
}

/// What a packet is to the stack.
enum Admitted {
    /// Somebody asks.
    Asked(Addr),
    /// Whom we asked says something.
    Dialled,
}

/// Whether a packet that the stack has made belongs to a connection of ours.
fn is_dialled(ip: &[u8], dials: &Dials) -> bool {
    // The stack makes no options and no extension headers.
    let (protocol, l4) = if ip[0] >> 4 == 4 { (ip[9], 20) } else { (ip[6], 40) };
    protocol == TCP
        && ip.get(l4..l4 + 2).is_some_and(|port| dials.has_port(u16::from_be_bytes([port[0], port[1]])))
}

/// Whether somebody may be there: an answer to anything else has nowhere to go (RFC 1122 section 3.2.1.3, RFC 4291 section
/// 2.5.2), and the stack asserts that none is sent.
fn is_station(source: Addr) -> bool {
    let source = source.to_ip();
    !source.is_unspecified() && !source.is_multicast()
}

fn mtu(config: &Config) -> usize {
    config.ports.iter().map(|port| usize::from(port.mtu_bytes)).min().unwrap_or(1280)
}

/// The addresses that DNS listens at.
fn listened(config: &Config) -> HashSet<Addr> {
    match config.dns.as_ref().filter(|_| config.roles.dns) {
        Some(dns) => dns.listen.iter().map(|addr| Addr::from(*addr)).collect(),
        None => HashSet::new(),
    }
}

fn interface(wire: &mut Wire, seed: u64) -> Interface {
    let mut settings = iface::Config::new(HardwareAddress::Ip);
    settings.random_seed = seed;
    let mut interface = Interface::new(settings, wire, Instant::ZERO);
    // Any address that gets this far is ours, so one stands for all: routes that lead to oneself mean that.
    interface.set_any_ip(true);
    let (own_v4, own_v6) = ([192, 0, 2, 0].into(), [0x0100, 0, 0, 0, 0, 0, 0, 1].into());
    interface.update_ip_addrs(|addresses| {
        // The stack has room for two.
        let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(own_v4), 32));
        let _ = addresses.push(IpCidr::new(IpAddress::Ipv6(own_v6), 128));
    });
    let routes = interface.routes_mut();
    // It has room for two of these, too.
    let _ = routes.add_default_ipv4_route(own_v4);
    let _ = routes.add_default_ipv6_route(own_v6);
    interface
}

/// By the tables, for a peer that was forgotten.
fn way_to(addr: Addr, tables: &Tables) -> Option<(InterfaceId, Mac, Mac)> {
    let hop = tables.routes.lookup(addr)?;
    let ours = tables.interfaces.get(hop.interface)?.mac;
    Some((hop.interface, tables.neighbours.get(hop.interface, hop.via.unwrap_or(addr))?, ours))
}

impl HostStack for SmolStack {
    fn receive(&mut self, now: Nanos, interface: InterfaceId, frame: &[u8]) {
        self.counters.received += 1;
        let Some(admitted) = self.admit(frame) else {
            self.counters.unwanted += 1;
            return;
        };
        if self.wire.waiting.len() >= WAITING_MAX {
            self.counters.overflowed += 1;
            return;
        }
        if let Admitted::Asked(source) = admitted {
            let mac = |range: std::ops::Range<usize>| Mac::try_from(&frame[range]).unwrap_or_default();
            self.peers.seen(source, interface, mac(6..12), mac(0..6), now);
        }
        self.wire.waiting.push_back(frame[ETHERNET..].to_vec());
        self.due = Some(now);
    }

    fn poll(&mut self, now: Nanos, context: &mut HostContext<'_>) {
        let time = instant(now);
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        let dns_due = self.listeners.poll(now, &mut self.sockets, &self.peers, &mut self.counters, context);
        self.dials.poll(&mut self.sockets);
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        self.deliver(context);
        self.dials.collect(&mut self.sockets);
        let stack_due = self
            .interface
            .poll_at(time, &self.sockets)
            .map(|at| Nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1000).max(now.plus(PAUSE_NANOS)));
        self.due = [dns_due, stack_due].into_iter().flatten().min();
    }

    fn dial(&mut self, now: Nanos, dial: &Dial<'_>) -> Option<DialId> {
        let id = self.dials.dial(dial, &mut self.sockets, self.interface.context())?;
        self.counters.dials += 1;
        self.due = Some(now);
        Some(id)
    }

    fn dialled(&self, id: DialId) -> Dialled<'_> {
        self.dials.get(id)
    }

    fn hang_up(&mut self, now: Nanos, id: DialId) {
        self.dials.hang_up(id, &mut self.sockets);
        self.due = Some(now);
    }

    fn next_due(&self) -> Option<Nanos> {
        self.due
    }

    fn counters(&self) -> HostCounters {
        self.counters
    }

    fn reload(&mut self, config: &Config) {
        let mtu = mtu(config);
        if self.wire.mtu != mtu {
            self.wire.mtu = mtu;
            // The interface asks the wire for its size once, when it is made; the sockets don't hang on it.
            self.seed = self.seed.wrapping_mul(SEED_STEP).wrapping_add(1);
            self.interface = interface(&mut self.wire, self.seed);
        }
        self.dns = listened(config);
        if !self.dns.is_empty() && self.listeners.is_empty() {
            self.listeners = Listeners::new(&mut self.sockets, true);
        }
    }
}

fn instant(now: Nanos) -> Instant {
    Instant::from_micros(i64::try_from(now.0 / 1000).unwrap_or(i64::MAX))
}

/// From one seed to the next: an odd factor that mixes well (Knuth's MMIX generator), so that none comes twice.
const SEED_STEP: u64 = 6_364_136_223_846_793_005;
/// Between two runs on the stack's own wish: it may ask to be run at once again, when it waits for room.
const PAUSE_NANOS: u64 = 1_000_000;

/// IP packets on their way in and out.
struct Wire {
    waiting: VecDeque<Vec<u8>>,
    /// With room for the Ethernet header in front.
    sent: Vec<Vec<u8>>,
    mtu: usize,
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.waiting.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; ETHERNET + len];
        let result = write(&mut frame[ETHERNET..]);
        self.0.push(frame);
        result
    }
}

//! A client and an instance, both `smoltcp`, with a real worker between them, on a clock that jumps from one thing that
//! happens to the next. Everything random comes from a seed.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::interfaces::{Interface, Interfaces};
use smoltcp::iface::{Config, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::*;

use crate::common::cable::Cable;
use crate::common::frames::read;
use crate::common::random::Random;
use crate::common::*;

thread_local! {
    static CLOCK_MS: Cell<u64> = const { Cell::new(0) };
}

// Clocks of the ends begin where they soon wrap.
fn client_clock() -> u32 {
    0xffff_ff00u32.wrapping_add(CLOCK_MS.get() as u32)
}

fn instance_clock() -> u32 {
    0x7fff_ff00u32.wrapping_add(CLOCK_MS.get() as u32)
}

/// The longest packet. `smoltcp` doesn't leave room for timestamps when it fills a segment (RFC 6691 §2), so it needs this
/// much more than the 1 500 bytes that it is told of.
const MTU: u16 = 1540;

/// One end: a stack with one socket, what it has to say and what it has heard.
pub(crate) struct Host {
    wire: Cable,
    stack: smoltcp::iface::Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    says: Vec<u8>,
    said: usize,
    pub(crate) heard: Vec<u8>,
}

/// What an end is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// It has timestamps.
    pub(crate) stamps: bool,
    /// Bytes of its receive buffer; from 64 KiB on its windows are scaled.
    pub(crate) buffer: usize,
    /// Bytes that it says.
    pub(crate) says: usize,
}

impl Host {
    fn new(address: &str, manner: &Manner, clock: fn() -> u32, random: &mut Random) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = random.next();
        let mut wire = Cable::new(usize::from(MTU));
        let mut stack = smoltcp::iface::Interface::new(config, &mut wire, Instant::ZERO);
        let address: IpAddress = address.parse().unwrap();
        stack.update_ip_addrs(|list| {
            list.push(IpCidr::new(address, if address.version() == IpVersion::Ipv4 { 24 } else { 64 }))
                .unwrap();
        });
        // On this medium every neighbour is at the other end of the wire.
        stack.routes_mut().add_default_ipv4_route(Ipv4Address::new(10, 9, 9, 1)).unwrap();
        stack.routes_mut().add_default_ipv6_route("2001:db8:9::1".parse().unwrap()).unwrap();
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(manner.buffer), buffer(16_384));
        socket.set_tsval_generator(manner.stamps.then_some(clock));
        socket.set_ack_delay(random.percent(50).then_some(smoltcp::time::Duration::from_millis(10)));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let says = (0..manner.says).map(|_| random.next() as u8).collect();
        Self { wire, stack, sockets, handle, says, said: 0, heard: Vec::new() }
    }

    pub(crate) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn connect(&mut self, to: (IpAddress, u16), from: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.connect(self.stack.context(), to, from).unwrap();
    }

    /// Hears and says what it can; closes its side if it may.
    fn turn(&mut self, closes: bool, now: Instant, random: &mut Random) {
        self.stack.poll(now, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let reads = 1 + random.below(4000) as usize;
        let heard = &mut self.heard;
        if socket.can_recv() && random.percent(90) {
            socket
                .recv(|bytes| {
                    let len = bytes.len().min(reads);
                    heard.extend_from_slice(&bytes[..len]);
                    (len, ())
                })
                .unwrap();
        }
        if socket.can_send() && self.said < self.says.len() {
            self.said += socket.send_slice(&self.says[self.said..]).unwrap();
        }
        if closes && socket.may_send() {
            socket.close();
        }
        self.stack.poll(now, &mut self.wire, &mut self.sockets);
    }

    pub(crate) fn state(&mut self) -> tcp::State {
        self.socket().state()
    }
}

/// How badly the links do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Per cent of packets that are lost,
    pub(crate) loss: u64,
    /// that arrive twice,
    pub(crate) twice: u64,
    /// and how long they take at most, in milliseconds; each its own time, so that they overtake each other.
    pub(crate) delay_ms: u64,
}

/// Where a packet is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Client,
    Instance,
    /// By this port.
    Appliance(PortId),
}

/// The links as the appliance's ports see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    FromClient,
    ToClient,
    FromInstance,
    ToInstance,
}

impl Link {
    /// The same wire, the other way.
    fn back(self) -> Self {
        match self {
            Link::FromClient => Link::ToClient,
            Link::ToClient => Link::FromClient,
            Link::FromInstance => Link::ToInstance,
            Link::ToInstance => Link::FromInstance,
        }
    }
}

/// What passed a link.
#[derive(Default)]
pub(crate) struct Passed {
    /// The sender's first number.
    first: Option<u32>,
    /// The highest acknowledgement, relative to the first number that went the other way.
    acked: u32,
    /// What the sender's clock showed.
    stamps: HashSet<u32>,
    pub(crate) syns: usize,
    pub(crate) resets: usize,
}

/// Everything.
pub(crate) struct World {
    pub(crate) bench: Bench,
    pub(crate) client: Host,
    pub(crate) instance: Host,
    pub(crate) random: Random,
    weather: Weather,
    closing: bool,
    on_the_way: BTreeMap<(u64, u64), (To, Vec<u8>)>,
    order: u64,
    pub(crate) now_ms: u64,
    passed: [Passed; 4],
}

impl World {
    /// A client of the service at `vip`, and the instance that [`instance`] describes, which listens but isn't published.
    pub(crate) fn new(
        mut bench: Bench,
        v4: bool,
        manners: (Manner, Manner),
        weather: Weather,
        mut random: Random,
    ) -> Self {
        let (client_at, instance_at, vip) = if v4 {
            ("10.9.9.9", "198.51.100.7", "203.0.113.10")
        } else {
            ("2001:db8:9::9", "2001:db8:1::7", "2001:db8:f::10")
        };
        let interfaces = &bench.tables.interfaces;
        let wider =
            interfaces.iter().map(|(_, interface)| Interface { mtu: MTU, ..interface.clone() }).collect();
        bench.tables.interfaces = Arc::new(Interfaces::new(wider, interfaces.locals()));
        bench.publish();
        let mut client = Host::new(client_at, &manners.0, client_clock, &mut random);
        let mut instance = Host::new(instance_at, &manners.1, instance_clock, &mut random);
        instance.socket().listen(8080).unwrap();
        client.connect((vip.parse().unwrap(), 80), 40_000);
        Self {
            bench,
            client,
            instance,
            random,
            weather,
            closing: false,
            on_the_way: BTreeMap::new(),
            order: 0,
            now_ms: 0,
            passed: Default::default(),
        }
    }

    /// A millisecond passes.
    pub(crate) fn step(&mut self) {
        self.now_ms += 1;
        CLOCK_MS.set(self.now_ms);
        self.bench.advance_ms(1);
        while let Some(entry) = self.on_the_way.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            match entry.remove() {
                (To::Client, packet) => self.client.wire.rx.push_back(packet),
                (To::Instance, packet) => self.instance.wire.rx.push_back(packet),
                (To::Appliance(port), packet) => {
                    self.note(if port == WAN { Link::FromClient } else { Link::FromInstance }, &packet);
                    self.bench.deliver(port, &framed(port, &packet));
                }
            }
        }
        self.bench.run();
        for (port, to) in [(WAN, To::Client), (LAN, To::Instance)] {
            for frame in self.bench.sent(port) {
                read(&frame); // whatever leaves has right lengths and checksums
                let packet = frame[14..].to_vec();
                self.note(if port == WAN { Link::ToClient } else { Link::ToInstance }, &packet);
                self.check_promises();
                self.send(to, packet);
            }
        }
        let now = Instant::from_millis(self.now_ms as i64);
        let instance_closes = self.closing && self.instance.state() == tcp::State::CloseWait;
        self.client.turn(self.closing, now, &mut self.random);
        self.instance.turn(instance_closes, now, &mut self.random);
        for packet in std::mem::take(&mut self.client.wire.tx) {
            self.send(To::Appliance(WAN), packet);
        }
        for packet in std::mem::take(&mut self.instance.wire.tx) {
            self.send(To::Appliance(LAN), packet);
        }
    }

    /// Whether both have heard all that the other has to say.
    pub(crate) fn is_said(&self) -> bool {
        self.client.heard.len() >= self.instance.says.len()
            && self.instance.heard.len() >= self.client.says.len()
    }

    /// Lets the client close its side, then the instance. The weather is fine from here on: `smoltcp` doesn't always repeat a
    /// FIN that was lost.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.weather.loss = 0;
    }

    /// Whether both sides are closed.
    pub(crate) fn is_closed(&mut self) -> bool {
        let over = |state| matches!(state, tcp::State::Closed | tcp::State::TimeWait);
        over(self.client.state()) && over(self.instance.state())
    }

    /// Both heard exactly what the other said.
    pub(crate) fn check_heard(&self) {
        assert!(self.client.heard == self.instance.says, "the client heard what the instance said");
        assert!(self.instance.heard == self.client.says, "the instance heard what the client said");
    }

    fn send(&mut self, to: To, packet: Vec<u8>) {
        let copies = 1 + usize::from(self.random.percent(self.weather.twice));
        for _ in 0..copies {
            if self.random.percent(self.weather.loss) {
                continue;
            }
            let at = self.now_ms + 1 + self.random.below(self.weather.delay_ms);
            self.order += 1;
            self.on_the_way.insert((at, self.order), (to, packet.clone()));
        }
    }

    pub(crate) fn passed(&self, link: Link) -> &Passed {
        &self.passed[link as usize]
    }

    /// Nobody is told that more has arrived than the end that has it said.
    fn check_promises(&self) {
        for (told, promised) in [(Link::ToClient, Link::FromInstance), (Link::ToInstance, Link::FromClient)] {
            let (told, promised) = (self.passed(told).acked, self.passed(promised).acked);
            // The first number is the SYN's: that much is ours to say.
            assert!(told <= promised.max(1), "told {told}, but the end that has it said {promised}");
        }
    }

    /// Notes the numbers of a packet. What the appliance sends echoes only times that its receiver's clock has shown.
    fn note(&mut self, link: Link, packet: &[u8]) {
        let segment = TcpPacket::new_checked(tcp_of(packet)).unwrap();
        if let (true, Some(first)) = (segment.ack() && !segment.rst(), self.passed(link.back()).first) {
            let acked = (segment.ack_number().0 as u32).wrapping_sub(first);
            assert!(acked < 1 << 31, "{link:?} acknowledges what was never sent");
            let passed = &mut self.passed[link as usize];
            passed.acked = passed.acked.max(acked);
        }
        let mut options = segment.options();
        while !options.is_empty() {
            let (next, option) = TcpOption::parse(options).expect("options that make sense");
            options = next;
            match option {
                TcpOption::EndOfList => break,
                TcpOption::TimeStamp { tsval, tsecr } => {
                    let ours = matches!(link, Link::ToClient | Link::ToInstance);
                    if ours && segment.ack() {
                        assert!(
                            self.passed(link.back()).stamps.contains(&tsecr),
                            "{link:?} echoes {tsecr:#x}"
                        );
                    }
                    self.passed[link as usize].stamps.insert(tsval);
                }
                _ => {}
            }
        }
        let passed = &mut self.passed[link as usize];
        passed.syns += usize::from(segment.syn());
        passed.resets += usize::from(segment.rst());
        if segment.syn() {
            passed.first = Some(segment.seq_number().0 as u32);
        }
    }
}

fn tcp_of(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 4 { &packet[usize::from(packet[0] & 0xf) * 4..] } else { &packet[40..] }
}

fn framed(port: PortId, packet: &[u8]) -> Vec<u8> {
    let macs = if port == WAN { [WAN_MAC, CLIENT_MAC] } else { [LAN_MAC, HOST_MAC] };
    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&macs.concat()[..], &ethertype, packet].concat()
}

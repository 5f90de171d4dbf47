use std::collections::VecDeque;

use millrace_fastpath::slots::Slots;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::{DnsAnswer, ServiceId};
use millrace_fastpath::tables::{View, Views};
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{
    HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

mod bounds;

use super::*;
use crate::builder::{TableBuilder, TableFiles};
use crate::testing::{EDGE, PEER_MAC, WAN, WAN_MAC, addr, ms, ports};
use millrace_config::Config;
use millrace_fastpath::event::Trigger;
use millrace_fastpath::slots::Phase;

const HELLO: ServiceId = ServiceId(0);

struct Bench {
    stack: SmolStack,
    tables: Tables,
    slots: Slots,
    now: Nanos,
    events: Vec<Event>,
}

impl Bench {
    fn new(dns_answer: &str) -> Self {
        let text = EDGE.replace("trigger = [", &format!("dns_answer = \"{dns_answer}\"\ntrigger = ["));
        let config = Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        let tables = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2))
            .unwrap()
            .tables()
            .clone();
        let slots = Slots::default();
        Self { stack: SmolStack::new(&config, 7), tables, slots, now: ms(0), events: Vec::new() }
    }

    /// Runs the stack with what came, and gives what it sends.
    fn run(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        self.now = self.now.plus(100_000);
        for frame in frames {
            self.stack.receive(self.now, WAN, &frame);
        }
        let mut sent = Vec::new();
        if self.stack.next_due().is_some_and(|due| due <= self.now) {
            let mut context = HostContext {
                tables: &self.tables,
                slots: &self.slots,
                frames: &mut sent,
                events: &mut self.events,
            };
            self.stack.poll(self.now, &mut context);
        }
        let from_wan = |(interface, frame): (InterfaceId, Vec<u8>)| {
            assert_eq!(interface, WAN);
            assert_eq!((&frame[..6], &frame[6..12]), (&PEER_MAC[..], &WAN_MAC[..]));
            frame
        };
        sent.into_iter().map(from_wan).collect()
    }
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&WAN_MAC[..], &PEER_MAC, &ethertype, packet].concat()
}

fn ping_v4(to: &str) -> Vec<u8> {
    let icmp = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data: b"are you there?" };
    let ip = Ipv4Repr {
        src_addr: "192.0.2.200".parse().unwrap(),
        dst_addr: to.parse().unwrap(),
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + icmp.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    ip.emit(&mut packet, &checksums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(packet.payload_mut()), &checksums);
    ethernet(&bytes)
}

fn ping_v6(to: &str) -> Vec<u8> {
    let icmp = Icmpv6Repr::EchoRequest { ident: 7, seq_no: 9, data: b"are you there?" };
    let ip = Ipv6Repr {
        src_addr: "2001:db8::200".parse().unwrap(),
        dst_addr: to.parse().unwrap(),
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + icmp.buffer_len()];
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
    ip.emit(&mut packet);
    let mut payload = Icmpv6Packet::new_unchecked(packet.payload_mut());
    icmp.emit(&ip.src_addr, &ip.dst_addr, &mut payload, &ChecksumCapabilities::default());
    ethernet(&bytes)
}

#[test]
fn answers_come_from_our_address_on_the_link_also_when_the_question_went_to_a_group() {
    let mut bench = Bench::new("immediate");
    let mut frame = ping_v6("2001:db8::1");
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(bench.run([frame]).len(), 1);
}

#[test]
fn echo_requests_to_every_address_of_ours_are_answered_from_it() {
    let mut bench = Bench::new("immediate");
    for to in ["192.0.2.1", "203.0.113.10", "192.0.2.53"] {
        let sent = bench.run([ping_v4(to)]);
        let [frame] = &sent[..] else { panic!("{to}: {sent:?}") };
        let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!(
            (packet.src_addr(), packet.dst_addr()),
            (to.parse().unwrap(), "192.0.2.200".parse().unwrap())
        );
        let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        let expected = Icmpv4Repr::EchoReply { ident: 7, seq_no: 9, data: b"are you there?" };
        assert_eq!(Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()), Ok(expected));
    }
    for to in ["2001:db8::1", "2001:db8:f::10", "fe80::ff:fe00:1"] {
        let sent = bench.run([ping_v6(to)]);
        let [frame] = &sent[..] else { panic!("{to}: {sent:?}") };
        let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        assert_eq!(to, "2001:db8::200".parse::<std::net::Ipv6Addr>().unwrap());
        let icmp = Icmpv6Packet::new_checked(packet.payload()).unwrap();
        let expected = Icmpv6Repr::EchoReply { ident: 7, seq_no: 9, data: b"are you there?" };
        assert_eq!(Icmpv6Repr::parse(&from, &to, &icmp, &ChecksumCapabilities::default()), Ok(expected));
    }
}

#[test]
fn nothing_else_is_answered() {
    let mut bench = Bench::new("immediate");
    let mut udp = ping_v4("192.0.2.1");
    udp[14 + 9] = 17;
    let mut other_port = ping_v4("192.0.2.53");
    other_port[14 + 9] = 6;
    other_port[14 + 20 + 2..14 + 20 + 4].copy_from_slice(&[0, 54]);
    let mut not_listening = ping_v4("192.0.2.1");
    not_listening[14 + 9] = 6;
    not_listening[14 + 20 + 2..14 + 20 + 4].copy_from_slice(&[0, 53]);
    let mut fragment = ping_v4("192.0.2.1");
    fragment[14 + 6] = 0x20;
    let mut damaged = ping_v4("192.0.2.1");
    damaged[14 + 24] ^= 1;
    let mut from_nobody = ping_v4("192.0.2.1");
    from_nobody[14 + 12..14 + 16].fill(0);
    let mut from_a_group = ping_v6("2001:db8::1");
    from_a_group[14 + 8] = 0xff;
    let unwanted =
        [udp, other_port, not_listening, fragment, from_nobody, from_a_group, vec![0; 14], Vec::new()];
    for frame in [damaged].into_iter().chain(unwanted) {
        assert_eq!(bench.run([frame]), Vec::<Vec<u8>>::new());
    }
    assert_eq!(bench.stack.counters().unwanted, 8);
}

/// A client with a TCP of its own at the other end of the wire.
struct Client {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
}

#[derive(Default)]
struct Wire {
    waiting: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Packet, Out<'_>)> {
        Some((Packet(self.waiting.pop_front()?), Out(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

struct Packet(Vec<u8>);

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Out<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Client {
    fn new(address: &str) -> Self {
        let mut wire = Wire::default();
        let mut interface = Interface::new(iface::Config::new(HardwareAddress::Ip), &mut wire, Instant::ZERO);
        let address: IpAddress = address.parse().unwrap();
        let bits = if address.version() == smoltcp::wire::IpVersion::Ipv4 { 24 } else { 64 };
        interface.update_ip_addrs(|all| all.push(IpCidr::new(address, bits)).unwrap());
        Self { interface, sockets: SocketSet::new(Vec::new()), wire }
    }

    fn connect(&mut self, to: &str, port: u16) -> SocketHandle {
        self.connect_with_room(to, port, 32_768)
    }

    /// Connects with room for so many bytes that it hasn't read.
    fn connect_with_room(&mut self, to: &str, port: u16, room: usize) -> SocketHandle {
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(room), buffer(32_768));
        socket.set_nagle_enabled(false);
        let to: IpAddress = to.parse().unwrap();
        socket.connect(self.interface.context(), (to, 53), port).unwrap();
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Lets both ends talk until neither has anything to say.
    fn talk(&mut self, bench: &mut Bench) {
        for _ in 0..1000 {
            let time = Instant::from_micros((bench.now.0 / 1000) as i64);
            self.interface.poll(time, &mut self.wire, &mut self.sockets);
            let frames: Vec<Vec<u8>> = self.wire.sent.drain(..).map(|packet| ethernet(&packet)).collect();
            let quiet = frames.is_empty();
            let answers = bench.run(frames);
            if quiet && answers.is_empty() {
                return;
            }
            self.wire.waiting.extend(answers.into_iter().map(|frame| frame[14..].to_vec()));
        }
        panic!("they talk for ever");
    }

    fn send(&mut self, handle: SocketHandle, bytes: &[u8]) {
        assert_eq!(self.socket(handle).send_slice(bytes), Ok(bytes.len()));
    }

    fn received(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut all = Vec::new();
        let socket = self.socket(handle);
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    all.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        all
    }
}

/// A query with its length in front.
fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// Id, response code and number of answers of each message.
fn answers(mut bytes: &[u8]) -> Vec<(u16, u8, u16)> {
    let mut all = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)));
        assert_eq!(message[2] & 0x80, 0x80, "a response");
        let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        all.push((number(0), message[3] & 15, number(6)));
        bytes = rest;
    }
    all
}

#[test]
fn queries_on_one_connection_are_answered_in_order_over_both_families() {
    for (from, to) in [("192.0.2.200", "192.0.2.53"), ("2001:db8::200", "2001:db8::53")] {
        let (mut bench, mut client) = (Bench::new("immediate"), Client::new(from));
        let handle = client.connect(to, 40_000);
        client.talk(&mut bench);
        // Two in one segment, then one more.
        client.send(handle, &[query(1, "ns1.fn.example", 1), query(2, "nothing.fn.example", 1)].concat());
        client.talk(&mut bench);
        assert_eq!(answers(&client.received(handle)), [(1, 0, 1), (2, 3, 0)]);
        client.send(handle, &query(3, "fn.example", 6));
        client.talk(&mut bench);
        assert_eq!(answers(&client.received(handle)), [(3, 0, 1)]);
        client.socket(handle).close();
        client.talk(&mut bench);
        assert_eq!(client.socket(handle).state(), tcp::State::TimeWait, "the server ended too");
        assert_eq!(bench.stack.counters().tcp_queries, 3);
    }
}

#[test]
fn a_query_may_come_byte_by_byte() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    for byte in query(5, "ns1.fn.example", 1) {
        assert!(client.received(handle).is_empty());
        client.send(handle, &[byte]);
        client.talk(&mut bench);
    }
    assert_eq!(answers(&client.received(handle)), [(5, 0, 1)]);
}

#[test]
fn nonsense_ends_the_connection_and_only_that() {
    let response = {
        let mut bytes = query(1, "ns1.fn.example", 1);
        bytes[4] |= 0x80;
        bytes
    };
    for nonsense in [vec![0, 0], vec![0, 5, 1, 2, 3, 4, 5], vec![0xff, 0xff, 1], response] {
        let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
        let (good, bad) = (client.connect("192.0.2.53", 40_000), client.connect("192.0.2.53", 40_001));
        client.talk(&mut bench);
        client.send(bad, &nonsense);
        client.talk(&mut bench);
        assert_eq!(client.socket(bad).state(), tcp::State::Closed, "{nonsense:?}");
        client.send(good, &query(1, "ns1.fn.example", 1));
        client.talk(&mut bench);
        assert_eq!(answers(&client.received(good)), [(1, 0, 1)]);
    }
}

#[test]
fn a_silent_connection_is_ended() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    bench.now = bench.now.plus(4_900_000_000);
    client.talk(&mut bench);
    assert_eq!(client.socket(handle).state(), tcp::State::Established);
    bench.now = bench.now.plus(200_000_000);
    client.talk(&mut bench);
    assert_eq!(client.socket(handle).state(), tcp::State::CloseWait);
}

#[test]
fn one_source_has_so_many_connections_and_others_still_get_theirs() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handles: Vec<_> = (0..30)
        .map(|port| {
            let handle = client.connect("192.0.2.53", 40_000 + port);
            client.talk(&mut bench);
            handle
        })
        .collect();
    let open =
        handles.iter().filter(|handle| client.socket(**handle).state() == tcp::State::Established).count();
    assert_eq!(open, CONNECTIONS_PER_SOURCE_MAX);
    let mut other = Client::new("198.51.100.200");
    other.interface.routes_mut().add_default_ipv4_route("198.51.100.1".parse().unwrap()).unwrap();
    let handle = other.connect("192.0.2.53", 40_000);
    other.talk(&mut bench);
    other.send(handle, &query(1, "ns1.fn.example", 1));
    other.talk(&mut bench);
    assert_eq!(answers(&other.received(handle)), [(1, 0, 1)]);
}

#[test]
fn handshakes_that_nobody_finishes_make_room() {
    let mut bench = Bench::new("immediate");
    for port in 0..500 {
        let mut stranger = Client::new("192.0.2.201");
        stranger.connect("192.0.2.53", 10_000 + port);
        stranger.interface.poll(Instant::ZERO, &mut stranger.wire, &mut stranger.sockets);
        // The SYN alone; whatever comes back is ignored.
        let syn = stranger.wire.sent.pop().unwrap();
        bench.run([ethernet(&syn)]);
    }
    let mut client = Client::new("192.0.2.200");
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    client.send(handle, &query(1, "ns1.fn.example", 1));
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [(1, 0, 1)]);
}

#[test]
fn a_cold_functions_name_wakes_it_once_and_is_answered_at_once() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    client.send(handle, &[query(1, "hello.fn.example", 1), query(2, "hello.fn.example", 28)].concat());
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [(1, 0, 1), (2, 0, 1)]);
    let wakes: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::FirstPacket { service, wake, trigger, fields, .. } => {
                Some((*service, *wake, *trigger, fields))
            }
            Event::Arrival { .. } | Event::Milestone { .. } => None,
        })
        .collect();
    let [(service, wake, trigger, fields)] = wakes[..] else { panic!("{wakes:?}") };
    assert_eq!((service, wake.0, trigger), (HELLO, 1, Trigger::Dns { query_type: 1 }));
    assert_eq!((fields.source, fields.destination), (addr("192.0.2.200"), addr("192.0.2.53")));
    assert_eq!((fields.interface, fields.source_mac, fields.destination_mac), (WAN, PEER_MAC, WAN_MAC));
    assert_eq!(bench.slots.get(HELLO).load().0, Phase::Waking);
}

#[test]
fn when_ready_is_waited_for_but_not_for_ever() {
    for becomes_ready in [true, false] {
        let (mut bench, mut client) = (Bench::new("when-ready"), Client::new("192.0.2.200"));
        assert_eq!(bench.tables.services.get(HELLO).unwrap().dns_answer, DnsAnswer::WhenReady);
        let handle = client.connect("192.0.2.53", 40_000);
        client.talk(&mut bench);
        client.send(handle, &query(1, "hello.fn.example", 1));
        client.talk(&mut bench);
        assert!(client.received(handle).is_empty());
        assert_eq!(bench.slots.get(HELLO).load().0, Phase::Waking);
        bench.now = bench.now.plus(if becomes_ready { 5_000_000 } else { 890_000_000 });
        client.talk(&mut bench);
        assert!(client.received(handle).is_empty());
        if becomes_ready {
            bench.slots.get(HELLO).set_phase(Phase::Ready);
        }
        bench.now = bench.now.plus(20_000_000);
        client.talk(&mut bench);
        assert_eq!(answers(&client.received(handle)), [(1, 0, 1)]);
    }
}

#[test]
fn queries_overtake_one_that_waits_and_only_so_many_wait() {
    let (mut bench, mut client) = (Bench::new("when-ready"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    let waiting =
        |ids: std::ops::Range<u16>| ids.flat_map(|id| query(id, "hello.fn.example", 1)).collect::<Vec<_>>();
    client.send(handle, &[waiting(1..3), query(3, "ns1.fn.example", 1)].concat());
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [(3, 0, 1)], "the others wait");
    client.send(handle, &[waiting(4..4 + WAITING_MAX as u16), query(99, "ns1.fn.example", 1)].concat());
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [], "no more is read");
    bench.slots.get(HELLO).set_phase(Phase::Ready);
    bench.now = bench.now.plus(1_000_000);
    client.talk(&mut bench);
    let mut ids: Vec<u16> = answers(&client.received(handle)).into_iter().map(|(id, ..)| id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 99]);
}

#[test]
fn a_client_that_sends_drop_by_drop_is_ended() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    for byte in &query(5, "ns1.fn.example", 1)[..10] {
        client.send(handle, &[*byte]);
        client.talk(&mut bench);
        bench.now = bench.now.plus(600_000_000);
    }
    client.talk(&mut bench);
    assert_eq!(client.socket(handle).state(), tcp::State::CloseWait);
}

/// A client behind a router, whose prefix is its own.
fn far_client(n: u8) -> Client {
    let mut client = Client::new(&format!("10.1.{n}.2"));
    client.interface.routes_mut().add_default_ipv4_route(format!("10.1.{n}.1").parse().unwrap()).unwrap();
    client
}

#[test]
fn quiet_connections_make_room_for_new_ones() {
    let mut bench = Bench::new("immediate");
    let mut quiet: Vec<Client> = (0..20).map(far_client).collect();
    for client in &mut quiet {
        for port in 0..CONNECTIONS_PER_SOURCE_MAX as u16 {
            client.connect("192.0.2.53", 40_000 + port);
            client.talk(&mut bench);
        }
    }
    let mut client = Client::new("192.0.2.200");
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    client.send(handle, &query(1, "ns1.fn.example", 1));
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [(1, 0, 1)]);
    assert!(bench.stack.counters().tcp_aborted >= 160 - CONNECTIONS_MAX as u64);
}

#[test]
fn over_tcp_too_there_are_views_and_cookies() {
    let mut bench = Bench::new("immediate");
    bench.tables.policy.cookies =
        millrace_fastpath::dns::CookieKeys::new(&[[7; 16]], 1_700_000_000_000_000_000);
    let inside = View { prefixes: vec![(addr("10.1.7.0"), 24)], ..View::default() };
    bench.tables.views = Views::new(vec![inside]);
    let (mut near, mut far) = (Client::new("192.0.2.200"), far_client(7));
    let mut with_cookie = query(1, "ns1.fn.example", 1);
    with_cookie.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    with_cookie[1] += 23;
    with_cookie[13] = 1;
    let mut ask = |client: &mut Client| {
        let handle = client.connect("192.0.2.53", 40_000);
        client.talk(&mut bench);
        client.send(handle, &with_cookie);
        client.talk(&mut bench);
        client.received(handle)
    };
    let (seen, unseen) = (ask(&mut near), ask(&mut far));
    assert_eq!((answers(&seen), answers(&unseen)), (vec![(1, 0, 1)], vec![(1, 5, 0)]));
    let cookie = seen.windows(12).find(|bytes| bytes[..4] == [0, 10, 0, 24]).map(|bytes| &bytes[4..]);
    assert_eq!(cookie, Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]), "the client's own, before the server's");
}

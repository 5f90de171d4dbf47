//! Clients: `smoltcp` for TCP, datagrams by hand. Each has one wish at a time, asks the name first, and checks every byte
//! that it hears.

use std::collections::VecDeque;
use std::net::IpAddr;

use millrace_fastpath::clock::Nanos;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::*;

use crate::cable::Cable;
use crate::chat::{Chat, Means};
use crate::pieces::Pieces;
use crate::random::{Random, pattern};
use crate::scenario::{DNS, TCP_PORT};
use crate::server::{REPLY, REQUEST};
use crate::services::Facts;
use crate::wire::{Body, End, Mac, Read, body, query, udp};

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// By its place in the configuration.
    pub(crate) service: usize,
    pub(crate) v4: bool,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request and its answer.
    Tcp,
    /// A conversation in datagrams.
    Udp,
    /// A name's address and no more.
    Name,
}

/// What came of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Served,
    Refused,
    TooLate,
}

#[derive(Debug)]
enum State {
    Idle,
    Asking { wish: Wish, id: u16, port: u16, until: Nanos },
    Talking { wish: Wish, talk: Talk, until: Nanos },
    Chatting(Chat),
    Closing { until: Nanos },
}

#[derive(Debug)]
struct Talk {
    id: u64,
    port: u16,
    request: Vec<u8>,
    said: usize,
    wanted: usize,
    heard: usize,
    was_open: bool,
    /// The rest of the request is said so long after the first word of the answer.
    pause: u64,
    says_on: Option<Nanos>,
    /// When an instance was heard first.
    heard_at: Option<Nanos>,
}

pub(crate) struct Client {
    pub(crate) mac: Mac,
    /// Two of either family, IPv4 and IPv6 in turn.
    pub(crate) addresses: [IpAddr; 4],
    wire: Cable,
    stack: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    state: State,
    pub(crate) wishes: VecDeque<Wish>,
    /// Since when the connection that has just ended was known to have an instance, and its own end.
    pub(crate) answered_since: Option<(Nanos, End)>,
    /// Before this it begins nothing.
    pub(crate) rests_until: Nanos,
    /// The next thing that its stack has to do.
    due: Nanos,
    port: u16,
    /// The identification of what it has cut last.
    piece: u32,
    datagrams: Vec<(End, u16, Vec<u8>)>,
    pieces: Pieces,
}

impl Client {
    pub(crate) fn new(at: usize, random: &mut Random) -> Self {
        let addresses: [IpAddr; 4] = [
            format!("192.0.2.{}", 100 + at).parse().unwrap(),
            format!("2001:db8::{}", 100 + at).parse().unwrap(),
            format!("192.0.2.{}", 120 + at).parse().unwrap(),
            format!("2001:db8::{}", 120 + at).parse().unwrap(),
        ];
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = random.next();
        let mut wire = Cable::new(1500);
        let mut stack = Interface::new(config, &mut wire, Instant::ZERO);
        stack.update_ip_addrs(|list| {
            for (addr, len) in addresses.iter().zip([24, 64]) {
                list.push(IpCidr::new((*addr).into(), len)).expect("there is room for two");
            }
        });
        stack.routes_mut().add_default_ipv4_route(Ipv4Address::new(192, 0, 2, 1)).expect("there is room");
        stack.routes_mut().add_default_ipv6_route("2001:db8::1".parse().unwrap()).expect("there is room");
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(random.one_of(&[3000, 20_000, 80_000])), buffer(4096));
        socket.set_ack_delay(random.percent(50).then_some(smoltcp::time::Duration::from_millis(10)));
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            mac: [2, 0, 0, 1, 0, at as u8],
            addresses,
            wire,
            stack,
            sockets,
            socket,
            state: State::Idle,
            wishes: VecDeque::new(),
            answered_since: None,
            rests_until: Nanos(0),
            due: Nanos(0),
            port: 20_000 + (random.below(1000) as u16),
            piece: PIECES_EACH * at as u32,
            datagrams: Vec::new(),
            pieces: Pieces::default(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle) && self.wishes.is_empty()
    }

    /// A packet has come.
    pub(crate) fn receive(&mut self, packet: &[u8], read: &Read<'_>) {
        match &read.body {
            Body::Tcp(_) => self.wire.rx.push_back(packet.to_vec()),
            Body::Udp(from, to, data) => self.datagrams.push(((read.source, *from), *to, data.to_vec())),
            Body::Piece(piece) => {
                let Some(whole) = self.pieces.add(read, piece) else { return };
                match body(read.source, read.destination, piece.protocol, &whole) {
                    Ok(Body::Udp(from, to, data)) => {
                        self.datagrams.push(((read.source, from), to, data.to_vec()));
                    }
                    other => panic!("what comes in pieces is no datagram: {other:?}"),
                }
            }
            Body::Other => return,
        }
        self.due = Nanos(0);
    }

    /// When it has something to do next.
    pub(crate) fn due(&self) -> Nanos {
        let until = match &self.state {
            State::Idle if self.wishes.is_empty() => Nanos(u64::MAX),
            State::Idle => self.rests_until,
            State::Asking { until, .. } | State::Closing { until } => *until,
            State::Talking { talk, until, .. } => talk.says_on.map_or(*until, |at| at.min(*until)),
            State::Chatting(chat) => chat.due(),
        };
        until.min(self.due)
    }

    /// Does what is due; the packets that it sends, and what came of a wish.
    pub(crate) fn turn(
        &mut self,
        now: Nanos,
        services: &[Facts],
        patience: u64,
        random: &mut Random,
        out: &mut Vec<Vec<u8>>,
    ) -> Option<(Wish, Outcome)> {
        let time = Instant::from_micros((now.0 / 1000) as i64);
        self.stack.poll(time, &mut self.wire, &mut self.sockets);
        let outcome = self.go_on(now, services, patience, random, out);
        self.stack.poll(time, &mut self.wire, &mut self.sockets);
        out.append(&mut self.wire.tx);
        let due = self.stack.poll_at(time, &self.sockets);
        let due = due.map_or(u64::MAX, |at| at.total_micros() as u64 * 1000);
        self.due = Nanos(due.max(now.0 + 1_000_000));
        outcome
    }

    fn go_on(
        &mut self,
        now: Nanos,
        services: &[Facts],
        patience: u64,
        random: &mut Random,
        out: &mut Vec<Vec<u8>>,
    ) -> Option<(Wish, Outcome)> {
        let datagrams = std::mem::take(&mut self.datagrams);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        match &mut self.state {
            State::Idle => {
                if now < self.rests_until {
                    return None;
                }
                let wish = self.wishes.pop_front()?;
                self.begin(wish, now, services, patience, random, out);
                None
            }
            State::Asking { wish, id, port, until } => {
                let wish = *wish;
                let mine = datagrams
                    .iter()
                    .find(|(_, at, data)| at == port && data.get(..2) == Some(&id.to_be_bytes()));
                let answered = mine.map(|(_, _, data)| check_answer(data, &services[wish.service], wish.v4));
                if answered.is_none() && now < *until {
                    return None;
                }
                if wish.kind == Kind::Name {
                    self.state = State::Idle;
                    return Some((wish, if answered.is_some() { Outcome::Served } else { Outcome::TooLate }));
                }
                // Who gets no answer has one from before.
                self.open(wish, now, services, patience, random);
                None
            }
            State::Chatting(chat) => {
                let (wish, service) = (chat.wish, &services[chat.wish.service]);
                let (addresses, port, piece) = (&self.addresses, &mut self.port, &mut self.piece);
                let means = Means { addresses, port, piece, random, out };
                let outcome = chat.turn(now, &datagrams, service, patience, means)?;
                self.state = State::Idle;
                Some((wish, outcome))
            }
            State::Talking { wish, talk, until } => {
                let wish = *wish;
                talk.was_open |= socket.may_send();
                talk.hear(socket);
                if talk.heard > 0 && talk.heard_at.is_none() {
                    talk.heard_at = Some(now);
                    talk.says_on = Some(now.plus(talk.pause));
                    *until = now.plus(talk.pause + patience);
                }
                if talk.says_on.is_some_and(|at| at <= now) {
                    (talk.pause, talk.says_on) = (0, None);
                }
                let ready = if talk.pause > 0 { REQUEST } else { talk.request.len() };
                if socket.can_send() && talk.said < ready {
                    talk.said += socket.send_slice(&talk.request[talk.said..ready]).expect("it can send");
                }
                let outcome = if talk.heard == talk.wanted {
                    socket.close();
                    Outcome::Served
                } else if !socket.is_open() || talk.was_open && !socket.may_recv() && !socket.can_recv() {
                    socket.abort();
                    Outcome::Refused
                } else if now >= *until {
                    socket.abort();
                    Outcome::TooLate
                } else {
                    return None;
                };
                let own = (self.addresses[usize::from(!wish.v4)], talk.port);
                self.answered_since = talk.heard_at.map(|since| (since, own));
                self.state = State::Closing { until: now.plus(500_000_000) };
                Some((wish, outcome))
            }
            State::Closing { until } => {
                let over = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
                if over || now >= *until {
                    socket.abort();
                    self.state = State::Idle;
                }
                None
            }
        }
    }

    fn begin(
        &mut self,
        wish: Wish,
        now: Nanos,
        services: &[Facts],
        patience: u64,
        random: &mut Random,
        out: &mut Vec<Vec<u8>>,
    ) {
        if services[wish.service].by_dns && (wish.kind == Kind::Name || random.percent(85)) {
            let (id, port) = (random.next() as u16, self.next_port());
            // A resolver of ours, or somebody else's that the query passes us on its way to.
            let server = match (random.percent(70), wish.v4) {
                (true, true) => DNS.0.parse().unwrap(),
                (true, false) => DNS.1.parse().unwrap(),
                (false, true) => IpAddr::from([8, 8, 8, 8]),
                (false, false) => "2001:4860:4860::8888".parse().unwrap(),
            };
            let message = query(id, &services[wish.service].dns_name(), wish.v4);
            out.push(udp((self.addresses[usize::from(!wish.v4)], port), (server, 53), &message));
            self.state = State::Asking { wish, id, port, until: now.plus(patience / 4) };
        } else {
            self.open(wish, now, services, patience, random);
        }
    }

    fn open(&mut self, wish: Wish, now: Nanos, services: &[Facts], patience: u64, random: &mut Random) {
        let to = services[wish.service].address(wish.v4);
        let (id, port, until) = (random.next(), self.next_port(), now.plus(patience));
        if wish.kind == Kind::Udp {
            self.state =
                State::Chatting(Chat::new(wish, &services[wish.service], port, now, patience, random));
            return;
        }
        let more = random.one_of(&[0, 10, 500, 3000]);
        let wanted = random.one_of(&[0, 100, 1400, 6000]);
        let mut request = vec![0; REQUEST + more];
        pattern(id, REQUEST, &mut request[REQUEST..]);
        request[..8].copy_from_slice(&id.to_be_bytes());
        request[8..12].copy_from_slice(&(more as u32).to_be_bytes());
        request[12..16].copy_from_slice(&(wanted as u32).to_be_bytes());
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        socket.abort();
        let local = (IpAddress::from(self.addresses[usize::from(!wish.v4)]), port);
        socket
            .connect(self.stack.context(), (IpAddress::from(to), TCP_PORT), local)
            .expect("a closed socket");
        let pause = if random.percent(70) { random.within(50..=1500) * 1_000_000 } else { 0 };
        let talk = Talk {
            id,
            port,
            request,
            said: 0,
            wanted: REPLY + wanted,
            heard: 0,
            was_open: false,
            pause,
            says_on: None,
            heard_at: None,
        };
        self.state = State::Talking { wish, talk, until };
    }

    /// Each connection has a port of its own.
    fn next_port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }
}

impl Talk {
    /// Hears what there is: exactly what an instance says on this connection, in order.
    fn hear(&mut self, socket: &mut tcp::Socket<'_>) {
        while socket.can_recv() {
            let (id, heard, wanted) = (self.id, self.heard, self.wanted);
            let len = socket.recv(|bytes| {
                check_reply(id, heard, wanted, bytes);
                (bytes.len(), bytes.len())
            });
            self.heard += len.expect("it can receive");
        }
    }
}

/// More packets than a client cuts in pieces.
const PIECES_EACH: u32 = 4096;

fn check_reply(id: u64, from: usize, wanted: usize, bytes: &[u8]) {
    assert!(from + bytes.len() <= wanted, "connection {id:x} hears more than there is");
    let mut expected = vec![0; bytes.len()];
    for (at, byte) in expected.iter_mut().enumerate() {
        *byte = match from + at {
            // Who it is, it may say as it likes.
            place @ 0..8 => bytes[place - from],
            place @ 8..REPLY => id.to_be_bytes()[place - 8],
            place => {
                let mut one = [0];
                pattern(!id, place, &mut one);
                one[0]
            }
        };
    }
    assert!(expected == bytes, "connection {id:x} hears other bytes from {from} on than were said");
}

/// An answer for a service's name has its address, or says that something is wrong.
fn check_answer(message: &[u8], service: &Facts, v4: bool) {
    let code = message.get(3).map(|flags| flags & 15);
    assert!(message.len() >= 12 && message[2] & 0x80 != 0, "an answer: {message:02x?}");
    let gone = service.was_absent && code == Some(3);
    assert!(gone || matches!(code, Some(0 | 2)), "the name is there: {message:02x?}");
    let answers = u16::from_be_bytes([message[6], message[7]]);
    let addr = if v4 { Some(service.v4) } else { service.v6 };
    let octets = match addr {
        Some(IpAddr::V4(addr)) => addr.octets().to_vec(),
        Some(IpAddr::V6(addr)) => addr.octets().to_vec(),
        None => Vec::new(),
    };
    let has = addr.is_some() && message.windows(octets.len()).any(|window| window == octets);
    assert!(has || answers == 0, "another address than the service's: {message:02x?}");
    assert!(
        service.was_absent || has || addr.is_none() || code == Some(2) || message[2] & 2 != 0,
        "the service's address is missing: {message:02x?}"
    );
}

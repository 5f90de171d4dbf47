//! DNS over TCP (RFC 7766): a pool of sockets that listen at port 53. A client may send its queries without waiting for
//! answers; one that waits for a function stands aside, and the others overtake it (section 6.2.1.1).
//!
//! ```text
//!  listening ─► established ─► read: length, query ─► respond ─► write ─► read ...
//!      ▲                              │ name of a cold function: wake it; answer now, or when it is ready
//!      └──────── closed ◄─────────────┴ end of stream, idle, nonsense, too many of one source
//! ```
//!
//! Everything is bounded: connections, those of one source, queries that wait, bytes in either direction, the time
//! between two whole queries, that for one whole answer, and that for taking leave. When all sockets are taken, the connection
//! that has been quiet for longest makes room.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::dns::{self, Cookies, HEADER_LEN, Outcome, Readiness, Role, Transport};
use millrace_fastpath::event::{Event, Milestone, PacketFields, Trigger};
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::services::{DnsAnswer, ServiceId};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::peers::Peers;
use super::{HostContext, HostCounters};

/// Connections at a time, those that only shake hands included. TCP/53 is for answers that UDP truncates.
pub const CONNECTIONS_MAX: usize = 64;
/// Connections of one source prefix at a time.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 8;
/// The longest query that is read: more than any question with options needs.
const QUERY_MAX: usize = 4096;
/// Queries of one connection that wait for functions; until one is answered, no further one is read.
pub const WAITING_MAX: usize = 8;
/// A connection without a whole query is ended after this (RFC 7766 §6.2.3 advises seconds), also one that sends it byte by byte.
const IDLE_NANOS: u64 = 5_000_000_000;
/// What an ended connection may take to be closed by its peer as well. Who keeps talking meanwhile keeps no socket by it.
const LEAVE_NANOS: u64 = 3_000_000_000;
/// A peer that says nothing at all for this long is gone; also in handshakes. Longer than [`IDLE_NANOS`], for it ends the
/// connection less politely.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Sockets that are always left to listen: older handshakes make room.
const LISTENING_MIN: usize = 8;
/// How often a query that waits for a function is looked at.
const WAITING_NANOS: u64 = 500_000;
/// Wakes by TCP in one second; the first one of each comes by UDP as a rule.
const WAKES_PER_SECOND: u64 = 20;
const RECEIVE_BUFFER: usize = QUERY_MAX + 2;
const SEND_BUFFER: usize = 8192;
/// The longest message that the length before it can tell.
const MESSAGE_MAX: usize = u16::MAX as usize;

/// The sockets of port 53.
pub(super) struct Listeners {
    connections: Vec<Connection>,
    scratch: Box<[u8]>,
    bucket: crate::control::Bucket,
}

struct Connection {
    handle: SocketHandle,
    state: Stage,
    /// When it last went a step further: a whole query came, the last of an answer left, or it was ended.
    active: Nanos,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Listening,
    Handshake,
    Open(IpEndpoint, IpEndpoint),
    Closing,
}

/// A query that waits for its function.
#[derive(Clone, Debug)]
struct Waiting {
    service: ServiceId,
    query: Vec<u8>,
    until: Nanos,
}

impl Listeners {
    /// Sockets in the set, if there is an address to listen at.
    pub(super) fn new(sockets: &mut SocketSet<'static>, listens: bool) -> Self {
        let count = if listens { CONNECTIONS_MAX } else { 0 };
        let connections = (0..count).map(|_| {
            let buffer = |len| SocketBuffer::new(vec![0; len]);
            let mut socket = Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
            socket.set_timeout(Some(TIMEOUT));
            socket.set_nagle_enabled(false);
            listen(&mut socket);
            Connection::new(sockets.add(socket))
        });
        Self {
            connections: connections.collect(),
            scratch: vec![0; MESSAGE_MAX].into_boxed_slice(),
            bucket: crate::control::Bucket::new(WAKES_PER_SECOND, WAKES_PER_SECOND),
        }
    }

    /// Whether there are no sockets.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes every connection a step further. Gives the time at which one has to be looked at again.
    pub(super) fn poll(
        &mut self,
        now: Nanos,
        sockets: &mut SocketSet<'static>,
        peers: &Peers,
        counters: &mut HostCounters,
        context: &mut HostContext<'_>,
    ) -> Option<Nanos> {
        self.admit(now, sockets, counters);
        let mut due: Option<Nanos> = None;
        let Self { connections, scratch, bucket } = self;
        for connection in connections {
            let socket = sockets.get_mut::<Socket<'_>>(connection.handle);
            if let Stage::Open(local, remote) = connection.state {
                let ends = Ends { local: addr(local.addr), remote: addr(remote.addr) };
                let mut service = Service { now, ends, peers, context, counters, scratch, bucket };
                connection.step(socket, &mut service);
            }
            if let Some(at) = connection.due(now) {
                due = Some(due.map_or(at, |due| due.min(at)));
            }
        }
        due.map(|due| due.max(now.plus(1)))
    }

    /// Follows the sockets' states: counts sources, makes room for new handshakes, and listens again.
    fn admit(&mut self, now: Nanos, sockets: &mut SocketSet<'static>, counters: &mut HostCounters) {
        for at in 0..self.connections.len() {
            let socket = sockets.get_mut::<Socket<'_>>(self.connections[at].handle);
            let connection = &mut self.connections[at];
            let ends = socket.local_endpoint().zip(socket.remote_endpoint());
            match (socket.state(), connection.state) {
                (State::Closed, _) => {
                    *connection = Connection::new(connection.handle);
                    listen(socket);
                }
                (State::SynReceived, Stage::Listening) => {
                    connection.state = Stage::Handshake;
                    connection.active = now;
                }
                (State::Established | State::CloseWait, Stage::Listening | Stage::Handshake) => {
                    let Some((local, remote)) = ends else { continue };
                    connection.state = Stage::Open(local, remote);
                    connection.active = now;
                    counters.tcp_connections += 1;
                    let prefix = addr(remote.addr).source_prefix();
                    let same = self.connections.iter().filter(|other| match other.state {
                        Stage::Open(_, remote) => addr(remote.addr).source_prefix() == prefix,
                        _ => false,
                    });
                    if same.count() > CONNECTIONS_PER_SOURCE_MAX {
                        counters.tcp_aborted += 1;
                        self.connections[at].state = Stage::Closing;
                        socket.abort();
                    }
                }
                (_, Stage::Closing) if now.since(connection.active) >= LEAVE_NANOS => {
                    counters.tcp_aborted += 1;
                    socket.abort();
                }
                _ => {}
            }
        }
        let count = |stage| self.connections.iter().filter(|one| one.state == stage).count();
        if count(Stage::Listening) < LISTENING_MIN
            && let Some(oldest) = {
                // Of handshakes and connections, the kind that has more than its half; of connections first those that are ended,
                // then those that are owed nothing.
                let handshakes = count(Stage::Handshake) > CONNECTIONS_MAX / 2;
                let quiet = |one: &&mut Connection| match one.state {
                    Stage::Handshake | Stage::Closing => true,
                    Stage::Open(..) => one.waits_for_peer(),
                    Stage::Listening => false,
                };
                let order = |one: &Connection| {
                    ((one.state == Stage::Handshake) != handshakes, one.state != Stage::Closing, one.active)
                };
                // One that was aborted in this turn makes room already.
                let alive =
                    |one: &&mut Connection| sockets.get::<Socket<'_>>(one.handle).state() != State::Closed;
                self.connections.iter_mut().filter(quiet).filter(alive).min_by_key(|one| order(one))
            }
        {
            counters.tcp_aborted += 1;
            oldest.state = Stage::Closing;
            sockets.get_mut::<Socket<'_>>(oldest.handle).abort();
        }
    }
}

fn listen(socket: &mut Socket<'_>) {
    // It is closed, and the port isn't 0: nothing else can be wrong.
    let _ = socket.listen(53);
}

/// The two ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    local: Addr,
    remote: Addr,
}

/// What a connection needs from outside to answer.
struct Service<'a, 'b> {
    now: Nanos,
    ends: Ends,
    peers: &'a Peers,
    context: &'a mut HostContext<'b>,
    counters: &'a mut HostCounters,
    scratch: &'a mut [u8],
    bucket: &'a mut crate::control::Bucket,
}

/// No interface has this number.
const NOWHERE: InterfaceId = InterfaceId(u16::MAX);

/// A connection can't go on.
struct Nonsense;

impl Connection {
    fn new(handle: SocketHandle) -> Self {
        Self {
            handle,
            state: Stage::Listening,
            active: Nanos(0),
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            waiting: Vec::new(),
        }
    }

    fn due(&self, now: Nanos) -> Option<Nanos> {
        match self.state {
            Stage::Open(..) if self.waits_for_peer() => Some(self.active.plus(IDLE_NANOS)),
            Stage::Open(..) => Some(now.plus(WAITING_NANOS)),
            Stage::Closing => Some(self.active.plus(LEAVE_NANOS)),
            Stage::Listening | Stage::Handshake => None,
        }
    }

    /// Whether the next step is its: it asks nothing, or doesn't take the answer that it was given. What waits for functions
    /// behind that answer is no reason to keep it.
    fn waits_for_peer(&self) -> bool {
        self.waiting.is_empty() || self.written < self.output.len()
    }

    fn step(&mut self, socket: &mut Socket<'_>, service: &mut Service<'_, '_>) {
        if self.exchange(socket, service).is_err() {
            service.counters.tcp_aborted += 1;
            self.state = Stage::Closing;
            return socket.abort();
        }
        let idle = service.now.since(self.active) >= IDLE_NANOS && self.waits_for_peer();
        let ended = !socket.may_recv() && self.waiting.is_empty() && self.written == self.output.len();
        if idle || ended {
            self.state = Stage::Closing;
            self.active = service.now;
            socket.close();
        }
    }

    /// Writes what is left of the last answer, then answers who has waited, then reads the next query: as long as there is
    /// room and input. A turn is bounded by the socket's buffers, which nobody fills or empties meanwhile.
    fn exchange(&mut self, socket: &mut Socket<'_>, service: &mut Service<'_, '_>) -> Result<(), Nonsense> {
        loop {
            if self.written < self.output.len() {
                let sent = socket.send_slice(&self.output[self.written..]).map_err(|_| Nonsense)?;
                self.written += sent;
                if self.written < self.output.len() {
                    return Ok(());
                }
                self.active = service.now;
            }
            let over = |waiting: &Waiting| {
                let phase = service.context.slots.get(waiting.service).load().0;
                phase == Phase::Ready || service.now >= waiting.until
            };
            if let Some(at) = self.waiting.iter().position(over) {
                let waited = self.waiting.remove(at);
                self.respond(&waited.query, true, service)?;
                continue;
            }
            if self.waiting.len() >= WAITING_MAX {
                return Ok(());
            }
            while socket.can_recv() && self.input.len() < QUERY_MAX + 2 {
                let room = QUERY_MAX + 2 - self.input.len();
                let read = socket.recv(|bytes| {
                    let len = bytes.len().min(room);
                    self.input.extend_from_slice(&bytes[..len]);
                    (len, len)
                });
                if read.map_err(|_| Nonsense)? == 0 {
                    break;
                }
            }
            let Some(head) = self.input.first_chunk::<2>() else { return Ok(()) };
            let len = usize::from(u16::from_be_bytes(*head));
            if !(HEADER_LEN..=QUERY_MAX).contains(&len) {
                return Err(Nonsense);
            }
            if self.input.len() < 2 + len {
                return Ok(());
            }
            self.active = service.now;
            let query: Vec<u8> = self.input.drain(..2 + len).skip(2).collect();
            self.respond(&query, false, service)?;
        }
    }

    /// Answers a query, or puts it off. `waited`: it was put off long enough.
    fn respond(&mut self, query: &[u8], waited: bool, service: &mut Service<'_, '_>) -> Result<(), Nonsense> {
        self.output.clear();
        self.written = 0;
        let len = query.len();
        service.scratch[..len].copy_from_slice(query);
        let query_type = query_type(query);
        let (tables, client) = (service.context.tables, service.ends.remote);
        // Whoever is forgotten came by no interface that a view has.
        let interface = service.peers.get(client).map_or(NOWHERE, |peer| peer.interface);
        let keys = tables.policy.cookies.as_ref();
        let context = dns::Context {
            names: tables.names_for(interface, client),
            role: Role::Authoritative,
            transport: Transport::Tcp,
            cookies: keys.map(|keys| Cookies { keys, client, now: service.now }),
            readiness: |id| readiness(id, waited, service.context),
        };
        match dns::respond(service.scratch, len, &context) {
            Outcome::Answer(answer) => {
                if let Some(id) = answer.service {
                    service.wake(id, query_type, len);
                    service.milestone(id, Milestone::Answered);
                }
                service.counters.tcp_queries += 1;
                self.output.extend_from_slice(&(answer.len as u16).to_be_bytes());
                self.output.extend_from_slice(&service.scratch[..answer.len]);
                Ok(())
            }
            Outcome::Deferred(id) => {
                service.wake(id, query_type, len);
                service.milestone(id, Milestone::Held);
                let patience =
                    service.context.tables.services.get(id).map_or(0, |entry| entry.hold_nanos_max);
                let until = service.now.plus(patience);
                self.waiting.push(Waiting { service: id, query: query.to_vec(), until });
                Ok(())
            }
            Outcome::NotOurs | Outcome::Silent(_) => Err(Nonsense),
        }
    }
}

impl Service<'_, '_> {
    /// A name of `id` was asked for. The event is handled before the answer leaves, in the same turn.
    fn wake(&mut self, id: ServiceId, query_type: u16, len: usize) {
        let Some(entry) = self.context.tables.services.get(id) else { return };
        let slot = self.context.slots.get(id);
        if !entry.trigger_dns || slot.load().0 != Phase::Cold || !self.bucket.take(self.now) {
            return;
        }
        let Some(peer) = self.peers.get(self.ends.remote) else { return };
        let Some(wake) = slot.begin_wake() else { return };
        let headers = if self.ends.remote.is_v4() { 40 } else { 60 };
        self.context.events.push(Event::FirstPacket {
            service: id,
            wake,
            trigger: Trigger::Dns { query_type },
            at: self.now,
            fields: PacketFields {
                interface: peer.interface,
                source_mac: peer.mac,
                destination_mac: peer.ours,
                source: self.ends.remote,
                destination: self.ends.local,
                protocol: 6,
                length: (headers + 2 + len) as u16,
                flow_label: 0,
            },
        });
    }

    fn milestone(&mut self, id: ServiceId, what: Milestone) {
        let (phase, wake) = self.context.slots.get(id).load();
        if phase == Phase::Waking {
            self.context.events.push(Event::Milestone { service: id, wake, what, at: self.now });
        }
    }
}

/// The same rule as in the workers' responder.
fn readiness(id: ServiceId, waited: bool, context: &HostContext<'_>) -> Readiness {
    let Some(entry) = context.tables.services.get(id) else { return Readiness::Cold };
    match context.slots.get(id).load().0 {
        Phase::Down if !entry.wakes => Readiness::Cold,
        _ if !entry.wakes => Readiness::Warm,
        Phase::Ready => Readiness::Warm,
        Phase::Cold | Phase::Waking | Phase::Draining
            if entry.dns_answer == DnsAnswer::WhenReady && entry.trigger_dns && !waited =>
        {
            Readiness::Defer
        }
        _ => Readiness::Cold,
    }
}

/// The QTYPE of a message's first question (RFC 1035 §4.1.2); 0 if there is none.
fn query_type(message: &[u8]) -> u16 {
    let mut at = HEADER_LEN;
    while let Some(len) = message.get(at).filter(|len| **len != 0) {
        at += usize::from(*len) + 1;
    }
    message.get(at + 1..at + 3).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]))
}

fn addr(address: IpAddress) -> Addr {
    match address {
        IpAddress::Ipv4(address) => Addr::from(address),
        IpAddress::Ipv6(address) => Addr::from(address),
    }
}

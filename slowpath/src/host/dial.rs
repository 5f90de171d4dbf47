//! TCP connections that the appliance opens itself: to ask whether somebody answers.
//!
//! ```text
//!   dial ─► SYN ... SYN-ACK, ACK ─► open: the request is sent, the begin of the answer read
//!            └─ RST ─► refused       └─ FIN or RST ─► ended
//!   hang up ─► RST, at any point: nobody is left with a connection that we have forgotten
//! ```
//!
//! They leave by ports that no translated flow has, so that answers come to us and not to a flow. A port isn't used again
//! before all others have been.

use std::collections::HashMap;

use millrace_config::limits::PROBE_PORT_FIRST;
use millrace_config::model::PortRange;
use millrace_fastpath::addr::Addr;
use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::Socket as AnySocket;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint};

/// Connections of ours at a time.
pub const DIALS_MAX: usize = 128;
/// As much of an answer as is kept.
pub const HEARD_MAX: usize = 256;
/// Room for a request, which has a path of 255 bytes.
const SEND_BUFFER: usize = 512;
const RECEIVE_BUFFER: usize = 1024;
const _: () = assert!(RECEIVE_BUFFER >= HEARD_MAX);

/// A connection of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialId(u32);

/// A connection to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial<'a> {
    /// One of our addresses.
    pub local: Addr,
    /// The other end.
    pub remote: (Addr, u16),
    /// What is said when it is open; empty for nothing.
    pub request: &'a [u8],
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled<'a> {
    /// The handshake goes on.
    Opening,
    /// It is open; so much has been heard, up to [`HEARD_MAX`] bytes.
    Open(&'a [u8]),
    /// The other end refused it.
    Refused,
    /// It was open, and no more will be heard.
    Ended(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Refused,
    Ended,
    /// Nobody asks for it any more; its RST is on its way.
    HungUp,
}

struct Connection {
    handle: SocketHandle,
    stage: Stage,
    local: (Addr, u16),
    remote: (Addr, u16),
    request: Vec<u8>,
    sent: usize,
    heard: Vec<u8>,
}

/// All connections of ours.
pub(super) struct Dials {
    first: u16,
    last: u16,
    next: u16,
    /// By our port, which no two have at a time.
    open: HashMap<u16, Connection>,
    /// Of connections that have ended.
    spare: Vec<Socket<'static>>,
    /// How many there are in all: their buffers are taken when they are first needed.
    sockets: usize,
}

impl Dials {
    /// Connections from ports that aren't among `translated`.
    pub(super) fn new(translated: PortRange) -> Self {
        let below = (PROBE_PORT_FIRST, translated.first.saturating_sub(1));
        let above = (translated.last.saturating_add(1).max(PROBE_PORT_FIRST), u16::MAX);
        let len = |(first, last): (u16, u16)| (u32::from(last) + 1).saturating_sub(u32::from(first));
        let above = if translated.last == u16::MAX { (1, 0) } else { above };
        let (first, last) = if len(above) > len(below) { above } else { below };
        Self { first, last, next: first, open: HashMap::new(), spare: Vec::new(), sockets: 0 }
    }

    /// Whether a port is one that connections leave by.
    pub(super) fn has_port(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether a segment belongs to a connection.
    pub(super) fn expects(&self, source: (Addr, u16), destination: (Addr, u16)) -> bool {
        self.open.get(&destination.1).is_some_and(|one| (one.remote, one.local) == (source, destination))
    }

    /// Opens a connection; `None` when there are as many as there may be, or no way to say it.
    pub(super) fn dial(
        &mut self,
        dial: &Dial<'_>,
        sockets: &mut SocketSet<'static>,
        context: &mut Context,
    ) -> Option<DialId> {
        if self.spare.is_empty() && self.sockets >= DIALS_MAX {
            return None;
        }
        let port = self.port()?;
        let mut socket = self.spare.pop().unwrap_or_else(|| {
            self.sockets += 1;
            let buffer = |len| SocketBuffer::new(vec![0; len]);
            Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER))
        });
        let remote = IpEndpoint { addr: address(dial.remote.0), port: dial.remote.1 };
        let local = IpListenEndpoint { addr: Some(address(dial.local)), port };
        if socket.connect(context, remote, local).is_err() {
            self.spare.push(socket);
            return None;
        }
        let connection = Connection {
            handle: sockets.add(socket),
            stage: Stage::Opening,
            local: (dial.local, port),
            remote: dial.remote,
            request: dial.request.to_vec(),
            sent: 0,
            heard: Vec::new(),
        };
        self.open.insert(port, connection);
        Some(DialId(u32::from(port)))
    }

    /// The next port that no connection has.
    fn port(&mut self) -> Option<u16> {
        for _ in 0..=self.open.len() {
            if self.first > self.last {
                return None;
            }
            let port = self.next;
            self.next = if port == self.last { self.first } else { port + 1 };
            if !self.open.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }

    /// How far a connection is.
    pub(super) fn get(&self, id: DialId) -> Dialled<'_> {
        match self.open.get(&(id.0 as u16)) {
            Some(one) => match one.stage {
                Stage::Opening => Dialled::Opening,
                Stage::Open => Dialled::Open(&one.heard),
                Stage::Refused => Dialled::Refused,
                Stage::Ended | Stage::HungUp => Dialled::Ended(&one.heard),
            },
            None => Dialled::Ended(&[]),
        }
    }

    /// Ends a connection; its id means nothing any more.
    pub(super) fn hang_up(&mut self, id: DialId, sockets: &mut SocketSet<'static>) {
        if let Some(one) = self.open.get_mut(&(id.0 as u16)) {
            one.stage = Stage::HungUp;
            sockets.get_mut::<Socket<'_>>(one.handle).abort();
        }
    }

    /// Takes every connection a step further.
    pub(super) fn poll(&mut self, sockets: &mut SocketSet<'static>) {
        for one in self.open.values_mut() {
            one.step(sockets.get_mut::<Socket<'_>>(one.handle));
        }
    }

    /// Lets go of those that were ended. What there was to send for them has been sent.
    pub(super) fn collect(&mut self, sockets: &mut SocketSet<'static>) {
        let spare = &mut self.spare;
        self.open.retain(|_, one| {
            if one.stage != Stage::HungUp {
                return true;
            }
            if let AnySocket::Tcp(socket) = sockets.remove(one.handle) {
                spare.push(socket);
            }
            false
        });
    }
}

impl Connection {
    fn step(&mut self, socket: &mut Socket<'_>) {
        match (self.stage, socket.state()) {
            (Stage::HungUp | Stage::Refused | Stage::Ended, _) | (Stage::Opening, State::SynSent) => return,
            (Stage::Opening, State::Closed) => {
                self.stage = Stage::Refused;
                return;
            }
            _ => self.stage = Stage::Open,
        }
        if self.sent < self.request.len() && socket.can_send() {
            // It can send, so that nothing can be wrong.
            self.sent += socket.send_slice(&self.request[self.sent..]).unwrap_or(0);
        }
        while socket.can_recv() && self.heard.len() < HEARD_MAX {
            let room = HEARD_MAX - self.heard.len();
            let read = socket.recv(|bytes| {
                let len = bytes.len().min(room);
                self.heard.extend_from_slice(&bytes[..len]);
                (len, len)
            });
            if read.unwrap_or(0) == 0 {
                break;
            }
        }
        if !socket.may_recv() {
            self.stage = Stage::Ended;
        }
    }
}

fn address(addr: Addr) -> IpAddress {
    addr.to_ip().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_that_no_translated_flow_has() {
        for (first, last, expected) in [
            (16_384, 65_535, (1024, 16_383)),
            (1, 40_000, (40_001, 65_535)),
            (1024, 60_000, (60_001, 65_535)),
        ] {
            let dials = Dials::new(PortRange { first, last });
            assert_eq!((dials.first, dials.last), expected);
            assert!(!dials.has_port(first.max(1024)) && dials.has_port(expected.0));
        }
        let none = Dials::new(PortRange { first: 1, last: 65_535 });
        assert!((0..=u16::MAX).all(|port| !none.has_port(port)));
    }
}

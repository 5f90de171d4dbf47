//! A model of a TCP server, written from RFC 9293: what an instance or a backend looks like from the network. It hears a
//! request, checks that its bytes are those that the client sent, and answers with bytes that the client can check.
//!
//! It keeps no window of its own to speak of, takes bytes in order only, and repeats what isn't acknowledged from there on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{TcpControl, TcpRepr};

use crate::random::{Random, pattern};
use crate::wire::{End, bare, reset, tcp};

/// What a client says first: the connection's id, how many bytes follow, how many it wants to hear.
pub(crate) const REQUEST: usize = 16;
/// What the server says first: who it is, and the connection's id.
pub(crate) const REPLY: usize = 16;

/// A server at a port.
#[derive(Debug)]
pub(crate) struct Server {
    /// Who it is.
    pub(crate) id: u64,
    /// Whether anybody answers; until then the kernel takes connections and what is said on them.
    pub(crate) serves: bool,
    connections: BTreeMap<(End, End), Connection>,
}

#[derive(Debug)]
struct Connection {
    /// The client's first number and ours.
    irs: u32,
    iss: u32,
    open: bool,
    /// What the client said, and whether that was all.
    heard: Vec<u8>,
    heard_fin: bool,
    /// What we say, once the request is whole.
    says: Vec<u8>,
    answered: bool,
    /// Bytes of `says` that the client has acknowledged, and those that were sent since.
    acked: usize,
    sent: usize,
    fin_sent: bool,
    fin_acked: bool,
    window: usize,
    scale: u8,
    segment: usize,
    due_ms: u64,
    tries: u32,
    touched_ms: u64,
}

/// What a client can't have sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The request's bytes aren't those that its connection sends.
    Bytes { connection: u64, at: usize },
    /// What was never sent is acknowledged.
    Acknowledgement,
}

impl Server {
    pub(crate) fn new(id: u64, serves: bool) -> Self {
        Self { id, serves, connections: BTreeMap::new() }
    }

    /// Whether it has an open connection of this client's; with `closing` also one that one side has closed.
    pub(crate) fn knows(&self, client: End, closing: bool) -> bool {
        let mut known =
            self.connections.range((client, FIRST_END)..).take_while(|((one, _), _)| *one == client);
        known.any(|(_, one)| one.open && !one.is_over() && (closing || !one.heard_fin && !one.fin_sent))
    }

    /// Whether requests are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.connections.values().any(|connection| connection.open && !connection.is_over())
    }

    /// A segment has come. Gives the number that a connection begins with, if one does.
    pub(crate) fn receive(
        &mut self,
        client: End,
        at: End,
        heard: &TcpRepr<'_>,
        now_ms: u64,
        random: &mut Random,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<Option<u32>, Wrong> {
        let key = (client, at);
        let sequence = heard.seq_number.0 as u32;
        if heard.control == TcpControl::Syn && heard.ack_number.is_none() {
            let known = self.connections.get(&key);
            if let Some(known) = known.filter(|one| one.irs == sequence || one.open && !one.is_over()) {
                // Repeated, an old duplicate, or another connection (RFC 5961 §4).
                out.push(if known.open { known.acknowledge(key) } else { known.syn_ack(key) });
                return Ok(None);
            }
            let connection = Connection::new(heard, random.next() as u32, now_ms);
            let iss = connection.iss;
            out.push(connection.syn_ack(key));
            self.connections.insert(key, connection);
            return Ok(Some(iss));
        }
        let Some(known) = self.connections.get_mut(&key) else {
            out.extend(reset(at, client, heard));
            return Ok(None);
        };
        known.touched_ms = now_ms;
        if heard.control == TcpControl::Rst {
            if sequence == known.expected() {
                self.connections.remove(&key);
            }
            return Ok(None);
        }
        let Some(number) = heard.ack_number else { return Ok(None) };
        if !known.open && number.0 as u32 != known.number(0) {
            // Late words of another server's, which the client took for ours (RFC 9293 §3.10.7.4).
            out.extend(reset(at, client, heard));
            return Ok(None);
        }
        known.acknowledged(number.0 as u32, heard.window_len, now_ms)?;
        known.hear(key, heard, out)?;
        if self.serves {
            known.answer(self.id);
        }
        known.speak(key, now_ms, out);
        Ok(None)
    }

    /// It answers from now on.
    pub(crate) fn serve(&mut self, now_ms: u64, out: &mut Vec<Vec<u8>>) {
        self.serves = true;
        for (key, connection) in &mut self.connections {
            connection.answer(self.id);
            connection.speak(*key, now_ms, out);
        }
    }

    /// When [`Server::poll`] has something to do.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.connections
            .values()
            .map(|connection| connection.due_ms.min(connection.touched_ms + IDLE_MS))
            .min()
    }

    /// Repeats what is due, and forgets what is over.
    pub(crate) fn poll(&mut self, now_ms: u64, out: &mut Vec<Vec<u8>>) {
        self.connections.retain(|key, connection| connection.poll(*key, now_ms, out));
    }
}

impl Connection {
    fn new(syn: &TcpRepr<'_>, iss: u32, now_ms: u64) -> Self {
        Self {
            irs: syn.seq_number.0 as u32,
            iss,
            open: false,
            heard: Vec::new(),
            heard_fin: false,
            says: Vec::new(),
            answered: false,
            acked: 0,
            sent: 0,
            fin_sent: false,
            fin_acked: false,
            window: usize::from(syn.window_len),
            scale: syn.window_scale.unwrap_or(0),
            segment: usize::from(syn.max_seg_size.unwrap_or(536)).min(usize::from(SEGMENT_MAX)),
            due_ms: now_ms + RETRY_MS,
            tries: 0,
            touched_ms: now_ms,
        }
    }

    fn is_over(&self) -> bool {
        self.fin_acked && self.heard_fin
    }

    /// The next number that the client says.
    fn expected(&self) -> u32 {
        self.irs.wrapping_add(1).wrapping_add(self.heard.len() as u32).wrapping_add(u32::from(self.heard_fin))
    }

    /// The number of a byte of ours.
    fn number(&self, at: usize) -> u32 {
        self.iss.wrapping_add(1).wrapping_add(at as u32)
    }

    fn syn_ack(&self, (client, at): (End, End)) -> Vec<u8> {
        let repr = TcpRepr {
            max_seg_size: Some(SEGMENT_MAX),
            window_scale: Some(0),
            ..bare(TcpControl::Syn, self.iss, Some(self.irs.wrapping_add(1)))
        };
        tcp(at, client, repr)
    }

    fn acknowledge(&self, (client, at): (End, End)) -> Vec<u8> {
        let next = self.number(self.sent).wrapping_add(u32::from(self.fin_sent));
        tcp(at, client, bare(TcpControl::None, next, Some(self.expected())))
    }

    fn acknowledged(&mut self, number: u32, window: u16, now_ms: u64) -> Result<(), Wrong> {
        let said = number.wrapping_sub(self.iss);
        let most = 1 + self.says.len() as u32 + 1;
        if said == 0 || said > 1 << 30 {
            return Ok(());
        }
        if said > most {
            return Err(Wrong::Acknowledgement);
        }
        self.open = true;
        self.window = usize::from(window) << self.scale;
        let bytes = (said as usize - 1).min(self.says.len());
        let fin = said as usize - 1 > self.says.len();
        if fin && !self.fin_sent {
            return Err(Wrong::Acknowledgement);
        }
        if bytes > self.acked || fin && !self.fin_acked {
            self.acked = self.acked.max(bytes);
            self.sent = self.sent.max(self.acked);
            self.fin_acked |= fin;
            self.tries = 0;
            self.due_ms = now_ms + RETRY_MS;
        }
        Ok(())
    }

    fn hear(&mut self, key: (End, End), heard: &TcpRepr<'_>, out: &mut Vec<Vec<u8>>) -> Result<(), Wrong> {
        let fin = heard.control == TcpControl::Fin;
        if !self.open || heard.payload.is_empty() && !fin {
            return Ok(());
        }
        // How much of it is known already; what lies beyond what is expected waits for what is missing.
        let known = self.expected().wrapping_sub(heard.seq_number.0 as u32) as usize;
        if known <= heard.payload.len() && !self.heard_fin {
            let before = self.heard.len();
            self.heard.extend_from_slice(&heard.payload[known..]);
            self.heard_fin = fin;
            self.check(before)?;
        }
        out.push(self.acknowledge(key));
        Ok(())
    }

    /// The request so far is what its connection says.
    fn check(&self, from: usize) -> Result<(), Wrong> {
        let Some((connection, _, _)) = self.request() else { return Ok(()) };
        let from = from.max(REQUEST);
        let mut expected = vec![0; self.heard.len().saturating_sub(from)];
        pattern(connection, from, &mut expected);
        match expected
            .iter()
            .zip(&self.heard[from.min(self.heard.len())..])
            .position(|(one, other)| one != other)
        {
            Some(at) => Err(Wrong::Bytes { connection, at: from + at }),
            None => Ok(()),
        }
    }

    fn request(&self) -> Option<(u64, usize, usize)> {
        let head: &[u8; REQUEST] = self.heard.first_chunk()?;
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let id = u64::from(word(0) as u32) << 32 | word(4) as u64;
        Some((id, word(8), word(12)))
    }

    fn answer(&mut self, server: u64) {
        let Some((connection, more, wanted)) = self.request() else { return };
        if self.says.is_empty() {
            // Who it is, it says at once.
            self.says.extend_from_slice(&server.to_be_bytes());
            self.says.extend_from_slice(&connection.to_be_bytes());
        }
        if self.answered || self.heard.len() < REQUEST + more {
            return;
        }
        self.answered = true;
        self.says.resize(REPLY + wanted, 0);
        pattern(!connection, REPLY, &mut self.says[REPLY..]);
    }

    /// Sends what the client has room for.
    fn speak(&mut self, key: (End, End), now_ms: u64, out: &mut Vec<Vec<u8>>) {
        if !self.open {
            return;
        }
        let (client, at) = key;
        let end = self.says.len().min(self.acked + self.window.min(4 * self.segment));
        if self.sent < end && self.sent == self.acked {
            self.due_ms = now_ms + RETRY_MS;
        }
        while self.sent < end {
            let to = end.min(self.sent + self.segment);
            let control = TcpControl::Psh;
            let repr = TcpRepr {
                payload: &self.says[self.sent..to],
                ..bare(control, self.number(self.sent), Some(self.expected()))
            };
            out.push(tcp(at, client, repr));
            self.sent = to;
        }
        // The client closes first, and then we do.
        if self.answered && self.sent == self.says.len() && self.heard_fin && !self.fin_sent {
            self.fin_sent = true;
            self.due_ms = now_ms + RETRY_MS;
            out.push(tcp(at, client, bare(TcpControl::Fin, self.number(self.sent), Some(self.expected()))));
        }
    }

    fn poll(&mut self, key: (End, End), now_ms: u64, out: &mut Vec<Vec<u8>>) -> bool {
        if now_ms >= self.touched_ms + IDLE_MS {
            return false;
        }
        if now_ms < self.due_ms {
            return true;
        }
        if self.open && self.acked == self.sent && (!self.fin_sent || self.fin_acked) {
            self.due_ms = u64::MAX;
            return !self.is_over();
        }
        self.tries += 1;
        self.due_ms = now_ms + (RETRY_MS << self.tries.min(4));
        if self.tries > TRIES_MAX {
            return false;
        }
        if !self.open {
            out.push(self.syn_ack(key));
        } else {
            self.sent = self.acked;
            self.fin_sent &= self.fin_acked;
            self.speak(key, now_ms, out);
        }
        true
    }
}

/// What fits into a tunnel.
const SEGMENT_MAX: u16 = 1340;
/// No end comes before it.
const FIRST_END: End = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Before anything is repeated the first time, in milliseconds; then twice as long each time.
const RETRY_MS: u64 = 250;
/// Repeated so often.
const TRIES_MAX: u32 = 8;
/// A connection that hears nothing for so long is forgotten without a word.
const IDLE_MS: u64 = 20_000;

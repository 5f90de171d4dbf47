//! The splices of one worker: a row beside each flow that is spliced, and the connections that are being opened.
//!
//! ```text
//!   flow (spliced) ── position ──► row:  opening, by this held packet  │  open, with this translation
//!   held packet    ── its id ────► connection: which flow, how far     ◄── queue, looked through a part each poll
//! ```
//!
//! Nobody clears a row: it counts only while its flow says that it is spliced.

use std::collections::VecDeque;

use super::connect::{Accepted, Connect};
use super::cookie::{Cookies, LIFE_NANOS};
use super::translate::{Rescale, Stamps, Translation};
use crate::clock::Nanos;
use crate::hold::HeldId;
use crate::tables::services::{SERVICES_MAX, ServiceId};

/// For how long SYNs are answered with cookies after the last that had to be: clients repeat theirs after one second and
/// again after two more (RFC 6298 §2).
const LINGER_NANOS: u64 = 3_500_000_000;

/// How far a spliced flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splice {
    /// The instance hasn't answered yet; this is what the client said so far.
    Opening(HeldId),
    /// Both halves are there.
    Open {
        /// The differences between them.
        translation: Translation,
        /// The client's window at the beginning, not shifted, for an acknowledgement in its name.
        window: u16,
    },
}

/// How far a connection to an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// SYNs are sent.
    Opening {
        /// The flow's position.
        position: u32,
        /// When.
        connect: Connect,
    },
    /// The instance accepted: what is held goes to it.
    Opened,
    /// There is no instance, or it refused: the client is to be told.
    Failed {
        /// The flow, if it came that far.
        position: Option<u32>,
    },
}

/// A worker's splices.
#[derive(Debug)]
pub struct Splices {
    /// Makes and reads the cookies.
    pub cookies: Cookies,
    /// When each service last sent a cookie because it wasn't ready; `None` is never.
    issued: Box<[Option<Nanos>]>,
    rows: Box<[Row]>,
    /// By held packet.
    stages: Box<[Stage]>,
    queue: VecDeque<HeldId>,
}

/// A row as it lies in memory: plain words, for zeroed memory isn't touched before it is needed, and most flows are never
/// spliced.
type Row = [u32; 6];

impl Splices {
    /// Takes the memory for `flows` flows and `holds` held packets.
    pub fn new(flows: usize, holds: usize, keys: [u64; 2]) -> Self {
        Self {
            cookies: Cookies::new(keys),
            issued: vec![None; SERVICES_MAX].into_boxed_slice(),
            rows: vec![[0; 6]; flows].into_boxed_slice(),
            stages: vec![Stage::Opened; holds].into_boxed_slice(),
            queue: VecDeque::with_capacity(holds),
        }
    }

    /// Notes that a client was sent a cookie because the service isn't ready.
    pub fn issued(&mut self, service: ServiceId, now: Nanos) {
        self.issued[service.index()] = Some(now);
    }

    /// Whether a SYN may repeat one that was answered with a cookie: it must have the same answer, for the client may be
    /// about to hear the first one.
    pub fn lingers(&self, service: ServiceId, now: Nanos) -> bool {
        self.issued[service.index()].is_some_and(|last| now.since(last) < LINGER_NANOS)
    }

    /// Whether a segment that belongs to no flow may be that of a client with a cookie. If so, only its first is one to
    /// begin with: what overtook it comes again.
    pub fn expects(&self, service: ServiceId, now: Nanos) -> bool {
        self.issued[service.index()].is_some_and(|last| now.since(last) < LIFE_NANOS)
    }

    /// Begins to connect the flow at `position` for the client whose segment is held as `held`.
    pub fn begin(&mut self, position: u32, held: HeldId, accepted: Accepted, now: Nanos) {
        self.set(position, Splice::Opening(held));
        self.stages[held.index()] = Stage::Opening { position, connect: Connect::new(accepted, now) };
        self.queue.push_back(held);
    }

    /// Notes that nothing can be connected for the client whose segment is held as `held`.
    pub fn fail(&mut self, held: HeldId) {
        self.stages[held.index()] = Stage::Failed { position: None };
        self.queue.push_back(held);
    }

    /// The row of a flow that is spliced.
    #[inline]
    pub fn get(&self, position: u32) -> Splice {
        unpack(&self.rows[position as usize])
    }

    /// Whether the instance of a flow that is spliced hasn't answered yet.
    #[inline]
    pub fn is_opening(&self, position: u32) -> bool {
        matches!(self.get(position), Splice::Opening(_))
    }

    /// Sets it.
    #[inline]
    pub fn set(&mut self, position: u32, splice: Splice) {
        self.rows[position as usize] = pack(&splice);
    }

    /// The connection for a held packet that is in the queue.
    pub fn stage(&mut self, held: HeldId) -> &mut Stage {
        &mut self.stages[held.index()]
    }

    /// Takes back that the SYN of a connection was sent: there was no frame to send it in.
    pub fn not_sent(&mut self, held: HeldId, now: Nanos) {
        if let Stage::Opening { connect, .. } = &mut self.stages[held.index()] {
            connect.not_sent(now);
        }
    }

    /// Connections in the queue.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Takes the connection out of the queue that was looked at longest ago.
    pub fn take_next(&mut self) -> Option<HeldId> {
        self.queue.pop_front()
    }

    /// Puts it back.
    pub fn wait(&mut self, held: HeldId) {
        self.queue.push_back(held);
    }
}

const OPENING: u8 = 1;
const OPEN: u8 = 2;

fn pack(splice: &Splice) -> Row {
    match *splice {
        Splice::Opening(held) => [u32::from(OPENING), held.0, 0, 0, 0, 0],
        Splice::Open { translation, window } => {
            let (stamps, first) = match translation.stamps {
                Stamps::None => (0, 0),
                Stamps::Refused => (1, 0),
                Stamps::Own { first } => (2, first),
                Stamps::Instance => (3, 0),
            };
            let Translation { to_instance, to_client, .. } = translation;
            [
                u32::from_le_bytes([OPEN, stamps, u8::from(translation.sack), 0]),
                translation.sequence,
                translation.clock,
                first,
                u32::from_le_bytes([to_instance.from, to_instance.to, to_client.from, to_client.to]),
                u32::from(window),
            ]
        }
    }
}

fn unpack(row: &Row) -> Splice {
    let [kind, stamps, sack, _] = row[0].to_le_bytes();
    if kind != OPEN {
        return Splice::Opening(HeldId(row[1]));
    }
    let [instance_from, instance_to, client_from, client_to] = row[4].to_le_bytes();
    Splice::Open {
        translation: Translation {
            sequence: row[1],
            clock: row[2],
            to_instance: Rescale { from: instance_from, to: instance_to },
            to_client: Rescale { from: client_from, to: client_to },
            sack: sack != 0,
            stamps: match stamps {
                0 => Stamps::None,
                1 => Stamps::Refused,
                2 => Stamps::Own { first: row[3] },
                _ => Stamps::Instance,
            },
        },
        window: row[5] as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_put_in() {
        let mut splices = Splices::new(3, 1, [1, 2]);
        for stamps in [Stamps::None, Stamps::Refused, Stamps::Own { first: 0xdead_beef }, Stamps::Instance] {
            let translation = Translation {
                sequence: 0xffff_fffe,
                clock: 0x8000_0001,
                to_instance: Rescale { from: 1, to: 2 },
                to_client: Rescale { from: 3, to: 14 },
                sack: stamps == Stamps::None,
                stamps,
            };
            for splice in [Splice::Open { translation, window: 65_535 }, Splice::Opening(HeldId(77))] {
                splices.set(2, splice);
                assert_eq!(splices.get(2), splice);
            }
        }
    }
}

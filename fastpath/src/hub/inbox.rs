//! Datagrams on their way from the workers to the hub's thread: content that arrives, and what nodes say of it.
//!
//! Boxes go round, as on a [`super::Lane`]. When none is empty the thread is behind, and the datagram is dropped by name, as if
//! it had been lost on the way: whoever sent it repeats it, or is asked to.

use crossbeam_queue::ArrayQueue;
use millrace_bier::id::{BfrId, SubDomain};

use crate::addr::Addr;
use crate::tables::InterfaceId;

/// Datagrams that the thread can be behind by: a third of a second of a site's content at 100 Mb/s, some 5 MB.
pub const DATAGRAMS_MAX: usize = 3072;
/// The longest datagram's data: what fits into a full Ethernet frame.
pub const DATAGRAM_BYTES_MAX: usize = 1500;

/// What a datagram is to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inlet {
    /// Content, by the number of the rule that accepts it.
    Content(u16),
    /// A node's word on what it was sent, by the number of the lane's site.
    Feedback(u16),
}

/// A UDP datagram, and what is known of its way here.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// What it is.
    pub inlet: Inlet,
    /// Who sent it,
    pub source: Addr,
    /// from which port,
    pub source_port: u16,
    /// to which address,
    pub destination: Addr,
    /// and port.
    pub destination_port: u16,
    /// The interface it came in by.
    pub interface: InterfaceId,
    /// For content that came as BIER: the sub-domain, and the router where it entered, if it says so.
    pub bier: Option<(SubDomain, Option<BfrId>)>,
    len: usize,
    bytes: [u8; DATAGRAM_BYTES_MAX],
}

impl Default for Datagram {
    fn default() -> Self {
        Self {
            inlet: Inlet::Content(0),
            source: Addr::default(),
            source_port: 0,
            destination: Addr::default(),
            destination_port: 0,
            interface: InterfaceId::default(),
            bier: None,
            len: 0,
            bytes: [0; DATAGRAM_BYTES_MAX],
        }
    }
}

impl Datagram {
    /// Its data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Copies its data in; false if it is longer than [`DATAGRAM_BYTES_MAX`].
    pub fn fill(&mut self, data: &[u8]) -> bool {
        let Some(room) = self.bytes.get_mut(..data.len()) else { return false };
        room.copy_from_slice(data);
        self.len = data.len();
        true
    }
}

/// What all workers fill and the hub's thread empties.
#[derive(Debug)]
pub struct Inbox {
    full: ArrayQueue<Box<Datagram>>,
    empty: ArrayQueue<Box<Datagram>>,
}

impl Default for Inbox {
    fn default() -> Self {
        let inbox = Self { full: ArrayQueue::new(DATAGRAMS_MAX), empty: ArrayQueue::new(DATAGRAMS_MAX) };
        for _ in 0..DATAGRAMS_MAX {
            // The queue has room for exactly these.
            let _ = inbox.empty.push(Box::default());
        }
        inbox
    }
}

impl Inbox {
    /// An empty box; `None` if the thread is behind.
    pub fn take_empty(&self) -> Option<Box<Datagram>> {
        self.empty.pop()
    }

    /// Hands a datagram over.
    pub fn put(&self, datagram: Box<Datagram>) {
        // Boxes go round between queues that have room for all of them.
        let _ = self.full.push(datagram);
    }

    /// The next datagram, which must be given back.
    pub fn take(&self) -> Option<Box<Datagram>> {
        self.full.pop()
    }

    /// Gives a box back.
    pub fn give_back(&self, datagram: Box<Datagram>) {
        let _ = self.empty.push(datagram);
    }
}

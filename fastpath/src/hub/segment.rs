//! A packet that the hub's thread writes and a worker sends: it is written into a frame of the worker's, so nobody copies it.
//!
//! ```text
//!  worker ── a frame of its pool, lent ──► [ Segment ] ── written by the hub's thread ──► worker: it leaves,
//!     ▲                                                                                   and another is lent ──┐
//!     └─────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Which driver's frames these are, tables and threads needn't know: a segment holds one behind [`Room`].

use std::any::Any;
use std::fmt::Debug;

use crate::driver::Frame;
use crate::tables::InterfaceId;

/// The longest frame of a segment: a full one with two VLAN tags to come, and fewer than a buffer holds.
pub const SEGMENT_BYTES_MAX: usize = 1522;

/// Where a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is a whole Ethernet frame, without tags, and leaves here: to a group, or to one node's own link-layer address
    /// (RFC 6085).
    Interface(InterfaceId),
    /// It is an IP packet behind an Ethernet header to nobody yet, and goes where routes lead: to one node's own IP address. A hop
    /// is taken from it, as from those that are forwarded.
    Routed,
    /// It is a BIER packet without MPLS behind an Ethernet header to nobody yet, with our own BIFT-id, the bit string of its
    /// receivers, and the TTL that copies shall have.
    Bier,
}

/// A packet, ready to be sent.
#[derive(Debug)]
pub struct Segment(Box<dyn Room>);

/// A frame, of whatever driver, and where it goes.
trait Room: Any + Send + Debug {
    fn way(&self) -> Way;
    fn bytes(&self) -> &[u8];
    /// Makes it this long, whatever it was, and gives access; `None`, and then it is empty, if it has not the room.
    fn resize(&mut self, way: Way, len: usize) -> Option<&mut [u8]>;
}

/// A worker's frame while the hub's thread has it. It isn't there only between two segments: see [`super::ends`].
pub(super) struct Lent<F> {
    frame: Option<F>,
    way: Way,
}

impl<F> Default for Lent<F> {
    fn default() -> Self {
        Self { frame: None, way: Way::Bier }
    }
}

impl<F> Lent<F> {
    pub(super) fn put(&mut self, frame: F) {
        self.frame = Some(frame);
    }

    /// The frame, and where it goes.
    pub(super) fn take(&mut self) -> Option<(F, Way)> {
        self.frame.take().map(|frame| (frame, self.way))
    }
}

impl<F> Debug for Lent<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a frame")
    }
}

impl<F: Frame> Room for Lent<F> {
    fn way(&self) -> Way {
        self.way
    }

    fn bytes(&self) -> &[u8] {
        self.frame.as_ref().map_or(&[], Frame::bytes)
    }

    fn resize(&mut self, way: Way, len: usize) -> Option<&mut [u8]> {
        self.way = way;
        let frame = self.frame.as_mut()?;
        (frame.truncate(0) && len <= SEGMENT_BYTES_MAX && frame.extend(len)).then(|| frame.bytes_mut())
    }
}

impl Segment {
    pub(super) fn new<F: Frame>(lent: Box<Lent<F>>) -> Self {
        Self(lent)
    }

    /// Where it goes.
    pub fn way(&self) -> Way {
        self.0.way()
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Writes a frame, of parts that follow each other; false, and then it is empty, if it is longer than
    /// [`SEGMENT_BYTES_MAX`].
    pub fn fill(&mut self, way: Way, parts: &[&[u8]]) -> bool {
        let len = parts.iter().map(|part| part.len()).sum();
        let Some(mut room) = self.0.resize(way, len) else { return false };
        for part in parts {
            let (head, rest) = room.split_at_mut(part.len());
            head.copy_from_slice(part);
            room = rest;
        }
        true
    }

    /// The frame, if it is one of this driver's.
    pub(super) fn into_frame<F: Frame>(self) -> Option<F> {
        self.into_lent()?.take().map(|(frame, _)| frame)
    }

    /// What it was made of. `None` if that is another driver's: lanes have one worker, so nobody sees that.
    pub(super) fn into_lent<F: Frame>(self) -> Option<Box<Lent<F>>> {
        let room: Box<dyn Any> = self.0;
        room.downcast().ok()
    }
}

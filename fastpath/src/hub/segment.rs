//! A packet that the hub's thread writes and a worker sends: it is written into a frame of the worker's, so nobody copies it.
//!
//! ```text
//!  worker ── a frame of its pool, lent ──► [ Segment ] ── written by the hub's thread ──► worker: the frame leaves,
//!     ▲                                                                                   another takes its place ──┐
//!     └──────────────────────────────────────── the segment, to be written again ◄─────────────────────────────────┘
//! ```
//!
//! Which driver's frames these are, tables and threads needn't know: a segment holds them behind [`Room`].

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
pub struct Segment {
    way: Way,
    room: Box<dyn Room>,
}

/// A frame, of whatever driver.
trait Room: Any + Send + Debug {
    fn bytes(&self) -> &[u8];
    /// Makes it this long, whatever it was, and gives access; `None`, and then it is empty, if it has not the room.
    fn resize(&mut self, len: usize) -> Option<&mut [u8]>;
}

struct Lent<F>(F);

impl<F> Debug for Lent<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a frame")
    }
}

impl<F: Frame> Room for Lent<F> {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn resize(&mut self, len: usize) -> Option<&mut [u8]> {
        let frame = &mut self.0;
        (frame.truncate(0) && len <= SEGMENT_BYTES_MAX && frame.extend(len)).then(|| frame.bytes_mut())
    }
}

impl Segment {
    /// An empty one, in a fresh frame.
    pub(super) fn new<F: Frame>(frame: F) -> Self {
        Self { way: Way::Bier, room: Box::new(Lent(frame)) }
    }

    /// Where it goes.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        self.room.bytes()
    }

    /// Writes a frame, of parts that follow each other; false, and then it is empty, if it is longer than
    /// [`SEGMENT_BYTES_MAX`].
    pub fn fill(&mut self, way: Way, parts: &[&[u8]]) -> bool {
        self.way = way;
        let len = parts.iter().map(|part| part.len()).sum();
        let Some(mut room) = self.room.resize(len) else { return false };
        for part in parts {
            let (head, rest) = room.split_at_mut(part.len());
            head.copy_from_slice(part);
            room = rest;
        }
        true
    }

    /// Takes the frame out and puts another, fresh one in its place.
    ///
    /// # Errors
    /// `fresh` again: it is of another driver than the frames that were lent. Lanes have one worker, so nobody sees that.
    #[inline]
    pub(super) fn exchange<F: Frame>(&mut self, fresh: F) -> Result<F, F> {
        let room: &mut dyn Any = &mut *self.room;
        match room.downcast_mut::<Lent<F>>() {
            Some(lent) => Ok(std::mem::replace(&mut lent.0, fresh)),
            None => Err(fresh),
        }
    }

    /// The frame, if it is one of this driver's.
    pub(super) fn into_frame<F: Frame>(self) -> Option<F> {
        let room: Box<dyn Any> = self.room;
        room.downcast::<Lent<F>>().ok().map(|lent| lent.0)
    }
}

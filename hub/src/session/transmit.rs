//! What a sender hands out: a packet, and who gets it.

use crate::nodes::NodeSet;
use crate::norm::{ObjectId, PayloadId};
use crate::shape::Shape;

/// Who gets a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Every node of the session: the group's bit strings, or its multicast address.
    Everyone,
    /// These alone: their bit strings, one packet for each set ([`crate::nodes::Roster::bit_strings`]); on a plain LAN the group's
    /// address in a frame to the MAC of the one node (RFC 6085), for each of them.
    These(NodeSet),
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Content, for the first time.
    First,
    /// Content once more, or parity.
    Repair,
    /// A command.
    Control,
}

/// What follows the header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: the header is all.
    None,
    /// Bytes of an object.
    Source {
        /// Which object.
        object: ObjectId,
        /// From here on,
        offset: u64,
        /// so many.
        len: usize,
    },
    /// A row of parity.
    Parity {
        /// Which object.
        object: ObjectId,
        /// Of which block.
        block: u32,
        /// Which row.
        row: u8,
        /// How the object is cut.
        shape: Shape,
    },
}

/// A packet to be sent: a NORM message in a UDP datagram to the session's group and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Who gets it.
    pub to: To,
    /// What it is for.
    pub kind: Kind,
    /// The message up to its content, and for commands all of it.
    pub header: Vec<u8>,
    /// The content, which the session doesn't have.
    pub body: Body,
}

/// Where the bytes of objects come from: a cache. Objects are numbered as the profile does, NORM if nothing else is said.
pub trait Content<O = ObjectId> {
    /// Reads bytes of an object that was announced, exactly as many as there is room for.
    ///
    /// # Errors
    /// [`Unread`]: nothing must be sent then.
    fn read(&mut self, object: O, offset: u64, out: &mut [u8]) -> Result<(), Unread>;
}

/// Bytes that couldn't be read, or aren't what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object can't be read")]
pub struct Unread;

impl Transmit {
    /// How long the message is, in bytes.
    #[must_use]
    pub fn message_len(&self) -> usize {
        self.header.len()
            + match self.body {
                Body::None => 0,
                Body::Source { len, .. } => len,
                Body::Parity { shape, .. } => shape.segment_len(),
            }
    }

    /// Appends the message. Parity is computed from a whole block, so that a sender of many rows of one block may want to keep them.
    ///
    /// # Errors
    /// [`Unread`]; what was appended is no message then.
    pub fn write(&self, content: &mut impl Content, out: &mut Vec<u8>) -> Result<(), Unread> {
        out.extend(&self.header);
        match self.body {
            Body::None => Ok(()),
            Body::Source { object, offset, len } => {
                let start = out.len();
                out.resize(start + len, 0);
                content.read(object, offset, &mut out[start..])
            }
            Body::Parity { object, block, row, shape } => {
                let (offset, len) = shape.block_range(block).ok_or(Unread)?;
                let mut bytes = vec![0; len];
                content.read(object, offset, &mut bytes)?;
                out.extend(shape.parity(row, &bytes));
                Ok(())
            }
        }
    }
}

/// The content of a segment.
pub(super) fn body(object: ObjectId, shape: Shape, id: PayloadId) -> Body {
    match shape.range(id) {
        Some((offset, len)) => Body::Source { object, offset, len },
        None => Body::Parity { object, block: id.block, row: id.segment - shape.block_len(id.block), shape },
    }
}

//! NORM on the wire (RFC 5740, with the building block of RFC 5401), as unmodified receivers of NRL's library speak it.
//! FEC is id 5, Reed-Solomon over GF(2^8) (RFC 5510 section 5); messages of other schemes are refused by name.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |version| type  |    hdr_len    |          sequence             |
//! |                           source_id                           |
//! |  what the type says ...  |  extensions, up to hdr_len words   |
//! |  payload ...
//! ```
//!
//! [`parse`] checks a datagram once and whole: lengths, extensions, every item of a list. What it returns borrows from the
//! datagram, and no accessor fails. What is sent is a [`Packet`] as well, written by [`Packet::emit`].

mod ack;
mod command;
mod extension;
mod object;
mod quantize;
mod repair;

pub use ack::{Acked, Feedback};
pub use command::{CcNode, CcNodes, Command, NodeIds, ObjectIds, cc_flags};
pub use extension::{CcFeedback, Fti};
pub use object::{ObjectHead, PayloadId, flags};
pub use quantize::{group_size, quantize_group_size, quantize_rate, quantize_rtt, rate, rtt};
pub use repair::{Form, Item, Level, Request, RequestBuilder, Requests, Span};

use core::time::Duration;

/// The version of the protocol.
pub const VERSION: u8 = 1;
/// The FEC encoding id of Reed-Solomon over GF(2^8), one symbol a packet (RFC 5510 section 5).
pub const FEC_ID: u8 = 5;
/// The highest block number: 24 bits of the payload id of FEC id 5.
pub const BLOCK_MAX: u32 = (1 << 24) - 1;

const COMMON_LEN: usize = 8;

/// The name of a node, sender or receiver, in a session; 0 and `u32::MAX` mean none and any (RFC 5740 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// The number of an object in a session; it wraps around (RFC 5740 section 4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u16);

impl ObjectId {
    /// How many objects lie between it and an older one: up to half of all numbers; `None` if the other is newer (serial
    /// number arithmetic, RFC 1982).
    #[must_use]
    pub fn since(self, older: Self) -> Option<u16> {
        let gap = self.0.wrapping_sub(older.0);
        (gap <= i16::MAX as u16).then_some(gap)
    }
}

/// Why a datagram isn't a NORM message that could be understood. Each is dropped, and counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its header says, or than its type needs.
    #[error("the message is cut")]
    Cut,
    /// The version isn't 1.
    #[error("the version is unknown")]
    Version,
    /// No type of RFC 5740 section 4, or a report.
    #[error("the type is unknown")]
    Type,
    /// `hdr_len` is less than the fixed part of this type.
    #[error("the header length is too short for the type")]
    HeaderLength,
    /// An extension is empty or goes beyond the header.
    #[error("an extension doesn't fit the header")]
    Extension,
    /// FEC of another id than 5.
    #[error("the FEC encoding isn't id 5")]
    Fec,
    /// EXT_FTI contradicts itself: no bytes in a segment, no segments in a block, or more than 255 with parity.
    #[error("the object's FEC parameters are impossible")]
    Fti,
    /// No kind of command of RFC 5740 section 4.2.3.
    #[error("the command is unknown")]
    Command,
    /// A list that isn't a whole number of items.
    #[error("a list isn't a whole number of items")]
    List,
    /// A repair request of an unknown form, without a level, or with half a range.
    #[error("a repair request makes no sense")]
    Request,
    /// An acknowledgement of an unknown type.
    #[error("the acknowledgement is of an unknown type")]
    AckType,
}

impl Malformed {
    /// All of them, for counters.
    pub const ALL: [Self; 11] = [
        Self::Cut,
        Self::Version,
        Self::Type,
        Self::HeaderLength,
        Self::Extension,
        Self::Fec,
        Self::Fti,
        Self::Command,
        Self::List,
        Self::Request,
        Self::AckType,
    ];
}

/// What every message of a sender says of the session (RFC 5740 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderHead {
    /// Which run of the sender this is: receivers forget what they knew when it changes.
    pub instance: u16,
    /// The greatest round-trip time of the group, quantized; see [`rtt`].
    pub grtt: u8,
    /// How many round trips receivers spread their feedback over, 0 to 15. Ours say 0.
    pub backoff: u8,
    /// How many receivers there are about, quantized to 4 bits; see [`group_size`].
    pub group_size: u8,
}

impl SenderHead {
    fn read(at: &[u8; 4]) -> Self {
        Self {
            instance: u16::from_be_bytes([at[0], at[1]]),
            grtt: at[2],
            backoff: at[3] >> 4,
            group_size: at[3] & 15,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend(self.instance.to_be_bytes());
        out.extend([self.grtt, self.backoff << 4 | self.group_size & 15]);
    }
}

/// A message, with what all messages begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Counts the messages of one node; receivers see losses in it (RFC 5740 section 4.1).
    pub sequence: u16,
    /// Who sent it.
    pub source: NodeId,
    /// The rest.
    pub message: Message<'a>,
}

/// The kinds of messages (RFC 5740 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// NORM_INFO: what an object is, at most one segment long.
    Info {
        /// Session and object.
        head: ObjectHead,
        /// Free form; see [`crate::session`] for ours.
        content: &'a [u8],
    },
    /// NORM_DATA: one source or parity segment.
    Data {
        /// Session and object.
        head: ObjectHead,
        /// Which segment.
        id: PayloadId,
        /// Its bytes: less than a whole segment only at the end of the object.
        content: &'a [u8],
    },
    /// NORM_CMD.
    Command {
        /// The session.
        head: SenderHead,
        /// What is to be done.
        command: Command<'a>,
    },
    /// NORM_NACK.
    Nack {
        /// For whom, and the echo of its probe.
        feedback: Feedback,
        /// What is missing.
        requests: Requests<'a>,
    },
    /// NORM_ACK.
    Ack {
        /// For whom, and the echo of its probe.
        feedback: Feedback,
        /// Numbers requests of acknowledgement.
        id: u8,
        /// What is acknowledged.
        acked: Acked,
    },
}

const INFO: u8 = 1;
const DATA: u8 = 2;
const COMMAND: u8 = 3;
const NACK: u8 = 4;
const ACK: u8 = 5;

/// Checks a datagram and says what it is.
///
/// # Errors
/// Whichever of [`Malformed`] is found first.
pub fn parse(datagram: &[u8]) -> Result<Packet<'_>, Malformed> {
    let common = datagram.first_chunk::<COMMON_LEN>().ok_or(Malformed::Cut)?;
    if common[0] >> 4 != VERSION {
        return Err(Malformed::Version);
    }
    let header_len = usize::from(common[1]) * 4;
    if header_len < COMMON_LEN {
        return Err(Malformed::HeaderLength);
    }
    let (header, payload) = datagram.split_at_checked(header_len).ok_or(Malformed::Cut)?;
    let header = &header[COMMON_LEN..];
    let message = match common[0] & 15 {
        INFO => {
            let (head, extensions) = ObjectHead::read(header)?;
            Message::Info { head: head.with(extensions)?, content: payload }
        }
        DATA => {
            let (head, rest) = ObjectHead::read(header)?;
            let (id, extensions) = rest.split_first_chunk().ok_or(Malformed::HeaderLength)?;
            Message::Data { head: head.with(extensions)?, id: PayloadId::read(id), content: payload }
        }
        COMMAND => {
            let (head, rest) = header.split_first_chunk().ok_or(Malformed::HeaderLength)?;
            Message::Command { head: SenderHead::read(head), command: Command::read(rest, payload)? }
        }
        NACK => {
            let (feedback, _, extensions) = Feedback::read(header)?;
            let feedback = feedback.with(extensions)?;
            Message::Nack { feedback, requests: Requests::check(payload)? }
        }
        ACK => {
            let (feedback, [kind, id], extensions) = Feedback::read(header)?;
            let feedback = feedback.with(extensions)?;
            Message::Ack { feedback, id, acked: Acked::read(kind, payload)? }
        }
        _ => return Err(Malformed::Type),
    };
    let sequence = u16::from_be_bytes([common[2], common[3]]);
    let source = NodeId(u32::from_be_bytes([common[4], common[5], common[6], common[7]]));
    Ok(Packet { sequence, source, message })
}

impl Packet<'_> {
    /// Appends the message as it is on the wire.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let kind = match self.message {
            Message::Info { .. } => INFO,
            Message::Data { .. } => DATA,
            Message::Command { .. } => COMMAND,
            Message::Nack { .. } => NACK,
            Message::Ack { .. } => ACK,
        };
        out.extend([VERSION << 4 | kind, 0]);
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.source.0.to_be_bytes());
        let payload = match &self.message {
            Message::Info { head, content } => {
                head.write(out, None);
                *content
            }
            Message::Data { head, id, content } => {
                head.write(out, Some(*id));
                content
            }
            Message::Command { head, command } => {
                head.write(out);
                command.write(out)
            }
            Message::Nack { feedback, requests } => {
                feedback.write(out, [0, 0]);
                requests.bytes()
            }
            Message::Ack { feedback, id, acked } => {
                feedback.write(out, [acked.kind(), *id]);
                out[start + 1] = header_words(out.len() - start);
                acked.write(out);
                return;
            }
        };
        out[start + 1] = header_words(out.len() - start);
        out.extend(payload);
    }

    /// The message alone.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.emit(&mut out);
        out
    }
}

/// The field `hdr_len`.
fn header_words(bytes: usize) -> u8 {
    debug_assert!(bytes.is_multiple_of(4) && bytes / 4 <= 255, "headers are short");
    (bytes / 4) as u8
}

/// A time on the wire: seconds and microseconds, 32 bits each.
fn read_time(at: &[u8; 8]) -> Duration {
    let word = |from: usize| u32::from_be_bytes([at[from], at[from + 1], at[from + 2], at[from + 3]]);
    // NRL's receivers may say a million microseconds, where others have none and a second more.
    let seconds = word(0).wrapping_add(word(4) / 1_000_000);
    Duration::new(seconds.into(), word(4) % 1_000_000 * 1000)
}

fn write_time(time: Duration, out: &mut Vec<u8>) {
    out.extend((time.as_secs() as u32).to_be_bytes());
    out.extend(time.subsec_micros().to_be_bytes());
}

#[cfg(test)]
mod tests;

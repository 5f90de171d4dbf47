//! NORM_CMD (RFC 5740 section 4.2.3): what a sender says beside its content.

use core::time::Duration;

use super::extension::{self, write_rate};
use super::object::PayloadId;
use super::{FEC_ID, Malformed, NodeId, ObjectId, read_time, write_time};

const FLUSH: u8 = 1;
const EOT: u8 = 2;
const SQUELCH: u8 = 3;
const CC: u8 = 4;
const REPAIR_ADV: u8 = 5;
const ACK_REQ: u8 = 6;
const APPLICATION: u8 = 7;

/// Flags of nodes in a probe and of their feedback (RFC 5740 section 4.2.3).
pub mod cc_flags {
    /// The current limiting receiver: it answers at once.
    pub const CLR: u8 = 0x01;
    /// A potential limiting receiver: it answers at once.
    pub const PLR: u8 = 0x02;
    /// The round-trip time is measured.
    pub const RTT: u8 = 0x04;
    /// Slow start.
    pub const START: u8 = 0x08;
    /// The receiver leaves.
    pub const LEAVE: u8 = 0x10;
}

/// A command. Lists that are sent must be whole items; [`NodeIds::of`] and the like make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// All was sent up to here: ask for what is missing, and acknowledge if you are named.
    Flush {
        /// Up to this object,
        object: ObjectId,
        /// and this segment of it.
        id: PayloadId,
        /// Who shall acknowledge.
        nodes: NodeIds<'a>,
    },
    /// The sender ends.
    Eot,
    /// Nothing before this is repaired any more.
    Squelch {
        /// From this object on,
        object: ObjectId,
        /// and this segment of it.
        id: PayloadId,
        /// Later objects that are gone as well.
        gone: ObjectIds<'a>,
    },
    /// A probe of round-trip times.
    Cc {
        /// Counts probes.
        sequence: u16,
        /// The sender's clock, echoed by feedback.
        sent: Duration,
        /// The sender's rate, quantized; without it nobody answers a probe by itself (EXT_RATE).
        rate: Option<u16>,
        /// Nodes that the sender knows.
        nodes: CcNodes<'a>,
    },
    /// What others asked for already; ours never need to say that. The content is checked to be repair requests.
    RepairAdv {
        /// The requests.
        requests: super::Requests<'a>,
    },
    /// Asks for an acknowledgement.
    AckRequest {
        /// Of what.
        kind: u8,
        /// Numbers the request.
        id: u8,
        /// Who shall acknowledge.
        nodes: NodeIds<'a>,
    },
    /// For the application.
    Application {
        /// Free form.
        content: &'a [u8],
    },
}

impl<'a> Command<'a> {
    /// `rest` is the header from the command's kind on.
    pub(super) fn read(rest: &'a [u8], payload: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = rest.split_first_chunk::<4>().ok_or(Malformed::HeaderLength)?;
        let [kind, second, third, fourth] = *fixed;
        let object = ObjectId(u16::from_be_bytes([third, fourth]));
        let place = || {
            if second != FEC_ID {
                return Err(Malformed::Fec);
            }
            let (id, extensions) = rest.split_first_chunk().ok_or(Malformed::HeaderLength)?;
            extension::find(extensions)?;
            Ok(PayloadId::read(id))
        };
        Ok(match kind {
            FLUSH => Self::Flush { object, id: place()?, nodes: NodeIds(items(payload)?) },
            SQUELCH => Self::Squelch { object, id: place()?, gone: ObjectIds(items(payload)?) },
            CC => {
                let (sent, extensions) = rest.split_first_chunk().ok_or(Malformed::HeaderLength)?;
                let rate = extension::find(extensions)?.rate;
                Self::Cc { sequence: object.0, sent: read_time(sent), rate, nodes: CcNodes(items(payload)?) }
            }
            EOT => extension::find(rest).map(|_| Self::Eot)?,
            REPAIR_ADV => {
                extension::find(rest)?;
                Self::RepairAdv { requests: super::Requests::check(payload)? }
            }
            ACK_REQ => {
                extension::find(rest)?;
                Self::AckRequest { kind: third, id: fourth, nodes: NodeIds(items(payload)?) }
            }
            APPLICATION => {
                extension::find(rest)?;
                Self::Application { content: payload }
            }
            _ => return Err(Malformed::Command),
        })
    }

    /// Writes the rest of the header; the payload is returned.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> &'a [u8] {
        let place = |out: &mut Vec<u8>, kind, object: ObjectId, id: PayloadId| {
            out.extend([kind, FEC_ID]);
            out.extend(object.0.to_be_bytes());
            id.write(out);
        };
        match *self {
            Self::Flush { object, id, nodes } => {
                place(out, FLUSH, object, id);
                nodes.0.as_flattened()
            }
            Self::Squelch { object, id, gone } => {
                place(out, SQUELCH, object, id);
                gone.0.as_flattened()
            }
            Self::Cc { sequence, sent, rate, nodes } => {
                out.extend([CC, 0]);
                out.extend(sequence.to_be_bytes());
                write_time(sent, out);
                if let Some(rate) = rate {
                    write_rate(rate, out);
                }
                nodes.0.as_flattened()
            }
            Self::Eot => {
                out.extend([EOT, 0, 0, 0]);
                &[]
            }
            Self::RepairAdv { requests } => {
                out.extend([REPAIR_ADV, 0, 0, 0]);
                requests.bytes()
            }
            Self::AckRequest { kind, id, nodes } => {
                out.extend([ACK_REQ, 0, kind, id]);
                nodes.0.as_flattened()
            }
            Self::Application { content } => {
                out.extend([APPLICATION, 0, 0, 0]);
                content
            }
        }
    }
}

/// The payload as whole items.
fn items<const N: usize>(payload: &[u8]) -> Result<&[[u8; N]], Malformed> {
    match payload.as_chunks() {
        (items, []) => Ok(items),
        _ => Err(Malformed::List),
    }
}

/// A list of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeIds<'a>(&'a [[u8; 4]]);

impl<'a> NodeIds<'a> {
    /// The list of these bytes, as [`NodeIds::bytes`] makes them.
    #[must_use]
    pub fn of(bytes: &'a [[u8; 4]]) -> Self {
        Self(bytes)
    }

    /// The item for a node.
    #[must_use]
    pub fn bytes(node: NodeId) -> [u8; 4] {
        node.0.to_be_bytes()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = NodeId> + 'a {
        self.0.iter().map(|bytes| NodeId(u32::from_be_bytes(*bytes)))
    }
}

/// A list of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectIds<'a>(&'a [[u8; 2]]);

impl<'a> ObjectIds<'a> {
    /// The list of these bytes: numbers in network order.
    #[must_use]
    pub fn of(bytes: &'a [[u8; 2]]) -> Self {
        Self(bytes)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = ObjectId> + 'a {
        self.0.iter().map(|bytes| ObjectId(u16::from_be_bytes(*bytes)))
    }
}

/// A node in a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CcNode {
    /// Who.
    pub node: NodeId,
    /// See [`cc_flags`].
    pub flags: u8,
    /// Its round-trip time, quantized.
    pub rtt: u8,
    /// Its rate, quantized.
    pub rate: u16,
}

impl CcNode {
    /// As it is in the list.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        let ([n0, n1, n2, n3], [r0, r1]) = (self.node.0.to_be_bytes(), self.rate.to_be_bytes());
        [n0, n1, n2, n3, self.flags, self.rtt, r0, r1]
    }
}

/// The nodes in a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CcNodes<'a>(&'a [[u8; 8]]);

impl<'a> CcNodes<'a> {
    /// The list of these items, as [`CcNode::bytes`] makes them.
    #[must_use]
    pub fn of(items: &'a [[u8; 8]]) -> Self {
        Self(items)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = CcNode> + 'a {
        self.0.iter().map(|&[n0, n1, n2, n3, flags, rtt, r0, r1]| CcNode {
            node: NodeId(u32::from_be_bytes([n0, n1, n2, n3])),
            flags,
            rtt,
            rate: u16::from_be_bytes([r0, r1]),
        })
    }
}

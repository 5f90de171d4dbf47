//! What NORM_NACK and NORM_ACK begin with, and what is acknowledged (RFC 5740 section 4.3).

use core::time::Duration;

use super::extension::{self, CcFeedback};
use super::object::PayloadId;
use super::{FEC_ID, Malformed, NodeId, ObjectId, read_time, write_time};

const ACK_CC: u8 = 1;
const ACK_FLUSH: u8 = 2;
/// From here on types are the application's.
const ACK_APPLICATION: u8 = 16;

/// For whom feedback is, and the echo that round-trip times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// The sender that it is for,
    pub sender: NodeId,
    /// and which run of it.
    pub instance: u16,
    /// The send time of the sender's last probe, plus how long the receiver held it; zero if it heard none.
    pub echo: Duration,
    /// What the receiver measured, if the sender asked for that.
    pub cc: Option<CcFeedback>,
}

impl Feedback {
    /// The fixed part, the two bytes in its middle (which only ACKs use), and what follows it in the header.
    pub(super) fn read(header: &[u8]) -> Result<(Self, [u8; 2], &[u8]), Malformed> {
        let (&[s0, s1, s2, s3, i0, i1, kind, id], rest) =
            header.split_first_chunk().ok_or(Malformed::HeaderLength)?;
        let (echo, extensions) = rest.split_first_chunk().ok_or(Malformed::HeaderLength)?;
        let sender = NodeId(u32::from_be_bytes([s0, s1, s2, s3]));
        let feedback =
            Self { sender, instance: u16::from_be_bytes([i0, i1]), echo: read_time(echo), cc: None };
        Ok((feedback, [kind, id], extensions))
    }

    pub(super) fn with(self, extensions: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { cc: extension::find(extensions)?.feedback, ..self })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, middle: [u8; 2]) {
        out.extend(self.sender.0.to_be_bytes());
        out.extend(self.instance.to_be_bytes());
        out.extend(middle);
        write_time(self.echo, out);
        if let Some(cc) = self.cc {
            cc.write(out);
        }
    }
}

/// What is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// A probe.
    Cc,
    /// Everything up to the watermark of a flush.
    Flush {
        /// Up to this object,
        object: ObjectId,
        /// and this segment of it.
        id: PayloadId,
    },
    /// Something of the application's, of this type, 16 up.
    Application(u8),
}

impl Acked {
    pub(super) fn read(kind: u8, payload: &[u8]) -> Result<Self, Malformed> {
        match kind {
            ACK_CC => Ok(Self::Cc),
            ACK_FLUSH => {
                let &[fec, _, high, low, b0, b1, b2, segment] =
                    payload.first_chunk().ok_or(Malformed::Cut)?;
                if fec != FEC_ID {
                    return Err(Malformed::Fec);
                }
                let object = ObjectId(u16::from_be_bytes([high, low]));
                Ok(Self::Flush { object, id: PayloadId::read(&[b0, b1, b2, segment]) })
            }
            ACK_APPLICATION.. => Ok(Self::Application(kind)),
            _ => Err(Malformed::AckType),
        }
    }

    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Cc => ACK_CC,
            Self::Flush { .. } => ACK_FLUSH,
            Self::Application(kind) => kind,
        }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        if let Self::Flush { object, id } = self {
            out.extend([FEC_ID, 0]);
            out.extend(object.0.to_be_bytes());
            id.write(out);
        }
    }
}

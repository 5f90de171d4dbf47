//! What NORM_INFO and NORM_DATA begin with (RFC 5740 section 4.2.1, 4.2.2).

use super::extension::{self, Fti};
use super::{FEC_ID, Malformed, ObjectId, SenderHead};

/// Flags of a message about an object (RFC 5740 section 4.2.1).
pub mod flags {
    /// This is a repair.
    pub const REPAIR: u8 = 0x01;
    /// This repair was asked for by name.
    pub const EXPLICIT: u8 = 0x02;
    /// The object has a NORM_INFO.
    pub const INFO: u8 = 0x04;
    /// Nobody shall ask for repairs of this object.
    pub const UNRELIABLE: u8 = 0x08;
    /// The object is a file, whose name NORM_INFO may say.
    pub const FILE: u8 = 0x10;
    /// The object is a stream.
    pub const STREAM: u8 = 0x20;
}

/// The sender, and an object of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// The session.
    pub sender: SenderHead,
    /// See [`flags`].
    pub flags: u8,
    /// Which object.
    pub object: ObjectId,
    /// How it is cut, if the message says so. Ours always do, so that a receiver can begin with any of them.
    pub fti: Option<Fti>,
}

impl ObjectHead {
    /// The fixed part, and what follows it in the header.
    pub(super) fn read(header: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (fixed, rest) = header.split_first_chunk::<8>().ok_or(Malformed::HeaderLength)?;
        let [s0, s1, s2, s3, flags, fec, high, low] = *fixed;
        if fec != FEC_ID {
            return Err(Malformed::Fec);
        }
        let sender = SenderHead::read(&[s0, s1, s2, s3]);
        Ok((Self { sender, flags, object: ObjectId(u16::from_be_bytes([high, low])), fti: None }, rest))
    }

    pub(super) fn with(self, extensions: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { fti: extension::find(extensions)?.fti, ..self })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, id: Option<PayloadId>) {
        self.sender.write(out);
        out.extend([self.flags, FEC_ID]);
        out.extend(self.object.0.to_be_bytes());
        if let Some(id) = id {
            id.write(out);
        }
        if let Some(fti) = self.fti {
            fti.write(out);
        }
    }
}

/// The payload id of FEC id 5 (RFC 5510 section 5.1): a segment of a block. Source segments come first, then parity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId {
    /// The block, up to [`super::BLOCK_MAX`].
    pub block: u32,
    /// The segment in it.
    pub segment: u8,
}

impl PayloadId {
    pub(super) fn read(at: &[u8; 4]) -> Self {
        Self { block: u32::from_be_bytes(*at) >> 8, segment: at[3] }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend((self.block << 8 | u32::from(self.segment)).to_be_bytes());
    }
}

//! Header extensions (RFC 5740 section 4.1): those a hub needs; others are read over.

use super::Malformed;

const HET_CC_FEEDBACK: u8 = 3;
const HET_FTI: u8 = 64;
const HET_CC_RATE: u8 = 128;

/// EXT_FTI of FEC id 5 (RFC 5510 section 5.2.1): how an object is cut into blocks and segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fti {
    /// Bytes of the object, below 2^48.
    pub size: u64,
    /// Bytes of a segment.
    pub segment: u16,
    /// Source segments of a block, at most; with parity no more than 255.
    pub block: u8,
    /// Parity segments that a block has.
    pub parity: u8,
}

/// EXT_CC of feedback (RFC 5740 section 4.3.1): what a receiver measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CcFeedback {
    /// Which probe this answers.
    pub sequence: u16,
    /// See [`super::cc_flags`].
    pub flags: u8,
    /// Its round-trip time, quantized.
    pub rtt: u8,
    /// Its loss event fraction, of 65535.
    pub loss: u16,
    /// Its rate, quantized.
    pub rate: u16,
}

/// What was found among the extensions of a header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) fti: Option<Fti>,
    pub(super) feedback: Option<CcFeedback>,
    pub(super) rate: Option<u16>,
}

/// Goes over all extensions of a header. An extension of a type below 128 has its length, in words, as its second
/// byte; the others are one word.
pub(super) fn find(mut rest: &[u8]) -> Result<Found, Malformed> {
    let mut found = Found::default();
    while let [kind, length, ..] = *rest {
        let length = if kind < 128 { usize::from(length) * 4 } else { 4 };
        if length == 0 {
            return Err(Malformed::Extension);
        }
        let (this, after) = rest.split_at_checked(length).ok_or(Malformed::Extension)?;
        match (kind, this) {
            (HET_FTI, this) => {
                let fti: &[u8; 12] = this.try_into().map_err(|_| Malformed::Extension)?;
                found.fti = Some(Fti::read(fti)?);
            }
            (HET_CC_FEEDBACK, &[_, _, s0, s1, flags, rtt, l0, l1, r0, r1, ..]) => {
                let word = |high, low| u16::from_be_bytes([high, low]);
                let (sequence, loss, rate) = (word(s0, s1), word(l0, l1), word(r0, r1));
                found.feedback = Some(CcFeedback { sequence, flags, rtt, loss, rate });
            }
            (HET_CC_FEEDBACK, _) => return Err(Malformed::Extension),
            (HET_CC_RATE, &[_, _, high, low]) => found.rate = Some(u16::from_be_bytes([high, low])),
            _ => {}
        }
        rest = after;
    }
    if rest.is_empty() { Ok(found) } else { Err(Malformed::Extension) }
}

impl Fti {
    fn read(at: &[u8; 12]) -> Result<Self, Malformed> {
        let size = u64::from_be_bytes([0, 0, at[2], at[3], at[4], at[5], at[6], at[7]]);
        let fti = Self { size, segment: u16::from_be_bytes([at[8], at[9]]), block: at[10], parity: at[11] };
        let possible = fti.segment > 0 && fti.block > 0 && fti.block.checked_add(fti.parity).is_some();
        if possible { Ok(fti) } else { Err(Malformed::Fti) }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend([HET_FTI, 3]);
        out.extend(&self.size.to_be_bytes()[2..]);
        out.extend(self.segment.to_be_bytes());
        out.extend([self.block, self.parity]);
    }
}

impl CcFeedback {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend([HET_CC_FEEDBACK, 3]);
        out.extend(self.sequence.to_be_bytes());
        out.extend([self.flags, self.rtt]);
        out.extend(self.loss.to_be_bytes());
        out.extend(self.rate.to_be_bytes());
        out.extend([0, 0]);
    }
}

/// EXT_RATE: asks those who hear it to measure, and to answer the probe.
pub(super) fn write_rate(rate: u16, out: &mut Vec<u8>) {
    out.extend([HET_CC_RATE, 0]);
    out.extend(rate.to_be_bytes());
}

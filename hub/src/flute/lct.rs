//! The LCT header (RFC 5651 section 5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |   V   | C |PSI|S| O |H|Res|A|B|   HDR_LEN     | Codepoint     |
//! |  congestion control information, 32 * (C + 1) bits            |
//! |  TSI, 32 * S + 16 * H bits    |  TOI, 32 * O + 16 * H bits    |
//! |  extensions, up to HDR_LEN words                              |
//! ```

use super::Malformed;

const VERSION: u8 = 1;

/// A header without its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The session, below 2^48.
    pub tsi: u64,
    /// The object.
    pub toi: u64,
    /// Nothing of the session follows (A).
    pub close_session: bool,
    /// Nothing of the object follows (B).
    pub close_object: bool,
    /// What the payload is coded with.
    pub codepoint: u8,
}

impl Header {
    /// The header, its extensions, and what follows it.
    pub(super) fn parse(datagram: &[u8]) -> Result<(Self, &[u8], &[u8]), Malformed> {
        let &[first, second, words, codepoint] = datagram.first_chunk().ok_or(Malformed::Cut)?;
        if first >> 4 != VERSION {
            return Err(Malformed::Version);
        }
        let (header, rest) = datagram.split_at_checked(usize::from(words) * 4).ok_or(Malformed::Cut)?;
        let half = usize::from(second >> 4 & 1) * 2;
        let cci = 4 * (usize::from(first >> 2 & 3) + 1);
        let (tsi, toi) = (usize::from(second >> 7) * 4 + half, usize::from(second >> 5 & 3) * 4 + half);
        let fields = header.get(4 + cci..).ok_or(Malformed::HeaderLength)?;
        let (tsi, fields) = fields.split_at_checked(tsi).ok_or(Malformed::HeaderLength)?;
        let (toi, extensions) = fields.split_at_checked(toi).ok_or(Malformed::HeaderLength)?;
        if tsi.is_empty() {
            return Err(Malformed::Numbers);
        }
        let header = Self {
            tsi: number(tsi)?,
            toi: number(toi)?,
            close_session: second & 2 != 0,
            close_object: second & 1 != 0,
            codepoint,
        };
        Ok((header, extensions, rest))
    }

    /// Writes the header, with extensions that are whole words.
    pub(super) fn emit(&self, extensions: &[u8], out: &mut Vec<u8>) {
        // 16 bits more for both numbers, or for neither.
        let half = self.tsi >> 32 != 0;
        let short = 32 + 16 * u32::from(half);
        let words = if self.toi.checked_shr(short).unwrap_or(0) == 0 { 1 } else { 2 };
        let (tsi_len, toi_len) = (4 + 2 * usize::from(half), 4 * words + 2 * usize::from(half));
        let length = 8 + tsi_len + toi_len + extensions.len();
        debug_assert!(length.is_multiple_of(4) && length / 4 <= 255, "headers are short");
        let flags = 1 << 7 | (words as u8) << 5 | u8::from(half) << 4;
        let close = u8::from(self.close_session) << 1 | u8::from(self.close_object);
        out.extend([VERSION << 4, flags | close, (length / 4) as u8, self.codepoint]);
        out.extend([0; 4]);
        out.extend(&self.tsi.to_be_bytes()[8 - tsi_len..]);
        out.extend(&u128::from(self.toi).to_be_bytes()[16 - toi_len..]);
        out.extend(extensions);
    }
}

fn number(bytes: &[u8]) -> Result<u64, Malformed> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    if high.iter().any(|byte| *byte != 0) {
        return Err(Malformed::Numbers);
    }
    Ok(low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

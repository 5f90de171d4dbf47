//! TCP options: those of a handshake read and written, those of any segment found in place.
//!
//! RFC 9293 §3.2 (end, no-operation, maximum segment size), RFC 7323 §2 and §3 (window scale, timestamps), RFC 2018 (SACK).

use crate::wire::be16;

/// Bytes that the options of one header can have: the header's length field ends at 60.
pub const OPTIONS_BYTES_MAX: usize = 40;
/// The largest shift of a window (RFC 7323 §2.3); more counts as this.
pub const SCALE_MAX: u8 = 14;

/// Kind of the end of the list.
const END: u8 = 0;
/// Kind of the filler.
pub(super) const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
/// Kind of selective acknowledgements.
pub(super) const SACK: u8 = 5;
/// Kind of timestamps.
pub(super) const TIMESTAMPS: u8 = 8;
/// Length of the timestamps option.
pub(super) const TIMESTAMPS_LEN: usize = 10;

/// The timestamps option (RFC 7323 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// What it echoes of the other's.
    pub echo: u32,
}

/// The options that a handshake agrees on, and the timestamps of any segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The longest segment that the sender takes, without options.
    pub mss: Option<u16>,
    /// By how much the sender's windows are shifted.
    pub scale: Option<u8>,
    /// The sender understands selective acknowledgements.
    pub sack_permitted: bool,
    /// The sender's clock and its echo.
    pub timestamps: Option<Timestamps>,
}

impl Options {
    /// Reads the bytes behind the fixed header. What is malformed ends the list, as it does for kernels.
    pub fn read(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        let mut from = 0;
        while let Some(found) = Found::next(bytes, from) {
            from = found.end();
            let at = &bytes[found.at..];
            match (found.kind, found.len) {
                (MSS, 4) => options.mss = Some(be16(at, 2)).filter(|mss| *mss != 0),
                (SCALE, 3) => options.scale = Some(at[2].min(SCALE_MAX)),
                (SACK_PERMITTED, 2) => options.sack_permitted = true,
                (TIMESTAMPS, TIMESTAMPS_LEN) => {
                    options.timestamps = Some(Timestamps { value: be32(at, 2), echo: be32(at, 6) });
                }
                _ => {}
            }
        }
        options
    }

    /// Bytes that [`Options::write`] fills: a multiple of four, and never more than what it took the peer to say the same.
    pub fn written_len(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let stamps_and_sack = match (self.timestamps.is_some(), self.sack_permitted) {
            (true, _) => 12,
            (false, true) => 4,
            (false, false) => 0,
        };
        let scale = if self.scale.is_some() { 4 } else { 0 };
        mss + stamps_and_sack + scale
    }

    /// Writes the options to the first [`Options::written_len`] bytes, aligned for receivers that like them so (RFC 7323
    /// appendix A).
    pub fn write(&self, bytes: &mut [u8]) {
        let mut at = 0;
        let mut put = |piece: &[u8]| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        if let Some(mss) = self.mss {
            put(&[MSS, 4]);
            put(&mss.to_be_bytes());
        }
        match (self.sack_permitted, self.timestamps.is_some()) {
            (true, _) => put(&[SACK_PERMITTED, 2]),
            (false, true) => put(&[NOP, NOP]),
            (false, false) => {}
        }
        match self.timestamps {
            Some(stamps) => {
                put(&[TIMESTAMPS, TIMESTAMPS_LEN as u8]);
                put(&stamps.value.to_be_bytes());
                put(&stamps.echo.to_be_bytes());
            }
            None if self.sack_permitted => put(&[NOP, NOP]),
            None => {}
        }
        if let Some(scale) = self.scale {
            put(&[NOP, SCALE, 3, scale]);
        }
        debug_assert_eq!(at, self.written_len());
    }
}

/// Where an option lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its kind.
    pub(super) kind: u8,
    /// Its offset in the bytes that were looked through.
    pub(super) at: usize,
    /// Its length, kind and length bytes included.
    pub(super) len: usize,
}

impl Found {
    /// The first option at `from` or behind it, fillers apart; `None` at the end of the list, or at what is malformed.
    pub(super) fn next(bytes: &[u8], from: usize) -> Option<Self> {
        let at = from + bytes.get(from..)?.iter().position(|kind| *kind != NOP)?;
        let kind = bytes[at];
        if kind == END {
            return None;
        }
        let len = usize::from(*bytes.get(at + 1)?);
        (len >= 2 && at + len <= bytes.len()).then_some(Self { kind, at, len })
    }

    /// Where the next one may begin.
    pub(super) fn end(&self) -> usize {
        self.at + self.len
    }
}

/// Reads four bytes, big-endian.
#[inline]
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_length_ends_the_list_and_nothing_panics() {
        let whole = [2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 0, 0];
        for cut in 0..=whole.len() {
            let options = Options::read(&whole[..cut]);
            assert_eq!(options.mss.is_some(), cut >= 4);
            assert_eq!(options.scale.is_some(), cut >= 8);
        }
        assert_eq!(Options::read(&[3, 0, 2, 4, 5, 0xb4]), Options::default(), "a length of 0 goes nowhere");
        assert_eq!(Options::read(&[3, 1, 2, 4, 5, 0xb4]), Options::default());
        assert_eq!(
            Options::read(&[253, 4, 1, 1, 3, 3, 200]).scale,
            Some(SCALE_MAX),
            "unknown kinds are passed"
        );
        assert_eq!(Options::read(&[0, 2, 4, 5, 0xb4]), Options::default(), "nothing counts behind the end");
        assert_eq!(Options::read(&[2, 4, 0, 0]).mss, None);
    }

    #[test]
    fn an_answer_never_needs_more_room_than_the_question_had() {
        for bits in 0..16u8 {
            let options = Options {
                mss: (bits & 1 != 0).then_some(1460),
                scale: (bits & 2 != 0).then_some(7),
                sack_permitted: bits & 4 != 0,
                timestamps: (bits & 8 != 0).then_some(Timestamps { value: 1, echo: 2 }),
            };
            // The tightest way to say it: no filler but at the end.
            let tight: usize = [(1, 4), (2, 3), (4, 2), (8, 10)]
                .iter()
                .filter(|(bit, _)| bits & bit != 0)
                .map(|(_, len)| len)
                .sum();
            assert!(options.written_len() <= tight.next_multiple_of(4), "{options:?}");
            assert!(options.written_len() <= OPTIONS_BYTES_MAX);
            let mut bytes = vec![0xff; options.written_len()];
            options.write(&mut bytes);
            assert_eq!(Options::read(&bytes), options);
        }
    }
}

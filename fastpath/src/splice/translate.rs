//! What a spliced connection's segments need for its life, in place and in constant time.
//!
//! The client's end was answered with our sequence numbers, our window scale and our clock before the instance had any. So:
//!
//! | field | client ─► instance | instance ─► client |
//! |---|---|---|
//! | sequence number | the same | + offset |
//! | acknowledgement, SACK blocks | − offset | the same |
//! | window | the client's shift, or none if the instance doesn't scale | from the instance's shift to ours |
//! | TSval | the same | + clock offset |
//! | TSecr | − clock offset | the same |
//!
//! Checksums are carried along (RFC 1624). Options that the instance didn't agree to become fillers.

use super::options::{Found, NOP, SACK, TIMESTAMPS, TIMESTAMPS_LEN, be32};
use super::segment::{ACKNOWLEDGEMENT, WINDOW, header_len};
use crate::wire::checksum::Delta;
use crate::wire::{be16, tcp};

/// From one window scale to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescale {
    /// The shift that the window was sent with.
    pub from: u8,
    /// The shift that its receiver believes in.
    pub to: u8,
}

impl Rescale {
    /// The window in the receiver's units: never more than was meant, but that an open window never looks closed. What
    /// a sender puts beyond it, less than one unit, the receiver cuts off (RFC 9293 §3.10.7.4) and is sent again.
    #[inline]
    pub fn apply(self, window: u16) -> u16 {
        if self.from == self.to || window == 0 {
            return window;
        }
        let bytes = u32::from(window) << self.from;
        (bytes >> self.to).clamp(1, u32::from(u16::MAX)) as u16
    }
}

/// How far the instance's clock must have gone on before nobody echoes an older one: hours where it counts
/// milliseconds, seconds where it counts microseconds, and long before it wraps.
const SETTLED: i32 = 1 << 24;

/// What is known of the timestamps of a spliced connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamps {
    /// The client has none.
    #[default]
    None,
    /// The instance has none: the client's become fillers.
    Refused,
    /// The client may still echo our own clock of before the instance had one, be it in a segment that comes late; such an
    /// echo becomes the first that the instance sent, for it knows no earlier one.
    Own {
        /// Our clock, as the client knows it, at the first time of the instance's.
        first: u32,
    },
    /// The client echoes the instance's clock, which may wrap.
    Instance,
}

/// The differences between the two halves of a spliced connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Added to the instance's sequence numbers for the client.
    pub sequence: u32,
    /// Added to the instance's clock for the client.
    pub clock: u32,
    /// Windows of the client.
    pub to_instance: Rescale,
    /// Windows of the instance.
    pub to_client: Rescale,
    /// The instance understands selective acknowledgements.
    pub sack: bool,
    /// Timestamps.
    pub stamps: Stamps,
}

/// The header isn't whole in the bytes that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Translation {
    /// Rewrites a segment of the client for the instance; `bytes` from the TCP header on.
    ///
    /// # Errors
    /// [`Cut`]; nothing was changed.
    pub fn to_instance(&mut self, bytes: &mut [u8]) -> Result<(), Cut> {
        let len = whole_header(bytes)?;
        let flags = bytes[tcp::FLAGS];
        let mut edit = Edit { header: &mut bytes[..len], delta: Delta::default() };
        if flags & tcp::ACK != 0 {
            let acknowledged = be32(edit.header, ACKNOWLEDGEMENT);
            edit.set32(ACKNOWLEDGEMENT, acknowledged.wrapping_sub(self.sequence));
        }
        if flags & tcp::SYN == 0 {
            edit.rescale(self.to_instance);
        }
        edit.options(|edit, kind, at, len| match (kind, len) {
            (SACK, _) if self.sack => {
                // Pairs of edges, behind kind and length (RFC 2018 §3).
                for edge in (at + 2..at + len).step_by(4).filter(|edge| edge + 4 <= at + len) {
                    let value = be32(edit.header, edge);
                    edit.set32(edge, value.wrapping_sub(self.sequence));
                }
            }
            (SACK, _) => edit.blank(at, len),
            (TIMESTAMPS, TIMESTAMPS_LEN) => match self.stamps {
                Stamps::None => {}
                Stamps::Refused => edit.blank(at, len),
                Stamps::Own { .. } | Stamps::Instance if flags & tcp::ACK == 0 => {}
                Stamps::Own { .. } | Stamps::Instance => {
                    let echo = self.echo(be32(edit.header, at + 6));
                    edit.set32(at + 6, echo);
                }
            },
            _ => {}
        });
        edit.finish();
        Ok(())
    }

    /// Rewrites a segment of the instance for the client; `bytes` from the TCP header on.
    ///
    /// # Errors
    /// [`Cut`]; nothing was changed.
    pub fn to_client(&self, bytes: &mut [u8]) -> Result<(), Cut> {
        let len = whole_header(bytes)?;
        let flags = bytes[tcp::FLAGS];
        let mut edit = Edit { header: &mut bytes[..len], delta: Delta::default() };
        let sequence = be32(edit.header, tcp::SEQUENCE);
        edit.set32(tcp::SEQUENCE, sequence.wrapping_add(self.sequence));
        if flags & tcp::SYN == 0 {
            edit.rescale(self.to_client);
        }
        if matches!(self.stamps, Stamps::Own { .. } | Stamps::Instance) {
            edit.options(|edit, kind, at, len| {
                if (kind, len) == (TIMESTAMPS, TIMESTAMPS_LEN) {
                    let value = be32(edit.header, at + 2);
                    edit.set32(at + 2, value.wrapping_add(self.clock));
                }
            });
        }
        edit.finish();
        Ok(())
    }

    /// What the client echoes, in the instance's time.
    fn echo(&mut self, echo: u32) -> u32 {
        if let Stamps::Own { first } = self.stamps {
            let since = echo.wrapping_sub(first) as i32;
            if since < 0 {
                return first.wrapping_sub(self.clock);
            }
            if since >= SETTLED {
                self.stamps = Stamps::Instance;
            }
        }
        echo.wrapping_sub(self.clock)
    }
}

fn whole_header(bytes: &[u8]) -> Result<usize, Cut> {
    header_len(bytes).filter(|len| *len <= bytes.len()).ok_or(Cut)
}

/// A header being rewritten, with what that does to its checksum.
struct Edit<'a> {
    header: &'a mut [u8],
    delta: Delta,
}

impl Edit<'_> {
    /// Calls `change` with kind, offset in the header and length of each option.
    fn options(&mut self, mut change: impl FnMut(&mut Self, u8, usize, usize)) {
        let mut from = tcp::HEADER;
        while let Some(found) = Found::next(self.header, from) {
            from = found.end();
            change(self, found.kind, found.at, found.len);
        }
    }

    fn rescale(&mut self, rescale: Rescale) {
        let old = be16(self.header, WINDOW);
        let new = rescale.apply(old);
        self.delta.replace16(old, new);
        self.header[WINDOW..WINDOW + 2].copy_from_slice(&new.to_be_bytes());
    }

    fn blank(&mut self, at: usize, len: usize) {
        for at in at..at + len {
            self.set(at, &[NOP]);
        }
    }

    fn set32(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_be_bytes());
    }

    /// Replaces bytes at any offset: the checksum counts in words, which they may begin or end in the middle of.
    fn set(&mut self, at: usize, bytes: &[u8]) {
        // Headers are a multiple of four bytes long, so the last word is whole.
        let words = (at & !1)..(at + bytes.len()).next_multiple_of(2);
        for word in words.clone().step_by(2) {
            self.delta.replace16(be16(self.header, word), 0);
        }
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        for word in words.step_by(2) {
            self.delta.replace16(0, be16(self.header, word));
        }
    }

    fn finish(self) {
        let sum = self.delta.apply(be16(self.header, tcp::CHECKSUM));
        self.header[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

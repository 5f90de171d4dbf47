//! Headers that we write: whole ones at a BFIR (RFC 8296 section 4), and those of copies, from the one that was received.

use super::{Carriage, FIXED_LEN, NIBBLE_MPLS, Proto, VERSION, View, len};
use crate::bift_id::BiftId;
use crate::bits;
use crate::id::{BfrId, Bsl};

/// All that a BFIR chooses of a header, but for the bit string. Rsv is sent as 0, S as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is carried in.
    pub carriage: Carriage,
    /// As the neighbour wants it.
    pub bift_id: BiftId,
    /// Traffic class, 3 bits; sent as 0 without MPLS.
    pub tc: u8,
    /// Hops that it may go.
    pub ttl: u8,
    /// 20 bits: packets of one flow have the same.
    pub entropy: u32,
    /// 2 bits; 0 by default.
    pub oam: u8,
    /// 6 bits; sent as 0 in MPLS networks.
    pub dscp: u8,
    /// What follows.
    pub proto: Proto,
    /// The ingress router: us; sent as 0 if we have no number, and in replies to pings.
    pub bfir_id: Option<BfrId>,
}

/// There is less room than the header is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of {needed} bytes doesn't fit into {room}")]
pub struct NoRoom {
    /// Length of the header, in bytes.
    pub needed: usize,
    /// Room that there was, in bytes.
    pub room: usize,
}

impl Header {
    /// Writes the header with this bit string to the start of `out`; returns its length in bytes.
    ///
    /// # Errors
    /// If `out` is too short; nothing is written then.
    ///
    /// # Panics
    /// If there aren't as many words as `bsl` has.
    pub fn emit(&self, bsl: Bsl, words: &[u64], out: &mut [u8]) -> Result<usize, NoRoom> {
        let (needed, room) = (len(bsl), out.len());
        let out = out.get_mut(..needed).ok_or(NoRoom { needed, room })?;
        self.template(bsl).emit(self.bift_id, self.carriage, words, out);
        Ok(needed)
    }

    /// Its fixed part, with bit strings of this length.
    #[must_use]
    pub fn template(&self, bsl: Bsl) -> Template {
        let (tc, nibble, dscp) = match self.carriage {
            Carriage::Mpls => (self.tc & 7, NIBBLE_MPLS, 0),
            Carriage::NonMpls => (0, 0, self.dscp & 0x3f),
        };
        let first = u32::from(tc) << 9 | S | u32::from(self.ttl);
        let second = u32::from(nibble) << 28
            | u32::from(VERSION) << 24
            | u32::from(bsl.code()) << 20
            | self.entropy & 0xf_ffff;
        let third = u32::from(self.oam & 3) << 30
            | u32::from(dscp) << 22
            | u32::from(self.proto.code()) << 16
            | u32::from(self.bfir_id.map_or(0, BfrId::get));
        Template { first, rest: u64::from(second) << 32 | u64::from(third), carriage: self.carriage }
    }
}

/// The fixed part of a packet's header, from which those of its copies are written: they differ in BIFT-id, TTL and bit
/// string (RFC 8279 section 6.5, RFC 8296 section 2.1.1), and all else stays as the BFIR wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// The first four bytes, without the BIFT-id.
    first: u32,
    /// The eight after them.
    rest: u64,
    carriage: Carriage,
}

impl Default for Template {
    /// All zeros, until there is a packet.
    fn default() -> Self {
        Self { first: 0, rest: 0, carriage: Carriage::NonMpls }
    }
}

/// TC and S in the first four bytes.
const TC_AND_S: u32 = 0xf00;
/// S alone.
const S: u32 = 0x100;
/// The nibble in the eight bytes after the first four.
const NIBBLE: u64 = 0xf << 60;
/// Where DSCP is in them.
const DSCP_AT: u32 = 22;
/// DSCP in them.
const DSCP: u64 = 0x3f << DSCP_AT;

impl Template {
    /// That of a packet that was received in this carriage, for copies of this TTL.
    #[inline]
    #[must_use]
    pub fn of(view: &View<'_>, carriage: Carriage, ttl: u8) -> Self {
        let (first, rest) = view.fixed.split_at(4);
        let (first, rest) = (first.first_chunk(), rest.first_chunk());
        let first = first.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let rest = rest.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self { first: first & TC_AND_S | u32::from(ttl), rest, carriage }
    }

    /// The entropy, 20 bits.
    #[inline]
    #[must_use]
    pub fn entropy(&self) -> u32 {
        (self.rest >> 32) as u32 & 0xf_ffff
    }

    /// The DSCP that copies without MPLS carry; 0 for what came as MPLS, where the field means nothing.
    #[inline]
    #[must_use]
    pub fn dscp(&self) -> u8 {
        match self.carriage {
            Carriage::Mpls => 0,
            Carriage::NonMpls => ((self.rest & DSCP) >> DSCP_AT) as u8,
        }
    }

    /// Writes the header of one copy. Between carriages the fields that mean something in only one of them get what a sender
    /// has to write there (RFC 8296 sections 2.1.1, 2.1.2, 2.2.1, 2.2.2): DSCP and TC aren't translated but sent as 0, for
    /// what is ignored on reception on one side is nothing to go by on the other.
    ///
    /// # Panics
    /// If `out` isn't 12 bytes and as many as the words have.
    #[inline(always)] // where the caller knows how many words there are, this is a few stores
    pub fn emit(&self, bift_id: BiftId, carriage: Carriage, words: &[u64], out: &mut [u8]) {
        let (fixed, bit_string) = out.split_first_chunk_mut::<FIXED_LEN>().expect("room for a header");
        let (mut first, mut rest) = (self.first, self.rest);
        if carriage != self.carriage {
            let nibble = if carriage == Carriage::Mpls { NIBBLE_MPLS } else { 0 };
            first = first & !TC_AND_S | S;
            rest = rest & !(NIBBLE | DSCP) | u64::from(nibble) << 60;
        }
        fixed[..4].copy_from_slice(&(bift_id.get() << 12 | first).to_be_bytes());
        fixed[4..].copy_from_slice(&rest.to_be_bytes());
        bits::store(words, bit_string);
    }
}

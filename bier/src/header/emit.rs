//! Headers that we write: whole ones at a BFIR (RFC 8296 section 4), and those of copies, from the one that was received.

use super::{
    BSL_AT, Carriage, DSCP_AT, ENTROPY_AT, FIXED_LEN, NIBBLE_AT, NIBBLE_MPLS, OAM_AT, PROTO_AT, Proto, S,
    TC_AT, VERSION, VERSION_AT, View, entropy, len, proto,
};
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
        let (fixed, bit_string) = out.split_first_chunk_mut().ok_or(NoRoom { needed, room })?;
        self.template(bsl).emit(self.bift_id, self.carriage, fixed);
        bits::store(words, bit_string);
        Ok(needed)
    }

    /// Its fixed part, with bit strings of this length.
    #[must_use]
    pub fn template(&self, bsl: Bsl) -> Template {
        let (tc, nibble, dscp) = match self.carriage {
            Carriage::Mpls => (self.tc & 7, NIBBLE_MPLS, 0),
            Carriage::NonMpls => (0, 0, self.dscp & 0x3f),
        };
        let first = u32::from(tc) << TC_AT | S | u32::from(self.ttl);
        let rest = u64::from(nibble) << NIBBLE_AT
            | u64::from(VERSION) << VERSION_AT
            | u64::from(bsl.code()) << BSL_AT
            | u64::from(self.entropy & 0xf_ffff) << ENTROPY_AT
            | u64::from(self.oam & 3) << OAM_AT
            | u64::from(dscp) << DSCP_AT
            | u64::from(self.proto.code()) << PROTO_AT
            | u64::from(self.bfir_id.map_or(0, BfrId::get));
        Template { first, rest, carriage: self.carriage }
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
const TC_AND_S: u32 = 7 << TC_AT | S;
/// The nibble and DSCP in the eight after them.
const NIBBLE: u64 = 0xf << NIBBLE_AT;
const DSCP: u64 = 0x3f << DSCP_AT;

impl Template {
    /// That of a packet that was received in this carriage, for copies of this TTL.
    #[inline]
    #[must_use]
    pub fn of(view: &View<'_>, carriage: Carriage, ttl: u8) -> Self {
        let first = view.first & TC_AND_S | u32::from(ttl);
        Self { first, rest: view.rest, carriage }
    }

    /// The entropy, 20 bits.
    #[inline]
    #[must_use]
    pub fn entropy(&self) -> u32 {
        entropy(self.rest)
    }

    /// What follows the header.
    #[inline]
    #[must_use]
    pub fn proto(&self) -> Proto {
        Proto::from(proto(self.rest))
    }

    /// The router where the packet entered, unless the field has the invalid value 0.
    #[inline]
    #[must_use]
    pub fn bfir_id(&self) -> Option<BfrId> {
        BfrId::new(self.rest as u16)
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

    /// Writes the fixed part of one copy's header. Between carriages the fields that mean something in only one of them get what
    /// a sender has to write there (RFC 8296 sections 2.1.1, 2.1.2, 2.2.1, 2.2.2): DSCP and TC aren't translated but sent as 0,
    /// for what is ignored on reception on one side is nothing to go by on the other.
    #[inline(always)] // a few stores
    pub fn emit(&self, bift_id: BiftId, carriage: Carriage, out: &mut [u8; FIXED_LEN]) {
        let (mut first, mut rest) = (self.first, self.rest);
        if carriage != self.carriage {
            let nibble = if carriage == Carriage::Mpls { NIBBLE_MPLS } else { 0 };
            first = first & !TC_AND_S | S;
            rest = rest & !(NIBBLE | DSCP) | u64::from(nibble) << NIBBLE_AT;
        }
        out[..4].copy_from_slice(&(bift_id.get() << 12 | first).to_be_bytes());
        out[4..].copy_from_slice(&rest.to_be_bytes());
    }
}

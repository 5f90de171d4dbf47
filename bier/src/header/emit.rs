//! Headers that we write: whole ones at a BFIR (RFC 8296 section 4), and the rewriting that each copy gets on its way.

use super::{Carriage, FIXED_LEN, NIBBLE_MPLS, Proto, VERSION, len};
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
        let (tc, nibble, dscp) = match self.carriage {
            Carriage::Mpls => (self.tc & 7, NIBBLE_MPLS, 0),
            Carriage::NonMpls => (0, 0, self.dscp & 0x3f),
        };
        let first = self.bift_id.get() << 12 | u32::from(tc) << 9 | 1 << 8 | u32::from(self.ttl);
        let second = u32::from(nibble) << 28
            | u32::from(VERSION) << 24
            | u32::from(bsl.code()) << 20
            | self.entropy & 0xf_ffff;
        let third = u32::from(self.oam & 3) << 30
            | u32::from(dscp) << 22
            | u32::from(self.proto.code()) << 16
            | u32::from(self.bfir_id.map_or(0, BfrId::get));
        out[..4].copy_from_slice(&first.to_be_bytes());
        out[4..8].copy_from_slice(&second.to_be_bytes());
        out[8..FIXED_LEN].copy_from_slice(&third.to_be_bytes());
        bits::store(words, &mut out[FIXED_LEN..]);
        Ok(needed)
    }
}

/// Makes the header at the start of a packet that of one copy: BIFT-id, TTL and bit string (RFC 8279 section 6.5, RFC 8296
/// section 2.1.1); all else stays as the BFIR wrote it.
///
/// # Panics
/// If the packet is shorter than 12 bytes and the bit string: rewrite what [`View::parse`](super::View::parse) accepted.
#[inline]
pub fn rewrite(packet: &mut [u8], bift_id: BiftId, ttl: u8, words: &[u64]) {
    let (fixed, rest) = packet.split_first_chunk_mut::<FIXED_LEN>().expect("the header was checked");
    let id = bift_id.get();
    fixed[0] = (id >> 12) as u8;
    fixed[1] = (id >> 4) as u8;
    fixed[2] = (id << 4) as u8 | fixed[2] & 0xf;
    fixed[3] = ttl;
    bits::store(words, &mut rest[..words.len() * 8]);
}

/// Makes the header at the start of a packet one of another carriage: the fields that mean something in only one of them get
/// what a sender has to write there (RFC 8296 sections 2.1.1, 2.1.2, 2.2.1, 2.2.2). DSCP and TC aren't translated.
///
/// # Panics
/// If the packet is shorter than 12 bytes.
pub fn set_carriage(packet: &mut [u8], carriage: Carriage) {
    let fixed = packet.first_chunk_mut::<FIXED_LEN>().expect("the header was checked");
    let nibble = if carriage == Carriage::Mpls { NIBBLE_MPLS } else { 0 };
    // TC 0 and S 1; the first four bits are the end of the BIFT-id.
    fixed[2] = fixed[2] & 0xf0 | 1;
    fixed[4] = nibble << 4 | fixed[4] & 0xf;
}

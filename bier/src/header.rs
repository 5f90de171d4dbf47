//! The BIER header (RFC 8296 section 2), 12 bytes and a bit string, in MPLS networks and in others.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |              BIFT-id                  | TC  |S|     TTL       |
//! |Nibble |  Ver  |  BSL  |              Entropy                  |
//! |OAM|Rsv|    DSCP   |   Proto   |            BFIR-id            |
//! |                BitString, 64 to 4096 bits ...
//! ```
//!
//! A received header is checked once, by [`View::parse`]; then no accessor fails. The length of the bit string is
//! that of the table that the BIFT-id stands for; the BSL field is only compared with it (section 2.1.2). What a
//! router sends on is the header that it got, with three fields written anew ([`Template`]); what it makes itself is a
//! [`Header`].

mod emit;
mod proto;

pub use emit::{Header, NoRoom, Template};
pub use proto::Proto;

use crate::bift_id::{BiftId, BiftIds};
use crate::bits;
use crate::id::{BfrId, BiftKey, Bsl};

/// The EtherType of BIER in networks without MPLS (RFC 8296 section 3).
pub const ETHERTYPE: u16 = 0xab37;
/// The EtherType of BIER in MPLS networks: that of downstream-assigned labels (RFC 8296 section 3, RFC 5332).
pub const ETHERTYPE_MPLS: u16 = 0x8847;
/// Length of the part before the bit string, in bytes.
pub const FIXED_LEN: usize = 12;
/// Length of the longest header, in bytes.
pub const LEN_MAX: usize = FIXED_LEN + Bsl::B4096.bytes();

/// Length of the header with bit strings of this length, in bytes.
#[inline]
#[must_use]
pub const fn len(bsl: Bsl) -> usize {
    FIXED_LEN + bsl.bytes()
}

/// What the BIER header is carried in; some fields mean something in only one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// As the last label of an MPLS stack (RFC 8296 section 2.1).
    Mpls,
    /// In Ethernet or anything else (RFC 8296 section 2.2).
    NonMpls,
}

impl Carriage {
    /// The EtherType of frames with such a header.
    #[inline]
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::Mpls => ETHERTYPE_MPLS,
            Self::NonMpls => ETHERTYPE,
        }
    }
}

/// The first nibble after the label in an MPLS network: neither IPv4 nor IPv6 nor a pseudowire (RFC 8296 section 2.1.2).
pub(crate) const NIBBLE_MPLS: u8 = 0b0101;
/// The version of the header.
pub(crate) const VERSION: u8 = 0;

/// S, "the last label", in the first four bytes, and where TC begins in them.
const S: u32 = 1 << 8;
const TC_AT: u32 = 9;
/// Where the fields begin in the eight bytes after them.
const NIBBLE_AT: u32 = 60;
const VERSION_AT: u32 = 56;
const BSL_AT: u32 = 52;
const ENTROPY_AT: u32 = 32;
const OAM_AT: u32 = 30;
const DSCP_AT: u32 = 22;
const PROTO_AT: u32 = 16;

/// Why a packet isn't a BIER packet that could be forwarded. Each is dropped, and counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Fewer than 12 bytes.
    #[error("the fixed part of the header is cut")]
    FixedPartCut,
    /// The BIFT-id stands for no table of ours.
    #[error("the BIFT-id is unknown")]
    UnknownBift,
    /// Shorter than the bit strings of the table.
    #[error("the bit string is cut")]
    BitStringCut,
    /// MPLS: another label follows, so this one can't be a BIFT-id (section 2.1.1: S must be 1).
    #[error("the label isn't the last of its stack")]
    NotLastLabel,
    /// MPLS: the nibble isn't 5.
    #[error("the first nibble isn't 5")]
    Nibble,
    /// The version isn't 0.
    #[error("the version is unknown")]
    Version,
    /// BSL is 0 or above 7.
    #[error("the BSL field is no length")]
    IllegalBsl,
    /// BSL is another length than that of the table.
    #[error("the BSL field isn't the length that the BIFT-id stands for")]
    OtherBsl,
    /// No bit is set (RFC 8279 section 6.5, step 1).
    #[error("the bit string is empty")]
    Empty,
}

impl Malformed {
    /// All of them, for counters.
    pub const ALL: [Self; 9] = [
        Self::FixedPartCut,
        Self::UnknownBift,
        Self::BitStringCut,
        Self::NotLastLabel,
        Self::Nibble,
        Self::Version,
        Self::IllegalBsl,
        Self::OtherBsl,
        Self::Empty,
    ];
}

/// The BIFT-id of a packet, before anything else is known of it.
///
/// # Errors
/// [`Malformed::FixedPartCut`].
#[inline]
pub fn peek(packet: &[u8]) -> Result<BiftId, Malformed> {
    match packet.first_chunk::<FIXED_LEN>() {
        Some(fixed) => Ok(BiftId::from_word(read(fixed).0)),
        None => Err(Malformed::FixedPartCut),
    }
}

/// A checked header at the start of a packet.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The first four bytes, and the eight after them: read once, as one sees them in the picture above.
    first: u32,
    rest: u64,
    bit_string: &'a [u8],
    payload: &'a [u8],
}

impl<'a> View<'a> {
    /// Finds out which table a packet is for, and checks it against that.
    ///
    /// # Errors
    /// Whichever of [`Malformed`] is found first.
    #[inline]
    pub fn of(packet: &'a [u8], carriage: Carriage, ours: &BiftIds) -> Result<(BiftKey, Self), Malformed> {
        let key = ours.key(peek(packet)?).ok_or(Malformed::UnknownBift)?;
        Ok((key, Self::parse(packet, carriage, key.bsl)?))
    }

    /// Checks a packet whose BIFT-id stands for a table with bit strings of this length. Fields that a receiver has
    /// to ignore aren't looked at: Rsv, OAM, and DSCP; without MPLS, TC, S and the nibble as well.
    ///
    /// # Errors
    /// Any of [`Malformed`] but [`Malformed::UnknownBift`].
    #[inline]
    pub fn parse(packet: &'a [u8], carriage: Carriage, expected: Bsl) -> Result<Self, Malformed> {
        let view = Self::parse_fixed(packet, carriage, expected)?;
        // All of it at once: bit strings are mostly zeros, and a search would go from byte to byte.
        let (words, _) = view.bit_string.as_chunks::<8>();
        if words.iter().fold(0, |set, word| set | u64::from_ne_bytes(*word)) == 0 {
            return Err(Malformed::Empty);
        }
        Ok(view)
    }

    /// The same for who finds out what the bits stand for anyway, and that none is set.
    ///
    /// # Errors
    /// As above, but for [`Malformed::Empty`].
    #[inline(always)] // for each packet
    pub fn parse_fixed(packet: &'a [u8], carriage: Carriage, expected: Bsl) -> Result<Self, Malformed> {
        let (fixed, behind) = packet.split_first_chunk::<FIXED_LEN>().ok_or(Malformed::FixedPartCut)?;
        let (first, rest) = read(fixed);
        let (bit_string, payload) =
            behind.split_at_checked(expected.bytes()).ok_or(Malformed::BitStringCut)?;
        if carriage == Carriage::Mpls {
            if first & S == 0 {
                return Err(Malformed::NotLastLabel);
            }
            if rest >> NIBBLE_AT != u64::from(NIBBLE_MPLS) {
                return Err(Malformed::Nibble);
            }
        }
        if rest >> VERSION_AT & 0xf != u64::from(VERSION) {
            return Err(Malformed::Version);
        }
        let code = (rest >> BSL_AT & 0xf) as u8;
        if code != expected.code() {
            return Err(Bsl::from_code(code).map_or(Malformed::IllegalBsl, |_| Malformed::OtherBsl));
        }
        Ok(Self { first, rest, bit_string, payload })
    }

    /// The BIFT-id.
    #[must_use]
    pub fn bift_id(&self) -> BiftId {
        BiftId::from_word(self.first)
    }

    /// Traffic class; means something in MPLS networks only.
    #[must_use]
    pub fn tc(&self) -> u8 {
        (self.first >> TC_AT & 7) as u8
    }

    /// Hops left.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.first as u8
    }

    /// Packets of the same entropy and bit string take the same path; 20 bits.
    #[inline]
    #[must_use]
    pub fn entropy(&self) -> u32 {
        entropy(self.rest)
    }

    /// 2 bits for measurements; passed on unchanged, and without effect on path or service.
    #[must_use]
    pub fn oam(&self) -> u8 {
        (self.rest >> OAM_AT & 3) as u8
    }

    /// Code point of differentiated services; means something without MPLS only.
    #[must_use]
    pub fn dscp(&self) -> u8 {
        (self.rest >> DSCP_AT & 0x3f) as u8
    }

    /// What follows. Only a BFER looks at it.
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

    /// The bit string as it is on the wire; for [`bits::load`].
    #[inline]
    #[must_use]
    pub fn bit_string(&self) -> &'a [u8] {
        self.bit_string
    }

    /// Reads the bit string.
    ///
    /// # Panics
    /// If there aren't as many words as [`Bsl::words`] of the table.
    #[inline]
    pub fn load(&self, words: &mut [u64]) {
        bits::load(self.bit_string, words);
    }

    /// What follows the header.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The fixed part as numbers: its first four bytes, and the eight after them.
#[inline(always)] // two loads
fn read(fixed: &[u8; FIXED_LEN]) -> (u32, u64) {
    let [a, b, c, d, rest @ ..] = *fixed;
    (u32::from_be_bytes([a, b, c, d]), u64::from_be_bytes(rest))
}

#[inline]
fn proto(rest: u64) -> u8 {
    (rest >> PROTO_AT & 0x3f) as u8
}

#[inline]
fn entropy(rest: u64) -> u32 {
    (rest >> ENTROPY_AT) as u32 & 0xf_ffff
}

//! Header, types and the skeleton of records (RFC 1035 section 4.1).

use std::fmt;

use crate::tables::names::NAME_WIRE_MAX;

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 12;
/// Class IN.
pub const CLASS_IN: u16 = 1;

/// A TYPE or QTYPE (IANA DNS parameters).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

impl RecordType {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// A server of a zone.
    pub const NS: Self = Self(2);
    /// The canonical name of an alias.
    pub const CNAME: Self = Self(5);
    /// Start of authority.
    pub const SOA: Self = Self(6);
    /// Machine and system; carries the answer to ANY (RFC 8482).
    pub const HINFO: Self = Self(13);
    /// A name for an address.
    pub const PTR: Self = Self(12);
    /// A mail exchanger.
    pub const MX: Self = Self(15);
    /// Text.
    pub const TXT: Self = Self(16);
    /// An IPv6 address (RFC 3596).
    pub const AAAA: Self = Self(28);
    /// A server of a service (RFC 2782).
    pub const SRV: Self = Self(33);
    /// The canonical name of a subtree (RFC 6672).
    pub const DNAME: Self = Self(39);
    /// EDNS (RFC 6891).
    pub const OPT: Self = Self(41);
    /// A signature (RFC 4034).
    pub const RRSIG: Self = Self(46);
    /// What doesn't exist (RFC 4034).
    pub const NSEC: Self = Self(47);
    /// What doesn't exist, hashed (RFC 5155).
    pub const NSEC3: Self = Self(50);
    /// How that is hashed (RFC 5155).
    pub const NSEC3PARAM: Self = Self(51);
    /// Service binding (RFC 9460).
    pub const SVCB: Self = Self(64);
    /// Service binding for HTTP (RFC 9460).
    pub const HTTPS: Self = Self(65);
    /// Transaction signature (RFC 8945).
    pub const TSIG: Self = Self(250);
    /// Incremental zone transfer (RFC 1995).
    pub const IXFR: Self = Self(251);
    /// Zone transfer (RFC 5936).
    pub const AXFR: Self = Self(252);
    /// Whatever there is (RFC 8482).
    pub const ANY: Self = Self(255);
    /// Who may issue certificates (RFC 8659).
    pub const CAA: Self = Self(257);

    /// A or AAAA.
    #[inline]
    pub fn is_address(self) -> bool {
        self == Self::A || self == Self::AAAA
    }

    /// Whether a client that asks for this is about to connect.
    #[inline]
    pub fn wakes(self) -> bool {
        matches!(self, Self::A | Self::AAAA | Self::SVCB | Self::HTTPS)
    }

    /// Whether a name can have records of this type. Not those that only stand in queries or beside answers (RFC 6895
    /// section 3.1: 0, OPT, and 128 to 255), and not those whose meaning takes more than records: DNAME, and the
    /// signatures and proofs of a signed zone.
    pub fn is_data(self) -> bool {
        let meta = self.0 == 0 || self == Self::OPT || (128..=255).contains(&self.0);
        let proof = [Self::RRSIG, Self::NSEC, Self::NSEC3, Self::NSEC3PARAM].contains(&self);
        !meta && !proof && self != Self::DNAME
    }

    /// AXFR or IXFR.
    #[inline]
    pub fn is_transfer(self) -> bool {
        self == Self::AXFR || self == Self::IXFR
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::A => "A",
            Self::NS => "NS",
            Self::CNAME => "CNAME",
            Self::SOA => "SOA",
            Self::PTR => "PTR",
            Self::HINFO => "HINFO",
            Self::MX => "MX",
            Self::TXT => "TXT",
            Self::AAAA => "AAAA",
            Self::SRV => "SRV",
            Self::DNAME => "DNAME",
            Self::RRSIG => "RRSIG",
            Self::NSEC => "NSEC",
            Self::NSEC3 => "NSEC3",
            Self::NSEC3PARAM => "NSEC3PARAM",
            Self::SVCB => "SVCB",
            Self::HTTPS => "HTTPS",
            Self::AXFR => "AXFR",
            Self::IXFR => "IXFR",
            Self::ANY => "ANY",
            Self::CAA => "CAA",
            // RFC 3597 section 5.
            Self(number) => return write!(f, "TYPE{number}"),
        };
        f.write_str(name)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What an answer says (IANA DNS parameters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rcode {
    /// Records, or that there are none of this type.
    #[default]
    NoError = 0,
    /// The query can't be read.
    FormErr = 1,
    /// It can't be answered now.
    ServFail = 2,
    /// The name doesn't exist.
    NxDomain = 3,
    /// The opcode or type isn't served.
    NotImp = 4,
    /// Not by this server.
    Refused = 5,
    /// Signed with a key that isn't known (RFC 8945).
    NotAuth = 9,
    /// A later version of EDNS (RFC 6891).
    BadVers = 16,
    /// The same again with the server's cookie, please (RFC 7873).
    BadCookie = 23,
}

impl Rcode {
    /// The four bits in the header.
    #[inline]
    pub(super) fn low(self) -> u8 {
        self as u8 & 0x0f
    }

    /// The eight bits in OPT.
    #[inline]
    pub(super) fn high(self) -> u8 {
        self as u8 >> 4
    }
}

/// Bits of the header's third byte.
pub(super) mod flags {
    /// It is a response.
    pub(in super::super) const QR: u8 = 0x80;
    /// Kind of query, in place.
    pub(in super::super) const OPCODE: u8 = 0x78;
    /// Authoritative answer.
    pub(in super::super) const AA: u8 = 0x04;
    /// Truncated.
    pub(in super::super) const TC: u8 = 0x02;
    /// Recursion desired.
    pub(in super::super) const RD: u8 = 0x01;
    /// Recursion available; in the fourth byte.
    pub(in super::super) const RA: u8 = 0x80;
}

/// The bytes aren't what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A big-endian 16-bit number at `at`.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A record within a message, its owner unread.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    /// Whether the owner is the root, not by way of a pointer.
    pub(super) root: bool,
    /// TYPE.
    pub(super) kind: RecordType,
    /// CLASS; the payload size in OPT.
    pub(super) class: u16,
    /// TTL; flags in OPT.
    pub(super) ttl: [u8; 4],
    /// RDATA.
    pub(super) data: &'a [u8],
    /// Where the next record starts.
    pub(super) end: usize,
}

impl<'a> RawRecord<'a> {
    /// Reads the record at `at`.
    pub(super) fn parse(message: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let name_end = skip_name(message, at)?;
        let fixed: &[u8; 10] = message.get(name_end..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
        let [t0, t1, c0, c1, ttl @ .., l0, l1] = *fixed;
        let start = name_end + fixed.len();
        let end = start + usize::from(u16::from_be_bytes([l0, l1]));
        Ok(Self {
            root: name_end == at + 1,
            kind: RecordType(u16::from_be_bytes([t0, t1])),
            class: u16::from_be_bytes([c0, c1]),
            ttl,
            data: message.get(start..end).ok_or(Malformed)?,
            end,
        })
    }
}

/// The end of the name at `at`, which may end in a pointer. Pointers aren't followed, for nothing is read through them;
/// they must point backwards all the same (RFC 9267 section 2).
fn skip_name(message: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut end = at;
    loop {
        match *message.get(end).ok_or(Malformed)? {
            0 => return Ok(end + 1),
            len @ 1..=63 => end += usize::from(len) + 1,
            0xc0.. => {
                let to = usize::from(u16_at(message, end).ok_or(Malformed)? & 0x3fff);
                return if (HEADER_LEN..at).contains(&to) { Ok(end + 2) } else { Err(Malformed) };
            }
            _ => return Err(Malformed),
        }
        if end - at >= NAME_WIRE_MAX {
            return Err(Malformed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_skipped_within_bounds() {
        let mut message = vec![0; HEADER_LEN];
        message.extend(b"\x01a\0\x01b\xc0\x0c\xc0\x13\xc0\x00\x40\x03ab");
        assert_eq!(skip_name(&message, 12), Ok(15));
        assert_eq!(skip_name(&message, 15), Ok(19));
        assert_eq!(skip_name(&message, 19), Err(Malformed), "a pointer to itself");
        assert_eq!(skip_name(&message, 21), Err(Malformed), "a pointer into the header");
        assert_eq!(skip_name(&message, 23), Err(Malformed), "a label type that doesn't exist");
        assert_eq!(skip_name(&message, 24), Err(Malformed), "a label beyond the end");
        assert_eq!(skip_name(&message, 99), Err(Malformed));
        let long = [[63_u8; 64]; 5].concat();
        assert_eq!(skip_name(&long, 0), Err(Malformed), "more than 255 bytes");
    }

    #[test]
    fn records_end_where_their_length_says() {
        let bytes = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x02ab";
        let record = RawRecord::parse(bytes, 0).unwrap();
        assert!(record.root && record.kind == RecordType::OPT && record.class == 1232);
        assert_eq!((record.ttl, record.data, record.end), ([0, 0, 0x80, 0], &b"ab"[..], 13));
        for len in 0..bytes.len() {
            assert_eq!(RawRecord::parse(&bytes[..len], 0).err(), Some(Malformed), "{len}");
        }
    }
}

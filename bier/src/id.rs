//! The numbers of BIER (RFC 8279 section 1 to 3): who a router is, which set it belongs to, and which bit stands for it.
//!
//! ```text
//! BFR-id 300, BitStringLength 256:   SI = (300 - 1) div 256 = 1     bit = (300 - 1) mod 256 + 1 = 44
//! ```

use core::fmt;
use core::num::NonZeroU16;

/// The highest set identifier: 8 bits in every encoding of it (RFC 8401 section 6.2, RFC 8444 section 2.2).
pub const SI_MAX: u16 = 255;

/// A BitStringLength (RFC 8296 section 2.1.2, the field BSL). 256 is mandatory for every BFR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Bsl {
    /// 64 bits, code 1.
    B64 = 1,
    /// 128 bits, code 2.
    B128 = 2,
    /// 256 bits, code 3.
    B256 = 3,
    /// 512 bits, code 4.
    B512 = 4,
    /// 1024 bits, code 5.
    B1024 = 5,
    /// 2048 bits, code 6.
    B2048 = 6,
    /// 4096 bits, code 7.
    B4096 = 7,
}

impl Bsl {
    /// All of them, shortest first.
    pub const ALL: [Self; 7] =
        [Self::B64, Self::B128, Self::B256, Self::B512, Self::B1024, Self::B2048, Self::B4096];

    /// The length that a code stands for: log2(bits) - 5. `None` for 0 and 8 to 15, which are illegal.
    #[inline]
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        if code >= 1 && code <= 7 { Some(Self::ALL[code as usize - 1]) } else { None }
    }

    /// The length with this many bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits.is_power_of_two() { Self::from_code((bits >> 5).trailing_zeros() as u8) } else { None }
    }

    /// The code on the wire, 1 to 7.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Length in bits.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u16 {
        32 << self.code()
    }

    /// Length in bytes on the wire.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> usize {
        4 << self.code()
    }

    /// Length in words of 64 bits.
    #[inline]
    #[must_use]
    pub const fn words(self) -> usize {
        self.bytes() / 8
    }
}

impl fmt::Display for Bsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bits())
    }
}

/// A sub-domain (RFC 8279 section 2): an independent numbering of routers, with an underlay of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubDomain(pub u8);

/// A set identifier (RFC 8279 section 3): which stretch of BFR-ids a bit string speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Si(pub u8);

/// The number of a router within a sub-domain, 1 to 65535 (RFC 8279 section 2). Transit-only routers have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BfrId(NonZeroU16);

impl BfrId {
    /// The router with this number; 0 is invalid.
    #[must_use]
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The set and the bit that stand for this router (RFC 8279 section 3); `None` where the set identifier would be beyond
    /// [`SI_MAX`], as it is for high ids in short bit strings.
    #[must_use]
    pub const fn position(self, bsl: Bsl) -> Option<(Si, BitPosition)> {
        let (at, bits) = (self.get() - 1, bsl.bits());
        if at / bits > SI_MAX {
            return None;
        }
        Some((Si((at / bits) as u8), BitPosition(at % bits)))
    }

    /// The router that a bit of a set stands for; `None` where no BFR-id reaches so far.
    #[must_use]
    pub fn at(si: Si, bit: BitPosition, bsl: Bsl) -> Option<Self> {
        let id = u32::from(si.0) * u32::from(bsl.bits()) + u32::from(bit.number());
        u16::try_from(id).ok().and_then(Self::new)
    }
}

impl fmt::Display for BfrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// The place of a bit in a bit string. The RFCs count from 1, for the least significant bit; words are indexed from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitPosition(u16);

impl BitPosition {
    /// The bit with this number, as the RFCs count: 1 to the length of the bit string.
    #[must_use]
    pub const fn new(number: u16, bsl: Bsl) -> Option<Self> {
        if number >= 1 && number <= bsl.bits() { Some(Self(number - 1)) } else { None }
    }

    /// The bit at this index from 0. The caller knows that it lies within the bit string.
    pub(crate) const fn at(index: usize) -> Self {
        Self(index as u16)
    }

    /// From 1, as the RFCs count.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 + 1
    }

    /// From 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a Bit Index Forwarding Table is for (RFC 8279 section 6.4): one table for each combination of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BiftKey {
    /// The sub-domain.
    pub sub_domain: SubDomain,
    /// The set.
    pub si: Si,
    /// How long bit strings are.
    pub bsl: Bsl,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_codes_are_those_of_rfc_8296() {
        let all = [(1, 64), (2, 128), (3, 256), (4, 512), (5, 1024), (6, 2048), (7, 4096)];
        for (code, bits) in all {
            let bsl = Bsl::from_code(code).unwrap();
            assert_eq!((bsl.code(), bsl.bits()), (code, bits));
            assert_eq!((bsl.bytes() * 8, bsl.words() * 64), (usize::from(bits), usize::from(bits)));
            assert_eq!(Bsl::from_bits(u32::from(bits)), Some(bsl));
        }
        assert!([0, 8, 9, 15, 255].into_iter().all(|code| Bsl::from_code(code).is_none()));
        assert!([0, 32, 65, 8192].into_iter().all(|bits| Bsl::from_bits(bits).is_none()));
    }

    #[test]
    fn every_id_has_one_place_in_every_length() {
        for bsl in Bsl::ALL {
            for id in 1..=u16::MAX {
                let id = BfrId::new(id).unwrap();
                let expected_si = (u32::from(id.get()) - 1) / u32::from(bsl.bits());
                let Some((si, bit)) = id.position(bsl) else {
                    assert!(expected_si > 255);
                    continue;
                };
                assert_eq!(u32::from(si.0), expected_si);
                assert_eq!(BitPosition::new(bit.number(), bsl), Some(bit));
                assert_eq!(BfrId::at(si, bit, bsl), Some(id));
            }
        }
        assert_eq!(BfrId::new(0), None);
        let last = BitPosition::new(4096, Bsl::B4096).unwrap();
        assert_eq!(BfrId::at(Si(15), last, Bsl::B4096), None, "there is no BFR-id 65536");
    }
}

//! The BIFT-id (RFC 8296 section 2.1): 20 bits that say which table a packet is for.
//!
//! In an MPLS network it is a label, and each router chooses its own. Elsewhere no RFC lays it down: the expired
//! draft `draft-ietf-bier-non-mpls-bift-encoding` has a fixed form, and newer ones let each router advertise ranges.
//! So each router has a map of its own here, ours for what comes in and one of each neighbour for what goes out to
//! it.

use alloc::vec::Vec;
use core::fmt;

use crate::id::{BiftKey, Bsl, Si, SubDomain};

/// The highest BIFT-id: 20 bits.
pub const BIFT_ID_MAX: u32 = 0xf_ffff;

/// A BIFT-id, 20 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BiftId(u32);

impl BiftId {
    /// The BIFT-id with this value; `None` beyond 20 bits.
    #[inline]
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= BIFT_ID_MAX { Some(Self(value)) } else { None }
    }

    /// The upper 20 bits of a word.
    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word >> 12)
    }

    /// The static form, most significant first: code of the length in 4 bits, sub-domain in 8, set in 8.
    #[inline]
    #[must_use]
    pub const fn static_form(key: BiftKey) -> Self {
        Self((key.bsl.code() as u32) << 16 | (key.sub_domain.0 as u32) << 8 | key.si.0 as u32)
    }

    /// What the value means in the static form; `None` where its first four bits are no length.
    #[inline]
    #[must_use]
    pub const fn read_static_form(self) -> Option<BiftKey> {
        match Bsl::from_code((self.0 >> 16) as u8) {
            Some(bsl) => {
                Some(BiftKey { bsl, sub_domain: SubDomain((self.0 >> 8) as u8), si: Si(self.0 as u8) })
            }
            None => None,
        }
    }

    /// As a number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BiftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The BIFT-ids of one router: those that it wants packets to carry that are sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BiftIds {
    /// The static form, for every table there is.
    Static,
    /// A map, as configured or advertised.
    Map(BiftIdMap),
}

impl BiftIds {
    /// The table that a packet with this BIFT-id is for.
    #[inline]
    #[must_use]
    pub fn key(&self, id: BiftId) -> Option<BiftKey> {
        match self {
            Self::Static => id.read_static_form(),
            Self::Map(map) => map.key(id),
        }
    }

    /// The BIFT-id of packets for this table.
    #[inline]
    #[must_use]
    pub fn id(&self, key: BiftKey) -> Option<BiftId> {
        match self {
            Self::Static => Some(BiftId::static_form(key)),
            Self::Map(map) => map.id(key),
        }
    }
}

/// BIFT-ids given one by one, or as ranges of labels (RFC 8401 section 6.2). One-to-one, by its making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BiftIdMap {
    /// By BIFT-id, for reception.
    by_id: Vec<(BiftId, BiftKey)>,
    /// By table, for sending.
    by_key: Vec<(BiftKey, BiftId)>,
}

impl BiftIdMap {
    /// Adds one.
    ///
    /// # Errors
    /// If the value, or the table, is in the map with another partner; the map is as it was.
    pub fn insert(&mut self, key: BiftKey, id: BiftId) -> Result<(), Clash> {
        match (
            self.by_id.binary_search_by_key(&id, |row| row.0),
            self.by_key.binary_search_by_key(&key, |row| row.0),
        ) {
            (Err(id_at), Err(key_at)) => {
                self.by_id.insert(id_at, (id, key));
                self.by_key.insert(key_at, (key, id));
                Ok(())
            }
            (Ok(at), _) if self.by_id[at].1 == key => Ok(()),
            (Ok(at), _) => Err(Clash::Id { id, taken_by: self.by_id[at].1 }),
            (Err(_), Ok(at)) => Err(Clash::Key { key, has: self.by_key[at].1 }),
        }
    }

    /// Adds those of all sets from 0 to the last: `base` + set identifier.
    ///
    /// # Errors
    /// If a value is beyond 20 bits or clashes; the map then has the values before it.
    pub fn insert_range(
        &mut self,
        sub_domain: SubDomain,
        bsl: Bsl,
        base: BiftId,
        last: Si,
    ) -> Result<(), Clash> {
        for si in 0..=last.0 {
            let id = BiftId::new(base.get() + u32::from(si)).ok_or(Clash::Beyond { base, last })?;
            self.insert(BiftKey { sub_domain, si: Si(si), bsl }, id)?;
        }
        Ok(())
    }

    /// The table that a packet with this BIFT-id is for.
    #[must_use]
    pub fn key(&self, id: BiftId) -> Option<BiftKey> {
        let at = self.by_id.binary_search_by_key(&id, |row| row.0).ok()?;
        Some(self.by_id[at].1)
    }

    /// The BIFT-id of packets for this table.
    #[must_use]
    pub fn id(&self, key: BiftKey) -> Option<BiftId> {
        let at = self.by_key.binary_search_by_key(&key, |row| row.0).ok()?;
        Some(self.by_key[at].1)
    }
}

/// Why a BIFT-id can't stand in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Clash {
    /// One value for two tables: what is received with it would be ambiguous.
    #[error("BIFT-id {id} already stands for {taken_by:?}")]
    Id {
        /// The value.
        id: BiftId,
        /// The table that has it.
        taken_by: BiftKey,
    },
    /// Two values for one table.
    #[error("{key:?} already has BIFT-id {has}")]
    Key {
        /// The table.
        key: BiftKey,
        /// The value that it has.
        has: BiftId,
    },
    /// A range that ends beyond 20 bits.
    #[error("a range from {base} to set {} ends beyond 20 bits", last.0)]
    Beyond {
        /// Where it begins.
        base: BiftId,
        /// Its last set.
        last: Si,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sub_domain: u8, si: u8, bsl: Bsl) -> BiftKey {
        BiftKey { sub_domain: SubDomain(sub_domain), si: Si(si), bsl }
    }

    #[test]
    fn the_static_form_is_length_then_sub_domain_then_set() {
        assert_eq!(BiftId::static_form(key(0xab, 0xcd, Bsl::B256)).get(), 0x3_abcd);
        for bsl in Bsl::ALL {
            for (sub_domain, si) in [(0, 0), (0, 255), (255, 0), (7, 9)] {
                let key = key(sub_domain, si, bsl);
                assert_eq!(BiftId::static_form(key).read_static_form(), Some(key));
                assert_eq!(BiftIds::Static.id(key).and_then(|id| BiftIds::Static.key(id)), Some(key));
            }
        }
        assert_eq!(BiftId::new(0x0_abcd).unwrap().read_static_form(), None);
        assert_eq!(BiftId::new(0x8_0000).unwrap().read_static_form(), None);
        assert_eq!(BiftId::new(0x10_0000), None);
    }

    #[test]
    fn a_map_is_one_to_one() {
        let (a, b) = (key(0, 0, Bsl::B256), key(0, 1, Bsl::B256));
        let (one, two) = (BiftId(1000), BiftId(1001));
        let mut map = BiftIdMap::default();
        map.insert(a, one).unwrap();
        map.insert(a, one).unwrap();
        assert_eq!(map.insert(b, one), Err(Clash::Id { id: one, taken_by: a }));
        assert_eq!(map.insert(a, two), Err(Clash::Key { key: a, has: one }));
        map.insert(b, two).unwrap();
        assert_eq!((map.key(one), map.key(two), map.key(BiftId(7))), (Some(a), Some(b), None));
        assert_eq!((map.id(a), map.id(b), map.id(key(1, 0, Bsl::B256))), (Some(one), Some(two), None));
    }

    #[test]
    fn a_range_is_base_plus_set_and_ends_within_20_bits() {
        let mut map = BiftIdMap::default();
        map.insert_range(SubDomain(3), Bsl::B64, BiftId(500), Si(255)).unwrap();
        assert_eq!(map.key(BiftId(755)), Some(key(3, 255, Bsl::B64)));
        let base = BiftId(BIFT_ID_MAX - 1);
        let beyond = map.insert_range(SubDomain(4), Bsl::B64, base, Si(2));
        assert_eq!(beyond, Err(Clash::Beyond { base, last: Si(2) }));
    }
}

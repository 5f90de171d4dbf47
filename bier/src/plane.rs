//! All tables of a router, as workers see them: from the BIFT-id of a packet to its table.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::bift::Bift;
use crate::bift_id::{BiftId, BiftIds};
use crate::id::{BiftKey, SubDomain};
use crate::te::TeBift;

/// What the bits of a sub-domain stand for. It is one or the other for a whole sub-domain (RFC 9262 section 4.1):
/// nothing in a packet says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Routers (RFC 8279).
    Bier,
    /// Adjacencies (RFC 9262).
    BierTe,
}

/// A table of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyBift {
    /// Its bits stand for routers.
    Bier(Arc<Bift>),
    /// Its bits stand for adjacencies.
    BierTe(Arc<TeBift>),
}

impl AnyBift {
    /// What the table is for.
    #[inline]
    #[must_use]
    pub fn key(&self) -> BiftKey {
        match self {
            Self::Bier(bift) => bift.key(),
            Self::BierTe(bift) => bift.key(),
        }
    }

    /// The table, if its bits stand for routers.
    #[inline]
    #[must_use]
    pub fn of_routers(&self) -> Option<&Arc<Bift>> {
        match self {
            Self::Bier(bift) => Some(bift),
            Self::BierTe(_) => None,
        }
    }

    /// The table, if its bits stand for adjacencies.
    #[inline]
    #[must_use]
    pub fn of_adjacencies(&self) -> Option<&Arc<TeBift>> {
        match self {
            Self::Bier(_) => None,
            Self::BierTe(bift) => Some(bift),
        }
    }

    /// What its bits stand for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bier(_) => Kind::Bier,
            Self::BierTe(_) => Kind::BierTe,
        }
    }
}

/// Why tables can't stand together. Each names a table by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaneError {
    /// A sub-domain has tables of both kinds.
    #[error("table {table}: sub-domain {} is of the other kind, by table {first}", sub_domain.0)]
    BothKinds {
        /// The table.
        table: usize,
        /// The first of that sub-domain.
        first: usize,
        /// The sub-domain.
        sub_domain: SubDomain,
    },
    /// Two tables for the same.
    #[error("table {table}: {key:?} is that of table {first}")]
    Repeated {
        /// The table.
        table: usize,
        /// The earlier one.
        first: usize,
        /// What both are for.
        key: BiftKey,
    },
    /// Nobody could send to the table.
    #[error("table {table}: we have no BIFT-id for {key:?}")]
    NoBiftId {
        /// The table.
        table: usize,
        /// What it is for.
        key: BiftKey,
    },
}

/// All tables of a router.
#[derive(Clone, Debug)]
pub struct Plane {
    ours: BiftIds,
    /// By what they are for.
    tables: Vec<(BiftKey, AnyBift)>,
    /// The places of those tables.
    index: Index,
}

/// Places of tables by BIFT-id, in two steps, neither of which depends on a comparison: a search guesses wrong at every other
/// packet if there are many tables. Ids of the sets of one sub-domain lie side by side, and so do their places.
#[derive(Clone, Debug)]
struct Index {
    /// By the upper 12 bits of an id: which of the blocks.
    upper: Box<[u16; 1 << 12]>,
    /// By the lower 8 bits. The first block has no table.
    blocks: Vec<[u32; 256]>,
}

/// The place of no table.
const NOWHERE: u32 = u32::MAX;

impl Index {
    fn new(ids: impl Iterator<Item = BiftId>) -> Self {
        let mut index = Self { upper: Box::new([0; 1 << 12]), blocks: vec![[NOWHERE; 256]] };
        for (place, id) in ids.enumerate() {
            let upper = &mut index.upper[id.get() as usize >> 8];
            if *upper == 0 {
                *upper = index.blocks.len() as u16;
                index.blocks.push([NOWHERE; 256]);
            }
            index.blocks[usize::from(*upper)][id.get() as usize & 0xff] = place as u32;
        }
        index
    }

    #[inline(always)] // a few loads
    fn place(&self, id: BiftId) -> usize {
        let upper = self.upper[id.get() as usize >> 8];
        self.blocks[usize::from(upper)][id.get() as usize & 0xff] as usize
    }
}

impl Plane {
    /// These tables, and the BIFT-ids by which others name them.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn new(ours: BiftIds, tables: Vec<AnyBift>) -> Result<Self, Vec<PlaneError>> {
        let mut errors = Vec::new();
        let mut kinds = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for (table, bift) in tables.iter().enumerate() {
            let key = bift.key();
            let (first, kind) = *kinds.entry(key.sub_domain).or_insert((table, bift.kind()));
            if kind != bift.kind() {
                errors.push(PlaneError::BothKinds { table, first, sub_domain: key.sub_domain });
            }
            let first = *keys.entry(key).or_insert(table);
            if first != table {
                errors.push(PlaneError::Repeated { table, first, key });
            }
            if ours.id(key).is_none() {
                errors.push(PlaneError::NoBiftId { table, key });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut tables: Vec<_> = tables.into_iter().map(|bift| (bift.key(), bift)).collect();
        tables.sort_unstable_by_key(|(key, _)| *key);
        let index = Index::new(tables.iter().filter_map(|(key, _)| ours.id(*key)));
        Ok(Self { ours, tables, index })
    }

    /// The BIFT-ids by which others name our tables.
    #[must_use]
    pub fn ours(&self) -> &BiftIds {
        &self.ours
    }

    /// The table that a packet with this BIFT-id is for, and what that is for.
    #[inline(always)] // a few loads
    #[must_use]
    pub fn by_id(&self, id: BiftId) -> Option<(BiftKey, &AnyBift)> {
        self.tables.get(self.index.place(id)).map(|(key, bift)| (*key, bift))
    }

    /// The table for this.
    #[inline]
    #[must_use]
    pub fn get(&self, key: BiftKey) -> Option<&AnyBift> {
        let at = self.tables.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(&self.tables[at].1)
    }

    /// All tables.
    pub fn iter(&self) -> impl Iterator<Item = &AnyBift> {
        self.tables.iter().map(|(_, bift)| bift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bift::given::{Given, build};
    use crate::bift_id::BiftIdMap;
    use crate::id::{BfrId, Bsl, Si};

    fn bier(sub_domain: u8) -> AnyBift {
        let given = Given {
            sub_domain: SubDomain(sub_domain),
            bsl: Bsl::B64,
            own: BfrId::new(1),
            tables: 1,
            seed: 0,
            neighbours: &[],
            rows: &[],
        };
        AnyBift::Bier(Arc::new(build(&given).unwrap().remove(0)))
    }

    fn te(sub_domain: u8) -> AnyBift {
        let key = BiftKey { sub_domain: SubDomain(sub_domain), si: Si(0), bsl: Bsl::B64 };
        AnyBift::BierTe(Arc::new(TeBift::new(key, vec![]).unwrap()))
    }

    #[test]
    fn tables_are_found_by_the_id_that_we_advertise() {
        let mut map = BiftIdMap::default();
        map.insert(te(1).key(), BiftId::new(70).unwrap()).unwrap();
        map.insert(bier(0).key(), BiftId::new(71).unwrap()).unwrap();
        let plane = Plane::new(BiftIds::Map(map), vec![te(1), bier(0)]).unwrap();
        assert_eq!(plane.by_id(BiftId::new(70).unwrap()), Some((te(1).key(), &te(1))));
        assert_eq!(plane.by_id(BiftId::new(71).unwrap()), Some((bier(0).key(), &bier(0))));
        assert_eq!(plane.by_id(BiftId::new(72).unwrap()), None);
    }

    #[test]
    fn a_sub_domain_is_of_one_kind() {
        let errors = Plane::new(BiftIds::Static, vec![bier(0), te(1), te(0), bier(2), bier(2)]).unwrap_err();
        let both = PlaneError::BothKinds { table: 2, first: 0, sub_domain: SubDomain(0) };
        let same = PlaneError::Repeated { table: 2, first: 0, key: bier(0).key() };
        let twice = PlaneError::Repeated { table: 4, first: 3, key: bier(2).key() };
        assert_eq!(errors, [both, same, twice]);
        let none = Plane::new(BiftIds::Map(BiftIdMap::default()), vec![bier(0)]).unwrap_err();
        assert_eq!(none, [PlaneError::NoBiftId { table: 0, key: bier(0).key() }]);
    }
}

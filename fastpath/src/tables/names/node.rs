//! One name of the table, in one run of bytes.
//!
//! A look-up that hits reads the name to compare it and then the records it asked for. Both lie side by side, so that a
//! short name with an address fits in one cache line. Offsets are written by [`Builder::finish`] and only read here;
//! reads are bounds-checked all the same.
//!
//! ```text
//!  0      1         2..4  4..6     6     7  8..12     12
//!  flags  name len  zone  service  sets  -  children  name │ type count len │ … │ records │ records │ …
//!                                                           └─ one per set ────┘ └─ one per set ─────┘
//! ```

use std::fmt;

use crate::dns::RecordType;
use crate::tables::services::ServiceId;

/// A name with all its records, where it stands in the table.
#[derive(Clone, Copy)]
pub struct Node<'a>(&'a [u8]);

/// The records of one type at one name, ready to be copied behind the question: their owner is the pointer 0xC00C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RrSet<'a> {
    /// How many records.
    pub count: u16,
    /// Their wire form, one behind the other.
    pub wire: &'a [u8],
}

/// What a node is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Builder {
    pub(super) name: Vec<u8>,
    pub(super) zone: u16,
    pub(super) apex: bool,
    pub(super) service: Option<ServiceId>,
    /// Nodes exactly one label below. One with neither children nor records has no reason to exist.
    pub(super) children: u32,
    pub(super) sets: Vec<SetBuilder>,
}

/// What a set of records is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetBuilder {
    pub(super) kind: RecordType,
    pub(super) count: u16,
    pub(super) wire: Vec<u8>,
}

const FLAGS: usize = 0;
const NAME_LEN: usize = 1;
const ZONE: usize = 2;
const SERVICE: usize = 4;
const SETS: usize = 6;
const CHILDREN: usize = 8;
const NAME: usize = 12;
/// Bytes of one set's entry: type, count, length.
const SET_LEN: usize = 6;

const FLAG_APEX: u8 = 1;
const FLAG_SERVICE: u8 = 2;
const FLAG_ALIAS: u8 = 4;

impl<'a> Node<'a> {
    /// The node that `bytes` begin with.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Its own bytes.
    pub(super) fn bytes(&self) -> &'a [u8] {
        let index = self.sets_at() + usize::from(self.byte_at(SETS)) * SET_LEN;
        let end = index + self.sets().map(|(_, set)| set.wire.len()).sum::<usize>();
        self.0.get(..end).unwrap_or(&[])
    }

    /// The name, folded, in wire form.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        self.0.get(NAME..self.sets_at()).unwrap_or(&[])
    }

    /// The zone that the name belongs to: an index.
    #[inline]
    pub(super) fn zone(&self) -> usize {
        usize::from(self.u16_at(ZONE))
    }

    /// Whether the name is the apex of a zone.
    #[inline]
    pub(super) fn is_apex(&self) -> bool {
        self.byte_at(FLAGS) & FLAG_APEX != 0
    }

    /// The service that the name leads to.
    #[inline]
    pub fn service(&self) -> Option<ServiceId> {
        (self.byte_at(FLAGS) & FLAG_SERVICE != 0).then(|| ServiceId(self.u16_at(SERVICE)))
    }

    /// Whether the name is an alias: a CNAME is its only record.
    #[inline]
    pub fn is_alias(&self) -> bool {
        self.byte_at(FLAGS) & FLAG_ALIAS != 0
    }

    /// Whether the name has no records and exists because of those below it only (RFC 4592 section 2.2.2).
    #[inline]
    pub fn is_empty_non_terminal(&self) -> bool {
        self.byte_at(SETS) == 0
    }

    /// The records of one type.
    #[inline]
    pub fn set(&self, kind: RecordType) -> Option<RrSet<'a>> {
        self.sets().find(|(of, _)| *of == kind).map(|(_, set)| set)
    }

    /// The CNAME of an alias, and where it leads.
    pub(crate) fn link(&self) -> Option<(RrSet<'a>, &'a [u8])> {
        let set = if self.is_alias() { self.set(RecordType::CNAME)? } else { return None };
        Some((set, set.wire.get(super::RR_HEAD_LEN..)?))
    }

    /// All records, by type.
    #[inline]
    pub fn sets(&self) -> impl Iterator<Item = (RecordType, RrSet<'a>)> + use<'a> {
        let node = *self;
        let count = usize::from(self.byte_at(SETS));
        let entries = self.sets_at();
        let mut wire_at = entries + count * SET_LEN;
        (0..count).map_while(move |index| {
            let entry = node.0.get(entries + index * SET_LEN..)?.first_chunk::<SET_LEN>()?;
            let [kind, count, len] = [0, 2, 4].map(|at| u16::from_be_bytes([entry[at], entry[at + 1]]));
            let end = wire_at + usize::from(len);
            let set = RrSet { count, wire: node.0.get(wire_at..end)? };
            wire_at = end;
            Some((RecordType(kind), set))
        })
    }

    fn children(&self) -> u32 {
        let bytes = self.0.get(CHILDREN..CHILDREN + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }

    #[inline]
    fn sets_at(&self) -> usize {
        NAME + usize::from(self.byte_at(NAME_LEN))
    }

    #[inline]
    fn byte_at(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn u16_at(&self, at: usize) -> u16 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }

    /// Takes the node apart, to change it.
    pub(super) fn to_builder(self) -> Builder {
        Builder {
            name: self.name().to_vec(),
            zone: self.u16_at(ZONE),
            apex: self.is_apex(),
            service: self.service(),
            children: self.children(),
            sets: self
                .sets()
                .map(|(kind, set)| SetBuilder { kind, count: set.count, wire: set.wire.to_vec() })
                .collect(),
        }
    }
}

impl Builder {
    /// Whether the name is an alias.
    pub(super) fn is_alias(&self) -> bool {
        self.sets.iter().any(|set| set.kind == RecordType::CNAME)
    }

    /// Writes the node. Sets are limited to [`super::RRSET_WIRE_MAX`] when they are made, and in number to
    /// [`super::SETS_MAX`].
    pub(super) fn finish(&self) -> Vec<u8> {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.apex, FLAG_APEX)
            | flag(self.service.is_some(), FLAG_SERVICE)
            | flag(self.is_alias(), FLAG_ALIAS);
        let mut bytes = Vec::with_capacity(NAME + self.name.len() + 64);
        bytes.extend([flags, self.name.len() as u8]);
        bytes.extend(self.zone.to_be_bytes());
        bytes.extend(self.service.map_or(0, |service| service.0).to_be_bytes());
        bytes.extend([self.sets.len() as u8, 0]);
        bytes.extend(self.children.to_be_bytes());
        bytes.extend(&self.name);
        for set in &self.sets {
            bytes.extend(set.kind.0.to_be_bytes());
            bytes.extend(set.count.to_be_bytes());
            bytes.extend((set.wire.len() as u16).to_be_bytes());
        }
        for set in &self.sets {
            bytes.extend(&set.wire);
        }
        bytes
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_builder().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_holds_what_it_was_made_of() {
        let set = |kind, count, len| SetBuilder { kind, count, wire: vec![kind.0 as u8; len] };
        let builder = Builder {
            name: b"\x02fn\x07example\0".to_vec(),
            zone: 513,
            apex: true,
            service: Some(ServiceId(0xfffe)),
            children: 1_000_000,
            sets: vec![set(RecordType::A, 2, 32), set(RecordType::TXT, 1, 700), set(RecordType::NS, 3, 90)],
        };
        let bytes = builder.finish();
        let behind = [&bytes[..], &[0xff; 100]].concat();
        let node = Node::new(&behind);
        assert_eq!(node.bytes(), bytes);
        assert_eq!(node.to_builder(), builder);
        assert_eq!(node.set(RecordType::TXT), Some(RrSet { count: 1, wire: &[16; 700] }));
        assert_eq!(node.set(RecordType::AAAA), None);
        assert_eq!(Node::new(&Builder::default().finish()).to_builder(), Builder::default());
    }
}

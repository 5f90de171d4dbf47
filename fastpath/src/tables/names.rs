//! Zones and names: what the DNS responder answers from.
//!
//! An immutable snapshot like every table here. A change of one name copies a page of the shelf, not the table.
//! Every name of every zone is a [`Node`] on one shelf, found by its folded wire form and a keyed hash; that covers empty
//! non-terminals, so that a miss means that the name doesn't exist. The records of a node lie ready to be sent.
//!
//! Wildcards are nodes like others, found by [`Names::wildcard`] once a name is known not to exist. Not served, and refused
//! when they are handed in: delegations, DNAME, signed zones.

mod name;
mod node;
mod record;
mod shelf;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::sync::Arc;

use arrayvec::ArrayVec;

pub use name::{LABEL_MAX, NAME_WIRE_MAX, NameError, WireName};
pub use node::{Node, RrSet};
pub use record::{NameBinding, NamesError, Record, RecordData, Soa, Zone};

pub(crate) use name::wire_len;

use self::node::{Builder, SetBuilder};
use self::shelf::Shelf;
use crate::dns::{CLASS_IN, HEADER_LEN, RecordType};
use crate::driver::Frame;
use crate::sip::Sip;

/// Zones and names; see the [module](self).
#[derive(Clone, Debug)]
pub struct Names {
    key: HashKey,
    zones: Arc<[Authority]>,
    /// Bit n is set when some zone's apex has n labels.
    depths: u128,
    nodes: Shelf,
}

/// The secret of the table's hash: names come from strangers, who must not be able to choose their pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashKey(pub u64, pub u64);

/// What answers need to know of a zone.
#[derive(Clone, Debug)]
pub struct Authority {
    apex: WireName,
    ttl_seconds: u32,
    cold_ttl_seconds: u32,
    /// Whether the zone has a wildcard: without one, names that don't exist need no second look.
    wildcards: bool,
    negative: Box<[u8]>,
}

/// Zones of one appliance: a node names its zone in 16 bits.
pub const ZONES_MAX: usize = u16::MAX as usize;
/// Records of one name and type, in bytes: a TCP message has 65 535, of which header, question and OPT take up to 290.
pub const RRSET_WIRE_MAX: usize = 65_000;
/// Types of records that one name can have: counted in a byte.
pub const SETS_MAX: usize = 255;
/// CNAMEs that are followed for one answer.
pub const CHAIN_MAX: usize = 8;
/// Longest time to live, in seconds (RFC 2181 section 8).
pub const TTL_SECONDS_MAX: u32 = i32::MAX as u32;
/// Longest character string of a TXT record, in bytes (RFC 1035 section 3.3).
const TEXT_MAX: usize = 255;
/// The first label of a wildcard (RFC 4592 section 2.1.1).
const WILDCARD: &[u8] = b"\x01*";
/// Labels of a name, the root among them: each but the root takes two bytes of 255.
const LABELS_MAX: usize = NAME_WIRE_MAX / 2 + 1;
/// Length of a record before its data, its owner being a pointer.
pub(crate) const RR_HEAD_LEN: usize = 12;
/// The owner of prebuilt records: a pointer to the question's name, which follows the header.
const OWNER: [u8; 2] = [0xc0, HEADER_LEN as u8];

const _: () = assert!(HEADER_LEN + NAME_WIRE_MAX + 4 + RRSET_WIRE_MAX + 19 <= u16::MAX as usize);

impl Names {
    /// Builds the table of all zones.
    ///
    /// # Errors
    /// The first thing wrong with a zone; see [`NamesError`].
    pub fn build<Z: Borrow<Zone>>(key: HashKey, zones: &[Z]) -> Result<Self, NamesError> {
        if zones.len() > ZONES_MAX {
            return Err(NamesError::ZonesTooMany);
        }
        // Outer zones first, so that what leads to an inner apex belongs to the outer zone.
        let mut zones: Vec<&Zone> = zones.iter().map(Borrow::borrow).collect();
        zones.sort_by_key(|zone| depth(zone.apex.as_bytes()));
        let names: usize = zones.iter().map(|zone| zone.records.len() + zone.bindings.len() + 1).sum();
        let mut table = Self {
            key,
            zones: zones.iter().map(|zone| Authority::new(zone)).collect::<Result<_, _>>()?,
            depths: zones.iter().fold(0, |depths, zone| depths | 1 << depth(zone.apex.as_bytes())),
            nodes: Shelf::with_capacity(names),
        };
        for (index, zone) in zones.iter().enumerate() {
            table.add_apex(index as u16, zone)?;
        }
        for (index, zone) in zones.iter().enumerate() {
            table.add_records(index, &zone.records)?;
            for binding in &zone.bindings {
                if table.zone_index(binding.name.as_bytes()) != Some(index) {
                    return Err(NamesError::OutsideZone(binding.name.clone()));
                }
                if table.get(binding.name.as_bytes()).is_some_and(|node| node.service().is_some()) {
                    return Err(NamesError::BoundTwice(binding.name.clone()));
                }
                table.bind(binding)?;
            }
        }
        table.check_chains(&zones)?;
        Ok(table)
    }

    /// Lets a name lead to a service, instead of where it led before.
    ///
    /// # Errors
    /// When the name is in no zone, has static addresses, or the binding has none. Then nothing has changed.
    pub fn bind(&mut self, binding: &NameBinding) -> Result<(), NamesError> {
        let name = &binding.name;
        let zone = self.zone_index(name.as_bytes()).ok_or_else(|| NamesError::OutsideZone(name.clone()))?;
        let ttl_seconds = self.zones[zone].ttl_seconds;
        refuse_wildcard(name)?;
        let data: Vec<RecordData> = (binding.v4.iter().map(|addr| RecordData::A(*addr)))
            .chain(binding.v6.iter().map(|addr| RecordData::Aaaa(*addr)))
            .collect();
        if data.is_empty() {
            return Err(NamesError::NoAddress(name.clone()));
        }
        let mut builder = self.builder_of(name.as_bytes(), zone as u16);
        if builder.service.is_none() && builder.sets.iter().any(|set| set.kind.is_address()) {
            return Err(NamesError::BoundBesideAddresses(name.clone()));
        }
        if builder.is_alias() {
            return Err(NamesError::CnameBeside(name.clone()));
        }
        builder.sets.retain(|set| !set.kind.is_address());
        builder.service = Some(binding.service);
        for kind in [RecordType::A, RecordType::AAAA] {
            let of_kind = data.iter().filter(|data| data.kind() == kind);
            builder.add_set(name, kind, of_kind.map(|data| (ttl_seconds, data)).collect())?;
        }
        self.put(builder);
        Ok(())
    }

    /// Takes a name off its service; false if it leads to none. Its static records stay.
    pub fn unbind(&mut self, name: &WireName) -> bool {
        let Some(node) = self.get(name.as_bytes()).filter(|node| node.service().is_some()) else {
            return false;
        };
        let mut builder = node.to_builder();
        builder.service = None;
        builder.sets.retain(|set| !set.kind.is_address());
        self.put(builder);
        self.prune(name.as_bytes());
        true
    }

    /// The keyed hash of a name in wire form, whatever the case of its letters, for [`Names::get_hashed`].
    #[inline(always)]
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.key.hash(name)
    }

    /// The node of a name in wire form, whatever the case of its letters.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<Node<'_>> {
        self.get_hashed(self.hash(name), name)
    }

    /// The node of a name that is hashed already.
    #[inline(always)]
    pub fn get_hashed(&self, hash: u64, name: &[u8]) -> Option<Node<'_>> {
        self.nodes.get(hash, |node| name::eq_folded(name, node.name()))
    }

    /// Asks memory for what leads to the name of this hash: for a vector of look-ups, which then wait for memory once a step
    /// instead of once a step and look-up.
    #[inline(always)]
    pub(crate) fn prefetch_index<F: Frame>(&self, hash: u64) {
        self.nodes.prefetch_bucket::<F>(hash);
    }

    /// The same, once that is there: for the name itself.
    #[inline(always)]
    pub(crate) fn prefetch_node<F: Frame>(&self, hash: u64) {
        self.nodes.prefetch_node::<F>(hash);
    }

    /// The zone of a node of this table.
    #[inline]
    pub fn zone(&self, node: Node<'_>) -> Option<&Authority> {
        self.zones.get(node.zone())
    }

    /// The innermost zone around a name, whether the name exists or not.
    pub fn zone_around(&self, name: &[u8]) -> Option<&Authority> {
        self.zones.get(self.zone_index(name)?)
    }

    /// The wildcard that answers for a name of `zone` that doesn't exist: `*` below the closest name around it that does
    /// (RFC 4592 section 3.3.1).
    #[inline]
    pub fn wildcard(&self, zone: &Authority, name: &[u8]) -> Option<Node<'_>> {
        if zone.wildcards { self.find_wildcard(zone, name) } else { None }
    }

    #[cold]
    fn find_wildcard(&self, zone: &Authority, name: &[u8]) -> Option<Node<'_>> {
        let around: ArrayVec<&[u8], LABELS_MAX> = name::suffixes(name)
            .skip(1)
            .take_while(|suffix| suffix.len() >= zone.apex.as_bytes().len())
            .take(LABELS_MAX)
            .collect();
        // Within a zone, whatever is around a name that exists exists too: so few look-ups find the first, however many
        // labels a stranger has thought of.
        let closest = around.partition_point(|suffix| self.get(suffix).is_none());
        let mut name = ArrayVec::<u8, NAME_WIRE_MAX>::new();
        name.try_extend_from_slice(WILDCARD).ok()?;
        name.try_extend_from_slice(around.get(closest)?).ok()?;
        self.get(&name)
    }

    /// The zones, outer before inner.
    pub fn zones(&self) -> &[Authority] {
        &self.zones
    }

    /// All names that exist, empty non-terminals too, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Node<'_>> {
        self.nodes.iter()
    }

    /// How many names exist.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no name exists.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 0
    }

    /// Any node at the depth of an apex names the zone: it is that apex, or one of a zone further out, and deeper ones
    /// have been tried.
    fn zone_index(&self, name: &[u8]) -> Option<usize> {
        let mut depth = depth(name) + 1;
        name::suffixes(name).find_map(|suffix| {
            depth -= 1;
            let node = if self.depths >> depth & 1 == 1 { self.get(suffix) } else { None };
            node.map(|node| node.zone())
        })
    }

    fn add_apex(&mut self, index: u16, zone: &Zone) -> Result<(), NamesError> {
        let apex = zone.apex.as_bytes();
        if self.get(apex).is_some_and(|node| node.is_apex()) {
            return Err(NamesError::ZoneTwice(zone.apex.clone()));
        }
        refuse_wildcard(&zone.apex)?;
        let wire = record(RecordType::SOA, zone.ttl_seconds, &zone.soa.to_wire());
        let set = SetBuilder { kind: RecordType::SOA, count: 1, wire };
        let mut builder = self.builder_of(apex, index);
        builder.zone = index;
        builder.apex = true;
        builder.sets.push(set);
        self.put(builder);
        Ok(())
    }

    fn add_records(&mut self, zone: usize, records: &[Record]) -> Result<(), NamesError> {
        let mut records: Vec<&Record> = records.iter().collect();
        records.sort_by(|a, b| (&a.owner, a.data.kind()).cmp(&(&b.owner, b.data.kind())));
        for set in records.chunk_by(|a, b| a.owner == b.owner && a.data.kind() == b.data.kind()) {
            let Some(first) = set.first() else { continue };
            let (owner, kind) = (&first.owner, first.data.kind());
            if self.zone_index(owner.as_bytes()) != Some(zone) {
                return Err(NamesError::OutsideZone(owner.clone()));
            }
            let mut builder = self.builder_of(owner.as_bytes(), zone as u16);
            if kind == RecordType::NS && !builder.apex {
                return Err(NamesError::Delegation(owner.clone()));
            }
            if !kind.is_data() || kind == RecordType::SOA || builder.sets.len() >= SETS_MAX {
                return Err(NamesError::Kind(owner.clone(), kind));
            }
            let data = set.iter().map(|record| (record.ttl_seconds, &record.data)).collect();
            builder.add_set(owner, kind, data)?;
            if builder.is_alias() && (builder.sets.len() > 1 || builder.sets.iter().any(|set| set.count > 1))
            {
                return Err(NamesError::CnameBeside(owner.clone()));
            }
            self.put(builder);
        }
        Ok(())
    }

    /// Refuses aliases that lead round in a circle, or too far to be followed.
    fn check_chains(&self, zones: &[&Zone]) -> Result<(), NamesError> {
        let aliases = zones.iter().flat_map(|zone| &zone.records).filter_map(|record| match &record.data {
            RecordData::Cname(target) => Some((&record.owner, target)),
            _ => None,
        });
        for (owner, target) in aliases {
            let mut target = target.as_bytes();
            let mut steps = 1;
            let find = |name: &[u8]| {
                self.get(name)
                    .or_else(|| self.wildcard(self.zone_around(name)?, name))
                    .and_then(|node| node.link())
            };
            while let Some((_, next)) = find(target) {
                target = next;
                steps += 1;
                if steps > CHAIN_MAX {
                    return Err(NamesError::CnameChain(owner.clone()));
                }
            }
        }
        Ok(())
    }

    /// The node to be changed, or a new one.
    fn builder_of(&self, name: &[u8], zone: u16) -> Builder {
        match self.get(name) {
            Some(node) => node.to_builder(),
            None => Builder { name: name.to_vec(), zone, ..Builder::default() },
        }
    }

    /// Stores a node. A new one's parents come into being up to one that exists; those of an apex belong to the zone
    /// around it, if there is one.
    fn put(&mut self, builder: Builder) {
        let key = self.key;
        if self.nodes.insert(Node::new(&builder.finish()), &|name| key.hash(name)) {
            return;
        }
        if builder.name.starts_with(WILDCARD) && !self.zones[usize::from(builder.zone)].wildcards {
            Arc::make_mut(&mut self.zones)[usize::from(builder.zone)].wildcards = true;
        }
        let Some(parent) = name::parent(&builder.name) else { return };
        if let Some(zone) = self.zone_index(parent) {
            let mut parent = self.builder_of(parent, zone as u16);
            parent.children += 1;
            self.put(parent);
        }
    }

    /// Removes a node that has lost its last reason to exist, and then its parents that have.
    fn prune(&mut self, name: &[u8]) {
        let Some(node) = self.get(name) else { return };
        if node.is_apex() || !node.is_empty_non_terminal() || node.to_builder().children > 0 {
            return;
        }
        let key = self.key;
        self.nodes.remove(name, &|name| key.hash(name));
        let Some(parent) = name::parent(name) else { return };
        if let Some(node) = self.get(parent) {
            let mut builder = node.to_builder();
            builder.children = builder.children.saturating_sub(1);
            self.put(builder);
            self.prune(parent);
        }
    }
}

impl Default for Names {
    /// No zone, no name.
    fn default() -> Self {
        Self { key: HashKey::default(), zones: Arc::default(), depths: 0, nodes: Shelf::with_capacity(0) }
    }
}

impl HashKey {
    #[inline(always)]
    fn hash(self, name: &[u8]) -> u64 {
        let (words, rest) = name::folded_words(name);
        words.fold(Sip::new([self.0, self.1]), Sip::word).finish(rest, name.len())
    }
}

impl Authority {
    fn new(zone: &Zone) -> Result<Self, NamesError> {
        if zone.ttl_seconds.max(zone.cold_ttl_seconds) > TTL_SECONDS_MAX {
            return Err(NamesError::Ttl(zone.apex.clone()));
        }
        let negative_ttl_seconds = zone.ttl_seconds.min(zone.soa.minimum_ttl_seconds);
        Ok(Self {
            apex: zone.apex.clone(),
            ttl_seconds: zone.ttl_seconds,
            cold_ttl_seconds: zone.cold_ttl_seconds,
            wildcards: false,
            negative: record(RecordType::SOA, negative_ttl_seconds, &zone.soa.to_wire()).into(),
        })
    }

    /// The apex.
    pub fn apex(&self) -> &WireName {
        &self.apex
    }

    /// Time to live of the SOA, and of addresses of services that are warm.
    #[inline]
    pub fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    /// Time to live of addresses of services that aren't.
    #[inline]
    pub fn cold_ttl_seconds(&self) -> u32 {
        self.cold_ttl_seconds
    }

    /// The SOA of negative answers (RFC 2308 section 3). Its first two bytes are to be pointed at the apex.
    #[inline]
    pub fn negative(&self) -> &[u8] {
        &self.negative
    }
}

impl Builder {
    /// Adds the set of one type; none if there are no data.
    fn add_set(
        &mut self,
        owner: &WireName,
        kind: RecordType,
        data: Vec<(u32, &RecordData)>,
    ) -> Result<(), NamesError> {
        let Some(ttl_seconds) = data.iter().map(|(ttl_seconds, _)| *ttl_seconds).min() else { return Ok(()) };
        if ttl_seconds > TTL_SECONDS_MAX {
            return Err(NamesError::Ttl(owner.clone()));
        }
        let mut all: Vec<Vec<u8>> = Vec::with_capacity(data.len());
        for (_, data) in data {
            let data = data.to_wire().ok_or_else(|| NamesError::Text(owner.clone()))?;
            // No record twice in a set (RFC 2181 section 5).
            if !all.contains(&data) {
                all.push(data);
            }
        }
        let len: usize = all.iter().map(|data| RR_HEAD_LEN + data.len()).sum();
        if len > RRSET_WIRE_MAX {
            return Err(NamesError::RrsetTooLong(owner.clone(), kind));
        }
        let wire = all.iter().flat_map(|data| record(kind, ttl_seconds, data)).collect();
        self.sets.push(SetBuilder { kind, count: all.len() as u16, wire });
        Ok(())
    }
}

impl RecordData {
    /// The record's type.
    pub fn kind(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Ns(_) => RecordType::NS,
            Self::Txt(_) => RecordType::TXT,
            Self::Cname(_) => RecordType::CNAME,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// RDATA; `None` for text that has none.
    fn to_wire(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::A(addr) => addr.octets().to_vec(),
            Self::Aaaa(addr) => addr.octets().to_vec(),
            Self::Ns(name) | Self::Cname(name) => name.as_bytes().to_vec(),
            Self::Other { data, .. } => data.clone(),
            Self::Txt(strings) => {
                let len: usize = strings.iter().map(|string| string.len() + 1).sum();
                if strings.is_empty()
                    || strings.iter().any(|string| string.len() > TEXT_MAX)
                    || len > RRSET_WIRE_MAX
                {
                    return None;
                }
                strings.iter().flat_map(|string| [&[string.len() as u8], &string[..]].concat()).collect()
            }
        })
    }
}

impl Soa {
    fn to_wire(&self) -> Vec<u8> {
        let mut wire = [self.primary.as_bytes(), self.contact.as_bytes()].concat();
        let numbers = [
            self.serial,
            self.refresh_seconds,
            self.retry_seconds,
            self.expire_seconds,
            self.minimum_ttl_seconds,
        ];
        wire.extend(numbers.into_iter().flat_map(u32::to_be_bytes));
        wire
    }
}

/// A record of class IN whose owner is the question's name. `data` is at most [`RRSET_WIRE_MAX`] long.
fn record(kind: RecordType, ttl_seconds: u32, data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(RR_HEAD_LEN + data.len());
    wire.extend(OWNER);
    wire.extend(kind.0.to_be_bytes());
    wire.extend(CLASS_IN.to_be_bytes());
    wire.extend(ttl_seconds.to_be_bytes());
    wire.extend((data.len() as u16).to_be_bytes());
    wire.extend(data);
    wire
}

/// Labels of a name, without the root: at most 127, each taking two bytes of 255.
fn depth(wire: &[u8]) -> usize {
    name::suffixes(wire).count().saturating_sub(1)
}

fn refuse_wildcard(name: &WireName) -> Result<(), NamesError> {
    match name.as_bytes().starts_with(WILDCARD) {
        true => Err(NamesError::Wildcard(name.clone())),
        false => Ok(()),
    }
}

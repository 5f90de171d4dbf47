//! A hash map for large tables that are published as snapshots.
//!
//! A clone shares everything; a change copies one page, one directory and the root, whatever the size of the table. So
//! a million entries can be republished after each change, and readers of older snapshots see nothing of it.
//!
//! ```text
//!  root ──► directory ──► page: 32 tags (one byte of each hash) │ 32 slots: hash, key, value ──► next page, if full
//!  2^d pointers  2^p pointers        one cache line or less     │
//! ```
//!
//! The caller hashes (with a key that outsiders don't know), so that a vector of look-ups can be hashed first, probed
//! next ([`PagedMap::probe`] touches the line of tags) and compared last.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;

/// An immutable-snapshot hash map; see the [module](self).
pub struct PagedMap<K, V> {
    root: Arc<Root<K, V>>,
    len: usize,
}

/// The place where a key with some hash would be. Cheap to make; [`Probe::find`] compares.
pub struct Probe<'a, K, V> {
    page: &'a Page<K, V>,
    hash: u64,
    candidates: Candidates,
}

struct Root<K, V> {
    directories: Box<[Directory<K, V>]>,
    /// log2 of the number of directories.
    directory_bits: u32,
    /// log2 of the number of pages in each directory.
    page_bits: u32,
}

/// Pages, directly behind the root's pointer: one wait for memory less.
type Directory<K, V> = Arc<[Arc<Page<K, V>>]>;

#[repr(align(32))]
struct Page<K, V> {
    /// [`tag_of`] each slot's hash; 0 where there is no slot.
    tags: [u8; PAGE_SLOTS_MAX],
    slots: ArrayVec<Slot<K, V>, PAGE_SLOTS_MAX>,
    /// What didn't fit. Rare with an even hash, and still right with a bad one.
    next: Option<Arc<Page<K, V>>>,
}

#[derive(Clone)]
struct Slot<K, V> {
    hash: u64,
    key: K,
    value: V,
}

/// Slots of a page: their tags fill half a cache line, and a page is copied in well under a microsecond.
const PAGE_SLOTS_MAX: usize = 32;
/// Mean slots of a page at which the table doubles. A Poisson load of 20 overflows 32 in one page of 200.
const PAGE_LOAD_MAX: usize = 20;
/// log2 of the most pages a table may have; 2^24 pages hold 300 million entries.
const PAGES_LOG2_MAX: u32 = 24;

impl<K, V> PagedMap<K, V> {
    /// An empty map of one page.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty map that takes `entries` without rebuilding.
    pub fn with_capacity(entries: usize) -> Self {
        let pages = entries.div_ceil(PAGE_LOAD_MAX).max(1).next_power_of_two();
        Self { root: Arc::new(Root::new(pages.trailing_zeros().min(PAGES_LOG2_MAX))), len: 0 }
    }

    /// Entries in the map.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the map has no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Goes to the page of `hash` and compares tags. A miss mostly ends here.
    #[inline]
    pub fn probe(&self, hash: u64) -> Probe<'_, K, V> {
        let page = self.root.page(hash);
        Probe { page, hash, candidates: page.candidates(tag_of(hash)) }
    }

    /// The entry with this hash and key.
    #[inline]
    pub fn get<Q>(&self, hash: u64, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.probe(hash).find(key)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.root.slots().map(|slot| (&slot.key, &slot.value))
    }
}

impl<K: Clone + Eq, V: Clone> PagedMap<K, V> {
    /// Sets the entry of `key`, whose hash is `hash`, and returns the key and value that it replaces. Unlike in the
    /// standard map, the key is replaced too, for it may carry data beyond what is compared.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<(K, V)> {
        let slot = Slot { hash, key, value };
        let root = Arc::make_mut(&mut self.root);
        let old = root.page_mut(hash).insert(slot);
        if old.is_none() {
            self.len += 1;
            let pages_log2 = root.pages_log2();
            if self.len > PAGE_LOAD_MAX << pages_log2 && pages_log2 < PAGES_LOG2_MAX {
                self.root = Arc::new(root.doubled());
            }
        }
        old.map(|slot| (slot.key, slot.value))
    }

    /// Removes the entry of `key`, whose hash is `hash`, and returns it. A miss copies nothing.
    pub fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.get(hash, key)?;
        let old = Arc::make_mut(&mut self.root).page_mut(hash).remove(hash, key)?;
        self.len -= 1;
        Some((old.key, old.value))
    }
}

impl<'a, K, V> Probe<'a, K, V> {
    /// The entry with the probed hash and this key.
    #[inline]
    pub fn find<Q>(self, key: &Q) -> Option<(&'a K, &'a V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut page = self.page;
        let mut candidates = self.candidates;
        loop {
            for index in candidates {
                if let Some(slot) = page.slots.get(index)
                    && slot.is(self.hash, key)
                {
                    return Some((&slot.key, &slot.value));
                }
            }
            page = page.next.as_deref()?;
            candidates = page.candidates(tag_of(self.hash));
        }
    }
}

impl<K, V> Root<K, V> {
    fn new(pages_log2: u32) -> Self {
        let directory_bits = pages_log2.div_ceil(2);
        let page_bits = pages_log2 - directory_bits;
        let directory = || (0..1_usize << page_bits).map(|_| Arc::new(Page::new())).collect();
        let directories = (0..1_usize << directory_bits).map(|_| directory()).collect();
        Self { directories, directory_bits, page_bits }
    }

    fn pages_log2(&self) -> u32 {
        self.directory_bits + self.page_bits
    }

    /// Indices of directory and page. The masks keep them in range; tags come from the other end of the hash.
    #[inline]
    fn place(&self, hash: u64) -> (usize, usize) {
        let directory = hash as usize & (self.directories.len() - 1);
        let page = (hash >> self.directory_bits) as usize & ((1 << self.page_bits) - 1);
        (directory, page)
    }

    #[inline]
    fn page(&self, hash: u64) -> &Page<K, V> {
        let (directory, page) = self.place(hash);
        &self.directories[directory][page]
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<K, V>> + Clone {
        self.directories.iter().flat_map(|directory| &**directory).flat_map(|page| {
            std::iter::successors(Some(&**page), |page| page.next.as_deref()).flat_map(|page| &page.slots)
        })
    }
}

impl<K: Clone + Eq, V: Clone> Root<K, V> {
    fn page_mut(&mut self, hash: u64) -> &mut Page<K, V> {
        let (directory, page) = self.place(hash);
        Arc::make_mut(&mut Arc::make_mut(&mut self.directories[directory])[page])
    }

    /// The same entries in twice the pages.
    fn doubled(&self) -> Self {
        let mut root = Self::new(self.pages_log2() + 1);
        for slot in self.slots() {
            root.page_mut(slot.hash).push(slot.clone());
        }
        root
    }
}

impl<K, V> Page<K, V> {
    fn new() -> Self {
        Self { tags: [0; PAGE_SLOTS_MAX], slots: ArrayVec::new(), next: None }
    }

    #[inline]
    fn candidates(&self, tag: u8) -> Candidates {
        Candidates::new(&self.tags, tag)
    }
}

impl<K: Clone + Eq, V: Clone> Page<K, V> {
    fn insert(&mut self, slot: Slot<K, V>) -> Option<Slot<K, V>> {
        let probe = Probe { page: self, hash: slot.hash, candidates: self.candidates(tag_of(slot.hash)) };
        if probe.find(&slot.key).is_some() {
            return self.replace(slot);
        }
        self.push(slot);
        None
    }

    fn position<Q>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.slots.iter().position(|slot| slot.is(hash, key))
    }

    fn replace(&mut self, new: Slot<K, V>) -> Option<Slot<K, V>> {
        match self.position(new.hash, &new.key) {
            Some(index) => Some(std::mem::replace(&mut self.slots[index], new)),
            None => Arc::make_mut(self.next.as_mut()?).replace(new),
        }
    }

    /// Adds a slot whose key isn't in the chain.
    fn push(&mut self, slot: Slot<K, V>) {
        let (index, tag) = (self.slots.len(), tag_of(slot.hash));
        match self.slots.try_push(slot) {
            Ok(()) => self.tags[index] = tag,
            Err(full) => {
                let next = self.next.get_or_insert_with(|| Arc::new(Page::new()));
                Arc::make_mut(next).push(full.element());
            }
        }
    }

    fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<Slot<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if let Some(index) = self.position(hash, key) {
            let old = self.slots.swap_remove(index);
            self.tags.swap(index, self.slots.len());
            self.tags[self.slots.len()] = 0;
            return Some(old);
        }
        let next = Arc::make_mut(self.next.as_mut()?);
        let old = next.remove(hash, key);
        if next.slots.is_empty() {
            self.next = next.next.take();
        }
        old
    }
}

impl<K, V> Slot<K, V> {
    #[inline]
    fn is<Q>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.hash == hash && self.key.borrow() == key
    }
}

/// The top byte of a hash, never 0. Places use the low bits.
#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// Slots whose tag may match: one bit per slot, eight tags compared at a time. A slot behind a matching one can be
/// named wrongly (a borrow in the subtraction); its hash is compared anyway.
#[derive(Clone)]
struct Candidates {
    words: [u64; PAGE_SLOTS_MAX / 8],
    word: usize,
}

impl Candidates {
    #[inline]
    fn new(tags: &[u8; PAGE_SLOTS_MAX], tag: u8) -> Self {
        const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
        const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
        let mut words = [0; PAGE_SLOTS_MAX / 8];
        let (chunks, _) = tags.as_chunks::<8>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            let differs = u64::from_le_bytes(*chunk) ^ (LOW * u64::from(tag));
            *word = differs.wrapping_sub(LOW) & !differs & HIGH;
        }
        Self { words, word: 0 }
    }
}

impl Iterator for Candidates {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        loop {
            let bits = self.words.get_mut(self.word)?;
            if *bits != 0 {
                let index = self.word * 8 + bits.trailing_zeros() as usize / 8;
                *bits &= *bits - 1;
                return Some(index);
            }
            self.word += 1;
        }
    }
}

impl<K, V> Clone for PagedMap<K, V> {
    /// One reference more: no entry is copied.
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), len: self.len }
    }
}

impl<K, V> Default for PagedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for PagedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K, V> Clone for Root<K, V> {
    fn clone(&self) -> Self {
        Self { directories: self.directories.clone(), ..*self }
    }
}

impl<K: Clone, V: Clone> Clone for Page<K, V> {
    fn clone(&self) -> Self {
        Self { tags: self.tags, slots: self.slots.clone(), next: self.next.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// What is done to a map: `None` removes.
    type Change = (u16, Option<u32>);

    /// Three hashes: an even one, one that fills few pages, and one that is the same for all.
    fn hash(kind: u8, key: u16) -> u64 {
        match kind {
            0 => u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            1 => u64::from(key % 7) << 56 | u64::from(key % 3),
            _ => 0,
        }
    }

    fn apply(map: &mut PagedMap<u16, u32>, model: &mut HashMap<u16, u32>, kind: u8, (key, value): Change) {
        let old = match value {
            Some(value) => (map.insert(hash(kind, key), key, value), model.insert(key, value)),
            None => (map.remove(hash(kind, key), &key), model.remove(&key)),
        };
        assert_eq!(old.0, old.1.map(|value| (key, value)));
    }

    fn assert_same(map: &PagedMap<u16, u32>, model: &HashMap<u16, u32>, kind: u8) {
        assert_eq!(map.len(), model.len());
        assert_eq!(map.iter().map(|(key, value)| (*key, *value)).collect::<HashMap<_, _>>(), *model);
        assert_eq!(map.iter().count(), model.len(), "no key twice");
        for key in 0..300 {
            assert_eq!(map.get(hash(kind, key), &key).map(|(_, value)| value), model.get(&key));
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_old_snapshots_never_change(
            kind in 0_u8..3,
            changes in prop::collection::vec((0_u16..300, prop::option::weighted(0.7, any::<u32>())), 0..900),
            kept_after in prop::collection::btree_set(0_usize..900, 0..4),
        ) {
            let (mut map, mut model, mut kept) = (PagedMap::new(), HashMap::new(), Vec::new());
            for (index, change) in changes.into_iter().enumerate() {
                apply(&mut map, &mut model, kind, change);
                if kept_after.contains(&index) {
                    kept.push((map.clone(), model.clone()));
                }
            }
            assert_same(&map, &model, kind);
            for (map, model) in &kept {
                assert_same(map, model, kind);
            }
        }
    }

    #[test]
    fn candidates_name_every_slot_with_the_tag() {
        let mut tags = [0_u8; PAGE_SLOTS_MAX];
        for (index, tag) in tags.iter_mut().enumerate() {
            *tag = [7, 6, 0x80, 0xff][index % 4];
        }
        for tag in [7, 6, 0x80, 0xff] {
            let found: Vec<_> = Candidates::new(&tags, tag).collect();
            let wanted = (0..PAGE_SLOTS_MAX).filter(|index| tags[*index] == tag);
            assert!(wanted.into_iter().all(|index| found.contains(&index)), "{tag}: {found:?}");
        }
        assert_eq!(Candidates::new(&tags, 9).count(), 0);
    }

    #[test]
    fn a_change_shares_all_but_one_page_and_one_directory() {
        let mut map = PagedMap::with_capacity(10_000);
        for key in 0..10_000_u16 {
            map.insert(hash(0, key), key, 0_u32);
        }
        let old = map.clone();
        map.insert(hash(0, 5), 5, 1);
        let pairs = || old.root.directories.iter().zip(&map.root.directories);
        assert_eq!(pairs().filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
        let pages = pairs().flat_map(|(old, new)| old.iter().zip(&**new));
        assert_eq!(pages.filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
        assert_eq!(old.get(hash(0, 5), &5), Some((&5, &0)));
    }

    #[test]
    fn growth_keeps_pages_short() {
        let mut map = PagedMap::new();
        for key in 0..u16::MAX {
            map.insert(hash(0, key), key, ());
        }
        let pages = 1 << map.root.pages_log2();
        assert!(map.len() <= pages * PAGE_LOAD_MAX && map.len() * 4 > pages * PAGE_LOAD_MAX, "{pages} pages");
    }
}

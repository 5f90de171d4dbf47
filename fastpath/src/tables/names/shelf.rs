//! Where the nodes stand: a hash table whose pages hold their entries themselves, published as snapshots.
//!
//! A look-up reads one line of the page's index, which names the line where the node begins: two lines of memory that aren't
//! in the cache, however large the table is, for a node of up to 64 bytes (a short name with an address). A vector of
//! look-ups asks for all of the first, then for all of the second ([`Shelf::prefetch_bucket`], [`Shelf::prefetch_node`]).
//!
//! ```text
//!  root ──► directory ──► page: │ bucket │ bucket │ … │ node │ node    │ node │ …     lines of 64 bytes
//!                               └ 8 tags, 8 lines ──────────▲
//! ```
//!
//! A clone shares everything; a change copies one page, one directory and the root. A page is a run of bytes without
//! pointers, so that copying it costs what its bytes cost.

use std::fmt;
use std::iter::repeat_n;
use std::sync::Arc;

use super::node::Node;
use crate::driver::Frame;

/// The nodes of a table; see the [module](self). Hashes come from the caller, with a key that outsiders don't know.
#[derive(Clone)]
pub(super) struct Shelf {
    root: Arc<Root>,
    len: usize,
}

#[derive(Clone)]
#[repr(align(64))] // see `Tables`
struct Root {
    directories: Box<[Arc<[Page]>]>,
    /// log2 of the number of directories.
    directory_bits: u32,
    /// log2 of the number of pages in each directory.
    page_bits: u32,
}

#[derive(Clone)]
struct Page {
    bytes: Arc<[u8]>,
    /// Lines in use, buckets among them.
    lines: u32,
    /// log2 of the number of buckets.
    bucket_bits: u8,
    /// Where the first whole cache line of `bytes` begins.
    base: u8,
}

/// Bytes of a line.
const LINE: usize = 64;
/// Entries of a bucket: a line of them.
const WAYS: usize = 8;
/// log2 of the buckets of a page: with its nodes it has some 20 KiB, copied in a few microseconds.
const BUCKET_BITS: u8 = 6;
/// Mean entries of a page at which the table doubles: four a bucket, of which one in fifty then has more than it holds.
const PAGE_LOAD_MAX: usize = 4 << BUCKET_BITS;
/// Entries of a bucket, on average, at which a page doubles its index: far from full, so that a search finds an end. Only
/// where hashes are bad or the table is as large as it gets.
const BUCKET_LOAD_MAX: usize = 6;
/// log2 of the most pages a table may have; 2^20 pages hold 268 million entries.
const PAGES_LOG2_MAX: u32 = 20;
/// Marks an entry whose node has more than one line, for those who fetch it ahead.
const LONG: u32 = 1 << 31;
/// Where the bits of a hash begin that name the bucket: behind those that name the page.
const BUCKET_AT: u32 = 24;
const _: () = assert!(PAGES_LOG2_MAX <= BUCKET_AT);

impl Shelf {
    /// An empty table that takes `nodes` without rebuilding.
    pub(super) fn with_capacity(nodes: usize) -> Self {
        let pages = nodes.div_ceil(PAGE_LOAD_MAX).max(1).next_power_of_two();
        Self { root: Arc::new(Root::new(pages.trailing_zeros().min(PAGES_LOG2_MAX))), len: 0 }
    }

    /// Nodes in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The node with this hash that `is` the one.
    #[inline(always)]
    pub(super) fn get<'a>(&'a self, hash: u64, is: impl Fn(Node<'a>) -> bool) -> Option<Node<'a>> {
        let page = self.root.page(hash);
        page.find(hash, is).map(|line| page.node(line))
    }

    /// Asks memory for the line of the index that `hash` leads to.
    #[inline(always)]
    pub(super) fn prefetch_bucket<F: Frame>(&self, hash: u64) {
        let page = self.root.page(hash);
        F::prefetch(page.line(page.bucket_of(hash)));
    }

    /// Asks memory for the node that `hash` most likely leads to.
    #[inline(always)]
    pub(super) fn prefetch_node<F: Frame>(&self, hash: u64) {
        let page = self.root.page(hash);
        let bucket = page.line(page.bucket_of(hash));
        let Some(way) = ways_of(bucket, tag_of(hash)).next() else { return };
        F::prefetch(page.line(line_at(bucket, way)));
        // Most have no second one.
        if word_at(bucket, WAYS + way) & LONG != 0 {
            F::prefetch(page.line(line_at(bucket, way) + 1));
        }
    }

    /// All nodes, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Node<'_>> {
        self.root.directories.iter().flat_map(|directory| &**directory).flat_map(Page::nodes)
    }

    /// Puts a node in, in place of the one of its name; whether there was one. `hash_of` gives a name's hash.
    pub(super) fn insert(&mut self, node: Node<'_>, hash_of: &impl Fn(&[u8]) -> u64) -> bool {
        let hash = hash_of(node.name());
        let root = Arc::make_mut(&mut self.root);
        if root.page_mut(hash).insert(hash, node, hash_of) {
            return true;
        }
        self.len += 1;
        if self.len > PAGE_LOAD_MAX << root.pages_log2() && root.pages_log2() < PAGES_LOG2_MAX {
            self.root = Arc::new(root.doubled(hash_of));
        }
        false
    }

    /// Takes the node of `name` out; whether there was one. A miss copies nothing.
    pub(super) fn remove(&mut self, name: &[u8], hash_of: &impl Fn(&[u8]) -> u64) -> bool {
        let hash = hash_of(name);
        let is = |node: Node<'_>| node.name() == name;
        let Some(line) = self.root.page(hash).find(hash, is) else { return false };
        let page = Arc::make_mut(&mut self.root).page_mut(hash);
        *page = page.rebuilt(page.bucket_bits, Some(line), hash_of);
        self.len -= 1;
        true
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Root {
    fn new(pages_log2: u32) -> Self {
        let directory_bits = pages_log2.div_ceil(2);
        let page_bits = pages_log2 - directory_bits;
        let directory = || (0..1_usize << page_bits).map(|_| Page::new(BUCKET_BITS, 0)).collect();
        let directories = (0..1_usize << directory_bits).map(|_| directory()).collect();
        Self { directories, directory_bits, page_bits }
    }

    fn pages_log2(&self) -> u32 {
        self.directory_bits + self.page_bits
    }

    /// Indices of directory and page. The masks keep them in range.
    #[inline(always)]
    fn place(&self, hash: u64) -> (usize, usize) {
        let directory = hash as usize & (self.directories.len() - 1);
        let page = (hash >> self.directory_bits) as usize & ((1 << self.page_bits) - 1);
        (directory, page)
    }

    #[inline(always)]
    fn page(&self, hash: u64) -> &Page {
        let (directory, page) = self.place(hash);
        &self.directories[directory][page]
    }

    fn page_mut(&mut self, hash: u64) -> &mut Page {
        let (directory, page) = self.place(hash);
        &mut Arc::make_mut(&mut self.directories[directory])[page]
    }

    /// The same nodes in twice the pages.
    fn doubled(&self, hash_of: &impl Fn(&[u8]) -> u64) -> Self {
        let mut root = Self::new(self.pages_log2() + 1);
        for node in self.directories.iter().flat_map(|directory| &**directory).flat_map(Page::nodes) {
            let hash = hash_of(node.name());
            root.page_mut(hash).add(hash, node, hash_of);
        }
        root
    }
}

impl Page {
    /// An empty page with room for `room` lines of nodes.
    fn new(bucket_bits: u8, room: usize) -> Self {
        let lines = 1_u32 << bucket_bits;
        // One line more, of which one end or the other is left over.
        let bytes: Arc<[u8]> = repeat_n(0, (lines as usize + room + 1) * LINE).collect();
        let base = (bytes.as_ptr().addr().wrapping_neg() % LINE) as u8;
        Self { bytes, lines, bucket_bits, base }
    }

    #[inline(always)]
    fn buckets(&self) -> u32 {
        1 << self.bucket_bits
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> u32 {
        (hash >> BUCKET_AT) as u32 & (self.buckets() - 1)
    }

    #[inline(always)]
    fn at(&self, line: u32) -> usize {
        usize::from(self.base) + line as usize * LINE
    }

    #[inline(always)]
    fn line(&self, line: u32) -> &[u8; LINE] {
        self.bytes[self.at(line)..].first_chunk().expect("a line in use is whole")
    }

    /// The node that begins in this line. Whatever follows in the page is behind its own end.
    #[inline(always)]
    fn node(&self, line: u32) -> Node<'_> {
        Node::new(self.bytes.get(self.at(line)..).unwrap_or(&[]))
    }

    fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.entries().map(|(_, line)| self.node(line))
    }

    /// Tags and lines of all nodes.
    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.buckets()).flat_map(|bucket| {
            let bucket = self.line(bucket);
            (0..WAYS).map(|way| (tag_at(bucket, way), line_at(bucket, way))).filter(|(_, line)| *line != 0)
        })
    }

    /// The line of the node with this hash that `is` the one.
    #[inline(always)]
    fn find<'a>(&'a self, hash: u64, is: impl Fn(Node<'a>) -> bool) -> Option<u32> {
        let home = self.bucket_of(hash);
        for step in 0..self.buckets() {
            let bucket = self.line((home + step) & (self.buckets() - 1));
            for way in ways_of(bucket, tag_of(hash)) {
                let line = line_at(bucket, way);
                if line != 0 && is(self.node(line)) {
                    return Some(line);
                }
            }
            // What didn't fit stands in the next bucket, or beyond.
            if !is_full(bucket) {
                break;
            }
        }
        None
    }

    fn insert(&mut self, hash: u64, node: Node<'_>, hash_of: &impl Fn(&[u8]) -> u64) -> bool {
        match self.find(hash, |other| other.name() == node.name()) {
            None => {
                self.add(hash, node, hash_of);
                false
            }
            Some(line) if lines_of(node) <= lines_of(self.node(line)) => {
                self.write(line, node.bytes());
                true
            }
            Some(line) => {
                *self = self.rebuilt(self.bucket_bits, Some(line), hash_of);
                self.add(hash, node, hash_of);
                true
            }
        }
    }

    /// Adds a node whose name isn't there.
    fn add(&mut self, hash: u64, node: Node<'_>, hash_of: &impl Fn(&[u8]) -> u64) {
        let is_crowded = || self.entries().count() >= BUCKET_LOAD_MAX << self.bucket_bits;
        if is_full(self.line(self.bucket_of(hash))) && is_crowded() {
            *self = self.rebuilt(self.bucket_bits + 1, None, hash_of);
        }
        self.place(hash, node);
    }

    fn place(&mut self, hash: u64, node: Node<'_>) {
        let line = self.lines;
        self.make_room(lines_of(node));
        self.lines += lines_of(node) as u32;
        self.write(line, node.bytes());
        let mut number = self.bucket_of(hash);
        while is_full(self.line(number)) {
            number = (number + 1) & (self.buckets() - 1);
        }
        let mut bucket = *self.line(number);
        // Ways fill from the front.
        let way = (0..WAYS).find(|way| line_at(&bucket, *way) == 0).unwrap_or(WAYS - 1);
        let entry = if lines_of(node) > 1 { line | LONG } else { line };
        bucket[way * 4..][..4].copy_from_slice(&tag_of(hash).to_le_bytes());
        bucket[(WAYS + way) * 4..][..4].copy_from_slice(&entry.to_le_bytes());
        self.write(number, &bucket);
    }

    /// The same nodes, without the one that begins at `without`.
    fn rebuilt(&self, bucket_bits: u8, without: Option<u32>, hash_of: &impl Fn(&[u8]) -> u64) -> Self {
        let mut page = Self::new(bucket_bits, (self.lines - self.buckets()) as usize);
        for (_, line) in self.entries().filter(|(_, line)| Some(*line) != without) {
            let node = self.node(line);
            page.place(hash_of(node.name()), node);
        }
        page
    }

    fn write(&mut self, line: u32, bytes: &[u8]) {
        self.make_room(0);
        let at = self.at(line);
        let own = Arc::get_mut(&mut self.bytes).expect("nobody shares a page that room was made in");
        own[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the page ours alone, with so many free lines.
    fn make_room(&mut self, lines: usize) {
        let free = (self.bytes.len() - usize::from(self.base)) / LINE - self.lines as usize;
        let shared = Arc::get_mut(&mut self.bytes).is_none();
        if !shared && free >= lines {
            return;
        }
        // A page that nobody has seen yet is being filled: the next node follows.
        let room = if shared { lines } else { lines.max(self.lines as usize / 4) };
        let used = self.lines as usize * LINE;
        let mut page = Self::new(self.bucket_bits, self.lines as usize - self.buckets() as usize + room);
        let own = Arc::get_mut(&mut page.bytes).expect("it was just made");
        own[usize::from(page.base)..][..used].copy_from_slice(&self.bytes[usize::from(self.base)..][..used]);
        page.lines = self.lines;
        *self = page;
    }
}

/// The ways of a bucket that have this tag. All eight compared at once: this becomes two vector instructions and a mask.
#[inline(always)]
fn ways_of(bucket: &[u8; LINE], tag: u32) -> impl Iterator<Item = usize> + use<> {
    let mut mask = 0_u32;
    for way in 0..WAYS {
        mask |= u32::from(tag_at(bucket, way) == tag) << way;
    }
    std::iter::from_fn(move || {
        let way = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (way < WAYS).then_some(way)
    })
}

#[inline(always)]
fn tag_at(bucket: &[u8; LINE], way: usize) -> u32 {
    word_at(bucket, way)
}

/// The line that a way leads to; 0 for none.
#[inline(always)]
fn line_at(bucket: &[u8; LINE], way: usize) -> u32 {
    word_at(bucket, WAYS + way) & !LONG
}

/// Ways fill from the front, and are emptied by making the page anew.
#[inline(always)]
fn is_full(bucket: &[u8; LINE]) -> bool {
    line_at(bucket, WAYS - 1) != 0
}

#[inline(always)]
fn word_at(bucket: &[u8; LINE], at: usize) -> u32 {
    let (words, _) = bucket.as_chunks::<4>();
    u32::from_le_bytes(words[at])
}

/// The upper half of a hash; places use the lower one.
#[inline(always)]
fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Lines that a node takes.
fn lines_of(node: Node<'_>) -> usize {
    node.bytes().len().div_ceil(LINE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::node::{Builder, SetBuilder};
    use super::*;
    use crate::dns::RecordType;
    use crate::sip::Sip;

    fn name(number: u16) -> Vec<u8> {
        [b"\x02".as_slice(), &number.to_be_bytes(), b"\0"].concat()
    }

    /// A node with so many bytes of a record.
    fn node(number: u16, bytes: usize) -> Vec<u8> {
        let set = SetBuilder { kind: RecordType::A, count: 1, wire: vec![number as u8; bytes] };
        Builder { name: name(number), sets: vec![set], ..Builder::default() }.finish()
    }

    /// An even hash, one that fills few buckets, and one that is the same for all.
    fn hash(kind: u8) -> impl Fn(&[u8]) -> u64 {
        move |name: &[u8]| {
            let number = u64::from(u16::from_be_bytes([name[1], name[2]]));
            match kind {
                0 => Sip::new([1, 2]).finish(number, 2),
                1 => (number % 7) << 32 | (number % 3) << BUCKET_AT,
                _ => 0,
            }
        }
    }

    fn assert_same(shelf: &Shelf, model: &BTreeMap<u16, Vec<u8>>, kind: u8) {
        assert_eq!(shelf.len(), model.len());
        let all: BTreeMap<Vec<u8>, Vec<u8>> =
            shelf.iter().map(|node| (node.name().to_vec(), node.bytes().to_vec())).collect();
        assert_eq!(shelf.iter().count(), model.len(), "no name twice");
        let expected: BTreeMap<Vec<u8>, Vec<u8>> =
            model.iter().map(|(number, node)| (name(*number), node.clone())).collect();
        assert_eq!(all, expected);
        for number in 0..1000 {
            let name = name(number);
            let found = shelf.get(hash(kind)(&name), |node| node.name() == name);
            assert_eq!(found.map(|node| node.bytes()), model.get(&number).map(Vec::as_slice));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_map_and_old_snapshots_never_change(
            kind in 0_u8..3,
            changes in prop::collection::vec((0_u16..1000, prop::option::weighted(0.8, 0_usize..200)), 0..1500),
            kept_after in prop::collection::btree_set(0_usize..1500, 0..4),
        ) {
            let (mut shelf, mut model, mut kept) = (Shelf::with_capacity(0), BTreeMap::new(), Vec::new());
            for (index, (number, change)) in changes.into_iter().enumerate() {
                let had = match change {
                    Some(bytes) => {
                        let node = node(number, bytes);
                        let had = shelf.insert(Node::new(&node), &hash(kind));
                        (had, model.insert(number, node).is_some())
                    }
                    None => (shelf.remove(&name(number), &hash(kind)), model.remove(&number).is_some()),
                };
                prop_assert_eq!(had.0, had.1);
                if kept_after.contains(&index) {
                    kept.push((shelf.clone(), model.clone()));
                }
            }
            assert_same(&shelf, &model, kind);
            for (shelf, model) in &kept {
                assert_same(shelf, model, kind);
            }
        }
    }

    #[test]
    fn a_change_shares_all_but_one_page() {
        let mut shelf = Shelf::with_capacity(10_000);
        for number in 0..10_000 {
            shelf.insert(Node::new(&node(number, 16)), &hash(0));
        }
        let old = shelf.clone();
        assert!(shelf.insert(Node::new(&node(5, 16)), &hash(0)));
        let pages = |shelf: &Shelf| {
            let pages = shelf.root.directories.iter().flat_map(|directory| directory.iter());
            pages.map(|page| page.bytes.clone()).collect::<Vec<_>>()
        };
        let (old, new) = (pages(&old), pages(&shelf));
        assert_eq!(old.iter().zip(&new).filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
        assert_eq!(old.len(), 64);
    }

    #[test]
    fn a_short_name_with_an_address_is_one_line_of_a_cache() {
        let mut shelf = Shelf::with_capacity(0);
        shelf.insert(Node::new(&node(5, 28)), &hash(0));
        let page = &shelf.root.directories[0][0];
        let line = page.line(page.buckets());
        assert_eq!(line.as_ptr().addr() % LINE, 0);
        assert_eq!(lines_of(page.node(page.buckets())), 1);
    }
}

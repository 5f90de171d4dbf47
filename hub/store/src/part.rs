//! A content that is arriving: its file, and what is known of each of its groups.
//!
//! ```text
//!  write ──► pieces of a group ──► all of it there: hash ──► whole      (the list of hashes is known: only if it agrees)
//!    └─ what is there already is left alone: neither duplicates nor forgeries change what has arrived
//! ```

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::File;
use crate::ledger::{Batch, Rows, Table};
use crate::ranges::Ranges;
use crate::root::Root;
use crate::time::Millis;
use crate::tree::{self, GROUP, Group, Tree};

/// An arriving content. Its lock is held while bytes are written and hashed, never while they are synced.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) root: Root,
    pub(crate) size: u64,
    pub(crate) data: Arc<dyn File>,
    pub(crate) list: Arc<dyn File>,
    arrived: Mutex<Arrived>,
}

#[derive(Debug)]
struct Arrived {
    groups: Vec<Arrival>,
    /// The hash of each group that is whole; of every group, if the list is known.
    hashes: Vec<[u8; 32]>,
    /// Whether `hashes` has been checked against the root, so that each group can be verified as it gets whole.
    known: bool,
    whole: u32,
    held: u64,
    /// Changed since the last checkpoint.
    dirty: BTreeSet<Group>,
    dirty_bytes: u64,
    dirty_since: Option<Millis>,
    written: Millis,
    /// Groups with a row of pieces in the ledger.
    rows: BTreeSet<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Arrival {
    Pieces(Ranges),
    Whole,
}

/// What became of bytes that arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were new.
    pub new: u64,
    /// Groups that are whole now and weren't before.
    pub whole: u32,
    /// Groups whose bytes had all arrived and weren't the content's: they are missing again.
    pub refused: u32,
    /// Whether every group is whole now, so that the content can be completed.
    pub all: bool,
}

impl Part {
    /// A content of which nothing has arrived.
    pub(crate) fn new(root: Root, size: u64, data: Arc<dyn File>, list: Arc<dyn File>, now: Millis) -> Self {
        let count = tree::groups(size) as usize;
        let arrived = Arrived {
            groups: vec![Arrival::Pieces(Ranges::new()); count],
            hashes: vec![[0; 32]; count],
            known: false,
            whole: 0,
            held: 0,
            dirty: BTreeSet::new(),
            dirty_bytes: 0,
            dirty_since: None,
            written: now,
            rows: BTreeSet::new(),
        };
        Self { root, size, data, list, arrived: Mutex::new(arrived) }
    }

    /// What was complete but for one group, whose bytes went bad.
    pub(crate) fn damaged(tree: &Tree, bad: Group, files: [Arc<dyn File>; 2], now: Millis) -> Self {
        let [data, list] = files;
        let part = Self::new(tree.root(), tree.size(), data, list, now);
        {
            let mut arrived = part.lock();
            arrived.hashes = tree.hashes().to_vec();
            arrived.known = true;
            for group in (0..tree.hashes().len() as Group).filter(|group| *group != bad) {
                arrived.set_whole(group, tree.size());
            }
            arrived.dirty = (0..tree.hashes().len() as Group).collect();
            arrived.dirty_since = Some(now);
        }
        part
    }

    /// Takes over what the ledger says has arrived: durable before it said so, hence not read again. With the list
    /// known, what else is in the file is hashed: groups written after the last checkpoint are kept if they got to the disk.
    pub(crate) fn recover(&self, rows: &Rows, known: bool) -> io::Result<()> {
        let mut arrived = self.lock();
        let mut list = vec![[0_u8; 32]; arrived.hashes.len()];
        self.list.read(0, list.as_flattened_mut())?;
        if known && tree::root(&list) == self.root {
            arrived.known = true;
        }
        arrived.hashes = list;
        for (key, page) in rows.of(Table::Whole, self.root.as_bytes()) {
            let Some(first) = number(&key[Root::LEN..]) else { continue };
            let bits = page.iter().enumerate().flat_map(|(at, byte)| {
                (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at as Group * 8 + bit)
            });
            for group in bits.map(|bit| first * PAGE + bit) {
                if (group as usize) < arrived.groups.len() {
                    arrived.set_whole(group, self.size);
                }
            }
        }
        for (key, pieces) in rows.of(Table::Pieces, self.root.as_bytes()) {
            let Some(group) = number(&key[Root::LEN..]) else { continue };
            let span = tree::span(group, self.size);
            let Some(Arrival::Pieces(_)) = arrived.groups.get(group as usize) else { continue };
            let ranges = read_pieces(pieces, span.start).filter(|piece| piece.end <= span.end);
            let ranges: Ranges = ranges.collect();
            arrived.held += ranges.total();
            arrived.groups[group as usize] = Arrival::Pieces(ranges);
            arrived.rows.insert(group);
        }
        if arrived.known {
            for group in 0..arrived.groups.len() as Group {
                if arrived.groups[group as usize] != Arrival::Whole
                    && self.hash(group).is_ok_and(|hash| hash == arrived.hashes[group as usize])
                {
                    arrived.set_whole(group, self.size);
                    arrived.dirty.insert(group);
                }
            }
        }
        Ok(())
    }

    /// Puts bytes in their place, at any offset and in any order; the range lies within the content.
    ///
    /// # Errors
    ///
    /// What was written before the error stays; the rest is missing as before.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8], now: Millis) -> io::Result<Written> {
        let mut arrived = self.lock();
        let mut done = Written::default();
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let group = (at / GROUP) as Group;
            let span = tree::span(group, self.size);
            let within = at..end.min(span.end);
            at = within.end;
            let Arrival::Pieces(pieces) = &arrived.groups[group as usize] else { continue };
            for gap in pieces.gaps(within) {
                self.data
                    .write(gap.start, &bytes[(gap.start - offset) as usize..(gap.end - offset) as usize])?;
                done.new += gap.end - gap.start;
                arrived.add(group, gap, now);
            }
            if arrived.is_filled(group, &span) {
                match self.close(&mut arrived, group)? {
                    true => done.whole += 1,
                    false => done.refused += 1,
                }
            }
        }
        done.all = arrived.all();
        Ok(done)
    }

    /// Hashes a group that is there to its last byte; says whether it is the content's, as far as is known.
    fn close(&self, arrived: &mut Arrived, group: Group) -> io::Result<bool> {
        let hash = self.hash(group).inspect_err(|_| arrived.forget(group, self.size))?;
        if arrived.known && arrived.hashes[group as usize] != hash {
            arrived.forget(group, self.size);
            return Ok(false);
        }
        if !arrived.known {
            arrived.hashes[group as usize] = hash;
            self.list
                .write(u64::from(group) * 32, &hash)
                .inspect_err(|_| arrived.forget(group, self.size))?;
        }
        arrived.set_whole(group, self.size);
        Ok(true)
    }

    fn hash(&self, group: Group) -> io::Result<[u8; 32]> {
        let span = tree::span(group, self.size);
        let mut bytes = vec![0; (span.end - span.start) as usize];
        self.data.read(span.start, &mut bytes)?;
        Ok(tree::hash_group(group, self.size, &bytes))
    }

    /// Learns the groups' hashes: from now on each group is verified as it gets whole. Returns how many groups that
    /// were taken for whole aren't the content's, and are missing again.
    pub(crate) fn learn(&self, tree: &Tree, now: Millis) -> io::Result<u32> {
        let mut arrived = self.lock();
        if arrived.known {
            return Ok(0);
        }
        self.list.write(0, tree.hashes().as_flattened())?;
        self.list.sync()?;
        let mut refused = 0;
        for group in 0..arrived.groups.len() as Group {
            let right = arrived.hashes[group as usize] == tree.hashes()[group as usize];
            if arrived.groups[group as usize] == Arrival::Whole && !right {
                arrived.forget(group, self.size);
                refused += 1;
            }
        }
        arrived.hashes = tree.hashes().to_vec();
        arrived.known = true;
        arrived.dirty_since.get_or_insert(now);
        Ok(refused)
    }

    /// Whether the groups' hashes are known.
    pub(crate) fn is_known(&self) -> bool {
        self.lock().known
    }

    /// The checked list, if all is there and is the content. Hashes that were kept on disk may have gone bad, so before
    /// the content is said to be wrong, all of it is hashed again.
    pub(crate) fn finished(&self) -> io::Result<Finished> {
        let mut arrived = self.lock();
        if !arrived.all() {
            return Ok(Finished::Incomplete);
        }
        if let Some(tree) = Tree::check(self.root, self.size, arrived.hashes.clone()) {
            return Ok(Finished::Right(tree));
        }
        for group in 0..arrived.groups.len() as Group {
            arrived.hashes[group as usize] = self.hash(group)?;
        }
        Ok(Tree::check(self.root, self.size, arrived.hashes.clone()).map_or(Finished::Wrong, Finished::Right))
    }

    /// Forgets a group that was taken for whole: it is to come again.
    pub(crate) fn forget(&self, group: Group, now: Millis) {
        let mut arrived = self.lock();
        if arrived.groups[group as usize] == Arrival::Whole {
            arrived.forget(group, self.size);
            arrived.dirty_since.get_or_insert(now);
        }
    }

    /// Forgets all that has arrived.
    pub(crate) fn forget_all(&self, now: Millis) {
        let mut arrived = self.lock();
        (0..arrived.groups.len() as Group).for_each(|group| arrived.forget(group, self.size));
        arrived.dirty_since.get_or_insert(now);
    }

    /// What is missing, in growing order.
    pub(crate) fn missing(&self) -> Ranges {
        let arrived = self.lock();
        let groups = arrived.groups.iter().enumerate();
        groups
            .flat_map(|(group, arrival)| match arrival {
                Arrival::Whole => Vec::new(),
                Arrival::Pieces(pieces) => pieces.gaps(tree::span(group as Group, self.size)),
            })
            .collect()
    }

    /// Whether all bytes of a range are there; it lies within the content.
    pub(crate) fn has(&self, range: Range<u64>) -> bool {
        let arrived = self.lock();
        let groups = range.start / GROUP..range.end.div_ceil(GROUP);
        groups.map(|group| group as Group).all(|group| match &arrived.groups[group as usize] {
            Arrival::Whole => true,
            Arrival::Pieces(pieces) => {
                let span = tree::span(group, self.size);
                pieces.gaps(span.start.max(range.start)..span.end.min(range.end)).is_empty()
            }
        })
    }

    /// Bytes that are there, and groups that are whole.
    pub(crate) fn held(&self) -> (u64, u32) {
        let arrived = self.lock();
        (arrived.held, arrived.whole)
    }

    /// When bytes came last.
    pub(crate) fn written(&self) -> Millis {
        self.lock().written
    }

    /// Bytes since the last checkpoint, and since when they wait for the next.
    pub(crate) fn waiting(&self) -> Option<(u64, Millis)> {
        let arrived = self.lock();
        arrived.dirty_since.map(|since| (arrived.dirty_bytes, since))
    }

    /// What has changed since the last checkpoint. The caller makes the files durable before the rows are committed.
    pub(crate) fn take_changes(&self, batch: &mut Batch) -> Changes {
        let mut arrived = self.lock();
        let dirty = std::mem::take(&mut arrived.dirty);
        arrived.dirty_bytes = 0;
        arrived.dirty_since = None;
        for page in dirty.iter().map(|group| group / PAGE).collect::<BTreeSet<_>>() {
            let groups = arrived.groups.iter().skip((page * PAGE) as usize).take(PAGE as usize);
            let mut bits = vec![0_u8; (PAGE / 8) as usize];
            for (at, _) in groups.enumerate().filter(|(_, arrival)| **arrival == Arrival::Whole) {
                bits[at / 8] |= 1 << (at % 8);
            }
            batch.put(Table::Whole, &key(self.root, page), bits);
        }
        for group in &dirty {
            let key = key(self.root, *group);
            let arrived = &mut *arrived;
            match &arrived.groups[*group as usize] {
                Arrival::Pieces(pieces) if !pieces.is_empty() => {
                    batch.put(Table::Pieces, &key, write_pieces(pieces, tree::span(*group, self.size).start));
                    arrived.rows.insert(*group);
                }
                _ if arrived.rows.remove(group) => batch.remove(Table::Pieces, &key),
                _ => {}
            }
        }
        Changes(dirty)
    }

    /// The disk couldn't make changes durable. What it still shows of them may never have got to it, and a later sync
    /// that succeeds wouldn't say so: they are missing again.
    pub(crate) fn undo(&self, changes: Changes, now: Millis) {
        let mut arrived = self.lock();
        changes.0.iter().for_each(|group| arrived.forget(*group, self.size));
        arrived.dirty_since.get_or_insert(now);
        // Rows that were to be removed are still there.
        arrived.rows.extend(changes.0);
    }

    /// Rows that say what has arrived are removed: the content is complete, or gone.
    pub(crate) fn remove_rows(&self, batch: &mut Batch) {
        let pages = 0..=tree::groups(self.size) / PAGE;
        pages.for_each(|page| batch.remove(Table::Whole, &key(self.root, page)));
        let rows = std::mem::take(&mut self.lock().rows);
        rows.iter().for_each(|group| batch.remove(Table::Pieces, &key(self.root, *group)));
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().expect("nothing panics while it holds the lock")
    }
}

impl Arrived {
    fn all(&self) -> bool {
        self.whole as usize == self.groups.len()
    }

    fn add(&mut self, group: Group, piece: Range<u64>, now: Millis) {
        let Arrival::Pieces(pieces) = &mut self.groups[group as usize] else { return };
        let more = piece.end - piece.start;
        pieces.insert(piece);
        self.held += more;
        self.dirty_bytes += more;
        self.dirty.insert(group);
        self.dirty_since.get_or_insert(now);
        self.written = now;
    }

    fn is_filled(&self, group: Group, span: &Range<u64>) -> bool {
        matches!(&self.groups[group as usize], Arrival::Pieces(pieces) if pieces.total() == span.end - span.start)
    }

    fn set_whole(&mut self, group: Group, size: u64) {
        let span = tree::span(group, size);
        self.held += span.end - span.start - self.held_of(group, size);
        if self.groups[group as usize] != Arrival::Whole {
            self.whole += 1;
        }
        self.groups[group as usize] = Arrival::Whole;
    }

    fn forget(&mut self, group: Group, size: u64) {
        self.held -= self.held_of(group, size);
        if self.groups[group as usize] == Arrival::Whole {
            self.whole -= 1;
        }
        self.groups[group as usize] = Arrival::Pieces(Ranges::new());
        self.dirty.insert(group);
    }

    fn held_of(&self, group: Group, size: u64) -> u64 {
        let span = tree::span(group, size);
        match &self.groups[group as usize] {
            Arrival::Whole => span.end - span.start,
            Arrival::Pieces(pieces) => pieces.total(),
        }
    }
}

/// Groups whose state is on its way into the ledger.
#[derive(Debug)]
pub(crate) struct Changes(BTreeSet<Group>);

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a content is there and right.
#[derive(Debug)]
pub(crate) enum Finished {
    /// Groups are missing.
    Incomplete,
    /// All is there, and it isn't what the root names.
    Wrong,
    /// All is there.
    Right(Tree),
}

/// Groups in a row of [`Table::Whole`]: rows stay small, so that a checkpoint writes what changed.
const PAGE: Group = 4096;

/// The key of a row about a group or a page.
fn key(root: Root, number: u32) -> [u8; Root::LEN + 4] {
    let mut key = [0; Root::LEN + 4];
    key[..Root::LEN].copy_from_slice(root.as_bytes());
    key[Root::LEN..].copy_from_slice(&number.to_be_bytes());
    key
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Pieces of a group as start and end, four bytes each, from the group's first byte on.
fn write_pieces(pieces: &Ranges, start: u64) -> Vec<u8> {
    let ends = pieces.as_slice().iter().flat_map(|piece| [piece.start, piece.end]);
    ends.flat_map(|end| ((end - start) as u32).to_be_bytes()).collect()
}

fn read_pieces(row: &[u8], start: u64) -> impl Iterator<Item = Range<u64>> {
    let at = move |bytes: &[u8; 4]| start + u64::from(u32::from_be_bytes(*bytes));
    let (ends, _) = row.as_chunks::<4>();
    ends.as_chunks::<2>().0.iter().map(move |[from, to]| at(from)..at(to))
}

#[cfg(test)]
mod tests;

//! A hub's store as the place where files go that arrive by FLUTE: the store adopts the file in which one came.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use millrace_hub::flute::{self, Oti};
use millrace_hub::session::{Storage, Unstored};
use millrace_hub_store::{Incoming, Label, Millis, Named, SigningKey, Store, Trust};

use super::OneWayRefusal;
use super::arrivals::{Shelf, lacking};
use super::parts::{Parts, Record};
use crate::error::NodeError;
use crate::pieces::lock;
use crate::stock::{Stocked, may_pass};

/// A file of which nothing has come for long.
#[derive(Debug)]
struct Resting {
    size: u64,
    /// When there was no room for more of it last.
    tried: Option<Millis>,
}

/// What arrives in one session, on its way into the store.
#[derive(Debug)]
pub(crate) struct FileStock {
    store: Arc<Store>,
    /// Signs the manifests.
    key: Option<Arc<SigningKey>>,
    /// Whether files are taken at all, which nobody signs.
    anybody: bool,
    parts: Parts,
    /// For which the store has promised room.
    promised: BTreeMap<u64, Incoming>,
    /// Of which some is there, and room for the rest isn't promised any more.
    resting: BTreeMap<u64, Resting>,
    /// Of these that there was no room for when more came.
    roomless: Option<(u64, OneWayRefusal)>,
    /// What came of files before it was known what they are: their bytes by offset.
    early: BTreeMap<u64, BTreeMap<u64, Vec<u8>>>,
    early_bytes: usize,
    /// What isn't wanted, or has no room, until it is discarded.
    refused: BTreeSet<u64>,
    wall: Millis,
    _lock: fs::File,
}

impl FileStock {
    /// Opens the session's folder, made if it isn't there.
    pub(crate) fn open(
        folder: &Path,
        tsi: u64,
        store: Arc<Store>,
        key: Option<Arc<SigningKey>>,
        trust: &Trust,
        wall: Millis,
    ) -> Result<Self, NodeError> {
        let (hidden, lock) = lock(folder)?;
        Ok(Self {
            store,
            key,
            anybody: matches!(trust, Trust::Anybody),
            parts: Parts::new(hidden, tsi),
            promised: BTreeMap::new(),
            resting: BTreeMap::new(),
            roomless: None,
            early: BTreeMap::new(),
            early_bytes: 0,
            refused: BTreeSet::new(),
            wall,
            _lock: lock,
        })
    }

    fn promise(&mut self, toi: u64, size: u64) -> Result<Incoming, OneWayRefusal> {
        if !self.anybody {
            return Err(OneWayRefusal::Unsigned);
        }
        // What an earlier run left is told by the file's length, which is the whole from now on.
        self.parts.open(toi)?;
        Ok(self.store.adopt(self.parts.bytes(toi), size, self.wall)?)
    }

    /// More comes of a file that rested: takes room for it again, which is tried once a tick, and told when it fails first.
    fn wake(&mut self, toi: u64) -> Result<(), Unstored> {
        let Some(resting) = self.resting.get_mut(&toi) else { return Ok(()) };
        let Some(incoming) = self.promised.get_mut(&toi) else { return Ok(()) };
        if resting.tried == Some(self.wall) {
            return Err(Unstored);
        }
        if let Err(error) = incoming.grow(resting.size, self.wall) {
            if resting.tried.replace(self.wall).is_none() {
                self.roomless = Some((toi, error.into()));
            }
            return Err(Unstored);
        }
        self.resting.remove(&toi);
        Ok(())
    }

    /// Takes what came early of a file out of memory.
    fn take_early(&mut self, toi: u64) -> BTreeMap<u64, Vec<u8>> {
        let early = self.early.remove(&toi).unwrap_or_default();
        self.early_bytes -= early.values().map(|bytes| cost(bytes)).sum::<usize>();
        early
    }

    /// The time of day, for what is used when.
    pub(crate) fn set_wall(&mut self, wall: Millis) {
        self.wall = wall;
    }
}

impl Shelf for FileStock {
    type Kept = Stocked;

    fn begin(&mut self, toi: u64, size: u64) -> Result<(), OneWayRefusal> {
        match self.promise(toi, size) {
            Ok(incoming) => drop(self.promised.insert(toi, incoming)),
            Err(why) => {
                self.take_early(toi);
                match self.tries_again(&why) {
                    // What an earlier run left of it stays for when there is room.
                    true => self.parts.leave(toi),
                    false => self.parts.discard(toi),
                }
                self.refused.insert(toi);
                return Err(why);
            }
        }
        Ok(())
    }

    fn bring_early(&mut self, toi: u64) -> Result<(), Unstored> {
        let early = self.take_early(toi);
        early.iter().try_for_each(|(offset, bytes)| self.parts.write(toi, *offset, bytes))
    }

    fn decide(&mut self, toi: u64, file: &flute::File) {
        self.parts.decide(toi, file);
    }

    fn left(&mut self, toi: u64) -> Option<Record> {
        self.parts.left(toi)
    }

    fn checkpoint(&mut self, toi: u64, record: &Record) -> io::Result<()> {
        self.parts.checkpoint(toi, record)
    }

    fn release(&mut self, toi: u64, oti: &Oti, record: &Record) -> io::Result<()> {
        let Some(incoming) = self.promised.get_mut(&toi).filter(|_| !self.resting.contains_key(&toi)) else {
            return Ok(());
        };
        self.parts.release(toi, oti, record)?;
        incoming.shrink(oti.size().saturating_sub(lacking(&record.missing) * oti.symbol_len() as u64));
        self.resting.insert(toi, Resting { size: oti.size(), tried: None });
        Ok(())
    }

    fn finish(&mut self, toi: u64, size: u64, file: &flute::File) -> Result<Stocked, OneWayRefusal> {
        let name = self.parts.verify(toi, size, file)?;
        self.resting.remove(&toi);
        let mut incoming = match self.promised.remove(&toi) {
            Some(incoming) => incoming,
            None => self.store.adopt(self.parts.bytes(toi), size, self.wall)?,
        };
        incoming.hash(size)?;
        let group = Label::default();
        let before = self.store.named(&group, &name);
        let named = Named { name, group, version: None };
        let manifest = incoming.finish(named, self.key.as_deref(), self.wall)?;
        self.parts.close(toi);
        Ok(Stocked { known: before.as_ref() == Some(&manifest), manifest })
    }

    fn tries_again(&self, why: &OneWayRefusal) -> bool {
        matches!(why, OneWayRefusal::Store(error) if may_pass(error))
    }

    fn refusal(&mut self) -> Option<(u64, OneWayRefusal)> {
        self.roomless.take()
    }

    fn discard(&mut self, toi: u64) {
        self.promised.remove(&toi);
        self.resting.remove(&toi);
        self.take_early(toi);
        match self.refused.remove(&toi) {
            true => self.parts.leave(toi),
            false => self.parts.discard(toi),
        }
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.parts.failure()
    }
}

impl Storage<u64> for FileStock {
    fn write(&mut self, toi: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        if self.refused.contains(&toi) {
            return Err(Unstored);
        }
        self.wake(toi)?;
        if self.promised.contains_key(&toi) {
            return self.parts.write(toi, offset, bytes);
        }
        // Without a table nobody knows whether it is wanted, and it takes no room on the disk. What doesn't fit comes again.
        if !self.anybody || self.early_bytes + cost(bytes) > EARLY_MAX {
            return Err(Unstored);
        }
        self.early_bytes += cost(bytes);
        let before = self.early.entry(toi).or_default().insert(offset, bytes.to_vec());
        self.early_bytes -= before.map_or(0, |before| cost(&before));
        Ok(())
    }

    fn read(&mut self, toi: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        let Some(early) = self.early.get(&toi) else { return self.parts.read(toi, offset, out) };
        let there = early.get(&offset).filter(|bytes| bytes.len() == out.len()).ok_or(Unstored)?;
        out.copy_from_slice(there);
        Ok(())
    }
}

/// What it takes in memory to keep these, about: small ones aren't free.
fn cost(bytes: &[u8]) -> usize {
    bytes.len() + 256
}

/// Bytes of a session that are kept in memory before its table says what they are of: those of a second at 30 Mb/s.
const EARLY_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use millrace_hub_store::Limits;

    use super::*;

    /// A byte at a time takes no more memory than a symbol at a time, and what is given up gives back what it took.
    #[test]
    fn what_comes_early_takes_a_bounded_room_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 0 };
        let store = Store::open(folder.path(), limits, Millis::default()).unwrap();
        let hidden = folder.path().join("session");
        let mut stock = FileStock::open(&hidden, 1, store, None, &Trust::Anybody, Millis::default()).unwrap();
        let fill = |stock: &mut FileStock, bytes: &[u8]| {
            (0..1 << 20).find(|at| stock.write(7, at * 2000, bytes).is_err()).unwrap()
        };
        let symbols = fill(&mut stock, &[1; 1400]);
        assert!((2000..3000).contains(&symbols), "{symbols}");
        stock.discard(7);
        assert_eq!(stock.early_bytes, 0);
        let bytes = fill(&mut stock, &[1]);
        assert!(bytes < 7 * symbols, "{bytes}");
    }
}

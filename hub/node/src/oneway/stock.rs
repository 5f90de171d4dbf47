//! A hub's store as the place where files go that arrive by FLUTE: the store adopts the file in which one came.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use millrace_hub::flute;
use millrace_hub::session::{Storage, Unstored};
use millrace_hub_store::{Error, Incoming, Label, Millis, Named, SigningKey, Store, Trust};

use super::OneWayRefusal;
use super::arrivals::Shelf;
use super::parts::{Parts, Record};
use crate::error::NodeError;
use crate::pieces::lock;
use crate::stock::Stocked;

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
    /// What isn't wanted, until the session gives it up.
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
                self.discard(toi);
                self.refused.insert(toi);
                return Err(why);
            }
        }
        Ok(())
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

    fn finish(&mut self, toi: u64, size: u64, file: &flute::File) -> Result<Stocked, OneWayRefusal> {
        let name = self.parts.verify(toi, size, file)?;
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
        let passing = |error: &Error| {
            matches!(error, Error::Disk(_) | Error::DiskFull | Error::Ledger(_) | Error::NoRoom { .. })
        };
        matches!(why, OneWayRefusal::Store(error) if passing(error))
    }

    fn discard(&mut self, toi: u64) {
        self.promised.remove(&toi);
        self.refused.remove(&toi);
        self.parts.discard(toi);
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.parts.failure()
    }
}

impl Storage<u64> for FileStock {
    fn write(&mut self, toi: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        match self.refused.contains(&toi) {
            true => Err(Unstored),
            false => self.parts.write(toi, offset, bytes),
        }
    }

    fn read(&mut self, toi: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        self.parts.read(toi, offset, out)
    }
}

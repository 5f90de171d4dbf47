//! A disk that does nothing any more from some call on, or fails once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use millrace_hub_store::disk::{Disk, File, Real};

#[derive(Debug, Default)]
struct Fate {
    calls: AtomicU64,
    /// The number of the first call that isn't done; 0 for none.
    death: AtomicU64,
    no_renames: AtomicBool,
}

/// The disk; its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mortal(Arc<Fate>);

impl Mortal {
    /// Dies with its `death`th call.
    pub(crate) fn until(death: u64) -> Self {
        let disk = Self::default();
        disk.0.death.store(death, Relaxed);
        disk
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Relaxed)
    }

    /// Whether files keep their names.
    pub(crate) fn refuse_renames(&self, refuse: bool) {
        self.0.no_renames.store(refuse, Relaxed);
    }

    fn call(&self) -> io::Result<()> {
        let call = self.0.calls.fetch_add(1, Relaxed) + 1;
        match self.0.death.load(Relaxed) {
            death if death > 0 && call >= death => Err(io::Error::other("dead")),
            _ => Ok(()),
        }
    }
}

impl Disk for Mortal {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call()?;
        Ok(Arc::new(MortalFile(self.clone(), Real.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        match self.0.no_renames.load(Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Real.rename(from, to),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        Real.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        Real.sync_folder(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        Real.free(path)
    }
}

#[derive(Debug)]
struct MortalFile(Mortal, Arc<dyn File>);

impl File for MortalFile {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.call()?;
        self.1.read(offset, into)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.call()?;
        self.1.write(offset, bytes)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.call()?;
        self.1.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.call()?;
        self.1.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.1.length()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.call()?;
        self.1.sync()
    }
}

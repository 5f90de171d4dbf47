//! A disk that fails on purpose, around the real one.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use millrace_hub_store::disk::{Disk, File, Real};

/// What is done to a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Open,
    Rename,
    Remove,
    SyncFolder,
    Read,
    Write,
    Allocate,
    SetLen,
    Sync,
}

/// Called before every call to the disk with what it is and on which file (its name's ending); an error is the call's.
pub(crate) type Rule = Box<dyn FnMut(Call, &str) -> io::Result<()> + Send>;

/// A disk with a rule.
#[derive(Clone)]
pub(crate) struct Ruled(Arc<Mutex<Rule>>);

impl Ruled {
    pub(crate) fn new(rule: impl FnMut(Call, &str) -> io::Result<()> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(rule))))
    }

    pub(crate) fn set(&self, rule: impl FnMut(Call, &str) -> io::Result<()> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(rule);
    }

    fn ask(&self, call: Call, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ending = name.split_once('.').map_or("", |(_, ending)| ending);
        (self.0.lock().unwrap())(call, ending)
    }
}

impl std::fmt::Debug for Ruled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ruled")
    }
}

impl Disk for Ruled {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.ask(Call::Open, path)?;
        Ok(Arc::new(RuledFile { disk: self.clone(), path: path.to_owned(), file: Real.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Call::Rename, from)?;
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::Remove, path)?;
        Real.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::SyncFolder, path)?;
        Real.sync_folder(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        Real.free(path)
    }
}

#[derive(Debug)]
struct RuledFile {
    disk: Ruled,
    path: std::path::PathBuf,
    file: Arc<dyn File>,
}

impl File for RuledFile {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.ask(Call::Read, &self.path)?;
        self.file.read(offset, into)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.ask(Call::Write, &self.path)?;
        self.file.write(offset, bytes)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.disk.ask(Call::Allocate, &self.path)?;
        self.file.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.ask(Call::SetLen, &self.path)?;
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.ask(Call::Sync, &self.path)?;
        self.file.sync()
    }
}

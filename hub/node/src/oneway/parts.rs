//! The files of what arrives by FLUTE, and what is kept of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use millrace_hub::flute::{self, Oti, SymbolId};
use millrace_hub::session::{Storage, Unstored};
use millrace_hub_store::Label;
use serde::{Deserialize, Serialize};

use super::OneWayRefusal;
use super::digest::FileDigest;
use super::location::last;
use crate::part::Part;

/// What a file is, as far as that can be told before it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct What {
    location: String,
    md5: Option<String>,
    size: u64,
    symbol: usize,
    blocks: u32,
    code: u8,
}

impl What {
    pub(crate) fn of(oti: &Oti, file: &flute::File) -> Self {
        Self {
            location: file.location.clone(),
            md5: file.md5.clone(),
            size: oti.size(),
            symbol: oti.symbol_len(),
            blocks: oti.blocks(),
            code: oti.codepoint(),
        }
    }
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) what: What,
    /// Blocks, and the first and last of each stretch of symbols that aren't there.
    pub(crate) missing: Vec<(u32, Vec<(u32, u32)>)>,
}

impl Record {
    pub(crate) fn has(&self, block: u32, symbol: u32) -> bool {
        let Ok(at) = self.missing.binary_search_by_key(&block, |(block, _)| *block) else { return true };
        !self.missing[at].1.iter().any(|(first, last)| (*first..=*last).contains(&symbol))
    }
}

/// The files of what is arriving.
#[derive(Debug)]
pub(crate) struct Parts {
    hidden: PathBuf,
    tsi: u64,
    open: BTreeMap<u64, Open>,
    /// The first error of the disk since somebody asked.
    failed: Option<io::Error>,
}

#[derive(Debug)]
pub(crate) struct Open {
    part: Part,
    /// What an earlier run left.
    left: Option<Record>,
    /// Whether it isn't known yet if that is of this file: nothing may be written into it before.
    undecided: bool,
}

impl Parts {
    /// Those of a session, in a folder of files of ours.
    pub(crate) fn new(hidden: PathBuf, tsi: u64) -> Self {
        Self { hidden, tsi, open: BTreeMap::new(), failed: None }
    }

    /// The first error of the disk since the last call.
    pub(crate) fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Where the bytes of an object are.
    pub(crate) fn bytes(&self, toi: u64) -> PathBuf {
        self.path(toi, "flute")
    }

    fn path(&self, toi: u64, ending: &str) -> PathBuf {
        self.hidden.join(format!("{}-{toi}.{ending}", self.tsi))
    }

    /// Opens the file of an object, with what an earlier run left of it.
    pub(crate) fn open(&mut self, toi: u64) -> io::Result<&mut Open> {
        if !self.open.contains_key(&toi) {
            let left = fs::read(self.path(toi, "have")).ok();
            let left = left.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            let part = Part::open(self.path(toi, "flute"))?;
            let left = left.filter(|record| part.has_length(record.what.size));
            if left.is_none() {
                part.set_len(0)?;
            }
            let undecided = left.is_some();
            self.open.insert(toi, Open { part, left, undecided });
        }
        Ok(self.open.get_mut(&toi).expect("just put there"))
    }

    /// It is known what an object is: what an earlier run left of it is kept, what it left of another isn't.
    pub(crate) fn decide(&mut self, toi: u64, file: &flute::File) {
        let record = self.path(toi, "have");
        if !record.exists() {
            return;
        }
        match self.open(toi) {
            Ok(open) if open.undecided => {
                open.undecided = false;
                let same = |what: &What| what.location == file.location && what.md5 == file.md5;
                if open.left.as_ref().is_some_and(|left| same(&left.what)) {
                    return;
                }
                open.left = None;
                if let Err(error) = open.part.set_len(0) {
                    self.failed.get_or_insert(error);
                }
            }
            Ok(_) => return,
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
        remove(&record);
    }

    /// What an earlier run left of an object, once.
    pub(crate) fn left(&mut self, toi: u64) -> Option<Record> {
        let open = self.open.get_mut(&toi).filter(|open| !open.undecided)?;
        open.left.take()
    }

    pub(crate) fn checkpoint(&mut self, toi: u64, record: &Record) -> io::Result<()> {
        let (new, path) = (self.path(toi, "new"), self.path(toi, "have"));
        let Some(open) = self.open.get_mut(&toi).filter(|open| !open.undecided) else { return Ok(()) };
        if !open.part.changed && path.exists() {
            return Ok(());
        }
        if !open.part.has_length(record.what.size) {
            open.part.allocate(record.what.size)?;
        }
        open.part.sync()?;
        fs::write(&new, serde_json::to_vec(record)?)?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, path)
    }

    /// Gives back the room of what hasn't come of an object.
    pub(crate) fn release(&self, toi: u64, oti: &Oti, record: &Record) -> io::Result<()> {
        let Some(open) = self.open.get(&toi) else { return Ok(()) };
        let ids = record.missing.iter().flat_map(|(block, stretches)| {
            let symbols = stretches.iter().flat_map(|(first, last)| *first..=*last);
            symbols.map(|symbol| SymbolId { block: *block, symbol })
        });
        open.part.release(ids.filter_map(|id| oti.range(id)))
    }

    /// All has come: verifies it and makes it durable. Returns its name.
    pub(crate) fn verify(&mut self, toi: u64, size: u64, file: &flute::File) -> Result<Label, OneWayRefusal> {
        let name = Label::name(&last(&file.location));
        let name = name.ok_or_else(|| OneWayRefusal::Name(file.location.clone()))?;
        if let Some(encoding) = file.encoding.as_deref().filter(|encoding| *encoding != "null") {
            return Err(OneWayRefusal::Encoded(encoding.to_owned()));
        }
        if let Some(described) = file.length.filter(|described| *described != size) {
            return Err(OneWayRefusal::Size { sent: size, described });
        }
        let open = self.open(toi)?;
        // Of another file that had its number there may be more.
        open.part.set_len(size)?;
        if let Some(md5) = &file.md5 {
            let mut hasher = FileDigest::default();
            let mut bytes = vec![0; PIECE as usize];
            let mut at = 0;
            while at < size {
                let len = (size - at).min(PIECE) as usize;
                open.part.read(at, &mut bytes[..len])?;
                hasher.update(&bytes[..len]);
                at += len as u64;
            }
            if hasher.finish() != md5.trim() {
                return Err(OneWayRefusal::Wrong);
            }
        }
        open.part.sync()?;
        Ok(name)
    }

    /// Puts what was verified under its name.
    pub(crate) fn place(&mut self, toi: u64, target: &Path) -> io::Result<()> {
        self.open(toi)?.part.place(target)?;
        File::open(target.parent().unwrap_or(target))?.sync_all()
    }

    /// What was verified isn't here any more.
    pub(crate) fn close(&mut self, toi: u64) {
        self.open.remove(&toi);
        remove(&self.path(toi, "have"));
    }

    /// It isn't received now: what an earlier run left of it stays, and nothing else.
    pub(crate) fn leave(&mut self, toi: u64) {
        self.open.remove(&toi);
        if !self.path(toi, "have").exists() {
            remove(&self.path(toi, "flute"));
        }
    }

    pub(crate) fn discard(&mut self, toi: u64) {
        self.open.remove(&toi);
        remove(&self.path(toi, "have"));
        remove(&self.path(toi, "flute"));
    }
}

impl Storage<u64> for Parts {
    fn write(&mut self, toi: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        let open = match self.open(toi) {
            Ok(open) if !open.undecided => open,
            // It may be of another file, which has the same number: the table tells, and comes soon.
            Ok(_) => return Err(Unstored),
            Err(error) => {
                self.failed.get_or_insert(error);
                return Err(Unstored);
            }
        };
        open.part.write(offset, bytes).map_err(|error| {
            self.failed.get_or_insert(error);
            Unstored
        })
    }

    fn read(&mut self, toi: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        let read = self.open(toi).and_then(|open| open.part.read(offset, out));
        read.map_err(|error| {
            self.failed.get_or_insert(error);
            Unstored
        })
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(?path, %error, "a file can't be removed");
    }
}

/// Bytes that are hashed at once.
const PIECE: u64 = 1 << 20;

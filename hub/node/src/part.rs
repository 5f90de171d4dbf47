//! A content that is arriving: its file, of its full length from the start, and beside it what the last checkpoint says is there.
//!
//! ```text
//!  pieces/7-3.part     the bytes, in their places       7: the sender's run, 3: the object's number
//!  pieces/7-3.map      a line of JSON: how it is cut, its info; then a bit for each source segment that is there
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use millrace_hub::norm::{Fti, ObjectId, PayloadId};
use millrace_hub::segments::SegmentSet;
use millrace_hub::shape::Shape;
use millrace_hub_store::Root;
use rustix::fs::FallocateFlags;
use serde::{Deserialize, Serialize};

/// What a map's first line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The sender's name in NORM, and which run of it.
    pub(crate) sender: u32,
    pub(crate) instance: u16,
    pub(crate) object: u16,
    /// How the object is cut.
    size: u64,
    segment: u16,
    block: u8,
    parity: u8,
    pub(crate) info: Vec<u8>,
    /// Whether it has been verified and stands under its name, or goes to a store: there are no bits then.
    pub(crate) done: bool,
}

impl Record {
    pub(crate) fn new(sender: u32, instance: u16, object: ObjectId, fti: Fti, info: Vec<u8>) -> Self {
        let Fti { size, segment, block, parity } = fti;
        Self { sender, instance, object: object.0, size, segment, block, parity, info, done: false }
    }

    pub(crate) fn fti(&self) -> Fti {
        Fti { size: self.size, segment: self.segment, block: self.block, parity: self.parity }
    }

    /// Where its files are, but for the ending.
    pub(crate) fn stem(&self, folder: &Path) -> PathBuf {
        stem(folder, self.instance, ObjectId(self.object))
    }

    /// Writes the map: what is there but for these blocks' segments.
    pub(crate) fn write(
        &self,
        folder: &Path,
        shape: &Shape,
        missing: &[(u32, SegmentSet)],
    ) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        if !self.done {
            let mut bits = vec![0xff; (shape.segments() as usize).div_ceil(8)];
            for (block, lacking) in missing {
                for segment in lacking.iter() {
                    if let Some(at) = shape.index(PayloadId { block: *block, segment }) {
                        bits[at as usize / 8] &= !(1 << (at % 8));
                    }
                }
            }
            bytes.extend(bits);
        }
        let stem = self.stem(folder);
        let new = stem.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(new, stem.with_extension("map"))
    }

    /// Reads a map: its line, and which source segments are there. `None` if it isn't one.
    pub(crate) fn read(path: &Path) -> Option<(Self, Shape, Vec<PayloadId>)> {
        let bytes = fs::read(path).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let record: Self = serde_json::from_slice(&bytes[..end]).ok()?;
        let shape = Shape::new(record.fti()).ok()?;
        let bits = &bytes[end + 1..];
        let wanted = if record.done { 0 } else { (shape.segments() as usize).div_ceil(8) };
        if bits.len() != wanted {
            return None;
        }
        let there = |at: &u64| record.done || bits[*at as usize / 8] >> (at % 8) & 1 == 1;
        let stored = (0..shape.segments()).filter(there).filter_map(|at| shape.at(at)).collect();
        Some((record, shape, stored))
    }
}

/// Where the files of an object are, but for the ending.
pub(crate) fn stem(folder: &Path, instance: u16, object: ObjectId) -> PathBuf {
    // The ending is a placeholder, so that one with another can be asked for.
    folder.join(format!("{instance}-{}.part", object.0))
}

/// The bytes of a content that is arriving.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    /// Whether bytes came since the last checkpoint.
    pub(crate) changed: bool,
    hasher: blake3::Hasher,
    hashed: u64,
}

impl Part {
    /// The file at this path, made if it isn't there.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        Ok(Self { file, path, changed: false, hasher: blake3::Hasher::new(), hashed: 0 })
    }

    /// Takes the whole content's room on the disk.
    pub(crate) fn allocate(&self, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            // File systems without it give room as it is written.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(size),
            other => Ok(other?),
        }
    }

    /// Gives back the room of these stretches, of which nothing has come: offsets and lengths, in order. The file keeps its length.
    pub(crate) fn release(&self, holes: impl IntoIterator<Item = (u64, usize)>) -> io::Result<()> {
        let punch = |from: u64, to: u64| {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&self.file, flags, from, to - from) {
                // It keeps what it has until the file is removed.
                Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
                other => other,
            }
        };
        let mut stretch = 0..0;
        for (offset, len) in holes {
            if offset != stretch.end && !stretch.is_empty() {
                punch(stretch.start, stretch.end)?;
            }
            let start = if offset == stretch.end { stretch.start } else { offset };
            stretch = start..offset + len as u64;
        }
        if stretch.is_empty() { Ok(()) } else { Ok(punch(stretch.start, stretch.end)?) }
    }

    pub(crate) fn set_len(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    pub(crate) fn has_length(&self, size: u64) -> bool {
        self.file.metadata().is_ok_and(|about| about.len() == size)
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.changed = true;
        Ok(())
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.changed = false;
        Ok(())
    }

    /// Hashes on up to here, at most so many bytes: all before it has come, and is read back while the system still has it
    /// in memory.
    pub(crate) fn hash(&mut self, end: u64, at_most: u64) -> io::Result<()> {
        let end = end.min(self.hashed.saturating_add(at_most));
        let mut bytes = vec![0; HASH_BYTES.min(end.saturating_sub(self.hashed)) as usize];
        while self.hashed < end {
            let len = (end - self.hashed).min(HASH_BYTES) as usize;
            self.file.read_exact_at(&mut bytes[..len], self.hashed)?;
            self.hasher.update(&bytes[..len]);
            self.hashed += len as u64;
        }
        Ok(())
    }

    /// The root of the content, all of which has come.
    pub(crate) fn root(&mut self, size: u64) -> io::Result<Root> {
        self.hash(size, u64::MAX)?;
        Ok(Root::new(self.hasher.finalize().into()))
    }

    /// What was hashed isn't what was sent.
    pub(crate) fn hash_again(&mut self) {
        self.hasher.reset();
        self.hashed = 0;
    }

    /// Gives the file its name. It has been synced.
    pub(crate) fn place(&self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)
    }
}

/// The root of a file's bytes, and how many they are.
pub(crate) fn root_of(file: &File) -> io::Result<(Root, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = vec![0; HASH_BYTES as usize];
    let mut size = 0;
    loop {
        match file.read_at(&mut bytes, size) {
            Ok(0) => return Ok((Root::new(hasher.finalize().into()), size)),
            Ok(len) => {
                hasher.update(&bytes[..len]);
                size += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes that are read and hashed at once.
const HASH_BYTES: u64 = 1 << 20;

//! The seam to the disk: the few things the store does with files. [`Real`] does them; tests put a layer around it that
//! fails, loses power or kills the process at a chosen call, which a real disk does only when nobody watches.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// What the store asks of a file system.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file to read and write it; makes it if it isn't there.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, in place of what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; that it isn't there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the file system at this path.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// What the store asks of an open file.
pub trait File: Debug + Send + Sync {
    /// Fills the buffer from this offset on; an error if the file ends before.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes all bytes at this offset.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Takes room on the disk for so many bytes, so that writing them can't find it full; the file has that length then.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Cuts or lengthens the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// The file's length.
    fn length(&self) -> io::Result<u64>;
    /// Makes its bytes and its length durable.
    fn sync(&self) -> io::Result<()>;
}

/// The file system itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real;

impl Disk for Real {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let state = rustix::fs::statvfs(path)?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }
}

impl File for fs::File {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        if length == 0 {
            return Ok(());
        }
        match fallocate(self, FallocateFlags::empty(), 0, length) {
            // A file system that can't promise room: writes may find the disk full later, and that is handled too.
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        fs::File::set_len(self, length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: what is needed to read the bytes again, the length among it, and no times.
        self.sync_data()
    }
}

/// The ledger's file, as redb wants it.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Arc<dyn File>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

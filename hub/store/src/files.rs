//! Where things lie on the disk.
//!
//! ```text
//!  DIR/lock               held by the process that has the store open
//!  DIR/ledger.redb        what is known of everything below
//!  DIR/blobs/ab/abcd…     a complete content: its bytes and nothing else
//!  DIR/blobs/ab/abcd….part    one that is arriving: of its full length from the start, pieces in their places
//!  DIR/blobs/ab/abcd….tree    its groups' hashes, 32 bytes each
//!  DIR/incoming/7         bytes whose root isn't known yet, because they are still being put in
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::root::Root;

/// The folder of a store.
#[derive(Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    /// Whether a folder has the files of a store, whole or not.
    pub(crate) fn are_here(folder: &Path) -> bool {
        let files = Self(folder.to_owned());
        files.blobs().is_dir() || files.ledger().exists()
    }

    /// Whether there are files in a folder, and those of no store: what is found in `incoming` would be removed.
    pub(crate) fn are_others(folder: &Path) -> io::Result<bool> {
        match fs::read_dir(folder) {
            // A disk of its own has that.
            Ok(mut entries) => Ok(!Self::are_here(folder)
                && entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the folders that are missing.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let files = Self(folder.to_owned());
        fs::create_dir_all(files.blobs())?;
        fs::create_dir_all(files.incoming_folder())?;
        Ok(files)
    }

    /// Makes the folder in which a content's files will be.
    pub(crate) fn make_folder(&self, root: Root, disk: &dyn Disk) -> io::Result<()> {
        match fs::create_dir(self.folder(root)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => disk.sync_folder(&self.blobs()),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.0.join("ledger.redb")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// The folder in which a content's files are.
    pub(crate) fn folder(&self, root: Root) -> PathBuf {
        self.blobs().join(format!("{:02x}", root.as_bytes()[0]))
    }

    pub(crate) fn blob(&self, root: Root) -> PathBuf {
        self.folder(root).join(root.to_string())
    }

    pub(crate) fn part(&self, root: Root) -> PathBuf {
        self.folder(root).join(format!("{root}.part"))
    }

    pub(crate) fn tree(&self, root: Root) -> PathBuf {
        self.folder(root).join(format!("{root}.tree"))
    }

    pub(crate) fn incoming_folder(&self) -> PathBuf {
        self.0.join("incoming")
    }

    pub(crate) fn incoming(&self, number: u64) -> PathBuf {
        self.incoming_folder().join(number.to_string())
    }

    pub(crate) fn top(&self) -> &Path {
        &self.0
    }
}

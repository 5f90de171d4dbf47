//! Opening: what the ledger says and what the files are are brought together. Whatever a crash left is one of these:
//!
//! | ledger | files | becomes |
//! |---|---|---|
//! | complete | blob | complete; its list is checked when it is first read, each group whenever it is read |
//! | complete | `.part` | arriving, nothing of it taken for whole but what the list of hashes proves |
//! | arriving | `.part` | arriving; the groups in the ledger were durable before it said so and aren't read again |
//! | arriving | blob | `.part` again, as above, and completed anew if every group proves right |
//! | either | none | unknown |
//! | nothing | any | removed; or, if there was no ledger or a damaged one, complete if its list leads to its name |

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::counters::Counters;
use crate::disk::{Disk, Real};
use crate::distribution;
use crate::error::Error;
use crate::files::Files;
use crate::ledger::{Batch, Ledger, LedgerError, Rows, Table};
use crate::manifest::Manifest;
use crate::part::Part;
use crate::root::Root;
use crate::state::{Content, ContentRow, Held, State};
use crate::store::{Limits, Store};
use crate::taken;
use crate::time::Millis;
use crate::tree::{self, Tree};

impl Store {
    /// Opens the store in a folder, or makes one there.
    ///
    /// # Errors
    ///
    /// Another process has it open, the ledger was written by another version, the folder has something else in it, or the disk
    /// fails. A damaged ledger is no
    /// error: it is put aside, counted, and what the files themselves prove is kept.
    pub fn open(folder: &Path, limits: Limits, now: Millis) -> Result<Arc<Self>, Error> {
        Self::open_on(Arc::new(Real), folder, limits, now)
    }

    /// Whether there is a store in a folder: nothing is made or opened.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        Files::are_here(folder)
    }

    /// Opens a store on a disk of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        folder: &Path,
        limits: Limits,
        now: Millis,
    ) -> Result<Arc<Self>, Error> {
        if Files::are_others(folder).map_err(Error::Disk)? {
            return Err(Error::NotAStore(folder.to_owned()));
        }
        let files = Files::create(folder).map_err(Error::Disk)?;
        let lock = fs::File::create(files.lock()).map_err(Error::Disk)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LedgerError::Open.into()),
            Err(fs::TryLockError::Error(error)) => return Err(Error::Disk(error)),
        }
        let counters = Counters::default();
        let (ledger, rows) = match Ledger::open(&files.ledger(), Arc::clone(&disk)) {
            Ok(opened) => opened,
            Err(LedgerError::Damaged(why)) => {
                tracing::error!(why, "the hub's ledger is damaged: it is put aside and begun anew");
                counters.ledgers_lost.add(1);
                let aside = folder.join(format!("ledger.redb.damaged-{}", now.0));
                disk.rename(&files.ledger(), &aside).map_err(Error::Disk)?;
                Ledger::open(&files.ledger(), Arc::clone(&disk))?
            }
            Err(other) => return Err(other.into()),
        };
        let store = Self {
            files,
            disk,
            limits,
            counters,
            ledger: Mutex::new(ledger),
            state: Mutex::new(State::default()),
            _lock: lock,
        };
        let mut batch = Batch::default();
        store.recover(&rows, &mut batch, now).map_err(Error::Disk)?;
        store.commit_or_keep(&mut store.ledger(), batch);
        for root in store.contents() {
            match store.complete(root, now) {
                // What is wrong or can't be read yet is found by whoever asks for it.
                Ok(()) | Err(Error::Incomplete(_) | Error::WrongRoot(_)) => {}
                Err(error) => tracing::warn!(%root, %error, "the hub can't complete a content"),
            }
        }
        Ok(Arc::new(store))
    }

    fn recover(&self, rows: &Rows, batch: &mut Batch, now: Millis) -> io::Result<()> {
        let mut state = self.state();
        for file in fs::read_dir(self.files.incoming_folder())? {
            self.disk.remove(&file?.path())?;
        }
        let mut found = self.found()?;
        for (key, row) in rows.of(Table::Content, b"") {
            let (Ok(root), Ok(row)) = (key.try_into(), serde_json::from_slice::<ContentRow>(row)) else {
                continue;
            };
            let root = Root::new(root);
            match self.content(root, &row, found.remove(&root).unwrap_or_default(), rows, now)? {
                Some(content) => {
                    content.row(root, batch);
                    state.contents.insert(root, content);
                }
                None => {
                    self.counters.contents_lost.add(1);
                    self.forget_rows(root, rows, batch);
                }
            }
        }
        for (root, files) in found {
            match rows.fresh.then(|| self.rediscovered(root, &files, now)).flatten() {
                Some(content) => {
                    content.row(root, batch);
                    state.contents.insert(root, content);
                }
                None => files.names.iter().try_for_each(|path| self.disk.remove(path))?,
            }
        }
        state.distributions = distribution::recover(rows);
        for (_, row) in rows.of(Table::Name, b"") {
            let Ok(manifest) = Manifest::trusted(row) else { continue };
            let what = manifest.description();
            state.names.insert((what.group.clone(), what.name.clone()), manifest);
        }
        state.taken = taken::recover(rows);
        Ok(())
    }

    /// A content of the ledger, as its files show it. `None` if they are of no use.
    fn content(
        &self,
        root: Root,
        row: &ContentRow,
        found: Found,
        rows: &Rows,
        now: Millis,
    ) -> io::Result<Option<Content>> {
        if row.size > tree::SIZE_MAX {
            return Ok(None);
        }
        if row.complete && found.blob == Some(row.size) {
            return Ok(Some(Content { size: row.size, used: row.used, held: Held::complete() }));
        }
        if found.part != Some(row.size) {
            if found.blob != Some(row.size) {
                return Ok(None);
            }
            self.disk.rename(&self.files.blob(root), &self.files.part(root))?;
            self.disk.sync_folder(&self.files.folder(root))?;
        }
        let data = self.disk.open(&self.files.part(root))?;
        let list = self.disk.open(&self.files.tree(root))?;
        list.set_len(u64::from(tree::groups(row.size)) * 32)?;
        let part = Part::new(root, row.size, data, list, now);
        // A file that has had its place was preceded there by its checked list.
        part.recover(rows, row.known || found.blob.is_some())?;
        Ok(Some(Content { size: row.size, used: row.used, held: Held::Arriving(Arc::new(part)) }))
    }

    /// A content that no row speaks of, since there is a new ledger: it is one if its list leads to its name.
    fn rediscovered(&self, root: Root, files: &Found, now: Millis) -> Option<Content> {
        let size = files.blob.filter(|size| *size <= tree::SIZE_MAX)?;
        Tree::from_bytes(root, size, &fs::read(self.files.tree(root)).ok()?)?;
        Some(Content { size, used: now, held: Held::complete() })
    }

    fn forget_rows(&self, root: Root, rows: &Rows, batch: &mut Batch) {
        for table in [Table::Content, Table::Whole, Table::Pieces] {
            rows.of(table, root.as_bytes()).for_each(|(key, _)| batch.remove(table, key));
        }
        self.forget_files(root);
    }

    /// The files below `blobs`, by root.
    fn found(&self) -> io::Result<HashMap<Root, Found>> {
        let mut all = HashMap::<Root, Found>::new();
        let mut strangers = HashSet::new();
        for folder in fs::read_dir(self.files.blobs())? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                let (name, length) = (file.file_name(), file.metadata()?.len());
                let name = name.to_string_lossy();
                let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
                let Ok(root) = stem.parse::<Root>() else {
                    strangers.insert(file.path());
                    continue;
                };
                let found = all.entry(root).or_default();
                match ending {
                    "" => found.blob = Some(length),
                    "part" => found.part = Some(length),
                    _ => {}
                }
                found.names.push(file.path());
            }
        }
        for path in strangers {
            tracing::warn!(?path, "a file in the hub's store that isn't its own is left alone");
        }
        Ok(all)
    }
}

/// The files of one content.
#[derive(Debug, Default)]
struct Found {
    /// Length of the blob.
    blob: Option<u64>,
    /// Length of what is arriving.
    part: Option<u64>,
    names: Vec<PathBuf>,
}

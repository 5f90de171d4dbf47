//! Contents that are put in here: they come from their first byte to their last, and their root is known at the end.
//! They are hashed as they come, so that putting in ends with a rename. What comes into a file of the caller's, in any
//! order, is hashed behind and adopted: that, too, ends with a rename.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::disk::File;
use crate::error::Error;
use crate::keys::SigningKey;
use crate::ledger::{Batch, Ledger};
use crate::manifest::{Description, Label, Manifest};
use crate::state::{Content, Held, cost, name_row};
use crate::store::Store;
use crate::time::Millis;
use crate::tree::{self, GROUP, Group, SIZE_MAX, Tree};

/// A content on its way in. Dropped before [`Incoming::finish`], it leaves nothing behind but a file of the caller's.
#[derive(Debug)]
pub struct Incoming {
    store: Arc<Store>,
    path: PathBuf,
    file: Arc<dyn File>,
    size: u64,
    /// Bytes promised in the budget; at least `size`.
    promised: u64,
    /// Of all groups but the last.
    hashes: Vec<[u8; 32]>,
    /// Bytes of the last group.
    group: Vec<u8>,
    /// Whether the file is the caller's.
    adopted: bool,
    /// Whether the file is of no use once this is dropped.
    remove: bool,
}

/// What is put in, but for what its bytes say.
#[derive(Debug, Clone)]
pub struct Named {
    /// What it is called.
    pub name: Label,
    /// Which nodes it is for; empty for all.
    pub group: Label,
    /// Its version; without one, the next after the newest known, or the newest again if it is the same content.
    pub version: Option<u64>,
}

impl Store {
    /// Begins to put a content in; `size` bytes of it are promised room at once, if so many are announced.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`], and those of the disk.
    pub fn put(self: &Arc<Self>, size: Option<u64>, now: Millis) -> Result<Incoming, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.files.incoming(NEXT.fetch_add(1, Relaxed));
        let mut incoming = self.incoming(path, false)?;
        incoming.promise(size.unwrap_or(0), now)?;
        Ok(incoming)
    }

    /// Promises room to a content of so many bytes that come into a file of the caller's, which has that length from now on. It
    /// is on the store's file system, outside of the store's own folders. [`Incoming::hash`] tells what of it has come;
    /// [`Incoming::finish`] makes the file the content, or removes it if the content was here. Until then it is the
    /// caller's, crashes included.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`], and those of the disk.
    pub fn adopt(self: &Arc<Self>, path: PathBuf, size: u64, now: Millis) -> Result<Incoming, Error> {
        let mut incoming = self.incoming(path, true)?;
        incoming.promise(size, now)?;
        Ok(incoming)
    }

    fn incoming(self: &Arc<Self>, path: PathBuf, adopted: bool) -> Result<Incoming, Error> {
        let file = self.disk.open(&path).map_err(|error| self.write_error(error))?;
        Ok(Incoming {
            store: Arc::clone(self),
            path,
            file,
            size: 0,
            promised: 0,
            hashes: Vec::new(),
            group: Vec::with_capacity(GROUP as usize),
            adopted,
            remove: !adopted,
        })
    }
}

impl Incoming {
    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`], and those of the disk; it can't be finished any more.
    pub fn write(&mut self, mut bytes: &[u8], now: Millis) -> Result<(), Error> {
        self.promise(self.size.saturating_add(bytes.len() as u64), now)?;
        while !bytes.is_empty() {
            self.pass_group();
            let (now_in, later) = bytes.split_at(bytes.len().min(GROUP as usize - self.group.len()));
            self.file.write(self.size, now_in).map_err(|error| self.store.write_error(error))?;
            self.group.extend_from_slice(now_in);
            self.size += now_in.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// All bytes of the file up to here have come: hashes on, to have that done when the last one comes.
    ///
    /// # Errors
    ///
    /// Those of the disk; it can be tried again.
    pub fn hash(&mut self, end: u64) -> Result<(), Error> {
        while self.size < end {
            self.pass_group();
            let before = self.group.len();
            let len = (end - self.size).min(GROUP - before as u64);
            self.group.resize(before + len as usize, 0);
            if let Err(error) = self.file.read(self.size, &mut self.group[before..]) {
                self.group.truncate(before);
                return Err(self.store.read_error(error));
            }
            self.size += len;
        }
        Ok(())
    }

    /// There are bytes behind a full group: it isn't the last one.
    fn pass_group(&mut self) {
        if self.group.len() as u64 == GROUP {
            self.hashes.push(tree::hash_group(self.hashes.len() as Group, SIZE_MAX, &self.group));
            self.group.clear();
        }
    }

    /// Gives back room: so many bytes of the caller's file are kept, and no others are promised any more.
    pub fn shrink(&mut self, bytes: u64) {
        let kept = cost(bytes).min(self.promised);
        self.store.state().incoming -= self.promised - kept;
        self.promised = kept;
    }

    /// Promises room to so many bytes in all, if it isn't promised yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`], and those of the disk; it can be tried again.
    pub fn grow(&mut self, size: u64, now: Millis) -> Result<(), Error> {
        self.promise(size, now)
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends it: the content is complete, under its root and under its name. It is described by a manifest, signed if
    /// there is a key.
    ///
    /// # Errors
    ///
    /// [`Error::Superseded`] and [`Error::Conflict`] by what the name stands for already, and those of the disk.
    pub fn finish(mut self, named: Named, key: Option<&SigningKey>, now: Millis) -> Result<Manifest, Error> {
        let store = Arc::clone(&self.store);
        if self.size > 0 {
            self.hashes.push(tree::hash_group(self.hashes.len() as Group, self.size, &self.group));
        }
        let root = tree::root(&self.hashes);
        let tree = Tree::check(root, self.size, std::mem::take(&mut self.hashes))
            .expect("it is the list's own root");
        self.file
            .set_len(self.size)
            .and_then(|()| self.file.sync())
            .map_err(|error| store.write_error(error))?;

        let mut ledger = store.ledger();
        let known = store.named(&named.group, &named.name);
        let known = known.as_ref().map(Manifest::description);
        let version = named.version.unwrap_or_else(|| match known {
            Some(known) if known.root == root => known.version,
            Some(known) => known.version.saturating_add(1),
            None => 1,
        });
        let what = Description { name: named.name, group: named.group, version, size: self.size, root };
        let manifest = Manifest::sign(what, key);
        let mut batch = Batch::default();
        let old = {
            let state = store.state();
            state.admits(&manifest)?;
            state.contents.get(&root).map(|content| matches!(content.held, Held::Complete(_)))
        };
        if old != Some(true) {
            // Without rows of it, an opening after a crash would remove the file in its place, and nobody has it any more; what
            // has a row and no file is forgotten.
            let announced = self.adopted;
            let placed = if announced { self.announce(&mut ledger, &tree, &manifest, now) } else { Ok(()) };
            let placed = placed.and_then(|()| self.place(&tree).map_err(|error| store.write_error(error)));
            if let Err(error) = placed {
                if announced {
                    store.state().rows(&manifest, &mut batch);
                    store.commit_or_keep(&mut ledger, batch);
                }
                return Err(error);
            }
            store.counters.contents_complete.add(1);
        }
        let mut state = store.state();
        if let Some(Held::Arriving(part)) = state.contents.get(&root).map(|content| &content.held) {
            part.remove_rows(&mut batch);
        }
        let content = state.contents.entry(root).or_insert_with(|| Content {
            size: tree.size(),
            used: now,
            held: Held::complete(),
        });
        if let Held::Arriving(_) = content.held {
            content.held = Held::complete();
        }
        content.used = now;
        content.row(root, &mut batch);
        state.name(&manifest, &mut batch);
        // From now on the content itself takes the budget.
        state.incoming -= std::mem::take(&mut self.promised);
        drop(state);
        self.remove = old == Some(true);
        store.counters.bytes_arrived.add(self.size);
        store.commit_or_keep(&mut ledger, batch);
        drop(ledger);
        Ok(manifest)
    }

    /// Writes the rows of a content whose file is about to get its place.
    fn announce(
        &self,
        ledger: &mut Ledger,
        tree: &Tree,
        manifest: &Manifest,
        now: Millis,
    ) -> Result<(), Error> {
        let mut batch = Batch::default();
        name_row(manifest, &mut batch);
        if !self.store.state().contents.contains_key(&tree.root()) {
            Content { size: tree.size(), used: now, held: Held::complete() }.row(tree.root(), &mut batch);
        }
        self.store.commit(ledger, batch)
    }

    /// Puts the file in its place, after its list of hashes.
    fn place(&self, tree: &Tree) -> io::Result<()> {
        let (disk, files) = (&self.store.disk, &self.store.files);
        files.make_folder(tree.root(), &**disk)?;
        let list = disk.open(&files.tree(tree.root()))?;
        list.set_len(tree.hashes().as_flattened().len() as u64)?;
        list.write(0, tree.hashes().as_flattened())?;
        list.sync()?;
        disk.rename(&self.path, &files.blob(tree.root()))?;
        // It is there from here on, whatever becomes of what had arrived of it by other ways.
        if let Err(error) = disk.remove(&files.part(tree.root())) {
            self.store.write_error(error);
        }
        self.store.sync_folder(tree.root());
        Ok(())
    }

    /// Takes room for so many bytes in all.
    fn promise(&mut self, size: u64, now: Millis) -> Result<(), Error> {
        let wanted = cost(size.min(SIZE_MAX));
        if size > SIZE_MAX {
            let budget = self.store.limits.budget_bytes;
            return Err(Error::NoRoom { needed: size, budget, pinned: 0, arriving: 0 });
        }
        if wanted <= self.promised {
            return Ok(());
        }
        // In steps, so that not every call looks for room. How long the caller's file will be is known.
        let step = if self.promised == 0 || self.adopted { 0 } else { self.promised + STEP };
        let wanted = wanted.max(step);
        let more = wanted - self.promised;
        let mut ledger = self.store.ledger();
        let mut batch = Batch::default();
        let room = self.store.make_room(more, &mut batch, now).and_then(|()| {
            // The caller's file shows by its length what it is, whenever that is looked at.
            let length = if self.adopted { size } else { wanted };
            let room = self.store.keep_reserve(more).and_then(|()| self.file.allocate(length));
            room.map_err(|error| self.store.write_error(error))
        });
        if room.is_ok() {
            self.store.state().incoming += more;
            self.promised = wanted;
        }
        self.store.commit_or_keep(&mut ledger, batch);
        room
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.store.state().incoming -= self.promised;
        if self.remove
            && let Err(error) = self.store.disk.remove(&self.path)
        {
            self.store.write_error(error);
        }
    }
}

/// Bytes by which the room of a content of unknown length grows.
const STEP: u64 = 8 << 20;

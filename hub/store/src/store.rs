//! The store: contents come in by pieces, are checkpointed, completed, found and given out.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::budget;
use crate::counters::{Counters, Counts};
use crate::disk::Disk;
use crate::error::{Error, is_full};
use crate::files::Files;
use crate::ledger::{Batch, Ledger, Table};
use crate::manifest::{Label, Manifest};
use crate::part::{Finished, Part, Written};
use crate::ranges::Ranges;
use crate::root::Root;
use crate::state::{Content, Held, State, cost};
use crate::time::Millis;
use crate::tree::{self, Tree};

/// How much a store may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of contents, complete and arriving.
    pub budget_bytes: u64,
    /// Bytes of the file system that no content may take, so that the ledger can always be written.
    pub reserve_bytes: u64,
}

/// A folder of contents. Shared between threads; every method may block on the disk, but for those that only look.
///
/// Locks, in the order in which they are taken: ledger, state, one arriving content. The ledger's is held by whoever
/// changes what is on disk, through syncs and commits; the state's for moments, so that bytes go on arriving meanwhile.
#[derive(Debug)]
pub struct Store {
    pub(crate) files: Files,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) state: Mutex<State>,
    /// Locked as long as it is open.
    pub(crate) _lock: fs::File,
}

/// What the store has of a content that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: all of it is to come.
    New,
    /// Some of it, maybe: see [`Store::missing`].
    Arriving,
    /// All of it.
    Complete,
}

/// How far a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the content.
    pub size: u64,
    /// Bytes that are here.
    pub held: u64,
    /// Groups of the content.
    pub groups: u32,
    /// Groups that are whole.
    pub whole: u32,
    /// Whether it is complete: all here, verified, and given out.
    pub complete: bool,
    /// Whether nodes are still owed it, or late ones may come: it isn't removed.
    pub pinned: bool,
}

impl Store {
    /// Begins to take in what a manifest describes: room is made in the budget and taken on the disk. Begun already, it
    /// goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Superseded`] and [`Error::Conflict`] if the name's newest manifest says otherwise; [`Error::NoRoom`] and
    /// [`Error::DiskFull`] if there is no room, in which case nothing has been removed for the former.
    pub fn begin(&self, manifest: &Manifest, now: Millis) -> Result<Begun, Error> {
        let what = manifest.description();
        let mut ledger = self.ledger();
        let mut batch = Batch::default();
        {
            let mut state = self.state();
            state.admits(manifest).inspect_err(|_| self.counters.manifests_refused.add(1))?;
            if let Some(content) = state.contents.get(&what.root) {
                let begun = match content.held {
                    Held::Arriving(_) => Begun::Arriving,
                    Held::Complete(_) => Begun::Complete,
                };
                state.touch(what.root, now);
                state.name(manifest, &mut batch);
                drop(state);
                self.commit_or_keep(&mut ledger, batch);
                return Ok(begun);
            }
        }
        self.make_room(cost(what.size), &mut batch, now)?;
        let part = self.allocate(what.root, what.size, now).map_err(|error| {
            self.forget_files(what.root);
            self.write_error(error)
        });
        let part = match part {
            Ok(part) => part,
            Err(error) => {
                self.commit_or_keep(&mut ledger, batch);
                return Err(error);
            }
        };
        let content = Content { size: what.size, used: now, held: Held::Arriving(Arc::new(part)) };
        let mut state = self.state();
        content.row(what.root, &mut batch);
        state.name(manifest, &mut batch);
        state.contents.insert(what.root, content);
        drop(state);
        self.commit_or_keep(&mut ledger, batch);
        Ok(Begun::New)
    }

    fn allocate(&self, root: Root, size: u64, now: Millis) -> io::Result<Part> {
        let list_size = u64::from(tree::groups(size)) * 32;
        self.keep_reserve(size + list_size)?;
        self.files.make_folder(root, &*self.disk)?;
        let data = self.disk.open(&self.files.part(root))?;
        data.allocate(size)?;
        let list = self.disk.open(&self.files.tree(root))?;
        list.allocate(list_size)?;
        // Names are durable before the ledger speaks of them.
        self.disk.sync_folder(&self.files.folder(root))?;
        Ok(Part::new(root, size, data, list, now))
    }

    /// Puts bytes of an arriving content in their place: at any offset, in any order, any number of times.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], and those of the disk: what couldn't be written is still missing.
    pub fn write(&self, root: Root, offset: u64, bytes: &[u8], now: Millis) -> Result<Written, Error> {
        let (size, part) = {
            let state = self.state();
            (state.content(root)?.size, state.part(root)?)
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if end > size {
            return Err(Error::OutOfRange { offset, end, size });
        }
        let done = match part {
            Some(part) => part.write(offset, bytes, now).map_err(|error| self.write_error(error))?,
            None => Written { all: true, ..Written::default() },
        };
        self.counters.bytes_arrived.add(done.new);
        self.counters.bytes_duplicate.add(bytes.len() as u64 - done.new);
        self.counters.groups_whole.add(done.whole.into());
        self.counters.groups_refused.add(done.refused.into());
        Ok(done)
    }

    /// Reads back bytes that came of an arriving content, to decode what didn't come. They aren't verified: for nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`]; [`Error::Conflict`] if it isn't arriving; [`Error::Incomplete`] if not all of them came, or not since
    /// room was made; and those of the disk.
    pub fn read_back(&self, root: Root, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let (size, part) = {
            let state = self.state();
            (state.content(root)?.size, state.part(root)?)
        };
        let end = offset.saturating_add(into.len() as u64);
        if end > size {
            return Err(Error::OutOfRange { offset, end, size });
        }
        let part = part.ok_or(Error::Conflict)?;
        if !part.has(offset..end) {
            return Err(Error::Incomplete(root));
        }
        part.data.read(offset, into).map_err(|error| self.read_error(error))
    }

    /// Learns the hashes of an arriving content's groups (see [`Tree::to_bytes`]), so that each is verified as it gets
    /// whole. Groups that had been taken for whole and aren't the content's are missing again.
    ///
    /// # Errors
    ///
    /// [`Error::WrongTree`] if the list doesn't lead to the root.
    pub fn learn(&self, root: Root, list: &[u8], now: Millis) -> Result<(), Error> {
        let mut ledger = self.ledger();
        let (size, part) = {
            let state = self.state();
            (state.content(root)?.size, state.part(root)?)
        };
        let tree = Tree::from_bytes(root, size, list).ok_or(Error::WrongTree(root))?;
        let Some(part) = part else { return Ok(()) };
        let refused = part.learn(&tree, now).map_err(|error| self.write_error(error))?;
        self.counters.groups_refused.add(refused.into());
        let mut batch = Batch::default();
        self.state().content(root)?.row(root, &mut batch);
        self.commit_or_keep(&mut ledger, batch);
        Ok(())
    }

    /// Completes a content all of whose groups are whole: its root is verified, it gets its place, and is given out from
    /// now on. Complete already, nothing happens.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] if a group is missing. [`Error::WrongRoot`] if what arrived is something else: with the
    /// list of hashes ([`Store::learn`]) the wrong groups are found, without it [`Store::restart`] forgets all.
    pub fn complete(&self, root: Root, now: Millis) -> Result<(), Error> {
        let mut ledger = self.ledger();
        let Some(part) = self.state().part(root)? else { return Ok(()) };
        let tree = match part.finished().map_err(|error| self.read_error(error))? {
            Finished::Incomplete => return Err(Error::Incomplete(root)),
            Finished::Wrong => {
                self.counters.roots_refused.add(1);
                return Err(Error::WrongRoot(root));
            }
            Finished::Right(tree) => tree,
        };
        let mut batch = Batch::default();
        let changes = part.take_changes(&mut batch);
        if let Err(error) = part.data.sync() {
            part.undo(changes, now);
            return Err(self.write_error(error));
        }
        let placed = part.list.write(0, tree.hashes().as_flattened()).and_then(|()| {
            part.list.sync()?;
            match self.disk.rename(&self.files.part(root), &self.files.blob(root)) {
                // It was there before it was damaged, and couldn't be renamed then.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.files.blob(root).exists() => {
                    Ok(())
                }
                other => other,
            }
        });
        if let Err(error) = placed {
            // The bytes are durable all the same.
            self.commit_or_keep(&mut ledger, batch);
            return Err(self.write_error(error));
        }
        self.sync_folder(root);
        part.remove_rows(&mut batch);
        let mut state = self.state();
        if let Some(content) = state.contents.get_mut(&root) {
            content.held = Held::complete();
            content.used = now;
            content.row(root, &mut batch);
        }
        drop(state);
        self.counters.contents_complete.add(1);
        self.commit_or_keep(&mut ledger, batch);
        Ok(())
    }

    /// Forgets all that has arrived of a content, because it was something else.
    ///
    /// # Errors
    ///
    /// The content isn't arriving.
    pub fn restart(&self, root: Root, now: Millis) -> Result<(), Error> {
        let part = self.state().part(root)?.ok_or(Error::Conflict)?;
        part.forget_all(now);
        Ok(())
    }

    /// The bytes of a content that haven't arrived, in growing order: one request upstream for each.
    ///
    /// # Errors
    ///
    /// No such content.
    pub fn missing(&self, root: Root) -> Result<Ranges, Error> {
        let part = self.state().part(root)?;
        Ok(part.map_or_else(Ranges::new, |part| part.missing()))
    }

    /// How far a content is.
    pub fn progress(&self, root: Root, now: Millis) -> Option<Progress> {
        let state = self.state();
        let content = state.contents.get(&root)?;
        let groups = tree::groups(content.size);
        let (complete, (held, whole)) = match &content.held {
            Held::Arriving(part) => (false, part.held()),
            Held::Complete(_) => (true, (content.size, groups)),
        };
        let pinned = state.is_pinned(root, now);
        Some(Progress { size: content.size, held, groups, whole, complete, pinned })
    }

    /// All contents, in the order of their roots.
    pub fn contents(&self) -> Vec<Root> {
        let mut roots: Vec<_> = self.state().contents.keys().copied().collect();
        roots.sort();
        roots
    }

    /// The newest manifest of each name, by group of nodes and name.
    pub fn names(&self) -> Vec<Manifest> {
        self.state().names.values().cloned().collect()
    }

    /// The newest manifest of a name in a group of nodes.
    pub fn named(&self, group: &Label, name: &Label) -> Option<Manifest> {
        self.state().names.get(&(group.clone(), name.clone())).cloned()
    }

    /// Bytes of the budget that are taken, and the budget.
    pub fn budget(&self) -> (u64, u64) {
        (self.state().cost(), self.limits.budget_bytes)
    }

    /// Removes a content.
    ///
    /// # Errors
    ///
    /// It isn't here, or it is pinned: [`Error::Conflict`].
    pub fn remove(&self, root: Root, now: Millis) -> Result<(), Error> {
        let mut ledger = self.ledger();
        let mut batch = Batch::default();
        let mut state = self.state();
        state.content(root)?;
        if state.is_pinned(root, now) {
            return Err(Error::Conflict);
        }
        self.drop_content(&mut state, root, &mut batch);
        drop(state);
        self.forget_files(root);
        self.commit(&mut ledger, batch)
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Removes contents until so many bytes fit into the budget.
    pub(crate) fn make_room(&self, bytes: u64, batch: &mut Batch, now: Millis) -> Result<(), Error> {
        let victims = {
            let mut state = self.state();
            let victims = budget::victims(&state, bytes, self.limits.budget_bytes, now)
                .inspect_err(|_| self.counters.admissions_refused.add(1))?;
            victims.iter().for_each(|root| self.drop_content(&mut state, *root, batch));
            victims
        };
        self.counters.contents_evicted.add(victims.len() as u64);
        // Before the ledger says so: a row without its file is dropped at the next opening, a file without its row would
        // take room until then.
        victims.into_iter().for_each(|root| self.forget_files(root));
        Ok(())
    }

    fn drop_content(&self, state: &mut State, root: Root, batch: &mut Batch) {
        if let Some(content) = state.contents.remove(&root)
            && let Held::Arriving(part) = content.held
        {
            part.remove_rows(batch);
        }
        state.forget_distributions(root, batch);
        batch.remove(Table::Content, root.as_bytes());
    }

    /// Removes a content's files; who reads them now reads on to the end.
    pub(crate) fn forget_files(&self, root: Root) {
        for path in [self.files.blob(root), self.files.part(root), self.files.tree(root)] {
            if let Err(error) = self.disk.remove(&path) {
                // It takes room until the next opening finds it without a row.
                self.write_error(error);
            }
        }
    }

    /// Makes names durable that have changed. If that fails and power is lost, opening finds the old names, which is the
    /// same content that proves right once more.
    pub(crate) fn sync_folder(&self, root: Root) {
        if let Err(error) = self.disk.sync_folder(&self.files.folder(root)) {
            self.write_error(error);
        }
    }

    /// An error that says that the disk is full, if taking so many bytes would leave less than the reserve.
    pub(crate) fn keep_reserve(&self, bytes: u64) -> io::Result<()> {
        let free = self.disk.free(self.files.top())?;
        match free.checked_sub(bytes) {
            Some(left) if left >= self.limits.reserve_bytes => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    pub(crate) fn write_error(&self, error: io::Error) -> Error {
        if is_full(&error) {
            self.counters.disk_full.add(1);
            return Error::DiskFull;
        }
        self.counters.write_errors.add(1);
        Error::Disk(error)
    }

    pub(crate) fn read_error(&self, error: io::Error) -> Error {
        self.counters.read_errors.add(1);
        Error::Disk(error)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nothing panics while it holds the ledger")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }
}

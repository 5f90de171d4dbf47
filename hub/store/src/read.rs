//! Reading what is complete. Nothing is given out whose group hasn't just been verified: disks forget, and memory too.

use std::io;
use std::sync::{Arc, Weak};

use crate::disk::File;
use crate::error::Error;
use crate::ledger::Batch;
use crate::part::Part;
use crate::root::Root;
use crate::state::{Held, State};
use crate::store::Store;
use crate::time::Millis;
use crate::tree::{self, GROUP, Group, Tree};

/// An open blob: its file, and the list that its groups are verified against. In memory while somebody reads it.
#[derive(Debug)]
pub(crate) struct Blob {
    data: Arc<dyn File>,
    list: Arc<dyn File>,
    tree: Tree,
}

/// A reader of one content. It keeps the last group that it verified, so that who reads on, or reads pieces of one
/// group, hashes each group once.
#[derive(Debug)]
pub struct Reader {
    store: Arc<Store>,
    blob: Arc<Blob>,
    group: Option<Group>,
    bytes: Vec<u8>,
}

impl Store {
    /// Opens a complete content to read it.
    ///
    /// # Errors
    ///
    /// It isn't here, or not all of it.
    pub fn reader(self: &Arc<Self>, root: Root, now: Millis) -> Result<Reader, Error> {
        let blob = self.blob(root, now)?;
        Ok(Reader { store: Arc::clone(self), blob, group: None, bytes: Vec::new() })
    }

    /// The hashes of a complete content's groups, for whoever is to verify it as it arrives.
    ///
    /// # Errors
    ///
    /// It isn't here, or not all of it.
    pub fn tree(&self, root: Root, now: Millis) -> Result<Tree, Error> {
        Ok(self.blob(root, now)?.tree.clone())
    }

    fn blob(&self, root: Root, now: Millis) -> Result<Arc<Blob>, Error> {
        let open = |state: &State| match &state.content(root)?.held {
            Held::Arriving(_) => Err(Error::Incomplete(root)),
            Held::Complete(blob) => Ok(blob.upgrade()),
        };
        {
            let mut state = self.state();
            state.touch(root, now);
            if let Some(blob) = open(&state)? {
                return Ok(blob);
            }
        }
        let mut ledger = self.ledger();
        // Meanwhile it may have been opened, removed or found damaged.
        let size = {
            let state = self.state();
            if let Some(blob) = open(&state)? {
                return Ok(blob);
            }
            state.content(root)?.size
        };
        let opened = self.open_blob(root, size).map_err(|error| self.read_error(error))?;
        let mut state = self.state();
        let content = state.contents.get_mut(&root).ok_or(Error::Unknown(root))?;
        match opened {
            Ok(blob) => {
                let blob = Arc::new(blob);
                content.held = Held::Complete(Arc::downgrade(&blob));
                Ok(blob)
            }
            Err([data, list]) => {
                // Neither the list nor the bytes lead to the root any more, and nothing says which of them are right.
                self.counters.contents_lost.add(1);
                let part = Part::new(root, size, data, list, now);
                content.held = Held::Arriving(Arc::new(part));
                let mut batch = Batch::default();
                content.row(root, &mut batch);
                drop(state);
                self.commit_or_keep(&mut ledger, batch);
                self.call_part(root);
                Err(Error::Incomplete(root))
            }
        }
    }

    /// Opens a blob's files; if the list was damaged, it is made again from the bytes. The files, if those are damaged too.
    fn open_blob(&self, root: Root, size: u64) -> io::Result<Result<Blob, [Arc<dyn File>; 2]>> {
        let data = self.disk.open(&self.files.blob(root))?;
        let list = self.disk.open(&self.files.tree(root))?;
        if data.length()? != size {
            data.set_len(size)?;
        }
        let mut hashes = vec![[0; 32]; tree::groups(size) as usize];
        let read = list.read(0, hashes.as_flattened_mut());
        if read.is_ok()
            && let Some(tree) = Tree::check(root, size, hashes)
        {
            return Ok(Ok(Blob { data, list, tree }));
        }
        self.counters.groups_damaged.add(1);
        let mut hashes = Vec::new();
        for group in 0..tree::groups(size) {
            let span = tree::span(group, size);
            let mut bytes = vec![0; (span.end - span.start) as usize];
            if let Err(error) = data.read(span.start, &mut bytes) {
                self.read_error(error);
                return Ok(Err([data, list]));
            }
            hashes.push(tree::hash_group(group, size, &bytes));
        }
        Ok(match Tree::check(root, size, hashes) {
            Some(tree) => {
                list.write(0, tree.hashes().as_flattened())?;
                Ok(Blob { data, list, tree })
            }
            None => Err([data, list]),
        })
    }

    /// A group of a complete content can't be read or isn't what it was: it is missing again, and the content arriving.
    fn damaged(&self, blob: &Blob, group: Group, now: Millis) {
        self.counters.groups_damaged.add(1);
        let root = blob.tree.root();
        let mut ledger = self.ledger();
        let mut state = self.state();
        let Some(content) = state.contents.get_mut(&root) else { return };
        let mut batch = Batch::default();
        match &content.held {
            Held::Arriving(part) => part.forget(group, now),
            Held::Complete(_) => {
                let files = [Arc::clone(&blob.data), Arc::clone(&blob.list)];
                let part = Part::damaged(&blob.tree, group, files, now);
                part.take_changes(&mut batch);
                content.held = Held::Arriving(Arc::new(part));
                content.row(root, &mut batch);
                drop(state);
                self.commit_or_keep(&mut ledger, batch);
                self.call_part(root);
            }
        }
    }

    /// Gives a blob the name of one that is arriving. If that fails, the next opening finds it under its old name.
    fn call_part(&self, root: Root) {
        match self.disk.rename(&self.files.blob(root), &self.files.part(root)) {
            Ok(()) => self.sync_folder(root),
            Err(error) => drop(self.write_error(error)),
        }
    }
}

impl Held {
    /// A complete content that nobody reads.
    pub(crate) fn complete() -> Self {
        Self::Complete(Weak::new())
    }
}

impl Reader {
    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.blob.tree.size()
    }

    /// The content's root.
    pub fn root(&self) -> Root {
        self.blob.tree.root()
    }

    /// Fills the buffer with the bytes from this offset on.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] if a group can't be read or is no longer the content's: it is missing from now on, the
    /// content is arriving, and what the buffer holds isn't to be used. [`Error::OutOfRange`].
    pub fn read(&mut self, offset: u64, into: &mut [u8], now: Millis) -> Result<(), Error> {
        let size = self.size();
        let end = offset.saturating_add(into.len() as u64);
        if end > size {
            return Err(Error::OutOfRange { offset, end, size });
        }
        let mut at = offset;
        while at < end {
            let (start, bytes) = self.group((at / GROUP) as Group, now)?;
            let upto = end.min(start + bytes.len() as u64);
            let part = &bytes[(at - start) as usize..(upto - start) as usize];
            into[(at - offset) as usize..(upto - offset) as usize].copy_from_slice(part);
            at = upto;
        }
        self.store.counters.bytes_served.add(end - offset);
        Ok(())
    }

    /// A group, verified: where it starts, and its bytes.
    fn group(&mut self, group: Group, now: Millis) -> Result<(u64, &[u8]), Error> {
        let span = tree::span(group, self.size());
        if self.group != Some(group) {
            self.group = None;
            self.bytes.resize((span.end - span.start) as usize, 0);
            let read = self.blob.data.read(span.start, &mut self.bytes);
            let failed = read.map_err(|error| self.store.read_error(error)).is_err();
            if failed || !self.blob.tree.verify(group, &self.bytes) {
                self.store.damaged(&self.blob, group, now);
                return Err(Error::Incomplete(self.root()));
            }
            self.group = Some(group);
        }
        Ok((span.start, &self.bytes))
    }
}

//! Where a session's bytes come from: the store, each range verified as it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_hub::norm::ObjectId;
use millrace_hub::session::{Content, Unread};
use millrace_hub_store::{Millis, Reader, Root, Store};

/// The objects of a session, numbered as its profile does.
#[derive(Debug)]
pub(super) struct Cache<O> {
    store: Arc<Store>,
    objects: BTreeMap<O, Held>,
}

/// Those of NORM, and what was last read of them.
#[derive(Debug)]
pub(super) struct BlockCache {
    cache: Cache<ObjectId>,
    /// The last block that parity was computed from: its rows follow each other.
    block: Option<(ObjectId, u64, Vec<u8>)>,
}

#[derive(Debug)]
struct Held {
    root: Root,
    /// Opened when it is first read, and anew after it couldn't be read: meanwhile it may have been mended.
    reader: Option<Reader>,
}

impl<O: Ord> Cache<O> {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, objects: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, object: O, root: Root) {
        self.objects.insert(object, Held { root, reader: None });
    }

    pub(super) fn remove(&mut self, object: O) {
        self.objects.remove(&object);
    }
}

impl<O: Ord> Content<O> for Cache<O> {
    fn read(&mut self, object: O, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        let held = self.objects.get_mut(&object).ok_or(Unread)?;
        let now = Millis::now();
        let mut reader = match held.reader.take() {
            Some(reader) => reader,
            None => self.store.reader(held.root, now).map_err(|_| Unread)?,
        };
        reader.read(offset, out, now).map_err(|_| Unread)?;
        held.reader = Some(reader);
        Ok(())
    }
}

impl BlockCache {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { cache: Cache::new(store), block: None }
    }

    pub(super) fn insert(&mut self, object: ObjectId, root: Root) {
        self.cache.insert(object, root);
    }

    pub(super) fn remove(&mut self, object: ObjectId) {
        self.cache.remove(object);
        self.block.take_if(|(of, ..)| *of == object);
    }
}

impl Content for BlockCache {
    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        if out.len() < BLOCK_MIN {
            return self.cache.read(object, offset, out);
        }
        if let Some((of, at, bytes)) = &self.block
            && (*of, *at, bytes.len()) == (object, offset, out.len())
        {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        self.cache.read(object, offset, out)?;
        self.block = Some((object, offset, out.to_vec()));
        Ok(())
    }
}

/// What is as long is a block and no segment.
const BLOCK_MIN: usize = 2048;

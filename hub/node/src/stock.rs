//! A hub's store as the place where contents go that arrive by NORM.
//!
//! ```text
//!  what comes before it is known what it is      memory, a little
//!  what a manifest describes                     the store itself, segment by segment: Store::begin, write, complete
//!  what has a name and no manifest               FOLDER/.millrace/7-3.part, of which the store adopts the file
//! ```
//!
//! The map beside such a file (see [`crate::part`]) says what is there of it; of what goes to the store, the map says what it is,
//! and the store what is there.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use millrace_hub::norm::{NodeId, ObjectId, PayloadId};
use millrace_hub::segments::SegmentSet;
use millrace_hub::session::{Receiver, Storage, Unstored};
use millrace_hub::shape::Shape;
use millrace_hub_store::{
    Begun, Error, Incoming, Label, Manifest, Millis, Named, Root, SigningKey, Store, Trust,
};

use crate::arrivals::{Setback, Shelf};
use crate::error::{NodeError, Refusal};
use crate::part::Record;
use crate::pieces::{About, Pieces, whole_until};

/// What the store has now.
#[derive(Debug)]
pub(crate) struct Stocked {
    pub(crate) manifest: Manifest,
    /// Whether all of it was there before.
    pub(crate) known: bool,
}

/// Where what comes of an object goes.
#[derive(Debug)]
enum Place {
    /// Nothing is known of it but its length: segments by offset.
    Memory(BTreeMap<u64, Vec<u8>>),
    /// A manifest describes it, and there was no room for it.
    Described(Box<Manifest>),
    /// Into the store, as this says; whether all of it was there.
    Store { manifest: Box<Manifest>, known: bool },
    /// It has a name and so many bytes, of which none came: whoever only names something takes no room.
    Named(u64),
    /// Some of its so many bytes are in a file, and room for the others isn't promised any more; after a restart for none.
    Resting(u64, Option<Box<Incoming>>),
    /// Into a file, for which the store has promised room; `None` after an error.
    File(Option<Box<Incoming>>),
}

/// What arrives from one sender, on its way into the store.
#[derive(Debug)]
pub(crate) struct Stock {
    store: Arc<Store>,
    /// Signs what has no manifest.
    key: Option<Arc<SigningKey>>,
    pieces: Pieces,
    places: BTreeMap<ObjectId, Place>,
    /// Bytes in memory.
    memory: usize,
    wall: Millis,
    /// The first error of the store since somebody asked,
    failed: Option<io::Error>,
    /// and what happened to the room of objects.
    setbacks: VecDeque<(ObjectId, Setback)>,
}

impl Stock {
    /// Opens the sender's folder, made if it isn't there.
    pub(crate) fn open(
        folder: &Path,
        sender: NodeId,
        store: Arc<Store>,
        key: Option<Arc<SigningKey>>,
        wall: Millis,
    ) -> Result<Self, NodeError> {
        let pieces = Pieces::open(folder, sender)?;
        Ok(Self {
            store,
            key,
            pieces,
            places: BTreeMap::new(),
            memory: 0,
            wall,
            failed: None,
            setbacks: VecDeque::new(),
        })
    }

    /// The time of day, for what is used when.
    pub(crate) fn set_wall(&mut self, wall: Millis) {
        self.wall = wall;
    }

    /// The source segments that the store has of a content.
    fn stored(&self, root: Root, shape: &Shape) -> Vec<PayloadId> {
        // What isn't there any more is missing as a whole.
        let Ok(missing) = self.store.missing(root) else { return Vec::new() };
        let there = |id: &PayloadId| {
            let Some((offset, len)) = shape.range(*id) else { return false };
            let all = offset..offset + len as u64;
            missing.gaps(all.clone()) == std::slice::from_ref(&all)
        };
        (0..shape.segments()).filter_map(|at| shape.at(at)).filter(there).collect()
    }

    /// Takes what came of an object out of memory.
    fn take_memory(&mut self, object: ObjectId) -> BTreeMap<u64, Vec<u8>> {
        let Some(Place::Memory(segments)) = self.places.get_mut(&object) else { return BTreeMap::new() };
        let segments = std::mem::take(segments);
        self.memory -= segments.values().map(Vec::len).sum::<usize>();
        segments
    }

    /// Takes room for a content that has none, or not for all of it.
    fn make_place(&mut self, object: ObjectId) -> Result<(), Error> {
        let Some(place) = self.places.get_mut(&object) else { return Ok(()) };
        let adopt = |size| self.store.adopt(self.pieces.path(object), size, self.wall).map(Box::new);
        let made = match place {
            Place::Described(manifest) => {
                let known = self.store.begin(manifest, self.wall)? == Begun::Complete;
                Place::Store { manifest: manifest.clone(), known }
            }
            Place::Named(size) => match adopt(*size) {
                Ok(incoming) => Place::File(Some(incoming)),
                Err(error) => {
                    self.pieces.discard(object);
                    return Err(error);
                }
            },
            Place::Resting(size, kept) => {
                match kept {
                    Some(kept) => kept.grow(*size, self.wall)?,
                    None => *kept = Some(adopt(*size)?),
                }
                Place::File(kept.take())
            }
            Place::Memory(_) | Place::Store { .. } | Place::File(_) => return Ok(()),
        };
        *place = made;
        Ok(())
    }

    /// Notes that what comes of an object goes to the store.
    fn note_store(&mut self, object: ObjectId, shape: &Shape, info: &[u8]) {
        // Nothing is lost without it but the way back after a crash, which the sender's next info shows again.
        if let Err(error) = self.pieces.done(object, shape, info) {
            self.failed.get_or_insert(error);
        }
    }

    fn put(&mut self, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        self.make_place(object)?;
        match self.places.get_mut(&object) {
            Some(Place::Memory(segments)) => {
                if self.memory + bytes.len() > MEMORY_MAX {
                    return Err(Refusal::Nameless);
                }
                self.memory += bytes.len();
                let before = segments.insert(offset, bytes.to_vec());
                self.memory -= before.map_or(0, |before| before.len());
                Ok(())
            }
            Some(Place::Store { manifest, .. }) => {
                let root = manifest.description().root;
                match self.store.write(root, offset, bytes, self.wall) {
                    // It was removed to make room, because nothing came for long. This, too, comes anew.
                    Err(Error::Unknown(_)) => {
                        let manifest = manifest.clone();
                        self.places.insert(object, Place::Described(manifest));
                        self.setbacks.push_back((object, Setback::Lost));
                        self.make_place(object)?;
                        Err(Refusal::Nameless)
                    }
                    other => {
                        other?;
                        Ok(())
                    }
                }
            }
            Some(Place::File(_)) => self.pieces.write(object, offset, bytes).map_err(|Unstored| {
                self.pieces.failure().unwrap_or_else(|| io::ErrorKind::Other.into()).into()
            }),
            Some(Place::Described(_) | Place::Named(_) | Place::Resting(..)) | None => Err(Refusal::Nameless),
        }
    }

    fn get(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Refusal> {
        match self.places.get(&object) {
            Some(Place::Memory(segments)) => {
                let there = segments.get(&offset).filter(|segment| segment.len() == out.len());
                out.copy_from_slice(there.ok_or(Refusal::Nameless)?);
                Ok(())
            }
            Some(Place::Store { manifest, .. }) => {
                let root = manifest.description().root;
                match self.store.read_back(root, offset, out) {
                    // Room was made, or another session of it began anew.
                    Err(Error::Unknown(_) | Error::Incomplete(_)) => {
                        self.setbacks.push_back((object, Setback::Lost));
                        Err(Refusal::Nameless)
                    }
                    // It was completed by another way.
                    Err(Error::Conflict) => {
                        Ok(self.store.reader(root, self.wall)?.read(offset, out, self.wall)?)
                    }
                    other => Ok(other?),
                }
            }
            Some(Place::File(_) | Place::Resting(..)) => {
                self.pieces.read(object, offset, out).map_err(|Unstored| {
                    self.pieces.failure().unwrap_or_else(|| io::ErrorKind::Other.into()).into()
                })
            }
            Some(Place::Described(_) | Place::Named(_)) | None => Err(Refusal::Nameless),
        }
    }

    fn note(&mut self, why: Refusal) -> Unstored {
        let error = match why {
            Refusal::Disk(error) | Refusal::Store(Error::Disk(error)) => error,
            Refusal::Store(error) => io::Error::other(error),
            // No room in memory: it comes again.
            _ => return Unstored,
        };
        self.failed.get_or_insert(error);
        Unstored
    }

    /// A content with a name and no manifest: all of its file has come.
    fn adopt(&mut self, object: ObjectId, size: u64, name: &Label) -> Result<Stocked, Error> {
        let kept = match self.places.get_mut(&object) {
            Some(Place::File(incoming) | Place::Resting(_, incoming)) => incoming.take(),
            Some(Place::Named(_)) => None,
            _ => return Err(Error::Conflict),
        };
        let mut incoming = match kept {
            Some(incoming) => incoming,
            None => Box::new(self.store.adopt(self.pieces.path(object), size, self.wall)?),
        };
        incoming.hash(size)?;
        let group = Label::default();
        let before = self.store.named(&group, name);
        let named = Named { name: name.clone(), group, version: None };
        let manifest = incoming.finish(named, self.key.as_deref(), self.wall)?;
        Ok(Stocked { known: before.as_ref() == Some(&manifest), manifest })
    }
}

impl Shelf for Stock {
    type Kept = Stocked;

    fn resume(&mut self, receiver: &mut Receiver) -> Vec<(ObjectId, Shape, Vec<u8>)> {
        let mut arriving = Vec::new();
        for (record, shape, mut stored) in self.pieces.newest() {
            let object = ObjectId(record.object);
            // Whether it is believed now is asked later.
            let about = About::read(&record.info, shape.size(), &Trust::Anybody);
            let manifest = about.ok().and_then(|about| about.manifest);
            let mut goes_on = true;
            match (record.done, manifest) {
                (true, Some(manifest)) => {
                    let root = manifest.description().root;
                    let Some(progress) = self.store.progress(root, self.wall) else {
                        self.pieces.discard(object);
                        continue;
                    };
                    stored = self.stored(root, &shape);
                    let known = progress.complete;
                    self.places.insert(object, Place::Store { manifest: Box::new(manifest), known });
                }
                // The store took it: nothing is left but to say so when the sender asks.
                (true, None) => goes_on = false,
                (false, _) => {
                    let path = self.pieces.path(object);
                    let adopted =
                        self.pieces.take_up(&record).then(|| self.store.adopt(path, shape.size(), self.wall));
                    match adopted {
                        Some(Ok(incoming)) => {
                            drop(self.places.insert(object, Place::File(Some(Box::new(incoming)))));
                        }
                        Some(Err(error)) if may_pass(&error) => {
                            drop(self.places.insert(object, Place::Resting(shape.size(), None)));
                        }
                        Some(Err(_)) | None => {
                            self.pieces.discard(object);
                            continue;
                        }
                    }
                }
            }
            let info = record.info.clone();
            let resumed = receiver.resume(record.instance, object, record.fti(), Some(info), stored);
            if resumed.is_ok() && goes_on {
                arriving.push((object, shape, record.info));
            }
        }
        arriving
    }

    fn begin(&mut self, object: ObjectId, size: u64) -> Result<(), Refusal> {
        let (_, budget) = self.store.budget();
        if size > budget {
            return Err(Error::NoRoom { needed: size, budget, pinned: 0, arriving: 0 }.into());
        }
        self.places.insert(object, Place::Memory(BTreeMap::new()));
        Ok(())
    }

    fn find(
        &mut self,
        receiver: &mut Receiver,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        about: &About,
    ) -> Result<(), Refusal> {
        let early = self.take_memory(object);
        match &about.manifest {
            Some(manifest) => {
                self.places.insert(object, Place::Described(Box::new(manifest.clone())));
                self.make_place(object)?;
                self.note_store(object, shape, info);
            }
            None => drop(self.places.insert(object, Place::Named(shape.size()))),
        }
        early.iter().try_for_each(|(offset, bytes)| self.put(object, *offset, bytes))?;
        self.left(object, shape).into_iter().for_each(|id| receiver.recovered(object, id));
        Ok(())
    }

    fn checkpoint(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        missing: &[(u32, SegmentSet)],
    ) -> io::Result<()> {
        // The store has checkpoints of its own.
        let Some(Place::File(incoming)) = self.places.get_mut(&object) else { return Ok(()) };
        if let Some(incoming) = incoming {
            let end = whole_until(shape, missing).min(incoming.size() + HASH_MAX);
            incoming.hash(end).map_err(io::Error::other)?;
        }
        self.pieces.keep(object, shape, info, missing)
    }

    fn finish(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        about: &About,
    ) -> Result<Stocked, Refusal> {
        let stocked = match self.places.get(&object) {
            Some(Place::Store { manifest, known }) => {
                let root = manifest.description().root;
                match self.store.complete(root, self.wall) {
                    Ok(()) => Stocked { manifest: Manifest::clone(manifest), known: *known },
                    Err(Error::WrongRoot(_)) => {
                        self.store.restart(root, self.wall)?;
                        return Err(Refusal::WrongRoot(root));
                    }
                    // Groups were thrown away since they came: they weren't the content's, or room was made.
                    Err(Error::Incomplete(_) | Error::Unknown(_)) => return Err(Refusal::WrongRoot(root)),
                    Err(other) => return Err(other.into()),
                }
            }
            _ => self.adopt(object, shape.size(), &about.name)?,
        };
        self.places.remove(&object);
        if let Err(error) = self.pieces.done(object, shape, info) {
            self.failed.get_or_insert(error);
        }
        Ok(stocked)
    }

    fn left(&self, object: ObjectId, shape: &Shape) -> Vec<PayloadId> {
        match self.places.get(&object) {
            Some(Place::Store { manifest, .. }) => self.stored(manifest.description().root, shape),
            _ => Vec::new(),
        }
    }

    fn tries_again(&self, why: &Refusal) -> bool {
        matches!(why, Refusal::Store(error) if may_pass(error))
    }

    fn take_room(&mut self, object: ObjectId, shape: &Shape, info: &[u8]) -> Result<(), Refusal> {
        self.make_place(object)?;
        if let Some(Place::Store { .. }) = self.places.get(&object) {
            self.note_store(object, shape, info);
        }
        Ok(())
    }

    fn setback(&mut self) -> Option<(ObjectId, Setback)> {
        self.setbacks.pop_front()
    }

    fn release(&mut self, object: ObjectId, shape: &Shape, missing: &[(u32, SegmentSet)]) -> io::Result<()> {
        // What goes to the store is the store's to judge.
        let Some(Place::File(incoming)) = self.places.get_mut(&object) else { return Ok(()) };
        self.pieces.release(object, shape, missing)?;
        let lacking: u64 = missing.iter().map(|(_, set)| u64::from(set.len())).sum();
        let held = shape.size().saturating_sub(lacking * shape.segment_len() as u64);
        let mut incoming = incoming.take();
        incoming.iter_mut().for_each(|incoming| incoming.shrink(held));
        self.places.insert(object, Place::Resting(shape.size(), incoming));
        Ok(())
    }

    fn forget_done(&mut self) {
        let arriving = |record: &Record| self.places.contains_key(&ObjectId(record.object));
        self.pieces.tidy(|record| record.done && !arriving(record));
    }

    fn discard(&mut self, object: ObjectId) {
        self.take_memory(object);
        if let Some(Place::Store { manifest, .. }) = self.places.remove(&object) {
            let root = manifest.description().root;
            let progress = self.store.progress(root, self.wall);
            // What came of it is kept: it may come from somebody else.
            if progress.is_some_and(|progress| progress.held == 0 && !progress.complete)
                && let Err(error) = self.store.remove(root, self.wall)
            {
                self.failed.get_or_insert(io::Error::other(error));
            }
        }
        self.pieces.discard(object);
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.failed.take().or_else(|| self.pieces.failure())
    }
}

impl Storage for Stock {
    fn write(&mut self, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        self.put(object, offset, bytes).map_err(|why| match self.places.get(&object) {
            Some(Place::Described(_) | Place::Named(_) | Place::Resting(..)) => {
                self.setbacks.push_back((object, Setback::NoRoom(why)));
                Unstored
            }
            _ => self.note(why),
        })
    }

    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        self.get(object, offset, out).map_err(|why| self.note(why))
    }

    fn run_begins(&mut self, instance: u16) {
        self.places.clear();
        self.setbacks.clear();
        self.memory = 0;
        self.pieces.run_begins(instance);
        // What the store has is found there by its manifest; what has none can't be told from something else.
        self.pieces.tidy(|record| record.instance != instance);
    }
}

/// Whether what fails so may succeed later.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Disk(_) | Error::DiskFull | Error::Ledger(_) => true,
        Error::NoRoom { needed, budget, .. } => needed <= budget,
        _ => false,
    }
}

/// Bytes that are kept in memory before it is known what they are: those of two seconds at 30 Mb/s.
const MEMORY_MAX: usize = 8 << 20;
/// Bytes hashed at a checkpoint: some ten milliseconds.
const HASH_MAX: u64 = 64 << 20;

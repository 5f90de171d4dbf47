//! All that is arriving, and the folder that it arrives in.
//!
//! ```text
//!  FOLDER/image.bin                       a content: all of it, verified
//!  FOLDER/.millrace/lock                  held by the receiver
//!  FOLDER/.millrace/7-3.part, 7-3.map     one that is arriving
//!  FOLDER/.millrace/image.bin.version     the newest version that was here, if it was signed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millrace_hub::norm::{NodeId, ObjectId, PayloadId};
use millrace_hub::segments::SegmentSet;
use millrace_hub::session::{Receiver, Storage, Unstored};
use millrace_hub::shape::Shape;
use millrace_hub_store::{Label, Manifest, ManifestError, Trust};

use crate::arrivals::Shelf;
use crate::error::{NodeError, Refusal};
use crate::news::Received;
use crate::part::{Part, Record, root_of, stem};

/// What a content is, as its info says.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) name: Label,
    /// `None` for a sender that gives names only.
    pub(crate) manifest: Option<Manifest>,
    /// Its version, if somebody who is trusted signed it: what anybody says doesn't keep later contents out.
    version: Option<u64>,
}

impl About {
    /// Reads an info of a content of so many bytes.
    pub(crate) fn read(info: &[u8], size: u64, trust: &Trust) -> Result<Self, Refusal> {
        let manifest = match (trust.check(info), trust) {
            (Ok(manifest), _) => manifest,
            (Err(ManifestError::Magic), Trust::Anybody) => {
                let name = std::str::from_utf8(info).ok().and_then(Label::name).ok_or(Refusal::Nameless)?;
                return Ok(Self { name, manifest: None, version: None });
            }
            (Err(error), _) => return Err(error.into()),
        };
        let described = manifest.description().size;
        if described != size {
            return Err(Refusal::Size { sent: size, described });
        }
        let (name, version) = (manifest.description().name.clone(), manifest.description().version);
        let version = matches!(trust, Trust::Keys(_)).then_some(version);
        Ok(Self { name, manifest: Some(manifest), version })
    }
}

/// The folder, and the files of what is arriving.
#[derive(Debug)]
pub(crate) struct Pieces {
    folder: PathBuf,
    hidden: PathBuf,
    sender: NodeId,
    instance: u16,
    parts: BTreeMap<ObjectId, Part>,
    /// The first error of the disk since somebody asked.
    failed: Option<io::Error>,
    _lock: File,
}

impl Pieces {
    /// Opens the folder, made if it isn't there, for contents of one sender.
    pub(crate) fn open(folder: &Path, sender: NodeId) -> Result<Self, NodeError> {
        let (hidden, lock) = lock(folder)?;
        let (folder, parts) = (folder.to_owned(), BTreeMap::new());
        let pieces = Self { folder, hidden, sender, instance: 0, parts, failed: None, _lock: lock };
        pieces.tidy(|_| false);
        Ok(pieces)
    }

    /// What the last checkpoints kept of the sender's newest run that is known: each object's map, cut, and source segments that
    /// are there. That run is gone on with.
    pub(crate) fn newest(&mut self) -> Vec<(Record, Shape, Vec<PayloadId>)> {
        let mut newest: Vec<_> =
            self.maps().into_iter().filter(|(_, record)| record.sender == self.sender.0).collect();
        newest.sort_by_key(|(written, _)| *written);
        let Some(instance) = newest.last().map(|(_, record)| record.instance) else { return Vec::new() };
        self.instance = instance;
        let newest = newest.into_iter().filter(|(_, record)| record.instance == instance);
        newest.filter_map(|(_, record)| Record::read(&self.map(ObjectId(record.object)))).collect()
    }

    /// Opens the file of a map of this run. Whether it is what the map says.
    pub(crate) fn take_up(&mut self, record: &Record) -> bool {
        let part = self.kept(record);
        let there = part.is_some();
        self.parts.extend(part.map(|part| (ObjectId(record.object), part)));
        there
    }

    /// Where an object's bytes are,
    pub(crate) fn path(&self, object: ObjectId) -> PathBuf {
        stem(&self.hidden, self.instance, object)
    }

    /// and its map.
    fn map(&self, object: ObjectId) -> PathBuf {
        self.path(object).with_extension("map")
    }

    /// The file of a map, if it is what the map says.
    fn kept(&self, record: &Record) -> Option<Part> {
        let path = record.stem(&self.hidden);
        let part = path.exists().then(|| Part::open(path).ok()).flatten()?;
        part.has_length(record.fti().size).then_some(part)
    }

    /// Whether this version of a name may come: none newer has been here that was signed.
    fn admits(&self, about: &About) -> Result<(), Refusal> {
        let Some(offered) = about.version else { return Ok(()) };
        let known = fs::read_to_string(self.version_path(&about.name)).ok();
        let known = known.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if offered < known { Err(Refusal::Superseded { offered, known }) } else { Ok(()) }
    }

    /// The source segments of an object that are there.
    fn there(&self, receiver: &Receiver, object: ObjectId, shape: &Shape) -> Vec<PayloadId> {
        let missing: BTreeMap<u32, SegmentSet> =
            receiver.missing(object).unwrap_or_default().into_iter().collect();
        let there = |id: &PayloadId| !missing.get(&id.block).is_some_and(|set| set.contains(id.segment));
        (0..shape.segments()).filter_map(|at| shape.at(at)).filter(there).collect()
    }

    /// Makes what has come of an object durable, then says so in the map.
    pub(crate) fn keep(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        missing: &[(u32, SegmentSet)],
    ) -> io::Result<()> {
        let record = self.record(object, shape, info);
        let Some(part) = self.parts.get_mut(&object).filter(|part| part.changed) else { return Ok(()) };
        part.sync()?;
        record.write(&self.hidden, shape, missing)
    }

    /// What comes of an object isn't here any more, but under its name or in a store: its map says that.
    pub(crate) fn done(&mut self, object: ObjectId, shape: &Shape, info: &[u8]) -> io::Result<()> {
        self.parts.remove(&object);
        let mut record = self.record(object, shape, info);
        record.done = true;
        record.write(&self.hidden, shape, &[])
    }

    /// Gives back the room of what hasn't come of an object.
    pub(crate) fn release(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        missing: &[(u32, SegmentSet)],
    ) -> io::Result<()> {
        let part = self.part(object)?;
        let ids = missing
            .iter()
            .flat_map(|(block, set)| set.iter().map(|segment| PayloadId { block: *block, segment }));
        part.release(ids.filter_map(|id| shape.range(id)))
    }

    fn record(&self, object: ObjectId, shape: &Shape, info: &[u8]) -> Record {
        Record::new(self.sender.0, self.instance, object, shape.fti(), info.to_vec())
    }

    fn version_path(&self, name: &Label) -> PathBuf {
        self.hidden.join(format!("{name}.version"))
    }

    fn note_version(&self, name: &Label, version: u64) -> io::Result<()> {
        let (path, new) = (self.version_path(name), self.hidden.join("version.new"));
        fs::write(&new, version.to_string())?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, path)
    }

    fn part(&mut self, object: ObjectId) -> io::Result<&mut Part> {
        match self.parts.entry(object) {
            std::collections::btree_map::Entry::Occupied(part) => Ok(part.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                Ok(place.insert(Part::open(stem(&self.hidden, self.instance, object))?))
            }
        }
    }

    /// The maps that are here, with the times when they were written.
    fn maps(&self) -> Vec<(SystemTime, Record)> {
        let entries = fs::read_dir(&self.hidden).into_iter().flatten().flatten();
        let maps = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "map"));
        maps.filter_map(|entry| {
            let written = entry.metadata().and_then(|about| about.modified()).ok()?;
            let (record, ..) = Record::read(&entry.path())?;
            // A map under another's name is nobody's.
            (record.stem(&self.hidden).with_extension("map") == entry.path()).then_some((written, record))
        })
        .collect()
    }

    /// Removes what nobody comes back for: maps that nothing was added to for long, those that `over` names, and files without
    /// a map.
    pub(crate) fn tidy(&self, over: impl Fn(&Record) -> bool) {
        let old = |written: SystemTime| written.elapsed().is_ok_and(|age| age > LEFT_MAX);
        let maps = self.maps();
        let (gone, kept): (Vec<_>, Vec<_>) =
            maps.into_iter().partition(|(written, record)| old(*written) || over(record));
        for (_, record) in gone {
            remove(&record.stem(&self.hidden).with_extension("map"));
        }
        let kept: Vec<_> = kept.into_iter().map(|(_, record)| record.stem(&self.hidden)).collect();
        for entry in fs::read_dir(&self.hidden).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_part = path.extension().is_some_and(|ending| ending == "part");
            if is_part && !kept.contains(&path) {
                remove(&path);
            }
        }
    }
}

/// Opens a folder for one receiver, made if it isn't there: where its own files are, and the lock to keep.
pub(crate) fn lock(folder: &Path) -> Result<(PathBuf, File), NodeError> {
    let hidden = folder.join(".millrace");
    let wrong = |error| NodeError::Folder(folder.to_owned(), error);
    fs::create_dir_all(&hidden).map_err(wrong)?;
    let lock = File::create(hidden.join("lock")).map_err(wrong)?;
    match lock.try_lock() {
        Ok(()) => Ok((hidden, lock)),
        Err(TryLockError::WouldBlock) => Err(NodeError::Taken(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(wrong(error)),
    }
}

/// Removes such a folder, once nobody has its lock, if nothing is in it.
pub(crate) fn remove_empty(folder: &Path) {
    let hidden = folder.join(".millrace");
    // What is in it stops the second step; the lock is made anew when it is needed.
    let gone = fs::remove_file(hidden.join("lock")).and_then(|()| fs::remove_dir(&hidden));
    if gone.is_ok() {
        drop(fs::remove_dir(folder));
    }
}

impl Shelf for Pieces {
    type Kept = Received;

    /// Goes on with the sender's newest run that is known.
    fn resume(&mut self, receiver: &mut Receiver) -> Vec<(ObjectId, Shape, Vec<u8>)> {
        let mut arriving = Vec::new();
        for (record, shape, stored) in self.newest() {
            let object = ObjectId(record.object);
            if !record.done && !self.take_up(&record) {
                continue;
            }
            let (fti, info) = (record.fti(), record.info.clone());
            let resumed = receiver.resume(record.instance, object, fti, Some(info), stored);
            match (resumed, record.done) {
                (Ok(()), false) => arriving.push((object, shape, record.info)),
                // The map was read with this cut, so it isn't refused; what is done waits for the hub's question only.
                (Ok(()), true) | (Err(_), _) => {}
            }
        }
        arriving
    }

    /// Takes room for an object.
    fn begin(&mut self, object: ObjectId, size: u64) -> Result<(), Refusal> {
        Ok(self.part(object)?.allocate(size)?)
    }

    /// Forgets an object that isn't wanted or won't come.
    fn discard(&mut self, object: ObjectId) {
        self.parts.remove(&object);
        let stem = stem(&self.hidden, self.instance, object);
        remove(&stem);
        remove(&stem.with_extension("map"));
    }

    /// Finds what is here already of an object whose info has just come: the same content under its name, or what an earlier run of
    /// the sender left of it. The receiver learns of it.
    fn find(
        &mut self,
        receiver: &mut Receiver,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        about: &About,
    ) -> Result<(), Refusal> {
        self.admits(about)?;
        let Some(manifest) = &about.manifest else { return Ok(()) };
        let what = manifest.description();
        if let Ok(file) = File::open(self.folder.join(what.name.as_str()))
            && file.metadata()?.len() == what.size
            && root_of(&file)?.0 == what.root
        {
            self.discard(object);
            (0..shape.segments()).filter_map(|at| shape.at(at)).for_each(|id| receiver.recovered(object, id));
            return Ok(());
        }
        let fits = |record: &Record| {
            record.instance != self.instance
                && record.fti() == shape.fti()
                && record.info == info
                && !record.done
        };
        let left = self.maps().into_iter().map(|(_, record)| record).find(fits);
        let Some(record) = left else { return Ok(()) };
        let map = record.stem(&self.hidden).with_extension("map");
        let Some((_, _, stored)) = Record::read(&map) else { return Ok(()) };
        let Some(mut old) = self.kept(&record) else { return Ok(()) };
        // What came of this run so far is little: it goes over into the file that is there.
        let mut bytes = vec![0; shape.segment_len()];
        for (offset, len) in self.there(receiver, object, shape).into_iter().filter_map(|id| shape.range(id))
        {
            self.part(object)?.read(offset, &mut bytes[..len])?;
            old.write(offset, &bytes[..len])?;
        }
        let path = stem(&self.hidden, self.instance, object);
        old.place(&path)?;
        remove(&map);
        let mut part = Part::open(path)?;
        part.changed = true;
        self.parts.insert(object, part);
        stored.into_iter().for_each(|id| receiver.recovered(object, id));
        Ok(())
    }

    /// Makes what has come durable, then says so in the map; hashes on.
    fn checkpoint(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        missing: &[(u32, SegmentSet)],
    ) -> io::Result<()> {
        if let Some(part) = self.parts.get_mut(&object) {
            part.hash(whole_until(shape, missing), HASH_MAX)?;
        }
        self.keep(object, shape, info, missing)
    }

    /// All has come: verifies it, and puts it under its name. Returns the path, and the root.
    fn finish(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        about: &About,
    ) -> Result<Received, Refusal> {
        let target = self.folder.join(about.name.as_str());
        let described = about.manifest.as_ref().map(|manifest| manifest.description().root);
        let root = match (self.parts.get_mut(&object), described) {
            // It was found under its name, and verified then.
            (None, Some(root)) => root,
            (None, None) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
            (Some(part), _) => {
                let root = part.root(shape.size())?;
                if let Some(described) = described.filter(|described| *described != root) {
                    part.hash_again();
                    return Err(Refusal::WrongRoot(described));
                }
                part.sync()?;
                part.place(&target)?;
                File::open(&self.folder)?.sync_all()?;
                root
            }
        };
        if let Some(version) = about.version {
            self.note_version(&about.name, version)?;
        }
        self.done(object, shape, info)?;
        let (size, verified) = (shape.size(), about.manifest.is_some());
        Ok(Received { object, path: target, size, root, verified })
    }

    /// The first error of the disk since the last call.
    fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }
}

impl Storage for Pieces {
    fn write(&mut self, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        let written = self.part(object).and_then(|part| part.write(offset, bytes));
        written.map_err(|error| {
            self.failed.get_or_insert(error);
            Unstored
        })
    }

    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        let read = self.part(object).and_then(|part| part.read(offset, out));
        read.map_err(|error| {
            self.failed.get_or_insert(error);
            Unstored
        })
    }

    fn run_begins(&mut self, instance: u16) {
        self.parts.clear();
        self.instance = instance;
        // What is done is found under its name if it is sent again.
        self.tidy(|record| record.done && record.instance != instance);
    }
}

/// The bytes of an object before its first hole.
pub(crate) fn whole_until(shape: &Shape, missing: &[(u32, SegmentSet)]) -> u64 {
    let first = missing.iter().find_map(|(block, set)| Some((*block, set.iter().next()?)));
    let Some((block, segment)) = first else { return shape.size() };
    shape.range(PayloadId { block, segment }).map_or(0, |(offset, _)| offset)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(?path, %error, "a file can't be removed");
    }
}

/// Bytes hashed at a checkpoint: some ten milliseconds.
const HASH_MAX: u64 = 64 << 20;
/// What wasn't added to for so long is given up: a week.
const LEFT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

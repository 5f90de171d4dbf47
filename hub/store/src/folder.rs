//! Contents from a folder: what is put there is taken in. `DIR/image.bin` is for all nodes, `DIR/cameras/image.bin` for
//! the group `cameras`. A file that changes becomes a new version of its name; one whose content was removed to make room is
//! not taken in again before it changes, or the two would take turns.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::Error;
use crate::incoming::Named;
use crate::keys::SigningKey;
use crate::manifest::{Label, Manifest};
use crate::store::Store;
use crate::taken::Seen;
use crate::time::Millis;
use crate::tree::GROUP;

/// A folder that is looked at again and again. It is scanned and not watched: that works on every file system, and a file
/// that is still being written can't be told from one that is ready but by looking twice anyway.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files that were new or changed in the last scan, as they were then.
    waiting: HashMap<PathBuf, String>,
}

/// What became of a file, or of an object, that was new.
#[derive(Debug)]
pub struct TakenIn {
    /// Where it came from.
    pub place: String,
    /// What it is now, or why it isn't here; then it is tried again in the next scan.
    pub result: Result<Manifest, TakeError>,
}

/// Why something wasn't taken in.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Its name, or its folder's, can't be one of a content.
    #[error("its name can't be a content's")]
    Name,
    /// It changed while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Read(#[source] io::Error),
    /// The store upstream doesn't give it.
    #[cfg(feature = "net")]
    #[error("upstream: {0}")]
    Upstream(#[from] object_store::Error),
    /// The server doesn't give it.
    #[cfg(feature = "net")]
    #[error("the server: {0}")]
    Server(#[from] reqwest::Error),
    /// The store here doesn't take it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Folder {
    /// A folder that nothing has been taken from by this process.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), waiting: HashMap::new() }
    }

    /// Looks through the folder and takes in what is new and was the same in the scan before. To be called every second or so.
    ///
    /// # Errors
    ///
    /// The folder can't be read. What can't be taken in is in the list.
    pub fn scan(
        &mut self,
        store: &Arc<Store>,
        key: Option<&SigningKey>,
        now: Millis,
    ) -> io::Result<Vec<TakenIn>> {
        let mut taken = Vec::new();
        let before = std::mem::take(&mut self.waiting);
        for (path, group) in files(&self.path)? {
            let place = path.to_string_lossy().into_owned();
            let Ok(mark) = fs::symlink_metadata(&path).map(|about| mark(&about)) else { continue };
            if store.seen(&place).is_some_and(|seen| seen.mark == mark) {
                continue;
            }
            if before.get(&path) == Some(&mark) {
                let result =
                    named(&path, &group).and_then(|named| take(store, &path, named, &mark, key, now));
                if let Ok(manifest) = &result {
                    store.note_seen(&place, Seen { mark, root: manifest.description().root }, now);
                    taken.push(TakenIn { place, result });
                    continue;
                }
                taken.push(TakenIn { place, result });
            }
            self.waiting.insert(path, mark);
        }
        Ok(taken)
    }
}

/// The regular files of the folder and of its folders, each with its group; hidden ones aside, links not followed.
fn files(top: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut look = |folder: &Path, group: &str| -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_file() {
                found.push((entry.path(), group.to_owned()));
            } else if kind.is_dir() {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    };
    for folder in look(top, "")? {
        let group = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One that goes away meanwhile has nothing to take in.
        look(&folder, &group).map_or_else(|error| skip(&folder, &error), drop);
    }
    found.sort();
    Ok(found)
}

fn skip(folder: &Path, error: &io::Error) {
    tracing::debug!(?folder, %error, "a folder of contents can't be read");
}

/// Changes whenever the file does.
fn mark(about: &fs::Metadata) -> String {
    format!("{} {} {} {}", about.ino(), about.len(), about.mtime(), about.mtime_nsec())
}

/// Takes a file in, now.
///
/// # Errors
///
/// [`TakeError`]; then nothing is left of it.
pub fn take_file(
    store: &Arc<Store>,
    path: &Path,
    named: Named,
    key: Option<&SigningKey>,
    now: Millis,
) -> Result<Manifest, TakeError> {
    let seen = mark(&fs::symlink_metadata(path).map_err(TakeError::Read)?);
    take(store, path, named, &seen, key, now)
}

/// Takes all files of a folder in, now; those in its folders are for the groups of their names, the others for all nodes.
///
/// # Errors
///
/// The folder can't be read. What can't be taken in is in the list.
pub fn take_folder(
    store: &Arc<Store>,
    path: &Path,
    key: Option<&SigningKey>,
    now: Millis,
) -> io::Result<Vec<TakenIn>> {
    let take = |(path, group): (PathBuf, String)| {
        let result = named(&path, &group).and_then(|named| take_file(store, &path, named, key, now));
        TakenIn { place: path.to_string_lossy().into_owned(), result }
    };
    Ok(files(path)?.into_iter().map(take).collect())
}

/// What a file's place says of its content.
fn named(path: &Path, group: &str) -> Result<Named, TakeError> {
    let name = path.file_name().and_then(|name| Label::name(name.to_str()?)).ok_or(TakeError::Name)?;
    let group = Label::group(group).ok_or(TakeError::Name)?;
    Ok(Named { name, group, version: None })
}

fn take(
    store: &Arc<Store>,
    path: &Path,
    named: Named,
    seen: &str,
    key: Option<&SigningKey>,
    now: Millis,
) -> Result<Manifest, TakeError> {
    let nofollow = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let open = OpenOptions::new().read(true).custom_flags(nofollow).open(path);
    let mut file = open.map_err(TakeError::Read)?;
    let about = file.metadata().map_err(TakeError::Read)?;
    if !about.is_file() {
        return Err(TakeError::Read(io::Error::new(io::ErrorKind::InvalidInput, "it isn't a file")));
    }
    let mut incoming = store.put(Some(about.len()), now)?;
    let mut bytes = vec![0; GROUP as usize];
    loop {
        match file.read(&mut bytes).map_err(TakeError::Read)? {
            0 => break,
            length => incoming.write(&bytes[..length], now)?,
        }
    }
    if mark(&file.metadata().map_err(TakeError::Read)?) != seen {
        return Err(TakeError::Changed);
    }
    Ok(incoming.finish(named, key, now)?)
}

//! Where sessions are, on disk: a hub that is killed goes on with the same run of its session, so that nodes keep what they have, and
//! first copies go on where they were. What nodes have acknowledged is in the store's ledger.
//!
//! The file is renamed into its place and not synced, so after a loss of power an older one may be there: it counts only until the
//! machine starts anew. That costs a session's run, and nothing that nodes have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millrace_hub_store::Root;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A site's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The machine's start that it was written after.
    pub(super) boot: String,
    /// The run.
    pub(super) instance: u16,
    /// The number of the next object: those of what is done aren't used again.
    pub(super) next: u16,
    /// Bytes of a segment: with others, objects are cut otherwise.
    pub(super) segment: u16,
    /// What wasn't done.
    pub(super) objects: Vec<SavedObject>,
}

/// An object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedObject {
    /// Its number in the session.
    pub(super) number: u16,
    /// The content,
    pub(super) root: Root,
    /// and its version.
    pub(super) version: u64,
    /// Source segments sent to the group.
    pub(super) sent: u64,
}

/// A site's session of FLUTE. The ledger knows nothing of who can't answer, so it is also noted here what is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedOneWay {
    /// The number of the next object.
    pub(super) next: u64,
    /// Bytes of a symbol, and whether there is a code: with others, objects are cut otherwise, and get other numbers.
    pub(super) cut: (u16, bool),
    /// What wasn't done: the object, and the content and version that it is.
    pub(super) objects: Vec<(u64, Root, u64)>,
    /// What was, of all that has a name.
    pub(super) done: Vec<(Root, u64)>,
}

impl SavedOneWay {
    /// A session that begins, when these contents have names already: they aren't for it.
    pub(super) fn beginning(done: Vec<(Root, u64)>) -> Self {
        Self { next: 1, cut: (0, false), objects: Vec::new(), done }
    }
}

/// This start of the machine.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// What was written for a site; `None` if nothing was, or it can't be read.
pub(super) fn read<T: DeserializeOwned>(folder: &Path, site: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(path(folder, site)).ok()?).ok()
}

/// Writes where a site is.
pub(super) fn write(saved: &impl Serialize, folder: &Path, site: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = path(folder, site);
    let new = path.with_extension("new");
    let written = fs::write(&new, serde_json::to_vec(saved)?).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // The next start mustn't go on with what is stale: numbers would be used twice. What isn't there can't be removed.
        let _ = fs::remove_file(&new);
        let _ = fs::remove_file(&path);
    }
    written
}

fn path(folder: &Path, site: &str) -> PathBuf {
    folder.join(format!("{site}.json"))
}

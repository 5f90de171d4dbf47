//! The folders that senders have left, should they come back.
//!
//! Whoever makes up senders could leave any number of them: some are kept, and not what is oldest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::pieces::remove_empty;

/// Ends the use of a folder, whose lock nobody has any more. It goes if nothing is in it; else it is noted whether the sender has
/// ever delivered something.
pub(super) fn close(folder: &Path, delivered: bool) {
    let mark = mark(folder);
    let delivered = fs::remove_file(&mark).is_ok() || delivered;
    remove_empty(folder);
    if delivered
        && folder.exists()
        && let Err(error) = fs::File::create(&mark)
    {
        tracing::warn!(?mark, %error, "a file can't be made");
    }
}

/// Whether there are more folders than are kept, beside those in use.
pub(super) fn are_many(folder: &Path, used: usize) -> bool {
    ours(folder).count() > used + LEFT_MAX
}

/// Removes the folders of senders that didn't send for long, and the oldest of the others if there are too many; not those in use.
pub(super) fn tidy(folder: &Path, is_used: impl Fn(&Path) -> bool) {
    let left = ours(folder).filter(|path| !is_used(path));
    let mut left: Vec<_> = left.map(|path| (mark(&path).exists(), written(&path), path)).collect();
    left.sort();
    let mut over = if left.len() > LEFT_MAX { left.len() - LEFT_KEPT } else { 0 };
    for (_, written, path) in left {
        let is_old = written.is_none_or(|written| written.elapsed().is_ok_and(|age| age > AGE_MAX));
        if over == 0 && !is_old {
            continue;
        }
        over = over.saturating_sub(1);
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(?path, %error, "a folder can't be removed");
        }
    }
}

/// The folders of senders.
fn ours(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name();
        ["norm-", "flute-"].iter().any(|kind| name.as_encoded_bytes().starts_with(kind.as_bytes()))
    });
    ours.map(|entry| entry.path())
}

/// When something in a folder was written last: the lock when a session begins, maps and bytes as contents come.
fn written(folder: &Path) -> Option<SystemTime> {
    let inside = fs::read_dir(folder.join(".millrace")).into_iter().flatten().flatten();
    inside.filter_map(|entry| entry.metadata().and_then(|about| about.modified()).ok()).max()
}

/// Says that the sender of this folder has delivered something.
fn mark(folder: &Path) -> PathBuf {
    folder.join(".millrace/delivered")
}

/// Folders of senders that aren't listened to now, of each rule. If there are more, those go first whose senders have never
/// delivered anything, and of these the ones that were written to longest ago: who sends more than forgers do stays.
const LEFT_MAX: usize = 64;
/// So many are kept then, so that not every end of a session looks at all of them.
const LEFT_KEPT: usize = 48;
/// What wasn't added to for so long is given up: a week.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

//! What was taken in from elsewhere, so that it isn't read again while it is the same: a file by its length, time and
//! number, an object by its tag.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ledger::{Rows, Table};
use crate::root::Root;
use crate::state::json;
use crate::store::Store;
use crate::time::Millis;

/// What a source looked like when it was taken in, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Changes when the source's bytes do.
    pub mark: String,
    /// What it was.
    pub root: Root,
}

impl Store {
    /// What was taken in from this place.
    pub fn seen(&self, place: &str) -> Option<Seen> {
        self.state().taken.get(place).cloned()
    }

    /// Notes what was taken in from a place. Written with the next checkpoint: after a crash before that, it is taken in
    /// once more and found to be here.
    pub fn note_seen(&self, place: &str, seen: Seen, now: Millis) {
        let mut state = self.state();
        let row = json(&seen);
        state.later(now).put(Table::Taken, place.as_bytes(), row);
        state.taken.insert(place.to_owned(), seen);
    }
}

/// Reads what was taken in out of the ledger.
pub(crate) fn recover(rows: &Rows) -> HashMap<String, Seen> {
    let read = |(key, row): (&[u8], &[u8])| {
        Some((String::from_utf8(key.to_vec()).ok()?, serde_json::from_slice(row).ok()?))
    };
    rows.of(Table::Taken, b"").filter_map(read).collect()
}

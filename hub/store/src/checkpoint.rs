//! From memory to disk: bytes are synced first, then the ledger says that they are there. Each sync is for many changes,
//! since it takes milliseconds, and what a crash may cost is bounded by how many.

use std::sync::Arc;

use crate::error::Error;
use crate::ledger::{Batch, Ledger};
use crate::state::Held;
use crate::store::Store;
use crate::time::Millis;

impl Store {
    /// Writes what has changed to the ledger if a batch is full: [`BATCH_BYTES`] or [`BATCH_MS`]. To be called often.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`].
    pub fn tick(&self, now: Millis) -> Result<(), Error> {
        let due = {
            let state = self.state();
            let old = |since| now.since(since) >= BATCH_MS || now < since;
            let waiting = state.contents.values().filter_map(|content| match &content.held {
                Held::Arriving(part) => part.waiting(),
                Held::Complete(_) => None,
            });
            let (bytes, oldest) = waiting.fold((0, state.pending_since), |(bytes, oldest), (more, since)| {
                (bytes + more, Some(oldest.map_or(since, |oldest| since.min(oldest))))
            });
            bytes >= BATCH_BYTES || oldest.is_some_and(old)
        };
        if due { self.checkpoint(now) } else { Ok(()) }
    }

    /// Writes all that has changed to the ledger: first the bytes are made durable, then the ledger says that they are
    /// there.
    ///
    /// # Errors
    ///
    /// Bytes that couldn't be made durable are missing again; rows that couldn't be written go with the next checkpoint.
    pub fn checkpoint(&self, now: Millis) -> Result<(), Error> {
        let mut ledger = self.ledger();
        let (parts, mut batch) = {
            let mut state = self.state();
            state.pending_since = None;
            let pending = std::mem::take(&mut state.pending);
            let parts = state.contents.values().filter_map(|content| match &content.held {
                Held::Arriving(part) => Some(Arc::clone(part)),
                Held::Complete(_) => None,
            });
            (parts.collect::<Vec<_>>(), pending)
        };
        let mut result = Ok(());
        for part in parts {
            let mut rows = Batch::default();
            let changes = part.take_changes(&mut rows);
            if changes.is_empty() {
                continue;
            }
            match part.data.sync().and_then(|()| part.list.sync()) {
                Ok(()) => batch.append(rows),
                Err(error) => {
                    part.undo(changes, now);
                    result = Err(self.write_error(error));
                }
            }
        }
        let committed = self.commit(&mut ledger, batch);
        if committed.is_err() {
            // So that a tick tries again.
            self.state().pending_since.get_or_insert(now);
        }
        result.and(committed)
    }

    /// Whether the last commit failed, so that the ledger doesn't say all that is known. The store goes on; a crash now
    /// would cost what came since.
    pub fn is_behind(&self) -> bool {
        self.ledger().is_behind()
    }

    pub(crate) fn commit(&self, ledger: &mut Ledger, batch: Batch) -> Result<(), Error> {
        match ledger.commit(batch) {
            Ok(()) => {
                self.counters.commits.add(1);
                Ok(())
            }
            Err(error) => {
                self.counters.commit_errors.add(1);
                Err(error.into())
            }
        }
    }

    /// Commits where the step has been taken whether or not the ledger can say so: the batch is kept and counted, and
    /// opening finds the files as they are.
    pub(crate) fn commit_or_keep(&self, ledger: &mut Ledger, batch: Batch) {
        if let Err(error) = self.commit(ledger, batch) {
            tracing::warn!(%error, "the hub's ledger is behind");
        }
    }
}

/// A checkpoint is due after so many new bytes: what a crash costs at most.
pub const BATCH_BYTES: u64 = 4 << 20;
/// A checkpoint is due so many milliseconds after the first change that it hasn't.
pub const BATCH_MS: u64 = 100;

//! What the store counts, for metrics: each thing that can go wrong has its number.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// The counters of a store. They only grow, from 0 when it is opened.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $text])+ pub(crate) $name: Counter,)+
        }

        /// The counters' values at one time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl Counters {
            /// Reads them all.
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Relaxed),)+ }
            }
        }

        impl Counts {
            /// Name, help text and value of each.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($text),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Bytes that arrived and were new.
    bytes_arrived,
    /// Bytes that arrived and were there already.
    bytes_duplicate,
    /// Bytes given out, each after its group was verified.
    bytes_served,
    /// Groups that arrived whole.
    groups_whole,
    /// Groups that arrived whole and were not the content's: thrown away.
    groups_refused,
    /// Groups on disk that were no longer the content's, or couldn't be read: missing again.
    groups_damaged,
    /// Contents whose hash, when all had arrived, wasn't the root.
    roots_refused,
    /// Contents completed.
    contents_complete,
    /// Contents of the ledger whose file was gone or of no use.
    contents_lost,
    /// Contents removed to make room.
    contents_evicted,
    /// Contents refused for want of room in the budget.
    admissions_refused,
    /// Times that the disk was full.
    disk_full,
    /// Reads that the disk failed.
    read_errors,
    /// Writes and syncs that the disk failed, a full disk aside.
    write_errors,
    /// Batches written to the ledger.
    commits,
    /// Batches that couldn't be written and wait for the next.
    commit_errors,
    /// Ledgers found damaged when opened, put aside and begun anew.
    ledgers_lost,
    /// Manifests refused: not well-formed, not signed by a trusted key, or older than what is there.
    manifests_refused,
    /// HTTP requests answered with content or with news of it.
    http_served,
    /// HTTP requests refused.
    http_refused,
}

/// One number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_own_name_and_text() {
        let counters = Counters::default();
        counters.disk_full.add(3);
        let counts = counters.read();
        assert_eq!(counts.disk_full, 3);
        let rows: Vec<_> = counts.rows().collect();
        assert!(rows.contains(&("disk_full", "Times that the disk was full.", 3)));
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(names.len(), rows.len());
        assert_eq!(rows.iter().map(|row| row.2).sum::<u64>(), 3);
    }
}

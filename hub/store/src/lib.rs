//! The content hub's cache: contents on disk, verified by range, with a ledger of what has arrived and of which nodes are
//! owed what. It survives being killed at any point, disks that are full or fail, and bits that flip.
//!
//! ```text
//!  NORM, FLUTE ── segments ──► write ──► pieces of a group ──► hash ──► whole ─┐
//!                                 │                              ▲            │ every group
//!                                 │        learn: list of hashes ┘            ▼
//!  folder, HTTP, S3 ── put ──► incoming: hashed as it comes ──────────►  complete: root, sync, rename, commit
//!                                 │                                           │
//!        tick: checkpoint ────────┘   first the bytes are synced,             ▼
//!                                     then the ledger says so           reader ── each group verified ──► repairs, HTTP
//!                                                                             │
//!        distribute, acked, failed ──► who is owed what                       └─ gone bad: missing again, asked for anew
//! ```
//!
//! ```
//! use millrace_hub_store::{Description, Label, Limits, Manifest, Millis, NodeId, Root, Store};
//!
//! let folder = tempfile::tempdir()?;
//! let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 1 << 20 };
//! let store = Store::open(folder.path(), limits, Millis::now())?;
//!
//! // A manifest came from the source; see `Trust::check` for signatures.
//! let bytes = b"an image";
//! let what = Description {
//!     name: Label::name("image.bin").unwrap(),
//!     group: Label::group("cameras").unwrap(),
//!     version: 1,
//!     size: 8,
//!     root: Root::of(bytes),
//! };
//! let root = what.root;
//! store.begin(&Manifest::sign(what, None), Millis::now())?;
//!
//! // Segments come in any order, and more than once.
//! store.write(root, 3, &bytes[3..], Millis::now())?;
//! store.write(root, 0, &bytes[..5], Millis::now())?;
//! store.complete(root, Millis::now())?;
//!
//! store.distribute(root, 1, [NodeId(1), NodeId(2)], Millis::now(), Millis::now())?;
//! store.acked(root, 1, NodeId(1), Millis::now());
//! let mut range = [0; 5];
//! store.reader(root, Millis::now())?.read(3, &mut range, Millis::now())?;
//! assert_eq!((&range, store.unfinished()), (b"image", vec![(root, 1, vec![NodeId(2)])]));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the disk
//!
//! ```text
//!  lock                     held by the process that has the store open
//!  ledger.redb              rows: content · whole groups, a bit each · pieces · distribution · node · name · taken in
//!  blobs/ab/abcd…           a complete content: its bytes and nothing else; the name is their hash
//!  blobs/ab/abcd….part      one that is arriving: of its full length from the start, pieces in their places
//!  blobs/ab/abcd….tree      its groups' hashes: 32 bytes for each 64 KiB
//!  incoming/7               bytes that are being put in, whose hash isn't known yet
//! ```
//!
//! # What always holds
//!
//! 1. No byte is given out whose group hasn't been verified since it was read from the disk.
//! 2. What the ledger says has arrived was durable before it said so, and isn't fetched again.
//! 3. What a crash costs is what came since the last checkpoint: [`BATCH_BYTES`] or [`BATCH_MS`]. With the list of hashes
//!    known, only the part of it that didn't get to the disk, and groups that weren't whole.
//! 4. What has arrived isn't changed by what comes later, be it a duplicate or a forgery.
//! 5. A group that can't be read, or isn't what it was, is missing again; the rest of its content isn't fetched again.
//! 6. What nodes are owed, or late ones may come for, isn't removed; the newcomer is refused.
//! 7. Memory leads and the ledger follows: if it can't be written, the store serves on and writes it when it can
//!    ([`Store::is_behind`]).
//!
//! # When a content is verified
//!
//! The signed [`Manifest`] carries the root, not the groups' hashes: those grow with the content, the manifest must fit
//! one NORM_INFO. Without the list, bytes from the wire are hashed group by group and the root is checked when all are
//! there; every checksum of the way has passed by then, so that a wrong root means a wrong source, and starting anew is
//! right. Where the source's hub is asked over HTTP, or sends the list as a content of its own, [`Store::learn`] takes it:
//! it is checked against the root, and each group is verified as it arrives. Once a content is complete its list is kept,
//! and every range that is read is verified by itself, with 64 KiB read for it.
//!
//! The list is flat and not the tree of [bao](https://github.com/oconnor663/bao): all of it is in memory when a content is
//! open, where a hash costs the same to look up, and `blake3` itself offers what it takes.
//!
//! Counters of all that can go wrong are in [`Counts`], with names and texts for metrics; how far a content is, in
//! [`Progress`].
//!
//! # Limits
//!
//! A content has at most [`SIZE_MAX`] bytes. An index of all contents is in memory, some hundred bytes for each; of those
//! that are arriving or being read also the lists of hashes. There is no clock here but in what takes contents in: callers
//! give the time.

#![forbid(unsafe_code)]

#[cfg(feature = "net")]
mod blocking;
#[cfg(feature = "net")]
mod bucket;
mod budget;
mod checkpoint;
mod counters;
pub mod desk;
pub mod disk;
mod distribution;
#[cfg(feature = "net")]
mod download;
mod error;
mod files;
mod folder;
#[cfg(feature = "net")]
mod http;
mod incoming;
mod keys;
mod ledger;
mod manifest;
mod part;
mod ranges;
mod read;
mod recover;
mod root;
mod state;
mod store;
mod taken;
mod time;
mod tree;

#[cfg(feature = "net")]
pub use bucket::{Bucket, BucketOptions};
pub use budget::BUSY as BUSY_MILLIS;
pub use checkpoint::{BATCH_BYTES, BATCH_MS};
pub use counters::Counts;
pub use distribution::{Distribution, NodeId, Outcome};
#[cfg(feature = "net")]
pub use download::take_url;
pub use error::Error;
pub use folder::{Folder, TakeError, TakenIn, take_file, take_folder};
#[cfg(feature = "net")]
pub use http::{HttpOptions, serve};
pub use incoming::{Incoming, Named};
pub use keys::{KeyError, KeyId, Keys, PublicKey, SigningKey, Trust};
pub use ledger::LedgerError;
pub use manifest::{Description, LEN_MAX as MANIFEST_LEN_MAX, Label, Manifest, ManifestError};
pub use part::Written;
pub use ranges::Ranges;
pub use read::Reader;
pub use root::{NotARoot, Root};
pub use store::{Begun, Limits, Progress, Store};
pub use taken::Seen;
pub use time::Millis;
pub use tree::{GROUP, SIZE_MAX, Tree};

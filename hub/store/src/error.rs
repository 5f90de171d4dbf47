//! Why the store doesn't do what it is asked.

use std::io;

use crate::ledger::LedgerError;
use crate::root::Root;

/// Errors of the store. None of them leaves it in a state that it can't go on from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder has something else in it.
    #[error("{} has files in it and is no store", .0.display())]
    NotAStore(std::path::PathBuf),
    /// No such content.
    #[error("{0} isn't here")]
    Unknown(Root),
    /// The content hasn't arrived yet, or a part of it went bad and has to come again.
    #[error("{0} isn't complete")]
    Incomplete(Root),
    /// The range isn't inside the content.
    #[error("bytes {offset} to {end} of a content of {size}")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// Byte after the last.
        end: u64,
        /// Bytes of the content.
        size: u64,
    },
    /// All has arrived, and it isn't what the root names.
    #[error("what arrived isn't {0}")]
    WrongRoot(Root),
    /// The list of groups' hashes isn't this content's.
    #[error("the list of hashes isn't that of {0}")]
    WrongTree(Root),
    /// A newer version of this name is known.
    #[error("version {offered} is offered, version {known} is known")]
    Superseded {
        /// The version that was offered.
        offered: u64,
        /// The newest version known.
        known: u64,
    },
    /// The same version of this name, or the same root, with something else in it.
    #[error("something else is known by this name and version, or by this root with another size")]
    Conflict,
    /// The budget has no room, and what could be removed isn't enough.
    #[error(
        "no room for {needed} bytes: of a budget of {budget}, {pinned} are owed to nodes and {arriving} are arriving"
    )]
    NoRoom {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes of the budget.
        budget: u64,
        /// Bytes that are still owed to nodes, or kept for late ones.
        pinned: u64,
        /// Bytes of contents that are arriving now.
        arriving: u64,
    },
    /// The disk is full, though the budget isn't used up.
    #[error("the disk is full")]
    DiskFull,
    /// The disk failed.
    #[error("the disk: {0}")]
    Disk(#[source] io::Error),
    /// The ledger failed. What it was to say is kept and written with the next checkpoint.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Whether an I/O error says that there is no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

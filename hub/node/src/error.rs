//! Why a receiver or a sender doesn't run, and why a content isn't taken.

use std::io;
use std::path::PathBuf;

use millrace_hub::nodes::NoPlace;
use millrace_hub::session::Refused;
use millrace_hub_store::{ManifestError, Root};

/// Why a receiver or a sender can't go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No such interface.
    #[error("there is no interface {0:?}")]
    Interface(String),
    /// The group's address isn't a multicast one.
    #[error("{0} isn't a multicast address")]
    NotAGroup(std::net::IpAddr),
    /// Addresses of both families.
    #[error("the group and the other addresses are of different families")]
    Family,
    /// The socket can't be had.
    #[error("the socket: {0}")]
    Socket(#[source] io::Error),
    /// The folder can't be used.
    #[error("{0}: {1}")]
    Folder(PathBuf, #[source] io::Error),
    /// Another receiver writes there.
    #[error("{0}: another receiver has this folder")]
    Taken(PathBuf),
    /// A file can't be read.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A file's name can't be a content's.
    #[error("{0}: its name can't be a content's")]
    Name(PathBuf),
    /// A file can't be sent.
    #[error("{0}: {1}")]
    Offer(PathBuf, #[source] Refused),
    /// Two nodes are the same.
    #[error(transparent)]
    Nodes(#[from] NoPlace),
    /// A thread can't be started.
    #[error("a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why a content isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its manifest isn't believed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is shorter or longer than its manifest says.
    #[error("{sent} bytes are sent of a content of {described}")]
    Size {
        /// Bytes that are sent.
        sent: u64,
        /// Bytes that the manifest names.
        described: u64,
    },
    /// It has no info, or one that names nothing.
    #[error("it has no name")]
    Nameless,
    /// A newer version of its name is here.
    #[error("version {offered} is offered, version {known} is here")]
    Superseded {
        /// The version that was offered.
        offered: u64,
        /// The one that is here.
        known: u64,
    },
    /// All of it came, and it isn't what the manifest names. It is asked for anew.
    #[error("what arrived isn't {0}")]
    WrongRoot(Root),
    /// There is no room for it, or the disk fails.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
    /// The hub's store doesn't take it.
    #[error(transparent)]
    Store(#[from] millrace_hub_store::Error),
}

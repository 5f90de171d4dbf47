//! What a receiver tells.

use std::path::PathBuf;
use std::time::Duration;

use millrace_hub::norm::ObjectId;
use millrace_hub_store::Root;

use crate::error::Refusal;

/// What a receiver tells while it works. Objects are numbered by the hub.
#[derive(Debug)]
pub enum News<R = Received> {
    /// It listens.
    Listening,
    /// A content begins, or goes on.
    Begun {
        /// Its number.
        object: ObjectId,
        /// Its bytes.
        size: u64,
    },
    /// How far a content is: once a second.
    Progress {
        /// Its number.
        object: ObjectId,
        /// Its name, once that is known.
        name: Option<String>,
        /// Bytes that are here,
        held: u64,
        /// of so many.
        size: u64,
        /// Bytes that come in a second.
        per_second: Option<f64>,
        /// How long the rest takes at that rate.
        left: Option<Duration>,
    },
    /// A content is here.
    Received(R),
    /// A content isn't taken, or is asked for anew.
    Refused {
        /// Its number.
        object: ObjectId,
        /// Its name, if it is known.
        name: Option<String>,
        /// Why.
        why: Refusal,
    },
    /// The hub has given a content up.
    Gone(ObjectId),
    /// The hub has begun anew: what isn't complete comes again, and goes on where it was if it is the same.
    Restarted,
    /// The hub has ended its session.
    Ended,
}

/// A content that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub object: ObjectId,
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes,
    pub size: u64,
    /// and their hash.
    pub root: Root,
    /// Whether that is the hash that a manifest names; a sender without manifests gives names only.
    pub verified: bool,
}

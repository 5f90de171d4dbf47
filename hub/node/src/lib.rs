//! The content hub over the kernel's sockets: the receiver that nodes run ([`receive()`]), and a sender for hubs without
//! workers, for tests and laptops ([`send()`]). Both speak NORM by the sessions of [`millrace_hub`]. [`receive_one_way()`]
//! takes files that come by FLUTE.
//!
//! A hub takes contents in by [`TakeIn`], one for each of its rules: the same sessions without sockets, threads and clock,
//! whose contents go into a store instead of a folder.
//!
//! ```text
//!              socket thread                    the caller's thread
//!  group ──► socket ──► bounded queue ──► session::Receiver ──► pieces/…  one file a content, of its full length
//!                                              │                   │      checkpoint: first the bytes are synced, then
//!  hub ◄── NACK, ACK, to where data came from ─┘                   ▼      the map beside them says so
//!                                                       hash, manifest, sync, rename ──► FOLDER/name ──► ACK
//! ```
//!
//! Reading the socket is a thread's only task, because a decoder or a disk that is slow for a moment would overrun it, and
//! each packet lost that way is sent again.
//!
//! # What always holds
//!
//! 1. What stands in the folder under a content's name is all of it, hashed, durable, and signed if keys are given. It gets
//!    there by a rename.
//! 2. Only then it is acknowledged: the hub never takes a node for done that could still lose it.
//! 3. After a crash what the last checkpoint kept isn't asked for again, be it the receiver that crashed or the sender: one
//!    that begins anew with the same manifest finds the nodes where they were.
//! 4. With keys given, a name never goes back to an older version.
//!
//! # To single nodes
//!
//! First copies go to the group. What is for some nodes goes to each node's own address, to the same port: a receiver's
//! socket takes both, and nobody else's leg carries a byte of it.
//!
//! # Limits
//!
//! Linux. One receiver in a folder, for one sender and group. Checkpoints and hashing are done between packets: while they
//! last, the queue holds what comes.

mod arrivals;
mod error;
mod intake;
mod meter;
mod news;
mod oneway;
mod part;
mod pieces;
mod receive;
mod send;
mod socket;
mod stock;
mod stop;
mod takein;

pub use error::{NodeError, Refusal};
pub use meter::Meter;
pub use news::{News, Received};
pub use oneway::{
    FileDigest, OneWay, OneWayNews, OneWayRefusal, OneWaySummary, location_of, receive_one_way,
};
pub use receive::{Settings, Summary, receive};
pub use send::{Leg, Outcome, Sending, Sent, Told, send};
pub use socket::Interface;
pub use stop::Stop;
pub use takein::{NotTaken, Profile, TakeIn, TakeInCounters, TakeInEvent, TakeInSettings};

//! Sessions: what a sender sends when, and what a receiver makes of it. State machines without I/O and clock.
//!
//! ```text
//!                    now ──┐                                     ┌── now
//!  Offer ─► announce ──► Sender ── poll_transmit ─► network ─► Receiver ◄─► Storage
//!  NACK, ACK ─► handle ──►  │ ◄────────────────── poll_transmit ── │
//!                           └── poll_event                         └── poll_event
//! ```
//!
//! Time is a [`Duration`] since an epoch of the caller's choice that only grows. The caller's loop, for either end:
//!
//! 1. give what arrived to `handle`;
//! 2. take packets from `poll_transmit` and events from `poll_event` until there are none;
//! 3. wait until something arrives, or until `poll_timeout`.
//!
//! A [`Sender`] is one NORM session: one group of nodes, one UDP port, all objects for all of them. Another group is
//! another session, because receivers ask for every object number that they see skipped.

mod config;
mod counters;
mod grtt;
mod outgoing;
mod pace;
mod receiver;
mod sender;
mod transmit;

pub use config::{Config, Copies, Rate, Straggler};
pub use counters::{Counters, Ignored, LegCounters};
pub(crate) use pace::Pacer;
pub use receiver::{Heard, Receiver, ReceiverConfig, Report, Storage, Unstored};
pub use sender::{Event, Offer, Progress, Refused, Sender};
pub use transmit::{Body, Content, Kind, To, Transmit, Unread};

use core::time::Duration;

/// Bytes of a message that carries content, in front of the content: with EXT_FTI, without an IP or UDP header.
pub const DATA_HEADER_LEN: usize = 32;

/// What is added to times on the wire: there, zero means that no probe was heard.
const WIRE_EPOCH: Duration = Duration::from_secs(1);

//! What workers and the content hub's thread hold in common: lanes down, an inbox up.
//!
//! ```text
//!  hub thread ── segments, prepared ──► [ Lane ] ── at the site's rate ──► the one worker that has it ──► port
//!             ◄── empty ones ──────────          a full lane holds the thread up, and loses nothing
//!             ◄── content, feedback ── [ Inbox ] ◄── every worker; a full one loses, by name
//!                                      one for each
//! ```
//!
//! Everything is taken when the hub is configured, by the slowpath; workers find it in [`crate::tables::hub`].

mod ends;
mod inbox;
mod lane;
mod segment;

pub use inbox::{DATAGRAM_BYTES_MAX, DATAGRAMS_MAX, Datagram, Inbox, Inlet};
pub use lane::{LANE_SEGMENTS_MAX, Lane};
pub use segment::{SEGMENT_BYTES_MAX, Segment, Way};

//! The control thread: everything that isn't worth a worker's cycle.
//!
//! ```text
//!  workers ──events──► control ──Up──► Link ──► orchestrator
//!          ──punts───►    │    ◄─Down──
//!          ◄─injects──    ├─ neighbour   ARP and ND
//!                         ├─ membership  IGMP and MLD
//!          ◄─tables───    ├─ host        ICMP echo, TCP/53
//!          ◄─slots────    └─ builder     the next snapshot
//! ```
//!
//! - [`builder`]: configuration, placement and neighbours become the tables that workers read.
//! - [`neighbour`]: ARP and neighbour discovery, without I/O and without a clock.
//! - [`membership`]: IGMP and MLD, without I/O and without a clock.
//! - [`host`]: what the appliance itself answers, and asks.
//! - [`hub`]: the content hub's sessions, on a thread of their own.
//! - [`health`]: which backends and instances can be used.
//! - [`control`]: the loop, one turn at a time.
//! - [`oam`]: BIER ping and trace.
//! - [`reload`]: the file is read again and carried out.
//! - [`telemetry`]: what operators see.
//!
//! Limits: one control thread per appliance. A port's device, the cores and what workers take at their start can't be
//! changed while it runs.

pub(crate) mod bier_origin;
pub mod builder;
pub mod control;
pub mod health;
pub mod host;
pub mod hub;
pub mod membership;
pub mod neighbour;
pub mod oam;
pub mod reload;
pub mod telemetry;
pub(crate) mod udp;

#[cfg(test)]
mod testing;

pub use builder::{BuildError, Digest, DnsNames, FileError, PortInfo, QuicKeys, TableBuilder, TableFiles};

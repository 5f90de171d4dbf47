//! Which backends and instances can be used: probes of ours, and what became of clients' handshakes. No I/O and no clock;
//! [`crate::control`] sends the probes, hands in what came of them and what workers counted, and puts the outcome into
//! the tables.
//!
//! ```text
//!   configuration, placement ─► checks ──due──► probe ──result──► hysteresis ─┐
//!                                 one for each address, port and check        ├─► up or down, by instance and family
//!   workers' counters ────────────────────────────────────────► ejection ─────┘
//! ```
//!
//! Limits: [`PROBES_MAX`] addresses are probed; whoever comes later is taken for up.

pub mod checks;
pub mod ejection;
pub mod http;
pub mod hysteresis;

pub use checks::{Checks, PROBES_MAX, ProbeId, Target};
pub use ejection::{Counted, Ejector, Rules, Seen};
pub use hysteresis::{Failure, Machine, Thresholds};

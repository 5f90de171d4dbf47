//! How backends and instances are checked.

use std::num::NonZeroU16;
use std::time::Duration;

use super::{HttpPath, Overflow, StatusRange};
use crate::grammar::choice;

/// How a service's backends and instances are checked; at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How they are probed, if they are.
    pub check: Option<Check>,
    /// How clients' handshakes are watched, if they are.
    pub passive: Option<Passive>,
    /// What happens to new flows while no backend is up; [`Overflow::Fallback`] isn't among it. Beside a function
    /// [`super::Hold::overflow`] says so.
    pub overflow: Overflow,
}

/// A probe that is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What has to come of it.
    pub kind: CheckKind,
    /// Where to; `None` for the instance's own port, or the service's first TCP port.
    pub port: Option<NonZeroU16>,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long one may take; no longer than `interval`.
    pub timeout: Duration,
    /// Failures in a row that make it down, at least 1.
    pub down_after: u32,
    /// Successes in a row that make it up again, at least 1.
    pub up_after: u32,
}

/// What has to come of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A TCP handshake.
    Tcp,
    /// An answer over HTTP.
    Http {
        /// What is asked for.
        path: HttpPath,
        /// Which answers are good.
        status: StatusRange,
    },
}

/// When handshakes that fail put an instance out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Handshakes in a row, at least 1.
    pub failures: u32,
    /// For so long none may have succeeded, and the failures are no further apart.
    pub window: Duration,
    /// How long it is left out for the first time.
    pub eject: Duration,
    /// Share of the instances that may be left out at a time, 1 to 100.
    pub share_percent: u32,
}

choice! {
    /// How a backend or an instance is probed.
    pub enum HealthKind {
        /// A TCP handshake completes; the connection is then reset.
        "tcp" => Tcp,
        /// A GET over HTTP/1.1 is answered with a good status.
        "http" => Http,
    }
}

//! What operators see: `millrace show`, `millrace trace` and `millrace reload` over the control socket, OpenMetrics over HTTP.
//!
//! ```text
//!  workers' counters, tables, slots ─┐
//!  control loop ──answers────────────┼─► Sources ─► rows ─┬─► control socket ─► client ─► render
//!  ports (a closure)  ───────────────┘                    └─► /metrics
//! ```

mod client;
mod collect;
mod echo;
mod http;
mod metrics;
mod protocol;
mod render;
pub mod rows;
mod server;

pub use client::{ClientError, ask, echo, reload};
pub use collect::{CollectError, ECHO_MS_MAX, FLOWS_SHOWN_MAX, Sources, mac_text};
pub use echo::{Answered, Hop, Hops, Ping};
pub use http::respond;
pub use protocol::{Request, Response, TRACE_FRAMES_MAX, TRACE_SECONDS_MAX, Topic, answer};
pub use render::{
    BierPart, bier_part, render, render_echo, render_hop, render_hub, render_ping, render_ways,
};
pub use serde_json::Value;
pub use server::{CONNECTIONS_MAX, Telemetry, TelemetryError};

#[cfg(test)]
mod tests;

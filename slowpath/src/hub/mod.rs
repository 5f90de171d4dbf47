//! The content hub's sessions: what the store has is sent to the nodes of each site, and what they miss is repaired for those alone.
//!
//! ```text
//!  `hub put` ─► desk ─► board ── distribute ──► store's ledger: who is owed it
//!                          │                         ▲ acked, failed
//!                          ▼                         │
//!                       site: session (millrace-hub) ── Transmit ──► cache: verified bytes ──► outlet ──► lane ──► worker
//!                          ▲                                                                                        │
//!                          └───────────────────────── feedback ◄── inbox ◄──────────────────────────────────────────┘
//! ```
//!
//! - `thread`: the loop around the sites.
//! - `session`: what the loop knows of a site.
//! - `site`: a NORM session and its objects.
//! - `oneway`: a FLUTE session and its files. Nothing comes back, and nothing is in the ledger but that a content is kept: a file is done
//!   when its passes are sent, and is sent anew from the beginning of its passes if a restart comes between.
//! - `outlet`: messages into frames, by carriage.
//! - `cache`: where the bytes come from.
//! - `intake`: contents from the network, on a thread of its own.
//! - `board`: what operators ask and tell.
//! - `saved`: where sessions are, for the next start.
//!
//! Limits: a change of `[hub]` needs a restart.

mod board;
mod cache;
mod intake;
mod oneway;
mod outlet;
mod saved;
mod session;
mod site;
mod status;
mod thread;

#[cfg(test)]
mod tests;

use millrace_config::model::{Config, Interface};

pub use thread::{HubThread, Means, Prepared};

/// What an interface is called among those that workers know.
fn network_name(config: &Config, interface: Interface) -> String {
    let port = config.port(interface.port);
    match interface.vlan {
        None => port.name.to_string(),
        Some(tag) => format!("{}.{tag}", port.name),
    }
}

//! The orchestrator: decides which serving node runs which function, for whoever asks over
//! [`millrace_orchestrator_api`].
//!
//! ```text
//!  appliance ──FirstPacket, Idle, Applied──►┌────────┐──Start, Stop──►  serving node
//!            ◄──Snapshot, Delta, Acknowledge│ engine │◄──Hello, Status, Heartbeat
//!                                           └────────┘
//!   embedded: the appliance's end is in this process     served: both ends come by gRPC
//! ```
//!
//! - [`config`]: functions, services and nodes, checked.
//! - [`engine`]: every decision, as a state machine without I/O and without a clock.
//! - [`server`]: the gRPC service, and the one task that owns the engine.
//! - [`embedded`]: the same within an appliance's process.
//!
//! ```
//! use millrace_orchestrator::config::{Config, FunctionConfig, NodeConfig, Pattern, ServiceConfig};
//! use millrace_orchestrator::engine::Engine;
//! use std::time::Duration;
//!
//! let config = Config::new(
//!     vec![FunctionConfig {
//!         name: "hello".to_owned(),
//!         memory_bytes: 64 << 20,
//!         deadline_ms: 2000,
//!         instances_min: 0,
//!         instances_max: 16,
//!         pattern: Pattern::Pack,
//!     }],
//!     vec![ServiceConfig { name: "hello".to_owned(), function: "hello".to_owned(), port: 0 }],
//!     vec![NodeConfig { name: "fn1".to_owned(), address: None }],
//! )?;
//! let engine = Engine::new(config, 1, Duration::ZERO);
//! assert!(engine.view().service("hello").is_some_and(|placement| placement.instances.is_empty()));
//! # Ok::<(), millrace_orchestrator::config::ConfigError>(())
//! ```
//!
//! Limits: one orchestrator process at a time owns a set of nodes; it keeps nothing on disk and learns what runs from
//! the nodes when it starts. A node's name is not tied to its certificate.

pub mod config;
pub mod embedded;
pub mod engine;
mod owner;
pub mod server;

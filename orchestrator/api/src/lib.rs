//! The orchestrator's API alone: what an appliance, a serving node and an orchestrator say to each other.
//!
//! ```text
//!  slowpath ──Up──► Link ─────────────► orchestrator ──Start, Stop──► serving node
//!           ◄─Down─  │                              ◄──statuses─────
//!                    ├ memory_link: in one process (embedded)
//!                    └ client::GrpcLink: over gRPC, reconnects, resends
//! ```
//!
//! - [`message`]: the plain types that the rest of the house uses; what came over the wire is checked once.
//! - [`link`]: the [`Link`] trait, free of any runtime, and its in-memory form.
//! - [`view`]: the placement as an appliance sees it; applies snapshots and deltas, all or nothing.
//! - [`client`]: the link over gRPC (with the feature `grpc`).
//! - [`proto`], [`convert`]: the wire's types, and the checks between the two.
//! - [`tls`]: certificates for both ends (with the feature `grpc`).
//!
//! ```
//! use millrace_orchestrator_api::{Link, LinkState, Up, memory_link};
//!
//! let (mut link, mut orchestrator) = memory_link(16);
//! link.send(Up::Resync).expect("room for one message");
//! assert_eq!(orchestrator.try_receive(), Some(Up::Resync));
//! assert_eq!(link.state(), LinkState::Up);
//! drop(orchestrator);
//! assert_eq!(link.state(), LinkState::Down);
//! ```
//!
//! Limits: at-least-once delivery; one notice per service is remembered for resending (the newest); a link holds a
//! bounded number of messages and says [`LinkError::Full`] beyond it.

pub mod backoff;
#[cfg(feature = "grpc")]
pub mod client;
pub mod convert;
pub mod link;
pub mod message;
pub mod proto;
#[cfg(feature = "grpc")]
pub mod tls;
pub mod view;

pub use link::{Link, LinkError, LinkState, MemoryLink, OrchestratorEnd, memory_link};
pub use message::{
    Delta, DnsQuestion, Down, FirstPacket, Generation, Idle, Instance, InstanceId, InstanceState,
    InstanceStatus, MacAddress, NodeDown, NodeHello, NodeKind, NodeUp, NoticeId, ServiceFailure,
    ServicePlacement, Snapshot, Start, Stop, Trigger, Up,
};
pub use view::{Gap, View};

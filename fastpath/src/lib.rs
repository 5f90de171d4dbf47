//! Poll-mode workers: frames in, nodes, frames out, and the tables they read.
//!
//! The crate is the packet path alone. It knows no device ([`driver`] is the seam; `millrace-dpdk` implements it on DPDK,
//! [`heap`] in plain memory), no configuration and no orchestrator: the slowpath puts [`tables`] in, takes [`event`]s out,
//! and a [`worker`] turns in between.
//!
//! ```text
//!                 slowpath
//!      tables, slots │ ▲ events, punted frames, replies        (`shared`, `slots`, `queue`)
//!                    ▼ │
//!   ports ─► driver ─► worker: classify ─► dns ─► service ─► host ─► transit ─► output ─► driver ─► ports
//!                        │  ▲                        │
//!                        │  └── holds, flows ◄───────┘          (`hold`, `flow`, `wake`)
//!                        └───── rings to the other workers
//! ```
//!
//! | to read | begin at |
//! |---|---|
//! | the loop | [`worker`] |
//! | what happens to a packet | [`node`], one file a node |
//! | how a cold function is woken | [`slots`], then [`wake`], [`triples`] and [`hold`] |
//! | how names are answered | [`dns`] |
//! | what the content hub sends and is handed | [`hub`] |
//! | what must always add up | [`fates`] |
//!
//! A worker on the heap driver, driven by hand:
//!
//! ```
//! use millrace_fastpath::clock::{Clock, Nanos};
//! use millrace_fastpath::driver::PortId;
//! use millrace_fastpath::heap::{HeapNet, HeapPlan};
//! use millrace_fastpath::shared::Shared;
//! use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};
//!
//! struct Still;
//! impl Clock for Still {
//!     fn now(&self) -> Nanos { Nanos(0) }
//!     fn cycles(&self) -> u64 { 0 }
//! }
//!
//! let (net, mut drivers) = HeapNet::new(&HeapPlan::default());
//! let limits = WorkerLimits { flows: 64, holds: 16, ..WorkerLimits::default() };
//! let mut worker = Worker::new(0, drivers.remove(0), Still, Shared::new(1), Rings::new(1), [1, 2], &limits);
//! net.deliver(PortId(0), 0, &[0; 60]);
//! assert_eq!(worker.poll(), 1);
//! let fates = worker.fates();
//! assert_eq!((fates.received, fates.dropped), (1, 1), "no interface is configured for it");
//! fates.check().unwrap();
//! ```
//!
//! Limits: services and instances up to [`tables::services::SERVICES_MAX`] and [`tables::services::INSTANCES_MAX`]; fragments
//! of packets to services follow their first and are never put together ([`node::fragment`]).

pub mod addr;
pub mod bucket;
pub mod clock;
pub mod counters;
pub mod dns;
pub mod driver;
pub mod event;
pub mod fates;
pub mod flow;
pub mod heap;
pub mod hold;
pub mod hub;
pub mod node;
pub mod packet;
pub mod queue;
pub mod shared;
mod sip;
pub mod slots;
pub mod splice;
pub mod tables;
pub mod trace;
pub mod triples;
pub mod wake;
pub mod wire;
pub mod worker;

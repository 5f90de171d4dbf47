//! Bit Index Explicit Replication (RFC 8279, 8296, 9262): multicast without state in the middle of the network. A
//! packet carries a string with a bit for each router that it is for, and every router on the way sends one copy to
//! each neighbour that leads to some of them.
//!
//! This crate is bytes, tables and values: no I/O, no clock, no threads, and no standard library. The workers of the
//! fastpath forward with its tables; configuration and control plane build them.
//!
//! ```text
//!  topology ── spf ── compute ─┐                        ┌─► copy to a neighbour: header::Template
//!                              ├─► bift ─┐              │
//!  rows by hand ── bift::given ┘         ├─ plane ── forward ─► local: decapsulate
//!  adjacencies ── te ────────────────────┘   ▲          │
//!                  frr: tables for failures  │          └─► no route: counted
//!                                         header::View
//!  (S,G) ── overlay ── Header::emit          ▲
//!                         └──── packet ──────┘           tree: what a domain makes of it;   oam: ping and trace
//! ```
//!
//! ```
//! use millrace_bier::bift_id::BiftIds;
//! use millrace_bier::compute::{Computed, Options};
//! use millrace_bier::forward::{Down, Packet, Part};
//! use millrace_bier::id::{BfrId, Bsl, SubDomain};
//! use millrace_bier::topology::{Domain, LinkSpec, RouterSpec};
//!
//! // a ── b ── c, where b and c are number 2 and 3.
//! let router = |name: &str, id| RouterSpec {
//!     prefix: Some([192, 0, 2, id as u8].into()),
//!     bfr_id: BfrId::new(id),
//!     ..RouterSpec::bier(name)
//! };
//! let routers = [router("a", 1), router("b", 2), router("c", 3)];
//! let links = [LinkSpec::new("a", "b", 10), LinkSpec::new("b", "c", 10)];
//! let (domain, contradictions) = Domain::new(SubDomain(0), Bsl::B256, &routers, &links);
//! assert!(contradictions.is_empty());
//!
//! let a = Computed::new(&domain, domain.router("a").unwrap(), Options::default());
//! let bift = &a.bifts()[0];
//! let both = millrace_bier::overlay::Receivers::new([2, 3].into_iter().filter_map(BfrId::new)).sets(Bsl::B256);
//! let packet = Packet { bits: both[0].1.words(), ttl: 64, entropy: 7 };
//! let mut copies = 0;
//! let outcome = bift.forward(packet, &Down::default(), |part| copies += u32::from(matches!(part, Part::Copy { .. })));
//! assert_eq!((copies, outcome.expired()), (1, false));
//! ```
//!
//! # Limits
//!
//! Links are point to point (a shared segment is a link between each pair of its routers); one topology for each
//! sub-domain; no signalling protocols: what they would tell comes in as a [`topology::Domain`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bift;
pub mod bift_id;
pub mod bits;
pub mod compute;
pub mod ecmp;
pub mod forward;
pub mod frr;
pub mod header;
pub mod id;
pub mod oam;
pub mod overlay;
pub mod plane;
mod spf;
pub mod te;
pub mod topology;
pub mod tree;
pub mod wire;

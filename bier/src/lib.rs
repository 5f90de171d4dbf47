//! Bit Index Explicit Replication (RFC 8279, 8296, 9262): multicast without state in the middle of the network. A
//! packet carries a string with a bit for each router that it is for, and every router on the way sends one copy to
//! each neighbour that leads to some of them.
//!
//! This crate is bytes, tables and values: no I/O, no clock, no threads, and no standard library. The workers of the
//! fastpath forward with its tables; configuration and control plane build them.
//!
//! ```text
//!  topology ── spf ── compute ─┐                        ┌─► copy to a neighbour: header::rewrite
//!                              ├─► bift ─┐              │
//!  rows by hand ── bift::given ┘         ├─ plane ── forward ─► local: decapsulate
//!  adjacencies ── te ────────────────────┘   ▲          │
//!                  frr: tables for failures  │          └─► no route: counted
//!                                         header::View
//!  (S,G) ── overlay ── Header::emit          ▲
//!                         └──── packet ──────┘           tree: what a domain makes of it;   oam: ping and trace
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
pub mod ecmp;
pub mod forward;
pub mod header;
pub mod id;
pub mod overlay;
pub mod plane;
pub mod te;

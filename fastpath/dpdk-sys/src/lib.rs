//! Raw bindings to DPDK 22.11 or later: what `millrace-dpdk` calls, and no more.
//!
//! ```text
//!  millrace-dpdk ──► rx_burst, tx_burst   Rust, over the table of functions that every port has a row in
//!               ├──► rte_*                what DPDK exports, bound by bindgen from an allowlist (build.rs)
//!               └──► shim_*               what is inline, a macro or an anonymous union in C (c/shim.c)
//! ```
//!
//! Nothing in here is safe; `millrace-dpdk` is the safe face. The two burst functions are written in Rust because they are
//! the only ones called per burst whose inlining could be measured (10 cycles per burst against calls into the shim).
//!
//! Limits: x86-64, one DPDK per process, and no receive or transmit callbacks (packet capture inside DPDK, latency
//! statistics), which the burst functions would skip.

#![no_std]

mod burst;

// Generated code answers to bindgen, not to this house's lints.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
pub use burst::{rx_burst, tx_burst};

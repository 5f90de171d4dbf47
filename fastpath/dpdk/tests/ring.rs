//! Frames over `net_ring`, in hugepages where there are enough of them.

mod common;
#[path = "common/ring.rs"]
mod ring;

use millrace_dpdk::{Eal, Hugepages};

fn eal() -> &'static Eal {
    common::eal_with(Hugepages::Auto)
}

//! Frames over `net_ring`, in ordinary pages.

mod common;
#[path = "common/ring.rs"]
mod ring;

use millrace_dpdk::{Eal, Hugepages};

fn eal() -> &'static Eal {
    common::eal_with(Hugepages::Never)
}

#[test]
fn no_hugepage_is_used() {
    assert_eq!(eal().memory(), millrace_dpdk::Memory::Ordinary);
}

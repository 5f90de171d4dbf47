//! Frames over `net_ring`, in ordinary pages.

mod common;
#[path = "common/ring.rs"]
mod ring;

use millrace_dpdk::{Eal, Hugepages};

fn eal() -> &'static Eal {
    common::eal_with(Hugepages::Never)
}

#[test]
fn round_trip() {
    ring::round_trip(eal());
}

#[test]
fn a_burst_is_topped_up() {
    ring::a_burst_is_topped_up(eal());
}

#[test]
fn a_full_port_leaves_frames_with_the_caller() {
    ring::a_full_port_leaves_frames_with_the_caller(eal());
}

#[test]
fn an_empty_pool_gives_none() {
    ring::an_empty_pool_gives_none(eal());
}

#[test]
fn payload_is_shared_and_counted() {
    ring::payload_is_shared_and_counted(eal());
}

#[test]
fn workers_have_queues_of_their_own() {
    ring::workers_have_queues_of_their_own(eal());
}

#[test]
fn a_port_can_be_opened_again() {
    ring::a_port_can_be_opened_again(eal());
}

#[test]
fn a_frame_may_outlive_its_port() {
    ring::a_frame_may_outlive_its_port(eal());
}

#[test]
fn no_hugepage_is_used() {
    assert_eq!(eal().memory(), millrace_dpdk::Memory::Ordinary);
}

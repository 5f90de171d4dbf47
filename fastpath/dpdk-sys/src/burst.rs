//! Receive and transmit bursts, straight through the row of functions that each port has in `rte_eth_fp_ops`.
//!
//! Before a port is started its row holds functions that complain and return 0.

use crate::bindings::{rte_eth_fp_ops, rte_mbuf};

/// The row of functions of `port`.
///
/// # Safety
/// `port` is below `RTE_MAX_ETHPORTS`.
#[inline(always)]
unsafe fn row(port: u16) -> *const rte_eth_fp_ops {
    let table = (&raw const rte_eth_fp_ops).cast::<rte_eth_fp_ops>();
    // SAFETY: the table has RTE_MAX_ETHPORTS rows, and the caller vouches for the index.
    unsafe { table.add(usize::from(port)) }
}

/// Receives up to `room` frames into `frames`; returns how many. They belong to the caller from then on.
///
/// # Safety
/// `port` is below `RTE_MAX_ETHPORTS`, `queue` is one of its receive queues, `frames` has room for `room` pointers, and no
/// other thread receives from this queue now.
#[inline(always)]
pub unsafe fn rx_burst(port: u16, queue: u16, frames: *mut *mut rte_mbuf, room: u16) -> u16 {
    // SAFETY: the caller vouches for the port.
    let row = unsafe { row(port) };
    // SAFETY: rows are plain data, only written while the port isn't polled.
    let data = unsafe { (*row).rxq.data };
    // SAFETY: as above.
    let receive = unsafe { (*row).rx_pkt_burst };
    // SAFETY: the array has an entry for every queue, and the caller vouches for the index.
    let queue = unsafe { *data.wrapping_add(usize::from(queue)) };
    // SAFETY: DPDK fills this entry for all ports, those that aren't started included.
    let receive = unsafe { receive.unwrap_unchecked() };
    // SAFETY: `queue` is what this function was stored with; the caller vouches for the room and for being alone.
    unsafe { receive(queue, frames, room) }
}

/// Sends up to `count` frames from `frames`; returns how many it took, from the front. The others stay the caller's.
///
/// # Safety
/// `port` is below `RTE_MAX_ETHPORTS`, `queue` is one of its transmit queues, `frames` holds `count` frames of the caller's,
/// and no other thread sends on this queue now.
#[inline(always)]
pub unsafe fn tx_burst(port: u16, queue: u16, frames: *mut *mut rte_mbuf, count: u16) -> u16 {
    // SAFETY: the caller vouches for the port.
    let row = unsafe { row(port) };
    // SAFETY: rows are plain data, only written while the port isn't polled.
    let data = unsafe { (*row).txq.data };
    // SAFETY: as above.
    let send = unsafe { (*row).tx_pkt_burst };
    // SAFETY: the array has an entry for every queue, and the caller vouches for the index.
    let queue = unsafe { *data.wrapping_add(usize::from(queue)) };
    // SAFETY: DPDK fills this entry for all ports, those that aren't started included.
    let send = unsafe { send.unwrap_unchecked() };
    // SAFETY: `queue` is what this function was stored with; the caller vouches for the frames and for being alone.
    unsafe { send(queue, frames, count) }
}

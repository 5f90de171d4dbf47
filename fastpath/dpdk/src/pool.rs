//! Pools of frames, on one NUMA node each.

use std::ffi::{c_int, c_uint};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys::{rte_mbuf, rte_mempool};
use millrace_fastpath::driver::Burst;
use thiserror::Error;

use crate::eal::{Eal, last_error};
use crate::frame::DpdkFrame;

/// A pool of frames of one size. Frames know their pool and go back to it from any thread.
///
/// A pool whose frames are still out when it is dropped is never freed, and the [`Eal`] is kept running with it: a frame
/// never outlives its memory. `net_af_xdp` (22.11) keeps what it had posted for reception when it is closed, so its pools are
/// of that kind.
#[derive(Debug)]
pub struct Pool {
    pool: NonNull<rte_mempool>,
    frames: usize,
    /// Dropped by hand, so that it can be kept for good.
    eal: ManuallyDrop<Eal>,
}

// SAFETY: DPDK's pools may be used from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above; each call of ours on a shared pool is one that DPDK allows at the same time as all others.
unsafe impl Sync for Pool {}

/// Why there is no pool.
#[derive(Debug, Error)]
pub enum PoolError {
    /// More or larger frames than a pool can have, or none.
    #[error("a pool of {frames} frames of {buffer_bytes} bytes is outside the limits")]
    Size {
        /// Frames asked for.
        frames: usize,
        /// Bytes per frame asked for.
        buffer_bytes: usize,
    },
    /// There isn't enough memory.
    #[error("a pool of {frames} frames of {buffer_bytes} bytes can't be had: {reason}")]
    Memory {
        /// Frames asked for.
        frames: usize,
        /// Bytes per frame asked for.
        buffer_bytes: usize,
        /// What DPDK said.
        reason: String,
    },
}

impl Pool {
    /// Makes a pool of `frames` frames with `buffer_bytes` bytes behind the headroom, near `numa_node` where one is given.
    ///
    /// # Errors
    /// [`PoolError`]
    pub fn create(
        eal: &Eal,
        frames: usize,
        buffer_bytes: usize,
        numa_node: Option<u16>,
    ) -> Result<Pool, PoolError> {
        /// Names are for DPDK's tables only; they have to differ within the process.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let outside = || PoolError::Size { frames, buffer_bytes };
        if frames == 0 {
            return Err(outside());
        }
        let count = c_uint::try_from(frames).map_err(|_| outside())?;
        let room = u16::try_from(buffer_bytes + HEADROOM_BYTES).map_err(|_| outside())?;
        let name = format!("frames{}\0", COUNT.fetch_add(1, Ordering::Relaxed));
        let node = numa_node.map_or(ANY_NODE, c_int::from);
        let cache = cache_frames(frames);
        // SAFETY: the environment runs, and the name ends in zero; DPDK copies it.
        let pool =
            unsafe { dpdk_sys::rte_pktmbuf_pool_create(name.as_ptr().cast(), count, cache, 0, room, node) };
        let pool = NonNull::new(pool).ok_or_else(|| PoolError::Memory {
            frames,
            buffer_bytes,
            reason: last_error(),
        })?;
        Ok(Pool { pool, frames, eal: ManuallyDrop::new(eal.clone()) })
    }

    /// Bytes of memory for a pool, about: what [`crate::EalConfig::memory_bytes`] wants to know.
    pub fn bytes_needed(frames: usize, buffer_bytes: usize) -> usize {
        // The frame's own header, the pool's header per object, alignment, and the ring that holds the free ones.
        frames * (buffer_bytes + HEADROOM_BYTES + 128 + 64 + 64 + 16) + (1 << 20)
    }

    /// Frames that it has in all.
    pub fn size(&self) -> usize {
        self.frames
    }

    /// Frames that nobody holds, those in the caches of threads included. Not exact while workers run.
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives.
        let available = unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) };
        available as usize
    }

    /// A fresh, empty frame; `None` when there is none left.
    pub fn allocate(&self) -> Option<DpdkFrame> {
        // SAFETY: the pool lives.
        let frame = unsafe { dpdk_sys::shim_frame_alloc(self.pool.as_ptr()) };
        NonNull::new(frame).map(DpdkFrame::from_raw)
    }

    /// Appends `count` fresh, empty frames to a burst that has the room, or as many as are left.
    pub fn allocate_all(&self, count: usize, into: &mut Burst<DpdkFrame>) {
        assert!(count <= into.remaining_capacity(), "there is room for what is asked for");
        let held = into.len();
        let free = into.as_mut_ptr().wrapping_add(held).cast::<*mut rte_mbuf>();
        // SAFETY: the pool lives, `count` pointers fit behind those held, and a frame is a pointer.
        let status = unsafe { dpdk_sys::shim_frame_alloc_bulk(self.pool.as_ptr(), free, count as c_uint) };
        if status == 0 {
            // SAFETY: DPDK filled in that many.
            unsafe { into.set_len(held + count) };
        } else {
            // All or none, says DPDK.
            into.extend((0..count).map_while(|_| self.allocate()));
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.available() < self.frames {
            tracing::debug!(out = self.frames - self.available(), "frames outlive their pool, so it stays");
            return;
        }
        // SAFETY: all frames are back and nobody else has the pool.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) }
        // SAFETY: dropped here only, and not used again.
        unsafe { ManuallyDrop::drop(&mut self.eal) }
    }
}

/// Bytes in front of every fresh frame.
pub const HEADROOM_BYTES: usize = dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;

/// Bytes behind the headroom that hold a frame of an ordinary MTU, with room for tags and tunnels.
pub const BUFFER_BYTES: usize = 2048;

/// Any node (`SOCKET_ID_ANY`).
const ANY_NODE: c_int = -1;

/// Frames that each registered thread keeps for itself. DPDK refuses more than two thirds of the pool; small pools have none,
/// because frames in other threads' caches would be out of reach.
fn cache_frames(frames: usize) -> c_uint {
    const CACHE_FRAMES: c_uint = 256;
    /// Eight caches' worth.
    const SMALL_POOL_FRAMES: usize = 2048;
    if frames < SMALL_POOL_FRAMES { 0 } else { CACHE_FRAMES }
}

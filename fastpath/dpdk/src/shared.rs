//! A payload that several frames have in common.

use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;
use millrace_fastpath::driver::Frame;

use crate::frame::DpdkFrame;

/// The most that can have one in common: DPDK's count has 16 bits, and is changed by a signed number.
const TIMES_MAX: u16 = i16::MAX as u16;

/// One reference to the payload of a frame, which counts how many frames it stands behind: those, and those that it is still to be
/// put behind.
#[derive(Debug)]
pub struct DpdkShared {
    segment: NonNull<rte_mbuf>,
    /// How often it can still be put behind a frame.
    left: u16,
    segments: u16,
    len: u32,
}

// SAFETY: it owns as many of the references as are left, and buffers may be used and freed by any thread.
unsafe impl Send for DpdkShared {}

impl DpdkShared {
    /// What is behind the first `from` bytes of a frame, for so many others.
    #[inline]
    pub(crate) fn new(frame: &DpdkFrame, from: usize, times: u16) -> Option<Self> {
        if times == 0 || times > TIMES_MAX {
            return None;
        }
        // SAFETY: the frame is ours. What refers to its buffers counts in them, and no frame gives access to the bytes of a segment
        // that isn't its first.
        let segment = NonNull::new(unsafe { dpdk_sys::shim_frame_share(frame.as_ptr(), from, times) })?;
        // A first segment that there is nothing left of isn't referred to.
        let is_empty = from == frame.bytes().len() && frame.segments() > 1;
        let segments = frame.segments() as u16 - u16::from(is_empty);
        Some(Self { segment, left: times, segments, len: (frame.total_len() - from) as u32 })
    }

    /// Puts it behind a frame of one segment; false if it has more, or if that was done as often as was said.
    #[inline]
    pub(crate) fn put_behind(&mut self, frame: &mut DpdkFrame) -> bool {
        if self.left == 0 || frame.segments() != 1 {
            return false;
        }
        self.left -= 1;
        let total = frame.total_len() as u32 + self.len;
        // SAFETY: plain fields of a header that we own; one of the references goes to it.
        unsafe { (*frame.as_ptr()).next = self.segment.as_ptr() };
        // SAFETY: as above.
        unsafe { (*frame.as_ptr()).nb_segs = 1 + self.segments };
        // SAFETY: as above.
        unsafe { (*frame.as_ptr()).pkt_len = total };
        true
    }
}

impl Drop for DpdkShared {
    #[inline]
    fn drop(&mut self) {
        // Mostly it was put behind as many as was said.
        if self.left > 0 {
            // SAFETY: so many of the references are ours, and aren't used again.
            unsafe { dpdk_sys::shim_frame_unshare(self.segment.as_ptr(), self.left) }
        }
    }
}

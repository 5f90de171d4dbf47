//! Frames in DPDK's buffers.

use std::fmt;
use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;
use millrace_fastpath::driver::{Burst, Frame, PortId, RxChecksum};

/// One frame, owned: a pointer to its first buffer and nothing else, so that a burst of frames is what DPDK calls a burst.
/// Dropping it gives all of its buffers back.
///
/// Only named fields of the buffer's header are touched here; what lies in anonymous unions is the shim's. Fields are
/// read and written through the pointer, never through a reference to the whole header: the count of references in it is
/// changed by other threads that hold the payload.
#[repr(transparent)]
pub struct DpdkFrame {
    mbuf: NonNull<rte_mbuf>,
}

// SAFETY: a frame has one owner, and buffers may be used and freed by any thread.
unsafe impl Send for DpdkFrame {}

impl DpdkFrame {
    /// Takes over a buffer that nobody else owns.
    pub(crate) fn from_raw(mbuf: NonNull<rte_mbuf>) -> DpdkFrame {
        DpdkFrame { mbuf }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut rte_mbuf {
        self.mbuf.as_ptr()
    }

    /// Notes where the frame came from. Not every device says so itself (`net_ring` leaves what the sender had), and none
    /// knows our numbers. The outer VLAN tag's field is free: no port of ours asks its device to strip two tags.
    #[inline]
    pub(crate) fn stamp(&mut self, port: PortId, queue: u16) {
        // SAFETY: the frame is ours, and this is a plain field of its header.
        unsafe { (*self.as_ptr()).port = port.0 };
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).vlan_tci_outer = queue };
    }

    /// Gives back all frames of a burst at once.
    pub fn free_burst(burst: &mut Burst<DpdkFrame>) {
        let count = burst.len();
        // SAFETY: no frame is read again, and leaking is allowed.
        unsafe { burst.set_len(0) };
        let frames = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: `count` frames that we own, as pointers to their first buffers.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(frames, count as u32) }
    }

    /// Puts a whole frame of one segment behind this one, which has one segment as well, by reference; false if there are more. It
    /// may be freed and put behind others, but not be written to any more: it is theirs as well. For tests, and for the benchmark's floor.
    #[inline]
    #[must_use]
    pub fn attach(&mut self, payload: &DpdkFrame) -> bool {
        let fits = self.is_one_segment() && payload.is_one_segment();
        if fits {
            // SAFETY: both frames are ours; the payload's buffer counts its references, and no frame gives access to the bytes of a
            // segment that isn't its first.
            unsafe { dpdk_sys::shim_frame_attach(self.as_ptr(), payload.as_ptr()) };
        }
        fits
    }

    /// How many references there are to that part of the frame that most refer to; 1 if it is all its own. For tests of who gives back
    /// what.
    #[must_use]
    pub fn references(&self) -> usize {
        // SAFETY: the frame is ours, and so are its references to the buffers that it lies in.
        usize::from(unsafe { dpdk_sys::shim_frame_references(self.as_ptr()) })
    }

    /// Copies all segments into the first one; false if it hasn't got the room.
    pub(crate) fn flatten(&mut self) -> bool {
        // SAFETY: the frame is ours. DPDK copies from the segments behind and frees them.
        unsafe { dpdk_sys::shim_frame_linearize(self.as_ptr()) == 0 }
    }

    #[inline]
    fn data_offset(&self) -> usize {
        // SAFETY: a plain field of a header that we own.
        usize::from(unsafe { (*self.as_ptr()).data_off })
    }

    #[inline]
    fn data_len(&self) -> usize {
        // SAFETY: as above.
        usize::from(unsafe { (*self.as_ptr()).data_len })
    }

    #[inline]
    fn buffer_len(&self) -> usize {
        // SAFETY: as above.
        usize::from(unsafe { (*self.as_ptr()).buf_len })
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: as above.
        let buffer = unsafe { (*self.as_ptr()).buf_addr };
        buffer.cast::<u8>().wrapping_add(self.data_offset())
    }

    /// Moves the edges of the first segment's data. Both numbers lie within the buffer, whose length is a u16.
    #[inline]
    fn set_data(&mut self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.buffer_len());
        let total = self.total_len() - self.data_len() + len;
        // SAFETY: plain fields of a header that we own.
        unsafe { (*self.as_ptr()).data_off = offset as u16 };
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).data_len = len as u16 };
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).pkt_len = total as u32 };
    }

    #[inline]
    fn flags(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).ol_flags }
    }

    #[inline]
    fn is_one_segment(&self) -> bool {
        self.segments() == 1
    }
}

impl Frame for DpdkFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the first segment's data lies within its buffer. Other frames may refer to it, but no `Frame` shows anything
        // but its own first segment, so nobody writes to these bytes while we are borrowed.
        unsafe { std::slice::from_raw_parts(self.data(), self.data_len()) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and we are borrowed mutably. Drivers that read the bytes of frames on their way out do so
        // without regard to references in Rust.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.data_len()) }
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.data_offset()
    }

    #[inline]
    fn tailroom(&self) -> usize {
        self.buffer_len() - self.data_offset() - self.data_len()
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> bool {
        let offset = self.data_offset();
        let fits = len <= offset;
        if fits {
            self.set_data(offset - len, self.data_len() + len);
        }
        fits
    }

    #[inline]
    fn trim_front(&mut self, len: usize) -> bool {
        let fits = len <= self.data_len();
        if fits {
            self.set_data(self.data_offset() + len, self.data_len() - len);
        }
        fits
    }

    #[inline]
    fn extend(&mut self, len: usize) -> bool {
        let fits = len <= self.tailroom() && self.is_one_segment();
        if fits {
            self.set_data(self.data_offset(), self.data_len() + len);
        }
        fits
    }

    #[inline]
    fn truncate(&mut self, len: usize) -> bool {
        let fits = len <= self.data_len() && self.is_one_segment();
        if fits {
            self.set_data(self.data_offset(), len);
        }
        fits
    }

    #[inline]
    fn segments(&self) -> usize {
        // SAFETY: a plain field of a header that we own.
        usize::from(unsafe { (*self.as_ptr()).nb_segs })
    }

    #[inline]
    fn total_len(&self) -> usize {
        // SAFETY: as above.
        (unsafe { (*self.as_ptr()).pkt_len }) as usize
    }

    #[inline]
    fn ip_checksum(&self) -> RxChecksum {
        verdict(self.flags(), dpdk_sys::SHIM_RX_IP_CKSUM_GOOD, dpdk_sys::SHIM_RX_IP_CKSUM_BAD)
    }

    #[inline]
    fn l4_checksum(&self) -> RxChecksum {
        verdict(self.flags(), dpdk_sys::SHIM_RX_L4_CKSUM_GOOD, dpdk_sys::SHIM_RX_L4_CKSUM_BAD)
    }

    #[inline]
    fn port(&self) -> PortId {
        // SAFETY: a plain field of a header that we own.
        PortId(unsafe { (*self.as_ptr()).port })
    }

    #[inline]
    fn queue(&self) -> u16 {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).vlan_tci_outer }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn prefetch<T>(value: &T) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it reads nothing that the program could see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
}

impl Drop for DpdkFrame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the frame is ours and isn't used again.
        unsafe { dpdk_sys::shim_frame_free(self.as_ptr()) }
    }
}

impl fmt::Debug for DpdkFrame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DpdkFrame")
            .field("port", &self.port())
            .field("segments", &self.segments())
            .field("total_len", &self.total_len())
            .finish_non_exhaustive()
    }
}

/// What two flags say together. Both set means that the device left the sum to us.
#[inline]
fn verdict(flags: u64, good: u64, bad: u64) -> RxChecksum {
    match flags & (good | bad) {
        set if set == good => RxChecksum::Good,
        set if set == bad => RxChecksum::Bad,
        _ => RxChecksum::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_flags_are_told_apart() {
        let (good, bad) = (dpdk_sys::SHIM_RX_IP_CKSUM_GOOD, dpdk_sys::SHIM_RX_IP_CKSUM_BAD);
        assert_eq!(verdict(0, good, bad), RxChecksum::Unknown);
        assert_eq!(verdict(good | 1, good, bad), RxChecksum::Good);
        assert_eq!(verdict(bad | 1, good, bad), RxChecksum::Bad);
        assert_eq!(verdict(good | bad, good, bad), RxChecksum::Unknown);
    }
}

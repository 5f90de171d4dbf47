//! The seam between the packet path and what moves frames: [`Driver`] and [`Frame`].
//!
//! Nodes are generic over a [`Frame`] only; the worker alone is generic over the [`Driver`]. The DPDK driver is the real
//! one; [`crate::heap`] serves tests, fuzzers and the simulator.
//!
//! ```text
//!            headroom        bytes()             tailroom
//!         ┌────────────┬───────────────────┬─────────────────┐
//!  frame  │            │ first segment     │                 │──► next segment (shared payload, counted)
//!         └────────────┴───────────────────┴─────────────────┘
//!              ◄─ prepend   trim_front ─►   ◄─ truncate  extend ─►
//! ```

use arrayvec::ArrayVec;

/// Frames received or sent at once. 32 keeps a burst's headers in first-level cache and is what DPDK's drivers are tuned for.
pub const BURST_MAX: usize = 32;

/// Ports that a driver can have, those that it once had included: what DPDK is built for (`RTE_MAX_ETHPORTS`).
pub const PORTS_MAX: usize = 32;

/// Frames on their way between driver and worker.
pub type Burst<F> = ArrayVec<F, BURST_MAX>;

/// A port of the appliance: its place in the order in which ports were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortId(pub u16);

impl PortId {
    /// The index into per-port arrays.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Ports whose link is down, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortsDown(u32);

const _: () = assert!(PORTS_MAX <= u32::BITS as usize, "a bit for each port");

impl PortsDown {
    /// As one word, which can be read and written at once.
    #[inline]
    pub(crate) fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline]
    pub(crate) fn word(self) -> u32 {
        self.0
    }

    /// The same with this port down, or up.
    #[must_use]
    pub fn with(self, port: PortId, down: bool) -> Self {
        let bit = 1_u32.checked_shl(port.0.into()).unwrap_or(0);
        Self(if down { self.0 | bit } else { self.0 & !bit })
    }

    /// Whether all ports are up.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is down.
    #[inline]
    pub fn has(self, port: PortId) -> bool {
        // Mostly all are up.
        !self.is_empty() && self.0 & 1_u32.checked_shl(port.0.into()).unwrap_or(0) != 0
    }
}

/// What the device found out about the checksums of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// Nothing: software has to verify.
    #[default]
    Unknown,
    /// The device verified it and it is right.
    Good,
    /// The device verified it and it is wrong.
    Bad,
}

/// One frame, owned. Lengths are in bytes. Methods that can run out of room say so by `None` or `false` and change nothing.
pub trait Frame: Send + 'static {
    /// The first segment, from the Ethernet header on.
    fn bytes(&self) -> &[u8];
    /// The same, to be rewritten in place.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Free bytes in front of the first segment.
    fn headroom(&self) -> usize;
    /// Free bytes behind the first segment.
    fn tailroom(&self) -> usize;
    /// Grows the front by `len` bytes, whose content is unspecified; false if the headroom is less.
    fn prepend(&mut self, len: usize) -> bool;
    /// Takes `len` bytes off the front; false if the first segment is shorter.
    fn trim_front(&mut self, len: usize) -> bool;
    /// Grows the end of the first segment by `len` bytes, whose content is unspecified; false if the tailroom is less or
    /// other segments follow.
    fn extend(&mut self, len: usize) -> bool;
    /// Cuts the frame to its first `len` bytes; false if the first segment is shorter or other segments follow.
    fn truncate(&mut self, len: usize) -> bool;
    /// Segments the frame consists of; 1 for most.
    fn segments(&self) -> usize;
    /// The length of all segments together.
    fn total_len(&self) -> usize;
    /// State of the IPv4 header checksum, as far as the device knows.
    fn ip_checksum(&self) -> RxChecksum;
    /// State of the TCP or UDP checksum, as far as the device knows.
    fn l4_checksum(&self) -> RxChecksum;
    /// The port that the frame came from.
    fn port(&self) -> PortId;
    /// The receive queue that the frame came from.
    fn queue(&self) -> u16;
    /// Asks memory for the cache line that `value` begins in, and doesn't wait for it. It stands here because what the
    /// processor can be asked for is the driver's to know; a driver that knows nothing leaves it at that.
    #[inline(always)]
    fn prefetch<T>(value: &T) {
        let _ = value;
    }
}

/// What a port's device can do, asked once at start.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortCapabilities {
    /// Frames of several segments can be sent.
    pub multi_segment_tx: bool,
    /// The device verifies IPv4, TCP and UDP checksums on reception.
    pub rx_checksums: bool,
    /// Receive queues that the device spreads flows over.
    pub rx_queues_max: u16,
}

/// One worker's own access to the ports: its receive and transmit queues and its pool. Nothing in here is shared with
/// another worker, and no call blocks.
pub trait Driver: Send {
    /// The frames that it moves.
    type Frame: Frame;
    /// What several of them have in common; dropping it gives back what wasn't made use of.
    type Shared;

    /// How many ports there are, those that were closed included; port ids are below it, and it is at most [`PORTS_MAX`].
    fn ports(&self) -> usize;
    /// Takes over what was opened and closed since the last call, without allocating or freeing. The worker calls it when
    /// it takes newer tables, so that a port is there before tables name it. A closed port receives and takes nothing.
    fn renew(&mut self) {}
    /// Appends up to the free room of `burst` to it from this worker's queue of `port`; returns how many.
    fn receive(&mut self, port: PortId, burst: &mut Burst<Self::Frame>) -> usize;
    /// Sends from the front of `burst`. What the port accepted is gone from it, what it refused is left, in order.
    /// Returns how many were accepted.
    fn transmit(&mut self, port: PortId, burst: &mut Burst<Self::Frame>) -> usize;
    /// A fresh, empty frame with room in front, that will be sent on `port`; `None` when the pool is empty.
    fn allocate(&mut self, port: PortId) -> Option<Self::Frame>;
    /// Appends `count` such frames to `into`, which has the room, or as many as there are; returns how many. All at once
    /// where the pool can do that.
    fn allocate_all(&mut self, port: PortId, count: usize, into: &mut Burst<Self::Frame>) -> usize {
        let before = into.len();
        into.extend((0..count).map_while(|_| self.allocate(port)));
        into.len() - before
    }
    /// Gives a frame back to its pool.
    fn free(&mut self, frame: Self::Frame);
    /// Makes what is behind the first `from` bytes of `frame` ready to be put behind `times` others, by reference: no byte copied
    /// where the driver can do that. From then on those bytes may be read by anybody and written to by nobody; `frame` keeps them,
    /// and the bytes in front of them to itself. `None` if there is no
    /// buffer to refer with, if they aren't all in reach, or if `times` is 0 or more than can be counted.
    fn share(&mut self, frame: &Self::Frame, from: usize, times: u16) -> Option<Self::Shared>;
    /// Puts that behind a frame of one segment; false if it has more, or if that was done as often as was said.
    #[must_use]
    fn put_behind(&mut self, frame: &mut Self::Frame, shared: &mut Self::Shared) -> bool;
}

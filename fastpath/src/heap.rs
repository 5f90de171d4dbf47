//! A driver in plain memory: ports are queues, wires are the test that fills and empties them.
//!
//! It serves tests, fuzzers and the simulator, so that the whole packet path runs without DPDK. All frames are taken at
//! start; receiving, sending and freeing move them between bounded queues and allocate nothing.
//!
//! ```
//! use millrace_fastpath::driver::{Burst, Driver, PortId};
//! use millrace_fastpath::heap::{HeapNet, HeapPlan};
//!
//! let (net, mut drivers) = HeapNet::new(&HeapPlan { ports: 1, workers: 1, frames: 8, ..HeapPlan::default() });
//! net.deliver(PortId(0), 0, b"a frame from the wire");
//! let mut burst = Burst::new();
//! assert_eq!(drivers[0].receive(PortId(0), &mut burst), 1);
//! assert_eq!(drivers[0].transmit(PortId(0), &mut burst), 1);
//! assert_eq!(net.take(PortId(0)).unwrap(), b"a frame from the wire");
//! ```

mod lane;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::driver::{Burst, Driver, Frame, PortId, RxChecksum};
pub use lane::HeapLane;

/// Bytes of a frame's buffer, headroom included; as a DPDK buffer has them.
pub const BUFFER_BYTES: usize = 2176;
/// Free bytes in front of a fresh frame.
pub const HEADROOM_BYTES: usize = 128;

/// A frame on the heap. Dropping one takes it from its pool for good: give it back with [`Driver::free`].
#[derive(Debug)]
pub struct HeapFrame {
    buffer: Arc<[u8; BUFFER_BYTES]>,
    start: usize,
    len: usize,
    /// The payload of another frame, behind our own bytes: buffer, start, length.
    payload: Option<(Arc<[u8; BUFFER_BYTES]>, usize, usize)>,
    port: PortId,
    queue: u16,
    ip_checksum: RxChecksum,
    l4_checksum: RxChecksum,
}

impl HeapFrame {
    fn over(buffer: Arc<[u8; BUFFER_BYTES]>) -> Self {
        Self {
            buffer,
            start: HEADROOM_BYTES,
            len: 0,
            payload: None,
            port: PortId(0),
            queue: 0,
            ip_checksum: RxChecksum::Unknown,
            l4_checksum: RxChecksum::Unknown,
        }
    }

    fn reset(&mut self, port: PortId, queue: u16) {
        self.start = HEADROOM_BYTES;
        self.len = 0;
        self.payload = None;
        self.l4_checksum = RxChecksum::Unknown;
        self.port = port;
        self.queue = queue;
    }

    fn buffer_mut(&mut self) -> &mut [u8; BUFFER_BYTES] {
        Arc::get_mut(&mut self.buffer)
            .expect("the buffer of a frame is its own, and that of a shared payload is no frame's")
    }
}

impl Frame for HeapFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.start + self.len);
        &mut self.buffer_mut()[start..end]
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        BUFFER_BYTES - self.start - self.len
    }

    fn prepend(&mut self, len: usize) -> bool {
        let Some(start) = self.start.checked_sub(len) else { return false };
        self.start = start;
        self.len += len;
        true
    }

    fn trim_front(&mut self, len: usize) -> bool {
        if len > self.len {
            return false;
        }
        self.start += len;
        self.len -= len;
        true
    }

    fn extend(&mut self, len: usize) -> bool {
        if len > self.tailroom() || self.payload.is_some() {
            return false;
        }
        self.len += len;
        true
    }

    fn truncate(&mut self, len: usize) -> bool {
        if len > self.len || self.payload.is_some() {
            return false;
        }
        self.len = len;
        true
    }

    fn segments(&self) -> usize {
        1 + usize::from(self.payload.is_some())
    }

    fn total_len(&self) -> usize {
        self.len + self.payload.as_ref().map_or(0, |(_, _, len)| *len)
    }

    fn ip_checksum(&self) -> RxChecksum {
        self.ip_checksum
    }

    fn l4_checksum(&self) -> RxChecksum {
        self.l4_checksum
    }

    fn port(&self) -> PortId {
        self.port
    }

    fn queue(&self) -> u16 {
        self.queue
    }
}

/// How large a [`HeapNet`] is.
#[derive(Clone, Debug)]
pub struct HeapPlan {
    /// Ports.
    pub ports: usize,
    /// Workers; each has one receive queue on every port.
    pub workers: usize,
    /// Frames in the pool that all workers share.
    pub frames: usize,
    /// Frames that a receive queue holds.
    pub rx_queue: usize,
    /// Frames that a port holds until the test takes them.
    pub tx_queue: usize,
}

impl Default for HeapPlan {
    fn default() -> Self {
        Self { ports: 2, workers: 1, frames: 1024, rx_queue: 256, tx_queue: 1024 }
    }
}

#[derive(Debug)]
struct Wires {
    pool: ArrayQueue<HeapFrame>,
    /// By port, then by queue.
    rx: Vec<Vec<ArrayQueue<HeapFrame>>>,
    tx: Vec<ArrayQueue<HeapFrame>>,
    /// Frames a port takes at most from now on; `usize::MAX` is no limit.
    tx_quota: Vec<AtomicUsize>,
}

impl Wires {
    fn give_back(&self, mut frame: HeapFrame) {
        // A payload that frames share goes back to the pool with the last of them.
        if let Some((buffer, _, _)) = frame.payload.take() {
            self.give_back_buffer(buffer);
        }
        self.give_back_buffer(frame.buffer);
    }

    fn give_back_buffer(&self, mut buffer: Arc<[u8; BUFFER_BYTES]>) {
        if Arc::get_mut(&mut buffer).is_some() {
            // The pool has room for every frame that was ever taken from it.
            let _ = self.pool.push(HeapFrame::over(buffer));
        }
    }
}

/// The wire side: what a test holds.
#[derive(Clone, Debug)]
pub struct HeapNet(Arc<Wires>);

impl HeapNet {
    /// Takes all memory; returns the wire side and one driver per worker.
    pub fn new(plan: &HeapPlan) -> (Self, Vec<HeapDriver>) {
        let pool = ArrayQueue::new(plan.frames.max(1));
        for _ in 0..plan.frames {
            let _ = pool.push(HeapFrame::over(Arc::new([0; BUFFER_BYTES])));
        }
        let wires = Arc::new(Wires {
            pool,
            rx: (0..plan.ports)
                .map(|_| (0..plan.workers).map(|_| ArrayQueue::new(plan.rx_queue)).collect())
                .collect(),
            tx: (0..plan.ports).map(|_| ArrayQueue::new(plan.tx_queue)).collect(),
            tx_quota: (0..plan.ports).map(|_| AtomicUsize::new(usize::MAX)).collect(),
        });
        let net = Self(wires);
        let drivers = net.drivers();
        (net, drivers)
    }

    /// The drivers of other workers that take the place of those that have ended.
    pub fn drivers(&self) -> Vec<HeapDriver> {
        let queues = self.0.rx.first().map_or(0, Vec::len);
        (0..queues).map(|queue| HeapDriver { wires: self.0.clone(), queue: queue as u16 }).collect()
    }

    /// Puts a frame onto a receive queue; false when queue or pool are full, as on a wire.
    pub fn deliver(&self, port: PortId, queue: u16, bytes: &[u8]) -> bool {
        self.deliver_looked_at(port, queue, bytes, RxChecksum::Unknown)
    }

    /// The same for a device that has found this of its TCP or UDP checksum.
    pub fn deliver_looked_at(&self, port: PortId, queue: u16, bytes: &[u8], l4_checksum: RxChecksum) -> bool {
        let Some(mut frame) = self.0.pool.pop() else { return false };
        frame.reset(port, queue);
        frame.l4_checksum = l4_checksum;
        if !frame.extend(bytes.len()) {
            self.0.give_back(frame);
            return false;
        }
        frame.bytes_mut().copy_from_slice(bytes);
        match self.0.rx[port.index()][usize::from(queue)].push(frame) {
            Ok(()) => true,
            Err(frame) => {
                self.0.give_back(frame);
                false
            }
        }
    }

    /// The next frame that was sent on a port, all segments put together.
    pub fn take(&self, port: PortId) -> Option<Vec<u8>> {
        let frame = self.0.tx[port.index()].pop()?;
        let mut bytes = frame.bytes().to_vec();
        if let Some((buffer, start, len)) = &frame.payload {
            bytes.extend_from_slice(&buffer[*start..*start + *len]);
        }
        self.0.give_back(frame);
        Some(bytes)
    }

    /// Moves the next sent frame of `from` to a receive queue of `to`, as a cable would, without touching its bytes.
    pub fn pass(&self, from: PortId, to: PortId, queue: u16) -> bool {
        let Some(mut frame) = self.0.tx[from.index()].pop() else { return false };
        frame.port = to;
        frame.queue = queue;
        match self.0.rx[to.index()][usize::from(queue)].push(frame) {
            Ok(()) => true,
            Err(frame) => {
                self.0.give_back(frame);
                false
            }
        }
    }

    /// Lets a port take `frames` more and then refuse, as a full transmit ring does; `usize::MAX` lifts the limit.
    pub fn limit_transmit(&self, port: PortId, frames: usize) {
        self.0.tx_quota[port.index()].store(frames, Ordering::Relaxed);
    }

    /// Frames in the pool now.
    pub fn free_frames(&self) -> usize {
        self.0.pool.len()
    }
}

/// A worker's side.
#[derive(Debug)]
pub struct HeapDriver {
    wires: Arc<Wires>,
    queue: u16,
}

impl Driver for HeapDriver {
    type Frame = HeapFrame;
    type Shared = HeapShared;

    fn ports(&self) -> usize {
        self.wires.tx.len()
    }

    fn receive(&mut self, port: PortId, burst: &mut Burst<HeapFrame>) -> usize {
        let queue = &self.wires.rx[port.index()][usize::from(self.queue)];
        let before = burst.len();
        while !burst.is_full() {
            let Some(frame) = queue.pop() else { break };
            burst.push(frame);
        }
        burst.len() - before
    }

    fn transmit(&mut self, port: PortId, burst: &mut Burst<HeapFrame>) -> usize {
        let queue = &self.wires.tx[port.index()];
        let quota = &self.wires.tx_quota[port.index()];
        let room = (queue.capacity() - queue.len()).min(quota.load(Ordering::Relaxed));
        let accepted = burst.len().min(room);
        let mut sent = 0;
        for frame in burst.drain(..accepted) {
            match queue.push(frame) {
                Ok(()) => sent += 1,
                // Another worker filled the queue meanwhile: a wire would have lost the frame as well.
                Err(frame) => self.wires.give_back(frame),
            }
        }
        if quota.load(Ordering::Relaxed) != usize::MAX {
            quota.fetch_sub(sent, Ordering::Relaxed);
        }
        accepted
    }

    fn allocate(&mut self, port: PortId) -> Option<HeapFrame> {
        let mut frame = self.wires.pool.pop()?;
        frame.reset(port, self.queue);
        Some(frame)
    }

    fn free(&mut self, frame: HeapFrame) {
        self.wires.give_back(frame);
    }

    /// The bytes are copied, once for all: parts of one buffer can't have several owners here.
    fn share(&mut self, frame: &HeapFrame, from: usize, times: u16) -> Option<HeapShared> {
        let first = frame.bytes().get(from..).filter(|_| times > 0)?;
        let behind =
            frame.payload.as_ref().map_or(&[][..], |(buffer, start, len)| &buffer[*start..*start + *len]);
        let mut payload = self.wires.pool.pop()?;
        payload.reset(frame.port, frame.queue);
        if !payload.extend(first.len() + behind.len()) {
            self.wires.give_back(payload);
            return None;
        }
        let (start, end) = payload.bytes_mut().split_at_mut(first.len());
        start.copy_from_slice(first);
        end.copy_from_slice(behind);
        Some(HeapShared { payload: Some(payload), left: times, wires: Arc::clone(&self.wires) })
    }

    fn put_behind(&mut self, frame: &mut HeapFrame, shared: &mut HeapShared) -> bool {
        let Some(left) = shared.left.checked_sub(1).filter(|_| frame.payload.is_none()) else { return false };
        shared.left = left;
        frame.payload =
            shared.payload.as_ref().map(|payload| (payload.buffer.clone(), payload.start, payload.len));
        true
    }
}

/// A payload that several frames refer to.
#[derive(Debug)]
pub struct HeapShared {
    /// Until it is dropped.
    payload: Option<HeapFrame>,
    left: u16,
    wires: Arc<Wires>,
}

impl Drop for HeapShared {
    fn drop(&mut self) {
        self.payload.take().into_iter().for_each(|payload| self.wires.give_back(payload));
    }
}

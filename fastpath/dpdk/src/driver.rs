//! One worker's way to the ports.
//!
//! ```text
//!  Ports, any thread ── opened, closed ──► Exchange ──► renew: the worker's lanes
//!                    ◄── closed lanes ────    │   ◄──     (between two bursts)
//! ```

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use dpdk_sys::rte_mbuf;
use millrace_fastpath::driver::{Burst, Driver, Frame, PORTS_MAX, PortId};

use crate::frame::DpdkFrame;
use crate::pool::Pool;
use crate::port::Port;
use crate::shared::DpdkShared;

/// One worker's queues on every port. Made by [`crate::Ports::open`], one a worker; it goes to that worker's thread, which
/// should register itself ([`crate::Eal::register_thread`]).
///
/// On a port with fewer transmit queues than workers, a worker without one puts its frames into the outbox of worker
/// `its number % transmit queues`, which sends them when it next polls the port. An outbox is bounded
/// ([`OUTBOX_FRAMES`]): when it is full, the frames are refused as by a full device. What it took counts as accepted.
///
/// A frame of several segments for a device that sends one only is copied together first; if its first buffer hasn't got
/// the room, it is refused.
#[derive(Debug)]
pub struct DpdkDriver {
    /// By port; `None` for one that was closed. There is room for all that may come.
    lanes: Vec<Option<Lane>>,
    exchange: Arc<Exchange>,
}

/// Frames that workers without a transmit queue can have waiting at one that has: sixteen bursts.
pub const OUTBOX_FRAMES: usize = 512;

type Outbox = Arc<ArrayQueue<DpdkFrame>>;

/// Between whoever opens and closes ports and one worker's driver.
#[derive(Debug)]
pub(crate) struct Exchange {
    changes: ArrayQueue<Change>,
    /// What the worker has no use for any more. It doesn't free them itself: a device may close with its last lane.
    closed: ArrayQueue<Lane>,
}

/// What becomes of a port.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is the next one.
    Opened(Lane),
    /// It goes.
    Closed(PortId),
}

impl Exchange {
    pub(crate) fn new() -> Arc<Self> {
        // Each port comes and goes once.
        Arc::new(Self { changes: ArrayQueue::new(2 * PORTS_MAX), closed: ArrayQueue::new(PORTS_MAX) })
    }

    /// Tells the worker; it hears of it with the next tables.
    pub(crate) fn tell(&self, change: Change) {
        let told = self.changes.push(change);
        debug_assert!(told.is_ok(), "each port comes and goes once");
    }

    /// Takes back what the worker has let go of.
    pub(crate) fn take_closed(&self) -> Option<Lane> {
        self.closed.pop()
    }
}

/// The worker's queues on one port.
#[derive(Debug)]
pub(crate) struct Lane {
    id: u16,
    rx_queue: Option<u16>,
    way_out: WayOut,
    multi_segment: bool,
    pool: Arc<Pool>,
    /// Keeps the port started; dropped last.
    _port: Arc<Port>,
}

#[derive(Debug)]
enum WayOut {
    /// A transmit queue of our own.
    Queue(u16),
    /// The same, which others send through as well. Taken out of the outbox and refused by the device: `waiting`.
    SharedQueue { queue: u16, outbox: Outbox, waiting: Box<Burst<DpdkFrame>> },
    /// Another worker's transmit queue.
    Outbox(Outbox),
}

impl DpdkDriver {
    pub(crate) fn new(first: impl Iterator<Item = Lane>, exchange: Arc<Exchange>) -> DpdkDriver {
        let mut lanes = Vec::with_capacity(PORTS_MAX);
        lanes.extend(first.map(Some));
        DpdkDriver { lanes, exchange }
    }

    /// Gives back all frames of a burst at once.
    pub fn free_burst(&mut self, burst: &mut Burst<DpdkFrame>) {
        DpdkFrame::free_burst(burst);
    }
}

impl Driver for DpdkDriver {
    type Frame = DpdkFrame;
    type Shared = DpdkShared;

    #[inline]
    fn ports(&self) -> usize {
        self.lanes.len()
    }

    fn renew(&mut self) {
        while let Some(change) = self.exchange.changes.pop() {
            match change {
                Change::Opened(lane) => self.lanes.push(Some(lane)),
                Change::Closed(port) => {
                    let lane = self.lanes.get_mut(port.index()).and_then(Option::take);
                    // There is room for every lane.
                    let _ = lane.map(|lane| self.exchange.closed.push(lane));
                }
            }
        }
    }

    #[inline]
    fn receive(&mut self, port: PortId, burst: &mut Burst<DpdkFrame>) -> usize {
        let Some(lane) = &mut self.lanes[port.index()] else { return 0 };
        lane.send_for_others();
        let Some(queue) = lane.rx_queue else { return 0 };
        let held = burst.len();
        let room = burst.remaining_capacity() as u16;
        let free = burst.as_mut_ptr().wrapping_add(held).cast::<*mut rte_mbuf>();
        // SAFETY: the lane holds its port, which is started; the queue is this worker's alone; `room` pointers fit behind
        // those held; and a frame is a pointer.
        let received = unsafe { dpdk_sys::rx_burst(lane.id, queue, free, room) };
        let received = usize::from(received);
        // SAFETY: DPDK filled in that many.
        unsafe { burst.set_len(held + received) };
        for frame in &mut burst[held..] {
            frame.stamp(port, queue);
        }
        received
    }

    #[inline]
    fn transmit(&mut self, port: PortId, burst: &mut Burst<DpdkFrame>) -> usize {
        self.lanes[port.index()].as_mut().map_or(0, |lane| lane.transmit(burst))
    }

    #[inline]
    fn allocate(&mut self, port: PortId) -> Option<DpdkFrame> {
        let mut frame = self.lanes.get(port.index())?.as_ref()?.pool.allocate()?;
        frame.stamp(port, 0);
        Some(frame)
    }

    #[inline]
    fn allocate_all(&mut self, port: PortId, count: usize, into: &mut Burst<DpdkFrame>) -> usize {
        let Some(Some(lane)) = self.lanes.get(port.index()) else { return 0 };
        let before = into.len();
        lane.pool.allocate_all(count, into);
        for frame in &mut into[before..] {
            frame.stamp(port, 0);
        }
        into.len() - before
    }

    #[inline]
    fn free(&mut self, frame: DpdkFrame) {
        drop(frame);
    }

    #[inline]
    fn share(&mut self, frame: &DpdkFrame, from: usize, times: u16) -> Option<DpdkShared> {
        DpdkShared::new(frame, from, times)
    }

    #[inline]
    fn put_behind(&mut self, frame: &mut DpdkFrame, shared: &mut DpdkShared) -> bool {
        shared.put_behind(frame)
    }
}

impl Lane {
    /// The queues of `worker` on `port`.
    pub(crate) fn new(port: &Arc<Port>, outboxes: &[Outbox], worker: u16) -> Lane {
        let own = (worker < port.tx_queues()).then_some(worker);
        let outbox = outboxes.get(usize::from(worker % port.tx_queues().max(1))).map(Arc::clone);
        let way_out = match (own, outbox) {
            (Some(queue), None) => WayOut::Queue(queue),
            (Some(queue), Some(outbox)) => WayOut::SharedQueue { queue, outbox, waiting: Box::default() },
            (None, Some(outbox)) => WayOut::Outbox(outbox),
            (None, None) => unreachable!("a port with fewer queues than workers has outboxes"),
        };
        Lane {
            id: port.id(),
            rx_queue: (worker < port.rx_queues()).then_some(worker),
            way_out,
            multi_segment: port.capabilities().multi_segment_tx,
            pool: Arc::clone(port.shared_pool()),
            _port: Arc::clone(port),
        }
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<DpdkFrame>) -> usize {
        let mut count = burst.len();
        if !self.multi_segment {
            // Before the way out is chosen: what has been handed over can't be refused any more.
            let flat = |frame: &mut DpdkFrame| frame.segments() == 1 || frame.flatten();
            count = burst.iter_mut().position(|frame| !flat(frame)).unwrap_or(count);
        }
        match &self.way_out {
            WayOut::Queue(queue) | WayOut::SharedQueue { queue, .. } => send(self.id, *queue, burst, count),
            WayOut::Outbox(outbox) => hand_over(outbox, burst, count),
        }
    }

    /// Sends what other workers left with us, as far as the device takes it.
    #[inline]
    fn send_for_others(&mut self) {
        let WayOut::SharedQueue { queue, outbox, waiting } = &mut self.way_out else { return };
        while waiting.remaining_capacity() > 0 {
            let Some(frame) = outbox.pop() else { break };
            waiting.push(frame);
        }
        if waiting.is_empty() {
            return;
        }
        let count = waiting.len();
        send(self.id, *queue, waiting, count);
    }
}

/// The outboxes of a port, one per transmit queue; none where every worker has a queue of its own.
pub(crate) fn outboxes(port: &Port, workers: u16) -> Vec<Outbox> {
    let count = if port.tx_queues() < workers { port.tx_queues().max(1) } else { 0 };
    (0..count).map(|_| Arc::new(ArrayQueue::new(OUTBOX_FRAMES))).collect()
}

/// Sends the first `count` frames of the burst, as far as the device takes them.
#[inline]
fn send(port: u16, queue: u16, burst: &mut Burst<DpdkFrame>, count: usize) -> usize {
    debug_assert!(count <= burst.len());
    let frames = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
    // SAFETY: the caller's lane holds the port, which is started; the queue is this worker's alone; and the burst holds
    // `count` frames, which are pointers.
    let sent = unsafe { dpdk_sys::tx_burst(port, queue, frames, count as u16) };
    forget_front(burst, usize::from(sent));
    usize::from(sent)
}

/// Takes the first `count` frames out of the burst without freeing them, and moves the others up.
#[inline]
fn forget_front(burst: &mut Burst<DpdkFrame>, count: usize) {
    let left = burst.len() - count;
    if left > 0 {
        let first = burst.as_mut_ptr();
        // SAFETY: `left` frames lie behind the first `count`; the places may overlap; frames are moved, not copied, because
        // the length is set right after.
        unsafe { std::ptr::copy(first.wrapping_add(count), first, left) };
    }
    // SAFETY: the first `left` places hold frames.
    unsafe { burst.set_len(left) };
}

/// Leaves the first `count` frames of the burst with another worker, as far as there is room.
fn hand_over(outbox: &ArrayQueue<DpdkFrame>, burst: &mut Burst<DpdkFrame>, count: usize) -> usize {
    let mut left = Burst::new();
    let mut taken = 0;
    for (index, frame) in burst.drain(..).enumerate() {
        // Once one is refused, all behind it are: order is kept.
        if index == count || !left.is_empty() {
            left.push(frame);
        } else if let Err(frame) = outbox.push(frame) {
            left.push(frame);
        } else {
            taken += 1;
        }
    }
    *burst = left;
    taken
}

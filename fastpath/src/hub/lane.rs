//! Prepared segments on their way from the hub's thread to a worker, who sends them at a rate.
//!
//! Frames go round: the thread takes an empty one as a segment, writes the whole packet into it and puts it on the lane; the worker
//! sends it and lends another. Nothing is copied between them. When none is empty, the thread waits.
//!
//! Each end is one thread's alone, so that neither waits for the other: a lock that is always free says so to the compiler, and
//! costs a worker once a burst. The state of the pace is the worker's. It lies here and not with the worker, so that it
//! outlives the snapshots of tables, and nobody has to be told when lanes come and go.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ends::{self, ThreadEnd, WorkerEnd};
use super::segment::{SEGMENT_BYTES_MAX, Segment, Way};
use crate::clock::Nanos;
use crate::counters::Counter;
use crate::driver::{BURST_MAX, Burst, Frame};

/// Segments that wait on a lane: what a site at 1 Gb/s is sent in 3 ms, so that a thread that comes late for a moment doesn't
/// make the wire silent.
pub const LANE_SEGMENTS_MAX: usize = 256;
/// Time that may be made up for at once, when a worker comes late: two turns of others on its core where the kernel's tick has 4 ms, and
/// some. With less a worker that shares its core loses of its rate what it may not make up for.
const BURST_NANOS: u64 = 10_000_000;
/// Picoseconds in a nanosecond.
const PICOS: u64 = 1000;

/// The way of one site's segments to one worker.
#[derive(Debug)]
pub struct Lane {
    worker: usize,
    /// The thread's end; `None` while no worker has lent anything.
    thread: Mutex<Option<Box<dyn ThreadEnd>>>,
    /// The worker's, a [`WorkerEnd`] of its frames.
    sender: Mutex<Option<Box<dyn Any + Send>>>,
    /// What a byte takes of the time, in picoseconds.
    picos_per_byte: AtomicU64,
    /// When the next segment may leave. Written by the worker alone.
    due: Counter,
    /// Segments that the thread has put on it,
    put: Counter,
    /// and those of them that a worker who ended took away.
    lost: Counter,
    /// Frames that were lent and not taken back. Written by the worker.
    lent: Counter,
    /// Segments sent, and their bytes from the Ethernet header on. Counted by the worker.
    pub sent: Counter,
    /// See there.
    pub sent_bytes: Counter,
    /// Turns in which there was no buffer for what was due, which waited on.
    pub starved: Counter,
}

impl Lane {
    /// A lane to this worker, with this many bits per second, counted from the Ethernet header on. Nothing can be written
    /// before the worker has lent frames.
    pub fn new(worker: usize, bits_per_second: u64) -> Self {
        let lane = Self {
            worker,
            thread: Mutex::default(),
            sender: Mutex::default(),
            picos_per_byte: AtomicU64::new(0),
            due: Counter::default(),
            put: Counter::default(),
            lost: Counter::default(),
            lent: Counter::default(),
            sent: Counter::default(),
            sent_bytes: Counter::default(),
            starved: Counter::default(),
        };
        lane.set_rate(bits_per_second);
        lane
    }

    /// Sends at this rate from now on.
    pub fn set_rate(&self, bits_per_second: u64) {
        let picos = 8_000_000_000_000 / bits_per_second.max(1);
        self.picos_per_byte.store(picos.max(1), Ordering::Relaxed);
    }

    fn thread(&self) -> MutexGuard<'_, Option<Box<dyn ThreadEnd>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty segment; `None` if as many wait as may. For the hub's thread alone, as [`Self::send`] and [`Self::give_back`].
    pub fn take_empty(&self) -> Option<Segment> {
        self.thread().as_mut()?.take_empty()
    }

    /// Sends a segment, after those that wait.
    pub fn send(&self, segment: Segment) {
        let mut end = self.thread();
        let sent = end.as_mut().is_some_and(|end| end.send(segment));
        self.put.add(u64::from(sent));
    }

    /// Gives back a segment that isn't sent.
    pub fn give_back(&self, segment: Segment) {
        if let Some(end) = self.thread().as_mut() {
            end.give_back(segment);
        }
    }

    /// Segments that wait.
    #[inline]
    pub fn waiting(&self) -> usize {
        // What is counted first is read last: there may be more by now, never fewer than none.
        let gone = self.sent.get() + self.lost.get();
        self.put.get().saturating_sub(gone) as usize
    }

    /// The worker who sends what is on it.
    #[inline]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many segments may leave now, however long they are, at most a burst. For the worker alone, as all that follows.
    #[inline]
    pub(crate) fn allowance(&self, now: Nanos) -> usize {
        let waiting = self.waiting();
        if waiting == 0 {
            return 0;
        }
        let since = now.since(self.due(now));
        if since == 0 && self.due.get() > now.0 {
            return 0;
        }
        let each = self.cost(SEGMENT_BYTES_MAX).max(1);
        let count = usize::try_from(since / each).unwrap_or(usize::MAX).saturating_add(1);
        count.min(waiting).min(BURST_MAX)
    }

    /// Hands out the frames of the next segments, and where they go, as many as there are fresh frames to take their places. Those
    /// that aren't needed stay.
    #[inline]
    pub(crate) fn take<F: Frame>(&self, fresh: &mut Burst<F>, each: impl FnMut(F, Way)) {
        // Another has the end only while it ends or begins.
        let Ok(mut end) = self.sender.try_lock() else { return };
        if let Some(end) = end.as_mut().and_then(|end| end.downcast_mut::<WorkerEnd<F>>()) {
            end.take(fresh, each);
        }
    }

    /// Takes back all frames but those that the thread writes just now; what waits to be sent is lost. For when the worker ends:
    /// another begins with the lane afterwards.
    pub(crate) fn take_back<F: Frame>(&self) -> Vec<F> {
        // In the order of `lend`.
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let mut thread = self.thread();
        let written = thread.take().map(|mut end| end.drain()).unwrap_or_default();
        let mut frames: Vec<F> = written.into_iter().filter_map(Segment::into_frame).collect();
        if let Some(mut end) = sender.take().and_then(|end| end.downcast::<WorkerEnd<F>>().ok()) {
            frames.extend(end.drain());
        }
        self.lost.add(self.waiting() as u64);
        self.lent.set(0);
        frames
    }

    /// Frames that the worker has lent.
    #[inline]
    pub fn lent(&self) -> usize {
        self.lent.get() as usize
    }

    /// Lends it as many frames as it may have; fewer where there are none left, or another worker ends just now.
    pub(crate) fn lend<F: Frame>(&self, frames: impl FnMut() -> Option<F>) {
        let Ok(mut sender) = self.sender.try_lock() else { return };
        if sender.is_none() {
            let (thread, worker) = ends::pair::<F>(LANE_SEGMENTS_MAX);
            *sender = Some(worker);
            *self.thread() = Some(thread);
        }
        let Some(end) = sender.as_mut().and_then(|end| end.downcast_mut::<WorkerEnd<F>>()) else { return };
        let wanted = LANE_SEGMENTS_MAX - self.lent();
        let lent: u64 = std::iter::from_fn(frames).take(wanted).map(|frame| u64::from(end.lend(frame))).sum();
        self.lent.add(lent);
    }

    /// So many segments with so many bytes have left.
    #[inline]
    pub(crate) fn left(&self, now: Nanos, segments: usize, bytes: usize) {
        self.due.set(self.due(now).0.saturating_add(self.cost(bytes)));
        self.sent.add(segments as u64);
        self.sent_bytes.add(bytes as u64);
    }

    /// When the next may leave, without what was missed longer ago.
    #[inline]
    fn due(&self, now: Nanos) -> Nanos {
        Nanos(self.due.get().max(now.0.saturating_sub(BURST_NANOS)))
    }

    #[inline]
    fn cost(&self, len: usize) -> u64 {
        (self.picos_per_byte.load(Ordering::Relaxed).saturating_mul(len as u64)) / PICOS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::driver::{Driver, PortId};
    use crate::heap::{HeapLane, HeapNet, HeapPlan};
    use crate::tables::InterfaceId;

    #[test]
    fn a_segment_is_its_parts_or_nothing() {
        let lane = HeapLane::new(8_000_000_000).lane;
        let mut segment = lane.take_empty().unwrap();
        let way = Way::Interface(InterfaceId(3));
        assert!(segment.fill(way, &[b"head", b"", b"body"]));
        assert_eq!((segment.way(), segment.bytes()), (way, &b"headbody"[..]));
        assert!(segment.fill(Way::Bier, &[&[1; SEGMENT_BYTES_MAX]]));
        assert_eq!(segment.bytes(), [1; SEGMENT_BYTES_MAX]);
        assert!(!segment.fill(Way::Bier, &[&[1; SEGMENT_BYTES_MAX], &[1]]));
        assert_eq!(segment.bytes(), b"");
    }

    #[test]
    fn a_full_lane_has_no_empty_segment_until_one_is_sent() {
        let mut worker = HeapLane::new(8_000_000_000);
        let lane = Arc::clone(&worker.lane);
        for number in 0..LANE_SEGMENTS_MAX {
            let mut segment = lane.take_empty().unwrap();
            assert!(segment.fill(Way::Routed, &[&number.to_be_bytes()]));
            lane.send(segment);
        }
        assert!(lane.take_empty().is_none());
        for number in 0..10_usize {
            let sent = worker.next(Nanos(5_000_000)).unwrap();
            assert_eq!(sent, (Way::Routed, number.to_be_bytes().to_vec()));
        }
        let empty = lane.take_empty().unwrap();
        assert_eq!(empty.bytes(), b"", "another frame lies in it");
        lane.give_back(empty);
        assert_eq!(std::iter::from_fn(|| lane.take_empty()).count(), 10);
        assert_eq!((lane.waiting(), lane.sent.get()), (LANE_SEGMENTS_MAX - 10, 10));
    }

    /// Whoever lent frames has them all again at the end, but for those being written, and a new worker lends others.
    #[test]
    fn a_worker_that_ends_takes_its_frames_back() {
        let (net, mut drivers) = HeapNet::new(&HeapPlan { frames: 400, ..HeapPlan::default() });
        let lane = Lane::new(0, 8_000_000_000);
        let lend = |driver: &mut crate::heap::HeapDriver| {
            lane.lend(|| driver.allocate(PortId(0)));
            net.free_frames()
        };
        assert!(lane.take_empty().is_none());
        assert_eq!(lend(&mut drivers[0]), 400 - LANE_SEGMENTS_MAX);
        assert_eq!(lend(&mut drivers[0]), 400 - LANE_SEGMENTS_MAX, "no more than there may be");
        let mut written = lane.take_empty().unwrap();
        assert!(written.fill(Way::Bier, &[b"packet"]));
        lane.send(written);
        lane.give_back(lane.take_empty().unwrap());
        let writing = lane.take_empty().unwrap();
        let back = lane.take_back();
        assert_eq!(back.len(), LANE_SEGMENTS_MAX - 1);
        back.into_iter().for_each(|frame| drivers[0].free(frame));
        assert_eq!((lane.waiting(), net.free_frames()), (0, 399));
        drop(writing);
        assert_eq!(lend(&mut drivers[0]), 399 - LANE_SEGMENTS_MAX, "another begins anew");
    }

    /// A segment that the thread had in hand when its worker ended is the next one's, and there is one more than there should be:
    /// no other gets lost for that.
    #[test]
    fn a_segment_in_hand_outlives_its_worker() {
        let (_, mut drivers) = HeapNet::new(&HeapPlan { frames: 600, ..HeapPlan::default() });
        let driver = &mut drivers[0];
        let lane = Lane::new(0, 8_000_000_000);
        lane.lend(|| driver.allocate(PortId(0)));
        let mut in_hand = lane.take_empty().unwrap();
        lane.take_back().into_iter().for_each(|frame| driver.free(frame));
        lane.lend(|| driver.allocate(PortId(0)));
        assert!(in_hand.fill(Way::Bier, &[b"first"]));
        lane.send(in_hand);
        for _ in 1..BURST_MAX {
            let mut segment = lane.take_empty().unwrap();
            assert!(segment.fill(Way::Bier, &[b"later"]));
            lane.send(segment);
        }
        let mut fresh = Burst::new();
        driver.allocate_all(PortId(0), BURST_MAX, &mut fresh);
        let mut sent = Vec::new();
        lane.take(&mut fresh, |frame, _| sent.push(frame));
        assert_eq!((sent.len(), sent[0].bytes()), (BURST_MAX - 1, &b"first"[..]));
        assert_eq!(std::iter::from_fn(|| lane.take_empty()).count(), LANE_SEGMENTS_MAX);
    }

    /// Segments that leave in this many microseconds, with a worker that looks each microsecond.
    fn run(worker: &mut HeapLane, from: u64, micros: u64, len: usize) -> usize {
        let lane = Arc::clone(&worker.lane);
        let mut sent = 0;
        for now in (from..from + micros).map(|micros| Nanos(micros * 1000)) {
            while let Some(mut empty) = lane.take_empty() {
                assert!(empty.fill(Way::Bier, &[&vec![0; len]]));
                lane.send(empty);
            }
            for _ in 0..lane.allowance(now) {
                worker.next(now).unwrap();
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn a_lane_keeps_its_rate_and_makes_up_for_little() {
        // A byte a microsecond.
        let mut worker = HeapLane::new(8_000_000);
        let first = run(&mut worker, 1_000_000, 100_000, 1000);
        assert!((110..=112).contains(&first), "100, and a burst of ten milliseconds: {first}");
        let later = run(&mut worker, 90_000_000, 100_000, 1000);
        assert!((110..=112).contains(&later), "a long silence saves no more: {later}");
        worker.lane.set_rate(80_000_000);
        let faster = run(&mut worker, 90_101_000, 100_000, 1000);
        assert!((995..=1011).contains(&faster), "{faster}");
        worker.lane.set_rate(0);
        assert!(run(&mut worker, 90_300_000, 100_000, 1000) <= 1, "as good as nothing");
    }
}

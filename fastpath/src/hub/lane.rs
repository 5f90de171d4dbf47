//! Prepared segments on their way from the hub's thread to a worker, who sends them at a rate.
//!
//! Segments go round, like the parcels of [`crate::queue`]: the thread takes an empty one, writes the whole packet into it and
//! puts it on the lane; the worker copies it into a frame and gives it back. When none is empty, the thread waits.
//!
//! The state of the pace is the worker's alone. It lies here and not with the worker, so that it outlives the snapshots of
//! tables, and nobody has to be told when lanes come and go.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::clock::Nanos;
use crate::counters::Counter;
use crate::driver::BURST_MAX;
use crate::tables::InterfaceId;

/// Segments that wait on a lane: what a site at 1 Gb/s is sent in 3 ms, so that a thread that comes late for a moment doesn't
/// make the wire silent.
pub const LANE_SEGMENTS_MAX: usize = 256;
/// The longest frame of a segment: a full one with two VLAN tags to come, and fewer than a buffer holds.
pub const SEGMENT_BYTES_MAX: usize = 1522;
/// Time that may be made up for at once, when a worker comes late: two turns of others on its core where the kernel's tick has 4 ms, and
/// some. With less a worker that shares its core loses of its rate what it may not make up for.
const BURST_NANOS: u64 = 10_000_000;
/// Picoseconds in a nanosecond.
const PICOS: u64 = 1000;

/// Where a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is a whole Ethernet frame, without tags, and leaves here: to a group, or to one node's own link-layer address
    /// (RFC 6085).
    Interface(InterfaceId),
    /// It is an IP packet behind an Ethernet header to nobody yet, and goes where routes lead: to one node's own IP address. A hop
    /// is taken from it, as from those that are forwarded.
    Routed,
    /// It is a BIER packet without MPLS behind an Ethernet header to nobody yet, with our own BIFT-id, the bit string of its
    /// receivers, and the TTL that copies shall have.
    Bier,
}

/// A packet, ready to be sent.
#[derive(Clone, Debug)]
pub struct Segment {
    way: Way,
    len: usize,
    bytes: [u8; SEGMENT_BYTES_MAX],
}

impl Default for Segment {
    fn default() -> Self {
        Self { way: Way::Bier, len: 0, bytes: [0; SEGMENT_BYTES_MAX] }
    }
}

impl Segment {
    /// Where it goes.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes a frame, of parts that follow each other; false, and then it is empty, if it is longer than
    /// [`SEGMENT_BYTES_MAX`].
    pub fn fill(&mut self, way: Way, parts: &[&[u8]]) -> bool {
        (self.way, self.len) = (way, 0);
        let mut at = 0;
        for part in parts {
            let Some(room) = self.bytes.get_mut(at..at + part.len()) else { return false };
            room.copy_from_slice(part);
            at += part.len();
        }
        self.len = at;
        true
    }
}

/// The way of one site's segments to one worker.
#[derive(Debug)]
pub struct Lane {
    worker: usize,
    ready: ArrayQueue<Box<Segment>>,
    empty: ArrayQueue<Box<Segment>>,
    /// What a byte takes of the time, in picoseconds.
    picos_per_byte: AtomicU64,
    /// When the next segment may leave. Written by the worker alone.
    due: Counter,
    /// Segments sent, and their bytes from the Ethernet header on. Counted by the worker.
    pub sent: Counter,
    /// See there.
    pub sent_bytes: Counter,
    /// Turns in which there was no buffer for what was due, which waited on.
    pub starved: Counter,
}

impl Lane {
    /// A lane to this worker, with this many bits per second, counted from the Ethernet header on.
    pub fn new(worker: usize, bits_per_second: u64) -> Self {
        let lane = Self {
            worker,
            ready: ArrayQueue::new(LANE_SEGMENTS_MAX),
            empty: ArrayQueue::new(LANE_SEGMENTS_MAX),
            picos_per_byte: AtomicU64::new(0),
            due: Counter::default(),
            sent: Counter::default(),
            sent_bytes: Counter::default(),
            starved: Counter::default(),
        };
        lane.set_rate(bits_per_second);
        for _ in 0..LANE_SEGMENTS_MAX {
            // The queue has room for exactly these.
            let _ = lane.empty.push(Box::default());
        }
        lane
    }

    /// Sends at this rate from now on.
    pub fn set_rate(&self, bits_per_second: u64) {
        let picos = 8_000_000_000_000 / bits_per_second.max(1);
        self.picos_per_byte.store(picos.max(1), Ordering::Relaxed);
    }

    /// An empty segment; `None` if as many wait as may.
    pub fn take_empty(&self) -> Option<Box<Segment>> {
        self.empty.pop()
    }

    /// Sends a segment, after those that wait.
    pub fn send(&self, segment: Box<Segment>) {
        // Segments go round between queues that have room for all of them.
        let _ = self.ready.push(segment);
    }

    /// Gives back a segment that isn't sent.
    pub fn give_back(&self, segment: Box<Segment>) {
        let _ = self.empty.push(segment);
    }

    /// Segments that wait.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// The worker who sends what is on it.
    #[inline]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many segments may leave now, however long they are, at most a burst. For the worker alone.
    #[inline]
    pub(crate) fn allowance(&self, now: Nanos) -> usize {
        if self.ready.is_empty() {
            return 0;
        }
        let since = now.since(self.due(now));
        if since == 0 && self.due.get() > now.0 {
            return 0;
        }
        let each = self.cost(SEGMENT_BYTES_MAX).max(1);
        let count = usize::try_from(since / each).unwrap_or(usize::MAX).saturating_add(1);
        count.min(self.ready.len()).min(BURST_MAX)
    }

    /// The next segment, which must be given back. For the worker alone.
    #[inline]
    pub fn next(&self, now: Nanos) -> Option<Box<Segment>> {
        let segment = self.ready.pop()?;
        self.due.set(self.due(now).0.saturating_add(self.cost(segment.len)));
        self.sent.add(1);
        self.sent_bytes.add(segment.len as u64);
        Some(segment)
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
    use super::*;

    #[test]
    fn a_segment_is_its_parts_or_nothing() {
        let mut segment = Segment::default();
        let way = Way::Interface(InterfaceId(3));
        assert!(segment.fill(way, &[b"head", b"", b"body"]));
        assert_eq!((segment.way(), segment.bytes()), (way, &b"headbody"[..]));
        assert!(segment.fill(Way::Bier, &[&[1; SEGMENT_BYTES_MAX]]));
        assert!(!segment.fill(Way::Bier, &[&[1; SEGMENT_BYTES_MAX], &[1]]));
        assert_eq!(segment.bytes(), b"");
    }

    #[test]
    fn a_full_lane_has_no_empty_segment_until_one_is_sent() {
        let lane = Lane::new(0, 8_000_000_000);
        for _ in 0..LANE_SEGMENTS_MAX {
            lane.send(lane.take_empty().unwrap());
        }
        assert!(lane.take_empty().is_none());
        let sent = lane.next(Nanos(5_000_000)).unwrap();
        lane.give_back(sent);
        assert!(lane.take_empty().is_some());
        assert_eq!((lane.waiting(), lane.sent.get()), (LANE_SEGMENTS_MAX - 1, 1));
    }

    /// Segments that leave in this many microseconds, with a worker that looks each microsecond.
    fn run(lane: &Lane, from: u64, micros: u64, len: usize) -> usize {
        let mut sent = 0;
        for now in (from..from + micros).map(|micros| Nanos(micros * 1000)) {
            while let Some(mut empty) = lane.take_empty() {
                assert!(empty.fill(Way::Bier, &[&vec![0; len]]));
                lane.send(empty);
            }
            for _ in 0..lane.allowance(now) {
                lane.give_back(lane.next(now).unwrap());
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn a_lane_keeps_its_rate_and_makes_up_for_little() {
        // A byte a microsecond.
        let lane = Lane::new(0, 8_000_000);
        let first = run(&lane, 1_000_000, 100_000, 1000);
        assert!((110..=112).contains(&first), "100, and a burst of ten milliseconds: {first}");
        let later = run(&lane, 90_000_000, 100_000, 1000);
        assert!((110..=112).contains(&later), "a long silence saves no more: {later}");
        lane.set_rate(80_000_000);
        let faster = run(&lane, 90_101_000, 100_000, 1000);
        assert!((995..=1011).contains(&faster), "{faster}");
        lane.set_rate(0);
        assert!(run(&lane, 90_300_000, 100_000, 1000) <= 1, "as good as nothing");
    }
}

//! The two ends of a lane: each is one thread's alone, and between them are rings without an exchange per segment.
//!
//! The worker's knows its frames. The other doesn't, for the hub's thread has nothing to do with drivers; what it gives back is
//! looked at there, and costs the worker nothing.

use std::any::Any;
use std::fmt::Debug;

use rtrb::{Consumer, Producer, RingBuffer};

use super::segment::{Lent, Segment, Way};
use crate::driver::{Burst, Frame};

/// What the hub's thread has of a lane.
pub(super) trait ThreadEnd: Debug + Send {
    fn take_empty(&mut self) -> Option<Segment>;
    /// Whether it was one of this lane's.
    fn send(&mut self, segment: Segment) -> bool;
    fn give_back(&mut self, segment: Segment);
    /// All that are empty.
    fn drain(&mut self) -> Vec<Segment>;
}

/// What a worker has of a lane.
pub(super) struct WorkerEnd<F> {
    ready: Consumer<Box<Lent<F>>>,
    empty: Producer<Box<Lent<F>>>,
}

struct Ends<F> {
    ready: Producer<Box<Lent<F>>>,
    empty: Consumer<Box<Lent<F>>>,
    /// Taken, and not sent after all.
    spare: Vec<Box<Lent<F>>>,
}

/// The ends of a lane with room for so many segments, of which there is none yet.
pub(super) fn pair<F: Frame>(segments: usize) -> (Box<dyn ThreadEnd>, Box<dyn Any + Send>) {
    let (ready, ready_out) = RingBuffer::new(segments);
    let (empty_in, empty) = RingBuffer::new(segments);
    let thread = Ends::<F> { ready, empty, spare: Vec::new() };
    (Box::new(thread), Box::new(WorkerEnd { ready: ready_out, empty: empty_in }))
}

impl<F> Debug for Ends<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} empty segments", self.empty.slots() + self.spare.len())
    }
}

impl<F: Frame> ThreadEnd for Ends<F> {
    fn take_empty(&mut self) -> Option<Segment> {
        self.spare.pop().or_else(|| self.empty.pop().ok()).map(Segment::new)
    }

    fn send(&mut self, segment: Segment) -> bool {
        // Segments go round between rings that have room for all of them.
        segment.into_lent().is_some_and(|lent| self.ready.push(lent).is_ok())
    }

    fn give_back(&mut self, segment: Segment) {
        self.spare.extend(segment.into_lent());
    }

    fn drain(&mut self) -> Vec<Segment> {
        std::iter::from_fn(|| self.take_empty()).collect()
    }
}

impl<F: Frame> WorkerEnd<F> {
    /// Makes a segment of a frame; false if there are as many as may be.
    pub(super) fn lend(&mut self, frame: F) -> bool {
        self.empty.push(Box::new(Lent::new(frame))).is_ok()
    }

    /// See [`super::Lane::take`].
    #[inline]
    pub(super) fn take(&mut self, fresh: &mut Burst<F>, mut each: impl FnMut(F, Way)) {
        while let Some(frame) = fresh.pop() {
            let Ok(mut lent) = self.ready.pop() else { return fresh.push(frame) };
            let (frame, way) = lent.exchange(frame);
            each(frame, way);
            // The ring has room for all there may be.
            let _ = self.empty.push(lent);
        }
    }

    /// The frames of all that wait.
    pub(super) fn drain(&mut self) -> Vec<F> {
        std::iter::from_fn(|| self.ready.pop().ok()).map(|lent| lent.into_frame()).collect()
    }
}

//! The two ends of a lane: each is one thread's alone, and between them are rings of frames, handed over a burst at a time.
//!
//! The worker's knows its frames and holds nothing else. The other doesn't, for the hub's thread has nothing to do with drivers:
//! it sees [`Segment`]s, which are made and taken apart there, where time isn't as short as at the worker.

use std::any::Any;
use std::fmt::Debug;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::segment::{Lent, Segment, Way};
use crate::driver::{Burst, Frame};

/// What the hub's thread has of a lane.
pub(super) trait ThreadEnd: Debug + Send {
    fn take_empty(&mut self) -> Option<Segment>;
    /// Whether it goes: it is one of this lane's, and there aren't too many.
    fn send(&mut self, segment: Segment) -> bool;
    fn give_back(&mut self, segment: Segment);
    /// All that are empty.
    fn drain(&mut self) -> Vec<Segment>;
}

/// What a worker has of a lane.
pub(super) struct WorkerEnd<F> {
    ready: Consumer<(F, Way)>,
    empty: Producer<F>,
}

struct Ends<F> {
    ready: Producer<(F, Way)>,
    empty: Consumer<F>,
    /// Taken, and not sent after all.
    spare: Vec<F>,
    /// Boxes of segments that were sent.
    boxes: Vec<Box<Lent<F>>>,
}

/// The ends of a lane with room for so many segments, of which there is none yet.
pub(super) fn pair<F: Frame>(segments: usize) -> (Box<dyn ThreadEnd>, Box<dyn Any + Send>) {
    let (ready, ready_out) = RingBuffer::new(segments);
    let (empty_in, empty) = RingBuffer::new(segments);
    let thread = Ends::<F> { ready, empty, spare: Vec::new(), boxes: Vec::new() };
    (Box::new(thread), Box::new(WorkerEnd { ready: ready_out, empty: empty_in }))
}

impl<F> Debug for Ends<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} empty segments", self.empty.slots() + self.spare.len())
    }
}

impl<F: Frame> Ends<F> {
    /// Takes a segment apart; `None` if it isn't one of this lane's.
    fn open(&mut self, segment: Segment) -> Option<(F, Way)> {
        let mut lent = segment.into_lent()?;
        let taken = lent.take();
        self.boxes.push(lent);
        taken
    }
}

impl<F: Frame> ThreadEnd for Ends<F> {
    fn take_empty(&mut self) -> Option<Segment> {
        let frame = self.spare.pop().or_else(|| self.empty.pop().ok())?;
        let mut lent = self.boxes.pop().unwrap_or_default();
        lent.put(frame);
        Some(Segment::new(lent))
    }

    fn send(&mut self, segment: Segment) -> bool {
        match self.open(segment).map(|ready| self.ready.push(ready)) {
            Some(Ok(())) => true,
            // There is one more than there should be: it was in hand when the worker before ended.
            Some(Err(PushError::Full((frame, _)))) => {
                self.spare.push(frame);
                false
            }
            None => false,
        }
    }

    fn give_back(&mut self, segment: Segment) {
        let frame = self.open(segment).map(|(frame, _)| frame);
        self.spare.extend(frame);
    }

    fn drain(&mut self) -> Vec<Segment> {
        std::iter::from_fn(|| self.take_empty()).collect()
    }
}

impl<F: Frame> WorkerEnd<F> {
    /// Lends a frame; false if there are as many as may be.
    pub(super) fn lend(&mut self, frame: F) -> bool {
        self.empty.push(frame).is_ok()
    }

    /// See [`super::Lane::take`].
    #[inline]
    pub(super) fn take(&mut self, fresh: &mut Burst<F>, mut each: impl FnMut(F, Way)) {
        let count = fresh.len().min(self.ready.slots()).min(self.empty.slots());
        let Ok(ready) = self.ready.read_chunk(count) else { return };
        ready.into_iter().for_each(|(frame, way)| each(frame, way));
        if let Ok(empty) = self.empty.write_chunk_uninit(count) {
            empty.fill_from_iter(fresh.drain(..count));
        }
    }

    /// The frames of all that wait.
    pub(super) fn drain(&mut self) -> Vec<F> {
        std::iter::from_fn(|| self.ready.pop().ok()).map(|(frame, _)| frame).collect()
    }
}

//! How workers end: together, so that no frame is left where nobody looks any more.
//!
//! ```text
//!  stop ─► receive no more ─► rings, until nobody receives and they are empty ─► injected frames ─► holds ─► end
//! ```
//!
//! A worker that ended by itself would leave behind what the others hand over to it until they have stopped, too.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Rings, Worker};
use crate::clock::Clock;
use crate::driver::{BURST_MAX, Driver};
use crate::queue::PARCELS_MAX;

impl<F> Rings<F> {
    /// A worker begins to receive.
    fn enter(&self) {
        self.receiving.fetch_add(1, Ordering::AcqRel);
    }

    /// It has received its last frame, and handed over what it had to.
    fn leave(&self) {
        self.receiving.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nothing is handed over any more. A worker that enters later finds `stop` set, and receives nothing.
    fn are_quiet(&self) -> bool {
        self.receiving.load(Ordering::Acquire) == 0
    }
}

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Polls until `stop` is set, then ends: takes what the other workers still hand over and what the slowpath still
    /// sends, and expires what is held by the services' overflow actions, as far as buffers reach. Returns when all
    /// workers of the appliance that run have stopped receiving.
    pub fn run(mut self, stop: &AtomicBool) {
        self.rings.enter();
        while !stop.load(Ordering::Relaxed) {
            self.poll();
        }
        self.rings.leave();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            self.refresh();
            // In this order: what was handed over before the last one left is on the rings by then.
            let quiet = self.rings.are_quiet();
            if self.poll_rings() == 0 && quiet {
                break;
            }
        }
        // The slowpath may go on sending; what was there when we began has left after so many bursts.
        for _ in 0..PARCELS_MAX.div_ceil(BURST_MAX) {
            if self.poll_injects() == 0 {
                break;
            }
        }
        while self.leave_holds(true) + self.turn_splices(true) > 0 {}
        self.shared.end_epoch(self.index);
    }
}

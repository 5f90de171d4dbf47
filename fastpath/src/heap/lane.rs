//! The worker's end of a hub's lane, for tests of what the hub's thread puts there.

use std::sync::Arc;

use super::{HeapDriver, HeapNet, HeapPlan};
use crate::clock::Nanos;
use crate::driver::{Burst, Driver, Frame, PortId};
use crate::hub::{LANE_SEGMENTS_MAX, Lane, Way};

/// A lane whose worker is a test.
#[derive(Debug)]
pub struct HeapLane {
    /// What the hub's thread has.
    pub lane: Arc<Lane>,
    driver: HeapDriver,
}

impl HeapLane {
    /// Lends frames to a lane to the first worker.
    pub fn new(bits_per_second: u64) -> Self {
        // One more: it takes the place of the one that leaves.
        let plan = HeapPlan { ports: 1, frames: LANE_SEGMENTS_MAX + 1, ..HeapPlan::default() };
        let mut driver = HeapNet::new(&plan).1.remove(0);
        let lane = Arc::new(Lane::new(0, bits_per_second));
        lane.lend(|| driver.allocate(PortId(0)));
        Self { lane, driver }
    }

    /// The next segment's way and frame, whatever the rate.
    pub fn next(&mut self, now: Nanos) -> Option<(Way, Vec<u8>)> {
        let mut fresh: Burst<_> = self.driver.allocate(PortId(0)).into_iter().collect();
        let mut taken = None;
        self.lane.take(&mut fresh, |frame, way| taken = Some((frame, way)));
        fresh.drain(..).for_each(|frame| self.driver.free(frame));
        let (frame, way) = taken?;
        let bytes = frame.bytes().to_vec();
        self.driver.free(frame);
        self.lane.left(now, 1, bytes.len());
        Some((way, bytes))
    }
}

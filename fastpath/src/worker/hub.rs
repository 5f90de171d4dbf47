//! What the hub's thread has prepared, sent at its rate: its frames, as they are, to ports or into BIER.
//!
//! Who sends is the worker itself, so frames are counted when they leave, as those that begin here are.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::Worker;
use super::release::{allocate, allocate_all};
use crate::clock::{Clock, Nanos};
use crate::driver::{BURST_MAX, Burst, Driver, Frame, RxChecksum};
use crate::hub::{LANE_SEGMENTS_MAX, Lane, Way};
use crate::node::{Leaving, NodeId, Outgoing};
use crate::packet::{BierPacket, NOT_TRACED, Network, Origin, Packet};
use crate::tables::InterfaceId;

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Sends what is due on this worker's lanes. Returns how many segments that was.
    #[inline]
    pub(super) fn poll_hub(&mut self) -> usize {
        if self.tables.hub.is_some() { self.send_segments() } else { 0 }
    }

    /// Lends frames to lanes of this worker that haven't got all of theirs, for the hub's thread to write into. What holds them
    /// is taken from the system then, once for each lane.
    pub(super) fn lend(&mut self) {
        let Some(hub) = &self.tables.hub else { return };
        let short = |lane: &&Arc<Lane>| lane.worker() == self.index && lane.lent() < LANE_SEGMENTS_MAX;
        for lane in hub.lanes.iter().filter(short) {
            lane.lend(|| allocate(&mut self.driver, None));
            lane.starved.add(u64::from(lane.lent() < LANE_SEGMENTS_MAX));
        }
    }

    /// Takes back what is lent, before the driver goes.
    pub(super) fn take_back(&mut self) {
        let Some(hub) = &self.tables.hub else { return };
        for lane in hub.lanes.iter().filter(|lane| lane.worker() == self.index) {
            lane.take_back().into_iter().for_each(|frame| self.driver.free(frame));
        }
    }

    #[inline(never)]
    fn send_segments(&mut self) -> usize {
        // There may have been too few frames before.
        self.lend();
        let mut sent = 0;
        for at in 0.. {
            let Some(lane) = self.tables.hub.as_ref().and_then(|hub| hub.lanes.get(at)) else { break };
            if lane.worker() != self.index || lane.waiting() == 0 {
                continue;
            }
            let now = self.clock.now();
            let due = lane.allowance(now);
            if due > 0 {
                // Not before there is something to send: a poll that finds nothing changes no count.
                let lane = Arc::clone(lane);
                sent += self.send_from(&lane, due, now);
            }
        }
        sent
    }

    fn send_from(&mut self, lane: &Lane, due: usize, now: Nanos) -> usize {
        let begun = self.clock.cycles();
        // First the buffers that take their place: without one nothing is taken off the lane, and nothing lost.
        let mut fresh = Burst::new();
        allocate_all(&mut self.driver, due, &mut fresh);
        lane.starved.add(u64::from(fresh.len() < due));
        let mut frames: ArrayVec<(D::Frame, Way), BURST_MAX> = ArrayVec::new();
        let mut bytes = 0;
        lane.take(&mut fresh, |frame, way| {
            bytes += frame.bytes().len();
            frames.push((frame, way));
        });
        fresh.drain(..).for_each(|frame| self.driver.free(frame));
        let count = frames.len();
        lane.left(now, count, bytes);
        let cycles = self.clock.cycles().wrapping_sub(begun);
        let counters = self.own().counters.node(NodeId::Hub);
        counters.frames.add(count as u64);
        counters.vectors.add(1);
        counters.cycles.add(cycles);
        self.round(0, |cx, lanes| {
            for (frame, way) in frames.drain(..) {
                match way {
                    Way::Interface(interface) => {
                        let leaving = Leaving::Originated;
                        lanes.output.push(Outgoing { frame, interface, leaving, trace: NOT_TRACED });
                    }
                    Way::Routed => {
                        let mut meta = cx.metas.take();
                        // The hub's thread has written it; what can't be read is freed, as one without a buffer is never taken.
                        let read = meta.read(frame.bytes(), frame.bytes().len(), RxChecksum::Good);
                        meta.origin = Origin::Own;
                        let packet = Packet { frame, meta };
                        match read {
                            Ok(()) => lanes.transit.push(packet),
                            Err(_) => cx.free(packet, lanes),
                        }
                    }
                    Way::Bier => {
                        let (network, origin) = (Network::BierOfOurs, Origin::Own);
                        let interface = InterfaceId::default();
                        lanes.bier.push(BierPacket { frame, interface, network, origin, trace: NOT_TRACED });
                    }
                }
            }
        });
        count
    }
}

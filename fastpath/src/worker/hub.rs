//! What the hub's thread has prepared, sent at its rate: segments into frames, frames to ports or into BIER.
//!
//! Who sends is the worker itself, so frames are counted when they leave, as those that begin here are.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::release::allocate;
use super::{Worker, copy_into};
use crate::clock::Clock;
use crate::driver::{BURST_MAX, Driver, Frame, RxChecksum};
use crate::hub::{Lane, Way};
use crate::node::{Leaving, NodeId, Outgoing};
use crate::packet::{Meta, NOT_TRACED, Network, Origin, Packet};

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Sends what is due on this worker's lanes. Returns how many segments that was.
    #[inline]
    pub(super) fn poll_hub(&mut self) -> usize {
        if self.tables.hub.is_some() { self.send_segments() } else { 0 }
    }

    #[inline(never)]
    fn send_segments(&mut self) -> usize {
        let mut sent = 0;
        for at in 0.. {
            let Some(lane) = self.tables.hub.as_ref().and_then(|hub| hub.lanes.get(at)) else { break };
            if lane.worker() != self.index || lane.waiting() == 0 {
                continue;
            }
            let due = lane.allowance(self.clock.now());
            if due > 0 {
                // Not before there is something to send: a poll that finds nothing changes no count.
                let lane = Arc::clone(lane);
                sent += self.send_from(&lane, due);
            }
        }
        sent
    }

    fn send_from(&mut self, lane: &Lane, due: usize) -> usize {
        let begun = self.clock.cycles();
        let now = self.clock.now();
        let mut frames: ArrayVec<(D::Frame, Way), BURST_MAX> = ArrayVec::new();
        while frames.len() < due {
            // First the buffer: without one nothing is taken off the lane, and nothing lost.
            let Some(mut frame) = allocate(&mut self.driver, None) else {
                lane.starved.add(1);
                break;
            };
            let Some(segment) = lane.next(now) else {
                self.driver.free(frame);
                break;
            };
            let fits = copy_into(&mut frame, segment.bytes());
            let way = segment.way();
            lane.give_back(segment);
            if fits {
                frames.push((frame, way));
            } else {
                // A pool of smaller buffers than a full frame is a wrong configuration.
                self.driver.free(frame);
            }
        }
        let count = frames.len();
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
                        let mut meta = cx.metas.take();
                        let (network, origin) = (Network::BierOfOurs, Origin::Own);
                        *meta = Meta { network, origin, trace: NOT_TRACED, ..Meta::default() };
                        lanes.bier.push(Packet { frame, meta });
                    }
                }
            }
        });
        count
    }
}

//! Connections to instances that are being opened: SYNs that are due, and what becomes of what was held meanwhile.
//!
//! There is no timer per connection: a poll looks at some of them, longest ago first.

use arrayvec::ArrayVec;

use super::Worker;
use super::release::{Exit, allocate};
use crate::clock::{Clock, Nanos};
use crate::driver::{BURST_MAX, Driver, Frame};
use crate::event::Milestone;
use crate::hold::HeldId;
use crate::node::splice::into_syn;
use crate::node::{handshake, port_of};
use crate::packet::{Meta, NOT_TRACED, Packet};
use crate::splice::connect::{Accepted, Turn};
use crate::splice::table::Stage;
use crate::tables::services::ServiceId;
use crate::wire::tcp;

/// Connections looked at in one poll.
const CONNECTS_PER_POLL: usize = 64;
/// The longest TCP header.
const TCP_HEADER_MAX: usize = 60;
const _: () = assert!(TCP_HEADER_MAX >= tcp::HEADER);

/// What is due for a connection.
enum Due {
    Nothing,
    Syn(Accepted),
    /// What is held leaves.
    Exit(Exit),
}

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Sends the SYNs that are due and lets go what a connection was waited with. Returns how many packets that moved.
    #[inline]
    pub(super) fn poll_splices(&mut self) -> usize {
        if self.service.splices.pending() == 0 { 0 } else { self.turn_splices(false) }
    }

    #[inline(never)]
    pub(super) fn turn_splices(&mut self, ending: bool) -> usize {
        let now = self.clock.now();
        let mut leaving: ArrayVec<(Packet<D::Frame>, Option<Exit>), BURST_MAX> = ArrayVec::new();
        let mut left: ArrayVec<(ServiceId, Milestone), BURST_MAX> = ArrayVec::new();
        for _ in 0..self.service.splices.pending().min(CONNECTS_PER_POLL) {
            if leaving.is_full() {
                break;
            }
            let Some(held) = self.service.splices.take_next() else { break };
            match self.due(held, now, ending) {
                Due::Nothing => self.service.splices.wait(held),
                Due::Syn(accepted) => {
                    match self.syn(held, &accepted) {
                        Some(packet) => leaving.push((packet, None)),
                        None => self.service.splices.not_sent(held, now),
                    }
                    self.service.splices.wait(held);
                }
                Due::Exit(exit) => match self.copy_held(held) {
                    Some(packet) => {
                        let waiting = self.holds.take(held);
                        left.push((waiting.meta.service, exit.milestone()));
                        leaving.push((packet, Some(exit)));
                    }
                    None => self.service.splices.wait(held),
                },
            }
        }
        let moved = leaving.len();
        if moved == 0 {
            return 0;
        }
        let held_now = self.holds.len() as u64;
        self.round(0, |cx, lanes| {
            cx.counters.fates.still_held.set(held_now);
            for (packet, exit) in leaving.drain(..) {
                let id = packet.meta.service;
                cx.counters.service(id).holds.set(u64::from(cx.holds.len_of(id)));
                match exit {
                    Some(Exit::Expired) => lanes.expired.push(packet),
                    _ => lanes.service.push(packet),
                }
                if let Some(exit) = exit {
                    exit.count(&cx.counters.fates);
                }
            }
        });
        // The port has the frames by now.
        let sent = self.clock.now();
        for (id, what) in left {
            self.waker.milestone(id, what, sent);
        }
        moved
    }

    fn due(&mut self, held: HeldId, now: Nanos, ending: bool) -> Due {
        let counters = &self.shared.workers[self.index].counters;
        match *self.service.splices.stage(held) {
            Stage::Opened => Due::Exit(Exit::Released),
            Stage::Failed { position } => {
                self.service.end_opening(position, held, counters);
                Due::Exit(Exit::Expired)
            }
            Stage::Opening { position, mut connect } => {
                // A flow may have had to make room for another.
                let lost = ending || !self.service.is_opening(position, held);
                let turn = if lost { Turn::GiveUp } else { connect.turn(now) };
                *self.service.splices.stage(held) = Stage::Opening { position, connect };
                match turn {
                    Turn::Wait => Due::Nothing,
                    Turn::Send => Due::Syn(connect.accepted),
                    Turn::GiveUp => {
                        if !lost {
                            handshake::expired(self.service.flows.get(position), &self.tables, counters);
                        }
                        self.service.end_opening(Some(position), held, counters);
                        *self.service.splices.stage(held) = Stage::Failed { position: None };
                        Due::Exit(Exit::Expired)
                    }
                }
            }
        }
    }

    /// The SYN to the instance, in a frame with the headers of what the client sent; `None` when there is no frame.
    fn syn(&mut self, held: HeldId, accepted: &Accepted) -> Option<Packet<D::Frame>> {
        let (waiting, bytes) = self.holds.get(held);
        let l4 = usize::from(waiting.meta.l4);
        let mut frame = allocate(&mut self.driver, port_of(&self.tables, waiting.meta.interface))?;
        if !frame.extend(l4 + TCP_HEADER_MAX) {
            self.driver.free(frame);
            return None;
        }
        frame.bytes_mut()[..l4].copy_from_slice(&bytes[..l4]);
        let mut meta = self.metas.take();
        *meta = Meta { trace: NOT_TRACED, ..waiting.meta };
        let len = into_syn(frame.bytes_mut(), &mut meta, accepted);
        let cut = frame.truncate(len);
        debug_assert!(cut, "a fresh frame has one segment, longer than this");
        Some(Packet { frame, meta })
    }
}

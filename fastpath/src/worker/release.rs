//! What leaves the holds, and when: released as the instance can take them, expired at the deadline.
//!
//! Release is paced: a thousand held SYNs sent at once would overflow the listen queue of the instance that has just
//! started, and each lost one costs its client a second.

use arrayvec::ArrayVec;

use super::{Worker, copy_into};
use crate::clock::{Clock, Nanos};
use crate::driver::{BURST_MAX, Driver};
use crate::event::{Milestone, Trigger};
use crate::hold::{Held, Line, Waiting};
use crate::node::{port_of, service};
use crate::packet::{Meta, NOT_TRACED, Origin, Packet};
use crate::slots::Phase;
use crate::tables::services::{Entry, Instance, InstanceState, SERVICES_MAX, ServiceId};
use crate::wake::Wake;

/// First packets released to one instance in a millisecond: half the listen backlog of 128 that servers commonly have.
const RELEASE_PER_MS: u32 = 64;
/// A turn of pacing, in nanoseconds.
const TURN_NANOS: u64 = 1_000_000;
/// Lines looked at in one poll; more take turns.
const LINES_PER_POLL: usize = 64;

/// What each service has had of the current turn.
#[derive(Debug)]
pub(super) struct Pacer {
    turns: Box<[Turn]>,
    /// Where the next poll begins among the lines with something in them.
    cursor: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    number: u64,
    released: u32,
    woke: bool,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { turns: vec![Turn::default(); SERVICES_MAX].into_boxed_slice(), cursor: 0 }
    }
}

impl Pacer {
    fn turn(&mut self, service: ServiceId, now: Nanos) -> &mut Turn {
        let number = now.0 / TURN_NANOS;
        let turn = &mut self.turns[service.index()];
        if turn.number != number {
            *turn = Turn { number, ..Turn::default() };
        }
        turn
    }
}

/// Why a held packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Released,
    Expired,
}

impl Exit {
    fn milestone(self) -> Milestone {
        match self {
            Exit::Released => Milestone::Released,
            Exit::Expired => Milestone::Expired,
        }
    }
}

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Takes out what can or must leave, at most a burst. Returns how many did.
    #[inline]
    pub(super) fn poll_holds(&mut self) -> usize {
        if self.holds.is_empty() { 0 } else { self.leave_holds(false) }
    }

    /// Ends: everything held takes its overflow action, as far as buffers reach.
    pub(super) fn drain(&mut self) {
        while self.leave_holds(true) > 0 {}
        self.shared.end_epoch(self.index);
    }

    #[inline(never)]
    fn leave_holds(&mut self, ending: bool) -> usize {
        let now = self.clock.now();
        let mut leaving: ArrayVec<(Packet<D::Frame>, Held, Exit), BURST_MAX> = ArrayVec::new();
        let mut left_holds: ArrayVec<(ServiceId, Milestone), BURST_MAX> = ArrayVec::new();
        let active = self.holds.active();
        if active == 0 {
            return 0;
        }
        let looked_at = active.min(LINES_PER_POLL);
        let lines: ArrayVec<Line, LINES_PER_POLL> =
            (0..looked_at).map(|n| self.holds.active_line((self.pacer.cursor + n) % active)).collect();
        // Each is first in its turn, so that none takes all the places of every poll.
        self.pacer.cursor = (self.pacer.cursor + 1) % active;
        for line in lines {
            while !leaving.is_full() {
                let Some(exit) = self.exit(line, now, ending) else { break };
                let Some((packet, held)) = self.take_out(line) else { break };
                left_holds.push((line.service, exit.milestone()));
                leaving.push((packet, held, exit));
            }
        }
        let left = leaving.len();
        if left == 0 {
            return 0;
        }
        let held_now = self.holds.len() as u64;
        self.round(0, |cx, lanes| {
            cx.counters.fates.still_held.set(held_now);
            for (packet, held, exit) in leaving.drain(..) {
                let service = packet.meta.service;
                cx.counters.service(service).holds.set(u64::from(cx.holds.len_of(service)));
                match exit {
                    Exit::Released => cx.counters.fates.released.add(1),
                    Exit::Expired => cx.counters.fates.expired.add(1),
                }
                match (held, exit) {
                    // A query is answered with the state as it is by now, ready or not.
                    (Held::Query(_), _) => lanes.dns.push(packet),
                    (Held::FirstPacket, Exit::Released) => lanes.service.push(packet),
                    (Held::FirstPacket, Exit::Expired) => lanes.expired.push(packet),
                }
            }
        });
        // The port has the frames by now.
        let sent = self.clock.now();
        for (service, what) in left_holds {
            self.waker.milestone(service, what, sent);
        }
        left
    }

    /// Whether the oldest packet of a line leaves now. Wakes the service again if nobody was told of this packet's wish:
    /// a notification that couldn't be sent must not leave anybody waiting for it. A wake that was told and failed is not
    /// begun again from here; the orchestrator has its own pace, and the next client may ask anew.
    fn exit(&mut self, line: Line, now: Nanos, ending: bool) -> Option<Exit> {
        let id = line.service;
        let waiting = self.holds.head(line)?;
        let expires = ending || waiting.deadline <= now;
        let Some(service) = self.tables.services.entry(id) else { return Some(Exit::Expired) };
        if self.can_go(service, id, waiting) {
            let takes = |instance: &&Instance| {
                instance.fixed != service.wakes && instance.state != InstanceState::Draining
            };
            let takers = service.instances.iter().filter(takes).count().max(1) as u32;
            let share = (RELEASE_PER_MS * takers).div_ceil(self.shared.workers.len() as u32);
            let turn = self.pacer.turn(id, now);
            if turn.released < share {
                turn.released += 1;
                return Some(Exit::Released);
            }
            return expires.then_some(Exit::Expired);
        }
        if expires {
            return Some(Exit::Expired);
        }
        let slot = self.shared.slots.get(id);
        let (phase, wake) = slot.load();
        let untold = !waiting.asked || !slot.is_handed(wake);
        let may_wake = waiting.trigger != Trigger::Syn || service.trigger_syn;
        if phase == Phase::Cold
            && untold
            && may_wake
            && !std::mem::replace(&mut self.pacer.turn(id, now).woke, true)
        {
            let fields = waiting.meta.fields(self.holds.head_bytes(line)?);
            if matches!(self.waker.wake(id, waiting.trigger, fields, now), Wake::Begun(_) | Wake::NotNeeded) {
                self.holds.set_asked(line);
            }
        }
        None
    }

    fn can_go(&self, entry: &Entry, id: ServiceId, waiting: &Waiting) -> bool {
        let slot = self.shared.slots.get(id);
        match waiting.held {
            Held::Query(_) => slot.load().0 == Phase::Ready,
            Held::FirstPacket => service::can_open(entry, slot, waiting.meta.destination.is_v4()),
        }
    }

    /// Copies the oldest packet of a line into a frame and takes it out of the hold; `None` when there is no frame.
    fn take_out(&mut self, line: Line) -> Option<(Packet<D::Frame>, Held)> {
        let port = port_of(&self.tables, self.holds.head(line)?.meta.interface).unwrap_or_default();
        let mut frame = self.driver.allocate(port)?;
        let bytes = self.holds.head_bytes(line)?;
        if !copy_into(&mut frame, bytes) {
            // What was received fits into a fresh frame; a pool of smaller buffers is a wrong configuration.
            self.driver.free(frame);
            return None;
        }
        let waiting = self.holds.pop(line)?;
        let mut meta = self.metas.take();
        *meta = Meta { origin: Origin::Hold, trace: NOT_TRACED, service: line.service, ..waiting.meta };
        Some((Packet { frame, meta }, waiting.held))
    }
}

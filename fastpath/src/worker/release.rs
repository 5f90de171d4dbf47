//! What leaves the holds, and when: released as the instance can take them, expired at the deadline. A spliced handshake's
//! turn begins the connection to its instance; it stays held until that is open (see [`super::splices`]).
//!
//! Release is paced: a thousand held SYNs sent at once would overflow the listen queue of the instance that has just
//! started, and each lost one costs its client a second.

use arrayvec::ArrayVec;

use super::{Worker, copy_into};
use crate::clock::{Clock, Nanos};
use crate::counters::FateCounters;
use crate::driver::{BURST_MAX, Burst, Driver, PortId};
use crate::event::{Milestone, Trigger};
use crate::hold::{Held, HeldId, Line, Waiting};
use crate::node::opening::{admits, can_open, drops_at_deadline};
use crate::node::splice::{answers, falls_back};
use crate::node::{NodeId, port_of, service};
use crate::packet::{Kind, Meta, NOT_TRACED, Origin, Packet};
use crate::slots::{Escalation, Phase};
use crate::tables::balance::Pool;
use crate::tables::services::{Entry, SERVICES_MAX, ServiceId, Verify};
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
pub(super) enum Exit {
    Released,
    Expired,
    /// Out of its line, to be connected.
    Connects,
}

impl Exit {
    pub(super) fn milestone(self) -> Milestone {
        match self {
            Exit::Released | Exit::Connects => Milestone::Released,
            Exit::Expired => Milestone::Expired,
        }
    }

    pub(super) fn count(self, fates: &FateCounters) {
        match self {
            Exit::Released => fates.released.add(1),
            Exit::Expired => fates.expired.add(1),
            Exit::Connects => {}
        }
    }
}

/// Packets that leave the holds in frames, and why.
type Leavers<F> = ArrayVec<(Packet<F>, Held, Exit), BURST_MAX>;

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Takes out what can or must leave, at most a burst. Returns how many did.
    #[inline]
    pub(super) fn poll_holds(&mut self) -> usize {
        if self.holds.is_empty() { 0 } else { self.leave_holds(false) }
    }

    /// The same; with `ending`, everything held must leave.
    #[inline(never)]
    pub(super) fn leave_holds(&mut self, ending: bool) -> usize {
        let now = self.clock.now();
        let mut leaving: Leavers<D::Frame> = ArrayVec::new();
        let mut handshakes: ArrayVec<HeldId, BURST_MAX> = ArrayVec::new();
        let mut left_holds: ArrayVec<(ServiceId, Milestone), BURST_MAX> = ArrayVec::new();
        let mut dropped = 0;
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
            while !left_holds.is_full() && !handshakes.is_full() && dropped < BURST_MAX {
                let Some(exit) = self.exit(line, now, ending) else { break };
                if exit == Exit::Connects {
                    self.pacer.turn(line.service, now).released += 1;
                    handshakes.extend(self.holds.detach(line));
                    continue;
                }
                if exit == Exit::Expired && !self.waits_for_its_turn(line) {
                    let gone = self.drop_expired(line, now, ending, BURST_MAX - dropped);
                    if gone > 0 {
                        left_holds.push((line.service, exit.milestone()));
                        dropped += gone;
                        break;
                    }
                }
                let Some((packet, held)) = self.take_out(line) else { break };
                if exit == Exit::Released {
                    // Not before it has a frame: one that found none waits on, and its place in the turn is the next one's.
                    self.pacer.turn(line.service, now).released += 1;
                }
                left_holds.push((line.service, exit.milestone()));
                leaving.push((packet, held, exit));
            }
        }
        let left = leaving.len() + handshakes.len() + dropped;
        if left == 0 {
            return 0;
        }
        self.own().counters.fates.still_held.set(self.holds.len() as u64);
        if left > dropped {
            self.send_left(leaving, handshakes);
        }
        // The port has the frames by now.
        let sent = self.clock.now();
        for (service, what) in left_holds {
            self.waker.milestone(service, what, sent);
        }
        left
    }

    /// Gives what has left the holds to the nodes.
    fn send_left(&mut self, mut leaving: Leavers<D::Frame>, handshakes: ArrayVec<HeldId, BURST_MAX>) {
        self.round(0, |cx, lanes| {
            lanes.handshakes.extend(handshakes);
            for (packet, held, exit) in leaving.drain(..) {
                let service = packet.meta.service;
                cx.counters.service(service).holds.set(u64::from(cx.holds.len_of(service)));
                // A query is answered with the state as it is by now, ready or not.
                let query = matches!(held, Held::Query(_));
                match exit {
                    Exit::Expired if !query => lanes.expired.push(packet),
                    _ if query => lanes.dns.push(packet),
                    _ if packet.meta.kind == Kind::Following => lanes.aside.push(packet),
                    _ => lanes.service.push(packet),
                }
                exit.count(&cx.counters.fates);
            }
        });
    }

    /// Whether the oldest packet of a line leaves now. Wakes the service again if nobody was told of this packet's wish:
    /// a notification that couldn't be sent must not leave anybody waiting for it. A wake that was told and failed is not
    /// begun again from here; the orchestrator has its own pace, and the next client may ask anew.
    fn exit(&mut self, line: Line, now: Nanos, ending: bool) -> Option<Exit> {
        let id = line.service;
        let waiting = self.holds.head(line)?;
        let expires = ending || waiting.deadline <= now;
        let Some(service) = self.tables.services.entry(id) else { return Some(Exit::Expired) };
        let slot = self.shared.slots.get(id);
        if waiting.held == Held::FirstPacket && !expires && answers(service, slot) {
            // A cookie costs no instance anything.
            return Some(Exit::Released);
        }
        let handshake = waiting.held == Held::Handshake;
        if self.can_go(service, id, waiting) && !(handshake && ending) {
            let pool = admits(service, slot).unwrap_or(Pool::Ready);
            let instances = service.breadth(pool, waiting.meta.destination.is_v4()).max(1);
            let share = (RELEASE_PER_MS * instances).div_ceil(self.shared.workers.len() as u32);
            if self.pacer.turn(id, now).released < share {
                return Some(if handshake { Exit::Connects } else { Exit::Released });
            }
            return expires.then_some(Exit::Expired);
        }
        if expires {
            let falls_back = handshake && !ending && falls_back(service, waiting.meta.destination.is_v4());
            return Some(if falls_back { Exit::Connects } else { Exit::Expired });
        }
        let (phase, wake) = slot.load();
        let untold = !waiting.asked || !slot.is_handed(wake);
        let over = match phase {
            Phase::Cold => !untold,
            // Nor will there be another one.
            Phase::Quarantined | Phase::Bypass | Phase::Down => true,
            Phase::Waking | Phase::Ready | Phase::Draining => false,
        };
        if handshake && over {
            // The wake has failed; the client, whom we accepted, hears of it now.
            return Some(Exit::Expired);
        }
        // Whoever has to ask twice does so itself.
        let once = slot.escalation() == Escalation::None && service.verify != Verify::SecondSyn;
        let may_wake = match waiting.trigger {
            Trigger::Dns { .. } => true,
            Trigger::Syn => service.trigger_syn && (handshake || once),
            Trigger::Flow => service.trigger_flow && (handshake || once),
        };
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

    /// Whether nothing but the pace keeps the oldest packet of a line. Its flow may be known by now, of an earlier packet's
    /// making, and then it goes on however late it is.
    fn waits_for_its_turn(&self, line: Line) -> bool {
        let (service, waiting) = (self.tables.services.entry(line.service), self.holds.head(line));
        service.zip(waiting).is_some_and(|(service, waiting)| self.can_go(service, line.service, waiting))
    }

    fn can_go(&self, entry: &Entry, id: ServiceId, waiting: &Waiting) -> bool {
        let slot = self.shared.slots.get(id);
        match waiting.held {
            Held::Query(_) => slot.load().0 == Phase::Ready,
            Held::FirstPacket | Held::Datagram | Held::Handshake => {
                can_open(entry, slot, waiting.meta.destination.is_v4())
            }
        }
    }

    /// Drops the oldest packets of a line whose time is over, if nothing else would become of them: no buffer is taken from
    /// the pool for that, and what is one decision for the line is made once. A flood of first packets mostly ends here.
    /// How many there were, at most `max`; none of a line whose packets have another way to go.
    fn drop_expired(&mut self, line: Line, now: Nanos, ending: bool, max: usize) -> usize {
        let Some(service) = self.tables.services.entry(line.service) else { return 0 };
        let mut dropped = 0;
        while dropped < max {
            let Some(waiting) = self.holds.head(line) else { break };
            let over = ending || waiting.deadline <= now;
            if !over || matches!(waiting.held, Held::Query(_)) || !drops_at_deadline(service, &waiting.meta) {
                break;
            }
            let Some(id) = self.holds.detach(line) else { break };
            self.holds.forget(id);
            dropped += 1;
        }
        let count = dropped as u64;
        let counters = &self.shared.workers[self.index].counters;
        counters.node(NodeId::Service).drops[service::Drop::HoldExpired as usize].add(count);
        counters.fates.release_dropped.add(count);
        counters.fates.expired.add(count);
        let of_service = counters.service(line.service);
        of_service.overflowed.add(count);
        of_service.holds.set(u64::from(self.holds.len_of(line.service)));
        dropped
    }

    /// Takes the oldest packet of a line out, in a frame; `None` when there is none.
    fn take_out(&mut self, line: Line) -> Option<(Packet<D::Frame>, Held)> {
        let id = self.holds.head_id(line)?;
        let mut packet = self.copy_held(id)?;
        packet.meta.service = line.service;
        let waiting = self.holds.pop(line)?;
        Some((packet, waiting.held))
    }

    /// Copies a held packet into a frame; `None` when there is none.
    pub(super) fn copy_held(&mut self, id: HeldId) -> Option<Packet<D::Frame>> {
        let (waiting, bytes) = self.holds.get(id);
        let mut frame = allocate(&mut self.driver, port_of(&self.tables, waiting.meta.interface))?;
        if !copy_into(&mut frame, bytes) {
            // What was received fits into a fresh frame; a pool of smaller buffers is a wrong configuration.
            self.driver.free(frame);
            return None;
        }
        let mut meta = self.metas.take();
        *meta = Meta { origin: Origin::Hold, trace: NOT_TRACED, ..waiting.meta };
        Some(Packet { frame, meta })
    }
}

/// A frame from the pool of `port`, or of any other: the one that a packet came by may be gone.
pub(super) fn allocate<D: Driver>(driver: &mut D, port: Option<PortId>) -> Option<D::Frame> {
    match port.and_then(|port| driver.allocate(port)) {
        Some(frame) => Some(frame),
        None => (0..driver.ports()).find_map(|port| driver.allocate(PortId(port as u16))),
    }
}

/// Appends so many frames to a burst that has the room, of the first port's pool that has them all, or else as many as there are.
pub(super) fn allocate_all<D: Driver>(driver: &mut D, count: usize, into: &mut Burst<D::Frame>) {
    let wanted = into.len() + count;
    for port in 0..driver.ports() {
        driver.allocate_all(PortId(port as u16), wanted - into.len(), into);
        if into.len() == wanted {
            return;
        }
    }
}

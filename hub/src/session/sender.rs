//! The sender of a session: announces objects, sends first copies at its rate, gathers requests, repairs, and asks for
//! acknowledgements until every node has all or is given up.
//!
//! ```text
//!            ┌─ control   probes, flushes, squelches, infos that were missed         at once
//!  poll ─────┤─ together  repairs, then first copies                                 at the group's rate
//!            └─ apart     the same for stragglers and late joiners, to them alone    at theirs
//! ```
//!
//! Where both lanes have something due they take turns.
//!
//! A late joiner begins apart, with the first object that is kept; a straggler goes there with what it waits for. Both come
//! back when they have caught up with the group. Those that are at the same place share packets, and the hindmost is served
//! first, so that they come together.

mod feedback;
mod schedule;
mod words;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use super::counters::{Counters, Ignored, LegCounters};
use super::grtt::Grtt;
use super::outgoing::{Outcome, Outgoing, Share};
use super::pace::Pacer;
use super::transmit::{Body, Kind, To, Transmit};
use super::{Config, Copies, Rate};
use crate::ledger::{Lane, Ledger};
use crate::nodes::{NoPlace, Node, NodeIndex, NodeSet, Roster};
use crate::norm::{Fti, ObjectId, quantize_group_size, quantize_rtt};
use crate::norm::{Message, Packet, SenderHead};
use crate::segments::SegmentSet;
use crate::shape::Shape;
pub use words::{Event, Offer, Progress, Refused};

/// Objects that a session keeps: object numbers wrap around, and receivers tell old from new by half of them.
const OBJECTS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    /// Served apart: then each of its shares has a cursor.
    apart: bool,
    left: bool,
    /// Since when blocks that it names are counted, and how many it named.
    named: (Duration, u32),
    squelched: Option<Duration>,
    leg: LegCounters,
    /// What had been sent to everyone before it joined.
    base: LegCounters,
}

/// A repair that waits to be sent.
#[derive(Clone, Debug)]
struct Queued {
    object: ObjectId,
    block: u32,
    segment: u8,
    nodes: NodeSet,
}

/// What leaves at a rate of its own: what a lane's nodes are sent.
#[derive(Clone, Debug)]
struct Queue {
    pacer: Pacer,
    repairs: VecDeque<Queued>,
}

/// The sender of a session. See [`crate::session`] for how to drive it.
#[derive(Clone, Debug)]
pub struct Sender {
    config: Config,
    roster: Roster,
    members: Vec<Member>,
    everyone: NodeSet,
    everyone_packets: usize,
    /// Packets to everyone, for the legs of all.
    everyone_leg: LegCounters,
    objects: VecDeque<Outgoing>,
    next_object: ObjectId,
    sequence: u16,
    grtt: Grtt,
    /// By lane.
    queues: [Queue; 2],
    /// Which lane is asked first: the one that wasn't served last. What is behind us may take less than both rates, and then
    /// the group alone, which never has enough, would leave nothing to those apart.
    turn: [Lane; 2],
    control: VecDeque<Transmit>,
    probe_due: Duration,
    probe_sequence: u16,
    /// The node that is probed next, and how many were.
    probe_next: u16,
    probed: usize,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Sender {
    /// A sender with these nodes and no object.
    #[must_use]
    pub fn new(config: Config, roster: Roster, now: Duration) -> Self {
        let queue = |rate| Queue { pacer: Pacer::new(rate, config.catch_up, now), repairs: VecDeque::new() };
        let everyone: NodeSet = roster.indices().collect();
        Self {
            grtt: Grtt::new(config.grtt, config.grtt_min, config.grtt_max),
            queues: [queue(config.rate), queue(config.straggler.rate)],
            turn: Lane::ALL,
            members: vec![Member::default(); roster.len()],
            everyone_packets: config.copies.to_everyone(&roster, &everyone),
            everyone,
            everyone_leg: LegCounters::default(),
            config,
            roster,
            objects: VecDeque::new(),
            next_object: ObjectId(0),
            sequence: 0,
            control: VecDeque::new(),
            probe_due: now,
            probe_sequence: 0,
            probe_next: 0,
            probed: 0,
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes an object in: it is sent to all nodes, after those before it.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn announce(&mut self, now: Duration, offer: Offer) -> Result<ObjectId, Refused> {
        let fti = Fti {
            size: offer.size,
            segment: self.config.segment,
            block: self.config.block,
            parity: self.config.parity,
        };
        let shape = Shape::new(fti)?;
        if offer.info.len() > shape.segment_len() {
            return Err(Refused::Info);
        }
        if self.objects.len() >= OBJECTS_MAX {
            return Err(Refused::Full);
        }
        let id = offer.number.unwrap_or(self.next_object);
        // Receivers look back no further than they keep objects, and take what is older for gone.
        let oldest = self.objects.iter().find(|object| object.pending().next().is_some());
        if oldest.is_some_and(|oldest| usize::from(id.0.wrapping_sub(oldest.id.0)) >= OBJECTS_MAX) {
            return Err(Refused::Full);
        }
        if self.find(id).is_some() {
            return Err(Refused::Number);
        }
        let shares = self.members.iter().enumerate().map(|(at, member)| {
            let mut share = Share::new(member.apart.then_some(offer.sent));
            let index = NodeIndex(at as u16);
            if offer.nodes.as_ref().is_some_and(|nodes| !nodes.contains(index)) {
                share.outcome = Outcome::Excluded;
            } else if offer.complete.contains(index) {
                share.outcome = Outcome::Complete;
            } else if member.left {
                share.outcome = Outcome::Failed;
            }
            share
        });
        let mut object = Outgoing {
            id,
            shape,
            file: offer.file,
            ledger: Ledger::new(),
            position: offer.sent.min(shape.segments()),
            info_sent: offer.sent > 0,
            info_wanted: NodeSet::new(),
            info_due: None,
            shares: shares.collect(),
            flush_due: None,
            flush_pause: Duration::ZERO,
            reported: false,
            late_until: offer.late_until,
            info: offer.info,
        };
        offer.complete.iter().for_each(|node| {
            object.ledger.acknowledge(node);
        });
        if !object.info.is_empty() {
            object.info_wanted =
                object.pending().filter(|node| self.members[usize::from(node.0)].apart).collect();
            object.info_due = Some(now);
        }
        if object.position == shape.segments() {
            object.flush_due = Some(now);
        }
        if self.is_idle() {
            self.probe_due = now;
        }
        self.next_object = ObjectId(id.0.wrapping_add(1));
        self.objects.push_back(object);
        self.report_if_finished(id);
        Ok(id)
    }

    /// Gives an object up: nothing of it is sent any more. Whether it was there.
    pub fn retire(&mut self, object: ObjectId) -> bool {
        let before = self.objects.len();
        self.objects.retain(|other| other.id != object);
        self.objects.len() < before
    }

    /// An object is kept for late ones until another time than was said; see [`Offer::late_until`].
    pub fn keep_until(&mut self, object: ObjectId, late_until: Duration) {
        if let Some(object) = self.find_mut(object) {
            object.late_until = late_until;
        }
    }

    /// Takes a node in, or in again: whatever it had, it is sent all that is kept and that it `gets`, apart from the others.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn join(
        &mut self,
        now: Duration,
        node: Node,
        gets: impl Fn(ObjectId) -> bool,
    ) -> Result<NodeIndex, NoPlace> {
        let index = match self.roster.find(node.id) {
            Some(index) => {
                self.roster.replace(index, node)?;
                index
            }
            None => self.roster.add(node)?,
        };
        self.probe_due = self.probe_due.min(now);
        let base = self.everyone_leg;
        if usize::from(index.0) == self.members.len() {
            self.members.push(Member { base, ..Member::default() });
        }
        let begun = self.objects.iter().any(|object| object.position > 0 || object.info_sent);
        let member = &mut self.members[usize::from(index.0)];
        (member.left, member.apart) = (false, begun);
        self.everyone.insert(index);
        self.everyone_packets = self.config.copies.to_everyone(&self.roster, &self.everyone);
        for object in &mut self.objects {
            let mut share = Share::new(begun.then_some(0));
            let gets = gets(object.id);
            if !gets {
                share.outcome = Outcome::Excluded;
            }
            match object.shares.get_mut(usize::from(index.0)) {
                Some(old) => *old = share,
                None => object.shares.push(share),
            }
            object.ledger.forget(index);
            object.reported = false;
            if gets && begun && !object.info.is_empty() {
                object.info_wanted.insert(index);
                object.info_due = Some(now);
            }
        }
        Ok(index)
    }

    /// A node is gone: nothing is sent to it, and nobody waits for it.
    pub fn leave(&mut self, node: NodeIndex) {
        self.members[usize::from(node.0)].left = true;
        self.everyone.remove(node);
        self.everyone_packets = self.config.copies.to_everyone(&self.roster, &self.everyone);
        for object in &mut self.objects {
            let share = object.share_mut(node);
            if share.outcome == Outcome::Pending {
                share.outcome = Outcome::Failed;
            }
            object.ledger.acknowledge(node);
        }
        let ids: Vec<_> = self.objects.iter().map(|object| object.id).collect();
        ids.into_iter().for_each(|id| self.report_if_finished(id));
    }

    /// A datagram came, from this address. What it doesn't change is counted by reason.
    pub fn handle(&mut self, now: Duration, from: IpAddr, datagram: &[u8]) {
        self.counters.feedback_bytes += datagram.len() as u64;
        if let Err(reason) = self.feedback(now, from, datagram) {
            self.counters.ignore(reason);
        }
    }

    /// The next packet, if one is to be sent now.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Transmit> {
        self.settle(now);
        Lane::ALL.iter().for_each(|lane| self.plan(*lane, now));
        self.queue_control(now);
        let transmit = self
            .control
            .pop_front()
            .or_else(|| self.turn.into_iter().find_map(|lane| self.next_of(lane, now)))?;
        self.count(&transmit);
        Some(transmit)
    }

    /// When to call [`Sender::poll_transmit`] again, if nothing comes before; `None` if there is nothing to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.next_time()
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Changes the group's rate: a rate plan follows the slowest class of nodes that is to be kept in the group.
    pub fn set_rate(&mut self, rate: Rate) {
        self.config.rate = rate;
        self.queues[Lane::Together as usize].pacer.set(rate);
    }

    /// The nodes.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was sent to a node.
    #[must_use]
    pub fn leg(&self, node: NodeIndex) -> LegCounters {
        let member = &self.members[usize::from(node.0)];
        self.everyone_leg.since(member.base).plus(member.leg)
    }

    /// The greatest round-trip time, as it is estimated now.
    #[must_use]
    pub fn grtt(&self) -> Duration {
        self.grtt.get()
    }

    /// How far an object is at each node that gets it; empty if it isn't kept.
    pub fn progress(&self, object: ObjectId) -> impl Iterator<Item = Progress> + '_ {
        self.find(object).into_iter().flat_map(move |object| {
            self.roster.indices().filter_map(move |node| {
                let share = object.share(node);
                let done = match share.outcome {
                    Outcome::Pending => None,
                    Outcome::Complete => Some(true),
                    Outcome::Failed => Some(false),
                    Outcome::Excluded => return None,
                };
                Some(Progress {
                    node,
                    done,
                    sent: object.sent_to(node),
                    segments: object.shape.segments(),
                    owed: object.ledger.owed(node),
                    repaired: share.repaired,
                    apart: self.members[usize::from(node.0)].apart,
                })
            })
        })
    }

    /// What is known to be missing of an object at a node, by block.
    #[must_use]
    pub fn missing(&self, object: ObjectId, node: NodeIndex) -> Vec<(u32, SegmentSet)> {
        self.find(object).map_or_else(Vec::new, |object| object.ledger.missing(node).collect())
    }

    fn find(&self, id: ObjectId) -> Option<&Outgoing> {
        self.objects.iter().find(|object| object.id == id)
    }

    fn find_mut(&mut self, id: ObjectId) -> Option<&mut Outgoing> {
        self.objects.iter_mut().find(|object| object.id == id)
    }

    fn is_idle(&self) -> bool {
        self.objects.iter().all(|object| object.pending().next().is_none())
    }

    /// Whether there is somebody to probe at this time: a node that is sent something, or one that may come back.
    fn is_probing(&self, at: Duration) -> bool {
        !self.is_idle() || self.objects.iter().any(|object| object.missed(at).any(|node| self.is_here(node)))
    }

    /// A node that came back couldn't be taken in: it counts as not heard of, and is told of when it is heard again.
    pub fn still_missed(&mut self, object: ObjectId, node: NodeIndex) {
        if let Some(object) = self.find_mut(object) {
            object.share_mut(node).returned = false;
        }
    }

    /// Whether a node hasn't left.
    fn is_here(&self, node: NodeIndex) -> bool {
        self.everyone.contains(node)
    }

    fn report_if_finished(&mut self, id: ObjectId) {
        let Some(object) = self.find_mut(id) else { return };
        if !object.reported && object.pending().next().is_none() {
            object.reported = true;
            self.events.push_back(Event::Finished { object: id });
        }
    }

    fn head(&self) -> SenderHead {
        SenderHead {
            instance: self.config.instance,
            grtt: quantize_rtt(self.grtt.get().max(self.config.grtt_told_min)),
            // Feedback has its own path to us and is short; spreading it out would only hide who misses what.
            backoff: 0,
            group_size: quantize_group_size(self.everyone.len() as u64),
        }
    }

    /// A message as it is on the wire, numbered.
    fn message(&mut self, message: Message<'_>) -> Vec<u8> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Packet { sequence, source: self.config.sender, message }.to_vec()
    }

    fn packets(&self, to: &To) -> usize {
        match to {
            To::Everyone => self.everyone_packets,
            To::These(nodes) => self.config.copies.to_some(&self.roster, nodes),
        }
    }

    fn count(&mut self, transmit: &Transmit) {
        let (kind, len) = (transmit.kind, transmit.message_len() as u64);
        self.counters.trunk.add(kind, self.packets(&transmit.to) as u64, len);
        match &transmit.to {
            To::Everyone => self.everyone_leg.add(kind, 1, len),
            To::These(nodes) => {
                nodes.iter().for_each(|node| self.members[usize::from(node.0)].leg.add(kind, 1, len))
            }
        }
        let object = match transmit.body {
            Body::Source { object, .. } | Body::Parity { object, .. } if kind == Kind::Repair => object,
            _ => return,
        };
        let Some(object) = self.objects.iter_mut().find(|other| other.id == object) else { return };
        match &transmit.to {
            To::Everyone => object.shares.iter_mut().for_each(|share| share.repaired += len),
            To::These(nodes) => nodes.iter().for_each(|node| object.share_mut(node).repaired += len),
        }
    }

    /// Some nodes, as a destination.
    fn to(&self, nodes: NodeSet) -> To {
        if nodes == self.everyone { To::Everyone } else { To::These(nodes) }
    }
}

impl Member {
    fn lane(&self) -> Lane {
        if self.apart { Lane::Apart } else { Lane::Together }
    }
}

impl Copies {
    fn to_everyone(self, roster: &Roster, everyone: &NodeSet) -> usize {
        match self {
            Self::Sets => roster.packets(everyone),
            Self::Nodes => 1,
        }
    }

    fn to_some(self, roster: &Roster, nodes: &NodeSet) -> usize {
        match self {
            Self::Sets => roster.packets(nodes),
            Self::Nodes => nodes.len(),
        }
    }
}

#[cfg(test)]
mod tests;

//! What is sent next, and when.

use core::time::Duration;

use super::feedback::NAMED_MAX;
use super::{Event, Outcome, Queued, Sender};
use crate::ledger::Lane;
use crate::nodes::{NodeIndex, NodeSet};
use crate::norm::{
    CcNode, CcNodes, Command, Message, NodeIds, ObjectHead, ObjectId, PayloadId, cc_flags, flags,
    quantize_rate, quantize_rtt,
};
use crate::plan::plan;
use crate::session::WIRE_EPOCH;
use crate::session::transmit::{Body, Kind, To, Transmit, body};

/// Nodes that a probe asks,
const PROBED_AT_ONCE: usize = 4;
/// and, of those that are given up, when nothing else is sent: as many as answer at once without harm.
const MISSED_PROBED_AT_ONCE: usize = 32;
/// Time between probes until every node was asked once.
const FIRST_PROBES: Duration = Duration::from_millis(20);
/// Acknowledgements are asked for again after twice the round-trip time, then twice as long each time, up to this.
const FLUSH_PAUSE_MAX: Duration = Duration::from_millis(250);
/// A repair that wasn't named again after so many round trips is taken for received.
const SETTLED_AFTER: u32 = 8;

/// Repairs of a lane that wait to be sent, before no more are planned: a lane at 100 Mb/s sends them in 30 ms, longer than a
/// caller comes late. The rest waits in the ledgers, where it takes no room of its own, and later requests for the same blocks join it.
const REPAIRS_WAITING_MAX: usize = 256;

impl Sender {
    /// Forgets repairs that were sent long ago.
    pub(super) fn settle(&mut self, now: Duration) {
        self.objects.iter_mut().for_each(|object| {
            object.ledger.settle(now);
        });
    }

    /// Turns requests of a lane's nodes whose window is over into repairs, as far as the lane has room for them.
    pub(super) fn plan(&mut self, lane: Lane, now: Duration) {
        let Self { objects, roster, members, queues, config, .. } = self;
        let packets = |nodes: &NodeSet| config.copies.to_some(roster, nodes);
        let is_in_lane = |node: NodeIndex| members[usize::from(node.0)].lane() == lane;
        let repairs = &mut queues[lane as usize].repairs;
        while repairs.len() < REPAIRS_WAITING_MAX {
            let due = |object: &super::Outgoing| object.ledger.next_due(lane).filter(|due| *due <= now);
            let next = objects.iter_mut().filter_map(|object| Some((due(object)?, object)));
            let Some((_, object)) = next.min_by_key(|(due, _)| *due) else { return };
            let Some(wants) = object.ledger.take_due(lane, now, is_in_lane) else { return };
            if wants.nodes.is_empty() {
                continue;
            }
            let (block, source) = (wants.block, object.shape.block_len(wants.block));
            for (segment, nodes) in plan(&wants, source, object.shape.parity_rows(), packets) {
                object.ledger.queue(block, segment, segment.checked_sub(source), &nodes);
                repairs.push_back(Queued { object: object.id, block, segment, nodes });
            }
        }
    }

    /// The next repair or first copy for the nodes of a lane.
    pub(super) fn next_of(&mut self, lane: Lane, now: Duration) -> Option<Transmit> {
        if self.queues[lane as usize].pacer.next() > now {
            return None;
        }
        let transmit = match (self.next_repair(lane, now), lane) {
            (Some(transmit), _) => transmit,
            (None, Lane::Together) => self.first_copy(now)?,
            (None, Lane::Apart) => self.back_fill(now)?,
        };
        let packets = self.packets(&transmit.to);
        self.queues[lane as usize].pacer.spend(now, packets, transmit.message_len());
        self.turn = [lane.other(), lane];
        Some(transmit)
    }

    fn next_repair(&mut self, lane: Lane, now: Duration) -> Option<Transmit> {
        let settle = now + SETTLED_AFTER * self.grtt.get();
        loop {
            let queued = self.queues[lane as usize].repairs.pop_front()?;
            if self.queues[lane as usize].repairs.is_empty() {
                // At once: if these were for nobody any more, the next ones are due now.
                self.plan(lane, now);
            }
            let last = self.queues[lane as usize].repairs.is_empty();
            let Some(object) = self.objects.iter_mut().find(|object| object.id == queued.object) else {
                continue;
            };
            // Meanwhile nodes may have got it all, be given up, or have moved from one lane to the other.
            let still = |node: &NodeIndex| {
                self.members[usize::from(node.0)].lane() == lane
                    && object.share(*node).outcome == Outcome::Pending
            };
            let nodes: NodeSet = queued.nodes.iter().filter(still).collect();
            object.ledger.sent(queued.block, queued.segment, &nodes, now, settle);
            if last {
                self.flush_after_repairs(now);
            }
            if nodes.is_empty() {
                continue;
            }
            let id = PayloadId { block: queued.block, segment: queued.segment };
            return Some(self.data(queued.object, id, nodes, Kind::Repair));
        }
    }

    /// A round of repairs is over: acknowledgements are asked for once it can't be overtaken.
    fn flush_after_repairs(&mut self, now: Duration) {
        let at = now + self.overtaking() + Duration::from_millis(1);
        for object in &mut self.objects {
            if object.pending().any(|node| object.all_sent(node)) {
                object.flush_due = Some(object.flush_due.map_or(at, |due| due.min(at)));
            }
        }
    }

    /// The group's next segment, or the info before it.
    fn first_copy(&mut self, now: Duration) -> Option<Transmit> {
        loop {
            let at = self.objects.iter().position(|object| object.position < object.shape.segments())?;
            let object = &self.objects[at];
            let (id, segments) = (object.id, object.shape.segments());
            let nodes: NodeSet =
                object.pending().filter(|node| !self.members[usize::from(node.0)].apart).collect();
            if nodes.is_empty() {
                self.objects[at].position = segments;
                continue;
            }
            let object = &mut self.objects[at];
            if !object.info_sent {
                object.info_sent = true;
                if !object.info.is_empty() {
                    return Some(self.info(id, nodes, Kind::First));
                }
            }
            let object = &mut self.objects[at];
            let segment = object.shape.at(object.position).expect("before the end");
            object.position += 1;
            if object.position == segments {
                object.flush_due = Some(now);
            }
            return Some(self.data(id, segment, nodes, Kind::First));
        }
    }

    /// The next segment for those served apart who are furthest behind.
    fn back_fill(&mut self, now: Duration) -> Option<Transmit> {
        let behind = |object: &super::Outgoing| {
            let cursors = object.pending().filter_map(|node| object.share(node).cursor);
            cursors.filter(|cursor| *cursor < object.shape.segments()).min()
        };
        let (at, cursor) =
            self.objects.iter().enumerate().find_map(|(at, object)| Some((at, behind(object)?)))?;
        let object = &mut self.objects[at];
        let nodes: NodeSet =
            object.pending().filter(|node| object.share(*node).cursor == Some(cursor)).collect();
        for node in nodes.iter() {
            object.share_mut(node).cursor = Some(cursor + 1);
        }
        let segment = object.shape.at(cursor).expect("before the end");
        if cursor + 1 == object.shape.segments() {
            object.flush_due = Some(now);
        }
        let id = object.id;
        for node in nodes.iter() {
            self.bring_together_if_caught_up(now, node);
        }
        Some(self.data(id, segment, nodes, Kind::First))
    }

    /// Moves a node to those served apart, if it waits for too much and most others don't.
    pub(super) fn set_apart_if_behind(&mut self, now: Duration, node: NodeIndex) {
        let owed = |node: NodeIndex| self.objects.iter().map(|object| object.ledger.owed(node)).sum::<u64>();
        let behind = |node: &NodeIndex| owed(*node) > self.config.straggler.owed_max;
        if self.members[usize::from(node.0)].apart || !behind(&node) {
            return;
        }
        let group: Vec<_> =
            self.everyone.iter().filter(|node| !self.members[usize::from(node.0)].apart).collect();
        if group.iter().filter(|node| behind(node)).count() * 2 > group.len() {
            return;
        }
        self.members[usize::from(node.0)].apart = true;
        for object in &mut self.objects {
            let position = object.position;
            object.share_mut(node).cursor = Some(position);
            object.ledger.withdraw(node, Lane::Apart, now);
            // One that wasn't begun is announced to it apart.
            if !object.info_sent && !object.info.is_empty() {
                object.info_wanted.insert(node);
                object.info_due = Some(now);
            }
        }
        self.events.push_back(Event::Apart(node));
    }

    /// Moves a node back to the group, if it is where the group is and doesn't wait for much.
    pub(super) fn bring_together_if_caught_up(&mut self, now: Duration, node: NodeIndex) {
        let caught_up = |object: &super::Outgoing| {
            object.share(node).outcome != Outcome::Pending || object.sent_to(node) == object.position
        };
        let owed: u64 = self.objects.iter().map(|object| object.ledger.owed(node)).sum();
        let member = &mut self.members[usize::from(node.0)];
        if !member.apart || owed > self.config.straggler.owed_max / 2 || !self.objects.iter().all(caught_up) {
            return;
        }
        member.apart = false;
        for object in &mut self.objects {
            object.share_mut(node).cursor = None;
            object.ledger.withdraw(node, Lane::Together, now);
        }
        self.events.push_back(Event::Together(node));
    }

    /// Probes, flushes and infos whose time has come.
    pub(super) fn queue_control(&mut self, now: Duration) {
        if self.probe_due <= now && self.is_probing(self.probe_due) {
            self.probe(now);
        }
        for at in 0..self.objects.len() {
            let object = &mut self.objects[at];
            if object.info_due.is_some_and(|due| due <= now) {
                object.info_due = None;
                let (id, nodes) = (object.id, core::mem::take(&mut object.info_wanted));
                if !nodes.is_empty() {
                    let info = self.info(id, nodes, Kind::Repair);
                    self.control.push_back(info);
                }
            }
            if self.objects[at].flush_due.is_some_and(|due| due <= now) {
                self.flush(at, now);
            }
        }
    }

    fn probe(&mut self, now: Duration) {
        self.grtt.end_probe();
        let all = self.roster.len() as u16;
        let turn = (0..all).map(|at| NodeIndex((self.probe_next + at) % all));
        let turn = turn.filter(|node| self.is_here(*node));
        // While nothing is sent, those who have everything are left alone.
        let (nodes, pause): (Vec<_>, _) = if self.is_idle() {
            let missed: NodeSet =
                self.objects.iter().flat_map(|object| object.missed(self.probe_due)).collect();
            let missed = turn.filter(|node| missed.contains(*node));
            (missed.take(MISSED_PROBED_AT_ONCE).collect(), self.config.probe_missed)
        } else {
            (turn.take(PROBED_AT_ONCE).collect(), self.config.probe)
        };
        self.probe_next = nodes.last().map_or(0, |node| (node.0 + 1) % all);
        self.probed = (self.probed + nodes.len()).min(usize::from(u16::MAX));
        let first = self.probed < self.everyone.len() + nodes.len() && !self.is_idle();
        self.probe_due = now + if first { FIRST_PROBES.min(pause) } else { pause };
        self.probe_sequence = self.probe_sequence.wrapping_add(1);
        let bytes_per_second = self.config.rate.bits_per_second as f64 / 8.0;
        let (rate, rtt) = (quantize_rate(bytes_per_second), quantize_rtt(self.grtt.get()));
        // A receiver answers each probe that asks for its rate once, within four round trips. It would do so at once if it
        // were called the limiting receiver, but then NRL's go on to answer every few milliseconds, unasked.
        let item = |node: &NodeIndex| {
            CcNode { node: self.roster.node(*node).id, flags: cc_flags::RTT, rtt, rate }.bytes()
        };
        let items: Vec<_> = nodes.iter().map(item).collect();
        let command = Command::Cc {
            sequence: self.probe_sequence,
            sent: now + WIRE_EPOCH,
            rate: Some(rate),
            nodes: CcNodes::of(&items),
        };
        let to = To::These(nodes.into_iter().collect());
        self.command(command, to);
    }

    /// Asks those who were sent all, and wait for nothing, whether they have it.
    fn flush(&mut self, at: usize, now: Duration) {
        let (grtt, config) = (self.grtt.get(), self.config);
        let object = &mut self.objects[at];
        // A round repairs no more than one datagram can ask for.
        let long = u16::try_from(object.shape.blocks() / NAMED_MAX).unwrap_or(u16::MAX);
        let rounds_max = config.rounds_max.saturating_add(long);
        object.flush_pause = (2 * object.flush_pause).clamp(2 * grtt, FLUSH_PAUSE_MAX.max(2 * grtt));
        object.flush_due = Some(now + object.flush_pause);
        let (id, last) = (object.id, object.shape.last());
        let ready = |node: &NodeIndex| object.all_sent(*node) && object.ledger.owed(*node) == 0;
        let ready: Vec<_> = object.pending().filter(ready).collect();
        let mut asked = Vec::new();
        for node in ready {
            let share = object.share_mut(node);
            let heard = *share.heard.get_or_insert(now);
            let silent = share.silent >= config.silent_rounds_max && now >= heard + config.patience;
            if silent || share.rounds >= rounds_max {
                share.outcome = Outcome::Failed;
                // Who was heard to the end isn't news when it is heard again.
                share.returned = share.silent < config.silent_rounds_max;
                let missing = object.ledger.missing(node).collect();
                object.ledger.acknowledge(node);
                self.events.push_back(Event::Failed { object: id, node, missing });
                continue;
            }
            (share.silent, share.rounds) = (share.silent.saturating_add(1), share.rounds.saturating_add(1));
            asked.push(node);
        }
        if object.pending().next().is_none() {
            object.flush_due = None;
        }
        // As long as a segment, at most (RFC 5740 section 4.2.3).
        for nodes in asked.chunks((usize::from(config.segment) / 4).max(1)) {
            let list: Vec<_> = nodes.iter().map(|node| NodeIds::bytes(self.roster.node(*node).id)).collect();
            let command = Command::Flush { object: id, id: last, nodes: NodeIds::of(&list) };
            let to = self.to(nodes.iter().copied().collect());
            self.command(command, to);
        }
        self.report_if_finished(id);
    }

    /// Says that the session ends: receivers stop waiting for it. Nothing else is sent because of it.
    pub fn end(&mut self) {
        self.command(Command::Eot, To::Everyone);
    }

    fn command(&mut self, command: Command<'_>, to: To) {
        let head = self.head();
        let header = self.message(Message::Command { head, command });
        self.control.push_back(Transmit { to, kind: Kind::Control, header, body: Body::None });
    }

    fn object_head(&self, id: ObjectId, kind: Kind) -> ObjectHead {
        let object = self.find(id).expect("the caller found it");
        let flag = |set, flag| if set { flag } else { 0 };
        ObjectHead {
            sender: self.head(),
            flags: flag(object.file, flags::FILE)
                | flag(!object.info.is_empty(), flags::INFO)
                | flag(kind == Kind::Repair, flags::REPAIR),
            object: id,
            fti: Some(object.shape.fti()),
        }
    }

    fn data(&mut self, object: ObjectId, id: PayloadId, nodes: NodeSet, kind: Kind) -> Transmit {
        let head = self.object_head(object, kind);
        let shape = self.find(object).expect("the caller found it").shape;
        let header = self.message(Message::Data { head, id, content: &[] });
        Transmit { to: self.to(nodes), kind, header, body: body(object, shape, id) }
    }

    fn info(&mut self, object: ObjectId, nodes: NodeSet, kind: Kind) -> Transmit {
        let head = self.object_head(object, kind);
        let content = self.find(object).expect("the caller found it").info.clone();
        let header = self.message(Message::Info { head, content: &content });
        Transmit { to: self.to(nodes), kind, header, body: Body::None }
    }

    pub(super) fn next_time(&self) -> Option<Duration> {
        let to_send = |object: &super::Outgoing| object.position < object.shape.segments();
        let behind = |object: &super::Outgoing| {
            let mut cursors = object.pending().filter_map(|node| object.share(node).cursor);
            cursors.any(|cursor| cursor < object.shape.segments())
        };
        let sends = [self.objects.iter().any(to_send), self.objects.iter().any(behind)];
        let lanes = Lane::ALL.into_iter().zip(&self.queues).zip(sends).flat_map(|((lane, queue), sends)| {
            let waits = sends || !queue.repairs.is_empty();
            // Where there is no room for what is due, that comes with the next packet.
            let room = queue.repairs.len() < REPAIRS_WAITING_MAX;
            let due = self.objects.iter().filter_map(|object| object.ledger.next_due(lane)).min();
            [waits.then(|| queue.pacer.next()), due.filter(|_| room)]
        });
        let control = [
            self.is_probing(self.probe_due).then_some(self.probe_due),
            (!self.control.is_empty()).then_some(Duration::ZERO),
        ];
        let objects = self.objects.iter().flat_map(|object| [object.info_due, object.flush_due]);
        lanes.chain(control).chain(objects).flatten().min()
    }
}

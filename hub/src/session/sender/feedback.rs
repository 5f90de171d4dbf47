//! What NACKs and ACKs change. Each is checked before anything is: who, from where, for which run, of which object.

use core::net::IpAddr;
use core::time::Duration;

use super::{Event, Ignored, Outcome, Sender};
use crate::ledger::Noted;
use crate::nodes::NodeIndex;
use crate::norm::{
    Acked, Command, Feedback, Form, Level, Message, ObjectId, ObjectIds, PayloadId, Request, Requests, Span,
};
use crate::segments::SegmentSet;
use crate::session::WIRE_EPOCH;
use crate::session::transmit::{Body, Kind, To, Transmit};

/// Blocks that a node may name in a round trip, or while requests are gathered, and spans that name none: each costs some steps,
/// and a span of a few bytes can name all of a huge object, again and again. A node that misses more asks again when it has
/// these; they are repairs for seconds.
pub(super) const NAMED_MAX: u32 = 4096;

/// What a NACK says of the time it was made at.
struct Seen {
    now: Duration,
    /// What was sent before this has come to the node or is lost.
    before: Duration,
    /// When repairs that it asks for are planned, while first copies of the object are sent,
    due: Duration,
    /// and later.
    due_after_flush: Duration,
}

impl Sender {
    pub(super) fn feedback(&mut self, now: Duration, from: IpAddr, datagram: &[u8]) -> Result<(), Ignored> {
        let packet = crate::norm::parse(datagram).map_err(Ignored::Malformed)?;
        let feedback = match packet.message {
            Message::Nack { feedback, .. } | Message::Ack { feedback, .. } => feedback,
            _ => return Err(Ignored::NotFeedback),
        };
        if feedback.sender != self.config.sender {
            return Err(Ignored::OtherSender);
        }
        if feedback.instance != self.config.instance {
            return Err(Ignored::OtherInstance);
        }
        let node = self.roster.find(packet.source).ok_or(Ignored::UnknownNode)?;
        if self.roster.node(node).address != from {
            return Err(Ignored::WrongAddress);
        }
        if self.members[usize::from(node.0)].left {
            return Err(Ignored::GivenUp);
        }
        let seen = self.hear(now, node, feedback);
        match packet.message {
            Message::Nack { requests, .. } => {
                self.counters.nacks += 1;
                self.nack(node, requests, &seen);
                self.set_apart_if_behind(now, node);
                Ok(())
            }
            Message::Ack { acked, .. } => {
                self.counters.acks += 1;
                match acked {
                    Acked::Flush { object, id } => self.acknowledged(now, node, object, id),
                    // A probe's answer was its echo, and applications ask nothing here.
                    Acked::Cc | Acked::Application(_) => Ok(()),
                }
            }
            _ => Err(Ignored::NotFeedback),
        }
    }

    /// A sign of life, with a round-trip time if it echoes a probe.
    fn hear(&mut self, now: Duration, node: NodeIndex, feedback: Feedback) -> Seen {
        for object in &mut self.objects {
            let share = object.share_mut(node);
            (share.silent, share.heard) = (0, Some(now));
            if share.outcome == Outcome::Failed && !std::mem::replace(&mut share.returned, true) {
                self.events.push_back(Event::Returned { object: object.id, node });
            }
        }
        let echo = feedback.echo.checked_sub(WIRE_EPOCH).filter(|echo| *echo <= now);
        if let Some(echo) = echo {
            self.grtt.sample(now - echo);
        }
        let grtt = self.grtt.get();
        // What was sent shortly before the echo may have been overtaken by the probe, so it gets some more time.
        let before = match echo {
            Some(echo) => echo.saturating_sub(self.overtaking()),
            None => now.saturating_sub(grtt),
        };
        let window = self.config.window;
        Seen { now, before, due: now + window, due_after_flush: now + window.min(grtt / 2) }
    }

    /// How much later than what was sent after it a packet may come.
    pub(super) fn overtaking(&self) -> Duration {
        self.grtt.get() / 2
    }

    fn nack(&mut self, node: NodeIndex, requests: Requests<'_>, seen: &Seen) {
        let round = self.grtt.get().max(self.config.window);
        let named = &mut self.members[usize::from(node.0)].named;
        if seen.now >= named.0 + round {
            *named = (seen.now, 0);
        }
        let (mut unknown, mut left) = (None, NAMED_MAX.saturating_sub(named.1));
        'all: for request in requests.iter() {
            for span in request.spans() {
                // Objects wrap around; a span over many of them names them all.
                let Some(many) = span.last.object.since(span.first.object) else {
                    self.counters.ignore(Ignored::NoSuchSegment);
                    continue;
                };
                let named = |object: ObjectId| object.0.wrapping_sub(span.first.object.0) <= many;
                let gets = |at: &usize| {
                    let object = &self.objects[*at];
                    named(object.id) && object.share(node).outcome != Outcome::Excluded
                };
                let kept: Vec<_> = (0..self.objects.len()).filter(gets).collect();
                if kept.len() <= usize::from(many) {
                    self.counters.ignore(Ignored::UnknownObject);
                }
                if kept.len() <= usize::from(many) && unknown.is_none() {
                    let lacks = |object: &ObjectId| !kept.iter().any(|at| self.objects[*at].id == *object);
                    let mut all = (0..=many).map(|more| ObjectId(span.first.object.0.wrapping_add(more)));
                    unknown = all.find(lacks);
                }
                // What names nothing costs something as well.
                left = left.saturating_sub(1);
                for at in kept {
                    self.request(at, node, request, span, seen, &mut left);
                }
                if left == 0 {
                    self.counters.ignore(Ignored::TooMuch);
                    break 'all;
                }
            }
        }
        self.members[usize::from(node.0)].named.1 = NAMED_MAX - left;
        if let Some(object) = unknown {
            self.squelch(node, object, seen.now);
        }
    }

    /// What one span of a request says of one object. Each block that it names is one of those that are `left`.
    fn request(
        &mut self,
        at: usize,
        node: NodeIndex,
        request: Request<'_>,
        span: Span,
        seen: &Seen,
        left: &mut u32,
    ) {
        let lane = self.members[usize::from(node.0)].lane();
        let object = &mut self.objects[at];
        if object.share(node).outcome == Outcome::Failed {
            return self.counters.ignore(Ignored::GivenUp);
        }
        let all_sent = object.position == object.shape.segments();
        let due = if all_sent { seen.due_after_flush } else { seen.due };
        if request.info && !object.info.is_empty() && object.info_sent {
            object.info_wanted.insert(node);
            object.info_due.get_or_insert(due);
        }
        let shape = object.shape;
        // Clipped: a span may end beyond the object, in it, or at another object.
        let end = shape.blocks() - 1;
        let (first, last) = match request.level {
            Level::Info => return,
            Level::Object => (PayloadId::default(), PayloadId { block: end, segment: u8::MAX }),
            _ if span.first.object != object.id || span.last.object != object.id => {
                return self.counters.ignore(Ignored::NoSuchSegment);
            }
            Level::Block => (
                PayloadId { segment: 0, ..span.first.id },
                PayloadId { block: span.last.id.block.min(end), segment: u8::MAX },
            ),
            Level::Segment => (span.first.id, span.last.id),
        };
        if first.block > end || first.block > last.block {
            return self.counters.ignore(Ignored::NoSuchSegment);
        }
        let mut reasons = Vec::new();
        for block in first.block..=last.block.min(end) {
            let Some(rest) = left.checked_sub(1) else { break };
            *left = rest;
            let source = u16::from(shape.block_len(block));
            let whole = SegmentSet::range(0, source);
            let named = match (request.level, request.form) {
                // As many as are missing, whichever.
                (Level::Segment, Form::Erasures) => SegmentSet::range(0, source.min(first.segment.into())),
                (Level::Segment, _) => {
                    let from = if block == first.block { first.segment.into() } else { 0 };
                    let to = if block == last.block { u16::from(last.segment) + 1 } else { source };
                    SegmentSet::range(from, to.min(source + u16::from(shape.parity_rows())))
                }
                _ => whole,
            };
            let sent: SegmentSet = named
                .iter()
                .filter(|segment| object.was_sent(node, PayloadId { block, segment: *segment }))
                .collect();
            let reason = if named.is_empty() {
                Some(Ignored::NoSuchSegment)
            } else if sent.is_empty() {
                Some(Ignored::NotYetSent)
            } else {
                match object.ledger.want(node, lane, block, sent, seen.before, due) {
                    Noted::New => None,
                    Noted::Duplicate => Some(Ignored::Duplicate),
                    Noted::OnTheWay => Some(Ignored::OnTheWay),
                    Noted::Stale => Some(Ignored::Stale),
                }
            };
            match reason {
                Some(reason) => reasons.push(reason),
                None => object.flush_pause = Duration::ZERO,
            }
            // Whole spans are beyond, stale or not yet sent alike.
            if matches!(reason, Some(Ignored::NotYetSent | Ignored::Stale)) {
                break;
            }
        }
        reasons.into_iter().for_each(|reason| self.counters.ignore(reason));
    }

    fn acknowledged(
        &mut self,
        now: Duration,
        node: NodeIndex,
        id: ObjectId,
        to: PayloadId,
    ) -> Result<(), Ignored> {
        let object = self.find_mut(id).ok_or(Ignored::UnknownObject)?;
        if to != object.shape.last() {
            return Err(Ignored::NotTheWatermark);
        }
        match object.share(node).outcome {
            Outcome::Complete => return Err(Ignored::Stale),
            // It was given up, and has all of it after all.
            Outcome::Failed if object.all_sent(node) => {}
            Outcome::Failed => return Err(Ignored::GivenUp),
            Outcome::Excluded => return Err(Ignored::UnknownObject),
            Outcome::Pending if !object.all_sent(node) => return Err(Ignored::NotYetSent),
            Outcome::Pending => {}
        }
        object.share_mut(node).outcome = Outcome::Complete;
        object.ledger.acknowledge(node);
        object.info_wanted.remove(node);
        object.flush_pause = Duration::ZERO;
        self.events.push_back(Event::Complete { object: id, node });
        self.report_if_finished(id);
        self.bring_together_if_caught_up(now, node);
        Ok(())
    }

    /// Tells a node what is kept and what isn't for it, at most once in a round trip.
    fn squelch(&mut self, node: NodeIndex, gone: ObjectId, now: Duration) {
        let (grtt, member) = (self.grtt.get(), &mut self.members[usize::from(node.0)]);
        if member.squelched.is_some_and(|at| now < at + grtt) {
            return;
        }
        member.squelched = Some(now);
        let object = self.objects.front().map_or(self.next_object, |object| object.id);
        let excluded = self.objects.iter().filter(|object| object.share(node).outcome == Outcome::Excluded);
        let gone = std::iter::once(gone).chain(excluded.map(|object| object.id).filter(|id| *id != gone));
        let gone: Vec<_> = gone.map(|id| id.0.to_be_bytes()).collect();
        let command = Command::Squelch { object, id: PayloadId::default(), gone: ObjectIds::of(&gone) };
        let head = self.head();
        let header = self.message(Message::Command { head, command });
        let to = To::These([node].into_iter().collect());
        self.control.push_back(Transmit { to, kind: Kind::Control, header, body: Body::None });
    }
}

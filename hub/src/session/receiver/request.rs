//! What a receiver asks for, and when.

use core::time::Duration;

use super::Receiver;
use super::incoming::{Incoming, Open};
use crate::norm::{Item, Level, Message, ObjectId, PayloadId, RequestBuilder, Span};
use crate::segments::SegmentSet;

/// The longest wait before something is asked for again.
const AGAIN_MAX: Duration = Duration::from_secs(1);

impl Receiver {
    /// Something is missing: ask as soon as the pause since the last request allows.
    pub(super) fn request_at(&mut self, now: Duration) {
        let at = self.requested.map_or(now, |before| (before + self.config.pause).max(now));
        self.request_due = Some(self.request_due.map_or(at, |due| due.min(at)));
    }

    /// Asks for as much as one message can name; for the rest, and again, after a pause.
    pub(super) fn request(&mut self, now: Duration) {
        let mut builder = RequestBuilder::new(self.config.request_max);
        let mut missing = false;
        let grtt = self.grtt;
        for (object, incoming) in
            self.objects.iter_mut().filter(|(_, incoming)| !incoming.complete && !incoming.gone)
        {
            let unknown = incoming.shape.is_none();
            if unknown || incoming.lacks_info() {
                missing = true;
                let level = if unknown { Level::Object } else { Level::Info };
                let item = Item { object: *object, id: PayloadId::default() };
                if may_ask(incoming.asked, now) && builder.add(level, true, Span { first: item, last: item })
                {
                    incoming.asked = Some(again(incoming.asked, now, grtt));
                }
            }
            missing |= incoming.holes().next().is_some();
            if !ask_for_blocks(*object, incoming, &mut builder, now, grtt) {
                break;
            }
        }
        self.request_due = missing.then(|| now + self.config.pause);
        if !builder.is_empty() {
            self.requested = Some(now);
            self.heard.nacks += 1;
            let feedback = self.feedback(now);
            self.send(Message::Nack { feedback, requests: builder.requests() });
        }
    }
}

fn may_ask(asked: Option<(Duration, Duration)>, now: Duration) -> bool {
    asked.is_none_or(|(at, pause)| at + pause <= now)
}

/// It is asked for now: the next wait begins with two round trips and doubles.
fn again(asked: Option<(Duration, Duration)>, now: Duration, grtt: Duration) -> (Duration, Duration) {
    let before = asked.map_or(Duration::ZERO, |(_, pause)| pause);
    (now, (2 * before).clamp(2 * grtt, AGAIN_MAX.max(2 * grtt)))
}

/// Adds the holes of an object. Whether there was room for all.
fn ask_for_blocks(
    object: ObjectId,
    incoming: &mut Incoming,
    builder: &mut RequestBuilder,
    now: Duration,
    grtt: Duration,
) -> bool {
    let Some(shape) = incoming.shape else { return true };
    let item = |block, segment| Item { object, id: PayloadId { block, segment } };
    let holes: Vec<u32> = incoming
        .holes()
        .filter(|block| incoming.open.get(block).is_none_or(|open| may_ask(open.asked, now)))
        .collect();
    let nothing_of = |block: &u32| incoming.open.get(block).is_none_or(Open::is_bare);
    let mut asked = Vec::new();
    let mut left = holes.iter().copied().peekable();
    let mut room = true;
    while let Some(block) = left.next() {
        let mut last = block;
        room = if nothing_of(&block) {
            // Stretches of blocks of which nothing came.
            while let Some(next) = left.next_if(|next| *next == last + 1 && nothing_of(next)) {
                last = next;
            }
            builder.add(Level::Block, false, Span { first: item(block, 0), last: item(last, 0) })
        } else {
            let open = incoming.open.get(&block);
            let missing = SegmentSet::range(0, shape.block_len(block).into());
            let missing = open.map_or(missing, |open| missing.without(open.have));
            // If there is enough and it couldn't be decoded, what was stored can't be read.
            let deficit = open.map_or(0, |open| open.deficit(shape.block_len(block)));
            let wanted = if deficit == 0 { missing.len() as usize } else { deficit };
            let named: SegmentSet = missing.iter().take(wanted).collect();
            // All of a block or nothing: half of it would be repaired twice.
            let before = builder.clone();
            let all = named.stretches().all(|(first, last)| {
                let span = Span { first: item(block, first), last: item(block, last) };
                builder.add(Level::Segment, false, span)
            });
            if !all {
                *builder = before;
            }
            all
        };
        if !room {
            break;
        }
        asked.push((block, last));
    }
    for (first, last) in asked {
        for block in first..=last {
            let open: &mut Open = incoming.open.entry(block).or_default();
            open.asked = Some(again(open.asked, now, grtt));
        }
    }
    room
}

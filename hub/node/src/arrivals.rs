//! Contents that come by NORM from one sender: the session, and where what it brings goes. A state machine without socket,
//! threads and clock, driven as [`millrace_hub::session`] says.
//!
//! ```text
//!  datagram ─► handle ─► session::Receiver ─► Shelf     a folder of files, or a store: bytes in their places,
//!                             │    │                    and when all are there, verified and under their name
//!   poll_transmit ◄── NACK, ACK    └─► what came of it ─► poll_news
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_hub::norm::{ObjectId, PayloadId};
use millrace_hub::segments::SegmentSet;
use millrace_hub::session::{Heard, Receiver, ReceiverConfig, Report, Storage};
use millrace_hub::shape::Shape;
use millrace_hub_store::Trust;

use crate::error::Refusal;
use crate::meter::Meter;
use crate::news::News;
use crate::pieces::About;

/// Where contents go that arrive.
pub(crate) trait Shelf: Storage {
    /// A content that is there and verified.
    type Kept;

    /// Has the receiver go on with what the last checkpoints kept. Returns what is arriving, with its info.
    fn resume(&mut self, receiver: &mut Receiver) -> Vec<(ObjectId, Shape, Vec<u8>)>;

    /// An object of so many bytes begins; what it is isn't known yet.
    fn begin(&mut self, object: ObjectId, size: u64) -> Result<(), Refusal>;

    /// It is known what an object is: whether it is wanted, and what is here of it already, which the receiver learns of. If that
    /// can be tried again, nothing is here of it until [`Shelf::take_room`] succeeds.
    fn find(
        &mut self,
        receiver: &mut Receiver,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        about: &About,
    ) -> Result<(), Refusal>;

    /// Makes what has come durable, but for these segments.
    fn checkpoint(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        missing: &[(u32, SegmentSet)],
    ) -> io::Result<()>;

    /// All has come: verifies it, and puts it under its name.
    fn finish(
        &mut self,
        object: ObjectId,
        shape: &Shape,
        info: &[u8],
        about: &About,
    ) -> Result<Self::Kept, Refusal>;

    /// What is here of an object that proved wrong or incomplete.
    fn left(&self, object: ObjectId, shape: &Shape) -> Vec<PayloadId> {
        let _ = (object, shape);
        Vec::new()
    }

    /// Whether what can't be finished for this reason is tried again.
    fn tries_again(&self, why: &Refusal) -> bool {
        let _ = why;
        false
    }

    /// Takes room for an object that is known, if it hasn't any.
    fn take_room(&mut self, object: ObjectId, shape: &Shape, info: &[u8]) -> Result<(), Refusal> {
        let _ = (object, shape, info);
        Ok(())
    }

    /// What has happened to the room of objects since the last call.
    fn setback(&mut self) -> Option<(ObjectId, Setback)> {
        None
    }

    /// Gives back the room of what hasn't come of an object, until more of it comes.
    fn release(&mut self, object: ObjectId, shape: &Shape, missing: &[(u32, SegmentSet)]) -> io::Result<()> {
        let _ = (object, shape, missing);
        Ok(())
    }

    /// Forgets what is only remembered to answer the sender.
    fn forget_done(&mut self) {}

    /// Forgets an object that isn't wanted or won't come.
    fn discard(&mut self, object: ObjectId);

    /// The first error of the disk since the last call.
    fn failure(&mut self) -> Option<io::Error>;
}

/// What happens to an object's room while it arrives.
#[derive(Debug)]
pub(crate) enum Setback {
    /// What came of it was removed to make room, because nothing came for long.
    Lost,
    /// There was none when more of it came.
    NoRoom(Refusal),
}

/// A content that is arriving.
#[derive(Debug)]
struct Arriving {
    shape: Shape,
    info: Option<Vec<u8>>,
    about: Option<About>,
    meter: Meter,
    /// How often all of it came and was wrong.
    wrong: u32,
    /// Why it can't go on, to be tried again.
    stuck: Option<Stuck>,
    /// Whether that was told.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// There is no room for what hasn't come of it.
    NoRoom,
    /// All of it came, and couldn't be finished.
    Unfinished,
}

impl Arriving {
    fn new(shape: Shape) -> Self {
        Self { shape, info: None, about: None, meter: Meter::default(), wrong: 0, stuck: None, told: false }
    }
}

/// What arrives from one sender.
#[derive(Debug)]
pub(crate) struct Arrivals<S: Shelf> {
    trust: Trust,
    receiver: Receiver,
    shelf: S,
    contents: BTreeMap<ObjectId, Arriving>,
    /// Where the sender's packets come from, and answers go to.
    sender: Option<SocketAddr>,
    news: VecDeque<News<S::Kept>>,
    received: u64,
    refused: u64,
    /// When the sender was last told that a content is here.
    acknowledged: Duration,
    ended: bool,
}

impl<S: Shelf> Arrivals<S> {
    /// Goes on where the last run was: with what the shelf has kept.
    pub(crate) fn open(shelf: S, config: ReceiverConfig, trust: Trust, now: Duration) -> Self {
        let mut arrivals = Self {
            trust,
            receiver: Receiver::new(config),
            shelf,
            contents: BTreeMap::new(),
            sender: None,
            news: VecDeque::new(),
            received: 0,
            refused: 0,
            acknowledged: Duration::ZERO,
            ended: false,
        };
        arrivals.resume(now);
        arrivals
    }

    /// A datagram came, from there.
    pub(crate) fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        let strange = |heard: &Heard| (heard.foreign, heard.malformed);
        let before = strange(self.receiver.heard());
        self.receiver.handle(now, from.ip(), datagram, &mut self.shelf);
        if strange(self.receiver.heard()) == before {
            self.sender = Some(from);
        }
        // Before the next datagram, which may ask whether all is here: what is complete is verified first.
        self.reports(now);
    }

    /// The next answer, and where to: to whoever sent. `None` before anything came.
    pub(crate) fn poll_transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let to = self.sender?;
        self.receiver.poll_transmit(now).map(|message| (to, message))
    }

    /// When to call [`Self::poll_transmit`] again, if nothing comes before.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.sender.and(self.receiver.poll_timeout())
    }

    /// What happened since the last call.
    pub(crate) fn poll_news(&mut self) -> Option<News<S::Kept>> {
        self.news.pop_front()
    }

    /// To be called once a second: keeps what has come, so that a crash doesn't lose it, and tells how far it is.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.checkpoint();
        self.try_again(now);
        self.progress(now);
        self.rest(now);
    }

    /// The session ends, for now: what hasn't come takes no room any more. With `nothing_new`, it has brought nothing, and what only
    /// has a name isn't remembered.
    pub(crate) fn leave(&mut self, nothing_new: bool) {
        for (object, Arriving { shape, stuck, .. }) in std::mem::take(&mut self.contents) {
            let missing = self.receiver.missing(object).unwrap_or_default();
            let lacking: u64 = missing.iter().map(|(_, set)| u64::from(set.len())).sum();
            let is_forgotten = stuck == Some(Stuck::NoRoom) && !self.receiver.knows(object);
            if is_forgotten || nothing_new && lacking == shape.segments() {
                self.shelf.discard(object);
            } else if let Err(error) = self.shelf.release(object, &shape, &missing) {
                tracing::warn!(%error, "room can't be given back");
            }
        }
        if nothing_new {
            self.shelf.forget_done();
        }
    }

    /// Where contents go.
    pub(crate) fn shelf_mut(&mut self) -> &mut S {
        &mut self.shelf
    }

    /// Contents received, and refused.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.received, self.refused)
    }

    /// Whether a content is arriving that is known and wanted.
    pub(crate) fn is_promising(&self) -> bool {
        self.contents.values().any(|arriving| arriving.about.is_some())
    }

    /// What the session counted.
    pub(crate) fn heard(&self) -> &Heard {
        self.receiver.heard()
    }

    /// Whether the sender knows what is here, as far as that can be told: it has ended its session, or didn't ask again for an
    /// acknowledgement for so long.
    pub(crate) fn is_settled(&self, now: Duration, quiet: Duration) -> bool {
        self.ended || now >= self.acknowledged + quiet
    }

    /// Goes on where the last run of this receiver was.
    fn resume(&mut self, now: Duration) {
        for (object, shape, info) in self.shelf.resume(&mut self.receiver) {
            // Whom we trust may have changed.
            match About::read(&info, shape.size(), &self.trust) {
                Ok(about) => {
                    let arriving = Arriving { info: Some(info), about: Some(about), ..Arriving::new(shape) };
                    self.contents.insert(object, arriving);
                    self.news.push_back(News::Begun { object, size: shape.size() });
                }
                Err(why) => self.refuse(object, None, why),
            }
        }
        // What was done before is reported as complete: the hub may not know yet.
        self.reports(now);
    }

    fn reports(&mut self, now: Duration) {
        while let Some(report) = self.receiver.poll_event() {
            match report {
                Report::Begun { object, shape, info, .. } => self.begins(object, shape, info),
                Report::Info { object, content } => self.info(object, content),
                Report::Complete(object) => self.complete(now, object),
                Report::Acknowledged(_) => self.acknowledged = now,
                Report::Gone(object) => self.gone(object),
                Report::Restarted => {
                    self.contents.clear();
                    self.news.push_back(News::Restarted);
                }
                Report::Ended => {
                    self.ended = true;
                    self.news.push_back(News::Ended);
                }
            }
        }
        while let Some((object, setback)) = self.shelf.setback() {
            match setback {
                Setback::Lost => self.come_anew(now, object),
                Setback::NoRoom(why) => self.put_off(object, Stuck::NoRoom, why),
            }
        }
        if let Some(error) = self.shelf.failure() {
            tracing::warn!(%error, "what arrives can't be written or read back; it is asked for again");
        }
    }

    fn begins(&mut self, object: ObjectId, shape: Shape, info: bool) {
        self.ended = false;
        if !info {
            return self.refuse(object, None, Refusal::Nameless);
        }
        if let Err(why) = self.shelf.begin(object, shape.size()) {
            return self.refuse(object, None, why);
        }
        self.contents.insert(object, Arriving::new(shape));
        self.news.push_back(News::Begun { object, size: shape.size() });
    }

    fn info(&mut self, object: ObjectId, content: Vec<u8>) {
        let Some(arriving) = self.contents.get_mut(&object) else { return };
        let about = match About::read(&content, arriving.shape.size(), &self.trust) {
            Ok(about) => about,
            Err(why) => return self.refuse(object, None, why),
        };
        let name = about.name.to_string();
        let found = self.shelf.find(&mut self.receiver, object, &arriving.shape, &content, &about);
        (arriving.about, arriving.info) = (Some(about), Some(content));
        match found {
            Ok(()) => {}
            Err(why) if self.shelf.tries_again(&why) => {
                self.receiver.forget(object);
                self.put_off(object, Stuck::NoRoom, why);
            }
            Err(why) => self.refuse(object, Some(name), why),
        }
    }

    fn complete(&mut self, now: Duration, object: ObjectId) {
        let Some(arriving) = self.contents.get_mut(&object) else { return };
        let (Some(about), Some(info)) = (&arriving.about, &arriving.info) else {
            return self.refuse(object, None, Refusal::Nameless);
        };
        let name = Some(about.name.to_string());
        match self.shelf.finish(object, &arriving.shape, info, about) {
            Ok(kept) => {
                self.received += 1;
                self.contents.remove(&object);
                self.acknowledged = now;
                self.news.push_back(News::Received(kept));
            }
            Err(why @ Refusal::WrongRoot(_)) if arriving.wrong < WRONG_MAX => {
                arriving.wrong += 1;
                (arriving.stuck, arriving.told) = (None, false);
                self.come_anew(now, object);
                self.news.push_back(News::Refused { object, name, why });
            }
            Err(why) => self.put_off(object, Stuck::Unfinished, why),
        }
    }

    /// All of an object comes anew but for what the shelf still has.
    fn come_anew(&mut self, now: Duration, object: ObjectId) {
        if !self.receiver.knows(object) {
            // It is far behind what the sender sends by now.
            return self.gone(object);
        }
        let Some(arriving) = self.contents.get(&object) else { return };
        self.receiver.forget(object);
        let left = self.shelf.left(object, &arriving.shape);
        left.into_iter().for_each(|id| self.receiver.recovered(object, id));
        self.receiver.want(now, object);
    }

    /// What can't be done now is tried again, if that may help.
    fn put_off(&mut self, object: ObjectId, stuck: Stuck, why: Refusal) {
        let Some(arriving) = self.contents.get_mut(&object) else { return };
        let name = arriving.about.as_ref().map(|about| about.name.to_string());
        if !self.shelf.tries_again(&why) {
            return self.refuse(object, name, why);
        }
        // Neither acknowledged nor asked for until then.
        self.receiver.refuse(object);
        arriving.stuck = Some(stuck);
        if !std::mem::replace(&mut arriving.told, true) {
            self.news.push_back(News::Refused { object, name, why });
        }
    }

    fn try_again(&mut self, now: Duration) {
        let stuck = self.contents.iter().filter_map(|(object, arriving)| Some((*object, arriving.stuck?)));
        let stuck: Vec<_> = stuck.collect();
        for (object, stuck) in stuck {
            match (stuck, self.receiver.knows(object)) {
                (Stuck::NoRoom, true) => self.look_for_room(now, object),
                // It is far behind what the sender sends by now.
                (Stuck::NoRoom, false) => self.gone(object),
                (Stuck::Unfinished, true) => self.receiver.want(now, object),
                // All of it is here, whatever the sender does.
                (Stuck::Unfinished, false) => self.complete(now, object),
            }
        }
        self.reports(now);
    }

    /// Takes room for a content that waits for it, and asks for it then: before, it would come in vain.
    fn look_for_room(&mut self, now: Duration, object: ObjectId) {
        let Some(arriving) = self.contents.get_mut(&object) else { return };
        let info = arriving.info.as_deref().unwrap_or_default();
        match self.shelf.take_room(object, &arriving.shape, info) {
            Ok(()) => {
                (arriving.stuck, arriving.told, arriving.meter) = (None, false, Meter::default());
                let left = self.shelf.left(object, &arriving.shape);
                left.into_iter().for_each(|id| self.receiver.recovered(object, id));
                self.receiver.want(now, object);
            }
            Err(why) if self.shelf.tries_again(&why) => {}
            Err(why) => {
                let name = arriving.about.as_ref().map(|about| about.name.to_string());
                self.refuse(object, name, why);
            }
        }
    }

    fn gone(&mut self, object: ObjectId) {
        self.contents.remove(&object);
        self.shelf.discard(object);
        self.news.push_back(News::Gone(object));
    }

    fn refuse(&mut self, object: ObjectId, name: Option<String>, why: Refusal) {
        self.receiver.refuse(object);
        self.contents.remove(&object);
        self.shelf.discard(object);
        self.refused += 1;
        self.news.push_back(News::Refused { object, name, why });
    }

    /// Keeps what has come, so that a crash doesn't lose it.
    pub(crate) fn checkpoint(&mut self) {
        for (object, arriving) in &self.contents {
            // Without its info nobody could tell later what it is.
            let Some(info) = &arriving.info else { continue };
            let Some(missing) = self.receiver.missing(*object) else { continue };
            if let Err(error) = self.shelf.checkpoint(*object, &arriving.shape, info, &missing) {
                tracing::warn!(%error, "what has arrived can't be made durable");
            }
        }
    }

    /// What nothing has come of for long keeps no room from others.
    fn rest(&mut self, now: Duration) {
        let stalled = |arriving: &Arriving| arriving.stuck.is_none() && arriving.meter.is_stalled(now);
        for (object, arriving) in self.contents.iter().filter(|(_, arriving)| stalled(arriving)) {
            let Some(missing) = self.receiver.missing(*object) else { continue };
            if let Err(error) = self.shelf.release(*object, &arriving.shape, &missing) {
                tracing::warn!(%error, "room can't be given back");
            }
        }
    }

    fn progress(&mut self, now: Duration) {
        for (object, arriving) in &mut self.contents {
            let Some(missing) = self.receiver.missing(*object) else { continue };
            let segments: u64 = missing.iter().map(|(_, set)| u64::from(set.len())).sum();
            let size = arriving.shape.size();
            let held = size.saturating_sub(segments * arriving.shape.segment_len() as u64);
            arriving.meter.note(now, held);
            let (per_second, left) = (arriving.meter.per_second(), arriving.meter.left(size));
            let name = arriving.about.as_ref().map(|about| about.name.to_string());
            self.news.push_back(News::Progress { object: *object, name, held, size, per_second, left });
        }
    }
}

/// A content that was wrong so often is wrong at its source.
const WRONG_MAX: u32 = 2;

//! The receiver of a session: puts objects together in any order, asks for what is missing, and acknowledges.
//!
//! Source segments are stored as they come; of a block that isn't whole only its parity is kept in memory. Once source and parity
//! together are enough, what was stored is read back, and the rest is decoded. So memory is small, and an object that was half
//! received before a restart goes on as it was ([`Receiver::resume`]).
//!
//! It asks for a block when a later one begins, or at a flush, and again when too much time went by. A request names as
//! many source segments as are missing beside the parity that is there, so that repairs by name and by parity serve alike.

mod incoming;
mod request;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::norm::{
    Acked, CcFeedback, Command, Feedback, Fti, Malformed, Message, NodeId, ObjectHead, ObjectId, Packet,
    PayloadId, SenderHead, flags, rtt,
};
use crate::segments::SegmentSet;
use crate::shape::Shape;
use incoming::Incoming;

/// How a receiver works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Its name in NORM.
    pub node: NodeId,
    /// The one sender that it listens to,
    pub sender: NodeId,
    /// and where that is. Messages in its name from elsewhere are forged.
    pub address: IpAddr,
    /// Objects are no longer than this, in bytes.
    pub size_max: u64,
    /// Nor have they more blocks: an object takes memory for each, whatever of it comes.
    pub blocks_max: u32,
    /// Objects that are received at once; the oldest is given up for another.
    pub objects_max: usize,
    /// Bytes of parity that are kept for blocks that aren't whole.
    pub parity_max: usize,
    /// Requests are sent at most once in this time.
    pub pause: Duration,
    /// Bytes of requests in one message.
    pub request_max: usize,
}

impl ReceiverConfig {
    /// Values for objects of up to 1 TiB.
    #[must_use]
    pub fn new(node: NodeId, sender: NodeId, address: IpAddr) -> Self {
        Self {
            node,
            sender,
            address,
            size_max: 1 << 40,
            blocks_max: 1 << 24,
            objects_max: 256,
            parity_max: 64 << 20,
            pause: Duration::from_millis(25),
            request_max: 1200,
        }
    }
}

/// Where what is received goes; objects have NORM's numbers, or FLUTE's.
pub trait Storage<Id = ObjectId> {
    /// Keeps bytes of an object.
    ///
    /// # Errors
    /// [`Unstored`]: the bytes count as not received.
    fn write(&mut self, object: Id, offset: u64, bytes: &[u8]) -> Result<(), Unstored>;

    /// Reads back bytes that were kept, exactly as many as there is room for.
    ///
    /// # Errors
    /// [`Unstored`].
    fn read(&mut self, object: Id, offset: u64, out: &mut [u8]) -> Result<(), Unstored>;

    /// A run of the sender begins: what is written from now on is of its objects, which have the numbers of earlier ones.
    fn run_begins(&mut self, instance: u16) {
        let _ = instance;
    }
}

/// Bytes that couldn't be kept or read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object can't be stored")]
pub struct Unstored;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// An object begins, cut like this.
    Begun {
        /// Which.
        object: ObjectId,
        /// Its size and cut.
        shape: Shape,
        /// Whether it is a file.
        file: bool,
        /// Whether NORM_INFO comes of it.
        info: bool,
    },
    /// What NORM_INFO says of an object.
    Info {
        /// Which.
        object: ObjectId,
        /// What it says.
        content: Vec<u8>,
    },
    /// All of an object is stored, and its info is there if it has one. It is acknowledged when the sender asks next: if it
    /// isn't what it should be, [`Receiver::forget`] or [`Receiver::refuse`] is due before the next datagram.
    Complete(ObjectId),
    /// The hub was told that all of an object is here. It asks again if that is lost.
    Acknowledged(ObjectId),
    /// An object won't be completed: the sender has given it up, or there was no room for it.
    Gone(ObjectId),
    /// The sender began anew: everything that isn't complete is gone.
    Restarted,
    /// The sender ends the session.
    Ended,
}

/// What a receiver counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Source segments that were new.
    pub source: u64,
    /// Parity that was new and is of use.
    pub parity: u64,
    /// Source segments that parity gave.
    pub decoded: u64,
    /// Segments that were there already, or of blocks that are whole.
    pub duplicate: u64,
    /// Messages that aren't of this session's sender.
    pub foreign: u64,
    /// Messages that aren't NORM.
    pub malformed: u64,
    /// Segments and objects that contradict how the object is cut.
    pub contradictory: u64,
    /// Segments that found no room or couldn't be stored.
    pub unstored: u64,
    /// NACKs sent,
    pub nacks: u64,
    /// ACKs sent,
    pub acks: u64,
    /// and bytes of both.
    pub feedback_bytes: u64,
}

/// The receiver of a session. See [`crate::session`] for how to drive it.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    sequence: u16,
    instance: Option<u16>,
    grtt: Duration,
    /// The last probe: when it was sent, by the sender's clock, and when it came.
    probe: Option<(Duration, Duration)>,
    objects: BTreeMap<ObjectId, Incoming>,
    newest: Option<ObjectId>,
    parity_bytes: usize,
    request_due: Option<Duration>,
    requested: Option<Duration>,
    outbox: VecDeque<Vec<u8>>,
    reports: VecDeque<Report>,
    heard: Heard,
}

impl Receiver {
    /// A receiver that knows nothing yet.
    #[must_use]
    pub fn new(config: ReceiverConfig) -> Self {
        Self {
            config,
            sequence: 0,
            instance: None,
            grtt: Duration::from_millis(500),
            probe: None,
            objects: BTreeMap::new(),
            newest: None,
            parity_bytes: 0,
            request_due: None,
            requested: None,
            outbox: VecDeque::new(),
            reports: VecDeque::new(),
            heard: Heard::default(),
        }
    }

    /// Goes on with an object of this run of the sender after a restart: these source segments are stored. If they are all, that
    /// is reported.
    ///
    /// # Errors
    /// What makes the cut impossible.
    pub fn resume(
        &mut self,
        instance: u16,
        object: ObjectId,
        fti: Fti,
        info: Option<Vec<u8>>,
        stored: impl IntoIterator<Item = PayloadId>,
    ) -> Result<(), crate::shape::Unfit> {
        let shape = Shape::new(fti)?;
        self.instance = Some(instance);
        let mut incoming = Incoming::new();
        incoming.begin(shape, info.is_some());
        incoming.info = info;
        for id in stored {
            incoming.stored(id);
        }
        self.objects.insert(object, incoming);
        if self.newest.is_none_or(|newest| object.since(newest).is_some()) {
            self.newest = Some(object);
        }
        self.complete(object);
        Ok(())
    }

    /// A datagram came, from this address.
    pub fn handle(&mut self, now: Duration, from: IpAddr, datagram: &[u8], storage: &mut impl Storage) {
        let packet = match crate::norm::parse(datagram) {
            Ok(packet) => packet,
            Err(fault) => return self.fault(fault),
        };
        if packet.source != self.config.sender || from != self.config.address {
            self.heard.foreign += 1;
            return;
        }
        match packet.message {
            Message::Info { head, content } => {
                self.sender_head(head.sender, storage);
                if self.begin(now, head) {
                    self.info(head.object, content);
                }
            }
            Message::Data { head, id, content } => {
                self.sender_head(head.sender, storage);
                if self.begin(now, head) {
                    self.data(now, head.object, id, content, storage);
                }
            }
            Message::Command { head, command } => {
                self.sender_head(head, storage);
                self.command(now, command);
            }
            // Other receivers' feedback.
            Message::Nack { .. } | Message::Ack { .. } => self.heard.foreign += 1,
        }
    }

    /// The next message to the sender, if there is one now: a NORM message in a datagram to its address and the session's port.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.request_due.is_some_and(|due| due <= now) {
            self.request(now);
        }
        let message = self.outbox.pop_front()?;
        self.heard.feedback_bytes += message.len() as u64;
        Some(message)
    }

    /// When to call [`Receiver::poll_transmit`] again, if nothing comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.outbox.is_empty() { self.request_due } else { Some(Duration::ZERO) }
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// What was counted.
    #[must_use]
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Which source segments of an object aren't there, by block; `None` if nothing is known of it.
    #[must_use]
    pub fn missing(&self, object: ObjectId) -> Option<Vec<(u32, SegmentSet)>> {
        self.objects.get(&object)?.missing()
    }

    /// Whether anything is known of an object; not of those that are far behind the newest.
    #[must_use]
    pub fn knows(&self, object: ObjectId) -> bool {
        self.objects.contains_key(&object)
    }

    /// A source segment came another way, by HTTP for instance, and is stored.
    pub fn recovered(&mut self, object: ObjectId, id: PayloadId) {
        if let Some(incoming) = self.objects.get_mut(&object) {
            self.parity_bytes -= incoming.stored(id);
            self.complete(object);
        }
    }

    /// What is stored of an object isn't what was sent, or isn't there any more: all of it is missing again. Its info stays, and so
    /// does what the sender has sent of it, which may be asked for.
    pub fn forget(&mut self, object: ObjectId) {
        let Some(incoming) = self.objects.get_mut(&object) else { return };
        self.parity_bytes -= incoming.drop_parity();
        let info = incoming.info.take();
        let mut again = Incoming::new();
        if let Some(shape) = incoming.shape {
            again.begin(shape, info.is_some());
        }
        again.info = info;
        again.boundary = incoming.boundary;
        *incoming = again;
    }

    /// An object isn't wanted: it is neither asked for nor acknowledged.
    pub fn refuse(&mut self, object: ObjectId) {
        if let Some(incoming) = self.objects.get_mut(&object) {
            (incoming.gone, incoming.complete) = (true, false);
            self.parity_bytes -= incoming.drop_parity();
        }
    }

    /// An object that was refused is wanted after all: what the sender has sent of it is asked for. If all of it was there, that is
    /// reported once more.
    pub fn want(&mut self, now: Duration, object: ObjectId) {
        let Some(incoming) = self.objects.get_mut(&object) else { return };
        incoming.gone = false;
        if incoming.holes().next().is_some() {
            self.request_at(now);
        }
        self.complete(object);
    }

    fn fault(&mut self, _: Malformed) {
        self.heard.malformed += 1;
    }

    fn sender_head(&mut self, head: SenderHead, storage: &mut impl Storage) {
        self.grtt = rtt(head.grtt);
        let before = self.instance.replace(head.instance);
        if before != self.instance {
            storage.run_begins(head.instance);
        }
        if before.is_some() && before != self.instance {
            self.objects.clear();
            (self.newest, self.probe, self.request_due, self.parity_bytes) = (None, None, None, 0);
            self.reports.push_back(Report::Restarted);
        }
    }

    /// Notes that an object exists, and those skipped before it. Whether it is received.
    fn begin(&mut self, now: Duration, head: ObjectHead) -> bool {
        let Some(shape) = head.fti.and_then(|fti| Shape::new(fti).ok()) else {
            self.heard.contradictory += 1;
            return false;
        };
        let large = shape.size() > self.config.size_max || shape.blocks() > self.config.blocks_max;
        if head.flags & flags::STREAM != 0 || large {
            self.heard.contradictory += 1;
            return false;
        }
        if !self.objects.contains_key(&head.object) {
            self.expect(now, head.object);
        }
        let Some(incoming) = self.objects.get_mut(&head.object) else { return false };
        if incoming.shape.is_none() {
            let (file, info) = (head.flags & flags::FILE != 0, head.flags & flags::INFO != 0);
            incoming.begin(shape, info);
            self.reports.push_back(Report::Begun { object: head.object, shape, file, info });
        }
        let same = incoming.shape == Some(shape);
        self.heard.contradictory += u64::from(!same);
        same && !incoming.gone
    }

    /// An object, and those between the newest and it, are to come. One that is far behind the newest was here before, and was
    /// given up: it stays unknown.
    fn expect(&mut self, now: Duration, object: ObjectId) {
        let newest = *self.newest.get_or_insert(ObjectId(object.0.wrapping_sub(1)));
        match object.since(newest) {
            Some(gap) => {
                let many = gap.min(self.config.objects_max as u16);
                for at in (0..many).rev() {
                    self.objects.entry(ObjectId(object.0.wrapping_sub(at))).or_insert_with(Incoming::new);
                }
                if many > 1 {
                    self.request_at(now);
                }
                self.newest = Some(object);
            }
            None if usize::from(newest.0.wrapping_sub(object.0)) < self.config.objects_max => {
                self.objects.insert(object, Incoming::new());
            }
            None => return,
        }
        // By age, oldest first: numbers wrap around.
        let newest = self.newest.unwrap_or(object);
        let age = |id: &ObjectId| newest.0.wrapping_sub(id.0);
        while let Some(oldest) = self.objects.keys().copied().max_by_key(age)
            && usize::from(age(&oldest)) >= self.config.objects_max
        {
            self.give_up(oldest);
            self.objects.remove(&oldest);
        }
    }

    fn give_up(&mut self, object: ObjectId) {
        let Some(incoming) = self.objects.get_mut(&object) else { return };
        if !incoming.complete && !incoming.gone {
            incoming.gone = true;
            self.parity_bytes -= incoming.drop_parity();
            self.reports.push_back(Report::Gone(object));
        }
    }

    fn info(&mut self, object: ObjectId, content: &[u8]) {
        let incoming = self.objects.get_mut(&object).expect("the caller began it");
        if incoming.info.is_none() {
            incoming.info = Some(content.to_vec());
            self.reports.push_back(Report::Info { object, content: content.to_vec() });
            self.complete(object);
        }
    }

    fn data(
        &mut self,
        now: Duration,
        object: ObjectId,
        id: PayloadId,
        content: &[u8],
        storage: &mut impl Storage,
    ) {
        let incoming = self.objects.get_mut(&object).expect("the caller began it");
        let shape = incoming.shape.expect("the caller began it");
        let fits = match shape.range(id) {
            Some((_, len)) => content.len() == len,
            None => shape.has(id) && content.len() == shape.segment_len(),
        };
        if !fits {
            self.heard.contradictory += 1;
            return;
        }
        if incoming.pass(id.block) {
            self.request_at(now);
        }
        let incoming = self.objects.get_mut(&object).expect("the caller began it");
        if !incoming.lacks(id) {
            self.heard.duplicate += 1;
            return;
        }
        if let Some((offset, _)) = shape.range(id) {
            if storage.write(object, offset, content).is_err() {
                self.heard.unstored += 1;
                return;
            }
            self.heard.source += 1;
            self.parity_bytes -= incoming.stored(id);
        } else if self.parity_bytes + content.len() <= self.config.parity_max {
            self.heard.parity += 1;
            self.parity_bytes += content.len();
            incoming.keep(id, content);
        } else {
            self.heard.unstored += 1;
        }
        if incoming.decodable(id.block) {
            self.decode(object, id.block, storage);
        }
        self.complete(object);
    }

    fn decode(&mut self, object: ObjectId, block: u32, storage: &mut impl Storage) {
        let incoming = self.objects.get_mut(&object).expect("the caller began it");
        match incoming.decode(object, block, storage) {
            Ok((decoded, freed)) => {
                self.heard.decoded += decoded;
                self.parity_bytes -= freed;
            }
            Err(Unstored) => self.heard.unstored += 1,
        }
    }

    fn complete(&mut self, object: ObjectId) {
        let Some(incoming) = self.objects.get_mut(&object) else { return };
        if !incoming.complete && incoming.is_whole() {
            incoming.complete = true;
            self.reports.push_back(Report::Complete(object));
        }
    }

    fn command(&mut self, now: Duration, command: Command<'_>) {
        match command {
            Command::Flush { object, id, nodes } => {
                let named = nodes.iter().any(|node| node == self.config.node);
                self.flush(now, object, id, named);
            }
            Command::Squelch { object, gone, .. } => {
                let before = |id: &ObjectId| object != *id && object.since(*id).is_some();
                let lost: Vec<_> = self.objects.keys().copied().filter(before).chain(gone.iter()).collect();
                lost.into_iter().for_each(|id| self.give_up(id));
            }
            Command::Cc { sequence, sent, nodes, .. } => {
                self.probe = Some((sent, now));
                if let Some(node) = nodes.iter().find(|item| item.node == self.config.node) {
                    // The rate is fixed, so there is nothing to measure: it is the echo that counts.
                    let cc = CcFeedback { sequence, flags: 0, rtt: node.rtt, loss: 0, rate: node.rate };
                    self.acknowledge(now, Acked::Cc, Some(cc));
                }
            }
            Command::Eot => self.reports.push_back(Report::Ended),
            Command::RepairAdv { .. } | Command::AckRequest { .. } | Command::Application { .. } => {}
        }
    }

    /// All was sent up to here: acknowledge it, or ask for the rest.
    fn flush(&mut self, now: Duration, object: ObjectId, id: PayloadId, named: bool) {
        if !self.objects.contains_key(&object) {
            if !named {
                return;
            }
            self.expect(now, object);
        }
        let up_to = |other: &ObjectId| object.since(*other).is_some();
        let mut missing = false;
        for (other, incoming) in self.objects.iter_mut().filter(|(other, _)| up_to(other)) {
            if incoming.complete {
                continue;
            }
            // What is refused may be wanted later.
            let lacks = incoming.flush(now, self.grtt, (*other == object).then_some(id));
            missing |= lacks && !incoming.gone;
        }
        if missing {
            self.request_at(now);
        } else if named && self.objects.get(&object).is_some_and(|incoming| !incoming.gone) {
            self.acknowledge(now, Acked::Flush { object, id }, None);
            if self.objects.get(&object).is_some_and(|incoming| incoming.complete) {
                self.reports.push_back(Report::Acknowledged(object));
            }
        }
    }

    fn acknowledge(&mut self, now: Duration, acked: Acked, cc: Option<CcFeedback>) {
        let feedback = Feedback { cc, ..self.feedback(now) };
        self.heard.acks += 1;
        self.send(Message::Ack { feedback, id: 0, acked });
    }

    fn feedback(&self, now: Duration) -> Feedback {
        Feedback {
            sender: self.config.sender,
            instance: self.instance.unwrap_or_default(),
            echo: self.probe.map_or(Duration::ZERO, |(sent, came)| sent + now.saturating_sub(came)),
            cc: None,
        }
    }

    fn send(&mut self, message: Message<'_>) {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.outbox.push_back(Packet { sequence, source: self.config.node, message }.to_vec());
    }
}

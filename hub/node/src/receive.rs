//! A node's receiver: the session, between the socket's thread and the disk.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use millrace_hub::norm::{NodeId, ObjectId};
use millrace_hub::session::{Heard, Receiver, ReceiverConfig, Report};
use millrace_hub::shape::Shape;
use millrace_hub_store::{Root, Trust};

use crate::error::{NodeError, Refusal};
use crate::intake::{Datagram, Intake};
use crate::meter::Meter;
use crate::pieces::{About, Pieces};
use crate::socket::{Interface, listening};
use crate::stop::Stop;

/// What a receiver is told.
#[derive(Debug)]
pub struct Settings {
    /// The group and the port that the hub sends to,
    pub group: SocketAddr,
    /// and where the group is joined.
    pub interface: Interface,
    /// The hub's address. Packets from elsewhere are forged.
    pub hub: IpAddr,
    /// The hub's name in NORM,
    pub sender: NodeId,
    /// and ours.
    pub node: NodeId,
    /// Where contents go.
    pub folder: PathBuf,
    /// Whose manifests are believed.
    pub trust: Trust,
    /// After so many contents it ends, once the hub knows that they are here; without, it doesn't.
    pub count: Option<u64>,
}

/// What a receiver tells while it works. Objects are numbered by the hub.
#[derive(Debug)]
pub enum News {
    /// It listens.
    Listening,
    /// A content begins, or goes on.
    Begun {
        /// Its number.
        object: ObjectId,
        /// Its bytes.
        size: u64,
    },
    /// How far a content is: once a second.
    Progress {
        /// Its number.
        object: ObjectId,
        /// Its name, once that is known.
        name: Option<String>,
        /// Bytes that are here,
        held: u64,
        /// of so many.
        size: u64,
        /// Bytes that come in a second.
        per_second: Option<f64>,
        /// How long the rest takes at that rate.
        left: Option<Duration>,
    },
    /// A content is here.
    Received(Received),
    /// A content isn't taken, or is asked for anew.
    Refused {
        /// Its number.
        object: ObjectId,
        /// Why.
        why: Refusal,
    },
    /// The hub has given a content up.
    Gone(ObjectId),
    /// The hub has begun anew: what isn't complete comes again, and goes on where it was if it is the same.
    Restarted,
    /// The hub has ended its session.
    Ended,
}

/// A content that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub object: ObjectId,
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes,
    pub size: u64,
    /// and their hash.
    pub root: Root,
    /// Whether that is the hash that a manifest names; a sender without manifests gives names only.
    pub verified: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Contents received,
    pub received: u64,
    /// and refused.
    pub refused: u64,
    /// What the session counted.
    pub heard: Heard,
    /// Datagrams lost here, because we were too slow.
    pub overrun: u64,
}

/// Receives until it is told to stop, or has received as many contents as it is to.
///
/// # Errors
/// The socket or the folder can't be had. What happens later is news.
pub fn receive(settings: Settings, stop: &Stop, news: impl FnMut(News)) -> Result<Summary, NodeError> {
    if settings.group.is_ipv4() != settings.hub.is_ipv4() {
        return Err(NodeError::Family);
    }
    let pieces = Pieces::open(&settings.folder, settings.sender)?;
    let socket = Arc::new(listening(settings.group, settings.interface)?);
    // The thread ends with us, whoever stops us.
    let ours = Stop::new().map_err(NodeError::Socket)?;
    let intake = Intake::start(Arc::clone(&socket), [stop.clone(), ours.clone()])?;
    let config = ReceiverConfig::new(settings.node, settings.sender, settings.hub);
    let receiver = Receiver::new(config);
    let mut node = Node {
        trust: settings.trust,
        receiver,
        pieces,
        contents: BTreeMap::new(),
        socket,
        hub: None,
        news,
        begun: Instant::now(),
        summary: Summary::default(),
        acknowledged: Duration::ZERO,
        ended: false,
    };
    (node.news)(News::Listening);
    node.resume();
    node.run(&intake, settings.count);
    node.checkpoint();
    node.summary.overrun = intake.overrun();
    node.summary.heard = *node.receiver.heard();
    ours.stop();
    intake.join();
    Ok(node.summary)
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
}

impl Arriving {
    fn new(shape: Shape) -> Self {
        Self { shape, info: None, about: None, meter: Meter::default(), wrong: 0 }
    }
}

struct Node<F> {
    trust: Trust,
    receiver: Receiver,
    pieces: Pieces,
    contents: BTreeMap<ObjectId, Arriving>,
    socket: Arc<UdpSocket>,
    /// Where the hub's packets come from, and answers go to.
    hub: Option<SocketAddr>,
    news: F,
    begun: Instant,
    summary: Summary,
    /// When the hub was last told that a content is here.
    acknowledged: Duration,
    ended: bool,
}

impl<F: FnMut(News)> Node<F> {
    fn run(&mut self, intake: &Intake, count: Option<u64>) {
        let mut tick = Duration::ZERO;
        loop {
            self.reports();
            self.answer();
            let now = self.begun.elapsed();
            if now >= tick {
                tick = now + TICK;
                self.checkpoint();
                self.progress(now);
            }
            if count.is_some_and(|count| self.summary.received >= count)
                && (self.ended || now >= self.acknowledged + LINGER)
            {
                return;
            }
            let wake = self.receiver.poll_timeout().map_or(tick, |due| due.min(tick));
            match intake.datagrams.recv_timeout(wake.saturating_sub(now)) {
                Ok(datagram) => {
                    self.handle(datagram);
                    intake.datagrams.try_iter().take(BATCH).for_each(|datagram| self.handle(datagram));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Goes on where the last run of this receiver was.
    fn resume(&mut self) {
        for (object, shape, info) in self.pieces.resume(&mut self.receiver) {
            // Whom we trust may have changed.
            match About::read(&info, shape.size(), &self.trust) {
                Ok(about) => {
                    let arriving = Arriving { info: Some(info), about: Some(about), ..Arriving::new(shape) };
                    self.contents.insert(object, arriving);
                    (self.news)(News::Begun { object, size: shape.size() });
                }
                Err(why) => self.refuse(object, why),
            }
        }
        // What was done before is reported as complete: the hub may not know yet.
        self.reports();
    }

    fn handle(&mut self, (from, datagram): Datagram) {
        let foreign = self.receiver.heard().foreign;
        let malformed = self.receiver.heard().malformed;
        self.receiver.handle(self.begun.elapsed(), from.ip(), &datagram, &mut self.pieces);
        let heard = self.receiver.heard();
        if (heard.foreign, heard.malformed) == (foreign, malformed) {
            self.hub = Some(from);
        }
        // Before the next datagram, which may ask whether all is here: what is complete is verified first.
        self.reports();
    }

    /// Sends what the session has to say.
    fn answer(&mut self) {
        while let Some(message) = self.receiver.poll_transmit(self.begun.elapsed()) {
            let Some(hub) = self.hub else { return };
            // It counts as lost on the way: the session says it again.
            if let Err(error) = self.socket.send_to(&message, hub) {
                tracing::debug!(%error, "an answer couldn't be sent");
            }
        }
    }

    fn reports(&mut self) {
        while let Some(report) = self.receiver.poll_event() {
            match report {
                Report::Begun { object, shape, .. } => self.begins(object, shape),
                Report::Info { object, content } => self.info(object, content),
                Report::Complete(object) => self.complete(object),
                Report::Acknowledged(_) => self.acknowledged = self.begun.elapsed(),
                Report::Gone(object) => {
                    self.contents.remove(&object);
                    self.pieces.discard(object);
                    (self.news)(News::Gone(object));
                }
                Report::Restarted => {
                    self.contents.clear();
                    (self.news)(News::Restarted);
                }
                Report::Ended => {
                    self.ended = true;
                    (self.news)(News::Ended);
                }
            }
        }
        if let Some(error) = self.pieces.failure() {
            tracing::warn!(%error, "what arrives can't be written or read back; it is asked for again");
        }
    }

    fn begins(&mut self, object: ObjectId, shape: Shape) {
        self.ended = false;
        if let Err(error) = self.pieces.begin(object, shape.size()) {
            return self.refuse(object, error.into());
        }
        self.contents.insert(object, Arriving::new(shape));
        (self.news)(News::Begun { object, size: shape.size() });
    }

    fn info(&mut self, object: ObjectId, content: Vec<u8>) {
        let Some(arriving) = self.contents.get_mut(&object) else { return };
        let about = About::read(&content, arriving.shape.size(), &self.trust)
            .and_then(|about| self.pieces.admits(&about).map(|()| about));
        let found = about.and_then(|about| {
            self.pieces.find(&mut self.receiver, object, &arriving.shape, &content, &about)?;
            Ok(about)
        });
        match found {
            Ok(about) => (arriving.about, arriving.info) = (Some(about), Some(content)),
            Err(why) => self.refuse(object, why),
        }
    }

    fn complete(&mut self, object: ObjectId) {
        let Some(arriving) = self.contents.get_mut(&object) else { return };
        let (Some(about), Some(info)) = (&arriving.about, &arriving.info) else {
            return self.refuse(object, Refusal::Nameless);
        };
        match self.pieces.finish(object, &arriving.shape, info, about) {
            Ok((path, root)) => {
                self.summary.received += 1;
                let (size, verified) = (arriving.shape.size(), about.manifest.is_some());
                self.contents.remove(&object);
                self.acknowledged = self.begun.elapsed();
                (self.news)(News::Received(Received { object, path, size, root, verified }));
            }
            Err(why @ Refusal::WrongRoot(_)) if arriving.wrong < WRONG_MAX => {
                arriving.wrong += 1;
                self.receiver.forget(object);
                (self.news)(News::Refused { object, why });
            }
            Err(why) => self.refuse(object, why),
        }
    }

    fn refuse(&mut self, object: ObjectId, why: Refusal) {
        self.receiver.refuse(object);
        self.contents.remove(&object);
        self.pieces.discard(object);
        self.summary.refused += 1;
        (self.news)(News::Refused { object, why });
    }

    /// Keeps what has come, so that a crash doesn't lose it.
    fn checkpoint(&mut self) {
        for (object, arriving) in &self.contents {
            // Without its info nobody could tell later what it is.
            let Some(info) = &arriving.info else { continue };
            let missing = self.receiver.missing(*object).unwrap_or_default();
            if let Err(error) = self.pieces.checkpoint(*object, &arriving.shape, info, &missing) {
                tracing::warn!(%error, "what has arrived can't be made durable");
            }
        }
    }

    fn progress(&mut self, now: Duration) {
        for (object, arriving) in &mut self.contents {
            let missing = self.receiver.missing(*object).unwrap_or_default();
            let segments: u64 = missing.iter().map(|(_, set)| u64::from(set.len())).sum();
            let size = arriving.shape.size();
            let held = size.saturating_sub(segments * arriving.shape.segment_len() as u64);
            arriving.meter.note(now, held);
            let (per_second, left) = (arriving.meter.per_second(), arriving.meter.left(size));
            let name = arriving.about.as_ref().map(|about| about.name.to_string());
            (self.news)(News::Progress { object: *object, name, held, size, per_second, left });
        }
    }
}

/// Between checkpoints, and between news of progress: what a crash costs.
const TICK: Duration = Duration::from_secs(1);
/// Datagrams between two answers.
const BATCH: usize = 64;
/// The hub asks again for an acknowledgement that was lost, within a quarter of a second at first.
const LINGER: Duration = Duration::from_secs(2);
/// A content that was wrong so often is wrong at its source.
const WRONG_MAX: u32 = 2;

//! What a hub takes in from the network by one rule: contents by NORM or FLUTE, which go into its store. A state machine without
//! socket, threads and clock.
//!
//! ```text
//!  datagram ─► handle ─┬─ sender 7 at 10.0.0.1 ─► Arrivals ─► Stock ─┐
//!                      ├─ sender 9 at 10.0.0.5 ─► …                  ├─► Store ─► Event::Taken
//!                      └─ a session each, bounded                    ┘
//!       poll_transmit ◄── NACK, ACK, to whoever sent
//! ```
//!
//! A sender is who has a name in NORM, or a session's number in FLUTE, at an address: who takes another's name has a session
//! of his own, and doesn't get into the other's.
//!
//! There is room for `SENDERS_MAX` senders that have delivered something new, and beside them for `STRANGERS_MAX` that
//! haven't: who makes up names crowds out others that brought nothing, and nobody else.
//!
//! Driven as [`millrace_hub::session`] says, and by [`TakeIn::tick`] once a second. Everything may block on the disk.

mod counters;
mod left;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_hub::flute;
use millrace_hub::norm::{self, Message, NodeId};
use millrace_hub_store::{Manifest, Millis, SigningKey, Store, Trust};

use crate::error::{NodeError, Refusal};
use crate::oneway::OneWayRefusal;
pub use counters::TakeInCounters;
use session::Session;

/// How contents are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// NORM (RFC 5740).
    Norm {
        /// Our own name.
        node: NodeId,
        /// The sender's, if only one is listened to.
        sender: Option<NodeId>,
    },
    /// FLUTE (RFC 6726).
    Flute {
        /// The session, if only one is listened to.
        tsi: Option<u64>,
    },
}

/// A rule, and where contents go.
#[derive(Debug)]
pub struct TakeInSettings {
    /// How contents are sent.
    pub profile: Profile,
    /// Whose manifests are believed; contents without one are taken from [`Trust::Anybody`] alone.
    pub trust: Trust,
    /// Where contents go.
    pub store: Arc<Store>,
    /// Signs the manifests of contents that came without one.
    pub key: Option<Arc<SigningKey>>,
    /// For what is arriving, this rule's alone, the same after a restart; on the store's file system, outside of its own folders.
    pub folder: PathBuf,
}

/// What happened.
#[derive(Debug)]
pub enum TakeInEvent {
    /// A content is in the store: all of it, verified. After a crash it may be told twice.
    Taken(Manifest),
    /// All of a content was in the store before: nothing of it was asked for.
    Known(Manifest),
    /// How far a content is: once a second.
    Progress {
        /// Who sends it.
        from: IpAddr,
        /// Its name.
        name: String,
        /// Bytes that are here,
        held: u64,
        /// of so many.
        size: u64,
        /// Bytes that come in a second.
        per_second: Option<f64>,
        /// How long the rest takes at that rate.
        left: Option<Duration>,
    },
    /// A content isn't taken: nothing of it is asked for any more, but if it was wrong, or once there is room for it, or the disk
    /// does its work again.
    Refused {
        /// Who sends it.
        from: IpAddr,
        /// Its name, if it is known.
        name: Option<String>,
        /// Why.
        why: NotTaken,
    },
}

/// Why a content isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// One that came by NORM.
    #[error(transparent)]
    Norm(#[from] Refusal),
    /// One that came by FLUTE.
    #[error(transparent)]
    Flute(#[from] OneWayRefusal),
}

/// Who sends: a name, which anybody may take, and an address.
type Sender = (u64, IpAddr);

/// What comes by one rule.
#[derive(Debug)]
pub struct TakeIn {
    settings: TakeInSettings,
    sessions: BTreeMap<Sender, Session>,
    events: VecDeque<TakeInEvent>,
    /// Without what the sessions count that there are now.
    counters: TakeInCounters,
    /// When a stranger may make room for another.
    stranger_due: Duration,
    wall: Millis,
}

impl TakeIn {
    /// Begins, or goes on after a restart.
    ///
    /// # Errors
    /// The folder can't be had.
    pub fn open(settings: TakeInSettings, wall: Millis) -> Result<Self, NodeError> {
        let wrong = |error| NodeError::Folder(settings.folder.clone(), error);
        std::fs::create_dir_all(&settings.folder).map_err(wrong)?;
        left::tidy(&settings.folder, |_| false);
        let (sessions, events) = (BTreeMap::new(), VecDeque::new());
        let (counters, stranger_due) = (TakeInCounters::default(), Duration::ZERO);
        Ok(Self { settings, sessions, events, counters, stranger_due, wall })
    }

    /// Whether a datagram is one of a sender's that this rule is for.
    #[must_use]
    pub fn wants(&self, datagram: &[u8]) -> bool {
        matches!(self.settings.profile.sender_of(datagram), Ok(Some(_)))
    }

    /// A datagram came, from there.
    pub fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        let name = match self.settings.profile.sender_of(datagram) {
            Ok(Some(name)) => name,
            Ok(None) => return self.counters.foreign += 1,
            Err(Malformed) => return self.counters.malformed += 1,
        };
        let sender = (name, from.ip());
        if !self.sessions.contains_key(&sender) && !self.begin(now, sender) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&sender) else { return };
        session.handle(now, from, datagram);
        self.hear(sender);
    }

    /// The next answer, and where to.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        self.sessions.values_mut().find_map(|session| session.poll_transmit(now))
    }

    /// When to call [`Self::poll_transmit`] again, if nothing comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.sessions.values().filter_map(|session| session.poll_timeout()).min()
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<TakeInEvent> {
        self.events.pop_front()
    }

    /// To be called once a second, with the time of day: keeps what has come, so that a crash doesn't lose it, tries again what
    /// the disk didn't do, and tells how far contents are.
    pub fn tick(&mut self, now: Duration, wall: Millis) {
        self.wall = wall;
        for session in self.sessions.values_mut() {
            session.tick(now, wall);
        }
        // The bytes that came are durable once the store's ledger says so.
        if let Err(error) = self.settings.store.tick(wall) {
            tracing::warn!(%error, "what has arrived can't be made durable");
        }
        let senders: Vec<_> = self.sessions.keys().copied().collect();
        senders.into_iter().for_each(|sender| self.hear(sender));
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> TakeInCounters {
        let mut counters = self.counters;
        self.sessions.values().for_each(|session| session.count(&mut counters));
        counters
    }

    /// Senders that are listened to now.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.sessions.len()
    }

    /// Begins a session, or goes on with one from before a restart.
    fn begin(&mut self, now: Duration, sender: Sender) -> bool {
        let strangers = self.sessions.values().filter(|session| !session.has_delivered()).count();
        if strangers >= STRANGERS_MAX {
            let due = self.stranger_due.max(now.saturating_sub(STRANGERS_BURST));
            if due > now {
                self.counters.turned_away += 1;
                return false;
            }
            self.stranger_due = due + STRANGERS_EVERY;
            self.end_least(false);
        }
        match Session::open(&self.settings, sender, now, self.wall) {
            Ok(session) => {
                self.sessions.insert(sender, session);
                self.hear(sender);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what a sender sends can't be taken in");
                self.counters.unopened += 1;
                false
            }
        }
    }

    /// Of those that have delivered something, or of those that haven't, ends the session that is missed least: one that nothing
    /// is arriving by, and of these the one that nothing came of for longest.
    fn end_least(&mut self, delivered: bool) {
        let of_these = self.sessions.iter().filter(|(_, session)| session.has_delivered() == delivered);
        let least = of_these.min_by_key(|(_, session)| (session.is_promising(), session.heard()));
        if let Some(sender) = least.map(|(sender, _)| *sender) {
            self.end(sender);
            self.counters.crowded += 1;
        }
    }

    /// Ends a session: what came of its contents is kept on the disk, should the sender come back, but for so many senders alone.
    fn end(&mut self, sender: Sender) {
        if let Some(mut session) = self.sessions.remove(&sender) {
            session.keep(self.wall);
            session.count(&mut self.counters);
            session.close();
            let folder = &self.settings.folder;
            if left::are_many(folder, self.sessions.len()) {
                left::tidy(folder, |path| self.sessions.values().any(|session| session.folder() == path));
            }
        }
    }

    /// Counts and tells what a session has to tell.
    fn hear(&mut self, sender: Sender) {
        let Some(session) = self.sessions.get_mut(&sender) else { return };
        let before = session.has_delivered();
        while let Some(event) = session.poll_event(sender.1, &mut self.counters) {
            self.events.push_back(event);
        }
        let is_new = session.has_delivered() && !before;
        if is_new && self.sessions.values().filter(|session| session.has_delivered()).count() > SENDERS_MAX {
            self.end_least(true);
        }
        // Whoever doesn't ask is told what is newest.
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
            self.counters.untold += 1;
        }
    }
}

/// A datagram that isn't what the profile says.
struct Malformed;

impl Profile {
    /// The name of a datagram's sender, if it is one that is listened to.
    fn sender_of(self, datagram: &[u8]) -> Result<Option<u64>, Malformed> {
        match self {
            Self::Norm { sender, .. } => {
                let packet = norm::parse(datagram).map_err(|_| Malformed)?;
                // Other receivers' feedback begins no session.
                let feedback = matches!(packet.message, Message::Nack { .. } | Message::Ack { .. });
                let wanted = !feedback && sender.is_none_or(|sender| sender == packet.source);
                Ok(wanted.then_some(packet.source.0.into()))
            }
            Self::Flute { tsi } => {
                let sent = flute::parse(datagram).map_err(|_| Malformed)?.header.tsi;
                Ok(tsi.is_none_or(|tsi| tsi == sent).then_some(sent))
            }
        }
    }
}

/// Senders that have delivered something and are listened to at once: a site has few sources.
const SENDERS_MAX: usize = 16;
/// Senders beside them that have delivered nothing yet.
const STRANGERS_MAX: usize = 16;
/// From one time that a stranger makes room for another to the next: a folder each time. Whoever sends at all has something said
/// before all others have changed, and of those who want in, who sends most gets in first.
const STRANGERS_EVERY: Duration = Duration::from_millis(10);
/// As many at once as there is room for.
const STRANGERS_BURST: Duration = Duration::from_millis(10 * (STRANGERS_MAX as u64 - 1));
/// Events that wait to be asked for: some seconds' progress.
const EVENTS_MAX: usize = 4096;

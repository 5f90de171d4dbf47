//! What comes from one sender.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millrace_hub::flute::Limits;
use millrace_hub::norm::NodeId;
use millrace_hub::session::ReceiverConfig;
use millrace_hub_store::Millis;

use super::{Profile, Sender, TakeInCounters, TakeInEvent, TakeInSettings, left};
use crate::arrivals::Arrivals;
use crate::error::NodeError;
use crate::news::News;
use crate::oneway::{Arrivals as FileArrivals, FileStock, Step};
use crate::stock::{Stock, Stocked};

/// A session, and when something came of it last.
#[derive(Debug)]
pub(super) struct Session {
    kind: Kind,
    heard: Duration,
    /// Whether something new came of it as a whole.
    delivered: bool,
    folder: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Norm(Box<Arrivals<Stock>>),
    Flute(Box<FileArrivals<FileStock>>),
}

impl Session {
    /// Begins a session, or goes on with what was kept of it.
    pub(super) fn open(
        settings: &TakeInSettings,
        (name, address): Sender,
        now: Duration,
        wall: Millis,
    ) -> Result<Self, NodeError> {
        let (store, key) = (Arc::clone(&settings.store), settings.key.clone());
        let (_, budget) = store.budget();
        let word = match settings.profile {
            Profile::Norm { .. } => "norm",
            Profile::Flute { .. } => "flute",
        };
        let folder = settings.folder.join(format!("{word}-{name}-{address}"));
        let kind = match settings.profile {
            Profile::Norm { node, .. } => {
                let sender = NodeId(name as u32);
                let stock = Stock::open(&folder, sender, store, key, wall)?;
                let config = ReceiverConfig {
                    size_max: budget,
                    blocks_max: BLOCKS_MAX,
                    objects_max: OBJECTS_MAX,
                    parity_max: PARITY_MAX,
                    ..ReceiverConfig::new(node, sender, address)
                };
                Kind::Norm(Box::new(Arrivals::open(stock, config, settings.trust.clone(), now)))
            }
            Profile::Flute { .. } => {
                let stock = FileStock::open(&folder, name, store, key, &settings.trust, wall)?;
                let limits = Limits {
                    size_max: budget,
                    block_max: BLOCK_MAX,
                    objects_max: FILES_MAX,
                    repair_max: PARITY_MAX,
                };
                Kind::Flute(Box::new(FileArrivals::open(stock, name, limits)))
            }
        };
        Ok(Self { kind, heard: now, delivered: false, folder })
    }

    pub(super) fn heard(&self) -> Duration {
        self.heard
    }

    /// Whether it has brought a whole content that the store didn't have. Saying once more what others have sent proves nothing.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivered
    }

    /// Whether something is arriving of which it is known what it is, and that it is wanted.
    pub(super) fn is_promising(&self) -> bool {
        match &self.kind {
            Kind::Norm(arrivals) => arrivals.is_promising(),
            Kind::Flute(arrivals) => arrivals.is_promising(),
        }
    }

    /// Ends it. What hasn't come takes no room any more, and the folder goes, too, if nothing but the lock is in it: others may have
    /// made up any number of senders.
    pub(super) fn close(self) {
        let Self { mut kind, folder, delivered, .. } = self;
        match &mut kind {
            Kind::Norm(arrivals) => arrivals.leave(!delivered),
            Kind::Flute(arrivals) => arrivals.leave(!delivered),
        }
        drop(kind);
        left::close(&folder, delivered);
    }

    /// Where it keeps what is arriving.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        self.heard = now;
        match &mut self.kind {
            Kind::Norm(arrivals) => arrivals.handle(now, from, datagram),
            Kind::Flute(arrivals) => arrivals.handle(datagram),
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        match &mut self.kind {
            Kind::Norm(arrivals) => arrivals.poll_transmit(now),
            Kind::Flute(_) => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Norm(arrivals) => arrivals.poll_timeout(),
            Kind::Flute(_) => None,
        }
    }

    pub(super) fn tick(&mut self, now: Duration, wall: Millis) {
        self.set_wall(wall);
        match &mut self.kind {
            Kind::Norm(arrivals) => arrivals.tick(now),
            Kind::Flute(arrivals) => arrivals.tick(now),
        }
    }

    /// Makes what has come durable, for when it ends.
    pub(super) fn keep(&mut self, wall: Millis) {
        self.set_wall(wall);
        match &mut self.kind {
            Kind::Norm(arrivals) => arrivals.checkpoint(),
            Kind::Flute(arrivals) => arrivals.checkpoint(),
        }
    }

    fn set_wall(&mut self, wall: Millis) {
        match &mut self.kind {
            Kind::Norm(arrivals) => arrivals.shelf_mut().set_wall(wall),
            Kind::Flute(arrivals) => arrivals.shelf_mut().set_wall(wall),
        }
    }

    /// Adds what was counted.
    pub(super) fn count(&self, counters: &mut TakeInCounters) {
        match &self.kind {
            Kind::Norm(arrivals) => counters.add_heard(arrivals.heard()),
            Kind::Flute(arrivals) => counters.add_counted(arrivals.counters()),
        }
    }

    /// What is to be told next; what is only to be counted is counted.
    pub(super) fn poll_event(&mut self, from: IpAddr, counters: &mut TakeInCounters) -> Option<TakeInEvent> {
        let event = self.kind.poll_event(from, counters)?;
        self.delivered |= matches!(event, TakeInEvent::Taken(_));
        Some(event)
    }
}

impl Kind {
    fn poll_event(&mut self, from: IpAddr, counters: &mut TakeInCounters) -> Option<TakeInEvent> {
        match self {
            Kind::Norm(arrivals) => loop {
                match arrivals.poll_news()? {
                    News::Received(stocked) => return Some(taken(stocked, counters)),
                    News::Refused { name, why, .. } => {
                        let why = why.into();
                        counters.refuse(&why);
                        return Some(TakeInEvent::Refused { from, name, why });
                    }
                    News::Progress { name: Some(name), held, size, per_second, left, .. } => {
                        return Some(TakeInEvent::Progress { from, name, held, size, per_second, left });
                    }
                    News::Gone(_) => counters.gone += 1,
                    News::Restarted => counters.restarts += 1,
                    News::Listening | News::Begun { .. } | News::Progress { .. } | News::Ended => {}
                }
            },
            Kind::Flute(arrivals) => loop {
                match arrivals.poll_step()? {
                    Step::Received { kept, .. } => return Some(taken(kept, counters)),
                    Step::Refused { name, why, .. } => {
                        let why = why.into();
                        counters.refuse(&why);
                        return Some(TakeInEvent::Refused { from, name, why });
                    }
                    Step::Progress { name: Some(name), held, size, per_second, left, .. } => {
                        return Some(TakeInEvent::Progress { from, name, held, size, per_second, left });
                    }
                    Step::Begun(..) | Step::Progress { .. } | Step::Ended => {}
                }
            },
        }
    }
}

fn taken(Stocked { manifest, known }: Stocked, counters: &mut TakeInCounters) -> TakeInEvent {
    counters.note(&manifest, known);
    match known {
        true => TakeInEvent::Known(manifest),
        false => TakeInEvent::Taken(manifest),
    }
}

/// Blocks of an object that comes by NORM: 188 GB in blocks of 128 segments. A bit of memory for each, whatever comes.
const BLOCKS_MAX: u32 = 1 << 20;
/// Bytes of a block that has to be decoded in memory.
const BLOCK_MAX: u64 = 16 << 20;
/// Objects of a sender that arrive at once.
const OBJECTS_MAX: usize = 256;
/// The same by FLUTE.
const FILES_MAX: usize = 32;
/// Bytes of parity that a sender's blocks may take before they are whole.
const PARITY_MAX: usize = 16 << 20;

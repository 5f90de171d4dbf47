//! A receiver of FLUTE (RFC 6726): nothing is said back, the sender repeats what it sends, or codes it.
//!
//! ```text
//!  FOLDER/.millrace/7-3.flute, 7-3.have   session 7, object 3: its bytes in their places, and what of them is missing
//! ```

mod arrivals;
mod digest;
mod location;
mod parts;
mod stock;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use millrace_hub::flute::{self, Counters, Limits};
use millrace_hub::session::{Storage, Unstored};

use crate::error::NodeError;
use crate::intake::Intake;
use crate::pieces::lock;
use crate::socket::{Interface, listening};
use crate::stop::Stop;
use arrivals::Shelf;
pub(crate) use arrivals::{Arrivals, Step};
pub use digest::FileDigest;
pub use location::location_of;
use parts::{Parts, Record};
pub(crate) use stock::FileStock;

/// What a receiver of FLUTE is told.
#[derive(Debug)]
pub struct OneWay {
    /// The group and the port that the files are sent to,
    pub group: SocketAddr,
    /// and where the group is joined.
    pub interface: Interface,
    /// Who sends them. Packets from elsewhere are forged.
    pub source: IpAddr,
    /// The session.
    pub tsi: u64,
    /// Where files go.
    pub folder: PathBuf,
    /// After so many files it ends; without, it doesn't.
    pub count: Option<u64>,
}

/// What a receiver of FLUTE tells while it works. Objects are numbered by the sender.
#[derive(Debug)]
pub enum OneWayNews {
    /// It listens.
    Listening,
    /// A file begins, or goes on.
    Begun {
        /// Its number.
        object: u64,
        /// Its bytes.
        size: u64,
    },
    /// How far a file is: once a second.
    Progress {
        /// Its number.
        object: u64,
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
    /// A file is here.
    Received {
        /// Its number.
        object: u64,
        /// Where it is.
        path: PathBuf,
        /// Its bytes.
        size: u64,
        /// Whether its MD5 is the one that the sender named; some name none.
        verified: bool,
    },
    /// A file isn't taken. If it was wrong, it is received anew.
    Refused {
        /// Its number.
        object: u64,
        /// Why.
        why: OneWayRefusal,
    },
    /// The sender ends the session.
    Ended,
}

/// Why a file isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum OneWayRefusal {
    /// Its location ends with nothing that can be a file's name.
    #[error("{0:?} names no file")]
    Name(String),
    /// It is encoded, with gzip for instance.
    #[error("it is encoded: {0}")]
    Encoded(String),
    /// Its length isn't the one that the sender named.
    #[error("{sent} bytes came of a file of {described}")]
    Size {
        /// Bytes that came.
        sent: u64,
        /// Bytes that were named.
        described: u64,
    },
    /// Its MD5 isn't the one that the sender named.
    #[error("what arrived isn't what the sender named")]
    Wrong,
    /// Others came instead: so many at once are received, and of this one nothing came for longest.
    #[error("too many files came at once, and nothing came of this one for longest")]
    Crowded,
    /// There is no room for it, or the disk fails.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
    /// Nobody signed it, and the hub takes in what trusted keys signed.
    #[error("a file without a signature, where one is wanted")]
    Unsigned,
    /// The hub's store doesn't take it.
    #[error(transparent)]
    Store(#[from] millrace_hub_store::Error),
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OneWaySummary {
    /// Files received,
    pub received: u64,
    /// and refused.
    pub refused: u64,
    /// What the session counted.
    pub counters: Counters,
    /// Datagrams from elsewhere.
    pub foreign: u64,
    /// Datagrams lost here, because we were too slow.
    pub overrun: u64,
}

/// Receives files until it is told to stop, or has as many as it is to.
///
/// # Errors
/// The socket or the folder can't be had. What happens later is news.
pub fn receive_one_way(
    settings: OneWay,
    stop: &Stop,
    mut news: impl FnMut(OneWayNews),
) -> Result<OneWaySummary, NodeError> {
    if settings.group.is_ipv4() != settings.source.is_ipv4() {
        return Err(NodeError::Family);
    }
    let (hidden, _lock) = lock(&settings.folder)?;
    let socket = Arc::new(listening(settings.group, settings.interface)?);
    let ours = Stop::new().map_err(NodeError::Socket)?;
    let intake = Intake::start(Arc::clone(&socket), [stop.clone(), ours.clone()])?;
    news(OneWayNews::Listening);
    let shelf = Folder { path: settings.folder, parts: Parts::new(hidden, settings.tsi) };
    let mut arrivals = Arrivals::open(shelf, settings.tsi, Limits::default());
    let begun = Instant::now();
    let foreign = run(&mut arrivals, &intake, settings.source, settings.count, begun, &mut news);
    arrivals.tick(begun.elapsed());
    let ((received, refused), counters) = (arrivals.counts(), *arrivals.counters());
    let overrun = intake.overrun();
    ours.stop();
    intake.join();
    Ok(OneWaySummary { received, refused, counters, foreign, overrun })
}

/// Feeds the session from the socket's queue, until that ends or enough was received. Returns how many datagrams came from
/// elsewhere.
fn run(
    arrivals: &mut Arrivals<Folder>,
    intake: &Intake,
    source: IpAddr,
    count: Option<u64>,
    begun: Instant,
    news: &mut impl FnMut(OneWayNews),
) -> u64 {
    let (mut tick, mut foreign) = (Duration::ZERO, 0);
    loop {
        let now = begun.elapsed();
        if now >= tick {
            tick = now + TICK;
            arrivals.tick(now);
        }
        while let Some(step) = arrivals.poll_step() {
            news(told(step));
        }
        if count.is_some_and(|count| arrivals.counts().0 >= count) {
            return foreign;
        }
        match intake.datagrams.recv_timeout(tick.saturating_sub(now)) {
            Ok((from, datagram)) if from.ip() == source => arrivals.handle(&datagram),
            Ok(_) => foreign += 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return foreign,
        }
    }
}

fn told(step: Step<PathBuf>) -> OneWayNews {
    match step {
        Step::Begun(object, size) => OneWayNews::Begun { object, size },
        Step::Progress { object, name, held, size, per_second, left } => {
            OneWayNews::Progress { object, name, held, size, per_second, left }
        }
        Step::Received { object, size, verified, kept } => {
            OneWayNews::Received { object, path: kept, size, verified }
        }
        Step::Refused { object, why, .. } => OneWayNews::Refused { object, why },
        Step::Ended => OneWayNews::Ended,
    }
}

/// A node's folder as the place where files go.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    parts: Parts,
}

impl Shelf for Folder {
    type Kept = PathBuf;

    fn begin(&mut self, _: u64, _: u64) -> Result<(), OneWayRefusal> {
        Ok(())
    }

    fn decide(&mut self, toi: u64, file: &flute::File) {
        self.parts.decide(toi, file);
    }

    fn left(&mut self, toi: u64) -> Option<Record> {
        self.parts.left(toi)
    }

    fn checkpoint(&mut self, toi: u64, record: &Record) -> io::Result<()> {
        self.parts.checkpoint(toi, record)
    }

    fn finish(&mut self, toi: u64, size: u64, file: &flute::File) -> Result<PathBuf, OneWayRefusal> {
        let name = self.parts.verify(toi, size, file)?;
        let target = self.path.join(name.as_str());
        self.parts.place(toi, &target)?;
        self.parts.close(toi);
        Ok(target)
    }

    fn discard(&mut self, toi: u64) {
        self.parts.discard(toi);
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.parts.failure()
    }
}

impl Storage<u64> for Folder {
    fn write(&mut self, toi: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        self.parts.write(toi, offset, bytes)
    }

    fn read(&mut self, toi: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        self.parts.read(toi, offset, out)
    }
}

/// Between checkpoints, and between news of progress: what a crash costs.
const TICK: Duration = Duration::from_secs(1);

//! A receiver of FLUTE (RFC 6726): nothing is said back, the sender repeats what it sends, or codes it.
//!
//! ```text
//!  FOLDER/.millrace/7-3.flute, 7-3.have   session 7, object 3: its bytes in their places, and what of them is missing
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use millrace_hub::flute::{self, Counters, Limits, Oti, Receiver, Report};
use millrace_hub::session::{Storage, Unstored};
use millrace_hub_store::Label;
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::intake::Intake;
use crate::meter::Meter;
use crate::part::Part;
use crate::pieces::lock;
use crate::socket::{Interface, listening};
use crate::stop::Stop;

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
    news: impl FnMut(OneWayNews),
) -> Result<OneWaySummary, NodeError> {
    if settings.group.is_ipv4() != settings.source.is_ipv4() {
        return Err(NodeError::Family);
    }
    let (hidden, _lock) = lock(&settings.folder)?;
    let socket = Arc::new(listening(settings.group, settings.interface)?);
    let ours = Stop::new().map_err(NodeError::Socket)?;
    let intake = Intake::start(Arc::clone(&socket), [stop.clone(), ours.clone()])?;
    let mut node = Node {
        receiver: Receiver::new(settings.tsi, Limits::default()),
        parts: Parts { hidden, tsi: settings.tsi, open: BTreeMap::new(), failed: None },
        folder: settings.folder,
        described: BTreeMap::new(),
        arriving: BTreeMap::new(),
        news,
        begun: Instant::now(),
        summary: OneWaySummary::default(),
    };
    (node.news)(OneWayNews::Listening);
    node.run(&intake, settings.source, settings.count);
    node.checkpoint();
    node.summary.overrun = intake.overrun();
    node.summary.counters = *node.receiver.counters();
    ours.stop();
    intake.join();
    Ok(node.summary)
}

/// A file that is arriving.
#[derive(Debug)]
struct Arriving {
    oti: Oti,
    meter: Meter,
    complete: bool,
}

struct Node<F> {
    receiver: Receiver,
    parts: Parts,
    folder: PathBuf,
    /// What the sender's tables say of its objects.
    described: BTreeMap<u64, flute::File>,
    arriving: BTreeMap<u64, Arriving>,
    news: F,
    begun: Instant,
    summary: OneWaySummary,
}

impl<F: FnMut(OneWayNews)> Node<F> {
    fn run(&mut self, intake: &Intake, source: IpAddr, count: Option<u64>) {
        let mut tick = Duration::ZERO;
        while count.is_none_or(|count| self.summary.received < count) {
            let now = self.begun.elapsed();
            if now >= tick {
                tick = now + TICK;
                self.checkpoint();
                self.progress(now);
            }
            match intake.datagrams.recv_timeout(tick.saturating_sub(now)) {
                Ok((from, datagram)) if from.ip() == source => {
                    self.receiver.handle(&datagram, &mut self.parts);
                    self.reports();
                }
                Ok(_) => self.summary.foreign += 1,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reports(&mut self) {
        while let Some(report) = self.receiver.poll_event() {
            match report {
                Report::Begun { toi, oti } => self.begins(toi, oti),
                Report::Table(table) => {
                    for file in table.files {
                        let toi = file.toi;
                        self.parts.decide(toi, &file);
                        self.described.insert(toi, file);
                        self.go_on(toi);
                    }
                    while self.described.len() > DESCRIBED_MAX {
                        self.described.pop_first();
                    }
                }
                Report::Complete(toi) => {
                    if let Some(arriving) = self.arriving.get_mut(&toi) {
                        arriving.complete = true;
                    }
                }
                Report::GivenUp(toi) => {
                    self.arriving.remove(&toi);
                    self.parts.discard(toi);
                    self.summary.refused += 1;
                    (self.news)(OneWayNews::Refused { object: toi, why: OneWayRefusal::Crowded });
                }
                // It is kept: the sender may send it once more.
                Report::Closed(_) => {}
                Report::Ended => (self.news)(OneWayNews::Ended),
            }
        }
        let whole = |(toi, arriving): (&u64, &Arriving)| {
            (arriving.complete && self.described.contains_key(toi)).then_some(*toi)
        };
        let whole: Vec<_> = self.arriving.iter().filter_map(whole).collect();
        whole.into_iter().for_each(|toi| self.finish(toi));
        if let Some(error) = self.parts.failed.take() {
            tracing::warn!(%error, "what arrives can't be written or read back");
        }
    }

    fn begins(&mut self, toi: u64, oti: Oti) {
        self.arriving.insert(toi, Arriving { oti, meter: Meter::default(), complete: false });
        (self.news)(OneWayNews::Begun { object: toi, size: oti.size() });
        self.go_on(toi);
    }

    /// Once it is known what a file that is arriving is, goes on with what is left of it from an earlier run.
    fn go_on(&mut self, toi: u64) {
        let (Some(arriving), Some(file)) = (self.arriving.get(&toi), self.described.get(&toi)) else {
            return;
        };
        self.parts.decide(toi, file);
        let Some(record) = self.parts.left(toi) else { return };
        if record.what != What::of(&arriving.oti, file) {
            return;
        }
        for (id, _, _) in arriving.oti.source_symbols().filter(|(id, _, _)| record.has(id.block, id.symbol)) {
            self.receiver.recovered(toi, id);
        }
    }

    fn finish(&mut self, toi: u64) {
        let (Some(arriving), Some(file)) = (self.arriving.remove(&toi), self.described.get(&toi)) else {
            return;
        };
        let size = arriving.oti.size();
        match self.parts.finish(toi, size, file, &self.folder) {
            Ok(path) => {
                self.summary.received += 1;
                (self.news)(OneWayNews::Received { object: toi, path, size, verified: file.md5.is_some() });
            }
            Err(why) => {
                self.summary.refused += 1;
                self.parts.discard(toi);
                if matches!(why, OneWayRefusal::Wrong | OneWayRefusal::Disk(_)) {
                    self.receiver.forget(toi);
                }
                (self.news)(OneWayNews::Refused { object: toi, why });
            }
        }
    }

    /// Keeps what has come, so that a crash doesn't lose it.
    fn checkpoint(&mut self) {
        for (toi, arriving) in &self.arriving {
            // Without a name nobody could tell later what it is.
            let Some(file) = self.described.get(toi) else { continue };
            let missing = self.receiver.missing(*toi).unwrap_or_default();
            let record = Record { what: What::of(&arriving.oti, file), missing };
            if let Err(error) = self.parts.checkpoint(*toi, &record) {
                tracing::warn!(%error, "what has arrived can't be made durable");
            }
        }
    }

    fn progress(&mut self, now: Duration) {
        for (toi, arriving) in &mut self.arriving {
            let missing = self.receiver.missing(*toi).unwrap_or_default();
            let stretches = missing.iter().flat_map(|(_, stretches)| stretches);
            let symbols: u64 = stretches.map(|(first, last)| u64::from(last - first) + 1).sum();
            let size = arriving.oti.size();
            let held = size.saturating_sub(symbols * arriving.oti.symbol_len() as u64);
            arriving.meter.note(now, held);
            let (per_second, left) = (arriving.meter.per_second(), arriving.meter.left(size));
            let name = self.described.get(toi).map(|file| last(&file.location).to_owned());
            (self.news)(OneWayNews::Progress { object: *toi, name, held, size, per_second, left });
        }
    }
}

/// What a file is, as far as that can be told before it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct What {
    location: String,
    md5: Option<String>,
    size: u64,
    symbol: usize,
    blocks: u32,
    code: u8,
}

impl What {
    fn of(oti: &Oti, file: &flute::File) -> Self {
        Self {
            location: file.location.clone(),
            md5: file.md5.clone(),
            size: oti.size(),
            symbol: oti.symbol_len(),
            blocks: oti.blocks(),
            code: oti.codepoint(),
        }
    }
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    what: What,
    /// Blocks, and the first and last of each stretch of symbols that aren't there.
    missing: Vec<(u32, Vec<(u32, u32)>)>,
}

impl Record {
    fn has(&self, block: u32, symbol: u32) -> bool {
        let Ok(at) = self.missing.binary_search_by_key(&block, |(block, _)| *block) else { return true };
        !self.missing[at].1.iter().any(|(first, last)| (*first..=*last).contains(&symbol))
    }
}

/// The files of what is arriving.
#[derive(Debug)]
struct Parts {
    hidden: PathBuf,
    tsi: u64,
    open: BTreeMap<u64, Open>,
    /// The first error of the disk since somebody asked.
    failed: Option<io::Error>,
}

#[derive(Debug)]
struct Open {
    part: Part,
    /// What an earlier run left.
    left: Option<Record>,
    /// Whether it isn't known yet if that is of this file: nothing may be written into it before.
    undecided: bool,
}

impl Parts {
    fn path(&self, toi: u64, ending: &str) -> PathBuf {
        self.hidden.join(format!("{}-{toi}.{ending}", self.tsi))
    }

    fn open(&mut self, toi: u64) -> io::Result<&mut Open> {
        if !self.open.contains_key(&toi) {
            let left = fs::read(self.path(toi, "have")).ok();
            let left = left.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            let part = Part::open(self.path(toi, "flute"))?;
            let left = left.filter(|record| part.has_length(record.what.size));
            if left.is_none() {
                part.set_len(0)?;
            }
            let undecided = left.is_some();
            self.open.insert(toi, Open { part, left, undecided });
        }
        Ok(self.open.get_mut(&toi).expect("just put there"))
    }

    /// It is known what an object is: what an earlier run left of it is kept, what it left of another isn't.
    fn decide(&mut self, toi: u64, file: &flute::File) {
        let record = self.path(toi, "have");
        if !record.exists() {
            return;
        }
        match self.open(toi) {
            Ok(open) if open.undecided => {
                open.undecided = false;
                let same = |what: &What| what.location == file.location && what.md5 == file.md5;
                if open.left.as_ref().is_some_and(|left| same(&left.what)) {
                    return;
                }
                open.left = None;
                if let Err(error) = open.part.set_len(0) {
                    self.failed.get_or_insert(error);
                }
            }
            Ok(_) => return,
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
        remove(&record);
    }

    /// What an earlier run left of an object, once.
    fn left(&mut self, toi: u64) -> Option<Record> {
        let open = self.open.get_mut(&toi).filter(|open| !open.undecided)?;
        open.left.take()
    }

    fn checkpoint(&mut self, toi: u64, record: &Record) -> io::Result<()> {
        let (new, path) = (self.path(toi, "new"), self.path(toi, "have"));
        let Some(open) = self.open.get_mut(&toi).filter(|open| !open.undecided) else { return Ok(()) };
        if !open.part.changed && path.exists() {
            return Ok(());
        }
        if !open.part.has_length(record.what.size) {
            open.part.allocate(record.what.size)?;
        }
        open.part.sync()?;
        fs::write(&new, serde_json::to_vec(record)?)?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, path)
    }

    /// All has come: verifies it, and puts it under its name.
    fn finish(
        &mut self,
        toi: u64,
        size: u64,
        file: &flute::File,
        folder: &Path,
    ) -> Result<PathBuf, OneWayRefusal> {
        let name = Label::name(last(&file.location));
        let name = name.ok_or_else(|| OneWayRefusal::Name(file.location.clone()))?;
        if let Some(encoding) = file.encoding.as_deref().filter(|encoding| *encoding != "null") {
            return Err(OneWayRefusal::Encoded(encoding.to_owned()));
        }
        if let Some(described) = file.length.filter(|described| *described != size) {
            return Err(OneWayRefusal::Size { sent: size, described });
        }
        let open = self.open(toi)?;
        // Of another file that had its number there may be more.
        open.part.set_len(size)?;
        if let Some(md5) = &file.md5 {
            let mut hasher = Md5::new();
            let mut bytes = vec![0; PIECE as usize];
            let mut at = 0;
            while at < size {
                let len = (size - at).min(PIECE) as usize;
                open.part.read(at, &mut bytes[..len])?;
                hasher.update(&bytes[..len]);
                at += len as u64;
            }
            if STANDARD.encode(hasher.finalize()) != md5.trim() {
                return Err(OneWayRefusal::Wrong);
            }
        }
        open.part.sync()?;
        let target = folder.join(name.as_str());
        open.part.place(&target)?;
        File::open(folder)?.sync_all()?;
        self.open.remove(&toi);
        remove(&self.path(toi, "have"));
        Ok(target)
    }

    fn discard(&mut self, toi: u64) {
        self.open.remove(&toi);
        remove(&self.path(toi, "have"));
        remove(&self.path(toi, "flute"));
    }
}

impl Storage<u64> for Parts {
    fn write(&mut self, toi: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        let open = match self.open(toi) {
            Ok(open) if !open.undecided => open,
            // It may be of another file, which has the same number: the table tells, and comes soon.
            Ok(_) => return Err(Unstored),
            Err(error) => {
                self.failed.get_or_insert(error);
                return Err(Unstored);
            }
        };
        open.part.write(offset, bytes).map_err(|error| {
            self.failed.get_or_insert(error);
            Unstored
        })
    }

    fn read(&mut self, toi: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        let read = self.open(toi).and_then(|open| open.part.read(offset, out));
        read.map_err(|error| {
            self.failed.get_or_insert(error);
            Unstored
        })
    }
}

/// What follows the last slash of a location, without a query.
fn last(location: &str) -> &str {
    let path = location.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(?path, %error, "a file can't be removed");
    }
}

/// Between checkpoints, and between news of progress: what a crash costs.
const TICK: Duration = Duration::from_secs(1);
/// Bytes that are hashed at once.
const PIECE: u64 = 1 << 20;
/// Files that tables have named and that are remembered.
const DESCRIBED_MAX: usize = 4096;

//! Files that come by FLUTE in one session: a state machine without socket, threads and clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

use millrace_hub::flute::{self, Counters, Limits, Oti, Receiver, Report};
use millrace_hub::session::{Storage, Unstored};

use super::OneWayRefusal;
use super::location::last;
use super::parts::{Record, What};
use crate::meter::Meter;

/// Where files go that arrive.
pub(crate) trait Shelf: Storage<u64> {
    /// A file that is there and verified.
    type Kept;

    /// A file of so many bytes begins, and it is known what it is. What was written of it before may be in memory, until
    /// [`Shelf::bring_early`]. One that is refused is discarded, and nothing of it is written until it is discarded once more.
    fn begin(&mut self, toi: u64, size: u64) -> Result<(), OneWayRefusal>;

    /// Puts what was written of a file before it began in its place.
    fn bring_early(&mut self, toi: u64) -> Result<(), Unstored> {
        let _ = toi;
        Ok(())
    }

    /// Gives back the room of what hasn't come of a file, until more of it comes.
    fn release(&mut self, toi: u64, oti: &Oti, record: &Record) -> io::Result<()> {
        let _ = (toi, oti, record);
        Ok(())
    }

    /// It is known what an object is: what an earlier run left of it is kept, what it left of another isn't.
    fn decide(&mut self, toi: u64, file: &flute::File);

    /// What an earlier run left of an object, once.
    fn left(&mut self, toi: u64) -> Option<Record>;

    /// Makes what has come durable, then says so.
    fn checkpoint(&mut self, toi: u64, record: &Record) -> io::Result<()>;

    /// All has come: verifies it, and puts it under its name.
    fn finish(&mut self, toi: u64, size: u64, file: &flute::File) -> Result<Self::Kept, OneWayRefusal>;

    /// A file for which there was no room when more of it came, and why, since the last call.
    fn refusal(&mut self) -> Option<(u64, OneWayRefusal)> {
        None
    }

    /// Whether what can't be finished for this reason is tried again.
    fn tries_again(&self, why: &OneWayRefusal) -> bool {
        let _ = why;
        false
    }

    /// Forgets an object that isn't wanted or won't come.
    fn discard(&mut self, toi: u64);

    /// The first error of the disk since the last call.
    fn failure(&mut self) -> Option<io::Error>;
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Step<K> {
    /// A file begins, or goes on: its number and its bytes.
    Begun(u64, u64),
    /// How far a file is.
    Progress {
        object: u64,
        name: Option<String>,
        held: u64,
        size: u64,
        per_second: Option<f64>,
        left: Option<Duration>,
    },
    /// A file is here; whether its MD5 is the one that the sender named.
    Received { object: u64, size: u64, verified: bool, kept: K },
    /// A file isn't taken. If it was wrong, it is received anew.
    Refused { object: u64, name: Option<String>, why: OneWayRefusal },
    /// The sender ends the session.
    Ended,
}

/// A file that is arriving.
#[derive(Debug)]
struct Arriving {
    oti: Oti,
    meter: Meter,
    /// Whether it is known what it is, and there was room for it.
    begun: bool,
    /// There was no room for it: it comes anew some time later.
    put_off: bool,
    complete: bool,
    /// All of it came, and couldn't be finished.
    stuck: bool,
}

impl Arriving {
    fn new(oti: Oti) -> Self {
        let meter = Meter::default();
        Self { oti, meter, begun: false, put_off: false, complete: false, stuck: false }
    }
}

/// What arrives in a session.
#[derive(Debug)]
pub(crate) struct Arrivals<S: Shelf> {
    receiver: Receiver,
    shelf: S,
    /// What the sender's tables say of its objects.
    described: BTreeMap<u64, flute::File>,
    arriving: BTreeMap<u64, Arriving>,
    /// Those that there was no room for, and it was told.
    told: BTreeSet<u64>,
    steps: VecDeque<Step<S::Kept>>,
    received: u64,
    refused: u64,
}

impl<S: Shelf> Arrivals<S> {
    /// Goes on where the last run was: with what the shelf has kept.
    pub(crate) fn open(shelf: S, tsi: u64, limits: Limits) -> Self {
        Self {
            receiver: Receiver::new(tsi, limits),
            shelf,
            described: BTreeMap::new(),
            arriving: BTreeMap::new(),
            told: BTreeSet::new(),
            steps: VecDeque::new(),
            received: 0,
            refused: 0,
        }
    }

    /// A datagram came from the sender.
    pub(crate) fn handle(&mut self, datagram: &[u8]) {
        self.receiver.handle(datagram, &mut self.shelf);
        self.reports();
    }

    /// What happened since the last call.
    pub(crate) fn poll_step(&mut self) -> Option<Step<S::Kept>> {
        self.steps.pop_front()
    }

    /// To be called once a second: keeps what has come, so that a crash doesn't lose it, and tells how far it is.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.checkpoint();
        let stuck = self.arriving.iter().filter(|(_, arriving)| arriving.stuck);
        let stuck: Vec<_> = stuck.map(|(toi, _)| *toi).collect();
        stuck.into_iter().for_each(|toi| self.finish(toi));
        let put_off = self.arriving.iter().filter(|(_, arriving)| arriving.put_off);
        let put_off: Vec<_> = put_off.map(|(toi, _)| *toi).collect();
        put_off.into_iter().for_each(|toi| self.anew(toi));
        self.progress(now);
        self.rest(now);
    }

    /// The session ends, for now: what hasn't come takes no room any more. With `nothing_new`, it has brought nothing, and files of
    /// which nothing has come aren't remembered.
    pub(crate) fn leave(&mut self, nothing_new: bool) {
        for (toi, arriving) in std::mem::take(&mut self.arriving) {
            let missing = self.receiver.missing(toi).unwrap_or_default();
            // What an earlier run may have left of one that no table has named yet stays.
            let Some(file) = self.described.get(&toi) else { continue };
            let record = Record { what: What::of(&arriving.oti, file), missing };
            if nothing_new
                && lacking(&record.missing) == arriving.oti.size().div_ceil(arriving.oti.symbol_len() as u64)
            {
                self.shelf.discard(toi);
            } else if let Err(error) = self.shelf.release(toi, &arriving.oti, &record) {
                tracing::warn!(%error, "room can't be given back");
            }
        }
    }

    /// Where files go.
    pub(crate) fn shelf_mut(&mut self) -> &mut S {
        &mut self.shelf
    }

    /// Files received, and refused.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.received, self.refused)
    }

    /// Whether a file is arriving that is known and wanted.
    pub(crate) fn is_promising(&self) -> bool {
        self.arriving.keys().any(|toi| self.described.contains_key(toi))
    }

    /// What the session counted.
    pub(crate) fn counters(&self) -> &Counters {
        self.receiver.counters()
    }

    fn reports(&mut self) {
        while let Some(report) = self.receiver.poll_event() {
            match report {
                Report::Begun { toi, oti } => self.begins(toi, oti),
                Report::Table(table) => {
                    for file in table.files {
                        let toi = file.toi;
                        self.shelf.decide(toi, &file);
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
                    self.shelf.discard(toi);
                    self.refuse(toi, OneWayRefusal::Crowded);
                }
                // It is kept: the sender may send it once more.
                Report::Closed(_) => {}
                Report::Ended => self.steps.push_back(Step::Ended),
            }
        }
        let whole = |(toi, arriving): (&u64, &Arriving)| {
            (arriving.complete && arriving.begun && !arriving.stuck && self.described.contains_key(toi))
                .then_some(*toi)
        };
        let whole: Vec<_> = self.arriving.iter().filter_map(whole).collect();
        whole.into_iter().for_each(|toi| self.finish(toi));
        while let Some((toi, why)) = self.shelf.refusal() {
            self.refuse(toi, why);
        }
        if let Some(error) = self.shelf.failure() {
            tracing::warn!(%error, "what arrives can't be written or read back");
        }
    }

    fn begins(&mut self, toi: u64, oti: Oti) {
        self.arriving.insert(toi, Arriving::new(oti));
        self.steps.push_back(Step::Begun(toi, oti.size()));
        self.go_on(toi);
    }

    /// Takes room for a file of which it is known now what it is. Whether it is arriving then.
    fn take_room(&mut self, toi: u64) -> bool {
        let Some(arriving) = self.arriving.get_mut(&toi) else { return false };
        if arriving.begun || arriving.put_off {
            return arriving.begun;
        }
        match self.shelf.begin(toi, arriving.oti.size()) {
            Ok(()) => {
                arriving.begun = true;
                self.told.remove(&toi);
                true
            }
            Err(why) if self.shelf.tries_again(&why) => {
                arriving.put_off = true;
                while self.told.len() >= DESCRIBED_MAX {
                    self.told.pop_first();
                }
                if self.told.insert(toi) {
                    self.refuse(toi, why);
                }
                false
            }
            Err(why) => {
                self.arriving.remove(&toi);
                self.refuse(toi, why);
                false
            }
        }
    }

    /// Has a file come anew, with all that came of it.
    fn anew(&mut self, toi: u64) {
        self.arriving.remove(&toi);
        self.shelf.discard(toi);
        self.receiver.forget(toi);
    }

    fn refuse(&mut self, toi: u64, why: OneWayRefusal) {
        self.refused += 1;
        let name = self.name(toi);
        self.steps.push_back(Step::Refused { object: toi, name, why });
    }

    fn name(&self, toi: u64) -> Option<String> {
        self.described.get(&toi).map(|file| last(&file.location))
    }

    /// Once it is known what a file that is arriving is, goes on with what is left of it from an earlier run.
    fn go_on(&mut self, toi: u64) {
        if !self.described.contains_key(&toi) || !self.take_room(toi) {
            return;
        }
        let (Some(arriving), Some(file)) = (self.arriving.get(&toi), self.described.get(&toi)) else {
            return;
        };
        self.shelf.decide(toi, file);
        let left = self.shelf.left(toi);
        if self.shelf.bring_early(toi).is_err() {
            return self.anew(toi);
        }
        let Some(record) = left.filter(|record| record.what == What::of(&arriving.oti, file)) else { return };
        for (id, _, _) in arriving.oti.source_symbols().filter(|(id, _, _)| record.has(id.block, id.symbol)) {
            self.receiver.recovered(toi, id);
        }
    }

    fn finish(&mut self, toi: u64) {
        let (Some(arriving), Some(file)) = (self.arriving.get_mut(&toi), self.described.get(&toi)) else {
            return;
        };
        let size = arriving.oti.size();
        match self.shelf.finish(toi, size, file) {
            Ok(kept) => {
                self.received += 1;
                self.arriving.remove(&toi);
                let verified = file.md5.is_some();
                self.steps.push_back(Step::Received { object: toi, size, verified, kept });
            }
            Err(why) if self.shelf.tries_again(&why) => {
                if !std::mem::replace(&mut arriving.stuck, true) {
                    let name = self.name(toi);
                    self.steps.push_back(Step::Refused { object: toi, name, why });
                }
            }
            Err(why) => {
                self.arriving.remove(&toi);
                self.shelf.discard(toi);
                if matches!(why, OneWayRefusal::Wrong | OneWayRefusal::Disk(_)) {
                    self.receiver.forget(toi);
                }
                self.refuse(toi, why);
            }
        }
    }

    /// Keeps what has come, so that a crash doesn't lose it.
    pub(crate) fn checkpoint(&mut self) {
        for (toi, arriving) in &self.arriving {
            // Without a name nobody could tell later what it is.
            let Some(file) = self.described.get(toi).filter(|_| arriving.begun) else { continue };
            let missing = self.receiver.missing(*toi).unwrap_or_default();
            let record = Record { what: What::of(&arriving.oti, file), missing };
            if let Err(error) = self.shelf.checkpoint(*toi, &record) {
                tracing::warn!(%error, "what has arrived can't be made durable");
            }
        }
    }

    /// What nothing has come of for long keeps no room from others.
    fn rest(&mut self, now: Duration) {
        let stalled =
            |arriving: &Arriving| arriving.begun && !arriving.stuck && arriving.meter.is_stalled(now);
        for (toi, arriving) in self.arriving.iter().filter(|(_, arriving)| stalled(arriving)) {
            let Some(file) = self.described.get(toi) else { continue };
            let missing = self.receiver.missing(*toi).unwrap_or_default();
            let record = Record { what: What::of(&arriving.oti, file), missing };
            if let Err(error) = self.shelf.release(*toi, &arriving.oti, &record) {
                tracing::warn!(%error, "room can't be given back");
            }
        }
    }

    fn progress(&mut self, now: Duration) {
        for (toi, arriving) in &mut self.arriving {
            let missing = self.receiver.missing(*toi).unwrap_or_default();
            let symbols = lacking(&missing);
            let size = arriving.oti.size();
            let held = size.saturating_sub(symbols * arriving.oti.symbol_len() as u64);
            arriving.meter.note(now, held);
            let (per_second, left) = (arriving.meter.per_second(), arriving.meter.left(size));
            let name = self.described.get(toi).map(|file| last(&file.location));
            self.steps.push_back(Step::Progress { object: *toi, name, held, size, per_second, left });
        }
    }
}

/// Symbols that are missing.
pub(super) fn lacking(missing: &flute::Missing) -> u64 {
    let stretches = missing.iter().flat_map(|(_, stretches)| stretches);
    stretches.map(|(first, last)| u64::from(last - first) + 1).sum()
}

/// Files that tables have named and that are remembered.
const DESCRIBED_MAX: usize = 4096;

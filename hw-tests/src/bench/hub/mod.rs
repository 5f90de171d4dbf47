//! A file to three receivers at 100 Mb/s, of which each loses some: how long it takes, and what the links carry for it.
//!
//! ```text
//!   each round:  no loss │ 1 % │ 5 % │ 5 % at the first receiver alone     in turn: ours, UFTP, NORM
//! ```
//!
//! Ours is an appliance as the hub, by BIER to another one as access switch, whose legs have a bit each; and, for `hub.ethernet.*`, the
//! same hub on a plain bridge, where repairs are frames to one receiver's address.
//!
//! Time is from the first data on the trunk until the last receiver has the file, announcements before it not counted: UFTP's
//! would be against it. The rate is that of Ethernet frames on a leg, the same for all; on the trunk BIER's header comes on top.
//!
//! What a leg carried is counted by frames of data ([`site`]), and a repair is what it carried beyond the same contender's
//! frames without loss in the same round. On the trunk and upwards every byte counts.

mod contender;
mod ours;
mod peers;
pub(super) mod send;
mod simulated;
mod site;
mod transfer;

use std::path::Path;

use super::report::{Better, Entry, Report};
use super::{BenchError, BenchOptions, ROUNDS_MIN, binary};
use crate::lab::LabError;
use contender::Contender;
use ours::{Carriage, Hub};
use peers::{Norm, Uftp};
use site::{Leg, Loss, NODES};
use transfer::{Outcome, Source, transfer};

/// What the names of these entries begin with.
pub(super) const PREFIX: &str = "hub";

/// Who loses how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Clean,
    OnePercent,
    FivePercent,
    /// 5 % at the first receiver, nothing at the others.
    OneReceiver,
}

impl Case {
    const ALL: [Case; 4] = [Case::Clean, Case::OnePercent, Case::FivePercent, Case::OneReceiver];

    fn loss(self) -> Loss {
        match self {
            Case::Clean => [0; NODES],
            Case::OnePercent => [10; NODES],
            Case::FivePercent => [50; NODES],
            Case::OneReceiver => [50, 0, 0],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Case::Clean => "no loss",
            Case::OnePercent => "1 %",
            Case::FivePercent => "5 %",
            Case::OneReceiver => "5 % at one",
        }
    }
}

/// The entries of transfers.
const NAMES: [&str; 12] = [
    "hub.time.1pct.uftp",
    "hub.time.1pct.norm",
    "hub.time.5pct.uftp",
    "hub.time.5pct.norm",
    "hub.clean_leg_repair.uftp",
    "hub.clean_leg_repair.norm",
    "hub.leg_repair_over_own_loss",
    "hub.trunk_repair",
    "hub.feedback_share",
    "hub.ethernet.clean_leg_repair",
    "hub.ethernet.leg_repair_over_own_loss",
    "hub.ethernet.trunk_repair",
];

/// How many take part.
const CONTENDERS: usize = 4;

/// What links carried, in bytes, for a file by UFTP; for those who show it beside ours.
pub(crate) struct Beside {
    pub(crate) seconds: f64,
    pub(crate) trunk: u64,
    pub(crate) legs: [u64; NODES],
}

/// Sends a file of this size to three receivers by UFTP.
pub(crate) fn by_uftp(size: usize, loss: [u32; NODES]) -> Result<Beside, LabError> {
    let source = Source::new(size)?;
    let Outcome { took, traffic, .. } = transfer(&Uftp, &source, loss)?;
    let mut legs = [0; NODES];
    legs.iter_mut().zip(&traffic.legs).for_each(|(bytes, leg)| *bytes = leg.link.down);
    Ok(Beside { seconds: took.as_secs_f64(), trunk: traffic.trunk.down, legs })
}

/// Measures what is wanted.
pub(super) fn measure(options: &BenchOptions, report: &mut Report) -> Result<(), BenchError> {
    simulated::measure(options, report);
    if !NAMES.iter().any(|name| options.wants(name)) {
        return Ok(());
    }
    let source = Source::new(options.file_bytes)?;
    let _buffers = Buffers::allow()?;
    let norm = Norm::build(&source.folder)?;
    let by = |carriage| -> Result<Hub, BenchError> { Ok(Hub { binary: binary()?, carriage }) };
    let (bier, ethernet) = (by(Carriage::Bier)?, by(Carriage::Ethernet)?);
    let contenders: [&dyn Contender; CONTENDERS] = [&bier, &Uftp, &norm, &ethernet];
    let mut figures = [const { Vec::new() }; CONTENDERS];
    for round in 0..options.rounds.clamp(ROUNDS_MIN, ROUNDS_MAX) {
        let mut rounds = [const { Vec::new() }; CONTENDERS];
        for case in Case::ALL {
            for (contender, outcomes) in contenders.into_iter().zip(&mut rounds) {
                let outcome = measured(contender, &source, case)?;
                let line = line(&outcome, outcomes.first().unwrap_or(&outcome));
                eprintln!("round {}: hub, {}, {}: {line}", round + 1, contender.name(), case.name());
                outcomes.push(outcome);
            }
        }
        for (figures, outcomes) in figures.iter_mut().zip(rounds) {
            figures.push(Round::of(&outcomes, &source));
        }
    }
    add_entries(&figures, report);
    Ok(())
}

/// A transfer; without losses, one in which nothing was lost, for others are held against it.
fn measured(contender: &dyn Contender, source: &Source, case: Case) -> Result<Outcome, BenchError> {
    let copy = (source.bytes.len() as u64).div_ceil(contender.segment());
    for _ in 0..TRIES_MAX {
        let outcome = transfer(contender, source, case.loss())?;
        let carried: Vec<u64> = outcome.traffic.legs.iter().map(|leg| leg.data.count).collect();
        if case != Case::Clean || carried.iter().all(|count| *count == copy) {
            return Ok(outcome);
        }
        eprintln!("hub, {}: again, for legs carried {carried:?} frames, not {copy}", contender.name());
    }
    let why = "the machine is too busy for a transfer without losses".to_owned();
    Err(BenchError::Fate { name: format!("{PREFIX}, {}", contender.name()), why })
}

/// Tries of a transfer without losses.
const TRIES_MAX: usize = 5;
/// A round takes three minutes: three tell what there is to tell.
const ROUNDS_MAX: usize = 3;

/// A contender's figures of a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    seconds_1pct: f64,
    seconds_5pct: f64,
    /// Bytes on the leg of a receiver that loses nothing.
    clean_leg_repair: f64,
    leg_repair_over_own_loss: f64,
    trunk_repair: f64,
    feedback_share: f64,
}

impl Round {
    fn of(outcomes: &[Outcome], source: &Source) -> Round {
        let of = |case: Case| &outcomes[Case::ALL.iter().position(|one| *one == case).unwrap_or(0)];
        let (clean, five, one) = (of(Case::Clean), of(Case::FivePercent), of(Case::OneReceiver));
        let clean_legs = repairs(one, clean).skip(1).fold(0.0, f64::max);
        let own_loss = five.traffic.legs.iter().map(own_loss);
        let over_own_loss = repairs(five, clean).zip(own_loss).map(|(repair, loss)| repair / loss);
        Round {
            seconds_1pct: of(Case::OnePercent).took.as_secs_f64(),
            seconds_5pct: five.took.as_secs_f64(),
            clean_leg_repair: clean_legs,
            leg_repair_over_own_loss: over_own_loss.fold(0.0, f64::max),
            trunk_repair: beyond(five.traffic.trunk.down, clean.traffic.trunk.down),
            feedback_share: five.traffic.trunk.up as f64 / source.bytes.len() as f64,
        }
    }
}

fn beyond(bytes: u64, clean: u64) -> f64 {
    bytes as f64 - clean as f64
}

/// Bytes of data on each leg beyond one copy.
fn repairs<'a>(outcome: &'a Outcome, clean: &'a Outcome) -> impl Iterator<Item = f64> + 'a {
    let legs = outcome.traffic.legs.iter().zip(&clean.traffic.legs);
    legs.map(|(leg, clean)| beyond(leg.data.bytes, clean.data.bytes))
}

/// Bytes of data that a receiver has lost.
fn own_loss(leg: &Leg) -> f64 {
    // What a socket had no room for was data, too, by far the most of it.
    let frame = leg.data.bytes as f64 / leg.data.count.max(1) as f64;
    leg.lost.bytes as f64 + leg.overruns as f64 * frame
}

/// A line for the log.
fn line(outcome: &Outcome, clean: &Outcome) -> String {
    let Outcome { took, before, traffic } = outcome;
    let rate = traffic.trunk.down as f64 * 8.0 / took.as_secs_f64() / 1e6;
    let legs = repairs(outcome, clean).zip(&traffic.legs).map(|(repair, leg)| {
        let overruns = if leg.overruns > 0 { format!(", {} overruns", leg.overruns) } else { String::new() };
        format!(
            "{:.2} MB + {:.3} for {:.3} lost, {:.1} kB up{overruns}",
            (leg.data.bytes as f64 - repair) / 1e6,
            repair / 1e6,
            own_loss(leg) / 1e6,
            leg.link.up as f64 / 1e3,
        )
    });
    format!(
        "{:.2} s ({:.2} s before), trunk {:.2} MB + {:.3}, {rate:.1} Mb/s, {:.1} kB up; legs {}",
        took.as_secs_f64(),
        before.as_secs_f64(),
        clean.traffic.trunk.down as f64 / 1e6,
        beyond(traffic.trunk.down, clean.traffic.trunk.down) / 1e6,
        traffic.trunk.up as f64 / 1e3,
        legs.collect::<Vec<_>>().join("; "),
    )
}

fn add_entries(figures: &[Vec<Round>; CONTENDERS], report: &mut Report) {
    let [ours, uftp, norm, ethernet] = figures;
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
    let mut against = |name: &str, unit, peer: (&str, &[Round]), figure: fn(&Round) -> f64| {
        let (ours, theirs) = (of(ours, figure), of(peer.1, figure));
        report.add(Entry::against(name, unit, Better::Lower, &ours, (peer.0, &theirs)));
    };
    for (peer, rounds) in [("uftp", uftp), ("norm", norm)] {
        let peer_rounds = (peer, rounds.as_slice());
        against(&format!("hub.time.1pct.{peer}"), "s", peer_rounds, |round| round.seconds_1pct);
        against(&format!("hub.time.5pct.{peer}"), "s", peer_rounds, |round| round.seconds_5pct);
        let name = format!("hub.clean_leg_repair.{peer}");
        against(&name, "bytes", peer_rounds, |round| round.clean_leg_repair);
    }
    against("hub.trunk_repair", "bytes", ("norm", norm), |round| round.trunk_repair);
    against("hub.feedback_share", "share of data", ("norm", norm), |round| round.feedback_share);
    let mut alone = |name: &str, unit, rounds: &[Round], figure: fn(&Round) -> f64| {
        report.add(Entry::alone(name, unit, Better::Lower, &of(rounds, figure)));
    };
    let over_own_loss = |round: &Round| round.leg_repair_over_own_loss;
    alone("hub.leg_repair_over_own_loss", "ratio", ours, over_own_loss);
    alone("hub.ethernet.leg_repair_over_own_loss", "ratio", ethernet, over_own_loss);
    alone("hub.ethernet.clean_leg_repair", "bytes", ethernet, |round| round.clean_leg_repair);
    alone("hub.ethernet.trunk_repair", "bytes", ethernet, |round| round.trunk_repair);
}

/// The most that a socket may ask to hold, raised for as long as it is measured: peers ask, and don't insist.
struct Buffers {
    before: String,
}

const RMEM_MAX: &str = "/proc/sys/net/core/rmem_max";

impl Buffers {
    fn allow() -> Result<Buffers, BenchError> {
        let path = Path::new(RMEM_MAX);
        let before = std::fs::read_to_string(path).map_err(crate::lab::file(path))?;
        if before.trim().parse::<u64>().unwrap_or(0) < peers::BUFFER_BYTES {
            std::fs::write(path, peers::BUFFER_BYTES.to_string()).map_err(crate::lab::file(path))?;
        }
        Ok(Buffers { before })
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // It was written before, so it can be written.
        let _ = std::fs::write(RMEM_MAX, &self.before);
    }
}

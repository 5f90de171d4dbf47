//! `bier.recompute`: what following a change of one link costs a router of a BIER domain of 1 000.
//!
//! Every router speaks BIER and is a BFER; bit strings of 256 bits, so four sets, 16 tables each; a ring with chords, three
//! links for each router. Every other event is at a link of the router whose tables these are, which concerns the most. The
//! figure of a round is its worst event, by CPU time. Beside it is printed what computing from nothing costs.
//!
//! `bier.recompute.backups` and `bier.recompute.remote`: the same with the rows for failures of routers, by neighbours alone, and
//! by routers further away where no neighbour can stand in. Those rows are made anew with each event.

use std::hint::black_box;

use millrace_bier::bift::LinkId;
use millrace_bier::compute::{Computed, Options};
use millrace_bier::frr::{Protection, Repairs, protect};
use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::topology::{Domain, LinkSpec, RouterIndex, RouterSpec};

use super::report::{Better, Entry, Report, median};
use super::{BenchError, BenchOptions, ROUNDS_MIN, Sample};

/// Each with what stands ready for failures.
const NAMES: [(&str, Option<Repairs>); 3] = [
    ("bier.recompute", None),
    ("bier.recompute.backups", Some(Repairs { protection: Protection::Node, remote: false })),
    ("bier.recompute.remote", Some(Repairs { protection: Protection::Node, remote: true })),
];
const ROUTERS: u32 = 1000;
const LINKS: u32 = 3000;
/// Events of a round: each link goes down and comes back.
const EVENTS: u32 = 1000;
const OPTIONS: Options = Options { tables: 16, seed: 1 };

/// Adds the entries that are wanted.
pub(super) fn measure(options: &BenchOptions, report: &mut Report) -> Result<(), BenchError> {
    for (name, repairs) in NAMES {
        if options.wants(name) {
            measure_one(name, repairs, options, report)?;
        }
    }
    Ok(())
}

fn measure_one(
    name: &str,
    repairs: Option<Repairs>,
    options: &BenchOptions,
    report: &mut Report,
) -> Result<(), BenchError> {
    let mut below = random();
    let (mut domain, root) = domain(&mut below)?;
    let mut computed = Computed::new(&domain, root, OPTIONS);
    let whole = millis(|| {
        let computed = Computed::new(&domain, root, OPTIONS);
        stand_ready(&domain, &computed, repairs);
    });
    let (mut worst, mut all) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(ROUNDS_MIN) {
        let events = events(&mut domain, &mut computed, repairs, &mut below);
        worst.push(events.iter().copied().fold(0.0, f64::max));
        all.extend(events);
        if computed != Computed::new(&domain, root, OPTIONS) {
            let why = "the tables aren't those of the same links computed anew".to_owned();
            return Err(BenchError::Scene(why));
        }
    }
    eprintln!("{name}: median {:.3} ms, from nothing {whole:.3}", median(&all));
    report.add(Entry::alone(name, "ms, worst event", Better::Lower, &worst));
    Ok(())
}

/// Makes the rows for failures, if they are wanted. Each link is on a port of its own.
fn stand_ready(domain: &Domain, computed: &Computed, repairs: Option<Repairs>) {
    if let Some(repairs) = repairs {
        black_box(protect(domain, computed, repairs, |link| link.0));
    }
}

/// Links fail and come back; what each event costs.
fn events(
    domain: &mut Domain,
    computed: &mut Computed,
    repairs: Option<Repairs>,
    below: &mut impl FnMut(u32) -> u32,
) -> Vec<f64> {
    let ends = |at: &u32| domain.link(LinkId(*at)).is_some_and(|link| link.ends.contains(&computed.root()));
    let ours: Vec<u32> = (0..LINKS).filter(ends).collect();
    let mut events = Vec::new();
    for event in 0..EVENTS / 2 {
        let link = if event % 2 == 0 { ours[below(ours.len() as u32) as usize] } else { below(LINKS) };
        let before = domain.link(LinkId(link)).and_then(|link| link.costs);
        for costs in [None, before] {
            domain.set_link(LinkId(link), costs);
            events.push(millis(|| {
                black_box(computed.link_changed(domain, LinkId(link)));
                stand_ready(domain, computed, repairs);
            }));
        }
    }
    events
}

/// CPU time of this thread.
fn millis(work: impl FnOnce()) -> f64 {
    let sample = Sample::take(|| {
        work();
        1
    });
    sample.cpu_nanos as f64 / 1e6
}

fn domain(below: &mut impl FnMut(u32) -> u32) -> Result<(Domain, RouterIndex), BenchError> {
    let routers: Vec<_> = (0..ROUTERS)
        .map(|at| RouterSpec {
            prefix: Some([10, 0, (at >> 8) as u8, at as u8].into()),
            bfr_id: BfrId::new(at as u16 + 1),
            ..RouterSpec::bier(&format!("r{at}"))
        })
        .collect();
    let links: Vec<_> = (0..LINKS)
        .map(|at| {
            let (one, other) =
                if at < ROUTERS { (at, (at + 1) % ROUTERS) } else { (below(ROUTERS), below(ROUTERS)) };
            let other = if one == other { (other + 1) % ROUTERS } else { other };
            LinkSpec::new(&format!("r{one}"), &format!("r{other}"), 1 + below(10))
        })
        .collect();
    let (domain, found) = Domain::new(SubDomain(0), Bsl::B256, &routers, &links);
    match domain.router("r0") {
        Some(root) if found.is_empty() => Ok((domain, root)),
        _ => Err(BenchError::Scene(format!("the domain contradicts itself: {found:?}"))),
    }
}

/// Numbers below a bound, always the same.
fn random() -> impl FnMut(u32) -> u32 {
    let mut state = 0x5eed_u64;
    move |end| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(end)) as u32
    }
}

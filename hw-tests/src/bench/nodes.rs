//! One course per node: a worker with the tables it needs, in a circuit of frames that it is about.

use std::sync::Arc;

use millrace_bier::id::Bsl;
use millrace_dpdk::{DpdkDriver, Eal, TscClock};
use millrace_fastpath::fates::Fates;
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::tables::Tables;
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

use super::circuit::{Circuit, ROUND_FRAMES, Stimulus};
use super::scene::{self, SERVICE};
use super::stimulus::{Flows, Phase, PhaseSwitch, Queries, Replicated, Transit};
use super::{BenchError, Sample, open_port};

/// What the runner knows of a course.
pub(super) trait Course {
    /// Its fixed name.
    fn name(&self) -> &str;
    /// The course that it is compared with; testpmd if none.
    fn peer(&self) -> Option<&'static str>;
    /// Brings the tables into the state that is measured; quick if they are in it.
    fn prepare(&mut self) -> Result<(), BenchError>;
    /// The circuit without the worker.
    fn refill(&mut self, frames: u64) -> Sample;
    /// The circuit with the worker.
    fn worker(&mut self, frames: u64) -> Result<Sample, BenchError>;
}

/// What must become of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Forwarded,
    Answered,
    Held,
    Replicated,
}

/// What is to be done before frames are measured.
enum Preparation {
    None,
    /// Flows to be begun and answered once, then left alone.
    Flows {
        count: u64,
        phase: PhaseSwitch,
    },
    /// A new worker with an empty table, so that it never fills up; this many frames at most for the same reason.
    Afresh {
        frames_max: u64,
    },
}

struct NodeCourse<S: Stimulus> {
    name: String,
    peer: Option<&'static str>,
    fate: Fate,
    /// Flows that each frame begins: 0 or 1.
    flows_begun: u64,
    preparation: Preparation,
    eal: Eal,
    tables: Tables,
    stimulus: S,
    flows: usize,
    refill: Circuit<DpdkDriver, S>,
    worker: CircuitWorker<S>,
    shared: Arc<Shared>,
}

const SERVICE_HIT: &str = "node.service.hit.";
/// The course that costs of new flows are compared with.
const HIT_100K: &str = "node.service.hit.100k";
/// One neighbour, one router behind it.
const BIER: &str = "node.bier.transit";
/// One neighbour, a hundred routers behind it.
const BIER_100: &str = "node.bier.rows.100";
/// Flows that a table has room for: the default of the configuration.
const FLOWS: usize = 1 << 20;
/// Room for flows where none are begun.
const NO_FLOWS: usize = 16;
/// Polls between two looks at how many frames have passed.
const POLLS: usize = 16;

/// The courses that are wanted, in the order of the report.
pub(super) fn courses(eal: &Eal, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Box<dyn Course>>, BenchError> {
    let mut courses: Vec<Box<dyn Course>> = Vec::new();
    if wanted("node.transit") {
        let course = build(eal, "node.transit", Fate::Forwarded, scene::network(), Transit::new(), NO_FLOWS)?;
        courses.push(Box::new(course));
    }
    let sizes = [("", 1), (".1k", 1000), (".100k", 100_000), (".1m", 1_000_000)];
    for (suffix, names) in sizes {
        let name = format!("node.dns.answer{suffix}");
        if wanted(&name) {
            let tables = scene::with_names(names).map_err(|error| BenchError::Scene(error.to_string()))?;
            courses.push(Box::new(build(eal, &name, Fate::Answered, tables, Queries::new(names), NO_FLOWS)?));
        }
    }
    for (suffix, count) in [("1k", 1000), ("100k", 100_000), ("1m", 1_000_000)] {
        let name = format!("{SERVICE_HIT}{suffix}");
        // Others are compared with this one.
        if wanted(&name) || name == HIT_100K && wanted("node.service") {
            let (flows, phase) = Flows::new(count);
            let mut course = build(eal, &name, Fate::Forwarded, scene::with_service(false), flows, FLOWS)?;
            course.preparation = Preparation::Flows { count, phase };
            courses.push(Box::new(course));
        }
    }
    if wanted("node.service.new_flow") {
        // More than will ever be measured, so that no flow comes twice.
        let (flows, _phase) = Flows::new(1 << 28);
        let mut course =
            build(eal, "node.service.new_flow", Fate::Forwarded, scene::with_service(false), flows, FLOWS)?;
        course.flows_begun = 1;
        course.peer = Some(HIT_100K);
        course.preparation = Preparation::Afresh { frames_max: FLOWS as u64 / 2 };
        courses.push(Box::new(course));
    }
    if wanted("node.service.cold_syn") {
        let (flows, _phase) = Flows::new(1 << 28);
        let mut course =
            build(eal, "node.service.cold_syn", Fate::Held, scene::with_service(true), flows, NO_FLOWS)?;
        course.peer = Some(HIT_100K);
        courses.push(Box::new(course));
    }
    for (name, bsl, ids, peer) in [
        (BIER, Bsl::B256, 1, None),
        ("node.bier.bsl4096", Bsl::B4096, 1, Some(BIER)),
        (BIER_100, Bsl::B256, 100, None),
        ("node.bier.rows.10k", Bsl::B256, 10_000, Some(BIER_100)),
    ] {
        if wanted(name) || peer.is_none() && wanted("node.bier") {
            let (tables, stimulus) = (scene::with_bier(bsl, 1, ids), Replicated::new(bsl, ids));
            let mut course = build(eal, name, Fate::Replicated, tables, stimulus, NO_FLOWS)?;
            course.peer = peer;
            courses.push(Box::new(course));
        }
    }
    Ok(courses)
}

fn build<S: Stimulus + Clone>(
    eal: &Eal,
    name: &str,
    fate: Fate,
    tables: Tables,
    stimulus: S,
    flows: usize,
) -> Result<NodeCourse<S>, BenchError> {
    let (worker, shared) = fresh_worker(eal, &tables, &stimulus, flows)?;
    Ok(NodeCourse {
        name: name.to_owned(),
        peer: None,
        fate,
        flows_begun: 0,
        preparation: Preparation::None,
        refill: circuit(eal, &stimulus)?,
        eal: eal.clone(),
        tables,
        stimulus,
        flows,
        worker,
        shared,
    })
}

fn circuit<S: Stimulus + Clone>(eal: &Eal, stimulus: &S) -> Result<Circuit<DpdkDriver, S>, BenchError> {
    Circuit::new(open_port(eal)?, stimulus.clone()).ok_or(BenchError::Frames)
}

type CircuitWorker<S> = Worker<Circuit<DpdkDriver, S>, TscClock>;

fn fresh_worker<S: Stimulus + Clone>(
    eal: &Eal,
    tables: &Tables,
    stimulus: &S,
    flows: usize,
) -> Result<(CircuitWorker<S>, Arc<Shared>), BenchError> {
    let shared = Shared::new(1);
    Publisher::new(shared.clone()).publish(tables.clone());
    let limits = WorkerLimits { flows, holds: 8192, holds_per_prefix: 8192, ..WorkerLimits::default() };
    let (circuit, clock, rings) = (circuit(eal, stimulus)?, TscClock::start(), Rings::new(1));
    Ok((Worker::new(0, circuit, clock, shared.clone(), rings, [7, 11], &limits), shared))
}

impl<S: Stimulus> NodeCourse<S> {
    /// Lets the worker poll until that many frames have passed it; returns how many did.
    fn pass(&mut self, frames: u64) -> u64 {
        let begin = self.worker.driver().passed();
        loop {
            for _ in 0..POLLS {
                self.worker.poll();
            }
            let passed = self.worker.driver().passed() - begin;
            if passed >= frames {
                return passed;
            }
        }
    }

    fn flows_begun(&self) -> u64 {
        self.shared.workers[0].counters.service(SERVICE).flows_begun.get()
    }

    /// Every frame since `before` met the fate that the course is about, and the laws hold.
    fn check(&self, before: &Fates, begun_before: u64) -> Result<(), BenchError> {
        let after = self.worker.fates();
        let wrong = |why: String| Err(BenchError::Fate { name: self.name.clone(), why });
        if let Err(violation) = after.check() {
            return wrong(format!("{violation:?}"));
        }
        let received = after.received - before.received;
        let met = match self.fate {
            Fate::Forwarded => after.forwarded - before.forwarded,
            Fate::Answered => after.answered - before.answered,
            Fate::Held => after.held - before.held,
            Fate::Replicated => after.replicated - before.replicated,
        };
        let begun = self.flows_begun() - begun_before;
        if met != received || begun != received * self.flows_begun {
            return wrong(format!("{met} of {received} {:?}, {begun} flows begun; {after:?}", self.fate));
        }
        Ok(())
    }
}

impl<S: Stimulus + Clone> Course for NodeCourse<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn peer(&self) -> Option<&'static str> {
        self.peer
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        match std::mem::replace(&mut self.preparation, Preparation::None) {
            Preparation::None => {}
            Preparation::Flows { count, phase } => {
                // What is on the ring when the phase changes still is of the last one.
                for next in [Phase::Syn, Phase::Answer, Phase::Segment] {
                    phase.set(next);
                    self.pass(count + ROUND_FRAMES as u64);
                }
                self.pass(2 * ROUND_FRAMES as u64);
                if self.flows_begun() != count {
                    let why = format!("{} flows begun, not {count}", self.flows_begun());
                    return Err(BenchError::Fate { name: self.name.clone(), why });
                }
            }
            again @ Preparation::Afresh { .. } => {
                let (worker, shared) = fresh_worker(&self.eal, &self.tables, &self.stimulus, self.flows)?;
                (self.worker, self.shared) = (worker, shared);
                self.preparation = again;
            }
        }
        // Caches and predictors have seen others since the last round.
        self.pass(20_000);
        Ok(())
    }

    fn refill(&mut self, frames: u64) -> Sample {
        let circuit = &mut self.refill;
        Sample::take(|| {
            let begin = circuit.passed();
            loop {
                for _ in 0..POLLS {
                    circuit.turn();
                }
                let passed = circuit.passed() - begin;
                if passed >= frames {
                    return passed;
                }
            }
        })
    }

    fn worker(&mut self, frames: u64) -> Result<Sample, BenchError> {
        let frames = match self.preparation {
            Preparation::Afresh { frames_max } => frames.min(frames_max),
            _ => frames,
        };
        let (before, begun) = (self.worker.fates(), self.flows_begun());
        let sample = Sample::take(|| self.pass(frames));
        self.check(&before, begun)?;
        Ok(sample)
    }
}

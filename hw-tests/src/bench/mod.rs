//! Benchmarks: what a frame costs here, beside what it costs a peer on the same core in the same minute.
//!
//! ```text
//!   rounds   io │ macswap │ 5tswap │ our loop │ refill, node │ refill, node │ ...     and again, at least three times
//!            └──── testpmd ───┘     └──────── this process, same core ────────┘
//! ```
//!
//! Everything in a round is measured by CPU time of the one thread that forwards, never by the clock on the wall, and
//! turned into TSC cycles. A node's cost is that of the whole worker less that of the circuit its frames go round in
//! ([`circuit`]), as testpmd's is that of `5tswap` less that of `io`:
//!
//! ```text
//!   ratio = median(worker - refill) / median(5tswap - io)       over rounds
//!   spread = [min, max] of (worker - refill) / (5tswap - io)    of each round
//! ```
//!
//! Frames have 64 bytes (DNS queries 79) and 128 of them go round, so the frames themselves are always in cache; tables
//! need not be. That is a ceiling for this core, not a promise for a network card.
//!
//! Whole processes on ports of the kernel's are measured by CPU time of all that takes part (`veth`). Distributing a file
//! to receivers that lose some of it is measured by the clock, and by what the links carried (`hub`).
//!
//! After each measurement of a node every frame must have met the fate that the benchmark is about, and the three laws must hold.

mod bier;
pub mod circuit;
mod hub;
mod nodes;
mod publish;
mod recompute;
pub mod report;
mod reroute;
pub mod scene;
pub mod stimulus;
pub mod testpmd;
mod veth;

pub(crate) use hub::by_uftp;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use millrace_dpdk::{
    DpdkDriver, Eal, EalConfig, EalError, OpenError, PortConfig, Ports, PortsConfig, TscClock,
    thread_cpu_nanos,
};
use millrace_fastpath::driver::{Burst, Driver, Frame};
use thiserror::Error;

use crate::lab::{LabError, unreadable};

use circuit::{PORT, ROUND_FRAMES};
use nodes::Course;
use report::{Better, Entry, Report, median};
use testpmd::{Forwarding, Testpmd};

/// How much to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Rounds, at least [`ROUNDS_MIN`].
    pub rounds: usize,
    /// Frames per measurement.
    pub frames: u64,
    /// Bytes of the file that `hub` distributes.
    pub file_bytes: usize,
    /// Only entries whose names begin so; all if empty.
    pub only: String,
}

impl Default for BenchOptions {
    fn default() -> BenchOptions {
        BenchOptions { rounds: 5, frames: 2_000_000, file_bytes: 100_000_000, only: String::new() }
    }
}

impl BenchOptions {
    fn wants(&self, name: &str) -> bool {
        name.starts_with(&self.only)
    }
}

/// Fewer have no median worth the name.
pub const ROUNDS_MIN: usize = 3;

/// Why there are no figures.
#[derive(Debug, Error)]
pub enum BenchError {
    /// testpmd.
    #[error("testpmd: {what}: {why}")]
    Testpmd {
        /// What went wrong.
        what: &'static str,
        /// How.
        why: String,
    },
    /// DPDK.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// A port.
    #[error(transparent)]
    Port(#[from] OpenError),
    /// Too few frames for a circuit.
    #[error("the pool of a circuit hasn't got its frames")]
    Frames,
    /// Tables that can't be built.
    #[error("the tables of a scene can't be built: {0}")]
    Scene(String),
    /// Frames that met another fate than the benchmark is about, so that its figure would mean nothing.
    #[error("{name}: frames met another fate: {why}")]
    Fate {
        /// Whose.
        name: String,
        /// Which.
        why: String,
    },
    /// The test hosts of `veth`.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// No CPU to pin to.
    #[error("the thread can't be pinned to CPU {cpu}")]
    Pin {
        /// Which.
        cpu: usize,
    },
    /// The report can't be written.
    #[error("{path}: {source}", path = path.display())]
    Report {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Frames forwarded.
    pub frames: u64,
    /// CPU time of the thread that forwarded.
    pub cpu_nanos: u64,
    /// How long it took.
    pub wall: Duration,
}

impl Sample {
    /// Takes one of `work` on the calling thread; `work` says how many frames it forwarded.
    pub fn take(work: impl FnOnce() -> u64) -> Sample {
        let (begin, cpu) = (Instant::now(), thread_cpu_nanos());
        let frames = work();
        Sample { frames, cpu_nanos: thread_cpu_nanos() - cpu, wall: begin.elapsed() }
    }

    /// TSC cycles of CPU time per frame.
    pub fn cycles(&self, hz: u64) -> f64 {
        self.cpu_nanos as f64 * hz as f64 / 1e9 / self.frames as f64
    }

    /// Share of the core that the thread got.
    pub fn share(&self) -> f64 {
        self.cpu_nanos as f64 / self.wall.as_nanos() as f64
    }
}

/// Runs the benchmarks on a thread of their own, pinned to the last CPU. Progress goes to the standard error output.
///
/// # Errors
/// [`BenchError`]
pub fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cpu = cores.last().map_or(0, |core| core.id);
    let config = EalConfig { memory_bytes: 384 << 20, ..EalConfig::default() };
    let eal = Eal::start(config)?;
    let mut report = Report::default();
    let of_processes = [veth::PREFIX, hub::PREFIX].iter().any(|prefix| options.only.starts_with(prefix));
    if !of_processes || hub::send::wanted(options) {
        on_own_thread(|| run_pinned(options, &eal, cpu, &mut report))?;
    }
    on_own_thread(|| veth::measure(&eal, options, &mut report))?;
    on_own_thread(|| hub::measure(options, &mut report))?;
    report.entries.retain(|entry| options.wants(&entry.name));
    Ok(report)
}

/// `millrace`, beside this program.
fn binary() -> Result<PathBuf, BenchError> {
    let us = std::env::current_exe().map_err(|error| unreadable("our own path", error))?;
    let binary = us.with_file_name("millrace");
    if !binary.exists() {
        let how = format!("no {}; cargo build --release -p millrace", binary.display());
        return Err(unreadable("the appliance", how).into());
    }
    Ok(binary)
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let thread = std::thread::scope(|scope| scope.spawn(work).join());
    thread.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run_pinned(options: &BenchOptions, eal: &Eal, cpu: usize, report: &mut Report) -> Result<(), BenchError> {
    let mut peer = Testpmd::start(cpu, eal.memory())?;
    if !core_affinity::set_for_current(CoreId { id: cpu }) {
        return Err(BenchError::Pin { cpu });
    }
    let _registered = eal.register_thread()?;
    let hz = TscClock::start().hz();
    eprintln!("CPU {cpu}, TSC {:.0} MHz, frames in {:?}", hz as f64 / 1e6, eal.memory());
    let wanted = |name: &str| options.wants(name);
    let mut courses = nodes::courses(eal, &wanted)?;
    let mut own = Loop::new(open_port(eal)?);
    let mut figures = Figures { hz, ..Figures::default() };
    for round in 0..options.rounds.max(ROUNDS_MIN) {
        for (name, forwarding) in [
            ("testpmd.io", Forwarding::Io),
            ("testpmd.macswap", Forwarding::MacSwap),
            ("testpmd.5tswap", Forwarding::FiveTupleSwap),
        ] {
            figures.add(name, peer.measure(forwarding)?);
        }
        figures.add("loop.io", own.measure(options.frames, false));
        figures.add("loop.macswap", own.measure(options.frames, true));
        for course in &mut courses {
            measure_course(course.as_mut(), options.frames, &mut figures)?;
        }
        eprintln!("round {}: {}", round + 1, figures.last_round());
    }
    drop(peer);
    add_entries(&figures, &courses, report);
    drop(courses);
    bier::measure(eal, options, hz, report)?;
    hub::send::measure(eal, cpu, options, hz, report)?;
    reroute::measure(options, report)?;
    recompute::measure(options, report)?;
    publish::measure(eal, cpu, options, &wanted, report)
}

fn measure_course(course: &mut dyn Course, frames: u64, figures: &mut Figures) -> Result<(), BenchError> {
    course.prepare()?;
    let refill = course.refill(frames);
    let whole = course.worker(frames)?;
    let (name, cost) = (course.name(), whole.cycles(figures.hz) - refill.cycles(figures.hz));
    figures.push(name, cost, whole.share());
    figures.push(&format!("{name}.refill"), refill.cycles(figures.hz), refill.share());
    Ok(())
}

fn add_entries(figures: &Figures, courses: &[Box<dyn Course>], report: &mut Report) {
    let (unit, lower) = ("cycles/frame", Better::Lower);
    let of = |name: &str| figures.of(name).to_vec();
    let (io, five) = (of("testpmd.io"), of("testpmd.5tswap"));
    let five_alone: Vec<f64> = five.iter().zip(&io).map(|(five, io)| five - io).collect();
    report.add(Entry::against("loop.io", unit, lower, &of("loop.io"), ("testpmd.io", &io)));
    let macswap = of("testpmd.macswap");
    report.add(Entry::against(
        "loop.macswap",
        unit,
        lower,
        &of("loop.macswap"),
        ("testpmd.macswap", &macswap),
    ));
    for course in courses {
        let ours = of(course.name());
        let peer = match course.peer() {
            Some(other) => (other, of(other)),
            None => ("testpmd.5tswap", five_alone.clone()),
        };
        // The course that is the yardstick may have been left out.
        let entry = match peer.1.is_empty() {
            true => Entry::alone(course.name(), unit, lower, &ours),
            false => Entry::against(course.name(), unit, lower, &ours, (peer.0, &peer.1)),
        };
        report.add(entry);
    }
    for (name, large, small) in [
        ("growth.service", "node.service.hit.1m", "node.service.hit.1k"),
        ("growth.dns", "node.dns.answer.1m", "node.dns.answer.1k"),
    ] {
        let (large, of_small) = (of(large), of(small));
        if !large.is_empty() && !of_small.is_empty() {
            report.add(Entry::against(name, "ratio 1m to 1k", lower, &large, (small, &of_small)));
        }
    }
}

/// Cycles per frame by name, one per round.
#[derive(Debug, Default)]
struct Figures {
    hz: u64,
    rows: Vec<(String, Vec<f64>, f64)>,
}

impl Figures {
    fn add(&mut self, name: &str, sample: Sample) {
        self.push(name, sample.cycles(self.hz), sample.share());
    }

    fn push(&mut self, name: &str, cycles: f64, share: f64) {
        match self.rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => {
                row.1.push(cycles);
                row.2 = row.2.min(share);
            }
            None => self.rows.push((name.to_owned(), vec![cycles], share)),
        }
    }

    fn of(&self, name: &str) -> &[f64] {
        self.rows.iter().find(|row| row.0 == name).map_or(&[], |row| &row.1)
    }

    /// The latest of each, and the smallest share of the core that anybody got so far.
    fn last_round(&self) -> String {
        let share = self.rows.iter().map(|row| row.2).fold(1.0, f64::min);
        let rows = self.rows.iter().map(|(name, cycles, _)| {
            let latest = cycles.last().copied().unwrap_or(f64::NAN);
            format!("{name} {latest:.0} ({:.0})", median(cycles))
        });
        format!("{}; least share of the core {share:.2}", rows.collect::<Vec<_>>().join(", "))
    }
}

/// A `net_ring` port of its own for each circuit.
fn open_port(eal: &Eal) -> Result<DpdkDriver, BenchError> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let device = format!("net_ring{}", COUNT.fetch_add(1, Ordering::Relaxed));
    // The circuit, and what a worker has in its hands; and as many that the worker keeps some for itself, as an appliance's do.
    let config = PortsConfig { workers: 1, frames_per_port: 2048, ..PortsConfig::default() };
    let (_ports, mut drivers) = Ports::open(eal, &config, &[PortConfig::new("ring", &device)])?;
    drivers.pop().ok_or(BenchError::Frames)
}

/// The driver alone, as testpmd's `io` and `macswap` have theirs: the proof that both measure the same.
struct Loop {
    driver: DpdkDriver,
}

impl Loop {
    fn new(mut driver: DpdkDriver) -> Loop {
        let mut filled = 0;
        while filled < ROUND_FRAMES {
            let mut burst = Burst::new();
            if let Some(mut frame) = driver.allocate(PORT)
                && frame.extend(64)
            {
                burst.push(frame);
            }
            filled += driver.transmit(PORT, &mut burst);
        }
        Loop { driver }
    }

    fn measure(&mut self, frames: u64, swap: bool) -> Sample {
        Sample::take(|| {
            let mut moved = 0;
            while moved < frames {
                let mut burst = Burst::new();
                self.driver.receive(PORT, &mut burst);
                if swap {
                    burst.iter_mut().for_each(swap_macs);
                }
                moved += self.driver.transmit(PORT, &mut burst) as u64;
            }
            moved
        })
    }
}

#[inline]
fn swap_macs(frame: &mut impl Frame) {
    if let Some(head) = frame.bytes_mut().first_chunk_mut::<12>() {
        let (to, from) = head.split_at_mut(6);
        to.swap_with_slice(from);
    }
}

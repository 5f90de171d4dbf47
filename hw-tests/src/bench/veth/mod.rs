//! Whole processes on kernel-backed ports: what a packet costs the machine, from the sender's system call to the sink.
//!
//! ```text
//!   nat   source ══ wan │ millrace run, testpmd io, or the kernel with nftables │ lan ══ sink
//!   dns   client ══ wan │ millrace run, knotd on AF_XDP, knotd on UDP, nsd      │
//!         ▲
//!         └ generator: this process, AF_XDP, on the first CPU; whoever is measured is on the last
//! ```
//!
//! The measure is packets per CPU-second of the whole machine, less what runs on it for other reasons ([`cpu`]): over veth
//! much of what a packet costs is charged to whoever sent it, so that a contender's own CPU time says little.
//!
//! ```text
//!   packets per CPU-second = 1 / (generator's CPU time / frames sent + contender's CPU time / useful packets)
//! ```
//!
//! Frames that were offered in vain aren't held against anybody: how many they are depends on how fast the generator is,
//! and on who else wanted its CPU. It offers as much as it can, which is more than most contenders pass. One that loses
//! nothing wasn't saturated, and if it polls, its idle turns count as cost. What was offered, what came of it, both costs
//! and each side's share of its CPU stand in the log. Where the generator's share is well below the contender's, others
//! had its CPU, and contenders that poll look worse than they are; `chrt -r 1` before the command keeps others away.
//!
//! In each round every contender is started afresh, and has answered before it is measured.

mod cpu;
mod dns;
mod frames;
mod generator;
mod nat;
mod processes;
mod zone;

use std::path::PathBuf;
use std::time::Duration;

use core_affinity::CoreId;
use millrace_dpdk::Eal;

use super::report::Report;
use super::{BenchError, BenchOptions, ROUNDS_MIN, binary};
use crate::lab::{Process, unreadable};
use cpu::CpuMeter;
use generator::{Generator, Load, Sent};

/// What the names of these entries begin with.
pub(super) const PREFIX: &str = "veth";

/// For each measurement, once its contender works.
const MEASURED: Duration = Duration::from_secs(1);
/// For each round of the node benchmarks: starts lie between two measurements here, so that they are far apart, and many
/// short rounds see more of a machine's moods than a few long ones.
const ROUNDS_PER_ROUND: usize = 2;

/// Measures what is wanted, on a thread of its own on the first CPU.
pub(super) fn measure(eal: &Eal, options: &BenchOptions, report: &mut Report) -> Result<(), BenchError> {
    let wanted = |names: &[&str]| names.iter().any(|name| options.wants(name));
    let (nat, dns) = (wanted(&nat::NAMES), wanted(&dns::NAMES));
    if !nat && !dns {
        // Then the appliance needn't have been built, either.
        return Ok(());
    }
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cpus: Vec<usize> = cores.iter().map(|core| core.id).collect();
    let (first, last) = (cpus.first().copied().unwrap_or(0), cpus.last().copied().unwrap_or(0));
    let setup = Setup {
        eal,
        binary: binary()?,
        rounds: options.rounds.max(ROUNDS_MIN) * ROUNDS_PER_ROUND,
        cpus,
        contender: last,
    };
    if !core_affinity::set_for_current(CoreId { id: first }) {
        return Err(BenchError::Pin { cpu: first });
    }
    let _registered = eal.register_thread()?;
    if nat {
        nat::measure(&setup, report)?;
    }
    if dns {
        dns::measure(&setup, report)?;
    }
    Ok(())
}

/// What every measurement needs to know.
struct Setup<'a> {
    eal: &'a Eal,
    /// `millrace`, beside this program.
    binary: PathBuf,
    rounds: usize,
    cpus: Vec<usize>,
    /// The contender's; the generator has the first one.
    contender: usize,
}

impl Setup<'_> {
    /// All CPUs, as `taskset` and the EAL want them.
    fn cpu_list(&self) -> String {
        self.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

/// What came of a load.
#[derive(Clone, Copy, Debug)]
struct Yield {
    sent: Sent,
    /// Packets that reached the sink, or answers that reached the generator.
    useful: u64,
    /// CPU time of the contender's processes; none for the kernel.
    contender_nanos: u64,
    /// CPU time of the kernel's softirq threads.
    softirq_nanos: u64,
}

impl Yield {
    /// Runs a load and looks at the meters and, through `useful`, at the counters around it.
    fn take(
        generator: &mut Generator,
        load: Load,
        contender: Option<&Process>,
        mut useful: impl FnMut(&Sent) -> Result<u64, BenchError>,
    ) -> Result<Yield, BenchError> {
        let (family, softirqs) = (CpuMeter::of_family(contender.map(Process::id)), CpuMeter::of_softirqs()?);
        let before = useful(&Sent::default())?;
        let (family_before, softirqs_before) = (family.nanos()?, softirqs.nanos()?);
        let sent = generator.send(load);
        let contender_nanos = family.nanos()? - family_before;
        let softirq_nanos = softirqs.nanos()? - softirqs_before;
        let useful = useful(&sent)? - before;
        if let Some(status) = contender.and_then(Process::exited) {
            return Err(unreadable("a contender ended while it was measured", status).into());
        }
        Ok(Yield { sent, useful, contender_nanos, softirq_nanos })
    }

    /// Packets that the machine could pass with a second of CPU time, by what each costs both sides.
    fn per_cpu_second(&self) -> f64 {
        1e9 / (self.sender_cost() + self.contender_cost())
    }

    /// CPU time of the generator, in nanoseconds per frame sent.
    fn sender_cost(&self) -> f64 {
        self.sent.cpu_nanos as f64 / self.sent.frames as f64
    }

    /// CPU time of the contender and of softirq threads, in nanoseconds per useful packet.
    fn contender_cost(&self) -> f64 {
        (self.contender_nanos + self.softirq_nanos) as f64 / self.useful as f64
    }

    /// Useful packets per second of the clock on the wall.
    fn per_second(&self) -> f64 {
        self.useful as f64 / self.sent.wall.as_secs_f64()
    }

    /// A line for the log.
    fn line(&self, name: &str) -> String {
        let wall = self.sent.wall.as_secs_f64();
        format!(
            "{name}: {:.0} k/s offered, {:.0} k/s through, {:.0} k per CPU-second (sender {:.0} ns, contender \
             {:.0} ns a packet; shares of their CPUs {:.2}, {:.2})",
            self.sent.frames as f64 / wall / 1e3,
            self.per_second() / 1e3,
            self.per_cpu_second() / 1e3,
            self.sender_cost(),
            self.contender_cost(),
            self.sent.cpu_nanos as f64 / 1e9 / wall,
            self.contender_nanos as f64 / 1e9 / wall,
        )
    }
}

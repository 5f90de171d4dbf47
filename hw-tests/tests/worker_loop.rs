//! What a worker's loop may not do on DPDK's rings either: allocate, free, or call the system.
//!
//! `net_ring` is the one real driver without a kernel or a card behind it, so that every system call seen here would be ours
//! or DPDK's own. The circuits of the node benchmarks keep frames coming, all of one fate. What DPDK's C code allocates
//! passes the counter by, but not the filter once it needs memory of the system.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use millrace_dpdk::{DpdkDriver, Eal, EalConfig, PortConfig, Ports, PortsConfig, TscClock};
use millrace_fastpath::fates::Fates;
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::tables::Tables;
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};
use millrace_hw_tests::bench::circuit::{Circuit, ROUND_FRAMES, Stimulus};
use millrace_hw_tests::bench::scene;
use millrace_hw_tests::bench::stimulus::{Flows, Phase, Queries, Transit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Set in the child that runs the loop under the filter; says what it is to do besides.
const CHILD: &str = "MILLRACE_TEST_SECCOMP_RING";
const NOTHING: &str = "nothing";
const ALLOCATE: &str = "allocate";
const CALL: &str = "call";
/// Frames of each course that pass the loop under the filter.
const FRAMES: u64 = 20_000;
const NAMES: u64 = 1000;
const FLOWS: u64 = 1000;

/// A worker in a circuit.
struct Course<S: Stimulus> {
    worker: Worker<Circuit<DpdkDriver, S>, TscClock>,
    shared: Arc<Shared>,
}

impl<S: Stimulus> Course<S> {
    fn new(eal: &Eal, device: &str, tables: Tables, stimulus: S) -> Self {
        let config = PortsConfig { frames_per_port: 1023, ..PortsConfig::default() };
        let (_ports, mut drivers) =
            Ports::open(eal, &config, &[PortConfig::new("ring", device)]).expect("the port opens");
        let circuit = Circuit::new(drivers.remove(0), stimulus).expect("the pool has frames for a round");
        let shared = Shared::new(1);
        Publisher::new(shared.clone()).publish(tables);
        let limits = WorkerLimits { flows: 4096, holds: 64, ..WorkerLimits::default() };
        let worker =
            Worker::new(0, circuit, TscClock::start(), shared.clone(), Rings::new(1), [7, 11], &limits);
        Course { worker, shared }
    }

    /// Polls until that many more frames have passed.
    fn pass(&mut self, frames: u64) {
        let end = self.worker.driver().passed() + frames;
        while self.worker.driver().passed() < end {
            self.worker.poll();
        }
    }

    fn fates(&self) -> Fates {
        self.worker.fates()
    }

    fn flows_begun(&self) -> u64 {
        self.shared.workers[0].counters.service(scene::SERVICE).flows_begun.get()
    }
}

/// What the filtered thread saw.
struct Outcome {
    /// Fates of transit, answers and hits, before and after.
    fates: [[Fates; 3]; 2],
    allocations: u64,
    /// Flows begun before and after.
    flows_begun: [u64; 2],
}

/// The child: all three courses on a thread that may make no system call at all, or the process dies of it.
fn run_filtered(besides: &'static str) -> ! {
    static OUTCOME: OnceLock<Outcome> = OnceLock::new();
    assert!(TscClock::avoids_system_calls(), "the kernel serves this machine's clock by system calls only");
    let eal = Eal::start(EalConfig { memory_bytes: 64 << 20, ..EalConfig::default() }).expect("it starts");
    let thread = std::thread::spawn(move || {
        let _registered = eal.register_thread().expect("identities are left");
        let mut transit = Course::new(&eal, "net_ring0", scene::network(), Transit::new());
        let names = scene::with_names(NAMES).expect("the names are well formed");
        let mut answers = Course::new(&eal, "net_ring1", names, Queries::new(NAMES));
        let (flows, phase) = Flows::new(FLOWS);
        let mut hits = Course::new(&eal, "net_ring2", scene::with_service(false), flows);
        for next in [Phase::Syn, Phase::Answer, Phase::Segment] {
            phase.set(next);
            hits.pass(FLOWS + 2 * ROUND_FRAMES as u64);
        }
        let begun = hits.flows_begun();
        let before = [transit.fates(), answers.fates(), hits.fates()];
        // The counter's own state on this thread.
        let _first = allocation_counter::measure(|| ());

        forbid_system_calls();
        let counted = allocation_counter::measure(|| {
            transit.pass(FRAMES);
            answers.pass(FRAMES);
            hits.pass(FRAMES);
            match besides {
                ALLOCATE => drop(std::hint::black_box(Box::new(0u8))),
                CALL => std::thread::yield_now(),
                _ => {}
            }
        });
        let after = [transit.fates(), answers.fates(), hits.fates()];
        let outcome = Outcome {
            fates: [before, after],
            allocations: counted.count_total + counted.count_current.unsigned_abs(),
            flows_begun: [begun, hits.flows_begun()],
        };
        // Nobody waits in it: a wait would have to be ended by a system call.
        let _first = OUTCOME.set(outcome);
        // Ending the thread would take system calls; the process is ended by the other one.
        loop {
            std::hint::spin_loop();
        }
    });
    let outcome = loop {
        match OUTCOME.get() {
            Some(outcome) => break outcome,
            None => assert!(!thread.is_finished(), "the thread that was to be filtered panicked"),
        }
        std::thread::yield_now();
    };
    check(outcome);
    std::process::exit(0)
}

/// From here on the calling thread's first system call ends the process.
fn forbid_system_calls() {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new([].into(), SeccompAction::KillProcess, SeccompAction::Allow, arch);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Every frame of each course had the course's own fate, and nothing was allocated for it.
fn check(outcome: &Outcome) {
    let [before, after] = &outcome.fates;
    let met: [fn(&Fates) -> u64; 3] =
        [|fates| fates.forwarded, |fates| fates.answered, |fates| fates.forwarded];
    for (met, (before, after)) in met.iter().zip(before.iter().zip(after)) {
        after.check().expect("the three laws");
        let received = after.received - before.received;
        assert!(received >= FRAMES);
        assert_eq!(met(after) - met(before), received, "{after:?}");
    }
    assert_eq!(outcome.flows_begun, [FLOWS, FLOWS], "segments hit the flows that SYNs began");
    assert_eq!(outcome.allocations, 0);
}

#[test]
fn the_loop_allocates_nothing_and_makes_no_system_call_on_net_ring() {
    if let Ok(besides) = std::env::var(CHILD) {
        run_filtered([NOTHING, ALLOCATE, CALL].into_iter().find(|mode| **mode == besides).unwrap());
    }
    let run = |mode: &str| {
        let test = "the_loop_allocates_nothing_and_makes_no_system_call_on_net_ring";
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, mode)
            .output()
            .unwrap()
    };
    let kept = run(NOTHING);
    assert!(kept.status.success(), "{kept:?}");
    let broken = run(ALLOCATE);
    assert_eq!(broken.status.code(), Some(101), "the counter does count; {broken:?}");
    let broken = run(CALL);
    assert_eq!(broken.status.signal(), Some(31), "the filter does bite: SIGSYS; {broken:?}");
}

//! What a change of the tables costs: the slowpath that makes it, and the workers that go on meanwhile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use millrace_dpdk::{Eal, TscClock};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Clock;
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::tables::names::NameBinding;
use millrace_fastpath::tables::services::{
    Endpoint, INSTANCES_MAX, Instance, InstanceSlotId, InstanceState, SERVICES_MAX, Service, ServiceId,
    Services,
};
use millrace_fastpath::tables::{Names, Tables};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

use super::circuit::Circuit;
use super::report::{Better, Entry, Report};
use super::scene::{self, SERVICE};
use super::stimulus::Transit;
use super::{BenchError, BenchOptions, ROUNDS_MIN, open_port};

/// Names in the table that one is changed of.
const NAMES: u64 = 1_000_000;
/// Instances in the table that one is changed of, at least: each service has its share of them.
const INSTANCES: usize = 100_000;
/// Instances of a service.
const SHARE: u32 = INSTANCES.div_ceil(SERVICES_MAX) as u32;
const _: () = assert!(SHARE as usize * SERVICES_MAX <= INSTANCES_MAX);
/// Changes per round.
const CHANGES: usize = 100;
/// How long bursts are looked at, each way and round.
const WINDOW: Duration = Duration::from_millis(1000);
/// One publication.
const PERIOD: Duration = Duration::from_millis(1);

/// Adds the entries about publishing.
pub(super) fn measure(
    eal: &Eal,
    cpu: usize,
    options: &BenchOptions,
    wanted: &dyn Fn(&str) -> bool,
    report: &mut Report,
) -> Result<(), BenchError> {
    let rounds = options.rounds.max(ROUNDS_MIN);
    let (name, instance, burst) =
        ("tables.publish.name", "tables.publish.instance", "tables.publish.burst_p99");
    if wanted(instance) {
        let millis: Vec<f64> = (0..rounds).map(|_| instances()).collect();
        report.add(Entry::alone(instance, "ms", Better::Lower, &millis));
    }
    if !wanted(name) && !wanted(burst) {
        return Ok(());
    }
    let tables = scene::with_names(NAMES).map_err(|error| BenchError::Scene(error.to_string()))?;
    if wanted(name) {
        let millis: Result<Vec<f64>, BenchError> = (0..rounds).map(|_| names(&tables)).collect();
        report.add(Entry::alone(name, "ms", Better::Lower, &millis?));
    }
    if wanted(burst) {
        let (with, without) = bursts(eal, cpu, rounds, tables)?;
        let peer = ("the same, unpublished", &*without);
        report.add(Entry::against(
            burst,
            "ratio with to without 1000 publications/s (ns)",
            Better::Lower,
            &with,
            peer,
        ));
    }
    Ok(())
}

/// Shared state of which no worker holds a snapshot, so that old ones are freed as they are replaced.
fn unwatched() -> Arc<Shared> {
    let shared = Shared::new(1);
    shared.end_epoch(0);
    shared
}

/// Milliseconds to change one name of a million and publish that.
fn names(tables: &Tables) -> Result<f64, BenchError> {
    let mut publisher = Publisher::new(unwatched());
    let mut tables = tables.clone();
    publisher.publish(tables.clone());
    let mut spent = Duration::ZERO;
    for change in 0..CHANGES {
        let begin = Instant::now();
        rebind(&mut tables.names, change)?;
        publisher.publish(tables.clone());
        spent += begin.elapsed();
    }
    Ok(spent.as_secs_f64() * 1e3 / CHANGES as f64)
}

fn rebind(names: &mut Names, change: usize) -> Result<(), BenchError> {
    let binding = NameBinding {
        // Beside those with addresses of their own.
        name: scene::name(NAMES + change as u64 % 64),
        service: SERVICE,
        v4: vec![Ipv4Addr::from_bits(0x0a00_0000 | change as u32)],
        v6: Vec::new(),
    };
    names.bind(&binding).map_err(|error| BenchError::Scene(error.to_string()))
}

/// Milliseconds to change one instance of [`INSTANCES`], and publish that: its service's shares are worked out anew.
fn instances() -> f64 {
    let mut publisher = Publisher::new(unwatched());
    let mut tables = scene::network();
    let mut services = Services::new();
    for id in 0..SERVICES_MAX as u16 {
        let (service, endpoint) = crowded(id, 1);
        services.insert(ServiceId(id), Arc::new(service), &[endpoint]);
    }
    tables.services = Arc::new(services);
    publisher.publish(tables.clone());
    let mut spent = Duration::ZERO;
    for change in 0..CHANGES as u16 {
        let begin = Instant::now();
        let (service, endpoint) = crowded(change, 2 + change);
        let services = Arc::make_mut(&mut tables.services);
        services.insert(ServiceId(change), Arc::new(service), &[endpoint]);
        publisher.publish(tables.clone());
        spent += begin.elapsed();
    }
    spent.as_secs_f64() * 1e3 / CHANGES as f64
}

/// A service with its share of all instances.
fn crowded(id: u16, weight: u16) -> (Service, Endpoint) {
    let template = scene::service(false);
    let [high, low] = id.to_be_bytes();
    let instance = |n: u32| Instance {
        id: u64::from(id) * 100 + u64::from(n),
        addresses: [Some(Addr::v4([10, high, low, n as u8])), None],
        port: 8080,
        weight: if n == 0 { weight } else { 1 },
        state: InstanceState::Ready,
        slot: InstanceSlotId(u32::from(id) * SHARE + n),
        fixed: false,
        server_id: None,
    };
    let endpoint = Endpoint { addr: Addr::v4([172, 20, high, low]), port: 80, protocol: 6 };
    (Service { instances: (0..SHARE).map(instance).collect(), ..template }, endpoint)
}

/// The 99th percentile of a burst's time in nanoseconds, with and without publications, by round.
fn bursts(eal: &Eal, cpu: usize, rounds: usize, tables: Tables) -> Result<(Vec<f64>, Vec<f64>), BenchError> {
    let shared = Shared::new(1);
    let mut publisher = Publisher::new(shared.clone());
    publisher.publish(tables.clone());
    let circuit = Circuit::new(open_port(eal)?, Transit::new()).ok_or(BenchError::Frames)?;
    let clock = TscClock::start();
    let limits = WorkerLimits { flows: 16, holds: 16, ..WorkerLimits::default() };
    let mut worker = Worker::new(0, circuit, clock, shared, Rings::new(1), [7, 11], &limits);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let look = |worker: &mut Worker<_, _>| {
        let mut cycles: Vec<u64> = Vec::with_capacity(1 << 23);
        let begin = Instant::now();
        while cycles.len() < cycles.capacity() {
            let before = clock.cycles();
            let moved = worker.poll();
            if moved > 0 {
                cycles.push(clock.cycles() - before);
            }
            if cycles.len().is_multiple_of(1024) && begin.elapsed() > WINDOW {
                break;
            }
        }
        cycles.sort_unstable();
        let p99 = cycles.get(cycles.len() * 99 / 100).copied().unwrap_or(0);
        p99 as f64 * 1e9 / clock.hz() as f64
    };
    let elsewhere = core_affinity::get_core_ids().unwrap_or_default().into_iter().find(|core| core.id != cpu);
    for _ in 0..rounds {
        without.push(look(&mut worker));
        let stop = AtomicBool::new(false);
        let (stop, publisher, tables) = (&stop, &mut publisher, &tables);
        let (p99, published) = thread::scope(|scope| {
            let publishing = scope.spawn(move || keep_publishing(publisher, tables.clone(), elsewhere, stop));
            let begin = Instant::now();
            let p99 = look(&mut worker);
            stop.store(true, Ordering::Relaxed);
            let published = publishing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (p99, published.map(|count| count as f64 / begin.elapsed().as_secs_f64()))
        });
        with.push(p99);
        eprintln!("{:.0} publications a second: p99 of a burst {p99:.0} ns", published?);
    }
    Ok((with, without))
}

/// Publishes a changed name every [`PERIOD`], on another CPU where there is one. Returns how often.
fn keep_publishing(
    publisher: &mut Publisher,
    mut tables: Tables,
    cpu: Option<CoreId>,
    stop: &AtomicBool,
) -> Result<usize, BenchError> {
    if let Some(cpu) = cpu {
        core_affinity::set_for_current(cpu);
    }
    let begin = Instant::now();
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        rebind(&mut tables.names, published)?;
        publisher.publish(tables.clone());
        published += 1;
        // The pace is the measurement.
        let due = PERIOD * published as u32;
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    Ok(published)
}

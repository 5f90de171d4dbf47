//! `millrace run`: the appliance, from its configuration to its end.
//!
//! ```text
//!  configuration ─► plan ─► EAL ─► ports ─► shared state ─┬─► workers, one a core
//!                                                         ├─► control thread
//!                                                         ├─► control socket and metrics
//!                                                         ├─► content hub: its store, its sessions, its HTTP server
//!                                                         └─► link to the orchestrator, or the orchestrator itself
//! ```

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use core_affinity::CoreId;
use millrace_config::model::{Config, Device, Hugepages as WantedHugepages, OrchestratorKind};
use millrace_config::plan::{CorePlan, Plan, frames_of_port};
use millrace_dpdk::{DpdkDriver, DpdkFrame, Eal, EalConfig, EalError, Hugepages, OpenError};
use millrace_dpdk::{LinkWatch, PortConfig, Ports, PortsConfig, TscClock};
use millrace_fastpath::fates::Fates;
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};
use millrace_orchestrator::embedded;
use millrace_orchestrator::server::{Orchestrator, ServeError, Updates};
use millrace_orchestrator_api::Link;
use millrace_orchestrator_api::client::{GrpcLink, LinkSettings};
use millrace_orchestrator_api::tls::TlsError;
use millrace_slowpath::control::{Control, ControlThread, Settings, monotonic};
use millrace_slowpath::host::SmolStack;
use millrace_slowpath::reload::{Prepare, Reloader};
use millrace_slowpath::telemetry::{Sources, Telemetry, TelemetryError};
use millrace_slowpath::{BuildError, FileError, TableFiles};
use rustix::thread::{CpuSet, sched_setaffinity};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::check::{self, print_report};
use crate::hub::appliance::{Hub, HubError};
use crate::orchestrate::{NoOrchestrator, embedded as placements, security};
use crate::plan::topology;
use crate::ports::{LivePorts, port_config};
use crate::serve::{ending, fail, log_to_stderr};

/// Run the appliance in the foreground, until SIGTERM or SIGINT.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace run -c /etc/millrace/edge.toml
  RUST_LOG=millrace_slowpath=debug millrace run -c edge.toml

SIGTERM and SIGINT end it: what is held takes its overflow action, the ports are given back. A second one ends it at once.
SIGHUP reads the configuration again, as `millrace reload` does; a file that can't be applied changes nothing.
The log goes to standard error; it says \"ready\" once packets are forwarded.

Exit codes: 0 ended, 1 the configuration is wrong, 2 the call is wrong, 3 the system refused.")]
pub(crate) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Write the log as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Why the appliance can't run.
#[derive(Debug, Error)]
enum RunError {
    #[error(transparent)]
    Eal(#[from] EalError),
    #[error(transparent)]
    Ports(#[from] OpenError),
    #[error(transparent)]
    Tables(#[from] BuildError),
    #[error(transparent)]
    TableFiles(#[from] FileError),
    #[error(transparent)]
    Orchestrator(#[from] ServeError),
    #[error(transparent)]
    Placements(#[from] NoOrchestrator),
    #[error("the link to the orchestrator: {0}")]
    Link(#[from] TlsError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("CPU {0} can't be had: it is offline, or outside this process's cpuset")]
    Cpu(usize),
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl RunError {
    /// 1 where another configuration would help, 3 where another machine would.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Tables(_)
            | Self::TableFiles(_)
            | Self::Placements(_)
            | Self::Link(_)
            | Self::Hub(HubError::Key(_))
            | Self::Orchestrator(ServeError::Tls(_)) => 1,
            _ => 3,
        }
    }
}

/// Runs `millrace run`.
pub(crate) fn run(args: Args) -> ExitCode {
    let config = match check::load(&args.config) {
        Ok(config) => config,
        Err(refusal) => {
            refusal.print();
            return refusal.exit_code();
        }
    };
    log_to_stderr(args.json, config.telemetry.log.as_str());
    let plan = match plan(&args.config, &config) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    match Appliance::start(&config, &plan.cores, &args.config).and_then(Appliance::run_to_end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn plan(file: &Path, config: &Config) -> Result<Plan, ExitCode> {
    let plan = Plan::new(config, &topology(None)?).map_err(|wrong| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        print_report(&millrace_config::Report::new(&file.display().to_string(), &text, wrong));
        ExitCode::from(1)
    })?;
    for warning in plan.warnings() {
        warn!("{warning}");
    }
    Ok(plan)
}

/// The niceness of workers: before everything that isn't real-time.
const WORKER_NICE: i32 = -20;

/// Everything that runs, in the order in which it is ended.
struct Appliance {
    telemetry: Telemetry,
    links: LinkWatch,
    hub: Option<Hub>,
    workers: Workers,
    control: ControlThread,
    reloader: Arc<Reloader>,
    /// Held so that it goes on; the control thread has the link to it.
    _orchestrator: Option<Orchestrator>,
    runtime: Runtime,
}

impl Appliance {
    fn start(config: &Config, cores: &CorePlan, file: &Path) -> Result<Self, RunError> {
        let folder = file.parent().unwrap_or(Path::new("."));
        // Threads inherit this, so that all but the workers stay on the controllers' cores.
        let controller: Vec<usize> = cores.controller_cpus().iter().map(|cpu| cpu.0 as usize).collect();
        confine(&controller)?;
        let eal = Eal::start(eal_config(config, cores, controller))?;
        let wanted: Vec<PortConfig> = config.ports.iter().map(port_config).collect();
        let (ports, drivers) = Ports::open(&eal, &ports_config(config, cores), &wanted)?;
        let count = config.ports.len();
        let ports = LivePorts::new(ports, config);

        let shared = Shared::new(drivers.len());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let boot = random();
        let (link, orchestrator) = link(config, folder, &runtime, boot)?;
        let now = monotonic();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let hub = config.hub.as_ref().map(|hub| Hub::open(config, hub, folder, drivers.len())).transpose()?;
        let table_files = TableFiles::read(config, folder)?;
        let digests = table_files.digests.clone();
        let settings = Settings {
            boot,
            names_key: HashKey(random(), random()),
            unix_offset_nanos: wall.saturating_sub(now.0),
            table_files,
            hub: hub.as_ref().and_then(Hub::tables),
        };
        let host = Box::new(SmolStack::new(config, random()));
        let control = Control::new(config, &ports.infos(), Arc::clone(&shared), link, host, settings, now)?;
        let tell = prepare(orchestrator.as_ref().map(Orchestrator::updates), folder.to_owned());
        let reloader =
            Reloader::new(file, config.clone(), digests, control.asker(), Box::new(ports.clone()), tell);
        let reloader = Arc::new(reloader);
        let cpus = cores.workers.iter().map(|worker| worker.cpu.0 as usize).collect();
        // Before workers run, who may find links down.
        let links = ports.watch(&shared)?;
        let sources =
            Sources::new(Arc::clone(&shared), control.asker(), Arc::new(move || ports.rows()), cpus)
                .with_reloader(Arc::clone(&reloader));
        let sources = match &hub {
            Some(hub) => sources.with_hub(hub.desk()),
            None => sources,
        };
        // While nothing runs yet: another appliance may have the socket.
        let telemetry =
            Telemetry::start(sources, &config.telemetry.control_socket, config.telemetry.metrics_listen)?;
        let workers = start_workers(config, cores, &eal, drivers, &shared)?;
        let control = ControlThread::start(control)?;
        let mut hub = hub;
        if let Some(hub) = &mut hub {
            hub.send(Arc::clone(&shared), random())?;
        }
        info!(ports = count, workers = workers.threads.len(), site = %config.site.name, "ready");
        Ok(Self { telemetry, links, workers, control, hub, reloader, _orchestrator: orchestrator, runtime })
    }

    fn run_to_end(self) -> Result<(), RunError> {
        let reloader = self.reloader;
        self.runtime.block_on(async {
            let ending = ending()?;
            let mut hangups = signal(SignalKind::hangup())?;
            tokio::spawn(async move {
                while hangups.recv().await.is_some() {
                    let reloader = Arc::clone(&reloader);
                    // It waits for the control loop, and logs what came of it.
                    let _ = tokio::task::spawn_blocking(move || reloader.reload(false)).await;
                }
            });
            ending.await;
            Ok::<(), std::io::Error>(())
        })?;
        info!("ending");
        drop(self.telemetry);
        drop(self.links);
        // It goes on where it was at the next start.
        drop(self.hub);
        // What it says at the end, workers send before they end.
        drop(self.control);
        drop(self.workers);
        info!("ended");
        Ok(())
    }
}

fn eal_config(config: &Config, cores: &CorePlan, cpus: Vec<usize>) -> EalConfig {
    let pci = |device: &Device| match device {
        Device::Pci(address) => Some(address.clone()),
        Device::Vdev { .. } => None,
    };
    EalConfig {
        hugepages: match config.memory.hugepages {
            WantedHugepages::Auto => Hugepages::Auto,
            WantedHugepages::Require => Hugepages::Require,
            WantedHugepages::Never => Hugepages::Never,
        },
        memory_bytes: ports_config(config, cores).memory_bytes(config.ports.len()),
        pci_devices: config.ports.iter().filter_map(|port| pci(&port.device)).collect(),
        cpus,
        ..EalConfig::default()
    }
}

fn ports_config(config: &Config, cores: &CorePlan) -> PortsConfig {
    PortsConfig {
        workers: cores.workers.len() as u16,
        frames_per_port: frames_of_port(config) as usize,
        ..PortsConfig::default()
    }
}

/// The way to the orchestrator, and the orchestrator itself where it is in this process.
fn link(
    config: &Config,
    folder: &Path,
    runtime: &Runtime,
    boot: u64,
) -> Result<(Box<dyn Link>, Option<Orchestrator>), RunError> {
    match &config.orchestrator.kind {
        OrchestratorKind::Embedded { .. } => {
            let (placements, listen) = placements(config, folder)?;
            let (link, orchestrator) = embedded::start(runtime.handle(), placements, &listen)?;
            Ok((Box::new(link), Some(orchestrator)))
        }
        OrchestratorKind::Grpc { endpoint } => {
            let (tls, insecure) = security(&config.orchestrator.security, folder);
            let settings = LinkSettings {
                endpoint: endpoint.to_string(),
                tls,
                insecure,
                site: config.site.name.to_string(),
                boot,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            Ok((Box::new(GrpcLink::connect(runtime.handle(), settings)?), None))
        }
    }
}

/// What a reload means for the orchestrator: nothing where it is another process, with a file of its own.
fn prepare(updates: Option<Updates>, folder: PathBuf) -> Box<Prepare> {
    Box::new(move |config| {
        let Some(updates) = updates.clone() else { return Ok(Box::new(|| ())) };
        let (placements, _) = placements(config, &folder).map_err(|error| error.to_string())?;
        Ok(Box::new(move || updates.replace(placements)))
    })
}

/// The workers' threads. Dropping them ends the workers, also when what should have started after them couldn't.
struct Workers {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stop: Arc::default(), threads: Vec::new() }
    }

    /// What became of all frames.
    fn fates(&self) -> Fates {
        let mut sum = Fates::default();
        self.shared.workers.iter().for_each(|worker| sum.add(&Fates::read(&worker.counters.fates)));
        sum
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a worker had panicked");
            }
        }
        let fates = self.fates();
        match fates.check() {
            Ok(()) if fates.handed_in == fates.handed_out => {
                info!(received = fates.received, dropped = fates.dropped, "the workers have ended");
            }
            law => {
                error!(?law, handed_out = fates.handed_out, handed_in = fates.handed_in, "frames are lost")
            }
        }
    }
}

/// Starts a worker on each of its cores. What the configuration limits for the appliance is shared out.
fn start_workers(
    config: &Config,
    cores: &CorePlan,
    eal: &Eal,
    drivers: Vec<DpdkDriver>,
    shared: &Arc<Shared>,
) -> Result<Workers, RunError> {
    // A reload may change these; the tables have them then.
    let bounds = shared.tables().policy.bounds.unwrap_or_default();
    let limits = WorkerLimits {
        flows: config.limits.flows_per_worker as usize,
        holds: config.limits.holds_per_worker as usize,
        holds_per_prefix: bounds.prefix_share(drivers.len()),
        wakes: bounds.wake_share(drivers.len()),
        ..WorkerLimits::default()
    };
    let rings: Arc<Rings<DpdkFrame>> = Rings::new(drivers.len());
    let flow_keys = [random(), random()];
    let clock = TscClock::start();
    let mut workers = Workers::new(Arc::clone(shared));
    for (index, (driver, core)) in drivers.into_iter().zip(&cores.workers).enumerate() {
        let (shared, rings, stop, eal) =
            (Arc::clone(shared), Arc::clone(&rings), Arc::clone(&workers.stop), eal.clone());
        let (limits, clock, cpu, shared_core) = (limits.clone(), clock, core.cpu.0 as usize, core.shared);
        let body = move || {
            let _alarm = Alarm(index);
            if let Err(error) = pin(cpu) {
                warn!(worker = index, %error, "runs wherever the system puts it");
            }
            // The core should be the worker's alone. Where it isn't, a worker that waits for its turn is late for everybody;
            // but where it is the controller's too, that one needs turns of its own.
            if !shared_core && let Err(error) = rustix::process::setpriority_process(None, WORKER_NICE) {
                warn!(worker = index, %error, "shares its core with whatever else runs there");
            }
            // Without it the thread has no cache of the pools: slower, not wrong.
            let registered = eal.register_thread();
            if let Err(error) = &registered {
                warn!(worker = index, %error, "works without a cache of its own");
            }
            Worker::new(index, driver, clock, shared, rings, flow_keys, &limits).run(&stop);
        };
        workers.threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
    }
    Ok(workers)
}

/// Puts this thread on one CPU, and those that it starts.
fn pin(cpu: usize) -> Result<(), RunError> {
    if core_affinity::set_for_current(CoreId { id: cpu }) { Ok(()) } else { Err(RunError::Cpu(cpu)) }
}

/// Keeps this thread, and those that it starts, on these CPUs.
fn confine(cpus: &[usize]) -> Result<(), RunError> {
    let mut set = CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).map_err(|_| RunError::Cpu(cpus.first().copied().unwrap_or_default()))
}

/// Ends the process when its worker's thread panics: a queue that nobody polls any more is worse than a restart, which
/// takes what the kernel keeps of the ports as it finds it.
struct Alarm(usize);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            error!(worker = self.0, "a worker has panicked; the appliance ends");
            std::process::exit(3);
        }
    }
}

/// A number that nobody outside can guess: the standard library seeds its hashers from the system's random numbers.
fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use millrace_fastpath::clock::{Clock, Nanos};
    use millrace_fastpath::heap::{HeapNet, HeapPlan};

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Nanos {
            Nanos(1)
        }

        fn cycles(&self) -> u64 {
            0
        }
    }

    #[test]
    fn an_error_after_the_workers_have_started_ends_them() {
        let shared = Shared::new(2);
        let start = || {
            let mut workers = Workers::new(Arc::clone(&shared));
            let (_net, drivers) = HeapNet::new(&HeapPlan { ports: 1, workers: 2, ..HeapPlan::default() });
            let rings = Rings::new(2);
            let limits = WorkerLimits { flows: 16, holds: 16, ..WorkerLimits::default() };
            for (index, driver) in drivers.into_iter().enumerate() {
                let (stop, shared) = (Arc::clone(&workers.stop), Arc::clone(&shared));
                let worker = Worker::new(index, driver, Still, shared, Arc::clone(&rings), [1, 2], &limits);
                workers.threads.push(thread::spawn(move || worker.run(&stop)));
            }
            Err::<(), _>(RunError::Cpu(7))
        };
        assert!(start().is_err());
        assert_eq!((shared.epoch(0), shared.epoch(1)), (None, None), "they have ended, and were waited for");
    }
}

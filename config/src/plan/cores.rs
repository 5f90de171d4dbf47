//! Who gets which physical core.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::{Config, CoreRequest, CoreSet, CpuId, CpuSet, Name};
use crate::report::{Code, Diagnostic};
use crate::topology::{Core, NodeId, Topology};

/// Counts the workers from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// Who gets which physical core. Every core of the topology is in exactly one of the lists, save those of workers that
/// share theirs with the controller.
#[derive(Clone, Debug, PartialEq)]
pub struct CorePlan {
    /// The controller's cores: slowpath, orchestrator link, telemetry. At least one.
    pub controller: Vec<Core>,
    /// The workers, one a core, by [`WorkerId`]. At least one.
    pub workers: Vec<WorkerCore>,
    /// Cores that nobody asked for.
    pub unused: Vec<Core>,
    /// What isn't as it should be, but works.
    pub warnings: Vec<Warning>,
}

/// A worker and its core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCore {
    /// Which worker.
    pub id: WorkerId,
    /// The CPU that it is pinned to: the core's lowest, or its highest where the core is shared.
    pub cpu: CpuId,
    /// The core's other threads, which stay idle, or are the controller's where the core is shared.
    pub siblings: CpuSet,
    /// The core's node.
    pub node: NodeId,
    /// Whether the core is also the controller's: for want of another, or because both lists name it.
    pub shared: bool,
}

/// What isn't as it should be, but works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Controller and workers share cores.
    Shared {
        /// Their CPUs.
        cpus: CpuSet,
    },
    /// A worker is on a node that no port is on, so that every frame crosses between nodes.
    FarWorker {
        /// The worker.
        worker: WorkerId,
        /// Its node.
        node: NodeId,
    },
    /// A port is on a node that no worker is on.
    FarPort {
        /// The port.
        port: Name,
        /// Its node.
        node: NodeId,
    },
    /// This process may not run on some CPUs that are online.
    Forbidden {
        /// The CPUs.
        cpus: CpuSet,
    },
    /// CPU 0's core is a worker's, and the kernel keeps work there.
    KernelCore,
}

impl CorePlan {
    pub(super) fn new(
        config: &Config,
        topology: &Topology,
        ports: &[Option<NodeId>],
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        let mut pool = Pool { topology, free: topology.cores.iter().collect() };
        // Lists first, so that numbers are taken from what is really left.
        let named = [&config.cores.controller, &config.cores.dataplane].map(|request| match &request.cores {
            CoreSet::Cpus(cpus) => Some(pool.take_named(cpus, request, &mut wrong)),
            CoreSet::Count(_) | CoreSet::Rest => None,
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let [controller, dataplane] = named;
        // One core in all: it is shared, unless two lists were given, which say so themselves.
        if topology.cores.len() == 1 && !matches!((&controller, &dataplane), (Some(_), Some(_))) {
            return Self::shared(config, topology, ports);
        }
        let near: BTreeSet<NodeId> = ports.iter().flatten().copied().collect();
        // Whoever has the rest comes last.
        let controller_last = config.cores.controller.cores == CoreSet::Rest;
        let mut controller = controller.unwrap_or_default();
        let mut dataplane = dataplane.unwrap_or_default();
        let mut fill = |cores: &mut Vec<Core>, request: &CoreRequest, who: &str, order: Vec<Core>| {
            let wanted = match &request.cores {
                CoreSet::Cpus(_) => return,
                CoreSet::Count(count) => count.get() as usize,
                CoreSet::Rest => order.len().max(1),
            };
            if wanted > order.len() {
                let message =
                    format!("{who} wants {}, and {} left", plural(wanted, "core"), are(order.len()));
                let help = format!(
                    "the machine has {}; the hyper-threads of one count once",
                    plural(topology.cores.len(), "physical core")
                );
                wrong.push(
                    Diagnostic::new(Code::TooFewCores, request.origin.span(), message)
                        .label("too many")
                        .help(help),
                );
                return;
            }
            cores.extend(order.into_iter().take(wanted));
        };
        if controller_last {
            let order = pool.worker_order(&near);
            fill(&mut dataplane, &config.cores.dataplane, "the dataplane", order);
            pool.free.retain(|core| !dataplane.contains(core));
            let order = pool.controller_order();
            fill(&mut controller, &config.cores.controller, "the controller", order);
        } else {
            let order = pool.controller_order();
            fill(&mut controller, &config.cores.controller, "the controller", order);
            pool.free.retain(|core| !controller.contains(core));
            let order = pool.worker_order(&near);
            fill(&mut dataplane, &config.cores.dataplane, "the dataplane", order);
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        pool.free.retain(|core| !dataplane.contains(core) && !controller.contains(core));
        let unused = pool.free.into_iter().cloned().collect();
        controller.sort();
        dataplane.sort();
        let workers = dataplane
            .iter()
            .enumerate()
            .map(|(n, core)| worker(n, core, controller.contains(core)))
            .collect();
        let mut plan = Self { controller, workers, unused, warnings: Vec::new() };
        plan.warn(config, topology, ports);
        Ok(plan)
    }

    /// The plan of a machine with a single core.
    fn shared(
        config: &Config,
        topology: &Topology,
        ports: &[Option<NodeId>],
    ) -> Result<Self, Vec<Diagnostic>> {
        let core = &topology.cores[0];
        for request in [&config.cores.controller, &config.cores.dataplane] {
            if let CoreSet::Count(count) = request.cores
                && count.get() > 1
            {
                let message = format!("{} cores are wanted, and there is one in all", count.get());
                return Err(vec![
                    Diagnostic::new(Code::TooFewCores, request.origin.span(), message).label("too many"),
                ]);
            }
        }
        let mut plan = Self {
            controller: vec![core.clone()],
            workers: vec![worker(0, core, true)],
            unused: Vec::new(),
            warnings: Vec::new(),
        };
        plan.warn(config, topology, ports);
        Ok(plan)
    }

    /// The CPUs that the controller's threads may run on: those of its cores, without a worker's where one is shared
    /// and there is another.
    pub fn controller_cpus(&self) -> CpuSet {
        let all: CpuSet = self.controller.iter().flat_map(|core| core.cpus.iter()).collect();
        let free: CpuSet =
            all.iter().filter(|cpu| self.workers.iter().all(|worker| worker.cpu != *cpu)).collect();
        if free.is_empty() { all } else { free }
    }

    fn warn(&mut self, config: &Config, topology: &Topology, ports: &[Option<NodeId>]) {
        let shared = self.workers.iter().filter(|worker| worker.shared);
        let shared: CpuSet = shared.flat_map(|worker| worker.siblings.iter().chain([worker.cpu])).collect();
        if !shared.is_empty() {
            self.warnings.push(Warning::Shared { cpus: shared });
        }
        if !topology.forbidden.is_empty() {
            self.warnings.push(Warning::Forbidden { cpus: topology.forbidden.clone() });
        }
        let kernel = |worker: &WorkerCore| {
            !worker.shared && (worker.cpu == CpuId(0) || worker.siblings.contains(CpuId(0)))
        };
        if self.workers.iter().any(kernel) {
            self.warnings.push(Warning::KernelCore);
        }
        let near: BTreeSet<NodeId> = ports.iter().flatten().copied().collect();
        // A port of unknown node may be anywhere, so no worker is known to be far.
        if !ports.contains(&None) {
            let far = self.workers.iter().filter(|worker| !near.contains(&worker.node));
            self.warnings
                .extend(far.map(|worker| Warning::FarWorker { worker: worker.id, node: worker.node }));
        }
        for (port, node) in config.ports.iter().zip(ports) {
            if let Some(node) = node
                && self.workers.iter().all(|worker| worker.node != *node)
            {
                self.warnings.push(Warning::FarPort { port: port.name.clone(), node: *node });
            }
        }
    }
}

/// The cores that nobody has yet.
struct Pool<'t> {
    topology: &'t Topology,
    free: Vec<&'t Core>,
}

impl Pool<'_> {
    /// Takes the cores of a list of CPUs, and notes each CPU that isn't there and each core that is split.
    fn take_named(&mut self, cpus: &CpuSet, request: &CoreRequest, wrong: &mut Vec<Diagnostic>) -> Vec<Core> {
        let span = request.origin.span();
        let absent: CpuSet = cpus.iter().filter(|cpu| self.topology.core_of(*cpu).is_none()).collect();
        if !absent.is_empty() {
            let all: CpuSet = self.topology.cores.iter().flat_map(|core| core.cpus.iter()).collect();
            let why = match absent.iter().all(|cpu| self.topology.forbidden.contains(cpu)) {
                true => "this process may not run there",
                false => "not there, or offline",
            };
            let message = format!("CPU {absent} can't be used");
            wrong.push(
                Diagnostic::new(Code::NoSuchCpu, span.clone(), message)
                    .label(why)
                    .help(format!("there is {all}")),
            );
        }
        let mut taken = Vec::new();
        let (mut split, mut missing) = (Vec::new(), Vec::new());
        for core in &self.topology.cores {
            let (inside, outside): (Vec<_>, Vec<_>) = core.cpus.iter().partition(|cpu| cpus.contains(*cpu));
            if inside.is_empty() {
                continue;
            }
            if !outside.is_empty() {
                split.extend(inside);
                missing.extend(outside);
            }
            taken.push(core.clone());
        }
        if !split.is_empty() {
            let [split, missing]: [CpuSet; 2] = [split, missing].map(|cpus| cpus.into_iter().collect());
            let message = match split.len() {
                1 => format!("CPU {split} shares its core with CPU {missing}"),
                _ => format!("CPUs {split} share their cores with CPUs {missing}"),
            };
            wrong.push(
                Diagnostic::new(Code::SplitCore, span, message)
                    .label("a core can't be split")
                    .help(format!("add {missing} to the list, or take {split} out")),
            );
        }
        self.free.retain(|core| !taken.contains(core));
        taken
    }

    /// First the core of the lowest CPU, then the first of each other node, then the others in order.
    fn controller_order(&self) -> Vec<Core> {
        let mut nodes = BTreeSet::new();
        let (first, others): (Vec<&Core>, Vec<&Core>) =
            self.free.iter().partition(|core| nodes.insert(core.node));
        first.into_iter().chain(others).cloned().collect()
    }

    /// First the cores of the ports' nodes, in turn, then the others; the core of the lowest CPU last of all.
    fn worker_order(&self, near: &BTreeSet<NodeId>) -> Vec<Core> {
        let lowest = self.topology.cores.first();
        let mut turns = std::collections::BTreeMap::new();
        let mut ranked: Vec<_> = self
            .free
            .iter()
            .map(|core| {
                let turn: &mut usize = turns.entry(core.node).or_default();
                *turn += 1;
                ((Some(*core) == lowest, !near.is_empty() && !near.contains(&core.node), *turn), *core)
            })
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, core)| core.clone()).collect()
    }
}

/// A shared core's lowest CPU is left to the controller.
fn worker(n: usize, core: &Core, shared: bool) -> WorkerCore {
    let cpu = if shared { core.cpus.iter().last() } else { core.cpus.first() }.unwrap_or_default();
    let siblings = core.cpus.iter().filter(|sibling| *sibling != cpu).collect();
    // Workers are fewer than CPUs, and CPUs than `CPUS_MAX`.
    WorkerCore { id: WorkerId(n as u16), cpu, siblings, node: core.node, shared }
}

fn are(n: usize) -> String {
    match n {
        0 => "none is".into(),
        1 => "1 is".into(),
        n => format!("{n} are"),
    }
}

fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { cpus } => {
                write!(f, "controller and workers share CPU {cpus}: each slows the other down")
            }
            Self::FarWorker { worker, node } => {
                write!(
                    f,
                    "worker {worker} is on node {node}, which no port is on: its frames cross between nodes"
                )
            }
            Self::FarPort { port, node } => {
                write!(
                    f,
                    "port {port} is on node {node}, which no worker is on: its frames cross between nodes"
                )
            }
            Self::Forbidden { cpus } => write!(f, "CPU {cpus} is online, but this process may not run there"),
            Self::KernelCore => write!(f, "CPU 0's core is a worker's: the kernel interrupts it there"),
        }
    }
}

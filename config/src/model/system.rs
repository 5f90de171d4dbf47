//! What isn't traffic: site, cores, memory, limits, orchestrator, telemetry.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::{CpuSet, Endpoint, Name, SecretRef};
use crate::grammar::choice;
use crate::report::Origin;

/// Which edge location this is.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name, the same in every message to the orchestrator.
    pub name: Name,
}

/// What the physical cores do.
#[derive(Clone, Debug, PartialEq)]
pub struct Cores {
    /// Those of the slowpath, the orchestrator link and telemetry.
    pub controller: CoreRequest,
    /// Those of the workers, one each.
    pub dataplane: CoreRequest,
    /// What a worker's hyper-thread sibling does.
    pub sibling: Sibling,
}

/// Which physical cores somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreRequest {
    /// The cores.
    pub cores: CoreSet,
    /// Where the file asks, for errors that only the machine's topology shows.
    pub origin: Origin,
}

/// Which physical cores.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreSet {
    /// So many of those that are left.
    Count(NonZeroU32),
    /// All that are left.
    Rest,
    /// Those of these CPUs, which must be whole cores.
    Cpus(CpuSet),
}

choice! {
    /// What a worker's hyper-thread sibling does.
    pub enum Sibling {
        /// Nothing, so that the worker has the core to itself.
        "idle" => Idle,
        later "timers",
    }
}

/// Hugepages and frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Whether DPDK takes its memory from hugepages.
    pub hugepages: Hugepages,
    /// Frame buffers of each port's pool.
    pub frames_per_port: u32,
}

choice! {
    /// Whether DPDK takes its memory from hugepages.
    pub enum Hugepages {
        /// Where there are any; else a warning.
        "auto" => Auto,
        /// Or the appliance doesn't start.
        "require" => Require,
        /// Not even where there are some.
        "never" => Never,
    }
}

/// Which parts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Answer DNS queries. Needs [`super::Config::dns`].
    pub dns: bool,
    /// Steer packets to services.
    pub balancer: bool,
}

/// Bounds of tables and rates. Those of the appliance are shares of its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows that one worker can know.
    pub flows_per_worker: u32,
    /// Packets that one worker can hold.
    pub holds_per_worker: u32,
    /// Packets held for one source prefix, a /24 or a /56, by one worker.
    pub holds_per_prefix: u32,
    /// Wakes asked of the orchestrator in one second, over all services and workers.
    pub wakes_per_second: u32,
    /// Wakes that may be asked for at once, before the rate bounds them.
    pub wakes_burst: u32,
    /// Neighbours that can be known, static ones included.
    pub neighbours_max: u32,
}

/// The link to the orchestrator.
#[derive(Clone, Debug, PartialEq)]
pub struct Orchestrator {
    /// Which one.
    pub kind: OrchestratorKind,
    /// How the link is protected.
    pub security: Security,
}

/// Which orchestrator.
#[derive(Clone, Debug, PartialEq)]
pub enum OrchestratorKind {
    /// In this process.
    Embedded {
        /// Where serving nodes connect.
        listen: SocketAddr,
        /// The serving nodes it drives.
        nodes: Vec<Node>,
    },
    /// Another process, reached over gRPC.
    Grpc {
        /// Where it listens. Its scheme agrees with [`Orchestrator::security`].
        endpoint: Endpoint,
    },
}

/// How the orchestrator link is protected.
#[derive(Clone, Debug, PartialEq)]
pub enum Security {
    /// Not at all: within one host, or because `orchestrator.insecure` says so.
    Plaintext,
    /// Mutual TLS.
    Tls(Tls),
}

/// Our identity and whom we trust, as PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Our certificate chain.
    pub cert: SecretRef,
    /// Its private key.
    pub key: SecretRef,
    /// The authority that signed the peers' certificates.
    pub ca: SecretRef,
}

/// A serving node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What the operator calls it; used once.
    pub name: Name,
    /// Where its instances are reached; used once.
    pub address: IpAddr,
    /// What it runs.
    pub kind: NodeKind,
}

choice! {
    /// What a serving node runs.
    pub enum NodeKind {
        /// Wasm components.
        "wasm" => Wasm,
        later "container",
        later "vm",
        later "physical",
    }
}

/// Metrics, control socket and log.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Where OpenMetrics are served over HTTP, if at all.
    pub metrics_listen: Option<SocketAddr>,
    /// The Unix socket behind `millrace show` and `millrace trace`.
    pub control_socket: PathBuf,
    /// What is logged.
    pub log: LogLevel,
}

choice! {
    /// What is logged: messages of this level and above.
    pub enum LogLevel {
        /// What can't go on.
        "error" => Error,
        /// What an operator should look at.
        "warn" => Warn,
        /// What changed.
        "info" => Info,
        /// Every decision of the slowpath.
        "debug" => Debug,
        /// Everything.
        "trace" => Trace,
    }
}

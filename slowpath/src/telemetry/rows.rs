//! What `millrace show` prints with `--json`: one struct per kind of row. Fields are stable: they may become more, but none
//! changes its name or meaning. Times ending in `_nanos` are of the machine's monotonic clock; counters begin with the
//! appliance.

use std::collections::BTreeMap;

mod bier;
mod echo;

use millrace_fastpath::fates::Fates;
use serde::{Deserialize, Serialize};

pub use bier::*;
pub use echo::*;

/// `show ports`: an Ethernet port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortRow {
    /// Its name in the configuration.
    pub name: String,
    /// The DPDK device.
    pub device: String,
    /// Whether the link is up.
    pub up: bool,
    /// Link speed in Mbit/s, where the device knows it.
    pub speed_mbps: Option<u32>,
    /// Whether the device has vanished.
    pub removed: bool,
    /// Its link-layer address.
    pub mac: String,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Frames received, by the device's count.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that came while no descriptor was free.
    pub rx_missed: u64,
    /// Frames that came broken.
    pub rx_errors: u64,
    /// Frames lost because the pool was empty.
    pub rx_no_buffer: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device couldn't send.
    pub tx_errors: u64,
    /// Free frames in the pool that it receives into.
    pub pool_free: u64,
}

/// `show workers`: all of them, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkersReport {
    /// One row a worker.
    pub workers: Vec<WorkerRow>,
    /// Their fates together; `handed_in` and `handed_out` cancel.
    pub total: Fates,
    /// Frames of `total` that no law of fates explains; 0, or there is a bug.
    pub unexplained: u64,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its number.
    pub worker: usize,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// Polls that found nothing, as a share of all, 0 to 1.
    pub idle_share: f64,
    /// Generation of the tables that it works by; `null` once it has ended.
    pub generation: Option<u64>,
    /// Flows that it knows.
    pub flows: u64,
    /// Flows that were begun by what a QUIC connection id says.
    pub flows_by_id: u64,
    /// Flows that had to make room for others.
    pub flows_evicted: u64,
    /// Flows that found no room, because all that could have made some were established.
    pub flows_refused: u64,
    /// Fragmented packets that were forgotten before their time, for want of room.
    pub fragments_evicted: u64,
    /// Triples of the trigger `flow` that were forgotten before their time, for want of room.
    pub triples_evicted: u64,
    /// Packets that couldn't be held, by reason, whatever became of them instead.
    pub holds_refused: BTreeMap<String, u64>,
    /// Frames of the control thread's that found no buffer.
    pub injects_lost: u64,
    /// Messages to the control thread that found the queue full.
    pub events_lost: u64,
    /// Wakes that the limit refused.
    pub wakes_limited: u64,
    /// ICMP errors sent about packets that were refused.
    pub errors_sent: u64,
    /// ICMP errors that the limit left unsent.
    pub errors_limited: u64,
    /// DNS answers sent truncated to a source prefix that had its share.
    pub responses_slipped: u64,
    /// Source prefixes that the limiter of answers forgot before their time, for want of room.
    pub limits_evicted: u64,
    /// What became of its frames.
    pub fates: Fates,
    /// Frames that no law of fates explains.
    pub unexplained: u64,
}

/// `show nodes`: a node of the packet path, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Frames that came in.
    pub frames: u64,
    /// Vectors that they came in.
    pub vectors: u64,
    /// Cycles spent on them.
    pub cycles: u64,
    /// `frames / vectors`; 0 before the first.
    pub frames_per_vector: f64,
    /// `cycles / frames`; 0 before the first.
    pub cycles_per_frame: f64,
    /// Drops by reason; all reasons that the node has, also those of 0.
    pub drops: BTreeMap<String, u64>,
}

/// `show services`: a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Its name in the configuration.
    pub name: String,
    /// `cold`, `waking`, `ready`, `draining`, `quarantined`, `bypass` or `down`.
    pub phase: String,
    /// The number of its latest wake; 0 before the first.
    pub wake: u64,
    /// The DNS names that lead to it.
    pub dns_names: Vec<String>,
    /// Where clients find it: `tcp 203.0.113.10:80`.
    pub endpoints: Vec<String>,
    /// Where it is served.
    pub instances: Vec<InstanceRow>,
    /// Flows now.
    pub flows: u64,
    /// Flows begun.
    pub flows_begun: u64,
    /// Flows whose client went on after it was answered: of TCP, whose handshake was completed.
    pub flows_established: u64,
    /// Triples of source, destination and protocol that the trigger `flow` took for new.
    pub arrivals: u64,
    /// Wakes in a row that led to nothing; see `escalation`.
    pub strikes: u32,
    /// What those ask of the next first packet beyond the configuration: 0 nothing, 1 a repetition, 2 an answer to a
    /// cookie where the service can send one.
    pub escalation: u8,
    /// What a first packet has to prove now: `none`, `second-syn` or `cookie`.
    pub asks: String,
    /// Packets that took the overflow action, whichever it is.
    pub overflowed: u64,
    /// Packets held now.
    pub held: u64,
    /// Seconds since the last packet or query; `null` before the first.
    pub idle_seconds: Option<f64>,
    /// How often handshakes failed everywhere, so that all instances were used.
    pub panics: u64,
}

/// An instance of a service, or a fixed backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Its id at the orchestrator; 0 for a fixed backend.
    pub id: u64,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its port; 0 for the one that the client addressed.
    pub port: u16,
    /// Its share of new flows.
    pub weight: u16,
    /// `starting`, `ready` or `draining`.
    pub state: String,
    /// Whether it is a configured backend.
    pub fixed: bool,
    /// Flows now.
    pub flows: u64,
    /// `up`; `down` at all its addresses, or `partly` so; `ejected` because clients' handshakes fail; `unchecked`.
    pub health: String,
    /// Its addresses that are probed.
    pub checks: Vec<CheckRow>,
    /// What became of clients' handshakes; `null` where they aren't watched.
    pub handshakes: Option<HandshakeRow>,
}

/// An address that is probed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckRow {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// `up` or `down`.
    pub state: String,
    /// Seconds since it came into this state, or is probed.
    pub seconds: f64,
    /// Probes so far.
    pub probes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Why the last one that failed did; `null` before the first.
    pub error: Option<String>,
}

/// Clients' TCP handshakes with an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HandshakeRow {
    /// Begun.
    pub begun: u64,
    /// Accepted by the instance.
    pub answered: u64,
    /// Refused by it, or it couldn't be reached.
    pub refused: u64,
    /// Those that nothing came back to.
    pub unanswered: u64,
    /// How often the instance was left out.
    pub ejections: u64,
    /// Seconds until it is used again; `null` while it is used.
    pub ejected_seconds: Option<f64>,
}

/// `show flows`: a flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowRow {
    /// The worker that owns it.
    pub worker: usize,
    /// The service.
    pub service: String,
    /// `tcp`, `udp`, or a protocol number.
    pub protocol: String,
    /// The client.
    pub client: String,
    /// What the client addressed.
    pub address: String,
    /// The instance.
    pub instance: String,
    /// The appliance's address and port towards the instance, where the source is translated.
    pub nat: Option<String>,
    /// `new`, `joined`, `answered`, `established`, `half-closed` or `closing`.
    pub state: String,
    /// Seconds since the last packet.
    pub idle_seconds: u32,
}

/// `show names`: a name that DNS answers for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// The view whose clients see it; `null` where everybody without a view does.
    pub view: Option<String>,
    /// The zone that it lies in.
    pub zone: String,
    /// The service that it leads to.
    pub service: Option<String>,
    /// The types that it has records of.
    pub types: Vec<String>,
}

/// `show neighbours`: a station on a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// The interface.
    pub interface: String,
    /// Its address.
    pub address: String,
    /// Its link-layer address, if known.
    pub mac: Option<String>,
    /// `static`, `incomplete`, `reachable`, `probing` or `failed`.
    pub state: String,
    /// Seconds since it was last heard of, or since it came into this state; `null` for static ones.
    pub seconds: Option<f64>,
}

/// `show holds`: packets that wait for a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldRow {
    /// The service.
    pub service: String,
    /// Its phase.
    pub phase: String,
    /// Packets held now.
    pub held: u64,
    /// Packets that may be held.
    pub held_max: u32,
    /// How long one may be held, in milliseconds.
    pub deadline_ms: u64,
    /// What happens to one that can't be held, or no longer.
    pub overflow: String,
    /// Packets held now, by worker.
    pub by_worker: Vec<u64>,
}

/// `show wakes`: a wake, oldest first. Each time is `null` until the point is passed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WakeRow {
    /// The service.
    pub service: String,
    /// Its number among the service's.
    pub wake: u64,
    /// `dns`, `syn` or `flow`.
    pub trigger: Option<String>,
    /// Who sent the first packet.
    pub client: Option<String>,
    /// The notice's sequence at the orchestrator; 0 before it was handed over.
    pub sequence: u64,
    /// A worker saw the first packet.
    pub seen_nanos: Option<u64>,
    /// The orchestrator's link took the notice.
    pub handed_nanos: Option<u64>,
    /// The orchestrator confirmed the notice.
    pub acknowledged_nanos: Option<u64>,
    /// The first DNS answer left.
    pub answered_nanos: Option<u64>,
    /// The first packet was held.
    pub held_nanos: Option<u64>,
    /// The service was made ready.
    pub ready_nanos: Option<u64>,
    /// The first held packet left.
    pub released_nanos: Option<u64>,
    /// The first held packet ran into its deadline.
    pub expired_nanos: Option<u64>,
    /// It came to nothing.
    pub failed_nanos: Option<u64>,
    /// Why it came to nothing; else empty.
    pub reason: String,
}

/// `show link`: the orchestrator's link and the control thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Whether the orchestrator is there.
    pub up: bool,
    /// Generation of the placement in the tables.
    pub placement: u64,
    /// Counters, by name; those of the metrics `millrace_control_*_total`.
    pub counters: BTreeMap<String, u64>,
}

/// `show config`: the configuration that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigReport {
    /// The file that it was read from.
    pub file: String,
    /// When it was read, in seconds since 1970-01-01 UTC.
    pub loaded_unix_seconds: u64,
    /// Reloads that were carried out.
    pub reloads_applied: u64,
    /// Reloads that were refused; what ran went on.
    pub reloads_refused: u64,
    /// Why the last reload was refused; empty if it wasn't.
    pub refusal: String,
}

/// `trace`: one frame at one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceRow {
    /// Which of the traced frames, from 0.
    pub frame: usize,
    /// The worker that it came to.
    pub worker: usize,
    /// The node.
    pub node: String,
    /// What the node decided.
    pub decision: String,
    /// The headers as they stood then, in short.
    pub summary: String,
    /// The first bytes from the IP header on, in hexadecimal.
    pub bytes: String,
}

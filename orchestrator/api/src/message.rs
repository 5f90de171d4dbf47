//! What is said, as plain values: addresses are addresses, states are enums, absence is `None`.
//!
//! [`Up`] and [`Down`] pass between an appliance and its orchestrator, [`NodeUp`] and [`NodeDown`] between a serving
//! node and the orchestrator. Greetings and heartbeats of an appliance's link are the link's own business and don't
//! show here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From an appliance to the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// A request's first packet came in: wake its service.
    FirstPacket(FirstPacket),
    /// The appliance's tables show a generation.
    Applied {
        /// Which one.
        generation: Generation,
        /// [`crate::View::digest`] of what was applied.
        digest: u64,
    },
    /// A service has had no flow and no query for its idle time.
    Idle(Idle),
    /// A delta didn't fit: send a snapshot.
    Resync,
}

/// From the orchestrator to an appliance. [`crate::View`] applies the first two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// The whole placement.
    Snapshot(Snapshot),
    /// What changed since a generation.
    Delta(Delta),
    /// The notice with this sequence has been taken.
    Acknowledge {
        /// [`FirstPacket::sequence`].
        sequence: u64,
    },
}

/// A placement's version. Grows with each change, also across restarts of the orchestrator; zero means none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An instance's identity, never used twice, also not across restarts of the orchestrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

/// The notice of a request's first packet: L2 and L3 header fields, no payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstPacket {
    /// The appliance's site.
    pub site: String,
    /// The appliance's boot; chosen anew at each start.
    pub boot: u64,
    /// Counts notices within a boot. (site, boot, sequence) is the notice's identity.
    pub sequence: u64,
    /// The service to wake.
    pub service: String,
    /// What kind of packet it was.
    pub trigger: Trigger,
    /// When it was seen, nanoseconds since 1970-01-01 UTC.
    pub time_unix_ns: u64,
    /// The port it came in by.
    pub ingress_port: String,
    /// Its 802.1Q VLAN.
    pub vlan: Option<u16>,
    /// Ethernet source.
    pub source_mac: MacAddress,
    /// Ethernet destination.
    pub destination_mac: MacAddress,
    /// IP source; same family as the destination.
    pub source_address: IpAddr,
    /// IP destination.
    pub destination_address: IpAddr,
    /// IPv4 protocol, or the last IPv6 next header.
    pub next_header: u8,
    /// Length of the IP packet, bytes.
    pub length_bytes: u16,
    /// The IPv6 flow label (RFC 6437), 20 bits; 0 with IPv4.
    pub flow_label: u32,
    /// The question, with [`Trigger::Dns`].
    pub dns: Option<DnsQuestion>,
    /// Workload hint: the function that the service leads to; empty when unknown.
    pub function_class: String,
}

/// What kind of first packet asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// A query for one of the service's names.
    Dns,
    /// A TCP SYN to the service's address.
    Syn,
    /// A packet to the service's address, whatever follows its IP header.
    Flow,
}

/// The question of a DNS trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsQuestion {
    /// The service's names, one of which was asked for: presentation form, lower case, with the final dot. Which one it
    /// was makes no difference to what is started.
    pub names: Vec<String>,
    /// The type's number (RFC 1035 section 3.2.2).
    pub kind: u16,
}

/// A service that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// Which one.
    pub service: String,
    /// The generation applied when the appliance decided so; an older decision than the placement is ignored.
    pub generation: Generation,
}

/// The whole placement: what isn't in it doesn't exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its version.
    pub generation: Generation,
    /// One entry per service.
    pub services: Vec<ServicePlacement>,
}

/// What changed between two generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The generation it applies to.
    pub from: Generation,
    /// The generation it leads to; equal to `from` when it repeats what is known.
    pub to: Generation,
    /// Each one replaces its service's placement.
    pub changes: Vec<ServicePlacement>,
}

/// Where a service's instances are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlacement {
    /// The service.
    pub service: String,
    /// Its instances, by rising id.
    pub instances: Vec<Instance>,
    /// The last wake that came to nothing; gone with the next one that is tried.
    pub failure: Option<ServiceFailure>,
}

/// One instance, as an appliance needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its identity.
    pub id: InstanceId,
    /// The serving node it is on.
    pub node: String,
    /// In a placement: starting, ready or draining.
    pub state: InstanceState,
    /// Where it listens over IPv4.
    pub ipv4_address: Option<Ipv4Addr>,
    /// Where it listens over IPv6.
    pub ipv6_address: Option<Ipv6Addr>,
    /// The TCP port it listens on.
    pub port: u16,
    /// Share of new flows, relative to the service's other instances.
    pub weight: u32,
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstanceState {
    /// Its sockets are bound and queue connections; nothing answers them yet.
    Starting,
    /// It answers.
    Ready,
    /// No new flows; the ones it has may end.
    Draining,
    /// Gone, its capacity free. Said by serving nodes only.
    Stopped,
    /// Gone without having been told to. Said by serving nodes only.
    Failed,
}

/// A wake that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFailure {
    /// The notices that it was for: of each boot the last one that joined it. None when no notice asked.
    pub notices: Vec<NoticeId>,
    /// Why, for the operator.
    pub reason: String,
}

impl ServiceFailure {
    /// Whether it is the end of what this notice began: it lists the notice, or a later one of the same boot, which
    /// joined the same wake. A failure from before the notice does neither.
    #[must_use]
    pub fn answers(&self, site: &str, boot: u64, sequence: u64) -> bool {
        self.notices.iter().any(|one| one.site == site && one.boot == boot && one.sequence >= sequence)
    }
}

/// Names a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeId {
    /// [`FirstPacket::site`].
    pub site: String,
    /// [`FirstPacket::boot`].
    pub boot: u64,
    /// [`FirstPacket::sequence`].
    pub sequence: u64,
}

/// From a serving node to the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeUp {
    /// First on each stream.
    Hello(NodeHello),
    /// An instance changed.
    Status(InstanceStatus),
    /// Still there, and this busy.
    Heartbeat {
        /// Requests being served now.
        in_flight: u64,
        /// Requests since the node started.
        requests: u64,
    },
}

/// From the orchestrator to a serving node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeDown {
    /// Start an instance.
    Start(Start),
    /// Stop one.
    Stop(Stop),
}

/// A serving node introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHello {
    /// Its name, as configured at the orchestrator.
    pub name: String,
    /// What it runs.
    pub kind: NodeKind,
    /// Its version, for the operator.
    pub version: String,
    /// Where its instances listen over IPv4.
    pub ipv4_address: Option<Ipv4Addr>,
    /// Where its instances listen over IPv6.
    pub ipv6_address: Option<Ipv6Addr>,
    /// Memory for instances, bytes.
    pub memory_bytes: u64,
    /// Every instance it has; one that isn't listed doesn't exist any more.
    pub instances: Vec<InstanceStatus>,
}

/// What a serving node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// WebAssembly components that export `wasi:http/incoming-handler`.
    Wasm,
}

/// What a serving node says of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceStatus {
    /// Which one.
    pub instance: InstanceId,
    /// The service it was started for.
    pub service: String,
    /// The function it runs.
    pub function: String,
    /// How far it is.
    pub state: InstanceState,
    /// The TCP port it listens on; zero before it does.
    pub port: u16,
    /// Memory reserved for it, bytes.
    pub memory_bytes: u64,
    /// Why it failed; empty otherwise.
    pub reason: String,
}

/// Start an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its identity from now on.
    pub instance: InstanceId,
    /// The service it is for.
    pub service: String,
    /// The node finds the function's component by this name.
    pub function: String,
    /// Memory that one instance may reach, bytes.
    pub memory_bytes: u64,
    /// Longest time for one request, milliseconds.
    pub deadline_ms: u64,
    /// The TCP port to listen on; zero lets the node choose.
    pub port: u16,
}

/// Refuse new connections, end what is in flight, then say [`InstanceState::Stopped`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Which one.
    pub instance: InstanceId,
    /// Time for what is in flight, milliseconds.
    pub drain_ms: u64,
}

//! Functions, and the services that lead to them.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use super::{DnsName, Name, SecretRef, ServerId, ServicePort};
use crate::grammar::choice;

/// Counts the functions in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionIndex(pub usize);

/// Code that runs on serving nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// What the operator calls it; used once.
    pub name: Name,
    /// The Wasm component. A relative path begins at the folder of the configuration file.
    pub component: PathBuf,
    /// What happens to an instance after a request.
    pub lifecycle: Lifecycle,
    /// Memory of one instance, in MiB.
    pub memory_mib: u32,
    /// Longest time that one request may take.
    pub deadline: Duration,
    /// How many instances there may be.
    pub instances: Instances,
    /// How the orchestrator chooses a serving node.
    pub placement: Placement,
}

/// How many instances of a function there may be, over all serving nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instances {
    /// Kept even when nobody asks.
    pub min: u32,
    /// Never exceeded; at least 1 and at least `min`.
    pub max: u32,
}

/// A name and address that lead to a function or to fixed backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What the operator calls it; used once.
    pub name: Name,
    /// DNS names bound to it. Each lies in a zone of ours and leads to no other service.
    pub names: Vec<DnsName>,
    /// Its addresses (VIPs), at least one; together with `ports` used by no other service.
    pub address: Vec<IpAddr>,
    /// The ports it listens on, at least one.
    pub ports: Vec<ServicePort>,
    /// How packets get to an instance.
    pub forwarding: Forwarding,
    /// Whose address an instance sees.
    pub source: SourceMode,
    /// What is behind it.
    pub target: Target,
    /// How its QUIC servers make their connection ids, if these say whose they are.
    pub quic: Option<Quic>,
}

/// How QUIC servers make their connection ids (QUIC-LB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quic {
    /// Length of a server id, in bytes; that of each backend is so long.
    pub server_id_bytes: u8,
    /// How they make them now.
    pub current: QuicLayout,
    /// How they made them before; of another rotation.
    pub previous: Option<QuicLayout>,
}

/// One way to make QUIC connection ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicLayout {
    /// The first three bits, 0 to 6.
    pub rotation: u8,
    /// Length of a nonce, in bytes; with that of a server id 19 at most.
    pub nonce_bytes: u8,
    /// Where the key is, if there is one.
    pub key: Option<SecretRef>,
}

impl Quic {
    /// All ways that ids are read by.
    pub fn layouts(&self) -> impl Iterator<Item = &QuicLayout> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// The key in a file of a QUIC key: 32 hexadecimal digits on a line, blank lines and those that begin with `#` left out.
/// `None` if there is anything else in it.
pub fn quic_key(text: &str) -> Option<[u8; 16]> {
    match super::cookie_secrets(text)?[..] {
        [key] => Some(key),
        _ => None,
    }
}

/// What is behind a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Instances of a function, woken on demand.
    Function(OnDemand),
    /// Fixed backends, at least one for each family of the service's addresses.
    Backends(Vec<Backend>),
}

/// How a service's function is woken, and what happens to packets until it is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDemand {
    /// The function.
    pub function: FunctionIndex,
    /// What wakes it; at least one of the three.
    pub trigger: Triggers,
    /// What happens to the first packet.
    pub first_packet: FirstPacket,
    /// What must be proven about a client before it may wake the function.
    pub verify: Verify,
    /// When a query for one of the service's names is answered.
    pub dns_answer: DnsAnswer,
    /// Bounds of what is held.
    pub hold: Hold,
    /// Without traffic for this long, the last instance may go.
    pub idle_reap: Duration,
    /// The service's `backends`, which take the traffic with [`Overflow::Fallback`]; then at least one for each
    /// family of the service's addresses, else empty.
    pub fallback: Vec<Backend>,
}

/// What wakes a service's function: a set of [`Trigger`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    /// [`Trigger::Dns`] is among them.
    pub dns: bool,
    /// [`Trigger::Syn`] is among them.
    pub syn: bool,
    /// [`Trigger::Flow`] is among them. Then the service's addresses are nobody else's, and the client proves nothing that
    /// stands behind an IP header.
    pub flow: bool,
}

/// Bounds of what is held for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Most packets held, over all workers.
    pub packets: u32,
    /// Longest time a packet is held.
    pub deadline: Duration,
    /// What happens to a packet that can't be held, or no longer.
    pub overflow: Overflow,
}

/// One fixed backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Its address; used once in a service.
    pub address: IpAddr,
    /// Its share of new flows, relative to the others'.
    pub weight: NonZeroU16,
    /// Takes no new flows; those it has go on.
    pub drain: bool,
    /// Its id in QUIC connection ids; each backend has one of its own if, and only if, the service has [`Service::quic`].
    pub server_id: Option<ServerId>,
}

choice! {
    /// What happens to an instance after a request.
    pub enum Lifecycle {
        /// Removed: every request gets a fresh one.
        "ephemeral" => Ephemeral,
        later "reuse",
        later "sticky",
    }
}

choice! {
    /// How the orchestrator chooses a serving node.
    pub enum Placement {
        /// The fullest node that has room.
        "pack" => Pack,
        later "spread",
        later "proximity",
    }
}

choice! {
    /// How packets get to an instance.
    pub enum Forwarding {
        /// The destination address is rewritten, and the source on the way back.
        "nat" => Nat,
        /// Unchanged, to the instance's Ethernet address; the instance has the service's address, and answers the client
        /// itself. It must be on a network of one of the ports.
        "l2" => L2,
        /// Inside another IP packet (RFC 2003, RFC 4213, RFC 2473); the instance answers the client itself.
        "ipip" => Ipip,
        /// Inside UDP to port 6080 (Generic UDP Encapsulation, variant 0); the instance answers the client itself.
        "gue" => Gue,
    }
}

choice! {
    /// Whose address an instance sees.
    pub enum SourceMode {
        /// The client's; the instance's answers must come back through the appliance.
        "keep" => Keep,
        /// The appliance's, with a port of `nat.port_range`; for instances that could answer past us.
        "appliance" => Appliance,
    }
}

choice! {
    /// What wakes a service's function.
    pub enum Trigger {
        /// A query for one of the service's names.
        "dns" => Dns,
        /// A TCP SYN to one of its addresses and ports.
        "syn" => Syn,
        /// Any packet to one of its addresses, whatever follows its IP header.
        "flow" => Flow,
    }
}

choice! {
    /// What happens to the first packet of a flow while the function isn't ready.
    pub enum FirstPacket {
        /// Parked here, and released on readiness.
        "hold" => Hold,
        /// Passed on at once; the serving node queues it.
        "forward" => Forward,
        /// The TCP handshake is completed here, with a cookie, and the connection to the instance made when it is ready.
        "splice" => Splice,
    }
}

choice! {
    /// When a query for a name of a service that isn't ready is answered.
    pub enum DnsAnswer {
        /// At once, with the zone's `cold_ttl_seconds`.
        "immediate" => Immediate,
        /// When the function is ready, or the hold's deadline has passed.
        "when-ready" => WhenReady,
    }
}

choice! {
    /// What happens to a packet that can't be held, or no longer.
    pub enum Overflow {
        /// Sent on, untouched, along the routes.
        "upstream" => Upstream,
        /// Steered to the service's `backends`.
        "fallback" => Fallback,
        /// Answered with a TCP RST.
        "rst" => Rst,
        /// Dropped and counted.
        "drop" => Drop,
    }
}

choice! {
    /// What must be proven about a client before it may wake a function.
    pub enum Verify {
        /// Nothing.
        "none" => None,
        /// That it repeats its SYN.
        "second-syn" => SecondSyn,
        /// That it gets what is sent to its address: its SYN is answered with a cookie first.
        "cookie" => Cookie,
    }
}

impl Service {
    /// The function behind the service and how it is woken, if it isn't fixed backends.
    pub fn on_demand(&self) -> Option<&OnDemand> {
        match &self.target {
            Target::Function(on_demand) => Some(on_demand),
            Target::Backends(_) => None,
        }
    }

    /// The fixed backends: those of the service, or of its fallback.
    pub fn backends(&self) -> &[Backend] {
        match &self.target {
            Target::Function(on_demand) => &on_demand.fallback,
            Target::Backends(backends) => backends,
        }
    }
}

impl Triggers {
    /// Whether the trigger is among them.
    pub fn contains(&self, trigger: Trigger) -> bool {
        match trigger {
            Trigger::Dns => self.dns,
            Trigger::Syn => self.syn,
            Trigger::Flow => self.flow,
        }
    }
}

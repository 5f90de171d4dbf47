//! The file as it is written: each table with its keys, their documentation, defaults and types.
//!
//! This is the one place that says which keys there are. The reader, the schema and the reference page come from it;
//! [`crate::check`] turns it into [`crate::model`].

mod bier;
pub(crate) mod domain;
mod hub;

use crate::grammar::{choice, table};
use crate::leaf::{Count, FilePath, HostAddr, Int, List, SchemaVersion, Socket};
use crate::limits::*;
use crate::model::{
    CpuSet, Device, DnsAnswer, DnsName, Endpoint, FirstPacket, Forwarding, HealthKind, HttpPath, Hugepages,
    InterfaceAddress, Lifecycle, LogLevel, MacAddr, Name, NodeKind, Overflow, Placement, PortRange, Prefix,
    SecretRef, ServerId, ServicePort, Sibling, SourceMode, StatusRange, Trigger, Verify,
};

pub(crate) use bier::*;
pub(crate) use hub::*;

table! {
    /// The configuration of one appliance.
    struct File {
        /// Version of these names and shapes.
        required schema_version: SchemaVersion,
        /// Which edge location this is.
        required site: Site,
        /// What the physical cores do. Hyper-thread siblings always go together.
        default cores: Cores = {},
        /// Hugepages and frames.
        default memory: Memory = {},
        /// The Ethernet ports.
        required ports as "port": List<Port, 1, PORTS_MAX>,
        /// Static routes.
        optional routes as "route": List<Route, 0, ROUTES_MAX>,
        /// Static neighbours; others are resolved by ARP and ND.
        optional neighbours as "neighbour": List<Neighbour, 0, { NEIGHBOURS_MAX as usize }>,
        /// Which parts run.
        default roles: Roles = {},
        /// Names that the appliance answers for.
        optional dns: Dns,
        /// Code that runs on serving nodes.
        optional functions as "function": List<Function, 0, FUNCTIONS_MAX>,
        /// Names and addresses that lead to a function or to fixed backends.
        optional services as "service": List<Service, 0, SERVICES_MAX>,
        /// Port translation, for services with `source = "appliance"`.
        default nat: Nat = {},
        /// Bounds of tables and rates. Those of the appliance are shares of its workers.
        default limits: Limits = {},
        /// Bit index explicit replication (RFC 8279): multicast without state in the middle of the network.
        optional bier: Bier,
        /// The content hub: one copy over the WAN, every node complete, repairs only to those who missed something.
        optional hub: Hub,
        /// The link to the orchestrator.
        default orchestrator: Orchestrator = {},
        /// Metrics, control socket and log.
        default telemetry: Telemetry = {},
    }
}

table! {
    /// Which edge location this is.
    struct Site {
        /// The site's name, the same in every message to the orchestrator.
        required name: Name,
    }
}

table! {
    /// What the physical cores do. Hyper-thread siblings always go together.
    struct Cores {
        /// Cores of the slowpath, the orchestrator link and telemetry.
        default controller: CoreSet = { "count": 1 },
        /// Cores of the workers, one worker a core.
        default dataplane: CoreSet = { "count": "rest" },
        /// What a worker's hyper-thread sibling does.
        default sibling: Sibling = "idle",
    }
}

table! {
    /// Which physical cores: so many, or those of these CPUs.
    struct CoreSet {
        /// How many of those that are left, or "rest" for all of them.
        optional count: Count,
        /// The CPUs of whole physical cores. Those in the lists of controller and dataplane both are shared by them.
        optional cpus: CpuSet,
    }
}

table! {
    /// Hugepages and frames.
    struct Memory {
        /// Whether DPDK takes its memory from hugepages.
        default hugepages: Hugepages = "auto",
        /// Frame buffers in each port's pool.
        default frames_per_port: Int<FRAMES_PER_PORT_MIN, FRAMES_PER_PORT_MAX> = 16384,
    }
}

table! {
    /// An Ethernet port.
    struct Port {
        /// What you call it.
        required name: Name,
        /// The DPDK device behind it: a PCI address, or a vdev.
        required device: Device,
        /// Longest IP packet in bytes, without the Ethernet header.
        default mtu_bytes: Int<MTU_BYTES_MIN, MTU_BYTES_MAX> = 1500,
        /// Our addresses on the untagged network.
        optional addresses: List<InterfaceAddress, 0, ADDRESSES_PER_INTERFACE_MAX>,
        /// Tagged networks (IEEE 802.1Q, 802.1ad).
        optional vlans: List<Vlan, 0, VLANS_PER_PORT_MAX>,
    }
}

table! {
    /// A tagged network on a port.
    struct Vlan {
        /// Its tag.
        required id: Int<1, 4094>,
        /// The tag around it, where a provider carries the network inside one of its own (IEEE 802.1ad, "QinQ").
        optional outer: Int<1, 4094>,
        /// Our addresses on it.
        optional addresses: List<InterfaceAddress, 0, ADDRESSES_PER_INTERFACE_MAX>,
    }
}

table! {
    /// A static route.
    struct Route {
        /// Where to.
        required to: Prefix,
        /// The next hop, which must be on a network of one of the ports.
        required via: HostAddr,
    }
}

table! {
    /// A static neighbour.
    struct Neighbour {
        /// Its address, which must be on a network of the port.
        required address: HostAddr,
        /// Its Ethernet address.
        required mac: MacAddr,
        /// The name of the port it is behind.
        required port: Name,
    }
}

table! {
    /// Which parts run.
    struct Roles {
        /// Answer DNS queries. Without it: if there is a `[dns]`.
        optional dns: bool,
        /// Steer packets to services. Without it: if there is a `[[service]]`.
        optional balancer: bool,
    }
}

table! {
    /// Names that the appliance answers for.
    struct Dns {
        /// Addresses that queries are sent to; full authoritative rules hold there.
        optional listen: List<HostAddr, 0, DNS_LISTEN_MAX>,
        /// Also answer queries in transit that ask for a name of ours exactly; all else leaves byte-identical.
        default intercept: bool = false,
        /// Answer DNS cookies (RFC 7873), and trust clients that show theirs. They are those of RFC 9018.
        default cookies: bool = false,
        /// Secrets of cookies, for several servers behind one address: 32 hexadecimal digits a line, the one that makes cookies
        /// first; all of up to three are accepted. Without it: a secret of its own, rolled every day.
        optional cookie_secrets: SecretRef,
        /// Bounds the answers to one source prefix over UDP, clients with a valid cookie excepted. Without it: no bound.
        optional rate_limit: RateLimit,
        /// Clients that see zones of their own.
        optional views as "view": List<View, 1, VIEWS_MAX>,
        /// The zones.
        required zones as "zone": List<Zone, 1, ZONES_MAX>,
    }
}

table! {
    /// Bounds the answers to one source prefix, over all workers.
    struct RateLimit {
        /// Answers in one second; after a quiet time a second's worth is sent at once.
        required responses_per_second: Int<1, RESPONSES_PER_SECOND_MAX>,
        /// How long a prefix is.
        default per_prefix: PerPrefix = {},
        /// Every how many held back answers one is sent truncated, so that a client that exists comes back over TCP; 0 for
        /// never.
        default slip: Int<0, SLIP_MAX> = 2,
    }
}

table! {
    /// Lengths of source prefixes, in bits.
    struct PerPrefix {
        /// Of IPv4.
        default v4: Int<8, 32> = 24,
        /// Of IPv6.
        default v6: Int<16, 128> = 56,
    }
}

table! {
    /// Clients that see zones of their own, and of the others those that have no namesake among them. A client belongs to
    /// the first view that it fits.
    struct View {
        /// What you call it; zones name it in `view`.
        required name: Name,
        /// Ports that its clients' queries come in by, VLANs included. Without it: any.
        optional ports: List<Name, 1, PORTS_MAX>,
        /// Prefixes of its clients' addresses. Without it: any. With `ports` as well, both must fit.
        optional clients: List<Prefix, 1, PREFIXES_PER_VIEW_MAX>,
    }
}

table! {
    /// One zone.
    struct Zone {
        /// Its apex, as in "fn.example.".
        required name: DnsName,
        /// The view whose clients alone see this zone. Without it: everybody whose view has no zone of this name.
        optional view: Name,
        /// Start of authority. It may be left out where `file` has one, and goes before that.
        optional soa: Soa,
        /// Time to live of records, and of the addresses of services that are ready.
        default ttl_seconds: Int<0, TTL_SECONDS_MAX> = 30,
        /// Time to live of the addresses of services that aren't ready yet.
        default cold_ttl_seconds: Int<0, TTL_SECONDS_MAX> = 1,
        /// Static records; those of services follow from their `names`.
        optional records: List<Record, 0, RECORDS_PER_ZONE_MAX>,
        /// A zone file (RFC 1035 section 5), instead of or beside `records`. A relative path begins at this file's folder.
        optional file: FilePath,
    }
}

table! {
    /// Start of authority (RFC 1035 section 3.3.13).
    struct Soa {
        /// The primary server of the zone.
        required primary: DnsName,
        /// The mailbox of who is responsible, its `@` written as a dot.
        required contact: DnsName,
        /// Serial number of the zone.
        default serial: Int<0, SERIAL_MAX> = 1,
        /// How often secondaries look for a new serial.
        default refresh_seconds: Int<1, TTL_SECONDS_MAX> = 3600,
        /// How long secondaries wait after a failure.
        default retry_seconds: Int<1, TTL_SECONDS_MAX> = 600,
        /// How long secondaries go on without us.
        default expire_seconds: Int<1, EXPIRE_SECONDS_MAX> = 604_800,
        /// Time to live of negative answers.
        default minimum_ttl_seconds: Int<0, TTL_SECONDS_MAX> = 5,
    }
}

table! {
    /// A static record.
    struct Record {
        /// Its owner: "@" for the zone, a name with a final dot, or one relative to the zone.
        required name: String,
        /// Its type.
        required kind as "type": RecordType,
        /// Its data: an address, a name or text; of other types what a zone file says there.
        required data: String,
        /// Its time to live. Without it: the zone's.
        optional ttl_seconds: Int<0, TTL_SECONDS_MAX>,
    }
}

choice! {
    /// The type of a record.
    pub(crate) enum RecordType {
        /// An IPv4 address.
        "A" => A,
        /// An IPv6 address.
        "AAAA" => Aaaa,
        /// A server of the zone.
        "NS" => Ns,
        /// Text.
        "TXT" => Txt,
        /// The name that this one is an alias of.
        "CNAME" => Cname,
        /// Who may issue certificates: `0 issue "ca.example"`.
        "CAA" => Caa,
        /// How a web service is reached (RFC 9460): `1 . alpn=h2`.
        "HTTPS" => Https,
        /// A mail exchanger: `10 mail.example.`.
        "MX" => Mx,
        /// The name of an address.
        "PTR" => Ptr,
        /// A server of a service: `0 5 443 host.example.`.
        "SRV" => Srv,
        /// How a service is reached (RFC 9460).
        "SVCB" => Svcb,
    }
}

table! {
    /// Code that runs on serving nodes.
    struct Function {
        /// What you call it.
        required name: Name,
        /// The Wasm component; a relative path begins at this file's folder.
        required component: FilePath,
        /// What happens to an instance after a request.
        default lifecycle: Lifecycle = "ephemeral",
        /// Memory of one instance.
        default memory_mib: Int<1, FUNCTION_MEMORY_MIB_MAX> = 64,
        /// Longest time that one request may take.
        default deadline_ms: Int<1, FUNCTION_DEADLINE_MS_MAX> = 2000,
        /// How many instances there may be.
        default instances: Instances = {},
        /// How the orchestrator chooses a serving node.
        default placement: Placement = "pack",
    }
    later {
        /// A container image, instead of a component.
        "image",
        /// What the function should achieve.
        "objective",
    }
}

table! {
    /// How many instances of a function there may be, over all serving nodes.
    struct Instances {
        /// Kept even when nobody asks.
        default min: Int<0, INSTANCES_MAX> = 0,
        /// Never exceeded.
        default max: Int<1, INSTANCES_MAX> = 16,
    }
}

table! {
    /// A name and address that lead to a function or to fixed backends.
    struct Service {
        /// What you call it.
        required name: Name,
        /// DNS names bound to it. Each must lie in one of the zones.
        optional names: List<DnsName, 0, NAMES_PER_SERVICE_MAX>,
        /// Its addresses.
        required address: List<HostAddr, 1, ADDRESSES_PER_SERVICE_MAX>,
        /// The ports it listens on.
        required ports: List<ServicePort, 1, PORTS_PER_SERVICE_MAX>,
        /// The name of the function behind it.
        optional function: Name,
        /// Fixed backends: instead of a function, or beside one for `overflow = "fallback"`.
        optional backends: List<Backend, 1, BACKENDS_PER_SERVICE_MAX>,
        /// How packets get to an instance.
        default forwarding: Forwarding = "nat",
        /// Whose address an instance sees.
        default source: SourceMode = "keep",
        /// What wakes the function. Without it: "dns" if there are `names`, and "syn" if there is a TCP port. With "flow" the
        /// service's addresses must be its alone.
        optional trigger: List<Trigger, 1, 3>,
        /// What happens to the first packet while the function isn't ready.
        default first_packet: FirstPacket = "hold",
        /// When a query for a name is answered while the function isn't ready.
        default dns_answer: DnsAnswer = "immediate",
        /// Bounds of what is held.
        default hold: Hold = {},
        /// What must be proven about a client before it may wake the function.
        default verify_before_wake: Verify = "none",
        /// Without traffic for this long, the last instance may go.
        default idle_reap_seconds: Int<1, IDLE_REAP_SECONDS_MAX> = 120,
        /// How backends and instances are checked. Without it: not at all.
        optional health: Health,
        /// How its QUIC servers make their connection ids, if these say which server made them (QUIC-LB,
        /// draft-ietf-quic-load-balancers-21): then a client that changes its address stays with its server. All UDP ports of
        /// the service speak QUIC.
        optional quic: Quic,
    }
}

table! {
    /// How backends and instances are checked. One that is down gets no new flows; those that it has go on.
    struct Health {
        /// How each is probed, by its own address. Without it: not at all.
        optional kind: HealthKind,
        /// What is asked for (http). Without it: "/".
        optional path: HttpPath,
        /// Which status codes are good (http). Without it: "200-399".
        optional status: StatusRange,
        /// The port that is probed. Without it: the instance's own, or the service's first TCP port.
        optional port: Int<1, 65535>,
        /// From one probe to the next.
        default interval_ms: Int<HEALTH_INTERVAL_MS_MIN, HEALTH_INTERVAL_MS_MAX> = 1000,
        /// How long a probe may take. Without it: as long as the interval, and a second at most.
        optional timeout_ms: Int<HEALTH_TIMEOUT_MS_MIN, HEALTH_TIMEOUT_MS_MAX>,
        /// Probes in a row that must fail before it is down.
        default down_after: Int<1, HEALTH_PROBES_MAX> = 3,
        /// Probes in a row that must succeed before it is up again.
        default up_after: Int<1, HEALTH_PROBES_MAX> = 2,
        /// Leaves those out whose handshakes with clients fail. Without it: nobody.
        optional passive: Passive,
        /// What happens to new flows while no backend is up: "upstream", "rst" or "drop". Without it: "drop". Beside a
        /// function `hold.overflow` says so.
        optional overflow: Overflow,
    }
}

table! {
    /// When handshakes that fail put an instance out: its port refuses, it can't be reached, or it says nothing.
    struct Passive {
        /// Handshakes in a row that must fail.
        default failures: Int<1, HANDSHAKES_MAX> = 5,
        /// For so long none may have succeeded; and failures that are further apart don't count together.
        default window_ms: Int<100, HANDSHAKE_WINDOW_MS_MAX> = 5000,
        /// How long it is left out; the second time twice as long, up to ten times.
        default eject_ms: Int<100, EJECT_MS_MAX> = 30_000,
        /// Share of the instances that may be left out at a time. The last one never is.
        default share_percent: Int<1, 100> = 50,
    }
}

table! {
    /// How QUIC servers make their connection ids. Servers and all appliances of a service have to have it alike.
    struct Quic {
        /// The first three bits of their ids.
        default rotation: Int<0, QUIC_ROTATION_MAX> = 0,
        /// Length of a server id. Backends have theirs in `server_id`; that of a function's instance is the last four bytes of its
        /// address (the IPv4 one, if it has one) and its port, six in all.
        required server_id_bytes: Int<1, QUIC_SERVER_ID_BYTES_MAX>,
        /// Length of a nonce; with the server id at most 19, and with a key and both together 16 the cheapest to read.
        required nonce_bytes: Int<QUIC_NONCE_BYTES_MIN, QUIC_NONCE_BYTES_MAX>,
        /// A file with the key that server id and nonce are encrypted with: 32 hexadecimal digits. Without it, everybody sees
        /// whose an id is.
        optional key: SecretRef,
        /// How servers made them before, as long as connections with such ids go on. The server ids are the same.
        optional previous: QuicPrevious,
    }
}

table! {
    /// An earlier way to make QUIC connection ids.
    struct QuicPrevious {
        /// The first three bits of the ids.
        required rotation: Int<0, QUIC_ROTATION_MAX>,
        /// Length of a nonce.
        required nonce_bytes: Int<QUIC_NONCE_BYTES_MIN, QUIC_NONCE_BYTES_MAX>,
        /// A file with the key. There is one if, and only if, there is one now: an id that can be read mustn't help to
        /// guess what is in another.
        optional key: SecretRef,
    }
}

table! {
    /// Bounds of what is held for one service.
    struct Hold {
        /// Most packets held, over all workers.
        default packets: Int<1, HOLD_PACKETS_MAX> = 512,
        /// Longest time a packet is held.
        default deadline_ms: Int<1, HOLD_DEADLINE_MS_MAX> = 900,
        /// What happens to a packet that can't be held, or no longer.
        default overflow: Overflow = "drop",
    }
}

table! {
    /// One fixed backend.
    struct Backend {
        /// Its address.
        required address: HostAddr,
        /// Its share of new flows, relative to the others'.
        default weight: Int<1, WEIGHT_MAX> = 1,
        /// Take no new flows; those it has go on.
        default drain: bool = false,
        /// Its id in the QUIC connection ids that it makes, with the service's `quic`.
        optional server_id: ServerId,
    }
}

table! {
    /// Port translation, for services with `source = "appliance"`.
    struct Nat {
        /// Source ports, shared out among the workers; the address is that of the port a packet leaves by.
        default port_range: PortRange = "16384-65535",
    }
}

table! {
    /// Bounds of tables and rates. Those of the appliance are shares of its workers.
    struct Limits {
        /// Flows that one worker can know.
        default flows_per_worker: Int<1024, FLOWS_PER_WORKER_MAX> = 262_144,
        /// Packets that one worker can hold.
        default holds_per_worker: Int<1, HOLDS_PER_WORKER_MAX> = 8192,
        /// Packets that one worker holds for one source prefix, a /24 or a /56.
        default holds_per_prefix: Int<1, HOLDS_PER_WORKER_MAX> = 32,
        /// Wakes asked of the orchestrator in one second.
        default wakes_per_second: Int<1, WAKES_PER_SECOND_MAX> = 20,
        /// Wakes that may be asked for at once.
        default wakes_burst: Int<1, WAKES_BURST_MAX> = 50,
        /// Neighbours that can be known, static ones included.
        default neighbours_max: Int<16, NEIGHBOURS_MAX> = 4096,
    }
}

choice! {
    /// Which orchestrator.
    pub(crate) enum OrchestratorWord {
        /// In this process; it drives the serving nodes that connect to `listen`.
        "embedded" => Embedded,
        /// Another process, reached over gRPC at `endpoint`.
        "grpc" => Grpc,
        later "kubernetes",
    }
}

table! {
    /// The link to the orchestrator.
    struct Orchestrator {
        /// Which one.
        default kind: OrchestratorWord = "embedded",
        /// Where serving nodes connect (embedded).
        default listen: Socket = "127.0.0.1:7443",
        /// Where the orchestrator listens (grpc).
        optional endpoint: Endpoint,
        /// Mutual TLS. Needed for a link to another host.
        optional tls: Tls,
        /// Allow plain text to another host.
        default insecure: bool = false,
        /// Serving nodes (embedded).
        optional nodes as "node": List<Node, 0, NODES_MAX>,
    }
}

table! {
    /// Our identity and whom we trust, as PEM.
    struct Tls {
        /// Our certificate chain.
        required cert: SecretRef,
        /// Its private key.
        required key: SecretRef,
        /// The authority that signed the peers' certificates.
        required ca: SecretRef,
    }
}

table! {
    /// A serving node that the embedded orchestrator drives.
    struct Node {
        /// What you call it.
        required name: Name,
        /// Where its instances are reached.
        required address: HostAddr,
        /// What it runs.
        default kind: NodeKind = "wasm",
    }
}

table! {
    /// Metrics, control socket and log.
    struct Telemetry {
        /// Where OpenMetrics are served over HTTP. Without it: nowhere.
        optional metrics_listen: Socket,
        /// The Unix socket behind `millrace show` and `millrace trace`.
        default control_socket: FilePath = "/run/millrace/control.sock",
        /// What is logged: messages of this level and above.
        default log: LogLevel = "info",
    }
}

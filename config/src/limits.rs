//! The bounds that no configuration can go beyond. A file that tries is refused when it is loaded.

/// Largest file, in bytes. A site with every table full stays well below.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Ports: what DPDK is built for (`RTE_MAX_ETHPORTS`).
pub const PORTS_MAX: usize = 32;
/// VLANs of one port: the slowpath keeps a stack for each.
pub const VLANS_PER_PORT_MAX: usize = 64;
/// Addresses of one network of a port: what answering ARP and ND in one pass allows.
pub const ADDRESSES_PER_INTERFACE_MAX: usize = 16;
/// Smallest MTU, in bytes: every IPv4 host takes this (RFC 791 section 3.1).
pub const MTU_BYTES_MIN: i64 = 576;
/// Smallest MTU of a port with IPv6, in bytes (RFC 8200 section 5).
pub const MTU_BYTES_IPV6_MIN: u16 = 1280;
/// Where BIER inside UDP is sent to.
pub const BIER_UDP_PORT: u16 = 8138;
/// Largest MTU, in bytes: jumbo frames as devices commonly take them.
pub const MTU_BYTES_MAX: i64 = 9216;
/// Static routes: they are read from a file that a person keeps.
pub const ROUTES_MAX: usize = 4096;
/// Frames in one port's pool at least: the rings of one queue, full both ways.
pub const FRAMES_PER_PORT_MIN: i64 = 512;
/// Frames in one port's pool: 2 GiB of buffers of 2 KiB.
pub const FRAMES_PER_PORT_MAX: i64 = 1 << 20;
/// Addresses that DNS listens on.
pub const DNS_LISTEN_MAX: usize = 16;
/// Zones: each query looks for the longest of them.
pub const ZONES_MAX: usize = 256;
/// Static records of one zone.
pub const RECORDS_PER_ZONE_MAX: usize = 65_536;
/// Views: each query looks through them.
pub const VIEWS_MAX: usize = 8;
/// Prefixes of one view's clients: each query looks through them too.
pub const PREFIXES_PER_VIEW_MAX: usize = 32;
/// Largest zone file, in bytes: a million names with several records each.
pub const ZONE_FILE_BYTES_MAX: usize = 512 << 20;
/// Records of one zone file: two for each of four million names take a few GiB.
pub const RECORDS_PER_ZONE_FILE_MAX: usize = 8_000_000;
/// Answers to one source prefix in one second: as many as a worker can give.
pub const RESPONSES_PER_SECOND_MAX: i64 = 10_000_000;
/// Every how many held back answers one is sent truncated: with fewer, clients that exist wait too long.
pub const SLIP_MAX: i64 = 10;
/// Longest time to live, in seconds: a week, beyond which resolvers cut it anyway.
pub const TTL_SECONDS_MAX: i64 = 604_800;
/// Longest that secondaries may go on without us, in seconds: ten weeks.
pub const EXPIRE_SECONDS_MAX: i64 = 6_048_000;
/// Largest serial number of a zone (RFC 1982: 32 bits).
pub const SERIAL_MAX: i64 = u32::MAX as i64;
/// Text of one TXT record, in bytes: it must fit an answer over TCP with room to spare.
pub const TXT_BYTES_MAX: usize = 4096;
/// Functions.
pub const FUNCTIONS_MAX: usize = 4096;
/// Memory of one instance, in MiB: all that a component of 32 bits can address.
pub const FUNCTION_MEMORY_MIB_MAX: i64 = 4096;
/// Longest that a request may take, in milliseconds: clients have long given up.
pub const FUNCTION_DEADLINE_MS_MAX: i64 = 600_000;
/// Instances of one function over all nodes.
pub const INSTANCES_MAX: i64 = 10_000;
/// Services.
pub const SERVICES_MAX: usize = 4096;
/// DNS names of one service.
pub const NAMES_PER_SERVICE_MAX: usize = 64;
/// Addresses of one service: they must fit one answer of 1232 bytes, 28 bytes each (RFC 9715).
pub const ADDRESSES_PER_SERVICE_MAX: usize = 32;
/// Ports of one service.
pub const PORTS_PER_SERVICE_MAX: usize = 64;
/// Backends of one service.
pub const BACKENDS_PER_SERVICE_MAX: usize = 256;
/// Weight of a backend: a table of shares stays small.
pub const WEIGHT_MAX: i64 = 1000;
/// The last configuration that QUIC connection ids can tell apart (draft-ietf-quic-load-balancers-21 section 3.1).
pub const QUIC_ROTATION_MAX: i64 = 6;
/// Server id and nonce of a QUIC connection id together, in bytes: what version 1 leaves of its 20 (section 5.3).
pub const QUIC_PLAIN_BYTES_MAX: u32 = 19;
/// Shortest nonce of a QUIC connection id, in bytes (section 5.3).
pub const QUIC_NONCE_BYTES_MIN: i64 = 4;
/// Longest nonce of a QUIC connection id, in bytes: beside a server id of one byte.
pub const QUIC_NONCE_BYTES_MAX: i64 = 18;
/// Longest server id, in bytes: beside the shortest nonce.
pub const QUIC_SERVER_ID_BYTES_MAX: i64 = 15;
/// Server ids of a function's instances, in bytes: four of the address, two of the port.
pub const QUIC_INSTANCE_ID_BYTES: u32 = 6;
/// Longest that a packet is held, in milliseconds: a TCP client's second SYN has come by then (RFC 6298 section 2.1).
pub const HOLD_DEADLINE_MS_MAX: i64 = 3000;
/// Packets held for one service.
pub const HOLD_PACKETS_MAX: i64 = 65_536;
/// Longest time without traffic before the last instance may go, in seconds: a day.
pub const IDLE_REAP_SECONDS_MAX: i64 = 86_400;
/// Shortest time between two probes of a backend, in milliseconds: a backend down is known in a third of a second.
pub const HEALTH_INTERVAL_MS_MIN: i64 = 100;
/// Longest time between two probes, in milliseconds: an hour.
pub const HEALTH_INTERVAL_MS_MAX: i64 = 3_600_000;
/// Shortest time that a probe is given, in milliseconds: a round trip across a continent.
pub const HEALTH_TIMEOUT_MS_MIN: i64 = 10;
/// Longest time that a probe is given, in milliseconds: clients have long given up.
pub const HEALTH_TIMEOUT_MS_MAX: i64 = 60_000;
/// How long a probe is given where the file doesn't say, in milliseconds, if it isn't more than the interval.
pub const HEALTH_TIMEOUT_MS_DEFAULT: u64 = 1000;
/// Probes in a row that change what a backend is taken for.
pub const HEALTH_PROBES_MAX: i64 = 100;
/// Handshakes in a row that put an instance out.
pub const HANDSHAKES_MAX: i64 = 10_000;
/// Longest time that they are looked at, in milliseconds.
pub const HANDSHAKE_WINDOW_MS_MAX: i64 = 600_000;
/// Longest time that an instance is put out for at first, in milliseconds: an hour.
pub const EJECT_MS_MAX: i64 = 3_600_000;
/// Longest path that a probe asks for, in bytes: its request fits one segment.
pub const HTTP_PATH_BYTES_MAX: usize = 255;
/// The lowest port that probes leave by: those below are servers'.
pub const PROBE_PORT_FIRST: u16 = 1024;
/// Ports that probes need in a row: more than there are probes at a time, so that one isn't used again at once.
pub const PROBE_PORTS_MIN: u16 = 512;
/// Flows of one worker: 2 GiB of table at 128 bytes each.
pub const FLOWS_PER_WORKER_MAX: i64 = 1 << 24;
/// Packets that one worker holds: 128 MiB of slab at 2 KiB each.
pub const HOLDS_PER_WORKER_MAX: i64 = 65_536;
/// Wakes in one second: beyond this the orchestrator is the bottleneck.
pub const WAKES_PER_SECOND_MAX: i64 = 10_000;
/// Wakes at once.
pub const WAKES_BURST_MAX: i64 = 10_000;
/// Neighbours: the on-link hosts of a /16.
pub const NEIGHBOURS_MAX: i64 = 65_536;
/// Sub-domains of BIER: an edge router is in few.
pub const BIER_SUBDOMAINS_MAX: usize = 16;
/// Rows of a sub-domain's table: as many as there are links that workers count apart.
pub const BIER_ROWS_MAX: usize = 1024;
/// Adjacencies of a BIER-TE sub-domain at one router.
pub const BIER_ADJACENCIES_MAX: usize = 4096;
/// Routers of a BIER topology: as many as there are BFR-ids.
pub const BIER_ROUTERS_MAX: usize = 65_535;
/// Links of a BIER topology: four to each router.
pub const BIER_LINKS_MAX: usize = 4 * BIER_ROUTERS_MAX;
/// What a link may cost: 24 bits, as wide metrics have (RFC 5305 section 3.7).
pub const BIER_COST_MAX: i64 = 0xff_ffff;
/// Flows that enter BIER here: they are in a file that a person keeps.
pub const BIER_OVERLAYS_MAX: usize = 4096;
/// Groups with listeners behind us.
pub const BIER_LISTENERS_MAX: usize = 4096;
/// MPLS labels that BIER brings in a sub-domain.
pub const BIER_LABELS_MAX: usize = 4096;
/// A robustness of 1 loses listeners with one lost message (RFC 9776 section 8.1).
pub const MULTICAST_ROBUSTNESS_MIN: i64 = 2;
/// Three bits of a query (RFC 9776 section 4.1.6).
pub const MULTICAST_ROBUSTNESS_MAX: i64 = 7;
/// The longest that a query can say (RFC 9776 section 4.1.7).
pub const MULTICAST_QUERY_INTERVAL_SECONDS_MAX: i64 = 31_744;
/// IGMP counts in tenths of seconds.
pub const MULTICAST_RESPONSE_MS_MIN: i64 = 100;
/// The longest that an IGMP query can say (RFC 9776 section 4.1.1).
pub const MULTICAST_RESPONSE_MS_MAX: i64 = 3_174_400;
/// A group that everybody has left would be sent for minutes.
pub const MULTICAST_LAST_MEMBER_MS_MAX: i64 = 60_000;
/// The lowest MPLS label that isn't set aside (RFC 7274 section 3).
pub const MPLS_LABEL_MIN: u32 = 16;
/// The last name of a node in NORM: the one after it stands for any (RFC 5740 section 4.1).
pub const NORM_ID_MAX: i64 = 0xffff_fffe;
/// Smallest budget of the hub's store, in bytes: anything less holds no content.
pub const HUB_BUDGET_BYTES_MIN: i64 = 1 << 20;
/// Largest budget of the hub's store, in bytes: 1 PiB.
pub const HUB_BUDGET_BYTES_MAX: i64 = 1 << 50;
/// Longest that a content is kept for nodes that come late, in seconds: a year.
pub const HUB_LATE_JOIN_SECONDS_MAX: i64 = 31_536_000;
/// Keys that the hub believes: a change of keys has two for each publisher.
pub const HUB_KEYS_MAX: usize = 64;
/// Groups that the hub takes in: each has a session of its own.
pub const HUB_ACCEPT_MAX: usize = 64;
/// Passes of a file to receivers that can't answer: so many make good nearly any loss.
pub const HUB_PASSES_MAX: i64 = 1000;
/// Repair symbols of a pass, in percent of the source symbols: as many again.
pub const HUB_OVERHEAD_PERCENT_MAX: i64 = 100;
/// Sites of a hub: each has a session of its own.
pub const HUB_SITES_MAX: usize = 32;
/// Nodes of a site: no more than a storm of NACKs could name.
pub const HUB_NODES_MAX: usize = 4096;
/// Groups that a node is in.
pub const HUB_GROUPS_PER_NODE_MAX: usize = 16;
/// Slowest that a site is sent to, in bits per second: a packet in a second and a half.
pub const HUB_RATE_MIN: i64 = 8000;
/// Fastest that a site is sent to, in bits per second: what ports can do.
pub const HUB_RATE_MAX: i64 = 400_000_000_000;
/// Serving nodes of an embedded orchestrator.
pub const NODES_MAX: usize = 1024;
/// Cores asked for by number.
pub const CORES_MAX: i64 = 4096;
/// Path to a file, in bytes (`PATH_MAX` of Linux, without the final zero).
pub const PATH_BYTES_MAX: usize = 4095;
/// Path of a Unix socket, in bytes (`sun_path` of Linux, without the final zero).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Highest CPU number plus one: what the largest kernels are built for (`CONFIG_NR_CPUS`).
pub const CPUS_MAX: u32 = 8192;
/// Longest [`crate::model::Name`], in bytes: what a DNS label and most metric systems take.
pub const NAME_LEN_MAX: usize = 63;
/// Longest DNS name on the wire, in bytes, with its length bytes and root (RFC 1035 section 2.3.4).
pub const DNS_NAME_WIRE_MAX: usize = 255;
/// Longest label of a DNS name, in bytes (RFC 1035 section 2.3.4).
pub const DNS_LABEL_MAX: usize = 63;

const _: () =
    assert!(HOLDS_PER_WORKER_MAX >= HOLD_PACKETS_MAX, "one service may fill one worker's slab, not more");
const _: () = assert!(
    PORTS_MAX * ADDRESSES_PER_INTERFACE_MAX < u16::MAX as usize,
    "addresses of ours are counted in 16 bits"
);

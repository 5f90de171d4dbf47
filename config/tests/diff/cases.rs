//! Every key of the file, what an edit of it is told as, and the file that is edited.

mod bier;
mod hub;
mod network;
mod services;

pub(crate) const EDGE: &str = r#"
schema_version = 1
site = { name = "edge-42" }
cores = { controller = { count = 1 }, dataplane = { cpus = "2-5" } }
memory = { hugepages = "auto", frames_per_port = 8191 }
roles = { dns = true, balancer = true }
nat = { port_range = "16384-65535" }
route = [{ to = "10.0.0.0/8", via = "192.0.2.254" }]
neighbour = [{ address = "198.51.100.7", mac = "02:00:00:00:00:07", port = "lan" }]

[[port]]
name = "wan"
device = "net_ring0"
mtu_bytes = 1500
addresses = ["192.0.2.1/24", "2001:db8::1/64"]

[[port]]
name = "lan"
device = "net_ring1"
addresses = ["198.51.100.1/24"]
vlans = [{ id = 20, addresses = ["10.20.0.1/24"] }]

[dns]
listen = ["192.0.2.53"]
intercept = true
cookies = true
cookie_secrets = "file:c.secret"
rate_limit = { responses_per_second = 50, per_prefix = { v4 = 24, v6 = 56 }, slip = 2 }

[[dns.view]]
name = "inside"
ports = ["lan"]
clients = ["198.51.100.0/24"]

[[dns.zone]]
name = "fn.example."
view = "inside"
ttl_seconds = 7
file = "inside.zone"

[[dns.zone]]
name = "fn.example."
soa = { primary = "ns1.fn.example.", contact = "ops.fn.example.", serial = 1, refresh_seconds = 3601, retry_seconds = 601, expire_seconds = 604801, minimum_ttl_seconds = 5 }
ttl_seconds = 30
cold_ttl_seconds = 1
records = [
  { name = "ns1", type = "A", data = "192.0.2.53", ttl_seconds = 31 },
]

[[function]]
name = "hello"
component = "hello.wasm"
memory_mib = 64
deadline_ms = 2000
instances = { min = 0, max = 16 }

[[service]]
name = "hello"
names = ["hello.fn.example."]
address = ["203.0.113.10"]
ports = ["tcp/80"]
function = "hello"
source = "keep"
trigger = ["dns", "syn"]
first_packet = "hold"
dns_answer = "immediate"
hold = { packets = 512, deadline_ms = 900, overflow = "drop" }
idle_reap_seconds = 120

[[service]]
name = "web"
address = ["203.0.113.20"]
ports = ["tcp/80", "udp/443"]
backends = [{ address = "198.51.100.7", weight = 2, drain = false, server_id = "0x0102" }]
quic = { rotation = 0, server_id_bytes = 2, nonce_bytes = 4, key = "file:q.key", previous = { rotation = 1, nonce_bytes = 5, key = "file:p.key" } }
health = { kind = "http", path = "/up", status = "200-299", port = 8080, interval_ms = 1000, timeout_ms = 500, down_after = 3, up_after = 2, overflow = "drop", passive = { failures = 5, window_ms = 5000, eject_ms = 30000, share_percent = 50 } }

[limits]
flows_per_worker = 262144
holds_per_worker = 8192
holds_per_prefix = 32
wakes_per_second = 20
wakes_burst = 50
neighbours_max = 4096

[bier]
bfr_prefix = "192.0.2.1"

[[bier.subdomain]]
id = 0
bfr_id = 5
ecmp_tables = 2
bitstring_bits = 256
encapsulation = "ethernet"
bift_id = { "si 0" = 1000, "si 1" = 1001 }
ttl = 32
mtu_bytes = 1500
report_to = "1"
report_interval_seconds = 60
ethernet_ports = ["lan"]
labels = [{ label = 100, bfir_id = 1 }, { label = 100 }]
table = [
  { neighbour = "p2", address = "192.0.2.2", bfr_ids = "1,2,300" },
  { neighbour = "p3", address = "198.51.100.3", bfr_ids = "3", backup = "p2", bift_id = "static" },
]

[[bier.subdomain]]
id = 6
bfr_id = 5
topology = "domain.toml"
router = "edge"
protection = "link"

[[bier.subdomain]]
id = 7
kind = "bier-te"
adjacencies = [
  { bit = 1, kind = "decap" },
  { bit = 2, kind = "routed", address = "10.9.9.9", bift_id = { "si 0" = 5 } },
  { si = 1, bit = 1, kind = "connected", address = "192.0.2.2", do_not_clear = true, ecmp_seed = 4 },
]

[[bier.subdomain]]
id = 9
bfr_id = 9
kind = "bier"

[[bier.overlay]]
source = "192.0.2.100"
group = "232.1.1.1"
subdomain = 0
receivers = "1,3"

[[bier.overlay]]
source = "192.0.2.100"
group = "232.1.1.9"
subdomain = 0
learn = "igmp"

[[bier.listener]]
group = "232.1.1.2"
ports = ["lan"]
next_hops = ["198.51.100.9"]

[[bier.querier]]
ports = ["lan"]
robustness = 2
query_interval_seconds = 125
response_ms = 10000
last_member_ms = 1000

[hub]
id = 9
store_path = "/var/lib/millrace/hub"
budget_bytes = 50_000_000_000
reserve_bytes = 1048576
late_join_seconds = 3600
http_listen = "127.0.0.1:8080"
signing_key = "file:s.key"
accept = [
  { subdomain = 0, group = "232.1.1.9", udp_port = 6003, profile = "norm", sender = 7 },
  { port = "lan", group = "232.1.1.10", source = "192.0.2.66", profile = "flute", tsi = 8 },
]

[[hub.site]]
name = "house"
carriage = "ethernet"
port = "lan"
group = "239.1.1.9"
udp_port = 6003
address = "198.51.100.1"
feedback_port = 6003
rate_bits_per_second = 100_000_000
straggler_bits_per_second = 5_000_000
nodes = [
  { id = 1, address = "198.51.100.11", bfr_id = 31, mac = "02:00:00:00:00:11", groups = ["camera"] },
  { id = 2, address = "198.51.100.12" },
]

[[hub.site]]
name = "yard"
carriage = "bier"
subdomain = 0
group = "239.1.1.10"
feedback_port = 6004
ttl = 8
rate_bits_per_second = 1_000_000
nodes = [{ id = 5, address = "192.0.2.11", bfr_id = 1 }]

[[hub.site]]
name = "field"
profile = "flute"
carriage = "ip-multicast"
port = "lan"
group = "239.1.1.12"
feedback_port = 6004
rate_bits_per_second = 3_000_000
tsi = 3
code = "raptorq"
passes = 4
overhead_percent = 10

[orchestrator]
kind = "embedded"
listen = "127.0.0.1:7443"
tls = { cert = "file:site.pem", key = "file:site.key", ca = "file:ca.pem" }

[[orchestrator.node]]
name = "fn1"
address = "198.51.100.21"

[telemetry]
metrics_listen = "127.0.0.1:9464"
control_socket = "/run/millrace/control.sock"
log = "info"
"#;

/// A key of the schema, an edit of [`EDGE`] that changes it, and the line of the difference that tells of it.
pub(crate) type Case = (&'static str, &'static str, &'static str, &'static str);

pub(crate) fn cases() -> Vec<Case> {
    [network::CASES, services::CASES, bier::CASES, hub::CASES].concat()
}

/// Keys that hold one word so far, and can't change.
pub(crate) const ONE_WORD: &[&str] = &[
    "Cores.sibling",
    "Function.lifecycle",
    "Function.placement",
    "Node.kind",
    "Service.forwarding",
    "Service.verify_before_wake",
];

/// Allows what is there either way, and means nothing afterwards.
pub(crate) const WITHOUT_MEANING: &[&str] = &["Orchestrator.insecure"];

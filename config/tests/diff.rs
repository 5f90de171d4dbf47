//! The difference between two configurations: nothing where they mean the same, and every key of the file found.

use std::collections::BTreeSet;
use std::path::Path;

use millrace_config::diff::Kind;
use millrace_config::{Config, Diff};
use proptest::prelude::*;
use serde_json::Value;

const EDGE: &str = r#"
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
const CASES: &[(&str, &str, &str, &str)] = &[
    ("Site.name", "edge-42", "edge-43", "! site: name edge-42 -> edge-43 (needs a restart)"),
    (
        "Cores.controller",
        "controller = { count = 1 }",
        "controller = { cpus = \"0\" }",
        "! cores: controller 1 -> cpus 0 (needs a restart)",
    ),
    ("Cores.dataplane", "\"2-5\"", "\"2-7\"", "! cores: dataplane cpus 2-5 -> cpus 2-7 (needs a restart)"),
    ("CoreSet.count", "{ count = 1 }", "{ count = 2 }", "! cores: controller 1 -> 2 (needs a restart)"),
    ("CoreSet.cpus", "\"2-5\"", "\"2-3\"", "! cores: dataplane cpus 2-5 -> cpus 2-3 (needs a restart)"),
    ("Memory.hugepages", "\"auto\"", "\"never\"", "! memory: hugepages auto -> never (needs a restart)"),
    ("Memory.frames_per_port", "8191", "16383", "! memory: frames_per_port 8191 -> 16383 (needs a restart)"),
    ("Roles.dns", "dns = true", "dns = false", "~ roles: dns true -> false"),
    ("Roles.balancer", "balancer = true", "balancer = false", "~ roles: balancer true -> false"),
    (
        "Nat.port_range",
        "16384-65535",
        "20000-65535",
        "! nat: port_range 16384-65535 -> 20000-65535 (needs a restart)",
    ),
    ("Route.to", "10.0.0.0/8", "10.0.0.0/9", "+ route 10.0.0.0/9: via 192.0.2.254; port wan"),
    ("Route.via", "192.0.2.254", "192.0.2.253", "~ route 10.0.0.0/8: via 192.0.2.254 -> 192.0.2.253"),
    (
        "Neighbour.address",
        "address = \"198.51.100.7\", mac",
        "address = \"198.51.100.9\", mac",
        "- neighbour 198.51.100.7: mac 02:00:00:00:00:07; port lan",
    ),
    (
        "Neighbour.mac",
        "02:00:00:00:00:07",
        "02:00:00:00:00:08",
        "~ neighbour 198.51.100.7: mac 02:00:00:00:00:07 -> 02:00:00:00:00:08",
    ),
    (
        "Neighbour.port",
        "address = \"198.51.100.7\", mac = \"02:00:00:00:00:07\", port = \"lan\"",
        "address = \"192.0.2.7\", mac = \"02:00:00:00:00:07\", port = \"wan\"",
        "+ neighbour 192.0.2.7: mac 02:00:00:00:00:07; port wan",
    ),
    (
        "Port.name",
        "name = \"wan\"",
        "name = \"out\"",
        "+ port out: mtu_bytes 1500; addresses [192.0.2.1/24, 2001:db8::1/64]; device net_ring0",
    ),
    ("Port.device", "net_ring0", "net_ring7", "! port wan: device net_ring0 -> net_ring7 (needs a restart)"),
    ("Port.mtu_bytes", "mtu_bytes = 1500", "mtu_bytes = 1400", "~ port wan: mtu_bytes 1500 -> 1400"),
    (
        "Port.addresses",
        "\"198.51.100.1/24\"",
        "\"198.51.100.1/24\", \"198.18.0.1/24\"",
        "~ port lan: addresses [198.51.100.1/24] -> [198.51.100.1/24, 198.18.0.1/24]",
    ),
    (
        "Port.vlans",
        "vlans = [{ id = 20, addresses = [\"10.20.0.1/24\"] }]",
        "",
        "- vlan lan.20: addresses [10.20.0.1/24]",
    ),
    ("Vlan.outer", "id = 20", "id = 20, outer = 100", "+ vlan lan.100.20: addresses [10.20.0.1/24]"),
    ("Vlan.id", "id = 20", "id = 21", "+ vlan lan.21: addresses [10.20.0.1/24]"),
    (
        "Vlan.addresses",
        "10.20.0.1/24",
        "10.20.0.2/24",
        "~ vlan lan.20: addresses [10.20.0.1/24] -> [10.20.0.2/24]",
    ),
    ("Dns.listen", "[\"192.0.2.53\"]", "[\"192.0.2.54\"]", "~ dns: listen [192.0.2.53] -> [192.0.2.54]"),
    ("Dns.intercept", "intercept = true", "intercept = false", "~ dns: intercept true -> false"),
    (
        "Dns.cookies",
        "cookies = true\ncookie_secrets = \"file:c.secret\"",
        "cookies = false",
        "~ dns: cookies true -> false; cookie_secrets file:c.secret -> none",
    ),
    (
        "Dns.cookie_secrets",
        "file:c.secret",
        "file:d.secret",
        "~ dns: cookie_secrets file:c.secret -> file:d.secret",
    ),
    (
        "Dns.rate_limit",
        "rate_limit = { responses_per_second = 50, per_prefix = { v4 = 24, v6 = 56 }, slip = 2 }",
        "",
        "~ dns: rate_limit.per_prefix.v4 24 -> none; rate_limit.per_prefix.v6 56 -> none; rate_limit.responses_per_second 50 -> none; rate_limit.slip 2 -> none",
    ),
    (
        "RateLimit.responses_per_second",
        "responses_per_second = 50",
        "responses_per_second = 60",
        "~ dns: rate_limit.responses_per_second 50 -> 60",
    ),
    (
        "RateLimit.per_prefix",
        "per_prefix = { v4 = 24, v6 = 56 }",
        "per_prefix = { v4 = 20 }",
        "~ dns: rate_limit.per_prefix.v4 24 -> 20",
    ),
    ("RateLimit.slip", "slip = 2", "slip = 0", "~ dns: rate_limit.slip 2 -> 0"),
    ("PerPrefix.v4", "v4 = 24", "v4 = 32", "~ dns: rate_limit.per_prefix.v4 24 -> 32"),
    ("PerPrefix.v6", "v6 = 56", "v6 = 48", "~ dns: rate_limit.per_prefix.v6 56 -> 48"),
    (
        "Dns.view",
        "[[dns.view]]",
        "[[dns.zone]]\nname = \"fn.example.\"\nview = \"lab\"\nfile = \"lab.zone\"\n[[dns.view]]\nname = \"lab\"\nports = [\"lan\"]\n[[dns.view]]",
        "~ dns: view [inside] -> [lab, inside]",
    ),
    (
        "View.name",
        "\"inside\"\nports = [\"lan\"]\nclients = [\"198.51.100.0/24\"]\n\n[[dns.zone]]\nname = \"fn.example.\"\nview = \"inside\"",
        "\"indoors\"\nports = [\"lan\"]\nclients = [\"198.51.100.0/24\"]\n\n[[dns.zone]]\nname = \"fn.example.\"\nview = \"indoors\"",
        "- view inside: ports [lan]; clients [198.51.100.0/24]",
    ),
    (
        "View.ports",
        "ports = [\"lan\"]",
        "ports = [\"wan\", \"lan\"]",
        "~ view inside: ports [lan] -> [wan, lan]",
    ),
    ("View.clients", "clients = [\"198.51.100.0/24\"]", "", "~ view inside: clients [198.51.100.0/24] -> []"),
    (
        "Zone.view",
        "name = \"fn.example.\"\nview = \"inside\"\nttl",
        "name = \"inside.example.\"\nview = \"inside\"\nttl",
        "- zone fn.example. in view inside: ttl_seconds 7; cold_ttl_seconds 1; file inside.zone",
    ),
    (
        "Zone.file",
        "\"inside.zone\"",
        "\"indoors.zone\"",
        "~ zone fn.example. in view inside: file inside.zone -> indoors.zone",
    ),
    (
        "Dns.zone",
        "[dns]",
        "[[dns.zone]]\nname = \"b.example.\"\nsoa = { primary = \"n.b.example.\", contact = \"o.b.example.\" }\n[dns]",
        "+ zone b.example.: soa.primary n.b.example.; soa.contact o.b.example.; soa.serial 1; soa.refresh_seconds 3600; soa.retry_seconds 600; soa.expire_seconds 604800; soa.minimum_ttl_seconds 5; ttl_seconds 30; cold_ttl_seconds 1",
    ),
    (
        "Zone.name",
        "name = \"fn.example.\"\nsoa",
        "name = \"example.\"\nsoa",
        "- record ns1.fn.example. A 192.0.2.53: ttl_seconds 31",
    ),
    ("Zone.soa", "serial = 1,", "serial = 2,", "~ zone fn.example.: soa.serial 1 -> 2"),
    ("Zone.ttl_seconds", "ttl_seconds = 30", "ttl_seconds = 40", "~ zone fn.example.: ttl_seconds 30 -> 40"),
    (
        "Zone.cold_ttl_seconds",
        "cold_ttl_seconds = 1",
        "cold_ttl_seconds = 2",
        "~ zone fn.example.: cold_ttl_seconds 1 -> 2",
    ),
    (
        "Zone.records",
        "records = [",
        "records = [ { name = \"@\", type = \"NS\", data = \"ns1.fn.example.\" },",
        "+ record fn.example. NS ns1.fn.example.: ttl_seconds 30",
    ),
    (
        "Soa.primary",
        "primary = \"ns1",
        "primary = \"ns2",
        "~ zone fn.example.: soa.primary ns1.fn.example. -> ns2.fn.example.",
    ),
    ("Soa.contact", "ops.", "all.", "~ zone fn.example.: soa.contact ops.fn.example. -> all.fn.example."),
    ("Soa.serial", "serial = 1", "serial = 9", "~ zone fn.example.: soa.serial 1 -> 9"),
    (
        "Soa.refresh_seconds",
        "refresh_seconds = 3601",
        "refresh_seconds = 3602",
        "~ zone fn.example.: soa.refresh_seconds 3601 -> 3602",
    ),
    (
        "Soa.retry_seconds",
        "retry_seconds = 601",
        "retry_seconds = 602",
        "~ zone fn.example.: soa.retry_seconds 601 -> 602",
    ),
    ("Soa.expire_seconds", "604801", "604802", "~ zone fn.example.: soa.expire_seconds 604801 -> 604802"),
    (
        "Soa.minimum_ttl_seconds",
        "minimum_ttl_seconds = 5",
        "minimum_ttl_seconds = 6",
        "~ zone fn.example.: soa.minimum_ttl_seconds 5 -> 6",
    ),
    (
        "Record.name",
        "name = \"ns1\"",
        "name = \"ns2\"",
        "+ record ns2.fn.example. A 192.0.2.53: ttl_seconds 31",
    ),
    (
        "Record.type",
        "type = \"A\"",
        "type = \"TXT\"",
        "+ record ns1.fn.example. TXT \"192.0.2.53\": ttl_seconds 31",
    ),
    (
        "Record.type",
        "type = \"A\", data = \"192.0.2.53\"",
        "type = \"MX\", data = \"5 ns1\"",
        "+ record ns1.fn.example. MX \\# 18 0005036e733102666e076578616d706c6500: ttl_seconds 31",
    ),
    (
        "Record.type",
        "name = \"ns1\", type = \"A\", data = \"192.0.2.53\"",
        "name = \"www\", type = \"CNAME\", data = \"ns1\"",
        "+ record www.fn.example. CNAME ns1.fn.example.: ttl_seconds 31",
    ),
    (
        "Record.data",
        "data = \"192.0.2.53\"",
        "data = \"192.0.2.54\"",
        "- record ns1.fn.example. A 192.0.2.53: ttl_seconds 31",
    ),
    (
        "Record.ttl_seconds",
        "ttl_seconds = 31",
        "ttl_seconds = 32",
        "~ record ns1.fn.example. A 192.0.2.53: ttl_seconds 31 -> 32",
    ),
    (
        "Function.name",
        "[[function]]",
        "[[function]]\nname = \"b\"\ncomponent = \"b\"\n[[function]]",
        "+ function b: component b; lifecycle ephemeral; memory_mib 64; deadline_ms 2000; instances.min 0; instances.max 16; placement pack",
    ),
    ("Function.component", "hello.wasm", "hi.wasm", "~ function hello: component hello.wasm -> hi.wasm"),
    ("Function.memory_mib", "memory_mib = 64", "memory_mib = 32", "~ function hello: memory_mib 64 -> 32"),
    (
        "Function.deadline_ms",
        "deadline_ms = 2000",
        "deadline_ms = 1000",
        "~ function hello: deadline_ms 2000 -> 1000",
    ),
    (
        "Function.instances",
        "instances = { min = 0, max = 16 }",
        "instances = { min = 2 }",
        "~ function hello: instances.min 0 -> 2",
    ),
    ("Instances.min", "min = 0", "min = 1", "~ function hello: instances.min 0 -> 1"),
    ("Instances.max", "max = 16", "max = 8", "~ function hello: instances.max 16 -> 8"),
    (
        "Service.name",
        "name = \"web\"",
        "name = \"site\"",
        "- service web: names []; address [203.0.113.20]; ports [tcp/80, udp/443]; forwarding nat; source keep; \
         quic.rotation 0; quic.server_id_bytes 2; quic.nonce_bytes 4; quic.key file:q.key; quic.previous.rotation 1; \
         quic.previous.nonce_bytes 5; quic.previous.key file:p.key; backends [198.51.100.7 weight 2 server_id 0x0102]; \
         health.kind http; health.path /up; health.status 200-299; health.port 8080; health.interval_ms 1000; health.timeout_ms 500; health.down_after 3; health.up_after 2; health.passive.failures 5; health.passive.window_ms 5000; health.passive.eject_ms 30000; health.passive.share_percent 50; health.overflow drop",
    ),
    (
        "Service.names",
        "[\"hello.fn.example.\"]",
        "[\"hi.fn.example.\"]",
        "~ service hello: names [hello.fn.example.] -> [hi.fn.example.]",
    ),
    (
        "Service.address",
        "203.0.113.10",
        "203.0.113.11",
        "~ service hello: address [203.0.113.10] -> [203.0.113.11]",
    ),
    (
        "Service.ports",
        "[\"tcp/80\"]",
        "[\"tcp/80\", \"udp/443\"]",
        "~ service hello: ports [tcp/80] -> [tcp/80, udp/443]",
    ),
    (
        "Service.function",
        "function = \"hello\"",
        "function = \"b\"\n[[function]]\nname = \"b\"\ncomponent = \"b\"\n[[service]]\nname = \"c\"\nnames = [\"c.fn.example.\"]\naddress = [\"203.0.113.30\"]\nports = [\"tcp/80\"]\nfunction = \"hello\"",
        "~ service hello: function hello -> b",
    ),
    (
        "Service.source",
        "source = \"keep\"",
        "source = \"appliance\"",
        "~ service hello: source keep -> appliance",
    ),
    (
        "Service.trigger",
        "[\"dns\", \"syn\"]",
        "[\"syn\", \"flow\"]",
        "~ service hello: trigger [dns, syn] -> [syn, flow]",
    ),
    (
        "Service.first_packet",
        "first_packet = \"hold\"",
        "first_packet = \"forward\"",
        "~ service hello: first_packet hold -> forward",
    ),
    ("Service.dns_answer", "immediate", "when-ready", "~ service hello: dns_answer immediate -> when-ready"),
    (
        "Service.hold",
        "hold = { packets = 512, deadline_ms = 900, overflow = \"drop\" }",
        "hold = { packets = 1 }",
        "~ service hello: hold.packets 512 -> 1",
    ),
    (
        "Service.idle_reap_seconds",
        "idle_reap_seconds = 120",
        "idle_reap_seconds = 60",
        "~ service hello: idle_reap_seconds 120 -> 60",
    ),
    (
        "Service.backends",
        "backends = [",
        "backends = [{ address = \"198.51.100.8\", server_id = \"0x0103\" }, ",
        "~ service web: backends [198.51.100.7 weight 2 server_id 0x0102] -> [198.51.100.8 weight 1 server_id 0x0103, 198.51.100.7 weight 2 server_id 0x0102]",
    ),
    ("Hold.packets", "packets = 512", "packets = 256", "~ service hello: hold.packets 512 -> 256"),
    (
        "Hold.deadline_ms",
        "deadline_ms = 900",
        "deadline_ms = 500",
        "~ service hello: hold.deadline_ms 900 -> 500",
    ),
    (
        "Hold.overflow",
        "overflow = \"drop\"",
        "overflow = \"rst\"",
        "~ service hello: hold.overflow drop -> rst",
    ),
    (
        "Backend.address",
        "address = \"198.51.100.7\", weight",
        "address = \"198.51.100.6\", weight",
        "~ service web: backends [198.51.100.7 weight 2 server_id 0x0102] -> [198.51.100.6 weight 2 server_id 0x0102]",
    ),
    (
        "Backend.weight",
        "weight = 2",
        "weight = 3",
        "~ service web: backends [198.51.100.7 weight 2 server_id 0x0102] -> [198.51.100.7 weight 3 server_id 0x0102]",
    ),
    (
        "Backend.drain",
        "drain = false",
        "drain = true",
        "~ service web: backends [198.51.100.7 weight 2 server_id 0x0102] -> [198.51.100.7 weight 2 drain server_id 0x0102]",
    ),
    (
        "Backend.server_id",
        "0x0102",
        "0x0104",
        "~ service web: backends [198.51.100.7 weight 2 server_id 0x0102] -> [198.51.100.7 weight 2 server_id 0x0104]",
    ),
    (
        "Service.quic",
        "key = \"file:q.key\", previous = { rotation = 1, nonce_bytes = 5, key = \"file:p.key\" }",
        "key = \"file:q.key\"",
        "~ service web: quic.previous.key file:p.key -> none; quic.previous.nonce_bytes 5 -> none; \
         quic.previous.rotation 1 -> none",
    ),
    (
        "Quic.rotation",
        "quic = { rotation = 0",
        "quic = { rotation = 2",
        "~ service web: quic.rotation 0 -> 2",
    ),
    (
        "Quic.server_id_bytes",
        "server_id = \"0x0102\" }]\nquic = { rotation = 0, server_id_bytes = 2",
        "server_id = \"0x010203\" }]\nquic = { rotation = 0, server_id_bytes = 3",
        "~ service web: quic.server_id_bytes 2 -> 3; \
         backends [198.51.100.7 weight 2 server_id 0x0102] -> [198.51.100.7 weight 2 server_id 0x010203]",
    ),
    ("Quic.nonce_bytes", "nonce_bytes = 4", "nonce_bytes = 6", "~ service web: quic.nonce_bytes 4 -> 6"),
    ("Quic.key", "file:q.key", "file:r.key", "~ service web: quic.key file:q.key -> file:r.key"),
    (
        "Quic.previous",
        ", previous = { rotation = 1, nonce_bytes = 5, key = \"file:p.key\" }",
        "",
        "~ service web: quic.previous.key file:p.key -> none; quic.previous.nonce_bytes 5 -> none; \
         quic.previous.rotation 1 -> none",
    ),
    (
        "QuicPrevious.rotation",
        "previous = { rotation = 1",
        "previous = { rotation = 3",
        "~ service web: quic.previous.rotation 1 -> 3",
    ),
    (
        "QuicPrevious.nonce_bytes",
        "nonce_bytes = 5",
        "nonce_bytes = 7",
        "~ service web: quic.previous.nonce_bytes 5 -> 7",
    ),
    (
        "QuicPrevious.key",
        "file:p.key",
        "file:o.key",
        "~ service web: quic.previous.key file:p.key -> file:o.key",
    ),
    (
        "Service.health",
        "health = { kind = \"http\", path = \"/up\", status = \"200-299\", port = 8080, interval_ms = 1000, timeout_ms = 500, down_after = 3, up_after = 2, overflow = \"drop\", passive = { failures = 5, window_ms = 5000, eject_ms = 30000, share_percent = 50 } }",
        "",
        "~ service web: health.down_after 3 -> none; health.interval_ms 1000 -> none; health.kind http -> none; health.overflow drop -> none; health.passive.eject_ms 30000 -> none; health.passive.failures 5 -> none; health.passive.share_percent 50 -> none; health.passive.window_ms 5000 -> none; health.path /up -> none; health.port 8080 -> none; health.status 200-299 -> none; health.timeout_ms 500 -> none; health.up_after 2 -> none",
    ),
    (
        "Health.kind",
        "kind = \"http\", path = \"/up\", status = \"200-299\"",
        "kind = \"tcp\"",
        "~ service web: health.kind http -> tcp; health.path /up -> none; health.status 200-299 -> none",
    ),
    ("Health.path", "/up", "/down", "~ service web: health.path /up -> /down"),
    ("Health.status", "200-299", "204", "~ service web: health.status 200-299 -> 204-204"),
    ("Health.port", "port = 8080, ", "", "~ service web: health.port 8080 -> none"),
    (
        "Health.interval_ms",
        "interval_ms = 1000",
        "interval_ms = 2000",
        "~ service web: health.interval_ms 1000 -> 2000",
    ),
    ("Health.timeout_ms", "timeout_ms = 500, ", "", "~ service web: health.timeout_ms 500 -> 1000"),
    ("Health.down_after", "down_after = 3", "down_after = 4", "~ service web: health.down_after 3 -> 4"),
    ("Health.up_after", "up_after = 2", "up_after = 1", "~ service web: health.up_after 2 -> 1"),
    (
        "Health.overflow",
        "up_after = 2, overflow = \"drop\"",
        "up_after = 2, overflow = \"upstream\"",
        "~ service web: health.overflow drop -> upstream",
    ),
    (
        "Health.passive",
        ", passive = { failures = 5, window_ms = 5000, eject_ms = 30000, share_percent = 50 }",
        "",
        "~ service web: health.passive.eject_ms 30000 -> none; health.passive.failures 5 -> none; health.passive.share_percent 50 -> none; health.passive.window_ms 5000 -> none",
    ),
    ("Passive.failures", "failures = 5", "failures = 6", "~ service web: health.passive.failures 5 -> 6"),
    (
        "Passive.window_ms",
        "window_ms = 5000",
        "window_ms = 4000",
        "~ service web: health.passive.window_ms 5000 -> 4000",
    ),
    (
        "Passive.eject_ms",
        "eject_ms = 30000",
        "eject_ms = 20000",
        "~ service web: health.passive.eject_ms 30000 -> 20000",
    ),
    (
        "Passive.share_percent",
        "share_percent = 50",
        "share_percent = 40",
        "~ service web: health.passive.share_percent 50 -> 40",
    ),
    (
        "Limits.flows_per_worker",
        "262144",
        "131072",
        "! limits: flows_per_worker 262144 -> 131072 (needs a restart)",
    ),
    (
        "Limits.holds_per_worker",
        "holds_per_worker = 8192",
        "holds_per_worker = 4096",
        "! limits: holds_per_worker 8192 -> 4096 (needs a restart)",
    ),
    (
        "Limits.holds_per_prefix",
        "holds_per_prefix = 32",
        "holds_per_prefix = 16",
        "~ limits: holds_per_prefix 32 -> 16",
    ),
    (
        "Limits.wakes_per_second",
        "wakes_per_second = 20",
        "wakes_per_second = 10",
        "~ limits: wakes_per_second 20 -> 10",
    ),
    ("Limits.wakes_burst", "wakes_burst = 50", "wakes_burst = 20", "~ limits: wakes_burst 50 -> 20"),
    (
        "Limits.neighbours_max",
        "neighbours_max = 4096",
        "neighbours_max = 64",
        "~ limits: neighbours_max 4096 -> 64",
    ),
    (
        "Orchestrator.kind",
        "kind = \"embedded\"\nlisten = \"127.0.0.1:7443\"\ntls = { cert = \"file:site.pem\", key = \"file:site.key\", ca = \"file:ca.pem\" }\n\n[[orchestrator.node]]\nname = \"fn1\"\naddress = \"198.51.100.21\"",
        "kind = \"grpc\"\nendpoint = \"https://o.example:7443\"\ntls = { cert = \"file:site.pem\", key = \"file:site.key\", ca = \"file:ca.pem\" }",
        "! orchestrator: kind embedded -> grpc (needs a restart); endpoint none -> https://o.example:7443 (needs a restart); listen 127.0.0.1:7443 -> none (needs a restart)",
    ),
    (
        "Orchestrator.endpoint",
        "kind = \"embedded\"\nlisten = \"127.0.0.1:7443\"\ntls = { cert = \"file:site.pem\", key = \"file:site.key\", ca = \"file:ca.pem\" }\n\n[[orchestrator.node]]\nname = \"fn1\"\naddress = \"198.51.100.21\"",
        "kind = \"grpc\"\nendpoint = \"https://p.example:7443\"\ntls = { cert = \"file:site.pem\", key = \"file:site.key\", ca = \"file:ca.pem\" }",
        "! orchestrator: kind embedded -> grpc (needs a restart); endpoint none -> https://p.example:7443 (needs a restart); listen 127.0.0.1:7443 -> none (needs a restart)",
    ),
    (
        "Orchestrator.listen",
        "127.0.0.1:7443",
        "127.0.0.1:7444",
        "! orchestrator: listen 127.0.0.1:7443 -> 127.0.0.1:7444 (needs a restart)",
    ),
    (
        "Orchestrator.tls",
        "tls = { cert = \"file:site.pem\", key = \"file:site.key\", ca = \"file:ca.pem\" }",
        "",
        "! orchestrator: tls none -> off (needs a restart); tls.ca file:ca.pem -> none (needs a restart); tls.cert file:site.pem -> none (needs a restart); tls.key file:site.key -> none (needs a restart)",
    ),
    (
        "Orchestrator.node",
        "[[orchestrator.node]]",
        "[[orchestrator.node]]\nname = \"fn2\"\naddress = \"198.51.100.22\"\n[[orchestrator.node]]",
        "+ node fn2: address 198.51.100.22; kind wasm",
    ),
    (
        "Node.name",
        "\"fn1\"",
        "\"fn2\"",
        "! node fn1: address 198.51.100.21; kind wasm (removed; needs a restart)",
    ),
    (
        "Node.address",
        "198.51.100.21",
        "198.51.100.22",
        "! node fn1: address 198.51.100.21 -> 198.51.100.22 (needs a restart)",
    ),
    (
        "Tls.cert",
        "file:site.pem",
        "file:s.pem",
        "! orchestrator: tls.cert file:site.pem -> file:s.pem (needs a restart)",
    ),
    (
        "Tls.key",
        "file:site.key",
        "file:s.key",
        "! orchestrator: tls.key file:site.key -> file:s.key (needs a restart)",
    ),
    (
        "Tls.ca",
        "file:ca.pem",
        "file:c.pem",
        "! orchestrator: tls.ca file:ca.pem -> file:c.pem (needs a restart)",
    ),
    (
        "Telemetry.metrics_listen",
        "9464",
        "9465",
        "! telemetry: metrics_listen 127.0.0.1:9464 -> 127.0.0.1:9465 (needs a restart)",
    ),
    (
        "Telemetry.control_socket",
        "control.sock",
        "c.sock",
        "! telemetry: control_socket /run/millrace/control.sock -> /run/millrace/c.sock (needs a restart)",
    ),
    ("Telemetry.log", "\"info\"", "\"debug\"", "! telemetry: log info -> debug (needs a restart)"),
];

/// Keys that hold one word so far, and can't change.
const ONE_WORD: &[&str] = &[
    "Cores.sibling",
    "Function.lifecycle",
    "Function.placement",
    "Node.kind",
    "Service.forwarding",
    "Service.verify_before_wake",
];

/// Allows what is there either way, and means nothing afterwards.
const WITHOUT_MEANING: &[&str] = &["Orchestrator.insecure"];

fn parse(text: &str) -> Config {
    Config::parse("edge.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn a_configuration_does_not_differ_from_itself() {
    for text in [EDGE, include_str!("edge.toml")] {
        let Ok(config) = Config::parse("edge.toml", text) else { continue };
        assert_eq!(Diff::new(&config, &config), Diff::default());
    }
    assert!(Diff::new(&parse(EDGE), &parse(EDGE)).is_empty());
}

#[test]
fn order_spelling_and_defaults_are_no_difference() {
    let moved = EDGE
        .replace("id = 20", "id = 0x14")
        .replace("memory_mib = 64", "")
        .replace("\"203.0.113.20\"", "\"203.0.113.20\", # the shop\n");
    let (head, tail) = moved.split_once("[[function]]").unwrap();
    let (function, rest) = tail.split_once("[limits]").unwrap();
    let moved = format!("{head}[limits]{rest}\n[[function]]{function}");
    assert_eq!(Diff::new(&parse(EDGE), &parse(&moved)).to_string(), "");
}

#[test]
fn every_key_is_found_and_told_for_what_it_needs() {
    let running = parse(EDGE);
    let mut wrong = Vec::new();
    for (key, from, to, expected) in CASES {
        assert!(EDGE.contains(from), "{key}: {from}");
        match Config::parse("edge.toml", &EDGE.replacen(from, to, 1)) {
            Ok(next) => {
                let told = Diff::new(&running, &next).to_string();
                // A change may take others with it, on lines of their own.
                if !told.lines().any(|line| line == *expected) {
                    wrong.push(format!("{key}: {told}"));
                }
            }
            Err(report) => wrong.push(format!("{key}: {report}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_of_the_schema_has_its_case() {
    let schema: Value = serde_json::from_str(&millrace_config::json_schema()).unwrap();
    let tables = schema["$defs"].as_object().unwrap().iter();
    let keys = tables.flat_map(|(table, definition)| {
        let properties = definition["properties"].as_object().into_iter().flatten();
        properties.filter(|(_, key)| key["x-not-built"] != true).map(move |(key, _)| format!("{table}.{key}"))
    });
    let told: BTreeSet<&str> = CASES.iter().map(|(key, ..)| *key).chain(ONE_WORD.iter().copied()).collect();
    let missing: Vec<String> =
        keys.filter(|key| !told.contains(&key[..]) && !WITHOUT_MEANING.contains(&&key[..])).collect();
    assert!(missing.is_empty(), "no case says what becomes of these keys in a reload: {missing:?}");
}

#[test]
fn a_file_with_another_text_is_a_change_of_names_in_its_place() {
    let next = EDGE.replace("intercept = true", "intercept = false").replace("memory_mib = 64", "");
    let mut diff = Diff::new(&parse(EDGE), &parse(&next.replace("\"info\"", "\"debug\"")));
    diff.add_files([Path::new("inside.zone")]);
    assert_eq!(
        diff.to_string(),
        "~ dns: intercept true -> false\n~ file inside.zone: text old -> new\n\
         ! telemetry: log info -> debug (needs a restart)\n"
    );
    let mut diff = Diff::default();
    assert!(!diff.touches_names());
    diff.add_files([Path::new("inside.zone")]);
    assert!(diff.touches_names() && diff.restarts().count() == 0);
}

#[test]
fn names_are_made_anew_where_a_view_may_have_another_network() {
    let touches =
        |from: &str, to: &str| Diff::new(&parse(EDGE), &parse(&EDGE.replacen(from, to, 1))).touches_names();
    assert!(touches("id = 20", "id = 21"));
    assert!(!touches("10.20.0.1/24", "10.20.0.2/24"));
}

#[test]
fn json_says_what_the_lines_say() {
    let next = EDGE.replace("weight = 2", "weight = 3").replace("net_ring0", "net_ring7");
    let diff = Diff::new(&parse(EDGE), &parse(&next));
    let told = diff.to_json(10);
    assert_eq!(told[0]["what"], "port");
    assert_eq!((&told[0]["restart"], &told[0]["keys"][0]["from"]), (&true.into(), &"net_ring0".into()));
    assert_eq!((&told[1]["change"], &told[1]["name"]), (&"changed".into(), &"web".into()));
    assert_eq!(told[1]["restart"], false);
    assert_eq!(diff.to_json(1).as_array().unwrap().len(), 1);
}

proptest! {
    /// Any set of edits: what one way adds, the other way removes, and keys turn round.
    #[test]
    fn the_way_back_is_the_way_there_turned_round(chosen in prop::collection::btree_set(0..CASES.len(), 0..4)) {
        let mut text = EDGE.to_owned();
        for at in chosen {
            let (_, from, to, _) = CASES[at];
            text = text.replacen(from, to, 1);
        }
        // Edits may contradict each other.
        if let Ok(next) = Config::parse("edge.toml", &text) {
            let there = Diff::new(&parse(EDGE), &next);
            let back = Diff::new(&next, &parse(EDGE));
            prop_assert_eq!(there.changes.len(), back.changes.len());
            for (one, other) in there.changes.iter().zip(&back.changes) {
                prop_assert_eq!((one.what, &one.name), (other.what, &other.name));
                let turned = match one.kind {
                    Kind::Added => Kind::Removed,
                    Kind::Removed => Kind::Added,
                    Kind::Changed => Kind::Changed,
                };
                prop_assert_eq!(other.kind, turned);
                prop_assert_eq!(one.keys.len(), other.keys.len());
            }
        }
    }
}

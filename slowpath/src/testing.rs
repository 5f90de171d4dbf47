//! An appliance to test with: two ports, one with a VLAN, a function and a service of fixed backends.

use std::net::IpAddr;

use millrace_config::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};

use crate::builder::PortInfo;

pub(crate) const WAN: InterfaceId = InterfaceId(0);
pub(crate) const LAN: InterfaceId = InterfaceId(1);
pub(crate) const LAN_20: InterfaceId = InterfaceId(2);
pub(crate) const WAN_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(crate) const LAN_MAC: Mac = [2, 0, 0, 0, 0, 2];
pub(crate) const PEER_MAC: Mac = [2, 0, 0, 0, 1, 1];
pub(crate) const OTHER_MAC: Mac = [2, 0, 0, 0, 1, 2];

pub(crate) fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

pub(crate) fn ms(ms: u64) -> Nanos {
    Nanos(1_000_000_000 + ms * 1_000_000)
}

pub(crate) fn ports() -> Vec<PortInfo> {
    vec![
        PortInfo { name: "wan".into(), mac: WAN_MAC, mtu_bytes: 1500 },
        PortInfo { name: "lan".into(), mac: LAN_MAC, mtu_bytes: 9000 },
    ]
}

/// Service 0 `hello` leads to a function, service 1 `web` to two backends.
pub(crate) fn config() -> Config {
    Config::parse("edge.toml", EDGE).unwrap_or_else(|report| panic!("{report}"))
}

/// The configuration of the appliance under test.
pub(crate) const EDGE: &str = r#"
schema_version = 1

[site]
name = "edge-42"

[[port]]
name = "wan"
device = "net_ring0"
mtu_bytes = 1500
addresses = ["192.0.2.1/24", "2001:db8::1/64"]

[[port]]
name = "lan"
device = "net_ring1"
mtu_bytes = 1500
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]
vlans = [{ id = 20, addresses = ["10.20.0.1/24"] }]

[[route]]
to = "0.0.0.0/0"
via = "192.0.2.254"

[[neighbour]]
address = "198.51.100.7"
mac = "02:00:00:00:00:07"
port = "lan"

[roles]
dns = true
balancer = true

[dns]
listen = ["192.0.2.53", "2001:db8::53"]
intercept = true

[[dns.zone]]
name = "fn.example."
soa = { primary = "ns1.fn.example.", contact = "ops.fn.example.", serial = 1, minimum_ttl_seconds = 5 }
ttl_seconds = 30
cold_ttl_seconds = 1
records = [
  { name = "@", type = "NS", data = "ns1.fn.example." },
  { name = "ns1", type = "A", data = "192.0.2.53" },
]

[[function]]
name = "hello"
component = "functions/hello.wasm"
lifecycle = "ephemeral"

[[service]]
name = "hello"
names = ["hello.fn.example.", "hi.fn.example."]
address = ["203.0.113.10", "2001:db8:f::10"]
ports = ["tcp/80"]
function = "hello"
trigger = ["dns", "syn"]
hold = { packets = 512, deadline_ms = 900, overflow = "upstream" }
idle_reap_seconds = 120

[[service]]
name = "web"
address = ["203.0.113.20"]
ports = ["tcp/80", "tcp/443"]
backends = [
  { address = "198.51.100.7", weight = 2 },
  { address = "198.51.100.8", weight = 1, drain = true },
]

[limits]
neighbours_max = 64

[orchestrator]
kind = "embedded"

[[orchestrator.node]]
name = "fn1"
address = "198.51.100.21"
kind = "wasm"
"#;

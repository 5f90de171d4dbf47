//! What a seed builds: a configuration with limits small enough to be met, weather, and who is there.

use std::net::IpAddr;

use millrace_config::Config;
use millrace_config::model::{FirstPacket, Overflow, Verify};
use millrace_fastpath::worker::WorkerLimits;
use millrace_orchestrator::config::{
    Config as Placements, FunctionConfig, NodeConfig, Pattern, ServiceConfig,
};

use crate::random::Random;

/// A part of the world that a seed decides.
pub(crate) struct Scenario {
    pub(crate) workers: usize,
    pub(crate) flows: usize,
    pub(crate) holds: usize,
    pub(crate) config: Config,
    pub(crate) text: String,
    pub(crate) services: Vec<Facts>,
    pub(crate) clients: usize,
    pub(crate) node_memory_mib: u64,
    pub(crate) chaos_ms: u64,
}

/// What the simulation has to know of a service, as it stands in the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) v4: IpAddr,
    pub(crate) v6: Option<IpAddr>,
    pub(crate) udp: bool,
    pub(crate) wakes: bool,
    pub(crate) by_dns: bool,
    pub(crate) handling: FirstPacket,
    pub(crate) verify: Verify,
    pub(crate) hold_packets: u32,
}

impl Facts {
    pub(crate) fn dns_name(&self) -> String {
        format!("{}.fn.example.", self.name)
    }

    /// Its address of a family that it has.
    pub(crate) fn address(&self, v4: bool) -> IpAddr {
        if v4 { self.v4 } else { self.v6.expect("only wished for where it is") }
    }

    pub(crate) fn is_at(&self, addr: IpAddr) -> bool {
        self.v4 == addr || self.v6 == Some(addr)
    }
}

/// Serving nodes and backends: name, IPv4, IPv6.
pub(crate) const NODES: [(&str, &str, &str); 2] =
    [("fn1", "198.51.100.21", "2001:db8:1::21"), ("fn2", "198.51.100.22", "2001:db8:1::22")];
pub(crate) const BACKENDS: [(&str, &str); 2] =
    [("198.51.100.31", "2001:db8:1::31"), ("198.51.100.32", "2001:db8:1::32")];
pub(crate) const UPSTREAM: (&str, &str) = ("192.0.2.254", "2001:db8::fe");
pub(crate) const DNS: (&str, &str) = ("192.0.2.53", "2001:db8::53");
pub(crate) const TCP_PORT: u16 = 80;
pub(crate) const UDP_PORT: u16 = 443;
const MEMORY_MIB: u64 = 32;

impl Scenario {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let workers = random.within(2..=4) as usize;
        let on_demand = random.within(1..=3);
        let holds = random.within(4..=32);
        let bounds = [random.within(2..=holds), random.within(2..=20), random.within(2..=10)];
        let mut text = head(&bounds, holds);
        // So few ports that flows of several workers meet them all.
        if random.percent(30) {
            text += &format!("[nat]\nport_range = \"40000-{}\"\n", 40_000 + random.within(16..=100));
        }
        let mut services = Vec::new();
        let mut needed = 0;
        for at in 0..on_demand {
            let (facts, min) = function(at, random, &mut text);
            needed += min.max(1);
            services.push(facts);
        }
        if random.percent(30) {
            services.push(fixed(on_demand, random, &mut text));
        }
        let config = Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}\n{text}"));
        Self {
            workers,
            // Few of them, so that flows have to make room for others, or enough.
            flows: random.one_of(&[24, 256, 256, 256]),
            holds: holds as usize,
            config,
            text,
            services,
            clients: random.within(2..=5) as usize,
            // All that is needed fits on one node, mostly.
            node_memory_mib: MEMORY_MIB * needed + random.one_of(&[0, MEMORY_MIB, 4 * MEMORY_MIB]),
            chaos_ms: random.within(1500..=5000),
        }
    }

    pub(crate) fn limits(&self) -> WorkerLimits {
        let limits = &self.config.limits;
        let bounds = millrace_fastpath::tables::policy::Bounds {
            holds_per_prefix: limits.holds_per_prefix,
            wakes_per_second: limits.wakes_per_second,
            wakes_burst: limits.wakes_burst,
        };
        WorkerLimits {
            flows: self.flows,
            holds: self.holds,
            holds_per_prefix: bounds.prefix_share(self.workers),
            wakes: bounds.wake_share(self.workers),
            ..WorkerLimits::default()
        }
    }

    /// The same for the orchestrator, as the binary translates it.
    pub(crate) fn placements(&self) -> Placements {
        let config = &self.config;
        let functions = config.functions.iter().map(|function| FunctionConfig {
            name: function.name.to_string(),
            memory_bytes: u64::from(function.memory_mib) << 20,
            deadline_ms: function.deadline.as_millis() as u64,
            instances_min: function.instances.min,
            instances_max: function.instances.max,
            pattern: Pattern::Pack,
        });
        let services = config.services.iter().filter_map(|service| {
            let function = config.function(service.on_demand()?.function).name.to_string();
            Some(ServiceConfig { name: service.name.to_string(), function, port: 0 })
        });
        let nodes = NODES.iter().map(|(name, ..)| NodeConfig { name: (*name).to_owned(), address: None });
        Placements::new(functions.collect(), services.collect(), nodes.collect())
            .expect("what the configuration allows fits together")
    }
}

fn head([per_prefix, per_second, burst]: &[u64; 3], holds: u64) -> String {
    format!(
        r#"
schema_version = 1
[site]
name = "edge-42"
[[port]]
name = "wan"
device = "net_ring0"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
[[port]]
name = "lan"
device = "net_ring1"
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]
[[route]]
to = "0.0.0.0/0"
via = "{}"
[[route]]
to = "::/0"
via = "{}"
[roles]
dns = true
balancer = true
[dns]
listen = ["{}", "{}"]
intercept = true
[[dns.zone]]
name = "fn.example."
soa = {{ primary = "ns1.fn.example.", contact = "ops.fn.example.", serial = 1, minimum_ttl_seconds = 5 }}
ttl_seconds = 1
cold_ttl_seconds = 1
records = [{{ name = "@", type = "NS", data = "ns1.fn.example." }}, {{ name = "ns1", type = "A", data = "{}" }}]
[limits]
holds_per_worker = {holds}
holds_per_prefix = {per_prefix}
wakes_per_second = {per_second}
wakes_burst = {burst}
[orchestrator]
kind = "embedded"
[[orchestrator.node]]
name = "fn1"
address = "198.51.100.21"
kind = "wasm"
"#,
        UPSTREAM.0, UPSTREAM.1, DNS.0, DNS.1, DNS.0
    )
}

/// A function and its service; how many instances it shall have at least.
fn function(at: u64, random: &mut Random, text: &mut String) -> (Facts, u64) {
    let min = random.one_of(&[0, 0, 0, 0, 1, 2]);
    let max = min.max(1) + random.below(2);
    let (by_dns, by_syn) = random.one_of(&[(true, true), (true, true), (true, false), (false, true)]);
    let handling = random.one_of(&[FirstPacket::Hold, FirstPacket::Forward, FirstPacket::Splice]);
    let verify = match random.below(4) {
        0 if by_syn => Verify::SecondSyn,
        1 if by_syn && handling == FirstPacket::Splice => Verify::Cookie,
        _ => Verify::None,
    };
    let udp = random.percent(30);
    let overflow = match random.below(4) {
        0 => Overflow::Upstream,
        1 => Overflow::Fallback,
        2 if !udp => Overflow::Rst,
        _ => Overflow::Drop,
    };
    // Who has to repeat a SYN does so after most of a second.
    let deadline_ms = if verify == Verify::SecondSyn { 2500 } else { random.within(200..=2500) };
    let answer = if by_dns && random.percent(40) { "when-ready" } else { "immediate" };
    let hold_packets = random.within(2..=12);
    let source = if random.percent(50) { "keep" } else { "appliance" };
    let facts = Facts {
        name: format!("s{at}"),
        v4: format!("203.0.113.{}", 10 + at).parse().unwrap(),
        v6: random.percent(70).then(|| format!("2001:db8:f::{}", 10 + at).parse().unwrap()),
        udp,
        wakes: true,
        by_dns,
        handling,
        verify,
        hold_packets: hold_packets as u32,
    };
    let triggers = [(by_dns, "\"dns\""), (by_syn, "\"syn\"")];
    let triggers: Vec<_> = triggers.iter().filter(|(fires, _)| *fires).map(|(_, name)| *name).collect();
    *text += &format!(
        r#"
[[function]]
name = "f{at}"
component = "f{at}.wasm"
memory_mib = {MEMORY_MIB}
deadline_ms = 300
instances = {{ min = {min}, max = {max} }}
[[service]]
name = "{}"
names = ["{}"]
{}
function = "f{at}"
source = "{source}"
trigger = [{}]
first_packet = "{handling}"
dns_answer = "{answer}"
verify_before_wake = "{verify}"
hold = {{ packets = {hold_packets}, deadline_ms = {deadline_ms}, overflow = "{overflow}" }}
idle_reap_seconds = {}
"#,
        facts.name,
        facts.dns_name(),
        endpoints(&facts),
        triggers.join(", "),
        random.within(1..=4),
    );
    if overflow == Overflow::Fallback {
        *text += &backends();
    }
    (facts, min)
}

/// A service of backends alone.
fn fixed(at: u64, random: &mut Random, text: &mut String) -> Facts {
    let facts = Facts {
        name: "web".to_owned(),
        v4: format!("203.0.113.{}", 10 + at).parse().unwrap(),
        v6: Some(format!("2001:db8:f::{}", 10 + at).parse().unwrap()),
        udp: random.percent(50),
        wakes: false,
        by_dns: false,
        handling: FirstPacket::Hold,
        verify: Verify::None,
        hold_packets: 0,
    };
    let source = if random.percent(50) { "keep" } else { "appliance" };
    *text += &format!(
        "[[service]]\nname = \"web\"\nnames = [\"web.fn.example.\"]\n{}\nsource = \"{source}\"\n{}",
        endpoints(&facts),
        backends()
    );
    facts
}

fn endpoints(facts: &Facts) -> String {
    let addresses: Vec<String> =
        [Some(facts.v4), facts.v6].iter().flatten().map(|addr| format!("\"{addr}\"")).collect();
    let udp = if facts.udp { format!(", \"udp/{UDP_PORT}\"") } else { String::new() };
    format!("address = [{}]\nports = [\"tcp/{TCP_PORT}\"{udp}]", addresses.join(", "))
}

fn backends() -> String {
    let all = BACKENDS.iter().flat_map(|(v4, v6)| [v4, v6]);
    let all: Vec<String> = all.map(|addr| format!("{{ address = \"{addr}\" }}")).collect();
    format!("backends = [{}]\n", all.join(", "))
}

//! What a seed builds: a configuration with limits small enough to be met, weather, and who is there.

use millrace_config::Config;
use millrace_fastpath::tables::policy::Bounds;
use millrace_fastpath::worker::WorkerLimits;
use millrace_orchestrator::config::{
    Config as Placements, FunctionConfig, NodeConfig, Pattern, ServiceConfig,
};

use crate::random::Random;
use crate::services::Facts;

/// A part of the world that a seed decides.
pub(crate) struct Scenario {
    pub(crate) workers: usize,
    pub(crate) flows: usize,
    pub(crate) holds: usize,
    pub(crate) plan: Plan,
    pub(crate) config: Config,
    pub(crate) clients: usize,
    /// Neighbourhoods that floods come from.
    pub(crate) hostile_prefixes: u64,
    pub(crate) node_memory_mib: u64,
    pub(crate) chaos_ms: u64,
}

/// What the configuration says, as far as a reload may change it, and the services.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    holds: u64,
    per_prefix: u64,
    per_second: u64,
    burst: u64,
    nat_last: Option<u64>,
    serial: u64,
    ttl_seconds: u64,
    alias: bool,
    pub(crate) services: Vec<Facts>,
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
pub(crate) const MEMORY_MIB: u64 = 32;

impl Scenario {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let workers = random.within(2..=4) as usize;
        let plan = Plan::draw(random);
        let needed: u64 = plan.services.iter().filter(|one| one.wakes).map(|one| one.min.max(1)).sum();
        Self {
            workers,
            // Few of them, so that flows have to make room for others, or enough.
            flows: random.one_of(&[24, 256, 256, 256]),
            holds: plan.holds as usize,
            config: plan.config(),
            plan,
            clients: random.within(2..=5) as usize,
            hostile_prefixes: random.within(1..=3),
            // All that is needed fits on one node, mostly.
            node_memory_mib: MEMORY_MIB * needed + random.one_of(&[0, MEMORY_MIB, 4 * MEMORY_MIB]),
            chaos_ms: random.within(1500..=5000),
        }
    }

    pub(crate) fn services(&self) -> &[Facts] {
        &self.plan.services
    }

    pub(crate) fn limits(&self) -> WorkerLimits {
        let limits = &self.config.limits;
        let bounds = Bounds {
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

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let on_demand = random.within(1..=3);
        let mut services: Vec<Facts> = (0..on_demand).map(|at| Facts::function(at, random)).collect();
        if random.percent(60) {
            services.push(Facts::fixed(on_demand, random));
        }
        let mut plan = Self {
            holds: random.within(4..=32),
            per_prefix: 0,
            per_second: 0,
            burst: 0,
            // So few ports that flows of several workers meet them all.
            nat_last: random.percent(30).then(|| 40_000 + random.within(16..=100)),
            serial: 1,
            ttl_seconds: 1,
            alias: false,
            services,
        };
        plan.limit(random);
        plan
    }

    fn limit(&mut self, random: &mut Random) {
        self.per_prefix = random.within(2..=self.holds);
        self.per_second = random.within(2..=20);
        self.burst = random.within(2..=10);
    }

    /// Another one, as operators change it while all runs.
    pub(crate) fn vary(&mut self, random: &mut Random) {
        for _ in 0..random.within(1..=3) {
            match random.below(6) {
                0 => self.limit(random),
                1 => {
                    self.serial += 1;
                    self.ttl_seconds = random.within(1..=3);
                    self.alias = random.percent(50);
                }
                2 | 3 => {
                    let at = random.below(self.services.len() as u64) as usize;
                    let present = self.services.iter().filter(|one| one.present).count();
                    let one = &mut self.services[at];
                    // One has to be there always.
                    match present == 1 && one.present || random.percent(50) {
                        true => one.lose_or_find(),
                        false => one.come_or_go(),
                    }
                }
                _ => {
                    let at = random.below(self.services.len() as u64) as usize;
                    self.services[at].vary(random);
                }
            }
        }
    }

    /// With all services in it, and all that they have.
    pub(crate) fn restore(&mut self) {
        self.services.iter_mut().for_each(|one| (one.present, one.without_v6) = (true, false));
    }

    pub(crate) fn config(&self) -> Config {
        let text = self.toml();
        Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}\n{text}"))
    }

    pub(crate) fn toml(&self) -> String {
        let mut text = self.head();
        if let Some(last) = self.nat_last {
            text += &format!("[nat]\nport_range = \"40000-{last}\"\n");
        }
        self.services.iter().filter(|one| one.present).for_each(|one| text += &one.toml());
        text
    }

    fn head(&self) -> String {
        let alias = match self.alias {
            true => ", { name = \"www\", type = \"CNAME\", data = \"ns1.fn.example.\" }",
            false => "",
        };
        let Self { holds, per_prefix, per_second, burst, serial, ttl_seconds, .. } = self;
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
soa = {{ primary = "ns1.fn.example.", contact = "ops.fn.example.", serial = {serial}, minimum_ttl_seconds = 5 }}
ttl_seconds = {ttl_seconds}
cold_ttl_seconds = 1
records = [{{ name = "@", type = "NS", data = "ns1.fn.example." }}, {{ name = "ns1", type = "A", data = "{}" }}{alias}]
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
}

//! One service's entry in the tables: its configuration, and where its instances are now.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::model::{self, Config, SecretRef, Target};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::services::{
    DnsAnswer, Endpoint, Forwarding, Handling, Instance, InstanceState, Overflow, Service, ServiceId,
    SourceAddress, Verify,
};
use millrace_fastpath::wire::quic_lb::{Layout, ServerId};
use millrace_orchestrator_api as api;

use super::files::QuicKeys;
use super::ids::{InstanceKey, InstanceSlots};

/// A service that was woken by a query is kept this long for the connection, however short the answer's time to live is.
const UNUSED_MIN: Duration = Duration::from_secs(10);

/// What the slowpath knows of a service from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The DNS names bound to it, lower case, with the final dot.
    pub dns_names: Vec<String>,
    /// The function behind it; `None` for fixed backends alone.
    pub function: Option<String>,
    /// Without traffic for this long it is reported idle, in nanoseconds.
    pub idle_nanos: u64,
    /// When a query woke it and no flow follows, it is reported idle after this long, in nanoseconds: no sooner than a client
    /// may still come with the answer, and no later than any other. `None` where flows aren't seen here.
    pub unused_nanos: Option<u64>,
    /// The longest time a packet of its is held, in nanoseconds.
    pub hold_nanos_max: u64,
    /// Where clients find it.
    pub endpoints: Vec<Endpoint>,
    template: Service,
}

/// What the configuration says of a service; `keys` are those that it names.
pub(crate) fn spec(config: &Config, id: ServiceId, service: &model::Service, keys: &QuicKeys) -> ServiceSpec {
    let on_demand = service.on_demand();
    let hold = on_demand.map(|on_demand| on_demand.hold);
    let endpoints = service.address.iter().filter(|_| config.roles.balancer).flat_map(|addr| {
        service.ports.iter().map(|port| Endpoint {
            addr: Addr::from(*addr),
            port: port.port.get(),
            protocol: port.protocol.number(),
        })
    });
    let hold_nanos_max = hold.map_or(0, |hold| nanos(hold.deadline));
    ServiceSpec {
        id,
        name: service.name.as_str().to_owned(),
        dns_names: service.names.iter().map(|name| name.as_str().to_owned()).collect(),
        function: match &service.target {
            Target::Function(on_demand) => Some(config.function(on_demand.function).name.as_str().to_owned()),
            Target::Backends(_) => None,
        },
        idle_nanos: on_demand.map_or(u64::MAX, |on_demand| nanos(on_demand.idle_reap)),
        unused_nanos: on_demand.filter(|_| config.roles.balancer).map(|on_demand| {
            let zones = config.dns.iter().flat_map(|dns| &dns.zones);
            let around = zones.filter(|zone| service.names.iter().any(|name| name.is_in(&zone.name)));
            let ttl = around.map(|zone| zone.ttl).max().unwrap_or_default();
            nanos(on_demand.idle_reap.min((ttl * 2).max(UNUSED_MIN)))
        }),
        hold_nanos_max,
        endpoints: endpoints.collect(),
        template: Service {
            name: service.name.as_str().to_owned(),
            wakes: on_demand.is_some(),
            trigger_dns: on_demand.is_some_and(|on_demand| on_demand.trigger.dns),
            trigger_syn: on_demand.is_some_and(|on_demand| on_demand.trigger.syn),
            trigger_flow: on_demand.is_some_and(|on_demand| on_demand.trigger.flow),
            handling: match on_demand.map(|on_demand| on_demand.first_packet) {
                Some(model::FirstPacket::Forward) => Handling::Forward,
                Some(model::FirstPacket::Splice) => Handling::Splice,
                Some(model::FirstPacket::Hold) | None => Handling::Hold,
            },
            verify: match on_demand.map(|on_demand| on_demand.verify) {
                Some(model::Verify::SecondSyn) => Verify::SecondSyn,
                Some(model::Verify::Cookie) => Verify::Cookie,
                Some(model::Verify::None) | None => Verify::None,
            },
            dns_answer: match on_demand.map(|on_demand| on_demand.dns_answer) {
                Some(model::DnsAnswer::WhenReady) => DnsAnswer::WhenReady,
                Some(model::DnsAnswer::Immediate) | None => DnsAnswer::Immediate,
            },
            forwarding: match service.forwarding {
                model::Forwarding::Nat => Forwarding::Nat,
                model::Forwarding::L2 => Forwarding::L2,
                model::Forwarding::Ipip => Forwarding::Ipip,
                model::Forwarding::Gue => Forwarding::Gue,
            },
            source: match service.source {
                model::SourceMode::Keep => SourceAddress::Keep,
                model::SourceMode::Appliance => SourceAddress::Appliance,
            },
            hold_packets_max: hold.map_or(0, |hold| hold.packets),
            hold_nanos_max,
            overflow: match hold.map(|hold| hold.overflow) {
                Some(model::Overflow::Upstream) => Overflow::Upstream,
                Some(model::Overflow::Fallback) => Overflow::Fallback,
                Some(model::Overflow::Rst) => Overflow::Rst,
                Some(model::Overflow::Drop) | None => Overflow::Drop,
            },
            quic: service.quic.iter().flat_map(|quic| layouts(quic, keys)).collect(),
            instances: backends(service),
        },
    }
}

/// How ids are made, and were before. One whose key isn't among `keys` is left out: no id is better read wrong.
fn layouts<'a>(quic: &'a model::Quic, keys: &'a QuicKeys) -> impl Iterator<Item = Layout> + 'a {
    quic.layouts().filter_map(|layout| {
        let key = match &layout.key {
            Some(SecretRef::File(file)) => Some(*keys.get(file)?),
            None => None,
        };
        Layout::new(layout.rotation, quic.server_id_bytes.into(), layout.nonce_bytes.into(), key)
    })
}

/// The server id of a placed instance: what both it and every appliance know of it.
fn placed_server_id(addresses: [Option<Addr>; 2], port: u16) -> Option<ServerId> {
    let bytes = addresses.into_iter().flatten().next()?.v6_bytes();
    let [.., a, b, c, d] = bytes;
    let [high, low] = port.to_be_bytes();
    ServerId::new(&[a, b, c, d, high, low])
}

fn backends(service: &model::Service) -> Vec<Instance> {
    let one = |backend: &model::Backend| Instance {
        id: 0,
        addresses: by_family([Some(Addr::from(backend.address))]),
        // A backend listens at the ports of the service; see `Instance::port`.
        port: 0,
        weight: backend.weight.get(),
        state: if backend.drain { InstanceState::Draining } else { InstanceState::Ready },
        slot: Default::default(),
        fixed: true,
        server_id: backend.server_id.and_then(|id| ServerId::new(id.as_bytes())),
    };
    service.backends().iter().map(one).collect()
}

impl ServiceSpec {
    /// Whether a function behind it can be woken.
    pub fn wakes(&self) -> bool {
        self.template.wakes
    }

    /// What is left of a service that the configuration lacks: its name, and its id until nobody means it any more.
    pub(crate) fn retired(&self) -> Self {
        Self {
            dns_names: Vec::new(),
            function: None,
            endpoints: Vec::new(),
            template: Service { wakes: false, instances: Vec::new(), ..self.template.clone() },
            ..self.clone()
        }
    }

    /// The slots that its fixed backends have.
    pub(crate) fn fixed_keys(&self) -> impl Iterator<Item = InstanceKey> {
        self.template.instances.iter().map(|backend| InstanceKey::Fixed(self.id, backend.addresses))
    }

    /// The entry for the tables. Instances that no slot is left for stay out; the second value says how many.
    pub(crate) fn build(
        &self,
        placement: Option<&api::ServicePlacement>,
        slots: &mut InstanceSlots,
    ) -> (Arc<Service>, usize) {
        let mut service = self.template.clone();
        let mut left_out = 0;
        service.instances.clear();
        for backend in &self.template.instances {
            match slots.take(InstanceKey::Fixed(self.id, backend.addresses)) {
                Some(slot) => service.instances.push(Instance { slot, ..backend.clone() }),
                None => left_out += 1,
            }
        }
        for placed in placement.iter().flat_map(|placement| &placement.instances) {
            let Some(state) = state(placed.state) else { continue };
            let Some(slot) = slots.take(InstanceKey::Placed(self.id, placed.id.0)) else {
                left_out += 1;
                continue;
            };
            let addresses = addresses(placed);
            service.instances.push(Instance {
                id: placed.id.0,
                addresses,
                port: placed.port,
                weight: u16::try_from(placed.weight).unwrap_or(u16::MAX),
                state,
                slot,
                fixed: false,
                server_id: placed_server_id(addresses, placed.port),
            });
        }
        (Arc::new(service), left_out)
    }
}

/// The addresses of a placed instance as the tables keep them.
pub(crate) fn addresses(placed: &api::Instance) -> [Option<Addr>; 2] {
    by_family([placed.ipv4_address.map(Addr::from), placed.ipv6_address.map(Addr::from)])
}

fn by_family<const N: usize>(addresses: [Option<Addr>; N]) -> [Option<Addr>; 2] {
    let find = |v4: bool| addresses.iter().flatten().copied().find(|addr| addr.is_v4() == v4);
    [find(true), find(false)]
}

fn state(state: api::InstanceState) -> Option<InstanceState> {
    match state {
        api::InstanceState::Starting => Some(InstanceState::Starting),
        api::InstanceState::Ready => Some(InstanceState::Ready),
        api::InstanceState::Draining => Some(InstanceState::Draining),
        api::InstanceState::Stopped | api::InstanceState::Failed => None,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

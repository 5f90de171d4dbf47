//! Services, their instances, and which endpoint leads to which service.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::filter::AddrFilter;
use crate::addr::Addr;

/// Services an appliance can have; slots beside the snapshot are taken for all of them at start.
pub const SERVICES_MAX: usize = 4096;
const _: () = assert!(SERVICES_MAX <= ServiceId::GONE.0 as usize);
/// Instances of all services together; slots are taken at start.
pub const INSTANCES_MAX: usize = 16_384;

/// A service: its index into [`Services`] and into the slots. Stable for as long as the service exists; the slowpath
/// gives it out again only after every worker has left the last snapshot that knew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ServiceId(pub u16);

impl ServiceId {
    /// No service: what a lingering endpoint leads to (see [`Services::linger`]).
    pub const GONE: ServiceId = ServiceId(u16::MAX);

    /// The index into per-service arrays.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An instance's slot beside the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct InstanceSlotId(pub u16);

impl InstanceSlotId {
    /// The index into per-instance arrays.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Transport protocols that services have ports of; the value is the IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp = 6,
    /// UDP (RFC 768).
    Udp = 17,
}

/// An address with protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port.
    pub port: u16,
    /// The transport protocol's number.
    pub protocol: u8,
}

/// What happens to the packet that opens a request while nothing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Park it here, release it on readiness.
    Hold,
    /// Pass it on as soon as the notification is handed over and the serving node has bound the address.
    Forward,
}

/// When a query for a cold function's name is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// At once; what follows is held.
    Immediate,
    /// When the function is ready, or at the deadline.
    WhenReady,
}

/// What becomes of a packet that can't be held (any longer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Forwarded along the routes, untouched.
    Upstream,
    /// Balanced over the service's fixed backends.
    Fallback,
    /// Answered with a TCP RST (other protocols: dropped).
    Rst,
    /// Dropped.
    Drop,
}

/// Whose address the instance sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// The client's.
    Keep,
    /// The appliance's own on the way to the instance; the port tells the flow and its worker.
    Appliance,
}

/// Whether an instance takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Bound on its serving node, which queues what comes; only [`Handling::Forward`] uses it.
    Starting,
    /// Serves.
    Ready,
    /// Keeps what it has, takes nothing new.
    Draining,
}

/// One instance of a function, or one fixed backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id at the orchestrator; 0 for a fixed backend.
    pub id: u64,
    /// Its addresses: IPv4, IPv6.
    pub addresses: [Option<Addr>; 2],
    /// The port it listens at; 0 for the one that the client addressed, whichever of the service's ports that is.
    pub port: u16,
    /// Its share of new flows.
    pub weight: u16,
    /// Whether it takes new flows.
    pub state: InstanceState,
    /// Its slot, for counters.
    pub slot: InstanceSlotId,
    /// True for a configured backend, false for a placed instance.
    pub fixed: bool,
}

impl Instance {
    /// The port that a client's packet to `port` of the service is sent to.
    #[inline]
    pub fn port_for(&self, port: u16) -> u16 {
        if self.port == 0 { port } else { self.port }
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in the configuration.
    pub name: String,
    /// A function behind it can be woken; false for fixed backends alone.
    pub wakes: bool,
    /// A query for its name wakes it.
    pub trigger_dns: bool,
    /// A TCP SYN (or a first UDP datagram) to its address wakes it.
    pub trigger_syn: bool,
    /// What happens to first packets.
    pub handling: Handling,
    /// When its names are answered while it is cold.
    pub dns_answer: DnsAnswer,
    /// Whose address instances see.
    pub source: SourceAddress,
    /// Packets held for it on this appliance, all workers together.
    pub hold_packets_max: u32,
    /// How long one may be held, in nanoseconds.
    pub hold_nanos_max: u64,
    /// What happens then, or when holds are full.
    pub overflow: Overflow,
    /// Its instances and backends.
    pub instances: Vec<Instance>,
}

/// Endpoints of instances that have left, kept for the answers of flows that they still serve. An instance leaves the
/// placement also when only the way to its serving node is broken for a moment.
const DEPARTED_MAX: usize = 1024;

/// All services of one snapshot.
#[derive(Clone, Debug, Default)]
pub struct Services {
    list: Vec<Option<Arc<Service>>>,
    endpoints: HashMap<Endpoint, ServiceId>,
    returns: HashMap<Endpoint, ServiceId>,
    /// Those of `returns` whose instances have left, oldest first.
    departed: VecDeque<Endpoint>,
    /// Of the addresses in `endpoints`. What has left stays noted until the filter is made anew.
    addressed: AddrFilter,
    /// Of the addresses in `returns`.
    answering: AddrFilter,
}

impl Services {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the service of `id`, replacing what was there, and the endpoints that lead to it.
    ///
    /// `id` must be below [`SERVICES_MAX`]; that is the slowpath's own invariant.
    pub fn insert(&mut self, id: ServiceId, service: Arc<Service>, endpoints: &[Endpoint]) {
        assert!(id.index() < SERVICES_MAX, "the configuration is checked against SERVICES_MAX");
        let before: Vec<Endpoint> =
            self.returns.iter().filter(|(_, of)| **of == id).map(|(endpoint, _)| *endpoint).collect();
        self.remove(id);
        for endpoint in endpoints {
            self.endpoints.insert(*endpoint, id);
            self.addressed.insert(endpoint.addr);
            for instance in &service.instances {
                let port = instance.port_for(endpoint.port);
                for addr in instance.addresses.iter().flatten() {
                    self.returns.insert(Endpoint { addr: *addr, port, protocol: endpoint.protocol }, id);
                    self.answering.insert(*addr);
                }
            }
        }
        self.departed.retain(|endpoint| !self.returns.contains_key(endpoint));
        for endpoint in before {
            if !self.returns.contains_key(&endpoint) {
                self.returns.insert(endpoint, id);
                self.departed.push_back(endpoint);
            }
        }
        self.refilter();
        while self.departed.len() > DEPARTED_MAX {
            if let Some(oldest) = self.departed.pop_front() {
                self.returns.remove(&oldest);
            }
        }
        if self.list.len() <= id.index() {
            self.list.resize(id.index() + 1, None);
        }
        self.list[id.index()] = Some(service);
    }

    /// Makes the filters anew where they are too small for what they have been told.
    fn refilter(&mut self) {
        if self.addressed.is_crowded() {
            self.addressed = AddrFilter::of(self.endpoints.keys().map(|endpoint| endpoint.addr));
        }
        if self.answering.is_crowded() {
            self.answering = AddrFilter::of(self.returns.keys().map(|endpoint| endpoint.addr));
        }
    }

    /// Removes a service and what leads to it.
    pub fn remove(&mut self, id: ServiceId) {
        if self.list.get_mut(id.index()).and_then(Option::take).is_some() {
            self.endpoints.retain(|_, of| *of != id);
            self.returns.retain(|_, of| *of != id);
            self.departed.retain(|endpoint| self.returns.contains_key(endpoint));
        }
    }

    /// Lets endpoints that no service has any more lead to the flows that they once opened, and to nothing new.
    pub fn linger(&mut self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            self.endpoints.entry(*endpoint).or_insert(ServiceId::GONE);
            self.addressed.insert(endpoint.addr);
        }
        self.refilter();
    }

    /// Removes a service, but not what its known flows need: its endpoints linger, and what its instances answer is
    /// still translated.
    pub fn retire(&mut self, id: ServiceId) {
        if self.list.get_mut(id.index()).and_then(Option::take).is_some() {
            self.endpoints.values_mut().filter(|of| **of == id).for_each(|of| *of = ServiceId::GONE);
        }
    }

    /// Forgets lingering endpoints that no service has taken since.
    pub fn forget(&mut self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if self.endpoints.get(endpoint) == Some(&ServiceId::GONE) {
                self.endpoints.remove(endpoint);
            }
        }
    }

    /// Forgets what a retired service's instances answered.
    pub fn forget_answers(&mut self, id: ServiceId) {
        self.returns.retain(|_, of| *of != id);
        self.departed.retain(|endpoint| self.returns.contains_key(endpoint));
    }

    /// The service of this id.
    #[inline]
    pub fn get(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.list.get(id.index())?.as_ref()
    }

    /// The service that a client addresses; [`ServiceId::GONE`] where only known flows go on.
    #[inline]
    pub fn by_endpoint(&self, endpoint: &Endpoint) -> Option<ServiceId> {
        if self.addressed.may_hold(endpoint.addr) { self.endpoints.get(endpoint).copied() } else { None }
    }

    /// Whether a packet from this endpoint may be an instance's answer to a translated flow.
    #[inline]
    pub fn is_return(&self, source: &Endpoint) -> bool {
        self.answering.may_hold(source.addr) && self.returns.contains_key(source)
    }

    /// All services, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceId, &Arc<Service>)> {
        self.list
            .iter()
            .enumerate()
            .filter_map(|(index, service)| Some((ServiceId(index as u16), service.as_ref()?)))
    }

    /// The endpoints that lead to `id`, in no order.
    pub fn endpoints(&self, id: ServiceId) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(move |(_, of)| **of == id).map(|(endpoint, _)| endpoint)
    }
}

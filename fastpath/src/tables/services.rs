//! Services, their instances, and which endpoint leads to which service.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashMap;

use super::balance::{Balance, Pool};
use super::filter::AddrFilter;
use super::paged::PagedMap;
use super::quic::ServerIds;
use crate::addr::Addr;
use crate::wire::quic_lb::{Layout, ServerId};

/// Services an appliance can have; slots beside the snapshot are taken for all of them at start.
pub const SERVICES_MAX: usize = 4096;
const _: () = assert!(SERVICES_MAX <= ServiceId::GONE.0 as usize);
/// Instances of all services together; slots are taken at start.
pub const INSTANCES_MAX: usize = 1 << 17;

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
pub struct InstanceSlotId(pub u32);

impl InstanceSlotId {
    /// The index into per-instance arrays.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port.
    pub port: u16,
    /// The transport protocol's number.
    pub protocol: u8,
}

impl Endpoint {
    /// Where it stands in a [`PagedMap`]. Only the operator's own endpoints are put in there, so nobody gains by choosing
    /// others that meet them, and there is no key.
    #[inline]
    fn hash(&self) -> u64 {
        let rest = u64::from(self.port) << 8 | u64::from(self.protocol);
        let [low, high] = [self.addr.0 as u64, (self.addr.0 >> 64) as u64];
        let mixed = u128::from(low ^ rest.rotate_left(40)) * u128::from(MIX);
        let mixed = (mixed as u64 ^ (mixed >> 64) as u64) ^ high;
        let mixed = u128::from(mixed) * u128::from(MIX);
        mixed as u64 ^ (mixed >> 64) as u64
    }
}

/// Odd, with its bits spread: the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// What happens to the packet that opens a request while nothing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Park it here, release it on readiness.
    Hold,
    /// Pass it on as soon as the notification is handed over and the serving node has bound the address.
    Forward,
    /// Complete the TCP handshake here as soon as the notification is handed over, connect to the instance on readiness and
    /// translate between the two from then on (see [`crate::splice`]). Other protocols are held.
    Splice,
}

/// What a client must prove before its packet may wake a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Nothing.
    None,
    /// That it repeats its SYN: a flood of forged addresses mostly doesn't. Held meanwhile; other protocols prove nothing.
    SecondSyn,
    /// That it gets what is sent to its address: a cold service's SYN is answered with a cookie, before any notification,
    /// and the acknowledgement wakes. Only with [`Handling::Splice`].
    Cookie,
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

/// How packets get to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Forwarding {
    /// Addresses and ports are translated, here, in both directions.
    #[default]
    Nat = 0,
    /// Unchanged, to the link-layer address of the instance, which answers the client itself.
    L2 = 1,
    /// Inside another IP packet (RFC 2003, RFC 4213 §3, RFC 2473); the instance answers the client itself.
    Ipip = 2,
    /// Inside UDP (Generic UDP Encapsulation, draft-ietf-intarea-gue, variant 0); the instance answers the client itself.
    Gue = 3,
}

impl Forwarding {
    /// Whether an instance's answers come by here.
    #[inline]
    pub fn is_two_way(self) -> bool {
        self == Forwarding::Nat
    }
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
    /// What the QUIC connection ids that it makes are known by; means something where the service has a layout for them.
    pub server_id: Option<ServerId>,
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
    /// Any packet to its address wakes it; see [`crate::node::triple`].
    pub trigger_flow: bool,
    /// What happens to first packets.
    pub handling: Handling,
    /// What they must prove to wake it.
    pub verify: Verify,
    /// When its names are answered while it is cold.
    pub dns_answer: DnsAnswer,
    /// How packets get to them.
    pub forwarding: Forwarding,
    /// Whose address instances see.
    pub source: SourceAddress,
    /// Packets held for it on this appliance, all workers together.
    pub hold_packets_max: u32,
    /// How long one may be held, in nanoseconds.
    pub hold_nanos_max: u64,
    /// What happens then, or when holds are full.
    pub overflow: Overflow,
    /// How its instances make their QUIC connection ids, one layout a rotation; empty where they don't speak QUIC, or make
    /// ids that say nothing.
    pub quic: Vec<Layout>,
    /// Its instances and backends.
    pub instances: Vec<Instance>,
}

impl Service {
    /// The address at which `instance` takes packets of a family. Translation keeps the family; a packet that is carried
    /// to its instance whole can be carried by the other one.
    #[inline]
    pub fn address_of(&self, instance: &Instance, v4: bool) -> Option<Addr> {
        let [own, other] = [usize::from(!v4), usize::from(v4)].map(|family| instance.addresses[family]);
        if self.forwarding.is_two_way() { own } else { own.or(other) }
    }

    /// The port at which `instance` takes packets to `port` of the service.
    #[inline]
    pub fn port_of(&self, instance: &Instance, port: u16) -> u16 {
        if self.forwarding.is_two_way() { instance.port_for(port) } else { port }
    }
}

/// A service in the tables, with what was made of it.
#[derive(Debug)]
pub struct Entry {
    service: Arc<Service>,
    endpoints: Box<[Endpoint]>,
    balance: Balance,
    server_ids: Option<Box<ServerIds>>,
}

impl Entry {
    /// The instance for a new flow: one of the pool's that a packet of this family can be sent to, by the flow's hash.
    #[inline]
    pub fn choose(&self, pool: Pool, v4: bool, hash: u64) -> Option<&Instance> {
        self.instances.get(self.balance.choose(pool, v4, hash)?)
    }

    /// Whether there is one.
    #[inline]
    pub fn has(&self, pool: Pool, v4: bool) -> bool {
        self.balance.has(pool, v4)
    }

    /// Who made which QUIC connection ids, where they say it.
    #[inline]
    pub fn server_ids(&self) -> Option<&ServerIds> {
        self.server_ids.as_deref()
    }

    /// How many instances' worth of new flows the pool takes; see [`Balance::breadth`].
    #[inline]
    pub fn breadth(&self, pool: Pool, v4: bool) -> u32 {
        self.balance.breadth(pool, v4)
    }

    /// Where answers of its instances come from.
    fn answers(&self) -> Vec<Endpoint> {
        if !self.forwarding.is_two_way() {
            return Vec::new();
        }
        let of_port = |endpoint: &Endpoint| {
            let Endpoint { port, protocol, .. } = *endpoint;
            self.instances.iter().flat_map(move |instance| {
                let addrs = instance.addresses.iter().flatten();
                addrs.map(move |addr| Endpoint { addr: *addr, port: instance.port_for(port), protocol })
            })
        };
        let mut answers: Vec<Endpoint> = self.endpoints.iter().flat_map(of_port).collect();
        answers.sort_unstable();
        answers.dedup();
        answers
    }
}

impl Deref for Entry {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

/// Endpoints of instances that have left, kept for the answers of flows that they still serve. An instance leaves the
/// placement also when only the way to its serving node is broken for a moment.
const DEPARTED_MAX: usize = 1024;
/// Services of a page: what a change of one of them copies.
const PAGE_SERVICES: usize = 64;

/// A part of the list of services.
type Page = [Option<Arc<Entry>>; PAGE_SERVICES];

/// All services of one snapshot. A clone shares nearly everything; a change of a service copies its page and what its
/// instances are found by, not what belongs to others.
#[derive(Clone, Debug, Default)]
pub struct Services {
    pages: Vec<Arc<Page>>,
    /// Changes with the configuration, not with instances.
    endpoints: Arc<HashMap<Endpoint, ServiceId>>,
    /// Endpoints that answers come from, and how many have a reason to be asked after there: a service each, and one more
    /// for those in `departed`.
    returns: PagedMap<Endpoint, u32>,
    /// Endpoints whose instances have left, oldest first.
    departed: VecDeque<Endpoint>,
    /// How many of those were forgotten because more left after them.
    forgotten: u64,
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
        let balance = Balance::new(&service);
        let server_ids = ServerIds::new(&service).map(Box::new);
        let entry = Entry { service, endpoints: endpoints.into(), balance, server_ids };
        let answers = entry.answers();
        let old = self.put(id, Some(Arc::new(entry)));
        let before = old.as_ref().map_or_else(Vec::new, |old| old.answers());
        self.lead(old.as_ref().map_or(&[], |old| &old.endpoints), endpoints, id);
        for endpoint in answers.iter().filter(|endpoint| before.binary_search(endpoint).is_err()) {
            self.expect(endpoint);
        }
        for endpoint in before.iter().filter(|endpoint| answers.binary_search(endpoint).is_err()) {
            self.depart(endpoint);
        }
        if self.answering.is_crowded() {
            self.answering = AddrFilter::of(self.returns.iter().map(|(endpoint, _)| endpoint.addr));
        }
    }

    /// Removes a service and what leads to it.
    pub fn remove(&mut self, id: ServiceId) {
        let Some(old) = self.put(id, None) else { return };
        self.lead(&old.endpoints, &[], id);
        for endpoint in old.answers() {
            self.forget(&endpoint);
        }
    }

    fn put(&mut self, id: ServiceId, entry: Option<Arc<Entry>>) -> Option<Arc<Entry>> {
        let (page, at) = place(id);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || Arc::new([const { None }; PAGE_SERVICES]));
        }
        std::mem::replace(&mut Arc::make_mut(&mut self.pages[page])[at], entry)
    }

    /// Has other endpoints lead to `id` than before.
    fn lead(&mut self, before: &[Endpoint], endpoints: &[Endpoint], id: ServiceId) {
        let all = |endpoint: &Endpoint| self.endpoints.get(endpoint) == Some(&id);
        if before == endpoints && endpoints.iter().all(all) {
            return;
        }
        let map = Arc::make_mut(&mut self.endpoints);
        for endpoint in before {
            if map.get(endpoint) == Some(&id) {
                map.remove(endpoint);
            }
        }
        for endpoint in endpoints {
            map.insert(*endpoint, id);
            self.addressed.insert(endpoint.addr);
        }
        self.refilter();
    }

    /// One more has a reason to expect answers from `endpoint`.
    fn expect(&mut self, endpoint: &Endpoint) {
        let hash = endpoint.hash();
        let users = self.returns.get(hash, endpoint).map_or(0, |(_, users)| *users);
        if users > 0
            && let Some(at) = self.departed.iter().position(|known| known == endpoint)
        {
            // It is back: what kept it until now keeps it on.
            self.departed.remove(at);
            return;
        }
        self.returns.insert(hash, *endpoint, users + 1);
        self.answering.insert(endpoint.addr);
    }

    /// One fewer.
    fn forget(&mut self, endpoint: &Endpoint) {
        let hash = endpoint.hash();
        match self.returns.get(hash, endpoint) {
            Some((_, users)) if *users > 1 => {
                let users = users - 1;
                self.returns.insert(hash, *endpoint, users);
            }
            _ => {
                self.returns.remove(hash, endpoint);
            }
        }
    }

    /// An instance has left a service; its answers are expected a while longer.
    fn depart(&mut self, endpoint: &Endpoint) {
        if let Some(at) = self.departed.iter().position(|known| known == endpoint) {
            // It has left another service before, and is kept for that already.
            self.departed.remove(at);
            self.forget(endpoint);
        }
        self.departed.push_back(*endpoint);
        if self.departed.len() > DEPARTED_MAX
            && let Some(oldest) = self.departed.pop_front()
        {
            self.forgotten += 1;
            self.forget(&oldest);
        }
    }

    /// Lets endpoints that no service has any more lead to the flows that they once opened, and to nothing new.
    pub fn linger(&mut self, endpoints: &[Endpoint]) {
        let map = Arc::make_mut(&mut self.endpoints);
        for endpoint in endpoints {
            map.entry(*endpoint).or_insert(ServiceId::GONE);
            self.addressed.insert(endpoint.addr);
        }
        self.refilter();
    }

    /// Removes a service, but not what its known flows need: its endpoints linger, and what its instances answer is
    /// still translated. Returns the endpoints of those answers, for [`Services::forget_answers`].
    pub fn retire(&mut self, id: ServiceId) -> Vec<Endpoint> {
        let Some(old) = self.put(id, None) else { return Vec::new() };
        let map = Arc::make_mut(&mut self.endpoints);
        map.values_mut().filter(|of| **of == id).for_each(|of| *of = ServiceId::GONE);
        old.answers()
    }

    /// Forgets lingering endpoints that no service has taken since.
    pub fn forget_lingering(&mut self, endpoints: &[Endpoint]) {
        let map = Arc::make_mut(&mut self.endpoints);
        for endpoint in endpoints {
            if map.get(endpoint) == Some(&ServiceId::GONE) {
                map.remove(endpoint);
            }
        }
    }

    /// Forgets what a retired service's instances answered.
    pub fn forget_answers(&mut self, answers: &[Endpoint]) {
        answers.iter().for_each(|endpoint| self.forget(endpoint));
    }

    /// Endpoints of instances that have left and whose answers aren't expected any more, because many left after them.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Makes the filter of addressed endpoints anew where it is too small for what it has been told.
    fn refilter(&mut self) {
        if self.addressed.is_crowded() {
            self.addressed = AddrFilter::of(self.endpoints.keys().map(|endpoint| endpoint.addr));
        }
    }

    /// The service of this id.
    #[inline]
    pub fn get(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.entry(id).map(|entry| &entry.service)
    }

    /// The same, with what was made of it.
    #[inline]
    pub fn entry(&self, id: ServiceId) -> Option<&Arc<Entry>> {
        let (page, at) = place(id);
        self.pages.get(page)?[at].as_ref()
    }

    /// The service that a client addresses; [`ServiceId::GONE`] where only known flows go on.
    #[inline]
    pub fn by_endpoint(&self, endpoint: &Endpoint) -> Option<ServiceId> {
        if self.addressed.may_hold(endpoint.addr) { self.endpoints.get(endpoint).copied() } else { None }
    }

    /// Whether a packet from this endpoint may be an instance's answer to a translated flow.
    #[inline]
    pub fn is_return(&self, source: &Endpoint) -> bool {
        self.answering.may_hold(source.addr) && self.returns.get(source.hash(), source).is_some()
    }

    /// Whether a packet from this address, whatever its port, may be an instance's; false is certain.
    #[inline]
    pub fn may_answer(&self, source: Addr) -> bool {
        self.answering.may_hold(source)
    }

    /// All services, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceId, &Arc<Service>)> {
        self.pages
            .iter()
            .flat_map(|page| page.iter())
            .enumerate()
            .filter_map(|(index, entry)| Some((ServiceId(index as u16), &entry.as_ref()?.service)))
    }

    /// The endpoints that lead to `id`, in no order.
    pub fn endpoints(&self, id: ServiceId) -> impl Iterator<Item = &Endpoint> {
        self.entry(id).into_iter().flat_map(|entry| &entry.endpoints)
    }
}

#[inline]
fn place(id: ServiceId) -> (usize, usize) {
    (id.index() / PAGE_SERVICES, id.index() % PAGE_SERVICES)
}

#[cfg(test)]
pub(crate) mod tests;

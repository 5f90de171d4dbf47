//! The tables of another configuration, while workers work by those of the last one.
//!
//! ```text
//!  draft      what the configuration asks for is checked, and services get their ids; nothing changes
//!  names      built from the draft, by whoever has the time: a million names take seconds
//!  reload     everything at once into the next snapshot; can't fail
//!  collect    what no flow needs any more goes, and its id can be given out again
//! ```
//!
//! A service keeps its id by its name. What a configuration takes away stays for the flows that it began: a lost
//! endpoint lingers, and so does its address, until a moment when the service has no flow.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use millrace_config::model::Config;
use millrace_config::zonefile::ZoneFile;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::dns::RateLimit;
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces, Local};
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::{Endpoint, SERVICES_MAX, ServiceId, Services};
use millrace_fastpath::tables::{Bounds, Generation, NatPorts, Policy};
use tracing::warn;

use super::bier::{self, BierDraft};
use super::files::{Domains, QuicKeys};
use super::network::{self, InterfaceIds};
use super::services::{ServiceSpec, spec};
use super::{BuildError, DnsNames, InstanceKey, PortInfo, TableBuilder, names};

/// What a configuration asks for, checked against the appliance that is to carry it out.
#[derive(Debug)]
pub struct Draft {
    /// By their ids.
    ports: Vec<PortInfo>,
    /// The services' ids, in the order of the file.
    services: Vec<ServiceId>,
    list: Vec<(InterfaceId, Interface)>,
    interface_ids: InterfaceIds,
    bier: BierDraft,
    key: HashKey,
    quic_keys: QuicKeys,
}

impl Draft {
    /// The same with the keys of QUIC connection ids that the configuration names.
    #[must_use]
    pub fn with_quic_keys(self, quic_keys: QuicKeys) -> Self {
        Self { quic_keys, ..self }
    }

    /// The same with BIER as the configuration has it, of which this is the draft; until then it is as before. A large topology
    /// takes a while.
    ///
    /// # Errors
    /// The tables can't be had.
    pub fn with_bier(self, config: &Config, domains: &Domains) -> Result<Self, BuildError> {
        let interface = |interface| self.interface_ids.get(config, &self.ports, interface);
        let bier = bier::draft(config, interface, domains, &self.bier)?;
        Ok(Self { bier, ..self })
    }

    /// The names of the configuration that this is the draft of. `zones` are its zone files, by the index of their zone.
    ///
    /// # Errors
    /// A name can't be served.
    pub fn names(&self, config: &Config, zones: HashMap<usize, ZoneFile>) -> Result<DnsNames, BuildError> {
        names::names(config, zones, self.key, &self.services, |port| {
            network::of_port(config, &self.list, port)
        })
    }
}

/// What changed, beyond the tables themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Services that are new, or lead to a function now where they didn't, or the other way round.
    pub renewed: Vec<ServiceId>,
    /// Services that are the same in name, and say something else.
    pub changed: Vec<ServiceId>,
    /// Services that the configuration lacks.
    pub retired: Vec<ServiceId>,
}

/// What a configuration took away, kept for the flows that it began.
#[derive(Debug)]
pub(super) struct Leaving {
    id: ServiceId,
    /// The last generation in which it could begin a flow.
    until: Generation,
    endpoints: Vec<Endpoint>,
    /// What its instances answered, where the whole service is going.
    answers: Option<Vec<Endpoint>>,
}

/// The ids of services that nobody means any more, the oldest first.
pub(super) type FreeIds = VecDeque<ServiceId>;

/// Cookies are left to whoever has their secrets.
pub(super) fn policy(config: &Config) -> Policy {
    let dns = config.dns.as_ref().filter(|_| config.roles.dns);
    let (nat, limits) = (config.nat.port_range, config.limits);
    Policy {
        dns_intercept: dns.is_some_and(|dns| dns.intercept),
        cookies: None,
        rate_limit: dns.and_then(|dns| dns.rate_limit).map(|limit| RateLimit {
            responses_per_second: limit.responses_per_second,
            prefix_v4: limit.prefix_v4,
            prefix_v6: limit.prefix_v6,
            slip: limit.slip,
        }),
        nat_ports: NatPorts::new(nat.first, nat.last),
        balance_key: super::balance_key(config.site.name.as_str()),
        bounds: Some(Bounds {
            holds_per_prefix: limits.holds_per_prefix,
            wakes_per_second: limits.wakes_per_second,
            wakes_burst: limits.wakes_burst,
        }),
    }
}

impl TableBuilder {
    /// Checks what `config` asks for. Nothing changes; a draft is good until the next reload.
    ///
    /// # Errors
    /// The appliance can't carry it out as it runs.
    pub fn draft(&self, config: &Config) -> Result<Draft, BuildError> {
        self.draft_on(config, self.ports.clone())
    }

    /// The same for an appliance whose driver has other ports by the time of the reload: those of before by the ids of
    /// before, then new ones. One that is closed by then has no name.
    ///
    /// # Errors
    /// As of [`TableBuilder::draft`].
    pub fn draft_on(&self, config: &Config, ports: Vec<PortInfo>) -> Result<Draft, BuildError> {
        let mut interface_ids = self.interface_ids.clone();
        for port in &config.ports {
            let opened = ports.iter().find(|info| info.name == port.name.as_str());
            if let Some(info) = opened.filter(|info| port.mtu_bytes > info.mtu_bytes) {
                let (port, wanted, opened) = (info.name.clone(), port.mtu_bytes, info.mtu_bytes);
                return Err(BuildError::Mtu { port, wanted, opened });
            }
        }
        let list = network::interfaces(config, &ports, &mut interface_ids)?;
        let services = self.service_ids(config)?;
        let bier = BierDraft {
            bier: self.tables.bier.clone(),
            links: self.bier_links.clone(),
            fixed_listeners: self.bier_listeners.fixed.clone(),
            queriers: self.bier_queriers.clone(),
            signalling: self.bier_signalling.clone(),
            tags: self.bier_tags.clone(),
            names: Arc::clone(&self.bier_names),
        };
        let quic_keys = QuicKeys::new();
        Ok(Draft { ports, services, list, interface_ids, bier, key: self.key, quic_keys })
    }

    /// By name where it is known, else one that was never given out, else the one that was free for longest.
    fn service_ids(&self, config: &Config) -> Result<Vec<ServiceId>, BuildError> {
        let mut free = (self.specs.len()..SERVICES_MAX)
            .map(|fresh| ServiceId(fresh as u16))
            .chain(self.free_ids.iter().copied());
        let id = |service: &millrace_config::model::Service| {
            let known = self.by_name.get(service.name.as_str()).copied();
            known.or_else(|| free.next()).ok_or(BuildError::Services { have: config.services.len() })
        };
        config.services.iter().map(id).collect()
    }

    /// Takes the configuration over that `draft` is of, its cookies aside: those are off until their secrets are set. Without `names` those that are out stay; what they lead to must
    /// then be the same.
    pub fn reload(&mut self, config: &Config, draft: Draft, names: Option<DnsNames>) -> Reloaded {
        let Draft { ports, services, list, interface_ids, bier, quic_keys, key: _ } = draft;
        let mut reloaded = Reloaded::default();
        self.ports = ports;
        self.tables.routes = Arc::new(network::routes(config, &self.ports, &list, &interface_ids));
        self.tables.policy = policy(config);
        self.tables.bier = bier.bier;
        self.bier_links = bier.links;
        self.bier_queriers = bier.queriers;
        self.set_fixed_listeners(bier.fixed_listeners);
        self.set_signalling(bier.signalling);
        self.bier_tags = bier.tags;
        self.bier_names = bier.names;
        if let Some(names) = names {
            self.tables.names = names.names;
            self.tables.views = names.views;
        }
        let kept: HashMap<String, ServiceId> = config
            .services
            .iter()
            .zip(&services)
            .map(|(one, id)| (one.name.as_str().to_owned(), *id))
            .collect();
        let gone = self.by_name.iter().filter(|(name, _)| !kept.contains_key(*name)).map(|(_, id)| *id);
        reloaded.retired = gone.collect();
        reloaded.retired.sort_unstable();
        for id in &reloaded.retired {
            self.retire(*id);
        }
        for (service, id) in config.services.iter().zip(&services) {
            let next = spec(config, *id, service, &quic_keys);
            match self.specs.get(id.index()) {
                Some(known) if self.by_name.contains_key(service.name.as_str()) => {
                    if *known != next {
                        let renewed = known.wakes() != next.wakes();
                        if renewed { &mut reloaded.renewed } else { &mut reloaded.changed }.push(*id);
                        self.change(next);
                    }
                }
                _ => {
                    reloaded.renewed.push(*id);
                    self.begin(next);
                }
            }
        }
        self.by_name = kept;
        self.set_statics(config, &interface_ids);
        self.interface_ids = interface_ids;
        self.locals = network::locals(config, &list, &services);
        self.set_interfaces(list);
        self.resolve_bier();
        self.dirty = true;
        reloaded
    }

    fn begin(&mut self, next: ServiceSpec) {
        let id = next.id;
        self.free_ids.retain(|free| *free != id);
        if self.specs.len() <= id.index() {
            self.specs.push(next);
            self.placed.push(Vec::new());
        } else {
            self.specs[id.index()] = next;
        }
    }

    fn change(&mut self, next: ServiceSpec) {
        let id = next.id;
        let lost: Vec<Endpoint> = {
            let had = &self.specs[id.index()].endpoints;
            had.iter().filter(|endpoint| !next.endpoints.contains(endpoint)).copied().collect()
        };
        let keys: Vec<InstanceKey> = next.fixed_keys().collect();
        let gone: Vec<InstanceKey> =
            self.specs[id.index()].fixed_keys().filter(|key| !keys.contains(key)).collect();
        for key in gone {
            self.release(key);
        }
        self.specs[id.index()] = next;
        if !lost.is_empty() {
            self.leave(id, lost, None);
        }
    }

    fn retire(&mut self, id: ServiceId) {
        let spec = &self.specs[id.index()];
        let fixed: Vec<InstanceKey> = spec.fixed_keys().collect();
        let (endpoints, retired) = (spec.endpoints.clone(), spec.retired());
        let placed = std::mem::take(&mut self.placed[id.index()]);
        for key in fixed.into_iter().chain(placed.into_iter().map(|one| InstanceKey::Placed(id, one))) {
            self.release(key);
        }
        self.specs[id.index()] = retired;
        let answers = Arc::<Services>::make_mut(&mut self.tables.services).retire(id);
        self.leave(id, endpoints, Some(answers));
    }

    fn leave(&mut self, id: ServiceId, endpoints: Vec<Endpoint>, answers: Option<Vec<Endpoint>>) {
        self.leaving.push(Leaving { id, until: self.published, endpoints, answers });
        let mut lingering: usize = self.leaving.iter().map(|one| one.endpoints.len()).sum();
        // Endpoints of services that stay may never have a moment without a flow.
        while lingering > LINGERING_MAX
            && let Some(at) = self.leaving.iter().position(|one| one.answers.is_none())
        {
            let gone = self.leaving.remove(at);
            lingering -= gone.endpoints.len();
            warn!(
                service = self.specs[gone.id.index()].name,
                "too many endpoints linger: flows of the oldest end"
            );
            Arc::<Services>::make_mut(&mut self.tables.services).forget_lingering(&gone.endpoints);
        }
    }

    /// Rebuilds what depends on which addresses are ours: the interfaces', the services', and those that linger.
    fn set_interfaces(&mut self, list: Vec<(InterfaceId, Interface)>) {
        let endpoints: Vec<Endpoint> =
            self.leaving.iter().flat_map(|leaving| leaving.endpoints.iter().copied()).collect();
        let service = Local { service: true, ..Local::default() };
        let locals = self.locals.iter().copied().chain(endpoints.iter().map(|one| (one.addr, service)));
        self.tables.interfaces = Arc::new(Interfaces::with_ids(list, locals));
    }

    /// Addresses of endpoints that linger, and that nothing else is at.
    pub fn lingering(&self) -> impl Iterator<Item = Addr> {
        let endpoints = self.leaving.iter().flat_map(|leaving| leaving.endpoints.iter());
        endpoints
            .map(|endpoint| endpoint.addr)
            .filter(|addr| !self.locals.iter().any(|(ours, _)| ours == addr))
    }

    /// Has endpoints that services have lost linger. After all services have been placed anew.
    pub fn linger(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let services = Arc::<Services>::make_mut(&mut self.tables.services);
        self.leaving.iter().for_each(|leaving| services.linger(&leaving.endpoints));
    }

    /// Lets go of what no flow needs any more; whether there was anything.
    pub fn collect_services(&mut self, shared: &Shared) -> bool {
        if self.leaving.is_empty() {
            return false;
        }
        let oldest = shared.oldest_epoch();
        let unused = |id: ServiceId| {
            shared.workers.iter().all(|worker| {
                let activity = worker.counters.service(id);
                // Events name the service, too.
                activity.flows.get() == 0 && activity.holds.get() == 0 && worker.queues.events.is_empty()
            })
        };
        let (gone, leaving) =
            self.leaving.drain(..).partition(|one: &Leaving| one.until < oldest && unused(one.id));
        self.leaving = leaving;
        let gone: Vec<Leaving> = gone;
        if gone.is_empty() {
            return false;
        }
        let services = Arc::<Services>::make_mut(&mut self.tables.services);
        for one in &gone {
            services.forget_lingering(&one.endpoints);
            if let Some(answers) = &one.answers {
                services.forget_answers(answers);
                self.free_ids.push_back(one.id);
            }
        }
        let list = self.tables.interfaces.iter().map(|(id, interface)| (id, interface.clone())).collect();
        self.set_interfaces(list);
        // What two of them shared lingers on.
        self.linger();
        self.dirty = true;
        true
    }
}

/// Endpoints that linger at a time: those of some hundred services.
pub const LINGERING_MAX: usize = 4096;

//! The tables that workers read, built step by step: configuration, placement and neighbours go in, the next snapshot
//! comes out.
//!
//! A change touches its own part alone: a placement rebuilds the entry of its service, a neighbour its entry. What
//! didn't change is shared with the snapshot before.

mod bier;
mod files;
mod ids;
mod names;
mod network;
mod reload;
mod services;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use millrace_bier::overlay::Flow;
use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::counters::WorkerCounters;
use millrace_fastpath::dns::{CookieKeys, RecordType};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::bier::LINKS_MAX;
use millrace_fastpath::tables::interfaces::{InterfaceId, Local, Mac};
use millrace_fastpath::tables::names::{HashKey, NameError, NamesError};
use millrace_fastpath::tables::services::{Instance, InstanceSlotId, SERVICES_MAX, ServiceId, Services};
use millrace_fastpath::tables::{Generation, Hub, Tables};
use millrace_orchestrator_api::ServicePlacement;
use siphasher::sip::SipHasher13;
use tracing::warn;

use crate::membership::{Join, Signalling, Timers};
pub use bier::BierNames;
use bier::{BierLinks, BierListeners, BierTags, Learnt};
pub use files::{Digest, Domains, FileError, QuicKeys, TableFiles};
use ids::{InstanceKey, InstanceSlots};
pub use names::DnsNames;
pub use network::INTERFACES_MAX;
use network::InterfaceIds;
pub(crate) use network::{floating, is_link_local};
pub use reload::{Draft, LINGERING_MAX, Reloaded};
use reload::{FreeIds, Leaving};
pub use services::ServiceSpec;
pub(crate) use services::addresses;

/// What the driver found out about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name in the configuration; empty for one that was closed.
    pub name: String,
    /// Its link-layer address.
    pub mac: Mac,
    /// The largest IP packet that the device takes, in bytes.
    pub mtu_bytes: u16,
}

/// Why tables can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The driver has no port of that name.
    #[error("the driver has no port {port:?}")]
    PortMissing {
        /// The port's name in the configuration.
        port: String,
    },
    /// A name that can't be put on the wire.
    #[error("the name {name} can't be served: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why it can't.
        reason: NameError,
    },
    /// A zone with neither a SOA of its own nor a file that has one.
    #[error("the zone {zone} has no SOA, and neither has its file")]
    SoaMissing {
        /// The zone.
        zone: String,
    },
    /// A record whose data aren't those of its type.
    #[error("{name} has a record of type {kind} whose data aren't of that type")]
    Data {
        /// The record's owner.
        name: String,
        /// Its type.
        kind: RecordType,
    },
    /// The zones contradict each other.
    #[error("the zones can't be served: {0}")]
    Names(#[from] NamesError),
    /// More services than there are slots.
    #[error(
        "{have} services are configured; with those whose flows still go on there are more than the {SERVICES_MAX} that \
         an appliance can have"
    )]
    Services {
        /// How many there are.
        have: usize,
    },
    /// More links to BIER neighbours than workers count.
    #[error("BIER can have {LINKS_MAX} links")]
    BierLinks,
    /// Tables of BIER that contradict each other, which no checked configuration has.
    #[error("the BIER tables of sub-domain {sub_domain} contradict each other, or have no BIFT-id")]
    BierTables {
        /// The sub-domain.
        sub_domain: u8,
    },
    /// More interfaces than can be numbered.
    #[error("an appliance can have {INTERFACES_MAX} interfaces, those that it once had included")]
    Interfaces,
    /// A port was opened for shorter packets.
    #[error("port {port:?} was opened for packets of {opened} bytes: {wanted} need a restart")]
    Mtu {
        /// The port's name.
        port: String,
        /// What the configuration wants.
        wanted: u16,
        /// What the device was set to.
        opened: u16,
    },
}

/// The next snapshot, under construction.
#[derive(Debug)]
pub struct TableBuilder {
    /// As the driver opened them, by their ids.
    ports: Vec<PortInfo>,
    key: HashKey,
    /// By id; of services that are gone, what is left of them.
    specs: Vec<ServiceSpec>,
    by_name: HashMap<String, ServiceId>,
    free_ids: FreeIds,
    leaving: Vec<Leaving>,
    slots: InstanceSlots,
    placed: Vec<Vec<u64>>,
    /// Instances that checks have found down, by family.
    down: HashMap<InstanceSlotId, [bool; 2]>,
    interface_ids: InterfaceIds,
    /// Our addresses by the configuration.
    locals: Vec<(Addr, Local)>,
    statics: Vec<(InterfaceId, Addr, Mac)>,
    bier_links: BierLinks,
    bier_listeners: BierListeners,
    bier_queriers: Vec<(InterfaceId, Timers)>,
    bier_signalling: Vec<Signalling>,
    bier_learnt: BTreeMap<Flow, Learnt>,
    bier_tags: BierTags,
    bier_names: Arc<BierNames>,
    tables: Tables,
    published: Generation,
    dirty: bool,
}

impl TableBuilder {
    /// Tables by the configuration alone: nothing placed, and only static neighbours known. `files` are those that it
    /// names, `key` is the secret of the hash that names are found by.
    ///
    /// # Errors
    /// The driver lacks a port, or there is more than the tables can hold.
    pub fn new(
        config: &Config,
        ports: &[PortInfo],
        files: TableFiles,
        key: HashKey,
    ) -> Result<Self, BuildError> {
        let mut builder = Self {
            ports: ports.to_vec(),
            key,
            specs: Vec::new(),
            by_name: HashMap::new(),
            free_ids: FreeIds::new(),
            leaving: Vec::new(),
            slots: InstanceSlots::default(),
            placed: Vec::new(),
            down: HashMap::new(),
            interface_ids: InterfaceIds::default(),
            locals: Vec::new(),
            statics: Vec::new(),
            bier_links: BierLinks::default(),
            bier_listeners: BierListeners::default(),
            bier_queriers: Vec::new(),
            bier_signalling: Vec::new(),
            bier_learnt: BTreeMap::new(),
            bier_tags: BierTags::default(),
            bier_names: Arc::default(),
            tables: Tables::default(),
            published: Generation::default(),
            dirty: true,
        };
        let draft =
            builder.draft(config)?.with_quic_keys(files.quic_keys).with_bier(config, &files.domains)?;
        let names = draft.names(config, files.zones)?;
        for id in builder.reload(config, draft, Some(names)).renewed {
            builder.place(id, None);
        }
        Ok(builder)
    }

    /// Rebuilds one service's entry for where its instances are now.
    pub fn place(&mut self, id: ServiceId, placement: Option<&ServicePlacement>) {
        let Some(spec) = self.specs.get(id.index()) else { return };
        let (mut service, left_out) = spec.build(placement, &mut self.slots);
        for instance in &mut service.instances {
            instance.down = self.down.get(&instance.slot).copied().unwrap_or_default();
        }
        let service = Arc::new(service);
        if left_out > 0 {
            warn!(service = spec.name, left_out, "no slot is left for some instances; they get no flows");
        }
        let now: Vec<u64> = service.instances.iter().filter(|one| !one.fixed).map(|one| one.id).collect();
        let present: HashSet<u64> = now.iter().copied().collect();
        for gone in std::mem::replace(&mut self.placed[id.index()], now) {
            if !present.contains(&gone) {
                self.release(InstanceKey::Placed(id, gone));
            }
        }
        // What leads to it may be other addresses or ports, after a reload.
        let (endpoints, services) = (&self.specs[id.index()].endpoints, &self.tables.services);
        if services.get(id) == Some(&service) && services.endpoints(id).eq(endpoints) {
            return;
        }
        Arc::<Services>::make_mut(&mut self.tables.services).insert(id, service, endpoints);
        self.dirty = true;
    }

    /// Says which instances of a service are down, by family; `down` is asked for each. Whether that is news.
    pub fn mark(&mut self, id: ServiceId, down: impl Fn(&Instance) -> [bool; 2]) -> bool {
        let Some(known) = self.tables.services.get(id) else { return false };
        let marked: Vec<[bool; 2]> = known.instances.iter().map(down).collect();
        if known.instances.iter().zip(&marked).all(|(instance, down)| instance.down == *down) {
            return false;
        }
        let mut service = (**known).clone();
        for (instance, down) in service.instances.iter_mut().zip(marked) {
            instance.down = down;
            match down {
                [false, false] => self.down.remove(&instance.slot),
                _ => self.down.insert(instance.slot, down),
            };
        }
        let endpoints = &self.specs[id.index()].endpoints;
        Arc::<Services>::make_mut(&mut self.tables.services).insert(id, Arc::new(service), endpoints);
        self.dirty = true;
        true
    }

    /// Gives up an instance's slot: whoever has it next begins anew.
    fn release(&mut self, key: InstanceKey) {
        if let Some(slot) = self.slots.release(key, self.published) {
            self.down.remove(&slot);
        }
    }

    /// Static neighbours, in the tables and for whoever asks for them.
    fn set_statics(&mut self, config: &Config, ids: &InterfaceIds) {
        let next = config.neighbours.iter().map(|entry| {
            (ids.get(config, &self.ports, entry.interface), Addr::from(entry.address), entry.mac.0)
        });
        let before = std::mem::replace(&mut self.statics, next.collect());
        for (interface, addr, _) in before.iter().filter(|one| !self.statics.contains(one)) {
            self.tables.neighbours.remove(*interface, *addr);
        }
        for (interface, addr, mac) in &self.statics {
            self.tables.neighbours.insert(*interface, *addr, *mac);
        }
    }

    /// From here on cookies are made and checked with these secrets; until the next reload.
    pub fn set_cookies(&mut self, keys: CookieKeys) {
        self.tables.policy.cookies = Some(keys);
        self.dirty = true;
    }

    /// The content hub, until the appliance ends.
    pub fn set_hub(&mut self, hub: Option<Arc<Hub>>) {
        self.tables.hub = hub;
        self.dirty = true;
    }

    /// What we listen to by plain multicast, on the interfaces that there are.
    pub fn joins(&self) -> Vec<Join> {
        let joins = self.tables.hub.iter().flat_map(|hub| &hub.joins);
        let on_network = |(name, groups): (&String, &Vec<(Addr, Option<Addr>)>)| {
            let (id, _) = self.tables.interfaces.iter().find(|(_, interface)| interface.name == *name)?;
            Some(groups.iter().map(|(group, source)| (id, *group, *source)).collect::<Vec<_>>())
        };
        joins.filter_map(on_network).flatten().collect()
    }

    /// A neighbour was found, or moved.
    pub fn set_neighbour(&mut self, interface: InterfaceId, addr: Addr, mac: Mac) {
        if self.tables.neighbours.get(interface, addr) != Some(mac) {
            self.tables.neighbours.insert(interface, addr, mac);
            self.resolve_bier();
            self.dirty = true;
        }
    }

    /// A neighbour is gone.
    pub fn remove_neighbour(&mut self, interface: InterfaceId, addr: Addr) {
        if self.tables.neighbours.get(interface, addr).is_some() {
            self.tables.neighbours.remove(interface, addr);
            self.resolve_bier();
            self.dirty = true;
        }
    }

    /// Frees what nobody can mean any more.
    pub fn collect<'a>(
        &mut self,
        oldest: Generation,
        workers: impl Iterator<Item = &'a WorkerCounters> + Clone,
    ) {
        if self.slots.has_retired() {
            self.slots.collect(oldest, |slot| {
                workers.clone().any(|counters| counters.instance_flows[slot.index()].get() != 0)
            });
        }
    }

    /// The next snapshot, if it differs from the last one taken; the caller publishes it.
    pub fn take(&mut self) -> Option<Tables> {
        std::mem::take(&mut self.dirty).then(|| self.tables.clone())
    }

    /// What the last snapshot taken was published as.
    pub fn published(&mut self, generation: Generation) {
        self.published = generation;
    }

    /// The generation that the last snapshot was published as.
    pub fn generation(&self) -> Generation {
        self.published
    }

    /// The tables as they are to be next.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Who is who in BIER.
    pub fn bier_names(&self) -> &BierNames {
        &self.bier_names
    }

    /// The services, by id: those that are configured, and what is left of those that were.
    pub fn specs(&self) -> &[ServiceSpec] {
        &self.specs
    }

    /// The static neighbours.
    pub fn static_neighbours(&self) -> &[(InterfaceId, Addr, Mac)] {
        &self.statics
    }

    /// The name of a port.
    pub fn port_name(&self, id: PortId) -> Option<&str> {
        self.ports.get(id.index()).map(|port| port.name.as_str())
    }

    /// The id of the service of this name.
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.by_name.get(name).copied()
    }

    /// On which interface, and under which address there, a packet to `addr` finds its next hop.
    pub fn next_hop(&self, addr: Addr) -> Option<(InterfaceId, Addr)> {
        let next = self.tables.routes.lookup(addr)?;
        Some((next.interface, next.via.unwrap_or(addr)))
    }
}

/// The key by which new flows find their instance, from the site's name: every appliance of the site has it without being
/// told, and keeps it when it starts anew. Who finds it out can send flows to an instance of his choice, which trying a few
/// ports does as well; which worker and which bucket a flow comes to is decided by a secret.
fn balance_key(site: &str) -> [u64; 2] {
    [0, 1].map(|half| SipHasher13::new_with_keys(half, 0).hash(site.as_bytes()))
}

#[cfg(test)]
mod tests;

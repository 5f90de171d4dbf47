//! The tables that workers read, built step by step: configuration, placement and neighbours go in, the next snapshot
//! comes out.
//!
//! A change touches its own part alone: a placement rebuilds the entry of its service, a neighbour its entry. What
//! didn't change is shared with the snapshot before.

mod files;
mod ids;
mod names;
mod network;
mod services;

use std::collections::HashMap;
use std::sync::Arc;

use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::counters::WorkerCounters;
use millrace_fastpath::dns::{CookieKeys, RateLimit, RecordType};
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};
use millrace_fastpath::tables::names::{HashKey, NameError, NamesError};
use millrace_fastpath::tables::services::{SERVICES_MAX, ServiceId, Services};
use millrace_fastpath::tables::{Generation, NatPorts, Policy, Tables};
use millrace_orchestrator_api::ServicePlacement;
use tracing::warn;

pub use files::{DnsFiles, FileError};
use ids::{InstanceKey, InstanceSlots};
pub use network::INTERFACES_MAX;
pub(crate) use network::{floating, is_link_local};
pub use services::ServiceSpec;
pub(crate) use services::addresses;

/// What the driver found out about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name in the configuration.
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
    #[error("{have} services are configured, and an appliance can have {SERVICES_MAX}")]
    Services {
        /// How many there are.
        have: usize,
    },
    /// More interfaces than can be numbered.
    #[error("{have} interfaces are configured, and an appliance can have {INTERFACES_MAX}")]
    Interfaces {
        /// How many there are.
        have: usize,
    },
}

/// The next snapshot, under construction.
#[derive(Debug)]
pub struct TableBuilder {
    specs: Vec<ServiceSpec>,
    by_name: HashMap<String, ServiceId>,
    slots: InstanceSlots,
    placed: Vec<Vec<u64>>,
    statics: Vec<(InterfaceId, Addr, Mac)>,
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
        files: DnsFiles,
        key: HashKey,
    ) -> Result<Self, BuildError> {
        if config.services.len() > SERVICES_MAX {
            return Err(BuildError::Services { have: config.services.len() });
        }
        let (interfaces, ids) = network::interfaces(config, ports)?;
        let routes = network::routes(config, &interfaces, &ids);
        let specs = services::specs(config);
        let statics: Vec<_> = config
            .neighbours
            .iter()
            .map(|entry| (ids.get(entry.interface), Addr::from(entry.address), entry.mac.0))
            .collect();
        let nat = config.nat.port_range;
        let (names, views) = names::names(config, files.zones, key, |port| ids.of_port(port))?;
        let dns = config.dns.as_ref().filter(|_| config.roles.dns);
        let mut tables = Tables {
            interfaces: Arc::new(interfaces),
            routes: Arc::new(routes),
            names,
            views,
            policy: Policy {
                dns_intercept: dns.is_some_and(|dns| dns.intercept),
                cookies: None,
                rate_limit: dns.and_then(|dns| dns.rate_limit).map(|limit| RateLimit {
                    responses_per_second: limit.responses_per_second,
                    prefix_v4: limit.prefix_v4,
                    prefix_v6: limit.prefix_v6,
                    slip: limit.slip,
                }),
                nat_ports: NatPorts::new(nat.first, nat.last),
            },
            ..Tables::default()
        };
        for (interface, addr, mac) in &statics {
            tables.neighbours.insert(*interface, *addr, *mac);
        }
        let mut builder = Self {
            by_name: specs.iter().map(|spec| (spec.name.clone(), spec.id)).collect(),
            placed: vec![Vec::new(); specs.len()],
            specs,
            slots: InstanceSlots::default(),
            statics,
            tables,
            published: Generation::default(),
            dirty: true,
        };
        for at in 0..builder.specs.len() {
            builder.place(ServiceId(at as u16), None);
        }
        Ok(builder)
    }

    /// Rebuilds one service's entry for where its instances are now.
    pub fn place(&mut self, id: ServiceId, placement: Option<&ServicePlacement>) {
        let Some(spec) = self.specs.get(id.index()) else { return };
        let (service, left_out) = spec.build(placement, &mut self.slots);
        if left_out > 0 {
            warn!(service = spec.name, left_out, "no slot is left for some instances; they get no flows");
        }
        let now: Vec<u64> = service.instances.iter().filter(|one| !one.fixed).map(|one| one.id).collect();
        for gone in self.placed[id.index()].iter().filter(|old| !now.contains(old)) {
            self.slots.release(InstanceKey::Placed(id, *gone), self.published);
        }
        self.placed[id.index()] = now;
        if self.tables.services.get(id) == Some(&service) {
            return;
        }
        Arc::<Services>::make_mut(&mut self.tables.services).insert(id, service, &spec.endpoints);
        self.dirty = true;
    }

    /// From here on cookies are made and checked with these secrets.
    pub fn set_cookies(&mut self, keys: CookieKeys) {
        self.tables.policy.cookies = Some(keys);
        self.dirty = true;
    }

    /// A neighbour was found, or moved.
    pub fn set_neighbour(&mut self, interface: InterfaceId, addr: Addr, mac: Mac) {
        if self.tables.neighbours.get(interface, addr) != Some(mac) {
            self.tables.neighbours.insert(interface, addr, mac);
            self.dirty = true;
        }
    }

    /// A neighbour is gone.
    pub fn remove_neighbour(&mut self, interface: InterfaceId, addr: Addr) {
        if self.tables.neighbours.get(interface, addr).is_some() {
            self.tables.neighbours.remove(interface, addr);
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

    /// The configured services, by id.
    pub fn specs(&self) -> &[ServiceSpec] {
        &self.specs
    }

    /// The static neighbours.
    pub fn static_neighbours(&self) -> &[(InterfaceId, Addr, Mac)] {
        &self.statics
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

#[cfg(test)]
mod tests;

//! Another configuration while the loop turns: all of it is in the next snapshot, or none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use millrace_config::model::{Config, HubCarriage};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::dns::CookieSecret;
use millrace_fastpath::slots::{Escalation, Phase};
use millrace_fastpath::tables::Generation;
use millrace_fastpath::tables::services::ServiceId;
use millrace_orchestrator_api::Link;
use tracing::info;

use super::Control;
use super::cookies::CookieRoll;
use super::lifecycle::Lifecycle;
use crate::builder::{BuildError, DnsNames, Draft, floating};

/// A configuration with all that had to be made of it before.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) config: Arc<Config>,
    pub(super) draft: Draft,
    /// `None` where no DNS answer differs.
    pub(super) names: Option<DnsNames>,
    /// The shared secrets of its DNS cookies.
    pub(super) cookie_secrets: Vec<CookieSecret>,
}

impl<L: Link> Control<L> {
    /// Carries out a configuration that names no files, at once: for who turns the loop by hand, and so can't wait for an
    /// [`Asker`](super::Asker). Gives the generation that has it.
    ///
    /// # Errors
    /// The appliance can't carry it out as it runs; then nothing has changed.
    pub fn reload_now(&mut self, config: &Arc<Config>, now: Nanos) -> Result<Generation, BuildError> {
        let draft = self.builder.draft(config)?;
        let names = Some(draft.names(config, HashMap::new())?);
        let cookie_secrets = Vec::new();
        Ok(self.reload(Reload { config: Arc::clone(config), draft, names, cookie_secrets }, now))
    }

    /// Takes the configuration over and publishes it. Gives the generation that has it.
    pub(super) fn reload(&mut self, reload: Reload, now: Nanos) -> Generation {
        let Reload { config, draft, names, cookie_secrets } = reload;
        let reloaded = self.builder.reload(&config, draft, names);
        let offset = self.settings.unix_offset_nanos;
        self.cookies = CookieRoll::reload(self.cookies.take(), &config, &cookie_secrets, offset, now);
        if let Some(cookies) = &self.cookies {
            self.builder.set_cookies(cookies.keys());
        }
        let count = self.builder.specs().len();
        self.lifecycles.resize_with(count, Lifecycle::default);
        self.wanted_by.resize_with(count, Vec::new);
        for id in &reloaded.retired {
            self.lifecycles[id.index()] = Lifecycle::default();
            self.check_instances(*id, now);
            self.tell_shared_server_ids(*id);
        }
        for id in &reloaded.renewed {
            self.renew(*id);
        }
        // Before anybody is looked for by the interfaces of before.
        self.neighbours.reload(
            now,
            &self.builder.tables().interfaces,
            floating(&config).map(|(addr, _)| addr),
            self.builder.static_neighbours(),
            usize::try_from(config.limits.neighbours_max).unwrap_or(usize::MAX),
            &mut self.outputs,
        );
        for id in reloaded.renewed.iter().chain(&reloaded.changed) {
            let wakes = self.builder.specs()[id.index()].wakes();
            if wakes {
                self.place(*id, now);
            } else {
                self.builder.place(*id, None);
                self.check_instances(*id, now);
            }
        }
        self.builder.linger();
        self.set_lingering();
        self.want_routes(&config, now);
        self.ask_listeners(now);
        for at in 0..count {
            // The routes may lead elsewhere. What is retired keeps its neighbours as long as it has flows.
            let id = ServiceId(at as u16);
            if self.builder.tables().services.get(id).is_some() {
                self.want_instances(id, now);
            }
        }
        self.host.reload(&config);
        self.carry_out(now);
        self.publish();
        info!(
            generation = self.generation().0,
            renewed = reloaded.renewed.len(),
            changed = reloaded.changed.len(),
            retired = reloaded.retired.len(),
            "the configuration is applied"
        );
        self.generation()
    }

    /// A service that begins its life, or becomes one of another kind. Workers don't know it yet, or find backends.
    fn renew(&mut self, id: ServiceId) {
        self.lifecycles[id.index()] = Lifecycle::default();
        self.shared.slots.get(id).set_strikes(0, Escalation::None);
        self.journal.forget(id);
        let wakes = self.builder.specs()[id.index()].wakes();
        self.shared.slots.get(id).set_phase(if wakes { Phase::Bypass } else { Phase::Ready });
    }

    /// Has the next hops of the static routes and the BIER neighbours looked for, and no longer those of before.
    pub(super) fn want_routes(&mut self, config: &Config, now: Nanos) {
        let hops = config.routes.iter().filter_map(|route| self.builder.next_hop(Addr::from(route.via)));
        let nodes = hub_neighbours(config).filter_map(|node| self.builder.next_hop(Addr::from(node)));
        let hops: Vec<_> = hops.chain(self.builder.bier_hops()).chain(nodes).collect();
        let before = std::mem::replace(&mut self.wanted_by_routes, hops.clone());
        for hop in hops {
            self.want(hop, now);
        }
        for hop in before {
            self.unwant(hop, now);
        }
    }

    /// Lets go of what flows of earlier configurations needed, when they have ended.
    pub(super) fn collect_services(&mut self, now: Nanos) {
        let shared = Arc::clone(&self.shared);
        if !self.builder.collect_services(&shared) {
            return;
        }
        self.set_lingering();
        for at in 0..self.builder.specs().len() {
            let id = ServiceId(at as u16);
            if self.builder.tables().services.get(id).is_none() {
                self.want_instances(id, now);
            }
        }
    }

    fn set_lingering(&mut self) {
        let lingering: Vec<Addr> = self.builder.lingering().collect();
        self.neighbours.set_lingering(lingering);
    }
}

/// Nodes of the hub that are sent frames of their own, and whose Ethernet addresses aren't configured.
fn hub_neighbours(config: &Config) -> impl Iterator<Item = IpAddr> {
    let sites = config.hub.iter().flat_map(|hub| &hub.sites);
    let beside = sites.filter(|site| matches!(site.carriage, HubCarriage::Ethernet(_)));
    beside.flat_map(|site| &site.nodes).filter(|node| node.mac.is_none()).map(|node| node.address)
}

//! Who listens behind us: whom the configuration names, and what hosts say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::listeners::{Filter, Listener, Listeners};

use crate::builder::TableBuilder;

/// A group that the configuration wants sent: where, and to whom there if not to all.
pub(in crate::builder) type Fixed = (Addr, InterfaceId, Option<Addr>);

/// Who listens behind us.
#[derive(Clone, Debug, Default)]
pub(in crate::builder) struct BierListeners {
    /// By the configuration, by group: to all sources.
    pub(in crate::builder) fixed: BTreeSet<Fixed>,
    /// As hosts say.
    heard: BTreeMap<(Addr, InterfaceId), Filter>,
}

impl BierListeners {
    /// Those of a group: each interface once, to whom hosts there listen, or to all sources; and each neighbour.
    pub(super) fn of(&self, group: Addr) -> Vec<Listener> {
        let fixed = self.fixed.range((group, InterfaceId(0), None)..);
        let fixed = fixed.take_while(|(of, ..)| *of == group);
        let fixed = fixed
            .map(|(_, interface, next_hop)| Listener { next_hop: *next_hop, ..Listener::any(*interface) });
        let heard = self.heard.range((group, InterfaceId(0))..=(group, InterfaceId(u16::MAX)));
        let heard = heard.filter(|((group, interface), _)| !self.fixed.contains(&(*group, *interface, None)));
        let heard = heard.map(|((_, interface), filter)| Listener::hosts(*interface, filter.clone()));
        fixed.chain(heard).collect()
    }

    pub(super) fn all(&self) -> Listeners {
        let mut listeners = Listeners::default();
        let groups = self.fixed.iter().map(|(group, ..)| group);
        for group in groups.chain(self.heard.keys().map(|(group, _)| group)) {
            listeners.set(*group, self.of(*group));
        }
        listeners
    }
}

impl TableBuilder {
    /// Hosts on an interface listen to a group from now on, to these of its sources; or nobody does.
    pub fn set_listeners(&mut self, interface: InterfaceId, group: Addr, filter: Option<Filter>) {
        let heard = &mut self.bier_listeners.heard;
        match filter {
            Some(filter) => heard.insert((group, interface), filter),
            None => heard.remove(&(group, interface)),
        };
        let Some(bier) = &mut self.tables.bier else { return };
        let listeners = self.bier_listeners.of(group);
        if bier.listeners.get(group) != listeners {
            Arc::make_mut(bier).listeners.set(group, listeners);
            self.dirty = true;
        }
    }

    /// Has these listeners besides those that hosts speak for.
    pub(in crate::builder) fn set_fixed_listeners(&mut self, fixed: BTreeSet<Fixed>) {
        self.bier_listeners.fixed = fixed;
        let Some(bier) = &mut self.tables.bier else { return };
        let listeners = self.bier_listeners.all();
        if bier.listeners != listeners {
            Arc::make_mut(bier).listeners = listeners;
        }
    }
}

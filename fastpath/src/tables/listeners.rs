//! Who listens to a group behind us, and to whom of its sources.

use std::sync::Arc;

use hashbrown::HashMap;

use super::interfaces::InterfaceId;
use crate::addr::Addr;

/// Which sources of a group somebody listens to (RFC 9776 §3.1). Addresses are in order, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// These alone.
    Include(Box<[Addr]>),
    /// All but these.
    Exclude(Box<[Addr]>),
}

impl Filter {
    /// All sources.
    pub fn any() -> Self {
        Self::Exclude([].into())
    }

    /// The addresses that it names.
    pub fn sources(&self) -> &[Addr] {
        match self {
            Self::Include(sources) | Self::Exclude(sources) => sources,
        }
    }

    /// Whether what this source sends is listened to.
    #[inline]
    pub fn passes(&self, source: Addr) -> bool {
        match self {
            Self::Include(sources) => sources.binary_search(&source).is_ok(),
            Self::Exclude(sources) => sources.binary_search(&source).is_err(),
        }
    }
}

/// An interface with hosts that listen to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where they are.
    pub interface: InterfaceId,
    /// Whom they listen to.
    pub filter: Filter,
    /// The neighbour there that alone gets the packets, by its own link-layer address; `None` for all who listen, by the group's.
    pub next_hop: Option<Addr>,
}

impl Listener {
    /// Hosts there that listen to all sources.
    pub fn any(interface: InterfaceId) -> Self {
        Self::hosts(interface, Filter::any())
    }

    /// Hosts there that listen to these sources.
    pub fn hosts(interface: InterfaceId, filter: Filter) -> Self {
        Self { interface, filter, next_hop: None }
    }

    /// A neighbour there that gets what all sources send.
    pub fn neighbour(interface: InterfaceId, next_hop: Addr) -> Self {
        Self { next_hop: Some(next_hop), ..Self::any(interface) }
    }
}

/// Interfaces with listeners, by group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    // What doesn't change is shared between the snapshots that workers read.
    groups: HashMap<Addr, Arc<[Listener]>>,
}

impl Listeners {
    /// Those of a group; none where nobody listens to any of its sources.
    #[inline]
    pub fn get(&self, group: Addr) -> &[Listener] {
        self.groups.get(&group).map_or(&[], |listeners| listeners)
    }

    /// Sets who listens to a group; each interface and next hop once. Nobody is the same as not knowing the group.
    pub fn set(&mut self, group: Addr, listeners: impl Into<Arc<[Listener]>>) {
        let listeners = listeners.into();
        if listeners.is_empty() {
            self.groups.remove(&group);
        } else {
            self.groups.insert(group, listeners);
        }
    }

    /// All groups with listeners, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Addr, &[Listener])> {
        self.groups.iter().map(|(group, listeners)| (*group, &**listeners))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_pass_whom_they_name_or_all_others() {
        let [one, two] = [1, 2].map(|last| Addr::v4([192, 0, 2, last]));
        let passes = |filter: Filter| [one, two].map(|source| filter.passes(source));
        assert_eq!(passes(Filter::any()), [true, true]);
        assert_eq!(passes(Filter::Include([].into())), [false, false]);
        assert_eq!(passes(Filter::Include([two].into())), [false, true]);
        assert_eq!(passes(Filter::Exclude([two].into())), [true, false]);
    }
}

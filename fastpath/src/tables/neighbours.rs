//! Neighbours: which link-layer address an address on a link has.

use std::sync::Arc;

use hashbrown::HashMap;

use super::interfaces::{InterfaceId, Mac};
use crate::addr::Addr;

/// The resolved neighbours. A change copies the map: there are as many entries as hosts on our own links, and they
/// change at the pace of ARP and neighbour discovery.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(Arc<Known>);

#[derive(Clone, Debug, Default)]
#[repr(align(64))] // see `Tables`
struct Known(HashMap<(InterfaceId, Addr), Mac>);

impl Neighbours {
    /// The link-layer address of `addr` on `interface`.
    #[inline]
    pub fn get(&self, interface: InterfaceId, addr: Addr) -> Option<Mac> {
        self.0.0.get(&(interface, addr)).copied()
    }

    /// Sets an entry.
    pub fn insert(&mut self, interface: InterfaceId, addr: Addr, mac: Mac) {
        Arc::make_mut(&mut self.0).0.insert((interface, addr), mac);
    }

    /// Removes an entry.
    pub fn remove(&mut self, interface: InterfaceId, addr: Addr) {
        Arc::make_mut(&mut self.0).0.remove(&(interface, addr));
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceId, Addr, Mac)> {
        self.0.0.iter().map(|((interface, addr), mac)| (*interface, *addr, *mac))
    }
}

//! What workers read and only the slowpath writes: immutable [`Tables`] behind one pointer.
//!
//! The slowpath builds the next snapshot from the last one (unchanged parts are shared), publishes it through
//! [`crate::shared::Shared`], and every worker picks it up between two bursts. What changes often and is one word lies
//! in [`crate::slots`] instead.

pub mod balance;
pub mod bier;
pub mod filter;
pub mod hub;
pub mod interfaces;
pub mod listeners;
pub mod maglev;
mod mixed;
pub mod names;
pub mod neighbours;
pub mod paged;
pub mod policy;
pub mod quic;
pub mod routes;
pub mod services;
pub mod views;

use std::sync::Arc;

pub use bier::Bier;
pub use hub::Hub;
pub use interfaces::{Interface, InterfaceId, Interfaces};
pub use names::Names;
pub use neighbours::Neighbours;
pub use policy::{Bounds, NatPorts, Policy};
pub use routes::{NextHop, Routes};
pub use services::{ServiceId, Services};
pub use views::{View, Views};

use crate::addr::Addr;
use crate::driver::PortsDown;

/// Counts snapshots; grows by one with each that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Generation(pub u64);

/// One consistent view of everything that a worker looks up.
///
/// It and its shared parts begin on cache lines of their own: the counts of references in front of them change with each
/// publication, and workers that read on the same line would wait for it each time.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub struct Tables {
    /// Which snapshot this is.
    pub generation: Generation,
    /// Ports, VLANs, our own addresses.
    pub interfaces: Arc<Interfaces>,
    /// Where packets go that aren't ours.
    pub routes: Arc<Routes>,
    /// Link-layer addresses.
    pub neighbours: Neighbours,
    /// Services and their instances.
    pub services: Arc<Services>,
    /// Zones and names, as clients without a view of their own see them.
    pub names: Names,
    /// Zones and names of those who have one.
    pub views: Views,
    /// Multicast by bit string, where there is any.
    pub bier: Option<Arc<Bier>>,
    /// The content hub, where there is one.
    pub hub: Option<Arc<Hub>>,
    /// What holds for all traffic.
    pub policy: Policy,
}

impl Tables {
    /// The zones and names that a client sees whose query came in by this interface.
    #[inline]
    pub fn names_for(&self, interface: InterfaceId, client: Addr) -> &Names {
        if self.views.is_empty() {
            return &self.names;
        }
        self.views.find(interface, client).unwrap_or(&self.names)
    }

    /// Raises the flags of what can't be reached while these ports are down, and takes all others down.
    pub(crate) fn mark_down(&self, ports_down: PortsDown) {
        if let Some(bier) = &self.bier {
            bier.mark_down(&self.interfaces, ports_down);
        }
    }
}

//! The content hub as workers see it: what to send, and what to hand to its thread.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::addr::Addr;
use crate::hub::{Inbox, Inlet, Lane};

/// Everything of the hub.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// What is sent, and by whom: the same lanes in all snapshots.
    pub lanes: Vec<Arc<Lane>>,
    /// Whose content is taken in, by source and group: the numbers of the rules. Anybody's under the unspecified address.
    pub accepted: HashMap<(Addr, Addr), u16>,
    /// Where nodes say what they missed, by address and UDP port: the numbers of the sites. Addresses are ours, or groups.
    pub feedback: HashMap<(Addr, u16), u16>,
    /// Where it all goes.
    pub inbox: Arc<Inbox>,
}

impl Hub {
    /// What a packet from here to this group is to the hub, if it is anything.
    #[inline]
    pub fn content(&self, source: Addr, group: Addr) -> Option<Inlet> {
        let rule = |source| self.accepted.get(&(source, group));
        let anybody = if group.is_v4() { Addr::v4([0; 4]) } else { Addr::default() };
        rule(source).or_else(|| rule(anybody)).copied().map(Inlet::Content)
    }

    /// What a UDP datagram to this address and port is to the hub, if it is anything.
    #[inline]
    pub fn feedback(&self, to: Addr, port: u16) -> Option<Inlet> {
        self.feedback.get(&(to, port)).copied().map(Inlet::Feedback)
    }
}

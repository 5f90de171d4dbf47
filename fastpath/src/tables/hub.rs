//! The content hub as workers see it: what to send, and what to hand to its thread.

use std::collections::BTreeMap;
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
    /// What is listened to by plain multicast, by the name of its network: groups, and the one source of each, or all. The slowpath
    /// says so there, and wants to hear who asks.
    pub joins: BTreeMap<String, Vec<(Addr, Option<Addr>)>>,
    /// What comes to an address of ours and a UDP port: what nodes say of what they missed, and repairs of content to us alone.
    pub ports: HashMap<(Addr, u16), Inlet>,
    /// Where content goes: to who takes it in, and waits for disks.
    pub contents: Arc<Inbox>,
    /// Where feedback goes: to who sends.
    pub heard: Arc<Inbox>,
}

impl Hub {
    /// Where a datagram goes that is this to the hub.
    #[inline]
    pub fn inbox(&self, inlet: Inlet) -> &Inbox {
        match inlet {
            Inlet::Content(_) => &self.contents,
            Inlet::Feedback(_) => &self.heard,
        }
    }

    /// What a packet from here to this group is to the hub, if it is anything.
    #[inline]
    pub fn content(&self, source: Addr, group: Addr) -> Option<Inlet> {
        let rule = |source| self.accepted.get(&(source, group));
        let anybody = if group.is_v4() { Addr::v4([0; 4]) } else { Addr::default() };
        rule(source).or_else(|| rule(anybody)).copied().map(Inlet::Content)
    }

    /// What a UDP datagram to this address and port is to the hub, if it is anything.
    #[inline]
    pub fn port(&self, to: Addr, port: u16) -> Option<Inlet> {
        self.ports.get(&(to, port)).copied()
    }
}

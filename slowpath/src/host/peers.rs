//! Who we talk to, and by which way the frames came: answers go back the same way, so that nobody has to be resolved.

use std::collections::HashMap;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};

/// Peers that are remembered; more than connections, for echo requests come without one.
pub(super) const PEERS_MAX: usize = 1024;

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) interface: InterfaceId,
    /// Its address on the link, or its router's.
    pub(super) mac: Mac,
    /// What its frame was sent to: our address on the link, or a group's.
    pub(super) ours: Mac,
    seen: Nanos,
}

/// The last [`PEERS_MAX`] peers.
#[derive(Debug, Default)]
pub(super) struct Peers(HashMap<Addr, Peer>);

impl Peers {
    /// A frame came from `addr`.
    pub(super) fn seen(&mut self, addr: Addr, interface: InterfaceId, mac: Mac, ours: Mac, now: Nanos) {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&addr) {
            // Half of them at once, so that a flood pays for one pass in hundreds of frames.
            let mut times: Vec<Nanos> = self.0.values().map(|peer| peer.seen).collect();
            let (_, median, _) = times.select_nth_unstable(PEERS_MAX / 2);
            let median = *median;
            self.0.retain(|_, peer| peer.seen > median);
        }
        self.0.insert(addr, Peer { interface, mac, ours, seen: now });
    }

    /// The way to `addr`.
    pub(super) fn get(&self, addr: Addr) -> Option<Peer> {
        self.0.get(&addr).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_peers_forgets_the_oldest() {
        let mut peers = Peers::default();
        for at in 0..10_000u64 {
            peers.seen(Addr(u128::from(at)), InterfaceId(0), [2; 6], [4; 6], Nanos(at));
            assert!(peers.0.len() <= PEERS_MAX);
        }
        assert!(peers.get(Addr(9999)).is_some() && peers.get(Addr(0)).is_none());
    }
}

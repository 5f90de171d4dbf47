//! The overlay at a BFIR (RFC 8279 section 4.3): who gets a flow, and the packets that makes: one for each set.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::bits::BitString;
use crate::id::{BfrId, BiftKey, Bsl, Si, SubDomain};

/// The routers that get a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// In order, each once.
    ids: Vec<BfrId>,
}

impl Receivers {
    /// These routers.
    #[must_use]
    pub fn new(ids: impl IntoIterator<Item = BfrId>) -> Self {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }

    /// Adds one that joined; whether it was new.
    pub fn join(&mut self, id: BfrId) -> bool {
        let place = self.ids.binary_search(&id);
        if let Err(at) = place {
            self.ids.insert(at, id);
        }
        place.is_err()
    }

    /// Removes one that left; whether it was there.
    pub fn leave(&mut self, id: BfrId) -> bool {
        let place = self.ids.binary_search(&id);
        if let Ok(at) = place {
            self.ids.remove(at);
        }
        place.is_ok()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = BfrId> {
        self.ids.iter().copied()
    }

    /// One bit string for each set that some of them belong to, in order: a packet each. Routers beyond the sets that
    /// this length allows are in none; a topology reports them.
    #[must_use]
    pub fn sets(&self, bsl: Bsl) -> Vec<(Si, BitString)> {
        let mut sets: Vec<(Si, BitString)> = Vec::new();
        for (si, bit) in self.ids.iter().filter_map(|id| id.position(bsl)) {
            match sets.last_mut() {
                Some((last, string)) if *last == si => string.set(bit),
                _ => sets.push((si, BitString::of(bsl, [bit]))),
            }
        }
        sets
    }
}

/// A flow: source and group (S,G).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Where it comes from.
    pub source: IpAddr,
    /// The group that it is sent to.
    pub group: IpAddr,
}

/// What a flow's packets become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impose {
    sub_domain: SubDomain,
    bsl: Bsl,
    sets: Box<[(Si, BitString)]>,
}

impl Impose {
    /// One packet for each set: the BIFT that it goes through first, here at the BFIR itself, and its bit string. No
    /// allocation.
    pub fn packets(&self) -> impl Iterator<Item = (BiftKey, &[u64])> {
        self.sets.iter().map(|(si, string)| {
            (BiftKey { sub_domain: self.sub_domain, si: *si, bsl: self.bsl }, string.words())
        })
    }
}

/// All flows that enter here.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    // What doesn't change is shared between the snapshots that workers read.
    flows: BTreeMap<Flow, Arc<Impose>>,
}

impl Overlay {
    /// Sets who gets a flow. Nobody is the same as not knowing the flow; the same as before leaves it untouched.
    pub fn set(&mut self, flow: Flow, sub_domain: SubDomain, bsl: Bsl, receivers: &Receivers) {
        let sets = receivers.sets(bsl);
        if sets.is_empty() {
            self.flows.remove(&flow);
        } else {
            let impose = Impose { sub_domain, bsl, sets: sets.into() };
            if self.get(flow) != Some(&impose) {
                self.flows.insert(flow, Arc::new(impose));
            }
        }
    }

    /// Forgets a flow.
    pub fn remove(&mut self, flow: Flow) {
        self.flows.remove(&flow);
    }

    /// What packets of this flow become, if anybody wants them.
    #[must_use]
    pub fn get(&self, flow: Flow) -> Option<&Impose> {
        self.flows.get(&flow).map(Arc::as_ref)
    }

    /// All flows.
    pub fn iter(&self) -> impl Iterator<Item = (Flow, &Impose)> {
        self.flows.iter().map(|(flow, impose)| (*flow, impose.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u16]) -> Receivers {
        Receivers::new(numbers.iter().filter_map(|number| BfrId::new(*number)))
    }

    #[test]
    fn receivers_of_several_sets_need_a_packet_each() {
        let flow = Flow { source: [192, 0, 2, 100].into(), group: [232, 1, 1, 1].into() };
        let mut overlay = Overlay::default();
        overlay.set(flow, SubDomain(3), Bsl::B64, &ids(&[65, 1, 64, 200, 66, 65]));
        let packets: Vec<_> = overlay.get(flow).unwrap().packets().collect();
        let key = |si| BiftKey { sub_domain: SubDomain(3), si: Si(si), bsl: Bsl::B64 };
        assert_eq!(packets, [(key(0), &[1 | 1 << 63][..]), (key(1), &[0b11]), (key(3), &[0x80])]);
        let before = Arc::clone(&overlay.flows[&flow]);
        overlay.set(flow, SubDomain(3), Bsl::B64, &ids(&[1, 64, 65, 66, 200]));
        assert!(Arc::ptr_eq(&before, &overlay.flows[&flow]));
        overlay.set(flow, SubDomain(3), Bsl::B64, &ids(&[]));
        assert_eq!(overlay.get(flow), None);
    }

    #[test]
    fn who_joins_and_leaves_is_counted_once() {
        let mut receivers = ids(&[7]);
        let nine = BfrId::new(9).unwrap();
        assert!(receivers.join(nine) && !receivers.join(nine));
        assert_eq!(receivers, ids(&[9, 7, 7]));
        assert!(receivers.leave(nine) && !receivers.leave(nine));
        assert_eq!(receivers, ids(&[7]));
    }
}

//! Another configuration while neighbours are known: interfaces and addresses come and go, static entries change. What is
//! known of all others stays.

use std::collections::HashSet;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{InterfaceId, Interfaces, Mac};

use super::table::{Entry, Key, State};
use super::{Link, Machine, Output};

/// The links by the ids of their interfaces.
pub(super) fn links(interfaces: &Interfaces) -> Vec<Link> {
    let mut links = Vec::new();
    for (id, interface) in interfaces.iter() {
        let gone = || Link { present: false, mac: [0; 6], addresses: Vec::new(), defended: None };
        links.resize_with(id.index(), gone);
        links.push(Link {
            present: true,
            mac: interface.mac,
            addresses: interface.addresses.clone(),
            defended: None,
        });
    }
    links
}

impl<P> Machine<P> {
    /// These interfaces, addresses and static neighbours from now on. Addresses that weren't ours before are announced.
    pub fn reload(
        &mut self,
        now: Nanos,
        interfaces: &Interfaces,
        floating: impl IntoIterator<Item = Addr>,
        statics: &[(InterfaceId, Addr, Mac)],
        neighbours_max: usize,
        out: &mut Vec<Output<P>>,
    ) {
        let before: HashSet<_> = self.announceable().into_iter().collect();
        self.links = links(interfaces);
        self.floating = floating.into_iter().collect();
        self.neighbours_max = neighbours_max;
        self.table.set_max(neighbours_max.max(statics.len()));
        let is_static = |key: &Key| statics.iter().any(|(interface, addr, _)| (*interface, *addr) == *key);
        let misplaced = |key: &Key, entry: &Entry<P>| {
            !self.is_present(key.0)
                || self.is_ours(key.0, key.1)
                || entry.state == State::Static && !is_static(key)
        };
        let misplaced: Vec<Key> =
            self.table.iter().filter(|(key, entry)| misplaced(key, entry)).map(|(key, _)| key).collect();
        for key in misplaced {
            let wanted = self.table.get(key).is_some_and(|entry| entry.wanted);
            self.forget(key, out);
            // Whoever wants it doesn't say so again.
            self.want(now, key.0, key.1, wanted, out);
        }
        for (interface, addr, mac) in statics {
            self.set_static((*interface, *addr), *mac, out);
        }
        // What is ours no longer isn't announced once more.
        let ours: HashSet<_> = self.announceable().into_iter().collect();
        self.announcements.retain(|(_, interface, addr)| ours.contains(&(*interface, *addr)));
        let new = self.announceable().into_iter().filter(|one| !before.contains(one)).collect();
        self.announce(now, new, out);
    }

    /// Addresses that are answered for without being ours any longer, until another station says that it has them.
    pub fn set_lingering(&mut self, lingering: impl IntoIterator<Item = Addr>) {
        self.lingering = lingering.into_iter().collect();
    }

    fn set_static(&mut self, key: Key, mac: Mac, out: &mut Vec<Output<P>>) {
        match self.table.get_mut(key) {
            Some(entry) => {
                (entry.state, entry.mac) = (State::Static, Some(mac));
                self.table.schedule(key, None);
                let waited = self.table.take_parked(key);
                out.extend(waited.into_iter().map(|packet| Output::Release(key.0, mac, packet)));
            }
            None => {
                self.insert(key, Entry::new(State::Static, Some(mac), Nanos(0)), out);
            }
        }
        out.push(Output::Set(key.0, key.1, mac));
    }
}

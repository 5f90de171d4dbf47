//! What others say and ask on our links, and what we say of our own addresses.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};

use super::table::{Entry, Key, State};
use super::{ANNOUNCE_AGAIN_NANOS, MILLISECOND, Machine, Output, arp, nd};

impl<P> Machine<P> {
    /// Somebody asks for `target`.
    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn asked(
        &mut self,
        now: Nanos,
        interface: InterfaceId,
        sender: Option<Addr>,
        mac: Mac,
        mac_told: bool,
        target: Addr,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(sender) = sender
            && self.is_conflict(interface, sender, mac)
        {
            return self.conflict(now, interface, sender, mac, out);
        }
        let answers = self.is_ours(interface, target) || self.lingering.contains(&target);
        if !answers || !is_station(mac) {
            return;
        }
        self.counters.answered += 1;
        let ours = self.links[interface.index()].mac;
        let answer = match (target.is_v4(), sender) {
            (true, sender) => arp::reply(target, ours, sender.unwrap_or(Addr::v4([0; 4])), mac),
            (false, sender) => nd::advertisement(target, ours, sender.map(|sender| (sender, mac))),
        };
        out.push(Output::Send(interface, answer));
        // Who asks for us is about to be answered, so it is worth knowing, if it can be here at all.
        let Some(sender) = sender.filter(|sender| mac_told && self.is_on_link(interface, *sender)) else {
            return;
        };
        let key = (interface, sender);
        if self.table.get(key).is_some() {
            return self.confirm(now, key, mac, out);
        }
        let (passive, oldest) = self.table.oldest(Entry::is_passive);
        if passive * PASSIVE_SHARE >= self.neighbours_max
            && let Some(oldest) = oldest
        {
            self.forget(oldest, out);
        }
        if self.insert(key, Entry::new(State::Reachable, None, now), out) {
            self.confirm(now, key, mac, out);
        }
    }

    /// Somebody says where a neighbour is (RFC 4861 §7.2.5; an ARP reply overrides).
    pub(super) fn told(
        &mut self,
        now: Nanos,
        key: Key,
        mac: Option<Mac>,
        solicited: bool,
        overrides: bool,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(mac) = mac
            && self.is_conflict(key.0, key.1, mac)
        {
            return self.conflict(now, key.0, key.1, mac, out);
        }
        // Who has taken over an address of ours has its flows, too.
        if mac.is_some_and(|mac| self.links.iter().all(|link| link.mac != mac)) {
            self.lingering.remove(&key.1);
        }
        let Some(entry) = self.table.get(key) else { return };
        let differs = entry.mac.is_some() && mac.is_some() && mac != entry.mac;
        match entry.state {
            State::Static => {}
            // It may be another station's opinion: ask the one that is known.
            State::Reachable if differs && !overrides => self.probe(now, key, out),
            _ if differs && !overrides => {}
            _ => {
                let known = mac.or(entry.mac);
                // Without an address, or without having been asked for, nothing is proven.
                if let Some(known) = known.filter(|_| solicited || mac.is_some()) {
                    self.confirm(now, key, known, out);
                }
            }
        }
    }

    /// Whether `mac` uses `addr`, which is ours.
    fn is_conflict(&self, interface: InterfaceId, addr: Addr, mac: Mac) -> bool {
        // Two of our ports may be on one link.
        self.is_ours(interface, addr) && self.links.iter().all(|link| link.mac != mac)
    }

    /// Tells of a conflict, and defends the address, at most now and then (RFC 5227 §2.4 (b)).
    fn conflict(
        &mut self,
        now: Nanos,
        interface: InterfaceId,
        addr: Addr,
        mac: Mac,
        out: &mut Vec<Output<P>>,
    ) {
        self.counters.conflicts += 1;
        let link = &mut self.links[interface.index()];
        if link.defended.is_none_or(|last| now.since(last) >= DEFEND_NANOS) {
            link.defended = Some(now);
            out.push(Output::Conflict(interface, addr, mac));
            out.push(self.announcement(interface, addr));
        }
    }

    /// Announces addresses now, and once more.
    pub(super) fn announce(&mut self, now: Nanos, ours: Vec<(InterfaceId, Addr)>, out: &mut Vec<Output<P>>) {
        let again = now.plus(ANNOUNCE_AGAIN_NANOS);
        let both =
            ours.into_iter().flat_map(|(interface, addr)| [now, again].map(|at| (at, interface, addr)));
        self.announcements.extend(both);
        self.announce_due(now, out);
    }

    pub(super) fn announce_due(&mut self, now: Nanos, out: &mut Vec<Output<P>>) {
        let announcements = std::mem::take(&mut self.announcements);
        let (due, later) = announcements.into_iter().partition(|(at, ..)| *at <= now);
        self.announcements = later;
        let due: Vec<_> = due;
        out.extend(due.into_iter().map(|(_, interface, addr)| self.announcement(interface, addr)));
    }

    /// Our addresses, each on the links that it is on. One that isn't on-link is reached by routes, and nobody would ask
    /// for it.
    pub(super) fn announceable(&self) -> Vec<(InterfaceId, Addr)> {
        let on = |at: usize| {
            let interface = InterfaceId(at as u16);
            let own = self.links[at].addresses.iter().map(|(addr, _)| *addr);
            let floating =
                self.floating.iter().copied().filter(move |addr| self.is_on_link(interface, *addr));
            own.chain(floating).map(move |addr| (interface, addr))
        };
        (0..self.links.len()).flat_map(on).collect()
    }

    fn announcement(&self, interface: InterfaceId, addr: Addr) -> Output<P> {
        let mac = self.links[interface.index()].mac;
        Output::Send(
            interface,
            if addr.is_v4() { arp::announcement(addr, mac) } else { nd::advertisement(addr, mac, None) },
        )
    }
}

/// Whether a frame can come from this address: not a group, and not nobody.
pub(super) fn is_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// Between two defences of an address (DEFEND_INTERVAL, RFC 5227 §1.1).
const DEFEND_NANOS: u64 = 10_000 * MILLISECOND;
/// Neighbours that only asked for us may fill one in so many entries.
const PASSIVE_SHARE: usize = 2;

//! Where a flow begins, and that it stays there.

use std::net::IpAddr;

use millrace_config::model::{FirstPacket, Forwarding};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::services::{Entry, Instance, InstanceState};
use millrace_orchestrator_api::InstanceId;
use smoltcp::wire::TcpControl;

use super::service_of;
use crate::datagram::Said;
use crate::network::Way;
use crate::scenario::{NODES, TCP_PORT, UDP_PORT};
use crate::server::Wrong;
use crate::wire::{Body, End, Piece, Read, UDP_HEADER};
use crate::world::World;

/// What a client begins: a connection by the number of its SYN, a conversation by its id and how often it has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FlowId {
    Syn(u32),
    Chat(u64, u8),
}

/// What is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) service: usize,
    pub(super) client: End,
    /// How often its first packet came, since when, and how often it left.
    pub(super) came: u32,
    pub(super) came_ms: u64,
    pub(super) left: u32,
    /// Whose it was by the packet that left last.
    station: Option<usize>,
}

/// A datagram in pieces.
#[derive(Clone, Debug)]
pub(super) struct Split {
    flow: FlowId,
    /// Where its first pieces went.
    stations: Vec<Option<usize>>,
}

/// An instance that has a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    station: usize,
    instance: InstanceId,
    /// That the client's side begins with.
    number: u32,
    /// What the appliance had forgotten until then: all, by restarts, and some of the flows of this one's worker.
    restarts: u64,
    worker: usize,
    forgotten: u64,
    at_ms: u64,
}

impl World {
    /// A packet to a service came in.
    pub(super) fn note_begin(&mut self, service: usize, read: &Read<'_>) {
        let (id, client) = match &read.body {
            Body::Tcp(tcp) if tcp.control == TcpControl::Syn => {
                (FlowId::Syn(tcp.seq_number.0 as u32), (read.source, tcp.src_port))
            }
            Body::Udp(from, UDP_PORT, data) => match Said::read(data) {
                Some(said) => (FlowId::Chat(said.id, said.leg), (read.source, *from)),
                None => return,
            },
            Body::Piece(piece) => match first_of(piece) {
                Some((said, from)) => {
                    self.checks.counts.pieces += 1;
                    let flow = FlowId::Chat(said.id, said.leg);
                    self.checks.split.entry(piece.id).or_insert(Split { flow, stations: Vec::new() });
                    (flow, (read.source, from))
                }
                None => return,
            },
            _ => return,
        };
        let came_ms = self.now_ms();
        let begun = Begun { service, client, came: 0, came_ms, left: 0, station: None };
        self.checks.begun.entry(id).or_insert(begun).came += 1;
    }

    /// A datagram leaves for an instance, or the first piece of one.
    pub(super) fn check_sent_datagram(&mut self, read: &Read<'_>, port: u16, way: &Way<'_>) {
        let Some(said) = Said::read(read.payload()) else { return };
        let flow = FlowId::Chat(said.id, said.leg);
        // One that somebody forged may look like it.
        let Some(begun) = self.checks.begun.get_mut(&flow) else { return };
        begun.left += 1;
        begun.station = way.station;
        let Begun { service, left, came_ms, .. } = *begun;
        if left == 1 && !self.check_connection(service, &said, read, way) {
            self.check_choice(service, read, port, way, came_ms);
        }
    }

    /// A piece leaves for an instance: the later ones go where the first went, or where their flow is by now.
    pub(super) fn check_piece(&mut self, read: &Read<'_>, piece: &Piece<'_>, way: &Way<'_>) {
        let Some(split) = self.checks.split.get(&piece.id).cloned() else { return };
        if piece.offset == 0 {
            if let Some(split) = self.checks.split.get_mut(&piece.id) {
                split.stations.push(way.station);
            }
            let Some(port) = piece.data.get(2..4) else { return };
            return self.check_sent_datagram(read, u16::from_be_bytes([port[0], port[1]]), way);
        }
        let begun = self.checks.begun.get(&split.flow);
        let by_flow = begun.and_then(|begun| begun.station);
        let known: Vec<usize> = split.stations.iter().flatten().copied().chain(by_flow).collect();
        // The first may have been refused by a port that takes nothing now.
        let right = known.is_empty() || way.station.is_some_and(|at| known.contains(&at));
        assert!(right, "a piece goes to {:?}, its first to {known:?}: {read:?}", way.station);
    }

    /// A piece of an answer leaves: the later ones come from whom the first came from, if they didn't overtake it.
    pub(super) fn check_answered(&mut self, read: &Read<'_>, piece: &Piece<'_>) {
        let ours = self.stations.iter().any(|station| station.addresses.contains(&read.source));
        if !ours && service_of(self.scenario.services(), read.source).is_none() {
            return;
        }
        let key = (piece.id, read.destination);
        if piece.offset == 0 {
            self.checks.answered.insert(key, (read.source, self.now));
        } else if let Some((first, left)) = self.checks.answered.get(&key)
            && self.checks.answering.get(&(piece.id, piece.offset)).is_some_and(|came| came > left)
        {
            // A flow that has gone meanwhile translates nothing.
            let gone = (0..self.scenario.workers).any(|worker| self.appliance.forgotten(worker) > 0);
            let right = *first == read.source || gone || self.checks.restarts > 0;
            assert!(right, "a piece of an answer by {first}: {read:?}");
        }
    }

    /// A conversation that looks like QUIC goes on from elsewhere with whoever has made its id, as long as the tables have
    /// that one. Whether that says where it goes.
    fn check_connection(&self, service: usize, said: &Said, read: &Read<'_>, way: &Way<'_>) -> bool {
        let Some(connection) = said.connection.as_ref().filter(|_| !said.is_long) else { return false };
        let made =
            |at: &usize| self.stations[*at].instances.values().any(|one| one.made.contains(connection));
        let v4 = read.destination.is_ipv4();
        let Some(entry) = self.appliance.ids[service] else { return false };
        let tables = self.appliance.shared.tables();
        let Some(entry) = tables.services.entry(entry) else { return false };
        let Some(maker) = (0..self.stations.len()).find(made) else {
            // Whoever has started anew since has forgotten what it made.
            return entry.server_ids().and_then(|ids| ids.find(connection)).is_some();
        };
        let station = &self.stations[maker];
        let serves = |one: &&Instance| {
            let addr = entry.address_of(one, v4);
            let made = one.server_id.is_some()
                && entry.server_ids().and_then(|ids| ids.find(connection)) == position(entry, one);
            made && one.state != InstanceState::Starting
                && addr.is_some_and(|addr| station.addresses.iter().any(|own| Addr::from(*own) == addr))
        };
        if !entry.instances.iter().any(|one| serves(&one)) {
            return false;
        }
        assert_eq!(way.station, Some(maker), "{said:?} goes on elsewhere: {read:?}");
        true
    }

    /// A flow begins at an instance that takes new ones. What waited for a neighbour was sent on its way earlier: that is
    /// possible only where the neighbour wasn't known when the packet came.
    pub(super) fn check_choice(
        &self,
        service: usize,
        read: &Read<'_>,
        port: u16,
        way: &Way<'_>,
        came_ms: u64,
    ) {
        let facts = &self.scenario.services()[service];
        let addresses: Vec<IpAddr> = match (facts.forwarding, way.opened, way.station) {
            (Forwarding::Nat, ..) => vec![read.destination],
            (_, Some(opened), _) => vec![opened.to],
            // Only the station can be told by its link-layer address.
            (_, None, Some(station)) => self.stations[station].addresses.to_vec(),
            _ => return,
        };
        let now_ms = self.now_ms();
        let known = |addr: &IpAddr| {
            let since = self.checks.neighbours.get(addr);
            since.is_some_and(|since| *since < came_ms || now_ms - since >= NEIGHBOUR_MS_MAX)
        };
        // Nor is it the flow's first packet where that one wasn't taken by the port.
        if !addresses.iter().all(known) || came_ms <= self.checks.health.limited_ms {
            return;
        }
        let absent = self.checks.absent.get(&(service, read.source.is_ipv4()));
        assert!(
            absent.is_none_or(|since| came_ms <= *since),
            "a flow of {} begins, which is gone",
            facts.name
        );
        let Some(id) = self.appliance.ids[service] else { return };
        let tables = self.appliance.shared.tables();
        let Some(entry) = tables.services.entry(id) else { return };
        let takes = |one: &Instance| {
            let here = addresses
                .iter()
                .map(|addr| Addr::from(*addr))
                .any(|addr| one.addresses.contains(&Some(addr)) && !one.is_down_at(addr));
            let own = if facts.forwarding == Forwarding::Nat {
                [TCP_PORT, UDP_PORT].map(|own| one.port_for(own))
            } else {
                [port; 2]
            };
            here && own.contains(&port) && one.state != InstanceState::Draining
        };
        assert!(
            entry.instances.iter().any(takes),
            "a flow of {} begins at {addresses:?} port {port}: {:?}",
            entry.name,
            entry.instances
        );
        let drained = facts.drained.map(|at| NODES.len() + at);
        let asked = self.checks.health.reloaded_ms() < came_ms && drained.is_some() && drained == way.station;
        assert!(!asked, "a flow of {} begins at {addresses:?}, which is to take none", facts.name);
        self.check_lame(service, &addresses, port, way.station);
    }

    /// A segment has come to an instance. A connection stays with its own as long as both live.
    pub(crate) fn check_segment(&mut self, station: usize, instance: InstanceId, read: &Read<'_>) {
        let Some((tcp, client, _)) = read.tcp().filter(|(tcp, ..)| tcp.control != TcpControl::Rst) else {
            return;
        };
        let (number, opens) = (tcp.seq_number.0 as u32, tcp.control == TcpControl::Syn);
        let mut now = self.owner(station, instance, number);
        if let Some(begun) = self.checks.begun.get(&FlowId::Syn(number)).filter(|_| opens) {
            now.worker = self.appliance.owner(begun.client, 6);
            now.forgotten = self.appliance.forgotten(now.worker);
        }
        // Ports of the appliance's are another flow's soon, and at the same time with another instance.
        let of_flow = |owner: &&Owner| number.wrapping_sub(owner.number) < NUMBERS_MAX;
        let others = self.others((client, 6), &now, opens);
        let owners = self.checks.owners.get(&(client, 6)).into_iter().flatten();
        let has_syn = |before: &Owner| {
            let mut here = owners.clone().filter(|one| (one.station, one.instance) == (station, instance));
            here.any(|one| one.number == before.number)
        };
        for before in others.iter().filter(of_flow).filter(|_| !opens) {
            // Behind a FIN a late copy of its SYN begins it anew.
            let lives = self.knows(before, client, has_syn(before));
            assert!(
                self.has_forgotten(before) || !lives,
                "a flow moved from {before:?} to {now:?}: {read:?}"
            );
        }
    }

    /// A datagram has come to an instance, and says whose it is.
    pub(crate) fn check_datagram(&mut self, station: usize, instance: InstanceId, said: &Said) {
        let Some(begun) = self.checks.begun.get(&FlowId::Chat(said.id, said.leg)) else { return };
        let client = begun.client;
        let mut now = self.owner(station, instance, 0);
        now.worker = self.appliance.owner(client, 17);
        now.forgotten = self.appliance.forgotten(now.worker);
        for before in self.others((client, 17), &now, true) {
            // A conversation is remembered for as long as somebody waits for its end.
            let lives = self.stations[before.station].up
                && self.stations[before.station].instances.contains_key(&before.instance)
                && now.at_ms - before.at_ms < CHAT_MS_MAX;
            assert!(
                self.has_forgotten(&before) || !lives,
                "a flow moved from {before:?} to {now:?}: {said:?}"
            );
        }
    }

    /// Who else has a flow of this client's; with `begins` this one has it from now on.
    fn others(&mut self, key: (End, u8), now: &Owner, begins: bool) -> Vec<Owner> {
        let owners = self.checks.owners.entry(key).or_default();
        let is_same = |owner: &Owner| (owner.station, owner.instance) == (now.station, now.instance);
        let others = owners.iter().filter(|owner| !is_same(owner)).copied().collect();
        if begins {
            owners.retain(|owner| !is_same(owner));
            owners.push(*now);
        }
        others
    }

    fn owner(&self, station: usize, instance: InstanceId, number: u32) -> Owner {
        let (restarts, at_ms) = (self.checks.restarts, self.now_ms());
        Owner { station, instance, number, restarts, worker: 0, forgotten: 0, at_ms }
    }

    fn knows(&self, owner: &Owner, client: End, anew: bool) -> bool {
        let station = &self.stations[owner.station];
        let Some(instance) = station.instances.get(&owner.instance).filter(|_| station.up) else {
            return false;
        };
        instance.server.knows(client, !anew)
    }

    /// Whether the appliance may have forgotten a flow.
    fn has_forgotten(&self, owner: &Owner) -> bool {
        owner.restarts != self.checks.restarts || self.appliance.forgotten(owner.worker) != owner.forgotten
    }

    /// An instance hears what its client didn't say: possible only where a spliced flow that the appliance has forgotten
    /// goes on with numbers that nobody translates.
    pub(crate) fn check_wrong(&self, station: usize, instance: InstanceId, wrong: Wrong, read: &Read<'_>) {
        let Some((tcp, client, _)) = read.tcp() else { return };
        let number = tcp.seq_number.0 as u32;
        let known = self.stations[station].instances.get(&instance);
        let service = known.map_or("", |one| one.start.service.as_str());
        let spliced = self
            .scenario
            .services()
            .iter()
            .any(|one| one.name == service && one.handling == FirstPacket::Splice);
        let mut owners = self.checks.owners.get(&(client, 6)).into_iter().flatten();
        let forgotten = owners.any(|owner| {
            (owner.station, owner.instance) == (station, instance)
                && number.wrapping_sub(owner.number) < NUMBERS_MAX
                && self.has_forgotten(owner)
        });
        let excused = wrong == Wrong::Acknowledgement && spliced && forgotten;
        assert!(excused, "an instance hears what its client didn't say: {wrong:?}: {read:?}");
    }
}

fn position(entry: &Entry, instance: &Instance) -> Option<usize> {
    entry.instances.iter().position(|one| std::ptr::eq(one, instance))
}

/// What the first piece of a datagram says, and by which port it comes.
fn first_of(piece: &Piece<'_>) -> Option<(Said, u16)> {
    if piece.offset > 0 {
        return None;
    }
    let said = Said::read(piece.data.get(UDP_HEADER..)?)?;
    Some((said, u16::from_be_bytes([piece.data[0], piece.data[1]])))
}

/// More than a client says on one connection.
const NUMBERS_MAX: u32 = 8192;
/// Longer than a packet waits for its neighbour.
const NEIGHBOUR_MS_MAX: u64 = 3000;
/// Less than a datagram that nobody has answered is remembered (30 seconds), and more than a client's pauses.
const CHAT_MS_MAX: u64 = 20_000;

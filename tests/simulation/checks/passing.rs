//! What comes in and what leaves: nothing is delivered twice, nothing changes that mustn't, no handshake is answered before
//! its notice is on its way.

use millrace_config::model::{FirstPacket, Forwarding, Verify};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::slots::{Escalation, Phase};
use millrace_fastpath::splice::connect::TRIES_MAX;
use smoltcp::wire::{IpProtocol, TcpControl, TcpRepr};

use super::flows::FlowId;
use super::service_of;
use crate::appliance::{LAN, WAN};
use crate::network::Way;
use crate::random::Digest;
use crate::scenario::BACKENDS;
use crate::tunnel::{Opened, unchanged};
use crate::wire::{Body, ETHERNET, Read};
use crate::world::World;

impl World {
    /// A frame that a port of the appliance took in.
    pub(crate) fn check_in(&mut self, port: PortId, read: Option<&Read<'_>>, frame: &[u8]) {
        let Some(read) = read else {
            self.checks.broken.0 += 1;
            return;
        };
        let (from_wan, now_ms) = (port == WAN, self.now_ms());
        self.checks.prefixes.insert(Addr::from(read.source).source_prefix(), now_ms);
        if from_wan && let Some(service) = service_of(self.scenario.services(), read.destination) {
            self.note_begin(service, read);
            if self.scenario.services()[service].forwarding != Forwarding::Nat {
                self.checks.whole.entry(unchanged(&frame[ETHERNET..], 1)).or_default().0 += 1;
            }
        }
        if let Body::Piece(piece) = &read.body
            && !from_wan
        {
            self.checks.answering.insert((piece.id, piece.offset), self.now);
        }
        if !read.payload().is_empty() && !is_dns(read) {
            self.checks.carried.entry((from_wan, Digest::of(read.payload()))).or_default().0 += 1;
        }
    }

    /// A frame that was sent, and that can't be read: it came in like that.
    pub(crate) fn check_broken(&mut self, what: &str, frame: &[u8]) {
        let (came, left) = &mut self.checks.broken;
        *left += 1;
        assert!(*left <= *came, "{what} of a frame that was sent: {frame:02x?}");
    }

    /// A frame that a port of the appliance sent, right after the poll that did so.
    pub(crate) fn check_out(&mut self, port: PortId, read: &Read<'_>, way: &Way<'_>) {
        let answers = service_of(self.scenario.services(), read.source);
        if !read.payload().is_empty() && !is_dns(read) {
            // What a service or an instance says comes from behind the appliance, all else from clients.
            let instance = self.stations.iter().any(|station| station.addresses.contains(&read.source));
            let key = (answers.is_none() && !instance, Digest::of(read.payload()));
            let (came, left) = self.checks.carried.entry(key).or_default();
            *left += 1;
            assert!(*left <= *came, "delivered {left} times what came {came} times: {read:?}");
        }
        if port == WAN
            && let Body::Piece(piece) = &read.body
        {
            self.check_answered(read, piece);
        }
        if port == LAN {
            self.check_whole(read, way);
            match &read.body {
                Body::Udp(_, port, _) => self.check_sent_datagram(read, *port, way),
                Body::Piece(piece) if piece.protocol == IpProtocol::Udp => self.check_piece(read, piece, way),
                _ => {}
            }
        }
        let Some((tcp, _, _)) = read.tcp().filter(|(tcp, ..)| tcp.control == TcpControl::Syn) else { return };
        let number = tcp.seq_number.0 as u32;
        if tcp.ack_number.is_none() {
            if !self.is_probe(read, tcp) {
                self.check_syn(port, read, tcp, way);
            }
        } else if let Some(service) = answers.filter(|_| !self.checks.first.contains(&number)) {
            assert_eq!(
                self.scenario.services()[service].handling,
                FirstPacket::Splice,
                "a handshake that nobody answered: {read:?}"
            );
            self.checks.counts.spliced += 1;
            self.check_handed(service, "a handshake is answered");
        }
    }

    /// What is for a service by the time it leaves goes whole to a backend that has the service's address.
    fn check_whole(&mut self, read: &Read<'_>, way: &Way<'_>) {
        let service = service_of(self.scenario.services(), read.destination);
        let Some(facts) = service.map(|at| &self.scenario.services()[at]) else {
            assert!(way.opened.is_none(), "a tunnel for nobody: {read:?}");
            return;
        };
        let backend = way.station.is_some_and(|at| self.stations[at].is_backend());
        let right = match (facts.forwarding, way.opened) {
            (Forwarding::Nat, _) => false,
            (Forwarding::L2, opened) => opened.is_none(),
            (forwarding, opened) => opened
                .is_some_and(|one| one.is_gue == (forwarding == Forwarding::Gue) && self.has_room(read, one)),
        };
        assert!(right && backend, "for {} leaves in {:?}: {read:?}", facts.name, way.opened);
        let count = match facts.forwarding {
            Forwarding::L2 => &mut self.checks.counts.carried_l2,
            Forwarding::Ipip => &mut self.checks.counts.carried_ipip,
            _ => &mut self.checks.counts.carried_gue,
        };
        *count += 1;
        let (came, left) = self.checks.whole.entry(way.same).or_default();
        *left += 1;
        assert!(*left <= *came, "changed on its way, or sent {left} times what came {came} times: {read:?}");
    }

    /// Who opens a connection asks for segments no longer than what fits into the tunnel.
    fn has_room(&self, read: &Read<'_>, opened: &Opened<'_>) -> bool {
        let Some((tcp, ..)) = read.tcp().filter(|(tcp, ..)| tcp.control == TcpControl::Syn) else {
            return true;
        };
        let headers = opened.overhead + if read.source.is_ipv4() { 40 } else { 60 };
        tcp.max_seg_size.is_none_or(|most| usize::from(most) + headers <= MTU)
    }

    /// Whether a SYN is the appliance's own: no translated flow has its port.
    fn is_probe(&self, read: &Read<'_>, tcp: &TcpRepr<'_>) -> bool {
        let range = self.scenario.config.nat.port_range;
        self.is_ours(read) && !(range.first..=range.last).contains(&tcp.src_port)
    }

    /// Whether it comes from an address of the appliance's ports.
    pub(super) fn is_ours(&self, read: &Read<'_>) -> bool {
        let mut ours = self.scenario.config.ports.iter().flat_map(|port| &port.addresses);
        ours.any(|address| address.addr() == read.source)
    }

    fn check_syn(&mut self, port: PortId, read: &Read<'_>, tcp: &TcpRepr<'_>, way: &Way<'_>) {
        let transit = port == WAN && service_of(self.scenario.services(), read.destination).is_none();
        let Some(begun) = self.checks.begun.get_mut(&FlowId::Syn(tcp.seq_number.0 as u32)) else {
            // What is broken on its way may still look whole, and be for somebody beyond.
            return assert!(transit, "a SYN that no client sent: {read:?}");
        };
        begun.left += 1;
        let (service, came, left, came_ms) = (begun.service, begun.came, begun.left, begun.came_ms);
        let handling = self.scenario.services()[service].handling;
        let own = if handling == FirstPacket::Splice { u32::from(TRIES_MAX) } else { 0 };
        assert!(left <= came + own, "left {left} times what came {came} times: {read:?}");
        let backend =
            BACKENDS.iter().any(|(v4, v6)| [*v4, *v6].contains(&read.destination.to_string().as_str()));
        let whole = self.scenario.services()[service].forwarding != Forwarding::Nat;
        if port == LAN && handling == FirstPacket::Forward && !backend && !whole {
            self.check_handed(service, "a SYN is passed on");
        }
        if port == LAN && left == 1 {
            self.check_choice(service, read, tcp.dst_port, way, came_ms);
        }
    }

    /// The order that a handshake follows: the link has the notice, and only then a client is answered.
    fn check_handed(&self, service: usize, what: &str) {
        let facts = &self.scenario.services()[service];
        let Some(id) = self.appliance.ids[service] else { return };
        let slot = self.appliance.shared.slots.get(id);
        let (phase, _) = slot.load();
        // Wakes that led to nothing have the next one ask for a cookie as well.
        let cookie = facts.verify == Verify::Cookie || slot.escalation() == Escalation::Cookie;
        let handed = match phase {
            Phase::Waking if cookie => true,
            Phase::Waking => self.is_latest_wake_taken(service),
            Phase::Cold => cookie || facts.handling == FirstPacket::Forward,
            Phase::Ready | Phase::Draining => true,
            Phase::Quarantined | Phase::Bypass | Phase::Down => facts.handling == FirstPacket::Forward,
        };
        assert!(handed, "{what} for {} in phase {phase:?} before its notice was handed over", facts.name);
    }

    /// A server begins a connection.
    pub(crate) fn begins(&mut self, number: u32) {
        self.checks.first.insert(number);
    }
}

/// Of both links.
const MTU: usize = 1500;

fn is_dns(read: &Read<'_>) -> bool {
    matches!(read.body, Body::Udp(53, ..) | Body::Udp(_, 53, _))
}

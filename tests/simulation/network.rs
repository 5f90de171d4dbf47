//! The wires on both sides of the appliance, and who is at their other ends.

use std::net::IpAddr;

use millrace_fastpath::driver::PortId;

use crate::appliance::{LAN, WAN};
use crate::chat::PIECE_MAX;
use crate::datagram::Said;
use crate::pieces::cut;
use crate::random::Digest;
use crate::scenario::UPSTREAM;
use crate::serving::Step;
use crate::tunnel;
use crate::wire::{
    Body, ETHERNET, End, LAN_MAC, Mac, Read, WAN_MAC, asked, body, framed, here, packet, read, reset, udp,
};
use crate::world::{Happening, MS, World};

/// How badly the wires do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Per cent of frames that are lost,
    pub(crate) loss: u64,
    /// that arrive twice,
    pub(crate) twice: u64,
    /// and how long they take at most; each its own time, so that they overtake each other.
    pub(crate) delay_nanos: u64,
}

/// How a packet leaves the appliance.
pub(crate) struct Way<'a> {
    /// Whose link-layer address it goes to.
    pub(crate) station: Option<usize>,
    /// What it is inside of.
    pub(crate) opened: Option<&'a tunnel::Opened<'a>>,
    /// What must not change of it where it is carried whole.
    pub(crate) same: u64,
}

impl World {
    /// A frame on a wire, in the weather of now.
    pub(crate) fn send(&mut self, happening: Happening) {
        self.send_after(0, happening);
    }

    /// A frame behind so many others. While faults may happen they overtake each other, and else they don't.
    pub(crate) fn send_after(&mut self, others: usize, happening: Happening) {
        let later = if self.calm { others as u64 * self.weather.delay_nanos } else { 0 };
        let copy = match &happening {
            _ if !self.random.percent(self.weather.twice) => None,
            Happening::Arrives(port, frame) => Some(Happening::Arrives(*port, frame.clone())),
            Happening::Leaves(frame) => Some(Happening::Leaves(frame.clone())),
            _ => None,
        };
        for one in copy.into_iter().chain([happening]) {
            self.send_one(later, one);
        }
    }

    fn send_one(&mut self, later: u64, happening: Happening) {
        if !self.random.percent(self.weather.loss) {
            let at = self.now.plus(20_000 + later + self.random.below(self.weather.delay_nanos));
            self.at(at, happening);
        }
    }

    pub(crate) fn arrives(&mut self, port: PortId, frame: &[u8]) {
        let parsed = read(frame).ok().flatten();
        let mut digest = Digest::default();
        if let Some(read) = &parsed {
            digest.bytes(read.source.to_string().as_bytes());
            if let Body::Tcp(tcp) = &read.body {
                digest.number(u64::from(tcp.src_port) << 16 | u64::from(tcp.dst_port));
            }
        }
        // As a device spreads flows: the same for all packets of one, and mostly not the worker that owns it.
        let queue = (digest.0 >> 20) % self.scenario.workers as u64;
        let queue = queue as usize;
        if self.appliance.net.deliver(port, queue as u16, frame) {
            self.check_in(port, parsed.as_ref(), frame);
            self.note_triple(port, queue, parsed.as_ref());
        } else {
            self.checks.health.lossy = true;
            self.note_rough();
        }
    }

    /// Takes what the appliance sent.
    pub(crate) fn collect(&mut self, port: PortId) {
        while let Some(frame) = self.appliance.net.take(port) {
            self.digest.number(self.now.0);
            self.digest.bytes(&frame);
            if let Some((target, asker)) = asked(&frame) {
                self.answer_neighbour(port, target, asker);
                continue;
            }
            self.look(port, &frame);
            self.send(Happening::Leaves(frame));
        }
    }

    /// What the appliance sent, with what it is inside of.
    fn look(&mut self, port: PortId, frame: &[u8]) {
        let opened = if port == LAN { tunnel::open(frame) } else { Ok(None) };
        let opened = match opened {
            Ok(opened) => opened,
            Err(what) => return self.check_broken(what, frame),
        };
        let parsed = match &opened {
            Some(opened) => packet(opened.inner).map(Some),
            None => read(frame),
        };
        match parsed {
            Ok(Some(read)) => {
                self.trace(|| {
                    let way = opened.as_ref().map_or(String::new(), |one| format!(" in {}", one.to));
                    format!("{} {}{way}", if port == WAN { "wan" } else { "lan" }, brief(&read))
                });
                let inner = opened.as_ref().map_or(&frame[ETHERNET..], |opened| opened.inner);
                let station = self.stations.iter().position(|one| one.mac == frame[..6]);
                let way = Way { station, opened: opened.as_ref(), same: tunnel::unchanged(inner, 0) };
                self.check_out(port, &read, &way);
            }
            Ok(None) => {}
            Err(what) => self.check_broken(what, frame),
        }
    }

    fn answer_neighbour(&mut self, port: PortId, target: IpAddr, asker: IpAddr) {
        let upstream: [IpAddr; 2] = [UPSTREAM.0.parse().unwrap(), UPSTREAM.1.parse().unwrap()];
        let mac = if port == WAN {
            let client = self.clients.iter().find(|one| one.addresses.contains(&target));
            client.map(|one| one.mac).or_else(|| upstream.contains(&target).then_some(UPSTREAM_MAC))
        } else {
            let station = self.stations.iter().find(|one| one.addresses.contains(&target));
            station.filter(|one| one.up && !one.cut).map(|one| one.mac)
        };
        let Some(mac) = mac else { return };
        if asker.is_ipv4() == target.is_ipv4() {
            let ours = if port == WAN { WAN_MAC } else { LAN_MAC };
            self.send(Happening::Arrives(port, here(mac, target, ours, asker)));
        }
    }

    /// A frame comes to where it was sent.
    pub(crate) fn leaves(&mut self, frame: &[u8]) {
        let to = &frame[..6];
        if let Some(at) = self.stations.iter().position(|one| one.mac == to) {
            if !self.stations[at].up || self.stations[at].cut {
                return;
            }
            let Ok(opened) = tunnel::open(frame) else { return };
            let parsed = opened.map_or_else(|| read(frame), |opened| packet(opened.inner).map(Some));
            if let Ok(Some(read)) = parsed {
                self.station_hears(at, &read);
            }
            return;
        }
        let Ok(Some(read)) = read(frame) else { return };
        if let Some(at) = self.clients.iter().position(|one| one.mac == to) {
            self.clients[at].receive(&frame[ETHERNET..], &read);
        } else if to == UPSTREAM_MAC {
            self.upstream_hears(&read);
        }
    }

    /// Beyond the appliance nobody has the services: who asks there is refused.
    fn upstream_hears(&mut self, read: &Read<'_>) {
        let Some((tcp, from, to)) = read.tcp() else { return };
        let Some(packet) = reset(to, from, tcp) else { return };
        if let Some(client) = self.clients.iter().find(|one| one.addresses.contains(&from.0)) {
            let frame = framed(UPSTREAM_MAC, client.mac, &packet);
            self.send(Happening::Leaves(frame));
        }
    }

    fn station_hears(&mut self, at: usize, read: &Read<'_>) {
        match &read.body {
            Body::Tcp(_) => self.station_hears_tcp(at, read),
            Body::Udp(from, port, data) => {
                self.station_hears_udp(at, (read.source, *from), (read.destination, *port), data);
            }
            Body::Piece(piece) => {
                let Some(whole) = self.stations[at].pieces.add(read, piece) else { return };
                self.checks.counts.gathered += 1;
                match body(read.source, read.destination, piece.protocol, &whole) {
                    Ok(Body::Udp(from, port, data)) => {
                        self.station_hears_udp(at, (read.source, from), (read.destination, port), data);
                    }
                    other => panic!("what came in pieces isn't whole: {other:?}"),
                }
            }
            Body::Other => {}
        }
    }

    fn station_hears_tcp(&mut self, at: usize, read: &Read<'_>) {
        let Some((tcp, client, local)) = read.tcp() else { return };
        let (now_ms, mut out) = (self.now_ms(), Vec::new());
        let refuses = self.stations[at].refuses;
        let listener = self.stations[at].listener(tcp.dst_port).filter(|_| !refuses).map(|(id, _)| id);
        match listener {
            Some(id) => {
                self.check_segment(at, id, read);
                let Some(instance) = self.stations[at].instances.get_mut(&id) else { return };
                match instance.server.receive(client, local, tcp, now_ms, &mut self.random, &mut out) {
                    Ok(begins) => begins.into_iter().for_each(|number| self.begins(number)),
                    Err(wrong) => self.check_wrong(at, id, wrong, read),
                }
            }
            None => out.extend(reset(local, client, tcp)),
        }
        self.station_sends(at, out);
    }

    fn station_hears_udp(&mut self, at: usize, from: End, to: End, data: &[u8]) {
        let Some(id) = self.stations[at].listener(to.1).map(|(id, _)| id) else { return };
        let Some(said) = Said::read(data) else { return };
        said.check(data).unwrap_or_else(|wrong| panic!("an instance hears what nobody said: {wrong:?}"));
        self.check_datagram(at, id, &said);
        let Some(answer) = self.stations[at].answers(id, &said, to.0.is_ipv4()) else { return };
        let packet = udp(to, from, &answer);
        let out = if answer.len() < 1000 {
            vec![packet]
        } else {
            let station = &mut self.stations[at];
            station.piece += 1;
            cut(&packet, station.piece, 8 * self.random.within(100..=PIECE_MAX / 8) as usize)
        };
        self.station_sends(at, out);
    }

    /// What is said in the name of a service goes to its client directly, all else to the appliance.
    fn station_sends(&mut self, at: usize, packets: Vec<Vec<u8>>) {
        let station = &self.stations[at];
        if station.cut || !station.up {
            return;
        }
        let (mac, own) = (station.mac, station.addresses);
        for (others, bytes) in packets.into_iter().enumerate() {
            let Ok(read) = packet(&bytes) else { continue };
            if own.contains(&read.source) {
                self.send_after(others, Happening::Arrives(LAN, framed(mac, LAN_MAC, &bytes)));
            } else if let Some(client) =
                self.clients.iter().find(|one| one.addresses.contains(&read.destination))
            {
                let frame = framed(mac, client.mac, &bytes);
                self.send_after(others, Happening::Leaves(frame));
            }
        }
    }

    pub(crate) fn station_steps(&mut self, at: usize, step: Step) {
        let mut out = Vec::new();
        let now_ms = self.now_ms();
        if let Step::Stop(id) = step
            && let Some(instance) = self.stations[at].instances.get(&id)
            && instance.server.is_busy()
            && instance.stops_ms.is_some_and(|stops| stops > now_ms)
        {
            return self.at(self.now.plus(20 * MS), Happening::Step(at, step));
        }
        if matches!(step, Step::Fail(_) | Step::Stop(_)) {
            self.checks.health.troubled.insert(at);
            if self.checks.health.shaken {
                self.note_rough();
            }
        }
        let said = self.stations[at].step(step, now_ms, &mut out);
        self.trace(|| format!("node {at}: {step:?}: {said:?}"));
        if let Some(up) = said {
            self.node_says(at, up);
        }
        self.station_sends(at, out);
    }

    pub(crate) fn poll_servers(&mut self) {
        let now_ms = self.now_ms();
        for at in 0..self.stations.len() {
            let mut out = Vec::new();
            for instance in self.stations[at].instances.values_mut() {
                if instance.server.due_ms().is_some_and(|due| due <= now_ms) {
                    instance.server.poll(now_ms, &mut out);
                }
            }
            self.station_sends(at, out);
        }
    }
}

fn brief(read: &Read<'_>) -> String {
    match &read.body {
        Body::Tcp(tcp) => format!(
            "{}:{} > {}:{} {:?} {} {:?} +{}",
            read.source,
            tcp.src_port,
            read.destination,
            tcp.dst_port,
            tcp.control,
            tcp.seq_number.0 as u32,
            tcp.ack_number.map(|number| number.0 as u32),
            tcp.payload.len()
        ),
        Body::Udp(from, to, data) => {
            format!("{}:{from} > {}:{to} udp +{}", read.source, read.destination, data.len())
        }
        Body::Piece(piece) => format!("{} > {} {piece:?}", read.source, read.destination),
        Body::Other => format!("{} > {} other", read.source, read.destination),
    }
}

/// No weather at all.
pub(crate) const FINE: Weather = Weather { loss: 0, twice: 0, delay_nanos: 300_000 };
const UPSTREAM_MAC: Mac = [2, 0, 0, 3, 0, 2];

//! The wires on both sides of the appliance, and who is at their other ends.

use std::net::IpAddr;

use millrace_fastpath::driver::PortId;

use crate::appliance::{LAN, WAN};
use crate::random::Digest;
use crate::scenario::UPSTREAM;
use crate::server::Wrong;
use crate::serving::Step;
use crate::wire::{Body, LAN_MAC, Mac, Read, WAN_MAC, asked, framed, here, read, reset, udp};
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

impl World {
    /// A frame on a wire, in the weather of now.
    pub(crate) fn send(&mut self, happening: Happening) {
        let copy = match &happening {
            _ if !self.random.percent(self.weather.twice) => None,
            Happening::Arrives(port, frame) => Some(Happening::Arrives(*port, frame.clone())),
            Happening::Leaves(frame) => Some(Happening::Leaves(frame.clone())),
            _ => None,
        };
        for one in copy.into_iter().chain([happening]) {
            self.send_one(one);
        }
    }

    fn send_one(&mut self, happening: Happening) {
        if !self.random.percent(self.weather.loss) {
            let at = self.now.plus(20_000 + self.random.below(self.weather.delay_nanos));
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
        let taken = self.appliance.net.deliver(port, queue as u16, frame);
        if taken {
            self.check_in(port, parsed.as_ref());
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
            match read(&frame) {
                Ok(Some(read)) => {
                    self.trace(|| format!("{} {}", if port == WAN { "wan" } else { "lan" }, brief(&read)));
                    self.check_out(port, &read);
                }
                Ok(None) => {}
                Err(what) => self.check_broken(what, &frame),
            }
            self.send(Happening::Leaves(frame));
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

    /// A frame of the appliance comes to where it was sent.
    pub(crate) fn leaves(&mut self, frame: &[u8]) {
        let Ok(Some(read)) = read(frame) else { return };
        let to = &frame[..6];
        if let Some(at) = self.clients.iter().position(|one| one.mac == to) {
            let packet = &frame[14..];
            match read.body {
                Body::Tcp(_) => self.clients[at].receive(packet, None),
                Body::Udp(from, to, data) => {
                    self.clients[at].receive(packet, Some(((read.source, from), to, data)));
                }
                Body::Other => {}
            }
        } else if let Some(at) = self.stations.iter().position(|one| one.mac == to) {
            if self.stations[at].up && !self.stations[at].cut {
                self.station_hears(at, &read);
            }
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
        let now_ms = self.now_ms();
        let mut out = Vec::new();
        let port = match &read.body {
            Body::Tcp(tcp) => tcp.dst_port,
            Body::Udp(_, port, _) => *port,
            Body::Other => return,
        };
        let listener = self.stations[at].listener(port).map(|(id, _)| id);
        if let Some(id) = listener {
            self.check_owner(at, id, read);
        }
        match (&read.body, listener) {
            (Body::Tcp(tcp), Some(id)) => {
                let (client, local) = ((read.source, tcp.src_port), (read.destination, tcp.dst_port));
                let Some(instance) = self.stations[at].instances.get_mut(&id) else { return };
                match instance.server.receive(client, local, tcp, now_ms, &mut self.random, &mut out) {
                    Ok(begins) => begins.into_iter().for_each(|number| self.begins(number)),
                    // A spliced flow that the appliance has forgotten goes on with numbers that nobody translates.
                    Err(Wrong::Acknowledgement) if self.has_forgotten() => {}
                    Err(wrong) => panic!("an instance hears what its client didn't say: {wrong:?}: {read:?}"),
                }
            }
            (Body::Tcp(tcp), None) => {
                out.extend(reset((read.destination, tcp.dst_port), (read.source, tcp.src_port), tcp));
            }
            (Body::Udp(from, port, data), Some(id)) => {
                let serves = self.stations[at].instances.get(&id).is_some_and(|one| one.server.serves);
                if serves {
                    let echo = [*data, &id.0.to_be_bytes()].concat();
                    out.push(udp((read.destination, *port), (read.source, *from), &echo));
                }
            }
            _ => {}
        }
        self.station_sends(at, out);
    }

    fn station_sends(&mut self, at: usize, packets: Vec<Vec<u8>>) {
        if self.stations[at].cut || !self.stations[at].up {
            return;
        }
        for packet in packets {
            let frame = framed(self.stations[at].mac, LAN_MAC, &packet);
            self.send(Happening::Arrives(LAN, frame));
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
        Body::Other => format!("{} > {} other", read.source, read.destination),
    }
}

/// No weather at all.
pub(crate) const FINE: Weather = Weather { loss: 0, twice: 0, delay_nanos: 300_000 };
const UPSTREAM_MAC: Mac = [2, 0, 0, 3, 0, 2];

//! Any frames, at any queues of several workers, while services and everything else in the tables change: the three laws
//! hold, no buffer is lost, no bound is passed, and what leaves can be read.
//!
//! An input is a list of steps, each a byte and what it says (see [`Run::take_step`]). Every input begins with the same tables
//! and with workers that know nothing, so that a crash is in its file alone; what costs most to make is made once.

#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::dns::{CookieKeys, RateLimit};
use millrace_fastpath::driver::{Driver, PortId, RxChecksum};
use millrace_fastpath::event::Event;
use millrace_fastpath::heap::{HeapDriver, HeapFrame};
use millrace_fastpath::packet::{L3, Meta};
use millrace_fastpath::queue::{Command, PARCELS_MAX, Punt};
use millrace_fastpath::slots::{Escalation, Phase, WakeId};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::tables::{InterfaceId, Names, NatPorts, Tables, View, Views};
use millrace_fastpath::trace::TraceBuffer;
use millrace_fastpath::wake::WakeLimit;
use millrace_fastpath::wire::ethernet::{self, Tags};
use millrace_fastpath::wire::quic_lb::{Layout, ServerId};
use millrace_fastpath::wire::{UDP, checksum, ipv4, tcp, udp};
use millrace_fastpath::worker::WorkerLimits;

#[path = "../../fastpath/tests/all/common/mod.rs"]
#[allow(dead_code, reason = "each target uses its own part of the bench")]
mod common;
#[path = "../../fastpath/tests/all/dns/fixture.rs"]
#[allow(dead_code, reason = "each target uses its own part of the fixture")]
mod fixture;

use common::{Bench, HOST_MAC, LAN, LAN_MAC, WAN, WAN_MAC, addr, cold_service, fixed_service, instance};

/// A fragment's two steps and its flow can be three workers' business.
const WORKERS: usize = 3;
const FLOWS: usize = 64;
const HOLDS: usize = 16;
/// Of each worker: at once, and a second.
const WAKES: u8 = 4;
/// Longer than any state is kept, in milliseconds.
const REST_MS: u64 = 7_200_000;

static LIMITS: LazyLock<WorkerLimits> = LazyLock::new(|| WorkerLimits {
    flows: FLOWS,
    holds: HOLDS,
    holds_per_prefix: 8,
    wakes: WakeLimit { per_second: WAKES.into(), burst: WAKES.into() },
    prefixes: 16,
});

/// One of everything that a service can be. Each is at its own ports (see [`Bench::set_service`]).
static SERVICES: LazyLock<Vec<Service>> = LazyLock::new(|| {
    let to = |forwarding| Service { forwarding, ..fixed_service() };
    let spliced = Service { handling: Handling::Splice, ..cold_service() };
    let fallback = Service { overflow: Overflow::Fallback, ..cold_service() };
    let forward = Service { handling: Handling::Forward, overflow: Overflow::Upstream, ..cold_service() };
    let layout = Layout::new(1, 2, 5, None).expect("a layout of the draft's");
    let backend = Instance { server_id: ServerId::new(&[1, 2]), ..instance(0, InstanceState::Ready) };
    vec![
        Service { source: SourceAddress::Appliance, ..fixed_service() },
        cold_service(),
        Service { overflow: Overflow::Rst, hold_packets_max: 2, ..cold_service() },
        // All services share their addresses here: any packet to them wakes this one.
        Service { trigger_flow: true, ..forward },
        Service { quic: vec![layout], instances: vec![backend], ..fixed_service() },
        spliced.clone(),
        Service { verify: Verify::Cookie, source: SourceAddress::Appliance, ..spliced },
        Service { verify: Verify::SecondSyn, dns_answer: DnsAnswer::WhenReady, ..cold_service() },
        to(Forwarding::L2),
        to(Forwarding::Ipip),
        to(Forwarding::Gue),
        Service { instances: fixed_service().instances, ..fallback },
    ]
});

/// The workers, the tables that every input begins with, and a driver of somebody else's.
static WORLD: LazyLock<Mutex<(Bench, Tables, HeapDriver)>> = LazyLock::new(|| {
    let mut bench = Bench::with_limits(WORKERS, &LIMITS);
    bench.tables.names = names();
    for (id, service) in (0..).zip(SERVICES.iter()) {
        bench.set_service(id, service.clone());
    }
    let tables = bench.tables.clone();
    let other = bench.net.drivers().swap_remove(0);
    Mutex::new((bench, tables, other))
});

static NAMES: LazyLock<Names> = LazyLock::new(|| fixture::names().expect("the fixture is sound"));

fn names() -> Names {
    NAMES.clone()
}

fuzz_target!(|input: &[u8]| {
    let mut world = WORLD.lock().expect("a panic ends the process");
    let (bench, tables, other) = &mut *world;
    bench.tables = tables.clone();
    for id in 0..SERVICES.len() as u16 {
        bench.set_phase(id, Phase::Cold);
        bench.shared.slots.get(ServiceId(id)).set_strikes(0, Escalation::None);
    }
    bench.start(&LIMITS);
    let mut run = Run { bench, other, wakes: Vec::new(), passed_ms: 0, taken: Vec::new() };
    let mut rest = input;
    while let Some((step, after)) = rest.split_first() {
        rest = run.take_step(*step, after);
    }
    run.end();
});

/// One input's way.
struct Run<'a> {
    bench: &'a mut Bench,
    other: &'a mut HeapDriver,
    /// The wakes that the slowpath has heard of.
    wakes: Vec<(ServiceId, WakeId)>,
    passed_ms: u64,
    /// Frames that somebody else keeps from the pool.
    taken: Vec<HeapFrame>,
}

impl Run<'_> {
    /// Does what a step says, with as much of `rest` as it needs, and gives back what is left.
    ///
    /// | step | |
    /// |---|---|
    /// | below `c0` | a frame: bit 0 its port, 1 to 3 its queue, 4 an answer for who asked for a neighbour, 5 no turn yet, 6 as it is |
    /// | `c_` | time passes |
    /// | `d_` | the tables change |
    /// | `e_` | a service's phase changes, and how many strikes it has |
    /// | `f_` | ports, pools, the slowpath |
    fn take_step<'a>(&mut self, step: u8, rest: &'a [u8]) -> &'a [u8] {
        let (argument, after) = rest.split_first().map_or((0, rest), |(first, after)| (*first, after));
        let id = u16::from(argument) % SERVICES.len() as u16;
        match step >> 4 {
            12 => self.advance_ms(u64::from(argument) * if step & 8 == 0 { 16 } else { 1000 }),
            13 => self.change(step & 15, argument, id),
            14 => {
                let phases = [
                    Phase::Cold,
                    Phase::Waking,
                    Phase::Draining,
                    Phase::Quarantined,
                    Phase::Bypass,
                    Phase::Down,
                ];
                self.bench.set_phase(id, phases[usize::from(argument >> 4) % phases.len()]);
                let strikes = u32::from(step & 3);
                let levels = [Escalation::None, Escalation::SecondPacket, Escalation::Cookie];
                let level = levels[(strikes as usize).min(levels.len() - 1)];
                self.bench.shared.slots.get(ServiceId(id)).set_strikes(strikes, level);
            }
            15 => match step & 15 {
                0 | 1 => self.bench.net.limit_transmit(port(step), limit(argument)),
                2 => self.command(Command::Trace(Box::new(TraceBuffer::new(argument.into())))),
                3 => self.command(Command::Flows(Vec::with_capacity(argument.into()))),
                4 => return self.inject(argument, after),
                5 => {
                    self.bench.workers[usize::from(argument) % WORKERS].poll();
                    return after;
                }
                6 => self.leave_in_pool(argument.into()),
                _ => self.taken.drain(..).for_each(|frame| self.other.free(frame)),
            },
            _ => return self.deliver(step, rest),
        }
        self.check_sent();
        after
    }

    fn advance_ms(&mut self, ms: u64) {
        self.bench.advance_ms(ms);
        self.passed_ms += ms;
    }

    /// Changes the tables.
    fn change(&mut self, what: u8, argument: u8, id: u16) {
        let on = argument >= 128;
        let original = &SERVICES[usize::from(id)];
        let with = |instances: Vec<Instance>| Service { instances, ..original.clone() };
        let policy = &mut self.bench.tables.policy;
        match what {
            2 => return self.bench.set_service(id, with(Vec::new())),
            3 => return self.bench.set_service(id, with(vec![instance(1, InstanceState::Draining)])),
            4 => {
                // One more, which has no neighbour yet and takes whatever port the service has.
                let other = Instance {
                    addresses: [Some(addr("198.51.100.8")), None],
                    port: 0,
                    weight: 1 + u16::from(argument),
                    ..instance(2, InstanceState::Ready)
                };
                return self.bench.set_service(id, with(vec![instance(1, InstanceState::Ready), other]));
            }
            5 => {
                let mut services = (*self.bench.tables.services).clone();
                services.remove(ServiceId(id));
                self.bench.tables.services = services.into();
            }
            6 => return self.bench.set_service(id, original.clone()),
            7 if on => self.bench.tables.neighbours.insert(InterfaceId(1), addr("198.51.100.7"), HOST_MAC),
            7 => self.bench.tables.neighbours.remove(InterfaceId(1), addr("198.51.100.7")),
            8 => policy.cookies = CookieKeys::new(&fixture::COOKIE_SECRETS, 0).filter(|_| on),
            9 => {
                let limit = RateLimit {
                    responses_per_second: 1 + u32::from(argument & 3),
                    prefix_v4: 24,
                    prefix_v6: 56,
                    slip: argument & 3,
                };
                policy.rate_limit = Some(limit).filter(|_| on);
            }
            10 => self.bench.tables.names = if on { names() } else { Names::default() },
            11 => policy.nat_ports = if on { NatPorts::default() } else { NatPorts::new(40_000, 40_006) },
            12 => policy.dns_intercept = on,
            13 => {
                let slot = self.bench.shared.slots.get(ServiceId(id));
                return slot.set_handed(slot.load().1);
            }
            14 => {
                let inside = View { interfaces: vec![InterfaceId(1)], names: names(), ..View::default() };
                self.bench.tables.views = Views::new(if on { vec![inside] } else { Vec::new() });
            }
            _ if self.bench.tables.services.get(ServiceId(id)).is_some() => {
                return self.bench.make_ready(id);
            }
            _ => return,
        }
        self.bench.publish();
    }

    /// A frame: two bytes of length, its bytes. Addresses and checksums are set right mostly, for no luck finds them.
    fn deliver<'a>(&mut self, step: u8, rest: &'a [u8]) -> &'a [u8] {
        let Some((bytes, rest)) = chunk(rest) else { return &[] };
        let mut frame = bytes.to_vec();
        if step & 0x40 == 0 && frame.len() >= ethernet::HEADER {
            frame[..6].copy_from_slice(if port(step) == WAN { &WAN_MAC } else { &LAN_MAC });
            let len = Tags::read(&frame).map_or(0, |(_, len)| len);
            let at = ethernet::HEADER + len;
            let header_len = frame.get(at).map_or(0, |first| usize::from(first & 15) * 4);
            if header_len >= ipv4::HEADER && frame.len() >= at + header_len && frame[at] >> 4 == 4 {
                ipv4::fill_checksum(&mut frame[at..], header_len);
            }
            fill_transport_checksum(&mut frame, len);
        }
        let queue = u16::from(step >> 1 & 7) % WORKERS as u16;
        self.bench.net.deliver(port(step), queue, &frame);
        if step & 0x20 == 0 {
            self.bench.run();
            self.check_sent();
        }
        self.hear(step & 0x10 != 0);
        rest
    }

    /// A frame of the slowpath's, which sends none that can't be read.
    fn inject<'a>(&mut self, argument: u8, rest: &'a [u8]) -> &'a [u8] {
        let Some((bytes, rest)) = chunk(rest) else { return &[] };
        let queues = &self.bench.shared.workers[usize::from(argument) % WORKERS].queues;
        if bytes.len() <= ethernet::HEADER + 1500
            && Meta::parse(bytes, bytes.len(), RxChecksum::Unknown).is_ok()
            && let Some(mut empty) = queues.injects_empty.pop()
        {
            assert!(empty.fill(bytes), "parcels are all of one size");
            // Some lead nowhere.
            empty.interface = InterfaceId(u16::from(argument >> 4));
            queues.injects.push(empty).expect("there is room for all that go round");
        }
        rest
    }

    fn command(&mut self, command: Command) {
        // A slowpath that asks too much is told so.
        let _ = self.bench.shared.workers[0].queues.commands.push(command);
        self.bench.run();
    }

    fn leave_in_pool(&mut self, frames: usize) {
        while self.bench.net.free_frames() > frames {
            self.taken.extend(self.other.allocate(WAN));
        }
    }

    /// Empties the queues to the slowpath; what asked for a neighbour may come back with its address.
    fn hear(&mut self, answer: bool) {
        for event in self.bench.events() {
            if let Event::FirstPacket { service, wake, .. } = event {
                assert!(!self.wakes.contains(&(service, wake)), "each wake is notified once");
                self.wakes.push((service, wake));
            }
        }
        let share = u64::from(WAKES) * (1000 + self.passed_ms) / 1000 + 1;
        assert!(self.wakes.len() as u64 <= share * WORKERS as u64, "wakes are limited");
        for worker in &self.bench.shared.workers {
            let queues = &worker.queues;
            while queues.replies.pop().is_some() {}
            while let Some(mut parcel) = queues.punts.pop() {
                let resolved = parcel.punt == Punt::NeighbourUnknown && answer;
                if resolved && let Some(mut empty) = queues.injects_empty.pop() {
                    ethernet::set_addresses(parcel.bytes_mut(), HOST_MAC, LAN_MAC);
                    assert!(empty.fill(parcel.bytes()), "parcels are all of one size");
                    empty.interface = parcel.interface;
                    queues.injects.push(empty).expect("there is room for all that go round");
                }
                queues.punts_empty.push(parcel).expect("there is room for all that go round");
            }
        }
    }

    /// What leaves has headers that can be read, right lengths, a right IPv4 checksum, and room on its link.
    fn check_sent(&self) {
        for port in [WAN, LAN] {
            while let Some(mut frame) = self.bench.net.take(port) {
                let (_, len) = Tags::read(&frame).expect("what is sent has its tags");
                frame.drain(12..12 + len);
                match Meta::parse(&frame, frame.len(), RxChecksum::Unknown) {
                    Ok(meta) => assert!(meta.ip_len <= 1500, "{meta:?}"),
                    Err(error) => panic!("{error:?}: {frame:02x?}"),
                }
            }
        }
    }

    /// Everything that is remembered runs out, and then nothing is missing.
    fn end(mut self) {
        self.taken.drain(..).for_each(|frame| self.other.free(frame));
        for port in [WAN, LAN] {
            self.bench.net.limit_transmit(port, usize::MAX);
        }
        self.bench.run();
        self.check_sent();
        for worker in &self.bench.shared.workers {
            let fates = &worker.counters.fates;
            assert!(fates.flows.get() <= FLOWS as u64 && fates.still_held.get() <= HOLDS as u64);
        }
        self.bench.check_laws();
        // A poll's sweep looks at sixteen flows.
        for _ in 0..FLOWS / 16 + 1 {
            self.advance_ms(REST_MS);
            self.bench.run();
            self.check_sent();
            self.hear(false);
        }
        self.bench.check_laws();
        let fates = self.bench.fates();
        let workers = &self.bench.shared.workers;
        let flows: u64 = workers.iter().map(|worker| worker.counters.fates.flows.get()).sum();
        assert_eq!((flows, fates.still_held), (0, 0), "nothing is remembered for longer");
        for worker in workers {
            let queues = &worker.queues;
            let empty = (queues.punts_empty.len(), queues.injects_empty.len());
            assert_eq!(empty, (PARCELS_MAX, PARCELS_MAX), "no parcel is lost");
            assert!(queues.commands.is_empty(), "nobody waits for an answer");
        }
    }
}

/// The checksum of a frame's TCP or UDP packet, behind `tags` bytes of tags; none stays none.
fn fill_transport_checksum(frame: &mut [u8], tags: usize) {
    let untagged = [&frame[..12], &frame[12 + tags..]].concat();
    let Ok(meta) = Meta::parse(&untagged, untagged.len(), RxChecksum::Unknown) else { return };
    if !meta.has_ports() {
        return;
    }
    let start = usize::from(meta.l4);
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (len, at) = match meta.protocol {
        UDP => (usize::from(word(&untagged, start + udp::LENGTH)), udp::CHECKSUM),
        _ => (L3 + usize::from(meta.ip_len) - start, tcp::CHECKSUM),
    };
    let transport = &mut frame[start + tags..][..len];
    if meta.protocol == UDP && word(transport, at) == 0 {
        return;
    }
    transport[at..at + 2].fill(0);
    let pseudo = checksum::pseudo_header(meta.source, meta.destination, meta.protocol, len);
    let sum = match !checksum::fold(pseudo + checksum::sum(transport)) {
        0 => 0xffff,
        sum => sum,
    };
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn port(step: u8) -> PortId {
    if step & 1 == 0 { WAN } else { LAN }
}

fn limit(argument: u8) -> usize {
    if argument < 128 { argument.into() } else { usize::MAX }
}

/// Two bytes of length and as many bytes; fewer, if the input ends before.
fn chunk(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = rest.split_first_chunk::<2>()?;
    Some(rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len())))
}

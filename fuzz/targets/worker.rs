//! Any frames, at any queues of several workers, with services in any phase: the three laws hold, no buffer is lost, and
//! what leaves can be read.
//!
//! An input is a list of steps, each a byte and what it says: a frame for a port and a queue, time that passes, a change
//! of the services, a port that is full, a frame that comes back from the slowpath. The workers outlive an input, for
//! making them costs more than running them; between two inputs everything that they remember runs out.

#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::driver::{PortId, RxChecksum};
use millrace_fastpath::packet::Meta;
use millrace_fastpath::queue::Punt;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::wire::ethernet::{self, Tags};
use millrace_fastpath::wire::ipv4;
use millrace_fastpath::wire::quic_lb::{Layout, ServerId};
use millrace_fastpath::worker::WorkerLimits;

#[path = "../../fastpath/tests/common/mod.rs"]
mod common;

use common::{Bench, HOST_MAC, LAN, LAN_MAC, WAN, WAN_MAC, cold_service, fixed_service, instance};

const WORKERS: usize = 3;
const FLOWS: usize = 64;
/// Longer than any state is kept, in milliseconds.
const REST_MS: u64 = 7_200_000;

static WORLD: LazyLock<Mutex<(Bench, Tables)>> = LazyLock::new(|| {
    let limits = WorkerLimits { flows: FLOWS, holds: 16, holds_per_prefix: 8, ..WorkerLimits::default() };
    let mut bench = Bench::with_limits(WORKERS, &limits);
    bench.set_service(0, Service { source: SourceAddress::Appliance, ..fixed_service() });
    bench.set_service(1, cold_service());
    bench.set_service(2, Service { overflow: Overflow::Rst, hold_packets_max: 2, ..cold_service() });
    let forward = Service { handling: Handling::Forward, overflow: Overflow::Upstream, ..cold_service() };
    bench.set_service(3, forward);
    let layout = Layout::new(1, 2, 5, None).expect("a layout of the draft's");
    let backend = Instance { server_id: ServerId::new(&[1, 2]), ..instance(0, InstanceState::Ready) };
    bench.set_service(4, Service { quic: vec![layout], instances: vec![backend], ..fixed_service() });
    let tables = bench.tables.clone();
    Mutex::new((bench, tables))
});

fuzz_target!(|input: &[u8]| {
    let mut world = WORLD.lock().expect("a panic ends the process");
    let (bench, tables) = &mut *world;
    let mut rest = input;
    while let Some((step, after)) = rest.split_first() {
        rest = take_step(*step, after, bench);
    }
    bench.run();
    check_sent(bench);
    bench.check_laws();
    settle(bench, tables);
});

/// Does what a step says, with as much of `rest` as it needs, and gives back what is left.
fn take_step<'a>(step: u8, rest: &'a [u8], bench: &mut Bench) -> &'a [u8] {
    let (argument, after) = rest.split_first().map_or((0, rest), |(first, after)| (*first, after));
    match step >> 4 {
        12 => bench.advance_ms(u64::from(argument) * 16),
        13 => bench.make_ready(u16::from(argument) % 5),
        14 => {
            let phases = [Phase::Cold, Phase::Waking, Phase::Draining, Phase::Quarantined, Phase::Bypass];
            bench.set_phase(1 + u16::from(argument) % 3, phases[usize::from(argument >> 4) % phases.len()]);
        }
        15 => bench
            .net
            .limit_transmit(port(step), if argument < 128 { usize::from(argument) } else { usize::MAX }),
        _ => return deliver(step, rest, bench),
    }
    check_sent(bench);
    after
}

fn port(step: u8) -> PortId {
    if step & 1 == 0 { WAN } else { LAN }
}

/// A frame: two bytes of length, its bytes. Addresses and checksum are set right mostly, for no luck finds them.
fn deliver<'a>(step: u8, rest: &'a [u8], bench: &mut Bench) -> &'a [u8] {
    let Some((len, rest)) = rest.split_first_chunk::<2>() else { return &[] };
    let (bytes, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
    let mut frame = bytes.to_vec();
    if step & 0x40 == 0 && frame.len() >= ethernet::HEADER {
        frame[..6].copy_from_slice(if port(step) == WAN { &WAN_MAC } else { &LAN_MAC });
        let len = Tags::read(&frame).map_or(0, |(_, len)| len);
        let at = ethernet::HEADER + len;
        let header_len = frame.get(at).map_or(0, |first| usize::from(first & 15) * 4);
        if header_len >= ipv4::HEADER && frame.len() >= at + header_len && frame[at] >> 4 == 4 {
            ipv4::fill_checksum(&mut frame[at..], header_len);
        }
    }
    let queue = u16::from(step >> 1 & 7) % WORKERS as u16;
    bench.net.deliver(port(step), queue, &frame);
    if step & 0x20 == 0 {
        bench.run();
        check_sent(bench);
    }
    give_back(step & 0x10 != 0, bench);
    rest
}

/// Empties the queues to the slowpath; what asked for a neighbour may come back with its address.
fn give_back(inject: bool, bench: &Bench) {
    bench.events();
    for worker in &bench.shared.workers {
        let queues = &worker.queues;
        while let Some(mut parcel) = queues.punts.pop() {
            let resolved = parcel.punt == Punt::NeighbourUnknown && inject;
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

/// What leaves has headers that can be read, with right lengths and a right IPv4 checksum.
fn check_sent(bench: &Bench) {
    for port in [WAN, LAN] {
        for mut frame in bench.sent(port) {
            let (_, len) = Tags::read(&frame).expect("what is sent has its tags");
            frame.drain(12..12 + len);
            let read = Meta::parse(&frame, frame.len(), RxChecksum::Unknown);
            assert!(read.is_ok(), "{read:?}: {frame:02x?}");
        }
    }
}

/// Back to the beginning, as far as the workers can tell.
fn settle(bench: &mut Bench, tables: &Tables) {
    for port in [WAN, LAN] {
        bench.net.limit_transmit(port, usize::MAX);
    }
    bench.tables = tables.clone();
    bench.publish();
    for id in 1..4 {
        bench.set_phase(id, Phase::Cold);
    }
    // A poll's sweep looks at sixteen flows.
    for _ in 0..FLOWS / 16 + 1 {
        bench.advance_ms(REST_MS);
        bench.run();
    }
    give_back(false, bench);
    bench.sent(WAN);
    bench.sent(LAN);
    let fates = bench.fates();
    let flows: u64 = bench.shared.workers.iter().map(|worker| worker.counters.fates.flows.get()).sum();
    assert_eq!((flows, fates.still_held), (0, 0), "nothing is remembered for longer");
}

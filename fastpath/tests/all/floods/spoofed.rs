//! A million SYNs with forged sources over a hundred services, ten of them cold, beside ten thousand connections.
//!
//! Limits: 32 768 flows over all workers, which the flood would fill nearly thirty times; 512 packets held per service,
//! 8192 per worker; 2048 frames in the pool, fewer than what is held. The flood comes at 200 000 SYNs a second, and every
//! instance answers every SYN, as a kernel would.

use std::collections::HashMap;

use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::worker::WorkerLimits;

use super::traffic::*;
use crate::common::random::Random;
use crate::common::*;

const SYNS: usize = 1_000_000;
const SERVICES: u16 = 100;
const COLD: u16 = 10;
const KNOWN: usize = 10_000;
/// Known connections that say nothing while the flood lasts.
const SILENT: usize = 1000;
const FLOWS: usize = 32_768;
/// SYNs of the flood in one millisecond, and packets of known connections, each way.
const SYNS_PER_MS: usize = 200;
const KNOWN_PER_MS: usize = 10;

/// The port of a service; its instances listen at ports that name it.
fn vip(service: u16) -> At {
    (VIP, 1000 + service)
}

fn client(n: usize) -> At {
    ([10, 1, (n >> 8) as u8, n as u8], 20_000 + (n % 7) as u16)
}

fn service_of(n: usize) -> u16 {
    COLD + (n % usize::from(SERVICES - COLD)) as u16
}

struct Flood {
    bench: Bench,
    /// The instance's port of each known connection.
    known: Vec<u16>,
    turn: usize,
}

/// What left while a millisecond's packets went through.
#[derive(Default)]
struct Left {
    /// By the client's side and by the instances': ends of each segment and its flags.
    wan: Vec<((At, At), u8)>,
    lan: Vec<((At, At), u8)>,
}

impl Flood {
    fn new(workers: usize) -> Self {
        let limits = WorkerLimits { flows: FLOWS / workers, ..WorkerLimits::default() };
        let mut bench = Bench::with_limits(workers, &limits);
        for id in 0..SERVICES {
            let ports = [10_000 + 2 * id, 10_001 + 2 * id];
            let instances = match id < COLD {
                true => Vec::new(),
                false => ports.map(|port| listening(port, 1, InstanceState::Ready)).to_vec(),
            };
            place(&mut bench, id, vip(id).1, Service { instances, ..cold_service() });
        }
        bench.publish();
        (COLD..SERVICES).for_each(|id| bench.set_phase(id, Phase::Ready));
        Self { bench, known: Vec::new(), turn: 0 }
    }

    /// Delivers frames and polls until all have gone through. The pool is looked at after every poll.
    fn run(&mut self, wan: &[[u8; 54]], lan: &[[u8; 54]]) -> Left {
        for (port, frames) in [(WAN, wan), (LAN, lan)] {
            for frame in frames {
                self.turn += 1;
                scatter(&self.bench, self.turn, port, frame);
            }
        }
        loop {
            let mut moved = 0;
            for worker in &mut self.bench.workers {
                moved += worker.poll();
                assert!(self.bench.net.free_frames() >= self.bench.frames / 2, "more than half is free");
            }
            if moved == 0 {
                break;
            }
        }
        let mut left = Left::default();
        for (port, list) in [(WAN, &mut left.wan), (LAN, &mut left.lan)] {
            while let Some(frame) = self.bench.net.take(port) {
                list.push((ends(&frame), flags(&frame)));
            }
        }
        left
    }

    /// Ten thousand clients connect: SYN, the instance's answer, and what the client says to that.
    fn connect(&mut self) {
        let from_client = |n: usize, flags| tcp(CLIENT_SIDE, client(n), vip(service_of(n)), flags, n as u32);
        for from in (0..KNOWN).step_by(SYNS_PER_MS) {
            let batch = from..(from + SYNS_PER_MS).min(KNOWN);
            let syns: Vec<_> = batch.clone().map(|n| from_client(n, SYN)).collect();
            let left = self.run(&syns, &[]);
            let reached: HashMap<At, u16> = left.lan.iter().map(|((from, to), _)| (*from, to.1)).collect();
            self.known.extend(batch.clone().map(|n| reached[&client(n)]));
            let answers: Vec<_> = batch.clone().map(|n| self.answer_of_instance(n, SYN | ACK)).collect();
            assert_eq!(self.run(&[], &answers).wan.len(), batch.len());
            let acknowledgements: Vec<_> = batch.clone().map(|n| from_client(n, ACK)).collect();
            assert_eq!(self.run(&acknowledgements, &[]).lan.len(), batch.len());
        }
    }

    fn answer_of_instance(&self, n: usize, flags: u8) -> [u8; 54] {
        tcp(HOST_SIDE, (HOST, self.known[n]), client(n), flags, 7)
    }

    /// One segment each way of these known connections; panics unless each goes where it always went.
    fn speak(&mut self, known: &[usize], flood: &[[u8; 54]]) -> Left {
        let said = known.iter().map(|n| tcp(CLIENT_SIDE, client(*n), vip(service_of(*n)), ACK, 9));
        let wan: Vec<_> = flood.iter().copied().chain(said).collect();
        let lan: Vec<_> = known.iter().map(|n| self.answer_of_instance(*n, ACK)).collect();
        let mut left = self.run(&wan, &lan);
        for n in known {
            let to = (client(*n), (HOST, self.known[*n]));
            let back = (vip(service_of(*n)), client(*n));
            for (list, expected) in [(&mut left.lan, to), (&mut left.wan, back)] {
                let at = list.iter().position(|(ends, flags)| (*ends, *flags) == (expected, ACK));
                list.swap_remove(at.unwrap_or_else(|| panic!("{expected:?} didn't pass")));
            }
        }
        left
    }
}

fn a_million_syns(workers: usize) {
    let mut flood = Flood::new(workers);
    flood.connect();
    let begun = |flood: &Flood| -> u64 {
        (0..SERVICES).map(|id| flood.bench.sum(|of| &of.service(ServiceId(id)).flows_begun)).sum()
    };
    assert_eq!(begun(&flood), KNOWN as u64);
    let mut random = Random(17);
    let (mut to_cold, mut passed, mut speaker) = (0, 0, SILENT);
    for _ in 0..SYNS / SYNS_PER_MS {
        flood.bench.advance_ms(1);
        let syns: Vec<_> = (0..SYNS_PER_MS)
            .map(|_| {
                let service = random.below(SERVICES.into()) as u16;
                to_cold += u64::from(service < COLD);
                tcp(CLIENT_SIDE, anybody(&mut random), vip(service), SYN, random.next() as u32)
            })
            .collect();
        let known: Vec<usize> = (speaker..speaker + KNOWN_PER_MS).collect();
        speaker = if speaker + 2 * KNOWN_PER_MS > KNOWN { SILENT } else { speaker + KNOWN_PER_MS };
        let left = flood.speak(&known, &syns);
        assert!(left.wan.is_empty(), "nothing is said to forged addresses but by instances");
        // They answer, to whom nobody is.
        let answer = |((from, to), _): &((At, At), u8)| tcp(HOST_SIDE, *to, *from, SYN | ACK, 5);
        let answers: Vec<_> = left.lan.iter().map(answer).collect();
        passed += answers.len() as u64;
        assert_eq!(flood.run(&[], &answers).wan.len(), answers.len());
    }
    let bench = &flood.bench;
    let service_drops = |name| bench.drops(NodeId::Service, name);
    assert_eq!(bench.wakes(), COLD.into(), "one a cold service, however many asked");
    // Each SYN to a service that is ready went to an instance.
    assert_eq!(passed, SYNS as u64 - to_cold);
    assert_eq!((service_drops("flow-table-full"), bench.sum(|of| &of.fates.flows_refused)), (0, 0));
    // Each to a cold one was held or refused, and the holds were full.
    let fates = bench.fates();
    let refused = ["hold-service-full", "hold-prefix-full", "hold-worker-full"].map(service_drops);
    assert_eq!(fates.held + refused.iter().sum::<u64>(), to_cold);
    assert!(refused[0] > to_cold / 4, "{refused:?} of {to_cold}");
    assert!(fates.still_held <= 512 * u64::from(COLD), "{} held", fates.still_held);
    assert_eq!(fates.expired, service_drops("hold-expired"));
    // Only the flood's own made room for the flood: nothing has expired yet.
    let (flows, evicted) = (bench.sum(|of| &of.fates.flows), bench.sum(|of| &of.fates.flows_evicted));
    assert_eq!(begun(&flood), KNOWN as u64 + passed);
    assert_eq!(flows + evicted, begun(&flood));
    assert!(flows <= FLOWS as u64);
    // Those who kept silent are as well known as the others.
    for from in (0..KNOWN).step_by(KNOWN_PER_MS) {
        let known: Vec<usize> = (from..from + KNOWN_PER_MS).collect();
        let left = flood.speak(&known, &[]);
        assert!(left.wan.is_empty() && left.lan.is_empty());
    }
    assert_eq!(begun(&flood), KNOWN as u64 + passed, "none of them had to begin again");
    flood.bench.check_laws();
}

#[test]
fn a_million_forged_syns_buy_ten_wakes_and_cost_no_connection() {
    a_million_syns(1);
}

#[test]
fn nor_do_they_where_four_workers_share_the_flows() {
    a_million_syns(4);
}

//! Five thousand held SYNs, and instances whose listen queues have room for 128.
//!
//! Limits: 6000 packets held for the service over all workers (a worker's share is a part of it, and flows aren't shared
//! out quite evenly), 32 of a prefix and worker. An instance takes 64 connections a millisecond off its queue; one that
//! takes fewer has to have a longer queue. What comes meanwhile and isn't held isn't paced.

use std::collections::{HashMap, HashSet};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::flow::FlowHasher;
use millrace_fastpath::flow::key::owner;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::worker::WorkerLimits;

use super::traffic::*;
use crate::common::*;

const HELD: usize = 5000;
const BACKLOG: usize = 128;
const TAKEN_PER_MS: usize = 64;
const STEP_US: usize = 100;
const VIP_AT: At = (VIP, 80);

/// Twenty of each /24.
fn client(n: usize) -> At {
    ([10, 7, (n / 20) as u8, 1 + (n % 20) as u8], 30_000)
}

/// Holds them all, makes these instances ready, and has each take what comes; how many milliseconds that took.
fn release(workers: usize, instances: &[Instance]) -> usize {
    let limits = WorkerLimits { flows: 8192, ..WorkerLimits::default() };
    let mut bench = Bench::with_limits(workers, &limits);
    let service = Service { hold_packets_max: 6000, ..cold_service() };
    place(&mut bench, 0, 80, service.clone());
    bench.publish();
    for n in 0..HELD {
        scatter(&bench, n, WAN, &tcp(CLIENT_SIDE, client(n), VIP_AT, SYN, n as u32));
        bench.run();
        if n % 100 == 99 {
            bench.advance_us(10);
        }
    }
    assert_eq!((bench.fates().still_held, bench.wakes()), (HELD as u64, 1));
    place(&mut bench, 0, 80, Service { instances: instances.to_vec(), ..service });
    bench.publish();
    bench.set_phase(0, Phase::Ready);

    let hasher = FlowHasher::new([7, 11]);
    let owner_of = |client: At| owner(hasher.hash(Addr::v4(client.0), client.1, 6), workers);
    let mut queues: HashMap<u16, usize> = HashMap::new();
    let mut last = vec![None; workers];
    let mut seen = HashSet::new();
    let mut steps = 0;
    while seen.len() < HELD {
        assert!(steps < 900_000 / STEP_US, "the deadline is near, and {} have left", seen.len());
        bench.run();
        while let Some(frame) = bench.net.take(LAN) {
            let (from, to) = ends(&frame);
            assert_eq!((to.0, flags(&frame)), (HOST, SYN));
            assert!(seen.insert(from), "{from:?} left twice");
            let number = sequence(&frame) as usize;
            assert_eq!(client(number), from);
            // Each worker has its own, and lets them go in the order in which they came.
            let before = last[owner_of(from)].replace(number);
            assert!(before < Some(number), "{number} after {before:?}");
            let queue = queues.entry(to.1).or_default();
            *queue += 1;
            assert!(*queue <= BACKLOG, "the listen queue of {} overflows", to.1);
        }
        steps += 1;
        let taken = TAKEN_PER_MS * STEP_US * steps / 1000 - TAKEN_PER_MS * STEP_US * (steps - 1) / 1000;
        queues.values_mut().for_each(|queue| *queue = queue.saturating_sub(taken));
        bench.advance_us(STEP_US as u64);
    }
    let reached: HashSet<u16> = queues.keys().copied().collect();
    let serving = instances.iter().filter(|instance| instance.state == InstanceState::Ready);
    assert_eq!(reached, serving.map(|instance| instance.port).collect());
    let fates = bench.fates();
    assert_eq!((fates.held, fates.released, fates.expired), (HELD as u64, HELD as u64, 0));
    assert_eq!(bench.drops(NodeId::Service, "hold-service-full"), 0);
    bench.check_laws();
    (steps * STEP_US).div_ceil(1000)
}

fn ready(port: u16, weight: u16) -> Instance {
    listening(port, weight, InstanceState::Ready)
}

#[test]
fn a_listen_queue_of_128_takes_them_all() {
    // The first turn is a part of one.
    let took = release(1, &[ready(8001, 1)]);
    assert!((78..=79).contains(&took), "{took} ms");
    // The worker with most of them is the last.
    let took = release(4, &[ready(8001, 1)]);
    assert!((78..=90).contains(&took), "{took} ms");
}

#[test]
fn several_instances_are_given_no_more_than_the_one_that_gets_most_can_take() {
    for workers in [1, 4] {
        // One after another gets 64 a millisecond on average, so that either's queue may grow by chance; the third leaves room.
        let took = release(workers, &[ready(8001, 3), ready(8002, 1)]);
        assert!((78..=90).contains(&took), "{took} ms");
        // Two more that don't serve yet, or any more, have no part in the pace.
        let others = [
            listening(8003, 9, InstanceState::Starting),
            listening(8004, 9, InstanceState::Draining),
            ready(8001, 1),
        ];
        let took = release(workers, &others);
        assert!((78..=90).contains(&took), "{took} ms");
        let took = release(workers, &[ready(8001, 4), ready(8002, 4), ready(8003, 3)]);
        assert!((38..=45).contains(&took), "{took} ms");
    }
}

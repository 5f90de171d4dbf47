//! Several workers: whose flow it is, and what crosses the rings.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::queue::PARCELS_MAX;
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

const VIP: End = ("203.0.113.10", 80);
const INSTANCE: End = ("198.51.100.7", 8080);

/// Delivers to a queue that depends on `n`, as a device that spreads without regard for flows would.
fn scatter(bench: &mut Bench, n: usize, port: PortId, frame: &[u8]) {
    let queue = (n % bench.workers.len()) as u16;
    assert!(bench.net.deliver(port, queue, frame));
}

fn spread_connections(source: SourceAddress) {
    let mut bench = Bench::new(4);
    bench.set_service(0, Service { source, ..fixed_service() });
    let mut returns = Vec::new();
    for port in 0..200u16 {
        scatter(&mut bench, usize::from(port), WAN, &syn(("10.9.9.9", 1000 + port), VIP, i32::from(port)));
        bench.run();
        let out = read(&bench.sent(LAN)[0]);
        returns.push((1000 + port, out.from));
    }
    let begun: Vec<u64> =
        bench.shared.workers.iter().map(|w| w.counters.service(ServiceId(0)).flows_begun.get()).collect();
    assert_eq!(begun.iter().sum::<u64>(), 200);
    assert!(begun.iter().all(|flows| *flows > 20), "every worker owns its part: {begun:?}");
    // Answers arrive at other queues than the requests did, and still find the flow.
    for (n, (client_port, from)) in returns.iter().enumerate() {
        let answer = host_segment(INSTANCE, (&from.0, from.1), TcpControl::Syn, b"");
        scatter(&mut bench, n + 3, LAN, &answer);
        bench.run();
        let back = read(&bench.sent(WAN)[0]);
        assert_eq!((back.from, back.to), (end(VIP), end(("10.9.9.9", *client_port))));
    }
    assert!(bench.fates().handed_in > 100, "frames did cross");
    bench.check_laws();
}

#[test]
fn a_flow_has_one_owner_whatever_queue_its_packets_come_by() {
    spread_connections(SourceAddress::Keep);
}

#[test]
fn a_translated_port_names_its_worker() {
    spread_connections(SourceAddress::Appliance);
}

#[test]
fn many_queues_make_one_notification_and_the_shares_add_up() {
    let mut bench = Bench::new(4);
    bench.set_service(0, Service { hold_packets_max: 16, ..cold_service() });
    for port in 0..400u16 {
        scatter(&mut bench, usize::from(port), WAN, &syn(("10.9.9.9", 1000 + port), VIP, 1));
    }
    bench.run();
    assert_eq!(bench.wakes(), 1);
    assert_eq!(bench.fates().still_held, 16);
    bench.make_ready(0);
    for _ in 0..10 {
        bench.run();
        bench.advance_ms(1);
    }
    assert_eq!(bench.sent(LAN).len(), 16);
    bench.check_laws();
}

#[test]
fn a_full_ring_is_counted_and_empties_again() {
    let mut bench = Bench::new(2);
    bench.set_service(0, fixed_service());
    // Only worker 0 receives, and only worker 0 runs: what belongs to the other waits on the ring.
    let mut sent = 0;
    for port in 0..4000u16 {
        bench.deliver(WAN, &syn(("10.9.9.9", 1000 + port), VIP, 1));
        bench.workers[0].poll();
        sent += bench.sent(LAN).len();
    }
    let behind = bench.drops(millrace_fastpath::node::NodeId::Classify, "owner-behind");
    assert!(behind > 0);
    bench.run();
    sent += bench.sent(LAN).len();
    assert_eq!(sent as u64 + behind, 4000);
    bench.check_laws();
}

/// Waits for another thread to have done something.
fn until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::yield_now();
    }
}

#[test]
fn what_is_on_the_rings_when_the_workers_stop_still_leaves() {
    let mut bench = Bench::new(2);
    bench.set_service(0, fixed_service());
    let (shared, net) = (bench.shared.clone(), bench.net.clone());
    let fates = |worker: usize| &shared.workers[worker].counters.fates;
    let (first, second) = (AtomicBool::new(false), AtomicBool::new(true));
    let mut workers = bench.workers.drain(..);
    let (receiver, owner) = (workers.next().unwrap(), workers.next().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| receiver.run(&first));
        until(|| fates(0).polls.get() > 0);
        // The other is told to stop at once, and ends only when nothing can come from the first any more.
        scope.spawn(|| owner.run(&second));
        for round in 1..=10 {
            for port in 0..100 {
                assert!(net.deliver(WAN, 0, &syn(("10.9.9.9", 1000 * round + port), VIP, 1)));
            }
            until(|| fates(0).received.get() == 100 * u64::from(round));
        }
        first.store(true, Ordering::Relaxed);
    });
    drop(workers);
    assert!(fates(0).handed_out.get() > 300, "about half of the flows are the other's");
    assert_eq!(bench.sent(LAN).len(), 1000);
    bench.check_laws();
}

#[test]
fn what_the_slowpath_has_sent_when_the_workers_stop_still_leaves() {
    let mut bench = Bench::new(1);
    let queues = &bench.shared.workers[0].queues;
    for _ in 0..PARCELS_MAX {
        let mut parcel = queues.injects_empty.pop().unwrap();
        assert!(parcel.fill(&[0; 60]));
        parcel.interface = InterfaceId(1);
        queues.injects.push(parcel).unwrap();
    }
    bench.workers.remove(0).run(&AtomicBool::new(true));
    assert_eq!(bench.sent(LAN).len(), PARCELS_MAX);
    bench.check_laws();
}

#[test]
fn snapshots_are_freed_only_after_every_worker_has_left_them() {
    let mut bench = Bench::new(2);
    let old = std::sync::Arc::downgrade(&bench.shared.tables());
    bench.publish();
    assert!(old.upgrade().is_some(), "both workers may still read it");
    bench.workers[0].poll();
    bench.publisher.collect();
    assert!(old.upgrade().is_some(), "one worker may still read it");
    bench.workers[1].poll();
    bench.publisher.collect();
    assert!(old.upgrade().is_none());
}

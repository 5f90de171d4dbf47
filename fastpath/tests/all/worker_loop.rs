//! What the loop may not do: allocate, free, or call the system. And what no input may do to it.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::clock::{Clock, Nanos};
use millrace_fastpath::dns::{CookieKeys, RateLimit};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::heap::{HeapNet, HeapPlan};
use millrace_fastpath::hub::{Inlet, Lane, Way};
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::names::{HashKey, NameBinding, Record, RecordData, Soa, WireName, Zone};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::tables::{Hub, InterfaceId, Names, Tables};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};
use proptest::prelude::*;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Frames that reach every node: transit, a known and many new flows, a cold service, a query, ARP, rubbish; and what is
/// rare: errors of ours and of others, fragments, options, extension headers.
fn mixture() -> Vec<Vec<u8>> {
    let mut frames = vec![
        client_udp(("10.9.9.9", 1), ("198.51.100.7", 9), b"transit"),
        client_udp(("10.9.9.9", 1), ("198.51.100.99", 9), b"to a neighbour that nobody knows"),
        client_udp(("2001:db8:9::9", 1), ("2001:db8:1::7", 9), b"transit"),
        client_udp(
            ("10.9.9.9", 1),
            ("192.0.2.53", 53),
            b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05hello\x02fn\x07example\0\0\x01\0\x01",
        ),
        query(b"\x05alias\x02fn\x07example\0", b""),
        query(b"\x03any\x01w\x02fn\x07example\0", b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08abcdefgh"),
        query(b"\x02no\x02fn\x07example\0", b""),
        host_segment(("198.51.100.7", 8080), ("10.9.9.9", 1000), smoltcp::wire::TcpControl::Psh, b"data"),
        vec![0xff; 60],
        vec![1],
    ];
    for port in 0..16 {
        frames.push(syn(("10.9.9.9", 1000 + port), ("203.0.113.10", 80), 1));
        frames.push(syn(("10.9.8.9", 1000 + port), ("203.0.113.10", 1080), 1));
        frames.push(segment(("10.9.9.9", 1000 + port), ("203.0.113.10", 80), b"GET /"));
    }
    let vip = ("203.0.113.10", 80);
    let answer = host_segment(vip, ("10.9.9.9", 1000), smoltcp::wire::TcpControl::Psh, b"data");
    frames.extend([
        with_ttl(&client_udp(("10.9.9.9", 1), ("198.51.100.7", 9), b"far"), 1),
        with_ttl(&segment(("10.9.9.9", 1000), vip, b"far"), 1),
        client_udp(("2001:db8:9::9", 1), ("2001:db8:1::7", 9), &[0; 1453]),
        icmp((CLIENT_MAC, WAN_MAC), "10.1.1.1", vip.0, (3, 1, 0), &answer[14..]),
        with_options(&segment(("10.9.9.9", 1001), vip, b"GET /"), &[1; 4]),
        with_extensions(
            &syn(("2001:db8:9::9", 1), ("2001:db8:f::10", 80), 1),
            &[(60, &[0, 1, 4, 0, 0, 0, 0])],
        ),
    ]);
    frames.extend(fragments(&segment(("10.9.9.9", 1002), vip, &[0; 200]), 1, &[64, 128]));
    frames.push(udp((CLIENT_MAC, [1, 0, 0x5e, 7, 7, 7]), ("10.9.9.9", 1), ("232.7.7.7", 9), b"content"));
    frames.push(client_udp(("10.9.9.9", 1), ("192.0.2.1", 6003), b"what a node missed"));
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&CLIENT_MAC);
    arp.extend_from_slice(&[0x08, 0x06]);
    arp.resize(60, 0);
    frames.push(arp);
    frames
}

/// A query for A, with an additional record if there is one.
fn query(name: &[u8], additional: &[u8]) -> Vec<u8> {
    let head = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
    client_udp(("10.9.9.9", 1), ("192.0.2.53", 53), &[&head, name, &[0, 1, 0, 1], additional].concat())
}

/// Tables with an alias, a wildcard and a bound name; cookies, and a rate limit that is soon reached.
fn set_names(tables: &mut Tables) {
    let name = |wire: &[u8]| WireName::from_wire(wire).unwrap();
    let record = |owner: &[u8], data| Record { owner: name(owner), ttl_seconds: 30, data };
    let (hello, ns1) = (name(b"\x05hello\x02fn\x07example\0"), name(b"\x03ns1\x02fn\x07example\0"));
    let zone = Zone {
        apex: name(b"\x02fn\x07example\0"),
        soa: Soa {
            primary: ns1.clone(),
            contact: ns1,
            serial: 1,
            refresh_seconds: 3600,
            retry_seconds: 600,
            expire_seconds: 86_400,
            minimum_ttl_seconds: 5,
        },
        ttl_seconds: 30,
        cold_ttl_seconds: 1,
        records: vec![
            record(b"\x05alias\x02fn\x07example\0", RecordData::Cname(hello.clone())),
            record(b"\x01*\x01w\x02fn\x07example\0", RecordData::A([192, 0, 2, 9].into())),
        ],
        bindings: vec![NameBinding {
            name: hello,
            service: ServiceId(1),
            v4: vec![[203, 0, 113, 10].into()],
            v6: vec![],
        }],
    };
    tables.names = Names::build(HashKey(1, 2), &[zone]).unwrap();
    tables.policy.cookies = CookieKeys::new(&[[7; 16]], 1_700_000_000_000_000_000);
    tables.policy.rate_limit =
        Some(RateLimit { responses_per_second: 20, prefix_v4: 24, prefix_v6: 56, slip: 2 });
}

#[test]
fn the_loop_allocates_and_frees_nothing() {
    let mut bench = Bench::new(2);
    set_names(&mut bench.tables);
    bench.set_service(0, Service { source: SourceAddress::Appliance, ..fixed_service() });
    // By any packet to the addresses that both share here.
    bench.set_service(1, Service { trigger_flow: true, ..cold_service() });
    let (lane, hub) = hub();
    bench.tables.hub = Some(Arc::clone(&hub));
    // A lane takes its memory when its worker first sees it.
    bench.publish();
    bench.run();
    let frames = mixture();
    let (mut polls, mut taken_in) = (0, 0);
    for round in 0..50 {
        // Holding, expiring and, in the second half, releasing; a new snapshot now and then.
        if round == 25 {
            bench.make_ready(1);
        }
        bench.publish();
        for (n, frame) in frames.iter().enumerate() {
            let port = if n == 4 { LAN } else { WAN };
            bench.net.deliver(port, (n % 2) as u16, frame);
        }
        put_segments(&lane);
        let workers = &mut bench.workers;
        let measured = allocation_counter::measure(|| {
            for _ in 0..8 {
                for worker in workers.iter_mut() {
                    worker.poll();
                    polls += 1;
                }
            }
        });
        assert_eq!((measured.count_total, measured.count_current), (0, 0), "round {round}");
        for port in [WAN, LAN] {
            while bench.net.take(port).is_some() {}
        }
        bench.events();
        while let Some(datagram) = hub.contents.take() {
            taken_in += datagram.bytes().len();
            hub.contents.give_back(datagram);
        }
        for worker in &bench.shared.workers {
            while let Some(parcel) = worker.queues.punts.pop() {
                worker.queues.punts_empty.push(parcel).unwrap();
            }
        }
        bench.advance_ms(100);
    }
    let fates = bench.fates();
    let errors: u64 = bench.shared.workers.iter().map(|w| w.counters.fates.errors_sent.get()).sum();
    assert!(errors >= 100, "errors are part of it: {errors}");
    let slipped: u64 =
        bench.shared.workers.iter().map(|worker| worker.counters.fates.responses_slipped.get()).sum();
    assert!(fates.answered > 100 && slipped > 0, "{} answered, {slipped} slipped", fates.answered);
    assert!(polls == 800 && fates.held > 0 && fates.released > 0 && fates.punted > 0 && fates.handed_in > 0);
    assert!(taken_in > 100 && lane.sent.get() > 50, "{taken_in} bytes, {} segments", lane.sent.get());
    bench.check_laws();
}

/// A hub with a lane to the first worker, that takes in what a client sends to a group, and hears nodes.
fn hub() -> (Arc<Lane>, Arc<Hub>) {
    let lane = Arc::new(Lane::new(0, 1_000_000_000));
    let mut hub = Hub { lanes: vec![Arc::clone(&lane)], ..Hub::default() };
    hub.accepted.insert((addr("10.9.9.9"), addr("232.7.7.7")), 0);
    hub.ports.insert((addr("192.0.2.1"), 6003), Inlet::Feedback(0));
    (lane, Arc::new(hub))
}

/// As many segments as the lane takes: to a port, and into a BIER that isn't there.
fn put_segments(lane: &Lane) {
    for way in [Way::Interface(InterfaceId(0)), Way::Interface(InterfaceId(2)), Way::Bier].into_iter().cycle()
    {
        let Some(mut segment) = lane.take_empty() else { break };
        assert!(segment.fill(way, &[&[2; 1442]]));
        lane.send(segment);
    }
}

struct MonotonicClock(Instant);

impl Clock for MonotonicClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn cycles(&self) -> u64 {
        self.now().0
    }
}

/// Set in the child that runs the loop under the filter; says whether the loop is to break the rule.
const CHILD: &str = "MILLRACE_TEST_SECCOMP";

/// The child: a worker whose thread may make no system call at all, or the process dies of it.
fn run_filtered(with_a_system_call: bool) {
    static DONE: AtomicBool = AtomicBool::new(false);
    let (net, mut drivers) =
        HeapNet::new(&HeapPlan { frames: 4096, rx_queue: 2048, tx_queue: 4096, ..HeapPlan::default() });
    let shared = Shared::new(1);
    let mut publisher = Publisher::new(shared.clone());
    let mut tables = tables();
    set_names(&mut tables);
    let mut services = Services::new();
    let endpoint = Endpoint { addr: addr("203.0.113.10"), port: 80, protocol: 6 };
    services.insert(ServiceId(0), Arc::new(cold_service()), &[endpoint]);
    tables.services = Arc::new(services);
    let (lane, hub) = hub();
    tables.hub = Some(hub);
    publisher.publish(tables);
    let limits = WorkerLimits { flows: 1024, holds: 64, ..WorkerLimits::default() };
    let clock = MonotonicClock(Instant::now());
    let mut worker = Worker::new(0, drivers.remove(0), clock, shared.clone(), Rings::new(1), [1, 2], &limits);
    put_segments(&lane);
    for frame in mixture().iter().cycle().take(1500) {
        assert!(net.deliver(PortId(0), 0, frame));
    }
    std::thread::spawn(move || {
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new([].into(), SeccompAction::KillProcess, SeccompAction::Allow, arch);
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        for _ in 0..20_000 {
            worker.poll();
        }
        if with_a_system_call {
            std::thread::yield_now();
        }
        DONE.store(true, Ordering::Release);
        // Ending the thread would take system calls; the process is ended by the other one.
        loop {
            std::hint::spin_loop();
        }
    });
    while !DONE.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let fates = millrace_fastpath::fates::Fates::read(&shared.workers[0].counters.fates);
    assert_eq!(fates.received, 1500);
    assert!(lane.sent.get() > 0);
    fates.check().unwrap();
    std::process::exit(0);
}

#[test]
fn the_loop_makes_no_system_call() {
    if let Ok(mode) = std::env::var(CHILD) {
        run_filtered(mode == "break");
    }
    let run = |mode: &str| {
        let test = "worker_loop::the_loop_makes_no_system_call";
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env(CHILD, mode)
            .output()
            .unwrap()
    };
    let kept = run("keep");
    assert!(kept.status.success(), "{kept:?}");
    let broken = run("break");
    assert_eq!(broken.status.signal(), Some(31), "the filter does bite: SIGSYS");
}

fn hostile_bench() -> Bench {
    let mut bench = Bench::new(2);
    bench.set_service(0, fixed_service());
    bench.set_service(1, cold_service());
    let by_flow = Service { trigger_flow: true, ..cold_service() };
    bench.set_service(2, Service { overflow: Overflow::Rst, hold_packets_max: 2, ..by_flow });
    bench.set_service(
        3,
        Service { handling: Handling::Forward, overflow: Overflow::Upstream, ..cold_service() },
    );
    bench
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (
        0..mixture().len(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(which, changes, cut, tag)| {
            let mut bytes = mixture()[which].clone();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut.index(4) == 0 {
                bytes.truncate(cut.index(bytes.len()) + 1);
            }
            if tag && bytes.len() > 14 { tagged(&bytes, 20) } else { bytes }
        });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 4 => mutated]
}

proptest! {
    #[test]
    fn any_bytes_have_a_fate(frames in prop::collection::vec((any_frame(), any::<bool>(), 0u16..2, 0u64..200), 1..60)) {
        let mut bench = hostile_bench();
        for (n, (frame, port, queue, pause)) in frames.iter().enumerate() {
            bench.net.deliver(if *port { WAN } else { LAN }, *queue, frame);
            bench.run();
            bench.advance_ms(*pause);
            match n % 16 {
                7 => bench.make_ready(1),
                11 => bench.set_phase(2, Phase::Bypass),
                13 => bench.set_phase(2, Phase::Cold),
                _ => {}
            }
        }
        bench.run();
        bench.check_laws();
    }
}

//! Workers on the heap driver, driven by hand: frames in, turns of the loop, frames out, and the laws at the end.

pub(crate) mod bier;
pub(crate) mod cable;
pub(crate) mod frames;
pub(crate) mod random;
pub(crate) mod zone;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::{Clock, Nanos};
use millrace_fastpath::counters::{Counter, WorkerCounters};
use millrace_fastpath::driver::{Driver, PortId};
use millrace_fastpath::event::Event;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::heap::{HeapDriver, HeapFrame, HeapNet, HeapPlan};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::interfaces::{Interface, Interfaces, Local};
use millrace_fastpath::tables::routes::{NextHop, Route};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::tables::{InterfaceId, Neighbours, Policy, Routes, Tables};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

pub(crate) const WAN: PortId = PortId(0);
pub(crate) const LAN: PortId = PortId(1);
pub(crate) const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
pub(crate) const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

pub(crate) fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

#[derive(Clone, Default)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Bench {
    pub net: HeapNet,
    pub shared: Arc<Shared>,
    pub publisher: Publisher,
    pub workers: Vec<Worker<HeapDriver, ManualClock>>,
    pub tables: Tables,
    pub frames: usize,
    rings: Arc<Rings<HeapFrame>>,
    clock: ManualClock,
}

impl Bench {
    pub(crate) fn new(workers: usize) -> Self {
        Self::with_limits(
            workers,
            &WorkerLimits { flows: 1024, holds: 256, holds_per_prefix: 256, ..Default::default() },
        )
    }

    pub(crate) fn with_limits(workers: usize, limits: &WorkerLimits) -> Self {
        let frames = 2048;
        let plan = HeapPlan { ports: 2, workers, frames, rx_queue: 1024, tx_queue: 2048 };
        let (net, _) = HeapNet::new(&plan);
        let shared = Shared::new(workers);
        let publisher = Publisher::new(shared.clone());
        let rings = Rings::new(workers);
        let clock = ManualClock::default();
        let mut bench =
            Self { net, shared, publisher, workers: Vec::new(), tables: tables(), frames, rings, clock };
        bench.start(limits);
        bench
    }

    /// Begins with `self.tables` and workers that know nothing, at the time when every bench begins. What costs most to make
    /// stays: frames, rings, counters.
    pub(crate) fn start(&mut self, limits: &WorkerLimits) {
        self.workers.clear();
        self.shared.triples.clear();
        self.clock.0.store(1_000_000_000, Ordering::Relaxed);
        self.publish();
        let worker = |(index, driver)| {
            let (clock, shared, rings) = (self.clock.clone(), self.shared.clone(), self.rings.clone());
            Worker::new(index, driver, clock, shared, rings, [7, 11], limits)
        };
        self.workers = self.net.drivers().into_iter().enumerate().map(worker).collect();
    }

    /// Takes all frames that nobody has but so many, until they are given back by [`Driver::free`].
    pub(crate) fn leave(&self, frames: usize) -> (HeapDriver, Vec<HeapFrame>) {
        let mut driver = self.net.drivers().remove(0);
        let taken = (frames..self.net.free_frames()).map_while(|_| driver.allocate(WAN)).collect();
        (driver, taken)
    }

    /// Publishes `self.tables` as they stand.
    pub(crate) fn publish(&mut self) {
        self.publisher.publish(self.tables.clone());
    }

    /// Sets a service at `203.0.113.10:80` and `[2001:db8:f::10]:80` over TCP, and UDP port 443. Any packet to these addresses
    /// wakes it if it says so; they should be its alone then.
    pub(crate) fn set_service(&mut self, id: u16, service: Service) {
        let flow = service.trigger_flow.then_some(ServiceId(id));
        let mut services = (*self.tables.services).clone();
        let endpoints: Vec<Endpoint> =
            [("203.0.113.10", 80, 6), ("2001:db8:f::10", 80, 6), ("203.0.113.10", 443, 17)]
                .map(|(text, port, protocol)| Endpoint { addr: addr(text), port: port + 1000 * id, protocol })
                .to_vec();
        services.insert(ServiceId(id), Arc::new(service), &endpoints);
        self.tables.services = Arc::new(services);
        if flow.is_some() {
            let interfaces = &self.tables.interfaces;
            let list = interfaces.iter().map(|(id, interface)| (id, interface.clone()));
            let locals = interfaces.locals().map(|(addr, local)| match local.service {
                true => (addr, Local { flow, ..local }),
                false => (addr, local),
            });
            self.tables.interfaces = Arc::new(Interfaces::with_ids(list, locals));
        }
        self.publish();
    }

    pub(crate) fn set_phase(&self, id: u16, phase: Phase) {
        self.shared.slots.get(ServiceId(id)).set_phase(phase);
    }

    /// Publishes a ready instance for the service, once, and says so.
    pub(crate) fn make_ready(&mut self, id: u16) {
        let mut service = (**self.tables.services.get(ServiceId(id)).unwrap()).clone();
        if service.instances.iter().all(|instance| instance.id != 1) {
            service.instances.push(instance(1, InstanceState::Ready));
            self.set_service(id, service);
        }
        self.set_phase(id, Phase::Ready);
    }

    pub(crate) fn advance_ms(&self, ms: u64) {
        self.advance_us(ms * 1000);
    }

    pub(crate) fn advance_us(&self, us: u64) {
        self.clock.0.fetch_add(us * 1000, Ordering::Relaxed);
    }

    /// The sum of one counter over all workers.
    pub(crate) fn sum(&self, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.shared.workers.iter().map(|worker| counter(&worker.counters).get()).sum()
    }

    pub(crate) fn deliver(&self, port: PortId, frame: &[u8]) {
        assert!(self.net.deliver(port, 0, frame), "queue and pool have room");
    }

    /// Polls all workers until none finds anything to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            if self.workers.iter_mut().map(Worker::poll).sum::<usize>() == 0 {
                return;
            }
        }
        panic!("the workers never come to rest");
    }

    pub(crate) fn deliver_and_run(&mut self, port: PortId, frame: &[u8]) {
        self.deliver(port, frame);
        self.run();
    }

    pub(crate) fn sent(&self, port: PortId) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.net.take(port)).collect()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared
            .workers
            .iter()
            .flat_map(|worker| std::iter::from_fn(|| worker.queues.events.pop()))
            .collect()
    }

    pub(crate) fn wakes(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::FirstPacket { .. })).count()
    }

    pub(crate) fn fates(&self) -> Fates {
        let mut sum = Fates::default();
        for worker in &self.shared.workers {
            sum.add(&Fates::read(&worker.counters.fates));
        }
        sum
    }

    pub(crate) fn drops(&self, node: NodeId, name: &str) -> u64 {
        let names = millrace_fastpath::node::drop_names(node);
        let at = names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no drop {name}"));
        self.shared.workers.iter().map(|worker| worker.counters.node(node).drops[at].get()).sum()
    }

    /// The three laws over all workers, what handed out and in must cancel, and every frame back in the pool.
    pub(crate) fn check_laws(&self) {
        let fates = self.fates();
        assert_eq!(fates.check(), Ok(()), "{fates:#?}");
        assert_eq!(fates.handed_in, fates.handed_out, "the rings are empty");
        assert_eq!(
            fates.released + fates.expired,
            fates.release_sent + fates.release_punted + fates.release_dropped,
            "what left a hold went somewhere: {fates:#?}"
        );
        for port in [WAN, LAN] {
            while self.net.take(port).is_some() {}
        }
        let lanes = self.tables.hub.iter().flat_map(|hub| &hub.lanes);
        let lent: usize = lanes.map(|lane| lane.lent()).sum();
        assert_eq!(self.net.free_frames() + lent, self.frames, "no frame is lost");
        for worker in &self.shared.workers {
            Fates::read(&worker.counters.fates).check().unwrap();
        }
    }
}

/// Two ports; clients on the one side, instances on the other, everything else by the first.
pub(crate) fn tables() -> Tables {
    let interface = |name: &str, port, vlan, mac, addresses: &[(&str, u8)]| Interface {
        name: name.into(),
        port,
        vlan,
        outer: None,
        mac,
        mtu: 1500,
        addresses: addresses.iter().map(|(text, len)| (addr(text), *len)).collect(),
    };
    let interfaces = vec![
        interface("wan", WAN, None, WAN_MAC, &[("192.0.2.1", 24), ("2001:db8::1", 64)]),
        interface("lan", LAN, None, LAN_MAC, &[("198.51.100.1", 24), ("2001:db8:1::1", 64)]),
        interface("lan.20", LAN, Some(20), LAN_MAC, &[("10.20.0.1", 24)]),
        Interface {
            outer: Some(100),
            ..interface("lan.100.20", LAN, Some(20), LAN_MAC, &[("10.30.0.1", 24)])
        },
    ];
    let host = Local { host: true, ..Local::default() };
    let service = Local { service: true, ..Local::default() };
    let dns = Local { dns: true, ..Local::default() };
    let own =
        interfaces.iter().flat_map(|interface| interface.addresses.clone()).map(|(addr, _)| (addr, host));
    let locals: Vec<(Addr, Local)> = own
        .chain([(addr("203.0.113.10"), service), (addr("2001:db8:f::10"), service)])
        .chain([(addr("192.0.2.53"), dns), (addr("2001:db8::53"), dns)])
        .collect();
    let on_link = |prefix: &str, len, interface| Route {
        prefix: addr(prefix),
        len,
        next_hop: NextHop { interface: InterfaceId(interface), via: None },
    };
    let by = |prefix: &str, via: &str| Route {
        prefix: addr(prefix),
        len: 0,
        next_hop: NextHop { interface: InterfaceId(0), via: Some(addr(via)) },
    };
    let routes = Routes::new(&[
        on_link("192.0.2.0", 24, 0),
        on_link("2001:db8::", 64, 0),
        on_link("198.51.100.0", 24, 1),
        on_link("2001:db8:1::", 64, 1),
        on_link("10.20.0.0", 24, 2),
        on_link("10.30.0.0", 24, 3),
        by("0.0.0.0", "192.0.2.254"),
        by("::", "2001:db8::fe"),
    ]);
    let mut neighbours = Neighbours::default();
    for gateway in ["192.0.2.254", "2001:db8::fe"] {
        neighbours.insert(InterfaceId(0), addr(gateway), CLIENT_MAC);
    }
    for host in ["198.51.100.7", "2001:db8:1::7"] {
        neighbours.insert(InterfaceId(1), addr(host), HOST_MAC);
    }
    neighbours.insert(InterfaceId(2), addr("10.20.0.7"), HOST_MAC);
    neighbours.insert(InterfaceId(3), addr("10.30.0.7"), HOST_MAC);
    Tables {
        interfaces: Arc::new(Interfaces::new(interfaces, locals)),
        routes: Arc::new(routes),
        neighbours,
        policy: Policy { dns_intercept: true, ..Policy::default() },
        ..Tables::default()
    }
}

pub(crate) fn instance(id: u64, state: InstanceState) -> Instance {
    Instance {
        id,
        addresses: [Some(addr("198.51.100.7")), Some(addr("2001:db8:1::7"))],
        port: 8080,
        weight: 1,
        state,
        down: [false; 2],
        slot: InstanceSlotId(id as u32),
        fixed: id == 0,
        server_id: None,
    }
}

/// A cold function's service that holds.
pub(crate) fn cold_service() -> Service {
    Service {
        name: "hello".into(),
        wakes: true,
        trigger_dns: true,
        trigger_syn: true,
        trigger_flow: false,
        handling: Handling::Hold,
        verify: Verify::None,
        dns_answer: DnsAnswer::Immediate,
        forwarding: Forwarding::Nat,
        source: SourceAddress::Keep,
        hold_packets_max: 512,
        hold_nanos_max: 900_000_000,
        overflow: Overflow::Drop,
        quic: Vec::new(),
        instances: Vec::new(),
    }
}

/// A service with one fixed backend.
pub(crate) fn fixed_service() -> Service {
    Service { wakes: false, instances: vec![instance(0, InstanceState::Ready)], ..cold_service() }
}

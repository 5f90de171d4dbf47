mod flows;
mod frames;
mod health;
mod link;
mod plant;
mod reload;
mod server_ids;
mod signals;
mod stopped;
mod strikes;
mod wakes;

use std::sync::Arc;

use millrace_fastpath::event::{Milestone, PacketFields, Trigger};
use millrace_fastpath::queue::Punt;
use millrace_fastpath::slots::WakeId;
use millrace_orchestrator_api::{
    Delta, Down, FirstPacket, Generation as Placed, Idle, Instance, InstanceId, InstanceState, MemoryLink,
    NoticeId, OrchestratorEnd, ServiceFailure, ServicePlacement, Snapshot, Up, memory_link,
};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use super::*;
use crate::host::SmolStack;
use crate::testing::{LAN, LAN_MAC, PEER_MAC, WAN, addr, config, ms, ports};

const HELLO: ServiceId = ServiceId(0);
const NODE: &str = "198.51.100.21";

/// What a reload to `config` carries, as the thread that read the files has drawn it up.
fn drafted<L: Link>(control: &Control<L>, config: &Arc<Config>) -> super::reload::Reload {
    let draft = control.builder.draft(config).unwrap().with_bier(config, &HashMap::new()).unwrap();
    let names = Some(draft.names(config, HashMap::new()).unwrap());
    super::reload::Reload { config: Arc::clone(config), draft, names, cookie_secrets: Vec::new() }
}

/// The control loop between workers that the test plays, and an orchestrator that the test plays.
struct Bench {
    control: Control<MemoryLink>,
    shared: Arc<Shared>,
    orchestrator: Option<OrchestratorEnd>,
    now: Nanos,
    generation: u64,
    /// Workers take up new tables by themselves.
    follow: bool,
}

impl Bench {
    /// Two workers, a link for `capacity` messages, nothing in step yet.
    fn cold(capacity: usize) -> Self {
        Self::of(&config(), capacity)
    }

    fn of(config: &Config, capacity: usize) -> Self {
        let shared = Shared::new(2);
        let (link, orchestrator) = memory_link(capacity);
        let settings =
            Settings { boot: 7, names_key: HashKey(1, 2), unix_offset_nanos: 5, ..Settings::default() };
        let host = Box::new(SmolStack::new(config, 1));
        let control =
            Control::new(config, &ports(), Arc::clone(&shared), link, host, settings, ms(0)).unwrap();
        Self { control, shared, orchestrator: Some(orchestrator), now: ms(0), generation: 0, follow: true }
    }

    /// The same, after the first snapshot; the static routes' and backends' neighbours are known.
    fn new() -> Self {
        let mut bench = Self::cold(16);
        bench.turn();
        assert_eq!(bench.ups(), [Up::Resync]);
        bench.snapshot(vec![]);
        bench.turn();
        bench.turn();
        bench.ups();
        bench
    }

    fn turn(&mut self) {
        self.turn_at(0);
    }

    fn turn_at(&mut self, later_ms: u64) {
        self.now = self.now.plus(later_ms * 1_000_000 + 1000);
        self.control.turn(self.now);
        if self.follow {
            self.take_up();
        }
    }

    fn take_up(&mut self) {
        for worker in 0..2 {
            self.shared.set_epoch(worker, self.shared.tables().generation);
        }
    }

    fn ups(&mut self) -> Vec<Up> {
        let end = self.orchestrator.as_mut().unwrap();
        std::iter::from_fn(|| end.try_receive()).collect()
    }

    fn notices(&mut self) -> Vec<FirstPacket> {
        let notice = |up| match up {
            Up::FirstPacket(notice) => Some(notice),
            _ => None,
        };
        self.ups().into_iter().filter_map(notice).collect()
    }

    fn down(&mut self, down: Down) {
        self.orchestrator.as_mut().unwrap().send(down).unwrap();
    }

    fn snapshot(&mut self, instances: Vec<Instance>) {
        self.generation += 1;
        let services = vec![placement(instances, None)];
        self.down(Down::Snapshot(Snapshot { generation: Placed(self.generation), services }));
    }

    fn delta(&mut self, instances: Vec<Instance>, failure: Option<ServiceFailure>) {
        self.generation += 1;
        let (from, to) = (Placed(self.generation - 1), Placed(self.generation));
        self.down(Down::Delta(Delta { from, to, changes: vec![placement(instances, failure)] }));
    }

    /// What a worker does with the first query for a cold service's name.
    fn first_packet(&mut self, worker: usize) -> Option<WakeId> {
        self.first_packet_by(worker, Trigger::Dns { query_type: 28 })
    }

    fn first_packet_by(&mut self, worker: usize, trigger: Trigger) -> Option<WakeId> {
        let wake = self.slot().begin_wake()?;
        self.tell(
            worker,
            Event::FirstPacket { service: HELLO, wake, trigger, at: self.now, fields: first_fields() },
        );
        Some(wake)
    }

    /// What a worker says.
    fn tell(&self, worker: usize, event: Event) {
        self.shared.workers[worker].queues.events.push(event).unwrap();
    }

    fn slot(&self) -> &millrace_fastpath::slots::ServiceSlot {
        self.shared.slots.get(HELLO)
    }

    fn phase(&self) -> Phase {
        self.slot().load().0
    }

    /// The node answers ARP.
    fn node_answers(&mut self) {
        self.punt(0, LAN, Punt::Host, Addr::default(), &arp_reply(NODE, PEER_MAC));
    }

    fn punt(&mut self, worker: usize, interface: InterfaceId, punt: Punt, next_hop: Addr, frame: &[u8]) {
        let queues = &self.shared.workers[worker].queues;
        let mut parcel = queues.punts_empty.pop().expect("parcels go round");
        assert!(parcel.fill(frame));
        (parcel.punt, parcel.interface, parcel.next_hop) = (punt, interface, next_hop);
        queues.punts.push(parcel).unwrap();
    }

    /// What the workers were given to send.
    fn sent(&mut self) -> Vec<(InterfaceId, Vec<u8>)> {
        let mut sent = Vec::new();
        for worker in &self.shared.workers {
            while let Some(parcel) = worker.queues.injects.pop() {
                sent.push((parcel.interface, parcel.bytes().to_vec()));
                worker.queues.injects_empty.push(parcel).unwrap();
            }
        }
        sent
    }

    fn ready(&mut self) {
        self.ready_by(Trigger::Syn);
    }

    fn ready_by(&mut self, trigger: Trigger) {
        self.first_packet_by(0, trigger).expect("it is cold");
        self.turn();
        self.delta(vec![instance(1, InstanceState::Ready)], None);
        self.turn();
        self.node_answers();
        self.turn();
        self.turn();
        assert_eq!(self.phase(), Phase::Ready);
        self.ups();
    }
}

/// The header fields of a client's SYN to the service.
fn first_fields() -> PacketFields {
    PacketFields {
        interface: WAN,
        source_mac: PEER_MAC,
        destination_mac: [2, 0, 0, 0, 0, 1],
        source: addr("192.0.2.200"),
        destination: addr("203.0.113.10"),
        protocol: 6,
        length: 60,
        flow_label: 0,
    }
}

fn instance(id: u64, state: InstanceState) -> Instance {
    Instance {
        id: InstanceId(id),
        node: "fn1".into(),
        state,
        ipv4_address: Some(NODE.parse().unwrap()),
        ipv6_address: None,
        port: 9000,
        weight: 1,
    }
}

fn placement(instances: Vec<Instance>, failure: Option<ServiceFailure>) -> ServicePlacement {
    ServicePlacement { service: "hello".into(), instances, failure }
}

fn failure(sequence: u64) -> ServiceFailure {
    let notice = NoticeId { site: "edge-42".into(), boot: 7, sequence };
    ServiceFailure { notices: vec![notice], reason: "no room".into() }
}

fn arp_reply(of: &str, mac: [u8; 6]) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: of.parse().unwrap(),
        target_hardware_addr: EthernetAddress(LAN_MAC),
        target_protocol_addr: "198.51.100.1".parse().unwrap(),
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac),
        dst_addr: EthernetAddress(LAN_MAC),
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; 42];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

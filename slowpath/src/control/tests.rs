mod flows;
mod reload;
mod stopped;
mod strikes;

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
    let draft = control.builder.draft(config).unwrap();
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
        let shared = Shared::new(2);
        let (link, orchestrator) = memory_link(capacity);
        let settings =
            Settings { boot: 7, names_key: HashKey(1, 2), unix_offset_nanos: 5, ..Settings::default() };
        let config = config();
        let host = Box::new(SmolStack::new(&config, 1));
        let control =
            Control::new(&config, &ports(), Arc::clone(&shared), link, host, settings, ms(0)).unwrap();
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

#[test]
fn nothing_can_be_woken_before_the_placement_is_known() {
    let mut bench = Bench::cold(16);
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.shared.slots.get(ServiceId(1)).load().0, Phase::Ready, "backends need no orchestrator");
    bench.turn();
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.ups(), [Up::Resync]);
    bench.snapshot(vec![]);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn a_first_packet_is_handed_over_before_its_slot_says_so() {
    let mut bench = Bench::new();
    let wake = bench.first_packet(1).unwrap();
    assert!(!bench.slot().is_handed(wake));
    bench.turn();
    assert!(bench.slot().is_handed(wake));
    let notices = bench.notices();
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.site.as_str(), notice.boot, notice.sequence), ("edge-42", 7, 1));
    assert_eq!((notice.service.as_str(), notice.function_class.as_str()), ("hello", "hello"));
    assert_eq!((notice.ingress_port.as_str(), notice.vlan), ("wan", None));
    let dns = notice.dns.as_ref().unwrap();
    assert_eq!(dns.kind, 28);
    assert_eq!(dns.names, ["hello.fn.example.", "hi.fn.example."], "all names lead to the one function");
    assert_eq!(bench.phase(), Phase::Waking);
}

#[test]
fn a_full_link_calls_the_wake_off_and_never_leaves_it_waking() {
    let mut bench = Bench::cold(1);
    bench.turn();
    bench.ups();
    bench.snapshot(vec![]);
    bench.turn();
    // The report of what was applied fills the link.
    let wake = bench.first_packet(0).unwrap();
    bench.turn();
    assert!(!bench.slot().is_handed(wake));
    assert_eq!(bench.phase(), Phase::Cold);
    assert_eq!(bench.control.link_counters().refused_full, 1);
    bench.ups();
    let wake = bench.first_packet(0).expect("it can be had again");
    bench.turn();
    assert!(bench.slot().is_handed(wake));
    assert_eq!(bench.notices().len(), 1);
}

#[test]
fn readiness_comes_after_tables_and_neighbour() {
    let mut bench = Bench::new();
    bench.follow = false;
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.sent();
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    let tables = bench.shared.tables();
    assert_eq!(tables.services.get(HELLO).unwrap().instances.len(), 1, "published at once");
    assert_eq!(bench.phase(), Phase::Waking, "the neighbour isn't known");
    assert_eq!(bench.sent().len(), 1, "it is asked for");
    bench.node_answers();
    bench.turn();
    assert_eq!(bench.shared.tables().neighbours.get(LAN, addr(NODE)), Some(PEER_MAC));
    bench.shared.set_epoch(0, bench.shared.tables().generation);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Waking, "worker 1 still works by older tables");
    bench.take_up();
    bench.turn();
    assert_eq!(bench.phase(), Phase::Ready);
    assert_eq!(bench.control.counters().wakes_ready, 1);
}

#[test]
fn readiness_waits_for_a_silent_neighbour_or_a_stuck_worker_only_so_long() {
    let mut bench = Bench::new();
    bench.follow = false;
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    bench.turn_at(19);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(1);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(2);
    assert_eq!(bench.phase(), Phase::Ready);
}

#[test]
fn an_instance_that_starts_is_in_the_tables_and_its_neighbour_asked_for() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.sent();
    bench.delta(vec![instance(1, InstanceState::Starting)], None);
    bench.turn();
    assert_eq!(bench.shared.tables().services.get(HELLO).unwrap().instances.len(), 1);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.node_answers();
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn();
    bench.turn();
    assert_eq!(bench.phase(), Phase::Ready, "nothing to wait for any more");
}

#[test]
fn what_was_applied_is_reported_when_every_worker_works_by_it() {
    let mut bench = Bench::new();
    bench.follow = false;
    bench.delta(vec![instance(1, InstanceState::Starting)], None);
    bench.turn();
    bench.turn();
    assert_eq!(bench.ups(), []);
    bench.take_up();
    bench.turn();
    let digest = bench.control.orchestrator.view().digest();
    assert_eq!(bench.ups(), [Up::Applied { generation: Placed(2), digest }]);
    bench.turn();
    assert_eq!(bench.ups(), [], "once");
}

#[test]
fn a_gap_changes_nothing_and_asks_for_a_snapshot() {
    let mut bench = Bench::new();
    bench.generation += 1;
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.delta(vec![instance(2, InstanceState::Ready)], None);
    let before = bench.shared.tables().generation;
    bench.turn();
    bench.turn();
    assert_eq!(bench.ups(), [Up::Resync]);
    assert_eq!(bench.shared.tables().generation, before);
    assert_eq!(bench.control.link_counters().gaps, 1);
    bench.snapshot(vec![instance(3, InstanceState::Ready)]);
    bench.turn();
    let instances = bench.shared.tables().services.get(HELLO).unwrap().instances.clone();
    assert_eq!(instances.iter().map(|one| one.id).collect::<Vec<_>>(), [3]);
}

#[test]
fn an_unanswered_question_for_a_snapshot_is_asked_again() {
    let mut bench = Bench::cold(16);
    bench.turn();
    bench.turn_at(500);
    assert_eq!(bench.ups().len(), 1);
    bench.turn_at(500);
    assert_eq!(bench.ups(), [Up::Resync]);
}

#[test]
fn without_the_orchestrator_ready_services_stay_and_cold_ones_are_passed_by() {
    let mut bench = Bench::new();
    bench.ready();
    bench.orchestrator = None;
    bench.turn_at(5000);
    assert_eq!(bench.phase(), Phase::Ready);

    let mut bench = Bench::new();
    bench.orchestrator = None;
    bench.turn();
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.first_packet(0), None);
}

#[test]
fn a_wake_that_the_orchestrator_took_with_it_ends_when_its_packets_have() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.orchestrator = None;
    bench.turn_at(898);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(2);
    assert_eq!(bench.phase(), Phase::Bypass);
    let wake = bench.control.journal().iter().last().unwrap().clone();
    assert_eq!(wake.reason, "the orchestrator link is down");
}

#[test]
fn a_first_packet_in_the_queue_when_the_link_goes_is_called_off() {
    let mut bench = Bench::new();
    let wake = bench.first_packet(0).unwrap();
    bench.orchestrator = None;
    bench.turn();
    assert!(!bench.slot().is_handed(wake));
    assert_eq!(bench.phase(), Phase::Bypass);
    assert_eq!(bench.shared.workers[0].wakes_returned.get(), 1, "it costs the worker nothing");
}

#[test]
fn a_first_packet_is_handed_over_while_a_snapshot_is_under_way() {
    let mut bench = Bench::new();
    bench.generation += 1;
    bench.delta(vec![], None);
    bench.turn();
    assert!(!bench.control.orchestrator.is_in_step());
    let wake = bench.first_packet(0).unwrap();
    bench.turn();
    assert!(bench.slot().is_handed(wake));
    assert_eq!(bench.notices().len(), 1);
    assert_eq!(bench.control.counters().wakes_cancelled, 0);
    bench.snapshot(vec![instance(1, InstanceState::Ready)]);
    bench.turn();
    bench.node_answers();
    bench.turn();
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Ready, wake));
}

#[test]
fn a_failed_wake_can_be_tried_again_until_there_were_too_many() {
    let mut bench = Bench::new();
    for strike in 1..=STRIKES_MAX {
        bench.first_packet(0).expect("cold");
        bench.turn();
        let sequence = bench.notices()[0].sequence;
        bench.delta(vec![], Some(failure(sequence)));
        bench.turn();
        let expected = if strike < STRIKES_MAX { Phase::Cold } else { Phase::Quarantined };
        assert_eq!(bench.phase(), expected, "strike {strike}");
    }
    assert_eq!(bench.control.journal().iter().last().unwrap().reason, "no room");
    bench.turn_at(60_000);
    bench.turn_at(200);
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn an_old_failure_does_not_end_a_new_wake() {
    let mut bench = Bench::new();
    bench.delta(vec![], Some(ServiceFailure { notices: vec![], reason: "no room".into() }));
    bench.turn();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.delta(vec![], Some(ServiceFailure { notices: vec![], reason: "still no room".into() }));
    bench.turn();
    assert_eq!(bench.phase(), Phase::Waking);
}

#[test]
fn a_late_failure_ends_only_the_wake_whose_notice_it_answers() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.turn_at(10_000);
    assert_eq!(bench.phase(), Phase::Cold, "given up here, not yet there");
    let wake = bench.first_packet(0).unwrap();
    bench.turn();
    bench.delta(vec![], Some(failure(1)));
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Waking, wake), "of the first wake");
    let foreign = NoticeId { site: "edge-7".into(), boot: 7, sequence: 2 };
    bench.delta(vec![], Some(ServiceFailure { notices: vec![foreign], reason: "no room".into() }));
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Waking, wake), "of another site's");
    bench.delta(vec![], Some(failure(2)));
    bench.turn();
    assert_eq!(bench.slot().load(), (Phase::Cold, wake));
    assert_eq!(bench.control.counters().wakes_failed, 2);
}

#[test]
fn a_notice_that_nothing_comes_of_is_given_up() {
    let mut bench = Bench::new();
    bench.first_packet(0).unwrap();
    bench.turn();
    bench.turn_at(9990);
    assert_eq!(bench.phase(), Phase::Waking);
    bench.turn_at(20);
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn a_service_whose_instances_are_gone_is_cold_again() {
    let mut bench = Bench::new();
    bench.ready();
    bench.delta(vec![instance(1, InstanceState::Draining)], None);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Cold, "a new flow needs a new instance");
    assert_eq!(
        bench.shared.tables().services.get(HELLO).unwrap().instances.len(),
        1,
        "old flows keep theirs"
    );
    bench.delta(vec![], None);
    bench.turn();
    assert!(bench.shared.tables().services.get(HELLO).unwrap().instances.is_empty());
}

#[test]
fn an_unused_service_is_reported_idle_and_one_in_use_is_not() {
    let mut bench = Bench::new();
    bench.ready();
    let flows = |bench: &Bench, count| bench.shared.workers[1].counters.service(HELLO).flows.set(count);
    flows(&bench, 1);
    bench.turn_at(200_000);
    assert_eq!(bench.phase(), Phase::Ready);
    flows(&bench, 0);
    let activity = bench.shared.workers[0].counters.service(HELLO);
    activity.last_nanos.set(bench.now.0);
    bench.turn_at(119_000);
    assert_eq!(bench.phase(), Phase::Ready);
    bench.turn_at(1000);
    assert_eq!(bench.phase(), Phase::Draining);
    let generation = Placed(bench.generation);
    assert_eq!(bench.ups().last(), Some(&Up::Idle(Idle { service: "hello".into(), generation })));

    flows(&bench, 1);
    bench.turn_at(100);
    assert_eq!(bench.phase(), Phase::Ready, "somebody came");
    flows(&bench, 0);
    bench.turn_at(120_000);
    assert_eq!(bench.phase(), Phase::Draining);
    bench.turn_at(1000);
    assert_eq!(bench.phase(), Phase::Ready, "the orchestrator keeps it");
    bench.turn_at(120_000);
    bench.delta(vec![], None);
    bench.turn();
    assert_eq!(bench.phase(), Phase::Cold);
}

#[test]
fn the_journal_has_every_point_of_a_wake() {
    let mut bench = Bench::new();
    let wake = bench.first_packet(0).unwrap();
    let seen = bench.now;
    let point = |bench: &Bench, what| {
        let event = Event::Milestone { service: HELLO, wake, what, at: bench.now };
        bench.shared.workers[1].queues.events.push(event).unwrap();
    };
    bench.turn();
    let handed = bench.now;
    point(&bench, Milestone::Answered);
    point(&bench, Milestone::Held);
    bench.down(Down::Acknowledge { sequence: 1 });
    bench.turn_at(1);
    let acknowledged = bench.now;
    bench.delta(vec![instance(1, InstanceState::Ready)], None);
    bench.turn_at(5);
    bench.node_answers();
    bench.turn();
    bench.turn();
    let ready = bench.now;
    point(&bench, Milestone::Released);
    bench.turn();
    let entry = bench.control.journal().iter().last().unwrap();
    assert_eq!((entry.service, entry.wake, entry.sequence), (HELLO, wake, 1));
    assert_eq!(
        (entry.seen, entry.handed, entry.acknowledged),
        (Some(seen), Some(handed), Some(acknowledged))
    );
    assert_eq!((entry.answered, entry.held), (Some(handed), Some(handed)));
    assert_eq!((entry.ready, entry.released), (Some(ready), Some(ready)));
    assert_eq!((entry.expired, entry.failed), (None, None));
}

#[test]
fn a_packet_to_an_unknown_neighbour_leaves_by_its_worker_when_it_is_found() {
    let mut bench = Bench::new();
    bench.sent();
    let mut packet = vec![0; 60];
    packet[14] = 0x45;
    bench.punt(1, LAN, Punt::NeighbourUnknown, addr("198.51.100.9"), &packet);
    bench.turn();
    let sent = bench.sent();
    let [(LAN, request)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(request[..6], [0xff; 6]);
    bench.punt(0, LAN, Punt::Host, Addr::default(), &arp_reply("198.51.100.9", PEER_MAC));
    bench.turn();
    let sent = bench.sent();
    let [(LAN, packet)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(packet[..14], [&PEER_MAC[..], &LAN_MAC, &[0x08, 0x00]].concat());
    assert_eq!(bench.shared.tables().neighbours.get(LAN, addr("198.51.100.9")), Some(PEER_MAC));
    for worker in &bench.shared.workers {
        let total = millrace_fastpath::queue::PARCELS_MAX;
        assert_eq!((worker.queues.punts_empty.len(), worker.queues.injects_empty.len()), (total, total));
    }
}

#[test]
fn a_flood_of_punts_is_limited_and_every_parcel_comes_back() {
    let mut bench = Bench::new();
    bench.sent();
    for round in 0..200 {
        for _ in 0..50 {
            bench.punt(0, WAN, Punt::Host, Addr::default(), &[round; 60]);
        }
        while !bench.shared.workers[0].queues.punts.is_empty() {
            bench.turn();
        }
    }
    assert_eq!(bench.shared.workers[0].queues.punts_empty.len(), millrace_fastpath::queue::PARCELS_MAX);
    assert!(bench.control.counters().punts_limited > 5000);
}

#[test]
fn snapshots_are_kept_until_every_worker_has_left_them() {
    let mut bench = Bench::new();
    bench.follow = false;
    let old = Arc::downgrade(&bench.shared.tables());
    for id in 1..5 {
        bench.delta(vec![instance(id, InstanceState::Starting)], None);
        bench.turn_at(200);
    }
    assert!(old.upgrade().is_some());
    bench.take_up();
    bench.turn_at(200);
    assert!(old.upgrade().is_none());
}

/// Seconds after readiness at which the service is reported idle, and how many wakes were unused by then.
fn idle_after(trigger: Trigger, mut each_second: impl FnMut(&Bench, u64)) -> (u64, u64) {
    let mut bench = Bench::new();
    bench.ready_by(trigger);
    for second in 1..=400 {
        each_second(&bench, second);
        bench.turn_at(1000);
        if bench.ups().iter().any(|up| matches!(up, Up::Idle(_))) {
            return (second, bench.control.counters().wakes_unused);
        }
    }
    panic!("never");
}

#[test]
fn a_query_that_no_connection_follows_is_a_false_start_and_reaped_sooner() {
    let query = Trigger::Dns { query_type: 1 };
    // Twice the zone's time to live, where `idle_reap_seconds` is 120.
    assert_eq!(idle_after(query, |_, _| {}), (60, 1));
    assert_eq!(idle_after(Trigger::Syn, |_, _| {}), (120, 0));
    let counters = |bench: &Bench| bench.shared.workers[1].counters.service(HELLO).last_nanos.get();
    // More queries are no use.
    let again = |bench: &Bench, _| {
        bench.shared.workers[1].counters.service(HELLO).last_nanos.set(bench.now.0);
        assert!(counters(bench) > 0);
    };
    assert_eq!(idle_after(query, again), (60, 1));
    // One flow is, also one that is over.
    let used = |bench: &Bench, second| {
        let activity = bench.shared.workers[1].counters.service(HELLO);
        if second == 30 {
            activity.flows_begun.add(1);
            activity.last_nanos.set(bench.now.0);
        }
    };
    assert_eq!(idle_after(query, used), (149, 0));
}

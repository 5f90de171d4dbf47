//! The control loop stops for ten seconds, and goes on.
//!
//! Limits: 64 packets held by a worker, 512 parcels and 4096 events of each on their way up; the events of one worker are
//! full from the beginning. What is cold takes its overflow action, `upstream`, when it can't be held or has waited enough.

use std::sync::atomic::Ordering;

use millrace_fastpath::clock::Clock;
use millrace_fastpath::counters::{Counter, WorkerCounters};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::{NodeId, host};

use super::flows::*;
use super::*;
use crate::testing::WAN_MAC;

const STEPS: usize = 100;
const STEP_NANOS: u64 = 100_000_000;
/// In each step: connections that go on, those that begin, SYNs to the cold service, and questions for the appliance itself.
const KNOWN: usize = FLOWS / STEPS;
const NEW: usize = 20;
const COLD: usize = 30;
const QUESTIONS: usize = 20;
const HELLO_AT: End = ([203, 0, 113, 10], 80);

fn arp_request() -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(CLIENT_MAC),
        source_protocol_addr: "192.0.2.254".parse().unwrap(),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: "192.0.2.1".parse().unwrap(),
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(CLIENT_MAC),
        dst_addr: EthernetAddress(WAN_MAC),
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; 42];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

impl Site {
    fn put_in(&mut self, port: u16, n: usize, frame: &[u8]) {
        assert!(self.net.deliver(PortId(port), (n % 2) as u16, frame));
        self.run();
    }

    fn left(&self, port: u16) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.net.take(PortId(port))).collect()
    }

    fn sum(&self, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.control.shared.workers.iter().map(|worker| counter(&worker.counters).get()).sum()
    }

    fn ups(&mut self) -> Vec<Up> {
        std::iter::from_fn(|| self.orchestrator.try_receive()).collect()
    }

    /// A millisecond in which the control loop turns.
    fn go_on(&mut self) {
        self.clock.0.fetch_add(1_000_000, Ordering::Relaxed);
        self.now = self.clock.now();
        self.control.turn(self.now);
        self.run();
    }

    fn hello_phase(&self) -> Phase {
        self.control.shared.slots.get(HELLO).load().0
    }
}

fn hello_syn(n: usize) -> Vec<u8> {
    let from = ([10, 2, (n >> 8) as u8, n as u8], 20_000);
    frame([CLIENT_MAC, WAN_MAC], (from.0, from.1, HELLO_AT.0, HELLO_AT.1), SYN)
}

#[test]
fn ten_seconds_without_the_control_loop_cost_what_is_ready_nothing() {
    let mut site_ = Site::new(&site(Some(&backends(&[7, 8]))));
    site_.turn();
    assert_eq!(site_.ups(), [Up::Resync]);
    let nothing = Snapshot { generation: Placed(1), services: vec![placement(vec![], None)] };
    site_.orchestrator.send(Down::Snapshot(nothing)).unwrap();
    site_.turn();
    site_.turn();
    site_.ups();
    assert_eq!(site_.hello_phase(), Phase::Cold);
    let flows = site_.ask(0..FLOWS, SYN);
    site_.check(&flows);
    site_.check(&flows);
    let shared = Arc::clone(&site_.control.shared);
    let filler =
        Event::Milestone { service: HELLO, wake: WakeId::default(), what: Milestone::Answered, at: ms(0) };
    while shared.workers[0].queues.events.push(filler).is_ok() {}

    let mut upstream = 0;
    for step in 0..STEPS {
        site_.clock.0.fetch_add(STEP_NANOS, Ordering::Relaxed);
        let known = step * KNOWN..(step + 1) * KNOWN;
        let reached = site_.ask(known.clone(), ACK);
        assert!(
            reached.len() == KNOWN && reached.iter().all(|(client, instance)| flows[client] == *instance)
        );
        let answers: Vec<_> = reached
            .iter()
            .map(|(client, instance)| {
                frame([HOST_MAC, LAN_MAC], (instance.0, instance.1, client.0, client.1), ACK)
            })
            .collect();
        let (passed_on, answered): (Vec<_>, Vec<_>) = site_
            .exchange(1, answers.into_iter())
            .into_iter()
            .partition(|(.., to, port)| (*to, *port) == HELLO_AT);
        assert_eq!(answered.len(), KNOWN);
        let new = FLOWS + step * NEW;
        assert_eq!(site_.ask(new..new + NEW, SYN).len(), NEW, "what is ready takes new ones, too");
        for n in 0..COLD {
            site_.put_in(0, n, &hello_syn(step * COLD + n));
        }
        for n in 0..QUESTIONS {
            site_.put_in(0, n, &arp_request());
        }
        assert!(site_.left(1).is_empty(), "nobody is there for the cold service");
        let left = site_.left(0);
        assert!(left.iter().all(|frame| ends(frame).2 == HELLO_AT.0), "nobody answers questions");
        upstream += passed_on.len() + left.len();
        let held: u64 = site_.sum(|of| &of.fates.still_held);
        assert!(held <= 128, "{held} are held");
        assert_eq!(upstream as u64 + held, ((step + 1) * COLD) as u64, "each of the others went on");
    }
    let full = host::Drop::QueueFull as usize;
    let parcels = 2 * millrace_fastpath::queue::PARCELS_MAX as u64;
    assert_eq!(site_.sum(|of| &of.node(NodeId::Host).drops[full]), (STEPS * QUESTIONS) as u64 - parcels);
    assert_eq!(site_.sum(|of| &of.fates.punted), parcels);
    assert!(shared.workers[0].counters.fates.events_lost.get() > 0);
    assert_eq!(shared.workers[1].counters.fates.events_lost.get(), 0);
    assert_eq!(site_.hello_phase(), Phase::Waking, "the other worker's notice is on its way");

    // It goes on: what has waited is heard, once.
    for _ in 0..100 {
        site_.go_on();
        site_.left(0);
    }
    let notices: Vec<_> = site_.ups().into_iter().filter(|up| matches!(up, Up::FirstPacket(_))).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        shared.workers.iter().all(|worker| worker.queues.events.is_empty() && worker.queues.punts.is_empty())
    );
    let ready = placement(vec![instance(1, InstanceState::Ready)], None);
    let delta = Delta { from: Placed(1), to: Placed(2), changes: vec![ready] };
    site_.orchestrator.send(Down::Delta(delta)).unwrap();
    site_.go_on();
    site_.put_in(1, 0, &arp_reply(NODE, PEER_MAC));
    for _ in 0..5 {
        site_.go_on();
    }
    assert_eq!(site_.hello_phase(), Phase::Ready);
    site_.left(1);
    site_.put_in(0, 0, &hello_syn(60_000));
    let sent = site_.left(1);
    assert_eq!((sent.len(), ends(&sent[0]).2, ends(&sent[0]).3), (1, [198, 51, 100, 21], 9000));
    site_.left(0);
    site_.put_in(0, 0, &arp_request());
    site_.go_on();
    let answers = site_.left(0);
    assert_eq!((answers.len(), &answers[0][..6]), (1, &CLIENT_MAC[..]));
    site_.check(&flows);
    site_.check_laws();
}

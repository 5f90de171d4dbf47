//! The trigger `flow`: any packet to a service's address wakes it, by its Ethernet and IP headers alone.

use std::cell::RefCell;

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::event::{Event, Milestone, PacketFields, Trigger};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::queue::EVENTS_MAX;
use millrace_fastpath::slots::{Escalation, Phase, WakeId};
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::triples::{REMEMBERED_SECONDS, TRIPLES_MAX};
use millrace_fastpath::worker::WorkerLimits;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpControl};

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const UDP_VIP: End = ("203.0.113.10", 443);

/// A service that nothing but the trigger `flow` wakes.
fn by_flow() -> Service {
    Service { trigger_dns: false, trigger_syn: false, trigger_flow: true, ..cold_service() }
}

fn bench(workers: usize, service: Service) -> Bench {
    let mut bench = Bench::new(workers);
    bench.set_service(0, service);
    bench
}

/// Delivers to a queue that depends on `n`, as a device that spreads without regard for flows would.
fn scatter(bench: &mut Bench, n: usize, frame: &[u8]) {
    assert!(bench.net.deliver(WAN, (n % bench.workers.len()) as u16, frame));
    bench.run();
}

/// What was told of first packets: wake, trigger and fields of each.
fn notices(bench: &Bench) -> Vec<(WakeId, Trigger, PacketFields)> {
    let notice = |event: Event| match event {
        Event::FirstPacket { wake, trigger, fields, .. } => Some((wake, trigger, fields)),
        _ => None,
    };
    bench.events().into_iter().filter_map(notice).collect()
}

fn arrivals(bench: &Bench) -> Vec<PacketFields> {
    let arrival = |event: Event| match event {
        Event::Arrival { service: ServiceId(0), trigger: Trigger::Flow, fields, .. } => Some(fields),
        _ => None,
    };
    bench.events().into_iter().filter_map(arrival).collect()
}

/// New triples, over all workers.
fn counted(bench: &Bench) -> u64 {
    bench.shared.workers.iter().map(|worker| worker.counters.service(ServiceId(0)).arrivals.get()).sum()
}

fn fields(from: &str, to: &str, protocol: u8, length: usize, flow_label: u32) -> PacketFields {
    PacketFields {
        interface: InterfaceId(0),
        source_mac: CLIENT_MAC,
        destination_mac: WAN_MAC,
        source: addr(from),
        destination: addr(to),
        protocol,
        length: length as u16,
        flow_label,
    }
}

/// Parcels back into circulation, as the slowpath would.
fn empty_punts(bench: &Bench) {
    for worker in &bench.shared.workers {
        while let Some(parcel) = worker.queues.punts.pop() {
            worker.queues.punts_empty.push(parcel).unwrap();
        }
    }
}

/// A packet by its IP header, and what its sender, or the way here, made of the rest.
#[derive(Clone, Debug)]
struct Odd {
    v6: bool,
    protocol: u8,
    payload: Vec<u8>,
    /// Offset in bytes, and whether more fragments follow.
    fragment: Option<(u16, bool)>,
    flow_label: u32,
    /// Bytes of the payload that are there.
    there: usize,
    padding: usize,
}

impl Odd {
    fn frame(&self) -> Vec<u8> {
        let (from, to) = if self.v6 { (CLIENT6.0, VIP6.0) } else { (CLIENT.0, VIP.0) };
        let mut frame = client_ip(from, to, self.protocol, &self.payload);
        if self.v6 {
            if let Some((offset, more)) = self.fragment {
                let [high, low] = (offset | u16::from(more)).to_be_bytes();
                frame = with_extensions(&frame, &[(44, &[0, high, low, 0, 0, 0, 7])]);
            }
            Ipv6Packet::new_unchecked(&mut frame[14..]).set_flow_label(self.flow_label);
        } else {
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
            let (offset, more) = self.fragment.unwrap_or_default();
            packet.set_dont_frag(false);
            packet.set_frag_offset(offset);
            packet.set_more_frags(more);
            packet.fill_checksum();
        }
        let headers = frame.len() - self.payload.len();
        frame.truncate(headers + self.there.min(self.payload.len()));
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    /// What the headers say, read off the description: no frame, no parser.
    fn fields(&self) -> PacketFields {
        let fragment_header = if self.v6 && self.fragment.is_some() { 8 } else { 0 };
        let headers = if self.v6 { 40 + fragment_header } else { 20 };
        let (from, to) = if self.v6 { (CLIENT6.0, VIP6.0) } else { (CLIENT.0, VIP.0) };
        let label = if self.v6 { self.flow_label } else { 0 };
        fields(from, to, self.protocol, headers + self.payload.len(), label)
    }
}

fn odd() -> impl Strategy<Value = Odd> {
    // Mostly those that somebody reads further. Extension headers are part of IPv6's own.
    let protocol = prop_oneof![Just(6u8), Just(17), Just(1), Just(58), any::<u8>()]
        .prop_filter("an extension header", |protocol| ![0, 43, 44, 51, 60].contains(protocol));
    let fragment = prop::option::of((0u16..200, any::<bool>()).prop_map(|(at, more)| (at * 8, more)));
    let payload = prop::collection::vec(any::<u8>(), 0..160);
    (any::<bool>(), protocol, payload, fragment, 0u32..1 << 20, 0usize..200, 0usize..20).prop_map(
        |(v6, protocol, payload, fragment, flow_label, there, padding)| {
            // Nothing follows a frame that was cut.
            let padding = if there < payload.len() { 0 } else { padding };
            Odd { v6, protocol, payload, fragment, flow_label, there, padding }
        },
    )
}

#[test]
fn equal_headers_give_equal_notifications_whatever_follows_them() {
    let mut service = by_flow();
    service.overflow = Overflow::Rst;
    let bench = RefCell::new(bench(1, service));
    let wakes = RefCell::new(0);
    let mut runner = TestRunner::new(Config { cases: 4000, ..Config::default() });
    let outcome = runner.run(&odd(), |odd| {
        let mut bench = bench.borrow_mut();
        bench.set_phase(0, Phase::Cold);
        bench.advance_ms(1000);
        bench.run();
        bench.events();
        bench.deliver_and_run(WAN, &odd.frame());
        bench.deliver_and_run(WAN, &odd.frame());
        empty_punts(&bench);
        bench.sent(WAN);
        *wakes.borrow_mut() += 1;
        prop_assert_eq!(notices(&bench), [(WakeId(*wakes.borrow()), Trigger::Flow, odd.fields())]);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    bench.borrow().check_laws();
}

/// What is odd, the frame, and what becomes of it once it has been told of.
fn named_frames() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let clean = segment(CLIENT, VIP, b"0123456789");
    let mut garbage = clean.clone();
    garbage[34..].fill(0xff);
    let mut bad_offset = clean.clone();
    bad_offset[46] = 0x10;
    let cut = clean[..40].to_vec();
    let missing = clean[..34].to_vec();
    let mut encrypted = clean.clone();
    for (at, byte) in encrypted[34..].iter_mut().enumerate() {
        *byte = (at as u8).wrapping_mul(151) ^ 0x5c;
    }
    let fragment = |offset: u16, more: bool| {
        let mut frame = clean.clone();
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_dont_frag(false);
        packet.set_frag_offset(offset);
        packet.set_more_frags(more);
        packet.fill_checksum();
        frame
    };
    let mut short_first = fragment(0, true);
    short_first[46] = 0xf0;
    vec![
        ("clean", clean.clone(), "no-flow"),
        ("garbage", garbage, "short-l4"),
        ("a header longer than the packet", bad_offset, "short-l4"),
        ("encrypted", encrypted, "short-l4"),
        ("cut off", cut, "short-ip"),
        ("missing", missing, "short-ip"),
        ("a first fragment", fragment(0, true), "no-flow"),
        ("a first fragment without its header", short_first, "fragment-short"),
        ("a later fragment", fragment(64, true), "fragment-orphan"),
        ("the last fragment", fragment(1000, false), "fragment-orphan"),
        ("a port that no service has", segment(CLIENT, (VIP.0, 4711), b"0123456789"), "no-such-port"),
    ]
}

#[test]
fn what_is_odd_is_told_of_as_what_is_clean_and_then_has_its_own_fate() {
    for (what, frame, fate) in named_frames() {
        let mut bench = bench(1, by_flow());
        bench.deliver_and_run(WAN, &frame);
        let expected = (WakeId(1), Trigger::Flow, fields(CLIENT.0, VIP.0, 6, 50, 0));
        assert_eq!(notices(&bench), [expected], "{what}");
        let all = [NodeId::Classify, NodeId::Service];
        let dropped = |node: &NodeId| {
            millrace_fastpath::node::drop_names(*node).contains(&fate) && bench.drops(*node, fate) == 1
        };
        assert!(all.iter().any(dropped), "{what}: not {fate}");
        bench.check_laws();
    }
    for (what, frame, protocol) in [
        ("a protocol that nobody knows", client_ip(CLIENT.0, VIP.0, 253, &[0; 30]), 253),
        ("a ping", icmp((CLIENT_MAC, WAN_MAC), CLIENT.0, VIP.0, (8, 0, 1), &[0; 22]), 1),
    ] {
        let mut bench = bench(1, by_flow());
        bench.deliver_and_run(WAN, &frame);
        let expected = (WakeId(1), Trigger::Flow, fields(CLIENT.0, VIP.0, protocol, 50, 0));
        assert_eq!(notices(&bench), [expected], "{what}");
        assert_eq!(bench.fates().punted, 1, "{what}: the host stack's to answer");
        bench.check_laws();
    }
}

#[test]
fn what_is_wrong_with_the_headers_themselves_is_told_to_nobody() {
    let to = |macs, from: &str| tcp_frame(macs, (from, 1), VIP, TcpControl::Syn, None, 1, b"");
    let mut bad_checksum = syn(CLIENT, VIP, 1);
    bad_checksum[24] ^= 1;
    let mut short = syn(CLIENT, VIP, 1);
    short.truncate(33);
    let mut group = syn(CLIENT, VIP, 1)[..40].to_vec();
    group[..6].fill(0xff);
    let chain = with_extensions(&syn(CLIENT6, VIP6, 1), &[(60, &[9, 0, 0, 0, 0, 0, 0])]);
    let mut own = syn(("192.0.2.1", 1), VIP, 1)[..44].to_vec();
    own.truncate(40);
    for (what, frame) in [
        ("somebody else's Ethernet address", to((CLIENT_MAC, HOST_MAC), CLIENT.0)),
        ("all stations'", group),
        ("a source that nobody has", to((CLIENT_MAC, WAN_MAC), "127.0.0.1")),
        ("our own address", to((CLIENT_MAC, WAN_MAC), "192.0.2.1")),
        ("our own address, cut off", own),
        ("a wrong header checksum", bad_checksum),
        ("a header that isn't all there", short),
        ("an extension header that isn't all there", chain[..60].to_vec()),
        ("another address of ours", client_ip(CLIENT.0, "192.0.2.1", 253, b"rubbish")),
    ] {
        let mut bench = bench(1, by_flow());
        bench.deliver_and_run(WAN, &frame);
        assert_eq!((notices(&bench).len(), counted(&bench)), (0, 0), "{what}");
        bench.check_laws();
    }
}

#[test]
fn without_the_trigger_nobody_looks() {
    let mut bench = bench(1, cold_service());
    for (_, frame, _) in named_frames() {
        bench.deliver_and_run(WAN, &frame);
    }
    assert_eq!((notices(&bench).len(), counted(&bench)), (0, 0));
    bench.check_laws();
}

#[test]
fn many_triples_repetitions_and_queues_make_one_wake() {
    let mut bench = bench(4, by_flow());
    for n in 0..600 {
        let source = format!("10.7.{}.{}", n / 200, n % 200 + 1);
        let frame = match n % 4 {
            0 => syn((&source, 1000), VIP, 1),
            1 => client_udp((&source, 1000), UDP_VIP, b"hello"),
            2 => client_ip(&source, VIP.0, 253, b"rubbish"),
            _ => syn((&source, 1000), VIP, 1)[..37].to_vec(),
        };
        for repetition in 0..3 {
            scatter(&mut bench, n + repetition, &frame);
        }
        empty_punts(&bench);
    }
    assert_eq!(notices(&bench).len(), 1);
    assert_eq!(bench.shared.slots.get(ServiceId(0)).load(), (Phase::Waking, WakeId(1)));
    assert_eq!(counted(&bench), 600, "each new once, whatever queues it came by");
    assert!(bench.fates().still_held > 0);
    bench.check_laws();
}

#[test]
fn the_packet_that_woke_goes_on_as_any_other() {
    let mut bench = bench(4, by_flow());
    scatter(&mut bench, 1, &syn(CLIENT, VIP, 100));
    assert_eq!(notices(&bench), [(WakeId(1), Trigger::Flow, fields(CLIENT.0, VIP.0, 6, 44, 0))]);
    assert_eq!(bench.fates().still_held, 1);
    bench.make_ready(0);
    bench.run();
    assert_eq!(read(&bench.sent(LAN)[0]).tcp, Some((TcpControl::Syn, 100, None)));
    assert!(matches!(bench.events()[..], [Event::Milestone { what: Milestone::Released, .. }]));
    bench.check_laws();
}

#[test]
fn a_ready_service_is_told_of_once_a_second_and_counts_each_new_triple() {
    let mut bench = bench(4, by_flow());
    bench.make_ready(0);
    let mut told = Vec::new();
    for n in 0..2000 {
        let source = format!("10.7.{}.{}", n / 200, n % 200 + 1);
        for repetition in 0..2 {
            scatter(&mut bench, n + repetition, &client_ip(&source, VIP.0, 253, b"rubbish"));
        }
        empty_punts(&bench);
        told.extend(arrivals(&bench));
        if n % 500 == 499 {
            bench.advance_ms(1000);
        }
    }
    assert_eq!(told.len(), 4, "one a second");
    assert_eq!(told[1], fields("10.7.2.101", VIP.0, 253, 27, 0), "of the first that came in it");
    assert_eq!(counted(&bench), 2000);
    // Who was here a while ago is no news; who was here long ago is.
    let old = client_ip("10.7.0.1", VIP.0, 253, b"rubbish");
    bench.deliver_and_run(WAN, &old);
    assert_eq!((arrivals(&bench).len(), counted(&bench)), (0, 2000));
    bench.advance_ms(REMEMBERED_SECONDS * 1000);
    bench.deliver_and_run(WAN, &old);
    assert_eq!((arrivals(&bench).len(), counted(&bench)), (1, 2001));
    bench.check_laws();
}

#[test]
fn a_cold_service_is_woken_by_whoever_comes_also_by_who_was_here_before() {
    let mut bench = bench(1, by_flow());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    bench.make_ready(0);
    bench.run();
    bench.set_phase(0, Phase::Cold);
    bench.events();
    bench.deliver_and_run(WAN, &client_udp(CLIENT, UDP_VIP, b"hello"));
    let woken = notices(&bench);
    assert_eq!((woken.len(), counted(&bench)), (1, 2));
    bench.set_phase(0, Phase::Cold);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, UDP_VIP, b"hello"));
    assert_eq!((notices(&bench).len(), counted(&bench)), (1, 2), "the same triple");
    for phase in [Phase::Quarantined, Phase::Bypass] {
        bench.set_phase(0, phase);
        bench.deliver_and_run(WAN, &client_ip("10.8.8.8", VIP.0, 253, b"rubbish"));
        assert_eq!(notices(&bench).len(), 0, "{phase:?}");
    }
    bench.check_laws();
}

#[test]
fn after_a_strike_a_triple_wakes_when_it_comes_again_by_any_queue() {
    let mut bench = bench(4, by_flow());
    bench.shared.slots.get(ServiceId(0)).set_strikes(1, Escalation::SecondPacket);
    for n in 0..1000 {
        let source = format!("10.7.{}.{}", n / 200, n % 200 + 1);
        scatter(&mut bench, n, &client_ip(&source, VIP.0, 253, b"rubbish"));
        empty_punts(&bench);
    }
    scatter(&mut bench, 0, &syn(CLIENT, VIP, 100));
    for _ in 0..20 {
        bench.advance_ms(1);
        bench.run();
    }
    assert_eq!(
        (notices(&bench).len(), bench.fates().still_held),
        (0, 1),
        "a flood of forged sources wakes nobody"
    );
    scatter(&mut bench, 1, &syn(CLIENT, VIP, 100));
    assert_eq!(notices(&bench), [(WakeId(1), Trigger::Flow, fields(CLIENT.0, VIP.0, 6, 44, 0))]);
    bench.make_ready(0);
    bench.run();
    assert_eq!(bench.sent(LAN).len(), 1, "of one connection");
    bench.check_laws();
}

/// One datagram is one packet, in however many pieces it comes and whichever of them comes first.
#[test]
fn after_a_strike_the_fragments_of_one_packet_are_one() {
    let cut = |client: End<'_>, vip, id| fragments(&client_udp(client, vip, &[7; 200]), id, &[64, 128]);
    let cut_off = |part: &[u8]| part[..part.len() - 30].to_vec();
    for (client, vip) in [(CLIENT, UDP_VIP), (CLIENT6, (VIP6.0, 443))] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut bench = bench(4, by_flow());
            bench.shared.slots.get(ServiceId(0)).set_strikes(1, Escalation::SecondPacket);
            let parts = cut(client, vip, 9);
            for (n, at) in order.into_iter().enumerate() {
                scatter(&mut bench, n, &parts[at]);
                scatter(&mut bench, n + 1, &parts[1 + at % 2]);
                // Also where the frame ends before its piece does.
                scatter(&mut bench, n + 2, &cut_off(&parts[1]));
            }
            bench.advance_ms(2);
            bench.run();
            assert_eq!((notices(&bench).len(), counted(&bench)), (0, 1), "{order:?}");
            // The packet is sent again, as another.
            scatter(&mut bench, 0, &cut(client, vip, 10)[1]);
            assert_eq!(notices(&bench).len(), 0);
            scatter(&mut bench, 1, &cut(client, vip, 10)[0]);
            assert_eq!(notices(&bench).len(), 1, "{order:?}");
            bench.check_laws();
        }
    }
}

#[test]
fn triples_that_are_forgotten_early_are_counted() {
    let mut bench = bench(1, by_flow());
    bench.set_phase(0, Phase::Quarantined);
    let evicted = |bench: &Bench| bench.sum(|of| &of.fates.triples_evicted);
    let many = TRIPLES_MAX as u32 * 2;
    for n in 0..many {
        let [_, a, b, c] = n.to_be_bytes();
        bench.deliver(WAN, &client_ip(&format!("10.{a}.{b}.{c}"), VIP.0, 253, b"x"));
        if n % 512 == 511 {
            bench.run();
            empty_punts(&bench);
        }
    }
    assert_eq!(counted(&bench), u64::from(many));
    let kept = u64::from(many) - evicted(&bench);
    let places = TRIPLES_MAX as u64;
    assert!((places * 9 / 10..=places).contains(&kept), "nearly all places are taken: {kept}");
    bench.check_laws();
}

#[test]
fn after_two_strikes_only_who_answers_a_cookie_wakes_what_can_send_one() {
    let service = Service { trigger_syn: true, handling: Handling::Splice, ..by_flow() };
    let mut bench = bench(1, service);
    bench.shared.slots.get(ServiceId(0)).set_strikes(2, Escalation::Cookie);
    for _ in 0..3 {
        bench.deliver_and_run(WAN, &client_ip(CLIENT.0, VIP.0, 253, b"rubbish"));
        bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    }
    let sent = bench.sent(WAN);
    assert_eq!((notices(&bench).len(), sent.len()), (0, 3), "a cookie for each SYN, and no wake");
    let Some((TcpControl::Syn, cookie, Some(101))) = read(&sent[0]).tcp else { panic!("no SYN-ACK") };
    let answer = tcp_frame(
        (CLIENT_MAC, WAN_MAC),
        CLIENT,
        VIP,
        TcpControl::None,
        Some(cookie.wrapping_add(1)),
        101,
        b"",
    );
    bench.deliver_and_run(WAN, &answer);
    let woken: Vec<_> = notices(&bench).iter().map(|(wake, trigger, _)| (*wake, *trigger)).collect();
    assert_eq!(woken, [(WakeId(1), Trigger::Syn)]);
    bench.check_laws();
}

#[test]
fn a_wake_that_could_not_be_told_of_is_begun_by_who_is_held() {
    let mut bench = bench(1, by_flow());
    let fill = Event::Milestone {
        service: ServiceId(9),
        wake: WakeId(1),
        what: Milestone::Held,
        at: Default::default(),
    };
    for _ in 0..EVENTS_MAX {
        bench.shared.workers[0].queues.events.push(fill).unwrap();
    }
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
    assert_eq!((bench.shared.slots.get(ServiceId(0)).load().0, bench.fates().still_held), (Phase::Cold, 1));
    bench.events();
    bench.advance_ms(1);
    bench.run();
    let woken: Vec<_> = notices(&bench).iter().map(|(_, trigger, fields)| (*trigger, *fields)).collect();
    assert_eq!(woken, [(Trigger::Flow, fields(CLIENT.0, VIP.0, 6, 44, 0))]);
    bench.check_laws();
}

#[test]
fn looking_allocates_nothing() {
    let limits = WorkerLimits { flows: 64, holds: 16, holds_per_prefix: 16, ..WorkerLimits::default() };
    let mut bench = Bench::with_limits(1, &limits);
    bench.set_service(0, by_flow());
    for phase in [Phase::Cold, Phase::Ready] {
        bench.set_phase(0, phase);
        for (what, frame, _) in named_frames() {
            bench.deliver(WAN, &frame);
            let measured = allocation_counter::measure(|| bench.run());
            assert_eq!((measured.count_total, measured.count_current), (0, 0), "{what}");
        }
    }
    bench.check_laws();
}

//! Services over UDP: both directions, how long a silent flow is kept, and first datagrams that wait.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::flow::entry::{ONE_WAY_SECONDS, UDP_SECONDS, UDP_UNANSWERED_SECONDS};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::*;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 443);
const VIP6: End = ("2001:db8:f::10", 443);
const HOST: &str = "198.51.100.7";
const HOST6: &str = "2001:db8:1::7";

fn bench(workers: usize, service: Service) -> Bench {
    let mut bench = Bench::new(workers);
    let endpoints = [VIP, VIP6].map(|(text, port)| Endpoint { addr: addr(text), port, protocol: 17 });
    let mut services = (*bench.tables.services).clone();
    services.insert(ServiceId(0), std::sync::Arc::new(service), &endpoints);
    bench.tables.services = std::sync::Arc::new(services);
    bench.publish();
    bench
}

/// A backend that listens at the service's own ports.
fn backend() -> Service {
    Service { instances: vec![Instance { port: 0, ..instance(0, InstanceState::Ready) }], ..fixed_service() }
}

fn flows(bench: &Bench) -> u64 {
    bench.shared.workers.iter().map(|worker| worker.counters.fates.flows.get()).sum()
}

/// Lets so many seconds pass, and the sweep look at every flow.
fn pass(bench: &mut Bench, seconds: u64) {
    bench.advance_ms(seconds * 1000);
    // A poll looks at sixteen, and not twice in a tenth of a millisecond.
    for _ in 0..64 {
        bench.advance_ms(1);
        bench.run();
    }
}

fn answer(from: End<'_>, to: End<'_>, data: &[u8]) -> Vec<u8> {
    udp((HOST_MAC, LAN_MAC), from, to, data)
}

#[test]
fn datagrams_are_translated_both_ways_in_both_families() {
    for source in [SourceAddress::Keep, SourceAddress::Appliance] {
        let mut bench = bench(2, Service { source, ..backend() });
        for (client, vip, host) in [(CLIENT, VIP, HOST), (CLIENT6, VIP6, HOST6)] {
            for turn in 0..3 {
                let data = [b"question ", &[b'0' + turn][..]].concat();
                bench.deliver_and_run(WAN, &client_udp(client, vip, &data));
                let seen = read(&bench.sent(LAN)[0]);
                assert_eq!((seen.to, seen.hop_limit, seen.data), (end((host, 443)), 63, data));
                assert_eq!(seen.from == end(client), source == SourceAddress::Keep);
                bench.deliver_and_run(LAN, &answer((host, 443), (&seen.from.0, seen.from.1), b"answer"));
                let heard = read(&bench.sent(WAN)[0]);
                assert_eq!((heard.from, heard.to, heard.data), (end(vip), end(client), b"answer".to_vec()));
            }
        }
        assert_eq!(flows(&bench), 2);
        bench.check_laws();
    }
}

#[test]
fn clients_behind_one_address_each_have_a_port_and_hear_their_own_answers() {
    let mut bench = bench(3, Service { source: SourceAddress::Appliance, ..backend() });
    let mut ports = std::collections::BTreeMap::new();
    for port in 1000..1200 {
        bench.deliver_and_run(WAN, &client_udp((CLIENT.0, port), VIP, b"?"));
        let seen = read(&bench.sent(LAN)[0]);
        assert_eq!(ports.insert(seen.from.1, port), None, "no two clients have one port");
    }
    for (ours, theirs) in ports {
        bench.deliver_and_run(LAN, &answer((HOST, 443), ("198.51.100.1", ours), b"!"));
        assert_eq!(read(&bench.sent(WAN)[0]).to, end((CLIENT.0, theirs)));
    }
    bench.check_laws();
}

#[test]
fn a_silent_conversation_is_kept_for_its_time_and_one_that_nobody_answers_for_less() {
    let mut bench = bench(1, backend());
    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 1), VIP, b"unanswered"));
    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 2), VIP, b"answered"));
    bench.deliver_and_run(LAN, &answer((HOST, 443), (CLIENT.0, 2), b"yes"));
    pass(&mut bench, u64::from(UDP_UNANSWERED_SECONDS) - 1);
    assert_eq!(flows(&bench), 2);
    pass(&mut bench, 1);
    assert_eq!(flows(&bench), 1);
    // Either direction keeps it.
    bench.deliver_and_run(LAN, &answer((HOST, 443), (CLIENT.0, 2), b"still"));
    pass(&mut bench, u64::from(UDP_SECONDS) - 1);
    assert_eq!(flows(&bench), 1);
    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, 2), VIP, b"here"));
    pass(&mut bench, u64::from(UDP_SECONDS) - 1);
    assert_eq!(flows(&bench), 1);
    pass(&mut bench, 1);
    assert_eq!(flows(&bench), 0);
    // What comes late is the instance's own affair.
    bench.sent(WAN);
    bench.deliver_and_run(LAN, &answer((HOST, 443), (CLIENT.0, 2), b"late"));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end((HOST, 443)));
    bench.check_laws();
}

#[test]
fn where_answers_go_past_us_the_client_alone_keeps_its_flow() {
    for forwarding in [Forwarding::L2, Forwarding::Ipip, Forwarding::Gue] {
        let mut bench = bench(1, Service { forwarding, ..backend() });
        bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"v4"));
        bench.deliver_and_run(WAN, &client_udp(CLIENT6, VIP6, b"v6"));
        assert_eq!(bench.sent(LAN).len(), 2);
        const { assert!(UDP_SECONDS < ONE_WAY_SECONDS) };
        pass(&mut bench, u64::from(UDP_SECONDS) - 1);
        assert_eq!(flows(&bench), 2, "nobody can tell whether it is answered");
        bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"v4"));
        pass(&mut bench, 1);
        assert_eq!(flows(&bench), 1, "{forwarding:?}");
        bench.check_laws();
    }
}

#[test]
fn a_translated_port_is_free_again_when_its_flow_has_gone() {
    let mut bench = bench(1, Service { source: SourceAddress::Appliance, ..backend() });
    bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"?"));
    let first = read(&bench.sent(LAN)[0]).from;
    pass(&mut bench, u64::from(UDP_UNANSWERED_SECONDS));
    bench.deliver_and_run(LAN, &answer((HOST, 443), (&first.0, first.1), b"late"));
    assert_eq!(
        bench.drops(NodeId::Service, "no-flow") + bench.fates().answered,
        1,
        "told that nobody listens"
    );
    bench.sent(LAN);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"?"));
    assert_eq!(read(&bench.sent(LAN)[0]).from, first, "the same hash, the same port");
    bench.check_laws();
}

#[test]
fn first_datagrams_wait_in_order_and_one_that_is_sent_again_in_its_place() {
    let mut bench = bench(1, cold_service());
    for (from, to, data) in [
        (CLIENT, VIP, &b"first try"[..]),
        (CLIENT6, VIP6, b"other family"),
        (("10.9.9.10", 5), VIP, &[7; 1400]),
        (CLIENT, VIP, b"second try"),
        (CLIENT, VIP, b"first try"),
    ] {
        bench.deliver_and_run(WAN, &client_udp(from, to, data));
    }
    assert!(bench.sent(LAN).is_empty());
    assert_eq!(bench.wakes(), 1);
    let fates = bench.fates();
    assert_eq!((fates.held, fates.replaced, fates.still_held), (5, 1, 4));
    bench.make_ready_instance();
    let sent: Vec<Seen> = bench.sent(LAN).iter().map(|frame| read(frame)).collect();
    let v4: Vec<&[u8]> = sent.iter().filter(|seen| seen.to.0 == HOST).map(|seen| &seen.data[..]).collect();
    assert_eq!(v4, [&b"first try"[..], &[7; 1400], b"second try"]);
    let v6: Vec<&[u8]> = sent.iter().filter(|seen| seen.to.0 == HOST6).map(|seen| &seen.data[..]).collect();
    assert_eq!(v6, [b"other family"]);
    // They are flows like any other now.
    bench.deliver_and_run(LAN, &answer((HOST, 8080), CLIENT, b"welcome"));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(VIP));
    bench.check_laws();
}

#[test]
fn a_datagram_that_waits_too_long_takes_the_overflow_action() {
    let fallback = Instance { port: 0, ..instance(0, InstanceState::Ready) };
    for overflow in [Overflow::Upstream, Overflow::Fallback, Overflow::Rst, Overflow::Drop] {
        let mut bench = bench(1, Service { overflow, instances: vec![fallback.clone()], ..cold_service() });
        bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"?"));
        bench.advance_ms(899);
        bench.run();
        assert_eq!(bench.fates().still_held, 1, "{overflow:?}");
        bench.advance_ms(1);
        bench.run();
        let (wan, lan) = (bench.sent(WAN), bench.sent(LAN));
        match overflow {
            Overflow::Upstream => assert_eq!(read(&wan[0]).to, end(VIP)),
            Overflow::Fallback => assert_eq!(read(&lan[0]).to, end((HOST, 443))),
            Overflow::Rst => assert_eq!(bench.drops(NodeId::Service, "overflow-no-rst"), 1),
            Overflow::Drop => assert_eq!(bench.drops(NodeId::Service, "hold-expired"), 1),
        }
        let left = usize::from(matches!(overflow, Overflow::Upstream | Overflow::Fallback));
        assert_eq!((wan.len() + lan.len(), bench.fates().expired), (left, 1), "{overflow:?}");
        bench.check_laws();
    }
}

#[test]
fn a_flood_of_forged_datagrams_wakes_once_and_is_gone_in_half_a_minute() {
    let mut bench = bench(1, cold_service());
    bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, b"?"));
    bench.make_ready_instance();
    for n in 0..900u16 {
        let from = format!("10.{}.{}.1", 1 + n % 7, n / 7);
        bench.deliver_and_run(WAN, &client_udp((&from, 1000 + n), VIP, b"!"));
        bench.sent(LAN);
    }
    assert_eq!((bench.wakes(), flows(&bench)), (1, 901));
    bench.deliver_and_run(LAN, &answer((HOST, 8080), CLIENT, b"answered"));
    pass(&mut bench, u64::from(UDP_UNANSWERED_SECONDS));
    assert_eq!(flows(&bench), 1);
    bench.check_laws();
}

trait Ready {
    /// Publishes a ready instance of service 0 at its endpoints here, and says so.
    fn make_ready_instance(&mut self);
}

impl Ready for Bench {
    fn make_ready_instance(&mut self) {
        let mut services = (*self.tables.services).clone();
        let mut service = (**services.get(ServiceId(0)).unwrap()).clone();
        service.instances.push(instance(1, InstanceState::Ready));
        let endpoints: Vec<Endpoint> = services.endpoints(ServiceId(0)).copied().collect();
        services.insert(ServiceId(0), std::sync::Arc::new(service), &endpoints);
        self.tables.services = std::sync::Arc::new(services);
        self.publish();
        self.set_phase(0, Phase::Ready);
        self.run();
    }
}

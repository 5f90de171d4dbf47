//! What is counted of handshakes with instances: what the instance does, and nothing that a client can make up. And what
//! becomes of flows to an instance that is down.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const INSTANCE: End = ("198.51.100.7", 8080);
const HOST_SIDE: ([u8; 6], [u8; 6]) = (HOST_MAC, LAN_MAC);
const CLIENT_SIDE: ([u8; 6], [u8; 6]) = (CLIENT_MAC, WAN_MAC);

/// Begun, answered, refused and unanswered, over all workers.
fn counted(bench: &Bench, slot: usize) -> [u64; 4] {
    let workers = bench.shared.workers.iter().map(|worker| &worker.counters.handshakes[slot]);
    workers.fold([0; 4], |sum, one| {
        let counted = [&one.begun, &one.answered, &one.refused, &one.unanswered].map(|counter| counter.get());
        std::array::from_fn(|at| sum[at] + counted[at])
    })
}

fn bench(workers: usize) -> Bench {
    let mut bench = Bench::new(workers);
    bench.set_service(0, fixed_service());
    bench
}

/// Delivers to any of the queues, as a device that spreads without regard for flows would.
fn deliver(bench: &mut Bench, n: usize, port: PortId, frame: &[u8]) {
    assert!(bench.net.deliver(port, (n % bench.workers.len()) as u16, frame));
    bench.run();
}

/// What the instance says to the SYN of a client.
fn answer(client: End<'_>, control: TcpControl) -> Vec<u8> {
    tcp_frame(HOST_SIDE, INSTANCE, client, control, Some(2), 7, b"")
}

/// Lets time go by in steps that the sweep, which passes a few flows in one, can follow.
fn wait_seconds(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds * 100 {
        bench.advance_ms(10);
        bench.run();
    }
}

#[test]
fn a_flood_of_forged_syns_that_the_instance_answers_is_all_answers() {
    let mut bench = bench(4);
    for n in 0..400 {
        let addr = format!("10.{}.{}.9", n / 200, n % 200);
        let client: End = (&addr, 1024 + n as u16);
        deliver(&mut bench, n, WAN, &syn(client, VIP, 1));
        if n % 2 == 0 {
            // What the forged sender says besides changes nothing.
            deliver(&mut bench, n + 1, WAN, &syn(client, VIP, 1));
        }
        deliver(&mut bench, n, LAN, &answer(client, TcpControl::Syn));
        deliver(&mut bench, n + 1, LAN, &answer(client, TcpControl::Syn));
        if n % 3 == 0 {
            // So says the station that the answer came to, which has never asked.
            let reset = tcp_frame(CLIENT_SIDE, client, VIP, TcpControl::Rst, None, 2, b"");
            deliver(&mut bench, n, WAN, &reset);
        }
    }
    assert_eq!(counted(&bench, 0), [400, 400, 0, 0]);
    wait_seconds(&mut bench, 30);
    assert_eq!(counted(&bench, 0), [400, 400, 0, 0]);
    bench.check_laws();
}

#[test]
fn a_refusal_counts_once_and_from_where_the_instance_is() {
    let mut bench = bench(2);
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    deliver(&mut bench, 1, LAN, &answer(CLIENT, TcpControl::Rst));
    deliver(&mut bench, 1, LAN, &answer(CLIENT, TcpControl::Rst));
    assert_eq!(counted(&bench, 0), [1, 0, 1, 0]);
    // Its port is used again: another handshake.
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 100));
    deliver(&mut bench, 1, LAN, &answer(CLIENT, TcpControl::Rst));
    assert_eq!(counted(&bench, 0), [2, 0, 2, 0]);
    // Another station says so: by the client's port, or on the instance's network.
    let forged = [
        (WAN, tcp_frame(CLIENT_SIDE, INSTANCE, CLIENT, TcpControl::Rst, Some(2), 7, b"")),
        (LAN, tcp_frame((CLIENT_MAC, LAN_MAC), INSTANCE, CLIENT, TcpControl::Rst, Some(2), 7, b"")),
    ];
    for (port, frame) in forged {
        deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 200));
        deliver(&mut bench, 0, port, &frame);
    }
    assert_eq!(counted(&bench, 0), [4, 0, 2, 0]);
    wait_seconds(&mut bench, 30);
    assert_eq!(counted(&bench, 0), [4, 0, 2, 0], "a client that was told isn't told again");
    bench.check_laws();
}

#[test]
fn silence_counts_when_the_flow_expires_and_a_client_that_gives_up_does_not() {
    let mut bench = bench(2);
    let quitter: End = ("10.9.9.9", 40_001);
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    deliver(&mut bench, 1, WAN, &syn(quitter, VIP, 1));
    deliver(&mut bench, 1, WAN, &tcp_frame(CLIENT_SIDE, quitter, VIP, TcpControl::Rst, None, 2, b""));
    wait_seconds(&mut bench, 8);
    assert_eq!(counted(&bench, 0), [2, 0, 0, 0]);
    wait_seconds(&mut bench, 4);
    assert_eq!(counted(&bench, 0), [2, 0, 0, 1]);
    assert_eq!(bench.fates().received, 3);
    bench.check_laws();
}

#[test]
fn a_client_beside_the_instance_may_be_answered_past_us() {
    let forged: End = ("198.51.100.99", 40_000);
    for (source, expected) in [(SourceAddress::Keep, 0), (SourceAddress::Appliance, 1)] {
        let mut bench = Bench::new(1);
        bench.set_service(0, Service { source, ..fixed_service() });
        deliver(&mut bench, 0, WAN, &syn(forged, VIP, 1));
        wait_seconds(&mut bench, 12);
        assert_eq!(counted(&bench, 0), [1, 0, 0, expected], "{source:?}");
        bench.check_laws();
    }
}

#[test]
fn what_says_that_the_instance_is_out_of_reach_counts_once_a_handshake() {
    let mut bench = bench(2);
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    let quoted = tcp_frame(CLIENT_SIDE, CLIENT, INSTANCE, TcpControl::Syn, None, 1, b"")[14..].to_vec();
    let error = |macs, from, says| icmp(macs, from, CLIENT.0, says, &quoted);
    // Too big for a link, time exceeded; and from elsewhere.
    deliver(&mut bench, 0, LAN, &error(HOST_SIDE, INSTANCE.0, (3, 4, 1400)));
    deliver(&mut bench, 1, LAN, &error(HOST_SIDE, INSTANCE.0, (11, 0, 0)));
    deliver(&mut bench, 1, WAN, &error(CLIENT_SIDE, INSTANCE.0, (3, 1, 0)));
    assert_eq!(counted(&bench, 0), [1, 0, 0, 0]);
    // Each SYN that the client repeats is answered so, by the instance or by a router before it.
    for from in [INSTANCE.0, "198.51.100.1", INSTANCE.0] {
        let from = if from == "198.51.100.1" { "198.51.100.254" } else { from };
        deliver(&mut bench, 0, LAN, &error(HOST_SIDE, from, (3, 1, 0)));
    }
    assert_eq!(counted(&bench, 0), [1, 0, 1, 0]);
    wait_seconds(&mut bench, 12);
    assert_eq!(counted(&bench, 0), [1, 0, 1, 0]);
    // It may answer all the same.
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    deliver(&mut bench, 0, LAN, &error(HOST_SIDE, INSTANCE.0, (3, 3, 0)));
    deliver(&mut bench, 0, LAN, &answer(CLIENT, TcpControl::Syn));
    assert_eq!(counted(&bench, 0), [2, 1, 2, 0]);
    // And what is said of an established flow is no handshake's.
    deliver(&mut bench, 0, LAN, &error(HOST_SIDE, INSTANCE.0, (3, 3, 0)));
    assert_eq!(counted(&bench, 0), [2, 1, 2, 0]);
    bench.check_laws();
}

/// A client's SYNs that no instance could answer, and what the handshakes of those that one could come to.
#[test]
fn a_handshake_begins_when_its_syn_has_left_in_a_state_that_an_instance_could_answer() {
    let whole = syn(CLIENT, VIP, 1);
    let options = tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Syn, None, 1, &[0; 64]);
    let first = fragments(&options, 9, &[32]).swap_remove(0);
    for source in [SourceAddress::Keep, SourceAddress::Appliance] {
        for (what, frame) in [
            ("used up", with_ttl(&whole, 1)),
            ("a wrong checksum", with_wrong_checksum(&whole)),
            ("a fragment that nothing follows", first.clone()),
        ] {
            let mut bench = Bench::new(2);
            bench.set_service(0, Service { source, ..fixed_service() });
            for n in 0..4 {
                deliver(&mut bench, n, WAN, &frame);
            }
            assert_eq!(counted(&bench, 0), [0; 4], "{what}");
            wait_seconds(&mut bench, 12);
            assert_eq!(counted(&bench, 0), [0; 4], "{what}");
            // Sent again in order, it begins; once, whatever comes with it.
            deliver(&mut bench, 0, WAN, &frame);
            deliver(&mut bench, 1, WAN, &whole);
            deliver(&mut bench, 0, WAN, &frame);
            deliver(&mut bench, 1, WAN, &whole);
            assert_eq!(counted(&bench, 0), [1, 0, 0, 0], "{what}");
            wait_seconds(&mut bench, 12);
            assert_eq!(counted(&bench, 0), [1, 0, 0, 1], "{what}");
            bench.check_laws();
        }
    }
}

/// The SYN that has a flow begin may be one that can't leave; one with a wrong checksum that can doesn't count for it.
#[test]
fn a_wrong_checksum_on_a_flow_whose_syn_was_used_up_begins_no_handshake() {
    let mut bench = bench(1);
    deliver(&mut bench, 0, WAN, &with_ttl(&syn(CLIENT, VIP, 1), 1));
    assert_eq!(bench.sum(|of| &of.fates.flows), 1);
    deliver(&mut bench, 0, WAN, &with_wrong_checksum(&syn(CLIENT, VIP, 1)));
    assert_eq!((bench.sent(LAN).len(), counted(&bench, 0)), (1, [0; 4]));
    wait_seconds(&mut bench, 12);
    assert_eq!(counted(&bench, 0), [0; 4]);
    bench.check_laws();
}

/// A client whose SYN never got there has the instance refuse what it says next: that says nothing of the instance.
#[test]
fn a_refusal_of_what_was_never_asked_does_not_count() {
    let mut bench = bench(1);
    deliver(&mut bench, 0, WAN, &with_ttl(&syn(CLIENT, VIP, 1), 1));
    deliver(&mut bench, 0, WAN, &segment(CLIENT, VIP, b"hello?"));
    assert_eq!(bench.sent(LAN).len(), 1, "it goes to the instance");
    deliver(&mut bench, 0, LAN, &answer(CLIENT, TcpControl::Rst));
    assert_eq!(counted(&bench, 0), [0, 0, 0, 0]);
    bench.check_laws();
}

#[test]
fn without_a_way_to_the_instance_no_handshake_begins() {
    let mut bench = bench(1);
    let interfaces = bench.tables.interfaces.clone();
    let narrow = interfaces.iter().map(|(id, interface)| {
        let mtu = if id.0 == 1 { 40 } else { interface.mtu };
        (id, millrace_fastpath::tables::interfaces::Interface { mtu, ..interface.clone() })
    });
    let narrow = millrace_fastpath::tables::interfaces::Interfaces::with_ids(narrow, interfaces.locals());
    bench.tables.interfaces = std::sync::Arc::new(narrow);
    bench.publish();
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    assert_eq!(bench.fates().answered + bench.drops(NodeId::Transit, "too-big"), 1);
    bench.tables.interfaces = interfaces;
    let routes =
        std::mem::replace(&mut bench.tables.routes, millrace_fastpath::tables::Routes::new(&[]).into());
    bench.publish();
    deliver(&mut bench, 0, WAN, &syn(("10.9.9.9", 2), VIP, 1));
    assert_eq!(bench.sum(|of| &of.fates.flows), 2);
    bench.tables.routes = routes;
    bench.publish();
    wait_seconds(&mut bench, 12);
    assert_eq!(counted(&bench, 0), [0; 4]);
    bench.check_laws();
}

/// Who doesn't answer for its link-layer address answers nothing: that shows a host that is gone, and isn't a client's doing.
#[test]
fn a_syn_that_waits_for_the_instances_link_layer_address_is_on_its_way() {
    let mut bench = bench(1);
    let interface = millrace_fastpath::tables::InterfaceId(1);
    bench.tables.neighbours.remove(interface, addr(INSTANCE.0));
    bench.publish();
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    assert_eq!((bench.fates().punted, counted(&bench, 0)), (1, [1, 0, 0, 0]));
    wait_seconds(&mut bench, 12);
    assert_eq!(counted(&bench, 0), [1, 0, 0, 1]);
    bench.check_laws();
}

/// The client's words have its hop limit, and so has the SYN that we send for them.
#[test]
fn a_spliced_clients_hop_limit_begins_no_handshake() {
    let service = Service { handling: Handling::Splice, overflow: Overflow::Rst, ..cold_service() };
    for (ttl, expected) in [(1, [0, 0, 0, 0]), (64, [1, 0, 0, 1])] {
        let mut bench = Bench::new(1);
        bench.set_service(0, service.clone());
        deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 100));
        let slot = bench.shared.slots.get(ServiceId(0));
        slot.set_handed(slot.load().1);
        bench.run();
        let Some((_, cookie, _)) = read(&bench.sent(WAN)[0]).tcp else { panic!("no SYN-ACK") };
        let own = cookie.wrapping_add(1);
        let answer = tcp_frame(CLIENT_SIDE, CLIENT, VIP, TcpControl::Psh, Some(own), 101, b"GET /");
        deliver(&mut bench, 0, WAN, &with_ttl(&answer, ttl));
        bench.make_ready(0);
        bench.run();
        assert_eq!((bench.sum(|of| &of.fates.flows), bench.sent(LAN).len()), (1, usize::from(ttl > 1)));
        wait_seconds(&mut bench, 30);
        assert_eq!(counted(&bench, 1), expected, "{ttl}");
        assert_eq!(bench.fates().still_held, 0);
        bench.check_laws();
    }
}

/// Two backends at 198.51.100.7 and .8, of which these are down.
fn two(down: [bool; 2]) -> Service {
    let backend = |host: usize| Instance {
        id: 0,
        addresses: [
            Some(addr(&format!("198.51.100.{}", 7 + host))),
            Some(addr(&format!("2001:db8:1::{}", 7 + host))),
        ],
        slot: InstanceSlotId(host as u32),
        fixed: true,
        down: [down[host]; 2],
        ..instance(0, InstanceState::Ready)
    };
    Service { wakes: false, instances: vec![backend(0), backend(1)], ..cold_service() }
}

/// Where a frame left for.
fn left(bench: &Bench) -> Option<String> {
    bench.sent(LAN).first().map(|frame| read(frame).to.0)
}

#[test]
fn who_is_down_gets_nothing_new_and_keeps_what_it_has() {
    let mut bench = Bench::new(2);
    let interface = millrace_fastpath::tables::InterfaceId(1);
    for host in ["198.51.100.8", "2001:db8:1::8"] {
        bench.tables.neighbours.insert(interface, addr(host), HOST_MAC);
    }
    bench.set_service(0, two([false, false]));
    let client = |n: usize| -> End<'static> { ("10.9.9.9", 20_000 + n as u16) };
    let mut homes = Vec::new();
    for n in 0..40 {
        deliver(&mut bench, n, WAN, &syn(client(n), VIP, 1));
        let home = left(&bench).unwrap();
        if n < 20 {
            let from: End = (&home, 8080);
            deliver(
                &mut bench,
                n,
                LAN,
                &tcp_frame(HOST_SIDE, from, client(n), TcpControl::Syn, Some(2), 7, b""),
            );
        }
        homes.push(home);
    }
    assert!(homes[..20].iter().any(|home| home == "198.51.100.7"));
    assert!(homes[20..].iter().any(|home| home == "198.51.100.7"));
    bench.set_service(0, two([true, false]));
    bench.sent(WAN);
    for (n, home) in homes.iter().enumerate() {
        if n < 20 {
            deliver(&mut bench, n, WAN, &segment(client(n), VIP, b"more"));
            assert_eq!(left(&bench).unwrap(), *home, "an established flow stays");
        } else {
            deliver(&mut bench, n, WAN, &syn(client(n), VIP, 1));
            assert_eq!(left(&bench).unwrap(), "198.51.100.8", "who is still waiting for an answer does not");
        }
    }
    for n in 40..60 {
        deliver(&mut bench, n, WAN, &syn(client(n), VIP, 1));
        assert_eq!(left(&bench).unwrap(), "198.51.100.8");
        deliver(&mut bench, n, WAN, &syn(("2001:db8:9::9", 20_000 + n as u16), VIP6, 1));
        assert_eq!(left(&bench).unwrap(), "2001:db8:1::8");
    }
    // It is back.
    bench.set_service(0, two([false, false]));
    let mut back = Vec::new();
    for n in 60..100 {
        deliver(&mut bench, n, WAN, &syn(client(n), VIP, 1));
        back.extend(left(&bench));
    }
    assert!(back.iter().any(|home| home == "198.51.100.7"));
    bench.check_laws();
}

#[test]
fn when_all_are_down_new_flows_take_the_overflow_action() {
    for (overflow, answered, dropped, transit) in
        [(Overflow::Rst, 1, 0, 0), (Overflow::Drop, 0, 1, 0), (Overflow::Upstream, 0, 0, 1)]
    {
        let mut bench = Bench::new(1);
        bench.set_service(0, Service { overflow, ..two([true, true]) });
        deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
        assert_eq!(bench.fates().answered, answered, "{overflow:?}");
        assert_eq!(bench.drops(NodeId::Service, "no-instance"), dropped, "{overflow:?}");
        assert_eq!(
            bench.shared.workers[0].counters.node(NodeId::Transit).frames.get(),
            transit,
            "{overflow:?}"
        );
        // What opens nothing is no business of it.
        deliver(&mut bench, 0, WAN, &segment(CLIENT, VIP, b"x"));
        assert_eq!(bench.drops(NodeId::Service, "no-flow"), 1, "{overflow:?}");
        bench.check_laws();
    }
}

#[test]
fn a_function_that_is_down_is_not_waited_for() {
    let mut bench = Bench::new(1);
    let mut service = Service { overflow: Overflow::Rst, ..cold_service() };
    service.instances.push(Instance { down: [true, true], ..instance(1, InstanceState::Ready) });
    bench.set_service(0, service.clone());
    bench.set_phase(0, Phase::Down);
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    assert_eq!((bench.fates().answered, bench.fates().held, bench.wakes()), (1, 0, 0));
    // Ready by the other family's address.
    service.instances[0].down = [true, false];
    bench.set_service(0, service.clone());
    bench.set_phase(0, Phase::Ready);
    deliver(&mut bench, 0, WAN, &syn(CLIENT, VIP, 1));
    assert_eq!((bench.fates().answered, bench.fates().held), (2, 0));
    deliver(&mut bench, 0, WAN, &syn(("2001:db8:9::9", 40_000), VIP6, 1));
    assert_eq!(left(&bench).as_deref(), Some("2001:db8:1::7"));
    bench.check_laws();
}

//! Forwarding past translation: by link-layer address, in IP, and in UDP; on one worker, from port to port.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::flow::entry::{NEW_SECONDS, ONE_WAY_SECONDS};
use millrace_fastpath::node::NodeId;
use millrace_fastpath::queue::Punt;
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);

/// A backend at one address.
fn backend(slot: u32, address: &str) -> Instance {
    let address = addr(address);
    let addresses = if address.is_v4() { [Some(address), None] } else { [None, Some(address)] };
    Instance { addresses, port: 0, slot: InstanceSlotId(slot), ..instance(0, InstanceState::Ready) }
}

fn service(forwarding: Forwarding, instances: Vec<Instance>) -> Service {
    Service { forwarding, instances, ..fixed_service() }
}

/// The inner packet of a tunnelled one, in an Ethernet frame again.
fn unwrapped(frame: &[u8], overhead: usize) -> Vec<u8> {
    let inner = &frame[14 + overhead..];
    let ethertype: [u8; 2] = if inner[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&frame[..12], &ethertype, inner].concat()
}

fn flows(bench: &Bench) -> u64 {
    bench.shared.workers[0].counters.fates.flows.get()
}

#[test]
fn by_link_layer_address_nothing_but_ethernet_and_the_hop_changes() {
    let mut bench = Bench::new(1);
    // Either family, whatever the family of the backend's address.
    bench.set_service(0, service(Forwarding::L2, vec![backend(0, "198.51.100.7")]));
    for (from, to) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        bench.deliver_and_run(WAN, &syn(from, to, 7));
        let sent = bench.sent(LAN);
        let seen = read(&sent[0]);
        assert_eq!(seen.macs, (LAN_MAC, HOST_MAC));
        assert_eq!((seen.from, seen.to, seen.hop_limit), (end(from), end(to), 63));
        bench.deliver_and_run(WAN, &segment(from, to, b"GET /"));
        assert_eq!(read(&bench.sent(LAN)[0]).data, b"GET /");
    }
    assert_eq!(flows(&bench), 2);
    bench.check_laws();
}

#[test]
fn a_backend_behind_a_router_has_no_link_layer_address() {
    let mut bench = Bench::new(1);
    bench.set_service(0, service(Forwarding::L2, vec![backend(0, "100.64.0.7")]));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    assert_eq!(bench.drops(NodeId::Service, "not-on-link"), 1);
    bench.check_laws();
}

#[test]
fn an_unknown_neighbour_is_asked_for_under_the_backends_address() {
    let mut bench = Bench::new(1);
    bench.set_service(0, service(Forwarding::L2, vec![backend(0, "198.51.100.8")]));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    let parcel = bench.shared.workers[0].queues.punts.pop().expect("it was punted");
    assert_eq!(parcel.punt, Punt::NeighbourUnknown);
    assert_eq!((parcel.interface, parcel.next_hop), (InterfaceId(1), addr("198.51.100.8")));
    bench.shared.workers[0].queues.punts_empty.push(parcel).unwrap();
    bench.check_laws();
}

#[test]
fn tunnels_take_either_family_to_their_backend_and_answers_go_past_us() {
    for (forwarding, v4, v6) in [(Forwarding::Ipip, 20, 40), (Forwarding::Gue, 32, 52)] {
        for (host, overhead) in [("198.51.100.7", v4), ("2001:db8:1::7", v6)] {
            let mut bench = Bench::new(1);
            bench.set_service(0, service(forwarding, vec![backend(0, host)]));
            for (from, to) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
                bench.deliver_and_run(WAN, &syn(from, to, 7));
                let sent = bench.sent(LAN);
                assert_eq!((&sent[0][..6], &sent[0][6..12]), (&HOST_MAC[..], &LAN_MAC[..]));
                let seen = read(&unwrapped(&sent[0], overhead));
                assert_eq!((seen.from, seen.to, seen.hop_limit), (end(from), end(to), 63));
                assert_eq!(seen.tcp, Some((TcpControl::Syn, 7, None)));
                // The backend's answer, should it come by here, is anybody's packet.
                bench.deliver_and_run(LAN, &host_segment(to, from, TcpControl::Syn, b""));
                assert_eq!(read(&bench.sent(WAN)[0]).from, end(to));
            }
            let udp = client_udp(CLIENT, ("203.0.113.10", 443), b"initial");
            bench.deliver_and_run(WAN, &udp);
            assert_eq!(read(&unwrapped(&bench.sent(LAN)[0], overhead)).data, b"initial");
            assert_eq!(flows(&bench), 3);
            bench.check_laws();
        }
    }
}

/// A sender learns what fits into the tunnel, and not what fits into the link behind it.
#[test]
fn who_sends_more_than_the_tunnel_has_room_for_is_told_how_much_it_has() {
    let mut bench = Bench::new(1);
    bench.set_service(0, service(Forwarding::Ipip, vec![backend(0, "198.51.100.7")]));
    for (from, to, most, says) in [(CLIENT, VIP, 1440, (3, 4, 1480)), (CLIENT6, VIP6, 1420, (2, 0, 1480))] {
        bench.deliver_and_run(WAN, &syn(from, to, 1));
        bench.sent(LAN);
        bench.deliver_and_run(WAN, &segment(from, to, &vec![0; most]));
        assert_eq!(bench.sent(LAN)[0].len(), 1514);
        let too_big = segment(from, to, &vec![0; most + 1]);
        bench.deliver_and_run(WAN, &too_big);
        let told = read_icmp(&bench.sent(WAN)[0]);
        assert_eq!((told.says, told.to.as_str()), (says, from.0));
        assert!(too_big[14..].starts_with(&told.quoted), "as it was sent");
    }
    // One hop left is none behind the tunnel's beginning.
    bench.deliver_and_run(WAN, &with_ttl(&segment(CLIENT, VIP, b""), 1));
    assert_eq!(read_icmp(&bench.sent(WAN)[0]).says, (11, 0, 0));
    assert_eq!(bench.fates().dropped, 0);
    // Who lets its packets be fragmented isn't told, and nobody does it.
    let mut lenient = segment(CLIENT, VIP, &[0; 1441]);
    lenient[20] &= !0x40;
    millrace_fastpath::wire::ipv4::fill_checksum(&mut lenient[14..], 20);
    bench.deliver_and_run(WAN, &lenient);
    assert_eq!(bench.drops(NodeId::Service, "too-big"), 1);
    // A packet came, so the flow is there, and the next one that fits goes where the first went.
    assert_eq!(flows(&bench), 2);
    bench.check_laws();
}

#[test]
fn a_backend_that_cannot_be_reached_is_said_to_be() {
    let mut bench = Bench::new(1);
    bench.set_service(0, service(Forwarding::Gue, vec![backend(0, "10.20.0.7")]));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    let sent = bench.sent(LAN);
    assert_eq!(sent[0][12..16], [0x81, 0x00, 0, 20], "outer headers and a tag");
    bench.tables.routes = Default::default();
    bench.publish();
    bench.deliver_and_run(WAN, &segment(CLIENT, VIP, b"x"));
    assert_eq!(read_icmp(&bench.sent(WAN)[0]).says, (3, 0, 0));
    bench.check_laws();
    // 10.20.0.0/24 is reached by a network where we have no IPv6 address.
    let mut bench = Bench::new(1);
    let on_vlan = millrace_fastpath::tables::routes::Route {
        prefix: addr("2001:db8:20::"),
        len: 64,
        next_hop: millrace_fastpath::tables::NextHop { interface: InterfaceId(2), via: None },
    };
    bench.tables.routes = std::sync::Arc::new(millrace_fastpath::tables::Routes::new(&[on_vlan]));
    bench.set_service(0, service(Forwarding::Gue, vec![backend(0, "2001:db8:20::7")]));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    assert_eq!(bench.drops(NodeId::Service, "no-tunnel-source"), 1);
    bench.check_laws();
}

/// Lets time go by in steps that the sweep, which passes the few flows here in one, can follow.
fn wait_seconds(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds {
        bench.advance_ms(1000);
        bench.run();
    }
}

#[test]
fn a_flow_of_which_one_side_is_seen_lives_by_that_side() {
    let mut bench = Bench::new(1);
    bench.set_service(0, service(Forwarding::Ipip, vec![backend(0, "198.51.100.7")]));
    let other: End = (CLIENT.0, 40_001);
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    bench.deliver_and_run(WAN, &syn(other, VIP, 1));
    // One client has got its answer, and says so.
    bench.deliver_and_run(WAN, &segment(other, VIP, b""));
    wait_seconds(&mut bench, u64::from(NEW_SECONDS) + 1);
    assert_eq!(flows(&bench), 1, "the SYN that came to nothing is forgotten");
    wait_seconds(&mut bench, u64::from(ONE_WAY_SECONDS - NEW_SECONDS) - 2);
    assert_eq!(flows(&bench), 1);
    wait_seconds(&mut bench, 3);
    assert_eq!(flows(&bench), 0);
    bench.check_laws();
}

#[test]
fn a_flow_stays_with_its_backend_when_backends_and_the_way_to_them_change() {
    let mut bench = Bench::new(1);
    let backends = || ["198.51.100.7", "198.51.100.8", "198.51.100.9"].map(|host| backend(0, host)).to_vec();
    for host in ["198.51.100.8", "198.51.100.9"] {
        bench.tables.neighbours.insert(InterfaceId(1), addr(host), HOST_MAC);
    }
    bench.set_service(0, service(Forwarding::Ipip, backends()));
    let outer = |bench: &mut Bench| -> Vec<Vec<u8>> {
        for port in 0..30 {
            bench.deliver(WAN, &segment((CLIENT.0, 50_000 + port), VIP, b"x"));
        }
        bench.run();
        bench.sent(LAN).iter().map(|frame| frame[30..34].to_vec()).collect()
    };
    let before = outer(&mut bench);
    assert!(before.iter().any(|to| *to != before[0]), "several backends have flows");
    let mut fewer = backends();
    fewer.remove(0);
    fewer[0].state = InstanceState::Draining;
    bench.set_service(0, service(Forwarding::Ipip, fewer));
    assert_eq!(outer(&mut bench), before);
    bench.set_service(0, service(Forwarding::Nat, backends()));
    assert_eq!(outer(&mut bench), before, "a flow is carried as it began");
    bench.check_laws();
}

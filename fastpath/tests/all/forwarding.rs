//! Transit, VLANs, balancing and translation, on one worker.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::Phase;
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const INSTANCE: End = ("198.51.100.7", 8080);
const INSTANCE6: End = ("2001:db8:1::7", 8080);

#[test]
fn transit_forwards_both_families_and_changes_only_what_it_must() {
    let mut bench = Bench::new(1);
    for (from, to) in [(CLIENT, ("198.51.100.7", 9)), (CLIENT6, ("2001:db8:1::7", 9))] {
        bench.deliver_and_run(WAN, &client_udp(from, to, b"payload"));
        let sent = bench.sent(LAN);
        assert_eq!(sent.len(), 1);
        let seen = read(&sent[0]);
        let expected = Seen {
            macs: (LAN_MAC, HOST_MAC),
            from: end(from),
            to: end(to),
            hop_limit: 63,
            tcp: None,
            data: b"payload".to_vec(),
        };
        assert_eq!(seen, expected);
    }
    assert_eq!(bench.fates().forwarded, 2);
    bench.check_laws();
}

#[test]
fn vlans_are_taken_off_and_put_on() {
    let mut bench = Bench::new(1);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, ("10.20.0.7", 9), b"in"));
    let sent = bench.sent(LAN);
    assert_eq!(sent[0][12..16], [0x81, 0x00, 0, 20]);
    let from_vlan = udp((HOST_MAC, LAN_MAC), ("10.20.0.7", 9), CLIENT, b"out");
    bench.deliver_and_run(LAN, &tagged(&from_vlan, 20));
    assert_eq!(read(&bench.sent(WAN)[0]).data, b"out");
    bench.deliver_and_run(LAN, &tagged(&from_vlan, 21));
    assert_eq!(bench.drops(NodeId::Classify, "unknown-vlan"), 1);
    bench.check_laws();
}

#[test]
fn a_vlan_inside_another_is_a_network_of_its_own() {
    let mut bench = Bench::new(1);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, ("10.30.0.7", 9), b"in"));
    let sent = bench.sent(LAN);
    assert_eq!(sent[0][12..22], [0x88, 0xa8, 0, 100, 0x81, 0x00, 0, 20, 0x08, 0x00]);
    let from_vlan = udp((HOST_MAC, LAN_MAC), ("10.30.0.7", 9), CLIENT, b"out");
    // Priority and drop eligibility share the tag with the id.
    let mut frame = double_tagged(&from_vlan, 100 | 0xb000, 20 | 0xf000);
    bench.deliver_and_run(LAN, &frame);
    assert_eq!(read(&bench.sent(WAN)[0]).data, b"out");
    // A priority tag around an ordinary one says nothing of the network.
    let from_plain = udp((HOST_MAC, LAN_MAC), ("10.20.0.7", 9), CLIENT, b"plain");
    bench.deliver_and_run(LAN, &double_tagged(&from_plain, 0x6000, 20));
    assert_eq!(read(&bench.sent(WAN)[0]).data, b"plain");
    assert_eq!(bench.fates().forwarded, 3);
    let mut outer_alone = tagged(&from_vlan, 100);
    outer_alone[12..14].copy_from_slice(&[0x88, 0xa8]);
    for wrong in [double_tagged(&from_vlan, 101, 20), double_tagged(&from_vlan, 20, 100), outer_alone] {
        bench.deliver_and_run(LAN, &wrong);
    }
    assert_eq!(bench.drops(NodeId::Classify, "unknown-vlan"), 3);
    for len in (14..22).rev() {
        frame.truncate(len);
        bench.deliver_and_run(LAN, &frame);
    }
    assert_eq!(bench.drops(NodeId::Classify, "short-ethernet"), 8);
    bench.check_laws();
}

#[test]
fn every_refusal_has_its_name() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let good = client_udp(CLIENT, ("198.51.100.7", 9), b"payload");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let resum = |bytes: &mut Vec<u8>| {
        millrace_fastpath::wire::ipv4::fill_checksum(&mut bytes[14..], 20);
    };
    let cases: Vec<(NodeId, &str, Vec<u8>)> = vec![
        (NodeId::Classify, "short-ethernet", vec![0; 5]),
        (NodeId::Classify, "not-our-mac", with(&|b| b[5] ^= 1)),
        (NodeId::Classify, "unknown-ethertype", with(&|b| b[12] = 0x99)),
        (NodeId::Classify, "short-ip", with(&|b| b.truncate(30))),
        (NodeId::Classify, "short-ip", with(&|b| b.truncate(40))),
        (NodeId::Classify, "ip-version", with(&|b| b[14] = 0x65)),
        (NodeId::Classify, "ip-length", with(&|b| b[14] = 0x44)),
        (NodeId::Classify, "ip-checksum", with(&|b| b[24] ^= 1)),
        (
            NodeId::Classify,
            "short-l4",
            with(&|b| {
                b[14 + 3] = 24;
                b.truncate(38);
                resum(b)
            }),
        ),
        (NodeId::Classify, "short-l4", with(&|b| b[38] = 0xff)),
        (NodeId::Classify, "short-l4", {
            let mut bytes = syn(CLIENT, ("198.51.100.7", 9), 1);
            bytes[46] = 0xf0; // options that the packet is too short for
            bytes
        }),
        (
            NodeId::Classify,
            "bad-source",
            with(&|b| {
                b[26] = 127;
                resum(b)
            }),
        ),
        (NodeId::Classify, "bad-source", client_udp(("0.0.0.0", 9), ("198.51.100.7", 9), b"")),
        (NodeId::Classify, "bad-source", client_udp(("239.1.1.1", 9), ("198.51.100.7", 9), b"")),
        (NodeId::Classify, "bad-source", client_udp(("255.255.255.255", 9), ("198.51.100.7", 9), b"")),
        (NodeId::Classify, "bad-source", client_udp(("::", 9), INSTANCE6, b"")),
        (NodeId::Classify, "bad-source", client_udp(("::1", 9), INSTANCE6, b"")),
        (NodeId::Classify, "bad-source", client_udp(("ff02::5", 9), INSTANCE6, b"")),
        (NodeId::Classify, "own-source", client_udp(("192.0.2.1", 9), ("198.51.100.7", 9), b"")),
        (NodeId::Classify, "own-source", client_udp(("198.51.100.1", 9), ("192.0.2.53", 53), b"")),
        (NodeId::Classify, "own-source", client_udp(("2001:db8::1", 9), INSTANCE6, b"")),
        (NodeId::Classify, "mapped-address", client_udp(("::ffff:10.0.0.1", 9), INSTANCE6, b"")),
        (NodeId::Classify, "mapped-address", syn(CLIENT6, ("::ffff:203.0.113.10", 80), 1)),
        (NodeId::Transit, "link-local", client_udp(("169.254.7.7", 9), ("198.51.100.7", 9), b"")),
        (NodeId::Transit, "link-local", client_udp(CLIENT, ("169.254.7.7", 9), b"")),
        (NodeId::Transit, "link-local", client_udp(("fe80::7", 9), INSTANCE6, b"")),
        (NodeId::Transit, "link-local", client_udp(CLIENT6, ("febf::7", 9), b"")),
        (NodeId::Transit, "link-local", syn(("fe80::7", 9), VIP6, 1)),
        (NodeId::Classify, "multicast", with(&|b| b[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]))),
        (NodeId::Classify, "no-such-port", syn(CLIENT, ("203.0.113.10", 9), 1)),
        (
            NodeId::Transit,
            "ttl-expired",
            with(&|b| {
                b[22] = 1;
                b[26..30].copy_from_slice(&[192, 0, 2, 255]); // nobody is told about what claims to be from everybody
                resum(b)
            }),
        ),
        (NodeId::Transit, "too-big", {
            let mut bytes = client_udp(CLIENT, ("198.51.100.7", 9), &[0; 1480]);
            bytes[20] = 0; // it might be fragmented, so its sender isn't told not to send such
            resum(&mut bytes);
            bytes
        }),
    ];
    let mut expected: std::collections::BTreeMap<(usize, &str), u64> = Default::default();
    for (node, name, frame) in &cases {
        bench.deliver_and_run(WAN, frame);
        *expected.entry((*node as usize, name)).or_default() += 1;
        assert_eq!(bench.drops(*node, name), expected[&(*node as usize, *name)], "{name}");
        assert!(bench.sent(LAN).is_empty() && bench.sent(WAN).is_empty(), "{name}");
    }
    assert_eq!(bench.fates().dropped, cases.len() as u64);
    bench.check_laws();
}

/// One connection through: the SYN, the answer, data both ways. `side` is where instances are.
fn connection(bench: &mut Bench, client: End, vip: End, instance: End, seen_client: Option<End>) {
    bench.deliver_and_run(WAN, &syn(client, vip, 100));
    let out = read(&bench.sent(LAN)[0]);
    let from = match seen_client {
        Some(kept) => end(kept),
        None => out.from.clone(),
    };
    assert_eq!((out.from.clone(), out.to.clone()), (from.clone(), end(instance)));
    assert_eq!(out.tcp, Some((TcpControl::Syn, 100, None)));
    let back_to = (out.from.0.as_str(), out.from.1);
    bench.deliver_and_run(LAN, &host_segment(instance, back_to, TcpControl::Syn, b""));
    let back = read(&bench.sent(WAN)[0]);
    assert_eq!((back.from, back.to, back.macs), (end(vip), end(client), (WAN_MAC, CLIENT_MAC)));
    bench.deliver_and_run(WAN, &segment(client, vip, b"GET /"));
    let request = read(&bench.sent(LAN)[0]);
    assert_eq!((request.from, request.to, request.data), (from, end(instance), b"GET /".to_vec()));
    bench.deliver_and_run(LAN, &host_segment(instance, back_to, TcpControl::Psh, b"200 OK"));
    assert_eq!(read(&bench.sent(WAN)[0]).data, b"200 OK");
}

#[test]
fn connections_are_translated_both_ways() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    connection(&mut bench, CLIENT, VIP, INSTANCE, Some(CLIENT));
    connection(&mut bench, CLIENT6, VIP6, INSTANCE6, Some(CLIENT6));
    assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 2);
    assert_eq!(bench.shared.workers[0].counters.service(ServiceId(0)).flows.get(), 2);
    bench.check_laws();
}

#[test]
fn the_source_is_the_appliance_where_it_must_be() {
    let mut bench = Bench::new(1);
    bench.set_service(0, Service { source: SourceAddress::Appliance, ..fixed_service() });
    connection(&mut bench, CLIENT, VIP, INSTANCE, None);
    connection(&mut bench, CLIENT6, VIP6, INSTANCE6, None);
    bench.deliver_and_run(WAN, &syn(("10.9.9.9", 40_001), VIP, 1));
    let out = read(&bench.sent(LAN)[0]);
    assert_eq!(out.from.0, "198.51.100.1");
    assert!(out.from.1 >= 16_384);
    bench.check_laws();
}

#[test]
fn client_and_instance_may_be_on_one_port() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let neighbour: End = ("198.51.100.9", 5000);
    bench.tables.neighbours.insert(millrace_fastpath::tables::InterfaceId(1), addr(neighbour.0), CLIENT_MAC);
    bench.publish();
    let first = tcp_frame((CLIENT_MAC, LAN_MAC), neighbour, VIP, TcpControl::Syn, None, 1, b"");
    bench.deliver_and_run(LAN, &first);
    let out = read(&bench.sent(LAN)[0]);
    assert_eq!((out.to, out.macs), (end(INSTANCE), (LAN_MAC, HOST_MAC)));
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, neighbour, TcpControl::Syn, b""));
    let back = read(&bench.sent(LAN)[0]);
    assert_eq!((back.from, back.to, back.macs), (end(VIP), end(neighbour), (LAN_MAC, CLIENT_MAC)));
    bench.check_laws();
}

#[test]
fn a_udp_service_keeps_its_conversations_and_zero_checksums() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let mut frame = client_udp(CLIENT, ("203.0.113.10", 443), b"initial");
    frame[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&[0, 0]);
    bench.deliver_and_run(WAN, &frame);
    let sent = bench.sent(LAN);
    assert_eq!(sent[0][40..42], [0, 0], "no checksum stays no checksum");
    bench.deliver_and_run(LAN, &udp((HOST_MAC, LAN_MAC), INSTANCE, CLIENT, b"answer"));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(("203.0.113.10", 443)));
    bench.check_laws();
}

#[test]
fn an_instance_that_talks_on_its_own_account_is_left_alone() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, CLIENT, TcpControl::None, b"hello"));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(INSTANCE));
    bench.check_laws();
}

#[test]
fn a_live_flow_outlasts_its_instance_in_the_tables() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    assert_eq!(bench.sent(LAN).len(), 1);
    bench.set_service(0, Service { instances: Vec::new(), ..fixed_service() });
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, CLIENT, TcpControl::Psh, b"still here"));
    assert_eq!(read(&bench.sent(WAN)[0]).from, end(VIP), "the client hears the address that it spoke to");
    bench.deliver_and_run(WAN, &segment(CLIENT, VIP, b"thanks"));
    assert_eq!(read(&bench.sent(LAN)[0]).to, end(INSTANCE));
    bench.check_laws();
}

#[test]
fn a_reset_of_nothing_takes_nobodys_place() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let reset = tcp_frame((CLIENT_MAC, WAN_MAC), CLIENT, VIP, TcpControl::Rst, None, 1, b"");
    bench.deliver_and_run(WAN, &reset);
    assert_eq!(bench.drops(NodeId::Service, "no-flow"), 1);
    assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 0);
    bench.check_laws();
}

#[test]
fn a_translated_port_without_a_flow_leads_nowhere() {
    let mut bench = Bench::new(1);
    bench.set_service(0, Service { source: SourceAddress::Appliance, ..fixed_service() });
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, ("198.51.100.1", 20_000), TcpControl::None, b"late"));
    assert_eq!(bench.drops(NodeId::Service, "no-flow"), 1);
    bench.check_laws();
}

#[test]
fn a_syn_on_the_ports_of_an_ended_connection_begins_anew_and_a_repeated_one_does_not() {
    let mut bench = Bench::new(1);
    bench.set_service(0, fixed_service());
    let begun = |bench: &Bench| bench.shared.workers[0].counters.service(ServiceId(0)).flows_begun.get();
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 1));
    assert_eq!(begun(&bench), 1);
    bench.deliver_and_run(LAN, &host_segment(INSTANCE, CLIENT, TcpControl::Fin, b""));
    bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 9));
    assert_eq!(begun(&bench), 2);
    assert_eq!(bench.shared.workers[0].counters.service(ServiceId(0)).flows.get(), 1);
    bench.check_laws();
}

#[test]
fn new_flows_follow_the_weights_and_leave_out_what_drains() {
    let mut bench = Bench::new(1);
    let other = |id: u64, weight, state| Instance {
        addresses: [Some(addr(&format!("198.51.100.{id}"))), None],
        weight,
        state,
        slot: InstanceSlotId(id as u32),
        ..instance(0, InstanceState::Ready)
    };
    let instances = vec![
        other(11, 3, InstanceState::Ready),
        other(12, 1, InstanceState::Ready),
        other(13, 5, InstanceState::Draining),
    ];
    bench.set_service(0, Service { instances, ..fixed_service() });
    for port in 0..400 {
        bench.deliver(WAN, &syn(("10.9.9.9", 10_000 + port), VIP, 1));
    }
    bench.run();
    let flows = |slot: usize| bench.shared.workers[0].counters.instance_flows[slot].get();
    assert_eq!(flows(13), 0);
    assert_eq!(flows(11) + flows(12), 400);
    assert!((240..=360).contains(&flows(11)), "three quarters, more or less: {}", flows(11));
    bench.check_laws();
}

#[test]
fn an_unknown_neighbour_sends_the_packet_to_the_slowpath_and_back() {
    let mut bench = Bench::new(1);
    bench.deliver_and_run(WAN, &client_udp(CLIENT, ("198.51.100.99", 9), b"x"));
    let queues = &bench.shared.workers[0].queues;
    let mut parcel = queues.punts.pop().expect("it was punted");
    assert_eq!(parcel.punt, millrace_fastpath::queue::Punt::NeighbourUnknown);
    assert_eq!((parcel.interface.0, parcel.next_hop), (1, addr("198.51.100.99")));
    millrace_fastpath::wire::ethernet::set_addresses(parcel.bytes_mut(), HOST_MAC, LAN_MAC);
    queues.injects.push(parcel).unwrap();
    bench.run();
    let seen = read(&bench.sent(LAN)[0]);
    assert_eq!((seen.data, seen.hop_limit), (b"x".to_vec(), 63));
    let fates = bench.fates();
    assert_eq!((fates.punted, fates.injected, fates.forwarded), (1, 1, 1));
    bench.check_laws();
}

#[test]
fn a_port_that_refuses_is_counted_and_loses_no_buffer() {
    let mut bench = Bench::new(1);
    bench.net.limit_transmit(LAN, 3);
    for port in 0..10 {
        bench.deliver(WAN, &client_udp(("10.9.9.9", port + 1), ("198.51.100.7", 9), b"x"));
    }
    bench.run();
    let fates = bench.fates();
    assert_eq!((fates.tx_accepted, fates.tx_refused), (3, 7));
    assert_eq!(bench.drops(NodeId::Output, "refused"), 7);
    bench.check_laws();
}

#[test]
fn stray_segments_wake_nobody() {
    let mut bench = Bench::new(1);
    bench.set_service(0, cold_service());
    bench.deliver_and_run(WAN, &segment(CLIENT, VIP, b"stray"));
    assert_eq!((bench.wakes(), bench.drops(NodeId::Service, "no-flow")), (0, 1));
    assert_eq!(bench.shared.slots.get(ServiceId(0)).load().0, Phase::Cold);
    bench.check_laws();
}

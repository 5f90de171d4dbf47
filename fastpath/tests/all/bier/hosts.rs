//! An access switch: bits that stand for networks of hosts, which get the payload alone.

use millrace_bier::forward::Down;
use millrace_fastpath::queue::{Injected, Punt};

use super::oam::{echo, shown};
use super::*;

/// Router 1 and its like are neighbour 0; hosts on the LAN have the numbers 2 and 3, those on its VLAN 4.
fn switch() -> Bench {
    let mut bench = Bench::new(1);
    access_switch(&mut bench, Bsl::B64, &[1], [&[2, 3], &[4]]);
    bench
}

/// What a group's hosts get on the LAN, and on its VLAN.
fn on_lan(ip: &[u8]) -> Vec<u8> {
    framed(&[], ip)
}

fn on_vlan(ip: &[u8]) -> Vec<u8> {
    framed(&[0x81, 0, 0, 20], ip)
}

fn framed(tag: &[u8], ip: &[u8]) -> Vec<u8> {
    match ip[0] >> 4 {
        4 => [&[1, 0, 0x5e, 1, 1, ip[19]][..], &LAN_MAC, tag, &[8, 0], ip].concat(),
        _ => [&[0x33, 0x33, 0, 1, 0, ip[39]][..], &LAN_MAC, tag, &[0x86, 0xdd], ip].concat(),
    }
}

fn ipv6(group: &str, hops: u8) -> Vec<u8> {
    let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17, hops];
    v6.extend("2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend(group.parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend([0x13, 0x88, 0x17, 0x70, 0, 8, 0, 0]);
    v6
}

fn sent(bench: &Bench) -> Vec<Vec<u8>> {
    assert!(bench.sent(WAN).is_empty());
    let mut sent = bench.sent(LAN);
    sent.sort();
    sent
}

/// Nobody is asked who listens: the group has no listener, and those of another get nothing more for it.
#[test]
fn the_bits_say_which_networks_get_the_payload() {
    for (v4, before, after) in [
        (true, ipv4("232.1.1.9", 9), ipv4("232.1.1.9", 8)),
        (true, ipv4("232.1.1.1", 9), ipv4("232.1.1.1", 8)),
        (false, ipv6("ff3e::1:9", 9), ipv6("ff3e::1:9", 8)),
    ] {
        // The numbers in the bit string, and who gets it.
        for (ids, lan, vlan, router) in [
            (&[2][..], true, false, false),
            (&[3, 2], true, false, false),
            (&[4], false, true, false),
            (&[2, 4], true, true, false),
            (&[1, 4], false, true, true),
            (&[1, 2, 3, 4], true, true, true),
            (&[1], false, false, true),
        ] {
            let mut bench = switch();
            // Padded, as short frames are.
            let padded = [&before[..], &[0; 20]].concat();
            bench.deliver_and_run(WAN, &packet(Bsl::B64, ids, 9, &padded));
            let mut got = sent(&bench);
            let at = got.iter().position(|frame| frame[12..14] == ETHERTYPE.to_be_bytes());
            assert_eq!(at.is_some(), router, "{ids:?}");
            if let Some(at) = at {
                assert_eq!(read(&got.remove(at), Bsl::B64), copy(0, 8, &[1], &padded), "{ids:?}");
            }
            let mut expected: Vec<_> = lan.then(|| on_lan(&after)).into_iter().collect();
            expected.extend(vlan.then(|| on_vlan(&after)));
            expected.sort();
            assert_eq!(got, expected, "{ids:?}, IPv4: {v4}");
            let links: Vec<_> = (0..3).map(|at| bench.sum(|counters| &counters.bier.copies[at])).collect();
            assert_eq!(links, [u64::from(router), u64::from(lan), u64::from(vlan)]);
            let made = u64::from(lan) + u64::from(vlan) + u64::from(router);
            let fates = bench.fates();
            assert_eq!((fates.replicated, fates.copies, fates.dropped), (1, made, 0));
            bench.check_laws();
        }
    }
}

/// Listeners of the own bit get theirs beside, and long payloads are whole though others share them.
#[test]
fn hosts_listeners_and_routers_get_theirs_of_one_packet() {
    let ip = |ttl| {
        let frame = frames::client_udp(("192.0.2.100", 5000), ("232.1.1.1", 6000), &[7; 1300]);
        frames::with_ttl(&frame, ttl)[14..].to_vec()
    };
    let mut bench = switch();
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[OURS, 1, 4], 9, &ip(9)));
    let (before, after) = (ip(9), ip(8));
    let got = sent(&bench);
    let bier: Vec<_> = got.iter().filter(|frame| frame[12..14] == ETHERTYPE.to_be_bytes()).collect();
    assert_eq!(bier.len(), 1);
    assert_eq!(read(bier[0], Bsl::B64), copy(0, 8, &[1], &before));
    let count = |wanted: &Vec<u8>| got.iter().filter(|frame| *frame == wanted).count();
    // The group has listeners on both networks, and the VLAN's hosts have their bit as well.
    assert_eq!((count(&on_lan(&after)), count(&on_vlan(&after)), got.len()), (1, 2, 4));
    bench.check_laws();
}

/// We are the egress of their bits as of our own.
#[test]
fn the_last_hop_serves_hosts() {
    let after = ipv4("232.1.1.9", 8);
    for (ttl, ids, lan, drop, expired) in [
        (1, &[2][..], true, None, 0),
        (1, &[2, 1], true, None, 1),
        (0, &[2], false, Some("ttl-expired"), 1),
        (2, &[2], true, None, 0),
    ] {
        let mut bench = switch();
        bench.deliver_and_run(WAN, &packet(Bsl::B64, ids, ttl, &ipv4("232.1.1.9", 9)));
        let expected: Vec<_> = lan.then(|| on_lan(&after)).into_iter().collect();
        let got = sent(&bench);
        let plain: Vec<_> = got.iter().filter(|frame| frame[0] & 1 == 1).cloned().collect();
        assert_eq!(plain, expected, "TTL {ttl} to {ids:?}");
        assert_eq!(drop.map_or(0, |name| bench.drops(NodeId::Bier, name)), u64::from(drop.is_some()));
        assert_eq!(lost(&bench, Loss::Expired), expired, "TTL {ttl} to {ids:?}");
        bench.check_laws();
    }
}

#[test]
fn what_hosts_cant_get_is_lost_by_name() {
    let whole = ipv4("232.1.1.9", 9);
    let of = |proto, payload: &[u8]| packet_of(Carriage::NonMpls, Bsl::B64, &[2], 9, proto, payload);
    for (frame, loss) in [
        (of(Proto::Ipv4, &ipv4("232.1.1.9", 1)), Loss::BadPayload),
        (of(Proto::Ipv4, &ipv4("192.0.2.1", 9)), Loss::BadPayload),
        (of(Proto::Ipv4, &whole[..25]), Loss::BadPayload),
        (of(Proto::Ipv4, &ipv6("ff3e::1:9", 9)), Loss::BadPayload),
        (of(Proto::Ipv6, &ipv6("ff3e::1:9", 1)), Loss::BadPayload),
        (of(Proto::Ipv6, &ipv6("2001:db8::1", 9)), Loss::BadPayload),
        (of(Proto::Ethernet, &[2; 60]), Loss::UnknownProto),
        (of(Proto::MplsDownstream, &whole), Loss::UnknownProto),
        (of(Proto::Geneve, &whole), Loss::UnknownProto),
        (of(Proto::Ipv4, &ipv4_of("232.1.1.9", 1501)), Loss::TooBig),
    ] {
        let mut bench = switch();
        bench.deliver_and_run(WAN, &frame);
        assert_eq!((sent(&bench), lost(&bench, loss)), (vec![], 1), "{loss:?}");
        assert_eq!(bench.drops(NodeId::Bier, "lost"), 1, "{loss:?}");
        bench.check_laws();
    }
    let mut bench = switch();
    bench.deliver_and_run(WAN, &of(Proto::Ipv4, &ipv4_of("232.1.1.9", 1500)));
    assert_eq!(sent(&bench).len(), 1, "as long as the link carries");
}

/// A whole IPv4 packet of so many bytes.
fn ipv4_of(group: &str, len: usize) -> Vec<u8> {
    let frame = frames::client_udp(("192.0.2.100", 5000), (group, 6000), &vec![7; len - 28]);
    frames::with_ttl(&frame, 9)[14..].to_vec()
}

/// Until the flags of neighbours say so, too, the port does.
#[test]
fn a_port_that_is_down_takes_its_hosts_with_it() {
    let mut bench = switch();
    let frame = packet(Bsl::B64, &[1, 2], 9, &ipv4("232.1.1.9", 9));
    bench.shared.set_port_down(LAN, true);
    bench.deliver_and_run(WAN, &frame);
    assert_eq!((sent(&bench), lost(&bench, Loss::Unroutable)), (vec![], 1));
    let tables = bench.tables.bier.as_mut().unwrap();
    Arc::make_mut(tables).down = vec![(SubDomain(9), Arc::new(Down::new(3)))];
    bench.publish();
    bench.deliver_and_run(WAN, &frame);
    assert_eq!((sent(&bench), lost(&bench, Loss::LinkDown)), (vec![], 2));
    bench.shared.set_port_down(LAN, false);
    bench.deliver_and_run(WAN, &frame);
    assert_eq!(sent(&bench).len(), 2);
    bench.check_laws();
}

/// Nobody else knows the hosts, so we answer for them, and none of them sees the message.
#[test]
fn echo_messages_for_hosts_are_ours() {
    for (ttl, ids, copies) in
        [(9, &[2][..], 0), (9, &[2, 4], 0), (9, &[1, 2], 1), (1, &[4], 0), (1, &[1, 4], 0)]
    {
        let mut bench = switch();
        let frame = echo(ids, ttl);
        bench.deliver_and_run(WAN, &frame);
        assert_eq!(shown(&bench), [(Punt::BierOam, InterfaceId(0), frame)], "TTL {ttl} to {ids:?}");
        let got = sent(&bench);
        assert_eq!(got.len(), copies, "TTL {ttl} to {ids:?}");
        assert!(got.iter().all(|frame| read(frame, Bsl::B64).ids == [1]));
        assert_eq!(bench.fates().punted, u64::from(copies == 0));
        assert_eq!(
            Loss::NAMES.iter().enumerate().map(|(at, _)| bench.sum(|of| &of.bier.lost[at])).sum::<u64>(),
            0
        );
        bench.check_laws();
    }
}

/// What is multicast on a network of ours reaches hosts elsewhere by their numbers, and none by two ways.
#[test]
fn flows_that_enter_here_leave_for_hosts_at_once() {
    let mut bench = switch();
    let flow = |group: &str| Flow { source: "192.0.2.100".parse().unwrap(), group: group.parse().unwrap() };
    let bier = Arc::make_mut(bench.tables.bier.as_mut().unwrap());
    let receivers = Receivers::new([1, 2, 4].into_iter().filter_map(BfrId::new));
    bier.overlay.set(flow("232.1.1.9"), SubDomain(0), Bsl::B64, &receivers);
    bench.publish();
    let frame =
        frames::with_ttl(&frames::client_udp(("192.0.2.100", 5000), ("232.1.1.9", 6000), b"to a group"), 9);
    let entering = [&[1, 0, 0x5e, 1, 1, 9][..], &frame[6..]].concat();
    bench.deliver_and_run(WAN, &entering);
    let after = ipv4("232.1.1.9", 7);
    let got = sent(&bench);
    assert_eq!((got.len(), got.contains(&on_lan(&after)), got.contains(&on_vlan(&after))), (3, true, true));
    // On the network where the hosts are they have heard it.
    put_on(&mut Arc::make_mut(bench.tables.bier.as_mut().unwrap()).links[1], WAN_IF);
    bench.publish();
    bench.deliver_and_run(WAN, &entering);
    assert_eq!(sent(&bench).len(), 2);
    bench.check_laws();
}

/// As the hub's packets do that one appliance makes for its own legs.
#[test]
fn what_begins_here_reaches_hosts() {
    let mut bench = switch();
    let queues = &bench.shared.workers[0].queues;
    let mut parcel = queues.injects_empty.pop().unwrap();
    assert!(parcel.fill(&packet(Bsl::B64, &[2, 4], 1, &ipv4("232.1.1.9", 9))));
    parcel.injected = Injected::Bier;
    queues.injects.push(parcel).unwrap();
    bench.run();
    let after = ipv4("232.1.1.9", 8);
    let mut expected = [on_lan(&after), on_vlan(&after)];
    expected.sort();
    assert_eq!(sent(&bench), expected);
    bench.check_laws();
}

//! Tunnels: copies inside UDP and IPv6 to routers beyond others, and what comes inside them to us.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::bier::{Bier, Link, Tunnel, Tunnels};
use millrace_fastpath::tables::routes::Routes;

use super::*;

/// Further away, behind the gateways of the WAN.
const FAR: [&str; 2] = ["203.0.113.99", "2001:db8:99::1"];
const OURS_ON_WAN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const NEXT_HEADER: u8 = 253;
const ENTROPY: u32 = 0x12345;
const DSCP: u8 = 46;

/// The ways to routers 1, 2, 3 and 4: a link, UDP over IPv4, UDP over IPv6, IPv6.
fn tunnels() -> Bench {
    let mut bench = bench(Bsl::B64, &[&[1], &[2], &[3], &[4]]);
    with_bier(&mut bench, |bier| {
        let to = FAR.map(addr);
        bier.links[1] = Link::Tunnel { to: to[0], tunnel: Tunnel::Udp };
        bier.links[2] = Link::Tunnel { to: to[1], tunnel: Tunnel::Udp };
        bier.links[3] = Link::Tunnel { to: to[1], tunnel: Tunnel::Ipv6 };
        bier.tunnels = Tunnels { own: None, peers: to.to_vec(), next_header: NEXT_HEADER };
        bier.tunnels.peers.sort_unstable();
    });
    bench
}

fn with_bier(bench: &mut Bench, change: impl FnOnce(&mut Bier)) {
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    change(&mut bier);
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

/// The one's complement sum over these, 0xffff where they include their right checksum.
fn summed(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn octets(addr: &str) -> Vec<u8> {
    match addr.parse().unwrap() {
        std::net::IpAddr::V4(addr) => addr.octets().to_vec(),
        std::net::IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// Takes the outer headers of a copy off, checks every field of them, and says by which tunnel it went.
fn outer(frame: &[u8], dscp: u8) -> (usize, Copy) {
    assert_eq!((&frame[..6], &frame[6..12]), (&CLIENT_MAC[..], &WAN_MAC[..]), "the gateway's");
    let ip = &frame[14..];
    let v4 = frame[12..14] == [8, 0];
    let (number, at) = if v4 {
        assert_eq!((ip[0], ip[1], ip[8], ip[9]), (0x45, dscp << 2, 255, 17));
        assert_eq!(u16::from_be_bytes([ip[2], ip[3]]) as usize, ip.len());
        assert_eq!((&ip[4..8], summed(&[&ip[..20]])), (&[0, 0, 0x40, 0][..], 0xffff));
        assert_eq!(ip[12..20], [octets(OURS_ON_WAN[0]), octets(FAR[0])].concat());
        (1, 20)
    } else {
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        let first = 6 << 28 | u32::from(dscp) << 22 | ENTROPY;
        assert_eq!(ip[..4], first.to_be_bytes());
        assert_eq!((u16::from_be_bytes([ip[4], ip[5]]) as usize, ip[7]), (ip.len() - 40, 255));
        assert_eq!(ip[8..40], [octets(OURS_ON_WAN[1]), octets(FAR[1])].concat());
        (if ip[6] == 17 { 2 } else { 3 }, 40)
    };
    let inside = if number == 3 {
        assert_eq!(ip[6], NEXT_HEADER);
        &ip[at..]
    } else {
        let udp = &ip[at..];
        let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        assert!(word(0) >= 0xc000);
        assert_eq!((word(2), word(4) as usize), (8138, udp.len()));
        if v4 {
            assert_eq!(word(6), 0);
        } else {
            let length = (udp.len() as u32).to_be_bytes();
            assert_ne!(word(6), 0);
            assert_eq!(summed(&[&ip[8..40], &length, &[0, 0, 0, 17], udp]), 0xffff);
        }
        &udp[8..]
    };
    let as_by_a_link = [&frame[..6], &LAN_MAC, &ETHERTYPE.to_be_bytes(), inside].concat();
    (number, read(&as_by_a_link, Bsl::B64))
}

fn far_copy(id: u16, ttl: u8, payload: &[u8]) -> Copy {
    Copy { to: CLIENT_MAC, ttl, ids: vec![id], payload: payload.to_vec() }
}

/// Copied, shared, and rewritten in place; payloads of odd lengths, too.
#[test]
fn copies_leave_inside_the_headers_of_their_tunnels() {
    for size in [0, 1, 255, 256, 257, 801, 1400] {
        let payload: Vec<u8> = (0..size).map(|n| n as u8 | 0x40).collect();
        for ids in [&[1, 2, 3, 4][..], &[2, 3, 4], &[2], &[3], &[4]] {
            let mut bench = tunnels();
            bench.deliver_and_run(WAN, &packet(Bsl::B64, ids, 9, &payload));
            let mut found: Vec<_> = bench.sent(WAN).iter().map(|frame| outer(frame, DSCP)).collect();
            found.sort();
            let far = ids.iter().filter(|id| **id > 1);
            let expected: Vec<_> = far.map(|id| (usize::from(*id) - 1, far_copy(*id, 8, &payload))).collect();
            assert_eq!(found, expected, "{size} bytes to {ids:?}");
            let near: Vec<_> = bench.sent(LAN).iter().map(|frame| read(frame, Bsl::B64)).collect();
            let by_link = if ids.contains(&1) { vec![copy(0, 8, &[1], &payload)] } else { vec![] };
            assert_eq!(near, by_link);
            for link in 0..4 {
                let expected = u64::from(ids.contains(&(link as u16 + 1)));
                assert_eq!(bench.sum(|counters| &counters.bier.copies[link]), expected);
            }
            bench.check_laws();
        }
    }
}

/// DSCP means nothing behind a label, so nothing outside says it.
#[test]
fn what_came_as_mpls_has_no_dscp_outside() {
    let mut bench = tunnels();
    let mut frame = packet_by(Carriage::Mpls, Bsl::B64, &[2, 4], 9, &[0x45; 300]);
    frame[14 + 8] |= 0x0f;
    frame[14 + 9] |= 0xc0;
    bench.deliver_and_run(WAN, &frame);
    let mut found: Vec<_> = bench.sent(WAN).iter().map(|frame| outer(frame, 0).0).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 3]);
    bench.check_laws();
}

/// What a tunnel brings us, by swapping the ends of what we would send: no checksum changes by that.
fn come_in(frame: &[u8]) -> Vec<u8> {
    let mut back = [&WAN_MAC[..], &CLIENT_MAC, &frame[12..]].concat();
    let (at, len) = if frame[12..14] == [8, 0] { (26, 4) } else { (22, 16) };
    let (from, to) = back[at..at + 2 * len].split_at_mut(len);
    from.swap_with_slice(to);
    back
}

/// Packets to router 1 beside us, as each of the tunnels brings them.
fn arriving(payload: &[u8]) -> [Vec<u8>; 3] {
    let mut sender = tunnels();
    [2, 3, 4].map(|id| {
        sender.deliver_and_run(WAN, &packet(Bsl::B64, &[id], 10, payload));
        let mut frame = come_in(&sender.sent(WAN).pop().unwrap());
        // The sums stay right: bit 0 is set in place of another, and a checksum makes up for it.
        let header = if id == 2 {
            42
        } else if id == 3 {
            62
        } else {
            54
        };
        let string = &mut frame[header + 12..header + 20];
        let before = u16::from_be_bytes([string[6], string[7]]);
        string[7] = 1;
        if id == 3 {
            let sum = u16::from_be_bytes([frame[60], frame[61]]);
            let sum = !summed(&[&(!sum).to_be_bytes(), &(!before).to_be_bytes(), &[0, 1]]);
            frame[60..62].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    })
}

#[test]
fn what_comes_inside_a_tunnel_is_as_if_a_link_had_brought_it() {
    for size in [0, 1, 300] {
        let payload: Vec<u8> = (0..size).map(|n| n as u8 | 0x40).collect();
        for frame in arriving(&payload) {
            let mut bench = tunnels();
            bench.deliver_and_run(WAN, &frame);
            assert_eq!(copies(&bench, Bsl::B64), [copy(0, 8, &[1], &payload)]);
            // What pads a frame isn't of the packet.
            bench.deliver_and_run(WAN, &[&frame[..], &[0x55; 7]].concat());
            assert_eq!(copies(&bench, Bsl::B64), [copy(0, 8, &[1], &payload)]);
            bench.check_laws();
        }
    }
    // Delivered, too.
    let payload = ipv4("232.1.1.1", 9);
    for mut frame in arriving(&payload) {
        let header = frame.len() - payload.len() - 20;
        frame[header + 19] = 1 << (OURS - 1);
        if frame[20] == 17 {
            frame[60..62].fill(0);
        }
        let mut bench = tunnels();
        bench.deliver_and_run(WAN, &frame);
        assert_eq!(bench.sent(LAN).len(), 2, "two networks listen");
        bench.check_laws();
    }
}

fn refused(bench: &mut Bench, frame: &[u8], node: NodeId, name: &str) {
    bench.deliver_and_run(WAN, frame);
    assert!(bench.sent(LAN).is_empty() && bench.drops(node, name) == 1, "{name}");
    bench.check_laws();
}

#[test]
fn nobody_but_a_neighbour_is_believed() {
    let strangers = ["203.0.113.98", "2001:db8:99::2"].map(addr).to_vec();
    for frame in arriving(&[0x45; 40]) {
        let mut bench = tunnels();
        with_bier(&mut bench, |bier| bier.tunnels.peers.clone_from(&strangers));
        refused(&mut bench, &frame, NodeId::Bier, "not-a-neighbour");
    }
    // Where nobody sends to us through a tunnel, there is nothing that listens.
    let mut closed = tunnels();
    with_bier(&mut closed, |bier| bier.tunnels.peers.clear());
    let [v4, v6, plain] = arriving(&[0x45; 40]);
    for (frame, at, icmp) in [(v4, 23, [1, 3, 3]), (v6, 20, [58, 1, 4])] {
        closed.deliver_and_run(WAN, &frame);
        let told = &closed.sent(WAN)[0];
        let kind = if icmp[0] == 1 { 34 } else { 54 };
        assert_eq!([told[at], told[kind], told[kind + 1]], icmp, "no such port");
    }
    refused(&mut closed, &plain, NodeId::Classify, "unknown-next-header");
}

#[test]
fn what_is_spoilt_on_its_way_through_a_tunnel_has_a_name() {
    let [v4, v6, plain] = arriving(&[0x45; 40]);
    let with = |frame: &[u8], at: usize, to: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + to.len()].copy_from_slice(to);
        frame
    };
    refused(&mut tunnels(), &with(&v6, 90, &[0]), NodeId::Bier, "checksum");
    // IPv4's is optional, and checked where there is one.
    refused(&mut tunnels(), &with(&v4, 40, &[1, 1]), NodeId::Bier, "checksum");
    let mut without = tunnels();
    without.deliver_and_run(WAN, &with(&v6, 60, &[0, 0]));
    assert_eq!(copies(&without, Bsl::B64).len(), 1, "a neighbour may leave it out (RFC 6935)");
    // UDP that says it is shorter than the header inside; and an IPv6 packet that ends there.
    let short = with(&v4, 38, &[0, 8 + 11]);
    refused(&mut tunnels(), &short, NodeId::Bier, "fixed-part-cut");
    let short = with(&v4, 38, &[0, 8 + 19]);
    refused(&mut tunnels(), &short, NodeId::Bier, "bit-string-cut");
    for len in [0, 11] {
        let cut = with(&plain[..54 + len], 18, &(len as u16).to_be_bytes());
        refused(&mut tunnels(), &cut, NodeId::Bier, "fixed-part-cut");
    }
    // A fragment isn't put together.
    let mut first = with(&v4, 20, &[0x20, 0]);
    first[24..26].fill(0);
    let sum = !summed(&[&first[14..34]]);
    first[24..26].copy_from_slice(&sum.to_be_bytes());
    let mut bench = tunnels();
    refused(&mut bench, &first, NodeId::Classify, "fragment");
}

#[test]
fn what_stands_in_the_way_of_a_tunnel_has_a_name() {
    let payload = [0x45; 40];
    let all = packet(Bsl::B64, &[1, 2, 3, 4], 9, &payload);
    let by_link = [copy(0, 8, &[1], &payload)];
    let mut routes = tunnels();
    routes.tables.routes = Arc::new(Routes::default());
    with_bier(&mut routes, |_| {});
    routes.deliver_and_run(WAN, &all);
    assert_eq!((copies(&routes, Bsl::B64), lost(&routes, Loss::NoTunnel)), (by_link.into(), 3));
    routes.check_laws();

    let mut unknown = tunnels();
    unknown.tables.neighbours.remove(WAN_IF, addr("192.0.2.254"));
    with_bier(&mut unknown, |_| {});
    unknown.deliver_and_run(WAN, &all);
    assert_eq!((unknown.sent(WAN).len(), lost(&unknown, Loss::NeighbourUnknown)), (2, 1));
    unknown.check_laws();

    // Each tunnel takes what its headers leave of 1500 bytes.
    for (id, most) in [(2, 1500 - 28), (3, 1500 - 48), (4, 1500 - 40)] {
        let mut bench = tunnels();
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[id], 9, &vec![0x45; most - len(Bsl::B64)]));
        assert_eq!(bench.sent(WAN).iter().map(Vec::len).collect::<Vec<_>>(), [1514]);
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[id], 9, &vec![0x45; most - len(Bsl::B64) + 1]));
        assert_eq!((bench.sent(WAN).len(), lost(&bench, Loss::TooBig)), (0, 1));
        bench.check_laws();
    }
}

/// Neighbour 0 stands in for neighbour 1, whose tunnel leaves by the WAN; and the other way round.
#[test]
fn a_tunnel_goes_down_with_its_port_and_stands_in_for_a_link() {
    let payload = [0x45; 40];
    let mut bench = tunnels();
    bench.shared.set_port_down(WAN, true);
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[2], 9, &payload));
    assert_eq!(copies(&bench, Bsl::B64), [copy(0, 8, &[2], &payload)]);
    bench.shared.set_port_down(WAN, false);
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[2], 9, &payload));
    assert_eq!(outer(&bench.sent(WAN)[0], DSCP), (1, far_copy(2, 8, &payload)));

    with_bier(&mut bench, |bier| {
        bier.links.swap(0, 1);
        bier.links[1] =
            Link::Beside { interface: LAN_IF, via: neighbour_of(1).0, carriage: Carriage::NonMpls };
    });
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[2], 9, &payload));
    assert_eq!(copies(&bench, Bsl::B64), [copy(1, 8, &[2], &payload)]);
    bench.shared.set_port_down(LAN, true);
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[2], 9, &payload));
    assert_eq!(outer(&bench.sent(WAN)[0], DSCP), (1, far_copy(2, 8, &payload)));
    bench.check_laws();
}

#[test]
fn packets_come_from_the_address_that_neighbours_know() {
    let own = |bench: &mut Bench, own: &str| {
        let own: Addr = addr(own);
        with_bier(bench, |bier| bier.tunnels.own = Some(own));
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[2], 9, &[0x45; 40]));
        bench.sent(WAN)[0][26..30].to_vec()
    };
    let mut bench = tunnels();
    assert_eq!(own(&mut bench, "198.51.100.1"), [198, 51, 100, 1]);
    for other in ["198.51.100.9", "2001:db8::1"] {
        assert_eq!(own(&mut bench, other), [192, 0, 2, 1], "not ours, or of another family");
    }
}

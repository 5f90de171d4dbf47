//! Two appliances at the two ends of a cable, each the other's default route: whatever is put in comes to an end, and how
//! it ends is counted.
//!
//! Limits: the time to live of a packet; an error is never about an error, an answer never answered, a reset never reset.

use std::sync::Arc;

use millrace_fastpath::fates::Fates;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::interfaces::{Interface, Interfaces, Local};
use millrace_fastpath::tables::routes::{NextHop, Route, Routes};
use millrace_fastpath::tables::services::*;
use millrace_fastpath::tables::{InterfaceId, Neighbours};
use smoltcp::wire::TcpControl;

use crate::common::frames::*;
use crate::common::*;

/// The near one has the addresses that [`tables`] gives it; the far one's end with other numbers.
const NEAR: Site =
    Site { own: ["192.0.2.1", "2001:db8::1"], vip: ["203.0.113.10", "2001:db8:f::10"], dns: "192.0.2.53" };
const FAR: Site = Site {
    own: ["192.0.2.254", "2001:db8::fe"],
    vip: ["203.0.113.20", "2001:db8:f::20"],
    dns: "192.0.2.153",
};

struct Site {
    own: [&'static str; 2],
    vip: [&'static str; 2],
    dns: &'static str,
}

struct Pair {
    near: Bench,
    far: Bench,
    /// Frames that crossed the cable, from the near one to the far one and back.
    crossed: [usize; 2],
}

/// An appliance with one cable: `WAN_MAC` is the near one's end of it, `CLIENT_MAC` the far one's.
fn appliance(site: &Site, other: &Site, macs: [[u8; 6]; 2], service: Service) -> Bench {
    let mut bench = Bench::new(1);
    let addresses = site.own.iter().zip([24, 64]).map(|(text, len)| (addr(text), len)).collect();
    let cable = Interface {
        name: "cable".into(),
        port: WAN,
        vlan: None,
        outer: None,
        mac: macs[0],
        mtu: 1500,
        addresses,
    };
    let lan = bench.tables.interfaces.iter().nth(1).unwrap().1.clone();
    let is = |local: Local| move |text: &&str| (addr(text), local);
    let locals = site
        .own
        .iter()
        .map(is(Local { host: true, ..Local::default() }))
        .chain(site.vip.iter().map(is(Local { service: true, ..Local::default() })))
        .chain(std::iter::once(&site.dns).map(is(Local { dns: true, ..Local::default() })));
    let locals: Vec<_> = locals.collect();
    bench.tables.interfaces = Arc::new(Interfaces::new(vec![cable, lan], locals));
    let route = |prefix: &str, len, interface, via: Option<&str>| Route {
        prefix: addr(prefix),
        len,
        next_hop: NextHop { interface: InterfaceId(interface), via: via.map(addr) },
    };
    bench.tables.routes = Arc::new(Routes::new(&[
        route("0.0.0.0", 0, 0, Some(other.own[0])),
        route("::", 0, 0, Some(other.own[1])),
        route("198.51.100.0", 24, 1, None),
    ]));
    let mut neighbours = Neighbours::default();
    other.own.iter().for_each(|text| neighbours.insert(InterfaceId(0), addr(text), macs[1]));
    neighbours.insert(InterfaceId(1), addr("198.51.100.7"), HOST_MAC);
    bench.tables.neighbours = neighbours;
    bench.tables.names = zone::names([203, 0, 113, 10]);
    let endpoints: Vec<Endpoint> = site
        .vip
        .iter()
        .flat_map(|text| {
            [(80, 6), (443, 17)].map(|(port, protocol)| Endpoint { addr: addr(text), port, protocol })
        })
        .collect();
    let mut services = Services::new();
    services.insert(ServiceId(0), Arc::new(service), &endpoints);
    bench.tables.services = Arc::new(services);
    bench.publish();
    bench
}

impl Pair {
    /// Both have the same service, in the same phase.
    fn new(service: &Service, phase: Phase) -> Self {
        let near = appliance(&NEAR, &FAR, [WAN_MAC, CLIENT_MAC], service.clone());
        let far = appliance(&FAR, &NEAR, [CLIENT_MAC, WAN_MAC], service.clone());
        for bench in [&near, &far] {
            bench.set_phase(0, phase);
            bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(9));
        }
        Self { near, far, crossed: [0; 2] }
    }

    fn bypassed(overflow: Overflow) -> Self {
        Self::new(&Service { overflow, ..cold_service() }, Phase::Bypass)
    }

    /// Puts a frame in at the near one, as if the far one had sent it, and lets everything come to an end.
    fn put_in(&mut self, frame: &[u8]) {
        self.near.deliver(WAN, frame);
        for _ in 0..10_000 {
            self.near.run();
            let sent = self.near.sent(WAN);
            sent.iter().for_each(|frame| self.far.deliver(WAN, frame));
            self.far.run();
            let back = self.far.sent(WAN);
            back.iter().for_each(|frame| self.near.deliver(WAN, frame));
            self.crossed[0] += sent.len();
            self.crossed[1] += back.len();
            if sent.is_empty() && back.is_empty() {
                return;
            }
        }
        panic!("they go on for ever: {:?}", self.crossed);
    }

    fn dropped(&self, node: NodeId, name: &str) -> [u64; 2] {
        [&self.near, &self.far].map(|bench| bench.drops(node, name))
    }

    fn errors(&self) -> [u64; 2] {
        [&self.near, &self.far].map(|bench| bench.sum(|of| &of.fates.errors_sent))
    }

    fn fates(&self) -> [Fates; 2] {
        [&self.near, &self.far].map(Bench::fates)
    }

    /// Both are quiet, also later: nothing is left that a clock would set off.
    fn check(mut self) {
        for bench in [&mut self.near, &mut self.far] {
            for _ in 0..20 {
                bench.advance_ms(1000);
                bench.run();
                assert!(bench.sent(WAN).is_empty() && bench.sent(LAN).is_empty());
            }
            // What the slowpath was given stays with it here.
            bench.check_laws();
        }
    }
}

const NOWHERE: [(End<'static>, End<'static>); 2] =
    [(("10.9.9.9", 4000), ("172.16.1.1", 9)), (("2001:db8:9::9", 4000), ("2001:db8:77::1", 9))];

#[test]
fn a_packet_that_each_thinks_the_other_routes_crosses_as_often_as_it_may_live() {
    for (from, to) in NOWHERE {
        for ttl in [1, 2, 3, 64, 255] {
            let mut pair = Pair::bypassed(Overflow::Drop);
            pair.put_in(&with_ttl(&client_udp(from, to, b"x"), ttl));
            // It dies at the one or the other, which says so once. What it says comes back from there, and ends as what it is:
            // a packet from an address of its own.
            let hops = usize::from(ttl) - 1;
            assert_eq!(pair.crossed.iter().sum::<usize>(), hops + 2, "{from:?}, {ttl}");
            let (teller, other) = if ttl % 2 == 1 { (0, 1) } else { (1, 0) };
            assert_eq!((pair.errors()[teller], pair.errors()[other]), (1, 0));
            let own = pair.dropped(NodeId::Classify, "own-source");
            assert_eq!((own[teller], own[other]), (1, 0));
            assert_eq!(pair.dropped(NodeId::Transit, "ttl-expired"), [0, 0]);
            assert_eq!(pair.fates().map(|fates| fates.answered).iter().sum::<u64>(), 1);
            pair.check();
        }
    }
}

#[test]
fn a_service_that_passes_its_packets_on_upstream_is_no_loop_either() {
    for to in NEAR.vip {
        let from = if to.contains('.') { NOWHERE[0].0 } else { NOWHERE[1].0 };
        let mut pair = Pair::bypassed(Overflow::Upstream);
        pair.put_in(&with_ttl(
            &tcp_frame((CLIENT_MAC, WAN_MAC), from, (to, 80), TcpControl::Syn, None, 7, b""),
            9,
        ));
        assert_eq!(pair.crossed.iter().sum::<usize>(), 8 + 2);
        assert_eq!(pair.dropped(NodeId::Classify, "own-source").iter().sum::<u64>(), 1);
        assert_eq!(pair.errors().iter().sum::<u64>(), 1);
        assert_eq!(pair.near.sum(|of| &of.service(ServiceId(0)).overflowed), 5, "each time it comes by");
        pair.check();
    }
}

#[test]
fn who_speaks_to_a_port_where_nobody_is_in_the_others_name_has_it_told_once() {
    for family in 0..2 {
        let mut pair = Pair::bypassed(Overflow::Drop);
        // Between the addresses of the appliances, and between those of their services.
        for (from, to) in [(FAR.own, NEAR.own), (FAR.vip, NEAR.vip)] {
            pair.put_in(&client_udp((from[family], 5000), (to[family], 6000), b"x"));
        }
        assert_eq!((pair.crossed, pair.errors()), ([2, 0], [2, 0]));
        assert_eq!(pair.fates()[1].punted, 2, "errors about no flow are for the far one's own stack");
        pair.check();
    }
}

#[test]
fn errors_about_errors_are_never_sent() {
    for (from, to) in NOWHERE {
        let mut pair = Pair::bypassed(Overflow::Drop);
        let quoted = &client_udp(to, from, b"x")[14..];
        let says = if from.0.contains('.') { (3, 1, 0) } else { (1, 3, 0) };
        pair.put_in(&with_ttl(&icmp((CLIENT_MAC, WAN_MAC), from.0, to.0, says, quoted), 20));
        assert_eq!((pair.crossed.iter().sum::<usize>(), pair.errors()), (19, [0, 0]));
        assert_eq!(pair.dropped(NodeId::Transit, "ttl-expired"), [0, 1]);
        pair.check();
    }
}

#[test]
fn an_answer_is_not_answered() {
    let query = |id: u8, flags: u8| {
        let mut message = vec![0, id, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(b"\x05hello\x02fn\x07example\x00\x00\x01\x00\x01");
        message
    };
    let mut pair = Pair::bypassed(Overflow::Drop);
    let (from, to) = ((FAR.dns, 53), (NEAR.dns, 53));
    // A query in the other's name, nonsense, and what looks like an answer.
    pair.put_in(&client_udp(from, to, &query(1, 0)));
    assert_eq!((pair.crossed, pair.dropped(NodeId::Dns, "response")), ([1, 0], [0, 1]));
    pair.put_in(&client_udp(from, to, &query(2, 0x78)));
    assert_eq!(
        (pair.crossed, pair.dropped(NodeId::Dns, "response")),
        ([2, 0], [0, 2]),
        "NOTIMP isn't, either"
    );
    pair.put_in(&client_udp(from, to, &query(3, 0)[..14]));
    assert_eq!((pair.crossed, pair.dropped(NodeId::Dns, "response")), ([3, 0], [0, 3]), "nor FORMERR");
    pair.put_in(&client_udp(from, to, &query(4, 0x80)));
    assert_eq!((pair.crossed, pair.dropped(NodeId::Dns, "response")), ([3, 0], [1, 3]));
    pair.check();
}

#[test]
fn a_reset_is_not_reset() {
    for family in 0..2 {
        let mut pair = Pair::bypassed(Overflow::Rst);
        let segment = |control, ack| {
            let (from, to) = ((FAR.vip[family], 80), (NEAR.vip[family], 80));
            tcp_frame((CLIENT_MAC, WAN_MAC), from, to, control, ack, 7, b"")
        };
        pair.put_in(&segment(TcpControl::Syn, None));
        assert_eq!((pair.crossed, pair.dropped(NodeId::Service, "no-flow")), ([1, 0], [0, 1]));
        // What opens nothing isn't answered at all.
        for (n, frame) in [
            segment(TcpControl::Rst, None),
            segment(TcpControl::None, Some(1)),
            segment(TcpControl::Syn, Some(1)),
        ]
        .iter()
        .enumerate()
        {
            pair.put_in(frame);
            assert_eq!((pair.crossed, pair.dropped(NodeId::Service, "no-flow")), ([1, 0], [n as u64 + 1, 1]));
        }
        pair.check();
    }
}

#[test]
fn two_that_complete_handshakes_for_their_instances_dont_talk_to_each_other() {
    let splicing = Service { handling: Handling::Splice, overflow: Overflow::Rst, ..cold_service() };
    for family in 0..2 {
        let mut pair = Pair::new(&splicing, Phase::Waking);
        let segment = |control, ack| {
            let (from, to) = ((FAR.vip[family], 80), (NEAR.vip[family], 80));
            tcp_frame((CLIENT_MAC, WAN_MAC), from, to, control, ack, 7, b"")
        };
        // Each SYN is answered with a cookie; to the far one that answer is nobody's.
        pair.put_in(&segment(TcpControl::Syn, None));
        assert_eq!((pair.crossed, pair.dropped(NodeId::Service, "no-flow")), ([1, 0], [0, 1]));
        // Now both expect cookies back; what comes with none is dropped, and so is a reset.
        let back = tcp_frame(
            (WAN_MAC, CLIENT_MAC),
            (NEAR.vip[family], 81),
            (FAR.vip[family], 80),
            TcpControl::Syn,
            None,
            7,
            b"",
        );
        pair.far.deliver_and_run(WAN, &back);
        assert_eq!(pair.far.sent(WAN).len(), 1);
        for frame in [segment(TcpControl::None, Some(99)), segment(TcpControl::Rst, None)] {
            pair.put_in(&frame);
        }
        assert_eq!((pair.crossed, pair.dropped(NodeId::Service, "no-flow")), ([1, 0], [2, 1]));
        pair.check();
    }
}

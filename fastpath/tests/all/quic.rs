//! QUIC to a service whose connection ids say who made them: clients that move, instances that drain, come and go.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::services::*;
use millrace_fastpath::wire::quic_lb::{Codec, Key, Layout, ServerId};
use proptest::prelude::*;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 443);
const VIP6: End = ("2001:db8:f::10", 443);
/// What a client makes of chance for a server that it doesn't know yet (RFC 9000 §7.2).
const CHANCE: [u8; 8] = [0xe9, 1, 2, 3, 4, 5, 6, 7];

fn plain() -> Layout {
    Layout::new(1, 2, 5, None).unwrap()
}

/// Of a length that takes four passes, and of one that takes one.
fn layouts() -> [Layout; 3] {
    let key = Some(Key([7; 16]));
    [plain(), Layout::new(2, 4, 5, key).unwrap(), Layout::new(0, 2, 14, key).unwrap()]
}

fn v4(host: u8) -> String {
    format!("198.51.100.{}", 100 + host)
}

fn v6(host: u8) -> String {
    format!("2001:db8:1::1{host:02x}")
}

fn server_id(host: u8) -> ServerId {
    ServerId::new(&[1, host]).unwrap()
}

fn server(host: u8, state: InstanceState) -> Instance {
    Instance {
        addresses: [Some(addr(&v4(host))), Some(addr(&v6(host)))],
        port: 0,
        state,
        slot: InstanceSlotId(u32::from(host)),
        server_id: Some(server_id(host)),
        ..instance(0, InstanceState::Ready)
    }
}

fn service(hosts: impl IntoIterator<Item = u8>, layout: Option<Layout>) -> Service {
    let instances = hosts.into_iter().map(|host| server(host, InstanceState::Ready)).collect();
    Service { instances, quic: layout.into_iter().collect(), ..fixed_service() }
}

fn set(bench: &mut Bench, service: Service) {
    let endpoints = [VIP, VIP6].map(|(text, port)| Endpoint { addr: addr(text), port, protocol: 17 });
    let mut services = (*bench.tables.services).clone();
    services.insert(ServiceId(0), std::sync::Arc::new(service), &endpoints);
    bench.tables.services = std::sync::Arc::new(services);
    bench.publish();
}

fn bench(workers: usize, service: Service) -> Bench {
    let mut bench = Bench::new(workers);
    for host in 1..=32 {
        for address in [v4(host), v6(host)] {
            bench.tables.neighbours.insert(InterfaceId(1), addr(&address), HOST_MAC);
        }
    }
    set(&mut bench, service);
    bench
}

/// The id that a server makes, the `n`th of its.
fn id_of(layout: Layout, host: u8, n: u32) -> Vec<u8> {
    let nonce: Vec<u8> = [&[0; 20][..], &n.to_be_bytes()].concat();
    let codec = Codec::new(layout);
    (4..=18).find_map(|len| codec.make(server_id(host), &nonce[24 - len..])).unwrap().to_vec()
}

/// A whole first datagram of a client (RFC 9000 §14.1).
fn initial(id: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0xc3, 0, 0, 0, 1, id.len() as u8][..], id, &[0]].concat();
    bytes.resize(1200, 0x55);
    bytes
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x4a][..], id, &[0x99; 40]].concat()
}

/// Sends what a client says and gives back where it went: the one frame, read.
fn carry(bench: &mut Bench, from: End<'_>, to: End<'_>, data: &[u8]) -> Seen {
    bench.deliver_and_run(WAN, &client_udp(from, to, data));
    let sent = bench.sent(LAN);
    let [frame] = &sent[..] else { panic!("{} frames", sent.len()) };
    let seen = read(frame);
    assert_eq!(seen.data, data);
    seen
}

/// Which host it went to.
fn host(seen: &Seen) -> u8 {
    (1..=8).find(|host| [v4(*host), v6(*host)].contains(&seen.to.0)).unwrap()
}

fn by_id(bench: &Bench) -> u64 {
    bench.shared.workers.iter().map(|worker| worker.counters.fates.flows_by_id.get()).sum()
}

fn moved(n: u16) -> (String, u16) {
    (format!("10.{}.7.{}", 1 + n % 8, 1 + n % 200), 20_000 + n)
}

#[test]
fn a_client_that_moves_stays_with_its_instance_and_hears_it() {
    for layout in layouts() {
        for source in [SourceAddress::Keep, SourceAddress::Appliance] {
            let mut bench = bench(3, Service { source, ..service(1..=8, Some(layout)) });
            for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
                let first = carry(&mut bench, client, vip, &initial(&CHANCE));
                let at = host(&first);
                for n in 0..40 {
                    let (address, port) = match client == CLIENT {
                        true => moved(n),
                        false => (format!("2001:db8:9:{:x}::9", n + 1), 20_000 + n),
                    };
                    // Long headers carry the server's id as well, once the client has heard it.
                    let id = id_of(layout, at, u32::from(n));
                    let data = if n % 4 == 3 { initial(&id) } else { short(&id) };
                    let seen = carry(&mut bench, (&address, port), vip, &data);
                    assert_eq!(host(&seen), at, "{layout:?}, {n} times moved");
                    assert_eq!(seen.from == (address.clone(), port), source == SourceAddress::Keep);
                    let answer =
                        udp((HOST_MAC, LAN_MAC), (&seen.to.0, 443), (&seen.from.0, seen.from.1), b"ack");
                    bench.deliver_and_run(LAN, &answer);
                    let heard = read(&bench.sent(WAN)[0]);
                    assert_eq!((heard.from, heard.to), (end(vip), (address, port)));
                }
            }
            assert_eq!(by_id(&bench), 80);
            bench.check_laws();
        }
    }
}

/// What the test above would see if nobody looked at ids.
#[test]
fn without_a_layout_a_client_that_moves_is_another_client() {
    let mut bench = bench(1, service(1..=8, None));
    let at = host(&carry(&mut bench, CLIENT, VIP, &initial(&CHANCE)));
    let stays = (0..40).filter(|n| {
        let (address, port) = moved(*n);
        host(&carry(&mut bench, (&address, port), VIP, &short(&id_of(plain(), at, u32::from(*n))))) == at
    });
    assert!(stays.count() < 20);
    assert_eq!(by_id(&bench), 0);
    bench.check_laws();
}

#[test]
fn a_draining_instance_keeps_its_clients_and_gets_no_new_ones() {
    let mut bench = bench(1, service(1..=3, Some(plain())));
    let mut draining = service(1..=3, Some(plain()));
    draining.instances[1].state = InstanceState::Draining;
    set(&mut bench, draining);
    for n in 0..100 {
        let (address, port) = moved(n);
        assert_ne!(host(&carry(&mut bench, (&address, port), VIP, &initial(&CHANCE))), 2);
        let (address, port) = moved(n + 1000);
        assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &short(&id_of(plain(), 2, 0)))), 2);
    }
    // Once it has left, somebody else tells its clients that their connection is gone.
    set(&mut bench, service([1, 3], Some(plain())));
    let (address, port) = moved(3000);
    assert_ne!(host(&carry(&mut bench, (&address, port), VIP, &short(&id_of(plain(), 2, 0)))), 2);
    bench.check_laws();
}

/// A client makes up the id of its first packets, and may hit or choose an instance's.
#[test]
fn no_connection_begins_with_an_instance_that_drains_whatever_its_id_says() {
    for layout in layouts() {
        let mut draining = service(1..=3, Some(layout));
        draining.instances[1].state = InstanceState::Draining;
        let mut bench = bench(2, draining.clone());
        for n in 0..50 {
            let (address, port) = moved(n);
            let at =
                host(&carry(&mut bench, (&address, port), VIP, &initial(&id_of(layout, 2, u32::from(n)))));
            assert_ne!(at, 2, "{n}");
            // What it says next is of the same connection, also with the id that the instance has given it.
            let next = initial(&id_of(layout, at, u32::from(n) + 1000));
            assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &next)), at);
            let short = short(&id_of(layout, at, u32::from(n) + 2000));
            assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &short)), at);
        }
        assert_eq!(by_id(&bench), 0);
        // One that is ready may have given the id: to it, as the draft says.
        for n in 100..150 {
            let (address, port) = moved(n);
            let data = initial(&id_of(layout, 3, u32::from(n)));
            assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &data)), 3);
        }
        assert_eq!(by_id(&bench), 50);
        // A flow that is there goes on with the one that drains.
        let (address, port) = moved(200);
        set(&mut bench, service(2..=2, Some(layout)));
        assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &initial(&CHANCE))), 2);
        set(&mut bench, draining);
        let data = initial(&id_of(layout, 2, 200));
        assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &data)), 2);
        bench.check_laws();
    }
}

/// Only servers negotiate versions (RFC 9000 §17.2.1).
#[test]
fn a_version_negotiation_begins_nothing() {
    let negotiation = |id: &[u8]| {
        [&[0xca, 0, 0, 0, 0, id.len() as u8][..], id, &[4, 1, 2, 3, 4, 0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf]]
            .concat()
    };
    let cold = Service { quic: vec![plain()], ..cold_service() };
    for service in [service(1..=3, Some(plain())), cold] {
        let mut bench = bench(1, service);
        for (n, id) in [&CHANCE[..], &id_of(plain(), 2, 0), &[]].into_iter().enumerate() {
            bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, &negotiation(id)));
            assert_eq!(bench.drops(NodeId::Service, "quic-negotiation"), n as u64 + 1);
        }
        let fates = bench.fates();
        assert_eq!((fates.dropped, fates.held, bench.wakes(), by_id(&bench)), (3, 0, 0, 0));
        assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 0);
        bench.check_laws();
    }
    // On a flow it is the instance's to be surprised at.
    let mut bench = bench(1, service(1..=3, Some(plain())));
    let at = host(&carry(&mut bench, CLIENT, VIP, &initial(&CHANCE)));
    assert_eq!(host(&carry(&mut bench, CLIENT, VIP, &negotiation(&CHANCE))), at);
    bench.check_laws();
}

/// The first flight of a client whose handshake needs two datagrams, and what it sends when it hears nothing.
#[test]
fn all_of_a_first_flight_waits_and_reaches_one_instance_in_order() {
    let cold = Service { quic: vec![plain()], ..cold_service() };
    let mut bench = bench(1, cold.clone());
    let datagram = |number: u8| {
        let mut bytes = initial(&CHANCE);
        bytes[20] = number;
        bytes
    };
    for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        // A datagram that is said again in the same words is a copy; one with a new packet number isn't.
        for number in [1, 2, 1, 3, 4, 4, 5] {
            bench.deliver_and_run(WAN, &client_udp(client, vip, &datagram(number)));
        }
    }
    let fates = bench.fates();
    assert_eq!((bench.wakes(), fates.held, fates.replaced, fates.still_held), (1, 12, 4, 8));
    assert_eq!(bench.drops(NodeId::Service, "hold-flow-full"), 2);
    let instances =
        (1..=4).map(|host| Instance { id: 1, fixed: false, ..server(host, InstanceState::Ready) });
    set(&mut bench, Service { instances: instances.collect(), ..cold });
    bench.set_phase(0, millrace_fastpath::slots::Phase::Ready);
    bench.run();
    let seen: Vec<Seen> = bench.sent(LAN).iter().map(|frame| read(frame)).collect();
    for client in [CLIENT, CLIENT6] {
        let mine: Vec<&Seen> = seen.iter().filter(|seen| seen.from == end(client)).collect();
        assert_eq!(mine.iter().map(|seen| seen.data[20]).collect::<Vec<u8>>(), [1, 2, 3, 4]);
        assert!(mine.iter().all(|seen| host(seen) == host(mine[0])));
    }
    assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 2);
    bench.check_laws();
}

#[test]
fn what_could_not_begin_by_its_id_is_not_counted_as_begun() {
    let translated = Service { source: SourceAddress::Appliance, ..service(1..=3, Some(plain())) };
    let mut bench = bench(1, translated);
    bench.tables.policy.nat_ports = millrace_fastpath::tables::NatPorts::new(40_000, 40_003);
    bench.publish();
    for n in 0..20 {
        let (address, port) = moved(n);
        let data = short(&id_of(plain(), 2, u32::from(n)));
        bench.deliver_and_run(WAN, &client_udp((&address, port), VIP, &data));
    }
    let begun = bench.shared.workers[0].counters.fates.flows.get();
    assert_eq!((begun, by_id(&bench)), (4, 4));
    assert_eq!(bench.drops(NodeId::Service, "nat-exhausted"), 16);
    bench.check_laws();
}

#[test]
fn an_instance_that_has_not_served_yet_has_made_no_ids() {
    let mut starting = service(1..=2, Some(plain()));
    starting.instances[1].state = InstanceState::Starting;
    let mut bench = bench(1, starting);
    assert_eq!(host(&carry(&mut bench, CLIENT, VIP, &short(&id_of(plain(), 2, 0)))), 1);
    assert_eq!(by_id(&bench), 0);
    bench.check_laws();
}

/// Ids that can't be read, that nobody made, of the rotation that says so, too short: the hash decides, as without ids.
#[test]
fn an_id_that_leads_nowhere_is_balanced_as_any_flow() {
    let strange = |n: u8| -> Vec<u8> {
        let made = id_of(plain(), 1 + n % 8, u32::from(n));
        match n % 5 {
            0 => [&[made[0] | 0xe0], &made[1..]].concat(),
            1 => [&[made[0] ^ 0x40], &made[1..]].concat(),
            2 => id_of(plain(), 100 + n % 8, 0),
            3 => made[..7].to_vec(),
            _ => Vec::new(),
        }
    };
    let (mut with, mut without) = (bench(1, service(1..=8, Some(plain()))), bench(1, service(1..=8, None)));
    let mut reached = std::collections::BTreeSet::new();
    for n in 0..100 {
        let (address, port) = moved(u16::from(n));
        let mut data = initial(&strange(n));
        // A short header doesn't say how long its id is: only those that are readable as far as they go.
        if n % 5 < 3 && n % 2 == 0 {
            data = short(&strange(n));
        }
        let went = [&mut with, &mut without].map(|bench| host(&carry(bench, (&address, port), VIP, &data)));
        assert_eq!(went[0], went[1], "{n}");
        reached.insert(went[0]);
    }
    assert!(reached.len() > 4, "{reached:?}");
    assert_eq!(by_id(&with), 0);
    with.check_laws();
}

#[test]
fn what_is_cut_within_the_header_begins_nothing() {
    let mut bench = bench(1, service(1..=2, Some(plain())));
    let whole = [&[0xc3, 0, 0, 0, 1, 8][..], &CHANCE, &[3, 1, 2, 3]].concat();
    for len in 0..whole.len() {
        bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, &whole[..len]));
        assert_eq!(bench.drops(NodeId::Service, "quic-cut"), len as u64 + 1);
    }
    // Bytes behind the datagram, within the IP packet or the frame, are not its.
    let mut padded = client_udp(CLIENT, VIP, &whole[..10]);
    padded.extend_from_slice(&whole[10..]);
    let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(&mut padded[14..]);
    packet.set_total_len(20 + 8 + whole.len() as u16);
    packet.fill_checksum();
    bench.deliver_and_run(WAN, &padded);
    assert_eq!(bench.drops(NodeId::Service, "quic-cut"), whole.len() as u64 + 1);
    assert!(bench.sent(LAN).is_empty() && bench.sent(WAN).is_empty());
    assert_eq!(bench.shared.workers[0].counters.fates.flows.get(), 0);
    assert_eq!(
        host(&carry(&mut bench, CLIENT, VIP, &whole)),
        host(&carry(&mut bench, CLIENT, VIP, b"")),
        "its flow"
    );
    bench.check_laws();
}

#[test]
fn a_known_flow_goes_on_whatever_its_ids_say() {
    let mut bench = bench(1, service(1..=8, Some(plain())));
    let at = host(&carry(&mut bench, CLIENT, VIP, &initial(&CHANCE)));
    for other in 1..=8 {
        assert_eq!(host(&carry(&mut bench, CLIENT, VIP, &short(&id_of(plain(), other, 0)))), at);
    }
    assert_eq!(by_id(&bench), 0);
    bench.check_laws();
}

#[test]
fn two_appliances_lead_an_id_to_the_same_instance() {
    for layout in layouts() {
        let mut one = bench(1, service(1..=8, Some(layout)));
        let mut other = bench(4, service((1..=8).rev(), Some(layout)));
        for n in 0..64u16 {
            let (address, port) = moved(n);
            let at = 1 + (n % 8) as u8;
            let data = short(&id_of(layout, at, u32::from(n)));
            let went = [&mut one, &mut other].map(|bench| host(&carry(bench, (&address, port), VIP, &data)));
            assert_eq!(went, [at; 2]);
        }
        one.check_laws();
        other.check_laws();
    }
}

#[test]
fn a_moved_client_reaches_its_instance_by_every_way_of_forwarding() {
    for (forwarding, overhead) in [(Forwarding::L2, 0), (Forwarding::Ipip, 20), (Forwarding::Gue, 32)] {
        let mut bench = bench(1, Service { forwarding, ..service(1..=8, Some(plain())) });
        for host in 1..=8 {
            bench.tables.neighbours.insert(InterfaceId(1), addr(&v4(host)), [2, 0, 0, 0, 1, host]);
        }
        bench.publish();
        for (n, (client, vip)) in [(CLIENT, VIP), (CLIENT6, VIP6)].into_iter().enumerate() {
            for at in 1..=8 {
                let data = short(&id_of(plain(), at, 0));
                let from = (client.0, 50_000 + u16::from(at));
                bench.deliver_and_run(WAN, &client_udp(from, vip, &data));
                let sent = bench.sent(LAN);
                let frame = &sent[0];
                let ethertype: [u8; 2] = if n == 0 { [8, 0] } else { [0x86, 0xdd] };
                // Whole it goes by the IPv4 address, where there is one of the packet's own family by that.
                let outer = if n == 0 { overhead } else { overhead + if overhead > 0 { 20 } else { 0 } };
                let inner = [&frame[..12], &ethertype, &frame[14 + outer..]].concat();
                let seen = read(&inner);
                assert_eq!((seen.from, seen.to, seen.data), (end(from), end(vip), data));
                let to = match (forwarding, n) {
                    (Forwarding::L2, 0) => frame[5],
                    (Forwarding::L2, _) => continue,
                    (_, 0) => frame[14 + 19] - 100,
                    _ => frame[14 + 39],
                };
                assert_eq!(to, at);
            }
        }
        assert_eq!(by_id(&bench), 16);
        bench.check_laws();
    }
}

/// Nothing runs: what begins a connection wakes and waits, what goes on with one does neither.
#[test]
fn only_what_begins_a_connection_wakes() {
    let cold = Service { quic: vec![plain()], ..cold_service() };
    let mut bench = bench(1, cold.clone());
    bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, &short(&id_of(plain(), 1, 0))));
    assert_eq!((bench.wakes(), bench.drops(NodeId::Service, "quic-stray")), (0, 1));
    assert!(bench.sent(WAN).is_empty(), "and nobody is told that the port is closed");
    bench.deliver_and_run(WAN, &client_udp(CLIENT, VIP, &initial(&CHANCE)));
    assert_eq!((bench.wakes(), bench.fates().still_held), (1, 1));
    let placed = Instance { id: 1, fixed: false, ..server(7, InstanceState::Ready) };
    set(&mut bench, Service { instances: vec![placed], ..cold });
    bench.set_phase(0, millrace_fastpath::slots::Phase::Ready);
    bench.run();
    let seen = read(&bench.sent(LAN)[0]);
    assert_eq!((host(&seen), seen.data), (7, initial(&CHANCE)));
    // From elsewhere now, and while the service is on its way to rest.
    bench.set_phase(0, millrace_fastpath::slots::Phase::Draining);
    let (address, port) = moved(1);
    assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &short(&id_of(plain(), 7, 0)))), 7);
    bench.check_laws();
}

#[test]
fn a_layout_that_was_can_be_read_beside_the_one_that_is() {
    let [_, new, old] = layouts();
    let mut both = service(1..=4, Some(new));
    both.quic.push(old);
    let mut bench = bench(1, both);
    for n in 0..40u16 {
        let (address, port) = moved(n);
        let (layout, at) = (if n % 2 == 0 { new } else { old }, 1 + (n % 4) as u8);
        assert_eq!(host(&carry(&mut bench, (&address, port), VIP, &short(&id_of(layout, at, 0)))), at);
    }
    assert_eq!(by_id(&bench), 40);
    bench.check_laws();
}

/// One step of the test below.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client's connection begins.
    Begin,
    /// One of the clients moves, and says something.
    Move(u8),
    /// One of the clients says something from where it is.
    Speak(u8),
    /// An instance comes, drains or leaves.
    Turn(u8, Option<InstanceState>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = prop::option::weighted(
        0.8,
        prop::sample::select(vec![InstanceState::Ready, InstanceState::Draining]),
    );
    let step = prop_oneof![
        3 => Just(Step::Begin),
        4 => any::<u8>().prop_map(Step::Move),
        3 => any::<u8>().prop_map(Step::Speak),
        2 => (0u8..6, state).prop_map(|(host, state)| Step::Turn(host, state)),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// While instances come, drain and go, and clients move: a connection is with the instance that it began with as
    /// long as that is there, and no connection begins with one that drains.
    #[test]
    fn no_connection_breaks_while_its_instance_is_there(steps in steps(), keyed in any::<bool>()) {
        let layout = layouts()[usize::from(keyed)];
        let mut states: [Option<InstanceState>; 6] = [Some(InstanceState::Ready); 6];
        let mut bench = bench(2, service(1..=6, Some(layout)));
        // Of each connection the instance, the client's port, and how often it has moved.
        let mut connections: Vec<(u8, u16)> = Vec::new();
        let mut ports = 1024..;
        for step in steps {
            match step {
                Step::Begin => {
                    let port = ports.next().unwrap();
                    bench.deliver_and_run(WAN, &client_udp((CLIENT.0, port), VIP, &initial(&CHANCE)));
                    let ready = states.contains(&Some(InstanceState::Ready));
                    match &bench.sent(LAN)[..] {
                        [frame] => {
                            let at = host(&read(frame));
                            prop_assert_eq!(states[usize::from(at) - 1], Some(InstanceState::Ready));
                            connections.push((at, port));
                        }
                        sent => prop_assert!(sent.is_empty() && !ready),
                    }
                }
                Step::Move(which) | Step::Speak(which) => {
                    let count = connections.len();
                    let Some(connection) = connections.get_mut(usize::from(which) % count.max(1)) else { continue };
                    if matches!(step, Step::Move(_)) {
                        connection.1 = ports.next().unwrap();
                    }
                    let (at, port) = *connection;
                    let data = short(&id_of(layout, at, u32::from(port)));
                    if states[usize::from(at) - 1].is_some() {
                        prop_assert_eq!(host(&carry(&mut bench, (CLIENT.0, port), VIP, &data)), at);
                    } else {
                        connections.swap_remove(usize::from(which) % count);
                    }
                }
                Step::Turn(host, state) => {
                    states[usize::from(host)] = state;
                    let there = (1..=6).filter_map(|host| Some(server(host, states[usize::from(host) - 1]?)));
                    set(&mut bench, Service { instances: there.collect(), ..service([], Some(layout)) });
                }
            }
        }
        bench.check_laws();
    }
}

/// Any bytes to a service that reads ids: every frame has its one fate.
#[test]
fn hostile_datagrams_have_a_fate_each() {
    let mut bench = bench(2, service(1..=3, Some(layouts()[1])));
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..4000u16 {
        let bytes: Vec<u8> = (0..n % 48)
            .map(|_| {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                word as u8
            })
            .collect();
        let (address, port) = moved(n);
        bench.deliver_and_run(PortId(0), &client_udp((&address, port), VIP, &bytes));
    }
    let fates = bench.fates();
    assert_eq!(fates.received, 4000);
    let cut = bench.drops(NodeId::Service, "quic-cut");
    assert_eq!(fates.forwarded + cut, 4000);
    assert!(cut > 500 && by_id(&bench) == 0, "{cut}");
    bench.check_laws();
}

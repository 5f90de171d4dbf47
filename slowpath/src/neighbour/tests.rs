use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use millrace_fastpath::tables::names::HashKey;

use super::*;
use crate::builder::{TableBuilder, TableFiles, floating};
use crate::testing::{LAN, LAN_20, LAN_MAC, OTHER_MAC, PEER_MAC, WAN, WAN_MAC, addr, config, ms, ports};

const MAX: usize = 64;

fn machine() -> Machine<u32> {
    let config = config();
    let builder = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let floating = floating(&config).map(|(addr, _)| addr);
    Machine::new(&builder.tables().interfaces, floating, builder.static_neighbours(), MAX)
}

/// What a peer with `mac` sends, by the same builders that we send with: they are checked against smoltcp's parsers
/// below.
fn request(from: &str, mac: Mac, target: &str) -> Vec<u8> {
    let (from, target) = (addr(from), addr(target));
    if from.is_v4() {
        arp::request(from, mac, target, None)
    } else {
        nd::solicitation(from, mac, target, None)
    }
}

fn answer(of: &str, mac: Mac, to: &str, to_mac: Mac) -> Vec<u8> {
    let (of, to) = (addr(of), addr(to));
    if of.is_v4() { arp::reply(of, mac, to, to_mac) } else { nd::advertisement(of, mac, Some((to, to_mac))) }
}

fn feed(machine: &mut Machine<u32>, at: u64, interface: InterfaceId, frame: &[u8]) -> Vec<Output<u32>> {
    let mut out = Vec::new();
    machine.receive(ms(at), interface, frame, &mut out);
    out
}

fn poll(machine: &mut Machine<u32>, at: u64) -> Vec<Output<u32>> {
    let mut out = Vec::new();
    machine.poll(ms(at), &mut out);
    out
}

fn resolve(machine: &mut Machine<u32>, at: u64, to: &str, packet: u32) -> Vec<Output<u32>> {
    let mut out = Vec::new();
    machine.resolve(ms(at), LAN, addr(to), packet, &mut out);
    out
}

fn ethernet(frame: &[u8]) -> (Mac, Mac) {
    (frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap())
}

fn sent(out: &[Output<u32>]) -> Vec<(InterfaceId, Message)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send(interface, frame) => {
                let payload = &frame[14..];
                let message = if frame[12] == 8 { arp::parse(payload) } else { nd::parse(payload) };
                Some((*interface, message.expect("what we send is well-formed")))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn requests_for_all_our_addresses_are_answered_and_no_others() {
    for (interface, mac, from, target, ours) in [
        (WAN, WAN_MAC, "192.0.2.9", "192.0.2.1", true),
        (WAN, WAN_MAC, "192.0.2.9", "192.0.2.53", true),
        (LAN, LAN_MAC, "198.51.100.9", "203.0.113.10", true),
        (LAN_20, LAN_MAC, "10.20.0.9", "10.20.0.1", true),
        (WAN, WAN_MAC, "2001:db8::9", "2001:db8::1", true),
        (WAN, WAN_MAC, "2001:db8::9", "2001:db8:f::10", true),
        (WAN, WAN_MAC, "fe80::9", "fe80::ff:fe00:1", true),
        (LAN, LAN_MAC, "198.51.100.9", "198.51.100.8", false),
        (LAN, LAN_MAC, "198.51.100.9", "192.0.2.1", false),
        (WAN, WAN_MAC, "2001:db8::9", "2001:db8::2", false),
    ] {
        let mut machine = machine();
        let out = feed(&mut machine, 0, interface, &request(from, PEER_MAC, target));
        if !ours {
            assert_eq!(out, [], "{target}");
            assert_eq!(machine.get(interface, addr(from)), None);
            continue;
        }
        let Output::Send(by, frame) = &out[0] else { panic!("{target}: {out:?}") };
        assert_eq!((*by, ethernet(frame)), (interface, (PEER_MAC, mac)));
        let expected =
            Message::Advertise { addr: addr(target), mac: Some(mac), solicited: true, overrides: true };
        assert_eq!(sent(&out), [(interface, expected)]);
        assert_eq!(out[1], Output::Set(interface, addr(from), PEER_MAC), "who asks is known from then on");
    }
}

#[test]
fn probes_are_answered_without_learning() {
    let mut machine = machine();
    let probe = arp::request(Addr::v4([0; 4]), PEER_MAC, addr("192.0.2.1"), None);
    assert_eq!(sent(&feed(&mut machine, 0, WAN, &probe)).len(), 1);
    let mut detection = nd::solicitation(addr("fe80::1"), PEER_MAC, addr("2001:db8::1"), None);
    // Duplicate address detection: from nobody, without the option.
    detection.truncate(14 + 40 + 24);
    detection[14 + 4..14 + 6].copy_from_slice(&24u16.to_be_bytes());
    detection[14 + 8..14 + 24].fill(0);
    seal(&mut detection);
    let out = feed(&mut machine, 0, WAN, &detection);
    let Output::Send(_, frame) = &out[0] else { panic!("{out:?}") };
    assert_eq!(ethernet(frame).0, [0x33, 0x33, 0, 0, 0, 1], "told to all nodes");
    assert_eq!(machine.len(), 1, "only the static neighbour");
}

fn seal(frame: &mut [u8]) {
    let mut packet = smoltcp::wire::Ipv6Packet::new_unchecked(&mut frame[14..]);
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    smoltcp::wire::Icmpv6Packet::new_unchecked(packet.payload_mut()).fill_checksum(&from, &to);
}

#[test]
fn discovery_from_elsewhere_or_damaged_is_refused() {
    let good = request("2001:db8::9", PEER_MAC, "2001:db8::1");
    let spoil: [fn(&mut Vec<u8>); 6] = [
        |frame| frame[14 + 7] = 254,
        |frame| frame[14 + 42] ^= 1,
        |frame| {
            frame[14 + 41] = 1;
            seal(frame);
        },
        |frame| {
            frame[14 + 40 + 25] = 0;
            seal(frame);
        },
        |frame| {
            frame[14 + 40 + 8] = 0xff;
            seal(frame);
        },
        |frame| frame.truncate(14 + 40 + 20),
    ];
    let mut machine = machine();
    for (at, spoil) in spoil.iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert_eq!(feed(&mut machine, 0, WAN, &bad), [], "{at}");
        assert_eq!(machine.counters().malformed, at as u64 + 1);
    }
    assert_eq!(sent(&feed(&mut machine, 0, WAN, &good)).len(), 1);
}

#[test]
fn router_solicitations_are_left_alone() {
    let mut machine = machine();
    let mut frame = request("fe80::9", PEER_MAC, "fe80::ff:fe00:1");
    frame[14 + 40] = 133;
    seal(&mut frame);
    assert!(is_discovery(&frame[14..]));
    assert_eq!(feed(&mut machine, 0, WAN, &frame), []);
}

#[test]
fn packets_wait_for_their_neighbour_and_leave_in_order() {
    for (ours, peer) in [("198.51.100.1", "198.51.100.9"), ("2001:db8:1::1", "2001:db8:1::9")] {
        let mut machine = machine();
        let out = resolve(&mut machine, 0, peer, 1);
        let asked = Message::Solicit { sender: Some(addr(ours)), mac: Some(LAN_MAC), target: addr(peer) };
        assert_eq!(sent(&out), [(LAN, asked)]);
        assert_eq!(resolve(&mut machine, 1, peer, 2), [], "one question at a time");
        let out = feed(&mut machine, 2, LAN, &answer(peer, PEER_MAC, ours, LAN_MAC));
        assert_eq!(
            out,
            [
                Output::Set(LAN, addr(peer), PEER_MAC),
                Output::Release(LAN, PEER_MAC, 1),
                Output::Release(LAN, PEER_MAC, 2)
            ]
        );
        assert_eq!(resolve(&mut machine, 3, peer, 3), [Output::Release(LAN, PEER_MAC, 3)]);
    }
}

#[test]
fn who_does_not_answer_is_asked_again_ever_more_slowly_then_given_up() {
    let mut machine = machine();
    resolve(&mut machine, 0, "198.51.100.9", 1);
    let mut times = vec![0];
    while let Some(due) = machine.next_due().filter(|_| times.len() < 5) {
        let at = (due.0 - ms(0).0) / 1_000_000;
        let out = poll(&mut machine, at);
        if out == [Output::Discard(1)] {
            assert_eq!(at, 1500);
            break;
        }
        assert_eq!(sent(&out).len(), 1);
        times.push(at);
    }
    assert_eq!(times, [0, 100, 300, 700]);
    assert_eq!(
        resolve(&mut machine, 1600, "198.51.100.9", 2),
        [Output::Discard(2)],
        "not asked again at once"
    );
    assert_eq!(poll(&mut machine, 2500), []);
    assert_eq!(machine.len(), 1, "forgotten");
    assert_eq!(sent(&resolve(&mut machine, 2600, "198.51.100.9", 3)).len(), 1, "asked anew");
}

#[test]
fn a_known_neighbour_is_probed_before_its_time_and_goes_when_it_is_silent() {
    let mut machine = machine();
    feed(&mut machine, 0, LAN, &request("198.51.100.9", PEER_MAC, "198.51.100.1"));
    assert_eq!(poll(&mut machine, 29_999), []);
    let out = poll(&mut machine, 30_000);
    let Output::Send(_, frame) = &out[0] else { panic!("{out:?}") };
    assert_eq!(ethernet(frame).0, PEER_MAC, "asked alone, not by broadcast");
    assert_eq!(machine.get(LAN, addr("198.51.100.9")), Some(PEER_MAC), "and used meanwhile");
    let out = feed(&mut machine, 30_500, LAN, &answer("198.51.100.9", PEER_MAC, "198.51.100.1", LAN_MAC));
    assert_eq!(out, [], "nothing changed");
    for at in [60_500, 61_500, 62_500] {
        assert_eq!(sent(&poll(&mut machine, at)).len(), 1);
    }
    assert_eq!(poll(&mut machine, 63_500), [Output::Remove(LAN, addr("198.51.100.9"))]);
    assert_eq!(machine.get(LAN, addr("198.51.100.9")), None);
}

#[test]
fn a_wanted_neighbour_is_asked_for_at_once_and_for_ever() {
    let mut machine = machine();
    let mut out = Vec::new();
    machine.want(ms(0), LAN, addr("198.51.100.21"), true, &mut out);
    assert_eq!(sent(&out).len(), 1);
    let mut asked = 0;
    for at in (0..60_000).step_by(100) {
        asked += sent(&poll(&mut machine, at)).len();
    }
    assert!((24..=40).contains(&asked), "{asked} in a minute");
    let out = feed(&mut machine, 60_000, LAN, &answer("198.51.100.21", PEER_MAC, "198.51.100.1", LAN_MAC));
    assert_eq!(out, [Output::Set(LAN, addr("198.51.100.21"), PEER_MAC)]);
}

#[test]
fn static_neighbours_never_change() {
    let mut machine = machine();
    feed(&mut machine, 0, LAN, &request("198.51.100.7", PEER_MAC, "198.51.100.1"));
    feed(&mut machine, 0, LAN, &answer("198.51.100.7", PEER_MAC, "198.51.100.1", LAN_MAC));
    assert_eq!(machine.get(LAN, addr("198.51.100.7")), Some([2, 0, 0, 0, 0, 7]));
    assert_eq!(poll(&mut machine, 1_000_000), []);
}

#[test]
fn a_neighbour_that_moved_is_followed_but_not_on_a_strangers_word() {
    let mut machine = machine();
    feed(&mut machine, 0, WAN, &request("2001:db8::9", PEER_MAC, "2001:db8::1"));
    // An advertisement that doesn't override (RFC 4861 §7.2.5) makes us ask the one we know.
    let mut hint = answer("2001:db8::9", OTHER_MAC, "2001:db8::1", WAN_MAC);
    hint[14 + 40 + 4] &= !0x20;
    seal(&mut hint);
    let out = feed(&mut machine, 10, WAN, &hint);
    assert!(matches!(&out[..], [Output::Send(WAN, frame)] if ethernet(frame).0 == PEER_MAC), "{out:?}");
    let moved = answer("2001:db8::9", OTHER_MAC, "2001:db8::1", WAN_MAC);
    assert_eq!(feed(&mut machine, 20, WAN, &moved), [Output::Set(WAN, addr("2001:db8::9"), OTHER_MAC)]);
}

#[test]
fn announcements_of_strangers_and_senders_off_link_fill_nothing() {
    let mut machine = machine();
    for host in 0..=255u8 {
        let stranger = Addr::v4([198, 51, 100, host]);
        if stranger != addr("198.51.100.1") && stranger != addr("198.51.100.7") {
            feed(&mut machine, 0, LAN, &arp::announcement(stranger, PEER_MAC));
            feed(&mut machine, 0, LAN, &arp::reply(stranger, PEER_MAC, addr("198.51.100.1"), LAN_MAC));
        }
        feed(
            &mut machine,
            0,
            LAN,
            &arp::request(Addr::v4([9, 9, 9, host]), PEER_MAC, addr("198.51.100.1"), None),
        );
    }
    assert_eq!(machine.len(), 1, "only the static one");
}

#[test]
fn a_flood_of_askers_displaces_askers_only() {
    let mut machine = machine();
    resolve(&mut machine, 0, "198.51.100.9", 1);
    feed(&mut machine, 0, LAN, &answer("198.51.100.9", PEER_MAC, "198.51.100.1", LAN_MAC));
    for host in 10..=254u8 {
        let at = u64::from(host);
        feed(
            &mut machine,
            at,
            LAN,
            &arp::request(Addr::v4([198, 51, 100, host]), OTHER_MAC, addr("198.51.100.1"), None),
        );
        assert!(machine.len() <= MAX / 2 + 2, "{}", machine.len());
    }
    assert_eq!(machine.get(LAN, addr("198.51.100.9")), Some(PEER_MAC));
    assert!(machine.get(LAN, addr("198.51.100.254")).is_some(), "the newest asker is known");
}

#[test]
fn a_scan_through_us_neither_fills_the_table_nor_the_packets_that_wait() {
    let mut machine = machine();
    for host in 10..=254u8 {
        resolve(&mut machine, 0, &format!("198.51.100.{host}"), u32::from(host));
    }
    assert!(machine.len() <= MAX / 4 + 1);
    assert!(machine.counters().refused > 200);
    for packet in 0..1000 {
        resolve(&mut machine, 0, "198.51.100.10", packet);
        assert!(machine.parked() <= PARKED_MAX);
    }
    let out = feed(&mut machine, 1, LAN, &answer("198.51.100.10", PEER_MAC, "198.51.100.1", LAN_MAC));
    let released: Vec<u32> = out
        .iter()
        .filter_map(|output| match output {
            Output::Release(.., packet) => Some(*packet),
            _ => None,
        })
        .collect();
    assert_eq!(released, (984..1000).collect::<Vec<_>>(), "the oldest had to go");
}

#[test]
fn a_conflict_is_told_and_the_address_defended_but_not_in_a_fight() {
    let mut machine = machine();
    let theft = arp::announcement(addr("192.0.2.1"), PEER_MAC);
    let out = feed(&mut machine, 0, WAN, &theft);
    assert_eq!(out[0], Output::Conflict(WAN, addr("192.0.2.1"), PEER_MAC));
    assert_eq!(out[1], Output::Send(WAN, arp::announcement(addr("192.0.2.1"), WAN_MAC)));
    assert_eq!(feed(&mut machine, 5000, WAN, &theft), []);
    assert_eq!(feed(&mut machine, 10_000, WAN, &theft).len(), 2);
    assert_eq!(machine.counters().conflicts, 3);
    let own = arp::announcement(addr("192.0.2.53"), LAN_MAC);
    assert_eq!(feed(&mut machine, 30_000, WAN, &own), [], "our own other port is no conflict");
}

#[test]
fn our_addresses_are_announced_twice_where_they_are_on_link() {
    let mut machine = machine();
    let mut out = Vec::new();
    machine.start(ms(0), &mut out);
    let announced: HashSet<(InterfaceId, Addr)> = sent(&out)
        .into_iter()
        .map(|(interface, message)| match message {
            Message::Advertise { addr, solicited: false, .. } => (interface, addr),
            other => panic!("{other:?}"),
        })
        .collect();
    for (interface, ours) in
        [(WAN, "192.0.2.1"), (WAN, "192.0.2.53"), (LAN_20, "10.20.0.1"), (LAN, "2001:db8:1::1")]
    {
        assert!(announced.contains(&(interface, addr(ours))), "{ours}");
    }
    assert!(!announced.contains(&(LAN, addr("192.0.2.53"))));
    assert_eq!(poll(&mut machine, 1999), []);
    assert_eq!(sent(&poll(&mut machine, 2000)).len(), announced.len());
    assert_eq!(machine.next_due(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Resolve(u8),
    Want(u8, bool),
    Ask(u8, u8),
    Answer(u8, u8),
    Bytes(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..20_000).prop_map(Step::Wait),
        (2u8..120).prop_map(Step::Resolve),
        (2u8..120, any::<bool>()).prop_map(|(host, wanted)| Step::Want(host, wanted)),
        (2u8..120, 0u8..3).prop_map(|(host, mac)| Step::Ask(host, mac)),
        (2u8..120, 0u8..3).prop_map(|(host, mac)| Step::Answer(host, mac)),
        prop::collection::vec(any::<u8>(), 0..120).prop_map(Step::Bytes),
    ]
}

proptest! {
    /// Whatever happens: bounds hold, each packet comes out once, and who listens to the outputs knows what the machine
    /// knows.
    #[test]
    fn outputs_tell_the_whole_truth_within_bounds(steps in prop::collection::vec(step(), 1..300)) {
        let mut machine = machine();
        let mut now = 0;
        let (mut given, mut back) = (0u32, HashSet::new());
        let mut tables: HashMap<(InterfaceId, Addr), Mac> = HashMap::new();
        let peer = |mac: u8| [2, 0, 0, 0, 9, mac];
        let ours = addr("198.51.100.1");
        for step in steps {
            let mut out = Vec::new();
            match step {
                Step::Wait(wait) => {
                    now += wait;
                    machine.poll(ms(now), &mut out);
                    prop_assert!(machine.next_due().is_none_or(|due| due > ms(now)));
                }
                Step::Resolve(host) => {
                    machine.resolve(ms(now), LAN, Addr::v4([198, 51, 100, host]), given, &mut out);
                    given += 1;
                }
                Step::Want(host, wanted) => {
                    machine.want(ms(now), LAN, Addr::v4([198, 51, 100, host]), wanted, &mut out);
                }
                Step::Ask(host, mac) => {
                    let frame = arp::request(Addr::v4([198, 51, 100, host]), peer(mac), ours, None);
                    machine.receive(ms(now), LAN, &frame, &mut out);
                }
                Step::Answer(host, mac) => {
                    let frame = arp::reply(Addr::v4([198, 51, 100, host]), peer(mac), ours, LAN_MAC);
                    machine.receive(ms(now), LAN, &frame, &mut out);
                }
                Step::Bytes(mut bytes) => {
                    // Mostly past the first check.
                    if let Some(ethertype) = bytes.get_mut(12..14) {
                        let arp = ethertype[0] & 1 == 0;
                        ethertype.copy_from_slice(if arp { &[8, 6] } else { &[0x86, 0xdd] });
                    }
                    machine.receive(ms(now), LAN, &bytes, &mut out);
                }
            }
            for output in out {
                match output {
                    Output::Set(interface, addr, mac) => {
                        tables.insert((interface, addr), mac);
                    }
                    Output::Remove(interface, addr) => {
                        prop_assert!(tables.remove(&(interface, addr)).is_some());
                    }
                    Output::Release(_, _, packet) | Output::Discard(packet) => {
                        prop_assert!(back.insert(packet), "packet {} came out twice", packet);
                    }
                    Output::Send(..) | Output::Conflict(..) => {}
                }
            }
            prop_assert!(machine.len() <= MAX && machine.parked() <= PARKED_MAX);
            prop_assert_eq!(given as usize, back.len() + machine.parked());
        }
        let known: HashMap<_, _> = machine
            .rows()
            .filter(|row| row.state != State::Static)
            .filter_map(|row| Some(((row.interface, row.addr), row.mac?)))
            .collect();
        prop_assert_eq!(known, tables);
    }
}

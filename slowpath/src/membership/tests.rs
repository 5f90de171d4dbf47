use std::collections::{BTreeMap, BTreeSet};

use millrace_fastpath::driver::PortId;
use millrace_fastpath::wire::{ICMPV6, IGMP, checksum, ipv4};
use proptest::prelude::*;

use super::message::RecordKind::{self, *};
use super::*;

pub(super) const LAN: InterfaceId = InterfaceId(3);
pub(super) const MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(super) const SECOND: u64 = 1_000_000_000;
const TIMERS: Timers =
    Timers { robustness: 2, query_interval: 125 * SECOND, response: 10 * SECOND, last_member: SECOND };

pub(super) fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

pub(super) fn interfaces() -> Interfaces {
    let addresses = [("198.51.100.5", 24), ("2001:db8::5", 64), ("fe80::ff:fe00:1", 64)];
    let lan = Interface {
        name: "lan".to_owned(),
        port: PortId(1),
        vlan: None,
        outer: None,
        mac: MAC,
        mtu: 1500,
        addresses: addresses.map(|(text, len)| (addr(text), len)).into(),
    };
    Interfaces::with_ids([(LAN, lan)], [])
}

/// A machine that asks on the one link, and the time.
struct Bench {
    machine: Machine,
    now: Nanos,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { machine: Machine::default(), now: Nanos(1000 * SECOND) };
        bench.reload(&[(LAN, TIMERS)]);
        bench
    }

    fn reload(&mut self, queriers: &[(InterfaceId, Timers)]) -> Vec<Output> {
        let mut out = Vec::new();
        self.machine.reload(self.now, &interfaces(), queriers, &mut out);
        out
    }

    fn hear(&mut self, frame: &[u8]) -> Vec<Output> {
        let mut out = Vec::new();
        self.machine.receive(self.now, LAN, frame, &mut out);
        out
    }

    /// Lets time pass; what is said, and when, in seconds from now.
    fn pass(&mut self, nanos: u64) -> Vec<(f64, Output)> {
        let (begin, end) = (self.now, self.now.plus(nanos));
        let mut said = Vec::new();
        while let Some(due) = self.machine.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let mut out = Vec::new();
            self.machine.poll(self.now, &mut out);
            said.extend(out.into_iter().map(|one| (self.now.since(begin) as f64 / SECOND as f64, one)));
        }
        self.now = end;
        said
    }
}

pub(super) fn igmp_frame(source: &str, to: &str, ttl: u8, alert: bool, mut igmp: Vec<u8>) -> Vec<u8> {
    let sum = !checksum::fold(checksum::sum(&igmp));
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let options: &[u8] = if alert { &[0x94, 4, 0, 0] } else { &[] };
    let len = 20 + options.len();
    let mut ip = vec![0x40 | (len / 4) as u8, 0xc0];
    ip.extend(((len + igmp.len()) as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, ttl, IGMP, 0, 0]);
    ip.extend(addr(source).v4_bytes());
    ip.extend(addr(to).v4_bytes());
    ip.extend(options);
    ipv4::fill_checksum(&mut ip, len);
    // Padded, as short frames are.
    [&[1, 0, 0x5e, 0, 0, 22, 2, 0, 0, 0, 0, 9, 8, 0][..], &ip, &igmp, &[0; 6]].concat()
}

pub(super) fn mld_frame(source: &str, to: &str, hops: u8, mut mld: Vec<u8>) -> Vec<u8> {
    let (source, to) = (addr(source), addr(to));
    let pseudo = checksum::pseudo_header(source, to, ICMPV6, mld.len());
    let sum = !checksum::fold(pseudo + checksum::sum(&mld));
    mld[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x60, 0, 0, 0, 0, 8 + mld.len() as u8, 0, hops];
    ip.extend(source.v6_bytes());
    ip.extend(to.v6_bytes());
    ip.extend([ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    [&[0x33, 0x33, 0, 0, 0, 22, 2, 0, 0, 0, 0, 9, 0x86, 0xdd][..], &ip, &mld].concat()
}

fn record(kind: RecordKind, group: &str, sources: &[Addr]) -> Vec<u8> {
    let put = |addr: &Addr| match addr.is_v4() {
        true => addr.v4_bytes().to_vec(),
        false => addr.v6_bytes().to_vec(),
    };
    let head = [&[kind as u8, 0, 0, sources.len() as u8][..], &put(&addr(group))].concat();
    sources.iter().fold(head, |bytes, source| [bytes, put(source)].concat())
}

/// A report of IGMPv3 or MLDv2.
fn report(kind: RecordKind, group: &str, sources: &[Addr]) -> Vec<u8> {
    let record = record(kind, group, sources);
    if addr(group).is_v4() {
        igmp_frame(
            "198.51.100.21",
            "224.0.0.22",
            1,
            true,
            [&[0x22, 0, 0, 0, 0, 0, 0, 1][..], &record].concat(),
        )
    } else {
        mld_frame("fe80::9", "ff02::16", 1, [&[143, 0, 0, 0, 0, 0, 0, 1][..], &record].concat())
    }
}

fn queries(said: &[(f64, Output)], group: Addr) -> Vec<(f64, bool, Vec<Addr>)> {
    let read = |(at, output): &(f64, Output)| {
        let Output::Send(LAN, frame) = output else { return None };
        let heard = if group.is_v4() { igmp::parse(&frame[14..]) } else { mld::parse(&frame[14..]) };
        let message::Message::Query(query) = heard.ok()?.message else { panic!("we say nothing else") };
        (query.group == Some(group)).then_some((*at, query.suppress, query.sources))
    };
    said.iter().filter_map(read).collect()
}

fn changes(said: &[(f64, Output)]) -> Vec<(f64, Option<Filter>)> {
    let change = |(at, output): &(f64, Output)| match output {
        Output::Changed(LAN, _, filter) => Some((*at, filter.clone())),
        _ => None,
    };
    said.iter().filter_map(change).collect()
}

#[test]
fn everybody_is_asked_at_the_start_and_then_now_and_then() {
    let mut bench = Bench::new();
    let said = bench.pass(300 * SECOND);
    let frame = |at: usize| match &said[at].1 {
        Output::Send(LAN, frame) => frame.clone(),
        other => panic!("{other:?}"),
    };
    let times: Vec<_> = said.iter().map(|(at, _)| *at).collect();
    // Startup Query Interval: a quarter.
    assert_eq!(times, [0.0, 0.0, 31.25, 31.25, 156.25, 156.25, 281.25, 281.25]);
    let igmp = [
        &[1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 1, 8, 0][..],
        &[0x46, 0xc0, 0, 36, 0, 0, 0x40, 0, 1, 2, 0x1a, 0xc9, 198, 51, 100, 5, 224, 0, 0, 1, 0x94, 4, 0, 0],
        &[0x11, 100, 0xec, 0x1e, 0, 0, 0, 0, 2, 125, 0, 0],
    ];
    let mld = frame(0);
    assert_eq!((&frame(1)[..24], &frame(1)[26..]), (&igmp.concat()[..24], &igmp.concat()[26..]));
    assert_eq!((&mld[..6], mld[21], mld.len()), (&[0x33, 0x33, 0, 0, 0, 1][..], 1, 14 + 40 + 8 + 28));
    let heard = mld::parse(&mld[14..]).unwrap();
    let message::Message::Query(query) = heard.message else { panic!() };
    assert_eq!((heard.source, query.group, query.response_ms), (addr("fe80::ff:fe00:1"), None, 10_000));
    assert_eq!((query.robustness, query.interval_seconds), (2, 125));
}

#[test]
fn who_joins_is_served_until_all_have_left_or_are_silent() {
    for (group, source) in [("232.1.1.1", "192.0.2.1"), ("ff3e::1", "2001:db8:9::1")] {
        let mut bench = Bench::new();
        bench.pass(40 * SECOND);
        let any = Some(Filter::any());
        let joined = bench.hear(&report(ToExclude, group, &[]));
        assert_eq!(joined, [Output::Changed(LAN, addr(group), any.clone())]);
        assert_eq!(bench.hear(&report(IsExclude, group, &[])), [], "nothing new");
        // One leaves: the others are asked twice, and one answers the second time.
        assert_eq!(bench.hear(&report(ToInclude, group, &[])), []);
        let said = bench.pass(SECOND + SECOND / 2);
        assert_eq!(queries(&said, addr(group)), [(0.0, false, vec![]), (1.0, false, vec![])]);
        assert_eq!(bench.hear(&report(IsExclude, group, &[])), []);
        assert_eq!(changes(&bench.pass(100 * SECOND)), []);
        // The last one leaves.
        bench.hear(&report(ToInclude, group, &[]));
        assert_eq!(changes(&bench.pass(3 * SECOND)), [(2.0, None)]);
        // One that is never heard again: twice the interval, and the time to answer.
        bench.hear(&report(Allow, group, &[addr(source)]));
        assert_eq!(changes(&bench.pass(300 * SECOND)), [(260.0, None)]);
        assert_eq!(bench.machine.members(bench.now).count(), 0);
    }
}

#[test]
fn sources_are_asked_for_one_by_one() {
    let mut bench = Bench::new();
    bench.pass(40 * SECOND);
    let group = addr("232.1.1.1");
    let [one, two, three] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(addr);
    let include = |sources: &[Addr]| Some(Filter::Include(sources.into()));
    assert_eq!(
        bench.hear(&report(Allow, "232.1.1.1", &[two, one])),
        [Output::Changed(LAN, group, include(&[one, two]))]
    );
    bench.hear(&report(Block, "232.1.1.1", &[one, three]));
    let said = bench.pass(SECOND / 2);
    assert_eq!(queries(&said, group), [(0.0, false, vec![one])], "nobody has asked for the third");
    // Somebody else wants it: the second question tells other routers that it isn't in doubt.
    bench.hear(&report(IsInclude, "232.1.1.1", &[one]));
    let said = bench.pass(2 * SECOND);
    assert_eq!(queries(&said, group), [(0.5, true, vec![one])]);
    assert_eq!(changes(&said), []);
    bench.hear(&report(ToExclude, "232.1.1.1", &[two]));
    let said = bench.pass(5 * SECOND);
    assert_eq!(queries(&said, group), [(0.0, false, vec![two]), (1.0, false, vec![two])]);
    assert_eq!(changes(&said), [(2.0, Some(Filter::Exclude([two].into())))]);
}

#[test]
fn the_lowest_address_asks_and_the_others_follow_it() {
    let mut bench = Bench::new();
    bench.pass(40 * SECOND);
    let query = |from: &str, group: &str, suppress: bool, code: u8| {
        let flags = u8::from(suppress) << 3 | 3;
        let igmp = [&[0x11, code, 0, 0][..], &addr(group).v4_bytes(), &[flags, 20, 0, 0]].concat();
        igmp_frame(from, "224.0.0.1", 1, true, igmp)
    };
    let is_asker = |bench: &Bench| bench.machine.queriers().find(|row| row.v4).unwrap().ours;
    bench.hear(&query("198.51.100.9", "0.0.0.0", false, 100));
    bench.hear(&query("0.0.0.0", "0.0.0.0", false, 100));
    assert!(is_asker(&bench));
    bench.hear(&query("198.51.100.3", "0.0.0.0", false, 20));
    assert!(!is_asker(&bench));
    let joined = bench.hear(&report(ToExclude, "232.1.1.1", &[]));
    assert_eq!(joined.len(), 1);
    // Who leaves is the asker's business.
    bench.hear(&report(ToInclude, "232.1.1.1", &[]));
    let said = bench.pass(10 * SECOND);
    assert!(said.iter().all(|(_, output)| !matches!(output, Output::Send(_, frame) if frame[12] == 8)));
    bench.hear(&query("198.51.100.3", "232.1.1.1", true, 10));
    assert_eq!(changes(&bench.pass(10 * SECOND)), []);
    // Three times the time to answer: its robustness holds.
    bench.hear(&query("198.51.100.3", "232.1.1.1", false, 10));
    assert_eq!(changes(&bench.pass(10 * SECOND)), [(3.0, None)]);
    // Silent for three intervals of 20 s and half of 2 s, it counts as gone.
    let said = bench.pass(100 * SECOND);
    let general = said.iter().find(|(_, output)| matches!(output, Output::Send(_, frame) if frame[12] == 8));
    assert!((general.unwrap().0 - 51.0).abs() < 1e-6, "{general:?}");
    assert!(is_asker(&bench));
}

#[test]
fn hosts_of_older_versions_are_heard() {
    let old = |kind: u8, group: &str| {
        igmp_frame(
            "198.51.100.22",
            group,
            1,
            kind == 0x17,
            [&[kind, 0, 0, 0][..], &addr(group).v4_bytes()].concat(),
        )
    };
    let mut bench = Bench::new();
    bench.pass(40 * SECOND);
    assert_eq!(bench.hear(&old(0x16, "239.1.1.1")).len(), 1);
    let version = |bench: &Bench| bench.machine.members(bench.now).next().unwrap().version;
    assert_eq!(version(&bench), Version::Second);
    // It doesn't answer for sources, so nobody may take any away.
    bench.hear(&report(Block, "239.1.1.1", &[addr("192.0.2.1")]));
    bench.hear(&report(ToExclude, "239.1.1.1", &[addr("192.0.2.1")]));
    assert_eq!(changes(&bench.pass(5 * SECOND)), []);
    bench.hear(&old(0x17, "239.1.1.1"));
    let said = bench.pass(5 * SECOND);
    assert_eq!((queries(&said, addr("239.1.1.1")).len(), changes(&said)), (2, vec![(2.0, None)]));
    // One that can't say that it leaves keeps the group until it is silent for long.
    bench.hear(&old(0x12, "239.1.1.1"));
    bench.hear(&old(0x17, "239.1.1.1"));
    assert_eq!(version(&bench), Version::First);
    assert_eq!(changes(&bench.pass(300 * SECOND)), [(260.0, None)]);

    let mld = |kind: u8| {
        let mld = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &addr("ff3e::7").v6_bytes()].concat();
        mld_frame("fe80::8", "ff3e::7", 1, mld)
    };
    assert_eq!(bench.hear(&mld(131)).len(), 1);
    assert_eq!(version(&bench), Version::Second);
    bench.hear(&mld(132));
    assert_eq!(changes(&bench.pass(5 * SECOND)), [(2.0, None)]);
}

#[test]
fn what_is_wrong_or_not_ours_is_counted() {
    let v3 = [&[0x22, 0, 0, 0, 0, 0, 0, 1][..], &record(ToExclude, "232.1.1.1", &[])].concat();
    let v2 = [&[143, 0, 0, 0, 0, 0, 0, 1][..], &record(ToExclude, "ff3e::1", &[])].concat();
    let mapped = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &addr("232.1.1.1").v6_bytes()].concat();
    let mut spoilt = report(ToExclude, "232.1.1.1", &[]);
    spoilt[14 + 24 + 5] ^= 1;
    let mut short = v3.clone();
    short[15 - 4] = 1;
    let malformed = [
        igmp_frame("198.51.100.21", "224.0.0.22", 2, true, v3.clone()),
        igmp_frame("198.51.100.21", "224.0.0.22", 1, false, v3.clone()),
        igmp_frame("198.51.100.21", "224.0.0.22", 1, true, v3[..12].to_vec()),
        igmp_frame("198.51.100.21", "224.0.0.22", 1, true, short),
        igmp_frame("198.51.100.21", "224.0.0.2", 1, true, vec![0x16, 0, 0, 0, 192, 0, 2, 1]),
        spoilt,
        mld_frame("fe80::9", "ff02::16", 2, v2.clone()),
        mld_frame("2001:db8::9", "ff02::16", 1, v2.clone()),
        mld_frame("::", "ff02::16", 1, v2.clone()),
        mld_frame("fe80::9", "ff02::16", 1, v2[..20].to_vec()),
        mld_frame("fe80::9", "ff02::16", 1, mapped),
    ];
    let mut bench = Bench::new();
    for frame in &malformed {
        assert!(is_membership(frame));
        assert_eq!(bench.hear(frame), [], "{frame:02x?}");
    }
    assert_eq!(bench.machine.counters().malformed, malformed.len() as u64);
    bench.hear(&igmp_frame("198.51.100.21", "224.0.0.13", 1, true, vec![0x14, 0, 0, 0, 0, 0, 0, 0]));
    let mut out = Vec::new();
    bench.machine.receive(bench.now, InterfaceId(4), &report(ToExclude, "232.1.1.1", &[]), &mut out);
    assert_eq!((out, bench.machine.counters().unwanted), (vec![], 2));
    for local in ["224.0.0.251", "ff02::fb"] {
        assert_eq!(bench.hear(&report(ToExclude, local, &[])), [], "stays on its link");
    }
    assert_eq!(bench.machine.counters().reports, 2);
    // Solicitations aren't MLD's.
    let mut discovery = mld_frame("fe80::9", "ff02::16", 1, v2);
    discovery[14 + 48] = 135;
    assert!(!is_membership(&discovery));
}

#[test]
fn a_flood_of_groups_is_bounded_and_a_link_that_is_gone_serves_nobody() {
    let mut bench = Bench::new();
    for number in 0..GROUPS_MAX as u32 + 3 {
        let group = std::net::Ipv4Addr::from(0xe801_0000 + number).to_string();
        bench.hear(&report(ToExclude, &group, &[]));
    }
    assert_eq!(
        (bench.machine.members(bench.now).count(), bench.machine.counters().groups_refused),
        (GROUPS_MAX, 3)
    );
    assert_eq!(bench.reload(&[(LAN, Timers { robustness: 3, ..TIMERS })]), []);
    let gone = bench.reload(&[]);
    assert!(gone.len() == GROUPS_MAX && gone.iter().all(|one| matches!(one, Output::Changed(LAN, _, None))));
    assert_eq!(bench.machine.next_due(), None);
}

/// What a host's sockets come to for a group (RFC 9776 section 3.2): whether it excludes, and which sources.
type Interest = (bool, BTreeSet<u8>);

/// What a host says when its interest changes (RFC 9776 section 5.1).
fn told(before: &Interest, after: &Interest) -> Vec<(RecordKind, BTreeSet<u8>)> {
    let lists = match (before.0, after.0) {
        (false, false) => [(Allow, &after.1 - &before.1), (Block, &before.1 - &after.1)],
        (true, true) => [(Allow, &before.1 - &after.1), (Block, &after.1 - &before.1)],
        (false, true) => return vec![(ToExclude, after.1.clone())],
        (true, false) => return vec![(ToInclude, after.1.clone())],
    };
    lists.into_iter().filter(|(_, sources)| !sources.is_empty()).collect()
}

proptest! {
    /// Hosts that change their minds and answer when they are asked: what anybody wants is sent at any time, and when all
    /// have been quiet for a while, nothing else is.
    #[test]
    fn who_listens_is_served_and_who_left_is_forgotten(
        steps in prop::collection::vec(
            (0..3usize, any::<bool>(), prop::collection::btree_set(0..4u8, 0..4), 0..3 * SECOND),
            1..30,
        ),
    ) {
        let mut bench = Bench::new();
        bench.pass(40 * SECOND);
        let source = |number: u8| Addr::v4([192, 0, 2, number]);
        let mut hosts: Vec<Interest> = vec![(false, BTreeSet::new()); 3];
        let mut sent: BTreeMap<Addr, Filter> = BTreeMap::new();
        let note = |sent: &mut BTreeMap<Addr, Filter>, out: Vec<Output>| {
            let mut asked = false;
            for output in out {
                match output {
                    Output::Changed(_, group, Some(filter)) => drop(sent.insert(group, filter)),
                    Output::Changed(_, group, None) => drop(sent.remove(&group)),
                    Output::Send(..) => asked = true,
                }
            }
            asked
        };
        let group = addr("232.1.1.1");
        let wants = |hosts: &[Interest], number: u8| {
            hosts.iter().any(|(exclude, sources)| sources.contains(&number) != *exclude)
        };
        for (host, exclude, sources, wait) in steps.into_iter().chain([(0, false, BTreeSet::new(), 300 * SECOND)]) {
            let after = (exclude, sources);
            for (kind, sources) in told(&hosts[host], &after) {
                let sources: Vec<_> = sources.into_iter().map(source).collect();
                let out = bench.hear(&report(kind, "232.1.1.1", &sources));
                note(&mut sent, out);
            }
            hosts[host] = after;
            let end = bench.now.plus(wait);
            while let Some(due) = bench.machine.next_due().filter(|due| *due <= end) {
                let said = bench.pass(due.since(bench.now));
                // Hosts answer whatever they are asked with all that they want.
                if note(&mut sent, said.into_iter().map(|(_, one)| one).collect()) {
                    for (exclude, sources) in hosts.clone() {
                        let kind = if exclude { IsExclude } else { IsInclude };
                        let sources: Vec<_> = sources.into_iter().map(source).collect();
                        let out = bench.hear(&report(kind, "232.1.1.1", &sources));
                        note(&mut sent, out);
                    }
                }
            }
            bench.now = end;
            for number in 0..5 {
                let is_sent = sent.get(&group).is_some_and(|filter| filter.passes(source(number)));
                prop_assert!(is_sent || !wants(&hosts, number), "{number} of {hosts:?}: {sent:?}");
            }
        }
        for number in 0..5 {
            let is_sent = sent.get(&group).is_some_and(|filter| filter.passes(source(number)));
            prop_assert_eq!(is_sent, wants(&hosts, number), "{} of {:?}: {:?}", number, hosts, sent);
        }
    }
}

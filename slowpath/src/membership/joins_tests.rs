//! What we listen to ourselves, and when we say so.

use millrace_fastpath::driver::{PortId, PortsDown};

use super::message::RecordKind::{self, *};
use super::message::{Heard, Message, Query};
use super::tests::{LAN, MAC, SECOND, addr, igmp_frame, interfaces, mld_frame};
use super::*;

const ANY: &str = "239.1.1.9";
const ONE: &str = "232.1.1.9";
const SIX: &str = "ff3e::9";
const SOURCE: &str = "192.0.2.7";

/// What a message says: its version, a group, and the kind of the record with its sources.
type Line = (Version, Addr, RecordKind, Vec<Addr>);

struct Bench {
    joins: Joins,
    now: Nanos,
}

fn all() -> Vec<Join> {
    vec![
        (LAN, addr(ANY), None),
        (LAN, addr(ONE), Some(addr(SOURCE))),
        (LAN, addr(SIX), Some(addr("2001:db8::7"))),
    ]
}

impl Bench {
    fn new(wanted: &[Join]) -> Self {
        let mut bench = Self { joins: Joins::new(7), now: Nanos(1000 * SECOND) };
        bench.joins.reload(bench.now, &interfaces(), wanted);
        bench
    }

    /// One that has said all that it says unasked.
    fn settled() -> Self {
        let mut bench = Self::new(&all());
        bench.pass(10 * SECOND);
        bench
    }

    fn hear(&mut self, frame: &[u8]) -> bool {
        self.joins.receive(self.now, LAN, frame)
    }

    /// Lets time pass; what is said, and when, in seconds from now.
    fn pass(&mut self, nanos: u64) -> Vec<(f64, Line)> {
        let (begin, end) = (self.now, self.now.plus(nanos));
        let mut said = Vec::new();
        while let Some(due) = self.joins.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let mut out = Vec::new();
            self.joins.poll(self.now, &mut out);
            let at = self.now.since(begin) as f64 / SECOND as f64;
            said.extend(lines(&out).into_iter().map(|line| (at, line)));
        }
        self.now = end;
        said
    }

    fn leave(&mut self) -> Vec<Line> {
        let mut out = Vec::new();
        self.joins.leave(self.now, &mut out);
        lines(&out)
    }
}

/// What frames say, by the reader that has been tested with other people's; addresses as they have to be.
fn lines(out: &[Output]) -> Vec<Line> {
    let mut lines = Vec::new();
    for output in out {
        let Output::Send(LAN, frame) = output else { panic!("{output:?}") };
        let (v4, ip) = (frame[12..14] == [8, 0], &frame[14..]);
        let Heard { source, message } = if v4 { igmp::parse(ip) } else { mld::parse(ip) }.unwrap();
        assert_eq!(
            (source, &frame[6..12]),
            (addr(if v4 { "198.51.100.5" } else { "fe80::ff:fe00:1" }), &MAC[..])
        );
        let to = if v4 {
            Addr::v4(ip[16..20].try_into().unwrap())
        } else {
            Addr::v6(ip[24..40].try_into().unwrap())
        };
        match v4 {
            true => assert_eq!(frame[..6], [1, 0, 0x5e, ip[17] & 0x7f, ip[18], ip[19]]),
            false => assert_eq!(frame[..6], [0x33, 0x33, ip[36], ip[37], ip[38], ip[39]]),
        }
        let Message::Report(version, records) = message else { panic!("{message:?}") };
        for record in records {
            let everybody = match (version, record.kind, v4) {
                (Version::Third, _, true) => addr("224.0.0.22"),
                (Version::Third, _, false) => addr("ff02::16"),
                (_, ToInclude, true) => addr("224.0.0.2"),
                (_, ToInclude, false) => addr("ff02::2"),
                _ => record.group,
            };
            assert_eq!(to, everybody);
            lines.push((version, record.group, record.kind, record.sources));
        }
    }
    lines
}

fn line(group: &str, kind: RecordKind, sources: &[&str]) -> Line {
    (Version::Third, addr(group), kind, sources.iter().map(|source| addr(source)).collect())
}

fn query(group: Option<&str>, sources: &[&str], response_ms: u32) -> Query {
    Query {
        version: Version::Third,
        group: group.map(addr),
        sources: sources.iter().map(|source| addr(source)).collect(),
        suppress: false,
        robustness: 2,
        interval_seconds: 125,
        response_ms,
    }
}

fn ask_v4(group: Option<&str>, sources: &[&str], response_ms: u32) -> Vec<u8> {
    igmp::query_frame(addr("198.51.100.9"), [2, 0, 0, 0, 0, 9], &query(group, sources, response_ms))
}

fn ask_v6(group: Option<&str>, sources: &[&str], response_ms: u32) -> Vec<u8> {
    mld::query_frame(addr("fe80::9"), [2, 0, 0, 0, 0, 9], &query(group, sources, response_ms))
}

fn said(lines: Vec<(f64, Line)>) -> Vec<Line> {
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn what_is_joined_is_said_twice_and_left_twice() {
    let mut bench = Bench::new(&all());
    let six = "2001:db8::7";
    let mut joined = vec![line(SIX, Allow, &[six]), line(ONE, Allow, &[SOURCE]), line(ANY, ToExclude, &[])];
    assert_eq!(said(bench.pass(0)), joined);
    let again = bench.pass(SECOND);
    assert!(again.iter().all(|(at, _)| *at > 0.0 && *at < 1.0), "{again:?}");
    // Families have times of their own.
    let mut again = said(again);
    again.sort_by_key(|(_, group, ..)| group.is_v4());
    assert_eq!(again, joined);
    assert!(bench.pass(1000 * SECOND).is_empty() && bench.joins.counters().reports == 4);
    joined = vec![line(SIX, Block, &[six]), line(ONE, Block, &[SOURCE]), line(ANY, ToInclude, &[])];
    let left = bench.leave();
    let twice: Vec<Line> = [&joined[..1], &joined[..1], &joined[1..], &joined[1..]].concat();
    assert_eq!(left, twice);
    assert!(bench.pass(SECOND).is_empty() && !bench.hear(&ask_v4(None, &[], 1000)));
}

#[test]
fn questions_are_answered_within_their_time_and_once() {
    let mut bench = Bench::settled();
    assert!(bench.hear(&ask_v4(None, &[], 2000)) && bench.hear(&ask_v4(None, &[], 2000)));
    let answer = bench.pass(2 * SECOND);
    assert!(answer.iter().all(|(at, _)| *at < 2.0), "{answer:?}");
    assert_eq!(said(answer), [line(ONE, IsInclude, &[SOURCE]), line(ANY, IsExclude, &[])]);
    bench.hear(&ask_v6(None, &[], 100));
    assert_eq!(said(bench.pass(SECOND / 10)), [line(SIX, IsInclude, &["2001:db8::7"])]);

    bench.hear(&ask_v4(Some(ANY), &[], 1000));
    bench.hear(&ask_v4(Some(ANY), &["192.0.2.1"], 1000));
    assert_eq!(said(bench.pass(SECOND)), [line(ANY, IsExclude, &[])], "a question for the group is for all");
    bench.hear(&ask_v4(Some(ONE), &["192.0.2.1", SOURCE], 1000));
    bench.hear(&ask_v4(Some(ANY), &["192.0.2.1", SOURCE], 1000));
    let mut answer = said(bench.pass(SECOND));
    answer.sort_by_key(|(_, group, ..)| *group);
    assert_eq!(answer, [line(ONE, IsInclude, &[SOURCE]), line(ANY, IsInclude, &["192.0.2.1", SOURCE])]);
    // What isn't listened to is no answer.
    bench.hear(&ask_v4(Some(ONE), &["192.0.2.1"], 1000));
    bench.hear(&ask_v4(Some("239.1.1.10"), &[], 1000));
    assert!(bench.pass(SECOND).is_empty());
    // A question for everything has the answer for one group in it.
    bench.hear(&ask_v4(None, &[], 100));
    bench.hear(&ask_v4(Some(ANY), &[], 10_000));
    assert_eq!(said(bench.pass(20 * SECOND)).len(), 2);
}

#[test]
fn delays_differ() {
    let mut bench = Bench::settled();
    let mut delay = || {
        bench.hear(&ask_v4(None, &[], 10_000));
        bench.pass(10 * SECOND)[0].0
    };
    let delays: Vec<f64> = (0..100).map(|_| delay()).collect();
    let mean = delays.iter().sum::<f64>() / 100.0;
    assert!((3.5..6.5).contains(&mean), "{mean}");
    assert!(delays.iter().any(|delay| *delay < 1.0) && delays.iter().any(|delay| *delay > 9.0));
}

#[test]
fn who_asks_by_an_older_version_is_answered_by_it_for_a_while() {
    let mut bench = Bench::settled();
    let old = |code: u8, alert| {
        igmp_frame("198.51.100.9", "224.0.0.1", 1, alert, vec![0x11, code, 0, 0, 0, 0, 0, 0])
    };
    let listens = |version, group: &str| (version, addr(group), IsExclude, Vec::new());
    assert!(bench.hear(&old(10, true)));
    assert_eq!(said(bench.pass(SECOND)), [listens(Version::Second, ONE), listens(Version::Second, ANY)]);
    bench.hear(&old(0, false));
    assert_eq!(said(bench.pass(10 * SECOND)), [listens(Version::First, ONE), listens(Version::First, ANY)]);
    bench.pass(251 * SECOND);
    bench.hear(&ask_v4(None, &[], 1000));
    assert_eq!(said(bench.pass(SECOND))[1], line(ANY, IsExclude, &[]), "they are gone");
    bench.hear(&old(10, true));
    let left = |group: &str| (Version::Second, addr(group), ToInclude, Vec::new());
    let mld = [&[130, 0, 0, 0, 1, 0, 0, 0][..], &[0; 16]].concat();
    bench.hear(&mld_frame("fe80::9", "ff02::1", 1, mld));
    assert!(said(bench.pass(SECOND)).contains(&listens(Version::Second, SIX)));
    assert_eq!(bench.leave(), [left(SIX), left(SIX), left(ONE), left(ANY), left(ONE), left(ANY)]);
}

#[test]
fn what_is_said_fits_into_packets_and_is_all_there() {
    let sources: Vec<Addr> = (1..=100).map(|number| Addr(0x2001_0db8 << 96 | number)).collect();
    let groups: Vec<Addr> = (1..=60).map(|number| Addr(0xff3e << 112 | number)).collect();
    let mut wanted: Vec<Join> = sources.iter().map(|source| (LAN, groups[0], Some(*source))).collect();
    wanted.extend(groups[1..].iter().map(|group| (LAN, *group, None)));
    // Everybody's, and what stays on the host.
    wanted.extend(["224.0.0.1", "ff02::1", "ff01::9"].map(|group| (LAN, addr(group), None)));
    let mut bench = Bench::new(&wanted);
    let mut out = Vec::new();
    bench.joins.poll(bench.now, &mut out);
    let long = |output: &Output| matches!(output, Output::Send(_, frame) if frame.len() > 14 + 1280);
    assert!(out.len() > 2 && !out.iter().any(long));
    let said = lines(&out);
    let of_first = said.iter().filter(|(_, group, ..)| *group == groups[0]);
    assert!(of_first.flat_map(|(.., sources)| sources).eq(&sources));
    let others: Vec<Addr> =
        said.iter().map(|(_, group, ..)| *group).filter(|group| *group != groups[0]).collect();
    assert_eq!(others, groups[1..]);
    // One rule for all sources is for all, whatever others say.
    wanted.push((LAN, groups[0], None));
    bench.joins.reload(bench.now, &interfaces(), &wanted);
    assert_eq!(self::said(bench.pass(0))[0], (Version::Third, groups[0], ToExclude, Vec::new()));
}

#[test]
fn a_link_that_was_down_is_told_again_and_one_that_stays_as_it_is_isnt() {
    let mut bench = Bench::settled();
    bench.joins.reload(bench.now, &interfaces(), &all());
    assert!(bench.pass(100 * SECOND).is_empty());
    let down = PortsDown::default().with(PortId(1), true);
    bench.joins.watch(bench.now, down);
    assert!(bench.pass(100 * SECOND).is_empty());
    bench.joins.watch(bench.now, PortsDown::default());
    assert_eq!(said(bench.pass(0)).len(), 3);
    // Nobody else's frames are ours to answer.
    assert!(!bench.joins.receive(bench.now, InterfaceId(9), &ask_v4(None, &[], 1000)));
    let report = igmp::frame(MAC, igmp::report(addr("198.51.100.7"), &[]));
    assert!(!bench.hear(&report) && !bench.hear(&report[..20]) && !bench.hear(&[]));
}

//! Any IGMP and MLD at any times: what the tables are told is what the machine knows, bounds hold, what is asked is understood
//! by another router, there is never something due that isn't done, and who falls silent is forgotten.
//!
//! An input is a list of steps, each a byte and what it says (see [`Run::take_step`]).

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces};
use millrace_fastpath::tables::listeners::Filter;
use millrace_fastpath::wire::{ICMPV6, IGMP, checksum, ipv4};
use millrace_slowpath::membership::{GROUPS_MAX, Machine, Output, SOURCES_MAX, Timers};

const SECOND: u64 = 1_000_000_000;
const TIMERS: Timers =
    Timers { robustness: 2, query_interval: 20 * SECOND, response: 2 * SECOND, last_member: SECOND };
const LINK: InterfaceId = InterfaceId(0);

fuzz_target!(|input: &[u8]| {
    let mut run = Run::new();
    let mut rest = input;
    while let Some((step, after)) = rest.split_first() {
        rest = run.take_step(*step, after);
        run.check();
    }
    run.end();
});

struct Run {
    machine: Machine,
    /// Another router on the link, which hears what we say.
    other: Machine,
    now: Nanos,
    out: Vec<Output>,
    /// Groups that the tables have.
    served: BTreeSet<Addr>,
}

/// `fe80::LAST`
fn link_local(last: u8) -> Addr {
    Addr(0xfe80 << 112 | u128::from(last))
}

fn interfaces(last: u8) -> Interfaces {
    let link = Interface {
        name: "link".to_owned(),
        port: PortId(0),
        vlan: None,
        outer: None,
        mac: [2, 0, 0, 0, 0, last],
        mtu: 1500,
        addresses: vec![(Addr::v4([192, 0, 2, last]), 24), (link_local(last), 64)],
    };
    Interfaces::new(vec![link], [])
}

impl Run {
    fn new() -> Self {
        let machine = || (Machine::default(), Vec::new());
        let ((mut one, mut out), (mut other, mut unheard)) = (machine(), machine());
        let now = Nanos(SECOND);
        one.reload(now, &interfaces(9), &[(LINK, TIMERS)], &mut out);
        other.reload(now, &interfaces(200), &[(LINK, TIMERS)], &mut unheard);
        Self { machine: one, other, now, out, served: BTreeSet::new() }
    }

    /// What the lowest bits of a step say; the rest is who says it.
    fn take_step<'a>(&mut self, step: u8, bytes: &'a [u8]) -> &'a [u8] {
        if step & 3 == 3 {
            let Some((wait, rest)) = bytes.split_first() else { return &[] };
            self.pass(u64::from(*wait) * SECOND / 4);
            return rest;
        }
        let Some((len, rest)) = bytes.split_first() else { return &[] };
        let (said, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let frame = match step & 3 {
            0 => igmp(step >> 2, said),
            1 => mld(step >> 2, said),
            // Anything at all.
            _ => said.to_vec(),
        };
        self.machine.receive(self.now, LINK, &frame, &mut self.out);
        rest
    }

    fn pass(&mut self, nanos: u64) {
        let end = self.now.plus(nanos);
        while let Some(due) = self.machine.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.machine.poll(self.now, &mut self.out);
            assert!(self.machine.next_due() > Some(self.now), "what is due is done");
            self.check();
        }
        self.now = end;
    }

    fn check(&mut self) {
        let mut unheard = Vec::new();
        for output in self.out.drain(..) {
            match output {
                Output::Send(interface, frame) => {
                    assert_eq!((interface, &frame[6..11]), (LINK, &[2, 0, 0, 0, 0][..]));
                    self.other.receive(self.now, LINK, &frame, &mut unheard);
                }
                Output::Changed(_, group, None) => assert!(self.served.remove(&group)),
                Output::Changed(_, group, Some(filter)) => {
                    assert_ne!(filter, Filter::Include([].into()), "nobody");
                    self.served.insert(group);
                }
            }
        }
        let heard = self.other.counters();
        assert_eq!((heard.malformed, heard.unwanted), (0, 0));
        assert_eq!(heard.queries_heard, self.machine.counters().queries_sent);
        let mut groups = 0;
        for member in self.machine.members(self.now) {
            groups += 1;
            assert!(self.served.contains(&member.group));
            assert!(member.sources.len() <= SOURCES_MAX);
            assert!(member.exclude_until.is_some() || !member.sources.is_empty());
        }
        assert!(groups == self.served.len() && groups <= 2 * GROUPS_MAX);
    }

    /// Nobody is heard any more, and we ask, unless somebody has a still lower address: it may have said that memberships last
    /// for days.
    fn end(mut self) {
        self.machine.reload(self.now, &interfaces(1), &[(LINK, TIMERS)], &mut self.out);
        for _ in 0..100_000 {
            if self.served.is_empty() {
                return;
            }
            let due = self.machine.next_due().expect("somebody is served");
            self.pass(due.since(self.now));
        }
        panic!("{} groups are served for ever", self.served.len());
    }
}

/// IGMP with what no luck finds: its IP header and sums.
fn igmp(from: u8, said: &[u8]) -> Vec<u8> {
    let mut igmp = said.to_vec();
    igmp.resize(igmp.len().max(8), 0);
    igmp[2..4].fill(0);
    let sum = !checksum::fold(checksum::sum(&igmp));
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x46, 0, 1, (24 + igmp.len()) as u8, 0, 0, 0, 0, 1, IGMP, 0, 0, 192, 0, 2, from];
    ip[2..4].copy_from_slice(&((24 + igmp.len()) as u16).to_be_bytes());
    ip.extend([224, 0, 0, 22, 0x94, 4, 0, 0]);
    ipv4::fill_checksum(&mut ip, 24);
    [&[0; 12][..], &[8, 0], &ip, &igmp].concat()
}

/// The same for MLD.
fn mld(from: u8, said: &[u8]) -> Vec<u8> {
    let mut mld = said.to_vec();
    mld.resize(mld.len().max(8), 0);
    mld[2..4].fill(0);
    let (source, to) = (link_local(from), Addr(0xff02 << 112 | 0x16));
    let sum = checksum::pseudo_header(source, to, ICMPV6, mld.len()) + checksum::sum(&mld);
    mld[2..4].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((8 + mld.len() as u16).to_be_bytes());
    ip.extend([0, 1]);
    ip.extend(source.v6_bytes());
    ip.extend(to.v6_bytes());
    ip.extend([ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    [&[0; 12][..], &[0x86, 0xdd], &ip, &mld].concat()
}

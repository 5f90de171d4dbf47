//! One link, one family: who of the routers asks, what was asked, and what hosts listen to (RFC 9776 section 6, RFC 9777
//! section 7).

use std::collections::{BTreeMap, BTreeSet};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::listeners::Filter;

use super::Counters;
use super::group::{Doubts, Group};
use super::message::{Heard, Message, Query, Record, RecordKind, Version, is_routed};
use super::timers::Timers;

/// Groups that are known on one link and in one family: a flood of reports fills no more.
pub const GROUPS_MAX: usize = 4096;
/// Sources that one query asks for: it fits into the smallest MTU of IPv6.
const SOURCES_PER_QUERY: usize = 64;

/// What a network has to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// To the link.
    Ask(Query),
    /// To the tables: who listens to a group from now on.
    Changed(Addr, Option<Filter>),
}

/// The state of a link.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// Our address there, by which the asker is elected.
    pub(super) ours: Addr,
    configured: Timers,
    /// Of the elected asker, while that isn't us.
    elected: Option<Elected>,
    /// When everybody is to be asked.
    next_query: Nanos,
    /// Questions to everybody that follow each other soon.
    startup_left: u8,
    groups: BTreeMap<Addr, Member>,
    /// Groups by when something of theirs is due.
    schedule: BTreeSet<(Nanos, Addr)>,
}

/// Another router that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elected {
    pub(super) addr: Addr,
    /// Until it counts as gone.
    until: Nanos,
    timers: Timers,
}

/// A group with listeners.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) state: Group,
    /// Until when there are hosts of the first and the second version (Older Version Host Present).
    older: [Nanos; 2],
    /// When questions about it are due.
    next_ask: Option<Nanos>,
    /// How often the group is still to be asked for, and each source.
    group_left: u8,
    sources_left: BTreeMap<Addr, u8>,
    /// What tables say.
    said: Option<Filter>,
    scheduled: Option<Nanos>,
}

impl Network {
    pub(super) fn new(ours: Addr, timers: Timers, now: Nanos) -> Self {
        Self {
            ours,
            configured: timers,
            elected: None,
            next_query: now,
            startup_left: timers.robustness,
            groups: BTreeMap::new(),
            schedule: BTreeSet::new(),
        }
    }

    /// Another address or other times from now on; what is known stays.
    pub(super) fn reload(&mut self, ours: Addr, timers: Timers, now: Nanos) {
        if self.configured != timers {
            self.next_query = now;
        }
        (self.ours, self.configured) = (ours, timers);
        self.elected = self.elected.filter(|elected| elected.addr < ours);
    }

    /// Takes in a message of this family.
    pub(super) fn receive(&mut self, now: Nanos, heard: Heard, counters: &mut Counters, out: &mut Vec<Said>) {
        match heard.message {
            Message::Query(query) => {
                counters.queries_heard += 1;
                self.asked(now, heard.source, &query, out);
            }
            Message::Report(version, records) => {
                counters.reports += 1;
                for record in records.into_iter().filter(|record| is_routed(record.group)) {
                    self.told(now, version, record, counters, out);
                }
            }
        }
    }

    /// Does what has become due.
    pub(super) fn poll(&mut self, now: Nanos, out: &mut Vec<Said>) {
        if self.elected.is_some_and(|elected| elected.until <= now) {
            // RFC 9776 section 6.6.2: it is our turn.
            self.elected = None;
            self.next_query = now;
        }
        if self.elected.is_none() && self.next_query <= now {
            let timers = self.configured;
            out.push(Said::Ask(query(&timers, None, Vec::new(), false, timers.response)));
            let startup = self.startup_left > 1;
            self.startup_left = self.startup_left.saturating_sub(1);
            self.next_query =
                now.plus(if startup { timers.query_interval / 4 } else { timers.query_interval });
        }
        while let Some((_, addr)) = self.schedule.first().copied().filter(|(at, _)| *at <= now) {
            self.due(now, addr, out);
        }
    }

    /// When [`Self::poll`] has something to do next.
    pub(super) fn next_due(&self) -> Nanos {
        let general = self.elected.map_or(self.next_query, |elected| elected.until);
        self.schedule.first().map_or(general, |(at, _)| general.min(*at))
    }

    /// When we ask everybody next, if nobody else does.
    pub(super) fn next_query(&self) -> Nanos {
        self.next_query
    }

    /// Who asks, if it isn't us.
    pub(super) fn elected(&self) -> Option<Elected> {
        self.elected
    }

    /// The groups with listeners.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Addr, &Member)> {
        self.groups.iter().map(|(addr, member)| (*addr, member))
    }

    /// What holds now: the asker's times, where that isn't us (RFC 9776 sections 4.1.6 and 4.1.7).
    fn timers(&self) -> Timers {
        self.elected.map_or(self.configured, |elected| elected.timers)
    }

    /// Another router asks.
    fn asked(&mut self, now: Nanos, source: Addr, query: &Query, out: &mut Vec<Said>) {
        if source == self.ours || source.to_ip().is_unspecified() {
            return;
        }
        if source < self.ours && self.elected.is_none_or(|elected| source <= elected.addr) {
            let known = self.elected.map_or(self.configured, |elected| elected.timers);
            let timers = known.adopted(query, &self.configured);
            let until = now.plus(timers.other_querier());
            self.elected = Some(Elected { addr: source, until, timers });
        }
        let Some(group) = query.group.filter(|_| !query.suppress) else { return };
        let Some(member) = self.groups.get_mut(&group) else { return };
        member.state.expire(now);
        let timers = self.elected.map_or(self.configured, |elected| elected.timers);
        let time = u64::from(query.response_ms) * 1_000_000 * u64::from(timers.robustness);
        let mut doubts = Doubts { group: query.sources.is_empty(), sources: query.sources.clone() };
        member.state.lower(&mut doubts, now.plus(time));
        self.settle(group, out);
    }

    /// A host says what it listens to.
    fn told(
        &mut self,
        now: Nanos,
        version: Version,
        record: Record,
        counters: &mut Counters,
        out: &mut Vec<Said>,
    ) {
        let Record { kind, group, mut sources } = record;
        let timers = self.timers();
        let says_nothing = matches!(kind, RecordKind::IsInclude | RecordKind::Allow) && sources.is_empty();
        let only_leaves = matches!(kind, RecordKind::ToInclude | RecordKind::Block) && sources.is_empty();
        if !self.groups.contains_key(&group) {
            if says_nothing || only_leaves || kind == RecordKind::Block {
                return;
            }
            if self.groups.len() >= GROUPS_MAX {
                counters.groups_refused += 1;
                return;
            }
        }
        let member = self.groups.entry(group).or_insert_with(Member::new);
        member.state.expire(now);
        if version < Version::Third && kind == RecordKind::IsExclude {
            member.older[version as usize] = now.plus(timers.membership());
        }
        // RFC 9776 section 7.3.2, RFC 9777 section 8.3.2: an older host isn't heard when others speak for it.
        match (member.version(now), kind) {
            (Version::First, RecordKind::ToInclude)
            | (Version::First | Version::Second, RecordKind::Block) => {
                return self.settle(group, out);
            }
            (Version::First | Version::Second, RecordKind::ToExclude) => sources.clear(),
            _ => {}
        }
        let (mut doubts, refused) = member.state.apply(kind, &sources, now.plus(timers.membership()));
        counters.sources_refused += refused as u64;
        // The asker alone asks, and the others follow its questions.
        if self.elected.is_none() {
            member.state.lower(&mut doubts, now.plus(timers.last_member_time()));
            member.doubt(&doubts, timers.robustness, now);
        }
        self.settle(group, out);
    }

    fn due(&mut self, now: Nanos, group: Addr, out: &mut Vec<Said>) {
        let (timers, is_asker) = (self.timers(), self.elected.is_none());
        if let Some(member) = self.groups.get_mut(&group) {
            member.state.expire(now);
            if member.next_ask.is_some_and(|at| at <= now) {
                member.next_ask = None;
                if is_asker {
                    member.ask(now, group, &timers, out);
                }
            }
        }
        self.settle(group, out);
    }

    /// Tells the tables what has changed of a group, and notes when it is to be looked at again; one without listeners is
    /// forgotten.
    fn settle(&mut self, group: Addr, out: &mut Vec<Said>) {
        let Some(member) = self.groups.get_mut(&group) else { return };
        if let Some(at) = member.scheduled.take() {
            self.schedule.remove(&(at, group));
        }
        let is_empty = member.state.is_empty();
        let filter = (!is_empty).then(|| member.state.filter());
        if member.said != filter {
            out.push(Said::Changed(group, filter.clone()));
            member.said = filter;
        }
        if is_empty {
            self.groups.remove(&group);
            return;
        }
        member.scheduled = [member.state.next_due(), member.next_ask].into_iter().flatten().min();
        if let Some(at) = member.scheduled {
            self.schedule.insert((at, group));
        }
    }
}

impl Elected {
    /// When it counts as gone.
    pub(super) fn until(&self) -> Nanos {
        self.until
    }
}

impl Member {
    fn new() -> Self {
        Self {
            state: Group::default(),
            older: [Nanos(0); 2],
            next_ask: None,
            group_left: 0,
            sources_left: BTreeMap::new(),
            said: None,
            scheduled: None,
        }
    }

    /// The oldest version that some host of the group speaks (Group Compatibility Mode).
    pub(super) fn version(&self, now: Nanos) -> Version {
        match self.older.map(|until| until > now) {
            [true, _] => Version::First,
            [_, true] => Version::Second,
            _ => Version::Third,
        }
    }

    fn doubt(&mut self, doubts: &Doubts, times: u8, now: Nanos) {
        if doubts.group {
            self.group_left = times;
        }
        self.sources_left.extend(doubts.sources.iter().map(|source| (*source, times)));
        if doubts.group || !doubts.sources.is_empty() {
            self.next_ask = Some(now);
        }
    }

    /// Asks for what is in doubt (RFC 9776 section 6.6.3). Who has answered in the meantime isn't to be doubted by others.
    fn ask(&mut self, now: Nanos, group: Addr, timers: &Timers, out: &mut Vec<Said>) {
        let soon = now.plus(timers.last_member_time());
        let asks_group = self.group_left > 0;
        if asks_group {
            self.group_left -= 1;
            let answered = self.state.exclude_until.is_some_and(|until| until > soon);
            out.push(Said::Ask(query(timers, Some(group), Vec::new(), answered, timers.last_member)));
        }
        let state = &self.state;
        self.sources_left.retain(|source, _| matches!(state.sources.get(source), Some(Some(_))));
        let answered = |source: &Addr| state.sources.get(source).is_some_and(|at| *at > Some(soon));
        let (heard, doubted): (Vec<Addr>, Vec<Addr>) =
            self.sources_left.keys().partition(|one| answered(one));
        for (suppress, sources) in [(true, heard), (false, doubted)] {
            // The question for the group asks for these, too.
            if suppress && asks_group {
                continue;
            }
            for sources in sources.chunks(SOURCES_PER_QUERY) {
                out.push(Said::Ask(query(
                    timers,
                    Some(group),
                    sources.to_vec(),
                    suppress,
                    timers.last_member,
                )));
            }
        }
        self.sources_left.retain(|_, left| {
            *left -= 1;
            *left > 0
        });
        if self.group_left > 0 || !self.sources_left.is_empty() {
            self.next_ask = Some(now.plus(timers.last_member));
        }
    }
}

fn query(timers: &Timers, group: Option<Addr>, sources: Vec<Addr>, suppress: bool, response: u64) -> Query {
    Query {
        version: Version::Third,
        group,
        sources,
        suppress,
        robustness: timers.robustness,
        interval_seconds: (timers.query_interval / 1_000_000_000) as u32,
        response_ms: (response / 1_000_000) as u32,
    }
}

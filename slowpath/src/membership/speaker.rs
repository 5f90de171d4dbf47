//! What we say in BIER of what is listened to behind us, as a host tells its router (RFC 9776 section 5.1): what has changed, again
//! soon after in case that was lost, and everything from time to time.

use std::collections::BTreeMap;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::listeners::{Filter, Listener};

use super::message::{Record, RecordKind};

/// How often a change is said (Robustness Variable), and after how long again (Unsolicited Report Interval).
const TIMES: u8 = 2;
const AGAIN_NANOS: u64 = 1_000_000_000;
/// Sources in one record: an IPv6 one is shorter than a packet.
pub(super) const SOURCES_PER_RECORD: usize = 32;

/// What one sub-domain's routers are told.
#[derive(Debug)]
pub(super) struct Speaker {
    interval: u64,
    /// What is listened to.
    known: BTreeMap<Addr, Filter>,
    /// What has changed, how often that is still to be said, and when.
    changed: BTreeMap<Addr, (u8, Nanos)>,
    /// When everything is said.
    next_all: Nanos,
    /// The earliest of what is due, or earlier.
    next: Nanos,
}

impl Speaker {
    /// Says everything at `now`, and again every `interval` nanoseconds.
    pub(super) fn new(now: Nanos, interval: u64) -> Self {
        Self { interval, known: BTreeMap::new(), changed: BTreeMap::new(), next_all: now, next: now }
    }

    /// Another interval from now on.
    pub(super) fn set_interval(&mut self, now: Nanos, interval: u64) {
        if self.interval != interval {
            (self.interval, self.next_all, self.next) = (interval, now, now);
        }
    }

    /// These alone listen to a group from now on.
    pub(super) fn set(&mut self, group: Addr, listeners: &[Listener]) {
        let filter = merged(listeners);
        if self.known.get(&group) == filter.as_ref() {
            return;
        }
        match filter {
            Some(filter) => self.known.insert(group, filter),
            None => self.known.remove(&group),
        };
        self.changed.insert(group, (TIMES, Nanos(0)));
        self.next = Nanos(0);
    }

    /// The groups that somebody listens to.
    pub(super) fn groups(&self) -> Vec<Addr> {
        self.known.keys().copied().collect()
    }

    /// Somebody asks what is listened to: says everything soon.
    pub(super) fn asked(&mut self, now: Nanos) {
        self.next_all = self.next_all.min(now.plus(AGAIN_NANOS));
        self.next = self.next.min(self.next_all);
    }

    /// When [`Self::poll`] has something to say next.
    pub(super) fn next_due(&self) -> Nanos {
        self.next
    }

    /// What is to be said now.
    pub(super) fn poll(&mut self, now: Nanos) -> Vec<Record> {
        let mut records = Vec::new();
        let says_all = self.next_all <= now;
        let known = &self.known;
        self.changed.retain(|group, (left, at)| {
            if *at > now {
                return true;
            }
            let gone = Filter::Include([].into());
            put(&mut records, *group, known.get(group).unwrap_or(&gone), true);
            (*left, *at) = (*left - 1, now.plus(AGAIN_NANOS));
            *left > 0
        });
        if says_all {
            self.known.iter().for_each(|(group, filter)| put(&mut records, *group, filter, false));
            self.next_all = now.plus(self.interval);
        }
        let again = self.changed.values().map(|(_, at)| *at).min();
        self.next = again.map_or(self.next_all, |at| at.min(self.next_all));
        records
    }
}

/// What a host would listen to that listens for all of them (RFC 9776 section 3.2); `None` if nobody does.
fn merged(listeners: &[Listener]) -> Option<Filter> {
    let filters = || listeners.iter().map(|one| &one.filter);
    let mut sources: Vec<Addr> = filters().flat_map(|filter| filter.sources().iter().copied()).collect();
    sources.sort_unstable();
    sources.dedup();
    let excludes = filters().any(|filter| matches!(filter, Filter::Exclude(_)));
    let passes = |source: &Addr| filters().any(|filter| filter.passes(*source));
    sources.retain(|source| passes(source) != excludes);
    let sources = sources.into_boxed_slice();
    match excludes {
        true => Some(Filter::Exclude(sources)),
        false => (!sources.is_empty()).then_some(Filter::Include(sources)),
    }
}

/// The records that say what is listened to of a group. Sources that aren't wanted and find no room are left out (RFC 9776
/// section 4.2.16): nothing that is wanted is missed by that.
fn put(records: &mut Vec<Record>, group: Addr, filter: &Filter, changed: bool) {
    use RecordKind::*;
    let kinds = match (filter, changed) {
        (Filter::Include(_), true) => [ToInclude, Allow],
        (Filter::Include(_), false) => [IsInclude; 2],
        (Filter::Exclude(_), true) => [ToExclude; 2],
        (Filter::Exclude(_), false) => [IsExclude; 2],
    };
    let mut chunks = filter.sources().chunks(SOURCES_PER_RECORD);
    let first = chunks.next().unwrap_or_default();
    records.push(Record { kind: kinds[0], group, sources: first.to_vec() });
    if let Filter::Include(_) = filter {
        records.extend(chunks.map(|sources| Record { kind: kinds[1], group, sources: sources.to_vec() }));
    }
}

#[cfg(test)]
mod tests {
    use millrace_fastpath::tables::interfaces::InterfaceId;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn addrs(numbers: &[u8]) -> Box<[Addr]> {
        numbers.iter().map(|number| Addr::v4([10, 0, 0, *number])).collect()
    }

    fn group(number: u8) -> Addr {
        Addr::v4([232, 1, 1, number])
    }

    fn include(numbers: &[u8]) -> Listener {
        Listener::hosts(InterfaceId(0), Filter::Include(addrs(numbers)))
    }

    fn exclude(numbers: &[u8]) -> Listener {
        Listener::hosts(InterfaceId(1), Filter::Exclude(addrs(numbers)))
    }

    fn record(kind: RecordKind, number: u8, sources: &[u8]) -> Record {
        Record { kind, group: group(number), sources: addrs(sources).into() }
    }

    #[test]
    fn all_that_somebody_wants_is_wanted() {
        assert_eq!(merged(&[]), None);
        assert_eq!(merged(&[include(&[])]), None);
        assert_eq!(merged(&[include(&[1, 3]), include(&[2, 3])]), Some(Filter::Include(addrs(&[1, 2, 3]))));
        assert_eq!(merged(&[exclude(&[1, 2]), exclude(&[2, 3])]), Some(Filter::Exclude(addrs(&[2]))));
        assert_eq!(merged(&[exclude(&[1, 2]), include(&[2, 4])]), Some(Filter::Exclude(addrs(&[1]))));
    }

    #[test]
    fn changes_are_said_twice_and_everything_from_time_to_time() {
        let mut speaker = Speaker::new(Nanos(0), 60 * SECOND);
        assert_eq!((speaker.poll(Nanos(0)), speaker.next_due()), (vec![], Nanos(60 * SECOND)));
        speaker.set(group(1), &[include(&[7])]);
        assert_eq!(speaker.poll(Nanos(5)), [record(RecordKind::ToInclude, 1, &[7])]);
        assert_eq!(speaker.next_due(), Nanos(5 + SECOND));
        // The same again is no change; another group's change doesn't say this one sooner.
        speaker.set(group(1), &[include(&[7])]);
        speaker.set(group(2), &[exclude(&[])]);
        assert_eq!(speaker.poll(Nanos(6)), [record(RecordKind::ToExclude, 2, &[])]);
        speaker.set(group(1), &[]);
        assert_eq!(speaker.poll(Nanos(7)), [record(RecordKind::ToInclude, 1, &[])]);
        assert_eq!(
            speaker.poll(Nanos(7 + SECOND)),
            [record(RecordKind::ToInclude, 1, &[]), record(RecordKind::ToExclude, 2, &[])]
        );
        assert_eq!(speaker.next_due(), Nanos(60 * SECOND));
        for round in 1..3 {
            assert_eq!(speaker.poll(Nanos(round * 60 * SECOND)), [record(RecordKind::IsExclude, 2, &[])]);
        }
        speaker.asked(Nanos(130 * SECOND));
        assert_eq!(speaker.next_due(), Nanos(131 * SECOND));
        assert_eq!(speaker.poll(Nanos(131 * SECOND)).len(), 1);
    }

    #[test]
    fn many_sources_are_said_in_several_records_or_left_out() {
        let many: Vec<u8> = (1..=80).collect();
        let mut speaker = Speaker::new(Nanos(0), SECOND);
        speaker.set(group(1), &[include(&many)]);
        let kinds =
            |records: &[Record]| records.iter().map(|one| (one.kind, one.sources.len())).collect::<Vec<_>>();
        let said = speaker.poll(Nanos(0));
        let (to, allow, is) = (RecordKind::ToInclude, RecordKind::Allow, RecordKind::IsInclude);
        assert_eq!(kinds(&said), [(to, 32), (allow, 32), (allow, 16), (is, 32), (is, 32), (is, 16)]);
        assert_eq!(said[..3].iter().flat_map(|one| one.sources.clone()).collect::<Vec<_>>(), *addrs(&many));
        speaker.set(group(1), &[exclude(&many)]);
        assert_eq!(kinds(&speaker.poll(Nanos(1))), [(RecordKind::ToExclude, 32)]);
    }
}

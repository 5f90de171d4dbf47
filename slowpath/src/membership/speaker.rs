//! What we say in BIER of what is listened to behind us, as a host tells its router (RFC 9776 section 5.1): what has changed, again
//! soon after in case that was lost, and everything from time to time, or when somebody asks. It is said packet by packet,
//! never in a burst that somebody on the way would lose the end of.

use std::collections::BTreeMap;
use std::ops::Bound;

use millrace_bier::id::BfrId;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::listeners::{Filter, Listener};
use millrace_fastpath::wire::ipv6;

use super::message::{Record, RecordKind};

/// How often a change is said (Robustness Variable), and after how long again (Unsolicited Report Interval).
const TIMES: u8 = 2;
const AGAIN_NANOS: u64 = 1_000_000_000;
/// Sources in one record: an IPv6 one is shorter than a packet.
pub(super) const SOURCES_PER_RECORD: usize = 32;
/// From one packet to the next, at least: whoever is told takes a thousand in a second, of all routers together.
pub(super) const STEP_NANOS: u64 = 1_000_000;
/// Everything is said within this time if nobody asks (the Query Response Interval of RFC 9776 section 8.3), or in half of the
/// interval.
const SPREAD_NANOS_MAX: u64 = 10_000_000_000;
/// Who asks for an answer at once gets it within this time.
const RESPONSE_NANOS_MIN: u64 = 100_000_000;

/// What one sub-domain's routers are told.
#[derive(Debug)]
pub(super) struct Speaker {
    interval: u64,
    /// What is listened to.
    known: BTreeMap<Addr, Filter>,
    /// What has changed, how often that is still to be said, and when.
    changed: BTreeMap<Addr, (u8, Nanos)>,
    /// When everything is begun to be said next, and within how long.
    next_all: (Nanos, u64),
    /// While everything is being said.
    round: Option<Round>,
    /// The earliest of what is due, or earlier.
    next: Nanos,
}

/// How far it has come.
#[derive(Debug)]
struct Round {
    /// The group that was said last.
    after: Bound<Addr>,
    /// When the next packet is due, and how long after it the one behind that.
    at: Nanos,
    step: u64,
}

impl Speaker {
    /// Says everything from `now` on, and again every `interval` nanoseconds.
    pub(super) fn new(now: Nanos, interval: u64) -> Self {
        Self {
            interval,
            known: BTreeMap::new(),
            changed: BTreeMap::new(),
            next_all: (now, spread(interval)),
            round: None,
            next: now,
        }
    }

    /// Another interval from now on.
    pub(super) fn set_interval(&mut self, now: Nanos, interval: u64) {
        if self.interval != interval {
            self.interval = interval;
            self.say_all_from(now, spread(interval));
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

    /// Somebody is new among those who are told: says everything soon.
    pub(super) fn renew(&mut self, now: Nanos) {
        self.say_all_from(now.plus(AGAIN_NANOS), spread(self.interval));
    }

    /// Somebody asks all routers what is listened to, and lets them take so many nanoseconds for the answer: says everything in that
    /// time. Each router begins at a time of its own, which is the same each time.
    pub(super) fn asked(&mut self, now: Nanos, response: u64, own: Option<BfrId>) {
        // A multiplicative hash (Knuth, volume 3, section 6.4): neighbouring numbers are far apart.
        let place = own.map_or(0, BfrId::get).wrapping_mul(0x9e37);
        let response = response.clamp(RESPONSE_NANOS_MIN, SPREAD_NANOS_MAX);
        let quarter = response / 4;
        let wait = ((u128::from(3 * quarter) * u128::from(place)) >> 16) as u64;
        self.say_all_from(now.plus(wait), quarter);
    }

    /// When [`Self::poll`] has something to say next.
    pub(super) fn next_due(&self) -> Nanos {
        self.next
    }

    /// What is to be said now: a packet's worth of records, or of one long group several.
    pub(super) fn poll(&mut self, now: Nanos) -> Vec<Record> {
        let mut records = Vec::new();
        self.say_changes(now, &mut records);
        self.say_more_of_all(now, &mut records);
        let changes = self.changed.values().map(|(_, at)| *at).min();
        let all = self.round.as_ref().map_or(self.next_all.0, |round| round.at);
        self.next = changes.map_or(all, |at| at.min(all)).max(now.plus(STEP_NANOS));
        records
    }

    fn say_all_from(&mut self, at: Nanos, spread: u64) {
        if at < self.next_all.0 {
            self.next_all = (at, spread);
            self.next = self.next.min(at);
        }
    }

    fn say_changes(&mut self, now: Nanos, records: &mut Vec<Record>) {
        let known = &self.known;
        self.changed.retain(|group, (left, at)| {
            if *at > now || is_full(records) {
                return true;
            }
            let gone = Filter::Include([].into());
            put(records, *group, known.get(group).unwrap_or(&gone), true);
            (*left, *at) = (*left - 1, now.plus(AGAIN_NANOS));
            *left > 0
        });
    }

    fn say_more_of_all(&mut self, now: Nanos, records: &mut Vec<Record>) {
        if self.round.is_none() && self.next_all.0 <= now {
            let (_, within) = self.next_all;
            self.next_all = (now.plus(self.interval), spread(self.interval));
            let step = (within / self.packets()).max(STEP_NANOS);
            self.round = Some(Round { after: Bound::Unbounded, at: now, step });
        }
        // Changes come first.
        let is_due = |round: &&mut Round| round.at <= now && !is_full(records);
        let Some(round) = self.round.as_mut().filter(is_due) else { return };
        let mut left = self.known.range((round.after, Bound::Unbounded)).peekable();
        while let Some((group, filter)) = left.next_if(|_| !is_full(records)) {
            put(records, *group, filter, false);
            round.after = Bound::Excluded(*group);
        }
        round.at = now.plus(round.step);
        if left.peek().is_none() {
            self.round = None;
        }
    }

    /// Into how many packets everything goes, about; at least one.
    fn packets(&self) -> u64 {
        let sources = |filter: &Filter| filter.sources().len();
        let bytes: usize = self.known.values().map(|one| RECORD_HEAD + ADDRESS * (1 + sources(one))).sum();
        (bytes / RECORDS_BYTES_MAX + 1) as u64
    }
}

/// Within how long everything is said if nobody asks.
fn spread(interval: u64) -> u64 {
    (interval / 2).min(SPREAD_NANOS_MAX)
}

/// Whether another group of one record might not fit into the packet any more.
fn is_full(records: &[Record]) -> bool {
    let said: usize = records.iter().map(bytes).sum();
    said + RECORD_HEAD + ADDRESS > RECORDS_BYTES_MAX
}

/// How long a record is, at most.
pub(super) fn bytes(record: &Record) -> usize {
    RECORD_HEAD + ADDRESS * (1 + record.sources.len())
}

const RECORD_HEAD: usize = 4;
const ADDRESS: usize = 16;
/// Bytes of records in a packet that is no longer than IPv6's smallest MTU, with the longest BIER header.
pub(super) const RECORDS_BYTES_MAX: usize = 1280 - millrace_bier::header::LEN_MAX - ipv6::HEADER - 8 - 8;
const _: () = assert!(RECORD_HEAD + ADDRESS * (1 + SOURCES_PER_RECORD) <= RECORDS_BYTES_MAX);

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

    /// What is said until then, and when.
    fn pass(speaker: &mut Speaker, until: Nanos) -> Vec<(u64, Vec<Record>)> {
        let mut said = Vec::new();
        while speaker.next_due() <= until {
            let now = speaker.next_due();
            let records = speaker.poll(now);
            said.extend((!records.is_empty()).then_some((now.0, records)));
        }
        said
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
        speaker.renew(Nanos(130 * SECOND));
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
        let said = pass(&mut speaker, Nanos(0)).remove(0).1;
        let (to, allow, is) = (RecordKind::ToInclude, RecordKind::Allow, RecordKind::IsInclude);
        assert_eq!(kinds(&said), [(to, 32), (allow, 32), (allow, 16)]);
        assert_eq!(said.iter().flat_map(|one| one.sources.clone()).collect::<Vec<_>>(), *addrs(&many));
        assert_eq!(kinds(&speaker.poll(Nanos(STEP_NANOS))), [(is, 32), (is, 32), (is, 16)]);
        speaker.set(group(1), &[exclude(&many)]);
        assert_eq!(kinds(&speaker.poll(Nanos(2 * STEP_NANOS))), [(RecordKind::ToExclude, 32)]);
    }

    /// A thousand groups, which one burst of packets would lose the end of: a packet at a time, and each group once.
    #[test]
    fn what_is_much_is_said_packet_by_packet() {
        let groups: Vec<Addr> = (0..1000_u32).map(|at| Addr::v4((0xe801_0000 + at).to_be_bytes())).collect();
        let mut speaker = Speaker::new(Nanos(0), 60 * SECOND);
        assert!(pass(&mut speaker, Nanos(SECOND)).is_empty());
        groups.iter().for_each(|group| speaker.set(*group, &[exclude(&[])]));
        let check = |said: &[(u64, Vec<Record>)], step: u64| {
            let told: Vec<Addr> = said.iter().flat_map(|(_, records)| records).map(|one| one.group).collect();
            assert_eq!(told, groups);
            for pair in said.windows(2) {
                assert!(pair[1].0 - pair[0].0 >= step, "{} and {}", pair[0].0, pair[1].0);
            }
            assert!(said.iter().all(|(_, one)| one.iter().map(bytes).sum::<usize>() <= RECORDS_BYTES_MAX));
        };
        let first = pass(&mut speaker, Nanos(SECOND - 1));
        check(&first, STEP_NANOS);
        let again = pass(&mut speaker, Nanos(2 * SECOND));
        check(&again, STEP_NANOS);
        // Everything, within ten seconds, and again after the interval.
        for round in 1..3 {
            let all = pass(&mut speaker, Nanos((round * 60 + 30) * SECOND));
            check(&all, 100 * STEP_NANOS);
            assert_eq!(all[0].0, round * 60 * SECOND);
            let took = all.last().unwrap().0 - all[0].0;
            assert!((5 * SECOND..10 * SECOND).contains(&took), "{took}");
        }
    }

    /// An answer takes the time that it may, and routers don't all answer at once.
    #[test]
    fn answers_are_spread_over_the_time_that_they_may_take() {
        let mut begins = Vec::new();
        for id in 1..=100 {
            let mut speaker = Speaker::new(Nanos(0), 600 * SECOND);
            (0..200).for_each(|number| speaker.set(group(number), &[exclude(&[])]));
            pass(&mut speaker, Nanos(20 * SECOND));
            speaker.asked(Nanos(20 * SECOND), 2 * SECOND, BfrId::new(id));
            let said = pass(&mut speaker, Nanos(40 * SECOND));
            assert_eq!(said.iter().map(|(_, records)| records.len()).sum::<usize>(), 200);
            let (first, last) = (said[0].0, said.last().unwrap().0);
            assert!(first >= 20 * SECOND && last <= 22 * SECOND, "{first} to {last}");
            begins.push(first);
        }
        begins.sort_unstable();
        // A hundred in one and a half seconds: never ten in a hundredth of one, nor a quarter of a second without.
        assert!(begins.windows(10).all(|ten| ten[9] - ten[0] > SECOND / 100), "{begins:?}");
        assert!(begins.windows(2).all(|two| two[1] - two[0] < SECOND / 4), "{begins:?}");
        assert!(begins[99] - begins[0] > SECOND, "{begins:?}");
    }

    /// Who asks again and again doesn't have it put off, and one round is finished before the next.
    #[test]
    fn questions_put_nothing_off() {
        let mut speaker = Speaker::new(Nanos(0), 600 * SECOND);
        speaker.set(group(1), &[exclude(&[])]);
        pass(&mut speaker, Nanos(20 * SECOND));
        speaker.asked(Nanos(20 * SECOND), 8 * SECOND, BfrId::new(1));
        let due = speaker.next_due();
        speaker.asked(Nanos(21 * SECOND), 8 * SECOND, BfrId::new(1));
        assert_eq!(speaker.next_due(), due);
        assert_eq!(pass(&mut speaker, Nanos(60 * SECOND)).len(), 1);
    }
}

//! What is known of one group on one link: the filter mode, the sources, and how long each still counts (RFC 9776 section 6,
//! RFC 9777 section 7).
//!
//! ```text
//!  INCLUDE (A)      A: sources with a timer that runs; they alone are sent
//!  EXCLUDE (X, Y)   X: sources with a timer that runs, asked for by somebody; Y: those without, that nobody wants.
//!                   All but Y is sent, until the group's timer ends
//! ```

use std::collections::BTreeMap;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::listeners::Filter;

use super::message::RecordKind;

/// Sources of one group that are known on one link: as many as Linux lets a socket name, several times.
pub const SOURCES_MAX: usize = 256;

/// The state of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// In EXCLUDE mode, when the group's timer ends.
    pub(super) exclude_until: Option<Nanos>,
    /// When each source's timer ends; none for those of Y.
    pub(super) sources: BTreeMap<Addr, Option<Nanos>>,
}

/// Who may have left, so that the others have to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    /// Whether anybody listens to the group at all: Q(G).
    pub(super) group: bool,
    /// Whether anybody listens to these sources: Q(G, sources).
    pub(super) sources: Vec<Addr>,
}

impl Group {
    /// Takes in what a host says, at `now`; `until` is when that ends to count (Group Membership Interval). Says who may have
    /// left, and how many sources there was no room for. What is long over must be [expired](Self::expire) before.
    pub(super) fn apply(&mut self, kind: RecordKind, sources: &[Addr], until: Nanos) -> (Doubts, usize) {
        self.apply_within(SOURCES_MAX, kind, sources, until)
    }

    /// The same where there is room for so many sources, if that is less than [`SOURCES_MAX`].
    pub(super) fn apply_within(
        &mut self,
        room: usize,
        kind: RecordKind,
        sources: &[Addr],
        until: Nanos,
    ) -> (Doubts, usize) {
        use RecordKind::*;
        let room = room.min(SOURCES_MAX);
        let mut doubts = Doubts::default();
        let mut refused = 0;
        match (self.exclude_until, kind) {
            // What of A or X it doesn't name, others may listen to, or nobody.
            (mode, IsInclude | Allow | ToInclude) => {
                if kind == ToInclude {
                    doubts.group = mode.is_some();
                    let unnamed = |(source, timer): (&Addr, &Option<Nanos>)| {
                        (timer.is_some() && !sources.contains(source)).then_some(*source)
                    };
                    doubts.sources = self.sources.iter().filter_map(unnamed).collect();
                }
                for source in sources {
                    refused += usize::from(!self.set(room, *source, Some(until)));
                }
            }
            (None, Block) => doubts.sources = self.known(sources),
            (None, IsExclude | ToExclude) => {
                if kind == ToExclude {
                    doubts.sources = self.known(sources);
                }
                // A*B keeps its timers, B-A has none, A-B goes.
                refused += self.retain(room, sources, None);
                self.exclude_until = Some(until);
            }
            // A-X-Y gets the time of the interval, or what the group has left.
            (Some(_), IsExclude) => {
                refused += self.retain(room, sources, Some(until));
                self.exclude_until = Some(until);
            }
            (Some(left), ToExclude) => {
                doubts.sources = self.wanted(sources);
                refused += self.retain(room, sources, Some(left));
                self.exclude_until = Some(until);
            }
            (Some(left), Block) => {
                doubts.sources = self.wanted(sources);
                for source in sources {
                    if !self.sources.contains_key(source) {
                        refused += usize::from(!self.set(room, *source, Some(left)));
                    }
                }
            }
        }
        (doubts, refused)
    }

    /// From `until` on, those in doubt don't count, unless somebody says that they do. Sources whose timers end sooner are none
    /// to ask about (RFC 9776 section 6.6.3).
    pub(super) fn lower(&mut self, doubts: &mut Doubts, until: Nanos) {
        if doubts.group {
            self.exclude_until = self.exclude_until.map(|at| at.min(until));
        }
        doubts.sources.retain(|source| match self.sources.get_mut(source) {
            Some(Some(at)) if *at > until => {
                *at = until;
                true
            }
            _ => false,
        });
    }

    /// Ends what is over (RFC 9776 sections 6.3 and 6.5).
    pub(super) fn expire(&mut self, now: Nanos) {
        match self.exclude_until {
            Some(until) if until <= now => {
                self.exclude_until = None;
                self.sources.retain(|_, timer| timer.is_some_and(|at| at > now));
            }
            Some(_) => {
                for timer in self.sources.values_mut() {
                    *timer = timer.filter(|at| *at > now);
                }
            }
            None => self.sources.retain(|_, timer| timer.is_some_and(|at| at > now)),
        }
    }

    /// Whether nobody listens.
    pub(super) fn is_empty(&self) -> bool {
        self.exclude_until.is_none() && self.sources.is_empty()
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.sources.values().copied().chain([self.exclude_until]).flatten().min()
    }

    /// What is to be sent (RFC 9776 section 6.3).
    pub(super) fn filter(&self) -> Filter {
        let with = |runs: bool| {
            let sources = self.sources.iter().filter(move |(_, timer)| timer.is_some() == runs);
            sources.map(|(source, _)| *source).collect()
        };
        match self.exclude_until {
            None => Filter::Include(with(true)),
            Some(_) => Filter::Exclude(with(false)),
        }
    }

    /// Those that are known, and whose timers run.
    fn known(&self, sources: &[Addr]) -> Vec<Addr> {
        let runs = |source: &&Addr| matches!(self.sources.get(source), Some(Some(_)));
        sources.iter().filter(runs).copied().collect()
    }

    /// Those that are sent in EXCLUDE mode: all but Y.
    fn wanted(&self, sources: &[Addr]) -> Vec<Addr> {
        let is_sent = |source: &&Addr| self.sources.get(source) != Some(&None);
        sources.iter().filter(is_sent).copied().collect()
    }

    /// Keeps these alone; those that are new get this timer. Says how many there was no room for.
    fn retain(&mut self, room: usize, sources: &[Addr], fresh: Option<Nanos>) -> usize {
        let had = std::mem::take(&mut self.sources);
        let timer = |source: &Addr| had.get(source).copied().unwrap_or(fresh);
        let kept = sources.iter().map(|source| self.set(room, *source, timer(source)));
        kept.filter(|kept| !kept).count()
    }

    fn set(&mut self, room: usize, source: Addr, timer: Option<Nanos>) -> bool {
        let fits = self.sources.len() < room || self.sources.contains_key(&source);
        if fits {
            self.sources.insert(source, timer);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::RecordKind::*;
    use super::*;

    const GMI: Nanos = Nanos(260);
    const GROUP: Nanos = Nanos(100);
    const SOURCE: Nanos = Nanos(50);

    fn addrs(letters: &str) -> Vec<Addr> {
        letters.bytes().map(|letter| Addr::v4([10, 0, 0, letter])).collect()
    }

    /// A group as the RFC writes it: `I abc`, or `E ab/cd`. Timers run until [`SOURCE`], those of capital letters until
    /// [`GMI`] and of digits until [`GROUP`].
    fn group(text: &str) -> Group {
        let (x, y) = text[2..].split_once('/').unwrap_or((&text[2..], ""));
        let timer = |letter: u8| match letter {
            b'A'..=b'Z' => GMI,
            b'1'..=b'9' => GROUP,
            _ => SOURCE,
        };
        let name = |letter: u8| match letter {
            b'1'..=b'9' => letter - b'1' + b'a',
            letter => letter.to_ascii_lowercase(),
        };
        let running = x.bytes().map(|letter| (Addr::v4([10, 0, 0, name(letter)]), Some(timer(letter))));
        let ended = y.bytes().map(|letter| (Addr::v4([10, 0, 0, letter]), None));
        let exclude_until = match &text[..1] {
            "I" => None,
            "e" => Some(GROUP),
            _ => Some(GMI),
        };
        Group { exclude_until, sources: running.chain(ended).collect() }
    }

    /// The rows of RFC 9776 section 6.4.1 and 6.4.2, in their order: state, what is heard, the new state, and what is asked.
    /// A small `e` is a group whose timer runs since longer.
    #[test]
    fn the_tables_of_the_rfc() {
        let rows: [(&str, RecordKind, &str, &str, &str); 24] = [
            ("I ab", IsInclude, "bc", "I aBC", ""),
            ("I ab", IsExclude, "bc", "E b/c", ""),
            ("e ab/cd", IsInclude, "bce", "e aBCE/d", ""),
            ("e ab/cd", IsExclude, "bce", "E bE/c", ""),
            ("I ab", Allow, "bc", "I aBC", ""),
            ("I ab", Block, "bc", "I ab", "b"),
            ("I ab", ToExclude, "bc", "E b/c", "b"),
            ("I ab", ToInclude, "bc", "I aBC", "a"),
            ("e ab/cd", Allow, "bce", "e aBCE/d", ""),
            ("e ab/cd", Block, "bce", "e ab5/cd", "be"),
            ("e ab/cd", ToExclude, "bce", "E b5/c", "be"),
            ("e ab/cd", ToInclude, "bce", "e aBCE/d", "Ga"),
            // One side or the other empty.
            ("I ", IsInclude, "", "I ", ""),
            ("I ", Allow, "a", "I A", ""),
            ("I ", IsExclude, "", "E ", ""),
            ("I ", ToExclude, "a", "E /a", ""),
            ("I a", ToInclude, "", "I a", "a"),
            ("I a", Block, "a", "I a", "a"),
            ("I ab", ToExclude, "", "E ", ""),
            ("e ", IsExclude, "", "E ", ""),
            ("e ", ToInclude, "", "e ", "G"),
            ("e a/b", ToInclude, "", "e a/b", "Ga"),
            ("e /a", Block, "a", "e /a", ""),
            ("e a/b", ToExclude, "", "E ", ""),
        ];
        for (before, kind, sources, after, asked) in rows {
            let mut state = group(before);
            let (doubts, refused) = state.apply(kind, &addrs(sources), GMI);
            let row = format!("{before} {kind:?} {sources}");
            assert_eq!((state, refused), (group(after), 0), "{row}");
            let letters = asked.trim_start_matches('G');
            let expected = Doubts { group: asked.starts_with('G'), sources: addrs(letters) };
            assert_eq!(doubts, expected, "{row}");
        }
    }

    #[test]
    fn timers_end_as_the_rfc_says() {
        for (before, at, after) in [
            ("I aB", 50, "I B"),
            ("I a", 50, "I "),
            ("I a", 49, "I a"),
            ("e aB/c", 50, "e B/ca"),
            // What somebody asked for goes on to be sent.
            ("e aB/c", 100, "I B"),
            ("e a/c", 100, "I "),
            ("e a/c", 99, "e /ac"),
        ] {
            let mut state = group(before);
            state.expire(Nanos(at));
            assert_eq!(state, group(after), "{before} at {at}");
        }
        assert_eq!(group("e aB/c").next_due(), Some(SOURCE));
        assert_eq!((group("E /c").next_due(), group("I ").next_due()), (Some(GMI), None));
    }

    #[test]
    fn doubts_lower_timers_that_run_longer() {
        let mut state = group("E aB/c");
        let mut doubts = Doubts { group: true, sources: addrs("abcd") };
        state.lower(&mut doubts, Nanos(60));
        assert_eq!(state.exclude_until, Some(Nanos(60)));
        assert_eq!(
            state.sources.values().copied().collect::<Vec<_>>(),
            [Some(SOURCE), Some(Nanos(60)), None]
        );
        assert_eq!(doubts.sources, addrs("b"));
    }

    #[test]
    fn sources_beyond_the_limit_are_counted_and_never_cut_what_is_sent_to_others() {
        let many: Vec<_> = (0..SOURCES_MAX as u32 + 5).map(|n| Addr::v4(n.to_be_bytes())).collect();
        let mut state = Group::default();
        assert_eq!(state.apply(Allow, &many, GMI).1, 5);
        assert_eq!(state.sources.len(), SOURCES_MAX);
        assert_eq!(state.apply(Allow, &many[..3], GMI).1, 0, "those that are known stay");
        assert_eq!(state.apply(ToExclude, &many, GMI).1, 5);
        assert!(state.filter().passes(many[SOURCES_MAX]) && state.exclude_until.is_some());
    }
}

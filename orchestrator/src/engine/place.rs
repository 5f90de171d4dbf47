//! Which node gets the next instance.

use crate::config::Pattern;

/// A node that could take an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) free_bytes: u64,
    /// A start has just failed there.
    pub(super) avoid: bool,
}

/// Chooses among the candidates with room: those where nothing failed before those where something did, then by the
/// pattern, then by name.
pub(super) fn choose<'a>(
    pattern: Pattern,
    memory_bytes: u64,
    candidates: impl Iterator<Item = Candidate<'a>>,
) -> Option<&'a str> {
    candidates
        .filter(|candidate| candidate.free_bytes >= memory_bytes)
        .min_by_key(|candidate| {
            let room = match pattern {
                Pattern::Pack => candidate.free_bytes,
                Pattern::Spread => u64::MAX - candidate.free_bytes,
            };
            (candidate.avoid, room, candidate.name)
        })
        .map(|candidate| candidate.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, free_bytes: u64, avoid: bool) -> Candidate<'_> {
        Candidate { name, free_bytes, avoid }
    }

    #[test]
    fn pack_fills_the_fullest_and_spread_the_emptiest() {
        let nodes = [candidate("a", 30, false), candidate("b", 20, false), candidate("c", 9, false)];
        assert_eq!(choose(Pattern::Pack, 10, nodes.into_iter()), Some("b"));
        assert_eq!(choose(Pattern::Spread, 10, nodes.into_iter()), Some("a"));
        assert_eq!(choose(Pattern::Pack, 31, nodes.into_iter()), None);
    }

    #[test]
    fn a_node_that_failed_comes_last_but_is_better_than_none() {
        let nodes = [candidate("a", 10, true), candidate("b", 90, false)];
        assert_eq!(choose(Pattern::Pack, 10, nodes.into_iter()), Some("b"));
        assert_eq!(choose(Pattern::Pack, 10, nodes[..1].iter().copied()), Some("a"));
    }
}

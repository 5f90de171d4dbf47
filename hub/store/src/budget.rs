//! What is removed to make room: least recently used first, complete contents before arriving ones, and never one that
//! nodes are still owed or that is kept for late ones. An arriving content counts as used when bytes came last, and one
//! that bytes came for just now isn't removed: it would begin again at once.
//!
//! Plain LRU, because a hub's contents are few and large and each is read by everybody when it is new: there are no
//! scans of one-time readers that a smarter order would have to withstand.

use crate::error::Error;
use crate::root::Root;
use crate::state::{Held, State};
use crate::time::Millis;

/// One content, as the choice sees it.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    root: Root,
    cost: u64,
    used: Millis,
    state: Kind,
}

// In the order of removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Complete,
    Stalled,
    Arriving,
    Pinned,
}

/// The contents to remove so that `needed` more bytes fit.
///
/// # Errors
///
/// [`Error::NoRoom`]: nothing is to be removed, because it wouldn't be enough.
pub(crate) fn victims(state: &State, needed: u64, budget: u64, now: Millis) -> Result<Vec<Root>, Error> {
    let candidates = state.contents.iter().map(|(root, content)| {
        let (used, kind) = match &content.held {
            Held::Complete(_) => (content.used, Kind::Complete),
            Held::Arriving(part) if now.since(part.written()) < BUSY => (part.written(), Kind::Arriving),
            Held::Arriving(part) => (part.written(), Kind::Stalled),
        };
        let state = if state.is_pinned(*root, now) { Kind::Pinned } else { kind };
        Candidate { root: *root, cost: content.cost(), used, state }
    });
    choose(candidates.collect(), state.incoming, needed, budget)
}

fn choose(mut all: Vec<Candidate>, incoming: u64, needed: u64, budget: u64) -> Result<Vec<Root>, Error> {
    all.sort_by_key(|one| (one.state, one.used, one.root));
    let mut used = incoming + all.iter().map(|one| one.cost).sum::<u64>();
    let mut chosen = Vec::new();
    for one in all.iter().filter(|one| one.state <= Kind::Stalled) {
        if used.saturating_add(needed) <= budget {
            break;
        }
        used -= one.cost;
        chosen.push(one.root);
    }
    if used.saturating_add(needed) <= budget {
        return Ok(chosen);
    }
    let of = |state| all.iter().filter(|one| one.state == state).map(|one| one.cost).sum::<u64>();
    Err(Error::NoRoom { needed, budget, pinned: of(Kind::Pinned), arriving: of(Kind::Arriving) + incoming })
}

/// Milliseconds after its last bytes for which an arriving content isn't removed: longer than a source's pauses, shorter
/// than an operator's patience.
pub const BUSY: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: u8, cost: u64, used: u64, state: Kind) -> Candidate {
        Candidate { root: Root::new([name; 32]), cost, used: Millis(used), state }
    }

    fn chosen(needed: u64) -> Result<Vec<u8>, Error> {
        let all = vec![
            candidate(1, 10, 5, Kind::Complete),
            candidate(2, 10, 1, Kind::Pinned),
            candidate(3, 10, 2, Kind::Stalled),
            candidate(4, 10, 3, Kind::Complete),
            candidate(5, 10, 0, Kind::Arriving),
        ];
        choose(all, 5, needed, 60).map(|roots| roots.iter().map(|root| root.as_bytes()[0]).collect())
    }

    #[test]
    fn the_least_used_go_first_and_arriving_ones_last() {
        for (needed, gone) in [(0, &[][..]), (5, &[]), (6, &[4]), (15, &[4]), (16, &[4, 1]), (26, &[4, 1, 3])]
        {
            assert_eq!(chosen(needed).unwrap(), gone, "{needed} bytes");
        }
    }

    #[test]
    fn what_is_owed_stays_and_the_newcomer_is_refused() {
        let error = chosen(36).unwrap_err();
        assert!(
            matches!(error, Error::NoRoom { needed: 36, budget: 60, pinned: 10, arriving: 15 }),
            "{error}"
        );
        assert!(matches!(chosen(u64::MAX), Err(Error::NoRoom { .. })));
    }
}

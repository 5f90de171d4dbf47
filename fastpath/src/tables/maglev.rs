//! Consistent hashing by Maglev tables (Eisenbud et al., NSDI 2016, §3.4): a hash picks an entry, an entry names a
//! member.
//!
//! ```text
//!  hash ─► entries[0..M)   M prime, at least 100 per member
//!            2 0 1 1 2 0 …   each member fills the entries of its own permutation, in turns
//! ```
//!
//! A table depends on the members' identities and weights alone: not on the order in which they are named, not on what
//! was before, not on a key of this process. So all appliances with the same members agree, and when one of N members
//! leaves, its share is spread and little else moves. The size is part of that bargain: a table that grows moves much more,
//! so sizes lie far apart and one is changed for the next at few numbers of members. What is established stays where it
//! is by the flow table; this decides for new flows only.

use siphasher::sip::SipHasher13;

/// One of those that a table is shared out among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What its permutation is made of; the same wherever this member is named. See [`identity`].
    pub identity: u64,
    /// Its share relative to the others'; 0 for no share.
    pub weight: u16,
    /// What [`Maglev::get`] gives for it.
    pub index: u16,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    entries: Box<[u16]>,
}

/// Entries per member at least: the paper's own figure, for shares that are even within a percent.
const ENTRIES_PER_MEMBER_MIN: usize = 100;
/// The sizes that tables have, all prime. The smallest does for ten members, and each other for four times as many as the
/// one before; the last serves as many as a service can have.
const SIZES: [usize; 6] = [1021, 4093, 16_381, 65_537, 262_139, 1_048_573];
/// Keys of the permutations. They are no secret: members are the operator's, and which entry a client's flow falls on is
/// decided by another hash.
const OFFSET_KEYS: (u64, u64) = (0x6f66_6673_6574, 0x6d61_676c_6576);
const SKIP_KEYS: (u64, u64) = (0x736b_6970, 0x6d61_676c_6576);
/// No member yet.
const NONE: u16 = u16::MAX;

/// The identity of whoever is known by these words.
pub fn identity(words: &[u128]) -> u64 {
    let mut bytes = Vec::with_capacity(words.len() * 16);
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    SipHasher13::new_with_keys(OFFSET_KEYS.1, SKIP_KEYS.0).hash(&bytes)
}

impl Maglev {
    /// The table of these members; `None` if nobody has a share. Members beyond the last that an index can name are left
    /// out; a service has fewer by far.
    pub fn build(members: &[Member]) -> Option<Self> {
        fill(members).map(|filled| filled.0)
    }

    /// The `index` of the member for a hash, whose lower half decides.
    #[inline]
    pub fn get(&self, hash: u64) -> u16 {
        let entry = (u64::from(hash as u32) * self.entries.len() as u64) >> 32;
        self.entries[entry as usize]
    }

    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.entries.len()
    }
}

/// A member on its way through its permutation.
struct Turn {
    next: usize,
    skip: usize,
    left: usize,
    index: u16,
}

/// The table, and how many entries were looked at for it.
fn fill(members: &[Member]) -> Option<(Maglev, usize)> {
    let mut sharing: Vec<Member> =
        members.iter().filter(|member| member.weight > 0 && member.index != NONE).copied().collect();
    sharing.sort_by_key(|member| (member.identity, member.index));
    if let [only] = sharing[..] {
        return Some((Maglev { entries: vec![only.index; SIZES[0]].into() }, 0));
    }
    let wanted = sharing.len() * ENTRIES_PER_MEMBER_MIN;
    let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
    let mut turns = turns(&sharing, size);
    let mut entries = vec![NONE; size].into_boxed_slice();
    let (mut filled, mut looked_at) = (0, 0);
    while filled < size && !turns.is_empty() {
        for turn in &mut turns {
            while entries[turn.next] != NONE {
                looked_at += 1;
                turn.next = step(turn, size);
            }
            entries[turn.next] = turn.index;
            looked_at += 1;
            turn.left -= 1;
            filled += 1;
            if filled == size {
                break;
            }
            turn.next = step(turn, size);
        }
        turns.retain(|turn| turn.left > 0);
    }
    (filled == size).then_some((Maglev { entries }, looked_at))
}

#[inline]
fn step(turn: &Turn, size: usize) -> usize {
    let next = turn.next + turn.skip;
    if next >= size { next - size } else { next }
}

/// As many turns for each member as its weight gives it, at least one; their sum is the size, or a little more where some
/// would have had none.
fn turns(members: &[Member], size: usize) -> Vec<Turn> {
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let (offset, skip) = (hasher(OFFSET_KEYS), hasher(SKIP_KEYS));
    let mut before = 0;
    let turn = |member: &Member| {
        // The difference of rounded sums, not a rounded share: so the shares add up.
        let upto = before + u64::from(member.weight);
        let share = (upto * size as u64 / total) - (before * size as u64 / total);
        before = upto;
        let identity = member.identity.to_le_bytes();
        Turn {
            next: (offset.hash(&identity) % size as u64) as usize,
            skip: (skip.hash(&identity) % (size as u64 - 1)) as usize + 1,
            left: (share as usize).max(1),
            index: member.index,
        }
    };
    members.iter().map(turn).collect()
}

fn hasher(keys: (u64, u64)) -> SipHasher13 {
    SipHasher13::new_with_keys(keys.0, keys.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(count: u16, weight: impl Fn(u16) -> u16) -> Vec<Member> {
        (0..count)
            .map(|index| Member { identity: identity(&[u128::from(index)]), weight: weight(index), index })
            .collect()
    }

    fn shares(table: &Maglev, count: u16) -> Vec<usize> {
        let mut shares = vec![0; usize::from(count)];
        table.entries.iter().for_each(|index| shares[usize::from(*index)] += 1);
        shares
    }

    /// Entries that lead elsewhere, leaving out those of `gone`.
    fn moved(before: &Maglev, after: &Maglev, gone: u16) -> usize {
        let pairs = before.entries.iter().zip(&after.entries);
        pairs.filter(|(old, new)| **old != gone && old != new).count()
    }

    #[test]
    fn sizes_are_prime_and_large_enough_for_their_members() {
        let is_prime = |n: usize| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        assert!(SIZES.into_iter().all(is_prime));
        for count in [1, 2, 10, 11, 40, 163, 164, 655, 2621, 10_256] {
            let table = Maglev::build(&members(count, |_| 1)).unwrap();
            assert!(table.size() >= usize::from(count) * ENTRIES_PER_MEMBER_MIN, "{count}");
        }
    }

    #[test]
    fn equal_weights_share_evenly() {
        for count in [1, 2, 3, 7, 10, 11, 50, 600] {
            let table = Maglev::build(&members(count, |_| 3)).unwrap();
            let shares = shares(&table, count);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} members: {least}..{most}");
        }
    }

    #[test]
    fn shares_follow_the_weights_and_nobody_with_a_weight_goes_without() {
        let table = Maglev::build(&members(4, |index| [1, 2, 5, 0][usize::from(index)])).unwrap();
        let share = shares(&table, 4);
        for (got, wanted) in share.iter().zip([1, 2, 5, 0]) {
            assert!(got.abs_diff(table.size() * wanted / 8) <= 1, "{share:?}");
        }
        let table = Maglev::build(&members(9, |index| if index == 0 { u16::MAX } else { 1 })).unwrap();
        assert!(shares(&table, 9).iter().all(|share| *share >= 1));
        assert_eq!(Maglev::build(&members(3, |_| 0)), None);
        assert_eq!(Maglev::build(&[]), None);
    }

    #[test]
    fn one_that_leaves_or_joins_moves_little_but_its_own_share() {
        for count in [5, 10, 40, 160, 600] {
            let all = members(count, |_| 1);
            let before = Maglev::build(&all).unwrap();
            let gone = count / 2;
            let left: Vec<Member> = all.iter().filter(|one| one.index != gone).copied().collect();
            let after = Maglev::build(&left).unwrap();
            assert_eq!(before.size(), after.size());
            // The paper's figure 12: a few percent at a hundred entries a member. Leaving and joining are the same pair.
            let moved = moved(&before, &after, gone);
            assert!(moved * 100 <= before.size() * 5, "{count} members: {moved} of {}", before.size());
            assert!(after.entries.iter().all(|index| *index != gone));
        }
    }

    #[test]
    fn a_weight_that_changes_moves_little_more_than_the_difference() {
        let count = 20;
        let before = Maglev::build(&members(count, |_| 10)).unwrap();
        let after = Maglev::build(&members(count, |index| if index == 3 { 5 } else { 10 })).unwrap();
        let moved = moved(&before, &after, NONE);
        let given_up = before.size() / usize::from(count) / 2;
        assert!(moved <= given_up + before.size() * 8 / 100, "{moved} moved, {given_up} had to");
    }

    #[test]
    fn filling_looks_at_few_more_entries_than_a_coupon_collector() {
        for count in [2, 10, 24, 163, 655, 2000] {
            let (table, looked_at) = fill(&members(count, |_| 1)).unwrap();
            let size = table.size() as f64;
            assert!((looked_at as f64) < 2.0 * size * size.ln(), "{count} members: {looked_at} for {size}");
        }
    }

    #[test]
    fn a_hash_reaches_every_member_by_its_share() {
        let table = Maglev::build(&members(3, |index| index + 1)).unwrap();
        let mut flows = [0u32; 3];
        let hasher = hasher((1, 2));
        for client in 0u64..60_000 {
            flows[usize::from(table.get(hasher.hash(&client.to_le_bytes())))] += 1;
        }
        for (got, wanted) in flows.into_iter().zip([10_000, 20_000, 30_000]) {
            assert!(got.abs_diff(wanted) < 600, "{flows:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_naming_is_nothing(
            list in prop::collection::vec((any::<u64>(), 0u16..20), 1..30),
            rotate in 0usize..30,
        ) {
            let named = |order: &[(usize, (u64, u16))]| -> Option<Maglev> {
                let members: Vec<Member> = order
                    .iter()
                    .map(|(at, (identity, weight))| {
                        Member { identity: *identity, weight: *weight, index: *at as u16 }
                    })
                    .collect();
                Maglev::build(&members)
            };
            let mut order: Vec<(usize, (u64, u16))> = list.into_iter().enumerate().collect();
            let table = named(&order);
            let mid = rotate % order.len();
            order.rotate_left(mid);
            prop_assert_eq!(table, named(&order));
        }
    }
}

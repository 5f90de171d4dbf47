//! Choosing one of several equal paths by a packet's entropy (RFC 8279 section 6.7, RFC 8296 section 2.1.2).

/// What a choice is for: choices that follow one another must not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One of the tables of a BIFT.
    Table,
    /// One of the parallel links to a neighbour.
    Link,
    /// One of the adjacencies behind a BIER-TE bit (RFC 9262 section 4.2.3).
    Adjacency,
}

/// One of `count` (at least 1), always the same for the same entropy and seed.
///
/// Routers in a row have different seeds. If they had the same, all packets that the first sends one way would also go one
/// way at the second.
#[inline]
#[must_use]
pub fn pick(entropy: u32, seed: u32, choice: Choice, count: usize) -> usize {
    if count <= 1 {
        return 0;
    }
    let salted = (u64::from(entropy) << 32) | u64::from(seed ^ (choice as u32).wrapping_mul(0x9e37_79b9));
    // The finaliser of SplitMix64: each bit of the input moves each bit of the output.
    let mut hash = salted;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (((hash >> 32) * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gets_its_share_and_routers_in_a_row_choose_apart() {
        const PACKETS: u32 = 1 << 16;
        for count in 1..=16_usize {
            let mut hits = [[0_u32; 16]; 16];
            for entropy in 0..PACKETS {
                let first = pick(entropy, 1, Choice::Table, count);
                hits[first][pick(entropy, 2, Choice::Table, count)] += 1;
                let link = pick(entropy, 1, Choice::Link, count);
                assert!(link < count && first < count);
            }
            let fair = PACKETS / (count * count) as u32;
            for hits in hits.iter().take(count).flat_map(|row| row.iter().take(count)) {
                assert!(hits.abs_diff(fair) < fair / 2 + 1, "{hits} of {fair} for {count}");
            }
        }
    }
}

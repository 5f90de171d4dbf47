//! Random domains, from a seed.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::topology::{Domain, LinkSpec, RouterSpec};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The seed of a test, which it says if it fails.
pub fn seed() -> u64 {
    let given = std::env::var("MILLRACE_BIER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(0x5eed_0b1e);
    println!("MILLRACE_BIER_SEED={seed}");
    seed
}

/// What a domain is made of.
pub struct Plan {
    pub bsl: Bsl,
    pub routers: Vec<RouterSpec>,
    pub links: Vec<LinkSpec>,
}

/// How domains may look.
#[derive(Clone, Copy)]
pub struct Shape {
    pub routers: (u64, u64),
    /// One in so many doesn't speak BIER; 0 for none.
    pub plain: u64,
    /// One in so many links is missing from the tree that would connect all; 0 for none.
    pub gaps: u64,
    /// Sets that numbers are spread over.
    pub sets: u64,
}

impl Plan {
    pub fn random(random: &mut Random, bsl: Bsl, shape: Shape) -> Self {
        let count = shape.routers.0 + random.below(shape.routers.1 - shape.routers.0 + 1);
        let mut taken = std::collections::BTreeSet::new();
        let routers: Vec<_> = (0..count)
            .map(|at| {
                let name = format!("r{at}");
                if shape.plain > 0 && random.once_in(shape.plain) {
                    return RouterSpec::plain(&name);
                }
                let id = 1 + random.below(u64::from(bsl.bits()) * shape.sets) as u16;
                let bfr_id = if taken.insert(id) && !random.once_in(5) { BfrId::new(id) } else { None };
                let prefix = Some([10, 0, (at >> 8) as u8, at as u8].into());
                RouterSpec { prefix, bfr_id, bsls: vec![bsl], ..RouterSpec::bier(&name) }
            })
            .collect();
        let mut pairs = Vec::new();
        for at in 1..count {
            if shape.gaps == 0 || !random.once_in(shape.gaps) {
                pairs.push((random.below(at), at));
            }
        }
        // Some more, parallel ones among them.
        for _ in 0..random.below(2 * count) {
            let (one, other) = (random.below(count), random.below(count));
            if one != other {
                pairs.push((one, other));
            }
        }
        let links = pairs.into_iter().map(|(one, other)| {
            // Few costs, so that many paths are equal.
            let cost = 1 + random.below(3) as u32;
            let back = if random.once_in(4) { 1 + random.below(3) as u32 } else { cost };
            LinkSpec { costs: [cost, back], ..LinkSpec::new(&format!("r{one}"), &format!("r{other}"), 1) }
        });
        Self { bsl, links: links.collect(), routers }
    }

    pub fn domain(&self) -> Domain {
        let (domain, found) = Domain::new(SubDomain(0), self.bsl, &self.routers, &self.links);
        assert_eq!(found, [], "random domains don't contradict themselves");
        domain
    }
}

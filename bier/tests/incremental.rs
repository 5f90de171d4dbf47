//! Following changes of links gives the tables that computing from nothing gives.

mod common;

use std::sync::Arc;

use common::{Plan, Random, Shape, seed};
use millrace_bier::bift::LinkId;
use millrace_bier::compute::{Computed, Options};
use millrace_bier::id::Bsl;
use millrace_bier::topology::RouterIndex;

/// Few under Miri, which is to look at every line and not at every domain.
const DOMAINS: usize = if cfg!(miri) { 4 } else { 1_500 };
const EVENTS: usize = if cfg!(miri) { 5 } else { 12 };

#[test]
fn following_links_is_the_same_as_beginning_anew() {
    let seed = seed();
    let (mut kept, mut built) = (0, 0);
    for case in 0..DOMAINS {
        let mut random = Random(seed.wrapping_add(case as u64));
        let shape = Shape { routers: (2, 16), plain: [0, 4][random.below(2) as usize], gaps: 15, sets: 3 };
        let plan = Plan::random(&mut random, Bsl::B64, shape);
        if plan.links.is_empty() {
            continue;
        }
        let mut domain = plan.domain();
        let options = Options { tables: 1 + random.below(4) as usize, seed: 1 };
        let root = RouterIndex(random.below(plan.routers.len() as u64) as u32);
        let mut computed = Computed::new(&domain, root, options);
        for event in 0..EVENTS {
            let link = LinkId(random.below(plan.links.len() as u64) as u32);
            let costs = [1 + random.below(4) as u32, 1 + random.below(4) as u32];
            domain.set_link(link, (!random.once_in(3)).then_some(costs));
            let before = computed.clone();
            let anew = computed.link_changed(&domain, link);
            assert_eq!(computed, Computed::new(&domain, root, options), "case {case}, event {event}");
            for (bift, before) in computed.bifts().iter().zip(before.bifts()) {
                if anew.contains(&bift.key().si) {
                    built += 1;
                } else {
                    assert!(Arc::ptr_eq(bift, before), "what doesn't depend on the link stays");
                    kept += 1;
                }
            }
        }
    }
    assert!(kept > built, "most changes don't concern most tables: {kept} stayed, {built} were built");
}

/// In a domain of a thousand routers: how little is done again, by what is allocated for it.
#[test]
fn a_link_of_a_large_domain_costs_little() {
    const ROUTERS: u64 = 1000;
    let mut random = Random(seed());
    let shape = Shape { routers: (ROUTERS, ROUTERS), plain: 0, gaps: 0, sets: 4 };
    let plan = Plan::random(&mut random, Bsl::B256, shape);
    let (mut domain, root) = (plan.domain(), RouterIndex(0));
    let options = Options { tables: 4, seed: 1 };
    let mut computed = Computed::new(&domain, root, options);
    let whole = allocation_counter::measure(|| _ = Computed::new(&domain, root, options)).count_total;
    let mut events = Vec::new();
    for _ in 0..400 {
        let link = LinkId(random.below(plan.links.len() as u64) as u32);
        for costs in [None, Some(plan.links[link.0 as usize].costs)] {
            domain.set_link(link, costs);
            events.push(allocation_counter::measure(|| _ = computed.link_changed(&domain, link)).count_total);
        }
    }
    assert_eq!(computed, Computed::new(&domain, root, options));
    events.sort_unstable();
    let (median, most) = (events[events.len() / 2], events[events.len() - 1]);
    println!("allocations: {whole} from nothing, {median} for an event in the middle, {most} for the worst");
    assert!(median * 10 < whole && most < whole, "{median} and {most} of {whole}");
}

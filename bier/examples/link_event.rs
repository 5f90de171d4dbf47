//! How long tables take to follow a change of a link, in a domain of 1000 routers.
//!
//! `cargo run --release -p millrace-bier --example link_event`. Every router speaks BIER and is a BFER; bit strings
//! of 256 bits, so four sets; a ring with chords, about three links a router. The links of the events are random;
//! those beside the router whose tables these are, which concern the most, are told apart.

use std::hint::black_box;
use std::time::{Duration, Instant};

use millrace_bier::bift::LinkId;
use millrace_bier::compute::{Computed, Options};
use millrace_bier::frr::{Protection, protect};
use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::topology::{Domain, LinkSpec, RouterSpec};

const ROUTERS: u32 = 1000;
const LINKS: u32 = 3000;
const EVENTS: u32 = 2000;

fn main() {
    let mut random = 0x5eed_u64;
    let mut below = |end: u32| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % u64::from(end)) as u32
    };
    let routers: Vec<_> = (0..ROUTERS)
        .map(|at| RouterSpec {
            prefix: Some([10, 0, (at >> 8) as u8, at as u8].into()),
            bfr_id: BfrId::new(at as u16 + 1),
            ..RouterSpec::bier(&format!("r{at}"))
        })
        .collect();
    let links: Vec<_> = (0..LINKS)
        .map(|at| {
            let (one, other) =
                if at < ROUTERS { (at, (at + 1) % ROUTERS) } else { (below(ROUTERS), below(ROUTERS)) };
            let other = if one == other { (other + 1) % ROUTERS } else { other };
            LinkSpec::new(&format!("r{one}"), &format!("r{other}"), 1 + below(10))
        })
        .collect();
    let (mut domain, found) = Domain::new(SubDomain(0), Bsl::B256, &routers, &links);
    assert!(found.is_empty());
    let root = domain.router("r0").expect("it is there");
    for tables in [1, 4, 16] {
        let options = Options { tables, seed: 1 };
        let started = Instant::now();
        let mut computed = Computed::new(&domain, root, options);
        let whole = started.elapsed();
        let (mut near, mut all) = (Vec::new(), Vec::new());
        for event in 0..EVENTS {
            // One in four is a link of ours.
            let ours: Vec<_> = (0..LINKS)
                .filter(|at| domain.link(LinkId(*at)).is_some_and(|link| link.ends.contains(&root)))
                .collect();
            let ours = (event % 4 == 0).then(|| ours[below(ours.len() as u32) as usize]);
            let link = LinkId(ours.unwrap_or_else(|| below(LINKS)));
            let before = domain.link(link).expect("it is there").costs;
            for costs in [None, before] {
                domain.set_link(link, costs);
                let started = Instant::now();
                black_box(computed.link_changed(&domain, link));
                let taken = started.elapsed();
                if ours.is_some() { near.push(taken) } else { all.push(taken) }
            }
        }
        assert_eq!(computed, Computed::new(&domain, root, options), "all links are as they were");
        println!("{tables:>2} tables: from nothing {}", micros(whole));
        println!("           a link of ours  {}", spread(&mut near));
        println!("           any other link  {}", spread(&mut all));
        for protection in [Protection::Link, Protection::Node] {
            let started = Instant::now();
            black_box(protect(&domain, &computed, protection, |link| link.0));
            println!(
                "           rows for failures, {protection:?} protection, {}",
                micros(started.elapsed())
            );
        }
    }
}

fn micros(time: Duration) -> String {
    format!("{} us", time.as_micros())
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let [median, most] = [times[times.len() / 2], times[times.len() - 1]];
    format!("median {}, worst of {} {}", micros(median), times.len(), micros(most))
}

//! What it costs to decide on copies: from neighbour to neighbour, from bit to bit as RFC 8279 has it, and with the
//! bitvec crate.
//!
//! `cargo run --release -p millrace-bier --example copy_decision`. Nanoseconds for a copy decision, medians of
//! several rounds of all procedures in turn; bit strings of 256 bits. The first table has all bits set; the second
//! shows where sparse strings are better walked.

use std::hint::black_box;
use std::time::Instant;

use bitvec::prelude::{BitArr, BitArray, Lsb0};
use millrace_bier::bift::given::{Given, Row, build};
use millrace_bier::bift::{Bift, LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bift_id::BiftIds;
use millrace_bier::bits::{BitString, popcount};
use millrace_bier::forward::{Down, Packet, Part, Procedure};
use millrace_bier::id::{BfrId, BitPosition, Bsl, SubDomain};

const ROUNDS: usize = 31;
const PACKETS: u32 = 20_000;
const BSL: Bsl = Bsl::B256;
const NEIGHBOURS: [u16; 10] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64];

type Bits = BitArr!(for 256, in u64, Lsb0);

fn main() {
    println!("all 256 bits set, ns per copy (walk / neighbours = how many times faster the latter is)");
    println!(
        "{:>10} {:>12} {:>10} {:>10} {:>10} {:>8}",
        "neighbours", "neighbours", "walk", "fastest", "bitvec", "ratio"
    );
    for count in NEIGHBOURS {
        let bift = bift(count);
        let all = BitString::from_words(&[u64::MAX; 4]);
        let [neighbours, walk, fastest, bitvec] = costs(&bift, &all).map(|nanos| nanos / f64::from(count));
        let ratio = walk / neighbours;
        println!("{count:>10} {neighbours:>12.2} {walk:>10.2} {fastest:>10.2} {bitvec:>10.2} {ratio:>8.2}");
    }
    println!("\nsparse strings, ns per packet");
    println!(
        "{:>10} {:>6} {:>12} {:>10} {:>10} {:>8}",
        "neighbours", "bits", "neighbours", "walk", "fastest", "ratio"
    );
    for count in NEIGHBOURS.into_iter().filter(|count| *count >= 8) {
        for set in [1, 2, 4, 8, 16] {
            // Each to another neighbour, if there are enough.
            let bits = (0..set).map(|at| BitPosition::new(1 + at * (256 / set) + at % count, BSL).unwrap());
            let string = BitString::of(BSL, bits);
            let bift = bift(count);
            let [neighbours, walk, fastest, _] = costs(&bift, &string);
            let (set, ratio) = (popcount(string.words()), walk / neighbours);
            println!("{count:>10} {set:>6} {neighbours:>12.1} {walk:>10.1} {fastest:>10.1} {ratio:>8.2}");
        }
    }
}

/// 255 routers spread over neighbours like cards; the last bit of 256 is nobody's own.
fn bift(count: u16) -> Bift {
    let neighbour = |at: u16| Neighbour {
        prefix: [10, 0, 0, at as u8].into(),
        reach: Reach::Links([LinkId(u32::from(at))].into()),
    };
    let neighbours: Vec<_> = (0..count).map(|at| (neighbour(at), BiftIds::Static)).collect();
    let rows: Vec<_> = (0..count)
        .map(|at| Row {
            neighbour: NeighbourIndex(at),
            bfr_ids: (1..=256).filter(|id| (id - 1) % count == at).filter_map(BfrId::new).collect(),
            backup: None,
        })
        .collect();
    let given = Given {
        sub_domain: SubDomain(0),
        bsl: BSL,
        own: None,
        tables: 1,
        seed: 0,
        neighbours: &neighbours,
        rows: &rows,
    };
    build(&given).expect("the rows are sound").remove(0)
}

/// Nanoseconds per packet: neighbour-major, walk, fastest, bitvec.
fn costs(bift: &Bift, string: &BitString) -> [f64; 4] {
    let masks: Vec<Bits> = bift.tables()[0]
        .rows()
        .iter()
        .map(|(_, mask)| BitArray::new(mask.try_into().expect("four words")))
        .collect();
    let bits: Bits = BitArray::new(string.words().try_into().expect("four words"));
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0].push(time(|| decide(bift, Procedure::NeighbourMajor, string)));
        rounds[1].push(time(|| decide(bift, Procedure::BitWalk, string)));
        rounds[2].push(time(|| decide(bift, Procedure::Fastest, string)));
        rounds[3].push(time(|| {
            for mask in black_box(&masks) {
                let copy = *black_box(&bits) & mask;
                if copy.any() {
                    black_box(&copy);
                }
            }
        }));
    }
    rounds.map(|mut nanos| {
        nanos.sort_by(f64::total_cmp);
        nanos[ROUNDS / 2]
    })
}

fn decide(bift: &Bift, procedure: Procedure, string: &BitString) {
    let down = Down::default();
    let packet = Packet { bits: black_box(string.words()), ttl: 64, entropy: 7 };
    let outcome = bift.forward_by(procedure, packet, &down, |part| {
        if let Part::Copy { neighbour, bits } = part {
            black_box((neighbour, bits));
        }
    });
    assert!(!outcome.expired());
}

fn time(mut packet: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..PACKETS {
        packet();
    }
    started.elapsed().as_nanos() as f64 / f64::from(PACKETS)
}

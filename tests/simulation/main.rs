//! The whole system in one thread on a virtual clock, from a seed: real workers, the real control loop and the real
//! orchestrator, between clients, instances, and links that lose, repeat, reorder and break.
//!
//! ```text
//!   seed ─► scenario ─► a time of faults ─────────────────► all mended ─► everybody is served ─► at rest
//!                       checks after each poll and step                   within a bound         nothing is left
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `scenario`, `services` | what a seed builds: services of every handling, limits that are met |
//! | `reload` | another configuration while all runs |
//! | `world` | time, and whose turn it is |
//! | `network` | the wires, their weather, and who is at the other ends |
//! | `appliance` | workers on the heap driver, and the control loop |
//! | `control_plane`, `link` | the orchestrator's engine, and the streams to it |
//! | `serving`, `server` | serving nodes and backends; a TCP server that shares no code with ours |
//! | `client`, `chat`, `hostile` | who asks: `smoltcp`, datagrams, and frames that nobody should send |
//! | `wire`, `pieces`, `tunnel`, `datagram` | what is on the wires: packets, fragments, packets in packets, and what is said in datagrams |
//! | `faults` | what breaks, and for how long |
//! | `checks` | what must hold |
//!
//! A seed that fails says so and how to run it alone: `MILLRACE_SIM_SEED=7 cargo test --test simulation -- --nocapture` tells
//! what happens as it happens. `MILLRACE_SIM_SEEDS=20000` runs as many seeds, `MILLRACE_SIM_FIRST=5000` from another on.
//!
//! Nothing in here depends on a wall clock, a thread or the order of a map with random keys; two runs of a seed send the same
//! frames at the same times.

mod appliance;
#[path = "../../fastpath/tests/all/common/cable.rs"]
mod cable;
mod chat;
mod checks;
mod client;
mod control_plane;
mod datagram;
mod faults;
mod hostile;
mod link;
mod network;
mod pieces;
mod random;
mod reload;
mod scenario;
mod server;
mod services;
mod serving;
mod tunnel;
mod wire;
mod world;

use std::ops::Range;

use checks::Counts;
use world::World;

/// Seeds of `make test`, in four parts that can run beside each other.
const SEEDS: u64 = 6000;
const PARTS: u64 = 4;

/// Says which seed it was, should it fail.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("seed {seed} failed; once more, and alone:");
            eprintln!(
                "  MILLRACE_SIM_SEED={seed} cargo test --locked --test simulation seeds_1 -- --nocapture"
            );
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn run(seeds: Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds {
        let _seed = Seed(seed);
        let (_, counts) = World::run(seed, false);
        sum.add(&counts);
    }
    sum
}

/// One part of the seeds. Over so many of them everything has happened.
fn part(which: u64) {
    if let Some(seed) = number("MILLRACE_SIM_SEED") {
        if which == 0 {
            let _seed = Seed(seed);
            println!("{:?}", World::run(seed, true));
        }
        return;
    }
    let seeds = number("MILLRACE_SIM_SEEDS").unwrap_or(SEEDS) / PARTS;
    let first = number("MILLRACE_SIM_FIRST").unwrap_or(0) + which * seeds;
    let sum = run(first..first + seeds);
    println!("seeds {first}..{}: {sum:?}", first + seeds);
    if seeds >= SEEDS / PARTS {
        sum.check();
    }
}

#[test]
fn seeds_1() {
    part(0);
}

#[test]
fn seeds_2() {
    part(1);
}

#[test]
fn seeds_3() {
    part(2);
}

#[test]
fn seeds_4() {
    part(3);
}

/// Beyond those of `make test`: a service that went and came back while a handshake of it was held.
const FOUND: [u64; 1] = [28_259];

#[test]
fn seeds_that_have_found_something() {
    for seed in FOUND {
        run(seed..seed + 1);
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..10 {
        let _seed = Seed(seed);
        let (first, _) = World::run(seed, false);
        let (second, _) = World::run(seed, false);
        assert_eq!(first, second, "two runs of one seed differ");
    }
}

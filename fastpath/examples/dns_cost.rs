//! What an answer costs, and what a change of one name costs, by the size of the table.
//!
//! `cargo run --release -p millrace-fastpath --example dns_cost`. Medians of several rounds, without any I/O; each query
//! is copied into the buffer first, as a device would have put it there.

use std::hint::black_box;
use std::time::Instant;

use millrace_fastpath::dns::{Asked, Context, Outcome, Readiness, Role, Transport, respond, respond_asked};
use millrace_fastpath::driver::BURST_MAX;
use millrace_fastpath::heap::HeapFrame;
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::{HashKey, NameBinding, Soa, WireName, Zone};
use millrace_fastpath::tables::services::ServiceId;

const ROUNDS: usize = 15;
const QUERIES: usize = 8192;

fn main() {
    println!("{:>9}  {:22} {:>10}", "names", "what", "ns (median)");
    for count in [1_000, 100_000, 1_000_000] {
        let zone = zone(count);
        let started = Instant::now();
        let mut names = Names::build(HashKey(1, 2), &[zone]).expect("the zone is sound");
        line(count, "build, per name", started.elapsed().as_nanos() as usize / count);
        let authority = [
            ("answer A", query_set(count, "fn", 1, false)),
            ("answer A, EDNS", query_set(count, "fn", 1, true)),
            ("NODATA", query_set(count, "fn", 16, false)),
            ("NXDOMAIN", query_set(count, "no.fn", 1, false)),
        ];
        for (what, queries) in authority {
            line(count, what, cost(&names, &queries, Role::Authoritative));
        }
        line(count, "answer A, in vectors", vector_cost(&names, &query_set(count, "fn", 1, false)));
        line(
            count,
            "transit, not ours",
            cost(&names, &query_set(count, "www.test", 1, true), Role::Intercept),
        );
        line(count, "bind one name", bind_cost(&mut names, count));
    }
}

fn line(count: usize, what: &str, nanos: usize) {
    println!("{count:>9}  {what:22} {nanos:>10}");
}

fn wire(number: usize, rest: &str) -> Vec<u8> {
    let first = format!("service-{number}");
    let mut wire = Vec::new();
    for label in [first.as_str()].into_iter().chain(rest.split('.')).chain(["example"]) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn name(wire: &[u8]) -> WireName {
    WireName::from_wire(wire).expect("short names")
}

fn binding(number: usize, last: u8) -> NameBinding {
    NameBinding {
        name: name(&wire(number, "fn")),
        service: ServiceId((number % 4096) as u16),
        v4: vec![[203, 0, 113, last].into()],
        v6: vec!["2001:db8::1".parse().expect("a literal")],
    }
}

fn zone(count: usize) -> Zone {
    Zone {
        apex: name(b"\x02fn\x07example\0"),
        soa: Soa {
            primary: name(b"\x03ns1\x02fn\x07example\0"),
            contact: name(b"\x03ops\x02fn\x07example\0"),
            serial: 1,
            refresh_seconds: 3600,
            retry_seconds: 600,
            expire_seconds: 86400,
            minimum_ttl_seconds: 5,
        },
        ttl_seconds: 30,
        cold_ttl_seconds: 1,
        records: vec![],
        bindings: (0..count).map(|number| binding(number, 1)).collect(),
    }
}

/// Queries for names all over the table, in an order that no prefetcher guesses.
fn query_set(count: usize, rest: &str, kind: u8, edns: bool) -> Vec<Vec<u8>> {
    (0..QUERIES)
        .map(|index| {
            let number = (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % count;
            let head = [0x12, index as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
            let opt: &[u8] = if edns { &[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0] } else { &[] };
            [&head[..], &wire(number, rest), &[0, kind, 0, 1], opt].concat()
        })
        .collect()
}

fn cost(names: &Names, queries: &[Vec<u8>], role: Role) -> usize {
    let readiness = |service: ServiceId| if service.0 & 1 == 0 { Readiness::Warm } else { Readiness::Cold };
    let context = Context { names, role, transport: Transport::Udp, cookies: None, readiness };
    let mut buffer = [0_u8; 1232];
    median(|| {
        let started = Instant::now();
        for query in queries {
            if let Some(room) = buffer.get_mut(..query.len()) {
                room.copy_from_slice(query);
            }
            let outcome = respond(black_box(&mut buffer), query.len(), &context);
            debug_assert!(!matches!(outcome, Outcome::Silent(_)));
            black_box(outcome);
        }
        started.elapsed().as_nanos() as usize / queries.len()
    })
}

/// The same as a worker has it: a burst of frames, all looked up before the first is answered.
fn vector_cost(names: &Names, queries: &[Vec<u8>]) -> usize {
    let context = Context {
        names,
        role: Role::Authoritative,
        transport: Transport::Udp,
        cookies: None,
        readiness: |_| Readiness::Cold,
    };
    let mut buffers = [[0_u8; 1232]; BURST_MAX];
    median(|| {
        let started = Instant::now();
        for queries in queries.chunks(BURST_MAX) {
            for (buffer, query) in buffers.iter_mut().zip(queries) {
                if let Some(room) = buffer.get_mut(..query.len()) {
                    room.copy_from_slice(query);
                }
            }
            let mut all_asked = [Asked::NOTHING; BURST_MAX];
            for (asked, buffer) in all_asked.iter_mut().zip(&buffers) {
                *asked = Asked::new::<HeapFrame>(names, buffer);
            }
            all_asked.iter().for_each(|asked| asked.fetch::<HeapFrame>(names));
            for ((buffer, query), asked) in buffers.iter_mut().zip(queries).zip(all_asked) {
                black_box(respond_asked(black_box(buffer), query.len(), asked, &context));
            }
        }
        started.elapsed().as_nanos() as usize / queries.len()
    })
}

/// A snapshot, a change, and the end of the older snapshot.
fn bind_cost(names: &mut Names, count: usize) -> usize {
    let mut number = 0;
    median(|| {
        number += 77_777;
        let binding = binding(number % count, 2);
        let started = Instant::now();
        let mut next = names.clone();
        next.bind(&binding).expect("the name is in the zone");
        *names = next;
        started.elapsed().as_nanos() as usize
    })
}

fn median(mut round: impl FnMut() -> usize) -> usize {
    let mut costs: Vec<usize> = (0..ROUNDS).map(|_| round()).collect();
    costs.sort_unstable();
    costs[ROUNDS / 2]
}

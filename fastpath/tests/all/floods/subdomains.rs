//! Queries for random names under our zone beside those for names that exist.
//!
//! Limits: in a millisecond a worker is turned four times, so it takes 128 frames from a port at most, and a port takes 64
//! frames to send. 112 queries come: 16 good ones, from resolvers that have a cookie and from clients who ask seldom, and
//! 96 of the flood, from 512 prefixes, those of the resolvers among them. Ten answers a second and prefix; of those beyond,
//! every fourth is sent truncated. A flood from so many prefixes that ten answers a second to each are more than the port
//! sends isn't told from good queries by any of this; with the sources of those who have a cookie it still is.

use std::net::Ipv4Addr;

use millrace_fastpath::dns::{CookieKeys, RateLimit};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::node::NodeId;
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::NameBinding;
use millrace_fastpath::tables::services::*;

use crate::common::frames::*;
use crate::common::random::Random;
use crate::common::*;

const OURS: End = ("192.0.2.53", 53);
const POLLS_PER_MS: usize = 4;
const SENT_PER_MS: usize = 64;
const FLOOD_PER_MS: usize = 96;
const RESOLVERS_PER_MS: usize = 12;
const CLIENTS_PER_MS: usize = 4;
const GOOD_PER_MS: usize = RESOLVERS_PER_MS + CLIENTS_PER_MS;
const MS: usize = 1000;
/// Prefixes that the flood comes from; the first few are the resolvers'.
const FLOODING: u64 = 512;
const RESOLVERS: usize = 30;
/// Prefixes of clients without a cookie: each asks ten times in the second, which is what it may.
const CLIENTS: usize = 400;
const LIMIT: RateLimit = RateLimit { responses_per_second: 10, prefix_v4: 24, prefix_v6: 56, slip: 4 };
/// The ports that say of an answer whom it is for.
const GOOD_PORT: u16 = 40_000;
const FLOOD_PORT: u16 = 50_000;

/// A zone in which `hello` leads to service 0, and `sleepy` to service 1.
fn names() -> Names {
    let mut names = zone::names([203, 0, 113, 10]);
    let v4 = vec![Ipv4Addr::new(203, 0, 113, 10)];
    let name = zone::wire("sleepy.fn.example.");
    names.bind(&NameBinding { name, service: ServiceId(1), v4, v6: Vec::new() }).unwrap();
    names
}

/// A query for an address, with a cookie option if there is one to send (RFC 1035 §4.1, RFC 7873 §4).
fn query(id: u16, name: &str, cookie: &[u8]) -> Vec<u8> {
    let mut message =
        [&id.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!cookie.is_empty())]].concat();
    message.extend(zone::wire(name).as_bytes());
    message.extend([0, 1, 0, 1]);
    if !cookie.is_empty() {
        let len = cookie.len() as u8;
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, len + 4, 0, 10, 0, len]);
        message.extend(cookie);
    }
    message
}

/// What came of the queries that an answer's port names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    /// With what was asked for.
    whole: usize,
    /// That there is no such name.
    no_name: usize,
    truncated: usize,
}

struct Scene {
    bench: Bench,
    cookies: Vec<Vec<u8>>,
    random: Random,
    good: Answers,
    flood: Answers,
}

fn resolver(n: usize) -> String {
    format!("11.0.{}.9", n % RESOLVERS)
}

impl Scene {
    fn new(limit: Option<RateLimit>) -> Self {
        let mut bench = Bench::new(1);
        bench.tables.names = names();
        bench.set_service(0, fixed_service());
        bench.set_service(1, cold_service());
        bench.tables.policy.rate_limit = limit;
        bench.tables.policy.cookies = CookieKeys::new(&[[7; 16]], 1_700_000_000_000_000_000);
        bench.publish();
        let (good, flood) = Default::default();
        let mut scene = Self { bench, cookies: Vec::new(), random: Random(3), good, flood };
        // Each resolver is given its cookie with its first answer.
        for n in 0..RESOLVERS {
            let asks = query(0, "hello.fn.example.", &[n as u8; 8]);
            scene.bench.deliver_and_run(WAN, &client_udp((&resolver(n), GOOD_PORT), OURS, &asks));
            let message = read(&scene.bench.sent(WAN)[0]).data;
            scene.cookies.push(message[message.len() - 24..].to_vec());
        }
        // What that cost the limit is back.
        scene.bench.advance_ms(2000);
        scene
    }

    fn good_queries(&self, ms: usize) -> Vec<Vec<u8>> {
        let resolvers = (0..RESOLVERS_PER_MS).map(|n| {
            let from = (ms * RESOLVERS_PER_MS + n) % RESOLVERS;
            (resolver(from), self.cookies[from].as_slice())
        });
        let clients = (0..CLIENTS_PER_MS).map(|n| {
            let from = (ms * CLIENTS_PER_MS + n) % CLIENTS;
            (format!("12.{}.{}.9", from / 200, from % 200), [].as_slice())
        });
        let queries = resolvers.chain(clients);
        queries
            .map(|(from, cookie)| {
                client_udp((&from, GOOD_PORT), OURS, &query(1, "hello.fn.example.", cookie))
            })
            .collect()
    }

    fn flood_query(&mut self, prefixes: u64) -> Vec<u8> {
        let prefix = self.random.below(prefixes);
        let from = format!("11.{}.{}.{}", prefix >> 8, prefix & 255, 1 + self.random.below(254));
        let name = match self.random.below(8) {
            0 => format!("x{:x}.hello.fn.example.", self.random.next()),
            1 => format!("{:x}.sleepy.fn.example.", self.random.next()),
            _ => format!("{:x}.fn.example.", self.random.next()),
        };
        client_udp((&from, FLOOD_PORT), OURS, &query(2, &name, &[]))
    }

    /// A millisecond: so many turns, and so many frames that the port sends.
    fn turn(&mut self) {
        self.bench.net.limit_transmit(WAN, SENT_PER_MS);
        for _ in 0..POLLS_PER_MS {
            self.bench.workers[0].poll();
        }
        self.hear(WAN);
        self.bench.advance_ms(1);
    }

    fn hear(&mut self, port: PortId) {
        while let Some(frame) = self.bench.net.take(port) {
            let of = if frame[36..38] == GOOD_PORT.to_be_bytes() { &mut self.good } else { &mut self.flood };
            let message = &frame[42..];
            match (message[2] & 2, message[3] & 15, message[7]) {
                (0, 0, 1) => of.whole += 1,
                (0, 3, 0) => of.no_name += 1,
                (2, _, 0) => of.truncated += 1,
                _ => panic!("no answer of ours: {message:?}"),
            }
        }
    }

    /// A second of good queries, in the midst of the flood's if there is one.
    fn second(&mut self, flooded: bool) {
        for ms in 0..MS {
            let mut queries = self.good_queries(ms);
            for _ in 0..if flooded { FLOOD_PER_MS } else { 0 } {
                let at = self.random.below(queries.len() as u64 + 1) as usize;
                let query = self.flood_query(FLOODING);
                queries.insert(at, query);
            }
            queries.iter().for_each(|query| self.bench.deliver(WAN, query));
            self.turn();
        }
    }

    /// Lets everything go on that waits, without limits.
    fn end(&mut self) {
        self.bench.net.limit_transmit(WAN, usize::MAX);
        self.bench.run();
        self.hear(WAN);
        assert_eq!(self.bench.wakes(), 0, "nobody registered those names");
        self.bench.check_laws();
    }
}

#[test]
fn good_answers_stay_beside_random_names_and_nothing_wakes() {
    let good = MS * GOOD_PER_MS;
    let mut quiet = Scene::new(Some(LIMIT));
    quiet.second(false);
    quiet.end();
    assert_eq!(quiet.good, Answers { whole: good, ..Answers::default() });

    let mut flooded = Scene::new(Some(LIMIT));
    flooded.second(true);
    flooded.end();
    assert!(flooded.good.whole * 10 >= quiet.good.whole * 9, "{:?} of {good}", flooded.good);
    // Each query of the flood was answered, cut short, or withheld, and each of the latter two is counted.
    let Answers { no_name, truncated, whole } = flooded.flood;
    let bench = &flooded.bench;
    let withheld = bench.drops(NodeId::Dns, "rate-limited") as usize;
    let refused = bench.drops(NodeId::Output, "refused") as usize;
    let queries = MS * (FLOOD_PER_MS + GOOD_PER_MS);
    assert_eq!(no_name + truncated + withheld + flooded.good.whole + refused, queries);
    let slipped = bench.sum(|of| &of.fates.responses_slipped) as usize;
    assert!((truncated..=truncated + refused).contains(&slipped), "{slipped} cut short, {truncated} heard");
    assert_eq!((whole, bench.sum(|of| &of.fates.limits_evicted)), (0, 0));
    // A second's worth at once, and then the rate.
    assert!(no_name <= FLOODING as usize * 20, "{no_name} whole answers");

    // Without the limit the flood's answers take the places of the good ones: the test can tell.
    let mut unlimited = Scene::new(None);
    unlimited.second(true);
    unlimited.end();
    assert!(unlimited.good.whole * 10 < good * 9, "{:?}", unlimited.good);
}

#[test]
fn a_flood_from_everywhere_fills_the_limits_table_and_costs_who_has_a_cookie_nothing() {
    let mut scene = Scene::new(Some(LIMIT));
    // Three times as many prefixes as a worker tells apart, all within a second.
    for n in 0..200_000u32 {
        let from = format!("{}.{}.{}.7", 20 + (n >> 16), (n >> 8) & 255, n & 255);
        let asks = query(2, &format!("{n:x}.fn.example."), &[]);
        scene.bench.deliver(WAN, &client_udp((&from, FLOOD_PORT), OURS, &asks));
        if n % 256 == 255 {
            scene.good_queries(n as usize / 256)[..RESOLVERS_PER_MS]
                .iter()
                .for_each(|query| scene.bench.deliver(WAN, query));
            scene.bench.run();
            scene.hear(WAN);
            scene.bench.advance_ms(1);
        }
    }
    let good = 200_000 / 256 * RESOLVERS_PER_MS;
    assert_eq!(scene.good, Answers { whole: good, ..Answers::default() });
    scene.bench.run();
    scene.hear(WAN);
    assert_eq!(scene.flood.no_name, 200_000, "one of each prefix");
    let evicted = scene.bench.sum(|of| &of.fates.limits_evicted);
    assert!(evicted > 0, "more than there is room for");
    // A second later all is as before: the limit is what it was, and nobody has to make room.
    scene.bench.advance_ms(1000);
    scene.flood = Answers::default();
    for _ in 0..40 {
        let asks = query(2, "nothing.fn.example.", &[]);
        scene.bench.deliver_and_run(WAN, &client_udp(("20.0.0.7", FLOOD_PORT), OURS, &asks));
    }
    scene.hear(WAN);
    assert_eq!((scene.flood.no_name, scene.flood.truncated), (10, 7));
    assert_eq!(scene.bench.sum(|of| &of.fates.limits_evicted), evicted);
    scene.end();
}

/// The worker turns to its ports in turn, so what one of them is flooded with isn't taken from another.
#[test]
fn a_port_that_is_flooded_beyond_what_a_worker_takes_costs_the_other_port_nothing() {
    let mut scene = Scene::new(Some(LIMIT));
    let lost = |scene: &mut Scene| {
        // Ten times what the worker takes from one port.
        let flood = 10 * 32 * POLLS_PER_MS;
        let lost = (0..flood).filter(|_| {
            let query = scene.flood_query(FLOODING);
            scene.bench.net.free_frames() < scene.bench.frames / 4 || !scene.bench.net.deliver(WAN, 0, &query)
        });
        lost.count()
    };
    let mut missed = 0;
    for ms in 0..100 {
        missed += lost(&mut scene);
        for query in scene.good_queries(ms) {
            let at_lan = [&LAN_MAC[..], &HOST_MAC, &query[12..]].concat();
            scene.bench.deliver(LAN, &at_lan);
        }
        scene.turn();
        scene.hear(LAN);
    }
    assert_eq!(scene.good, Answers { whole: 100 * GOOD_PER_MS, ..Answers::default() });
    assert!(missed > 100 * 32 * POLLS_PER_MS, "the flood was more than was taken: {missed}");
    scene.end();
}

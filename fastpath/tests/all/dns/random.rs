//! Random queries against the model, and random bytes against the laws.

use std::sync::LazyLock;

use millrace_fastpath::dns::{Asked, Outcome, Role, Transport, respond, respond_asked, servfail};
use millrace_fastpath::heap::HeapFrame;
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::{NameBinding, Zone};
use millrace_fastpath::tables::services::ServiceId;
use proptest::prelude::*;

use super::model::{Expected, expect};
use super::query::{Opt, Query};
use super::{fixture, laws, oracle};

/// Every owner of the fixture, its parents, and a child of each.
pub(crate) fn pool() -> Vec<Vec<u8>> {
    let zones: Vec<Zone> = fixture::zones();
    let mut pool = Vec::new();
    for zone in &zones {
        let records = zone.records.iter().map(|record| &record.owner);
        let bindings = zone.bindings.iter().map(|binding| &binding.name);
        for owner in records.chain(bindings).chain([&zone.apex]) {
            let mut rest = owner.as_bytes();
            loop {
                pool.push(rest.to_vec());
                pool.push([b"\x02no", rest].concat());
                pool.push([b"\x01a\x02no", rest].concat());
                pool.push([b"\x01*", rest].concat());
                match rest[0] {
                    0 => break,
                    len => rest = &rest[usize::from(len) + 1..],
                }
            }
        }
    }
    pool.sort();
    pool.dedup();
    pool
}

/// Upper or lower case by the bits of `spelling`; length bytes are no letters.
pub(crate) fn spell(name: &mut [u8], spelling: u64) {
    for (index, byte) in name.iter_mut().enumerate() {
        if byte.is_ascii_alphabetic() && spelling >> (index % 64) & 1 == 1 {
            *byte ^= 0x20;
        }
    }
}

fn any_opt() -> impl Strategy<Value = Opt> {
    let size = prop_oneof![Just(0_u16), Just(512), Just(600), Just(1232), Just(4096), any::<u16>()];
    // All but cookies, which are answered.
    let code = any::<u16>().prop_filter("no cookie", |code| *code != 10);
    let option = (code, prop::collection::vec(any::<u8>(), 0..20));
    (size, any::<u16>(), prop::collection::vec(option, 0..3)).prop_map(|(size, flags, options)| Opt {
        size,
        version: 0,
        flags,
        options,
    })
}

fn any_query() -> impl Strategy<Value = Query> {
    let kinds: Vec<u16> = vec![1, 1, 1, 28, 28, 2, 5, 6, 12, 13, 15, 16, 33, 41, 64, 65, 255, 257, 65280];
    // Opcode QUERY, and any other bit but QR.
    let flags = (any::<u8>(), any::<u8>()).prop_map(|(a, b)| [a & 0x07, b]);
    (
        prop::sample::select(pool()),
        any::<u64>(),
        prop::sample::select(kinds),
        any::<u16>(),
        flags,
        prop::option::of(any_opt()),
    )
        .prop_map(|(mut name, spelling, kind, id, flags, opt)| {
            spell(&mut name, spelling);
            Query { name, kind, class: 1, id, flags, opt }
        })
}

fn any_role() -> impl Strategy<Value = (Role, Transport)> {
    let roles = vec![Role::Authoritative, Role::Intercept];
    (prop::sample::select(roles), prop::sample::select(vec![Transport::Udp, Transport::Tcp]))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        // A failing case is printed in full.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_say_what_the_zones_say(query in any_query(), (role, transport) in any_role()) {
        let names = fixture::names().unwrap();
        let wire = query.to_wire();
        let room = match transport { Transport::Udp => 1232, Transport::Tcp => 65_535 };
        let (outcome, message) = laws::respond_lawfully(&names, &wire, room, role, transport);
        let expected = expect(&fixture::zones(), &query.name, query.kind, role);
        match (outcome, expected) {
            (Outcome::NotOurs, Expected::NotOurs) => {}
            (Outcome::Deferred(service), Expected::Deferred(of)) => prop_assert_eq!(service, of),
            (Outcome::Answer(answer), Expected::Reply { rcode, authoritative, answers, authorities, wakes }) => {
                let reading = oracle::read(&message);
                prop_assert_eq!(reading.rcode, rcode);
                prop_assert_eq!(message[2] & 0x04 != 0, authoritative);
                prop_assert_eq!(answer.service, wakes);
                prop_assert_eq!(
                    reading.opt,
                    query.opt.as_ref().map(|opt| (1232, 0, opt.flags & 0x8000 != 0))
                );
                // Owners are two bytes in the answer.
                let records = answers.iter().map(|rr| 12 + rr.3.len()).sum::<usize>()
                    + authorities.iter().map(|rr| 12 + rr.3.len()).sum::<usize>();
                let opt_len = if query.opt.is_some() { 11 } else { 0 };
                let extended = if rcode == 5 && query.opt.is_some() { 6 } else { 0 };
                let whole = 12 + query.name.len() + 4 + records + opt_len + extended;
                let max = match (transport, &query.opt) {
                    (Transport::Tcp, _) => 65_535,
                    (Transport::Udp, None) => 512,
                    (Transport::Udp, Some(opt)) => usize::from(opt.size.clamp(512, 1232)),
                };
                prop_assert_eq!(answer.truncated, whole > max);
                if !answer.truncated {
                    prop_assert_eq!(message.len(), whole);
                    prop_assert_eq!(reading.answers, answers);
                    prop_assert_eq!(reading.authorities, authorities);
                }
            }
            (outcome, expected) => prop_assert!(false, "{outcome:?} but {expected:?}"),
        }
    }

    #[test]
    fn changed_queries_break_no_law(
        query in any_query(),
        class in prop::sample::select(vec![1_u16, 1, 3, 4, 254, 255]),
        version in prop::sample::select(vec![0_u8, 0, 1, 255]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        tail in prop::collection::vec(any::<u8>(), 0..4),
        room in 0_usize..700,
        (role, transport) in any_role(),
    ) {
        let names = fixture::names().unwrap();
        let mut query = Query { class, ..query };
        if let Some(opt) = &mut query.opt {
            opt.version = version;
        }
        let mut wire = query.to_wire();
        for (at, byte) in flips {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        if let Some(cut) = cut {
            wire.truncate(cut.index(wire.len() + 1));
        }
        wire.extend(tail);
        check(&names, &wire, room, role, transport);
    }

    #[test]
    fn random_bytes_break_no_law(
        wire in prop::collection::vec(any::<u8>(), 0..80),
        room in 0_usize..700,
        (role, transport) in any_role(),
    ) {
        check(&fixture::names().unwrap(), &wire, room, role, transport);
    }
}

/// A table of many pages.
static LARGE: LazyLock<Names> = LazyLock::new(|| {
    let mut zones = fixture::zones();
    zones[0].bindings.extend((0..9000_u16).map(|number| NameBinding {
        name: fixture::name(&format!("n{number}.fn.example")),
        service: ServiceId(number),
        v4: vec![[192, 0, 2, 1].into()],
        v6: vec![],
    }));
    Names::build(fixture::KEY, &zones).unwrap()
});

proptest! {
    #[test]
    fn what_was_fetched_ahead_is_answered_alike(
        queries in prop::collection::vec(
            prop_oneof![any_query().prop_map(|query| query.to_wire()), prop::collection::vec(any::<u8>(), 0..40)],
            0..40,
        ),
    ) {
        let asked: Vec<Asked> = queries.iter().map(|query| Asked::new::<HeapFrame>(&LARGE, query)).collect();
        asked.iter().for_each(|asked| asked.fetch::<HeapFrame>(&LARGE));
        for (query, asked) in queries.iter().zip(asked) {
            check(&LARGE, query, 512, Role::Authoritative, Transport::Udp);
            let context = fixture::context(&LARGE, Role::Authoritative, Transport::Udp);
            let [mut alone, mut ahead] = [[0; 1232]; 2];
            alone[..query.len()].copy_from_slice(query);
            ahead[..query.len()].copy_from_slice(query);
            let outcome = respond(&mut alone, query.len(), &context);
            prop_assert_eq!(respond_asked(&mut ahead, query.len(), asked, &context), outcome);
            prop_assert_eq!(alone, ahead);
        }
    }
}

fn check(names: &Names, wire: &[u8], room: usize, role: Role, transport: Transport) {
    let (outcome, message) = laws::respond_lawfully(names, wire, room, role, transport);
    if matches!(outcome, Outcome::Answer(_)) {
        oracle::read(&message);
    }
    let mut failed = wire.to_vec();
    servfail(&mut failed, wire.len(), role);
}

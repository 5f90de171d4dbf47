//! Named queries, one file each, which seed the fuzzer too.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_fastpath::dns::{
    Answer, Outcome, Rcode, Readiness, Role, Silence, Transport, bad_cookie, respond, servfail, truncate,
};
use millrace_fastpath::tables::services::ServiceId;

use super::query::{Opt, Query};
use super::{fixture, laws, oracle};

/// What an authority says over UDP: RCODE, records in answer and authority section, the service it can wake; or not.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    Silent(Silence),
    Deferred(u16),
    /// A header alone.
    Bare(u16),
    Full(u16, usize, usize, Option<u16>),
    Truncated(Option<u16>),
}
use Says::*;

/// File, what an authority says, and whether the same query is answered in transit.
const QUERIES: &[(&str, Says, bool)] = &[
    ("a", Full(0, 1, 0, Some(1)), true),
    ("a-0x20", Full(0, 1, 0, Some(1)), true),
    ("a-apex-service", Full(0, 1, 0, Some(8)), true),
    ("a-dig-cookie", Full(0, 1, 0, Some(1)), true),
    ("a-many", Truncated(None), true),
    ("a-many-1232", Truncated(None), true),
    ("a-multi", Full(0, 3, 0, Some(5)), true),
    ("a-when-ready", Deferred(7), false),
    ("aaaa", Full(0, 1, 0, Some(1)), true),
    ("aaaa-of-v4", Full(0, 0, 1, Some(3)), true),
    ("alias", Full(0, 2, 0, None), true),
    ("alias-any", Full(0, 1, 0, None), true),
    ("alias-chain", Full(0, 9, 0, Some(2)), true),
    ("alias-cname", Full(0, 1, 0, None), true),
    ("alias-foreign", Full(0, 1, 0, None), false),
    ("alias-inner", Full(0, 2, 0, None), true),
    ("alias-many", Truncated(None), true),
    ("alias-nodata", Full(0, 1, 1, None), true),
    ("alias-nxdomain", Full(3, 1, 1, None), false),
    ("alias-service", Full(0, 2, 0, Some(1)), true),
    ("alias-to-wildcard", Full(0, 2, 0, None), false),
    ("alias-when-ready", Deferred(7), false),
    ("any", Full(0, 1, 0, None), true),
    ("any-nxdomain", Full(3, 0, 1, None), false),
    ("axfr", Full(4, 0, 0, None), false),
    ("binary-label", Full(0, 1, 0, None), true),
    ("caa", Full(0, 1, 0, None), true),
    ("chaos-version", Full(5, 0, 0, None), false),
    ("class-any", Full(5, 0, 0, None), false),
    ("cookie-client", Full(0, 1, 0, Some(1)), true),
    ("cookie-foreign", Full(0, 1, 0, Some(1)), true),
    ("cookie-length", Full(1, 0, 0, None), true),
    ("cookie-refused", Full(5, 0, 0, None), false),
    ("cookie-twice", Full(0, 1, 0, Some(1)), true),
    ("ecs", Full(0, 1, 0, Some(1)), true),
    ("edns-bad-option", Bare(1), false),
    ("edns-in-answer", Bare(1), false),
    ("edns-in-authority", Bare(1), false),
    ("edns-owner", Bare(1), false),
    ("edns-small", Full(0, 1, 0, Some(2)), true),
    ("edns-twice", Bare(1), false),
    ("edns-version", Full(16, 0, 0, None), false),
    ("empty", Silent(Silence::Short), false),
    ("ent", Full(0, 0, 1, None), false),
    ("ent-any", Full(0, 0, 1, None), false),
    ("foreign", Full(5, 0, 0, None), false),
    ("header-only", Bare(1), false),
    ("https", Full(0, 1, 0, Some(1)), true),
    ("inner-zone", Full(0, 1, 0, None), true),
    ("inner-zone-nxdomain", Full(3, 0, 1, None), false),
    ("iquery", Bare(4), false),
    ("ixfr", Full(4, 0, 0, None), false),
    ("label-64", Bare(1), false),
    ("mx", Full(0, 1, 0, None), true),
    ("name-256", Bare(1), false),
    ("notify", Bare(4), false),
    ("ns", Full(0, 2, 0, None), true),
    ("nxdomain", Full(3, 0, 1, None), false),
    ("opcode-15", Bare(4), false),
    ("pointer", Bare(1), false),
    ("qdcount-0", Bare(1), false),
    ("qdcount-2", Bare(1), false),
    ("response", Silent(Silence::Response), false),
    ("root-ns", Full(5, 0, 0, None), false),
    ("short", Silent(Silence::Short), false),
    ("soa", Full(0, 1, 0, None), true),
    ("svcb", Full(0, 0, 1, Some(2)), true),
    ("trailing", Bare(1), false),
    ("tsig", Full(9, 0, 0, None), false),
    ("tsig-not-last", Bare(1), false),
    ("txt-big-512", Truncated(None), true),
    ("txt-big-1232", Full(0, 1, 0, None), true),
    ("txt-huge-4096", Truncated(None), true),
    ("type-65280", Full(0, 0, 1, None), true),
    ("type-of-none", Full(0, 0, 1, None), true),
    ("update", Bare(4), false),
    ("wildcard", Full(0, 1, 0, None), false),
    ("wildcard-alias", Full(0, 2, 0, None), false),
    ("wildcard-alias-when-ready", Full(0, 2, 0, None), false),
    ("wildcard-blocked", Full(3, 0, 1, None), false),
    ("wildcard-deep", Full(0, 1, 0, None), false),
    ("wildcard-ent", Full(0, 0, 1, None), false),
    ("wildcard-itself", Full(0, 1, 0, None), true),
    ("wildcard-nodata", Full(0, 0, 1, None), false),
];

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/dns");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn every_named_query_gets_what_its_rule_says() {
    let names = fixture::names().unwrap();
    let corpus = corpus();
    let listed: Vec<&str> = QUERIES.iter().map(|(file, ..)| *file).collect();
    let mut found: Vec<&str> = corpus.keys().map(String::as_str).collect();
    found.sort_by_key(|file| listed.iter().position(|of| of == file));
    assert_eq!(found, listed, "every file has its line");
    for (file, says, answered_in_transit) in QUERIES {
        let query = &corpus[*file];
        let (outcome, message) =
            laws::respond_lawfully(&names, query, 1232, Role::Authoritative, Transport::Udp);
        let said = match outcome {
            Outcome::NotOurs => panic!("{file}: an authority forwards nothing"),
            Outcome::Silent(silence) => Silent(silence),
            Outcome::Deferred(service) => Deferred(service.0),
            Outcome::Answer(answer) if message.len() == 12 => Bare(answer.rcode as u16),
            Outcome::Answer(answer) => {
                let service = answer.service.map(|service| service.0);
                let reading = oracle::read(&message);
                assert_eq!(
                    reading.opt.is_some(),
                    query[10..12] == [0, 1] && answer.rcode as u8 != 9,
                    "{file}"
                );
                assert_eq!(reading.rcode, answer.rcode as u16, "{file}");
                assert_eq!(message[2] & 0x04 != 0, [0, 3].contains(&reading.rcode), "{file}: AA");
                match answer.truncated {
                    true => Truncated(service),
                    false => Full(reading.rcode, reading.answers.len(), reading.authorities.len(), service),
                }
            }
        };
        assert_eq!(said, *says, "{file}");
        let (outcome, _) = laws::respond_lawfully(&names, query, 1232, Role::Intercept, Transport::Udp);
        assert_eq!(
            matches!(outcome, Outcome::Answer(_)),
            *answered_in_transit,
            "{file} in transit: {outcome:?}"
        );
    }
}

#[test]
fn over_tcp_everything_fits_and_transfers_are_refused() {
    let names = fixture::names().unwrap();
    let corpus = corpus();
    for (file, rcode, answers) in
        [("a-many", 0, 120), ("txt-huge-4096", 0, 1), ("axfr", 5, 0), ("ixfr", 5, 0), ("chaos-version", 5, 0)]
    {
        let (outcome, message) =
            laws::respond_lawfully(&names, &corpus[file], 65_535, Role::Authoritative, Transport::Tcp);
        let reading = oracle::read(&message);
        assert_eq!((reading.rcode, reading.answers.len()), (rcode, answers), "{file}: {outcome:?}");
    }
}

/// The answer byte by byte, written by hand from RFC 1035 section 4.1.
#[test]
fn an_answer_looks_like_this() {
    let names = fixture::names().unwrap();
    let mut query = Query::new(b"\x05HeLLo\x02fn\x07eXample\0", 1);
    query.opt = Some(Opt { size: 4096, version: 0, flags: 0xffff, options: vec![(8, vec![7; 8])] });
    query.flags = [0x07, 0xf5];
    let (_, message) =
        laws::respond_lawfully(&names, &query.to_wire(), 1232, Role::Authoritative, Transport::Udp);
    let answer = b"\x12\x34\x85\x00\x00\x01\x00\x01\x00\x00\x00\x01\
        \x05HeLLo\x02fn\x07eXample\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\xcb\x00\x71\x0a\
        \x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";
    assert_eq!(message, answer);
    // In transit: AA clear, RA set. The SOA of NODATA is owned by the end of the question's name.
    let query = Query::new(b"\x02v6\x02Fn\x07example\0", 1).to_wire();
    let (_, message) = laws::respond_lawfully(&names, &query, 512, Role::Intercept, Transport::Udp);
    let answer = b"\x12\x34\x81\x80\x00\x01\x00\x00\x00\x01\x00\x00\
        \x02v6\x02Fn\x07example\x00\x00\x01\x00\x01\
        \xc0\x0f\x00\x06\x00\x01\x00\x00\x00\x05\x00\x34\
        \x03ns1\x02fn\x07example\x00\x03ops\x02fn\x07example\x00\
        \x00\x00\x00\x07\x00\x00\x0e\x10\x00\x00\x02\x58\x00\x01\x51\x80\x00\x00\x00\x05";
    assert_eq!(message, answer);
}

/// A chain byte by byte: each owner points to where it stands before.
#[test]
fn a_chain_looks_like_this() {
    let names = fixture::names().unwrap();
    let query = Query::new(b"\x08to-hellO\x02fn\x07example\0", 1).to_wire();
    let (_, message) = laws::respond_lawfully(&names, &query, 512, Role::Authoritative, Transport::Udp);
    let answer = b"\x12\x34\x85\x00\x00\x01\x00\x02\x00\x00\x00\x00\
        \x08to-hellO\x02fn\x07example\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x28\x00\x12\x05hello\x02fn\x07example\x00\
        \xc0\x31\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\xcb\x00\x71\x0a";
    assert_eq!(message, answer);
    // The SOA's owner is the end of the target.
    let query = Query::new(b"\x0ato-nothing\x02fn\x07example\0", 1).to_wire();
    let (_, message) = laws::respond_lawfully(&names, &query, 512, Role::Authoritative, Transport::Udp);
    let soa = message.len() - 64;
    assert_eq!(message[soa..soa + 12], *b"\xc0\x3b\x00\x06\x00\x01\x00\x00\x00\x05\x00\x34");
    assert_eq!(message[0x3b..0x3b + 12], *b"\x02fn\x07example\x00");
}

/// A cookie is answered with ours, a fresh one comes back as it is, and both are what RFC 9018 makes of the secrets.
#[test]
fn cookies_are_answered_and_recognised() {
    let names = fixture::names().unwrap();
    let ask = |cookie: &[u8], kind| {
        let mut query = Query::new(b"\x05hello\x02fn\x07example\0", kind).with_size(1232);
        query.opt.as_mut().unwrap().options.push((10, cookie.to_vec()));
        let wire = query.to_wire();
        let (outcome, message) =
            laws::respond_lawfully(&names, &wire, 1232, Role::Authoritative, Transport::Udp);
        let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
        (answer.proven, oracle::options(&message))
    };
    let (proven, options) = ask(&[7; 8], 1);
    assert!(!proven);
    let [(10, cookie)] = &options[..] else { panic!("{options:?}") };
    assert!(oracle::is_cookie_of(cookie, fixture::CLIENT, &fixture::COOKIE_SECRETS[0], 1_700_000_001));
    assert_eq!(ask(cookie, 28), (true, options.clone()));
    let mut wrong = cookie.clone();
    wrong[20] ^= 1;
    assert_eq!(ask(&wrong, 1), (false, options.clone()));
    // The previous secret's cookies are good too, and are replaced.
    let old = oracle::cookie_of(&[7; 8], fixture::CLIENT, &fixture::COOKIE_SECRETS[1], 1_700_000_001);
    assert_eq!(ask(&old, 1), (true, options));
}

#[test]
fn refusals_say_why() {
    let names = fixture::names().unwrap();
    let reason = |name: &[u8], kind, class, transport| {
        let query = Query { class, ..Query::new(name, kind).with_size(1232) }.to_wire();
        let (_, message) = laws::respond_lawfully(&names, &query, 1232, Role::Authoritative, transport);
        (oracle::read(&message).rcode, oracle::options(&message))
    };
    let extended = |code: u8| vec![(15, vec![0, code])];
    let (ours, foreign) = (b"\x02fn\x07example\0", b"\x07example\0");
    assert_eq!(reason(foreign, 1, 1, Transport::Udp), (5, extended(20)));
    assert_eq!(reason(ours, 1, 3, Transport::Udp), (5, extended(21)));
    assert_eq!(reason(ours, 252, 1, Transport::Udp), (4, extended(21)));
    assert_eq!(reason(ours, 252, 1, Transport::Tcp), (5, extended(18)));
    assert_eq!(reason(ours, 6, 1, Transport::Udp), (0, vec![]));
}

#[test]
fn a_truncated_answer_keeps_question_and_opt() {
    let names = fixture::names().unwrap();
    let mut query = Query::new(b"\x05multi\x02fn\x07example\0", 1).with_size(1232);
    query.opt.as_mut().unwrap().options.push((10, vec![7; 8]));
    let wire = query.to_wire();
    let (outcome, mut message) =
        laws::respond_lawfully(&names, &wire, 1232, Role::Authoritative, Transport::Udp);
    let Outcome::Answer(whole) = outcome else { panic!("{outcome:?}") };
    let options = oracle::options(&message);
    let short = truncate(&mut message, &whole).unwrap();
    message.truncate(short.len);
    assert_eq!((short.len, short.truncated), (12 + 22 + 11 + 28, true));
    assert_eq!((oracle::options(&message), oracle::read(&message).answers.len()), (options, 0));
    assert_eq!(message[2..4], [0x87, 0]);
    // The same with a way back that needs no TCP.
    let (_, mut message) = laws::respond_lawfully(&names, &wire, 1232, Role::Authoritative, Transport::Udp);
    let again = bad_cookie(&mut message, &whole).unwrap();
    message.truncate(again.len);
    assert_eq!((again.len, again.rcode), (short.len, Rcode::BadCookie));
    assert_eq!((oracle::read(&message).rcode, &message[2..4]), (23, &[0x81, 7][..]));
    assert_eq!(oracle::options(&message).len(), 1);
    assert_eq!(
        bad_cookie(&mut message, &Answer { proven: true, ..whole }),
        None,
        "who has shown it isn't asked again"
    );
    // A header alone has nothing to be cut off.
    let mut bare = b"\x12\x34\x80\x01\0\0\0\0\0\0\0\0".to_vec();
    assert_eq!(truncate(&mut bare, &Answer { len: 12, ..Answer::default() }), None);
}

#[test]
fn times_to_live_follow_the_state_of_the_service() {
    let names = fixture::names().unwrap();
    let query = Query::new(b"\x05multi\x02fn\x07example\0", 1).to_wire();
    for (readiness, ttl) in [(Readiness::Cold, 1), (Readiness::Warm, 30)] {
        let mut message = query.clone();
        message.resize(512, 0);
        let context = millrace_fastpath::dns::Context {
            names: &names,
            role: Role::Authoritative,
            transport: Transport::Udp,
            cookies: None,
            readiness: |service| {
                assert_eq!(service, ServiceId(5));
                readiness
            },
        };
        let Outcome::Answer(answer) = respond(&mut message, query.len(), &context) else { panic!() };
        let ttls: Vec<u32> = oracle::read(&message[..answer.len]).answers.iter().map(|rr| rr.2).collect();
        assert_eq!(ttls, [ttl; 3]);
    }
}

#[test]
fn addresses_take_turns() {
    let names = fixture::names().unwrap();
    let mut firsts = [0; 3];
    for id in 0..30 {
        let query = Query { id, ..Query::new(b"\x05multi\x02fn\x07example\0", 1) }.to_wire();
        let (_, message) = laws::respond_lawfully(&names, &query, 512, Role::Authoritative, Transport::Udp);
        assert_eq!(oracle::read(&message).answers.len(), 3);
        firsts[usize::from(message[query.len() + 15]) - 1] += 1;
    }
    assert_eq!(firsts, [10; 3]);
}

#[test]
fn less_room_than_the_answer_takes_is_truncation() {
    let names = fixture::names().unwrap();
    let query = Query::new(b"\x05hello\x02fn\x07example\0", 1).with_size(1232).to_wire();
    for spare in 0..20 {
        let room = query.len() + spare;
        let (outcome, _) = laws::respond_lawfully(&names, &query, room, Role::Authoritative, Transport::Udp);
        let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
        assert_eq!((answer.truncated, answer.service), (spare < 16, Some(ServiceId(1))));
    }
}

#[test]
fn a_failure_says_so_with_an_extended_error() {
    let plain = Query::new(b"\x05later\x02fn\x07example\0", 1);
    let mut message = plain.to_wire();
    let len = message.len();
    assert_eq!(servfail(&mut message, len, Role::Intercept), Some(len));
    assert_eq!((&message[2..4], oracle::read(&message).rcode), (&[0x81, 0x82][..], 2));

    let query = plain.with_size(512).to_wire();
    let mut message = [&query[..], &[0; 100]].concat();
    let len = servfail(&mut message, query.len(), Role::Authoritative).unwrap();
    assert_eq!(oracle::read(&message[..len]).rcode, 2);
    assert_eq!(message[len - 8..len], [0, 6, 0, 15, 0, 2, 0, 14], "RFC 8914: Not Ready");
    // Without room for the option there is still an answer.
    let mut message = query.clone();
    assert_eq!(servfail(&mut message, query.len(), Role::Authoritative), Some(query.len()));
    assert_eq!(oracle::read(&message).opt, Some((1232, 0, false)));
    // Not a query.
    assert_eq!(servfail(&mut message, query.len(), Role::Authoritative), None);
    assert_eq!(servfail(&mut [0; 12], 12, Role::Authoritative), None);
    assert_eq!(servfail(&mut [0; 12], 13, Role::Authoritative), None);
}

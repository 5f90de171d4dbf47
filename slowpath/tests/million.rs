//! A zone of a million names, from its file to its answers.

mod common;

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use common::names_of;
use millrace_fastpath::dns::{Context, Outcome, Readiness, Role, Transport, respond};
use millrace_fastpath::tables::Names;

const NAMES: u32 = 1_000_000;
/// Names asked for: every so many, which has no factor in common with their count.
const STEP: usize = 97;

/// RCODE and the address, if one is answered.
fn ask(names: &Names, label: &str) -> (u8, Option<Ipv4Addr>) {
    let mut query = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0".to_vec();
    query.push(label.len() as u8);
    query.extend(label.as_bytes());
    query.extend(b"\x02fn\x07example\0\0\x01\0\x01");
    let question = query.len();
    query.resize(1232, 0);
    let context = Context {
        names,
        role: Role::Authoritative,
        transport: Transport::Udp,
        cookies: None,
        readiness: |_| Readiness::Warm,
    };
    let Outcome::Answer(answer) = respond(&mut query, question, &context) else {
        panic!("{label}: no answer")
    };
    let message = &query[..answer.len];
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&message[at..at + 4]).unwrap());
    // Behind the question: a pointer, type, class, TTL and length are twelve bytes.
    (message[3] & 0xf, (message[7] > 0).then(|| address(question + 12)))
}

#[test]
fn a_million_names_of_a_file_are_all_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut zone = String::from("@ SOA ns1 ops 7 3600 600 604800 5\n@ NS ns1\nns1 A 192.0.2.53\n");
    let address = |number: u32| Ipv4Addr::from_bits(0x0a00_0000 | number);
    for number in 0..NAMES {
        writeln!(zone, "n{number} A {}", address(number)).unwrap();
    }
    let names = &names_of(&zone, folder.path());
    for number in (0..NAMES).step_by(STEP).chain([NAMES - 1]) {
        assert_eq!(ask(names, &format!("n{number}")), (0, Some(address(number))), "{number}");
        assert_eq!(ask(names, &format!("N{number}")), (0, Some(address(number))), "{number}, in capitals");
        assert_eq!(ask(names, &format!("m{number}")), (3, None), "{number} of no name");
    }
    assert_eq!(ask(names, &format!("n{NAMES}")), (3, None));
}

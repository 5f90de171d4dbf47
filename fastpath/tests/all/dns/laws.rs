//! What holds for any bytes at all. Shared by tests and fuzz targets.

use millrace_fastpath::dns::{
    Answer, Outcome, Rcode, Role, Silence, Transport, bad_cookie, respond, servfail, truncate,
};
use millrace_fastpath::tables::Names;

use super::fixture::context;

/// Responds to `query` with `room` bytes of room in all and checks the laws; the answer, if there is one.
///
/// # Panics
/// When a law is broken.
pub(crate) fn respond_lawfully(
    names: &Names,
    query: &[u8],
    room: usize,
    role: Role,
    transport: Transport,
) -> (Outcome, Vec<u8>) {
    let mut message = query.to_vec();
    message.resize(room.max(query.len()), 0xa5);
    let before = message.clone();
    let outcome = respond(&mut message, query.len(), &context(names, role, transport));
    match outcome {
        Outcome::Answer(answer) => {
            check_answer(query, &message, &answer, role, transport);
            message.truncate(answer.len);
            let mut short = message.clone();
            match truncate(&mut short, &answer) {
                Some(cut) => {
                    assert!(cut.len <= query.len().max(answer.len), "nothing is amplified");
                    check_answer(query, &short, &cut, role, transport);
                }
                None => assert_eq!((answer.len, &short), (12, &message), "only a header can't be cut"),
            }
            let mut again = message.clone();
            match bad_cookie(&mut again, &answer) {
                Some(cut) => {
                    assert!(answer.cookie && !answer.proven && cut.len <= answer.len);
                    check_answer(query, &again, &cut, role, transport);
                }
                None => assert!(again == message && (!answer.cookie || answer.proven || answer.len == 12)),
            }
            // No answer to an answer, whichever way it goes.
            let mut echo = message.clone();
            let again = respond(&mut echo, answer.len, &context(names, role, transport));
            let silence = match role {
                Role::Authoritative => Outcome::Silent(Silence::Response),
                Role::Intercept => Outcome::NotOurs,
            };
            assert_eq!((again, &echo), (silence, &message));
        }
        Outcome::Deferred(_) => {
            assert_eq!(message, before, "a deferred query is kept as it came");
            let len = servfail(&mut message, query.len(), role).expect("what is deferred is a query");
            let answer = Answer { len, rcode: Rcode::ServFail, ..Answer::default() };
            check_answer(query, &message, &answer, role, transport);
            message = before;
        }
        Outcome::NotOurs | Outcome::Silent(_) => {
            assert_eq!(message, before, "what isn't answered isn't touched");
            assert_eq!(outcome == Outcome::NotOurs, role == Role::Intercept);
        }
    }
    (outcome, message)
}

fn check_answer(query: &[u8], message: &[u8], answer: &Answer, role: Role, transport: Transport) {
    let message = &message[..answer.len];
    assert!(query.len() >= 12 && query[2] & 0x80 == 0, "only queries are answered");
    assert_eq!(query[..2], message[..2], "id");
    assert_eq!(message[2] & 0x80, 0x80, "QR");
    assert_eq!(query[2] & 0x78, message[2] & 0x78, "opcode");
    assert_eq!(message[2] & 0x02 != 0, answer.truncated, "TC");
    assert_eq!(message[3] & 0x70, 0, "Z, AD and CD are clear");
    assert_eq!(message[3] & 0x80 != 0, role == Role::Intercept, "RA");
    assert_eq!(message[3] & 0x0f, answer.rcode as u8 & 0x0f);
    if answer.opt_len > 0 {
        let opt = &message[answer.len - usize::from(answer.opt_len)..];
        assert_eq!((opt[2], opt[5]), (41, answer.rcode as u8 >> 4), "RCODE goes on in OPT");
    }
    if role == Role::Intercept {
        assert_eq!(message[2] & 0x04, 0, "AA");
        assert!(matches!(answer.rcode, Rcode::NoError | Rcode::ServFail), "{:?} in transit", answer.rcode);
    }
    if transport == Transport::Udp {
        let extended = message[10..12] == [0, 1];
        assert!(answer.len <= if extended { 1232 } else { 512 }, "{} bytes", answer.len);
    }
    if message[4..6] == [0, 0] {
        assert_eq!(message.len(), 12, "without a question there is only a header");
    } else {
        assert_eq!(message[2] & 0x01, query[2] & 0x01, "RD");
        let end = 12 + question_len(&query[12..]);
        assert_eq!(query[12..end], message[12..end], "the question comes back byte by byte");
    }
    if answer.truncated {
        assert_eq!(message[6..10], [0, 0, 0, 0], "no part of a set");
    }
}

/// Length of the question, whose name has no pointer.
fn question_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at] != 0 {
        at += usize::from(bytes[at]) + 1;
    }
    at + 5
}

//! Any bytes as a backend's answer to a probe over HTTP: what is judged of its begin holds however the rest comes, and is what
//! another parser finds in the first line. And any text as a path to ask for: what is sent is one request, for that path.
//!
//! An input is the two ends of the good codes, and the answer or the path.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use millrace_config::model::{HttpPath, StatusRange};
use millrace_fastpath::addr::Addr;
use millrace_slowpath::health::{Failure, http};

/// As much as the first line needs until its code has ended.
const DECISIVE: usize = "HTTP/1.1 200 ".len();
/// Room for a request on a connection of ours.
const REQUEST_MAX: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some(([one, other], text)) = input.split_first_chunk::<2>() else { return };
    let [one, other] = [one, other].map(|end| 100 + u16::from(*end) * 2 % 500);
    let good = StatusRange { first: one.min(other), last: one.max(other) };
    answer(text, good);
    if let Ok(text) = std::str::from_utf8(text) {
        path(text);
    }
});

fn answer(answer: &[u8], good: StatusRange) {
    let whole = http::judge(answer, good);
    let mut verdict = None;
    for len in 0..=answer.len().min(http::ANSWER_MAX) {
        let so_far = http::judge(&answer[..len], good);
        assert!(verdict.is_none() || verdict == so_far, "it was {verdict:?} before byte {len}");
        verdict = so_far;
    }
    assert_eq!(verdict, whole, "what follows changes nothing");
    let Some(line) = answer.get(..DECISIVE) else {
        assert!(matches!(whole, None | Some(Err(Failure::NotHttp))), "nobody can know that yet");
        return;
    };
    assert!(whole.is_some(), "more won't tell");
    match (whole, status(line)) {
        (Some(Ok(())), Some(code)) => assert!(good.contains(code), "{code}"),
        (Some(Err(Failure::Status(told))), Some(code)) => assert!(told == code && !good.contains(code)),
        (Some(Err(Failure::NotHttp)), None) => {}
        (verdict, theirs) => panic!("{verdict:?}, but another parser finds {theirs:?}"),
    }
}

/// The code, as a parser of whole answers has it: one that knows two minor versions, which all others are alike to.
fn status(line: &[u8]) -> Option<u16> {
    let mut line = line.to_vec();
    if line[7].is_ascii_digit() {
        line[7] = b'1';
    }
    let mut headers = [];
    let mut response = httparse::Response::new(&mut headers);
    // It skips empty lines before the answer, which nobody sends.
    let begins = line.starts_with(b"HTTP");
    response.parse(&line).ok().and(response.code).filter(|_| begins)
}

fn path(text: &str) {
    let Ok(path) = text.parse::<HttpPath>() else { return };
    for (addr, host) in [("192.0.2.7", "192.0.2.7:8080"), ("2001:db8::7", "[2001:db8::7]:8080")] {
        let addr = Addr::from(addr.parse::<IpAddr>().expect("an address"));
        let bytes = http::request(addr, 8080, path.as_str());
        assert!(bytes.len() <= REQUEST_MAX);
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut request = httparse::Request::new(&mut headers);
        assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())), "one request");
        assert_eq!((request.method, request.path, request.version), (Some("GET"), Some(text), Some(1)));
        let named = request.headers.iter().filter(|header| header.name == "Host");
        assert_eq!(named.map(|header| header.value).collect::<Vec<_>>(), [host.as_bytes()]);
    }
}

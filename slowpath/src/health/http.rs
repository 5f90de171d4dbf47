//! What a probe over HTTP says, and what it reads of the answer: the first line (RFC 9112 §4).

use millrace_config::model::StatusRange;
use millrace_fastpath::addr::Addr;

use super::Failure;

/// As much of an answer as is read: more than any first line.
pub const ANSWER_MAX: usize = 256;

/// A request for `path` at this address and port, after which the connection may end.
pub fn request(addr: Addr, port: u16, path: &str) -> Vec<u8> {
    let host = if addr.is_v4() { format!("{addr}:{port}") } else { format!("[{addr}]:{port}") };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: millrace\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// What the begin of an answer says; `None` while that can't be told yet.
pub fn judge(answer: &[u8], good: StatusRange) -> Option<Result<(), Failure>> {
    const VERSION: &[u8] = b"HTTP/1.";
    let begin = answer.len().min(VERSION.len());
    if answer[..begin] != VERSION[..begin] {
        return Some(Err(Failure::NotHttp));
    }
    // HTTP/1.1 200 and whatever ends the code.
    let line = answer.first_chunk::<13>()?;
    let [.., minor, space, a, b, c, end] = *line;
    let digits = [a, b, c].map(|digit| digit.wrapping_sub(b'0'));
    let is_code = minor.is_ascii_digit() && space == b' ' && digits.iter().all(|digit| *digit < 10);
    if !is_code || !matches!(end, b' ' | b'\r' | b'\n') {
        return Some(Err(Failure::NotHttp));
    }
    let status = digits.iter().fold(0, |code, digit| code * 10 + u16::from(*digit));
    Some(if good.contains(status) { Ok(()) } else { Err(Failure::Status(status)) })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const GOOD: StatusRange = StatusRange { first: 200, last: 399 };

    #[test]
    fn the_first_line_decides() {
        for (answer, verdict) in [
            ("HTTP/1.1 200 OK\r\n", Ok(())),
            ("HTTP/1.0 399\r\n", Ok(())),
            ("HTTP/1.1 503 Service Unavailable\r\n", Err(Failure::Status(503))),
            ("HTTP/1.1 199 x", Err(Failure::Status(199))),
            ("HTTP/1.1 2000 OK", Err(Failure::NotHttp)),
            ("HTTP/1.1 2x0 OK", Err(Failure::NotHttp)),
            ("HTTP/2.0 200 OK", Err(Failure::NotHttp)),
            ("SSH-2.0-OpenSSH_9.2", Err(Failure::NotHttp)),
            ("h", Err(Failure::NotHttp)),
        ] {
            assert_eq!(judge(answer.as_bytes(), GOOD), Some(verdict), "{answer}");
        }
    }

    #[test]
    fn a_part_of_it_says_nothing_yet() {
        let answer = b"HTTP/1.1 200 OK\r\n";
        for len in 0..13 {
            assert_eq!(judge(&answer[..len], GOOD), None, "{len}");
        }
        assert_eq!(judge(&answer[..13], GOOD), Some(Ok(())));
    }

    #[test]
    fn a_request_names_the_address_it_goes_to() {
        let text = |addr: &str| {
            let addr = Addr::from(addr.parse::<IpAddr>().unwrap());
            String::from_utf8(request(addr, 8080, "/up?x=1")).unwrap()
        };
        assert!(text("192.0.2.7").starts_with("GET /up?x=1 HTTP/1.1\r\nHost: 192.0.2.7:8080\r\n"));
        assert!(text("2001:db8::7").contains("\r\nHost: [2001:db8::7]:8080\r\n"));
        assert!(text("192.0.2.7").ends_with("\r\n\r\n"));
    }
}

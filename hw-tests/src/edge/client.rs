//! Clients nobody here wrote: `dig`, `kdig`, `curl` and `wrk`, with what they measured.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Host, LabError, command};

/// What `dig` got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigAnswer {
    /// `NOERROR`, `NXDOMAIN`, ...
    pub status: String,
    /// The header's flags, in lower case: `qr`, `aa`, `tc`, ...
    pub flags: Vec<String>,
    /// The data of the answer section, one line a record.
    pub answers: Vec<String>,
    /// All of dig's text.
    pub text: String,
    /// From query to answer, as dig measured it.
    pub time: Duration,
}

/// What `curl` got, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct CurlTimes {
    /// HTTP status; 0 where there was no answer.
    pub status: u16,
    /// The address it connected to.
    pub remote: String,
    /// Milliseconds from the start to the name's address.
    pub name_ms: f64,
    /// ... to the established connection.
    pub connect_ms: f64,
    /// ... to the first byte of the answer.
    pub first_byte_ms: f64,
    /// ... to the last.
    pub total_ms: f64,
    /// The answer's body.
    pub body: String,
}

/// What `wrk` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests answered with a status of 2xx or 3xx.
    pub served: u64,
    /// Requests answered with another one, connections that failed, and what came too late.
    pub failed: u64,
}

/// Asks a server one question; `args` as dig takes them. No retry: a lost query shows.
///
/// # Errors
/// [`LabError`] where no answer comes, or one that dig does not understand.
pub fn dig(host: &Host, args: &str) -> Result<DigAnswer, LabError> {
    let words = command::split(&format!("dig -u +tries=1 +time=5 {args}"));
    let text = command::succeed(host.command(words.get_program()).args(words.get_args()))?;
    parse_dig(&text).ok_or_else(|| crate::lab::unreadable(format!("dig {args}"), &text))
}

/// Fetches a URL; `args` come before it, as curl takes them.
///
/// # Errors
/// [`LabError`] where curl fails; it gives up after ten seconds.
pub fn curl(host: &Host, args: &str, url: &str) -> Result<CurlTimes, LabError> {
    let words = command::split(&format!("curl -sS --noproxy * --max-time 10 {args}"));
    let mut command = host.command(words.get_program());
    command.args(words.get_args()).args(["-w", WRITE_OUT, url]);
    let text = command::succeed(&mut command)?;
    parse_curl(&text).ok_or_else(|| crate::lab::unreadable(format!("curl {url}"), &text))
}

/// Asks a server one question with Knot's client; the data of the answer, a line a record.
///
/// # Errors
/// [`LabError`] where no answer comes.
pub fn kdig(host: &Host, args: &str) -> Result<Vec<String>, LabError> {
    let text = host.run(&format!("kdig +short +retry=0 +time=5 {args}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A command that sends a file to a URL and writes what comes back into another file, and fails where the server does not
/// say 2xx; `args` come before, as curl takes them.
#[must_use]
pub fn post_command(host: &Host, args: &str, url: &str, sent: &Path, back: &Path) -> Command {
    let words = command::split(&format!("curl -sS --noproxy * --fail --max-time 60 {args} -X POST -o"));
    let mut command = host.command(words.get_program());
    command
        .args(words.get_args())
        .arg(back)
        .arg("--data-binary")
        .arg(format!("@{}", sent.display()))
        .arg(url);
    command
}

/// Loads a URL; `args` as wrk takes them: `-c 20 -d 1s`.
///
/// # Errors
/// [`LabError`] where wrk fails or is not understood.
pub fn wrk(host: &Host, args: &str, url: &str) -> Result<Load, LabError> {
    let text = host.run(&format!("wrk -t 1 {args} {url}"))?;
    Load::parse(&text).ok_or_else(|| crate::lab::unreadable(format!("wrk {url}"), &text))
}

impl Load {
    /// Reads what wrk wrote; `None` where it is not a whole report.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lines = || text.lines().map(str::trim);
        let (requests, _) = lines().find_map(|line| line.split_once(" requests in "))?;
        let requests: u64 = requests.parse().ok()?;
        let refused = lines().find_map(|line| line.strip_prefix("Non-2xx or 3xx responses: "));
        let refused: u64 = refused.map_or(Some(0), |count| count.parse().ok())?;
        // "connect 0, read 0, write 0, timeout 0"; the line is there where one of them is not 0.
        let errors = lines().find_map(|line| line.strip_prefix("Socket errors: ")).unwrap_or_default();
        let errors = errors.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
        Some(Load { served: requests.checked_sub(refused)?, failed: refused + errors.sum::<u64>() })
    }
}

/// The line that curl appends to the body.
const WRITE_OUT: &str =
    "\n%{http_code} %{time_namelookup} %{time_connect} %{time_starttransfer} %{time_total} %{remote_ip}";

fn parse_curl(text: &str) -> Option<CurlTimes> {
    let (body, line) = text.rsplit_once('\n')?;
    let words: Vec<_> = line.split(' ').collect();
    let ms = |at: usize| Some(words.get(at)?.parse::<f64>().ok()? * 1000.0);
    Some(CurlTimes {
        status: words.first()?.parse().ok()?,
        name_ms: ms(1)?,
        connect_ms: ms(2)?,
        first_byte_ms: ms(3)?,
        total_ms: ms(4)?,
        remote: (*words.get(5)?).to_owned(),
        body: body.to_owned(),
    })
}

fn parse_dig(text: &str) -> Option<DigAnswer> {
    let after = |mark: &str, end: char| {
        let rest = &text[text.find(mark)? + mark.len()..];
        Some(rest[..rest.find(end)?].trim().to_owned())
    };
    let answers = text.split_once(";; ANSWER SECTION:\n").map_or_else(Vec::new, |(_, rest)| {
        let lines = rest.lines().take_while(|line| !line.is_empty() && !line.starts_with(';'));
        lines.filter_map(record_data).collect()
    });
    Some(DigAnswer {
        status: after("status: ", ',')?,
        flags: after(";; flags:", ';')?.split_whitespace().map(str::to_owned).collect(),
        answers,
        time: Duration::from_micros(after("Query time: ", ' ')?.parse().ok()?),
        text: text.to_owned(),
    })
}

/// The data of a record as dig prints it, behind owner, time to live, class and type; as many tabs as the columns want
/// stand between them.
fn record_data(line: &str) -> Option<String> {
    let data = (0..4).try_fold(line, |rest, _| Some(rest.split_once(char::is_whitespace)?.1.trim_start()))?;
    Some(data.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_understood() {
        let text = "Running 1s test @ http://hello.fn.example/\n  1 threads and 4 connections\n  Thread Stats   Avg\n\
                    \x20 2013 requests in 1.01s, 282.91KB read\n  Socket errors: connect 1, read 20, write 0, timeout 300\n\
                    \x20 Non-2xx or 3xx responses: 13\nRequests/sec:   1993.12\nTransfer/sec:    280.10KB\n";
        assert_eq!(Load::parse(text), Some(Load { served: 2000, failed: 334 }));
        assert_eq!(Load::parse("  7 requests in 1.00s, 1KB read\n"), Some(Load { served: 7, failed: 0 }));
        assert_eq!(Load::parse("unable to connect to hello.fn.example:http\n"), None);
    }

    #[test]
    fn dig_is_understood() {
        let answer = parse_dig(
            "\n; <<>> DiG 9.18.41-1~deb12u1-Debian <<>> hello.fn.example.\n;; Got answer:\n\
             ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 4711\n\
             ;; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1\n\n;; QUESTION SECTION:\n\
             ;hello.fn.example.\t\tIN\tA\n\n;; ANSWER SECTION:\nhello.fn.example.\t1\tIN\tA\t198.18.0.1\n\
             h.fn.example.\t\t1\tIN\tTXT\t\"two words\"\n\n\
             ;; Query time: 315 usec\n;; SERVER: 192.0.2.53#53(192.0.2.53) (UDP)\n",
        )
        .expect("an answer");
        assert_eq!(answer.status, "NOERROR");
        assert_eq!(answer.answers, ["198.18.0.1", "\"two words\""]);
        assert_eq!(
            (answer.flags, answer.time.as_micros()),
            (vec!["qr".into(), "aa".into(), "rd".into()], 315)
        );
        assert_eq!(record_data("ns1.fn.example.\t\t30\tIN\tA\t192.0.2.53"), Some("192.0.2.53".to_owned()));
        assert_eq!(record_data("x. 1 IN TXT \"two words\""), Some("\"two words\"".to_owned()));
        assert_eq!(parse_dig(";; communications error: timed out\n"), None);
    }

    #[test]
    fn curl_is_understood() {
        let times = parse_curl("hello\nworld\n200 0.001 0.002 0.003 0.0045 198.18.0.1").expect("times");
        assert_eq!((times.status, times.total_ms, times.body.as_str()), (200, 4.5, "hello\nworld"));
        assert_eq!(parse_curl("nothing"), None);
    }
}

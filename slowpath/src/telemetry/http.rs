//! The answers of the metrics listener: `GET /metrics`, one request a connection.

use super::collect::Sources;
use super::metrics::{self, Format};

/// What is answered on the metrics listener to a request with this head.
pub fn respond(head: &str, sources: &Sources) -> Vec<u8> {
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET" | "HEAD", "/metrics") => {
            let format = format(head);
            let body = metrics::render(sources, format);
            reply("200 OK", format.content_type(), &body, method == "HEAD")
        }
        ("GET" | "HEAD", _) => reply("404 Not Found", TEXT, "metrics are at /metrics\n", method == "HEAD"),
        _ => reply("405 Method Not Allowed", TEXT, "only GET and HEAD\n", false),
    }
}

/// OpenMetrics, unless the client names the older format alone.
fn format(head: &str) -> Format {
    let accept = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("accept").then_some(value)
    });
    match accept {
        Some(types) if types.contains("text/plain") && !types.contains("openmetrics") => Format::Text,
        _ => Format::OpenMetrics,
    }
}

fn reply(status: &str, content_type: &str, body: &str, head_only: bool) -> Vec<u8> {
    let length = body.len();
    let body = if head_only { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_is_for_who_asks_for_it_alone() {
        let with = |accept: &str| format(&format!("GET /metrics HTTP/1.1\r\naccept: {accept}\r\n\r\n"));
        assert_eq!(with("*/*"), Format::OpenMetrics);
        assert_eq!(
            with("application/openmetrics-text; version=1.0.0, text/plain;q=0.5"),
            Format::OpenMetrics
        );
        assert_eq!(with("text/plain; version=0.0.4"), Format::Text);
        assert_eq!(format("GET /metrics HTTP/1.1\r\n\r\n"), Format::OpenMetrics);
    }
}

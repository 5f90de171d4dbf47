//! Replies to BIER ping and trace, a line for each.

use crate::telemetry::echo::{Hop, Ping};
use crate::telemetry::rows::*;

/// What came of an echo request.
pub fn echo(report: &EchoReport) -> String {
    let mut text = String::new();
    for reply in &report.replies {
        let number = reply.bfr_id.map_or_else(|| "-".to_owned(), |_| numbers(reply));
        let prefix = reply.prefix.as_deref().unwrap_or("-");
        let (result, ms, by) = (&reply.result, reply.rtt_ms, &reply.by);
        text += &format!("seq {}: {number} {prefix} {ms:.3} ms by {by}, {result}\n", report.sequence);
    }
    if !report.missing.is_empty() {
        text += &format!("seq {}: no answer from {}\n", report.sequence, report.missing);
    }
    text
}

/// For whom it answers.
fn numbers(reply: &EchoReplyRow) -> String {
    let own = reply.bfr_id.map(|id| id.to_string());
    let hosts = Some(reply.hosts.clone()).filter(|hosts| !hosts.is_empty());
    own.into_iter().chain(hosts).collect::<Vec<_>>().join(",")
}

/// What came of a ping.
pub fn ping(ping: &Ping) -> String {
    let mut table = super::Table::new(&["BFR-ID", "SENT", "ANSWERED", "MIN MS", "MEAN MS", "MAX MS"]);
    for (id, one) in &ping.routers {
        let times = [one.min_ms, one.mean_ms, one.max_ms]
            .map(|ms| if one.answered == 0 { "-".to_owned() } else { format!("{ms:.3}") });
        let head = [id.to_string(), one.sent.to_string(), one.answered.to_string()];
        table.row([head, times].concat());
    }
    table.text()
}

/// A hop of a trace.
pub fn hop(hop: &Hop) -> String {
    let mut text = String::new();
    for reply in &hop.replies {
        let prefix = reply.prefix.as_deref().unwrap_or("-");
        let number = reply.bfr_id.map(|_| format!(" ({})", numbers(reply))).unwrap_or_default();
        let by = reply.ingress.as_ref().map(|address| format!(", came in by {address}")).unwrap_or_default();
        text += &format!("{:>3}  {prefix}{number} {:.3} ms, {}{by}\n", hop.ttl, reply.rtt_ms, reply.result);
        text += &ways(&reply.ways);
    }
    if hop.silent > 0 {
        text += &format!("{:>3}  * {} silent\n", hop.ttl, hop.silent);
    }
    text
}

/// Where a request goes on.
pub fn ways(ways: &[EchoWayRow]) -> String {
    let line = |way: &EchoWayRow| {
        let by = way.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
        format!("       to {}{by}, MTU {}, for {}\n", way.neighbour, way.mtu_bytes, way.bfr_ids)
    };
    ways.iter().map(line).collect()
}

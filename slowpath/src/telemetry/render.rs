//! Rows as aligned columns, for people.

mod bier;
mod echo;
mod hub;

use millrace_fastpath::fates::Fates;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::protocol::{Request, Topic};
use super::rows::*;
pub use bier::{BierPart, bier_part};
pub use echo::{echo as render_echo, hop as render_hop, ping as render_ping, ways as render_ways};
pub use hub::hub as render_hub;

use crate::reload::{Outcome, ReloadReport};

/// What the appliance answered to `request`, for people to read.
///
/// # Errors
/// The answer isn't of the kind that was asked for.
pub fn render(request: Request, value: Value) -> serde_json::Result<String> {
    Ok(match request {
        Request::Show(Topic::Ports) => ports(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Workers) => workers(&rows(value)?),
        Request::Show(Topic::Nodes) => nodes(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Services) => services(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Flows) => flows(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Names) => names(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Neighbours) => neighbours(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Holds) => holds(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Wakes) => wakes(&rows::<Vec<_>>(value)?),
        Request::Show(Topic::Link) => link(&rows(value)?),
        Request::Show(Topic::Config) => config(&rows(value)?),
        Request::Show(Topic::Bier) => bier::text(&rows(value)?, None),
        Request::Echo(_) => render_echo(&rows(value)?),
        Request::Hub(ask) => render_hub(&ask, value)?,
        Request::Reload { .. } => reload(&rows(value)?),
        Request::Trace { .. } => trace(&rows::<Vec<_>>(value)?),
    })
}

fn rows<T: DeserializeOwned>(value: Value) -> serde_json::Result<T> {
    serde_json::from_value(value)
}

/// Lines of cells; the first is the head. Cells that are numbers stand to the right.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|cell| (*cell).to_owned()).collect()])
    }

    fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    fn text(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |at: usize| {
            self.0.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let is_number =
            |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit()) && cell.parse::<f64>().is_ok();
        let right: Vec<bool> = (0..columns)
            .map(|at| {
                let mut body = self
                    .0
                    .iter()
                    .skip(1)
                    .filter_map(|row| row.get(at))
                    .filter(|cell| *cell != "-")
                    .peekable();
                body.peek().is_some() && body.all(|cell| is_number(cell))
            })
            .collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let width = widths[at];
                line += &if right[at] { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn ports(rows: &[PortRow]) -> String {
    let mut table = Table::new(&[
        "PORT",
        "DEVICE",
        "LINK",
        "MBIT/S",
        "MAC",
        "QUEUES",
        "RX",
        "TX",
        "MISSED",
        "ERRORS",
        "NO-BUFFER",
    ]);
    for row in rows {
        let link = if row.removed {
            "gone"
        } else if row.up {
            "up"
        } else {
            "down"
        };
        table.row(vec![
            row.name.clone(),
            row.device.clone(),
            link.to_owned(),
            or_dash(row.speed_mbps),
            row.mac.clone(),
            format!("{}/{}", row.rx_queues, row.tx_queues),
            row.rx_packets.to_string(),
            row.tx_packets.to_string(),
            row.rx_missed.to_string(),
            (row.rx_errors + row.tx_errors).to_string(),
            row.rx_no_buffer.to_string(),
        ]);
    }
    table.text()
}

fn workers(report: &WorkersReport) -> String {
    let mut table = Table::new(&[
        "WORKER",
        "CPU",
        "IDLE",
        "TABLES",
        "FLOWS",
        "RECEIVED",
        "FORWARDED",
        "ANSWERED",
        "HELD",
        "PUNTED",
        "DROPPED",
        "SENT",
        "REFUSED",
        "UNEXPLAINED",
    ]);
    let cells = |fates: &Fates, unexplained: u64| {
        let sums = [
            fates.received,
            fates.forwarded,
            fates.answered,
            fates.still_held,
            fates.punted,
            fates.dropped + fates.release_dropped,
            fates.tx_accepted,
            fates.tx_refused,
            unexplained,
        ];
        sums.map(|sum| sum.to_string()).to_vec()
    };
    for row in &report.workers {
        let mut line = vec![
            row.worker.to_string(),
            or_dash(row.cpu),
            format!("{:.0}%", row.idle_share * 100.0),
            row.generation.map_or_else(|| "ended".to_owned(), |generation| generation.to_string()),
            row.flows.to_string(),
        ];
        line.extend(cells(&row.fates, row.unexplained));
        table.row(line);
    }
    let flows: u64 = report.workers.iter().map(|row| row.flows).sum();
    let mut line: Vec<String> = ["all", "-", "-", "-"].map(str::to_owned).to_vec();
    line.push(flows.to_string());
    line.extend(cells(&report.total, report.unexplained));
    table.row(line);
    let mut limits = Table::new(&["WORKER", "LIMIT", "TIMES"]);
    for row in &report.workers {
        for (limit, count) in limits_of(row).into_iter().filter(|(_, count)| *count > 0) {
            limits.row(vec![row.worker.to_string(), limit, count.to_string()]);
        }
    }
    let mut text = table.text();
    if limits.0.len() > 1 {
        text.push('\n');
        text += &limits.text();
    }
    text
}

/// How often a worker met each of its limits.
fn limits_of(row: &WorkerRow) -> Vec<(String, u64)> {
    let named = [
        ("flows-evicted", row.flows_evicted),
        ("flows-refused", row.flows_refused),
        ("fragments-evicted", row.fragments_evicted),
        ("triples-evicted", row.triples_evicted),
        ("events-lost", row.events_lost),
        ("wakes-limited", row.wakes_limited),
        ("errors-limited", row.errors_limited),
        ("responses-slipped", row.responses_slipped),
        ("limits-evicted", row.limits_evicted),
        ("injects-lost", row.injects_lost),
    ];
    let holds = row.holds_refused.iter().map(|(reason, count)| (format!("hold-{reason}"), *count));
    named.map(|(name, count)| (name.to_owned(), count)).into_iter().chain(holds).collect()
}

fn nodes(rows: &[NodeRow]) -> String {
    let mut table = Table::new(&["NODE", "FRAMES", "VECTORS", "FRAMES/VECTOR", "CYCLES/FRAME"]);
    for row in rows {
        table.row(vec![
            row.node.clone(),
            row.frames.to_string(),
            row.vectors.to_string(),
            format!("{:.1}", row.frames_per_vector),
            format!("{:.0}", row.cycles_per_frame),
        ]);
    }
    let mut drops = Table::new(&["DROPPED AT", "REASON", "FRAMES"]);
    for row in rows {
        for (reason, count) in row.drops.iter().filter(|(_, count)| **count > 0) {
            drops.row(vec![row.node.clone(), reason.clone(), count.to_string()]);
        }
    }
    let mut text = table.text();
    if drops.0.len() > 1 {
        text.push('\n');
        text += &drops.text();
    }
    text
}

fn services(rows: &[ServiceRow]) -> String {
    let mut table = Table::new(&[
        "SERVICE",
        "PHASE",
        "WAKES",
        "STRIKES",
        "ASKS",
        "FLOWS",
        "BEGUN",
        "HELD",
        "IDLE S",
        "ENDPOINTS",
        "NAMES",
    ]);
    let mut instances =
        Table::new(&["SERVICE", "INSTANCE", "STATE", "HEALTH", "ADDRESS", "PORT", "WEIGHT", "FLOWS"]);
    let mut checks =
        Table::new(&["SERVICE", "PROBED", "PORT", "STATE", "SINCE S", "PROBES", "FAILED", "LAST ERROR"]);
    let mut handshakes = Table::new(&[
        "SERVICE",
        "INSTANCE",
        "HANDSHAKES",
        "ANSWERED",
        "REFUSED",
        "UNANSWERED",
        "EJECTIONS",
        "EJECTED FOR S",
    ]);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.phase.clone(),
            row.wake.to_string(),
            row.strikes.to_string(),
            row.asks.clone(),
            row.flows.to_string(),
            row.flows_begun.to_string(),
            row.held.to_string(),
            row.idle_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
            row.endpoints.join(", "),
            row.dns_names.join(", "),
        ]);
        for instance in &row.instances {
            instances.row(vec![
                row.name.clone(),
                if instance.fixed { "backend".to_owned() } else { instance.id.to_string() },
                instance.state.clone(),
                instance.health.clone(),
                instance.addresses.join(", "),
                if instance.port == 0 { "as asked".to_owned() } else { instance.port.to_string() },
                instance.weight.to_string(),
                instance.flows.to_string(),
            ]);
            for check in &instance.checks {
                checks.row(vec![
                    row.name.clone(),
                    check.address.clone(),
                    check.port.to_string(),
                    check.state.clone(),
                    format!("{:.1}", check.seconds),
                    check.probes.to_string(),
                    check.failures.to_string(),
                    or_dash(check.error.as_ref()),
                ]);
            }
            if let Some(seen) = &instance.handshakes {
                handshakes.row(vec![
                    row.name.clone(),
                    instance.addresses.join(", "),
                    seen.begun.to_string(),
                    seen.answered.to_string(),
                    seen.refused.to_string(),
                    seen.unanswered.to_string(),
                    seen.ejections.to_string(),
                    seen.ejected_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
                ]);
            }
        }
    }
    let mut text = table.text();
    for more in [instances, checks, handshakes] {
        if more.0.len() > 1 {
            text.push('\n');
            text += &more.text();
        }
    }
    text
}

fn flows(rows: &[FlowRow]) -> String {
    let mut table = Table::new(&[
        "WORKER", "SERVICE", "PROTOCOL", "CLIENT", "ADDRESS", "INSTANCE", "NAT", "STATE", "IDLE S",
    ]);
    for row in rows {
        table.row(vec![
            row.worker.to_string(),
            row.service.clone(),
            row.protocol.clone(),
            row.client.clone(),
            row.address.clone(),
            row.instance.clone(),
            or_dash(row.nat.as_ref()),
            row.state.clone(),
            row.idle_seconds.to_string(),
        ]);
    }
    table.text()
}

fn names(rows: &[NameRow]) -> String {
    let mut table = Table::new(&["NAME", "VIEW", "ZONE", "SERVICE", "TYPES"]);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            or_dash(row.view.as_ref()),
            row.zone.clone(),
            or_dash(row.service.as_ref()),
            row.types.join(" "),
        ]);
    }
    table.text()
}

fn neighbours(rows: &[NeighbourRow]) -> String {
    let mut table = Table::new(&["INTERFACE", "ADDRESS", "MAC", "STATE", "SINCE S"]);
    for row in rows {
        table.row(vec![
            row.interface.clone(),
            row.address.clone(),
            or_dash(row.mac.as_ref()),
            row.state.clone(),
            row.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
        ]);
    }
    table.text()
}

fn holds(rows: &[HoldRow]) -> String {
    let mut table = Table::new(&["SERVICE", "PHASE", "HELD", "MAX", "DEADLINE MS", "OVERFLOW"]);
    for row in rows {
        table.row(vec![
            row.service.clone(),
            row.phase.clone(),
            row.held.to_string(),
            row.held_max.to_string(),
            row.deadline_ms.to_string(),
            row.overflow.clone(),
        ]);
    }
    table.text()
}

/// Each point as milliseconds after the first packet was seen.
fn wakes(rows: &[WakeRow]) -> String {
    let mut table = Table::new(&[
        "SERVICE",
        "WAKE",
        "TRIGGER",
        "CLIENT",
        "NOTIFIED",
        "CONFIRMED",
        "ANSWERED",
        "HELD",
        "READY",
        "RELEASED",
        "EXPIRED",
        "FAILED",
    ]);
    for row in rows {
        let after = |at: Option<u64>| match (at, row.seen_nanos) {
            (Some(at), Some(seen)) => format!("{:.3}", at.saturating_sub(seen) as f64 / 1e6),
            _ => "-".to_owned(),
        };
        let failed = match row.reason.as_str() {
            "" => after(row.failed_nanos),
            reason => format!("{} ({reason})", after(row.failed_nanos)),
        };
        table.row(vec![
            row.service.clone(),
            row.wake.to_string(),
            or_dash(row.trigger.as_ref()),
            or_dash(row.client.as_ref()),
            after(row.handed_nanos),
            after(row.acknowledged_nanos),
            after(row.answered_nanos),
            after(row.held_nanos),
            after(row.ready_nanos),
            after(row.released_nanos),
            after(row.expired_nanos),
            failed,
        ]);
    }
    format!("{}\nTimes in milliseconds after the first packet was seen.\n", table.text())
}

fn link(report: &LinkReport) -> String {
    let mut table = Table::new(&["WHAT", "VALUE"]);
    table.row(vec!["orchestrator".to_owned(), if report.up { "up" } else { "down" }.to_owned()]);
    table.row(vec!["placement".to_owned(), report.placement.to_string()]);
    for (name, value) in &report.counters {
        table.row(vec![name.replace('_', " "), value.to_string()]);
    }
    table.text()
}

fn config(report: &ConfigReport) -> String {
    let mut table = Table::new(&["WHAT", "VALUE"]);
    table.row(vec!["file".to_owned(), report.file.clone()]);
    table.row(vec!["loaded, unix seconds".to_owned(), report.loaded_unix_seconds.to_string()]);
    table.row(vec!["reloads applied".to_owned(), report.reloads_applied.to_string()]);
    table.row(vec!["reloads refused".to_owned(), report.reloads_refused.to_string()]);
    let mut text = table.text();
    if !report.refusal.is_empty() {
        text += &format!("\nthe last reload was refused:\n{}\n", report.refusal.trim_end());
    }
    text
}

fn reload(report: &ReloadReport) -> String {
    let mut text: String = report.lines.iter().map(|line| format!("{line}\n")).collect();
    if report.changes_total > report.lines.len() {
        text += &format!("and {} more\n", report.changes_total - report.lines.len());
    }
    let (file, total) = (&report.file, report.changes_total);
    text + &match report.outcome {
        Outcome::Applied => format!("{file} is applied: {total} changes\n"),
        Outcome::Possible => format!("{file} would be applied: {total} changes\n"),
        Outcome::Unchanged => format!("{file} says what runs already\n"),
        Outcome::Refused | Outcome::Unreadable => {
            format!("{file} is refused, and what runs goes on: {}\n", report.reason.trim_end())
        }
    }
}

fn trace(rows: &[TraceRow]) -> String {
    let mut text = String::new();
    let mut frame = None;
    for row in rows {
        if frame != Some(row.frame) {
            frame = Some(row.frame);
            text += &format!("frame {} on worker {}\n", row.frame, row.worker);
        }
        text += &format!("  {:<9} {:<34} {}\n", row.node, row.decision, row.summary);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["NAME", "COUNT", "NOTE"]);
        table.row(vec!["a".into(), "7".into(), "x".into()]);
        table.row(vec!["longer".into(), "1234567".into(), "-".into()]);
        assert_eq!(table.text(), "NAME      COUNT  NOTE\na             7  x\nlonger  1234567  -\n");
    }

    #[test]
    fn a_wake_is_shown_by_the_time_that_each_point_took() {
        let wake = WakeRow {
            service: "hello".into(),
            wake: 3,
            trigger: Some("dns".into()),
            seen_nanos: Some(1_000_000),
            handed_nanos: Some(1_050_000),
            ready_nanos: Some(9_000_000),
            ..WakeRow::default()
        };
        let text = render(Request::Show(Topic::Wakes), serde_json::to_value([wake]).unwrap()).unwrap();
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["hello", "3", "dns", "-", "0.050", "-", "-", "-", "8.000", "-", "-", "-"]);
    }
}

//! BIER as columns: a table for each part.

use serde_json::Value;

use super::{Table, or_dash};
use crate::telemetry::rows::*;

/// A part of what there is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BierPart {
    /// Tables.
    Bift,
    /// Neighbours.
    Neighbours,
    /// Flows that enter here, and listeners.
    Overlay,
    /// What workers counted.
    Counters,
}

impl BierPart {
    /// All of them, as they are shown.
    pub const ALL: [Self; 4] = [Self::Bift, Self::Neighbours, Self::Overlay, Self::Counters];
}

/// One part of what the appliance answered, for people to read.
///
/// # Errors
/// The answer isn't a [`BierReport`].
pub fn bier_part(value: Value, part: BierPart) -> serde_json::Result<String> {
    Ok(text(&serde_json::from_value(value)?, Some(part)))
}

pub(super) fn text(report: &BierReport, part: Option<BierPart>) -> String {
    if report.bift.is_empty() && report.adjacencies.is_empty() {
        return "no BIER is configured\n".to_owned();
    }
    let parts = BierPart::ALL.into_iter().filter(|one| part.is_none_or(|part| part == *one));
    let texts: Vec<String> = parts
        .map(|part| match part {
            BierPart::Bift => tables(report),
            BierPart::Neighbours => neighbours(&report.neighbours),
            BierPart::Overlay => overlay(report),
            BierPart::Counters => counters(&report.counters),
        })
        .collect();
    texts.join("\n")
}

fn tables(report: &BierReport) -> String {
    let parts = [
        (!report.bift.is_empty()).then(|| bift(&report.bift)),
        (!report.adjacencies.is_empty()).then(|| adjacencies(&report.adjacencies)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn adjacencies(rows: &[AdjacencyRow]) -> String {
    let mut table = Table::new(&[
        "SUBDOMAIN",
        "SI",
        "BITS",
        "BIFT-ID",
        "BIT",
        "ADJACENCY",
        "INTERFACE",
        "ADDRESS",
        "OUT",
    ]);
    for row in rows {
        let mut kind = row.kind.clone();
        if row.do_not_clear {
            kind.push_str(" do-not-clear");
        }
        if let Some(seed) = row.ecmp_seed {
            kind.push_str(&format!(" ecmp {seed}"));
        }
        table.row(vec![
            row.subdomain.to_string(),
            row.si.to_string(),
            row.bitstring_bits.to_string(),
            or_dash(row.bift_id),
            row.bit.to_string(),
            kind,
            or_dash(row.link.as_ref().map(|link| &link.interface)),
            or_dash(row.address.as_ref()),
            or_dash(row.out),
        ]);
    }
    table.text()
}

fn bift(rows: &[BiftRow]) -> String {
    let mut table = Table::new(&[
        "SUBDOMAIN",
        "SI",
        "BITS",
        "BIFT-ID",
        "PACKETS",
        "TABLE",
        "BFR-IDS",
        "NEIGHBOUR",
        "OUT",
    ]);
    for row in rows {
        let head = || {
            let numbers = [row.subdomain.to_string(), row.si.to_string(), row.bitstring_bits.to_string()];
            let mut cells = Vec::from(numbers);
            cells.extend([or_dash(row.bift_id), or_dash(row.packets), row.table.to_string()]);
            cells
        };
        if let Some(local) = row.local {
            table.row([head(), vec![local.to_string(), "here".to_owned(), "-".to_owned()]].concat());
        }
        for way in &row.ways {
            let cells = vec![way.bfr_ids.clone(), way.neighbour.clone(), or_dash(way.bift_id)];
            table.row([head(), cells].concat());
        }
    }
    table.text()
}

fn neighbours(rows: &[BfrNeighbourRow]) -> String {
    let mut table = Table::new(&[
        "SUBDOMAIN",
        "NEIGHBOUR",
        "COPIES",
        "STATE",
        "REACH",
        "UNPROTECTED",
        "INTERFACE",
        "ADDRESS",
        "OVER",
        "MAC",
    ]);
    for row in rows {
        let state = if row.down { "down" } else { "up" };
        let unprotected = Some(&row.unprotected).filter(|ids| !ids.is_empty());
        let head = [
            row.subdomain.to_string(),
            row.neighbour.clone(),
            row.copies.to_string(),
            state.to_owned(),
            row.reach.clone(),
            or_dash(unprotected),
        ];
        for link in &row.links {
            let link = [
                link.interface.clone(),
                link.address.clone(),
                link.encapsulation.clone(),
                or_dash(link.mac.as_ref()),
            ];
            table.row([&head[..], &link[..]].concat());
        }
        if row.links.is_empty() {
            table.row([&head[..], &vec!["-".to_owned(); 4][..]].concat());
        }
    }
    table.text()
}

fn overlay(report: &BierReport) -> String {
    let mut flows = Table::new(&["SOURCE", "GROUP", "SUBDOMAIN", "RECEIVERS", "PACKETS"]);
    for row in &report.overlay {
        flows.row(vec![
            row.source.clone(),
            row.group.clone(),
            row.subdomain.to_string(),
            row.receivers.clone(),
            row.packets.to_string(),
        ]);
    }
    let mut listeners = Table::new(&["GROUP", "LISTENERS ON, OR AT"]);
    for row in &report.listeners {
        let to = [row.interfaces.clone(), row.next_hops.clone()].concat();
        listeners.row(vec![row.group.clone(), to.join(" ")]);
    }
    let mut queriers = Table::new(&["INTERFACE", "PROTOCOL", "QUERIER", "DUE", "GROUPS"]);
    for row in &report.queriers {
        queriers.row(vec![
            row.interface.clone(),
            row.protocol.clone(),
            if row.ours { format!("{} (us)", row.querier) } else { row.querier.clone() },
            format!("{:.1} s", row.due_seconds),
            row.groups.to_string(),
        ]);
    }
    let mut members = Table::new(&["INTERFACE", "MEMBERS OF", "MODE", "EXPIRES", "SOURCES", "VERSION"]);
    for row in &report.members {
        members.row(vec![
            row.interface.clone(),
            row.group.clone(),
            row.mode.clone(),
            or_dash(row.expires_seconds.map(|left| format!("{left:.1} s"))),
            sources(&row.sources),
            row.version.clone(),
        ]);
    }
    let mut learnt = Table::new(&["SUBDOMAIN", "BFR-ID", "LISTENS TO", "MODE", "EXPIRES", "SOURCES"]);
    for row in &report.learnt {
        learnt.row(vec![
            row.subdomain.to_string(),
            row.bfr_id.to_string(),
            row.group.clone(),
            row.mode.clone(),
            or_dash(row.expires_seconds.map(|left| format!("{left:.1} s"))),
            sources(&row.sources),
        ]);
    }
    [flows, listeners, queriers, members, learnt].map(|table| table.text()).join("\n")
}

fn sources(rows: &[BierSourceRow]) -> String {
    let texts: Vec<_> = rows.iter().map(source).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(" ") }
}

/// A source with the time that it has left, or with `!` where nobody wants it.
fn source(row: &BierSourceRow) -> String {
    match row.expires_seconds {
        Some(left) => format!("{} ({left:.1} s)", row.source),
        None => format!("!{}", row.source),
    }
}

fn counters(report: &BierCountersReport) -> String {
    let mut copies = Table::new(&["INTERFACE", "NEIGHBOUR", "OVER", "COPIES"]);
    for row in &report.copies {
        let interface = if row.interface.is_empty() { "gone" } else { &row.interface };
        copies.row(vec![
            interface.to_owned(),
            row.address.clone(),
            row.encapsulation.clone(),
            row.copies.to_string(),
        ]);
    }
    let mut lost = Table::new(&["LOST", "COPIES"]);
    for (reason, count) in &report.lost {
        lost.row(vec![reason.clone(), count.to_string()]);
    }
    let mut dropped = Table::new(&["DROPPED", "PACKETS"]);
    for (reason, count) in &report.dropped {
        dropped.row(vec![reason.clone(), count.to_string()]);
    }
    let mut text = format!("{}\n{}\n{}", copies.text(), lost.text(), dropped.text());
    if !report.receivers.is_empty() {
        let mut receivers = Table::new(&["SUBDOMAIN", "BFR-ID", "PACKETS"]);
        for row in &report.receivers {
            receivers
                .row([row.subdomain.to_string(), row.bfr_id.to_string(), row.packets.to_string()].into());
        }
        text += &format!("\n{}", receivers.text());
    }
    text += &format!("\nshown to the control thread: {}\n", report.punted);
    if let Some(expired) = &report.expired {
        let from = expired.bfir_id.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
        text += &format!(
            "expired {:.0} s ago: from {from} in sub-domain {}, for {}, entropy {}, by {}\n",
            expired.seconds, expired.subdomain, expired.bfr_ids, expired.entropy, expired.interface
        );
    }
    text
}

//! What a content hub answers.

use millrace_hub_store::desk::{Ask, ContentRow, NodeRow, NodeState, Put, SiteStatus, Status, Verified};
use serde_json::Value;

use super::{Table, rows};

/// The answer to a question, for people to read.
///
/// # Errors
/// The answer isn't of the kind that was asked for.
pub fn hub(ask: &Ask, value: Value) -> serde_json::Result<String> {
    Ok(match ask {
        Ask::Put(_) => put(&rows::<Vec<_>>(value)?),
        Ask::List => list(&rows::<Vec<_>>(value)?),
        Ask::Status => status(&rows(value)?),
        Ask::Verify { .. } => verified(&rows::<Vec<_>>(value)?),
    })
}

fn put(all: &[Put]) -> String {
    let line = |one: &Put| match &one.taken {
        Some(row) => format!(
            "{}: {} version {}, {} bytes, {}\n",
            one.place,
            named(row),
            row.version,
            row.size,
            row.root
        ),
        None => format!("{}: refused: {}\n", one.place, one.refused.as_deref().unwrap_or("-")),
    };
    all.iter().map(line).collect()
}

/// A content's name, behind its group's.
fn named(row: &ContentRow) -> String {
    if row.group.is_empty() { row.name.clone() } else { format!("{}/{}", row.group, row.name) }
}

fn list(all: &[ContentRow]) -> String {
    let mut table =
        Table::new(&["NAME", "GROUP", "VERSION", "BYTES", "HERE %", "STAYS", "SIGNED BY", "ROOT"]);
    for row in all {
        table.row(vec![
            row.name.clone(),
            if row.group.is_empty() { "-".to_owned() } else { row.group.clone() },
            row.version.to_string(),
            row.size.to_string(),
            here(row),
            if row.pinned { "yes" } else { "no" }.to_owned(),
            row.signed_by.clone().unwrap_or_else(|| "-".to_owned()),
            row.root.to_string(),
        ]);
    }
    table.text()
}

fn here(row: &ContentRow) -> String {
    format!("{:.1}", percent(row.held, row.size, row.complete))
}

/// Of nothing all is there, once it is complete.
fn percent(part: u64, whole: u64, complete: bool) -> f64 {
    if complete { 100.0 } else { part as f64 * 100.0 / whole.max(1) as f64 }
}

fn status(status: &Status) -> String {
    let mut text = format!("{} of {} bytes used", status.used_bytes, status.budget_bytes);
    text += if status.behind { "; the ledger can't be written\n" } else { "\n" };
    for content in &status.contents {
        let row = &content.content;
        let of = |state| content.nodes.iter().filter(|node| node.state == state).count();
        text +=
            &format!("\n{} version {}, {} bytes, {} % here", named(row), row.version, row.size, here(row));
        if content.nodes.is_empty() {
            text.push('\n');
            continue;
        }
        let (acked, owed, failed) = (of(NodeState::Acked), of(NodeState::Owed), of(NodeState::Failed));
        text += &format!("; {acked} nodes have it, {owed} wait, {failed} are given up\n");
        text += &nodes(row.size, &content.nodes);
    }
    text += &sites(&status.sites);
    let wrong =
        ["groups_damaged", "contents_lost", "disk_full", "read_errors", "write_errors", "commit_errors"];
    for name in wrong {
        if let Some(count) = status.counters.get(name).filter(|count| **count > 0) {
            text += &format!("\n{name} {count}\n");
        }
    }
    text
}

/// What was sent to each site: the trunk, then each leg.
fn sites(all: &[SiteStatus]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&["SITE", "LINK", "FIRST COPIES", "BYTES", "REPAIRS", "BYTES", "NACKS", "ACKS"]);
    for site in all {
        let legs = site.legs.iter().map(|(node, leg)| (format!("node {node}"), leg));
        for (link, leg) in std::iter::once(("trunk".to_owned(), &site.trunk)).chain(legs) {
            let said = |count: u64| if link == "trunk" { count.to_string() } else { "-".to_owned() };
            table.row(vec![
                site.site.clone(),
                link.clone(),
                leg.first_packets.to_string(),
                leg.first_bytes.to_string(),
                leg.repair_packets.to_string(),
                leg.repair_bytes.to_string(),
                said(site.nacks),
                said(site.acks),
            ]);
        }
    }
    format!("\n{}", table.text())
}

/// The nodes that a content isn't done with, a line each.
fn nodes(size: u64, all: &[NodeRow]) -> String {
    let columns = ["NODE", "SITE", "STATE", "SENT %", "REPAIRS", "MISSES", "BYTES/S", "SECONDS LEFT"];
    let mut table = Table::new(&columns);
    for row in all.iter().filter(|row| row.state != NodeState::Acked) {
        let session = row.session.as_ref();
        let state = match (row.state, session) {
            (NodeState::Failed, _) => "given up",
            (_, Some(session)) if session.apart => "apart",
            _ => "waits",
        };
        let misses = match session {
            Some(session) => session.owed_bytes.to_string(),
            None => row.lacks.iter().map(|range| range.end - range.start).sum::<u64>().to_string(),
        };
        let dash = || "-".to_owned();
        let rounded = |figure: Option<f64>| figure.map_or_else(dash, |figure| format!("{figure:.0}"));
        table.row(vec![
            row.node.to_string(),
            session.map_or_else(dash, |session| session.site.clone()),
            state.to_owned(),
            session.map_or_else(dash, |session| format!("{:.1}", percent(session.sent_bytes, size, false))),
            session.map_or_else(dash, |session| session.repair_bytes.to_string()),
            misses,
            rounded(session.and_then(|session| session.bytes_per_second)),
            rounded(session.and_then(|session| session.seconds_left)),
        ]);
    }
    if table.0.len() > 1 { table.text() } else { String::new() }
}

fn verified(all: &[Verified]) -> String {
    let line = |one: &Verified| {
        let names = if one.names.is_empty() { "no name".to_owned() } else { one.names.join(", ") };
        let bytes: u64 = one.damaged.iter().map(|range| range.end - range.start).sum();
        match bytes {
            0 if one.damaged.is_empty() => format!("{}  {names}: {} bytes, sound\n", one.root, one.size),
            _ => format!("{}  {names}: {bytes} of {} bytes are missing or damaged\n", one.root, one.size),
        }
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_hub_store::Root;
    use millrace_hub_store::desk::{ContentStatus, NodeProgress};

    use super::*;

    fn row() -> ContentRow {
        ContentRow {
            name: "image.bin".into(),
            group: "camera".into(),
            version: 3,
            root: Root::of(b"x"),
            size: 200,
            held: 50,
            complete: false,
            removed: false,
            pinned: true,
            signed_by: None,
        }
    }

    #[test]
    fn status_names_the_nodes_that_wait_and_those_that_are_given_up() {
        let node =
            |node, state, session| NodeRow { node, state, lacks: std::iter::once(3..7).collect(), session };
        let progress = NodeProgress {
            site: "house".into(),
            sent_bytes: 100,
            repair_bytes: 9,
            owed_bytes: 8,
            apart: true,
            bytes_per_second: Some(12.4),
            seconds_left: Some(8.7),
        };
        let nodes = vec![
            node(1, NodeState::Acked, None),
            node(2, NodeState::Owed, Some(progress)),
            node(3, NodeState::Failed, None),
        ];
        let status = Status {
            rules: Vec::new(),
            sites: Vec::new(),
            budget_bytes: 1000,
            used_bytes: 232,
            behind: false,
            sends: true,
            contents: vec![ContentStatus { content: row(), nodes }],
            counters: BTreeMap::from([("disk_full".into(), 2), ("read_errors".into(), 0)]),
        };
        let text = hub(&Ask::Status, serde_json::to_value(status).unwrap()).unwrap();
        let cells: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(cells.contains(&vec!["2", "house", "apart", "50.0", "9", "8", "12", "9"]), "{text}");
        assert!(cells.contains(&vec!["3", "-", "given", "up", "-", "-", "4", "-", "-"]), "{text}");
        assert!(cells.contains(&vec!["disk_full", "2"]) && !text.contains("read_errors"), "{text}");
        assert!(
            text.contains(
                "camera/image.bin version 3, 200 bytes, 25.0 % here; 1 nodes have it, 1 wait, 1 are"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_refused_and_what_is_damaged_say_so() {
        let refused = Put { place: "/a".into(), taken: None, refused: Some("the disk is full".into()) };
        let taken = Put { place: "/b".into(), taken: Some(row()), refused: None };
        let text = put(&[refused, taken]);
        assert!(
            text.starts_with("/a: refused: the disk is full\n/b: camera/image.bin version 3, 200 bytes"),
            "{text}"
        );
        let one = |damaged| Verified { root: Root::of(b"x"), names: vec!["a".into()], size: 10, damaged };
        let text = verified(&[one(std::iter::once(2..6).collect()), one(Vec::new())]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with("a: 4 of 10 bytes are missing or damaged"), "{text}");
        assert!(lines[1].ends_with("a: 10 bytes, sound"), "{text}");
    }
}

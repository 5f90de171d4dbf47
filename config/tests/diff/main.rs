//! The difference between two configurations: nothing where they mean the same, and every key of the file found.

mod cases;

use std::collections::BTreeSet;
use std::path::Path;

use cases::{EDGE, ONE_WORD, WITHOUT_MEANING, cases};
use millrace_config::diff::{Kind, What};
use millrace_config::{Config, Diff};
use proptest::prelude::*;
use serde_json::Value;

fn parse(text: &str) -> Config {
    Config::parse("edge.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn a_configuration_does_not_differ_from_itself() {
    for text in [EDGE, include_str!("../edge.toml")] {
        let Ok(config) = Config::parse("edge.toml", text) else { continue };
        assert_eq!(Diff::new(&config, &config), Diff::default());
    }
    assert!(Diff::new(&parse(EDGE), &parse(EDGE)).is_empty());
}

#[test]
fn order_spelling_and_defaults_are_no_difference() {
    let moved = EDGE
        .replace("id = 20", "id = 0x14")
        .replace("memory_mib = 64", "")
        .replace("\"203.0.113.20\"", "\"203.0.113.20\", # the shop\n");
    let (head, tail) = moved.split_once("[[function]]").unwrap();
    let (function, rest) = tail.split_once("[limits]").unwrap();
    let moved = format!("{head}[limits]{rest}\n[[function]]{function}");
    assert_eq!(Diff::new(&parse(EDGE), &parse(&moved)).to_string(), "");
}

#[test]
fn every_key_is_found_and_told_for_what_it_needs() {
    let running = parse(EDGE);
    let mut wrong = Vec::new();
    for (key, from, to, expected) in cases() {
        assert!(EDGE.contains(from), "{key}: {from}");
        match Config::parse("edge.toml", &EDGE.replacen(from, to, 1)) {
            Ok(next) => {
                let told = Diff::new(&running, &next).to_string();
                // A change may take others with it, on lines of their own.
                if !told.lines().any(|line| line == expected) {
                    wrong.push(format!("{key}: {told}"));
                }
            }
            Err(report) => wrong.push(format!("{key}: {report}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_of_the_schema_has_its_case() {
    let schema: Value = serde_json::from_str(&millrace_config::json_schema()).unwrap();
    let tables = schema["$defs"].as_object().unwrap().iter();
    let keys = tables.flat_map(|(table, definition)| {
        let properties = definition["properties"].as_object().into_iter().flatten();
        properties.filter(|(_, key)| key["x-not-built"] != true).map(move |(key, _)| format!("{table}.{key}"))
    });
    let told: BTreeSet<&str> =
        cases().into_iter().map(|(key, ..)| key).chain(ONE_WORD.iter().copied()).collect();
    let missing: Vec<String> =
        keys.filter(|key| !told.contains(&key[..]) && !WITHOUT_MEANING.contains(&&key[..])).collect();
    assert!(missing.is_empty(), "no case says what becomes of these keys in a reload: {missing:?}");
}

#[test]
fn a_file_with_another_text_is_a_change_of_names_in_its_place() {
    let next = EDGE.replace("intercept = true", "intercept = false").replace("memory_mib = 64", "");
    let mut diff = Diff::new(&parse(EDGE), &parse(&next.replace("\"info\"", "\"debug\"")));
    diff.add_files([Path::new("inside.zone")]);
    assert_eq!(
        diff.to_string(),
        "~ dns: intercept true -> false\n~ file inside.zone: text old -> new\n\
         ! telemetry: log info -> debug (needs a restart)\n"
    );
    let mut diff = Diff::default();
    assert!(!diff.touches_names());
    diff.add_files([Path::new("inside.zone")]);
    assert!(diff.touches_names() && diff.restarts().count() == 0);
}

#[test]
fn names_are_made_anew_where_a_view_may_have_another_network() {
    let touches =
        |from: &str, to: &str| Diff::new(&parse(EDGE), &parse(&EDGE.replacen(from, to, 1))).touches_names();
    assert!(touches("id = 20", "id = 21"));
    assert!(!touches("10.20.0.1/24", "10.20.0.2/24"));
}

/// A port is its device: with another name it is the same port, and so are its VLANs.
#[test]
fn a_port_by_another_name_is_the_same_port() {
    let diff = |text: &str| Diff::new(&parse(EDGE), &parse(text));
    let renamed = EDGE.replace("\"lan\"", "\"inner\"");
    let told = diff(&renamed);
    assert_eq!(
        told.to_string(),
        "~ port inner: name lan -> inner\n~ neighbour 198.51.100.7: port lan -> inner\n\
         ~ view inside: ports [lan] -> [inner]\n~ subdomain 0: ethernet_ports [lan] -> [inner]\n\
         ~ bier-neighbour 0 p3: port lan -> inner\n\
         ~ listener 232.1.1.2: ports [lan] -> [inner]\n\
         ~ hub-accept 232.1.1.10:6003 from 192.0.2.66 8: port lan -> inner\n\
         ~ hub-site field: port lan -> inner\n\
         ~ hub-site house: port lan -> inner\n"
    );
    assert!(told.touches_ports() && told.restarts().next().is_none());
    assert_eq!(told.renamed_ports().collect::<Vec<_>>(), [("lan", "inner")]);
    // What else is said of it is told, too.
    let other = renamed
        .replace("10.20.0.1/24", "10.20.0.2/24")
        .replace("device = \"net_ring1\"", "device = \"net_ring1\"\nmtu_bytes = 1400");
    let told = diff(&other).to_string();
    assert!(told.contains("~ port inner: name lan -> inner; mtu_bytes 1500 -> 1400\n"), "{told}");
    assert!(told.contains("~ vlan inner.20: addresses [10.20.0.1/24] -> [10.20.0.2/24]\n"), "{told}");
    assert!(diff(&renamed.replace("id = 20", "id = 21")).to_string().contains("- vlan lan.20"));
}

#[test]
fn ports_with_other_devices_are_other_ports() {
    let diff = |text: &str| Diff::new(&parse(EDGE), &parse(text));
    // By whatever name: the device's arguments are the device's, too.
    let other = EDGE.replace("\"lan\"", "\"inner\"").replace("net_ring1", "net_ring1,nodeaction=0:0:CREATE");
    let told = diff(&other);
    assert!(told.touches_ports() && told.renamed_ports().next().is_none());
    assert!(told.to_string().contains("+ port inner: ") && told.to_string().contains("- port lan: "));
    // Two that change their names are two whose devices change, which they can't.
    let swapped = EDGE.replace("net_ring0", "net_ring2").replace("net_ring1", "net_ring0");
    let swapped = diff(&swapped.replace("net_ring2", "net_ring1"));
    assert_eq!((swapped.restarts().count(), swapped.renamed_ports().count()), (2, 0));
    assert!(!swapped.touches_ports());
}

#[test]
fn json_says_what_the_lines_say() {
    let next = EDGE.replace("weight = 2", "weight = 3").replace("net_ring0", "net_ring7");
    let diff = Diff::new(&parse(EDGE), &parse(&next));
    let told = diff.to_json(10);
    assert_eq!(told[0]["what"], "port");
    assert_eq!((&told[0]["restart"], &told[0]["keys"][0]["from"]), (&true.into(), &"net_ring0".into()));
    assert_eq!((&told[1]["change"], &told[1]["name"]), (&"changed".into(), &"web".into()));
    assert_eq!(told[1]["restart"], false);
    assert_eq!(diff.to_json(1).as_array().unwrap().len(), 1);
}

proptest! {
    /// Any set of edits: what one way adds, the other way removes, and keys turn round.
    #[test]
    fn the_way_back_is_the_way_there_turned_round(chosen in prop::collection::btree_set(0..cases().len(), 0..4)) {
        let mut text = EDGE.to_owned();
        for at in chosen {
            let (_, from, to, _) = cases()[at];
            text = text.replacen(from, to, 1);
        }
        // Edits may contradict each other.
        if let Ok(next) = Config::parse("edge.toml", &text) {
            let there = Diff::new(&parse(EDGE), &next);
            let back = Diff::new(&next, &parse(EDGE));
            prop_assert_eq!(there.changes.len(), back.changes.len());
            for (one, other) in there.changes.iter().zip(&back.changes) {
                // A port that has another name has the former one on the way back.
                let former = one.keys.iter().find(|key| one.what == What::Port && key.key == "name");
                let name = former.and_then(|key| key.from.as_ref()).filter(|_| one.kind == Kind::Changed);
                prop_assert_eq!((one.what, name.unwrap_or(&one.name)), (other.what, &other.name));
                let turned = match one.kind {
                    Kind::Added => Kind::Removed,
                    Kind::Removed => Kind::Added,
                    Kind::Changed => Kind::Changed,
                };
                prop_assert_eq!(other.kind, turned);
                prop_assert_eq!(one.keys.len(), other.keys.len());
            }
        }
    }
}

//! The JSON Schema, held against an independent validator.

use boon::{Compiler, Schemas};
use serde_json::Value;

const EXAMPLE: &str = include_str!("edge.toml");

/// What the validator has against a file.
fn verdict(text: &str) -> Result<(), String> {
    let schema: Value = serde_json::from_str(&millrace_config::json_schema()).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("millrace.json", schema).unwrap();
    let index = compiler.compile("millrace.json", &mut schemas).unwrap();
    let document: toml::Table = text.parse().unwrap();
    let value = serde_json::to_value(document).unwrap();
    schemas.validate(&value, index).map_err(|error| format!("{error:#}"))
}

#[test]
fn the_example_is_valid() {
    verdict(EXAMPLE).unwrap();
}

#[test]
fn slips_in_one_key_are_not() {
    for (from, to) in [
        ("mtu_bytes", "mtu"),
        ("name      = \"wan\"", ""),
        ("schema_version = 1", "schema_version = 2"),
        ("\"immediate\"", "\"sometimes\""),
        ("deadline_ms = 900", "deadline_ms = 3001"),
        ("addresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]", "addresses = \"192.0.2.1/24\""),
        ("interval_ms", "interval_ms"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let verdict = verdict(&EXAMPLE.replacen(from, to, 1));
        assert_eq!(verdict.is_ok(), from == to, "{from} -> {to}: {verdict:?}");
    }
}

#[test]
fn every_key_says_what_it_is_for() {
    fn walk(path: &str, value: &Value, silent: &mut Vec<String>) {
        if let Some(properties) = value["properties"].as_object() {
            for (key, property) in properties {
                if property["description"].as_str().is_none_or(str::is_empty) {
                    silent.push(format!("{path}.{key}"));
                }
            }
        }
        for (key, definition) in value["$defs"].as_object().into_iter().flatten() {
            walk(key, definition, silent);
        }
    }
    let mut silent = Vec::new();
    walk("", &serde_json::from_str(&millrace_config::json_schema()).unwrap(), &mut silent);
    assert!(silent.is_empty(), "{silent:?}");
}

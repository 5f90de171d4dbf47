//! Whatever the bytes are, reading them gives a configuration or a report whose places lie in the text.

use millrace_config::Config;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("edge.toml");

/// What a fuzzer runs: no panic, and a report that can be shown both ways.
fn fuzz(data: &[u8]) {
    let Err(report) = Config::from_bytes("any.toml", data) else { return };
    assert!(!report.diagnostics().is_empty());
    for diagnostic in report.diagnostics() {
        assert!(diagnostic.span.start <= diagnostic.span.end);
        // A text that isn't UTF-8 is shown up to its first mistake, and a mark of three bytes.
        assert!(diagnostic.span.end <= data.len() + 3, "{:?}", diagnostic.span);
        assert!(!diagnostic.message.is_empty());
    }
    let errors = report.to_json();
    assert_eq!(errors.as_array().map(Vec::len), Some(report.diagnostics().len()));
    assert!(errors.as_array().into_iter().flatten().all(|error| error["line"].as_u64() >= Some(1)));
    assert!(report.human(true).contains("in any.toml"));
}

/// Pieces that the example is made of, so that what is put together is nearly right.
fn pieces() -> Vec<String> {
    let lines = EXAMPLE.lines().map(|line| format!("{line}\n"));
    let words = EXAMPLE.split_whitespace().map(|word| format!("{word} "));
    let edges = [
        "\"",
        "'''",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        "\n",
        "\u{0}",
        "\u{feff}",
        "é",
        "[[",
        "]]",
        "99999999999999999999",
        "-1",
        "1e9",
        "1979-05-27",
        "inf",
    ];
    lines.chain(words).chain(edges.map(String::from)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&data);
    }

    #[test]
    fn pieces_of_a_file(parts in prop::collection::vec(prop::sample::select(pieces()), 0..60)) {
        fuzz(parts.concat().as_bytes());
    }

    #[test]
    fn a_file_with_a_wound(at in 0..EXAMPLE.len(), len in 0usize..40, new in prop::collection::vec(any::<u8>(), 0..8)) {
        let end = (at + len).min(EXAMPLE.len());
        let data = [&EXAMPLE.as_bytes()[..at], &new, &EXAMPLE.as_bytes()[end..]].concat();
        fuzz(&data);
    }
}

#[test]
fn known_hard_texts() {
    for text in [
        "[a]\n[a]",
        "a.b=1\na=2",
        "a=[[[[[[[[",
        "[[a]]\n[a]\n[[a]]",
        "[[a]]\na=1",
        "[a.b]\n[a]\nb=1\n[a.b.c]",
        "a = {b = {c = {}}, b.d = 1}",
        "port = [1, {}, []]",
        "[[port]]\n[port.vlans]\n",
        "\u{feff}schema_version = 1",
        "a = '''",
        "[",
        "[[",
        "=",
        "\\",
        "port.name = 1\n[[port]]\n",
        "[[port]]\n[[port.vlans]]\n[port]\n",
    ] {
        fuzz(text.as_bytes());
    }
    fuzz("[".repeat(100_000).as_bytes());
    fuzz(format!("a = {}", "{b=".repeat(10_000)).as_bytes());
    fuzz(format!("{} = 1", "a.".repeat(10_000)).as_bytes());
}

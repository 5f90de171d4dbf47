//! The directions in which a `use` may run, and where `unsafe` may stand: what the picture of the house promises.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// For each crate of ours: which others it may depend on. An arrow that is not here is not in the house.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("millrace-bier", &[]),
    ("millrace-config", &["millrace-bier"]),
    ("millrace-hub", &["millrace-bier"]),
    ("millrace-hub-store", &["millrace-hub"]),
    ("millrace-hub-node", &["millrace-bier", "millrace-hub", "millrace-hub-store"]),
    ("millrace-fastpath", &["millrace-bier"]),
    ("dpdk-sys", &[]),
    ("millrace-dpdk", &["millrace-fastpath", "dpdk-sys"]),
    ("millrace-orchestrator-api", &[]),
    ("millrace-orchestrator", &["millrace-orchestrator-api"]),
    ("millrace-serving", &["millrace-orchestrator-api"]),
    (
        "millrace-slowpath",
        &[
            "millrace-fastpath",
            "millrace-bier",
            "millrace-config",
            "millrace-hub",
            "millrace-hub-node",
            "millrace-hub-store",
            "millrace-orchestrator-api",
        ],
    ),
    (
        "millrace-hw-tests",
        &["millrace-fastpath", "millrace-dpdk", "millrace-bier", "millrace-config", "millrace-hub"],
    ),
    // The binary wires everything together; nothing depends on it.
    (
        "millrace",
        &[
            "millrace-bier",
            "millrace-config",
            "millrace-fastpath",
            "millrace-dpdk",
            "millrace-hub",
            "millrace-hub-node",
            "millrace-hub-store",
            "millrace-orchestrator",
            "millrace-orchestrator-api",
            "millrace-serving",
            "millrace-slowpath",
        ],
    ),
];

/// The only crates with `unsafe` in them.
const UNSAFE: [&str; 2] = ["dpdk-sys", "millrace-dpdk"];

/// Crates whose tests may use more of the house than they do themselves: end-to-end tests drive the whole of it; the ends
/// of the orchestrator link are tested against the real other end.
const WIDER_IN_TESTS: [(&str, &[&str]); 3] = [
    ("millrace", &["millrace-hw-tests"]),
    ("millrace-serving", &["millrace-orchestrator"]),
    ("millrace-slowpath", &["millrace-orchestrator", "millrace-serving"]),
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages(metadata: &Value) -> BTreeMap<&str, &Value> {
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (package["name"].as_str().unwrap(), package)).collect()
}

#[test]
fn crates_depend_only_in_the_drawn_directions() {
    let metadata = metadata();
    let packages = packages(&metadata);
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        // Functions are guests: they know the world they run in, and nothing of ours.
        let guest = name.starts_with("function-").then_some(&[][..]);
        let Some(allowed) = allowed.get(name).copied().or(guest) else {
            wrong.push(format!("{name} is not in the picture of the house"));
            continue;
        };
        let in_tests = WIDER_IN_TESTS.iter().find(|(who, _)| who == name).map_or(&[][..], |(_, more)| more);
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let only_tests = dependency["kind"] == "dev";
            let fine = allowed.contains(&on) || (only_tests && in_tests.contains(&on)) || on == *name;
            if packages.contains_key(on) && !fine {
                wrong.push(format!("{name} -> {on} ({})", if only_tests { "tests" } else { "code" }));
            }
        }
    }
    assert!(wrong.is_empty(), "directions that are not drawn: {wrong:#?}");
}

#[test]
fn pure_crates_do_no_io() {
    // `bier`, `hub` and `config` are bytes in, values out: no runtime, no sockets. What they may link is a short list, so name what
    // they must not.
    let metadata = metadata();
    let forbidden: BTreeSet<_> = ["tokio", "mio", "hyper", "tonic", "rustix", "libc", "smoltcp"].into();
    for package in ["millrace-bier", "millrace-hub", "millrace-config"] {
        for dependency in packages(&metadata)[package]["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            assert!(!forbidden.contains(name), "{package} depends on {name}");
        }
    }
}

#[test]
fn every_crate_takes_the_one_table_of_lints() {
    let metadata = metadata();
    for (name, package) in packages(&metadata) {
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        let own = manifest.contains("[lints]\nworkspace = true");
        assert!(
            own || UNSAFE.contains(&name) || name.starts_with("function-"),
            "{name} has lints of its own"
        );
    }
}

#[test]
fn unsafe_stands_only_in_the_driver() {
    let metadata = metadata();
    let mut found = Vec::new();
    for (name, package) in packages(&metadata) {
        if UNSAFE.contains(&name) {
            continue;
        }
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for below in ["src", "tests", "benches", "examples"] {
            look(&folder.join(below), &mut found);
        }
    }
    assert!(found.is_empty(), "`unsafe` outside {UNSAFE:?}: {found:#?}");
}

/// Collects the lines with the word `unsafe` as code in Rust files below a folder (comments and strings aside).
fn look(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            look(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().enumerate().filter(|(_, line)| uses_unsafe(line));
            found.extend(lines.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())));
        }
    }
}

fn uses_unsafe(line: &str) -> bool {
    // Escaped quotes neither open nor close a string.
    let line = line.replace("\\\"", "");
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "#[unsafe("]
        .iter()
        .any(|form| code.find(form).is_some_and(|at| code[..at].matches('"').count().is_multiple_of(2)))
}

#[test]
fn the_search_for_unsafe_finds_it() {
    assert!(uses_unsafe("    let x = unsafe { read(p) };"));
    assert!(uses_unsafe("pub unsafe fn rx()"));
    assert!(!uses_unsafe("// an unsafe fn would be wrong here"));
    assert!(!uses_unsafe("unsafe_code = \"forbid\""));
    assert!(!uses_unsafe("say(\"no unsafe fn here\")"));
}

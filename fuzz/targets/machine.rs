//! Any text about a machine: its topology becomes a plan that gives no core twice, or a report that can be printed. And any
//! text as one of the values that configurations and commands have: what is taken is written as it is read.
//!
//! What begins with a slash is a topology, as each of those is; its length says for which configuration.

#![no_main]

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millrace_config::Config;
use millrace_config::model::*;
use millrace_config::plan::Plan;
use millrace_config::topology::Topology;

static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
    let edge = include_str!("edge.toml");
    let fenced = edge.replace(
        "[roles]",
        "[cores]\ncontroller = { cpus = \"0\" }\ndataplane = { cpus = \"2-3\" }\n\n[roles]",
    );
    [edge.to_owned(), fenced]
        .map(|text| Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}")))
});

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.strip_prefix('/') {
        Some(_) => plan(&CONFIGS[text.len() % 2], text),
        None => values(text),
    }
});

fn plan(config: &Config, text: &str) {
    let topology = match Topology::parse("topology", text) {
        Ok(topology) => topology,
        Err(report) => {
            assert!(!report.diagnostics().is_empty());
            assert!(text.len() % 8 != 0 || !report.to_string().is_empty());
            return;
        }
    };
    let mut seen = BTreeSet::new();
    for core in &topology.cores {
        assert!(!core.cpus.is_empty() && topology.nodes.contains_key(&core.node));
        assert!(
            core.cpus.iter().all(|cpu| seen.insert(cpu) && !topology.forbidden.contains(cpu)),
            "cores overlap"
        );
    }
    match Plan::new(config, &topology) {
        Ok(plan) => {
            let mut taken = BTreeSet::new();
            for worker in &plan.cores.workers {
                assert!(seen.contains(&worker.cpu) && taken.insert(worker.cpu), "{worker:?}");
            }
            assert!(!plan.human(config).is_empty());
            assert!(plan.to_json(config).is_object());
        }
        Err(wrong) => assert!(!wrong.is_empty()),
    }
}

fn values(text: &str) {
    again::<CpuSet>(text);
    again::<Prefix>(text);
    again::<InterfaceAddress>(text);
    again::<MacAddr>(text);
    again::<Name>(text);
    again::<DnsName>(text);
    again::<ServicePort>(text);
    again::<PortRange>(text);
    again::<Device>(text);
    again::<Endpoint>(text);
    again::<StatusRange>(text);
    again::<ServerId>(text);
    if let Some(secrets) = cookie_secrets(text) {
        let lines: Vec<_> =
            secrets.iter().map(|secret| format!("{:032x}\n", u128::from_be_bytes(*secret))).collect();
        assert_eq!(cookie_secrets(&lines.concat()), Some(secrets));
    }
}

fn again<T: FromStr + Display + Debug + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{text:?} is written as {written:?}");
}

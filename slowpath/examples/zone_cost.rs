//! What a large zone file costs: time to read it and to build its table, and the memory of each.
//!
//! `cargo run --release -p millrace-slowpath --example zone_cost`. Every name has an address; every tenth is an alias, and
//! every hundredth a wildcard.

use std::fmt::Write;
use std::time::Instant;

use millrace_config::Config;
use millrace_config::zonefile::ZoneFile;
use millrace_fastpath::tables::names::HashKey;
use millrace_slowpath::{PortInfo, TableBuilder, TableFiles};

const NAMES: usize = 1_000_000;

const CONFIG: &str = r#"
schema_version = 1
[site]
name = "cost"
[[port]]
name = "wan"
device = "net_ring0"
addresses = ["192.0.2.1/24"]
[dns]
listen = ["192.0.2.53"]
[[dns.zone]]
name = "fn.example."
file = "large.zone"
"#;

fn main() {
    let config = Config::parse("cost.toml", CONFIG).expect("a sound configuration");
    let origin = &config.dns.as_ref().expect("it has a [dns]").zones[0].name;
    let text = zone_text();
    let at_start = resident_mib();
    let begin = Instant::now();
    let file = ZoneFile::parse(text.as_bytes(), origin, 30).expect("a sound zone");
    println!(
        "read   {} records, {} MiB of text: {:?}",
        file.records.len(),
        text.len() >> 20,
        begin.elapsed()
    );
    println!("       {} MiB", resident_mib() - at_start);
    let mut files = TableFiles::default();
    files.zones.insert(0, file);
    let port = PortInfo { name: "wan".into(), mac: [2, 0, 0, 0, 0, 1], mtu_bytes: 1500 };
    let begin = Instant::now();
    let builder = TableBuilder::new(&config, &[port], files, HashKey(1, 2)).expect("a sound zone");
    println!("build  {} names: {:?}", builder.tables().names.len(), begin.elapsed());
    println!("       {} MiB at most", peak_mib() - at_start);
    println!("       {} MiB in the end", resident_mib() - at_start);
}

fn zone_text() -> String {
    let mut text = String::from("@ SOA ns1 ops 1 3600 600 604800 5\n");
    for n in 0..NAMES {
        let _ = match n {
            n if n % 100 == 1 => {
                writeln!(text, "*.service-{n} A 10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)
            }
            n if n % 10 == 2 => writeln!(text, "service-{n} CNAME service-{}", n - 2),
            n => writeln!(text, "service-{n} A 10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255),
        };
    }
    text
}

fn status_mib(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) >> 10
}

fn resident_mib() -> usize {
    status_mib("VmRSS:")
}

fn peak_mib() -> usize {
    status_mib("VmHWM:")
}

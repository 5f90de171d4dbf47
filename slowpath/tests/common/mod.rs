//! The table of one zone file, read as the appliance reads it.

use std::path::Path;

use millrace_config::Config;
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::HashKey;
use millrace_slowpath::{PortInfo, TableBuilder, TableFiles};

const CONFIG: &str = r#"
schema_version = 1
[site]
name = "here"
[[port]]
name = "wan"
device = "net_ring0"
addresses = ["192.0.2.1/24"]
[dns]
listen = ["192.0.2.53"]
[[dns.zone]]
name = "fn.example."
ttl_seconds = 60
file = "fn.zone"
"#;

/// The names of `fn.example.` as this zone file has them, written to the folder.
pub(crate) fn names_of(zone: &str, folder: &Path) -> Names {
    std::fs::write(folder.join("fn.zone"), zone).unwrap();
    let config = Config::parse("edge.toml", CONFIG).unwrap_or_else(|report| panic!("{report}"));
    let files = TableFiles::read(&config, folder).unwrap();
    let port = PortInfo { name: "wan".into(), mac: [2, 0, 0, 0, 0, 1], mtu_bytes: 1500 };
    let builder = TableBuilder::new(&config, &[port], files, HashKey(1, 2)).unwrap();
    builder.tables().names.clone()
}

//! Configuration of Millrace: one TOML file to checked types, the difference between two such files, and
//! the plan of a machine's cores.
//!
//! This crate reads no file and asks no system: texts come in, values or reports go out. So what an operator will be
//! told can be tested, fuzzed, and asked for a machine that is elsewhere.
//!
//! ```text
//!                      ┌─ read ──────────┐   ┌─ check ──────────────┐
//!  edge.toml ──► TOML ─┤ each key alone: ├──►│ keys together: names,├──► Config ──┐
//!                      │ type, range     │   │ addresses, families  │             │
//!                      └───────┬─────────┘   └──────────┬───────────┘             ├──► plan::Plan
//!                              └─► Report: every error ◄┘                         │
//!  captured topology ────────────────────────────────► topology::Topology ────────┘
//! ```
//!
//! - The file's keys, their documentation, defaults and ranges are declared once, in `raw.rs`. The reader and the JSON
//!   Schema ([`json_schema`]) both come from there.
//! - A [`Config`] can't be wrong in itself: references have been resolved, addresses are used once, numbers are
//!   within [`limits`]. What it says is in [`model`].
//! - A [`Report`] names *everything* that is wrong, in the order of the file, and one mistake once: a key that hangs on
//!   another that couldn't be read isn't blamed.
//! - A [`Diff`] says what differs between two configurations, and what of it can be applied while the appliance runs.
//! - Zones may have files of their own; [`zonefile`] reads their text.
//! - What is agreed but not built yet is refused by its name ([`Code::NotBuilt`]), and the rest is checked as usual.
//!
//! ```
//! use millrace_config::{Code, Config};
//!
//! let text = r#"
//! schema_version = 1
//!
//! [site]
//! name = "edge-42"
//!
//! [[port]]
//! name = "wan"
//! device = "net_af_xdp0,iface=wan"
//! addresses = ["192.0.2.1/24"]
//!
//! [[route]]
//! to = "0.0.0.0/0"
//! via = "192.0.2.254"
//! "#;
//! let config = Config::parse("edge.toml", text)?;
//! assert_eq!(config.port(config.routes[0].interface.port).name.as_str(), "wan");
//!
//! let report = Config::parse("edge.toml", &text.replace("192.0.2.254", "203.0.113.1")).unwrap_err();
//! assert_eq!(report.diagnostics()[0].code, Code::NotOnLink);
//! # Ok::<(), millrace_config::Report>(())
//! ```
//!
//! Limits: a file has at most [`limits::FILE_BYTES_MAX`] bytes, and every table in it a `_MAX` of its own. Numbers of CPUs
//! stay below [`limits::CPUS_MAX`]. Whether a device, a path or a host exists is for the appliance to find out.

mod check;
pub mod diff;
pub mod domainfile;
mod grammar;
mod leaf;
pub mod limits;
pub mod model;
mod parse;
pub mod plan;
mod raw;
mod read;
mod report;
mod schema;
pub mod topology;
mod value;
pub mod zonefile;

pub use diff::Diff;
pub use model::Config;
pub use report::{Code, Diagnostic, Origin, Report};
pub use schema::json_schema;
pub use value::ValueError;

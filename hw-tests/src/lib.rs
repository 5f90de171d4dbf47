//! Loopback tests and benchmarks: the hosts, the traffic and the reports that show what Millrace does.
//!
//! ```text
//!   lab    test hosts out of network namespaces, processes, captures; knows nothing of Millrace
//!   edge   one edge location in a lab: clients, appliance, serving node, upstream name server
//!   domain five routers of a BIER domain, a source and listeners
//!   content a source beyond a WAN, a hub, and nodes behind an access switch
//!   demo   the main job, shown to a person, its figures written for scripts
//!   bench  what frames cost, beside peers
//! ```
//!
//! Everything here runs on one machine, in namespaces it makes and removes itself. Figures are ratios within one
//! run; absolute rates of a machine with two CPUs and no network card promise nothing.

pub mod bench;
pub mod content;
pub mod demo;
pub mod domain;
pub mod edge;
pub mod lab;

//! The configuration as checked types: what the rest of the house reads.
//!
//! A [`Config`] can't be wrong in itself. Names that point at something have been resolved to an index, every
//! next hop is on-link, addresses are used once, and every number is within its limit. Names of fields are those of
//! the file, save that a time is a [`Duration`] and has lost its unit from its name (`ttl_seconds` is `ttl`).
//!
//! What the file can't know is left to the reader: whether a device exists, whether a file can be opened, and which
//! CPUs there are (see [`crate::plan`]).

mod bier;
mod dns;
mod health;
mod hub;
mod network;
mod service;
mod system;

pub use bier::*;
pub(crate) use bier::{bier_ours, bier_seed};
pub use dns::*;
pub use health::*;
pub use hub::*;
pub use network::*;
pub use service::*;
pub use system::*;

pub use crate::value::address::{InterfaceAddress, MacAddr, Prefix};
pub use crate::value::bfr_ids::BfrIds;
pub use crate::value::cpus::{CpuId, CpuSet};
pub use crate::value::http::{HttpPath, StatusRange};
pub use crate::value::name::{DnsName, Name};
pub use crate::value::port::{PortRange, Protocol, ServicePort};
pub use crate::value::reference::{Device, Endpoint, SecretRef};
pub use crate::value::server_id::ServerId;

#[cfg(doc)]
use std::time::Duration;

/// The whole configuration of one appliance.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which edge location this is.
    pub site: Site,
    /// What the physical cores do.
    pub cores: Cores,
    /// Hugepages and frames.
    pub memory: Memory,
    /// The Ethernet ports, in the order of the file; [`PortIndex`] counts them. At least one.
    pub ports: Vec<Port>,
    /// Static routes. Those of connected networks follow from the ports' addresses and aren't listed.
    pub routes: Vec<Route>,
    /// Static neighbours.
    pub neighbours: Vec<StaticNeighbour>,
    /// Which parts run.
    pub roles: Roles,
    /// Names, if this appliance answers for any.
    pub dns: Option<Dns>,
    /// Functions; [`FunctionIndex`] counts them.
    pub functions: Vec<Function>,
    /// Services, in the order of the file.
    pub services: Vec<Service>,
    /// Port translation, for services with [`SourceMode::Appliance`].
    pub nat: Nat,
    /// Bounds of tables and rates.
    pub limits: Limits,
    /// Bit index explicit replication, if this appliance does any.
    pub bier: Option<Bier>,
    /// The content hub, if this appliance is one.
    pub hub: Option<Hub>,
    /// The link to the orchestrator.
    pub orchestrator: Orchestrator,
    /// Metrics, control socket and log.
    pub telemetry: Telemetry,
}

impl Config {
    /// The port that an index stands for.
    pub fn port(&self, index: PortIndex) -> &Port {
        &self.ports[index.0]
    }

    /// The function that an index stands for.
    pub fn function(&self, index: FunctionIndex) -> &Function {
        &self.functions[index.0]
    }

    /// The interface whose network an address is on-link in, by the longest prefix.
    pub fn on_link(&self, addr: std::net::IpAddr) -> Option<Interface> {
        on_link(&self.ports, addr)
    }
}

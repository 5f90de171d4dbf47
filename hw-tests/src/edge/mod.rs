//! One edge location in a lab: clients, the appliance, a serving node, an upstream name server.
//!
//! ```text
//!   client                                appliance                                    function
//!   lo   10.1.0.0/24 .. 10.8.0.0/24       (no kernel address on its ports)
//!   eth0 192.0.2.2 ─────────────── wan 192.0.2.1      lan 198.51.100.1 ─────────── eth0 198.51.100.21
//!        2001:db8::2                   2001:db8::1        2001:db8:1::1                 2001:db8:1::21
//!                                   upstream 172.16.53.1
//!                                            2001:db8:2::1     mgmt 192.168.99.1 ═══════ mgmt 192.168.99.2
//!                                         │                    (kernel; the orchestrator link)
//!                                     resolver
//!                                     eth0 172.16.53.53, 2001:db8:2::53 (Knot DNS, zone example.)
//! ```
//!
//! With [`Shape::OnePort`] there is no lan: client and function host sit on one switch behind wan, the function
//! host as 192.0.2.21 and 2001:db8::21.

mod appliance;
pub mod client;
mod decapsulator;
mod fates;
mod second;
mod serving;
mod site;
mod wakes;
pub mod web;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::{Capture, Certificates, Host, Lab, LabError, NameServer, command, unreadable};

pub use appliance::{Appliance, Orchestrator};
pub use decapsulator::Decapsulator;
pub use fates::{Fates, Unexplained};
pub use second::Second;
pub use serving::ServingNode;
pub use site::{Driver, Function, Link, Port, Role, Service, Site};
pub use wakes::Wake;

/// The address that the appliance answers DNS at, IPv4 and IPv6; on the wan network, and not a port's own.
pub const DNS: [&str; 2] = ["192.0.2.53", "2001:db8::53"];
/// The upstream name server, and a name only it knows.
pub const RESOLVER: [&str; 2] = ["172.16.53.53", "2001:db8:2::53"];
/// The appliance's own addresses on wan.
pub const WAN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// The client's addresses on wan.
pub const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// The orchestrator link in the appliance's namespace.
pub const MANAGEMENT: &str = "192.168.99.1";
/// Client networks behind wan, each a /24: `10.1.0.0/24` to `10.8.0.0/24`.
pub const CLIENT_PREFIXES: u8 = 8;
/// Client addresses in each of them, from `.10` on.
pub const CLIENTS_PER_PREFIX: u8 = 25;

/// Frames of each interface that [`Edge::watch`] keeps: a megabyte each way, and some seconds of a load.
const WATCHED_MAX: usize = 4000;

/// How the appliance is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Ports wan and lan (and up).
    TwoPort,
    /// Clients and instances on one network, behind port wan (and up).
    OnePort,
}

/// The hosts and wires of one edge location.
#[derive(Debug)]
pub struct Edge {
    /// Where clients run.
    pub client: Host,
    /// Where `millrace run` runs.
    pub appliance: Host,
    /// Where `millrace serve` runs.
    pub function: Host,
    /// Where the upstream name server runs.
    pub resolver: Host,
    /// Certificates for the orchestrator link.
    pub certificates: Certificates,
    /// How the appliance is connected.
    pub shape: Shape,
    upstream: NameServer,
    watch: Vec<Capture>,
    lab: Lab,
}

impl Edge {
    /// Builds hosts, wires, addresses and routes, and starts the upstream name server.
    ///
    /// # Errors
    /// [`LabError`] with the step that failed.
    pub fn new(shape: Shape) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        // Clients and servers stay on the first CPU; the appliance's worker takes the last one by itself.
        let client = lab.host("client")?.on_cpu(0);
        let appliance = lab.host("appliance")?;
        let function = lab.host("function")?.on_cpu(0);
        let resolver = lab.host("resolver")?.on_cpu(0);
        appliance.wire("upstream", &resolver, "eth0")?;
        appliance.wire("mgmt", &function, "mgmt")?;
        appliance.address("mgmt", "192.168.99.1/30")?;
        function.address("mgmt", "192.168.99.2/30")?;
        match shape {
            Shape::TwoPort => {
                appliance.wire("wan", &client, "eth0")?;
                appliance.wire("lan", &function, "eth0")?;
                appliance.leave_to_dpdk("lan")?;
            }
            Shape::OnePort => {
                let switch = lab.host("switch")?;
                switch.run("ip link add bridge type bridge mcast_snooping 0 stp_state 0")?;
                switch.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
                switch.run("ip link set bridge up")?;
                appliance.wire("wan", &switch, "edge")?;
                client.wire("eth0", &switch, "client")?;
                function.wire("eth0", &switch, "function")?;
                for port in ["edge", "client", "function"] {
                    switch.run(&format!("ip link set {port} master bridge"))?;
                }
            }
        }
        appliance.leave_to_dpdk("wan")?;
        appliance.leave_to_dpdk("upstream")?;

        client.address("eth0", "192.0.2.2/24")?;
        client.address("eth0", "2001:db8::2/64")?;
        add_client_prefixes(&lab, &client)?;
        client.route("default", WAN[0])?;
        client.route("default", WAN[1])?;
        lab.set_resolver(&client, DNS[0])?;
        let (addresses, gateways) = match shape {
            Shape::TwoPort => (["198.51.100.21/24", "2001:db8:1::21/64"], ["198.51.100.1", "2001:db8:1::1"]),
            Shape::OnePort => (["192.0.2.21/24", "2001:db8::21/64"], WAN),
        };
        for (address, gateway) in addresses.iter().zip(gateways) {
            function.address("eth0", address)?;
            function.route("default", gateway)?;
        }
        resolver.address("eth0", "172.16.53.53/24")?;
        resolver.address("eth0", "2001:db8:2::53/64")?;
        resolver.route("default", "172.16.53.1")?;
        resolver.route("default", "2001:db8:2::1")?;

        let upstream = NameServer::start(&lab, &resolver, &RESOLVER, "example.", &upstream_records())?;
        let certificates = Certificates::new(&lab)?;
        Ok(Edge {
            client,
            appliance,
            function,
            resolver,
            certificates,
            shape,
            upstream,
            watch: Vec::new(),
            lab,
        })
    }

    /// Captures what clients and the function host send and receive from now on, each up to some thousand frames.
    ///
    /// # Errors
    /// [`LabError`] where an interface can't be captured.
    pub fn watch(&mut self) -> Result<(), LabError> {
        for host in [&self.client, &self.function] {
            self.watch.push(Capture::start_first(&self.lab, host, "eth0", WATCHED_MAX)?);
        }
        Ok(())
    }

    /// Ends what [`Self::watch`] began, and has tshark look through that and every other capture of the lab.
    ///
    /// # Errors
    /// [`LabError::Malformed`] with what it found.
    pub fn inspect(&mut self) -> Result<(), LabError> {
        for capture in self.watch.drain(..) {
            capture.finish()?;
        }
        self.lab.inspect()
    }

    /// The lab below.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The upstream name server.
    #[must_use]
    pub fn upstream(&self) -> &NameServer {
        &self.upstream
    }

    /// The address where instances are reached, IPv4 and IPv6.
    #[must_use]
    pub fn instances(&self) -> [&'static str; 2] {
        match self.shape {
            Shape::TwoPort => ["198.51.100.21", "2001:db8:1::21"],
            Shape::OnePort => ["192.0.2.21", "2001:db8::21"],
        }
    }
}

/// Records of the upstream's zone: `www`, and `hostNNN` for many different questions.
fn upstream_records() -> String {
    let mut records = String::from("www A 198.51.100.80\nwww AAAA 2001:db8:1::80\n");
    for host in 0..=255 {
        records.push_str(&format!("host{host:03} A 198.51.100.{host}\n"));
    }
    records
}

/// Gives the client host its 200 addresses in eight networks, in one call of `ip`.
fn add_client_prefixes(lab: &Lab, client: &Host) -> Result<(), LabError> {
    let mut batch = String::new();
    for prefix in 1..=CLIENT_PREFIXES {
        for address in 10..10 + CLIENTS_PER_PREFIX {
            batch.push_str(&format!("address add 10.{prefix}.0.{address}/32 dev lo\n"));
        }
    }
    let path = lab.write("client-addresses.txt", &batch)?;
    command::succeed(client.command("ip").arg("-batch").arg(Path::new(&path))).map(drop)
}

/// The folder that cargo builds into, seen from a program of ours in `TARGET/PROFILE`.
#[must_use]
pub fn target(binary: &Path) -> PathBuf {
    binary.ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// The component of an example function.
///
/// # Errors
/// [`LabError::Unreadable`] where `make functions` has not built it.
pub fn component(binary: &Path, name: &str) -> Result<PathBuf, LabError> {
    let path = target(binary).join(format!("wasm32-wasip2/release/function_{name}.wasm"));
    if path.exists() {
        Ok(path)
    } else {
        Err(unreadable("no component; `make functions` builds it", path.display()))
    }
}

/// The row with this `name` in what `millrace show WHAT --json` says.
#[must_use]
pub fn row(shown: &Value, what: &str, name: &str) -> Option<Value> {
    let rows = shown.as_array().or_else(|| shown.get(what)?.as_array())?;
    rows.iter().find(|row| row["name"] == name).cloned()
}

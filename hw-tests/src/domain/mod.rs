//! A BIER domain in a lab: five routers, each a `millrace run` of its own, a source in front of one and listeners behind three.
//!
//! ```text
//!   source ── r1 ─┬─ 10 ── r2 ── 10 ── r4 ── h4        r2 ──  9 ── r3
//!                 │                    │               r2 ── 20 ── r5
//!                 │                    9               r3 ── 15 ── r4
//!                 │                    │
//!                 └─ 10 ── r3 ── 10 ── r5 ── h5
//!                           └── h3
//! ```
//!
//! There is a ring of the same routers, too, whose costs leave no neighbour of r1 that could stand in for r2 on the way to r4:
//!
//! ```text
//!   source ── r1 ─── 5 ── r2 ── 5 ─── r4 ── h4
//!             │                       12
//!             └ 10 ─ r3 ─ 10 ── r5 ───┘           h3 behind r3, h5 behind r5
//! ```
//!
//! Router `n` has BFR-id `n` and BFR-prefix `10.255.0.n` (or `2001:db8:ff::n`). A flow over IPv4 enters at r1 for r4 and r5, one over IPv6 for r3 and r5;
//! listeners of both are behind each of the three, so that what goes astray is heard.

mod configuration;
mod live;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::edge::{Appliance, Driver, Fates};
use crate::lab::{Host, Lab, LabError, Look, unreadable, wait_until};

use configuration::{Plan, Receivers};
pub use live::Live;
pub use stream::{Heard, Listeners, Stream};

/// How many routers there are.
pub const ROUTERS: usize = 5;
/// The routers with hosts behind them.
pub const EDGES: [usize; 3] = [3, 4, 5];
/// A link: two routers, and the cost.
pub type Wire = (usize, usize, u32);
/// No way is as long as another, and whatever link fails on the way of a stream, a neighbour takes over.
pub const MESH: [Wire; 8] =
    [(1, 2, 10), (1, 3, 10), (2, 3, 9), (2, 4, 10), (3, 5, 10), (2, 5, 20), (3, 4, 15), (4, 5, 9)];

/// When the link between 1 and 2 fails, all that reaches 3 for 4 would come back to 1. What reaches 5 for 4 goes on, and no way to 5 leads
/// over that link.
pub const RING: [Wire; 5] = [(1, 2, 5), (2, 4, 5), (4, 5, 12), (3, 5, 10), (1, 3, 10)];

/// Who stands in when a link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backups {
    /// Neighbours alone.
    Near,
    /// Where no neighbour can, routers further away, through tunnels over UDP.
    Udp,
    /// Through tunnels over IPv6.
    Ipv6,
}

/// How long neighbours get to find each other.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// The running domain.
#[derive(Debug)]
pub struct Domain {
    routers: Vec<Appliance>,
    /// Where they run.
    places: Vec<Host>,
    source: Host,
    /// As [`EDGES`].
    hosts: Vec<Host>,
    topology: PathBuf,
    plan: Plan,
    lab: Lab,
}

impl Domain {
    /// Builds hosts and wires, starts the five routers, and waits until each knows where its neighbours are.
    ///
    /// # Errors
    /// [`LabError`] with the step that failed.
    pub fn new(binary: &Path, driver: Driver) -> Result<Self, LabError> {
        Self::with(binary, driver, Plan { wires: &MESH, receivers: Receivers::Given, backups: Backups::Near })
    }

    /// The same, where router 1 learns from the others who gets a flow, and they from their hosts.
    ///
    /// # Errors
    /// As with [`Domain::new`].
    pub fn learning(binary: &Path, driver: Driver) -> Result<Self, LabError> {
        Self::with(
            binary,
            driver,
            Plan { wires: &MESH, receivers: Receivers::Learnt, backups: Backups::Near },
        )
    }

    /// The ring.
    ///
    /// # Errors
    /// As with [`Domain::new`].
    pub fn ring(binary: &Path, driver: Driver, backups: Backups) -> Result<Self, LabError> {
        Self::with(binary, driver, Plan { wires: &RING, receivers: Receivers::Given, backups })
    }

    fn with(binary: &Path, driver: Driver, plan: Plan) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let routers = (1..=ROUTERS).map(|number| lab.host(&name(number)));
        let routers = routers.collect::<Result<Vec<_>, _>>()?;
        for (a, b, _) in plan.wires.iter().copied() {
            routers[a - 1].wire(&name(b), &routers[b - 1], &name(a))?;
            routers[a - 1].leave_to_dpdk(&name(b))?;
            routers[b - 1].leave_to_dpdk(&name(a))?;
        }
        let behind = |router: usize, host: &str| -> Result<Host, LabError> {
            let made = lab.host(host)?.on_cpu(0);
            let router_host = &routers[router - 1];
            router_host.wire("edge", &made, "eth0")?;
            router_host.leave_to_dpdk("edge")?;
            let [v4, v6] = configuration::host_addresses(router);
            made.address("eth0", &format!("{v4}/24"))?;
            made.address("eth0", &format!("{v6}/64"))?;
            let [v4, v6] = configuration::edge_addresses(router);
            made.route("default", &v4)?;
            made.route("default", &v6)?;
            Ok(made)
        };
        let source = behind(1, "source")?;
        let hosts = EDGES.iter().map(|number| behind(*number, &format!("h{number}")));
        let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        let topology = lab.write("domain.toml", &configuration::topology(&plan))?;
        let mut running = Vec::new();
        for (number, host) in (1..).zip(&routers) {
            let socket = lab.folder().join(format!("{}.sock", name(number)));
            let text = configuration::router(number, driver, &plan, &socket);
            let file = lab.write(&format!("{}.toml", name(number)), &text)?;
            running.push(Appliance::launch(host, binary, &file, &socket, driver)?);
        }
        // All start at the same time, for each takes seconds.
        for router in &running {
            router.wait_until_up()?;
        }
        let domain = Domain { routers: running, places: routers, source, hosts, topology, plan, lab };
        domain.wait_for_neighbours()?;
        Ok(domain)
    }

    /// A router, by its number.
    ///
    /// # Panics
    /// If there is no such router.
    #[must_use]
    pub fn router(&self, number: usize) -> &Appliance {
        &self.routers[number - 1]
    }

    /// The host behind a router; router 1 has the source.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host(&self, router: usize) -> &Host {
        match EDGES.iter().position(|edge| *edge == router) {
            Some(at) => &self.hosts[at],
            None if router == 1 => &self.source,
            None => panic!("nobody is behind router {router}"),
        }
    }

    /// A router's BFR-prefix.
    #[must_use]
    pub fn prefix(&self, router: usize) -> String {
        self.plan.prefix(router)
    }

    /// Where a router runs: its ports have the names of the routers at their other ends.
    ///
    /// # Panics
    /// If there is no such router.
    #[must_use]
    pub fn place(&self, router: usize) -> &Host {
        &self.places[router - 1]
    }

    /// The file with the domain's topology.
    #[must_use]
    pub fn topology(&self) -> &Path {
        &self.topology
    }

    /// The lab below.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Copies that all routers have given to the links between them so far.
    ///
    /// # Errors
    /// [`LabError`] where a router doesn't tell.
    pub fn link_frames(&self) -> Result<Vec<LinkFrames>, LabError> {
        let mut links = Vec::new();
        for (number, router) in (1..).zip(&self.routers) {
            let shown = router.show("bier")?;
            let rows = shown["counters"]["copies"].as_array().cloned();
            for row in rows.ok_or_else(|| unreadable("copies in show bier", &shown))? {
                let frames = row["copies"].as_u64().unwrap_or_default();
                let to = row["interface"].as_str().unwrap_or_default().to_owned();
                links.push(LinkFrames { from: name(number), to, frames });
            }
        }
        Ok(links)
    }

    /// Links of [`MESH`] that a packet of its own would take to each of these routers, one for one: what unicast costs.
    #[must_use]
    pub fn unicast_links(receivers: &[usize]) -> usize {
        receivers.iter().map(|receiver| configuration::distance(&MESH, 1, *receiver)).sum()
    }

    /// Takes the link between two routers down at the far end, or up, and waits until both of them take it for that.
    ///
    /// # Errors
    /// [`LabError`] where there is no such link, or a router doesn't see it.
    pub fn set_link(&self, near: usize, far: usize, up: bool) -> Result<(), LabError> {
        let to = if up { "up" } else { "down" };
        self.places[far - 1].run(&format!("ip link set dev {} {to}", name(near)))?;
        for (router, other) in [(near, far), (far, near)] {
            wait_until("a router to see a link", SETTLE_MAX, || match self.router(router).show("bier") {
                Ok(shown) if is_down(&shown, &self.prefix(other)) == Some(!up) => Look::Done(()),
                Ok(shown) => Look::NotYet(shown["neighbours"].to_string()),
                Err(error) => Look::NotYet(error.to_string()),
            })?;
        }
        Ok(())
    }

    /// The bit of the link of [`MESH`] from one router to another in sub-domain 1, which is of BIER-TE; bit `n` has router `n` deliver.
    #[must_use]
    pub fn link_bit(from: usize, to: usize) -> usize {
        configuration::link_bit(&MESH, from, to)
    }

    /// Ends all routers; the sum of their fates, each of which is whole.
    ///
    /// # Errors
    /// [`LabError`] where the fates of a router don't add up, or it doesn't end cleanly.
    pub fn conclude(self) -> Result<Vec<Fates>, LabError> {
        let fates = self.routers.iter().map(Appliance::fates).collect::<Result<Vec<_>, _>>()?;
        for router in self.routers {
            let status = router.stop()?;
            if !status.success() {
                return Err(unreadable("the end of a router", status));
            }
        }
        self.lab.inspect()?;
        Ok(fates)
    }

    fn wait_for_neighbours(&self) -> Result<(), LabError> {
        for router in &self.routers {
            wait_until("all neighbours to be found", SETTLE_MAX, || match router.show("bier") {
                Ok(shown) if are_found(&shown) => Look::Done(()),
                Ok(shown) => Look::NotYet(shown["neighbours"].to_string()),
                Err(error) => Look::NotYet(error.to_string()),
            })?;
        }
        Ok(())
    }
}

/// Frames that a router gave to one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFrames {
    /// The router.
    pub from: String,
    /// The router at the other end.
    pub to: String,
    /// How many.
    pub frames: u64,
}

fn are_found(shown: &Value) -> bool {
    let rows = shown["neighbours"].as_array().cloned().unwrap_or_default();
    !rows.is_empty() && rows.iter().all(|row| row["links"][0]["mac"].is_string())
}

/// Whether a router takes the neighbour of this prefix for down, of those that it has a link to.
fn is_down(shown: &Value, prefix: &str) -> Option<bool> {
    let rows = shown["neighbours"].as_array()?;
    rows.iter().find(|row| row["neighbour"] == *prefix)?["down"].as_bool()
}

fn name(number: usize) -> String {
    format!("r{number}")
}

//! Content on its way: a source beyond a WAN, a hub, and nodes behind the legs of an access switch.
//!
//! ```text
//!                    BIER                     BIER          payloads
//!   source ── ingress ══════ wan ══════ hub ══ trunk ══ switch ── leg1 ── node 2
//!   `hub send`  BFIR                    cache            a bit    leg2 ── node 3
//!                                                        a leg    leg3 ── node 4    `hub receive`
//! ```
//!
//! Three appliances. Losses are the nodes' own, behind their legs, so that what a leg carries is counted before.

mod configuration;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::edge::{Appliance, Driver, Fates};
use crate::lab::{Host, Lab, LabError, Look, Process, unreadable, wait_until};

/// How many nodes there are.
pub const NODES: usize = 3;
/// The source's address,
const SOURCE: &str = "10.8.0.2";
/// and the group that it sends to.
const WAN_GROUP: &str = "239.2.2.2";
/// The hub's address, to its source and to its nodes.
const HUB: &str = "10.255.0.2";
/// Its name in NORM.
const HUB_NUMBER: usize = 5;
/// The group that it sends to.
const SITE_GROUP: &str = "239.1.1.9";
/// Where its nodes' feedback goes: another port than its source's repairs come to, as a firewall would want it.
const FEEDBACK: u16 = 6004;
/// The session of FLUTE, where contents come and go by that.
pub const TSI: u64 = 7;
/// The number in BIER of the first leg.
const FIRST_BIT: usize = 66;
/// How long neighbours get to find each other, and contents to arrive.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// The lab, running. Fields go in this order.
#[derive(Debug)]
pub struct Content {
    /// Ingress, hub, switch.
    appliances: Vec<Appliance>,
    receivers: Vec<Process>,
    source: Host,
    hub: Host,
    switch: Host,
    nodes: Vec<Host>,
    binary: PathBuf,
    driver: Driver,
    profile: Profile,
    lab: Lab,
}

/// How contents are sent, over the WAN and at the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// By NORM: who misses something says so.
    Norm,
    /// By FLUTE: nobody answers.
    Flute,
}

/// Bytes that a link has carried, Ethernet headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// From the source to the nodes.
    pub down: u64,
    /// Back.
    pub up: u64,
}

fn number(node: usize) -> usize {
    node + 2
}

fn leg(node: usize) -> String {
    format!("leg{}", node + 1)
}

/// Three bytes of the addresses of a leg.
fn network(node: usize) -> String {
    format!("10.9.{}", number(node))
}

impl Content {
    /// Builds hosts and wires, starts the appliances, and waits until each knows where its neighbours are. `bits_per_second` is
    /// what the hub sends to the site.
    ///
    /// # Errors
    /// [`LabError`] with the step that failed.
    pub fn new(binary: &Path, driver: Driver, bits_per_second: u64) -> Result<Self, LabError> {
        Self::of(Profile::Norm, binary, driver, bits_per_second)
    }

    /// The same where contents are sent like this.
    ///
    /// # Errors
    /// [`LabError`] with the step that failed.
    pub fn of(
        profile: Profile,
        binary: &Path,
        driver: Driver,
        bits_per_second: u64,
    ) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let [source, ingress, hub, switch] =
            ["source", "ingress", "hub", "switch"].map(|name| lab.host(name).and_then(quiet));
        let (source, ingress, hub, switch) = (source?, ingress?, hub?, switch?);
        source.wire("eth0", &ingress, "source")?;
        source.address("eth0", &format!("{SOURCE}/24"))?;
        source.route("default", "10.8.0.1")?;
        ingress.wire("wan", &hub, "wan")?;
        hub.wire("trunk", &switch, "trunk")?;
        for (host, interface) in
            [(&ingress, "source"), (&ingress, "wan"), (&hub, "wan"), (&hub, "trunk"), (&switch, "trunk")]
        {
            host.leave_to_dpdk(interface)?;
        }
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let host = quiet(lab.host(&format!("node{}", number(node)))?)?;
            switch.wire(&leg(node), &host, "eth0")?;
            switch.leave_to_dpdk(&leg(node))?;
            host.address("eth0", &format!("{}.2/24", network(node)))?;
            host.route("default", &format!("{}.1", network(node)))?;
            nodes.push(host);
        }
        let socket = |host: &Host| lab.folder().join(format!("{}.sock", host.name()));
        let mut appliances = Vec::new();
        for (host, text) in [
            (&ingress, configuration::ingress(driver, &socket(&ingress))),
            (&hub, configuration::hub(driver, profile, bits_per_second, &socket(&hub))),
            (&switch, configuration::switch(driver, &socket(&switch))),
        ] {
            let file = lab.write(&format!("{}.toml", host.name()), &text)?;
            appliances.push(Appliance::launch(host, binary, &file, &socket(host), driver)?);
        }
        for appliance in &appliances {
            appliance.wait_until_up()?;
        }
        let receivers = Vec::new();
        let binary = binary.to_owned();
        let content =
            Self { appliances, receivers, source, hub, switch, nodes, binary, driver, profile, lab };
        content.wait_for_neighbours()?;
        Ok(content)
    }

    fn wait_for_neighbours(&self) -> Result<(), LabError> {
        for appliance in &self.appliances[..2] {
            wait_until("BIER neighbours to be found", SETTLE_MAX, || {
                let shown = match appliance.show("bier") {
                    Ok(shown) => shown,
                    Err(error) => return Look::NotYet(error.to_string()),
                };
                let mut links = shown["neighbours"].as_array().into_iter().flatten().flat_map(|neighbour| {
                    neighbour["links"].as_array().into_iter().flatten().map(|link| link["mac"].is_string())
                });
                if links.all(|found| found) {
                    Look::Done(())
                } else {
                    Look::NotYet(shown["neighbours"].to_string())
                }
            })?;
        }
        Ok(())
    }

    /// The hub.
    ///
    /// # Panics
    /// If it was killed and isn't started again.
    #[must_use]
    pub fn hub(&self) -> &Appliance {
        &self.appliances[1]
    }

    /// The lab below.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What of a thousand datagrams to a node is lost from now on, behind its leg.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn lose(&self, node: usize, per_mille: u32) -> Result<(), LabError> {
        // What of it is data is counted by itself.
        let (data, lost) = ("iifname \"eth0\" udp length", format!("numgen random mod 1000 < {per_mille}"));
        let rule = format!("{data} >= 200 {lost} counter name lost drop\n{data} < 200 {lost} drop");
        let text = format!(
            "table inet lose {{\ncounter lost {{ }}\nchain arrive {{\ntype filter hook prerouting priority -300;\n{rule}\n}}\n}}\n"
        );
        let file = self.lab.write(&format!("lose{node}.nft"), &text)?;
        self.nodes[node].run(&format!("nft -f {}", file.display())).map(drop)
    }

    /// Packets with data that were lost behind a node's leg.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn lost(&self, node: usize) -> Result<u64, LabError> {
        let text = self.nodes[node].run("nft -j list counter inet lose lost")?;
        let shown: Value =
            serde_json::from_str(&text).map_err(|error| unreadable("a counter of nft", error))?;
        let rows = shown["nftables"].as_array().into_iter().flatten();
        let packets = rows.filter_map(|row| row["counter"]["packets"].as_u64()).next();
        packets.ok_or_else(|| unreadable("a counter of nft", text))
    }

    /// All nodes begin to receive; back once they listen.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn receive(&mut self) -> Result<(), LabError> {
        for node in 0..NODES {
            let receiver = self.receiver(node)?;
            self.receivers.push(receiver);
        }
        Ok(())
    }

    fn receiver(&self, node: usize) -> Result<Process, LabError> {
        let host = &self.nodes[node];
        let mut run = host.command(&self.binary);
        run.args(["hub", "receive", "--group", &format!("{SITE_GROUP}:6003"), "--interface", "eth0"]);
        run.args(["--hub", HUB, "--json"]);
        match self.profile {
            Profile::Norm => {
                run.args(["--hub-number", &HUB_NUMBER.to_string(), "--node", &number(node).to_string()])
            }
            Profile::Flute => run.args(["--tsi", &TSI.to_string()]),
        };
        run.arg("--into").arg(self.folder(node));
        let process = host.spawn("receive", &mut run)?;
        process.wait_until("it to listen", SETTLE_MAX, || match process.stdout().contains("listening") {
            true => Look::Done(()),
            false => Look::NotYet(process.stdout()),
        })?;
        Ok(process)
    }

    /// A node is killed, and receives again.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn restart_receiver(&mut self, node: usize) -> Result<(), LabError> {
        self.receivers[node].kill()?;
        self.receivers[node] = self.receiver(node)?;
        Ok(())
    }

    /// The hub is killed, and started again.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn restart_hub(&mut self) -> Result<(), LabError> {
        let killed = self.appliances.remove(1);
        killed.process().kill()?;
        drop(killed);
        // Its XDP programs outlive it.
        for interface in ["wan", "trunk"] {
            self.hub.run(&format!("ip link set dev {interface} xdp off"))?;
        }
        let folder = self.lab.folder();
        let (file, socket) = (folder.join("hub.toml"), folder.join("hub.sock"));
        let hub = Appliance::launch(&self.hub, &self.binary, &file, &socket, self.driver)?;
        self.appliances.insert(1, hub);
        self.hub().wait_until_up()
    }

    /// The trunk's link goes down, or up again.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn set_trunk(&self, up: bool) -> Result<(), LabError> {
        self.switch.run(&format!("ip link set dev trunk {}", if up { "up" } else { "down" })).map(drop)
    }

    /// The source begins to send a file to the hub.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn send(&self, file: &Path, bits_per_second: u64) -> Result<Process, LabError> {
        let mut run = self.source.command(&self.binary);
        run.args(["hub", "send", "--group", &format!("{WAN_GROUP}:6003"), "--interface", "eth0"]);
        run.args(["--address", SOURCE, "--hub-number", "7", "--hops", "8", "--content-version", "1"]);
        // Behind a BIER header of 256 bits it has to fit 1500 bytes.
        run.args(["--segment-bytes", "1392"]);
        run.args(["--nodes", &format!("{HUB_NUMBER}={HUB}"), "--json"]);
        run.args(["--bits-per-second", &bits_per_second.to_string()]);
        self.source.spawn("send", run.arg(file))
    }

    /// The source sends these datagrams to the hub, at this rate, each of them counted with what carries it.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn send_datagrams(&self, datagrams: &[Vec<u8>], bits_per_second: u64) -> Result<(), LabError> {
        let work = || {
            let socket = UdpSocket::bind((SOURCE, 0))?;
            socket.set_multicast_ttl_v4(8)?;
            let (begun, mut bits) = (Instant::now(), 0);
            for datagram in datagrams {
                let due = Duration::from_nanos(bits * 1_000_000_000 / bits_per_second);
                thread::sleep(due.saturating_sub(begun.elapsed()));
                socket.send_to(datagram, (WAN_GROUP, 6003))?;
                bits += 8 * (datagram.len() as u64 + 42);
            }
            Ok::<(), std::io::Error>(())
        };
        self.source.enter(work)?.map_err(|error| unreadable("the source's socket", error))
    }

    /// Waits until every node says that it has received something.
    ///
    /// # Errors
    /// [`LabError`] with what a node said instead.
    pub fn wait_until_received(&self, deadline: Duration) -> Result<(), LabError> {
        for receiver in &self.receivers {
            let received = || match receiver.stdout().contains("\"received\"") {
                true => Look::Done(()),
                false => Look::NotYet(receiver.stdout().lines().last().unwrap_or_default().to_owned()),
            };
            receiver.wait_until("it to have received everything", deadline, received)?;
        }
        Ok(())
    }

    /// Waits until the hub knows that every node has everything; its last status.
    ///
    /// # Errors
    /// [`LabError`] with the hub's last status.
    pub fn wait_until_done(&self, deadline: Duration) -> Result<Value, LabError> {
        wait_until("every node to have everything", deadline, || {
            let told = self.hub().ask("hub status --json");
            let status = told.map(|told| serde_json::from_str::<Value>(&told).unwrap_or_default());
            let status = match status {
                Ok(status) => status,
                Err(error) => return Look::NotYet(error.to_string()),
            };
            let contents = status["contents"].as_array().into_iter().flatten();
            let nodes = contents.flat_map(|one| one["nodes"].as_array().into_iter().flatten());
            let states: Vec<&Value> = nodes.map(|node| &node["state"]).collect();
            match states.len() >= NODES && states.iter().all(|state| *state == "acked") {
                true => Look::Done(status),
                false => Look::NotYet(status.to_string()),
            }
        })
    }

    /// The hub's status now.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn status(&self) -> Result<Value, LabError> {
        let told = self.hub().ask("hub status --json")?;
        serde_json::from_str(&told).map_err(|error| unreadable("the hub's status", error))
    }

    /// Where a node puts what it receives.
    #[must_use]
    pub fn folder(&self, node: usize) -> PathBuf {
        self.lab.folder().join(format!("contents{}", number(node)))
    }

    /// What the WAN's link has carried, then the trunk, then each leg.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn links(&self) -> Result<[Link; 2 + NODES], LabError> {
        let mut links = [Link::default(); 2 + NODES];
        links[0] = carried(&self.hub, "wan")?;
        links[1] = carried(&self.switch, "trunk")?;
        for (link, node) in links[2..].iter_mut().zip(&self.nodes) {
            *link = carried(node, "eth0")?;
        }
        Ok(links)
    }

    /// Stops all appliances, and looks whether every frame is explained.
    ///
    /// # Errors
    /// [`LabError`] if one didn't stop cleanly.
    pub fn conclude(mut self) -> Result<Vec<Fates>, LabError> {
        self.receivers.clear();
        let fates = self.appliances.iter().map(Appliance::fates).collect::<Result<Vec<_>, _>>()?;
        for appliance in self.appliances {
            appliance.stop()?;
        }
        self.lab.inspect()?;
        Ok(fates)
    }
}

/// A host without IPv6, which would say something on its own.
fn quiet(host: Host) -> Result<Host, LabError> {
    host.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
    host.sysctl("net.ipv6.conf.default.disable_ipv6=1")?;
    Ok(host)
}

/// What an interface has received (`down`) and sent (`up`).
fn carried(host: &Host, interface: &str) -> Result<Link, LabError> {
    let text = host.run(&format!("ip -j -s link show dev {interface}"))?;
    let shown: Value = serde_json::from_str(&text).map_err(|error| unreadable("a link's counters", error))?;
    let bytes = |way: &str| shown[0]["stats64"][way]["bytes"].as_u64();
    match (bytes("rx"), bytes("tx")) {
        (Some(down), Some(up)) => Ok(Link { down, up }),
        _ => Err(unreadable("a link's counters", text)),
    }
}

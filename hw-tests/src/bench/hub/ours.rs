//! Ours as it is meant: an appliance as the hub, whose packets get to the receivers in one of two ways.
//!
//! ```text
//!   bier      hub ══ BIER ══ an appliance as access switch, which has a bit for each leg ══ payloads
//!   ethernet  hub ══ a bridge ══ first copies to the group, repairs to the group in frames to one receiver's address
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::contender::{Contender, FRAME, RATE, SEGMENT, folder};
use super::site::{HUB, NODES, Site, leg_name, leg_network, number};
use super::transfer::DONE_MAX;
use crate::edge::{Appliance, Driver};
use crate::lab::{Host, Lab, LabError, Look, Process, wait_until};

/// The group that receivers join,
const GROUP: &str = "239.1.1.1";
/// and its port.
const PORT: u16 = 6003;
/// The access switch's address on the trunk.
const SWITCH: &str = "10.9.0.2";
/// The number in BIER of the first leg.
const FIRST_LEG: usize = 66;

/// With a bit string of 256 bits.
const BIER_HEADER: u64 = 44;
/// A segment in BIER: what an MTU of 1500 has room for, in whole words.
const SEGMENT_IN_BIER: u64 = 1396;

/// How packets get to the receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    Bier,
    Ethernet,
}

/// `millrace run` with a hub, and `millrace hub put`.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) binary: PathBuf,
    pub(super) carriage: Carriage,
}

impl Hub {
    fn launch(&self, lab: &Lab, host: &Host, text: &str) -> Result<Appliance, LabError> {
        let file = lab.write(&format!("{}.toml", host.name()), text)?;
        Appliance::launch(host, &self.binary, &file, &socket(lab, host), Driver::AfXdp)
    }
}

impl Contender for Hub {
    fn name(&self) -> &'static str {
        match self.carriage {
            Carriage::Bier => "hub by BIER",
            Carriage::Ethernet => "hub by Ethernet",
        }
    }

    fn segment(&self) -> u64 {
        match self.carriage {
            Carriage::Bier => SEGMENT_IN_BIER,
            Carriage::Ethernet => SEGMENT,
        }
    }

    fn site(&self) -> Result<Site, LabError> {
        let mut site = match self.carriage {
            Carriage::Bier => Site::routed()?,
            Carriage::Ethernet => {
                let site = Site::bridged()?;
                site.hub.run("ip address flush dev trunk")?;
                site.hub.leave_to_dpdk("trunk")?;
                site
            }
        };
        let (lab, hub) = (&site.lab, hub(self.carriage, &site.addresses, &socket(&site.lab, &site.hub)));
        let mut appliances = vec![self.launch(lab, &site.hub, &hub)?];
        if self.carriage == Carriage::Bier {
            appliances.push(self.launch(lab, &site.switch, &switch(&socket(lab, &site.switch)))?);
        }
        for appliance in &appliances {
            appliance.wait_until_up()?;
        }
        if self.carriage == Carriage::Bier {
            wait_for_neighbours(&appliances[0])?;
        }
        site.appliances = appliances;
        Ok(site)
    }

    fn receive(&self, site: &Site, node: usize) -> Result<Process, LabError> {
        let host = &site.nodes[node];
        let mut run = host.command(&self.binary);
        run.args(["hub", "receive", "--group", &format!("{GROUP}:{PORT}"), "--interface", "eth0"]);
        run.args(["--hub", HUB, "--json", "--node", &number(node).to_string(), "--into"]);
        let receiver = host.spawn("receive", run.arg(folder(site, node)?))?;
        receiver.wait_until("a receiver to listen", DONE_MAX, || said(&receiver, "listening"))?;
        Ok(receiver)
    }

    fn send(&self, site: &Site, file: &Path) -> Result<Process, LabError> {
        let mut run = site.hub.command(&self.binary);
        run.args(["hub", "put"]).arg(file).arg("-s").arg(socket(&site.lab, &site.hub));
        site.hub.spawn("put", &mut run)
    }

    fn has_all(&self, receiver: &Process) -> bool {
        said(receiver, "received")
    }

    fn finish(&self, site: &Site, _sender: &Process) -> Result<(), LabError> {
        wait_until("the hub to know that all have it", DONE_MAX, || {
            let told = site.appliances[0].ask("hub status --json");
            match told.map(|told| serde_json::from_str::<Value>(&told).unwrap_or_default()) {
                Ok(status) if is_over(&status) => Look::Done(()),
                Ok(status) => Look::NotYet(status.to_string()),
                Err(error) => Look::NotYet(error.to_string()),
            }
        })
    }
}

/// Whether an event has been printed.
fn said(process: &Process, event: &str) -> bool {
    process.stdout().contains(&format!("\"event\":\"{event}\""))
}

fn socket(lab: &Lab, host: &Host) -> PathBuf {
    lab.folder().join(format!("{}.sock", host.name()))
}

/// Whether every node has acknowledged what was put in.
fn is_over(status: &Value) -> bool {
    let nodes = status["contents"][0]["nodes"].as_array();
    nodes.is_some_and(|nodes| nodes.len() == NODES && nodes.iter().all(|node| node["state"] == "acked"))
}

fn wait_for_neighbours(hub: &Appliance) -> Result<(), LabError> {
    wait_until("the switch to be found", DONE_MAX, || match hub.show("bier") {
        Ok(shown) if shown["neighbours"][0]["links"][0]["mac"].is_string() => Look::Done(()),
        Ok(shown) => Look::NotYet(shown["neighbours"].to_string()),
        Err(error) => Look::NotYet(error.to_string()),
    })
}

fn site_of(name: &str, socket: &Path) -> String {
    format!(
        "schema_version = 1\n[site]\nname = \"{name}\"\n[orchestrator]\nkind = \"embedded\"\n\
         [telemetry]\ncontrol_socket = \"{}\"\n",
        socket.display()
    )
}

fn port(index: usize, name: &str, address: &str) -> String {
    let device = Driver::AfXdp.device(index, name, 1);
    format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\naddresses = [\"{address}/24\"]\n")
}

fn bier(prefix: &str, id: usize, table: &[String]) -> String {
    format!(
        "[bier]\nbfr_prefix = \"{prefix}\"\n[[bier.subdomain]]\nid = 0\nbfr_id = {id}\ntable = [\n{}]\n",
        table.concat()
    )
}

fn hub(carriage: Carriage, addresses: &[String], socket: &Path) -> String {
    let mut text = site_of("hub", socket);
    text.push_str("[hub]\nstore_path = \"store\"\nbudget_bytes = 1_000_000_000\n");
    let mut nodes = String::new();
    for (node, address) in addresses.iter().enumerate() {
        let bit = match carriage {
            Carriage::Bier => format!(", bfr_id = {}", FIRST_LEG + node),
            Carriage::Ethernet => String::new(),
        };
        let _ = writeln!(nodes, "  {{ id = {}, address = \"{address}\"{bit} }},", number(node));
    }
    // The rate is that of legs, which carry no header of BIER.
    let rate = match carriage {
        Carriage::Bier => {
            let frame = FRAME - SEGMENT + SEGMENT_IN_BIER;
            RATE * (frame + BIER_HEADER) / frame
        }
        Carriage::Ethernet => RATE,
    };
    let by = match carriage {
        Carriage::Bier => "carriage = \"bier\"\nsubdomain = 0",
        Carriage::Ethernet => "carriage = \"ethernet\"\nport = \"trunk\"",
    };
    let _ = writeln!(
        text,
        "[[hub.site]]\n{by}\ngroup = \"{GROUP}\"\nrate_bits_per_second = {rate}\nnodes = [\n{nodes}]"
    );
    match carriage {
        Carriage::Bier => {
            text.push_str(&port(0, "trunk", HUB));
            let ids = format!("2,{FIRST_LEG}-{}", FIRST_LEG + NODES - 1);
            let row =
                format!("  {{ neighbour = \"switch\", address = \"{SWITCH}\", bfr_ids = \"{ids}\" }},\n");
            text.push_str(&bier(HUB, 1, &[row]));
            let _ = writeln!(text, "[[route]]\nto = \"10.9.0.0/16\"\nvia = \"{SWITCH}\"");
        }
        Carriage::Ethernet => text.push_str(&port(0, "trunk", HUB)),
    }
    text
}

fn switch(socket: &Path) -> String {
    let mut text = site_of("switch", socket);
    text.push_str(&port(0, "trunk", SWITCH));
    let mut rows = vec![format!("  {{ neighbour = \"hub\", address = \"{HUB}\", bfr_ids = \"1\" }},\n")];
    for node in 0..NODES {
        let leg = leg_name(node);
        text.push_str(&port(node + 1, &leg, &format!("{}.1", leg_network(node))));
        let bit = FIRST_LEG + node;
        rows.push(format!(
            "  {{ neighbour = \"{leg}\", port = \"{leg}\", bfr_ids = \"{bit}\", encapsulation = \"none\" }},\n"
        ));
    }
    text.push_str(&bier(SWITCH, 2, &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appliances_are_told_what_is_a_configuration() {
        let addresses: Vec<String> =
            (0..NODES).map(|node| format!("{}.{}", leg_network(node), number(node))).collect();
        let socket = Path::new("/lab/hub.sock");
        for text in [
            hub(Carriage::Bier, &addresses, socket),
            hub(Carriage::Ethernet, &["10.9.0.11", "10.9.0.12", "10.9.0.13"].map(str::to_owned), socket),
            switch(socket),
        ] {
            let parsed = millrace_config::Config::parse("bench.toml", &text);
            assert!(parsed.is_ok(), "{:?}\n{text}", parsed.err());
        }
    }
}

//! Ours: the same receivers whoever sends to them.

use std::path::{Path, PathBuf};

use super::contender::{Contender, RATE, folder};
use super::site::{HUB, NODES, Site, number};
use super::transfer::DONE_MAX;
use crate::lab::{LabError, Process};

const GROUP: &str = "239.1.1.1:6003";

/// Ours without an appliance: `millrace hub send`, repairs by unicast.
#[derive(Debug)]
pub(super) struct HubSend {
    pub(super) binary: PathBuf,
}

impl Contender for HubSend {
    fn name(&self) -> &'static str {
        "hub send"
    }

    fn receive(&self, site: &Site, node: usize) -> Result<Process, LabError> {
        receive(&self.binary, site, node)
    }

    fn send(&self, site: &Site, file: &Path) -> Result<Process, LabError> {
        let nodes = (0..NODES).map(|node| format!("{}={}", number(node), site.addresses[node]));
        let mut run = site.hub.command(&self.binary);
        run.args(["hub", "send", "--group", GROUP, "--interface", "trunk", "--address", HUB]);
        run.args(["--bits-per-second", &RATE.to_string(), "--content-version", "1", "--json", "--nodes"]);
        run.arg(nodes.collect::<Vec<_>>().join(",")).arg(file);
        site.hub.spawn("send", &mut run)
    }

    fn has_all(&self, receiver: &Process) -> bool {
        has_all(receiver)
    }
}

/// `millrace hub receive`.
fn receive(binary: &Path, site: &Site, node: usize) -> Result<Process, LabError> {
    let host = &site.nodes[node];
    let mut run = host.command(binary);
    run.args(["hub", "receive", "--group", GROUP, "--interface", "eth0", "--hub", HUB, "--json"]);
    run.args(["--node", &number(node).to_string(), "--into"]).arg(folder(site, node)?);
    let receiver = host.spawn("receive", &mut run)?;
    receiver.wait_until("a receiver to listen", DONE_MAX, || said(&receiver, "listening"))?;
    Ok(receiver)
}

/// Whether a receiver says that it has verified all.
fn has_all(receiver: &Process) -> bool {
    said(receiver, "received")
}

/// Whether an event has been printed.
fn said(process: &Process, event: &str) -> bool {
    process.stdout().contains(&format!("\"event\":\"{event}\""))
}

//! The peers, as they come with Debian: UFTP, and NRL's NORM library with two small programs around it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::contender::{Contender, FRAME, RATE, SEGMENT, folder, wait_for_group};
use super::site::{NODES, Site, number};
use super::transfer::DONE_MAX;
use crate::lab::{LabError, Process, command, file};

/// What sockets ask to hold: as much as the library's receiver does.
pub(super) const BUFFER_BYTES: u64 = 4 << 20;

/// UFTP, at a fixed rate.
#[derive(Debug)]
pub(super) struct Uftp;

/// Bytes of a frame that it doesn't count when it paces: Ethernet's, IP's and UDP's headers, and a part of its own.
const UFTP_UNCOUNTED: u64 = 46;
/// What it counts of a frame.
const UFTP_COUNTED: u64 = SEGMENT + 18;
/// Where it announces files, unless told otherwise.
const UFTP_GROUP: &str = "230.4.4.1";

impl Contender for Uftp {
    fn name(&self) -> &'static str {
        "uftp"
    }

    fn receive(&self, site: &Site, node: usize) -> Result<Process, LabError> {
        let host = &site.nodes[node];
        let mut run = host.command("uftpd");
        run.args(["-d", "-q", "-I", "eth0", "-B", &BUFFER_BYTES.to_string(), "-U", &id(node), "-D"]);
        let receiver = host.spawn("uftpd", run.arg(folder(site, node)?))?;
        wait_for_group(&receiver, host, UFTP_GROUP)?;
        Ok(receiver)
    }

    fn send(&self, site: &Site, file: &Path) -> Result<Process, LabError> {
        let rate = RATE * UFTP_COUNTED / (UFTP_COUNTED + UFTP_UNCOUNTED) / 1000;
        let clients = (0..NODES).map(id).collect::<Vec<_>>().join(",");
        let mut run = site.hub.command("uftp");
        run.args([
            "-I",
            "trunk",
            "-B",
            &BUFFER_BYTES.to_string(),
            "-b",
            &SEGMENT.to_string(),
            "-R",
            &rate.to_string(),
        ]);
        // The round trip that it begins with; half a second, unless told otherwise, is long for a LAN.
        run.args(["-r", "0.05", "-H", &clients]).arg(file);
        site.hub.spawn("uftp", &mut run)
    }

    fn has_all(&self, receiver: &Process) -> bool {
        receiver.stderr().contains("File transfer complete")
    }
}

fn id(node: usize) -> String {
    format!("0x{:08X}", number(node))
}

/// NRL's NORM library: blocks of 64, parity on demand.
#[derive(Debug)]
pub(super) struct Norm {
    sender: PathBuf,
    receiver: PathBuf,
}

/// What it doesn't count of a frame: the headers of Ethernet, IPv4 and UDP.
const NORM_UNCOUNTED: u64 = 42;
const NORM_GROUP: &str = "239.1.1.1";
const NORM_PORT: &str = "6003";

impl Norm {
    /// Builds its programs in a folder.
    pub(super) fn build(folder: &Path) -> Result<Norm, LabError> {
        let build = |name: &str, text: &str| -> Result<PathBuf, LabError> {
            let (source, program) = (folder.join(format!("{name}.cpp")), folder.join(name));
            std::fs::write(&source, text).map_err(file(&source))?;
            command::succeed(
                Command::new("g++").args(["-O2", "-o"]).args([&program, &source]).arg("-lnorm"),
            )?;
            Ok(program)
        };
        Ok(Norm {
            sender: build("norm_send", include_str!("norm_send.cpp"))?,
            receiver: build("norm_receive", include_str!("../../../../hub/tests/norm_peer/receiver.cpp"))?,
        })
    }
}

impl Contender for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn receive(&self, site: &Site, node: usize) -> Result<Process, LabError> {
        let host = &site.nodes[node];
        let mut run = host.command(&self.receiver);
        run.args([NORM_GROUP, NORM_PORT, "eth0", &number(node).to_string(), "1"]).arg(folder(site, node)?);
        let receiver = host.spawn("norm", &mut run)?;
        receiver.wait_until("a receiver to listen", DONE_MAX, || receiver.stdout().contains("ready"))?;
        Ok(receiver)
    }

    fn send(&self, site: &Site, file: &Path) -> Result<Process, LabError> {
        let rate = RATE * (FRAME - NORM_UNCOUNTED) / FRAME;
        let mut run = site.hub.command(&self.sender);
        run.args([NORM_GROUP, NORM_PORT, "trunk", &rate.to_string()]).arg(file);
        run.args((0..NODES).map(|node| number(node).to_string()));
        site.hub.spawn("norm", &mut run)
    }

    fn has_all(&self, receiver: &Process) -> bool {
        receiver.stdout().contains("complete ")
    }
}

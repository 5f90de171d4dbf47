//! What all who distribute a file have in common, to whoever measures them.

use std::path::{Path, PathBuf};

use super::site::{Site, number};
use crate::lab::{Host, LabError, Process, unreadable};

use super::transfer::DONE_MAX;

/// Bits per second on a leg, Ethernet headers included: contenders count differently, and each is told what comes to this.
pub(super) const RATE: u64 = 100_000_000;
/// Bytes of a segment,
pub(super) const SEGMENT: u64 = 1400;
/// and of its frame on a leg by NORM, with the headers of Ethernet, IPv4, UDP and NORM.
pub(super) const FRAME: u64 = SEGMENT + 14 + 20 + 8 + 32;

/// Distributes a file to the receivers of a site.
pub(super) trait Contender {
    /// In the log, and in names of entries.
    fn name(&self) -> &'static str;

    /// Bytes of a segment.
    fn segment(&self) -> u64 {
        SEGMENT
    }

    /// Hosts and links, and whatever runs before a receiver does.
    fn site(&self) -> Result<Site, LabError> {
        Site::bridged()
    }

    /// Starts a receiver; back once it listens.
    fn receive(&self, site: &Site, node: usize) -> Result<Process, LabError>;

    /// Starts to send.
    fn send(&self, site: &Site, file: &Path) -> Result<Process, LabError>;

    /// Whether a receiver says that it has all.
    fn has_all(&self, receiver: &Process) -> bool;

    /// Waits until the sender knows, too.
    fn finish(&self, _site: &Site, sender: &Process) -> Result<(), LabError> {
        let status = sender.wait(DONE_MAX)?;
        if status.success() { Ok(()) } else { Err(unreadable(format!("the end of {}", self.name()), status)) }
    }
}

/// The folder that a receiver writes to.
pub(super) fn folder(site: &Site, node: usize) -> Result<PathBuf, LabError> {
    let folder = site.lab.folder().join(format!("got{}", number(node)));
    std::fs::create_dir_all(&folder).map_err(crate::lab::file(&folder))?;
    Ok(folder)
}

/// Waits until a receiver's host has joined a group.
pub(super) fn wait_for_group(receiver: &Process, host: &Host, group: &str) -> Result<(), LabError> {
    receiver.wait_until("a receiver to join", DONE_MAX, || {
        host.run("ip -4 maddress show dev eth0").is_ok_and(|shown| shown.contains(group))
    })
}

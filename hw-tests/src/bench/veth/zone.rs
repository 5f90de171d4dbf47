//! The zone that all servers have, and the configuration of each.

use std::path::PathBuf;

use super::dns::{CLIENT, SERVER};
use crate::lab::{Lab, LabError, file};

/// Names with an A record each.
pub(super) const NAMES_COUNT: u16 = 1000;

/// The configurations of the servers.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) millrace: PathBuf,
    pub(super) knot_xdp: PathBuf,
    pub(super) knot_udp: PathBuf,
    pub(super) nsd: PathBuf,
}

impl Zone {
    /// The first label of a name; the others are `fn.example.`
    pub(super) fn label(name: u16) -> String {
        format!("n{name:04}")
    }

    /// Writes them into the lab's folder.
    pub(super) fn write(lab: &Lab, client_mac: &str) -> Result<Zone, LabError> {
        Ok(Zone {
            millrace: millrace(lab, client_mac)?,
            knot_xdp: knot(lab, "xdp", "xdp:\n  listen: wan@53\n", "")?,
            knot_udp: knot(lab, "udp", "", &format!("  listen: {SERVER}@53\n"))?,
            nsd: nsd(lab)?,
        })
    }
}

fn address(name: u16) -> String {
    format!("198.18.{}.{}", name / 250, name % 250 + 1)
}

/// Without busy polling, as operators are told to where the kernel's receive work has the worker's CPU.
fn millrace(lab: &Lab, client_mac: &str) -> Result<PathBuf, LabError> {
    let record = |name| {
        format!("  {{ name = \"{}\", type = \"A\", data = \"{}\" }},\n", Zone::label(name), address(name))
    };
    let records: String = (0..NAMES_COUNT).map(record).collect();
    let text = format!(
        "schema_version = 1\n[site]\nname = \"bench\"\n\
         [[port]]\nname = \"wan\"\ndevice = \"net_af_xdp0,iface=wan,busy_budget=0\"\naddresses = [\"192.0.2.1/24\"]\n\
         [[neighbour]]\naddress = \"{CLIENT}\"\nmac = \"{client_mac}\"\nport = \"wan\"\n\
         [dns]\nlisten = [\"{SERVER}\"]\n[[dns.zone]]\nname = \"fn.example.\"\nttl_seconds = 300\n\
         soa = {{ primary = \"ns.fn.example.\", contact = \"ops.fn.example.\", serial = 1, \
         minimum_ttl_seconds = 5 }}\n\
         records = [\n  {{ name = \"@\", type = \"NS\", data = \"ns.fn.example.\" }},\n{records}]\n\
         [orchestrator]\nkind = \"embedded\"\n[telemetry]\ncontrol_socket = \"{}/control.sock\"\n",
        lab.folder().display()
    );
    lab.write("dns.toml", &text)
}

/// The zone in RFC 1035's master format.
fn zone_file(lab: &Lab) -> Result<PathBuf, LabError> {
    let record = |name| format!("{} A {}\n", Zone::label(name), address(name));
    let records: String = (0..NAMES_COUNT).map(record).collect();
    let head = "$ORIGIN fn.example.\n$TTL 300\n@ SOA ns ops 1 3600 600 86400 5\n@ NS ns\nns A 192.0.2.53\n";
    lab.write("fn.example.zone", &format!("{head}{records}"))
}

/// Knot with one worker and no rate limit.
fn knot(lab: &Lab, name: &str, xdp: &str, listen: &str) -> Result<PathBuf, LabError> {
    let folder = lab.folder().join(format!("knot-{name}"));
    std::fs::create_dir_all(&folder).map_err(file(&folder))?;
    let text = format!(
        "server:\n{listen}  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         {xdp}database:\n  storage: {folder}\nlog:\n- target: stderr\n  any: warning\n\
         zone:\n- domain: fn.example.\n  file: {}\n  zonefile-sync: -1\n  journal-content: none\n",
        zone_file(lab)?.display(),
        folder = folder.display(),
    );
    lab.write(&format!("knot-{name}.conf"), &text)
}

/// NSD with one server and no rate limit.
fn nsd(lab: &Lab) -> Result<PathBuf, LabError> {
    let folder = lab.folder().join("nsd");
    std::fs::create_dir_all(&folder).map_err(file(&folder))?;
    let text = format!(
        "server:\n  ip-address: {SERVER}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: {folder}\n  \
         database: \"\"\n  pidfile: {folder}/nsd.pid\n  xfrdfile: {folder}/xfrd.state\n  xfrdir: {folder}\n  \
         zonelistfile: {folder}/zone.list\n  minimal-responses: yes\n  rrl-ratelimit: 0\n  \
         rrl-whitelist-ratelimit: 0\n  verbosity: 0\nremote-control:\n  control-enable: no\n\
         zone:\n  name: fn.example.\n  zonefile: {}\n",
        zone_file(lab)?.display(),
        folder = folder.display(),
    );
    lab.write("nsd.conf", &text)
}

//! An authoritative name server nobody here wrote (Knot DNS), as the upstream that answers what is not ours.

use std::time::Duration;

use super::{Host, Lab, LabError, Process};

/// How long the server gets to load its zone and answer.
const START_MAX: Duration = Duration::from_secs(20);

/// A running `knotd` with one zone.
#[derive(Debug)]
pub struct NameServer {
    process: Process,
}

impl NameServer {
    /// Starts the server on port 53 of `addresses` (which the host has) and waits until it answers for the zone's apex.
    /// `records` are lines of the zone file, relative to `zone`; SOA and NS are added.
    ///
    /// # Errors
    /// [`LabError`] with the server's last words.
    pub fn start(
        lab: &Lab,
        host: &Host,
        addresses: &[&str],
        zone: &str,
        records: &str,
    ) -> Result<Self, LabError> {
        let name = host.name();
        let folder = lab.folder().join(format!("{name}-knot"));
        std::fs::create_dir_all(&folder).map_err(super::file(&folder))?;
        let zone_text = format!(
            "$ORIGIN {zone}\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\n\
             ns A 192.0.2.53\n{records}"
        );
        let zone_file = lab.write(&format!("{name}.zone"), &zone_text)?;
        let listen: Vec<_> = addresses.iter().map(|address| format!("\"{address}@53\"")).collect();
        let configuration = format!(
            "server:\n  listen: [ {} ]\n  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n  \
             background-workers: 1\ndatabase:\n  storage: {folder}\nlog:\n- target: stderr\n  any: info\n\
             zone:\n- domain: {zone}\n  file: {}\n  zonefile-sync: -1\n  journal-content: none\n",
            listen.join(", "),
            zone_file.display(),
            folder = folder.display(),
        );
        let path = lab.write(&format!("{name}-knot.conf"), &configuration)?;
        let process = host.spawn("knotd", host.command("knotd").arg("-c").arg(path))?;
        for address in addresses {
            process.wait_until("the name server to answer", START_MAX, || {
                let asked = host.run(&format!("kdig +short +time=1 +retry=0 @{address} {zone} SOA"));
                asked.is_ok_and(|text| !text.trim().is_empty())
            })?;
        }
        Ok(NameServer { process })
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

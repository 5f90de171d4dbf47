//! A second appliance of the same edge location: beside the first one, or behind it.

use crate::lab::{Host, LabError};

use super::{Edge, Port};

/// Where the second appliance is: its host, its one port, and where it answers queries.
#[derive(Debug)]
pub struct Second {
    /// Where its `millrace run` runs.
    pub host: Host,
    /// Its port.
    pub port: Port,
    /// Where it answers queries.
    pub dns: [String; 2],
}

impl Edge {
    /// A second appliance beside the first: clients reach it by a wire of its own, `192.0.3.0/24` and `2001:db8:3::/64`.
    ///
    /// ```text
    ///   client eth0 ──── wan 192.0.2.1    appliance    mgmt 192.168.99.1, .5
    ///          eth1 ──── wan 192.0.3.1    second       mgmt 192.168.99.6
    /// ```
    ///
    /// # Errors
    /// [`LabError`] with the step that failed.
    pub fn second_beside(&self) -> Result<Second, LabError> {
        let host = self.second_host()?;
        host.wire("wan", &self.client, "eth1")?;
        host.leave_to_dpdk("wan")?;
        self.client.address("eth1", "192.0.3.2/24")?;
        self.client.address("eth1", "2001:db8:3::2/64")?;
        Ok(Second {
            host,
            port: Port::new("wan", ["192.0.3.1/24", "2001:db8:3::1/64"]),
            dns: ["192.0.3.53", "2001:db8:3::53"].map(str::to_owned),
        })
    }

    /// A second appliance behind the first, which has the port `peer` for it; each is the other's next hop.
    ///
    /// ```text
    ///   client eth0 ──── wan 192.0.2.1  appliance  peer 192.0.3.1 ──── peer 192.0.3.2  second
    /// ```
    ///
    /// # Errors
    /// [`LabError`] with the step that failed.
    pub fn second_behind(&self) -> Result<(Port, Second), LabError> {
        let host = self.second_host()?;
        self.appliance.wire("peer", &host, "peer")?;
        self.appliance.leave_to_dpdk("peer")?;
        host.leave_to_dpdk("peer")?;
        let second = Second {
            host,
            port: Port::new("peer", ["192.0.3.2/24", "2001:db8:3::2/64"]),
            dns: ["192.0.3.53", "2001:db8:3::53"].map(str::to_owned),
        };
        Ok((Port::new("peer", ["192.0.3.1/24", "2001:db8:3::1/64"]), second))
    }

    /// Its host, with a way of its kernel's to the orchestrator.
    fn second_host(&self) -> Result<Host, LabError> {
        let host = self.lab.host("second")?;
        self.appliance.wire("mgmt2", &host, "mgmt")?;
        self.appliance.address("mgmt2", "192.168.99.5/30")?;
        host.address("mgmt", "192.168.99.6/30")?;
        host.route("192.168.99.0/30", "192.168.99.5")?;
        Ok(host)
    }
}

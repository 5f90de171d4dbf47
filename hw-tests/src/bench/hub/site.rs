//! The site: hosts, links, losses, and what is counted where.
//!
//! ```text
//!   hub trunk ══ trunk switch leg1 ══ eth0 node11 ─ counts what comes, drops some of it ─► receiver
//!       10.9.0.1              leg2 ══ eth0 node12
//!                             leg3 ══ eth0 node13
//! ```
//!
//! The switch is a bridge, and all are in one network; or it is an appliance, and legs are networks of their own.
//!
//! Losses are the receiver's own: a leg has carried what is dropped behind it. The first rule is for data, by length, so that
//! what was lost of it is known by itself.

use std::fmt::Write as _;

use serde_json::Value;

use crate::edge::Appliance;
use crate::lab::{Host, Lab, LabError, command, unreadable};

/// Receivers.
pub(super) const NODES: usize = 3;
/// Where the hub's frames come from.
pub(super) const HUB: &str = "10.9.0.1";
/// UDP datagrams of this length and more from the hub are data. What else contenders say is shorter.
const DATA_MIN: u32 = 200;
const ETHERNET: u64 = 14;

/// A receiver's number, in NORM and as its address's last byte.
pub(super) fn number(node: usize) -> usize {
    11 + node
}

/// What of a thousand datagrams to each receiver is lost.
pub(super) type Loss = [u32; NODES];

/// Hub, switch and receivers, linked. The lab goes last.
pub(super) struct Site {
    /// The hub first.
    pub(super) appliances: Vec<Appliance>,
    pub(super) hub: Host,
    pub(super) switch: Host,
    pub(super) nodes: Vec<Host>,
    /// Receivers' addresses.
    pub(super) addresses: Vec<String>,
    pub(super) lab: Lab,
}

impl Site {
    /// Hosts and links, without addresses.
    fn wired() -> Result<Site, LabError> {
        let lab = Lab::new()?;
        let (hub, switch) = (quiet(lab.host("hub")?)?, quiet(lab.host("switch")?)?);
        hub.wire("trunk", &switch, "trunk")?;
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let host = quiet(lab.host(&format!("node{}", number(node)))?)?;
            switch.wire(&leg_name(node), &host, "eth0")?;
            host.run("ip route add 224.0.0.0/4 dev eth0")?;
            nodes.push(host);
        }
        Ok(Site { appliances: Vec::new(), hub, switch, nodes, addresses: Vec::new(), lab })
    }

    /// The switch is a bridge that floods, as the plainest one does.
    pub(super) fn bridged() -> Result<Site, LabError> {
        let mut site = Site::wired()?;
        site.hub.address("trunk", &format!("{HUB}/24"))?;
        site.hub.run("ip route add 224.0.0.0/4 dev trunk")?;
        site.switch.run("ip link add br0 up type bridge mcast_snooping 0")?;
        site.switch.run("ip link set trunk master br0")?;
        for (node, host) in site.nodes.iter().enumerate() {
            site.switch.run(&format!("ip link set {} master br0", leg_name(node)))?;
            let address = format!("10.9.0.{}", number(node));
            host.address("eth0", &format!("{address}/24"))?;
            site.addresses.push(address);
        }
        Ok(site)
    }

    /// Each leg is a network of its own, and the switch, at `.1` of each, is left to an appliance.
    pub(super) fn routed() -> Result<Site, LabError> {
        let mut site = Site::wired()?;
        for host in [&site.hub, &site.switch] {
            host.leave_to_dpdk("trunk")?;
        }
        for (node, host) in site.nodes.iter().enumerate() {
            site.switch.leave_to_dpdk(&leg_name(node))?;
            let network = leg_network(node);
            let address = format!("{network}.{}", number(node));
            host.address("eth0", &format!("{address}/24"))?;
            host.route("default", &format!("{network}.1"))?;
            site.addresses.push(address);
        }
        Ok(site)
    }

    /// Counts and loses from now on.
    pub(super) fn lose(&self, loss: Loss) -> Result<(), LabError> {
        for (node, per_mille) in self.nodes.iter().zip(loss) {
            let path = self.lab.write(&format!("{}.nft", node.name()), &rules(per_mille))?;
            node.run(&format!("nft -f {}", path.display()))?;
        }
        Ok(())
    }

    /// What the trunk has carried.
    pub(super) fn trunk(&self) -> Result<Link, LabError> {
        let Link { down, up } = link(&self.hub, "trunk")?;
        // The hub sends downwards.
        Ok(Link { down: up, up: down })
    }

    /// What all links have carried, and receivers lost.
    pub(super) fn traffic(&self) -> Result<Traffic, LabError> {
        let legs = self.nodes.iter().map(leg).collect::<Result<_, _>>()?;
        Ok(Traffic { trunk: self.trunk()?, legs })
    }
}

/// The switch's end of a leg.
pub(super) fn leg_name(node: usize) -> String {
    format!("leg{}", node + 1)
}

/// Three bytes of the addresses of a leg that is a network of its own.
pub(super) fn leg_network(node: usize) -> String {
    format!("10.9.{}", number(node))
}

/// A host without IPv6, which would say something on its own.
fn quiet(host: Host) -> Result<Host, LabError> {
    host.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
    host.sysctl("net.ipv6.conf.default.disable_ipv6=1")?;
    Ok(host)
}

fn rules(per_mille: u32) -> String {
    let data = format!("iifname \"eth0\" ip saddr {HUB} udp length >= {DATA_MIN}");
    let lost = format!("numgen random mod 1000 < {per_mille}");
    let mut text = String::from("table inet bench {\ncounter data { }\ncounter lost { }\nchain arrive {\n");
    let _ = writeln!(text, "type filter hook prerouting priority -300");
    let _ = writeln!(text, "{data} counter name data");
    let _ = writeln!(text, "{data} {lost} counter name lost drop");
    let _ = writeln!(text, "{data} accept");
    let _ = writeln!(text, "iifname \"eth0\" meta l4proto udp {lost} drop\n}}\n}}");
    text
}

/// Bytes that a link has carried, Ethernet headers included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// From the hub to receivers.
    pub(super) down: u64,
    /// Back.
    pub(super) up: u64,
}

/// Frames, and their bytes with Ethernet headers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

/// A receiver's link, and what became of what it carried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leg {
    pub(super) link: Link,
    /// Data that the leg carried,
    pub(super) data: Frames,
    /// and what of it was dropped behind the leg.
    pub(super) lost: Frames,
    /// Datagrams that a socket had no room for: losses nobody meant.
    pub(super) overruns: u64,
}

/// All links.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    pub(super) trunk: Link,
    pub(super) legs: Vec<Leg>,
}

impl Traffic {
    /// What has come since.
    pub(super) fn since(&self, before: &Traffic) -> Traffic {
        let link = |now: Link, then: Link| Link { down: now.down - then.down, up: now.up - then.up };
        let frames = |now: Frames, then: Frames| Frames {
            count: now.count - then.count,
            bytes: now.bytes - then.bytes,
        };
        let leg = |(now, then): (&Leg, &Leg)| Leg {
            link: link(now.link, then.link),
            data: frames(now.data, then.data),
            lost: frames(now.lost, then.lost),
            overruns: now.overruns - then.overruns,
        };
        Traffic {
            trunk: link(self.trunk, before.trunk),
            legs: self.legs.iter().zip(&before.legs).map(leg).collect(),
        }
    }
}

fn leg(node: &Host) -> Result<Leg, LabError> {
    let text = command::succeed(node.command("nft").args(["-j", "list", "counters"]))?;
    let counters: Value = serde_json::from_str(&text).map_err(|error| unreadable("nft's counters", error))?;
    let frames = |name: &str| -> Result<Frames, LabError> {
        let rows = counters["nftables"].as_array().into_iter().flatten();
        let row = rows.map(|row| &row["counter"]).find(|row| row["name"] == name);
        let figure = |key: &str| row.and_then(|row| row[key].as_u64());
        match (figure("packets"), figure("bytes")) {
            (Some(count), Some(bytes)) => Ok(Frames { count, bytes: bytes + count * ETHERNET }),
            _ => Err(unreadable(format!("counter {name}"), &text)),
        }
    };
    Ok(Leg {
        link: link(node, "eth0")?,
        data: frames("data")?,
        lost: frames("lost")?,
        overruns: node.kernel_counter("UdpRcvbufErrors")?,
    })
}

/// What an interface has received (`down`) and sent (`up`).
fn link(host: &Host, interface: &str) -> Result<Link, LabError> {
    let read = host.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
    let text = read.map_err(|error| unreadable("/proc/net/dev", error))?;
    parse_link(&text, interface).ok_or_else(|| unreadable(format!("counters of {interface}"), text))
}

fn parse_link(text: &str, interface: &str) -> Option<Link> {
    let named = |line: &str| -> Option<String> {
        let (name, rest) = line.split_once(':')?;
        (name.trim() == interface).then(|| rest.to_owned())
    };
    let rest = text.lines().find_map(named)?;
    let mut fields = rest.split_whitespace().map(str::parse);
    // Eight fields for what came, eight for what was sent, bytes first.
    Some(Link { down: fields.next()?.ok()?, up: fields.nth(7)?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Inter-|   Receive                |  Transmit\n face |bytes    packets errs\n    \
                    lo:       1       2    0    0    0     0          0         0        3       4    0    0    0     0       0          0\n  \
                    eth0: 5 6 0 0 0 0 0 0 7 8 0 0 0 0 0 0\n";
        let link = parse_link(text, "eth0").unwrap();
        assert_eq!((link.down, link.up), (5, 7));
        assert!(parse_link(text, "eth1").is_none());
    }
}

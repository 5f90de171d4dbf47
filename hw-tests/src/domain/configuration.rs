//! What the five routers are told.

use std::fmt::Write as _;
use std::path::Path;

use super::{Backups, EDGES, ROUTERS, Wire, name};
use crate::domain::Stream;
use crate::edge::Driver;

/// The addresses of the host behind a router.
pub(super) fn host_addresses(router: usize) -> [String; 2] {
    [format!("10.1.{router}.100"), format!("2001:db8:{router}::100")]
}

/// The router's own addresses there.
pub(super) fn edge_addresses(router: usize) -> [String; 2] {
    [format!("10.1.{router}.1"), format!("2001:db8:{router}::1")]
}

/// A router's address on a link, by the link's place.
fn on_link(link: usize, router: usize) -> String {
    format!("10.0.{link}.{router}")
}

/// The same over IPv6.
fn on_link_v6(link: usize, router: usize) -> String {
    format!("2001:db8:a:{link}::{router}")
}

/// What routers have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) wires: &'static [Wire],
    pub(super) receivers: Receivers,
    pub(super) backups: Backups,
}

impl Plan {
    /// A router's BFR-prefix, where tunnels to it end.
    pub(super) fn prefix(&self, router: usize) -> String {
        match self.backups {
            Backups::Ipv6 => format!("2001:db8:ff::{router}"),
            Backups::Near | Backups::Udp => format!("10.255.0.{router}"),
        }
    }
}

/// The domain, as a file.
pub(super) fn topology(plan: &Plan) -> String {
    let mut text = String::from("router = [\n");
    for number in 1..=ROUTERS {
        let (name, prefix) = (name(number), plan.prefix(number));
        let _ = writeln!(text, "  {{ name = \"{name}\", prefix = \"{prefix}\", bfr_id = {number} }},");
    }
    text.push_str("]\nlink = [\n");
    for (link, (a, b, cost)) in plan.wires.iter().enumerate() {
        let [a_address, b_address] = [*a, *b].map(|router| on_link(link, router));
        let _ = writeln!(
            text,
            "  {{ a = \"{}\", b = \"{}\", cost = {cost}, a_address = \"{a_address}\", b_address = \"{b_address}\" }},",
            name(*a),
            name(*b)
        );
    }
    text.push_str("]\n");
    text
}

/// Who gets the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receivers {
    /// Those that [`Stream::receivers`] names.
    Given,
    /// Those behind whom hosts join, which say so in BIER.
    Learnt,
}

/// One router's configuration.
pub(super) fn router(number: usize, driver: Driver, plan: &Plan, socket: &Path) -> String {
    let Plan { wires, receivers, backups } = *plan;
    let mut text = format!(
        "schema_version = 1\n[site]\nname = \"{}\"\n[memory]\nhugepages = \"never\"\nframes_per_port = 4095\n\n",
        name(number)
    );
    let mut ports: Vec<_> = links_of(wires, number)
        .map(|(link, other)| {
            let addresses =
                [format!("{}/24", on_link(link, number)), format!("{}/64", on_link_v6(link, number))];
            (name(other), addresses.to_vec())
        })
        .collect();
    if number == 1 || EDGES.contains(&number) {
        let [v4, v6] = edge_addresses(number);
        ports.push(("edge".to_owned(), vec![format!("{v4}/24"), format!("{v6}/64")]));
    }
    let prefix = plan.prefix(number);
    // Those of a host alone.
    let whole = if prefix.contains(':') { 128 } else { 32 };
    // The BFR-prefix is an address of ours, so that replies over UDP and what comes through tunnels find us.
    if let Some((_, addresses)) = ports.last_mut() {
        addresses.push(format!("{prefix}/{whole}"));
    }
    for (at, (name, addresses)) in ports.iter().enumerate() {
        let device = driver.device(at, name, 1);
        let _ =
            writeln!(text, "[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\naddresses = {addresses:?}\n");
    }
    for other in (1..=ROUTERS).filter(|other| *other != number) {
        let next = next_hop(wires, number, other);
        let link = links_of(wires, number).find(|(_, one)| *one == next).map_or(0, |(link, _)| link);
        let to = plan.prefix(other);
        let via = if to.contains(':') { on_link_v6(link, next) } else { on_link(link, next) };
        let _ = writeln!(text, "[[route]]\nto = \"{to}/{whole}\"\nvia = \"{via}\"\n");
    }
    let _ = writeln!(
        text,
        "[bier]\nbfr_prefix = \"{prefix}\"\n[[bier.subdomain]]\nid = 0\nbfr_id = {number}\ntopology = \"domain.toml\"\nrouter = \"{}\"\nprotection = \"link\"\n{}",
        name(number),
        match backups {
            Backups::Near => "",
            Backups::Udp => "remote_backups = true\ntunnel = \"udp\"\n",
            Backups::Ipv6 => "remote_backups = true\ntunnel = \"ipv6\"\n",
        }
    );
    let is_learnt = receivers == Receivers::Learnt;
    if is_learnt && EDGES.contains(&number) {
        text.push_str("report_to = \"1\"\n");
    }
    text.push_str(&adjacencies(wires, number));
    let [v4, v6] = host_addresses(1);
    for (stream, source, protocol) in [(Stream::V4, v4, "igmp"), (Stream::V6, v6, "mld")] {
        if number == 1 {
            let listed = stream.receivers().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let who = match receivers {
                Receivers::Given => format!("receivers = \"{listed}\""),
                Receivers::Learnt => format!("learn = \"{protocol}\""),
            };
            let _ = writeln!(
                text,
                "[[bier.overlay]]\nsource = \"{source}\"\ngroup = \"{}\"\nsubdomain = 0\n{who}\n",
                stream.group(),
            );
        } else if EDGES.contains(&number) && !is_learnt {
            let _ = writeln!(text, "[[bier.listener]]\ngroup = \"{}\"\nports = [\"edge\"]\n", stream.group());
        }
    }
    if is_learnt && EDGES.contains(&number) {
        // Short, so that who leaves is noticed soon.
        text.push_str("[[bier.querier]]\nports = [\"edge\"]\nlast_member_ms = 200\n");
    }
    let _ = writeln!(text, "[telemetry]\ncontrol_socket = \"{}\"\nlog = \"info\"", socket.display());
    text
}

/// A second sub-domain, of BIER-TE: what bits stand for at a router. Bit `n` delivers at router `n`; see [`link_bit`].
fn adjacencies(wires: &[Wire], number: usize) -> String {
    let mut text = format!(
        "[[bier.subdomain]]\nid = 1\nkind = \"bier-te\"\nbfr_id = {number}\nreplies_by = 0\nadjacencies = [\n  \
         {{ bit = {number}, kind = \"decap\" }},\n"
    );
    for (link, other) in links_of(wires, number) {
        let (bit, address) = (link_bit(wires, number, other), on_link(link, other));
        let _ = writeln!(text, "  {{ bit = {bit}, kind = \"connected\", address = \"{address}\" }},");
    }
    text.push_str("]\n");
    text
}

/// The bit of the link from one router to another.
pub(super) fn link_bit(wires: &[Wire], from: usize, to: usize) -> usize {
    let (link, _) = links_of(wires, from).find(|(_, other)| *other == to).unwrap_or_default();
    10 + 2 * link + usize::from(from > to)
}

/// The links of a router: place, and the router at the other end.
fn links_of(wires: &[Wire], router: usize) -> impl Iterator<Item = (usize, usize)> {
    wires.iter().enumerate().filter_map(move |(link, (a, b, _))| match (*a == router, *b == router) {
        (true, _) => Some((link, *b)),
        (_, true) => Some((link, *a)),
        _ => None,
    })
}

/// Cost of the shortest way, and its number of links, by relaxing every link as often as there are routers.
fn ways_to(wires: &[Wire], to: usize) -> [(u32, usize); ROUTERS + 1] {
    let mut ways = [(u32::MAX, 0); ROUTERS + 1];
    ways[to] = (0, 0);
    for _ in 0..ROUTERS {
        for (a, b, cost) in wires.iter().copied() {
            for (from, over) in [(a, b), (b, a)] {
                let (known, links) = ways[over];
                ways[from] = ways[from].min((known.saturating_add(cost), links + 1));
            }
        }
    }
    ways
}

fn next_hop(wires: &[Wire], from: usize, to: usize) -> usize {
    let ways = ways_to(wires, to);
    let cost =
        |other: usize| wires.iter().find(|(a, b, _)| [(from, other), (other, from)].contains(&(*a, *b)));
    let by =
        links_of(wires, from).map(|(_, other)| (ways[other].0 + cost(other).map_or(0, |link| link.2), other));
    by.min().map_or(to, |(_, other)| other)
}

/// Links of the shortest way.
pub(super) fn distance(wires: &[Wire], from: usize, to: usize) -> usize {
    ways_to(wires, to)[from].1
}

#[cfg(test)]
mod tests {
    use millrace_bier::id::{Bsl, SubDomain};
    use millrace_config::Config;
    use millrace_config::domainfile::DomainFile;

    use super::*;
    use crate::domain::{MESH, RING};

    #[test]
    fn what_routers_are_told_fits_together() {
        use {Backups::*, Receivers::*};
        for (wires, receivers, backups) in [
            (&MESH[..], Given, Near),
            (&MESH, Learnt, Near),
            (&RING, Given, Near),
            (&RING, Given, Udp),
            (&RING, Given, Ipv6),
        ] {
            let plan = Plan { wires, receivers, backups };
            let file = DomainFile::parse("domain.toml", topology(&plan).as_bytes()).unwrap();
            let domain = file.domain(SubDomain(0), Bsl::B256).unwrap();
            assert_eq!((domain.routers().len(), domain.links().len()), (ROUTERS, wires.len()));
            for number in 1..=ROUTERS {
                let text = router(number, Driver::AfXdp, &plan, Path::new("/lab/r.sock"));
                let config =
                    Config::parse("r.toml", &text).unwrap_or_else(|report| panic!("{report}\n{text}"));
                let bier = config.bier.as_ref().unwrap();
                assert_eq!(bier.subdomains[0].remote_backups, backups != Near);
                assert_eq!(bier.subdomains[1].adjacencies.len(), 1 + links_of(wires, number).count());
                file.own_links(&config, bier, &bier.subdomains[0], &name(number)).unwrap();
            }
        }
        assert_eq!([3, 4, 5].map(|to| distance(&MESH, 1, to)), [1, 2, 2]);
        assert_eq!([(1, 4), (1, 5), (4, 1)].map(|(from, to)| next_hop(&MESH, from, to)), [2, 3, 2]);
        // The way to router 5 doesn't go over the link that fails, but from router 3 to router 4 the shortest does.
        assert_eq!(
            [(1, 4), (1, 5), (3, 4), (5, 4)].map(|(from, to)| next_hop(&RING, from, to)),
            [2, 3, 1, 4]
        );
    }
}

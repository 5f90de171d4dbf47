//! What the five routers are told.

use std::fmt::Write as _;
use std::path::Path;

use super::{EDGES, LINKS, ROUTERS, name};
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

/// A router's BFR-prefix.
pub(super) fn prefix(router: usize) -> String {
    format!("10.255.0.{router}")
}

/// A router's address on a link, by the link's place.
fn on_link(link: usize, router: usize) -> String {
    format!("10.0.{link}.{router}")
}

/// The domain, as a file.
pub(super) fn topology() -> String {
    let mut text = String::from("router = [\n");
    for number in 1..=ROUTERS {
        let (name, prefix) = (name(number), prefix(number));
        let _ = writeln!(text, "  {{ name = \"{name}\", prefix = \"{prefix}\", bfr_id = {number} }},");
    }
    text.push_str("]\nlink = [\n");
    for (link, (a, b, cost)) in LINKS.iter().enumerate() {
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
pub(super) fn router(number: usize, driver: Driver, receivers: Receivers, socket: &Path) -> String {
    let mut text = format!(
        "schema_version = 1\n[site]\nname = \"{}\"\n[memory]\nhugepages = \"never\"\nframes_per_port = 4095\n\n",
        name(number)
    );
    let mut ports = 0;
    let mut port = |text: &mut String, name: &str, addresses: &[String]| {
        let _ = writeln!(
            text,
            "[[port]]\nname = \"{name}\"\ndevice = \"{}\"\naddresses = {addresses:?}\n",
            driver.device(ports, name, 1)
        );
        ports += 1;
    };
    for (link, other) in links_of(number) {
        port(&mut text, &name(other), &[format!("{}/24", on_link(link, number))]);
    }
    if number == 1 || EDGES.contains(&number) {
        let [v4, v6] = edge_addresses(number);
        // The BFR-prefix is an address of ours, so that replies over UDP find us.
        port(&mut text, "edge", &[format!("{v4}/24"), format!("{v6}/64"), format!("{}/32", prefix(number))]);
    }
    for other in (1..=ROUTERS).filter(|other| *other != number) {
        let next = next_hop(number, other);
        let link = links_of(number).find(|(_, one)| *one == next).map_or(0, |(link, _)| link);
        let _ =
            writeln!(text, "[[route]]\nto = \"{}/32\"\nvia = \"{}\"\n", prefix(other), on_link(link, next));
    }
    let _ = writeln!(
        text,
        "[bier]\nbfr_prefix = \"{}\"\n[[bier.subdomain]]\nid = 0\nbfr_id = {number}\ntopology = \"domain.toml\"\nrouter = \"{}\"\nprotection = \"link\"\n",
        prefix(number),
        name(number)
    );
    let is_learnt = receivers == Receivers::Learnt;
    if is_learnt && EDGES.contains(&number) {
        text.push_str("report_to = \"1\"\n");
    }
    text.push_str(&adjacencies(number));
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
fn adjacencies(number: usize) -> String {
    let mut text = format!(
        "[[bier.subdomain]]\nid = 1\nkind = \"bier-te\"\nbfr_id = {number}\nreplies_by = 0\nadjacencies = [\n  \
         {{ bit = {number}, kind = \"decap\" }},\n"
    );
    for (link, other) in links_of(number) {
        let (bit, address) = (link_bit(number, other), on_link(link, other));
        let _ = writeln!(text, "  {{ bit = {bit}, kind = \"connected\", address = \"{address}\" }},");
    }
    text.push_str("]\n");
    text
}

/// The bit of the link from one router to another.
pub(super) fn link_bit(from: usize, to: usize) -> usize {
    let (link, _) = links_of(from).find(|(_, other)| *other == to).unwrap_or_default();
    10 + 2 * link + usize::from(from > to)
}

/// The links of a router: place, and the router at the other end.
fn links_of(router: usize) -> impl Iterator<Item = (usize, usize)> {
    LINKS.iter().enumerate().filter_map(move |(link, (a, b, _))| match (*a == router, *b == router) {
        (true, _) => Some((link, *b)),
        (_, true) => Some((link, *a)),
        _ => None,
    })
}

/// Cost of the shortest way, and its number of links, by relaxing every link as often as there are routers.
fn ways_to(to: usize) -> [(u32, usize); ROUTERS + 1] {
    let mut ways = [(u32::MAX, 0); ROUTERS + 1];
    ways[to] = (0, 0);
    for _ in 0..ROUTERS {
        for (a, b, cost) in LINKS {
            for (from, over) in [(a, b), (b, a)] {
                let (known, links) = ways[over];
                ways[from] = ways[from].min((known.saturating_add(cost), links + 1));
            }
        }
    }
    ways
}

fn next_hop(from: usize, to: usize) -> usize {
    let ways = ways_to(to);
    let cost =
        |other: usize| LINKS.iter().find(|(a, b, _)| [(from, other), (other, from)].contains(&(*a, *b)));
    let by = links_of(from).map(|(_, other)| (ways[other].0 + cost(other).map_or(0, |link| link.2), other));
    by.min().map_or(to, |(_, other)| other)
}

/// Links of the shortest way.
pub(super) fn distance(from: usize, to: usize) -> usize {
    ways_to(to)[from].1
}

#[cfg(test)]
mod tests {
    use millrace_bier::id::{Bsl, SubDomain};
    use millrace_config::Config;
    use millrace_config::domainfile::DomainFile;

    use super::*;

    #[test]
    fn what_routers_are_told_fits_together() {
        let file = DomainFile::parse("domain.toml", topology().as_bytes()).unwrap();
        let domain = file.domain(SubDomain(0), Bsl::B256).unwrap();
        assert_eq!((domain.routers().len(), domain.links().len()), (ROUTERS, LINKS.len()));
        for number in 1..=ROUTERS {
            for receivers in [Receivers::Given, Receivers::Learnt] {
                let text = router(number, Driver::AfXdp, receivers, Path::new("/lab/r.sock"));
                let config =
                    Config::parse("r.toml", &text).unwrap_or_else(|report| panic!("{report}\n{text}"));
                let bier = config.bier.as_ref().unwrap();
                assert_eq!(bier.subdomains[1].adjacencies.len(), 1 + links_of(number).count());
                file.own_links(&config, bier, &bier.subdomains[0], &name(number)).unwrap();
            }
        }
        assert_eq!([3, 4, 5].map(|to| distance(1, to)), [1, 2, 2]);
        assert_eq!((next_hop(1, 4), next_hop(1, 5), next_hop(4, 1)), (2, 3, 2));
    }
}

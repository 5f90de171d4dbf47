//! What the three appliances are told.

use std::fmt::Write as _;
use std::path::Path;

use super::{
    FEEDBACK, FIRST_BIT, HUB, HUB_NUMBER, NODES, Profile, SITE_GROUP, SOURCE, TSI, WAN_GROUP, network, number,
};
use crate::edge::Driver;

fn site(name: &str, socket: &Path) -> String {
    format!(
        "schema_version = 1\n[site]\nname = \"{name}\"\n[telemetry]\ncontrol_socket = \"{}\"\n",
        socket.display()
    )
}

fn port(driver: Driver, index: usize, name: &str, addresses: &[&str]) -> String {
    let device = driver.device(index, name, 1);
    format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\naddresses = {addresses:?}\n")
}

fn route(to: &str, via: &str) -> String {
    format!("[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n")
}

fn bier(prefix: &str, id: u16, rows: &[String]) -> String {
    let rows = rows.concat();
    format!(
        "[bier]\nbfr_prefix = \"{prefix}\"\n[[bier.subdomain]]\nid = 0\nbfr_id = {id}\ntable = [\n{rows}]\n"
    )
}

fn row(neighbour: &str, address: &str, bfr_ids: &str) -> String {
    format!("  {{ neighbour = \"{neighbour}\", address = \"{address}\", bfr_ids = \"{bfr_ids}\" }},\n")
}

/// Where the source's flow enters BIER.
pub(super) fn ingress(driver: Driver, socket: &Path) -> String {
    let flow = format!(
        "[[bier.overlay]]\nsource = \"{SOURCE}\"\ngroup = \"{WAN_GROUP}\"\nsubdomain = 0\nreceivers = \"2\"\n"
    );
    [
        site("ingress", socket),
        port(driver, 0, "source", &["10.8.0.1/24"]),
        port(driver, 1, "wan", &["10.7.0.1/24"]),
        route(&format!("{HUB}/32"), "10.7.0.2"),
        bier("10.7.0.1", 1, &[row("hub", "10.7.0.2", "2")]),
        flow,
    ]
    .concat()
}

/// The hub.
pub(super) fn hub(driver: Driver, profile: Profile, bits_per_second: u64, socket: &Path) -> String {
    let own = format!("{HUB}/32");
    let last = FIRST_BIT + NODES - 1;
    let mut text = [
        site("hub", socket),
        port(driver, 0, "wan", &["10.7.0.2/24", &own]),
        port(driver, 1, "trunk", &["10.6.0.1/24"]),
        route("10.8.0.0/24", "10.7.0.1"),
        route("10.9.0.0/16", "10.6.0.2"),
        bier(
            HUB,
            2,
            &[row("ingress", "10.7.0.1", "1"), row("switch", "10.6.0.2", &format!("3,{FIRST_BIT}-{last}"))],
        ),
    ]
    .concat();
    let mut nodes = String::new();
    for node in 0..NODES {
        let (id, bit, network) = (number(node), FIRST_BIT + node, network(node));
        let _ = writeln!(nodes, "  {{ id = {id}, address = \"{network}.2\", bfr_id = {bit} }},");
    }
    let (word, tsi, keys) = match profile {
        Profile::Norm => ("norm", String::new(), String::new()),
        Profile::Flute => ("flute", format!(", tsi = {TSI}"), format!("profile = \"flute\"\ntsi = {TSI}\n")),
    };
    let _ = writeln!(
        text,
        "[hub]\nid = {HUB_NUMBER}\nstore_path = \"hub\"\nbudget_bytes = 1_000_000_000\n\
         accept = [{{ subdomain = 0, group = \"{WAN_GROUP}\", profile = \"{word}\"{tsi} }}]\n\
         [[hub.site]]\nname = \"site\"\ncarriage = \"bier\"\nsubdomain = 0\ngroup = \"{SITE_GROUP}\"\n\
         {keys}feedback_port = {FEEDBACK}\nrate_bits_per_second = {bits_per_second}\nnodes = [\n{nodes}]"
    );
    text
}

/// The access switch, with a bit for each leg.
pub(super) fn switch(driver: Driver, socket: &Path) -> String {
    let mut text = [site("switch", socket), port(driver, 0, "trunk", &["10.6.0.2/24"])].concat();
    let mut rows = vec![row("hub", "10.6.0.1", "2")];
    for node in 0..NODES {
        let (leg, bit) = (super::leg(node), FIRST_BIT + node);
        text += &port(driver, node + 1, &leg, &[&format!("{}.1/24", network(node))]);
        rows.push(format!(
            "  {{ neighbour = \"{leg}\", encapsulation = \"none\", port = \"{leg}\", bfr_ids = \"{bit}\" }},\n"
        ));
    }
    text += &route(&format!("{HUB}/32"), "10.6.0.1");
    text += &bier("10.6.0.2", 3, &rows);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appliances_are_told_what_is_a_configuration() {
        let socket = Path::new("/lab/a.sock");
        let driver = Driver::AfXdp;
        let hubs = [Profile::Norm, Profile::Flute].map(|profile| hub(driver, profile, 1_000_000, socket));
        for text in hubs.into_iter().chain([ingress(driver, socket), switch(driver, socket)]) {
            let parsed = millrace_config::Config::parse("lab.toml", &text);
            assert!(parsed.is_ok(), "{:?}\n{text}", parsed.err());
        }
    }
}

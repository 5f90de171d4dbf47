use std::net::IpAddr;

use millrace_bier::bift::NeighbourIndex;
use millrace_bier::bift_id::BiftId;
use millrace_bier::id::{Bsl, Si};
use millrace_fastpath::tables::bier::NoWay;
use millrace_fastpath::tables::listeners::{Filter, Listener};
use millrace_fastpath::tables::names::HashKey;

use super::*;
use crate::builder::{Domains, TableFiles};
use crate::testing::{EDGE, LAN, LAN_20, WAN, addr, ports};

const BIER: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
table = [
  { neighbour = "p2", address = "192.0.2.2", bfr_ids = "1,2" },
  { neighbour = "p3", address = "198.51.100.3", bfr_ids = "3,66-70", backup = "p2" },
]
[[bier.subdomain]]
id = 1
encapsulation = "mpls"
bift_id = { "si 0" = 1000 }
table = [{ neighbour = "p4", address = "10.20.0.4", bfr_ids = "9", bift_id = { "si 0" = 2000 } }]
[[bier.overlay]]
source = "192.0.2.100"
group = "232.1.1.1"
subdomain = 0
receivers = "1,3"
[[bier.listener]]
group = "232.1.1.2"
ports = ["lan", "lan.20"]
"#;

fn parse(bier: &str) -> Config {
    Config::parse("edge.toml", &format!("{EDGE}{bier}")).unwrap_or_else(|report| panic!("{report}"))
}

fn builder() -> TableBuilder {
    TableBuilder::new(&parse(BIER), &ports(), TableFiles::default(), HashKey(1, 2)).unwrap()
}

fn reload(builder: &mut TableBuilder, bier: &str) {
    let config = parse(bier);
    let draft = builder.draft(&config).unwrap().with_bier(&config, &Domains::new()).unwrap();
    builder.reload(&config, draft, None);
}

fn bier(builder: &TableBuilder) -> &Arc<Bier> {
    builder.tables().bier.as_ref().unwrap()
}

fn bift(bier: &Bier, sub_domain: u8) -> &Arc<Bift> {
    known_bifts_of(bier).find(|one| one.key().sub_domain == SubDomain(sub_domain)).unwrap()
}

fn known_bifts_of(bier: &Bier) -> impl Iterator<Item = &Arc<Bift>> {
    bier.plane.iter().filter_map(AnyBift::of_routers)
}

#[test]
fn the_configuration_becomes_tables_links_listeners_and_flows() {
    let builder = builder();
    let bier = bier(&builder);
    let link = |interface, via: &str, carriage| Link::Beside { interface, via: addr(via), carriage };
    assert_eq!(
        bier.links,
        [
            link(WAN, "192.0.2.2", Carriage::NonMpls),
            link(LAN, "198.51.100.3", Carriage::NonMpls),
            link(LAN_20, "10.20.0.4", Carriage::Mpls),
        ]
    );
    assert_eq!(builder.bier_hops().len(), 3);
    let one = bift(bier, 1);
    assert_eq!(one.out(NeighbourIndex(0)), BiftId::new(2000));
    assert_eq!(one.neighbour(NeighbourIndex(0)).link(0, 0, |_| true), Some(LinkId(2)));
    assert_eq!(bier.plane.ours().id(one.key()), BiftId::new(1000));
    let zero = bift(bier, 0);
    assert_eq!(bier.plane.ours().id(zero.key()), Some(BiftId::static_form(zero.key())));
    assert_eq!(bier.listeners.get(addr("232.1.1.2")), [LAN, LAN_20].map(Listener::any));
    let flow =
        |source: [u8; 4], group: [u8; 4]| Flow { source: IpAddr::from(source), group: IpAddr::from(group) };
    let packets: Vec<_> =
        bier.overlay.get(flow([192, 0, 2, 100], [232, 1, 1, 1])).unwrap().packets().collect();
    assert_eq!((packets[0].0.si, packets[0].0.bsl, packets[0].1[0]), (Si(0), Bsl::B256, 0b101));
    let ingress: Vec<_> = bier.ingress.iter().map(|(id, one)| (id.0, one.bfir_id.get(), one.ttl)).collect();
    assert_eq!(ingress, [(0, 5, 64)], "nothing begins where we have no number");
}

#[test]
fn neighbours_labels_and_bridged_networks_are_configured() {
    let with = BIER
        .replacen("bfr_id = 5\n", "bfr_id = 5\nethernet_ports = [\"lan.20\"]\nlabels = [{ label = 99, bfir_id = 1 }, { label = 98 }]\n", 1)
        .replace("ports = [\"lan\", \"lan.20\"]", "ports = [\"lan\"]\nnext_hops = [\"10.20.0.9\"]");
    let mut builder = builder();
    let group = addr("232.1.1.2");
    assert!(bier(&builder).behind(SubDomain(0)).is_none());
    reload(&mut builder, &with);
    let expected = [Listener::any(LAN), Listener::neighbour(LAN_20, addr("10.20.0.9"))];
    assert_eq!(bier(&builder).listeners.get(group), expected);
    assert!(builder.bier_hops().contains(&(LAN_20, addr("10.20.0.9"))), "it is looked for");
    let labels = [(BfrId::new(1), 99), (None, 98)].into();
    let behind = Behind { bridged: vec![LAN_20], labels };
    assert_eq!(bier(&builder).behind(SubDomain(0)), Some(&behind));
    // Hosts beside it speak for themselves.
    let filter = Filter::Include([addr("192.0.2.9")].into());
    builder.set_listeners(LAN_20, group, Some(filter.clone()));
    let [lan, neighbour] = expected;
    assert_eq!(bier(&builder).listeners.get(group), [lan, neighbour, Listener::hosts(LAN_20, filter)]);
    reload(&mut builder, BIER);
    assert!(bier(&builder).behind(SubDomain(0)).is_none() && builder.bier_hops().len() == 3);
}

#[test]
fn what_hosts_listen_to_joins_what_is_configured_and_outlives_a_reload() {
    let asked = format!("{BIER}[[bier.querier]]\nports = [\"lan.20\", \"wan\"]\n");
    let mut builder = builder();
    assert!(builder.queriers().is_empty());
    reload(&mut builder, &asked);
    assert_eq!(builder.queriers().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [LAN_20, WAN]);
    assert_eq!(bier(&builder).queried, [LAN_20, WAN]);
    let (fixed, heard) = (addr("232.1.1.2"), addr("232.1.1.3"));
    let filter = Filter::Include([addr("192.0.2.9")].into());
    builder.take();
    builder.set_listeners(LAN_20, fixed, Some(filter.clone()));
    assert!(builder.take().is_none(), "it is sent there from all sources anyway");
    builder.set_listeners(LAN_20, heard, Some(filter.clone()));
    assert!(builder.take().is_some());
    let listener = |interface, filter: &Filter| Listener::hosts(interface, filter.clone());
    for _ in 0..2 {
        let listeners = &bier(&builder).listeners;
        assert_eq!(listeners.get(heard), [listener(LAN_20, &filter)]);
        assert_eq!(listeners.get(fixed), [LAN, LAN_20].map(Listener::any));
        reload(&mut builder, &asked);
    }
    // Hosts speak for themselves where the configuration doesn't any more.
    reload(&mut builder, &asked.replace("ports = [\"lan\", \"lan.20\"]", "ports = [\"lan\"]"));
    assert_eq!(bier(&builder).listeners.get(fixed), [Listener::any(LAN), listener(LAN_20, &filter)]);
    builder.set_listeners(LAN_20, fixed, None);
    builder.set_listeners(LAN_20, heard, None);
    assert_eq!(bier(&builder).listeners.iter().count(), 1);
}

#[test]
fn what_a_reload_does_not_change_is_shared() {
    let mut builder = builder();
    let before = Arc::clone(bier(&builder));
    reload(&mut builder, BIER);
    assert!(Arc::ptr_eq(&before, bier(&builder)), "the same configuration");
    reload(&mut builder, &BIER.replace("\"3,66-70\"", "\"3,66-71\""));
    let after = bier(&builder);
    assert!(!Arc::ptr_eq(bift(&before, 0), bift(after, 0)));
    assert!(Arc::ptr_eq(bift(&before, 1), bift(after, 1)), "another sub-domain");
    assert_eq!(before.links, after.links);
    reload(&mut builder, "");
    assert!(builder.tables().bier.is_none() && builder.bier_hops().is_empty());
}

#[test]
fn a_link_keeps_its_number() {
    let mut builder = builder();
    let number = |builder: &TableBuilder, sub_domain| {
        let bift = bift(bier(builder), sub_domain).clone();
        bift.neighbours().iter().map(|one| one.link(0, 0, |_| true).unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!((number(&builder, 0), number(&builder, 1)), (vec![0, 1], vec![2]));
    // p2 is somebody else, and there is a new one in front.
    let moved = BIER.replace("192.0.2.2\"", "192.0.2.7\"");
    reload(&mut builder, &moved);
    assert_eq!((number(&builder, 0), number(&builder, 1)), (vec![3, 1], vec![2]));
    reload(&mut builder, "");
    reload(&mut builder, BIER);
    assert_eq!((number(&builder, 0), number(&builder, 1)), (vec![0, 1], vec![2]), "even after a while");
}

#[test]
fn flags_are_the_same_as_long_as_they_stand_for_the_same_neighbours() {
    let mut builder = builder();
    let flags = Arc::clone(&bier(&builder).down[0].1);
    reload(&mut builder, &BIER.replace("\"1,2\"", "\"1,2,4\""));
    assert!(Arc::ptr_eq(&flags, &bier(&builder).down[0].1));
    let p0 = "table = [\n{ neighbour = \"p0\", address = \"192.0.2.10\", bfr_ids = \"10\" },";
    reload(&mut builder, &BIER.replacen("table = [", p0, 1));
    assert!(!Arc::ptr_eq(&flags, &bier(&builder).down[0].1));
}

#[test]
fn more_links_than_are_counted_are_refused_and_numbers_of_old_ones_given_out_again() {
    let link = |at: usize| Link::Beside {
        interface: WAN,
        via: Addr::v4((at as u32).to_be_bytes()),
        carriage: Carriage::NonMpls,
    };
    let mut links = BierLinks::default();
    let all: Vec<Link> = (0..LINKS_MAX).map(link).collect();
    for (at, one) in all.iter().enumerate() {
        assert_eq!(links.give(*one, &all), Ok(LinkId(at as u32)));
    }
    let fresh = link(LINKS_MAX);
    assert_eq!(links.give(fresh, &all), Err(BuildError::BierLinks));
    assert_eq!(links.give(fresh, &[&all[..7], &all[8..]].concat()), Ok(LinkId(7)));
}

const DOMAIN: &str = r#"
router = [
  { name = "edge", prefix = "192.0.2.1", bfr_id = 5 },
  { name = "p2", prefix = "10.255.0.2", bfr_id = 2 },
  { name = "p3", prefix = "10.255.0.3", bfr_id = 300, bift_id = { "si 0" = 70, "si 1" = 71 } },
  { name = "old", bier = false },
  { name = "far", prefix = "10.255.0.4", bfr_id = 4 },
]
link = [
  { a = "p2", b = "p3", cost = 1 },
  { a = "edge", b = "p2", cost = 5, b_address = "192.0.2.2" },
  { a = "p3", b = "edge", cost = 9, a_address = "198.51.100.3" },
  { a = "p3", b = "edge", cost = 9, a_address = "10.20.0.3" },
  { a = "edge", b = "old", cost = 1 },
  { a = "old", b = "far", cost = 100 },
]
"#;

const BY_TOPOLOGY: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
topology = "domain.toml"
router = "edge"
"#;

/// The files of a folder that has this topology.
fn files(domain: &str) -> Result<TableFiles, crate::builder::FileError> {
    files_of(BY_TOPOLOGY, domain)
}

fn files_of(bier: &str, domain: &str) -> Result<TableFiles, crate::builder::FileError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("domain.toml"), domain).unwrap();
    TableFiles::read(&parse(bier), folder.path())
}

#[test]
fn a_topology_becomes_tables_whose_links_are_ours() {
    let files = files(DOMAIN).unwrap();
    let builder = TableBuilder::new(&parse(BY_TOPOLOGY), &ports(), files, HashKey(1, 2)).unwrap();
    let bier = bier(&builder);
    let link = |interface, via: &str| Link::Beside { interface, via: addr(via), carriage: Carriage::NonMpls };
    let tunnel = Link::Tunnel { to: addr("10.255.0.4"), tunnel: Tunnel::Udp };
    let links = [link(WAN, "192.0.2.2"), link(LAN, "198.51.100.3"), link(LAN_20, "10.20.0.3"), tunnel];
    assert_eq!(bier.links, links);
    let tables: Vec<_> = known_bifts_of(bier).collect();
    let ids = |bift: &Bift, bit| {
        let bit = millrace_bier::id::BitPosition::new(bit, Bsl::B256).unwrap();
        bift.tables()[0].rows().neighbour_of(bit).map(|one| bift.neighbour(one).prefix.to_string())
    };
    // By p2 it is 6 to p3, over a link 9.
    assert_eq!(ids(tables[1], 44).as_deref(), Some("10.255.0.2"));
    assert_eq!(ids(tables[0], 2).as_deref(), Some("10.255.0.2"));
    assert_eq!(ids(tables[0], 4).as_deref(), Some("10.255.0.4"), "through a router without BIER");
    let reach = |prefix: &str| {
        let one = tables[0].neighbours().iter().find(|one| one.prefix.to_string() == prefix);
        one.unwrap().reach.clone()
    };
    assert_eq!(reach("10.255.0.2"), Reach::Links([LinkId(0)].into()));
    assert_eq!(reach("10.255.0.3"), Reach::Links([LinkId(1), LinkId(2)].into()), "parallel links");
    assert_eq!(reach("10.255.0.4"), Reach::Links([LinkId(3)].into()), "a tunnel");
    // Whoever reaches us by one may send so.
    for known in ["10.255.0.2", "10.255.0.4", "192.0.2.2", "10.20.0.3"] {
        assert!(bier.tunnels.has_peer(addr(known)), "{known}");
    }
    assert!(!bier.tunnels.has_peer(addr("10.255.0.5")));
    assert_eq!(bier.tunnels.own, Some(addr("192.0.2.1")));
    // Where all speak BIER, nobody needs one.
    let all = self::files(&DOMAIN.replace(", bier = false", ", prefix = \"10.255.0.9\"").replace(
        "{ a = \"edge\", b = \"old\", cost = 1 }",
        "{ a = \"edge\", b = \"old\", b_address = \"192.0.2.9\" }",
    ));
    let builder = TableBuilder::new(&parse(BY_TOPOLOGY), &ports(), all.unwrap(), HashKey(1, 2)).unwrap();
    assert!(builder.tables().bier.as_ref().unwrap().tunnels.peers.is_empty());
}

/// A ring of six, where nobody beside us leads to the router after next but over the next one.
const RING: &str = r#"
router = [
  { name = "edge", prefix = "192.0.2.1", bfr_id = 1 },
  { name = "r2", prefix = "10.255.0.2", bfr_id = 2 },
  { name = "r3", prefix = "10.255.0.3", bfr_id = 3 },
  { name = "r4", prefix = "10.255.0.4", bfr_id = 4 },
  { name = "r5", prefix = "10.255.0.5", bfr_id = 5 },
  { name = "r6", prefix = "10.255.0.6", bfr_id = 6 },
]
link = [
  { a = "edge", b = "r2", b_address = "192.0.2.2" },
  { a = "r2", b = "r3" },
  { a = "r3", b = "r4" },
  { a = "r4", b = "r5" },
  { a = "r5", b = "r6" },
  { a = "r6", b = "edge", a_address = "198.51.100.6" },
]
"#;

#[test]
fn routers_further_away_stand_in_through_tunnels() {
    let built = |more: &str| {
        let bier = BY_TOPOLOGY.replace("bfr_id = 5", &format!("bfr_id = 1\nprotection = \"node\"\n{more}"));
        let files = files_of(&bier, RING).unwrap();
        TableBuilder::new(&parse(&bier), &ports(), files, HashKey(1, 2)).unwrap()
    };
    let near = built("");
    let beside =
        |interface, via: &str| Link::Beside { interface, via: addr(via), carriage: Carriage::NonMpls };
    let links = [beside(WAN, "192.0.2.2"), beside(LAN, "198.51.100.6")];
    assert_eq!((&bier(&near).links[..], bier(&near).tunnels.peers.len()), (&links[..], 0));
    let far = built("remote_backups = true");
    // One for each way round the ring.
    let tunnels = ["10.255.0.5", "10.255.0.3"].map(|to| Link::Tunnel { to: addr(to), tunnel: Tunnel::Udp });
    assert_eq!(bier(&far).links, [&links[..], &tunnels[..]].concat());
    // Others do the same.
    for peer in ["10.255.0.2", "10.255.0.3", "10.255.0.4", "10.255.0.5", "10.255.0.6"] {
        assert!(bier(&far).tunnels.has_peer(addr(peer)), "{peer}");
    }
    let table = bift(bier(&far), 0);
    let next = table.neighbours().iter().position(|one| one.prefix.to_string() == "10.255.0.2").unwrap();
    let instead = table.tables()[0].on_failure(NeighbourIndex(next as u16)).unwrap();
    let third = millrace_bier::id::BitPosition::new(3, Bsl::B256).unwrap();
    let by = instead.neighbour_of(third).map(|one| &table.neighbour(one).reach);
    assert_eq!(by, Some(&Reach::Links([LinkId(2)].into())), "the tunnel");
}

const FAR: &str = r#"
[bier]
bfr_prefix = "198.51.100.1"
accept_from = ["203.0.113.9"]
ipv6_next_header = 254
[[bier.subdomain]]
id = 0
table = [
  { neighbour = "p2", address = "203.0.113.2", bfr_ids = "1,2", encapsulation = "udp" },
  { neighbour = "p3", address = "198.51.100.3", bfr_ids = "3", backup = "p2" },
  { neighbour = "p4", address = "2001:db8:9::4", bfr_ids = "4", encapsulation = "ipv6" },
]
[[bier.subdomain]]
id = 1
kind = "bier-te"
adjacencies = [
  { bit = 1, kind = "routed", address = "203.0.113.5" },
  { bit = 2, kind = "connected", address = "198.51.100.3", encapsulation = "udp" },
  { bit = 3, kind = "connected", address = "198.51.100.3" },
  { bit = 4, kind = "decap" },
]
"#;

/// Neighbours that are elsewhere are reached by the routes, whose next hops are looked for.
#[test]
fn neighbours_that_are_elsewhere_are_reached_through_tunnels() {
    let mut builder = builder();
    reload(&mut builder, FAR);
    let known = bier(&builder).clone();
    let tunnel = |to: &str, tunnel| Link::Tunnel { to: addr(to), tunnel };
    let near = Link::Beside { interface: LAN, via: addr("198.51.100.3"), carriage: Carriage::NonMpls };
    let wanted = [
        tunnel("203.0.113.2", Tunnel::Udp),
        near,
        tunnel("2001:db8:9::4", Tunnel::Ipv6),
        tunnel("203.0.113.5", Tunnel::Udp),
        tunnel("198.51.100.3", Tunnel::Udp),
        near,
    ];
    let links: Vec<_> = bift(&known, 0).neighbours().iter().map(|one| one.link(0, 0, |_| true)).collect();
    let links = links.into_iter().flatten().chain(known.hops.iter().map(|hop| hop.link));
    assert_eq!(links.map(|link| *known.link(link).unwrap()).collect::<Vec<_>>(), wanted);
    let peers = ["198.51.100.3", "203.0.113.2", "203.0.113.5", "203.0.113.9", "2001:db8:9::4"];
    assert!(peers.map(addr).iter().all(|peer| known.tunnels.has_peer(*peer)));
    assert_eq!((known.tunnels.peers.len(), known.tunnels.next_header), (5, 254));
    // The gateway of the default route, and the one neighbour that is near.
    let hops = builder.bier_hops();
    let gateway = builder.tables().routes.lookup(addr("203.0.113.2")).unwrap().via.unwrap();
    assert!(hops.contains(&(WAN, gateway)) && hops.contains(&(LAN, addr("198.51.100.3"))), "{hops:?}");
    let way = |builder: &TableBuilder| {
        let bier = bier(builder);
        let at = bier.links.iter().position(|link| link.to() == Some(addr("203.0.113.2"))).unwrap();
        bier.ways[at].clone()
    };
    assert_eq!(way(&builder), Err(NoWay::Neighbour));
    builder.set_neighbour(WAN, gateway, [2; 6]);
    let found = way(&builder).unwrap();
    assert_eq!((&found.head[..6], found.mtu, found.front_len), (&[2; 6][..], 1500 - 28, 14 + 28));
}

#[test]
fn a_topology_that_does_not_fit_is_told_with_its_line() {
    let told = |from: &str, to: &str| {
        assert!(DOMAIN.contains(from));
        files(&DOMAIN.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let told = |from: &str, to: &str| told(from, to);
    for (from, to, says) in [
        ("name = \"edge\"", "name = \"ridge\"", "there is no router `edge`"),
        (", b_address = \"192.0.2.2\"", "", "the address of `p2` on this link is missing"),
        ("10.20.0.3", "10.99.0.3", "isn't on a connected network"),
        ("192.0.2.1", "192.0.2.9", "our own BFR-prefix is 192.0.2.9 here, but 192.0.2.1"),
        ("bfr_id = 5", "bfr_id = 6", "our own BFR-id is 6 here, but 5"),
        ("bfr_id = 5", "bfr_id = 5, bift_id = { \"si 0\" = 9 }", "our own BIFT-ids are others here"),
        ("bfr_id = 2 ", "bfr_id = 4 ", "the BFR-id 4 is given twice"),
    ] {
        let text = told(from, to);
        assert!(text.contains(says) && text.contains("domain.toml:"), "{text}");
    }
    let inside_ipv6 = BY_TOPOLOGY.replacen("id = 0\n", "id = 0\nencapsulation = \"ipv6\"\n", 1);
    let text = files_of(&inside_ipv6, DOMAIN).unwrap_err().to_string();
    assert!(text.contains("nothing is sent to it inside IPv6") && text.contains("192.0.2.2"), "{text}");
}

const LEGS: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
table = [
  { neighbour = "p3", address = "198.51.100.3", bfr_ids = "3" },
  { neighbour = "leg1", encapsulation = "none", port = "lan", bfr_ids = "66" },
  { neighbour = "leg2", encapsulation = "none", port = "lan.20", bfr_ids = "67,68" },
]
"#;

/// Nobody is looked for there, and their ports go down as those of routers do.
#[test]
fn hosts_have_links_without_a_way_for_headers() {
    let mut builder = builder();
    reload(&mut builder, LEGS);
    let known = bier(&builder).clone();
    let hosts = [LAN, LAN_20].map(|interface| Link::Hosts { interface });
    let reach: Vec<_> = bift(&known, 0).neighbours()[1..].iter().map(|one| one.reach.clone()).collect();
    let links: Vec<_> = reach
        .iter()
        .map(|reach| match reach {
            Reach::Hosts(link) => *known.link(*link).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(links, hosts);
    let ways = hosts.map(|link| known.links.iter().position(|one| *one == link).unwrap());
    assert!(ways.iter().all(|at| known.ways[*at] == Err(NoWay::Hosts)));
    assert_eq!(builder.bier_hops(), [(LAN, addr("198.51.100.3"))]);
    assert!(known.tunnels.peers.is_empty());
    // The same neighbours share their flags; other hosts don't.
    let flags = |builder: &TableBuilder| Arc::as_ptr(&bier(builder).down[0].1);
    let before = flags(&builder);
    reload(&mut builder, &LEGS.replace("\"66\"", "\"66,69\""));
    assert_eq!(flags(&builder), before);
    reload(&mut builder, &LEGS.replace("\"lan\", bfr", "\"wan\", bfr"));
    assert_ne!(flags(&builder), before);
}

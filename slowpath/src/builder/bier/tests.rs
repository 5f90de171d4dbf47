use std::net::IpAddr;

use millrace_bier::bift_id::BiftId;
use millrace_bier::id::{Bsl, Si};
use millrace_fastpath::tables::names::HashKey;

use super::*;
use crate::builder::TableFiles;
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
    let draft = builder.draft(&config).unwrap();
    builder.reload(&config, draft, None);
}

fn bier(builder: &TableBuilder) -> &Arc<Bier> {
    builder.tables().bier.as_ref().unwrap()
}

fn bift<'a>(bier: &'a Bier, sub_domain: u8) -> &'a Arc<Bift> {
    known_bifts_of(bier).find(|one| one.key().sub_domain == SubDomain(sub_domain)).unwrap()
}

fn known_bifts_of(bier: &Bier) -> impl Iterator<Item = &Arc<Bift>> {
    bier.plane.iter().filter_map(|table| match table {
        AnyBift::Bier(bift) => Some(bift),
        AnyBift::BierTe(_) => None,
    })
}

#[test]
fn the_configuration_becomes_tables_links_listeners_and_flows() {
    let builder = builder();
    let bier = bier(&builder);
    let link = |interface, via: &str, carriage| Link { interface, via: addr(via), carriage };
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
    assert_eq!(bier.listeners[&addr("232.1.1.2")], [LAN, LAN_20]);
    let flow =
        |source: [u8; 4], group: [u8; 4]| Flow { source: IpAddr::from(source), group: IpAddr::from(group) };
    let packets: Vec<_> =
        bier.overlay.get(flow([192, 0, 2, 100], [232, 1, 1, 1])).unwrap().packets().collect();
    assert_eq!((packets[0].0.si, packets[0].0.bsl, packets[0].1[0]), (Si(0), Bsl::B256, 0b101));
    let ingress: Vec<_> = bier.ingress.iter().map(|(id, one)| (id.0, one.bfir_id.get(), one.ttl)).collect();
    assert_eq!(ingress, [(0, 5, 64)], "nothing begins where we have no number");
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
fn neighbours_that_are_down_stay_down_under_another_number() {
    let mut builder = builder();
    bier(&builder).set_down(SubDomain(0), NeighbourIndex(1), true);
    let flags = Arc::clone(&bier(&builder).down[0].1);
    reload(&mut builder, &BIER.replace("\"1,2\"", "\"1,2,4\""));
    assert!(Arc::ptr_eq(&flags, &bier(&builder).down[0].1), "the same neighbours: the same flags");
    let p0 = "table = [\n{ neighbour = \"p0\", address = \"192.0.2.10\", bfr_ids = \"10\" },";
    reload(&mut builder, &BIER.replacen("table = [", p0, 1));
    let down = |at| bier(&builder).down(SubDomain(0)).unwrap().is_down(NeighbourIndex(at));
    assert_eq!([0, 1, 2].map(down), [false, false, true]);
}

#[test]
fn more_links_than_are_counted_are_refused_and_numbers_of_old_ones_given_out_again() {
    let link = |at: usize| Link {
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

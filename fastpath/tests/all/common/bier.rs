//! BIER tables for a bench: router `n` is neighbour `n` on the LAN, behind link `n`.

use std::sync::Arc;

use millrace_bier::bift::given::{Given, Row, build};
use millrace_bier::bift::{LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bift_id::BiftIds;
use millrace_bier::forward::Down;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::{AnyBift, Plane};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::InterfaceId;
use millrace_fastpath::tables::bier::{Bier, Ingress, Link, Tunnels};
use millrace_fastpath::tables::listeners::{Listener, Listeners};

use super::{Bench, addr};

/// Our BFR-id, in every sub-domain.
pub(crate) const OURS: u16 = 5;
/// Who we are in what enters here.
pub(crate) const INGRESS: u16 = 9;
pub(crate) const WAN_IF: InterfaceId = InterfaceId(0);
pub(crate) const LAN_IF: InterfaceId = InterfaceId(1);
pub(crate) const VLAN_IF: InterfaceId = InterfaceId(2);

/// A neighbour's address on the LAN, and its link-layer address.
pub(crate) fn neighbour_of(number: u8) -> (Addr, [u8; 6]) {
    (Addr::v4([198, 51, 100, 100 + number]), [2, 0, 0, 0, 1, number])
}

/// Tables of a sub-domain, of which each row is the routers that a neighbour leads to; neighbours want packets to have these
/// BIFT-ids. Neighbour 0 stands in for neighbour 1.
pub(crate) fn given(sub_domain: SubDomain, bsl: Bsl, rows: &[&[u16]], ids: &BiftIds) -> Vec<AnyBift> {
    given_with_hosts(sub_domain, bsl, rows, &[], ids)
}

/// The same with hosts that have numbers of their own, behind these links.
pub(crate) fn given_with_hosts(
    sub_domain: SubDomain,
    bsl: Bsl,
    rows: &[&[u16]],
    hosts: &[(LinkId, &[u16])],
    ids: &BiftIds,
) -> Vec<AnyBift> {
    let routers = (0..rows.len() as u32).map(|number| Reach::Links([LinkId(number)].into()));
    let reach = routers.chain(hosts.iter().map(|(link, _)| Reach::Hosts(*link)));
    let neighbours: Vec<_> = (0..)
        .zip(reach)
        .map(|(number, reach)| (Neighbour { prefix: [192, 0, 2, number].into(), reach }, ids.clone()))
        .collect();
    let rows: Vec<_> = (0..)
        .zip(rows.iter().chain(hosts.iter().map(|(_, ids)| ids)))
        .map(|(number, ids)| Row {
            neighbour: NeighbourIndex(number),
            bfr_ids: ids.iter().filter_map(|id| BfrId::new(*id)).collect(),
            backup: (number == 1 && rows.len() > 1).then_some(NeighbourIndex(0)),
        })
        .collect();
    let own = BfrId::new(OURS);
    let given = Given { sub_domain, bsl, own, tables: 1, seed: 0, neighbours: &neighbours, rows: &rows };
    build(&given).unwrap().into_iter().map(|bift| AnyBift::Bier(Arc::new(bift))).collect()
}

/// Gives the bench these tables, and a link for each carriage; listeners to one IPv4 and one IPv6 group on the LAN and a VLAN
/// of it; packets may enter every sub-domain.
pub(crate) fn install(bench: &mut Bench, ours: BiftIds, tables: Vec<AnyBift>, carriages: &[Carriage]) {
    let numbers = 0..carriages.len() as u8;
    for number in numbers.clone() {
        let (via, mac) = neighbour_of(number);
        bench.tables.neighbours.insert(LAN_IF, via, mac);
    }
    let links = numbers.zip(carriages).map(|(number, carriage)| Link::Beside {
        interface: LAN_IF,
        via: neighbour_of(number).0,
        carriage: *carriage,
    });
    let mut sub_domains: Vec<_> = tables.iter().map(|bift| bift.key().sub_domain).collect();
    sub_domains.dedup();
    let neighbours = tables.iter().filter_map(AnyBift::of_routers).map(|bift| bift.neighbours().len()).max();
    let neighbours = neighbours.unwrap_or(carriages.len());
    let ingress = Ingress { bfir_id: BfrId::new(INGRESS).unwrap(), ttl: 30, mtu: u16::MAX };
    let mut bier = Bier {
        plane: Plane::new(ours, tables).unwrap(),
        links: links.collect(),
        tunnels: Tunnels::default(),
        ways: Vec::new(),
        hops: Vec::new(),
        within: sub_domains.iter().map(|id| (*id, vec![WAN_IF, LAN_IF])).collect(),
        receivers_from: Vec::new(),
        down: sub_domains.iter().map(|id| (*id, Arc::new(Down::new(neighbours)))).collect(),
        overlay: Overlay::default(),
        ingress: sub_domains.iter().map(|id| (*id, ingress)).collect(),
        listeners: Listeners::default(),
        behind: Vec::new(),
        signalled: false,
        queried: Vec::new(),
    };
    bier.listeners.set(addr("232.1.1.1"), [LAN_IF, VLAN_IF].map(Listener::any));
    bier.listeners.set(addr("ff3e::1:2"), [Listener::any(LAN_IF)]);
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

/// The bench of an access switch: routers behind neighbour 0, hosts on the LAN, behind link 1, and on its VLAN, behind link 2.
pub(crate) fn access_switch(bench: &mut Bench, bsl: Bsl, routers: &[u16], legs: [&[u16]; 2]) {
    let hosts = [(LinkId(1), legs[0]), (LinkId(2), legs[1])];
    let tables = given_with_hosts(SubDomain(0), bsl, &[routers], &hosts, &BiftIds::Static);
    install(bench, BiftIds::Static, tables, &[Carriage::NonMpls]);
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.down = vec![(SubDomain(0), Arc::new(Down::new(1 + hosts.len())))];
    bier.links.extend([LAN_IF, VLAN_IF].map(|interface| Link::Hosts { interface }));
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

/// Moves the neighbour of a link to another interface.
pub(crate) fn put_on(link: &mut Link, to: InterfaceId) {
    if let Link::Beside { interface, .. } | Link::Hosts { interface } = link {
        *interface = to;
    }
}

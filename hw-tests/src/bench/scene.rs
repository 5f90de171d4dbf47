//! What the appliance of the node benchmarks knows: one port, a route, a service, names.

use std::net::Ipv4Addr;
use std::sync::Arc;

use millrace_bier::bift::given::{Given, Row, build};
use millrace_bier::bift::{LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bift_id::{BiftId, BiftIds};
use millrace_bier::bits::BitString;
use millrace_bier::forward::Down;
use millrace_bier::header::{Carriage, ETHERTYPE, Header, LEN_MAX, Proto};
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};
use millrace_bier::overlay::Overlay;
use millrace_bier::plane::{AnyBift, Plane};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::bier::{Bier, Link, Tunnels};
use millrace_fastpath::tables::interfaces::{Interface, Interfaces, Local, Mac};
use millrace_fastpath::tables::listeners::Listeners;
use millrace_fastpath::tables::names::{HashKey, Names, NamesError, Record, RecordData, Soa, WireName, Zone};
use millrace_fastpath::tables::routes::{NextHop, Route};
use millrace_fastpath::tables::services::{
    DnsAnswer, Endpoint, Forwarding, Handling, Instance, InstanceSlotId, InstanceState, Overflow, Service,
    ServiceId, SourceAddress, Verify,
};
use millrace_fastpath::tables::{InterfaceId, Neighbours, Policy, Routes, Tables};

use super::circuit::PORT;

/// The appliance's address on the link.
pub const OUR_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// Everybody else's.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// Where names are answered.
pub const DNS_ADDRESS: [u8; 4] = [192, 0, 2, 53];
/// A service.
pub const VIP: ([u8; 4], u16) = ([203, 0, 113, 10], 80);
/// Its instance.
pub const INSTANCE: ([u8; 4], u16) = ([198, 51, 100, 7], 8080);
/// A /16 beyond the next router.
pub const TRANSIT_NETWORK: [u8; 4] = [172, 16, 0, 0];
/// Digits that tell names apart.
pub const NAME_DIGITS: usize = 7;
/// The service's place in the tables.
pub const SERVICE: ServiceId = ServiceId(0);

const OURS: [u8; 4] = [192, 0, 2, 1];
const ROUTER: [u8; 4] = [192, 0, 2, 254];
const INTERFACE: InterfaceId = InterfaceId(0);

/// Interfaces, routes and neighbours; no service, no name.
pub fn network() -> Tables {
    let interface = Interface {
        name: "ring".to_owned(),
        port: PORT,
        vlan: None,
        outer: None,
        mac: OUR_MAC,
        mtu: 1500,
        addresses: vec![(Addr::v4(OURS), 24)],
    };
    let local = |host, dns, service| Local { host, dns, service, flow: None };
    let locals = [
        (Addr::v4(OURS), local(true, false, false)),
        (Addr::v4(DNS_ADDRESS), local(false, true, false)),
        (Addr::v4(VIP.0), local(false, false, true)),
    ];
    let route = |prefix, len, via| Route {
        prefix: Addr::v4(prefix),
        len,
        next_hop: NextHop { interface: INTERFACE, via },
    };
    let router = Some(Addr::v4(ROUTER));
    let routes = [
        route([0; 4], 0, router),
        route([192, 0, 2, 0], 24, None),
        route([198, 51, 100, 0], 24, None),
        route([10, 0, 0, 0], 8, router),
        route(TRANSIT_NETWORK, 16, router),
    ];
    let mut neighbours = Neighbours::default();
    for address in [ROUTER, INSTANCE.0] {
        neighbours.insert(INTERFACE, Addr::v4(address), CLIENT_MAC);
    }
    Tables {
        interfaces: Arc::new(Interfaces::new(vec![interface], locals)),
        routes: Arc::new(Routes::new(&routes)),
        neighbours,
        policy: Policy { dns_intercept: true, ..Policy::default() },
        ..Tables::default()
    }
}

/// The network with a service behind its address: of a fixed backend, or of a function that nobody ever wakes.
pub fn with_service(cold: bool) -> Tables {
    let mut tables = network();
    let service = service(cold);
    let endpoint = Endpoint { addr: Addr::v4(VIP.0), port: VIP.1, protocol: 6 };
    let services = Arc::make_mut(&mut tables.services);
    services.insert(SERVICE, Arc::new(service), &[endpoint]);
    tables
}

/// A service of a fixed backend, or of a function that nobody ever wakes.
pub fn service(cold: bool) -> Service {
    let instance = Instance {
        id: 0,
        addresses: [Some(Addr::v4(INSTANCE.0)), None],
        port: INSTANCE.1,
        weight: 1,
        state: InstanceState::Ready,
        slot: InstanceSlotId(0),
        down: [false; 2],
        fixed: true,
        server_id: None,
    };
    Service {
        name: "bench".to_owned(),
        wakes: cold,
        trigger_dns: false,
        trigger_syn: true,
        trigger_flow: false,
        handling: Handling::Hold,
        verify: Verify::None,
        dns_answer: DnsAnswer::Immediate,
        forwarding: Forwarding::Nat,
        source: SourceAddress::Keep,
        hold_packets_max: 8192,
        // Short, so that there is always room for the next: a packet's way into the hold and out of it is one cost.
        hold_nanos_max: 500_000,
        overflow: Overflow::Drop,
        quic: Vec::new(),
        instances: if cold { Vec::new() } else { vec![instance] },
    }
}

/// The network with one zone of `count` names, each with an address.
///
/// # Errors
/// When the names can't be built, which would be our own mistake.
pub fn with_names(count: u64) -> Result<Tables, NamesError> {
    let mut tables = network();
    let record = |number: u64| Record {
        owner: name(number),
        ttl_seconds: 30,
        data: RecordData::A(Ipv4Addr::from_bits(0x0a00_0000 | number as u32)),
    };
    let zone = Zone {
        apex: wire(b"\x02fn\x07example\0"),
        soa: Soa {
            primary: wire(b"\x03ns1\x02fn\x07example\0"),
            contact: wire(b"\x03ops\x02fn\x07example\0"),
            serial: 1,
            refresh_seconds: 3600,
            retry_seconds: 600,
            expire_seconds: 86_400,
            minimum_ttl_seconds: 5,
        },
        ttl_seconds: 30,
        cold_ttl_seconds: 1,
        records: (0..count).map(record).collect(),
        bindings: Vec::new(),
    };
    tables.names = Names::build(HashKey(7, 11), &[zone])?;
    Ok(tables)
}

/// The name of that number, in wire form.
pub fn query_name(number: u64) -> Vec<u8> {
    let mut name = format!("\u{8}n{number:0width$}", width = NAME_DIGITS).into_bytes();
    name.extend(b"\x02fn\x07example\0");
    name
}

/// The same, as the tables want it.
pub fn name(number: u64) -> WireName {
    wire(&query_name(number))
}

fn wire(bytes: &[u8]) -> WireName {
    WireName::from_wire(bytes).expect("the names of the scene are well formed")
}

/// The network with BIER neighbours on the link, and `ids` routers behind them in turn.
pub fn with_bier(bsl: Bsl, neighbours: u16, ids: u16) -> Tables {
    with_bier_rows(bsl, neighbours, ids, None)
}

/// The network with a BIER neighbour on another port that leads to router 1, and one on the link that stands in for it.
pub fn with_bier_backup(bsl: Bsl, port: PortId) -> Tables {
    let mut tables = with_bier_rows(bsl, 2, 1, Some(NeighbourIndex(1)));
    let interfaces = [PORT, port].map(|port| Interface {
        name: format!("ring{}", port.0),
        port,
        vlan: None,
        outer: None,
        mac: OUR_MAC,
        mtu: 1500,
        addresses: Vec::new(),
    });
    tables.interfaces = Arc::new(Interfaces::new(interfaces.into(), []));
    if let Some(mut shared) = tables.bier.take() {
        let bier = Arc::make_mut(&mut shared);
        let via = bier.links[0].to().expect("a neighbour has an address");
        let carriage = Carriage::NonMpls;
        bier.links[0] = Link::Beside { interface: InterfaceId(1), via, carriage };
        tables.neighbours.insert(InterfaceId(1), via, CLIENT_MAC);
        bier.resolve(&tables);
        tables.bier = Some(shared);
    }
    tables
}

/// `backup` stands in for the first neighbour.
fn with_bier_rows(bsl: Bsl, neighbours: u16, ids: u16, backup: Option<NeighbourIndex>) -> Tables {
    let mut tables = network();
    let address = |number: u16| Addr::v4([198, 51, 100, number as u8]);
    let sub_domain = SubDomain(0);
    let list: Vec<_> = (0..neighbours)
        .map(|number| {
            let reach = Reach::Links([LinkId(number.into())].into());
            (Neighbour { prefix: address(number).to_ip(), reach }, BiftIds::Static)
        })
        .collect();
    let rows: Vec<_> = (0..neighbours)
        .map(|number| Row {
            neighbour: NeighbourIndex(number),
            bfr_ids: (1..=ids).filter(|id| (id - 1) % neighbours == number).filter_map(BfrId::new).collect(),
            backup: backup.filter(|_| number == 0),
        })
        .collect();
    let given = Given { sub_domain, bsl, own: None, tables: 1, seed: 0, neighbours: &list, rows: &rows };
    let bifts = build(&given).expect("the rows of the scene are well formed");
    let bifts = bifts.into_iter().map(|bift| AnyBift::Bier(Arc::new(bift))).collect();
    let link =
        |number| Link::Beside { interface: INTERFACE, via: address(number), carriage: Carriage::NonMpls };
    (0..neighbours).for_each(|number| tables.neighbours.insert(INTERFACE, address(number), CLIENT_MAC));
    let mut bier = Bier {
        within: Vec::new(),
        receivers_from: Vec::new(),
        plane: Plane::new(BiftIds::Static, bifts).expect("the tables of the scene stand together"),
        links: (0..neighbours).map(link).collect(),
        tunnels: Tunnels::default(),
        ways: Vec::new(),
        hops: Vec::new(),
        down: vec![(sub_domain, Arc::new(Down::new(list.len())))],
        overlay: Overlay::default(),
        ingress: Vec::new(),
        listeners: Listeners::default(),
        behind: Vec::new(),
        signalled: false,
        queried: Vec::new(),
    };
    bier.resolve(&tables);
    tables.bier = Some(Arc::new(bier));
    tables
}

/// A frame of `size` bytes, or as many as its headers have, to routers of one set.
pub fn bier_frame(bsl: Bsl, si: u8, ids: &[u16], size: usize) -> Vec<u8> {
    let bits = ids.iter().filter_map(|id| Some(BfrId::new(*id)?.position(bsl)?.1));
    let header = Header {
        carriage: Carriage::NonMpls,
        bift_id: BiftId::static_form(BiftKey { sub_domain: SubDomain(0), si: Si(si), bsl }),
        tc: 0,
        ttl: 64,
        entropy: 0,
        oam: 0,
        dscp: 0,
        proto: Proto::Ipv4,
        bfir_id: BfrId::new(1),
    };
    let mut frame = [&OUR_MAC[..], &CLIENT_MAC, &ETHERTYPE.to_be_bytes()].concat();
    let mut bytes = [0; LEN_MAX];
    let written = header.emit(bsl, BitString::of(bsl, bits).words(), &mut bytes).unwrap_or(0);
    frame.extend(&bytes[..written]);
    frame.resize(size.max(frame.len()), 0);
    frame
}

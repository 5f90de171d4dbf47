//! Building and changing tables. What they answer is tested with the responder.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::tables::services::ServiceId;

const KEY: HashKey = HashKey(1, 2);

fn name(text: &str) -> WireName {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let wire: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    WireName::from_wire(&[&wire[..], &[0]].concat()).unwrap()
}

fn zone(apex: &str) -> Zone {
    let soa = Soa {
        primary: name("ns1.fn.example"),
        contact: name("ops.fn.example"),
        serial: 1,
        refresh_seconds: 2,
        retry_seconds: 3,
        expire_seconds: 4,
        minimum_ttl_seconds: 5,
    };
    Zone { apex: name(apex), soa, ttl_seconds: 30, cold_ttl_seconds: 1, records: vec![], bindings: vec![] }
}

fn binding(of: &str, service: u16) -> NameBinding {
    NameBinding { name: name(of), service: ServiceId(service), v4: vec![[192, 0, 2, 1].into()], v6: vec![] }
}

fn with_record(owner: &str, data: RecordData) -> Zone {
    let record = Record { owner: name(owner), ttl_seconds: 30, data };
    Zone { records: vec![record], ..zone("fn.example") }
}

/// All nodes, in an order of their own.
fn nodes(names: &Names) -> BTreeMap<WireName, Builder> {
    let nodes = names.iter().map(|node| (WireName::from_wire(node.name()).unwrap(), node.to_builder()));
    let nodes: BTreeMap<_, _> = nodes.collect();
    assert_eq!(nodes.len(), names.len());
    nodes
}

proptest! {
    /// However names come and go, the table is the one that is built at once from what is left.
    #[test]
    fn changes_lead_where_building_leads(
        changes in prop::collection::vec((prop::collection::vec(0_u8..3, 0..5), prop::option::weighted(0.6, 0_u16..9)), 0..60),
    ) {
        let zones = || {
            let mut outer = with_record("b.fn.example", RecordData::Txt(vec![b"static".to_vec()]));
            outer.records.push(Record {
                owner: name("x.c.fn.example"), ttl_seconds: 9, data: RecordData::A([192, 0, 2, 9].into()),
            });
            [outer, zone("b.a.fn.example")]
        };
        let mut names = Names::build(KEY, &zones()).unwrap();
        let first = (names.clone(), nodes(&names));
        let mut left: BTreeMap<WireName, NameBinding> = BTreeMap::new();
        for (labels, service) in changes {
            let text: String = labels.iter().map(|label| ["a.", "b.", "c."][usize::from(*label)]).collect();
            let binding = binding(&format!("{text}fn.example"), service.unwrap_or(0));
            match service {
                Some(_) => {
                    names.bind(&binding).unwrap();
                    left.insert(binding.name.clone(), binding);
                }
                None => prop_assert_eq!(names.unbind(&binding.name), left.remove(&binding.name).is_some()),
            }
        }
        let mut zones = zones();
        let inner = zones[1].apex.clone();
        let (of_inner, of_outer) = left.into_values().partition(|binding| binding.name.is_in(&inner));
        zones[1].bindings = of_inner;
        zones[0].bindings = of_outer;
        let mut built = nodes(&Names::build(KEY, &zones).unwrap());
        let mut changed = nodes(&names);
        // The order of the sets at a name is that in which they came.
        for builder in built.values_mut().chain(changed.values_mut()) {
            builder.sets.sort_by_key(|set| set.kind);
        }
        prop_assert_eq!(changed, built);
        prop_assert_eq!(nodes(&first.0), first.1, "an older snapshot stays what it was");
    }
}

#[test]
fn a_service_that_moves_replaces_its_addresses() {
    let mut names = Names::build(KEY, &[zone("fn.example")]).unwrap();
    names.bind(&binding("a.fn.example", 1)).unwrap();
    let other =
        NameBinding { v4: vec![], v6: vec!["2001:db8::1".parse().unwrap()], ..binding("a.fn.example", 2) };
    names.bind(&other).unwrap();
    let node = names.get(name("a.fn.example").as_bytes()).unwrap();
    assert_eq!(node.service(), Some(ServiceId(2)));
    assert_eq!((node.set(RecordType::A), node.set(RecordType::AAAA).map(|set| set.count)), (None, Some(1)));
}

#[test]
fn records_of_a_set_are_evened_out() {
    let record = |ttl_seconds, last| Record {
        owner: name("fn.example"),
        ttl_seconds,
        data: RecordData::A([192, 0, 2, last].into()),
    };
    let zone = Zone { records: vec![record(9, 1), record(7, 2), record(8, 1)], ..zone("fn.example") };
    let names = Names::build(KEY, &[zone]).unwrap();
    let set = names.get(name("fn.example").as_bytes()).unwrap().set(RecordType::A).unwrap();
    let one = |last| [192, 12, 0, 1, 0, 1, 0, 0, 0, 7, 0, 4, 192, 0, 2, last];
    assert_eq!(set, RrSet { count: 2, wire: &[one(1), one(2)].concat() });
}

#[test]
fn the_innermost_zone_answers() {
    let names = Names::build(KEY, &[zone("b.a.fn.example"), zone("fn.example"), zone("test")]).unwrap();
    let around = |of: &str| names.zone_around(name(of).as_bytes()).map(|zone| zone.apex().to_string());
    assert_eq!(around("x.y.b.a.fn.example").as_deref(), Some("b.a.fn.example."));
    assert_eq!(around("c.a.fn.example").as_deref(), Some("fn.example."));
    assert_eq!(around("b.fn.example").as_deref(), Some("fn.example."));
    assert_eq!(around("test").as_deref(), Some("test."));
    assert_eq!((around("example"), around("a.b.afn.example"), around("")), (None, None, None));
    let names = Names::build(KEY, &[zone("."), zone("test")]).unwrap();
    assert_eq!(names.zone_around(b"\x01a\0").unwrap().apex(), &name("."));
    assert_eq!(names.zone_around(b"\x01a\x04test\0").unwrap().apex(), &name("test"));
    assert!(Names::default().zone_around(b"\x01a\0").is_none());
}

#[test]
fn what_cannot_be_served_is_refused() {
    let build = |zones: &[Zone]| Names::build(KEY, zones).err();
    let ns = || RecordData::Ns(name("ns1.fn.example"));
    let a = || RecordData::A([192, 0, 2, 1].into());
    let bound = |bindings| Zone { bindings, ..zone("fn.example") };
    assert_eq!(build(&[with_record("fn.example", ns())]), None);
    assert_eq!(
        build(&[zone("fn.example"), zone("FN.example")]),
        Some(NamesError::ZoneTwice(name("fn.example")))
    );
    assert_eq!(
        build(&[with_record("sub.fn.example", ns())]),
        Some(NamesError::Delegation(name("sub.fn.example")))
    );
    assert_eq!(build(&[with_record("example", a())]), Some(NamesError::OutsideZone(name("example"))));
    assert_eq!(
        build(&[with_record("x.in.fn.example", a()), zone("in.fn.example")]),
        Some(NamesError::OutsideZone(name("x.in.fn.example")))
    );
    assert_eq!(
        build(&[bound(vec![binding("x.in.fn.example", 1)]), zone("in.fn.example")]),
        Some(NamesError::OutsideZone(name("x.in.fn.example")))
    );
    assert_eq!(build(&[with_record("*.fn.example", a())]), None);
    assert_eq!(build(&[zone("*.fn.example")]), Some(NamesError::Wildcard(name("*.fn.example"))));
    assert_eq!(
        build(&[bound(vec![binding("*.fn.example", 1)])]),
        Some(NamesError::Wildcard(name("*.fn.example")))
    );
    for kind in [0, 6, 39, 41, 46, 50, 251, 255].map(RecordType) {
        let zone = with_record("a.fn.example", RecordData::Other { kind, data: vec![1] });
        assert_eq!(build(&[zone]), Some(NamesError::Kind(name("a.fn.example"), kind)));
    }
    assert_eq!(
        build(&[bound(vec![binding("a.fn.example", 1), binding("A.fn.example", 1)])]),
        Some(NamesError::BoundTwice(name("a.fn.example")))
    );
    let both = Zone { bindings: vec![binding("a.fn.example", 1)], ..with_record("a.fn.example", a()) };
    assert_eq!(build(&[both]), Some(NamesError::BoundBesideAddresses(name("a.fn.example"))));
    let without = NameBinding { v4: vec![], ..binding("a.fn.example", 1) };
    assert_eq!(build(&[bound(vec![without])]), Some(NamesError::NoAddress(name("a.fn.example"))));
    for wrong in [vec![], vec![vec![0; 256]]] {
        let zone = with_record("a.fn.example", RecordData::Txt(wrong));
        assert_eq!(build(&[zone]), Some(NamesError::Text(name("a.fn.example"))));
    }
    let many = (0..5000_u16).map(|n| Record {
        owner: name("a.fn.example"),
        ttl_seconds: 1,
        data: RecordData::A(std::net::Ipv4Addr::from(u32::from(n))),
    });
    let zone_of_many = Zone { records: many.collect(), ..zone("fn.example") };
    assert_eq!(build(&[zone_of_many]), Some(NamesError::RrsetTooLong(name("a.fn.example"), RecordType::A)));
    let slow = Zone { ttl_seconds: TTL_SECONDS_MAX + 1, ..zone("fn.example") };
    assert_eq!(build(&[slow]), Some(NamesError::Ttl(name("fn.example"))));
}

#[test]
fn an_alias_stands_alone_and_leads_to_an_end() {
    let cname = |owner: &str, target: &str| Record {
        owner: name(owner),
        ttl_seconds: 30,
        data: RecordData::Cname(name(target)),
    };
    let build = |records: Vec<Record>| Names::build(KEY, &[Zone { records, ..zone("fn.example") }]).err();
    let beside = Some(NamesError::CnameBeside(name("a.fn.example")));
    let a = Record { data: RecordData::A([192, 0, 2, 1].into()), ..cname("a.fn.example", ".") };
    assert_eq!(build(vec![cname("a.fn.example", "b.fn.example"), a.clone()]), beside);
    assert_eq!(build(vec![cname("a.fn.example", "b.test"), cname("a.fn.example", "c.test")]), beside);
    let at_apex = build(vec![cname("fn.example", "b.test")]);
    assert_eq!(at_apex, Some(NamesError::CnameBeside(name("fn.example"))));
    let bound = Zone {
        records: vec![cname("a.fn.example", "b.test")],
        bindings: vec![binding("a.fn.example", 1)],
        ..zone("fn.example")
    };
    assert_eq!(Names::build(KEY, &[bound]).err(), beside);

    let endless = |owner: &str| Some(NamesError::CnameChain(name(owner)));
    assert_eq!(build(vec![cname("a.fn.example", "a.fn.example")]), endless("a.fn.example"));
    assert_eq!(build(vec![cname("*.fn.example", "b.fn.example")]), endless("*.fn.example"), "b matches");
    let chain = |len: usize| {
        (0..len).map(|at| cname(&format!("n{at}.fn.example"), &format!("n{}.fn.example", at + 1))).collect()
    };
    assert_eq!(build(chain(CHAIN_MAX)), None);
    assert_eq!(build(chain(CHAIN_MAX + 1)), endless("n0.fn.example"));
}

#[test]
fn a_wildcard_stands_in_for_names_that_its_closest_encloser_lacks() {
    let a = |owner: &str| with_record(owner, RecordData::A([192, 0, 2, 1].into())).records.remove(0);
    let records = vec![a("*.w.fn.example"), a("b.here.w.fn.example"), a("x.*.e.fn.example")];
    let mut names = Names::build(KEY, &[Zone { records, ..zone("fn.example") }]).unwrap();
    let found = |names: &Names, of: &str| {
        let of = name(of);
        let zone = names.zone_around(of.as_bytes()).unwrap().clone();
        names.wildcard(&zone, of.as_bytes()).map(|node| WireName::from_wire(node.name()).unwrap().to_string())
    };
    assert_eq!(found(&names, "q.w.fn.example").as_deref(), Some("*.w.fn.example."));
    assert_eq!(found(&names, "p.q.r.w.fn.example").as_deref(), Some("*.w.fn.example."));
    assert_eq!(found(&names, "q.e.fn.example").as_deref(), Some("*.e.fn.example."), "an empty non-terminal");
    assert_eq!(found(&names, "q.here.w.fn.example"), None);
    assert_eq!(found(&names, "q.fn.example"), None);
    let longest = format!("{}w.fn.example", "a.".repeat(120));
    assert_eq!(found(&names, &longest).as_deref(), Some("*.w.fn.example."));
    names.bind(&binding("q.w.fn.example", 1)).unwrap();
    assert_eq!(found(&names, "p.q.w.fn.example"), None, "a name that came to be is closer");
    names.unbind(&name("q.w.fn.example"));
    assert_eq!(found(&names, "p.q.w.fn.example").as_deref(), Some("*.w.fn.example."));
}

#[test]
fn data_come_back_from_the_wire() {
    let all = [
        RecordData::A([192, 0, 2, 1].into()),
        RecordData::Aaaa("2001:db8::1".parse().unwrap()),
        RecordData::Ns(name("ns1.fn.example")),
        RecordData::Cname(name("fn.example")),
        RecordData::Txt(vec![b"a".to_vec(), vec![], vec![7; 255]]),
        RecordData::Other { kind: RecordType::MX, data: vec![1, 2, 3] },
    ];
    for data in all {
        assert_eq!(RecordData::from_wire(data.kind(), &data.to_wire().unwrap()), Some(data));
    }
    for (kind, data) in [(1, &b"abc"[..]), (28, b"abcd"), (2, b"\x01a"), (5, b"\xc0\x0c"), (16, b"\x02a")] {
        assert_eq!(RecordData::from_wire(RecordType(kind), data), None);
    }
}

#[test]
fn a_refused_binding_changes_nothing() {
    let mut names =
        Names::build(KEY, &[with_record("a.fn.example", RecordData::A([192, 0, 2, 7].into()))]).unwrap();
    let before = nodes(&names);
    for refused in [binding("a.fn.example", 1), binding("a.example", 1), binding("*.fn.example", 1)] {
        assert!(names.bind(&refused).is_err());
    }
    assert!(!names.unbind(&name("a.fn.example")));
    assert_eq!(nodes(&names), before);
}

use alloc::borrow::ToOwned;
use alloc::vec;

use super::*;
use crate::bift_id::{BiftId, Clash};

fn router(name: &str, id: u16) -> RouterSpec {
    let prefix = Some([192, 0, 2, name.as_bytes()[0]].into());
    RouterSpec { prefix, bfr_id: BfrId::new(id), ..RouterSpec::bier(name) }
}

#[test]
fn all_contradictions_are_told_at_once() {
    let domain = Domain::new(SubDomain(0), Bsl::B64, &[], &[]);
    assert_eq!((domain.0.routers().len(), domain.1), (0, vec![]));

    let key = |si| BiftKey { sub_domain: SubDomain(0), si: Si(si), bsl: Bsl::B64 };
    let id = |id| BiftId::new(id).unwrap();
    let b64 = |spec: RouterSpec| RouterSpec { bsls: vec![Bsl::B64], ..spec };
    let clashing = BiftIdSpec::Map(vec![(key(0), id(7)), (key(1), id(7)), (key(1), id(8))]);
    let routers = [
        b64(router("a", 1)),
        b64(router("b", 2)),
        b64(router("c", 1)),
        RouterSpec { name: "a".to_owned(), ..b64(router("d", 4)) },
        RouterSpec { prefix: router("b", 0).prefix, ..b64(router("e", 5)) },
        RouterSpec { bfr_id: BfrId::new(6), ..RouterSpec::plain("f") },
        RouterSpec { bsls: vec![], ..router("g", 7) },
        RouterSpec { prefix: None, ..b64(router("h", 8)) },
        b64(router("i", 64 * 256 + 1)),
        RouterSpec { bift_ids: clashing, ..b64(router("j", 10)) },
        router("k", 11),
    ];
    let links = [
        LinkSpec::new("a", "b", 1),
        LinkSpec::new("x", "y", 1),
        LinkSpec::new("a", "a", 0),
        LinkSpec { costs: [1, 0], ..LinkSpec::new("a", "c", 1) },
        LinkSpec::new("a", "c", u32::MAX),
    ];
    let (domain, found) = Domain::new(SubDomain(0), Bsl::B64, &routers, &links);
    let bfr = |id| BfrId::new(id).unwrap();
    let expected = [
        Contradiction::RepeatedBfrId { router: 2, first: 0, id: bfr(1) },
        Contradiction::RepeatedName { router: 3, first: 0, name: "a".to_owned() },
        Contradiction::RepeatedPrefix { router: 4, first: 1, prefix: routers[1].prefix.unwrap() },
        Contradiction::BfrIdWithoutBier { router: 5, id: bfr(6) },
        Contradiction::NoBsl { router: 6 },
        Contradiction::NoPrefix { router: 7 },
        Contradiction::BeyondSets { router: 8, id: bfr(64 * 256 + 1) },
        Contradiction::BiftId { router: 9, item: 1, clash: Clash::Id { id: id(7), taken_by: key(0) } },
        Contradiction::OtherBsl { router: 10, id: bfr(11), bsl: Bsl::B64 },
        Contradiction::UnknownRouter { link: 1, end: 0, name: "x".to_owned() },
        Contradiction::UnknownRouter { link: 1, end: 1, name: "y".to_owned() },
        Contradiction::SelfLink { link: 2, name: "a".to_owned() },
        Contradiction::NoCost { link: 2 },
        Contradiction::NoCost { link: 3 },
    ];
    assert_eq!(found, expected);
    // What is left: d and j. Both with number 1 are out, so are both with one prefix, and k can't read 64 bits.
    let bfers: Vec<_> =
        domain.bfers().into_values().flatten().map(|(bit, at)| (bit.number(), at.0)).collect();
    assert_eq!(bfers, [(4, 3), (10, 9)]);
    let links: Vec<_> = domain.links().iter().map(Option::is_some).collect();
    assert_eq!(links, [true, false, false, false, true]);
}

#[test]
fn a_third_router_of_one_id_is_told_too() {
    let routers = [router("a", 1), router("b", 1), router("c", 1)];
    let (domain, found) = Domain::new(SubDomain(0), Bsl::B256, &routers, &[]);
    assert_eq!(found.len(), 2);
    assert!(domain.bfers().is_empty());
}

use alloc::string::ToString;

use super::*;
use crate::id::SubDomain;
use crate::topology::{LinkSpec, RouterSpec};

/// The domain of RFC 8279 figure 1, with numbers D 1, F 2, E 3, A 4 (section 6.4), and a plain router between E and G.
///
/// ```text
/// A ── B ── C ── D
///       \    \
///        E    F
///        x
///        G
/// ```
fn domain() -> Domain {
    let router = |name: &str, id: u16, last: u8| RouterSpec {
        prefix: Some([192, 0, 2, last].into()),
        bfr_id: BfrId::new(id),
        bsls: vec![Bsl::B64],
        ..RouterSpec::bier(name)
    };
    let routers = [
        router("A", 4, 1),
        router("B", 0, 2),
        router("C", 0, 3),
        router("D", 1, 4),
        router("E", 3, 5),
        router("F", 2, 6),
        router("<G>", 70, 7),
        RouterSpec::plain("x"),
    ];
    let links = [("A", "B"), ("B", "C"), ("C", "D"), ("B", "E"), ("C", "F"), ("E", "x"), ("x", "<G>")];
    let links = links.map(|(one, other)| LinkSpec::new(one, other, 1));
    let (domain, found) = Domain::new(SubDomain(0), Bsl::B64, &routers, &links);
    assert_eq!(found, []);
    domain
}

fn tree(ids: &[u16], ttl: u8) -> Tree {
    let domain = domain();
    let receivers = Receivers::new(ids.iter().filter_map(|id| BfrId::new(*id)));
    Tree::new(&domain, Options::default(), domain.router("A").unwrap(), &receivers, ttl, 0)
}

#[test]
fn the_example_of_rfc_8279_is_replicated_as_it_says() {
    // Section 6.6, example 1 and 2: to D, F and E.
    let expected = "\
A sends set 0, for 1-3
└─ B by link 0, TTL 9, for 1-3
   ├─ C by link 1, TTL 8, for 1-2
   │  ├─ D by link 2, TTL 7, for 1, delivers
   │  └─ F by link 4, TTL 7, for 2, delivers
   └─ E by link 3, TTL 8, for 3, delivers
";
    assert_eq!(tree(&[1, 2, 3], 9).to_string(), expected);
}

#[test]
fn tunnels_sets_short_lives_and_strangers_are_shown() {
    let expected = "\
A sends set 0, for 1,4,9, delivers, no way to 9
└─ B by link 0, TTL 2, for 1
   └─ C by link 1, TTL 1, for 1, expired
A sends set 1, for 70
└─ B by link 0, TTL 2, for 70
   └─ E by link 3, TTL 1, for 70, expired
";
    assert_eq!(tree(&[1, 4, 9, 70], 2).to_string(), expected);
    let tunnel = "      └─ <G> by tunnel, TTL 1, for 70, delivers\n";
    assert!(tree(&[70], 3).to_string().ends_with(tunnel));
}

#[test]
fn the_picture_has_every_visit_and_no_foreign_markup() {
    let tree = tree(&[1, 2, 3, 70], 9);
    let svg = tree.svg();
    assert_eq!(svg.matches("<circle").count(), tree.visits().len());
    assert_eq!(svg.matches("<path").count(), tree.visits().len() - 2);
    assert_eq!(svg.matches("stroke-dasharray").count(), 1);
    assert!(svg.contains("&lt;G&gt;") && !svg.contains("<G>"));
    assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
}

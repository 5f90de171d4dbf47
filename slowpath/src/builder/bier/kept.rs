//! What didn't change between two configurations is shared: tables, the flags of neighbours, and all of it.

use std::sync::Arc;

use millrace_bier::bift::{Bift, Reach};
use millrace_bier::forward::Down;
use millrace_bier::plane::AnyBift;
use millrace_bier::te::TeBift;
use millrace_fastpath::tables::Bier;

pub(super) fn known_bifts(known: Option<&Arc<Bier>>) -> impl Iterator<Item = &Arc<Bift>> {
    known.into_iter().flat_map(|known| known.plane.iter()).filter_map(AnyBift::of_routers)
}

/// The table, or the one that says the same already.
pub(super) fn shared(bift: Bift, known: Option<&Arc<Bier>>) -> Arc<Bift> {
    let same = known_bifts(known).find(|one| ***one == bift).cloned();
    same.unwrap_or_else(|| Arc::new(bift))
}

pub(super) fn shared_te(bift: TeBift, known: Option<&Arc<Bier>>) -> Arc<TeBift> {
    let tables = known.into_iter().flat_map(|known| known.plane.iter());
    let same = tables.filter_map(AnyBift::of_adjacencies).find(|one| ***one == bift).cloned();
    same.unwrap_or_else(|| Arc::new(bift))
}

/// The flags of a sub-domain's neighbours: those that it has, as long as they stand for the same neighbours. They are set
/// with publication.
pub(super) fn flags(bift: &Bift, known: Option<&Arc<Bier>>) -> Arc<Down> {
    let sub_domain = bift.key().sub_domain;
    let hosts = |reach: &Reach| if let Reach::Hosts(link) = reach { Some(*link) } else { None };
    let who =
        |bift: &Bift| bift.neighbours().iter().map(|one| (one.prefix, hosts(&one.reach))).collect::<Vec<_>>();
    let before = known_bifts(known).find(|one| one.key().sub_domain == sub_domain);
    let had = known.and_then(|known| known.down.iter().find(|(id, _)| *id == sub_domain));
    match (before, had) {
        (Some(before), Some((_, had))) if who(before) == who(bift) => Arc::clone(had),
        _ => Arc::new(Down::new(bift.neighbours().len())),
    }
}

pub(super) fn is_same(known: &Bier, next: &Bier) -> bool {
    // Ways follow from links, interfaces, and the addresses of neighbours; who listens is told apart.
    let Bier {
        plane,
        links,
        tunnels,
        ways: _,
        hops,
        down,
        listeners: _,
        behind,
        queried,
        within,
        signalled,
        overlay,
        ingress,
        receivers_from,
    } = known;
    let same_flags =
        || down.iter().zip(&next.down).all(|(one, other)| one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1));
    plane.ours() == next.plane.ours()
        && plane.iter().eq(next.plane.iter())
        && *links == next.links
        && *tunnels == next.tunnels
        && *hops == next.hops
        && down.len() == next.down.len()
        && same_flags()
        && *queried == next.queried
        && *within == next.within
        && *signalled == next.signalled
        && *receivers_from == next.receivers_from
        && overlay.iter().eq(next.overlay.iter())
        && *ingress == next.ingress
        && *behind == next.behind
}

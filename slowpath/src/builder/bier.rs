//! What workers read of BIER, from the configuration: tables, links, listeners, and what enters here. What hosts say that
//! they listen to joins the listeners that are configured.
//!
//! Links have numbers that counters go by, so a link keeps its number while it is configured, and after that as long as
//! there are others to give away. What didn't change between two configurations is shared: tables, flows, and the flags of
//! neighbours that can't be reached.

mod kept;
mod listeners;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use millrace_bier::bift::{Bift, LinkId, Reach};
use millrace_bier::compute::{Computed, Options};
use millrace_bier::frr;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, BiftKey, Bsl, SubDomain};
use millrace_bier::overlay::{Flow, Overlay, Receivers};
use millrace_bier::plane::{AnyBift, Plane};
use millrace_bier::te::TeBift;
use millrace_bier::topology::Domain;
use millrace_config::domainfile::DomainFile;
use millrace_config::limits::BIER_UDP_PORT;
use millrace_config::model::{self, Adjacency, BierKind, BierPath, Config, Protection, TunnelKind};
use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::Bier;
use millrace_fastpath::tables::bier::{
    BIFTS_MAX, Behind, Hop, Ingress, LINKS_MAX, Link, RECEIVERS_MAX, Tunnel, Tunnels, UDP_PORT,
};
use millrace_fastpath::tables::interfaces::InterfaceId;

use self::kept::{flags, is_same, known_bifts, shared, shared_te};
pub(super) use self::listeners::{BierListeners, Fixed};
use super::{BuildError, Domains, TableBuilder};
use crate::membership::{Signalling, Timers};

/// The links by their numbers, those that were once configured included.
#[derive(Clone, Debug, Default)]
pub(super) struct BierLinks(Vec<Link>);

/// The tables by the tags that their packets are counted by, those that were once configured included.
#[derive(Clone, Debug, Default)]
pub(super) struct BierTags {
    /// What each is for, and where the counters of its receivers begin: there are so many.
    keys: Vec<(BiftKey, Option<u32>)>,
    receivers: usize,
}

impl BierTags {
    /// The tag of a table. Those beyond what workers count have one that nothing is counted by.
    fn give(&mut self, key: BiftKey) -> u32 {
        if let Some(at) = self.keys.iter().position(|(known, _)| *known == key) {
            return at as u32;
        }
        if self.keys.len() == BIFTS_MAX {
            return BIFTS_MAX as u32;
        }
        let (from, bits) = (self.receivers, usize::from(key.bsl.bits()));
        let fits = from + bits <= RECEIVERS_MAX;
        if fits {
            self.receivers += bits;
        }
        self.keys.push((key, fits.then_some(from as u32)));
        (self.keys.len() - 1) as u32
    }
}

/// What a configuration asks for of BIER.
#[derive(Debug)]
pub(super) struct BierDraft {
    /// Its listeners are those of before.
    pub(super) bier: Option<Arc<Bier>>,
    pub(super) links: BierLinks,
    pub(super) fixed_listeners: BTreeSet<Fixed>,
    /// Where hosts are asked, and how.
    pub(super) queriers: Vec<(InterfaceId, Timers)>,
    /// What routers tell each other of listeners.
    pub(super) signalling: Vec<Signalling>,
    pub(super) tags: BierTags,
    pub(super) names: Arc<BierNames>,
}

/// A flow whose receivers say so in BIER.
#[derive(Clone, Debug)]
pub(super) struct Learnt {
    sub_domain: SubDomain,
    bsl: Bsl,
    receivers: Receivers,
}

/// Who is who in BIER, for those who talk about it: workers have no use for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BierNames {
    /// Our BFR-prefix.
    pub own: Option<IpAddr>,
    /// The BFR-prefixes of routers that have numbers, as far as a topology tells them.
    prefixes: HashMap<(SubDomain, BfrId), IpAddr>,
    /// By which sub-domain replies to requests of each go.
    replies_by: HashMap<SubDomain, SubDomain>,
}

impl BierNames {
    /// The BFR-prefix of the router of this number.
    pub fn prefix(&self, sub_domain: SubDomain, id: BfrId) -> Option<IpAddr> {
        self.prefixes.get(&(sub_domain, id)).copied()
    }

    /// The sub-domain by which replies to requests of this one go: itself, if its bits stand for routers.
    pub fn replies_by(&self, sub_domain: SubDomain) -> Option<SubDomain> {
        self.replies_by.get(&sub_domain).copied()
    }

    fn new(wanted: &model::Bier, ways: &[Ways]) -> Self {
        let mut prefixes = HashMap::new();
        for (subdomain, ways) in wanted.subdomains.iter().zip(ways) {
            prefixes.extend(subdomain.bfr_id.map(|id| ((subdomain.id, id), wanted.bfr_prefix)));
            let routers = ways.computed.iter().flat_map(|one| one.domain.routers());
            let known = routers.filter_map(|one| Some(((subdomain.id, one.bfr_id()?), one.bier()?)));
            prefixes.extend(known);
        }
        let back = |one: &model::Subdomain| match one.kind {
            BierKind::Bier => Some((one.id, one.id)),
            BierKind::BierTe => Some((one.id, one.replies_by?)),
        };
        let replies_by = wanted.subdomains.iter().filter_map(back).collect();
        Self { own: Some(wanted.bfr_prefix), prefixes, replies_by }
    }
}

/// What a sub-domain's tables are made of, and the links that they lead to.
struct Ways {
    links: Vec<Link>,
    /// Where they are computed: from what.
    computed: Option<Topology>,
    /// Who may send to us through tunnels.
    peers: Vec<IpAddr>,
}

/// A domain, and our place in it.
struct Topology {
    domain: Domain,
    /// What the domain calls our links, which are the first of all, and the port of each.
    own: Vec<(LinkId, usize)>,
    /// The BFR-prefixes of those at the far ends of the tunnels, which are the others.
    tunnels: Vec<IpAddr>,
    /// The tables, with what stands ready for failures.
    bifts: Vec<Arc<Bift>>,
}

/// The tables of `config`, and what they share with those of `before`. `interface` knows the ids of interfaces.
pub(super) fn draft(
    config: &Config,
    interface: impl Fn(model::Interface) -> InterfaceId,
    domains: &Domains,
    before: &BierDraft,
) -> Result<BierDraft, BuildError> {
    let (mut links, mut tags, known) = (before.links.clone(), before.tags.clone(), before.bier.as_ref());
    let Some(wanted) = &config.bier else {
        return Ok(BierDraft {
            bier: None,
            links,
            fixed_listeners: BTreeSet::new(),
            queriers: Vec::new(),
            signalling: Vec::new(),
            tags,
            names: Arc::default(),
        });
    };
    let each = wanted.subdomains.iter().enumerate();
    let ways = each.map(|(at, one)| ways(config, wanted, one, domains.get(&at), &interface));
    let ways = ways.collect::<Result<Vec<_>, _>>()?;
    let numbers = links.number(&ways)?;
    let mut tables = Vec::new();
    let mut down = Vec::new();
    let mut hops = Vec::new();
    for ((subdomain, ways), numbers) in wanted.subdomains.iter().zip(&ways).zip(&numbers) {
        if subdomain.kind == BierKind::BierTe {
            let bifts = te_bifts(subdomain, numbers, &mut hops)?;
            tables.extend(bifts.into_iter().map(|bift| AnyBift::BierTe(shared_te(bift, known))));
            continue;
        }
        let bifts = bifts(wanted, subdomain, ways, numbers)?;
        let mut tagged = |bift: Bift| {
            let tag = tags.give(bift.key());
            bift.with_tag(tag)
        };
        let bifts: Vec<Bift> = bifts.into_iter().map(&mut tagged).collect();
        if let Some(first) = bifts.first() {
            down.push((subdomain.id, flags(first, known)));
        }
        tables.extend(bifts.into_iter().map(|bift| AnyBift::Bier(shared(bift, known))));
    }
    let keys: Vec<_> = tables.iter().map(AnyBift::key).collect();
    let ours =
        wanted.ours(&keys).map_err(|(sub_domain, _)| BuildError::BierTables { sub_domain: sub_domain.0 })?;
    let plane = Plane::new(ours, tables).map_err(|_| BuildError::BierTables {
        sub_domain: wanted.subdomains.first().map_or(0, |one| one.id.0),
    })?;
    let listeners = wanted.listeners.iter().flat_map(|listener| {
        let group = Addr::from(listener.group);
        let hosts = listener.ports.iter().map(move |port| (group, *port, None));
        let hops = listener.next_hops.iter().map(move |(hop, port)| (group, *port, Some(Addr::from(*hop))));
        hosts.chain(hops)
    });
    let fixed_listeners = listeners.map(|(group, port, hop)| (group, interface(port), hop)).collect();
    let queriers = wanted.queriers.iter().flat_map(|querier| {
        let timers = Timers::from(querier);
        querier.ports.iter().map(move |port| (*port, timers))
    });
    let queriers: Vec<_> = queriers.map(|(port, timers)| (interface(port), timers)).collect();
    let signalling: Vec<_> = wanted.subdomains.iter().filter_map(|one| signalling(wanted, one)).collect();
    let bier = Bier {
        plane,
        links: links.0.clone(),
        tunnels: tunnels(wanted, &ways),
        ways: Vec::new(),
        hops,
        down,
        listeners: known.map(|known| known.listeners.clone()).unwrap_or_default(),
        behind: wanted.subdomains.iter().filter_map(|one| behind(one, &interface)).collect(),
        queried: queriers.iter().map(|(interface, _)| *interface).collect(),
        within: wanted.subdomains.iter().zip(&ways).map(|(one, ways)| (one.id, interfaces(ways))).collect(),
        signalled: !signalling.is_empty(),
        receivers_from: match wanted.count_receivers {
            true => tags.keys.iter().map(|(_, from)| *from).collect(),
            false => Vec::new(),
        },
        overlay: overlay(wanted, known.map(|known| &known.overlay)),
        ingress: wanted.subdomains.iter().filter_map(ingress).collect(),
    };
    let same = known.filter(|known| is_same(known, &bier));
    let names = Arc::new(BierNames::new(wanted, &ways));
    let bier = Some(same.map_or_else(|| Arc::new(bier), Arc::clone));
    Ok(BierDraft { bier, links, fixed_listeners, queriers, signalling, tags, names })
}

impl BierLinks {
    /// The numbers of each sub-domain's links, in their order.
    fn number(&mut self, ways: &[Ways]) -> Result<Vec<Vec<LinkId>>, BuildError> {
        let needed: Vec<Link> = ways.iter().flat_map(|ways| ways.links.iter().copied()).collect();
        let mut number = |link: &Link| self.give(*link, &needed);
        ways.iter().map(|ways| ways.links.iter().map(&mut number).collect()).collect()
    }

    /// The number of a link: its own, one that was never given out, or that of one that nobody needs any more.
    fn give(&mut self, link: Link, needed: &[Link]) -> Result<LinkId, BuildError> {
        let at = match self.0.iter().position(|known| *known == link) {
            Some(at) => at,
            None if self.0.len() < LINKS_MAX => {
                self.0.push(link);
                self.0.len() - 1
            }
            None => {
                let free = self.0.iter().position(|known| !needed.contains(known));
                let at = free.ok_or(BuildError::BierLinks)?;
                self.0[at] = link;
                at
            }
        };
        Ok(LinkId(at as u32))
    }
}

fn ways(
    config: &Config,
    wanted: &model::Bier,
    subdomain: &model::Subdomain,
    file: Option<&Arc<DomainFile>>,
    interface: impl Fn(model::Interface) -> InterfaceId,
) -> Result<Ways, BuildError> {
    let link = |path: BierPath, to: IpAddr| {
        let to = Addr::from(to);
        match path {
            BierPath::Ethernet(on) => {
                Link::Beside { interface: interface(on), via: to, carriage: Carriage::NonMpls }
            }
            BierPath::Mpls(on) => {
                Link::Beside { interface: interface(on), via: to, carriage: Carriage::Mpls }
            }
            BierPath::Tunnel(kind) => Link::Tunnel { to, tunnel: tunnel(kind) },
            BierPath::Hosts(on) => Link::Hosts { interface: interface(on) },
        }
    };
    let Some(place) = &subdomain.topology else {
        let neighbours = subdomain.neighbours.iter().map(|one| (one.path, one.prefix()));
        let ends: Vec<_> =
            neighbours.chain(subdomain.adjacencies.iter().filter_map(Adjacency::link)).collect();
        let peers = ends.iter().filter(|(path, _)| path.interface().is_none()).map(|(_, to)| *to).collect();
        let links = ends.into_iter().map(|(path, to)| link(path, to)).collect();
        return Ok(Ways { links, computed: None, peers });
    };
    // The file was checked when it was read.
    let wrong = || BuildError::BierTables { sub_domain: subdomain.id.0 };
    let file = file.ok_or_else(wrong)?;
    let router = place.router.as_str();
    let domain = file.domain(subdomain.id, subdomain.bsl).map_err(|_| wrong())?;
    let own = file.own_links(config, wanted, subdomain, router).map_err(|_| wrong())?;
    let root = domain.router(router).ok_or_else(wrong)?;
    let options = Options { tables: subdomain.ecmp_tables.into(), seed: wanted.seed() };
    let computed = Computed::new(&domain, root, options);
    let places: Vec<_> = own.iter().map(|one| (one.link, one.interface.port.0)).collect();
    let bifts = protected(subdomain, &domain, &computed, &places);
    // Those who stand in further away are known with the tables alone, where they come behind the others.
    let neighbours = bifts.first().map_or(&computed.neighbours()[..], |bift| bift.neighbours());
    let far = neighbours.iter().filter(|one| one.reach == Reach::Tunnel);
    let tunnels: Vec<_> = far.map(|one| one.prefix).collect();
    let kind = subdomain.encapsulation.tunnel().unwrap_or(subdomain.tunnel);
    let by_tunnel = |prefix: &IpAddr| link(BierPath::Tunnel(kind), file.tunnel_address(*prefix));
    let by_link = own.iter().map(|one| link(subdomain.encapsulation.path(one.interface), one.address));
    let links = by_link.chain(tunnels.iter().map(by_tunnel)).collect();
    // Others may need tunnels to us where we need none to them.
    let are_there = subdomain.encapsulation.tunnel().is_some()
        || subdomain.remote_backups
        || domain.routers().iter().any(|router| router.bier().is_none());
    let peers = if are_there { file.addresses() } else { Vec::new() };
    Ok(Ways { links, computed: Some(Topology { domain, own: places, tunnels, bifts }), peers })
}

/// The tables that follow from a topology, with what stands ready for when one of our ports goes down. `own` are our links, and the
/// port of each.
fn protected(
    subdomain: &model::Subdomain,
    domain: &Domain,
    computed: &Computed,
    own: &[(LinkId, usize)],
) -> Vec<Arc<Bift>> {
    // What isn't ours is on no port.
    let port = |link| own.iter().find(|(one, _)| *one == link).map_or(u32::MAX, |(_, port)| *port as u32);
    let protection = match subdomain.protection {
        Protection::None => return computed.bifts().to_vec(),
        Protection::Link => frr::Protection::Link,
        Protection::Node => frr::Protection::Node,
    };
    frr::protect(domain, computed, frr::Repairs { protection, remote: subdomain.remote_backups }, port)
}

/// A sub-domain's tables, whose links have these numbers.
fn bifts(
    wanted: &model::Bier,
    subdomain: &model::Subdomain,
    ways: &Ways,
    numbers: &[LinkId],
) -> Result<Vec<Bift>, BuildError> {
    let Some(Topology { own, tunnels, bifts, .. }) = &ways.computed else {
        let wrong = |_| BuildError::BierTables { sub_domain: subdomain.id.0 };
        return subdomain.bifts(wanted.seed(), numbers).map_err(wrong);
    };
    let place = |link| own.iter().position(|(one, _)| *one == link);
    // All links of ours are there, save those to routers without BIER, which no table leads to.
    let number = |link| place(link).map_or(link, |at| numbers[at]);
    let tunnel = |prefix| {
        let at = tunnels.iter().position(|one| *one == prefix)?;
        numbers.get(own.len() + at).copied()
    };
    Ok(bifts.iter().map(|bift| bift.with_links(number).with_tunnels(tunnel)).collect())
}

/// A sub-domain's tables of adjacencies, whose links have these numbers. The routers that they lead to come behind `hops`.
fn te_bifts(
    subdomain: &model::Subdomain,
    numbers: &[LinkId],
    hops: &mut Vec<Hop>,
) -> Result<Vec<TeBift>, BuildError> {
    let mut numbers = numbers.iter();
    let mut places = Vec::new();
    for one in &subdomain.adjacencies {
        places.push(hops.len() as u32);
        let Some((_, to)) = one.link() else { continue };
        let (link, id) = (numbers.next(), subdomain.adjacency_id(one));
        hops.extend(link.zip(id).map(|(link, id)| Hop { to: Addr::from(to), link: *link, id }));
    }
    let wrong = |_| BuildError::BierTables { sub_domain: subdomain.id.0 };
    subdomain.te_bifts(|at| places[at]).map_err(wrong)
}

const _: () = assert!(UDP_PORT == BIER_UDP_PORT, "what is checked is what is used");

fn tunnel(kind: TunnelKind) -> Tunnel {
    match kind {
        TunnelKind::Udp => Tunnel::Udp,
        TunnelKind::Ipv6 => Tunnel::Ipv6,
    }
}

fn tunnels(wanted: &model::Bier, ways: &[Ways]) -> Tunnels {
    let peers = ways.iter().flat_map(|ways| &ways.peers).chain(&wanted.accept_from);
    let peers: BTreeSet<_> = peers.map(|peer| Addr::from(*peer)).collect();
    Tunnels {
        own: Some(Addr::from(wanted.bfr_prefix)),
        peers: peers.into_iter().collect(),
        next_header: wanted.ipv6_next_header,
    }
}

/// The interfaces that links are on, in order, each once.
fn interfaces(ways: &Ways) -> Vec<InterfaceId> {
    let on = |link: &Link| match link {
        Link::Beside { interface, .. } => Some(*interface),
        Link::Tunnel { .. } | Link::Hosts { .. } => None,
    };
    ways.links.iter().filter_map(on).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ingress(subdomain: &model::Subdomain) -> Option<(SubDomain, Ingress)> {
    let mtu = subdomain.mtu_bytes.unwrap_or(u16::MAX);
    Some((subdomain.id, Ingress { bfir_id: subdomain.bfr_id?, ttl: subdomain.ttl, mtu }))
}

fn behind(
    subdomain: &model::Subdomain,
    interface: impl Fn(model::Interface) -> InterfaceId,
) -> Option<(SubDomain, Behind)> {
    let bridged: Vec<_> = subdomain.ethernet_ports.iter().map(|port| interface(*port)).collect();
    let labels: BTreeSet<_> = subdomain.labels.iter().map(|one| (one.bfir_id, one.label)).collect();
    let is_anything = !bridged.is_empty() || !labels.is_empty();
    is_anything.then_some((subdomain.id, Behind { bridged, labels }))
}

/// What a sub-domain's routers tell each other, if they do.
fn signalling(wanted: &model::Bier, subdomain: &model::Subdomain) -> Option<Signalling> {
    let learnt = |one: &&model::Overlay| one.subdomain == subdomain.id && one.receivers.is_none();
    let flow = |one: &model::Overlay| Flow { source: one.source, group: one.group };
    let flows: Vec<_> = wanted.overlays.iter().filter(learnt).map(flow).collect();
    let report_to = Receivers::new(subdomain.report_to.iter().flat_map(|ids| ids.iter()));
    let is_anything = !flows.is_empty() || subdomain.report_to.is_some();
    is_anything.then_some(Signalling {
        sub_domain: subdomain.id,
        bsl: subdomain.bsl,
        interval_seconds: subdomain.report_interval_seconds,
        report_to,
        flows,
        own: subdomain.bfr_id,
    })
}

fn overlay(wanted: &model::Bier, known: Option<&Overlay>) -> Overlay {
    let mut overlay = known.cloned().unwrap_or_default();
    let flow = |one: &model::Overlay| Flow { source: one.source, group: one.group };
    let gone: Vec<Flow> = overlay
        .iter()
        .map(|(flow, _)| flow)
        .filter(|known| wanted.overlays.iter().all(|one| flow(one) != *known))
        .collect();
    gone.into_iter().for_each(|flow| overlay.remove(flow));
    for one in &wanted.overlays {
        // A checked configuration has the sub-domains that it names.
        // Those that are learnt are told apart.
        if let (Some(subdomain), Some(receivers)) = (wanted.subdomain(one.subdomain), &one.receivers) {
            let receivers = Receivers::new(receivers.iter());
            overlay.set(flow(one), subdomain.id, subdomain.bsl, &receivers);
        }
    }
    overlay
}

impl TableBuilder {
    /// These routers get a flow from now on, as they have said; it is one whose receivers are learnt.
    pub fn set_receivers(&mut self, flow: Flow, receivers: Receivers) {
        let Some(learnt) = self.bier_learnt.get_mut(&flow) else { return };
        learnt.receivers = receivers;
        if let Some(bier) = &mut self.tables.bier {
            Arc::make_mut(bier).overlay.set(flow, learnt.sub_domain, learnt.bsl, &learnt.receivers);
            self.dirty = true;
        }
    }

    /// Has routers tell each other this from now on. What is learnt of flows that go on to be learnt, stays.
    pub(super) fn set_signalling(&mut self, signalling: Vec<Signalling>) {
        let before = std::mem::take(&mut self.bier_learnt);
        for one in &signalling {
            let Signalling { sub_domain, bsl, .. } = *one;
            for flow in &one.flows {
                let known = before.get(flow).filter(|known| known.sub_domain == sub_domain);
                let receivers = known.map(|known| known.receivers.clone()).unwrap_or_default();
                self.bier_learnt.insert(*flow, Learnt { sub_domain, bsl, receivers });
            }
        }
        self.bier_signalling = signalling;
        let Some(bier) = &mut self.tables.bier else { return };
        let mut overlay = bier.overlay.clone();
        for (flow, Learnt { sub_domain, bsl, receivers }) in &self.bier_learnt {
            overlay.set(*flow, *sub_domain, *bsl, receivers);
        }
        if !overlay.iter().eq(bier.overlay.iter()) {
            Arc::make_mut(bier).overlay = overlay;
        }
    }

    /// What routers tell each other of listeners.
    pub fn signalling(&self) -> &[Signalling] {
        &self.bier_signalling
    }

    /// Where hosts are asked what they listen to, and how.
    pub fn queriers(&self) -> &[(InterfaceId, Timers)] {
        &self.bier_queriers
    }

    /// Works out the ways of copies anew where interfaces, neighbours, routes or the links have changed.
    pub(super) fn resolve_bier(&mut self) {
        let Some(mut bier) = self.tables.bier.clone() else { return };
        if !bier.is_resolved(&self.tables) {
            Arc::make_mut(&mut bier).resolve(&self.tables);
            self.tables.bier = Some(bier);
        }
    }

    /// Where copies and payloads are sent to: interface and address of each neighbour, or of the router on the way to it, each
    /// once. Workers need their link-layer addresses and don't ask for them.
    pub fn bier_hops(&self) -> Vec<(InterfaceId, Addr)> {
        let Some(bier) = &self.tables.bier else { return Vec::new() };
        let links = |bift: &Arc<Bift>| {
            let neighbours = bift.neighbours().iter();
            neighbours.flat_map(|neighbour| neighbour.reach.links().to_vec()).collect::<Vec<_>>()
        };
        let links = known_bifts(Some(bier)).flat_map(links).chain(bier.hops.iter().map(|hop| hop.link));
        let hops = links.filter_map(|link| bier.link(link)?.next(&self.tables.routes));
        let fixed = self.bier_listeners.fixed.iter();
        let listeners = fixed.filter_map(|(_, interface, hop)| Some((*interface, (*hop)?)));
        let mut hops: Vec<_> = hops.chain(listeners).collect();
        hops.sort_unstable();
        hops.dedup();
        hops
    }
}

#[cfg(test)]
mod tests;

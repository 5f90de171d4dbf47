//! Files of BIER topologies: routers and links in TOML, checked as a domain of one sub-domain.
//!
//! ```
//! use millrace_bier::id::{Bsl, SubDomain};
//! use millrace_config::domainfile::DomainFile;
//!
//! let text = br#"
//! router = [{ name = "a", prefix = "192.0.2.1", bfr_id = 1 }, { name = "b", prefix = "192.0.2.2", bfr_id = 2 }]
//! link   = [{ a = "a", b = "b", cost = 10 }]
//! "#;
//! let domain = DomainFile::parse("domain.toml", text)?.domain(SubDomain(0), Bsl::B256)?;
//! assert_eq!(domain.routers().len(), 2);
//! # Ok::<(), millrace_config::Report>(())
//! ```

use std::net::IpAddr;
use std::ops::Range;

use millrace_bier::bift::LinkId;
use millrace_bier::bift_id::Clash;
use millrace_bier::id::{BfrId, BiftKey, Bsl, SubDomain};
use millrace_bier::topology::{BiftIdSpec, Contradiction, Domain, LinkSpec, RouterSpec};

use crate::leaf::BiftIdList;
use crate::model::{Bier, Config, Encapsulation, Interface, Subdomain, TunnelKind};
use crate::parse::{document, text_of};
use crate::raw::domain as raw;
use crate::read::At;
use crate::report::{Code, Diagnostic, Report};

/// A file with a topology, right in each of its keys.
#[derive(Debug)]
pub struct DomainFile {
    name: String,
    text: String,
    routers: Vec<At<raw::DomainRouter>>,
    links: Vec<At<raw::DomainLink>>,
}

/// A link of our own router: its place in the file, and where the neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLink {
    /// Its number in the domain.
    pub link: LinkId,
    /// The neighbour's address.
    pub address: IpAddr,
    /// The network that it is on.
    pub interface: Interface,
}

impl DomainFile {
    /// Reads the file called `name` with these bytes. The name is for reports alone; nothing is opened.
    ///
    /// # Errors
    /// All that is wrong with its keys.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Report> {
        let text = text_of(name, bytes)?;
        let help = "it needs a `[[router]]` for each router, and a `[[link]]` for each link";
        let (diagnostics, domain, _) = document::<raw::Domain>(text, help);
        match domain {
            Some(domain) if diagnostics.is_empty() => Ok(Self {
                name: name.to_owned(),
                text: text.to_owned(),
                routers: domain.routers.map(|list| list.value.into_items()).unwrap_or_default(),
                links: domain.links.map(|list| list.value.into_items()).unwrap_or_default(),
            }),
            _ => Err(Report::new(name, text, diagnostics)),
        }
    }

    /// The domain that it is for this sub-domain and length of bit strings.
    ///
    /// # Errors
    /// All that contradicts itself.
    pub fn domain(&self, sub_domain: SubDomain, bsl: Bsl) -> Result<Domain, Report> {
        let routers: Vec<_> =
            self.routers.iter().filter_map(|at| router(&at.value, sub_domain, bsl)).collect();
        let links: Vec<_> = self.links.iter().filter_map(|at| link(&at.value)).collect();
        let (domain, found) = Domain::new(sub_domain, bsl, &routers, &links);
        let diagnostics: Vec<_> = found.iter().map(|one| self.diagnostic(one)).collect();
        if diagnostics.is_empty() { Ok(domain) } else { Err(self.report(diagnostics)) }
    }

    /// The links of our own router, as `config` has it in this sub-domain.
    ///
    /// # Errors
    /// What of the two files doesn't fit together.
    pub fn own_links(
        &self,
        config: &Config,
        bier: &Bier,
        subdomain: &Subdomain,
        own: &str,
    ) -> Result<Vec<OwnLink>, Report> {
        let mut wrong = Vec::new();
        match self.routers.iter().find(|at| is(&at.value.name, own)) {
            None => {
                let message = format!("there is no router `{own}`");
                let help = "the configuration's `router` names the router that this appliance is";
                wrong.push(Diagnostic::new(Code::UnknownName, 0..0, message).help(help));
            }
            Some(at) => wrong.extend(is_ours(at, bier, subdomain)),
        }
        let mut links = Vec::new();
        for (number, at) in (0..).zip(&self.links) {
            let raw = &at.value;
            let (other, address) = match (is(&raw.a, own), is(&raw.b, own)) {
                (true, false) => (&raw.b, &raw.b_address),
                (false, true) => (&raw.a, &raw.a_address),
                _ => continue,
            };
            let Some(other) = other.as_ref().map(|other| other.value.as_str()) else { continue };
            let is_bier = |at: &&At<raw::DomainRouter>| {
                is(&at.value.name, other) && at.value.bier.as_ref().is_some_and(|bier| bier.value)
            };
            if !self.routers.iter().any(|at| is_bier(&at)) {
                continue;
            }
            let Some(address) = address else {
                let message = format!("the address of `{other}` on this link is missing");
                wrong.push(
                    Diagnostic::new(Code::MissingKey, at.span.clone(), message)
                        .label("a link of our own")
                        .help("give `a_address` or `b_address`, whichever end it is"),
                );
                continue;
            };
            if subdomain.encapsulation == Encapsulation::Ipv6 && address.value.0.is_ipv4() {
                wrong.push(
                    Diagnostic::new(
                        Code::Conflict,
                        address.span.clone(),
                        "nothing is sent to it inside IPv6",
                    )
                    .label("an address of IPv4")
                    .help("give its IPv6 address, or the sub-domain another `encapsulation`"),
                );
                continue;
            }
            match config.on_link(address.value.0) {
                Some(interface) => {
                    links.push(OwnLink { link: LinkId(number), address: address.value.0, interface });
                }
                None => {
                    let message = format!("the neighbour {} isn't on a connected network", address.value.0);
                    wrong.push(
                        Diagnostic::new(Code::NotOnLink, address.span.clone(), message).label("not on-link"),
                    );
                }
            }
        }
        if wrong.is_empty() { Ok(links) } else { Err(self.report(wrong)) }
    }

    /// The address of the router with this BFR-prefix as the far end of a tunnel.
    pub fn tunnel_address(&self, prefix: IpAddr) -> IpAddr {
        let of = |raw: &raw::DomainRouter| raw.prefix.as_ref().is_some_and(|at| at.value.0 == prefix);
        let router = self.routers.iter().find(|at| of(&at.value));
        let given = router.and_then(|at| at.value.tunnel_address.as_ref());
        given.map_or(prefix, |at| at.value.0)
    }

    /// That all routers can be the far ends of tunnels of this kind, if there are routers to be crossed by them, or `backups` use
    /// some.
    ///
    /// # Errors
    /// Those that have no address for it.
    pub fn takes_tunnels(&self, kind: TunnelKind, backups: bool) -> Result<(), Report> {
        let speaks = |raw: &raw::DomainRouter| raw.bier.as_ref().is_some_and(|bier| bier.value);
        let needed = backups || self.routers.iter().any(|at| !speaks(&at.value));
        if kind == TunnelKind::Udp || !needed {
            return Ok(());
        }
        let without = |at: &&At<raw::DomainRouter>| {
            let own = at.value.tunnel_address.as_ref().or(at.value.prefix.as_ref());
            speaks(&at.value) && own.is_some_and(|own| own.value.0.is_ipv4())
        };
        let told = |at: &At<raw::DomainRouter>| {
            let own =
                if at.value.tunnel_address.is_some() { &at.value.tunnel_address } else { &at.value.prefix };
            Diagnostic::new(Code::Conflict, span(own, at), "no tunnel over IPv6 can end here")
                .label("its address is of IPv4")
                .help("give it a `tunnel_address`, or the sub-domain `tunnel = \"udp\"`")
        };
        let wrong: Vec<_> = self.routers.iter().filter(without).map(told).collect();
        if wrong.is_empty() { Ok(()) } else { Err(self.report(wrong)) }
    }

    /// All addresses that packets of the routers may come from, ours included.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let routers = self.routers.iter().map(|at| &at.value);
        let of_routers = routers.flat_map(|raw| [&raw.prefix, &raw.tunnel_address]);
        let links = self.links.iter().map(|at| &at.value);
        let all = of_routers.chain(links.flat_map(|raw| [&raw.a_address, &raw.b_address]));
        all.filter_map(|at| Some(at.as_ref()?.value.0)).collect()
    }

    fn report(&self, diagnostics: Vec<Diagnostic>) -> Report {
        Report::new(&self.name, &self.text, diagnostics)
    }

    /// A contradiction, at the key that is to blame.
    fn diagnostic(&self, found: &Contradiction) -> Diagnostic {
        let at = |router: usize| &self.routers[router];
        let link_at = |link: usize| &self.links[link];
        match found {
            Contradiction::RepeatedName { router, first, name } => {
                let of = |router| span(&at(router).value.name, at(router));
                again(format!("the router `{name}` is given twice"), of(*router), of(*first))
            }
            Contradiction::RepeatedPrefix { router, first, prefix } => {
                let of = |router| span(&at(router).value.prefix, at(router));
                again(format!("the BFR-prefix {prefix} is given twice"), of(*router), of(*first))
            }
            Contradiction::RepeatedBfrId { router, first, id } => {
                let of = |router| span(&at(router).value.bfr_id, at(router));
                again(format!("the BFR-id {id} is given twice"), of(*router), of(*first))
            }
            Contradiction::BfrIdWithoutBier { router, id } => {
                let place = span(&at(*router).value.bfr_id, at(*router));
                Diagnostic::new(
                    Code::Conflict,
                    place,
                    format!("BFR-id {id} is that of a router without BIER"),
                )
                .label("nothing could be for it")
            }
            Contradiction::NoPrefix { router } => {
                Diagnostic::new(Code::MissingKey, at(*router).span.clone(), "the BFR-prefix is missing")
                    .label("speaks BIER")
                    .help("give it a `prefix`, or write `bier = false`")
            }
            Contradiction::NoBsl { router } => {
                let message = "a router that speaks BIER needs bit strings of some length";
                Diagnostic::new(Code::Conflict, at(*router).span.clone(), message).label("no length")
            }
            Contradiction::OtherBsl { router, id, bsl } => {
                let place = span(&at(*router).value.bfr_id, at(*router));
                let message = format!("router {id} can't read bit strings of {bsl}");
                Diagnostic::new(Code::Conflict, place, message).label("nothing would reach it")
            }
            Contradiction::BeyondSets { router, id } => {
                let place = span(&at(*router).value.bfr_id, at(*router));
                let message = format!("router {id} is beyond the sets that there are");
                Diagnostic::new(Code::OutOfRange, place, message)
                    .label("needs a set above 255")
                    .help("use longer bit strings, or lower numbers")
            }
            Contradiction::BiftId { router, item, clash } => {
                let ids = at(*router).value.bift_id.as_ref().map(|ids| &ids.value);
                let place = match ids {
                    Some(BiftIdList::Map(list)) => list.get(*item).map(|(.., span)| span.clone()),
                    _ => None,
                };
                let message = match clash {
                    Clash::Id { id, .. } => format!("the BIFT-id {id} is given twice"),
                    Clash::Key { key, .. } => format!("set {} has two BIFT-ids", key.si.0),
                    Clash::Beyond { .. } => "a BIFT-id has 20 bits".to_owned(),
                };
                let place = place.unwrap_or_else(|| at(*router).span.clone());
                Diagnostic::new(Code::Duplicate, place, message).label("again here")
            }
            Contradiction::UnknownRouter { link, end, name } => {
                let raw = &link_at(*link).value;
                let place = span(if *end == 0 { &raw.a } else { &raw.b }, link_at(*link));
                let names = self.routers.iter().filter_map(|at| at.value.name.as_ref());
                let near = crate::read::similar(name, names.map(|name| name.value.as_str()));
                let unknown =
                    Diagnostic::new(Code::UnknownName, place, format!("there is no router `{name}`"))
                        .label("unknown name");
                match near {
                    Some(meant) => unknown.help(format!("did you mean \"{meant}\"?")),
                    None => unknown,
                }
            }
            Contradiction::SelfLink { link, name } => {
                let message = format!("this link begins and ends at `{name}`");
                Diagnostic::new(Code::Conflict, link_at(*link).span.clone(), message).label("leads nowhere")
            }
            Contradiction::NoCost { link } => {
                Diagnostic::new(Code::OutOfRange, link_at(*link).span.clone(), "a link costs something")
                    .label("0")
            }
        }
    }
}

/// What the two files say differently of our own router.
fn is_ours(at: &At<raw::DomainRouter>, bier: &Bier, subdomain: &Subdomain) -> Vec<Diagnostic> {
    let raw = &at.value;
    let mut wrong = Vec::new();
    let mut other = |place: Range<usize>, what: &str, here: String, there: String| {
        let message = format!("our own {what} is {here} here, but {there} in the configuration");
        wrong.push(Diagnostic::new(Code::Conflict, place, message).label("another one"));
    };
    let said = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let prefix = raw.prefix.as_ref().map(|prefix| prefix.value.0);
    if prefix != Some(bier.bfr_prefix) {
        let here = said(prefix.map(|prefix| prefix.to_string()));
        other(span(&raw.prefix, at), "BFR-prefix", here, bier.bfr_prefix.to_string());
    }
    let bfr_id = raw.bfr_id.as_ref().and_then(|id| BfrId::new(id.value.get() as u16));
    if bfr_id != subdomain.bfr_id {
        let [here, there] = [bfr_id, subdomain.bfr_id].map(|id| said(id.map(|id| id.to_string())));
        other(span(&raw.bfr_id, at), "BFR-id", here, there);
    }
    if let Some(ids) = raw.bift_id.as_ref().filter(|ids| ids.value.form() != subdomain.bift_ids) {
        let place = if ids.given { ids.span.clone() } else { at.span.clone() };
        let message = "our own BIFT-ids are others here than in the configuration";
        wrong.push(
            Diagnostic::new(Code::Conflict, place, message)
                .label("what the others of the domain would send to us")
                .help("give the configuration's `bift_id`"),
        );
    }
    wrong
}

fn router(raw: &raw::DomainRouter, sub_domain: SubDomain, bsl: Bsl) -> Option<RouterSpec> {
    let bift_ids = match &raw.bift_id.as_ref()?.value {
        BiftIdList::Static => BiftIdSpec::Static,
        BiftIdList::Map(list) => BiftIdSpec::Map(
            list.iter().map(|(si, id, _)| (BiftKey { sub_domain, si: *si, bsl }, *id)).collect(),
        ),
    };
    Some(RouterSpec {
        name: raw.name.as_ref()?.value.to_string(),
        prefix: raw.prefix.as_ref().map(|prefix| prefix.value.0),
        bfr_id: raw.bfr_id.as_ref().and_then(|id| BfrId::new(id.value.get() as u16)),
        speaks_bier: raw.bier.as_ref()?.value,
        bsls: raw.bitstring_bits.as_ref()?.value.iter().map(|bits| bits.value.0).collect(),
        bift_ids,
    })
}

fn link(raw: &raw::DomainLink) -> Option<LinkSpec> {
    let cost = raw.cost.as_ref()?.value.get();
    let back = raw.cost_back.as_ref().map_or(cost, |back| back.value.get());
    let ends = [&raw.a, &raw.b].map(|end| end.as_ref().map(|end| end.value.to_string()));
    let [Some(a), Some(b)] = ends else { return None };
    Some(LinkSpec { ends: [a, b], costs: [cost, back] })
}

fn is(name: &Option<At<crate::model::Name>>, wanted: &str) -> bool {
    name.as_ref().is_some_and(|name| name.value.as_str() == wanted)
}

/// Where a key's value stands, or the table that lacks it.
fn span<T, U>(key: &Option<At<T>>, table: &At<U>) -> Range<usize> {
    key.as_ref().map_or(table.span.clone(), |at| at.span.clone())
}

fn again(message: String, place: Range<usize>, first: Range<usize>) -> Diagnostic {
    Diagnostic::new(Code::Duplicate, place, message).label("again here").related(first, "first here")
}

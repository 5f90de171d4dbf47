//! Adjacencies of BIER-TE: all that contradicts itself.

use std::collections::{BTreeMap, BTreeSet};

use millrace_bier::id::{BitPosition, Si};

use crate::check::network::own;
use crate::check::{Checker, all, items};
use crate::model::{Adjacency, AdjacencyKind, AdjacencyTo, BierKind, Encapsulation, Protection, Subdomain};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

impl Checker {
    /// That a sub-domain has the keys of its kind only.
    pub(super) fn of_one_kind(&mut self, raw: &raw::Subdomain) {
        let Some(kind) = raw.kind.as_ref() else { return };
        let protected = raw.protection.as_ref().filter(|at| at.given);
        if let Some(protection) = protected.filter(|_| raw.topology.is_none() && kind.value == BierKind::Bier)
        {
            let mut wrong = Diagnostic::new(
                Code::Conflict,
                protection.span.clone(),
                "`protection` means something with a `topology` only",
            )
            .label("nothing to compute it from");
            if raw.table.is_some() {
                wrong = wrong.help("rows name their `backup` themselves");
            }
            self.note(wrong);
        }
        let remote = raw.remote_backups.as_ref().filter(|at| at.given);
        let is_unprotected = || raw.protection.as_ref().is_some_and(|at| at.value == Protection::None);
        if let Some(remote) = remote.filter(|at| at.value && kind.value == BierKind::Bier && is_unprotected())
        {
            let message = "`remote_backups` means something with `protection` only";
            self.note(
                Diagnostic::new(Code::Conflict, remote.span.clone(), message)
                    .label("nothing stands ready")
                    .help("say what for: `protection = \"link\"` or `\"node\"`"),
            );
        }
        let of_bier = [
            ("table", raw.table.as_ref().map(|at| at.span.clone())),
            ("topology", raw.topology.as_ref().map(|at| at.span.clone())),
            ("router", raw.router.as_ref().map(|at| at.span.clone())),
            ("ecmp_tables", raw.ecmp_tables.as_ref().filter(|at| at.given).map(|at| at.span.clone())),
            ("protection", protected.map(|at| at.span.clone())),
            ("remote_backups", remote.map(|at| at.span.clone())),
        ];
        let of_te = [
            ("adjacencies", raw.adjacencies.as_ref().map(|at| at.span.clone())),
            ("replies_by", raw.replies_by.as_ref().map(|at| at.span.clone())),
        ];
        let (others, bits): (&[_], _) = match kind.value {
            BierKind::Bier => (&of_te, "routers"),
            BierKind::BierTe => (&of_bier, "adjacencies"),
        };
        for (key, span) in others {
            let Some(span) = span else { continue };
            let message = format!("`{key}` means nothing where bits stand for {bits}");
            let mut wrong = Diagnostic::new(Code::Conflict, span.clone(), message).label("of the other kind");
            wrong = match kind.given {
                true => wrong.related(kind.span.clone(), "the kind"),
                false => wrong.help("write `kind = \"bier-te\"`"),
            };
            self.note(wrong);
        }
    }

    /// That replies go by sub-domains of routers, to the number that we have in requests.
    pub(super) fn replies(&mut self, raws: &[At<raw::Subdomain>], subdomains: &[Subdomain]) {
        for (raw, one) in raws.iter().zip(subdomains) {
            let (Some(at), Some(by)) = (&raw.value.replies_by, one.replies_by) else { continue };
            if one.kind == BierKind::Bier {
                continue;
            }
            let of_routers = || subdomains.iter().filter(|other| other.kind == BierKind::Bier);
            let Some(back) = of_routers().find(|other| other.id == by) else {
                let numbers: Vec<_> = of_routers().map(|other| other.id.0.to_string()).collect();
                let names = numbers.iter().map(String::as_str);
                self.unknown("sub-domain of routers", &by.0.to_string(), &at.span, names);
                continue;
            };
            // Who has no number here asks nothing by it.
            if let Some(own) = one.bfr_id.filter(|own| back.bfr_id != Some(*own)) {
                let message = format!("we aren't router {own} in sub-domain {}", by.0);
                self.note(
                    Diagnostic::new(Code::Conflict, at.span.clone(), message)
                        .label("replies would go to another router")
                        .help("give both sub-domains the same `bfr_id`"),
                );
            }
        }
    }

    /// The adjacencies; `None` where one is wrong.
    pub(super) fn adjacencies(&mut self, file: &raw::File, raw: &raw::Subdomain) -> Option<Vec<Adjacency>> {
        let list = items(&raw.adjacencies);
        let checked = all(list.iter().map(|at| self.adjacency(file, raw, at)))?;
        self.no_contradictions(list, &checked).then_some(checked)
    }

    fn adjacency(
        &mut self,
        file: &raw::File,
        subdomain: &raw::Subdomain,
        at: &At<raw::BierAdjacency>,
    ) -> Option<Adjacency> {
        let raw = &at.value;
        let kind = raw.kind.as_ref()?;
        let bift_ids = raw.bift_id.as_ref().or(subdomain.bift_id.as_ref()).map(|ids| ids.value.form());
        let mut sound = true;
        let mut refuse = |checker: &mut Self, span, key: &str, why: &str| {
            let message = format!("`{key}` means nothing here");
            checker.note(
                Diagnostic::new(Code::Conflict, span, message)
                    .label(why)
                    .related(kind.span.clone(), "the kind"),
            );
            sound = false;
        };
        if kind.value != AdjacencyKind::Connected
            && let Some(keep) = &raw.do_not_clear
        {
            refuse(self, keep.span.clone(), "do_not_clear", "only \"connected\" can keep its bit");
        }
        if kind.value == AdjacencyKind::Decap {
            if let Some(address) = &raw.address {
                refuse(self, address.span.clone(), "address", "\"decap\" sends to nobody");
            }
            if let Some(ids) = &raw.bift_id {
                refuse(self, ids.span.clone(), "bift_id", "\"decap\" sends to nobody");
            }
            if let Some(over) = &raw.encapsulation {
                refuse(self, over.span.clone(), "encapsulation", "\"decap\" sends to nobody");
            }
        } else if raw.address.is_none() && at.sound {
            self.note(
                Diagnostic::new(Code::MissingKey, at.span.clone(), "`address` is missing")
                    .label("a copy to whom?")
                    .help("`address`: The router that the copy is sent to."),
            );
        }
        let to = match kind.value {
            AdjacencyKind::Decap => AdjacencyTo::Decap,
            AdjacencyKind::Connected | AdjacencyKind::Routed => {
                let own = own(file);
                let address = raw.address.as_ref()?;
                let near: Vec<_> = own.iter().collect();
                let is_near = own.iter().any(|own| own.address.network().contains(address.value.0));
                let is_connected = kind.value == AdjacencyKind::Connected;
                let said = raw.encapsulation.as_ref();
                let over = said.or(subdomain.encapsulation.as_ref())?;
                // To one further away goes a tunnel, if nothing is said.
                if let Some(ids) = &raw.bift_id
                    && over.value == Encapsulation::Mpls
                    && (is_connected || is_near || said.is_some())
                {
                    self.are_labels(&ids.value);
                }
                self.not_ours(address.value.0, &own, "the router", &address.span)?;
                let interface = match is_near || is_connected {
                    true => {
                        let known = self.addresses_known(file);
                        Some(self.on_link(address.value.0, &near, known, "the router", &address.span)?)
                    }
                    false => None,
                };
                let path = match (over.value.tunnel(), interface) {
                    (Some(kind), _) => self.tunnel(kind, address, &over.span)?,
                    (None, Some(interface)) => over.value.path(interface),
                    (None, None) if said.is_none() => {
                        let tunnel = subdomain.tunnel.as_ref()?;
                        self.tunnel(tunnel.value, address, &tunnel.span)?
                    }
                    (None, None) => {
                        let known = self.addresses_known(file);
                        self.on_link(address.value.0, &near, known, "the router", &address.span)?;
                        return None;
                    }
                };
                let (address, bift_ids) = (address.value.0, bift_ids?);
                match interface.filter(|_| is_connected) {
                    Some(interface) => {
                        let do_not_clear = raw.do_not_clear.as_ref().is_some_and(|at| at.value);
                        AdjacencyTo::Connected { address, interface, path, bift_ids, do_not_clear }
                    }
                    None => AdjacencyTo::Routed { address, path, bift_ids },
                }
            }
        };
        let bit = raw.bit.as_ref()?;
        let bits = subdomain.bitstring_bits.as_ref()?;
        let position = BitPosition::new(bit.value.get() as u16, bits.value.0);
        if position.is_none() {
            let message = format!("there is no bit {}", bit.value.get());
            let mut wrong = Diagnostic::new(Code::OutOfRange, bit.span.clone(), message)
                .label("beyond the bit string")
                .help(format!("bits are 1 to {}; use a longer string, or another `si`", bits.value.0.bits()));
            if bits.given {
                wrong = wrong.related(bits.span.clone(), "with bit strings of this length");
            }
            self.note(wrong);
        }
        let adjacency = Adjacency {
            si: Si(raw.si.as_ref()?.value.get() as u8),
            bit: position?,
            to,
            ecmp_seed: raw.ecmp_seed.as_ref().map(|seed| seed.value.get()),
        };
        sound.then_some(adjacency)
    }

    /// What adjacencies of one bit say against each other.
    fn no_contradictions(&mut self, list: &[At<raw::BierAdjacency>], checked: &[Adjacency]) -> bool {
        let mut firsts: BTreeMap<_, usize> = BTreeMap::new();
        let mut seen: BTreeSet<_> = BTreeSet::new();
        let mut sound = true;
        for (at, one) in checked.iter().enumerate() {
            let first = *firsts.entry((one.si, one.bit)).or_insert(at);
            let bit = one.bit.number();
            if checked[first].ecmp_seed != one.ecmp_seed {
                let seed =
                    [at, first].map(|at| list[at].value.ecmp_seed.as_ref().map(|seed| seed.span.clone()));
                let [here, there] = seed;
                let message = format!("the adjacencies of bit {bit} are both equal ways and not");
                self.note(
                    Diagnostic::new(Code::Conflict, here.unwrap_or_else(|| list[at].span.clone()), message)
                        .label("another seed, or none")
                        .related(there.unwrap_or_else(|| list[first].span.clone()), "the first of the bit")
                        .help("give all of them the same `ecmp_seed`, or none of them one"),
                );
                sound = false;
            }
            let whither = |one: &Adjacency| (one.si, one.bit, one.address());
            if !seen.insert(whither(one)) {
                let first = checked.iter().position(|other| whither(other) == whither(one)).unwrap_or(first);
                let message = format!("bit {bit} leads to the same twice");
                self.duplicate(message, list[at].span.clone(), list[first].span.clone());
                sound = false;
            }
        }
        sound
    }
}

//! BIER ping and trace (draft-ietf-bier-ping-23): answers to the echo requests of others, and requests of our own operators.
//!
//! ```text
//!  worker ──punts──► receive ─┬─ request ─► judged by our tables ─► reply, in BIER or in UDP ─► worker
//!                             └─ reply ───► the question that it answers ─► operator
//!  operator ──asks─► ask ───────► a request for each set ─► worker
//! ```
//!
//! There is no I/O and no clock here. Workers bound how much comes, so whatever comes is looked at. A reply goes to the router
//! whose number the request's BIER header has: in UDP to its BFR-prefix, which only a topology tells. Where bits stand for
//! adjacencies there is no way back by them: replies go by the sub-domain that `replies_by` names, whose routers have the same
//! numbers; and a router that has a packet delivered goes by the number of the bit that asks for it.

mod answer;
mod question;
mod udp;
mod ways;

use std::net::IpAddr;

use millrace_bier::header::{Carriage, ETHERTYPE, ETHERTYPE_MPLS, Proto, View, len};
use millrace_bier::id::{BfrId, BiftKey, Bsl, SubDomain};
use millrace_bier::oam::{Echo, Kind, ReplyMode};
use millrace_bier::plane::AnyBift;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::driver::PortsDown;
use millrace_fastpath::packet::L3;
use millrace_fastpath::queue::PARCEL_BYTES_MAX;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::{Bier, Tables};

use crate::bier_origin::{self, Origin};
use crate::builder::BierNames;
use question::Questions;
pub use question::{AskError, Asked, Question, REPLIES_MAX, Reply};
pub(crate) use udp::is_echo;
pub use ways::{Way, Ways};

/// What of the appliance an echo message is about.
#[derive(Clone, Copy)]
pub struct OamContext<'a> {
    /// The tables as they are to be next.
    pub tables: &'a Tables,
    /// The ports whose link is down.
    pub ports_down: PortsDown,
    /// Who is who.
    pub names: &'a BierNames,
    /// The time.
    pub now: Nanos,
    /// The same in nanoseconds since 1970.
    pub unix_nanos: u64,
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A BIER packet that begins here, in an Ethernet frame to nobody yet.
    Bier(Vec<u8>),
    /// An IP packet to this address, behind the room of an Ethernet header.
    Ip(Addr, Vec<u8>),
}

/// What was counted, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OamCounters {
    /// Echo requests of others, and of our own that came back to us.
    pub requests: u64,
    /// Replies to them.
    pub replies_sent: u64,
    /// Replies that nobody could be found to send to, or that were too long.
    pub replies_unsent: u64,
    /// Requests of our own, one for each set.
    pub asked: u64,
    /// Replies to our own.
    pub replies: u64,
    /// Replies to nothing that we still wait for.
    pub replies_strange: u64,
    /// Messages that aren't echo messages.
    pub malformed: u64,
    /// Packets whose time to live was used up here, of those that workers show.
    pub expired: u64,
}

/// A data packet whose time to live was used up here: of those the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// When.
    pub at: Nanos,
    /// The interface that it came by.
    pub interface: InterfaceId,
    /// Its table.
    pub key: BiftKey,
    /// The router where it began.
    pub bfir_id: Option<BfrId>,
    /// Its entropy.
    pub entropy: u32,
    /// For whom it was.
    pub ids: Vec<BfrId>,
}

/// Ping and trace of an appliance.
#[derive(Debug, Default)]
pub struct Oam {
    questions: Questions,
    counters: OamCounters,
    expired: Option<Expired>,
}

/// A BIER packet that a worker has shown.
pub(crate) struct Shown<'a> {
    pub(crate) key: BiftKey,
    pub(crate) view: View<'a>,
    carriage: Carriage,
    interface: InterfaceId,
}

impl Oam {
    /// `seed` makes the handles of our questions unlike those of other appliances, and of our last life.
    pub fn new(seed: u64) -> Self {
        Self { questions: Questions::new(seed), ..Self::default() }
    }

    /// Takes an echo message in a BIER packet, from the Ethernet header on; gives the reply, if there is one to send.
    pub fn receive(
        &mut self,
        interface: InterfaceId,
        frame: &[u8],
        context: OamContext<'_>,
    ) -> Option<Outgoing> {
        let shown =
            Shown::read(interface, frame, context.tables).filter(|one| one.view.proto() == Proto::Oam);
        let Some(shown) = shown else {
            self.counters.malformed += 1;
            return None;
        };
        let message = shown.view.payload();
        match Echo::parse(message) {
            Ok(echo) if echo.kind == Kind::Reply => {
                self.reply(&echo, ReplyMode::Bier, context.now);
                None
            }
            echo => {
                if echo.is_err() && Echo::salvage(message).is_none() {
                    self.counters.malformed += 1;
                    return None;
                }
                self.counters.requests += 1;
                let (mode, bytes) = answer::answer(&shown, echo, context)?;
                let outgoing = match mode {
                    ReplyMode::Bier => reply_in_bier(&shown, &bytes, context),
                    _ => reply_in_udp(&shown, &bytes, context),
                };
                match outgoing {
                    Some(_) => self.counters.replies_sent += 1,
                    None => self.counters.replies_unsent += 1,
                }
                // What goes to ourselves is there already: no port would bring it back.
                let own = context.names.own.map(Addr::from);
                if matches!(outgoing, Some(Outgoing::Ip(to, _)) if Some(to) == own) {
                    if let Ok(reply) = Echo::parse(&bytes) {
                        self.reply(&reply, ReplyMode::Udp, context.now);
                    }
                    return None;
                }
                outgoing
            }
        }
    }

    /// Takes a reply over UDP, from the Ethernet header on; see `is_echo`.
    pub fn receive_udp(&mut self, frame: &[u8], now: Nanos) {
        match udp::payload(frame).map(Echo::parse) {
            Some(Ok(echo)) if echo.kind == Kind::Reply => self.reply(&echo, ReplyMode::Udp, now),
            _ => self.counters.malformed += 1,
        }
    }

    /// Takes a data packet whose time to live was used up, from the Ethernet header on.
    pub fn receive_expired(&mut self, interface: InterfaceId, frame: &[u8], context: OamContext<'_>) {
        let Some(shown) = Shown::read(interface, frame, context.tables) else { return };
        self.counters.expired += 1;
        self.expired = Some(Expired {
            at: context.now,
            interface,
            key: shown.key,
            bfir_id: shown.view.bfir_id(),
            entropy: shown.view.entropy(),
            ids: ids(shown.key, &shown.words()).collect(),
        });
    }

    /// Asks what an operator wants to know. The replies go to whoever waits at the other end of `question`.
    ///
    /// # Errors
    /// [`AskError`]
    pub fn ask(
        &mut self,
        question: Question,
        context: OamContext<'_>,
    ) -> Result<(Asked, Vec<Outgoing>), AskError> {
        let asked = self.questions.ask(question, context)?;
        self.counters.asked += asked.1.len() as u64;
        Ok(asked)
    }

    /// Forgets questions that nobody waits for any more. Whether there are others.
    pub fn is_waiting(&mut self, now: Nanos) -> bool {
        self.questions.is_waiting(now)
    }

    /// What was counted.
    pub fn counters(&self) -> OamCounters {
        self.counters
    }

    /// The latest data packet whose time to live was used up here.
    pub fn expired(&self) -> Option<&Expired> {
        self.expired.as_ref()
    }

    fn reply(&mut self, echo: &Echo, by: ReplyMode, now: Nanos) {
        match self.questions.reply(echo, by, now) {
            true => self.counters.replies += 1,
            false => self.counters.replies_strange += 1,
        }
    }
}

impl<'a> Shown<'a> {
    pub(crate) fn read(interface: InterfaceId, frame: &'a [u8], tables: &Tables) -> Option<Self> {
        let carriage = match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
            ETHERTYPE => Carriage::NonMpls,
            ETHERTYPE_MPLS => Carriage::Mpls,
            _ => return None,
        };
        let (key, view) = View::of(frame.get(L3..)?, carriage, tables.bier.as_ref()?.plane.ours()).ok()?;
        Some(Self { key, view, carriage, interface })
    }

    fn words(&self) -> Vec<u64> {
        let mut words = vec![0; self.key.bsl.words()];
        self.view.load(&mut words);
        words
    }
}

/// A reply to the router where a request began. Its own header says nobody as ingress (section 4.5).
fn reply_in_bier(shown: &Shown<'_>, message: &[u8], context: OamContext<'_>) -> Option<Outgoing> {
    let bier = context.tables.bier.as_ref()?;
    let (sub_domain, bsl) = back(bier, context.names, shown.key.sub_domain)?;
    let (si, bit) = shown.view.bfir_id()?.position(bsl)?;
    let key = BiftKey { sub_domain, si, bsl };
    let mut words = vec![0; key.bsl.words()];
    millrace_bier::bits::set(&mut words, bit);
    bier_packet(bier, key, &words, REPLY_TTL, shown.view.entropy(), None, message)
}

fn reply_in_udp(shown: &Shown<'_>, message: &[u8], context: OamContext<'_>) -> Option<Outgoing> {
    let sub_domain = context.names.replies_by(shown.key.sub_domain)?;
    let to = Addr::from(context.names.prefix(sub_domain, shown.view.bfir_id()?)?);
    let from = source_for(to, context)?;
    Some(Outgoing::Ip(to, udp::packet(from, to, message)))
}

/// The sub-domain by which replies to requests of this one go, and how long its bit strings are.
fn back(bier: &Bier, names: &BierNames, sub_domain: SubDomain) -> Option<(SubDomain, Bsl)> {
    let back = names.replies_by(sub_domain)?;
    let table = bier.plane.iter().filter_map(AnyBift::of_routers).find(|one| one.key().sub_domain == back)?;
    Some((back, table.key().bsl))
}

/// Our BFR-prefix if it is an address of ours of the right family, or else our address on the way there.
fn source_for(to: Addr, context: OamContext<'_>) -> Option<Addr> {
    let interfaces = &context.tables.interfaces;
    let is_host = |addr: Addr| interfaces.local(addr).is_some_and(|local| local.host);
    let own = context.names.own.map(Addr::from).filter(|own| own.is_v4() == to.is_v4() && is_host(*own));
    own.or_else(|| interfaces.get(context.tables.routes.lookup(to)?.interface)?.address_like(to))
}

/// A BIER packet with an echo message that begins here. `None` if we have no such table, or it would be too long.
fn bier_packet(
    bier: &Bier,
    key: BiftKey,
    words: &[u64],
    ttl: u8,
    entropy: u32,
    bfir_id: Option<BfrId>,
    message: &[u8],
) -> Option<Outgoing> {
    let origin = Origin { ttl, entropy, proto: Proto::Oam, bfir_id };
    bier_origin::packet(bier, key, words, origin, message).map(Outgoing::Bier)
}

/// The length of bit strings in a sub-domain, and whether its bits stand for routers.
fn bits_of(bier: &Bier, sub_domain: SubDomain) -> Option<(Bsl, bool)> {
    let table = bier.plane.iter().find(|table| table.key().sub_domain == sub_domain)?;
    Some((table.key().bsl, table.of_routers().is_some()))
}

/// Bytes of an echo message that fit into a packet on each of our links.
fn room(tables: &Tables, mode: ReplyMode, bsl: Bsl) -> usize {
    let mtus = tables.interfaces.iter().map(|(_, interface)| usize::from(interface.mtu));
    let mtu = mtus.min().unwrap_or(0).min(PARCEL_BYTES_MAX - L3);
    mtu.saturating_sub(if mode == ReplyMode::Bier { len(bsl) } else { crate::udp::HEADERS_MAX })
}

/// The routers that bits stand for.
pub(crate) fn ids(key: BiftKey, words: &[u64]) -> impl Iterator<Item = BfrId> {
    millrace_bier::bits::ones(words).filter_map(move |bit| BfrId::at(key.si, bit, key.bsl))
}

/// What we are called in an echo message: our BFR-prefix, and our addresses.
fn addresses(context: OamContext<'_>) -> Vec<IpAddr> {
    let interfaces = context.tables.interfaces.iter();
    let ours = interfaces.flat_map(|(_, one)| one.addresses.iter().map(|(addr, _)| addr.to_ip()));
    context.names.own.into_iter().chain(ours).collect()
}

/// Replies may go as far as requests.
const REPLY_TTL: u8 = 255;

#[cfg(test)]
mod tests;

//! What BIER routers tell each other of what is listened to behind them (draft-ietf-bier-mld): IGMPv3 and MLDv2 in BIER, from the
//! routers where flows leave (BFER, as hosts) to those where they enter (BFIR, as routers).
//!
//! ```text
//!  listeners ──► speaker ──► report in BIER ──► worker
//!  worker ──shows a report──► receive ──► learner ──► Receivers: who gets a flow now
//! ```
//!
//! Who speaks is told by the BFIR-id of the BIER header; the address that a report comes from means nothing. Where a flow enters that
//! didn't before, all routers are asked, for it may be long until they say everything by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_bier::bift::{Bift, Reach};
use millrace_bier::bits::{self, BitString};
use millrace_bier::header::Proto;
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};
use millrace_bier::overlay::{Flow, Receivers};
use millrace_bier::plane::AnyBift;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::listeners::Listener;
use millrace_fastpath::tables::{Bier, Tables};

use super::learner::{Learner, Learnt, LearntRow};
use super::message::{Message, Query, Record, Refused, Version};
use super::speaker::{RECORDS_BYTES_MAX, Speaker, bytes};
use super::{igmp, mld, ours_v6};
use crate::bier_origin::{self, Origin};
use crate::oam::Shown;

/// What a sub-domain's routers tell each other, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signalling {
    /// The sub-domain.
    pub sub_domain: SubDomain,
    /// How long its bit strings are.
    pub bsl: Bsl,
    /// From one time that everything is said to the next.
    pub interval_seconds: u32,
    /// Whom we tell.
    pub report_to: Receivers,
    /// The flows that enter here and whose receivers say so.
    pub flows: Vec<Flow>,
    /// Our own number.
    pub own: Option<BfrId>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Send this BIER packet, which begins here, in an Ethernet frame to nobody yet.
    Send(Vec<u8>),
    /// Who gets a flow from now on.
    Receivers(Flow, Receivers),
}

/// What happened, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalCounters {
    /// Reports of other routers.
    pub reports: u64,
    /// Questions of other routers.
    pub queries: u64,
    /// Reports of ours, one for each set of routers.
    pub sent: u64,
    /// Questions of ours, one for each set of routers and family.
    pub asked: u64,
    /// Reports and questions of ours that no table leads to anybody, or that were too long.
    pub unsent: u64,
    /// Messages that weren't well-formed, or say nobody as their sender.
    pub malformed: u64,
    /// Messages of other types, of routers that there is no way to, or in a sub-domain whose routers tell nothing.
    pub unwanted: u64,
    /// Groups and sources that there was no room for.
    pub refused: u64,
}

/// What is told and heard, in all sub-domains.
#[derive(Debug, Default)]
pub struct Signals {
    speakers: BTreeMap<SubDomain, (Speaker, Bsl, Receivers)>,
    learners: BTreeMap<SubDomain, (Learner, Asking)>,
    counters: SignalCounters,
}

/// Questions to all routers that are still to be asked.
#[derive(Debug, Default)]
struct Asking {
    /// How often.
    left: u8,
    /// When next.
    at: Nanos,
    /// From one time that routers say everything to the next, in seconds.
    interval_seconds: u32,
    /// Our own number, by which others know where to send to.
    own: Option<BfrId>,
}

impl Asking {
    /// From now on, so many times.
    fn begin(&mut self, now: Nanos) {
        (self.left, self.at) = (ASK_TIMES, now);
    }

    fn next_due(&self) -> Option<Nanos> {
        (self.left > 0).then_some(self.at)
    }

    /// Whether it is time; and then for the next one later.
    fn take(&mut self, now: Nanos) -> bool {
        let is_due = self.next_due().is_some_and(|at| at <= now);
        if is_due {
            (self.left, self.at) = (self.left - 1, now.plus(ASK_AGAIN_NANOS));
        }
        is_due
    }
}

impl Signals {
    /// This is told from now on. What is known of those that stay, stays.
    pub fn reload(&mut self, now: Nanos, wanted: &[Signalling], tables: &Tables, out: &mut Vec<Signal>) {
        let is_told = |id: &SubDomain| wanted.iter().any(|one| one.sub_domain == *id && one.is_told());
        let is_learnt =
            |id: &SubDomain| wanted.iter().any(|one| one.sub_domain == *id && !one.flows.is_empty());
        self.speakers.retain(|id, _| is_told(id));
        self.learners.retain(|id, _| is_learnt(id));
        for one in wanted {
            let interval = u64::from(one.interval_seconds) * SECOND;
            if one.is_told() {
                let fresh = || (Speaker::new(now, interval), one.bsl, one.report_to.clone());
                let (speaker, bsl, to) = self.speakers.entry(one.sub_domain).or_insert_with(fresh);
                speaker.set_interval(now, interval);
                if *to != one.report_to {
                    // Those who are new to it know nothing.
                    speaker.renew(now);
                }
                (*bsl, *to) = (one.bsl, one.report_to.clone());
            }
            if !one.flows.is_empty() {
                let flows = one.flows.iter().map(|flow| (Addr::from(flow.source), Addr::from(flow.group)));
                let hold = HOLD_INTERVALS * interval + HOLD_MORE;
                let (learner, asking) = self.learners.entry(one.sub_domain).or_default();
                let is_new = learner.reload(hold, flows);
                if is_new || asking.own != one.own {
                    asking.begin(now);
                }
                (asking.own, asking.interval_seconds) = (one.own, one.interval_seconds);
                out.extend(learner.changes().map(signal));
            }
        }
        let Some(listeners) = tables.bier.as_ref().map(|bier| &bier.listeners) else { return };
        for (speaker, ..) in self.speakers.values_mut() {
            let gone = speaker.groups().into_iter().filter(|group| listeners.get(*group).is_empty());
            gone.collect::<Vec<_>>().into_iter().for_each(|group| speaker.set(group, &[]));
            listeners.iter().for_each(|(group, listeners)| speaker.set(group, listeners));
        }
    }

    /// These listen to a group behind us from now on.
    pub fn set_listeners(&mut self, group: Addr, listeners: &[Listener]) {
        self.speakers.values_mut().for_each(|(speaker, ..)| speaker.set(group, listeners));
    }

    /// Takes a BIER packet with a message of another router, from the Ethernet header on.
    pub(crate) fn receive(
        &mut self,
        now: Nanos,
        shown: Option<Shown<'_>>,
        tables: &Tables,
        out: &mut Vec<Signal>,
    ) {
        let parsed = shown.and_then(|shown| {
            let payload = shown.view.payload();
            let heard = match shown.view.proto() {
                Proto::Ipv4 => igmp::parse(payload),
                Proto::Ipv6 => mld::parse_from_afar(payload),
                _ => return None,
            };
            Some((shown.key, shown.view.bfir_id()?, heard))
        });
        let (key, from, message) = match parsed {
            Some((key, from, Ok(heard))) => (key, from, heard.message),
            Some((_, _, Err(Refused::Unknown))) => return self.counters.unwanted += 1,
            Some((_, _, Err(Refused::Malformed))) | None => return self.counters.malformed += 1,
        };
        // Whoever no table leads to can't be sent a flow either.
        if !tables.bier.as_ref().is_some_and(|bier| is_known(bier, key, from)) {
            return self.counters.unwanted += 1;
        }
        match message {
            Message::Query(query) => {
                let Some((speaker, ..)) = self.speakers.get_mut(&key.sub_domain) else {
                    return self.counters.unwanted += 1;
                };
                self.counters.queries += 1;
                let own = tables.bier.as_ref().and_then(|bier| bier.ingress(key.sub_domain));
                let response = u64::from(query.response_ms) * 1_000_000;
                speaker.asked(now, response, own.map(|own| own.bfir_id));
            }
            Message::Report(_, records) => {
                let Some((learner, _)) = self.learners.get_mut(&key.sub_domain) else {
                    return self.counters.unwanted += 1;
                };
                self.counters.reports += 1;
                let fits = records.iter().map(|record| learner.told(now, from, record));
                self.counters.refused += fits.filter(|fits| !fits).count() as u64;
                out.extend(learner.changes().map(signal));
            }
        }
    }

    /// Does what has become due.
    pub fn poll(&mut self, now: Nanos, tables: &Tables, out: &mut Vec<Signal>) {
        for (id, (learner, asking)) in &mut self.learners {
            learner.poll(now);
            out.extend(learner.changes().map(signal));
            if asking.take(now) {
                let packets = questions(learner.families(), asking.interval_seconds, tables);
                let routers = tables.bier.as_deref().map(|bier| everybody(bier, *id)).unwrap_or_default();
                send(&packets, &routers, tables, &mut self.counters.asked, &mut self.counters.unsent, out);
                if let Some((speaker, ..)) = self.speakers.get_mut(id) {
                    speaker.asked(now, u64::from(RESPONSE_MS) * 1_000_000, asking.own);
                }
            }
        }
        for (id, (speaker, bsl, to)) in &mut self.speakers {
            if speaker.next_due() > now {
                continue;
            }
            let packets = packets(&speaker.poll(now), tables);
            let key = |(si, bits): (Si, BitString)| (BiftKey { sub_domain: *id, si, bsl: *bsl }, bits);
            let routers: Vec<_> = to.sets(*bsl).into_iter().map(key).collect();
            send(&packets, &routers, tables, &mut self.counters.sent, &mut self.counters.unsent, out);
        }
    }

    /// When [`Signals::poll`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        let speakers = self.speakers.values().map(|(speaker, ..)| speaker.next_due());
        let learners =
            self.learners.values().map(|(learner, asking)| [learner.next_due(), asking.next_due()]);
        speakers.chain(learners.flatten().flatten()).min()
    }

    /// What is known of each router, by sub-domain.
    pub fn learnt(&self) -> impl Iterator<Item = LearntRow> {
        self.learners.iter().flat_map(|(id, (learner, _))| learner.rows(*id))
    }

    /// What happened so far.
    pub fn counters(&self) -> SignalCounters {
        self.counters
    }
}

impl Signalling {
    fn is_told(&self) -> bool {
        self.report_to.iter().next().is_some()
    }
}

/// Sends each packet to the routers of each set.
fn send(
    packets: &[Vec<u8>],
    routers: &[(BiftKey, BitString)],
    tables: &Tables,
    sent: &mut u64,
    unsent: &mut u64,
    out: &mut Vec<Signal>,
) {
    for packet in packets {
        for (key, bits) in routers {
            match tables.bier.as_deref().and_then(|bier| in_bier(bier, *key, bits.words(), packet)) {
                Some(frame) => {
                    *sent += 1;
                    out.push(Signal::Send(frame));
                }
                None => *unsent += 1,
            }
        }
    }
}

/// All other routers that the tables of a sub-domain lead to, by set.
fn everybody(bier: &Bier, sub_domain: SubDomain) -> Vec<(BiftKey, BitString)> {
    let bifts = bier.plane.iter().filter_map(AnyBift::of_routers);
    let all = |bift: &Arc<Bift>| {
        let is_router = |one| !matches!(bift.neighbour(one).reach, Reach::Hosts(_));
        let mut bits = BitString::new(bift.key().bsl);
        for (_, mask) in bift.table(0).rows().iter().filter(|(one, _)| is_router(*one)) {
            bits::or(bits.words_mut(), mask);
        }
        (!bits::is_zero(bits.words())).then_some((bift.key(), bits))
    };
    bifts.filter(|bift| bift.key().sub_domain == sub_domain).filter_map(all).collect()
}

/// The questions to everybody, in these families.
fn questions([v4, v6]: [bool; 2], interval_seconds: u32, tables: &Tables) -> Vec<Vec<u8>> {
    let query = Query {
        version: Version::Third,
        group: None,
        sources: Vec::new(),
        suppress: false,
        robustness: ASK_TIMES,
        interval_seconds,
        response_ms: RESPONSE_MS,
    };
    let (from_v4, from_v6) = sources(tables);
    let v4 = v4.then(|| igmp::query_packet(from_v4, &query));
    v4.into_iter().chain(v6.then(|| mld::query_packet(from_v6, &query))).collect()
}

/// Where our packets come from. Those without an address speak as well (RFC 9776 section 4.2.13, RFC 9777 section 5.2.13).
fn sources(tables: &Tables) -> (Addr, Addr) {
    let ours = || tables.interfaces.iter().map(|(_, interface)| interface);
    let from_v4 = ours().find_map(|one| one.address_like(Addr::v4([0; 4])));
    let from_v6 = ours().find_map(ours_v6);
    (from_v4.unwrap_or(Addr::v4([0; 4])), from_v6.unwrap_or_default())
}

/// Whether a router is one of the sub-domain's: we are, or there is a way to it.
fn is_known(bier: &Bier, key: BiftKey, id: BfrId) -> bool {
    let Some((si, bit)) = id.position(key.bsl) else { return false };
    let bift = bier.plane.get(BiftKey { si, ..key }).and_then(|bift| bift.of_routers());
    bift.is_some_and(|bift| bift.local() == Some(bit) || bift.table(0).rows().neighbour_of(bit).is_some())
}

fn signal(((source, group), receivers): Learnt) -> Signal {
    Signal::Receivers(Flow { source: source.to_ip(), group: group.to_ip() }, receivers)
}

/// What carries the records: IPv4 and IPv6 packets with a report each.
fn packets(records: &[Record], tables: &Tables) -> Vec<Vec<u8>> {
    let (v4, v6): (Vec<_>, Vec<_>) = records.iter().cloned().partition(|record| record.group.is_v4());
    let (from_v4, from_v6) = sources(tables);
    let v4 = chunks(&v4).map(|records| igmp::report(from_v4, records));
    let v6 = chunks(&v6).map(|records| mld::report(from_v6, records));
    v4.chain(v6).collect()
}

/// As many records as a packet takes, one after the other.
pub(super) fn chunks(mut records: &[Record]) -> impl Iterator<Item = &[Record]> {
    std::iter::from_fn(move || {
        let mut left = RECORDS_BYTES_MAX;
        let fit = records.iter().take_while(|record| match left.checked_sub(bytes(record)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        let (chunk, rest) = records.split_at(fit.count());
        records = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn in_bier(bier: &Bier, key: BiftKey, words: &[u64], packet: &[u8]) -> Option<Vec<u8>> {
    let ingress = bier.ingress(key.sub_domain)?;
    let proto = if packet[0] >> 4 == 4 { Proto::Ipv4 } else { Proto::Ipv6 };
    let bfir_id: Option<BfrId> = Some(ingress.bfir_id);
    bier_origin::packet(bier, key, words, Origin { ttl: ingress.ttl, entropy: 0, proto, bfir_id }, packet)
}

const SECOND: u64 = 1_000_000_000;
/// So many times nothing need be heard of a router for it to be forgotten, and ten seconds (RFC 9776 section 8.4).
const HOLD_INTERVALS: u64 = 2;
const HOLD_MORE: u64 = 10 * SECOND;
/// Questions to everybody, one after the other, for the first may find nobody: neighbours may not be known yet.
const ASK_TIMES: u8 = 3;
/// How long routers may take to answer: a thousand of them come at a rate that workers let through.
const RESPONSE_MS: u32 = 2000;
/// From one question to the next: when the answers to the first are there.
const ASK_AGAIN_NANOS: u64 = 3 * SECOND;
const _: () = assert!(RESPONSE_MS as u64 * 1_000_000 < ASK_AGAIN_NANOS);

//! Answers DNS queries over UDP from the name table, wakes the functions that names lead to, and holds the queries
//! that are to be answered only when the function is ready.
//!
//! ```text
//!   authoritative ──► answer, or a named drop            (RFC 1035, 6891; see `crate::dns`)
//!   in transit    ──► answer on an exact hit, otherwise transit with not a byte changed
//!   either        ──► held, when the service says `when-ready`
//! ```

use arrayvec::ArrayVec;

use super::{Context, Lanes, Leaving, NodeId, drops, reply};
use crate::clock::Nanos;
use crate::dns::{
    self, Admission, Answer, Asked, Cookies, Outcome, Readiness, Role, Silence, Transport, UDP_PAYLOAD_MAX,
};
use crate::driver::{BURST_MAX, Frame, RxChecksum};
use crate::event::{Milestone, Trigger};
use crate::hold::{Held, Parked, Parking};
use crate::packet::{L3, Network, Origin, Packet};
use crate::slots::Phase;
use crate::tables::services::{DnsAnswer, ServiceId};
use crate::wire::{UDP, be16, checksum, ipv4, ipv6, udp};

drops! {
    /// Why a query isn't answered.
    pub enum Drop {
        /// Wrong UDP checksum, or none in IPv6 (RFC 8200 §8.1).
        UdpChecksum => "udp-checksum",
        /// From port 0: nobody could take the answer.
        SourcePort => "source-port",
        /// Fewer bytes than a DNS header.
        Short => "short",
        /// A response: answering one could go on for ever.
        Response => "response",
        /// No room in the frame for an answer.
        NoRoom => "no-room",
        /// Over IPv4 with options, or IPv6 with extension headers.
        IpOptions => "ip-options",
        /// The source prefix has had its share of answers.
        RateLimited => "rate-limited",
    }
}

enum Next {
    /// With so many bytes of DNS.
    Reply(usize),
    Transit,
    Hold(Parked),
}

/// Answers the packets of the lane.
pub fn process<F: Frame>(scratch: &mut Vec<Packet<F>>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    std::mem::swap(scratch, &mut lanes.dns);
    debug_assert!(scratch.len() <= BURST_MAX, "a round has no more packets");
    let tables = cx.tables;
    let names_of = |packet: &Packet<F>| tables.names_for(packet.meta.interface, packet.meta.source);
    let mut all_asked = [Asked::NOTHING; BURST_MAX];
    for (packet, asked) in scratch.iter().zip(&mut all_asked) {
        let message = packet.frame.bytes().get(usize::from(packet.meta.l4) + udp::HEADER..);
        *asked = message.map_or(Asked::NOTHING, |message| Asked::new::<F>(names_of(packet), message));
    }
    for (packet, asked) in scratch.iter().zip(all_asked) {
        asked.fetch::<F>(names_of(packet));
    }
    let mut answered = ArrayVec::<(Packet<F>, usize), BURST_MAX>::new();
    for (mut packet, asked) in scratch.drain(..).zip(all_asked) {
        match answer(&mut packet, asked, cx) {
            Ok(Next::Reply(len)) => answered.push((packet, len)),
            Ok(Next::Transit) => {
                cx.trace(NodeId::Dns, "not ours, to transit", &packet);
                lanes.transit.push(packet);
            }
            Ok(Next::Hold(parked)) => super::service::finish_hold(parked, NodeId::Dns, packet, cx, lanes),
            Err(reason) => cx.drop(NodeId::Dns, reason as usize, reason.name(), packet, lanes),
        }
    }
    // Only once all are written: read right behind, each word of the checksum would wait for the pieces that it was written
    // in, a tenth of what an answer costs.
    for (mut packet, len) in answered {
        if !send_back(&mut packet, len) {
            let reason = Drop::NoRoom;
            cx.drop(NodeId::Dns, reason as usize, reason.name(), packet, lanes);
            continue;
        }
        cx.trace(NodeId::Dns, "answered", &packet);
        let leaving = match packet.meta.origin {
            Origin::Arrival => Leaving::Answered,
            Origin::Hold => Leaving::Released,
            Origin::Own => Leaving::Originated,
        };
        let interface = packet.meta.interface;
        cx.send(packet, interface, leaving, lanes);
    }
}

fn answer<F: Frame>(packet: &mut Packet<F>, asked: Asked, cx: &mut Context<'_>) -> Result<Next, Drop> {
    let role = if packet.meta.intercepted { Role::Intercept } else { Role::Authoritative };
    match attempt(packet, role, asked, cx) {
        // In transit nothing of ours may stand between a client and its resolver, not even a refusal.
        Err(_) if role == Role::Intercept => Ok(Next::Transit),
        result => result,
    }
}

fn attempt<F: Frame>(
    packet: &mut Packet<F>,
    role: Role,
    asked: Asked,
    cx: &mut Context<'_>,
) -> Result<Next, Drop> {
    let l4 = usize::from(packet.meta.l4);
    let message_at = l4 + udp::HEADER;
    let arrived_len = packet.frame.bytes().len();
    let ip_header = if packet.meta.network == Network::V4 { ipv4::HEADER } else { ipv6::HEADER };
    if l4 != L3 + ip_header {
        return Err(Drop::IpOptions);
    }
    if packet.frame.segments() > 1 {
        return Err(Drop::NoRoom);
    }
    if !has_good_checksum(packet) {
        return Err(Drop::UdpChecksum);
    }
    if packet.meta.source_port == 0 {
        return Err(Drop::SourcePort);
    }
    let query_len = usize::from(be16(packet.frame.bytes(), l4 + 4)) - udp::HEADER;
    let room_end = message_at + UDP_PAYLOAD_MAX.max(query_len);
    if room_end > arrived_len && !packet.frame.extend(room_end - arrived_len) {
        return Err(Drop::NoRoom);
    }
    let outcome = respond(packet, role, query_len, asked, packet.meta.origin == Origin::Hold, cx);
    let outcome = match outcome {
        Outcome::Deferred(service) => {
            packet.frame.truncate(arrived_len);
            packet.meta.service = service;
            match hold(packet, role, service, cx) {
                Some(parked) => return Ok(Next::Hold(parked)),
                // No room to wait: the address is answered now, and what follows is held, or takes its own way out.
                None => {
                    packet.frame.extend(room_end.saturating_sub(arrived_len));
                    respond(packet, role, query_len, asked, true, cx)
                }
            }
        }
        outcome => outcome,
    };
    match outcome {
        Outcome::Answer(answer) => {
            let answer = admit(packet, role, answer, cx).ok_or(Drop::RateLimited)?;
            if let Some(service) = answer.service {
                let query_type = query_type(&packet.frame.bytes()[message_at..]);
                note_demand(packet, service, query_type, cx);
            }
            Ok(Next::Reply(answer.len))
        }
        Outcome::NotOurs => {
            packet.frame.truncate(arrived_len);
            Ok(Next::Transit)
        }
        Outcome::Silent(Silence::Short) => Err(Drop::Short),
        Outcome::Silent(Silence::Response) => Err(Drop::Response),
        // The second attempt above never defers.
        Outcome::Deferred(_) => Err(Drop::NoRoom),
    }
}

fn respond<F: Frame>(
    packet: &mut Packet<F>,
    role: Role,
    query_len: usize,
    asked: Asked,
    waited: bool,
    cx: &Context<'_>,
) -> Outcome {
    let message_at = usize::from(packet.meta.l4) + udp::HEADER;
    let client = packet.meta.source;
    let cookies = cx.tables.policy.cookies.as_ref().filter(|_| role == Role::Authoritative);
    let context = dns::Context {
        names: cx.tables.names_for(packet.meta.interface, client),
        role,
        transport: Transport::Udp,
        cookies: cookies.map(|keys| Cookies { keys, client, now: cx.now }),
        readiness: |service| readiness(service, waited, cx),
    };
    dns::respond_asked(&mut packet.frame.bytes_mut()[message_at..], query_len, asked, &context)
}

/// The answer, or what may be sent of it. What a rate limit cuts off wakes nothing. Queries in transit are answered whatever
/// there is of them: past us they would be, too.
#[inline]
fn admit<F: Frame>(
    packet: &mut Packet<F>,
    role: Role,
    answer: Answer,
    cx: &mut Context<'_>,
) -> Option<Answer> {
    match &cx.tables.policy.rate_limit {
        Some(limit)
            if role == Role::Authoritative && packet.meta.origin == Origin::Arrival && !answer.proven =>
        {
            let (evicted, client) = (&cx.counters.fates.limits_evicted, packet.meta.source);
            match cx.limiter.admit(limit, cx.workers, client, cx.now, evicted) {
                Admission::Whole => Some(answer),
                Admission::Truncated => {
                    let message_at = usize::from(packet.meta.l4) + udp::HEADER;
                    let message = &mut packet.frame.bytes_mut()[message_at..];
                    // Who has a cookie of its own needn't come by TCP to show that it is there.
                    let short =
                        dns::bad_cookie(message, &answer).or_else(|| dns::truncate(message, &answer))?;
                    cx.counters.fates.responses_slipped.add(1);
                    Some(Answer { service: None, ..short })
                }
                Admission::Withheld => None,
            }
        }
        _ => Some(answer),
    }
}

/// What to say of a service's addresses now. `waited`: the query has waited enough.
fn readiness(service: ServiceId, waited: bool, cx: &Context<'_>) -> Readiness {
    let Some(entry) = cx.tables.services.get(service) else { return Readiness::Cold };
    match cx.slots.get(service).load().0 {
        Phase::Down if !entry.wakes => Readiness::Cold,
        _ if !entry.wakes => Readiness::Warm,
        Phase::Ready => Readiness::Warm,
        Phase::Cold | Phase::Waking | Phase::Draining
            if entry.dns_answer == DnsAnswer::WhenReady && entry.trigger_dns && !waited =>
        {
            Readiness::Defer
        }
        _ => Readiness::Cold,
    }
}

/// A name of `service` was asked for and is about to be answered: that is demand.
fn note_demand<F: Frame>(packet: &Packet<F>, service: ServiceId, query_type: u16, cx: &mut Context<'_>) {
    cx.counters.service(service).last_nanos.set(cx.now.0);
    let Some(entry) = cx.tables.services.get(service) else { return };
    if !entry.wakes || cx.slots.get(service).load().0 == Phase::Ready {
        return;
    }
    if entry.trigger_dns && packet.meta.origin == Origin::Arrival {
        let fields = packet.meta.fields(packet.frame.bytes());
        let trigger = Trigger::Dns { query_type };
        cx.waker.wake(service, trigger, fields, cx.now);
    }
    cx.waker.milestone(service, Milestone::Answered, cx.now);
}

fn hold<F: Frame>(
    packet: &Packet<F>,
    role: Role,
    service: ServiceId,
    cx: &mut Context<'_>,
) -> Option<Parked> {
    let entry = cx.tables.services.get(service)?;
    let bytes = packet.frame.bytes();
    let message = &bytes[usize::from(packet.meta.l4) + udp::HEADER..];
    let trigger = Trigger::Dns { query_type: query_type(message) };
    cx.counters.service(service).last_nanos.set(cx.now.0);
    let fields = packet.meta.fields(bytes);
    cx.waker.wake(service, trigger, fields, cx.now);
    let parking = Parking {
        service,
        query_id: be16(message, 0),
        held: Held::Query(role),
        trigger,
        meta: &packet.meta,
        bytes,
        deadline: Nanos(cx.now.0 + entry.hold_nanos_max),
        asked: cx.slots.get(service).load().0 != Phase::Cold,
        service_max: super::service::hold_share(entry, cx),
    };
    let parked = cx.holds.park(&parking);
    super::service::note_parked(parked, service, cx).ok()
}

/// The QTYPE of a message whose question the responder has accepted (RFC 1035 §4.1.2).
fn query_type(message: &[u8]) -> u16 {
    let mut at = dns::HEADER_LEN;
    while let Some(len) = message.get(at).filter(|len| **len != 0) {
        at += usize::from(*len) + 1;
    }
    match message.get(at + 1..at + 3) {
        Some(bytes) => be16(bytes, 0),
        None => 0,
    }
}

#[inline]
fn has_good_checksum<F: Frame>(packet: &Packet<F>) -> bool {
    match packet.frame.l4_checksum() {
        RxChecksum::Good => return true,
        RxChecksum::Bad => return false,
        RxChecksum::Unknown => {}
    }
    let meta = &packet.meta;
    let l4 = usize::from(meta.l4);
    let bytes = packet.frame.bytes();
    let len = usize::from(be16(bytes, l4 + 4));
    if be16(bytes, l4 + udp::CHECKSUM) == 0 {
        return meta.network == Network::V4;
    }
    let Some(datagram) = bytes.get(l4..l4 + len) else { return false };
    let pseudo = checksum::pseudo_header(meta.source, meta.destination, UDP, len);
    checksum::fold(pseudo + checksum::sum(datagram)) == 0xffff
}

/// Completes the datagram around an answer of `answer_len` bytes and turns it round.
#[inline]
fn send_back<F: Frame>(packet: &mut Packet<F>, answer_len: usize) -> bool {
    let len = udp::HEADER + answer_len;
    if !reply::turn_around(packet, len) {
        return false;
    }
    let (source, destination) = (packet.meta.source, packet.meta.destination);
    let (from, to) = (packet.meta.destination_port, packet.meta.source_port);
    let l4 = usize::from(packet.meta.l4);
    let datagram = &mut packet.frame.bytes_mut()[l4..];
    let sum = checksum::pseudo_header(source, destination, UDP, len)
        + [from, to, len as u16].map(u64::from).into_iter().sum::<u64>()
        + checksum::sum(&datagram[udp::HEADER..]);
    datagram[0..2].copy_from_slice(&from.to_be_bytes());
    datagram[2..4].copy_from_slice(&to.to_be_bytes());
    datagram[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    let sum = match !checksum::fold(sum) {
        0 => 0xffff, // zero means "none" (RFC 768)
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    true
}

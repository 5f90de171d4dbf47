//! Decide, then write.

use super::edns::{OPT_LEN, Opt, UDP_PAYLOAD_MIN};
use super::message::{CLASS_IN, HEADER_LEN, Rcode, RecordType, flags};
use super::query::{Query, Unfit};
use super::{Answer, Context, Outcome, Readiness, Role, Silence, Transport};
use crate::tables::names::{Authority, Node, RrSet};
use crate::tables::services::ServiceId;

/// What is to become of a query. Borrows from the table, never from the message.
enum Verdict<'a> {
    Silent(Silence),
    NotOurs,
    Deferred(ServiceId),
    /// A header alone: there is no question that could be trusted.
    Header {
        rcode: Rcode,
        /// Whether RD is copied; it has no meaning in an unknown opcode.
        recursion_desired: bool,
    },
    Reply(Query, Reply<'a>),
}

/// An answer with its question.
struct Reply<'a> {
    rcode: Rcode,
    /// Whether it is ours to say so.
    authoritative: bool,
    body: Body<'a>,
    service: Option<ServiceId>,
}

/// What stands between question and OPT.
enum Body<'a> {
    Nothing,
    /// Records of the question's name, with another time to live than they were built with if one is given.
    Set {
        set: RrSet<'a>,
        ttl_seconds: Option<u32>,
    },
    /// The SOA that says for how long there is nothing (RFC 2308).
    Negative(&'a Authority),
    /// The answer to ANY (RFC 8482 section 4.2).
    Minimal {
        ttl_seconds: u32,
    },
}

/// RDATA of the HINFO that answers ANY.
const MINIMAL: &[u8] = b"\x07RFC8482\x00";
/// Where a record's TTL stands, its owner being a pointer.
const TTL_AT: usize = 6;

/// Answers the query `message[..query_len]` in place; the rest of `message` is room for the answer. Over UDP a room of
/// [`super::UDP_PAYLOAD_MAX`] is enough for all, over TCP one of 65 535; records that don't fit are left out as a set
/// and TC is set.
///
/// A query that was deferred is answered by another call with the same bytes.
#[inline]
pub fn respond<R: Fn(ServiceId) -> Readiness>(
    message: &mut [u8],
    query_len: usize,
    context: &Context<'_, R>,
) -> Outcome {
    let Some(query) = message.get(..query_len) else { return Outcome::Silent(Silence::Short) };
    match judge(query, context) {
        Verdict::Silent(silence) => Outcome::Silent(silence),
        Verdict::NotOurs => Outcome::NotOurs,
        Verdict::Deferred(service) => Outcome::Deferred(service),
        Verdict::Header { rcode, recursion_desired } => {
            let kept = flags::OPCODE | if recursion_desired { flags::RD } else { 0 };
            write_header(message, kept, 0, 0, rcode, [0; 4]);
            Outcome::Answer(Answer { len: HEADER_LEN, rcode, truncated: false, service: None })
        }
        Verdict::Reply(query, reply) => {
            Outcome::Answer(write(message, &query, &reply, context.role, context.transport))
        }
    }
}

/// Writes SERVFAIL over a query that was deferred and can't be answered: what would have answered it has failed. With
/// OPT in the query it carries the extended error "Not Ready" (RFC 8914 section 4.15), if the room takes it. `None`, and
/// nothing written, if the bytes aren't a query.
///
/// Resolvers remember it for a second or more (RFC 9520), so it isn't for services that merely take long.
pub fn servfail(message: &mut [u8], query_len: usize, role: Role) -> Option<usize> {
    let query = Query::parse(message.get(..query_len)?).ok()?;
    let rcode = Rcode::ServFail;
    let mut at = query.end();
    if let Some(opt) = query.opt {
        let long = opt.answer_not_ready(rcode);
        at = put(message, at, &long).or_else(|| put(message, at, &opt.answer(rcode)))?;
    }
    let available = if role == Role::Intercept { flags::RA } else { 0 };
    write_header(message, flags::RD, 0, available, rcode, [1, 0, 0, u16::from(query.opt.is_some())]);
    Some(at)
}

/// All rules, in the order in which they hold. Reads only.
#[inline]
fn judge<'a, R: Fn(ServiceId) -> Readiness>(message: &[u8], context: &Context<'a, R>) -> Verdict<'a> {
    let ours = context.role == Role::Authoritative;
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(_) if !ours => return Verdict::NotOurs,
        Err(Unfit::Short) => return Verdict::Silent(Silence::Short),
        Err(Unfit::Response) => return Verdict::Silent(Silence::Response),
        Err(Unfit::Opcode) => return Verdict::Header { rcode: Rcode::NotImp, recursion_desired: false },
        Err(Unfit::Malformed) => return Verdict::Header { rcode: Rcode::FormErr, recursion_desired: true },
    };
    let refusal = match query {
        Query { opt: Some(Opt { version: 1.., .. }), .. } => Some(Rcode::BadVers),
        Query { signed: true, .. } => Some(Rcode::NotAuth),
        Query { class, .. } if class != CLASS_IN => Some(Rcode::Refused),
        Query { kind, .. } if kind.is_transfer() => Some(match context.transport {
            Transport::Udp => Rcode::NotImp,
            Transport::Tcp => Rcode::Refused,
        }),
        _ => None,
    };
    if let Some(rcode) = refusal {
        return if ours { refuse(query, rcode) } else { Verdict::NotOurs };
    }
    let folded = query.folded(message);
    match context.names.get(folded.as_bytes()) {
        Some(node) if ours || !node.is_empty_non_terminal() => found(query, node, context),
        _ if !ours => Verdict::NotOurs,
        _ => match context.names.zone_around(folded.as_bytes()) {
            Some(zone) => Verdict::Reply(
                query,
                Reply {
                    rcode: Rcode::NxDomain,
                    authoritative: true,
                    body: Body::Negative(zone),
                    service: None,
                },
            ),
            None => refuse(query, Rcode::Refused),
        },
    }
}

/// The name exists.
#[inline]
fn found<'a, R: Fn(ServiceId) -> Readiness>(
    query: Query,
    node: &'a Node,
    context: &Context<'a, R>,
) -> Verdict<'a> {
    let Some(zone) = context.names.zone(node) else { return refuse(query, Rcode::Refused) };
    let service = node.service().filter(|_| query.kind.wakes());
    let body = match node.set(query.kind) {
        Some(set) => {
            // Only addresses have a service here: a bound name has no other of these types.
            let readiness = service.map(|service| (service, (context.readiness)(service)));
            let ttl_seconds = match readiness {
                Some((service, Readiness::Defer)) => return Verdict::Deferred(service),
                Some((_, Readiness::Cold)) => Some(zone.cold_ttl_seconds()),
                Some((_, Readiness::Warm)) | None => None,
            };
            Body::Set { set, ttl_seconds }
        }
        None if query.kind == RecordType::ANY && !node.is_empty_non_terminal() => {
            Body::Minimal { ttl_seconds: zone.ttl_seconds() }
        }
        None => Body::Negative(zone),
    };
    let authoritative = context.role == Role::Authoritative;
    Verdict::Reply(query, Reply { rcode: Rcode::NoError, authoritative, body, service })
}

fn refuse(query: Query, rcode: Rcode) -> Verdict<'static> {
    Verdict::Reply(query, Reply { rcode, authoritative: false, body: Body::Nothing, service: None })
}

/// Writes an answer behind the question. Header, question and OPT always fit: the query had them.
#[inline]
fn write(message: &mut [u8], query: &Query, reply: &Reply<'_>, role: Role, transport: Transport) -> Answer {
    let max = match (transport, query.opt) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(opt)) => opt.payload_max(),
        (Transport::Udp, None) => UDP_PAYLOAD_MIN,
    };
    let opt_len = if query.opt.is_some() { OPT_LEN } else { 0 };
    let room = max.min(message.len()).saturating_sub(opt_len);
    let written = message.get_mut(..room).and_then(|room| write_body(room, query, &reply.body));
    let truncated = written.is_none();
    let Written { mut end, answers, authorities } =
        written.unwrap_or(Written { end: query.end(), answers: 0, authorities: 0 });
    if let Some(opt) = query.opt {
        end = put(message, end, &opt.answer(reply.rcode)).unwrap_or(end);
    }
    let mut set = if reply.authoritative { flags::AA } else { 0 };
    set |= if truncated { flags::TC } else { 0 };
    let available = if role == Role::Intercept { flags::RA } else { 0 };
    let counts = [1, answers, authorities, u16::from(query.opt.is_some())];
    write_header(message, flags::RD, set, available, reply.rcode, counts);
    Answer { len: end, rcode: reply.rcode, truncated, service: reply.service }
}

/// Where a body ends and what it has.
struct Written {
    end: usize,
    answers: u16,
    authorities: u16,
}

/// Writes the whole body, or says that there is no room for it. No part of a set is ever sent.
#[inline]
fn write_body(room: &mut [u8], query: &Query, body: &Body<'_>) -> Option<Written> {
    let at = query.end();
    match *body {
        Body::Nothing => Some(Written { end: at, answers: 0, authorities: 0 }),
        Body::Set { set, ttl_seconds } => {
            let end = write_set(room, at, query, set)?;
            if let Some(ttl_seconds) = ttl_seconds {
                let stride = (set.wire.len() / usize::from(set.count.max(1))).max(1);
                for record in room.get_mut(at..end)?.chunks_exact_mut(stride) {
                    put(record, TTL_AT, &ttl_seconds.to_be_bytes())?;
                }
            }
            Some(Written { end, answers: set.count, authorities: 0 })
        }
        Body::Negative(zone) => {
            let end = put(room, at, zone.negative())?;
            // The apex is the end of the question's name, whose offset is below 2^14.
            let apex = (HEADER_LEN + query.name_len).saturating_sub(zone.apex().as_bytes().len());
            put(room, at, &(0xc000 | apex as u16).to_be_bytes())?;
            Some(Written { end, answers: 0, authorities: 1 })
        }
        Body::Minimal { ttl_seconds } => {
            let mut head = [0xc0, HEADER_LEN as u8, 0, 13, 0, 1, 0, 0, 0, 0, 0, MINIMAL.len() as u8];
            put(&mut head, TTL_AT, &ttl_seconds.to_be_bytes())?;
            let end = put(room, at, &head)?;
            Some(Written { end: put(room, end, MINIMAL)?, answers: 1, authorities: 0 })
        }
    }
}

/// Copies a set. Several addresses start with another one from query to query, so that clients that take the first
/// spread; records of other types differ in length and stay in their order.
#[inline]
fn write_set(room: &mut [u8], at: usize, query: &Query, set: RrSet<'_>) -> Option<usize> {
    if set.count < 2 || !query.kind.is_address() {
        return put(room, at, set.wire);
    }
    let count = usize::from(set.count);
    let (last, first) =
        set.wire.split_at_checked(set.wire.len() / count * (usize::from(query.id) % count))?;
    let end = put(room, at, first)?;
    put(room, end, last)
}

/// Copies `bytes` to `at` and returns where they end; `None`, and nothing copied, if there is no room.
#[inline]
fn put(to: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
    let end = at + bytes.len();
    to.get_mut(at..end)?.copy_from_slice(bytes);
    Some(end)
}

/// Writes everything of the header but the id. Of the query's flags those in `kept` stay.
#[inline]
fn write_header(message: &mut [u8], kept: u8, set: u8, available: u8, rcode: Rcode, counts: [u16; 4]) {
    let Some([_, _, bits, more, rest @ ..]) = message.first_chunk_mut::<HEADER_LEN>() else { return };
    *bits = (*bits & kept) | flags::QR | set;
    *more = available | rcode.low();
    let (pairs, _) = rest.as_chunks_mut::<2>();
    for (pair, count) in pairs.iter_mut().zip(counts) {
        *pair = count.to_be_bytes();
    }
}

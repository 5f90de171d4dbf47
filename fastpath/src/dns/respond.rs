//! Decide, then write.

use super::cookie::Checked;
use super::edns::{EDE_LEN, Extended, OPT_LEN, OPTION_HEAD_LEN, Opt, UDP_PAYLOAD_MIN};
use super::message::{CLASS_IN, HEADER_LEN, Rcode, RecordType, flags};
use super::query::{Query, Unfit};
use super::{Answer, Context, Outcome, Readiness, Role, Silence, Transport, alias, cookie, edns};
use crate::tables::names::{Authority, Node, RrSet, wire_len};
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
    /// The name is an alias, or matches a wildcard that is one.
    Aliased(Query, alias::Start<'a>),
}

/// An answer with its question.
pub(super) struct Reply<'a> {
    pub(super) rcode: Rcode,
    /// Whether it is ours to say so.
    pub(super) authoritative: bool,
    pub(super) body: Body<'a>,
    pub(super) service: Option<ServiceId>,
    /// Why, if more can be said than RCODE does.
    pub(super) extended: Option<Extended>,
}

/// What stands between question and OPT.
#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
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
pub(super) const TTL_AT: usize = 6;

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
            Outcome::Answer(Answer { len: HEADER_LEN, rcode, ..Answer::default() })
        }
        Verdict::Reply(query, reply) => match check_cookie(message, &query, context) {
            Ok(cookie) => {
                let body = |room: &mut [u8]| write_body(room, &query, &reply.body);
                Outcome::Answer(write(message, &query, &reply, cookie, context, body))
            }
            Err(refusal) => refuse_cookie(message, &query, refusal, context),
        },
        Verdict::Aliased(query, start) => match check_cookie(message, &query, context) {
            Ok(cookie) => alias::respond(message, &query, start, cookie, context),
            Err(refusal) => refuse_cookie(message, &query, refusal, context),
        },
    }
}

/// Makes a truncated answer (RFC 2181 section 9) of a whole one: the client may ask again over TCP, if it exists.
/// `None`, and nothing written, if the answer has no question.
pub fn truncate(message: &mut [u8], answer: &Answer) -> Option<Answer> {
    cut(message, answer, Rcode::NoError, flags::TC)
}

/// Makes BADCOOKIE (RFC 7873 section 5.2.3) of a whole answer: the client may ask again at once, and show the cookie that
/// this brings. `None`, and nothing written, if the answer has no cookie, or the client has shown it already.
pub fn bad_cookie(message: &mut [u8], answer: &Answer) -> Option<Answer> {
    if !answer.cookie || answer.proven {
        return None;
    }
    cut(message, answer, Rcode::BadCookie, 0)
}

/// Leaves of an answer its question and OPT; `None`, and nothing written, if it has no question.
fn cut(message: &mut [u8], answer: &Answer, rcode: Rcode, truncated: u8) -> Option<Answer> {
    let question_end = HEADER_LEN + wire_len(message.get(HEADER_LEN..answer.len)?).ok()? + 4;
    let opt_at = answer.len.checked_sub(usize::from(answer.opt_len)).filter(|at| *at >= question_end)?;
    message.get(..answer.len)?;
    message.copy_within(opt_at..answer.len, question_end);
    let len = question_end + usize::from(answer.opt_len);
    if let Some(high) = message.get_mut(question_end..len).and_then(|opt| opt.get_mut(edns::RCODE_AT)) {
        *high = rcode.high();
    }
    let [_, _, bits, more, ..] = message else { return None };
    let authoritative = if rcode == Rcode::NoError { *bits & flags::AA } else { 0 };
    let (set, available) = (authoritative | truncated, *more & flags::RA);
    let counts = [1, 0, 0, u16::from(answer.opt_len > 0)];
    // Records are left out, so nothing is said of the name.
    write_header(message, flags::RD, set, available, rcode, counts);
    Some(Answer { len, rcode, truncated: truncated != 0, ..*answer })
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
        let long = opt.answer_long(rcode, None, Some(Extended::NotReady));
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
        Query { opt: Some(Opt { version: 1.., .. }), .. } => Some((Rcode::BadVers, None)),
        Query { signed: true, .. } => Some((Rcode::NotAuth, None)),
        Query { class, .. } if class != CLASS_IN => Some((Rcode::Refused, Some(Extended::NotSupported))),
        Query { kind, .. } if kind.is_transfer() => Some(match context.transport {
            Transport::Udp => (Rcode::NotImp, Some(Extended::NotSupported)),
            Transport::Tcp => (Rcode::Refused, Some(Extended::Prohibited)),
        }),
        _ => None,
    };
    if let Some((rcode, extended)) = refusal {
        return if ours { refuse(query, rcode, extended) } else { Verdict::NotOurs };
    }
    let folded = query.folded(message);
    match context.names.get(folded.as_bytes()) {
        Some(node) if ours || !node.is_empty_non_terminal() => found(query, node, false, context),
        _ if !ours => Verdict::NotOurs,
        _ => absent(query, folded.as_bytes(), context),
    }
}

/// The name doesn't exist, and would be ours if it did.
fn absent<'a, R: Fn(ServiceId) -> Readiness>(
    query: Query,
    folded: &[u8],
    context: &Context<'a, R>,
) -> Verdict<'a> {
    let Some(zone) = context.names.zone_around(folded) else {
        return refuse(query, Rcode::Refused, Some(Extended::NotAuthoritative));
    };
    match context.names.wildcard(zone, folded) {
        Some(node) => found(query, node, true, context),
        None => Verdict::Reply(
            query,
            Reply {
                rcode: Rcode::NxDomain,
                authoritative: true,
                body: Body::Negative(zone),
                service: None,
                extended: None,
            },
        ),
    }
}

/// The name exists, or a wildcard stands in for it.
#[inline]
fn found<'a, R: Fn(ServiceId) -> Readiness>(
    query: Query,
    node: &'a Node,
    wildcard: bool,
    context: &Context<'a, R>,
) -> Verdict<'a> {
    let Some(zone) = context.names.zone(node) else { return refuse(query, Rcode::Refused, None) };
    let service = node.service().filter(|_| query.kind.wakes());
    let body = match node.set(query.kind) {
        Some(set) => match address_ttl(service.filter(|_| query.kind.is_address()), zone, context) {
            Ok(ttl_seconds) => Body::Set { set, ttl_seconds },
            Err(service) => return Verdict::Deferred(service),
        },
        None if node.is_alias() && query.kind != RecordType::ANY => {
            return Verdict::Aliased(query, alias::Start { node, wildcard });
        }
        None => body_without(query.kind, node, zone),
    };
    let authoritative = context.role == Role::Authoritative;
    let rcode = Rcode::NoError;
    Verdict::Reply(query, Reply { rcode, authoritative, body, service, extended: None })
}

/// The time to live of a service's addresses, where it isn't that of the records.
///
/// # Errors
/// The service, when its queries are to wait for it.
#[inline]
pub(super) fn address_ttl<R: Fn(ServiceId) -> Readiness>(
    service: Option<ServiceId>,
    zone: &Authority,
    context: &Context<'_, R>,
) -> Result<Option<u32>, ServiceId> {
    match service.map(|service| (service, (context.readiness)(service))) {
        Some((service, Readiness::Defer)) => Err(service),
        Some((_, Readiness::Cold)) => Ok(Some(zone.cold_ttl_seconds())),
        Some((_, Readiness::Warm)) | None => Ok(None),
    }
}

/// What a name that exists has to say to a type that it has no records of.
#[inline]
pub(super) fn body_without<'a>(kind: RecordType, node: &Node, zone: &'a Authority) -> Body<'a> {
    if kind == RecordType::ANY && !node.is_empty_non_terminal() {
        Body::Minimal { ttl_seconds: zone.ttl_seconds() }
    } else {
        Body::Negative(zone)
    }
}

fn refuse(query: Query, rcode: Rcode, extended: Option<Extended>) -> Verdict<'static> {
    Verdict::Reply(query, Reply::refusal(rcode, extended))
}

impl Reply<'_> {
    fn refusal(rcode: Rcode, extended: Option<Extended>) -> Reply<'static> {
        Reply { rcode, authoritative: false, body: Body::Nothing, service: None, extended }
    }
}

/// Checks the client's cookie before the answer overwrites it.
#[inline]
fn check_cookie<R: Fn(ServiceId) -> Readiness>(
    message: &[u8],
    query: &Query,
    context: &Context<'_, R>,
) -> Result<Option<Checked>, Rcode> {
    match (&context.cookies, query.opt) {
        (Some(cookies), Some(Opt { cookie: Some(option), .. })) => {
            option.check(message, cookies).map(Some).map_err(|_| Rcode::FormErr)
        }
        _ => Ok(None),
    }
}

/// The cookie has no length that a cookie has.
#[cold]
fn refuse_cookie<R: Fn(ServiceId) -> Readiness>(
    message: &mut [u8],
    query: &Query,
    rcode: Rcode,
    context: &Context<'_, R>,
) -> Outcome {
    if context.role == Role::Intercept {
        return Outcome::NotOurs;
    }
    let body = |_: &mut [u8]| Some(Written::nothing(query));
    Outcome::Answer(write(message, query, &Reply::refusal(rcode, None), None, context, body))
}

/// Writes an answer behind the question: what `write_body` writes, and OPT. Header, question and a plain OPT always fit:
/// the query had them. No part of a set is ever sent.
#[inline]
pub(super) fn write<R: Fn(ServiceId) -> Readiness>(
    message: &mut [u8],
    query: &Query,
    reply: &Reply<'_>,
    cookie: Option<Checked>,
    context: &Context<'_, R>,
    write_body: impl FnOnce(&mut [u8]) -> Option<Written>,
) -> Answer {
    let max = match (context.transport, query.opt) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(opt)) => opt.payload_max(),
        (Transport::Udp, None) => UDP_PAYLOAD_MIN,
    };
    let max = max.min(message.len());
    let opt_len = match (query.opt, cookie) {
        (Some(_), None) => OPT_LEN,
        (Some(_), Some(_)) => OPT_LEN + OPTION_HEAD_LEN + cookie::FULL_LEN,
        (None, _) => 0,
    };
    let written = message.get_mut(..max.saturating_sub(opt_len)).and_then(write_body);
    let truncated = written.is_none();
    let Written { end: body_end, answers, authorities } = written.unwrap_or_else(|| Written::nothing(query));
    let mut end = body_end;
    if let Some(opt) = query.opt {
        end = if cookie.is_none() && reply.extended.is_none() {
            put(message, end, &opt.answer(reply.rcode))
        } else {
            put_long(message, end, max, &opt, reply, cookie)
        }
        .unwrap_or(end);
    }
    let mut set = if reply.authoritative { flags::AA } else { 0 };
    set |= if truncated { flags::TC } else { 0 };
    let available = if context.role == Role::Intercept { flags::RA } else { 0 };
    let counts = [1, answers, authorities, u16::from(query.opt.is_some())];
    write_header(message, flags::RD, set, available, reply.rcode, counts);
    Answer {
        len: end,
        rcode: reply.rcode,
        truncated,
        service: reply.service,
        proven: cookie.is_some_and(|cookie| cookie.proven),
        // Where there was no room for it, it has been left out.
        cookie: cookie.is_some() && end - body_end >= opt_len,
        opt_len: (end - body_end) as u8,
    }
}

/// Writes OPT with its options, leaving out what there is no room for: the extended error first.
#[cold]
fn put_long(
    message: &mut [u8],
    at: usize,
    max: usize,
    opt: &Opt,
    reply: &Reply<'_>,
    cookie: Option<Checked>,
) -> Option<usize> {
    let room = message.get_mut(..max)?;
    let cookie = cookie.as_ref().map(|cookie| &cookie.answer);
    let options_len = cookie.map_or(0, |cookie| OPTION_HEAD_LEN + cookie.len());
    let extended = reply.extended.filter(|_| at + OPT_LEN + options_len + EDE_LEN <= max);
    put(room, at, &opt.answer_long(reply.rcode, cookie, extended))
        .or_else(|| put(room, at, &opt.answer(reply.rcode)))
}

/// Where a body ends and what it has.
pub(super) struct Written {
    pub(super) end: usize,
    pub(super) answers: u16,
    pub(super) authorities: u16,
}

impl Written {
    #[inline]
    pub(super) fn nothing(query: &Query) -> Self {
        Self { end: query.end(), answers: 0, authorities: 0 }
    }
}

/// Writes the whole body, or says that there is no room for it.
#[inline]
fn write_body(room: &mut [u8], query: &Query, body: &Body<'_>) -> Option<Written> {
    let at = query.end();
    match *body {
        Body::Nothing => Some(Written::nothing(query)),
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
            // The apex is the end of the question's name.
            let end = write_negative(room, at, zone, HEADER_LEN + query.name_len)?;
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

/// The SOA of a negative answer. `name_end`: where a name of the zone ends in the message, below 2^14.
#[inline]
pub(super) fn write_negative(room: &mut [u8], at: usize, zone: &Authority, name_end: usize) -> Option<usize> {
    let end = put(room, at, zone.negative())?;
    let apex = name_end.saturating_sub(zone.apex().as_bytes().len());
    put(room, at, &pointer_to(apex))?;
    Some(end)
}

/// A compression pointer (RFC 1035 section 4.1.4).
#[inline]
pub(super) fn pointer_to(at: usize) -> [u8; 2] {
    (0xc000 | at as u16).to_be_bytes()
}

/// Copies a set. Several addresses start with another one from query to query, so that clients that take the first
/// spread; records of other types differ in length and stay in their order.
#[inline]
pub(super) fn write_set(room: &mut [u8], at: usize, query: &Query, set: RrSet<'_>) -> Option<usize> {
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
pub(super) fn put(to: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
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

//! Aliases: the CNAMEs from the question's name to one that has what was asked for, or has it not (RFC 1034 section 4.3.2).
//!
//! The chain is followed as long as it stays in our tables and is no longer than [`CHAIN_MAX`]. In a message every record's
//! owner is a pointer: to the question's name first, then to the target in the CNAME before.
//!
//! ```text
//!   question   a.example A
//!   answer     ► a CNAME b.example     ► b.example A 192.0.2.1         (or SOA in the authority section)
//! ```
//!
//! A chain through a wildcard wakes no service: anybody can think of names that match.

use arrayvec::ArrayVec;

use super::cookie::Checked;
use super::message::{HEADER_LEN, Rcode};
use super::query::Query;
use super::respond::{
    Body, Reply, TTL_AT, Written, address_ttl, body_without, pointer_to, put, write, write_negative,
    write_set,
};
use super::{Context, Outcome, Readiness, Role};
use crate::tables::names::{CHAIN_MAX, Node, RR_HEAD_LEN, RrSet};
use crate::tables::services::ServiceId;

/// Where a chain begins.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// A name with a CNAME.
    pub(super) node: Node<'a>,
    /// Whether it is a wildcard.
    pub(super) wildcard: bool,
}

/// The CNAMEs of a chain and what is at its end.
struct Chain<'a> {
    links: ArrayVec<RrSet<'a>, CHAIN_MAX>,
    reply: Reply<'a>,
}

/// Where the RDATA's length stands in a record whose owner is a pointer.
const DATA_LEN_AT: usize = RR_HEAD_LEN - 2;

/// Answers a query whose name is an alias.
#[cold]
pub(super) fn respond<R: Fn(ServiceId) -> Readiness>(
    message: &mut [u8],
    query: &Query,
    start: Start<'_>,
    cookie: Option<Checked>,
    context: &Context<'_, R>,
) -> Outcome {
    match follow(query, start, context) {
        Ok(chain) => {
            let body = |room: &mut [u8]| write_chain(room, query, &chain);
            Outcome::Answer(write(message, query, &chain.reply, cookie, context, body))
        }
        Err(outcome) => outcome,
    }
}

fn follow<'a, R: Fn(ServiceId) -> Readiness>(
    query: &Query,
    start: Start<'a>,
    context: &Context<'a, R>,
) -> Result<Chain<'a>, Outcome> {
    let names = context.names;
    let mut links = ArrayVec::new();
    let Start { mut node, mut wildcard } = start;
    // What follows is looked up by the client itself.
    let mut end = (Rcode::NoError, Body::Nothing, None);
    while let Some((link, target)) = node.link() {
        if links.try_push(link).is_err() {
            break;
        }
        let (next, zone) = match (names.get(target), names.zone_around(target)) {
            (_, None) => break,
            (Some(next), Some(zone)) => (next, zone),
            (None, Some(zone)) => match names.wildcard(zone, target) {
                Some(next) => {
                    wildcard = true;
                    (next, zone)
                }
                None => {
                    end = (Rcode::NxDomain, Body::Negative(zone), None);
                    break;
                }
            },
        };
        node = next;
        if node.is_alias() {
            continue;
        }
        let service = node.service().filter(|_| query.kind.wakes());
        end = match node.set(query.kind) {
            Some(set) => {
                let ttl_seconds =
                    match address_ttl(service.filter(|_| query.kind.is_address()), zone, context) {
                        Ok(ttl_seconds) => ttl_seconds,
                        Err(service) if !wildcard => return Err(Outcome::Deferred(service)),
                        Err(_) => Some(zone.cold_ttl_seconds()),
                    };
                (Rcode::NoError, Body::Set { set, ttl_seconds }, service)
            }
            None => (Rcode::NoError, body_without(query.kind, node, zone), service),
        };
    }
    let (rcode, body, service) = end;
    // In transit only what is ours to the end is answered: a stub wouldn't go on from where a chain breaks off.
    let whole = rcode == Rcode::NoError && !matches!(body, Body::Nothing);
    if context.role == Role::Intercept && (wildcard || !whole || node.is_empty_non_terminal()) {
        return Err(Outcome::NotOurs);
    }
    let authoritative = context.role == Role::Authoritative;
    let service = service.filter(|_| !wildcard);
    Ok(Chain { links, reply: Reply { rcode, authoritative, body, service, extended: None } })
}

/// Writes the chain behind the question, or says that there is no room for all of it.
fn write_chain(room: &mut [u8], query: &Query, chain: &Chain<'_>) -> Option<Written> {
    let mut at = query.end();
    // Where the last name of the chain begins and ends in the message: with at most eight links before it, below 2^14.
    let (mut name, mut name_end) = (HEADER_LEN, HEADER_LEN + query.name_len);
    for link in &chain.links {
        let end = put(room, at, link.wire)?;
        put(room, at, &pointer_to(name))?;
        (name, name_end, at) = (at + RR_HEAD_LEN, end, end);
    }
    let mut answers = chain.links.len() as u16;
    let mut authorities = 0;
    match chain.reply.body {
        Body::Set { set, ttl_seconds } => {
            let end = write_set(room, at, query, set)?;
            answers += set.count;
            while at < end {
                let record = room.get_mut(at..end)?;
                put(record, 0, &pointer_to(name))?;
                if let Some(ttl_seconds) = ttl_seconds {
                    put(record, TTL_AT, &ttl_seconds.to_be_bytes())?;
                }
                let data_len = record.get(DATA_LEN_AT..)?.first_chunk()?;
                at += RR_HEAD_LEN + usize::from(u16::from_be_bytes(*data_len));
            }
        }
        Body::Negative(zone) => {
            at = write_negative(room, at, zone, name_end)?;
            authorities = 1;
        }
        // ANY is answered at the alias itself.
        Body::Nothing | Body::Minimal { .. } => {}
    }
    Some(Written { end: at, answers, authorities })
}

const _: () =
    assert!(HEADER_LEN + 255 + 4 + CHAIN_MAX * (RR_HEAD_LEN + 255) < 1 << 14, "pointers reach all names");

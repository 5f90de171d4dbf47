//! The DNS responder: one query in, at most one answer out, in place.
//!
//! [`respond()`] is pure: bytes, a [`Names`] table and the state of services come in, the answer is written over the query.
//! The worker calls it for UDP, the slowpath for TCP/53. It allocates nothing, holds nothing, knows no clock, and takes
//! any bytes. Everything is decided before the first byte is written, so that a query that isn't ours is left untouched.
//!
//! ```text
//!            ┌ header ┬ question ┬ OPT … ┐                      ┌ header ┬ question ┬ prebuilt records ┬ OPT ┐
//!  query     │ 12     │ name t c │       │  ── respond ──►      │ flags, │ as it    │ owner 0xC00C,    │     │
//!            └────────┴──────────┴───────┘                      │ counts │ came     │ TTL by state     │     │
//!                                                               └────────┴──────────┴──────────────────┴─────┘
//! ```
//!
//! | asked | as authority ([`Role::Authoritative`]) | in transit ([`Role::Intercept`]) |
//! |---|---|---|
//! | a name with records, class IN | records, or NODATA | the same, as a resolver would |
//! | a name without records, or none | NODATA, NXDOMAIN; REFUSED outside our zones | forwarded |
//! | an alias | its CNAMEs and what they lead to, within our tables | the same, if all of it is ours |
//! | a name that a wildcard matches (RFC 4592) | its records | forwarded |
//! | ANY (RFC 8482) | HINFO "RFC8482" | the same |
//! | AXFR, IXFR | NOTIMP over UDP, REFUSED over TCP | forwarded |
//! | another class; TSIG; EDNS version above 0 | REFUSED; NOTAUTH; BADVERS | forwarded |
//! | another opcode | NOTIMP, header alone, no flag | forwarded |
//! | a cookie of a length that none has | FORMERR | the same as without it |
//! | no or several questions, malformed, bytes left over | FORMERR, header alone | forwarded |
//! | a response, fewer than 12 bytes | silence | forwarded |
//!
//! Answers are minimal: nothing stands in them that wasn't asked for. OPT answers OPT, with a cookie for a cookie
//! (RFC 9018) and, where RCODE alone says little, an extended error (RFC 8914). Client subnets (RFC 7871) are ignored.
//!
//! Queries for A, AAAA, HTTPS and SVCB of a name that leads to a service name it in the [`Outcome`]: they can wake it.

mod alias;
mod cookie;
mod edns;
mod fetch;
mod limit;
mod message;
mod query;
mod respond;

pub use cookie::{COOKIE_SECRETS_MAX, CookieKeys, CookieSecret, Cookies};
pub use edns::UDP_PAYLOAD_MAX;
pub use fetch::fetch;
pub use limit::{Admission, Limiter, PREFIXES, RateLimit};
pub use message::{CLASS_IN, HEADER_LEN, Rcode, RecordType};
pub use respond::{bad_cookie, respond, servfail, truncate};

use crate::tables::Names;
use crate::tables::services::ServiceId;

/// What [`respond()`] needs to know besides the query.
pub struct Context<'a, R: Fn(ServiceId) -> Readiness> {
    /// Zones and names.
    pub names: &'a Names,
    /// Whom the query was sent to.
    pub role: Role,
    /// How it came.
    pub transport: Transport,
    /// What checks and makes cookies; without it they are ignored, as in transit, where they are the resolver's.
    pub cookies: Option<Cookies<'a>>,
    /// The state of a service. Asked at most once, and only when its addresses are about to be answered.
    pub readiness: R,
}

/// Whom a query was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To us: the rules of an authoritative server hold (AA set, RA clear).
    Authoritative,
    /// To somebody's resolver, past us. Exact hits are answered as the resolver would (AA clear, RA set).
    Intercept,
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer is bounded by what the client takes, and by [`UDP_PAYLOAD_MAX`].
    Udp,
    /// In a stream, whose length prefix is the caller's business: the answer is bounded by the room alone.
    Tcp,
}

/// What to answer for the addresses of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// With the zone's time to live.
    Warm,
    /// With the zone's time to live for cold services.
    Cold,
    /// Not now: the caller keeps the query and asks again.
    Defer,
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer was written over the query.
    Answer(Answer),
    /// The service's state said [`Readiness::Defer`]. The query is untouched; [`respond()`] to the same bytes later.
    Deferred(ServiceId),
    /// In transit and not for us to answer. The query is untouched.
    NotOurs,
    /// Nothing may be answered. The query is untouched.
    Silent(Silence),
}

/// An answer that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its length in bytes.
    pub len: usize,
    /// What it says.
    pub rcode: Rcode,
    /// Whether records were left out for want of room (TC).
    pub truncated: bool,
    /// The service that the name leads to, if the query is of a type that can wake it.
    pub service: Option<ServiceId>,
    /// Whether the client has shown a valid cookie: it is at the address that it writes from.
    pub proven: bool,
    /// Whether it carries a cookie, for a client that has shown one.
    pub cookie: bool,
    /// Length of the OPT record at its end; 0 without one.
    pub opt_len: u8,
}

/// Why nothing is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Fewer bytes than a header: there is no id to answer to.
    Short,
    /// It is a response (QR set). Answering one could go on for ever.
    Response,
}

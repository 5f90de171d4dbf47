//! Zones and their records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::DnsName;

/// What the appliance answers for in the DNS.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Addresses that queries are sent to: full authoritative rules hold there.
    pub listen: Vec<IpAddr>,
    /// Whether queries in transit are answered too, if they ask for a name of ours exactly.
    pub intercept: bool,
    /// The zones. No two have the same name.
    pub zones: Vec<Zone>,
}

/// One zone (RFC 1034 section 4.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Its apex.
    pub name: DnsName,
    /// Start of authority.
    pub soa: Soa,
    /// Time to live of records and of addresses of services that are ready.
    pub ttl: Duration,
    /// Time to live of addresses of services that are not ready yet.
    pub cold_ttl: Duration,
    /// Its static records, all within the zone. Those of services follow from [`super::Service::names`].
    pub records: Vec<Record>,
}

/// Start of authority (RFC 1035 section 3.3.13).
#[derive(Clone, Debug, PartialEq)]
pub struct Soa {
    /// MNAME: the primary server.
    pub primary: DnsName,
    /// RNAME: the mailbox of who is responsible, its `@` written as a dot.
    pub contact: DnsName,
    /// SERIAL of the zone.
    pub serial: u32,
    /// REFRESH, for secondaries.
    pub refresh: Duration,
    /// RETRY, for secondaries.
    pub retry: Duration,
    /// EXPIRE, for secondaries.
    pub expire: Duration,
    /// MINIMUM: time to live of negative answers (RFC 2308 section 4).
    pub minimum_ttl: Duration,
}

/// A static record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its owner.
    pub name: DnsName,
    /// Its time to live: the zone's, unless it has its own.
    pub ttl: Duration,
    /// Its type and data.
    pub data: RecordData,
}

/// Type and data of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address (RFC 3596).
    Aaaa(Ipv6Addr),
    /// A server of the zone.
    Ns(DnsName),
    /// Character strings, at least one, each at most 255 bytes (RFC 1035 section 3.3.14).
    Txt(Vec<Vec<u8>>),
}

impl RecordData {
    /// The TYPE on the wire (IANA DNS parameters).
    pub const fn type_number(&self) -> u16 {
        match self {
            Self::A(_) => 1,
            Self::Ns(_) => 2,
            Self::Txt(_) => 16,
            Self::Aaaa(_) => 28,
        }
    }
}

//! Zones, records and bindings as the slowpath hands them in, and what can be wrong with them.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::name::WireName;
use crate::dns::RecordType;
use crate::tables::services::ServiceId;

/// One zone (RFC 1034 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its apex.
    pub apex: WireName,
    /// Start of authority.
    pub soa: Soa,
    /// Time to live of the SOA, and of addresses of services that are warm.
    pub ttl_seconds: u32,
    /// Time to live of addresses of services that aren't.
    pub cold_ttl_seconds: u32,
    /// Static records, all within the zone; NS at the apex only.
    pub records: Vec<Record>,
    /// Names that lead to services.
    pub bindings: Vec<NameBinding>,
}

/// Start of authority (RFC 1035 section 3.3.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// MNAME: the primary server.
    pub primary: WireName,
    /// RNAME: the mailbox of who is responsible.
    pub contact: WireName,
    /// SERIAL of the zone.
    pub serial: u32,
    /// REFRESH, for secondaries.
    pub refresh_seconds: u32,
    /// RETRY, for secondaries.
    pub retry_seconds: u32,
    /// EXPIRE, for secondaries.
    pub expire_seconds: u32,
    /// MINIMUM: bounds the time to live of negative answers (RFC 2308 section 4).
    pub minimum_ttl_seconds: u32,
}

/// A static record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its owner.
    pub owner: WireName,
    /// Its time to live. Records of one owner and type all get the lowest of theirs (RFC 2181 section 5.2).
    pub ttl_seconds: u32,
    /// Its type and data.
    pub data: RecordData,
}

/// Type and data of a static record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address (RFC 3596).
    Aaaa(Ipv6Addr),
    /// A server of the zone.
    Ns(WireName),
    /// Character strings (RFC 1035 section 3.3.14).
    Txt(Vec<Vec<u8>>),
    /// The name that this one is an alias of: its only record (RFC 1034 section 3.6.2).
    Cname(WireName),
    /// Any other type that [`RecordType::is_data`] allows.
    Other {
        /// TYPE; none of those above, and not SOA.
        kind: RecordType,
        /// RDATA as it is sent, names in it uncompressed.
        data: Vec<u8>,
    },
}

impl RecordData {
    /// Data of a type as they are sent, names in them uncompressed. `None` if they aren't data of this type, as far as it
    /// matters here.
    pub fn from_wire(kind: RecordType, data: &[u8]) -> Option<Self> {
        let name = |data| WireName::from_wire(data).ok();
        Some(match kind {
            RecordType::A => Self::A(<[u8; 4]>::try_from(data).ok()?.into()),
            RecordType::AAAA => Self::Aaaa(<[u8; 16]>::try_from(data).ok()?.into()),
            RecordType::NS => Self::Ns(name(data)?),
            RecordType::CNAME => Self::Cname(name(data)?),
            RecordType::TXT => {
                let mut strings = Vec::new();
                let mut rest = data;
                while let Some((len, after)) = rest.split_first() {
                    let (string, after) = after.split_at_checked(usize::from(*len))?;
                    strings.push(string.to_vec());
                    rest = after;
                }
                Self::Txt(strings)
            }
            _ => Self::Other { kind, data: data.to_vec() },
        })
    }
}

/// A name that leads to a service: queries for its addresses are answered by them, and can wake what is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameBinding {
    /// The name, within one of the zones.
    pub name: WireName,
    /// The service.
    pub service: ServiceId,
    /// What A queries are answered.
    pub v4: Vec<Ipv4Addr>,
    /// What AAAA queries are answered.
    pub v6: Vec<Ipv6Addr>,
}

/// Why names can't be built or changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NamesError {
    /// There are more zones than [`super::ZONES_MAX`].
    #[error("more than {} zones", super::ZONES_MAX)]
    ZonesTooMany,
    /// Two zones have the same apex.
    #[error("zone {0} is given twice")]
    ZoneTwice(WireName),
    /// A name lies in no zone, or not in the zone that it is given for.
    #[error("{0} lies outside its zone")]
    OutsideZone(WireName),
    /// NS below the apex: a zone of somebody else's that would have to be referred to.
    #[error("{0} has NS records below its zone's apex: delegations aren't served")]
    Delegation(WireName),
    /// A wildcard (RFC 4592) that is a zone's apex, or is to lead to a service: names that nobody has registered wake
    /// nothing.
    #[error("{0} is a wildcard: it can neither be a zone nor lead to a service")]
    Wildcard(WireName),
    /// A name has a CNAME and something else, be it a second one (RFC 1034 section 3.6.2).
    #[error("{0} has a CNAME and other records beside it")]
    CnameBeside(WireName),
    /// A chain of CNAMEs that has no end, or a far one.
    #[error("{0} is an alias that leads to no end within {max} steps", max = super::CHAIN_MAX)]
    CnameChain(WireName),
    /// A type that no name can have here (see [`RecordType::is_data`]), or one more than [`super::SETS_MAX`].
    #[error("{0} has a record of type {1:?}, which isn't served")]
    Kind(WireName, RecordType),
    /// A name has two bindings.
    #[error("{0} leads to two services")]
    BoundTwice(WireName),
    /// A name has a binding and static addresses too.
    #[error("{0} leads to a service and has addresses of its own")]
    BoundBesideAddresses(WireName),
    /// A binding without an address: its queries would be answered that there is none.
    #[error("{0} leads to a service without an address")]
    NoAddress(WireName),
    /// TXT without a string, or with one above 255 bytes.
    #[error("{0} has a TXT record that can't be written")]
    Text(WireName),
    /// Records of one owner and type don't fit into a message.
    #[error("{0} has more {1:?} data than fits into a message")]
    RrsetTooLong(WireName, RecordType),
    /// A time to live above [`super::TTL_SECONDS_MAX`].
    #[error("{name} has a time to live above {max} s", name = .0, max = super::TTL_SECONDS_MAX)]
    Ttl(WireName),
}

//! Zones and their records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::{DnsName, Name, PortIndex, Prefix, SecretRef};

/// What the appliance answers for in the DNS.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Addresses that queries are sent to: full authoritative rules hold there.
    pub listen: Vec<IpAddr>,
    /// Whether queries in transit are answered too, if they ask for a name of ours exactly.
    pub intercept: bool,
    /// DNS cookies, if they are answered.
    pub cookies: Option<Cookies>,
    /// Bounds the answers to one source prefix.
    pub rate_limit: Option<RateLimit>,
    /// Clients that see zones of their own; [`ViewIndex`] counts them. A client belongs to the first that it fits.
    pub views: Vec<View>,
    /// The zones. No two of one view, and no two without one, have the same name.
    pub zones: Vec<Zone>,
}

/// DNS cookies (RFC 9018), by where their secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// A secret of the appliance's own.
    Own,
    /// A file of 32 hexadecimal digits a line, shared with other servers of the same address; see [`cookie_secrets`].
    Shared(SecretRef),
}

/// Bounds the answers to one source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Answers in one second, at least 1.
    pub responses_per_second: u32,
    /// Length of an IPv4 prefix, in bits.
    pub prefix_v4: u8,
    /// Length of an IPv6 prefix, in bits.
    pub prefix_v6: u8,
    /// Every how many held back answers one is sent truncated; 0 for never.
    pub slip: u8,
}

/// A view, by its place in [`Dns::views`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewIndex(pub usize);

/// Clients that see zones of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What the operator calls it.
    pub name: Name,
    /// Ports that its clients' queries come in by; empty for any.
    pub ports: Vec<PortIndex>,
    /// Prefixes of its clients' addresses; empty for any.
    pub clients: Vec<Prefix>,
}

/// One zone (RFC 1034 section 4.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Its apex.
    pub name: DnsName,
    /// The view whose clients alone see it.
    pub view: Option<ViewIndex>,
    /// Start of authority; `None` where that of the file holds.
    pub soa: Option<Soa>,
    /// Time to live of records and of addresses of services that are ready.
    pub ttl: Duration,
    /// Time to live of addresses of services that are not ready yet.
    pub cold_ttl: Duration,
    /// Its static records, all within the zone. Those of services follow from [`super::Service::names`].
    pub records: Vec<Record>,
    /// A zone file with more of them; a relative path begins at the folder of the configuration file.
    pub file: Option<PathBuf>,
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
    /// The name that this one is an alias of.
    Cname(DnsName),
    /// Another type, its data as they are sent.
    Other {
        /// The TYPE on the wire.
        type_number: u16,
        /// RDATA, names in it uncompressed.
        data: Vec<u8>,
    },
}

impl RecordData {
    /// The TYPE on the wire (IANA DNS parameters).
    pub const fn type_number(&self) -> u16 {
        match self {
            Self::Cname(_) => 5,
            Self::Other { type_number, .. } => *type_number,
            Self::A(_) => 1,
            Self::Ns(_) => 2,
            Self::Txt(_) => 16,
            Self::Aaaa(_) => 28,
        }
    }
}

/// The secrets in a file of cookie secrets: 128 bits each, 32 hexadecimal digits a line, blank lines and those that begin
/// with `#` left out. `None` if there is none, more than [`COOKIE_SECRETS_MAX`], or anything else in it.
pub fn cookie_secrets(text: &str) -> Option<Vec<[u8; 16]>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secret = |line: &str| {
        // `from_str_radix` alone would take a sign.
        let hex = line.len() == 32 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| u128::from_str_radix(line, 16).ok())?.map(u128::to_be_bytes)
    };
    let secrets: Vec<_> = lines.map(secret).collect::<Option<_>>()?;
    (1..=COOKIE_SECRETS_MAX).contains(&secrets.len()).then_some(secrets)
}

/// Secrets that cookies are accepted by at a time (RFC 9018 section 5).
pub const COOKIE_SECRETS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_lines_of_hexadecimal_digits() {
        let text = "# now\ne5e973e5a6b2a43f48e7dc849e37bfcf\n\n  DD3BDF9344B678B185A6F5CB60FCA715 \n";
        let secrets = cookie_secrets(text).unwrap();
        assert_eq!((secrets[0][0], secrets[0][15], secrets[1][0]), (0xe5, 0xcf, 0xdd));
        let line = "e5e973e5a6b2a43f48e7dc849e37bfcf\n";
        assert_eq!(cookie_secrets(&line.repeat(3)).map(|secrets| secrets.len()), Some(3));
        for wrong in
            ["", "# none\n", "e5", &line.replace('e', "g"), &line.replacen("e5", "+5", 1), &line.repeat(4)]
        {
            assert_eq!(cookie_secrets(wrong), None, "{wrong}");
        }
    }
}

//! Names: those that an operator gives to ports, functions and services, and those of the DNS.

use std::fmt;
use std::str::FromStr;

use super::ValueError;
use crate::limits::{DNS_LABEL_MAX, DNS_NAME_WIRE_MAX, NAME_LEN_MAX};

/// The name of a port, function, service, node or site: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a
/// letter or digit, so that it can stand in a metric's label, a path and a command without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// An absolute DNS name in lower case, with its final dot (RFC 1035 section 2.3). Escapes are not supported: each
/// label is 1 to 63 printable characters of ASCII without blanks, dots, quotes and backslashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DnsName {
    /// The name as text, in lower case, with its final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels from the left, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.').filter(|label| !label.is_empty())
    }

    /// The name in wire format, uncompressed (RFC 1035 section 3.1).
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.0.len() + 1);
        for label in self.labels() {
            // A label is at most DNS_LABEL_MAX bytes long, so the cast keeps its value.
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire
    }

    /// Whether this name is `zone` or lies below it.
    pub fn is_in(&self, zone: &DnsName) -> bool {
        zone.0 == "."
            || self.0 == zone.0
            || self.0.strip_suffix(&zone.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Reads a name as a zone's records write it: `@` is the zone, a final dot makes it absolute, all else is
    /// relative to the zone (RFC 1035 section 5.1).
    pub fn parse_in(text: &str, zone: &DnsName) -> Result<Self, ValueError> {
        match text {
            "@" => Ok(zone.clone()),
            _ if text.ends_with('.') => text.parse(),
            _ if zone.0 == "." => format!("{text}.").parse(),
            _ => format!("{text}.{}", zone.0).parse(),
        }
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hint = "1 to 63 letters, digits, `-`, `_` or `.`, the first a letter or digit";
        if text.is_empty() {
            return Err(ValueError::new("the name is empty", hint));
        }
        if text.len() > NAME_LEN_MAX {
            return Err(ValueError::new(format!("the name is {} bytes long", text.len()), hint));
        }
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !first || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(ValueError::new("not a name", hint));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for DnsName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "." {
            return Ok(Self(text.into()));
        }
        let Some(relative) = text.strip_suffix('.') else {
            return Err(ValueError::new("the name isn't absolute", format!("end it with a dot: `{text}.`")));
        };
        for label in relative.split('.') {
            if label.is_empty() {
                return Err(ValueError::new(
                    "the name has an empty label",
                    "two dots can't follow each other",
                ));
            }
            if label.len() > DNS_LABEL_MAX {
                return Err(ValueError::new(
                    format!("a label is {} bytes long", label.len()),
                    format!("a label has at most {DNS_LABEL_MAX} bytes"),
                ));
            }
            if let Some(c) = label.chars().find(|c| !c.is_ascii_graphic() || "\"\\;()@".contains(*c)) {
                return Err(ValueError::new(
                    format!("{c:?} can't stand in a name here"),
                    "write an internationalised name in its `xn--` form",
                ));
            }
        }
        // Each dot becomes a length byte; the first label's length byte and the root come on top.
        let wire = text.len() + 1;
        if wire > DNS_NAME_WIRE_MAX {
            return Err(ValueError::new(
                format!("the name takes {wire} bytes"),
                format!("a name takes at most {DNS_NAME_WIRE_MAX} bytes"),
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn the_wire_form_is_that_of_the_rfc() {
        assert_eq!(dns("NS1.fn.example.").to_wire(), b"\x03ns1\x02fn\x07example\x00");
        assert_eq!(dns(".").to_wire(), b"\x00");
    }

    #[test]
    fn a_zone_contains_whole_labels_only() {
        let zone = dns("fn.example.");
        assert!(dns("fn.example.").is_in(&zone) && dns("a.FN.example.").is_in(&zone));
        assert!(!dns("xfn.example.").is_in(&zone) && !dns("example.").is_in(&zone));
        assert!(dns("xfn.example.").is_in(&dns(".")));
    }

    #[test]
    fn names_in_a_zone_are_relative_without_a_dot() {
        let zone = dns("fn.example.");
        assert_eq!(DnsName::parse_in("@", &zone).unwrap(), zone);
        assert_eq!(DnsName::parse_in("ns1", &zone).unwrap().as_str(), "ns1.fn.example.");
        assert_eq!(DnsName::parse_in("ns1.other.", &zone).unwrap().as_str(), "ns1.other.");
        assert!(DnsName::parse_in("", &zone).is_err());
    }

    #[test]
    fn limits_of_the_rfc_hold() {
        let label = "a".repeat(63);
        assert!(format!("{label}.").parse::<DnsName>().is_ok());
        assert!(format!("{label}a.").parse::<DnsName>().is_err());
        let longest = format!("{label}.{label}.{label}.{}.", "a".repeat(61));
        assert_eq!(dns(&longest).to_wire().len(), DNS_NAME_WIRE_MAX);
        assert!(format!("{label}.{label}.{label}.{}.", "a".repeat(62)).parse::<DnsName>().is_err());
        for wrong in ["", "a", "a..b.", ".a.", "a b.", "\u{fc}.", "a\\046b."] {
            assert!(wrong.parse::<DnsName>().is_err(), "{wrong}");
        }
    }
}

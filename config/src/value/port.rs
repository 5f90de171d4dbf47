//! Ports of layer 4, ranges of them, and sockets to listen on.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::ValueError;

/// A protocol of layer 4 that a service can be reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
}

/// A port a service listens on: `tcp/80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port's number, never 0.
    pub port: NonZeroU16,
}

/// Port numbers from `first` to `last`, both included: `16384-65535`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl PortRange {
    /// How many ports the range holds.
    pub fn count(&self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

impl FromStr for ServicePort {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let example = "write protocol and port, as in `tcp/80` or `udp/443`";
        let Some((protocol, port)) = text.split_once('/') else {
            return Err(ValueError::new("not a service's port", example));
        };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(ValueError::new("the protocol is neither `tcp` nor `udp`", example)),
        };
        let port = digits(port).and_then(|n| NonZeroU16::try_from(n).ok());
        let port = port
            .ok_or_else(|| ValueError::new("the port's number isn't one", "a port is between 1 and 65535"))?;
        Ok(Self { protocol, port })
    }
}

impl FromStr for PortRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (first, last) =
            text.split_once('-').and_then(|(first, last)| Some((digits(first)?, digits(last)?))).ok_or_else(
                || ValueError::new("not a range of ports", "write first and last port, as in `16384-65535`"),
            )?;
        if first > last {
            return Err(ValueError::new("the range runs backwards", format!("write `{last}-{first}`")));
        }
        if first == 0 {
            return Err(ValueError::new("port 0 can't be used", "begin the range at 1 or above"));
        }
        Ok(Self { first, last })
    }
}

/// A socket address whose port isn't 0: an operator has to know where to connect to.
pub(crate) fn socket(text: &str) -> Result<SocketAddr, ValueError> {
    let example = "write address and port, as in `127.0.0.1:9464` or `[::1]:9464`";
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() == 0 => {
            Err(ValueError::new("port 0 can't be used", "a port is between 1 and 65535"))
        }
        Ok(socket) => Ok(socket),
        Err(_) => Err(ValueError::new("not an address and port", example)),
    }
}

fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_names_its_protocol() {
        let port: ServicePort = "udp/443".parse().unwrap();
        assert_eq!(
            (port.protocol.number(), port.port.get(), port.to_string().as_str()),
            (17, 443, "udp/443")
        );
        for wrong in ["tcp/0", "tcp/65536", "tcp/+80", "tcp/", "80", "80/tcp", "sctp/80", "TCP/80", ""] {
            assert!(wrong.parse::<ServicePort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_counts_both_ends() {
        let range: PortRange = "16384-65535".parse().unwrap();
        assert_eq!(range.count(), 49152);
        for wrong in ["5-4", "0-9", "1", "1-", "-1", "1-65536"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
        assert_eq!("9-4".parse::<PortRange>().unwrap_err().hint, "write `4-9`");
    }

    #[test]
    fn a_socket_has_a_port() {
        assert!(socket("[::1]:9464").is_ok());
        for wrong in ["127.0.0.1", "127.0.0.1:0", "localhost:80", ":80"] {
            assert!(socket(wrong).is_err(), "{wrong}");
        }
    }
}

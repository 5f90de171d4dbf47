//! Addresses and prefixes of layers 2 and 3.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::ValueError;

/// A network: an address whose host bits are zero, and a length in bits (RFC 4632, RFC 4291 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

/// An address of our own on a network: `192.0.2.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    addr: IpAddr,
    len: u8,
}

/// An Ethernet address of one station: never a group address, never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl Prefix {
    /// The network of `len` bits that `addr` lies in; `None` if the length doesn't fit the family.
    pub fn containing(addr: IpAddr, len: u8) -> Option<Self> {
        (len <= bits(addr)).then(|| Self { addr: mask(addr, len), len })
    }

    /// The first address of the network.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Length in bits: 0 to 32, or 0 to 128.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether this is the default route's prefix, which contains every address of its family.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the address lies in the network. An address of the other family never does.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && mask(addr, self.len) == self.addr
    }

    /// Whether the two networks share an address.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.contains(other.addr) || other.contains(self.addr)
    }
}

impl InterfaceAddress {
    /// The address itself.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Length of the network in bits.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether the network's length is 0: never true for a parsed address.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The network that is on-link here.
    pub fn network(&self) -> Prefix {
        Prefix { addr: mask(self.addr, self.len), len: self.len }
    }
}

impl MacAddr {
    /// Whether the group bit is set (IEEE 802.3 section 3.2.3): multicast or broadcast.
    pub fn is_group(&self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (addr, len) = split(text, "192.0.2.0/24")?;
        let prefix = Self { addr: mask(addr, len), len };
        if prefix.addr != addr {
            return Err(ValueError::new(
                "a prefix must have no bits set after its length",
                format!("write `{prefix}`"),
            ));
        }
        Ok(prefix)
    }
}

impl FromStr for InterfaceAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (addr, len) = split(text, "192.0.2.1/24")?;
        host(addr)?;
        if len == 0 {
            return Err(ValueError::new(
                "a length of 0 would put every address on-link",
                "write the network's length, as in `192.0.2.1/24`",
            ));
        }
        let network = Prefix { addr: mask(addr, len), len };
        if let IpAddr::V4(v4) = addr
            && len < 31
        {
            let last = u32::from(mask_v4(v4, len)) | (u32::MAX >> len);
            if addr == network.addr() {
                return Err(ValueError::new(
                    "this is the address of the network, not of a host",
                    format!("choose a host's address within `{network}`"),
                ));
            }
            if u32::from(v4) == last {
                return Err(ValueError::new(
                    "this is the broadcast address of the network",
                    format!("choose a host's address within `{network}`"),
                ));
            }
        }
        Ok(Self { addr, len })
    }
}

impl FromStr for MacAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(
                "not an Ethernet address",
                "write six bytes in hexadecimal, as in `02:00:00:00:00:07`",
            )
        };
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            // `from_str_radix` alone would take a sign.
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        let mac = Self(bytes);
        if parts.next().is_some() {
            return Err(wrong());
        }
        if mac.is_group() || bytes == [0; 6] {
            return Err(ValueError::new(
                "not the address of one station",
                "group addresses and all zeros can't be a neighbour's",
            ));
        }
        Ok(mac)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address without a length.
pub(crate) fn address(text: &str) -> Result<IpAddr, ValueError> {
    text.parse().map_err(|_| {
        let hint = match text.split_once('/') {
            Some((bare, _)) => format!("no length here: write `{bare}`"),
            None => "write an address, as in `192.0.2.1` or `2001:db8::1`".into(),
        };
        ValueError::new("not an IP address", hint)
    })
}

/// An address that one host can have: not unspecified, not multicast, not the limited broadcast, not loopback.
pub(crate) fn host(addr: IpAddr) -> Result<IpAddr, ValueError> {
    let what = match addr {
        _ if addr.is_unspecified() => "the unspecified address",
        _ if addr.is_multicast() => "a multicast address",
        _ if addr.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
        _ => return Ok(addr),
    };
    Err(ValueError::new(format!("{what} can't be used here"), "write a unicast address of one host"))
}

fn split(text: &str, example: &str) -> Result<(IpAddr, u8), ValueError> {
    let Some((addr, len)) = text.split_once('/') else {
        return Err(ValueError::new(
            "the length is missing",
            format!("write address and length, as in `{example}`"),
        ));
    };
    let addr: IpAddr = addr.parse().map_err(|_| {
        ValueError::new("not an IP address before the slash", format!("write it as in `{example}`"))
    })?;
    let max = bits(addr);
    match len.parse() {
        Ok(len) if len <= max && !text.ends_with(&format!("/+{len}")) => Ok((addr, len)),
        _ => {
            Err(ValueError::new("the length isn't one", format!("it is between 0 and {max} for this family")))
        }
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => IpAddr::V4(mask_v4(v4, len)),
        IpAddr::V6(v6) => {
            IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)).into())
        }
    }
}

fn mask_v4(addr: std::net::Ipv4Addr, len: u8) -> std::net::Ipv4Addr {
    (u32::from(addr) & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_reads_and_contains() {
        let prefix: Prefix = "10.20.0.0/16".parse().unwrap();
        assert!(prefix.contains("10.20.255.1".parse().unwrap()));
        assert!(!prefix.contains("10.21.0.1".parse().unwrap()));
        assert!(!prefix.contains("2001:db8::1".parse().unwrap()));
        let all: Prefix = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()) && all.is_empty());
        assert!(!all.contains("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn host_bits_are_refused_with_the_right_prefix() {
        let error = "10.20.3.0/16".parse::<Prefix>().unwrap_err();
        assert_eq!(error.hint, "write `10.20.0.0/16`");
    }

    #[test]
    fn an_interface_has_a_host_address() {
        let ours: InterfaceAddress = "192.0.2.1/24".parse().unwrap();
        assert_eq!(ours.network().to_string(), "192.0.2.0/24");
        for wrong in [
            "192.0.2.0/24",
            "192.0.2.255/24",
            "0.0.0.0/8",
            "192.0.2.1",
            "192.0.2.1/33",
            "192.0.2.1/+8",
            "192.0.2.1/0",
            "::/64",
            "224.0.0.1/24",
            "127.0.0.1/8",
        ] {
            assert!(wrong.parse::<InterfaceAddress>().is_err(), "{wrong}");
        }
        for right in ["192.0.2.0/31", "192.0.2.255/32", "2001:db8::1/64", "fe80::1/64"] {
            assert!(right.parse::<InterfaceAddress>().is_ok(), "{right}");
        }
    }

    #[test]
    fn a_mac_is_one_station() {
        assert_eq!("02:00:00:00:00:07".parse::<MacAddr>().unwrap().to_string(), "02:00:00:00:00:07");
        for wrong in [
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "2:0:0:0:0:7",
            "+2:00:00:00:00:07",
            "02:00:00:00:00",
            "02:00:00:00:00:07:08",
            "",
        ] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }
}

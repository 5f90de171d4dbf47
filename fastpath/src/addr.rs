//! Addresses as the tables keep them: one word for both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4_MAPPED: u128 = 0xffff_0000_0000;

/// An IPv4 or IPv6 address as 128 bits; IPv4 in its mapped form (RFC 4291 §2.5.5.2), so that comparing and hashing need
/// no case for the family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr(pub u128);

impl Addr {
    /// From the four bytes of an IPv4 header's field.
    #[inline]
    pub fn v4(bytes: [u8; 4]) -> Self {
        Self(V4_MAPPED | u128::from(u32::from_be_bytes(bytes)))
    }

    /// From the sixteen bytes of an IPv6 header's field.
    #[inline]
    pub fn v6(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }

    /// The IPv4 bytes; meaningless for an IPv6 address.
    #[inline]
    pub fn v4_bytes(self) -> [u8; 4] {
        ((self.0 & 0xffff_ffff) as u32).to_be_bytes()
    }

    /// The IPv6 bytes (the mapped form for an IPv4 address).
    #[inline]
    pub fn v6_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether it means something on one link only (RFC 4291 §2.5.6, RFC 3927).
    #[inline]
    pub fn is_link_local(self) -> bool {
        self.0 >> 118 == 0xfe80 >> 6 || self.0 >> 16 == 0xffff_a9fe
    }

    /// The standard library's form.
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from(self.v4_bytes()))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }

    /// The prefix that limits per source count on: /24 of IPv4, /56 of IPv6.
    #[inline]
    pub fn source_prefix(self) -> u64 {
        if self.is_v4() { ((self.0 as u64) >> 8) | (1 << 63) } else { ((self.0 >> 72) as u64) & !(1 << 63) }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(ip.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        Self::v6(ip.octets())
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_keep_apart_and_come_back() {
        for text in ["0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1", "2001:db8::1", "ffff::"] {
            let ip: IpAddr = text.parse().unwrap();
            let addr = Addr::from(ip);
            assert_eq!(addr.to_ip(), ip);
            assert_eq!(addr.is_v4(), ip.is_ipv4());
        }
    }

    #[test]
    fn source_prefixes_tell_neighbours_from_strangers() {
        let prefix = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap()).source_prefix();
        assert_eq!(prefix("10.1.2.3"), prefix("10.1.2.250"));
        assert_ne!(prefix("10.1.2.3"), prefix("10.1.3.3"));
        assert_eq!(prefix("2001:db8:1:100::1"), prefix("2001:db8:1:1ff:ffff::1"));
        assert_ne!(prefix("2001:db8:1:100::1"), prefix("2001:db8:1:200::1"));
    }
}

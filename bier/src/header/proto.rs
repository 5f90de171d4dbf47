//! What follows the BIER header: the registry "BIER Next Protocol Identifiers" (RFC 8296 section 2.1.2).

/// The field Proto, 6 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proto {
    /// 1: MPLS with a downstream-assigned label on top.
    MplsDownstream,
    /// 2: MPLS with an upstream-assigned label on top, whose context is (BFIR-id, sub-domain).
    MplsUpstream,
    /// 3: Ethernet.
    Ethernet,
    /// 4: IPv4.
    Ipv4,
    /// 5: operation, administration, maintenance.
    Oam,
    /// 6: IPv6.
    Ipv6,
    /// 7: VXLAN without IP and UDP headers.
    Vxlan,
    /// 8: NVGRE.
    Nvgre,
    /// 9: GENEVE.
    Geneve,
    /// 0, 63, and those without an assignment: a BFER drops its own copy and counts it.
    Unknown(u8),
}

impl Proto {
    /// The value on the wire, 0 to 63.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::MplsDownstream => 1,
            Self::MplsUpstream => 2,
            Self::Ethernet => 3,
            Self::Ipv4 => 4,
            Self::Oam => 5,
            Self::Ipv6 => 6,
            Self::Vxlan => 7,
            Self::Nvgre => 8,
            Self::Geneve => 9,
            Self::Unknown(code) => code & 0x3f,
        }
    }
}

impl From<u8> for Proto {
    #[inline]
    fn from(code: u8) -> Self {
        match code {
            1 => Self::MplsDownstream,
            2 => Self::MplsUpstream,
            3 => Self::Ethernet,
            4 => Self::Ipv4,
            5 => Self::Oam,
            6 => Self::Ipv6,
            7 => Self::Vxlan,
            8 => Self::Nvgre,
            9 => Self::Geneve,
            other => Self::Unknown(other),
        }
    }
}

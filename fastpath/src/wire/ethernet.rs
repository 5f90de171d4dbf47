//! Ethernet II, 802.1Q and 802.1ad.
//!
//! ```text
//!  0           6           12    14
//!  │ destination │ source    │ type │ payload            type 0x8100: │ tag │ type │ payload
//!                                                       type 0x88a8: │ outer tag │ 0x8100 │ tag │ type │ payload
//! ```

use super::be16;
use crate::addr::Addr;
use crate::tables::interfaces::Mac;

/// Length of the untagged header.
pub const HEADER: usize = 14;
/// Length of one 802.1Q tag.
pub const TAG: usize = 4;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of the outer of two tags, a provider's (IEEE 802.1ad, "QinQ").
pub const SERVICE_VLAN: u16 = 0x88a8;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// The tags that a frame came with, or leaves with; 0 where there is none. A tag of VLAN 0 carries a priority alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tags {
    outer: u16,
    vlan: u16,
}

impl Tags {
    /// The tags with these ids, 1..=4094.
    pub fn new(outer: Option<u16>, vlan: Option<u16>) -> Self {
        Self { outer: outer.unwrap_or(0), vlan: vlan.unwrap_or(0) }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_none(self) -> bool {
        (self.outer, self.vlan) == (0, 0)
    }

    /// Reads the tags of a frame of at least [`HEADER`] bytes, and how many bytes they take; `None` if it is shorter than
    /// them.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let tag = |at: usize| Some(vlan_id(be16(bytes.get(at..at + TAG)?, 0)));
        match ethertype(bytes) {
            VLAN => Some((Self { outer: 0, vlan: tag(HEADER)? }, TAG)),
            SERVICE_VLAN => {
                let outer = tag(HEADER)?;
                match be16(bytes, HEADER + 2) {
                    VLAN => Some((Self { outer, vlan: tag(HEADER + TAG)? }, 2 * TAG)),
                    _ => Some((Self { outer, vlan: 0 }, TAG)),
                }
            }
            _ => Some((Self::default(), 0)),
        }
    }

    /// The bytes that the tags take in a frame.
    pub fn wire_len(self) -> usize {
        TAG * (usize::from(self.outer != 0) + usize::from(self.vlan != 0))
    }

    /// Writes the tags, without the EtherType that follows; `bytes` are [`Tags::wire_len`].
    pub fn write(self, bytes: &mut [u8]) {
        let both = [(SERVICE_VLAN, self.outer), (VLAN, self.vlan)];
        let tags = both.into_iter().filter(|(_, id)| *id != 0);
        for ((ethertype, id), to) in tags.zip(bytes.chunks_exact_mut(TAG)) {
            to[..2].copy_from_slice(&ethertype.to_be_bytes());
            to[2..].copy_from_slice(&id.to_be_bytes());
        }
    }
}

/// The EtherType of a frame of at least [`HEADER`] bytes.
#[inline]
pub fn ethertype(bytes: &[u8]) -> u16 {
    be16(bytes, 12)
}

/// The VLAN id of a tag control field (IEEE 802.1Q-2022 §9.6).
#[inline]
pub fn vlan_id(tag_control: u16) -> u16 {
    tag_control & 0x0fff
}

/// The destination address of a frame of at least [`HEADER`] bytes.
#[inline(always)] // two loads, where byte by byte it would be a call
pub fn destination(bytes: &[u8]) -> Mac {
    *bytes.first_chunk().expect("a whole header")
}

/// The source address of a frame of at least [`HEADER`] bytes.
#[inline(always)] // as above
pub fn source(bytes: &[u8]) -> Mac {
    *bytes[size_of::<Mac>()..].first_chunk().expect("a whole header")
}

/// The address of a group: the low 23 bits of an IPv4 one (RFC 1112 section 6.4), the low 32 of an IPv6 one (RFC 2464 section 7).
pub fn of_group(group: Addr) -> Mac {
    if group.is_v4() {
        let [_, b, c, d] = group.v4_bytes();
        [0x01, 0x00, 0x5e, b & 0x7f, c, d]
    } else {
        let [a, b, c, d] = (group.0 as u32).to_be_bytes();
        [0x33, 0x33, a, b, c, d]
    }
}

/// Sets both addresses of a frame of at least [`HEADER`] bytes.
#[inline]
pub fn set_addresses(bytes: &mut [u8], destination: Mac, source: Mac) {
    bytes[0..6].copy_from_slice(&destination);
    bytes[6..12].copy_from_slice(&source);
}

/// Sets the EtherType of an untagged frame of at least [`HEADER`] bytes.
#[inline]
pub fn set_ethertype(bytes: &mut [u8], ethertype: u16) {
    bytes[12..HEADER].copy_from_slice(&ethertype.to_be_bytes());
}

/// Whether an address is meant for a group (broadcast included).
#[inline]
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

//! Ethernet II and 802.1Q.
//!
//! ```text
//!  0           6           12    14
//!  │ destination │ source    │ type │ payload            type 0x8100: │ tag │ type │ payload
//! ```

use super::be16;
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
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

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
#[inline]
pub fn destination(bytes: &[u8]) -> Mac {
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
}

/// The source address of a frame of at least [`HEADER`] bytes.
#[inline]
pub fn source(bytes: &[u8]) -> Mac {
    [bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]]
}

/// Sets both addresses of a frame of at least [`HEADER`] bytes.
#[inline]
pub fn set_addresses(bytes: &mut [u8], destination: Mac, source: Mac) {
    bytes[0..6].copy_from_slice(&destination);
    bytes[6..12].copy_from_slice(&source);
}

/// Whether an address is meant for a group (broadcast included).
#[inline]
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

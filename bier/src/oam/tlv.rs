//! The TLVs of echo messages (section 3.4).

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{Reader, Writer};
use super::{OamError, Wrong};
use crate::bits::{self, BitString};
use crate::id::{BfrId, BiftKey, Bsl, Si, SubDomain};

/// A TLV. Types below 32768 that aren't known have to be answered with an error, others may be ignored with their packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlv {
    /// 1: the bit string as the request was sent; in each request (section 3.4.1).
    Original(SetBits),
    /// 2: of whom replies are wanted (section 3.4.2).
    Target(SetBits),
    /// 3: the bit string as the request came; in each reply (section 3.4.3).
    Incoming(SetBits),
    /// 4: a way onward (section 3.4.4).
    Mapping(Mapping),
    /// 5: the replying BFER (section 3.4.5).
    ResponderBfer(BfrId),
    /// 6: the replying router, by its BFR-prefix (section 3.4.6).
    ResponderBfr(IpAddr),
    /// 7: where the request came in; in each reply (section 3.4.7).
    Ingress(Interface),
    /// 8: what was wrong with the request (section 3.4.8).
    Erroneous {
        /// Where, in bytes from the start of the request.
        pointer: u32,
        /// As much of the request as there was room for.
        request: Vec<u8>,
    },
    /// Any other.
    Unknown {
        /// Its type.
        kind: u16,
        /// Its value.
        value: Vec<u8>,
    },
}

/// A bit string, and what its bits are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBits {
    /// Sub-domain, set and length.
    pub key: BiftKey,
    /// As long as the key says.
    pub bits: BitString,
}

/// A way onward: Downstream Detailed Mapping (section 3.4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The longest BIER packet, in bytes; 0 in requests.
    pub mtu: u16,
    /// Whether replies shall tell the bit string that came in.
    pub wants_incoming: bool,
    /// The router there.
    pub downstream: Downstream,
    /// More of it.
    pub sub_tlvs: Vec<SubTlv>,
}

/// The next router, and its end of the link to it; where that has no address, our end's number (tables 4 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downstream {
    /// 1: by addresses.
    V4 {
        /// BFR-prefix of the router.
        prefix: Ipv4Addr,
        /// Its address on the link.
        interface: Ipv4Addr,
    },
    /// 2: the interface has no address. What requests say, with 224.0.0.2 and 0.
    V4Unnumbered {
        /// BFR-prefix of the router.
        prefix: Ipv4Addr,
        /// Number of the interface.
        index: u32,
    },
    /// 3: by addresses.
    V6 {
        /// BFR-prefix of the router.
        prefix: Ipv6Addr,
        /// Its address on the link.
        interface: Ipv6Addr,
    },
    /// 4: the interface has no address but that of its link.
    V6LinkLocal {
        /// BFR-prefix of the router.
        prefix: Ipv6Addr,
        /// Number of the interface.
        index: u32,
    },
}

/// An interface (section 3.4.7), by the address types of table 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// 1: by its address.
    V4(Ipv4Addr),
    /// 2: by its number.
    V4Unnumbered(u32),
    /// 3: by its address.
    V6(Ipv6Addr),
    /// 4: by its number.
    V6LinkLocal(u32),
}

/// More of a way onward (section 3.4.4.1). Other types are malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubTlv {
    /// 1: which entropies lead there, in the encodings of RFC 8029 section 3.4.1.1.
    Multipath {
        /// Whether the information is a mask of entropies.
        masked: bool,
        /// The encoding.
        kind: u8,
        /// The information.
        information: Vec<u8>,
    },
    /// 2: the bit string of the copy that goes there.
    Egress(SetBits),
}

impl Tlv {
    /// The type on the wire.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Original(_) => 1,
            Self::Target(_) => 2,
            Self::Incoming(_) => 3,
            Self::Mapping(_) => 4,
            Self::ResponderBfer(_) => 5,
            Self::ResponderBfr(_) => 6,
            Self::Ingress(_) => 7,
            Self::Erroneous { .. } => 8,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    pub(super) fn parse(from: &mut Reader<'_>) -> Result<Self, OamError> {
        let kind = from.u16()?;
        let length = usize::from(from.u16()?);
        let mut value = from.part(length)?;
        let tlv = match kind {
            1 => Self::Original(SetBits::parse(&mut value)?),
            2 => Self::Target(SetBits::parse(&mut value)?),
            3 => Self::Incoming(SetBits::parse(&mut value)?),
            4 => Self::Mapping(Mapping::parse(&mut value)?),
            5 => {
                value.u16()?;
                let id = BfrId::new(value.u16()?);
                Self::ResponderBfer(id.map_or_else(|| value.wrong(Wrong::TlvValue), Ok)?)
            }
            6 => {
                value.u16()?;
                Self::ResponderBfr(match value.u16()? {
                    1 => value.array::<4>()?.into(),
                    2 => value.array::<16>()?.into(),
                    _ => return value.wrong(Wrong::TlvValue),
                })
            }
            7 => {
                value.u16()?;
                Self::Ingress(match value.u16()? {
                    1 => Interface::V4(value.array::<4>()?.into()),
                    2 => Interface::V4Unnumbered(value.u32()?),
                    3 => Interface::V6(value.array::<16>()?.into()),
                    4 => Interface::V6LinkLocal(value.u32()?),
                    _ => return value.wrong(Wrong::TlvValue),
                })
            }
            8 => Self::Erroneous { pointer: value.u32()?, request: value.rest().to_vec() },
            _ => Self::Unknown { kind, value: value.rest().to_vec() },
        };
        value.end()?;
        Ok(tlv)
    }

    pub(super) fn emit(&self, out: &mut Writer) -> Option<()> {
        out.u16(self.kind());
        out.sized(|out| {
            match self {
                Self::Original(set) | Self::Target(set) | Self::Incoming(set) => set.emit(out),
                Self::Mapping(mapping) => mapping.emit(out)?,
                Self::ResponderBfer(id) => out.u32(id.get().into()),
                Self::ResponderBfr(IpAddr::V4(prefix)) => {
                    out.u32(1);
                    out.bytes(&prefix.octets());
                }
                Self::ResponderBfr(IpAddr::V6(prefix)) => {
                    out.u32(2);
                    out.bytes(&prefix.octets());
                }
                Self::Ingress(Interface::V4(address)) => {
                    out.u32(1);
                    out.bytes(&address.octets());
                }
                Self::Ingress(Interface::V4Unnumbered(index)) => {
                    out.u32(2);
                    out.u32(*index);
                }
                Self::Ingress(Interface::V6(address)) => {
                    out.u32(3);
                    out.bytes(&address.octets());
                }
                Self::Ingress(Interface::V6LinkLocal(index)) => {
                    out.u32(4);
                    out.u32(*index);
                }
                Self::Erroneous { pointer, request } => {
                    out.u32(*pointer);
                    out.bytes(request);
                }
                Self::Unknown { value, .. } => out.bytes(value),
            }
            Some(())
        })
    }
}

impl SetBits {
    /// This bit string.
    ///
    /// # Panics
    /// If it isn't as long as the key says.
    #[must_use]
    pub fn new(key: BiftKey, bits: BitString) -> Self {
        assert_eq!(bits.words().len(), key.bsl.words());
        Self { key, bits }
    }

    fn parse(from: &mut Reader<'_>) -> Result<Self, OamError> {
        let [si, sub_domain, length, _] = from.array()?;
        let Some(bsl) = Bsl::from_code(length >> 4) else { return from.wrong(Wrong::TlvValue) };
        let mut words = vec![0; bsl.words()];
        bits::load(from.take(bsl.bytes())?, &mut words);
        let key = BiftKey { sub_domain: SubDomain(sub_domain), si: Si(si), bsl };
        Ok(Self { key, bits: BitString::from_words(&words) })
    }

    fn emit(&self, out: &mut Writer) {
        let BiftKey { sub_domain, si, bsl } = self.key;
        out.bytes(&[si.0, sub_domain.0, bsl.code() << 4, 0]);
        let mut wire = vec![0; bsl.bytes()];
        bits::store(self.bits.words(), &mut wire);
        out.bytes(&wire);
    }
}

impl Downstream {
    /// What requests say in place of a router's prefix, for there are many.
    pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);

    /// BFR-prefix of the router.
    #[must_use]
    pub fn prefix(&self) -> IpAddr {
        match *self {
            Self::V4 { prefix, .. } | Self::V4Unnumbered { prefix, .. } => prefix.into(),
            Self::V6 { prefix, .. } | Self::V6LinkLocal { prefix, .. } => prefix.into(),
        }
    }
}

impl Mapping {
    /// What a request says that wants to know the ways onward.
    #[must_use]
    pub fn question() -> Self {
        let downstream = Downstream::V4Unnumbered { prefix: Downstream::ALL_ROUTERS, index: 0 };
        Self { mtu: 0, wants_incoming: true, downstream, sub_tlvs: Vec::new() }
    }

    /// The bit string of the copy that goes there, if it is told.
    #[must_use]
    pub fn egress(&self) -> Option<&SetBits> {
        self.sub_tlvs.iter().find_map(|sub_tlv| match sub_tlv {
            SubTlv::Egress(set) => Some(set),
            SubTlv::Multipath { .. } => None,
        })
    }

    fn parse(from: &mut Reader<'_>) -> Result<Self, OamError> {
        let mtu = from.u16()?;
        let [kind, flags] = from.array()?;
        let downstream = match kind {
            1 => Downstream::V4 { prefix: from.array::<4>()?.into(), interface: from.array::<4>()?.into() },
            2 => Downstream::V4Unnumbered { prefix: from.array::<4>()?.into(), index: from.u32()? },
            3 => Downstream::V6 { prefix: from.array::<16>()?.into(), interface: from.array::<16>()?.into() },
            4 => Downstream::V6LinkLocal { prefix: from.array::<16>()?.into(), index: from.u32()? },
            _ => return from.wrong(Wrong::TlvValue),
        };
        let length = usize::from(from.u16()?);
        let mut list = from.part(length)?;
        let mut sub_tlvs = Vec::new();
        while !list.is_empty() {
            sub_tlvs.push(SubTlv::parse(&mut list)?);
        }
        Ok(Self { mtu, wants_incoming: flags & 1 == 1, downstream, sub_tlvs })
    }

    fn emit(&self, out: &mut Writer) -> Option<()> {
        out.u16(self.mtu);
        let mut put = |kind, prefix: &[u8], interface: &[u8]| {
            out.bytes(&[kind, u8::from(self.wants_incoming)]);
            out.bytes(prefix);
            out.bytes(interface);
        };
        match self.downstream {
            Downstream::V4 { prefix, interface } => put(1, &prefix.octets(), &interface.octets()),
            Downstream::V4Unnumbered { prefix, index } => put(2, &prefix.octets(), &index.to_be_bytes()),
            Downstream::V6 { prefix, interface } => put(3, &prefix.octets(), &interface.octets()),
            Downstream::V6LinkLocal { prefix, index } => put(4, &prefix.octets(), &index.to_be_bytes()),
        }
        out.sized(|out| self.sub_tlvs.iter().try_for_each(|sub_tlv| sub_tlv.emit(out)))
    }
}

impl SubTlv {
    fn parse(from: &mut Reader<'_>) -> Result<Self, OamError> {
        let kind = from.u16()?;
        let length = usize::from(from.u16()?);
        let mut value = from.part(length)?;
        let sub_tlv = match kind {
            1 => {
                let [flags, kind] = value.array()?;
                Self::Multipath { masked: flags & 0x80 != 0, kind, information: value.rest().to_vec() }
            }
            2 => Self::Egress(SetBits::parse(&mut value)?),
            _ => return value.wrong(Wrong::TlvValue),
        };
        value.end()?;
        Ok(sub_tlv)
    }

    fn emit(&self, out: &mut Writer) -> Option<()> {
        out.u16(match self {
            Self::Multipath { .. } => 1,
            Self::Egress(_) => 2,
        });
        out.sized(|out| {
            match self {
                Self::Multipath { masked, kind, information } => {
                    out.bytes(&[if *masked { 0x80 } else { 0 }, *kind]);
                    out.bytes(information);
                }
                Self::Egress(set) => set.emit(out),
            }
            Some(())
        })
    }
}

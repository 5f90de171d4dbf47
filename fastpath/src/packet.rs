//! A frame with what is known of it, and the reading of its headers: Ethernet, IPv4, IPv6, TCP, UDP, ICMP.

use millrace_bier::header;

use crate::addr::Addr;
use crate::driver::{BURST_MAX, Frame, RxChecksum};
use crate::event::PacketFields;
use crate::tables::interfaces::InterfaceId;
use crate::tables::services::ServiceId;
use crate::wire::ethernet::Tags;
use crate::wire::{ICMP, ICMPV6, TCP, UDP, be16, ethernet, ipv4, ipv6, tcp, udp};

/// A frame and what the nodes know of it.
#[derive(Debug)]
pub struct Packet<F> {
    /// The frame, from the Ethernet header on, without VLAN tag.
    pub frame: F,
    /// What classification read. In a box of the worker's ([`Metas`]), so that a packet is two words on its way from
    /// node to node: copying a hundred bytes that were just written piece by piece costs more than what is done with them.
    pub meta: Box<Meta>,
}

/// A frame whose packet is BIER's, as `bier` wants it: what else is to be known of it stands in its own header, which that node
/// reads itself. It has no [`Meta`]: that would be a hundred bytes to write for two that are read.
#[derive(Debug)]
pub struct BierPacket<F> {
    /// The frame, from the Ethernet header on, without VLAN tag.
    pub frame: F,
    /// The interface it came in by.
    pub interface: InterfaceId,
    /// What brought it.
    pub network: Network,
    /// Where it began.
    pub origin: Origin,
    /// The number of its trace; [`NOT_TRACED`] for most.
    pub trace: u16,
}

impl<F> BierPacket<F> {
    /// The same as other nodes want it.
    #[cold]
    pub fn with_meta(self, metas: &mut Metas) -> Packet<F> {
        let Self { frame, interface, network, origin, trace } = self;
        let mut meta = metas.take();
        *meta = Meta { interface, network, origin, trace, ..Meta::default() };
        Packet { frame, meta }
    }
}

/// Which network protocol a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Network {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
    /// ARP.
    Arp,
    /// BIER behind an Ethernet header (RFC 8296 §2.2).
    Bier,
    /// An MPLS label, which may be a BIFT-id (RFC 8296 §2.1).
    Mpls,
    /// BIER that begins here, made by the slowpath: its copies leave with the TTL that it has.
    BierOfOurs,
    /// BIER inside an IP packet to us.
    BierInIp,
    /// The same, taken out of it: who sent it is known.
    BierFromTunnel,
}

/// Which part of a packet a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fragment {
    /// All of it. An IPv6 packet with a fragment header that is nevertheless whole (RFC 6946) counts as such.
    #[default]
    Whole,
    /// The first fragment, with its whole TCP or UDP header: the ports are known.
    First,
    /// The first fragment, without them.
    FirstShort,
    /// A later one: what follows the IP header is data.
    Later,
}

/// How a packet finds its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// By its own ends.
    #[default]
    Plain,
    /// An ICMP error: by the ends of the packet that it quotes.
    Quote,
    /// A fragment on its way to the worker where all fragments of its packet meet; `flow_hash` is theirs.
    Gathering,
    /// A later fragment: by the ports of the first, which it was given.
    Following,
}

/// What a packet's way through the nodes began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Origin {
    /// A port, a ring, or the slowpath: counted by law 1.
    #[default]
    Arrival,
    /// A hold, released or expired: its arrival was counted before.
    Hold,
    /// The worker itself: counted when it leaves.
    Own,
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// The interface it came in by.
    pub interface: InterfaceId,
    /// The service it is for, once known.
    pub service: ServiceId,
    /// Bytes of the IP packet.
    pub ip_len: u16,
    /// The worker that owns the flow; set with `service`.
    pub owner: u16,
    /// Offset of the header behind IP; meaningful if `has_l4`.
    pub l4: u8,
    /// The network protocol.
    pub network: Network,
    /// IPv4 protocol or IPv6 next header.
    pub protocol: u8,
    /// TCP flags; 0 for others.
    pub tcp_flags: u8,
    /// Ports (or the ICMP header) of a whole packet were read.
    pub has_l4: bool,
    /// Which part of a packet it is.
    pub fragment: Fragment,
    /// How it finds its flow.
    pub kind: Kind,
    /// It comes from an instance's side, so that the flow is found by its destination.
    pub is_return: bool,
    /// It is a query on its way to somebody else's resolver.
    pub intercepted: bool,
    /// Where it began.
    pub origin: Origin,
    /// The number of its trace; [`NOT_TRACED`] for most.
    pub trace: u16,
    /// The hash of the flow it belongs to; set with `service`.
    pub flow_hash: u64,
}

// It is written for every frame and copied with those that are handed over.
const _: () = assert!(size_of::<Meta>() <= 96);

/// A packet that leaves no trace.
pub const NOT_TRACED: u16 = u16::MAX;
/// Offset of the IP header: VLAN tags are taken off first.
pub const L3: usize = ethernet::HEADER;

/// Why headers can't be read. One variant, one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than an Ethernet header, or than the tag it announces.
    ShortEthernet,
    /// An EtherType that nobody here reads.
    UnknownEthertype,
    /// Shorter than the IP header, or than the length that it gives.
    ShortIp,
    /// The version doesn't match the EtherType.
    IpVersion,
    /// Lengths in the IP header contradict each other.
    IpLength,
    /// Wrong IPv4 header checksum.
    IpChecksum,
    /// An IPv6 extension header is longer than the packet.
    ShortExtension,
    /// Shorter than the TCP, UDP or ICMP header, or than the length that it gives.
    ShortL4,
}

/// A worker's boxes for what is known of packets, taken at start. They go round: one is taken for each packet of a
/// round and comes back when the packet's way ends.
#[derive(Debug)]
#[allow(
    clippy::vec_box,
    reason = "what goes round are the boxes: a packet's way is to move a pointer, not its contents"
)]
pub struct Metas(Vec<Box<Meta>>);

impl Default for Metas {
    /// Enough for a round.
    fn default() -> Self {
        Self((0..BURST_MAX).map(|_| Box::default()).collect())
    }
}

impl Metas {
    /// A box, with what its last packet left in it.
    #[inline]
    pub fn take(&mut self) -> Box<Meta> {
        self.0.pop().expect("a round has no more packets than there are boxes, and each comes back")
    }

    /// Takes a box back.
    #[inline]
    pub fn put(&mut self, meta: Box<Meta>) {
        self.0.push(meta);
    }
}

impl Meta {
    /// Reads the headers of an untagged frame. `available` is its length over all segments.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn parse(bytes: &[u8], available: usize, ip_checksum: RxChecksum) -> Result<Self, Malformed> {
        let mut meta = Self::default();
        meta.read(bytes, available, ip_checksum).map(|()| meta)
    }

    /// The same, in place.
    ///
    /// # Errors
    /// [`Malformed`]; what was known before is gone.
    #[inline(always)] // fields go from registers to where they stay
    pub fn read(&mut self, bytes: &[u8], available: usize, ip_checksum: RxChecksum) -> Result<(), Malformed> {
        *self = Self { trace: NOT_TRACED, ..Self::default() };
        if bytes.len() < ethernet::HEADER {
            return Err(Malformed::ShortEthernet);
        }
        match ethernet::ethertype(bytes) {
            ethernet::IPV4 => self.read_v4(bytes, available, ip_checksum),
            ethernet::IPV6 => self.read_v6(bytes, available),
            ethernet::ARP => {
                self.network = Network::Arp;
                Ok(())
            }
            header::ETHERTYPE => {
                self.network = Network::Bier;
                Ok(())
            }
            header::ETHERTYPE_MPLS => {
                self.network = Network::Mpls;
                Ok(())
            }
            _ => Err(Malformed::UnknownEthertype),
        }
    }

    /// What the Ethernet and IP headers alone say of an untagged frame, however much of what follows them is there: of a
    /// fragment, whether it is a later one; `None` when they can't be read themselves.
    pub fn read_network(bytes: &[u8], checksum: RxChecksum) -> Option<Self> {
        let ip = bytes.get(L3..)?;
        let mut meta = Self { trace: NOT_TRACED, ..Self::default() };
        match ethernet::ethertype(bytes) {
            ethernet::IPV4 if checksum != RxChecksum::Bad => {
                let header = ipv4::parse(ip, usize::MAX, checksum != RxChecksum::Good).ok()?;
                (meta.source, meta.destination) = (header.source, header.destination);
                (meta.protocol, meta.ip_len) = (header.protocol, header.total_len as u16);
                if header.fragment && ipv4::fragment_offset(ip) != 0 {
                    meta.fragment = Fragment::Later;
                }
            }
            ethernet::IPV6 => {
                let header = ipv6::parse(ip, usize::MAX).ok()?;
                (meta.source, meta.destination) = (header.source, header.destination);
                meta.network = Network::V6;
                meta.ip_len = header.total_len.min(usize::from(u16::MAX)) as u16;
                let chain = ipv6::walk(ip, header.total_len).ok()?;
                meta.protocol = chain.protocol;
                if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
                    meta.fragment = Fragment::Later;
                }
            }
            _ => return None,
        }
        Some(meta)
    }

    #[inline(always)] // as above
    fn read_v4(&mut self, bytes: &[u8], available: usize, ip_checksum: RxChecksum) -> Result<(), Malformed> {
        if ip_checksum == RxChecksum::Bad {
            return Err(Malformed::IpChecksum);
        }
        let verify = ip_checksum != RxChecksum::Good;
        let header = ipv4::parse(&bytes[L3..], available - L3, verify).map_err(|error| match error {
            ipv4::Malformed::Short => Malformed::ShortIp,
            ipv4::Malformed::Version => Malformed::IpVersion,
            ipv4::Malformed::Length => Malformed::IpLength,
            ipv4::Malformed::Checksum => Malformed::IpChecksum,
        })?;
        self.source = header.source;
        self.destination = header.destination;
        self.ip_len = header.total_len as u16;
        self.l4 = (L3 + header.header_len) as u8;
        self.network = Network::V4;
        self.protocol = header.protocol;
        let len = header.total_len - header.header_len;
        if header.fragment {
            self.read_fragment(bytes, len, ipv4::fragment_offset(&bytes[L3..]));
            return Ok(());
        }
        self.read_l4(bytes, len)
    }

    #[inline(always)] // as above
    fn read_v6(&mut self, bytes: &[u8], available: usize) -> Result<(), Malformed> {
        let header = ipv6::parse(&bytes[L3..], available - L3).map_err(|error| match error {
            ipv6::Malformed::Short => Malformed::ShortIp,
            ipv6::Malformed::Version => Malformed::IpVersion,
            ipv6::Malformed::ShortExtension => Malformed::ShortExtension,
        })?;
        self.source = header.source;
        self.destination = header.destination;
        // A jumbogram (RFC 2675) has length 0 and a hop-by-hop header; the longest other packet fits but for 40 bytes.
        self.ip_len = header.total_len.min(usize::from(u16::MAX)) as u16;
        self.l4 = (L3 + ipv6::HEADER) as u8;
        self.network = Network::V6;
        self.protocol = header.next_header;
        match header.next_header {
            TCP | UDP | ICMPV6 => self.read_l4(bytes, header.total_len - ipv6::HEADER),
            _ => self.read_extended(bytes, header.total_len),
        }
    }

    /// What is behind IPv6 extension headers. Where they end nowhere we read, `protocol` says where the walk stopped.
    #[cold]
    #[inline(never)]
    fn read_extended(&mut self, bytes: &[u8], total_len: usize) -> Result<(), Malformed> {
        let chain = ipv6::walk(&bytes[L3..], total_len).map_err(|_| Malformed::ShortExtension)?;
        self.l4 = (L3 + chain.offset) as u8;
        self.protocol = chain.protocol;
        let len = total_len - chain.offset;
        match chain.fragment {
            Some(fragment) if fragment.offset != 0 || fragment.more => {
                self.read_fragment(bytes, len, fragment.offset);
                Ok(())
            }
            _ => self.read_l4(bytes, len),
        }
    }

    /// A fragment at `offset` with `len` bytes of its packet's payload: the ports, where they are in it.
    #[cold]
    #[inline(never)]
    fn read_fragment(&mut self, bytes: &[u8], len: usize, offset: usize) {
        if offset != 0 {
            self.fragment = Fragment::Later;
            return;
        }
        self.fragment = Fragment::FirstShort;
        let minimum = match self.protocol {
            TCP => tcp::HEADER,
            UDP => udp::HEADER,
            _ => return,
        };
        let l4 = usize::from(self.l4);
        let Some(header) = bytes.get(l4..l4 + minimum).filter(|_| len >= minimum) else { return };
        if self.protocol == TCP {
            let header_len = usize::from(header[12] >> 4) * 4;
            if header_len < tcp::HEADER || header_len > len {
                return;
            }
            self.tcp_flags = header[tcp::FLAGS];
        }
        self.fragment = Fragment::First;
        self.source_port = be16(header, 0);
        self.destination_port = be16(header, 2);
    }

    /// Reads ports and flags; `len` is the length of the IP payload.
    #[inline(always)]
    fn read_l4(&mut self, bytes: &[u8], len: usize) -> Result<(), Malformed> {
        let l4 = usize::from(self.l4);
        let minimum = match self.protocol {
            TCP => tcp::HEADER,
            UDP => udp::HEADER,
            ICMP | ICMPV6 => 4,
            _ => return Ok(()),
        };
        let Some(header) = bytes.get(l4..l4 + minimum).filter(|_| len >= minimum) else {
            return Err(Malformed::ShortL4);
        };
        self.has_l4 = true;
        match self.protocol {
            TCP => {
                let header_len = usize::from(header[12] >> 4) * 4;
                if header_len < tcp::HEADER || header_len > len {
                    return Err(Malformed::ShortL4);
                }
                self.tcp_flags = header[tcp::FLAGS];
            }
            UDP => {
                let said = usize::from(be16(header, 4));
                if said < udp::HEADER || said > len {
                    return Err(Malformed::ShortL4);
                }
            }
            _ => return Ok(()),
        }
        self.source_port = be16(header, 0);
        self.destination_port = be16(header, 2);
        Ok(())
    }

    /// Whether this is whole, TCP or UDP, with its ports read.
    #[inline]
    pub fn has_ports(&self) -> bool {
        self.has_l4 && (self.protocol == TCP || self.protocol == UDP)
    }

    /// Whether this is the segment that opens a TCP connection.
    #[inline]
    pub fn is_syn(&self) -> bool {
        self.protocol == TCP && self.tcp_flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// The header fields that a notification carries.
    pub fn fields(&self, bytes: &[u8]) -> PacketFields {
        PacketFields {
            interface: self.interface,
            source_mac: ethernet::source(bytes),
            destination_mac: ethernet::destination(bytes),
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            length: self.ip_len,
            flow_label: match self.network {
                Network::V6 => u32::from_be_bytes([0, bytes[L3 + 1] & 0x0f, bytes[L3 + 2], bytes[L3 + 3]]),
                _ => 0,
            },
        }
    }
}

/// Takes the VLAN tags off and says what they were.
///
/// # Errors
/// The frame is shorter than its headers.
#[inline]
pub fn untag<F: Frame>(frame: &mut F) -> Result<Tags, Malformed> {
    let bytes = frame.bytes();
    if bytes.len() < ethernet::HEADER {
        return Err(Malformed::ShortEthernet);
    }
    match ethernet::ethertype(bytes) {
        ethernet::VLAN | ethernet::SERVICE_VLAN => take_tags(frame),
        _ => Ok(Tags::default()),
    }
}

#[inline(never)] // what has no tags doesn't carry this along
fn take_tags<F: Frame>(frame: &mut F) -> Result<Tags, Malformed> {
    let bytes = frame.bytes_mut();
    let (tags, len) = Tags::read(bytes).ok_or(Malformed::ShortEthernet)?;
    // The EtherType behind the tags is part of what has to be there.
    if bytes.len() < ethernet::HEADER + len {
        return Err(Malformed::ShortEthernet);
    }
    bytes.copy_within(0..12, len);
    frame.trim_front(len);
    Ok(tags)
}

/// Puts VLAN tags on; false when there is no headroom for them.
#[inline]
pub fn tag<F: Frame>(frame: &mut F, tags: Tags) -> bool {
    let len = tags.wire_len();
    if !frame.prepend(len) {
        return false;
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(len..len + 12, 0);
    tags.write(&mut bytes[12..12 + len]);
    true
}

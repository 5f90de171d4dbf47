//! Reads the headers of each frame and decides who is meant: one of our names, a service, ourselves, or somebody beyond.
//!
//! ```text
//!              destination is ours            destination isn't ours
//!   UDP/53 to a DNS address ─► dns            from an instance's endpoint ─► service (return)
//!   TCP, UDP to a service   ─► service        UDP/53, when intercepting   ─► dns (exact hits only)
//!   to a translated port    ─► service        everything else             ─► transit
//!   everything else         ─► host
//!
//!   BIER behind an Ethernet or MPLS header or inside IP to us, and multicast of a flow that enters BIER here ─► bier
//!   content that the hub accepts by plain multicast, and what nodes say to it ─► hub
//! ```
//!
//! A packet to an address with the trigger `flow` is looked at by [`triple`] first, whatever becomes of it.
//!
//! What goes to `service` goes to the worker that owns the flow. Packets without ports of their own, ICMP errors and
//! fragments, are told apart off the common path: `quote` and `fragment`.

use std::sync::Arc;

use millrace_bier::{header, oam};

use super::bier::flow_of;
use super::icmp::Error;
use super::{Context, Lanes, NodeId, drops, fragment, hub, quote, triple};
use crate::dns::Role;
use crate::driver::{Frame, PortId};
use crate::flow::FlowTable;
use crate::flow::key::owner;
use crate::packet::{
    BierPacket, Fragment, Kind, Malformed, Meta, NOT_TRACED, Network, Origin, Packet, untag,
};
use crate::tables::bier::UDP_PORT;
use crate::tables::interfaces::{InterfaceId, Local, Mac};
use crate::tables::services::{Endpoint, ServiceId};
use crate::tables::{Bier, Tables};
use crate::wire::ethernet::Tags;
use crate::wire::{ICMPV6, IGMP, UDP, ethernet, ipv6};

/// The port of DNS.
pub const DNS_PORT: u16 = 53;

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To the responder, in this role.
    Dns(Role),
    /// To the flow's owner.
    Service,
    /// To the flow's owner, or the fragments' worker, to be told apart there.
    Aside,
    /// To replication.
    Bier,
    /// To the hub's thread.
    Hub,
    /// To the slowpath.
    Host,
    /// To plain forwarding.
    Transit,
}

drops! {
    /// Why a frame goes no further.
    pub enum Drop {
        /// Shorter than its Ethernet headers.
        ShortEthernet => "short-ethernet",
        /// A VLAN that isn't configured on the port.
        UnknownVlan => "unknown-vlan",
        /// Its link-layer destination is somebody else.
        NotOurMac => "not-our-mac",
        /// An EtherType that nobody here reads.
        UnknownEthertype => "unknown-ethertype",
        /// Shorter than the IP header, or than the length that it gives.
        ShortIp => "short-ip",
        /// The IP version doesn't match the EtherType.
        IpVersion => "ip-version",
        /// Lengths in the IP header contradict each other.
        IpLength => "ip-length",
        /// Wrong IPv4 header checksum.
        IpChecksum => "ip-checksum",
        /// An IPv6 extension header is longer than the packet.
        ShortExtension => "short-extension",
        /// Shorter than the TCP, UDP or ICMP header, or than the length that it gives.
        ShortL4 => "short-l4",
        /// A source address that no sender may have.
        BadSource => "bad-source",
        /// From one of our own addresses: forged, or come back by a loop.
        OwnSource => "own-source",
        /// An IPv4-mapped address in an IPv6 header: it may not be on a wire, and would pass for the IPv4 address.
        MappedAddress => "mapped-address",
        /// Sent to a group that nobody here serves.
        Multicast => "multicast",
        /// To an address of ours, but to a port where nobody listens.
        NoSuchPort => "no-such-port",
        /// To us, with more IPv6 extension headers than are walked over.
        ExtensionLimit => "extension-limit",
        /// To us, but by a source route that hasn't ended (RFC 5095).
        SourceRoute => "source-route",
        /// To us over IPv6, with a next header that nobody here knows.
        UnknownNextHeader => "unknown-next-header",
        /// A fragment to us of what nobody here puts together: a query, or neither TCP nor UDP.
        Fragment => "fragment",
        /// A first fragment to a service that doesn't hold the whole TCP or UDP header.
        FragmentShort => "fragment-short",
        /// A later fragment to a service whose first wasn't seen, or too long ago.
        FragmentOrphan => "fragment-orphan",
        /// A later fragment that would write over the transport header of the first (RFC 1858 §4.2).
        FragmentOverlap => "fragment-overlap",
        /// The ring to the worker that owns the flow is full.
        OwnerBehind => "owner-behind",
    }
}

impl From<Malformed> for Drop {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::ShortEthernet => Drop::ShortEthernet,
            Malformed::UnknownEthertype => Drop::UnknownEthertype,
            Malformed::ShortIp => Drop::ShortIp,
            Malformed::IpVersion => Drop::IpVersion,
            Malformed::IpLength => Drop::IpLength,
            Malformed::IpChecksum => Drop::IpChecksum,
            Malformed::ShortExtension => Drop::ShortExtension,
            Malformed::ShortL4 => Drop::ShortL4,
        }
    }
}

/// Classifies the frames of a burst, which came by one port, into the lanes.
pub fn process<F: Frame>(
    port: PortId,
    frames: impl Iterator<Item = F>,
    flows: &FlowTable,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    let mut last = None;
    let untagged = cx.tables.interfaces.find(port, Tags::default());
    for mut frame in frames {
        // Before anything is refused, so that a trace shows the frames that are.
        let trace = cx.trace.as_deref_mut().and_then(|trace| trace.start_frame()).unwrap_or(NOT_TRACED);
        let arrived = arrive(&mut frame, port, untagged, cx);
        if let Ok(arrived) = arrived
            && let Some(network) = bier_of(arrived, cx)
        {
            cx.trace_frame(NodeId::Classify, "to bier", trace, &frame);
            let (interface, origin) = (arrived.interface, Origin::Arrival);
            lanes.bier.push(BierPacket { frame, interface, network, origin, trace });
            continue;
        }
        let mut packet = Packet { frame, meta: cx.metas.take() };
        // What else is in the box is its last packet's, until it is read.
        (packet.meta.trace, packet.meta.origin) = (trace, Origin::Arrival);
        match arrived.and_then(|arrived| classify(&mut packet, arrived, &mut last, cx)) {
            Ok(next) => {
                if next == Next::Service {
                    // Asked for here, the buckets of a vector arrive while the rest of it is classified. In a table that isn't
                    // in the cache, that is a tenth of what a known flow's packet costs.
                    flows.prefetch_bucket::<F>(packet.meta.flow_hash);
                }
                send(next, packet, cx, lanes);
            }
            Err(reason) => refuse(reason, packet, cx, lanes),
        }
    }
}

/// The endpoint that the last packet to a service was for. Most packets of a vector are for the one that the packet before
/// was for, and then two tables needn't be asked.
type LastService = Option<(Endpoint, ServiceId)>;

/// Takes in a packet that another worker handed over and that isn't found by its own ports.
#[cold]
#[inline(never)]
pub fn handed_in<F: Frame>(mut packet: Packet<F>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    let next = match packet.meta.kind {
        Kind::Gathering => fragment::gather(&mut packet.meta, packet.frame.bytes(), cx),
        Kind::Plain => Ok(Next::Service),
        Kind::Quote | Kind::Following => Ok(Next::Aside),
    };
    match next {
        Ok(next) => send(next, packet, cx, lanes),
        Err(reason) => refuse(reason, packet, cx, lanes),
    }
}

#[cold]
#[inline(never)]
fn refuse<F: Frame>(reason: Drop, packet: Packet<F>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    let drop = (NodeId::Classify, reason as usize, reason.name());
    if reason == Drop::NoSuchPort && packet.meta.protocol == UDP {
        cx.refuse(Error::NoPort, drop, packet, lanes);
    } else {
        cx.drop(drop.0, drop.1, drop.2, packet, lanes);
    }
}

#[inline(always)]
fn send<F: Frame>(next: Next, mut packet: Packet<F>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    match next {
        Next::Dns(role) => {
            packet.meta.intercepted = role == Role::Intercept;
            cx.trace(NodeId::Classify, "to dns", &packet);
            lanes.dns.push(packet);
        }
        Next::Service => {
            let owner = packet.meta.owner as usize;
            if owner == cx.worker {
                cx.trace(NodeId::Classify, "to service", &packet);
                lanes.service.push(packet);
            } else {
                cx.trace(NodeId::Classify, "to the flow's owner", &packet);
                lanes.hand_over.push((owner, packet));
            }
        }
        Next::Aside => {
            let owner = packet.meta.owner as usize;
            if owner == cx.worker {
                cx.trace(NodeId::Classify, "aside, to service", &packet);
                lanes.aside.push(packet);
            } else {
                cx.trace(NodeId::Classify, "aside, to another worker", &packet);
                lanes.hand_over.push((owner, packet));
            }
        }
        Next::Bier => {
            cx.trace(NodeId::Classify, "to bier", &packet);
            lanes.into_bier.push(packet);
        }
        Next::Hub => {
            cx.trace(NodeId::Classify, "to hub", &packet);
            lanes.hub.push(packet);
        }
        Next::Host => {
            cx.trace(NodeId::Classify, "to host", &packet);
            lanes.host.push(packet);
        }
        Next::Transit => {
            cx.trace(NodeId::Classify, "to transit", &packet);
            lanes.transit.push(packet);
        }
    }
}

/// What the Ethernet header says.
#[derive(Clone, Copy)]
struct Arrived {
    interface: InterfaceId,
    /// It is sent to our link-layer address.
    ours: bool,
    /// It is sent to a group's.
    group: bool,
    ethertype: u16,
}

/// Takes off a frame's tags, and finds out whether it is for us at all. One that has none came by the interface `untagged`.
#[inline(always)]
fn arrive<F: Frame>(
    frame: &mut F,
    port: PortId,
    untagged: Option<(InterfaceId, Mac)>,
    cx: &Context<'_>,
) -> Result<Arrived, Drop> {
    let header = frame.bytes().first_chunk().ok_or(Drop::ShortEthernet)?;
    match ethernet::ethertype(header) {
        ethernet::VLAN | ethernet::SERVICE_VLAN => arrive_tagged(frame, port, cx),
        ethertype => {
            let (interface, mac) = untagged.ok_or(Drop::UnknownVlan)?;
            arrived_by(interface, mac, header, ethertype)
        }
    }
}

#[inline(never)] // what has no tags doesn't carry this along
fn arrive_tagged<F: Frame>(frame: &mut F, port: PortId, cx: &Context<'_>) -> Result<Arrived, Drop> {
    let tags = untag(frame)?;
    let (interface, mac) = cx.tables.interfaces.find(port, tags).ok_or(Drop::UnknownVlan)?;
    let header = frame.bytes().first_chunk().ok_or(Drop::ShortEthernet)?;
    arrived_by(interface, mac, header, ethernet::ethertype(header))
}

/// What the header says of a frame that came by an interface, which has this link-layer address.
#[inline(always)]
fn arrived_by(
    interface: InterfaceId,
    mac: Mac,
    header: &[u8; ethernet::HEADER],
    ethertype: u16,
) -> Result<Arrived, Drop> {
    let destination = ethernet::destination(header);
    let (ours, group) = (destination == mac, ethernet::is_group(destination));
    if ours || group { Ok(Arrived { interface, ours, group, ethertype }) } else { Err(Drop::NotOurMac) }
}

/// What brings a BIER packet to us on a link, if that is what the frame has. It is sent to one neighbour at a time (RFC 8296 §3).
#[inline(always)]
fn bier_of(arrived: Arrived, cx: &Context<'_>) -> Option<Network> {
    let network = match arrived.ethertype {
        header::ETHERTYPE => Network::Bier,
        header::ETHERTYPE_MPLS => Network::Mpls,
        _ => return None,
    };
    (!arrived.group && cx.tables.bier.is_some()).then_some(network)
}

#[inline(always)]
fn classify<F: Frame>(
    packet: &mut Packet<F>,
    Arrived { interface, ours, group, .. }: Arrived,
    last: &mut LastService,
    cx: &mut Context<'_>,
) -> Result<Next, Drop> {
    let tables = cx.tables;
    let trace = packet.meta.trace;
    let bytes = packet.frame.bytes();
    let meta = &mut *packet.meta;
    let read = meta.read(bytes, packet.frame.total_len(), packet.frame.ip_checksum());
    meta.interface = interface;
    meta.trace = trace;
    if let Err(malformed) = read {
        if ours {
            triple::look_at_refused(meta, bytes, packet.frame.ip_checksum(), cx);
        }
        return Err(malformed.into());
    }
    match meta.network {
        Network::V4 | Network::V6 => {}
        Network::Arp => return Ok(Next::Host),
        // Nothing that arrives is read as that.
        Network::BierOfOurs | Network::BierInIp | Network::BierFromTunnel => {
            return Err(Drop::UnknownEthertype);
        }
        // All else that could be BIER has gone there already.
        Network::Bier | Network::Mpls if tables.bier.is_some() => return Err(Drop::Multicast),
        Network::Bier | Network::Mpls => return Err(Drop::UnknownEthertype),
    }
    if group {
        // Neighbour discovery comes by multicast (RFC 4861 §4.3), and so do hosts that say what they listen to.
        let next = match meta.protocol {
            ICMPV6 if meta.has_l4 => Next::Host,
            IGMP if is_queried(meta, tables) => Next::Host,
            _ => Next::Bier,
        };
        let enters = |bier: &Arc<Bier>| bier.overlay.get(flow_of(meta)).is_some();
        return match next {
            Next::Bier if tables.bier.as_ref().is_some_and(enters) => {
                check_source(meta, tables).map(|()| next)
            }
            Next::Bier if hub::inlet_of(meta, tables).is_some() => {
                check_source(meta, tables).map(|()| Next::Hub)
            }
            Next::Bier => Err(Drop::Multicast),
            next => Ok(next),
        };
    }
    check_source(meta, tables)?;
    if let Some((endpoint, service)) = last
        && meta.has_ports()
        && *endpoint == destination_of(meta)
    {
        to_service(meta, *service, cx);
        return Ok(Next::Service);
    }
    let local = tables.interfaces.local(meta.destination);
    if let Some(Local { flow: Some(service), .. }) = local {
        triple::look(service, meta, packet.frame.bytes(), cx);
    }
    match local {
        local if !meta.has_ports() => without_ports(meta, packet.frame.bytes(), local, cx),
        Some(local) => {
            let next = to_us_by_port(meta, local, cx)?;
            // Where the trigger `flow` looks at each packet, each has to come by here.
            if next == Next::Service && !meta.is_return && local.flow.is_none() {
                *last = Some((destination_of(meta), meta.service));
            }
            Ok(next)
        }
        None => past_us_by_port(meta, cx),
    }
}

/// Whether hosts are asked what they listen to where this came from.
#[cold]
fn is_queried(meta: &Meta, tables: &Tables) -> bool {
    let asks = || tables.bier.as_ref().is_some_and(|bier| bier.queried.contains(&meta.interface));
    let is_asked = || {
        let hub = tables.hub.as_ref().filter(|hub| !hub.joins.is_empty());
        let interface = tables.interfaces.get(meta.interface);
        hub.zip(interface).is_some_and(|(hub, interface)| hub.joins.contains_key(&interface.name))
    };
    meta.network == Network::V4 && meta.fragment == Fragment::Whole && (asks() || is_asked())
}

/// What isn't a whole TCP or UDP packet: an error about one of our flows, a fragment, or something else.
#[cold]
#[inline(never)]
fn without_ports(
    meta: &mut Meta,
    bytes: &[u8],
    local: Option<Local>,
    cx: &mut Context<'_>,
) -> Result<Next, Drop> {
    if meta.fragment != Fragment::Whole {
        return fragment::classify(meta, bytes, local, cx);
    }
    if quote::seek(meta, bytes, cx) {
        return Ok(Next::Aside);
    }
    match (local, meta.network) {
        (None, _) => Ok(Next::Transit),
        (Some(_), Network::V6) if meta.protocol == ipv6::ROUTING => Err(Drop::SourceRoute),
        (Some(_), Network::V6) if ipv6::is_extension(meta.protocol) => Err(Drop::ExtensionLimit),
        (Some(local), Network::V6) if local.host && is_bier(meta.protocol, cx.tables) => {
            meta.network = Network::BierInIp;
            Ok(Next::Bier)
        }
        (Some(_), Network::V6) if meta.protocol != ICMPV6 => Err(Drop::UnknownNextHeader),
        (Some(_), _) => Ok(Next::Host),
    }
}

/// Whether there is anybody whom BIER is taken from inside IP.
#[cold]
fn has_tunnels(tables: &Tables) -> bool {
    tables.bier.as_ref().is_some_and(|bier| !bier.tunnels.peers.is_empty())
}

/// Whether an IPv6 next header stands for BIER.
fn is_bier(next_header: u8, tables: &Tables) -> bool {
    has_tunnels(tables) && tables.bier.as_ref().is_some_and(|bier| bier.tunnels.next_header == next_header)
}

/// Whether the addresses are ones that a packet may have.
#[inline(always)]
pub(super) fn check_source(meta: &Meta, tables: &Tables) -> Result<(), Drop> {
    if is_bad_source(meta) {
        return Err(Drop::BadSource);
    }
    if meta.network == Network::V6 && (meta.source.is_v4() || meta.destination.is_v4()) {
        return Err(Drop::MappedAddress);
    }
    if tables.interfaces.is_ours_alone(meta.source) {
        return Err(Drop::OwnSource);
    }
    Ok(())
}

/// A source that is a group, unspecified, loopback, or the destination itself (RFC 1122 §3.2.1.3, RFC 4291 §2.5).
#[inline(always)]
fn is_bad_source(meta: &Meta) -> bool {
    let source = meta.source;
    if meta.network == Network::V4 {
        let first = source.v4_bytes()[0];
        first == 0 || first == 127 || first >= 224 || source == meta.destination
    } else {
        // DAD's unspecified source comes by multicast only, so it isn't seen here.
        source.0 <= 1 || source.0 >> 120 == 0xff || source == meta.destination
    }
}

/// A packet to an address of ours, by its ports.
#[inline(always)]
pub(super) fn to_us_by_port(meta: &mut Meta, local: Local, cx: &Context<'_>) -> Result<Next, Drop> {
    if local.dns && meta.protocol == UDP && meta.destination_port == DNS_PORT {
        return Ok(Next::Dns(Role::Authoritative));
    }
    if local.service {
        if let Some(service) = cx.tables.services.by_endpoint(&destination_of(meta)) {
            to_service(meta, service, cx);
            return Ok(Next::Service);
        }
        if !local.host && !local.dns {
            return Err(Drop::NoSuchPort);
        }
    }
    if local.host && cx.tables.policy.nat_ports.contains(meta.destination_port) {
        // A translated port names its worker, so that the instance's answer finds the flow without its client.
        meta.is_return = true;
        meta.flow_hash = cx.hasher.hash(meta.destination, meta.destination_port, meta.protocol);
        meta.owner = cx.tables.policy.nat_ports.owner(meta.destination_port, cx.workers) as u16;
        return Ok(Next::Service);
    }
    if meta.protocol == UDP && meta.destination_port == UDP_PORT && local.host && has_tunnels(cx.tables) {
        meta.network = Network::BierInIp;
        return Ok(Next::Bier);
    }
    if local.host && hub::inlet_of(meta, cx.tables).is_some() {
        return Ok(Next::Hub);
    }
    // The appliance itself listens at no other UDP port: what it answers over UDP was found above.
    let echo = local.host && meta.destination_port == oam::UDP_PORT && cx.tables.bier.is_some();
    if meta.protocol == UDP && !echo { Err(Drop::NoSuchPort) } else { Ok(Next::Host) }
}

/// A packet to somebody beyond, by its ports.
#[inline(always)]
pub(super) fn past_us_by_port(meta: &mut Meta, cx: &Context<'_>) -> Result<Next, Drop> {
    let source = Endpoint { addr: meta.source, port: meta.source_port, protocol: meta.protocol };
    if cx.tables.services.is_return(&source) {
        meta.is_return = true;
        meta.flow_hash = cx.hasher.hash(meta.destination, meta.destination_port, meta.protocol);
        meta.owner = owner(meta.flow_hash, cx.workers) as u16;
        return Ok(Next::Service);
    }
    if cx.tables.policy.dns_intercept && meta.protocol == UDP && meta.destination_port == DNS_PORT {
        return Ok(Next::Dns(Role::Intercept));
    }
    Ok(Next::Transit)
}

#[inline(always)]
fn destination_of(meta: &Meta) -> Endpoint {
    Endpoint { addr: meta.destination, port: meta.destination_port, protocol: meta.protocol }
}

#[inline(always)]
fn to_service(meta: &mut Meta, service: ServiceId, cx: &Context<'_>) {
    meta.service = service;
    meta.flow_hash = cx.hasher.hash(meta.source, meta.source_port, meta.protocol);
    meta.owner = owner(meta.flow_hash, cx.workers) as u16;
}

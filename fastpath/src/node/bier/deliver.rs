//! What was for us: the payload goes to those behind us that get such (RFC 8279 §4.3, RFC 8296 §2.1.2 Proto).
//!
//! ```text
//!   IPv4, IPv6 ──► to a group ─┬─► hosts that listen to it, by the group's link-layer address (RFC 1112 §6.4, RFC 2464 §7)
//!         ▲                    └─► a neighbour, by its own
//!   MPLS ─┴─ the label is taken off
//!   Ethernet ──► the networks that are joined to the sub-domain, as it is
//! ```
//!
//! What is for hosts with bits of their own goes to their network, and nobody is asked who listens.

use millrace_bier::bift::{Neighbour, Reach};
use millrace_bier::header::Proto;

use super::copies::Copies;
use super::{Drop, Inner, Loss, lose};
use crate::addr::Addr;
use crate::driver::{Driver, Frame};
use crate::node::Context;
use crate::packet::{L3, tag};
use crate::tables::bier::{Bier, LINKS_MAX, Link};
use crate::tables::interfaces::{Interface, InterfaceId, Mac};
use crate::tables::listeners::Listener;
use crate::wire::{ethernet, ipv4, ipv6};

/// An IP packet to a group.
#[derive(Clone, Copy)]
struct Payload<'a> {
    bytes: &'a [u8],
    source: Addr,
    group: Addr,
    v4: bool,
}

/// Why nobody gets a payload: as the packet's drop, and as the loss of this copy where there are others.
type Nobody = (Drop, Loss);
const NO_LISTENER: Nobody = (Drop::NoListener, Loss::NoListener);
const UNKNOWN_LABEL: Nobody = (Drop::UnknownLabel, Loss::UnknownLabel);

/// Sends the payload of a frame to whoever gets it.
///
/// # Errors
/// Why it can be sent to nobody: as the packet's drop, and as the loss of this copy where there are others.
pub(super) fn payload<D: Driver>(
    bier: &Bier,
    frame: &D::Frame,
    inner: Inner,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Nobody> {
    let bytes = copies.payload_of(frame);
    let payload = match inner.proto {
        Proto::Ipv4 => ipv4_to_group(bytes),
        Proto::Ipv6 => ipv6_to_group(bytes),
        Proto::MplsDownstream | Proto::MplsUpstream => labelled(bier, inner, bytes)?,
        Proto::Ethernet => return bridge(bier, inner, bytes, copies, cx),
        _ => return Err((Drop::UnknownProto, Loss::UnknownProto)),
    };
    let Some(payload) = payload else {
        lose(Loss::BadPayload, cx);
        return Ok(());
    };
    let listeners = bier.listeners.get(payload.group).iter().filter(|one| one.filter.passes(payload.source));
    // Those on the link where it entered have heard it from its source.
    let entered_by = copies.entered_by();
    let mut found = false;
    for listener in listeners {
        found = true;
        if entered_by != Some(listener.interface)
            && let Err(loss) = send_to(payload, listener, copies, cx)
        {
            lose(loss, cx);
        }
    }
    if found { Ok(()) } else { Err(NO_LISTENER) }
}

/// What becomes of a copy that has no way for a BIER header, for that `loss`: hosts get the payload.
#[inline(never)] // copies to routers don't carry this along
pub(super) fn without_way<D: Driver>(
    bier: &Bier,
    neighbour: &Neighbour,
    loss: Loss,
    inner: Inner,
    frame: &D::Frame,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) {
    let sent = match neighbour.reach {
        Reach::Hosts(link) => match bier.link(link) {
            Some(Link::Hosts { interface }) => to_hosts(*interface, frame, inner, copies, cx)
                .map(|made| cx.counters.bier.copies[link.0 as usize % LINKS_MAX].add(made)),
            _ => Err(loss),
        },
        _ => Err(loss),
    };
    if let Err(loss) = sent {
        lose(loss, cx);
    }
}

/// Sends the payload of a frame to a network of hosts; how many frames that makes.
fn to_hosts<D: Driver>(
    interface: InterfaceId,
    frame: &D::Frame,
    inner: Inner,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<u64, Loss> {
    let bytes = copies.payload_of(frame);
    let payload = match inner.proto {
        Proto::Ipv4 => ipv4_to_group(bytes),
        Proto::Ipv6 => ipv6_to_group(bytes),
        // The slowpath answers for them.
        Proto::Oam => return Ok(0),
        _ => return Err(Loss::UnknownProto),
    };
    let payload = payload.ok_or(Loss::BadPayload)?;
    let egress = cx.tables.interfaces.get(interface).ok_or(Loss::NoInterface)?;
    if cx.ports_down.has(egress.port) {
        return Err(Loss::LinkDown);
    }
    // They have heard from its source what entered there.
    if copies.entered_by() == Some(interface) {
        return Ok(0);
    }
    send(payload, egress, ethernet::of_group(payload.group), copies, cx)?;
    Ok(1)
}

/// What stands behind a label that is known: its own time to live was the way's, which ends here (RFC 3443 section 3.2, pipe model).
/// Labels that the ingress has given mean something with its number only (RFC 8296 §2.1.2).
fn labelled<'a>(bier: &Bier, inner: Inner, bytes: &'a [u8]) -> Result<Option<Payload<'a>>, Nobody> {
    const LAST: u32 = 1 << 8;
    let Some((entry, ip)) = bytes.split_first_chunk() else { return Ok(None) };
    let entry = u32::from_be_bytes(*entry);
    let of = match inner.proto {
        Proto::MplsUpstream => Some(inner.bfir_id.ok_or(UNKNOWN_LABEL)?),
        _ => None,
    };
    let behind = bier.behind(inner.sub_domain).ok_or(UNKNOWN_LABEL)?;
    if !behind.labels.contains(&(of, entry >> 12)) {
        return Err(UNKNOWN_LABEL);
    }
    Ok(match ip.first().map(|first| first >> 4) {
        Some(4) if entry & LAST != 0 => ipv4_to_group(ip),
        Some(6) if entry & LAST != 0 => ipv6_to_group(ip),
        _ => None,
    })
}

/// Sends a frame to the networks that are joined to the sub-domain.
fn bridge<D: Driver>(
    bier: &Bier,
    inner: Inner,
    bytes: &[u8],
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Nobody> {
    let behind = bier.behind(inner.sub_domain).filter(|behind| !behind.bridged.is_empty());
    let interfaces = &behind.ok_or(NO_LISTENER)?.bridged;
    if !is_bridged(bytes) {
        lose(Loss::BadPayload, cx);
        return Ok(());
    }
    for interface in interfaces {
        if let Err(loss) = send_as_it_is(bytes, *interface, copies, cx) {
            lose(loss, cx);
        }
    }
    Ok(())
}

/// Whether it is a frame that bridges pass on: those to 01-80-C2-00-00-00 to 0F end at the next one (IEEE 802.1Q 8.6.3).
fn is_bridged(bytes: &[u8]) -> bool {
    const RESERVED: [u8; 5] = [0x01, 0x80, 0xc2, 0x00, 0x00];
    bytes.len() > L3
        && !ethernet::is_group(ethernet::source(bytes))
        && !(bytes.starts_with(&RESERVED) && bytes[RESERVED.len()] <= 0x0f)
}

fn ipv4_to_group(bytes: &[u8]) -> Option<Payload<'_>> {
    let header = ipv4::parse(bytes, bytes.len(), true).ok()?;
    let bytes = &bytes[..header.total_len];
    let (source, group) = (header.source, header.destination);
    (ipv4::ttl(bytes) > 1 && group.v4_bytes()[0] >> 4 == 0xe).then_some(Payload {
        bytes,
        source,
        group,
        v4: true,
    })
}

fn ipv6_to_group(bytes: &[u8]) -> Option<Payload<'_>> {
    let header = ipv6::parse(bytes, bytes.len()).ok()?;
    let bytes = &bytes[..header.total_len];
    let (source, group) = (header.source, header.destination);
    (ipv6::hop_limit(bytes) > 1 && group.0 >> 120 == 0xff).then_some(Payload {
        bytes,
        source,
        group,
        v4: false,
    })
}

fn send_to<D: Driver>(
    payload: Payload<'_>,
    to: &Listener,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Loss> {
    let egress = cx.tables.interfaces.get(to.interface).ok_or(Loss::NoInterface)?;
    let mac = match to.next_hop {
        None => ethernet::of_group(payload.group),
        Some(hop) => cx.tables.neighbours.get(to.interface, hop).ok_or(Loss::NeighbourUnknown)?,
    };
    send(payload, egress, mac, copies, cx)
}

fn send<D: Driver>(
    payload: Payload<'_>,
    egress: &Interface,
    mac: Mac,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Loss> {
    if payload.bytes.len() > usize::from(egress.mtu) {
        return Err(Loss::TooBig);
    }
    let mut frame = empty(L3 + payload.bytes.len(), egress, copies)?;
    let (head, ip) = frame.bytes_mut().split_at_mut(L3);
    ethernet::set_addresses(head, mac, egress.mac);
    ethernet::set_ethertype(head, if payload.v4 { ethernet::IPV4 } else { ethernet::IPV6 });
    ip.copy_from_slice(payload.bytes);
    // Once at the BFIR, and once here: in between it was BIER's (RFC 8296 §2.1.1.1).
    match payload.v4 {
        true => ipv4::decrement_ttl(ip),
        false => ipv6::decrement_hop_limit(ip),
    }
    give(frame, egress, copies, cx)
}

fn send_as_it_is<D: Driver>(
    bytes: &[u8],
    interface: InterfaceId,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Loss> {
    let egress = cx.tables.interfaces.get(interface).ok_or(Loss::NoInterface)?;
    if bytes.len() - L3 > usize::from(egress.mtu) {
        return Err(Loss::TooBig);
    }
    let mut frame = empty(bytes.len(), egress, copies)?;
    frame.bytes_mut().copy_from_slice(bytes);
    give(frame, egress, copies, cx)
}

/// A frame of `len` bytes that will leave there.
fn empty<D: Driver>(
    len: usize,
    egress: &Interface,
    copies: &mut Copies<'_, '_, D>,
) -> Result<D::Frame, Loss> {
    let mut frame = copies.allocate(egress.port)?;
    if frame.extend(len) {
        return Ok(frame);
    }
    copies.free(frame);
    Err(Loss::NoBuffer)
}

fn give<D: Driver>(
    mut frame: D::Frame,
    egress: &Interface,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Loss> {
    if egress.vlan.is_some() && !tag(&mut frame, egress.tags()) {
        copies.free(frame);
        return Err(Loss::NoBuffer);
    }
    copies.give(frame, egress.port, cx);
    Ok(())
}

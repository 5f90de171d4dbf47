//! What was for us: the payload goes to those behind us that listen to its group (RFC 1112 §6.4, RFC 2464 §7).

use millrace_bier::header::Proto;

use super::copies::Copies;
use super::{Drop, Loss, lose};
use crate::addr::Addr;
use crate::driver::{Driver, Frame};
use crate::node::Context;
use crate::packet::{L3, tag};
use crate::tables::bier::Bier;
use crate::tables::interfaces::{InterfaceId, Mac};
use crate::wire::{ethernet, ipv4, ipv6};

/// An IP packet to a group.
#[derive(Clone, Copy)]
struct Payload<'a> {
    bytes: &'a [u8],
    source: Addr,
    group: Addr,
    v4: bool,
}

/// Sends the payload of a frame to whoever listens. Those on the link where it entered have heard it from its source.
///
/// # Errors
/// Why it can be sent to nobody: as the packet's drop, and as the loss of this copy where there are others.
pub(super) fn payload<D: Driver>(
    bier: &Bier,
    frame: &D::Frame,
    proto: Proto,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), (Drop, Loss)> {
    let bytes = copies.payload_of(frame);
    let payload = match proto {
        Proto::Ipv4 => ipv4_to_group(bytes),
        Proto::Ipv6 => ipv6_to_group(bytes),
        _ => return Err((Drop::UnknownProto, Loss::UnknownProto)),
    };
    let Some(payload) = payload else {
        lose(Loss::BadPayload, cx);
        return Ok(());
    };
    let listeners = bier.listeners.get(payload.group).iter().filter(|one| one.filter.passes(payload.source));
    let entered_by = copies.entered_by();
    let mut found = false;
    for listener in listeners {
        found = true;
        if entered_by != Some(listener.interface)
            && let Err(loss) = send(payload, listener.interface, copies, cx)
        {
            lose(loss, cx);
        }
    }
    if found { Ok(()) } else { Err((Drop::NoListener, Loss::NoListener)) }
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

fn send<D: Driver>(
    payload: Payload<'_>,
    interface: InterfaceId,
    copies: &mut Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Result<(), Loss> {
    let egress = cx.tables.interfaces.get(interface).ok_or(Loss::NoInterface)?;
    if payload.bytes.len() > usize::from(egress.mtu) {
        return Err(Loss::TooBig);
    }
    let mut frame = copies.allocate(egress.port)?;
    if !frame.extend(L3 + payload.bytes.len()) {
        copies.free(frame);
        return Err(Loss::NoBuffer);
    }
    let (head, ip) = frame.bytes_mut().split_at_mut(L3);
    ethernet::set_addresses(head, mac(payload.group), egress.mac);
    ethernet::set_ethertype(head, if payload.v4 { ethernet::IPV4 } else { ethernet::IPV6 });
    ip.copy_from_slice(payload.bytes);
    // Once at the BFIR, and once here: in between it was BIER's (RFC 8296 §2.1.1.1).
    match payload.v4 {
        true => ipv4::decrement_ttl(ip),
        false => ipv6::decrement_hop_limit(ip),
    }
    if egress.vlan.is_some() && !tag(&mut frame, egress.tags()) {
        copies.free(frame);
        return Err(Loss::NoBuffer);
    }
    copies.give(frame, egress.port, cx);
    Ok(())
}

/// The link-layer address of a group: the low 23 bits of an IPv4 one (RFC 1112 §6.4), the low 32 of an IPv6 one (RFC 2464
/// §7).
fn mac(group: Addr) -> Mac {
    if group.is_v4() {
        let [_, b, c, d] = group.v4_bytes();
        [0x01, 0x00, 0x5e, b & 0x7f, c, d]
    } else {
        let [a, b, c, d] = (group.0 as u32).to_be_bytes();
        [0x33, 0x33, a, b, c, d]
    }
}

//! Where multicast enters (BFIR, RFC 8279 §4.1): a header for each set of receivers, and through our own tables with each.

use millrace_bier::header::{Carriage, Header, Proto, len};
use millrace_bier::id::Bsl;
use millrace_bier::overlay::{Flow, Impose};

use super::copies::Copies;
use super::{Drop, Served, Table, replicate};
use crate::driver::{Driver, Frame};
use crate::node::Context;
use crate::packet::{BierPacket, L3, Meta, Network};
use crate::tables::bier::Bier;
use crate::wire::{ipv4, ipv6};

/// The flow of a packet to a group.
pub(in crate::node) fn flow_of(meta: &Meta) -> Flow {
    Flow { source: meta.source.to_ip(), group: meta.destination.to_ip() }
}

/// Sends a packet to all receivers of its flow.
pub(super) fn impose<'t, D: Driver>(
    bier: &'t Bier,
    packet: &mut BierPacket<D::Frame>,
    meta: &Meta,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    // It comes here because it has one.
    let impose = bier.overlay.get(flow_of(meta)).ok_or(Drop::NoRoute)?;
    // Anybody can write a source; and what we have sent to a link ourselves comes back from it by another router.
    let interface = packet.interface;
    if cx.tables.routes.lookup(meta.source).map(|hop| hop.interface) != Some(interface) {
        return Err(Drop::WrongInterface);
    }
    if fitting(bier, impose).is_some_and(|longest| meta.ip_len > longest) {
        return Err(Drop::PayloadTooBig);
    }
    let v4 = packet.network == Network::V4;
    take_hop(&mut packet.frame, v4)?;
    // Nothing that links padded goes along.
    packet.frame.truncate(L3 + usize::from(meta.ip_len));
    // The same for all packets of a flow, fragments too: they must not overtake each other (RFC 8296 §2.1.2).
    let hash = cx.hasher.hash_triple(meta.source, meta.destination, meta.protocol);
    let entropy = (hash >> 44) as u32;
    copies.begin_payload(interface);
    let (mut wrong, mut served) = (None, Served::Copied);
    for (key, words) in impose.packets() {
        let (Some(ingress), Some(bift_id)) = (bier.ingress(key.sub_domain), bier.plane.ours().id(key)) else {
            wrong = Some(Drop::NoIngress);
            continue;
        };
        let header = Header {
            carriage: Carriage::NonMpls,
            bift_id,
            tc: 0,
            ttl: ingress.ttl,
            entropy,
            oam: 0,
            dscp: 0,
            proto: if v4 { Proto::Ipv4 } else { Proto::Ipv6 },
            bfir_id: Some(ingress.bfir_id),
        };
        // The plane has no id without its table.
        let Some(bift) = bier.plane.get(key) else {
            wrong = Some(Drop::UnknownBift);
            continue;
        };
        copies.enter(&packet.frame, header.template(key.bsl), key.bsl, cx);
        // A hop more than copies shall have: this router takes one.
        let ttl = ingress.ttl.saturating_add(1);
        let table = Table::new(bier, key.sub_domain, bift, cx);
        match sized!(key.bsl, W => replicate_words::<W, D>(table, ttl, words, packet, copies, cx)) {
            Ok(Served::Copied) => {}
            Ok(other) => served = other,
            Err(reason) => wrong = Some(reason),
        }
    }
    match wrong {
        Some(reason) if !copies.any() && served == Served::Copied => Err(reason),
        _ => Ok(served),
    }
}

/// Does with a packet what its table says of these bits; one for each length.
fn replicate_words<'t, const W: usize, D: Driver>(
    table: Table<'t>,
    ttl: u8,
    words: &[u64],
    packet: &mut BierPacket<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    // As many as its table has, which the overlay made it for.
    let words = words.first_chunk().ok_or(Drop::BitStringCut)?;
    replicate::<W, D>(table, ttl, words, packet, copies, cx)
}

/// How long a packet of a flow that enters here may be, so that links carry it behind its header (BIER-MTU, RFC 8296 §3).
pub(super) fn longest(bier: &Bier, meta: &Meta) -> Option<u16> {
    fitting(bier, bier.overlay.get(flow_of(meta))?)
}

fn fitting(bier: &Bier, impose: &Impose) -> Option<u16> {
    let (key, _) = impose.packets().next()?;
    Some(bier.ingress(key.sub_domain)?.mtu.saturating_sub(len(key.bsl) as u16))
}

/// One hop less: the rest of its way to the receivers' routers is BIER's (RFC 8296 §2.1.1.1).
fn take_hop<F: Frame>(frame: &mut F, v4: bool) -> Result<(), Drop> {
    let ip = &mut frame.bytes_mut()[L3..];
    let hops = if v4 { ipv4::ttl(ip) } else { ipv6::hop_limit(ip) };
    if hops <= 1 {
        return Err(Drop::PayloadTtl);
    }
    match v4 {
        true => ipv4::decrement_ttl(ip),
        false => ipv6::decrement_hop_limit(ip),
    }
    Ok(())
}

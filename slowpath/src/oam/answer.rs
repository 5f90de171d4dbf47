//! What we answer to a request (section 4.5): whether its packet came right, who we are, and where it goes on.

use std::net::IpAddr;

use millrace_bier::bits::BitString;
use millrace_bier::oam::{
    Arrival, Echo, FIXED_LEN, Interface, OamError, ReplyMode, ReturnCode, SetBits, TimestampFormat, Tlv,
    Verdict, judge, ntp,
};

use super::{OamContext, Shown, Ways, addresses, back, room};

/// The reply to a request, as bytes, and how it is to be sent. `None` for none. A message that can't be parsed is a malformed
/// request.
pub(super) fn answer(
    shown: &Shown<'_>,
    request: Result<Echo, OamError>,
    context: OamContext<'_>,
) -> Option<(ReplyMode, Vec<u8>)> {
    let words = shown.words();
    let entropy = shown.view.entropy();
    let ways = Ways::of(context.tables, context.ports_down, shown.key, &words, entropy)?;
    let (request, verdict) = match request {
        Ok(request) => {
            let arrival = Arrival {
                key: shown.key,
                bits: &words,
                local: ways.local,
                others: ways.others,
                onward: !ways.ways.is_empty(),
                carriage: shown.carriage,
                addresses: &addresses(context),
            };
            let verdict = judge(&request, &arrival)?;
            (request, verdict)
        }
        Err(OamError { at, .. }) => {
            let request = Echo::salvage(shown.view.payload())?;
            (request, Verdict { code: ReturnCode::Malformed, pointer: u32::try_from(at).ok() })
        }
    };
    let mode = match request.reply_mode {
        ReplyMode::Bier => ReplyMode::Bier,
        ReplyMode::Udp => ReplyMode::Udp,
        _ => return None,
    };
    let mut reply = request.reply(verdict.code, TimestampFormat::Ntp, ntp(context.unix_nanos));
    reply.tlvs.push(Tlv::Incoming(SetBits::new(shown.key, BitString::from_words(&words))));
    reply.tlvs.push(Tlv::Ingress(ingress(shown, context)));
    reply.tlvs.extend(ways.ends.iter().take(ENDS_MAX).copied().map(Tlv::ResponderBfer));
    reply.tlvs.extend(context.names.own.map(Tlv::ResponderBfr));
    let back = back(context.tables.bier.as_ref()?, context.names, shown.key.sub_domain);
    let room = room(context.tables, mode, back.map_or(shown.key.bsl, |(_, bsl)| bsl));
    if let Some(pointer) = verdict.pointer {
        reply.tlvs.push(erroneous(&reply, pointer, shown.view.payload(), room));
    }
    let asks_for_ways = request.tlvs.iter().any(|tlv| matches!(tlv, Tlv::Mapping(_)));
    if asks_for_ways && matches!(verdict.code, ReturnCode::Forwarded | ReturnCode::OneBfer) {
        // As many as fit: a packet of a message can't be continued in another.
        let mut left = room.saturating_sub(reply.offset(reply.tlvs.len()));
        for way in &ways.ways {
            let tlv = Tlv::Mapping(way.mapping());
            let len = Echo { tlvs: vec![tlv.clone()], ..reply.clone() }.offset(1) - FIXED_LEN;
            let Some(rest) = left.checked_sub(len) else { break };
            (left, _) = (rest, reply.tlvs.push(tlv));
        }
    }
    let bytes = reply.emit().filter(|bytes| bytes.len() <= room)?;
    Some((mode, bytes))
}

/// Numbers that a reply names, so that there is room for the rest of it: more than an access switch has legs.
const ENDS_MAX: usize = 64;

/// What is wrong, with as much of the request as fits.
fn erroneous(reply: &Echo, pointer: u32, request: &[u8], room: usize) -> Tlv {
    const HEAD: usize = 8;
    let left = room.saturating_sub(reply.offset(reply.tlvs.len()) + HEAD);
    Tlv::Erroneous { pointer, request: request[..request.len().min(left)].to_vec() }
}

/// An address of the interface that the request came by, or its number.
fn ingress(shown: &Shown<'_>, context: OamContext<'_>) -> Interface {
    let interface = context.tables.interfaces.get(shown.interface);
    let addresses =
        || interface.into_iter().flat_map(|one| one.addresses.iter().map(|(addr, _)| addr.to_ip()));
    let v4 = addresses().find_map(|addr| match addr {
        IpAddr::V4(addr) => Some(Interface::V4(addr)),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses().find_map(|addr| match addr {
        IpAddr::V6(addr) if !addr.is_unicast_link_local() => Some(Interface::V6(addr)),
        _ => None,
    });
    v4.or(v6).unwrap_or(Interface::V4Unnumbered(u32::from(shown.interface.0)))
}

//! Content for our own hub, out of BIER: payloads of flows that a rule accepts go to the hub's thread.

use millrace_bier::header::Proto;

use super::copies::Copies;
use super::{Drop, Inner, Loss};
use crate::driver::Driver;
use crate::node::{Context, hub};
use crate::packet::Meta;
use crate::tables::InterfaceId;
use crate::wire::{UDP, be16, checksum, ipv4, ipv6, udp};

/// Hands the payload of a frame that is for us to the hub; `None` if the hub doesn't want its flow.
pub(super) fn payload<D: Driver>(
    inner: Inner,
    interface: InterfaceId,
    frame: &D::Frame,
    copies: &Copies<'_, '_, D>,
    cx: &Context<'_>,
) -> Option<Result<(), (Drop, Loss)>> {
    let tables = cx.tables.hub.as_ref()?;
    let bytes = copies.payload_of(frame);
    let (mut meta, l4, end) = read(bytes, inner.proto)?;
    let inlet = tables.content(meta.source, meta.destination)?;
    meta.interface = interface;
    let seen = datagram(&bytes[..end], l4, &mut meta).is_some_and(|data| {
        hub::put(inlet, &meta, Some((inner.sub_domain, inner.bfir_id)), data, cx).is_ok()
    });
    Some(if seen { Ok(()) } else { Err((Drop::HubUnseen, Loss::HubUnseen)) })
}

/// The addresses of a whole packet that carries UDP, where its UDP header begins, and where the packet ends.
fn read(bytes: &[u8], proto: Proto) -> Option<(Meta, usize, usize)> {
    let mut meta = Meta { protocol: UDP, ..Meta::default() };
    match proto {
        Proto::Ipv4 => {
            let header = ipv4::parse(bytes, bytes.len(), true).ok()?;
            (meta.source, meta.destination) = (header.source, header.destination);
            (header.protocol == UDP && !header.fragment).then_some((
                meta,
                header.header_len,
                header.total_len,
            ))
        }
        Proto::Ipv6 => {
            let header = ipv6::parse(bytes, bytes.len()).ok()?;
            (meta.source, meta.destination) = (header.source, header.destination);
            (header.next_header == UDP).then_some((meta, ipv6::HEADER, header.total_len))
        }
        _ => None,
    }
}

/// The data of the datagram behind an IP header, whose ports are noted; `None` if it is cut, or its checksum wrong.
fn datagram<'a>(packet: &'a [u8], l4: usize, meta: &mut Meta) -> Option<&'a [u8]> {
    let header = packet.get(l4..l4 + udp::HEADER)?;
    let len = usize::from(be16(header, udp::LENGTH));
    let whole = packet.get(l4..l4 + len)?;
    (meta.source_port, meta.destination_port) = (be16(header, 0), be16(header, 2));
    let right = match be16(header, udp::CHECKSUM) {
        // Without one, where the IP header has none either, nothing could be told (RFC 8200 section 8.1).
        0 => meta.source.is_v4(),
        _ => {
            let pseudo = checksum::pseudo_header(meta.source, meta.destination, UDP, len);
            checksum::fold(pseudo + checksum::sum(whole)) == 0xffff
        }
    };
    if right { whole.get(udp::HEADER..) } else { None }
}

//! What comes through a tunnel: BIER inside a packet to us, in UDP or behind IPv6. It is taken out of it, and is then as a
//! link would have brought it.
//!
//! Packets of anybody who isn't a neighbour are refused before anything of them is believed, and those with a checksum that
//! is wrong; one without passes over IPv6, too, for its ends know of each other (RFC 6935 §5, RFC 6936 §5).

use millrace_bier::header;

use super::Drop;
use crate::driver::{Frame, RxChecksum};
use crate::packet::{L3, Meta};
use crate::tables::bier::Bier;
use crate::wire::{UDP, be16, checksum, ethernet, udp};

/// Makes the packet inside the frame's own.
pub(super) fn unwrap<F: Frame>(bier: &Bier, frame: &mut F, meta: &Meta) -> Result<(), Drop> {
    if !bier.tunnels.has_peer(meta.source) {
        return Err(Drop::NotNeighbour);
    }
    let l4 = usize::from(meta.l4);
    let (start, end) = match meta.protocol {
        UDP => {
            // Both were read, and compared with the length of the packet.
            let len = usize::from(be16(frame.bytes(), l4 + udp::LENGTH));
            let addresses = (meta.source, meta.destination);
            if be16(frame.bytes(), l4 + udp::CHECKSUM) != 0 && !is_right(frame, addresses, l4, len) {
                return Err(Drop::Checksum);
            }
            (l4 + udp::HEADER, l4 + len)
        }
        _ => (l4, L3 + usize::from(meta.ip_len)),
    };
    // Nothing that links padded goes along, and they pad what is in one piece.
    frame.truncate(end);
    let away = start - L3;
    let bytes = frame.bytes_mut();
    if bytes.len() < start {
        return Err(Drop::FixedPartCut);
    }
    bytes.copy_within(..ethernet::HEADER, away);
    ethernet::set_ethertype(&mut bytes[away..], header::ETHERTYPE);
    frame.trim_front(away);
    Ok(())
}

/// Whether a UDP checksum is right.
fn is_right<F: Frame>(
    frame: &F,
    (source, destination): (crate::addr::Addr, crate::addr::Addr),
    l4: usize,
    len: usize,
) -> bool {
    match frame.l4_checksum() {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => frame.bytes().get(l4..l4 + len).is_some_and(|datagram| {
            let pseudo = checksum::pseudo_header(source, destination, UDP, len);
            checksum::fold(pseudo + checksum::sum(datagram)) == 0xffff
        }),
    }
}

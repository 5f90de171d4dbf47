//! BIER packets that begin in the slowpath.

use millrace_bier::header::{Carriage, ETHERTYPE, Header, Proto, len};
use millrace_bier::id::{BfrId, BiftKey};
use millrace_fastpath::packet::L3;
use millrace_fastpath::queue::PARCEL_BYTES_MAX;
use millrace_fastpath::tables::Bier;

/// What a packet's header says beside its bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) ttl: u8,
    pub(crate) entropy: u32,
    pub(crate) proto: Proto,
    pub(crate) bfir_id: Option<BfrId>,
}

/// A packet that a worker is to send, in an Ethernet frame to nobody yet. `None` if we have no such table, or it would be too long.
pub(crate) fn packet(
    bier: &Bier,
    key: BiftKey,
    words: &[u64],
    origin: Origin,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let bift_id = bier.plane.ours().id(key)?;
    bier.plane.get(key)?;
    let Origin { ttl, entropy, proto, bfir_id } = origin;
    let carriage = Carriage::NonMpls;
    let header = Header { carriage, bift_id, tc: 0, ttl, entropy, oam: 0, dscp: 0, proto, bfir_id };
    let mut frame = vec![0; L3 + len(key.bsl)];
    // If it is for ourselves, it comes back as it is.
    frame[L3 - size_of::<u16>()..L3].copy_from_slice(&ETHERTYPE.to_be_bytes());
    header.emit(key.bsl, words, &mut frame[L3..]).ok()?;
    frame.extend_from_slice(payload);
    (frame.len() <= PARCEL_BYTES_MAX).then_some(frame)
}

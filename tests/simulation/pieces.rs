//! Packets in pieces: cut by who sends them (RFC 791 §3.2, RFC 8200 §4.5), and put together again by who they are for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet};

use crate::wire::{IPV4_HEADER, IPV6_FRAGMENT, IPV6_HEADER, Piece, Read};

/// Cuts a packet without options or extension headers into fragments that carry at most `len` bytes, a multiple of eight.
pub(crate) fn cut(packet: &[u8], id: u32, len: usize) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let (header, data) = packet.split_at(if v4 { IPV4_HEADER } else { IPV6_HEADER });
    let count = data.len().div_ceil(len);
    let fragment = |(at, data): (usize, &[u8])| {
        let (offset, more) = (at * len, at + 1 < count);
        let mut packet = header.to_vec();
        if v4 {
            packet.extend_from_slice(data);
            let total = packet.len() as u16;
            let mut view = Ipv4Packet::new_unchecked(&mut packet[..]);
            view.set_total_len(total);
            view.set_ident(id as u16);
            view.clear_flags();
            view.set_more_frags(more);
            view.set_frag_offset(offset as u16);
            view.fill_checksum();
        } else {
            packet[4..6].copy_from_slice(&((IPV6_FRAGMENT + data.len()) as u16).to_be_bytes());
            let protocol = std::mem::replace(&mut packet[6], IpProtocol::Ipv6Frag.into());
            packet.extend_from_slice(&[protocol, 0]);
            packet.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
            packet.extend_from_slice(&id.to_be_bytes());
            packet.extend_from_slice(data);
        }
        packet
    };
    data.chunks(len).enumerate().map(fragment).collect()
}

/// What has come of packets that aren't whole yet. No two have the same identification within a seed, so nothing has to
/// be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Pieces(BTreeMap<(IpAddr, IpAddr, u32), Parts>);

#[derive(Debug, Default)]
struct Parts {
    by_offset: BTreeMap<usize, Vec<u8>>,
    len: Option<usize>,
}

impl Pieces {
    /// Takes a piece; the packet's data, if it is whole now.
    pub(crate) fn add(&mut self, read: &Read<'_>, piece: &Piece<'_>) -> Option<Vec<u8>> {
        let key = (read.source, read.destination, piece.id);
        let parts = self.0.entry(key).or_default();
        parts.by_offset.insert(piece.offset, piece.data.to_vec());
        if !piece.more {
            parts.len = Some(piece.offset + piece.data.len());
        }
        let len = parts.len?;
        let mut whole = Vec::new();
        for (offset, data) in &parts.by_offset {
            if *offset != whole.len() {
                return None;
            }
            whole.extend_from_slice(data);
        }
        (whole.len() == len).then(|| {
            self.0.remove(&key);
            whole
        })
    }
}

//! A TCP segment's header, owned: what the appliance reads of a handshake, and what it writes in its own name.

use super::options::{Options, be32};
use crate::addr::Addr;
use crate::wire::{TCP, be16, checksum, tcp};

/// The header's fields (RFC 9293 §3.1) but for the urgent pointer, which no handshake has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first byte (of the SYN, where there is one).
    pub sequence: u32,
    /// The byte that is expected next; meaningful with the ACK flag.
    pub acknowledgement: u32,
    /// Flags, as in [`tcp`].
    pub flags: u8,
    /// The window, not shifted.
    pub window: u16,
    /// The options that matter here.
    pub options: Options,
}

impl Head {
    /// Reads a header from its first byte on; `None` if `bytes` end before it does.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let options = bytes.get(tcp::HEADER..header_len(bytes)?)?;
        Some(Self {
            source_port: be16(bytes, 0),
            destination_port: be16(bytes, 2),
            sequence: be32(bytes, tcp::SEQUENCE),
            acknowledgement: be32(bytes, ACKNOWLEDGEMENT),
            flags: bytes[tcp::FLAGS],
            window: be16(bytes, WINDOW),
            options: Options::read(options),
        })
    }

    /// Whether all flags of `flags` are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Bytes of the header as it is written.
    pub fn written_len(&self) -> usize {
        tcp::HEADER + self.options.written_len()
    }

    /// Writes the header of a segment without data to the first [`Head::written_len`] bytes, checksum included.
    pub fn write(&self, bytes: &mut [u8], source: Addr, destination: Addr) {
        let len = self.written_len();
        let bytes = &mut bytes[..len];
        bytes[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.acknowledgement.to_be_bytes());
        bytes[12] = (len as u8 / 4) << 4;
        bytes[13] = self.flags;
        bytes[14..16].copy_from_slice(&self.window.to_be_bytes());
        bytes[16..20].copy_from_slice(&[0; 4]);
        self.options.write(&mut bytes[tcp::HEADER..]);
        let sum = checksum::pseudo_header(source, destination, TCP, len) + checksum::sum(bytes);
        bytes[16..18].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    }

    /// The reset that refuses the connection which this segment, with `data` bytes, belongs to (RFC 9293 §3.5.2): in the
    /// numbers that its sender accepts a reset by (RFC 5961 §3.2).
    pub fn reset(&self, data: u32) -> Self {
        let acks = self.has(tcp::ACK);
        let occupied = data + u32::from(self.has(tcp::SYN)) + u32::from(self.has(tcp::FIN));
        Self {
            source_port: self.destination_port,
            destination_port: self.source_port,
            sequence: if acks { self.acknowledgement } else { 0 },
            acknowledgement: if acks { 0 } else { self.sequence.wrapping_add(occupied) },
            flags: if acks { tcp::RST } else { tcp::RST | tcp::ACK },
            ..Self::default()
        }
    }
}

/// The length of the header that `bytes` begin with, by its own field; `None` if they end before the fixed part does or the
/// field is below that.
#[inline]
pub(super) fn header_len(bytes: &[u8]) -> Option<usize> {
    let len = usize::from(*bytes.get(12)? >> 4) * 4;
    (len >= tcp::HEADER && bytes.len() >= tcp::HEADER).then_some(len)
}

/// Offset of the acknowledgement number.
pub(super) const ACKNOWLEDGEMENT: usize = 8;
/// Offset of the window.
pub(super) const WINDOW: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_in_numbers_that_its_receiver_accepts() {
        let syn = Head {
            source_port: 1,
            destination_port: 2,
            sequence: u32::MAX,
            flags: tcp::SYN,
            ..Head::default()
        };
        let reset = syn.reset(0);
        assert_eq!((reset.sequence, reset.acknowledgement, reset.flags), (0, 0, tcp::RST | tcp::ACK));
        assert_eq!((reset.source_port, reset.destination_port), (2, 1));
        let data = Head { sequence: 10, acknowledgement: 77, flags: tcp::ACK | tcp::FIN, ..syn };
        let reset = data.reset(5);
        assert_eq!((reset.sequence, reset.acknowledgement, reset.flags), (77, 0, tcp::RST));
        assert_eq!(
            Head { flags: tcp::FIN, ..data }.reset(5).acknowledgement,
            16,
            "what it occupies is acknowledged"
        );
    }

    #[test]
    fn what_is_cut_is_not_read() {
        let head = Head { options: Options { mss: Some(1460), ..Options::default() }, ..Head::default() };
        let mut bytes = [0; 24];
        head.write(&mut bytes, Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2]));
        for cut in 0..24 {
            assert_eq!(Head::read(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(Head::read(&bytes), Some(head));
        bytes[12] = 4 << 4;
        assert_eq!(Head::read(&bytes), None, "a header below twenty bytes");
    }
}

//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

use crate::addr::Addr;

/// The one's complement sum of `bytes`; sums of even-length pieces can be added.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    u64::from(fold(native_sum(bytes)).to_be())
}

/// Whether `bytes` include their own right checksum.
#[inline(always)]
pub fn is_right(bytes: &[u8]) -> bool {
    fold(native_sum(bytes)) == 0xffff
}

/// The sum in the machine's own order of bytes, which is as good until it is written down (RFC 1071 §2 (B)): eight bytes at
/// a time, and no word has to be turned round.
#[inline(always)]
fn native_sum(bytes: &[u8]) -> u64 {
    let mut total = 0;
    let mut add = |word: u64| {
        let (sum, carry) = u64::overflowing_add(total, word);
        total = sum + u64::from(carry);
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
    let (words, rest) = rest.as_chunks::<4>();
    words.iter().for_each(|word| add(u64::from(u32::from_ne_bytes(*word))));
    let (pairs, rest) = rest.as_chunks::<2>();
    pairs.iter().for_each(|pair| add(u64::from(u16::from_ne_bytes(*pair))));
    rest.iter().for_each(|byte| add(u64::from(u16::from_ne_bytes([*byte, 0]))));
    total
}

/// Folds a sum to sixteen bits; 0xffff over data that includes its own right checksum.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) for `len` bytes of `protocol`.
#[inline]
pub fn pseudo_header(source: Addr, destination: Addr, protocol: u8, len: usize) -> u64 {
    let addresses = if source.is_v4() {
        u64::from(source.0 as u32) + u64::from(destination.0 as u32)
    } else {
        words(source).into_iter().chain(words(destination)).map(u64::from).sum()
    };
    addresses + u64::from(protocol) + len as u64
}

#[inline(always)]
fn words(addr: Addr) -> [u32; 4] {
    [96, 64, 32, 0].map(|shift| (addr.0 >> shift) as u32)
}

/// What replacing data changes: add up what is replaced, then apply to any checksum that covers it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// `old` becomes `new`, sixteen bits, aligned to an even offset.
    #[inline]
    pub fn replace16(&mut self, old: u16, new: u16) {
        self.0 += u64::from(!old) + u64::from(new);
    }

    /// An IPv4 address becomes another.
    #[inline]
    pub fn replace_v4(&mut self, old: Addr, new: Addr) {
        self.0 += u64::from(!(old.0 as u32)) + u64::from(new.0 as u32);
    }

    /// An IPv6 address becomes another.
    #[inline]
    pub fn replace_v6(&mut self, old: Addr, new: Addr) {
        for (old, new) in words(old).into_iter().zip(words(new)) {
            self.0 += u64::from(!old) + u64::from(new);
        }
    }

    /// Another change besides.
    #[inline]
    pub fn add(&mut self, other: Self) {
        self.0 += other.0;
    }

    /// The checksum after the change (RFC 1624, equation 3).
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(u64::from(!checksum) + self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    fn plain(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_sum(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(fold(sum(&bytes)) % 0xffff, plain(&bytes) % 0xffff);
            prop_assert_eq!(is_right(&bytes), plain(&bytes) == 0xffff);
        }

        #[test]
        fn incremental_equals_whole(
            mut bytes in prop::collection::vec(any::<u8>(), 40..=40),
            old4 in any::<[u8; 4]>(), new4 in any::<[u8; 4]>(),
            old6 in any::<[u8; 16]>(), new6 in any::<[u8; 16]>(), port in any::<u16>(),
        ) {
            bytes[0] |= 1; // a sum of nothing but zeros has two forms of zero
            bytes[4..8].copy_from_slice(&old4);
            bytes[8..24].copy_from_slice(&old6);
            let before = !fold(sum(&bytes));
            let mut delta = Delta::default();
            delta.replace_v4(Addr::v4(old4), Addr::v4(new4));
            delta.replace_v6(Addr::v6(old6), Addr::v6(new6));
            delta.replace16(u16::from_be_bytes([bytes[30], bytes[31]]), port);
            bytes[4..8].copy_from_slice(&new4);
            bytes[8..24].copy_from_slice(&new6);
            bytes[30..32].copy_from_slice(&port.to_be_bytes());
            prop_assert_eq!(delta.apply(before), !fold(sum(&bytes)));
        }
    }
}

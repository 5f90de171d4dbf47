//! Sums of segments times constants, where coding spends its time.
//!
//! The constants are taken apart into bits: `sum(c * x)` is, for each bit, the XOR of the segments whose constant has
//! it, and these eight are added up by Horner's rule. So that the inner loop is XOR of bytes, which compilers turn into
//! vector instructions; a table of products, one load for each byte, has about a fifth of the speed.

/// The sum of all terms, each a constant and a segment of at most `len` bytes.
pub(super) fn combine<'a>(terms: impl Iterator<Item = (u8, &'a [u8])>, len: usize) -> Vec<u8> {
    let mut planes = vec![0; 8 * len];
    for (constant, segment) in terms {
        for bit in 0..8 {
            if constant >> bit & 1 == 1 {
                xor(&mut planes[bit * len..][..segment.len()], segment);
            }
        }
    }
    let mut sum = planes[7 * len..].to_vec();
    for bit in (0..7).rev() {
        for (byte, plane) in sum.iter_mut().zip(&planes[bit * len..][..len]) {
            *byte = twice(*byte) ^ plane;
        }
    }
    sum
}

fn xor(into: &mut [u8], other: &[u8]) {
    for (byte, other) in into.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// Times α, without a branch.
fn twice(byte: u8) -> u8 {
    byte << 1 ^ 0x1d & 0u8.wrapping_sub(byte >> 7)
}

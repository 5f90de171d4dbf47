//! Systematic Reed-Solomon over GF(2^8) (RFC 5510 section 8), as NRL's NORM library codes and decodes FEC id 5.
//!
//! A block of `k` segments is, byte by byte, a polynomial of degree below `k`: source segment `i` is its value at the
//! point `p(i)`, parity segment `j` its value at `p(k + j)`. Any `k` values give the polynomial, and so all others, by
//! Lagrange's formula; no matrix has to be inverted.
//!
//! Three choices are NRL's, and its receivers decode nothing else:
//!
//! - The points are 0, then the powers of α: 0, 1, α, α² ... RFC 5510 section 8.2.1 has no 0. (`reed-solomon-erasure`, which the
//!   crate `flute` uses for this id, has the points 0, 1, 2, 3 ...; that is another code still.)
//! - The field is made by x⁸ + x⁴ + x³ + x² + 1, as in the RFC.
//! - A block with fewer segments than others is shortened: it is coded as if segments of zeros followed up to `k`.
//!
//! ```
//! use millrace_hub::rs::Code;
//!
//! let code = Code::new(4, 2).unwrap();
//! let block: [&[u8]; 3] = [b"one ", b"two ", b"4"]; // shortened; the last segment is cut
//! let parity: Vec<_> = (0..2).map(|row| code.parity(row, &block, 4)).collect();
//! let have = [(1, block[1]), (3, &parity[0]), (4, &parity[1])];
//! let lost = code.recover(3, &have, 4).unwrap();
//! assert_eq!(lost, [(0, b"one ".to_vec()), (2, b"4\0\0\0".to_vec())]);
//! ```

mod combine;
mod field;

use std::sync::OnceLock;

use combine::combine;
use field::{divide, multiply, point};

/// Source and parity segments of a block, together: as many as there are points, less one that NRL's library doesn't use.
pub const SEGMENTS_MAX: usize = 255;

/// The code of blocks with `k` source segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    k: u8,
    parity: u8,
}

/// A code that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// No source segment.
    #[error("a block has no source segment")]
    Empty,
    /// More than [`SEGMENTS_MAX`].
    #[error("a block has more than 255 segments")]
    TooLong,
}

/// Why a block can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Fewer different segments than the block has source segments.
    #[error("too few segments of the block are there")]
    TooFew,
    /// A number that no segment of the block has, or one longer than the length given.
    #[error("a segment isn't one of the block")]
    Foreign,
}

impl Code {
    /// `k` source segments, and as many of parity.
    ///
    /// # Errors
    /// [`Impossible`].
    pub fn new(k: u8, parity: u8) -> Result<Self, Impossible> {
        match (k, k.checked_add(parity)) {
            (0, _) => Err(Impossible::Empty),
            (_, None) => Err(Impossible::TooLong),
            _ => Ok(Self { k, parity }),
        }
    }

    /// Source segments of a whole block.
    #[must_use]
    pub fn k(self) -> u8 {
        self.k
    }

    /// Rows of parity.
    #[must_use]
    pub fn rows(self) -> u8 {
        self.parity
    }

    /// One parity segment, `len` bytes long, of a block of at most `k` segments; what is shorter counts as filled up with zeros.
    ///
    /// # Panics
    /// If there is no such row, or too many segments, or one longer than `len`.
    #[must_use]
    pub fn parity(self, row: u8, block: &[&[u8]], len: usize) -> Vec<u8> {
        assert!(row < self.parity && block.len() <= usize::from(self.k), "row {row} of {self:?}");
        let at = point(self.k + row);
        // Lagrange: every source point, those of the zeros as well, has its part in the weights.
        let weights = source_weights(self.k);
        let all = product((0..self.k).map(|i| at ^ point(i)));
        let term = |i: usize| divide(multiply(all, weights[i]), at ^ point(i as u8));
        combine(block.iter().enumerate().map(|(i, segment)| (term(i), *segment)), len)
    }

    /// The missing source segments of a block of `source` segments, each `len` bytes long, out of those that are there: pairs of
    /// number (source from 0, parity from `source` on) and bytes. Only as many are used as are needed, source first.
    ///
    /// # Errors
    /// [`Undecodable`]. Numbers that occur twice count once.
    pub fn recover(
        self,
        source: u8,
        have: &[(u8, &[u8])],
        len: usize,
    ) -> Result<Vec<(u8, Vec<u8>)>, Undecodable> {
        let last = u16::from(source) + u16::from(self.parity);
        let foreign = |(number, bytes): &(u8, &[u8])| u16::from(*number) >= last || bytes.len() > len;
        if source == 0 || source > self.k || have.iter().any(foreign) {
            return Err(Undecodable::Foreign);
        }
        let mut by_number: [Option<&[u8]>; SEGMENTS_MAX] = [None; SEGMENTS_MAX];
        for (number, bytes) in have {
            by_number[usize::from(*number)] = Some(bytes);
        }
        let there = |number: &u8| by_number[usize::from(*number)].is_some();
        let missing: Vec<u8> = (0..source).filter(|number| !there(number)).collect();
        let used: Vec<u8> = (0..last as u8).filter(there).take(source.into()).collect();
        if used.len() < usize::from(source) {
            return Err(Undecodable::TooFew);
        }
        // Points of what is there, then of the zeros that shorten the block.
        let place = |number: u8| point(if number < source { number } else { self.k - source + number });
        let base: Vec<u8> =
            used.iter().map(|number| place(*number)).chain((source..self.k).map(point)).collect();
        let weights = weights(&base);
        let recovered = missing.into_iter().map(|number| {
            let at = place(number);
            let all = product(base.iter().map(|p| at ^ p));
            let terms = used.iter().enumerate().filter_map(|(i, number)| {
                Some((divide(multiply(all, weights[i]), at ^ base[i]), by_number[usize::from(*number)]?))
            });
            (number, combine(terms, len))
        });
        Ok(recovered.collect())
    }
}

/// The weights of all source points, which every row of parity needs: computed once for each `k`.
fn source_weights(k: u8) -> &'static [u8] {
    static WEIGHTS: [OnceLock<Box<[u8]>>; SEGMENTS_MAX + 1] = [const { OnceLock::new() }; SEGMENTS_MAX + 1];
    WEIGHTS[usize::from(k)].get_or_init(|| weights(&(0..k).map(point).collect::<Vec<_>>()).into())
}

/// For each point: one by the product of its differences from all others.
fn weights(base: &[u8]) -> Vec<u8> {
    let differences =
        |i: usize| base.iter().enumerate().filter(move |(j, _)| *j != i).map(move |(_, p)| base[i] ^ p);
    (0..base.len()).map(|i| divide(1, product(differences(i)))).collect()
}

fn product(factors: impl Iterator<Item = u8>) -> u8 {
    factors.fold(1, multiply)
}

#[cfg(test)]
mod tests;

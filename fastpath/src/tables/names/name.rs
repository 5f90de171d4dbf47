//! Domain names as they travel and as they are compared.

use std::fmt;

use thiserror::Error;

/// A domain name in wire form, uncompressed, with its root label, folded to lower case (RFC 1035 section 3.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WireName(Box<[u8]>);

/// Why bytes aren't a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// No root label within the bytes or within [`NAME_WIRE_MAX`].
    #[error("the name has no end")]
    NoEnd,
    /// A length byte above [`LABEL_MAX`]: a compression pointer, or a type of label that was never standardised.
    #[error("a label is longer than {LABEL_MAX} bytes, or is a pointer")]
    Label,
    /// Bytes follow the root label.
    #[error("bytes follow the name")]
    Trailing,
}

/// Longest name, in bytes, with its length bytes and root (RFC 1035 section 2.3.4).
pub const NAME_WIRE_MAX: usize = 255;
/// Longest label, in bytes (RFC 1035 section 2.3.4).
pub const LABEL_MAX: usize = 63;

impl WireName {
    /// Takes a name in wire form and folds it.
    ///
    /// # Errors
    /// When the bytes aren't exactly one uncompressed name.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        match wire_len(wire)? {
            len if len == wire.len() => Ok(Self(wire.iter().map(|byte| fold(*byte)).collect())),
            _ => Err(NameError::Trailing),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this name is `apex` or lies below it.
    pub fn is_in(&self, apex: &WireName) -> bool {
        suffixes(&self.0).any(|suffix| *suffix == *apex.0)
    }
}

/// Length of the name that `bytes` start with, its root label included. No pointer is accepted, for none is needed in a
/// message's first question.
#[inline]
pub(crate) fn wire_len(bytes: &[u8]) -> Result<usize, NameError> {
    let mut at = 0;
    loop {
        match bytes.get(at) {
            Some(0) => return Ok(at + 1),
            Some(len) if usize::from(*len) > LABEL_MAX => return Err(NameError::Label),
            // One byte must be left for the root.
            Some(len) if at + usize::from(*len) + 2 <= NAME_WIRE_MAX => at += usize::from(*len) + 1,
            _ => return Err(NameError::NoEnd),
        }
    }
}

/// Folds one byte of a name: A to Z only (RFC 4343). Length bytes are below `A` and stay what they are, so that a whole
/// wire name can be folded byte by byte.
#[inline]
pub(crate) fn fold(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

/// The same for eight bytes, wherever they stand in the word.
#[inline(always)]
pub(crate) fn fold_word(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let low = word & !HIGH;
    // The high bit of each byte: whether it is at least `A`, and whether it is beyond `Z`.
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let beyond_z = low + ONES * (0x7f - b'Z' as u64);
    word | ((from_a ^ beyond_z) & !word & HIGH) >> 2
}

/// Words of a folded name, and then what is left of it: for who hashes or compares it without writing it down.
#[inline(always)]
pub(super) fn folded_words(name: &[u8]) -> (impl Iterator<Item = u64>, u64) {
    let (words, rest) = name.as_chunks::<8>();
    let last = match name.last_chunk::<8>() {
        // The last eight bytes, without those that were a word's already.
        Some(last) if !rest.is_empty() => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        Some(_) => 0,
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    (words.iter().map(|word| fold_word(u64::from_le_bytes(*word))), fold_word(last))
}

/// Whether `name` is `folded` but for the case of its letters.
#[inline(always)]
pub(super) fn eq_folded(name: &[u8], folded: &[u8]) -> bool {
    if name.len() != folded.len() {
        return false;
    }
    let (Some(last), Some(folded_last)) = (name.last_chunk::<8>(), folded.last_chunk::<8>()) else {
        return name.iter().map(|byte| fold(*byte)).eq(folded.iter().copied());
    };
    let is_same = |name: &[u8; 8], folded: &[u8; 8]| {
        fold_word(u64::from_ne_bytes(*name)) == u64::from_ne_bytes(*folded)
    };
    let (words, folded_words) = (name.as_chunks::<8>().0, folded.as_chunks::<8>().0);
    words.iter().zip(folded_words).all(|(name, folded)| is_same(name, folded)) && is_same(last, folded_last)
}

/// The name itself, its parent, and so on to the root.
pub(crate) fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(wire), |name| parent(name)).filter(|name| !name.is_empty())
}

/// The name without its first label; `None` for the root.
pub(crate) fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(len) => wire.get(usize::from(*len) + 1..),
    }
}

impl fmt::Display for WireName {
    /// Master-file form (RFC 1035 section 5.1), with its final dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_wire(&self.0, f)
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_wire(&self.0, f)
    }
}

fn fmt_wire(wire: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if wire == [0] {
        return f.write_str(".");
    }
    for name in suffixes(wire) {
        let Some((len, rest)) = name.split_first() else { break };
        for byte in rest.iter().take(usize::from(*len)) {
            match byte {
                b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' => write!(f, "\\{}", char::from(*byte))?,
                0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        if *len != 0 {
            f.write_str(".")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_are_folded_as_bytes_are(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let folded: Vec<u8> = bytes.iter().map(|byte| fold(*byte)).collect();
            let (words, rest) = folded_words(&bytes);
            let mut all: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            all.extend(&rest.to_le_bytes()[..bytes.len() % 8]);
            prop_assert_eq!(rest >> (8 * (bytes.len() % 8)), 0);
            prop_assert_eq!(&all, &folded);
            prop_assert!(eq_folded(&bytes, &folded));
            prop_assert!(!eq_folded(&bytes, &[&folded[..], &[0]].concat()));
            for at in 0..folded.len() {
                let mut other = folded.clone();
                other[at] ^= 1;
                prop_assert!(!eq_folded(&bytes, &other));
            }
        }
    }

    fn name(wire: &[u8]) -> WireName {
        WireName::from_wire(wire).unwrap()
    }

    #[test]
    fn only_a_to_z_is_folded() {
        let wire = b"\x0bA.b\0[@`{Z\xc3\x84\x00";
        assert_eq!(name(wire).as_bytes(), b"\x0ba.b\0[@`{z\xc3\x84\x00");
        assert_eq!(name(wire).to_string(), "a\\.b\\000[\\@`{z\\195\\132.");
        assert_eq!(name(b"\0").to_string(), ".");
    }

    #[test]
    fn limits_of_the_rfc_hold() {
        let mut wire = [[63_u8; 64]; 3].concat();
        wire.extend([[61_u8; 62].as_slice(), &[0]].concat());
        assert_eq!(wire.len(), NAME_WIRE_MAX);
        assert_eq!(wire_len(&wire), Ok(NAME_WIRE_MAX));
        wire[192] = 62;
        wire.insert(200, b'x');
        assert_eq!(wire_len(&wire), Err(NameError::NoEnd), "one byte too long");
        assert_eq!(wire_len(b"\x40"), Err(NameError::Label));
        assert_eq!(wire_len(b"\xc0\x0c"), Err(NameError::Label));
        assert_eq!(wire_len(b""), Err(NameError::NoEnd));
        assert_eq!(wire_len(b"\x03ab"), Err(NameError::NoEnd));
        assert_eq!(wire_len(b"\x02ab"), Err(NameError::NoEnd));
        assert_eq!(WireName::from_wire(b"\x01a\0\0"), Err(NameError::Trailing));
    }

    #[test]
    fn a_zone_contains_whole_labels_only() {
        let zone = name(b"\x02fn\x07example\0");
        assert!(zone.is_in(&zone) && name(b"\x01a\x02FN\x07example\0").is_in(&zone));
        assert!(!name(b"\x03xfn\x07example\0").is_in(&zone) && !name(b"\x07example\0").is_in(&zone));
        assert!(zone.is_in(&name(b"\0")));
    }
}

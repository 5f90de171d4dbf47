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
    use super::*;

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

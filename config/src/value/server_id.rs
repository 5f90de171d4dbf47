//! The id that a QUIC server is known by in the connection ids that it makes (QUIC-LB).

use std::fmt;
use std::str::FromStr;

use super::ValueError;
use crate::limits::QUIC_SERVER_ID_BYTES_MAX;

/// A server's id: `0x0102`. Its length counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    len: u8,
    bytes: [u8; QUIC_SERVER_ID_BYTES_MAX as usize],
}

impl ServerId {
    /// The id on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl FromStr for ServerId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |problem: &str| {
            ValueError::new(problem, "write `0x` and two hexadecimal digits a byte, as in `0x0102`")
        };
        let digits = text.strip_prefix("0x").ok_or_else(|| wrong("not a server id"))?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) || digits.len() % 2 == 1
        {
            return Err(wrong("not whole bytes in hexadecimal digits"));
        }
        let mut id = Self { len: 0, bytes: Default::default() };
        if digits.len() / 2 > id.bytes.len() {
            return Err(wrong("longer than a server id can be"));
        }
        id.len = (digits.len() / 2) as u8;
        for (at, byte) in id.bytes.iter_mut().take(digits.len() / 2).enumerate() {
            // Two digits, as was looked at above.
            *byte =
                u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| wrong("not a server id"))?;
        }
        Ok(id)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bytes_in_hexadecimal_digits() {
        let id: ServerId = "0x01Fe".parse().unwrap();
        assert_eq!((id.as_bytes(), id.to_string()), (&[1, 0xfe][..], "0x01fe".to_owned()));
        assert_ne!(Ok(id), "0x0001fe".parse(), "length counts");
        assert_eq!(format!("0x{}", "ab".repeat(15)).parse::<ServerId>().unwrap().as_bytes(), [0xab; 15]);
        for wrong in
            ["", "0x", "0x1", "0102", "0xzz", "0x+1", "0x 1", &format!("0x{}", "ab".repeat(16)), "0xé"]
        {
            assert!(wrong.parse::<ServerId>().is_err(), "{wrong}");
        }
    }
}

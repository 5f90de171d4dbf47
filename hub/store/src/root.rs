//! What content is called: the BLAKE3 hash of its bytes. Whoever has the name can tell whether the bytes are right.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The BLAKE3 hash of a whole content, as `b3sum` prints it: 32 bytes, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Root([u8; Root::LEN]);

impl Root {
    /// Bytes in a root.
    pub const LEN: usize = 32;

    /// A root from its bytes.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The root of these bytes.
    pub fn of(content: &[u8]) -> Self {
        Self(blake3::hash(content).into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Root {
    type Err = NotARoot;

    /// Exactly 64 digits in lower case: a root has one spelling, because it is a file's name too.
    fn from_str(text: &str) -> Result<Self, NotARoot> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotARoot);
        }
        blake3::Hash::from_hex(text).map(|hash| Self(hash.into())).map_err(|_| NotARoot)
    }
}

impl TryFrom<String> for Root {
    type Error = NotARoot;

    fn try_from(text: String) -> Result<Self, NotARoot> {
        text.parse()
    }
}

impl From<Root> for String {
    fn from(root: Root) -> Self {
        root.to_string()
    }
}

/// The text isn't 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a BLAKE3 root: 64 hexadecimal digits in lower case are")]
pub struct NotARoot;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_one_spelling() {
        let root = Root::of(b"");
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!((root.to_string().as_str(), text.parse()), (text, Ok(root)));
        for wrong in [&text[1..], &text.to_uppercase(), "", "../../etc/passwd", &text.replace('a', "g")] {
            assert_eq!(wrong.parse::<Root>(), Err(NotARoot));
        }
    }
}

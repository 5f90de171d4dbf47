//! What is sent, and who says so: name, size, root, version and group of nodes, signed with Ed25519 (RFC 8032).
//!
//! ```text
//!  "MRM1" │ flags │ size 8 │ root 32 │ version 8 │ len │ group │ len │ name │ key id 8 │ signature 64
//!           bit 0: signed                          1            1            └─ if signed ─┘
//! ```
//!
//! Big-endian, no padding, nothing after it: a manifest has one encoding. The signature covers all before it, and the
//! first four bytes, which no other signed message of ours begins with. It has at most [`LEN_MAX`] bytes, so that it
//! travels in one NORM_INFO (RFC 5740 §4.2.2) beside the segments' 1400 bytes.
//!
//! It carries the root and not the list of groups' hashes: that list grows with the content (51 KB for 100 MB). A hub
//! that has the list (see [`Store::learn`](crate::Store::learn)) verifies each group as it arrives; without it, the
//! content is verified as a whole when all of it has arrived, and each group from then on.

use crate::keys::{KeyId, SigningKey, Trust};
use crate::root::Root;
use crate::tree;

/// What a content is, as its source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What the content is called; the file's name at the nodes. See [`Label::name`].
    pub name: Label,
    /// Which nodes it is for, by type; empty for all of them.
    pub group: Label,
    /// Grows with each new content of this name in this group.
    pub version: u64,
    /// Bytes of the content.
    pub size: u64,
    /// Hash of the content.
    pub root: Root,
}

/// A description whose signature has been checked, with its encoding. The only way to get one is [`Trust::check`] or
/// [`Manifest::sign`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    description: Description,
    bytes: Vec<u8>,
    signed_by: Option<KeyId>,
}

/// Why bytes aren't a manifest that this hub accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It doesn't begin with `MRM1`.
    #[error("not a manifest")]
    Magic,
    /// It ends before its last field, or goes on after it.
    #[error("a manifest of the wrong length")]
    Length,
    /// A flag that this version doesn't know.
    #[error("a manifest with unknown flags")]
    Flags,
    /// The name or the group isn't one.
    #[error("a manifest with a name or a group that can't be one")]
    Label,
    /// More bytes than a store holds.
    #[error("a manifest of a content larger than {} bytes", tree::SIZE_MAX)]
    Size,
    /// No signature, where one is wanted.
    #[error("a manifest without a signature")]
    Unsigned,
    /// Signed by a key that isn't trusted.
    #[error("a manifest signed by a key that isn't trusted")]
    Key,
    /// The signature isn't the key's.
    #[error("a manifest with a wrong signature")]
    Signature,
}

impl Manifest {
    /// What it says.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its encoding, as it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which key signed it.
    pub fn signed_by(&self) -> Option<KeyId> {
        self.signed_by
    }

    /// Describes a content, signed by a key if there is one.
    pub fn sign(description: Description, key: Option<&SigningKey>) -> Self {
        let mut bytes = description.emit(key.is_some());
        if let Some(key) = key {
            bytes.extend(key.id().0);
            let signature = key.sign(&bytes);
            bytes.extend(signature);
        }
        Self { description, bytes, signed_by: key.map(SigningKey::id) }
    }

    /// Reads a manifest that this store checked before it wrote it into its ledger.
    pub(crate) fn trusted(bytes: &[u8]) -> Result<Self, ManifestError> {
        let parsed = Parsed::parse(bytes)?;
        let signed_by = parsed.signature.map(|(key, _)| key);
        Ok(Self { description: parsed.description, bytes: bytes.to_vec(), signed_by })
    }
}

impl Trust {
    /// Reads a manifest and checks its signature.
    ///
    /// # Errors
    ///
    /// It isn't a manifest, or nobody who is trusted signed it.
    pub fn check(&self, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let parsed = Parsed::parse(bytes)?;
        let signed_by = match (parsed.signature, self) {
            (Some((id, signature)), Self::Keys(keys)) => {
                let key = keys.get(&id).ok_or(ManifestError::Key)?;
                key.verify(parsed.signed, signature).map_err(|_| ManifestError::Signature)?;
                Some(id)
            }
            (None, Self::Keys(_)) => return Err(ManifestError::Unsigned),
            (signature, Self::Anybody) => signature.map(|(id, _)| id),
        };
        Ok(Manifest { description: parsed.description, bytes: bytes.to_vec(), signed_by })
    }
}

/// A manifest's fields, nothing checked but their form.
struct Parsed<'a> {
    description: Description,
    /// What the signature covers.
    signed: &'a [u8],
    signature: Option<(KeyId, &'a [u8; 64])>,
}

impl<'a> Parsed<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(ManifestError::Magic)?;
        let [flags] = take(&mut rest)?;
        if *flags & !SIGNED != 0 {
            return Err(ManifestError::Flags);
        }
        let size = u64::from_be_bytes(*take(&mut rest)?);
        if size > tree::SIZE_MAX {
            return Err(ManifestError::Size);
        }
        let root = Root::new(*take(&mut rest)?);
        let version = u64::from_be_bytes(*take(&mut rest)?);
        let group = Label::group(label(&mut rest)?).ok_or(ManifestError::Label)?;
        let name = Label::name(label(&mut rest)?).ok_or(ManifestError::Label)?;
        let signature = match flags & SIGNED {
            0 => None,
            _ => Some((KeyId(*take(&mut rest)?), &bytes[..bytes.len() - rest.len()], take(&mut rest)?)),
        };
        if !rest.is_empty() {
            return Err(ManifestError::Length);
        }
        Ok(Self {
            description: Description { name, group, version, size, root },
            signed: signature.map_or(bytes, |(_, signed, _)| signed),
            signature: signature.map(|(key, _, signature)| (key, signature)),
        })
    }
}

impl Description {
    fn emit(&self, signed: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LEN_MAX);
        bytes.extend(MAGIC);
        bytes.push(if signed { SIGNED } else { 0 });
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(self.root.as_bytes());
        bytes.extend(self.version.to_be_bytes());
        for label in [&self.group, &self.name] {
            bytes.push(label.0.len() as u8);
            bytes.extend(label.0.as_bytes());
        }
        bytes
    }
}

/// A name that is safe wherever it is printed or made into a path: no separators, no control characters, at most
/// [`Label::LEN_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Label(String);

impl Label {
    /// Bytes of the longest; what Linux takes as a file's name, less an ending of ours.
    pub const LEN_MAX: usize = 240;

    /// A content's name: what can be a file's name, without a dot in front.
    pub fn name(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::group(text)).flatten()
    }

    /// A group of nodes: as a name, or empty for all nodes.
    pub fn group(text: &str) -> Option<Self> {
        let bad = |character: char| character.is_control() || matches!(character, '/' | '\\');
        (text.len() <= Self::LEN_MAX && !text.starts_with('.') && !text.contains(bad))
            .then(|| Self(text.to_owned()))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], ManifestError> {
    let (taken, left) = rest.split_first_chunk().ok_or(ManifestError::Length)?;
    *rest = left;
    Ok(taken)
}

fn label<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ManifestError> {
    let [length] = take(rest)?;
    let (taken, left) = rest.split_at_checked(usize::from(*length)).ok_or(ManifestError::Length)?;
    *rest = left;
    std::str::from_utf8(taken).map_err(|_| ManifestError::Label)
}

const MAGIC: &[u8; 4] = b"MRM1";
const SIGNED: u8 = 1;
/// Bytes of the longest manifest.
pub const LEN_MAX: usize = 4 + 1 + 8 + 32 + 8 + 2 * (1 + Label::LEN_MAX) + 8 + 64;
const _: () = assert!(LEN_MAX <= 1400);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keys::tests::{key, other_key};

    pub(crate) fn description(name: &str, version: u64, content: &[u8]) -> Description {
        let label = |text| Label::name(text).unwrap();
        let group = Label::group("").unwrap();
        Description { name: label(name), group, version, size: content.len() as u64, root: Root::of(content) }
    }

    #[test]
    fn what_is_signed_is_read_and_checked() {
        let what = description("firmware.bin", 7, b"bytes");
        let manifest = Manifest::sign(what.clone(), Some(&key()));
        let trust = Trust::Keys([key().public()].into_iter().collect());
        let read = trust.check(manifest.as_bytes()).unwrap();
        assert_eq!((&read, read.description(), read.signed_by()), (&manifest, &what, Some(key().id())));
        assert_eq!(Manifest::trusted(manifest.as_bytes()), Ok(manifest));
    }

    #[test]
    fn every_changed_byte_and_every_other_length_is_refused() {
        let manifest = Manifest::sign(description("a", 1, b""), Some(&key()));
        let bytes = manifest.as_bytes();
        let trust = Trust::Keys([key().public()].into_iter().collect());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                assert!(trust.check(&changed).is_err(), "bit {bit} of byte {at}");
            }
            assert!(trust.check(&bytes[..at]).is_err());
        }
        assert_eq!(trust.check(&[bytes, b"x"].concat()), Err(ManifestError::Length));
    }

    #[test]
    fn a_stranger_and_nobody_are_refused_where_keys_are_set() {
        let trust = Trust::Keys([key().public()].into_iter().collect());
        let what = description("a", 1, b"");
        let other = other_key();
        let signed = |key| Manifest::sign(what.clone(), key);
        assert_eq!(trust.check(signed(Some(&other)).as_bytes()), Err(ManifestError::Key));
        assert_eq!(trust.check(signed(None).as_bytes()), Err(ManifestError::Unsigned));
        assert_eq!(Trust::Anybody.check(signed(None).as_bytes()), Ok(signed(None)));
        // A key's id in front of another's signature.
        let mut mixed = signed(Some(&other)).as_bytes().to_vec();
        let at = mixed.len() - 72;
        mixed[at..at + 8].copy_from_slice(&key().id().0);
        assert_eq!(trust.check(&mixed), Err(ManifestError::Signature));
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_none() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(241)] {
            assert_eq!(Label::name(bad), None, "{bad:?}");
        }
        for good in ["a", "café image v2.bin", &"x".repeat(240)] {
            assert_eq!(Label::name(good).unwrap().as_str(), good);
        }
        assert!(Label::group("").is_some());
    }
}

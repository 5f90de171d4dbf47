//! Keys of manifests: whose signatures are believed, and the key that signs what is taken in here. They are files as
//! OpenSSL writes them:
//!
//! ```text
//! openssl genpkey -algorithm ed25519 -out site.key              PKCS #8, "PRIVATE KEY"
//! openssl pkey -in site.key -pubout -out site.pub               SubjectPublicKeyInfo (RFC 8410), "PUBLIC KEY"
//! ```

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ring::error::Unspecified;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// Whom manifests are believed from.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Anybody, signed or not: for sites whose content arrives on links that are trusted.
    Anybody,
    /// Holders of these keys. During a change of keys, both the old one and the new one are here.
    Keys(Keys),
}

/// Public keys by their id.
#[derive(Debug, Clone, Default)]
pub struct Keys(HashMap<KeyId, PublicKey>);

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

/// A key that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The first bytes of a public key's BLAKE3 hash: they find the key, and prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

/// Why a file isn't a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can't be read, or isn't PEM with such a part.
    #[error("{0}: {1}")]
    Pem(PathBuf, #[source] rustls_pki_types::pem::Error),
    /// A key of another kind.
    #[error("{0}: not an Ed25519 key")]
    Kind(PathBuf),
}

impl Keys {
    /// Reads files with one public key each.
    ///
    /// # Errors
    ///
    /// A file isn't an Ed25519 public key.
    pub fn load(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self, KeyError> {
        files.into_iter().map(|file| PublicKey::load(file.as_ref())).collect()
    }

    /// The key with this id.
    pub fn get(&self, id: &KeyId) -> Option<&PublicKey> {
        self.0.get(id)
    }
}

impl FromIterator<PublicKey> for Keys {
    fn from_iter<T: IntoIterator<Item = PublicKey>>(keys: T) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), key)).collect())
    }
}

impl SigningKey {
    /// Reads a private key's file.
    ///
    /// # Errors
    ///
    /// It isn't an Ed25519 private key.
    pub fn load(file: &Path) -> Result<Self, KeyError> {
        let der =
            PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| KeyError::Pem(file.to_owned(), error))?;
        // OpenSSL writes version 1 of PKCS #8, without the public half.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(Self).map_err(|_| KeyError::Kind(file.to_owned()))
    }

    /// The half that others may have.
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(bytes.try_into().expect("Ed25519 public keys have 32 bytes"))
    }

    /// Its public half's id.
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().expect("Ed25519 signatures have 64 bytes")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.id()).finish()
    }
}

impl PublicKey {
    /// Reads a public key's file.
    ///
    /// # Errors
    ///
    /// It isn't an Ed25519 public key.
    pub fn load(file: &Path) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_file(file)
            .map_err(|error| KeyError::Pem(file.to_owned(), error))?;
        let key = der.strip_prefix(&ED25519_INFO).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| KeyError::Kind(file.to_owned()))
    }

    /// The key with these bytes (RFC 8032 §5.1.5).
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        let hash = blake3::hash(&self.0);
        KeyId(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), Unspecified> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature)
    }
}

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410 §4): two sequences, the
/// algorithm's number 1.3.101.112, a bit string.
const ED25519_INFO: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> SigningKey {
        SigningKey(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap())
    }

    pub(crate) fn other_key() -> SigningKey {
        SigningKey(Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap())
    }

    fn openssl(arguments: &[&str], folder: &Path) {
        let output =
            std::process::Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn keys_that_openssl_made_sign_and_verify() {
        let folder = tempfile::tempdir().unwrap();
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", "a.key"], folder.path());
        openssl(&["pkey", "-in", "a.key", "-pubout", "-out", "a.pub"], folder.path());
        let key = SigningKey::load(&folder.path().join("a.key")).unwrap();
        let public = PublicKey::load(&folder.path().join("a.pub")).unwrap();
        assert_eq!(key.public(), public);
        assert!(public.verify(b"message", &key.sign(b"message")).is_ok());
        assert!(public.verify(b"another", &key.sign(b"message")).is_err());
        assert!(other_key().public().verify(b"message", &key.sign(b"message")).is_err());
        // And OpenSSL takes our signatures.
        std::fs::write(folder.path().join("message"), b"message").unwrap();
        std::fs::write(folder.path().join("signature"), key.sign(b"message")).unwrap();
        let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "a.pub", "-rawin", "-in", "message"];
        openssl(&[&verify[..], &["-sigfile", "signature"]].concat(), folder.path());
    }

    #[test]
    fn other_keys_and_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        openssl(&["genpkey", "-algorithm", "x25519", "-out", "x.key"], folder.path());
        openssl(&["pkey", "-in", "x.key", "-pubout", "-out", "x.pub"], folder.path());
        std::fs::write(path("text"), "no key").unwrap();
        assert!(matches!(SigningKey::load(&path("x.key")), Err(KeyError::Kind(_))));
        assert!(matches!(PublicKey::load(&path("x.pub")), Err(KeyError::Kind(_))));
        assert!(matches!(PublicKey::load(&path("x.key")), Err(KeyError::Pem(..))));
        assert!(matches!(Keys::load([path("text")]), Err(KeyError::Pem(..))));
        assert!(matches!(Keys::load([path("none")]), Err(KeyError::Pem(..))));
    }
}

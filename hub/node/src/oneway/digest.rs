//! The hash that tables of FLUTE name files by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

/// An MD5 in the making (Content-MD5, RFC 6726 section 3.4.2): it tells a damaged file, not a forged one.
#[derive(Clone, Debug, Default)]
pub struct FileDigest(Md5);

impl FileDigest {
    /// More of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// All came: the hash, in base 64.
    #[must_use]
    pub fn finish(self) -> String {
        STANDARD.encode(self.0.finalize())
    }
}

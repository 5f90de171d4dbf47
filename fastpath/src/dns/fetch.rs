//! Look-ups of a vector of queries, their cache misses side by side.

use super::message::HEADER_LEN;
use crate::driver::Frame;
use crate::tables::Names;
use crate::tables::names::wire_len;

/// The name that a query asks for, hashed for the table that it will be looked up in.
///
/// In a large table a look-up waits for memory twice, for the index and for the name. One query after the other, those
/// waits add up. So a vector of queries takes each step together: all are hashed, and the index asked for; then all names
/// are; then each is answered, by the hash that it has already.
#[derive(Clone, Copy, Debug)]
pub struct Asked(Option<(u64, usize)>);

impl Asked {
    /// Nothing that could be looked up ahead.
    pub const NOTHING: Self = Self(None);

    /// Hashes the name that a message asks for, and asks memory for the way there. Of what isn't a query nothing is known.
    #[inline(always)]
    pub fn new<F: Frame>(names: &Names, message: &[u8]) -> Self {
        let name = message.get(HEADER_LEN..).and_then(|bytes| bytes.get(..wire_len(bytes).ok()?));
        let Some(name) = name else { return Self::NOTHING };
        let hash = names.hash(name);
        names.prefetch_index::<F>(hash);
        Self(Some((hash, name.len())))
    }

    /// Asks memory for the name.
    #[inline(always)]
    pub fn fetch<F: Frame>(self, names: &Names) {
        if let Some((hash, _)) = self.0 {
            names.prefetch_node::<F>(hash);
        }
    }

    /// The hash of `name`, which is the one that was asked for.
    #[inline(always)]
    pub(super) fn hash(self, names: &Names, name: &[u8]) -> u64 {
        debug_assert!(self.0.is_none_or(|(hash, _)| hash == names.hash(name)), "of the same query and table");
        self.0.map_or_else(|| names.hash(name), |(hash, _)| hash)
    }

    /// The length of the name, if it has been looked at.
    #[inline(always)]
    pub(super) fn name_len(self) -> Option<usize> {
        self.0.map(|(_, name_len)| name_len)
    }
}

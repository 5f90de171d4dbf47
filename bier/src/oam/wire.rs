//! Reading and writing in network order.

use alloc::vec::Vec;

use super::{OamError, Wrong};

/// Bytes, and where in the message they are.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// An error here.
    pub(super) fn wrong<T>(&self, what: Wrong) -> Result<T, OamError> {
        Err(OamError { at: self.at, what })
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], OamError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else { return self.wrong(Wrong::Cut) };
        (self.bytes, self.at) = (rest, self.at + count);
        Ok(taken)
    }

    /// All bytes that are left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.at += self.bytes.len();
        core::mem::take(&mut self.bytes)
    }

    /// The next bytes, to be read on their own.
    pub(super) fn part(&mut self, count: usize) -> Result<Self, OamError> {
        let at = self.at;
        Ok(Self { bytes: self.take(count)?, at })
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], OamError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many as were asked for"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, OamError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, OamError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, OamError> {
        self.array().map(u64::from_be_bytes)
    }

    /// That nothing is left.
    pub(super) fn end(&self) -> Result<(), OamError> {
        if self.is_empty() { Ok(()) } else { self.wrong(Wrong::TlvLength) }
    }
}

/// Bytes as they are written.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// A length of 16 bits, and what it is the length of; `None` if that is too long.
    pub(super) fn sized(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let at = self.0.len();
        self.u16(0);
        write(self)?;
        let length = u16::try_from(self.0.len() - at - 2).ok()?;
        self.0[at..at + 2].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

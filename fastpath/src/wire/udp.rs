//! The UDP header (RFC 768): source port, destination port, length, checksum.

/// Length of the header.
pub const HEADER: usize = 8;
/// Offset of the length, of header and data.
pub const LENGTH: usize = 4;
/// Offset of the checksum.
pub const CHECKSUM: usize = 6;

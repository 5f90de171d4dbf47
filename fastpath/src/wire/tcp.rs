//! The TCP header (RFC 9293 §3.1), as far as workers read it.
//!
//! ```text
//!  0  source port   2  destination port   4  sequence   8  acknowledgement   12 offset   13 flags   14 window   16 checksum
//! ```

/// Length of the header without options.
pub const HEADER: usize = 20;
/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;
/// Offset of the flags.
pub const FLAGS: usize = 13;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

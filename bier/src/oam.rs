//! BIER ping and trace: echo requests and replies, after `draft-ietf-bier-ping-23` (May 2026; not yet an RFC).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |  Ver  |   Echo Type   |   Proto   |         Reserved          |   after a BIER header with Proto 5, or in UDP
//! |                     length of all, in bytes                   |
//! |  QTF  |  RTF  |  Reply Mode   |  Return Code  |   Reserved    |
//! |      Sender's Handle, Sequence Number, Timestamp Sent (8), Timestamp Received (8), TLVs ...
//! ```
//!
//! The draft draws its first word twice: with 6 bits of message type in figure 1, and as above in figure 2, which is
//! that of echo messages and agrees with the lengths that its text gives; figure 2 it is. BS Len of TLVs is taken for
//! the code of RFC 8296.
//!
//! This is for the control plane, which may allocate. [`judge()`] tells what to answer.

mod judge;
mod tlv;
mod wire;

pub use judge::{Arrival, Verdict, judge};
pub use tlv::{Downstream, Interface, Mapping, SetBits, SubTlv, Tlv};

use alloc::vec::Vec;

use wire::{Reader, Writer};

/// The version of the OAM header.
const VERSION: u8 = 1;
/// Length of a message without TLVs, in bytes.
pub const FIXED_LEN: usize = 36;
/// Where replies over UDP are sent to. The draft leaves the number to IANA (TBD1, section 5.1); until there is one, this
/// stands beside the 8138 that BIER over UDP commonly has.
pub const UDP_PORT: u16 = 8139;

/// A time in nanoseconds since 1970 as NTP writes it: seconds since 1900 and a 32-bit fraction (RFC 5905 section 6).
#[must_use]
pub fn ntp(unix_nanos: u64) -> u64 {
    const FROM_1900_TO_1970: u64 = 2_208_988_800;
    let (seconds, nanos) = (unix_nanos / 1_000_000_000, unix_nanos % 1_000_000_000);
    // The seconds wrap in 2036, with the era.
    ((seconds + FROM_1900_TO_1970) << 32) | ((nanos << 32) / 1_000_000_000)
}

/// Whether one asks or answers (table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1: an echo request.
    Request,
    /// 2: an echo reply.
    Reply,
}

/// A field that has some known values; the others are kept as they are.
macro_rules! values {
    ($(#[$of_all:meta])* $name:ident { $($(#[$of_one:meta])* $value:ident = $code:literal),+ $(,)? }) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of_one])* $value,)+
            /// Any other value.
            Other(u8),
        }

        impl From<u8> for $name {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$value,)+
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$value => $code,)+
                    $name::Other(code) => code,
                }
            }
        }
    };
}

values! {
    /// What timestamps are (QTF and RTF), 4 bits.
    TimestampFormat {
        /// None; so RTF of requests.
        None = 0,
        /// NTP, 64 bits (RFC 5905).
        Ntp = 2,
        /// PTP, truncated to 64 bits (IEEE 1588).
        Ptp = 3,
    }
}

values! {
    /// How to reply (table 2).
    ReplyMode {
        /// Not at all.
        None = 1,
        /// In IP and UDP.
        Udp = 2,
        /// In BIER.
        Bier = 3,
    }
}

values! {
    /// What the replying router says (table 3).
    ReturnCode {
        /// Nothing; so requests.
        None = 0,
        /// The request was malformed.
        Malformed = 1,
        /// A TLV isn't supported.
        UnsupportedTlv = 2,
        /// It is the only BFER in the bit string.
        OnlyBfer = 3,
        /// It is a BFER, and there are others.
        OneBfer = 4,
        /// It isn't a BFER, and sends the packet on.
        Forwarded = 5,
        /// Multipath information was asked for more than one BFER.
        InvalidMultipath = 6,
        /// It has no way to any of the bits.
        NoEntry = 8,
        /// The BIFT-id isn't that of the set of the request.
        SetMismatch = 9,
        /// The bit string came otherwise than the router before had said.
        MappingMismatch = 10,
    }
}

/// An echo request or reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Which.
    pub kind: Kind,
    /// The format of `sent`.
    pub sent_format: TimestampFormat,
    /// The format of `received`.
    pub received_format: TimestampFormat,
    /// How to reply.
    pub reply_mode: ReplyMode,
    /// In replies, what the router says.
    pub return_code: ReturnCode,
    /// The sender's; replies repeat it.
    pub handle: u32,
    /// The sender's; replies repeat it.
    pub sequence: u32,
    /// When the request was sent.
    pub sent: u64,
    /// When the request was received.
    pub received: u64,
    /// The rest.
    pub tlvs: Vec<Tlv>,
}

/// Why bytes aren't an echo message, and where, in bytes from its start: for the pointer of [`Tlv::Erroneous`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct OamError {
    /// Where.
    pub at: usize,
    /// What.
    pub what: Wrong,
}

/// What can be wrong with an echo message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It ends too early.
    #[error("the message is cut")]
    Cut,
    /// Another version.
    #[error("the version is unknown")]
    Version,
    /// Neither a request nor a reply.
    #[error("the type of message is unknown")]
    Type,
    /// Something follows that echo messages don't have (section 3.2: Proto must be 0).
    #[error("another packet follows")]
    Proto,
    /// The length isn't that of a message, or more than there is.
    #[error("the length is wrong")]
    Length,
    /// A TLV isn't as long as its type has it.
    #[error("the length of a TLV is wrong")]
    TlvLength,
    /// A value that the type of TLV doesn't have.
    #[error("a value in a TLV is wrong")]
    TlvValue,
}

impl Echo {
    /// Reads a message; what comes after its length is ignored.
    ///
    /// # Errors
    /// If it isn't one. TLVs of unknown types are none: they are kept as they are.
    pub fn parse(bytes: &[u8]) -> Result<Self, OamError> {
        let mut head = Reader::new(bytes, 0);
        let word = head.u32()?;
        let wrong = |at, what| Err(OamError { at, what });
        if word >> 28 != u32::from(VERSION) {
            return wrong(0, Wrong::Version);
        }
        let kind = match (word >> 20) as u8 {
            1 => Kind::Request,
            2 => Kind::Reply,
            _ => return wrong(0, Wrong::Type),
        };
        if word >> 14 & 0x3f != 0 {
            return wrong(1, Wrong::Proto);
        }
        let length = head.u32()? as usize;
        if length < FIXED_LEN {
            return wrong(4, Wrong::Length);
        }
        let Some(message) = bytes.get(..length) else { return wrong(4, Wrong::Length) };
        let mut rest = Reader::new(&message[8..], 8);
        let [formats, reply_mode, return_code, _] = rest.u32()?.to_be_bytes();
        let (handle, sequence, sent, received) = (rest.u32()?, rest.u32()?, rest.u64()?, rest.u64()?);
        let mut tlvs = Vec::new();
        while !rest.is_empty() {
            tlvs.push(Tlv::parse(&mut rest)?);
        }
        Ok(Self {
            kind,
            sent_format: (formats >> 4).into(),
            received_format: (formats & 0xf).into(),
            reply_mode: reply_mode.into(),
            return_code: return_code.into(),
            handle,
            sequence,
            sent,
            received,
            tlvs,
        })
    }

    /// A request with these TLVs, sent at this time in nanoseconds since 1970 (section 4.3).
    #[must_use]
    pub fn request(
        handle: u32,
        sequence: u32,
        reply_mode: ReplyMode,
        unix_nanos: u64,
        tlvs: Vec<Tlv>,
    ) -> Self {
        Self {
            kind: Kind::Request,
            sent_format: TimestampFormat::Ntp,
            received_format: TimestampFormat::None,
            reply_mode,
            return_code: ReturnCode::None,
            handle,
            sequence,
            sent: ntp(unix_nanos),
            received: 0,
            tlvs,
        }
    }

    /// A request that can't be parsed, as far as it must be to be answered: without TLVs. `None` if it is nothing that could be
    /// answered, but is another version, a reply, or shorter than that.
    #[must_use]
    pub fn salvage(bytes: &[u8]) -> Option<Self> {
        let mut fixed: [u8; FIXED_LEN] = *bytes.first_chunk()?;
        // Proto is zero in what has a meaning to us.
        (fixed[1], fixed[2]) = (fixed[1] & 0xf0, fixed[2] & 0x3f);
        fixed[4..8].copy_from_slice(&(FIXED_LEN as u32).to_be_bytes());
        Self::parse(&fixed).ok().filter(|echo| echo.kind == Kind::Request)
    }

    /// Where a TLV, by its place among them, begins in the message, in bytes.
    #[must_use]
    pub fn offset(&self, tlv: usize) -> usize {
        let mut before = Writer::default();
        for tlv in self.tlvs.iter().take(tlv) {
            // What was parsed can be written.
            let _written = tlv.emit(&mut before);
        }
        FIXED_LEN + before.finish().len()
    }

    /// The message as bytes. `None` if a TLV is longer than its length field can say.
    #[must_use]
    pub fn emit(&self) -> Option<Vec<u8>> {
        let mut out = Writer::default();
        let kind = match self.kind {
            Kind::Request => 1,
            Kind::Reply => 2,
        };
        out.u32(u32::from(VERSION) << 28 | kind << 20);
        out.u32(0);
        let formats = u8::from(self.sent_format) << 4 | u8::from(self.received_format) & 0xf;
        out.bytes(&[formats, self.reply_mode.into(), self.return_code.into(), 0]);
        out.u32(self.handle);
        out.u32(self.sequence);
        out.u64(self.sent);
        out.u64(self.received);
        for tlv in &self.tlvs {
            tlv.emit(&mut out)?;
        }
        let mut bytes = out.finish();
        let length = u32::try_from(bytes.len()).ok()?;
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        Some(bytes)
    }

    /// The reply that repeats what replies repeat (section 4.5), without TLVs.
    #[must_use]
    pub fn reply(&self, return_code: ReturnCode, received_format: TimestampFormat, received: u64) -> Self {
        let tlvs = Vec::new();
        Self { kind: Kind::Reply, received_format, return_code, received, tlvs, ..*self }
    }
}

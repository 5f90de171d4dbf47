//! A query, read in full before anything is decided.

use super::edns::Opt;
use super::message::{HEADER_LEN, Malformed, RawRecord, RecordType, flags};
use crate::tables::names::{NameError, wire_len};

/// What was asked, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    /// The message's id, from which the order of addresses is chosen.
    pub(super) id: u16,
    /// Length of the name, in bytes.
    pub(super) name_len: usize,
    /// QTYPE.
    pub(super) kind: RecordType,
    /// QCLASS.
    pub(super) class: u16,
    /// The OPT record, if there is one.
    pub(super) opt: Option<Opt>,
    /// Whether the message is signed (RFC 8945).
    pub(super) signed: bool,
}

/// Why a message isn't a query that could be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Shorter than a header.
    Short,
    /// A response.
    Response,
    /// Not opcode QUERY.
    Opcode,
    /// Not one question, or not well-formed.
    Malformed,
}

impl Query {
    /// Nothing has been read.
    pub(super) const NOTHING: Self =
        Self { id: 0, name_len: 0, kind: RecordType(0), class: 0, opt: None, signed: false };

    /// Reads a whole message. What it accepts has one question with an uncompressed name, no record in the answer
    /// section, at most one OPT, and no byte left over. `name_len` is the length of its name, if that is known.
    ///
    /// It is read in place: to be moved right after it was written piece by piece, it would have to wait for the pieces.
    #[inline(always)]
    pub(super) fn read(&mut self, message: &[u8], name_len: Option<usize>) -> Result<(), Unfit> {
        let header: &[u8; HEADER_LEN] = message.first_chunk().ok_or(Unfit::Short)?;
        let [i0, i1, bits, _, q0, q1, counts @ ..] = *header;
        if bits & flags::QR != 0 {
            return Err(Unfit::Response);
        }
        if bits & flags::OPCODE != 0 {
            return Err(Unfit::Opcode);
        }
        // Several questions have no meaning (RFC 9619).
        if [q0, q1] != [0, 1] {
            return Err(Unfit::Malformed);
        }
        let name_len = match name_len {
            Some(name_len) => name_len,
            None => wire_len(message.get(HEADER_LEN..).ok_or(Malformed)?).map_err(Malformed::from)?,
        };
        let question: &[u8; 4] =
            message.get(HEADER_LEN + name_len..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
        let [k0, k1, c0, c1] = *question;
        self.id = u16::from_be_bytes([i0, i1]);
        self.name_len = name_len;
        self.kind = RecordType(u16::from_be_bytes([k0, k1]));
        self.class = u16::from_be_bytes([c0, c1]);
        let end = if counts == [0; 6] { self.end() } else { self.parse_records(message, counts)? };
        if end == message.len() { Ok(()) } else { Err(Unfit::Malformed) }
    }

    /// Reads what follows the question; the counts say how much, and never more than the bytes hold.
    fn parse_records(&mut self, message: &[u8], counts: [u8; 6]) -> Result<usize, Malformed> {
        let [answers, authorities, additionals] =
            [[counts[0], counts[1]], [counts[2], counts[3]], [counts[4], counts[5]]].map(u16::from_be_bytes);
        let mut at = self.end();
        // IXFR carries the SOA that the client has (RFC 1995 section 3); nothing else has a reason to.
        if answers != 0 || (authorities != 0 && self.kind != RecordType::IXFR) {
            return Err(Malformed);
        }
        for _ in 0..authorities {
            let record = RawRecord::parse(message, at)?;
            if record.kind == RecordType::OPT {
                return Err(Malformed);
            }
            at = record.end;
        }
        for _ in 0..additionals {
            let record = RawRecord::parse(message, at)?;
            // A signature is the last record (RFC 8945 section 5.1).
            if self.signed {
                return Err(Malformed);
            }
            match record.kind {
                RecordType::OPT if self.opt.is_some() => return Err(Malformed),
                RecordType::OPT => self.opt = Some(Opt::parse(&record)?),
                RecordType::TSIG => self.signed = true,
                _ => {}
            }
            at = record.end;
        }
        Ok(at)
    }

    /// Where the question ends.
    #[inline]
    pub(super) fn end(&self) -> usize {
        HEADER_LEN + self.name_len + 4
    }

    /// The name, as it stands in the message.
    #[inline]
    pub(super) fn name<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(HEADER_LEN..HEADER_LEN + self.name_len).unwrap_or(&[])
    }
}

impl From<Malformed> for Unfit {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<NameError> for Malformed {
    fn from(_: NameError) -> Self {
        Self
    }
}

//! What is said in IGMP and MLD alike: questions of routers, and what hosts say that they listen to.

use millrace_fastpath::addr::Addr;

/// A message, from `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) source: Addr,
    pub(super) message: Message,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A router asks.
    Query(Query),
    /// A host says what it listens to.
    Report(Version, Vec<Record>),
}

/// A question (RFC 9776 section 4.1, RFC 9777 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// By which version it is asked.
    pub(super) version: Version,
    /// `None`: which groups do you listen to?
    pub(super) group: Option<Addr>,
    /// Empty: do you listen to the group? Else: to these sources of it?
    pub(super) sources: Vec<Addr>,
    /// Other routers aren't to expect that listeners are gone (S flag).
    pub(super) suppress: bool,
    /// The asker's Robustness Variable; 0 where it doesn't say.
    pub(super) robustness: u8,
    /// The asker's Query Interval; 0 where it doesn't say.
    pub(super) interval_seconds: u32,
    /// How long hosts may take to answer.
    pub(super) response_ms: u32,
}

/// Which version of the protocol a host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IGMPv1 (RFC 1112): hosts don't say when they leave.
    First,
    /// IGMPv2 (RFC 2236) and MLDv1 (RFC 2710): hosts know no sources.
    Second,
    /// IGMPv3 and MLDv2.
    Third,
}

/// What a host says of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    pub(super) group: Addr,
    pub(super) sources: Vec<Addr>,
}

/// The kinds of records, by their numbers (RFC 9776 section 4.2.12, RFC 9777 section 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// It listens to these sources.
    IsInclude = 1,
    /// It listens to all but these.
    IsExclude = 2,
    /// From now on it listens to these sources alone.
    ToInclude = 3,
    /// From now on it listens to all but these.
    ToExclude = 4,
    /// It listens to these, too.
    Allow = 5,
    /// It doesn't listen to these any more.
    Block = 6,
}

/// Why a message isn't taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It isn't well-formed, or can't come from this link.
    Malformed,
    /// Of a type that routers don't read.
    Unknown,
}

impl RecordKind {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::IsInclude,
            2 => Self::IsExclude,
            3 => Self::ToInclude,
            4 => Self::ToExclude,
            5 => Self::Allow,
            6 => Self::Block,
            _ => return None,
        })
    }
}

/// Reads the records of a report, whose addresses are `N` bytes long. Records of unknown kinds are left out (RFC 9776
/// section 4.2.12), and sources that can't be any.
pub(super) fn records<const N: usize>(
    count: u16,
    mut bytes: &[u8],
    addr: impl Fn([u8; N]) -> Addr,
) -> Result<Vec<Record>, Refused> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Refused::Malformed)?;
        let (group, rest) = rest.split_first_chunk::<N>().ok_or(Refused::Malformed)?;
        let sources = usize::from(u16::from_be_bytes([head[2], head[3]])) * N;
        let (sources, rest) = rest.split_at_checked(sources).ok_or(Refused::Malformed)?;
        // Auxiliary data, in words: none is defined.
        bytes = rest.get(usize::from(head[1]) * 4..).ok_or(Refused::Malformed)?;
        let group = addr(*group);
        if !is_group(group) {
            return Err(Refused::Malformed);
        }
        if let Some(kind) = RecordKind::of(head[0]) {
            records.push(Record { kind, group, sources: addresses(sources, &addr) });
        }
    }
    Ok(records)
}

/// Writes what a report says behind its first six bytes.
pub(super) fn report_records(records: &[Record], bytes: &mut Vec<u8>, put: impl Fn(Addr, &mut Vec<u8>)) {
    bytes.extend((records.len() as u16).to_be_bytes());
    for record in records {
        bytes.extend([record.kind as u8, 0]);
        bytes.extend((record.sources.len() as u16).to_be_bytes());
        put(record.group, bytes);
        record.sources.iter().for_each(|source| put(*source, bytes));
    }
}

/// Reads what a query of the third version says behind its group.
pub(super) fn asked<const N: usize>(
    bytes: &[u8],
    addr: impl Fn([u8; N]) -> Addr,
) -> Result<(bool, u8, u32, Vec<Addr>), Refused> {
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Refused::Malformed)?;
    let len = usize::from(u16::from_be_bytes([head[2], head[3]])) * N;
    let sources = rest.get(..len).ok_or(Refused::Malformed)?;
    Ok((head[0] & 8 != 0, head[0] & 7, decoded8(head[1]), addresses(sources, &addr)))
}

/// Writes what a query says behind its group.
pub(super) fn ask(query: &Query, bytes: &mut Vec<u8>, put: impl Fn(Addr, &mut Vec<u8>)) {
    // What doesn't fit isn't said (RFC 9776 section 4.1.6).
    let robustness = if query.robustness > 7 { 0 } else { query.robustness };
    bytes.extend([u8::from(query.suppress) << 3 | robustness, encoded8(query.interval_seconds)]);
    bytes.extend((query.sources.len() as u16).to_be_bytes());
    query.sources.iter().for_each(|source| put(*source, bytes));
}

fn addresses<const N: usize>(bytes: &[u8], addr: &impl Fn([u8; N]) -> Addr) -> Vec<Addr> {
    bytes.as_chunks::<N>().0.iter().map(|bytes| addr(*bytes)).filter(|source| is_source(*source)).collect()
}

/// Whether it is the address of a group.
pub(super) fn is_group(addr: Addr) -> bool {
    addr.to_ip().is_multicast()
}

/// Whether routers forward the group's packets: others never leave their link (RFC 5771 section 4, RFC 4291 section 2.7).
pub(super) fn is_routed(group: Addr) -> bool {
    match group.is_v4() {
        true => group.v4_bytes()[..3] != [224, 0, 0],
        false => group.v6_bytes()[1] & 0xf > 2,
    }
}

fn is_source(addr: Addr) -> bool {
    let addr = addr.to_ip();
    !addr.is_multicast() && !addr.is_unspecified()
}

/// A code of eight bits: the number itself, or from 128 on four bits of mantissa and three of exponent (RFC 9776 sections
/// 4.1.1 and 4.1.7). Of two that it lies between, the smaller.
pub(super) fn encoded8(value: u32) -> u8 {
    encoded(value, 4) as u8
}

/// What a code of eight bits says.
pub(super) fn decoded8(code: u8) -> u32 {
    decoded(code.into(), 4)
}

/// The same with sixteen bits, twelve of them mantissa (RFC 9777 section 5.1.3).
pub(super) fn encoded16(value: u32) -> u16 {
    encoded(value, 12) as u16
}

/// What a code of sixteen bits says.
pub(super) fn decoded16(code: u16) -> u32 {
    decoded(code.into(), 12)
}

fn encoded(value: u32, mantissa_bits: u32) -> u32 {
    let plain = 1 << (mantissa_bits + 3);
    if value < plain {
        return value;
    }
    let exponent = (value.ilog2() - mantissa_bits - 3).min(7);
    let mantissa = (value >> (exponent + 3)).min((2 << mantissa_bits) - 1);
    plain | exponent << mantissa_bits | (mantissa & ((1 << mantissa_bits) - 1))
}

fn decoded(code: u32, mantissa_bits: u32) -> u32 {
    if code < 1 << (mantissa_bits + 3) {
        return code;
    }
    let mantissa = code & ((1 << mantissa_bits) - 1) | 1 << mantissa_bits;
    mantissa << ((code >> mantissa_bits & 7) + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_numbers_in_eight_and_sixteen_bits() {
        for (value, code) in
            [(0, 0), (127, 127), (128, 0x80), (135, 0x80), (136, 0x81), (248, 0x8f), (256, 0x90)]
        {
            assert_eq!(encoded8(value), code, "{value}");
        }
        assert_eq!((decoded8(0xff), encoded8(31_744), encoded8(u32::MAX)), (31_744, 0xff, 0xff));
        assert_eq!((encoded16(10_000), encoded16(32_768), encoded16(u32::MAX)), (10_000, 0x8000, 0xffff));
        assert_eq!(decoded16(0xffff), 8_387_584);
        for code in 0..=u16::MAX {
            assert_eq!(encoded16(decoded16(code)), code);
            assert_eq!(encoded8(decoded8(code as u8)), code as u8);
        }
        for value in 0..40_000 {
            assert!(decoded8(encoded8(value)) <= value && decoded16(encoded16(value)) <= value);
        }
    }
}

//! EDNS(0) (RFC 6891): the OPT record of a query and of an answer.

use super::message::{Malformed, RawRecord, Rcode, RecordType};

/// Largest UDP payload that we take and send, in bytes: an answer of this size isn't fragmented on any sensible path.
pub const UDP_PAYLOAD_MAX: usize = 1232;
/// Largest UDP payload without EDNS (RFC 1035 section 2.3.4), and the least that an OPT can ask for.
pub(super) const UDP_PAYLOAD_MIN: usize = 512;
/// Length of an OPT record without options.
pub(super) const OPT_LEN: usize = 11;
/// Length of the option that carries an extended error without text (RFC 8914).
pub(super) const EDE_LEN: usize = 6;
/// OPTION-CODE of an extended error.
const EDE: u16 = 15;
/// INFO-CODE "Not Ready".
const EDE_NOT_READY: u16 = 14;

/// What the OPT of a query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opt {
    /// The client's UDP payload size, as it stands.
    pub(super) payload_size: u16,
    /// VERSION.
    pub(super) version: u8,
    /// DO: DNSSEC records are welcome (RFC 3225).
    pub(super) dnssec_ok: bool,
}

impl Opt {
    /// Reads an OPT record. Options are checked for their length and otherwise ignored.
    pub(super) fn parse(record: &RawRecord<'_>) -> Result<Self, Malformed> {
        if !record.root {
            return Err(Malformed);
        }
        let mut options = record.data;
        while let Some(([_, _, l0, l1], rest)) = options.split_first_chunk() {
            options = rest.get(usize::from(u16::from_be_bytes([*l0, *l1]))..).ok_or(Malformed)?;
        }
        if !options.is_empty() {
            return Err(Malformed);
        }
        let [_, version, flags, _] = record.ttl;
        Ok(Self { payload_size: record.class, version, dnssec_ok: flags & 0x80 != 0 })
    }

    /// What an answer over UDP may take.
    #[inline]
    pub(super) fn payload_max(&self) -> usize {
        usize::from(self.payload_size).clamp(UDP_PAYLOAD_MIN, UDP_PAYLOAD_MAX)
    }

    /// The OPT of the answer. Flags other than DO are sent clear.
    #[inline]
    pub(super) fn answer(&self, rcode: Rcode) -> [u8; OPT_LEN] {
        let [t0, t1] = RecordType::OPT.0.to_be_bytes();
        let [s0, s1] = (UDP_PAYLOAD_MAX as u16).to_be_bytes();
        [0, t0, t1, s0, s1, rcode.high(), 0, if self.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]
    }

    /// The same with the extended error "Not Ready".
    pub(super) fn answer_not_ready(&self, rcode: Rcode) -> [u8; OPT_LEN + EDE_LEN] {
        let [root, t0, t1, s0, s1, high, version, f0, f1, ..] = self.answer(rcode);
        let ([o0, o1], [i0, i1]) = (EDE.to_be_bytes(), EDE_NOT_READY.to_be_bytes());
        [root, t0, t1, s0, s1, high, version, f0, f1, 0, EDE_LEN as u8, o0, o1, 0, 2, i0, i1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Opt, Malformed> {
        Opt::parse(&RawRecord::parse(bytes, 0)?)
    }

    #[test]
    fn options_end_with_the_record() {
        let ok = Opt { payload_size: 4096, version: 0, dnssec_ok: true };
        assert_eq!(parse(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"), Ok(ok));
        assert_eq!(
            parse(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x09\x00\x0a\x00\x01x\xff\xff\x00\x00"),
            Ok(ok)
        );
        assert_eq!(parse(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x05\x00\x0a\x00\x02x"), Err(Malformed));
        assert_eq!(parse(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x03\x00\x0a\x00"), Err(Malformed));
        assert_eq!(
            parse(b"\x01a\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"),
            Err(Malformed),
            "not the root's"
        );
    }

    #[test]
    fn sizes_are_clamped() {
        let max = |payload_size| Opt { payload_size, version: 0, dnssec_ok: false }.payload_max();
        assert_eq!([0, 511, 600, 1232, 1233, 65535].map(max), [512, 512, 600, 1232, 1232, 1232]);
    }
}

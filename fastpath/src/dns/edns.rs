//! EDNS(0) (RFC 6891): the OPT record of a query and of an answer.

use arrayvec::ArrayVec;

use super::cookie::{self, CookieOption};
use super::message::{Malformed, RawRecord, Rcode, RecordType};

/// Largest UDP payload that we take and send, in bytes: an answer of this size isn't fragmented on any sensible path.
pub const UDP_PAYLOAD_MAX: usize = 1232;
/// Largest UDP payload without EDNS (RFC 1035 section 2.3.4), and the least that an OPT can ask for.
pub(super) const UDP_PAYLOAD_MIN: usize = 512;
/// Where the upper bits of RCODE stand in an OPT record (RFC 6891 section 6.1.3).
pub(super) const RCODE_AT: usize = 5;
/// Length of an OPT record without options.
pub(super) const OPT_LEN: usize = 11;
/// Length of an option before its data.
pub(super) const OPTION_HEAD_LEN: usize = 4;
/// Length of the option that carries an extended error without text (RFC 8914).
pub(super) const EDE_LEN: usize = OPTION_HEAD_LEN + 2;
/// The longest OPT that is sent.
const OPT_LEN_MAX: usize = OPT_LEN + OPTION_HEAD_LEN + cookie::FULL_LEN + EDE_LEN;
/// OPTION-CODE of a cookie (RFC 7873).
const COOKIE: u16 = 10;
/// OPTION-CODE of an extended error.
const EDE: u16 = 15;

/// The OPT of an answer, when it has options.
pub(super) type LongOpt = ArrayVec<u8, OPT_LEN_MAX>;

/// What else there is to say of an answer: the INFO-CODE of an extended error (RFC 8914 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Extended {
    /// What would answer isn't there yet.
    NotReady = 14,
    /// Not for this client, whoever it is.
    Prohibited = 18,
    /// The name is in none of our zones.
    NotAuthoritative = 20,
    /// The operation, class or type isn't served.
    NotSupported = 21,
}

/// What the OPT of a query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opt {
    /// The client's UDP payload size, as it stands.
    pub(super) payload_size: u16,
    /// VERSION.
    pub(super) version: u8,
    /// DO: DNSSEC records are welcome (RFC 3225).
    pub(super) dnssec_ok: bool,
    /// Where in the message the first cookie is.
    pub(super) cookie: Option<CookieOption>,
}

impl Opt {
    /// Reads an OPT record. Options are checked for their length, and all but the first cookie are ignored (client
    /// subnets, RFC 7871, among them).
    pub(super) fn parse(record: &RawRecord<'_>) -> Result<Self, Malformed> {
        if !record.root {
            return Err(Malformed);
        }
        let mut options = record.data;
        let mut cookie = None;
        while let Some(([c0, c1, l0, l1], rest)) = options.split_first_chunk() {
            let len = u16::from_be_bytes([*l0, *l1]);
            // A second one has no meaning (RFC 7873 section 5).
            if [*c0, *c1] == COOKIE.to_be_bytes() && cookie.is_none() {
                cookie = Some(CookieOption { at: (record.end - rest.len()) as u16, len });
            }
            options = rest.get(usize::from(len)..).ok_or(Malformed)?;
        }
        if !options.is_empty() {
            return Err(Malformed);
        }
        let [_, version, flags, _] = record.ttl;
        Ok(Self { payload_size: record.class, version, dnssec_ok: flags & 0x80 != 0, cookie })
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

    /// The same with options: a cookie, and an extended error.
    pub(super) fn answer_long(
        &self,
        rcode: Rcode,
        cookie: Option<&[u8; cookie::FULL_LEN]>,
        extended: Option<Extended>,
    ) -> LongOpt {
        let mut opt = LongOpt::new();
        opt.extend(self.answer(rcode));
        let mut option = |code: u16, data: &[u8]| {
            opt.extend(code.to_be_bytes());
            opt.extend((data.len() as u16).to_be_bytes());
            opt.extend(data.iter().copied());
        };
        if let Some(cookie) = cookie {
            option(COOKIE, cookie);
        }
        if let Some(extended) = extended {
            option(EDE, &(extended as u16).to_be_bytes());
        }
        // RDLENGTH.
        opt[OPT_LEN - 1] = (opt.len() - OPT_LEN) as u8;
        opt
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
        let ok = Opt { payload_size: 4096, version: 0, dnssec_ok: true, cookie: None };
        assert_eq!(parse(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"), Ok(ok));
        assert_eq!(
            parse(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x09\x00\x08\x00\x01x\xff\xff\x00\x00"),
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
    fn the_first_of_several_cookies_counts() {
        let opt = parse(b"\0\0\x29\x10\0\0\0\0\0\0\x0f\0\x08\0\x01x\0\x0a\0\x02ab\0\x0a\0\0").unwrap();
        assert_eq!(opt.cookie, Some(CookieOption { at: 20, len: 2 }));
    }

    #[test]
    fn sizes_are_clamped() {
        let max =
            |payload_size| Opt { payload_size, version: 0, dnssec_ok: false, cookie: None }.payload_max();
        assert_eq!([0, 511, 600, 1232, 1233, 65535].map(max), [512, 512, 600, 1232, 1232, 1232]);
    }

    #[test]
    fn the_longest_opt_fits() {
        let opt = Opt { payload_size: 512, version: 0, dnssec_ok: true, cookie: None };
        let long = opt.answer_long(Rcode::BadVers, Some(&[7; 24]), Some(Extended::NotReady));
        assert_eq!(long.len(), OPT_LEN_MAX);
        assert_eq!(long[..OPT_LEN], [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, 34]);
        assert_eq!(long[39..], [0, 15, 0, 2, 0, 14]);
    }
}

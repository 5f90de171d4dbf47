//! Echo messages byte by byte, read again, and judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_bier::bits::BitString;
use millrace_bier::header::Carriage;
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};
use millrace_bier::oam::{
    Arrival, Downstream, Echo, FIXED_LEN, Interface, Kind, Mapping, OamError, ReplyMode, ReturnCode, SetBits,
    SubTlv, TimestampFormat, Tlv, Verdict, Wrong, judge, ntp,
};
use proptest::prelude::*;

/// Our BFR-prefix, and an address.
const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))];
const KEY: BiftKey = BiftKey { sub_domain: SubDomain(3), si: Si(1), bsl: Bsl::B64 };

fn set(key: BiftKey, word: u64) -> SetBits {
    let mut words = vec![0; key.bsl.words()];
    words[0] = word;
    SetBits::new(key, BitString::from_words(&words))
}

fn request(tlvs: Vec<Tlv>) -> Echo {
    Echo {
        kind: Kind::Request,
        sent_format: TimestampFormat::Ntp,
        received_format: TimestampFormat::None,
        reply_mode: ReplyMode::Bier,
        return_code: ReturnCode::None,
        handle: 0xa1a2_a3a4,
        sequence: 7,
        sent: 0x0102_0304_0506_0708,
        received: 0,
        tlvs,
    }
}

/// Written by hand from figures 2 and 4 of the draft: a request with one TLV, bits 1 and 64 of set 1 in sub-domain 3.
#[rustfmt::skip]
const REQUEST: [u8; 52] = [
    0x10, 0x10, 0x00, 0x00, 0, 0, 0, 52, // version 1, type 1, Proto 0; length
    0x20, 3, 0, 0, // NTP; reply in BIER
    0xa1, 0xa2, 0xa3, 0xa4, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 1, 0, 12, 1, 3, 0x10, 0, 0x80, 0, 0, 0, 0, 0, 0, 1,
];

#[test]
fn a_request_is_as_the_draft_draws_it() {
    let echo = request(vec![Tlv::Original(set(KEY, 1 | 1 << 63))]);
    assert_eq!(echo.emit().unwrap(), REQUEST);
    assert_eq!(Echo::parse(&REQUEST), Ok(echo.clone()));
    // What follows doesn't belong to it, and reserved bits are ignored.
    let mut longer = [&REQUEST[..], b"more"].concat();
    (longer[2], longer[3], longer[11], longer[43]) = (0x3f, 0xff, 0xff, 0xff);
    assert_eq!(Echo::parse(&longer), Ok(echo));
}

#[test]
fn each_way_of_being_malformed_has_its_place() {
    let wrong = |at, what| Err(OamError { at, what });
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = REQUEST;
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        Echo::parse(&bytes)
    };
    assert_eq!(Echo::parse(&REQUEST[..3]), wrong(0, Wrong::Cut));
    assert_eq!(Echo::parse(&REQUEST[..7]), wrong(4, Wrong::Cut));
    for len in 8..52 {
        assert_eq!(Echo::parse(&REQUEST[..len]), wrong(4, Wrong::Length));
    }
    assert_eq!(with(&[(0, 0x20)]), wrong(0, Wrong::Version));
    assert_eq!(with(&[(1, 0x30)]), wrong(0, Wrong::Type));
    assert_eq!(with(&[(1, 0x11)]), wrong(1, Wrong::Proto));
    assert_eq!(with(&[(7, FIXED_LEN as u8 - 1)]), wrong(4, Wrong::Length));
    assert_eq!(with(&[(7, 38)]), wrong(38, Wrong::Cut));
    assert_eq!(with(&[(7, 51)]), wrong(40, Wrong::Cut));
    assert_eq!(with(&[(39, 13)]), wrong(40, Wrong::Cut));
    assert_eq!(with(&[(39, 11)]), wrong(44, Wrong::Cut));
    assert_eq!(with(&[(42, 0x80)]), wrong(44, Wrong::TlvValue));
    // A TLV of type 5 that is longer than its four bytes; BFR-id 0.
    assert_eq!(with(&[(37, 5), (43, 9)]), wrong(44, Wrong::TlvLength));
    assert_eq!(with(&[(37, 5), (42, 0), (43, 0)]), wrong(44, Wrong::TlvValue));
    // Address types that there aren't.
    assert_eq!(with(&[(37, 6), (43, 3)]), wrong(44, Wrong::TlvValue));
    assert_eq!(with(&[(37, 7), (43, 5)]), wrong(44, Wrong::TlvValue));
    assert_eq!(with(&[(37, 4), (42, 5)]), wrong(44, Wrong::TlvValue));
}

#[test]
fn tlvs_too_long_for_their_length_arent_written() {
    let long = |len| request(vec![Tlv::Unknown { kind: 9, value: vec![0; len] }]).emit();
    assert_eq!(long(65_535).unwrap().len(), FIXED_LEN + 4 + 65_535);
    assert_eq!(long(65_536), None);
}

fn sets() -> impl Strategy<Value = SetBits> {
    (1..=7_u8, any::<(u8, u8)>(), any::<[u64; 64]>()).prop_map(|(code, (si, sub_domain), words)| {
        let bsl = Bsl::from_code(code).unwrap();
        let key = BiftKey { sub_domain: SubDomain(sub_domain), si: Si(si), bsl };
        SetBits::new(key, BitString::from_words(&words[..bsl.words()]))
    })
}

fn mappings() -> impl Strategy<Value = Mapping> {
    let v4 = || any::<[u8; 4]>().prop_map(Ipv4Addr::from);
    let v6 = || any::<[u8; 16]>().prop_map(Ipv6Addr::from);
    let downstream = prop_oneof![
        (v4(), v4()).prop_map(|(prefix, interface)| Downstream::V4 { prefix, interface }),
        (v4(), any::<u32>()).prop_map(|(prefix, index)| Downstream::V4Unnumbered { prefix, index }),
        (v6(), v6()).prop_map(|(prefix, interface)| Downstream::V6 { prefix, interface }),
        (v6(), any::<u32>()).prop_map(|(prefix, index)| Downstream::V6LinkLocal { prefix, index }),
    ];
    let sub_tlv = prop_oneof![
        sets().prop_map(SubTlv::Egress),
        (any::<bool>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(masked, kind, information)| SubTlv::Multipath { masked, kind, information }),
    ];
    (any::<u16>(), any::<bool>(), downstream, prop::collection::vec(sub_tlv, 0..4)).prop_map(
        |(mtu, wants_incoming, downstream, sub_tlvs)| Mapping { mtu, wants_incoming, downstream, sub_tlvs },
    )
}

fn tlvs() -> impl Strategy<Value = Tlv> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        sets().prop_map(Tlv::Original),
        sets().prop_map(Tlv::Target),
        sets().prop_map(Tlv::Incoming),
        mappings().prop_map(Tlv::Mapping),
        (1..=u16::MAX).prop_map(|id| Tlv::ResponderBfer(BfrId::new(id).unwrap())),
        any::<IpAddr>().prop_map(Tlv::ResponderBfr),
        any::<[u8; 4]>().prop_map(|address| Tlv::Ingress(Interface::V4(address.into()))),
        any::<u32>().prop_map(|index| Tlv::Ingress(Interface::V4Unnumbered(index))),
        any::<[u8; 16]>().prop_map(|address| Tlv::Ingress(Interface::V6(address.into()))),
        any::<u32>().prop_map(|index| Tlv::Ingress(Interface::V6LinkLocal(index))),
        (any::<u32>(), bytes()).prop_map(|(pointer, request)| Tlv::Erroneous { pointer, request }),
        (9..=u16::MAX, bytes()).prop_map(|(kind, value)| Tlv::Unknown { kind, value }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        reply: bool, formats in (0..16_u8, 0..16_u8), codes: (u8, u8), numbers: (u32, u32), times: (u64, u64),
        tlvs in prop::collection::vec(tlvs(), 0..6),
    ) {
        let echo = Echo {
            kind: if reply { Kind::Reply } else { Kind::Request },
            sent_format: formats.0.into(),
            received_format: formats.1.into(),
            reply_mode: codes.0.into(),
            return_code: codes.1.into(),
            handle: numbers.0,
            sequence: numbers.1,
            sent: times.0,
            received: times.1,
            tlvs,
        };
        let bytes = echo.emit().unwrap();
        prop_assert_eq!(Echo::parse(&bytes), Ok(echo));
        // Whatever is cut off, it is noticed.
        for len in 0..bytes.len() {
            prop_assert!(Echo::parse(&bytes[..len]).is_err());
        }
    }
}

/// Bit 1 is us, bit 2 another.
fn arrival(bits: &[u64], onward: bool) -> Arrival<'_> {
    Arrival {
        key: KEY,
        bits,
        local: bits[0] & 1 != 0,
        others: bits[0] & !1 != 0,
        onward,
        carriage: Carriage::Mpls,
        addresses: &ADDRESSES,
    }
}

/// What is answered.
fn code(request: &Echo, arrival: &Arrival<'_>) -> Option<ReturnCode> {
    judge(request, arrival).map(|verdict| verdict.code)
}

#[test]
fn answers_are_those_of_the_draft() {
    let original = || Tlv::Original(set(KEY, 0b11));
    let target = |word| Tlv::Target(set(KEY, word));
    let ask = |tlvs: Vec<Tlv>, bits: u64, onward| code(&request(tlvs), &arrival(&[bits], onward));
    assert_eq!(ask(vec![original()], 0b01, false), Some(ReturnCode::OnlyBfer));
    assert_eq!(ask(vec![original()], 0b11, true), Some(ReturnCode::OneBfer));
    assert_eq!(ask(vec![original()], 0b10, true), Some(ReturnCode::Forwarded));
    assert_eq!(ask(vec![original()], 0b10, false), Some(ReturnCode::NoEntry));
    // Not aimed at what came here.
    assert_eq!(ask(vec![original(), target(0b10)], 0b01, false), None);
    assert_eq!(ask(vec![original(), target(0b11)], 0b01, false), Some(ReturnCode::OnlyBfer));
    // Another set than the BIFT-id's.
    let elsewhere = BiftKey { si: Si(2), ..KEY };
    let strange = Tlv::Original(set(elsewhere, 1));
    assert_eq!(ask(vec![strange], 0b01, false), Some(ReturnCode::SetMismatch));
    // Malformed in all the ways that section 4.4 names.
    let mapping = |sub_tlvs| Tlv::Mapping(Mapping { sub_tlvs, ..Mapping::question() });
    let malformed = Some(ReturnCode::Malformed);
    assert_eq!(ask(vec![], 0b01, false), malformed);
    assert_eq!(ask(vec![original(), original()], 0b01, false), malformed);
    assert_eq!(ask(vec![original(), mapping(vec![])], 0b01, false), malformed);
    assert_eq!(ask(vec![original(), mapping(vec![]), target(1), target(1)], 0b01, false), malformed);
    assert_eq!(ask(vec![original(), Tlv::Incoming(set(KEY, 1))], 0b01, false), malformed);
    let undated = Echo { sent_format: TimestampFormat::None, ..request(vec![original()]) };
    assert_eq!(code(&undated, &arrival(&[1], false)), malformed);
    // Ways onward.
    let egress = |word| SubTlv::Egress(set(KEY, word));
    let multipath = || SubTlv::Multipath { masked: false, kind: 0, information: vec![] };
    assert_eq!(
        ask(vec![original(), target(0b10), mapping(vec![egress(0b11)])], 0b10, true),
        Some(ReturnCode::MappingMismatch)
    );
    assert_eq!(
        ask(vec![original(), target(0b10), mapping(vec![egress(0b10)])], 0b10, true),
        Some(ReturnCode::Forwarded)
    );
    assert_eq!(
        ask(vec![original(), target(0b11), mapping(vec![multipath()])], 0b10, true),
        Some(ReturnCode::InvalidMultipath)
    );
    let asked = request(vec![original(), target(0b11), mapping(vec![multipath()])]);
    let elsewhere = Arrival { carriage: Carriage::NonMpls, ..arrival(&[0b10], true) };
    assert_eq!(code(&asked, &elsewhere), Some(ReturnCode::Forwarded), "it is for MPLS alone");
    // Types that nobody knows: from 32768 on they may be ignored.
    let unknown = |kind| Tlv::Unknown { kind, value: vec![] };
    assert_eq!(ask(vec![original(), unknown(32767)], 0b01, false), Some(ReturnCode::UnsupportedTlv));
    assert_eq!(ask(vec![original(), unknown(32768)], 0b01, false), None);
    // Who doesn't want an answer gets none, nor does an answer.
    for reply_mode in [ReplyMode::None, ReplyMode::Other(9)] {
        let quiet = Echo { reply_mode, ..request(vec![original()]) };
        assert_eq!(judge(&quiet, &arrival(&[1], false)), None);
    }
    let reply = request(vec![original()]).reply(ReturnCode::OnlyBfer, TimestampFormat::Ptp, 5);
    assert_eq!(judge(&reply, &arrival(&[1], false)), None);
    assert_eq!((reply.handle, reply.sequence, reply.sent), (0xa1a2_a3a4, 7, 0x0102_0304_0506_0708));
}

/// A tree has branches, and the request a mapping for each router that comes next: ours is the one that names us.
#[test]
fn of_several_mappings_ours_counts() {
    let to = |prefix: [u8; 4], word| {
        let downstream = Downstream::V4 { prefix: prefix.into(), interface: [198, 51, 100, 9].into() };
        let egress = SubTlv::Egress(set(KEY, word));
        Tlv::Mapping(Mapping { mtu: 0, wants_incoming: true, downstream, sub_tlvs: vec![egress] })
    };
    let told = |mappings: &[Tlv]| {
        let asked = [&[Tlv::Original(set(KEY, 0b111)), Tlv::Target(set(KEY, 0b10))], mappings].concat();
        code(&request(asked), &arrival(&[0b110], true))
    };
    let other = to([192, 0, 2, 2], 0b1);
    assert_eq!(told(&[other.clone(), to([192, 0, 2, 1], 0b110)]), Some(ReturnCode::Forwarded));
    assert_eq!(told(&[other.clone(), to([192, 0, 2, 1], 0b10)]), Some(ReturnCode::MappingMismatch));
    assert_eq!(told(&[to([198, 51, 100, 1], 0b10), other.clone()]), Some(ReturnCode::MappingMismatch));
    assert_eq!(told(&[other]), Some(ReturnCode::Forwarded), "nothing is said of us");
}

/// The pointer leads to the first byte of what is wrong.
#[test]
fn what_is_wrong_is_pointed_at() {
    let original = || Tlv::Original(set(KEY, 1));
    let at = |tlvs: Vec<Tlv>| judge(&request(tlvs), &arrival(&[1], false)).unwrap().pointer;
    let first = FIXED_LEN as u32;
    let second = first + 4 + 12;
    assert_eq!(at(vec![original()]), None);
    assert_eq!(at(vec![]), Some(first));
    assert_eq!(at(vec![original(), original()]), Some(second));
    assert_eq!(at(vec![original(), Tlv::Incoming(set(KEY, 1))]), Some(second));
    assert_eq!(at(vec![original(), Tlv::Mapping(Mapping::question())]), Some(second));
    assert_eq!(at(vec![original(), Tlv::Unknown { kind: 9, value: vec![1] }]), Some(second));
    let undated = Echo { sent_format: TimestampFormat::Other(9), ..request(vec![original()]) };
    let verdict = Verdict { code: ReturnCode::Malformed, pointer: Some(8) };
    assert_eq!(judge(&undated, &arrival(&[1], false)), Some(verdict));
}

/// What can't be read is still answered, if it says whom and how.
#[test]
fn a_malformed_request_is_read_as_far_as_its_answer_needs() {
    let whole = Echo { tlvs: vec![], ..Echo::parse(&REQUEST).unwrap() };
    let mut wrong = REQUEST;
    (wrong[1], wrong[2], wrong[7], wrong[41]) = (0x1f, 0xff, 200, 9);
    assert!(Echo::parse(&wrong).is_err());
    assert_eq!(Echo::salvage(&wrong), Some(whole.clone()));
    assert_eq!(Echo::salvage(&wrong[..FIXED_LEN]), Some(whole));
    assert_eq!(Echo::salvage(&wrong[..FIXED_LEN - 1]), None);
    for (at, byte) in [(0, 0x20), (1, 0x20)] {
        let mut other = REQUEST;
        other[at] = byte;
        assert_eq!(Echo::salvage(&other), None, "another version, or a reply");
    }
}

/// RFC 5905 figure 4 has the first.
#[test]
fn times_are_those_of_ntp() {
    assert_eq!(ntp(0), 2_208_988_800 << 32);
    assert_eq!(ntp(1_500_000_000), (2_208_988_801 << 32) | (1 << 31));
}

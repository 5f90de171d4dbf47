//! Headers byte by byte, and everything that can be wrong with one.

use millrace_bier::bift_id::{BiftId, BiftIdMap, BiftIds};
use millrace_bier::bits::{self, BitString};
use millrace_bier::header::{self, Carriage, Header, Malformed, NoRoom, Proto, Template, View};
use millrace_bier::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};
use proptest::prelude::*;

/// Written by hand from the picture in RFC 8296 section 2.1: label 1000, TC 2, S 1, TTL 64; nibble 5, version 0, BSL
/// 1 (64), entropy 0xabcde; OAM 1, Rsv 0, DSCP 0, Proto 4 (IPv4), BFIR-id 258; bits 1, 9 and 64.
const MPLS_64: [u8; 20] =
    [0x00, 0x3e, 0x85, 0x40, 0x50, 0x1a, 0xbc, 0xde, 0x40, 0x04, 0x01, 0x02, 0x80, 0, 0, 0, 0, 0, 0x01, 0x01];

/// The same without MPLS, in the static form for sub-domain 3, set 1; 128 bits; DSCP 46, Proto 6 (IPv6); bit 128.
const ETHERNET_128: [u8; 28] = [
    0x20, 0x30, 0x11, 0x02, 0x00, 0x20, 0x00, 0x01, 0x0b, 0x86, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0,
];

fn bits(bsl: Bsl, numbers: &[u16]) -> BitString {
    BitString::of(bsl, numbers.iter().map(|number| BitPosition::new(*number, bsl).unwrap()))
}

fn mpls_header() -> Header {
    Header {
        carriage: Carriage::Mpls,
        bift_id: BiftId::new(1000).unwrap(),
        tc: 2,
        ttl: 64,
        entropy: 0xabcde,
        oam: 1,
        dscp: 46,
        proto: Proto::Ipv4,
        bfir_id: BfrId::new(258),
    }
}

fn ours() -> BiftIds {
    let mut map = BiftIdMap::default();
    let key = BiftKey { sub_domain: SubDomain(0), si: Si(0), bsl: Bsl::B64 };
    map.insert(key, BiftId::new(1000).unwrap()).unwrap();
    BiftIds::Map(map)
}

#[test]
fn headers_are_written_as_in_the_rfc() {
    let mut out = [0xee; 64];
    let header = mpls_header();
    assert_eq!(header.emit(Bsl::B64, bits(Bsl::B64, &[1, 9, 64]).words(), &mut out), Ok(20));
    assert_eq!(out[..20], MPLS_64);
    assert_eq!(out[20], 0xee);
    let key = BiftKey { sub_domain: SubDomain(3), si: Si(1), bsl: Bsl::B128 };
    let other = Header {
        carriage: Carriage::NonMpls,
        bift_id: BiftId::static_form(key),
        ttl: 2,
        entropy: 1,
        oam: 0,
        proto: Proto::Ipv6,
        bfir_id: BfrId::new(65535),
        ..header
    };
    assert_eq!(other.emit(Bsl::B128, bits(Bsl::B128, &[128]).words(), &mut out), Ok(28));
    assert_eq!(out[..28], ETHERNET_128);
    let short = other.emit(Bsl::B128, bits(Bsl::B128, &[128]).words(), &mut out[..27]);
    assert_eq!(short, Err(NoRoom { needed: 28, room: 27 }));
}

#[test]
fn headers_are_read_as_in_the_rfc() {
    let packet: Vec<u8> = MPLS_64.iter().copied().chain(*b"payload").collect();
    let (key, view) = View::of(&packet, Carriage::Mpls, &ours()).unwrap();
    assert_eq!(key, BiftKey { sub_domain: SubDomain(0), si: Si(0), bsl: Bsl::B64 });
    assert_eq!((view.bift_id().get(), view.tc(), view.ttl()), (1000, 2, 64));
    assert_eq!((view.entropy(), view.oam(), view.dscp()), (0xabcde, 1, 0));
    assert_eq!((view.proto(), view.bfir_id()), (Proto::Ipv4, BfrId::new(258)));
    assert_eq!(view.payload(), b"payload");
    let mut words = [0];
    view.load(&mut words);
    assert_eq!(words, *bits(Bsl::B64, &[1, 9, 64]).words());

    let (key, view) = View::of(&ETHERNET_128, Carriage::NonMpls, &BiftIds::Static).unwrap();
    assert_eq!(key, BiftKey { sub_domain: SubDomain(3), si: Si(1), bsl: Bsl::B128 });
    assert_eq!((view.ttl(), view.dscp(), view.proto()), (2, 46, Proto::Ipv6));
    assert_eq!(view.bfir_id(), BfrId::new(65535));
}

#[test]
fn every_length_is_that_of_the_sheet() {
    let all = [(64, 20), (128, 28), (256, 44), (512, 76), (1024, 140), (2048, 268), (4096, 524)];
    for (bits, len) in all {
        assert_eq!(header::len(Bsl::from_bits(bits).unwrap()), len);
    }
    assert_eq!(header::LEN_MAX, 524);
}

/// The packet with one byte changed.
fn with(packet: &[u8], at: usize, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at] = change(packet[at]);
    packet
}

#[test]
fn each_way_of_being_malformed_has_its_reason() {
    let read = |packet: &[u8]| View::of(packet, Carriage::Mpls, &ours()).map(|_| ()).unwrap_err();
    for len in 0..12 {
        assert_eq!(read(&MPLS_64[..len]), Malformed::FixedPartCut);
    }
    for len in 12..20 {
        assert_eq!(read(&MPLS_64[..len]), Malformed::BitStringCut);
    }
    assert_eq!(read(&with(&MPLS_64, 1, |byte| byte + 1)), Malformed::UnknownBift);
    assert_eq!(read(&with(&MPLS_64, 2, |byte| byte & !1)), Malformed::NotLastLabel);
    for nibble in (0..16).filter(|nibble| *nibble != 5) {
        assert_eq!(read(&with(&MPLS_64, 4, |byte| nibble << 4 | byte & 0xf)), Malformed::Nibble);
    }
    for version in 1..16 {
        assert_eq!(read(&with(&MPLS_64, 4, |byte| byte & 0xf0 | version)), Malformed::Version);
    }
    for code in (0..16).filter(|code| *code != 1) {
        let expected = if (2..=7).contains(&code) { Malformed::OtherBsl } else { Malformed::IllegalBsl };
        assert_eq!(read(&with(&MPLS_64, 5, |byte| code << 4 | byte & 0xf)), expected);
    }
    let mut empty = MPLS_64;
    empty[12..].fill(0);
    assert_eq!(read(&empty), Malformed::Empty);
}

#[test]
fn the_length_is_never_taken_from_the_packet() {
    // The packet says 4096 bits, and is long enough for them; the BIFT-id stands for 64.
    let mut packet = with(&MPLS_64, 5, |byte| 7 << 4 | byte & 0xf);
    packet.resize(1000, 0xff);
    assert_eq!(View::of(&packet, Carriage::Mpls, &ours()).map(|_| ()), Err(Malformed::OtherBsl));
    // The packet says 64 bits, and ends after them; the BIFT-id stands for 4096.
    let cut = View::parse(&MPLS_64, Carriage::Mpls, Bsl::B4096).map(|_| ());
    assert_eq!(cut, Err(Malformed::BitStringCut));
}

#[test]
fn what_has_to_be_ignored_is_ignored_and_passed_on() {
    // Rsv, OAM and DSCP with MPLS; without it, TC, S and the nibble too.
    let mut mpls = MPLS_64;
    mpls[8] |= 0xff;
    mpls[9] |= 0xc0;
    assert!(View::of(&mpls, Carriage::Mpls, &ours()).is_ok());
    for nibble in 0..16 {
        for low in 0..16 {
            let packet = with(&ETHERNET_128, 2, |byte| byte & 0xf0 | low);
            let packet = with(&packet, 4, |byte| nibble << 4 | byte & 0xf);
            let packet = with(&packet, 8, |byte| byte | 0xf0);
            assert!(View::of(&packet, Carriage::NonMpls, &BiftIds::Static).is_ok());
            let mut sent = [0; header::FIXED_LEN];
            let template = Template::of(
                &View::parse(&packet, Carriage::NonMpls, Bsl::B128).unwrap(),
                Carriage::NonMpls,
                1,
            );
            template.emit(BiftId::new(0xf_ffff).unwrap(), Carriage::NonMpls, &mut sent);
            assert_eq!(sent[..4], [0xff, 0xff, 0xf0 | low, 1]);
            assert_eq!(sent[4..], packet[4..12]);
        }
    }
}

/// What is ignored on reception behind a label isn't passed off as a code point, nor the other way round.
#[test]
fn dscp_and_tc_are_sent_as_zero_in_the_other_carriage() {
    let mut mpls = MPLS_64;
    (mpls[2], mpls[8], mpls[9]) = (mpls[2] | 0x0f, 0xff, mpls[9] | 0xc0);
    let mut ethernet = ETHERNET_128;
    (ethernet[2], ethernet[8], ethernet[9]) = (ethernet[2] | 0x0e, 0xff, ethernet[9] | 0xc0);
    let cases = [
        (&mpls[..], Carriage::Mpls, Carriage::NonMpls, Bsl::B64, 0, 0),
        (&ethernet[..], Carriage::NonMpls, Carriage::Mpls, Bsl::B128, 5, 0x3f),
    ];
    for (packet, from, to, bsl, nibble, dscp) in cases {
        let received = View::parse(packet, from, bsl).unwrap();
        let template = Template::of(&received, from, 1);
        assert_eq!(template.dscp(), dscp);
        let mut sent = packet[..header::len(bsl)].to_vec();
        let emit = |carriage, sent: &mut [u8]| {
            template.emit(BiftId::new(7).unwrap(), carriage, sent.first_chunk_mut().unwrap());
        };
        emit(to, &mut sent);
        let view = View::parse(&sent, to, bsl).unwrap();
        assert_eq!((view.tc(), view.dscp(), view.oam(), sent[4] >> 4), (0, 0, 3, nibble));
        assert_eq!((view.proto(), view.entropy()), (received.proto(), template.entropy()));
        // In the same one they stay.
        emit(from, &mut sent);
        assert_eq!(sent[8..12], packet[8..12]);
    }
}

#[test]
fn protos_are_those_of_the_registry() {
    for code in 0..64 {
        let proto = Proto::from(code);
        assert_eq!(proto.code(), code);
        assert_eq!(matches!(proto, Proto::Unknown(_)), code == 0 || code > 9);
    }
    assert_eq!([Proto::Ipv4.code(), Proto::Oam.code(), Proto::Ipv6.code()], [4, 5, 6]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        code in 1..=7_u8, mpls: bool, id in 0..=0xf_ffff_u32, tc in 0..8_u8, ttl: u8, entropy in 0..=0xf_ffff_u32,
        oam in 0..4_u8, dscp in 0..64_u8, proto in 0..64_u8, bfir: u16, seed: u64, rewritten: (u8, u8),
    ) {
        let bsl = Bsl::from_code(code).unwrap();
        let carriage = if mpls { Carriage::Mpls } else { Carriage::NonMpls };
        let header = Header {
            carriage, bift_id: BiftId::new(id).unwrap(), tc, ttl, entropy, oam, dscp,
            proto: Proto::from(proto), bfir_id: BfrId::new(bfir),
        };
        let words: Vec<u64> = (1..).map(|n| seed.wrapping_mul(n) | 1).take(bsl.words()).collect();
        let mut packet = vec![0; header::len(bsl)];
        header.emit(bsl, &words, &mut packet).unwrap();
        let check = |packet: &[u8], ttl: u8, id: u32, words: &[u64]| {
            let view = View::parse(packet, carriage, bsl).unwrap();
            assert_eq!((view.bift_id().get(), view.ttl(), view.entropy(), view.oam()), (id, ttl, entropy, oam));
            assert_eq!((view.proto().code(), view.bfir_id()), (proto, BfrId::new(bfir)));
            assert_eq!((view.tc(), view.dscp()), if mpls { (tc, 0) } else { (0, dscp) });
            let mut read = vec![0; bsl.words()];
            view.load(&mut read);
            assert_eq!(read, words);
        };
        check(&packet, ttl, id, &words);
        let (other_ttl, other_id) = (rewritten.0, u32::from(rewritten.1) << 12 | 7);
        let words: Vec<u64> = words.iter().map(|word| !word | 2).collect();
        let template = Template::of(&View::parse(&packet, carriage, bsl).unwrap(), carriage, other_ttl);
        template.emit(BiftId::new(other_id).unwrap(), carriage, packet.first_chunk_mut().unwrap());
        bits::store(&words, &mut packet[header::FIXED_LEN..]);
        check(&packet, other_ttl, other_id, &words);
    }
}

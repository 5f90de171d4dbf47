//! Zone files: what is read from them, and what a wrong one is told.

use millrace_config::model::DnsName;
use millrace_config::zonefile::{ZoneFile, ZoneFileError};
use proptest::prelude::*;

fn origin() -> DnsName {
    "fn.example.".parse().unwrap()
}

fn parse(text: &str) -> Result<ZoneFile, ZoneFileError> {
    ZoneFile::parse(text.as_bytes(), &origin(), 30)
}

/// RFC 1035 section 5.3 in spirit: relative names, repeated owners, parentheses, comments, and types of all kinds.
const FILE: &str = r#"$ORIGIN fn.example.
$TTL 120
@   IN  SOA  ns1 ops (
        2026112301 ; serial
        3600 600 604800 5 )
    NS  ns1
    MX  10 mail
ns1 A   192.0.2.53
    AAAA 2001:db8::53
WWW 60 CNAME ns1.other.example.
*.w TXT "two words" "and \"quotes\""
a\.b\000c A 192.0.2.1
h   HTTPS 1 . alpn=h2 ipv4hint=192.0.2.7
u   TYPE65280 \# 3 0102ff
$ORIGIN sub
x   SRV 0 5 443 y
"#;

#[test]
fn a_zone_file_has_its_records_in_wire_form() {
    let file = parse(FILE).unwrap();
    let soa = file.soa.unwrap();
    assert_eq!(&*soa.primary, b"\x03ns1\x02fn\x07example\0");
    assert_eq!(&*soa.contact, b"\x03ops\x02fn\x07example\0");
    assert_eq!((soa.serial, soa.refresh_seconds, soa.retry_seconds), (2_026_112_301, 3600, 600));
    assert_eq!((soa.expire_seconds, soa.minimum_ttl_seconds), (604_800, 5));
    let read: Vec<_> = file
        .records
        .iter()
        .map(|record| (&*record.owner, record.ttl_seconds, record.type_number, &*record.data))
        .collect();
    let expected: &[(&[u8], u32, u16, &[u8])] = &[
        (b"\x02fn\x07example\0", 120, 2, b"\x03ns1\x02fn\x07example\0"),
        (b"\x02fn\x07example\0", 120, 15, b"\0\x0a\x04mail\x02fn\x07example\0"),
        (b"\x03ns1\x02fn\x07example\0", 120, 1, &[192, 0, 2, 53]),
        (b"\x03ns1\x02fn\x07example\0", 120, 28, b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x53"),
        (b"\x03www\x02fn\x07example\0", 60, 5, b"\x03ns1\x05other\x07example\0"),
        (b"\x01*\x01w\x02fn\x07example\0", 120, 16, b"\x09two words\x0cand \"quotes\""),
        (b"\x05a.b\0c\x02fn\x07example\0", 120, 1, &[192, 0, 2, 1]),
        (b"\x01h\x02fn\x07example\0", 120, 65, b"\0\x01\0\0\x01\0\x03\x02h2\0\x04\0\x04\xc0\0\x02\x07"),
        (b"\x01u\x02fn\x07example\0", 120, 65_280, &[1, 2, 255]),
        (b"\x01x\x03sub\x02fn\x07example\0", 120, 33, b"\0\0\0\x05\x01\xbb\x01y\x03sub\x02fn\x07example\0"),
    ];
    assert_eq!(read, expected);
}

#[test]
fn what_has_no_ttl_has_that_of_the_zone() {
    assert_eq!(parse("a A 192.0.2.1").unwrap().records[0].ttl_seconds, 30, "and the last line needs no end");
    assert_eq!(parse("").unwrap(), ZoneFile::default());
}

#[test]
fn a_wrong_file_is_told_its_line() {
    let told = |text: &str| parse(text).unwrap_err();
    assert_eq!(told("a A 192.0.2.1\nb A 192.0.2\n").line, 2);
    assert_eq!(told("\n\nb A 192.0.2.1 rest\n").line, 3);
    let include = told("a A 192.0.2.1\n$INCLUDE /etc/passwd\n");
    assert_eq!((include.line, include.problem.contains("$INCLUDE")), (2, true));
    assert!(told("a CH A 192.0.2.1").problem.contains("class"), "{}", told("a CH A 192.0.2.1"));
    assert!(told("a 604801 A 192.0.2.1").problem.contains("time to live"));
    assert!(told("a SOA x y 1 2 3 4 5").problem.contains("SOA"));
    assert!(told("@ SOA x y 1 2 3 4 5\n@ SOA x y 1 2 3 4 5").problem.contains("one SOA"));
    assert!(parse("@ TXT \"unterminated").is_err());
    let open = told("%*'%Aere.w TXT tJ SVb%CN(Aere.w TXT tJ SV");
    assert!(open.problem.contains("parenthesis"), "{open}");
    for unsendable in
        ["a..b A 192.0.2.1", "a CNAME b..c", "a MX 1 b..c", "a A \\# 3 010203", "a MX \\# 6 00010161c002"]
    {
        assert!(told(unsendable).problem.contains("can't be sent"), "{unsendable}: {}", told(unsendable));
    }
    assert!(told("@ SOA a..b c 1 2 3 4 5").problem.contains("empty label"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Changed at random, a file is read or refused, and what is read can be sent.
    #[test]
    fn any_file_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"\n\t\" ();$\\@.".to_vec())]), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = FILE.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text.truncate(cut.index(text.len()) + 1);
        if let Ok(file) = ZoneFile::parse(&text, &origin(), 30) {
            for record in file.records {
                prop_assert!(record.owner.len() <= 255 && record.owner.ends_with(&[0]));
                prop_assert!(record.data.len() <= 65_535);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ZoneFile::parse(&text, &origin(), 30);
    }
}

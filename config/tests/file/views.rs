//! Names for all clients and for some.

use super::*;

#[test]
fn names_for_all_and_for_some() {
    let views = r#"
cookies = true
cookie_secrets = "file:c.secret"
rate_limit = { responses_per_second = 50, per_prefix = { v6 = 64 } }
[[dns.view]]
name = "inside"
ports = ["lan"]
clients = ["10.0.0.0/8", "2001:db8:a::/48"]
[[dns.zone]]
name = "fn.example."
view = "inside"
file = "inside.zone"
records = [
  { name = "alias", type = "CNAME", data = "hello" },
  { name = "@", type = "MX", data = "10 mail" },
  { name = "@", type = "CAA", data = "0 issue \"ca.example\"" },
  { name = "hello", type = "HTTPS", data = "1 . alpn=h2,h3 port=8443" },
  { name = "_x._tcp", type = "SRV", data = "0 5 443 hello" },
  { name = "p", type = "PTR", data = "hello.fn.example." },
  { name = "*.w", type = "A", data = "192.0.2.9" },
]
[[dns.zone]]"#;
    let config =
        Config::parse("v.toml", &with("[[dns.zone]]", views)).unwrap_or_else(|report| panic!("{report}"));
    let dns = config.dns.unwrap();
    assert_eq!(dns.cookies, Some(Cookies::Shared(SecretRef::File("c.secret".into()))));
    let limit = RateLimit { responses_per_second: 50, prefix_v4: 24, prefix_v6: 64, slip: 2 };
    assert_eq!(dns.rate_limit, Some(limit));
    assert_eq!((dns.views[0].ports.as_slice(), dns.views[0].clients.len()), (&[PortIndex(1)][..], 2));
    let inside = &dns.zones[0];
    assert_eq!(
        (inside.view, &inside.soa, &inside.file),
        (Some(ViewIndex(0)), &None, &Some("inside.zone".into()))
    );
    assert_eq!(dns.zones[1].view, None);
    let data: Vec<_> = inside.records.iter().map(|record| &record.data).collect();
    assert_eq!(data[0], &RecordData::Cname("hello.fn.example.".parse().unwrap()));
    let other = |type_number, bytes: &[u8]| RecordData::Other { type_number, data: bytes.to_vec() };
    assert_eq!(data[1], &other(15, b"\0\x0a\x04mail\x02fn\x07example\0"));
    assert_eq!(data[2], &other(257, b"\0\x05issueca.example"));
    assert_eq!(data[3], &other(65, b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x20\xfb"));
    assert_eq!(data[4], &other(33, b"\0\0\0\x05\x01\xbb\x05hello\x02fn\x07example\0"));
    assert_eq!(data[5], &other(12, b"\x05hello\x02fn\x07example\0"));
}

#[test]
fn a_zone_belongs_to_a_view_once() {
    let zone = "name = \"fn.example.\"\nfile = \"x\"\nview = \"v\"\n";
    let text = format!(
        "view = [{{ name = \"v\", ports = [\"lan\"] }}]\n[[dns.zone]]\n{zone}[[dns.zone]]\n{zone}[[dns.zone]]"
    );
    assert_eq!(told(&with("[[dns.zone]]", &text)), [(Code::Duplicate, "\"fn.example.\"".into())]);
}

//! Three zones that have one of everything, and services in every state. Shared by tests and fuzz targets.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::dns::{Context, CookieKeys, Cookies, Readiness, RecordType, Role, Transport};
use millrace_fastpath::tables::names::{
    HashKey, NameBinding, Names, NamesError, Record, RecordData, Soa, WireName, Zone,
};
use millrace_fastpath::tables::services::ServiceId;

/// The key of the fixture's tables.
pub(crate) const KEY: HashKey = HashKey(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

/// A name from text whose labels are parted by dots; the final dot may be missing.
pub(crate) fn name(text: &str) -> WireName {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    WireName::from_wire(&wire).expect("fixtures have names within limits")
}

fn soa(minimum_ttl_seconds: u32) -> Soa {
    Soa {
        primary: name("ns1.fn.example."),
        contact: name("ops.fn.example."),
        serial: 7,
        refresh_seconds: 3600,
        retry_seconds: 600,
        expire_seconds: 86400,
        minimum_ttl_seconds,
    }
}

fn record(owner: &str, ttl_seconds: u32, data: RecordData) -> Record {
    Record { owner: name(owner), ttl_seconds, data }
}

fn alias(owner: &str, target: &str) -> Record {
    record(owner, 40, RecordData::Cname(name(target)))
}

fn other(owner: &str, kind: RecordType, data: &[u8]) -> Record {
    record(owner, 50, RecordData::Other { kind, data: data.to_vec() })
}

fn text(strings: &[&[u8]]) -> RecordData {
    RecordData::Txt(strings.iter().map(|string| string.to_vec()).collect())
}

fn binding(owner: &str, service: u16, v4: &[[u8; 4]], v6: &[u16]) -> NameBinding {
    NameBinding {
        name: name(owner),
        service: ServiceId(service),
        v4: v4.iter().map(|octets| Ipv4Addr::from(*octets)).collect(),
        v6: v6.iter().map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, *last)).collect(),
    }
}

/// The zones: `fn.example.`, `in.fn.example.` inside it without a delegation, and `other.test.`.
pub(crate) fn zones() -> Vec<Zone> {
    let many = (0..120).map(|last| record("many.fn.example", 60, RecordData::A([198, 51, 100, last].into())));
    let long = [b'x'; 250];
    let mut records = vec![
        record("fn.example", 300, RecordData::Ns(name("ns1.fn.example"))),
        record("fn.example", 200, RecordData::Ns(name("NS2.fn.example"))),
        record("fn.example", 30, text(&[b"v=1", b""])),
        record("ns1.fn.example", 30, RecordData::A([192, 0, 2, 53].into())),
        record("ns2.fn.example", 30, RecordData::A([192, 0, 2, 54].into())),
        record("ns2.fn.example", 30, RecordData::Aaaa("2001:db8::53".parse().expect("a literal"))),
        record("a.b.deep.fn.example", 30, RecordData::A([192, 0, 2, 60].into())),
        record("hello.fn.example", 45, text(&[b"a function"])),
        record("big.fn.example", 30, text(&[&long, &long])),
        record("huge.fn.example", 30, text(&[&long[..], &long, &long, &long, &long, &long])),
        Record {
            owner: WireName::from_wire(b"\x04x\0.Y\x02fn\x07example\0").expect("binary labels are legal"),
            ttl_seconds: 30,
            data: RecordData::A([192, 0, 2, 61].into()),
        },
        alias("alias.fn.example", "ns2.fn.example"),
        alias("to-hello.fn.example", "hello.fn.example"),
        alias("to-later.fn.example", "later.fn.example"),
        alias("to-multi.fn.example", "multi.fn.example"),
        alias("to-many.fn.example", "many.fn.example"),
        alias("to-nothing.fn.example", "nothing.fn.example"),
        alias("to-ent.fn.example", "b.deep.fn.example"),
        alias("to-inner.fn.example", "www.sub.in.fn.example"),
        alias("to-foreign.fn.example", "www.example.org"),
        alias("to-wild.fn.example", "x.y.wild.fn.example"),
        alias("c1.fn.example", "c2.fn.example"),
        alias("c2.fn.example", "c3.fn.example"),
        alias("c3.fn.example", "c4.fn.example"),
        alias("c4.fn.example", "c5.fn.example"),
        alias("c5.fn.example", "c6.fn.example"),
        alias("c6.fn.example", "c7.fn.example"),
        alias("c7.fn.example", "c8.fn.example"),
        alias("c8.fn.example", "warm.fn.example"),
        record("*.wild.fn.example", 35, RecordData::A([192, 0, 2, 70].into())),
        record("*.wild.fn.example", 35, text(&[b"any"])),
        record("here.wild.fn.example", 35, text(&[b"not the wildcard's"])),
        record("under.*.wild.fn.example", 35, RecordData::A([192, 0, 2, 71].into())),
        record("a.*.entwild.fn.example", 35, RecordData::A([192, 0, 2, 72].into())),
        alias("*.wildalias.fn.example", "hello.fn.example"),
        alias("*.wildlater.fn.example", "later.fn.example"),
        other("hello.fn.example", RecordType::HTTPS, b"\0\x01\0\0\x01\0\x03\x02h2"),
        other("svc.fn.example", RecordType::SVCB, b"\0\0\x03ns1\x02fn\x07example\0"),
        other("fn.example", RecordType::MX, b"\0\x0a\x04mail\x02fn\x07example\0"),
        other("fn.example", RecordType::CAA, b"\0\x05issueca.example"),
        other("fn.example", RecordType(65_280), b"any bytes \0\xff"),
    ];
    records.extend(many);
    vec![
        Zone {
            apex: name("fn.example"),
            soa: soa(5),
            ttl_seconds: 30,
            cold_ttl_seconds: 1,
            records,
            bindings: vec![
                binding("hello.fn.example", 1, &[[203, 0, 113, 10]], &[0x10]),
                binding("warm.fn.example", 2, &[[203, 0, 113, 11]], &[0x11]),
                binding("v4.fn.example", 3, &[[203, 0, 113, 12]], &[]),
                binding("v6.fn.example", 4, &[], &[0x13]),
                binding(
                    "multi.fn.example",
                    5,
                    &[[203, 0, 113, 1], [203, 0, 113, 2], [203, 0, 113, 3]],
                    &[1, 2],
                ),
                binding("later.fn.example", 7, &[[203, 0, 113, 70]], &[0x70]),
                binding("fn.example", 8, &[[203, 0, 113, 80]], &[]),
            ],
        },
        Zone {
            apex: name("sub.in.fn.example"),
            soa: soa(600),
            ttl_seconds: 20,
            cold_ttl_seconds: 2,
            records: vec![record("www.sub.in.fn.example", 10, RecordData::A([192, 0, 2, 80].into()))],
            bindings: vec![binding("deep.hello.sub.in.fn.example", 9, &[[203, 0, 113, 90]], &[])],
        },
        Zone {
            apex: name("other.test"),
            soa: soa(0),
            ttl_seconds: 0,
            cold_ttl_seconds: 0,
            records: vec![],
            bindings: vec![],
        },
    ]
}

/// The table of [`zones`].
///
/// # Errors
/// None, unless the fixture is wrong.
pub(crate) fn names() -> Result<Names, NamesError> {
    Names::build(KEY, &zones())
}

/// Even services are warm, odd ones cold; 7 wants its queries kept.
pub(crate) fn readiness(service: ServiceId) -> Readiness {
    match service.0 {
        7 => Readiness::Defer,
        even if even % 2 == 0 => Readiness::Warm,
        _ => Readiness::Cold,
    }
}

/// A context on the fixture's services.
pub(crate) fn context(
    names: &Names,
    role: Role,
    transport: Transport,
) -> Context<'_, impl Fn(ServiceId) -> Readiness + use<>> {
    let cookies = match role {
        Role::Authoritative => Some(Cookies { keys: &COOKIE_KEYS, client: CLIENT, now: NOW }),
        Role::Intercept => None,
    };
    Context { names, role, transport, cookies, readiness }
}

/// The secrets behind the fixture's cookies: the current one, and the one before.
pub(crate) const COOKIE_SECRETS: [[u8; 16]; 2] = [[0xc0; 16], [0x01; 16]];
static COOKIE_KEYS: LazyLock<CookieKeys> =
    LazyLock::new(|| CookieKeys::new(&COOKIE_SECRETS, 1_700_000_000_000_000_000).expect("there are secrets"));
/// Who asks.
pub(crate) const CLIENT: Addr = Addr(0xffff_c000_0201);
/// When: a second after the keys' offset, in 2023.
pub(crate) const NOW: Nanos = Nanos(1_000_000_000);

//! A zone with one name that leads to a service.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::{HashKey, NameBinding, Soa, WireName, Zone};
use millrace_fastpath::tables::services::ServiceId;

pub(crate) fn wire(text: &str) -> WireName {
    let mut bytes = Vec::new();
    for label in text.split_terminator('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    WireName::from_wire(&bytes).unwrap()
}

/// A zone in which `hello` leads to service 0 at this address.
pub(crate) fn names(address: [u8; 4]) -> Names {
    let zone = Zone {
        apex: wire("fn.example."),
        soa: Soa {
            primary: wire("ns1.fn.example."),
            contact: wire("ops.fn.example."),
            serial: 1,
            refresh_seconds: 3600,
            retry_seconds: 600,
            expire_seconds: 86_400,
            minimum_ttl_seconds: 5,
        },
        ttl_seconds: 30,
        cold_ttl_seconds: 1,
        records: Vec::new(),
        bindings: Vec::new(),
    };
    let mut names = Names::build(HashKey(1, 2), &[zone]).unwrap();
    names
        .bind(&NameBinding {
            name: wire("hello.fn.example."),
            service: ServiceId(0),
            v4: vec![Ipv4Addr::from(address)],
            v6: vec![Ipv6Addr::from_str("2001:db8:f::10").unwrap()],
        })
        .unwrap();
    names
}

//! Addresses, names and packets as operators read them.

use std::net::SocketAddr;

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::interfaces::Mac;
use millrace_fastpath::tables::names::WireName;
use millrace_fastpath::tables::services::Endpoint;

pub(super) fn name_text(wire: &[u8]) -> String {
    WireName::from_wire(wire).map(|name| name.to_string()).unwrap_or_default()
}

/// A link-layer address as operators write it.
pub fn mac_text(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

pub(super) fn socket_text((addr, port): (Addr, u16)) -> String {
    SocketAddr::new(addr.to_ip(), port).to_string()
}

pub(super) fn endpoint_text(endpoint: &Endpoint) -> String {
    format!("{} {}", protocol_text(endpoint.protocol), socket_text((endpoint.addr, endpoint.port)))
}

pub(super) fn protocol_text(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// The headers of a packet in short: `tcp 192.0.2.7:40000 > 203.0.113.10:80 syn`.
pub(super) fn summary(ip: &[u8]) -> String {
    let (protocol, source, destination, l4) = match (ip.first().map(|byte| byte >> 4), ip) {
        (Some(4), ip) if ip.len() >= 20 => {
            let addr = |at: usize| Addr::v4([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
            (ip[9], addr(12), addr(16), ip.get(usize::from(ip[0] & 15) * 4..).unwrap_or(&[]))
        }
        (Some(6), ip) if ip.len() >= 40 => {
            let addr = |at: usize| Addr::v6(std::array::from_fn(|byte| ip[at + byte]));
            (ip[6], addr(8), addr(24), &ip[40..])
        }
        _ => return String::new(),
    };
    let name = protocol_text(protocol);
    let (6 | 17, [a, b, c, d, rest @ ..]) = (protocol, l4) else {
        return format!("{name} {source} > {destination}");
    };
    let (from, to) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    let mut text = format!("{name} {} > {}", socket_text((source, from)), socket_text((destination, to)));
    if let (6, Some(flags)) = (protocol, rest.get(9)) {
        for (bit, flag) in ["fin", "syn", "rst", "psh", "ack", "urg"].iter().enumerate() {
            if flags >> bit & 1 == 1 {
                text.push(' ');
                text.push_str(flag);
            }
        }
    }
    text
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_in_short() {
        let mut syn = vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 203, 0, 113, 10];
        syn.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x12]);
        assert_eq!(summary(&syn), "tcp 192.0.2.7:40000 > 203.0.113.10:80 syn ack");
        assert_eq!(summary(&syn[..22]), "tcp 192.0.2.7 > 203.0.113.10");
        assert_eq!(summary(&syn[..19]), "");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        v6.extend([0; 15]);
        v6.push(1);
        v6.extend([0; 15]);
        v6.push(2);
        assert_eq!(summary(&v6), "icmpv6 ::1 > ::2");
    }
}

//! IGMP (RFC 9776; RFC 2236 and RFC 1112 of hosts that know no better), to and from [`Message`].
//!
//! ```text
//!  type  code  checksum  group                                        versions 1 and 2: queries, reports, leaves
//!  0x11  code  checksum  group  S QRV  QQIC  count  sources ...       version 3: queries
//!  0x22  0     checksum  0  count  records ...                        version 3: reports
//! ```

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::interfaces::Mac;
use millrace_fastpath::wire::{IGMP, checksum, ethernet, ipv4};

use super::message::{
    Heard, Message, Query, Record, RecordKind, Refused, Version, ask, asked, decoded8, encoded8, is_group,
    records, report_records,
};

/// All hosts on the link (RFC 1112 section 4).
const ALL_SYSTEMS: [u8; 4] = [224, 0, 0, 1];
/// All routers on the link (RFC 2236 section 9).
const ALL_OLD_ROUTERS: [u8; 4] = [224, 0, 0, 2];
/// All routers that speak version 3 (RFC 9776 section 4.2.14).
const ALL_ROUTERS: [u8; 4] = [224, 0, 0, 22];
const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;
/// The IPv4 option that has routers look at a packet (RFC 2113), with its value.
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Internetwork control (RFC 9776 section 4).
const TOS: u8 = 0xc0;

/// Reads an IPv4 packet. It must come from this link, so its time to live is 1 (RFC 9776 section 4). Messages of version 3
/// have to have the option for routers; stacks that speak older ones may not know it.
pub(super) fn parse(ip: &[u8]) -> Result<Heard, Refused> {
    let header = ipv4::parse(ip, ip.len(), true).map_err(|_| Refused::Malformed)?;
    if header.fragment || header.protocol != IGMP || ipv4::ttl(ip) != 1 {
        return Err(Refused::Malformed);
    }
    let alert = has_router_alert(&ip[ipv4::HEADER..header.header_len]);
    let bytes = &ip[header.header_len..header.total_len];
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or(Refused::Malformed)?;
    if !checksum::is_right(bytes) {
        return Err(Refused::Malformed);
    }
    let group = Addr::v4([head[4], head[5], head[6], head[7]]);
    let one = |version, kind| match is_group(group) {
        true => Ok(Message::Report(version, vec![Record { kind, group, sources: Vec::new() }])),
        false => Err(Refused::Malformed),
    };
    let message = match head[0] {
        QUERY => Message::Query(query(head[1], group, rest, alert)?),
        REPORT_V1 => one(Version::First, RecordKind::IsExclude)?,
        REPORT_V2 => one(Version::Second, RecordKind::IsExclude)?,
        LEAVE => one(Version::Second, RecordKind::ToInclude)?,
        REPORT_V3 if alert => {
            let count = u16::from_be_bytes([head[6], head[7]]);
            Message::Report(Version::Third, records(count, rest, Addr::v4)?)
        }
        REPORT_V3 => return Err(Refused::Malformed),
        _ => return Err(Refused::Unknown),
    };
    Ok(Heard { source: header.source, message })
}

/// A query is of version 3 by its length (RFC 9776 section 7.1).
fn query(code: u8, group: Addr, rest: &[u8], alert: bool) -> Result<Query, Refused> {
    let group = match group {
        any if any == Addr::v4([0; 4]) => None,
        group if is_group(group) => Some(group),
        _ => return Err(Refused::Malformed),
    };
    let version = match (rest, code) {
        ([], 0) => Version::First,
        ([], _) => Version::Second,
        _ => Version::Third,
    };
    let (suppress, robustness, interval_seconds, sources) = match rest {
        [] => (false, 0, 0, Vec::new()),
        _ if !alert => return Err(Refused::Malformed),
        _ => asked(rest, Addr::v4)?,
    };
    // Version 1 has no code: ten seconds (RFC 2236 section 4).
    let response_ms = if code == 0 { 10_000 } else { decoded8(code) * 100 };
    Ok(Query { version, group, sources, suppress, robustness, interval_seconds, response_ms })
}

fn has_router_alert(mut options: &[u8]) -> bool {
    loop {
        options = match options {
            // The end, and padding (RFC 791 section 3.1).
            [] | [0, ..] => return false,
            [1, rest @ ..] => rest,
            [0x94, 4, ..] => return true,
            [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        };
    }
}

/// A query from our address, as an Ethernet frame.
pub(super) fn query_frame(from: Addr, mac: Mac, query: &Query) -> Vec<u8> {
    frame(mac, query_packet(from, query))
}

/// An IPv4 packet to a group, as an Ethernet frame.
pub(super) fn frame(mac: Mac, packet: Vec<u8>) -> Vec<u8> {
    let to = Mac::from([0x01, 0x00, 0x5e, packet[17] & 0x7f, packet[18], packet[19]]);
    let mut frame = to.to_vec();
    frame.extend(mac);
    frame.extend(ethernet::IPV4.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The same as an IPv4 packet.
pub(super) fn query_packet(from: Addr, query: &Query) -> Vec<u8> {
    let mut igmp = vec![QUERY, encoded8(query.response_ms / 100).max(1), 0, 0];
    igmp.extend(query.group.map_or([0; 4], Addr::v4_bytes));
    ask(query, &mut igmp, |source, bytes| bytes.extend(source.v4_bytes()));
    let sum = !checksum::fold(checksum::sum(&igmp));
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, asked_at(query), &igmp)
}

fn asked_at(query: &Query) -> [u8; 4] {
    query.group.map_or(ALL_SYSTEMS, Addr::v4_bytes)
}

/// A report, as an IPv4 packet.
pub(super) fn report(from: Addr, records: &[Record]) -> Vec<u8> {
    let mut igmp = vec![REPORT_V3, 0, 0, 0, 0, 0];
    report_records(records, &mut igmp, |addr, bytes| bytes.extend(addr.v4_bytes()));
    let sum = !checksum::fold(checksum::sum(&igmp));
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, ALL_ROUTERS, &igmp)
}

/// What a host says of a group to routers of an older version: that it listens, or doesn't any more, for which the first has no word.
pub(super) fn old_report(version: Version, from: Addr, group: Addr, leaves: bool) -> Option<Vec<u8>> {
    let (kind, to) = match (version, leaves) {
        (Version::First, true) => return None,
        (Version::First, false) => (REPORT_V1, group.v4_bytes()),
        (_, false) => (REPORT_V2, group.v4_bytes()),
        (_, true) => (LEAVE, ALL_OLD_ROUTERS),
    };
    let mut igmp = vec![kind, 0, 0, 0];
    igmp.extend(group.v4_bytes());
    let sum = !checksum::fold(checksum::sum(&igmp));
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(packet(from, to, &igmp))
}

fn packet(from: Addr, to: [u8; 4], igmp: &[u8]) -> Vec<u8> {
    let header_len = ipv4::HEADER + ROUTER_ALERT.len();
    let mut ip = vec![0x40 | (header_len / 4) as u8, TOS];
    ip.extend(((header_len + igmp.len()) as u16).to_be_bytes());
    // Not to be fragmented; time to live 1.
    ip.extend([0, 0, 0x40, 0, 1, IGMP, 0, 0]);
    ip.extend(from.v4_bytes());
    ip.extend(to);
    ip.extend(ROUTER_ALERT);
    ipv4::fill_checksum(&mut ip, header_len);
    ip.extend(igmp);
    ip
}

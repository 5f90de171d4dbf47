//! MLD (RFC 9777; RFC 2710 of hosts that know no better), to and from [`Message`].
//!
//! ```text
//!  130  code  checksum  response  0  group                                   version 1: query; 131 report, 132 done
//!  130  code  checksum  response  0  group  S QRV  QQIC  count  sources ...  version 2: query
//!  143  0     checksum  0  count  records ...                                version 2: report
//! ```

use millrace_fastpath::addr::Addr;
use millrace_fastpath::tables::interfaces::Mac;
use millrace_fastpath::wire::ipv6::{self, HOP_BY_HOP};
use millrace_fastpath::wire::{ICMPV6, checksum, ethernet};

use super::message::{
    Heard, Message, Query, Record, RecordKind, Refused, Version, ask, asked, decoded16, encoded16, is_group,
    records, report_records,
};
use crate::builder::is_link_local;

/// All nodes on the link (RFC 4291 section 2.7.1).
const ALL_NODES: Addr = Addr(0xff02 << 112 | 1);
/// All routers on the link (RFC 2710 section 3).
const ALL_OLD_ROUTERS: Addr = Addr(0xff02 << 112 | 2);
/// All routers that speak version 2 (RFC 9777 section 5.2.14).
const ALL_ROUTERS: Addr = Addr(0xff02 << 112 | 0x16);
const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const DONE: u8 = 132;
const REPORT_V2: u8 = 143;
/// Hop-by-hop options that have routers look at a packet because of MLD (RFC 2711), padded to eight bytes.
const ROUTER_ALERT: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Reads an IPv6 packet. It must come from a link-local address with a hop limit of 1 and the option for routers (RFC 9777
/// sections 5.1.14, 5.2.13 and 6.2).
pub(super) fn parse(ip: &[u8]) -> Result<Heard, Refused> {
    let heard = parse_from_afar(ip)?;
    if is_link_local(heard.source) { Ok(heard) } else { Err(Refused::Malformed) }
}

/// The same of a packet that comes from no link, but in BIER: from any address.
pub(super) fn parse_from_afar(ip: &[u8]) -> Result<Heard, Refused> {
    let header = ipv6::parse(ip, ip.len()).map_err(|_| Refused::Malformed)?;
    let chain = ipv6::walk(ip, header.total_len).map_err(|_| Refused::Malformed)?;
    let is_whole = chain.protocol == ICMPV6 && chain.fragment.is_none();
    if !is_whole || ipv6::hop_limit(ip) != 1 || !has_router_alert(ip) {
        return Err(Refused::Malformed);
    }
    let bytes = &ip[chain.offset..header.total_len];
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or(Refused::Malformed)?;
    let pseudo = checksum::pseudo_header(header.source, header.destination, ICMPV6, bytes.len());
    if checksum::fold(pseudo + checksum::sum(bytes)) != 0xffff {
        return Err(Refused::Malformed);
    }
    let message = match head[0] {
        QUERY => Message::Query(query(u16::from_be_bytes([head[4], head[5]]), rest)?),
        REPORT_V1 => one(rest, RecordKind::IsExclude)?,
        DONE => one(rest, RecordKind::ToInclude)?,
        REPORT_V2 => {
            let count = u16::from_be_bytes([head[6], head[7]]);
            Message::Report(Version::Third, records(count, rest, addr)?)
        }
        _ => return Err(Refused::Unknown),
    };
    Ok(Heard { source: header.source, message })
}

/// A query is of version 2 by its length (RFC 9777 section 8.1).
fn query(code: u16, rest: &[u8]) -> Result<Query, Refused> {
    let (group, rest) = rest.split_first_chunk::<16>().ok_or(Refused::Malformed)?;
    let group = match addr(*group) {
        Addr(0) => None,
        group if is_group(group) => Some(group),
        _ => return Err(Refused::Malformed),
    };
    let (suppress, robustness, interval_seconds, sources) = match rest {
        [] => (false, 0, 0, Vec::new()),
        _ => asked(rest, addr)?,
    };
    let version = if rest.is_empty() { Version::Second } else { Version::Third };
    let response_ms = decoded16(code);
    Ok(Query { version, group, sources, suppress, robustness, interval_seconds, response_ms })
}

/// IPv4 addresses in their mapped form may not be on a wire, and would pass for those; the unspecified address fits nowhere.
fn addr(bytes: [u8; 16]) -> Addr {
    let addr = Addr::v6(bytes);
    if addr.is_v4() { Addr(0) } else { addr }
}

fn one(rest: &[u8], kind: RecordKind) -> Result<Message, Refused> {
    let group = addr(*rest.first_chunk::<16>().ok_or(Refused::Malformed)?);
    if !is_group(group) {
        return Err(Refused::Malformed);
    }
    Ok(Message::Report(Version::Second, vec![Record { kind, group, sources: Vec::new() }]))
}

/// Whether the first extension header is hop-by-hop options with the one for routers, and its value is MLD's.
fn has_router_alert(ip: &[u8]) -> bool {
    if ip.get(6) != Some(&HOP_BY_HOP) {
        return false;
    }
    let len = ip.get(41).map_or(0, |len| (usize::from(*len) + 1) * 8);
    let mut options = ip.get(42..ipv6::HEADER + len).unwrap_or_default();
    loop {
        options = match options {
            [0, rest @ ..] => rest,
            [5, 2, 0, 0, ..] => return true,
            [_, len, rest @ ..] => rest.get(usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        };
    }
}

/// A query from our link-local address, as an Ethernet frame.
pub(super) fn query_frame(from: Addr, mac: Mac, query: &Query) -> Vec<u8> {
    frame(mac, query_packet(from, query))
}

/// An IPv6 packet to a group, as an Ethernet frame.
pub(super) fn frame(mac: Mac, packet: Vec<u8>) -> Vec<u8> {
    let to = Mac::from([0x33, 0x33, packet[36], packet[37], packet[38], packet[39]]);
    let mut frame = to.to_vec();
    frame.extend(mac);
    frame.extend(ethernet::IPV6.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The same as an IPv6 packet.
pub(super) fn query_packet(from: Addr, query: &Query) -> Vec<u8> {
    let mut mld = vec![QUERY, 0, 0, 0];
    mld.extend(encoded16(query.response_ms).to_be_bytes());
    mld.extend([0, 0]);
    mld.extend(query.group.unwrap_or(Addr(0)).v6_bytes());
    ask(query, &mut mld, |source, bytes| bytes.extend(source.v6_bytes()));
    packet(from, asked_at(query), mld)
}

fn asked_at(query: &Query) -> Addr {
    query.group.unwrap_or(ALL_NODES)
}

/// A report, as an IPv6 packet.
pub(super) fn report(from: Addr, records: &[Record]) -> Vec<u8> {
    let mut mld = vec![REPORT_V2, 0, 0, 0, 0, 0];
    report_records(records, &mut mld, |addr, bytes| bytes.extend(addr.v6_bytes()));
    packet(from, ALL_ROUTERS, mld)
}

/// What a host says of a group to routers of version 1: that it listens, or doesn't any more.
pub(super) fn old_report(from: Addr, group: Addr, leaves: bool) -> Vec<u8> {
    let (kind, to) = if leaves { (DONE, ALL_OLD_ROUTERS) } else { (REPORT_V1, group) };
    let mut mld = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    mld.extend(group.v6_bytes());
    packet(from, to, mld)
}

fn packet(from: Addr, to: Addr, mut mld: Vec<u8>) -> Vec<u8> {
    let pseudo = checksum::pseudo_header(from, to, ICMPV6, mld.len());
    let sum = !checksum::fold(pseudo + checksum::sum(&mld));
    mld[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend(((ROUTER_ALERT.len() + mld.len()) as u16).to_be_bytes());
    ip.extend([HOP_BY_HOP, 1]);
    ip.extend(from.v6_bytes());
    ip.extend(to.v6_bytes());
    ip.extend(ROUTER_ALERT);
    ip.extend(mld);
    ip
}

//! What a router answers to a request (section 4.4).

use super::{Echo, Kind, ReplyMode, ReturnCode, SetBits, SubTlv, TimestampFormat, Tlv};
use crate::bits;
use crate::id::BiftKey;

/// TLVs of unknown types from this on may be ignored together with their packet.
const OPTIONAL_FROM: u16 = 32768;

/// How a request came, and what forwarding makes of its packet.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// What its BIFT-id stands for here.
    pub key: BiftKey,
    /// The bit string of its header.
    pub bits: &'a [u64],
    /// Our own bit is set.
    pub local: bool,
    /// Other bits are set.
    pub others: bool,
    /// Some of the others have a way.
    pub onward: bool,
}

/// What to answer; `None` for nothing.
#[must_use]
pub fn judge(request: &Echo, arrival: &Arrival<'_>) -> Option<ReturnCode> {
    let (mut originals, mut targets, mut incoming, mut mappings) = (0, 0, 0, 0);
    let (mut unsupported, mut optional) = (false, false);
    let mut original: Option<&SetBits> = None;
    let mut target: Option<&SetBits> = None;
    let (mut egress, mut multipath): (Option<&SetBits>, bool) = (None, false);
    for tlv in &request.tlvs {
        match tlv {
            Tlv::Original(set) => (originals, original) = (originals + 1, Some(set)),
            Tlv::Target(set) => (targets, target) = (targets + 1, Some(set)),
            Tlv::Incoming(_) => incoming += 1,
            Tlv::Mapping(mapping) => {
                mappings += 1;
                for sub_tlv in &mapping.sub_tlvs {
                    match sub_tlv {
                        SubTlv::Egress(set) => egress = egress.or(Some(set)),
                        SubTlv::Multipath { .. } => multipath = true,
                    }
                }
            }
            Tlv::Unknown { kind, .. } if *kind >= OPTIONAL_FROM => optional = true,
            _ => unsupported = true,
        }
    }
    let is_aimed_at = |set: &SetBits| {
        set.key == arrival.key
            && set.bits.words().iter().zip(arrival.bits).any(|(one, other)| one & other != 0)
    };
    if request.kind != Kind::Request || target.is_some_and(|set| !is_aimed_at(set)) {
        return None;
    }
    if originals == 1 && original.is_some_and(|set| set.key != arrival.key) {
        return Some(ReturnCode::SetMismatch);
    }
    if !matches!(request.reply_mode, ReplyMode::Udp | ReplyMode::Bier) {
        return None;
    }
    let dated = matches!(request.sent_format, TimestampFormat::Ntp | TimestampFormat::Ptp);
    if !dated || originals != 1 || incoming > 0 || (mappings > 0 && targets != 1) {
        return Some(ReturnCode::Malformed);
    }
    if unsupported {
        return Some(ReturnCode::UnsupportedTlv);
    }
    if optional {
        return None;
    }
    if egress.is_some_and(|set| set.bits.words() != arrival.bits) {
        return Some(ReturnCode::MappingMismatch);
    }
    if multipath && target.is_some_and(|set| bits::popcount(set.bits.words()) > 1) {
        return Some(ReturnCode::InvalidMultipath);
    }
    Some(match (arrival.local, arrival.others, arrival.onward) {
        (true, false, _) => ReturnCode::OnlyBfer,
        (true, true, _) => ReturnCode::OneBfer,
        (false, _, false) => ReturnCode::NoEntry,
        (false, _, true) => ReturnCode::Forwarded,
    })
}

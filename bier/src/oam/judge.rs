//! What a router answers to a request (section 4.4).

use core::net::IpAddr;

use super::{
    Downstream, Echo, FIXED_LEN, Kind, Mapping, ReplyMode, ReturnCode, SetBits, SubTlv, TimestampFormat, Tlv,
};
use crate::bits;
use crate::header::Carriage;
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
    /// What the packet came in.
    pub carriage: Carriage,
    /// Our BFR-prefix and our addresses: which of several mappings is about us.
    pub addresses: &'a [IpAddr],
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What we say.
    pub code: ReturnCode,
    /// What is wrong with the request, in bytes from its start; [`Tlv::Erroneous`] tells it.
    pub pointer: Option<u32>,
}

/// What to answer; `None` for nothing.
#[must_use]
pub fn judge(request: &Echo, arrival: &Arrival<'_>) -> Option<Verdict> {
    let fine = |code| Some(Verdict { code, pointer: None });
    let wrong = |code, at: usize| Some(Verdict { code, pointer: u32::try_from(at).ok() });
    let mut found = Found::default();
    for (at, tlv) in request.tlvs.iter().enumerate() {
        found.take(at, tlv, arrival);
    }
    let is_aimed_at = |set: &SetBits| {
        set.key == arrival.key
            && set.bits.words().iter().zip(arrival.bits).any(|(one, other)| one & other != 0)
    };
    if request.kind != Kind::Request || found.target.is_some_and(|set| !is_aimed_at(set)) {
        return None;
    }
    if found.originals == 1 && found.original.is_some_and(|set| set.key != arrival.key) {
        return fine(ReturnCode::SetMismatch);
    }
    if !matches!(request.reply_mode, ReplyMode::Udp | ReplyMode::Bier) {
        return None;
    }
    if !matches!(request.sent_format, TimestampFormat::Ntp | TimestampFormat::Ptp) {
        return wrong(ReturnCode::Malformed, FORMATS_AT);
    }
    if let Some(at) = found.surplus {
        return wrong(ReturnCode::Malformed, request.offset(at));
    }
    if found.originals != 1 {
        return wrong(ReturnCode::Malformed, FIXED_LEN);
    }
    if let Some(at) = found.mapping.filter(|_| found.targets != 1) {
        return wrong(ReturnCode::Malformed, request.offset(at));
    }
    if let Some(at) = found.unsupported {
        return wrong(ReturnCode::UnsupportedTlv, request.offset(at));
    }
    if found.optional {
        return None;
    }
    if found.egress == Some(false) {
        return fine(ReturnCode::MappingMismatch);
    }
    // Elsewhere it is to be ignored (section 3.4.4.1.1).
    let multipath = found.multipath && arrival.carriage == Carriage::Mpls;
    if multipath && found.target.is_some_and(|set| bits::popcount(set.bits.words()) > 1) {
        return fine(ReturnCode::InvalidMultipath);
    }
    fine(match (arrival.local, arrival.others, arrival.onward) {
        (true, false, _) => ReturnCode::OnlyBfer,
        (true, true, _) => ReturnCode::OneBfer,
        (false, _, false) => ReturnCode::NoEntry,
        (false, _, true) => ReturnCode::Forwarded,
    })
}

/// Where the formats of timestamps stand.
const FORMATS_AT: usize = 8;

/// The TLVs of a request; places are those among them.
#[derive(Default)]
struct Found<'a> {
    originals: usize,
    original: Option<&'a SetBits>,
    targets: usize,
    target: Option<&'a SetBits>,
    /// The first mapping.
    mapping: Option<usize>,
    /// Whether we got what a mapping about us says; one of them, for where bits stand for adjacencies several copies may go
    /// to one router.
    egress: Option<bool>,
    multipath: bool,
    /// One that there can't be, or not once more.
    surplus: Option<usize>,
    unsupported: Option<usize>,
    optional: bool,
}

impl<'a> Found<'a> {
    fn take(&mut self, at: usize, tlv: &'a Tlv, arrival: &Arrival<'_>) {
        match tlv {
            Tlv::Original(set) => {
                self.original = Some(set);
                self.originals += 1;
                if self.originals > 1 {
                    self.surplus = self.surplus.or(Some(at));
                }
            }
            Tlv::Target(set) => (self.targets, self.target) = (self.targets + 1, Some(set)),
            Tlv::Incoming(_) => self.surplus = self.surplus.or(Some(at)),
            Tlv::Mapping(mapping) => {
                self.mapping = self.mapping.or(Some(at));
                for sub_tlv in &mapping.sub_tlvs {
                    match sub_tlv {
                        SubTlv::Egress(set) if is_about(mapping, arrival.addresses) => {
                            let is_ours = set.bits.words() == arrival.bits;
                            self.egress = Some(is_ours || self.egress == Some(true));
                        }
                        SubTlv::Egress(_) => {}
                        SubTlv::Multipath { .. } => self.multipath = true,
                    }
                }
            }
            Tlv::Unknown { kind, .. } if *kind >= OPTIONAL_FROM => self.optional = true,
            _ => self.unsupported = self.unsupported.or(Some(at)),
        }
    }
}

/// Whether a mapping is about the router with these addresses: of a tree's branches, the request has one for each.
fn is_about(mapping: &Mapping, addresses: &[IpAddr]) -> bool {
    let prefix = mapping.downstream.prefix();
    prefix == IpAddr::V4(Downstream::ALL_ROUTERS) || addresses.contains(&prefix)
}

//! What the slowpath is shown of BIER: echo messages for us, what other routers say that is listened to behind them, and packets
//! whose time to live is used up here (draft-ietf-bier-ping-23 section 4.1, draft-ietf-bier-mld, RFC 8296 section 2.1.1.1).
//!
//! Anybody in the domain can make us do this, so each kind has a limit of its own: a loop of data must not keep a trace
//! from finding it. What of echo messages is beyond the limit is counted by name; of the others a few are enough to see.

use millrace_bier::header::Proto;

use super::{Drop, Loss};
use crate::addr::Addr;
use crate::bucket::TokenBucket;
use crate::driver::Frame;
use crate::node::{Context, host};
use crate::packet::BierPacket;
use crate::queue::Punt;
use crate::wire::{ipv4, ipv6};

/// Echo messages that a worker shows the slowpath in a second, in the long run: more than an operator's pings bring.
const OAM_PER_SECOND: u64 = 1000;
/// The same at once: a reply from each router of a set of 256 bits, half of the parcels that there are.
const OAM_BURST: u64 = 256;
/// What other routers say, in the same way: ten messages a second of a hundred routers.
const MEMBERSHIP_PER_SECOND: u64 = 1000;
/// The same at once: half of the parcels that there are.
const MEMBERSHIP_BURST: u64 = 256;
/// Packets that went in circles: an operator wants to see one.
const EXPIRED_PER_SECOND: u64 = 10;
const EXPIRED_BURST: u64 = 1;

/// How much a worker may show the slowpath.
#[derive(Debug)]
pub struct PuntLimit {
    oam: TokenBucket,
    membership: TokenBucket,
    expired: TokenBucket,
}

impl Default for PuntLimit {
    fn default() -> Self {
        Self {
            oam: TokenBucket::new(OAM_PER_SECOND, OAM_BURST),
            membership: TokenBucket::new(MEMBERSHIP_PER_SECOND, MEMBERSHIP_BURST),
            expired: TokenBucket::new(EXPIRED_PER_SECOND, EXPIRED_BURST),
        }
    }
}

/// Shows an echo message.
///
/// # Errors
/// Why it can't be shown: as the packet's drop, and as a loss where there are copies.
pub(super) fn oam<F: Frame>(packet: &BierPacket<F>, cx: &mut Context<'_>) -> Result<(), (Drop, Loss)> {
    if !cx.bier_punts.oam.take(cx.now) {
        return Err((Drop::OamLimited, Loss::OamLimited));
    }
    show(packet, Punt::BierOam, cx).map_err(|_| (Drop::OamUnseen, Loss::OamUnseen))?;
    cx.counters.bier.punted.add(1);
    Ok(())
}

/// Whether a payload is IGMP's, or may be MLD's.
pub(super) fn is_membership(proto: Proto, payload: &[u8]) -> bool {
    match proto {
        Proto::Ipv4 => ipv4::is_igmp(payload),
        Proto::Ipv6 => ipv6::is_mld(payload),
        _ => false,
    }
}

/// Shows what a router says that is listened to behind it.
///
/// # Errors
/// Why it can't be shown: as the packet's drop, and as a loss where there are copies.
#[cold]
pub(super) fn membership<F: Frame>(packet: &BierPacket<F>, cx: &mut Context<'_>) -> Result<(), (Drop, Loss)> {
    if !cx.bier_punts.membership.take(cx.now) {
        return Err((Drop::MembershipLimited, Loss::MembershipLimited));
    }
    let shown = show(packet, Punt::BierMembership, cx);
    shown.map_err(|_| (Drop::MembershipUnseen, Loss::MembershipUnseen))?;
    cx.counters.bier.punted.add(1);
    Ok(())
}

/// Shows one of the packets that expired, if it is time for another.
pub(super) fn expired<F: Frame>(packet: &BierPacket<F>, cx: &mut Context<'_>) {
    if cx.bier_punts.expired.take(cx.now) && show(packet, Punt::BierExpired, cx).is_ok() {
        cx.counters.bier.punted.add(1);
    }
}

fn show<F: Frame>(packet: &BierPacket<F>, why: Punt, cx: &Context<'_>) -> Result<(), host::Drop> {
    host::punt(&packet.frame, why, packet.interface, Addr::default(), cx)
}

//! BIER: a copy of each packet for every neighbour that leads to some of its receivers, and one for those behind us.
//!
//! ```text
//!            header ──► BIFT ──► parts ─┬─► copy to a neighbour: BIFT-id, TTL - 1, its part of the bit string
//!   frame ─┤                            ├─► payload to listeners behind us
//!            payload, never written     └─► bits without a way: counted
//!
//!   the same inside UDP or IPv6 to us, from a neighbour ──► taken out of it, and then as above
//!
//!   multicast packet of a flow that enters here ──► a header for each set, and the same
//! ```
//!
//! How a copy is made depends on what costs less: the only copy is the frame itself, rewritten in place; short frames are
//! copied; of long ones each copy has a header of its own and shares the payload. Unlike other nodes this one needs buffers
//! and fills the boxes of ports itself, for a frame can become as many as there are neighbours.

/// Calls code that was made for each length of bit strings: `W`, the number of words, is a constant there.
macro_rules! sized {
    ($bsl:expr, $words:ident => $call:expr) => {
        match $bsl {
            Bsl::B64 => sized!(@ $words, Bsl::B64, $call),
            Bsl::B128 => sized!(@ $words, Bsl::B128, $call),
            Bsl::B256 => sized!(@ $words, Bsl::B256, $call),
            Bsl::B512 => sized!(@ $words, Bsl::B512, $call),
            Bsl::B1024 => sized!(@ $words, Bsl::B1024, $call),
            Bsl::B2048 => sized!(@ $words, Bsl::B2048, $call),
            Bsl::B4096 => sized!(@ $words, Bsl::B4096, $call),
        }
    };
    (@ $words:ident, $bsl:expr, $call:expr) => {{
        const $words: usize = $bsl.words();
        $call
    }};
}

mod copies;
mod deliver;
mod impose;
mod intake;
mod punt;
mod reasons;
mod te;
mod tunnelled;

use millrace_bier::bift::{Bift, LinkId, NeighbourIndex};
use millrace_bier::bift_id::BiftId;
use millrace_bier::bits;
use millrace_bier::forward::{Down, Outcome, Packet as Decision, Procedure, Visit};
use millrace_bier::header::{Carriage, FIXED_LEN, Proto, Template, View, peek};
use millrace_bier::id::{BfrId, BiftKey, Bsl, SubDomain};
use millrace_bier::plane::AnyBift;

use super::icmp::Error;
use super::output::Outbox;
use super::{Context, Lanes, NodeId, host, hub};
use crate::driver::{Driver, Frame};
use crate::packet::{L3, Network, Origin, Packet};
use crate::tables::bier::Bier;
use copies::{Copies, Copy};
pub(super) use impose::flow_of;
pub use punt::PuntLimit;
pub use reasons::{Drop, LOSSES, Loss};

/// Replicates the packets of the lane.
pub fn process<D: Driver>(
    driver: &mut D,
    outboxes: &mut [Outbox<D::Frame>],
    scratch: &mut Vec<Packet<D::Frame>>,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<D::Frame>,
) {
    std::mem::swap(scratch, &mut lanes.bier);
    let tables = cx.tables;
    let mut copies = Copies::new(driver, outboxes);
    let (mut replicated_now, mut made) = (0, 0);
    let mut last = None;
    for mut packet in scratch.drain(..) {
        let replicated = match (&tables.bier, packet.meta.network) {
            (None, _) => Err(Drop::UnknownBift),
            (Some(bier), Network::Mpls) => {
                pass_on(bier, Carriage::Mpls, &mut last, &mut packet, &mut copies, cx)
            }
            (Some(bier), Network::Bier | Network::BierOfOurs) => {
                pass_on(bier, Carriage::NonMpls, &mut last, &mut packet, &mut copies, cx)
            }
            (Some(bier), Network::BierInIp) => match tunnelled::unwrap(bier, &mut packet) {
                Ok(()) => pass_on(bier, Carriage::NonMpls, &mut last, &mut packet, &mut copies, cx),
                Err(reason) => Err(reason),
            },
            (Some(bier), _) => impose::impose(bier, &mut packet, &mut copies, cx),
        };
        let served = match replicated {
            Ok(served) => served,
            Err(reason) => {
                let drop = (NodeId::Bier, reason as usize, reason.name());
                let bier = tables.bier.as_ref().filter(|_| reason == Drop::PayloadTooBig);
                match bier.and_then(|bier| impose::longest(bier, &packet.meta)) {
                    Some(mtu) => cx.refuse(Error::TooBig(mtu), drop, packet, lanes),
                    None => cx.drop(drop.0, drop.1, drop.2, packet, lanes),
                }
                continue;
            }
        };
        if served == Served::Shown && !copies.any() {
            host::finish(packet, NodeId::Bier, "punted", cx, lanes);
            continue;
        }
        if served == Served::TakenIn && !copies.any() {
            hub::finish(packet, NodeId::Bier, cx, lanes);
            continue;
        }
        cx.trace(NodeId::Bier, "replicated", &packet);
        let arrived = packet.meta.origin == Origin::Arrival;
        match copies.last(packet, cx) {
            Some(rest) if copies.made() == 0 => {
                cx.drop(NodeId::Bier, Drop::Lost as usize, Drop::Lost.name(), rest, lanes);
                continue;
            }
            Some(rest) => cx.free(rest, lanes),
            None => {}
        }
        // What began here is counted by its copies alone.
        (replicated_now, made) = (replicated_now + u64::from(arrived), made + copies.made());
    }
    cx.counters.fates.replicated.add(replicated_now);
    cx.counters.fates.copies.add(made);
}

/// What was done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// There are copies.
    Copied,
    /// The slowpath has seen it; there may be copies as well.
    Shown,
    /// Our hub has it; there may be copies as well.
    TakenIn,
}

/// The table that the last packet was for. Most packets of a vector are for the one that the packet before was for, and then
/// nothing that is read of the table has to wait for what is read of the packet.
type LastTable<'t> = Option<(BiftId, (BiftKey, &'t AnyBift))>;

/// A packet that came as BIER: decides on its copies, and leaves the last ones to be made.
#[inline]
fn pass_on<'t, D: Driver>(
    bier: &'t Bier,
    carriage: Carriage,
    last: &mut LastTable<'t>,
    packet: &mut Packet<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    let id = peek(&packet.frame.bytes()[L3..])?;
    let (key, any) = match *last {
        Some((of, table)) if of == id => table,
        _ => {
            let table = bier.plane.by_id(id).ok_or(Drop::UnknownBift)?;
            *last = Some((id, table));
            table
        }
    };
    sized!(key.bsl, W => pass_on_sized::<W, D>(bier, key.sub_domain, any, carriage, packet, copies, cx))
}

/// One for each length: from the frame to the copies, bit strings are arrays whose length the compiler knows.
#[inline(never)] // they have nothing in common, and one alone has room for its numbers in registers
fn pass_on_sized<'t, const W: usize, D: Driver>(
    bier: &'t Bier,
    sub_domain: SubDomain,
    any: &'t AnyBift,
    carriage: Carriage,
    packet: &mut Packet<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    let bsl = const { Bsl::from_bits(64 * W as u32).expect("a length of bit strings") };
    let view = View::parse(&packet.frame.bytes()[L3..], carriage, bsl)?;
    // What begins here has the hop that this router takes still before it.
    let (ttl, copies_ttl) = match packet.meta.network {
        Network::BierOfOurs => (view.ttl().saturating_add(1), view.ttl()),
        _ => (view.ttl(), view.ttl().saturating_sub(1)),
    };
    let inner = Inner { proto: view.proto(), bfir_id: view.bfir_id(), sub_domain };
    let header = Received { in_frame: true, ttl, entropy: view.entropy(), inner };
    let mut words = [0; W];
    view.load(&mut words);
    copies.begin(Template::of(&view, carriage, copies_ttl), bsl);
    replicate::<W, D>(bier, any, header, &words, packet, copies, cx)
}

/// What a packet's header says of what has to be done with it, beside its bit string.
#[derive(Clone, Copy)]
struct Received {
    /// It came with the packet, and stands in the frame.
    in_frame: bool,
    ttl: u8,
    entropy: u32,
    inner: Inner,
}

/// What its payload is.
#[derive(Clone, Copy)]
struct Inner {
    proto: Proto,
    /// Where it entered BIER.
    bfir_id: Option<BfrId>,
    sub_domain: SubDomain,
}

/// Does with a packet what its table says.
#[inline]
fn replicate<'t, const W: usize, D: Driver>(
    bier: &'t Bier,
    any: &'t AnyBift,
    header: Received,
    words: &[u64; W],
    packet: &mut Packet<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    let mut shown = None;
    // While the frame is as it came.
    if let AnyBift::BierTe(bift) = any
        && header.inner.proto == Proto::Oam
    {
        let is_ours = || te::is_delivered(bift, words, header.entropy);
        shown = oam(header.ttl, is_ours, packet, cx);
    }
    if let AnyBift::Bier(bift) = any {
        count(bier, bift, words, cx);
        if header.inner.proto == Proto::Oam {
            // Hosts can't be asked, so we answer for those whose bits end here.
            let is_local = || bift.local().is_some_and(|local| bits::test(words, local));
            shown = oam(header.ttl, || is_local() || bift.is_for_hosts(words), packet, cx);
        } else if bier.signalled && header.in_frame {
            shown = membership(bier, bift, words, header, packet, cx);
        }
    }
    let frame = &mut packet.frame;
    let decision = Decision { bits: words, ttl: header.ttl, entropy: header.entropy };
    let found = match any {
        AnyBift::Bier(bift) => copy::<W, D>(bier, bift, decision, header.inner, frame, copies, cx),
        AnyBift::BierTe(bift) => te::copy::<W, D>(bier, bift, decision, frame, copies, cx),
    };
    // Most packets only pass.
    if !found.local && !found.outcome.expired() && shown.is_none() && copies.any() {
        return Ok(Served::Copied);
    }
    finish::<D>(bier, found, shown, header.inner, packet, copies, cx)
}

/// Makes the copies for the neighbours that lead to some of a packet's bits.
#[inline]
fn copy<'t, const W: usize, D: Driver>(
    bier: &'t Bier,
    bift: &Bift,
    decision: Decision<'_>,
    inner: Inner,
    frame: &mut D::Frame,
    copies: &mut Copies<'_, 't, D>,
    cx: &Context<'t>,
) -> Found {
    let all_up = Down::default();
    let down = bier.down(bift.key().sub_domain).unwrap_or(&all_up);
    let (len, entropy) = (copies.packet_len(frame), decision.entropy);
    let mut parts = Parts::<W, D> {
        bier,
        bift,
        entropy,
        len,
        inner,
        frame,
        copies,
        cx,
        local: false,
        unroutable: false,
        others: false,
    };
    let outcome = bift.forward_sized::<W>(Procedure::Fastest, decision, down, &mut parts);
    let Parts { local, unroutable, others, .. } = parts;
    if unroutable {
        lose(Loss::Unroutable, cx);
    }
    Found { local, others, outcome }
}

/// What becomes of the parts of a packet.
struct Parts<'a, 'b, 't, const W: usize, D: Driver> {
    bier: &'t Bier,
    bift: &'a Bift,
    entropy: u32,
    /// Bytes of a copy from the BIER header on.
    len: usize,
    inner: Inner,
    frame: &'a mut D::Frame,
    copies: &'a mut Copies<'b, 't, D>,
    cx: &'a Context<'t>,
    local: bool,
    unroutable: bool,
    others: bool,
}

impl<const W: usize, D: Driver> Visit for &mut Parts<'_, '_, '_, W, D> {
    #[inline]
    fn local(&mut self) {
        self.local = true;
    }

    #[inline(always)] // for each copy
    fn copy(&mut self, neighbour: NeighbourIndex, bits: &[u64]) {
        self.others = true;
        match way(self.bier, self.bift, neighbour, self.entropy, self.len, self.cx) {
            Ok(copy) => self.copies.next::<W>(self.frame, copy, bits, self.cx),
            Err(loss) => {
                let to = self.bift.neighbour(neighbour);
                deliver::without_way(self.bier, to, loss, self.inner, self.frame, self.copies, self.cx);
            }
        }
    }

    #[inline]
    fn unroutable(&mut self, _bits: &[u64]) {
        self.unroutable = true;
    }
}

/// What a table has found for a packet.
struct Found {
    /// It is for us, too.
    local: bool,
    /// Somebody else was to get a copy, whether or not one could be made.
    others: bool,
    outcome: Outcome,
}

/// Delivers what is for us, and says what becomes of the packet. A message to this router was shown to the slowpath instead,
/// or should have been.
#[inline(never)] // what only passes doesn't carry this along
fn finish<'t, D: Driver>(
    bier: &'t Bier,
    Found { local, others, outcome }: Found,
    shown: Option<Result<(), (Drop, Loss)>>,
    inner: Inner,
    packet: &mut Packet<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    let ours = local && shown.is_none();
    let taken =
        if ours { intake::payload(inner, packet.meta.interface, &packet.frame, copies, cx) } else { None };
    let listened = match shown {
        Some(shown) => shown,
        None if local => deliver::payload(bier, &packet.frame, inner, copies, cx),
        None => Ok(()),
    };
    // What the hub takes in needs nobody else who listens.
    let delivered = taken.unwrap_or(listened);
    // Who is shown an echo message sees that it expired.
    if outcome.expired() && (shown.is_none() || inner.proto != Proto::Oam) {
        lose(Loss::Expired, cx);
        punt::expired(packet, cx);
    }
    let served = match (shown, taken) {
        (Some(Ok(())), _) => Served::Shown,
        (_, Some(Ok(()))) => Served::TakenIn,
        _ => Served::Copied,
    };
    if let Err((_, loss)) = delivered
        && (copies.any() || others)
    {
        lose(loss, cx);
    }
    if copies.any() || served != Served::Copied {
        return Ok(served);
    }
    Err(match delivered {
        _ if others => Drop::Lost,
        Err((reason, _)) => reason,
        Ok(()) if local => Drop::Lost,
        Ok(()) if outcome.expired() => Drop::TtlExpired,
        Ok(()) => Drop::NoRoute,
    })
}

/// Shows the slowpath an echo message that is for us, or whose time to live ends here; `None` for one that just passes.
#[cold]
fn oam<F: Frame>(
    ttl: u8,
    is_ours: impl Fn() -> bool,
    packet: &Packet<F>,
    cx: &mut Context<'_>,
) -> Option<Result<(), (Drop, Loss)>> {
    (ttl <= 1 || is_ours()).then(|| punt::oam(packet, cx))
}

/// Shows the slowpath what another router says to us of what is listened to behind it; `None` for anything else. It is believed
/// only of who is on a link of the sub-domain: whoever is elsewhere could say it for anybody. Through tunnels none but neighbours
/// are taken packets from.
#[inline(never)] // as above
fn membership<const W: usize, F: Frame>(
    bier: &Bier,
    bift: &Bift,
    words: &[u64; W],
    header: Received,
    packet: &Packet<F>,
    cx: &mut Context<'_>,
) -> Option<Result<(), (Drop, Loss)>> {
    let is_ours = header.ttl > 0 && bift.local().is_some_and(|local| bits::test(words, local));
    let payload = || &packet.frame.bytes()[L3 + FIXED_LEN + W * 8..];
    if !is_ours || !punt::is_membership(header.inner.proto, payload()) {
        return None;
    }
    let is_from_link = matches!(packet.meta.network, Network::Bier | Network::Mpls);
    if is_from_link && !bier.is_within(bift.key().sub_domain, packet.meta.interface) {
        return Some(Err((Drop::MembershipStranger, Loss::MembershipStranger)));
    }
    Some(punt::membership(packet, cx))
}

/// Counts a packet of a table, and where an operator wants that, for whom it is.
#[inline]
fn count(bier: &Bier, bift: &Bift, words: &[u64], cx: &Context<'_>) {
    if let Some(counter) = cx.counters.bier.bifts.get(bift.tag() as usize) {
        counter.add(1);
    }
    if let Some(from) = bier.receivers_from(bift.tag()) {
        count_receivers(from, words, cx);
    }
}

/// Bit by bit, which costs what a walk costs.
#[cold]
fn count_receivers(from: usize, words: &[u64], cx: &Context<'_>) {
    let counted = cx.counters.bier.receivers.get(from..).unwrap_or_default();
    bits::ones(words).filter_map(|bit| counted.get(bit.index())).for_each(|counter| counter.add(1));
}

/// How a copy of a packet of `len` bytes gets to a neighbour.
#[inline(always)] // the answer is in registers, where a call would write it and wait to read it back
fn way<'t>(
    bier: &'t Bier,
    bift: &Bift,
    neighbour: NeighbourIndex,
    entropy: u32,
    len: usize,
    cx: &Context<'t>,
) -> Result<Copy<'t>, Loss> {
    let is_up = |link| bier.is_up(link, &cx.tables.interfaces, cx.ports_down);
    let (id, link) = bift.exit(neighbour, entropy, is_up).ok_or(Loss::NoWay)?;
    over(bier, link, id, len, cx)
}

/// How a copy of a packet of `len` bytes gets over a link to a router that calls the table `id`.
#[inline(always)] // as above
fn over<'t>(
    bier: &'t Bier,
    link: LinkId,
    id: BiftId,
    len: usize,
    cx: &Context<'t>,
) -> Result<Copy<'t>, Loss> {
    let way = bier.way(link).ok_or(Loss::NoWay)?.as_ref()?;
    if cx.ports_down.has(way.port) {
        return Err(Loss::LinkDown);
    }
    if len > usize::from(way.mtu) {
        return Err(Loss::TooBig);
    }
    Ok(Copy { id, way })
}

#[cold]
fn lose(loss: Loss, cx: &Context<'_>) {
    cx.counters.bier.lost[loss as usize].add(1);
}

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
//! How a copy is made depends on what costs less: the last one is the frame itself, rewritten in place; the others of short frames
//! are copied, and those of long ones have a header of their own and share the payload (`press`). Unlike other nodes this one
//! needs buffers and fills the boxes of ports itself, for a frame can become as many as there are neighbours.
//!
//! Most packets only pass: of those there are copies and nothing else (`plain`).

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
mod plain;
mod press;
mod punt;
mod reasons;
mod run;
mod te;
mod tunnelled;

use millrace_bier::bift::{Bift, LinkId, NeighbourIndex};
use millrace_bier::bift_id::BiftId;
use millrace_bier::bits;
use millrace_bier::forward::{Down, Outcome, Packet as Decision, Part, Procedure};
use millrace_bier::header::Proto;
use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::plane::AnyBift;
use millrace_bier::wire::Wire;

use super::icmp::Error;
use super::output::Outbox;
use super::{Context, Lanes, NodeId, host, hub};
use crate::driver::{Driver, Frame};
use crate::packet::{BierPacket, Meta, Network, Origin, Packet};
use crate::tables::bier::Bier;
use copies::Copies;
pub(super) use impose::flow_of;
use press::{Press, To};
pub use punt::PuntLimit;
pub use reasons::{Drop, LOSSES, Loss};
use run::{Run, pass_on_all};

/// Replicates the packets of both lanes.
pub fn process<D: Driver>(
    driver: &mut D,
    outboxes: &mut [Outbox<D::Frame>],
    cx: &mut Context<'_>,
    lanes: &mut Lanes<D::Frame>,
) {
    let mut copies = Copies::new(Press::new(driver, outboxes));
    let mut done = Done::default();
    if !lanes.into_bier.is_empty() {
        take_in(&mut copies, &mut done, cx, lanes);
    }
    let mut packets = std::mem::take(&mut lanes.bier);
    let mut rest = packets.drain(..);
    while let Some(first) = rest.as_slice().first() {
        match Run::of(first, cx) {
            Ok(run) => {
                sized!(run.key.bsl, W => pass_on_all::<W, D>(&mut rest, &mut copies, &mut done, cx, lanes));
            }
            Err(reason) => {
                let Some(packet) = rest.next() else { break };
                refuse(reason, packet.with_meta(cx.metas), cx, lanes);
            }
        }
    }
    drop(rest);
    // With its room.
    lanes.bier = packets;
    copies.press.give_back();
    cx.counters.fates.replicated.add(done.replicated);
    cx.counters.fates.copies.add(done.copies);
}

/// What a round has done, to be counted at its end.
#[derive(Default)]
struct Done {
    replicated: u64,
    copies: u64,
}

impl Done {
    /// A packet was replicated.
    #[inline(always)] // for each packet
    fn add(&mut self, origin: Origin, copies: u64) {
        // What began here is counted by its copies alone.
        self.replicated += u64::from(origin == Origin::Arrival);
        self.copies += copies;
    }
}

/// Takes packets out of tunnels, and lets others enter here.
#[inline(never)] // what links bring doesn't carry this along
fn take_in<'t, D: Driver>(
    copies: &mut Copies<'_, 't, D>,
    done: &mut Done,
    cx: &mut Context<'t>,
    lanes: &mut Lanes<D::Frame>,
) {
    let mut packets = std::mem::take(&mut lanes.into_bier);
    for Packet { mut frame, meta } in packets.drain(..) {
        let Some(bier) = &cx.tables.bier else {
            refuse(Drop::UnknownBift, Packet { frame, meta }, cx, lanes);
            continue;
        };
        if meta.network == Network::BierInIp {
            match tunnelled::unwrap(bier, &mut frame, &meta) {
                Ok(()) => {
                    let Meta { interface, origin, trace, .. } = *meta;
                    let network = Network::BierFromTunnel;
                    lanes.bier.push(BierPacket { frame, interface, network, origin, trace });
                    cx.metas.put(meta);
                }
                Err(reason) => refuse(reason, Packet { frame, meta }, cx, lanes),
            }
            continue;
        }
        let Meta { interface, network, origin, trace, .. } = *meta;
        let mut packet = BierPacket { frame, interface, network, origin, trace };
        match impose::impose(bier, &mut packet, &meta, copies, cx) {
            Ok(served) => {
                // There are as many as packets: it needs one of its own if it has no copy.
                cx.metas.put(meta);
                sized!(copies.bsl(), W => end::<W, D>(Ok(served), packet, copies, done, cx, lanes));
            }
            Err(reason) => refuse(reason, Packet { frame: packet.frame, meta }, cx, lanes),
        }
    }
    lanes.into_bier = packets;
}

/// Ends a packet's way that has no copy, or can't have any.
#[cold]
#[inline(never)]
fn refuse<F: Frame>(reason: Drop, packet: Packet<F>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    let drop = (NodeId::Bier, reason as usize, reason.name());
    let bier = cx.tables.bier.as_ref().filter(|_| reason == Drop::PayloadTooBig);
    match bier.and_then(|bier| impose::longest(bier, &packet.meta)) {
        Some(mtu) => cx.refuse(Error::TooBig(mtu), drop, packet, lanes),
        None => cx.drop(drop.0, drop.1, drop.2, packet, lanes),
    }
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

/// Has the last copies of a packet made, and ends its way.
fn end<const W: usize, D: Driver>(
    served: Result<Served, Drop>,
    packet: BierPacket<D::Frame>,
    copies: &mut Copies<'_, '_, D>,
    done: &mut Done,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<D::Frame>,
) {
    if served.is_err() || !copies.any() {
        return end_without_copy(served, packet, cx, lanes);
    }
    cx.trace_frame(NodeId::Bier, "replicated", packet.trace, &packet.frame);
    let BierPacket { frame, interface, network, origin, trace } = packet;
    match copies.last::<W>(frame, cx) {
        None => done.add(origin, copies.made()),
        Some(frame) => {
            let packet = BierPacket { frame, interface, network, origin, trace };
            end_original(served, packet, copies.made(), done, cx, lanes);
        }
    }
}

/// Ends the way of a packet that so many copies were made of, and that isn't one of them itself.
#[cold]
fn end_original<F: Frame>(
    served: Result<Served, Drop>,
    packet: BierPacket<F>,
    made: u64,
    done: &mut Done,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    if made == 0 {
        return end_without_copy(served, packet, cx, lanes);
    }
    done.add(packet.origin, made);
    lanes.free.push(packet.frame);
}

#[cold]
#[inline(never)]
fn end_without_copy<F: Frame>(
    served: Result<Served, Drop>,
    packet: BierPacket<F>,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    let packet = packet.with_meta(cx.metas);
    match served {
        Ok(Served::Shown) => host::finish(packet, NodeId::Bier, "punted", cx, lanes),
        Ok(Served::TakenIn) => hub::finish(packet, NodeId::Bier, cx, lanes),
        Ok(Served::Copied) => refuse(Drop::Lost, packet, cx, lanes),
        Err(reason) => refuse(reason, packet, cx, lanes),
    }
}

/// A table, and what is known of it in this round.
#[derive(Clone, Copy)]
struct Table<'t> {
    bier: &'t Bier,
    sub_domain: SubDomain,
    bift: &'t AnyBift,
    /// Who can't be reached, if anybody can't.
    down: Option<&'t Down>,
}

impl<'t> Table<'t> {
    fn new(bier: &'t Bier, sub_domain: SubDomain, bift: &'t AnyBift, cx: &Context<'t>) -> Self {
        Self { bier, sub_domain, bift, down: down(bier, sub_domain, cx) }
    }
}

/// Who can't be reached in a sub-domain, if anybody can't.
#[inline(always)] // packets of many tables ask each
fn down<'t>(bier: &'t Bier, sub_domain: SubDomain, cx: &Context<'_>) -> Option<&'t Down> {
    // They are down with their ports.
    if cx.ports_down.is_empty() {
        return None;
    }
    bier.down(sub_domain).filter(|down| !down.is_empty())
}

/// Counts packets of a table.
#[inline(always)] // packets of many tables are counted one by one
fn count(bift: &Bift, packets: u64, cx: &Context<'_>) {
    let counter = cx.counters.bier.bifts.get(bift.tag() as usize);
    counter.into_iter().for_each(|counter| counter.add(packets));
}

/// Counts for whom a packet is, where an operator wants that.
#[inline(always)] // for each packet
fn count_receivers<const W: usize>(
    bier: &Bier,
    bift: &Bift,
    words: impl FnOnce() -> [u64; W],
    cx: &Context<'_>,
) {
    if !bier.receivers_from.is_empty() {
        count_bits(bier, bift, &words(), cx);
    }
}

/// Bit by bit, which costs what a walk costs.
#[cold]
fn count_bits(bier: &Bier, bift: &Bift, words: &[u64], cx: &Context<'_>) {
    let from = bier.receivers_from(bift.tag());
    let receivers = from.and_then(|from| cx.counters.bier.receivers.get(from..)).unwrap_or_default();
    let counters = bits::ones(words).filter_map(|bit| receivers.get(bit.index()));
    counters.for_each(|counter| counter.add(1));
}

/// Does with a packet what its table says of these bits. What else has to be known of its header, copies have of it.
fn replicate<'t, const W: usize, D: Driver>(
    table: Table<'t>,
    ttl: u8,
    bits: &[u64; W],
    packet: &mut BierPacket<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    if bits::is_zero(bits) {
        return Err(Drop::Empty);
    }
    let header = copies.template();
    let is_oam = header.proto() == Proto::Oam;
    let decision = Decision { bits, ttl, entropy: header.entropy() };
    match table.bift {
        AnyBift::BierTe(bift) => {
            let is_ours = || te::is_delivered(bift, bits, header.entropy());
            // While the frame is as it came.
            let shown = if is_oam { oam(ttl, is_ours, packet, cx) } else { None };
            let found = te::copy::<W, D>(table.bier, bift, decision, &packet.frame, copies, cx);
            finish::<D>(table, found, shown, packet, copies, cx)
        }
        AnyBift::Bier(bift) => {
            count(bift, 1, cx);
            count_receivers(table.bier, bift, || *bits, cx);
            let shown = if is_oam {
                let is_local = || bift.local().is_some_and(|local| bits::test(bits, local));
                oam(ttl, || is_local() || bift.is_for_hosts(bits), packet, cx)
            } else if table.bier.signalled {
                membership(table, bift, decision, packet, copies, cx)
            } else {
                None
            };
            let found = copy::<W, D>(table, bift, decision, &packet.frame, copies, cx);
            finish::<D>(table, found, shown, packet, copies, cx)
        }
    }
}

/// Makes the copies for the neighbours that lead to some of a packet's bits.
fn copy<'t, const W: usize, D: Driver>(
    table: Table<'t>,
    bift: &'t Bift,
    decision: Decision<'_>,
    frame: &D::Frame,
    copies: &mut Copies<'_, 't, D>,
    cx: &Context<'t>,
) -> Found {
    let all_up = Down::default();
    let (mut local, mut unroutable, mut others) = (false, false, false);
    let (down, len) = (table.down.unwrap_or(&all_up), copies.packet_len(frame));
    let outcome = bift.forward_sized::<W>(Procedure::Fastest, decision, down, |part: Part<'_>| match part {
        Part::Local => local = true,
        Part::Copy { neighbour, bits } => {
            others = true;
            match way(table.bier, bift, neighbour, decision.entropy, len, cx) {
                // As many as the table has.
                Ok(to) => bits
                    .first_chunk()
                    .into_iter()
                    .for_each(|bits| copies.next::<W>(frame, to, &Wire::of(bits), cx)),
                Err(loss) => {
                    let (to, inner) = (bift.neighbour(neighbour), inner(table, copies));
                    deliver::without_way(table.bier, to, loss, inner, frame, copies, cx);
                }
            }
        }
        Part::Unroutable(_) => unroutable = true,
    });
    if unroutable {
        lose(Loss::Unroutable, cx);
    }
    Found { local, others, outcome }
}

/// What the payload of a packet is.
#[derive(Clone, Copy)]
struct Inner {
    proto: Proto,
    /// Where it entered BIER.
    bfir_id: Option<BfrId>,
    sub_domain: SubDomain,
}

fn inner<D: Driver>(table: Table<'_>, copies: &Copies<'_, '_, D>) -> Inner {
    let header = copies.template();
    Inner { proto: header.proto(), bfir_id: header.bfir_id(), sub_domain: table.sub_domain }
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
    table: Table<'t>,
    Found { local, others, outcome }: Found,
    shown: Option<Result<(), (Drop, Loss)>>,
    packet: &mut BierPacket<D::Frame>,
    copies: &mut Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Result<Served, Drop> {
    let (bier, inner) = (table.bier, inner(table, copies));
    let ours = local && shown.is_none();
    let taken = if ours { intake::payload(inner, packet.interface, &packet.frame, copies, cx) } else { None };
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
    packet: &BierPacket<F>,
    cx: &mut Context<'_>,
) -> Option<Result<(), (Drop, Loss)>> {
    (ttl <= 1 || is_ours()).then(|| punt::oam(packet, cx))
}

/// Shows the slowpath what another router says to us of what is listened to behind it; `None` for anything else. It is believed
/// only of who is on a link of the sub-domain: whoever is elsewhere could say it for anybody. Through tunnels none but neighbours
/// are taken packets from.
fn membership<'t, D: Driver>(
    table: Table<'t>,
    bift: &Bift,
    decision: Decision<'_>,
    packet: &BierPacket<D::Frame>,
    copies: &Copies<'_, 't, D>,
    cx: &mut Context<'t>,
) -> Option<Result<(), (Drop, Loss)>> {
    // None comes from ourselves.
    let came = copies.entered_by().is_none();
    let is_ours = decision.ttl > 0 && bift.local().is_some_and(|local| bits::test(decision.bits, local));
    let is_it = || punt::is_membership(copies.template().proto(), copies.payload_of(&packet.frame));
    if !came || !is_ours || !is_it() {
        return None;
    }
    let is_from_link = matches!(packet.network, Network::Bier | Network::Mpls);
    if is_from_link && !table.bier.is_within(table.sub_domain, packet.interface) {
        return Some(Err((Drop::MembershipStranger, Loss::MembershipStranger)));
    }
    Some(punt::membership(packet, cx))
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
) -> Result<To<'t>, Loss> {
    let is_up = |link| bier.is_up(link, &cx.tables.interfaces, cx.ports_down);
    let (id, link) = bift.exit(neighbour, entropy, is_up).ok_or(Loss::NoWay)?;
    over(bier, link, id, len, cx)
}

/// How a copy of a packet of `len` bytes gets over a link to a router that calls the table `id`.
#[inline(always)] // as above
fn over<'t>(bier: &'t Bier, link: LinkId, id: BiftId, len: usize, cx: &Context<'t>) -> Result<To<'t>, Loss> {
    let way = bier.way(link).ok_or(Loss::NoWay)?.as_ref()?;
    if cx.ports_down.has(way.port) {
        return Err(Loss::LinkDown);
    }
    if len > usize::from(way.mtu) {
        return Err(Loss::TooBig);
    }
    Ok(To { id, way })
}

#[cold]
fn lose(loss: Loss, cx: &Context<'_>) {
    cx.counters.bier.lost[loss as usize].add(1);
}

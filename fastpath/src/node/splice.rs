//! The service node's part in splicing: when which of the client's and the instance's segments is answered, held,
//! translated, or ends here.
//!
//! ```text
//!   SYN, notification handed over ─────────► our SYN-ACK, with a cookie
//!   acknowledgement of a cookie, no flow ──► hold, in the line of handshakes; wakes, if the service is cold again
//!   a held handshake's turn ───────────────► flow, connection to the instance begins
//!   client, connection not open ───────────► in place of what is held, or dropped: the client sends it again
//!   instance's SYN-ACK ────────────────────► ends here: what is held goes out, translated
//!   open, both ways ───────────────────────► translated
//! ```

use super::opening::{admits, choose};
use super::park::{hold_key, park};
use super::service::{Drop, Next, ServiceNode, forget};
use super::verify::verify;
use super::{Context, reply};
use crate::counters::WorkerCounters;
use crate::driver::Frame;
use crate::event::Trigger;
use crate::hold::{HANDSHAKE, Held, HeldId};
use crate::packet::{Fragment, L3, Meta, Origin, Packet};
use crate::slots::{Phase, ServiceSlot};
use crate::splice::connect::{Accepted, Answer, acknowledge};
use crate::splice::cookie::{AGE_TICKS, AGE_TICKS_HELD, Handshake};
use crate::splice::early::{Early, Verdict};
use crate::splice::segment::Head;
use crate::splice::table::{Splice, Stage};
use crate::splice::translate::Rescale;
use crate::tables::balance::Pool;
use crate::tables::services::{Entry, Handling, Overflow, Service, Verify};
use crate::wake::proof;
use crate::wire::{ipv4, tcp};

/// The longest packet that we announce to take: what the slab has room for. Ethernet's is this long as well.
const PACKET_MAX: u16 = 1500;

impl ServiceNode {
    /// A TCP packet of no known flow, for a service that splices; `None` leaves it to what other services do.
    pub(super) fn first_of_splice<F: Frame>(
        &mut self,
        packet: &mut Packet<F>,
        service: &Service,
        cx: &mut Context<'_>,
    ) -> Result<Option<Next>, Drop> {
        let meta = &packet.meta;
        let newer = early_of(meta, packet.frame.bytes()).ok_or(Drop::SpliceCut)?;
        let held = cx.holds.find(&hold_key(meta, HANDSHAKE)).filter(|_| meta.origin == Origin::Arrival);
        if meta.is_syn() {
            if held.is_some() {
                // The client has our SYN-ACK and has answered it: an old duplicate.
                return Err(Drop::SpliceSurplus);
            }
            let slot = cx.slots.get(meta.service);
            if answers(service, slot) {
                self.splices.issued(meta.service, cx.now);
            } else if admits(service, slot).is_none() || !self.splices.lingers(meta.service, cx.now) {
                return Ok(None);
            }
            return self.answer_syn(packet, &newer.head, cx).map(Some);
        }
        if meta.fragment != Fragment::Whole {
            return Err(Drop::SpliceCut);
        }
        if let Some(held) = held {
            return replace(packet, held, &newer, service, cx).map(Some);
        }
        if !self.splices.expects(meta.service, cx.now) && meta.origin == Origin::Arrival {
            return Ok(None);
        }
        let age = if meta.origin == Origin::Hold { AGE_TICKS_HELD } else { AGE_TICKS };
        if self.accepted(meta, &newer.head, age, cx).is_none() {
            return Err(Drop::NoFlow);
        }
        let phase = cx.slots.get(meta.service).load().0;
        if meta.origin != Origin::Arrival || phase.refuses() {
            return refuse(packet).map(Some);
        }
        if service.trigger_syn {
            let fields = meta.fields(packet.frame.bytes());
            cx.waker.wake(meta.service, Trigger::Syn, fields, cx.now);
        }
        match park(packet, Held::Handshake, service, cx) {
            Ok(parked) => Ok(Some(Next::Hold(parked))),
            // The client has been accepted: it has to be told.
            Err(_) => {
                cx.counters.service(packet.meta.service).overflowed.add(1);
                refuse(packet).map(Some)
            }
        }
    }

    /// Connects an instance to the client whose handshake is held. What can't be connected is noted as failed: the
    /// worker's next look at it tells the client.
    pub(super) fn connect(&mut self, held: HeldId, cx: &mut Context<'_>) {
        match self.begin_splice(held, cx) {
            Some((position, accepted)) => {
                self.flows.get_mut(position).set_spliced();
                self.splices.begin(position, held, accepted, cx.now);
            }
            None => self.splices.fail(held),
        }
    }

    /// The flow of a held handshake, and what its client agreed to.
    fn begin_splice(&mut self, held: HeldId, cx: &mut Context<'_>) -> Option<(u32, Accepted)> {
        let (waiting, bytes) = cx.holds.get(held);
        let meta = waiting.meta;
        let accepted = self.accepted(&meta, &early_of(&meta, bytes)?.head, AGE_TICKS_HELD, cx)?;
        let ends = ((meta.source, meta.source_port), (meta.destination, meta.destination_port));
        if self.flows.find(meta.flow_hash, meta.protocol, ends.0, ends.1).is_some() {
            return None;
        }
        let service = cx.tables.services.entry(meta.service)?.clone();
        let admitted = admits(&service, cx.slots.get(meta.service));
        let fallback = (service.overflow == Overflow::Fallback).then_some(Pool::Fixed);
        let pools = admitted.into_iter().chain(fallback);
        let instance = pools.into_iter().find_map(|pool| choose(&service, pool, &meta, cx))?;
        let position = self.begin(&meta, &service, instance, cx).ok()?;
        Some((position, accepted))
    }

    /// Whether the flow at `position` is the one being opened for what is held as `held`: flows make room for others.
    pub(crate) fn is_opening(&self, position: u32, held: HeldId) -> bool {
        self.flows.get(position).is_spliced() && self.splices.get(position) == Splice::Opening(held)
    }

    /// Forgets a flow that was never opened.
    pub(crate) fn end_opening(&mut self, position: Option<u32>, held: HeldId, counters: &WorkerCounters) {
        if let Some(position) = position.filter(|position| self.is_opening(*position, held)) {
            forget(self.flows.remove(position), counters);
            counters.fates.flows.set(self.flows.len() as u64);
        }
    }

    /// A client's packet of a spliced flow; `None` once it is translated and goes the way of all.
    pub(super) fn splice_forward<F: Frame>(
        &mut self,
        position: u32,
        packet: &mut Packet<F>,
        cx: &mut Context<'_>,
    ) -> Result<Option<Next>, Drop> {
        match self.splices.get(position) {
            Splice::Opening(_) if packet.meta.origin == Origin::Own => Ok(None),
            // Held for a service that is another one since, while its flow is the one of before: that one waits already.
            Splice::Opening(_) if packet.meta.origin == Origin::Hold => Err(Drop::SpliceSurplus),
            Splice::Opening(held) => {
                if packet.meta.fragment != Fragment::Whole {
                    return Err(Drop::SpliceCut);
                }
                let newer = early_of(&packet.meta, packet.frame.bytes()).ok_or(Drop::SpliceCut)?;
                let service = cx.tables.services.get(packet.meta.service).ok_or(Drop::NoService)?.clone();
                replace(packet, held, &newer, &service, cx).map(Some)
            }
            Splice::Open { mut translation, window } => {
                let header = &mut packet.frame.bytes_mut()[usize::from(packet.meta.l4)..];
                let before = translation.stamps;
                translation.to_instance(header).map_err(|_| Drop::SpliceCut)?;
                if translation.stamps != before {
                    self.splices.set(position, Splice::Open { translation, window });
                }
                Ok(None)
            }
        }
    }

    /// An instance's packet of a spliced flow; `None` once it is translated and goes the way of all.
    pub(super) fn splice_return<F: Frame>(
        &mut self,
        position: u32,
        packet: &mut Packet<F>,
        cx: &mut Context<'_>,
    ) -> Result<Option<Next>, Drop> {
        let l4 = usize::from(packet.meta.l4);
        match self.splices.get(position) {
            Splice::Opening(held) => {
                let head = Head::read(&packet.frame.bytes()[l4..]).ok_or(Drop::SpliceCut)?;
                let Stage::Opening { connect, .. } = *self.splices.stage(held) else {
                    return Err(Drop::SpliceStray);
                };
                let flow = self.flows.get(position);
                let handshake = Handshake {
                    client: (flow.client, flow.client_port),
                    service: (flow.vip, flow.vip_port),
                    client_isn: connect.accepted.client_isn,
                };
                match connect.answer(&head, self.splices.cookies.stamp(&handshake, cx.now)) {
                    Answer::Opened(translation) => {
                        let window = connect.accepted.window;
                        self.splices.set(position, Splice::Open { translation, window });
                        *self.splices.stage(held) = Stage::Opened;
                    }
                    Answer::Refused => {
                        *self.splices.stage(held) = Stage::Failed { position: Some(position) };
                    }
                    Answer::Stray => return Err(Drop::SpliceStray),
                }
                Ok(Some(Next::Consumed))
            }
            Splice::Open { translation, window } => {
                if packet.meta.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK {
                    // Our acknowledgement was lost; the client knows of no such segment.
                    verify(packet)?;
                    let head = Head::read(&packet.frame.bytes()[l4..]).ok_or(Drop::SpliceCut)?;
                    let window = Rescale { from: 0, to: translation.to_instance.to }.apply(window);
                    return answer(packet, &acknowledge(&head, window)).map(Some);
                }
                translation.to_client(&mut packet.frame.bytes_mut()[l4..]).map_err(|_| Drop::SpliceCut)?;
                Ok(None)
            }
        }
    }

    /// Answers a SYN with a cookie. The client may send one segment before the instance speaks for itself.
    fn answer_syn<F: Frame>(
        &self,
        packet: &mut Packet<F>,
        syn: &Head,
        cx: &Context<'_>,
    ) -> Result<Next, Drop> {
        let meta = &packet.meta;
        let mtus = cx.tables.interfaces.iter().map(|(_, interface)| interface.mtu);
        let headers = (usize::from(meta.l4) - L3 + tcp::HEADER) as u16;
        let mss = mtus.min().unwrap_or(PACKET_MAX).min(PACKET_MAX).saturating_sub(headers);
        let handshake = handshake(meta, syn.sequence);
        let isn = self.splices.cookies.issue(&handshake, &syn.options, cx.now);
        let stamp = self.splices.cookies.stamp(&handshake, cx.now);
        answer(packet, &Accepted::syn_ack(syn, isn, stamp, mss, mss))
    }

    /// What the sender of this acknowledgement agreed to, if it answers a cookie of ours.
    fn accepted(&self, meta: &Meta, head: &Head, age_ticks: u64, cx: &Context<'_>) -> Option<Accepted> {
        if head.flags & (tcp::SYN | tcp::RST) != 0 {
            return None;
        }
        let answered = handshake(meta, head.sequence.wrapping_sub(1));
        let isn = head.acknowledgement.wrapping_sub(1);
        let options =
            self.splices.cookies.check(&answered, isn, head.options.timestamps, cx.now, age_ticks)?;
        Accepted::new(head, options)
    }
}

/// Whether a SYN for the service is answered with a cookie now, while no instance is ready: never before the notification
/// has been handed over, but where the answer to the cookie is to wake the service.
pub(crate) fn answers(service: &Service, slot: &ServiceSlot) -> bool {
    let (phase, wake) = slot.load();
    let may = match phase {
        Phase::Cold => proof(service, slot) == Verify::Cookie,
        Phase::Waking => slot.is_handed(wake) || proof(service, slot) == Verify::Cookie,
        _ => false,
    };
    may && service.handling == Handling::Splice
}

/// Whether the service has a configured backend for clients that no instance comes for.
pub(crate) fn falls_back(service: &Entry, v4: bool) -> bool {
    service.overflow == Overflow::Fallback && service.has(Pool::Fixed, v4)
}

/// Makes a held segment, copied into `bytes`, the SYN that reproduces its client's; the frame's new length. `bytes` must have
/// room for a TCP header behind the IP header.
pub(crate) fn into_syn(bytes: &mut [u8], meta: &mut Meta, accepted: &Accepted) -> usize {
    let l4 = usize::from(meta.l4);
    let head = accepted.syn(meta.source_port, meta.destination_port);
    let len = head.written_len();
    head.write(&mut bytes[l4..], meta.source, meta.destination);
    let ip = &mut bytes[L3..];
    meta.ip_len = (l4 - L3 + len) as u16;
    if meta.destination.is_v4() {
        ip[2..4].copy_from_slice(&meta.ip_len.to_be_bytes());
        ipv4::fill_checksum(ip, l4 - L3);
    } else {
        ip[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    }
    meta.tcp_flags = tcp::SYN;
    meta.origin = Origin::Own;
    l4 + len
}

/// Turns a packet into an answer without data.
pub(super) fn answer<F: Frame>(packet: &mut Packet<F>, head: &Head) -> Result<Next, Drop> {
    let l4 = usize::from(packet.meta.l4);
    if !reply::turn_around(packet, head.written_len()) {
        return Err(Drop::SpliceCut);
    }
    let (source, destination) = (packet.meta.source, packet.meta.destination);
    head.write(&mut packet.frame.bytes_mut()[l4..], source, destination);
    Ok(Next::Reply)
}

/// Turns a client's segment into the reset that tells it that there is nobody to talk to; a reset is not answered (RFC
/// 9293 §3.10.7.1).
pub(super) fn refuse<F: Frame>(packet: &mut Packet<F>) -> Result<Next, Drop> {
    let early = early_of(&packet.meta, packet.frame.bytes()).ok_or(Drop::SpliceCut)?;
    if early.head.flags & tcp::RST != 0 {
        return Err(Drop::OverflowNoRst);
    }
    answer(packet, &early.head.reset(early.data))
}

/// A client's segment while another of its is held.
fn replace<F: Frame>(
    packet: &Packet<F>,
    held: HeldId,
    newer: &Early,
    service: &Service,
    cx: &mut Context<'_>,
) -> Result<Next, Drop> {
    let (waiting, bytes) = cx.holds.get(held);
    let older = early_of(&waiting.meta, bytes).ok_or(Drop::SpliceCut)?;
    match older.judge(newer) {
        // A reset takes the place as well: what comes of the connection by then, the client's side is over.
        Verdict::Replaces | Verdict::Aborts => {
            park(packet, Held::Handshake, service, cx).map(Next::Hold).map_err(|_| Drop::SpliceSurplus)
        }
        Verdict::Surplus => Err(Drop::SpliceSurplus),
    }
}

fn early_of(meta: &Meta, bytes: &[u8]) -> Option<Early> {
    let header = bytes.get(usize::from(meta.l4)..)?;
    let head = Head::read(header)?;
    let behind_ip = L3 + usize::from(meta.ip_len) - usize::from(meta.l4);
    Some(Early { head, data: behind_ip.saturating_sub(usize::from(header[12] >> 4) * 4) as u32 })
}

fn handshake(meta: &Meta, client_isn: u32) -> Handshake {
    Handshake {
        client: (meta.source, meta.source_port),
        service: (meta.destination, meta.destination_port),
        client_isn,
    }
}

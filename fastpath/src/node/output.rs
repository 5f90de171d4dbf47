//! The last step: VLAN tags, and the boxes of frames that the worker hands to each port.

use super::{Context, LEAVINGS, Lanes, Leaving, NodeId, Outgoing, drops};
use crate::driver::{Burst, Driver, Frame, PortId};
use crate::packet::tag;

drops! {
    /// Why a frame isn't offered to a port.
    pub enum Drop {
        /// Its interface is gone.
        NoInterface => "no-interface",
        /// No room in front for the VLAN tags.
        NoHeadroom => "no-headroom",
        /// The port refused it: its queue is full, or it is down.
        Refused => "refused",
    }
}

/// What a round has for a port.
#[derive(Debug)]
pub struct Outbox<F> {
    /// Frames that wait for it, tagged.
    pub frames: Burst<F>,
    /// Empty frames that will leave there. None is left at the end of a node.
    pub fresh: Burst<F>,
}

impl<F> Default for Outbox<F> {
    fn default() -> Self {
        Self { frames: Burst::new(), fresh: Burst::new() }
    }
}

/// Tags the frames of the lane and puts them into the boxes. A round has no more frames than a box has room for, and boxes are
/// emptied after each.
pub fn process<F: Frame>(
    scratch: &mut Vec<Outgoing<F>>,
    outboxes: &mut [Outbox<F>],
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    std::mem::swap(scratch, &mut lanes.output);
    // Counted here and added up once: numbers that every frame would read and write.
    let mut sent = [0u64; LEAVINGS];
    for mut out in scratch.drain(..) {
        cx.trace_frame(NodeId::Output, "sent", out.trace, &out.frame);
        match prepare(&mut out, outboxes.len(), cx) {
            Ok(port) => {
                sent[out.leaving as usize] += 1;
                outboxes[port.index()].frames.push(out.frame);
            }
            Err(reason) => {
                cx.counters.node(NodeId::Output).drops[reason as usize].add(1);
                let fates = &cx.counters.fates;
                match out.leaving {
                    Leaving::Released => fates.release_dropped.add(1),
                    Leaving::Originated => {}
                    _ => fates.dropped.add(1),
                }
                lanes.free.push(out.frame);
            }
        }
    }
    let fates = &cx.counters.fates;
    fates.forwarded.add(sent[Leaving::Forwarded as usize] + sent[Leaving::Injected as usize]);
    fates.answered.add(sent[Leaving::Answered as usize]);
    fates.release_sent.add(sent[Leaving::Released as usize]);
    fates.originated.add(sent[Leaving::Originated as usize]);
}

#[inline(always)]
fn prepare<F: Frame>(out: &mut Outgoing<F>, ports: usize, cx: &Context<'_>) -> Result<PortId, Drop> {
    let interface = cx.tables.interfaces.get(out.interface).ok_or(Drop::NoInterface)?;
    if interface.port.index() >= ports {
        return Err(Drop::NoInterface);
    }
    match interface.vlan {
        Some(_) if !tag(&mut out.frame, interface.tags()) => Err(Drop::NoHeadroom),
        _ => Ok(interface.port),
    }
}

/// Hands each box to its port.
#[inline]
pub fn transmit_all<D: Driver>(driver: &mut D, outboxes: &mut [Outbox<D::Frame>], cx: &Context<'_>) {
    for (port, outbox) in outboxes.iter_mut().enumerate() {
        transmit(driver, PortId(port as u16), outbox, cx);
    }
}

/// Puts a frame into the box of its port, which is emptied when it is full.
#[inline(always)] // for each copy
pub(super) fn put<D: Driver>(
    driver: &mut D,
    port: PortId,
    outbox: &mut Outbox<D::Frame>,
    frame: D::Frame,
    cx: &Context<'_>,
) {
    if let Err(full) = outbox.frames.try_push(frame) {
        transmit(driver, port, outbox, cx);
        outbox.frames.push(full.element());
    }
}

/// Hands a box to its port. What the port refuses is counted and freed.
#[inline]
pub fn transmit<D: Driver>(driver: &mut D, port: PortId, outbox: &mut Outbox<D::Frame>, cx: &Context<'_>) {
    if outbox.frames.is_empty() {
        return;
    }
    let fates = &cx.counters.fates;
    fates.tx_accepted.add(driver.transmit(port, &mut outbox.frames) as u64);
    let refused = outbox.frames.len() as u64;
    if refused > 0 {
        fates.tx_refused.add(refused);
        cx.counters.node(NodeId::Output).drops[Drop::Refused as usize].add(refused);
        for frame in outbox.frames.drain(..) {
            driver.free(frame);
        }
    }
}

//! How one packet becomes several frames.

use arrayvec::ArrayVec;
use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{Carriage, Header, LEN_MAX, len, rewrite, set_carriage};
use millrace_bier::id::{BiftKey, Bsl};

use super::{Loss, lose};
use crate::driver::{Driver, Frame};
use crate::node::output::{self, Outbox};
use crate::node::{Context, port_of};
use crate::packet::{L3, Packet, tag};
use crate::tables::bier::{LINKS_MAX, Link};
use crate::tables::interfaces::{InterfaceId, Mac};
use crate::wire::ethernet;

/// Payloads up to this many bytes are copied: cheaper than a second buffer for each copy. Measured with the benchmark
/// `node.bier.copy`.
const COPIED_MAX: usize = 256;

/// The words of the longest bit string.
const WORDS_MAX: usize = 64;

/// A copy: what it carries, and which way it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    /// What the neighbour calls the table.
    pub(super) id: BiftId,
    /// The link's number, for its counter.
    pub(super) number: usize,
    /// The link.
    pub(super) link: Link,
    /// The neighbour's address on it.
    pub(super) mac: Mac,
}

/// The copies of one packet. The latest one waits until there is another: the last is the frame itself.
pub(super) struct Copies<'a, D: Driver> {
    driver: &'a mut D,
    outboxes: &'a mut [Outbox<D::Frame>],
    carriage: Carriage,
    header_len: usize,
    ttl: u8,
    waiting: Option<(Copy, ArrayVec<u64, WORDS_MAX>)>,
    /// The frame's headers, once it is no more than a payload that copies share.
    head: ArrayVec<u8, { L3 + LEN_MAX }>,
    made: u32,
}

impl<'a, D: Driver> Copies<'a, D> {
    #[inline]
    pub(super) fn new(driver: &'a mut D, outboxes: &'a mut [Outbox<D::Frame>]) -> Self {
        Self {
            driver,
            outboxes,
            carriage: Carriage::NonMpls,
            header_len: 0,
            ttl: 0,
            waiting: None,
            head: ArrayVec::new(),
            made: 0,
        }
    }

    /// What is known of the packet.
    #[inline]
    pub(super) fn begin(&mut self, carriage: Carriage, bsl: Bsl, ttl: u8) {
        (self.carriage, self.header_len, self.ttl) = (carriage, len(bsl), ttl.saturating_sub(1));
    }

    /// The packet is the payload of one that enters here, with this header. What waits of the set before goes first.
    pub(super) fn enter(
        &mut self,
        frame: &mut D::Frame,
        header: &Header,
        key: BiftKey,
        words: &[u64],
        cx: &Context<'_>,
    ) {
        self.flush(frame, cx);
        (self.carriage, self.header_len, self.ttl) = (header.carriage, len(key.bsl), header.ttl);
        self.head.clear();
        self.head.extend([0; L3]);
        let mut bytes = [0; LEN_MAX];
        // There is room for the longest.
        let written = header.emit(key.bsl, words, &mut bytes).unwrap_or(0);
        self.head.extend(bytes[..written].iter().copied());
    }

    /// Makes the copy that waits.
    fn flush(&mut self, frame: &mut D::Frame, cx: &Context<'_>) {
        let Some((copy, bits)) = self.waiting.take() else { return };
        match self.duplicate(frame, copy.link.interface, cx) {
            Ok(made) => self.send(made, &copy, &bits, cx),
            Err(loss) => lose(loss, cx),
        }
    }

    /// Bytes of the packet behind the Ethernet header.
    pub(super) fn packet_len(&self, frame: &D::Frame) -> usize {
        frame.total_len() + self.head.len() - L3
    }

    /// Whether there is any copy.
    pub(super) fn any(&self) -> bool {
        self.made > 0 || self.waiting.is_some()
    }

    /// One more copy, with these bits.
    #[inline]
    pub(super) fn next(&mut self, frame: &mut D::Frame, copy: Copy, bits: &[u64], cx: &Context<'_>) {
        self.flush(frame, cx);
        let mut words = ArrayVec::new();
        // As many as the longest bit string has.
        words.extend(bits.iter().copied());
        self.waiting = Some((copy, words));
    }

    /// Sends the last copy, which is the frame itself if nobody shares it. Gives back what is left of it.
    #[inline]
    pub(super) fn last(
        mut self,
        mut packet: Packet<D::Frame>,
        cx: &mut Context<'_>,
    ) -> Option<Packet<D::Frame>> {
        if !self.head.is_empty() {
            self.flush(&mut packet.frame, cx);
            return Some(packet);
        }
        let Some((copy, bits)) = self.waiting.take() else { return Some(packet) };
        self.send(packet.frame, &copy, &bits, cx);
        cx.metas.put(packet.meta);
        None
    }

    /// The same frame once more: copied, or with a header of its own in front of the shared payload.
    fn duplicate(
        &mut self,
        frame: &mut D::Frame,
        to: InterfaceId,
        cx: &Context<'_>,
    ) -> Result<D::Frame, Loss> {
        let mut copy = self.allocate(to, cx)?;
        let head = if self.head.is_empty() { L3 + self.header_len } else { 0 };
        let made = if frame.segments() == 1 && frame.bytes().len() <= head + COPIED_MAX {
            fill(&mut copy, &self.head) && fill(&mut copy, frame.bytes())
        } else {
            if self.head.is_empty() {
                // There is room for the longest, and the header was found in the frame.
                self.head.extend(frame.bytes()[..head].iter().copied());
                frame.trim_front(head);
            }
            let filled = fill(&mut copy, &self.head);
            match self.driver.attach(copy, frame) {
                Ok(whole) if filled => return Ok(whole),
                Ok(partial) | Err(partial) => copy = partial,
            }
            false
        };
        if made {
            return Ok(copy);
        }
        self.driver.free(copy);
        Err(Loss::NoBuffer)
    }

    /// Gives a frame its headers and puts it into the box of its port.
    fn send(&mut self, mut frame: D::Frame, copy: &Copy, bits: &[u64], cx: &Context<'_>) {
        let Link { interface, carriage, .. } = copy.link;
        let bytes = frame.bytes_mut();
        rewrite(&mut bytes[L3..], copy.id, self.ttl, bits);
        if carriage != self.carriage {
            set_carriage(&mut bytes[L3..], carriage);
        }
        ethernet::set_addresses(
            bytes,
            copy.mac,
            cx.tables.interfaces.get(interface).map_or([0; 6], |own| own.mac),
        );
        ethernet::set_ethertype(bytes, carriage.ethertype());
        cx.counters.bier.copies[copy.number % LINKS_MAX].add(1);
        self.give(frame, interface, cx);
    }

    /// Puts a finished frame into the box of its port, which is emptied when it is full.
    pub(super) fn give(&mut self, mut frame: D::Frame, interface: InterfaceId, cx: &Context<'_>) {
        let way =
            cx.tables.interfaces.get(interface).filter(|egress| egress.port.index() < self.outboxes.len());
        let Some(egress) = way else {
            lose(Loss::NoInterface, cx);
            return self.driver.free(frame);
        };
        if egress.vlan.is_some() && !tag(&mut frame, egress.tags()) {
            lose(Loss::NoBuffer, cx);
            return self.driver.free(frame);
        }
        let outbox = &mut self.outboxes[egress.port.index()];
        if outbox.frames.is_full() {
            output::transmit(self.driver, egress.port, outbox, cx);
        }
        outbox.frames.push(frame);
        self.made += 1;
        cx.counters.fates.copies.add(1);
    }

    /// What follows the headers of the frame that copies are made of.
    pub(super) fn payload_of<'f>(&self, frame: &'f D::Frame) -> &'f [u8] {
        let from = if self.head.is_empty() { L3 + self.header_len } else { 0 };
        &frame.bytes()[from..]
    }

    /// A buffer for a frame that will leave there.
    pub(super) fn allocate(&mut self, interface: InterfaceId, cx: &Context<'_>) -> Result<D::Frame, Loss> {
        let port = port_of(cx.tables, interface).ok_or(Loss::NoInterface)?;
        self.driver.allocate(port).ok_or(Loss::NoBuffer)
    }

    pub(super) fn free(&mut self, frame: D::Frame) {
        self.driver.free(frame);
    }
}

/// Whether a packet of that many bytes behind the Ethernet header may leave there.
pub(super) fn fits(len: usize, interface: InterfaceId, cx: &Context<'_>) -> Result<(), Loss> {
    let egress = cx.tables.interfaces.get(interface).ok_or(Loss::NoInterface)?;
    if len > usize::from(egress.mtu) { Err(Loss::TooBig) } else { Ok(()) }
}

/// Writes behind what is in a frame; false if it hasn't got the room.
pub(super) fn fill<F: Frame>(frame: &mut F, bytes: &[u8]) -> bool {
    let from = frame.bytes().len();
    let fits = frame.extend(bytes.len());
    if fits {
        frame.bytes_mut()[from..].copy_from_slice(bytes);
    }
    fits
}

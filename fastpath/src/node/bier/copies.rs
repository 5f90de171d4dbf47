//! How one packet becomes several frames.
//!
//! Copies are decided on first and made together: then it is known how many there are, the last can be the frame itself, and
//! what all of them refer to is counted once.

use std::ops::Range;

use arrayvec::ArrayVec;
use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{FIXED_LEN, Template, len};
use millrace_bier::id::Bsl;

use super::{Loss, lose};
use crate::driver::{BURST_MAX, Burst, Driver, Frame, PortId};
use crate::node::Context;
use crate::node::output::{self, Outbox};
use crate::packet::{L3, Packet};
use crate::tables::bier::{Inner, LINKS_MAX, Way};
use crate::tables::interfaces::InterfaceId;
use crate::wire::checksum;

/// Payloads up to this many bytes are copied: cheaper than a second buffer for each copy. Measured with the benchmark
/// `node.bier.copy`.
const COPIED_MAX: usize = 256;

/// A copy: what it carries, and which way it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy<'t> {
    /// What the neighbour calls the table.
    pub(super) id: BiftId,
    /// How it goes there.
    pub(super) way: &'t Way,
}

/// The copies of one packet.
pub(super) struct Copies<'a, 't, D: Driver> {
    driver: &'a mut D,
    outboxes: &'a mut [Outbox<D::Frame>],
    /// What their headers have in common.
    template: Template,
    bsl: Bsl,
    /// Where the payload begins in the frame.
    payload_at: usize,
    /// Copies refer to the frame's payload, so that nothing may be written to it any more.
    shared: bool,
    entered_by: Option<InterfaceId>,
    /// Those that were decided on and aren't made yet.
    waiting: ArrayVec<Copy<'t>, BURST_MAX>,
    /// Their bit strings, one after the other.
    bits: ArrayVec<u64, { BURST_MAX * Bsl::B4096.words() }>,
    made: u64,
}

impl<'a, 't, D: Driver> Copies<'a, 't, D> {
    pub(super) fn new(driver: &'a mut D, outboxes: &'a mut [Outbox<D::Frame>]) -> Self {
        Self {
            driver,
            outboxes,
            template: Template::default(),
            bsl: Bsl::B64,
            payload_at: 0,
            shared: false,
            entered_by: None,
            waiting: ArrayVec::new(),
            bits: ArrayVec::new(),
            made: 0,
        }
    }

    /// The next packet, which has a header itself.
    #[inline]
    pub(super) fn begin(&mut self, template: Template, bsl: Bsl) {
        (self.template, self.bsl) = (template, bsl);
        (self.payload_at, self.shared, self.entered_by, self.made) = (L3 + len(bsl), false, None, 0);
    }

    /// The next packet, which enters here by this interface and is nothing but a payload.
    pub(super) fn begin_payload(&mut self, by: InterfaceId) {
        (self.payload_at, self.shared, self.entered_by, self.made) = (0, false, Some(by), 0);
    }

    /// It goes on with this header. What waits of the set before goes first.
    pub(super) fn enter(&mut self, frame: &mut D::Frame, template: Template, bsl: Bsl, cx: &Context<'_>) {
        sized!(self.bsl, W => self.make_all::<W>(frame, cx));
        (self.template, self.bsl) = (template, bsl);
    }

    /// Where it entered BIER, if that was here.
    pub(super) fn entered_by(&self) -> Option<InterfaceId> {
        self.entered_by
    }

    /// Bytes of the packet from the BIER header on.
    pub(super) fn packet_len(&self, frame: &D::Frame) -> usize {
        len(self.bsl) + frame.total_len() - self.payload_at
    }

    /// Whether there is any copy.
    pub(super) fn any(&self) -> bool {
        self.made > 0 || !self.waiting.is_empty()
    }

    /// Copies given to ports so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// One more copy, with these bits, of which there are `W` words.
    #[inline(always)] // a few stores
    pub(super) fn next<const W: usize>(
        &mut self,
        frame: &mut D::Frame,
        copy: Copy<'t>,
        bits: &[u64],
        cx: &Context<'_>,
    ) {
        if self.waiting.is_full() {
            self.make_all::<W>(frame, cx);
        }
        self.waiting.push(copy);
        // There is room for as many of the longest.
        let _fits = self.bits.try_extend_from_slice(&bits[..W]);
    }

    /// Makes the copies that wait; the last is the frame itself if nothing refers to it. Gives back what is left of it.
    #[inline]
    pub(super) fn last(
        &mut self,
        packet: Packet<D::Frame>,
        cx: &mut Context<'_>,
    ) -> Option<Packet<D::Frame>> {
        sized!(self.bsl, W => self.last_sized::<W>(packet, cx))
    }

    fn last_sized<const W: usize>(
        &mut self,
        mut packet: Packet<D::Frame>,
        cx: &mut Context<'_>,
    ) -> Option<Packet<D::Frame>> {
        let count = self.waiting.len();
        if self.shared || count > 1 && !self.is_short(&packet.frame) {
            self.make_all::<W>(&mut packet.frame, cx);
            return Some(packet);
        }
        let Some(last) = count.checked_sub(1) else { return Some(packet) };
        if last > 0 {
            self.make::<W>(&mut packet.frame, 0..last, cx);
        }
        let copy = self.waiting[last];
        let fits = self.rewrite::<W>(&mut packet.frame, &copy);
        if !fits {
            // It entered here, and there is less room in front of it than its header is long.
            self.make::<W>(&mut packet.frame, last..count, cx);
        }
        self.waiting.clear();
        self.bits.clear();
        if !fits {
            return Some(packet);
        }
        self.send(packet.frame, copy.way, cx);
        cx.metas.put(packet.meta);
        None
    }

    /// Whether copying the payload costs less than referring to it.
    #[inline]
    fn is_short(&self, frame: &D::Frame) -> bool {
        frame.bytes().len() <= self.payload_at + COPIED_MAX && frame.segments() == 1
    }

    /// Makes all copies that wait.
    #[inline]
    fn make_all<const W: usize>(&mut self, frame: &mut D::Frame, cx: &Context<'_>) {
        if !self.waiting.is_empty() {
            self.make::<W>(frame, 0..self.waiting.len(), cx);
            self.waiting.clear();
            self.bits.clear();
        }
    }

    /// Makes some of the copies that wait, at least one: frames of their own, or with a header of their own in front of the
    /// shared payload.
    #[inline(never)] // the only copy of a packet is the frame itself, and doesn't carry this along
    fn make<const W: usize>(&mut self, frame: &mut D::Frame, which: Range<usize>, cx: &Context<'_>) {
        let copied = self.is_short(frame);
        if !copied && !self.shared {
            // The headers were found in it.
            frame.trim_front(self.payload_at);
            (self.payload_at, self.shared) = (0, true);
        }
        let first = &frame.bytes()[self.payload_at..];
        let mut payload = Payload { first, len: frame.total_len() - self.payload_at, sum: None };
        let behind = if copied { first } else { &[] };
        let template = self.template;
        let mut fresh = Burst::<D::Frame>::new();
        let mut ways = ArrayVec::<&Way, BURST_MAX>::new();
        let mut strings = &self.bits.as_chunks::<W>().0[which.clone()];
        let mut all = true;
        for run in self.waiting[which].chunk_by(|one, next| one.way.port == next.way.port) {
            let before = fresh.len();
            let got = self.driver.allocate_all(run[0].way.port, run.len(), &mut fresh);
            (got..run.len()).for_each(|_| lose(Loss::NoBuffer, cx));
            let (of_run, others) = strings.split_at(run.len());
            strings = others;
            for ((copy, bits), one) in run.iter().zip(of_run).zip(&mut fresh[before..]) {
                // One without the room stays empty.
                let fits = one.extend(front_len::<W>(copy.way) + behind.len());
                if fits {
                    write(one.bytes_mut(), copy, &template, bits, &mut payload).copy_from_slice(behind);
                }
                all &= fits;
                ways.push(copy.way);
            }
        }
        let whole = if copied { fresh.len() } else { self.driver.attach_all(&mut fresh, frame) };
        all &= whole == fresh.len();
        for (at, (frame, way)) in fresh.drain(..).zip(&ways).enumerate() {
            if all || at < whole && !frame.bytes().is_empty() {
                self.send(frame, way, cx);
            } else {
                lose(Loss::NoBuffer, cx);
                self.driver.free(frame);
            }
        }
    }

    /// Turns the frame itself into the last of the copies that wait; false if it hasn't got the room.
    #[inline]
    fn rewrite<const W: usize>(&self, frame: &mut D::Frame, copy: &Copy<'_>) -> bool {
        let Some(bits) = self.bits.last_chunk::<W>() else { return false };
        let front = front_len::<W>(copy.way);
        let fits = match front.checked_sub(self.payload_at) {
            Some(more) => frame.prepend(more),
            None => frame.trim_front(self.payload_at - front),
        };
        if fits {
            let len = frame.total_len() - front;
            let bytes = frame.bytes_mut();
            let (front, first) = bytes.split_at_mut(front);
            write(front, copy, &self.template, bits, &mut Payload { first, len, sum: None });
        }
        fits
    }

    #[inline(always)]
    fn send(&mut self, frame: D::Frame, way: &Way, cx: &Context<'_>) {
        cx.counters.bier.copies[usize::from(way.link) % LINKS_MAX].add(1);
        self.give(frame, way.port, cx);
    }

    /// Puts a finished frame into the box of its port, which is emptied when it is full.
    #[inline(always)]
    pub(super) fn give(&mut self, frame: D::Frame, port: PortId, cx: &Context<'_>) {
        let Some(outbox) = self.outboxes.get_mut(port.index()) else {
            lose(Loss::NoInterface, cx);
            self.driver.free(frame);
            return;
        };
        if outbox.frames.is_full() {
            output::transmit(self.driver, port, outbox, cx);
        }
        outbox.frames.push(frame);
        self.made += 1;
    }

    /// What follows the headers of the frame that copies are made of.
    pub(super) fn payload_of<'f>(&self, frame: &'f D::Frame) -> &'f [u8] {
        &frame.bytes()[self.payload_at..]
    }

    /// A buffer for a frame that will leave there.
    pub(super) fn allocate(&mut self, port: PortId) -> Result<D::Frame, Loss> {
        self.driver.allocate(port).ok_or(Loss::NoBuffer)
    }

    pub(super) fn free(&mut self, frame: D::Frame) {
        self.driver.free(frame);
    }
}

/// What stands behind the headers.
struct Payload<'f> {
    /// What of it is in the first segment.
    first: &'f [u8],
    /// Bytes of all of it.
    len: usize,
    /// The sum of its bytes, once it was needed.
    sum: Option<u64>,
}

impl Payload<'_> {
    /// The sum of its bytes; `None` if they aren't in one piece.
    fn sum(&mut self) -> Option<u64> {
        (self.first.len() == self.len).then(|| *self.sum.get_or_insert_with(|| checksum::sum(self.first)))
    }
}

/// Bytes of all that stands in front of the payload.
#[inline]
fn front_len<const W: usize>(way: &Way) -> usize {
    usize::from(way.front_len) + FIXED_LEN + W * 8
}

/// Writes all that stands in front of the payload, and gives back what is behind that.
#[inline(always)] // lengths are known where it is called
fn write<'b, const W: usize>(
    bytes: &'b mut [u8],
    copy: &Copy<'_>,
    template: &Template,
    bits: &[u64; W],
    payload: &mut Payload<'_>,
) -> &'b mut [u8] {
    let way = copy.way;
    let front_len = usize::from(way.front_len);
    let (head, rest) = bytes.split_at_mut(front_len);
    let (header, behind) = rest.split_at_mut(FIXED_LEN + W * 8);
    template.emit(copy.id, way.carriage, bits, header);
    match (head.first_chunk_mut::<L3>(), way.head.first_chunk()) {
        // Of known length: most links have no tags and are no tunnels.
        (Some(plain), Some(ours)) if front_len == L3 => *plain = *ours,
        _ if front_len == way.head.len() => head.copy_from_slice(&way.head),
        _ => write_tunnel(head, way, template, header, payload),
    }
    behind
}

/// The same in front of the BIER header, for a tunnel.
#[inline(never)] // what goes over a link doesn't carry this along
fn write_tunnel(head: &mut [u8], way: &Way, template: &Template, header: &[u8], payload: &mut Payload<'_>) {
    let (ethernet, ip) = head.split_at_mut(way.head.len());
    ethernet.copy_from_slice(&way.head);
    let Some(outer) = &way.outer else { return };
    let inner = Inner { entropy: template.entropy(), dscp: template.dscp(), len: header.len() + payload.len };
    // A header has an even number of bytes.
    outer.write(ip, inner, || Some(checksum::sum(header) + payload.sum()?));
}

//! How one packet becomes several frames.
//!
//! Copies are decided on first and made together: then it is known how many there are, the last can be the frame itself, and
//! what all of them refer to is counted once.

use std::ops::Range;

use arrayvec::ArrayVec;
use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{FIXED_LEN, Template, len};
use millrace_bier::id::Bsl;
use millrace_bier::wire::Wire;

use super::{Loss, lose};
use crate::driver::{BURST_MAX, Burst, Driver, Frame, PortId};
use crate::node::Context;
use crate::node::output::{self, Outbox};
use crate::packet::L3;
use crate::tables::bier::{Inner, LINKS_MAX, Way};
use crate::tables::interfaces::InterfaceId;
use crate::wire::checksum;

/// Payloads up to this many bytes are copied: cheaper than a second buffer for each copy. Measured with the benchmark
/// `node.bier.copy`, as is what follows.
const COPIED_MAX: usize = 256;
/// Bytes beyond that, of all copies together, up to which copying is still cheaper than the buffer that all would refer with.
const COPIED_ONCE: usize = 1280;

/// To whom a copy goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct To<'t> {
    /// What the neighbour calls the table.
    pub(super) id: BiftId,
    /// How it goes there.
    pub(super) way: &'t Way,
}

/// Which bits it carries.
pub(super) enum Bits<'t, const W: usize> {
    /// Those of the packet that are in this mask.
    Masked(&'t [u64; W]),
    /// These.
    Given(Wire<W>),
}

/// A copy that is still to be made.
#[derive(Clone, Copy, Debug)]
struct Copy<'t> {
    to: To<'t>,
    /// Of its bits, unless they are given.
    mask: &'t [u64],
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
    entered_by: Option<InterfaceId>,
    /// Packets of the round that are likely to become as many copies as this one.
    alike: usize,
    /// Those that were decided on and aren't made yet.
    waiting: ArrayVec<Copy<'t>, BURST_MAX>,
    /// The bits of the packet, as many as there are in its strings.
    packet: [u64; Bsl::B4096.words()],
    /// The bits of the copies that wait, one after the other, if they are given.
    given: ArrayVec<u64, { BURST_MAX * Bsl::B4096.words() }>,
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
            entered_by: None,
            alike: 1,
            waiting: ArrayVec::new(),
            packet: [0; Bsl::B4096.words()],
            given: ArrayVec::new(),
            made: 0,
        }
    }

    /// The next packets have headers themselves, with bit strings of this length.
    pub(super) fn begin_run(&mut self, bsl: Bsl) {
        (self.bsl, self.payload_at, self.entered_by) = (bsl, L3 + len(bsl), None);
    }

    /// The next packet of those; the first of `alike` that are likely to become as many copies.
    #[inline(always)] // a few stores
    pub(super) fn begin<const W: usize>(&mut self, template: Template, bits: &Wire<W>, alike: usize) {
        self.set_bits(bits);
        (self.template, self.alike, self.made) = (template, alike, 0);
    }

    /// The next packet, which enters here by this interface and is nothing but a payload.
    pub(super) fn begin_payload(&mut self, by: InterfaceId) {
        (self.payload_at, self.entered_by, self.made, self.alike) = (0, Some(by), 0, 1);
    }

    /// It goes on with this header. What waits of the set before goes first.
    pub(super) fn enter(&mut self, frame: &D::Frame, template: Template, bsl: Bsl, cx: &Context<'_>) {
        sized!(self.bsl, W => self.make_all::<W>(frame, cx));
        (self.template, self.bsl) = (template, bsl);
    }

    /// Its bits, which masks are of.
    #[inline(always)] // a few stores
    pub(super) fn set_bits<const W: usize>(&mut self, bits: &Wire<W>) {
        // There is room for the longest.
        self.packet.first_chunk_mut().into_iter().for_each(|packet| *packet = bits.0);
    }

    /// What the headers of its copies have in common.
    #[inline]
    pub(super) fn template(&self) -> Template {
        self.template
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

    /// The length of the bit strings of copies that wait.
    pub(super) fn bsl(&self) -> Bsl {
        self.bsl
    }

    /// Copies given to ports so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// One more copy.
    #[inline(always)] // a few stores
    pub(super) fn next<const W: usize>(
        &mut self,
        frame: &D::Frame,
        to: To<'t>,
        bits: Bits<'t, W>,
        cx: &Context<'_>,
    ) {
        if self.waiting.is_full() {
            self.make_all::<W>(frame, cx);
        }
        let mask = match &bits {
            Bits::Masked(mask) => &mask[..],
            Bits::Given(bits) => {
                // There is room for as many of the longest.
                let _fits = self.given.try_extend_from_slice(&bits.0);
                &[]
            }
        };
        self.waiting.push(Copy { to, mask });
    }

    /// Makes the copies that wait, of which the last is the frame itself. Gives it back if it couldn't be.
    #[inline(always)] // for each packet
    pub(super) fn last<const W: usize>(&mut self, mut frame: D::Frame, cx: &Context<'_>) -> Option<D::Frame> {
        let count = self.waiting.len();
        let Some(last) = count.checked_sub(1) else { return Some(frame) };
        if last > 0 {
            self.make::<W>(&frame, 0..last, cx);
        }
        let to = self.waiting[last].to;
        let fits = self.rewrite::<W>(&mut frame, last);
        if !fits {
            // It entered here, and there is less room in front of it than its header is long.
            self.make::<W>(&frame, last..count, cx);
        }
        self.waiting.clear();
        self.given.clear();
        if !fits {
            return Some(frame);
        }
        self.send(frame, to.way, cx);
        None
    }

    /// Whether copying the payload so many times costs less than referring to it.
    #[inline]
    fn is_short(&self, frame: &D::Frame, times: usize) -> bool {
        let beyond = frame.bytes().len().saturating_sub(self.payload_at + COPIED_MAX);
        beyond * times <= COPIED_ONCE && frame.segments() == 1
    }

    /// Makes all copies that wait.
    #[inline]
    fn make_all<const W: usize>(&mut self, frame: &D::Frame, cx: &Context<'_>) {
        if !self.waiting.is_empty() {
            self.make::<W>(frame, 0..self.waiting.len(), cx);
            self.waiting.clear();
            self.given.clear();
        }
    }

    /// Makes some of the copies that wait, at least one: frames of their own, or with a header of their own in front of the
    /// shared payload. What stands in front of the payload is the frame's own, and may be written to afterwards.
    #[inline(never)] // the only copy of a packet is the frame itself, and doesn't carry this along
    fn make<const W: usize>(&mut self, frame: &D::Frame, which: Range<usize>, cx: &Context<'_>) {
        let copied = self.is_short(frame, which.len());
        let Self { driver, outboxes, template, payload_at, alike, waiting, given, packet, made, .. } = self;
        let first = &frame.bytes()[*payload_at..];
        let mut payload = Payload { first, len: frame.total_len() - *payload_at, sum: None };
        let behind = if copied { first } else { &[] };
        let packet = Wire(*packet.first_chunk::<W>().expect("room for the longest"));
        let mut given = given.as_chunks::<W>().0.iter().skip(which.start);
        let (mut headers, mut ways) = (Burst::<D::Frame>::new(), ArrayVec::<&Way, BURST_MAX>::new());
        for run in waiting[which].chunk_by(|one, next| one.to.way.port == next.to.way.port) {
            let port = run[0].to.way.port;
            let Some(outbox) = outboxes.get_mut(port.index()) else {
                run.iter().for_each(|_| lose(Loss::NoInterface, cx));
                continue;
            };
            if outbox.fresh.len() < run.len() {
                // For all packets at once that are likely to need some.
                let wanted = (run.len() * *alike).min(BURST_MAX);
                driver.allocate_all(port, wanted - outbox.fresh.len(), &mut outbox.fresh);
            }
            for Copy { to, mask } in run {
                let bits = given.next().map_or_else(|| packet.and(masking(mask)), |bits| Wire(*bits));
                let Some(mut one) = outbox.fresh.pop() else {
                    lose(Loss::NoBuffer, cx);
                    continue;
                };
                if !one.extend(front_len::<W>(to.way) + behind.len()) {
                    lose(Loss::NoBuffer, cx);
                    driver.free(one);
                    continue;
                }
                write(one.bytes_mut(), *to, template, &bits, &mut payload).copy_from_slice(behind);
                if copied {
                    put(*driver, outbox, one, to.way, cx);
                    *made += 1;
                } else {
                    headers.push(one);
                    ways.push(to.way);
                }
            }
        }
        if !headers.is_empty() {
            self.share(frame, headers, &ways, cx);
        }
    }

    /// Puts the payload of a frame behind headers, and sends them.
    fn share(&mut self, frame: &D::Frame, mut headers: Burst<D::Frame>, ways: &[&Way], cx: &Context<'_>) {
        let shared = self.driver.share(&mut headers, frame, self.payload_at);
        for (header, way) in headers.drain(..).zip(ways) {
            if shared {
                self.send(header, way, cx);
            } else {
                lose(Loss::NoBuffer, cx);
                self.driver.free(header);
            }
        }
    }

    /// Gives back the frames that nobody needed.
    pub(super) fn give_back(self) {
        for outbox in self.outboxes {
            outbox.fresh.drain(..).for_each(|frame| self.driver.free(frame));
        }
    }

    /// Turns the frame itself into the copy that waits at a place, the last; false if it hasn't got the room.
    #[inline(always)] // for each packet
    fn rewrite<const W: usize>(&self, frame: &mut D::Frame, at: usize) -> bool {
        let Copy { to, mask } = self.waiting[at];
        let packet = Wire(*self.packet.first_chunk::<W>().expect("room for the longest"));
        let given = self.given.as_chunks().0.get(at);
        let bits = given.map_or_else(|| packet.and(masking(mask)), |bits| Wire(*bits));
        let front = front_len::<W>(to.way);
        // Mostly it goes as it came.
        if front != self.payload_at {
            let fits = match front.checked_sub(self.payload_at) {
                Some(more) => frame.prepend(more),
                None => frame.trim_front(self.payload_at - front),
            };
            if !fits {
                return false;
            }
        }
        let len = frame.total_len() - front;
        let (front, first) = frame.bytes_mut().split_at_mut(front);
        write(front, to, &self.template, &bits, &mut Payload { first, len, sum: None });
        true
    }

    #[inline(always)] // for each packet
    fn send(&mut self, frame: D::Frame, way: &Way, cx: &Context<'_>) {
        let Some(outbox) = self.outboxes.get_mut(way.port.index()) else {
            lose(Loss::NoInterface, cx);
            self.driver.free(frame);
            return;
        };
        put(self.driver, outbox, frame, way, cx);
        self.made += 1;
    }

    /// Puts a finished frame into the box of its port, which is emptied when it is full.
    pub(super) fn give(&mut self, frame: D::Frame, port: PortId, cx: &Context<'_>) {
        let Some(outbox) = self.outboxes.get_mut(port.index()) else {
            lose(Loss::NoInterface, cx);
            self.driver.free(frame);
            return;
        };
        output::put(self.driver, port, outbox, frame, cx);
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

/// The mask of a copy whose bits aren't given.
#[inline(always)] // for each copy
fn masking<const W: usize>(mask: &[u64]) -> &[u64; W] {
    mask.first_chunk().expect("all copies of a packet are masked, or none is")
}

/// Puts a copy into the box of its port, and counts it.
#[inline(always)] // for each copy
fn put<D: Driver>(
    driver: &mut D,
    outbox: &mut Outbox<D::Frame>,
    frame: D::Frame,
    way: &Way,
    cx: &Context<'_>,
) {
    cx.counters.bier.copies[usize::from(way.link) % LINKS_MAX].add(1);
    output::put(driver, way.port, outbox, frame, cx);
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
    to: To<'_>,
    template: &Template,
    bits: &Wire<W>,
    payload: &mut Payload<'_>,
) -> &'b mut [u8] {
    let way = to.way;
    let front_len = usize::from(way.front_len);
    let (front, behind) = bytes.split_at_mut(front_len + FIXED_LEN + W * 8);
    let (head, header) = front.split_at_mut(front_len);
    let (fixed, bit_string) = header.split_first_chunk_mut().expect("as long as was said");
    template.emit(to.id, way.carriage, fixed);
    bits.write(bit_string);
    match head.first_chunk_mut() {
        // Of known length: most links have no tags and are no tunnels.
        Some(plain) if front_len == L3 => *plain = way.plain,
        _ => write_front(head, way, template, header, payload),
    }
    behind
}

/// The same in front of the BIER header, with tags, or for a tunnel.
#[inline(never)] // what goes over a plain link doesn't carry this along
fn write_front(head: &mut [u8], way: &Way, template: &Template, header: &[u8], payload: &mut Payload<'_>) {
    let (ethernet, ip) = head.split_at_mut(way.head.len());
    ethernet.copy_from_slice(&way.head);
    let Some(outer) = &way.outer else { return };
    let inner = Inner { entropy: template.entropy(), dscp: template.dscp(), len: header.len() + payload.len };
    // A header has an even number of bytes.
    outer.write(ip, inner, || Some(checksum::sum(header) + payload.sum()?));
}

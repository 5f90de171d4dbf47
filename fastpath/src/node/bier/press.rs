//! How copies are made, once it is known to whom they go: out of a frame, into the boxes of ports.

use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{FIXED_LEN, Template};
use millrace_bier::wire::{OnWire, Wire, clear_others};

use super::{Loss, lose};
use crate::driver::{BURST_MAX, Driver, Frame, PortId};
use crate::node::Context;
use crate::node::output::{self, Outbox};
use crate::packet::L3;
use crate::tables::bier::{Inner, LINKS_MAX, Way};
use crate::wire::checksum;

/// Payloads up to this many bytes are copied: that costs less than another segment in each frame. Measured with the benchmark
/// `node.bier.copy`, as is what follows.
const COPIED_MAX: usize = 256;
/// Bytes beyond that, of all copies together, up to which copying still costs less than the buffer that all would refer with.
const COPIED_ONCE: usize = 768;

/// To whom a copy goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct To<'t> {
    /// What the neighbour calls the table.
    pub(super) id: BiftId,
    /// How it goes there.
    pub(super) way: &'t Way,
}

/// What copies are made of.
pub(super) struct Original<'f, F> {
    pub(super) frame: &'f F,
    /// Where the payload begins in it. What stands before that may be written to as soon as the copies are made.
    pub(super) payload_at: usize,
    /// What their headers have in common.
    pub(super) template: Template,
}

/// Which bits a copy carries.
#[derive(Clone, Copy)]
pub(super) enum Bits<'t, const W: usize> {
    /// Those of the frame's own string, in front of its payload, that are in this mask.
    Own(&'t [u64; W]),
    /// These, in the order of the wire.
    Given(&'t [u64; W]),
}

/// Makes copies.
pub(super) struct Press<'a, D: Driver> {
    pub(super) driver: &'a mut D,
    outboxes: &'a mut [Outbox<D::Frame>],
    /// A pool was empty in this round: nothing is taken ahead any more.
    is_scarce: bool,
}

impl<'a, D: Driver> Press<'a, D> {
    pub(super) fn new(driver: &'a mut D, outboxes: &'a mut [Outbox<D::Frame>]) -> Self {
        Self { driver, outboxes, is_scarce: false }
    }

    /// Makes one copy after the other, in buffers of their own; how many there are in the end. `alike` is the number of packets of
    /// this round that are likely to become as many.
    #[inline(always)] // once for each kind of bits
    pub(super) fn make<'t, const W: usize>(
        &mut self,
        of: &Original<'_, D::Frame>,
        mut copies: impl ExactSizeIterator<Item = (To<'t>, Bits<'t, W>)> + Clone,
        alike: usize,
        cx: &Context<'_>,
    ) -> u64 {
        let (front, first) = of.frame.bytes().split_at(of.payload_at);
        let mut payload = Payload { first, len: of.frame.total_len() - of.payload_at, sum: None };
        let beyond = payload.len.saturating_sub(COPIED_MAX);
        let is_short = beyond * copies.len() <= COPIED_ONCE && payload.len == first.len();
        let (mut shared, behind) = if is_short {
            (None, first)
        } else if let Some(shared) = self.share(of, copies.len()) {
            (Some(shared), &[][..])
        } else {
            copies.for_each(|_| lose(Loss::NoBuffer, cx));
            return 0;
        };
        let mut made = 0;
        loop {
            let here = copies.clone();
            let Some((to, bits)) = copies.next() else { return made };
            // For all packets at once that are likely to need some.
            let likely = || alike * here.take_while(|(other, _)| other.way.port == to.way.port).count();
            let mut frame = match self.empty(to.way.port, likely) {
                Ok(frame) => frame,
                Err(loss) => {
                    lose(loss, cx);
                    continue;
                }
            };
            if !frame.extend(front_len::<W>(to.way) + behind.len()) {
                lose(Loss::NoBuffer, cx);
                self.driver.free(frame);
                continue;
            }
            let string = |string: &mut [u8]| match bits {
                Bits::Own(mask) => OnWire::of(&front[front.len() - W * 8..]).and(mask).write(string),
                Bits::Given(bits) => Wire(*bits).write(string),
            };
            let head = |head: &mut [u8], header: &[u8], _: &[u8]| {
                write_head(head, to.way, &of.template, header, &mut payload);
            };
            write::<W>(frame.bytes_mut(), to, &of.template, string, head).copy_from_slice(behind);
            if let Some(shared) = &mut shared
                && !self.driver.put_behind(&mut frame, shared)
            {
                lose(Loss::NoBuffer, cx);
                self.driver.free(frame);
                continue;
            }
            made += self.put(frame, to.way, cx);
        }
    }

    /// Makes the payload of a frame ready to stand behind so many others.
    fn share(&mut self, of: &Original<'_, D::Frame>, times: usize) -> Option<D::Shared> {
        let times = u16::try_from(times).ok()?;
        self.driver.share(of.frame, of.payload_at, times).or_else(|| {
            // What was taken ahead may be what is missing.
            self.is_scarce = true;
            self.give_back();
            self.driver.share(of.frame, of.payload_at, times)
        })
    }

    /// An empty buffer for a frame that will leave there. If there is none left, `likely` says how many are taken at once.
    #[inline(always)] // for each copy
    pub(super) fn empty(&mut self, port: PortId, likely: impl FnOnce() -> usize) -> Result<D::Frame, Loss> {
        let outbox = self.outboxes.get_mut(port.index()).ok_or(Loss::NoInterface)?;
        if let Some(frame) = outbox.fresh.pop() {
            return Ok(frame);
        }
        let count = if self.is_scarce { 1 } else { likely().min(BURST_MAX) };
        self.driver.allocate_all(port, count, &mut outbox.fresh);
        outbox.fresh.pop().or_else(|| self.scarce(port)).ok_or(Loss::NoBuffer)
    }

    /// The same when the pool is empty: what was taken ahead for other ports may be what is missing.
    #[cold]
    fn scarce(&mut self, port: PortId) -> Option<D::Frame> {
        self.is_scarce = true;
        self.give_back();
        self.driver.allocate(port)
    }

    /// Turns a frame into a copy itself, and sends it: how many that makes. Gives it back as it was if it hasn't got the room for
    /// what has to stand in front of its payload, or if there is no such port.
    #[inline(always)] // for each packet
    pub(super) fn turn<const W: usize>(
        &mut self,
        mut frame: D::Frame,
        payload_at: usize,
        template: &Template,
        to: To<'_>,
        bits: Bits<'_, W>,
        cx: &Context<'_>,
    ) -> Result<u64, D::Frame> {
        if to.way.port.index() >= self.outboxes.len() {
            return Err(frame);
        }
        let front_len = front_len::<W>(to.way);
        // Mostly it goes as it came, and its bit string stays where it is.
        if front_len != payload_at {
            return self.turn_longer(frame, payload_at, template, to, bits, cx);
        }
        let total = frame.total_len();
        let head = |head: &mut [u8], header: &[u8], first: &[u8]| {
            let payload = &mut Payload { first, len: total - front_len, sum: None };
            write_head(head, to.way, template, header, payload);
        };
        let string = |string: &mut [u8]| match bits {
            Bits::Own(mask) => clear_others(string, mask),
            Bits::Given(bits) => Wire(*bits).write(string),
        };
        write::<W>(frame.bytes_mut(), to, template, string, head);
        Ok(self.put(frame, to.way, cx))
    }

    /// The same where there will be more in front of its payload than there is.
    #[inline(never)] // what goes as it came doesn't carry this along
    fn turn_longer<const W: usize>(
        &mut self,
        mut frame: D::Frame,
        payload_at: usize,
        template: &Template,
        to: To<'_>,
        bits: Bits<'_, W>,
        cx: &Context<'_>,
    ) -> Result<u64, D::Frame> {
        let bits = match bits {
            Bits::Own(mask) => OnWire::of(&frame.bytes()[payload_at - W * 8..payload_at]).and(mask),
            Bits::Given(bits) => Wire(*bits),
        };
        let front_len = front_len::<W>(to.way);
        if !frame.prepend(front_len - payload_at) {
            return Err(frame);
        }
        // It goes as it is now.
        self.turn(frame, front_len, template, to, Bits::Given(&bits.0), cx)
    }

    /// Puts a copy into the box of its port, and counts it: how many that makes.
    #[inline(always)] // for each copy
    fn put(&mut self, frame: D::Frame, way: &Way, cx: &Context<'_>) -> u64 {
        let made = self.give(frame, way.port, cx);
        cx.counters.bier.copies[usize::from(way.link) % LINKS_MAX].add(made);
        made
    }

    /// Puts a finished frame into the box of its port, which is emptied when it is full: how many that makes.
    #[inline(always)] // for each copy
    pub(super) fn give(&mut self, frame: D::Frame, port: PortId, cx: &Context<'_>) -> u64 {
        let Some(outbox) = self.outboxes.get_mut(port.index()) else {
            lose(Loss::NoInterface, cx);
            self.driver.free(frame);
            return 0;
        };
        output::put(self.driver, port, outbox, frame, cx);
        1
    }

    /// Gives back the buffers that nobody needed.
    pub(super) fn give_back(&mut self) {
        for outbox in &mut *self.outboxes {
            outbox.fresh.drain(..).for_each(|frame| self.driver.free(frame));
        }
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
#[inline(always)] // one addition
fn front_len<const W: usize>(way: &Way) -> usize {
    usize::from(way.front_len) + FIXED_LEN + W * 8
}

/// Writes all that stands in front of the payload, and gives back what is behind that. `string` writes the bit string; `head` what is
/// in front of the header where that isn't a plain link's, from the header and what is behind it.
#[inline(always)] // lengths are known where it is called
fn write<'b, const W: usize>(
    bytes: &'b mut [u8],
    to: To<'_>,
    template: &Template,
    string: impl FnOnce(&mut [u8]),
    head: impl FnOnce(&mut [u8], &[u8], &[u8]),
) -> &'b mut [u8] {
    let way = to.way;
    let head_len = usize::from(way.front_len);
    let (front, behind) = bytes.split_at_mut(head_len + FIXED_LEN + W * 8);
    let (in_front, header) = front.split_at_mut(head_len);
    let (fixed, bit_string) = header.split_first_chunk_mut().expect("as long as was said");
    template.emit(to.id, way.carriage, fixed);
    string(bit_string);
    match in_front.first_chunk_mut() {
        // Of known length: most links have no tags and are no tunnels.
        Some(plain) if head_len == L3 => *plain = way.plain,
        _ => head(in_front, header, behind),
    }
    behind
}

/// The same in front of the BIER header, with tags, or for a tunnel.
#[inline(never)] // what goes over a plain link doesn't carry this along
fn write_head(head: &mut [u8], way: &Way, template: &Template, header: &[u8], payload: &mut Payload<'_>) {
    let (ethernet, ip) = head.split_at_mut(way.head.len());
    ethernet.copy_from_slice(&way.head);
    let Some(outer) = &way.outer else { return };
    let inner = Inner { entropy: template.entropy(), dscp: template.dscp(), len: header.len() + payload.len };
    // A header has an even number of bytes.
    outer.write(ip, inner, || Some(checksum::sum(header) + payload.sum()?));
}

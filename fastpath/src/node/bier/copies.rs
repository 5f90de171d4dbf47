//! How one packet becomes several frames.

use arrayvec::ArrayVec;
use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{Carriage, Header, LEN_MAX, len, rewrite, set_carriage};
use millrace_bier::id::{BiftKey, Bsl};

use super::{Loss, lose};
use crate::driver::{Driver, Frame};
use crate::node::Context;
use crate::node::output::{self, Outbox};
use crate::packet::{L3, Packet, tag};
use crate::tables::bier::LINKS_MAX;
use crate::tables::interfaces::Mac;
use crate::tables::{Interface, InterfaceId};
use crate::wire::ethernet;

/// Payloads up to this many bytes are copied: cheaper than a second buffer for each copy. Measured with the benchmark
/// `node.bier.copy`.
const COPIED_MAX: usize = 256;

/// A copy: what it carries, and which way it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy<'t> {
    /// What the neighbour calls the table.
    pub(super) id: BiftId,
    /// The link's number, for its counter.
    pub(super) number: usize,
    /// Where it leaves.
    pub(super) egress: &'t Interface,
    /// What the header is carried in there.
    pub(super) carriage: Carriage,
    /// The neighbour's address there.
    pub(super) mac: Mac,
}

/// The copies of one packet. The latest one waits until there is another: the last is the frame itself.
pub(super) struct Copies<'a, 't, D: Driver> {
    driver: &'a mut D,
    outboxes: &'a mut [Outbox<D::Frame>],
    carriage: Carriage,
    header_len: usize,
    ttl: u8,
    entered_by: Option<InterfaceId>,
    waiting: Option<Copy<'t>>,
    /// The bits of the one that waits.
    bits: ArrayVec<u64, { Bsl::B4096.words() }>,
    /// The frame's headers, once it is no more than a payload that copies share.
    head: ArrayVec<u8, { L3 + LEN_MAX }>,
    made: u64,
}

impl<'a, 't, D: Driver> Copies<'a, 't, D> {
    #[inline]
    pub(super) fn new(driver: &'a mut D, outboxes: &'a mut [Outbox<D::Frame>]) -> Self {
        Self {
            driver,
            outboxes,
            carriage: Carriage::NonMpls,
            header_len: 0,
            ttl: 0,
            entered_by: None,
            waiting: None,
            bits: ArrayVec::new(),
            head: ArrayVec::new(),
            made: 0,
        }
    }

    /// What is known of the packet.
    #[inline]
    pub(super) fn begin(&mut self, carriage: Carriage, bsl: Bsl, ttl: u8) {
        (self.carriage, self.header_len, self.ttl) = (carriage, len(bsl), ttl);
    }

    /// The packet is the payload of one that enters here by this interface, with this header. What waits of the set before
    /// goes first.
    pub(super) fn enter(
        &mut self,
        by: InterfaceId,
        frame: &mut D::Frame,
        header: &Header,
        key: BiftKey,
        words: &[u64],
        cx: &Context<'_>,
    ) {
        self.flush(frame, cx);
        self.begin(header.carriage, key.bsl, header.ttl);
        self.entered_by = Some(by);
        self.head.clear();
        let mut bytes = [0; L3 + LEN_MAX];
        // There is room for the longest.
        let written = header.emit(key.bsl, words, &mut bytes[L3..]).unwrap_or(0);
        set(&mut self.head, &bytes[..L3 + written]);
    }

    /// Where it entered BIER, if that was here.
    pub(super) fn entered_by(&self) -> Option<InterfaceId> {
        self.entered_by
    }

    /// Bytes of the packet behind the Ethernet header.
    pub(super) fn packet_len(&self, frame: &D::Frame) -> usize {
        frame.total_len() + self.head.len() - L3
    }

    /// Whether there is any copy.
    pub(super) fn any(&self) -> bool {
        self.made > 0 || self.waiting.is_some()
    }

    /// Copies given to ports so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// One more copy, with these bits.
    #[inline]
    pub(super) fn next(&mut self, frame: &mut D::Frame, copy: Copy<'t>, bits: &[u64], cx: &Context<'_>) {
        self.flush(frame, cx);
        self.waiting = Some(copy);
        self.bits.clear();
        // As many as the longest bit string has.
        let _fits = self.bits.try_extend_from_slice(bits);
    }

    /// Makes the copy that waits.
    #[inline]
    fn flush(&mut self, frame: &mut D::Frame, cx: &Context<'_>) {
        let Some(copy) = self.waiting.take() else { return };
        match self.duplicate(frame, copy.egress) {
            Ok(made) => self.send(made, &copy, cx),
            Err(loss) => lose(loss, cx),
        }
    }

    /// Sends the last copy, which is the frame itself if nobody shares it. Gives back what is left of it.
    #[inline]
    pub(super) fn last(
        &mut self,
        mut packet: Packet<D::Frame>,
        cx: &mut Context<'_>,
    ) -> Option<Packet<D::Frame>> {
        if !self.head.is_empty() {
            self.flush(&mut packet.frame, cx);
            return Some(packet);
        }
        let Some(copy) = self.waiting.take() else { return Some(packet) };
        self.send(packet.frame, &copy, cx);
        cx.metas.put(packet.meta);
        None
    }

    /// The same frame once more: copied, or with a header of its own in front of the shared payload.
    #[inline]
    fn duplicate(&mut self, frame: &mut D::Frame, egress: &Interface) -> Result<D::Frame, Loss> {
        let mut copy = self.allocate(egress)?;
        let head = if self.head.is_empty() { L3 + self.header_len } else { 0 };
        if frame.bytes().len() <= head + COPIED_MAX && frame.segments() == 1 {
            if fill(&mut copy, &self.head) && fill(&mut copy, frame.bytes()) {
                return Ok(copy);
            }
        } else {
            if self.head.is_empty() {
                // There is room for the longest, and the header was found in the frame.
                set(&mut self.head, &frame.bytes()[..head]);
                frame.trim_front(head);
            }
            let filled = fill(&mut copy, &self.head);
            match self.driver.attach(copy, frame) {
                Ok(whole) if filled => return Ok(whole),
                Ok(partial) | Err(partial) => copy = partial,
            }
        }
        self.driver.free(copy);
        Err(Loss::NoBuffer)
    }

    /// Gives a frame its headers and puts it into the box of its port.
    #[inline]
    fn send(&mut self, mut frame: D::Frame, copy: &Copy<'_>, cx: &Context<'_>) {
        let bytes = frame.bytes_mut();
        rewrite(&mut bytes[L3..], copy.id, self.ttl, &self.bits);
        if copy.carriage != self.carriage {
            set_carriage(&mut bytes[L3..], copy.carriage);
        }
        ethernet::set_addresses(bytes, copy.mac, copy.egress.mac);
        ethernet::set_ethertype(bytes, copy.carriage.ethertype());
        cx.counters.bier.copies[copy.number % LINKS_MAX].add(1);
        self.give(frame, copy.egress, cx);
    }

    /// Puts a finished frame into the box of its port, which is emptied when it is full.
    #[inline]
    pub(super) fn give(&mut self, mut frame: D::Frame, egress: &Interface, cx: &Context<'_>) {
        let tagged = egress.vlan.is_none() || tag(&mut frame, egress.tags());
        let loss = match self.outboxes.get_mut(egress.port.index()) {
            Some(outbox) if tagged => {
                if outbox.frames.is_full() {
                    output::transmit(self.driver, egress.port, outbox, cx);
                }
                outbox.frames.push(frame);
                self.made += 1;
                return;
            }
            Some(_) => Loss::NoBuffer,
            None => Loss::NoInterface,
        };
        lose(loss, cx);
        self.driver.free(frame);
    }

    /// What follows the headers of the frame that copies are made of.
    pub(super) fn payload_of<'f>(&self, frame: &'f D::Frame) -> &'f [u8] {
        let from = if self.head.is_empty() { L3 + self.header_len } else { 0 };
        &frame.bytes()[from..]
    }

    /// A buffer for a frame that will leave there.
    #[inline]
    pub(super) fn allocate(&mut self, egress: &Interface) -> Result<D::Frame, Loss> {
        self.driver.allocate(egress.port).ok_or(Loss::NoBuffer)
    }

    pub(super) fn free(&mut self, frame: D::Frame) {
        self.driver.free(frame);
    }
}

/// Where packets of `len` bytes behind the Ethernet header leave, if they may.
#[inline]
pub(super) fn egress<'t>(
    len: usize,
    interface: InterfaceId,
    cx: &Context<'t>,
) -> Result<&'t Interface, Loss> {
    let egress = cx.tables.interfaces.get(interface).ok_or(Loss::NoInterface)?;
    if len > usize::from(egress.mtu) { Err(Loss::TooBig) } else { Ok(egress) }
}

fn set<const N: usize>(to: &mut ArrayVec<u8, N>, bytes: &[u8]) {
    to.clear();
    let _fits = to.try_extend_from_slice(bytes);
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

//! The copies of one packet: decided on first, and made together. Then the last of them can be the frame itself.

use arrayvec::ArrayVec;
use millrace_bier::header::{Template, len};
use millrace_bier::id::Bsl;
use millrace_bier::wire::Wire;

use super::Loss;
use super::press::{Bits, Original, Press, To};
use crate::driver::{BURST_MAX, Driver, Frame, PortId};
use crate::node::Context;
use crate::packet::L3;
use crate::tables::interfaces::InterfaceId;

/// Those of one packet.
pub(super) struct Copies<'a, 't, D: Driver> {
    pub(super) press: Press<'a, D>,
    /// What their headers have in common.
    template: Template,
    bsl: Bsl,
    /// Where the payload begins in the frame.
    payload_at: usize,
    entered_by: Option<InterfaceId>,
    /// Those that were decided on and aren't made yet.
    waiting: ArrayVec<To<'t>, BURST_MAX>,
    /// Their bits, one string after the other.
    bits: ArrayVec<u64, { BURST_MAX * Bsl::B4096.words() }>,
    made: u64,
}

impl<'a, 't, D: Driver> Copies<'a, 't, D> {
    pub(super) fn new(press: Press<'a, D>) -> Self {
        Self {
            press,
            template: Template::default(),
            bsl: Bsl::B64,
            payload_at: 0,
            entered_by: None,
            waiting: ArrayVec::new(),
            bits: ArrayVec::new(),
            made: 0,
        }
    }

    /// The next packet, which has a header itself, with a bit string of this length.
    pub(super) fn begin(&mut self, template: Template, bsl: Bsl) {
        (self.template, self.bsl, self.payload_at) = (template, bsl, L3 + len(bsl));
        (self.entered_by, self.made) = (None, 0);
    }

    /// The next packet, which enters here by this interface and has no header yet.
    pub(super) fn begin_payload(&mut self, by: InterfaceId) {
        (self.payload_at, self.entered_by, self.made) = (L3, Some(by), 0);
    }

    /// It goes on with this header. What waits of the set before goes first.
    pub(super) fn enter(&mut self, frame: &D::Frame, template: Template, bsl: Bsl, cx: &Context<'_>) {
        sized!(self.bsl, W => self.make_all::<W>(frame, cx));
        (self.template, self.bsl) = (template, bsl);
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

    /// One more copy, with these bits.
    pub(super) fn next<const W: usize>(
        &mut self,
        frame: &D::Frame,
        to: To<'t>,
        bits: &Wire<W>,
        cx: &Context<'_>,
    ) {
        if self.waiting.is_full() {
            self.make_all::<W>(frame, cx);
        }
        // There is room for as many of the longest.
        let _fits = self.bits.try_extend_from_slice(&bits.0);
        self.waiting.push(to);
    }

    /// Makes the copies that wait, of which the last is the frame itself. Gives it back if it couldn't be.
    pub(super) fn last<const W: usize>(&mut self, frame: D::Frame, cx: &Context<'_>) -> Option<D::Frame> {
        let Some(to) = self.waiting.pop() else { return Some(frame) };
        let at = self.waiting.len();
        let bits = self.bits.as_chunks::<W>().0[at];
        self.bits.truncate(at * W);
        self.make_all::<W>(&frame, cx);
        match self.press.turn(frame, self.payload_at, &self.template, to, Bits::Given(&bits), cx) {
            Ok(made) => {
                self.made += made;
                None
            }
            Err(frame) => {
                // There is less room in front of it than its header is long, as of what entered here; or there is no such port.
                self.next(&frame, to, &Wire(bits), cx);
                self.make_all::<W>(&frame, cx);
                Some(frame)
            }
        }
    }

    /// Makes all copies that wait.
    fn make_all<const W: usize>(&mut self, frame: &D::Frame, cx: &Context<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let bits = self.bits.as_chunks::<W>().0.iter().map(Bits::Given);
        let copies = self.waiting.iter().copied().zip(bits);
        let original = Original { frame, payload_at: self.payload_at, template: self.template };
        self.made += self.press.make(&original, copies, 1, cx);
        self.waiting.clear();
        self.bits.clear();
    }

    /// Puts a finished frame into the box of its port.
    pub(super) fn give(&mut self, frame: D::Frame, port: PortId, cx: &Context<'_>) {
        self.made += self.press.give(frame, port, cx);
    }

    /// What follows the headers of the frame that copies are made of.
    pub(super) fn payload_of<'f>(&self, frame: &'f D::Frame) -> &'f [u8] {
        &frame.bytes()[self.payload_at..]
    }

    /// A buffer for a frame that will leave there.
    pub(super) fn allocate(&mut self, port: PortId) -> Result<D::Frame, Loss> {
        self.press.empty(port, || 1)
    }

    pub(super) fn free(&mut self, frame: D::Frame) {
        self.press.driver.free(frame);
    }
}

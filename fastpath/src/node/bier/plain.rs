//! Packets of which nothing but copies come, and all of them over links that take them: see [`Plain`]. They are most, and their
//! way is as short as it can be. Whatever is to be found out more about goes by [`replicate`](super::replicate), which does the
//! same with these, and knows what to do with all.

use arrayvec::ArrayVec;
use millrace_bier::bift::{Bift, LinkId};
use millrace_bier::bift_id::BiftId;
use millrace_bier::forward::{NextHop, Plain};
use millrace_bier::header::{FIXED_LEN, Proto, Template};
use millrace_bier::id::SubDomain;
use millrace_bier::plane::AnyBift;
use millrace_bier::wire::OnWire;

use super::press::{Bits, Original, Press, To};
use super::{count, count_receivers, down, over};
use crate::driver::Driver;
use crate::node::Context;
use crate::packet::L3;
use crate::tables::Bier;

/// Copies that such a packet has at most: as many as there are bits in most strings.
const COPIES_MAX: usize = 256;

/// A copy of such a packet.
#[derive(Clone, Copy)]
pub(super) struct Copy<'t, const W: usize> {
    to: To<'t>,
    /// Of its bits, those that the copy carries.
    mask: &'t [u64; W],
}

/// The copies of such a packet.
pub(super) type Copies<'t, const W: usize> = ArrayVec<Copy<'t, W>, COPIES_MAX>;

/// The table of such packets.
pub(super) struct PlainTable<'t, const W: usize> {
    bier: &'t Bier,
    bift: &'t Bift,
    /// Its rows, if there is nothing to choose.
    only: Option<Plain<'t, W>>,
}

impl<'t, const W: usize> PlainTable<'t, W> {
    /// A table as one of those; `None` if its packets are of another kind.
    #[inline(always)] // packets of many tables need one each
    pub(super) fn of(
        bier: &'t Bier,
        sub_domain: SubDomain,
        bift: &'t AnyBift,
        cx: &Context<'t>,
    ) -> Option<Self> {
        let AnyBift::Bier(bift) = bift else { return None };
        // While somebody is down, rows are those of his failure.
        if down(bier, sub_domain, cx).is_some() {
            return None;
        }
        Some(Self { bier, bift, only: bift.only() })
    }

    /// Counts so many packets.
    #[inline(always)] // packets of many tables are counted one by one
    pub(super) fn count(&self, packets: u64, cx: &Context<'_>) {
        count(self.bift, packets, cx);
    }

    /// Counts for whom a packet is, where an operator wants that.
    #[inline(always)] // for each packet
    pub(super) fn count_receivers(&self, bits: OnWire<'_, W>, cx: &Context<'_>) {
        count_receivers(self.bier, self.bift, || bits.read().words(), cx);
    }

    /// Finds the copies of a packet of `len` bytes from its header on, at least one; false if it isn't such a packet.
    #[inline(always)] // for each packet
    pub(super) fn find(
        &self,
        template: &Template,
        ttl: u8,
        bits: OnWire<'_, W>,
        len: usize,
        copies: &mut Copies<'t, W>,
        cx: &Context<'t>,
    ) -> bool {
        // Hosts can't be asked, so for those whose bits end here echo messages are answered by us.
        if template.proto() == Proto::Oam {
            return false;
        }
        let entropy = template.entropy();
        let mut go_by = |rows: &Plain<'t, W>| {
            rows.takes(bits, ttl) && self.collect(rows, entropy, bits, len, copies, cx).is_some()
        };
        match &self.only {
            Some(only) => go_by(only),
            None => self.bift.plain(entropy).is_some_and(|rows| go_by(&rows)),
        }
    }

    /// Collects the copies by these rows; `None` if they can't be made here, or if there is none.
    #[inline(never)] // it has enough numbers to keep in registers
    fn collect(
        &self,
        rows: &Plain<'t, W>,
        entropy: u32,
        bits: OnWire<'_, W>,
        len: usize,
        copies: &mut Copies<'t, W>,
        cx: &Context<'t>,
    ) -> Option<()> {
        copies.clear();
        let mut add = |hop: &NextHop, mask| {
            let (id, link) = match hop.exit {
                Some(exit) => exit,
                None => self.choose(hop, entropy, cx)?,
            };
            let to = over(self.bier, link, id, len, cx).ok()?;
            copies.try_push(Copy { to, mask }).ok()
        };
        if rows.is_sparse(bits) {
            for (hop, mask) in rows.walk(self.bift.table(entropy).rows(), bits.read()) {
                add(hop, mask)?;
            }
        } else {
            for (hop, mask) in rows.copies(bits) {
                add(hop, mask)?;
            }
        }
        (!copies.is_empty()).then_some(())
    }

    /// One of several links to a neighbour.
    #[inline(never)] // most have one
    fn choose(&self, hop: &NextHop, entropy: u32, cx: &Context<'t>) -> Option<(BiftId, LinkId)> {
        let is_up = |link| self.bier.is_up(link, &cx.tables.interfaces, cx.ports_down);
        self.bift.exit(hop.neighbour, entropy, is_up)
    }
}

/// Makes copies of a packet, of which the last is its frame itself: how many, and the frame if it couldn't be. `alike` is the
/// number of packets of this round that are likely to become as many.
#[inline(always)] // for each packet
pub(super) fn make<const W: usize, D: Driver>(
    copies: &[Copy<'_, W>],
    frame: D::Frame,
    template: Template,
    alike: usize,
    press: &mut Press<'_, D>,
    cx: &Context<'_>,
) -> (u64, Option<D::Frame>) {
    let Some((last, others)) = copies.split_last() else { return (0, Some(frame)) };
    let mut made = 0;
    if !others.is_empty() {
        made += make_some(others, &frame, template, alike, press, cx);
    }
    match press.turn(frame, payload_at::<W>(), &template, last.to, Bits::Own(last.mask), cx) {
        Ok(one) => (made + one, None),
        Err(frame) => {
            made += make_some(&[*last], &frame, template, alike, press, cx);
            (made, Some(frame))
        }
    }
}

/// Makes copies in buffers of their own; how many.
#[inline(never)] // the only copy of a packet is the frame itself, and doesn't carry this along
fn make_some<const W: usize, D: Driver>(
    copies: &[Copy<'_, W>],
    frame: &D::Frame,
    template: Template,
    alike: usize,
    press: &mut Press<'_, D>,
    cx: &Context<'_>,
) -> u64 {
    let original = Original { frame, payload_at: payload_at::<W>(), template };
    let each = copies.iter().map(|copy| (copy.to, Bits::Own(copy.mask)));
    press.make(&original, each, alike, cx)
}

/// Where the payload of a packet begins.
const fn payload_at<const W: usize>() -> usize {
    L3 + FIXED_LEN + W * 8
}

//! Packets that came as BIER, from the header to what becomes of them. Those that follow one another with one BIFT-id, as most do,
//! are passed on together: what they have in common is found out once.

use std::vec;

use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{Carriage, Template, View, peek};
use millrace_bier::id::Bsl;
use millrace_bier::wire::Wire;

use super::copies::Copies;
use super::{Done, Drop, Served, Table, end, replicate};
use crate::driver::{Driver, Frame};
use crate::node::{Context, Lanes};
use crate::packet::{BierPacket, L3, Network};

/// Such packets.
pub(super) struct Run<'t> {
    id: BiftId,
    carriage: Carriage,
    /// How long their bit strings are.
    pub(super) bsl: Bsl,
    table: Table<'t>,
}

impl<'t> Run<'t> {
    /// That which begins with this packet.
    #[inline(always)] // packets of many tables need one each
    pub(super) fn of<F: Frame>(first: &BierPacket<F>, cx: &Context<'t>) -> Result<Self, Drop> {
        let id = peek(&first.frame.bytes()[L3..])?;
        let bier = cx.tables.bier.as_ref().ok_or(Drop::UnknownBift)?;
        let (key, bift) = bier.plane.by_id(id).ok_or(Drop::UnknownBift)?;
        let table = Table::new(bier, key.sub_domain, bift, cx);
        Ok(Self { id, carriage: carriage(first), bsl: key.bsl, table })
    }

    /// Whether a packet belongs to it.
    #[inline(always)] // for each packet
    fn has<F: Frame>(&self, packet: &BierPacket<F>) -> bool {
        carriage(packet) == self.carriage && peek(&packet.frame.bytes()[L3..]) == Ok(self.id)
    }

    /// Passes on its packets. One for each length: from the frame to the copies, bit strings are arrays whose length the compiler
    /// knows.
    #[inline(never)] // they have nothing in common, and one alone has room for its numbers in registers
    pub(super) fn pass_on_all<const W: usize, D: Driver>(
        &self,
        rest: &mut vec::Drain<'_, BierPacket<D::Frame>>,
        copies: &mut Copies<'_, 't, D>,
        done: &mut Done,
        cx: &mut Context<'t>,
        lanes: &mut Lanes<D::Frame>,
    ) {
        copies.begin_run(self.bsl);
        while rest.as_slice().first().is_some_and(|packet| self.has(packet))
            && let Some(mut packet) = rest.next()
        {
            let served = self.pass_on::<W, D>(&mut packet, 1 + rest.len(), copies, cx);
            end::<W, D>(served, packet, copies, done, cx, lanes);
        }
    }

    /// A packet that came as BIER, the first of `alike`: decides on its copies, and leaves the last ones to be made.
    #[inline(always)] // for each packet
    fn pass_on<const W: usize, D: Driver>(
        &self,
        packet: &mut BierPacket<D::Frame>,
        alike: usize,
        copies: &mut Copies<'_, 't, D>,
        cx: &mut Context<'t>,
    ) -> Result<Served, Drop> {
        let bsl = const { Bsl::from_bits(64 * W as u32).expect("a length of bit strings") };
        let view = View::parse_fixed(&packet.frame.bytes()[L3..], self.carriage, bsl)?;
        // What begins here has the hop that this router takes still before it.
        let (ttl, copies_ttl) = match packet.network {
            Network::BierOfOurs => (view.ttl().saturating_add(1), view.ttl()),
            _ => (view.ttl(), view.ttl().saturating_sub(1)),
        };
        let bits = Wire::read(view.bit_string());
        copies.begin(Template::of(&view, self.carriage, copies_ttl), &bits, alike);
        replicate::<W, D>(self.table, ttl, &bits, packet, copies, cx)
    }
}

/// What a packet's header is carried in.
#[inline]
fn carriage<F>(packet: &BierPacket<F>) -> Carriage {
    if packet.network == Network::Mpls { Carriage::Mpls } else { Carriage::NonMpls }
}

//! Packets that came as BIER, from the header to what becomes of them. Those that follow one another with one BIFT-id, as most do,
//! are passed on together: what they have in common is found out once.

use std::vec;

use millrace_bier::bift_id::BiftId;
use millrace_bier::header::{Carriage, Template, View, peek};
use millrace_bier::id::{BiftKey, Bsl};
use millrace_bier::plane::AnyBift;
use millrace_bier::wire::OnWire;

use super::copies::Copies;
use super::plain::PlainTable;
use super::{Done, Drop, Served, Table, end, end_original, plain, refuse, replicate};
use crate::driver::{Driver, Frame};
use crate::node::{Context, Lanes, NodeId};
use crate::packet::{BierPacket, L3, Network};
use crate::tables::Bier;

/// Such packets.
#[derive(Clone, Copy)]
pub(super) struct Run<'t> {
    id: BiftId,
    carriage: Carriage,
    /// What their table is for, and how long their bit strings are.
    pub(super) key: BiftKey,
    bier: &'t Bier,
    bift: &'t AnyBift,
}

impl<'t> Run<'t> {
    /// That which begins with this packet.
    #[inline(always)] // packets of many tables need one each
    pub(super) fn of<F: Frame>(first: &BierPacket<F>, cx: &Context<'t>) -> Result<Self, Drop> {
        let id = peek(&first.frame.bytes()[L3..])?;
        let bier = cx.tables.bier.as_ref().ok_or(Drop::UnknownBift)?;
        let (key, bift) = bier.plane.by_id(id).ok_or(Drop::UnknownBift)?;
        Ok(Self { id, carriage: carriage(first), key, bier, bift })
    }

    /// Whether a packet belongs to it.
    #[inline(always)] // for each packet
    fn has<F: Frame>(&self, packet: &BierPacket<F>) -> bool {
        carriage(packet) == self.carriage && peek(&packet.frame.bytes()[L3..]) == Ok(self.id)
    }

    fn table(&self, cx: &Context<'t>) -> Table<'t> {
        Table::new(self.bier, self.key.sub_domain, self.bift, cx)
    }
}

/// Passes on packets as long as their bit strings have this length. One for each: from the frame to the copies, bit strings are
/// arrays whose length the compiler knows.
#[inline(never)] // they have nothing in common, and one alone has room for its numbers in registers
pub(super) fn pass_on_all<'t, const W: usize, D: Driver>(
    rest: &mut vec::Drain<'_, BierPacket<D::Frame>>,
    copies: &mut Copies<'_, 't, D>,
    done: &mut Done,
    cx: &mut Context<'t>,
    lanes: &mut Lanes<D::Frame>,
) {
    let mut found = plain::Copies::new();
    while let Some(first) = rest.as_slice().first()
        && let Ok(run) = Run::of(first, cx)
        && run.key.bsl == bsl_of::<W>()
    {
        let plain = PlainTable::<W>::of(run.bier, run.key.sub_domain, run.bift, cx);
        let mut passed = 0;
        while let Some(packet) = rest.next() {
            let alike = 1 + rest.len();
            passed += pass_on(run, plain.as_ref(), packet, alike, &mut found, copies, done, cx, lanes);
            if !rest.as_slice().first().is_some_and(|next| run.has(next)) {
                break;
            }
        }
        plain.into_iter().for_each(|plain| plain.count(passed, cx));
    }
}

/// Passes on a packet; 1 if it is plain, and isn't counted yet.
#[inline(always)] // for each packet
#[expect(clippy::too_many_arguments, reason = "the body of the loop in `pass_on_all`")]
fn pass_on<'t, const W: usize, D: Driver>(
    run: Run<'t>,
    plain: Option<&PlainTable<'t, W>>,
    packet: BierPacket<D::Frame>,
    alike: usize,
    found: &mut plain::Copies<'t, W>,
    copies: &mut Copies<'_, 't, D>,
    done: &mut Done,
    cx: &mut Context<'t>,
    lanes: &mut Lanes<D::Frame>,
) -> u64 {
    let view = match View::parse_fixed(&packet.frame.bytes()[L3..], run.carriage, bsl_of::<W>()) {
        Ok(view) => view,
        Err(malformed) => {
            refuse(malformed.into(), packet.with_meta(cx.metas), cx, lanes);
            return 0;
        }
    };
    // What begins here has the hop that this router takes still before it.
    let (ttl, copies_ttl) = match packet.network {
        Network::BierOfOurs => (view.ttl().saturating_add(1), view.ttl()),
        _ => (view.ttl(), view.ttl().saturating_sub(1)),
    };
    let template = Template::of(&view, run.carriage, copies_ttl);
    let (bits, len) = (OnWire::of(view.bit_string()), packet.frame.total_len() - L3);
    if let Some(plain) = plain
        && plain.find(&template, ttl, bits, len, found, cx)
    {
        plain.count_receivers(bits, cx);
        cx.trace_frame(NodeId::Bier, "replicated", packet.trace, &packet.frame);
        let BierPacket { frame, interface, network, origin, trace } = packet;
        let (made, left) = plain::make(found, frame, template, alike, &mut copies.press, cx);
        match left {
            None => done.add(origin, made),
            Some(frame) => {
                let packet = BierPacket { frame, interface, network, origin, trace };
                end_original(Ok(Served::Copied), packet, made, done, cx, lanes);
            }
        }
        return 1;
    }
    let bits = bits.read().words();
    pass_on_any::<W, D>(run, packet, template, ttl, &bits, copies, done, cx, lanes);
    0
}

/// Passes on a packet of any kind.
#[inline(never)] // most are plain, and don't carry this along
#[expect(clippy::too_many_arguments, reason = "what `pass_on_all` has found out")]
fn pass_on_any<'t, const W: usize, D: Driver>(
    run: Run<'t>,
    mut packet: BierPacket<D::Frame>,
    template: Template,
    ttl: u8,
    bits: &[u64; W],
    copies: &mut Copies<'_, 't, D>,
    done: &mut Done,
    cx: &mut Context<'t>,
    lanes: &mut Lanes<D::Frame>,
) {
    copies.begin(template, run.key.bsl);
    let served = replicate::<W, D>(run.table(cx), ttl, bits, &mut packet, copies, cx);
    end::<W, D>(served, packet, copies, done, cx, lanes);
}

/// The length of bit strings of so many words.
const fn bsl_of<const W: usize>() -> Bsl {
    const { Bsl::from_bits(64 * W as u32).expect("a length of bit strings") }
}

/// What a packet's header is carried in.
#[inline]
fn carriage<F>(packet: &BierPacket<F>) -> Carriage {
    if packet.network == Network::Mpls { Carriage::Mpls } else { Carriage::NonMpls }
}

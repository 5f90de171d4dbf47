//! Copies by adjacencies (BIER-TE, RFC 9262 §4.4): each of our bits is a copy, and no bit of ours goes out, save with "do not
//! clear". Whoever is down loses its copies: which bits stand in for them is for whoever makes the trees to say.

use millrace_bier::forward::Packet as Decision;
use millrace_bier::te::{Adjacency, TeBift, TeCopy};
use millrace_bier::wire::Wire;

use super::copies::Copies;
use super::press::To;
use super::{Found, Loss, lose, over};
use crate::driver::Driver;
use crate::node::Context;
use crate::tables::bier::Bier;

/// Makes the copies of a packet that its bits ask for here.
#[inline(never)] // what goes by routers doesn't carry this along
pub(super) fn copy<'t, const W: usize, D: Driver>(
    bier: &'t Bier,
    bift: &TeBift,
    decision: Decision<'_>,
    frame: &D::Frame,
    copies: &mut Copies<'_, 't, D>,
    cx: &Context<'t>,
) -> Found {
    let (mut local, mut others) = (false, false);
    let len = copies.packet_len(frame);
    let outcome = bift.forward(decision, |TeCopy { adjacency, bits }| match adjacency {
        // Several bits may say so; the listeners are the same.
        Adjacency::LocalDecap { .. } => local = true,
        Adjacency::ForwardConnected { neighbour, .. } | Adjacency::ForwardRouted { neighbour, .. } => {
            others = true;
            match way(bier, neighbour, len, cx) {
                // As many as the table has.
                Ok(to) => bits
                    .first_chunk()
                    .into_iter()
                    .for_each(|bits| copies.next::<W>(frame, to, &Wire::of(bits), cx)),
                Err(loss) => lose(loss, cx),
            }
        }
    });
    Found { local, others, outcome }
}

/// Whether a packet is delivered here, however many hops it has left.
pub(super) fn is_delivered(bift: &TeBift, words: &[u64], entropy: u32) -> bool {
    let mut local = false;
    let decision = Decision { bits: words, ttl: u8::MAX, entropy };
    let _forwarded = bift.forward(decision, |TeCopy { adjacency, .. }| {
        local |= matches!(adjacency, Adjacency::LocalDecap { .. });
    });
    local
}

/// How a copy gets to the router at a place.
#[inline]
fn way<'t>(bier: &'t Bier, hop: u32, len: usize, cx: &Context<'t>) -> Result<To<'t>, Loss> {
    let hop = bier.hops.get(hop as usize).ok_or(Loss::NoWay)?;
    over(bier, hop.link, hop.id, len, cx)
}

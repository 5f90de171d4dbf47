//! The trigger `flow`: what a packet to a service's address says by its Ethernet and IP headers alone.
//!
//! ```text
//!   to an address with this trigger ─┬─ cold ─► wake, once for all who come meanwhile
//!                                    ├─ cold, after wakes that led to nothing ─► wake, if its triple was seen before
//!                                    └─ an instance serves, new triple ─► told, as often as that may be
//! ```
//!
//! Later fragments say what their first says: alone they wake, but they make no triple known, and repeat none.
//!
//! Nothing behind the IP header is looked at: a datagram, a fragment, a protocol that nobody knows and a frame that ends
//! too soon give the notification that a whole packet with their headers gives. It is looked at where it came in, before
//! anything else is decided of it; then it goes on by its ports, if it has some, as any packet.

use super::Context;
use super::classify::check_source;
use crate::driver::RxChecksum;
use crate::event::Trigger;
use crate::packet::{Fragment, Meta};
use crate::slots::Phase;
use crate::tables::services::{ServiceId, Verify};
use crate::triples::Sighting;
use crate::wake::proof;

/// Looks at a packet to an address of `service`.
#[inline(never)]
pub(super) fn look(service: ServiceId, meta: &Meta, bytes: &[u8], cx: &mut Context<'_>) {
    let Some(entry) = cx.tables.services.get(service) else { return };
    let sighting = match meta.fragment {
        Fragment::Later => None,
        _ => {
            let hash = cx.hasher.hash_triple(meta.source, meta.destination, meta.protocol);
            Some(cx.triples.see(hash, cx.now, &cx.counters.fates.triples_evicted))
        }
    };
    let is_new = sighting == Some(Sighting::New);
    if is_new {
        cx.counters.service(service).arrivals.add(1);
    }
    let slot = cx.slots.get(service);
    match slot.load().0 {
        Phase::Cold => {
            let proven = match proof(entry, slot) {
                Verify::None => true,
                Verify::SecondSyn => sighting == Some(Sighting::Again),
                // Who has to answer a cookie does so by its ports.
                Verify::Cookie => false,
            };
            if proven {
                cx.waker.wake(service, Trigger::Flow, meta.fields(bytes), cx.now);
            }
        }
        Phase::Ready | Phase::Draining if is_new => {
            cx.waker.arrived(service, Trigger::Flow, || meta.fields(bytes), cx.now);
        }
        Phase::Ready | Phase::Draining | Phase::Waking | Phase::Quarantined | Phase::Bypass | Phase::Down => {
        }
    }
}

/// Looks at a frame that is refused for what is wrong with it, or missing, behind its IP header.
#[cold]
#[inline(never)]
pub(super) fn look_at_refused(known: &Meta, bytes: &[u8], checksum: RxChecksum, cx: &mut Context<'_>) {
    let Some(read) = Meta::read_network(bytes, checksum) else { return };
    let meta = Meta { interface: known.interface, ..read };
    if check_source(&meta, cx.tables).is_err() {
        return;
    }
    if let Some(service) = cx.tables.interfaces.local(meta.destination).and_then(|local| local.flow) {
        look(service, &meta, bytes, cx);
    }
}

//! Packets that find their flow by something else than their own ports: ICMP errors by the packet they quote, later
//! fragments by the first. They come after the packets of their vector that may have begun the flow.

use super::{Context, Lanes, NodeId, fragment, opening, park, quote, service};
use crate::driver::Frame;
use crate::flow::FlowTable;
use crate::packet::{Kind, Packet};

/// Handles the packets of the lane, at the worker that owns their flows.
#[cold]
#[inline(never)]
pub fn process<F: Frame>(
    flows: &mut FlowTable,
    scratch: &mut Vec<Packet<F>>,
    cx: &mut Context<'_>,
    lanes: &mut Lanes<F>,
) {
    std::mem::swap(scratch, &mut lanes.aside);
    for mut packet in scratch.drain(..) {
        let is_ours = cx.tables.interfaces.local(packet.meta.destination).is_some();
        let is_quote = packet.meta.kind == Kind::Quote;
        let translated = match is_quote {
            true => quote::translate(&mut packet, flows, cx),
            false => match fragment::follow(&mut packet, flows, cx) {
                Ok(followed) => followed,
                Err(refusal) => {
                    service::finish(opening::not_carried(refusal), packet, cx, lanes);
                    continue;
                }
            },
        };
        match (translated, is_ours, is_quote) {
            (true, ..) => {
                cx.trace(NodeId::Service, "translated, to transit", &packet);
                lanes.transit.push(packet);
            }
            // Whoever it is for, no flow of ours has to do with it.
            (false, false, _) => {
                cx.trace(NodeId::Service, "no flow, to transit", &packet);
                lanes.transit.push(packet);
            }
            (false, true, true) => {
                cx.trace(NodeId::Service, "no flow, to host", &packet);
                lanes.host.push(packet);
            }
            (false, true, false) => {
                let next = park::later_fragment(&packet, cx);
                service::finish(next, packet, cx, lanes);
            }
        }
    }
}

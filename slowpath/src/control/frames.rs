//! Frames between the workers, the neighbours and the host stack.

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::queue::Punt;
use millrace_orchestrator_api::Link;
use tracing::{debug, warn};

use super::Control;
use super::parcels::Kept;
use crate::host::HostContext;
use crate::membership::{self, is_membership};
use crate::neighbour::{Output, is_discovery};

impl<L: Link> Control<L> {
    pub(super) fn receive_punts(&mut self, now: Nanos) -> bool {
        let mut busy = false;
        for worker in 0..self.shared.workers.len() {
            for _ in 0..PUNTS_PER_TURN_MAX {
                let Some(kept) = self.parcels.receive(worker) else { break };
                busy = true;
                self.counters.punts += 1;
                self.punt(kept, now);
            }
        }
        busy
    }

    fn punt(&mut self, kept: Kept, now: Nanos) {
        let interface = kept.parcel.interface;
        if kept.parcel.punt == Punt::NeighbourUnknown {
            let next_hop = kept.parcel.next_hop;
            return self.neighbours.resolve(now, interface, next_hop, kept, &mut self.outputs);
        }
        let frame = kept.parcel.bytes();
        let is_neighbour = match frame.get(12..14) {
            Some([0x08, 0x06]) => true,
            Some([0x86, 0xdd]) => is_discovery(&frame[14..]),
            _ => false,
        };
        let is_membership = !is_neighbour && is_membership(frame);
        let bucket = match (is_neighbour, is_membership) {
            (true, _) => &mut self.neighbour_bucket,
            (_, true) => &mut self.membership_bucket,
            _ => &mut self.host_bucket,
        };
        if !bucket.take(now) {
            self.counters.punts_limited += 1;
        } else if is_neighbour {
            self.neighbours.receive(now, interface, frame, &mut self.outputs);
        } else if is_membership {
            self.memberships.receive(now, interface, frame, &mut self.membership_outputs);
        } else {
            self.host.receive(now, interface, frame);
        }
        self.parcels.give_back(kept);
    }

    pub(super) fn run_host(&mut self, now: Nanos) -> bool {
        if self.host.next_due().is_none_or(|due| due > now) {
            return false;
        }
        let mut context = HostContext {
            tables: self.builder.tables(),
            slots: &self.shared.slots,
            frames: &mut self.host_frames,
            events: &mut self.host_events,
        };
        self.host.poll(now, &mut context);
        for event in std::mem::take(&mut self.host_events) {
            // The host stack's own limit isn't by wakes; a wake that was called off needs no more here.
            let _ = self.event(event, now);
        }
        let frames = std::mem::take(&mut self.host_frames);
        for (interface, frame) in &frames {
            self.parcels.send(*interface, frame);
        }
        true
    }

    /// Has hosts asked what they listen to, where the configuration says so.
    pub(super) fn ask_listeners(&mut self, now: Nanos) {
        let (tables, queriers) = (self.builder.tables(), self.builder.queriers());
        self.memberships.reload(now, &tables.interfaces, queriers, &mut self.membership_outputs);
    }

    /// Does what neighbours and listeners asked for.
    pub(super) fn carry_out(&mut self) {
        for output in std::mem::take(&mut self.membership_outputs) {
            match output {
                membership::Output::Send(interface, frame) => self.parcels.send(interface, &frame),
                membership::Output::Changed(interface, group, filter) => {
                    debug!(interface = interface.0, %group, ?filter, "listeners changed");
                    self.builder.set_listeners(interface, group, filter);
                }
            }
        }
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send(interface, frame) => self.parcels.send(interface, &frame),
                Output::Set(interface, addr, mac) => {
                    debug!(interface = interface.0, %addr, "neighbour found");
                    self.builder.set_neighbour(interface, addr, mac);
                }
                Output::Remove(interface, addr) => {
                    debug!(interface = interface.0, %addr, "neighbour gone");
                    self.builder.remove_neighbour(interface, addr);
                }
                Output::Release(interface, mac, kept) => {
                    match self.builder.tables().interfaces.get(interface) {
                        Some(ours) => self.parcels.forward(interface, ours.mac, mac, kept),
                        None => self.parcels.give_back(kept),
                    }
                }
                Output::Discard(kept) => self.parcels.give_back(kept),
                Output::Conflict(interface, addr, mac) => {
                    let interface = self.builder.tables().interfaces.get(interface);
                    let interface = interface.map_or("", |interface| interface.name.as_str());
                    warn!(interface, %addr, station = %Hex(mac), "another station uses an address of ours");
                }
            }
        }
    }
}

struct Hex([u8; 6]);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Frames taken from a worker in one turn: handling them takes some tens of microseconds.
const PUNTS_PER_TURN_MAX: usize = 32;

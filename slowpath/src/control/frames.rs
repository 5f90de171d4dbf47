//! Frames between the workers, the neighbours and the host stack.

use millrace_fastpath::clock::Nanos;
use millrace_fastpath::queue::{Injected, Punt};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_orchestrator_api::Link;
use tracing::{debug, warn};

use super::parcels::Kept;
use super::{Control, Settings};
use crate::builder::TableBuilder;
use crate::host::HostContext;
use crate::membership::{self, Signal, is_membership};
use crate::neighbour::{Output, is_discovery};
use crate::oam::{AskError, Asked, OamContext, Outgoing, Question, Shown, is_echo};

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
        match kept.parcel.punt {
            // Workers limit these.
            Punt::BierOam => {
                let outgoing = self.oam.receive(
                    interface,
                    frame,
                    oam_context(&self.builder, &self.shared, &self.settings, now),
                );
                self.parcels.give_back(kept);
                outgoing.into_iter().for_each(|one| self.send_oam(one, now));
                return;
            }
            Punt::BierMembership => {
                let shown = Shown::read(interface, frame, self.builder.tables());
                self.signals.receive(now, shown, self.builder.tables(), &mut self.signal_outputs);
                return self.parcels.give_back(kept);
            }
            Punt::BierExpired => {
                self.oam.receive_expired(
                    interface,
                    frame,
                    oam_context(&self.builder, &self.shared, &self.settings, now),
                );
                return self.parcels.give_back(kept);
            }
            Punt::Host | Punt::NeighbourUnknown => {}
        }
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
            let asks_us = self.joins.receive(now, interface, frame);
            if !asks_us || self.memberships.asks_on(interface) {
                self.memberships.receive(now, interface, frame, &mut self.membership_outputs);
            }
        } else if is_echo(frame) {
            self.oam.receive_udp(frame, now);
        } else {
            self.host.receive(now, interface, frame);
        }
        self.parcels.give_back(kept);
    }

    /// Asks an operator's question.
    pub(super) fn ask_echo(&mut self, question: Question, now: Nanos) -> Result<Asked, AskError> {
        let (asked, packets) =
            self.oam.ask(question, oam_context(&self.builder, &self.shared, &self.settings, now))?;
        packets.into_iter().for_each(|one| self.send_oam(one, now));
        self.carry_out(now);
        self.oam_waits = true;
        Ok(asked)
    }

    fn send_oam(&mut self, outgoing: Outgoing, now: Nanos) {
        match outgoing {
            Outgoing::Bier(frame) => self.parcels.inject(Injected::Bier, InterfaceId::default(), &frame),
            Outgoing::Ip(to, frame) => {
                // As if a worker had it to send and didn't know the neighbour: it may have to be looked for.
                let hop = self.builder.next_hop(to);
                match hop.and_then(|hop| Some((hop, self.parcels.fill(&frame)?))) {
                    Some(((interface, next), kept)) => {
                        self.neighbours.resolve(now, interface, next, kept, &mut self.outputs);
                    }
                    None => self.parcels.refused += 1,
                }
            }
        }
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

    /// Has hosts asked what they listen to, and routers told, where the configuration says so.
    pub(super) fn ask_listeners(&mut self, now: Nanos) {
        let (tables, queriers) = (self.builder.tables(), self.builder.queriers());
        self.memberships.reload(now, &tables.interfaces, queriers, &mut self.membership_outputs);
        self.signals.reload(now, self.builder.signalling(), tables, &mut self.signal_outputs);
        self.joins.reload(now, &tables.interfaces, &self.builder.joins());
    }

    /// Does what neighbours and listeners asked for.
    pub(super) fn carry_out(&mut self, now: Nanos) {
        for output in std::mem::take(&mut self.membership_outputs) {
            match output {
                membership::Output::Send(interface, frame) => {
                    // Where we ask ourselves, switches hear our answer, too.
                    self.joins.receive(now, interface, &frame);
                    self.parcels.send(interface, &frame);
                }
                membership::Output::Changed(interface, group, filter) => {
                    debug!(interface = interface.0, %group, ?filter, "listeners changed");
                    self.builder.set_listeners(interface, group, filter);
                    let bier = self.builder.tables().bier.as_ref();
                    let listeners = bier.map_or(&[][..], |bier| bier.listeners.get(group));
                    self.signals.set_listeners(group, listeners);
                }
            }
        }
        for output in std::mem::take(&mut self.signal_outputs) {
            match output {
                Signal::Send(frame) => self.parcels.inject(Injected::Bier, InterfaceId::default(), &frame),
                Signal::Receivers(flow, receivers) => {
                    debug!(source = %flow.source, group = %flow.group, ?receivers, "receivers changed");
                    self.builder.set_receivers(flow, receivers);
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

fn oam_context<'a>(
    builder: &'a TableBuilder,
    shared: &Shared,
    settings: &Settings,
    now: Nanos,
) -> OamContext<'a> {
    let unix_nanos = settings.unix_offset_nanos.wrapping_add(now.0);
    let (tables, names, ports_down) = (builder.tables(), builder.bier_names(), shared.ports_down());
    OamContext { tables, ports_down, names, now, unix_nanos }
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

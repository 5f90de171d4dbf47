//! What the appliance itself answers: ICMP echo for all our addresses, and DNS over TCP. And the connections that it opens
//! itself, to ask whether somebody else answers.
//!
//! The control loop knows [`HostStack`] alone, so that a tap device to the kernel can take the place of [`SmolStack`].
//! Frames are untagged Ethernet frames; ARP and neighbour discovery aren't its business.

mod dial;
mod dns;
mod peers;
mod stack;

use millrace_config::model::Config;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::event::Event;
use millrace_fastpath::slots::Slots;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::InterfaceId;

pub use dial::{DIALS_MAX, Dial, DialId, Dialled, HEARD_MAX};
pub use dns::{CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX, WAITING_MAX};
pub use stack::SmolStack;

/// What a stack sees and does when it runs.
pub struct HostContext<'a> {
    /// The tables as they are to be next.
    pub tables: &'a Tables,
    /// Phases and wakes of the services.
    pub slots: &'a Slots,
    /// Frames to send.
    pub frames: &'a mut Vec<(InterfaceId, Vec<u8>)>,
    /// First packets and milestones, handled as those of a worker.
    pub events: &'a mut Vec<Event>,
}

/// What a stack counted, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Frames taken in.
    pub received: u64,
    /// Frames that nobody here answers.
    pub unwanted: u64,
    /// Frames dropped because too many waited.
    pub overflowed: u64,
    /// Packets whose way back isn't known.
    pub unreachable: u64,
    /// Frames sent.
    pub sent: u64,
    /// TCP/53 connections established.
    pub tcp_connections: u64,
    /// TCP/53 connections ended by us: too many of one source, idle, or nonsense.
    pub tcp_aborted: u64,
    /// Queries answered over TCP.
    pub tcp_queries: u64,
    /// Connections that we opened, or tried to.
    pub dials: u64,
}

/// A stack for the packets that are for the appliance itself.
pub trait HostStack: Send {
    /// Takes a frame that came in by an interface.
    fn receive(&mut self, now: Nanos, interface: InterfaceId, frame: &[u8]);
    /// Runs what is due.
    fn poll(&mut self, now: Nanos, context: &mut HostContext<'_>);
    /// Opens a TCP connection to somebody else; `None` when as many as there may be are open.
    fn dial(&mut self, now: Nanos, dial: &Dial<'_>) -> Option<DialId>;
    /// How far it is.
    fn dialled(&self, id: DialId) -> Dialled<'_>;
    /// Ends it, at whatever point. Each that was opened must be ended, and isn't asked for afterwards.
    fn hang_up(&mut self, now: Nanos, id: DialId);
    /// When [`HostStack::poll`] has something to do next.
    fn next_due(&self) -> Option<Nanos>;
    /// What was counted so far.
    fn counters(&self) -> HostCounters;
    /// The addresses and sizes of this configuration from now on. Connections go on.
    fn reload(&mut self, config: &Config);
}

#[cfg(test)]
mod tests;

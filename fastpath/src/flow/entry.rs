//! One flow: whose it is, where its packets go, and how far it is. One cache line.

use crate::addr::Addr;
use crate::clock::Nanos;
use crate::tables::services::{Forwarding, INSTANCES_MAX, InstanceSlotId, ServiceId};
use crate::wire::{TCP, UDP, tcp};

/// Seconds without a packet after which a flow is forgotten: a SYN that was never answered,
pub const NEW_SECONDS: u16 = 10;
/// one that was answered, and the answer not yet acknowledged (an instance repeats it within this, and each time counts),
pub const ANSWERED_SECONDS: u16 = 30;
/// an established TCP connection (idle ones are kept alive by their ends within this, or they are gone),
pub const ESTABLISHED_SECONDS: u16 = 3600;
/// one of which only the client's side comes by (the instance's end of it isn't seen; IPVS gives as much),
pub const ONE_WAY_SECONDS: u16 = 900;
/// one that one side has closed (RFC 5382 §5 asks for four minutes in such a state),
pub const HALF_CLOSED_SECONDS: u16 = 240;
/// one that was closed (RFC 9293 asks two segment lifetimes of the ends; the middle has only to see the last ACK),
pub const CLOSING_SECONDS: u16 = 10;
/// a UDP conversation (RFC 4787 §4.3 asks for two minutes at least),
pub const UDP_SECONDS: u16 = 120;
/// and datagrams that nobody has answered, by which nothing is lost: forged ones leave sooner (Linux gives as much).
pub const UDP_UNANSWERED_SECONDS: u16 = 30;

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum FlowState {
    /// Only the client has been heard, opening a connection or sending a datagram.
    #[default]
    New,
    /// Only the client has been heard, in the middle of a connection that isn't known.
    Joined,
    /// The instance has answered, and the client not yet: anybody may have sent the first packet in its name.
    Answered,
    /// The client has spoken after it was answered.
    Established,
    /// The client has sent its FIN; the instance may go on (RFC 9293 §3.6).
    ClientDone,
    /// The instance has sent its FIN; the client may go on.
    InstanceDone,
    /// Both have sent their FIN, or one a RST.
    Closing,
}

impl FlowState {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            FlowState::New => "new",
            FlowState::Joined => "joined",
            FlowState::Answered => "answered",
            FlowState::Established => "established",
            FlowState::ClientDone | FlowState::InstanceDone => "half-closed",
            FlowState::Closing => "closing",
        }
    }
}

/// A flow; one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Flow {
    /// The client's address.
    pub client: Addr,
    /// The service's address.
    pub vip: Addr,
    /// The instance's address.
    pub instance: Addr,
    /// The client's port.
    pub client_port: u16,
    /// The service's port.
    pub vip_port: u16,
    /// The instance's port.
    pub instance_port: u16,
    /// The appliance's port towards the instance; 0 where the client's address is kept.
    pub nat_port: u16,
    /// The service.
    pub service: ServiceId,
    last_seconds: u16,
    /// The instance's slot, for counting, and below it [`PROTOCOL`], [`STATE`], [`FORWARDING`] and [`SPLICED`], above it
    /// [`SENT`] and [`TOLD`].
    packed: u32,
}

/// Of `Flow::packed`: which protocol, 0 for a place without a flow.
const PROTOCOL: u32 = 0b11;
/// Of `Flow::packed`: [`FlowState`].
const STATE: u32 = 0b111 << STATE_AT;
const STATE_AT: u32 = 2;
/// Of `Flow::packed`: [`Forwarding`].
const FORWARDING: u32 = 0b11 << FORWARDING_AT;
const FORWARDING_AT: u32 = 5;
/// Of `Flow::packed`: its packets need more than other addresses.
const SPLICED: u32 = 1 << 7;
/// Where the slot begins.
const SLOT_AT: u32 = 8;
/// Of `Flow::packed`: a SYN of it has left for the instance.
const SENT: u32 = 1 << 30;
/// Of `Flow::packed`: somebody on the way has said that the instance can't be reached.
const TOLD: u32 = 1 << 31;

const _: () = assert!(size_of::<Flow>() == 64);
const _: () = assert!(INSTANCES_MAX <= (SENT >> SLOT_AT) as usize, "a slot fits beside the rest");

/// A transport protocol in two bits; services have no others.
#[inline(always)]
fn code(protocol: u8) -> u32 {
    match protocol {
        TCP => 1,
        UDP => 2,
        _ => 3,
    }
}

/// What is known for a flow, in the order in which flows make room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing: anybody may have sent its packets in another's name. Or it is over.
    Unproven,
    /// Its client has gone on, but whether it was answered isn't seen here; or it has no handshake that would show who it is.
    /// Without its entry the packets of the former go by the hash alone, to the same instance as long as the instances are
    /// the same.
    OneWay,
    /// Its client has shown to be where its packets say it is.
    Proven,
}

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to instance.
    Forward,
    /// Instance to client.
    Return,
}

/// What a new flow is made of.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Transport protocol.
    pub protocol: u8,
    /// Client address and port.
    pub client: (Addr, u16),
    /// Service address and port.
    pub vip: (Addr, u16),
    /// Instance address and port.
    pub instance: (Addr, u16),
    /// Appliance address and port, and their hash, where the source is translated.
    pub nat: Option<(Addr, u16, u64)>,
    /// The service.
    pub service: ServiceId,
    /// The instance's slot.
    pub instance_slot: InstanceSlotId,
    /// How packets get to it.
    pub forwarding: Forwarding,
    /// [`FlowState::New`], or [`FlowState::Joined`].
    pub state: FlowState,
}

impl Flow {
    /// A place without a flow.
    pub(super) const NONE: Flow = Flow {
        client: Addr(0),
        vip: Addr(0),
        instance: Addr(0),
        client_port: 0,
        vip_port: 0,
        instance_port: 0,
        nat_port: 0,
        service: ServiceId(0),
        last_seconds: 0,
        packed: 0,
    };

    pub(super) fn new(opening: &Opening, now: Nanos) -> Self {
        Flow {
            client: opening.client.0,
            vip: opening.vip.0,
            instance: opening.instance.0,
            client_port: opening.client.1,
            vip_port: opening.vip.1,
            instance_port: opening.instance.1,
            nat_port: opening.nat.map_or(0, |(_, port, _)| port),
            service: opening.service,
            last_seconds: seconds(now),
            packed: code(opening.protocol)
                | (opening.state as u32) << STATE_AT
                | (opening.forwarding as u32) << FORWARDING_AT
                | opening.instance_slot.0 << SLOT_AT,
        }
    }

    /// Notes that a packet of it went by; whether that made it established.
    #[inline(always)]
    pub fn touch(&mut self, direction: Direction, tcp_flags: u8, now: Nanos) -> bool {
        self.seen(now);
        if self.is_of(TCP) && tcp_flags & (tcp::FIN | tcp::RST) != 0 {
            // Without an acknowledgement it may be anybody's, as below.
            if self.state() != FlowState::Answered
                || direction == Direction::Return
                || tcp_flags & (tcp::RST | tcp::ACK) != 0
            {
                self.end(direction, tcp_flags & tcp::RST != 0);
            }
            return false;
        }
        self.is_opening() && self.proceed(direction, tcp_flags)
    }

    /// The same for a flow whose instance answers past us: the client's packets alone tell how far it is.
    pub fn touch_one_way(&mut self, tcp_flags: u8, now: Nanos) -> bool {
        self.seen(now);
        if !self.is_of(TCP) {
            return false;
        }
        if tcp_flags & (tcp::FIN | tcp::RST) != 0 {
            self.end(Direction::Forward, tcp_flags & tcp::RST != 0);
        } else if self.state() == FlowState::New && tcp_flags & tcp::SYN == 0 {
            // The client has something to acknowledge, or to send.
            self.set_state(FlowState::Established);
            return true;
        }
        false
    }

    /// Marks it as spliced: its packets need more than other addresses. The SYN that opens it towards the instance is still
    /// to come, whatever the client has said already.
    pub fn set_spliced(&mut self) {
        self.set_state(FlowState::New);
        self.packed |= SPLICED;
    }

    /// Whether one of its sides has still to show that it is there.
    #[inline(always)]
    pub fn is_opening(&self) -> bool {
        self.packed & STATE < (FlowState::Established as u32) << STATE_AT
    }

    /// Whether the instance has still to answer its SYN, and the answer comes by here.
    pub fn is_shaking_hands(&self) -> bool {
        self.has_handshake() && self.packed & (SENT | TOLD) == SENT
    }

    /// Whether its SYN, whose answer comes by here, has still to leave for the instance.
    pub fn is_unsent(&self) -> bool {
        self.has_handshake() && self.packed & SENT == 0
    }

    fn has_handshake(&self) -> bool {
        self.is_of(TCP) && self.state() == FlowState::New && self.forwarding().is_two_way()
    }

    /// Notes that a SYN of it has left for the instance.
    pub fn set_sent(&mut self) {
        self.packed |= SENT;
    }

    /// Notes that the instance was said to be out of reach.
    pub fn set_told(&mut self) {
        self.packed |= TOLD;
    }

    /// Whether it was.
    pub fn is_told(&self) -> bool {
        self.packed & TOLD != 0
    }

    /// Whether a SYN on it begins a new connection rather than repeating the old one's.
    pub fn is_closing(&self) -> bool {
        !matches!(self.state(), FlowState::New | FlowState::Answered | FlowState::Established)
    }

    /// What it takes to drive it out where there is no room for a new flow.
    pub fn standing(&self, now: Nanos) -> Standing {
        let state = self.state();
        if state == FlowState::Closing || self.has_expired(now) {
            return Standing::Unproven;
        }
        match state {
            // A spliced one's client has given back a cookie before there was a flow.
            _ if self.is_spliced() => Standing::Proven,
            FlowState::New | FlowState::Joined | FlowState::Answered => Standing::Unproven,
            _ if !self.forwarding().is_two_way() => Standing::OneWay,
            // Two datagrams are as easily forged as one: connections come before them.
            _ if !self.is_of(TCP) => Standing::OneWay,
            _ => Standing::Proven,
        }
    }

    /// Whether its transport protocol is this one.
    #[inline(always)]
    pub(super) fn is_of(&self, protocol: u8) -> bool {
        self.packed & PROTOCOL == code(protocol)
    }

    /// Transport protocol number.
    #[inline]
    pub fn protocol(&self) -> u8 {
        if self.is_of(TCP) { TCP } else { UDP }
    }

    /// Whether it is [spliced](crate::splice).
    #[inline]
    pub fn is_spliced(&self) -> bool {
        self.packed & SPLICED != 0
    }

    /// How far it is.
    pub fn state(&self) -> FlowState {
        const STATES: [FlowState; 7] = [
            FlowState::New,
            FlowState::Joined,
            FlowState::Answered,
            FlowState::Established,
            FlowState::ClientDone,
            FlowState::InstanceDone,
            FlowState::Closing,
        ];
        STATES.get(((self.packed & STATE) >> STATE_AT) as usize).copied().unwrap_or_default()
    }

    /// How its packets get to the instance.
    #[inline]
    pub fn forwarding(&self) -> Forwarding {
        match (self.packed & FORWARDING) >> FORWARDING_AT {
            0 => Forwarding::Nat,
            1 => Forwarding::L2,
            2 => Forwarding::Ipip,
            _ => Forwarding::Gue,
        }
    }

    /// The instance's slot, for counting.
    pub fn instance_slot(&self) -> InstanceSlotId {
        InstanceSlotId((self.packed & !(SENT | TOLD)) >> SLOT_AT)
    }

    /// Seconds since its last packet.
    pub fn idle_seconds(&self, now: Nanos) -> u32 {
        u32::from(self.age(now))
    }

    /// Whether there is a flow at this place.
    pub(super) fn is_some(&self) -> bool {
        self.packed & PROTOCOL != 0
    }

    fn set_state(&mut self, state: FlowState) {
        self.packed = self.packed & !STATE | (state as u32) << STATE_AT;
    }

    #[inline(always)]
    pub(crate) fn seen(&mut self, now: Nanos) {
        let now = seconds(now);
        if self.last_seconds != now {
            // Once a second and not with each packet: a line that isn't written needn't be written back to memory.
            self.last_seconds = now;
        }
    }

    /// A packet went by before both sides were known to be there; whether they are now.
    #[inline]
    fn proceed(&mut self, direction: Direction, tcp_flags: u8) -> bool {
        let next = match (self.state(), direction) {
            (FlowState::New, Direction::Return) => FlowState::Answered,
            // To what it doesn't know an instance answers with a RST, so it knows this client.
            (FlowState::Joined, Direction::Return) => FlowState::Established,
            // What acknowledges nothing is dropped by an instance without a word, so it shows nothing.
            (FlowState::Answered, Direction::Forward)
                if !self.is_of(TCP) || tcp_flags & (tcp::SYN | tcp::ACK) == tcp::ACK =>
            {
                FlowState::Established
            }
            _ => return false,
        };
        self.set_state(next);
        next == FlowState::Established
    }

    /// A FIN or a RST went by.
    fn end(&mut self, direction: Direction, reset: bool) {
        self.set_state(match (self.state(), direction) {
            _ if reset => FlowState::Closing,
            // Nobody has answered it yet: its FIN shows no more than its SYN did.
            (state @ (FlowState::New | FlowState::Joined), Direction::Forward) => state,
            (FlowState::Closing, _)
            | (FlowState::InstanceDone, Direction::Forward)
            | (FlowState::ClientDone, Direction::Return) => FlowState::Closing,
            (_, Direction::Forward) => FlowState::ClientDone,
            (_, Direction::Return) => FlowState::InstanceDone,
        });
    }

    pub(super) fn age(&self, now: Nanos) -> u16 {
        seconds(now).wrapping_sub(self.last_seconds)
    }

    /// Whether it has been silent for as long as its state allows.
    pub(super) fn has_expired(&self, now: Nanos) -> bool {
        let allowed = match (self.protocol(), self.state()) {
            (TCP, FlowState::New | FlowState::Joined) => NEW_SECONDS,
            (TCP, FlowState::Answered) => ANSWERED_SECONDS,
            (TCP, FlowState::Established) if !self.forwarding().is_two_way() => ONE_WAY_SECONDS,
            (TCP, FlowState::Established) => ESTABLISHED_SECONDS,
            (TCP, FlowState::ClientDone | FlowState::InstanceDone) => HALF_CLOSED_SECONDS,
            (TCP, FlowState::Closing) => CLOSING_SECONDS,
            (UDP, FlowState::New) if self.forwarding().is_two_way() => UDP_UNANSWERED_SECONDS,
            _ => UDP_SECONDS,
        };
        self.age(now) >= allowed
    }
}

/// Seconds, wrapping after 18 hours; ages stay far below that.
#[inline]
fn seconds(now: Nanos) -> u16 {
    (now.0 / 1_000_000_000) as u16
}

//! What a sender is told.

use core::time::Duration;

use crate::norm::NodeId;

/// How fast, and how bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second on the trunk, headers included. Not 0.
    pub bits_per_second: u64,
    /// Bytes that each packet has on the trunk beside the NORM message: UDP, IP, BIER, Ethernet.
    pub overhead: u16,
}

/// How many packets leave for some nodes that aren't all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// One for each set of bit strings: BIER.
    Sets,
    /// One for each node, to its own address; all together have a multicast group.
    Nodes,
}

/// When a node is served apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Straggler {
    /// It waits for more segments than this, and at most half of the nodes do.
    pub owed_max: u64,
    /// From then on it gets everything alone, at this rate, as late joiners do.
    pub rate: Rate,
}

/// How a sender works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in NORM.
    pub sender: NodeId,
    /// Which run this is. Receivers keep what they have as long as it is the same.
    pub instance: u16,
    /// Bytes of a segment.
    pub segment: u16,
    /// Source segments of a block. NRL's receivers want the same for all objects.
    pub block: u8,
    /// Rows of parity of a block: as many losses of a block as can be repaired by parity.
    pub parity: u8,
    /// How many packets leave for some of the nodes, for the rate and for which repairs cost least.
    pub copies: Copies,
    /// Rate of the group.
    pub rate: Rate,
    /// Time that may be made up for at once, when the caller comes late: more where something behind it smooths what it sends.
    pub catch_up: Duration,
    /// Late joiners and stragglers.
    pub straggler: Straggler,
    /// The greatest round-trip time, before anything was measured,
    pub grtt: Duration,
    /// and its bounds.
    pub grtt_min: Duration,
    /// See there.
    pub grtt_max: Duration,
    /// Receivers are told at least this much, whatever is measured: they ask about once in that time, so that a short one
    /// costs feedback, and a long one makes the last repairs late.
    pub grtt_told_min: Duration,
    /// How long the requests for a block are gathered while first copies are sent: about as long as receivers let pass between two
    /// NACKs, so that each has its say in one plan. Later all are asked at once, and half of the round-trip time does.
    pub window: Duration,
    /// Time between probes,
    pub probe: Duration,
    /// and between those of nodes that are given up, while nothing is sent.
    pub probe_missed: Duration,
    /// A node is given up that was asked so often for its acknowledgement without a sign of life,
    pub silent_rounds_max: u16,
    /// for at least this long;
    pub patience: Duration,
    /// and one that goes on asking for repairs through so many rounds, and one more for each 4096 blocks of an object.
    pub rounds_max: u16,
}

impl Config {
    /// Values that serve a LAN at 100 Mb/s.
    #[must_use]
    pub fn lan(sender: NodeId, instance: u16) -> Self {
        let rate = |bits_per_second| Rate { bits_per_second, overhead: 42 };
        Self {
            sender,
            instance,
            segment: 1400,
            // Longer blocks even out who lost how much, so that the trunk carries less parity.
            block: 128,
            parity: 127,
            copies: Copies::Sets,
            rate: rate(100_000_000),
            catch_up: Duration::from_millis(2),
            straggler: Straggler { owed_max: 16_384, rate: rate(10_000_000) },
            grtt: Duration::from_millis(50),
            grtt_min: Duration::from_millis(10),
            grtt_max: Duration::from_secs(2),
            grtt_told_min: Duration::from_millis(40),
            window: Duration::from_millis(40),
            probe: Duration::from_secs(1),
            probe_missed: Duration::from_secs(10),
            silent_rounds_max: 20,
            patience: Duration::from_secs(60),
            rounds_max: 200,
        }
    }
}

//! What a sender counts.

use super::transmit::Kind;
use crate::norm::Malformed;

/// Why feedback, or a part of it, changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It isn't NORM.
    Malformed(Malformed),
    /// It is a message of a sender.
    NotFeedback,
    /// It is for another sender,
    OtherSender,
    /// or for an earlier run of this one.
    OtherInstance,
    /// The node isn't registered.
    UnknownNode,
    /// It doesn't come from the node's address.
    WrongAddress,
    /// The object was never announced, or is retired.
    UnknownObject,
    /// The object has no such block or segment.
    NoSuchSegment,
    /// The segment hasn't been sent to the node yet.
    NotYetSent,
    /// The node is given up, or left.
    GivenUp,
    /// All that it names is noted already.
    Duplicate,
    /// Repairs for all that it names are on their way.
    OnTheWay,
    /// The node has acknowledged the object before.
    Stale,
    /// It acknowledges less than the whole object.
    NotTheWatermark,
    /// The datagram names as many blocks as are looked at at once, or more: what comes after them.
    TooMuch,
}

impl Ignored {
    /// Without those of [`Malformed`], which come after them.
    const PLAIN: [Self; 14] = [
        Self::NotFeedback,
        Self::OtherSender,
        Self::OtherInstance,
        Self::UnknownNode,
        Self::WrongAddress,
        Self::UnknownObject,
        Self::NoSuchSegment,
        Self::NotYetSent,
        Self::GivenUp,
        Self::Duplicate,
        Self::OnTheWay,
        Self::Stale,
        Self::NotTheWatermark,
        Self::TooMuch,
    ];

    /// All of them, for those who print them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.into_iter().chain(Malformed::ALL.into_iter().map(Self::Malformed))
    }

    /// As operators see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NotFeedback => "not-feedback",
            Self::OtherSender => "other-sender",
            Self::OtherInstance => "other-instance",
            Self::UnknownNode => "unknown-node",
            Self::WrongAddress => "wrong-address",
            Self::UnknownObject => "unknown-object",
            Self::NoSuchSegment => "no-such-segment",
            Self::NotYetSent => "not-yet-sent",
            Self::GivenUp => "given-up",
            Self::Duplicate => "duplicate",
            Self::OnTheWay => "on-the-way",
            Self::Stale => "stale",
            Self::NotTheWatermark => "not-the-watermark",
            Self::TooMuch => "too-much",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Malformed(fault) => Self::PLAIN.len() + fault as usize,
            plain => Self::PLAIN.iter().position(|other| *other == plain).unwrap_or_default(),
        }
    }
}

const REASONS: usize = Ignored::PLAIN.len() + Malformed::ALL.len();

/// Packets and their bytes: NORM messages, without what carries them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegCounters {
    /// Segments and infos sent for the first time,
    pub first_packets: u64,
    /// in bytes.
    pub first_bytes: u64,
    /// Repairs,
    pub repair_packets: u64,
    /// in bytes.
    pub repair_bytes: u64,
    /// Commands,
    pub control_packets: u64,
    /// in bytes.
    pub control_bytes: u64,
}

/// What a sender counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What left: a packet for each set of bit strings.
    pub trunk: LegCounters,
    /// NACKs that came,
    pub nacks: u64,
    /// ACKs that came,
    pub acks: u64,
    /// and the bytes of all that came.
    pub feedback_bytes: u64,
    ignored: [u64; REASONS],
}

impl Counters {
    pub(super) fn ignore(&mut self, reason: Ignored) {
        self.ignored[reason.index()] += 1;
    }

    /// How often feedback, or a part of it, was ignored for this reason.
    #[must_use]
    pub fn ignored(&self, reason: Ignored) -> u64 {
        self.ignored[reason.index()]
    }
}

impl LegCounters {
    pub(super) fn add(&mut self, kind: Kind, packets: u64, len: u64) {
        let (count, bytes) = match kind {
            Kind::First => (&mut self.first_packets, &mut self.first_bytes),
            Kind::Repair => (&mut self.repair_packets, &mut self.repair_bytes),
            Kind::Control => (&mut self.control_packets, &mut self.control_bytes),
        };
        *count += packets;
        *bytes += packets * len;
    }

    fn with(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            first_packets: each(self.first_packets, other.first_packets),
            first_bytes: each(self.first_bytes, other.first_bytes),
            repair_packets: each(self.repair_packets, other.repair_packets),
            repair_bytes: each(self.repair_bytes, other.repair_bytes),
            control_packets: each(self.control_packets, other.control_packets),
            control_bytes: each(self.control_bytes, other.control_bytes),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    pub(super) fn since(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let mut counters = Counters::default();
        for reason in Ignored::all() {
            assert_eq!(counters.ignored(reason), 0, "{reason:?}");
            counters.ignore(reason);
        }
        assert!(counters.ignored.iter().all(|count| *count == 1));
    }
}

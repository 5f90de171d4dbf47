//! Why a packet had no copy, and why one copy wasn't made, as operators see it.

use millrace_bier::header::Malformed;

use crate::node::drops;
use crate::tables::bier::NoWay;

drops! {
    /// Why a packet had no copy, and was delivered to nobody.
    pub enum Drop {
        /// Shorter than the fixed part of the header.
        FixedPartCut => "fixed-part-cut",
        /// Its BIFT-id stands for no table of ours.
        UnknownBift => "unknown-bift",
        /// Shorter than the bit strings of its table.
        BitStringCut => "bit-string-cut",
        /// Another MPLS label follows.
        NotLastLabel => "not-last-label",
        /// Over MPLS, and the first nibble isn't 5.
        Nibble => "nibble",
        /// Another version of the header.
        Version => "version",
        /// Its BSL field is no length.
        IllegalBsl => "illegal-bsl",
        /// Its BSL field is another length than its table's.
        OtherBsl => "other-bsl",
        /// It came through a tunnel from somebody who isn't a neighbour of ours.
        NotNeighbour => "not-a-neighbour",
        /// It came through a tunnel with a wrong UDP checksum, or one over more segments than can be looked at.
        Checksum => "checksum",
        /// No bit is set.
        Empty => "empty",
        /// Its time to live is used up.
        TtlExpired => "ttl-expired",
        /// None of its bits has a way.
        NoRoute => "no-route",
        /// It would enter here, but its own time to live is used up.
        PayloadTtl => "payload-ttl",
        /// It would enter here, but be longer with its header than the sub-domain's links carry.
        PayloadTooBig => "payload-too-big",
        /// It would enter here, but came by another interface than the one that leads to its source.
        WrongInterface => "wrong-interface",
        /// It would enter here, in a sub-domain that nothing may enter here.
        NoIngress => "no-ingress",
        /// For us, and nobody behind us listens.
        NoListener => "no-listener",
        /// For us, and what it carries is nothing that we could give to anybody.
        UnknownProto => "unknown-proto",
        /// For us, behind an MPLS label that nothing is known of.
        UnknownLabel => "unknown-label",
        /// No copy of it could be made: see what was lost.
        Lost => "lost",
        /// An echo message that was for us, or ended here: there were too many.
        OamLimited => "oam-limited",
        /// An echo message that was for us, or ended here, and didn't reach the slowpath: it is behind, or the message too long.
        OamUnseen => "oam-unseen",
        /// A router said what is listened to behind it: too many did.
        MembershipLimited => "membership-limited",
        /// A router said what is listened to behind it, and that didn't reach the slowpath: it is behind, or the message too long.
        MembershipUnseen => "membership-unseen",
        /// What a router said of what is listened to behind it, by an interface that none of the sub-domain's links is on.
        MembershipStranger => "membership-stranger",
        /// Content for our hub that it didn't get: its thread is behind, or it isn't a whole datagram.
        HubUnseen => "hub-unseen",
    }
}

impl From<Malformed> for Drop {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::FixedPartCut => Drop::FixedPartCut,
            Malformed::UnknownBift => Drop::UnknownBift,
            Malformed::BitStringCut => Drop::BitStringCut,
            Malformed::NotLastLabel => Drop::NotLastLabel,
            Malformed::Nibble => Drop::Nibble,
            Malformed::Version => Drop::Version,
            Malformed::IllegalBsl => Drop::IllegalBsl,
            Malformed::OtherBsl => Drop::OtherBsl,
            Malformed::Empty => Drop::Empty,
        }
    }
}

/// Why one copy wasn't made, while others may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Loss {
    /// Some of the bits had no way.
    Unroutable,
    /// The time to live stopped it short of some of its receivers.
    Expired,
    /// The neighbour is reached in no way that we have.
    NoWay,
    /// The router is further away, and no tunnel leads to it: there is no route, or no address of ours to send from.
    NoTunnel,
    /// The port that it would have left by is down, and nobody stands in.
    LinkDown,
    /// The link's interface is gone.
    NoInterface,
    /// The neighbour's link-layer address isn't known.
    NeighbourUnknown,
    /// Longer than the MTU of the link: the BFIR should have known (RFC 8296 §3).
    TooBig,
    /// No buffer.
    NoBuffer,
    /// What it carries isn't whole, or its own time to live is used up.
    BadPayload,
    /// It was for us too, and nobody behind us listens.
    NoListener,
    /// It was for us too, and what it carries is nothing that we could give to anybody.
    UnknownProto,
    /// It was for us too, behind an MPLS label that nothing is known of.
    UnknownLabel,
    /// It was an echo message for us too: there were too many.
    OamLimited,
    /// It was an echo message for us too, and didn't reach the slowpath: it is behind, or the message too long.
    OamUnseen,
    /// A router said what is listened to behind it, to us too: too many did.
    MembershipLimited,
    /// A router said what is listened to behind it, to us too, and that didn't reach the slowpath: it is behind, or the message too
    /// long.
    MembershipUnseen,
    /// A router said what is listened to behind it, to us too, by an interface that none of the sub-domain's links is on.
    MembershipStranger,
    /// It was content for our hub too, which didn't get it: its thread is behind, or it isn't a whole datagram.
    HubUnseen,
}

impl From<&NoWay> for Loss {
    fn from(why: &NoWay) -> Self {
        match why {
            NoWay::Route | NoWay::Source => Loss::NoTunnel,
            NoWay::Interface => Loss::NoInterface,
            NoWay::Neighbour => Loss::NeighbourUnknown,
            // Whoever has a table that takes hosts for a router.
            NoWay::Hosts => Loss::NoWay,
        }
    }
}

/// How many reasons there are.
pub const LOSSES: usize = Loss::HubUnseen as usize + 1;

impl Loss {
    /// The names that operators see, in the order of the counters.
    pub const NAMES: [&'static str; LOSSES] = [
        "unroutable",
        "expired",
        "no-way",
        "no-tunnel",
        "link-down",
        "no-interface",
        "neighbour-unknown",
        "too-big",
        "no-buffer",
        "bad-payload",
        "no-listener",
        "unknown-proto",
        "unknown-label",
        "oam-limited",
        "oam-unseen",
        "membership-limited",
        "membership-unseen",
        "membership-stranger",
        "hub-unseen",
    ];
}

//! What `millrace bier ping` and `millrace bier trace` ask for, and what they are told.

use serde::{Deserialize, Serialize};

/// One echo request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EchoRequest {
    /// The sub-domain.
    pub subdomain: u8,
    /// The routers that it is for, as `1,2,66-70`.
    pub bfr_ids: String,
    /// Of whom replies are wanted; of all without.
    pub target: Option<String>,
    /// Chooses between equal ways; 20 bits.
    pub entropy: u32,
    /// Hops that it goes.
    pub ttl: u8,
    /// How replies are to come.
    pub reply: ReplyBy,
    /// Its number.
    pub sequence: u32,
    /// How long replies are waited for.
    pub timeout_ms: u32,
    /// The ways onward are asked for, and what is known of them: nothing, at the first router.
    pub ways: Option<Vec<EchoWayRow>>,
    /// When the wait is over before its time.
    pub until: EchoUntil,
}

/// How a reply comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyBy {
    /// In a BIER packet.
    Bier,
    /// In IP and UDP.
    Udp,
}

/// What ends the wait for replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EchoUntil {
    /// All receivers have replied.
    All,
    /// Routers have replied that hadn't before.
    New {
        /// So many; as many as get the request of ourselves without.
        count: Option<usize>,
        /// Those that had, by BFR-prefix.
        seen: Vec<String>,
    },
}

/// What came of an echo request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EchoReport {
    /// The request's number.
    pub sequence: u32,
    /// The routers that we sent it to.
    pub ways: Vec<EchoWayRow>,
    /// Whether it was for ourselves, too.
    pub local: bool,
    /// The replies, in the order in which they came.
    pub replies: Vec<EchoReplyRow>,
    /// The receivers of whom a reply was wanted, and which didn't say that it had arrived; empty if all did.
    pub missing: String,
}

/// What a router replied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EchoReplyRow {
    /// Its number, if it is one of the receivers; or that of hosts for whom it answers.
    pub bfr_id: Option<u16>,
    /// Other numbers of hosts for whom it answers, as an access switch does for its legs.
    #[serde(default)]
    pub hosts: String,
    /// Its BFR-prefix.
    pub prefix: Option<String>,
    /// Its return code (draft-ietf-bier-ping-23 section 3.3).
    pub code: u8,
    /// The same in words.
    pub result: String,
    /// From the request to the reply's arrival. Either control thread may rest for up to a millisecond in between.
    pub rtt_ms: f64,
    /// `bier` or `udp`.
    pub by: String,
    /// Where the request came in: an address, or the number of an interface.
    pub ingress: Option<String>,
    /// The receivers that it was for when it came there.
    pub incoming: Option<String>,
    /// Where it goes on.
    pub ways: Vec<EchoWayRow>,
    /// Where the request was wrong, in bytes from its start.
    pub pointer: Option<u32>,
}

/// A copy of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EchoWayRow {
    /// BFR-prefix of the router that gets it.
    pub neighbour: String,
    /// Its address on the link; `null` if it has none there.
    pub address: Option<String>,
    /// The number of the link's interface at the router that sends it.
    pub index: u32,
    /// The longest packet that the link takes, with its BIER header, in bytes; 0 where nobody told.
    pub mtu_bytes: u16,
    /// The receivers that it is for.
    pub bfr_ids: String,
}

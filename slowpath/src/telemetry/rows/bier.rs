//! What `millrace show bier` prints with `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `show bier`: tables, neighbours, flows and counters. All is empty where no BIER is configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierReport {
    /// The tables, by sub-domain and set.
    pub bift: Vec<BiftRow>,
    /// What bits stand for, where those are adjacencies (BIER-TE).
    pub adjacencies: Vec<AdjacencyRow>,
    /// The neighbours of each sub-domain.
    pub neighbours: Vec<BfrNeighbourRow>,
    /// Flows that enter here.
    pub overlay: Vec<OverlayRow>,
    /// Groups with listeners behind us.
    pub listeners: Vec<ListenerRow>,
    /// Networks whose hosts are asked what they listen to; a row for IGMP and one for MLD.
    pub queriers: Vec<BierQuerierRow>,
    /// What they have said.
    pub members: Vec<BierMemberRow>,
    /// What other routers say in BIER that is listened to behind them, of the flows that enter here and are learnt.
    pub learnt: Vec<BierLearntRow>,
    /// What workers counted.
    pub counters: BierCountersReport,
}

/// A table: where packets with its BIFT-id go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BiftRow {
    /// The sub-domain.
    pub subdomain: u8,
    /// The set identifier.
    pub si: u8,
    /// How long bit strings are, in bits.
    pub bitstring_bits: u16,
    /// The BIFT-id that packets for this table carry to us.
    pub bift_id: Option<u32>,
    /// Our own number, if it is of this set.
    pub local: Option<u16>,
    /// Packets of the set, those that entered here included: the same for all tables that entropy chooses between. `null` if
    /// they aren't counted, for there were so many tables before.
    pub packets: Option<u64>,
    /// Which of the tables that entropy chooses between, from 0.
    pub table: usize,
    /// The ways.
    pub ways: Vec<BiftWayRow>,
}

/// A row of a table: the routers that a neighbour leads to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BiftWayRow {
    /// Their numbers, as `1,2,66-70`.
    pub bfr_ids: String,
    /// The neighbour's BFR-prefix, or the address that it is configured with; the network of hosts.
    pub neighbour: String,
    /// The BIFT-id that copies carry to it; `null` where it is hosts.
    pub bift_id: Option<u32>,
}

/// One of the adjacencies of a bit (RFC 9262).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdjacencyRow {
    /// The sub-domain.
    pub subdomain: u8,
    /// The set identifier.
    pub si: u8,
    /// How long bit strings are, in bits.
    pub bitstring_bits: u16,
    /// The BIFT-id that packets for this table carry to us.
    pub bift_id: Option<u32>,
    /// The bit, from 1.
    pub bit: u16,
    /// `connected`, `routed` or `decap`.
    pub kind: String,
    /// Whether the bit stays set in the copy.
    pub do_not_clear: bool,
    /// Where entropy picks one of the bit's adjacencies: by which seed.
    pub ecmp_seed: Option<u32>,
    /// The router; `null` with `decap`.
    pub address: Option<String>,
    /// The link to it; `null` where there is none, and then copies to it are lost.
    pub link: Option<BierLinkRow>,
    /// The BIFT-id that copies carry.
    pub out: Option<u32>,
}

/// A neighbour of a sub-domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BfrNeighbourRow {
    /// The sub-domain.
    pub subdomain: u8,
    /// Its BFR-prefix, or the address that it is configured with; the network of hosts.
    pub neighbour: String,
    /// Copies sent over its links, whatever the sub-domain.
    pub copies: u64,
    /// Whether it is taken for unreachable, so that backups get its packets.
    pub down: bool,
    /// `link` or `tunnel`; `hosts` of those who get payloads without a header.
    pub reach: String,
    /// Routers that lose their packets when it goes down, because nobody stands ready for them, as `1,2,66-70`.
    pub unprotected: String,
    /// The links to it.
    pub links: Vec<BierLinkRow>,
}

/// A link to a neighbour, or a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierLinkRow {
    /// The interface that copies leave by; empty while no route leads to the far end of the tunnel.
    pub interface: String,
    /// The neighbour's address; `-` of hosts.
    pub address: String,
    /// `ethernet`, `mpls`, or of tunnels `udp` or `ipv6`; `none` to hosts.
    pub encapsulation: String,
    /// The link-layer address that copies are sent to: the neighbour's, or that of the router on the way to it; `null` while it
    /// isn't known, and then copies are lost. Of hosts `null`: theirs is that of each group.
    pub mac: Option<String>,
}

/// A flow that enters here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverlayRow {
    /// Where it comes from.
    pub source: String,
    /// The group.
    pub group: String,
    /// The sub-domain that it goes through.
    pub subdomain: u8,
    /// Who gets it, as `1,2,66-70`.
    pub receivers: String,
    /// Packets that each of its packets becomes: one for each set.
    pub packets: usize,
}

/// A group that somebody listens to behind us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// The group.
    pub group: String,
    /// The interfaces of hosts that listen.
    pub interfaces: Vec<String>,
    /// The neighbours that get it by themselves.
    pub next_hops: Vec<String>,
}

/// Who asks the hosts of a network what they listen to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierQuerierRow {
    /// The interface.
    pub interface: String,
    /// `igmp` or `mld`.
    pub protocol: String,
    /// The address of the router that asks.
    pub querier: String,
    /// Whether that is us.
    pub ours: bool,
    /// When we ask everybody next; or when the other router counts as gone.
    pub due_seconds: f64,
    /// Groups that somebody there listens to.
    pub groups: usize,
}

/// A group that hosts of a network say that they listen to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierMemberRow {
    /// The interface.
    pub interface: String,
    /// The group.
    pub group: String,
    /// `include`: to `sources` alone; `exclude`: to all but those of them that nobody wants.
    pub mode: String,
    /// When `exclude` ends, unless hosts speak up.
    pub expires_seconds: Option<f64>,
    /// The sources that hosts named.
    pub sources: Vec<BierSourceRow>,
    /// The oldest version that a host speaks: `igmpv1` to `igmpv3`, `mldv1` or `mldv2`.
    pub version: String,
}

/// A group that somebody listens to behind another router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierLearntRow {
    /// The sub-domain.
    pub subdomain: u8,
    /// The router's number.
    pub bfr_id: u16,
    /// The group.
    pub group: String,
    /// `include`: it listens to `sources` alone; `exclude`: to all but those of them that it doesn't want.
    pub mode: String,
    /// When `exclude` ends, unless the router speaks up.
    pub expires_seconds: Option<f64>,
    /// The sources that it named.
    pub sources: Vec<BierSourceRow>,
}

/// A source of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierSourceRow {
    /// Its address.
    pub source: String,
    /// How long it is wanted, unless hosts speak up; `null`: nobody wants it.
    pub expires_seconds: Option<f64>,
}

/// What all workers together counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BierCountersReport {
    /// Copies by link; those of one that isn't configured any more, too, if it had any.
    pub copies: Vec<LinkCopiesRow>,
    /// Copies that weren't made, by reason; all reasons, also those of 0.
    pub lost: BTreeMap<String, u64>,
    /// Packets that had no copy, and were delivered to nobody, by reason; all reasons.
    pub dropped: BTreeMap<String, u64>,
    /// Packets that workers showed the control thread: echo messages, and a few of those that expired.
    pub punted: u64,
    /// Packets by receiver, where `count_receivers` has them counted; those of 0 are left out.
    pub receivers: Vec<ReceiverRow>,
    /// The latest packet whose time to live was used up here, of those that the control thread was shown.
    pub expired: Option<ExpiredRow>,
}

/// Packets for a receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverRow {
    /// The sub-domain.
    pub subdomain: u8,
    /// Its number.
    pub bfr_id: u16,
    /// Packets that were for it and others.
    pub packets: u64,
}

/// A packet that went too far, most often in circles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpiredRow {
    /// How long ago, in seconds.
    pub seconds: f64,
    /// The interface that it came by.
    pub interface: String,
    /// The sub-domain.
    pub subdomain: u8,
    /// The router where it entered, if its header says that.
    pub bfir_id: Option<u16>,
    /// Its entropy.
    pub entropy: u32,
    /// For whom it was.
    pub bfr_ids: String,
}

/// Copies over a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkCopiesRow {
    /// The interface.
    pub interface: String,
    /// The neighbour's address on it; `-` of hosts.
    pub address: String,
    /// `ethernet`, `mpls`, or of tunnels `udp` or `ipv6`; `none` to hosts.
    pub encapsulation: String,
    /// Copies given to the port.
    pub copies: u64,
}

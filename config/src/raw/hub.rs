//! The content hub: its store, what it takes in, and the sites that it sends to.

use crate::grammar::table;
use crate::leaf::{FilePath, Group, HostAddr, Int, List, Socket};
use crate::limits::*;
use crate::model::{CarriageWord, HubCode, HubProfile, MacAddr, Name, SecretRef};

table! {
    /// The content hub: takes contents in once, keeps them, and sends them to every node of its sites, repairs to those alone
    /// that missed something.
    struct Hub {
        /// Its name in NORM (NormNodeId): as a sender to its nodes, and as a receiver to its sources.
        default id: Int<1, NORM_ID_MAX> = 1,
        /// The folder that contents are kept in; a relative path begins at this file's folder.
        required store_path: FilePath,
        /// Bytes that contents may take there, complete and arriving.
        required budget_bytes: Int<HUB_BUDGET_BYTES_MIN, HUB_BUDGET_BYTES_MAX>,
        /// Bytes of the file system that no content may take.
        default reserve_bytes: Int<0, HUB_BUDGET_BYTES_MAX> = 67_108_864,
        /// How long a content is kept for nodes that come late, from when it began to be sent.
        default late_join_seconds: Int<0, HUB_LATE_JOIN_SECONDS_MAX> = 86_400,
        /// Where contents are given out over HTTP, by ranges too, to whoever asks. Without it: not at all.
        optional http_listen: Socket,
        /// Public keys (Ed25519, PEM) of those whose manifests are believed. Without them: anybody's, signed or not.
        optional trusted_keys: List<SecretRef, 1, HUB_KEYS_MAX>,
        /// The private key (Ed25519, PEM) that signs the manifests of what is put in here. Without it: they aren't signed.
        optional signing_key: SecretRef,
        /// What is taken in from the network.
        optional accept: List<HubAccept, 0, HUB_ACCEPT_MAX>,
        /// The sites that contents are sent to.
        optional sites as "site": List<HubSite, 0, HUB_SITES_MAX>,
    }
}

table! {
    /// A group whose contents are taken in, by BIER or by plain multicast.
    struct HubAccept {
        /// The sub-domain of BIER that it comes by. Either this or `port`.
        optional subdomain: Int<0, 255>,
        /// The network that it comes by as plain multicast: the name of a port, or of a VLAN as in "lan.20".
        optional port: Name,
        /// The group.
        required group: Group,
        /// Who sends it. Without it: anybody.
        optional source: HostAddr,
        /// The UDP port that it is sent to.
        default udp_port: Int<1, 65535> = 6003,
        /// How contents are sent.
        required profile: HubProfile,
        /// The sender's name in NORM (NormNodeId). Without it: any.
        optional sender: Int<1, NORM_ID_MAX>,
        /// The session of FLUTE (TSI). Without it: any.
        optional tsi: Int<0, 4294967295>,
    }
}

table! {
    /// Nodes that share a group and a rate.
    struct HubSite {
        /// What you call it.
        default name: Name = "site",
        /// How contents are sent: with "norm" to nodes that say what they miss, with "flute" to receivers that can't answer.
        default profile: HubProfile = "norm",
        /// How packets get to its nodes.
        required carriage: CarriageWord,
        /// The network of the nodes, unless they are reached by BIER: the name of a port, or of a VLAN as in "lan.20".
        optional port: Name,
        /// The sub-domain of the nodes, with carriage "bier".
        optional subdomain: Int<0, 255>,
        /// The group that contents are sent to.
        required group: Group,
        /// The UDP port that they are sent to.
        default udp_port: Int<1, 65535> = 6003,
        /// Our address that they are sent from, and that nodes' feedback comes to. Without it: the first one that we have on the
        /// network; with carriage "bier" the `bfr_prefix`.
        optional address: HostAddr,
        /// The UDP port that they are sent from, and that nodes' feedback comes to. Sites of one address need one each.
        default feedback_port: Int<1, 65535> = 6003,
        /// Hops that packets may go; with carriage "ethernet" they go none. In BIER these are those behind its last router.
        default ttl: Int<1, 255> = 16,
        /// Bits per second that are sent to the site, all headers included.
        required rate_bits_per_second: Int<HUB_RATE_MIN, HUB_RATE_MAX>,
        /// Bits per second to a node that can't keep up with the others, and is served apart. Without it: a tenth.
        optional straggler_bits_per_second: Int<HUB_RATE_MIN, HUB_RATE_MAX>,
        /// The session of FLUTE (TSI): what receivers tell sites of one address of ours apart by.
        default tsi: Int<0, 4294967295> = 1,
        /// How FLUTE makes losses good.
        default code: HubCode = "raptorq",
        /// How often FLUTE sends a content.
        default passes: Int<1, HUB_PASSES_MAX> = 2,
        /// Repair symbols of each pass, in percent of the content, with code "raptorq".
        default overhead_percent: Int<1, HUB_OVERHEAD_PERCENT_MAX> = 20,
        /// The nodes. With profile "flute" and another carriage than "bier" none need be named: whoever listens receives.
        optional nodes: List<HubNode, 0, HUB_NODES_MAX>,
    }
}

table! {
    /// A node. Feedback is believed if it has both its name and its address.
    struct HubNode {
        /// Its name in NORM (NormNodeId), no other node's in any site.
        required id: Int<1, NORM_ID_MAX>,
        /// Its address.
        required address: HostAddr,
        /// Its bit (BFR-id): its own, or that of its leg at an access switch. With carriage "bier" it must have one.
        optional bfr_id: Int<1, 65535>,
        /// Its Ethernet address, with carriage "ethernet". Without it: found by ARP and ND.
        optional mac: MacAddr,
        /// The groups that it is in, by type or version. Contents are for one group, or for all nodes.
        optional groups: List<Name, 0, HUB_GROUPS_PER_NODE_MAX>,
    }
}

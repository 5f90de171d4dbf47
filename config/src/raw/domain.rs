//! The file of a topology: the routers and links of a BIER domain.

use crate::grammar::table;
use crate::leaf::{BiftIdList, BitStringBits, HostAddr, Int, List};
use crate::limits::{BIER_COST_MAX, BIER_LINKS_MAX, BIER_ROUTERS_MAX};
use crate::model::Name;

table! {
    /// The routers and links of a BIER domain.
    struct Domain {
        /// The routers.
        required routers as "router": List<DomainRouter, 1, BIER_ROUTERS_MAX>,
        /// The links between them.
        optional links as "link": List<DomainLink, 0, BIER_LINKS_MAX>,
    }
}

table! {
    /// A router of a domain.
    struct DomainRouter {
        /// What links call it.
        required name: Name,
        /// Its BFR-prefix; it needs one to speak BIER.
        optional prefix: HostAddr,
        /// Its number. Without it: it passes packets on only.
        optional bfr_id: Int<1, 65535>,
        /// Whether it speaks BIER. One that doesn't is crossed by tunnels.
        default bier: bool = true,
        /// Its address as the far end of tunnels. Without it: its BFR-prefix.
        optional tunnel_address: HostAddr,
        /// The lengths of bit strings that it can forward, in bits.
        default bitstring_bits: List<BitStringBits, 1, 7> = [256],
        /// The BIFT-ids that packets to it carry: "static", or one for each set.
        default bift_id: BiftIdList = "static",
    }
}

table! {
    /// A link between two routers. A segment with more is a link between each two of them.
    struct DomainLink {
        /// The router at one end.
        required a: Name,
        /// The router at the other end.
        required b: Name,
        /// What it costs from `a` to `b`.
        default cost: Int<1, BIER_COST_MAX> = 10,
        /// What it costs from `b` to `a`. Without it: the same.
        optional cost_back: Int<1, BIER_COST_MAX>,
        /// The address of `a` on it. Needed on links of our own router, where it is the neighbour.
        optional a_address: HostAddr,
        /// The address of `b` on it; likewise.
        optional b_address: HostAddr,
    }
}

//! What can be wrong with a domain.

use alloc::string::String;
use core::net::IpAddr;

use crate::bift_id::Clash;
use crate::id::{BfrId, Bsl};

/// Something that contradicts itself or something else. `router` and `link` are places in the specification, and so
/// are those of the earlier item in `first`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Two routers of one name: links mean the first.
    #[error("router {router}: {name} is already the name of router {first}")]
    RepeatedName {
        /// The later one.
        router: usize,
        /// The earlier one.
        first: usize,
        /// Their name.
        name: String,
    },
    /// Two routers with one BFR-prefix: it can't be told whose packets are whose, so neither gets any.
    #[error("router {router}: {prefix} is already the BFR-prefix of router {first}")]
    RepeatedPrefix {
        /// The later one.
        router: usize,
        /// The earlier one.
        first: usize,
        /// Their prefix.
        prefix: IpAddr,
    },
    /// Two routers with one BFR-id: both rows are invalid (RFC 8279 section 6).
    #[error("router {router}: {id} is already the BFR-id of router {first}")]
    RepeatedBfrId {
        /// The later one.
        router: usize,
        /// The earlier one.
        first: usize,
        /// Their number.
        id: BfrId,
    },
    /// A number without BIER. The router is crossed by tunnels.
    #[error("router {router} has BFR-id {id}, but doesn't speak BIER")]
    BfrIdWithoutBier {
        /// The router.
        router: usize,
        /// Its number.
        id: BfrId,
    },
    /// BIER without a BFR-prefix (RFC 8279 section 2). The router is crossed by tunnels.
    #[error("router {router} speaks BIER, but has no BFR-prefix")]
    NoPrefix {
        /// The router.
        router: usize,
    },
    /// BIER without any length of bit strings. The router is crossed by tunnels.
    #[error("router {router} speaks BIER, but with bit strings of no length")]
    NoBsl {
        /// The router.
        router: usize,
    },
    /// A router with a number that can't read bit strings of this length (RFC 8279 section 6.10.2). It gets nothing.
    #[error("router {router} has BFR-id {id}, but can't read bit strings of {bsl}")]
    OtherBsl {
        /// The router.
        router: usize,
        /// Its number.
        id: BfrId,
        /// The length of the domain.
        bsl: Bsl,
    },
    /// The number needs a set identifier above 255. The router gets nothing.
    #[error("router {router}: BFR-id {id} is beyond the sets that there are")]
    BeyondSets {
        /// The router.
        router: usize,
        /// Its number.
        id: BfrId,
    },
    /// A BIFT-id that contradicts another of this router. It is left out.
    #[error("router {router}, BIFT-id {item}: {clash}")]
    BiftId {
        /// The router.
        router: usize,
        /// Its place among the router's BIFT-ids.
        item: usize,
        /// What is wrong.
        clash: Clash,
    },
    /// A link of an unknown router. It is left out.
    #[error("link {link}: there is no router {name}")]
    UnknownRouter {
        /// The link.
        link: usize,
        /// Which of its ends, 0 or 1.
        end: usize,
        /// The name that nobody has.
        name: String,
    },
    /// A link from a router to itself. It is left out.
    #[error("link {link} begins and ends at {name}")]
    SelfLink {
        /// The link.
        link: usize,
        /// The router.
        name: String,
    },
    /// A link without a cost: shortest paths could go around in circles. It is left out.
    #[error("link {link} costs nothing")]
    NoCost {
        /// The link.
        link: usize,
    },
}

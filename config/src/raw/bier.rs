//! BIER: sub-domains, rows, what enters here, who listens, and whom we ask.

use crate::grammar::table;
use crate::leaf::{BiftIdList, BitStringBits, FilePath, Group, HostAddr, Int, List};
use crate::limits::*;
use crate::model::{
    AdjacencyKind, BfrIds, BierKind, Encapsulation, Learn, Name, Protection, RowEncapsulation, TunnelKind,
};

table! {
    /// Bit index explicit replication (RFC 8279).
    struct Bier {
        /// The address by which other BIER routers know this one (BFR-prefix). What comes by equal ways is shared out
        /// differently by routers that have different ones.
        required bfr_prefix: HostAddr,
        /// Count packets by receiver, too: bit by bit, which costs each packet something for each of its bits. Shown by
        /// `millrace show bier counters`.
        default count_receivers: bool = false,
        /// Routers that may send to us inside UDP or IPv6 besides those that we send to in such a way: at the near ends of
        /// one-way trees, for example. With a topology that needs some, all its routers may.
        optional accept_from: List<HostAddr, 0, BIER_ROUTERS_MAX>,
        /// The IPv6 next header that stands for BIER inside IPv6. None is assigned yet; 253 and 254 are set aside for trials
        /// (RFC 3692).
        default ipv6_next_header: Int<143, 254> = 253,
        /// The sub-domains that this router is in.
        required subdomains as "subdomain": List<Subdomain, 1, BIER_SUBDOMAINS_MAX>,
        /// Flows that enter the domain here: who gets them.
        optional overlays as "overlay": List<Overlay, 0, BIER_OVERLAYS_MAX>,
        /// Groups that somebody behind us listens to.
        optional listeners as "listener": List<Listener, 0, BIER_LISTENERS_MAX>,
        /// Networks whose hosts are asked what they listen to.
        optional queriers as "querier": List<Querier, 0, PORTS_MAX>,
    }
}

table! {
    /// A sub-domain: a numbering of routers, and the ways to them.
    struct Subdomain {
        /// Its number.
        required id: Int<0, 255>,
        /// What the bits of a bit string stand for.
        default kind: BierKind = "bier",
        /// How long bit strings are, in bits.
        default bitstring_bits: BitStringBits = 256,
        /// This router's own number (BFR-id). Without it: packets pass, but none begins or ends here.
        optional bfr_id: Int<1, 65535>,
        /// Tables between which a packet's entropy chooses: as many as the least common multiple of the numbers of equal ways
        /// share everything out evenly.
        default ecmp_tables: Int<1, 16> = 1,
        /// What BIER headers are carried in, unless a neighbour's row says otherwise. With "udp" and "ipv6" neighbours may be
        /// anywhere.
        default encapsulation: Encapsulation = "ethernet",
        /// What carries them to routers that aren't beside us: behind others without BIER in a topology, or at the far ends of
        /// routed adjacencies.
        default tunnel: TunnelKind = "udp",
        /// The BIFT-ids that packets to us carry: "static" (length, sub-domain and set in one number, as
        /// draft-ietf-bier-non-mpls-bift-encoding has it), or one for each set. With "mpls" they are labels.
        default bift_id: BiftIdList = "static",
        /// Time to live of the packets that begin here, in hops between BIER routers. 64 is more than any domain has, and ends a
        /// loop soon.
        default ttl: Int<1, 255> = 64,
        /// Longest packet that every link of the sub-domain carries, BIER header included. What enters here and would be longer
        /// is refused, and over IPv6 its sender is told. Without it: links refuse what is too long for them, and nobody is told.
        optional mtu_bytes: Int<MTU_BYTES_MIN, MTU_BYTES_MAX>,
        /// Routers where flows enter: they are told in BIER what is listened to behind us, as hosts tell their routers
        /// (draft-ietf-bier-mld).
        optional report_to: BfrIds,
        /// From one time that everything is told to the next, the same at all routers of the sub-domain. Who is silent for twice as
        /// long and ten seconds is taken to listen to nothing any more.
        default report_interval_seconds: Int<1, MULTICAST_QUERY_INTERVAL_SECONDS_MAX> = 125,
        /// With kind "bier-te": the sub-domain by which replies to pings and traces go, for adjacencies don't lead back. Its bits
        /// stand for routers, which have the same numbers as here.
        optional replies_by: Int<0, 255>,
        /// Networks that Ethernet frames which BIER brings in this sub-domain are sent to, as they are: names of ports, and of
        /// VLANs as in "lan.20".
        optional ethernet_ports: List<Name, 1, PORTS_MAX>,
        /// MPLS labels in front of packets to groups that BIER brings in this sub-domain.
        optional labels: List<BierLabel, 1, BIER_LABELS_MAX>,
        /// The ways, row by row. A router in the rows of several neighbours has that many equal ways.
        optional table: List<BierRow, 0, BIER_ROWS_MAX>,
        /// The file of a topology, from which the ways are computed, instead of `table`; a relative path begins at this file's
        /// folder.
        optional topology: FilePath,
        /// Which router of the topology this one is.
        optional router: Name,
        /// What stands ready for when a port goes down, with a topology: other neighbours, as far as they can take over without
        /// a loop and without a second copy.
        default protection: Protection = "none",
        /// With `protection`: where no neighbour can take over, a router further away does, through a tunnel (see `tunnel`); the same
        /// at all routers of the topology, for they have to take packets out of tunnels of any other.
        default remote_backups: bool = false,
        /// What the bits stand for at this router, with kind "bier-te". Several of one bit are all used.
        optional adjacencies: List<BierAdjacency, 0, BIER_ADJACENCIES_MAX>,
    }
}

table! {
    /// An MPLS label: the last one, in front of an IP packet, for whose group there are listeners.
    struct BierLabel {
        /// The label.
        required label: Int<16, 1048575>,
        /// The router that has given it, where packets enter the domain (upstream-assigned). Without it: we have (downstream-assigned).
        optional bfir_id: Int<1, 65535>,
    }
}

table! {
    /// An adjacency of BIER-TE (RFC 9262 section 4.2): what a bit stands for here.
    struct BierAdjacency {
        /// The set identifier of the bit.
        default si: Int<0, 255> = 0,
        /// The bit, from 1.
        required bit: Int<1, 4096>,
        /// What becomes of a packet that has it.
        required kind: AdjacencyKind,
        /// The router that the copy is sent to: beside us, with "connected".
        optional address: HostAddr,
        /// Whether the bit stays set in the copy, as on a ring of which all links have one bit. With "connected".
        optional do_not_clear: bool,
        /// The bit's adjacencies, which must all say the same, are equal ways, of which a packet's entropy picks one; another
        /// seed picks otherwise (RFC 9262 section 4.2.3).
        optional ecmp_seed: Int<0, 4294967295>,
        /// What headers are carried in to it. Without it: as in the sub-domain, or by its `tunnel` to one further away.
        optional encapsulation: Encapsulation,
        /// What the router calls its tables. Without it: as we call ours.
        optional bift_id: BiftIdList,
    }
}

table! {
    /// Routers that are reached by a neighbour, or hosts that have numbers of their own.
    struct BierRow {
        /// What you call the neighbour, or the network of the hosts; it may have several rows.
        required neighbour: Name,
        /// Its address. It must be on a network of one of the ports, unless it is reached inside UDP or IPv6: then routes lead
        /// there. Without one: hosts, with `encapsulation` "none".
        optional address: HostAddr,
        /// What headers are carried in to it, once for all its rows. Without it: as in the sub-domain.
        optional encapsulation: RowEncapsulation,
        /// The network of the hosts, with `encapsulation` "none", once for all its rows: the name of a port, or of a VLAN as in
        /// "lan.20".
        optional port: Name,
        /// The numbers of the routers that it leads to, itself included; or those of the hosts, which are nobody else's.
        required bfr_ids: BfrIds,
        /// The neighbour that gets this row's packets while the port to this one is down. It is by another port.
        optional backup: Name,
        /// What the neighbour calls its tables, once for all its rows. Without it: as we call ours.
        optional bift_id: BiftIdList,
    }
}

table! {
    /// A flow that enters here.
    struct Overlay {
        /// Where it comes from.
        required source: HostAddr,
        /// The group that it is sent to.
        required group: Group,
        /// The sub-domain that it goes through.
        required subdomain: Int<0, 255>,
        /// The numbers of the routers that get it; with kind "bier-te" the bits of its tree, where bits of sets above 0 go on
        /// counting.
        optional receivers: BfrIds,
        /// Instead of `receivers`: those routers that say so in BIER, by this protocol, which is the one of the group's family.
        optional learn: Learn,
    }
}

table! {
    /// Who listens to a group behind us. What BIER brings for the group is sent there.
    struct Listener {
        /// The group.
        required group: Group,
        /// The networks: names of ports, and of VLANs as in "lan.20".
        optional ports: List<Name, 1, PORTS_MAX>,
        /// Neighbours, as routers behind us: each gets its own copy, by its own link-layer address. They must be on a network of
        /// one of the ports.
        optional next_hops: List<HostAddr, 1, PORTS_MAX>,
    }
}

table! {
    /// Networks whose hosts are asked what they listen to, by IGMPv3 (RFC 9776) over IPv4 and MLDv2 (RFC 9777) over IPv6. What
    /// BIER brings is sent where somebody listens to it. IGMP needs an IPv4 address of ours there.
    struct Querier {
        /// The networks: names of ports, and of VLANs as in "lan.20".
        required ports: List<Name, 1, PORTS_MAX>,
        /// How often things are said, so that all but one may be lost (Robustness Variable).
        default robustness: Int<MULTICAST_ROBUSTNESS_MIN, MULTICAST_ROBUSTNESS_MAX> = 2,
        /// From one question to everybody to the next (Query Interval).
        default query_interval_seconds: Int<1, MULTICAST_QUERY_INTERVAL_SECONDS_MAX> = 125,
        /// How long hosts may take to answer it (Query Response Interval); less than the interval.
        default response_ms: Int<MULTICAST_RESPONSE_MS_MIN, MULTICAST_RESPONSE_MS_MAX> = 10_000,
        /// How long hosts may take to answer when another has left (Last Member Query Interval); so long, times `robustness`,
        /// a group goes on to be sent.
        default last_member_ms: Int<MULTICAST_RESPONSE_MS_MIN, MULTICAST_LAST_MEMBER_MS_MAX> = 1000,
    }
}

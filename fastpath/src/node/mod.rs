//! The nodes of the packet path; one file each.

/// The nodes, in the order in which a frame meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum NodeId {
    /// Reads headers and finds out who is meant.
    Classify = 0,
    /// Answers queries.
    Dns = 1,
    /// First packets, balancing, translation.
    Service = 2,
    /// What is for the appliance itself.
    Host = 3,
    /// Plain forwarding.
    Transit = 4,
    /// Gives frames to ports.
    Output = 5,
}

/// How many nodes there are.
pub const NODES: usize = 6;
/// Reasons a node can have for a drop; room in its counters.
pub const DROPS_PER_NODE_MAX: usize = 24;

impl NodeId {
    /// All nodes.
    pub const ALL: [NodeId; NODES] =
        [NodeId::Classify, NodeId::Dns, NodeId::Service, NodeId::Host, NodeId::Transit, NodeId::Output];

    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            NodeId::Classify => "classify",
            NodeId::Dns => "dns",
            NodeId::Service => "service",
            NodeId::Host => "host",
            NodeId::Transit => "transit",
            NodeId::Output => "output",
        }
    }
}

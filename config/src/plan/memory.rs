//! How much memory each NUMA node gives, and whether its hugepages suffice.

use std::collections::BTreeMap;

use super::CorePlan;
use crate::limits::MTU_BYTES_MAX;
use crate::model::{Config, Hugepages};
use crate::topology::{NodeId, NodeMemory, Topology};

/// What one flow takes in a worker's table at most, in bytes: a cache line, its hashes and translated address, its
/// share of the index, which has a power of two of places, and what it needs if it is spliced.
pub const FLOW_BYTES_MAX: u64 = 176;
/// What a worker has besides, in bytes: its queues to and from the slowpath, counters for all services and
/// instances, and the limiter of DNS answers.
const WORKER_BYTES: u64 = 10 << 20;
/// The ring from one worker to another, in bytes.
const RING_BYTES: u64 = 192 << 10;
/// What all workers share besides the tables, in bytes: a slot for each service.
const SLOTS_BYTES: u64 = 512 << 10;
/// What a frame buffer has beside its data, in bytes: DPDK's `rte_mbuf` (128), the pool's header (64) and the
/// headroom (128).
const FRAME_OVERHEAD_BYTES: u64 = 320;
/// Ethernet header, two VLAN tags and frame check sequence, in bytes.
const ETHERNET_BYTES: u64 = 26;
/// Data of a frame buffer is a multiple of this, in bytes.
const FRAME_STEP_BYTES: u64 = 2048;
/// What a neighbour takes in the shared tables at most, in bytes: the map that they are in is between half and seven
/// eighths full.
const NEIGHBOUR_BYTES: u64 = 128;
/// What a service with its names and instances takes in the shared tables at most, in bytes.
const SERVICE_BYTES: u64 = 4096;
/// Generations of the shared tables that are alive at once: the published one and the one being built.
const GENERATIONS: u64 = 2;

const _: () = assert!(MTU_BYTES_MAX as u64 + ETHERNET_BYTES <= 5 * FRAME_STEP_BYTES);

/// What memory is needed on each node, in bytes. All of it is taken at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The nodes of the machine, those that give nothing included.
    pub nodes: BTreeMap<NodeId, NodePlan>,
}

/// What one node gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePlan {
    /// Frame buffers of the ports on it, in bytes. Only these come from hugepages.
    pub frames_bytes: u64,
    /// Flow tables of the workers on it, in bytes.
    pub flows_bytes: u64,
    /// Hold slabs of the workers on it, in bytes.
    pub holds_bytes: u64,
    /// Queues, counters and rings of the workers on it, in bytes.
    pub queues_bytes: u64,
    /// Shared tables, in bytes: on the controller's first node.
    pub tables_bytes: u64,
    /// Whether its hugepages suffice for its frames.
    pub hugepages: HugepageState,
    /// Whether it is known to have less memory than this in all.
    pub too_small: bool,
}

/// Whether a node's hugepages suffice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugepageState {
    /// None are wanted: the file says `never`, or no frames are here.
    #[default]
    NotWanted,
    /// They suffice.
    Enough {
        /// Size of a page, in bytes.
        page_bytes: u64,
        /// How many are needed.
        pages: u64,
    },
    /// There are none, or too few. With `auto` ordinary pages are used, with `require` the appliance won't start.
    TooFew {
        /// Size of a page, in bytes.
        page_bytes: u64,
        /// How many are needed.
        pages: u64,
        /// How many are free.
        free: u64,
        /// Whether the file says `require`.
        fatal: bool,
    },
}

/// Frames that a hub's thread writes into, of each of its lanes.
pub const LANE_FRAMES: u64 = 256;

/// Frames of each port's pool: what is configured, and what is lent to a hub's lanes, one for each site and one for what it says of
/// what it takes in. They are of whichever pool has them.
pub fn frames_of_port(config: &Config) -> u64 {
    let lanes = config.hub.as_ref().map_or(0, |hub| hub.sites.len() as u64 + 1);
    u64::from(config.memory.frames_per_port) + lanes * LANE_FRAMES
}

impl MemoryPlan {
    pub(super) fn new(
        config: &Config,
        topology: &Topology,
        cores: &CorePlan,
        ports: &[Option<NodeId>],
    ) -> Self {
        let mut nodes: BTreeMap<NodeId, NodePlan> =
            topology.nodes.keys().map(|node| (*node, NodePlan::default())).collect();
        let home = cores.controller.first().map(|core| core.node).unwrap_or_default();
        for (port, node) in config.ports.iter().zip(ports) {
            // DPDK takes the first worker's node for a device that doesn't tell its own.
            let node = node.or_else(|| cores.workers.first().map(|worker| worker.node)).unwrap_or_default();
            nodes.entry(node).or_default().frames_bytes +=
                frames_of_port(config) * frame_bytes(port.mtu_bytes);
        }
        let largest = config.ports.iter().map(|port| slot_bytes(port.mtu_bytes)).max().unwrap_or_default();
        for worker in &cores.workers {
            let node = nodes.entry(worker.node).or_default();
            node.flows_bytes += u64::from(config.limits.flows_per_worker) * FLOW_BYTES_MAX;
            node.holds_bytes += u64::from(config.limits.holds_per_worker) * largest;
            node.queues_bytes += WORKER_BYTES + cores.workers.len() as u64 * RING_BYTES;
        }
        nodes.entry(home).or_default().tables_bytes = SLOTS_BYTES
            + GENERATIONS
                * (u64::from(config.limits.neighbours_max) * NEIGHBOUR_BYTES
                    + config.services.len() as u64 * SERVICE_BYTES);
        for (id, node) in &mut nodes {
            let machine = topology.nodes.get(id);
            node.hugepages = hugepages(config.memory.hugepages, node.frames_bytes, machine);
            node.too_small =
                machine.and_then(|m| m.total_bytes).is_some_and(|total| node.total_bytes() > total);
        }
        Self { nodes }
    }

    /// All nodes together, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.nodes.values().map(NodePlan::total_bytes).sum()
    }
}

impl NodePlan {
    /// All that the node gives, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.frames_bytes + self.flows_bytes + self.holds_bytes + self.queues_bytes + self.tables_bytes
    }
}

fn hugepages(wanted: Hugepages, bytes: u64, machine: Option<&NodeMemory>) -> HugepageState {
    if wanted == Hugepages::Never || bytes == 0 {
        return HugepageState::NotWanted;
    }
    let free = machine.map(|machine| &machine.free_hugepages);
    let enough = |(page_bytes, free): (&u64, &u64)| {
        let pages = bytes.div_ceil((*page_bytes).max(1));
        (pages <= *free).then_some(HugepageState::Enough { page_bytes: *page_bytes, pages })
    };
    // The largest pages first: they take the fewest entries of the translation buffer.
    if let Some(enough) = free.and_then(|free| free.iter().rev().find_map(enough)) {
        return enough;
    }
    let free_2m = free.and_then(|free| free.get(&HUGEPAGE_BYTES)).copied().unwrap_or_default();
    HugepageState::TooFew {
        page_bytes: HUGEPAGE_BYTES,
        pages: bytes.div_ceil(HUGEPAGE_BYTES),
        free: free_2m,
        fatal: wanted == Hugepages::Require,
    }
}

/// The hugepages that a machine without any is told to make, in bytes: the size that needs no boot option.
const HUGEPAGE_BYTES: u64 = 2 << 20;

/// A buffer that takes a whole frame of the port, in bytes.
fn slot_bytes(mtu_bytes: u16) -> u64 {
    (u64::from(mtu_bytes) + ETHERNET_BYTES).next_multiple_of(FRAME_STEP_BYTES)
}

fn frame_bytes(mtu_bytes: u16) -> u64 {
    slot_bytes(mtu_bytes) + FRAME_OVERHEAD_BYTES
}

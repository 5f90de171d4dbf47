//! Who gets which physical core, and how much memory each NUMA node gives.
//!
//! ```text
//!   topology text ──► Topology ─┐
//!                               ├─► Plan { cores: CorePlan, memory: MemoryPlan }
//!   edge.toml ──────► Config ───┘
//! ```
//!
//! The unit is the whole physical core: hyper-thread siblings always go together, whatever their numbers. CPU 0's
//! core goes to the controller first, because the kernel keeps work there that can't be moved. Workers get
//! cores of the nodes that the ports are on, as far as there are any. The same input gives the same plan.

mod cores;
mod memory;
mod render;

pub use cores::{CorePlan, Warning, WorkerCore, WorkerId};
pub use memory::{FLOW_BYTES_MAX, HugepageState, LANE_FRAMES, MemoryPlan, NodePlan, frames_of_port};

use crate::model::Config;
use crate::report::Diagnostic;
use crate::topology::{NodeId, Topology};

/// The plan of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Who gets which core.
    pub cores: CorePlan,
    /// What memory is needed where.
    pub memory: MemoryPlan,
    /// The node of each port, in the order of the file; `None` where the machine doesn't say.
    pub port_nodes: Vec<Option<NodeId>>,
}

impl Plan {
    /// Plans a machine. Errors point at the core lists of the configuration's file; see
    /// [`crate::Report::new`] for how to show them.
    pub fn new(config: &Config, topology: &Topology) -> Result<Self, Vec<Diagnostic>> {
        let port_nodes: Vec<_> = config.ports.iter().map(|port| topology.node_of(&port.device)).collect();
        let cores = CorePlan::new(config, topology, &port_nodes)?;
        let memory = MemoryPlan::new(config, topology, &cores, &port_nodes);
        Ok(Self { cores, memory, port_nodes })
    }
}

//! All ports of the appliance, opened together: pools by NUMA node, queues by worker.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use crate::driver::{DpdkDriver, Lane, outboxes};
use crate::eal::Eal;
use crate::pool::{BUFFER_BYTES, Pool, PoolError};
use crate::port::{FoundPort, Port, PortConfig, PortError};

/// What all ports have in common.
#[derive(Clone, Copy, Debug)]
pub struct PortsConfig {
    /// How many workers there are; each gets a driver.
    pub workers: u16,
    /// Frames that each port adds to the pool of its NUMA node.
    pub frames_per_port: usize,
    /// Bytes of a frame's buffer behind its headroom.
    pub buffer_bytes: usize,
}

impl Default for PortsConfig {
    fn default() -> PortsConfig {
        PortsConfig { workers: 1, frames_per_port: 16384, buffer_bytes: BUFFER_BYTES }
    }
}

impl PortsConfig {
    /// Memory that `ports` ports of this kind will need, for [`crate::EalConfig::memory_bytes`].
    pub fn memory_bytes(&self, ports: usize) -> usize {
        ports * Pool::bytes_needed(self.frames_per_port, self.buffer_bytes)
    }
}

/// The ports, in the order of the configuration: the slowpath's view of them.
#[derive(Clone, Debug)]
pub struct Ports {
    ports: Arc<[Arc<Port>]>,
}

/// Why the ports can't be had.
#[derive(Debug, Error)]
pub enum OpenError {
    /// One of them can't.
    #[error("port {name:?}: {source}")]
    Port {
        /// Its name in the configuration.
        name: String,
        /// Why.
        source: PortError,
    },
    /// There is no pool for them.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// More ports than DPDK has numbers for, or no worker.
    #[error(
        "{ports} ports and {workers} workers are outside the limits (1 to {PORTS_MAX} ports, at least 1 worker)"
    )]
    Number {
        /// Ports asked for.
        ports: usize,
        /// Workers asked for.
        workers: u16,
    },
}

impl Ports {
    /// Opens and starts all ports, and gives each worker its driver. Either all of them, or none.
    ///
    /// Each worker has a receive and a transmit queue of its own on each port that has enough of them. On a port with fewer
    /// receive queues than workers the others receive nothing; on one with fewer transmit queues the others' frames go
    /// through a bounded queue to a worker that has one (see [`DpdkDriver`]).
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(
        eal: &Eal,
        config: &PortsConfig,
        wanted: &[PortConfig],
    ) -> Result<(Ports, Vec<DpdkDriver>), OpenError> {
        if config.workers == 0 || wanted.is_empty() || wanted.len() > PORTS_MAX {
            return Err(OpenError::Number { ports: wanted.len(), workers: config.workers });
        }
        let failed = |name: &str| {
            let name = name.to_owned();
            |source| OpenError::Port { name, source }
        };
        let mut found = Vec::new();
        for port in wanted {
            found.push(FoundPort::find(eal, port).map_err(failed(&port.name))?);
        }
        let mut frames: HashMap<Option<u16>, usize> = HashMap::new();
        for port in &found {
            *frames.entry(port.numa_node()).or_default() += config.frames_per_port;
        }
        let mut pools = HashMap::new();
        for (node, frames) in frames {
            pools.insert(node, Arc::new(Pool::create(eal, frames, config.buffer_bytes, node)?));
        }
        let mut ports = Vec::new();
        for (port, wanted) in found.into_iter().zip(wanted) {
            let pool = Arc::clone(&pools[&port.numa_node()]);
            ports.push(Arc::new(port.start(pool, config.workers).map_err(failed(&wanted.name))?));
        }
        let drivers = drivers(&ports, config.workers);
        Ok((Ports { ports: ports.into() }, drivers))
    }

    /// The ports in the order of the configuration, which is that of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().map(|port| &**port)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

impl std::ops::Index<millrace_fastpath::driver::PortId> for Ports {
    type Output = Port;

    fn index(&self, port: millrace_fastpath::driver::PortId) -> &Port {
        &self.ports[port.index()]
    }
}

/// As many as DPDK has numbers for.
pub const PORTS_MAX: usize = dpdk_sys::RTE_MAX_ETHPORTS as usize;

fn drivers(ports: &[Arc<Port>], workers: u16) -> Vec<DpdkDriver> {
    let outboxes: Vec<_> = ports.iter().map(|port| outboxes(port, workers)).collect();
    let lanes = |worker| {
        let pairs = ports.iter().zip(&outboxes);
        pairs.map(|(port, outboxes)| Lane::new(port, outboxes, worker)).collect()
    };
    (0..workers).map(|worker| DpdkDriver::new(lanes(worker))).collect()
}

//! All ports of the appliance: pools by NUMA node, queues by worker. They are opened together at start; later ones come and go
//! while workers run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_fastpath::driver::{PORTS_MAX, PortId};
use thiserror::Error;

use crate::driver::{Change, DpdkDriver, Exchange, Lane, outboxes};
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

/// The ports by their ids: the slowpath's view of them. Clones are the same ports.
#[derive(Clone, Debug)]
pub struct Ports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    eal: Eal,
    config: PortsConfig,
    /// `None` for one that was closed: ids aren't given out again, for frames under way may still name them.
    list: Mutex<Vec<Option<Arc<Port>>>>,
    /// By worker.
    exchanges: Box<[Arc<Exchange>]>,
    /// Lanes that workers were told to let go of and haven't yet given back.
    closing: AtomicUsize,
    /// Pools of ports that were closed. Frames of theirs may be anywhere, and who counts them while workers run may count
    /// one twice, so they stay for the life of the ports.
    retired: Mutex<Vec<Arc<Pool>>>,
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
    /// More ports than there are numbers for, those that were closed included, or no worker.
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
        let ports = start(eal, config, wanted)?;
        let exchanges: Box<[_]> = (0..config.workers).map(|_| Exchange::new()).collect();
        let mut lanes: Vec<Vec<Lane>> = exchanges.iter().map(|_| Vec::new()).collect();
        for port in &ports {
            for (lanes, lane) in lanes.iter_mut().zip(lanes_of(port, config.workers)) {
                lanes.push(lane);
            }
        }
        let drivers = lanes.into_iter().zip(&exchanges);
        let drivers =
            drivers.map(|(lanes, exchange)| DpdkDriver::new(lanes.into_iter(), Arc::clone(exchange)));
        let drivers = drivers.collect();
        let list = Mutex::new(ports.into_iter().map(Some).collect());
        let (eal, config, closing, retired) = (eal.clone(), *config, AtomicUsize::new(0), Mutex::default());
        Ok((Ports(Arc::new(Shared { eal, config, list, exchanges, closing, retired })), drivers))
    }

    /// Opens and starts further ports, all of them or none, while workers run. They have pools of their own. Nobody polls
    /// them before [`Opened::hand_out`].
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open_more(&self, wanted: &[PortConfig]) -> Result<Opened, OpenError> {
        self.check_more(wanted)?;
        Ok(Opened { owner: self.clone(), ports: start(&self.0.eal, &self.0.config, wanted)? })
    }

    /// Whether there are numbers for further ports, and none is a device that is open already. What else can be in their way
    /// shows when they are opened.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn check_more(&self, wanted: &[PortConfig]) -> Result<(), OpenError> {
        let count = self.list().len() + wanted.len();
        if count > PORTS_MAX {
            return Err(OpenError::Number { ports: count, workers: self.0.config.workers });
        }
        for port in wanted {
            // A device that DPDK knows already may be one that workers poll.
            let device = port.device.split(',').next().unwrap_or_default();
            if self.collect() > 0 || self.iter().any(|open| open.device() == device) {
                let source = PortError::InUse { device: device.to_owned() };
                return Err(OpenError::Port { name: port.name.clone(), source });
            }
        }
        Ok(())
    }

    /// Takes a port from the workers, who let go of it with the next tables; [`Ports::collect`] closes it.
    pub fn close(&self, id: PortId) {
        let Some(port) = self.list().get_mut(id.index()).and_then(Option::take) else { return };
        let mut retired = self.0.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(Arc::clone(port.shared_pool()));
        drop(retired);
        self.0.closing.fetch_add(self.0.exchanges.len(), Ordering::Relaxed);
        self.0.exchanges.iter().for_each(|exchange| exchange.tell(Change::Closed(id)));
    }

    /// Closes what all workers have let go of; how many times a worker hasn't yet.
    pub fn collect(&self) -> usize {
        for exchange in &self.0.exchanges {
            while exchange.take_closed().is_some() {
                self.0.closing.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.closing.load(Ordering::Relaxed)
    }

    /// A port that is open.
    pub fn get(&self, id: PortId) -> Option<Arc<Port>> {
        self.list().get(id.index())?.clone()
    }

    /// The open ports.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Port>> {
        let open: Vec<_> = self.list().iter().flatten().cloned().collect();
        open.into_iter()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Option<Arc<Port>>>> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ports that are started and not yet the workers'. Dropping it closes them again.
#[derive(Debug)]
pub struct Opened {
    owner: Ports,
    ports: Vec<Arc<Port>>,
}

impl Opened {
    /// The ports, in the order in which they were asked for.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().map(|port| &**port)
    }

    /// Gives them to the workers, who take them over with the next tables. Their ids follow those of before.
    pub fn hand_out(self) {
        let Shared { config, exchanges, .. } = &*self.owner.0;
        for port in self.ports {
            for (exchange, lane) in exchanges.iter().zip(lanes_of(&port, config.workers)) {
                exchange.tell(Change::Opened(lane));
            }
            self.owner.list().push(Some(port));
        }
    }
}

/// Finds all of them, makes their pools, starts them.
fn start(eal: &Eal, config: &PortsConfig, wanted: &[PortConfig]) -> Result<Vec<Arc<Port>>, OpenError> {
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
    Ok(ports)
}

/// Each worker's lane on a port.
fn lanes_of(port: &Arc<Port>, workers: u16) -> impl Iterator<Item = Lane> {
    let outboxes = outboxes(port, workers);
    (0..workers).map(move |worker| Lane::new(port, &outboxes, worker))
}

const _: () = assert!(PORTS_MAX <= dpdk_sys::RTE_MAX_ETHPORTS as usize, "DPDK has no numbers for more");

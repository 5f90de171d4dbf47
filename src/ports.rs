//! The ports of `millrace run`: those of its start, and those that reloads open and close.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millrace_config::model::{Config, Port};
use millrace_dpdk::{Opened, PortConfig, Ports};
use millrace_fastpath::driver::PortId;
use millrace_slowpath::PortInfo;
use millrace_slowpath::reload::{PortChange, PortSet};
use millrace_slowpath::telemetry::mac_text;
use millrace_slowpath::telemetry::rows::PortRow;
use tracing::warn;

/// The ports, and what the tables know of them.
#[derive(Clone)]
pub(crate) struct LivePorts {
    ports: Ports,
    /// By id; a port that was closed has no name.
    infos: Arc<Mutex<Vec<PortInfo>>>,
}

impl LivePorts {
    /// The ports that were opened for this configuration, in its order.
    pub(crate) fn new(ports: Ports, config: &Config) -> Self {
        let infos = config.ports.iter().zip(ports.iter()).map(|(port, opened)| info(port, opened.mac()));
        let infos = Arc::new(Mutex::new(infos.collect()));
        Self { ports, infos }
    }

    /// What the tables have to know of them, by id.
    pub(crate) fn infos(&self) -> Vec<PortInfo> {
        self.infos.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What operators see of them.
    pub(crate) fn rows(&self) -> Vec<PortRow> {
        self.ports.iter().map(|port| row(&port)).collect()
    }
}

impl PortSet for LivePorts {
    fn prepare(&self, config: &Config, dry_run: bool) -> Result<Box<dyn PortChange>, String> {
        let mut infos = self.infos();
        let missing = |port: &&Port| !infos.iter().any(|info| info.name == port.name.as_str());
        let new: Vec<&Port> = config.ports.iter().filter(missing).collect();
        let stays = |name: &str| config.ports.iter().any(|port| port.name.as_str() == name);
        let gone: Vec<PortId> = (0..infos.len())
            .filter(|at| !infos[*at].name.is_empty() && !stays(&infos[*at].name))
            .map(|at| PortId(at as u16))
            .collect();
        for id in &gone {
            infos[id.index()].name.clear();
        }
        let opened = match dry_run {
            true => None,
            false => {
                let wanted: Vec<PortConfig> = new.iter().map(|port| port_config(port)).collect();
                Some(self.ports.open_more(&wanted).map_err(|error| error.to_string())?)
            }
        };
        let macs: Vec<[u8; 6]> = opened.iter().flat_map(Opened::iter).map(millrace_dpdk::Port::mac).collect();
        let unknown = std::iter::repeat([0; 6]);
        infos.extend(new.into_iter().zip(macs.into_iter().chain(unknown)).map(|(port, mac)| info(port, mac)));
        Ok(Box::new(Change { live: self.clone(), infos, opened, gone }))
    }
}

/// What one reload opens and closes.
struct Change {
    live: LivePorts,
    infos: Vec<PortInfo>,
    opened: Option<Opened>,
    gone: Vec<PortId>,
}

impl PortChange for Change {
    fn ports(&self) -> Vec<PortInfo> {
        self.infos.clone()
    }

    fn hand_over(self: Box<Self>) -> Box<dyn FnOnce()> {
        let Self { live, infos, opened, gone } = *self;
        if let Some(opened) = opened {
            opened.hand_out();
        }
        for id in gone {
            live.ports.close(id);
        }
        *live.infos.lock().unwrap_or_else(PoisonError::into_inner) = infos;
        let ports = live.ports;
        Box::new(move || close(&ports))
    }
}

/// Closes devices as soon as all workers have let go of them. Workers wake nobody, so they are looked after.
fn close(ports: &Ports) {
    let begin = Instant::now();
    while ports.collect() > 0 {
        if begin.elapsed() > CLOSE_MAX {
            warn!("workers still have a port that was taken away; it is closed at a later reload");
            return;
        }
        thread::sleep(CLOSE_LOOK);
    }
}

/// How a port of the configuration is to be opened.
pub(crate) fn port_config(port: &Port) -> PortConfig {
    PortConfig {
        mtu_bytes: Some(port.mtu_bytes),
        ..PortConfig::new(port.name.as_str(), &port.device.to_string())
    }
}

fn info(port: &Port, mac: [u8; 6]) -> PortInfo {
    PortInfo { name: port.name.to_string(), mac, mtu_bytes: port.mtu_bytes }
}

fn row(port: &millrace_dpdk::Port) -> PortRow {
    let link = port.link();
    // A device that is gone counts nothing any more.
    let stats = port.stats().unwrap_or_default();
    PortRow {
        name: port.name().to_owned(),
        device: port.device().to_owned(),
        up: link.up,
        speed_mbps: link.speed_mbps,
        removed: port.is_removed(),
        mac: mac_text(port.mac()),
        rx_queues: port.rx_queues(),
        tx_queues: port.tx_queues(),
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        rx_missed: stats.rx_missed,
        rx_errors: stats.rx_errors,
        rx_no_buffer: stats.rx_no_buffer,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        tx_errors: stats.tx_errors,
        pool_free: port.pool().available() as u64,
    }
}

/// How long workers may take to see new tables: they look between two bursts.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How often is looked whether they have.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

//! The ports of `millrace run`: those of its start, and those that reloads open and close.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millrace_config::model::{Config, Port};
use millrace_dpdk::{LinkWatch, Opened, PortConfig, Ports};
use millrace_fastpath::driver::PortId;
use millrace_fastpath::shared::Shared;
use millrace_slowpath::PortInfo;
use millrace_slowpath::reload::{PortChange, PortSet};
use millrace_slowpath::telemetry::mac_text;
use millrace_slowpath::telemetry::rows::PortRow;
use tracing::{info, warn};

/// The ports, and what the tables know of them.
#[derive(Clone)]
pub(crate) struct LivePorts {
    ports: Ports,
    /// By id; a port that was closed has no name. A port's name is this one: a device keeps the one that it was opened by.
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

    /// Tells workers of links that go down and come up, as long as the watch is held.
    pub(crate) fn watch(&self, shared: &Arc<Shared>) -> std::io::Result<LinkWatch> {
        let (live, shared) = (self.clone(), Arc::clone(shared));
        LinkWatch::start(self.ports.clone(), move |id, _, up| {
            // Before all else: packets are lost meanwhile.
            shared.set_port_down(id, !up);
            let infos = live.infos();
            let port = infos.get(id.index()).map_or("", |info| info.name.as_str());
            match up {
                true => info!(port, "the link is up"),
                false => warn!(port, "the link is down"),
            }
        })
    }

    /// What operators see of them.
    pub(crate) fn rows(&self) -> Vec<PortRow> {
        let infos = self.infos();
        let row =
            |(at, info): (usize, &PortInfo)| Some(row(&info.name, &*self.ports.get(PortId(at as u16))?));
        infos.iter().enumerate().filter_map(row).collect()
    }
}

impl PortSet for LivePorts {
    fn prepare(
        &self,
        config: &Config,
        renamed: &[(&str, &str)],
        dry_run: bool,
    ) -> Result<Box<dyn PortChange>, String> {
        let mut infos = self.infos();
        for info in &mut infos {
            if let Some((_, name)) = renamed.iter().find(|(former, _)| *former == info.name) {
                (*name).clone_into(&mut info.name);
            }
        }
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
        let wanted: Vec<PortConfig> = new.iter().map(|port| port_config(port)).collect();
        let opened = match dry_run {
            true => self.ports.check_more(&wanted).map(|()| None),
            false => self.ports.open_more(&wanted).map(Some),
        };
        let opened = opened.map_err(|error| error.to_string())?;
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

fn row(name: &str, port: &millrace_dpdk::Port) -> PortRow {
    let link = port.link();
    // A device that is gone counts nothing any more.
    let stats = port.stats().unwrap_or_default();
    PortRow {
        name: name.to_owned(),
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use millrace_dpdk::{DpdkDriver, Eal, EalConfig, Hugepages, PortsConfig};
    use millrace_fastpath::driver::{Driver, PORTS_MAX};

    use super::*;

    /// Two ports and a worker's driver. Each test has devices of its own, from number `first` on.
    fn live(first: usize) -> (LivePorts, Vec<DpdkDriver>, Config) {
        static EAL: OnceLock<Eal> = OnceLock::new();
        let eal = EAL.get_or_init(|| {
            let memory_bytes = 64 << 20;
            let config = EalConfig { hugepages: Hugepages::Never, memory_bytes, ..EalConfig::default() };
            Eal::start(config).expect("the environment starts")
        });
        let config = file(&[("wan", device(first)), ("lan", device(first + 1))]);
        let wanted: Vec<PortConfig> = config.ports.iter().map(port_config).collect();
        let ports = PortsConfig { frames_per_port: 255, ..PortsConfig::default() };
        let (ports, drivers) = Ports::open(eal, &ports, &wanted).expect("the ports open");
        (LivePorts::new(ports, &config), drivers, config)
    }

    fn device(number: usize) -> String {
        format!("net_null{number}")
    }

    fn file(ports: &[(&str, String)]) -> Config {
        let port = |(at, (name, device)): (usize, &(&str, String))| {
            format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\naddresses = [\"10.{at}.0.1/24\"]\n")
        };
        let ports: String = ports.iter().enumerate().map(port).collect();
        let text = format!("schema_version = 1\n[site]\nname = \"here\"\n{ports}");
        Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}"))
    }

    fn names(live: &LivePorts) -> Vec<(String, String)> {
        live.rows().into_iter().map(|row| (row.name, row.device)).collect()
    }

    #[test]
    fn a_port_by_another_name_stays_open() {
        let (live, mut drivers, _) = live(0);
        let before = live.infos();
        let next = file(&[("wan", device(0)), ("inner", device(1))]);
        for dry_run in [true, false] {
            let change = live.prepare(&next, &[("lan", "inner")], dry_run).map_err(drop).unwrap();
            let infos = change.ports();
            assert_eq!((infos[1].name.as_str(), infos[1].mac, infos.len()), ("inner", before[1].mac, 2));
            assert_eq!(live.infos(), before, "nothing is handed over yet");
            if !dry_run {
                change.hand_over()();
            }
        }
        assert_eq!(names(&live), [("wan".to_owned(), device(0)), ("inner".to_owned(), device(1))]);
        drivers[0].renew();
        assert_eq!((drivers[0].ports(), live.ports.collect()), (2, 0), "workers don't notice");
        // By its new name it can go, and its device be had again when the workers have let go.
        let without = file(&[("wan", device(0))]);
        let change = live.prepare(&without, &[], false).map_err(drop).unwrap();
        let close = change.hand_over();
        drivers[0].renew();
        close();
        assert_eq!(names(&live), [("wan".to_owned(), device(0))]);
        let again = file(&[("wan", device(0)), ("lan", device(1))]);
        live.prepare(&again, &[], false).map_err(drop).unwrap().hand_over()();
        assert_eq!(names(&live), [("wan".to_owned(), device(0)), ("lan".to_owned(), device(1))]);
    }

    #[test]
    fn a_device_that_is_in_use_is_told_and_changes_nothing() {
        let (live, mut drivers, _) = live(2);
        let before = (live.infos(), names(&live));
        // The same device by other words is another port, and can't be opened while the first has it.
        let next = file(&[("wan", device(2)), ("inner", format!("{},size=128", device(3)))]);
        for dry_run in [true, false] {
            let told = live.prepare(&next, &[], dry_run).map(drop).unwrap_err();
            assert_eq!(told, "port \"inner\": net_null3 is in use by another port");
            assert_eq!((live.infos(), names(&live)), before);
        }
        drivers[0].renew();
        assert_eq!(drivers[0].ports(), 2);
    }

    #[test]
    fn ports_for_which_there_are_no_numbers_are_found_in_a_dry_run_too() {
        let (live, _drivers, _) = live(4);
        let more: Vec<String> = (0..PORTS_MAX - 1).map(|at| format!("p{at}")).collect();
        let late = |at: usize| device(100 + at);
        let mut wanted = vec![("wan", device(4))];
        wanted.extend(more.iter().enumerate().map(|(at, name)| (name.as_str(), late(at))));
        // As many as a file may have; but the one that goes has had a number.
        for dry_run in [true, false] {
            let told = live.prepare(&file(&wanted), &[], dry_run).map(drop).unwrap_err();
            assert!(told.starts_with("33 ports and 1 workers are outside the limits"), "{told}");
        }
        wanted.pop();
        assert!(live.prepare(&file(&wanted), &[], true).is_ok());
    }
}

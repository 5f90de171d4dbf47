//! One port: a device found, set up, started; what the slowpath asks about it.

use std::ffi::{CString, c_int};
use std::path::Path;
use std::sync::Arc;

use dpdk_sys::{rte_eth_stats, rte_ether_addr, shim_device};
use millrace_fastpath::driver::PortCapabilities;
use thiserror::Error;

use crate::device::Device;
use crate::eal::{Eal, describe};
use crate::kernel::{Interface, missing_capabilities};
use crate::pool::Pool;
use crate::xdp_sockets::XdpSockets;

/// What the operator says about a port.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its name in the configuration.
    pub name: String,
    /// A PCI address (which also stands in [`crate::EalConfig::pci_devices`]), or a virtual device with its arguments.
    pub device: String,
    /// The MTU to set, in bytes of IP; `None` leaves the device's.
    pub mtu_bytes: Option<u16>,
    /// Whether frames to other MAC addresses are wanted too.
    pub promiscuous: bool,
}

impl PortConfig {
    /// A port with the device's own MTU that takes its own frames only.
    pub fn new(name: &str, device: &str) -> PortConfig {
        PortConfig { name: name.to_owned(), device: device.to_owned(), mtu_bytes: None, promiscuous: false }
    }
}

/// A started port. It is stopped and closed when its last holder is dropped; workers' drivers hold it too.
#[derive(Debug)]
pub struct Port {
    name: String,
    device: Device,
    id: u16,
    mac: [u8; 6],
    capabilities: PortCapabilities,
    rx_queues: u16,
    tx_queues: u16,
    interface: Option<Interface>,
    /// The device itself; before the pool, for it is closed while that is there.
    _attached: Attached,
    pool: Arc<Pool>,
}

/// State of a port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Link {
    /// Whether frames can pass.
    pub up: bool,
    /// Its speed in Mbit/s, where the device knows it.
    pub speed_mbps: Option<u32>,
}

/// The device's own counters since it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that came while no descriptor was free.
    pub rx_missed: u64,
    /// Frames that came broken.
    pub rx_errors: u64,
    /// Frames lost because the pool was empty.
    pub rx_no_buffer: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device took and could not send. Some drivers (`net_af_xdp`) count here what they refused as well, which the
    /// worker counts too.
    pub tx_errors: u64,
}

/// Why a port can't be had.
#[derive(Debug, Error)]
pub enum PortError {
    /// Neither a PCI address nor a virtual device.
    #[error("{text:?} is neither a PCI address (0000:3b:00.0) nor a virtual device (net_af_xdp0,iface=wan)")]
    BadDevice {
        /// The text given.
        text: String,
    },
    /// No such PCI device in this machine.
    #[error("there is no PCI device {device} in this machine")]
    NotFound {
        /// Its address.
        device: String,
    },
    /// A PCI device that DPDK can't take.
    #[error("no DPDK driver took {device}: bind it to vfio-pci (dpdk-devbind.py --bind=vfio-pci {device})")]
    NotBound {
        /// Its address.
        device: String,
    },
    /// DPDK has no driver of that name.
    #[error("DPDK has no driver for {device}: check the name, or install the package that holds its driver")]
    DriverMissing {
        /// The device's name.
        device: String,
    },
    /// The kernel interface that the port should attach to isn't there.
    #[error("{device} wants the interface {interface:?}, which doesn't exist here")]
    NoInterface {
        /// The device's name.
        device: String,
        /// The interface's name.
        interface: String,
    },
    /// A kernel-backed device that names no interface.
    #[error("{device} has to name its interface: {device},iface=NAME")]
    InterfaceUnnamed {
        /// The device's name.
        device: String,
    },
    /// The process may not do what the device needs.
    #[error("{device} needs rights that this process hasn't got: {missing} (run as root, or grant them)")]
    NotPermitted {
        /// The device's name.
        device: String,
        /// Names of capabilities, comma-separated.
        missing: String,
    },
    /// Another port of this process has the same device.
    #[error("{device} is in use by another port")]
    InUse {
        /// The device's name.
        device: String,
    },
    /// The device refused something; its driver's own message is on the standard error output.
    #[error("{device} refused {step}: {reason}")]
    Refused {
        /// The device's name.
        device: String,
        /// What was asked of it.
        step: &'static str,
        /// What the error number means.
        reason: String,
    },
}

impl Port {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's name: a PCI address, or the first part of the device string.
    pub fn device(&self) -> &str {
        self.device.name()
    }

    /// Its MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// What the device can do, as asked at start.
    pub fn capabilities(&self) -> &PortCapabilities {
        &self.capabilities
    }

    /// Receive queues in use. Workers beyond them receive nothing from this port.
    pub fn rx_queues(&self) -> u16 {
        self.rx_queues
    }

    /// Transmit queues in use. Workers beyond them send through those that have one.
    pub fn tx_queues(&self) -> u16 {
        self.tx_queues
    }

    /// The pool that it receives into.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The link's state now. Kernel-backed devices always call their link up, so theirs is the interface's.
    pub fn link(&self) -> Link {
        let (mut up, mut speed) = (0, 0);
        // SAFETY: the port is there, and both pointers are to locals.
        let status = unsafe { dpdk_sys::shim_link(self.id, &raw mut up, &raw mut speed) };
        let running = self.interface.as_ref().is_none_or(Interface::is_running);
        Link {
            up: status == 0 && up != 0 && running,
            speed_mbps: (status == 0 && speed != 0).then_some(speed),
        }
    }

    /// Whether an interface of the kernel is behind it, which tells of its link by itself.
    pub(crate) fn is_kernel_backed(&self) -> bool {
        self.interface.is_some()
    }

    /// Whether the device has vanished: unplugged, or its kernel interface deleted. It doesn't come back under this port.
    pub fn is_removed(&self) -> bool {
        match &self.interface {
            Some(interface) => interface.is_removed(),
            // SAFETY: the port is there.
            None => unsafe { dpdk_sys::rte_eth_dev_is_removed(self.id) == 1 },
        }
    }

    /// The device's counters now.
    ///
    /// # Errors
    /// [`PortError::Refused`] when the device has none, or is gone.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut stats = rte_eth_stats::default();
        // SAFETY: the port is there, and the pointer is to a local.
        check(&self.device, "its counters", unsafe { dpdk_sys::rte_eth_stats_get(self.id, &raw mut stats) })?;
        Ok(PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_buffer: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }

    /// DPDK's number of the port.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn shared_pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

/// A port whose device has been found but not set up.
#[derive(Debug)]
pub(crate) struct FoundPort {
    config: PortConfig,
    device: Device,
    about: shim_device,
    interface: Option<Interface>,
    attached: Attached,
}

impl FoundPort {
    /// Finds the device, and makes it if it is a virtual one.
    pub(crate) fn find(eal: &Eal, config: &PortConfig) -> Result<FoundPort, PortError> {
        let device = Device::parse(&config.device)
            .ok_or_else(|| PortError::BadDevice { text: config.device.clone() })?;
        let interface = check_needs(&device)?;
        let attached = Attached::attach(eal, &device)?;
        let mut about = shim_device::default();
        // SAFETY: the port is there, and the pointer is to a local.
        let status = unsafe { dpdk_sys::shim_device_describe(attached.id, &raw mut about) };
        check(&device, "to describe itself", status)?;
        Ok(FoundPort { config: config.clone(), device, about, interface, attached })
    }

    /// The NUMA node that the device is on.
    pub(crate) fn numa_node(&self) -> Option<u16> {
        u16::try_from(self.about.numa_node).ok()
    }

    /// Sets the port up with a queue in each direction per worker, as far as the device has them, and starts it.
    pub(crate) fn start(self, pool: Arc<Pool>, workers: u16) -> Result<Port, PortError> {
        let FoundPort { config, device, about, interface, mut attached } = self;
        let id = attached.id;
        // Others have been started since it was found; sockets are opened from here on.
        attached.sockets_before = XdpSockets::open();
        let rx_queues = about.rx_queues_max.min(workers);
        let tx_queues = about.tx_queues_max.min(workers);
        let rx_offloads = about.rx_offloads & dpdk_sys::SHIM_RX_OFFLOAD_CHECKSUMS;
        let tx_offloads = about.tx_offloads & dpdk_sys::SHIM_TX_OFFLOAD_MULTI_SEGS;
        let rss_types = if rx_queues > 1 { about.rss_types } else { 0 };
        let status =
            // SAFETY: the port is there and not started.
            unsafe { dpdk_sys::shim_port_configure(id, rx_queues, tx_queues, rx_offloads, tx_offloads, rss_types) };
        check(&device, "its configuration", status)?;
        if let Some(mtu) = config.mtu_bytes {
            // SAFETY: as above.
            check(&device, "the MTU", unsafe { dpdk_sys::rte_eth_dev_set_mtu(id, mtu) })?;
        }
        // No number of descriptors means the driver's own default, no node any.
        let node = about.numa_node as i32 as u32;
        for queue in 0..rx_queues {
            let (conf, frames) = (std::ptr::null(), pool.as_ptr());
            // SAFETY: the port is configured; the pool lives as long as the port.
            let status = unsafe { dpdk_sys::rte_eth_rx_queue_setup(id, queue, 0, node, conf, frames) };
            check(&device, "a receive queue", status)?;
        }
        for queue in 0..tx_queues {
            // SAFETY: the port is configured.
            let status = unsafe { dpdk_sys::rte_eth_tx_queue_setup(id, queue, 0, node, std::ptr::null()) };
            check(&device, "a transmit queue", status)?;
        }
        // SAFETY: the port is configured, and all of its queues are set up.
        check(&device, "to start", unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        attached.started = true;
        attached.sockets = attached.sockets_opened();
        set_promiscuous(&device, id, config.promiscuous);
        take_multicast(&device, id);
        let mut mac = rte_ether_addr::default();
        // SAFETY: the port is there, and the pointer is to a local.
        check(&device, "its address", unsafe { dpdk_sys::rte_eth_macaddr_get(id, &raw mut mac) })?;
        let capabilities = PortCapabilities {
            multi_segment_tx: tx_offloads != 0,
            rx_checksums: rx_offloads == dpdk_sys::SHIM_RX_OFFLOAD_CHECKSUMS,
            rx_queues_max: about.rx_queues_max,
        };
        Ok(Port {
            name: config.name,
            device,
            id,
            mac: mac.addr_bytes,
            capabilities,
            rx_queues,
            tx_queues,
            interface,
            pool,
            _attached: attached,
        })
    }
}

/// A device in DPDK's table of ports; stopped and closed when dropped.
#[derive(Debug)]
struct Attached {
    id: u16,
    /// The name to remove a virtual device by.
    made: Option<CString>,
    started: bool,
    /// Those of the process before it opened its own, and its own once it is started.
    sockets_before: XdpSockets,
    sockets: XdpSockets,
    _eal: Eal,
}

impl Attached {
    fn attach(eal: &Eal, device: &Device) -> Result<Attached, PortError> {
        let in_device = |_| PortError::BadDevice { text: device.to_string() };
        let name = CString::new(device.name()).map_err(in_device)?;
        let known = || {
            let mut id = 0;
            // SAFETY: the name ends in zero, and the pointer is to a local.
            let status = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
            (status == 0).then_some(id)
        };
        let made = match device {
            // Started with it or not: bound to DPDK's driver meanwhile, it can be taken too.
            Device::Pci(_) => {
                if known().is_none() {
                    // SAFETY: the environment runs, and the name ends in zero; DPDK copies it.
                    let status = unsafe { dpdk_sys::rte_dev_probe(name.as_ptr()) };
                    tracing::debug!(%device, status, "looked for a device that wasn't there at start");
                }
                None
            }
            Device::Virtual { .. } if known().is_some() => {
                return Err(PortError::InUse { device: device.to_string() });
            }
            Device::Virtual { arguments, .. } => {
                let arguments = CString::new(arguments.as_str()).map_err(in_device)?;
                // SAFETY: the environment runs, and both strings end in zero; DPDK copies them.
                let status = unsafe { dpdk_sys::rte_vdev_init(name.as_ptr(), arguments.as_ptr()) };
                if status < 0 && device.driver().is_none() {
                    return Err(PortError::DriverMissing { device: device.to_string() });
                }
                check(device, "to be made", status)?;
                Some(name.clone())
            }
        };
        match known() {
            Some(id) => {
                let (sockets_before, sockets) = (XdpSockets::open(), XdpSockets::default());
                Ok(Attached { id, made, started: false, sockets_before, sockets, _eal: eal.clone() })
            }
            None if Path::new("/sys/bus/pci/devices").join(device.name()).exists() => {
                Err(PortError::NotBound { device: device.to_string() })
            }
            None => Err(PortError::NotFound { device: device.to_string() }),
        }
    }
}

impl Attached {
    /// What it has opened so far, while it is the last that is being started.
    fn sockets_opened(&self) -> XdpSockets {
        XdpSockets::open().since(&self.sockets_before)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let sockets = if self.started { std::mem::take(&mut self.sockets) } else { self.sockets_opened() };
        let mut status = 0;
        if self.started {
            // SAFETY: the port is there, and nobody polls it: workers' drivers hold it, and we are its last holder.
            status = unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        }
        // A virtual device is closed by its removal.
        let closed = match &self.made {
            // SAFETY: made by this name; the port is stopped.
            Some(name) => unsafe { dpdk_sys::rte_vdev_uninit(name.as_ptr()) },
            // SAFETY: the port is there and stopped.
            None => unsafe { dpdk_sys::rte_eth_dev_close(self.id) },
        };
        if status != 0 || closed != 0 {
            tracing::debug!(port = self.id, status, closed, "a device didn't close cleanly");
        }
        sockets.close();
    }
}

/// Checks what a virtual device stands on before its driver does, whose own messages are less clear.
fn check_needs(device: &Device) -> Result<Option<Interface>, PortError> {
    let Some(driver) = device.driver() else { return Ok(None) };
    let missing = missing_capabilities(driver.needs);
    if !missing.is_empty() {
        return Err(PortError::NotPermitted { device: device.to_string(), missing: missing.join(", ") });
    }
    let Some(name) = device.interface() else {
        let attaches = matches!(driver.prefix, "net_af_packet" | "net_af_xdp");
        return if attaches {
            Err(PortError::InterfaceUnnamed { device: device.to_string() })
        } else {
            Ok(None)
        };
    };
    Interface::find(name)
        .map(Some)
        .map_err(|_| PortError::NoInterface { device: device.to_string(), interface: name.to_owned() })
}

/// Streams that enter BIER, what hosts say of their groups, and neighbour discovery go to groups, which devices filter out.
fn take_multicast(device: &Device, id: u16) {
    // SAFETY: the port is there.
    let status = unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) };
    // As below.
    if status != 0 && status != -libc::ENOTSUP {
        tracing::warn!(%device, reason = describe(status), "frames to groups may not be taken");
    }
}

fn set_promiscuous(device: &Device, id: u16, wanted: bool) {
    // SAFETY: the port is there.
    let enable = || unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) };
    // SAFETY: as above.
    let disable = || unsafe { dpdk_sys::rte_eth_promiscuous_disable(id) };
    let status = if wanted { enable() } else { disable() };
    // Devices without addresses, such as net_ring, have no such mode and take every frame.
    if status != 0 && status != -libc::ENOTSUP {
        tracing::warn!(%device, wanted, reason = describe(status), "promiscuous mode can't be set");
    }
}

fn check(device: &Device, step: &'static str, status: c_int) -> Result<(), PortError> {
    match status {
        0 => Ok(()),
        _ => Err(PortError::Refused { device: device.to_string(), step, reason: describe(status) }),
    }
}

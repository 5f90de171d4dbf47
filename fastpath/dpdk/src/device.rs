//! Device strings: a PCI address, or the name and arguments of a virtual device.

use std::fmt;

use rustix::thread::CapabilitySet;

/// A parsed device string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// `0000:3b:00.0`, in full.
    Pci(String),
    /// `net_af_xdp0,iface=wan`: name, and what follows the first comma.
    Virtual { name: String, arguments: String },
}

impl Device {
    /// Reads a device string; `None` when it is neither form.
    pub(crate) fn parse(text: &str) -> Option<Device> {
        if let Some(address) = pci_address(text) {
            return Some(Device::Pci(address));
        }
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        let fits = name.starts_with("net_")
            && name.len() < NAME_MAX
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !text.contains('\0');
        fits.then(|| Device::Virtual { name: name.to_owned(), arguments: arguments.to_owned() })
    }

    /// The name that DPDK files the port under.
    pub(crate) fn name(&self) -> &str {
        match self {
            Device::Pci(name) | Device::Virtual { name, .. } => name,
        }
    }

    /// The kernel interface that the device is attached to, where it is attached to one.
    pub(crate) fn interface(&self) -> Option<&str> {
        let Device::Virtual { arguments, .. } = self else { return None };
        let attaches = matches!(self.driver()?.prefix, "net_af_packet" | "net_af_xdp");
        attaches.then(|| arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))).flatten()
    }

    /// The kind of a virtual device; `None` for PCI devices and for kinds that we don't know.
    pub(crate) fn driver(&self) -> Option<&'static VirtualDriver> {
        let Device::Virtual { name, .. } = self else { return None };
        VIRTUAL_DRIVERS.iter().find(|driver| name.starts_with(driver.prefix))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A kind of virtual device that ports are known to work on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VirtualDriver {
    /// What its devices' names begin with.
    pub(crate) prefix: &'static str,
    /// Rights without which it fails.
    pub(crate) needs: CapabilitySet,
}

/// Rights as found by trying each driver as an ordinary user.
const VIRTUAL_DRIVERS: &[VirtualDriver] = &[
    VirtualDriver { prefix: "net_af_packet", needs: CapabilitySet::NET_RAW.union(CapabilitySet::NET_ADMIN) },
    VirtualDriver {
        prefix: "net_af_xdp",
        needs: CapabilitySet::NET_RAW
            .union(CapabilitySet::NET_ADMIN)
            .union(CapabilitySet::SYS_ADMIN)
            .union(CapabilitySet::IPC_LOCK),
    },
    VirtualDriver { prefix: "net_tap", needs: CapabilitySet::NET_ADMIN },
    VirtualDriver { prefix: "net_pcap", needs: CapabilitySet::empty() },
    VirtualDriver { prefix: "net_ring", needs: CapabilitySet::empty() },
    VirtualDriver { prefix: "net_null", needs: CapabilitySet::empty() },
    VirtualDriver { prefix: "net_memif", needs: CapabilitySet::empty() },
];

/// One more than the longest name of a device (`RTE_DEV_NAME_MAX_LEN`).
const NAME_MAX: usize = 64;

/// `[domain:]bus:device.function` with the domain filled in and in lower case.
pub(crate) fn pci_address(text: &str) -> Option<String> {
    let (domain, rest) = match text.split(':').count() {
        2 => ("0000", text),
        3 => text.split_once(':')?,
        _ => return None,
    };
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits =
        hex(domain, 4) && hex(bus, 2) && hex(device, 2) && matches!(function.as_bytes(), [b'0'..=b'7']);
    fits.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(Device::parse("3B:00.1"), Some(Device::Pci("0000:3b:00.1".to_owned())));
        assert_eq!(Device::parse("0001:3b:1f.0"), Some(Device::Pci("0001:3b:1f.0".to_owned())));
        let device = Device::parse("net_af_xdp0,start_queue=1,iface=wan").unwrap();
        assert_eq!(device.name(), "net_af_xdp0");
        assert_eq!(device.interface(), Some("wan"));
        assert_eq!(device.driver().map(|driver| driver.prefix), Some("net_af_xdp"));
    }

    #[test]
    fn an_interface_belongs_to_kernel_backed_devices_only() {
        assert_eq!(Device::parse("net_tap0,iface=tap0").unwrap().interface(), None);
        assert_eq!(Device::parse("net_ring0").unwrap().interface(), None);
        assert_eq!(Device::parse("net_unheard_of0").unwrap().driver(), None);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "eth0",
            "3b:00",
            "3b:00.8",
            "00003b:00.0",
            "0:3b:00.0",
            "net_ring0\0",
            "net_ring 0",
            "net_r\u{e9}0",
        ] {
            assert_eq!(Device::parse(text), None, "{text:?}");
        }
        assert_eq!(Device::parse(&format!("net_{}", "x".repeat(NAME_MAX))), None);
    }
}

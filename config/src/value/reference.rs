//! References to what lies outside the file: devices, secrets, endpoints.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::ValueError;
use super::port::socket;

/// What drives a port: any device that DPDK knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// A device on the PCI bus, by its full address `domain:bus:device.function`.
    Pci(String),
    /// A virtual device.
    Vdev {
        /// Driver and instance, as in `net_af_xdp0`.
        driver: String,
        /// What follows the first comma, as in `iface=wan`; may be empty.
        args: String,
    },
}

/// A secret or certificate, by where it is kept. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// A file; a relative path begins at the folder of the configuration file.
    File(PathBuf),
}

/// Where a gRPC peer is reached: `https://orchestrator.example:7443`, or `http://` for plain text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether the peer is spoken to by TLS.
    pub tls: bool,
    /// Name or address of the host, an IPv6 address without its brackets.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

impl Device {
    /// The name that DPDK gives the device: the PCI address, or the vdev's driver and instance.
    pub fn name(&self) -> &str {
        match self {
            Self::Pci(address) => address,
            Self::Vdev { driver, .. } => driver,
        }
    }

    /// The value of one of a vdev's arguments, as in `iface`.
    pub fn arg(&self, key: &str) -> Option<&str> {
        match self {
            Self::Pci(_) => None,
            Self::Vdev { args, .. } => {
                args.split(',').find_map(|arg| arg.strip_prefix(key)?.strip_prefix('='))
            }
        }
    }
}

impl Endpoint {
    /// Whether the host is this one, so that plain text doesn't leave it.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|addr| addr.is_loopback())
    }
}

impl FromStr for Device {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let example = "write a PCI address such as `0000:3b:00.0`, or a vdev such as `net_af_xdp0,iface=wan`";
        if is_pci(text) {
            return Ok(Self::Pci(text.to_ascii_lowercase()));
        }
        if is_pci(&format!("0000:{text}")) {
            return Err(ValueError::new("the PCI domain is missing", format!("write `0000:{text}`")));
        }
        let (driver, args) = text.split_once(',').unwrap_or((text, ""));
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !driver.starts_with("net_") && !driver.starts_with("eth_") || !driver.chars().all(word) {
            return Err(ValueError::new("not a device", example));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ValueError::new("blanks can't stand in a vdev's arguments", example));
        }
        Ok(Self::Vdev { driver: driver.into(), args: args.into() })
    }
}

fn is_pci(text: &str) -> bool {
    let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = text.splitn(3, ':');
    let (Some(domain), Some(bus), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((device, function)) = rest.split_once('.') else { return false };
    hex(domain, 4) && hex(bus, 2) && hex(device, 2) && matches!(function.as_bytes(), [b'0'..=b'7'])
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong =
            || ValueError::new("not an endpoint", "write it as in `https://orchestrator.example:7443`");
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        if let Ok(addr) = socket(rest) {
            return Ok(Self { tls, host: addr.ip().to_string(), port: addr.port() });
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if host.is_empty() || !host.chars().all(letters) || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self { tls, host: host.into(), port }),
            _ => Err(ValueError::new("the port's number isn't one", "a port is between 1 and 65535")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => f.write_str(address),
            Self::Vdev { driver, args } if args.is_empty() => f.write_str(driver),
            Self::Vdev { driver, args } => write!(f, "{driver},{args}"),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_pci_or_vdev() {
        assert_eq!("0000:3B:00.0".parse(), Ok(Device::Pci("0000:3b:00.0".into())));
        let vdev: Device = "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap".parse().unwrap();
        assert_eq!(
            (vdev.name(), vdev.arg("tx_pcap"), vdev.arg("iface")),
            ("net_pcap0", Some("out.pcap"), None)
        );
        assert_eq!(vdev.to_string(), "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap");
        for wrong in ["", "eth0", "wan", "3b:00.0", "0000:3b:00.9", "0:0:0.0", "net_ring0, x", "net_ring0\n"]
        {
            assert!(wrong.parse::<Device>().is_err(), "{wrong:?}");
        }
        assert_eq!("3b:00.0".parse::<Device>().unwrap_err().hint, "write `0000:3b:00.0`");
    }

    #[test]
    fn endpoints_have_scheme_host_and_port() {
        let far: Endpoint = "https://orchestrator.example:7443".parse().unwrap();
        assert!(far.tls && !far.is_loopback());
        let near: Endpoint = "http://[::1]:7443".parse().unwrap();
        assert!(!near.tls && near.is_loopback() && near.to_string() == "http://[::1]:7443");
        for wrong in [
            "orchestrator:7443",
            "https://host",
            "https://host:0",
            "https://:1",
            "ftp://host:1",
            "https://host:1/x",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}

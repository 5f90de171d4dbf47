//! The configuration of the appliance under test, written as the operator would write it.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::lab::Identity;

use super::{DNS, Shape};

/// The function and service that show whether a serving node is there.
pub(super) const BEACON: &str = "beacon";
/// The beacon's number, beyond those of services under test.
const BEACON_NUMBER: u16 = 4000;

/// Which DPDK driver carries the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `net_af_xdp`.
    AfXdp,
    /// `net_af_packet`, where the kernel refuses XDP.
    AfPacket,
}

impl Driver {
    fn device(self, index: usize, interface: &str) -> String {
        match self {
            Driver::AfXdp => format!("net_af_xdp{index},iface={interface}"),
            Driver::AfPacket => format!("net_af_packet{index},iface={interface}"),
        }
    }
}

/// A function's code under a name.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The component.
    pub component: PathBuf,
    keys: Vec<(String, String)>,
}

impl Function {
    /// A function from a component.
    #[must_use]
    pub fn new(name: &str, component: impl Into<PathBuf>) -> Self {
        Function { name: name.to_owned(), component: component.into(), keys: Vec::new() }
    }

    /// Sets a key to a TOML value.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        set(&mut self.keys, key, value);
        self
    }
}

/// A service; it listens on TCP port 80, unless `ports` says otherwise.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name; its DNS name is the same below `fn.example.`
    pub name: String,
    /// Its address, IPv4.
    pub v4: String,
    /// Its address, IPv6.
    pub v6: String,
    keys: Vec<(String, String)>,
}

impl Service {
    /// The service with this number, leading to a function: `NAME.fn.example.`, 198.18.x.y, 2001:db8:f::n.
    #[must_use]
    pub fn new(name: &str, number: u16, function: &str) -> Self {
        let service = Self::without_function(name, number);
        service.set("function", &quoted(function))
    }

    /// The service with this number, with fixed backends (a TOML list) and no function.
    #[must_use]
    pub fn of_backends(name: &str, number: u16, backends: &str) -> Self {
        Self::without_function(name, number).set("backends", backends)
    }

    fn without_function(name: &str, number: u16) -> Self {
        let (high, low) = (number / 250, number % 250 + 1);
        Service {
            name: name.to_owned(),
            v4: format!("198.18.{high}.{low}"),
            v6: format!("2001:db8:f::{:x}", number + 1),
            keys: Vec::new(),
        }
        .set("ports", "[\"tcp/80\"]")
    }

    /// Sets a key to a TOML value.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        set(&mut self.keys, key, value);
        self
    }

    /// Its DNS name, with the final dot.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.fn.example.", self.name)
    }

    /// The URL of its root by name.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}.fn.example/", self.name)
    }
}

/// How appliance, orchestrator and serving node find each other.
#[derive(Debug, Clone)]
pub enum Link {
    /// The orchestrator runs inside the appliance.
    Embedded,
    /// The orchestrator is a process of its own, at this endpoint; with the appliance's identity and the authority.
    Grpc {
        /// Where it listens.
        endpoint: String,
    },
}

/// One appliance's configuration.
#[derive(Debug, Clone)]
pub struct Site {
    /// The driver of its ports.
    pub driver: Driver,
    /// `auto`, `require` or `never`.
    pub hugepages: &'static str,
    /// Whether there is the third port, towards the upstream name server.
    pub upstream_port: bool,
    /// Its functions.
    pub functions: Vec<Function>,
    /// Its services.
    pub services: Vec<Service>,
    /// Lines of `[limits]`.
    pub limits: Vec<(String, String)>,
    /// How it reaches the orchestrator.
    pub link: Link,
    /// The level of its log.
    pub log: &'static str,
}

impl Default for Site {
    fn default() -> Self {
        Site {
            driver: Driver::AfXdp,
            hugepages: "auto",
            upstream_port: true,
            functions: Vec::new(),
            services: Vec::new(),
            limits: Vec::new(),
            link: Link::Embedded,
            log: "info",
        }
    }
}

/// What the rendered file has to name of the lab.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) shape: Shape,
    pub(super) instances: [&'a str; 2],
    pub(super) socket: &'a std::path::Path,
    pub(super) identity: &'a Identity,
    pub(super) authority: &'a std::path::Path,
}

impl Site {
    /// A site with these functions and services and nothing special, but for a beacon: a function that is kept running,
    /// so that it shows when a serving node has registered. It is never asked, hence never woken.
    #[must_use]
    pub fn new(mut functions: Vec<Function>, mut services: Vec<Service>) -> Self {
        if let Some(first) = functions.first() {
            let beacon = Function { name: BEACON.to_owned(), ..first.clone() };
            functions.push(beacon.set("instances", "{ min = 1, max = 1 }"));
            services.push(Service::new(BEACON, BEACON_NUMBER, BEACON));
        }
        Site { functions, services, ..Site::default() }
    }

    /// Sets a line of `[limits]`.
    #[must_use]
    pub fn limit(mut self, key: &str, value: u64) -> Self {
        set(&mut self.limits, key, &value.to_string());
        self
    }

    pub(super) fn render(&self, place: &Place<'_>) -> String {
        let mut text = String::from("schema_version = 1\n\n[site]\nname = \"edge-lab\"\n\n");
        self.render_ports(&mut text, place.shape);
        let listen: Vec<_> = DNS.iter().map(|address| quoted(address)).collect();
        let _ = writeln!(
            text,
            "[dns]\nlisten = [{}]\nintercept = true\ncookies = true\n\n[[dns.zone]]\nname = \"fn.example.\"\n\
             soa = {{ primary = \"ns1.fn.example.\", contact = \"ops.fn.example.\", serial = 1, \
             minimum_ttl_seconds = 5 }}\nttl_seconds = 30\ncold_ttl_seconds = 1\nrecords = [\n  \
             {{ name = \"@\", type = \"NS\", data = \"ns1.fn.example.\" }},\n  \
             {{ name = \"ns1\", type = \"A\", data = \"192.0.2.53\" }},\n  \
             {{ name = \"note\", type = \"TXT\", data = \"an edge in a lab\" }},\n  \
             {{ name = \"alias\", type = \"CNAME\", data = \"ns1\" }},\n  \
             {{ name = \"*.wild\", type = \"A\", data = \"192.0.2.77\" }},\n  \
             {{ name = \"note\", type = \"HTTPS\", data = \"1 . alpn=h2\" }},\n  \
             {{ name = \"long\", type = \"TXT\", data = \"{}\" }},\n]\n",
            listen.join(", "),
            // Longer than any answer over UDP: this one has to come over TCP.
            "long ".repeat(400)
        );
        for function in &self.functions {
            let component = function.component.display();
            let _ = writeln!(text, "[[function]]\nname = {}", quoted(&function.name));
            let _ = writeln!(text, "component = {}", quoted(&component.to_string()));
            render_keys(&mut text, &function.keys);
        }
        for service in &self.services {
            let _ = writeln!(
                text,
                "[[service]]\nname = {}\nnames = [{}]\naddress = [{}, {}]",
                quoted(&service.name),
                quoted(&service.dns_name()),
                quoted(&service.v4),
                quoted(&service.v6)
            );
            render_keys(&mut text, &service.keys);
        }
        if !self.limits.is_empty() {
            text.push_str("[limits]\n");
            render_keys(&mut text, &self.limits);
        }
        self.render_orchestrator(&mut text, place);
        let _ = writeln!(
            text,
            "[telemetry]\nmetrics_listen = \"127.0.0.1:9464\"\ncontrol_socket = {}\nlog = {}",
            quoted(&place.socket.display().to_string()),
            quoted(self.log)
        );
        text
    }

    fn render_ports(&self, text: &mut String, shape: Shape) {
        // Small pools: two ports with the default 16,384 frames would not fit the ordinary pages of `hugepages = "never"`.
        let _ = writeln!(text, "[memory]\nhugepages = \"{}\"\nframes_per_port = 8191\n", self.hugepages);
        let mut ports = vec![("wan", "\"192.0.2.1/24\", \"2001:db8::1/64\"")];
        if shape == Shape::TwoPort {
            ports.push(("lan", "\"198.51.100.1/24\", \"2001:db8:1::1/64\""));
        }
        if self.upstream_port {
            ports.push(("upstream", "\"172.16.53.1/24\", \"2001:db8:2::1/64\""));
        }
        for (index, (name, addresses)) in ports.into_iter().enumerate() {
            let device = quoted(&self.driver.device(index, name));
            let _ =
                writeln!(text, "[[port]]\nname = \"{name}\"\ndevice = {device}\naddresses = [{addresses}]\n");
        }
        text.push_str("[[route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.2\"\n\n");
    }

    fn render_orchestrator(&self, text: &mut String, place: &Place<'_>) {
        text.push_str("[orchestrator]\n");
        match &self.link {
            Link::Embedded => {
                let _ = writeln!(text, "kind = \"embedded\"\nlisten = \"{}:7443\"", super::MANAGEMENT);
            }
            Link::Grpc { endpoint } => {
                let _ = writeln!(text, "kind = \"grpc\"\nendpoint = {}", quoted(endpoint));
            }
        }
        let file = |path: &std::path::Path| quoted(&format!("file:{}", path.display()));
        let _ = writeln!(
            text,
            "tls = {{ cert = {}, key = {}, ca = {} }}\n",
            file(&place.identity.certificate),
            file(&place.identity.key),
            file(place.authority)
        );
        if matches!(self.link, Link::Embedded) {
            let _ = writeln!(
                text,
                "[[orchestrator.node]]\nname = \"fn1\"\naddress = \"{}\"\nkind = \"wasm\"\n",
                place.instances[0]
            );
        }
    }
}

fn set(keys: &mut Vec<(String, String)>, key: &str, value: &str) {
    keys.retain(|(known, _)| known != key);
    keys.push((key.to_owned(), value.to_owned()));
}

fn render_keys(text: &mut String, keys: &[(String, String)]) {
    for (key, value) in keys {
        let _ = writeln!(text, "{key} = {value}");
    }
    text.push('\n');
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_rendered_is_a_configuration() {
        let identity = Identity { certificate: "/lab/site.pem".into(), key: "/lab/site.key".into() };
        let fallback =
            Service::new("late", 251, "hello").set("hold", r#"{ deadline_ms = 300, overflow = "rst" }"#);
        let services = vec![
            Service::new("hello", 0, "hello").set("source", r#""appliance""#),
            fallback,
            Service::of_backends(
                "web",
                1,
                r#"[{ address = "198.51.100.21" }, { address = "2001:db8:1::21" }]"#,
            ),
        ];
        let function = Function::new("hello", "/lab/hello.wasm").set("memory_mib", "32");
        for (shape, link) in [
            (Shape::TwoPort, Link::Embedded),
            (Shape::OnePort, Link::Grpc { endpoint: "https://192.168.99.1:7443".to_owned() }),
        ] {
            let site = Site { link, ..Site::new(vec![function.clone()], services.clone()) };
            let text = site.limit("wakes_per_second", 500).render(&Place {
                shape,
                instances: ["198.51.100.21", "2001:db8:1::21"],
                socket: Path::new("/lab/control.sock"),
                identity: &identity,
                authority: Path::new("/lab/ca.pem"),
            });
            let parsed = millrace_config::Config::parse("edge.toml", &text);
            assert!(parsed.is_ok(), "{:?}\n{text}", parsed.err());
        }
    }
}

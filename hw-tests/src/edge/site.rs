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
    /// The device of a port: its place among all ports, its interface, and its receive queues.
    #[must_use]
    pub fn device(self, index: usize, interface: &str, queues: u16) -> String {
        match self {
            // One queue, whatever is asked: DPDK takes a veth for a device that has no more.
            Driver::AfXdp => format!("net_af_xdp{index},iface={interface}"),
            Driver::AfPacket => format!("net_af_packet{index},iface={interface},qpairs={queues}"),
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

/// A port of an appliance that isn't where the edge's own is.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its name, which is that of its interface.
    pub name: &'static str,
    /// Its addresses, with their prefix lengths.
    pub addresses: Vec<String>,
}

impl Port {
    /// A port with these addresses.
    #[must_use]
    pub fn new(name: &'static str, addresses: [&str; 2]) -> Self {
        Port { name, addresses: addresses.map(str::to_owned).into() }
    }
}

/// What an appliance does of all that it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Answers queries, and wakes what they ask for.
    Dns,
    /// Steers packets to services.
    Balancer,
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
    /// How many workers there are, each with a queue of its own where the driver gives them; more than one share the CPUs
    /// with the controller.
    pub workers: u16,
    /// Its only role; `None` for both.
    pub role: Option<Role>,
    /// Its ports, where they aren't the edge's; then it has no routes either but those of `routes`.
    pub ports: Option<Vec<Port>>,
    /// MTUs of ports, by name.
    pub mtus: Vec<(&'static str, u16)>,
    /// Routes: where to, and the next hop.
    pub routes: Vec<(String, String)>,
    /// Where it answers queries.
    pub dns: [String; 2],
    /// Its functions.
    pub functions: Vec<Function>,
    /// Its services.
    pub services: Vec<Service>,
    /// Lines of `[limits]`.
    pub limits: Vec<(String, String)>,
    /// Lines of `[dns]` beside the usual ones.
    pub dns_keys: Vec<(String, String)>,
    /// Tables beside the usual ones, as text.
    pub tables: &'static str,
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
            workers: 1,
            role: None,
            ports: None,
            mtus: Vec::new(),
            routes: Vec::new(),
            dns: DNS.map(str::to_owned),
            functions: Vec::new(),
            services: Vec::new(),
            limits: Vec::new(),
            dns_keys: Vec::new(),
            tables: "",
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

    /// That many workers, on the driver that gives each a queue of its own.
    #[must_use]
    pub fn on_workers(self, workers: u16) -> Self {
        let driver = if workers > 1 { Driver::AfPacket } else { self.driver };
        Site { workers, driver, ..self }
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, to: &str, via: &str) -> Self {
        self.routes.push((to.to_owned(), via.to_owned()));
        self
    }

    pub(super) fn render(&self, place: &Place<'_>) -> String {
        let mut text = String::from("schema_version = 1\n\n[site]\nname = \"edge-lab\"\n\n");
        if self.workers > 1 {
            let cpus = format!("{{ cpus = \"0-{}\" }}", self.workers - 1);
            let _ = writeln!(text, "[cores]\ncontroller = {cpus}\ndataplane = {cpus}\n");
        }
        if let Some(role) = self.role {
            let _ = writeln!(
                text,
                "[roles]\ndns = {}\nbalancer = {}\n",
                role == Role::Dns,
                role == Role::Balancer
            );
        }
        self.render_ports(&mut text, place.shape);
        let listen: Vec<_> = self.dns.iter().map(|address| quoted(address)).collect();
        let _ = writeln!(text, "[dns]\nlisten = [{}]\nintercept = true\ncookies = true", listen.join(", "));
        render_keys(&mut text, &self.dns_keys);
        let _ = writeln!(
            text,
            "[[dns.zone]]\nname = \"fn.example.\"\n\
             soa = {{ primary = \"ns1.fn.example.\", contact = \"ops.fn.example.\", serial = 1, \
             minimum_ttl_seconds = 5 }}\nttl_seconds = 30\ncold_ttl_seconds = 1\nrecords = [\n  \
             {{ name = \"@\", type = \"NS\", data = \"ns1.fn.example.\" }},\n  \
             {{ name = \"ns1\", type = \"A\", data = \"192.0.2.53\" }},\n  \
             {{ name = \"note\", type = \"TXT\", data = \"an edge in a lab\" }},\n  \
             {{ name = \"alias\", type = \"CNAME\", data = \"ns1\" }},\n  \
             {{ name = \"*.wild\", type = \"A\", data = \"192.0.2.77\" }},\n  \
             {{ name = \"note\", type = \"HTTPS\", data = \"1 . alpn=h2\" }},\n  \
             {{ name = \"long\", type = \"TXT\", data = \"{}\" }},\n]\n",
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
        text.push_str(self.tables);
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
        let ports = self.ports.clone().unwrap_or_else(|| self.ports_of(shape));
        for (index, port) in ports.into_iter().enumerate() {
            let device = quoted(&self.driver.device(index, port.name, self.workers));
            let addresses: Vec<_> = port.addresses.iter().map(|address| quoted(address)).collect();
            let _ = writeln!(text, "[[port]]\nname = \"{}\"\ndevice = {device}", port.name);
            let _ = writeln!(text, "addresses = [{}]", addresses.join(", "));
            if let Some((_, mtu)) = self.mtus.iter().find(|(name, _)| *name == port.name) {
                let _ = writeln!(text, "mtu_bytes = {mtu}");
            }
            text.push('\n');
        }
        let clients = ("10.0.0.0/8".to_owned(), "192.0.2.2".to_owned());
        for (to, via) in self.ports.is_none().then_some(&clients).into_iter().chain(&self.routes) {
            let _ = writeln!(text, "[[route]]\nto = {}\nvia = {}\n", quoted(to), quoted(via));
        }
    }

    fn ports_of(&self, shape: Shape) -> Vec<Port> {
        let mut ports = vec![Port::new("wan", ["192.0.2.1/24", "2001:db8::1/64"])];
        if shape == Shape::TwoPort {
            ports.push(Port::new("lan", ["198.51.100.1/24", "2001:db8:1::1/64"]));
        }
        if self.upstream_port {
            ports.push(Port::new("upstream", ["172.16.53.1/24", "2001:db8:2::1/64"]));
        }
        ports
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

    #[test]
    fn another_place_is_a_configuration_too() {
        let identity = Identity { certificate: "/lab/site.pem".into(), key: "/lab/site.key".into() };
        let function = Function::new("hello", "/lab/hello.wasm");
        let site = Site {
            workers: 2,
            role: Some(Role::Balancer),
            ports: Some(vec![Port::new("peer", ["192.0.2.5/30", "2001:db8:5::1/64"])]),
            mtus: vec![("peer", 1400)],
            dns: ["192.0.3.53".to_owned(), "2001:db8:3::53".to_owned()],
            ..Site::new(vec![function], vec![Service::new("hello", 0, "hello")])
        };
        let text = site.route("198.18.0.0/16", "192.0.2.6").render(&Place {
            shape: Shape::TwoPort,
            instances: ["198.51.100.21", "2001:db8:1::21"],
            socket: Path::new("/lab/control.sock"),
            identity: &identity,
            authority: Path::new("/lab/ca.pem"),
        });
        let parsed = millrace_config::Config::parse("edge.toml", &text);
        let config = parsed.unwrap_or_else(|report| panic!("{report:?}\n{text}"));
        assert!(config.roles.balancer && !config.roles.dns);
        assert_eq!((config.ports.len(), config.ports[0].mtu_bytes, config.routes.len()), (1, 1400, 1));
    }
}

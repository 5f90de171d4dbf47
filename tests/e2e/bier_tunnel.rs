//! Two appliances with a router between them that knows nothing of BIER: the kernel, which forwards what it is sent. A stream
//! crosses it through a tunnel, and pings come back through another.
//!
//! ```text
//!   source ── r1 ── 10.0.1.0/24, 2001:db8:a::/64 ── plain ── 10.0.2.0/24, 2001:db8:b::/64 ── r2 ── listener
//! ```

use std::path::Path;

use millrace_hw_tests::edge::{Appliance, Driver};
use millrace_hw_tests::lab::{Capture, Host, Lab, Look, command, wait_until};
use serde_json::Value;

use crate::world::{BINARY, SOON};

const COUNT: usize = 100;
const GROUP: &str = "232.1.1.1";

const DOMAIN: &str = r#"
router = [
  { name = "r1", prefix = "10.255.0.1", bfr_id = 1, tunnel_address = "TUNNEL1" },
  { name = "plain", bier = false },
  { name = "r2", prefix = "10.255.0.2", bfr_id = 2, tunnel_address = "TUNNEL2" },
]
link = [{ a = "r1", b = "plain" }, { a = "plain", b = "r2" }]
"#;

/// What one of the two is told.
fn router(number: usize, driver: Driver, tunnel: &str, socket: &Path) -> String {
    let letter = ["a", "b"][number - 1];
    let [core, edge] = [(0, "core"), (1, "edge")].map(|(at, name)| driver.device(at, name, 1));
    let flows = match number {
        1 => format!(
            "[[bier.overlay]]\nsource = \"10.1.1.100\"\ngroup = \"{GROUP}\"\nsubdomain = 0\nreceivers = \"2\""
        ),
        _ => format!("[[bier.listener]]\ngroup = \"{GROUP}\"\nports = [\"edge\"]"),
    };
    let socket = socket.display();
    format!(
        r#"
schema_version = 1
[site]
name = "r{number}"
[memory]
hugepages = "never"
frames_per_port = 4095
[[port]]
name = "core"
device = "{core}"
addresses = ["10.0.{number}.1/24", "2001:db8:{letter}::1/64"]
[[port]]
name = "edge"
device = "{edge}"
addresses = ["10.1.{number}.1/24", "10.255.0.{number}/32"]
[[route]]
to = "0.0.0.0/0"
via = "10.0.{number}.9"
[[route]]
to = "::/0"
via = "2001:db8:{letter}::9"
[bier]
bfr_prefix = "10.255.0.{number}"
[[bier.subdomain]]
id = 0
bfr_id = {number}
topology = "domain.toml"
router = "r{number}"
tunnel = "{tunnel}"
{flows}
[telemetry]
control_socket = "{socket}"
log = "info"
"#
    )
}

struct Crossing {
    routers: Vec<Appliance>,
    source: Host,
    listener: Host,
    plain: Host,
    lab: Lab,
}

impl Crossing {
    fn new(driver: Driver, tunnel: &str) -> Self {
        let lab = Lab::new().unwrap();
        let [r1, r2, plain] = ["r1", "r2", "plain"].map(|name| lab.host(name).unwrap().on_cpu(0));
        let hosts = ["source", "listener"].map(|name| lab.host(name).unwrap().on_cpu(0));
        for (number, (router, host)) in (1..).zip([(&r1, &hosts[0]), (&r2, &hosts[1])]) {
            let letter = ["a", "b"][number - 1];
            let inside = format!("to{number}");
            router.wire("core", &plain, &inside).unwrap();
            router.wire("edge", host, "eth0").unwrap();
            router.leave_to_dpdk("core").unwrap();
            router.leave_to_dpdk("edge").unwrap();
            host.address("eth0", &format!("10.1.{number}.100/24")).unwrap();
            host.route("default", &format!("10.1.{number}.1")).unwrap();
            plain.address(&inside, &format!("10.0.{number}.9/24")).unwrap();
            plain.address(&inside, &format!("2001:db8:{letter}::9/64")).unwrap();
            plain.route(&format!("10.255.0.{number}/32"), &format!("10.0.{number}.1")).unwrap();
        }
        plain.sysctl("net.ipv4.ip_forward=1").unwrap();
        plain.sysctl("net.ipv6.conf.all.forwarding=1").unwrap();
        let ends = match tunnel {
            "ipv6" => ["2001:db8:a::1", "2001:db8:b::1"],
            _ => ["10.255.0.1", "10.255.0.2"],
        };
        let domain = DOMAIN.replace("TUNNEL1", ends[0]).replace("TUNNEL2", ends[1]);
        lab.write("domain.toml", &domain).unwrap();
        let routers = (1..).zip([&r1, &r2]).map(|(number, host)| {
            let socket = lab.folder().join(format!("r{number}.sock"));
            let text = router(number, driver, tunnel, &socket);
            let file = lab.write(&format!("r{number}.toml"), &text).unwrap();
            Appliance::launch(host, Path::new(BINARY), &file, &socket, driver).unwrap()
        });
        let routers: Vec<_> = routers.collect();
        for router in &routers {
            router.wait_until_up().unwrap();
            wait_until("the router between to be found", SOON, || {
                let shown = router.show("bier").unwrap();
                let row = &shown["neighbours"][0];
                match row["links"][0]["mac"].is_string() && row["reach"] == "tunnel" {
                    true => Look::Done(()),
                    false => Look::NotYet(shown["neighbours"].to_string()),
                }
            })
            .unwrap();
        }
        let [source, listener] = hosts;
        Self { routers, source, listener, plain, lab }
    }

    fn carries(self, filter: &str, tunnel: &str) {
        let script = "import socket, struct\n\
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            s.bind(('232.1.1.1', 5000))\n\
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('232.1.1.1') + socket.inet_aton('10.1.2.100'))\n\
            print('joined', flush=True)\n\
            while True: print(s.recv(2000).decode().strip(), flush=True)\n";
        let mut python = self.listener.command("python3");
        let heard = self.listener.spawn("listener", python.args(["-u", "-c", script])).unwrap();
        heard.wait_until("the listener to join", SOON, || heard.stdout().contains("joined")).unwrap();
        let capture = Capture::start(&self.lab, &self.plain, "to2", filter).unwrap();
        let script = "import socket, time\n\
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 16)\n\
            for n in range(100):\n\
            \x20   s.sendto(str(n).encode().ljust(600), ('232.1.1.1', 5000))\n\
            \x20   time.sleep(0.002)\n";
        command::succeed(self.source.command("python3").args(["-c", script])).unwrap();
        let lines = || heard.stdout().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        heard.wait_until("the stream", SOON, || lines().len() >= COUNT).unwrap();
        let numbers: Vec<_> = (0..COUNT).map(|number| number.to_string()).collect();
        assert_eq!(lines(), numbers, "each once, and in order");

        // The kernel between took a hop off the outer packet, whose number of hops is nothing to that inside.
        let frames = capture.finish().unwrap();
        assert_eq!(frames.len(), COUNT);
        for frame in frames {
            let (v4, inner) = (tunnel == "udp", if tunnel == "udp" { 42 } else { 54 });
            assert_eq!(frame.bytes[if v4 { 22 } else { 21 }], 254);
            // Version and length of 256 bits, then what a BFIR without a word about it sends.
            assert_eq!((frame.bytes[inner + 3], frame.bytes[inner + 5] >> 4), (64, 3));
        }
        // The answer comes back through the tunnel of the other way.
        let text =
            self.routers[0].ask("bier ping --bits 2 --count 2 --interval 0.1 --timeout 20 --json").unwrap();
        let ping: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ping["routers"]["2"]["answered"], 2, "{ping:#}");
        for router in &self.routers {
            let shown = router.show("bier").unwrap();
            assert_eq!(shown["neighbours"][0]["links"][0]["encapsulation"], tunnel, "{shown:#}");
            let lost: u64 =
                shown["counters"]["lost"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            assert_eq!(lost, 0, "{shown:#}");
        }
        drop(heard);
        for router in self.routers {
            router.fates().unwrap();
            assert!(router.stop().unwrap().success());
        }
        self.lab.inspect().unwrap();
    }
}

#[test]
fn a_stream_crosses_a_router_without_bier_inside_udp() {
    Crossing::new(Driver::AfXdp, "udp").carries("udp and dst port 8138", "udp");
}

#[test]
fn a_stream_crosses_a_router_without_bier_inside_ipv6() {
    Crossing::new(Driver::AfPacket, "ipv6").carries("ip6 proto 253", "ipv6");
}

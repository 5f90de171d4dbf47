//! `veth.nat`: a service with one fixed backend, 1,024 UDP flows from its clients, 64-byte frames, one direction.
//!
//! ```text
//!   source                      appliance                                  sink
//!   eth0 (generator) ───── wan 192.0.2.1   lan 198.51.100.1 ───── eth0 (counted and dropped on arrival)
//! ```
//!
//! The appliance's kernel has the addresses, the route and nftables' translation all the time, but forwards only when it is
//! the contender: then no DPDK port holds an interface. The sink counts translated frames and others apart: only the former
//! are of use from those that translate.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::BenchError;
use super::super::report::{Better, Entry, Report};
use super::frames::{Way, mac};
use super::generator::{Generator, Load};
use super::processes::{START_MAX, millrace, testpmd};
use super::{MEASURED, Setup, Yield};
use crate::lab::{Host, Lab, LabError, Look, Process, unreadable, wait_until};

/// The entries of this file.
pub(super) const NAMES: [&str; 2] = ["veth.nat", "veth.nat.nftables"];

const UNIT: &str = "packets/CPU-second";
/// The service.
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 10), 443);
/// Its backend.
const BACKEND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 21);
/// Clients, 4 ports each.
const CLIENTS: u8 = 250;
const PORTS: u16 = 4;
/// Bytes of a datagram's payload: 64-byte frames on a wire.
const PAYLOAD: [u8; 18] = [0; 18];
/// Enough to see whether anything comes through.
const PROBE: Load = Load { time: Duration::from_millis(20), per_second: Some(50_000) };

/// Who can be between source and sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Millrace,
    TestpmdIo,
    Nftables,
}

impl Contender {
    const ALL: [Contender; 3] = [Contender::Millrace, Contender::TestpmdIo, Contender::Nftables];

    fn name(self) -> &'static str {
        match self {
            Contender::Millrace => "millrace",
            Contender::TestpmdIo => "testpmd.io",
            Contender::Nftables => "nftables DNAT",
        }
    }

    /// The sink's counter of what this one makes of frames.
    fn counter(self) -> &'static str {
        match self {
            Contender::TestpmdIo => "others",
            _ => "translated",
        }
    }
}

/// Measures all of them in each round.
pub(super) fn measure(setup: &Setup<'_>, report: &mut Report) -> Result<(), BenchError> {
    let mut scene = Scene::build(setup)?;
    let mut figures = [const { Vec::new() }; Contender::ALL.len()];
    for round in 0..setup.rounds {
        for (contender, figures) in Contender::ALL.into_iter().zip(&mut figures) {
            let measured = scene.measure(setup, contender).inspect_err(|_| scene.lab.keep())?;
            eprintln!("round {}: {}", round + 1, measured.line(&format!("veth.nat, {}", contender.name())));
            figures.push(measured.per_cpu_second());
        }
    }
    let [ours, peers @ ..] = figures;
    for ((name, contender), peer) in NAMES.into_iter().zip(&Contender::ALL[1..]).zip(&peers) {
        report.add(Entry::against(name, UNIT, Better::Higher, &ours, (contender.name(), peer)));
    }
    Ok(())
}

struct Scene {
    /// Before the lab: its port goes before the interface.
    generator: Generator,
    configuration: PathBuf,
    appliance: Host,
    sink: Host,
    lab: Lab,
}

impl Scene {
    fn build(setup: &Setup<'_>) -> Result<Scene, BenchError> {
        let lab = Lab::new()?;
        let (source, appliance, sink) = (lab.host("source")?, lab.host("appliance")?, lab.host("sink")?);
        for host in [&source, &appliance, &sink] {
            // No reports of group membership between the frames that are counted.
            host.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
            host.sysctl("net.ipv6.conf.default.disable_ipv6=1")?;
        }
        source.wire("eth0", &appliance, "wan")?;
        appliance.wire("lan", &sink, "eth0")?;
        let frames = frames(&source, &appliance)?;
        kernel_nat(&lab, &appliance, &sink)?;
        count_at(&lab, &sink)?;
        let configuration = lab.write("nat.toml", &configuration(&lab, &sink.mac("eth0")?))?;
        let generator = Generator::open(setup.eal, &source, "eth0", frames)?;
        Ok(Scene { generator, configuration, appliance, sink, lab })
    }

    fn measure(&mut self, setup: &Setup<'_>, contender: Contender) -> Result<Yield, BenchError> {
        let process = self.start(setup, contender)?;
        let Scene { generator, sink, .. } = self;
        let through = || -> Result<u64, BenchError> { Ok(counted(sink, contender.counter())?) };
        let before = through()?;
        wait_until("frames to come through", START_MAX, || {
            generator.send(PROBE);
            match (through(), process.as_ref().and_then(Process::exited)) {
                (_, Some(status)) => Look::Done(Err(unreadable(contender.name(), status).into())),
                (Ok(now), None) if now > before => Look::Done(Ok(())),
                (Ok(_), None) => Look::NotYet("none".to_owned()),
                (Err(error), None) => Look::Done(Err(error)),
            }
        })??;
        let load = Load { time: MEASURED, per_second: None };
        Yield::take(generator, load, process.as_ref(), |_| through())
    }

    fn start(&self, setup: &Setup<'_>, contender: Contender) -> Result<Option<Process>, LabError> {
        // Nobody else's frames may take the way through the kernel, not even while a contender starts.
        let forward = u8::from(contender == Contender::Nftables);
        self.appliance.sysctl(&format!("net.ipv4.ip_forward={forward}"))?;
        match contender {
            Contender::Millrace => millrace(setup, &self.appliance, &self.configuration).map(Some),
            Contender::TestpmdIo => testpmd(setup, &self.lab, &self.appliance, ["wan", "lan"]).map(Some),
            Contender::Nftables => Ok(None),
        }
    }
}

fn frames(source: &Host, appliance: &Host) -> Result<Vec<Vec<u8>>, LabError> {
    let address = |host: &Host, interface: &str| {
        let text = host.mac(interface)?;
        mac(&text).ok_or_else(|| unreadable("a MAC address", text))
    };
    let macs = [address(appliance, "wan")?, address(source, "eth0")?];
    let clients = (1..=CLIENTS).flat_map(|client| (0..PORTS).map(move |port| (client, 4000 + 997 * port)));
    let frame =
        |(client, port)| Way { macs, from: (Ipv4Addr::new(10, 1, client, 1), port), to: VIP }.frame(&PAYLOAD);
    Ok(clients.map(frame).collect())
}

/// The same service in the appliance's kernel.
fn kernel_nat(lab: &Lab, appliance: &Host, sink: &Host) -> Result<(), LabError> {
    appliance.address("wan", "192.0.2.1/24")?;
    appliance.address("lan", "198.51.100.1/24")?;
    appliance.route("10.0.0.0/8", "192.0.2.2")?;
    let mac = sink.mac("eth0")?;
    appliance.run(&format!("ip neighbour add {BACKEND} lladdr {mac} dev lan nud permanent"))?;
    let (address, port) = VIP;
    let rules = format!(
        "table ip nat {{\nchain prerouting {{\ntype nat hook prerouting priority dstnat\n\
         ip daddr {address} udp dport {port} dnat to {BACKEND}\n}}\n}}\n"
    );
    nft(lab, appliance, &rules)
}

/// Counts and drops what arrives at the sink before its kernel looks at it.
fn count_at(lab: &Lab, sink: &Host) -> Result<(), LabError> {
    let rules = format!(
        "table netdev sink {{\ncounter translated {{ }}\ncounter others {{ }}\n\
         chain ingress {{\ntype filter hook ingress device eth0 priority 0; policy drop;\n\
         ip daddr {BACKEND} counter name translated drop\nether type ip counter name others\n}}\n}}\n"
    );
    nft(lab, sink, &rules)
}

fn nft(lab: &Lab, host: &Host, rules: &str) -> Result<(), LabError> {
    let path = lab.write(&format!("{}.nft", host.name()), rules)?;
    host.run(&format!("nft -f {}", path.display())).map(drop)
}

fn counted(sink: &Host, counter: &str) -> Result<u64, LabError> {
    let text = sink.run(&format!("nft list counter netdev sink {counter}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    let count = words.next().and_then(|count| count.parse().ok());
    count.ok_or_else(|| unreadable("a counter of the sink's", text))
}

fn configuration(lab: &Lab, backend_mac: &str) -> String {
    let (address, port) = VIP;
    format!(
        "schema_version = 1\n[site]\nname = \"bench\"\n\
         [[port]]\nname = \"wan\"\ndevice = \"net_af_xdp0,iface=wan\"\naddresses = [\"192.0.2.1/24\"]\n\
         [[port]]\nname = \"lan\"\ndevice = \"net_af_xdp1,iface=lan\"\naddresses = [\"198.51.100.1/24\"]\n\
         [[neighbour]]\naddress = \"{BACKEND}\"\nmac = \"{backend_mac}\"\nport = \"lan\"\n\
         [[service]]\nname = \"web\"\naddress = [\"{address}\"]\nports = [\"udp/{port}\"]\n\
         backends = [{{ address = \"{BACKEND}\" }}]\n\
         [orchestrator]\nkind = \"embedded\"\n\
         [telemetry]\ncontrol_socket = \"{}/control.sock\"\n",
        lab.folder().display()
    )
}

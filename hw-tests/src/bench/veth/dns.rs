//! `veth.dns`: authoritative answers for the A records of 1,000 names, one question at a time in turn, no EDNS.
//!
//! ```text
//!   client                      server
//!   eth0 (generator) ───── wan 192.0.2.53: millrace on AF_XDP, knotd on AF_XDP or UDP, nsd on UDP
//! ```
//!
//! Each server has one worker on the contender's CPU. The kernel has the address all the time; while an AF_XDP server holds
//! the interface, its kernel sees no query. Answers are counted by the generator, and only those with a record.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::BenchError;
use super::super::report::{Better, Entry, Report};
use super::frames::{Way, mac, query};
use super::generator::{Generator, Load, Sent};
use super::processes::{START_MAX, millrace, move_to_cpu, name_server};
use super::zone::{NAMES_COUNT, Zone};
use super::{MEASURED, Setup, Yield};
use crate::lab::{Host, Lab, LabError, Look, Process, unreadable, wait_until};

/// The entries of this file.
pub(super) const NAMES: [&str; 4] = [
    "veth.dns.saturated.knot_xdp",
    "veth.dns.saturated.knot_udp",
    "veth.dns.saturated.nsd",
    "veth.dns.overload",
];

const UNIT: &str = "answers/CPU-second";
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Enough to see whether anybody answers.
const PROBE: Load = Load { time: Duration::from_millis(20), per_second: Some(10_000) };
/// Queries a second that every server can answer, and more than most can.
const CALM: Load = Load { time: MEASURED, per_second: Some(200_000) };
const OVERLOAD: Load = Load { time: MEASURED, per_second: Some(500_000) };
/// As many as the generator can.
const SATURATION: Load = Load { time: MEASURED, per_second: None };

/// Who can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Millrace,
    KnotXdp,
    KnotUdp,
    Nsd,
}

impl Server {
    const ALL: [Server; 4] = [Server::Millrace, Server::KnotXdp, Server::KnotUdp, Server::Nsd];

    fn name(self) -> &'static str {
        match self {
            Server::Millrace => "millrace",
            Server::KnotXdp => "knot_xdp",
            Server::KnotUdp => "knot_udp",
            Server::Nsd => "nsd",
        }
    }
}

/// Measures all of them in each round.
pub(super) fn measure(setup: &Setup<'_>, report: &mut Report) -> Result<(), BenchError> {
    let mut scene = Scene::build(setup)?;
    let mut saturated = [const { Vec::new() }; Server::ALL.len()];
    let (mut calm, mut overload) = (Vec::new(), Vec::new());
    for round in 0..setup.rounds {
        for (server, figures) in Server::ALL.into_iter().zip(&mut saturated) {
            let process = scene.start(setup, server).inspect_err(|_| scene.lab.keep())?;
            let mut take = |load, what: &str| -> Result<Yield, BenchError> {
                // What a load before this one left on its way is over when nothing comes any more.
                scene.generator.settle();
                let answers = |sent: &Sent| Ok(sent.answers);
                let measured = Yield::take(&mut scene.generator, load, Some(&process), answers)?;
                eprintln!(
                    "round {}: {}",
                    round + 1,
                    measured.line(&format!("veth.dns{what}, {}", server.name()))
                );
                Ok(measured)
            };
            figures.push(take(SATURATION, "")?.per_cpu_second());
            if server == Server::Millrace {
                calm.push(take(CALM, " at 200 k/s")?.per_second());
                overload.push(take(OVERLOAD, " at 500 k/s")?.per_second());
            }
        }
    }
    let [ours, peers @ ..] = saturated;
    for ((name, server), peer) in NAMES.into_iter().zip(&Server::ALL[1..]).zip(&peers) {
        report.add(Entry::against(name, UNIT, Better::Higher, &ours, (server.name(), peer)));
    }
    let peer = ("millrace at 200 k/s offered", &calm[..]);
    report.add(Entry::against(NAMES[3], "answers/s", Better::Higher, &overload, peer));
    Ok(())
}

struct Scene {
    /// Before the lab: its port goes before the interface.
    generator: Generator,
    zone: Zone,
    server: Host,
    lab: Lab,
}

impl Scene {
    fn build(setup: &Setup<'_>) -> Result<Scene, BenchError> {
        let lab = Lab::new()?;
        let (client, server) = (lab.host("client")?, lab.host("server")?);
        for host in [&client, &server] {
            host.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
            host.sysctl("net.ipv6.conf.default.disable_ipv6=1")?;
        }
        client.wire("eth0", &server, "wan")?;
        server.address("wan", &format!("{SERVER}/24"))?;
        let (ours, theirs) = (client.mac("eth0")?, server.mac("wan")?);
        server.run(&format!("ip neighbour add {CLIENT} lladdr {ours} dev wan nud permanent"))?;
        let macs = [&theirs, &ours].map(|text| mac(text).ok_or_else(|| unreadable("a MAC address", text)));
        let [theirs, from] = macs;
        let frames = queries([theirs?, from?]);
        let zone = Zone::write(&lab, &ours)?;
        let generator = Generator::open(setup.eal, &client, "eth0", frames)?;
        Ok(Scene { generator, zone, server, lab })
    }

    /// Starts a server and waits until it answers, once the one before is gone.
    fn start(&mut self, setup: &Setup<'_>, server: Server) -> Result<Process, LabError> {
        let Scene { generator, zone, server: host, .. } = self;
        // An XDP program outlives a server that doesn't take it away, and keeps the next one out.
        host.run("ip link set dev wan xdp off")?;
        wait_until("the server before to fall silent", START_MAX, || generator.send(PROBE).answers == 0)?;
        let process = match server {
            Server::Millrace => millrace(setup, host, &zone.millrace)?,
            Server::KnotXdp => name_server(setup, host, "knotd -c", &zone.knot_xdp)?,
            Server::KnotUdp => name_server(setup, host, "knotd -c", &zone.knot_udp)?,
            Server::Nsd => name_server(setup, host, "nsd -d -c", &zone.nsd)?,
        };
        process.wait_until("its answers", START_MAX, || match generator.send(PROBE).answers {
            0 => Look::NotYet("none".to_owned()),
            _ => Look::Done(()),
        })?;
        if server != Server::Millrace {
            move_to_cpu(setup, &process)?;
        }
        Ok(process)
    }
}

fn queries(macs: [[u8; 6]; 2]) -> Vec<Vec<u8>> {
    let frame = |name: u16| {
        let way = Way { macs, from: (CLIENT, 1024 + name * 7), to: (SERVER, 53) };
        way.frame(&query(name, &[&Zone::label(name), "fn", "example"]))
    };
    (0..NAMES_COUNT).map(frame).collect()
}

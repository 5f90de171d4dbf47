//! Live flows across reloads: workers on the heap driver, the control loop, and ten thousand clients.

use std::sync::atomic::Ordering;

use millrace_config::Config;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::heap::{HeapDriver, HeapNet};
use millrace_fastpath::node::{NodeId, service};
use millrace_fastpath::tables::services::Endpoint;
use millrace_fastpath::wire::checksum;
use millrace_fastpath::worker::Worker;
use millrace_orchestrator_api::MemoryLink;

use super::plant::{Manual, Plant};
use super::*;
use crate::testing::{EDGE, WAN_MAC};

pub(super) const FLOWS: usize = 10_000;
/// Frames delivered between two runs of the workers.
const BATCH: usize = 250;
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const WEB: [u8; 4] = [203, 0, 113, 20];
pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;
const RST: u8 = 4;

/// An address and a port.
pub(super) type End = ([u8; 4], u16);
/// Source, its port, destination, its port.
pub(super) type Ends = ([u8; 4], u16, [u8; 4], u16);

pub(super) fn frame(macs: [[u8; 6]; 2], (from, from_port, to, to_port): Ends, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[..6].copy_from_slice(&macs[1]);
    frame[6..12].copy_from_slice(&macs[0]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    frame[26..30].copy_from_slice(&from);
    frame[30..34].copy_from_slice(&to);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[34..36].copy_from_slice(&from_port.to_be_bytes());
    frame[36..38].copy_from_slice(&to_port.to_be_bytes());
    (frame[46], frame[47]) = (5 << 4, flags);
    let pseudo = checksum::pseudo_header(Addr::v4(from), Addr::v4(to), 6, 20);
    let sum = !checksum::fold(pseudo + checksum::sum(&frame[34..]));
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

pub(super) fn ends(frame: &[u8]) -> Ends {
    let addr = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (addr(26), port(34), addr(30), port(36))
}

/// Client number `n`.
pub(super) fn client(n: usize) -> ([u8; 4], u16) {
    ([10, 1, (n >> 8) as u8, n as u8], 20_000 + (n % 7) as u16)
}

pub(super) struct Site {
    pub(super) net: HeapNet,
    workers: Vec<Worker<HeapDriver, Manual>>,
    pub(super) control: Control<MemoryLink>,
    pub(super) orchestrator: OrchestratorEnd,
    pub(super) now: Nanos,
    pub(super) clock: Manual,
}

/// [`EDGE`] with these backends of `web`, or without the service, and the neighbours that everything goes by.
pub(super) fn site(web: Option<&str>) -> Arc<Config> {
    let start = EDGE.find("[[service]]\nname = \"web\"").unwrap();
    let end = EDGE.find("[limits]").unwrap();
    let mut text = EDGE[..start].to_owned();
    if let Some(backends) = web {
        text += &format!(
            "[[service]]\nname = \"web\"\naddress = [\"203.0.113.20\"]\nports = [\"tcp/80\"]\nbackends = [{backends}]\n"
        );
    }
    for host in 7..12 {
        let known = format!("address = \"198.51.100.{host}\"\nmac");
        if !text.contains(&known) {
            text += &format!(
                "[[neighbour]]\naddress = \"198.51.100.{host}\"\nmac = \"02:00:00:00:00:07\"\nport = \"lan\"\n"
            );
        }
    }
    text += "[[neighbour]]\naddress = \"192.0.2.254\"\nmac = \"02:00:00:00:00:09\"\nport = \"wan\"\n";
    text += &EDGE[end..];
    Arc::new(Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}")))
}

pub(super) fn backends(hosts: &[u8]) -> String {
    let list: Vec<String> =
        hosts.iter().map(|host| format!("{{ address = \"198.51.100.{host}\" }}")).collect();
    list.join(", ")
}

impl Site {
    pub(super) fn new(config: &Arc<Config>) -> Self {
        let Plant { net, workers, control, orchestrator, clock, .. } = Plant::new(config, 1 << 15);
        Self { net, workers, control, orchestrator, now: ms(0), clock }
    }

    pub(super) fn run(&mut self) {
        while self.workers.iter_mut().map(Worker::poll).sum::<usize>() > 0 {}
    }

    pub(super) fn turn(&mut self) {
        self.now = self.now.plus(200_000_000);
        self.control.turn(self.now);
        self.run();
        for port in [0, 1] {
            while self.net.take(PortId(port)).is_some() {}
        }
    }

    fn reload(&mut self, config: &Arc<Config>) {
        let reload = drafted(&self.control, config);
        self.control.reload(reload, self.now);
        self.turn();
    }

    /// Sends a frame for each client by a port, and gives what left by the other one.
    pub(super) fn exchange(&mut self, by: u16, frames: impl Iterator<Item = Vec<u8>>) -> Vec<Ends> {
        let frames: Vec<_> = frames.collect();
        let mut out = Vec::new();
        for batch in frames.chunks(BATCH) {
            for (at, frame) in batch.iter().enumerate() {
                assert!(self.net.deliver(PortId(by), (at % 2) as u16, frame));
            }
            self.run();
            while let Some(frame) = self.net.take(PortId(1 - by)) {
                out.push(ends(&frame));
            }
        }
        out
    }

    /// Each client sends to the service; gives the instance that each reached.
    pub(super) fn ask(&mut self, clients: std::ops::Range<usize>, flags: u8) -> HashMap<End, End> {
        let frames = clients.map(|n| {
            let (addr, port) = client(n);
            frame([CLIENT_MAC, WAN_MAC], (addr, port, WEB, 80), flags)
        });
        let reached = self.exchange(0, frames);
        let count = reached.len();
        let by_client: HashMap<_, _> =
            reached.into_iter().map(|(from, port, to, to_port)| ((from, port), (to, to_port))).collect();
        assert_eq!(by_client.len(), count, "no frame left twice");
        by_client
    }

    /// All flows, both ways: each reaches its instance, and its answer comes from the service.
    pub(super) fn check(&mut self, flows: &HashMap<End, End>) {
        assert!(self.ask(0..FLOWS, ACK) == *flows, "a flow went elsewhere, or nowhere");
        let answers = flows.iter().map(|((client, port), (instance, instance_port))| {
            frame([HOST_MAC, LAN_MAC], (*instance, *instance_port, *client, *port), SYN | ACK)
        });
        let answered = self.exchange(1, answers.collect::<Vec<_>>().into_iter());
        assert_eq!(answered.len(), flows.len());
        assert!(
            answered.iter().all(|(from, port, ..)| (*from, *port) == (WEB, 80)),
            "an answer isn't the service's"
        );
    }

    /// Lets the time pass after which flows that were reset are forgotten.
    fn end_flows(&mut self) {
        self.clock.0.fetch_add(20_000_000_000, Ordering::Relaxed);
        let left = |site: &Self| -> u64 {
            site.control.shared.workers.iter().map(|worker| worker.counters.fates.flows.get()).sum()
        };
        // A worker looks at a few flows every tenth of a millisecond.
        for _ in 0..10_000 {
            if left(self) == 0 {
                return;
            }
            self.clock.0.fetch_add(100_000, Ordering::Relaxed);
            self.run();
        }
        panic!("{} flows are left", left(self));
    }

    fn dropped(&self, reason: service::Drop) -> u64 {
        let workers = self.control.shared.workers.iter();
        workers.map(|worker| worker.counters.node(NodeId::Service).drops[reason as usize].get()).sum()
    }

    pub(super) fn check_laws(&self) {
        let mut sum = Fates::default();
        self.control.shared.workers.iter().for_each(|worker| sum.add(&Fates::read(&worker.counters.fates)));
        sum.check().unwrap();
        assert_eq!((sum.handed_in, self.net.free_frames()), (sum.handed_out, 4096));
    }
}

#[test]
fn ten_thousand_flows_outlive_instances_and_the_service_itself() {
    let mut site_ = Site::new(&site(Some(&backends(&[7, 8]))));
    site_.turn();
    let flows = site_.ask(0..FLOWS, SYN);
    assert_eq!(flows.len(), FLOWS);
    site_.check(&flows);

    // One backend leaves, another comes; then all are others; then the service is gone.
    let mut clients = FLOWS;
    for hosts in [&[8, 9][..], &[10, 11]] {
        site_.reload(&site(Some(&backends(hosts))));
        site_.check(&flows);
        let new = site_.ask(clients..clients + 100, SYN);
        assert_eq!(new.len(), 100);
        assert!(new.values().all(|(instance, _)| hosts.contains(&instance[3])), "new flows go to {hosts:?}");
        clients += 100;
    }
    site_.reload(&site(None));
    site_.check(&flows);
    assert_eq!(site_.dropped(service::Drop::NoService), 0);
    assert_eq!(site_.ask(clients..clients + 100, SYN).len(), 0, "nothing new begins");
    assert_eq!(site_.dropped(service::Drop::NoService), 100);

    // It comes back under another name, and the flows of the old one are still their own.
    let renamed = site(Some(&backends(&[11])));
    site_.reload(&renamed);
    site_.check(&flows);
    let new = site_.ask(clients..clients + 100, SYN);
    assert!(new.len() == 100 && new.values().all(|(instance, _)| instance[3] == 11));

    // When they have ended, nothing of them is left.
    site_.reload(&site(None));
    site_.ask(0..clients + 100, RST);
    site_.end_flows();
    let web = Endpoint { addr: Addr::v4(WEB), port: 80, protocol: 6 };
    assert_eq!(site_.control.builder.tables().services.by_endpoint(&web), Some(ServiceId::GONE));
    site_.turn();
    let tables = site_.control.builder.tables();
    assert_eq!(tables.services.by_endpoint(&web), None);
    assert_eq!(tables.interfaces.local(web.addr), None);
    // Those that had left the service before stay known a while, as after any change of its instances.
    for host in [10, 11] {
        let from = Endpoint { addr: Addr::v4([198, 51, 100, host]), port: 80, protocol: 6 };
        assert!(!tables.services.is_return(&from), "{from:?}");
    }
    site_.check_laws();
}

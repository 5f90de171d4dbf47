//! A site on a virtual clock: store, session and frames are real, nodes are receivers in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::heap::HeapLane;
use millrace_fastpath::hub::{Lane, Way};
use millrace_fastpath::packet::L3;
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces};
use millrace_fastpath::wire::{ethernet, ipv4};
use millrace_hub::norm::{NodeId as NormId, ObjectId};
use millrace_hub::session::{Receiver, ReceiverConfig, Report, Storage, Unstored};
use millrace_hub_store::{Label, Limits, Manifest, Millis, Named, NodeId, Outcome, Store};
use tempfile::TempDir;

use super::saved::{self, Saved};
use super::session::Session as _;
use super::site::Site;

const HUB: &str = "198.51.100.1";
const GROUP_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 1, 1, 9];
/// The last three bytes of a node's address are its number.
const NODES: [u32; 3] = [11, 12, 13];
const CONFIG: &str = r#"
schema_version = 1
[site]
name = "test"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["198.51.100.1/24"]
[hub]
store_path = "hub"
budget_bytes = 1_000_000_000
[[hub.site]]
name = "house"
carriage = "ethernet"
port = "lan"
group = "239.1.1.9"
rate_bits_per_second = 100_000_000
nodes = [
  { id = 11, address = "198.51.100.11", groups = ["camera"] },
  { id = 12, address = "198.51.100.12" },
  { id = 13, address = "198.51.100.13" },
]
"#;

/// What a node has.
#[derive(Default)]
struct Memory(BTreeMap<ObjectId, Vec<u8>>);

impl Storage for Memory {
    fn write(&mut self, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        let all = self.0.entry(object).or_default();
        let end = offset as usize + bytes.len();
        if all.len() < end {
            all.resize(end, 0);
        }
        all[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        let all = self.0.get(&object).ok_or(Unstored)?;
        out.copy_from_slice(all.get(offset as usize..offset as usize + out.len()).ok_or(Unstored)?);
        Ok(())
    }
}

struct Node {
    receiver: Receiver,
    memory: Memory,
    complete: Vec<ObjectId>,
    on: bool,
    /// Frames to its own address.
    alone: u64,
}

struct World {
    store: Arc<Store>,
    site: Site,
    lane: HeapLane,
    tables: Tables,
    nodes: BTreeMap<u32, Node>,
    now: Duration,
    frames: u64,
    folder: TempDir,
}

fn mac(node: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, node as u8]
}

fn tables() -> Tables {
    let interface = Interface {
        name: "lan".to_owned(),
        port: PortId(0),
        vlan: None,
        outer: None,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: vec![(addr(HUB), 24)],
    };
    let mut tables =
        Tables { interfaces: Arc::new(Interfaces::new(vec![interface], [])), ..Tables::default() };
    for node in NODES {
        tables.neighbours.insert(InterfaceId(0), addr(&format!("198.51.100.{node}")), mac(node));
    }
    tables
}

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<std::net::IpAddr>().unwrap())
}

fn new_site(store: &Arc<Store>, lane: &Arc<Lane>, instance: u16) -> Site {
    let config = Config::parse("test.toml", CONFIG).unwrap();
    let hub = config.hub.as_ref().unwrap();
    Site::new(&config, &hub.sites[0], hub.id, instance, Arc::clone(lane), Arc::clone(store))
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 0 };
        let store = Store::open(folder.path(), limits, Millis::now()).unwrap();
        let lane = HeapLane::new(1_000_000_000);
        let site = new_site(&store, &lane.lane, 7);
        let node = |node: u32| {
            let config = ReceiverConfig::new(NormId(node), NormId(1), HUB.parse().unwrap());
            let receiver = Receiver::new(config);
            (node, Node { receiver, memory: Memory::default(), complete: Vec::new(), on: true, alone: 0 })
        };
        let nodes = NODES.into_iter().map(node).collect();
        let (tables, now) = (tables(), Duration::ZERO);
        Self { store, site, lane, tables, nodes, now, frames: 0, folder }
    }

    /// Puts bytes in for these nodes, and has the site send them.
    fn put(&mut self, name: &str, bytes: &[u8], nodes: &[u32]) -> Manifest {
        let mut incoming = self.store.put(None, Millis::now()).unwrap();
        incoming.write(bytes, Millis::now()).unwrap();
        let (name, group) = (Label::name(name).unwrap(), Label::group("").unwrap());
        let named = Named { name, group, version: Some(1) };
        let manifest = incoming.finish(named, None, Millis::now()).unwrap();
        let (what, now) = (manifest.description(), Millis::now());
        self.store.distribute(what.root, 1, nodes.iter().map(|node| NodeId(*node)), now, now).unwrap();
        self.site.announce(self.now, &manifest);
        manifest
    }

    /// Lets time go by until the condition holds; `lost` says whether a frame of this number doesn't reach a node.
    fn run_until(&mut self, lost: impl Fn(u64, u32) -> bool, done: impl Fn(&Self) -> bool) {
        let limit = self.now + Duration::from_secs(400);
        while !done(self) {
            assert!(self.now < limit, "not done: {:?}, {:?}", self.site.progress(), self.store.unfinished());
            let quiet = self.nodes.values().all(|node| node.receiver.poll_timeout().is_none());
            let due = self.site.next_due().map_or(self.now, |due| due.max(self.now));
            let step = Duration::from_micros(200);
            self.now += step;
            if quiet {
                self.now = self.now.max(due);
            }
            self.turn(&lost);
        }
    }

    fn turn(&mut self, lost: &impl Fn(u64, u32) -> bool) {
        self.site.turn(self.now, &self.tables);
        let wall = Nanos(u64::try_from(self.now.as_nanos()).unwrap());
        while let Some((way, frame)) = self.lane.next(wall) {
            assert_eq!(way, Way::Interface(InterfaceId(0)));
            self.frames += 1;
            for (number, node) in &mut self.nodes {
                let alone = ethernet::destination(&frame) == mac(*number);
                if !alone && ethernet::destination(&frame) != GROUP_MAC || !node.on {
                    continue;
                }
                node.alone += u64::from(alone);
                if lost(self.frames, *number) {
                    continue;
                }
                let header = ipv4::parse(&frame[L3..], frame.len() - L3, true).unwrap();
                assert_eq!((header.source, header.destination), (addr(HUB), addr("239.1.1.9")));
                let datagram = &frame[L3 + header.header_len + 8..];
                node.receiver.handle(self.now, HUB.parse().unwrap(), datagram, &mut node.memory);
            }
        }
        for (number, node) in &mut self.nodes {
            while let Some(report) = node.receiver.poll_event() {
                if let Report::Complete(object) = report {
                    node.complete.push(object);
                }
            }
            while let Some(message) = node.receiver.poll_transmit(self.now) {
                if node.on {
                    let from = format!("198.51.100.{number}").parse().unwrap();
                    self.site.hear(self.now, from, &message);
                }
            }
        }
    }

    fn outcome(&self, manifest: &Manifest, node: u32) -> Outcome {
        let what = manifest.description();
        self.store.distribution(what.root, 1).unwrap().nodes[&NodeId(node)].clone()
    }

    fn all_acked(&self, manifest: &Manifest, nodes: &[u32]) -> bool {
        nodes.iter().all(|node| self.outcome(manifest, *node) == Outcome::Acked)
    }
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

#[test]
fn repairs_go_in_frames_to_those_who_lost_something() {
    let mut world = World::new();
    let content = bytes(1_000_000, 1);
    let manifest = world.put("a", &content, &NODES);
    world.run_until(|frame, node| node == 12 && frame % 20 == 0, |world| world.all_acked(&manifest, &NODES));
    for (number, node) in &world.nodes {
        assert!(node.memory.0[&ObjectId(0)] == content, "node {number}");
    }
    let lost = world.nodes[&12].alone;
    // 715 segments, and commands to single nodes.
    assert!((36..70).contains(&lost), "{lost}");
    let leg = |node: u32| world.site.progress().into_iter().find(|(_, id, _)| id.0 == node).unwrap().2;
    assert_eq!((leg(11).repair_bytes, leg(13).repair_bytes), (0, 0));
    assert!(leg(12).repair_bytes > 36 * 1400);
    assert!(world.site.unsent().all(|(_, count)| count == 0));
}

#[test]
fn what_is_for_some_nodes_reaches_those_alone() {
    let mut world = World::new();
    let content = bytes(200_000, 2);
    let manifest = world.put("a", &content, &[11, 13]);
    world.run_until(|_, _| false, |world| world.all_acked(&manifest, &[11, 13]));
    // Probes go to all nodes of the site.
    assert!(world.nodes[&12].complete.is_empty() && world.nodes[&12].alone < 10);
    assert!(world.nodes[&12].memory.0.is_empty(), "not even a first copy");
}

#[test]
fn a_hub_that_is_killed_goes_on_with_the_same_session_where_it_was() {
    let mut world = World::new();
    let content = bytes(2_000_000, 3);
    let manifest = world.put("a", &content, &NODES);
    let sent = |world: &World| world.site.progress().first().map_or(0, |(_, _, one)| one.sent_bytes);
    world.run_until(|frame, node| node == 13 && frame % 30 == 0, |world| sent(world) > 1_000_000);
    let before = world.frames;
    let folder = world.folder.path().join("sites");
    world.site.save(&folder).unwrap();
    let saved: Saved = saved::read(&folder, "house").unwrap();
    assert_eq!((saved.instance, saved.next, saved.objects.len()), (7, 1, 1));
    // What was on the lane is gone with it.
    world.lane = HeapLane::new(1_000_000_000);
    world.site = new_site(&world.store, &world.lane.lane, saved.instance);
    world.now = Duration::ZERO;
    world.site.resume(world.now, &saved);
    world.run_until(|frame, node| node == 13 && frame % 30 == 0, |world| world.all_acked(&manifest, &NODES));
    for node in world.nodes.values() {
        assert!(node.memory.0[&ObjectId(0)] == content);
        assert_eq!(node.complete, [ObjectId(0)]);
    }
    // 1429 segments in all.
    let after = world.frames - before;
    assert!(after < 1000, "{after} frames after {before}");
    // Numbers of what is done aren't used again.
    let other = world.put("b", &bytes(3000, 4), &NODES);
    world.run_until(|_, _| false, |world| world.all_acked(&other, &NODES));
    assert_eq!(world.nodes[&11].complete, [ObjectId(0), ObjectId(1)]);
}

#[test]
fn bytes_that_changed_on_the_disk_are_never_sent() {
    let mut world = World::new();
    let content = bytes(300_000, 5);
    let manifest = world.put("a", &content, &NODES);
    let root = manifest.description().root.to_string();
    let blob = world.folder.path().join("blobs").join(&root[..2]).join(&root);
    let mut damaged = content.clone();
    damaged[150_000] ^= 1;
    std::fs::write(&blob, &damaged).unwrap();
    let unreadable = |world: &World| {
        world.site.unsent().find(|(why, _)| *why == "unreadable").map_or(0, |(_, count)| count)
    };
    world.run_until(|_, _| false, |world| unreadable(world) > 50);
    for node in world.nodes.values() {
        let got = node.memory.0.get(&ObjectId(0)).map_or(&[][..], |got| got);
        let wrong = got.iter().zip(&content).filter(|(got, right)| got != right && **got != 0).count();
        assert!(node.complete.is_empty() && wrong == 0, "{wrong} wrong bytes");
    }
    // It is put in again, as it was, and goes on.
    let again = world.store.put(None, Millis::now());
    let mut again = again.unwrap();
    again.write(&content, Millis::now()).unwrap();
    let (name, group) = (Label::name("a").unwrap(), Label::group("").unwrap());
    again.finish(Named { name, group, version: Some(1) }, None, Millis::now()).unwrap();
    world.run_until(|_, _| false, |world| world.all_acked(&manifest, &NODES));
    assert!(world.nodes.values().all(|node| node.memory.0[&ObjectId(0)] == content));
}

#[test]
fn a_node_that_was_given_up_and_comes_back_is_served_from_the_cache() {
    let mut world = World::new();
    world.nodes.get_mut(&13).unwrap().on = false;
    let content = bytes(100_000, 6);
    let manifest = world.put("a", &content, &NODES);
    let failed = |world: &World| matches!(world.outcome(&manifest, 13), Outcome::Failed(_));
    world.run_until(|_, _| false, |world| world.all_acked(&manifest, &[11, 12]) && failed(world));
    let others: Vec<u64> = [11, 12].map(|node| world.nodes[&node].alone).into();
    // It hears of the next one, sees that it misses something, and says so.
    world.nodes.get_mut(&13).unwrap().on = true;
    let next = world.put("b", &bytes(50_000, 7), &NODES);
    world.run_until(
        |_, _| false,
        |world| world.all_acked(&next, &NODES) && world.all_acked(&manifest, &NODES),
    );
    assert!(world.nodes[&13].memory.0[&ObjectId(0)] == content);
    // Commands apart, nobody else got anything of that.
    for (node, before) in [11, 12].into_iter().zip(others) {
        assert!(world.nodes[&node].alone - before < 20, "node {node}");
    }
}

#[test]
fn nodes_without_an_ethernet_address_are_counted_and_get_it_later() {
    let mut world = World::new();
    world.tables.neighbours.remove(InterfaceId(0), addr("198.51.100.12"));
    let content = bytes(200_000, 8);
    let manifest = world.put("a", &content, &NODES);
    world.run_until(
        |frame, node| node == 12 && frame % 10 == 0,
        |world| world.all_acked(&manifest, &[11, 13]),
    );
    let unknown = world.site.unsent().find(|(why, _)| *why == "neighbour-unknown").unwrap().1;
    assert!(unknown > 0 && world.outcome(&manifest, 12) == Outcome::Owed);
    world.tables.neighbours.insert(InterfaceId(0), addr("198.51.100.12"), mac(12));
    world.run_until(|_, _| false, |world| world.all_acked(&manifest, &NODES));
    assert!(world.nodes[&12].memory.0[&ObjectId(0)] == content);
}

//! Instances that come, go, drain and change their weights under ten thousand connections.
//!
//! Limits: 400 changes. An instance that has left is still translated for as long as it is among the last 1024 to leave. New
//! flows find their instance by a Maglev table of at least a hundred entries an instance: when one of ten comes or goes, which
//! is where there are no more than that, at most three in a hundred of those that have nothing to do with it are moved; with
//! two or three hundred entries, at most two and one.

use std::collections::{HashMap, HashSet};

use millrace_fastpath::tables::services::*;
use millrace_fastpath::worker::WorkerLimits;

use super::traffic::*;
use crate::common::random::Random;
use crate::common::*;

const FLOWS: usize = 10_000;
const CHANGES: usize = 400;
const VIP_AT: At = (VIP, 80);

fn client(n: usize) -> At {
    ([10, 1, (n >> 8) as u8, n as u8], 20_000 + (n % 7) as u16 + (n >> 16) as u16)
}

fn ready(port: u16) -> Instance {
    Instance { fixed: true, ..listening(port, 1, InstanceState::Ready) }
}

struct Scene {
    bench: Bench,
    instances: Vec<Instance>,
    turn: usize,
}

impl Scene {
    fn new(workers: usize, instances: Vec<Instance>) -> Self {
        let limits = WorkerLimits { flows: 1 << 16, ..WorkerLimits::default() };
        let mut scene = Self { bench: Bench::with_limits(workers, &limits), instances, turn: 0 };
        scene.publish();
        scene
    }

    fn publish(&mut self) {
        let service = Service { instances: self.instances.clone(), ..fixed_service() };
        place(&mut self.bench, 0, 80, service);
        self.bench.publish();
    }

    /// These clients say something; the port of the instance that each reached.
    fn say(&mut self, clients: impl Iterator<Item = usize>, flags: u8) -> HashMap<usize, u16> {
        let clients: Vec<usize> = clients.collect();
        let mut reached = HashMap::new();
        for batch in clients.chunks(250) {
            for n in batch {
                self.turn += 1;
                let seq = *n as u32;
                scatter(&self.bench, self.turn, WAN, &tcp(CLIENT_SIDE, client(*n), VIP_AT, flags, seq));
            }
            self.bench.run();
            while let Some(frame) = self.bench.net.take(LAN) {
                let (from, to) = ends(&frame);
                let n = sequence(&frame) as usize;
                assert_eq!((from, to.0), (client(n), HOST));
                assert_eq!(reached.insert(n, to.1), None, "twice");
            }
        }
        assert_eq!(reached.len(), clients.len(), "all arrived");
        reached
    }

    /// Their instances answer; each answer comes from the service.
    fn answer(&mut self, flows: &[(usize, u16)], flags: u8) {
        for batch in flows.chunks(250) {
            for (n, port) in batch {
                self.turn += 1;
                let frame = tcp(HOST_SIDE, (HOST, *port), client(*n), flags, *n as u32);
                scatter(&self.bench, self.turn, LAN, &frame);
            }
            self.bench.run();
            let mut answered = HashSet::new();
            while let Some(frame) = self.bench.net.take(WAN) {
                let n = sequence(&frame) as usize;
                assert_eq!(ends(&frame), (VIP_AT, client(n)));
                assert!(answered.insert(n));
            }
            assert_eq!(answered.len(), batch.len());
        }
    }

    /// One change at random; its name.
    fn change(&mut self, random: &mut Random, next_port: &mut u16) -> &'static str {
        let serving = |instance: &&Instance| instance.state == InstanceState::Ready;
        let at = random.below(self.instances.len() as u64) as usize;
        let last = self.instances.iter().filter(serving).count() <= 2;
        let is_serving = serving(&&self.instances[at]);
        match random.below(4) {
            0 if !(last && is_serving) && self.instances.len() > 2 => {
                self.instances.swap_remove(at);
                "removed"
            }
            1 if !last => {
                self.instances[at].state = InstanceState::Draining;
                "drained"
            }
            2 => {
                self.instances[at].weight = 1 + random.below(5) as u16;
                "weighed"
            }
            _ => {
                *next_port += 1;
                self.instances.push(ready(*next_port));
                "added"
            }
        }
    }
}

#[test]
fn ten_thousand_connections_outlive_four_hundred_changes_of_their_instances() {
    let mut scene = Scene::new(2, (0..20).map(|n| ready(9000 + n)).collect());
    let flows = scene.say(0..FLOWS, SYN);
    assert_eq!(flows.values().collect::<HashSet<_>>().len(), 20, "all of them serve");
    let listed: Vec<(usize, u16)> = (0..FLOWS).map(|n| (n, flows[&n])).collect();
    scene.answer(&listed, SYN | ACK);
    assert_eq!(scene.say(0..FLOWS, ACK), flows);

    let mut random = Random(99);
    let (mut next_port, mut next_client) = (9100, FLOWS);
    let mut changes: HashMap<&str, usize> = HashMap::new();
    for round in 0..CHANGES {
        *changes.entry(scene.change(&mut random, &mut next_port)).or_default() += 1;
        scene.publish();
        scene.bench.advance_ms(50);
        // Some go on, to where they always went, whatever has become of it.
        let some = round * FLOWS / CHANGES..(round + 1) * FLOWS / CHANGES;
        let reached = scene.say(some.clone(), ACK);
        assert!(reached.iter().all(|(n, port)| flows[n] == *port), "round {round}");
        scene.answer(&listed[some], ACK);
        // Others begin, and go only to those who take new ones.
        let serving: HashSet<u16> = scene
            .instances
            .iter()
            .filter(|instance| instance.state == InstanceState::Ready)
            .map(|instance| instance.port)
            .collect();
        let new = scene.say(next_client..next_client + 5, SYN);
        assert!(new.values().all(|port| serving.contains(port)), "{new:?} of {serving:?}");
        next_client += 5;
    }
    assert!(changes.len() == 4 && changes.values().all(|count| *count > 40), "{changes:?}");
    let kept = scene.instances.iter().filter(|instance| instance.port < 9100).count();
    assert!(kept < 15, "{kept} of the first twenty are still there");
    assert_eq!(scene.say(0..FLOWS, ACK), flows, "each where it was at the beginning");
    scene.answer(&listed, ACK);
    let begun = scene.bench.sum(|of| &of.service(ServiceId(0)).flows_begun);
    assert_eq!(begun, (FLOWS + 5 * CHANGES) as u64, "nobody had to begin again");
    assert_eq!(scene.bench.sum(|of| &of.fates.flows_evicted), 0);
    scene.bench.check_laws();
}

/// Where new clients are led by these instances.
fn map(instances: Vec<Instance>) -> HashMap<usize, u16> {
    let mut scene = Scene::new(1, instances);
    let map = scene.say(0..20_000, SYN);
    scene.bench.check_laws();
    map
}

#[test]
fn a_change_of_one_instance_moves_few_of_the_others_new_flows() {
    for (count, percent) in [(5, 2), (10, 3), (50, 1)] {
        let all: Vec<Instance> = (0..count).map(|n| ready(9000 + n)).collect();
        let with = map(all.clone());
        let without = map(all[1..].to_vec());
        let gone = with.values().filter(|port| **port == 9000).count();
        let share = 20_000 / usize::from(count);
        assert!((share * 8 / 10..share * 12 / 10).contains(&gone), "{gone} of {count}");
        // Read from left to right one has left, and from right to left it has come.
        let moved = with.iter().filter(|(n, port)| **port != 9000 && without[*n] != **port).count();
        assert!(moved * 100 <= percent * (20_000 - gone), "{moved} of {} moved, {count}", 20_000 - gone);
    }
}

//! Stations behind the appliance: serving nodes with their instances, and backends that are always there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use millrace_orchestrator_api::{
    InstanceId, InstanceState, InstanceStatus, NodeDown, NodeHello, NodeKind, NodeUp, Start,
};

use crate::datagram::{Said, answer};
use crate::pieces::Pieces;
use crate::random::Random;
use crate::scenario::{BACKENDS, NODES, TCP_PORT};
use crate::server::Server;
use crate::services::backend_id;
use crate::wire::Mac;

/// What a node does by itself later on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Bind(InstanceId),
    Serve(InstanceId),
    Fail(InstanceId),
    Stop(InstanceId),
}

/// An instance, or a backend.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) start: Start,
    pub(crate) state: InstanceState,
    pub(crate) port: u16,
    pub(crate) server: Server,
    /// The QUIC connection ids that it has made.
    pub(crate) made: BTreeSet<Vec<u8>>,
    /// It goes when this has passed, whatever is under way.
    pub(crate) stops_ms: Option<u64>,
}

/// A station: a serving node, or the host of a backend.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) name: &'static str,
    pub(crate) mac: Mac,
    pub(crate) addresses: [IpAddr; 2],
    pub(crate) up: bool,
    /// The cable is out.
    pub(crate) cut: bool,
    /// Nobody listens at its TCP ports.
    pub(crate) refuses: bool,
    /// Nothing comes through to the orchestrator.
    pub(crate) silent: bool,
    /// Its stream to the orchestrator; backends have none.
    pub(crate) session: Option<u64>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// What has come to it in pieces, and the identification of what it has cut last.
    pub(crate) pieces: Pieces,
    pub(crate) piece: u32,
    memory_bytes: u64,
    next_port: u16,
}

/// How instances do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Per cent of starts that fail.
    pub(crate) fails: u64,
    /// Per cent that take seconds.
    pub(crate) slow: u64,
}

/// What a command leads to: what is said at once, and what is done after so many milliseconds.
pub(crate) type Course = (Vec<NodeUp>, Vec<(u64, Step)>);

/// Serving nodes first, then the backends.
pub(crate) fn stations(memory_mib: u64) -> Vec<Station> {
    let all = NODES.iter().map(|(name, v4, v6)| (*name, *v4, *v6));
    let backends = BACKENDS.iter().map(|(v4, v6)| ("backend", *v4, *v6));
    let station = |(at, (name, v4, v6)): (usize, (&'static str, &str, &str))| {
        let mut station = Station {
            name,
            mac: [2, 0, 0, 2, 0, at as u8],
            addresses: [v4.parse().unwrap(), v6.parse().unwrap()],
            up: true,
            cut: false,
            refuses: false,
            silent: false,
            session: None,
            instances: BTreeMap::new(),
            pieces: Pieces::default(),
            piece: PIECES_EACH * at as u32,
            memory_bytes: memory_mib << 20,
            next_port: 9000,
        };
        if at >= NODES.len() {
            station.back(at as u64);
        }
        station
    };
    all.chain(backends).enumerate().map(station).collect()
}

impl Station {
    /// Makes it the host of a backend.
    fn back(&mut self, id: u64) {
        let start = Start {
            instance: InstanceId(id),
            service: String::new(),
            function: String::new(),
            memory_bytes: 0,
            deadline_ms: 0,
            port: TCP_PORT,
        };
        let instance = Instance {
            start,
            state: InstanceState::Ready,
            port: TCP_PORT,
            server: Server::new(id, true),
            made: BTreeSet::new(),
            stops_ms: None,
        };
        self.instances.insert(InstanceId(id), instance);
    }

    pub(crate) fn is_backend(&self) -> bool {
        self.name == "backend"
    }

    /// The instance that listens at a port; a backend does at all ports of its services.
    pub(crate) fn listener(&mut self, port: u16) -> Option<(InstanceId, &mut Instance)> {
        let all = self.is_backend();
        let mut instances = self.instances.iter_mut();
        instances.find(|(_, one)| all || one.port == port && port != 0).map(|(id, one)| (*id, one))
    }

    pub(crate) fn hello(&self) -> NodeUp {
        let address = |at: usize| self.addresses[at];
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (address(0), address(1)) else {
            unreachable!("the first is of IPv4, the second of IPv6")
        };
        NodeUp::Hello(NodeHello {
            name: self.name.to_owned(),
            kind: NodeKind::Wasm,
            version: "0".to_owned(),
            ipv4_address: Some(v4),
            ipv6_address: Some(v6),
            memory_bytes: self.memory_bytes,
            instances: self.instances.values().map(Instance::status).collect(),
        })
    }

    /// The orchestrator commands.
    pub(crate) fn told(
        &mut self,
        down: NodeDown,
        now_ms: u64,
        manners: Manners,
        random: &mut Random,
    ) -> Course {
        match down {
            NodeDown::Start(start) if self.instances.contains_key(&start.instance) => {
                (Vec::new(), Vec::new())
            }
            NodeDown::Start(start) => {
                let id = start.instance;
                let server = Server::new(id.0, false);
                let state = InstanceState::Starting;
                let made = BTreeSet::new();
                self.instances.insert(id, Instance { start, state, port: 0, server, made, stops_ms: None });
                let bound = random.within(0..=20);
                let takes = if random.percent(manners.slow) {
                    random.within(500..=4000)
                } else {
                    random.within(1..=300)
                };
                let ends = if random.percent(manners.fails) { Step::Fail(id) } else { Step::Serve(id) };
                (Vec::new(), vec![(bound, Step::Bind(id)), (bound + takes, ends)])
            }
            NodeDown::Stop(stop) => match self.instances.get_mut(&stop.instance) {
                Some(instance) => {
                    instance.state = InstanceState::Draining;
                    instance.stops_ms.get_or_insert(now_ms + stop.drain_ms);
                    let busy = instance.server.is_busy();
                    let said = NodeUp::Status(instance.status());
                    (vec![said], vec![(if busy { stop.drain_ms } else { 1 }, Step::Stop(stop.instance))])
                }
                None => (vec![gone(stop.instance)], Vec::new()),
            },
        }
    }

    /// Something that was begun comes to its end. What is said of it, and what the network is sent.
    pub(crate) fn step(&mut self, step: Step, now_ms: u64, out: &mut Vec<Vec<u8>>) -> Option<NodeUp> {
        let (Step::Bind(id) | Step::Serve(id) | Step::Fail(id) | Step::Stop(id)) = step;
        let port = self.next_port;
        let instance = self.instances.get_mut(&id)?;
        match step {
            Step::Bind(_) if instance.state == InstanceState::Starting && instance.port == 0 => {
                instance.port = port;
                self.next_port += 1;
                Some(NodeUp::Status(instance.status()))
            }
            Step::Serve(_) if instance.state == InstanceState::Starting => {
                instance.state = InstanceState::Ready;
                instance.server.serve(now_ms, out);
                Some(NodeUp::Status(instance.status()))
            }
            Step::Fail(_) | Step::Stop(_) => {
                instance.state =
                    if step == Step::Stop(id) { InstanceState::Stopped } else { InstanceState::Failed };
                let status = instance.status();
                self.instances.remove(&id);
                Some(NodeUp::Status(status))
            }
            Step::Bind(_) | Step::Serve(_) => None,
        }
    }

    /// It loses its power.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.session = None;
        if self.is_backend() {
            let id = self.instances.keys().next().map_or(0, |id| id.0);
            self.back(id);
        } else {
            self.instances.clear();
        }
    }
}

impl Station {
    /// What its instance `id` answers to a datagram; `None` where it doesn't know the connection, or doesn't serve yet.
    pub(crate) fn answers(&mut self, id: InstanceId, said: &Said, v4: bool) -> Option<Vec<u8>> {
        let server_id = self.server_id(id, v4);
        let instance = self.instances.get_mut(&id).filter(|one| one.server.serves)?;
        let mut made = Vec::new();
        if let Some(connection) = &said.connection {
            if said.is_long {
                // Rotation 0, and how much follows (QUIC-LB §3.3, §5.4).
                made.push((server_id.len() + NONCE) as u8);
                made.extend_from_slice(&server_id);
                made.extend_from_slice(&said.id.to_be_bytes()[8 - NONCE..]);
                instance.made.insert(made.clone());
            } else if !instance.made.contains(connection) {
                return None;
            }
        }
        Some(answer(said, id.0, &made))
    }

    /// What an instance's QUIC connection ids say: where it is, or what the configuration has for a backend.
    fn server_id(&self, id: InstanceId, v4: bool) -> [u8; 6] {
        let (IpAddr::V4(addr), false) = (self.addresses[0], self.is_backend()) else {
            return backend_id(id.0 as usize - NODES.len(), v4);
        };
        let [a, b, c, d] = addr.octets();
        let [high, low] = self.instances.get(&id).map_or(0, |one| one.port).to_be_bytes();
        [a, b, c, d, high, low]
    }
}

/// Bytes of a nonce, as the configuration has it.
const NONCE: usize = 5;
/// Packets that a station cuts in pieces at most.
const PIECES_EACH: u32 = 4096;

impl Instance {
    pub(crate) fn status(&self) -> InstanceStatus {
        InstanceStatus {
            instance: self.start.instance,
            service: self.start.service.clone(),
            function: self.start.function.clone(),
            state: self.state,
            port: self.port,
            memory_bytes: self.start.memory_bytes,
            reason: String::new(),
        }
    }
}

fn gone(instance: InstanceId) -> NodeUp {
    NodeUp::Status(InstanceStatus {
        instance,
        service: String::new(),
        function: String::new(),
        state: InstanceState::Stopped,
        port: 0,
        memory_bytes: 0,
        reason: String::new(),
    })
}

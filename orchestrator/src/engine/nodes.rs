//! What serving nodes say.

use std::net::IpAddr;
use std::time::Duration;

use millrace_orchestrator_api::{
    InstanceId, InstanceState, InstanceStatus, NodeDown, NodeHello, NodeUp, Stop,
};
use tracing::{debug, info, warn};

use super::{Closed, Engine, NODE_SILENCE_MAX, NodeSession, Output, Phase, Record};

impl Engine {
    /// A serving node says something by one of its streams.
    pub fn node_says(&mut self, session: NodeSession, up: NodeUp, now: Duration) {
        if let NodeUp::Hello(hello) = up {
            self.node_hello(session, hello, now);
        } else if let Some(name) = self.node_by(session) {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.heard = now;
            }
            match up {
                NodeUp::Status(status) => self.status(&name, session, status, now),
                NodeUp::Heartbeat { in_flight, requests } => {
                    debug!(node = name, in_flight, requests, "heartbeat");
                }
                NodeUp::Hello(_) => {}
            }
        } else {
            self.outputs.push(Output::Close(session, Closed::NoGreeting));
        }
        self.settle(now);
        self.flush();
    }

    /// A serving node's stream has ended.
    pub fn node_down(&mut self, session: NodeSession, now: Duration) {
        if let Some(name) = self.node_by(session) {
            self.node_lost(&name, now);
        }
        self.flush();
    }

    fn node_by(&self, session: NodeSession) -> Option<String> {
        self.nodes.iter().find(|(_, node)| node.session == Some(session)).map(|(name, _)| name.clone())
    }

    fn node_hello(&mut self, session: NodeSession, hello: NodeHello, now: Duration) {
        let name = hello.name.clone();
        if let Some(closed) = self.refuse(&hello) {
            warn!(node = name, "a serving node is refused: {closed}");
            self.outputs.push(Output::Close(session, closed));
            return;
        }
        if let Some(old) = self.nodes.get(&name).and_then(|node| node.session) {
            if old != session {
                self.outputs.push(Output::Close(old, Closed::Replaced(name.clone())));
            }
            self.node_lost(&name, now);
        }
        let Some(node) = self.nodes.get_mut(&name) else { return };
        node.session = Some(session);
        node.heard = now;
        node.ipv4_address = hello.ipv4_address;
        node.ipv6_address = hello.ipv6_address;
        node.memory_bytes = hello.memory_bytes;
        node.leaving = false;
        info!(
            node = name,
            version = hello.version,
            memory_mib = hello.memory_bytes >> 20,
            instances = hello.instances.len(),
            "a serving node has registered"
        );
        self.hope();
        // What it doesn't list is gone; losing the node has already counted that as lost.
        let listed: Vec<InstanceId> = hello
            .instances
            .iter()
            .filter(|status| !matches!(status.state, InstanceState::Stopped | InstanceState::Failed))
            .map(|status| status.instance)
            .collect();
        self.instances.retain(|id, record| record.node != name || listed.contains(id));
        for status in hello.instances {
            if listed.contains(&status.instance) {
                self.adopt(&name, session, status, now);
            }
        }
        self.reconcile_all(now);
    }

    fn refuse(&self, hello: &NodeHello) -> Option<Closed> {
        let Some(configured) = self.config.node(&hello.name) else {
            return Some(Closed::UnknownNode(hello.name.clone()));
        };
        let mut has = hello
            .ipv4_address
            .map(IpAddr::V4)
            .into_iter()
            .chain(hello.ipv6_address.map(IpAddr::V6))
            .peekable();
        if has.peek().is_none() {
            return Some(Closed::NoAddress(hello.name.clone()));
        }
        let right = configured.address.is_none_or(|wanted| has.any(|address| address == wanted));
        (!right).then(|| Closed::WrongAddress(hello.name.clone()))
    }

    /// Takes over an instance that a node has kept: it counts again if it fits, and is stopped if not.
    fn adopt(&mut self, node: &str, session: NodeSession, status: InstanceStatus, now: Duration) {
        let id = status.instance;
        self.next_instance = self.next_instance.max(id.0.saturating_add(1));
        if self.instances.get(&id).is_some_and(|record| record.node != node) {
            warn!(instance = %id, node, "two nodes claim one instance");
            self.outputs.push(Output::Node(session, NodeDown::Stop(Stop { instance: id, drain_ms: 0 })));
            return;
        }
        let stopping = match self.instances.get(&id).map(|record| record.phase) {
            Some(Phase::Stopping { asked }) => Some(asked),
            _ => None,
        };
        let max = self
            .config
            .service(&status.service)
            .filter(|(service, _)| service.function == status.function)
            .map_or(0, |(_, function)| function.instances_max as usize);
        let wanted = stopping.is_none() && self.live(&status.service) < max;
        let phase = match status.state {
            InstanceState::Ready if wanted => Phase::Ready,
            InstanceState::Starting if wanted && self.pending(&status.service) == 0 => Phase::Starting,
            _ => Phase::Stopping { asked: stopping.unwrap_or(0) },
        };
        let deadline_ms =
            self.config.service(&status.service).map_or(0, |(_, function)| function.deadline_ms);
        let service = status.service.clone();
        self.dirty.insert(service.clone());
        self.instances.insert(
            id,
            Record {
                service: status.service,
                function: status.function,
                node: node.to_owned(),
                memory_bytes: status.memory_bytes,
                deadline_ms,
                phase,
                port: status.port,
                since: now,
            },
        );
        if phase.is_live() {
            info!(instance = %id, service, node, "an instance is taken over");
            let live = self.live(&service) as u32;
            if let Some(service) = self.services.get_mut(&service) {
                service.desired = service.desired.max(live);
            }
            if phase == Phase::Ready {
                self.became_ready(&service);
            }
        } else {
            self.stop(id, now);
        }
    }

    fn status(&mut self, node: &str, session: NodeSession, status: InstanceStatus, now: Duration) {
        let id = status.instance;
        let gone = matches!(status.state, InstanceState::Stopped | InstanceState::Failed);
        let Some(record) = self.instances.get_mut(&id).filter(|record| record.node == node) else {
            if !gone {
                warn!(instance = %id, node, "an instance that nobody asked for");
                self.outputs.push(Output::Node(session, NodeDown::Stop(Stop { instance: id, drain_ms: 0 })));
            }
            return;
        };
        // A node that doesn't know an instance any more can't say what it was.
        if !gone && (record.service != status.service || record.function != status.function) {
            warn!(instance = %id, node, service = status.service, "an instance changed its service; ignored");
            return;
        }
        let service = record.service.clone();
        let before = record.phase;
        match (status.state, before) {
            (InstanceState::Starting, Phase::Requested) if status.port != 0 => {
                record.phase = Phase::Starting;
                record.port = status.port;
                record.since = now;
            }
            (InstanceState::Ready, Phase::Requested | Phase::Starting) if status.port != 0 => {
                record.phase = Phase::Ready;
                record.port = status.port;
                record.since = now;
                info!(instance = %id, service, node, "ready");
                self.became_ready(&service);
                self.reconcile(&service, now);
            }
            (
                InstanceState::Draining,
                Phase::Requested | Phase::Starting | Phase::Ready | Phase::Draining(_),
            ) => {
                // Nobody asked: the node itself is going down.
                record.phase = Phase::Stopping { asked: 0 };
                record.since = now;
                if let Some(node) = self.nodes.get_mut(node) {
                    node.leaving = true;
                }
                self.gone(&service, node, before, "the node is going down", now);
            }
            (InstanceState::Stopped | InstanceState::Failed, _) => {
                self.instances.remove(&id);
                info!(instance = %id, service, node, reason = status.reason, "stopped");
                let reason = if status.reason.is_empty() { "it stopped by itself" } else { &status.reason };
                self.gone(&service, node, before, reason, now);
                // Its memory may be what another service waits for.
                self.reconcile_all(now);
            }
            _ => {}
        }
        self.dirty.insert(service);
    }

    /// An instance doesn't count any more, and what that means depends on how far it had come.
    fn gone(&mut self, service: &str, node: &str, before: Phase, reason: &str, now: Duration) {
        if before.is_pending() {
            self.start_failed(service, node, reason, now);
        } else if before == Phase::Ready {
            self.lost_ready(service, now);
        }
    }

    /// A node can't be reached: its instances leave the placement at once, their memory stays taken.
    fn node_lost(&mut self, name: &str, now: Duration) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.session = None;
        let mut lost = Vec::new();
        for record in self.instances.values_mut().filter(|record| record.node == name) {
            self.dirty.insert(record.service.clone());
            lost.push((record.service.clone(), record.phase));
            // What was being stopped must still be, when the node comes back.
            if !matches!(record.phase, Phase::Stopping { .. }) {
                record.phase = Phase::Away;
            }
        }
        warn!(node = name, instances = lost.len(), "a serving node is lost");
        for (service, before) in lost {
            self.gone(&service, name, before, "its node was lost", now);
        }
    }

    pub(super) fn silent_nodes(&mut self, now: Duration) {
        let silent: Vec<(String, NodeSession)> = self
            .nodes
            .iter()
            .filter(|(_, node)| now.saturating_sub(node.heard) >= NODE_SILENCE_MAX)
            .filter_map(|(name, node)| Some((name.clone(), node.session?)))
            .collect();
        for (name, session) in silent {
            self.outputs.push(Output::Close(session, Closed::Silent(name.clone())));
            self.node_lost(&name, now);
        }
    }
}

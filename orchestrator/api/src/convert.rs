//! Between the wire's types and ours. What goes out always converts; what comes in is checked once, here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::message::{
    Delta, DnsQuestion, Down, FirstPacket, Generation, Idle, Instance, InstanceId, InstanceState,
    InstanceStatus, MacAddress, NodeDown, NodeHello, NodeKind, NodeUp, NoticeId, ServiceFailure,
    ServicePlacement, Snapshot, Start, Stop, Trigger, Up,
};
use crate::proto;
use crate::proto::appliance_message::Message as UpWire;
use crate::proto::node_command::Command as NodeDownWire;
use crate::proto::node_message::Message as NodeUpWire;
use crate::proto::orchestrator_message::Message as DownWire;

/// A message that breaks the API's rules. The stream that brought it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// No variant is set, or one that this version doesn't know.
    #[error("{0}: nothing is set that this version knows")]
    Empty(&'static str),
    /// A field's value is out of range.
    #[error("{0}: not a value that this version knows")]
    Field(&'static str),
    /// A name or reason is longer than [`TEXT_BYTES_MAX`].
    #[error("{0}: too long")]
    Long(&'static str),
}

/// Longest name, port or reason taken from the wire, bytes: a DNS name in presentation form fits four times.
pub const TEXT_BYTES_MAX: usize = 1024;

/// A message from an appliance, with the link's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAppliance {
    /// The greeting.
    Hello(proto::Hello),
    /// Nothing new, still there.
    Heartbeat,
    /// For the orchestrator's engine.
    Up(Up),
}

/// Reads a message from an appliance.
///
/// # Errors
/// The message breaks the API's rules.
pub fn from_appliance(message: proto::ApplianceMessage) -> Result<FromAppliance, WireError> {
    Ok(match message.message.ok_or(WireError::Empty("ApplianceMessage"))? {
        UpWire::Hello(hello) => {
            text("Hello.version", &hello.version)?;
            FromAppliance::Hello(proto::Hello { site: checked("Hello.site", hello.site)?, ..hello })
        }
        UpWire::Heartbeat(proto::Heartbeat {}) => FromAppliance::Heartbeat,
        UpWire::FirstPacket(notice) => FromAppliance::Up(Up::FirstPacket(first_packet(notice)?)),
        UpWire::Applied(applied) => FromAppliance::Up(Up::Applied {
            generation: Generation(applied.generation),
            digest: applied.digest,
        }),
        UpWire::Idle(idle) => FromAppliance::Up(Up::Idle(Idle {
            service: checked("Idle.service", idle.service)?,
            generation: Generation(idle.generation),
        })),
        UpWire::Resync(proto::Resync {}) => FromAppliance::Up(Up::Resync),
    })
}

/// Reads a message from the orchestrator; `None` is a heartbeat.
///
/// # Errors
/// The message breaks the API's rules.
pub fn from_orchestrator(message: proto::OrchestratorMessage) -> Result<Option<Down>, WireError> {
    Ok(Some(match message.message.ok_or(WireError::Empty("OrchestratorMessage"))? {
        DownWire::Heartbeat(proto::Heartbeat {}) => return Ok(None),
        DownWire::Snapshot(snapshot) => Down::Snapshot(Snapshot {
            generation: Generation(snapshot.generation),
            services: all(snapshot.services, placement)?,
        }),
        DownWire::Delta(delta) => Down::Delta(Delta {
            from: Generation(delta.from_generation),
            to: Generation(delta.to_generation),
            changes: all(delta.changes, placement)?,
        }),
        DownWire::Acknowledge(proto::Acknowledge { sequence }) => Down::Acknowledge { sequence },
    }))
}

/// Reads a message from a serving node.
///
/// # Errors
/// The message breaks the API's rules.
pub fn from_node(message: proto::NodeMessage) -> Result<NodeUp, WireError> {
    Ok(match message.message.ok_or(WireError::Empty("NodeMessage"))? {
        NodeUpWire::Hello(hello) => NodeUp::Hello(node_hello(hello)?),
        NodeUpWire::Status(one) => NodeUp::Status(status(one)?),
        NodeUpWire::Heartbeat(proto::NodeHeartbeat { in_flight, requests }) => {
            NodeUp::Heartbeat { in_flight, requests }
        }
    })
}

/// Reads a command to a serving node.
///
/// # Errors
/// The command breaks the API's rules.
pub fn from_command(command: proto::NodeCommand) -> Result<NodeDown, WireError> {
    Ok(match command.command.ok_or(WireError::Empty("NodeCommand"))? {
        NodeDownWire::Start(start) => NodeDown::Start(Start {
            instance: InstanceId(start.instance),
            service: checked("Start.service", start.service)?,
            function: checked("Start.function", start.function)?,
            memory_bytes: start.memory_bytes,
            deadline_ms: start.deadline_ms,
            port: narrow("Start.port", start.port)?,
        }),
        NodeDownWire::Stop(stop) => {
            NodeDown::Stop(Stop { instance: InstanceId(stop.instance), drain_ms: stop.drain_ms })
        }
    })
}

impl From<Up> for proto::ApplianceMessage {
    fn from(up: Up) -> Self {
        let message = match up {
            Up::FirstPacket(notice) => UpWire::FirstPacket(notice.into()),
            Up::Applied { generation, digest } => {
                UpWire::Applied(proto::Applied { generation: generation.0, digest })
            }
            Up::Idle(Idle { service, generation }) => {
                UpWire::Idle(proto::Idle { service, generation: generation.0 })
            }
            Up::Resync => UpWire::Resync(proto::Resync {}),
        };
        proto::ApplianceMessage { message: Some(message) }
    }
}

impl From<Down> for proto::OrchestratorMessage {
    fn from(down: Down) -> Self {
        let message = match down {
            Down::Snapshot(snapshot) => DownWire::Snapshot(proto::Snapshot {
                generation: snapshot.generation.0,
                services: snapshot.services.into_iter().map(Into::into).collect(),
            }),
            Down::Delta(delta) => DownWire::Delta(proto::Delta {
                from_generation: delta.from.0,
                to_generation: delta.to.0,
                changes: delta.changes.into_iter().map(Into::into).collect(),
            }),
            Down::Acknowledge { sequence } => DownWire::Acknowledge(proto::Acknowledge { sequence }),
        };
        proto::OrchestratorMessage { message: Some(message) }
    }
}

impl From<NodeUp> for proto::NodeMessage {
    fn from(up: NodeUp) -> Self {
        let message = match up {
            NodeUp::Hello(hello) => NodeUpWire::Hello(hello.into()),
            NodeUp::Status(status) => NodeUpWire::Status(status.into()),
            NodeUp::Heartbeat { in_flight, requests } => {
                NodeUpWire::Heartbeat(proto::NodeHeartbeat { in_flight, requests })
            }
        };
        proto::NodeMessage { message: Some(message) }
    }
}

impl From<NodeDown> for proto::NodeCommand {
    fn from(down: NodeDown) -> Self {
        let command = match down {
            NodeDown::Start(start) => NodeDownWire::Start(proto::Start {
                instance: start.instance.0,
                service: start.service,
                function: start.function,
                memory_bytes: start.memory_bytes,
                deadline_ms: start.deadline_ms,
                port: u32::from(start.port),
            }),
            NodeDown::Stop(stop) => {
                NodeDownWire::Stop(proto::Stop { instance: stop.instance.0, drain_ms: stop.drain_ms })
            }
        };
        proto::NodeCommand { command: Some(command) }
    }
}

impl From<FirstPacket> for proto::FirstPacket {
    fn from(notice: FirstPacket) -> Self {
        proto::FirstPacket {
            site: notice.site,
            boot: notice.boot,
            sequence: notice.sequence,
            service: notice.service,
            trigger: match notice.trigger {
                Trigger::Dns => proto::Trigger::Dns,
                Trigger::Syn => proto::Trigger::Syn,
                Trigger::Flow => proto::Trigger::Flow,
            }
            .into(),
            time_unix_ns: notice.time_unix_ns,
            ingress_port: notice.ingress_port,
            vlan: notice.vlan.map_or(0, u32::from),
            source_mac: notice.source_mac.0.to_vec(),
            destination_mac: notice.destination_mac.0.to_vec(),
            source_address: octets(notice.source_address),
            destination_address: octets(notice.destination_address),
            ip_version: if notice.destination_address.is_ipv4() { 4 } else { 6 },
            next_header: u32::from(notice.next_header),
            length_bytes: u32::from(notice.length_bytes),
            flow_label: notice.flow_label,
            dns: notice
                .dns
                .map(|DnsQuestion { names, kind }| proto::DnsQuestion { names, r#type: u32::from(kind) }),
            workload: Some(proto::WorkloadHint { function_class: notice.function_class }),
        }
    }
}

impl From<ServicePlacement> for proto::ServicePlacement {
    fn from(placement: ServicePlacement) -> Self {
        let failure = placement.failure.map(|ServiceFailure { notices, reason }| proto::ServiceFailure {
            service: placement.service.clone(),
            reason,
            notices: notices
                .into_iter()
                .map(|NoticeId { site, boot, sequence }| proto::NoticeId { site, boot, sequence })
                .collect(),
        });
        proto::ServicePlacement {
            service: placement.service,
            instances: placement.instances.into_iter().map(Into::into).collect(),
            failure,
        }
    }
}

impl From<Instance> for proto::Instance {
    fn from(instance: Instance) -> Self {
        proto::Instance {
            id: instance.id.0,
            node: instance.node,
            state: state_number(instance.state),
            ipv4_address: instance.ipv4_address.map_or_else(Vec::new, |address| address.octets().to_vec()),
            ipv6_address: instance.ipv6_address.map_or_else(Vec::new, |address| address.octets().to_vec()),
            port: u32::from(instance.port),
            weight: instance.weight,
        }
    }
}

impl From<NodeHello> for proto::NodeHello {
    fn from(hello: NodeHello) -> Self {
        let ipv4 = hello.ipv4_address.map(|address| address.octets().to_vec());
        let ipv6 = hello.ipv6_address.map(|address| address.octets().to_vec());
        proto::NodeHello {
            name: hello.name,
            kind: match hello.kind {
                NodeKind::Wasm => proto::NodeKind::Wasm,
            }
            .into(),
            version: hello.version,
            addresses: ipv4.into_iter().chain(ipv6).collect(),
            memory_bytes: hello.memory_bytes,
            instances: hello.instances.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<InstanceStatus> for proto::InstanceStatus {
    fn from(status: InstanceStatus) -> Self {
        proto::InstanceStatus {
            instance: status.instance.0,
            service: status.service,
            function: status.function,
            state: state_number(status.state),
            port: u32::from(status.port),
            memory_bytes: status.memory_bytes,
            reason: status.reason,
        }
    }
}

fn first_packet(notice: proto::FirstPacket) -> Result<FirstPacket, WireError> {
    let source_address = address("FirstPacket.source_address", &notice.source_address)?;
    let destination_address = address("FirstPacket.destination_address", &notice.destination_address)?;
    let version = if destination_address.is_ipv4() { 4 } else { 6 };
    if source_address.is_ipv4() != destination_address.is_ipv4() || notice.ip_version != version {
        return Err(WireError::Field("FirstPacket.ip_version"));
    }
    if notice.flow_label >= 1 << 20 {
        return Err(WireError::Field("FirstPacket.flow_label"));
    }
    let dns = match notice.dns {
        None => None,
        Some(question) => Some(DnsQuestion {
            names: all(question.names, |name| checked("DnsQuestion.names", name))?,
            kind: narrow("DnsQuestion.type", question.r#type)?,
        }),
    };
    Ok(FirstPacket {
        site: checked("FirstPacket.site", notice.site)?,
        boot: notice.boot,
        sequence: notice.sequence,
        service: checked("FirstPacket.service", notice.service)?,
        trigger: match proto::Trigger::try_from(notice.trigger) {
            Ok(proto::Trigger::Dns) => Trigger::Dns,
            Ok(proto::Trigger::Syn) => Trigger::Syn,
            Ok(proto::Trigger::Flow) => Trigger::Flow,
            Ok(proto::Trigger::Unspecified) | Err(_) => return Err(WireError::Field("FirstPacket.trigger")),
        },
        time_unix_ns: notice.time_unix_ns,
        ingress_port: checked("FirstPacket.ingress_port", notice.ingress_port)?,
        vlan: match notice.vlan {
            0 => None,
            vlan @ 1..=4094 => Some(narrow("FirstPacket.vlan", vlan)?),
            _ => return Err(WireError::Field("FirstPacket.vlan")),
        },
        source_mac: mac("FirstPacket.source_mac", &notice.source_mac)?,
        destination_mac: mac("FirstPacket.destination_mac", &notice.destination_mac)?,
        source_address,
        destination_address,
        next_header: narrow("FirstPacket.next_header", notice.next_header)?,
        length_bytes: narrow("FirstPacket.length_bytes", notice.length_bytes)?,
        flow_label: notice.flow_label,
        dns,
        function_class: match notice.workload {
            None => String::new(),
            Some(hint) => checked("WorkloadHint.function_class", hint.function_class)?,
        },
    })
}

fn placement(placement: proto::ServicePlacement) -> Result<ServicePlacement, WireError> {
    Ok(ServicePlacement {
        service: checked("ServicePlacement.service", placement.service)?,
        instances: all(placement.instances, instance)?,
        failure: match placement.failure {
            None => None,
            Some(failure) => Some(ServiceFailure {
                notices: all(failure.notices, notice_id)?,
                reason: checked("ServiceFailure.reason", failure.reason)?,
            }),
        },
    })
}

fn notice_id(id: proto::NoticeId) -> Result<NoticeId, WireError> {
    Ok(NoticeId { site: checked("NoticeId.site", id.site)?, boot: id.boot, sequence: id.sequence })
}

fn instance(instance: proto::Instance) -> Result<Instance, WireError> {
    let (ipv4_address, ipv6_address) =
        pair("Instance address", [instance.ipv4_address, instance.ipv6_address].iter())?;
    Ok(Instance {
        id: InstanceId(instance.id),
        node: checked("Instance.node", instance.node)?,
        state: state("Instance.state", instance.state)?,
        ipv4_address,
        ipv6_address,
        port: narrow("Instance.port", instance.port)?,
        weight: instance.weight,
    })
}

fn node_hello(hello: proto::NodeHello) -> Result<NodeHello, WireError> {
    let (ipv4_address, ipv6_address) = pair("NodeHello.addresses", hello.addresses.iter())?;
    Ok(NodeHello {
        name: checked("NodeHello.name", hello.name)?,
        kind: match proto::NodeKind::try_from(hello.kind) {
            Ok(proto::NodeKind::Wasm) => NodeKind::Wasm,
            Ok(proto::NodeKind::Unspecified) | Err(_) => return Err(WireError::Field("NodeHello.kind")),
        },
        version: checked("NodeHello.version", hello.version)?,
        ipv4_address,
        ipv6_address,
        memory_bytes: hello.memory_bytes,
        instances: all(hello.instances, status)?,
    })
}

fn status(status: proto::InstanceStatus) -> Result<InstanceStatus, WireError> {
    Ok(InstanceStatus {
        instance: InstanceId(status.instance),
        service: checked("InstanceStatus.service", status.service)?,
        function: checked("InstanceStatus.function", status.function)?,
        state: state("InstanceStatus.state", status.state)?,
        port: narrow("InstanceStatus.port", status.port)?,
        memory_bytes: status.memory_bytes,
        reason: checked("InstanceStatus.reason", status.reason)?,
    })
}

fn state_number(state: InstanceState) -> i32 {
    match state {
        InstanceState::Starting => proto::InstanceState::Starting,
        InstanceState::Ready => proto::InstanceState::Ready,
        InstanceState::Draining => proto::InstanceState::Draining,
        InstanceState::Stopped => proto::InstanceState::Stopped,
        InstanceState::Failed => proto::InstanceState::Failed,
    }
    .into()
}

fn state(field: &'static str, number: i32) -> Result<InstanceState, WireError> {
    match proto::InstanceState::try_from(number) {
        Ok(proto::InstanceState::Starting) => Ok(InstanceState::Starting),
        Ok(proto::InstanceState::Ready) => Ok(InstanceState::Ready),
        Ok(proto::InstanceState::Draining) => Ok(InstanceState::Draining),
        Ok(proto::InstanceState::Stopped) => Ok(InstanceState::Stopped),
        Ok(proto::InstanceState::Failed) => Ok(InstanceState::Failed),
        Ok(proto::InstanceState::Unspecified) | Err(_) => Err(WireError::Field(field)),
    }
}

fn all<A, B>(many: Vec<A>, one: impl Fn(A) -> Result<B, WireError>) -> Result<Vec<B>, WireError> {
    many.into_iter().map(one).collect()
}

fn text(field: &'static str, text: &str) -> Result<(), WireError> {
    if text.len() > TEXT_BYTES_MAX { Err(WireError::Long(field)) } else { Ok(()) }
}

fn checked(field: &'static str, value: String) -> Result<String, WireError> {
    text(field, &value)?;
    Ok(value)
}

fn narrow<T: TryFrom<u32>>(field: &'static str, number: u32) -> Result<T, WireError> {
    T::try_from(number).map_err(|_| WireError::Field(field))
}

fn mac(field: &'static str, bytes: &[u8]) -> Result<MacAddress, WireError> {
    bytes.try_into().map(MacAddress).map_err(|_| WireError::Field(field))
}

fn address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, WireError> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(four))
    } else if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(sixteen))
    } else {
        Err(WireError::Field(field))
    }
}

/// At most one address of each family; empty ones don't count.
fn pair<'a>(
    field: &'static str,
    addresses: impl Iterator<Item = &'a Vec<u8>>,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), WireError> {
    let (mut four, mut six) = (None, None);
    for bytes in addresses.filter(|bytes| !bytes.is_empty()) {
        let twice = match address(field, bytes)? {
            IpAddr::V4(address) => four.replace(address).is_some(),
            IpAddr::V6(address) => six.replace(address).is_some(),
        };
        if twice {
            return Err(WireError::Field(field));
        }
    }
    Ok((four, six))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> FirstPacket {
        FirstPacket {
            site: "edge-42".to_owned(),
            boot: 9,
            sequence: 3,
            service: "hello".to_owned(),
            trigger: Trigger::Dns,
            time_unix_ns: 1,
            ingress_port: "wan".to_owned(),
            vlan: Some(20),
            source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            source_address: "2001:db8::1".parse().unwrap(),
            destination_address: "2001:db8::2".parse().unwrap(),
            next_header: 17,
            length_bytes: 80,
            flow_label: 0xf_ffff,
            dns: Some(DnsQuestion {
                names: vec!["hello.fn.example.".to_owned(), "hi.fn.example.".to_owned()],
                kind: 28,
            }),
            function_class: "hello".to_owned(),
        }
    }

    #[test]
    fn a_notice_survives_the_wire() {
        for trigger in [Trigger::Dns, Trigger::Syn, Trigger::Flow] {
            let up = Up::FirstPacket(FirstPacket { trigger, ..notice() });
            assert_eq!(from_appliance(up.clone().into()), Ok(FromAppliance::Up(up)));
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused_by_field() {
        type Spoil = fn(&mut proto::FirstPacket);
        let cases: [(&str, Spoil); 7] = [
            ("FirstPacket.source_mac", |notice| notice.source_mac.truncate(5)),
            ("FirstPacket.source_address", |notice| notice.source_address.push(0)),
            ("FirstPacket.ip_version", |notice| notice.source_address = vec![192, 0, 2, 1]),
            ("FirstPacket.vlan", |notice| notice.vlan = 4095),
            ("FirstPacket.trigger", |notice| notice.trigger = 0),
            ("FirstPacket.flow_label", |notice| notice.flow_label = 1 << 20),
            ("FirstPacket.next_header", |notice| notice.next_header = 256),
        ];
        for (field, spoil) in cases {
            let mut wire = notice().into();
            spoil(&mut wire);
            assert_eq!(first_packet(wire), Err(WireError::Field(field)));
        }
        let mut wire: proto::FirstPacket = notice().into();
        wire.service = "x".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(first_packet(wire), Err(WireError::Long("FirstPacket.service")));
        assert_eq!(from_command(proto::NodeCommand { command: None }), Err(WireError::Empty("NodeCommand")));
    }

    #[test]
    fn a_placement_survives_the_wire() {
        let down = Down::Delta(Delta {
            from: Generation(1),
            to: Generation(2),
            changes: vec![ServicePlacement {
                service: "hello".to_owned(),
                instances: vec![Instance {
                    id: InstanceId(4),
                    node: "fn1".to_owned(),
                    state: InstanceState::Draining,
                    ipv4_address: Some(Ipv4Addr::new(198, 51, 100, 21)),
                    ipv6_address: None,
                    port: 8080,
                    weight: 1,
                }],
                failure: Some(ServiceFailure {
                    notices: vec![NoticeId { site: "edge-42".to_owned(), boot: 7, sequence: 3 }],
                    reason: "no room".to_owned(),
                }),
            }],
        });
        assert_eq!(from_orchestrator(down.clone().into()), Ok(Some(down)));
    }

    #[test]
    fn a_node_and_its_commands_survive_the_wire() {
        let hello = NodeUp::Hello(NodeHello {
            name: "fn1".to_owned(),
            kind: NodeKind::Wasm,
            version: "0".to_owned(),
            ipv4_address: Some(Ipv4Addr::LOCALHOST),
            ipv6_address: Some(Ipv6Addr::LOCALHOST),
            memory_bytes: 1 << 30,
            instances: vec![InstanceStatus {
                instance: InstanceId(1),
                service: "hello".to_owned(),
                function: "hello".to_owned(),
                state: InstanceState::Ready,
                port: 80,
                memory_bytes: 1 << 26,
                reason: String::new(),
            }],
        });
        assert_eq!(from_node(hello.clone().into()), Ok(hello));
        let start = NodeDown::Start(Start {
            instance: InstanceId(1),
            service: "hello".to_owned(),
            function: "hello".to_owned(),
            memory_bytes: 1 << 26,
            deadline_ms: 2000,
            port: 0,
        });
        assert_eq!(from_command(start.clone().into()), Ok(start));
    }
}

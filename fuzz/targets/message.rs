//! Any bytes as messages of the orchestrator's API, both ways: what is taken says the same when it is sent again, and what
//! an orchestrator says of placements becomes tables, or changes nothing.
//!
//! The first byte says which kind of message; placements come one after another, each with its length.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millrace_config::Config;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::{INSTANCES_MAX, Service, ServiceId};
use millrace_orchestrator_api::convert::{
    FromAppliance, WireError, from_appliance, from_command, from_node, from_orchestrator,
};
use millrace_orchestrator_api::{Down, View, proto};
use millrace_slowpath::{TableFiles, PortInfo, TableBuilder};
use prost::Message;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::parse("edge.toml", include_str!("edge.toml")).unwrap_or_else(|report| panic!("{report}"))
});

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    match which % 4 {
        0 => {
            let up = |message| match from_appliance(message)? {
                FromAppliance::Up(up) => Ok(Some(up)),
                FromAppliance::Hello(_) | FromAppliance::Heartbeat => Ok(None),
            };
            again(bytes, up, |up| proto::ApplianceMessage::from(up.expect("it came from one")));
        }
        1 => again(bytes, |message| from_node(message).map(Some), |up| up.expect("it came from one").into()),
        2 => again(
            bytes,
            |message| from_command(message).map(Some),
            |down| proto::NodeCommand::from(down.expect("it came from one")),
        ),
        _ => follow(bytes),
    }
});

/// What is taken, sent, and taken again.
fn again<Wire: Message + Default, Ours: Clone + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    take: impl Fn(Wire) -> Result<Option<Ours>, WireError>,
    send: impl Fn(Option<Ours>) -> Wire,
) {
    let Ok(wire) = Wire::decode(bytes) else { return };
    let Ok(Some(ours)) = take(wire) else { return };
    let sent = send(Some(ours.clone())).encode_to_vec();
    let received = Wire::decode(&sent[..]).expect("what we send can be read");
    assert_eq!(take(received), Ok(Some(ours)));
}

/// An appliance that is told of placements.
fn follow(mut bytes: &[u8]) {
    let mut view = View::default();
    let port = |name: &str| PortInfo { name: name.into(), mac: [2, 0, 0, 0, 0, 1], mtu_bytes: 1500 };
    let ports = [port("wan"), port("lan")];
    let mut builder = TableBuilder::new(&CONFIG, &ports, TableFiles::default(), HashKey(1, 2))
        .expect("the configuration is sound");
    while let Ok(message) = proto::OrchestratorMessage::decode_length_delimited(&mut bytes) {
        let Ok(Some(down)) = from_orchestrator(message) else { return };
        let sent = proto::OrchestratorMessage::from(down.clone()).encode_to_vec();
        let received = proto::OrchestratorMessage::decode(&sent[..]).expect("what we send can be read");
        assert_eq!(from_orchestrator(received), Ok(Some(down.clone())));
        match down {
            Down::Snapshot(snapshot) => {
                let generation = snapshot.generation;
                view.replace(snapshot);
                assert_eq!(view.generation(), generation);
            }
            Down::Delta(delta) => {
                let (before, to) = (view.digest(), delta.to);
                match view.apply(delta) {
                    Ok(()) => assert_eq!(view.generation(), to),
                    Err(_) => assert_eq!(view.digest(), before, "nothing was changed"),
                }
            }
            Down::Acknowledge { .. } => {}
        }
        let mut copy = View::default();
        copy.replace(view.snapshot());
        assert_eq!((copy.digest(), &copy), (view.digest(), &view), "who begins anew sees the same");
        for spec in builder.specs().iter().map(|spec| (spec.id, spec.name.clone())).collect::<Vec<_>>() {
            builder.place(spec.0, view.service(&spec.1));
            check(builder.tables().services.get(spec.0).expect("a service of the configuration"), spec.0);
        }
    }
}

fn check(service: &Service, id: ServiceId) {
    for instance in &service.instances {
        assert!(instance.slot.index() < INSTANCES_MAX, "{id:?}: {instance:?}");
        assert!(instance.addresses[0].is_none_or(|addr| addr.is_v4()), "{instance:?}");
        assert!(instance.addresses[1].is_none_or(|addr| !addr.is_v4()), "{instance:?}");
    }
}

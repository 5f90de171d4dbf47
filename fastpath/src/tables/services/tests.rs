//! What leads to a service and back, against what the services themselves say.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn v4(host: u16) -> Addr {
    let [high, low] = host.to_be_bytes();
    Addr::v4([10, 0, high, low])
}

fn service(hosts: impl IntoIterator<Item = u16>) -> Service {
    let instance = |host| Instance {
        id: u64::from(host),
        addresses: [Some(v4(host)), None],
        port: 8080,
        weight: 1,
        state: InstanceState::Ready,
        slot: InstanceSlotId(u32::from(host)),
        fixed: false,
        server_id: None,
    };
    service_of(hosts.into_iter().map(instance).collect())
}

/// A service that differs from others by its instances alone.
pub(crate) fn service_of(instances: Vec<Instance>) -> Service {
    Service {
        name: "hello".into(),
        wakes: true,
        trigger_dns: false,
        trigger_syn: true,
        trigger_flow: false,
        handling: Handling::Hold,
        verify: Verify::None,
        dns_answer: DnsAnswer::Immediate,
        forwarding: Forwarding::Nat,
        source: SourceAddress::Keep,
        hold_packets_max: 0,
        hold_nanos_max: 0,
        overflow: Overflow::Drop,
        quic: Vec::new(),
        instances,
    }
}

fn vip(id: u16) -> Endpoint {
    Endpoint { addr: Addr::v4([203, 0, 113, id as u8]), port: 80, protocol: 6 }
}

fn answer(host: u16) -> Endpoint {
    Endpoint { addr: v4(host), port: 8080, protocol: 6 }
}

proptest! {
    /// Services come, change and go; each has some of 24 hosts, which others may have too.
    #[test]
    fn endpoints_and_answers_are_those_of_the_services(
        changes in prop::collection::vec((0u16..6, prop::option::of(prop::collection::hash_set(0u16..24, 0..6))), 1..40),
    ) {
        let mut services = Services::new();
        let mut model: [Option<HashSet<u16>>; 6] = Default::default();
        let mut left: HashSet<u16> = HashSet::new();
        for (id, hosts) in changes {
            let before = services.clone();
            let seen: Vec<bool> = (0..24).map(|host| before.is_return(&answer(host))).collect();
            match &hosts {
                Some(hosts) => {
                    services.insert(ServiceId(id), Arc::new(service(hosts.iter().copied())), &[vip(id)]);
                    let old = model[usize::from(id)].take().unwrap_or_default();
                    left.retain(|host| old.contains(host) || !hosts.contains(host));
                    left.extend(old.difference(hosts));
                }
                None => services.remove(ServiceId(id)),
            }
            model[usize::from(id)] = hosts;
            for id in 0..6 {
                let there = model[usize::from(id)].is_some();
                prop_assert_eq!(services.by_endpoint(&vip(id)), there.then_some(ServiceId(id)));
                prop_assert_eq!(services.get(ServiceId(id)).is_some(), there);
                prop_assert_eq!(services.endpoints(ServiceId(id)).count(), usize::from(there));
            }
            for host in 0..24 {
                let serves = model.iter().flatten().any(|hosts| hosts.contains(&host));
                prop_assert_eq!(services.is_return(&answer(host)), serves || left.contains(&host), "host {}", host);
                prop_assert_eq!(before.is_return(&answer(host)), seen[usize::from(host)], "an older snapshot");
            }
        }
    }
}

#[test]
fn only_so_many_that_left_are_remembered_the_latest_of_them() {
    let mut services = Services::new();
    let set = |services: &mut Services, hosts: std::ops::Range<u16>| {
        services.insert(ServiceId(0), Arc::new(service(hosts)), &[vip(0)]);
    };
    set(&mut services, 0..1);
    for first in 1..=DEPARTED_MAX as u16 {
        set(&mut services, first..first + 1);
    }
    assert!(services.is_return(&answer(0)));
    assert_eq!(services.forgotten(), 0);
    let next = DEPARTED_MAX as u16 + 1;
    set(&mut services, next..next + 1);
    assert!(!services.is_return(&answer(0)), "the oldest is forgotten");
    assert_eq!(services.forgotten(), 1, "and counted");
    assert!((1..=next).all(|host| services.is_return(&answer(host))));
    // One that comes and goes takes one place, at the end.
    for _ in 0..DEPARTED_MAX {
        set(&mut services, 1..2);
        set(&mut services, next..next + 1);
    }
    assert!(services.is_return(&answer(1)) && services.is_return(&answer(2)));
}

#[test]
fn nobody_is_asked_for_answers_that_go_past_us() {
    let mut services = Services::new();
    for forwarding in [Forwarding::L2, Forwarding::Ipip, Forwarding::Gue] {
        services.insert(ServiceId(0), Arc::new(Service { forwarding, ..service([1]) }), &[vip(0)]);
        assert!(!services.is_return(&answer(1)));
    }
}

#[test]
fn a_change_shares_what_it_does_not_touch() {
    let mut services = Services::new();
    for id in 0..200 {
        services.insert(ServiceId(id), Arc::new(service([id])), &[vip(id)]);
    }
    let before = services.clone();
    services.insert(ServiceId(70), Arc::new(service([70, 71])), &[vip(70)]);
    assert!(Arc::ptr_eq(&before.endpoints, &services.endpoints), "the endpoints are as they were");
    let same: Vec<bool> = before.pages.iter().zip(&services.pages).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same, [true, false, true, true]);
    let (_, at) = place(ServiceId(71));
    assert!(Arc::ptr_eq(before.pages[1][at].as_ref().unwrap(), services.pages[1][at].as_ref().unwrap()));
}

//! Against a plain map, and the promises of age and room.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::entry::{
    ANSWERED_SECONDS, CLOSING_SECONDS, ESTABLISHED_SECONDS, FlowState, HALF_CLOSED_SECONDS, NEW_SECONDS,
};
use super::super::key::FlowHasher;
use super::*;
use crate::tables::services::Forwarding;
use crate::wire::{TCP, tcp};

fn opening(client: u16, nat: Option<u16>, hasher: &FlowHasher) -> Opening {
    let own = Addr::v4([198, 51, 100, 1]);
    Opening {
        protocol: TCP,
        client: (Addr::v4([10, 0, 0, 1]), client),
        vip: (Addr::v4([203, 0, 113, 10]), 80),
        instance: (Addr::v4([198, 51, 100, 7]), 8080),
        nat: nat.map(|port| (own, port, hasher.hash(own, port, TCP))),
        service: ServiceId(client % 3),
        instance_slot: InstanceSlotId(u32::from(client)),
        forwarding: Forwarding::Nat,
        state: FlowState::New,
    }
}

/// Its client is answered, and goes on.
fn establish(flow: &mut Flow, now: Nanos) {
    assert!(!flow.touch(Direction::Return, tcp::SYN | tcp::ACK, now));
    assert!(!flow.touch(Direction::Forward, tcp::SYN, now), "the SYN once more");
    assert_eq!(flow.state(), FlowState::Answered);
    assert!(flow.touch(Direction::Forward, tcp::ACK, now));
    assert!(!flow.touch(Direction::Forward, tcp::ACK, now), "told once");
    assert_eq!(flow.state(), FlowState::Established);
}

fn at(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

#[test]
fn both_directions_find_the_flow_and_strangers_do_not() {
    let hasher = FlowHasher::new([1, 2]);
    let mut table = FlowTable::new(64);
    for nat in [None, Some(20_000)] {
        let open = opening(if nat.is_some() { 1 } else { 2 }, nat, &hasher);
        let hash = hasher.hash(open.client.0, open.client.1, TCP);
        let position = table.insert(hash, &open, at(0), |_| panic!("there is room")).unwrap();
        assert_eq!(table.find(hash, TCP, open.client, open.vip), Some((position, Direction::Forward)));
        assert_eq!(table.find(hash, 17, open.client, open.vip), None, "another protocol");
        assert_eq!(table.find(hash, TCP, open.client, (open.vip.0, 81)), None, "another port");
        let (to, to_hash) = match open.nat {
            Some((addr, port, hash)) => ((addr, port), hash),
            None => (open.client, hash),
        };
        assert_eq!(table.find(to_hash, TCP, open.instance, to), Some((position, Direction::Return)));
        assert_eq!(table.find(to_hash, TCP, (open.instance.0, 1), to), None, "not from the instance");
        table.remove(position);
        assert_eq!(table.find(hash, TCP, open.client, open.vip), None);
        assert_eq!(table.find(to_hash, TCP, open.instance, to), None);
    }
    assert!(table.is_empty());
}

#[test]
fn flows_leave_by_age_and_state_and_not_before() {
    let hasher = FlowHasher::new([1, 2]);
    let mut table = FlowTable::new(16);
    let add = |table: &mut FlowTable, port| {
        let open = opening(port, None, &hasher);
        table.insert(hasher.hash(open.client.0, open.client.1, TCP), &open, at(0), |_| {}).unwrap()
    };
    let (_new, established, closing) = (add(&mut table, 1), add(&mut table, 2), add(&mut table, 3));
    establish(table.get_mut(established), at(0));
    establish(table.get_mut(closing), at(0));
    table.get_mut(closing).touch(Direction::Return, tcp::FIN, at(3));
    table.get_mut(closing).touch(Direction::Forward, tcp::FIN, at(5));
    let half = add(&mut table, 4);
    establish(table.get_mut(half), at(0));
    table.get_mut(half).touch(Direction::Forward, tcp::FIN, at(5));
    let answered = add(&mut table, 6);
    table.get_mut(answered).touch(Direction::Return, tcp::SYN | tcp::ACK, at(0));
    // What nobody has answered is as new as before, whatever its client says.
    let unheard = add(&mut table, 5);
    table.get_mut(unheard).touch(Direction::Forward, tcp::FIN, at(1));
    let mut left = Vec::new();
    for second in 5..u64::from(ESTABLISHED_SECONDS) + 2 {
        table.sweep(16, at(second), |_, gone| left.push((second, gone.service.0)));
    }
    let expected = vec![
        (u64::from(NEW_SECONDS), 1),
        (1 + u64::from(NEW_SECONDS), 2),
        (5 + u64::from(CLOSING_SECONDS), 0),
        (u64::from(ANSWERED_SECONDS), 0),
        (5 + u64::from(HALF_CLOSED_SECONDS), 1),
        (u64::from(ESTABLISHED_SECONDS), 2),
    ];
    assert_eq!(left, expected);
}

#[test]
fn what_acknowledges_nothing_proves_nothing() {
    let hasher = FlowHasher::new([3, 4]);
    let mut table = FlowTable::new(16);
    let mut open = opening(1, None, &hasher);
    let hash = hasher.hash(open.client.0, open.client.1, TCP);
    let position = table.insert(hash, &open, at(0), |_| {}).unwrap();
    let flow = table.get_mut(position);
    flow.touch(Direction::Return, tcp::SYN | tcp::ACK, at(0));
    for forged in [0, 0x08, tcp::FIN] {
        assert!(!flow.touch(Direction::Forward, forged, at(0)));
        assert_eq!((flow.state(), flow.standing(at(0))), (FlowState::Answered, Standing::Unproven));
    }
    assert!(flow.touch(Direction::Forward, tcp::ACK, at(0)));
    assert_eq!(flow.standing(at(0)), Standing::Proven);
    // Datagrams acknowledge nothing at all.
    open.protocol = 17;
    let position = table.insert(hash ^ 1, &open, at(0), |_| {}).unwrap();
    let flow = table.get_mut(position);
    flow.touch(Direction::Return, 0, at(0));
    flow.touch(Direction::Forward, 0, at(0));
    assert_eq!((flow.state(), flow.standing(at(0))), (FlowState::Established, Standing::OneWay));
}

#[test]
fn a_full_table_gives_up_its_oldest_and_counts_them() {
    let hasher = FlowHasher::new([3, 4]);
    let mut table = FlowTable::new(64);
    let mut gone = 0;
    for port in 0..1000 {
        let open = opening(port, Some(port + 1000), &hasher);
        let hash = hasher.hash(open.client.0, open.client.1, TCP);
        assert!(table.insert(hash, &open, at(u64::from(port) / 10), |_| gone += 1).is_some());
        assert!(table.find(hash, TCP, open.client, open.vip).is_some(), "the newest is always found");
    }
    assert_eq!(table.len() + gone, 1000);
    assert!(table.len() <= 64);
}

#[test]
fn what_stands_elsewhere_is_found_and_is_sought_only_while_it_is_there() {
    let hasher = FlowHasher::new([1, 2]);
    let mut table = FlowTable::new(64);
    // All have the same first bucket, and tags of their own.
    let hash = |client: u16| u64::from(client + 1) << 48;
    let open = |client| opening(client, None, &hasher);
    let positions: Vec<u32> = (0..12)
        .map(|client| table.insert(hash(client), &open(client), at(0), |_| panic!("there is room")).unwrap())
        .collect();
    let found = |table: &FlowTable, client: u16| {
        table.find(hash(client), TCP, open(client).client, open(client).vip).map(|(position, _)| position)
    };
    for left_from in 0..=12 {
        for client in 0..12u16 {
            let expected = positions.get(usize::from(client)).filter(|_| client >= left_from).copied();
            assert_eq!(found(&table, client), expected);
        }
        assert_eq!(table.buckets[0].elsewhere, 4.min(12 - u32::from(left_from)));
        if left_from < 12 {
            table.remove(positions[usize::from(left_from)]);
        }
    }
}

#[test]
fn what_is_proven_makes_room_for_nobody_and_the_lowest_for_all() {
    let hasher = FlowHasher::new([3, 4]);
    for nat in [false, true] {
        let mut table = FlowTable::new(64);
        let insert = |table: &mut FlowTable, port: u16, forwarding, now| {
            let open = Opening { forwarding, ..opening(port, nat.then_some(port), &hasher) };
            let hash = hasher.hash(open.client.0, open.client.1, TCP);
            let mut gone = Vec::new();
            let position = table.insert(hash, &open, now, |flow| gone.push(flow.instance_slot.0));
            assert_eq!(table.find(hash, TCP, open.client, open.vip).is_some(), position.is_some());
            (position, gone)
        };
        let (mut proven, mut port) = (Vec::new(), 0);
        while table.len() < 32 {
            port += 1;
            let (position, _) = insert(&mut table, port, Forwarding::Nat, at(0));
            establish(table.get_mut(position.unwrap()), at(0));
            proven.push(u32::from(port));
        }
        while table.len() < 48 {
            port += 1;
            let (position, _) = insert(&mut table, port, Forwarding::Ipip, at(0));
            table.get_mut(position.unwrap()).touch_one_way(tcp::ACK, at(0));
        }
        let one_way = proven.len() as u32 + 1..=u32::from(port);
        // A flood of the same second, and of later ones: only its own kind and those who can do without make room.
        let (mut refused, mut one_way_gone) = (0, 0);
        for n in 0..2000u16 {
            let (position, gone) = insert(&mut table, 1000 + n, Forwarding::Nat, at(u64::from(n) / 500));
            assert!(gone.iter().all(|flow| !proven.contains(flow)), "{gone:?}");
            refused += usize::from(position.is_none());
            one_way_gone += gone.iter().filter(|flow| one_way.contains(flow)).count();
        }
        assert!(refused < 200, "{refused} of 2000 found no room");
        assert_eq!(table.len(), 64);
        assert!(one_way_gone <= 16);
        // One that can do without an entry drives out no other of that kind.
        for n in 0..2000u16 {
            let (_, gone) = insert(&mut table, 4000 + n, Forwarding::Gue, at(4));
            assert!(gone.iter().all(|flow| !proven.contains(flow) && !one_way.contains(flow)), "{gone:?}");
        }
        let found = proven.iter().filter(|port| {
            let open = opening(**port as u16, None, &hasher);
            let hash = hasher.hash(open.client.0, open.client.1, TCP);
            table.find(hash, TCP, open.client, open.vip).is_some()
        });
        assert_eq!(found.count(), proven.len());
        // When they have been silent for too long, they make room, swept or not.
        let late = at(u64::from(ESTABLISHED_SECONDS));
        assert!((0..500).all(|n| insert(&mut table, 7000 + n, Forwarding::Nat, late).0.is_some()));
    }
}

#[test]
fn a_table_full_of_proven_flows_refuses_and_is_whole_afterwards() {
    let hasher = FlowHasher::new([3, 4]);
    let mut table = FlowTable::new(64);
    let mut positions = Vec::new();
    for port in 0..500u16 {
        let open = opening(port, Some(port + 1000), &hasher);
        let hash = hasher.hash(open.client.0, open.client.1, TCP);
        if let Some(position) = table.insert(hash, &open, at(0), |flow| panic!("{flow:?} had to go")) {
            establish(table.get_mut(position), at(0));
            positions.push(position);
        }
    }
    let held = table.len();
    assert!((60..=64).contains(&held) && positions.len() == held, "{held} flows");
    for position in positions.drain(..) {
        table.remove(position);
    }
    assert!(table.is_empty() && table.buckets.iter().all(|bucket| bucket.tags == [0; WAYS]));
}

proptest! {
    #[test]
    fn agrees_with_a_map(steps in prop::collection::vec((0u16..80, any::<bool>(), any::<bool>()), 1..400)) {
        let hasher = FlowHasher::new([5, 6]);
        let mut table = FlowTable::new(4096);
        let mut model: HashMap<u16, u32> = HashMap::new();
        for (client, add, nat) in steps {
            let open = opening(client, nat.then_some(client + 1), &hasher);
            let hash = hasher.hash(open.client.0, open.client.1, TCP);
            match model.get(&client).copied() {
                None if add => {
                    let position = table.insert(hash, &open, at(0), |_| panic!("there is room")).unwrap();
                    model.insert(client, position);
                }
                Some(position) if !add => {
                    table.remove(position);
                    model.remove(&client);
                }
                _ => {}
            }
            prop_assert_eq!(table.len(), model.len());
            for client in 0..80 {
                let open = opening(client, None, &hasher);
                let hash = hasher.hash(open.client.0, open.client.1, TCP);
                let found = table.find(hash, TCP, open.client, open.vip).map(|(position, _)| position);
                prop_assert_eq!(found, model.get(&client).copied());
            }
        }
    }
}

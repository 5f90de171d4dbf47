//! Datagrams that were changed on the way, or made up: nothing panics, bounds hold, and what the store has is right.

use std::time::Duration;

use millrace_hub::norm::{Message, parse};
use millrace_hub_node::{Profile, TakeIn, TakeInSettings};
use millrace_hub_store::{Root, Trust};

use crate::flute::packets;
use crate::world::{Dice, HUB_ID, Source, World, address};
use crate::{content, read, store_of};

const BUDGET: u64 = 1 << 20;

/// Changes a few bytes of a datagram, cuts it, or lengthens it.
fn mangle(dice: &mut Dice, datagram: &mut Vec<u8>) {
    for _ in 0..dice.below(4) {
        // Mostly in the headers.
        let reach = if dice.below(4) == 0 { datagram.len() } else { datagram.len().min(60) };
        let at = dice.below(reach.max(1) as u64) as usize;
        if let Some(byte) = datagram.get_mut(at) {
            *byte = dice.below(256) as u8;
        }
    }
    if dice.below(20) == 0 {
        datagram.truncate(dice.below(datagram.len() as u64 + 1) as usize);
    }
    if dice.below(20) == 0 {
        let more = dice.below(40) as usize;
        datagram.extend(dice.bytes(more));
    }
}

/// Gives mangled datagrams to a hub, in any order and from some addresses.
fn give(profile: Profile, datagrams: &[Vec<u8>], seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let settings = TakeInSettings {
        profile,
        trust: Trust::Anybody,
        store: store.clone(),
        key: None,
        folder: folder.path().join("arriving/0"),
    };
    let mut world = World::new(seed);
    let mut hub = TakeIn::open(settings, world.wall()).unwrap();
    for at in 0..6000 {
        let mut datagram = datagrams[world.dice.below(datagrams.len() as u64) as usize].clone();
        mangle(&mut world.dice, &mut datagram);
        let from = address(1 + world.dice.below(20) as u8);
        world.now += Duration::from_micros(world.dice.below(20_000));
        world.deliver(&mut hub, from, &datagram);
        if at % 300 == 0 {
            hub.tick(world.now, world.wall());
        }
        while let Some((to, message)) = hub.poll_transmit(world.now) {
            let answer = parse(&message).unwrap();
            assert!(matches!(answer.message, Message::Nack { .. } | Message::Ack { .. }), "seed {seed}");
            assert!(message.len() <= 1400 && answer.source == HUB_ID && to.port() > 6000);
        }
        assert!(hub.senders() <= 16 && store.budget().0 <= BUDGET, "seed {seed}");
    }
    hub.tick(world.now, world.wall());
    world.hear(&mut hub);
    assert_eq!(hub.counters().taken, world.taken().len() as u64);
    for manifest in store.names() {
        let root = manifest.description().root;
        assert!(read(&store, root).is_none_or(|bytes| Root::of(&bytes) == root), "seed {seed}");
    }
    let counters = hub.counters();
    assert!(counters.malformed > 50 && counters.segments > 50, "{counters:?}");
}

#[test]
fn mangled_norm_does_no_harm() {
    for seed in 0..4 {
        let world = World::new(seed);
        let mut source = Source::new(1, world.now);
        for at in 0..3 {
            let bytes = content(seed * 10 + at, 60_000);
            let manifest = crate::manifest(&at.to_string(), 1, &bytes, None);
            source.offer(world.now, &bytes, if at == 0 { b"stock" } else { manifest.as_bytes() });
        }
        let datagrams = source.datagrams(Duration::from_secs(2));
        assert!(datagrams.len() > 100);
        give(Profile::Norm { node: HUB_ID, sender: None }, &datagrams, seed);
    }
}

#[test]
fn mangled_flute_does_no_harm() {
    for seed in 0..4 {
        let all = (1..4).flat_map(|toi| packets(7, toi, &toi.to_string(), &content(seed + toi, 60_000)));
        give(Profile::Flute { tsi: None }, &all.collect::<Vec<_>>(), seed);
    }
}

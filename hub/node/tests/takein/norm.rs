//! Contents that come by NORM.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_hub::norm::NodeId;
use millrace_hub_node::{TakeIn, TakeInCounters, TakeInEvent};
use millrace_hub_store::{Root, Trust};

use crate::world::{Dice, Hole, Rule, SEGMENT, Source, World, address, open, parts};
use crate::{content, key, manifest, read, store, trust};

#[test]
fn a_signed_content_comes_whatever_the_order_the_duplicates_and_the_losses() {
    for seed in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut hub = open(folder.path(), &store, trust(1));
        let mut world = World { lose: 5, repeat: 5, reorder: 20, ..World::new(seed) };
        let all: Vec<_> = (0..3).map(|at| content(seed * 10 + at, 700_001)).collect();
        let mut source = Source::new(1, world.now);
        let manifests: Vec<_> =
            all.iter().zip(["a", "b", "c"]).map(|(bytes, name)| manifest(name, 7, bytes, Some(1))).collect();
        for (bytes, manifest) in all.iter().zip(&manifests) {
            source.offer(world.now, bytes, manifest.as_bytes());
        }
        world.settle(&mut hub, std::slice::from_mut(&mut source));
        assert!(world.lost.len() > 50);
        assert!(world.taken().into_iter().all(|taken| manifests.contains(taken)), "seed {seed}");
        for (bytes, manifest) in all.iter().zip(&manifests) {
            assert!(read(&store, Root::of(bytes)).unwrap() == *bytes, "seed {seed}");
            let what = manifest.description();
            assert_eq!(store.named(&what.group, &what.name).as_ref(), Some(manifest), "as it was signed");
        }
        let counters = hub.counters();
        assert_eq!((counters.taken, counters.taken_bytes, counters.known), (3, 3 * 700_001, 0));
        assert_eq!(parts(folder.path()), 0);
    }
}

#[test]
fn each_hole_is_asked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, trust(1));
    let mut world = World { lose: 5, ..World::new(1) };
    let bytes = content(1, 3_000_000);
    let mut source = Source::new(1, world.now);
    source.offer(world.now, &bytes, manifest("a", 1, &bytes, Some(1)).as_bytes());
    world.settle(&mut hub, std::slice::from_mut(&mut source));
    let counters = hub.counters();
    let holes = |all: &[Hole]| all.iter().copied().collect::<BTreeSet<_>>();
    assert!(holes(&world.lost).len() > 80);
    assert_eq!(holes(&world.asked), holes(&world.lost), "{counters:?}");
    // Once more for a repair that was lost, and for one that had been asked for and wasn't sent yet.
    let (asked, lost) = (world.asked.len(), world.lost.len());
    assert!(asked >= lost && asked * 10 <= lost * 11, "{asked} for {lost}");
    assert_eq!(counters.segments + counters.decoded_segments, bytes.len().div_ceil(SEGMENT) as u64);
    assert_eq!(counters.duplicate_segments, 0);
}

#[test]
fn what_the_store_has_is_acknowledged_and_not_received() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, trust(1));
    let mut world = World::new(1);
    let bytes = content(1, 1_000_000);
    let manifest = manifest("a", 1, &bytes, Some(1));
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, manifest.as_bytes());
    world.settle(&mut hub, &mut sources);
    let before = hub.counters();

    // Another sender has it, too, and loses much of it on the way.
    world.lose = 30;
    let mut others = [Source::new(2, world.now)];
    others[0].offer(world.now, &bytes, manifest.as_bytes());
    world.settle(&mut hub, &mut others);
    let after = hub.counters();
    assert_eq!((after.known, after.taken, after.nacks, world.asked.len()), (1, 1, before.nacks, 0));
    assert_eq!(after.segments, before.segments, "nothing is kept twice");
    assert!(
        world.events.iter().any(|event| matches!(event, TakeInEvent::Known(known) if *known == manifest))
    );
}

#[test]
fn a_stock_sender_s_file_gets_a_manifest_of_the_hub_s() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let rule =
        Rule { sender: None, trust: Trust::Anybody, key: Some(key(5)), store: &store, folder: folder.path() };
    let mut hub = rule.open();
    let mut world = World { lose: 5, repeat: 5, reorder: 20, ..World::new(1) };
    let (old, new) = (content(1, 500_000), content(2, 400_001));
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &old, b"image.bin");
    sources[0].offer(world.now, &new, b"image.bin");
    world.settle(&mut hub, &mut sources);
    let taken = world.taken();
    assert_eq!(taken.len(), 2);
    let mut said: Vec<_> =
        taken.iter().map(|taken| (taken.description().version, taken.description().root)).collect();
    said.sort();
    assert!(said.iter().map(|(version, _)| *version).eq([1, 2]));
    assert!(taken.iter().all(|taken| taken.signed_by() == Some(key(5).id())));
    for bytes in [&old, &new] {
        assert!(read(&store, Root::of(bytes)).unwrap() == *bytes);
    }
    assert_eq!((parts(folder.path()), store.budget().0), (0, 900_001 + 32 * (8 + 7)));
}

#[test]
fn senders_have_sessions_of_their_own_and_not_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World { lose: 3, ..World::new(1) };
    let all: Vec<_> = (0..3).map(|at| content(at, 200_000)).collect();
    let mut sources: Vec<_> = (1..=3).map(|number| Source::new(number, world.now)).collect();
    for (source, bytes) in sources.iter_mut().zip(&all) {
        source.offer(
            world.now,
            bytes,
            manifest(&source.address.port().to_string(), 1, bytes, None).as_bytes(),
        );
    }
    world.settle(&mut hub, &mut sources);
    assert!(all.iter().all(|bytes| read(&store, Root::of(bytes)).unwrap() == *bytes));
    assert_eq!(hub.senders(), 3);

    // Later, a name at many addresses: those who have delivered stay, and of the others so many.
    let datagram = info(1, &all[1], b"x");
    for number in 100..200 {
        world.deliver(&mut hub, address(number), &datagram);
    }
    assert_eq!((hub.senders(), hub.counters().crowded, hub.counters().turned_away), (3 + 16, 16, 100 - 32));
}

/// How a sender begins.
fn info(number: u8, bytes: &[u8], info: &[u8]) -> Vec<u8> {
    let mut source = Source::new(number, Duration::ZERO);
    source.offer(Duration::ZERO, bytes, info);
    let transmit = std::iter::from_fn(|| source.sender.poll_transmit(Duration::ZERO));
    let datagrams = transmit.map(|transmit| transmit.header);
    datagrams.last().expect("it begins with its info")
}

/// A thousand senders that nobody knows, all at once.
fn flood(hub: &mut TakeIn, now: Duration, datagram: &[u8]) {
    for number in 0..1000_u16 {
        let [high, low] = number.to_be_bytes();
        hub.handle(now, SocketAddr::from(([10, 9, high, low], 6000)), datagram);
    }
}

#[test]
fn a_flood_of_forged_names_keeps_nobody_out_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, trust(1));
    let mut world = World { lose: 3, now: Duration::from_secs(1), ..World::new(1) };
    let bytes = content(1, 700_000);
    let junk = info(1, &bytes, manifest("a", 1, &bytes, Some(2)).as_bytes());
    flood(&mut hub, world.now, &junk);
    assert_eq!((hub.senders(), hub.counters().crowded, hub.counters().turned_away), (16, 16, 1000 - 32));

    // One that begins in the middle of it, with another thousand whenever a few of its datagrams have come.
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, manifest("a", 1, &bytes, Some(1)).as_bytes());
    let mut rounds = 0;
    while sources[0].acknowledged.is_empty() {
        rounds += 1;
        world.run(&mut hub, &mut sources, |world, sources| {
            world.delivered >= rounds * 50 || !sources[0].acknowledged.is_empty()
        });
        flood(&mut hub, world.now, &junk);
    }
    assert!(rounds > 10 && read(&store, Root::of(&bytes)).unwrap() == bytes);
    let counters = hub.counters();
    let segments = bytes.len().div_ceil(SEGMENT) as u64;
    assert_eq!(counters.segments + counters.decoded_segments, segments, "it never began anew");
    assert!(counters.taken == 1 && counters.turned_away > rounds * 900, "{counters:?}");
    let kept = std::fs::read_dir(folder.path().join("arriving/0")).unwrap().count();
    assert_eq!(kept, 17, "of those who were turned away not even a folder");
}

#[test]
fn who_has_delivered_is_not_crowded_out_by_whoever_promises_something() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    // Anybody's word counts, so what forgers offer is taken for a content.
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    let (first, second) = (content(1, 100_000), content(2, 400_000));
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &first, b"first");
    world.settle(&mut hub, &mut sources);
    let promise = info(1, &second, b"forged");
    flood(&mut hub, world.now, &promise);
    sources[0].offer(world.now, &second, b"second");
    world.run(&mut hub, &mut sources, |world, _| world.delivered > 200);
    flood(&mut hub, world.now, &promise);
    world.settle(&mut hub, &mut sources);
    assert!(read(&store, Root::of(&second)).unwrap() == second);
    assert_eq!((hub.senders(), hub.counters().restarts), (17, 0));
    let segments = [&first, &second].map(|bytes| bytes.len().div_ceil(SEGMENT) as u64);
    assert_eq!(hub.counters().segments, segments.iter().sum::<u64>(), "its session is the same all the time");
}

#[test]
fn who_has_begun_is_not_crowded_out_while_it_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, trust(1));
    let mut world = World::new(1);
    let bytes = content(1, 700_000);
    let signed = manifest("a", 1, &bytes, Some(1));
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, signed.as_bytes());
    world.run(&mut hub, &mut sources, |world, _| world.delivered > 100);
    let junk = info(1, &bytes, manifest("a", 1, &bytes, Some(2)).as_bytes());
    for _ in 0..20 {
        world.now += Duration::from_millis(100);
        flood(&mut hub, world.now, &junk);
    }
    // Others have used up what new ones may come at once.
    let before = hub.counters();
    assert!(before.turned_away > 0 && before.crowded > 100);
    let known = info(1, &bytes, signed.as_bytes());
    world.deliver(&mut hub, address(1), &known);
    assert_eq!(hub.counters().turned_away, before.turned_away, "its session is still there");
    world.settle(&mut hub, &mut sources);
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);

    // To repeat what is here, though it is signed, is no delivery.
    for _ in 0..20 {
        world.now += Duration::from_millis(100);
        flood(&mut hub, world.now, &known);
    }
    assert!(hub.counters().known > 100 && hub.senders() == 1 + 16, "{:?}", hub.counters());
}

#[test]
fn of_those_who_have_delivered_the_newest_are_listened_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    for number in 1..=20 {
        let bytes = content(u64::from(number), 3000);
        let mut sources = [Source::new(number, world.now)];
        sources[0].offer(world.now, &bytes, format!("of {number}").as_bytes());
        world.settle(&mut hub, &mut sources);
        world.now += Duration::from_secs(1);
    }
    assert_eq!((hub.senders(), hub.counters().taken, hub.counters().crowded), (16, 20, 4));
}

#[test]
fn forgeries_from_elsewhere_disturb_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let rule =
        Rule { sender: Some(NodeId(1)), trust: trust(1), key: None, store: &store, folder: folder.path() };
    let mut hub = rule.open();
    let mut world = World::new(1);
    let bytes = content(1, 500_000);
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, manifest("a", 1, &bytes, Some(1)).as_bytes());
    // In the sender's name, with another key's manifest of the same name, from another address; another run, even.
    let wrong = content(2, 500_000);
    let mut forger = Source::run(1, 9, world.now);
    forger.address = address(66);
    forger.offer(world.now, &wrong, manifest("a", 2, &wrong, Some(2)).as_bytes());
    let mut others = Source::new(2, world.now);
    others.address = address(67);
    others.offer(world.now, &wrong, manifest("b", 1, &wrong, Some(1)).as_bytes());
    let mut dice = Dice::new(3);
    let mut at = 0;
    while sources[0].acknowledged.is_empty() {
        at += 1;
        world.run(&mut hub, &mut sources, |world, sources| {
            world.delivered >= at * 20 || !sources[0].acknowledged.is_empty()
        });
        for forged in [&mut forger, &mut others] {
            while let Some(transmit) = forged.sender.poll_transmit(world.now) {
                let mut datagram = transmit.header.clone();
                datagram.extend(dice.bytes(transmit.message_len() - transmit.header.len()));
                hub.handle(world.now, forged.address, &datagram);
            }
        }
        let junk = dice.bytes(200);
        hub.handle(world.now, address(68), &junk);
        world.hear(&mut hub);
    }
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
    assert_eq!((world.taken().len(), store.names().len()), (1, 1));
    let counters = hub.counters();
    assert!(world.asked.is_empty(), "{counters:?}");
    let TakeInCounters { taken, refused_manifest, malformed, foreign, .. } = counters;
    assert!((taken, refused_manifest) == (1, 1) && malformed > 5 && foreign > 5, "{counters:?}");
}

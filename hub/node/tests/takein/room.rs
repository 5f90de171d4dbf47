//! Contents that find no room, or give it back: all of them come in the end, and what is here isn't sent again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_hub::norm::ObjectId;
use millrace_hub_node::TakeIn;
use millrace_hub_store::{Incoming, Millis, Root, Store, Trust};
use tempfile::TempDir;

use crate::flute::{open as open_flute, packets};
use crate::world::{Source, WALL, World, address, open};
use crate::{content, manifest, read, store_of};

const BUDGET: u64 = 64 << 20;
/// Leaves no room for another of a few megabytes.
const BIG: usize = 60 << 20;

fn taken_in(hub: &mut TakeIn) -> u64 {
    while hub.poll_event().is_some() {}
    hub.counters().taken
}

/// An empty store, a rule by NORM that takes from anybody, and the world around it.
fn scene() -> (TempDir, Arc<Store>, TakeIn, World) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let hub = open(folder.path(), &store, Trust::Anybody);
    (folder, store, hub, World::new(1))
}

/// Something else that takes nearly all of the room.
fn other(folder: &Path, store: &Arc<Store>) -> Incoming {
    store.adopt(folder.join("other"), BIG as u64, WALL).unwrap()
}

fn segments(bytes: &[u8]) -> u64 {
    bytes.len().div_ceil(1400) as u64
}

/// Goes on for so long with nobody who sends.
fn wait(world: &mut World, hub: &mut TakeIn, seconds: u64) {
    let end = world.now + Duration::from_secs(seconds);
    world.run(hub, &mut [], |world, _| world.now >= end);
}

/// Bytes of the disk that what is arriving takes.
fn blocks(folder: &Path) -> u64 {
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let senders = files(&folder.join("arriving/0"));
    let all = senders.flat_map(|sender| files(&sender.join(".millrace")));
    all.map(|path| std::fs::metadata(path).unwrap().blocks() * 512).sum()
}

/// Has a hub given these at a second, and what is to be done once a second.
fn give(hub: &mut TakeIn, second: u64, number: u8, packets: &[Vec<u8>]) {
    let now = Duration::from_secs(second);
    packets.iter().for_each(|packet| hub.handle(now, address(number), packet));
    hub.tick(now, Millis(WALL.0 + second * 1000));
}

#[test]
fn a_file_without_room_comes_once_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let other = other(folder.path(), &store);
    let bytes = content(1, 10_000_000);
    let honest = packets(8, 1, "honest", &bytes);
    for second in 1..4 {
        let now = Duration::from_secs(second);
        honest.iter().for_each(|packet| hub.handle(now, address(1), packet));
        hub.tick(now, WALL);
    }
    assert_eq!((taken_in(&mut hub), hub.counters().refused_room), (0, 1), "it is told once");
    drop(other);
    honest.iter().for_each(|packet| hub.handle(Duration::from_secs(5), address(1), packet));
    assert_eq!(taken_in(&mut hub), 1, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
}

/// With a manifest and without, and whether what it is comes first or after some of its bytes.
#[test]
fn a_content_by_norm_without_room_comes_once_there_is_some() {
    let bytes = content(1, 10_000_000);
    let described = manifest("honest", 1, &bytes, None).as_bytes().to_vec();
    for info in [b"honest".to_vec(), described] {
        for segments_first in [0, 5] {
            let (folder, store, mut hub, mut world) = scene();
            let other = other(folder.path(), &store);
            let mut sources = [Source::new(1, world.now)];
            sources[0].offer(world.now, &bytes, &info);
            let mut twin = Source::new(1, world.now);
            twin.offer(world.now, &bytes, &info);
            let early = twin.datagrams(Duration::from_millis(20));
            let segments: Vec<_> = early.iter().filter(|datagram| datagram.len() > 1400).collect();
            let first = &segments[..segments_first];
            first.iter().for_each(|datagram| hub.handle(world.now, sources[0].address, datagram));
            world.run(&mut hub, &mut sources, |world, _| world.now >= Duration::from_secs(5));
            let counters = hub.counters();
            assert_eq!((counters.refused_room, world.taken().len()), (1, 0), "it is told once: {counters:?}");
            assert_eq!((counters.nacks, store.names().len()), (0, 0), "nothing is asked for in vain");
            drop(other);
            world.settle(&mut hub, &mut sources);
            assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
        }
    }
}

/// The room of what stops halfway is for others after a minute; when it goes on, what came of it before isn't sent again.
#[test]
fn a_content_by_norm_that_stops_halfway_gives_room_and_goes_on_later() {
    let (_folder, store, mut hub, mut world) = scene();
    let (first, second) = (content(1, BIG / 2), content(2, BIG / 4 * 3));
    let (mut halves, mut others) = ([Source::new(1, world.now)], [Source::new(2, world.now)]);
    halves[0].offer(world.now, &first, b"first");
    others[0].offer(world.now, &second, b"second");
    world.run(&mut hub, &mut halves, |world, _| world.delivered > segments(&first) / 2);
    let stopped = world.now;
    world.run(&mut hub, &mut [], |world, _| world.now >= stopped + Duration::from_secs(50));
    world.run(&mut hub, &mut others, |world, _| world.now >= stopped + Duration::from_secs(55));
    assert_eq!((hub.counters().refused_room, world.taken().len()), (1, 0), "the first may only pause");
    let over = stopped + Duration::from_secs(62);
    world.run(&mut hub, &mut others, |world, _| world.now >= over);
    let held = first.len() as u64 / 2;
    let kept = store.budget().0 - second.len() as u64;
    assert!((held..held + 100_000).contains(&kept), "what is here takes its room: {kept} of {held}");
    world.settle(&mut hub, &mut others);
    assert!(read(&store, Root::of(&second)).unwrap() == second);
    world.settle(&mut hub, &mut halves);
    assert!(read(&store, Root::of(&first)).unwrap() == first);
    let counters = hub.counters();
    let sent = segments(&first) + segments(&second);
    assert_eq!((counters.segments, counters.duplicate_segments), (sent, 0), "{counters:?}");
}

#[test]
fn a_file_that_stops_halfway_gives_room_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let (first, second) = (content(1, BIG / 2), content(2, BIG / 4 * 3));
    let (first_sent, second_sent) = (packets(8, 1, "first", &first), packets(9, 1, "second", &second));
    let (before, after) = first_sent.split_at(first_sent.len() / 2);
    give(&mut hub, 1, 1, before);
    (2..=50).for_each(|second| give(&mut hub, second, 1, &[]));
    give(&mut hub, 51, 2, &second_sent);
    assert_eq!((taken_in(&mut hub), hub.counters().refused_room), (0, 1), "the first may only pause");
    (52..=62).for_each(|second| give(&mut hub, second, 1, &[]));
    let (held, kept) = (first.len() as u64 / 2, store.budget().0);
    assert!((held..held + 100_000).contains(&kept), "what is here takes its room: {kept} of {held}");
    give(&mut hub, 63, 2, &second_sent);
    assert_eq!(taken_in(&mut hub), 1, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&second)).unwrap() == second);
    give(&mut hub, 64, 1, after);
    assert_eq!(taken_in(&mut hub), 2, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&first)).unwrap() == first);
}

/// However long it waits: it is told once, and the room that is found for it is its own.
#[test]
fn a_content_that_waits_for_minutes_keeps_the_room_that_it_gets() {
    for info in [b"honest".to_vec(), manifest("honest", 1, &content(1, 10_000_000), None).as_bytes().to_vec()]
    {
        let (folder, store, mut hub, mut world) = scene();
        let other = other(folder.path(), &store);
        let bytes = content(1, 10_000_000);
        let mut sources = [Source::new(1, world.now)];
        sources[0].offer(world.now, &bytes, &info);
        world.run(&mut hub, &mut sources, |world, _| world.now >= Duration::from_secs(5));
        wait(&mut world, &mut hub, 120);
        assert_eq!(hub.counters().nacks, 0, "nothing is asked for in vain");
        drop(other);
        wait(&mut world, &mut hub, 5);
        assert!(hub.counters().nacks > 0, "what was sent meanwhile is asked for");
        assert!(store.budget().0 > bytes.len() as u64, "{:?}", store.budget());
        let mut twin = Source::new(1, Duration::ZERO);
        twin.offer(Duration::ZERO, &bytes, &info);
        for datagram in twin.datagrams(Duration::from_secs(2)) {
            world.deliver(&mut hub, address(1), &datagram);
        }
        assert_eq!((hub.counters().refused_room, world.taken().len()), (1, 1), "{:?}", hub.counters());
    }
}

#[test]
fn what_is_out_of_date_when_there_is_room_is_refused() {
    let (folder, store, mut hub, mut world) = scene();
    let other = other(folder.path(), &store);
    let bytes = content(1, 10_000_000);
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, manifest("image", 1, &bytes, None).as_bytes());
    world.run(&mut hub, &mut sources, |world, _| world.now >= Duration::from_secs(2));
    let newer = content(2, 1000);
    let described = manifest("image", 2, &newer, None);
    store.begin(&described, WALL).unwrap();
    drop(other);
    wait(&mut world, &mut hub, 5);
    let counters = hub.counters();
    assert_eq!((counters.refused_room, counters.refused_superseded), (1, 1), "{counters:?}");
}

/// What the store removed for others while nothing came of it isn't taken for what is here.
#[test]
fn a_content_whose_beginning_was_removed_comes_anew() {
    for full in [false, true] {
        let (folder, store, mut hub, mut world) = scene();
        world.lose = 5;
        let first = content(1, BIG / 2);
        let mut sources = [Source::new(1, world.now)];
        sources[0].offer(world.now, &first, manifest("first", 1, &first, None).as_bytes());
        world.run(&mut hub, &mut sources, |world, _| world.delivered > segments(&first) / 2);
        wait(&mut world, &mut hub, 61);
        let other = store.adopt(folder.path().join("other"), BIG as u64, world.wall()).unwrap();
        let other = full.then_some(other);
        let until = world.now + Duration::from_secs(3);
        world.run(&mut hub, &mut sources, |world, _| world.now >= until);
        assert_eq!(hub.counters().refused_room, u64::from(full), "{:?}", hub.counters());
        drop(other);
        world.settle(&mut hub, &mut sources);
        assert!(read(&store, Root::of(&first)).unwrap() == first);
        let counters = hub.counters();
        assert_eq!((counters.refused_wrong, counters.taken), (0, 1), "{counters:?}");
    }
}

/// What came before a restart is kept, though there is no room for the rest of it then.
#[test]
fn a_content_that_finds_no_room_after_a_restart_goes_on_where_it_was() {
    let (folder, store, mut hub, mut world) = scene();
    let bytes = content(1, BIG / 2);
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, b"first");
    world.run(&mut hub, &mut sources, |world, _| world.delivered > segments(&bytes) / 2);
    wait(&mut world, &mut hub, 2);
    let held = hub.counters().segments;
    drop(hub);
    let other = other(folder.path(), &store);
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let until = world.now + Duration::from_secs(3);
    world.run(&mut hub, &mut sources, |world, _| world.now >= until);
    assert_eq!((hub.counters().refused_room, world.taken().len()), (1, 0), "{:?}", hub.counters());
    drop(other);
    world.settle(&mut hub, &mut sources);
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
    assert_eq!(hub.counters().segments, segments(&bytes) - held, "{:?}", hub.counters());
}

#[test]
fn a_file_that_finds_no_room_after_a_restart_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let bytes = content(1, BIG / 2);
    let sent = packets(8, 1, "first", &bytes);
    let (before, after) = sent.split_at(sent.len() / 2);
    give(&mut hub, 1, 1, before);
    drop(hub);
    let other = other(folder.path(), &store);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let table = &before[..1];
    (2..5).for_each(|second| give(&mut hub, second, 1, &[table, &after[..9]].concat()));
    assert_eq!((taken_in(&mut hub), hub.counters().refused_room), (0, 1), "{:?}", hub.counters());
    drop(other);
    give(&mut hub, 6, 1, &[table, after].concat());
    assert_eq!(taken_in(&mut hub), 1, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
}

/// Who names more than is remembered of it while there is no room gets none for what was forgotten, and what got room and nothing
/// else gives it back, on the disk, too.
#[test]
fn of_many_that_wait_the_newest_get_room() {
    let (folder, store, mut hub, mut world) = scene();
    let other = store.adopt(folder.path().join("other"), BUDGET - 100_000, WALL).unwrap();
    let bytes = content(1, 150_000);
    for number in 0..300 {
        let mut source = Source::new(1, Duration::ZERO);
        let name = format!("content-{number}");
        source.offer_as(Some(ObjectId(number)), Duration::ZERO, &bytes, name.as_bytes());
        for datagram in source.datagrams(Duration::from_millis(2)) {
            world.deliver(&mut hub, address(1), &datagram);
        }
    }
    assert_eq!(hub.counters().refused_room, 300, "{:?}", hub.counters());
    drop(other);
    wait(&mut world, &mut hub, 2);
    assert!(store.budget().0 > 256 * 150_000);
    wait(&mut world, &mut hub, 62);
    assert_eq!((hub.counters().gone, store.budget().0), (44, 0), "{:?}", hub.counters());
    // A file has a few blocks of its own.
    let most = 256 * 16_384;
    assert!(blocks(folder.path()) < most, "{} of {most}", blocks(folder.path()));
}

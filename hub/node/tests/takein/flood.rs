//! What forged senders may take of the disk.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use md5::{Digest as _, Md5};
use millrace_hub::flute::{File, Oti, SymbolId, Table, packet, table};
use millrace_hub::norm::{self, Message};
use millrace_hub_node::TakeIn;
use millrace_hub_store::{Root, Trust};

use crate::flute::{open as open_flute, packets};
use crate::world::{Source, World, open};
use crate::{content, manifest, read, store_of, trust};

const BUDGET: u64 = 64 << 20;
/// Of what a forger names.
const FORGED: usize = 60 << 20;

/// Folders of senders, and bytes that their files take.
fn taken_by(folder: &Path) -> (usize, u64) {
    let (mut folders, mut bytes) = (0, 0);
    for sender in std::fs::read_dir(folder.join("arriving/0")).unwrap() {
        folders += 1;
        for file in std::fs::read_dir(sender.unwrap().path().join(".millrace")).unwrap() {
            bytes += file.unwrap().metadata().unwrap().blocks() * 512;
        }
    }
    (folders, bytes)
}

/// Four hundred senders, each let in, that all send this. Returns the most that there was of folders and bytes.
fn flood(hub: &mut TakeIn, now: &mut Duration, folder: &Path, datagrams: &[Vec<u8>]) -> (usize, u64) {
    flood_of(400, hub, now, folder, datagrams)
}

fn flood_of(
    senders: u16,
    hub: &mut TakeIn,
    now: &mut Duration,
    folder: &Path,
    datagrams: &[Vec<u8>],
) -> (usize, u64) {
    let (mut most, before) = ((0, 0), hub.counters().crowded);
    for number in 0..senders {
        *now += Duration::from_millis(20);
        let [high, low] = number.to_be_bytes();
        for datagram in datagrams {
            hub.handle(*now, SocketAddr::from(([10, 9, high, low], 6000)), datagram);
        }
        if number % 20 == 0 {
            let (folders, bytes) = taken_by(folder);
            most = (most.0.max(folders), most.1.max(bytes));
        }
    }
    assert!(hub.counters().crowded - before >= u64::from(senders) - 16, "{:?}", hub.counters());
    most
}

/// How a forger by NORM begins: the info, and with it so many segments.
fn forged(bytes: &[u8], info: &[u8], segments: usize) -> Vec<Vec<u8>> {
    let mut source = Source::new(200, Duration::ZERO);
    source.offer(Duration::ZERO, bytes, info);
    let mut datagrams = source.datagrams(Duration::from_millis(50));
    let is_data = |datagram: &Vec<u8>| matches!(norm::parse(datagram).unwrap().message, Message::Data { .. });
    let end = datagrams.iter().position(is_data).expect("there are segments");
    datagrams.truncate(end + segments);
    datagrams
}

fn settles(hub: &mut TakeIn, world: &mut World, bytes: &[u8], info: &[u8], number: u8) {
    let mut sources = [Source::new(number, world.now)];
    sources[0].offer(world.now, bytes, info);
    world.settle(hub, &mut sources);
}

#[test]
fn names_by_norm_take_no_room_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    let junk = forged(&vec![7; FORGED], b"forged", 0);
    let most = flood(&mut hub, &mut world.now, folder.path(), &junk);
    assert!(most.0 <= 17 && most.1 == 0, "{most:?}");
    // In the middle of it: sixteen forgers are there, each with a name for nearly all of the budget.
    let bytes = content(1, 10_000_000);
    settles(&mut hub, &mut world, &bytes, b"honest", 1);
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
    flood(&mut hub, &mut world.now, folder.path(), &junk);
    let after = content(2, 10_000_000);
    settles(&mut hub, &mut world, &after, b"later", 2);
    assert!(read(&store, Root::of(&after)).unwrap() == after);
}

#[test]
fn a_signed_info_said_again_by_many_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open(folder.path(), &store, trust(1));
    let mut world = World::new(1);
    let bytes = content(1, 100_000);
    let replayed = forged(&bytes, manifest("a", 1, &bytes, Some(1)).as_bytes(), 0);
    let most = flood_of(200, &mut hub, &mut world.now, folder.path(), &replayed);
    assert!(most.0 <= 17, "{most:?}");
    // Once it is there, too.
    settles(&mut hub, &mut world, &bytes, manifest("a", 1, &bytes, Some(1)).as_bytes(), 1);
    let most = flood_of(200, &mut hub, &mut world.now, folder.path(), &replayed);
    assert!(most.0 <= 18, "{most:?}");
}

#[test]
fn who_sends_a_segment_leaves_that_alone_and_not_too_many_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    let bytes = content(1, 100_000);
    settles(&mut hub, &mut world, &bytes, b"honest", 1);
    let most = flood(&mut hub, &mut world.now, folder.path(), &forged(&vec![7; FORGED], b"forged", 1));
    // Those who are there have the budget at most.
    assert!(most.0 <= 64 + 17 && most.1 <= BUDGET + (2 << 20), "{most:?}");
    drop(hub);
    let (folders, bytes) = taken_by(folder.path());
    assert!(folders > 40 && bytes <= BUDGET + (2 << 20), "{folders} {bytes}");
}

/// A file's table, and its first symbol.
fn begin(tsi: u64) -> [Vec<u8>; 2] {
    let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(b"?"));
    let (location, length) = ("file:///forged".to_owned(), Some(FORGED as u64));
    let file = File { toi: 1, location, length, md5: Some(md5), ..File::default() };
    let described = Table { expires: u32::MAX, complete: false, files: vec![file] };
    let table = table(tsi, 1, &described, 1400).unwrap().remove(0);
    let oti = Oti::no_code(FORGED as u64, 1400, 64).unwrap();
    [table, packet(tsi, 1, &oti, SymbolId { block: 0, symbol: 0 }, &[7; 1400], false)]
}

fn taken_in(hub: &mut TakeIn) -> u64 {
    while hub.poll_event().is_some() {}
    hub.counters().taken
}

#[test]
fn files_without_a_table_take_no_room_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let mut now = Duration::ZERO;
    let [_, symbol] = begin(7);
    let bytes = content(1, 10_000_000);
    let honest = packets(8, 1, "honest", &bytes);
    let most = flood(&mut hub, &mut now, folder.path(), std::slice::from_ref(&symbol));
    assert!(most.0 <= 17 && most.1 == 0, "{most:?}");
    honest.iter().for_each(|packet| hub.handle(now, crate::world::address(1), packet));
    assert_eq!(taken_in(&mut hub), 1, "{:?}", hub.counters());
    flood(&mut hub, &mut now, folder.path(), std::slice::from_ref(&symbol));
    let after = content(2, 10_000_000);
    let honest = packets(9, 1, "later", &after);
    honest.iter().for_each(|packet| hub.handle(now, crate::world::address(2), packet));
    assert_eq!(taken_in(&mut hub), 2, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&after)).unwrap() == after);
}

#[test]
fn files_with_a_table_and_a_symbol_leave_that_alone_and_not_too_many_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let mut now = Duration::ZERO;
    let most = flood(&mut hub, &mut now, folder.path(), &begin(7));
    assert!(most.0 <= 64 + 17 && most.1 <= BUDGET + (2 << 20), "{most:?}");
}

#[test]
fn a_file_without_room_comes_once_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open_flute(folder.path(), &store, None, Trust::Anybody);
    let path = folder.path().join("other");
    let other = store.adopt(path, FORGED as u64, crate::world::WALL).unwrap();
    let bytes = content(1, 10_000_000);
    let honest = packets(8, 1, "honest", &bytes);
    for second in 1..4 {
        let now = Duration::from_secs(second);
        honest.iter().for_each(|packet| hub.handle(now, crate::world::address(1), packet));
        hub.tick(now, crate::world::WALL);
    }
    assert_eq!((taken_in(&mut hub), hub.counters().refused_room), (0, 1), "it is told once");
    drop(other);
    honest.iter().for_each(|packet| hub.handle(Duration::from_secs(5), crate::world::address(1), packet));
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
            let folder = tempfile::tempdir().unwrap();
            let store = store_of(folder.path(), BUDGET);
            let mut hub = open(folder.path(), &store, Trust::Anybody);
            let mut world = World::new(1);
            let other = store.adopt(folder.path().join("other"), FORGED as u64, crate::world::WALL).unwrap();
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
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    let (first, second) = (content(1, FORGED / 2), content(2, FORGED));
    let segments = |bytes: &[u8]| bytes.len().div_ceil(1400) as u64;
    let (mut halves, mut others) = ([Source::new(1, world.now)], [Source::new(2, world.now)]);
    halves[0].offer(world.now, &first, b"first");
    others[0].offer(world.now, &second, b"second");
    world.run(&mut hub, &mut halves, |world, _| world.delivered > segments(&first) / 2);
    let stopped = world.now;
    world.run(&mut hub, &mut [], |world, _| world.now >= stopped + Duration::from_secs(50));
    world.run(&mut hub, &mut others, |world, _| world.now >= stopped + Duration::from_secs(55));
    assert_eq!((hub.counters().refused_room, world.taken().len()), (1, 0), "the first may only pause");
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
    let (first, second) = (content(1, FORGED / 2), content(2, FORGED));
    let (first_sent, second_sent) = (packets(8, 1, "first", &first), packets(9, 1, "second", &second));
    let wall = |second: u64| millrace_hub_store::Millis(crate::world::WALL.0 + second * 1000);
    let give = |hub: &mut TakeIn, second, number, packets: &[Vec<u8>]| {
        let now = Duration::from_secs(second);
        packets.iter().for_each(|packet| hub.handle(now, crate::world::address(number), packet));
        hub.tick(now, wall(second));
    };
    let (before, after) = first_sent.split_at(first_sent.len() / 2);
    give(&mut hub, 1, 1, before);
    (2..=50).for_each(|second| give(&mut hub, second, 1, &[]));
    give(&mut hub, 51, 2, &second_sent);
    assert_eq!((taken_in(&mut hub), hub.counters().refused_room), (0, 1), "the first may only pause");
    (52..=62).for_each(|second| give(&mut hub, second, 1, &[]));
    give(&mut hub, 63, 2, &second_sent);
    assert_eq!(taken_in(&mut hub), 1, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&second)).unwrap() == second);
    give(&mut hub, 64, 1, after);
    assert_eq!(taken_in(&mut hub), 2, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&first)).unwrap() == first);
}

#[test]
fn of_the_folders_that_are_left_those_of_who_delivered_and_the_newest_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let session = |number: u64| folder.path().join(format!("arriving/0/norm-{number}-10.0.0.1/.millrace"));
    for number in 0..100 {
        std::fs::create_dir_all(session(number)).unwrap();
        let map = std::fs::File::create(session(number).join("1-0.map")).unwrap();
        let written = std::time::SystemTime::now() - Duration::from_secs(1000 - number);
        map.set_modified(written).unwrap();
    }
    let mark = std::fs::File::create(session(0).join("delivered")).unwrap();
    mark.set_modified(std::time::SystemTime::now() - Duration::from_secs(1000)).unwrap();
    drop(open(folder.path(), &store, Trust::Anybody));
    let kept: Vec<_> = (0..100).filter(|number| session(*number).exists()).collect();
    assert!(kept.iter().copied().eq([0].into_iter().chain(53..100)), "{kept:?}");
}

#[test]
fn who_has_delivered_and_is_crowded_out_amid_something_is_kept_whatever_forgers_leave() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), BUDGET);
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    settles(&mut hub, &mut world, &content(1, 3000), b"first", 1);
    for number in 2..=17 {
        world.now += Duration::from_secs(1);
        settles(&mut hub, &mut world, &content(u64::from(number), 3000), &[b'a' + number], number);
    }
    let kept = folder.path().join(format!("arriving/0/norm-1-{}", crate::world::address(1).ip()));
    assert!(kept.exists() && hub.counters().crowded == 1, "{:?}", hub.counters());
    // Each takes little, so that there is room for all, and leaves a folder.
    let junk = forged(&content(99, 100_000), b"forged", 1);
    let most = flood(&mut hub, &mut world.now, folder.path(), &junk);
    assert!((64..=64 + 16 + 17).contains(&most.0) && most.1 < 4 << 20, "{most:?}");
    assert!(kept.exists());
}

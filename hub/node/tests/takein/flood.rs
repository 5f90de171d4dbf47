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

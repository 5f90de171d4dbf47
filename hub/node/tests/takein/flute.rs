//! Files that come by FLUTE.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use flute::core::UDPEndpoint;
use flute::sender::{Config, ObjectDesc, Sender, TransferConfig};
use md5::{Digest as _, Md5};
use millrace_hub::flute::{File, Oti, SymbolId, Table, packet, table};
use millrace_hub_node::{Profile, TakeIn, TakeInEvent, TakeInSettings};
use millrace_hub_store::{Limits, Manifest, Root, Store, Trust};

use crate::disk::Mortal;
use crate::world::{Dice, WALL, address, parts};
use crate::{content, key, read, store, store_of, trust};

const TSI: u64 = 7;

pub(crate) fn open(folder: &Path, store: &Arc<Store>, tsi: Option<u64>, trust: Trust) -> TakeIn {
    let settings = TakeInSettings {
        profile: Profile::Flute { tsi },
        trust,
        store: Arc::clone(store),
        key: Some(Arc::new(key(5))),
        folder: folder.join("arriving/0"),
    };
    TakeIn::open(settings, WALL).unwrap()
}

/// The packets of a file without a code, its table first.
pub(crate) fn packets(tsi: u64, toi: u64, name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(bytes));
    let (location, length) = (format!("file:///images/{name}"), Some(bytes.len() as u64));
    let file = File { toi, location, length, md5: Some(md5), ..File::default() };
    let described = Table { expires: u32::MAX, complete: false, files: vec![file] };
    let mut all = table(tsi, toi as u32, &described, 1400).unwrap();
    let oti = Oti::no_code(bytes.len() as u64, 1400, 64).unwrap();
    let symbol = |(id, offset, len): (SymbolId, u64, usize)| {
        packet(tsi, toi, &oti, id, &bytes[offset as usize..][..len], false)
    };
    all.extend(oti.source_symbols().map(symbol));
    all
}

/// Gives a hub these, and returns what it tells.
fn give(hub: &mut TakeIn, sender: u8, packets: &[Vec<u8>]) -> Vec<TakeInEvent> {
    packets.iter().for_each(|packet| hub.handle(Duration::ZERO, address(sender), packet));
    assert_eq!((hub.poll_transmit(Duration::ZERO), hub.poll_timeout()), (None, None), "it is one way");
    std::iter::from_fn(|| hub.poll_event()).collect()
}

fn taken(events: &[TakeInEvent]) -> Vec<&Manifest> {
    let mut taken = Vec::new();
    for event in events {
        if let TakeInEvent::Taken(manifest) = event {
            taken.push(manifest);
        }
    }
    taken
}

/// What the crate's sender makes of a file.
fn peer(bytes: &[u8], oti: &flute::core::Oti) -> Vec<Vec<u8>> {
    let endpoint = UDPEndpoint::new(None, "239.1.1.1".into(), 3400);
    let location = url::Url::parse("file:///a.bin").unwrap();
    let config = TransferConfig::default();
    let object = ObjectDesc::create_from_buffer(bytes.to_vec(), "text/plain", &location, true, config);
    let mut sender = Sender::new(endpoint, TSI, oti, &Config::default());
    sender.add_object(0, object.unwrap()).unwrap();
    sender.publish(SystemTime::now()).unwrap();
    std::iter::from_fn(|| sender.read(SystemTime::now())).collect()
}

#[test]
fn what_a_stock_sender_sends_gets_a_manifest_of_the_hub_s() {
    let bytes = content(1, 200_001);
    let raptorq = flute::core::Oti::new_raptorq(1400, 60, 20, 1, 4).unwrap();
    let no_code = flute::core::Oti::new_no_code(1400, 64);
    for (oti, every) in [(raptorq, 10), (no_code, usize::MAX)] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut hub = open(folder.path(), &store, None, Trust::Anybody);
        let mut all = peer(&bytes, &oti);
        // Not of the first packets, which are the table.
        all = all
            .into_iter()
            .enumerate()
            .filter(|(at, _)| *at < 6 || at % every != 3)
            .map(|(_, one)| one)
            .collect();
        let events = give(&mut hub, 1, &all);
        let [manifest] = taken(&events)[..] else { panic!("{events:?}") };
        assert_eq!(manifest.signed_by(), Some(key(5).id()));
        assert_eq!(
            (manifest.description().name.as_str(), manifest.description().root),
            ("a.bin", Root::of(&bytes))
        );
        assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
        assert_eq!(store.budget().0, 200_001 + 4 * 32);
    }
}

#[test]
fn sessions_are_told_apart_and_one_alone_is_listened_to_if_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (a, b) = (content(1, 50_000), content(2, 60_000));
    let mut hub = open(folder.path(), &store, None, Trust::Anybody);
    let mut mixed: Vec<(u8, Vec<u8>)> =
        packets(7, 1, "a", &a).into_iter().map(|packet| (1, packet)).collect();
    mixed.extend(packets(8, 1, "b", &b).into_iter().map(|packet| (2, packet)));
    let mut dice = Dice::new(1);
    for at in (1..mixed.len()).rev() {
        mixed.swap(at, dice.below(at as u64 + 1) as usize);
    }
    let mut events = Vec::new();
    // Whatever the order, each twice; without a code the second time fills what came before the table was there.
    for (sender, packet) in mixed.iter().chain(&mixed) {
        events.extend(give(&mut hub, *sender, std::slice::from_ref(packet)));
    }
    assert_eq!((taken(&events).len(), hub.senders()), (2, 2));
    assert!(read(&store, Root::of(&a)).unwrap() == a && read(&store, Root::of(&b)).unwrap() == b);
    drop(hub);

    let c = content(3, 10_000);
    let mut hub = open(folder.path(), &store, Some(8), Trust::Anybody);
    assert!(give(&mut hub, 1, &packets(7, 2, "c", &c)).is_empty());
    assert_eq!((hub.senders(), hub.counters().foreign), (0, packets(7, 2, "c", &c).len() as u64));
    assert_eq!(taken(&give(&mut hub, 1, &packets(8, 2, "c", &c))).len(), 1);
}

#[test]
fn a_flood_of_forged_sessions_keeps_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, None, Trust::Anybody);
    let flood = |hub: &mut TakeIn, now: Duration| {
        for tsi in 100..1100 {
            hub.handle(now, address(9), &packets(tsi, 1, "x", b"?")[1]);
        }
    };
    let bytes = content(1, 100_000);
    let all = packets(TSI, 1, "a", &bytes);
    let (first, second) = all.split_at(all.len() / 2);
    flood(&mut hub, Duration::from_secs(1));
    let later = Duration::from_secs(2);
    first.iter().for_each(|packet| hub.handle(later, address(1), packet));
    flood(&mut hub, later);
    second.iter().for_each(|packet| hub.handle(later, address(1), packet));
    let events: Vec<_> = std::iter::from_fn(|| hub.poll_event()).collect();
    assert_eq!(taken(&events).len(), 1, "{:?}", hub.counters());
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
    assert_eq!((hub.senders(), hub.counters().crowded), (1 + 15, 16 + 16));
}

#[test]
fn what_is_not_wanted_is_refused_and_leaves_nothing() {
    let bytes = content(1, 300_000);
    let all = packets(TSI, 1, "a", &bytes);
    for (trust, room) in [(trust(1), 1 << 20), (Trust::Anybody, 200_000), (Trust::Anybody, 300_000)] {
        let folder = tempfile::tempdir().unwrap();
        let store = store_of(folder.path(), room);
        let signed = matches!(trust, Trust::Keys(_));
        let mut hub = open(folder.path(), &store, None, trust);
        let events = give(&mut hub, 1, &all);
        hub.tick(Duration::from_secs(1), WALL);
        let counters = hub.counters();
        assert!(taken(&events).is_empty() && store.names().is_empty());
        // What is longer than the budget doesn't even begin.
        let begun = u64::from(room != 200_000);
        assert_eq!(counters.refused_manifest + counters.refused_room, begun, "{counters:?}");
        assert_eq!((counters.refused_manifest, events.len() as u64), (u64::from(signed), begun));
        assert!(counters.unstored_segments > 200, "{counters:?}");
        assert_eq!((parts(folder.path()), store.budget().0), (0, 0));
        let session = std::fs::read_dir(
            folder.path().join(format!("arriving/0/flute-7-{}/.millrace", address(1).ip())),
        );
        assert_eq!(session.unwrap().count(), 1, "the lock alone");
    }
}

#[test]
fn killed_after_any_part_it_needs_the_rest_alone() {
    let bytes = content(2, 280_000);
    let all = packets(TSI, 1, "a", &bytes);
    for part in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = all.split_at(2 + part * 20);
        let before = {
            let store = store(folder.path());
            let mut hub = open(folder.path(), &store, None, Trust::Anybody);
            give(&mut hub, 1, first);
            hub.tick(Duration::from_secs(1), WALL);
            hub.counters().segments
        };
        let store = store(folder.path());
        let mut hub = open(folder.path(), &store, None, Trust::Anybody);
        // The table comes again now and then, and with it what was kept is known.
        let again = [&all[..1], second].concat();
        give(&mut hub, 1, &again);
        let events = give(&mut hub, 1, second);
        let counters = hub.counters();
        assert_eq!(
            (before + counters.segments, counters.taken),
            (200, 1),
            "part {part}: {counters:?} {events:?}"
        );
        assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
    }
}

#[test]
fn dead_at_each_call_to_the_disk_it_gets_there() {
    let bytes = content(3, 70_000);
    let all = packets(TSI, 1, "a", &bytes);
    let mut death = 1;
    loop {
        let folder = tempfile::tempdir().unwrap();
        drop(store(folder.path()));
        let disk = Mortal::until(death);
        let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 0 };
        if let Ok(store) = Store::open_on(Arc::new(disk.clone()), folder.path(), limits, WALL) {
            let mut hub = open(folder.path(), &store, None, Trust::Anybody);
            // Up to the last, with a checkpoint before it: then all is there but that.
            let (last, before) = all.split_last().unwrap();
            give(&mut hub, 1, before);
            hub.tick(Duration::from_secs(1), WALL);
            give(&mut hub, 1, std::slice::from_ref(last));
        }
        let lived = disk.calls() < death;
        let store = store(folder.path());
        let mut hub = open(folder.path(), &store, None, Trust::Anybody);
        give(&mut hub, 1, &all);
        give(&mut hub, 1, &all);
        assert!(read(&store, Root::of(&bytes)).is_some_and(|read| read == bytes), "dead at call {death}");
        assert_eq!(store.names().len(), 1, "dead at call {death}");
        if lived {
            break;
        }
        death += 1;
    }
    assert!(death > 30, "{death}");
}

#[test]
fn what_is_wrong_is_not_taken_and_comes_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, None, Trust::Anybody);
    let bytes = content(4, 14_000);
    let right = packets(TSI, 1, "a", &bytes);
    let mut wrong = right.clone();
    *wrong[5].last_mut().unwrap() ^= 1;
    assert!(taken(&give(&mut hub, 1, &wrong)).is_empty());
    assert_eq!((hub.counters().refused_wrong, store.names().len()), (1, 0));
    assert_eq!(taken(&give(&mut hub, 1, &right)).len(), 1);
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
}

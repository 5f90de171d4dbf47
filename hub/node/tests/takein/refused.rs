//! What isn't taken is refused by name, counted by reason, and not asked for.

use millrace_hub_node::TakeInCounters;
use millrace_hub_store::Trust;

use crate::world::{Source, World, open, parts};
use crate::{content, manifest, store, store_of, trust};

/// Offers a content to a hub whose store has `image` in version 5 and little room, and sends all of it with losses. Returns what
/// was counted, and what was said.
fn offered(trust: Trust, bytes: &[u8], info: &[u8]) -> (TakeInCounters, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), 1_000_000);
    let known = content(1, 100_000);
    let known_manifest = manifest("image", 5, &known, Some(1));
    store.begin(&known_manifest, crate::world::WALL).unwrap();
    store.write(known_manifest.description().root, 0, &known, crate::world::WALL).unwrap();
    store.complete(known_manifest.description().root, crate::world::WALL).unwrap();
    store
        .distribute(
            known_manifest.description().root,
            5,
            [millrace_hub_store::NodeId(1)],
            crate::world::WALL,
            crate::world::WALL,
        )
        .unwrap();
    let (names, budget) = (store.names(), store.budget());

    let mut hub = open(folder.path(), &store, trust);
    let mut world = World { lose: 10, ..World::new(1) };
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, bytes, info);
    let segments = bytes.len().div_ceil(1400) as u64;
    // All of it, and some seconds of the sender's asking.
    world.run(&mut hub, &mut sources, |world, _| world.delivered + world.lost.len() as u64 > segments + 20);
    assert!(sources[0].acknowledged.is_empty());
    assert_eq!((world.lost.is_empty(), hub.counters().nacks), (false, 0), "{:?}", hub.counters());
    assert_eq!(
        (store.names(), store.budget(), parts(folder.path())),
        (names, budget, 0),
        "nothing is left of it"
    );
    let refused = world.refused();
    assert_eq!(refused.len(), 1, "{refused:?}");
    (hub.counters(), refused[0].0.map(str::to_owned))
}

/// What is offered: why that isn't taken, its bytes, its info, the name that is told, and what is counted.
type Case<'a> = (&'a str, &'a [u8], Vec<u8>, Option<String>, fn(&TakeInCounters) -> u64);

#[test]
fn each_reason_is_counted_for_itself() {
    let (small, large) = (content(2, 200_000), content(3, 950_000));
    let signed = |version, bytes: &[u8], key| manifest("image", version, bytes, key).as_bytes().to_vec();
    let image = Some("image".to_owned());
    let cases: [Case<'_>; 7] = [
        ("unsigned", &small, signed(6, &small, None), None, |all| all.refused_manifest),
        ("a stranger's", &small, signed(6, &small, Some(2)), None, |all| all.refused_manifest),
        ("no manifest", &small, b"image".to_vec(), None, |all| all.refused_manifest),
        ("superseded", &small, signed(4, &small, Some(1)), image.clone(), |all| all.refused_superseded),
        ("in conflict", &small, signed(5, &small, Some(1)), image.clone(), |all| all.refused_conflict),
        ("of another length", &small, signed(6, &large, Some(1)), None, |all| all.refused_size),
        ("too large beside what is owed", &large, signed(6, &large, Some(1)), image, |all| all.refused_room),
    ];
    for (what, bytes, info, name, counter) in cases {
        let (counters, said) = offered(trust(1), bytes, &info);
        assert_eq!((counter(&counters), said, counters.taken), (1, name, 0), "{what}: {counters:?}");
    }
}

#[test]
fn a_name_that_is_none_is_refused_from_anybody() {
    let bytes = content(2, 50_000);
    for info in [&b""[..], b"../../etc/passwd", b"\xff", b".hidden"] {
        let (counters, _) = offered(Trust::Anybody, &bytes, info);
        assert_eq!(counters.refused_nameless, 1, "{info:?}");
    }
}

#[test]
fn what_is_longer_than_the_budget_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), 1_000_000);
    let mut hub = open(folder.path(), &store, Trust::Anybody);
    let mut world = World::new(1);
    let bytes = content(4, 1_000_001);
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &bytes, b"image");
    world.run(&mut hub, &mut sources, |world, _| world.delivered > 700);
    assert!(hub.counters().contradictory_segments > 600);
    assert!(world.asked.is_empty() && world.taken().is_empty());
}

#[test]
fn what_is_wrong_at_its_source_is_given_up_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut hub = open(folder.path(), &store, trust(1));
    let mut world = World::new(1);
    let (named, sent) = (content(1, 100_000), content(2, 100_000));
    let mut sources = [Source::new(1, world.now)];
    sources[0].offer(world.now, &sent, manifest("a", 1, &named, Some(1)).as_bytes());
    world.run(&mut hub, &mut sources, |world, _| world.refused().len() == 3);
    assert!(world.refused().iter().all(|(name, _)| *name == Some("a")));
    let counters = hub.counters();
    assert_eq!((counters.refused_wrong, counters.taken, counters.segments), (3, 0, 3 * 72));
    assert_eq!(store.budget().0, 0);
}

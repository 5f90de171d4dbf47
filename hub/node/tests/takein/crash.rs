//! A hub that is killed goes on where it was, whenever that was.

use std::sync::Arc;

use millrace_hub_node::TakeIn;
use millrace_hub_store::{Limits, Root, Store, Trust};

use crate::disk::Mortal;
use crate::world::{SEGMENT, Source, WALL, World, open, parts};
use crate::{content, manifest, read, store};

const SIZE: usize = 1_000_000;
const SEGMENTS: u64 = SIZE.div_ceil(SEGMENT) as u64;

/// What is offered: with a manifest, or with a name alone.
fn infos(bytes: &[u8]) -> [Vec<u8>; 2] {
    [manifest("image", 1, bytes, None).as_bytes().to_vec(), b"image".to_vec()]
}

#[test]
fn killed_after_any_part_it_asks_for_the_rest_alone() {
    let bytes = content(1, SIZE);
    for (info, part) in infos(&bytes).iter().flat_map(|info| (0..10).map(move |part| (info, part))) {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World { lose: 5, ..World::new(part) };
        let mut sources = [Source::new(1, world.now)];
        sources[0].offer(world.now, &bytes, info);
        let held = {
            let store = store(folder.path());
            let mut hub = open(folder.path(), &store, Trust::Anybody);
            let until = part * SEGMENTS / 10 + 3;
            world.run(&mut hub, &mut sources, |world, _| world.delivered == until);
            // As a second goes by.
            hub.tick(world.now, world.wall());
            store.checkpoint(world.wall()).unwrap();
            hub.counters().segments + hub.counters().decoded_segments
        };
        let store = store(folder.path());
        let mut hub = open(folder.path(), &store, Trust::Anybody);
        world.settle(&mut hub, &mut sources);
        assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
        let counters = hub.counters();
        let new = counters.segments + counters.decoded_segments;
        assert_eq!(held + new, SEGMENTS, "killed at {part} tenths: {counters:?}");
        assert_eq!((world.taken().len(), parts(folder.path())), (1, 0));
    }
}

#[test]
fn killed_again_and_again_without_a_checkpoint_it_gets_there() {
    let bytes = content(2, SIZE);
    for info in infos(&bytes) {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World { lose: 5, repeat: 5, reorder: 10, ..World::new(2) };
        let mut sources = [Source::new(1, world.now)];
        sources[0].offer(world.now, &bytes, &info);
        let mut deaths = 0;
        while sources[0].acknowledged.is_empty() {
            let store = store(folder.path());
            let mut hub = open(folder.path(), &store, Trust::Anybody);
            let until = world.delivered + 50 + world.dice.below(300);
            world.run(&mut hub, &mut sources, |world, sources| {
                world.delivered >= until || !sources[0].acknowledged.is_empty()
            });
            deaths += 1;
            assert!(deaths < 500);
        }
        assert!(deaths > 3, "{deaths}");
        assert!(read(&store(folder.path()), Root::of(&bytes)).unwrap() == bytes);
    }
}

/// Everything that the disk is asked for is the last thing in one of these lives: while it arrives, and at each step of the commit.
#[test]
fn dead_at_each_call_to_the_disk_it_gets_there() {
    let bytes = content(3, 70_000);
    for info in infos(&bytes) {
        let (mut death, mut deaths, mut kept) = (1, 0, 0);
        loop {
            let folder = tempfile::tempdir().unwrap();
            drop(store(folder.path()));
            let mut world = World { lose: 5, ..World::new(death) };
            let mut sources = [Source::new(1, world.now)];
            sources[0].offer(world.now, &bytes, &info);
            let disk = Mortal::until(death);
            let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 0 };
            let lived = match Store::open_on(Arc::new(disk.clone()), folder.path(), limits, WALL) {
                Err(_) => false,
                Ok(store) => {
                    let mut hub = open(folder.path(), &store, Trust::Anybody);
                    world.run(&mut hub, &mut sources, |_, sources| {
                        disk.calls() >= death || !sources[0].acknowledged.is_empty()
                    });
                    hub.tick(world.now, world.wall());
                    disk.calls() < death
                }
            };
            let acknowledged = !sources[0].acknowledged.is_empty();
            let store = store(folder.path());
            if acknowledged {
                assert!(read(&store, Root::of(&bytes)).unwrap() == bytes, "it was acknowledged");
            }
            let mut hub: TakeIn = open(folder.path(), &store, Trust::Anybody);
            world.settle(&mut hub, &mut sources);
            assert!(read(&store, Root::of(&bytes)).unwrap() == bytes, "dead at call {death}");
            assert_eq!(parts(folder.path()), 0, "dead at call {death}");
            kept += u64::from(hub.counters().segments < bytes.len() as u64 / SEGMENT as u64 / 2);
            if lived {
                break;
            }
            deaths += 1;
            death += 1;
        }
        println!("{deaths} deaths, {kept} of them with more than half kept");
        assert!(deaths > 40 && kept > 4, "{deaths}, {kept}");
    }
}

#[test]
fn what_the_disk_refuses_at_the_end_is_tried_again_and_not_received_again() {
    let bytes = content(4, SIZE);
    for info in infos(&bytes) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Mortal::default();
        let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 0 };
        let store = Store::open_on(Arc::new(disk.clone()), folder.path(), limits, WALL).unwrap();
        let mut hub = open(folder.path(), &store, Trust::Anybody);
        let mut world = World { lose: 5, ..World::new(1) };
        let mut sources = [Source::new(1, world.now)];
        sources[0].offer(world.now, &bytes, &info);
        disk.refuse_renames(true);
        world.run(&mut hub, &mut sources, |world, _| !world.refused().is_empty());
        let until = world.now + std::time::Duration::from_secs(5);
        world.run(&mut hub, &mut sources, |world, _| world.now >= until);
        assert!(sources[0].acknowledged.is_empty(), "it isn't there");
        assert_eq!((world.refused().len(), hub.counters().refused_disk), (1, 1), "it is told once");
        disk.refuse_renames(false);
        world.settle(&mut hub, &mut sources);
        let counters = hub.counters();
        assert_eq!(counters.segments + counters.decoded_segments, SEGMENTS, "{counters:?}");
        assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
    }
}

//! A file of somebody else's becomes a content: no copy is made, and a crash loses neither the file nor the content.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millrace_hub_store::{Error, Named};

use super::disk::Ruled;
use super::*;

fn named() -> Named {
    Named { name: label("adopted"), group: label(""), version: None }
}

/// A file beside a store's own folders, whose bytes came already.
fn file(store: &Path, bytes: &[u8]) -> PathBuf {
    let folder = store.join("arriving");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("7.part");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn the_file_itself_becomes_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for size in [0, 1, G, 3 * G + 7] {
        let bytes = content(size as u64, size);
        let path = file(folder.path(), &bytes);
        let number = std::fs::metadata(&path).unwrap().ino();
        let mut incoming = store.adopt(path.clone(), size as u64, NOW).unwrap();
        // In steps of which none is a group.
        (0..=size as u64).step_by(40_000).for_each(|end| incoming.hash(end).unwrap());
        incoming.hash(size as u64).unwrap();
        let manifest = incoming.finish(named(), None, NOW).unwrap();
        let root = manifest.description().root;
        assert_eq!(root, Root::of(&bytes));
        assert!(read(&store, root).unwrap() == bytes);
        assert_eq!(std::fs::metadata(blob(folder.path(), root, "")).unwrap().ino(), number);
        assert!(!path.exists());
    }
    assert_eq!(store.named(&label(""), &label("adopted")).unwrap().description().version, 4);
}

#[test]
fn a_file_of_a_content_that_is_here_is_removed_and_one_that_is_dropped_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 2 * G);
    put(&store, "image", &bytes, NOW);
    let used = store.budget().0;
    let path = file(folder.path(), &bytes);
    let incoming = store.adopt(path.clone(), bytes.len() as u64, NOW).unwrap();
    assert!(store.budget().0 > used + 2 * GROUP, "room is promised");
    drop(incoming);
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(store.budget().0, used);

    let mut incoming = store.adopt(path.clone(), bytes.len() as u64, NOW).unwrap();
    incoming.hash(bytes.len() as u64).unwrap();
    incoming.finish(named(), None, NOW).unwrap();
    assert_eq!((path.exists(), store.budget().0), (false, used));
    assert!(read(&store, Root::of(&bytes)).unwrap() == bytes);
}

#[test]
fn a_file_that_has_no_room_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), limits(GROUP), NOW).unwrap();
    let path = file(folder.path(), b"short");
    let refused = store.adopt(path.clone(), 2 * GROUP, NOW);
    assert!(matches!(refused, Err(Error::NoRoom { .. })));
    assert_eq!(std::fs::read(path).unwrap(), b"short");
}

/// The disk does nothing any more from some call on, as after a kill; that is tried for each call.
#[test]
fn a_crash_at_any_step_leaves_the_file_or_the_content() {
    let bytes = content(2, 2 * G + 100);
    let root = Root::of(&bytes);
    let (mut kept, mut deaths) = ([0, 0], 0);
    for death in 1.. {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let path = file(folder.path(), &bytes);
        let disk = Ruled::new(|_, _| Ok(()));
        let store = Store::open_on(Arc::new(disk.clone()), folder.path(), limits(1 << 30), NOW).unwrap();
        let calls = AtomicU64::new(0);
        disk.set(move |_, _| match calls.fetch_add(1, Relaxed) + 1 < death {
            true => Ok(()),
            false => Err(io::Error::other("dead")),
        });
        let adopt = |store: &Arc<Store>| {
            let mut incoming = store.adopt(path.clone(), bytes.len() as u64, NOW)?;
            incoming.hash(bytes.len() as u64)?;
            incoming.finish(named(), None, NOW)
        };
        let lived = adopt(&store).is_ok() && !store.is_behind();
        drop(store);

        let store = open(folder.path());
        match read(&store, root) {
            Ok(read) => {
                assert!(read == bytes, "dead at call {death}");
                kept[1] += 1;
            }
            Err(_) => {
                assert!(std::fs::read(&path).unwrap() == bytes, "dead at call {death}");
                adopt(&store).unwrap();
                assert!(read(&store, root).unwrap() == bytes, "dead at call {death}");
                kept[0] += 1;
            }
        }
        assert_eq!(
            store.named(&label(""), &label("adopted")).map(|named| named.description().root),
            Some(root)
        );
        deaths += u64::from(!lived);
        if lived {
            break;
        }
    }
    println!("{deaths} deaths: {} left the file, {} the content", kept[0], kept[1]);
    assert!(deaths > 15 && kept[0] > 5 && kept[1] > 2);
}

//! A budget that is full: what goes, what stays, who is refused.

use millrace_hub_store::{Begun, Error, NodeId};

use super::*;

/// A store with room for three contents of two groups.
fn small(folder: &Path) -> Arc<Store> {
    Store::open(folder, limits(3 * (2 * GROUP + 64)), NOW).unwrap()
}

fn two_groups(seed: u64) -> Vec<u8> {
    content(seed, 2 * G)
}

#[test]
fn the_least_recently_used_goes_and_use_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(folder.path());
    let roots: Vec<_> = (0..3).map(|at| put(&store, &format!("{at}"), &two_groups(at), later(at))).collect();
    // The first is read later than the others came.
    store.reader(roots[0], later(5_000)).unwrap();
    store.checkpoint(later(5_000)).unwrap();
    drop(store);
    let store = small(folder.path());
    let new = put(&store, "new", &two_groups(9), later(6_000));
    let mut left = vec![roots[0], roots[2], new];
    left.sort();
    assert_eq!(store.contents(), left);
    assert!(!blob(folder.path(), roots[1], "").exists() && !blob(folder.path(), roots[1], ".tree").exists());
    assert_eq!(store.counts().contents_evicted, 1);
    drop(store);
    assert_eq!(small(folder.path()).contents(), left);
}

#[test]
fn what_is_owed_or_kept_for_late_nodes_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(folder.path());
    let roots: Vec<_> = (0..3).map(|at| put(&store, &format!("{at}"), &two_groups(at), later(at))).collect();
    store.distribute(roots[0], 1, [NodeId(1)], NOW, NOW).unwrap();
    store.distribute(roots[1], 1, [], later(60_000), NOW).unwrap();
    store.distribute(roots[2], 1, [NodeId(1)], NOW, NOW).unwrap();
    drop(store);
    let store = small(folder.path());
    let manifest = manifest("new", 1, &two_groups(9));
    let refused = store.begin(&manifest, later(100));
    let pinned = 3 * (2 * GROUP + 64);
    assert!(matches!(refused, Err(Error::NoRoom { pinned: found, .. }) if found == pinned), "{refused:?}");
    assert_eq!((store.contents().len(), store.counts().admissions_refused), (3, 1));
    assert!(matches!(store.remove(roots[0], NOW), Err(Error::Conflict)));
    // The window for late nodes ends; then a node acks.
    assert_eq!(store.begin(&manifest, later(60_000)).unwrap(), Begun::New);
    assert!(!store.contents().contains(&roots[1]));
    assert_eq!(store.distribution(roots[1], 1), None);
    store.acked(roots[0], 1, NodeId(1), NOW);
    store.remove(roots[0], NOW).unwrap();
    assert!(matches!(read(&store, roots[0]), Err(Error::Unknown(_))));
}

#[test]
fn a_content_larger_than_the_budget_is_refused_and_nothing_is_removed_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(folder.path());
    put(&store, "one", &two_groups(1), NOW);
    let mut what = manifest("huge", 1, b"").description().clone();
    what.size = 1 << 40;
    let refused = store.begin(&Manifest::sign(what, None), NOW);
    assert!(matches!(refused, Err(Error::NoRoom { .. })));
    assert_eq!(store.contents().len(), 1);
    let mut incoming = store.put(None, NOW).unwrap();
    let refused = (0..10).try_for_each(|_| incoming.write(&two_groups(2), NOW));
    assert!(matches!(refused, Err(Error::NoRoom { .. })));
    drop(incoming);
    // What was promised to it is free again.
    assert_eq!(store.budget().0, 2 * GROUP + 64);
    assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn an_arriving_content_is_removed_when_nothing_came_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let store = small(folder.path());
    let begin = |name: &str, seed, now| store.begin(&manifest(name, 1, &two_groups(seed)), now);
    for seed in 0..3 {
        begin(&format!("{seed}"), seed, NOW).unwrap();
    }
    store.write(Root::of(&two_groups(1)), 0, b"", later(59_000)).unwrap();
    store.write(Root::of(&two_groups(1)), 0, &two_groups(1)[..10], later(59_000)).unwrap();
    assert!(matches!(begin("new", 9, later(59_999)), Err(Error::NoRoom { .. })));
    begin("new", 9, later(60_000)).unwrap();
    begin("newer", 10, later(60_001)).unwrap();
    // Both that were silent are gone, in their stead the new ones; the busy one stays.
    assert!(store.contents().contains(&Root::of(&two_groups(1))));
    assert!(matches!(begin("newest", 11, later(60_002)), Err(Error::NoRoom { .. })));
}

#[test]
fn what_has_not_come_is_not_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 3 * G);
    let described = manifest("a", 1, &bytes);
    let root = described.description().root;
    store.begin(&described, NOW).unwrap();
    store.write(root, 100, &bytes[100..2 * G], NOW).unwrap();
    let read = |offset: usize, len: usize| {
        let mut out = vec![0; len];
        store.read_back(root, offset as u64, &mut out).map(|()| out)
    };
    for (offset, len) in [(100, 10), (G - 5, 10), (G, G), (2 * G - 1, 1), (5, 0)] {
        assert!(read(offset, len).unwrap() == bytes[offset..][..len], "{offset} {len}");
    }
    for (offset, len) in [(99, 10), (2 * G - 1, 2), (2 * G, 1), (0, 3 * G)] {
        assert!(matches!(read(offset, len), Err(Error::Incomplete(_))), "{offset} {len}");
    }
}

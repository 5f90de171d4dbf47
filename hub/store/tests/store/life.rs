//! A content's life without faults: pieces in any order, restarts in between, completion, reading.

use millrace_hub_store::{BATCH_BYTES, BATCH_MS, Begun, Error, Tree};

use super::*;

#[test]
fn pieces_in_any_order_become_a_content_that_is_read_by_range() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 5 * G + 1234);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    assert_eq!(store.begin(&manifest, NOW).unwrap(), Begun::New);
    assert_eq!(store.begin(&manifest, NOW).unwrap(), Begun::Arriving);
    assert!(matches!(store.reader(root, NOW), Err(Error::Incomplete(_))));
    // Segments of 1400 bytes, every third one first, each twice.
    let segments: Vec<_> = bytes.chunks(1400).enumerate().collect();
    for first in [2, 0, 1] {
        for (at, segment) in segments.iter().skip(first).step_by(3) {
            store.write(root, *at as u64 * 1400, segment, NOW).unwrap();
            store.write(root, *at as u64 * 1400, segment, NOW).unwrap();
        }
        let done = store.progress(root, NOW).unwrap();
        assert_eq!(done.held + store.missing(root).unwrap().total(), done.size);
        assert!(!done.complete);
    }
    store.complete(root, NOW).unwrap();
    assert_eq!(store.begin(&manifest, NOW).unwrap(), Begun::Complete);
    let mut reader = store.reader(root, NOW).unwrap();
    for (start, length) in
        [(0, 0), (0, 1), (G - 1, 2), (3, 2 * G + 7), (bytes.len() - 1, 1), (0, bytes.len())]
    {
        let mut part = vec![0; length];
        reader.read(start as u64, &mut part, NOW).unwrap();
        assert_eq!(part, bytes[start..start + length]);
    }
    let beyond = reader.read(bytes.len() as u64 - 1, &mut [0; 2], NOW);
    assert!(matches!(beyond, Err(Error::OutOfRange { .. })));
    assert!(matches!(store.write(root, u64::MAX, b"xx", NOW), Err(Error::OutOfRange { .. })));
    // The blob is the content and nothing else.
    assert_eq!(std::fs::read(blob(folder.path(), root, "")).unwrap(), bytes);
    assert!(!blob(folder.path(), root, ".part").exists());
    let counts = store.counts();
    assert_eq!((counts.bytes_arrived, counts.bytes_duplicate), (bytes.len() as u64, bytes.len() as u64));
    assert_eq!((counts.groups_whole, counts.contents_complete), (6, 1));
}

#[test]
fn empty_and_tiny_contents_are_contents() {
    let folder = tempfile::tempdir().unwrap();
    for size in [0, 1, G, G + 1] {
        let store = open(folder.path());
        let bytes = content(7, size);
        let root = put(&store, &format!("of {size}"), &bytes, NOW);
        assert_eq!(read(&store, root).unwrap(), bytes);
    }
    let store = open(folder.path());
    assert_eq!((store.contents().len(), store.names().len()), (4, 4));
    for size in [0, 1, G, G + 1] {
        let bytes = content(7, size);
        assert_eq!(read(&store, Root::of(&bytes)).unwrap(), bytes);
    }
}

#[test]
fn what_was_checkpointed_is_there_after_a_restart_and_the_rest_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(2, 10 * G);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    let store = open(folder.path());
    store.begin(&manifest, NOW).unwrap();
    // Three whole groups and a piece of another; then one that no checkpoint has.
    store.write(root, 0, &bytes[..3 * G + 100], NOW).unwrap();
    store.checkpoint(NOW).unwrap();
    store.write(root, 5 * GROUP, &bytes[5 * G..6 * G], NOW).unwrap();
    drop(store);
    let store = open(folder.path());
    let missing = store.missing(root).unwrap();
    assert_eq!(missing.as_slice(), std::slice::from_ref(&(3 * GROUP + 100..10 * GROUP)));
    store.write(root, 3 * GROUP + 100, &bytes[3 * G + 100..], NOW).unwrap();
    store.complete(root, NOW).unwrap();
    assert_eq!(read(&store, root).unwrap(), bytes);
}

#[test]
fn with_the_list_of_hashes_a_restart_keeps_what_got_to_the_disk_after_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(3, 6 * G + 5);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    let store = open(folder.path());
    store.begin(&manifest, NOW).unwrap();
    store.learn(root, &Tree::of(&bytes).to_bytes(), NOW).unwrap();
    assert!(matches!(store.learn(root, &[0; 7 * 32], NOW), Err(Error::WrongTree(_))));
    store.write(root, 0, &bytes[..2 * G + 9], NOW).unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.missing(root).unwrap().as_slice(), std::slice::from_ref(&(2 * GROUP..6 * GROUP + 5)));
    // The list is still known: a forged group is refused at once.
    let forged = store.write(root, 2 * GROUP, &vec![0; G], NOW).unwrap();
    assert_eq!((forged.refused, forged.whole), (1, 0));
    store.write(root, 2 * GROUP, &bytes[2 * G..], NOW).unwrap();
    drop(store);
    // All was there: opening completes it.
    assert_eq!(read(&open(folder.path()), root).unwrap(), bytes);
}

#[test]
fn a_checkpoint_is_due_by_time_or_by_bytes_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(4, 2 * BATCH_BYTES as usize);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    let store = open(folder.path());
    store.begin(&manifest, NOW).unwrap();
    let commits = || store.counts().commits;
    let begun = commits();
    store.tick(later(1_000)).unwrap();
    assert_eq!(commits(), begun, "nothing to write");
    store.write(root, 0, &bytes[..1000], NOW).unwrap();
    store.tick(later(BATCH_MS - 1)).unwrap();
    assert_eq!(commits(), begun);
    store.tick(later(BATCH_MS)).unwrap();
    assert_eq!(commits(), begun + 1);
    store.write(root, 1000, &bytes[1000..BATCH_BYTES as usize], NOW).unwrap();
    store.tick(NOW).unwrap();
    assert_eq!(commits(), begun + 1);
    store.write(root, BATCH_BYTES, &bytes[BATCH_BYTES as usize..], NOW).unwrap();
    store.tick(NOW).unwrap();
    assert_eq!(commits(), begun + 2);
    // A clock that was set back doesn't put it off.
    let acked = content(5, 1);
    let other = put(&store, "other", &acked, NOW);
    store.distribute(other, 1, [millrace_hub_store::NodeId(1)], NOW, NOW).unwrap();
    let before = commits();
    store.acked(other, 1, millrace_hub_store::NodeId(1), NOW);
    store.tick(Millis(NOW.0 - 5)).unwrap();
    assert_eq!(commits(), before + 1);
}

#[test]
fn a_name_only_gets_newer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (old, new) = (content(5, 100), content(6, 100));
    store.begin(&manifest("image", 5, &old), NOW).unwrap();
    store.begin(&manifest("image", 6, &new), NOW).unwrap();
    drop(store);
    let store = open(folder.path());
    let known = store.named(&label(""), &label("image")).unwrap();
    assert_eq!(known.description(), manifest("image", 6, &new).description());
    let offered = store.begin(&manifest("image", 5, &old), NOW);
    assert!(matches!(offered, Err(Error::Superseded { offered: 5, known: 6 })));
    assert!(matches!(store.begin(&manifest("image", 6, &old), NOW), Err(Error::Conflict)));
    // The same root with another length.
    let mut what = manifest("other", 1, &old).description().clone();
    what.size += 1;
    assert!(matches!(store.begin(&Manifest::sign(what, None), NOW), Err(Error::Conflict)));
    assert_eq!(store.counts().manifests_refused, 3);
}

#[test]
fn wrong_bytes_are_never_given_out_and_can_be_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(8, 3 * G);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    store.begin(&manifest, NOW).unwrap();
    let mut wrong = bytes.clone();
    wrong[G + 1] ^= 0x80;
    assert!(store.write(root, 0, &wrong, NOW).unwrap().all);
    assert!(matches!(store.complete(root, NOW), Err(Error::WrongRoot(_))));
    assert!(matches!(store.reader(root, NOW), Err(Error::Incomplete(_))));
    // Without the list of hashes all of it is to come again, and that is remembered.
    store.restart(root, NOW).unwrap();
    store.checkpoint(NOW).unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.missing(root).unwrap().total(), bytes.len() as u64);
    store.write(root, 0, &bytes, NOW).unwrap();
    store.complete(root, NOW).unwrap();
    assert_eq!(read(&store, root).unwrap(), bytes);
}

#[test]
fn one_process_has_the_store_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let again = Store::open(folder.path(), limits(1), NOW);
    assert!(matches!(again, Err(Error::Ledger(millrace_hub_store::LedgerError::Open))));
    drop(store);
    open(folder.path());
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("incoming/report.pdf");
    std::fs::create_dir(folder.path().join("incoming")).unwrap();
    std::fs::write(&file, "x").unwrap();
    assert!(!Store::is_in(folder.path()));
    let opened = Store::open(folder.path(), limits(1 << 30), NOW);
    assert!(matches!(opened, Err(Error::NotAStore(_))), "{opened:?}");
    assert!(file.exists() && !folder.path().join("blobs").exists());
}

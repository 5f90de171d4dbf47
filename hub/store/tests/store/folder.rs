//! A folder that contents are put into.

use millrace_hub_store::{Folder, TakeError};

use super::*;

fn names(store: &Store) -> Vec<(String, String, u64)> {
    let all = store.names();
    let all = all.iter().map(|manifest| manifest.description());
    all.map(|what| (what.group.to_string(), what.name.to_string(), what.version)).collect()
}

#[test]
fn what_is_put_there_and_stays_the_same_is_taken_in_once() {
    let (inbox, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| inbox.path().join(name);
    let mut store = open(folder.path());
    let mut scanner = Folder::new(inbox.path());
    let mut scan = |store: &Arc<Store>| scanner.scan(store, None, NOW).unwrap();
    let (one, two) = (content(1, 2 * G + 5), content(2, 10));
    std::fs::write(path("one.bin"), &one).unwrap();
    std::fs::create_dir(path("cameras")).unwrap();
    std::fs::write(path("cameras/two.bin"), &two).unwrap();
    std::fs::create_dir_all(path("cameras/deeper")).unwrap();
    std::fs::write(path("cameras/deeper/three.bin"), b"not looked for").unwrap();
    std::fs::write(path(".hidden"), b"hidden").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("link")).unwrap();
    assert!(scan(&store).is_empty(), "seen for the first time");
    let taken = scan(&store);
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|one| one.result.is_ok()));
    let both = [(String::new(), "one.bin".into(), 1), ("cameras".into(), "two.bin".into(), 1)];
    assert_eq!(names(&store), both);
    assert_eq!(read(&store, Root::of(&one)).unwrap(), one);
    assert!(scan(&store).is_empty());
    // After a restart, by another scanner, nothing is read again.
    store.checkpoint(NOW).unwrap();
    drop(store);
    store = open(folder.path());
    let mut scanner = Folder::new(inbox.path());
    let mut scan = |store: &Arc<Store>| scanner.scan(store, None, NOW).unwrap();
    assert!(scan(&store).is_empty() && scan(&store).is_empty());
    assert_eq!(store.counts().bytes_arrived, 0);
    // One is changed while another scan goes by: it is waited for, and becomes a new version.
    std::fs::write(path("one.bin"), b"half").unwrap();
    assert!(scan(&store).is_empty());
    std::fs::write(path("one.bin"), b"all of it").unwrap();
    assert!(scan(&store).is_empty());
    assert_eq!(scan(&store).len(), 1);
    let newest = store.named(&label(""), &label("one.bin")).unwrap();
    assert_eq!((newest.description().version, newest.description().root), (2, Root::of(b"all of it")));
}

#[test]
fn what_cannot_be_taken_in_is_said_and_tried_again() {
    let (inbox, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path(), limits(100_000), NOW).unwrap();
    std::fs::write(inbox.path().join("a\nb"), b"x").unwrap();
    std::fs::write(inbox.path().join("large"), content(1, 200_000)).unwrap();
    let mut scanner = Folder::new(inbox.path());
    scanner.scan(&store, None, NOW).unwrap();
    for _ in 0..2 {
        let taken = scanner.scan(&store, None, NOW).unwrap();
        assert!(matches!(taken[0].result, Err(TakeError::Name)));
        assert!(matches!(taken[1].result, Err(TakeError::Store(millrace_hub_store::Error::NoRoom { .. }))));
    }
    assert_eq!((store.contents(), store.budget().0), (vec![], 0));
    assert!(Folder::new(Path::new("/nowhere")).scan(&store, None, NOW).is_err());
}

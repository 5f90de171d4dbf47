//! Disks that are full, fail, or forget.

use std::io;

use millrace_hub_store::{Error, NodeId, Tree};

use super::disk::{Call, Ruled};
use super::*;

/// A small file system of its own, gone with the value.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(folder.path())
            .status();
        assert!(status.unwrap().success(), "mounting a tmpfs takes root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a failed test may still have the store open.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_newcomers_and_what_is_here_is_served() {
    let mount = Mount::tmpfs("12M");
    let store = open(mount.path());
    let first = content(1, 3 << 20);
    let root = put(&store, "first", &first, NOW);
    let refused = store.begin(&manifest("second", 1, &content(2, 16 << 20)), NOW);
    assert!(matches!(refused, Err(Error::DiskFull)), "{refused:?}");
    assert_eq!(store.counts().disk_full, 1);
    assert_eq!(store.contents(), [root]);
    assert!(store.named(&label(""), &label("second")).is_none());
    // Somebody else fills the disk to its last byte: the ledger can't be written, and the store goes on.
    let hog = std::fs::File::create(mount.path().join("hog")).unwrap();
    let room = |length| rustix::fs::fallocate(&hog, rustix::fs::FallocateFlags::empty(), 0, length);
    let mut length = 0;
    for step in [1 << 20, 4096] {
        while room(length + step).is_ok() {
            length += step;
        }
    }
    let refused = store.begin(&manifest("third", 1, &content(3, 1 << 20)), NOW);
    assert!(matches!(refused, Err(Error::DiskFull)), "{refused:?}");
    let mut put_in = store.put(None, NOW).unwrap();
    assert!(matches!(put_in.write(&[0; 4096], NOW), Err(Error::DiskFull)));
    drop(put_in);
    let nodes = || (0..20_000).map(NodeId);
    assert!(matches!(store.distribute(root, 1, nodes(), NOW, NOW), Err(Error::Ledger(_))));
    assert!(store.is_behind() && store.counts().commit_errors > 0);
    assert_eq!(read(&store, root).unwrap(), first);
    // Room again: the next checkpoint writes what was kept.
    std::fs::remove_file(mount.path().join("hog")).unwrap();
    drop(hog);
    store.checkpoint(NOW).unwrap();
    assert!(!store.is_behind());
    drop(store);
    let store = open(mount.path());
    assert_eq!(store.unfinished(), [(root, 1, nodes().collect())]);
    assert_eq!(read(&store, root).unwrap(), first);
}

#[test]
fn the_reserve_keeps_room_for_the_ledger() {
    let mount = Mount::tmpfs("16M");
    let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 8 << 20 };
    let store = Store::open(mount.path(), limits, NOW).unwrap();
    let begin = |name: &str, size: usize| store.begin(&manifest(name, 1, &content(1, size)), NOW);
    assert!(matches!(begin("large", 9 << 20), Err(Error::DiskFull)));
    begin("small", 1 << 20).unwrap();
}

#[test]
fn a_flipped_bit_is_found_fetched_again_and_never_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 4 * G + 77);
    let root = put(&store, "image", &bytes, NOW);
    let path = blob(folder.path(), root, "");
    for (round, at) in [2 * G + 3, 4 * G + 76, 0].into_iter().enumerate() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        std::fs::write(&path, flipped).unwrap();
        // Ranges elsewhere are still right; the one with the bit isn't given out.
        let mut reader = store.reader(root, NOW).unwrap();
        let mut group = vec![0; G];
        reader.read(GROUP, &mut group, NOW).unwrap();
        assert_eq!(group, bytes[G..2 * G]);
        assert!(matches!(reader.read(at as u64, &mut [0], NOW), Err(Error::Incomplete(_))));
        assert_eq!(store.counts().groups_damaged, round as u64 + 1);
        let start = (at / G * G) as u64;
        let span = start..(start + GROUP).min(bytes.len() as u64);
        assert_eq!(store.missing(root).unwrap().as_slice(), std::slice::from_ref(&span));
        assert!(matches!(read(&store, root), Err(Error::Incomplete(_))));
        // What comes for it is verified at once.
        let wrong = vec![0; (span.end - span.start) as usize];
        assert_eq!(store.write(root, span.start, &wrong, NOW).unwrap().refused, 1);
        store.write(root, span.start, &bytes[span.start as usize..span.end as usize], NOW).unwrap();
        store.complete(root, NOW).unwrap();
        assert_eq!(read(&store, root).unwrap(), bytes);
    }
}

#[test]
fn damage_is_remembered_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 3 * G);
    let root = put(&store, "image", &bytes, NOW);
    let mut flipped = bytes.clone();
    flipped[G] ^= 1;
    std::fs::write(blob(folder.path(), root, ""), flipped).unwrap();
    assert!(read(&store, root).is_err());
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.missing(root).unwrap().as_slice(), std::slice::from_ref(&(GROUP..2 * GROUP)));
    store.write(root, GROUP, &bytes[G..2 * G], NOW).unwrap();
    store.complete(root, NOW).unwrap();
    assert_eq!(read(&store, root).unwrap(), bytes);
}

#[test]
fn a_damaged_list_of_hashes_is_made_again_and_with_the_bytes_damaged_too_nothing_is_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(1, 3 * G);
    let root = put(&open(folder.path()), "image", &bytes, NOW);
    let list = blob(folder.path(), root, ".tree");
    for damage in [vec![1; 96], vec![], vec![0; 5]] {
        std::fs::write(&list, damage).unwrap();
        assert_eq!(read(&open(folder.path()), root).unwrap(), bytes);
        assert_eq!(std::fs::read(&list).unwrap(), Tree::of(&bytes).to_bytes());
    }
    std::fs::write(&list, [1; 96]).unwrap();
    let mut flipped = bytes.clone();
    flipped[7] ^= 1;
    std::fs::write(blob(folder.path(), root, ""), flipped).unwrap();
    let store = open(folder.path());
    assert!(matches!(read(&store, root), Err(Error::Incomplete(_))));
    assert_eq!(store.missing(root).unwrap().total(), bytes.len() as u64);
    assert_eq!(store.counts().contents_lost, 1);
    store.write(root, 0, &bytes, NOW).unwrap();
    store.complete(root, NOW).unwrap();
    assert_eq!(read(&store, root).unwrap(), bytes);
}

#[test]
fn a_damaged_ledger_costs_what_was_arriving_and_who_was_owed_and_no_content() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 3 * G);
    let root = put(&store, "image", &bytes, NOW);
    store.begin(&manifest("arriving", 1, &content(2, G)), NOW).unwrap();
    drop(store);
    let ledger = folder.path().join("ledger.redb");
    for damage in [Some(vec![0x5a; 50_000]), Some(vec![]), Some(b"text".to_vec()), None] {
        match &damage {
            Some(damage) => std::fs::write(&ledger, damage).unwrap(),
            None => std::fs::remove_file(&ledger).unwrap(),
        }
        let store = open(folder.path());
        assert_eq!(store.contents(), [root], "{damage:?}");
        assert_eq!(read(&store, root).unwrap(), bytes);
        assert_eq!(store.counts().ledgers_lost, u64::from(damage.is_some()));
    }
}

#[test]
fn files_that_are_gone_are_contents_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(1, 3 * G);
    let root = put(&store, "image", &bytes, NOW);
    let cut = put(&store, "cut", &content(2, 3 * G), NOW);
    drop(store);
    std::fs::remove_file(blob(folder.path(), root, "")).unwrap();
    std::fs::write(blob(folder.path(), cut, ""), b"short").unwrap();
    let store = open(folder.path());
    assert_eq!((store.contents(), store.counts().contents_lost), (vec![], 2));
    assert_eq!(put(&store, "image", &bytes, NOW), root);
    assert_eq!(read(&store, root).unwrap(), bytes);
}

/// An error of the disk, as the kernel reports it.
fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// A rule that fails the calls of one kind on files with one ending.
fn fails(call: Call, ending: &'static str) -> impl FnMut(Call, &str) -> io::Result<()> + Send {
    move |asked, on| if asked == call && on == ending { Err(eio()) } else { Ok(()) }
}

#[test]
fn a_sector_that_cannot_be_read_is_missing_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Ruled::new(|_, _| Ok(()));
    let store = Store::open_on(Arc::new(disk.clone()), folder.path(), limits(1 << 30), NOW).unwrap();
    let bytes = content(1, 3 * G);
    let root = put(&store, "image", &bytes, NOW);
    let mut reader = store.reader(root, NOW).unwrap();
    disk.set(fails(Call::Read, ""));
    assert!(matches!(reader.read(GROUP, &mut [0], NOW), Err(Error::Incomplete(_))));
    assert_eq!((store.counts().read_errors, store.counts().groups_damaged), (1, 1));
    disk.set(|_, _| Ok(()));
    assert_eq!(store.missing(root).unwrap().as_slice(), std::slice::from_ref(&(GROUP..2 * GROUP)));
    store.write(root, GROUP, &bytes[G..2 * G], NOW).unwrap();
    store.complete(root, NOW).unwrap();
    assert_eq!(read(&store, root).unwrap(), bytes);
}

#[test]
fn bytes_that_a_sync_failed_for_are_missing_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Ruled::new(|_, _| Ok(()));
    let store = Store::open_on(Arc::new(disk.clone()), folder.path(), limits(1 << 30), NOW).unwrap();
    let bytes = content(1, 3 * G);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    store.begin(&manifest, NOW).unwrap();
    store.write(root, 0, &bytes[..G], NOW).unwrap();
    store.checkpoint(NOW).unwrap();
    store.write(root, GROUP, &bytes[G..], NOW).unwrap();
    disk.set(fails(Call::Sync, "part"));
    assert!(matches!(store.checkpoint(NOW), Err(Error::Disk(_))));
    assert_eq!(store.counts().write_errors, 1);
    assert_eq!(store.missing(root).unwrap().as_slice(), std::slice::from_ref(&(GROUP..3 * GROUP)));
    // The same at the end.
    store.write(root, GROUP, &bytes[G..], NOW).unwrap();
    assert!(matches!(store.complete(root, NOW), Err(Error::Disk(_))));
    assert_eq!(store.missing(root).unwrap().as_slice(), std::slice::from_ref(&(GROUP..3 * GROUP)));
    disk.set(|_, _| Ok(()));
    store.write(root, GROUP, &bytes[G..], NOW).unwrap();
    store.complete(root, NOW).unwrap();
    assert_eq!(read(&store, root).unwrap(), bytes);
}

#[test]
fn pieces_whose_sync_failed_leave_no_rows_behind() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Ruled::new(|_, _| Ok(()));
    let store = Store::open_on(Arc::new(disk.clone()), folder.path(), limits(1 << 30), NOW).unwrap();
    let bytes = content(1, G);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    store.begin(&manifest, NOW).unwrap();
    store.write(root, 0, &bytes[..100], NOW).unwrap();
    store.checkpoint(NOW).unwrap();
    store.write(root, 100, &bytes[100..], NOW).unwrap();
    disk.set(fails(Call::Sync, "part"));
    store.checkpoint(NOW).unwrap_err();
    disk.set(|_, _| Ok(()));
    store.write(root, 0, &bytes, NOW).unwrap();
    store.complete(root, NOW).unwrap();
    // A row that stayed would be believed when the same content comes again.
    store.remove(root, NOW).unwrap();
    store.begin(&manifest, NOW).unwrap();
    drop(store);
    assert_eq!(open(folder.path()).missing(root).unwrap().total(), GROUP);
}

/// Everything that is done in a content's life, each call failing once: an error or nothing, no wrong byte, and it gets
/// there in the end.
#[test]
fn each_call_to_the_disk_may_fail_once() {
    let bytes = content(1, 2 * G + 9);
    let manifest = manifest("image", 1, &bytes);
    let root = manifest.description().root;
    let total = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut fail_at = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let count = Arc::clone(&total);
        count.store(0, std::sync::atomic::Ordering::Relaxed);
        let disk = Arc::new(Ruled::new(move |_, _| {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if at == fail_at { Err(eio()) } else { Ok(()) }
        }));
        let open = || Store::open_on(disk.clone(), folder.path(), limits(1 << 30), NOW);
        // A failed opening is tried again; so is everything else.
        let store = open().or_else(|_| open()).unwrap();
        for _ in 0..2 {
            let _ = store.begin(&manifest, NOW);
            for hole in store.missing(root).unwrap_or_default().as_slice() {
                let _ = store.write(root, hole.start, &bytes[hole.start as usize..hole.end as usize], NOW);
            }
            let _ = store.checkpoint(NOW);
            let _ = store.complete(root, NOW);
            if let Ok(read) = read(&store, root) {
                assert_eq!(read, bytes, "call {fail_at}");
            }
            let _ = store.distribute(root, 1, [NodeId(1)], NOW, NOW);
        }
        if store.progress(root, NOW).is_none_or(|progress| !progress.complete) {
            put(&store, "image", &bytes, NOW);
        }
        store.checkpoint(NOW).unwrap();
        drop(store);
        disk.set(|_, _| Ok(()));
        let store = open().unwrap();
        assert_eq!(read(&store, root).unwrap(), bytes, "call {fail_at}");
        assert_eq!(store.unfinished(), [(root, 1, vec![NodeId(1)])], "call {fail_at}");
        if fail_at >= total.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        fail_at += 1;
    }
    assert!(fail_at > 40, "{fail_at} calls");
}

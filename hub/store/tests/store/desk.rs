//! What operators ask, over the store of an open folder.

use std::collections::BTreeMap;
use std::sync::Mutex;

use millrace_hub_store::desk::{
    Ask, ContentRow, Desk, NodeProgress, NodeState, Place, Put, Refusal, RuleStatus, S3, Sessions,
    SiteStatus, Status, Verified, What,
};
use millrace_hub_store::{HttpOptions, NodeId};
use serde::de::DeserializeOwned;

use super::*;
use crate::bucket::{ACCESS, serve};

fn ask<T: DeserializeOwned>(desk: &Desk, line: serde_json::Value) -> Result<T, Refusal> {
    let ask: Ask = serde_json::from_value(line).unwrap();
    Ok(serde_json::from_value(desk.answer(ask)?).unwrap())
}

fn put_place(desk: &Desk, place: Place) -> Result<Vec<Put>, Refusal> {
    let what = What { place, name: None, group: String::new(), version: None };
    ask(desk, serde_json::to_value(Ask::Put(Box::new(what))).unwrap())
}

fn names(put: &[Put]) -> Vec<(String, String)> {
    put.iter().filter_map(|one| one.taken.as_ref()).map(|row| (row.group.clone(), row.name.clone())).collect()
}

#[test]
fn a_file_is_put_listed_and_its_next_version_follows() {
    let (files, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = files.path().join("image.bin");
    std::fs::write(&path, content(1, 3 * G)).unwrap();
    let desk = Desk::new(open(folder.path()), None);
    let line = |group: &str| serde_json::json!({ "put": { "place": { "file": path }, "group": group } });
    let put: Vec<Put> = ask(&desk, line("camera")).unwrap();
    let first = put[0].taken.clone().unwrap();
    assert_eq!((&first.name[..], &first.group[..], first.version), ("image.bin", "camera", 1));
    assert!(first.complete && first.held == 3 * GROUP && first.root == Root::of(&content(1, 3 * G)));
    std::fs::write(&path, content(2, 7)).unwrap();
    let put: Vec<Put> = ask(&desk, line("camera")).unwrap();
    assert_eq!(put[0].taken.as_ref().unwrap().version, 2);
    let list: Vec<ContentRow> = ask(&desk, serde_json::json!("list")).unwrap();
    assert_eq!(list.iter().map(|row| (row.version, row.size)).collect::<Vec<_>>(), [(2, 7)]);
    assert!(matches!(ask::<Vec<Put>>(&desk, line("../x")), Err(Refusal::Name(_))));
    std::fs::remove_file(&path).unwrap();
    let put: Vec<Put> = ask(&desk, line("camera")).unwrap();
    assert!(put[0].taken.is_none() && put[0].refused.as_ref().unwrap().contains("can't be read"));
}

#[test]
fn a_folder_is_put_with_its_groups() {
    let (files, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(files.path().join("camera")).unwrap();
    for name in ["a.bin", "camera/b.bin", ".hidden"] {
        std::fs::write(files.path().join(name), name).unwrap();
    }
    let desk = Desk::new(open(folder.path()), None);
    let put = put_place(&desk, Place::Folder(files.path().to_owned())).unwrap();
    let expected = [("", "a.bin"), ("camera", "b.bin")];
    assert_eq!(names(&put), expected.map(|(group, name)| (group.to_owned(), name.to_owned())));
    let several = serde_json::json!({ "put": { "place": { "folder": files.path() }, "name": "x" } });
    assert!(matches!(ask::<Vec<Put>>(&desk, several), Err(Refusal::Several)));
}

/// From another hub's HTTP, and from a bucket. Both are asked on a thread, as operators are.
#[tokio::test(flavor = "multi_thread")]
async fn contents_come_from_servers_and_buckets() {
    let (up, here, objects) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(up.path());
    let bytes = content(3, 4 * G + 5);
    put(&store, "image.bin", &bytes, NOW);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/content/image.bin", listener.local_addr().unwrap());
    tokio::spawn(millrace_hub_store::serve(listener, store, HttpOptions::default(), std::future::pending()));
    std::fs::create_dir_all(objects.path().join("images/site/camera")).unwrap();
    std::fs::write(objects.path().join("images/site/camera/o.bin"), b"object").unwrap();
    let endpoint = serve(objects.path()).await;

    let folder = here.path().to_owned();
    let asking = tokio::task::spawn_blocking(move || {
        let desk = Desk::new(open(&folder), None);
        let from_server = put_place(&desk, Place::Url(format!("{url}?x=1"))).unwrap();
        let row = from_server[0].taken.clone().unwrap();
        assert_eq!((&row.name[..], row.root), ("image.bin", Root::of(&bytes)));
        let gone = put_place(&desk, Place::Url(format!("{url}.old"))).unwrap();
        assert!(gone[0].refused.as_ref().unwrap().contains("404"), "{gone:?}");
        let access = Some((ACCESS[0].to_owned(), ACCESS[1].to_owned()));
        let s3 = S3 {
            endpoint,
            bucket: "images".into(),
            prefix: "site".into(),
            region: "eu-west-1".into(),
            access,
        };
        assert!(!format!("{s3:?}").contains(ACCESS[1]));
        let from_bucket = put_place(&desk, Place::Bucket(s3)).unwrap();
        assert_eq!(names(&from_bucket), [("camera".to_owned(), "o.bin".to_owned())]);
    });
    asking.await.unwrap();
}

#[test]
fn verify_finds_the_bytes_that_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(4, 3 * G);
    let root = put(&store, "image.bin", &bytes, NOW);
    let desk = Desk::new(store, None);
    let verify =
        |name: Option<&str>| ask::<Vec<Verified>>(&desk, serde_json::json!({ "verify": { "name": name } }));
    let sound = Verified { root, names: vec!["image.bin".into()], size: 3 * GROUP, damaged: vec![] };
    assert_eq!(verify(None).unwrap(), std::slice::from_ref(&sound));
    let mut flipped = bytes.clone();
    flipped[G + 1] ^= 4;
    std::fs::write(blob(folder.path(), root, ""), flipped).unwrap();
    let damaged: Vec<_> = std::iter::once(GROUP..2 * GROUP).collect();
    assert_eq!(verify(Some("image.bin")).unwrap(), [Verified { damaged, ..sound }]);
    assert!(matches!(verify(Some("other.bin")), Err(Refusal::Unknown(_))));
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Sessions for Heard {
    fn arrived(&self, manifest: &Manifest) {
        self.0.lock().unwrap().push(manifest.description().name.to_string());
    }

    fn progress(&self, _: Root, _: u64) -> BTreeMap<NodeId, NodeProgress> {
        let row = NodeProgress {
            site: "house".into(),
            sent_bytes: 5,
            repair_bytes: 1,
            owed_bytes: 2,
            apart: false,
            bytes_per_second: Some(2.5),
            seconds_left: None,
        };
        BTreeMap::from([(NodeId(2), row)])
    }

    fn rules(&self) -> Vec<RuleStatus> {
        Vec::new()
    }

    fn sites(&self) -> Vec<SiteStatus> {
        vec![SiteStatus { site: "house".to_owned(), nacks: 3, ..SiteStatus::default() }]
    }
}

#[test]
fn status_tells_of_nodes_what_the_ledger_and_the_sessions_know() {
    let (files, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = files.path().join("image.bin");
    std::fs::write(&path, b"bytes").unwrap();
    let (store, heard) = (open(folder.path()), Arc::new(Heard::default()));
    let desk = Desk::new(Arc::clone(&store), None).with_sessions(Arc::clone(&heard) as Arc<dyn Sessions>);
    let put = put_place(&desk, Place::File(path)).unwrap();
    assert_eq!(*heard.0.lock().unwrap(), ["image.bin"]);
    let row = put[0].taken.clone().unwrap();
    let now = Millis::now();
    store.distribute(row.root, 1, [1, 2, 3].map(NodeId), now, now).unwrap();
    store.acked(row.root, 1, NodeId(1), now);
    let lacks: Vec<_> = std::iter::once(1..4).collect();
    store.failed(row.root, 1, NodeId(3), lacks.clone(), now);
    let status: Status = ask(&desk, serde_json::json!("status")).unwrap();
    assert!(status.used_bytes >= 5 && !status.behind && status.counters["contents_complete"] == 1);
    let nodes = &status.contents[0].nodes;
    let states: Vec<_> = nodes.iter().map(|row| (row.node, row.state, row.session.is_some())).collect();
    assert_eq!(
        states,
        [(1, NodeState::Acked, false), (2, NodeState::Owed, true), (3, NodeState::Failed, false)]
    );
    let session = nodes[1].session.as_ref().unwrap();
    assert_eq!((session.bytes_per_second, session.seconds_left), (Some(2.5), None));
    assert_eq!((nodes[2].lacks.clone(), status.contents[0].content.pinned), (lacks, true));
}

#[test]
fn what_is_no_file_is_not_put() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new(open(folder.path()), None);
    let put = put_place(&desk, Place::File("/dev/zero".into())).unwrap();
    assert!(put[0].taken.is_none() && put[0].refused.as_ref().unwrap().contains("isn't a file"), "{put:?}");
}

#[test]
fn what_was_removed_to_make_room_is_told_so_and_is_not_damaged() {
    let (files, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path(), limits(2 * GROUP + 64), NOW).unwrap();
    let desk = Desk::new(store, None);
    for name in ["first", "second"] {
        std::fs::write(files.path().join(name), content(name.len() as u64, 2 * G)).unwrap();
        put_place(&desk, Place::File(files.path().join(name))).unwrap();
    }
    let list: Vec<ContentRow> = ask(&desk, serde_json::json!("list")).unwrap();
    let mut rows: Vec<_> = list.iter().map(|row| (&row.name[..], row.complete, row.removed)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [("first", false, true), ("second", true, false)]);
    let verified: Vec<Verified> = ask(&desk, serde_json::json!({ "verify": {} })).unwrap();
    assert!(verified.len() == 1 && verified[0].damaged.is_empty(), "{verified:?}");
}

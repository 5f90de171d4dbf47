//! Who is owed what, over restarts.

use std::collections::BTreeMap;

use millrace_hub_store::{Error, NodeId, Outcome};

use super::*;

#[test]
fn an_unfinished_distribution_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let root = put(&store, "image", &content(1, 100_000), NOW);
    let nodes = || [1, 2, 3, 4].map(NodeId);
    store.distribute(root, 7, nodes(), NOW, NOW).unwrap();
    assert!(store.acked(root, 7, NodeId(1), NOW));
    assert!(store.failed(root, 7, NodeId(2), vec![10..20, 30..40], NOW));
    store.checkpoint(NOW).unwrap();
    // This one is lost with the crash: node 3 is asked again.
    store.acked(root, 7, NodeId(3), NOW);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.unfinished(), [(root, 7, vec![NodeId(3), NodeId(4)])]);
    let outcomes = [
        (NodeId(1), Outcome::Acked),
        (NodeId(2), Outcome::Failed(vec![10..20, 30..40])),
        (NodeId(3), Outcome::Owed),
        (NodeId(4), Outcome::Owed),
    ];
    assert_eq!(store.distribution(root, 7).unwrap().nodes, BTreeMap::from(outcomes));
    // Begun again with a late node: who has it isn't asked, who failed is.
    store.distribute(root, 7, nodes().into_iter().chain([NodeId(9)]), NOW, NOW).unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.unfinished(), [(root, 7, [2, 3, 4, 9].map(NodeId).to_vec())]);
    store.end_distribution(root, 7, NOW);
    store.checkpoint(NOW).unwrap();
    drop(store);
    assert_eq!(open(folder.path()).distribution(root, 7), None);
}

#[test]
fn feedback_that_nobody_waits_for_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let root = put(&store, "image", b"bytes", NOW);
    store.distribute(root, 1, [NodeId(1), NodeId(2)], NOW, NOW).unwrap();
    let before = store.distribution(root, 1);
    assert!(!store.acked(root, 1, NodeId(3), NOW), "not a node of it");
    assert!(!store.acked(root, 2, NodeId(1), NOW), "not this version");
    assert!(!store.failed(Root::of(b"other"), 1, NodeId(1), vec![], NOW), "not this content");
    assert_eq!(store.distribution(root, 1), before);
    assert!(store.acked(root, 1, NodeId(1), NOW));
    assert!(!store.acked(root, 1, NodeId(1), NOW), "twice");
    assert!(!store.failed(root, 1, NodeId(1), vec![], NOW), "who has it doesn't fail");
    // Who was given up may still turn up with all of it.
    assert!(store.failed(root, 1, NodeId(2), vec![], NOW));
    assert!(store.acked(root, 1, NodeId(2), NOW));
    assert!(store.unfinished().is_empty());
}

#[test]
fn nothing_is_distributed_before_all_of_it_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let manifest = manifest("image", 1, b"bytes");
    let root = manifest.description().root;
    let begin = || store.distribute(root, 1, [NodeId(1)], NOW, NOW);
    assert!(matches!(begin(), Err(Error::Unknown(_))));
    store.begin(&manifest, NOW).unwrap();
    assert!(matches!(begin(), Err(Error::Incomplete(_))));
    assert!(store.unfinished().is_empty());
}

//! Losses are repaired, where they are and nowhere else.

use millrace_hub::norm::NodeId;
use millrace_hub_node::News;
use millrace_hub_store::Trust;

use crate::lan::Lan;
use crate::{assert_same, content};

#[test]
fn who_misses_nothing_is_sent_nothing_twice() {
    let lan = Lan::new(3);
    lan.lose(3, 50);
    let bytes = content(1, 8_000_000);
    let file = lan.file("image.bin", &bytes);
    let nodes = [2, 3, 4].map(|node| lan.receive(node, Trust::Anybody, Some(1)));
    let sent = lan.sending(&[&file], 100_000_000).run(|_| false);
    let summaries = nodes.map(|node| node.end().0);

    assert!(sent.outcomes.len() == 3 && sent.outcomes.iter().all(|outcome| outcome.complete), "{sent:?}");
    for node in [2, 3, 4] {
        assert_same(&lan.at(node, "image.bin"), &bytes);
    }
    let repairs = |node| sent.legs.iter().find(|leg| leg.node == NodeId(node)).unwrap().sent.repair_packets;
    assert!(repairs(3) > 100, "5 % of 5715 segments were lost: {}", repairs(3));
    // A clean node may miss packets too, on a machine that has no time for it: then it is sent those, and no others.
    for (node, summary) in [(2, summaries[0]), (4, summaries[2])] {
        let missed = 5715 - summary.heard.source;
        assert!(repairs(node) <= 2 * missed, "{missed} missed, {} repairs", repairs(node));
        assert_eq!((summary.received, summary.refused, summary.heard.foreign), (1, 0, 0));
    }
}

#[test]
fn several_files_come_by_their_names_from_all_nodes_that_lose_much() {
    let lan = Lan::new(2);
    (2..=3).for_each(|node| lan.lose(node, 150));
    let contents: Vec<_> = (0..5).map(|at| content(at, 1 + at as usize * 150_000)).collect();
    let files: Vec<_> =
        contents.iter().enumerate().map(|(at, bytes)| lan.file(&format!("{at}.bin"), bytes)).collect();
    let nodes = [2, 3].map(|node| lan.receive(node, Trust::Anybody, Some(5)));
    let paths: Vec<_> = files.iter().map(|path| path.as_path()).collect();
    let sent = lan.sending(&paths, 50_000_000).run(|_| false);
    assert!(sent.outcomes.len() == 10 && sent.outcomes.iter().all(|outcome| outcome.complete), "{sent:?}");
    for (node, listening) in (2..).zip(nodes) {
        let (summary, news) = listening.end();
        assert_eq!((summary.received, summary.refused), (5, 0));
        let verified = |news: &News| matches!(news, News::Received(what) if what.verified);
        assert_eq!(news.iter().filter(|news| verified(news)).count(), 5);
        contents
            .iter()
            .enumerate()
            .for_each(|(at, bytes)| assert_same(&lan.at(node, &format!("{at}.bin")), bytes));
    }
}

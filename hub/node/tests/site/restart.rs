//! What came before a restart isn't sent again, whoever it was that restarted.

use millrace_hub::session::Event;
use millrace_hub_node::{News, Told};
use millrace_hub_store::Trust;

use crate::lan::Lan;
use crate::{assert_same, content};

const SIZE: usize = 6_000_000;
const SEGMENTS: u64 = 4286;

/// Whether a second's report says that half of it is there.
fn half(news: &News) -> bool {
    matches!(news, News::Progress { held, size, .. } if *held > size / 2)
}

#[test]
fn a_node_that_was_away_is_sent_what_it_missed() {
    let lan = Lan::new(1);
    let bytes = content(1, SIZE);
    let file = lan.file("image.bin", &bytes);
    let first = lan.receive(2, Trust::Anybody, None);
    // 6 s, so that there are some checkpoints.
    let sending = lan.sending(&[&file], 8_000_000);
    let sender = std::thread::spawn(move || sending.run(|_| false));
    first.wait(half);
    let (before, _) = first.stop();
    assert!(before.heard.source > SEGMENTS / 2 && before.heard.source < SEGMENTS, "{before:?}");

    let second = lan.receive(2, Trust::Anybody, Some(1));
    let sent = sender.join().unwrap();
    let (after, _) = second.end();
    assert!(sent.outcomes.iter().all(|outcome| outcome.complete));
    assert_same(&lan.at(2, "image.bin"), &bytes);
    let twice = before.heard.source + after.heard.source + after.heard.decoded - SEGMENTS;
    assert_eq!(twice, 0, "what was kept is asked for again: {before:?} {after:?}");
}

#[test]
fn a_sender_that_begins_anew_finds_nodes_where_they_were() {
    let lan = Lan::new(1);
    let bytes = content(2, SIZE);
    let file = lan.file("image.bin", &bytes);
    let node = lan.receive(2, Trust::Anybody, Some(1));
    let mut seconds = 0;
    lan.sending(&[&file], 8_000_000).run(move |told| {
        seconds += u32::from(matches!(told, Told::Progress(_)));
        seconds == 3
    });
    let sent = lan.sending(&[&file], 100_000_000).run(|_| false);
    let (summary, news) = node.end();
    assert!(sent.outcomes.iter().all(|outcome| outcome.complete));
    assert!(news.iter().any(|news| matches!(news, News::Restarted)));
    assert_same(&lan.at(2, "image.bin"), &bytes);
    let twice = summary.heard.source + summary.heard.decoded - SEGMENTS;
    // All but what came in the second after the last checkpoint.
    assert!(twice < SEGMENTS / 4, "{twice} of {SEGMENTS} segments were taken twice");
    assert!(summary.heard.duplicate > SEGMENTS / 4, "{summary:?}");
}

#[test]
fn what_a_node_has_is_acknowledged_at_once() {
    let lan = Lan::new(1);
    let bytes = content(3, SIZE);
    let file = lan.file("image.bin", &bytes);
    let node = lan.receive(2, Trust::Anybody, Some(1));
    lan.sending(&[&file], 100_000_000).run(|_| false);
    assert_eq!(node.end().0.received, 1);

    let node = lan.receive(2, Trust::Anybody, Some(1));
    let sent =
        lan.sending(&[&file], 100_000_000).run(|told| matches!(told, Told::Event(Event::Failed { .. })));
    let (summary, _) = node.end();
    assert!(sent.outcomes[0].complete);
    assert_eq!((summary.received, summary.heard.decoded), (1, 0));
    assert!(summary.heard.source < SEGMENTS / 10, "it was there: {summary:?}");
    assert_same(&lan.at(2, "image.bin"), &bytes);
}

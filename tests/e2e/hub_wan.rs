//! Content over a WAN by BIER once, into a hub, and from there to the nodes of a site, through what can go wrong on the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_hw_tests::content::{Content, NODES};
use millrace_hw_tests::edge::{Driver, Fates};
use millrace_hw_tests::lab::{Look, wait_until};

use crate::world::BINARY;

/// A transfer of some seconds, on a busy machine.
const DONE: Duration = Duration::from_secs(120);
const RATE: u64 = 40_000_000;

fn start() -> Content {
    Content::new(Path::new(BINARY), Driver::AfXdp, RATE).unwrap()
}

fn file(content: &Content, size: usize) -> (PathBuf, String) {
    let text: String = (0..size.div_ceil(8)).map(|line| format!("{line:07}\n")).collect();
    (content.lab().write("image.bin", &text[..size]).unwrap(), text[..size].to_owned())
}

fn same(content: &Content, text: &str) {
    for node in 0..NODES {
        let there = std::fs::read_to_string(content.folder(node).join("image.bin")).unwrap();
        assert!(there == text, "node {node} has something else");
    }
}

fn conclude(content: Content) {
    for fates in content.conclude().unwrap() {
        assert_eq!(Fates::unexplained(&fates), 0, "{fates:?}");
    }
}

#[test]
fn one_copy_crosses_the_wan_and_repairs_go_to_the_leg_that_lost() {
    let mut content = start();
    content.lose(1, 50).unwrap();
    content.receive().unwrap();
    let size = 4_000_000;
    let (path, text) = file(&content, size);
    let before = content.links().unwrap();
    let source = content.send(&path, RATE).unwrap();
    assert!(source.wait(DONE).unwrap().success(), "the hub has it: {}", source.stdout());
    let status = content.wait_until_done(DONE).unwrap();
    same(&content, &text);
    let links = content.links().unwrap();
    let carried = |at: usize| links[at].down - before[at].down;
    let size = size as u64;
    assert!(carried(0) < size * 115 / 100, "one copy and its headers over the WAN: {}", carried(0));
    let legs = &status["sites"][0]["legs"];
    let repairs = ["2", "3", "4"].map(|node| legs[node]["repair_packets"].as_u64().unwrap());
    // 5 % of 2874 segments are 144.
    assert!(repairs[1] > 70 && repairs[0] == 0 && repairs[2] == 0, "{repairs:?}");
    assert!(
        carried(2) < size * 107 / 100 && carried(4) < size * 107 / 100,
        "clean legs carry one copy: {links:?}"
    );
    assert!(carried(3) > carried(2) + 70 * 1400);
    conclude(content);
}

#[test]
fn a_hub_that_was_killed_a_node_that_was_and_a_link_that_was_cut_cost_no_byte() {
    let mut content = start();
    content.lose(1, 20).unwrap();
    content.receive().unwrap();
    let (path, text) = file(&content, 12_000_000);
    content.hub().ask(&format!("hub put {}", path.display())).unwrap();
    let sent = |at_least: u64| {
        let (content, at_least) = (&content, at_least);
        wait_until("some of it to be sent", DONE, || {
            let status = content.status().map_err(|error| error.to_string());
            let node = status.as_ref().ok().map(|status| &status["contents"][0]["nodes"][0]);
            match node.and_then(|node| node["sent_bytes"].as_u64()) {
                Some(sent) if sent >= at_least => Look::Done(sent),
                _ => Look::NotYet(format!("{status:?}")),
            }
        })
        .unwrap()
    };
    sent(2_000_000);
    content.restart_receiver(2).unwrap();
    let before = {
        let content = &content;
        let status = content.status().unwrap();
        status["contents"][0]["nodes"][0]["sent_bytes"].as_u64().unwrap()
    };
    assert!(before < 10_000_000, "the hub is killed in the middle: {before}");
    content.restart_hub().unwrap();
    content.set_trunk(false).unwrap();
    content.set_trunk(true).unwrap();
    let status = content.wait_until_done(DONE).unwrap();
    same(&content, &text);
    let first = status["sites"][0]["legs"]["2"]["first_bytes"].as_u64().unwrap();
    assert!(first < 12_000_000 - before / 2, "first copies went on where they were: {first} after {before}");
    conclude(content);
}

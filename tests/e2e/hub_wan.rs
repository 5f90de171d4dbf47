//! Content over a WAN by BIER once, into a hub, and from there to the nodes of a site, through what can go wrong on the way.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use flute::core::{Oti, UDPEndpoint};
use flute::sender::{Config, ObjectDesc, Sender, TransferConfig};
use millrace_hw_tests::content::{Content, NODES, Profile, TSI};
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

/// Waits until the site was sent so many bytes of the only content.
fn wait_until_sent(content: &Content, at_least: u64) {
    wait_until("some of it to be sent", DONE, || {
        let status = content.status().map_err(|error| error.to_string());
        let node = status.as_ref().ok().map(|status| &status["contents"][0]["nodes"][0]);
        match node.and_then(|node| node["sent_bytes"].as_u64()) {
            Some(sent) if sent >= at_least => Look::Done(()),
            _ => Look::NotYet(format!("{status:?}")),
        }
    })
    .unwrap();
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
    wait_until_sent(&content, 2_000_000);
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

#[test]
fn a_link_to_the_site_that_is_cut_for_ten_seconds_costs_no_byte_and_no_restart() {
    let mut content = start();
    content.lose(1, 20).unwrap();
    content.receive().unwrap();
    let size = 12_000_000;
    let (path, text) = file(&content, size);
    content.hub().ask(&format!("hub put {}", path.display())).unwrap();
    wait_until_sent(&content, 3_000_000);
    content.set_trunk(false).unwrap();
    // It is the fault itself that takes so long.
    thread::sleep(Duration::from_secs(10));
    let node = content.status().unwrap()["contents"][0]["nodes"][0].clone();
    assert!(node["state"] != "acked", "it was cut in the middle: {node}");
    content.set_trunk(true).unwrap();
    content.wait_until_done(DONE).unwrap();
    same(&content, &text);
    conclude(content);
}

/// What somebody else's sender makes of a file: coded, with room for BIER's header.
fn packets(name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let endpoint = UDPEndpoint::new(None, "239.2.2.2".into(), 6003);
    let location = url::Url::parse(&format!("file:///{name}")).unwrap();
    let config = TransferConfig::default();
    let object = ObjectDesc::create_from_buffer(bytes.to_vec(), "text/plain", &location, true, config);
    let oti = Oti::new_raptorq(1360, 60, 12, 1, 4).unwrap();
    let mut sender = Sender::new(endpoint, TSI, &oti, &Config::default());
    sender.add_object(0, object.unwrap()).unwrap();
    sender.publish(SystemTime::now()).unwrap();
    std::iter::from_fn(|| sender.read(SystemTime::now())).collect()
}

#[test]
fn a_file_by_flute_crosses_the_wan_in_bier_and_reaches_nodes_that_cannot_answer() {
    let mut content = Content::of(Profile::Flute, Path::new(BINARY), Driver::AfXdp, RATE).unwrap();
    content.lose(1, 50).unwrap();
    content.receive().unwrap();
    let size = 3_000_000;
    let (_, text) = file(&content, size);
    let before = content.links().unwrap();
    content.send_datagrams(&packets("image.bin", text.as_bytes()), RATE).unwrap();
    content.wait_until_received(DONE).unwrap_or_else(|error| panic!("{error}: {:?}", content.status()));
    same(&content, &text);
    let status = content.status().unwrap();
    let rule = &status["rules"][0];
    assert_eq!((&rule["counters"]["taken"], &rule["senders"]), (&1.into(), &1.into()), "{rule}");
    // Two passes with a fifth more each, to all at once.
    let (size, links) = (size as u64, content.links().unwrap());
    let trunk = links[1].down - before[1].down;
    assert!(trunk < size * 2 * 12 / 10 * 12 / 10, "{trunk}");
    assert_eq!(status["contents"][0]["nodes"], serde_json::json!([]), "who can't answer is owed nothing");
    conclude(content);
}

//! Files by FLUTE: lost packets are made good by a code or by sending again, and a receiver that was away goes on.

use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, spawn};

use base64::Engine as _;
use md5::{Digest as _, Md5};
use millrace_hub::flute::{self, File, Oti, SymbolId, Table, packet, repair_symbols};
use millrace_hub_node::{Interface, OneWay, OneWayNews, OneWayRefusal, OneWaySummary, Stop, receive_one_way};

use crate::lan::{GROUP, Lan, enter};
use crate::{assert_same, content};

const TSI: u64 = 7;
const TOI: u64 = 1;

/// The packets of a file's table, which comes first.
fn described(name: &str, bytes: &[u8], md5: &[u8]) -> Vec<Vec<u8>> {
    let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(md5));
    let (location, length) = (format!("file:///images/{name}?x"), Some(bytes.len() as u64));
    let file = File { toi: TOI, location, length, md5: Some(md5), ..File::default() };
    let table = Table { expires: u32::MAX, complete: false, files: vec![file] };
    flute::table(TSI, 1, &table, 1400).unwrap()
}

/// The packets of a file's symbols, with so many repair symbols for each block.
fn symbols(oti: &Oti, bytes: &[u8], repair: u32) -> Vec<Vec<u8>> {
    let send = |id: SymbolId, symbol: &[u8]| packet(TSI, TOI, oti, id, symbol, false);
    let part = |offset: u64, len: usize| &bytes[offset as usize..][..len];
    let mut all: Vec<_> = oti.source_symbols().map(|(id, offset, len)| send(id, part(offset, len))).collect();
    for block in (0..oti.blocks()).filter(|_| repair > 0) {
        let (offset, len) = oti.block_range(block).unwrap();
        let coded = repair_symbols(oti, block, part(offset, len), 0, repair);
        all.extend(coded.iter().map(|(id, symbol)| send(*id, symbol)));
    }
    all
}

/// Sends packets to the group from the hub's namespace.
fn send(lan: &Lan, packets: &[Vec<u8>]) {
    let (namespace, packets) = (lan.namespace(1), packets.to_vec());
    let sending = spawn(move || {
        enter(&namespace);
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        for packet in packets {
            socket.send_to(&packet, GROUP).unwrap();
        }
    });
    sending.join().unwrap();
}

struct Listening {
    stop: Stop,
    news: Receiver<OneWayNews>,
    thread: JoinHandle<OneWaySummary>,
}

impl Listening {
    /// Node 2 begins to receive; back once it listens.
    fn start(lan: &Lan, count: Option<u64>) -> Self {
        let (stop, (tell, news)) = (Stop::new().unwrap(), channel());
        let (namespace, folder, switch) = (lan.namespace(2), lan.at(2, ""), stop.clone());
        let thread = spawn(move || {
            enter(&namespace);
            let settings = OneWay {
                group: GROUP,
                interface: Interface::named("eth0").unwrap(),
                source: "10.9.0.1".parse().unwrap(),
                tsi: TSI,
                folder,
                count,
            };
            receive_one_way(settings, &switch, |what| drop(tell.send(what))).unwrap()
        });
        let listening = Self { stop, news, thread };
        listening.wait(|news| matches!(news, OneWayNews::Listening));
        listening
    }

    fn wait(&self, wanted: impl Fn(&OneWayNews) -> bool) -> OneWayNews {
        loop {
            let news = self.news.recv_timeout(crate::lan::DEADLINE).expect("such news comes");
            if wanted(&news) {
                return news;
            }
        }
    }

    fn stop(self) -> OneWaySummary {
        self.stop.stop();
        self.thread.join().unwrap()
    }
}

#[test]
fn a_code_makes_losses_good() {
    let lan = Lan::new(1);
    lan.lose(2, 50);
    let bytes = content(1, 1_000_001);
    let node = Listening::start(&lan, Some(1));
    let oti = Oti::with_raptorq(bytes.len() as u64, 1400, 4).unwrap();
    // The table isn't coded, so it comes more than once.
    let tables = vec![described("image.bin", &bytes, &bytes); 8].concat();
    send(&lan, &[tables, symbols(&oti, &bytes, 40)].concat());
    let summary = node.thread.join().unwrap();
    assert_same(&lan.at(2, "image.bin"), &bytes);
    assert_eq!((summary.received, summary.refused), (1, 0));
    assert!(summary.counters.decoded > 10, "{summary:?}");
}

#[test]
fn without_a_code_it_is_whole_when_it_was_sent_often_enough() {
    let lan = Lan::new(1);
    lan.lose(2, 50);
    let bytes = content(2, 500_000);
    let node = Listening::start(&lan, Some(1));
    let oti = Oti::no_code(bytes.len() as u64, 1400, 64).unwrap();
    let once = [described("image.bin", &bytes, &bytes), symbols(&oti, &bytes, 0)].concat();
    while !node.thread.is_finished() {
        send(&lan, &once);
    }
    let summary = node.thread.join().unwrap();
    assert_same(&lan.at(2, "image.bin"), &bytes);
    assert_eq!((summary.counters.source, summary.counters.decoded), (358, 0));
}

#[test]
fn a_receiver_that_was_away_needs_what_it_lacks_alone() {
    let lan = Lan::new(1);
    let bytes = content(3, 1_400_000);
    let oti = Oti::no_code(bytes.len() as u64, 1400, 64).unwrap();
    let (table, all) = (described("image.bin", &bytes, &bytes), symbols(&oti, &bytes, 0));
    let first = Listening::start(&lan, None);
    send(&lan, &[&table, &all[..600]].concat());
    first.wait(|news| matches!(news, OneWayNews::Progress { held, .. } if *held == 600 * 1400));
    assert_eq!(first.stop().counters.source, 600);

    let second = Listening::start(&lan, Some(1));
    // Before it is known what comes, nothing is written over what was kept.
    send(&lan, &[&all[..1], &table, &all[600..]].concat());
    let summary = second.thread.join().unwrap();
    assert_same(&lan.at(2, "image.bin"), &bytes);
    assert_eq!(summary.counters.source, 400);
}

#[test]
fn what_was_kept_of_another_file_is_not_taken_for_this_one() {
    another_file_follows(140_000);
}

#[test]
fn what_was_kept_of_a_longer_file_does_not_stand_behind_this_one() {
    another_file_follows(70_000);
}

/// A part of a file is kept from an earlier run, and its number is another file's now, of so many bytes.
fn another_file_follows(len: usize) {
    let lan = Lan::new(1);
    let (old, new) = (content(4, 140_000), content(5, len));
    let oti = Oti::no_code(140_000, 1400, 64).unwrap();
    let first = Listening::start(&lan, None);
    send(&lan, &[&described("image.bin", &old, &old), &symbols(&oti, &old, 0)[..60]].concat());
    first.wait(|news| matches!(news, OneWayNews::Progress { held, .. } if *held == 60 * 1400));
    first.stop();
    let second = Listening::start(&lan, Some(1));
    let oti = Oti::no_code(len as u64, 1400, 64).unwrap();
    send(&lan, &[described("image.bin", &new, &new), symbols(&oti, &new, 0)].concat());
    assert_eq!(second.thread.join().unwrap().counters.source, len as u64 / 1400);
    assert_same(&lan.at(2, "image.bin"), &new);
}

#[test]
fn what_is_not_what_was_named_gets_no_name_and_comes_anew() {
    let lan = Lan::new(1);
    let bytes = content(6, 14_000);
    let mut flipped = bytes.clone();
    flipped[7] ^= 1;
    let oti = Oti::no_code(14_000, 1400, 64).unwrap();
    let node = Listening::start(&lan, Some(1));
    send(&lan, &[described("image.bin", &bytes, &bytes), symbols(&oti, &flipped, 0)].concat());
    let refused = node.wait(|news| matches!(news, OneWayNews::Refused { .. }));
    assert!(matches!(refused, OneWayNews::Refused { why: OneWayRefusal::Wrong, .. }));
    assert!(!lan.at(2, "image.bin").exists());
    send(&lan, &symbols(&oti, &bytes, 0));
    let summary = node.thread.join().unwrap();
    assert_same(&lan.at(2, "image.bin"), &bytes);
    assert_eq!((summary.received, summary.refused), (1, 1));
}

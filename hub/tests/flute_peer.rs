//! The receiver of the crate `flute` completes what we send, without a code and with RaptorQ; ours completes what its
//! sender sends.

use std::rc::Rc;
use std::time::SystemTime;

use flute::core::UDPEndpoint;
use flute::receiver::writer::ObjectWriterBufferBuilder;
use millrace_hub::flute::{
    File, Limits, Oti, Receiver, Report, SymbolId, Table, packet, repair_symbols, table,
};
use millrace_hub::session::{Storage, Unstored};

const TSI: u64 = 7;
const TOI: u64 = 1;

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * at / 11) as u8).collect()
}

/// What is to be sent, with which repair symbols for each block.
fn packets(oti: &Oti, content: &[u8], repair: u32) -> Vec<Vec<u8>> {
    let part = |offset: u64, len: usize| &content[offset as usize..][..len];
    let send = |id: SymbolId, symbol: &[u8]| packet(TSI, TOI, oti, id, symbol, false);
    let mut all: Vec<_> = oti.source_symbols().map(|(id, offset, len)| send(id, part(offset, len))).collect();
    for block in (0..oti.blocks()).filter(|_| repair > 0) {
        let (offset, len) = oti.block_range(block).unwrap();
        all.extend(
            repair_symbols(oti, block, part(offset, len), 0, repair)
                .iter()
                .map(|(id, symbol)| send(*id, symbol)),
        );
    }
    all
}

/// Gives the peer the table and these packets, and returns the objects it completed.
fn receive(size: usize, all: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let writer = Rc::new(ObjectWriterBufferBuilder::new(true));
    let mut peer = flute::receiver::MultiReceiver::new(writer.clone(), None, false);
    let endpoint = UDPEndpoint::new(None, "239.1.1.1".into(), 3400);
    let file =
        File { toi: TOI, location: "file:///a.bin".into(), length: Some(size as u64), ..File::default() };
    let sent = Table { expires: u32::MAX, complete: false, files: vec![file] };
    let now = SystemTime::now();
    for packet in table(TSI, 1, &sent, 1400).unwrap().into_iter().chain(all) {
        peer.push(&endpoint, &packet, now).unwrap();
    }
    let complete = |object: &Rc<std::cell::RefCell<flute::receiver::writer::ObjectWriterBuffer>>| {
        let object = object.borrow();
        object.complete.then(|| object.data.clone())
    };
    writer.objects.borrow().iter().filter_map(complete).collect()
}

#[test]
fn the_peer_completes_what_is_sent_without_a_code() {
    let content = bytes(1_000_003);
    let oti = Oti::no_code(content.len() as u64, 1400, 64).unwrap();
    assert_eq!(receive(content.len(), packets(&oti, &content, 0)), [content]);
}

#[test]
fn the_peer_is_repaired_by_the_same_packets_again() {
    let content = bytes(300_001);
    let oti = Oti::no_code(content.len() as u64, 1400, 64).unwrap();
    let all = packets(&oti, &content, 0);
    let lost = |at: &usize| at % 20 == 3;
    let some =
        |again: bool| all.iter().enumerate().filter(move |(at, _)| lost(at) == again).map(|(_, p)| p.clone());
    assert!(receive(content.len(), some(false)).is_empty(), "some are lost");
    // Close flags were never set, so it still waits for them.
    assert_eq!(receive(content.len(), some(false).chain(some(true))), [content]);
}

#[test]
fn the_peer_completes_what_is_sent_with_raptorq() {
    let content = bytes(500_001);
    let oti = Oti::with_raptorq(content.len() as u64, 1400, 3).unwrap();
    let all = packets(&oti, &content, 20).into_iter().enumerate();
    // One in ten is lost.
    let some: Vec<_> = all.filter(|(at, _)| at % 10 != 3).map(|(_, packet)| packet).collect();
    assert_eq!(receive(content.len(), some), [content]);
}

struct Memory(Vec<u8>);

impl Storage<u64> for Memory {
    fn write(&mut self, _: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, _: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        out.copy_from_slice(&self.0[offset as usize..][..out.len()]);
        Ok(())
    }
}

/// What the peer's sender makes of an object, its tables among it, and what ours makes of that.
fn take_in(content: &[u8], oti: &flute::core::Oti, lost: impl Fn(usize) -> bool) -> (Vec<Report>, Vec<u8>) {
    use flute::sender::{Config, ObjectDesc, Sender, TransferConfig};
    let endpoint = UDPEndpoint::new(None, "239.1.1.1".into(), 3400);
    let location = url::Url::parse("file:///a.bin").unwrap();
    let object = ObjectDesc::create_from_buffer(
        content.to_vec(),
        "text/plain",
        &location,
        true,
        TransferConfig::default(),
    );
    let mut sender = Sender::new(endpoint, TSI, oti, &Config::default());
    sender.add_object(0, object.unwrap()).unwrap();
    sender.publish(SystemTime::now()).unwrap();
    let (mut receiver, mut memory) = (Receiver::new(TSI, Limits::default()), Memory(vec![0; content.len()]));
    for at in 0.. {
        let Some(packet) = sender.read(SystemTime::now()) else { break };
        if !lost(at) {
            receiver.handle(&packet, &mut memory);
        }
    }
    assert_eq!((receiver.counters().malformed, receiver.counters().contradictory), (0, 0));
    (std::iter::from_fn(|| receiver.poll_event()).collect(), memory.0)
}

fn check(reports: &[Report], content: &[u8]) {
    let named = |report: &Report| match report {
        Report::Table(table) => table.files.iter().find(|file| file.location == "file:///a.bin").cloned(),
        _ => None,
    };
    let file = reports.iter().find_map(named).expect("a table names it");
    assert_eq!((file.length, file.content_type.as_deref()), (Some(content.len() as u64), Some("text/plain")));
    assert!(reports.contains(&Report::Complete(file.toi)), "{reports:?}");
}

#[test]
fn what_the_peer_sends_is_taken_in() {
    let content = bytes(200_001);
    let no_code = flute::core::Oti::new_no_code(1400, 64);
    let (reports, stored) = take_in(&content, &no_code, |_| false);
    check(&reports, &content);
    assert!(stored == content);
}

#[test]
fn what_the_peer_sends_with_raptorq_is_decoded() {
    let content = bytes(200_001);
    let raptorq = flute::core::Oti::new_raptorq(1400, 60, 20, 1, 4).unwrap();
    // Not of the first packets, which are the table.
    let (reports, stored) = take_in(&content, &raptorq, |at| at > 5 && at % 10 == 3);
    check(&reports, &content);
    assert!(stored == content);
}

//! What the sender of FLUTE sends is completed by our receiver and by that of the crate `flute`, whatever is lost, comes twice or
//! in another order.

use core::time::Duration;
use std::rc::Rc;
use std::time::SystemTime;

use flute::core::UDPEndpoint;
use flute::receiver::writer::ObjectWriterBufferBuilder;
use millrace_hub::flute::{Code, Coder, Config, Event, Limits, Offer, Receiver, Report, Sender};
use millrace_hub::session::{Content, Rate, Storage, To, Unread, Unstored};

const TSI: u64 = 7;

struct Memory(Vec<u8>);

impl Content<u64> for Memory {
    fn read(&mut self, _: u64, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        out.copy_from_slice(&self.0[offset as usize..][..out.len()]);
        Ok(())
    }
}

impl Storage<u64> for Memory {
    fn write(&mut self, _: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, toi: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        Content::read(self, toi, offset, out).map_err(|_| Unstored)
    }
}

/// Numbers that look random, the same ones each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn bytes(size: usize) -> Vec<u8> {
    let mut random = Random(size as u64);
    (0..size).map(|_| random.below(256) as u8).collect()
}

/// All packets of a file, in the order in which they are sent; and how long the passes were.
fn sent(content: &[u8], code: Code, passes: u32) -> (Vec<Vec<u8>>, Vec<usize>) {
    let rate = Rate { bits_per_second: 100_000_000, overhead: 42 };
    let catch_up = Duration::ZERO;
    let config = Config { tsi: TSI, symbol: 1400, code, passes, rate, catch_up, expires: u32::MAX };
    let mut sender = Sender::new(config, Duration::ZERO);
    let (size, location) = (content.len() as u64, "file:///a.bin".to_owned());
    let offer = Offer { size, location, md5: None, toi: None, to: To::Everyone, copies: 1 };
    assert_eq!(sender.announce(offer), Ok(1));
    let (mut memory, mut coder) = (Memory(content.to_vec()), Coder::default());
    let (mut all, mut ends) = (Vec::new(), Vec::new());
    while let Some(now) = sender.poll_timeout() {
        let packet = sender.poll_transmit(now).expect("its time has come");
        let mut bytes = Vec::new();
        packet.write(&mut memory, &mut coder, &mut bytes).unwrap();
        all.push(bytes);
        while let Some(event) = sender.poll_event() {
            assert!(matches!(event, Event::Passed { toi: 1, .. } | Event::Finished { toi: 1 }));
            ends.push(all.len());
        }
    }
    (all, ends)
}

/// What comes of it: some is lost, some comes twice, and some in another order.
fn arrives(all: &[Vec<u8>], lost_percent: u64, seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let mut come: Vec<_> = all.iter().filter(|_| random.below(100) >= lost_percent).cloned().collect();
    for _ in 0..come.len() / 20 {
        let at = random.below(come.len() as u64) as usize;
        let other = (at + random.below(8) as usize).min(come.len() - 1);
        come.swap(at, other);
        let twice = come[at].clone();
        come.insert(other, twice);
    }
    come
}

/// What the peer has whole.
fn peer(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let writer = Rc::new(ObjectWriterBufferBuilder::new(true));
    let mut peer = flute::receiver::MultiReceiver::new(writer.clone(), None, false);
    let endpoint = UDPEndpoint::new(None, "239.1.1.1".into(), 3400);
    let now = SystemTime::now();
    packets.iter().for_each(|packet| peer.push(&endpoint, packet, now).unwrap());
    let objects = writer.objects.borrow();
    let complete = |object: &Rc<std::cell::RefCell<flute::receiver::writer::ObjectWriterBuffer>>| {
        let object = object.borrow();
        object.complete.then(|| object.data.clone())
    };
    objects.iter().filter_map(complete).collect()
}

/// What ours has whole, once it also knows what it is.
fn ours(packets: &[Vec<u8>], size: usize) -> Option<Vec<u8>> {
    let (mut receiver, mut memory) = (Receiver::new(TSI, Limits::default()), Memory(vec![0; size]));
    packets.iter().for_each(|packet| receiver.handle(packet, &mut memory));
    assert_eq!((receiver.counters().malformed, receiver.counters().contradictory), (0, 0));
    let reports: Vec<_> = std::iter::from_fn(|| receiver.poll_event()).collect();
    let named = |report: &Report| matches!(report, Report::Table(table) if table.files[0].length == Some(size as u64));
    (reports.contains(&Report::Complete(1)) && reports.iter().any(named)).then_some(memory.0)
}

#[test]
fn with_raptorq_one_pass_is_enough_within_the_overhead() {
    let content = bytes(1_500_001);
    let (all, _) = sent(&content, Code::RaptorQ { overhead_percent: 15 }, 1);
    for seed in 1..4 {
        let come = arrives(&all, 5, seed);
        assert_eq!(ours(&come, content.len()).as_ref(), Some(&content), "seed {seed}");
        assert_eq!(peer(&come), [&content[..]], "seed {seed}");
    }
    // Without repair symbols it wouldn't be.
    let (bare, _) = sent(&content, Code::RaptorQ { overhead_percent: 0 }, 1);
    assert_eq!(ours(&arrives(&bare, 5, 1), content.len()), None);
}

#[test]
fn with_raptorq_a_second_pass_brings_other_symbols() {
    let content = bytes(1_000_001);
    // Of a pass more is lost than its repair symbols make up for.
    let (all, ends) = sent(&content, Code::RaptorQ { overhead_percent: 20 }, 2);
    for seed in 1..4 {
        let first = arrives(&all[..ends[0]], 30, seed);
        assert_eq!(ours(&first, content.len()), None);
        let both = [first, arrives(&all[ends[0]..], 30, seed + 100)].concat();
        assert_eq!(ours(&both, content.len()).as_ref(), Some(&content));
        assert_eq!(peer(&both), [&content[..]], "seed {seed}");
    }
}

#[test]
fn without_a_code_it_is_whole_after_some_passes() {
    let content = bytes(1_000_003);
    let (all, ends) = sent(&content, Code::None, 6);
    for seed in 1..5 {
        let come = arrives(&all, 5, seed);
        assert_eq!(ours(&come, content.len()).as_ref(), Some(&content), "seed {seed}");
        assert_eq!(peer(&come), [&content[..]], "seed {seed}");
        assert_eq!(ours(&arrives(&all[..ends[0]], 5, seed), content.len()), None, "one pass isn't enough");
    }
}

#[test]
fn a_receiver_that_comes_in_the_middle_of_a_pass_has_it_after_the_next() {
    let content = bytes(500_000);
    let (all, ends) = sent(&content, Code::None, 2);
    let come = &all[ends[0] / 2..];
    assert_eq!(ours(come, content.len()).as_ref(), Some(&content));
    assert_eq!(peer(come), [content]);
}

#[test]
fn a_file_of_one_byte_arrives() {
    for code in [Code::None, Code::RaptorQ { overhead_percent: 10 }] {
        let (all, _) = sent(&[9], code, 1);
        assert_eq!((ours(&all, 1), peer(&all)), (Some(vec![9]), vec![vec![9]]));
    }
}

#[test]
fn the_coder_keeps_its_block_and_makes_the_symbols_that_the_whole_object_has() {
    let content = bytes(2_500_000);
    let (all, _) = sent(&content, Code::RaptorQ { overhead_percent: 1 }, 1);
    let mut repairs = 0;
    for packet in &all {
        let parsed = millrace_hub::flute::parse(packet).unwrap();
        let (Some(oti), Some(id)) = (parsed.oti, parsed.id) else { continue };
        if oti.codepoint() != 6 || oti.range(id).is_some() {
            continue;
        }
        let (offset, len) = oti.block_range(id.block).unwrap();
        let nth = id.symbol - oti.block_len(id.block);
        let block = &content[offset as usize..][..len];
        assert_eq!(millrace_hub::flute::repair_symbols(&oti, id.block, block, nth, 1)[0].1, parsed.content);
        repairs += 1;
    }
    assert_eq!(repairs, 18, "a hundredth of two blocks of 893");
}

use proptest::prelude::*;

use super::super::{Coder, parse};
use super::*;
use crate::session::{Content, Unread};

struct Zeros;

impl Content<u64> for Zeros {
    fn read(&mut self, _: u64, _: u64, out: &mut [u8]) -> Result<(), Unread> {
        out.fill(0);
        Ok(())
    }
}

fn config(code: Code, passes: u32) -> Config {
    let rate = Rate { bits_per_second: 8_000_000, overhead: 42 };
    Config { tsi: 7, symbol: 100, code, passes, rate, catch_up: Duration::ZERO, expires: u32::MAX }
}

fn offer(size: u64) -> Offer {
    let location = "file:///a.bin".to_owned();
    Offer { size, location, md5: None, toi: None, to: To::Everyone, copies: 1 }
}

/// All packets of a sender, each at its time.
fn run(sender: &mut Sender) -> Vec<(Duration, Transmit)> {
    let mut all = Vec::new();
    while let Some(now) = sender.poll_timeout() {
        all.push((now, sender.poll_transmit(now).expect("its time has come")));
    }
    all
}

/// The symbols of these packets; `None` for tables.
fn symbols(all: &[(Duration, Transmit)]) -> Vec<Option<SymbolId>> {
    let id = |packet: &Transmit| {
        let parsed = parse(&packet.header).unwrap();
        (parsed.header.toi != TABLE).then(|| {
            // Behind the header is nothing here, and the symbol's number is its end.
            let id = u32::from_be_bytes(*packet.header.last_chunk().unwrap());
            let bits = if parsed.header.codepoint == super::super::RAPTORQ { 24 } else { 16 };
            SymbolId { block: id >> bits, symbol: id & ((1 << bits) - 1) }
        })
    };
    all.iter().map(|(_, packet)| id(packet)).collect()
}

proptest! {
    #[test]
    fn a_pass_has_each_symbol_once_and_tables_come_often_enough(
        size in 1..500_000u64, passes in 1..4u32, overhead in prop::option::of(0..60u32),
    ) {
        let code = overhead.map_or(Code::None, |overhead_percent| Code::RaptorQ { overhead_percent });
        let mut sender = Sender::new(config(code, passes), Duration::ZERO);
        sender.announce(offer(size)).unwrap();
        let oti = sender.files[0].oti;
        let all = symbols(&run(&mut sender));
        prop_assert!(all[0].is_none() && all.last().unwrap().is_none());
        let gaps = all.split(Option::is_none).map(<[_]>::len);
        prop_assert!(gaps.max().unwrap() <= TABLE_EVERY as usize);
        let sent: Vec<SymbolId> = all.into_iter().flatten().collect();
        let source: Vec<SymbolId> = oti.source_symbols().map(|(id, ..)| id).collect();
        let (of_source, repair): (Vec<_>, Vec<_>) = sent.into_iter().partition(|id| oti.range(*id).is_some());
        prop_assert_eq!(of_source, source.repeat(passes as usize));
        for block in 0..oti.blocks() {
            let share = u64::from(oti.block_len(block)) * u64::from(overhead.unwrap_or(0));
            let mut repair: Vec<_> = repair.iter().filter(|id| id.block == block).collect();
            prop_assert_eq!(repair.len() as u64, share.div_ceil(100) * u64::from(passes));
            repair.sort();
            repair.dedup();
            prop_assert_eq!(repair.len() as u64, share.div_ceil(100) * u64::from(passes), "none comes twice");
        }
        let events: Vec<_> = std::iter::from_fn(|| sender.poll_event()).collect();
        prop_assert_eq!(events.len(), passes as usize);
        prop_assert_eq!(events.last(), Some(&Event::Finished { toi: 1 }));
    }

    #[test]
    fn the_rate_is_kept_headers_and_copies_included(size in 1..100_000u64, copies in 1..4usize, late in 0..5000u64) {
        let mut sender = Sender::new(config(Code::RaptorQ { overhead_percent: 10 }, 2), Duration::ZERO);
        sender.announce(Offer { copies, ..offer(size) }).unwrap();
        let begin = Duration::from_micros(late);
        prop_assert!(sender.poll_transmit(begin).is_some());
        prop_assert!(sender.poll_transmit(begin).is_none(), "who comes late makes up for nothing here");
        let all = run(&mut sender);
        // A byte takes a microsecond; the first packet isn't among these, and the last one's time isn't over.
        let on_the_wire = |packet: &Transmit| copies as u64 * (packet.packet_len() as u64 + 42);
        let mut due = all[0].0;
        for (at, packet) in &all {
            prop_assert_eq!(*at, due);
            due += Duration::from_micros(on_the_wire(packet));
        }
        let counted = sender.counters();
        let bytes = counted.first_bytes + counted.repair_bytes + counted.control_bytes;
        let packets = counted.first_packets + counted.repair_packets + counted.control_packets;
        prop_assert_eq!(Duration::from_micros(bytes + 42 * packets), due - begin);
    }
}

#[test]
fn packets_are_as_long_as_they_say_and_say_what_they_are() {
    let mut sender = Sender::new(config(Code::RaptorQ { overhead_percent: 10 }, 2), Duration::ZERO);
    sender.announce(offer(2050)).unwrap();
    let (mut coder, mut kinds) = (Coder::default(), Vec::new());
    for (_, packet) in run(&mut sender) {
        let mut bytes = Vec::new();
        packet.write(&mut Zeros, &mut coder, &mut bytes).unwrap();
        assert_eq!(bytes.len(), packet.packet_len());
        assert!(parse(&bytes).is_ok_and(|parsed| parsed.header.tsi == 7 && !parsed.header.close_object));
        assert!(bytes.len() <= 100 + super::super::HEADER_LEN);
        kinds.push(packet.kind);
    }
    let count = |kind| kinds.iter().filter(|other| **other == kind).count();
    // 21 source symbols and 3 repair symbols in each pass.
    assert_eq!((count(Kind::First), count(Kind::Repair)), (21, 3 + 21 + 3));
}

#[test]
fn files_follow_each_other_with_tables_of_their_own() {
    let mut sender = Sender::new(config(Code::None, 2), Duration::ZERO);
    assert_eq!((sender.announce(offer(500)), sender.announce(offer(300))), (Ok(1), Ok(2)));
    let all = run(&mut sender);
    let tois: Vec<_> = all.iter().map(|(_, packet)| parse(&packet.header).unwrap().header.toi).collect();
    let of = |toi| tois.iter().enumerate().filter(move |(_, other)| **other == toi).map(|(at, _)| at);
    assert_eq!((of(1).count(), of(2).count()), (10, 6));
    assert!(of(1).max() < of(2).min());
    let tables: Vec<_> = all.iter().filter_map(|(_, packet)| parse(&packet.header).unwrap().fdt).collect();
    assert!(tables.iter().all(|fdt| fdt.instance == 1 || fdt.instance == 2));
}

#[test]
fn an_object_keeps_its_number_and_table_after_a_restart() {
    let tables = |toi| {
        let mut sender = Sender::new(config(Code::None, 1), Duration::ZERO);
        let announced = sender.announce(Offer { toi, ..offer(500) }).unwrap();
        let all = run(&mut sender);
        let tables = all.into_iter().filter(|(_, packet)| packet.kind == Kind::Control);
        (
            announced,
            sender.announce(offer(1)).unwrap(),
            tables.map(|(_, table)| table.header).collect::<Vec<_>>(),
        )
    };
    let (number, next, packets) = tables(Some(0x10_0009));
    assert_eq!((number, next), (0x10_0009, 0x10_000a));
    assert_eq!(parse(&packets[0]).unwrap().fdt.unwrap().instance, 9);
    assert_eq!(tables(Some(0x10_0009)).2, packets);
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let mut sender = Sender::new(config(Code::RaptorQ { overhead_percent: 10 }, 1), Duration::ZERO);
    assert_eq!(sender.announce(offer(0)), Err(Refused::Unfit(OtiError)));
    // 255 blocks of at most 56 403 symbols.
    assert_eq!(sender.announce(offer(100 * 255 * 56_403 + 1)), Err(Refused::Unfit(OtiError)));
    let long = Config { symbol: 1400, ..config(Code::RaptorQ { overhead_percent: 10 }, 1) };
    assert_eq!(Sender::new(long, Duration::ZERO).announce(offer(255 * (64 << 20) + 1)), Err(Refused::Long));
    assert_eq!(sender.announce(Offer { toi: Some(0), ..offer(1) }), Err(Refused::Number));
    assert_eq!(sender.announce(offer(1)), Ok(1));
    assert_eq!(sender.announce(Offer { toi: Some(1), ..offer(1) }), Err(Refused::Number));
    (1..FILES_MAX).for_each(|_| assert!(sender.announce(offer(1)).is_ok()));
    assert_eq!(sender.announce(offer(1)), Err(Refused::Full));
    assert!(sender.retire(1) && !sender.retire(1));
    assert!(sender.progress(1).is_none());
    assert!(sender.announce(offer(1)).is_ok());
}

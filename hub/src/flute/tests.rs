use proptest::prelude::*;

use super::*;
use crate::session::{Storage, Unstored};

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

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * at / 7) as u8).collect()
}

/// All source symbols, and so many repair symbols of each block.
fn packets(oti: &Oti, content: &[u8], repair: u32) -> Vec<Vec<u8>> {
    let source = oti.source_symbols();
    let mut all: Vec<_> = source
        .map(|(id, offset, len)| packet(7, 1, oti, id, &content[offset as usize..][..len], false))
        .collect();
    if repair > 0 {
        for block in 0..oti.blocks() {
            let (offset, len) = oti.block_range(block).unwrap();
            let symbols = repair_symbols(oti, block, &content[offset as usize..][..len], 0, repair);
            all.extend(symbols.iter().map(|(id, symbol)| packet(7, 1, oti, *id, symbol, false)));
        }
    }
    all
}

#[test]
fn a_packet_has_the_layout_of_the_rfcs() {
    let oti = Oti::no_code(5, 4, 3).unwrap();
    let bytes = packet(9, 1, &oti, SymbolId { block: 0, symbol: 1 }, b"x", true);
    #[rustfmt::skip]
    assert_eq!(bytes, [
        0x10, 0xa1, 8, 0,   0, 0, 0, 0,   0, 0, 0, 9,   0, 0, 0, 1,
        64, 4, 0, 0, 0, 0, 0, 5,   0, 0, 0, 4,   0, 0, 0, 3,
        0, 0, 0, 1,   b'x',
    ]);
    assert_eq!(end(9), [0x10, 0xa2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
}

#[test]
fn each_fault_has_its_name() {
    let oti = Oti::with_raptorq(5000, 1000, 1).unwrap();
    let good = packet(9, 1, &oti, SymbolId { block: 0, symbol: 1 }, &[0; 1000], true);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let cases = [
        (good[..3].to_vec(), Malformed::Cut),
        (good[..20].to_vec(), Malformed::Cut),
        (good[..34].to_vec(), Malformed::Cut),
        (with(0, 0x20), Malformed::Version),
        (with(2, 3), Malformed::HeaderLength),
        (with(2, 6), Malformed::Extension),
        (with(1, 0x20), Malformed::Numbers),
        (with(17, 0), Malformed::Extension),
        (with(17, 2), Malformed::Extension),
        (with(3, 129), Malformed::Fec),
        (with(26, 0), Malformed::Oti),
        (with(29, 0), Malformed::Oti),
    ];
    for (at, (bytes, fault)) in cases.iter().enumerate() {
        assert_eq!(parse(bytes), Err(*fault), "case {at}");
    }
    assert!(Malformed::ALL.iter().all(|fault| cases.iter().any(|(_, other)| other == fault)));
}

#[test]
fn objects_that_cannot_be_sent_are_refused() {
    assert_eq!(Oti::no_code(0, 4, 3), Err(OtiError));
    assert_eq!(Oti::no_code(9, 0, 3), Err(OtiError));
    assert_eq!(Oti::no_code(9, 4, 0), Err(OtiError));
    assert_eq!(Oti::no_code(65_537, 1, 1), Err(OtiError));
    assert_eq!(Oti::with_raptorq(9, 6, 1), Err(OtiError));
    assert_eq!(Oti::with_raptorq(9, 4, 4), Err(OtiError));
    assert_eq!(Oti::with_raptorq(60_000 * 4, 4, 1), Err(OtiError));
    assert!(Oti::with_raptorq(60_000 * 4, 4, 2).is_ok());
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß\n]{0,20}"
}

prop_compose! {
    fn files()(
        toi in any::<u64>(), location in text(), length in prop::option::of(any::<u64>()),
        content_type in prop::option::of(text()), md5 in prop::option::of(text()),
    ) -> File {
        File { toi, location, length, transfer_length: length, content_type, encoding: None, md5 }
    }
}

proptest! {
    #[test]
    fn packets_are_read_as_written(
        tsi in prop_oneof![0..1u64 << 32, 0..1u64 << 48], toi in prop_oneof![any::<u32>().prop_map(u64::from), any::<u64>()],
        (close_session, close_object) in any::<(bool, bool)>(),
        instance in prop::option::of(0..1u32 << 20), raptorq in any::<bool>(), in_band in any::<bool>(),
        (block, symbol) in (0..256u32, 0..65_536u32), content in prop::collection::vec(any::<u8>(), 0..20),
        id in any::<bool>(), size in 1..1u64 << 24,
    ) {
        let oti = if raptorq { Oti::with_raptorq(size, 1000, 1) } else { Oti::no_code(size, 1000, 100) }.unwrap();
        let header = Header { tsi, toi, close_session, close_object, codepoint: oti.codepoint() };
        let content = if id { &content[..] } else { &[] };
        let packet = Packet {
            header,
            fdt: instance.map(Fdt::of),
            oti: in_band.then_some(oti),
            id: id.then_some(SymbolId { block, symbol }),
            content,
        };
        let bytes = packet.to_vec();
        prop_assert_eq!(parse(&bytes), Ok(packet));
        for cut in 0..bytes.len() {
            let _ = parse(&bytes[..cut]);
        }
    }

    #[test]
    fn tables_are_read_as_written(expires in any::<u32>(), complete in any::<bool>(), files in prop::collection::vec(files(), 0..4)) {
        let table = Table { expires, complete, files };
        let back = Table::from_xml(&table.to_xml()).unwrap();
        prop_assert_eq!(back, table);
    }

    #[test]
    fn no_code_needs_each_symbol_and_in_no_order(
        size in 1..4000usize, symbol in 1..50u16, block in 1..20u16, order in any::<prop::sample::Index>(), lost in 0..5usize,
    ) {
        let (content, oti) = (bytes(size), Oti::no_code(size as u64, symbol, block).unwrap());
        let mut all = packets(&oti, &content, 0);
        let middle = order.index(all.len());
        all.rotate_left(middle);
        let (mut receiver, mut memory) = (Receiver::new(7, Limits::default()), Memory(vec![0; size]));
        let (first, rest) = all.split_at(lost.min(all.len()));
        rest.iter().chain(rest).for_each(|packet| receiver.handle(packet, &mut memory));
        let missing: u32 = receiver.missing(1).unwrap_or_default().iter().flat_map(|(_, s)| s).map(|(a, b)| b - a + 1).sum();
        // Of an object of which nothing came, nothing is known.
        prop_assert!(missing as usize == first.len() || rest.is_empty());
        first.iter().for_each(|packet| receiver.handle(packet, &mut memory));
        let reports: Vec<_> = std::iter::from_fn(|| receiver.poll_event()).collect();
        prop_assert_eq!(reports, [Report::Begun { toi: 1, oti }, Report::Complete(1)]);
        prop_assert_eq!(memory.0, content);
    }
}

#[test]
fn raptorq_makes_up_for_what_is_lost() {
    let (content, oti) = (bytes(50_001), Oti::with_raptorq(50_001, 100, 3).unwrap());
    let (mut receiver, mut memory) = (Receiver::new(7, Limits::default()), Memory(vec![0; 50_001]));
    // A tenth of all is lost, and there are 20 more for each of three blocks of 167.
    let all = packets(&oti, &content, 40);
    all.iter()
        .enumerate()
        .filter(|(at, _)| at % 10 != 3)
        .for_each(|(_, packet)| receiver.handle(packet, &mut memory));
    let reports: Vec<_> = std::iter::from_fn(|| receiver.poll_event()).collect();
    assert_eq!(reports, [Report::Begun { toi: 1, oti }, Report::Complete(1)]);
    assert!(memory.0 == content && receiver.counters().decoded > 45);
}

#[test]
fn a_table_comes_in_pieces_and_once() {
    let file = File { toi: 1, location: "urn:a&b<c>".into(), length: Some(5), ..File::default() };
    let sent = Table { expires: 9, complete: true, files: vec![file] };
    let mut receiver = Receiver::new(7, Limits::default());
    let pieces = table(7, 3, &sent, 20).unwrap();
    assert!(pieces.len() > 5);
    for piece in pieces.iter().rev().chain(&pieces) {
        receiver.handle(piece, &mut Memory(vec![]));
    }
    receiver.handle(&end(7), &mut Memory(vec![]));
    let reports: Vec<_> = std::iter::from_fn(|| receiver.poll_event()).collect();
    assert_eq!(reports, [Report::Table(sent), Report::Ended]);
}

#[test]
fn what_others_write_into_tables_is_read_over() {
    let xml = r#"<?xml version="1.0"?><!-- c --><f:FDT-Instance xmlns:f="urn:x" Expires="99999999999" xmlns:m="urn:m" m:FullFDT="true">
        <f:File TOI="5" Content-Location="file:///a" m:Decryption="x"><m:Cache-Control><m:no-cache>true</m:no-cache></m:Cache-Control></f:File>
        <m:Other><m:File TOI="x"/></m:Other></f:FDT-Instance>"#;
    let table = Table::from_xml(xml).unwrap();
    assert_eq!((table.expires, table.files.len(), table.files[0].toi), (u32::MAX, 1, 5));
    for wrong in [
        "",
        "x",
        "<a/>",
        "<FDT-Instance/>",
        "<FDT-Instance Expires='1'>",
        "<FDT-Instance Expires='1'><File TOI='1'/></FDT-Instance>",
    ] {
        assert!(Table::from_xml(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_never_whole_makes_room_for_what_comes_later() {
    let limits = Limits { objects_max: 2, ..Limits::default() };
    let (mut receiver, mut memory) = (Receiver::new(7, limits), Memory(vec![0; 8]));
    let oti = Oti::no_code(8, 4, 2).unwrap();
    let mut first_half = |toi| {
        receiver.handle(&packet(7, toi, &oti, SymbolId { block: 0, symbol: 0 }, b"abcd", false), &mut memory);
        let reports = std::iter::from_fn(|| receiver.poll_event());
        reports.filter(|report| !matches!(report, Report::Begun { .. })).collect::<Vec<_>>()
    };
    assert!(first_half(1).is_empty() && first_half(2).is_empty());
    // Nothing new, but somebody still sends it.
    assert!(first_half(1).is_empty());
    assert_eq!(first_half(3), [Report::GivenUp(2)]);
    assert_eq!(first_half(2), [Report::GivenUp(1)]);
}

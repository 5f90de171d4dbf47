//! Any bytes as FLUTE packets, at the parser and at a receiver in the middle of a transfer, and as a File Delivery Table: what is
//! read is written again the same; bounds hold; nothing is stored beyond an object.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_hub::flute::{Limits, Receiver, Table, parse};
use millrace_hub::session::{Storage, Unstored};

const SIZE_MAX: u64 = 1 << 16;

struct Bounded;

impl Storage<u64> for Bounded {
    fn write(&mut self, _: u64, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        assert!(offset + bytes.len() as u64 <= SIZE_MAX, "nothing beyond the object is stored");
        Ok(())
    }

    fn read(&mut self, _: u64, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
        assert!(offset + out.len() as u64 <= SIZE_MAX);
        out.fill(0);
        Ok(())
    }
}

// A table, if it begins so; else packets, each behind two bytes of length.
fuzz_target!(|input: &[u8]| {
    if let Some(table) = std::str::from_utf8(input).ok().and_then(|xml| Table::from_xml(xml).ok()) {
        assert_eq!(Table::from_xml(&table.to_xml()), Ok(table));
    }
    let limits = Limits { size_max: SIZE_MAX, block_max: 1 << 12, objects_max: 4, repair_max: 1 << 12 };
    let mut receiver = Receiver::new(7, limits);
    let mut rest = input;
    while let [high, low, after @ ..] = rest {
        let (packet, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes([*high, *low]))));
        rest = after;
        if let Ok(packet) = parse(packet) {
            assert_eq!(parse(&packet.to_vec()), Ok(packet));
        }
        receiver.handle(packet, &mut Bounded);
        while receiver.poll_event().is_some() {}
    }
    for toi in 0..4 {
        let missing = receiver.missing(toi).unwrap_or_default();
        assert!(missing.iter().all(|(_, stretches)| !stretches.is_empty()));
    }
});

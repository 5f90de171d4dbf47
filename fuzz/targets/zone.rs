//! Any bytes as a zone file: records, or one error with a line of the file. What is read becomes a table, or is refused by
//! name, and that table answers every query for the zone's own names lawfully, wildcards and aliases among them.

#![no_main]

use domain::base::Message;
use domain::rdata::AllRecordData;
use libfuzzer_sys::fuzz_target;
use millrace_config::zonefile::ZoneFile;
use millrace_fastpath::dns::{Outcome, RecordType, Role, Transport};
use millrace_fastpath::tables::Names;
use millrace_fastpath::tables::names::{Record, RecordData, WireName, Zone};

#[path = "../../fastpath/tests/all/dns/fixture.rs"]
#[allow(dead_code, reason = "each target uses its own part of the fixture")]
mod fixture;
#[path = "../../fastpath/tests/all/dns/laws.rs"]
mod laws;

/// The scanner's panics are caught where it is called, and become errors; any other ends the run.
fn end_at_panics_of_ours() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().ends_with("zonefile/inplace.rs")) {
            default(info);
        }
    }));
}

fuzz_target!(init: end_at_panics_of_ours(), |text: &[u8]| {
    let origin = "fn.example.".parse().expect("a name");
    let file = match ZoneFile::parse(text, &origin, 30) {
        Ok(file) => file,
        Err(error) => {
            let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!((1..=lines + 1).contains(&error.line), "{error} of {lines} lines");
            return;
        }
    };
    let mut records = Vec::new();
    for record in file.records {
        let kind = RecordType(record.type_number);
        let owner = WireName::from_wire(&record.owner).expect("an owner is a name");
        let Some(data) = RecordData::from_wire(kind, &record.data) else { return };
        records.push(Record { owner, ttl_seconds: record.ttl_seconds, data });
    }
    let zone = Zone { records, bindings: Vec::new(), ..fixture::zones().swap_remove(0) };
    let Ok(names) = Names::build(fixture::KEY, &[&zone]) else { return };
    for record in zone.records.iter().take(8) {
        let owner = record.owner.as_bytes();
        ask(&names, owner, record.data.kind().0);
        ask(&names, owner, 1);
        if owner.len() < 250 {
            ask(&names, &[b"\x01q", owner].concat(), 1);
        }
    }
});

fn ask(names: &Names, name: &[u8], kind: u16) {
    let query = [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", name, &kind.to_be_bytes(), &[0, 1]].concat();
    let (outcome, message) =
        laws::respond_lawfully(names, &query, 65_535, Role::Authoritative, Transport::Tcp);
    let Outcome::Answer(answer) = outcome else { return };
    let message = Message::from_octets(&message[..answer.len]).expect("an answer has a header");
    let mut records = 0;
    for record in message.iter() {
        let (record, _) = record.expect("a record can be read");
        // Data of unknown types, and of known ones written as RFC 3597 allows, are the operator's.
        let _ = record.into_record::<AllRecordData<_, _>>();
        records += 1;
    }
    let counts = message.header_counts();
    assert_eq!(records, counts.ancount() + counts.nscount() + counts.arcount());
}

//! Any bytes as a DNS query, in both roles and over both transports: the laws that the tests state, and answers that
//! another implementation can read.

#![no_main]

use std::sync::LazyLock;

use domain::base::Message;
use domain::rdata::AllRecordData;
use libfuzzer_sys::fuzz_target;
use millrace_fastpath::dns::{Outcome, Role, Transport};
use millrace_fastpath::tables::Names;

#[path = "../../fastpath/tests/all/dns/fixture.rs"]
mod fixture;
#[path = "../../fastpath/tests/all/dns/laws.rs"]
mod laws;

static NAMES: LazyLock<Names> = LazyLock::new(|| fixture::names().expect("the fixture is sound"));

fuzz_target!(|query: &[u8]| {
    for role in [Role::Authoritative, Role::Intercept] {
        for (transport, room) in
            [(Transport::Udp, 1232), (Transport::Udp, query.len()), (Transport::Tcp, 4096)]
        {
            let (outcome, message) = laws::respond_lawfully(&NAMES, query, room, role, transport);
            if let Outcome::Answer(_) = outcome {
                read(&message);
            }
        }
    }
});

/// Reads every record to its last byte.
fn read(answer: &[u8]) {
    let message = Message::from_octets(answer).expect("an answer has a header");
    let mut records = 0;
    for record in message.iter() {
        let (record, _) = record.expect("a record can be read");
        record.into_record::<AllRecordData<_, _>>().expect("its data can be read");
        records += 1;
    }
    let counts = message.header_counts();
    assert_eq!(records, counts.ancount() + counts.nscount() + counts.arcount());
}

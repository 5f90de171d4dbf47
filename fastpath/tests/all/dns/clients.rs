//! Queries as clients' libraries write them, and the answers as these see them: names in any case, EDNS with any options, what
//! is too long for a datagram and then comes whole by TCP.

use domain::base::iana::OptionCode;
use domain::base::opt::UnknownOptData;
use domain::base::{Message as DomainMessage, MessageBuilder, Name as DomainName, Rtype};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use millrace_fastpath::dns::{Outcome, Role, Transport};
use proptest::prelude::*;

use super::random::{pool, spell};
use super::{fixture, laws, oracle};

/// What a client asks.
#[derive(Clone, Debug)]
struct Question {
    id: u16,
    name: Vec<u8>,
    kind: u16,
    edns: Option<Extension>,
}

/// Payload size, DO, and options but cookies.
#[derive(Clone, Debug)]
struct Extension {
    size: u16,
    wants_dnssec: bool,
    options: Vec<(u16, Vec<u8>)>,
}

fn any_question() -> impl Strategy<Value = Question> {
    let code = any::<u16>().prop_filter("no cookie", |code| *code != 10);
    // Client subnets and padding, as clients send them, and others.
    let option = prop_oneof![
        Just((8, vec![0, 1, 24, 0, 192, 0, 2])),
        (0_usize..200).prop_map(|len| (12, vec![0; len])),
        (code, prop::collection::vec(any::<u8>(), 0..20)),
    ];
    let size = prop_oneof![Just(512_u16), Just(1232), Just(4096), any::<u16>()];
    let options = prop::collection::vec(option, 0..2);
    let edns = (size, any::<bool>(), options).prop_map(|(size, wants_dnssec, options)| Extension {
        size,
        wants_dnssec,
        options,
    });
    let kinds = prop::sample::select(vec![1_u16, 28, 2, 5, 6, 15, 16, 64, 65, 257]);
    let name = (prop::sample::select(pool()), any::<u64>()).prop_map(|(mut name, spelling)| {
        spell(&mut name, spelling);
        name
    });
    (any::<u16>(), name, kinds, prop::option::of(edns)).prop_map(|(id, name, kind, edns)| Question {
        id,
        name,
        kind,
        edns,
    })
}

impl Question {
    fn by_domain(&self) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(self.id);
        builder.header_mut().set_rd(true);
        let mut builder = builder.question();
        let name = DomainName::from_octets(&self.name[..]).unwrap();
        builder.push((name, Rtype::from_int(self.kind))).unwrap();
        let mut builder = builder.additional();
        if let Some(edns) = &self.edns {
            let write = |opt: &mut domain::base::message_builder::OptBuilder<'_, Vec<u8>>| {
                opt.set_udp_payload_size(edns.size);
                opt.set_dnssec_ok(edns.wants_dnssec);
                for (code, data) in &edns.options {
                    opt.push(&UnknownOptData::new(OptionCode::from_int(*code), data).unwrap())?;
                }
                Ok(())
            };
            builder.opt(write).unwrap();
        }
        builder.finish()
    }

    fn by_hickory(&self) -> Message {
        let mut labels = Vec::new();
        let mut rest = &self.name[..];
        while let Some((len, after)) = rest.split_first().filter(|(len, _)| **len != 0) {
            let (label, after) = after.split_at(usize::from(*len));
            labels.push(label);
            rest = after;
        }
        let mut name = Name::from_labels(labels).unwrap();
        name.set_fqdn(true);
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, RecordType::from(self.kind)));
        if let Some(edns) = &self.edns {
            let mut theirs = Edns::new();
            theirs.set_max_payload(edns.size).set_dnssec_ok(edns.wants_dnssec);
            for (code, data) in &edns.options {
                theirs.options_mut().insert(EdnsOption::Unknown(*code, data.clone()));
            }
            message.set_edns(theirs);
        }
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_writes_the_query_gets_its_answer(question in any_question()) {
        let names = fixture::names().unwrap();
        let respond = |query: &[u8], transport| {
            let room = if transport == Transport::Tcp { 65_535 } else { 1232 };
            laws::respond_lawfully(&names, query, room, Role::Authoritative, transport)
        };
        let query = question.by_domain();
        let (outcome, message) = respond(&query, Transport::Udp);
        let theirs = question.by_hickory();
        let (other_outcome, other_message) = respond(&theirs.to_vec().unwrap(), Transport::Udp);
        prop_assert_eq!(outcome, other_outcome);
        let Outcome::Answer(answer) = outcome else { return Ok(()) };
        prop_assert_eq!(oracle::read(&message), oracle::read(&other_message), "who asks makes no difference");

        // To both it is the answer to their question, letter by letter (draft-vixie-dnsext-dns0x20).
        let asked = DomainMessage::from_octets(&query[..]).unwrap();
        prop_assert!(DomainMessage::from_octets(&message[..]).unwrap().is_answer(&asked));
        let end = 12 + question.name.len() + 4;
        prop_assert_eq!(&message[12..end], &query[12..end]);
        let seen = Message::from_vec(&other_message).unwrap();
        prop_assert_eq!((seen.metadata.id, &seen.queries), (theirs.metadata.id, &theirs.queries));
        prop_assert!(seen.metadata.recursion_desired && !seen.metadata.recursion_available);
        prop_assert_eq!(seen.edns.is_some(), question.edns.is_some());

        // What didn't fit is had by TCP.
        prop_assert_eq!(seen.metadata.truncation, answer.truncated);
        let (outcome, message) = respond(&query, Transport::Tcp);
        let Outcome::Answer(whole) = outcome else { panic!("{outcome:?}") };
        prop_assert!(!whole.truncated);
        if !answer.truncated {
            prop_assert_eq!(oracle::read(&message), oracle::read(&other_message));
        }
    }
}

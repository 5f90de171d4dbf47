//! Answers as two implementations of others read them.

use std::collections::BTreeSet;

use domain::base::opt::{ComposeOptData, Cookie, UnknownOptData};
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message as DomainMessage, Serial};
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;
use hickory_proto::op::Message as HickoryMessage;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use millrace_fastpath::addr::Addr;

/// A record: owner (folded, wire form), type, TTL, data.
pub(crate) type Rr = (Vec<u8>, u16, u32, Vec<u8>);

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Twelve bits, with those of OPT.
    pub(crate) rcode: u16,
    /// The answer section; every record once.
    pub(crate) answers: BTreeSet<Rr>,
    /// The authority section.
    pub(crate) authorities: BTreeSet<Rr>,
    /// Size, version and DO of OPT.
    pub(crate) opt: Option<(u16, u8, bool)>,
}

/// Reads an answer with both; they agree.
///
/// # Panics
/// When one of them can't read it, or they disagree.
pub(crate) fn read(message: &[u8]) -> Reading {
    let reading = read_with_domain(message);
    assert_eq!(reading, read_with_hickory(message));
    reading
}

/// The options of an answer's OPT, in their order: code and data.
///
/// # Panics
/// When the answer can't be read.
pub(crate) fn options(message: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let message = DomainMessage::from_octets(message).unwrap();
    let Some(opt) = message.opt() else { return Vec::new() };
    let options = opt.opt().iter::<UnknownOptData<&[u8]>>().map(|option| {
        let option = option.unwrap();
        (option.code().to_int(), option.as_slice().to_vec())
    });
    options.collect()
}

fn parse_cookie(data: &[u8]) -> Cookie {
    Cookie::parse(&mut Parser::from_ref(data)).unwrap()
}

/// Whether the whole cookie `data` was made for a client with a secret, at a time in seconds.
pub(crate) fn is_cookie_of(data: &[u8], client: Addr, secret: &[u8; 16], seconds: u32) -> bool {
    parse_cookie(data).check_server_hash(client.to_ip(), secret, |time| time == Serial(seconds))
}

/// The whole cookie that another server with this secret would make.
pub(crate) fn cookie_of(data: &[u8], client: Addr, secret: &[u8; 16], seconds: u32) -> Vec<u8> {
    let mut cookie = Vec::new();
    let response = parse_cookie(data).create_response(Serial(seconds), client.to_ip(), secret);
    response.compose_option(&mut cookie).unwrap();
    cookie
}

fn read_with_domain(message: &[u8]) -> Reading {
    let message = DomainMessage::from_octets(message).unwrap();
    let section = |section: domain::base::message::RecordSection<'_, &[u8]>| {
        let mut records = BTreeSet::new();
        for record in section {
            let record = record.unwrap();
            assert_eq!(record.class().to_int(), 1);
            let (mut owner, mut data) = (Vec::new(), Vec::new());
            let record = record.into_record::<AllRecordData<_, _>>().unwrap().unwrap();
            domain::base::name::ToName::compose(record.owner(), &mut owner).unwrap();
            record.data().compose_rdata(&mut data).unwrap();
            let rr = (owner.to_ascii_lowercase(), record.rtype().to_int(), record.ttl().as_secs(), data);
            assert!(records.insert(rr), "no record twice");
        }
        records
    };
    let additional = message.additional().unwrap().count();
    let opt = message.opt();
    assert_eq!(additional, usize::from(opt.is_some()), "nothing but OPT in the additional section");
    Reading {
        rcode: message.opt_rcode().to_int(),
        answers: section(message.answer().unwrap()),
        authorities: section(message.authority().unwrap()),
        opt: opt.map(|opt| (opt.udp_payload_size(), opt.version(), opt.dnssec_ok())),
    }
}

fn read_with_hickory(message: &[u8]) -> Reading {
    let message = HickoryMessage::from_vec(message).unwrap();
    let section = |records: &[hickory_proto::rr::Record]| {
        let rr = |record: &hickory_proto::rr::Record| {
            let owner = record.name.to_bytes().unwrap().to_ascii_lowercase();
            (owner, record.record_type().into(), record.ttl, uncompressed(&record.data))
        };
        records.iter().map(rr).collect()
    };
    Reading {
        rcode: message.metadata.response_code.into(),
        answers: section(&message.answers),
        authorities: section(&message.authorities),
        opt: message.edns.as_ref().map(|edns| (edns.max_payload(), edns.version(), edns.flags().dnssec_ok)),
    }
}

fn uncompressed(data: &impl BinEncodable) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).unwrap();
    bytes
}

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use millrace_bier::bits::BitString;
use millrace_bier::id::{BitPosition, Si};
use millrace_bier::oam::{Downstream, FIXED_LEN, Interface, Mapping, ReturnCode, SetBits, SubTlv, Tlv};
use millrace_config::Config;
use millrace_config::domainfile::DomainFile;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::names::HashKey;

use super::*;
use crate::builder::{TableBuilder, TableFiles};
use crate::testing::{EDGE, LAN, WAN, ms, ports};

/// Three routers in a row, 5 - 7 - 9, of which each is our test's appliance in turn. In truth they would have other addresses.
const DOMAIN: &str = r#"
router = [
  { name = "first", prefix = "192.0.2.1", bfr_id = 5 },
  { name = "middle", prefix = "10.255.0.7", bfr_id = 7 },
  { name = "last", prefix = "10.255.0.9", bfr_id = 9 },
]
link = [
  { a = "first", b = "middle", a_address = "198.51.100.5", b_address = "198.51.100.7" },
  { a = "middle", b = "last", a_address = "198.51.100.77", b_address = "198.51.100.9" },
]
"#;

struct Router {
    oam: Oam,
    builder: TableBuilder,
    now: Nanos,
}

impl Router {
    fn new(name: &str, prefix: &str, id: u16) -> Self {
        Self::with(name, prefix, id, DOMAIN, "")
    }

    /// The same in another domain, with more of BIER.
    fn with(name: &str, prefix: &str, id: u16, domain: &str, more: &str) -> Self {
        let bier = format!(
            "\n[bier]\nbfr_prefix = \"{prefix}\"\n[[bier.subdomain]]\nid = 0\nbfr_id = {id}\nbitstring_bits = 64\n\
             topology = \"domain.toml\"\nrouter = \"{name}\"\n{more}"
        );
        let config = Config::parse("edge.toml", &format!("{EDGE}{bier}")).unwrap();
        // The file has no lengths, which are 256 without.
        let text = domain.replace("bfr_id", "bitstring_bits = [64], bfr_id");
        let file = Arc::new(DomainFile::parse("domain.toml", text.as_bytes()).unwrap());
        let files = TableFiles { domains: HashMap::from([(0, file)]), ..TableFiles::default() };
        let builder = TableBuilder::new(&config, &ports(), files, HashKey(1, 2)).unwrap();
        Self { oam: Oam::new(u64::from(id)), builder, now: ms(0) }
    }

    fn three() -> [Self; 3] {
        [("first", "192.0.2.1", 5), ("middle", "10.255.0.7", 7), ("last", "10.255.0.9", 9)]
            .map(|(name, prefix, id)| Self::new(name, prefix, id))
    }

    fn receive(&mut self, interface: InterfaceId, frame: &[u8]) -> Option<Outgoing> {
        let (tables, names) = (self.builder.tables(), self.builder.bier_names());
        let context = OamContext {
            tables,
            ports_down: PortsDown::default(),
            names,
            now: self.now,
            unix_nanos: 2_500_000_000,
        };
        self.oam.receive(interface, frame, context)
    }

    fn ask(&mut self, question: Question) -> Result<(Asked, Vec<Vec<u8>>), AskError> {
        let (tables, names) = (self.builder.tables(), self.builder.bier_names());
        let context = OamContext {
            tables,
            ports_down: PortsDown::default(),
            names,
            now: self.now,
            unix_nanos: 1_500_000_000,
        };
        let (asked, packets) = self.oam.ask(question, context)?;
        Ok((asked, packets.into_iter().map(frame).collect()))
    }
}

/// The frame as a worker would have it from a wire.
fn frame(outgoing: Outgoing) -> Vec<u8> {
    let Outgoing::Bier(frame) = outgoing else { panic!("{outgoing:?}") };
    frame
}

fn id(id: u16) -> BfrId {
    BfrId::new(id).unwrap()
}

fn question(ids: &[u16]) -> (Question, Receiver<Reply>) {
    let (sender, replies) = sync_channel(8);
    let question = Question {
        sub_domain: SubDomain(0),
        ids: ids.iter().map(|one| id(*one)).collect(),
        target: None,
        entropy: 3,
        ttl: 255,
        reply_mode: ReplyMode::Bier,
        sequence: 4,
        mappings: None,
        patience: Duration::from_secs(1),
        replies: sender,
    };
    (question, replies)
}

fn echo_in(frame: &[u8], router: &Router) -> Echo {
    let shown = Shown::read(WAN, frame, router.builder.tables()).unwrap();
    Echo::parse(shown.view.payload()).unwrap()
}

#[test]
fn a_request_and_its_reply_are_those_of_the_draft() {
    let [mut first, _, mut last] = Router::three();
    let (asked, replies) = question(&[9]);
    let (sent, frames) = first.ask(asked).unwrap();
    let [request] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((sent.ways[0].local, sent.ways[0].ways.len()), (false, 1));
    let shown = Shown::read(WAN, request, first.builder.tables()).unwrap();
    assert_eq!((shown.view.proto(), shown.view.ttl(), shown.view.bfir_id()), (Proto::Oam, 255, Some(id(5))));
    let echo = echo_in(request, &first);
    assert_eq!((echo.sequence, echo.reply_mode, echo.tlvs.len()), (4, ReplyMode::Bier, 1));
    // The last router's table has the same BIFT-id: it is static here.
    let reply = frame(last.receive(LAN, request).unwrap());
    let shown = Shown::read(WAN, &reply, last.builder.tables()).unwrap();
    assert_eq!(
        (shown.view.bfir_id(), ids(shown.key, &shown.words()).collect::<Vec<_>>()),
        (None, vec![id(5)])
    );
    let answer = echo_in(&reply, &last);
    assert_eq!((answer.kind, answer.handle, answer.sent), (Kind::Reply, echo.handle, echo.sent));
    assert_eq!(answer.received, millrace_bier::oam::ntp(2_500_000_000));
    first.now = first.now.plus(2_000_000);
    assert_eq!(first.receive(WAN, &reply), None);
    let told = replies.try_recv().unwrap();
    assert_eq!((told.code, told.nanos, told.bfers.clone()), (ReturnCode::OnlyBfer, 2_000_000, vec![id(9)]));
    assert_eq!(told.bfr, Some([10, 255, 0, 9].into()));
    assert_eq!(told.ingress, Some(Interface::V4([198, 51, 100, 1].into())));
    let counters = first.oam.counters();
    assert_eq!((counters.asked, counters.replies, counters.replies_strange), (1, 1, 0));
    assert_eq!((last.oam.counters().requests, last.oam.counters().replies_sent), (1, 1));
}

#[test]
fn a_reply_over_udp_goes_to_the_prefix_of_who_asked() {
    let [mut first, _, mut last] = Router::three();
    let (asked, replies) = question(&[9]);
    let (_, frames) = first.ask(Question { reply_mode: ReplyMode::Udp, ..asked }).unwrap();
    let Some(Outgoing::Ip(to, mut packet)) = last.receive(LAN, &frames[0]) else { panic!("no IP packet") };
    assert_eq!(to, Addr::v4([192, 0, 2, 1]));
    packet[12..14].copy_from_slice(&[0x08, 0x00]);
    assert!(is_echo(&packet));
    first.oam.receive_udp(&packet, first.now);
    assert_eq!(replies.try_recv().unwrap().by, ReplyMode::Udp);
    // One byte changed: the checksum notices.
    *packet.last_mut().unwrap() ^= 1;
    first.oam.receive_udp(&packet, first.now);
    assert_eq!((replies.try_recv().is_err(), first.oam.counters().malformed), (true, 1));
}

#[test]
fn ipv6_replies_are_read_too() {
    let to = Addr::v6([0x20; 16]);
    for message in [&b"odd"[..], b"even"] {
        let mut packet = udp::packet(Addr::v6([0x30; 16]), to, message);
        packet[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert!(is_echo(&packet));
        assert_eq!(udp::payload(&packet), Some(message));
        packet[20] ^= 1;
        assert_eq!(udp::payload(&packet), None);
    }
}

/// The middle router tells where it goes on, and the next request repeats that.
#[test]
fn a_trace_learns_the_ways_from_hop_to_hop() {
    let [mut first, mut middle, mut last] = Router::three();
    let (asked, replies) = question(&[7, 9]);
    let (_, frames) = first.ask(Question { ttl: 1, mappings: Some(vec![]), ..asked }).unwrap();
    let echo = echo_in(&frames[0], &first);
    assert_eq!(echo.tlvs[2], Tlv::Mapping(Mapping::question()));
    let reply = frame(middle.receive(LAN, &frames[0]).unwrap());
    first.receive(WAN, &reply);
    let told = replies.try_recv().unwrap();
    assert_eq!((told.code, told.mappings.len()), (ReturnCode::OneBfer, 1));
    let way = &told.mappings[0];
    assert_eq!((way.mtu, way.downstream.prefix()), (1500, IpAddr::from([10, 255, 0, 9])));
    // To the last router, as it comes there: its own bit alone.
    let (asked, replies) = question(&[7, 9]);
    let target = Some(vec![id(9)]);
    let (_, frames) =
        first.ask(Question { ttl: 2, target, mappings: Some(told.mappings.clone()), ..asked }).unwrap();
    let mut arrived = frames[0].clone();
    arrived[14 + 12 + 6..14 + 12 + 8].copy_from_slice(&[0x01, 0x00]);
    first.receive(WAN, &frame(last.receive(LAN, &arrived).unwrap()));
    let told = replies.try_recv().unwrap();
    assert_eq!((told.code, told.mappings.len()), (ReturnCode::OnlyBfer, 0));
    // Had it come with other bits than the middle router says, it would tell.
    first.receive(WAN, &frame(last.receive(LAN, &frames[0]).unwrap()));
    assert_eq!(replies.try_recv().unwrap().code, ReturnCode::MappingMismatch);
    // Nobody asks router 7 any more, but its packet has a wanted bit.
    let mut only = frames[0].clone();
    only[14 + 12 + 6..14 + 12 + 8].copy_from_slice(&[0x00, 0x40]);
    assert_eq!(middle.receive(LAN, &only), None, "not aimed at it");
}

#[test]
fn what_is_malformed_is_answered_as_the_draft_has_it() {
    let [mut first, _, mut last] = Router::three();
    let (asked, replies) = question(&[9]);
    let (_, frames) = first.ask(asked).unwrap();
    let message = 14 + 12 + 8;
    type Spoil = fn(&mut Vec<u8>, usize);
    let cases: [(ReturnCode, u32, Spoil); 4] = [
        (ReturnCode::Malformed, 4, |frame, at| frame[at + 6] = 9),
        (ReturnCode::Malformed, 8, |frame, at| frame[at + 8] = 0x10),
        (ReturnCode::Malformed, 40, |frame, at| frame[at + FIXED_LEN + 3] = 200),
        (ReturnCode::UnsupportedTlv, FIXED_LEN as u32 + 16, |frame, at| {
            frame.extend([0, 99, 0, 1, 7]);
            frame[at + 7] += 5;
        }),
    ];
    for (code, pointer, spoil) in cases {
        let mut wrong = frames[0].clone();
        spoil(&mut wrong, message);
        first.receive(WAN, &frame(last.receive(LAN, &wrong).unwrap()));
        let told = replies.try_recv().unwrap();
        assert_eq!((told.code, told.pointer), (code, Some(pointer)));
    }
    // Not echo messages, or not for answers.
    for (at, byte) in [(0, 0x20), (1, 0x30), (9, 1), (9, 77)] {
        let mut other = frames[0].clone();
        other[message + at] = byte;
        assert_eq!(last.receive(LAN, &other), None, "byte {at} is {byte}");
    }
    for len in 0..frames[0].len() {
        let _cut = last.receive(LAN, &frames[0][..len]);
    }
    // Who isn't known gets nothing, and is counted.
    let mut nobody = frames[0].clone();
    nobody[14 + 10..14 + 12].copy_from_slice(&[0, 0]);
    let before = last.oam.counters().replies_unsent;
    assert_eq!(last.receive(LAN, &nobody), None);
    assert_eq!(last.oam.counters().replies_unsent, before + 1);
}

#[test]
fn replies_that_nobody_waits_for_are_counted() {
    let [mut first, _, mut last] = Router::three();
    let (asked, replies) = question(&[9]);
    let (_, frames) = first.ask(asked).unwrap();
    let reply = frame(last.receive(LAN, &frames[0]).unwrap());
    let mut other = reply.clone();
    other[14 + 12 + 8 + 15] ^= 1;
    first.receive(WAN, &other);
    drop(replies);
    first.receive(WAN, &reply);
    assert_eq!(first.oam.counters().replies_strange, 2, "another handle, and nobody there");
    let (asked, replies) = question(&[9]);
    let (_, frames) = first.ask(asked).unwrap();
    let reply = frame(last.receive(LAN, &frames[0]).unwrap());
    assert!(first.oam.is_waiting(first.now));
    first.now = first.now.plus(1_000_000_001);
    first.receive(WAN, &reply);
    assert!(replies.try_recv().is_err() && !first.oam.is_waiting(first.now), "too late");
}

#[test]
fn what_cant_be_asked_has_a_reason() {
    let [mut first, ..] = Router::three();
    let ask = |router: &mut Router, change: fn(&mut Question)| {
        let (mut asked, _replies) = question(&[9]);
        change(&mut asked);
        router.ask(asked).map(|_| ())
    };
    let no_table = AskError::NoTable { sub_domain: 0, id: id(65) };
    assert_eq!(ask(&mut first, |asked| asked.ids.push(id(65))), Err(no_table));
    assert_eq!(ask(&mut first, |asked| asked.sub_domain = SubDomain(1)), Err(AskError::NoSubDomain(1)));
    for _ in 0..64 {
        assert_eq!(ask(&mut first, |_| {}), Ok(()));
    }
    assert_eq!(ask(&mut first, |_| {}), Err(AskError::TooMany));
    let config = Config::parse("edge.toml", EDGE).unwrap();
    let builder = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    first.builder = builder;
    assert_eq!(ask(&mut first, |_| {}), Err(AskError::NoBier));
}

#[test]
fn the_latest_packet_that_went_in_circles_is_remembered() {
    let [mut first, ..] = Router::three();
    let (asked, _replies) = question(&[7, 9]);
    let (_, frames) = first.ask(asked).unwrap();
    let (tables, names) = (first.builder.tables(), first.builder.bier_names());
    let context =
        OamContext { tables, ports_down: PortsDown::default(), names, now: first.now, unix_nanos: 0 };
    first.oam.receive_expired(LAN, &frames[0], context);
    let expired = first.oam.expired().unwrap();
    assert_eq!((expired.interface, expired.bfir_id, expired.entropy), (LAN, Some(id(5)), 3));
    assert_eq!(expired.ids, [id(7), id(9)]);
}

/// The same routers with a tree of adjacencies: bits 1 and 2 are the links, 3 and 4 what the second and the third deliver.
fn three_with_adjacencies(more: &str) -> [Router; 3] {
    let of = |name, prefix, id, adjacencies: &str| {
        let te = format!(
            "[[bier.subdomain]]\nid = 1\nkind = \"bier-te\"\nbfr_id = {id}\nbitstring_bits = 64\n{more}\n\
             adjacencies = [{adjacencies}]\n"
        );
        Router::with(name, prefix, id, DOMAIN, &te)
    };
    [
        of("first", "192.0.2.1", 5, "{ bit = 1, kind = \"connected\", address = \"198.51.100.7\" }"),
        of(
            "middle",
            "10.255.0.7",
            7,
            "{ bit = 2, kind = \"connected\", address = \"198.51.100.9\" }, { bit = 3, kind = \"decap\" }",
        ),
        of("last", "10.255.0.9", 9, "{ bit = 4, kind = \"decap\" }"),
    ]
}

/// A question by that tree.
fn of_tree(receivers: &[u16]) -> (Question, Receiver<Reply>) {
    let (asked, replies) = question(&[1, 2, 3, 4]);
    let target = Some(receivers.iter().map(|one| id(*one)).collect());
    (Question { sub_domain: SubDomain(1), target, ..asked }, replies)
}

/// The request with these bits, as the router before left them.
fn with_bits(frame: &[u8], bits: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[14 + 12 + 7] = bits;
    frame
}

/// The bits don't lead back, so replies go by the sub-domain of routers, in BIER and in UDP.
#[test]
fn a_tree_of_adjacencies_is_traced_and_replies_go_by_routers() {
    let [mut first, mut middle, mut last] = three_with_adjacencies("replies_by = 0");
    let (asked, replies) = of_tree(&[3, 4]);
    let (told, frames) = first.ask(Question { ttl: 1, mappings: Some(vec![]), ..asked }).unwrap();
    let way = &told.ways[0].ways[0];
    assert_eq!(
        (way.prefix, way.ids().collect::<Vec<_>>()),
        ([198, 51, 100, 7].into(), [2, 3, 4].map(id).to_vec())
    );
    let reply = frame(middle.receive(LAN, &with_bits(&frames[0], 0b1110)).unwrap());
    let view = Shown::read(LAN, &reply, first.builder.tables()).unwrap();
    assert_eq!(
        (view.key.sub_domain, ids(view.key, &view.words()).collect::<Vec<_>>()),
        (SubDomain(0), vec![id(5)])
    );
    first.receive(WAN, &reply);
    let told = replies.try_recv().unwrap();
    assert_eq!((told.code, told.bfers), (ReturnCode::OneBfer, vec![id(3)]), "the bit by which it got there");
    let egress = told.mappings[0].egress().unwrap();
    assert_eq!(ids(egress.key, egress.bits.words()).collect::<Vec<_>>(), [id(4)]);
    let (asked, replies) = of_tree(&[4]);
    let (_, frames) = first.ask(Question { ttl: 2, mappings: Some(told.mappings), ..asked }).unwrap();
    first.receive(WAN, &frame(last.receive(LAN, &with_bits(&frames[0], 0b1000)).unwrap()));
    let told = replies.try_recv().unwrap();
    assert_eq!(
        (told.code, told.bfers, told.bfr),
        (ReturnCode::OnlyBfer, vec![id(4)], Some([10, 255, 0, 9].into()))
    );
    // The second isn't asked any more.
    assert_eq!(middle.receive(LAN, &with_bits(&frames[0], 0b0110)), None);

    // Of several copies to one router, each is right if the router before told of one like it.
    let downstream = Downstream::V4Unnumbered { prefix: [10, 255, 0, 9].into(), index: 0 };
    let copy = |bits: &[u16]| {
        let key = BiftKey { sub_domain: SubDomain(1), si: Si(0), bsl: Bsl::B64 };
        let bits = BitString::of(Bsl::B64, bits.iter().map(|bit| BitPosition::new(*bit, Bsl::B64).unwrap()));
        let sub_tlvs = vec![SubTlv::Egress(SetBits::new(key, bits))];
        Mapping { mtu: 0, wants_incoming: true, downstream, sub_tlvs }
    };
    let (asked, replies) = of_tree(&[4]);
    let known = Some(vec![copy(&[1, 4]), copy(&[4]), copy(&[3, 4])]);
    let (_, frames) = first.ask(Question { mappings: known, ..asked }).unwrap();
    for (bits, code) in [(0b1000, ReturnCode::OnlyBfer), (0b1010, ReturnCode::MappingMismatch)] {
        first.receive(WAN, &frame(last.receive(LAN, &with_bits(&frames[0], bits)).unwrap()));
        assert_eq!(replies.try_recv().unwrap().code, code);
    }

    let (asked, _replies) = of_tree(&[4]);
    let (_, frames) = first.ask(Question { reply_mode: ReplyMode::Udp, ..asked }).unwrap();
    let outgoing = last.receive(LAN, &with_bits(&frames[0], 0b1000));
    assert!(matches!(outgoing, Some(Outgoing::Ip(to, _)) if to == Addr::v4([192, 0, 2, 1])), "{outgoing:?}");
}

#[test]
fn a_tree_whose_replies_would_be_lost_isnt_asked() {
    let [mut first, _, mut last] = three_with_adjacencies("");
    let (asked, _replies) = of_tree(&[4]);
    assert_eq!(first.ask(asked).unwrap_err(), AskError::NoReplies(1));
    let [mut with, ..] = three_with_adjacencies("replies_by = 0");
    let (asked, _replies) = of_tree(&[4]);
    assert_eq!(with.ask(Question { target: None, ..asked }).unwrap_err(), AskError::NoReceivers(1));
    // Who isn't told where replies go counts them.
    let (asked, _replies) = of_tree(&[4]);
    let (_, frames) = with.ask(asked).unwrap();
    assert_eq!(last.receive(LAN, &with_bits(&frames[0], 0b1000)), None);
    assert_eq!(last.oam.counters().replies_unsent, 1);
}

/// What of parallel links is down is no way, as for the workers.
#[test]
fn ways_go_over_links_that_are_up() {
    let domain = DOMAIN.replacen(
        "link = [",
        "link = [\n{ a = \"first\", b = \"middle\", a_address = \"192.0.2.1\", b_address = \"192.0.2.7\" },",
        1,
    );
    let first = Router::with("first", "192.0.2.1", 5, &domain, "");
    let tables = first.builder.tables();
    let key = BiftKey { sub_domain: SubDomain(0), si: Si(0), bsl: Bsl::B64 };
    let words = [1 << 8];
    let links = |down: &[u16]| -> BTreeSet<Option<IpAddr>> {
        let down = down.iter().fold(PortsDown::default(), |all, port| all.with(PortId(*port), true));
        let way = |entropy| {
            let ways = Ways::of(tables, down, key, &words, entropy).unwrap().ways;
            ways.first().and_then(|way| way.link).map(|(address, _)| address)
        };
        (0..64).map(way).collect()
    };
    let [wan, lan] = [[192, 0, 2, 7], [198, 51, 100, 7]].map(|address| Some(IpAddr::from(address)));
    assert_eq!(links(&[]), [wan, lan].into());
    assert_eq!((links(&[0]), links(&[1])), ([lan].into(), [wan].into()));
    assert_eq!(links(&[0, 1]), [None].into());
}

/// Hosts can't be asked: who has their bits answers for all of them at once, by its own prefix.
#[test]
fn an_access_switch_answers_for_its_hosts() {
    let [mut first, ..] = Router::three();
    let legs = "\n[bier]\nbfr_prefix = \"10.255.0.7\"\n[[bier.subdomain]]\nid = 0\nbitstring_bits = 64\n\
         table = [\n\
         { neighbour = \"first\", address = \"198.51.100.5\", bfr_ids = \"5\" },\n\
         { neighbour = \"leg1\", encapsulation = \"none\", port = \"lan\", bfr_ids = \"9\" },\n\
         { neighbour = \"leg2\", encapsulation = \"none\", port = \"lan.20\", bfr_ids = \"10,11\" },\n]\n";
    let config = Config::parse("edge.toml", &format!("{EDGE}{legs}")).unwrap();
    let builder = TableBuilder::new(&config, &ports(), TableFiles::default(), HashKey(1, 2)).unwrap();
    let mut switch = Router { oam: Oam::new(7), builder, now: ms(0) };
    for (ids, code, ends) in [
        (&[9][..], ReturnCode::OnlyBfer, &[9][..]),
        (&[9, 11], ReturnCode::OnlyBfer, &[9, 11]),
        (&[9, 11, 5], ReturnCode::OneBfer, &[9, 11]),
    ] {
        let (asked, replies) = question(ids);
        let (_, frames) = first.ask(asked).unwrap();
        let reply = frame(switch.receive(LAN, &frames[0]).unwrap());
        first.receive(WAN, &reply);
        let told = replies.try_recv().unwrap();
        let ends: Vec<_> = ends.iter().map(|one| id(*one)).collect();
        assert_eq!((told.code, told.bfers, told.bfr), (code, ends, Some([10, 255, 0, 7].into())), "{ids:?}");
    }
}

use proptest::prelude::*;

use super::*;

fn fti() -> impl Strategy<Value = Fti> {
    (0..1u64 << 48, 1..=u16::MAX, 1..=255u8).prop_flat_map(|(size, segment, block)| {
        (0..=255 - block).prop_map(move |parity| Fti { size, segment, block, parity })
    })
}

fn sender_head() -> impl Strategy<Value = SenderHead> {
    (any::<u16>(), any::<u8>(), 0..16u8, 0..16u8)
        .prop_map(|(instance, grtt, backoff, group_size)| SenderHead { instance, grtt, backoff, group_size })
}

fn object_head() -> impl Strategy<Value = ObjectHead> {
    (sender_head(), any::<u8>(), any::<u16>(), prop::option::of(fti()))
        .prop_map(|(sender, flags, object, fti)| ObjectHead { sender, flags, object: ObjectId(object), fti })
}

fn payload_id() -> impl Strategy<Value = PayloadId> {
    (0..=BLOCK_MAX, any::<u8>()).prop_map(|(block, segment)| PayloadId { block, segment })
}

fn time() -> impl Strategy<Value = Duration> {
    (any::<u32>(), 0..1_000_000u32).prop_map(|(s, us)| Duration::new(s.into(), us * 1000))
}

fn feedback() -> impl Strategy<Value = Feedback> {
    let cc = (any::<u16>(), any::<u8>(), any::<u8>(), any::<u16>(), any::<u16>())
        .prop_map(|(sequence, flags, rtt, loss, rate)| CcFeedback { sequence, flags, rtt, loss, rate });
    (any::<u32>(), any::<u16>(), time(), prop::option::of(cc))
        .prop_map(|(sender, instance, echo, cc)| Feedback { sender: NodeId(sender), instance, echo, cc })
}

/// Emits and parses; both must be the same.
fn round_trip(message: Message<'_>) -> Result<(), TestCaseError> {
    let packet = Packet { sequence: 0x1234, source: NodeId(0x0a0b_0c0d), message };
    let bytes = packet.to_vec();
    prop_assert_eq!(parse(&bytes), Ok(packet));
    // Any cut is found, or takes whole items off a list, or bytes off free content.
    for cut in 0..bytes.len() {
        let _ = parse(&bytes[..cut]);
    }
    Ok(())
}

proptest! {
    #[test]
    fn objects_are_read_as_written(head in object_head(), id in payload_id(), content in prop::collection::vec(any::<u8>(), 0..40)) {
        round_trip(Message::Info { head, content: &content })?;
        round_trip(Message::Data { head, id, content: &content })?;
    }

    #[test]
    fn commands_are_read_as_written(
        head in sender_head(),
        (object, id) in (any::<u16>().prop_map(ObjectId), payload_id()),
        nodes in prop::collection::vec(any::<[u8; 4]>(), 0..5),
        objects in prop::collection::vec(any::<[u8; 2]>(), 0..5),
        cc in prop::collection::vec(any::<[u8; 8]>(), 0..5),
        sent in time(),
        rate in prop::option::of(any::<u16>()),
    ) {
        let nodes = NodeIds::of(&nodes);
        let commands = [
            Command::Flush { object, id, nodes },
            Command::Squelch { object, id, gone: ObjectIds::of(&objects) },
            Command::Cc { sequence: object.0, sent, rate, nodes: CcNodes::of(&cc) },
            Command::Eot,
            Command::RepairAdv { requests: Requests::default() },
            Command::AckRequest { kind: 2, id: 3, nodes },
            Command::Application { content: b"hello" },
        ];
        for command in commands {
            round_trip(Message::Command { head, command })?;
        }
        let back: Vec<_> = CcNodes::of(&cc).iter().map(CcNode::bytes).collect();
        prop_assert_eq!(back, cc);
    }

    #[test]
    fn feedback_is_read_as_written(
        feedback in feedback(),
        object in any::<u16>().prop_map(ObjectId),
        ids in prop::collection::vec((payload_id(), payload_id(), 0..4u8, any::<bool>()), 0..20),
        len_max in 0..200usize,
    ) {
        for acked in [Acked::Cc, Acked::Flush { object, id: PayloadId { block: 7, segment: 9 } }, Acked::Application(17)] {
            round_trip(Message::Ack { feedback, id: 5, acked })?;
        }
        let mut builder = RequestBuilder::new(len_max);
        let mut added = Vec::new();
        for (first, last, level, info) in ids {
            let level = [Level::Segment, Level::Block, Level::Object, Level::Info][usize::from(level)];
            let info = info || level == Level::Info;
            let span = Span { first: Item { object, id: first }, last: Item { object, id: last } };
            if builder.add(level, info, span) {
                added.push((level, info, span));
            }
        }
        let requests = builder.requests();
        prop_assert!(requests.bytes().len() <= len_max && builder.is_empty() == added.is_empty());
        round_trip(Message::Nack { feedback, requests })?;
        let back: Vec<_> = requests.iter().flat_map(|r| r.spans().map(move |span| (r.level, r.info, span))).collect();
        prop_assert_eq!(back, added);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0..8u8) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION << 4 | kind;
        }
        if let Ok(packet) = parse(&bytes) {
            // Extensions that aren't known, and reserved bytes, are lost; what is written says the same again.
            let again = packet.to_vec();
            prop_assert_eq!(parse(&again), Ok(packet));
        }
    }
}

#[test]
fn a_data_message_has_the_layout_of_section_4_2_1() {
    let sender = SenderHead { instance: 0x0102, grtt: 3, backoff: 4, group_size: 5 };
    let fti = Fti { size: 0x0605_0403_0201, segment: 1400, block: 64, parity: 32 };
    let head = ObjectHead { sender, flags: flags::INFO | flags::FILE, object: ObjectId(6), fti: Some(fti) };
    let id = PayloadId { block: 0x00ab_cdef, segment: 7 };
    let packet =
        Packet { sequence: 8, source: NodeId(9), message: Message::Data { head, id, content: b"xy" } };
    #[rustfmt::skip]
    assert_eq!(packet.to_vec(), [
        0x12, 8, 0, 8,   0, 0, 0, 9,   1, 2, 3, 0x45,   0x14, 5, 0, 6,   0xab, 0xcd, 0xef, 7,
        64, 3, 6, 5, 4, 3, 2, 1, 0x05, 0x78, 64, 32,   b'x', b'y',
    ]);
}

#[test]
fn each_fault_has_its_name() {
    let head = SenderHead { instance: 1, grtt: 2, backoff: 0, group_size: 1 };
    let fti = Fti { size: 1, segment: 1, block: 1, parity: 0 };
    let object = ObjectHead { sender: head, flags: 0, object: ObjectId(1), fti: Some(fti) };
    let packet = |message| Packet { sequence: 1, source: NodeId(2), message }.to_vec();
    let data = packet(Message::Data { head: object, id: PayloadId::default(), content: b"" });
    let flush =
        Command::Flush { object: ObjectId(1), id: PayloadId::default(), nodes: NodeIds::of(&[[0; 4]]) };
    let flush = packet(Message::Command { head, command: flush });
    let mut builder = RequestBuilder::new(100);
    let item = Item { object: ObjectId(1), id: PayloadId::default() };
    builder.add(Level::Segment, false, Span { first: item, last: item });
    let feedback = Feedback { sender: NodeId(1), instance: 1, echo: Duration::ZERO, cc: None };
    let nack = packet(Message::Nack { feedback, requests: builder.requests() });
    let ack =
        packet(Message::Ack { feedback, id: 0, acked: Acked::Flush { object: ObjectId(1), id: item.id } });

    let with = |bytes: &[u8], at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        bytes
    };
    let cases = [
        (data[..7].to_vec(), Malformed::Cut),
        (data[..31].to_vec(), Malformed::Cut),
        (with(&data, 0, 0x22), Malformed::Version),
        (with(&data, 0, 0x16), Malformed::Type),
        (with(&data, 1, 1), Malformed::HeaderLength),
        (with(&data, 1, 4), Malformed::HeaderLength),
        (with(&data, 1, 7), Malformed::Extension),
        (with(&data, 21, 0), Malformed::Extension),
        (with(&data, 21, 4), Malformed::Extension),
        (with(&data, 13, 129), Malformed::Fec),
        (with(&data, 30, 0), Malformed::Fti),
        (with(&data, 31, 255), Malformed::Fti),
        (with(&flush, 12, 9), Malformed::Command),
        (flush[..flush.len() - 1].to_vec(), Malformed::List),
        (with(&flush, 13, 129), Malformed::Fec),
        (with(&nack, 24, 4), Malformed::Request),
        (with(&nack, 24, 2), Malformed::Request),
        (with(&nack, 25, 0), Malformed::Request),
        (with(&nack, 27, 7), Malformed::List),
        (with(&nack, 27, 16), Malformed::Cut),
        (with(&nack, 28, 129), Malformed::Fec),
        (with(&ack, 14, 3), Malformed::AckType),
        (ack[..31].to_vec(), Malformed::Cut),
    ];
    for (at, (bytes, fault)) in cases.iter().enumerate() {
        assert_eq!(parse(bytes), Err(*fault), "case {at}");
    }
    assert!(Malformed::ALL.iter().all(|fault| cases.iter().any(|(_, other)| other == fault)));
}

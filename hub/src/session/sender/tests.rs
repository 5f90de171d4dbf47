use millrace_bier::id::{BfrId, Bsl};

use super::*;
use crate::norm::{BLOCK_MAX, Command, Feedback, Item, Level, NodeId, PayloadId, RequestBuilder, Span};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn node(at: u16) -> Node {
    Node {
        id: NodeId(u32::from(at) + 2),
        bfr: BfrId::new(at + 1).unwrap(),
        address: [10, 0, 0, at as u8].into(),
    }
}

/// A sender with so many nodes; blocks of its objects have two segments.
fn sender(nodes: u16) -> Sender {
    let mut roster = Roster::new(Bsl::B256);
    (0..nodes).for_each(|at| assert!(roster.add(node(at)).is_ok()));
    let mut config = Config { segment: 4, block: 2, parity: 1, ..Config::lan(NodeId(1), 7) };
    // Whoever asks for much stays where it is.
    config.straggler.owed_max = u64::MAX;
    Sender::new(config, roster, Duration::ZERO)
}

/// A node's request for an object from this block on, of one that has seen what was sent until now.
fn nack(at: u16, object: ObjectId, block: u32, echo: Duration) -> Vec<u8> {
    let mut builder = RequestBuilder::new(100);
    let item = |block| Item { object, id: PayloadId { block, segment: 0 } };
    assert!(builder.add(Level::Block, false, Span { first: item(block), last: item(BLOCK_MAX) }));
    let feedback = Feedback { sender: NodeId(1), instance: 7, echo: echo + Duration::from_secs(1), cc: None };
    let message = Message::Nack { feedback, requests: builder.requests() };
    Packet { sequence: 0, source: node(at).id, message }.to_vec()
}

/// What is sent in this time, with what it is and who gets it; timeouts are never in the past.
fn run(
    sender: &mut Sender,
    now: &mut Duration,
    until: Duration,
    mut each: impl FnMut(&Sender, Duration, &Transmit),
) {
    loop {
        while let Some(transmit) = sender.poll_transmit(*now) {
            each(sender, *now, &transmit);
        }
        let Some(wake) = sender.poll_timeout().filter(|wake| *wake < until) else { break };
        assert!(wake > *now, "a timeout at {wake:?} at {now:?}");
        *now = wake;
    }
    *now = until;
}

fn is_for(sender: &Sender, transmit: &Transmit, node: NodeIndex) -> bool {
    match &transmit.to {
        To::Everyone => sender.everyone.contains(node),
        To::These(nodes) => nodes.contains(node),
    }
}

/// Whether a packet asks a node for its acknowledgement.
fn asks(transmit: &Transmit, id: NodeId) -> bool {
    match crate::norm::parse(&transmit.header).map(|packet| packet.message) {
        Ok(Message::Command { command: Command::Flush { nodes, .. }, .. }) => {
            nodes.iter().any(|one| one == id)
        }
        _ => false,
    }
}

/// One request that names a hundred thousand blocks is worked off little by little, and those served apart go on.
#[test]
fn a_request_for_a_huge_object_waits_in_the_ledger_and_the_other_lane_goes_on() {
    const BLOCKS: u64 = 100_000;
    let mut sender = sender(3);
    let offer = Offer { sent: 2 * BLOCKS, ..Offer::file(8 * BLOCKS, Vec::new()) };
    let object = sender.announce(Duration::ZERO, offer).unwrap();
    let mut now = Duration::ZERO;
    // It begins apart, with the first segment.
    let joiner = sender.join(now, node(3), |_| true).unwrap();
    run(&mut sender, &mut now, ms(500), |_, _, _| {});
    let (mut repairs, mut filled, mut most) = (0, 0, 0);
    let (mut last_repair, mut asked) = (now, None);
    while asked.is_none() {
        assert!(now < Duration::from_secs(10), "{repairs} repairs");
        if repairs < 2 * BLOCKS {
            sender.handle(now, node(0).address, &nack(0, object, (repairs / 2) as u32, now));
        }
        let until = now + ms(20);
        run(&mut sender, &mut now, until, |sender, now, transmit| {
            most = most.max(sender.queues.iter().map(|queue| queue.repairs.len()).max().unwrap());
            match transmit.kind {
                Kind::Repair => {
                    assert!(
                        is_for(sender, transmit, NodeIndex(0)) && !is_for(sender, transmit, NodeIndex(1))
                    );
                    (repairs, last_repair) = (repairs + 1, now);
                }
                Kind::First => {
                    assert!(is_for(sender, transmit, joiner));
                    filled += 1;
                }
                Kind::Control if asks(transmit, node(0).id) => asked = asked.or(Some(now)),
                Kind::Control => {}
            }
        });
    }
    assert!(most <= 256 + 2, "{most} repairs waited at once");
    assert_eq!(repairs, 2 * BLOCKS);
    // It is asked whether it has everything when the round is over, and not before.
    let after = asked.unwrap().checked_sub(last_repair).unwrap();
    assert!(after <= sender.overtaking() + ms(2), "asked {after:?} later");
    assert!(filled > BLOCKS / 10, "{filled} to the one that joined");
}

/// A datagram that names a huge object a hundred times costs no more than one that names what is looked at, once.
#[test]
fn a_request_is_looked_at_as_far_as_its_share_of_blocks() {
    let mut sender = sender(1);
    let offer = Offer { sent: 200_000, ..Offer::file(800_000, Vec::new()) };
    let object = sender.announce(Duration::ZERO, offer).unwrap();
    let mut builder = RequestBuilder::new(2000);
    for _ in 0..100 {
        let item = |block| Item { object, id: PayloadId { block, segment: 0 } };
        assert!(builder.add(Level::Block, false, Span { first: item(0), last: item(BLOCK_MAX) }));
    }
    let feedback = Feedback { sender: NodeId(1), instance: 7, echo: Duration::ZERO, cc: None };
    let message = Message::Nack { feedback, requests: builder.requests() };
    let datagram = Packet { sequence: 0, source: node(0).id, message }.to_vec();
    sender.handle(ms(500), node(0).address, &datagram);
    assert_eq!(sender.missing(object, NodeIndex(0)).len(), 4095, "and the span itself");
    let ignored = |reason| sender.counters().ignored(reason);
    assert_eq!((ignored(Ignored::TooMuch), ignored(Ignored::Duplicate)), (1, 0));
    // Whoever says it again and again isn't looked at again before the round is over.
    for _ in 0..10 {
        sender.handle(ms(501), node(0).address, &datagram);
    }
    let ignored = |sender: &Sender, reason| sender.counters().ignored(reason);
    assert_eq!((ignored(&sender, Ignored::TooMuch), ignored(&sender, Ignored::Duplicate)), (11, 0));
    sender.handle(ms(1500), node(0).address, &datagram);
    assert_eq!((ignored(&sender, Ignored::TooMuch), ignored(&sender, Ignored::Duplicate)), (12, 4095));
}

/// Repairs that nobody waits for any more make room for what waits behind them, in the same poll.
#[test]
fn repairs_that_are_void_hold_nothing_up() {
    let mut sender = sender(2);
    let objects = [0, 1].map(|_| {
        let offer = Offer { sent: 2000, ..Offer::file(8000, Vec::new()) };
        sender.announce(Duration::ZERO, offer).unwrap()
    });
    let mut now = Duration::ZERO;
    run(&mut sender, &mut now, ms(500), |_, _, _| {});
    sender.handle(now, node(0).address, &nack(0, objects[0], 0, now));
    sender.handle(now, node(1).address, &nack(1, objects[1], 0, now));
    now = sender.poll_timeout().unwrap();
    // The first one's repairs fill the queue when it leaves.
    while sender.queues[0].repairs.len() < 256 {
        now = now.max(sender.poll_timeout().unwrap());
        assert!(sender.poll_transmit(now).is_some_and(|transmit| transmit.kind != Kind::First));
    }
    assert!(sender.queues[0].repairs.iter().all(|repair| repair.object == objects[0]));
    sender.leave(NodeIndex(0));
    let (left, mut first, mut repairs) = (now + ms(100), None, 0);
    now = left;
    run(&mut sender, &mut now, left + ms(500), |_, now, transmit| {
        if transmit.kind == Kind::Repair {
            assert!(matches!(transmit.body, Body::Source { object, .. } if object == objects[1]));
            first.get_or_insert(now);
            repairs += 1;
        }
    });
    assert_eq!((first, repairs), (Some(left), 2000));
}

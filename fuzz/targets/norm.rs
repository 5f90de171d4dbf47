//! Any bytes as NORM messages, at a parser, a sender and a receiver that are in the middle of a transfer: what is read is
//! written again the same; nobody is sent what only others asked for; bounds hold; bytes that are stored are right.

#![no_main]

use core::net::IpAddr;
use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use millrace_bier::id::{BfrId, Bsl};
use millrace_hub::nodes::{Node, NodeIndex, Roster};
use millrace_hub::norm::{NodeId, ObjectId, parse};
use millrace_hub::session::{Config, Kind, Offer, Receiver, ReceiverConfig, Sender, Storage, To, Unstored};

const HUB: [u8; 4] = [10, 0, 0, 1];
const SIZE: u64 = 40 * 16 - 3;

struct Counted(u64);

impl Storage for Counted {
    fn write(&mut self, _: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
        self.0 += 1;
        assert!(offset + (bytes.len() as u64) <= 1 << 20, "nothing beyond the object is stored");
        Ok(())
    }

    fn read(&mut self, _: ObjectId, _: u64, out: &mut [u8]) -> Result<(), Unstored> {
        out.fill(0);
        Ok(())
    }
}

/// A sender that has sent all once, and when that was.
fn sender() -> (Sender, Duration) {
    let mut roster = Roster::new(Bsl::B64);
    for at in 2..5u16 {
        let node = Node {
            id: NodeId(at.into()),
            bfr: BfrId::new(at).unwrap(),
            address: [10, 0, 0, at as u8].into(),
        };
        roster.add(node).unwrap();
    }
    let config = Config { segment: 16, block: 8, parity: 4, ..Config::lan(NodeId(1), 1) };
    let mut now = Duration::from_secs(1);
    let mut sender = Sender::new(config, roster, now);
    let object = sender.announce(now, Offer::file(SIZE, b"a".to_vec())).unwrap();
    while sender.progress(object).any(|node| node.sent < node.segments) {
        now = now.max(sender.poll_timeout().unwrap());
        while sender.poll_transmit(now).is_some() {}
    }
    (sender, now)
}

// Messages, each behind a byte of length, with another for when and from whom.
fuzz_target!(|input: &[u8]| {
    let (mut sender, mut now) = sender();
    let mut receiver = Receiver::new(ReceiverConfig {
        size_max: 1 << 20,
        objects_max: 4,
        parity_max: 4096,
        ..ReceiverConfig::new(NodeId(2), NodeId(1), IpAddr::from(HUB))
    });
    let mut storage = Counted(0);
    let (mut rest, mut asked) = (input, [false; 3]);
    while let [len, how, after @ ..] = rest {
        let (message, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        now += Duration::from_millis(u64::from(how >> 3));
        if let Ok(packet) = parse(message) {
            assert_eq!(parse(&packet.to_vec()), Ok(packet));
        }
        let node = how & 3;
        let from: IpAddr = [10, 0, 0, 2 + node].into();
        let before = sender.counters().nacks;
        sender.handle(now, from, message);
        if let (true, Some(asked)) = (sender.counters().nacks > before, asked.get_mut(usize::from(node))) {
            *asked = true;
        }
        receiver.handle(now, HUB.into(), message, &mut storage);
        for _ in 0..200 {
            let Some(packet) = sender.poll_transmit(now) else { break };
            let repaired = match (&packet.to, packet.kind) {
                (To::These(nodes), Kind::Repair) => nodes.iter().collect(),
                (To::Everyone, Kind::Repair) => vec![NodeIndex(0), NodeIndex(1), NodeIndex(2)],
                _ => Vec::new(),
            };
            assert!(
                repaired.iter().all(|node| asked[usize::from(node.0)]),
                "a repair for one that asked for nothing"
            );
            assert!(parse(&packet.header).is_ok() && packet.message_len() <= 64);
        }
        while let Some(message) = receiver.poll_transmit(now) {
            assert!(parse(&message).is_ok());
        }
        while sender.poll_event().is_some() || receiver.poll_event().is_some() {}
    }
});

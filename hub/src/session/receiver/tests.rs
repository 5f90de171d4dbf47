use proptest::prelude::*;

use super::*;
use crate::norm::{Fti, ObjectHead};

const SENDER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

struct Nowhere;

impl Storage for Nowhere {
    fn write(&mut self, _: ObjectId, _: u64, _: &[u8]) -> Result<(), Unstored> {
        Ok(())
    }

    fn read(&mut self, _: ObjectId, _: u64, _: &mut [u8]) -> Result<(), Unstored> {
        Err(Unstored)
    }
}

/// A segment of an object of two.
fn segment(object: u16) -> Vec<u8> {
    let sender = SenderHead { instance: 1, grtt: 3, backoff: 0, group_size: 1 };
    let fti = Some(Fti { size: 2, segment: 1, block: 2, parity: 0 });
    let head = ObjectHead { sender, flags: flags::FILE, object: ObjectId(object), fti };
    let message = Message::Data { head, id: PayloadId::default(), content: b"x" };
    Packet { sequence: 0, source: NodeId(1), message }.to_vec()
}

proptest! {
    // Numbers wrap around, and what is half of them away is neither before nor after.
    #[test]
    fn whatever_numbers_objects_have_the_newest_are_kept(
        numbers in prop::collection::vec(prop_oneof![0..4u16, 0x7ffe..0x8002u16, 0xfffc..=0xffffu16, any::<u16>()], 1..20),
    ) {
        let config = ReceiverConfig { objects_max: 3, ..ReceiverConfig::new(NodeId(2), NodeId(1), SENDER) };
        let mut receiver = Receiver::new(config);
        let mut newest = numbers[0];
        for number in numbers {
            if number.wrapping_sub(newest) < 0x8000 {
                newest = number;
            }
            receiver.handle(Duration::ZERO, SENDER, &segment(number), &mut Nowhere);
            prop_assert!(receiver.objects.len() <= 3);
            prop_assert!(receiver.objects.keys().all(|kept| newest.wrapping_sub(kept.0) < 0x8000));
            prop_assert!(receiver.objects.contains_key(&ObjectId(newest)));
            prop_assert_eq!(receiver.objects.contains_key(&ObjectId(number)), newest.wrapping_sub(number) < 3);
        }
    }
}

/// One that was there while it was near isn't kept when it has fallen behind.
#[test]
fn what_falls_behind_is_given_up_even_where_there_is_room() {
    let config = ReceiverConfig { objects_max: 3, ..ReceiverConfig::new(NodeId(2), NodeId(1), SENDER) };
    let mut receiver = Receiver::new(config);
    for number in [0, 65534, 1] {
        receiver.handle(Duration::ZERO, SENDER, &segment(number), &mut Nowhere);
    }
    assert!(receiver.objects.keys().eq(&[ObjectId(0), ObjectId(1)]));
}

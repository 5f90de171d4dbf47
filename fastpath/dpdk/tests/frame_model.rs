//! Frames keep their edges and bytes as a plain model does, whatever is done to them in whatever order.

mod common;

use common::{PORT, assert_all_back, eal, open, receive_all, unique};
use millrace_fastpath::driver::{Burst, Driver, Frame};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// A buffer as a vector and two indices.
struct Model {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Prepend(usize),
    TrimFront(usize),
    Extend(usize),
    Truncate(usize),
    Fill(u8),
    Send,
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![0_usize..80, 0_usize..2200, Just(usize::from(u16::MAX)), Just(70_000_usize)];
    (len, any::<u8>(), 0..8).prop_map(|(len, byte, kind)| match kind {
        0 | 1 => Operation::Prepend(len),
        2 => Operation::TrimFront(len),
        3 | 4 => Operation::Extend(len),
        5 => Operation::Truncate(len),
        6 => Operation::Fill(byte),
        _ => Operation::Send,
    })
}

impl Model {
    fn len(&self) -> usize {
        self.end - self.begin
    }

    /// Whether the operation was possible, and done.
    fn apply(&mut self, operation: Operation) -> bool {
        match operation {
            Operation::Prepend(len) if len <= self.begin => self.begin -= len,
            Operation::TrimFront(len) if len <= self.len() => self.begin += len,
            Operation::Extend(len) if len <= self.buffer.len() - self.end => self.end += len,
            Operation::Truncate(len) if len <= self.len() => self.end = self.begin + len,
            Operation::Fill(byte) => self.buffer[self.begin..self.end].fill(byte),
            Operation::Send => {}
            _ => return false,
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_frame_is_its_model(operations in proptest::collection::vec(operation(), 1..60)) {
        let (ports, mut drivers) = open(eal(), &unique("net_ring"), 1, 15);
        let driver = &mut drivers[0];
        let mut frame = driver.allocate(PORT).unwrap();
        let size = frame.headroom() + frame.tailroom();
        prop_assert_eq!((frame.headroom(), frame.bytes().len()), (128, 0));
        let mut model = Model { buffer: vec![0; size], begin: frame.headroom(), end: frame.headroom() };
        for operation in operations {
            let before = model.begin..model.end;
            let done = match operation {
                Operation::Prepend(len) => frame.prepend(len),
                Operation::TrimFront(len) => frame.trim_front(len),
                Operation::Extend(len) => frame.extend(len),
                Operation::Truncate(len) => frame.truncate(len),
                Operation::Fill(byte) => {
                    frame.bytes_mut().fill(byte);
                    true
                }
                Operation::Send => {
                    let mut burst: Burst<_> = [frame].into_iter().collect();
                    prop_assert_eq!(driver.transmit(PORT, &mut burst), 1);
                    frame = receive_all(driver).pop().expect("what was sent comes back");
                    true
                }
            };
            prop_assert_eq!(done, model.apply(operation), "{:?}", operation);
            // New bytes are unspecified: the model takes them as they are, the old ones it knows.
            for at in model.begin..model.end {
                let byte = frame.bytes()[at - model.begin];
                if before.contains(&at) {
                    if !matches!(operation, Operation::Fill(_)) {
                        prop_assert_eq!(byte, model.buffer[at], "{:?} changed a byte", operation);
                    }
                } else {
                    model.buffer[at] = byte;
                }
            }
            let (headroom, tailroom) = (model.begin, model.buffer.len() - model.end);
            prop_assert_eq!((frame.headroom(), frame.tailroom()), (headroom, tailroom));
            prop_assert_eq!(frame.bytes(), &model.buffer[model.begin..model.end]);
            prop_assert_eq!((frame.total_len(), frame.segments()), (model.len(), 1));
        }
        drop(frame);
        assert_all_back(&ports);
    }
}

//! Frames between the workers and us. Parcels go round, and none is ever made or lost: one that is kept here for a while is
//! owed to its worker, and one that leaves by the other queue is paid for with an empty one from there.

use std::sync::Arc;

use millrace_fastpath::queue::{Injected, Parcel};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};

/// A parcel in our keeping, and the worker that it belongs to.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) worker: usize,
    pub(super) parcel: Box<Parcel>,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.worker == other.worker && self.parcel.bytes() == other.parcel.bytes()
    }
}

/// The way to and from the workers.
#[derive(Debug)]
pub(super) struct Parcels {
    shared: Arc<Shared>,
    next: usize,
    /// Frames of ours, or that waited, which the workers' queues had no room for.
    pub(super) refused: u64,
}

impl Parcels {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, next: 0, refused: 0 }
    }

    /// The next frame that a worker sent up.
    pub(super) fn receive(&mut self, worker: usize) -> Option<Kept> {
        let parcel = self.shared.workers[worker].queues.punts.pop()?;
        Some(Kept { worker, parcel })
    }

    /// An empty parcel with this frame in it, as if a worker had sent it up; `None` where none is free, or it is too long.
    pub(super) fn fill(&mut self, frame: &[u8]) -> Option<Kept> {
        let worker = self.next;
        let mut parcel = self.shared.workers[worker].queues.punts_empty.pop()?;
        let fits = parcel.fill(frame);
        let kept = Kept { worker, parcel };
        if fits {
            return Some(kept);
        }
        self.give_back(kept);
        None
    }

    /// Gives an emptied parcel back.
    pub(super) fn give_back(&mut self, kept: Kept) {
        // The queue has room for all parcels that there are.
        let _ = self.shared.workers[kept.worker].queues.punts_empty.push(kept.parcel);
    }

    /// Sends a frame of ours by whichever worker has room, in turns.
    pub(super) fn send(&mut self, interface: InterfaceId, frame: &[u8]) {
        self.inject(Injected::Frame, interface, frame);
    }

    /// The same for whatever a frame is.
    pub(super) fn inject(&mut self, what: Injected, interface: InterfaceId, frame: &[u8]) {
        let workers = self.shared.workers.len();
        for at in (self.next..self.next + workers).map(|at| at % workers) {
            let queues = &self.shared.workers[at].queues;
            let Some(mut parcel) = queues.injects_empty.pop() else { continue };
            self.next = (at + 1) % workers;
            (parcel.interface, parcel.injected) = (interface, what);
            let fits = parcel.fill(frame);
            let sent = if fits { queues.injects.push(parcel) } else { Err(parcel) };
            let Err(parcel) = sent else { return };
            let _ = queues.injects_empty.push(parcel);
            break;
        }
        self.refused += 1;
    }

    /// Sends a frame that waited for its neighbour: fills in the Ethernet header, and lets the worker have it without
    /// a copy.
    pub(super) fn forward(&mut self, interface: InterfaceId, from: Mac, to: Mac, mut kept: Kept) {
        let queues = &self.shared.workers[kept.worker].queues;
        let bytes = kept.parcel.bytes_mut();
        let Some(empty) = queues.injects_empty.pop().filter(|_| bytes.len() > 14) else {
            self.refused += 1;
            return self.give_back(kept);
        };
        bytes[..6].copy_from_slice(&to);
        bytes[6..12].copy_from_slice(&from);
        let ethertype: u16 = if bytes[14] >> 4 == 6 { 0x86dd } else { 0x0800 };
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        (kept.parcel.interface, kept.parcel.injected) = (interface, Injected::Frame);
        match queues.injects.push(kept.parcel) {
            Ok(()) => {
                let _ = queues.punts_empty.push(empty);
            }
            Err(parcel) => {
                self.refused += 1;
                let _ = queues.injects_empty.push(empty);
                let _ = queues.punts_empty.push(parcel);
            }
        }
    }
}

/// Tokens for work that strangers can ask for.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    burst: u64,
    tokens: u64,
    filled: millrace_fastpath::clock::Nanos,
}

impl Bucket {
    pub(crate) fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second, burst, tokens: burst, filled: Default::default() }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: millrace_fastpath::clock::Nanos) -> bool {
        let nanos_each = 1_000_000_000 / self.per_second;
        let fresh = now.since(self.filled) / nanos_each;
        if fresh >= self.burst {
            self.tokens = self.burst;
            self.filled = now;
        } else if fresh > 0 {
            self.tokens = (self.tokens + fresh).min(self.burst);
            self.filled = self.filled.plus(fresh * nanos_each);
        }
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use millrace_fastpath::clock::Nanos;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(1000, 5);
        let mut taken = 0;
        for micros in 0..10_000u64 {
            taken += u64::from(bucket.take(Nanos(1_000_000_000 + micros * 1000)));
        }
        assert_eq!(taken, 5 + 9);
    }

    #[test]
    fn parcels_are_neither_made_nor_lost() {
        let shared = Shared::new(1);
        let queues = &shared.workers[0].queues;
        let mut parcels = Parcels::new(Arc::clone(&shared));
        let all = queues.punts_empty.len();
        for round in 0..2000u32 {
            let mut parcel = queues.punts_empty.pop().unwrap();
            assert!(parcel.fill(&[0x45; 64]));
            queues.punts.push(parcel).unwrap();
            let kept = parcels.receive(0).unwrap();
            match round % 3 {
                0 => parcels.give_back(kept),
                _ => parcels.forward(InterfaceId(0), [2; 6], [4; 6], kept),
            }
            parcels.send(InterfaceId(0), &[0; 60]);
            if round % 5 != 0 {
                while let Some(parcel) = queues.injects.pop() {
                    queues.injects_empty.push(parcel).unwrap();
                }
            }
            assert_eq!(queues.punts_empty.len(), all, "round {round}");
            assert_eq!(queues.injects_empty.len() + queues.injects.len(), all, "round {round}");
        }
    }

    #[test]
    fn what_waited_leaves_with_its_ethernet_header() {
        let shared = Shared::new(1);
        let queues = &shared.workers[0].queues;
        let mut parcels = Parcels::new(Arc::clone(&shared));
        for (version, ethertype) in [(0x45, 0x0800u16), (0x60, 0x86dd)] {
            let mut parcel = queues.punts_empty.pop().unwrap();
            assert!(parcel.fill(&[version; 60]));
            parcels.forward(InterfaceId(3), [2; 6], [4; 6], Kept { worker: 0, parcel });
            let sent = queues.injects.pop().unwrap();
            assert_eq!(sent.interface, InterfaceId(3));
            assert_eq!(&sent.bytes()[..12], [[4; 6], [2; 6]].concat());
            assert_eq!(sent.bytes()[12..14], ethertype.to_be_bytes());
        }
    }
}

//! `node.bier.reroute`: how many bursts pass from when a port is known to be down to the first copy on the backup.
//!
//! A count, so it needs no device: frames come from and go to queues in memory, a burst with each poll.

use std::sync::Arc;

use millrace_bier::id::Bsl;
use millrace_dpdk::TscClock;
use millrace_fastpath::driver::{BURST_MAX, PortId};
use millrace_fastpath::heap::{HeapDriver, HeapNet, HeapPlan};
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

use super::report::{Better, Entry, Report};
use super::{BenchError, BenchOptions, scene};

const NAME: &str = "node.bier.reroute";
const FRAME: usize = 1500;
/// Where frames come, and copies leave while the other port is down.
const BACKUP: PortId = PortId(0);
const PRIMARY: PortId = PortId(1);
/// A count that doesn't vary needs no more.
const FAILURES: usize = 100;
/// A reroute that takes longer never happens.
const BURSTS_MAX: usize = 100;

/// Takes the link down and up again, and counts.
pub(super) fn measure(options: &BenchOptions, report: &mut Report) -> Result<(), BenchError> {
    if !options.wants(NAME) {
        return Ok(());
    }
    let plan = HeapPlan { ports: 2, workers: 1, ..HeapPlan::default() };
    let (net, mut drivers) = HeapNet::new(&plan);
    let shared = Shared::new(1);
    let mut publisher = Publisher::new(Arc::clone(&shared));
    publisher.publish(scene::with_bier_backup(Bsl::B256, PRIMARY));
    let limits = WorkerLimits { flows: 16, ..WorkerLimits::default() };
    let driver = drivers.pop().ok_or(BenchError::Frames)?;
    let mut worker =
        Worker::new(0, driver, TscClock::start(), Arc::clone(&shared), Rings::new(1), [7, 11], &limits);
    let frame = scene::bier_frame(Bsl::B256, 0, &[1], FRAME);
    let mut counts = Vec::new();
    for _ in 0..FAILURES {
        for (port, down) in [(PRIMARY, false), (BACKUP, true)] {
            shared.set_port_down(PRIMARY, down);
            let bursts = bursts_until(&net, &mut worker, port, &frame)?;
            if down {
                counts.push(bursts as f64);
            }
        }
    }
    report.add(Entry::alone(NAME, "bursts", Better::Lower, &counts));
    Ok(())
}

/// Bursts until there is a copy on this port.
fn bursts_until(
    net: &HeapNet,
    worker: &mut Worker<HeapDriver, TscClock>,
    port: PortId,
    frame: &[u8],
) -> Result<usize, BenchError> {
    for burst in 1..=BURSTS_MAX {
        if !(0..BURST_MAX).all(|_| net.deliver(BACKUP, 0, frame)) {
            return Err(BenchError::Frames);
        }
        worker.poll();
        let sent = |port| std::iter::from_fn(|| net.take(port)).count();
        let counts = [BACKUP, PRIMARY].map(sent);
        if counts[port.index()] > 0 {
            return Ok(burst);
        }
    }
    Err(BenchError::Fate { name: NAME.to_owned(), why: format!("{:?}", worker.fates()) })
}

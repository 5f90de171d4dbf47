//! `hub.send`: what a segment costs the worker that sends it, beside testpmd that does nothing but send.
//!
//! ```text
//!   ours     lane ──► worker: the frame, another lent, Ethernet or BIER ──► freed      filled in between, which isn't measured
//!   copy     buffer, the same bytes ──► freed                                          what a worker that copies needs at least
//!   testpmd  buffer, 42 bytes of header ──► net_null: freed                            `txonly`, frames of the same length
//! ```
//!
//! testpmd never touches what follows its headers, nor do we: the hub's thread has written it. `hub.send.over_copy` is beside what it
//! would take to copy.
//! Lanes are filled by this thread, so segments lie in its caches; those of a hub's thread lie one cache further away.

use std::hint::black_box;
use std::sync::Arc;

use millrace_bier::id::Bsl;
use millrace_dpdk::{DpdkDriver, Eal, TscClock, thread_cpu_nanos};
use millrace_fastpath::driver::{Burst, Driver, Frame, PortId};
use millrace_fastpath::hub::{LANE_SEGMENTS_MAX, Lane, Way};
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::tables::{Hub, InterfaceId, Tables};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

use super::super::circuit::PORT;
use super::super::report::{Better, Entry, Report};
use super::super::testpmd::{Forwarding, Testpmd};
use super::super::{BenchError, BenchOptions, ROUNDS_MIN, Sample, open_port, scene};
use super::contender::FRAME;

const NAME: &str = "hub.send";
const BIER: &str = "hub.send.bier";
const OVER_COPY: &str = "hub.send.over_copy";
const UNIT: &str = "cycles/segment";
/// A frame of an MTU of 1500.
const FULL_FRAME: usize = 1514;
/// Faster than any worker.
const UNPACED: u64 = 8_000_000_000_000;

/// Whether any of it is wanted.
pub(in super::super) fn wanted(options: &BenchOptions) -> bool {
    [NAME, BIER, OVER_COPY].iter().any(|name| options.wants(name))
}

/// Measures on the calling thread, which is pinned to `cpu`.
pub(in super::super) fn measure(
    eal: &Eal,
    cpu: usize,
    options: &BenchOptions,
    hz: u64,
    report: &mut Report,
) -> Result<(), BenchError> {
    if !wanted(options) {
        return Ok(());
    }
    let ethernet = vec![0; FRAME as usize];
    // To one leg, as long as the scene's link carries.
    let bier = scene::bier_frame(Bsl::B256, 0, &[1], FULL_FRAME);
    let interface = Way::Interface(InterfaceId(0));
    let mut by_ethernet = Course::new(eal, NAME, scene::network(), interface, ethernet)?;
    let mut by_bier = Course::new(eal, BIER, scene::with_bier(Bsl::B256, 1, 1), Way::Bier, bier)?;
    let mut peer = Testpmd::start_sender(cpu, eal.memory(), FRAME as usize)?;
    let (mut theirs, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(ROUNDS_MIN) {
        theirs.push(peer.measure(Forwarding::TxOnly)?.cycles(hz));
        copies.push(by_ethernet.copy(options.frames)?.cycles(hz));
        for course in [&mut by_ethernet, &mut by_bier] {
            course.round(options.frames, hz)?;
        }
    }
    let peer = ("testpmd.txonly", &theirs[..]);
    for course in [&by_ethernet, &by_bier] {
        report.add(Entry::against(course.name, UNIT, Better::Lower, &course.cycles, peer));
    }
    let copy = ("buffer and copy", &copies[..]);
    report.add(Entry::against(OVER_COPY, UNIT, Better::Lower, &by_ethernet.cycles, copy));
    Ok(())
}

/// A worker with a lane.
struct Course {
    name: &'static str,
    eal: Eal,
    worker: Worker<Sink, TscClock>,
    lane: Arc<Lane>,
    way: Way,
    frame: Vec<u8>,
    cycles: Vec<f64>,
}

impl Course {
    fn new(
        eal: &Eal,
        name: &'static str,
        mut tables: Tables,
        way: Way,
        frame: Vec<u8>,
    ) -> Result<Course, BenchError> {
        let lane = Arc::new(Lane::new(0, UNPACED));
        tables.hub = Some(Arc::new(Hub { lanes: vec![Arc::clone(&lane)], ..Hub::default() }));
        let shared = Shared::new(1);
        Publisher::new(Arc::clone(&shared)).publish(tables);
        let limits = WorkerLimits { flows: 16, ..WorkerLimits::default() };
        let sink = Sink { driver: open_port(eal)?, sent: 0 };
        let worker = Worker::new(0, sink, TscClock::start(), shared, Rings::new(1), [7, 11], &limits);
        Ok(Course { name, eal: eal.clone(), worker, lane, way, frame, cycles: Vec::new() })
    }

    fn round(&mut self, segments: u64, hz: u64) -> Result<(), BenchError> {
        // Caches and predictors have seen others since the last round.
        self.send(segments / 10);
        let before = self.worker.driver().sent;
        let (sent, nanos) = self.send(segments);
        let left = self.worker.driver().sent - before;
        if left != sent || self.worker.fates().check().is_err() {
            let why = format!("{left} of {sent} frames left: {:?}", self.worker.fates());
            return Err(BenchError::Fate { name: self.name.to_owned(), why });
        }
        self.cycles.push(nanos as f64 * hz as f64 / 1e9 / sent as f64);
        Ok(())
    }

    /// What it takes to have so many frames with the bytes of segments in them.
    fn copy(&self, frames: u64) -> Result<Sample, BenchError> {
        // As many as a lane has, so that they lie as far away.
        let segments: Vec<Vec<u8>> = vec![self.frame.clone(); LANE_SEGMENTS_MAX];
        let mut driver = open_port(&self.eal)?;
        let sample = Sample::take(|| {
            let (mut burst, mut made) = (Burst::new(), 0);
            for segment in segments.iter().cycle().take(frames as usize) {
                let Some(mut frame) = driver.allocate(PORT) else { break };
                if frame.extend(segment.len()) {
                    frame.bytes_mut().copy_from_slice(black_box(segment));
                }
                burst.push(frame);
                made += 1;
                if burst.is_full() {
                    driver.free_burst(&mut burst);
                }
            }
            driver.free_burst(&mut burst);
            made
        });
        if sample.frames == frames { Ok(sample) } else { Err(BenchError::Frames) }
    }

    /// Sends at least so many; returns how many, and the CPU time of the worker's part.
    fn send(&mut self, segments: u64) -> (u64, u64) {
        let (mut sent, mut nanos) = (0, 0);
        while sent < segments {
            while let Some(mut segment) = self.lane.take_empty() {
                segment.fill(self.way, &[&self.frame]);
                self.lane.send(segment);
            }
            let begun = thread_cpu_nanos();
            while self.lane.waiting() > 0 {
                self.worker.poll();
            }
            nanos += thread_cpu_nanos() - begun;
            sent += LANE_SEGMENTS_MAX as u64;
        }
        (sent, nanos)
    }
}

/// A port on which nothing comes, and what is sent is gone.
struct Sink {
    driver: DpdkDriver,
    sent: u64,
}

impl Driver for Sink {
    type Frame = <DpdkDriver as Driver>::Frame;
    type Shared = <DpdkDriver as Driver>::Shared;

    fn ports(&self) -> usize {
        1
    }

    fn receive(&mut self, _port: PortId, _burst: &mut Burst<Self::Frame>) -> usize {
        0
    }

    fn transmit(&mut self, _port: PortId, burst: &mut Burst<Self::Frame>) -> usize {
        let count = burst.len();
        self.sent += count as u64;
        self.driver.free_burst(burst);
        count
    }

    fn allocate(&mut self, port: PortId) -> Option<Self::Frame> {
        self.driver.allocate(port)
    }

    fn allocate_all(&mut self, port: PortId, count: usize, into: &mut Burst<Self::Frame>) -> usize {
        self.driver.allocate_all(port, count, into)
    }

    fn free(&mut self, frame: Self::Frame) {
        self.driver.free(frame);
    }

    fn share(&mut self, frame: &Self::Frame, from: usize, times: u16) -> Option<Self::Shared> {
        self.driver.share(frame, from, times)
    }

    fn put_behind(&mut self, frame: &mut Self::Frame, shared: &mut Self::Shared) -> bool {
        self.driver.put_behind(frame, shared)
    }
}

//! `node.bier.copy`: what a copy costs a worker, beside the floor: a buffer for the header, the header written, the payload
//! attached.
//!
//! Frames come from a spring and end in a sink, so that a frame may become as many as there are neighbours. What the spring
//! costs is measured alone in the same round and subtracted; giving buffers back is in both the floor and ours.
//!
//! ```text
//!   ours  = (worker over spring and sink - spring alone) / copies
//!   floor = (allocate, write 58 bytes, attach, free) / copies
//!   walk  = (the loop of RFC 8279 §6.5 from bit to bit, with the floor's means for each copy) / copies
//! ```
//!
//! `node.bier.walk` is the last of these beside ours: from bit to bit, as the RFC has it, and without a worker around it.

use std::hint::black_box;
use std::sync::Arc;

use millrace_dpdk::{DpdkDriver, Eal, TscClock};
use millrace_fastpath::driver::{Burst, Driver, Frame, PortId};
use millrace_fastpath::shared::{Publisher, Shared};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};

use super::circuit::PORT;
use super::report::{Better, Entry, Report};
use super::{BenchError, BenchOptions, ROUNDS_MIN, Sample, open_port, scene};
use millrace_bier::bits;
use millrace_bier::forward::{Down, Packet, Part, Procedure};
use millrace_bier::header::{Carriage, FIXED_LEN, Template, View};
use millrace_bier::id::Bsl;
use millrace_bier::plane::AnyBift;
use millrace_fastpath::packet::L3;
use millrace_fastpath::tables::Bier;

const PREFIX: &str = "node.bier.copy";
const WALK: &str = "node.bier.walk";
/// Bytes of a frame.
const SIZES: [usize; 2] = [128, 1500];
/// Neighbours that each get a copy.
const NEIGHBOURS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Ethernet and a BIER header with 256 bits.
const HEAD: usize = 14 + millrace_bier::header::len(Bsl::B256);

/// Frames out of nothing, and into it.
struct Spring {
    driver: DpdkDriver,
    template: Vec<u8>,
    /// Frames that came out.
    sprung: u64,
}

impl Spring {
    fn spring(&mut self, burst: &mut Burst<<DpdkDriver as Driver>::Frame>) -> usize {
        let before = burst.len();
        while !burst.is_full() {
            let Some(mut frame) = self.driver.allocate(PORT) else { break };
            if frame.extend(self.template.len()) {
                frame.bytes_mut().copy_from_slice(&self.template);
            }
            burst.push(frame);
        }
        let sprung = burst.len() - before;
        self.sprung += sprung as u64;
        sprung
    }
}

impl Driver for Spring {
    type Frame = <DpdkDriver as Driver>::Frame;
    type Shared = <DpdkDriver as Driver>::Shared;

    fn ports(&self) -> usize {
        1
    }

    fn receive(&mut self, _port: PortId, burst: &mut Burst<Self::Frame>) -> usize {
        self.spring(burst)
    }

    fn transmit(&mut self, _port: PortId, burst: &mut Burst<Self::Frame>) -> usize {
        let count = burst.len();
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

/// Measures all sizes and numbers that are wanted, all of them in each round.
pub(super) fn measure(
    eal: &Eal,
    options: &BenchOptions,
    hz: u64,
    report: &mut Report,
) -> Result<(), BenchError> {
    let names = SIZES.into_iter().flat_map(|size| NEIGHBOURS.map(|count| (size, count)));
    let of = |prefix: &str, size, count| options.wants(&format!("{prefix}.{size}.{count}"));
    let wanted = names.filter(|(size, count)| of(PREFIX, *size, *count) || of(WALK, *size, *count));
    let mut courses =
        wanted.map(|(size, count)| Course::new(eal, size, count)).collect::<Result<Vec<_>, _>>()?;
    let copies = options.frames / 4;
    for _ in 0..options.rounds.max(ROUNDS_MIN) {
        for course in &mut courses {
            course.round(copies, hz)?;
        }
    }
    for course in courses {
        let name = format!("{PREFIX}.{}.{}", course.size, course.count);
        report.add(Entry::against(
            &name,
            "cycles/copy",
            Better::Lower,
            &course.ours,
            ("floor", &course.floor),
        ));
        let walk = format!("{WALK}.{}.{}", course.size, course.count);
        report.add(Entry::against(&walk, "cycles/copy", Better::Lower, &course.walk, (&name, &course.ours)));
    }
    Ok(())
}

struct Course {
    size: usize,
    count: u16,
    worker: Worker<Spring, TscClock>,
    /// The spring alone, the floor, and the walk.
    alone: Spring,
    /// The worker's tables.
    bier: Arc<Bier>,
    ours: Vec<f64>,
    floor: Vec<f64>,
    walk: Vec<f64>,
}

impl Course {
    fn new(eal: &Eal, size: usize, count: u16) -> Result<Course, BenchError> {
        let ids: Vec<u16> = (1..=count).collect();
        let template = scene::bier_frame(Bsl::B256, 0, &ids, size);
        let spring = || -> Result<Spring, BenchError> {
            Ok(Spring { driver: open_port(eal)?, template: template.clone(), sprung: 0 })
        };
        let shared = Shared::new(1);
        let tables = scene::with_bier(Bsl::B256, count, count);
        let bier = tables.bier.clone().ok_or_else(|| BenchError::Scene("no BIER in it".to_owned()))?;
        Publisher::new(Arc::clone(&shared)).publish(tables);
        let limits = WorkerLimits { flows: 16, ..WorkerLimits::default() };
        let (driver, alone) = (spring()?, spring()?);
        let worker = Worker::new(0, driver, TscClock::start(), shared, Rings::new(1), [7, 11], &limits);
        let (ours, floor, walk) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Course { size, count, worker, alone, bier, ours, floor, walk })
    }

    fn round(&mut self, copies: u64, hz: u64) -> Result<(), BenchError> {
        let frames = copies / u64::from(self.count);
        self.pass(frames / 10);
        let before = self.worker.fates();
        let whole = Sample::take(|| self.pass(frames));
        let after = self.worker.fates();
        let made = after.copies - before.copies;
        if after.check().is_err()
            || made != whole.frames * u64::from(self.count)
            || after.replicated - before.replicated != whole.frames
        {
            let name = format!("{PREFIX}.{}.{}", self.size, self.count);
            return Err(BenchError::Fate { name, why: format!("{after:?}") });
        }
        let spring = self.spring_alone(frames);
        let cost = whole.cycles(hz) - spring.cycles(hz);
        self.ours.push(cost * whole.frames as f64 / made as f64);
        let floor = self.floor_alone(copies)?;
        self.floor.push(floor.cycles(hz));
        let walk = self.walk_alone(frames)?;
        self.walk.push(walk.cycles(hz));
        Ok(())
    }

    fn pass(&mut self, frames: u64) -> u64 {
        let begin = self.worker.driver().sprung;
        loop {
            self.worker.poll();
            let passed = self.worker.driver().sprung - begin;
            if passed >= frames {
                return passed;
            }
        }
    }

    fn spring_alone(&mut self, frames: u64) -> Sample {
        Sample::take(|| {
            let mut passed = 0;
            while passed < frames {
                let mut burst = Burst::new();
                passed += self.alone.spring(&mut burst) as u64;
                self.alone.driver.free_burst(&mut burst);
            }
            passed
        })
    }

    fn floor_alone(&mut self, copies: u64) -> Result<Sample, BenchError> {
        let driver = &mut self.alone.driver;
        let head = self.alone.template[..HEAD].to_vec();
        let mut payload = driver.allocate(PORT).ok_or(BenchError::Frames)?;
        if !payload.extend(self.size - HEAD) {
            return Err(BenchError::Frames);
        }
        let sample = Sample::take(|| {
            let mut burst = Burst::new();
            let mut made = 0;
            while made < copies {
                let Some(mut copy) = driver.allocate(PORT) else { break };
                if copy.extend(HEAD) {
                    copy.bytes_mut().copy_from_slice(black_box(&head));
                }
                if copy.attach(&payload) {
                    burst.push(copy);
                }
                made += 1;
                if burst.is_full() {
                    driver.free_burst(&mut burst);
                }
            }
            driver.free_burst(&mut burst);
            made
        });
        driver.free(payload);
        if sample.frames == copies { Ok(sample) } else { Err(BenchError::Frames) }
    }

    /// RFC 8279 §6.5 with the floor's means: from the lowest bit to its row, a copy with the row's bits, and those taken away.
    fn walk_alone(&mut self, frames: u64) -> Result<Sample, BenchError> {
        let (driver, bier) = (&mut self.alone.driver, &self.bier);
        let packet = &self.alone.template[L3..];
        let mut payload = driver.allocate(PORT).ok_or(BenchError::Frames)?;
        if !payload.extend(self.size - HEAD) {
            return Err(BenchError::Frames);
        }
        let down = Down::default();
        let sample = Sample::take(|| {
            let mut burst = Burst::new();
            let mut made = 0;
            for _ in 0..frames {
                let view = View::of(black_box(packet), Carriage::NonMpls, bier.plane.ours());
                let Ok((key, view)) = view else { break };
                let Some(AnyBift::Bier(bift)) = bier.plane.get(key) else { break };
                let mut bits = [0; Bsl::B256.words()];
                view.load(&mut bits);
                let header = Template::of(&view, Carriage::NonMpls, view.ttl() - 1);
                let decision = Packet { bits: &bits, ttl: view.ttl(), entropy: view.entropy() };
                let outcome = bift.forward_by(Procedure::BitWalk, decision, &down, |part| {
                    let Part::Copy { neighbour, bits } = part else { return };
                    let exit = bift.exit(neighbour, decision.entropy, |_| true);
                    let Some((id, Some(Ok(way)))) = exit.map(|(id, link)| (id, bier.way(link))) else {
                        return;
                    };
                    let Some(mut copy) = driver.allocate(PORT) else { return };
                    if copy.extend(HEAD) {
                        let (head, rest) = copy.bytes_mut().split_at_mut(L3);
                        head.copy_from_slice(&way.head);
                        let (fixed, bit_string) = rest.split_at_mut(FIXED_LEN);
                        fixed
                            .first_chunk_mut()
                            .into_iter()
                            .for_each(|fixed| header.emit(id, way.carriage, fixed));
                        bits::store(bits, bit_string);
                    }
                    if copy.attach(&payload) {
                        burst.push(copy);
                    }
                    made += 1;
                    if burst.is_full() {
                        driver.free_burst(&mut burst);
                    }
                });
                black_box(outcome.expired());
            }
            driver.free_burst(&mut burst);
            made
        });
        driver.free(payload);
        if sample.frames == frames * u64::from(self.count) { Ok(sample) } else { Err(BenchError::Frames) }
    }
}

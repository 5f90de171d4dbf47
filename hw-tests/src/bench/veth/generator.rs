//! The sender: frames out of an AF_XDP port in a test host, the same in turn, as fast as it can or at a rate.

use std::time::{Duration, Instant};

use millrace_dpdk::{DpdkDriver, DpdkFrame, Eal, PortConfig, Ports, PortsConfig, thread_cpu_nanos};
use millrace_fastpath::driver::{BURST_MAX, Burst, Driver, Frame, PortId};

use super::super::BenchError;
use super::frames::is_answer;
use crate::lab::Host;

/// A port of this process in a test host, with the frames that leave through it. Sends on the calling thread, which should be
/// registered with the environment.
#[derive(Debug)]
pub(super) struct Generator {
    driver: DpdkDriver,
    frames: Vec<Vec<u8>>,
    next: usize,
    /// What the device had no room for.
    waiting: Burst<DpdkFrame>,
    /// Frees the port when it goes; dropped last.
    _ports: Ports,
}

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// For how long.
    pub(super) time: Duration,
    /// Frames per second; as many as can be, if none.
    pub(super) per_second: Option<u64>,
}

/// What was sent, and what came back meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Frames sent.
    pub(super) frames: u64,
    /// DNS answers received.
    pub(super) answers: u64,
    /// How long it took.
    pub(super) wall: Duration,
    /// CPU time that it took this thread, with what the kernel did on it.
    pub(super) cpu_nanos: u64,
}

const PORT: PortId = PortId(0);
/// Longer than a server that has its CPU takes for what lies in its queue.
const QUIET: Duration = Duration::from_millis(20);
/// Those in the four rings of an AF_XDP port of 2,048 each, and as many again.
const POOL_FRAMES: usize = 16383;

impl Generator {
    /// Takes `interface` of `host`, to send `frames` in turn.
    pub(super) fn open(
        eal: &Eal,
        host: &Host,
        interface: &str,
        frames: Vec<Vec<u8>>,
    ) -> Result<Generator, BenchError> {
        let config = PortsConfig { workers: 1, frames_per_port: POOL_FRAMES, ..PortsConfig::default() };
        // Without busy polling: a sender needn't look for answers in each of its system calls.
        let device = format!("net_af_xdp_{},iface={interface},busy_budget=0", host.name());
        // The socket belongs to the namespace of the thread that opens it.
        let (ports, mut drivers) =
            host.enter(|| Ports::open(eal, &config, &[PortConfig::new("generator", &device)]))??;
        let driver = drivers.pop().ok_or(BenchError::Frames)?;
        Ok(Generator { driver, frames, next: 0, waiting: Burst::new(), _ports: ports })
    }

    /// Sends for a while, and counts the answers among what comes in.
    pub(super) fn send(&mut self, load: Load) -> Sent {
        let (begin, cpu) = (Instant::now(), thread_cpu_nanos());
        let mut sent = Sent::default();
        loop {
            let elapsed = begin.elapsed();
            if elapsed >= load.time {
                break;
            }
            let due = load.per_second.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate as f64) as u64);
            if sent.frames < due {
                sent.frames += self.send_burst();
            }
            sent.answers += self.receive_answers();
        }
        sent.wall = begin.elapsed();
        sent.cpu_nanos = thread_cpu_nanos() - cpu;
        sent
    }

    /// Takes in what is still on its way, until nothing has come for a while.
    pub(super) fn settle(&mut self) {
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < QUIET {
            if self.receive_answers() > 0 {
                quiet_since = Instant::now();
            }
        }
    }

    fn send_burst(&mut self) -> u64 {
        while self.waiting.len() < BURST_MAX {
            let Some(mut frame) = self.driver.allocate(PORT) else { break };
            let bytes = &self.frames[self.next];
            self.next = (self.next + 1) % self.frames.len();
            // A fresh frame has room for an Ethernet frame.
            if frame.extend(bytes.len()) {
                frame.bytes_mut().copy_from_slice(bytes);
                self.waiting.push(frame);
            }
        }
        self.driver.transmit(PORT, &mut self.waiting) as u64
    }

    fn receive_answers(&mut self) -> u64 {
        let mut burst = Burst::new();
        self.driver.receive(PORT, &mut burst);
        let answers = burst.iter().filter(|frame| is_answer(frame.bytes())).count();
        self.driver.free_burst(&mut burst);
        answers as u64
    }
}

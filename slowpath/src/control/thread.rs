//! The thread around the loop: reads the clock, turns, and rests a moment when there is nothing to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_fastpath::clock::Nanos;
use millrace_orchestrator_api::Link;
use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use super::Control;

/// The machine's monotonic clock, the same that the workers read.
pub fn monotonic() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock counts from the machine's start.
    Nanos(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// CPU time of this thread, with what the kernel did on it.
fn thread_cpu() -> Nanos {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Nanos(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// How long to rest while nothing happens: so long that waking up to look costs a [`QUIET_SHARE`]th of a CPU: some 150
/// microseconds on bare metal, several times that on a virtual machine whose timers are dear.
#[derive(Debug)]
struct QuietRest {
    rest: Duration,
    /// Rests since the thread's CPU time was read, and what it was then.
    count: u32,
    cpu: Option<Nanos>,
}

impl QuietRest {
    fn new(cpu: Nanos) -> Self {
        Self { rest: QUIET_REST, count: 0, cpu: Some(cpu) }
    }

    /// Something else was done since the last rest; what that cost doesn't count.
    fn interrupted(&mut self) {
        self.cpu = None;
    }

    /// The length of the next rest. `cpu` is the thread's CPU time, read every now and then.
    fn next(&mut self, cpu: impl FnOnce() -> Nanos) -> Duration {
        self.count += 1;
        if self.count < RESTS_MEASURED && self.cpu.is_some() {
            return self.rest;
        }
        let now = cpu();
        if let Some(before) = self.cpu.replace(now) {
            let cost = Duration::from_nanos(now.since(before)) / self.count;
            self.rest = (cost * QUIET_SHARE).clamp(REST, QUIET_REST_MAX);
        }
        self.count = 0;
        self.rest
    }
}

/// A control loop on a thread of its own. Dropping it ends the thread.
#[derive(Debug)]
pub struct ControlThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    /// Starts the loop. The thread inherits the CPUs of the caller.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start<L: Link + 'static>(mut control: Control<L>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            // Clients wait for what it does; the orchestrator's and the operator's threads beside it can wait.
            if let Err(error) = rustix::process::setpriority_process(None, CONTROL_NICE) {
                warn!(%error, "shares its CPUs with whatever else runs there");
            }
            // The kernel adds 50 us to each rest otherwise, half of what a wake should cost here.
            if let Err(error) =
                rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(TIMER_SLACK_NANOS))
            {
                warn!(%error, "rests will be longer than they need to");
            }
            let mut busy = monotonic();
            let mut quiet = QuietRest::new(thread_cpu());
            while !stopping.load(Ordering::Relaxed) {
                let now = monotonic();
                if control.turn(now) {
                    // It may have taken long.
                    busy = monotonic();
                } else if control.is_waited_for() || now.since(busy) < QUIET_NANOS {
                    quiet.interrupted();
                    thread::park_timeout(REST);
                } else {
                    thread::park_timeout(quiet.next(thread_cpu));
                }
            }
            control.leave(monotonic());
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the control thread had panicked");
        }
    }
}

/// The niceness of the control thread: behind the workers only.
const CONTROL_NICE: i32 = -15;
/// How long a turn with nothing to do is followed by rest: a tenth of the millisecond that a release may take.
const REST: Duration = Duration::from_micros(50);
/// The same after a while in which nothing happened and while nobody's wake is under way, until it is known what a rest costs.
const QUIET_REST: Duration = Duration::from_micros(250);
/// At most that: a first packet waits so long for its notification.
const QUIET_REST_MAX: Duration = Duration::from_millis(1);
/// Looking whether anything has happened may cost one CPU second in so many.
const QUIET_SHARE: u32 = 32;
/// Rests after which their cost is measured.
const RESTS_MEASURED: u32 = 64;
/// That while: some turns of whatever began.
const QUIET_NANOS: u64 = 20_000_000;
/// How far the kernel may stretch it.
const TIMER_SLACK_NANOS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Rests a while, each rest at the cost given; the length of the last one.
    fn rests(quiet: &mut QuietRest, cpu: &mut u64, cost: Duration) -> Duration {
        let mut last = Duration::ZERO;
        for _ in 0..3 * RESTS_MEASURED {
            *cpu += cost.as_nanos() as u64;
            last = quiet.next(|| Nanos(*cpu));
        }
        last
    }

    #[test]
    fn what_a_rest_costs_decides_how_long_it_is() {
        let mut cpu = 0;
        let mut quiet = QuietRest::new(Nanos(0));
        for (cost, rest) in [(5, 160), (20, 640), (1, 50), (200, 1000)] {
            assert_eq!(
                rests(&mut quiet, &mut cpu, Duration::from_micros(cost)),
                Duration::from_micros(rest),
                "{cost} us each"
            );
        }
    }

    #[test]
    fn what_was_done_in_between_doesnt_count() {
        let mut cpu = 0;
        let mut quiet = QuietRest::new(Nanos(0));
        let before = rests(&mut quiet, &mut cpu, Duration::from_micros(10));
        quiet.interrupted();
        cpu += 1_000_000_000;
        assert_eq!(quiet.next(|| Nanos(cpu)), before);
        assert_eq!(rests(&mut quiet, &mut cpu, Duration::from_micros(10)), before);
    }
}

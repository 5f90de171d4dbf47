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
            while !stopping.load(Ordering::Relaxed) {
                let now = monotonic();
                if control.turn(now) {
                    busy = now;
                } else if control.is_waited_for() || now.since(busy) < QUIET_NANOS {
                    thread::park_timeout(REST);
                } else {
                    thread::park_timeout(QUIET_REST);
                }
            }
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
/// The same after a while in which nothing happened and while nobody's wake is under way. Each rest costs some ten
/// microseconds of CPU on a virtual machine: at a short one, a third of a core that has nothing to do.
const QUIET_REST: Duration = Duration::from_micros(250);
/// That while: some turns of whatever began.
const QUIET_NANOS: u64 = 20_000_000;
/// How far the kernel may stretch it.
const TIMER_SLACK_NANOS: u64 = 1000;

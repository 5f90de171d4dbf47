//! The workers' clock: monotonic nanoseconds, and TSC cycles for costs.

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;

use millrace_fastpath::clock::{Clock, Nanos};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads `CLOCK_MONOTONIC` and the TSC.
///
/// [`Clock::now`] goes through the kernel's vDSO, which reads the TSC itself and applies the kernel's own corrections: it
/// drifts from nobody else's monotonic clock. That was measured against a TSC scaled by us and re-anchored once a second:
/// 25 ns against 10 ns, once per burst, so half a nanosecond a frame buys freedom from drift. Where the kernel's clock
/// source isn't the TSC (see [`TscClock::avoids_system_calls`]) each reading is a system call.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    hz: u64,
}

impl TscClock {
    /// Measures the TSC's rate against the monotonic clock, once per process; the first call takes [`CALIBRATION_NANOS`].
    pub fn start() -> TscClock {
        static HZ: OnceLock<u64> = OnceLock::new();
        TscClock { hz: *HZ.get_or_init(calibrate) }
    }

    /// Cycles per second of [`Clock::cycles`].
    pub fn hz(&self) -> u64 {
        self.hz
    }

    /// Whether the kernel serves its clock from user space, as it does when its clock source is a counter that user space
    /// can read.
    pub fn avoids_system_calls() -> bool {
        const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        std::fs::read_to_string(CURRENT)
            .is_ok_and(|source| matches!(source.trim(), "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page"))
    }
}

impl Clock for TscClock {
    #[inline]
    fn now(&self) -> Nanos {
        Nanos(nanos(clock_gettime(ClockId::Monotonic)))
    }

    #[inline]
    fn cycles(&self) -> u64 {
        cycles()
    }
}

/// CPU time that the calling thread has used, in nanoseconds. A system call: for benchmarks.
pub fn thread_cpu_nanos() -> u64 {
    nanos(clock_gettime(ClockId::ThreadCPUTime))
}

/// How long the TSC is compared with the clock. Reading the pair is off by some 50 ns, so 20 ms give a few parts in a million.
pub const CALIBRATION_NANOS: u64 = 20_000_000;

fn calibrate() -> u64 {
    let (begin_nanos, begin_cycles) = pair();
    loop {
        let (nanos, cycles) = pair();
        let elapsed = nanos - begin_nanos;
        if elapsed >= CALIBRATION_NANOS {
            let hz = u128::from(cycles - begin_cycles) * 1_000_000_000 / u128::from(elapsed);
            return u64::try_from(hz).expect("a TSC below 2^64 Hz");
        }
        std::hint::spin_loop();
    }
}

/// A time and the TSC at that time. Of several readings the quickest, because that one was least disturbed.
fn pair() -> (u64, u64) {
    let reading = |_| {
        let before = cycles();
        let now = nanos(clock_gettime(ClockId::Monotonic));
        let took = cycles() - before;
        (took, now, before + took / 2)
    };
    let (_, now, cycles) = (0..8).map(reading).min().expect("eight readings");
    (now, cycles)
}

#[inline]
fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { _rdtsc() }
}

#[inline]
fn nanos(time: Timespec) -> u64 {
    // Neither part of a monotonic or CPU time is negative.
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn now_is_the_machines_monotonic_clock() {
        let clock = TscClock::start();
        let outer = Instant::now();
        let begin = clock.now();
        let inner = Instant::now();
        while inner.elapsed() < Duration::from_millis(5) {}
        let passed = clock.now().since(begin);
        assert!(passed >= 5_000_000, "{passed} ns around 5 ms");
        let around = u64::try_from(outer.elapsed().as_nanos()).unwrap();
        assert!(passed <= around, "{passed} ns within {around} ns");
    }

    #[test]
    fn the_rate_fits_what_the_counter_does() {
        let clock = TscClock::start();
        let (begin_nanos, begin_cycles) = pair();
        while clock.now().0 - begin_nanos < 30_000_000 {}
        let (end_nanos, end_cycles) = pair();
        let expected = (end_nanos - begin_nanos) as f64 * clock.hz() as f64 / 1e9;
        let error = ((end_cycles - begin_cycles) as f64 / expected - 1.0).abs();
        assert!(error < 1e-3, "off by {error}");
    }

    #[test]
    fn cpu_time_grows_with_work_and_not_with_waiting() {
        let begin = thread_cpu_nanos();
        let mut sum = 0_u64;
        while thread_cpu_nanos() - begin < 2_000_000 {
            sum = sum.wrapping_mul(31).wrapping_add(std::hint::black_box(7));
        }
        std::hint::black_box(sum);
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let before = thread_cpu_nanos();
        assert!(never.recv_timeout(Duration::from_millis(50)).is_err());
        assert!(thread_cpu_nanos() - before < 25_000_000);
    }
}

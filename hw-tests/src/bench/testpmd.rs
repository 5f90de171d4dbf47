//! DPDK's own test forwarder as the yardstick: the same core, the same kind of device, the same minute.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use millrace_dpdk::Memory;

use super::{BenchError, Sample};

/// What it does with each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Nothing.
    Io,
    /// Swaps the MAC addresses.
    MacSwap,
    /// Parses up to the ports and swaps addresses and ports.
    FiveTupleSwap,
    /// Receives nothing, and sends frames of its own.
    TxOnly,
}

impl Forwarding {
    fn argument(self) -> &'static str {
        match self {
            Forwarding::Io => "io",
            Forwarding::MacSwap => "macswap",
            Forwarding::FiveTupleSwap => "5tswap",
            Forwarding::TxOnly => "txonly",
        }
    }
}

/// A running testpmd with one port. Between measurements its forwarding thread sleeps, so that the core is ours.
#[derive(Debug)]
pub struct Testpmd {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// `/proc/PID/task/TID/schedstat` of the forwarding thread.
    schedstat: PathBuf,
}

/// Debian's package is `dpdk-dev`.
const PROGRAM: &str = "dpdk-testpmd";
/// For an answer on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);
/// CPU time that a measurement takes.
const CPU_NANOS: u64 = 300_000_000;
/// Bursts of 32 that go round.
const BURSTS: usize = 4;

impl Testpmd {
    /// Starts it with its forwarding thread on `cpu`, and a `net_ring` port, on which 128 UDP frames of 64 bytes go round.
    ///
    /// # Errors
    /// [`BenchError`]
    pub fn start(cpu: usize, memory: Memory) -> Result<Testpmd, BenchError> {
        Testpmd::start_on("net_ring0", &[], cpu, memory)
    }

    /// Starts it to send frames of so many bytes to a `net_null` port, which frees them.
    ///
    /// # Errors
    /// [`BenchError`]
    pub fn start_sender(cpu: usize, memory: Memory, bytes: usize) -> Result<Testpmd, BenchError> {
        Testpmd::start_on("net_null0", &[format!("--txpkts={bytes}")], cpu, memory)
    }

    fn start_on(
        device: &str,
        arguments: &[String],
        cpu: usize,
        memory: Memory,
    ) -> Result<Testpmd, BenchError> {
        let prefix = format!("testpmd-{}", std::process::id());
        let cpus = core_affinity::get_core_ids().unwrap_or_default();
        let cpus = cpus.iter().map(|core| core.id.to_string()).collect::<Vec<_>>().join(",");
        let mut command = Command::new("stdbuf");
        // A pipe would be block-buffered, and nothing said until the end.
        command.args(["-oL", PROGRAM, "--no-pci", "--no-telemetry"]).arg(format!("--vdev={device}"));
        command.arg(format!("--lcores=0@({cpus}),1@{cpu}")).arg(format!("--file-prefix={prefix}"));
        match memory {
            Memory::Hugepages => command.arg("--in-memory"),
            Memory::Ordinary => command.args(["--no-huge", "--no-shconf", "-m", "64"]),
        };
        command.args(["--", "--interactive", "--total-num-mbufs=8191"]).args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| BenchError::Testpmd { what: "it can't be run", why: source.to_string() })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let (give, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if give.send(line).is_err() {
                    break;
                }
            }
        });
        let mut testpmd = Testpmd { child, stdin, lines, schedstat: PathBuf::new() };
        testpmd.wait_for("its start", |line| line.trim_end().ends_with("Done")).map_err(
            |error| match error {
                BenchError::Testpmd { .. } => BenchError::Testpmd {
                    what: "it didn't start",
                    why: format!("is {PROGRAM} installed (apt-get install dpdk-dev)?"),
                },
                other => other,
            },
        )?;
        testpmd.schedstat = testpmd.find_worker()?;
        // Its EAL leaves a directory that nobody needs once it runs.
        let _absent_is_fine = fs::remove_dir_all(format!("/run/dpdk/{prefix}"));
        Ok(testpmd)
    }

    /// Lets the frames go round, or sends, for a fixed CPU time, and says what each cost.
    ///
    /// # Errors
    /// [`BenchError::Testpmd`]
    pub fn measure(&mut self, forwarding: Forwarding) -> Result<Sample, BenchError> {
        self.say(&format!("set fwd {}", forwarding.argument()))?;
        let before = self.cpu_nanos()?;
        let begin = Instant::now();
        let (start, counter) = match forwarding {
            Forwarding::TxOnly => ("start".to_owned(), "TX-packets:"),
            // What the last run left on the ring is taken off first.
            _ => (format!("start tx_first {BURSTS}"), "RX-packets:"),
        };
        self.say(&start)?;
        self.wait_for("forwarding to start", |line| line.contains("packets/burst=32"))?;
        while self.cpu_nanos()? - before < CPU_NANOS {
            if begin.elapsed() > PATIENCE {
                return Err(BenchError::Testpmd {
                    what: "it gets no CPU time",
                    why: "the core is taken".to_owned(),
                });
            }
            // How long to wait is the measurement, not a guess at somebody else's state.
            thread::sleep(Duration::from_millis(20));
        }
        self.say("stop")?;
        let mut frames = None;
        self.wait_for("its counters", |line| {
            // The totals come last and overwrite those of the port.
            if let Some(rest) = line.trim_start().strip_prefix(counter) {
                frames = rest.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
            }
            line.trim_end().ends_with("Done.")
        })?;
        let wall = begin.elapsed();
        let cpu_nanos = self.cpu_nanos()? - before;
        match frames {
            Some(frames) if frames > 0 => Ok(Sample { frames, cpu_nanos, wall }),
            _ => Err(BenchError::Testpmd { what: "it forwarded nothing", why: format!("{frames:?}") }),
        }
    }

    fn say(&mut self, command: &str) -> Result<(), BenchError> {
        writeln!(self.stdin, "{command}")
            .and_then(|()| self.stdin.flush())
            .map_err(|error| BenchError::Testpmd { what: "it is gone", why: error.to_string() })
    }

    fn wait_for(&mut self, what: &'static str, mut last: impl FnMut(&str) -> bool) -> Result<(), BenchError> {
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if last(&line) => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(BenchError::Testpmd { what, why: format!("not within {PATIENCE:?}") });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(BenchError::Testpmd { what, why: "it has ended".to_owned() });
                }
            }
        }
    }

    /// The thread of its second lcore, which forwards.
    fn find_worker(&self) -> Result<PathBuf, BenchError> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let missing = |why: String| BenchError::Testpmd { what: "its forwarding thread can't be found", why };
        let entries = fs::read_dir(&tasks).map_err(|error| missing(error.to_string()))?;
        let worker = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.contains("worker")));
        worker
            .map(|task| task.join("schedstat"))
            .ok_or_else(|| missing("no thread is called worker".to_owned()))
    }

    /// CPU time of the forwarding thread so far.
    fn cpu_nanos(&self) -> Result<u64, BenchError> {
        let text = fs::read_to_string(&self.schedstat).map_err(|error| BenchError::Testpmd {
            what: "its CPU time can't be read",
            why: error.to_string(),
        })?;
        let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        nanos.ok_or(BenchError::Testpmd { what: "its CPU time can't be read", why: text })
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // Either of them may find it gone already, which is what is wanted.
        let _said = self.say("quit");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

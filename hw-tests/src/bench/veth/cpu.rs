//! CPU time of processes and of the kernel's softirq threads, in nanoseconds, as the scheduler counts it.
//!
//! What the network stack does in softirqs is charged to the task that it interrupts. On a veth pair that is the task whose
//! system call sent the packet, or, under load, `ksoftirqd`. So the generator, the contender's threads and all `ksoftirqd`
//! together are the whole machine less what runs there for other reasons.
//!
//! Limit: a kernel built with `CONFIG_IRQ_TIME_ACCOUNTING` charges softirqs to nobody, and they are missing here, for every
//! contender alike.

use std::fs;
use std::path::PathBuf;

use crate::lab::{LabError, file, unreadable};

/// The threads whose time is summed.
#[derive(Debug)]
pub(super) struct CpuMeter {
    /// `/proc/PID/task` of each process.
    processes: Vec<PathBuf>,
}

impl CpuMeter {
    /// The meter of a process and of those it has started so far, with all their threads; or of none.
    pub(super) fn of_family(id: Option<u32>) -> CpuMeter {
        CpuMeter { processes: id.into_iter().flat_map(family).map(tasks).collect() }
    }

    /// The meter of the kernel's softirq threads.
    pub(super) fn of_softirqs() -> Result<CpuMeter, LabError> {
        let proc = PathBuf::from("/proc");
        let entries = fs::read_dir(&proc).map_err(file(&proc))?;
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_softirqd = |id: &u32| {
            fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with("ksoftirqd/"))
        };
        let processes: Vec<PathBuf> = ids.filter(is_softirqd).map(tasks).collect();
        if processes.is_empty() {
            return Err(unreadable("the kernel's softirq threads", "no process is called ksoftirqd"));
        }
        Ok(CpuMeter { processes })
    }

    /// CPU time so far. A thread that has ended counts no more: contenders keep theirs.
    pub(super) fn nanos(&self) -> Result<u64, LabError> {
        let mut sum = 0;
        for tasks in &self.processes {
            for task in fs::read_dir(tasks).map_err(file(tasks))?.flatten() {
                let path = task.path().join("schedstat");
                let text = fs::read_to_string(&path).map_err(file(&path))?;
                let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
                sum += nanos.ok_or_else(|| unreadable(path.display().to_string(), &text))?;
            }
        }
        Ok(sum)
    }
}

/// A process, its children, theirs, and so on.
pub(super) fn family(id: u32) -> Vec<u32> {
    let mut family = vec![id];
    let mut next = 0;
    while let Some(id) = family.get(next) {
        let threads = fs::read_dir(tasks(*id)).into_iter().flatten().flatten();
        let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let children: Vec<u32> = children
            .flat_map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

fn tasks(id: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/task"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::lab::{command, wait_until};
    use millrace_dpdk::thread_cpu_nanos;

    #[test]
    fn our_own_work_is_counted() {
        let meter = CpuMeter::of_family(Some(std::process::id()));
        let (before, own) = (meter.nanos().unwrap(), thread_cpu_nanos());
        while thread_cpu_nanos() - own < 50_000_000 {
            std::hint::black_box(own);
        }
        // The scheduler writes it down once a tick.
        assert!(meter.nanos().unwrap() - before >= 40_000_000);
        assert_eq!(CpuMeter::of_family(None).nanos().unwrap(), 0);
        assert!(CpuMeter::of_softirqs().unwrap().nanos().is_ok());
    }

    #[test]
    fn children_of_children_belong_to_the_family() {
        let mut shell = Command::new("sh").args(["-c", "sh -c 'sleep 60; :'; :"]).spawn().unwrap();
        wait_until("a grandchild", Duration::from_secs(10), || family(shell.id()).len() == 3).unwrap();
        let [.., sleep] = family(shell.id())[..] else { panic!("it has three members") };
        assert_eq!(fs::read_to_string(format!("/proc/{sleep}/comm")).unwrap().trim(), "sleep");
        command::succeed(Command::new("kill").arg(sleep.to_string())).unwrap();
        shell.wait().unwrap();
    }
}

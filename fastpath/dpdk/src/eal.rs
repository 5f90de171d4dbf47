//! DPDK's environment layer, started once per process: memory, drivers, the identity of threads.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

use crate::device::pci_address;

/// A running environment. Clones share it; when the last holder (ports and pools hold it too) is gone it is cleaned up.
/// It can't be started a second time in the same process.
#[derive(Clone, Debug)]
pub struct Eal {
    running: Arc<Running>,
}

/// How to start the environment.
#[derive(Clone, Debug)]
pub struct EalConfig {
    /// Whether frames lie in hugepages.
    pub hugepages: Hugepages,
    /// Memory that all pools and queues will need, in bytes; see [`crate::Pool::bytes_needed`].
    pub memory_bytes: usize,
    /// PCI addresses of the devices that may be taken. None: the bus isn't even looked at.
    pub pci_devices: Vec<String>,
    /// What the runtime directory is named by, while there is one. Must differ between processes.
    pub name: String,
    /// CPUs for DPDK's own threads, which sleep almost always. None: those of the calling thread.
    pub cpus: Vec<usize>,
}

impl Default for EalConfig {
    fn default() -> EalConfig {
        EalConfig {
            hugepages: Hugepages::Auto,
            memory_bytes: 64 << 20,
            pci_devices: Vec::new(),
            name: format!("millrace-{}", std::process::id()),
            cpus: Vec::new(),
        }
    }
}

/// Whether frames lie in hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Where enough of them are free; else in ordinary pages, with one warning.
    #[default]
    Auto,
    /// Yes, or starting fails.
    Require,
    /// No.
    Never,
}

/// Where frames lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// In hugepages.
    Hugepages,
    /// In ordinary pages, of which all were taken at start.
    Ordinary,
}

/// Why the environment didn't start, or a thread wasn't registered.
#[derive(Debug, Error)]
pub enum EalError {
    /// It was started before in this process.
    #[error("DPDK was already started in this process, which it allows once")]
    AlreadyStarted,
    /// Hugepages are required and there aren't enough.
    #[error(
        "hugepages are required, but of the {needed} bytes needed only {free} are free: set vm.nr_hugepages, or hugepages = \"auto\""
    )]
    NoHugepages {
        /// Bytes that the pools and queues need.
        needed: usize,
        /// Bytes in free hugepages.
        free: usize,
    },
    /// A PCI address that isn't one.
    #[error("{address:?} isn't a PCI address, such as 0000:3b:00.0")]
    BadAddress {
        /// The text given.
        address: String,
    },
    /// A name or number that can't be handed to DPDK.
    #[error("{what} can't be handed to DPDK")]
    BadArgument {
        /// What is wrong.
        what: &'static str,
    },
    /// DPDK refused; its own message is on the standard error output.
    #[error("DPDK didn't start: {reason} (its own message stands above)")]
    Refused {
        /// What the error number means.
        reason: String,
    },
    /// A thread could not be given its identity, because there are too many.
    #[error("the thread can't be registered with DPDK: {reason}")]
    Thread {
        /// What the error number means.
        reason: String,
    },
}

impl Eal {
    /// Starts the environment. The calling thread's CPU affinity is left as it was, no signal handler is installed, no
    /// telemetry socket opened, and nothing stays behind in the file system.
    ///
    /// # Errors
    /// [`EalError`]; after [`EalError::Refused`] another attempt in the same process isn't possible.
    pub fn start(config: EalConfig) -> Result<Eal, EalError> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        let free = free_hugepage_bytes(Path::new("/sys/kernel/mm/hugepages"));
        let memory = choose_memory(config.hugepages, config.memory_bytes, free)?;
        let before =
            sched_getaffinity(None).map_err(|error| EalError::Refused { reason: error.to_string() })?;
        let mut arguments = arguments(&config, memory, &before)?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        if memory == Memory::Ordinary && config.hugepages == Hugepages::Auto {
            tracing::warn!(
                needed_bytes = config.memory_bytes,
                free_bytes = free,
                "too few free hugepages: frames lie in ordinary pages, which is slower"
            );
        }
        let outcome = initialise(&mut arguments);
        // DPDK pins the calling thread; give it back the CPUs that it had.
        if let Err(error) = sched_setaffinity(None, &before) {
            tracing::warn!(%error, "the CPU affinity of the starting thread is DPDK's now");
        }
        outcome?;
        remove_runtime_directory();
        Ok(Eal { running: Arc::new(Running { memory }) })
    }

    /// Where frames lie.
    pub fn memory(&self) -> Memory {
        self.running.memory
    }

    /// Gives the calling thread an identity, and with it a cache of its own in each pool. Without one, everything works
    /// but each frame goes through the pool's shared ring. The identity ends with the value returned.
    ///
    /// # Errors
    /// [`EalError::Thread`] when there are more threads than DPDK has identities for (128).
    pub fn register_thread(&self) -> Result<ThreadRegistration, EalError> {
        // SAFETY: the environment runs, since `self` is there.
        if unsafe { dpdk_sys::rte_thread_register() } < 0 {
            return Err(EalError::Thread { reason: last_error() });
        }
        Ok(ThreadRegistration { _eal: self.clone(), _not_send: PhantomData })
    }
}

/// The identity of the calling thread; ends when dropped.
#[derive(Debug)]
pub struct ThreadRegistration {
    _eal: Eal,
    _not_send: PhantomData<*const ()>,
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        // SAFETY: the environment runs, and this is the thread that was registered, because the value can't leave it.
        unsafe { dpdk_sys::rte_thread_unregister() }
    }
}

/// Ends the environment when its last holder goes.
#[derive(Debug)]
struct Running {
    memory: Memory,
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: it was started once, and no port or pool is left, because each of them holds this value.
        let status = unsafe { dpdk_sys::rte_eal_cleanup() };
        if status != 0 {
            tracing::warn!(status, "DPDK's clean-up reported an error");
        }
    }
}

/// What `rte_errno` of the calling thread means.
pub(crate) fn last_error() -> String {
    // SAFETY: reads a variable of this thread.
    describe(unsafe { dpdk_sys::shim_errno() })
}

/// What an error number of DPDK's means, of either sign.
pub(crate) fn describe(errno: c_int) -> String {
    // SAFETY: gives a pointer to a string for any number.
    let text = unsafe { dpdk_sys::rte_strerror(errno.abs()) };
    // SAFETY: the string ends in zero and lives until this thread asks again.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A C string from text that holds no zero byte.
pub(crate) fn c_string(text: &str) -> Result<CString, EalError> {
    CString::new(text).map_err(|_| EalError::BadArgument { what: "a zero byte" })
}

fn choose_memory(wanted: Hugepages, needed: usize, free: usize) -> Result<Memory, EalError> {
    match wanted {
        Hugepages::Never => Ok(Memory::Ordinary),
        Hugepages::Auto if free < needed => Ok(Memory::Ordinary),
        Hugepages::Require if free < needed || free == 0 => Err(EalError::NoHugepages { needed, free }),
        Hugepages::Auto | Hugepages::Require => Ok(Memory::Hugepages),
    }
}

/// Bytes in free hugepages of all sizes.
fn free_hugepage_bytes(directory: &Path) -> usize {
    let read = |entry: io::Result<fs::DirEntry>| -> Option<usize> {
        let path = entry.ok()?.path();
        let kilobytes = path.file_name()?.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let free = fs::read_to_string(path.join("free_hugepages")).ok()?;
        Some(kilobytes.parse::<usize>().ok()? * 1024 * free.trim().parse::<usize>().ok()?)
    };
    fs::read_dir(directory).map(|entries| entries.filter_map(read).sum()).unwrap_or(0)
}

/// Memory that DPDK itself uses beside pools, in bytes.
const OWN_MEMORY_BYTES: usize = 16 << 20;

fn arguments(config: &EalConfig, memory: Memory, inherited: &CpuSet) -> Result<Vec<CString>, EalError> {
    let inherited = || (0..CpuSet::MAX_CPU).filter(|cpu| inherited.is_set(*cpu)).collect();
    let cpus: Vec<usize> = if config.cpus.is_empty() { inherited() } else { config.cpus.clone() };
    let cpus = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut arguments = vec![
        "millrace".to_owned(),
        "--no-telemetry".to_owned(),
        // The one thread of DPDK's that we lend it floats over all of them.
        format!("--lcores=0@({cpus})"),
        format!("--file-prefix={}", config.name),
        // Errors only: a missing hugetlbfs mount and the like are no concern of in-memory mode.
        "--log-level=lib.eal:4".to_owned(),
    ];
    if config.pci_devices.is_empty() {
        arguments.push("--no-pci".to_owned());
    }
    for address in &config.pci_devices {
        let address =
            pci_address(address).ok_or_else(|| EalError::BadAddress { address: address.clone() })?;
        arguments.push(format!("--allow={address}"));
    }
    match memory {
        Memory::Hugepages => arguments.push("--in-memory".to_owned()),
        Memory::Ordinary => {
            // A frame doesn't cross a page here, so that small pages waste a part of each.
            let frames = config.memory_bytes + config.memory_bytes / 2;
            let megabytes = (frames + OWN_MEMORY_BYTES).div_ceil(1 << 20);
            arguments.extend(["--no-huge", "--no-shconf", "-m"].map(str::to_owned));
            arguments.push(megabytes.to_string());
        }
    }
    arguments.iter().map(|argument| c_string(argument)).collect()
}

fn initialise(arguments: &mut Vec<CString>) -> Result<(), EalError> {
    // DPDK keeps pointers into its arguments and reorders them: what it is given stays for the life of the process.
    let strings: &'static mut [CString] = Vec::leak(std::mem::take(arguments));
    let count =
        c_int::try_from(strings.len()).map_err(|_| EalError::BadArgument { what: "so many arguments" })?;
    let mut pointers: Vec<*mut c_char> = strings.iter().map(|string| string.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());
    let pointers = Vec::leak(pointers);
    // SAFETY: `count` strings that stay alive, then a null pointer; and this runs once per process.
    if unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) } < 0 {
        return Err(EalError::Refused { reason: last_error() });
    }
    Ok(())
}

/// DPDK makes a directory for secondary processes, of which there are none in either of our ways of having memory. Removed
/// at once, so that not even a killed process leaves it behind.
fn remove_runtime_directory() {
    // SAFETY: the environment runs; gives a static string.
    let path = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    if path.is_null() {
        return;
    }
    // SAFETY: the string ends in zero and is static.
    let path = unsafe { CStr::from_ptr(path) };
    let path = PathBuf::from(path.to_string_lossy().into_owned());
    if let Err(error) = fs::remove_dir_all(&path) {
        tracing::debug!(%error, path = %path.display(), "DPDK's runtime directory stays behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugepages_are_chosen_by_what_is_free() {
        assert_eq!(choose_memory(Hugepages::Auto, 100, 100).unwrap(), Memory::Hugepages);
        assert_eq!(choose_memory(Hugepages::Auto, 100, 99).unwrap(), Memory::Ordinary);
        assert_eq!(choose_memory(Hugepages::Never, 0, 100).unwrap(), Memory::Ordinary);
        let refused = choose_memory(Hugepages::Require, 100, 99).unwrap_err();
        assert!(matches!(refused, EalError::NoHugepages { needed: 100, free: 99 }), "{refused}");
        assert!(choose_memory(Hugepages::Require, 0, 0).is_err());
    }

    #[test]
    fn free_hugepages_of_all_sizes_count() {
        let directory = tempfile::tempdir().unwrap();
        for (size, free) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "1\n"), ("other", "9\n")] {
            fs::create_dir(directory.path().join(size)).unwrap();
            fs::write(directory.path().join(size).join("free_hugepages"), free).unwrap();
        }
        assert_eq!(free_hugepage_bytes(directory.path()), (3 << 21) + (1 << 30));
        assert_eq!(free_hugepage_bytes(&directory.path().join("absent")), 0);
    }

    #[test]
    fn devices_are_named_to_dpdk_or_the_bus_is_left_alone() {
        let text = |config: &EalConfig, memory| -> String {
            let mut cpus = CpuSet::new();
            cpus.set(1);
            cpus.set(3);
            let arguments = arguments(config, memory, &cpus).unwrap();
            arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let mut config = EalConfig { memory_bytes: 1 << 20, ..EalConfig::default() };
        let without = text(&config, Memory::Ordinary);
        assert!(
            without.contains("--no-pci") && without.ends_with("--no-huge --no-shconf -m 18"),
            "{without}"
        );
        assert!(without.contains("--lcores=0@(1,3)"), "{without}");
        config.pci_devices = vec!["3B:00.0".to_owned()];
        config.cpus = vec![0];
        let with = text(&config, Memory::Hugepages);
        assert!(with.contains("--allow=0000:3b:00.0") && !with.contains("--no-pci"), "{with}");
        assert!(with.contains("--in-memory") && with.contains("--lcores=0@(0)"), "{with}");
        config.pci_devices = vec!["eth0".to_owned()];
        assert!(matches!(
            arguments(&config, Memory::Ordinary, &CpuSet::new()),
            Err(EalError::BadAddress { .. })
        ));
    }
}

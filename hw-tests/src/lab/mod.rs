//! Test hosts out of network namespaces: what the demo and the end-to-end tests stand on.
//!
//! ```text
//!   Lab ── Host (a network namespace) ── wires (veth pairs), addresses, routes
//!    │       └─ Process (in the background, output in files), Capture (tcpdump)
//!    └─ folder (configurations, certificates, captures; kept where a test fails)
//! ```
//!
//! Names are unique per process (`mr<pid>-<n>-client`), so that labs of several processes stand beside each
//! other. All of it is removed when the lab is dropped, also by a panic, SIGINT or SIGTERM; what a killed
//! process left behind is removed when the next lab is built.
//!
//! ```no_run
//! use millrace_hw_tests::lab::Lab;
//!
//! # fn main() -> Result<(), millrace_hw_tests::lab::LabError> {
//! let lab = Lab::new()?;
//! let (left, right) = (lab.host("left")?, lab.host("right")?);
//! left.wire("eth0", &right, "eth0")?;
//! left.address("eth0", "192.0.2.1/24")?;
//! right.address("eth0", "192.0.2.2/24")?;
//! left.run("ping -c 1 -W 2 192.0.2.2")?;
//! # Ok(())
//! # }
//! ```
//!
//! Limits: Linux, root, and the tools that `make setup` installs. One lab at a time in one process.

mod capture;
mod certificates;
pub mod command;
mod error;
mod host;
mod name_server;
mod process;
mod teardown;
mod wait;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use capture::{Capture, Frame, faults};
pub use certificates::{Certificates, Identity};
pub use error::LabError;
pub(crate) use error::{file, unreadable};
pub use host::Host;
pub use name_server::NameServer;
pub use process::Process;
pub use wait::{Look, wait_until};

use process::Running;

/// What the names of our namespaces begin with.
const NAME_PREFIX: &str = "mr";

/// Where `ip netns exec` looks for files that a namespace sees in place of `/etc`'s.
const NETNS_ETC: &str = "/etc/netns";

/// Labs of one process take turns: their ports would fight for two CPUs.
static ALONE: Mutex<()> = Mutex::new(());

/// A set of test hosts.
#[derive(Debug)]
pub struct Lab {
    inner: Arc<Inner>,
    _alone: MutexGuard<'static, ()>,
}

/// What has to be removed in the end.
#[derive(Debug)]
struct Inner {
    name: String,
    folder: PathBuf,
    namespaces: Mutex<Vec<String>>,
    processes: Mutex<Vec<Arc<Running>>>,
    captures: Mutex<Vec<PathBuf>>,
    /// Held while it is being removed: a signal and an error it brings about may both want that, and the process may end
    /// after either.
    removed: Mutex<bool>,
    keep: AtomicBool,
}

impl Lab {
    /// An empty lab with a fresh folder. Waits for another lab of this process to go.
    ///
    /// # Errors
    /// [`LabError::File`] where the folder cannot be made.
    pub fn new() -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        teardown::remove_remains();
        let name = format!("{NAME_PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("millrace-lab-{name}"));
        std::fs::create_dir_all(&folder).map_err(file(&folder))?;
        let inner = Arc::new(Inner {
            name,
            folder,
            namespaces: Mutex::default(),
            processes: Mutex::default(),
            captures: Mutex::default(),
            removed: Mutex::new(false),
            keep: AtomicBool::new(false),
        });
        teardown::remove_on_signal(&inner);
        Ok(Lab { inner, _alone: alone })
    }

    /// Adds a host.
    ///
    /// # Errors
    /// [`LabError`] where the kernel refuses a network namespace (no root, most often).
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        Host::create(name, Arc::clone(&self.inner))
    }

    /// The lab's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Writes a file into the lab's folder and returns its path.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.inner.folder.join(name);
        std::fs::write(&path, text).map_err(file(&path))?;
        Ok(path)
    }

    /// Has a host's commands ask this server for names, by the C library's own resolver.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn set_resolver(&self, host: &Host, server: &str) -> Result<(), LabError> {
        let folder = Path::new(NETNS_ETC).join(host.namespace());
        std::fs::create_dir_all(&folder).map_err(file(&folder))?;
        let path = folder.join("resolv.conf");
        // One try in two seconds is longer than any hold: a lost query shows as a failure, not as a slow success.
        let text = format!("nameserver {server}\noptions timeout:2 attempts:1\n");
        std::fs::write(&path, text).map_err(file(&path))
    }

    /// Has the folder kept when the lab is removed, and the processes' last words printed, as after a failed test.
    pub fn keep(&self) {
        self.inner.keep.store(true, Ordering::Release);
    }

    /// Has tshark look through every capture that was taken in this lab; end them first.
    ///
    /// # Errors
    /// [`LabError::Malformed`] with what it found, the first capture with anything.
    pub fn inspect(&self) -> Result<(), LabError> {
        let captures = self.inner.captures.lock().unwrap_or_else(PoisonError::into_inner);
        for capture in captures.iter() {
            let faults = faults(capture)?;
            if !faults.is_empty() {
                return Err(LabError::Malformed { capture: capture.clone(), faults });
            }
        }
        Ok(())
    }

    /// Starts a process in the background, outside any host of the lab.
    ///
    /// # Errors
    /// [`LabError::Start`] where it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process, LabError> {
        self.inner.spawn(name, command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.inner.remove(std::thread::panicking() || self.inner.keep.load(Ordering::Acquire));
    }
}

impl Inner {
    fn own_namespace(&self, name: &str) {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    /// Number and file of the next capture.
    fn own_capture(&self, host: &str, interface: &str) -> (usize, PathBuf) {
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        let number = captures.len();
        let path = self.folder.join(format!("{number}-{host}-{interface}.pcap"));
        captures.push(path.clone());
        (number, path)
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<Process, LabError> {
        let (process, running) = Process::start(name, &self.folder, command)?;
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push(running);
        Ok(process)
    }

    /// Ends the processes (the youngest first), removes the namespaces, then the folder. With `failed` the
    /// folder stays, and the processes' last words are printed.
    fn remove(&self, failed: bool) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *removed, true) {
            return;
        }
        let processes = std::mem::take(&mut *self.processes.lock().unwrap_or_else(PoisonError::into_inner));
        for process in processes.iter().rev() {
            process.stop();
        }
        for namespace in self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).drain(..).rev() {
            teardown::remove_namespace(&namespace);
        }
        if failed {
            for process in &processes {
                eprintln!("{}", process.last_words());
            }
            eprintln!("configurations, logs and captures are kept in {}", self.folder.display());
        } else {
            // Somebody may look at it right now; the folder of a passed test is not worth an error.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

//! A process in the background: its output in files, its end known, stopped when it is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::error::file;
use super::wait::{Look, wait_until};
use super::{LabError, command};

/// How long a process gets to end after SIGTERM before it is killed; the appliance drains within two seconds.
const TERM_MAX: Duration = Duration::from_secs(4);

/// How much of a process's standard error is quoted in an error, in bytes.
const QUOTE_MAX: usize = 4096;

/// The child itself, shared with the lab's teardown.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    child: Mutex<Child>,
    stderr: PathBuf,
}

impl Running {
    fn exited(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // An error here means there is no such child any more, which `try_wait` never reports for one it reaped.
        child.try_wait().ok().flatten()
    }

    fn pid(&self) -> Option<Pid> {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    }

    /// Sends a signal; a process that has ended gets none (its id may be somebody else's by now).
    fn signal(&self, signal: Signal) {
        if self.exited().is_none()
            && let Some(pid) = self.pid()
        {
            // It may end between the look and the signal; it stays our zombie until reaped, so the id is still ours.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to end, then ends it.
    pub(super) fn stop(&self) {
        self.signal(Signal::TERM);
        // A frozen one has to wake up to hear that.
        self.signal(Signal::CONT);
        if wait_until("the end", TERM_MAX, || self.exited()).is_err() {
            self.signal(Signal::KILL);
            let _ = wait_until("the end", TERM_MAX, || self.exited());
        }
    }

    /// The end of what it wrote to standard error, for a report.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(&self.stderr).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(QUOTE_MAX)..];
        format!("--- {} (standard error) ---\n{}", self.name, String::from_utf8_lossy(tail))
    }
}

/// A process in the background. Dropping it asks it to end, and ends it where it does not.
#[derive(Debug)]
pub struct Process {
    running: Arc<Running>,
    stdout: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `folder/NAME.stdout` and `folder/NAME.stderr`.
    pub(super) fn start(
        name: &str,
        folder: &Path,
        command: &mut Command,
    ) -> Result<(Self, Arc<Running>), LabError> {
        let stdout = folder.join(format!("{name}.stdout"));
        let stderr = folder.join(format!("{name}.stderr"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).map_err(file(&stdout))?)
            .stderr(File::create(&stderr).map_err(file(&stderr))?)
            .spawn()
            .map_err(|source| LabError::Start { command: command::line(command), source })?;
        let running = Arc::new(Running { name: name.to_owned(), child: Mutex::new(child), stderr });
        Ok((Process { running: Arc::clone(&running), stdout }, running))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// How it ended, or `None` while it runs.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.running.exited()
    }

    /// All it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// All it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.running.stderr).unwrap_or_default()).into_owned()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.running.signal(Signal::TERM);
    }

    /// Sends SIGINT.
    pub fn interrupt(&self) {
        self.running.signal(Signal::INT);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.running.signal(Signal::HUP);
    }

    /// Stops it where it is, without its knowledge (SIGSTOP); it can still be killed.
    pub fn freeze(&self) {
        self.running.signal(Signal::STOP);
    }

    /// Has it go on where it was stopped.
    pub fn thaw(&self) {
        self.running.signal(Signal::CONT);
    }

    /// Sends SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// [`LabError::Deadline`] where the kernel keeps it.
    pub fn kill(&self) -> Result<(), LabError> {
        self.running.signal(Signal::KILL);
        self.wait(TERM_MAX).map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with its last words.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus, LabError> {
        wait_until(&format!("the end of {}", self.running.name), deadline, || match self.exited() {
            Some(status) => Look::Done(status),
            None => Look::NotYet(self.running.last_words()),
        })
    }

    /// Waits for a condition that this process brings about; its early end is reported at once.
    ///
    /// # Errors
    /// [`LabError::Ended`] where the process ends first, [`LabError::Deadline`] otherwise.
    pub fn wait_until<T, L: Into<Look<T>>>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut() -> L,
    ) -> Result<T, LabError> {
        wait_until(what, deadline, || match look().into() {
            Look::Done(found) => Look::Done(Ok(found)),
            Look::NotYet(last) => match self.exited() {
                Some(status) => Look::Done(Err(LabError::Ended {
                    process: self.running.name.clone(),
                    status,
                    what: what.to_owned(),
                    output: self.running.last_words(),
                })),
                None => Look::NotYet(format!("{last}\n{}", self.running.last_words())),
            },
        })?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.running.stop();
    }
}

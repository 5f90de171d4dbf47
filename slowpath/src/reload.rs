//! Reload: the file is read again, compared with what runs, and carried out as a whole or not at all.
//!
//! ```text
//!  file ─► Config ─► Diff ─► zone files ─► ports ─► draft ─► names ─► orchestrator ─► control loop ─► one snapshot for all workers
//!          wrong?    needs a     wrong?     opened   the appliance             \______________________________________/
//!                    restart?                 ?      can't do it?                from here on nothing can be refused
//! ```
//!
//! Zone files and the secrets of cookies are read each time; that one of them says something else is a difference too. The
//! file is the one that the appliance was started with; the appliance reads it, not who asks. One reload at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_config::{Config, Diff, Report};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::builder::{Digest, FileError, PortInfo, TableFiles};
use crate::control::{Asker, ReloadError};

/// What the orchestrator makes of a configuration: what carries it out, or why it can't be.
pub type Prepare = dyn Fn(&Config) -> Result<Box<dyn FnOnce() + Send>, String> + Send + Sync;

/// The driver's ports, for configurations that have others.
pub trait PortSet: Send + Sync {
    /// Opens the ports that `config` has and the appliance hasn't; with `dry_run` it only says which ids they would have.
    /// Nobody uses them before they are handed over, and dropping the change closes them again. Those that are `renamed`,
    /// from the first name to the second, stay open.
    ///
    /// # Errors
    /// Why one of them can't be had; then none is open.
    fn prepare(
        &self,
        config: &Config,
        renamed: &[(&str, &str)],
        dry_run: bool,
    ) -> Result<Box<dyn PortChange>, String>;
}

/// Ports that come and go.
pub trait PortChange {
    /// All ports by their ids; those that go have no name.
    fn ports(&self) -> Vec<PortInfo>;
    /// Tells the workers, who take it over with the next tables.
    fn hand_over(self: Box<Self>) -> Box<dyn FnOnce()>;
}

/// Reads the appliance's file again when it is told to.
pub struct Reloader {
    file: PathBuf,
    asker: Asker,
    ports: Box<dyn PortSet>,
    orchestrator: Box<Prepare>,
    /// Held for the whole of a reload.
    running: Mutex<Running>,
    status: Mutex<Status>,
}

/// What is in force.
#[derive(Clone, Debug)]
struct Running {
    config: Arc<Config>,
    /// Of the files that it names.
    digests: BTreeMap<PathBuf, Digest>,
}

/// What came of reloads so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When what runs was read, in seconds since 1970-01-01 UTC.
    pub loaded_unix_seconds: u64,
    /// Reloads that were carried out, those without a difference included.
    pub applied: u64,
    /// Reloads that changed nothing, because they couldn't be carried out.
    pub refused: u64,
    /// Why the last one was refused; empty if it wasn't.
    pub refusal: String,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is carried out.
    Applied,
    /// The file says what runs already.
    Unchanged,
    /// It would be carried out; nothing was, as asked.
    Possible,
    /// It can't be carried out, and nothing was.
    #[default]
    Refused,
    /// The file can't be read.
    Unreadable,
}

/// The answer to a reload, for operators and programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What came of it.
    pub outcome: Outcome,
    /// The file.
    pub file: String,
    /// The generation of the tables that have it.
    pub generation: Option<u64>,
    /// What differs from what runs, as [`Diff::to_json`] says; at most [`CHANGES_SHOWN_MAX`].
    pub changes: Value,
    /// How many changes there are.
    pub changes_total: usize,
    /// The changes, one line each; at most as many.
    pub lines: Vec<String>,
    /// Why it was refused; empty if it wasn't.
    pub reason: String,
    /// What is wrong with the file, as `millrace check --format json` says.
    pub errors: Value,
}

impl ReloadReport {
    fn tell(&mut self, diff: &Diff) {
        self.changes = diff.to_json(CHANGES_SHOWN_MAX);
        self.changes_total = diff.changes.len();
        self.lines = diff.changes.iter().take(CHANGES_SHOWN_MAX).map(ToString::to_string).collect();
    }
}

/// Why a reload is refused.
enum Refusal {
    Unreadable(Report),
    Wrong(Report),
    Restart,
    Impossible(String),
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        Self::Impossible(error.to_string())
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        Self::Impossible(error.to_string())
    }
}

impl Reloader {
    /// A reloader of `file`, from which `running` was read; `digests` are of the files that it names. `ports` are the
    /// driver's; `orchestrator` is told of each configuration that is carried out.
    pub fn new(
        file: &Path,
        running: Config,
        digests: BTreeMap<PathBuf, Digest>,
        asker: Asker,
        ports: Box<dyn PortSet>,
        orchestrator: Box<Prepare>,
    ) -> Self {
        let status = Status { loaded_unix_seconds: now_seconds(), ..Status::default() };
        Self {
            file: file.to_owned(),
            asker,
            ports,
            orchestrator,
            running: Mutex::new(Running { config: Arc::new(running), digests }),
            status: Mutex::new(status),
        }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What came of reloads so far.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file and carries it out; with `dry_run` only tells what would come of it.
    pub fn reload(&self, dry_run: bool) -> ReloadReport {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = ReloadReport {
            file: self.file.display().to_string(),
            changes: Value::Array(Vec::new()),
            errors: Value::Array(Vec::new()),
            ..ReloadReport::default()
        };
        match self.attempt(&running, dry_run, &mut report) {
            Ok(next) => *running = next,
            Err(refusal) => refuse(refusal, &mut report),
        }
        if !dry_run {
            self.note(&report);
        }
        report
    }

    /// What is in force from now on.
    fn attempt(
        &self,
        running: &Running,
        dry_run: bool,
        report: &mut ReloadReport,
    ) -> Result<Running, Refusal> {
        let name = &report.file;
        let bytes =
            fs::read(&self.file).map_err(|error| Refusal::Unreadable(Report::unreadable(name, &error)))?;
        let next = Arc::new(Config::from_bytes(name, &bytes).map_err(Refusal::Wrong)?);
        let mut diff = Diff::new(&running.config, &next);
        report.tell(&diff);
        if diff.restarts().next().is_some() {
            return Err(Refusal::Restart);
        }
        let TableFiles { zones, cookie_secrets, quic_keys, domains, digests } =
            TableFiles::read(&next, self.file.parent().unwrap_or(Path::new(".")))?;
        let other = |(name, digest): &(&PathBuf, &Digest)| {
            running.digests.get(*name).is_some_and(|known| known != *digest)
        };
        diff.add_files(digests.iter().filter(other).map(|(name, _)| name.as_path()));
        report.tell(&diff);
        if diff.is_empty() {
            report.outcome = Outcome::Unchanged;
            return Ok(running.clone());
        }
        let ports = match diff.touches_ports() {
            true => {
                let renamed: Vec<_> = diff.renamed_ports().collect();
                Some(self.ports.prepare(&next, &renamed, dry_run).map_err(Refusal::Impossible)?)
            }
            false => None,
        };
        let draft = self.asker.draft(&next, ports.as_ref().map(|change| change.ports()))?;
        let draft = draft.with_quic_keys(quic_keys).with_bier(&next, &domains).map_err(ReloadError::from)?;
        let tell_orchestrator = (self.orchestrator)(&next).map_err(Refusal::Impossible)?;
        let names = match diff.touches_names() {
            true => Some(draft.names(&next, zones).map_err(ReloadError::from)?),
            false => None,
        };
        if dry_run {
            report.outcome = Outcome::Possible;
            return Ok(running.clone());
        }
        // The orchestrator first: a service may be woken as soon as workers know it.
        tell_orchestrator();
        let close = ports.map(PortChange::hand_over);
        report.generation = Some(self.asker.reload(&next, draft, names, cookie_secrets)?.0);
        if let Some(close) = close {
            close();
        }
        report.outcome = Outcome::Applied;
        Ok(Running { config: next, digests })
    }

    fn note(&self, report: &ReloadReport) {
        let file = &report.file;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(report.outcome, Outcome::Refused | Outcome::Unreadable) {
            warn!(file, reason = report.reason, "a reload is refused; what runs goes on");
            status.refused += 1;
            status.refusal.clone_from(&report.reason);
            return;
        }
        for line in &report.lines {
            info!(file, "{line}");
        }
        info!(file, changes = report.changes_total, generation = report.generation, "reloaded");
        status.applied += 1;
        status.refusal.clear();
        status.loaded_unix_seconds = now_seconds();
    }
}

fn refuse(refusal: Refusal, report: &mut ReloadReport) {
    report.outcome = Outcome::Refused;
    match refusal {
        Refusal::Unreadable(wrong) => {
            report.outcome = Outcome::Unreadable;
            report.errors = wrong.to_json();
            report.reason = wrong.human(false);
        }
        Refusal::Wrong(wrong) => {
            report.errors = wrong.to_json();
            report.reason = wrong.human(false);
        }
        Refusal::Restart => {
            let hard = report.lines.iter().filter(|line| line.starts_with('!'));
            let hard: Vec<&str> = hard.map(|line| line.trim_start_matches("! ")).collect();
            report.reason = format!("this needs a restart of the appliance:\n  {}\n", hard.join("\n  "));
        }
        Refusal::Impossible(reason) => report.reason = reason,
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Changes that a report names: more than anybody reads; a zone may have a million.
pub const CHANGES_SHOWN_MAX: usize = 1000;

#[cfg(test)]
mod tests;

//! Reload: the file is read again, compared with what runs, and carried out as a whole or not at all.
//!
//! ```text
//!  file ─► Config ─► Diff ─► draft ─► names ─► orchestrator ─► control loop ─► one snapshot for all workers
//!          wrong?    needs a  the appliance                    \______________________________________/
//!                    restart? can't do it?                       from here on nothing can be refused
//! ```
//!
//! The file is the one that the appliance was started with; the appliance reads it, not who asks. One reload at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_config::{Config, Diff, Report};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::control::{Asker, ReloadError};

/// What the orchestrator makes of a configuration: what carries it out, or why it can't be.
pub type Prepare = dyn Fn(&Config) -> Result<Box<dyn FnOnce() + Send>, String> + Send + Sync;

/// Reads the appliance's file again when it is told to.
pub struct Reloader {
    file: PathBuf,
    asker: Asker,
    orchestrator: Box<Prepare>,
    /// Held for the whole of a reload.
    running: Mutex<Arc<Config>>,
    status: Mutex<Status>,
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

impl Reloader {
    /// A reloader of `file`, from which `running` was read. `orchestrator` is told of each configuration that is
    /// carried out.
    pub fn new(file: &Path, running: Config, asker: Asker, orchestrator: Box<Prepare>) -> Self {
        let status = Status { loaded_unix_seconds: now_seconds(), ..Status::default() };
        Self {
            file: file.to_owned(),
            asker,
            orchestrator,
            running: Mutex::new(Arc::new(running)),
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
            Ok(next) => running.clone_from(&next),
            Err(refusal) => refuse(refusal, &mut report),
        }
        if !dry_run {
            self.note(&report);
        }
        report
    }

    /// The configuration that runs from now on.
    fn attempt(
        &self,
        running: &Arc<Config>,
        dry_run: bool,
        report: &mut ReloadReport,
    ) -> Result<Arc<Config>, Refusal> {
        let name = &report.file;
        let bytes =
            fs::read(&self.file).map_err(|error| Refusal::Unreadable(Report::unreadable(name, &error)))?;
        let next = Arc::new(Config::from_bytes(name, &bytes).map_err(Refusal::Wrong)?);
        let diff = Diff::new(running, &next);
        report.changes = diff.to_json(CHANGES_SHOWN_MAX);
        report.changes_total = diff.changes.len();
        report.lines = diff.changes.iter().take(CHANGES_SHOWN_MAX).map(ToString::to_string).collect();
        if diff.restarts().next().is_some() {
            return Err(Refusal::Restart);
        }
        if diff.is_empty() {
            report.outcome = Outcome::Unchanged;
            return Ok(Arc::clone(running));
        }
        let draft = self.asker.draft(&next)?;
        let tell_orchestrator = (self.orchestrator)(&next).map_err(Refusal::Impossible)?;
        let names = match diff.touches_names() {
            true => Some(draft.names(&next).map_err(ReloadError::from)?),
            false => None,
        };
        if dry_run {
            report.outcome = Outcome::Possible;
            return Ok(Arc::clone(running));
        }
        // The orchestrator first: a service may be woken as soon as workers know it.
        tell_orchestrator();
        report.generation = Some(self.asker.reload(&next, draft, names)?.0);
        report.outcome = Outcome::Applied;
        Ok(next)
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

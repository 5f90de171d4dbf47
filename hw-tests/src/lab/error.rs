//! What can go wrong while a lab is built or used, in words that name the command that failed.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A lab that could not be built, a tool that refused, or a condition that did not come true. Its `Debug` form is
/// its message too, since that is what a failed `unwrap` of a test prints.
#[derive(thiserror::Error)]
pub enum LabError {
    /// A tool is missing or could not be started at all.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The whole command line.
        command: String,
        /// Why the kernel refused.
        source: std::io::Error,
    },
    /// A tool ran and ended with another code than 0.
    #[error("`{command}` ended with {status}\n{output}")]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, or to standard output where that was empty.
        output: String,
    },
    /// A background process ended while something was expected of it.
    #[error("{process} ended with {status} while we waited for {what}\n{output}")]
    Ended {
        /// The name it was started under.
        process: String,
        /// How it ended.
        status: ExitStatus,
        /// What was waited for.
        what: String,
        /// The end of its standard error.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {deadline:?}; last seen: {last}")]
    Deadline {
        /// The condition.
        what: String,
        /// How long we waited.
        deadline: Duration,
        /// What the last look showed.
        last: String,
    },
    /// A capture holds frames that no host should have sent.
    #[error("{capture} holds what is malformed:\n{faults}", capture = capture.display(), faults = faults.join("\n"))]
    Malformed {
        /// The capture.
        capture: PathBuf,
        /// A line for each such frame.
        faults: Vec<String>,
    },
    /// A file of the lab could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A tool answered with something that cannot be understood.
    #[error("{what}: {detail}")]
    Unreadable {
        /// What was being read.
        what: String,
        /// What was found.
        detail: String,
    },
}

impl std::fmt::Debug for LabError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Ties an error of the file system to the file.
pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> LabError + '_ {
    move |source| LabError::File { path: path.to_owned(), source }
}

/// An answer that cannot be understood.
pub(crate) fn unreadable(what: impl Into<String>, detail: impl ToString) -> LabError {
    LabError::Unreadable { what: what.into(), detail: detail.to_string() }
}

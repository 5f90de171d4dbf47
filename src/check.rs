//! `millrace check`: is this file a configuration?

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use millrace_config::{Config, Report};

/// Check a configuration file, and name everything that is wrong with it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace check edge.toml
  millrace check edge.toml --format json | jq -r '.[] | \"\\(.line): \\(.message)\"'

Exit codes: 0 the file is right, 1 it is wrong, 2 the call is wrong, 3 the file can't be read.

With `--format json` an array is printed, empty if the file is right. Each error has `code` (stable), \
`severity`, `message`, `file`, `line` and `column` (counted from 1), `length` (in characters), `label`, \
`help` (or null) and `related` (other places).")]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// How to print the result.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people: the lines, underlined, with hints.
    Human,
    /// For programs: an array of objects.
    Json,
}

/// Why there is no configuration.
pub(crate) enum Refusal {
    /// The file is wrong.
    Wrong(Report),
    /// The file can't be read.
    Unreadable(Report),
}

/// Runs `millrace check`.
pub(crate) fn run(args: Args) -> ExitCode {
    let loaded = load(&args.file);
    match (&loaded, args.format) {
        (Ok(_), Format::Human) => say(&format!("{} is right\n", args.file.display())),
        (Ok(_), Format::Json) => say("[]\n"),
        (Err(refusal), Format::Human) => refusal.print(),
        (Err(refusal), Format::Json) => say(&format!("{:#}\n", refusal.report().to_json())),
    }
    match loaded {
        Ok(_) => ExitCode::SUCCESS,
        Err(refusal) => refusal.exit_code(),
    }
}

/// Reads and checks a configuration file.
pub(crate) fn load(file: &Path) -> Result<Config, Refusal> {
    let name = file.display().to_string();
    let bytes =
        std::fs::read(file).map_err(|error| Refusal::Unreadable(Report::unreadable(&name, &error)))?;
    Config::from_bytes(&name, &bytes).map_err(Refusal::Wrong)
}

impl Refusal {
    /// What is wrong.
    pub(crate) fn report(&self) -> &Report {
        match self {
            Self::Wrong(report) | Self::Unreadable(report) => report,
        }
    }

    /// The exit code that tells which of the two it is.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Wrong(_) => ExitCode::from(1),
            Self::Unreadable(_) => ExitCode::from(3),
        }
    }

    /// Prints the report for a person, to standard error.
    pub(crate) fn print(&self) {
        print_report(self.report());
    }
}

/// Prints a report for a person, to standard error: in colour on a terminal, unless `NO_COLOR` is set.
pub(crate) fn print_report(report: &Report) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", report.human(colour));
}

/// Prints to standard output. That a reader such as `head` has gone isn't an error.
pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

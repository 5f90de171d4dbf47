//! `millrace schema`: which keys there are.

use std::process::ExitCode;

/// Print the JSON Schema of the configuration file.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace schema > millrace.schema.json

Editors with a TOML language server check and complete a file against it whose first line is:
  #:schema millrace.schema.json

Keys marked `x-not-built` are agreed, but refused by this version. Exit code: 0.")]
pub(crate) struct Args {}

/// Runs `millrace schema`.
pub(crate) fn run(Args {}: Args) -> ExitCode {
    crate::check::say(&format!("{}\n", millrace_config::json_schema()));
    ExitCode::SUCCESS
}

//! `millrace reload`: the configuration is read again while traffic flows.

use std::process::ExitCode;

use millrace_slowpath::reload::Outcome;
use millrace_slowpath::telemetry::{self, ClientError, Request};

use crate::check::say;
use crate::serve::fail;
use crate::show::At;

/// Have a running appliance read its configuration again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace reload --dry-run
  millrace reload
  millrace reload --json | jq -r '.changes[] | \"\\(.change) \\(.what) \\(.name)\"'

The appliance reads the file that it was started with, checks it, and prints what differs from what runs. All of it is
applied at once, or none: a file with a mistake, or with something that needs a restart (marked `!`), changes nothing.
Established flows go on, also those of services and addresses that the file no longer has. SIGHUP does the same, and the
log tells what came of it.

`+` is new, `-` is gone, `~` has changed, `!` needs a restart.

Exit codes: 0 applied, or nothing to do; 1 refused, what runs goes on; 2 the call is wrong; 3 no appliance answers, or the
file can't be read.")]
pub(crate) struct Args {
    /// Only tell what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

/// Runs `millrace reload`.
pub(crate) fn run(args: Args) -> ExitCode {
    let answer = telemetry::reload(args.at.socket(), args.dry_run).and_then(|(report, value)| {
        let text = args.at.text(Request::Reload { dry_run: args.dry_run }, value)?;
        Ok((report.outcome, text))
    });
    match answer {
        Ok((outcome, text)) => {
            say(&text);
            match outcome {
                Outcome::Applied | Outcome::Unchanged | Outcome::Possible => ExitCode::SUCCESS,
                Outcome::Refused => ExitCode::from(1),
                Outcome::Unreadable => ExitCode::from(3),
            }
        }
        Err(error @ (ClientError::NotThere { .. } | ClientError::Broken(_))) => fail(&error.to_string(), 3),
        Err(error) => fail(&error.to_string(), 1),
    }
}

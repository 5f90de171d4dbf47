//! `millrace trace`: the way of single frames through the nodes.

use std::process::ExitCode;

use millrace_slowpath::telemetry::{Request, TRACE_FRAMES_MAX, TRACE_SECONDS_MAX};

use crate::show::At;

/// Show which nodes the next frames pass, and what each decides.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace trace 5
  millrace trace 100 --seconds 60 --json | jq -r '.[] | select(.node == \"transit\") | .summary'

A trace that doesn't fill within its time shows what there is. A newer one ends an older one.

Exit codes: 0 shown, 1 the appliance can't say, 2 the call is wrong, 3 no appliance answers.")]
pub(crate) struct Args {
    /// How many frames
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(TRACE_FRAMES_MAX)))]
    frames: u16,
    /// How long to wait for them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=i64::from(TRACE_SECONDS_MAX)))]
    seconds: u16,
    #[command(flatten)]
    at: At,
}

/// Runs `millrace trace`.
pub(crate) fn run(args: Args) -> ExitCode {
    args.at.ask(Request::Trace { frames: args.frames, seconds: args.seconds })
}

//! `millrace bier ping`: whether packets arrive, and how long they take.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use millrace_slowpath::telemetry::{Ping, render_echo, render_ping};
use serde_json::json;

use super::asking::{Asking, Probe, seconds};
use crate::check::say;
use crate::serve::fail;

/// Ask routers of a BIER domain whether packets arrive: echo requests from a running appliance.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace bier ping --bits 2,3,66-70
  millrace bier ping --bits 66 --count 100 --interval 0.1 --reply udp
  millrace bier ping --subdomain 1 --bits 1,2,7,8 --receivers 7,8      a tree of BIER-TE
  millrace bier ping --bits 2,3 --json | jq '.routers[] | .mean_ms'

Each request is one BIER packet for each set, as multicast would have. A line tells a router's reply: its number, BFR-prefix, the round trip,
how it came and what it says. The end, or Ctrl-C, sums up. With --json it is one object: `reports` (one for each request: `sequence`, `ways`
(where it was sent), `local`, `replies`, `missing`) and `routers` (by BFR-id: `sent`, `answered`, `min_ms`, `mean_ms`, `max_ms`).

Exit codes: 0 everybody answered, 1 somebody didn't, 2 the call is wrong, 3 no appliance answers.")]
pub(super) struct Args {
    /// How many requests
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// From one request to the next, in seconds; a request whose replies aren't there yet is waited for
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    #[command(flatten)]
    probe: Probe,
}

/// Runs `millrace bier ping`.
pub(super) fn run(args: &Args) -> ExitCode {
    let asking = match Asking::start(args.probe.at.socket()) {
        Ok(asking) => asking,
        Err(error) => return fail(&format!("cannot wait for signals: {error}"), 3),
    };
    let mut ping = Ping::new(args.probe.receivers());
    let tell = |text: String| {
        if !args.probe.at.is_json() {
            say(&text);
        }
    };
    tell(args.probe.head("echo requests"));
    for sequence in 1..=args.count {
        let begun = Instant::now();
        let mut request = args.probe.request();
        request.sequence = sequence;
        match asking.ask(request) {
            None => break,
            Some(Err(error)) => return args.probe.at.refused(&error),
            Some(Ok(report)) => {
                tell(render_echo(&report));
                ping.take(report);
            }
        }
        let rest = Duration::from_secs_f64(args.interval).saturating_sub(begun.elapsed());
        if sequence < args.count && !asking.rest(rest) {
            break;
        }
    }
    tell(render_ping(&ping));
    if args.probe.at.is_json() {
        say(&format!("{:#}\n", json!(&ping)));
    }
    if ping.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

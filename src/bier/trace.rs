//! `millrace bier trace`: the way of a packet, router by router.

use std::process::ExitCode;

use millrace_slowpath::telemetry::{Hops, render_hop, render_ways};
use serde_json::json;

use super::asking::{Asking, Probe};
use crate::check::say;
use crate::serve::fail;

/// Follow the tree of a BIER packet, hop by hop: echo requests from a running appliance.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace bier trace --bits 66
  millrace bier trace --bits 2,3,66-70 --entropy 17
  millrace bier trace --subdomain 1 --bits 1,2,7,8 --receivers 7,8
  millrace bier trace --bits 66 --json | jq '.hops[] | .replies[].prefix'

The requests may go one hop, then two, and so on, until all receivers have replied. A line tells a router: its BFR-prefix (and number, if it
is one of the receivers), the round trip, what it says and where the request came in; below it the routers that it sends copies to, and
for whom. A router that didn't reply, though the one before says that it got a copy, is a `*`. With --json it is one object: `ways` (where we
send it), `hops` (`ttl`, `replies`, `silent`) and `missing` (receivers that never replied).

Exit codes: 0 all receivers replied, 1 some didn't, 2 the call is wrong, 3 no appliance answers.")]
pub(super) struct Args {
    /// How far at most, in hops
    #[arg(short = 'm', long, value_name = "HOPS", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..))]
    hops_max: u8,
    #[command(flatten)]
    probe: Probe,
}

/// Runs `millrace bier trace`.
pub(super) fn run(args: &Args) -> ExitCode {
    let asking = match Asking::start(args.probe.at.socket()) {
        Ok(asking) => asking,
        Err(error) => return fail(&format!("cannot wait for signals: {error}"), 3),
    };
    let mut hops = Hops::new(args.probe.receivers().clone(), args.probe.request(), args.hops_max);
    let tell = |text: String| {
        if !args.probe.at.is_json() {
            say(&text);
        }
    };
    tell(args.probe.head("trace"));
    while let Some(request) = hops.next() {
        let is_first = request.ttl == 1;
        match asking.ask(request) {
            None => break,
            Some(Err(error)) => return args.probe.at.refused(&error),
            Some(Ok(report)) => {
                if is_first {
                    tell(render_ways(&report.ways));
                }
                tell(render_hop(hops.take(report)));
            }
        }
    }
    let missing = hops.missing.to_string();
    if !missing.is_empty() {
        tell(format!("no answer from {missing}\n"));
    }
    if args.probe.at.is_json() {
        say(&format!("{:#}\n", json!(&hops)));
    }
    if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

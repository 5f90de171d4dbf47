//! `millrace hub receive`: what a node runs to get contents.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use millrace_hub::norm::NodeId;
use millrace_hub_node::{Interface, News, OneWay, Settings, Summary, receive};
use millrace_hub_store::{Keys, Trust};
use serde_json::{Value, json};

use super::{LiveLine, exit_code, oneway, progress_text, stop_at_signals};
use crate::check::say;
use crate::serve::{fail, log_to_stderr};

/// Receive contents from a hub.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace hub receive --group 239.1.1.9:6003 --interface eth0 --hub 10.0.0.1 --node 2 --keys publisher.pub --into /srv/images
  millrace hub receive --group 239.1.1.9:6003 --interface eth0 --hub 10.0.0.1 --node 2 --into . --count 1 --json
  millrace hub receive --group 239.1.1.9:6003 --interface eth0 --hub 10.0.0.1 --tsi 7 --into /srv/images

A content gets its name in the folder when all of it is there, hashed and durable; then the hub is told. What is arriving is in
.millrace in the folder: after a crash or a signal the same call goes on where it was, at most a second's worth is sent again.

With --keys, manifests that none of these keys signed are refused, and so are versions older than one that was here. Without,
a sender that gives nothing but a name is accepted too; what it sends can't be verified.

With --tsi, files are taken that come by FLUTE (RFC 6726): nothing is said back, the sender repeats them or codes them (RaptorQ). They
have the names that its tables give, once their MD5 is right where a table names one; after a crash it goes on here, too.

With --json, an object a line, with `event`: listening, begun (`object`, `size`), progress (`object`, `name`, `held`, `size`,
`bytes_per_second`, `seconds_left`), received (`object`, `path`, `size`, `root`, `verified`), refused (`object`, `why`), gone (`object`),
restarted, ended, and at the end summary (`received`, `refused`, `source`, `parity`, `decoded`, `duplicate`, `foreign`, `malformed`,
`nacks`, `acks`, `feedback_bytes`, `overrun`). With --tsi there is neither `root` nor feedback.

SIGINT and SIGTERM end it cleanly.

Exit codes: 0 ended or got as many as asked for, 1 something was refused, 2 the call is wrong, 3 the system refused.")]
pub(crate) struct Args {
    /// The group and the port that the hub sends to
    #[arg(long, value_name = "ADDRESS:PORT")]
    group: SocketAddr,
    /// The interface on which the group is joined
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// The hub's address; what comes from elsewhere is ignored
    #[arg(long, value_name = "ADDRESS")]
    hub: IpAddr,
    /// The hub's number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    hub_number: u32,
    /// This node's number, as the hub knows it
    #[arg(long, value_name = "NUMBER", required_unless_present = "tsi")]
    node: Option<u32>,
    /// Take files by FLUTE instead, of this session
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["node", "hub_number", "keys"])]
    tsi: Option<u64>,
    /// The folder for contents
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Public keys, PEM: only what one of them signed is taken
    #[arg(long, value_name = "FILE", num_args = 1..)]
    keys: Vec<PathBuf>,
    /// End after so many contents
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// Runs `millrace hub receive`.
pub(super) fn run(args: Args) -> ExitCode {
    log_to_stderr(args.json, "warn");
    let trust = match Keys::load(&args.keys) {
        Ok(_) if args.keys.is_empty() => Trust::Anybody,
        Ok(keys) => Trust::Keys(keys),
        Err(error) => return fail(&error.to_string(), 2),
    };
    let interface = match Interface::named(&args.interface) {
        Ok(interface) => interface,
        Err(error) => return fail(&error.to_string(), exit_code(&error)),
    };
    let stop = match stop_at_signals() {
        Ok(stop) => stop,
        Err(error) => return fail(&format!("cannot wait for signals: {error}"), 3),
    };
    let (group, folder, count) = (args.group, args.into, args.count);
    // One of both is required.
    let Some(node) = args.node else {
        let tsi = args.tsi.unwrap_or_default();
        return oneway::run(
            OneWay { group, interface, source: args.hub, tsi, folder, count },
            &stop,
            args.json,
        );
    };
    let (sender, node) = (NodeId(args.hub_number), NodeId(node));
    let settings = Settings { group, interface, hub: args.hub, sender, node, folder, trust, count };
    let mut line = LiveLine::default();
    let received = receive(settings, &stop, |news| match args.json {
        true => say(&format!("{}\n", news_json(&news))),
        false => say(&news_text(&news, &mut line)),
    });
    match received {
        Ok(summary) => {
            say(&if args.json {
                format!("{}\n", summary_json(&summary))
            } else {
                line.lasting(&summary_text(&summary))
            });
            if summary.refused > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(error) => fail(&error.to_string(), exit_code(&error)),
    }
}

fn news_json(news: &News) -> Value {
    match news {
        News::Listening => json!({ "event": "listening" }),
        News::Begun { object, size } => json!({ "event": "begun", "object": object.0, "size": size }),
        News::Progress { object, name, held, size, per_second, left } => json!({
            "event": "progress",
            "object": object.0,
            "name": name,
            "held": held,
            "size": size,
            "bytes_per_second": per_second,
            "seconds_left": left.map(|left| left.as_secs_f64()),
        }),
        News::Received(what) => json!({
            "event": "received",
            "object": what.object.0,
            "path": what.path,
            "size": what.size,
            "root": what.root,
            "verified": what.verified,
        }),
        News::Refused { object, why, .. } => {
            json!({ "event": "refused", "object": object.0, "why": why.to_string() })
        }
        News::Gone(object) => json!({ "event": "gone", "object": object.0 }),
        News::Restarted => json!({ "event": "restarted" }),
        News::Ended => json!({ "event": "ended" }),
    }
}

fn news_text(news: &News, line: &mut LiveLine) -> String {
    match news {
        News::Listening => line.lasting("listening"),
        News::Begun { object, size } => line.lasting(&format!("content {} begins: {size} bytes", object.0)),
        News::Progress { object, name, held, size, per_second, left } => {
            let name = name.clone().unwrap_or_else(|| format!("content {}", object.0));
            line.passing(&progress_text(&name, *held, *size, *per_second, *left))
        }
        News::Received(what) => {
            let verified = if what.verified { "verified" } else { "without a manifest" };
            let path = what.path.display();
            line.lasting(&format!("{path}: {} bytes, {verified}, {}", what.size, what.root))
        }
        News::Refused { object, why, .. } => line.lasting(&format!("content {} is refused: {why}", object.0)),
        News::Gone(object) => line.lasting(&format!("content {} is given up by the hub", object.0)),
        News::Restarted => line.lasting("the hub has begun anew"),
        News::Ended => line.lasting("the hub has ended"),
    }
}

fn summary_json(summary: &Summary) -> Value {
    let heard = &summary.heard;
    json!({
        "event": "summary",
        "received": summary.received,
        "refused": summary.refused,
        "source": heard.source,
        "parity": heard.parity,
        "decoded": heard.decoded,
        "duplicate": heard.duplicate,
        "foreign": heard.foreign,
        "malformed": heard.malformed,
        "nacks": heard.nacks,
        "acks": heard.acks,
        "feedback_bytes": heard.feedback_bytes,
        "overrun": summary.overrun,
    })
}

fn summary_text(summary: &Summary) -> String {
    let (heard, refused) = (&summary.heard, summary.refused);
    format!(
        "{} received, {refused} refused; segments: {} as sent, {} decoded, {} twice; {} requests, {} lost here",
        summary.received, heard.source, heard.decoded, heard.duplicate, heard.nacks, summary.overrun
    )
}

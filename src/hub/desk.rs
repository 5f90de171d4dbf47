//! `millrace hub put`, `list`, `status` and `verify`: asked of a running appliance, or of a folder while none runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_hub_node::Meter;
use millrace_hub_store::desk::{Ask, Desk, NodeState, Place, Put, S3, Status, Verified, What};
use millrace_hub_store::{Limits, Millis, SigningKey, Store};
use millrace_slowpath::telemetry::{self, ClientError, Request, Value, render_hub};
use serde_json::from_value;

use super::{LiveLine, progress_text};
use crate::check::say;
use crate::serve::{fail, log_to_stderr};

/// Whom to ask, and how the answer is printed.
#[derive(clap::Args)]
pub(super) struct At {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The appliance's control socket
    #[arg(
        short,
        long,
        value_name = "PATH",
        default_value = "/run/millrace/control.sock",
        conflicts_with = "store"
    )]
    socket: PathBuf,
    /// The folder of a store that no appliance has open, instead of an appliance
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// Put contents into a hub.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace hub put image.bin
  millrace hub put image.bin --group camera --name firmware.bin
  millrace hub put https://builds.example/7/image.bin
  millrace hub put /srv/images                          its files; those in its folders are for the groups of their names
  millrace hub put s3://images/site-a                   AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
  millrace hub put image.bin --store /var/lib/millrace/hub --key site.key

What is put is hashed as it comes, and sent to the nodes of its group once it is all there. A running appliance reads files and folders
itself, so they must be where it runs, and readable for it; it signs with its own key. The same content again is no new version.

With --json, a list of objects with `place`, `taken` (as in `list`) and `refused`.

Exit codes: 0 put, 1 some of it was refused, 2 the call is wrong, 3 no appliance answers, or the store can't be opened.")]
pub(super) struct PutArgs {
    /// A file, a folder, http(s)://…, or s3://BUCKET/PREFIX
    what: String,
    /// What it is called; without, as the file is
    #[arg(long)]
    name: Option<String>,
    /// The group of nodes that it is for; without, all nodes
    #[arg(long, default_value = "")]
    group: String,
    /// Its version; without, the next one of its name
    #[arg(long, value_name = "NUMBER")]
    content_version: Option<u64>,
    /// With --store: sign the manifests with this key, PEM
    #[arg(long, value_name = "FILE", requires = "store")]
    key: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

/// List a hub's contents.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace hub list
  millrace hub list --json | jq -r '.[] | \"\\(.root)  \\(.name)\"'

`HERE %` is how much of it has arrived, `STAYS` whether nodes are owed it or late ones may come: it isn't removed to make room.

With --json, a list of objects with `name`, `group`, `version`, `root`, `size`, `held`, `complete`, `removed`,
`pinned`, `signed_by`.

Exit codes: 0 listed, 1 the appliance can't say, 2 the call is wrong, 3 no appliance answers, or the store can't be opened.")]
pub(super) struct ListArgs {
    #[command(flatten)]
    at: At,
}

/// Show how far a hub's contents are, at the hub and at each node.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace hub status
  millrace hub status --watch                           every second, until every node has everything or is given up
  millrace hub status --json | jq '.contents[].nodes[] | select(.state == \"failed\")'

With --json, an object with `budget_bytes`, `used_bytes`, `behind`, `sends`, `contents` (as in `list`, with `nodes`: `node`, `state`, `lacks`, and
while there is a session `site`, `sent_bytes`, `repair_bytes`, `owed_bytes`, `apart`, `bytes_per_second`, `seconds_left`) and `counters`; with
--watch one a line. Rates are of first copies and repairs over the last seconds; they and what is left are null where nothing moves.

Exit codes: 0 shown, 1 the appliance can't say, 2 the call is wrong, 3 no appliance answers, or the store can't be opened.")]
pub(super) struct StatusArgs {
    /// Go on until every node has everything, or is given up
    #[arg(long, conflicts_with = "store")]
    watch: bool,
    #[command(flatten)]
    at: At,
}

/// Read a hub's contents and hold them against their hashes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace hub verify
  millrace hub verify image.bin --json | jq '.[].damaged'

All bytes are read. What is damaged is missing from then on: it isn't given out.

With --json, a list of objects with `root`, `names`, `size` and `damaged`, ranges of bytes.

Exit codes: 0 all is sound, 1 some of it isn't, 2 the call is wrong, 3 no appliance answers, or the store can't be opened.")]
pub(super) struct VerifyArgs {
    /// Only contents of this name
    name: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Why there is no answer, and the code to end with.
struct Unanswered(String, u8);

impl Unanswered {
    fn end(self) -> ExitCode {
        fail(&self.0, self.1)
    }
}

/// Runs `millrace hub put`.
pub(super) fn put(args: PutArgs) -> ExitCode {
    log_to_stderr(false, "warn");
    let place = match place(&args.what) {
        Ok(place) => place,
        Err(reason) => return fail(&reason, 2),
    };
    let (name, group, version) = (args.name, args.group, args.content_version);
    let what = What { place, name, group, version };
    let bad = |value| Ok(from_value::<Vec<Put>>(value)?.iter().any(|one| one.taken.is_none()));
    args.at.print(Ask::Put(Box::new(what)), args.key.as_deref(), bad)
}

/// Runs `millrace hub list`.
pub(super) fn list(args: ListArgs) -> ExitCode {
    log_to_stderr(false, "warn");
    args.at.print(Ask::List, None, |_| Ok(false))
}

/// Runs `millrace hub verify`.
pub(super) fn verify(args: VerifyArgs) -> ExitCode {
    log_to_stderr(false, "warn");
    let damaged = |value| Ok(from_value::<Vec<Verified>>(value)?.iter().any(|one| !one.damaged.is_empty()));
    args.at.print(Ask::Verify { name: args.name }, None, damaged)
}

/// Runs `millrace hub status`.
pub(super) fn status(args: StatusArgs) -> ExitCode {
    log_to_stderr(false, "warn");
    if args.watch { watch(&args.at) } else { args.at.print(Ask::Status, None, |_| Ok(false)) }
}

/// Tells how far everything is, every second until nothing is on its way any more.
fn watch(at: &At) -> ExitCode {
    let (begun, mut line, mut meter) = (Instant::now(), LiveLine::default(), Meter::default());
    loop {
        let (status, value) = match at
            .ask(&Ask::Status, None)
            .and_then(|value| Ok((from_value::<Status>(value.clone()).map_err(unreadable)?, value)))
        {
            Ok(answer) => answer,
            Err(unanswered) => return unanswered.end(),
        };
        if !status.sends {
            return fail("this hub sends nothing to nodes, so there is nothing to watch", 1);
        }
        let way = Way::of(&status);
        meter.note(begun.elapsed(), way.done);
        if at.json {
            say(&format!("{value}\n"));
        } else if way.waiting > 0 {
            say(&line.passing(&way.text(&meter)));
        }
        if way.waiting == 0 {
            let text = match render_hub(&Ask::Status, value) {
                Ok(text) => text,
                Err(error) => return unreadable(error).end(),
            };
            if !at.json {
                say(&line.lasting(text.trim_end()));
            }
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(TICK);
    }
}

/// How far everything is that is on its way.
struct Way {
    /// Bytes that nodes are known to have, all nodes and contents together,
    done: u64,
    /// of so many.
    whole: u64,
    /// Contents at nodes that aren't done.
    waiting: usize,
}

impl Way {
    fn of(status: &Status) -> Self {
        let mut way = Self { done: 0, whole: 0, waiting: 0 };
        for content in &status.contents {
            let size = content.content.size;
            if !content.content.complete && !content.content.removed {
                way.whole += size;
                way.done += content.content.held;
                way.waiting += 1;
            }
            for node in content.nodes.iter().filter(|node| node.state != NodeState::Failed) {
                way.whole += size;
                match (node.state, &node.session) {
                    (NodeState::Acked, _) => way.done += size,
                    (_, Some(session)) => {
                        way.done += session.sent_bytes.min(size).saturating_sub(session.owed_bytes);
                        way.waiting += 1;
                    }
                    (_, None) => way.waiting += 1,
                }
            }
        }
        way
    }

    fn text(&self, meter: &Meter) -> String {
        let waiting = format!("{} wait", self.waiting);
        progress_text(&waiting, self.done, self.whole, meter.per_second(), meter.left(self.whole))
    }
}

impl At {
    /// Asks, prints the answer, and ends with 1 if that is `bad`.
    fn print(
        &self,
        ask: Ask,
        key: Option<&Path>,
        bad: impl Fn(Value) -> serde_json::Result<bool>,
    ) -> ExitCode {
        let printed = self.ask(&ask, key).and_then(|value| {
            let bad = bad(value.clone()).map_err(unreadable)?;
            let text = if self.json {
                format!("{value:#}\n")
            } else {
                render_hub(&ask, value).map_err(unreadable)?
            };
            Ok((text, bad))
        });
        match printed {
            Ok((text, bad)) => {
                say(&text);
                ExitCode::from(u8::from(bad))
            }
            Err(unanswered) => unanswered.end(),
        }
    }

    fn ask(&self, ask: &Ask, key: Option<&Path>) -> Result<Value, Unanswered> {
        let Some(folder) = &self.store else {
            return telemetry::ask(&self.socket, &Request::Hub(ask.clone())).map_err(|error| {
                let code = match error {
                    ClientError::NotThere { .. } | ClientError::Broken(_) => 3,
                    ClientError::Refused(_) | ClientError::Unreadable(_) => 1,
                };
                Unanswered(error.to_string(), code)
            });
        };
        let key = key.map(SigningKey::load).transpose().map_err(|error| Unanswered(error.to_string(), 2))?;
        // It would be made otherwise.
        if !Store::is_in(folder) && !matches!(ask, Ask::Put(_)) {
            return Err(Unanswered(format!("there is no store in {}", folder.display()), 3));
        }
        let store = Store::open(folder, NO_LIMITS, Millis::now());
        let store = store.map_err(|error| Unanswered(format!("{}: {error}", folder.display()), 3))?;
        let answer = Desk::new(store, key.map(Arc::new)).answer(ask.clone());
        answer.map_err(|error| Unanswered(error.to_string(), 1))
    }
}

fn unreadable(error: serde_json::Error) -> Unanswered {
    Unanswered(format!("the answer can't be read: {error}"), 1)
}

/// What a word of the command line means.
fn place(text: &str) -> Result<Place, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Place::Url(text.to_owned()));
    }
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("a bucket is s3://BUCKET or s3://BUCKET/PREFIX".to_owned());
        }
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let region = set("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint =
            set("AWS_ENDPOINT_URL").unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let access = set("AWS_ACCESS_KEY_ID").zip(set("AWS_SECRET_ACCESS_KEY"));
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        return Ok(Place::Bucket(S3 { endpoint, bucket, prefix, region, access }));
    }
    // Whole, because the appliance has another folder.
    let path = std::fs::canonicalize(text).map_err(|error| format!("{text}: {error}"))?;
    Ok(if path.is_dir() { Place::Folder(path) } else { Place::File(path) })
}

/// A call by hand removes nothing to make room, and leaves the disk as full as it makes it.
const NO_LIMITS: Limits = Limits { budget_bytes: u64::MAX >> 1, reserve_bytes: 0 };
/// Between two looks.
const TICK: Duration = Duration::from_secs(1);

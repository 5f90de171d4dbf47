//! `millrace hub send`: files to nodes, by a hub without workers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_hub::nodes::NodeIndex;
use millrace_hub::norm::{NodeId, ObjectId};
use millrace_hub::session::{Event, LegCounters, Progress, Sender};
use millrace_hub_node::{Interface, Leg, Sending, Sent, Told, send};
use millrace_hub_store::SigningKey;
use serde_json::{Value, json};

use super::{LiveLine, exit_code, node, percent, stop_at_signals};
use crate::check::say;
use crate::serve::{fail, log_to_stderr};

/// Send files to nodes, once, without an appliance.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace hub send --group 239.1.1.9:6003 --interface eth0 --address 10.0.0.1 --nodes 2=10.0.0.2,3=10.0.0.3 image.bin
  millrace hub send --group 239.1.1.9:6003 --interface eth0 --address 10.0.0.1 --nodes 2=10.0.0.2 --key publisher.key image.bin --json

First copies go to the group by multicast, repairs to each node's own address. It ends when every node has said that it has everything, or
is given up. Its receivers are `millrace hub receive`, or NORM receivers that listen to the group's port.

With --json, an object a line, with `event`: progress (`file`, `node`, `sent`, `segments`, `owed`, `apart`), complete and failed (`file`,
`node`), finished (`file`), and at the end summary: `seconds`, `nacks`, `acks`, `feedback_bytes`, `unsent`, `trunk`, and `legs`, an
object each with `node` and, as in `trunk`, `first_packets`, `first_bytes`, `repair_packets`, `repair_bytes`, `control_packets`,
`control_bytes`: NORM messages without what carries them.

Exit codes: 0 every node has everything, 1 one hasn't, 2 the call is wrong, 3 the system refused.")]
pub(crate) struct Args {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The group and the port that the nodes listen to
    #[arg(long, value_name = "ADDRESS:PORT")]
    group: SocketAddr,
    /// The interface to the nodes
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Our address
    #[arg(long)]
    address: IpAddr,
    /// Our number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    hub_number: u32,
    /// The nodes
    #[arg(long, value_name = "NUMBER=ADDRESS", required = true, value_delimiter = ',', value_parser = node)]
    nodes: Vec<(u32, IpAddr)>,
    /// How fast, headers included
    #[arg(long, value_name = "RATE", default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    bits_per_second: u64,
    /// How many routers packets to the group may pass, and one
    #[arg(long, default_value_t = 1)]
    hops: u8,
    /// Sign the manifests with this key, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The contents' version; without, the time in seconds since 1970
    #[arg(long)]
    content_version: Option<u64>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// Runs `millrace hub send`.
pub(super) fn run(args: Args) -> ExitCode {
    log_to_stderr(args.json, "warn");
    let json = args.json;
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let stop = match stop_at_signals() {
        Ok(stop) => stop,
        Err(error) => return fail(&format!("cannot wait for signals: {error}"), 3),
    };
    let mut line = LiveLine::default();
    let names = Names(&settings);
    let sent = send(&settings, &stop, |told| match json {
        true => names.json(&told).iter().for_each(|value| say(&format!("{value}\n"))),
        false => say(&names.text(&told, &mut line)),
    });
    match sent {
        Ok(sent) => {
            say(&if json {
                format!("{}\n", summary_json(&sent))
            } else {
                line.lasting(&summary_text(&sent))
            });
            let complete = sent.outcomes.iter().filter(|outcome| outcome.complete).count();
            ExitCode::from(u8::from(complete < settings.files.len() * settings.nodes.len()))
        }
        Err(error) => fail(&error.to_string(), exit_code(&error)),
    }
}

fn settings(args: Args) -> Result<Sending, ExitCode> {
    let refuse = |error: &dyn std::fmt::Display, code| fail(&error.to_string(), code);
    let key = args.key.as_deref().map(SigningKey::load).transpose().map_err(|error| refuse(&error, 2))?;
    let interface = Interface::named(&args.interface).map_err(|error| refuse(&error, exit_code(&error)))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Sending {
        group: args.group,
        interface,
        address: args.address,
        hops: args.hops,
        sender: NodeId(args.hub_number),
        nodes: args.nodes.into_iter().map(|(id, address)| (NodeId(id), address)).collect(),
        bits_per_second: args.bits_per_second,
        key,
        version: args.content_version.unwrap_or(now.as_secs()),
        files: args.files,
    })
}

/// What objects and nodes are called.
struct Names<'a>(&'a Sending);

impl Names<'_> {
    fn file(&self, object: ObjectId) -> String {
        self.0.files.get(usize::from(object.0)).map_or_else(String::new, |file| file.display().to_string())
    }

    fn node(&self, node: NodeIndex) -> u32 {
        self.0.nodes[usize::from(node.0)].0.0
    }

    /// How each file stands at each node that hasn't all of it.
    fn pending<'s>(&self, sender: &'s Sender) -> impl Iterator<Item = (ObjectId, Progress)> + use<'s> {
        let objects = (0..self.0.files.len() as u16).map(ObjectId);
        let all = objects.flat_map(|object| sender.progress(object).map(move |progress| (object, progress)));
        all.filter(|(_, progress)| progress.done.is_none())
    }

    fn json(&self, told: &Told<'_>) -> Vec<Value> {
        let event = match told {
            Told::Progress(sender) => {
                let row = |(object, progress): (ObjectId, Progress)| {
                    json!({
                        "event": "progress",
                        "file": self.file(object),
                        "node": self.node(progress.node),
                        "sent": progress.sent,
                        "segments": progress.segments,
                        "owed": progress.owed,
                        "apart": progress.apart,
                    })
                };
                return self.pending(sender).map(row).collect();
            }
            Told::Event(event) => event,
        };
        let about = |what, object: &ObjectId, node: &NodeIndex| json!({ "event": what, "file": self.file(*object), "node": self.node(*node) });
        match event {
            Event::Complete { object, node } => vec![about("complete", object, node)],
            Event::Failed { object, node, .. } => vec![about("failed", object, node)],
            Event::Finished { object } => vec![json!({ "event": "finished", "file": self.file(*object) })],
            Event::Apart(_) | Event::Together(_) | Event::Returned { .. } => Vec::new(),
        }
    }

    fn text(&self, told: &Told<'_>, line: &mut LiveLine) -> String {
        match told {
            Told::Progress(sender) => {
                let Some((object, first)) = self.pending(sender).next() else { return String::new() };
                let waiting = self.pending(sender).filter(|(other, _)| *other == object);
                let (nodes, owed) =
                    waiting.fold((0, 0), |(nodes, owed), (_, progress)| (nodes + 1, owed + progress.owed));
                let (file, sent) = (self.file(object), percent(first.sent, first.segments));
                line.passing(&format!(
                    "{file}  {sent:.1} % sent  {nodes} nodes wait  {owed} segments to repair"
                ))
            }
            Told::Event(Event::Complete { object, node }) => {
                line.lasting(&format!("{}: node {} has all of it", self.file(*object), self.node(*node)))
            }
            Told::Event(Event::Failed { object, node, missing }) => {
                let segments: u64 = missing.iter().map(|(_, set)| u64::from(set.len())).sum();
                let lacks = match segments {
                    0 => "it said nothing".to_owned(),
                    _ => format!("it lacks {segments} segments"),
                };
                let (file, node) = (self.file(*object), self.node(*node));
                line.lasting(&format!("{file}: node {node} is given up, {lacks}"))
            }
            Told::Event(
                Event::Finished { .. } | Event::Apart(_) | Event::Together(_) | Event::Returned { .. },
            ) => String::new(),
        }
    }
}

fn leg_json(leg: &LegCounters) -> Value {
    json!({
        "first_packets": leg.first_packets,
        "first_bytes": leg.first_bytes,
        "repair_packets": leg.repair_packets,
        "repair_bytes": leg.repair_bytes,
        "control_packets": leg.control_packets,
        "control_bytes": leg.control_bytes,
    })
}

fn summary_json(sent: &Sent) -> Value {
    let leg = |leg: &Leg| {
        let mut row = leg_json(&leg.sent);
        row["node"] = leg.node.0.into();
        row
    };
    json!({
        "event": "summary",
        "seconds": sent.took.as_secs_f64(),
        "nacks": sent.counters.nacks,
        "acks": sent.counters.acks,
        "feedback_bytes": sent.counters.feedback_bytes,
        "unsent": sent.unsent,
        "trunk": leg_json(&sent.counters.trunk),
        "legs": sent.legs.iter().map(leg).collect::<Vec<_>>(),
    })
}

fn summary_text(sent: &Sent) -> String {
    let mut text = format!("{:.2} s; {} requests", sent.took.as_secs_f64(), sent.counters.nacks);
    for leg in &sent.legs {
        let (node, LegCounters { first_bytes, repair_bytes, .. }) = (leg.node.0, leg.sent);
        text += &format!("\nnode {node}: {first_bytes} bytes of first copies, {repair_bytes} of repairs");
    }
    text
}

//! `millrace show`: what a running appliance knows and does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use millrace_slowpath::telemetry::{self, BierPart, ClientError, Request, Value};

use crate::check::say;
use crate::serve::fail;

/// Show what a running appliance knows and does.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace show services
  millrace show workers --json | jq .unexplained
  millrace show wakes --json | jq '.[-1] | (.ready_nanos - .seen_nanos) / 1e6'
  millrace show nodes -s /run/millrace/edge-2.sock
  millrace show bier counters

The fields of --json are stable: they may become more, but none changes its name or meaning.

Exit codes: 0 shown, 1 the appliance can't say, 2 the call is wrong, 3 no appliance answers.")]
pub(crate) struct Args {
    /// What to show
    topic: Topic,
    /// Which part of `bier`; all of it without
    part: Option<Part>,
    #[command(flatten)]
    at: At,
}

/// Which appliance is asked, and how its answer is printed.
#[derive(clap::Args)]
pub(crate) struct At {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The appliance's control socket
    #[arg(short, long, value_name = "PATH", default_value = "/run/millrace/control.sock")]
    socket: PathBuf,
}

/// What can be shown.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Topic {
    /// Ports: device, link, counters of the device
    Ports,
    /// Workers: load, and what became of their frames
    Workers,
    /// Nodes of the packet path: frames, cycles, drops by reason
    Nodes,
    /// Services: phase, endpoints, instances and their health, strikes
    Services,
    /// Flows: client, address, instance
    Flows,
    /// DNS names, and the services that they lead to
    Names,
    /// Neighbours: addresses on our links and where they are
    Neighbours,
    /// Packets that wait for services
    Holds,
    /// The latest wakes, and the time of each point on their way
    Wakes,
    /// The orchestrator's link, and what the control thread counted
    Link,
    /// The configuration: its file, when it was read, and its reloads
    Config,
    /// BIER: tables, neighbours, flows that enter here, counters
    Bier,
}

/// What can be shown of BIER.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Tables: which routers each neighbour leads to
    Bift,
    /// Neighbours, and the links to them
    Neighbours,
    /// Flows that enter here, and groups with listeners behind us
    Overlay,
    /// Copies by link, and lost ones by reason
    Counters,
}

impl Part {
    /// Its fields in the JSON of all.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Part::Bift => &["bift"],
            Part::Neighbours => &["neighbours"],
            Part::Overlay => &["overlay", "listeners"],
            Part::Counters => &["counters"],
        }
    }

    /// What is left of the JSON of all.
    fn of(self, value: &Value) -> Value {
        self.fields().iter().map(|field| ((*field).to_owned(), value[*field].clone())).collect()
    }
}

impl From<Part> for BierPart {
    fn from(part: Part) -> Self {
        match part {
            Part::Bift => Self::Bift,
            Part::Neighbours => Self::Neighbours,
            Part::Overlay => Self::Overlay,
            Part::Counters => Self::Counters,
        }
    }
}

impl From<Topic> for telemetry::Topic {
    fn from(topic: Topic) -> Self {
        match topic {
            Topic::Ports => Self::Ports,
            Topic::Workers => Self::Workers,
            Topic::Nodes => Self::Nodes,
            Topic::Services => Self::Services,
            Topic::Flows => Self::Flows,
            Topic::Names => Self::Names,
            Topic::Neighbours => Self::Neighbours,
            Topic::Holds => Self::Holds,
            Topic::Wakes => Self::Wakes,
            Topic::Link => Self::Link,
            Topic::Config => Self::Config,
            Topic::Bier => Self::Bier,
        }
    }
}

/// Runs `millrace show`.
pub(crate) fn run(args: Args) -> ExitCode {
    let request = Request::Show(args.topic.into());
    match args.part {
        None => args.at.ask(request),
        Some(_) if args.topic != Topic::Bier => fail("only `show bier` has parts", 2),
        Some(part) => args.at.print(telemetry::ask(&args.at.socket, &request).and_then(|value| {
            if args.at.json {
                return Ok(format!("{:#}\n", part.of(&value)));
            }
            telemetry::bier_part(value, part.into()).map_err(ClientError::Unreadable)
        })),
    }
}

impl At {
    /// Where the appliance is asked.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// An answer as it is printed.
    pub(crate) fn text(&self, request: Request, value: Value) -> Result<String, ClientError> {
        if self.json {
            return Ok(format!("{value:#}\n"));
        }
        telemetry::render(request, value).map_err(ClientError::Unreadable)
    }

    /// Asks, and prints the answer.
    pub(crate) fn ask(&self, request: Request) -> ExitCode {
        self.print(telemetry::ask(&self.socket, &request).and_then(|value| self.text(request, value)))
    }

    fn print(&self, answer: Result<String, ClientError>) -> ExitCode {
        match answer {
            Ok(text) => {
                say(&text);
                ExitCode::SUCCESS
            }
            Err(error) => self.refused(&error),
        }
    }

    /// Tells why there is no answer.
    pub(crate) fn refused(&self, error: &ClientError) -> ExitCode {
        let code = match error {
            ClientError::NotThere { .. } | ClientError::Broken(_) => 3,
            ClientError::Refused(_) | ClientError::Unreadable(_) => 1,
        };
        fail(&error.to_string(), code)
    }
}

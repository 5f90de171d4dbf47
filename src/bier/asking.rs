//! Asks an appliance, while whoever wants to know may press Ctrl-C.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use millrace_config::model::BfrIds;
use millrace_slowpath::telemetry::rows::{EchoReport, EchoRequest, EchoUntil, ReplyBy};
use millrace_slowpath::telemetry::{self, ClientError};

use crate::show::At;

/// What ping and trace have in common.
#[derive(clap::Args)]
pub(super) struct Probe {
    /// The routers, as in 1,2,66-70; in a sub-domain of BIER-TE the bits of the tree
    #[arg(long, value_name = "BFR-IDS")]
    pub(super) bits: BfrIds,
    /// Of whom replies are wanted, if not of all; in a sub-domain of BIER-TE the bits of the tree by which receivers get it
    #[arg(long, value_name = "BFR-IDS")]
    receivers: Option<BfrIds>,
    /// The sub-domain
    #[arg(long, default_value_t = 0)]
    subdomain: u8,
    /// The packets' entropy, which chooses between equal ways
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..1 << 20))]
    entropy: u32,
    /// How routers are to reply; by UDP only where a topology tells them our BFR-prefix
    #[arg(long, value_enum, default_value_t = By::Bier)]
    reply: By,
    /// How long to wait for replies, in seconds
    #[arg(short = 'W', long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    timeout: f64,
    #[command(flatten)]
    pub(super) at: At,
}

/// How routers reply.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// In a BIER packet, which proves that the way back works.
    Bier,
    /// In IP and UDP.
    Udp,
}

impl Probe {
    /// Of whom replies are wanted.
    pub(super) fn receivers(&self) -> &BfrIds {
        self.receivers.as_ref().unwrap_or(&self.bits)
    }

    /// A request that all of those shall answer.
    pub(super) fn request(&self) -> EchoRequest {
        EchoRequest {
            subdomain: self.subdomain,
            bfr_ids: self.bits.to_string(),
            target: self.receivers.as_ref().map(ToString::to_string),
            entropy: self.entropy,
            ttl: u8::MAX,
            reply: match self.reply {
                By::Bier => ReplyBy::Bier,
                By::Udp => ReplyBy::Udp,
            },
            sequence: 1,
            timeout_ms: (self.timeout * 1000.0) as u32,
            ways: None,
            until: EchoUntil::All,
        }
    }

    /// What is asked, for people.
    pub(super) fn head(&self, what: &str) -> String {
        format!("{what} to {} in sub-domain {}\n", self.bits, self.subdomain)
    }
}

/// A number of seconds that a wait can have.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let fits = |seconds: &f64| (0.01..=60.0).contains(seconds);
    text.parse().ok().filter(fits).ok_or_else(|| "0.01 to 60 seconds".to_owned())
}

/// The one who asks.
pub(super) struct Asking {
    socket: PathBuf,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

enum Event {
    Answer(Result<EchoReport, ClientError>),
    Interrupt,
}

impl Asking {
    /// From here on Ctrl-C is an answer like others.
    pub(super) fn start(socket: &Path) -> io::Result<Self> {
        let (sender, events) = mpsc::channel();
        let interrupts = sender.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().spawn(move || {
            if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                let _ = interrupts.send(Event::Interrupt);
            }
        })?;
        Ok(Self { socket: socket.to_owned(), sender, events })
    }

    /// Asks, and waits for the answer; `None` if somebody presses Ctrl-C.
    pub(super) fn ask(&self, request: EchoRequest) -> Option<Result<EchoReport, ClientError>> {
        let (socket, answers) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || answers.send(Event::Answer(telemetry::echo(&socket, request))));
        match self.events.recv() {
            Ok(Event::Answer(answer)) => Some(answer),
            Ok(Event::Interrupt) | Err(_) => None,
        }
    }

    /// Waits; false if somebody presses Ctrl-C.
    pub(super) fn rest(&self, time: Duration) -> bool {
        self.events.recv_timeout(time).is_err()
    }
}

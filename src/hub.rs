//! `millrace hub`: contents for many nodes.

pub(crate) mod appliance;
mod desk;
mod oneway;
mod receive;
mod send;

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use millrace_hub_node::{NodeError, Stop};
use tokio::runtime::Builder;

use crate::serve::ending;

/// Bring contents to many nodes: one copy for all, repairs only to those who missed something.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Put(desk::PutArgs),
    List(desk::ListArgs),
    Status(desk::StatusArgs),
    Verify(desk::VerifyArgs),
    Receive(receive::Args),
    Send(send::Args),
}

/// Runs `millrace hub`.
pub(crate) fn run(args: Args) -> ExitCode {
    match args.command {
        Command::Put(args) => desk::put(args),
        Command::List(args) => desk::list(args),
        Command::Status(args) => desk::status(args),
        Command::Verify(args) => desk::verify(args),
        Command::Receive(args) => receive::run(args),
        Command::Send(args) => send::run(args),
    }
}

/// 1 or 2 where another call would help, 3 where another machine would.
fn exit_code(error: &NodeError) -> u8 {
    match error {
        NodeError::Interface(_)
        | NodeError::NotAGroup(_)
        | NodeError::Family
        | NodeError::Name(_)
        | NodeError::Offer(..)
        | NodeError::Nodes(_) => 2,
        NodeError::Socket(_)
        | NodeError::Folder(..)
        | NodeError::Taken(_)
        | NodeError::File(..)
        | NodeError::Thread(_) => 3,
    }
}

/// A switch that SIGINT and SIGTERM turn; a second one ends the process.
fn stop_at_signals() -> io::Result<Stop> {
    let stop = Stop::new()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ending = {
        let _inside = runtime.enter();
        ending()?
    };
    let ours = stop.clone();
    let wait = move || {
        runtime.block_on(async {
            ending.await;
            ours.stop();
            // The second signal is waited for by a task.
            pending::<()>().await;
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(stop)
}

/// A node, as in 2=10.0.0.2.
fn node(text: &str) -> Result<(u32, IpAddr), String> {
    let (id, address) = text.split_once('=').ok_or("a node is NUMBER=ADDRESS")?;
    let id = id.parse().map_err(|_| format!("{id:?} isn't a node's number"))?;
    Ok((id, address.parse().map_err(|_| format!("{address:?} isn't an address"))?))
}

/// A rate of bytes, in bits as links have it.
fn rate_text(bytes_per_second: f64) -> String {
    format!("{:.1} Mb/s", bytes_per_second * 8.0 / 1e6)
}

/// A time that is left, in the two units that matter.
fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// How far something is, `rate` bytes a second, with so much time to go.
fn progress_text(name: &str, part: u64, whole: u64, rate: Option<f64>, left: Option<Duration>) -> String {
    let rate = rate.map(|rate| format!("  {}", rate_text(rate))).unwrap_or_default();
    let left = left.map(|left| format!("  {} left", time_text(left))).unwrap_or_default();
    format!("{name}  {:.1} %{rate}{left}", percent(part, whole))
}

/// How much of it is there, in percent; all of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Prints what changes from second to second: on a terminal each time in the same line.
#[derive(Default)]
struct LiveLine {
    open: bool,
}

impl LiveLine {
    /// What is to be printed for a line that the next one replaces.
    fn passing(&mut self, text: &str) -> String {
        if !io::IsTerminal::is_terminal(&io::stdout()) {
            return format!("{text}\n");
        }
        self.open = true;
        format!("\r\x1b[K{text}")
    }

    /// What is to be printed for a line that stays.
    fn lasting(&mut self, text: &str) -> String {
        let clear = if std::mem::take(&mut self.open) { "\r\x1b[K" } else { "" };
        format!("{clear}{text}\n")
    }
}

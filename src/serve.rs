//! `millrace serve`: a serving node, until it is told to end.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use millrace_orchestrator_api::tls::TlsFiles;
use millrace_serving::function::mappings;
use millrace_serving::instance::{Addresses, Load};
use millrace_serving::machine::MachineError;
use millrace_serving::node::{self, NodeError, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Run a serving node: it starts and stops functions as its orchestrator says.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace serve --name fn1 --orchestrator http://127.0.0.1:7443 --address 127.0.0.1 --functions hello=hello.wasm
  millrace serve --name fn1 --orchestrator https://edge-42.example:7443 --address 10.0.0.2 --address fd00::2 \\
      --functions /usr/lib/millrace/functions --tls-cert node.pem --tls-key node.key --tls-ca ca.pem

Functions are Wasm components that export wasi:http/incoming-handler (target wasm32-wasip2). They are compiled when the
node starts; with --cache DIR, or CACHE_DIRECTORY in the environment as systemd sets it, compiled code is kept there. Each
request runs in a state that nobody used before.

The node keeps running what it runs while its orchestrator is away. SIGTERM and SIGINT drain it; a second one ends it at once.
The log goes to standard error; RUST_LOG chooses what, as in RUST_LOG=millrace_serving=debug.

Exit codes: 0 drained, 1 a function or a setting is wrong, 2 the call is wrong, 3 the system refused.")]
pub(crate) struct Args {
    /// Its name, as the orchestrator's configuration has it
    #[arg(long)]
    name: String,
    /// Where the orchestrator listens
    #[arg(long, default_value = "http://127.0.0.1:7443", value_name = "URL")]
    orchestrator: String,
    /// An address that instances listen on; at most one of IPv4 and one of IPv6
    #[arg(long, required = true, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
    /// NAME=FILE, or a directory whose NAME.wasm files are functions
    #[arg(long, required = true, num_args = 1.., value_name = "NAME=FILE|DIR")]
    functions: Vec<String>,
    /// Memory for instances, in MiB
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    memory_mib: u64,
    /// Requests that an instance serves at a time
    #[arg(long, default_value_t = Load::default().concurrency_max, value_name = "COUNT")]
    concurrency_max: usize,
    /// Requests that wait for an instance; more are told to come back (503)
    #[arg(long, default_value_t = Load::default().queue_max, value_name = "COUNT")]
    queue_max: usize,
    /// Where compiled code is kept; nobody else may write there
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// This node's certificate chain, PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authority that signed the orchestrator's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
    /// Allow plaintext to an orchestrator on another host
    #[arg(long)]
    insecure: bool,
    /// Write the log as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs `millrace serve`.
pub(crate) fn run(args: Args) -> ExitCode {
    log_to_stderr(args.json, "info");
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(reason) => return fail(&reason, 1),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}"), 3),
    };
    let ended = runtime.block_on(async { node::run(settings, ending()?).await.map_err(Refusal::Node) });
    // What a guest still does is cut off: it had its drain time.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal::Signals(error)) => fail(&format!("cannot wait for signals: {error}"), 3),
        Err(Refusal::Node(error)) => fail(&error.to_string(), exit_code(&error)),
    }
}

/// Why a node has ended.
enum Refusal {
    Signals(std::io::Error),
    Node(NodeError),
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Refusal::Signals(error)
    }
}

fn settings(args: Args) -> Result<Settings, String> {
    let mut addresses = Addresses::default();
    for address in args.address {
        let twice = match address {
            IpAddr::V4(address) => addresses.ipv4.replace(address).is_some(),
            IpAddr::V6(address) => addresses.ipv6.replace(address).is_some(),
        };
        if twice {
            return Err(format!("{address} is a second address of its family"));
        }
    }
    let tls = match (args.tls_cert, args.tls_key, args.tls_ca) {
        (Some(cert), Some(key), Some(ca)) => Some(TlsFiles { cert, key, ca }),
        _ => None,
    };
    if args.concurrency_max == 0 {
        return Err("--concurrency-max must not be 0".to_owned());
    }
    Ok(Settings {
        name: args.name,
        orchestrator: args.orchestrator,
        tls,
        insecure: args.insecure,
        addresses,
        memory_bytes: args.memory_mib.saturating_mul(1 << 20),
        functions: mappings(args.functions.iter().map(String::as_str)).map_err(|error| error.to_string())?,
        cache: args.cache.or_else(|| std::env::var_os("CACHE_DIRECTORY").map(PathBuf::from)),
        load: Load { concurrency_max: args.concurrency_max, queue_max: args.queue_max },
    })
}

fn exit_code(error: &NodeError) -> u8 {
    match error {
        NodeError::Machine(MachineError::SharedCache(_))
        | NodeError::Function(_)
        | NodeError::Tls(_)
        | NodeError::NoAddress => 1,
        NodeError::Machine(_) | NodeError::Compile => 3,
    }
}

/// Resolves at the first SIGTERM or SIGINT; the second one ends the process.
///
/// # Errors
/// The system refuses to deliver signals.
pub(crate) fn ending() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // 128 + SIGTERM, as if nobody had caught it.
            std::process::exit(143);
        });
    })
}

/// Sends the log to standard error; RUST_LOG goes before the given filter.
pub(crate) fn log_to_stderr(json: bool, filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // An error means that the log has been set up already.
    let _ = if json { log.json().try_init() } else { log.try_init() };
}

/// Says why, and ends with this code.
pub(crate) fn fail(reason: &str, code: u8) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::from(code)
}

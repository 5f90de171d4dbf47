//! `millrace orchestrate`: the orchestrator by itself, for appliances and serving nodes that reach it by gRPC.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use millrace_config::Config;
use millrace_config::model::{OrchestratorKind, Placement, SecretRef, Security};
use millrace_orchestrator::config::{
    Config as Placements, ConfigError, FunctionConfig, NodeConfig, Pattern, ServiceConfig,
};
use millrace_orchestrator::server::{Listen, Orchestrator, ServeError};
use millrace_orchestrator_api::tls::TlsFiles;
use thiserror::Error;

use crate::check::load;
use crate::serve::{ending, fail, log_to_stderr};

/// Run the orchestrator by itself, for appliances whose configuration says `orchestrator.kind = "grpc"`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace orchestrate -c edge.toml
  millrace orchestrate -c edge.toml --json 2>> orchestrator.log

The file is an appliance's configuration with `orchestrator.kind = \"embedded\"`: its functions, services and serving nodes are
those that are orchestrated, and `orchestrator.listen` is where appliances and nodes connect. The appliances themselves have
`kind = \"grpc\"` and this address as their `endpoint`.

It keeps nothing on disk: after a restart it learns from the serving nodes what runs. SIGTERM and SIGINT end it; what runs
goes on.

Exit codes: 0 ended, 1 the configuration is wrong, 2 the call is wrong, 3 the system refused.")]
pub(crate) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Write the log as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs `millrace orchestrate`.
pub(crate) fn run(args: Args) -> ExitCode {
    log_to_stderr(args.json, "info");
    let config = match load(&args.config) {
        Ok(config) => config,
        Err(refusal) => {
            refusal.print();
            return refusal.exit_code();
        }
    };
    let folder = args.config.parent().unwrap_or(Path::new("."));
    let (placements, listen) = match embedded(&config, folder) {
        Ok(parts) => parts,
        Err(error) => return fail(&error.to_string(), 1),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}"), 3),
    };
    let orchestrator = match Orchestrator::start(runtime.handle(), placements, &listen) {
        Ok(orchestrator) => orchestrator,
        Err(error @ ServeError::Tls(_)) => return fail(&error.to_string(), 1),
        Err(error @ ServeError::Listen { .. }) => return fail(&error.to_string(), 3),
    };
    let ended = runtime.block_on(async {
        ending()?.await;
        Ok::<(), std::io::Error>(())
    });
    drop(orchestrator);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot wait for signals: {error}"), 3),
    }
}

/// Why a configuration has no orchestrator of its own.
#[derive(Debug, Error)]
pub(crate) enum NoOrchestrator {
    /// It is another process.
    #[error("`orchestrator.kind` is \"grpc\": this configuration's orchestrator is another process")]
    Elsewhere,
    /// Its parts don't fit together.
    #[error(transparent)]
    Placements(#[from] ConfigError),
}

/// What the embedded orchestrator needs of a configuration whose relative paths begin at `folder`.
///
/// # Errors
/// The configuration's orchestrator is another process.
pub(crate) fn embedded(config: &Config, folder: &Path) -> Result<(Placements, Listen), NoOrchestrator> {
    let OrchestratorKind::Embedded { listen, nodes } = &config.orchestrator.kind else {
        return Err(NoOrchestrator::Elsewhere);
    };
    let functions = config
        .functions
        .iter()
        .map(|function| FunctionConfig {
            name: function.name.to_string(),
            memory_bytes: u64::from(function.memory_mib) << 20,
            deadline_ms: u64::try_from(function.deadline.as_millis()).unwrap_or(u64::MAX),
            instances_min: function.instances.min,
            instances_max: function.instances.max,
            pattern: match function.placement {
                Placement::Pack => Pattern::Pack,
            },
        })
        .collect();
    let services = config
        .services
        .iter()
        .filter_map(|service| {
            let function = config.function(service.on_demand()?.function);
            // Addresses and ports are translated, so that each node may choose its instances' ports.
            Some(ServiceConfig {
                name: service.name.to_string(),
                function: function.name.to_string(),
                port: 0,
            })
        })
        .collect();
    let nodes = nodes
        .iter()
        .map(|node| NodeConfig { name: node.name.to_string(), address: Some(node.address) })
        .collect();
    let placements = Placements::new(functions, services, nodes)?;
    let (tls, insecure) = security(&config.orchestrator.security, folder);
    Ok((placements, Listen { address: *listen, tls, insecure }))
}

/// Certificates of the orchestrator link, and whether the operator does without: the configuration's reader has
/// refused plaintext that nobody allowed.
pub(crate) fn security(security: &Security, folder: &Path) -> (Option<TlsFiles>, bool) {
    match security {
        Security::Plaintext => (None, true),
        Security::Tls(tls) => {
            let path = |secret: &SecretRef| match secret {
                SecretRef::File(path) => folder.join(path),
            };
            (Some(TlsFiles { cert: path(&tls.cert), key: path(&tls.key), ca: path(&tls.ca) }), false)
        }
    }
}

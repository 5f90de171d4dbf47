//! The orchestrator within an appliance's process: the appliance by memory, serving nodes by gRPC.

use millrace_orchestrator_api::MemoryLink;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::server::{Listen, Orchestrator, ServeError};

/// Starts an orchestrator on the given runtime and returns the appliance's link to it. The link goes down when the
/// orchestrator is dropped.
///
/// # Errors
/// Serving nodes can't be listened for.
pub fn start(
    handle: &Handle,
    config: Config,
    listen: &Listen,
) -> Result<(MemoryLink, Orchestrator), ServeError> {
    let mut orchestrator = Orchestrator::start(handle, config, listen)?;
    let link = orchestrator.join(handle);
    Ok((link, orchestrator))
}

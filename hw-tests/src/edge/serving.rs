//! The serving node of an edge location.

use std::path::Path;
use std::time::Duration;

use crate::lab::{LabError, Process};

use super::{Edge, Function};

/// How long a serving node gets to compile its components and register.
pub(super) const READY_MAX: Duration = Duration::from_secs(60);

/// A running `millrace serve`.
#[derive(Debug)]
pub struct ServingNode {
    process: Process,
}

impl ServingNode {
    /// Starts serving node `fn1` with these functions. It is ready when the appliance shows it as connected.
    ///
    /// # Errors
    /// [`LabError`] where it cannot be started.
    pub fn start(
        edge: &Edge,
        binary: &Path,
        endpoint: &str,
        functions: &[Function],
    ) -> Result<Self, LabError> {
        let identity = edge.certificates.identity("fn1", None)?;
        let [v4, v6] = edge.instances();
        let mut command = edge.function.command(binary);
        command.args([
            "serve",
            "--name",
            "fn1",
            "--orchestrator",
            endpoint,
            "--address",
            v4,
            "--address",
            v6,
        ]);
        command.arg("--tls-cert").arg(&identity.certificate).arg("--tls-key").arg(&identity.key);
        command.arg("--tls-ca").arg(&edge.certificates.authority).arg("--functions");
        for function in functions {
            command.arg(format!("{}={}", function.name, function.component.display()));
        }
        let process = edge.function.spawn("serve", &mut command)?;
        Ok(ServingNode { process })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

//! The gRPC service around the engine: one task owns the engine, each stream has a reader and a queue.
//!
//! ```text
//!  stream up ──► reader ──┐                  ┌──► queue ──► stream down
//!  stream up ──► reader ──┼─ inputs ► owner ─┼──► queue ──► stream down
//!  memory link ► reader ──┘         (engine) └──► memory link
//! ```
//!
//! The owner never waits for anybody: a queue that is full ends its stream, and who comes again is told all.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use millrace_orchestrator_api::convert::{FromAppliance, from_appliance, from_node};
use millrace_orchestrator_api::link::LINK_QUEUE_MAX;
use millrace_orchestrator_api::proto;
use millrace_orchestrator_api::proto::orchestrator_server::{Orchestrator as Api, OrchestratorServer};
use millrace_orchestrator_api::tls::{TlsError, TlsFiles, check_plaintext, is_certificate_for};
use millrace_orchestrator_api::{Generation, MemoryLink, NodeUp, memory_link};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::CertificateDer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::owner::{ApplianceQueue, Input, Inputs, spawn_owner};

/// Where the orchestrator listens.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Address and port; port zero chooses a free one.
    pub address: SocketAddr,
    /// Its certificate; needed beyond this host.
    pub tls: Option<TlsFiles>,
    /// Allow plaintext beyond this host.
    pub insecure: bool,
}

/// A running orchestrator. Dropping it ends every stream; serving nodes keep what they run.
#[derive(Debug)]
pub struct Orchestrator {
    address: SocketAddr,
    inputs: Inputs,
    tasks: Vec<JoinHandle<()>>,
}

/// Gives a running orchestrator another configuration.
#[derive(Debug, Clone)]
pub struct Updates(Inputs);

impl Updates {
    /// Works by `config` from now on: what appliances of this process say after this call finds it in force. Blocks while
    /// the orchestrator has much to do; not for asynchronous tasks.
    pub fn replace(&self, config: Config) {
        if !self.0.send_blocking(Input::Replace(config)) {
            warn!("the orchestrator has ended; it has no use for another configuration");
        }
    }
}

/// Why the orchestrator can't start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Certificates, or their absence.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Orchestrator {
    /// Starts on the given runtime.
    ///
    /// # Errors
    /// The address can't be listened on, or not that way.
    pub fn start(handle: &Handle, config: Config, listen: &Listen) -> Result<Self, ServeError> {
        check_plaintext(listen.address, listen.tls.is_some(), listen.insecure)?;
        let bound = |error| ServeError::Listen { address: listen.address, error };
        let listener = TcpListener::bind(listen.address).map_err(bound)?;
        listener.set_nonblocking(true).map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        if let Some(files) = &listen.tls {
            server = server.tls_config(files.server()?).map_err(TlsError::Config)?;
        }
        let _runtime = handle.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(bound)?;
        let (inputs, owner) = spawn_owner(handle, config);
        let service = OrchestratorServer::new(Streams { inputs: inputs.clone(), tls: listen.tls.is_some() });
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = handle.spawn(async move {
            if let Err(error) = server.add_service(service).serve_with_incoming(incoming).await {
                error!("the orchestrator's listener has ended: {error}");
            }
        });
        info!(%address, tls = listen.tls.is_some(), "the orchestrator listens");
        Ok(Orchestrator { address, inputs, tasks: vec![owner, serve] })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way for other configurations.
    #[must_use]
    pub fn updates(&self) -> Updates {
        Updates(self.inputs.clone())
    }

    /// Joins an appliance of this process.
    #[must_use]
    pub(crate) fn join(&mut self, handle: &Handle) -> MemoryLink {
        let (link, end) = memory_link(LINK_QUEUE_MAX);
        let (mut ups, downs) = end.split();
        let inputs = self.inputs.clone();
        let id = inputs.appliance_id();
        self.tasks.push(handle.spawn(async move {
            let queue = ApplianceQueue::Memory(downs);
            let joined = Input::ApplianceUp { id, applied: Generation::default(), queue };
            if !inputs.send(joined).await {
                return;
            }
            while let Some(up) = ups.recv().await {
                if !inputs.send(Input::ApplianceSays { id, up }).await {
                    return;
                }
            }
            inputs.send(Input::ApplianceDown { id }).await;
        }));
        link
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The two calls.
struct Streams {
    inputs: Inputs,
    tls: bool,
}

#[tonic::async_trait]
impl Api for Streams {
    type LinkStream = ReceiverStream<Result<proto::OrchestratorMessage, Status>>;
    type ServeStream = ReceiverStream<Result<proto::NodeCommand, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<proto::ApplianceMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (queue, outgoing) = mpsc::channel(LINK_QUEUE_MAX);
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            if let Err(status) = read_appliance(&inputs, &mut incoming, &queue).await {
                warn!("an appliance's stream has ended: {}", status.message());
                // The stream may be gone already; then nobody needs the reason.
                let _ = queue.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn serve(
        &self,
        request: Request<Streaming<proto::NodeMessage>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let (queue, outgoing) = mpsc::channel(LINK_QUEUE_MAX);
        let inputs = self.inputs.clone();
        let identity = if self.tls { Identity::Certificate(request.peer_certs()) } else { Identity::Claimed };
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            if let Err(status) = read_node(&inputs, &mut incoming, &queue, &identity).await {
                warn!("a serving node's stream has ended: {}", status.message());
                let _ = queue.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// How a serving node's name is known.
enum Identity {
    /// Plaintext: the node says so.
    Claimed,
    /// By its certificate, the first of the chain.
    Certificate(Option<Arc<Vec<CertificateDer<'static>>>>),
}

impl Identity {
    /// Whether the node may register under this name.
    fn may_be(&self, name: &str) -> bool {
        match self {
            Identity::Claimed => true,
            Identity::Certificate(chain) => chain
                .as_ref()
                .and_then(|chain| chain.first())
                .is_some_and(|certificate| is_certificate_for(certificate, name)),
        }
    }
}

type ToAppliance = mpsc::Sender<Result<proto::OrchestratorMessage, Status>>;
type ToNode = mpsc::Sender<Result<proto::NodeCommand, Status>>;

async fn read_appliance(
    inputs: &Inputs,
    incoming: &mut Streaming<proto::ApplianceMessage>,
    queue: &ToAppliance,
) -> Result<(), Status> {
    let id = inputs.appliance_id();
    let Some(first) = next(incoming).await? else { return Ok(()) };
    let FromAppliance::Hello(hello) = from_appliance(first).map_err(broken)? else {
        return Err(Status::failed_precondition("the first message must be a greeting"));
    };
    info!(site = hello.site, boot = hello.boot, version = hello.version, "an appliance has come");
    let applied = Generation(hello.applied_generation);
    let came = Input::ApplianceUp { id, applied, queue: ApplianceQueue::Stream(queue.clone()) };
    if !inputs.send(came).await {
        return Err(gone());
    }
    let ended = async {
        while let Some(message) = next(incoming).await? {
            let said = match from_appliance(message).map_err(broken)? {
                FromAppliance::Up(up) => Input::ApplianceSays { id, up },
                FromAppliance::Heartbeat => continue,
                FromAppliance::Hello(_) => return Err(Status::failed_precondition("a second greeting")),
            };
            if !inputs.send(said).await {
                return Err(gone());
            }
        }
        Ok(())
    }
    .await;
    inputs.send(Input::ApplianceDown { id }).await;
    ended
}

async fn read_node(
    inputs: &Inputs,
    incoming: &mut Streaming<proto::NodeMessage>,
    queue: &ToNode,
    identity: &Identity,
) -> Result<(), Status> {
    let session = inputs.node_session();
    if !inputs.send(Input::NodeUp { session, queue: queue.clone() }).await {
        return Err(gone());
    }
    let ended = async {
        while let Some(message) = next(incoming).await? {
            let up = from_node(message).map_err(broken)?;
            if let NodeUp::Hello(hello) = &up
                && !identity.may_be(&hello.name)
            {
                return Err(Status::permission_denied(format!(
                    "the certificate isn't for serving node {:?}",
                    hello.name
                )));
            }
            if !inputs.send(Input::NodeSays { session, up }).await {
                return Err(gone());
            }
        }
        Ok(())
    }
    .await;
    inputs.send(Input::NodeDown { session }).await;
    ended
}

/// The stream's next message; both kinds of caller speak often enough for a silence to mean that they are gone.
async fn next<T>(incoming: &mut Streaming<T>) -> Result<Option<T>, Status> {
    match timeout(SILENCE_MAX, incoming.message()).await {
        Ok(message) => message,
        Err(_) => Err(Status::deadline_exceeded("silent for too long")),
    }
}

fn broken(error: millrace_orchestrator_api::convert::WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn gone() -> Status {
    Status::unavailable("the orchestrator is going down")
}

/// A host that vanished without a word is noticed in twice this.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Longest silence of a caller: several of either's heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(5);

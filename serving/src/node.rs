//! A serving node's life: what it was told to run, and its stream to the orchestrator, which may come and go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_orchestrator_api::backoff::{BACKOFF_MAX, Backoff};
use millrace_orchestrator_api::convert::from_command;
use millrace_orchestrator_api::proto::orchestrator_client::OrchestratorClient;
use millrace_orchestrator_api::tls::{self, TlsError, TlsFiles};
use millrace_orchestrator_api::{
    InstanceId, InstanceState, InstanceStatus, NodeDown, NodeHello, NodeKind, NodeUp, Start, Stop, proto,
};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Endpoint;
use tracing::{error, info, warn};

use crate::function::{FunctionError, Functions};
use crate::instance::{self, Addresses, Environment, Load};
use crate::machine::{Machine, MachineError};
use crate::request::Counters;

/// What a node is given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, as configured at the orchestrator.
    pub name: String,
    /// `https://HOST:PORT`, or `http://` on this host.
    pub orchestrator: String,
    /// Its certificate, with `https`.
    pub tls: Option<TlsFiles>,
    /// Allow plaintext to another host.
    pub insecure: bool,
    /// Where its instances listen.
    pub addresses: Addresses,
    /// Memory for instances, bytes.
    pub memory_bytes: u64,
    /// Its functions' components; see [`crate::function::mappings`].
    pub functions: BTreeMap<String, PathBuf>,
    /// Where compiled code is kept, if anywhere.
    pub cache: Option<PathBuf>,
    /// Bounds of each instance.
    pub load: Load,
}

/// Why a node can't start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The engine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A function.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// The orchestrator's address, or certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread that compiled is gone.
    #[error("compilation ended abnormally")]
    Compile,
    /// It has nowhere to listen.
    #[error("a serving node needs an address to listen on")]
    NoAddress,
}

/// Runs a node until `shutdown` resolves, then drains. Compiles every function first, so that no start waits for it.
///
/// # Errors
/// The node can't start. That no orchestrator answers is no error: it is called again and again.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
    if settings.addresses == Addresses::default() {
        return Err(NodeError::NoAddress);
    }
    let endpoint = tls::endpoint(&settings.orchestrator, settings.tls.as_ref(), settings.insecure)?;
    let machine = Machine::new(settings.cache.as_deref())?;
    let functions = Arc::new(Functions::new(machine.clone(), settings.functions.clone()));
    let admitted = Arc::clone(&functions);
    tokio::task::spawn_blocking(move || {
        let names: Vec<String> = admitted.names().map(str::to_owned).collect();
        names.iter().try_for_each(|name| admitted.get(name).map(drop))
    })
    .await
    .map_err(|_| NodeError::Compile)??;
    let (happenings, inbox) = mpsc::channel(HAPPENINGS_MAX);
    let uplink = tokio::spawn(uplink(endpoint, settings.orchestrator.clone(), happenings.clone()));
    let counters = Arc::new(Counters::default());
    let environment = Environment {
        machine,
        functions,
        addresses: settings.addresses,
        load: settings.load,
        counters: Arc::clone(&counters),
    };
    info!(node = settings.name, functions = settings.functions.len(), "the serving node is up");
    let mut node =
        Node { settings, environment, happenings, wire: None, instances: BTreeMap::new(), leaving: false };
    node.live(inbox, shutdown).await;
    // The last words are under way; a stream that is closed in order delivers them.
    node.wire = None;
    let mut uplink = uplink;
    if timeout(FAREWELL_MAX, &mut uplink).await.is_err() {
        uplink.abort();
    }
    Ok(())
}

struct Node {
    settings: Settings,
    environment: Environment,
    happenings: mpsc::Sender<Happening>,
    /// The stream to the orchestrator, while there is one.
    wire: Option<mpsc::Sender<proto::NodeMessage>>,
    instances: BTreeMap<InstanceId, Running>,
    leaving: bool,
}

struct Running {
    status: InstanceStatus,
    stop: watch::Sender<Option<Duration>>,
    drain: Duration,
}

/// What a node hears, from its stream and from its instances, in one order.
enum Happening {
    Connected(mpsc::Sender<proto::NodeMessage>),
    Command(NodeDown),
    Lost,
    Changed { instance: InstanceId, state: InstanceState, port: u16, reason: String },
}

impl Node {
    async fn live(&mut self, mut inbox: mpsc::Receiver<Happening>, shutdown: impl Future<Output = ()>) {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut grace = None;
        loop {
            tokio::select! {
                () = &mut shutdown, if !self.leaving => grace = Some(self.leave()),
                () = until(grace), if grace.is_some() => {
                    grace = None;
                    self.stop_all();
                }
                happening = inbox.recv() => match happening {
                    Some(happening) => self.hear(happening),
                    None => return,
                },
                _ = heartbeat.tick() => {
                    let counters = &self.environment.counters;
                    self.say(NodeUp::Heartbeat {
                        in_flight: counters.in_flight.load(Ordering::Relaxed),
                        requests: counters.requests.load(Ordering::Relaxed),
                    });
                }
            }
            if self.leaving && self.instances.is_empty() {
                info!(node = self.settings.name, "the serving node has drained");
                return;
            }
        }
    }

    fn hear(&mut self, happening: Happening) {
        match happening {
            Happening::Connected(wire) => {
                info!(
                    node = self.settings.name,
                    orchestrator = self.settings.orchestrator,
                    "greeting the orchestrator"
                );
                self.wire = Some(wire);
                let hello = self.hello();
                self.say(NodeUp::Hello(hello));
            }
            Happening::Lost => self.wire = None,
            Happening::Command(NodeDown::Start(start)) => self.start(start),
            Happening::Command(NodeDown::Stop(stop)) => self.stop(&stop),
            Happening::Changed { instance, state, port, reason } => {
                self.changed(instance, state, port, reason);
            }
        }
    }

    fn hello(&self) -> NodeHello {
        NodeHello {
            name: self.settings.name.clone(),
            kind: NodeKind::Wasm,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ipv4_address: self.settings.addresses.ipv4,
            ipv6_address: self.settings.addresses.ipv6,
            memory_bytes: self.settings.memory_bytes,
            instances: self.instances.values().map(|running| running.status.clone()).collect(),
        }
    }

    fn start(&mut self, start: Start) {
        let id = start.instance;
        // Told twice, or too late.
        if self.instances.contains_key(&id) {
            return;
        }
        info!(instance = %id, service = start.service, function = start.function, "start");
        let status = InstanceStatus {
            instance: id,
            service: start.service.clone(),
            function: start.function.clone(),
            state: InstanceState::Starting,
            port: 0,
            memory_bytes: start.memory_bytes,
            reason: String::new(),
        };
        if self.leaving {
            let reason = "the node is going down".to_owned();
            self.say(NodeUp::Status(InstanceStatus { state: InstanceState::Failed, reason, ..status }));
            return;
        }
        let (stop, stopped) = watch::channel(None);
        let drain = Duration::from_millis(start.deadline_ms);
        self.instances.insert(id, Running { status, stop, drain });
        let environment = self.environment.clone();
        let reports = self.happenings.clone();
        let ends = self.happenings.clone();
        tokio::spawn(async move {
            let report = Box::new(move |state, port| {
                let changed = Happening::Changed { instance: id, state, port, reason: String::new() };
                // There is room for every state of every instance; a node that is gone needs no report.
                let _ = reports.try_send(changed);
            });
            let (state, reason) = match instance::run(environment, start, report, stopped).await {
                Ok(()) => (InstanceState::Stopped, String::new()),
                Err(error) => {
                    error!(instance = %id, "an instance failed: {error}");
                    let mut reason = error.to_string();
                    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                    (InstanceState::Failed, reason)
                }
            };
            let _ = ends.send(Happening::Changed { instance: id, state, port: 0, reason }).await;
        });
    }

    fn stop(&mut self, stop: &Stop) {
        if let Some(running) = self.instances.get_mut(&stop.instance) {
            info!(instance = %stop.instance, drain_ms = stop.drain_ms, "stop");
            running.status.state = InstanceState::Draining;
            running.stop.send_replace(Some(Duration::from_millis(stop.drain_ms)));
        } else {
            // It is gone, and the word of it was lost.
            self.say(NodeUp::Status(InstanceStatus {
                instance: stop.instance,
                service: String::new(),
                function: String::new(),
                state: InstanceState::Stopped,
                port: 0,
                memory_bytes: 0,
                reason: String::new(),
            }));
        }
    }

    fn changed(&mut self, id: InstanceId, state: InstanceState, port: u16, reason: String) {
        let Some(running) = self.instances.get_mut(&id) else { return };
        let gone = matches!(state, InstanceState::Stopped | InstanceState::Failed);
        if gone {
            running.status.state = state;
            running.status.reason = reason;
        } else {
            running.status.port = port;
            // A stop that came first stays.
            if running.status.state != InstanceState::Draining {
                running.status.state = state;
            }
        }
        let status = running.status.clone();
        info!(instance = %id, function = status.function, state = ?status.state, port = status.port, "instance");
        if gone {
            self.instances.remove(&id);
        }
        self.say(NodeUp::Status(status));
    }

    /// Goes down in order: the orchestrator takes the instances out, and when appliances have had time to hear of
    /// it, the instances stop.
    fn leave(&mut self) -> Instant {
        info!(node = self.settings.name, instances = self.instances.len(), "the serving node drains");
        self.leaving = true;
        let mut told = Vec::new();
        for running in self.instances.values_mut() {
            running.status.state = InstanceState::Draining;
            told.push(running.status.clone());
        }
        for status in told {
            self.say(NodeUp::Status(status));
        }
        Instant::now() + if self.wire.is_some() { LEAVE_GRACE } else { Duration::ZERO }
    }

    fn stop_all(&mut self) {
        for running in self.instances.values() {
            running.stop.send_replace(Some(running.drain));
        }
    }

    /// Tells the orchestrator, if there is one; if not, the next greeting does.
    fn say(&mut self, up: NodeUp) {
        let lost = self.wire.as_ref().is_some_and(|wire| wire.try_send(up.into()).is_err());
        if lost {
            // Too much was unread: dropping the stream makes the orchestrator hear it all anew.
            self.wire = None;
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Keeps a stream to the orchestrator, for as long as somebody listens.
async fn uplink(endpoint: Endpoint, orchestrator: String, happenings: mpsc::Sender<Happening>) {
    let mut backoff = Backoff::default();
    while !happenings.is_closed() {
        match stream(&endpoint, &happenings).await {
            Ok(true) => return,
            Ok(false) => backoff.reset(),
            Err(status) if status.code() == tonic::Code::PermissionDenied => {
                error!(orchestrator, "the orchestrator refuses this node: {}", status.message());
            }
            Err(status) => warn!(orchestrator, "no orchestrator: {}", status.message()),
        }
        if happenings.send(Happening::Lost).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.step()).await;
    }
}

/// One stream. True when the node itself has ended it for good, false when it had worked and then ended.
async fn stream(endpoint: &Endpoint, happenings: &mpsc::Sender<Happening>) -> Result<bool, Status> {
    let endpoint = endpoint
        .clone()
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = OrchestratorClient::new(channel);
    let (wire, outgoing) = mpsc::channel(WIRE_MAX);
    if happenings.send(Happening::Connected(wire)).await.is_err() {
        return Ok(true);
    }
    let mut incoming = client.serve(ReceiverStream::new(outgoing)).await?.into_inner();
    let began = Instant::now();
    loop {
        match incoming.message().await {
            Ok(Some(command)) => {
                let command =
                    from_command(command).map_err(|error| Status::invalid_argument(error.to_string()))?;
                if happenings.send(Happening::Command(command)).await.is_err() {
                    return Ok(true);
                }
            }
            Ok(None) => return Ok(happenings.is_closed()),
            // One that refuses us does so at once; one that didn't has worked.
            Err(status) if began.elapsed() > BACKOFF_MAX => {
                warn!("orchestrator lost: {}", status.message());
                return Ok(false);
            }
            Err(status) => return Err(status),
        }
    }
}

/// How often a node says that it is there; the orchestrator counts it as lost after three.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// An orchestrator's host that vanished without a word is noticed in twice this.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Commands and changes that wait for the node: every state of every instance that fits into it.
const HAPPENINGS_MAX: usize = 4096;

/// Messages that wait for the stream.
const WIRE_MAX: usize = 4096;

/// Longest reason told to the orchestrator, bytes.
const REASON_BYTES_MAX: usize = 512;

/// Time for appliances to hear that a node is going down before it refuses connections.
const LEAVE_GRACE: Duration = Duration::from_millis(250);

/// Time for the last words to reach the orchestrator.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

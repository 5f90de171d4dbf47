//! The link over gRPC: a task that connects, greets, resends what wasn't acknowledged, and starts again.
//!
//! ```text
//!  send ──► queue ──► task ──► stream up        pending: newest unacknowledged notice per service,
//!                      │  ▲                     sent again on each new stream
//!  receive ◄─ queue ◄──┘  └─── stream down
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::convert::from_orchestrator;
use crate::link::{LINK_HEARTBEAT, LINK_QUEUE_MAX, LINK_SILENCE_MAX, Link, LinkError, LinkState};
use crate::message::{Down, FirstPacket, Generation, Up};
use crate::proto;
use crate::proto::orchestrator_client::OrchestratorClient;
use crate::tls::{self, TlsError, TlsFiles};

/// Where the orchestrator is, and who calls.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// `https://HOST:PORT`, or `http://` on this host.
    pub endpoint: String,
    /// This end's certificate, with `https`.
    pub tls: Option<TlsFiles>,
    /// Allow plaintext to another host.
    pub insecure: bool,
    /// The site's name.
    pub site: String,
    /// Chosen anew at each start; the same as in the notices.
    pub boot: u64,
    /// The appliance's version, for the orchestrator's operator.
    pub version: String,
}

/// A link over gRPC. Dropping it ends its task.
#[derive(Debug)]
pub struct GrpcLink {
    ups: mpsc::Sender<Up>,
    downs: mpsc::Receiver<Down>,
    up: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl GrpcLink {
    /// Starts connecting on the given runtime, and keeps at it until dropped.
    ///
    /// # Errors
    /// The settings can't work: an address that isn't one, plaintext to another host, unreadable certificates.
    /// That nobody answers is no error: the link is down until somebody does.
    pub fn connect(handle: &Handle, settings: LinkSettings) -> Result<Self, TlsError> {
        let endpoint = tls::endpoint(&settings.endpoint, settings.tls.as_ref(), settings.insecure)?;
        let (ups, from_appliance) = mpsc::channel(LINK_QUEUE_MAX);
        let (to_appliance, downs) = mpsc::channel(LINK_QUEUE_MAX);
        let up = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            settings,
            endpoint,
            ups: from_appliance,
            downs: to_appliance,
            up: Arc::clone(&up),
            applied: Generation::default(),
            pending: BTreeMap::new(),
        };
        let task = handle.spawn(worker.run());
        Ok(GrpcLink { ups, downs, up, task })
    }
}

impl Link for GrpcLink {
    fn send(&mut self, up: Up) -> Result<(), LinkError> {
        match self.state() {
            LinkState::Up => self.ups.try_send(up).map_err(LinkError::from),
            LinkState::Down => Err(LinkError::Down),
        }
    }

    fn receive(&mut self) -> Option<Down> {
        self.downs.try_recv().ok()
    }

    fn state(&self) -> LinkState {
        if self.up.load(Ordering::Acquire) { LinkState::Up } else { LinkState::Down }
    }
}

impl Drop for GrpcLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task owns.
struct Worker {
    settings: LinkSettings,
    endpoint: Endpoint,
    ups: mpsc::Receiver<Up>,
    downs: mpsc::Sender<Down>,
    up: Arc<AtomicBool>,
    applied: Generation,
    /// The newest notice of each service that the orchestrator hasn't acknowledged. An older one asked for the
    /// same thing. Bounded by the number of services that the appliance has.
    pending: BTreeMap<String, FirstPacket>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{0}")]
    Status(#[from] tonic::Status),
    #[error("the orchestrator sent what breaks the API's rules: {0}")]
    Wire(#[from] crate::convert::WireError),
    #[error("the orchestrator closed the stream")]
    Closed,
    #[error("the orchestrator was silent for {0:?}")]
    Silent(Duration),
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.downs.is_closed() {
            let Err(ended) = self.stream().await;
            if self.up.swap(false, Ordering::AcqRel) {
                backoff.reset();
                warn!(endpoint = %self.settings.endpoint, "orchestrator lost: {ended}");
            } else {
                debug!(endpoint = %self.settings.endpoint, "no orchestrator: {ended}");
            }
            tokio::time::sleep(backoff.step()).await;
        }
    }

    /// One stream, from the greeting to its end.
    async fn stream(&mut self) -> Result<std::convert::Infallible, Ended> {
        let mut client = OrchestratorClient::new(self.endpoint.connect().await?);
        let (wire, outgoing) = mpsc::channel(LINK_QUEUE_MAX);
        self.greet(&wire);
        let mut incoming = client.link(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut heartbeat = interval(LINK_HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = incoming.message() => {
                    let message = message?.ok_or(Ended::Closed)?;
                    heard = Instant::now();
                    self.heard(message).await?;
                }
                // With no room on the stream, messages wait in the queue, and then the slowpath hears "full".
                up = self.ups.recv(), if wire.capacity() > 0 => match up {
                    Some(up) => self.forward(up, &wire),
                    None => return Err(Ended::Closed),
                },
                _ = heartbeat.tick() => {
                    // A full stream needs no sign of life from us.
                    let _ = wire.try_send(link_message(proto::appliance_message::Message::Heartbeat(
                        proto::Heartbeat {},
                    )));
                    let silence = heard.elapsed();
                    if silence > STREAM_SILENCE_MAX {
                        return Err(Ended::Silent(silence));
                    }
                    if silence > LINK_SILENCE_MAX && self.up.swap(false, Ordering::AcqRel) {
                        warn!(endpoint = %self.settings.endpoint, ?silence, "orchestrator silent");
                    }
                }
            }
        }
    }

    /// Says who we are, and again what wasn't acknowledged, oldest first.
    fn greet(&self, wire: &mpsc::Sender<proto::ApplianceMessage>) {
        let hello = proto::appliance_message::Message::Hello(proto::Hello {
            site: self.settings.site.clone(),
            boot: self.settings.boot,
            applied_generation: self.applied.0,
            version: self.settings.version.clone(),
        });
        let mut again: Vec<&FirstPacket> = self.pending.values().collect();
        again.sort_by_key(|notice| notice.sequence);
        let again = again.into_iter().map(|notice| Up::FirstPacket(notice.clone()).into());
        for message in std::iter::once(link_message(hello)).chain(again) {
            if wire.try_send(message).is_err() {
                // More services woke than the stream has room for; the rest are asked for by their next packets.
                break;
            }
        }
    }

    async fn heard(&mut self, message: proto::OrchestratorMessage) -> Result<(), Ended> {
        if !self.up.swap(true, Ordering::AcqRel) {
            info!(endpoint = %self.settings.endpoint, "orchestrator found");
        }
        let Some(down) = from_orchestrator(message)? else { return Ok(()) };
        if let Down::Acknowledge { sequence } = down {
            self.pending.retain(|_, notice| notice.sequence != sequence);
        }
        // Waits while the slowpath doesn't read, rather than lose a delta.
        self.downs.send(down).await.map_err(|_| Ended::Closed)
    }

    fn forward(&mut self, up: Up, wire: &mpsc::Sender<proto::ApplianceMessage>) {
        match &up {
            Up::FirstPacket(notice) => {
                self.pending.insert(notice.service.clone(), notice.clone());
            }
            Up::Applied { generation, .. } => self.applied = *generation,
            Up::Idle(_) | Up::Resync => {}
        }
        // Room was seen before the message was taken, and nobody else sends. A closed stream ends the session,
        // and the next one resends what matters.
        let _ = wire.try_send(up.into());
    }
}

fn link_message(message: proto::appliance_message::Message) -> proto::ApplianceMessage {
    proto::ApplianceMessage { message: Some(message) }
}

/// A stream that has been silent for this long is given up: the other host is gone without a word.
const STREAM_SILENCE_MAX: Duration = Duration::from_secs(2);

//! The task that owns the engine: takes inputs in order, hands outputs to the streams' queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_orchestrator_api::link::LINK_HEARTBEAT;
use millrace_orchestrator_api::{Down, Generation, NodeUp, Up, proto};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;
use tracing::warn;

use crate::config::Config;
use crate::engine::{ApplianceId, Closed, Engine, NodeSession, Output, TICK};

/// What streams tell the owner.
pub(crate) enum Input {
    ApplianceUp { id: ApplianceId, applied: Generation, queue: ApplianceQueue },
    ApplianceSays { id: ApplianceId, up: Up },
    ApplianceDown { id: ApplianceId },
    NodeUp { session: NodeSession, queue: mpsc::Sender<Result<proto::NodeCommand, Status>> },
    NodeSays { session: NodeSession, up: NodeUp },
    NodeDown { session: NodeSession },
    Replace(Config),
}

/// The way back to an appliance.
pub(crate) enum ApplianceQueue {
    Stream(mpsc::Sender<Result<proto::OrchestratorMessage, Status>>),
    Memory(mpsc::Sender<Down>),
}

/// The way to the owner, and identities for who comes by it.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    queue: mpsc::Sender<Input>,
    next: Arc<AtomicU64>,
}

impl Inputs {
    /// False when the owner is gone.
    pub(crate) async fn send(&self, input: Input) -> bool {
        self.queue.send(input).await.is_ok()
    }

    /// The same, from a thread that may wait.
    pub(crate) fn send_blocking(&self, input: Input) -> bool {
        self.queue.blocking_send(input).is_ok()
    }

    pub(crate) fn appliance_id(&self) -> ApplianceId {
        ApplianceId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn node_session(&self) -> NodeSession {
        NodeSession(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Starts the owner of a new engine.
pub(crate) fn spawn_owner(handle: &Handle, config: Config) -> (Inputs, JoinHandle<()>) {
    let (queue, inputs) = mpsc::channel(INPUTS_MAX);
    // Microseconds since 1970 grow from one start to the next; an orchestrator makes fewer changes than that.
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let owner = Owner {
        engine: Engine::new(config, first, Duration::ZERO),
        began: Instant::now(),
        appliances: HashMap::new(),
        nodes: HashMap::new(),
    };
    let task = handle.spawn(owner.run(inputs));
    (Inputs { queue, next: Arc::new(AtomicU64::new(1)) }, task)
}

struct Owner {
    engine: Engine,
    began: Instant,
    appliances: HashMap<ApplianceId, Way>,
    nodes: HashMap<NodeSession, mpsc::Sender<Result<proto::NodeCommand, Status>>>,
}

struct Way {
    queue: ApplianceQueue,
    /// The appliance of this process reads too slowly and has missed something.
    missed: bool,
}

impl Owner {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut turn = interval(LINK_HEARTBEAT.min(TICK));
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                _ = turn.tick() => self.turn(),
            }
            self.deliver();
        }
    }

    fn take(&mut self, input: Input) {
        let now = self.began.elapsed();
        match input {
            Input::ApplianceUp { id, applied, queue } => {
                self.appliances.insert(id, Way { queue, missed: false });
                self.engine.appliance_up(id, applied);
            }
            Input::ApplianceSays { id, up } => self.engine.appliance_says(id, up, now),
            Input::ApplianceDown { id } => {
                self.appliances.remove(&id);
                self.engine.appliance_down(id, now);
            }
            Input::NodeUp { session, queue } => {
                self.nodes.insert(session, queue);
            }
            Input::NodeSays { session, up } => {
                // A stream that was closed may still have words under way.
                if self.nodes.contains_key(&session) {
                    self.engine.node_says(session, up, now);
                }
            }
            Input::Replace(config) => self.engine.replace(config, now),
            Input::NodeDown { session } => {
                self.nodes.remove(&session);
                self.engine.node_down(session, now);
            }
        }
    }

    fn turn(&mut self) {
        let now = self.began.elapsed();
        self.engine.tick(now);
        let heartbeat = proto::OrchestratorMessage {
            message: Some(proto::orchestrator_message::Message::Heartbeat(proto::Heartbeat {})),
        };
        for (&id, way) in &mut self.appliances {
            match &way.queue {
                // A full queue is a sign of life by itself.
                ApplianceQueue::Stream(queue) => drop(queue.try_send(Ok(heartbeat.clone()))),
                ApplianceQueue::Memory(queue) => {
                    if way.missed && queue.capacity() == queue.max_capacity() {
                        way.missed = false;
                        self.engine.appliance_says(id, Up::Resync, now);
                    }
                }
            }
        }
    }

    fn deliver(&mut self) {
        // Losing an appliance or a node makes the engine say more.
        loop {
            let outputs = self.engine.outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Appliance(id, down) => self.tell_appliance(id, down),
                    Output::Node(session, down) => {
                        let sent = self.nodes.get(&session).map(|queue| queue.try_send(Ok(down.into())));
                        if let Some(Err(TrySendError::Full(_))) = sent {
                            warn!("a serving node doesn't read its commands");
                            self.nodes.remove(&session);
                            self.engine.node_down(session, self.began.elapsed());
                        }
                    }
                    Output::Close(session, closed) => {
                        if let Some(queue) = self.nodes.remove(&session) {
                            // With no room for the reason, the end of the stream has to do.
                            let _ = queue.try_send(Err(status(&closed)));
                        }
                    }
                }
            }
        }
    }

    fn tell_appliance(&mut self, id: ApplianceId, down: Down) {
        let Some(way) = self.appliances.get_mut(&id) else { return };
        match &way.queue {
            ApplianceQueue::Stream(queue) => {
                if let Err(TrySendError::Full(_)) = queue.try_send(Ok(down.into())) {
                    warn!("an appliance doesn't read its placement; it has to come again");
                    self.appliances.remove(&id);
                    self.engine.appliance_down(id, self.began.elapsed());
                }
            }
            ApplianceQueue::Memory(queue) => {
                if let Err(TrySendError::Full(_)) = queue.try_send(down) {
                    way.missed = true;
                }
            }
        }
    }
}

fn status(closed: &Closed) -> Status {
    match closed {
        Closed::UnknownNode(_) | Closed::WrongAddress(_) | Closed::NoAddress(_) => {
            Status::permission_denied(closed.to_string())
        }
        Closed::NoGreeting => Status::failed_precondition(closed.to_string()),
        Closed::Replaced(_) | Closed::Silent(_) => Status::aborted(closed.to_string()),
    }
}

/// Inputs that wait for the engine; readers wait when there are more.
const INPUTS_MAX: usize = 4096;

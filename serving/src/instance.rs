//! One instance of a function: sockets first, so that connections queue; then code; then answers; then a drain.
//!
//! ```text
//!  bind ─► STARTING ─► compile or load, link, try once ─► READY ─► accept ... stop ─► drain ─► STOPPED
//!    └────────────────────────┴── FAILED, with the reason
//! ```

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use millrace_orchestrator_api::{InstanceState, Start};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::function::{FunctionError, Functions};
use crate::machine::{MEMORY_BYTES_MAX, Machine};
use crate::request::{Bounds, Counters, Handler};

/// Where a node's instances listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Over IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Over IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

/// Bounds that a node sets for each of its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests at a time.
    pub concurrency_max: usize,
    /// Requests that wait for their turn.
    pub queue_max: usize,
}

impl Default for Load {
    /// A quarter of the pool runs, four times as much waits.
    fn default() -> Self {
        Load { concurrency_max: 64, queue_max: 256 }
    }
}

/// What an instance needs of its node.
#[derive(Clone)]
pub struct Environment {
    /// The engine.
    pub machine: Machine,
    /// The node's functions.
    pub functions: Arc<Functions>,
    /// Where to listen.
    pub addresses: Addresses,
    /// Bounds of each instance.
    pub load: Load,
    /// Sums over the node.
    pub counters: Arc<Counters>,
}

/// Why an instance failed.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// The address isn't there, or the port is taken.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The node has no address.
    #[error("this node has no address to listen on")]
    NoAddress,
    /// More memory than any function may have.
    #[error("{0} bytes of memory are more than this node gives a function")]
    Memory(u64),
    /// Its function.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// It was compiled but can't be instantiated.
    #[error("the function does not start: {0:#}")]
    Try(wasmtime::Error),
    /// The thread that compiled it is gone.
    #[error("compilation ended abnormally")]
    Compile,
}

/// How an instance's state reaches its node: state, port, reason.
pub type Report = Box<dyn Fn(InstanceState, u16) + Send + Sync>;

/// Runs an instance until it is told to stop, by a drain time. Reports starting and ready; how it ended is the result.
///
/// # Errors
/// It failed before it was ready.
pub async fn run(
    environment: Environment,
    start: Start,
    report: Report,
    mut stop: watch::Receiver<Option<Duration>>,
) -> Result<(), InstanceError> {
    let listeners = bind(environment.addresses, start.port).await?;
    let port = listeners.first().and_then(|one| one.local_addr().ok()).map_or(0, |address| address.port());
    report(InstanceState::Starting, port);
    let handler = tokio::select! {
        handler = prepare(&environment, &start) => Arc::new(handler?),
        _ = told(&mut stop) => return Ok(()),
    };
    report(InstanceState::Ready, port);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    // Ends the connections that are left when it is dropped.
    let (ends, end) = watch::channel(());
    let drain = loop {
        tokio::select! {
            biased;
            drain = told(&mut stop) => break drain,
            accepted = accept(&listeners, &connections) => match accepted {
                Ok((stream, place)) => serve(stream, place, &handler, &graceful, &end),
                Err(error) => {
                    // Out of descriptors: those that end make room, and the queue of the socket waits.
                    warn!(function = start.function, "cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
        }
    };
    // What is in the sockets' queues had come before the stop.
    while let Ok(Ok((stream, place))) = timeout(Duration::ZERO, accept(&listeners, &connections)).await {
        serve(stream, place, &handler, &graceful, &end);
    }
    drop(listeners);
    if timeout(drain, graceful.shutdown()).await.is_err() {
        warn!(function = start.function, ?drain, "requests were cut off at the end of the drain time");
    }
    drop(ends);
    Ok(())
}

/// Waits until the instance is told to stop; with no time to drain when its node is gone.
async fn told(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stop.wait_for(Option::is_some).await.map_or(None, |told| *told).unwrap_or_default()
}

/// Binds both families to one port, the given one or one that is free in both.
async fn bind(addresses: Addresses, port: u16) -> Result<Vec<TcpListener>, InstanceError> {
    let mut ips = addresses.ipv4.map(IpAddr::V4).into_iter().chain(addresses.ipv6.map(IpAddr::V6));
    let first = ips.next().ok_or(InstanceError::NoAddress)?;
    let second = ips.next();
    for attempt in 1.. {
        let listener = listen(SocketAddr::new(first, port))?;
        let Some(second) = second else { return Ok(vec![listener]) };
        let chosen = listener
            .local_addr()
            .map_err(|error| InstanceError::Listen { address: SocketAddr::new(first, port), error })?
            .port();
        match listen(SocketAddr::new(second, chosen)) {
            Ok(other) => return Ok(vec![listener, other]),
            Err(InstanceError::Listen { error, .. })
                if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < BIND_ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
        }
    }
    Err(InstanceError::NoAddress)
}

fn listen(address: SocketAddr) -> Result<TcpListener, InstanceError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error| InstanceError::Listen { address, error })
}

async fn prepare(environment: &Environment, start: &Start) -> Result<Handler, InstanceError> {
    if start.memory_bytes > MEMORY_BYTES_MAX as u64 {
        return Err(InstanceError::Memory(start.memory_bytes));
    }
    let functions = Arc::clone(&environment.functions);
    let name = start.function.clone();
    let function = tokio::task::spawn_blocking(move || functions.get(&name))
        .await
        .map_err(|_| InstanceError::Compile)??;
    let bounds = Bounds {
        memory_bytes: start.memory_bytes,
        deadline: Duration::from_millis(start.deadline_ms),
        concurrency_max: environment.load.concurrency_max,
        queue_max: environment.load.queue_max,
    };
    let handler =
        Handler::new(environment.machine.clone(), function, bounds, Arc::clone(&environment.counters));
    handler.try_once().await.map_err(InstanceError::Try)?;
    Ok(handler)
}

/// The next connection of either socket, once there is a place for it.
async fn accept(
    listeners: &[TcpListener],
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = match listeners {
        [one] => one.accept().await?,
        [one, other, ..] => tokio::select! {
            accepted = one.accept() => accepted?,
            accepted = other.accept() => accepted?,
        },
        [] => return std::future::pending().await,
    };
    Ok((stream, place))
}

fn serve(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    handler: &Arc<Handler>,
    graceful: &GracefulShutdown,
    end: &watch::Receiver<()>,
) {
    // Answers are small and must not wait for a client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!("a connection has gone already: {error}");
        return;
    }
    let handler = Arc::clone(handler);
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.serve(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let watched = graceful.watch(connection);
    let mut end = end.clone();
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            served = watched => if let Err(error) = served {
                debug!("a connection ended: {error}");
            },
            _ = end.changed() => {}
        }
    });
}

/// Connections of an instance at a time; more wait in the sockets' queues.
pub const CONNECTIONS_MAX: usize = 4096;

/// Connections that wait in a socket's queue while the instance starts; the system may allow fewer
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Ports tried until one is free in both families.
const BIND_ATTEMPTS_MAX: u32 = 16;

/// Time for a client to send its request's head, and to stay without a request.
const HEADERS_MAX: Duration = Duration::from_secs(30);

/// Largest head of a request, and what is read ahead of its body, bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Rest after a failed accept.
const ACCEPT_REST: Duration = Duration::from_millis(10);

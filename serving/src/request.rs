//! One request: admitted or told to come back, run in an instance of its own, ended at its deadline.
//!
//! ```text
//!  request ─► place free? ──no──► queue full? ──yes─► 503, Retry-After
//!                │yes                │no: waits
//!                ▼                   ▼
//!             new store ─► component ─► answer
//!                             │ trap, or no answer: 502
//!                             │ deadline: 504, or the answer is cut off
//!                             ▼ the store is dropped, whatever happened
//! ```

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error, WasiHttpView};

use crate::function::Function;
use crate::machine::Machine;
use crate::state::State;

/// Bounds for one function's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Memory that one request may reach, bytes.
    pub memory_bytes: u64,
    /// Longest time from admission to the last byte.
    pub deadline: Duration,
    /// Requests at a time.
    pub concurrency_max: usize,
    /// Requests that wait for their turn.
    pub queue_max: usize,
}

/// Serves one function's requests.
pub struct Handler {
    machine: Machine,
    function: Arc<Function>,
    bounds: Bounds,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    counters: Arc<Counters>,
}

/// What the node tells of its requests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests being served now.
    pub in_flight: AtomicU64,
    /// Requests taken since the node started.
    pub requests: AtomicU64,
    /// Requests refused because too many waited.
    pub refused: AtomicU64,
    /// Requests whose guest trapped or never answered.
    pub failed: AtomicU64,
    /// Requests that reached their deadline.
    pub late: AtomicU64,
}

impl Handler {
    /// A handler for this version of the function.
    #[must_use]
    pub fn new(machine: Machine, function: Arc<Function>, bounds: Bounds, counters: Arc<Counters>) -> Self {
        let running = Arc::new(Semaphore::new(bounds.concurrency_max));
        Handler { machine, function, bounds, running, waiting: AtomicUsize::new(0), counters }
    }

    /// Makes an instance and drops it: finds what only instantiation finds, and warms the pool. Runs no request, so
    /// that nothing random is drawn before there is one.
    ///
    /// # Errors
    /// The component doesn't fit into the pool or its memory, or its start fails.
    pub async fn try_once(&self) -> Result<(), wasmtime::Error> {
        let _slot = self.machine.slots().clone().acquire_owned().await;
        let mut store = State::store(&self.machine, &self.function, self.bounds.memory_bytes);
        self.function.pre().instantiate_async(&mut store).await?;
        Ok(())
    }

    /// Answers one request, whatever comes of it.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<HyperOutgoingBody> {
        let deadline = Instant::now() + self.bounds.deadline;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let permits = match self.admit(deadline).await {
            Ok(permits) => permits,
            Err(status) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                return refusal(status);
            }
        };
        let in_flight = InFlight::new(Arc::clone(&self.counters), permits);
        match self.run(request, deadline, in_flight).await {
            Ok(response) => response,
            Err(failure) => {
                let function = self.function.name();
                match &failure {
                    Failure::Deadline => self.counters.late.fetch_add(1, Ordering::Relaxed),
                    Failure::Request(_) => 0,
                    _ => self.counters.failed.fetch_add(1, Ordering::Relaxed),
                };
                warn!(function = &**function, "a request failed: {failure}");
                refusal(failure.status())
            }
        }
    }

    async fn admit(&self, deadline: Instant) -> Result<[OwnedSemaphorePermit; 2], StatusCode> {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let both = async {
            let own = Arc::clone(&self.running).acquire_owned().await.map_err(|_| busy)?;
            let slot = Arc::clone(self.machine.slots()).acquire_owned().await.map_err(|_| busy)?;
            Ok([own, slot])
        };
        let at_once = self.running.available_permits() > 0 && self.machine.slots().available_permits() > 0;
        let _place = if at_once { None } else { Some(Place::take(self)?) };
        timeout_at(deadline, both).await.unwrap_or(Err(busy))
    }

    async fn run(
        &self,
        request: Request<Incoming>,
        deadline: Instant,
        in_flight: InFlight,
    ) -> Result<Response<HyperOutgoingBody>, Failure> {
        let mut store = State::store(&self.machine, &self.function, self.bounds.memory_bytes);
        let (answer, answered) = oneshot::channel();
        let request =
            store.data_mut().http().new_incoming_request(Scheme::Http, request).map_err(Failure::Request)?;
        let out = store.data_mut().http().new_response_outparam(answer).map_err(Failure::Trap)?;
        let function = Arc::clone(&self.function);
        let counters = Arc::clone(&self.counters);
        let (end, ended) = oneshot::channel();
        // A task of its own, because a guest may go on after its answer has begun. The store lives and dies in it.
        let guest = tokio::spawn(async move {
            let run = async move {
                let proxy = function.pre().instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
            };
            let outcome = match timeout_at(deadline, run).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(trap)) => Err(Failure::Trap(trap)),
                Err(_) => Err(Failure::Deadline),
            };
            drop(in_flight);
            // Nobody listens when the client is gone.
            if let Err(Err(failure)) = end.send(outcome) {
                count(&counters, &failure);
            }
        });
        let abort = AbortOnDrop(guest);
        match answered.await {
            Ok(Ok(response)) => {
                let (counters, function) = (Arc::clone(&self.counters), Arc::clone(self.function.name()));
                let body = move |inner| WholeOrBroken {
                    inner,
                    ended: Some(ended),
                    _abort: abort,
                    counters,
                    function,
                };
                Ok(response.map(|inner| body(inner).boxed_unsync()))
            }
            Ok(Err(code)) => Err(Failure::Refused(format!("{code:?}"))),
            Err(_) => match ended.await {
                Ok(Ok(())) => Err(Failure::NoAnswer),
                Ok(Err(failure)) => Err(failure),
                Err(_) => Err(Failure::Lost),
            },
        }
    }
}

/// Why a request has no answer of the guest's.
#[derive(Debug)]
enum Failure {
    /// It isn't a request that a component can be given.
    Request(wasmtime::Error),
    Trap(wasmtime::Error),
    Deadline,
    NoAnswer,
    /// The guest itself answered with an error code.
    Refused(String),
    /// The task that ran the guest is gone.
    Lost,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Failure::Request(_) => StatusCode::BAD_REQUEST,
            Failure::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Failure::Lost => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::Trap(_) | Failure::NoAnswer | Failure::Refused(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Request(error) => write!(f, "not a request for a component: {error:#}"),
            Failure::Trap(error) => write!(f, "the guest trapped: {error:#}"),
            Failure::Deadline => f.write_str("the deadline was reached"),
            Failure::NoAnswer => f.write_str("the guest ended without an answer"),
            Failure::Refused(code) => write!(f, "the guest answered with {code}"),
            Failure::Lost => f.write_str("the guest's task is gone"),
        }
    }
}

fn count(counters: &Counters, failure: &Failure) {
    match failure {
        Failure::Deadline => &counters.late,
        _ => &counters.failed,
    }
    .fetch_add(1, Ordering::Relaxed);
}

fn refusal(status: StatusCode) -> Response<HyperOutgoingBody> {
    let text = format!("{status}\n");
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(handler: &'a Handler) -> Result<Self, StatusCode> {
        let taken = handler.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(&handler.waiting);
        if taken >= handler.bounds.queue_max { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(place) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts a request for as long as its guest lives, and holds its permits.
struct InFlight {
    counters: Arc<Counters>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl InFlight {
    fn new(counters: Arc<Counters>, permits: [OwnedSemaphorePermit; 2]) -> Self {
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { counters, _permits: permits }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the guest when nobody wants its answer any more.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A guest's body that ends well only if the guest does: the end of a guest that traps looks like the end of its
/// body, and an answer that was cut off must not look whole.
struct WholeOrBroken {
    inner: HyperOutgoingBody,
    ended: Option<oneshot::Receiver<Result<(), Failure>>>,
    /// Whoever drops the body has had enough of the answer, and so has the guest.
    _abort: AbortOnDrop,
    counters: Arc<Counters>,
    function: Arc<str>,
}

impl Body for WholeOrBroken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(None) => {}
            other => return other,
        }
        let Some(ended) = self.ended.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(outcome) = Pin::new(ended).poll(context) else { return Poll::Pending };
        self.ended = None;
        match outcome {
            Ok(Ok(())) => Poll::Ready(None),
            Ok(Err(failure)) => {
                count(&self.counters, &failure);
                info!(function = &*self.function, "an answer was cut off: {failure}");
                Poll::Ready(Some(Err(Error::ConnectionTerminated)))
            }
            Err(_) => Poll::Ready(Some(Err(Error::ConnectionTerminated))),
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Told with 503: by then a burst is over, or the orchestrator has placed another instance.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

//! The cache over HTTP, for whoever isn't reached by multicast: `curl` is enough. One file, one kind of request; here is
//! who answers what.
//!
//! | method | path | what |
//! |---|---|---|
//! | GET, HEAD | `/blobs/ROOT` | a content by its root, by range; never another |
//! | GET, HEAD | `/blobs/ROOT/tree` | the hashes of its groups: 32 bytes for each 64 KiB |
//! | GET, HEAD | `/content/NAME`, `/content/GROUP/NAME` | the newest content of a name |
//! | GET, HEAD | `/manifest/NAME`, `/manifest/GROUP/NAME` | its manifest |
//! | GET, HEAD | `/content` | what is here, as JSON |
//! | PUT | `/content/NAME`, `/content/GROUP/NAME` | puts a content in; with `Authorization: Bearer TOKEN` |
//!
//! The ETag is the root in quotes: strong, and what `b3sum` prints. A content that is on its way, or of which a group has
//! gone bad and is fetched again, is 503 with `Retry-After`. If a group goes bad under a transfer, the connection is cut,
//! so that nobody takes what came for all of it; `curl -C -` goes on later.

mod get;
mod put;
mod range;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::keys::SigningKey;
use crate::manifest::Label;
use crate::root::Root;
use crate::store::Store;

/// How the cache is served.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Who has this token may put contents in; without one, nobody may.
    pub put_token: Option<String>,
    /// Signs what is put in.
    pub key: Option<Arc<SigningKey>>,
}

/// Serves a store until `stop` is ready; transfers that have begun then have five seconds to end.
pub async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    options: HttpOptions,
    stop: impl Future<Output = ()>,
) {
    let hub = Arc::new(Hub { store, options });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // One who waits for a place waits in the kernel's queue.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: what is open goes on, and frees some.
                tracing::warn!(%error, "the hub's HTTP listener can't accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let hub = Arc::clone(&hub);
        let answer = move |request| {
            let hub = Arc::clone(&hub);
            async move { Ok::<_, Infallible>(hub.answer(request).await) }
        };
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(STALL);
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service_fn(answer)));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the hub ended early");
            }
            drop(place);
        });
    }
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("transfers from the hub were cut by its stop");
    }
}

/// What answers.
#[derive(Debug)]
struct Hub {
    store: Arc<Store>,
    options: HttpOptions,
}

type Body = BoxBody<Bytes, io::Error>;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Blob(Root),
    Tree(Root),
    Content(Label, Label),
    Manifest(Label, Label),
    List,
}

impl Hub {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answered = match (Place::of(request.uri().path()), request.method()) {
            (None, _) => Err(Refusal::NotFound),
            (Some(place), &Method::GET | &Method::HEAD) => self.get(place, &request).await,
            (Some(Place::Content(group, name)), &Method::PUT) => self.put(group, name, request).await,
            _ => Err(Refusal::Method),
        };
        let counters = &self.store.counters;
        match answered {
            Ok(response) => {
                counters.http_served.add(1);
                response
            }
            Err(refusal) => {
                counters.http_refused.add(1);
                refusal.response()
            }
        }
    }
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let parts = path.strip_prefix('/')?.split('/');
        let parts: Option<Vec<_>> = parts.map(|part| percent_decode_str(part).decode_utf8().ok()).collect();
        let parts = parts?;
        let parts: Vec<_> = parts.iter().map(|part| &**part).collect();
        Some(match parts[..] {
            ["blobs", root] => Self::Blob(root.parse().ok()?),
            ["blobs", root, "tree"] => Self::Tree(root.parse().ok()?),
            ["content"] => Self::List,
            ["content", name] => Self::Content(Label::default(), Label::name(name)?),
            ["content", group, name] => Self::Content(Label::name(group)?, Label::name(name)?),
            ["manifest", name] => Self::Manifest(Label::default(), Label::name(name)?),
            ["manifest", group, name] => Self::Manifest(Label::name(group)?, Label::name(name)?),
            _ => return None,
        })
    }
}

/// Why a request isn't answered with content.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no such content")]
    NotFound,
    #[error("contents are read with GET and HEAD; those with a name are put in with PUT")]
    Method,
    #[error("putting contents in takes a token")]
    Token,
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the transfer ended early")]
    CutShort,
    #[error(transparent)]
    Store(#[from] Error),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::Store(Error::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) | Self::CutShort => StatusCode::BAD_REQUEST,
            Self::Store(Error::Incomplete(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(Error::Superseded { .. } | Error::Conflict) => StatusCode::CONFLICT,
            Self::Store(Error::NoRoom { .. } | Error::DiskFull) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn response(&self) -> Response<Body> {
        let status = self.status();
        let mut response = Response::new(full(format!("{self}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(hyper::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// Connections at a time: more wait. Each holds one group of 64 KiB in memory, or a few.
const CONNECTIONS_MAX: usize = 1024;
/// For how long a peer may do nothing: send no header, take no bytes, send none.
const STALL: Duration = Duration::from_secs(30);
/// For how long transfers go on after the stop.
const DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_is_here_and_nothing_above_it() {
        let root = Root::of(b"x");
        let label = |text| Label::group(text).unwrap();
        for (path, place) in [
            (format!("/blobs/{root}"), Some(Place::Blob(root))),
            (format!("/blobs/{root}/tree"), Some(Place::Tree(root))),
            ("/content".into(), Some(Place::List)),
            ("/content/a%20b".into(), Some(Place::Content(label(""), label("a b")))),
            ("/content/cameras/a".into(), Some(Place::Content(label("cameras"), label("a")))),
            ("/manifest/a".into(), Some(Place::Manifest(label(""), label("a")))),
            ("/manifest/cameras/a".into(), Some(Place::Manifest(label("cameras"), label("a")))),
            (format!("/blobs/{}", &root.to_string()[1..]), None),
            ("/content/..%2fledger.redb".into(), None),
            ("/content/../ledger.redb".into(), None),
            ("/content/%ff".into(), None),
            ("/content//a".into(), None),
            ("/content/a/b/c".into(), None),
            ("/".into(), None),
            ("*".into(), None),
        ] {
            assert_eq!(Place::of(&path), place, "{path}");
        }
    }
}

//! GET and HEAD.

use std::io;
use std::ops::Range;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::range::{Wanted, wanted};
use super::{Body, Hub, Place, Refusal, STALL, full};
use crate::blocking::blocking;
use crate::manifest::Label;
use crate::read::Reader;
use crate::root::Root;
use crate::time::Millis;
use crate::tree::GROUP;

impl Hub {
    pub(super) async fn get(
        &self,
        place: Place,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        match place {
            Place::Blob(root) => self.content(root, IMMUTABLE, request).await,
            Place::Content(group, name) => {
                let manifest = self.store.named(&group, &name).ok_or(Refusal::NotFound)?;
                let mut response = self.content(manifest.description().root, NEWEST, request).await?;
                response.headers_mut().insert(super::put::VERSION, manifest.description().version.into());
                Ok(response)
            }
            Place::Tree(root) => {
                let store = self.store.clone();
                let tree = blocking(move |now| store.tree(root, now)).await?;
                Ok(short(tree.to_bytes(), OCTETS, IMMUTABLE, request))
            }
            Place::Manifest(group, name) => {
                let manifest = self.store.named(&group, &name).ok_or(Refusal::NotFound)?;
                Ok(short(manifest.as_bytes().to_vec(), OCTETS, NEWEST, request))
            }
            Place::List => Ok(short(self.list(), JSON, NEWEST, request)),
        }
    }

    async fn content(
        &self,
        root: Root,
        caching: HeaderValue,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let store = self.store.clone();
        let reader = blocking(move |now| store.reader(root, now)).await?;
        let size = reader.size();
        let etag = format!("\"{root}\"");
        let ranged = request.method() == Method::GET;
        let (status, range) = match wanted(request.headers(), &etag, size, ranged) {
            Wanted::Whole => (StatusCode::OK, 0..size),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::NotModified => (StatusCode::NOT_MODIFIED, 0..0),
            Wanted::Failed => (StatusCode::PRECONDITION_FAILED, 0..0),
            Wanted::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        };
        let mut response = Response::new(full(""));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(ETAG, text(&etag));
        headers.insert(CACHE_CONTROL, caching);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        match status {
            StatusCode::PARTIAL_CONTENT => {
                headers
                    .insert(CONTENT_RANGE, text(&format!("bytes {}-{}/{size}", range.start, range.end - 1)));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                headers.insert(CONTENT_RANGE, text(&format!("bytes */{size}")));
            }
            _ => {}
        }
        if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
            headers.insert(CONTENT_TYPE, OCTETS);
            headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
            if request.method() == Method::GET {
                *response.body_mut() = body(reader, range);
            }
        }
        Ok(response)
    }

    /// What is known by name and what has no name, with how far it is.
    fn list(&self) -> Vec<u8> {
        let now = Millis::now();
        let store = &self.store;
        let names = store.names();
        let of_root = |root: Root| {
            store.progress(root, now).map(|progress| {
                json!({
                    "root": root,
                    "size_bytes": progress.size,
                    "held_bytes": progress.held,
                    "complete": progress.complete,
                    "pinned": progress.pinned,
                })
            })
        };
        let contents: Vec<_> = store.contents().into_iter().filter_map(of_root).collect();
        let names: Vec<_> = names.iter().map(|manifest| named(manifest.description())).collect();
        let (used, budget) = store.budget();
        let list =
            json!({ "names": names, "contents": contents, "used_bytes": used, "budget_bytes": budget });
        format!("{list}\n").into_bytes()
    }
}

/// A name and what it stands for, as JSON.
pub(super) fn named(what: &crate::manifest::Description) -> serde_json::Value {
    json!({
        "name": Label::as_str(&what.name),
        "group": Label::as_str(&what.group),
        "version": what.version,
        "size_bytes": what.size,
        "root": what.root,
    })
}

/// The bytes of a range, a group at a time: each is verified before the first of its bytes leaves. A group that went bad
/// ends the body with an error, which cuts the connection.
fn body(reader: Reader, range: Range<u64>) -> Body {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut reader, mut at) = (reader, range.start);
        while at < range.end {
            let upto = range.end.min((at / GROUP + 1) * GROUP);
            let (back, read) = blocking(move |now| {
                let mut bytes = vec![0; (upto - at) as usize];
                let read = reader.read(at, &mut bytes, now).map(|()| bytes);
                (reader, read)
            })
            .await;
            reader = back;
            let failed = read.is_err();
            let frame = read.map(|bytes| Frame::data(Bytes::from(bytes))).map_err(io::Error::other);
            // A client that takes nothing, or is gone: what holds the file open ends here.
            let sent = tokio::time::timeout(STALL, send.send(frame)).await;
            if failed || !matches!(sent, Ok(Ok(()))) {
                break;
            }
            at = upto;
        }
    });
    StreamBody::new(ReceiverStream::new(receive)).boxed()
}

/// An answer that is in memory.
fn short(
    bytes: Vec<u8>,
    kind: HeaderValue,
    caching: HeaderValue,
    request: &Request<Incoming>,
) -> Response<Body> {
    let length = bytes.len() as u64;
    let mut response = Response::new(full(if request.method() == Method::HEAD { Vec::new() } else { bytes }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CACHE_CONTROL, caching);
    response
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, quotes and words")
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What is named by its hash never changes.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What a name stands for may: ask again, with the ETag.
const NEWEST: HeaderValue = HeaderValue::from_static("no-cache");

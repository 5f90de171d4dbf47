//! PUT: a content comes in, and is here when it is answered.

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};

use super::get::named;
use super::{Body, Hub, Refusal, STALL, full};
use crate::blocking::blocking;
use crate::error::Error;
use crate::incoming::Named;
use crate::manifest::Label;
use crate::tree::GROUP;

impl Hub {
    pub(super) async fn put(
        &self,
        group: Label,
        name: Label,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        if !self.may_put(request.headers()) {
            return Err(Refusal::Token);
        }
        // A part of a content isn't a content (RFC 9110 §14.5).
        if request.headers().contains_key(CONTENT_RANGE) {
            return Err(Refusal::BadRequest("contents are put in whole"));
        }
        let version = match request.headers().get(VERSION).map(|version| version.to_str().ok()?.parse().ok())
        {
            Some(None) => return Err(Refusal::BadRequest("a version is a number")),
            version => version.flatten(),
        };
        let before = self.store.named(&group, &name).map(|manifest| manifest.description().root);

        let mut body = request.into_body();
        let announced = body.size_hint().exact();
        let store = self.store.clone();
        let mut incoming = blocking(move |now| store.put(announced, now)).await?;
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::time::timeout(STALL, body.frame()).await.map_err(|_| Refusal::CutShort)?;
            let last = frame.is_none();
            if let Some(frame) = frame {
                let data = frame.map_err(|_| Refusal::CutShort)?.into_data();
                bytes.extend_from_slice(&data.unwrap_or_default());
            }
            if last || bytes.len() as u64 >= GROUP {
                let taken = std::mem::take(&mut bytes);
                incoming = blocking(move |now| {
                    incoming.write(&taken, now)?;
                    Ok::<_, Error>(incoming)
                })
                .await?;
            }
            if last {
                break;
            }
        }
        let key = self.options.key.clone();
        let finish = move |now| incoming.finish(Named { name, group, version }, key.as_deref(), now);
        let manifest = blocking(finish).await?;
        let what = manifest.description();
        let mut response = Response::new(full(format!("{}\n", named(what))));
        if before != Some(what.root) {
            *response.status_mut() = StatusCode::CREATED;
        }
        let etag = HeaderValue::from_str(&format!("\"{}\"", what.root)).expect("digits in quotes");
        response.headers_mut().insert(ETAG, etag);
        response.headers_mut().insert(VERSION, what.version.into());
        Ok(response)
    }

    fn may_put(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.options.put_token else { return false };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given
            .and_then(|value| value.split_first_chunk())
            .filter(|(scheme, _): &(&[u8; 7], _)| scheme.eq_ignore_ascii_case(b"bearer "));
        // Hashes are compared in a time that says nothing of where they differ.
        given.is_some_and(|(_, given)| blake3::hash(given) == blake3::hash(token.as_bytes()))
    }
}

/// A content's version.
pub(super) const VERSION: HeaderName = HeaderName::from_static("millrace-version");

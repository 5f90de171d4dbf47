//! Example function: greets, and counts the requests that its state has seen. A serving node gives every request a
//! state of its own, so that it always says "request 1".

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        let request = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        let function = std::env::var("MILLRACE_FUNCTION").unwrap_or_else(|_| "a function".to_owned());
        let text = format!("hello from {function} (request {request} of this instance)\n");
        let headers = Fields::new();
        let length = text.len().to_string().into_bytes();
        let set = [("content-type", b"text/plain; charset=utf-8".to_vec()), ("content-length", length)]
            .into_iter()
            .try_for_each(|(name, value)| headers.set(name, &[value]));
        debug_assert!(set.is_ok(), "both headers may be set");
        let response = OutgoingResponse::new(headers);
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(response_out, Ok(response));
        let Ok(stream) = body.write() else { return };
        // The client may have gone; then nobody misses the rest.
        let _ = stream.blocking_write_and_flush(text.as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

static REQUESTS: AtomicU32 = AtomicU32::new(0);

//! Example function: streams a request's body back as it comes, and tells what it saw of the request: method and path
//! in the headers `x-echo-method` and `x-echo-path`; to a GET it answers with the request's headers, one a line.

use std::fmt::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let method = request.method();
        let path = request.path_with_query().unwrap_or_default();
        let headers = Fields::new();
        // A path that can't be a header's value isn't told; the rest still works.
        let _ = headers.set("x-echo-method", &[method_name(&method).as_bytes().to_vec()]);
        let _ = headers.set("x-echo-path", &[path.as_bytes().to_vec()]);
        let response = OutgoingResponse::new(headers);
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(response_out, Ok(response));
        let Ok(out) = body.write() else { return };
        let sent = if matches!(method, Method::Get) {
            tell_headers(&request, &out)
        } else {
            match request.consume() {
                Ok(incoming) => incoming.stream().map_or(Ok(()), |stream| copy(&stream, &out)),
                Err(()) => Ok(()),
            }
        };
        drop(out);
        // An answer that was cut off must not look whole.
        if sent.is_ok() {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

/// Host to host: the bytes never enter this function's memory.
fn copy(from: &InputStream, to: &OutputStream) -> Result<(), StreamError> {
    loop {
        match to.blocking_splice(from, CHUNK_BYTES) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn tell_headers(request: &IncomingRequest, out: &OutputStream) -> Result<(), StreamError> {
    let mut text = String::new();
    for (name, value) in request.headers().entries() {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(&value));
    }
    for part in text.as_bytes().chunks(WRITE_BYTES_MAX) {
        out.blocking_write_and_flush(part)?;
    }
    Ok(())
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

/// Bytes moved at a time: one read of a socket's buffer.
const CHUNK_BYTES: u64 = 64 << 10;

/// What `wasi:io` takes in one blocking write.
const WRITE_BYTES_MAX: usize = 4096;

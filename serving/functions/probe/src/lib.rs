//! Test function: misbehaves as its path says, so that the serving node's limits can be seen to hold.
//!
//! `/count` answers like a calm function does and looks for marks that earlier requests left; `/spin` never ends;
//! `/sleep` waits in the host for ten seconds; `/alloc` takes memory until there is no more; `/trap` panics; `/late`
//! panics after half an answer; `/outbound` tries to call another server; `/silent` never answers.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};

struct Probe;

wasip2::http::proxy::export!(Probe);

impl Guest for Probe {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.as_str() {
            "/spin" => loop {
                std::hint::black_box(&path);
            },
            "/sleep" => {
                subscribe_duration(10_000_000_000).block();
                answer(response_out, "awake", true);
            }
            "/alloc" => {
                let mut taken: Vec<Vec<u8>> = Vec::new();
                loop {
                    taken.push(vec![1; 1 << 20]);
                    std::hint::black_box(&taken);
                }
            }
            "/trap" => panic!("as asked"),
            "/late" => answer(response_out, "half", false),
            "/silent" => {}
            "/outbound" => {
                let call = OutgoingRequest::new(Fields::new());
                let set = call
                    .set_scheme(Some(&Scheme::Http))
                    .and(call.set_authority(Some("127.0.0.1:1")))
                    .and(call.set_path_with_query(Some("/")));
                let said = match set.map(|()| outgoing_handler::handle(call, None)) {
                    Ok(Ok(waiting)) => {
                        waiting.subscribe().block();
                        format!("{:?}", waiting.get().map(|taken| taken.map(|done| done.map(|_| "answered"))))
                    }
                    Ok(Err(refused)) => format!("refused: {refused:?}"),
                    Err(()) => "not a request".to_owned(),
                };
                answer(response_out, &said, true);
            }
            _ => {
                let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
                // A mark made while running, in fresh heap memory, with what was there before it.
                let mut heap: Vec<u8> = Vec::with_capacity(1 << 20);
                heap.resize(1 << 20, 0x5a);
                let found = MARK.swap(0x5a5a_5a5a, Ordering::Relaxed);
                std::hint::black_box(&heap);
                answer(response_out, &format!("count {count} mark {found:#x}"), true);
            }
        }
    }
}

fn answer(response_out: ResponseOutparam, text: &str, whole: bool) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(response_out, Ok(response));
    let Ok(stream) = body.write() else { return };
    // The client may have gone; then nobody misses the rest.
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    assert!(whole, "as asked, in the middle of an answer");
    let _ = OutgoingBody::finish(body, None);
}

static COUNT: AtomicU32 = AtomicU32::new(0);
static MARK: AtomicU32 = AtomicU32::new(0);

//! Any bytes on the control socket and the metrics listener, and any answers to who asks: every request has one answer in
//! its protocol's form, and what is answered can be shown.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use millrace_config::Config;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::names::HashKey;
use millrace_orchestrator_api::memory_link;
use millrace_slowpath::PortInfo;
use millrace_slowpath::control::{Control, Settings};
use millrace_slowpath::host::SmolStack;
use millrace_slowpath::telemetry::rows::PortRow;
use millrace_slowpath::telemetry::{Request, Response, Sources, Topic, answer, render, respond};

const TOPICS: [Topic; 11] = [
    Topic::Ports,
    Topic::Workers,
    Topic::Nodes,
    Topic::Services,
    Topic::Flows,
    Topic::Names,
    Topic::Neighbours,
    Topic::Holds,
    Topic::Wakes,
    Topic::Link,
    Topic::Config,
];

/// An appliance whose control loop has ended and which has no workers left to wait for: nothing is asked of another thread.
static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let config =
        Config::parse("edge.toml", include_str!("edge.toml")).unwrap_or_else(|report| panic!("{report}"));
    let port = |name: &str| PortInfo { name: name.into(), mac: [2, 0, 0, 0, 0, 1], mtu_bytes: 1500 };
    let ports = [port("wan"), port("lan")];
    let settings = Settings { names_key: HashKey(1, 2), ..Settings::default() };
    let (link, _) = memory_link(4);
    let host = Box::new(SmolStack::new(&config, 1));
    let control = Control::new(&config, &ports, Shared::new(1), link, host, settings, Nanos(0));
    let asker = control.expect("the configuration is sound").asker();
    let shown = Arc::new(|| vec![PortRow { name: "wan \"quoted\"".into(), ..PortRow::default() }]);
    Sources::new(Shared::new(0), asker, shown, Vec::new())
});

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 3 {
        0 => ask(&text),
        1 => get(&text),
        _ => show(*which / 3, &text),
    }
});

/// A line on the control socket.
fn ask(line: &str) {
    let response = answer(line, &SOURCES);
    let text = serde_json::to_string(&response).expect("an answer can be written");
    assert!(!text.contains('\n'), "an answer is one line");
    assert_eq!(serde_json::from_str::<Response>(&text).expect("and read"), response);
    if let Response::Ok(value) = response {
        let request: Request = serde_json::from_str(line).expect("a request was answered");
        render(request, value).expect("what is answered can be shown");
    }
}

/// A head on the metrics listener.
fn get(head: &str) {
    let response = String::from_utf8(respond(head, &SOURCES)).expect("text");
    let (said, body) = response.split_once("\r\n\r\n").expect("a head");
    let mut lines = said.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status");
    assert!(["200 OK", "404 Not Found", "405 Method Not Allowed"].contains(&status), "{status}");
    let mut fields = lines.map(|line| line.split_once(": ").expect("name and value"));
    let (_, len) = fields.find(|(name, _)| *name == "Content-Length").expect("a length");
    let len: usize = len.parse().expect("a number");
    let method = head.lines().next().and_then(|line| line.split(' ').next());
    assert!(body.len() == len || (method == Some("HEAD") && body.is_empty()), "{len} but {}", body.len());
    if status == "200 OK" && !body.is_empty() {
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').expect("a sample has a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

/// What an appliance of another version, or something else, may answer.
fn show(which: u8, line: &str) {
    let Ok(Response::Ok(value)) = serde_json::from_str(line) else { return };
    let request = match TOPICS.get(usize::from(which)) {
        Some(topic) => Request::Show(*topic),
        None if which % 2 == 0 => Request::Trace { frames: 1, seconds: 1 },
        None => Request::Reload { dry_run: true },
    };
    if let Ok(text) = render(request, value) {
        assert!(!text.is_empty());
    }
}

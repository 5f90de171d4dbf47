//! Real components in one instance: state, limits, overload, and what happens around readiness and the end.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::{LONG, functions, get, loopback, send, status};
use millrace_orchestrator_api::{InstanceId, InstanceState, Start};
use millrace_serving::function::Functions;
use millrace_serving::instance::{self, Addresses, Environment, InstanceError, Load};
use millrace_serving::machine::Machine;
use millrace_serving::request::Counters;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// One engine and its compiled functions for all tests of this file.
fn compiled() -> (Machine, Arc<Functions>) {
    static COMPILED: OnceLock<(Machine, Arc<Functions>)> = OnceLock::new();
    COMPILED
        .get_or_init(|| {
            let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
            let machine = Machine::new(Some(&cache)).unwrap();
            let functions = Functions::new(machine.clone(), functions());
            (machine, Arc::new(functions))
        })
        .clone()
}

struct Instance {
    address: SocketAddr,
    reports: mpsc::UnboundedReceiver<(InstanceState, u16)>,
    stop: watch::Sender<Option<Duration>>,
    task: JoinHandle<Result<(), InstanceError>>,
    counters: Arc<Counters>,
}

struct Wish {
    function: &'static str,
    memory_mib: u64,
    deadline_ms: u64,
    load: Load,
    addresses: Addresses,
}

impl Wish {
    fn new(function: &'static str) -> Self {
        Wish {
            function,
            memory_mib: 32,
            deadline_ms: 30_000,
            load: Load::default(),
            addresses: Addresses { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None },
        }
    }

    /// Starts the instance; returns when it is bound.
    async fn bound(self) -> Instance {
        let (machine, functions) = compiled();
        self.bound_on(machine, functions).await
    }

    async fn bound_on(self, machine: Machine, functions: Arc<Functions>) -> Instance {
        let counters = Arc::new(Counters::default());
        let environment = Environment {
            machine,
            functions,
            addresses: self.addresses,
            load: self.load,
            counters: Arc::clone(&counters),
        };
        let start = Start {
            instance: InstanceId(1),
            service: "test".to_owned(),
            function: self.function.to_owned(),
            memory_bytes: self.memory_mib << 20,
            deadline_ms: self.deadline_ms,
            port: 0,
        };
        let (report, mut reports) = mpsc::unbounded_channel();
        let report = Box::new(move |state, port| report.send((state, port)).unwrap_or_default());
        let (stop, stopped) = watch::channel(None);
        let task = tokio::spawn(instance::run(environment, start, report, stopped));
        let (state, port) = timeout(LONG, reports.recv()).await.unwrap().unwrap();
        assert_eq!(state, InstanceState::Starting);
        assert_ne!(port, 0);
        Instance { address: loopback(port), reports, stop, task, counters }
    }

    async fn ready(self) -> Instance {
        let mut instance = self.bound().await;
        instance.becomes_ready().await;
        instance
    }
}

impl Instance {
    async fn becomes_ready(&mut self) {
        let (state, port) = timeout(LONG, self.reports.recv()).await.unwrap().unwrap();
        assert_eq!((state, port), (InstanceState::Ready, self.address.port()));
    }

    async fn stops(self, drain: Duration) -> Result<(), InstanceError> {
        self.stop.send_replace(Some(drain));
        timeout(LONG, self.task).await.expect("it ends").expect("it doesn't panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_finds_a_state_that_nobody_used() {
    let instance = Wish::new("hello").ready().await;
    for _ in 0..20 {
        let answer = get(instance.address, "/").await;
        assert_eq!(status(&answer), 200);
        assert!(answer.ends_with("hello from hello (request 1 of this instance)\n"), "{answer}");
    }
    // Also on one connection.
    let mut stream = TcpStream::connect(instance.address).await.unwrap();
    for _ in 0..5 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("of this instance)\n") {
            let mut part = [0; 1024];
            let count = timeout(LONG, stream.read(&mut part)).await.unwrap().unwrap();
            assert_ne!(count, 0, "{answer}");
            answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
        }
        assert!(answer.contains("(request 1 of"), "{answer}");
    }
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_of_requests_are_not_found_by_later_ones_not_even_after_traps() {
    let instance = Wish::new("probe").ready().await;
    for path in ["/count", "/trap", "/count", "/alloc", "/count", "/late", "/count"] {
        let answer = get(instance.address, path).await;
        if path == "/count" {
            assert!(answer.contains("count 1 mark 0x0"), "{answer}");
        }
    }
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_streams_through_both_ways_at_once() {
    let instance = Wish::new("echo").ready().await;
    let mut stream = TcpStream::connect(instance.address).await.unwrap();
    let head = "POST /a?b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // Each part comes back before the next one is sent.
    for part in ["first", "second", "third"] {
        stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await.unwrap();
        while !answer.contains(part) {
            let mut bytes = [0; 1024];
            let count = timeout(LONG, stream.read(&mut bytes)).await.unwrap().unwrap();
            assert_ne!(count, 0, "{answer}");
            answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("x-echo-method: POST\r\n"), "{answer}");
    assert!(answer.contains("x-echo-path: /a?b\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    let told =
        send(instance.address, "GET / HTTP/1.1\r\nHost: test\r\nX-Colour: blue\r\nConnection: close\r\n\r\n")
            .await;
    assert!(told.contains("x-colour: blue\n"), "{told}");
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_only_the_offender_ends() {
    let instance = Wish { memory_mib: 8, ..Wish::new("probe") }.ready().await;
    assert_eq!(status(&get(instance.address, "/alloc").await), 502);
    assert_eq!(status(&get(instance.address, "/count").await), 200);
    assert_eq!(instance.counters.failed.load(Ordering::Relaxed), 1);
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_does_not_fit_its_memory_fails_before_it_is_ready() {
    let instance = Wish { memory_mib: 0, ..Wish::new("probe") }.bound().await;
    let ended = timeout(LONG, instance.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(InstanceError::Try(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_a_guest_that_computes_and_one_that_waits() {
    let instance = Wish { deadline_ms: 300, ..Wish::new("probe") }.ready().await;
    let began = Instant::now();
    // More that spin than there are threads: they give way to each other, and to the one that is quick.
    let spins: Vec<_> = (0..4)
        .map(|_| {
            let address = instance.address;
            tokio::spawn(async move { status(&get(address, "/spin").await) })
        })
        .collect();
    let sleeps = status(&get(instance.address, "/sleep").await);
    for spin in spins {
        assert_eq!(spin.await.unwrap(), 504);
    }
    assert_eq!(sleeps, 504);
    assert!(began.elapsed() < Duration::from_secs(8), "a guest outlived its deadline: {:?}", began.elapsed());
    assert_eq!(instance.counters.late.load(Ordering::Relaxed), 5);
    assert_eq!(instance.counters.in_flight.load(Ordering::Relaxed), 0);
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traps_stay_with_their_request_and_half_an_answer_does_not_look_whole() {
    let instance = Wish::new("probe").ready().await;
    assert_eq!(status(&get(instance.address, "/trap").await), 502);
    assert_eq!(status(&get(instance.address, "/silent").await), 502);
    let half = get(instance.address, "/late").await;
    assert_eq!(status(&half), 200);
    assert!(half.contains("half"), "{half}");
    assert!(!half.ends_with("0\r\n\r\n"), "the last chunk says that the answer is whole: {half}");
    assert_eq!(status(&get(instance.address, "/count").await), 200);
    assert_eq!(instance.counters.failed.load(Ordering::Relaxed), 3);
    assert_eq!(status(&send(instance.address, "GET / HTTP/1.0\r\n\r\n").await), 400);
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_cannot_call_out() {
    let instance = Wish::new("probe").ready().await;
    let answer = get(instance.address, "/outbound").await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_told_to_come_back() {
    let load = Load { concurrency_max: 1, queue_max: 1 };
    // Long enough for all four to be there before the first is ended, also where the machine does much else.
    let instance = Wish { load, deadline_ms: 6000, ..Wish::new("probe") }.ready().await;
    let address = instance.address;
    let (answers, mut answered) = mpsc::unbounded_channel();
    for _ in 0..4 {
        let answers = answers.clone();
        tokio::spawn(async move { answers.send(get(address, "/sleep").await) });
    }
    // One runs, one waits, two are refused at once; the one that waited has its deadline behind it.
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = timeout(LONG, answered.recv()).await.unwrap().unwrap();
        if status(&answer) == 503 {
            assert!(answer.to_lowercase().contains("retry-after: 1\r\n"), "{answer}");
        }
        statuses.push(status(&answer));
    }
    assert_eq!(statuses[..2], [503, 503]);
    assert!(statuses.contains(&504), "{statuses:?}");
    assert_eq!(status(&get(address, "/count").await), 200);
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_from_before_readiness_is_queued_and_answered() {
    // Nothing is compiled yet, and nowhere kept: readiness is a second away.
    let machine = Machine::new(None).unwrap();
    let uncompiled = Arc::new(Functions::new(machine.clone(), functions()));
    let mut instance = Wish::new("hello").bound_on(machine, uncompiled).await;
    let mut early = TcpStream::connect(instance.address).await.unwrap();
    early.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(instance.reports.try_recv().is_err(), "it was ready before the connection came");
    instance.becomes_ready().await;
    let mut answer = String::new();
    timeout(LONG, early.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(status(&answer), 200);
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_families_listen_on_one_port() {
    let addresses = Addresses { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: Some(Ipv6Addr::LOCALHOST) };
    let instance = Wish { addresses, ..Wish::new("hello") }.ready().await;
    assert_eq!(status(&get(instance.address, "/").await), 200);
    let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), instance.address.port());
    assert_eq!(status(&get(six, "/").await), 200);
    instance.stops(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_requests_end_and_refuses_new_ones() {
    let instance = Wish::new("echo").ready().await;
    let address = instance.address;
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nab";
    busy.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    timeout(LONG, busy.read_exact(&mut first)).await.unwrap().unwrap();
    instance.stop.send_replace(Some(LONG));
    // The listener is closed once the drain has begun.
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(LONG, refused).await.expect("new connections are refused");
    busy.write_all(b"cd").await.unwrap();
    let mut rest = String::new();
    timeout(LONG, busy.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("ab") && rest.contains("cd"), "{rest}");
    timeout(LONG, instance.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_at_its_time_with_requests_cut_off() {
    let instance = Wish::new("probe").ready().await;
    let address = instance.address;
    let counters = Arc::clone(&instance.counters);
    let asleep = tokio::spawn(async move { get(address, "/sleep").await });
    let running = async {
        while counters.in_flight.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, running).await.unwrap();
    let began = Instant::now();
    instance.stops(Duration::from_millis(100)).await.unwrap();
    assert_eq!(asleep.await.unwrap(), "", "there was no answer yet");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

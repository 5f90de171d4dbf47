use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use millrace_config::Config;
use millrace_fastpath::node::bier::{self, Loss};
use millrace_fastpath::node::{NodeId, drop_names, transit};
use millrace_fastpath::queue::{Command, Reply};
use millrace_fastpath::shared::Shared;
use millrace_fastpath::slots::Escalation;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::ServiceId;
use millrace_fastpath::trace::TraceLine;
use millrace_orchestrator_api as api;
use millrace_orchestrator_api::{Down, InstanceId, MemoryLink, ServicePlacement, Snapshot, memory_link};
use serde_json::Value;

use super::rows::*;
use super::*;
use crate::control::{Control, ControlThread, Settings, monotonic};
use crate::host::SmolStack;
use crate::testing::{EDGE, config, ports};

/// A control thread, one worker that the test plays on a thread, and the listeners.
struct Bench {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    telemetry: Option<Telemetry>,
    stop: Arc<AtomicBool>,
    worker: Option<thread::JoinHandle<()>>,
    _control: ControlThread,
}

impl Bench {
    fn new() -> Self {
        let (link, _) = memory_link(4);
        Self::of(&config(), link)
    }

    fn of(config: &Config, link: MemoryLink) -> Self {
        let shared = Shared::new(1);
        let settings =
            Settings { boot: 1, names_key: HashKey(1, 2), unix_offset_nanos: 0, ..Settings::default() };
        let host = Box::new(SmolStack::new(config, 1));
        let control =
            Control::new(config, &ports(), Arc::clone(&shared), link, host, settings, monotonic()).unwrap();
        let port = PortRow {
            name: "wan".into(),
            device: "net_ring0".into(),
            up: true,
            rx_packets: 7,
            ..PortRow::default()
        };
        let shown = Arc::new(move || vec![port.clone()]);
        let sources = Sources::new(Arc::clone(&shared), control.asker(), shown, vec![3]);
        let control = ControlThread::start(control).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run").join("control.sock");
        let telemetry = Telemetry::start(sources, &socket, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let worker = thread::spawn({
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            move || play_worker(&shared, &stop)
        });
        let (telemetry, worker) = (Some(telemetry), Some(worker));
        Self { folder, shared, telemetry, stop, worker, _control: control }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("run").join("control.sock")
    }

    fn show(&self, topic: Topic) -> Value {
        let request = Request::Show(topic);
        let value = ask(&self.socket(), &request).unwrap();
        let text = render(request, value.clone()).expect("what is answered can be shown");
        assert!(!text.is_empty());
        value
    }

    fn http(&self, request: &str) -> (String, String) {
        let address = self.telemetry.as_ref().unwrap().metrics_address().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.worker.take().unwrap().join().unwrap();
    }
}

/// Follows the tables and answers commands; a trace gets one frame of two lines, and is full only if it asked for one.
fn play_worker(shared: &Shared, stop: &AtomicBool) {
    let queues = &shared.workers[0].queues;
    let mut trace = None;
    while !stop.load(Ordering::Acquire) {
        shared.set_epoch(0, shared.tables().generation);
        if let Some(command) = queues.commands.pop() {
            match command {
                Command::Flows(rows) => queues.replies.push(Reply::Flows(rows)).unwrap(),
                Command::Trace(mut buffer) => {
                    if let Some(older) = trace.take() {
                        queues.replies.push(Reply::Trace(older)).unwrap();
                    }
                    if let Some(frame) = buffer.start_frame() {
                        for (node, decision) in
                            [(NodeId::Classify, "to transit"), (NodeId::Transit, "no-route")]
                        {
                            buffer.push(TraceLine { frame, node, decision, detail: [0; 40], detail_len: 0 });
                        }
                    }
                    trace = Some(buffer);
                }
            }
        }
        if let Some(full) = trace.take_if(|trace| trace.is_full()) {
            queues.replies.push(Reply::Trace(full)).unwrap();
        }
        thread::yield_now();
    }
}

#[test]
fn every_topic_is_answered_and_can_be_read() {
    let bench = Bench::new();
    let ports: Vec<PortRow> = serde_json::from_value(bench.show(Topic::Ports)).unwrap();
    assert_eq!((ports[0].name.as_str(), ports[0].rx_packets), ("wan", 7));
    let fates = &bench.shared.workers[0].counters.fates;
    fates.received.add(5);
    fates.dropped.add(4);
    let report: WorkersReport = serde_json::from_value(bench.show(Topic::Workers)).unwrap();
    assert_eq!((report.total.received, report.unexplained), (5, 1), "a lost frame shows");
    assert_eq!(report.workers[0].cpu, Some(3));
    bench.shared.workers[0].counters.node(NodeId::Transit).drops[transit::Drop::NoRoute as usize].add(9);
    let nodes: Vec<NodeRow> = serde_json::from_value(bench.show(Topic::Nodes)).unwrap();
    assert_eq!(nodes[NodeId::Transit as usize].drops["no-route"], 9);
    let services: Vec<ServiceRow> = serde_json::from_value(bench.show(Topic::Services)).unwrap();
    assert_eq!(services[0].phase, "bypass", "there is no orchestrator");
    assert_eq!(services[0].endpoints, ["tcp 203.0.113.10:80", "tcp [2001:db8:f::10]:80"]);
    assert_eq!(services[0].dns_names, ["hello.fn.example.", "hi.fn.example."]);
    assert_eq!(services[1].instances.len(), 2);
    assert_eq!((services[0].strikes, services[0].escalation, services[0].asks.as_str()), (0, 0, "none"));
    bench.shared.slots.get(ServiceId(1)).set_strikes(2, Escalation::Cookie);
    let services: Vec<ServiceRow> = serde_json::from_value(bench.show(Topic::Services)).unwrap();
    let web = &services[1];
    assert_eq!((web.strikes, web.escalation, web.asks.as_str()), (2, 2, "second-syn"), "it sends no cookies");
    let (_, metrics) = bench.http("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    for line in
        ["millrace_service_strikes{service=\"web\"} 2", "millrace_service_escalation{service=\"web\"} 2"]
    {
        assert!(metrics.lines().any(|one| one == line), "{line}");
    }
    let names: Vec<NameRow> = serde_json::from_value(bench.show(Topic::Names)).unwrap();
    let hello = names.iter().find(|row| row.name == "hello.fn.example.").unwrap();
    assert_eq!((hello.service.as_deref(), hello.zone.as_str()), (Some("hello"), "fn.example."));
    let neighbours: Vec<NeighbourRow> = serde_json::from_value(bench.show(Topic::Neighbours)).unwrap();
    let fixed = neighbours.iter().find(|row| row.address == "198.51.100.7").unwrap();
    assert_eq!((fixed.state.as_str(), fixed.mac.as_deref()), ("static", Some("02:00:00:00:00:07")));
    let holds: Vec<HoldRow> = serde_json::from_value(bench.show(Topic::Holds)).unwrap();
    assert_eq!((holds.len(), holds[0].held_max, holds[0].deadline_ms), (1, 512, 900));
    let link: LinkReport = serde_json::from_value(bench.show(Topic::Link)).unwrap();
    assert!(!link.up && link.counters["tables_published"] >= 1);
    assert_eq!(bench.show(Topic::Flows), Value::Array(vec![]));
    assert_eq!(bench.show(Topic::Wakes), Value::Array(vec![]));
}

/// BIER is shown where there is none, and by its links, losses and flows where there is.
#[test]
fn bier_is_shown_with_and_without_a_configuration() {
    let bench = Bench::new();
    let empty: BierReport = serde_json::from_value(bench.show(Topic::Bier)).unwrap();
    assert!(empty.bift.is_empty() && empty.counters.copies.is_empty());
    assert_eq!(empty.counters.lost.values().sum::<u64>(), 0);
    assert!(
        bench
            .http("GET /metrics HTTP/1.1\r\n\r\n")
            .1
            .contains("millrace_bier_lost_total{reason=\"no-way\"} 0")
    );

    let bier = "\n[bier]\nbfr_prefix = \"192.0.2.1\"\ncount_receivers = true\n[[bier.subdomain]]\nid = 0\nbfr_id = 5\n\
        table = [{ neighbour = \"p\", address = \"198.51.100.7\", bfr_ids = \"1,2,66-70,300\" }]\n\
        [[bier.overlay]]\nsource = \"192.0.2.100\"\ngroup = \"232.1.1.1\"\nsubdomain = 0\nreceivers = \"1,300\"\n\
        [[bier.listener]]\ngroup = \"232.1.1.2\"\nports = [\"lan.20\"]\n";
    let config = Config::parse("edge.toml", &format!("{EDGE}{bier}")).unwrap();
    let bench = Bench::of(&config, memory_link(4).0);
    let counters = &bench.shared.workers[0].counters.bier;
    counters.copies[0].add(7);
    counters.lost[Loss::TooBig as usize].add(3);
    counters.bifts[1].add(11);
    // Router 300 is bit 44 of the second table.
    counters.receivers[256 + 43].add(5);
    counters.punted.add(2);
    bench.shared.workers[0].counters.node(NodeId::Bier).drops[bier::Drop::NoRoute as usize].add(4);
    let report: BierReport = serde_json::from_value(bench.show(Topic::Bier)).unwrap();
    let tables: Vec<_> =
        report.bift.iter().map(|row| (row.si, row.local, row.ways[0].bfr_ids.as_str())).collect();
    assert_eq!(tables, [(0, Some(5), "1,2,66-70"), (1, None, "300")]);
    let link = &report.neighbours[0].links[0];
    assert_eq!((link.interface.as_str(), link.mac.as_deref()), ("lan", Some("02:00:00:00:00:07")));
    assert_eq!((report.overlay[0].receivers.as_str(), report.overlay[0].packets), ("1,300", 2));
    assert_eq!(report.listeners[0].interfaces, ["lan.20"]);
    assert_eq!((report.counters.copies[0].copies, report.counters.lost["too-big"]), (7, 3));
    let packets: Vec<_> = report.bift.iter().map(|row| row.packets).collect();
    assert_eq!((packets, report.neighbours[0].copies), (vec![Some(0), Some(11)], 7));
    let three_hundred = ReceiverRow { subdomain: 0, bfr_id: 300, packets: 5 };
    assert_eq!(report.counters.receivers, [three_hundred]);
    assert_eq!((report.counters.dropped["no-route"], report.counters.punted), (4, 2));
    let (_, body) = bench.http("GET /metrics HTTP/1.1\r\n\r\n");
    for line in ["millrace_bier_packets_total{subdomain=\"0\",si=\"1\"} 11", "millrace_bier_punted_total 2"] {
        assert!(body.lines().any(|one| one == line), "{line}\n{body}");
    }
    let copies = "millrace_bier_copies_total{interface=\"lan\",neighbour=\"198.51.100.7\",encapsulation=\"ethernet\"} 7";
    for line in [copies, "millrace_bier_lost_total{reason=\"too-big\"} 3"] {
        assert!(body.lines().any(|one| one == line), "{line}\n{body}");
    }
    let value = bench.show(Topic::Bier);
    for (part, tells) in BierPart::ALL.into_iter().zip(["66-70", "02:00:00:00:00:07", "232.1.1.2", "too-big"])
    {
        assert!(bier_part(value.clone(), part).unwrap().contains(tells), "{tells}");
    }
}

/// Hosts go by their network: they have no address, no BIFT-id and no link-layer address.
#[test]
fn hosts_with_numbers_are_shown_by_their_network() {
    let bier = "\n[bier]\nbfr_prefix = \"192.0.2.1\"\n[[bier.subdomain]]\nid = 0\nbfr_id = 5\n\
        table = [{ neighbour = \"leg\", encapsulation = \"none\", port = \"lan.20\", bfr_ids = \"66-68\" }]\n";
    let config = Config::parse("edge.toml", &format!("{EDGE}{bier}")).unwrap();
    let bench = Bench::of(&config, memory_link(4).0);
    bench.shared.workers[0].counters.bier.copies[0].add(7);
    let report: BierReport = serde_json::from_value(bench.show(Topic::Bier)).unwrap();
    let way = &report.bift[0].ways[0];
    assert_eq!((way.bfr_ids.as_str(), way.neighbour.as_str(), way.bift_id), ("66-68", "lan.20", None));
    let row = &report.neighbours[0];
    assert_eq!((row.neighbour.as_str(), row.reach.as_str(), row.copies), ("lan.20", "hosts", 7));
    assert_eq!(row.unprotected, "66-68");
    let link = BierLinkRow {
        interface: "lan.20".to_owned(),
        address: "-".to_owned(),
        encapsulation: "none".to_owned(),
        mac: None,
    };
    assert_eq!(row.links, [link]);
    let (_, body) = bench.http("GET /metrics HTTP/1.1\r\n\r\n");
    let copies = "millrace_bier_copies_total{interface=\"lan.20\",neighbour=\"-\",encapsulation=\"none\"} 7";
    assert!(body.lines().any(|one| one == copies), "{body}");
}

/// Everything that is full, limited or lost has a name that an operator finds, in the rows and in the metrics.
#[test]
fn every_limit_that_is_met_shows_by_its_name() {
    let bench = Bench::new();
    let counters = &bench.shared.workers[0].counters;
    let fates = &counters.fates;
    let named = [
        ("flows_evicted", &fates.flows_evicted),
        ("flows_refused", &fates.flows_refused),
        ("fragments_evicted", &fates.fragments_evicted),
        ("triples_evicted", &fates.triples_evicted),
        ("events_lost", &fates.events_lost),
        ("wakes_limited", &fates.wakes_limited),
        ("errors_limited", &fates.errors_limited),
        ("responses_slipped", &fates.responses_slipped),
        ("limits_evicted", &fates.limits_evicted),
        ("injects_lost", &fates.injects_lost),
    ];
    for (n, (_, counter)) in (1..).zip(&named) {
        counter.add(n);
    }
    for (n, counter) in (100..).zip(&fates.holds_refused) {
        counter.add(n);
    }
    let full = [
        (NodeId::Host, "queue-full"),
        (NodeId::Transit, "neighbour-queue-full"),
        (NodeId::Classify, "owner-behind"),
        (NodeId::Classify, "fragment-orphan"),
        (NodeId::Service, "flow-table-full"),
        (NodeId::Service, "nat-exhausted"),
        (NodeId::Service, "hold-flow-full"),
        (NodeId::Service, "hold-service-full"),
        (NodeId::Service, "hold-prefix-full"),
        (NodeId::Service, "hold-worker-full"),
        (NodeId::Service, "hold-too-long"),
        (NodeId::Service, "hold-expired"),
        (NodeId::Service, "splice-surplus"),
        (NodeId::Dns, "rate-limited"),
        (NodeId::Output, "refused"),
    ];
    for (n, (node, name)) in (200..).zip(full) {
        let at = drop_names(node).iter().position(|known| *known == name).unwrap_or_else(|| panic!("{name}"));
        counters.node(node).drops[at].add(n);
    }
    counters.service(ServiceId(0)).overflowed.add(300);

    let (_, body) = bench.http("GET /metrics HTTP/1.1\r\n\r\n");
    let shows = |sample: String| assert!(body.contains(&format!("\n{sample}\n")), "{sample}\n{body}");
    let workers = bench.show(Topic::Workers);
    let text = render(Request::Show(Topic::Workers), workers.clone()).unwrap();
    let row = &workers["workers"][0];
    let tells = |limit: &str, n: u64| {
        let lines = || text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert!(lines().any(|words| words == ["0", limit, &n.to_string()]), "{limit} {n}\n{text}");
    };
    for (n, (name, _)) in (1..).zip(&named) {
        assert_eq!(row[*name], n, "{name}");
        shows(format!("millrace_worker_{name}_total{{worker=\"0\"}} {n}"));
        tells(&name.replace('_', "-"), n);
    }
    for (n, reason) in (100..).zip(["service-full", "prefix-full", "worker-full", "too-long", "flow-full"]) {
        assert_eq!(row["holds_refused"][reason], n);
        shows(format!("millrace_worker_holds_refused_total{{worker=\"0\",reason=\"{reason}\"}} {n}"));
        tells(&format!("hold-{reason}"), n);
    }
    let nodes = bench.show(Topic::Nodes);
    for (n, (node, name)) in (200..).zip(full) {
        assert_eq!(nodes[node as usize]["drops"][name], n, "{name}");
        shows(format!("millrace_node_drops_total{{node=\"{}\",reason=\"{name}\"}} {n}", node.name()));
    }
    assert_eq!(bench.show(Topic::Services)[0]["overflowed"], 300);
    shows("millrace_service_overflowed_total{service=\"hello\"} 300".to_owned());
    let link = bench.show(Topic::Link);
    for name in [
        "punts_limited",
        "injects_refused",
        "membership_groups_refused",
        "membership_sources_refused",
        "signals_unsent",
        "signals_refused",
        "answers_forgotten",
        "notices_refused_full",
        "notices_refused_down",
        "wakes_cancelled",
        "neighbour_discarded",
        "neighbour_refused",
        "host_overflowed",
        "tcp_aborted",
    ] {
        assert!(link["counters"][name].is_u64(), "{name}");
        assert!(body.contains(&format!("\nmillrace_control_{name}_total ")), "{name}");
    }
}

#[test]
fn a_trace_ends_when_it_is_full_or_when_patience_ends() {
    let bench = Bench::new();
    let trace = |frames, seconds| {
        let value = ask(&bench.socket(), &Request::Trace { frames, seconds }).unwrap();
        serde_json::from_value::<Vec<TraceRow>>(value).unwrap()
    };
    let rows = trace(1, 60);
    assert_eq!(rows.iter().map(|row| row.decision.as_str()).collect::<Vec<_>>(), ["to transit", "no-route"]);
    assert_eq!(trace(5, 0).len(), 2, "what there is of a trace that isn't full");
    assert_eq!(trace(1, 60).len(), 2, "and nothing of it is left for the next");
}

#[test]
fn nonsense_is_answered_and_the_next_question_too() {
    let bench = Bench::new();
    let mut stream = UnixStream::connect(bench.socket()).unwrap();
    stream.write_all(b"nonsense\n{\"show\":\"everything\"}\n{\"show\":\"ports\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let kinds: Vec<&str> = answer.lines().map(|line| &line[..8]).collect();
    assert_eq!(kinds, ["{\"error\"", "{\"error\"", "{\"ok\":[{"]);
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_appliance() {
    let mut bench = Bench::new();
    let path = bench.socket();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    bench.telemetry = None;
    assert!(!path.exists());
    assert!(matches!(ask(&path, &Request::Show(Topic::Ports)), Err(ClientError::NotThere { .. })));
}

#[test]
fn a_dead_socket_is_taken_over_a_living_one_is_not() {
    let bench = Bench::new();
    let sources = |shared: &Arc<Shared>| {
        let (link, _) = memory_link(4);
        let settings =
            Settings { boot: 1, names_key: HashKey(1, 2), unix_offset_nanos: 0, ..Settings::default() };
        let host = Box::new(SmolStack::new(&config(), 1));
        let fresh = Shared::new(1);
        let control = Control::new(&config(), &ports(), fresh, link, host, settings, monotonic()).unwrap();
        Sources::new(Arc::clone(shared), control.asker(), Arc::new(Vec::new), vec![])
    };
    let living = Telemetry::start(sources(&bench.shared), &bench.socket(), None);
    assert!(matches!(living, Err(TelemetryError::InUse(_))), "{living:?}");
    let dead = bench.folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    Telemetry::start(sources(&bench.shared), &dead, None).unwrap();
    let file = bench.folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let refused = Telemetry::start(sources(&bench.shared), &file, None);
    assert!(matches!(refused, Err(TelemetryError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn metrics_are_open_metrics() {
    let bench = Bench::new();
    let (head, body) = bench.http("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"));
    assert!(
        head.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    assert!(body.ends_with("\n# EOF\n"));
    assert!(body.contains("\nmillrace_port_rx_packets_total{port=\"wan\"} 7\n"), "{body}");
    assert!(body.contains("\nmillrace_service_phase{service=\"hello\",phase=\"bypass\"} 1\n"));
    // Each sample belongs to the family above it, each family is given once, and each value is a number.
    let mut families = std::collections::HashSet::new();
    let (mut family, mut counter) = (String::new(), false);
    for line in body.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "HELP and TYPE stand together");
            counter = kind == "counter";
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} is given twice");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let expected = if counter { format!("{family}_total") } else { family.clone() };
            assert_eq!(name, expected);
            value.parse::<f64>().unwrap();
        }
    }
    assert!(families.len() > 30);
    assert!(bench.http("GET / HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 404"));
    assert!(bench.http("POST /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 405"));
    assert_eq!(bench.http("HEAD /metrics HTTP/1.1\r\n\r\n").1, "");
}

/// The judge is Prometheus' own tool, where it is installed; the test above stands without it.
#[test]
fn prometheus_accepts_the_older_format() {
    let bench = Bench::new();
    let (head, body) = bench.http(OLDER);
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"));
    judge(&body);
}

/// Services that lead to the same backends and check them alike, and a function one of whose instances takes the place of
/// another, at the same address and port.
#[test]
fn no_sample_is_given_twice() {
    let checks = "health = { kind = \"tcp\", passive = { failures = 5 } }";
    let mut text = EDGE.replace("idle_reap_seconds = 120", &format!("idle_reap_seconds = 120\n{checks}"));
    let start = text.find("[[service]]\nname = \"web\"").unwrap();
    let end = text.find("[limits]").unwrap();
    let web = format!("{}{checks}\n\n", &text[start..end]);
    let api = web.replace("\"web\"", "\"api\"").replace("203.0.113.20", "203.0.113.21");
    text.replace_range(start..end, &(web + &api));
    let (link, mut orchestrator) = memory_link(4);
    let bench = Bench::of(&Config::parse("edge.toml", &text).unwrap(), link);
    let instance = |id, state| api::Instance {
        id: InstanceId(id),
        node: "fn1".into(),
        state,
        ipv4_address: Some("198.51.100.21".parse().unwrap()),
        ipv6_address: Some("2001:db8:1::21".parse().unwrap()),
        port: 9000,
        weight: 1,
    };
    let instances = vec![instance(1, api::InstanceState::Draining), instance(2, api::InstanceState::Ready)];
    let services = vec![ServicePlacement { service: "hello".into(), instances, failure: None }];
    let snapshot = Snapshot { generation: api::Generation(1), services };
    orchestrator.send(Down::Snapshot(snapshot)).unwrap();
    // Until it is placed, and looked at.
    while !bench.http(OLDER).1.contains("millrace_instance_ejected{service=\"hello\"") {
        thread::yield_now();
    }
    let slots: Vec<usize> = {
        let tables = bench.shared.tables();
        tables.services.get(ServiceId(0)).unwrap().instances.iter().map(|one| one.slot.index()).collect()
    };
    for request in ["GET /metrics HTTP/1.1\r\n\r\n", OLDER] {
        let (_, body) = bench.http(request);
        let mut series = std::collections::HashSet::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (one, _) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(one), "{one} is given twice");
        }
        let has = |start: &str| series.iter().filter(|one| one.starts_with(start)).count();
        // Of each backend by either service, and of the two instances' one place: two addresses, one pair of them.
        assert_eq!((has("millrace_check_up"), has("millrace_instance_ejected")), (6, 5), "{body}");
        if request == OLDER {
            judge(&body);
        }
    }
    // What is told of the place is what is counted of both.
    for slot in slots {
        bench.shared.workers[0].counters.handshakes[slot].begun.add(7);
    }
    let place = "{service=\"hello\",instance=\"198.51.100.21 2001:db8:1::21\",port=\"9000\"}";
    let told = format!("millrace_instance_handshakes_begun_total{place} 14");
    while !bench.http(OLDER).1.lines().any(|line| line == told) {
        thread::yield_now();
    }
}

const OLDER: &str = "GET /metrics HTTP/1.1\r\nAccept: text/plain; version=0.0.4\r\n\r\n";

fn judge(body: &str) {
    let judge = Process::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut judge = match judge {
        Ok(judge) => judge,
        Err(error) => return eprintln!("SKIPPED: promtool can't be run: {error}"),
    };
    judge.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let verdict = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&verdict.stdout) + String::from_utf8_lossy(&verdict.stderr);
    assert!(verdict.status.success(), "{said}");
}

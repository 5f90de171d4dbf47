//! The whole way over real gRPC on loopback: a notice starts an instance, its placement comes back, requests are
//! answered; orchestrators and nodes come and go.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use common::{LONG, functions, get, loopback, status};
use millrace_orchestrator::config::{Config, FunctionConfig, NodeConfig, Pattern, ServiceConfig};
use millrace_orchestrator::embedded;
use millrace_orchestrator::server::{Listen, Orchestrator};
use millrace_orchestrator_api::client::{GrpcLink, LinkSettings};
use millrace_orchestrator_api::{
    Down, FirstPacket, Idle, Instance, InstanceState, Link, LinkError, LinkState, MacAddress, Trigger, Up,
    View,
};
use millrace_serving::instance::{Addresses, Load};
use millrace_serving::node::{self, NodeError, Settings};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

fn config() -> Config {
    let function = |name: &str| FunctionConfig {
        name: name.to_owned(),
        memory_bytes: 32 << 20,
        deadline_ms: 2000,
        instances_min: 0,
        instances_max: 2,
        pattern: Pattern::Pack,
    };
    let service = |name: &str, function: &str| ServiceConfig {
        name: name.to_owned(),
        function: function.to_owned(),
        port: 0,
    };
    Config::new(
        vec![function("hello"), function("missing")],
        vec![service("hello", "hello"), service("broken", "missing")],
        vec![NodeConfig { name: "fn1".to_owned(), address: None }],
    )
    .unwrap()
}

fn listen(port: u16) -> Listen {
    Listen { address: loopback(port), tls: None, insecure: false }
}

struct Node {
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    fn start(orchestrator: SocketAddr) -> Self {
        let settings = Settings {
            name: "fn1".to_owned(),
            orchestrator: format!("http://{orchestrator}"),
            tls: None,
            insecure: false,
            addresses: Addresses { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None },
            memory_bytes: 1 << 30,
            functions: functions().into_iter().filter(|(name, _)| name == "hello").collect(),
            cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("orchestrated")),
            load: Load::default(),
        };
        let (shutdown, ended) = oneshot::channel();
        let ended = async { drop(ended.await) };
        Node { shutdown: Some(shutdown), task: tokio::spawn(node::run(settings, ended)) }
    }

    async fn shut_down(mut self) {
        drop(self.shutdown.take());
        timeout(LONG, self.task).await.expect("it drains").expect("it doesn't panic").expect("it ran");
    }
}

/// An appliance's side: reads the link, keeps the view, says what it applied.
struct Appliance<L> {
    link: L,
    view: View,
    sequence: u64,
    acknowledged: Vec<u64>,
    /// Every state that the hello service's instances were seen in, in order.
    seen: Vec<InstanceState>,
}

impl<L: Link> Appliance<L> {
    fn new(link: L) -> Self {
        Appliance { link, view: View::default(), sequence: 0, acknowledged: Vec::new(), seen: Vec::new() }
    }

    /// Reads until something holds. The link has no way to wait, as its real reader polls; so does this.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        let mut turn = tokio::time::interval(Duration::from_millis(1));
        while !holds(self) {
            assert!(began.elapsed() < LONG, "never: {what}; {:?}", self.view);
            while let Some(down) = self.link.receive() {
                self.take(down);
            }
            turn.tick().await;
        }
    }

    fn take(&mut self, down: Down) {
        match down {
            Down::Snapshot(snapshot) => self.view.replace(snapshot),
            Down::Delta(delta) => {
                if self.view.apply(delta).is_err() {
                    self.link.send(Up::Resync).unwrap();
                    return;
                }
            }
            Down::Acknowledge { sequence } => {
                self.acknowledged.push(sequence);
                return;
            }
        }
        if let Some(instance) = self.instance() {
            let state = instance.state;
            if self.seen.last() != Some(&state) {
                self.seen.push(state);
            }
        }
        let (generation, digest) = (self.view.generation(), self.view.digest());
        // A link that went down meanwhile tells it in its next greeting.
        let _ = self.link.send(Up::Applied { generation, digest });
    }

    fn instance(&self) -> Option<Instance> {
        self.view.service("hello")?.instances.first().cloned()
    }

    fn ready(&self) -> bool {
        self.instance().is_some_and(|instance| instance.state == InstanceState::Ready)
    }

    fn notify(&mut self, service: &str) -> Result<(), LinkError> {
        self.sequence += 1;
        self.link.send(Up::FirstPacket(FirstPacket {
            site: "edge".to_owned(),
            boot: 1,
            sequence: self.sequence,
            service: service.to_owned(),
            trigger: Trigger::Syn,
            time_unix_ns: 0,
            ingress_port: "wan".to_owned(),
            vlan: None,
            source_mac: MacAddress::default(),
            destination_mac: MacAddress::default(),
            source_address: "192.0.2.1".parse().unwrap(),
            destination_address: "203.0.113.10".parse().unwrap(),
            next_header: 6,
            length_bytes: 60,
            flow_label: 0,
            dns: None,
            function_class: "hello".to_owned(),
        }))
    }
}

fn grpc(orchestrator: SocketAddr) -> Appliance<GrpcLink> {
    let settings = LinkSettings {
        endpoint: format!("http://{orchestrator}"),
        tls: None,
        insecure: false,
        site: "edge".to_owned(),
        boot: 1,
        version: "0".to_owned(),
    };
    Appliance::new(GrpcLink::connect(&Handle::current(), settings).unwrap())
}

async fn answers(instance: &Instance) {
    let answer = get((instance.ipv4_address.unwrap(), instance.port).into(), "/").await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("hello from hello (request 1 of"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_starts_an_instance_and_idleness_ends_it() {
    let orchestrator = Orchestrator::start(&Handle::current(), config(), &listen(0)).unwrap();
    let node = Node::start(orchestrator.address());
    let mut appliance = grpc(orchestrator.address());
    appliance.until("a first snapshot", |one| one.view.service("hello").is_some()).await;
    assert_eq!(appliance.instance(), None);
    appliance.notify("hello").unwrap();
    appliance.until("ready", Appliance::ready).await;
    assert_eq!(appliance.acknowledged, [1]);
    let instance = appliance.instance().unwrap();
    assert_eq!(instance.node, "fn1");
    answers(&instance).await;
    let generation = appliance.view.generation();
    appliance.link.send(Up::Idle(Idle { service: "hello".to_owned(), generation })).unwrap();
    appliance.until("gone", |one| one.instance().is_none()).await;
    use InstanceState::{Draining, Ready, Starting};
    assert!(
        appliance.seen == [Starting, Ready, Draining] || appliance.seen == [Ready, Draining],
        "{:?}",
        appliance.seen
    );
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_no_node_has_fails_with_its_reason() {
    let (link, orchestrator) = embedded::start(&Handle::current(), config(), &listen(0)).unwrap();
    let node = Node::start(orchestrator.address());
    let mut appliance = Appliance::new(link);
    appliance.until("a first snapshot", |one| one.view.service("hello").is_some()).await;
    appliance.notify("broken").unwrap();
    let failure = |one: &Appliance<_>| one.view.service("broken").and_then(|one| one.failure.clone());
    appliance.until("failed", |one| failure(one).is_some()).await;
    let failure = failure(&appliance).unwrap();
    assert_eq!(failure.notices.iter().map(|notice| notice.sequence).collect::<Vec<_>>(), [1]);
    assert!(failure.reason.contains("no function \"missing\""), "{}", failure.reason);
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_services_outlive_their_orchestrator_and_all_meet_again() {
    let orchestrator = Orchestrator::start(&Handle::current(), config(), &listen(0)).unwrap();
    let address = orchestrator.address();
    let node = Node::start(address);
    let mut appliance = grpc(address);
    appliance.until("a first snapshot", |one| one.view.service("hello").is_some()).await;
    appliance.notify("hello").unwrap();
    appliance.until("ready", Appliance::ready).await;
    let before = appliance.instance().unwrap();
    let generation = appliance.view.generation();

    drop(orchestrator);
    appliance.until("down", |one| one.link.state() == LinkState::Down).await;
    assert_eq!(appliance.notify("hello"), Err(LinkError::Down));
    answers(&before).await;

    let again = async {
        loop {
            if let Ok(orchestrator) =
                Orchestrator::start(&Handle::current(), config(), &listen(address.port()))
            {
                return orchestrator;
            }
            tokio::task::yield_now().await;
        }
    };
    let orchestrator = timeout(LONG, again).await.expect("the port comes free");
    appliance.until("a newer generation", |one| one.view.generation() > generation).await;
    assert_eq!(appliance.instance(), Some(before.clone()), "the instance was taken over");
    assert_eq!(appliance.link.state(), LinkState::Up);
    answers(&before).await;

    node.shut_down().await;
    appliance.until("out of the placement", |one| one.instance().is_none()).await;
    drop(orchestrator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_leaves_the_placement_and_a_new_one_takes_the_next_wake() {
    let (link, orchestrator) = embedded::start(&Handle::current(), config(), &listen(0)).unwrap();
    let node = Node::start(orchestrator.address());
    let mut appliance = Appliance::new(link);
    appliance.until("a first snapshot", |one| one.view.service("hello").is_some()).await;
    appliance.notify("hello").unwrap();
    appliance.until("ready", Appliance::ready).await;
    let before = appliance.instance().unwrap();
    node.task.abort();
    appliance.until("out of the placement", |one| one.instance().is_none()).await;
    let node = Node::start(orchestrator.address());
    appliance.notify("hello").unwrap();
    appliance.until("ready again", Appliance::ready).await;
    let after = appliance.instance().unwrap();
    assert_ne!(after.id, before.id);
    answers(&after).await;
    node.shut_down().await;
}

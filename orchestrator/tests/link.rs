//! The link over gRPC: what is resent, what is refused, and mutual TLS with certificates made by another tool.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millrace_orchestrator::config::{Config, FunctionConfig, NodeConfig, Pattern, ServiceConfig};
use millrace_orchestrator::server::{Listen, Orchestrator, ServeError};
use millrace_orchestrator_api::client::{GrpcLink, LinkSettings};
use millrace_orchestrator_api::convert::{FromAppliance, from_appliance};
use millrace_orchestrator_api::proto::orchestrator_client::OrchestratorClient;
use millrace_orchestrator_api::proto::orchestrator_server::{Orchestrator as Api, OrchestratorServer};
use millrace_orchestrator_api::tls::{self, TlsError, TlsFiles};
use millrace_orchestrator_api::{
    Down, FirstPacket, Link, LinkState, MacAddress, NodeHello, NodeKind, NodeUp, Trigger, Up, proto,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config::new(
        vec![FunctionConfig {
            name: "hello".to_owned(),
            memory_bytes: 1 << 20,
            deadline_ms: 100,
            instances_min: 0,
            instances_max: 1,
            pattern: Pattern::Pack,
        }],
        vec![ServiceConfig { name: "hello".to_owned(), function: "hello".to_owned(), port: 0 }],
        ["fn1", "localhost"].map(|name| NodeConfig { name: name.to_owned(), address: None }).to_vec(),
    )
    .unwrap()
}

fn notice(service: &str, sequence: u64) -> Up {
    Up::FirstPacket(FirstPacket {
        site: "edge".to_owned(),
        boot: 1,
        sequence,
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
        function_class: String::new(),
    })
}

fn connect(endpoint: String, tls: Option<TlsFiles>) -> GrpcLink {
    let settings = LinkSettings {
        endpoint,
        tls,
        insecure: false,
        site: "edge".to_owned(),
        boot: 1,
        version: "0".to_owned(),
    };
    GrpcLink::connect(&Handle::current(), settings).unwrap()
}

/// Polls the link, as its real reader does, until something holds.
async fn until(link: &mut GrpcLink, what: &str, mut holds: impl FnMut(&mut GrpcLink) -> bool) {
    let began = Instant::now();
    let mut turn = tokio::time::interval(Duration::from_millis(1));
    while !holds(link) {
        assert!(began.elapsed() < LONG, "never: {what}");
        turn.tick().await;
    }
}

async fn snapshot(link: &mut GrpcLink) {
    until(link, "a snapshot", |link| matches!(link.receive(), Some(Down::Snapshot(_)))).await;
}

/// An orchestrator that hands each stream to the test, and acknowledges only what the test wants.
struct Scripted {
    streams: mpsc::Sender<Stream>,
}

struct Stream {
    incoming: Streaming<proto::ApplianceMessage>,
    outgoing: mpsc::Sender<Result<proto::OrchestratorMessage, Status>>,
}

#[tonic::async_trait]
impl Api for Scripted {
    type LinkStream = ReceiverStream<Result<proto::OrchestratorMessage, Status>>;
    type ServeStream = ReceiverStream<Result<proto::NodeCommand, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<proto::ApplianceMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (outgoing, queue) = mpsc::channel(64);
        let stream = Stream { incoming: request.into_inner(), outgoing };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn serve(
        &self,
        _: Request<Streaming<proto::NodeMessage>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        Err(Status::unimplemented("no nodes in this test"))
    }
}

impl Stream {
    /// The next message that isn't a heartbeat.
    async fn next(&mut self) -> FromAppliance {
        loop {
            let message = timeout(LONG, self.incoming.message()).await.unwrap().unwrap().unwrap();
            match from_appliance(message).unwrap() {
                FromAppliance::Heartbeat => {}
                other => return other,
            }
        }
    }

    async fn hello(&mut self) -> proto::Hello {
        match self.next().await {
            FromAppliance::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    async fn sequence(&mut self) -> u64 {
        match self.next().await {
            FromAppliance::Up(Up::FirstPacket(notice)) => notice.sequence,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, down: Down) {
        self.outgoing.send(Ok(down.into())).await.unwrap();
    }
}

async fn scripted() -> (SocketAddr, mpsc::Receiver<Stream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (streams, arrivals) = mpsc::channel(4);
    let service = OrchestratorServer::new(Scripted { streams });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (address, arrivals)
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_once_per_service() {
    let (address, mut arrivals) = scripted().await;
    let mut link = connect(format!("http://{address}"), None);
    let mut first = timeout(LONG, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(first.hello().await.applied_generation, 0);
    first.say(Down::Acknowledge { sequence: 0 }).await;
    until(&mut link, "up", |link| link.state() == LinkState::Up).await;
    for (service, sequence) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
        link.send(notice(service, sequence)).unwrap();
        assert_eq!(first.sequence().await, sequence);
    }
    link.send(Up::Applied { generation: millrace_orchestrator_api::Generation(7), digest: 0 }).unwrap();
    first.next().await;
    first.say(Down::Acknowledge { sequence: 2 }).await;
    // An acknowledgement of the older notice isn't one of the newer.
    first.say(Down::Acknowledge { sequence: 1 }).await;
    let mut acknowledged = Vec::new();
    until(&mut link, "acknowledged", |link| {
        while let Some(Down::Acknowledge { sequence }) = link.receive() {
            acknowledged.push(sequence);
        }
        acknowledged.ends_with(&[2, 1])
    })
    .await;
    drop(first);
    let mut second = timeout(LONG, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(second.hello().await.applied_generation, 7);
    assert_eq!(second.sequence().await, 3);
    assert_eq!(second.sequence().await, 4);
    second.say(Down::Acknowledge { sequence: 3 }).await;
    until(&mut link, "up again", |link| link.state() == LinkState::Up).await;
    link.send(Up::Resync).unwrap();
    assert_eq!(second.next().await, FromAppliance::Up(Up::Resync), "nothing else was sent again");
}

#[tokio::test]
async fn a_silent_orchestrator_takes_the_link_down_and_its_next_word_up() {
    let (address, mut arrivals) = scripted().await;
    let mut link = connect(format!("http://{address}"), None);
    let stream = timeout(LONG, arrivals.recv()).await.unwrap().unwrap();
    stream.say(Down::Acknowledge { sequence: 0 }).await;
    until(&mut link, "up", |link| link.state() == LinkState::Up).await;
    until(&mut link, "down", |link| link.state() == LinkState::Down).await;
    // Should the silence have ended the stream on a slow machine, the next one serves as well.
    let word = || Ok(Down::Acknowledge { sequence: 0 }.into());
    let mut next = None;
    if stream.outgoing.send(word()).await.is_err() {
        let stream = timeout(LONG, arrivals.recv()).await.unwrap().unwrap();
        stream.outgoing.send(word()).await.unwrap();
        next = Some(stream);
    }
    until(&mut link, "up again", |link| link.state() == LinkState::Up).await;
    drop(next);
}

/// Certificates of two authorities, made by OpenSSL.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(directory.path()).output();
            let output = output.expect("the package openssl is installed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        std::fs::write(directory.path().join("ends.conf"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
            .unwrap();
        for authority in ["ours", "theirs"] {
            let (ca_key, ca) = (format!("{authority}-ca.key"), format!("{authority}-ca.pem"));
            let subject = format!("/CN={authority}");
            let mut make = vec!["req", "-x509", "-keyout", &ca_key, "-out", &ca, "-subj", &subject];
            make.extend(key);
            run(&make);
            let (end_key, request, end) =
                (format!("{authority}.key"), format!("{authority}.csr"), format!("{authority}.pem"));
            let mut ask = vec!["req", "-new", "-keyout", &end_key, "-out", &request, "-subj", "/CN=end"];
            ask.extend(&key[..5]);
            run(&ask);
            run(&[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-out",
                &end,
                "-days",
                "2",
                "-extfile",
                "ends.conf",
            ]);
        }
        Certificates(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }

    /// A certificate of one authority, trusting ours.
    fn of(&self, authority: &str) -> TlsFiles {
        TlsFiles {
            cert: self.path(&format!("{authority}.pem")),
            key: self.path(&format!("{authority}.key")),
            ca: self.path("ours-ca.pem"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_certificates_of_the_authority_get_in() {
    let certificates = Certificates::new();
    let listen = Listen {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        tls: Some(certificates.of("ours")),
        insecure: false,
    };
    let orchestrator = Orchestrator::start(&Handle::current(), config(), &listen).unwrap();
    let endpoint = format!("https://{}", orchestrator.address());
    let mut stranger = connect(endpoint.clone(), Some(certificates.of("theirs")));
    let mut plain = connect(format!("http://{}", orchestrator.address()), None);
    // By the time that ours has its snapshot, the others have tried more than once.
    let mut ours = connect(endpoint, Some(certificates.of("ours")));
    snapshot(&mut ours).await;
    assert_eq!(ours.state(), LinkState::Up);
    for link in [&mut stranger, &mut plain] {
        assert_eq!(link.state(), LinkState::Down);
        assert_eq!(link.receive(), None);
    }
}

/// Registers a serving node under a name, and goes. An error is the orchestrator's refusal.
async fn register(endpoint: &str, tls: Option<&TlsFiles>, name: &str) -> Result<(), Status> {
    let channel = tls::endpoint(endpoint, tls, false).unwrap().connect().await.unwrap();
    let (says, outgoing) = mpsc::channel(4);
    let hello = NodeUp::Hello(NodeHello {
        name: name.to_owned(),
        kind: NodeKind::Wasm,
        version: "0".to_owned(),
        ipv4_address: Some(Ipv4Addr::LOCALHOST),
        ipv6_address: None,
        memory_bytes: 1 << 30,
        instances: Vec::new(),
    });
    says.send(hello.into()).await.unwrap();
    let incoming = OrchestratorClient::new(channel).serve(ReceiverStream::new(outgoing)).await?;
    let mut incoming = incoming.into_inner();
    drop(says);
    match timeout(LONG, incoming.message()).await.unwrap() {
        Ok(_) => Ok(()),
        Err(status) => Err(status),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serving_node_registers_under_the_name_in_its_certificate_alone() {
    let certificates = Certificates::new();
    let listen = |tls| Listen { address: (Ipv4Addr::LOCALHOST, 0).into(), tls, insecure: false };
    let ours = certificates.of("ours");
    let secured = Orchestrator::start(&Handle::current(), config(), &listen(Some(ours.clone()))).unwrap();
    let endpoint = format!("https://{}", secured.address());
    // The certificate is for `localhost`.
    assert!(register(&endpoint, Some(&ours), "localhost").await.is_ok());
    let refused = register(&endpoint, Some(&ours), "fn1").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("fn1"), "{refused}");
    let plain = Orchestrator::start(&Handle::current(), config(), &listen(None)).unwrap();
    assert!(register(&format!("http://{}", plain.address()), None, "fn1").await.is_ok(), "nobody can tell");
}

#[tokio::test]
async fn plaintext_beyond_this_host_must_be_asked_for() {
    let listen = |insecure| Listen { address: (Ipv4Addr::UNSPECIFIED, 0).into(), tls: None, insecure };
    let refused = Orchestrator::start(&Handle::current(), config(), &listen(false)).err().unwrap();
    assert!(matches!(refused, ServeError::Tls(TlsError::Plaintext(_))), "{refused}");
    assert!(Orchestrator::start(&Handle::current(), config(), &listen(true)).is_ok());
}

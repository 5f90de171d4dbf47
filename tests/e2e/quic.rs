//! QUIC by connection id, with a client and servers that others wrote (`quinn`): clients move to another address in the
//! middle of a connection, and their server hears them go on, through a reload that has it drain as well.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use millrace_fastpath::wire::quic_lb::{Codec, Key, Layout, ServerId};
use millrace_hw_tests::edge::{Appliance, Service, Shape, Site};
use millrace_hw_tests::lab::{Identity, LabError};
use quinn::rustls::pki_types::pem::PemObject as _;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig,
    TokioRuntime,
};
use tokio::sync::oneshot;

use crate::world::{SOON, World};

/// The name that the servers' certificate has.
const NAME: &str = "quic.test";
/// Client addresses behind the client host, to move through.
const PLACES: [&str; 3] = ["10.1.0.10", "10.2.0.11", "10.3.0.12"];
/// The key of ids, in the file's form and ours.
const KEY_FILE: &str = "8f95f09245765f80256934e50c66207f\n";
const KEY: Key = Key(0x8f95_f092_4576_5f80_2569_34e5_0c66_207f_u128.to_be_bytes());

/// A service of the two servers, one for each way to make ids.
struct Kind {
    name: &'static str,
    port: u16,
    quic: &'static str,
    source: &'static str,
    nonce_len: usize,
    key: Option<Key>,
}

static KINDS: [Kind; 3] = [
    Kind {
        name: "plain",
        port: 4431,
        quic: "{ rotation = 1, server_id_bytes = 2, nonce_bytes = 6 }",
        source: "keep",
        nonce_len: 6,
        key: None,
    },
    Kind {
        name: "four-passes",
        port: 4432,
        quic: "{ rotation = 2, server_id_bytes = 2, nonce_bytes = 7, key = \"file:quic.key\" }",
        source: "appliance",
        nonce_len: 7,
        key: Some(KEY),
    },
    Kind {
        name: "one-pass",
        port: 4433,
        quic: "{ rotation = 0, server_id_bytes = 2, nonce_bytes = 14, key = \"file:quic.key\" }",
        source: "keep",
        nonce_len: 14,
        key: Some(KEY),
    },
];

impl Kind {
    fn layout(&self) -> Layout {
        let rotation = self.quic.split_once("rotation = ").unwrap().1.as_bytes()[0] - b'0';
        Layout::new(rotation, 2, self.nonce_len, self.key).unwrap()
    }

    fn service(&self, number: u16, drained: Option<&Server>) -> Service {
        let backend = |server: &'static Server| {
            let drain = drained.is_some_and(|one| one.name == server.name);
            server.addresses.iter().enumerate().map(move |(family, address)| {
                let id = server.id(family);
                format!(
                    "{{ address = \"{address}\", server_id = \"0x{:02x}{:02x}\", drain = {drain} }}",
                    id[0], id[1]
                )
            })
        };
        let backends: Vec<String> = SERVERS.iter().flat_map(backend).collect();
        Service::of_backends(self.name, number, &format!("[{}]", backends.join(", ")))
            .set("ports", &format!("[\"udp/{}\"]", self.port))
            .set("quic", self.quic)
            .set("source", &format!("\"{}\"", self.source))
    }
}

/// A server; it says its name to everybody.
struct Server {
    name: &'static str,
    addresses: [&'static str; 2],
    number: u8,
}

static SERVERS: [Server; 2] = [
    Server { name: "one", addresses: ["198.51.100.21", "2001:db8:1::21"], number: 1 },
    Server { name: "two", addresses: ["198.51.100.22", "2001:db8:1::22"], number: 2 },
];

impl Server {
    fn id(&self, family: usize) -> [u8; 2] {
        [family as u8, self.number]
    }
}

/// Makes connection ids that name their server.
struct Ids {
    codec: Codec,
    server: ServerId,
    nonce_len: usize,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Never twice: a counter, and chance behind it.
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let chance = RandomState::new().hash_one(count).to_be_bytes();
        let nonce = [&count.to_be_bytes()[4..], &chance, &chance].concat();
        ConnectionId::new(&self.codec.make(self.server, &nonce[..self.nonce_len]).expect("of its layout"))
    }

    fn cid_len(&self) -> usize {
        3 + self.nonce_len
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A socket of the client's, at a port that it never had: what comes from a port of before is of the flow of before.
fn socket(address: &str) -> UdpSocket {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), port)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn pem(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Runs all servers in this thread's namespace until `stopped`, or until nobody could stop it any more.
fn serve(identity: &Identity, ready: &mpsc::Sender<()>, stopped: oneshot::Receiver<()>) {
    runtime().block_on(async {
        let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
        let config = ServerConfig::with_single_cert(vec![pem(&identity.certificate)], key).unwrap();
        for kind in &KINDS {
            for server in &SERVERS {
                for (family, address) in server.addresses.iter().enumerate() {
                    let (layout, nonce_len) = (kind.layout(), kind.nonce_len);
                    let id = ServerId::new(&server.id(family)).unwrap();
                    let mut endpoint = EndpointConfig::default();
                    endpoint.cid_generator(move || {
                        Box::new(Ids { codec: Codec::new(layout), server: id, nonce_len })
                    });
                    let socket =
                        UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), kind.port)).unwrap();
                    let endpoint =
                        Endpoint::new(endpoint, Some(config.clone()), socket, Arc::new(TokioRuntime))
                            .unwrap();
                    tokio::spawn(accept(endpoint, server.name));
                }
            }
        }
        ready.send(()).unwrap();
        let _ = stopped.await;
    });
}

async fn accept(endpoint: Endpoint, name: &'static str) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut to, mut from)) = connection.accept_bi().await {
                let Ok(_) = from.read_to_end(64).await else { return };
                let said = format!("{name} {}", connection.remote_address());
                if to.write_all(said.as_bytes()).await.is_err() || to.finish().is_err() {
                    return;
                }
            }
        });
    }
}

/// A client with one connection.
struct Client {
    endpoint: Endpoint,
    connection: Connection,
    source: &'static str,
}

impl Client {
    async fn connect(config: &ClientConfig, from: &str, to: SocketAddr, source: &'static str) -> Self {
        let endpoint =
            Endpoint::new(EndpointConfig::default(), None, socket(from), Arc::new(TokioRuntime)).unwrap();
        let connecting = endpoint.connect_with(config.clone(), to, NAME).unwrap();
        let connection = tokio::time::timeout(SOON, connecting).await.expect("the handshake hangs").unwrap();
        Self { endpoint, connection, source }
    }

    /// Goes on from another address, or another port.
    fn move_to(&self, address: &str) {
        self.endpoint.rebind(socket(address)).unwrap();
    }

    /// The name of the server at the other end. It has to see the client where the client is, or the appliance.
    async fn ask(&self) -> String {
        let said = tokio::time::timeout(SOON, async {
            let (mut to, mut from) = self.connection.open_bi().await.unwrap();
            to.write_all(b"who?").await.unwrap();
            to.finish().unwrap();
            from.read_to_end(64).await.unwrap()
        });
        let said = String::from_utf8(said.await.expect("the connection hangs")).unwrap();
        let (name, seen) = said.split_once(' ').unwrap();
        let (seen, local): (SocketAddr, SocketAddr) =
            (seen.parse().unwrap(), self.endpoint.local_addr().unwrap());
        match self.source {
            "keep" => assert_eq!(seen, local),
            _ => assert!(["198.51.100.1", "2001:db8:1::1"].contains(&&*seen.ip().to_string()), "{seen}"),
        }
        name.to_owned()
    }
}

fn services(drained: Option<&Server>) -> Vec<Service> {
    KINDS.iter().enumerate().map(|(at, kind)| kind.service(at as u16, drained)).collect()
}

fn by_id(appliance: &Appliance) -> u64 {
    let workers = appliance.show("workers").unwrap();
    let workers = workers["workers"].as_array().or_else(|| workers.as_array()).unwrap();
    workers.iter().map(|worker| worker["flows_by_id"].as_u64().unwrap()).sum()
}

#[test]
fn a_connection_goes_on_with_its_server_wherever_the_client_moves() {
    let edge = millrace_hw_tests::edge::Edge::new(Shape::TwoPort).unwrap();
    edge.lab().write("quic.key", KEY_FILE).unwrap();
    for address in [format!("{}/24", SERVERS[1].addresses[0]), format!("{}/64", SERVERS[1].addresses[1])] {
        edge.function.address("eth0", &address).unwrap();
    }
    let identity = edge.certificates.identity(NAME, None).unwrap();
    let world = World::in_edge(edge, Site::new(Vec::new(), services(None)));
    let mut roots = quinn::rustls::RootCertStore::empty();
    roots.add(pem(&world.edge.certificates.authority)).unwrap();
    let config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();

    std::thread::scope(|scope| {
        // Dropped with this closure, should it panic: then the servers end, too.
        let (stop, stopped) = oneshot::channel();
        let (ready, serving) = mpsc::channel();
        let (function, identity) = (&world.edge.function, &identity);
        let servers = scope.spawn(move || -> Result<(), LabError> {
            function.enter(move || serve(identity, &ready, stopped))
        });
        serving.recv_timeout(SOON).expect("the servers don't begin");
        world.edge.client.enter(|| runtime().block_on(drive(&world, &config))).unwrap();
        drop(stop);
        servers.join().unwrap().unwrap();
    });
    world.conclude();
}

async fn drive(world: &World, config: &ClientConfig) {
    let mut moves = 0;
    let mut clients: Vec<(Client, String)> = Vec::new();
    for (at, kind) in KINDS.iter().enumerate() {
        let service = kind.service(at as u16, None);
        let vip = |address: &str| SocketAddr::new(address.parse::<IpAddr>().unwrap(), kind.port);
        for n in 0..12 {
            let (from, to) = match n % 4 {
                3 => ("2001:db8::2", vip(&service.v6)),
                _ => (PLACES[n % 3], vip(&service.v4)),
            };
            let client = Client::connect(config, from, to, kind.source).await;
            let server = client.ask().await;
            clients.push((client, server));
        }
    }
    assert_eq!(by_id(&world.appliance), 0, "an id that a client thinks of leads nowhere");
    for server in &SERVERS {
        assert!(clients.iter().any(|(_, name)| name == server.name), "{} has nobody", server.name);
    }
    let wander = async |turn: usize| {
        for (n, (client, server)) in clients.iter().enumerate() {
            let v6 = client.endpoint.local_addr().unwrap().is_ipv6();
            client.move_to(if v6 { "2001:db8::2" } else { PLACES[(n + turn) % 3] });
            assert_eq!(client.ask().await, *server, "after move {turn}");
        }
    };
    for turn in 0..3 {
        wander(turn).await;
        moves += clients.len() as u64;
    }
    assert_eq!(by_id(&world.appliance), moves);

    // One of the two drains: its clients stay, wherever they go, and others go to the other.
    let site =
        Site { driver: world.appliance.driver(), ..Site::new(Vec::new(), services(Some(&SERVERS[0]))) };
    Appliance::configure(&world.edge, &site, "edge.toml").unwrap();
    let told = world.appliance.ask("reload").unwrap();
    assert!(told.contains("is applied"), "{told}");
    wander(3).await;
    for (at, kind) in KINDS.iter().enumerate() {
        let to = SocketAddr::new(kind.service(at as u16, None).v4.parse().unwrap(), kind.port);
        for n in 0..6 {
            let client = Client::connect(config, PLACES[n % 3], to, kind.source).await;
            assert_eq!(client.ask().await, SERVERS[1].name, "the other one drains");
        }
    }
}

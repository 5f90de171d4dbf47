//! Many clients at once: each with an address of its own, each asks for the name and fetches the page, all in the
//! same moment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::edge::{CLIENT_PREFIXES, CLIENTS_PER_PREFIX};
use crate::lab::{Host, LabError, unreadable};

/// Longest that a client waits for each of the two answers. No client asks twice: a lost query is a failed client.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Largest answer that is read, in bytes.
const BODY_MAX: u64 = 64 * 1024;

/// What one client saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its address.
    pub client: IpAddr,
    /// Milliseconds from the common start to the name's address.
    pub name_ms: f64,
    /// ... to the established connection.
    pub connect_ms: f64,
    /// ... to the last byte.
    pub total_ms: f64,
    /// Why it failed.
    pub error: Option<String>,
}

/// Runs all clients on `host` against `name` (with its final dot), which the server at `server` answers for, and returns
/// what each saw.
///
/// # Errors
/// [`LabError`] where the clients cannot be started at all.
pub fn run(host: &Host, server: &str, name: &str) -> Result<Vec<Outcome>, LabError> {
    let server = server.parse().map_err(|error| unreadable(server, error))?;
    let outcomes = host.enter(|| -> std::io::Result<Vec<Outcome>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(all(SocketAddr::new(server, 53), name)))
    })?;
    outcomes.map_err(|error| unreadable("clients", error))
}

/// The addresses of the clients: 25 in each of eight /24 networks.
pub fn clients() -> impl Iterator<Item = IpAddr> {
    let addresses = 10..10 + CLIENTS_PER_PREFIX;
    addresses.flat_map(|last| (1..=CLIENT_PREFIXES).map(move |net| Ipv4Addr::new(10, net, 0, last).into()))
}

async fn all(server: SocketAddr, name: &str) -> Vec<Outcome> {
    let clients: Vec<_> = clients().collect();
    let start = Arc::new(Barrier::new(clients.len()));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let (start, name) = (Arc::clone(&start), name.to_owned());
            (client, tokio::spawn(async move { one(client, server, &name, &start).await }))
        })
        .collect();
    let mut outcomes = Vec::new();
    for (client, task) in tasks {
        outcomes.push(task.await.unwrap_or_else(|error| Outcome::failed(client, error)));
    }
    outcomes
}

async fn one(client: IpAddr, server: SocketAddr, name: &str, start: &Barrier) -> Outcome {
    let mut outcome = Outcome { client, name_ms: 0.0, connect_ms: 0.0, total_ms: 0.0, error: None };
    // The sockets are made before the start, so that the first packets leave together.
    let socket = UdpSocket::bind((client, 0)).await;
    start.wait().await;
    let begin = Instant::now();
    if let Err(error) = fetch(client, server, name, socket, begin, &mut outcome).await {
        outcome.error = Some(error);
    }
    outcome
}

async fn fetch(
    client: IpAddr,
    server: SocketAddr,
    name: &str,
    socket: std::io::Result<UdpSocket>,
    begin: Instant,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let socket = socket.map_err(|error| format!("bind: {error}"))?;
    let address = timeout(ANSWER_MAX, resolve(&socket, server, name))
        .await
        .map_err(|_| "no answer to the query".to_owned())??;
    outcome.name_ms = ms(begin);
    let body = timeout(ANSWER_MAX, get(client, SocketAddr::new(address, 80), name, begin, outcome))
        .await
        .map_err(|_| "no answer to the request".to_owned())??;
    outcome.total_ms = ms(begin);
    if body.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(String::from_utf8_lossy(&body).into_owned()) }
}

async fn resolve(socket: &UdpSocket, server: SocketAddr, name: &str) -> Result<IpAddr, String> {
    let name = Name::from_ascii(name).map_err(|error| error.to_string())?;
    // The source port makes a good enough id: it differs from client to client.
    let id = socket.local_addr().map_err(|error| error.to_string())?.port();
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name, RecordType::A));
    let bytes = query.to_vec().map_err(|error| error.to_string())?;
    socket.send_to(&bytes, server).await.map_err(|error| format!("query: {error}"))?;
    let mut buffer = [0; 1500];
    loop {
        let (length, from) =
            socket.recv_from(&mut buffer).await.map_err(|error| format!("query: {error}"))?;
        let answer = Message::from_vec(&buffer[..length]).map_err(|error| format!("answer: {error}"))?;
        if from != server || answer.metadata.id != id {
            continue;
        }
        let address = answer.answers.iter().find_map(|record| match record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        });
        return address.ok_or_else(|| format!("no address in the answer: {}", answer.metadata.response_code));
    }
}

async fn get(
    client: IpAddr,
    server: SocketAddr,
    name: &str,
    begin: Instant,
    outcome: &mut Outcome,
) -> Result<Vec<u8>, String> {
    let say = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let socket = TcpSocket::new_v4().map_err(say("socket"))?;
    socket.bind(SocketAddr::new(client, 0)).map_err(say("bind"))?;
    let mut stream = socket.connect(server).await.map_err(say("connect"))?;
    outcome.connect_ms = ms(begin);
    let host = name.trim_end_matches('.');
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(say("write"))?;
    let mut body = Vec::new();
    stream.take(BODY_MAX).read_to_end(&mut body).await.map_err(say("read"))?;
    Ok(body)
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1000.0
}

impl Outcome {
    fn failed(client: IpAddr, error: impl std::fmt::Display) -> Self {
        Outcome { client, name_ms: 0.0, connect_ms: 0.0, total_ms: 0.0, error: Some(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_from_eight_networks_in_turn() {
        let clients: Vec<_> = clients().collect();
        assert_eq!(clients.len(), 200);
        let networks: std::collections::BTreeSet<_> = clients[..8]
            .iter()
            .map(|client| client.to_string().split('.').nth(1).map(str::to_owned))
            .collect();
        assert_eq!(networks.len(), 8, "the first eight clients are of eight networks");
    }
}

//! A node's receiver: what arrives, between the socket's thread and the folder.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use millrace_hub::norm::NodeId;
use millrace_hub::session::{Heard, ReceiverConfig};
use millrace_hub_store::Trust;

use crate::arrivals::Arrivals;
use crate::error::NodeError;
use crate::intake::Intake;
use crate::news::News;
use crate::pieces::Pieces;
use crate::socket::{Interface, listening};
use crate::stop::Stop;

/// What a receiver is told.
#[derive(Debug)]
pub struct Settings {
    /// The group and the port that the hub sends to,
    pub group: SocketAddr,
    /// and where the group is joined.
    pub interface: Interface,
    /// The hub's address. Packets from elsewhere are forged.
    pub hub: IpAddr,
    /// The hub's name in NORM,
    pub sender: NodeId,
    /// and ours.
    pub node: NodeId,
    /// Where contents go.
    pub folder: PathBuf,
    /// Whose manifests are believed.
    pub trust: Trust,
    /// After so many contents it ends, once the hub knows that they are here; without, it doesn't.
    pub count: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Contents received,
    pub received: u64,
    /// and refused.
    pub refused: u64,
    /// What the session counted.
    pub heard: Heard,
    /// Datagrams lost here, because we were too slow.
    pub overrun: u64,
}

/// Receives until it is told to stop, or has received as many contents as it is to.
///
/// # Errors
/// The socket or the folder can't be had. What happens later is news.
pub fn receive(settings: Settings, stop: &Stop, mut news: impl FnMut(News)) -> Result<Summary, NodeError> {
    if settings.group.is_ipv4() != settings.hub.is_ipv4() {
        return Err(NodeError::Family);
    }
    let pieces = Pieces::open(&settings.folder, settings.sender)?;
    let socket = Arc::new(listening(settings.group, settings.interface)?);
    // The thread ends with us, whoever stops us.
    let ours = Stop::new().map_err(NodeError::Socket)?;
    let intake = Intake::start(Arc::clone(&socket), [stop.clone(), ours.clone()])?;
    news(News::Listening);
    let config = ReceiverConfig::new(settings.node, settings.sender, settings.hub);
    let begun = Instant::now();
    let mut arrivals = Arrivals::open(pieces, config, settings.trust, begun.elapsed());
    run(&mut arrivals, &intake, &socket, begun, settings.count, &mut news);
    arrivals.tick(begun.elapsed());
    let (received, refused) = arrivals.counts();
    let summary = Summary { received, refused, heard: *arrivals.heard(), overrun: intake.overrun() };
    ours.stop();
    intake.join();
    Ok(summary)
}

/// Feeds the session from the socket's queue, until that ends or enough was received.
fn run(
    arrivals: &mut Arrivals<Pieces>,
    intake: &Intake,
    socket: &UdpSocket,
    begun: Instant,
    count: Option<u64>,
    news: &mut impl FnMut(News),
) {
    let mut tick = Duration::ZERO;
    loop {
        let now = begun.elapsed();
        answer(arrivals, socket, now);
        if now >= tick {
            tick = now + TICK;
            arrivals.tick(now);
        }
        while let Some(one) = arrivals.poll_news() {
            news(one);
        }
        let enough = count.is_some_and(|count| arrivals.counts().0 >= count);
        if enough && arrivals.is_settled(now, LINGER) {
            return;
        }
        let wake = arrivals.poll_timeout().map_or(tick, |due| due.min(tick));
        match intake.datagrams.recv_timeout(wake.saturating_sub(now)) {
            Ok((from, datagram)) => {
                arrivals.handle(begun.elapsed(), from, &datagram);
                for (from, datagram) in intake.datagrams.try_iter().take(BATCH) {
                    arrivals.handle(begun.elapsed(), from, &datagram);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Sends what the session has to say.
fn answer(arrivals: &mut Arrivals<Pieces>, socket: &UdpSocket, now: Duration) {
    while let Some((hub, message)) = arrivals.poll_transmit(now) {
        // It counts as lost on the way: the session says it again.
        if let Err(error) = socket.send_to(&message, hub) {
            tracing::debug!(%error, "an answer couldn't be sent");
        }
    }
}

/// Between checkpoints, and between news of progress: what a crash costs.
const TICK: Duration = Duration::from_secs(1);
/// Datagrams between two answers.
const BATCH: usize = 64;
/// The hub asks again for an acknowledgement that was lost, within a quarter of a second at first.
const LINGER: Duration = Duration::from_secs(2);

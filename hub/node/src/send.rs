//! A sender without workers: files to a group over the kernel's sockets, repairs to each node alone.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_bier::id::{BfrId, Bsl};
use millrace_hub::nodes::{NoPlace, Node, NodeIndex, Roster};
use millrace_hub::norm::{NodeId, ObjectId};
use millrace_hub::session::{
    Config, Content, Copies, Counters, Event, LegCounters, Offer, Rate, Sender, To, Transmit, Unread,
};
use millrace_hub_store::{Description, Label, Manifest, SigningKey};

use crate::error::NodeError;
use crate::part::root_of;
use crate::socket::{Interface, sending, wait};
use crate::stop::Stop;

/// What a sender is told.
#[derive(Debug)]
pub struct Sending {
    /// The group and the port that the nodes listen to,
    pub group: SocketAddr,
    /// through which interface,
    pub interface: Interface,
    /// from which address,
    pub address: IpAddr,
    /// and through how many routers.
    pub hops: u8,
    /// Its name in NORM.
    pub sender: NodeId,
    /// The nodes, by name and address.
    pub nodes: Vec<(NodeId, IpAddr)>,
    /// Bits per second, all headers included.
    pub bits_per_second: u64,
    /// Signs the manifests.
    pub key: Option<SigningKey>,
    /// Their version.
    pub version: u64,
    /// What is sent.
    pub files: Vec<PathBuf>,
}

/// What became of a file at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The file.
    pub file: PathBuf,
    /// The node.
    pub node: NodeId,
    /// Whether it has said that it has all of it.
    pub complete: bool,
}

/// What was sent to a node, in NORM messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// The node.
    pub node: NodeId,
    /// What it was sent: what all got, and what it alone did.
    pub sent: LegCounters,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Each file at each node.
    pub outcomes: Vec<Outcome>,
    /// Each node's leg.
    pub legs: Vec<Leg>,
    /// What the session counted.
    pub counters: Counters,
    /// Packets that the system didn't take.
    pub unsent: u64,
    /// How long it took, without hashing the files first.
    pub took: Duration,
}

/// What a sender tells while it works.
#[derive(Debug)]
pub enum Told<'a> {
    /// Something happened.
    Event(&'a Event),
    /// A second went by: how the session stands.
    Progress(&'a Sender),
}

/// Sends files until every node has all or is given up, or it is told to stop.
///
/// # Errors
/// A file, a node or the socket can't be had.
pub fn send(settings: &Sending, stop: &Stop, mut tell: impl FnMut(Told<'_>)) -> Result<Sent, NodeError> {
    let Sending { address, group, interface, hops, .. } = *settings;
    let socket = sending(address, group, interface, hops)?;
    let roster = roster(settings)?;
    let rate = |bits_per_second| Rate { bits_per_second, overhead: overhead(group) };
    let instance = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u16;
    let mut config = Config::lan(settings.sender, instance);
    config.copies = Copies::Nodes;
    config.rate = rate(settings.bits_per_second);
    config.straggler.rate = rate(settings.bits_per_second.div_ceil(10));
    let mut files = Files(Vec::new());
    let mut sender = Sender::new(config, roster, Duration::ZERO);
    for path in &settings.files {
        let (file, offer) = offer(path, settings)?;
        sender.announce(Duration::ZERO, offer).map_err(|refused| NodeError::Offer(path.clone(), refused))?;
        files.0.push(file);
    }

    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut unsent = 0;
    let mut left = files.0.len();
    let begun = Instant::now();
    let (mut datagram, mut heard) = (Vec::new(), vec![0; 1 << 16]);
    let (mut ending, mut tick) = (false, TICK);
    loop {
        while let Some(packet) = sender.poll_transmit(begun.elapsed()) {
            datagram.clear();
            if packet.write(&mut files, &mut datagram).is_err() {
                // Nodes ask for it again, until they are given up.
                unsent += 1;
                continue;
            }
            for to in targets(&packet, group, &sender) {
                unsent += u64::from(!deliver(&socket, &datagram, to));
            }
        }
        while let Some(event) = sender.poll_event() {
            let mut note = |object: ObjectId, node: NodeIndex, complete| {
                let file = settings.files[usize::from(object.0)].clone();
                outcomes.push(Outcome { file, node: sender.roster().node(node).id, complete });
            };
            match &event {
                Event::Complete { object, node } => note(*object, *node, true),
                Event::Failed { object, node, .. } => note(*object, *node, false),
                Event::Finished { .. } => left -= 1,
                Event::Apart(_) | Event::Together(_) | Event::Returned { .. } => {}
            }
            tell(Told::Event(&event));
        }
        if ending {
            break;
        }
        if left == 0 {
            // Said, and then sent by the next round.
            sender.end();
            ending = true;
            continue;
        }
        let now = begun.elapsed();
        if now >= tick {
            tick += TICK;
            tell(Told::Progress(&sender));
        }
        let wake = sender.poll_timeout().map_or(tick, |due| due.min(tick));
        if wait(&socket, std::slice::from_ref(stop), Some(wake.saturating_sub(now)))
            .map_err(NodeError::Socket)?
        {
            break;
        }
        while let Ok((len, from)) = socket.recv_from(&mut heard) {
            sender.handle(begun.elapsed(), from.ip(), &heard[..len]);
        }
    }
    let legs = sender
        .roster()
        .indices()
        .map(|node| Leg { node: sender.roster().node(node).id, sent: sender.leg(node) });
    let legs = legs.collect();
    Ok(Sent { outcomes, legs, counters: *sender.counters(), unsent, took: begun.elapsed() })
}

fn roster(settings: &Sending) -> Result<Roster, NodeError> {
    // Bits are for BIER; here they are places.
    let mut roster = Roster::new(Bsl::B4096);
    for (at, (id, address)) in settings.nodes.iter().enumerate() {
        let bfr = u16::try_from(at + 1).ok().and_then(BfrId::new).ok_or(NoPlace::Full)?;
        if address.is_ipv4() != settings.group.is_ipv4() {
            return Err(NodeError::Family);
        }
        roster.add(Node { id: *id, bfr, address: *address })?;
    }
    Ok(roster)
}

/// Ethernet, IP and UDP around each message.
fn overhead(group: SocketAddr) -> u16 {
    if group.is_ipv4() { 42 } else { 62 }
}

/// Opens and describes a file.
fn offer(path: &Path, settings: &Sending) -> Result<(File, Offer), NodeError> {
    let name = path.file_name().and_then(|name| Label::name(name.to_str()?));
    let name = name.ok_or_else(|| NodeError::Name(path.to_owned()))?;
    let opened = File::open(path).and_then(|file| Ok((root_of(&file)?, file)));
    let ((root, size), file) = opened.map_err(|error| NodeError::File(path.to_owned(), error))?;
    let (group, version) = (Label::default(), settings.version);
    let what = Description { name, group, version, size, root };
    let manifest = Manifest::sign(what, settings.key.as_ref());
    Ok((file, Offer::file(size, manifest.as_bytes().to_vec())))
}

/// Where a packet goes: to the group, or to each of some nodes.
fn targets(packet: &Transmit, group: SocketAddr, sender: &Sender) -> Vec<SocketAddr> {
    match &packet.to {
        To::Everyone => vec![group],
        To::These(nodes) => {
            let address = |node| SocketAddr::new(sender.roster().node(node).address, group.port());
            nodes.iter().map(address).collect()
        }
    }
}

/// Whether the system took it. What it didn't is lost like any other packet: links go down and come back.
fn deliver(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> bool {
    match socket.send_to(datagram, to) {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, %to, "a packet couldn't be sent");
            false
        }
    }
}

/// The files, by the numbers of their objects.
struct Files(Vec<File>);

impl Content for Files {
    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        let file = self.0.get(usize::from(object.0)).ok_or(Unread)?;
        file.read_exact_at(out, offset).map_err(|_| Unread)
    }
}

/// Between two reports of progress.
const TICK: Duration = Duration::from_secs(1);

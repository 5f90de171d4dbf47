//! Sends files to NORM receivers by UDP multicast, with some packets dropped on purpose: what the tests against NRL's
//! receiver drive, and how a session is driven by a socket.
//!
//! ```text
//! norm_send [--late] GROUP PORT ADDRESS RATE DROP NODE@ADDRESS,NODE@ADDRESS... FILE...
//! ```
//!
//! Each `DROP`th data packet isn't sent, first copies and repairs alike; 0 drops none. Ends when every node has all files
//! or is given up, and prints what was sent and heard. With `--late` nodes that say nothing are given up soon, and waited for:
//! it ends when all have all.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use millrace_bier::id::{BfrId, Bsl};
use millrace_hub::nodes::{Node, Roster};
use millrace_hub::norm::{NodeId, ObjectId};
use millrace_hub::session::{Config, Content, Event, Ignored, Kind, Offer, Rate, Sender, Unread};

/// Feedback is looked for this often.
const POLL_MAX: Duration = Duration::from_millis(1);

struct Files(Vec<std::fs::File>);

impl Content for Files {
    fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        let file = self.0.get(usize::from(object.0)).ok_or(Unread)?;
        file.read_exact_at(out, offset).map_err(|_| Unread)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let late = arguments.first().is_some_and(|first| first == "--late");
    arguments.drain(..usize::from(late));
    let [group, port, address, rate, drop, nodes, files @ ..] = &arguments[..] else {
        return Err("norm_send [--late] GROUP PORT ADDRESS RATE DROP NODE@ADDRESS,... FILE...".into());
    };
    let (group, port): (IpAddr, u16) = (group.parse()?, port.parse()?);
    let (address, drop): (Ipv4Addr, u64) = (address.parse()?, drop.parse()?);

    let mut roster = Roster::new(Bsl::B256);
    for (at, node) in nodes.split(',').enumerate() {
        let (id, address) = node.split_once('@').ok_or("NODE@ADDRESS")?;
        let bfr = BfrId::new(at as u16 + 1).ok_or("too many nodes")?;
        roster.add(Node { id: NodeId(id.parse()?), bfr, address: address.parse()? })?;
    }
    let rate = Rate { bits_per_second: rate.parse()?, overhead: 42 };
    let mut config = Config { rate, ..Config::lan(NodeId(1), 1) };
    if late {
        (config.patience, config.probe_missed) = (Duration::from_secs(1), Duration::from_secs(1));
    }
    // Feedback comes back to where the data came from.
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    let mut sender = Sender::new(config, roster, Duration::ZERO);
    let mut content = Files(Vec::new());
    for path in files {
        let file = std::fs::File::open(path)?;
        let name = std::path::Path::new(path).file_name().ok_or("no name")?;
        let offer = Offer::file(file.metadata()?.len(), name.as_encoded_bytes().to_vec());
        let late_until = if late { Duration::MAX } else { Duration::ZERO };
        sender.announce(Duration::ZERO, Offer { late_until, ..offer })?;
        content.0.push(file);
    }

    let start = Instant::now();
    let (mut left, mut data, mut dropped) = (files.len() * sender.roster().len(), 0u64, 0u64);
    let (mut datagram, mut heard) = (Vec::new(), vec![0; 1 << 16]);
    while left > 0 {
        while let Some(packet) = sender.poll_transmit(start.elapsed()) {
            if packet.kind != Kind::Control {
                data += 1;
                if drop > 0 && data.is_multiple_of(drop) {
                    dropped += 1;
                    continue;
                }
            }
            datagram.clear();
            packet.write(&mut content, &mut datagram)?;
            socket.send_to(&datagram, SocketAddr::new(group, port))?;
        }
        while let Some(event) = sender.poll_event() {
            match event {
                Event::Complete { .. } => left -= 1,
                Event::Failed { .. } if !late => left -= 1,
                Event::Returned { node, .. } if late => {
                    let node = *sender.roster().node(node);
                    sender.join(start.elapsed(), node, |_| true)?;
                }
                _ => {}
            }
            println!("{event:?}");
        }
        match socket.recv_from(&mut heard) {
            Ok((len, from)) => sender.handle(start.elapsed(), from.ip(), &heard[..len]),
            // A socket's own timeout is too coarse to pace by.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let wait = sender.poll_timeout().map_or(POLL_MAX, |at| at.saturating_sub(start.elapsed()));
                std::thread::sleep(wait.min(POLL_MAX));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let counters = sender.counters();
    println!("dropped {dropped} of {data}, round trip {:?}, {:?}", sender.grtt(), counters.trunk);
    println!("heard {} NACKs, {} ACKs, {} bytes", counters.nacks, counters.acks, counters.feedback_bytes);
    for reason in Ignored::all().filter(|reason| counters.ignored(*reason) > 0) {
        println!("ignored {}: {reason:?}", counters.ignored(reason));
    }
    Ok(())
}

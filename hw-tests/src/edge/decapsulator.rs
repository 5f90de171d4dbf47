//! The far end of a tunnel, at a host whose kernel has none: takes packets out of IP in IP and out of GUE and gives them to
//! the host's own stack, which takes them for its own where the address inside is one of its own.
//!
//! ```text
//!   kernel ─► raw socket, 4 or 41 ──────────────┐  outer headers, and UDP's checksum, are the kernel's to judge
//!   kernel ─► UDP port 6080 ─► GUE, variant 0 ──┴─► inner header judged here ─► raw socket ─► lo ─► kernel
//! ```
//!
//! It shares no code with what encapsulates. What it can't take is counted and goes no further.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketType, socket};

use crate::lab::{Host, LabError, unreadable};

/// The port that GUE is received on (IANA).
const GUE_PORT: u16 = 6080;
/// Numbers of protocols: IPv4 inside, IPv6 inside, and "the header is in what I give you".
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const RAW: u8 = 255;
/// Headers without options.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const GUE_HEADER: usize = 4;
/// How long a receiver waits before it looks whether it should end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What was taken out of tunnels so far.
#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
    end: AtomicBool,
}

/// A running far end. It ends when it is dropped.
#[derive(Debug)]
pub struct Decapsulator {
    counts: Arc<Counts>,
    receivers: Vec<JoinHandle<()>>,
}

/// What a socket receives.
#[derive(Debug, Clone, Copy)]
enum Outer {
    /// A packet with its IPv4 header, around a packet of this protocol.
    V4(u8),
    /// What is behind an IPv6 header: a packet of this protocol.
    V6(u8),
    /// A GUE header and what is behind it.
    Gue,
}

impl Decapsulator {
    /// Listens at all addresses of a host for IP in IP, and at `addresses` for GUE.
    ///
    /// # Errors
    /// [`LabError`] where the host refuses a socket.
    pub fn start(host: &Host, addresses: [&str; 2]) -> Result<Self, LabError> {
        let opened = host.enter(|| open(addresses))?;
        let (sockets, out) = opened.map_err(|error| unreadable("sockets of a tunnel's end", error))?;
        let counts = Arc::new(Counts::default());
        let out = Arc::new(out);
        let receivers = sockets
            .into_iter()
            .map(|(outer, socket)| {
                let (counts, out) = (Arc::clone(&counts), Arc::clone(&out));
                std::thread::spawn(move || receive(outer, &socket, &out, &counts))
            })
            .collect();
        Ok(Decapsulator { counts, receivers })
    }

    /// Packets taken out and given to the host.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.counts.taken.load(Ordering::Relaxed)
    }

    /// Packets that weren't what they should be.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.counts.end.store(true, Ordering::Relaxed);
        for receiver in self.receivers.drain(..) {
            // One that panicked has counted nothing since; the test that needed it has failed.
            let _ = receiver.join();
        }
    }
}

type Sockets = (Vec<(Outer, UdpSocket)>, [UdpSocket; 2]);

fn open(addresses: [&str; 2]) -> io::Result<Sockets> {
    let raw = |family, protocol: u8| -> io::Result<UdpSocket> {
        let protocol = RawProtocol::new(u32::from(protocol)).map(Protocol::from_raw);
        // Receiving and sending is the same for raw sockets and those of UDP.
        Ok(UdpSocket::from(socket(family, SocketType::RAW, protocol)?))
    };
    let mut sockets = Vec::new();
    for inner in [IPV4, IPV6] {
        sockets.push((Outer::V4(inner), raw(AddressFamily::INET, inner)?));
        sockets.push((Outer::V6(inner), raw(AddressFamily::INET6, inner)?));
    }
    for address in addresses {
        let address: IpAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        sockets.push((Outer::Gue, UdpSocket::bind((address, GUE_PORT))?));
    }
    for (_, socket) in &sockets {
        socket.set_read_timeout(Some(LOOK_INTERVAL))?;
    }
    Ok((sockets, [raw(AddressFamily::INET, RAW)?, raw(AddressFamily::INET6, RAW)?]))
}

fn receive(outer: Outer, socket: &UdpSocket, out: &[UdpSocket; 2], counts: &Counts) {
    let mut bytes = [0; 1 << 16];
    while !counts.end.load(Ordering::Relaxed) {
        let Ok(len) = socket.recv(&mut bytes) else { continue };
        let packet = inner_of(outer, &bytes[..len]);
        let given = packet.is_some_and(|packet| match destination_of(packet) {
            Some(to) => out[usize::from(to.is_ipv6())].send_to(packet, SocketAddr::new(to, 0)).is_ok(),
            None => false,
        });
        if given { &counts.taken } else { &counts.refused }.fetch_add(1, Ordering::Relaxed);
    }
}

/// The packet inside, if the headers around it announce it as what it is.
fn inner_of(outer: Outer, bytes: &[u8]) -> Option<&[u8]> {
    let (protocol, packet) = match outer {
        Outer::V4(protocol) => (protocol, bytes.get(usize::from(bytes.first()? & 0x0f) * 4..)?),
        Outer::V6(protocol) => (protocol, bytes),
        // Version 0, no control message, no words of options, no flags (draft-ietf-intarea-gue section 3.1).
        Outer::Gue => match *bytes.get(..GUE_HEADER)? {
            [0, protocol, 0, 0] => (protocol, &bytes[GUE_HEADER..]),
            _ => return None,
        },
    };
    let version = packet.first()? >> 4;
    matches!((protocol, version), (IPV4, 4) | (IPV6, 6)).then_some(packet)
}

/// Where a packet goes, if its length and, of IPv4, its header's checksum are right: the kernel makes them anew for a
/// packet that a raw socket gives it.
fn destination_of(packet: &[u8]) -> Option<IpAddr> {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    if packet.first()? >> 4 == 4 {
        let header = packet.get(..IPV4_HEADER)?;
        let sum: u32 = (0..IPV4_HEADER).step_by(2).map(|at| u32::from(word(at))).sum();
        let whole = header[0] == 0x45 && usize::from(word(2)) == packet.len();
        let right = (sum & 0xffff) + (sum >> 16) == 0xffff;
        let to: [u8; 4] = header[16..].try_into().ok()?;
        (whole && right).then(|| Ipv4Addr::from(to).into())
    } else {
        let header = packet.get(..IPV6_HEADER)?;
        let to: [u8; 16] = header[24..].try_into().ok()?;
        (usize::from(word(4)) + IPV6_HEADER == packet.len()).then(|| Ipv6Addr::from(to).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 192.0.2.2 to 198.18.0.1, without payload (checksum computed by hand).
    const PACKET: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0x40, 0, 64, 6, 0xb2, 0xce, 192, 0, 2, 2, 198, 18, 0, 1];

    #[test]
    fn what_is_inside_is_found_and_goes_where_it_says() {
        let mut gue = vec![0, IPV4, 0, 0];
        gue.extend(PACKET);
        assert_eq!(inner_of(Outer::Gue, &gue), Some(&PACKET[..]));
        let nested = [&PACKET[..], &PACKET[..]].concat();
        assert_eq!(inner_of(Outer::V4(IPV4), &nested), Some(&PACKET[..]));
        assert_eq!(destination_of(&PACKET), Some(Ipv4Addr::new(198, 18, 0, 1).into()));
    }

    #[test]
    fn what_is_wrong_goes_nowhere() {
        assert_eq!(inner_of(Outer::V6(IPV6), &PACKET), None, "announced as another version");
        assert_eq!(inner_of(Outer::Gue, &[0x20, IPV4, 0, 0, 0x45]), None, "a control message");
        for at in 0..PACKET.len() {
            let mut broken = PACKET;
            broken[at] ^= 1;
            assert_eq!(destination_of(&broken), None, "byte {at}");
        }
        assert_eq!(destination_of(&PACKET[..19]), None);
    }
}

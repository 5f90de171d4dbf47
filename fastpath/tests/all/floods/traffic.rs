//! Segments made and read by the hundred thousand: IPv4 and TCP without options, by offsets. What they are is what
//! `smoltcp` makes of the same ends, and a test says so.

use std::sync::Arc;

use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::services::*;

use crate::common::random::Random;
use crate::common::*;

/// An IPv4 address and a port.
pub(crate) type At = ([u8; 4], u16);

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A client's side of the appliance, and an instance's: link-layer source and destination.
pub(crate) const CLIENT_SIDE: [[u8; 6]; 2] = [CLIENT_MAC, WAN_MAC];
pub(crate) const HOST_SIDE: [[u8; 6]; 2] = [HOST_MAC, LAN_MAC];

/// The address of services, and that of instances.
pub(crate) const VIP: [u8; 4] = [203, 0, 113, 10];
pub(crate) const HOST: [u8; 4] = [198, 51, 100, 7];

/// A segment.
pub(crate) fn tcp([from_mac, to_mac]: [[u8; 6]; 2], from: At, to: At, flags: u8, seq: u32) -> [u8; 54] {
    let mut frame = [0; 54];
    frame[..6].copy_from_slice(&to_mac);
    frame[6..12].copy_from_slice(&from_mac);
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    frame[26..30].copy_from_slice(&from.0);
    frame[30..34].copy_from_slice(&to.0);
    let sum = checksum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&sum);
    frame[34..36].copy_from_slice(&from.1.to_be_bytes());
    frame[36..38].copy_from_slice(&to.1.to_be_bytes());
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[45] = u8::from(flags & ACK != 0);
    frame[46..50].copy_from_slice(&[5 << 4, flags, 0xfa, 0xf0]);
    // The addresses, the protocol and the length stand before the segment (RFC 9293 §3.1).
    let sum = checksum(&frame[26..54], 6 + 20);
    frame[50..52].copy_from_slice(&sum);
    frame
}

fn checksum(bytes: &[u8], before: u32) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum = before + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Where a segment is from and where it goes.
pub(crate) fn ends(frame: &[u8]) -> (At, At) {
    let at = |addr: usize, port: usize| {
        let addr = [frame[addr], frame[addr + 1], frame[addr + 2], frame[addr + 3]];
        (addr, u16::from_be_bytes([frame[port], frame[port + 1]]))
    };
    (at(26, 34), at(30, 36))
}

/// Its flags.
pub(crate) fn flags(frame: &[u8]) -> u8 {
    frame[47]
}

/// Its sequence number.
pub(crate) fn sequence(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]])
}

/// An address that anybody may have, and none of those that the tests give out themselves.
pub(crate) fn anybody(random: &mut Random) -> At {
    let bits = random.next();
    (
        [11 + (bits % 100) as u8, (bits >> 8) as u8, (bits >> 16) as u8, (bits >> 24) as u8],
        (bits >> 32) as u16 | 1,
    )
}

/// The instance of a service that listens at this port of the one host.
pub(crate) fn listening(port: u16, weight: u16, state: InstanceState) -> Instance {
    Instance {
        id: u64::from(port),
        addresses: [Some(addr("198.51.100.7")), None],
        port,
        weight,
        state,
        slot: InstanceSlotId(u32::from(port)),
        down: [false; 2],
        fixed: false,
        server_id: None,
    }
}

/// Puts a service at a port of [`VIP`], without publishing it.
pub(crate) fn place(bench: &mut Bench, id: u16, port: u16, service: Service) {
    let mut services = (*bench.tables.services).clone();
    let endpoint = Endpoint { addr: addr("203.0.113.10"), port, protocol: 6 };
    services.insert(ServiceId(id), Arc::new(service), &[endpoint]);
    bench.tables.services = Arc::new(services);
}

/// Delivers to a queue that depends on `n`, as a device that spreads without regard for flows would.
pub(crate) fn scatter(bench: &Bench, n: usize, port: PortId, frame: &[u8]) {
    assert!(bench.net.deliver(port, (n % bench.workers.len()) as u16, frame), "queue and pool have room");
}

#[test]
fn segments_are_what_an_independent_writer_makes_of_them() {
    use crate::common::frames::{end, read};
    let frame = tcp(CLIENT_SIDE, ([10, 9, 8, 7], 40_000), (VIP, 80), SYN, 0xfffe_fdfc);
    let seen = read(&frame);
    assert_eq!((seen.from, seen.to), (end(("10.9.8.7", 40_000)), end(("203.0.113.10", 80))));
    assert_eq!(seen.tcp, Some((smoltcp::wire::TcpControl::Syn, 0xfffe_fdfc_u32 as i32, None)));
    assert_eq!((ends(&frame), flags(&frame)), ((([10, 9, 8, 7], 40_000), (VIP, 80)), SYN));
    assert_eq!(sequence(&frame), 0xfffe_fdfc);
    let frame = tcp(HOST_SIDE, (HOST, 8080), ([10, 9, 8, 7], 40_000), FIN | ACK, 1);
    assert_eq!(read(&frame).tcp, Some((smoltcp::wire::TcpControl::Fin, 1, Some(1))));
}

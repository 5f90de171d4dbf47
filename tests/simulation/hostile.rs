//! Frames that nobody should send.

use std::net::IpAddr;

use smoltcp::wire::{TcpControl, TcpRepr};

use crate::random::Random;
use crate::scenario::{DNS, TCP_PORT, UDP_PORT};
use crate::services::Facts;
use crate::wire::{Mac, WAN_MAC, bare, framed, query, tcp, udp};

const ATTACKER_MAC: Mac = [2, 0, 0, 3, 0, 1];

/// One frame for the appliance, from one of so many neighbourhoods.
pub(crate) fn frame(services: &[Facts], prefixes: u64, random: &mut Random) -> Vec<u8> {
    let service = &services[random.below(services.len() as u64) as usize];
    let v4 = random.percent(60) || service.v6.is_none();
    let source: IpAddr = match v4 {
        true => IpAddr::from([10, 66, random.below(prefixes) as u8, random.below(250) as u8]),
        false => IpAddr::from([
            0x2001,
            0xdb8,
            0x66,
            (random.below(prefixes) as u16) << 8,
            0,
            0,
            0,
            random.below(250) as u16,
        ]),
    };
    let vip = if v4 { service.v4 } else { service.v6.expect("checked above") };
    let (from, to) = ((source, 1024 + random.below(60_000) as u16), (vip, TCP_PORT));
    let any = |random: &mut Random| random.next() as u32;
    let mut packet = match random.below(10) {
        0..=3 => tcp(from, to, bare(TcpControl::Syn, any(random), None)),
        4 => tcp(from, to, bare(TcpControl::None, any(random), Some(any(random)))),
        5 => {
            let data = [7; 200];
            tcp(from, to, TcpRepr { payload: &data, ..bare(TcpControl::Psh, any(random), Some(any(random))) })
        }
        6 => tcp(from, to, bare(TcpControl::Rst, any(random), None)),
        7 => udp(from, (vip, UDP_PORT), &random.next().to_be_bytes()),
        8 => {
            let name = format!("{:x}.{}", random.below(1000), service.dns_name());
            let server: IpAddr = if v4 { DNS.0.parse().unwrap() } else { DNS.1.parse().unwrap() };
            udp(from, (server, 53), &query(random.next() as u16, &name, v4))
        }
        _ => {
            let server: IpAddr = if v4 { DNS.0.parse().unwrap() } else { DNS.1.parse().unwrap() };
            udp(from, (server, 53), &query(random.next() as u16, &service.dns_name(), v4))
        }
    };
    match random.below(12) {
        // Some bytes are others,
        0 => {
            for _ in 0..=random.below(3) {
                let at = random.below(packet.len() as u64 - 1) as usize + 1;
                packet[at] = random.next() as u8;
            }
        }
        // or the end is missing.
        1 => packet.truncate(1 + random.below(packet.len() as u64) as usize),
        _ => {}
    }
    framed(ATTACKER_MAC, WAN_MAC, &packet)
}

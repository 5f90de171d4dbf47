//! Any ARP and neighbour discovery at any times, while packets wait for neighbours: every packet that waits is let go once,
//! the tables stay within their bounds, what is sent can be read, and there is never something due that isn't done.
//!
//! An input is a list of steps, each a byte and what it says (see [`Run::take_step`]).

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::tables::interfaces::{Interface, InterfaceId, Interfaces};
use millrace_slowpath::neighbour::{Machine, Output, PARKED_MAX};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

const NEIGHBOURS_MAX: usize = 8;
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const STATIC: ([u8; 4], [u8; 6]) = ([192, 0, 2, 7], [2, 0, 0, 0, 0, 7]);

fuzz_target!(|input: &[u8]| {
    let mut run = Run::new();
    let mut rest = input;
    while let Some((step, after)) = rest.split_first() {
        rest = run.take_step(*step, after);
        run.check();
    }
    run.end();
});

struct Run {
    machine: Machine<u32>,
    now: Nanos,
    out: Vec<Output<u32>>,
    packets: u32,
    waiting: HashSet<u32>,
}

fn interfaces(more: bool) -> Interfaces {
    let interface = |port: u16, addresses: Vec<(Addr, u8)>| Interface {
        name: format!("port{port}"),
        port: PortId(port),
        vlan: None,
        outer: None,
        mac: MACS[usize::from(port)],
        mtu: 1500,
        addresses,
    };
    let mut second = vec![(Addr::v4([10, 0, 0, 1]), 24)];
    if more {
        second.push((Addr::v4([10, 0, 0, 9]), 24));
    }
    let first = vec![(Addr::v4([192, 0, 2, 1]), 24), (v6(1), 64)];
    Interfaces::new(vec![interface(0, first), interface(1, second)], [])
}

/// `2001:db8::LAST`
fn v6(last: u8) -> Addr {
    Addr::v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

/// On one of our links, mostly; one in thirty-two is ours.
fn peer(argument: u8) -> Addr {
    let last = argument & 31;
    match argument >> 6 {
        0 => Addr::v4([192, 0, 2, last]),
        1 => Addr::v4([10, 0, 0, last]),
        _ => v6(last),
    }
}

impl Run {
    fn new() -> Self {
        let statics = [(InterfaceId(0), Addr::v4(STATIC.0), STATIC.1)];
        let floating = [Addr::v4([203, 0, 113, 10])];
        let mut machine = Machine::new(&interfaces(false), floating, &statics, NEIGHBOURS_MAX);
        let (now, mut out) = (Nanos(1_000_000_000), Vec::new());
        machine.start(now, &mut out);
        Self { machine, now, out, packets: 0, waiting: HashSet::new() }
    }

    /// Does what a step says, with as much of `rest` as it needs, and gives back what is left.
    ///
    /// | bits 0 to 2 | |
    /// |---|---|
    /// | 0 | time passes, or jumps to what is due next |
    /// | 1 | a packet for a neighbour |
    /// | 2 | a neighbour is wanted, or no longer |
    /// | 3 | other addresses |
    /// | others | a frame: a byte of length, its bytes; checksum and kind are set right but for bit 5 |
    ///
    /// Bit 3 is the interface.
    fn take_step<'a>(&mut self, step: u8, rest: &'a [u8]) -> &'a [u8] {
        let (argument, after) = rest.split_first().map_or((0, rest), |(first, after)| (*first, after));
        let interface = InterfaceId(u16::from(step >> 3 & 1));
        let out = &mut self.out;
        match step & 7 {
            0 if argument == 0 => self.now = self.machine.next_due().unwrap_or(self.now).max(self.now),
            0 => self.now = self.now.plus(u64::from(argument) << (step >> 4) << 13),
            1 => {
                self.waiting.insert(self.packets);
                self.machine.resolve(self.now, interface, peer(argument), self.packets, out);
                self.packets += 1;
            }
            2 => self.machine.want(self.now, interface, peer(argument), step & 16 != 0, out),
            3 => {
                let statics = [(InterfaceId(0), Addr::v4(STATIC.0), STATIC.1)];
                let statics = if argument & 2 == 0 { &statics[..] } else { &[] };
                let interfaces = interfaces(argument & 1 != 0);
                let max = if argument & 4 == 0 { NEIGHBOURS_MAX } else { 2 };
                self.machine.reload(self.now, &interfaces, [], statics, max, out);
            }
            _ => {
                let (frame, after) = after.split_at(usize::from(argument).min(after.len()));
                let mut frame = frame.to_vec();
                if step & 32 == 0 {
                    set_right(&mut frame, step & 16 != 0);
                }
                self.machine.receive(self.now, interface, &frame, out);
                return after;
            }
        }
        self.machine.poll(self.now, &mut self.out);
        assert!(self.machine.next_due().is_none_or(|due| due > self.now), "what was due is done");
        after
    }

    /// What came out of a step.
    fn check(&mut self) {
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Send(interface, frame) => read(&frame, MACS[interface.index()]),
                Output::Set(interface, addr, mac) => {
                    assert!(!mac.iter().all(|byte| *byte == 0) && mac[0] & 1 == 0, "a station");
                    assert!(interface.index() < 2 && self.machine.len() > 0, "{addr}");
                }
                Output::Release(_, _, packet) | Output::Discard(packet) => {
                    assert!(self.waiting.remove(&packet), "a packet is let go once");
                }
                Output::Remove(..) | Output::Conflict(..) => {}
            }
        }
        assert_eq!(self.machine.parked(), self.waiting.len(), "what isn't let go waits");
        assert!(self.waiting.len() <= PARKED_MAX);
        assert!(self.machine.len() <= NEIGHBOURS_MAX);
    }

    /// Nobody waits for ever.
    fn end(mut self) {
        for _ in 0..64 {
            if self.waiting.is_empty() {
                return;
            }
            self.now = self.machine.next_due().expect("somebody is waited for").max(self.now);
            self.machine.poll(self.now, &mut self.out);
            self.check();
        }
        panic!("{} packets wait for ever", self.waiting.len());
    }
}

/// Makes a frame one of ARP or of neighbour discovery, with the fields that no luck finds.
fn set_right(frame: &mut Vec<u8>, ipv6: bool) {
    if !ipv6 {
        frame.resize(42, 0);
        frame[12..20].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4]);
        frame[20] = 0;
        return;
    }
    frame.resize(frame.len().max(78), 0);
    frame[12..16].copy_from_slice(&[0x86, 0xdd, 0x60, 0]);
    let len = frame.len() as u16 - 54;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame[20..22].copy_from_slice(&[58, 255]);
    frame[54] = 135 + (frame[54] & 1);
    frame[55] = 0;
    let packet = Ipv6Packet::new_unchecked(&frame[14..]);
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    Icmpv6Packet::new_unchecked(&mut frame[54..]).fill_checksum(&source, &destination);
}

/// Reads what was sent as another implementation would.
fn read(frame: &[u8], mac: [u8; 6]) {
    let frame = EthernetFrame::new_checked(frame).expect("a whole frame");
    assert_eq!(frame.src_addr(), EthernetAddress(mac));
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).expect("whole")).expect("ARP");
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).expect("whole");
            assert_eq!(packet.hop_limit(), 255);
            let icmp = Icmpv6Packet::new_checked(packet.payload()).expect("whole");
            let (source, destination) = (packet.src_addr(), packet.dst_addr());
            let repr = Icmpv6Repr::parse(&source, &destination, &icmp, &ChecksumCapabilities::default());
            assert!(matches!(repr, Ok(Icmpv6Repr::Ndisc(_))), "{repr:?}");
        }
        other => panic!("{other} is neither"),
    }
}

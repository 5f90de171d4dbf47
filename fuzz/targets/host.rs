//! Any packets for the appliance itself, and any bytes on its DNS connections, cut anywhere: nobody is answered who didn't
//! ask, what is sent can be read, every answer on a connection is a message that another implementation reads, there
//! is at most one for each query, and the stack never asks to be run again at once.
//!
//! An input is a list of steps, each a byte and what it says (see [`Run::take_step`]).

#![no_main]

use std::sync::LazyLock;

use domain::base::Message;
use domain::rdata::AllRecordData;
use libfuzzer_sys::fuzz_target;
use millrace_config::Config;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::dns::CookieKeys;
use millrace_fastpath::slots::{Phase, Slots};
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::InterfaceId;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::services::ServiceId;
use millrace_slowpath::host::{HostContext, HostStack, SmolStack};
use millrace_slowpath::{TableFiles, PortInfo, TableBuilder};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 1, 1];
const SERVER: Ipv4Address = Ipv4Address::new(192, 0, 2, 53);
const CLIENTS: usize = 4;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::parse("edge.toml", include_str!("edge.toml")).unwrap_or_else(|report| panic!("{report}"))
});
static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let port = |name: &str| PortInfo { name: name.into(), mac: OURS, mtu_bytes: 1500 };
    let ports = [port("wan"), port("lan")];
    let builder = TableBuilder::new(&CONFIG, &ports, TableFiles::default(), HashKey(1, 2));
    let mut tables = builder.expect("the configuration is sound").tables().clone();
    tables.policy.cookies = CookieKeys::new(&[[7; 16]], 1_700_000_000_000_000_000);
    tables
});
static SLOTS: LazyLock<Slots> = LazyLock::new(Slots::default);

fuzz_target!(|input: &[u8]| {
    SLOTS.get(ServiceId(0)).set_phase(Phase::Cold);
    let mut run = Run {
        stack: SmolStack::new(&CONFIG, 7),
        now: Nanos(1_000_000_000),
        heard: false,
        clients: Default::default(),
    };
    let mut rest = input;
    while let Some((step, after)) = rest.split_first() {
        rest = run.take_step(*step, after);
    }
    run.now = run.now.plus(60_000_000_000);
    run.poll();
});

/// One end of a connection, as simple as it can be: it takes what comes in order, and repeats nothing.
#[derive(Default)]
struct Client {
    open: bool,
    sent: u32,
    received: u32,
    said: Vec<u8>,
    heard: Vec<u8>,
}

struct Run {
    stack: SmolStack,
    now: Nanos,
    /// Whether anybody has sent anything.
    heard: bool,
    clients: [Client; CLIENTS],
}

impl Run {
    /// Does what a step says, with as much of `rest` as it needs, and gives back what is left. Bits 0 to 2 say what, bits
    /// 3 and 4 which client; an argument follows.
    fn take_step<'a>(&mut self, step: u8, rest: &'a [u8]) -> &'a [u8] {
        let (argument, after) = rest.split_first().map_or((0, rest), |(first, after)| (*first, after));
        let at = usize::from(step >> 3) % CLIENTS;
        match step & 7 {
            0 => self.now = self.now.plus(u64::from(argument) << (step >> 5) << 18),
            1 => {
                self.clients[at] = Client { sent: 1, ..Client::default() };
                self.segment(at, TcpControl::Syn, &[]);
            }
            2 | 3 => {
                let (bytes, after) = after.split_at(usize::from(argument).min(after.len()));
                // A length that is right, or none.
                let head = (bytes.len() as u16).to_be_bytes();
                let data = if step & 1 == 0 { [&head[..], bytes].concat() } else { bytes.to_vec() };
                self.say(at, &data);
                return after;
            }
            4 => self.segment(at, TcpControl::Fin, &[]),
            5 => self.segment(at, TcpControl::Rst, &[]),
            6 => {
                let phases = [Phase::Cold, Phase::Waking, Phase::Ready, Phase::Draining];
                SLOTS.get(ServiceId(0)).set_phase(phases[usize::from(argument) % phases.len()]);
            }
            _ => {
                let (bytes, after) = after.split_at(usize::from(argument).min(after.len()));
                let mut frame = bytes.to_vec();
                if step & 0x20 == 0 {
                    set_right(&mut frame);
                }
                self.heard = true;
                self.stack.receive(self.now, InterfaceId(0), &frame);
                self.poll();
                return after;
            }
        }
        self.poll();
        after
    }

    fn say(&mut self, at: usize, data: &[u8]) {
        let client = &mut self.clients[at];
        if client.open {
            client.said.extend_from_slice(data);
            self.segment(at, TcpControl::Psh, data);
            self.clients[at].sent += data.len() as u32;
        }
        self.poll();
    }

    fn segment(&mut self, at: usize, control: TcpControl, payload: &[u8]) {
        let client = &self.clients[at];
        let syn = control == TcpControl::Syn;
        let repr = TcpRepr {
            src_port: 40_000 + at as u16,
            dst_port: 53,
            control,
            seq_number: TcpSeqNumber(client.sent as i32 - i32::from(syn)),
            ack_number: (!syn).then_some(TcpSeqNumber(client.received as i32)),
            window_len: 60_000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: Ipv4Address::new(198, 51, 100, at as u8),
            dst_addr: SERVER,
            next_header: IpProtocol::Tcp,
            payload_len: repr.buffer_len(),
            hop_limit: 64,
        };
        let checksums = ChecksumCapabilities::default();
        let mut frame = [&OURS[..], &PEER, &[8, 0]].concat();
        frame.resize(34 + repr.buffer_len(), 0);
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &checksums);
        let (source, destination) = (ip.src_addr.into(), ip.dst_addr.into());
        repr.emit(&mut TcpPacket::new_unchecked(&mut frame[34..]), &source, &destination, &checksums);
        self.heard = true;
        self.stack.receive(self.now, InterfaceId(0), &frame);
    }

    /// Runs the stack for as long as something is due now.
    fn poll(&mut self) {
        while self.stack.next_due().is_some_and(|due| due <= self.now) {
            let (mut frames, mut events) = (Vec::new(), Vec::new());
            let (frames_out, events_out) = (&mut frames, &mut events);
            let mut context =
                HostContext { tables: &TABLES, slots: &SLOTS, frames: frames_out, events: events_out };
            self.stack.poll(self.now, &mut context);
            assert!(
                self.stack.next_due().is_none_or(|due| due > self.now),
                "it doesn't ask for more at once"
            );
            assert!(frames.is_empty() || self.heard, "nobody is spoken to who hasn't spoken");
            for (interface, frame) in frames {
                assert_eq!(interface, InterfaceId(0));
                self.receive(&frame);
            }
        }
    }

    /// Takes what the stack sent; an acknowledgement may make it go on.
    fn receive(&mut self, bytes: &[u8]) {
        let frame = EthernetFrame::new_checked(bytes).expect("a whole frame");
        assert_eq!(frame.src_addr(), EthernetAddress(OURS));
        if frame.ethertype() == EthernetProtocol::Ipv6 {
            Ipv6Packet::new_checked(frame.payload()).expect("whole");
            return;
        }
        let packet = Ipv4Packet::new_checked(frame.payload()).expect("whole");
        assert!(packet.verify_checksum());
        if packet.next_header() != IpProtocol::Tcp {
            return;
        }
        let tcp = TcpPacket::new_checked(packet.payload()).expect("whole");
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        assert!(tcp.verify_checksum(&source, &destination));
        let at = usize::from(tcp.dst_port().wrapping_sub(40_000));
        let Some(client) =
            self.clients.get_mut(at).filter(|_| packet.dst_addr().octets()[..3] == [198, 51, 100])
        else {
            return;
        };
        let sequence = tcp.seq_number().0 as u32;
        if tcp.rst() {
            client.open = false;
        } else if tcp.syn() {
            (client.open, client.received) = (true, sequence.wrapping_add(1));
        } else if client.open && sequence == client.received {
            client.received = sequence.wrapping_add(tcp.payload().len() as u32);
            client.heard.extend_from_slice(tcp.payload());
        } else {
            return;
        }
        if tcp.rst() || (tcp.payload().is_empty() && !tcp.syn()) {
            return;
        }
        client.check();
        self.segment(at, TcpControl::None, &[]);
    }
}

impl Client {
    /// Every whole answer is a message, of which there are no more than queries.
    fn check(&self) {
        let mut answers = 0;
        let mut rest = &self.heard[..];
        while let Some((head, after)) = rest.split_first_chunk::<2>() {
            let Some((answer, after)) = after.split_at_checked(u16::from_be_bytes(*head).into()) else {
                break;
            };
            let message = Message::from_octets(answer).expect("an answer has a header");
            assert!(message.header().qr(), "it is an answer");
            for record in message.iter() {
                let (record, _) = record.expect("a record can be read");
                record.into_record::<AllRecordData<_, _>>().expect("its data can be read");
            }
            answers += 1;
            rest = after;
        }
        let mut queries = 0;
        let mut rest = &self.said[..];
        while let Some((head, after)) = rest.split_first_chunk::<2>() {
            let Some((_, after)) = after.split_at_checked(u16::from_be_bytes(*head).into()) else { break };
            queries += 1;
            rest = after;
        }
        assert!(answers <= queries, "{answers} answers to {queries} queries");
    }
}

/// Makes a frame one for us with right sums, so that what stands behind its headers matters. It has room for those of TCP.
fn set_right(frame: &mut Vec<u8>) {
    frame.resize(frame.len().max(74), 0);
    frame[..12].copy_from_slice(&[OURS, PEER].concat());
    if frame[12] & 1 == 0 {
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        let len = frame.len() as u16 - 14;
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_dst_addr(SERVER);
        packet.fill_checksum();
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        match packet.next_header() {
            IpProtocol::Icmp => Icmpv4Packet::new_unchecked(packet.payload_mut()).fill_checksum(),
            IpProtocol::Tcp => {
                TcpPacket::new_unchecked(packet.payload_mut()).fill_checksum(&source, &destination);
            }
            _ => {}
        }
    } else {
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        let len = frame.len() as u16 - 54;
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        let mut packet = Ipv6Packet::new_unchecked(&mut frame[14..]);
        packet.set_dst_addr(Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53));
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        match packet.next_header() {
            IpProtocol::Icmpv6 => {
                Icmpv6Packet::new_unchecked(packet.payload_mut()).fill_checksum(&source, &destination);
            }
            IpProtocol::Tcp => TcpPacket::new_unchecked(packet.payload_mut())
                .fill_checksum(&source.into(), &destination.into()),
            _ => {}
        }
    }
}

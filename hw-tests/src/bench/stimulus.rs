//! The frames of the node benchmarks: IPv4, 64 bytes (DNS queries a little more), right in every checksum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use millrace_bier::id::Bsl;

use super::circuit::Stimulus;
use super::scene::{
    CLIENT_MAC, DNS_ADDRESS, INSTANCE, NAME_DIGITS, OUR_MAC, TRANSIT_NETWORK, VIP, bier_frame, query_name,
};

/// Bytes of a frame with the addresses and ports that vary still zero.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Sum of the IP header's words.
    ip_sum: u32,
    /// Sum of the transport header's, the payload's and the pseudo header's words.
    l4_sum: u32,
    /// Where the transport checksum lies; none is written for 0.
    l4_checksum_at: usize,
}

const ETHERNET: usize = 14;
const IP: usize = 20;
const L4: usize = ETHERNET + IP;
const SOURCE_AT: usize = ETHERNET + 12;
const DESTINATION_AT: usize = ETHERNET + 16;
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Template {
    fn new(protocol: u8, ends: [([u8; 4], u16); 2], transport: &[u8], l4_checksum_at: usize) -> Template {
        let mut bytes = [OUR_MAC, CLIENT_MAC].concat();
        bytes.extend([0x08, 0x00]);
        let total = (IP + transport.len()) as u16;
        bytes.extend([0x45, 0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
        bytes.extend(ends[0].0);
        bytes.extend(ends[1].0);
        bytes.extend(transport);
        bytes[L4..L4 + 2].copy_from_slice(&ends[0].1.to_be_bytes());
        bytes[L4 + 2..L4 + 4].copy_from_slice(&ends[1].1.to_be_bytes());
        let ip_sum = sum(&bytes[ETHERNET..L4]);
        let l4_sum =
            sum(&bytes[L4..]) + sum(&bytes[SOURCE_AT..L4]) + u32::from(protocol) + transport.len() as u32;
        Template { bytes, ip_sum, l4_sum, l4_checksum_at }
    }

    /// Writes the frame with `address` and `port` in the places given, which are zero in the template.
    #[inline]
    fn write(
        &self,
        bytes: &mut [u8],
        (address_at, address): (usize, [u8; 4]),
        (port_at, port): (usize, u16),
    ) {
        bytes.copy_from_slice(&self.bytes);
        bytes[address_at..address_at + 4].copy_from_slice(&address);
        bytes[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
        let [a, b, c, d] = address;
        let address = u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]));
        bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&fold(self.ip_sum + address).to_be_bytes());
        if self.l4_checksum_at != 0 {
            let checksum = fold(self.l4_sum + address + u32::from(port));
            bytes[self.l4_checksum_at..self.l4_checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte))).sum()
}

#[inline]
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}

/// Steps through `0..count` in an order that no prefetcher guesses, each number once a round.
#[derive(Clone, Debug)]
struct Scatter {
    at: u64,
    step: u64,
    count: u64,
}

impl Scatter {
    fn new(count: u64) -> Scatter {
        // The golden section of the count, or the next number above that shares no factor with it.
        let step = (count * 618 / 1000).max(1);
        let step = (step..).find(|step| gcd(*step, count) == 1).unwrap_or(1);
        Scatter { at: 0, step, count }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.at += self.step;
        if self.at >= self.count {
            self.at -= self.count;
        }
        self.at
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// UDP frames through the appliance to 4,096 destinations.
#[derive(Clone, Debug)]
pub struct Transit {
    template: Template,
    scatter: Scatter,
}

impl Transit {
    /// From the first one on.
    pub fn new() -> Transit {
        let mut transport = [0; 30];
        transport[4..6].copy_from_slice(&30_u16.to_be_bytes());
        let ends = [([10, 1, 2, 3], 0), ([0; 4], 7)];
        Transit { template: Template::new(UDP, ends, &transport, L4 + 6), scatter: Scatter::new(4096) }
    }
}

impl Default for Transit {
    fn default() -> Transit {
        Transit::new()
    }
}

impl Stimulus for Transit {
    fn frame_len(&self) -> usize {
        self.template.bytes.len()
    }

    #[inline]
    fn write(&mut self, bytes: &mut [u8]) {
        let number = self.scatter.next() as u16;
        let [high, low] = number.to_be_bytes();
        let [a, b, ..] = TRANSIT_NETWORK;
        self.template.write(bytes, (DESTINATION_AT, [a, b, high, low]), (L4, 1024 + number));
    }
}

/// Queries for the A record of one of `names` names, in scattered order.
#[derive(Clone, Debug)]
pub struct Queries {
    template: Template,
    digits_at: usize,
    scatter: Scatter,
}

impl Queries {
    /// Queries for the names of a scene with that many.
    pub fn new(names: u64) -> Queries {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let name_at = L4 + 8 + message.len();
        message.extend(query_name(0));
        message.extend([0, 1, 0, 1]);
        let mut transport = vec![0; 8];
        transport[4..6].copy_from_slice(&((8 + message.len()) as u16).to_be_bytes());
        transport.extend(message);
        let ends = [([0; 4], 0), (DNS_ADDRESS, 53)];
        // No transport checksum, as RFC 768 allows over IPv4: the digits needn't be summed.
        let template = Template::new(UDP, ends, &transport, 0);
        // Behind the length byte and the letter of the first label.
        Queries { template, digits_at: name_at + 2, scatter: Scatter::new(names) }
    }
}

impl Stimulus for Queries {
    fn frame_len(&self) -> usize {
        self.template.bytes.len()
    }

    #[inline]
    fn write(&mut self, bytes: &mut [u8]) {
        let mut number = self.scatter.next();
        let [.., high, low] = number.to_be_bytes();
        self.template.write(bytes, (SOURCE_AT, [10, 9, high, low]), (L4, 1024 + number as u16 % 60_000));
        for digit in bytes[self.digits_at..self.digits_at + NAME_DIGITS].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

/// What the frames of [`Flows`] are at the moment; shared with whoever runs the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// A SYN of each flow in turn.
    Syn,
    /// An answer of the instance's to each in turn.
    Answer,
    /// A segment of each in turn.
    Segment,
}

/// Sets the phase of [`Flows`] from outside.
#[derive(Clone, Debug)]
pub struct PhaseSwitch(Arc<AtomicU8>);

impl PhaseSwitch {
    /// From the next frame on.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}

/// TCP segments of `count` flows to a service, in scattered order.
#[derive(Clone, Debug)]
pub struct Flows {
    /// By [`Phase`].
    templates: [Template; 3],
    phase: PhaseSwitch,
    scatter: Scatter,
}

impl Flows {
    /// Begins with SYNs.
    pub fn new(count: u64) -> (Flows, PhaseSwitch) {
        let segment = |flags: u8| {
            let mut transport = [0; 30];
            transport[4..8].copy_from_slice(&1000_u32.to_be_bytes());
            transport[12..16].copy_from_slice(&[0x50, flags, 0xfa, 0xf0]);
            transport
        };
        let (client, service) = (([0; 4], 0), VIP);
        let templates = [
            Template::new(TCP, [client, service], &segment(0x02), L4 + 16),
            Template::new(TCP, [INSTANCE, client], &segment(0x12), L4 + 16),
            Template::new(TCP, [client, service], &segment(0x10), L4 + 16),
        ];
        let phase = PhaseSwitch(Arc::new(AtomicU8::new(Phase::Syn as u8)));
        (Flows { templates, phase: phase.clone(), scatter: Scatter::new(count) }, phase)
    }
}

impl Stimulus for Flows {
    fn frame_len(&self) -> usize {
        self.templates[0].bytes.len()
    }

    #[inline]
    fn write(&mut self, bytes: &mut [u8]) {
        let number = self.scatter.next();
        let phase = usize::from(self.phase.0.load(Ordering::Relaxed)) % self.templates.len();
        let (address_at, port_at) =
            if phase == Phase::Answer as usize { (DESTINATION_AT, L4 + 2) } else { (SOURCE_AT, L4) };
        // 16 ports an address: clients, not one client.
        let [.., b, c, d] = (number >> 4).to_be_bytes();
        let port = 1024 + ((number & 15) as u16) * 4001;
        self.templates[phase].write(bytes, (address_at, [10, b, c, d]), (port_at, port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn frame(stimulus: &mut impl Stimulus) -> Vec<u8> {
        let mut bytes = vec![0xee; stimulus.frame_len()];
        stimulus.write(&mut bytes);
        bytes
    }

    /// Both checksums by the book (RFC 1071), over all bytes of the frame.
    fn assert_checksums(bytes: &[u8]) {
        let total = |parts: &[&[u8]], more: u32| fold(parts.iter().map(|part| sum(part)).sum::<u32>() + more);
        assert_eq!(total(&[&bytes[ETHERNET..L4]], 0), 0, "IP header");
        let l4 = &bytes[L4..];
        if bytes[ETHERNET + 9] == TCP || l4[6..8] != [0, 0] {
            let pseudo = u32::from(bytes[ETHERNET + 9]) + l4.len() as u32;
            assert_eq!(total(&[l4, &bytes[SOURCE_AT..L4]], pseudo), 0, "transport");
        }
        assert_eq!(usize::from(u16::from_be_bytes([bytes[16], bytes[17]])), bytes.len() - ETHERNET);
    }

    #[test]
    fn checksums_are_right_whatever_varies() {
        let (mut flows, phase) = Flows::new(1_000_000);
        let (mut transit, mut queries) = (Transit::new(), Queries::new(1_000_000));
        for next in [Phase::Syn, Phase::Answer, Phase::Segment] {
            phase.set(next);
            for _ in 0..5000 {
                assert_checksums(&frame(&mut flows));
                assert_checksums(&frame(&mut transit));
                assert_checksums(&frame(&mut queries));
            }
        }
        assert_eq!((frame(&mut flows).len(), frame(&mut transit).len()), (64, 64));
    }

    #[test]
    fn every_flow_and_name_comes_once_a_round() {
        for count in [1, 2, 1000, 4096, 100_000] {
            let (mut flows, _phase) = Flows::new(count);
            let seen: HashSet<_> =
                (0..count).map(|_| frame(&mut flows)[SOURCE_AT..L4 + 2].to_vec()).collect();
            assert_eq!(seen.len() as u64, count);
            let mut queries = Queries::new(count);
            let at = queries.digits_at;
            let seen: HashSet<_> =
                (0..count).map(|_| frame(&mut queries)[at..at + NAME_DIGITS].to_vec()).collect();
            assert_eq!(seen.len() as u64, count);
        }
    }
}

/// BIER packets to one router each, of the sets in turn.
#[derive(Clone, Debug)]
pub struct Replicated {
    /// One frame for each set.
    frames: Vec<Vec<u8>>,
    scatter: Scatter,
}

impl Replicated {
    /// To the last router of each of `ids` numbers' sets.
    pub fn new(bsl: Bsl, ids: u16) -> Replicated {
        let sets = ids.div_ceil(bsl.bits());
        let frame = |set: u16| {
            let last = ((set + 1) * bsl.bits()).min(ids);
            bier_frame(bsl, set as u8, &[last], BIER_FRAME)
        };
        Replicated { frames: (0..sets).map(frame).collect(), scatter: Scatter::new(u64::from(sets)) }
    }
}

/// Bytes of a BIER frame: those of its headers with 256 bits, and a little.
const BIER_FRAME: usize = 78;

impl Stimulus for Replicated {
    fn frame_len(&self) -> usize {
        self.frames[0].len()
    }

    #[inline]
    fn write(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.frames[self.scatter.next() as usize]);
    }
}

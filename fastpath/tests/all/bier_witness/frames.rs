//! BIER frames that our emitter and our workers made, and what each is meant to say.

use std::sync::Arc;

use millrace_bier::bift_id::{BiftId, BiftIdMap, BiftIds};
use millrace_bier::bits::BitString;
use millrace_bier::header::{self, Carriage, Header, LEN_MAX, Proto, View};
use millrace_bier::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};
use millrace_bier::overlay::{Flow, Receivers};

use crate::common::bier::{INGRESS, given, install, neighbour_of};
use crate::common::random::Random;
use crate::common::*;

/// Bytes of an untagged Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// What a frame says, in numbers and words that any reader can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) to: String,
    pub(crate) from: String,
    pub(crate) ether_type: u16,
    pub(crate) bift_id: u32,
    pub(crate) tc: u8,
    pub(crate) ttl: u8,
    pub(crate) nibble: u8,
    pub(crate) bsl: Bsl,
    pub(crate) entropy: u32,
    pub(crate) oam: u8,
    pub(crate) dscp: u8,
    pub(crate) proto: u8,
    pub(crate) bfir_id: u16,
    /// Numbers of the bits that are set, from 1.
    pub(crate) bits: Vec<u16>,
    pub(crate) inner: Inner,
}

/// A UDP datagram, in an Ethernet frame of its own or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inner {
    /// To and from.
    pub(crate) macs: Option<[String; 2]>,
    /// From and to.
    pub(crate) ends: [&'static str; 2],
    pub(crate) hop_limit: u8,
    pub(crate) ports: [u16; 2],
    pub(crate) data: Vec<u8>,
}

impl Said {
    /// In the order that readers are asked for. S is 1, the version and Rsv are 0.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut string = vec![0_u8; usize::from(self.bsl.bits()) / 8];
        for number in &self.bits {
            let from_right = usize::from(number - 1);
            let at = string.len() - 1 - from_right / 8;
            string[at] |= 1 << (from_right % 8);
        }
        let code = u32::from(self.bsl.bits()).ilog2() - 5;
        let numbers = [
            self.ether_type.into(),
            self.bift_id,
            self.tc.into(),
            1,
            self.ttl.into(),
            self.nibble.into(),
            0,
            code,
            self.entropy,
            self.oam.into(),
            0,
            self.dscp.into(),
            self.proto.into(),
            self.bfir_id.into(),
        ];
        let inner = &self.inner;
        let macs = inner.macs.clone().unwrap_or_default();
        let mut columns = vec![self.to.clone(), self.from.clone()];
        columns.extend(numbers.map(|number| number.to_string()));
        columns.push(hex(&string));
        columns.extend(macs);
        columns.extend(inner.ends.map(str::to_owned));
        columns.push(inner.hop_limit.to_string());
        columns.extend(inner.ports.map(|port| port.to_string()));
        columns.push(hex(&inner.data));
        columns
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What a header's payload can be: its protocol, its bytes, and what they say.
fn payload(kind: Proto, random: &mut Random, size: usize) -> (Vec<u8>, Inner) {
    let data: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
    let ports = [random.within(1024..=65_535) as u16, random.within(1024..=65_535) as u16];
    // The ports of no protocol that a reader would go on to look for.
    let ports = ports.map(|port| port | 0xc000);
    let ends = match kind {
        Proto::Ipv6 => ["2001:db8::100", "ff3e::1:2"],
        _ => ["192.0.2.100", "232.1.1.1"],
    };
    let macs = ([2, 0, 0, 0, 9, 1], [1, 0, 0x5e, 1, 1, 1]);
    let frame = frames::udp(macs, (ends[0], ports[0]), (ends[1], ports[1]), &data);
    let hop_limit = random.within(2..=255) as u8;
    let frame = frames::with_ttl(&frame, hop_limit);
    let inner = Inner { macs: None, ends, hop_limit, ports, data };
    match kind {
        Proto::Ethernet => (frame, Inner { macs: Some([text(macs.1), text(macs.0)]), ..inner }),
        _ => (frame[ETHERNET..].to_vec(), inner),
    }
}

const KINDS: [Proto; 3] = [Proto::Ipv4, Proto::Ipv6, Proto::Ethernet];
const CARRIAGES: [Carriage; 2] = [Carriage::Mpls, Carriage::NonMpls];

/// A frame of our emitter's to us, with this BIFT-id and these bits.
fn emit(
    random: &mut Random,
    (carriage, kind, size): (Carriage, Proto, usize),
    (bsl, bift_id, bits): (Bsl, BiftId, Vec<u16>),
    ttl: u8,
) -> (Vec<u8>, Said) {
    let mpls = carriage == Carriage::Mpls;
    let (payload, inner) = payload(kind, random, size);
    let (any_entropy, any_bfir) = (random.below(1 << 20) as u32, random.within(1..=0xffff) as u16);
    let said = Said {
        to: text(WAN_MAC),
        from: text(CLIENT_MAC),
        ether_type: if mpls { 0x8847 } else { 0xab37 },
        bift_id: bift_id.get(),
        tc: if mpls { random.below(8) as u8 } else { 0 },
        ttl,
        nibble: if mpls { 5 } else { 0 },
        bsl,
        entropy: random.one_of(&[0, 0xf_ffff, any_entropy]),
        oam: random.below(4) as u8,
        dscp: if mpls { 0 } else { random.below(64) as u8 },
        proto: match kind {
            Proto::Ipv4 => 4,
            Proto::Ipv6 => 6,
            _ => 3,
        },
        bfir_id: random.one_of(&[1, 0xffff, any_bfir]),
        bits,
        inner,
    };
    let header = Header {
        carriage,
        bift_id,
        tc: said.tc,
        ttl,
        entropy: said.entropy,
        oam: said.oam,
        dscp: said.dscp,
        proto: kind,
        bfir_id: BfrId::new(said.bfir_id),
    };
    let string = BitString::of(bsl, said.bits.iter().map(|number| BitPosition::new(*number, bsl).unwrap()));
    let mut out = [0; LEN_MAX];
    let len = header.emit(bsl, string.words(), &mut out).unwrap();
    let frame = [&WAN_MAC[..], &CLIENT_MAC, &carriage.ethertype().to_be_bytes(), &out[..len], &payload];
    (frame.concat(), said)
}

/// Every length, carriage and payload, with random and outermost values of the rest.
pub(crate) fn emitted(random: &mut Random) -> Vec<(Vec<u8>, Said)> {
    let mut all = Vec::new();
    for bsl in Bsl::ALL {
        let last = bsl.bits();
        for carriage in CARRIAGES {
            for (kind, pass) in KINDS.into_iter().flat_map(|kind| (0..6).map(move |pass| (kind, pass))) {
                let some = (1..=last).filter(|_| random.percent(20)).chain([7]).collect();
                let bits = match pass {
                    0 => vec![1],
                    1 => vec![last],
                    2 => (1..=last).collect(),
                    _ => some,
                };
                // Labels below 16 mean something to readers of MPLS (RFC 3032 section 2.1).
                let any_id = random.within(16..=0xf_ffff) as u32;
                let id = random.one_of(&[16, 0xf_ffff, any_id]);
                let any_ttl = random.next() as u8;
                let ttl = random.one_of(&[0, 1, 255, any_ttl]);
                let size = random.below(400) as usize;
                let table = (bsl, BiftId::new(id).unwrap(), sorted(bits));
                all.push(emit(random, (carriage, kind, size), table, ttl));
            }
        }
    }
    all
}

fn sorted(mut bits: Vec<u16>) -> Vec<u16> {
    bits.sort_unstable();
    bits.dedup();
    bits
}

/// What neighbours want packets to have: numbers that are no static form.
fn wanted(bsl: Bsl, si: u8) -> u32 {
    0xe_0000 + u32::from(bsl.code()) * 256 + u32::from(si)
}

/// Neighbour 0 is reached over MPLS and leads to routers 1, 2 and that of the last bit; neighbour 1 is not, and leads to 3, 4
/// and the second of the next set.
fn bench(bsl: Bsl) -> Bench {
    let mut map = BiftIdMap::default();
    for si in 0..2 {
        let key = BiftKey { sub_domain: SubDomain(7), si: Si(si), bsl };
        map.insert(key, BiftId::new(wanted(bsl, si)).unwrap()).unwrap();
    }
    let rows: [&[u16]; 2] = [&[1, 2, bsl.bits()], &[3, 4, bsl.bits() + 2]];
    let mut bench = Bench::new(1);
    let tables = given(SubDomain(7), bsl, &rows, &BiftIds::Map(map));
    install(&mut bench, BiftIds::Static, tables, &CARRIAGES);
    bench
}

/// Copies that a worker makes of what comes by either carriage: short ones, and long ones whose payload is shared.
pub(crate) fn copied(random: &mut Random) -> Vec<(Vec<u8>, Said)> {
    let mut all = Vec::new();
    for bsl in Bsl::ALL {
        let key = BiftKey { sub_domain: SubDomain(7), si: Si(0), bsl };
        let mut bench = bench(bsl);
        for (carriage, kind) in CARRIAGES.into_iter().flat_map(|carriage| KINDS.map(|kind| (carriage, kind)))
        {
            for size in [0, 100, 800] {
                let ttl = random.within(2..=255) as u8;
                let (via_mpls, other) = (sorted(vec![1, bsl.bits()]), vec![3, 4]);
                let bits = sorted([&via_mpls[..], &other].concat());
                let table = (bsl, BiftId::static_form(key), bits);
                let (frame, said) = emit(random, (carriage, kind, size), table, ttl);
                bench.deliver_and_run(WAN, &frame);
                let copy = |number: u8, bits: &[u16]| {
                    let mpls = number == 0;
                    let same = mpls == (carriage == Carriage::Mpls);
                    Said {
                        to: text(neighbour_of(number).1),
                        from: text(LAN_MAC),
                        ether_type: if mpls { 0x8847 } else { 0xab37 },
                        bift_id: wanted(bsl, 0),
                        tc: if same { said.tc } else { 0 },
                        dscp: if same { said.dscp } else { 0 },
                        ttl: ttl - 1,
                        nibble: if mpls { 5 } else { 0 },
                        bits: bits.to_vec(),
                        ..said.clone()
                    }
                };
                pair(&mut all, bench.sent(LAN), vec![copy(0, &via_mpls), copy(1, &other)]);
            }
        }
        bench.check_laws();
    }
    all
}

/// What a worker makes of multicast that enters BIER there: a header for each set.
pub(crate) fn imposed(random: &mut Random) -> Vec<(Vec<u8>, Said)> {
    let mut all = Vec::new();
    for bsl in Bsl::ALL {
        let mut bench = bench(bsl);
        let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
        let receivers = Receivers::new([1, 3, bsl.bits() + 2].into_iter().filter_map(BfrId::new));
        for (source, group) in [("192.0.2.100", "232.1.1.1"), ("2001:db8::100", "ff3e::1:2")] {
            let flow = Flow { source: source.parse().unwrap(), group: group.parse().unwrap() };
            bier.overlay.set(flow, SubDomain(7), bsl, &receivers);
        }
        bench.tables.bier = Some(Arc::new(bier));
        bench.publish();
        for (kind, size) in [(Proto::Ipv4, 20), (Proto::Ipv4, 700), (Proto::Ipv6, 20), (Proto::Ipv6, 700)] {
            let (packet, inner) = payload(kind, random, size);
            let v6 = kind == Proto::Ipv6;
            let head: [&[u8]; 3] = match v6 {
                false => [&[1, 0, 0x5e, 1, 1, 1], &CLIENT_MAC, &[8, 0]],
                true => [&[0x33, 0x33, 0, 1, 0, 2], &CLIENT_MAC, &[0x86, 0xdd]],
            };
            bench.deliver_and_run(WAN, &[&head.concat()[..], &packet].concat());
            let sent = bench.sent(LAN);
            // The flow's hash: whatever it is, all packets of it have the same.
            let carriage = |frame: &[u8]| CARRIAGES[usize::from(frame[12] == 0xab)];
            let first = View::parse(&sent[0][ETHERNET..], carriage(&sent[0]), bsl).unwrap();
            let copy = |number: u8, si: u8, bit: u16| Said {
                to: text(neighbour_of(number).1),
                from: text(LAN_MAC),
                ether_type: if number == 0 { 0x8847 } else { 0xab37 },
                bift_id: wanted(bsl, si),
                tc: 0,
                ttl: 30,
                nibble: if number == 0 { 5 } else { 0 },
                bsl,
                entropy: first.entropy(),
                oam: 0,
                dscp: 0,
                proto: if v6 { 6 } else { 4 },
                bfir_id: INGRESS,
                bits: vec![bit],
                inner: Inner { hop_limit: inner.hop_limit - 1, ..inner.clone() },
            };
            pair(&mut all, sent.clone(), vec![copy(0, 0, 1), copy(1, 0, 3), copy(1, 1, 2)]);
        }
        bench.check_laws();
    }
    all
}

/// Each frame with what is meant for its neighbour and its table.
fn pair(all: &mut Vec<(Vec<u8>, Said)>, sent: Vec<Vec<u8>>, meant: Vec<Said>) {
    assert_eq!(sent.len(), meant.len(), "a copy for each");
    for said in meant {
        let is_its = |frame: &&Vec<u8>| {
            let id = u32::from_be_bytes([0, frame[14], frame[15], frame[16]]) >> 4;
            hex(&frame[..6]) == said.to.replace(':', "") && id == said.bift_id
        };
        all.push((sent.iter().find(is_its).expect("its neighbour's frame").clone(), said));
    }
}

/// Our own reading of a frame that somebody else made: everything but what its payload says.
pub(crate) fn read(frame: &[u8], bsl: Bsl, inner: Inner) -> (Said, Vec<u8>) {
    let ether_type = u16::from_be_bytes([frame[12], frame[13]]);
    let carriage = CARRIAGES[usize::from(ether_type == 0xab37)];
    let view = View::parse(&frame[ETHERNET..], carriage, bsl).unwrap();
    assert_eq!(header::len(bsl) + view.payload().len(), frame.len() - ETHERNET);
    let mut words = vec![0; bsl.words()];
    view.load(&mut words);
    let mac = |at: usize| text(frame[at..at + 6].try_into().unwrap());
    let said = Said {
        to: mac(0),
        from: mac(6),
        ether_type,
        bift_id: view.bift_id().get(),
        tc: view.tc(),
        ttl: view.ttl(),
        nibble: frame[ETHERNET + 4] >> 4,
        bsl,
        entropy: view.entropy(),
        oam: view.oam(),
        dscp: view.dscp(),
        proto: view.proto().code(),
        bfir_id: view.bfir_id().map_or(0, BfrId::get),
        bits: BitString::from_words(&words).ones().map(BitPosition::number).collect(),
        inner,
    };
    (said, view.payload().to_vec())
}

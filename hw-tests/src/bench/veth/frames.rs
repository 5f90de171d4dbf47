//! The frames that the generator sends: UDP over IPv4, right in every checksum.

use std::net::Ipv4Addr;

use millrace_fastpath::tables::interfaces::Mac;
use millrace_fastpath::wire::{UDP, checksum};

/// A UDP frame's ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Destination and source, Ethernet.
    pub(super) macs: [Mac; 2],
    /// Source address and port.
    pub(super) from: (Ipv4Addr, u16),
    /// Destination address and port.
    pub(super) to: (Ipv4Addr, u16),
}

impl Way {
    /// A frame with this payload, of 60 bytes at least (64 with the frame check sequence that no veth has).
    pub(super) fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let (udp_len, addresses) = (UDP_HEADER + payload.len(), [self.from.0, self.to.0]);
        let mut ip = vec![0x45, 0];
        ip.extend(((IP_HEADER + udp_len) as u16).to_be_bytes());
        ip.extend([0, 1, 0x40, 0, 64, UDP, 0, 0]);
        addresses.iter().for_each(|address| ip.extend(address.octets()));
        let mut udp = [self.from.1, self.to.1, udp_len as u16, 0].map(u16::to_be_bytes).concat();
        udp.extend(payload);
        let pseudo = checksum::pseudo_header(self.from.0.into(), self.to.0.into(), UDP, udp_len);
        for (bytes, at, more) in [(&mut ip, 10, 0), (&mut udp, 6, pseudo)] {
            let sum = checksum::fold(checksum::sum(bytes) + more);
            bytes[at..at + 2].copy_from_slice(&(!sum).to_be_bytes());
        }
        let mut frame = [&self.macs[0][..], &self.macs[1], &[0x08, 0x00], &ip, &udp].concat();
        frame.resize(frame.len().max(FRAME_MIN), 0);
        frame
    }
}

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const FRAME_MIN: usize = 60;

/// The MAC address that `ip` and sysfs write as text.
pub(super) fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// A query for the A record of a name given by its labels, with this id.
pub(super) fn query(id: u16, labels: &[&str]) -> Vec<u8> {
    let mut message = [id, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    for label in labels {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Whether a frame is an answer with a record in it: UDP from port 53 over IPv4 without options, QR set, no error.
#[inline]
pub(super) fn is_answer(frame: &[u8]) -> bool {
    let Some(head) = frame.first_chunk::<54>() else { return false };
    let (source_port, message) = (&head[34..36], &head[42..]);
    head[23] == UDP
        && source_port == [0, 53]
        && message[2] & 0x80 != 0
        && message[3] & 0x0f == 0
        && message[6..8] != [0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;

    fn way() -> Way {
        let macs = [[2, 0, 0, 0, 0, 1], mac("02:00:00:00:00:fe").unwrap()];
        Way { macs, from: (Ipv4Addr::new(10, 1, 2, 3), 4000), to: (Ipv4Addr::new(192, 0, 2, 53), 53) }
    }

    #[test]
    fn checksums_add_up_to_zero() {
        let frame = way().frame(&[7; 33]);
        assert_eq!(frame.len(), 14 + 20 + 8 + 33);
        let words = |bytes: &[u8], more: u64| {
            let mut sum = more;
            for pair in bytes.chunks(2) {
                sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte));
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            sum
        };
        assert_eq!(words(&frame[14..34], 0), 0xffff);
        let pseudo = words(&frame[26..34], 17 + 41);
        assert_eq!(words(&frame[34..], pseudo), 0xffff);
        assert_eq!(way().frame(&[]).len(), 60);
    }

    #[test]
    fn a_query_is_one_and_its_answer_is_known() {
        let message = query(77, &["n1", "example"]);
        let parsed = Message::from_vec(&message).unwrap();
        assert_eq!(parsed.queries[0].to_string(), "n1.example. IN A");
        let to_us = Way { from: way().to, to: way().from, ..way() };
        let mut answer = message.clone();
        assert!(!is_answer(&to_us.frame(&answer)), "a query");
        answer[2] |= 0x80;
        assert!(!is_answer(&to_us.frame(&answer)), "empty");
        answer[7] = 1;
        assert!(is_answer(&to_us.frame(&answer)));
        assert!(!is_answer(&way().frame(&answer)), "from another port");
        answer[3] |= 3;
        assert!(!is_answer(&to_us.frame(&answer)), "NXDOMAIN");
    }
}

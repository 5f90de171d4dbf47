//! Frames as they were on the wire: tcpdump writes them, a small reader of its file takes them apart, and in the end
//! tshark says whether anything in it is malformed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{split, succeed};
use super::wait::{Look, wait_until};
use super::{Host, LabError, Process, file, unreadable};

/// How long tcpdump gets to open its interface.
const START_MAX: Duration = Duration::from_secs(10);

/// Length of the pcap file header, and of the header before each frame.
const FILE_HEADER: usize = 24;
const FRAME_HEADER: usize = 16;

/// A capture on one interface of a host, running until it is dropped. The file stays in the lab's folder.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    path: PathBuf,
}

/// One captured Ethernet frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When the kernel saw it, in microseconds since 1970.
    pub time_us: u64,
    /// All its bytes, from the destination MAC on.
    pub bytes: Vec<u8>,
}

impl Capture {
    /// Captures what the filter (in tcpdump's language) lets through, in both directions.
    ///
    /// # Errors
    /// [`LabError`] where tcpdump cannot open the interface.
    pub fn start(lab: &super::Lab, host: &Host, interface: &str, filter: &str) -> Result<Self, LabError> {
        Self::start_with(lab, host, interface, &[filter])
    }

    /// Captures the first `count` frames, whatever they are, in both directions.
    ///
    /// # Errors
    /// [`LabError`] where tcpdump cannot open the interface.
    pub fn start_first(
        lab: &super::Lab,
        host: &Host,
        interface: &str,
        count: usize,
    ) -> Result<Self, LabError> {
        Self::start_with(lab, host, interface, &["-c", &count.to_string()])
    }

    fn start_with(
        lab: &super::Lab,
        host: &Host,
        interface: &str,
        arguments: &[&str],
    ) -> Result<Self, LabError> {
        let (number, path) = lab.inner.own_capture(host.name(), interface);
        let mut command = host.command("tcpdump");
        command.args(["-i", interface, "-n", "-U", "-s", "65535", "-B", BUFFER_KIB]);
        command.args(["--immediate-mode", "-Z", "root", "-w"]);
        command.arg(&path).args(arguments);
        let process = host.spawn(&format!("capture-{number}"), &mut command)?;
        process.wait_until("tcpdump to listen", START_MAX, || {
            process.stderr().contains("listening on").then_some(())
        })?;
        Ok(Capture { process, path })
    }

    /// The frames captured so far.
    ///
    /// # Errors
    /// [`LabError`] where the file is not a capture.
    pub fn frames(&self) -> Result<Vec<Frame>, LabError> {
        let bytes = std::fs::read(&self.path).map_err(file(&self.path))?;
        parse(&bytes)
    }

    /// Waits until at least `count` frames that `wanted` accepts have been captured, and returns those.
    ///
    /// # Errors
    /// [`LabError::Deadline`], or [`LabError::Ended`] where tcpdump has gone.
    pub fn wait_for(
        &self,
        what: &str,
        count: usize,
        deadline: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Vec<Frame>, LabError> {
        self.process.wait_until(what, deadline, || {
            let mut frames = match self.frames() {
                Ok(frames) => frames,
                Err(error) => return Look::NotYet(error.to_string()),
            };
            frames.retain(&wanted);
            if frames.len() >= count {
                Look::Done(frames)
            } else {
                Look::NotYet(format!("{} of {count} frames", frames.len()))
            }
        })
    }

    /// Ends the capture, so that all it saw is in the file, and returns that.
    ///
    /// # Errors
    /// [`LabError`] where tcpdump does not end or its file is not a capture.
    pub fn finish(self) -> Result<Vec<Frame>, LabError> {
        self.process.interrupt();
        wait_until("the end of tcpdump", START_MAX, || self.process.exited())?;
        self.frames()
    }
}

impl Frame {
    /// The IP payload (what follows the fixed IPv4 header with its options, or the fixed IPv6 header), for a frame
    /// without VLAN tag; without any Ethernet padding. `None` for other frames.
    #[must_use]
    pub fn ip_payload(&self) -> Option<&[u8]> {
        let packet = self.bytes.get(14..)?;
        match self.ether_type()? {
            0x0800 => {
                let header = usize::from(packet.first()? & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
                packet.get(header..total)
            }
            0x86dd => {
                let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
                packet.get(40..40 + length)
            }
            _ => None,
        }
    }

    /// The EtherType.
    #[must_use]
    pub fn ether_type(&self) -> Option<u16> {
        Some(u16::from_be_bytes([*self.bytes.get(12)?, *self.bytes.get(13)?]))
    }

    /// The IP protocol or next header: 6 TCP, 17 UDP.
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        let packet = self.bytes.get(14..)?;
        match self.ether_type()? {
            0x0800 => packet.get(9).copied(),
            0x86dd => packet.get(6).copied(),
            _ => None,
        }
    }

    /// The source address.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.address(12, 8)
    }

    /// The destination address.
    #[must_use]
    pub fn destination(&self) -> Option<IpAddr> {
        self.address(16, 24)
    }

    /// The address at a place of the IPv4 header, or at another of the IPv6 header.
    fn address(&self, v4: usize, v6: usize) -> Option<IpAddr> {
        let packet = self.bytes.get(14..)?;
        match self.ether_type()? {
            0x0800 => Some(<[u8; 4]>::try_from(packet.get(v4..v4 + 4)?).ok()?.into()),
            0x86dd => Some(<[u8; 16]>::try_from(packet.get(v6..v6 + 16)?).ok()?.into()),
            _ => None,
        }
    }

    /// Source and destination port of a UDP or TCP frame.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        if !matches!(self.protocol()?, 6 | 17) {
            return None;
        }
        let payload = self.ip_payload()?;
        let word = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
        Some((word(0)?, word(2)?))
    }

    /// The flags byte of a TCP frame.
    #[must_use]
    pub fn tcp_flags(&self) -> Option<u8> {
        (self.protocol()? == 6).then(|| self.ip_payload()?.get(13).copied())?
    }

    /// Whether it opens a TCP connection: SYN without ACK.
    #[must_use]
    pub fn is_syn(&self) -> bool {
        self.tcp_flags().is_some_and(|flags| flags & 0x12 == 0x02)
    }

    /// Whether it accepts a TCP connection: SYN and ACK.
    #[must_use]
    pub fn is_syn_ack(&self) -> bool {
        self.tcp_flags().is_some_and(|flags| flags & 0x12 == 0x12)
    }

    /// The kinds of the TCP options, in their order, without padding; their number in IANA's list: 2 is the maximum segment
    /// size, 3 the window scale, 4 "SACK permitted", 8 timestamps.
    #[must_use]
    pub fn tcp_options(&self) -> Vec<u8> {
        let header = self.ip_payload().filter(|_| self.protocol() == Some(6));
        let header = header.and_then(|segment| segment.get(..usize::from(segment.get(12)? >> 4) * 4));
        let (mut rest, mut kinds) =
            (header.and_then(|header| header.get(20..)).unwrap_or_default(), Vec::new());
        while let [kind, behind @ ..] = rest {
            rest = match (kind, behind.first()) {
                (0, _) => break,
                (1, _) => behind,
                (_, Some(&length)) if length >= 2 => rest.get(usize::from(length)..).unwrap_or_default(),
                _ => break,
            };
            if *kind > 1 {
                kinds.push(*kind);
            }
        }
        kinds
    }
}

/// What tshark finds wrong in a capture, a line a frame, with every checksum looked at: malformed packets, and what its
/// experts call an error. Nothing, where all is well. What is dubious but may happen on any wire (a retransmission, a
/// window that is full) is none of that.
///
/// # Errors
/// [`LabError`] where tshark can't read the file.
pub fn faults(path: &Path) -> Result<Vec<String>, LabError> {
    let found = filtered(path, FAULTY)?;
    // A stream of messages that the capture has a hole in is read from the middle of one from there on.
    if found.is_empty() || filtered(path, HOLE)?.is_empty() {
        return Ok(found);
    }
    filtered(path, &format!("({FAULTY}) && !(tcp && _ws.malformed)"))
}

/// A line for each frame that a display filter of tshark's finds, with every checksum looked at.
fn filtered(path: &Path, filter: &str) -> Result<Vec<String>, LabError> {
    let mut command = split("tshark -n");
    for protocol in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    // Ciphertext of QUIC may pass for a message of substations, which is guessed at without a port.
    command.args(["--disable-protocol", "goose"]);
    command.args(["-Y", filter, "-T", "fields", "-e", "frame.number", "-e", "_ws.col.Protocol"]);
    command.args(["-e", "_ws.col.Info", "-e", "_ws.expert.message", "-r"]);
    Ok(succeed(command.arg(path))?.lines().map(str::to_owned).collect())
}

/// Malformed, or an expert's item of severity "error" (0x00800000) or above, save that what was sent again is cut otherwise
/// than it was at first: which is how TCP repairs a loss.
const FAULTY: &str = "_ws.malformed.expert || _ws.malformed.dissector_bug || \
                      (_ws.expert.severity >= 8388608 && !_ws.malformed.reassembly)";

/// Acknowledged by who got it, and not in the file: tcpdump came too late for it.
const HOLE: &str = "tcp.analysis.ack_lost_segment";

/// Frames wait for tcpdump in a buffer of so many KiB, each in a place as long as the longest may be: it has to share its CPU.
const BUFFER_KIB: &str = "65536";

/// Frames of a pcap file in the machine's byte order with microseconds, as tcpdump writes it. A frame that is
/// still being written at the end is left for the next look.
fn parse(file: &[u8]) -> Result<Vec<Frame>, LabError> {
    let word = |at: usize| file.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    let mut frames = Vec::new();
    match word(0) {
        None => return Ok(frames),
        Some(0xa1b2_c3d4) => {}
        Some(magic) => return Err(unreadable("capture", format!("magic {magic:#x}"))),
    }
    let mut at = FILE_HEADER;
    while let (Some(seconds), Some(micros), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
        let begin = at + FRAME_HEADER;
        let Some(bytes) = file.get(begin..begin + length as usize) else { break };
        let time_us = u64::from(seconds) * 1_000_000 + u64::from(micros);
        frames.push(Frame { time_us, bytes: bytes.to_vec() });
        at = begin + length as usize;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture_of(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        file.resize(FILE_HEADER, 0);
        for frame in frames {
            let length = u32::try_from(frame.len()).expect("short");
            for word in [7_u32, 5, length, length] {
                file.extend_from_slice(&word.to_ne_bytes());
            }
            file.extend_from_slice(frame);
        }
        file
    }

    #[test]
    fn a_frame_half_written_waits_for_the_next_look() {
        let whole = capture_of(&[b"first", b"second"]);
        assert_eq!(parse(&whole).expect("pcap").len(), 2);
        let cut = parse(&whole[..whole.len() - 1]).expect("pcap");
        assert_eq!(cut, [Frame { time_us: 7_000_005, bytes: b"first".to_vec() }]);
        assert!(parse(&whole[..10]).expect("pcap").is_empty());
    }

    #[test]
    fn something_else_is_not_a_capture() {
        assert!(parse(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn payload_ends_where_the_packet_ends_not_the_frame() {
        let mut bytes = vec![0; 12];
        bytes.extend_from_slice(&[0x08, 0x00, 0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0]);
        bytes.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 53]);
        bytes.extend_from_slice(&[0xee; 22]);
        let frame = Frame { time_us: 0, bytes };
        assert_eq!(frame.ip_payload(), Some(&[0x30, 0x39, 0, 53][..]));
        assert_eq!(frame.ports(), Some((12345, 53)));
        assert_eq!(frame.tcp_flags(), None);
    }
}

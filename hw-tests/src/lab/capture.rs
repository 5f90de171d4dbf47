//! Frames as they were on the wire: tcpdump writes them, a small reader of its file takes them apart.

use std::path::PathBuf;
use std::time::Duration;

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
        let name = format!("capture-{interface}");
        let path = lab.folder().join(format!("{}-{interface}.pcap", host.name()));
        let mut command = host.command("tcpdump");
        command.args(["-i", interface, "-n", "-U", "-s", "0", "--immediate-mode", "-Z", "root", "-w"]);
        command.arg(&path).arg(filter);
        let process = host.spawn(&name, &mut command)?;
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
}

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

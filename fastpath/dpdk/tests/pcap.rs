//! Frames from a capture file, through the driver, into another one; and a device with fewer queues than workers.

mod common;

use std::fs;
use std::path::Path;

use common::{PORT, assert_all_back, eal, frame, open, pattern, receive_all, unique};
use millrace_dpdk::DpdkFrame;
use millrace_fastpath::driver::{Burst, Driver, Frame};

/// The bytes of a capture file of Ethernet frames (libpcap's format 2.4, microseconds, little-endian).
fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (second, frame) in frames.iter().enumerate() {
        let len = frame.len() as u32;
        for word in [second as u32, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The frames of a capture file.
fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).expect("the capture was written");
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    frames
}

#[test]
fn frames_pass_from_file_to_file() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.pcap"), directory.path().join("out.pcap"));
    let golden: Vec<_> = (0..100).map(|index| pattern(index, 60 + 14 * index)).collect();
    fs::write(&input, capture(&golden)).unwrap();
    let device = format!("{},rx_pcap={},tx_pcap={}", unique("net_pcap"), input.display(), output.display());
    let (ports, mut drivers) = open(eal(), &device, 1, 1023);
    let mut passed = 0;
    for mut frame in receive_all(&mut drivers[0]) {
        assert_eq!(frame.bytes(), golden[passed]);
        frame.bytes_mut()[0] ^= 0xff;
        assert!(frame.prepend(4));
        frame.bytes_mut()[..4].copy_from_slice(b"head");
        let mut burst: Burst<DpdkFrame> = [frame].into_iter().collect();
        assert_eq!(drivers[0].transmit(PORT, &mut burst), 1);
        passed += 1;
    }
    assert_eq!(passed, golden.len());
    let stats = ports.get(PORT).unwrap().stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (100, 100));
    assert_all_back(&ports);
    drop((ports, drivers));
    let written = frames_of(&output);
    assert_eq!(written.len(), golden.len());
    for (written, golden) in written.iter().zip(&golden) {
        let mut expected = b"head".to_vec();
        expected.extend(golden);
        expected[4] ^= 0xff;
        assert_eq!(written, &expected);
    }
}

#[test]
fn several_segments_leave_as_one_frame() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.pcap");
    let device = format!("{},tx_pcap={}", unique("net_pcap"), output.display());
    let (ports, mut drivers) = open(eal(), &device, 1, 255);
    let driver = &mut drivers[0];
    let payload = frame(driver, 1, 700);
    let mut burst = Burst::new();
    for copy in 0..3 {
        burst.push(frame(driver, 10 + copy, 34));
    }
    let mut shared = driver.share(&payload, 0, 3).unwrap();
    assert!(burst.iter_mut().all(|header| driver.put_behind(header, &mut shared)));
    assert_eq!(driver.transmit(PORT, &mut burst), 3);
    assert_eq!(payload.bytes(), pattern(1, 700));
    drop(payload);
    assert_all_back(&ports);
    drop((ports, drivers));
    let written = frames_of(&output);
    for (copy, written) in written.iter().enumerate() {
        assert_eq!(written, &[pattern(10 + copy, 34), pattern(1, 700)].concat());
    }
    assert_eq!(written.len(), 3);
}

#[test]
fn workers_without_a_queue_send_through_one_that_has() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.pcap");
    let device = format!("{},tx_pcap={}", unique("net_pcap"), output.display());
    let (ports, mut drivers) = open(eal(), &device, 3, 4095);
    assert_eq!(ports.get(PORT).unwrap().tx_queues(), 1);
    let mut sent = 0;
    // Worker 1 sends until its frames are refused: the outbox is full, and order is kept in what is left.
    let left = loop {
        let mut burst: Burst<DpdkFrame> =
            (0..20).map(|index| frame(&mut drivers[1], sent + index, 64)).collect();
        sent += drivers[1].transmit(PORT, &mut burst);
        if !burst.is_empty() {
            break burst;
        }
    };
    assert_eq!(sent, millrace_dpdk::driver::OUTBOX_FRAMES);
    assert_eq!(left[0].bytes(), pattern(sent, 64));
    drop(left);
    // Worker 0 polls, which empties it; so worker 2 has room again.
    while ports.get(PORT).unwrap().stats().unwrap().tx_packets < sent as u64 {
        let before = ports.get(PORT).unwrap().stats().unwrap().tx_packets;
        drivers[0].receive(PORT, &mut Burst::new());
        assert!(ports.get(PORT).unwrap().stats().unwrap().tx_packets > before, "polling sends for others");
    }
    let mut burst: Burst<DpdkFrame> = [frame(&mut drivers[2], sent, 64)].into_iter().collect();
    assert_eq!(drivers[2].transmit(PORT, &mut burst), 1);
    drivers[0].receive(PORT, &mut Burst::new());
    assert_all_back(&ports);
    // Only the worker with the queue receives; the others are told nothing and lose nothing.
    assert_eq!(drivers[2].receive(PORT, &mut Burst::new()), 0);
    drop((ports, drivers));
    let written = frames_of(&output);
    assert_eq!(written.len(), sent + 1);
    for (index, written) in written.iter().enumerate() {
        assert_eq!(written, &pattern(index, 64));
    }
}

//! Ports on kernel interfaces: both ends of a veth pair lie in a network namespace that the test's own thread makes and that
//! vanishes with it. The far end is a plain packet socket. These tests have to run as root and say so if they don't.

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use common::{PORT, assert_all_back, eal, open, pattern, unique};
use millrace_dpdk::{DpdkFrame, LinkWatch};
use millrace_fastpath::driver::{BURST_MAX, Burst, Driver, Frame};
use wire::{ETHERTYPE, Wire};

/// Receive rings and what is on its way: af_xdp alone posts 4,096.
const FRAMES: usize = 8191;
/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An Ethernet frame of ours with `seed` in it.
fn ethernet(seed: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend(pattern(seed, 50 + seed % 1400));
    frame
}

/// Frames pass both ways, unchanged and in order.
fn echo(driver: &str) {
    let wire = Wire::lay();
    let device = format!("{},iface={}", unique(driver), wire.near());
    let (ports, mut drivers) = open(eal(), &device, 1, FRAMES);
    let worker = &mut drivers[0];
    assert_eq!(ports.get(PORT).unwrap().mac(), wire.near_mac());
    let begin = Instant::now();
    while !ports.get(PORT).unwrap().link().up {
        assert!(begin.elapsed() < PATIENCE, "the link of an interface that is up doesn't come up");
    }
    let mut back = Vec::new();
    for seed in 0..40 {
        wire.send(&ethernet(seed));
    }
    while back.len() < 40 {
        assert!(begin.elapsed() < PATIENCE, "only {} frames of 40 came back", back.len());
        let mut burst = Burst::new();
        worker.receive(PORT, &mut burst);
        // The kernel may say things of its own on a new interface.
        burst.retain(|frame| frame.bytes().get(12..14) == Some(&ETHERTYPE.to_be_bytes()));
        for frame in &mut burst {
            assert_eq!((frame.port(), frame.queue(), frame.segments()), (PORT, 0, 1));
            let seed = back.len();
            assert!(seed < 40);
            // A tag in front and the source changed: room and rewriting on real receive buffers.
            assert!(frame.headroom() >= 4, "{} bytes of headroom", frame.headroom());
            frame.bytes_mut()[11] = 2;
        }
        while !burst.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "the port takes no frame");
            worker.transmit(PORT, &mut burst);
        }
        back.extend(wire.receive());
    }
    for (seed, frame) in back.iter().enumerate() {
        let mut expected = ethernet(seed);
        expected[11] = 2;
        assert_eq!(frame, &expected, "frame {seed}");
    }
    let stats = ports.get(PORT).unwrap().stats().unwrap();
    assert!(stats.rx_packets >= 40 && stats.tx_packets >= 40, "{stats:?}");
    assert_eq!((stats.rx_no_buffer, stats.tx_errors), (0, 0));
    let port = ports.get(PORT).unwrap();
    let pool = port.pool();
    assert!(pool.available() <= pool.size());
    drop((ports, drivers));
}

/// Copies that share a payload arrive whole, whatever the device thinks of segments.
fn replicate(driver: &str) {
    let wire = Wire::lay();
    let device = format!("{},iface={}", unique(driver), wire.near());
    let (ports, mut drivers) = open(eal(), &device, 1, FRAMES);
    let worker = &mut drivers[0];
    let payload = common::frame(worker, 5, 900);
    let header = |seed| -> Vec<u8> { ethernet(seed)[..40].to_vec() };
    let mut burst = Burst::new();
    for seed in 0..4 {
        let mut frame = worker.allocate(PORT).unwrap();
        assert!(frame.extend(40));
        frame.bytes_mut().copy_from_slice(&header(seed));
        burst.push(frame);
    }
    let mut shared = worker.share(&payload, 0, 4).unwrap();
    assert!(burst.iter_mut().all(|header| worker.put_behind(header, &mut shared)));
    let begin = Instant::now();
    let mut copies = Vec::new();
    while copies.len() < 4 {
        assert!(begin.elapsed() < PATIENCE, "only {} copies of 4 arrived", copies.len());
        worker.transmit(PORT, &mut burst);
        copies.extend(wire.receive());
    }
    for (seed, copy) in copies.iter().enumerate() {
        assert_eq!(copy, &[header(seed), pattern(5, 900)].concat());
    }
    assert_eq!(payload.bytes(), pattern(5, 900));
    drop((payload, ports, drivers));
}

/// The link goes down, comes up, and vanishes: each is told once, and soon.
fn watch(driver: &str) {
    let wire = Wire::lay();
    let device = format!("{},iface={}", unique(driver), wire.near());
    let (ports, drivers) = open(eal(), &device, 1, FRAMES);
    let begin = Instant::now();
    while !ports.get(PORT).unwrap().link().up {
        assert!(begin.elapsed() < PATIENCE, "the link of an interface that is up doesn't come up");
    }
    let (told, hear) = std::sync::mpsc::channel();
    let watch = LinkWatch::start(ports.clone(), move |id, port, up| {
        let _ = told.send((id, port.name().to_owned(), up));
    })
    .expect("links can be watched");
    let name = ports.get(PORT).unwrap().name().to_owned();
    for up in [false, true, false] {
        wire.set_far(up);
        assert_eq!(hear.recv_timeout(PATIENCE), Ok((PORT, name.clone(), up)));
    }
    wire.set_far(true);
    assert_eq!(hear.recv_timeout(PATIENCE), Ok((PORT, name.clone(), true)));
    wire.cut();
    assert_eq!(hear.recv_timeout(PATIENCE), Ok((PORT, name, false)));
    drop(watch);
    assert!(hear.try_recv().is_err(), "nothing is told twice");
    drop((ports, drivers));
}

/// The interface is deleted under the running port: that is seen, sending is refused or counted, and nothing crashes.
fn vanish(driver: &str) {
    let wire = Wire::lay();
    let device = format!("{},iface={}", unique(driver), wire.near());
    let (ports, mut drivers) = open(eal(), &device, 1, FRAMES);
    let worker = &mut drivers[0];
    assert!(!ports.get(PORT).unwrap().is_removed());
    let fill = |worker: &mut millrace_dpdk::DpdkDriver| -> Burst<DpdkFrame> {
        (0..BURST_MAX)
            .map_while(|seed| worker.allocate(PORT).map(|frame| (seed, frame)))
            .map(|(seed, mut frame)| {
                let bytes = ethernet(seed);
                assert!(frame.extend(bytes.len()));
                frame.bytes_mut().copy_from_slice(&bytes);
                frame
            })
            .collect()
    };
    let mut burst = fill(worker);
    let begin = Instant::now();
    while worker.transmit(PORT, &mut burst) == 0 {
        assert!(begin.elapsed() < PATIENCE, "the port takes no frame");
    }
    drop(burst);
    wire.cut();
    assert!(ports.get(PORT).unwrap().is_removed());
    assert!(!ports.get(PORT).unwrap().link().up);
    let (mut offered, mut refused) = (0, 0);
    let before = ports.get(PORT).unwrap().stats().map(|stats| stats.tx_errors).unwrap_or(0);
    for _ in 0..500 {
        let mut burst = Burst::new();
        assert_eq!(worker.receive(PORT, &mut burst), 0, "nothing comes from an interface that is gone");
        let mut burst = fill(worker);
        offered += burst.len();
        worker.transmit(PORT, &mut burst);
        refused += burst.len();
    }
    let errors = ports.get(PORT).unwrap().stats().map(|stats| stats.tx_errors).unwrap_or(0) - before;
    assert!(offered > 0);
    assert!(refused as u64 + errors > 0, "of {offered} frames to an absent interface none is missing");
    println!("{driver}: offered {offered}, refused {refused}, errors {errors}");
    drop((ports, drivers));
    // And the process goes on with other ports.
    let (ports, drivers) = open(eal(), &unique("net_ring"), 1, 255);
    drop(drivers);
    assert_all_back(&ports);
}

#[test]
fn af_packet_carries_frames_both_ways() {
    echo("net_af_packet");
}

#[test]
fn af_xdp_carries_frames_both_ways() {
    echo("net_af_xdp");
}

#[test]
fn af_packet_sends_copies_whole() {
    replicate("net_af_packet");
}

#[test]
fn af_xdp_sends_copies_whole() {
    replicate("net_af_xdp");
}

#[test]
fn af_packet_survives_its_interface() {
    vanish("net_af_packet");
}

#[test]
fn af_xdp_survives_its_interface() {
    vanish("net_af_xdp");
}

#[test]
fn the_link_of_af_packet_is_watched() {
    watch("net_af_packet");
}

#[test]
fn the_link_of_af_xdp_is_watched() {
    watch("net_af_xdp");
}

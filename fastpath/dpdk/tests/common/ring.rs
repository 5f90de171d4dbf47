//! What holds over `net_ring`, wherever frames lie: the tests of each binary that says with `eal` where that is.

use std::sync::mpsc;
use std::thread;

use millrace_dpdk::{DpdkFrame, PortConfig};
use millrace_fastpath::driver::{BURST_MAX, Burst, Driver, Frame, PortId, RxChecksum};

use crate::common::{PORT, assert_all_back, frame, open, pattern, receive_all, unique};
use crate::eal;

/// Slots of a ring of `net_ring`.
const RING_FRAMES: usize = 1023;

#[test]
fn round_trip() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 511);
    let driver = &mut drivers[0];
    for round in 0..50 {
        let mut burst: Burst<DpdkFrame> =
            (0..BURST_MAX).map(|index| frame(driver, round * 100 + index, 60 + index)).collect();
        assert_eq!(driver.transmit(PORT, &mut burst), BURST_MAX);
        assert!(burst.is_empty());
        let frames = receive_all(driver);
        assert_eq!(frames.len(), BURST_MAX);
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(frame.bytes(), pattern(round * 100 + index, 60 + index));
            assert_eq!((frame.port(), frame.queue()), (PORT, 0));
            assert_eq!((frame.segments(), frame.total_len()), (1, 60 + index));
            assert_eq!(frame.references(), 1);
            assert_eq!(
                (frame.ip_checksum(), frame.l4_checksum()),
                (RxChecksum::Unknown, RxChecksum::Unknown)
            );
        }
    }
    let stats = ports.get(PORT).unwrap().stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (50 * BURST_MAX as u64, 50 * BURST_MAX as u64));
    assert!(ports.get(PORT).unwrap().link().up && !ports.get(PORT).unwrap().is_removed());
    assert_all_back(&ports);
}

#[test]
fn a_burst_is_topped_up() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 511);
    let driver = &mut drivers[0];
    for seed in 0..2 {
        let mut burst: Burst<DpdkFrame> = (0..BURST_MAX).map(|_| frame(driver, seed, 64)).collect();
        assert_eq!(driver.transmit(PORT, &mut burst), BURST_MAX);
    }
    let mut burst: Burst<DpdkFrame> = (0..30).map(|_| frame(driver, 9, 64)).collect();
    assert_eq!(driver.receive(PORT, &mut burst), 2);
    assert_eq!(driver.receive(PORT, &mut burst), 0);
    assert_eq!(burst[29].bytes(), pattern(9, 64));
    assert_eq!(burst[30].bytes(), pattern(0, 64));
    driver.free_burst(&mut burst);
    assert!(burst.is_empty());
    assert_eq!(receive_all(driver).len(), 2 * BURST_MAX - 2);
    assert_all_back(&ports);
}

#[test]
fn a_full_port_leaves_frames_with_the_caller() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 2047);
    let driver = &mut drivers[0];
    let mut seed = 0;
    let mut accepted = 0;
    let left = loop {
        let mut burst: Burst<DpdkFrame> =
            (0..BURST_MAX).map(|index| frame(driver, seed + index, 64)).collect();
        seed += BURST_MAX;
        let taken = driver.transmit(PORT, &mut burst);
        assert_eq!(burst.len(), BURST_MAX - taken);
        accepted += taken;
        if !burst.is_empty() {
            break burst;
        }
    };
    assert_eq!(accepted, RING_FRAMES);
    for (index, frame) in left.iter().enumerate() {
        assert_eq!(frame.bytes(), pattern(accepted + index, 64), "refused frames keep order and content");
    }
    drop(left);
    let frames = receive_all(driver);
    assert_eq!(frames.len(), accepted);
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.bytes(), pattern(index, 64));
    }
    drop(frames);
    assert_all_back(&ports);
}

#[test]
fn an_empty_pool_gives_none() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 15);
    let driver = &mut drivers[0];
    let mut frames: Vec<_> = (0..15).map(|index| frame(driver, index, 64)).collect();
    assert!(driver.allocate(PORT).is_none());
    let payload = frames.pop().unwrap();
    let mut header = frames.pop().unwrap();
    // What others refer to the payload with is a buffer.
    assert!(driver.share(&payload, 0, 1).is_none());
    assert_eq!(payload.references(), 1);
    driver.free(frames.pop().unwrap());
    let mut shared = driver.share(&payload, 0, 1).unwrap();
    assert!(driver.put_behind(&mut header, &mut shared));
    assert_eq!((header.segments(), header.total_len(), payload.references()), (2, 128, 2));
    assert!(driver.allocate(PORT).is_none());
    drop((frames, payload, header, shared));
    assert_all_back(&ports);
}

#[test]
fn many_are_taken_and_shared_at_once() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 15);
    let driver = &mut drivers[0];
    let mut payload = frame(driver, 1, 1000);
    let mut burst = Burst::new();
    // As many as there are, and each of them empty and the port's.
    assert_eq!(driver.allocate_all(PORT, 4, &mut burst), 4);
    assert_eq!(driver.allocate_all(PORT, 12, &mut burst), 10);
    assert_eq!((burst.len(), driver.allocate_all(PORT, 1, &mut burst)), (14, 0));
    let refers_with = burst.pop().unwrap();
    driver.free(refers_with);
    for (copy, header) in burst.iter_mut().enumerate() {
        assert_eq!((header.bytes().len(), header.segments(), header.port()), (0, 1, PORT));
        assert!(header.extend(40));
        header.bytes_mut().copy_from_slice(&pattern(50 + copy, 40));
    }
    // More than there is can't be shared, and not by nobody.
    assert!(driver.share(&payload, 1001, 13).is_none() && driver.share(&payload, 58, 0).is_none());
    let mut shared = driver.share(&payload, 58, 13).unwrap();
    assert!(burst.iter_mut().all(|header| driver.put_behind(header, &mut shared)));
    // One for all of them.
    assert_eq!((payload.references(), payload.segments()), (2, 1));
    for (copy, whole) in burst.iter().enumerate() {
        assert_eq!((whole.segments(), whole.total_len()), (2, 40 + 942));
        assert_eq!(whole.bytes(), pattern(50 + copy, 40));
    }
    assert_eq!(burst[0].references(), 13);
    // It was said how many they are.
    assert!(!driver.put_behind(&mut payload, &mut shared));
    drop(shared);
    let whole = burst.pop().unwrap();
    assert_eq!(driver.transmit(PORT, &mut burst), 12);
    // What stands in front of it is the frame's own, whoever else still refers to what is behind.
    payload.bytes_mut()[..58].fill(7);
    assert!(payload.prepend(4));
    burst.push(payload);
    assert_eq!(driver.transmit(PORT, &mut burst), 1);
    drop(whole);
    let mut frames = receive_all(driver);
    assert_eq!(frames.len(), 13);
    let last = frames.pop().unwrap();
    assert_eq!((last.bytes().len(), &last.bytes()[4..62], last.references()), (1004, &[7; 58][..], 2));
    assert_eq!(last.bytes()[62..], pattern(1, 1000)[58..]);
    driver.free(last);
    drop(frames);
    assert_all_back(&ports);
}

#[test]
fn what_has_several_segments_is_shared_as_well() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 31);
    let driver = &mut drivers[0];
    let mut frame_of_two = frame(driver, 1, 100);
    assert!(frame_of_two.attach(&frame(driver, 2, 900)));
    let mut headers: Burst<_> = (0..3).map(|copy| frame(driver, 50 + copy, 40)).collect();
    let mut shared = driver.share(&frame_of_two, 30, 3).unwrap();
    assert!(headers.iter_mut().all(|header| driver.put_behind(header, &mut shared)));
    // Of a segment that has nothing else in it there is nothing to share.
    let mut last = frame(driver, 60, 40);
    let mut second = driver.share(&frame_of_two, 100, 1).unwrap();
    // What has a payload already gets no other.
    assert!(!driver.put_behind(&mut headers[0], &mut second));
    assert!(driver.put_behind(&mut last, &mut second));
    assert_eq!((last.segments(), last.total_len(), last.bytes().len()), (2, 40 + 900, 40));
    drop((frame_of_two, shared, second));
    for whole in &headers {
        assert_eq!((whole.segments(), whole.total_len(), whole.bytes().len()), (3, 40 + 70 + 900, 40));
    }
    headers.push(last);
    assert_eq!(driver.transmit(PORT, &mut headers), 4);
    drop(receive_all(driver));
    assert_all_back(&ports);
}

#[test]
fn what_is_not_put_behind_anything_is_given_back() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 31);
    let driver = &mut drivers[0];
    let mut frame_of_two = frame(driver, 1, 100);
    assert!(frame_of_two.attach(&frame(driver, 2, 900)));
    let frame_of_one = frame(driver, 3, 700);
    // The last to let go are those whom it stands behind, or it is who shared it; of one segment, or two.
    for (original, carried_last) in
        [(&frame_of_two, true), (&frame_of_two, false), (&frame_of_one, true), (&frame_of_one, false)]
    {
        let mut shared = driver.share(original, 10, 4).unwrap();
        let mut headers: Vec<_> = (0..2).map(|copy| frame(driver, copy, 40)).collect();
        assert!(headers.iter_mut().all(|header| driver.put_behind(header, &mut shared)));
        if carried_last {
            // A second segment is the frame's as well.
            let own = original.segments() - 1;
            assert_eq!(headers[0].references(), own + 4);
            drop(shared);
            assert_eq!(headers[0].references(), own + 2);
            drop(headers);
        } else {
            drop(headers);
            drop(shared);
        }
        assert_eq!(original.references(), 1);
    }
    drop((frame_of_one, frame_of_two));
    assert_all_back(&ports);
}

#[test]
fn payload_is_shared_and_counted() {
    let eal = eal();
    const COPIES: usize = 5;
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 511);
    assert!(ports.get(PORT).unwrap().capabilities().multi_segment_tx, "net_ring sends several segments");
    let driver = &mut drivers[0];
    let mut payload = frame(driver, 1, 1000);
    // A frame that was received has lost its old header.
    assert!(payload.trim_front(14));
    assert_eq!(payload.references(), 1);
    let mut burst = Burst::new();
    for copy in 0..COPIES {
        let mut whole = frame(driver, 50 + copy, 40);
        assert!(whole.attach(&payload));
        assert_eq!(payload.references(), copy + 2);
        assert_eq!(whole.references(), copy + 2);
        assert_eq!((whole.segments(), whole.total_len(), whole.bytes().len()), (2, 40 + 986, 40));
        burst.push(whole);
    }
    assert_eq!(driver.transmit(PORT, &mut burst), COPIES);
    let payload_bytes = payload.bytes().to_vec();
    drop(payload);
    let mut frames = receive_all(driver);
    assert_eq!(frames.len(), COPIES);
    for (copy, frame) in frames.iter_mut().enumerate() {
        assert_eq!(frame.bytes(), pattern(50 + copy, 40));
        assert_eq!((frame.references(), frame.segments(), frame.total_len()), (COPIES, 2, 40 + 986));
        // What would need the last segment's end is refused, what needs the front isn't.
        assert!(!frame.extend(1) && !frame.truncate(39));
        assert!(frame.prepend(4) && frame.trim_front(24));
        assert_eq!((frame.bytes().len(), frame.total_len()), (20, 20 + 986));
    }
    // The payload itself can become the front of another frame, and is still the same bytes.
    let port = ports.get(PORT).unwrap();
    let pool = port.pool();
    let held = pool.size() - pool.available();
    assert_eq!(held, COPIES + 1, "a header each, and the payload once");
    let last = frames.pop().unwrap();
    drop(frames);
    assert_eq!(last.references(), 1);
    assert_eq!(pool.size() - pool.available(), 2);
    drop(last);
    assert_eq!(payload_bytes, pattern(1, 1000)[14..]);
    assert_all_back(&ports);
}

#[test]
fn workers_have_queues_of_their_own() {
    let eal = eal();
    const WORKERS: u16 = 4;
    let (ports, drivers) = open(eal, &unique("net_ring"), WORKERS, 4095);
    assert_eq!(
        (ports.get(PORT).unwrap().rx_queues(), ports.get(PORT).unwrap().tx_queues()),
        (WORKERS, WORKERS)
    );
    let (give, take) = mpsc::channel();
    thread::scope(|scope| {
        for (worker, mut driver) in drivers.into_iter().enumerate() {
            let give = give.clone();
            scope.spawn(move || {
                let _registered = eal.register_thread().expect("identities are left");
                for round in 0..200 {
                    let mut burst: Burst<DpdkFrame> =
                        (0..8).map(|index| frame(&mut driver, worker * 1000 + index, 64 + round)).collect();
                    assert_eq!(driver.transmit(PORT, &mut burst), 8);
                    let frames = receive_all(&mut driver);
                    assert_eq!(
                        frames.len(),
                        8,
                        "a worker gets what came on its queue, all of it, and nothing else"
                    );
                    for (index, frame) in frames.into_iter().enumerate() {
                        assert_eq!(frame.bytes(), pattern(worker * 1000 + index, 64 + round));
                        assert_eq!(usize::from(frame.queue()), worker);
                        if index == 0 {
                            give.send(frame).unwrap();
                        }
                    }
                }
                driver
            });
        }
        drop(give);
        // Freed by a thread that DPDK knows nothing of.
        assert_eq!(take.iter().map(drop).count(), usize::from(WORKERS) * 200);
    });
    assert_all_back(&ports);
}

#[test]
fn a_port_can_be_opened_again() {
    let eal = eal();
    let device = unique("net_ring");
    for seed in 0..3 {
        let (ports, mut drivers) = open(eal, &device, 2, 255);
        let mut burst: Burst<DpdkFrame> = [frame(&mut drivers[1], seed, 64)].into_iter().collect();
        assert_eq!(drivers[1].transmit(PORT, &mut burst), 1);
        assert_eq!(receive_all(&mut drivers[1]).len(), 1);
        assert_all_back(&ports);
    }
}

#[test]
fn a_frame_may_outlive_its_port() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 1, 255);
    let mut survivor = frame(&mut drivers[0], 3, 100);
    drop((ports, drivers));
    assert_eq!(survivor.bytes(), pattern(3, 100));
    survivor.bytes_mut().fill(0xee);
    drop(survivor);
}

#[test]
fn ports_come_and_go_while_drivers_are_used() {
    let eal = eal();
    let (ports, mut drivers) = open(eal, &unique("net_ring"), 2, 511);
    let (first, late) = (PORT, PortId(1));
    let opened = ports.open_more(&[PortConfig::new("late", &unique("net_ring"))]).unwrap();
    let mac = opened.iter().next().unwrap().mac();
    opened.hand_out();
    assert_eq!(drivers[0].ports(), 1, "nobody has looked yet");
    for driver in &mut drivers {
        driver.renew();
        assert_eq!(driver.ports(), 2);
    }
    assert_eq!(ports.get(late).unwrap().mac(), mac);
    let driver = &mut drivers[0];
    let mut burst: Burst<DpdkFrame> = (0..4).map(|seed| frame(driver, seed, 64)).collect();
    assert_eq!(driver.transmit(late, &mut burst), 4);
    assert_eq!(driver.receive(late, &mut burst), 4);
    assert!(burst.iter().all(|frame| frame.port() == late));

    ports.close(late);
    assert_eq!(ports.collect(), 2, "both workers have it yet");
    drivers[0].renew();
    assert_eq!(ports.collect(), 1);
    drivers[1].renew();
    assert_eq!(ports.collect(), 0);
    assert!(ports.get(late).is_none() && ports.iter().count() == 1);
    let driver = &mut drivers[0];
    assert_eq!((driver.transmit(late, &mut burst), burst.len()), (0, 4), "a closed port takes nothing");
    driver.free_burst(&mut burst);
    assert_eq!(driver.receive(late, &mut burst), 0);
    assert!(driver.allocate(late).is_none());
    assert_eq!(driver.receive(first, &mut burst), 0, "the other one is still there");
    // Dropped before it was handed out, it leaves its device's name to the next.
    let device = unique("net_ring");
    drop(ports.open_more(&[PortConfig::new("never", &device)]).unwrap());
    ports.open_more(&[PortConfig::new("later", &device)]).unwrap().hand_out();
    drivers.iter_mut().for_each(Driver::renew);
    assert_eq!((drivers[0].ports(), ports.get(PortId(2)).is_some()), (3, true));
    drop(drivers);
    assert_all_back(&ports);
}

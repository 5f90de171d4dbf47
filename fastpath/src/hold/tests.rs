use super::*;
use crate::addr::Addr;
use crate::clock::Nanos;
use crate::event::Trigger;

fn line(service: u16) -> Line {
    Line::of(ServiceId(service), Held::FirstPacket, Meta::default().destination.is_v4())
}

fn from(source: u32) -> Meta {
    Meta { source: Addr::v4(source.to_be_bytes()), source_port: 1000, protocol: 6, ..Meta::default() }
}

fn parking<'a>(meta: &'a Meta, service: u16, bytes: &'a [u8]) -> Parking<'a> {
    Parking {
        service: ServiceId(service),
        query_id: 0,
        held: Held::FirstPacket,
        trigger: Trigger::Syn,
        meta,
        bytes,
        deadline: Nanos(u64::from(meta.source.0 as u32)),
        asked: true,
        service_max: 4,
    }
}

#[test]
fn oldest_first_and_a_repeated_packet_keeps_its_place() {
    let mut holds = Holds::new(8, 8);
    for (source, bytes) in [(1, &b"one"[..]), (2, b"two"), (3, b"three")] {
        assert_eq!(holds.park(&parking(&from(source), 0, bytes)), Ok(Parked::Held));
    }
    let long = [7u8; 1400];
    assert_eq!(holds.park(&parking(&from(1), 0, &long)), Ok(Parked::Replaced));
    assert_eq!(holds.len(), 3);
    assert_eq!(holds.head_bytes(line(0)), Some(&long[..]));
    let order: Vec<u64> = std::iter::from_fn(|| holds.pop(line(0))).map(|held| held.deadline.0).collect();
    assert_eq!(order, [1, 2, 3]);
    assert!(holds.is_empty() && holds.active() == 0);
}

#[test]
fn every_bound_refuses_and_comes_back() {
    let mut holds = Holds::new(6, 3);
    let far = |n: u32| n << 8; // one per /24
    for n in 1..=4 {
        assert_eq!(holds.park(&parking(&from(far(n)), 0, b"x")), Ok(Parked::Held));
    }
    assert_eq!(holds.park(&parking(&from(far(5)), 0, b"x")), Err(Refusal::ServiceFull));
    assert_eq!(holds.park(&parking(&from(far(5)), 1, b"x")), Ok(Parked::Held));
    assert_eq!(holds.park(&parking(&from(far(6)), 1, b"x")), Ok(Parked::Held));
    assert_eq!(holds.park(&parking(&from(far(7)), 1, b"x")), Err(Refusal::WorkerFull));
    assert_eq!(holds.park(&parking(&from(far(7)), 2, &[0; 1600])), Err(Refusal::TooLong));
    while holds.pop(line(0)).is_some() || holds.pop(line(1)).is_some() {}
    for n in 0..3 {
        assert_eq!(holds.park(&parking(&from(far(9) + n), 0, b"x")), Ok(Parked::Held));
    }
    assert_eq!(holds.park(&parking(&from(far(9) + 3), 0, b"x")), Err(Refusal::PrefixFull));
}

#[test]
fn large_places_run_out_before_small_ones_and_nothing_leaks() {
    let mut holds = Holds::new(16, 16);
    for round in 0..3 {
        assert_eq!(holds.park(&parking(&from(1), 0, &[1; 1000])), Ok(Parked::Held), "round {round}");
        assert_eq!(holds.park(&parking(&from(2), 0, &[1; 1000])), Ok(Parked::Held));
        assert_eq!(holds.park(&parking(&from(3), 0, &[1; 1000])), Err(Refusal::WorkerFull));
        assert_eq!(holds.park(&parking(&from(3), 0, &[1; 100])), Ok(Parked::Held));
        while holds.pop(line(0)).is_some() {}
    }
}

#[test]
fn holding_and_releasing_allocates_nothing() {
    let mut holds = Holds::new(512, 512);
    let measured = allocation_counter::measure(|| {
        for round in 0..200u32 {
            for n in 0..300 {
                let meta = from((round * 300 + n) << 8);
                let mut parking = parking(&meta, (n % 100) as u16, b"abc");
                parking.service_max = 512;
                assert_eq!(holds.park(&parking), Ok(Parked::Held));
            }
            for service in 0..100 {
                while holds.pop(line(service)).is_some() {}
            }
        }
    });
    assert_eq!((measured.count_total, measured.count_current), (0, 0));
}

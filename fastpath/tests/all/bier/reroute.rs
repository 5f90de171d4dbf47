//! Ports that go down: the next burst goes by what stands ready, and comes back with the port.

use millrace_bier::bift::given::{Given, Row, build};
use millrace_bier::bift::{LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::forward::Down;
use millrace_bier::plane::{AnyBift, Plane};
use millrace_fastpath::driver::{BURST_MAX, PortId};

use super::*;

/// Gives neighbours a place on the WAN.
fn move_to_wan(bench: &mut Bench, numbers: &[u8]) {
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    for number in numbers {
        let (via, mac) = neighbour_of(*number);
        bench.tables.neighbours.insert(WAN_IF, via, mac);
        put_on(&mut bier.links[usize::from(*number)], WAN_IF);
    }
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

/// Whom the frames that left went to, by port, and how many each got.
fn receivers(bench: &Bench) -> Vec<(PortId, [u8; 6], usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for port in [WAN, LAN] {
        for frame in bench.sent(port) {
            *counts.entry((port, <[u8; 6]>::try_from(&frame[..6]).unwrap())).or_default() += 1;
        }
    }
    counts.into_iter().map(|((port, mac), count)| (port, mac, count)).collect()
}

/// Neighbour 1 is on the WAN, with 0 on the LAN standing in; 2 is on the WAN with nobody.
fn bench_with_backup() -> Bench {
    let mut bench = bench(Bsl::B64, &[&[1], &[2], &[3], &[4]]);
    move_to_wan(&mut bench, &[1, 2]);
    bench
}

#[test]
fn a_port_that_goes_down_sends_the_next_burst_by_the_backup_and_the_others_on() {
    let mut bench = bench_with_backup();
    let [p0, p1, p2, p3] = [0, 1, 2, 3].map(|number| neighbour_of(number).1);
    let bursts = 6;
    for _ in 0..bursts * BURST_MAX {
        bench.deliver(WAN, &packet(Bsl::B64, &[1, 2, 3, 4], 9, &[0x45; 300]));
    }
    let burst = |bench: &mut Bench| {
        bench.workers[0].poll();
        receivers(bench)
    };
    let up = [(WAN, p1, BURST_MAX), (WAN, p2, BURST_MAX), (LAN, p0, BURST_MAX), (LAN, p3, BURST_MAX)];
    assert_eq!(burst(&mut bench), up);
    bench.shared.set_port_down(WAN, true);
    let down = [(LAN, p0, BURST_MAX), (LAN, p3, BURST_MAX)];
    assert_eq!(burst(&mut bench), down, "the very next burst");
    assert_eq!(lost(&bench, Loss::Unroutable), BURST_MAX as u64, "who has no backup is counted");
    // Tables that are published meanwhile know of it, with flags of their own, too.
    bench.publish();
    assert_eq!(burst(&mut bench), down);
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.down = vec![(SubDomain(0), Arc::new(Down::new(4)))];
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    assert_eq!(burst(&mut bench), down);
    bench.shared.set_port_down(WAN, false);
    assert_eq!(burst(&mut bench), up, "and back");
    bench.run();
    bench.sent(WAN);
    bench.sent(LAN);
    bench.check_laws();
}

#[test]
fn a_copy_that_moves_joins_the_one_that_its_backup_gets_anyway() {
    let mut bench = bench_with_backup();
    bench.shared.set_port_down(WAN, true);
    let payload = [0x45; 400];
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[1, 2, 3, 4], 9, &payload));
    assert_eq!(copies(&bench, Bsl::B64), [copy(0, 8, &[1, 2], &payload), copy(3, 8, &[4], &payload)]);
    // Nobody is left.
    bench.shared.set_port_down(LAN, true);
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[1, 2, 3, 4], 9, &payload));
    assert_eq!((copies(&bench, Bsl::B64), bench.drops(NodeId::Bier, "no-route")), (vec![], 1));
    bench.check_laws();
}

#[test]
fn of_parallel_links_those_that_are_up_are_used() {
    let mut bench = bench(Bsl::B64, &[&[1], &[2]]);
    move_to_wan(&mut bench, &[1]);
    let links = Reach::Links([LinkId(0), LinkId(1)].into());
    let neighbours = [(Neighbour { prefix: [192, 0, 2, 0].into(), reach: links }, BiftIds::Static)];
    let rows =
        [Row { neighbour: NeighbourIndex(0), bfr_ids: BfrId::new(1).into_iter().collect(), backup: None }];
    let given = Given {
        sub_domain: SubDomain(0),
        bsl: Bsl::B64,
        own: None,
        tables: 1,
        seed: 0,
        neighbours: &neighbours,
        rows: &rows,
    };
    let tables = build(&given).unwrap().into_iter().map(|bift| AnyBift::Bier(Arc::new(bift))).collect();
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.plane = Plane::new(BiftIds::Static, tables).unwrap();
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    let used = |bench: &mut Bench| {
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[1], 9, b"payload"));
        receivers(bench)
    };
    let first = used(&mut bench);
    let [(port, ..)] = first[..] else { panic!("{first:?}") };
    let other = if port == WAN { (LAN, neighbour_of(0).1, 1) } else { (WAN, neighbour_of(1).1, 1) };
    bench.shared.set_port_down(port, true);
    assert_eq!(used(&mut bench), [other]);
    bench.shared.set_port_down(other.0, true);
    assert_eq!((used(&mut bench), lost(&bench, Loss::Unroutable)), (vec![], 1));
    bench.shared.set_port_down(port, false);
    assert_eq!(used(&mut bench), first);
    bench.check_laws();
}

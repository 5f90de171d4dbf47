//! As many copies as there are neighbours, buffers and ports for, and what becomes of the others.

use millrace_bier::bift::given::{Given, Row, build};
use millrace_bier::bift::{LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::plane::AnyBift;
use millrace_fastpath::driver::{Driver, PortId};
use millrace_fastpath::tables::bier::Link;
use millrace_fastpath::tables::interfaces::Interface;

use super::*;

/// However few buffers there are, as many copies are made as can be: each but the last of a packet needs one, and those of a long
/// one that they refer to its payload with. Nothing else is lost than copies.
#[test]
fn with_few_buffers_as_many_copies_are_made_as_can_be() {
    const COPIES: usize = 12;
    let short = |left: usize| left.min(2 * (COPIES - 1));
    let long = |left: usize| {
        [1, 1 + COPIES].map(|gone| left.saturating_sub(gone).min(COPIES - 1)).into_iter().sum::<usize>()
    };
    let ids: Vec<u16> = (10..10 + COPIES as u16).collect();
    let rows: Vec<&[u16]> = ids.chunks(1).collect();
    // Of a string with a bit that leads nowhere more has to be found out.
    for (beyond, size) in [(&[][..], 100), (&[], 700), (&[99], 100), (&[99], 700)] {
        for left in 0..30 {
            let mut bench = bench(Bsl::B128, &rows);
            on_both_ports(&mut bench, COPIES as u8);
            let frame = packet(Bsl::B128, &[&ids[..], beyond].concat(), 9, &vec![0x45; size]);
            bench.deliver(WAN, &frame);
            bench.deliver(WAN, &frame);
            let (mut driver, taken) = bench.leave(left);
            bench.run();
            let made = 2 + if size > 256 { long(left) } else { short(left) };
            let sent = [bench.sent(WAN), bench.sent(LAN)].concat();
            let whole = sent.iter().filter(|frame| frame.len() == 14 + len(Bsl::B128) + size).count();
            assert_eq!((sent.len(), whole), (made, made), "{left} buffers, {size} bytes");
            assert_eq!(
                lost(&bench, Loss::NoBuffer) as usize,
                2 * COPIES - made,
                "{left} buffers, {size} bytes"
            );
            assert_eq!((bench.fates().replicated, bench.fates().copies), (2, made as u64));
            taken.into_iter().for_each(|frame| driver.free(frame));
            bench.check_laws();
        }
    }
}

/// What is for us needs a buffer as well: it isn't missing while another port has some in store.
#[test]
fn what_is_taken_ahead_for_a_port_is_there_for_all() {
    let ids: Vec<u16> = (10..14).collect();
    let rows: Vec<&[u16]> = ids.chunks(1).collect();
    let mut bench = bench(Bsl::B64, &rows);
    let payload = ipv4("232.1.1.1", 9);
    for _ in 0..7 {
        bench.deliver(WAN, &packet(Bsl::B64, &ids, 9, &payload));
    }
    bench.deliver(WAN, &packet(Bsl::B64, &[OURS], 9, &payload));
    // Three for each of those that pass, and one for each who listens.
    let (mut driver, taken) = bench.leave(7 * 3 + 2);
    bench.run();
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::NoBuffer)), (7 * 4 + 2, 0));
    taken.into_iter().for_each(|frame| driver.free(frame));
    bench.check_laws();
}

/// A port that isn't there: its copies are lost by name, and the others aren't.
#[test]
fn copies_for_a_port_that_is_not_there_are_lost_by_name() {
    for (ids, size) in
        [(&[10_u16, 11][..], 100), (&[10, 11], 700), (&[10], 100), (&[11, 99], 700), (&[10, 99], 700)]
    {
        let mut bench = bench(Bsl::B128, &[&[10], &[11]]);
        let interface = |(id, interface): (InterfaceId, &Interface)| {
            let port = if id == LAN_IF { PortId(7) } else { interface.port };
            (id, Interface { port, ..interface.clone() })
        };
        let interfaces = &bench.tables.interfaces;
        let list: Vec<_> = interfaces.iter().map(interface).collect();
        bench.tables.interfaces = Arc::new(Interfaces::with_ids(list, interfaces.locals()));
        // The second one is on the WAN, the first nowhere.
        let (via, mac) = neighbour_of(1);
        bench.tables.neighbours.insert(WAN_IF, via, mac);
        let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
        bier.links[1] = Link::Beside { interface: WAN_IF, via, carriage: Carriage::NonMpls };
        bier.resolve(&bench.tables);
        bench.tables.bier = Some(Arc::new(bier));
        bench.publish();
        let frame = packet(Bsl::B128, ids, 9, &vec![0x45; size]);
        bench.deliver_and_run(WAN, &frame);
        let (gone, there) = (u64::from(ids.contains(&10)), u64::from(ids.contains(&11)));
        let sent = bench.sent(WAN);
        assert!(sent.iter().all(|sent| sent.len() == frame.len()));
        assert_eq!(
            (sent.len() as u64, lost(&bench, Loss::NoInterface)),
            (there, gone),
            "{ids:?}, {size} bytes"
        );
        assert_eq!((bench.fates().replicated, bench.drops(NodeId::Bier, "lost")), (there, 1 - there));
        bench.check_laws();
    }
}

/// Puts the first half of so many neighbours on the WAN.
fn on_both_ports(bench: &mut Bench, neighbours: u8) {
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    for number in 0..neighbours / 2 {
        let (via, mac) = neighbour_of(number);
        bench.tables.neighbours.insert(WAN_IF, via, mac);
        bier.links[usize::from(number)] =
            Link::Beside { interface: WAN_IF, via, carriage: Carriage::NonMpls };
    }
    bier.resolve(&bench.tables);
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
}

/// More copies than most tables have neighbours, and than a burst has frames.
#[test]
fn a_packet_becomes_hundreds_of_copies() {
    let mut bench = bench(Bsl::B512, &[&[1]]);
    let neighbours: Vec<_> = (0..300_u16)
        .map(|_| {
            let reach = Reach::Links([LinkId(0)].into());
            (Neighbour { prefix: [192, 0, 2, 1].into(), reach }, BiftIds::Static)
        })
        .collect();
    let rows: Vec<_> = (0..300)
        .map(|number| Row {
            neighbour: NeighbourIndex(number),
            bfr_ids: BfrId::new(number + 10).into_iter().collect(),
            backup: None,
        })
        .collect();
    let (sub_domain, bsl) = (SubDomain(0), Bsl::B512);
    for tables in [1, 4] {
        let given =
            Given { sub_domain, bsl, own: None, tables, seed: 0, neighbours: &neighbours, rows: &rows };
        let tables = build(&given).unwrap().into_iter().map(|bift| AnyBift::Bier(Arc::new(bift))).collect();
        install(&mut bench, BiftIds::Static, tables, &[Carriage::NonMpls]);
        for (count, size) in
            [1, 33, 34, 65, 256, 257, 300].into_iter().flat_map(|count| [(count, 100), (count, 700)])
        {
            let ids: Vec<u16> = (10..10 + count).collect();
            bench.deliver_and_run(WAN, &packet(bsl, &ids, 9, &vec![0x45; size]));
            let mut reached: Vec<_> = copies(&bench, bsl).into_iter().flat_map(|copy| copy.ids).collect();
            reached.sort_unstable();
            assert_eq!(reached, ids, "{size} bytes");
            bench.check_laws();
        }
    }
}

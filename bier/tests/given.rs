//! Rows by hand: what they make, and everything that can be wrong with them.

use millrace_bier::bift::given::{Given, Row, RowError, build, build_on_ports};
use millrace_bier::bift::{LinkId, Neighbour, NeighbourIndex, Reach};
use millrace_bier::bift_id::{BiftId, BiftIdMap, BiftIds};
use millrace_bier::bits::BitString;
use millrace_bier::forward::{Down, Packet, Part};
use millrace_bier::id::{BfrId, BiftKey, Bsl, Si, SubDomain};

fn neighbour(last: u8) -> Neighbour {
    Neighbour { prefix: [192, 0, 2, last].into(), reach: Reach::Links([LinkId(u32::from(last))].into()) }
}

fn ids(numbers: impl IntoIterator<Item = u16>) -> Vec<BfrId> {
    numbers.into_iter().filter_map(BfrId::new).collect()
}

fn row(neighbour: u16, numbers: &[u16], backup: Option<u16>) -> Row {
    let backup = backup.map(NeighbourIndex);
    Row { neighbour: NeighbourIndex(neighbour), bfr_ids: ids(numbers.iter().copied()), backup }
}

/// Two neighbours; this router is number 5, bit strings have 64 bits.
fn given<'a>(neighbours: &'a [(Neighbour, BiftIds)], rows: &'a [Row], tables: usize) -> Given<'a> {
    let (sub_domain, bsl, own) = (SubDomain(0), Bsl::B64, BfrId::new(5));
    Given { sub_domain, bsl, own, tables, seed: 0, neighbours, rows }
}

fn copies(bift: &millrace_bier::bift::Bift, bits: u64, entropy: u32, down: &Down) -> Vec<(u16, u64)> {
    let mut copies = Vec::new();
    let packet = Packet { bits: &[bits], ttl: 9, entropy };
    let outcome = bift.forward(packet, down, |part| match part {
        Part::Copy { neighbour, bits } => copies.push((neighbour.0, bits[0])),
        Part::Local => copies.push((u16::MAX, 0)),
        Part::Unroutable(bits) => copies.push((u16::MAX - 1, bits[0])),
    });
    assert!(!outcome.expired());
    copies.sort_unstable();
    copies
}

#[test]
fn rows_make_a_table_for_each_set() {
    let neighbours = [(neighbour(2), BiftIds::Static), (neighbour(3), BiftIds::Static)];
    let rows = [row(0, &[1, 2, 8], None), row(1, &[3, 66, 67, 68], Some(0))];
    let bifts = build(&given(&neighbours, &rows, 4)).unwrap();
    let sets: Vec<_> = bifts.iter().map(|bift| bift.key().si.0).collect();
    assert_eq!(sets, [0, 1]);
    let down = Down::new(2);
    assert_eq!(
        copies(&bifts[0], 0b1111_1111, 0, &down),
        [(0, 0b1000_0011), (1, 0b100), (u16::MAX - 1, 0b0110_1000), (u16::MAX, 0)]
    );
    assert_eq!(copies(&bifts[1], 0b1110, 0, &down), [(1, 0b1110)]);
    assert_eq!(bifts[1].out(NeighbourIndex(1)), Some(BiftId::static_form(bifts[1].key())));
    // The backup takes over; rows without one have no way.
    down.set(NeighbourIndex(1), true);
    assert_eq!(copies(&bifts[0], 0b0111, 0, &down), [(0, 0b0111)]);
    down.set(NeighbourIndex(1), false);
    down.set(NeighbourIndex(0), true);
    assert_eq!(copies(&bifts[0], 0b0111, 0, &down), [(1, 0b100), (u16::MAX - 1, 0b011)]);
}

#[test]
fn rows_of_one_port_go_to_their_backups_together() {
    let neighbours: Vec<_> = (0..4).map(|last| (neighbour(last), BiftIds::Static)).collect();
    let rows = [row(0, &[1], Some(1)), row(1, &[2], Some(2)), row(2, &[3], None), row(3, &[4], Some(2))];
    // 0 and 1 are on one port, so 1 can't stand in for 0.
    let port = |neighbour: NeighbourIndex| u32::from(neighbour.0.max(1));
    let bift = build_on_ports(&given(&neighbours, &rows, 1), port).unwrap().remove(0);
    let down = Down::new(4);
    for neighbour in [0, 1] {
        down.set(NeighbourIndex(neighbour), true);
        assert_eq!(copies(&bift, 0b1111, 0, &down), [(2, 0b0110), (3, 0b1000), (u16::MAX - 1, 0b0001)]);
        let lost = bift.unprotected(NeighbourIndex(neighbour));
        assert_eq!(lost.words(), [if neighbour == 0 { 0b1 } else { 0 }]);
    }
    // One that no bit leads to changes nothing.
    let idle = build(&given(&neighbours, &rows[1..], 1)).unwrap().remove(0);
    let down = Down::new(4);
    for neighbour in [0, 1] {
        down.set(NeighbourIndex(neighbour), true);
    }
    assert_eq!(copies(&idle, 0b1110, 0, &down), [(2, 0b0110), (3, 0b1000)]);
}

#[test]
fn a_router_in_two_rows_has_two_equal_ways() {
    let neighbours = [(neighbour(2), BiftIds::Static), (neighbour(3), BiftIds::Static)];
    let rows = [row(0, &[1, 2], None), row(1, &[2], None)];
    let bift = build(&given(&neighbours, &rows, 2)).unwrap().remove(0);
    let down = Down::default();
    let ways: std::collections::BTreeSet<_> =
        (0..64).map(|entropy| copies(&bift, 0b11, entropy, &down)).collect();
    assert_eq!(ways, [vec![(0, 0b11)], vec![(0, 0b01), (1, 0b10)]].into());
}

#[test]
fn a_router_without_rows_still_delivers_to_itself() {
    let bift = build(&given(&[], &[], 1)).unwrap().remove(0);
    assert_eq!(copies(&bift, 1 << 4, 0, &Down::default()), [(u16::MAX, 0)]);
    let mut transit = given(&[], &[], 1);
    transit.own = None;
    assert_eq!(build(&transit), Ok(vec![]));
}

#[test]
fn everything_wrong_is_told_with_its_row() {
    let mut map = BiftIdMap::default();
    let key = BiftKey { sub_domain: SubDomain(0), si: Si(0), bsl: Bsl::B64 };
    map.insert(key, BiftId::new(99).unwrap()).unwrap();
    let neighbours = [(neighbour(2), BiftIds::Static), (neighbour(3), BiftIds::Map(map))];
    let beyond = 64 * 256 + 1;
    let rows = [
        row(0, &[1, 5], None),
        row(2, &[7], Some(3)),
        row(1, &[1], None),
        row(0, &[1, beyond], Some(0)),
        row(1, &[100], None),
        row(0, &[101], Some(1)),
    ];
    let id = |id| BfrId::new(id).unwrap();
    let expected = [
        RowError::OwnId { row: 0, id: id(5) },
        RowError::UnknownNeighbour { row: 1, neighbour: NeighbourIndex(2) },
        RowError::UnknownNeighbour { row: 1, neighbour: NeighbourIndex(3) },
        RowError::MoreWaysThanTables { row: 2, id: id(1) },
        RowError::OwnBackup { row: 3 },
        RowError::Repeated { row: 3, first: 0, id: id(1) },
        RowError::BeyondSets { row: 3, id: id(beyond) },
        RowError::NoBiftId { row: 4, neighbour: NeighbourIndex(1), si: Si(1) },
        RowError::NoBiftId { row: 5, neighbour: NeighbourIndex(1), si: Si(1) },
    ];
    assert_eq!(build(&given(&neighbours, &rows, 1)).unwrap_err(), expected);
}

#[test]
fn entropy_spreads_packets_over_parallel_links_and_failures_move_only_what_they_hit() {
    let links: Vec<_> = (10..14).map(LinkId).collect();
    let neighbour = Neighbour { prefix: [192, 0, 2, 1].into(), reach: Reach::Links(links.clone().into()) };
    let mut used = std::collections::BTreeSet::new();
    for entropy in 0..1000 {
        let before = neighbour.link(entropy, 3, |_| true).unwrap();
        used.insert(before);
        let after = neighbour.link(entropy, 3, |link| link != LinkId(11)).unwrap();
        assert!(after != LinkId(11) && (after == before || before == LinkId(11)));
        assert_eq!(neighbour.link(entropy, 3, |_| false), None);
    }
    assert_eq!(used, links.into_iter().collect());
    assert_eq!(Neighbour { reach: Reach::Tunnel, ..neighbour }.link(7, 3, |_| true), None);
}

#[test]
fn forwarding_allocates_nothing() {
    let neighbours: Vec<_> = (0..64).map(|last| (neighbour(last), BiftIds::Static)).collect();
    let rows: Vec<_> = (0..64).map(|at| row(at, &[300 + at, 400 + at], None)).collect();
    let spec = Given { bsl: Bsl::B4096, ..given(&neighbours, &rows, 3) };
    let bift = build(&spec).unwrap().remove(0);
    let string = BitString::of(
        Bsl::B4096,
        ids((300..364).chain(400..464)).iter().map(|id| id.position(Bsl::B4096).unwrap().1),
    );
    let down = Down::new(64);
    let mut copies = 0;
    let allocations = allocation_counter::measure(|| {
        for entropy in 0..100 {
            down.set(NeighbourIndex(7), entropy % 2 == 1);
            let packet = Packet { bits: string.words(), ttl: 9, entropy };
            let outcome =
                bift.forward(packet, &down, |part| copies += u32::from(matches!(part, Part::Copy { .. })));
            assert!(!outcome.expired());
        }
    });
    assert_eq!((copies, allocations.count_total), (64 * 50 + 63 * 50, 0));
}

fn hosts(link: u32) -> (Neighbour, BiftIds) {
    (
        Neighbour { prefix: [0; 4].into(), reach: Reach::Hosts(LinkId(link)) },
        BiftIds::Map(BiftIdMap::default()),
    )
}

/// Networks of hosts get theirs as we get ours: with the last hop, too, and whatever our neighbours call their tables.
#[test]
fn hosts_are_served_with_the_last_hop() {
    let neighbours = [(neighbour(2), BiftIds::Static), hosts(7), hosts(8)];
    let rows = [row(0, &[1, 2], None), row(1, &[3, 4], Some(0)), row(2, &[6], None)];
    let bift = build(&given(&neighbours, &rows, 1)).unwrap().remove(0);
    assert_eq!(
        copies(&bift, 0b11_1111, 0, &Down::new(3)),
        [(0, 0b11), (1, 0b1100), (2, 0b10_0000), (u16::MAX, 0)]
    );
    let exit = bift.exit(NeighbourIndex(2), 0, |_| true);
    assert_eq!(exit.map(|(_, link)| link), Some(LinkId(8)));
    let renumbered = bift.with_links(|link| LinkId(link.0 + 1));
    assert_eq!(renumbered.neighbour(NeighbourIndex(1)).reach, Reach::Hosts(LinkId(8)));
    let last = |bits: u64, ttl| {
        let mut served = Vec::new();
        let outcome =
            bift.forward(Packet { bits: &[bits], ttl, entropy: 0 }, &Down::default(), |part| match part {
                Part::Copy { neighbour, bits } => served.push((neighbour.0, bits[0])),
                Part::Local => served.push((u16::MAX, 0)),
                Part::Unroutable(_) => panic!("nobody is looked for"),
            });
        (served, outcome.expired())
    };
    assert_eq!(last(0b11_1000, 1), (vec![(u16::MAX, 0), (1, 0b1000), (2, 0b10_0000)], false));
    assert_eq!(
        last(0b11_1001, 1),
        (vec![(u16::MAX, 0), (1, 0b1000), (2, 0b10_0000)], true),
        "router 1 isn't here"
    );
    assert_eq!(last(0b1000, 0), (vec![], true));
}

#[test]
fn numbers_of_hosts_are_theirs_alone() {
    let neighbours = [(neighbour(2), BiftIds::Static), hosts(7), hosts(8)];
    let rows = [row(0, &[1, 2], Some(1)), row(1, &[2, 3], None), row(2, &[3], None), row(0, &[3], None)];
    let [two, three] = [2, 3].map(|id| BfrId::new(id).unwrap());
    let expected = [
        RowError::HostsAsBackup { row: 0 },
        RowError::HostsAndOthers { row: 1, first: 0, id: two },
        RowError::HostsAndOthers { row: 2, first: 1, id: three },
        RowError::HostsAndOthers { row: 3, first: 1, id: three },
    ];
    assert_eq!(build(&given(&neighbours, &rows, 4)).unwrap_err(), expected);
}

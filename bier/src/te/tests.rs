use alloc::collections::BTreeSet;

use super::*;
use crate::id::{Bsl, Si, SubDomain};

const KEY: BiftKey = BiftKey { sub_domain: SubDomain(1), si: Si(0), bsl: Bsl::B64 };

fn bit(number: u16) -> BitPosition {
    BitPosition::new(number, Bsl::B64).unwrap()
}

fn connected(interface: u32, do_not_clear: bool) -> Adjacency {
    Adjacency::ForwardConnected { interface, neighbour: interface + 100, do_not_clear }
}

const DECAP: Adjacency = Adjacency::LocalDecap { vrf: Some(7) };
const ROUTED: Adjacency = Adjacency::ForwardRouted { vrf: None, neighbour: 9 };

/// Bits 1 and 2 are links, 2 with DNC; 3 is routed, 4 is us, 5 is three at once, 6 one of four.
fn table() -> TeBift {
    let list = (20..24).map(|interface| connected(interface, false)).collect();
    let items = vec![
        (bit(1), Adjacencies::All(vec![connected(1, false)])),
        (bit(2), Adjacencies::All(vec![connected(2, true)])),
        (bit(3), Adjacencies::All(vec![ROUTED])),
        (bit(4), Adjacencies::All(vec![DECAP])),
        (bit(5), Adjacencies::All(vec![connected(5, true), ROUTED, DECAP])),
        (bit(6), Adjacencies::Ecmp { list, seed: 3 }),
    ];
    TeBift::new(KEY, items).unwrap()
}

fn run(bits: u64, ttl: u8, entropy: u32) -> (Vec<(Adjacency, u64)>, Outcome) {
    let mut copies = Vec::new();
    let packet = Packet { bits: &[bits], ttl, entropy };
    let outcome = table().forward(packet, |copy| copies.push((copy.adjacency, copy.bits[0])));
    (copies, outcome)
}

#[test]
fn own_bits_are_cleared_in_every_copy_but_with_dnc() {
    // Bits 40 and 64 belong to others.
    let others = 1 << 39 | 1 << 63;
    let (copies, outcome) = run(others | 0b1_1111, 9, 0);
    let expected = [
        (connected(1, false), others),
        (connected(2, true), others | 0b10),
        (ROUTED, others),
        (DECAP, others),
        (connected(5, true), others | 0b1_0000),
        (ROUTED, others),
        (DECAP, others),
    ];
    assert_eq!((copies.as_slice(), outcome), (&expected[..], Outcome::Forwarded));
    assert_eq!(run(others, 9, 0), (vec![], Outcome::Forwarded), "nothing of it is adjacent");
}

#[test]
fn ttl_counts_as_with_bier() {
    assert_eq!(run(0b1001, 0, 0), (vec![], Outcome::Expired));
    assert_eq!(run(0b1001, 1, 0), (vec![(DECAP, 0)], Outcome::Expired));
    assert_eq!(run(0b1000, 1, 0), (vec![(DECAP, 0)], Outcome::Forwarded));
    assert_eq!(run(0b1_0000, 1, 0), (vec![(DECAP, 0)], Outcome::Expired));
    assert_eq!(run(0b1001, 2, 0), (vec![(connected(1, false), 0), (DECAP, 0)], Outcome::Forwarded));
}

#[test]
fn entropy_chooses_one_of_a_list() {
    let chosen: BTreeSet<_> = (0..if cfg!(miri) { 24 } else { 256 })
        .map(|entropy| {
            let (copies, _) = run(0b10_0000, 2, entropy);
            assert_eq!(copies, run(0b10_0000, 2, entropy).0);
            match copies[..] {
                [(Adjacency::ForwardConnected { interface, .. }, 0)] => interface,
                _ => panic!("one copy, not {copies:?}"),
            }
        })
        .collect();
    assert!(chosen.iter().copied().eq(20..24), "all are used: {chosen:?}");
}

#[test]
fn every_wrong_item_is_named() {
    let one = || Adjacencies::All(vec![DECAP]);
    let beyond = BitPosition::new(65, Bsl::B128).unwrap();
    let items = vec![
        (bit(1), one()),
        (bit(2), Adjacencies::All(vec![])),
        (bit(1), one()),
        (bit(3), Adjacencies::Ecmp { list: vec![], seed: 0 }),
        (beyond, one()),
    ];
    let expected = [
        TeError::NoAdjacency { item: 1, bit: bit(2) },
        TeError::Repeated { item: 2, first: 0, bit: bit(1) },
        TeError::NoAdjacency { item: 3, bit: bit(3) },
        TeError::Beyond { item: 4, bit: beyond },
    ];
    assert_eq!(TeBift::new(KEY, items).unwrap_err(), expected);
}

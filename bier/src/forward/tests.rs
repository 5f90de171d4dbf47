use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::bift::{Neighbour, Reach, Table};
use crate::bift_id::BiftIds;
use crate::bits::BitString;
use crate::id::{BiftKey, Bsl, Si, SubDomain};
use crate::wire::OnWire;

/// What a part says, owned and with bits as numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Did {
    Local,
    Copy(NeighbourIndex, BitString),
    Unroutable(BitString),
}

fn run(bift: &Bift, procedure: Procedure, packet: Packet<'_>, down: &Down) -> (Vec<Did>, Outcome) {
    let mut did = Vec::new();
    let outcome = bift.forward_by(procedure, packet, down, |part| {
        did.push(match part {
            Part::Local => Did::Local,
            Part::Copy { neighbour, bits } => Did::Copy(neighbour, BitString::from_words(bits)),
            Part::Unroutable(bits) => Did::Unroutable(BitString::from_words(bits)),
        });
    });
    did.sort();
    (did, outcome)
}

/// A BIFT of one table, in which bit `n` leads to the `n`th neighbour, or nowhere.
fn bift(bsl: Bsl, local: Option<u16>, bits: &[Option<u16>], backup: Option<(u16, u16)>) -> Bift {
    let key = BiftKey { sub_domain: SubDomain(0), si: Si(0), bsl };
    let local = local.and_then(|number| BitPosition::new(number, bsl));
    let count = bits.iter().flatten().max().map_or(0, |last| last + 1).max(1);
    let neighbour =
        |n: u16| Neighbour { prefix: [10, 0, (n >> 8) as u8, n as u8].into(), reach: Reach::Tunnel };
    let neighbours: Arc<[_]> = (0..count).map(neighbour).collect();
    let out: Box<[_]> = neighbours.iter().map(|_| BiftIds::Static.id(key)).collect();
    let given = bits
        .iter()
        .enumerate()
        .filter_map(|(index, neighbour)| Some((BitPosition::at(index), NeighbourIndex((*neighbour)?))));
    let given: Vec<_> = given.filter(|(bit, _)| Some(*bit) != local).collect();
    let rows = Rows::new(bsl.words(), given.iter().copied());
    let mut on_failure = vec![None; usize::from(count)];
    if let Some((failing, instead)) = backup {
        let moved = given.iter().map(|(bit, neighbour)| {
            (*bit, if neighbour.0 == failing { NeighbourIndex(instead) } else { *neighbour })
        });
        on_failure[usize::from(failing)] = Some(Rows::new(bsl.words(), moved));
    }
    let table = Table::new(rows, on_failure.into());
    Bift::new(key, local, neighbours, out, vec![table].into(), 0)
}

const PROCEDURES: [Procedure; 3] = [Procedure::BitWalk, Procedure::NeighbourMajor, Procedure::Fastest];

fn strings(bsl: Bsl) -> impl Strategy<Value = Vec<u64>> {
    let sparse = prop::collection::vec(0..usize::from(bsl.bits()), 0..4).prop_map(move |set| {
        let mut string = BitString::new(bsl);
        set.into_iter().for_each(|index| string.set(BitPosition::at(index)));
        string.words().to_vec()
    });
    prop_oneof![prop::collection::vec(any::<u64>(), bsl.words()), sparse, Just(vec![u64::MAX; bsl.words()])]
}

fn cases() -> impl Strategy<Value = (Bift, Vec<u64>)> {
    // Long strings take long in debug builds, and differ from others in nothing but their length.
    let lengths = [Bsl::B64, Bsl::B64, Bsl::B128, Bsl::B256, Bsl::B512, Bsl::B1024, Bsl::B2048, Bsl::B4096];
    // Under Miri making the rows of a long one takes a minute.
    let bsl = prop::sample::select(if cfg!(miri) { lengths[..3].to_vec() } else { lengths.to_vec() });
    (bsl, 1..if cfg!(miri) { 8 } else { 80_u16 }, prop::option::of(1..=64_u16)).prop_flat_map(
        |(bsl, neighbours, local)| {
            let row = prop_oneof![1 => Just(None), 6 => (0..neighbours).prop_map(Some)];
            let rows = prop::collection::vec(row, usize::from(bsl.bits()));
            (rows, strings(bsl)).prop_map(move |(rows, string)| (bift(bsl, local, &rows, None), string))
        },
    )
}

/// Compares the copies of a packet of which nothing else comes with what the procedure has done; whether it is one.
fn is_plain<const W: usize>(bift: &Bift, packet: Packet<'_>, walked: &(Vec<Did>, Outcome)) -> bool {
    let mut bytes = vec![0; W * 8];
    bits::store(packet.bits, &mut bytes);
    let string = OnWire::<W>::of(&bytes);
    let plain = bift.plain(packet.entropy).expect("as many words as the table's");
    let only = bift.only().expect("there is one table");
    if !plain.takes(string, packet.ttl) {
        return false;
    }
    let did = |copies: &mut dyn Iterator<Item = (&NextHop, &[u64; W])>| {
        let copy = |(to, mask): (&NextHop, _)| {
            let exit = bift.exit(to.neighbour, packet.entropy, |_| true);
            assert!(to.exit.is_none() || to.exit == exit, "where there is nothing to choose");
            Did::Copy(to.neighbour, BitString::from_words(&string.and(mask).words()))
        };
        let mut did: Vec<_> = copies.map(copy).collect();
        did.sort();
        did
    };
    assert_eq!((&did(&mut plain.copies(string)), Outcome::Forwarded), (&walked.0, walked.1));
    assert_eq!((only.takes(string, packet.ttl), did(&mut only.copies(string))), (true, walked.0.clone()));
    assert_eq!(did(&mut plain.walk(bift.table(packet.entropy).rows(), string.read())), walked.0);
    true
}

/// The same for a table of any length.
fn sized(bift: &Bift, packet: Packet<'_>, walked: &(Vec<Did>, Outcome)) -> bool {
    match packet.bits.len() {
        1 => is_plain::<1>(bift, packet, walked),
        2 => is_plain::<2>(bift, packet, walked),
        4 => is_plain::<4>(bift, packet, walked),
        8 => is_plain::<8>(bift, packet, walked),
        16 => is_plain::<16>(bift, packet, walked),
        32 => is_plain::<32>(bift, packet, walked),
        _ => is_plain::<64>(bift, packet, walked),
    }
}

#[test]
fn plain_is_what_becomes_copies_and_nothing_else() {
    // Bit 1 is us, bits 2 and 3 are others', bit 4 is nobody's.
    let bift = bift(Bsl::B64, Some(1), &[None, Some(0), Some(1)], None);
    let plain = |bits, ttl| {
        let packet = Packet { bits: &[bits], ttl, entropy: 0 };
        is_plain::<1>(&bift, packet, &run(&bift, Procedure::BitWalk, packet, &Down::default()))
    };
    let cases = [0b0010, 0b0100, 0b0110, 0b0001, 0b0111, 0b1000, 0b1110];
    assert_eq!(cases.map(|bits| plain(bits, 2)), [true, true, true, false, false, false, false]);
    assert_eq!([0, 1, 2, 255].map(|ttl| plain(0b0110, ttl)), [false, false, true, true]);
}

proptest! {
    #[test]
    fn all_procedures_do_the_same((bift, string) in cases(), ttl: u8, entropy in 0..1_u32 << 20) {
        let packet = Packet { bits: &string, ttl, entropy };
        let walked = run(&bift, Procedure::BitWalk, packet, &Down::default());
        prop_assert_eq!(&run(&bift, Procedure::NeighbourMajor, packet, &Down::default()), &walked);
        prop_assert_eq!(&run(&bift, Procedure::Fastest, packet, &Down::default()), &walked);
        sized(&bift, packet, &walked);
        if ttl > 1 {
            // Every bit is in one part: none is lost, none served twice.
            let mut served = BitString::from_words(&vec![0; string.len()]);
            for part in &walked.0 {
                let part = match part {
                    Did::Local => BitString::of(bift.key().bsl, bift.local()),
                    Did::Copy(_, bits) | Did::Unroutable(bits) => bits.clone(),
                };
                prop_assert!(!part.ones().any(|bit| bits::test(served.words(), bit)));
                bits::or(served.words_mut(), part.words());
            }
            prop_assert_eq!(served.words(), &string);
        }
    }
}

#[test]
fn ttl_is_as_rfc_8296_has_it() {
    // Bit 1 is us, bits 2 and 3 are others', bit 4 is nobody's.
    let bift = bift(Bsl::B64, Some(1), &[None, Some(0), Some(1)], None);
    let copies = vec![
        Did::Copy(NeighbourIndex(0), BitString::of(Bsl::B64, [BitPosition::at(1)])),
        Did::Copy(NeighbourIndex(1), BitString::of(Bsl::B64, [BitPosition::at(2)])),
    ];
    let none = || Vec::new();
    let all: Vec<_> = [vec![Did::Local], copies.clone()].concat();
    // TTL, bits, what is done, whether it expired: the rows of the sheet.
    let cases = [
        (0, 0b0001, none(), Outcome::Expired),
        (0, 0b0110, none(), Outcome::Expired),
        (0, 0b0111, none(), Outcome::Expired),
        (1, 0b0001, vec![Did::Local], Outcome::Forwarded),
        (1, 0b0111, vec![Did::Local], Outcome::Expired),
        (1, 0b0110, none(), Outcome::Expired),
        (1, 0b1000, none(), Outcome::Expired),
        (2, 0b0001, vec![Did::Local], Outcome::Forwarded),
        (2, 0b0110, copies, Outcome::Forwarded),
        (255, 0b0111, all, Outcome::Forwarded),
    ];
    for (ttl, bits, did, outcome) in cases {
        for procedure in PROCEDURES {
            let packet = Packet { bits: &[bits], ttl, entropy: 0 };
            let done = run(&bift, procedure, packet, &Down::default());
            assert_eq!(done, (did.clone(), outcome), "TTL {ttl}, bits {bits:#b}, {procedure:?}");
        }
    }
}

#[test]
fn flags_switch_to_prepared_rows_and_back() {
    // 0 leads to bits 1 and 2, 1 to bit 3, 2 to bit 4; 1 stands in for 0.
    let bift = bift(Bsl::B64, None, &[Some(0), Some(0), Some(1), Some(2)], Some((0, 1)));
    let down = Down::new(3);
    let packet = Packet { bits: &[0b1111], ttl: 9, entropy: 0 };
    let copy = |neighbour, bits: u64| Did::Copy(NeighbourIndex(neighbour), BitString::from_words(&[bits]));
    let before = vec![copy(0, 0b0011), copy(1, 0b0100), copy(2, 0b1000)];
    for procedure in PROCEDURES {
        assert_eq!(run(&bift, procedure, packet, &down).0, before);
        down.set(NeighbourIndex(0), true);
        assert_eq!(run(&bift, procedure, packet, &down).0, [copy(1, 0b0111), copy(2, 0b1000)]);
        // A second failure: what leads there is lost, and counted.
        down.set(NeighbourIndex(2), true);
        let lost = Did::Unroutable(BitString::from_words(&[0b1000]));
        assert_eq!(run(&bift, procedure, packet, &down).0, [copy(1, 0b0111), lost.clone()]);
        down.set(NeighbourIndex(0), false);
        assert_eq!(run(&bift, procedure, packet, &down).0, [copy(0, 0b0011), copy(1, 0b0100), lost]);
        down.set(NeighbourIndex(2), false);
        assert_eq!(run(&bift, procedure, packet, &down).0, before);
    }
}

#[test]
fn flags_of_many_neighbours_are_found() {
    let down = Down::new(200);
    assert!(down.is_empty());
    for index in [199, 128, 64, 63, 0] {
        down.set(NeighbourIndex(index), true);
        assert_eq!((down.iter().next(), down.is_empty()), (Some(NeighbourIndex(index)), false));
        assert!(down.is_down(NeighbourIndex(index)));
    }
    assert!(down.iter().map(|one| one.0).eq([0, 63, 64, 128, 199]));
    assert!(!down.is_down(NeighbourIndex(1)) && !down.is_down(NeighbourIndex(10_000)));
}

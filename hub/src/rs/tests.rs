use proptest::prelude::*;

use super::*;

#[test]
fn codes_that_cannot_be_are_refused() {
    assert_eq!(Code::new(0, 1), Err(Impossible::Empty));
    assert_eq!(Code::new(200, 56), Err(Impossible::TooLong));
    assert_eq!(Code::new(200, 55).map(|code| (code.k(), code.rows())), Ok((200, 55)));
}

#[test]
fn parity_is_that_of_the_vandermonde_matrix() {
    // Of section 8.2.1, with NRL's points: V of k rows is inverted here by hand for k = 2: the polynomial through (0, a) and
    // (1, b) is a + (a + b) x, its values at α and α² are a + (a + b) * 2 and a + (a + b) * 4.
    let code = Code::new(2, 2).unwrap();
    let (a, b) = (0x57, 0x83);
    let block: [&[u8]; 2] = [&[a], &[b]];
    assert_eq!(code.parity(0, &block, 1), [a ^ multiply(a ^ b, 2)]);
    assert_eq!(code.parity(1, &block, 1), [a ^ multiply(a ^ b, 4)]);
}

#[test]
fn what_is_not_of_the_block_is_refused() {
    let code = Code::new(4, 2).unwrap();
    assert_eq!(code.recover(3, &[(5, &[0])], 1), Err(Undecodable::Foreign));
    assert_eq!(code.recover(3, &[(0, &[0, 0])], 1), Err(Undecodable::Foreign));
    assert_eq!(code.recover(5, &[], 1), Err(Undecodable::Foreign));
    assert_eq!(code.recover(0, &[], 1), Err(Undecodable::Foreign));
    assert_eq!(code.recover(3, &[(0, &[1]), (0, &[1]), (4, &[2])], 1), Err(Undecodable::TooFew));
}

prop_compose! {
    /// A code, a block of it, and which segments arrive, in which order.
    fn cases()(k in 1..40u8, parity in 0..20u8, len in 1..40usize)(
        code in Just(Code::new(k, parity).unwrap()),
        len in Just(len),
        block in prop::collection::vec(prop::collection::vec(any::<u8>(), len), 1..=usize::from(k)),
        last in 1..=len,
        order in Just((0..k + parity).collect::<Vec<_>>()).prop_shuffle(),
        lost in 0..=usize::from(k + parity),
    ) -> (Code, usize, Vec<Vec<u8>>, usize, Vec<u8>, usize) {
        (code, len, block, last, order, lost)
    }
}

proptest! {
    #[test]
    fn any_so_many_segments_give_the_block((code, len, mut block, last, order, lost) in cases()) {
        block.last_mut().unwrap().truncate(last);
        let slices: Vec<&[u8]> = block.iter().map(Vec::as_slice).collect();
        let source = block.len() as u8;
        let all: Vec<Vec<u8>> =
            block.iter().cloned().chain((0..code.rows()).map(|row| code.parity(row, &slices, len))).collect();
        let there = order.into_iter().filter(|number| usize::from(*number) < all.len()).skip(lost);
        let have: Vec<(u8, &[u8])> = there.map(|number| (number, &all[usize::from(number)][..])).collect();
        let recovered = code.recover(source, &have, len);
        if have.len() < block.len() {
            prop_assert_eq!(recovered, Err(Undecodable::TooFew));
        } else {
            let missing = (0..source).filter(|number| have.iter().all(|(other, _)| other != number));
            let expected = missing.map(|number| {
                let mut bytes = block[usize::from(number)].clone();
                bytes.resize(len, 0);
                (number, bytes)
            });
            prop_assert_eq!(recovered.unwrap(), expected.collect::<Vec<_>>());
        }
    }
}

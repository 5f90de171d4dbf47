use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, Real};
use crate::tree::tests::content;

const NOW: Millis = Millis(1_000);

/// A content of so many bytes of which nothing has arrived, in a folder of its own.
fn part(content: &[u8]) -> (tempfile::TempDir, Part) {
    let folder = tempfile::tempdir().unwrap();
    let open = |name| Real.open(&folder.path().join(name)).unwrap();
    let (data, list) = (open("data"), open("list"));
    data.allocate(content.len() as u64).unwrap();
    list.allocate(u64::from(tree::groups(content.len() as u64)) * 32).unwrap();
    let part = Part::new(Root::of(content), content.len() as u64, data, list, NOW);
    (folder, part)
}

fn is_right(part: &Part) -> bool {
    matches!(part.finished().unwrap(), Finished::Right(tree) if tree.root() == part.root)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_order_overlap_and_repetition_gives_the_content(
        size in 0_usize..300_000,
        known in any::<bool>(),
        writes in prop::collection::vec((0_usize..300_000, 1_usize..90_000), 0..60),
    ) {
        let bytes = content(size as u64, size);
        let (_folder, part) = part(&bytes);
        if known {
            part.learn(&Tree::of(&bytes), NOW).unwrap();
        }
        let mut model = vec![false; size];
        for (start, length) in writes {
            let range = start.min(size)..(start + length).min(size);
            let fresh = model[range.clone()].iter().filter(|held| !**held).count() as u64;
            let done = part.write(range.start as u64, &bytes[range.clone()], NOW).unwrap();
            model[range].fill(true);
            prop_assert_eq!((done.new, done.refused), (fresh, 0));
            prop_assert_eq!(done.all, model.iter().all(|held| *held));
            let held = model.iter().filter(|held| **held).count() as u64;
            prop_assert_eq!(part.held().0, held);
            prop_assert_eq!(part.missing().total(), size as u64 - held);
        }
        for hole in part.missing().as_slice() {
            part.write(hole.start, &bytes[hole.start as usize..hole.end as usize], NOW).unwrap();
        }
        prop_assert!(is_right(&part));
    }
}

#[test]
fn what_has_arrived_is_not_changed_by_what_comes_later() {
    let bytes = content(1, 3 * GROUP as usize);
    let (_folder, part) = part(&bytes);
    let forged = vec![0; bytes.len()];
    part.write(100, &bytes[100..GROUP as usize * 2 + 100], NOW).unwrap();
    assert_eq!(part.write(100, &forged[..GROUP as usize * 2], NOW).unwrap().new, 0);
    part.write(0, &bytes, NOW).unwrap();
    assert!(is_right(&part));
}

#[test]
fn with_the_list_a_wrong_group_is_missing_again_and_the_others_stay() {
    let bytes = content(2, 3 * GROUP as usize + 9);
    let (_folder, part) = part(&bytes);
    part.learn(&Tree::of(&bytes), NOW).unwrap();
    let mut wrong = bytes.clone();
    wrong[GROUP as usize + 5] ^= 1;
    let done = part.write(0, &wrong, NOW).unwrap();
    assert_eq!((done.whole, done.refused, done.all), (3, 1, false));
    assert_eq!(part.missing().as_slice(), std::slice::from_ref(&(GROUP..2 * GROUP)));
    part.write(GROUP, &bytes[GROUP as usize..2 * GROUP as usize], NOW).unwrap();
    assert!(is_right(&part));
}

#[test]
fn without_the_list_wrong_bytes_are_found_at_the_end_and_named_by_the_list() {
    let bytes = content(3, 2 * GROUP as usize);
    let (_folder, part) = part(&bytes);
    let mut wrong = bytes.clone();
    wrong[0] ^= 1;
    assert!(part.write(0, &wrong, NOW).unwrap().all);
    assert!(matches!(part.finished().unwrap(), Finished::Wrong));
    assert_eq!(part.learn(&Tree::of(&bytes), NOW).unwrap(), 1);
    assert_eq!(part.missing().as_slice(), std::slice::from_ref(&(0..GROUP)));
    part.write(0, &bytes, NOW).unwrap();
    assert!(is_right(&part));
}

#[test]
fn hashes_that_went_bad_on_disk_do_not_condemn_the_bytes() {
    let bytes = content(4, 2 * GROUP as usize);
    let (_folder, part) = part(&bytes);
    part.write(0, &bytes, NOW).unwrap();
    part.lock().hashes[1][0] ^= 1;
    assert!(is_right(&part));
}

//! The hash tree of a content, cut at groups of 64 KiB: with the list of the groups' hashes, each group can be
//! verified alone, and the list itself is verified by the root. BLAKE3 is such a tree inside, so the root is the
//! content's ordinary hash.
//!
//! ```text
//!                root            = BLAKE3 of the content
//!               /    \
//!           node      g2         left part: the largest power of two that leaves something for the right
//!          /    \
//!        g0      g1              the list: one chaining value of 32 bytes a group, 0.05 % of the content
//!        │       │     │
//!      64 KiB  64 KiB  the rest
//! ```
//!
//! The list alone is kept, not the nodes above it: to check it means to hash it once, 200 KB for a content of 400 MB,
//! when the content is opened.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::root::Root;

/// Bytes verified together, but for a content's last group. A power of two, as the tree wants it, of 64 chunks: large
/// enough for the hash's widest vectors, small enough that a hole costs little to fetch again.
pub const GROUP: u64 = 64 * 1024;

/// Number of a group in its content.
pub(crate) type Group = u32;

/// How many groups a content of so many bytes has.
pub(crate) fn groups(size: u64) -> Group {
    Group::try_from(size.div_ceil(GROUP)).expect("sizes are bounded by SIZE_MAX")
}

/// The largest content: 4 TiB. Its list of hashes is 2 GiB, so that budgets, not this, are what bounds contents.
pub const SIZE_MAX: u64 = 1 << 42;
const _: () = assert!(SIZE_MAX / GROUP <= Group::MAX as u64);

/// Where a group lies in a content of so many bytes.
pub(crate) fn span(group: Group, size: u64) -> std::ops::Range<u64> {
    let start = u64::from(group) * GROUP;
    start..(start + GROUP).min(size)
}

/// The hash of a group: its chaining value, or the root itself if it is the only group.
pub(crate) fn hash_group(group: Group, size: u64, bytes: &[u8]) -> [u8; 32] {
    if size <= GROUP {
        return blake3::hash(bytes).into();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(group) * GROUP);
    hasher.update(bytes).finalize_non_root()
}

/// The root above a list of groups' hashes. The empty list is the empty content's.
pub(crate) fn root(hashes: &[[u8; 32]]) -> Root {
    match hashes {
        [] => Root::of(b""),
        [only] => Root::new(*only),
        [..] => {
            let (left, right) = halves(hashes);
            Root::new(merge_subtrees_root(&value(left), &value(right), Mode::Hash).into())
        }
    }
}

/// The chaining value above some groups; at least one.
fn value(hashes: &[[u8; 32]]) -> [u8; 32] {
    match hashes {
        [only] => *only,
        _ => {
            let (left, right) = halves(hashes);
            merge_subtrees_non_root(&value(left), &value(right), Mode::Hash)
        }
    }
}

/// BLAKE3's rule: the left part is the largest power of two that leaves at least one for the right.
fn halves(hashes: &[[u8; 32]]) -> (&[[u8; 32]], &[[u8; 32]]) {
    hashes.split_at(hashes.len().next_power_of_two() / 2)
}

/// A list of groups' hashes that has been checked against its root: what it accepts are the content's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: Root,
    size: u64,
    hashes: Vec<[u8; 32]>,
}

impl Tree {
    /// Checks a list; `None` if it isn't the one of this root and size.
    pub fn check(root: Root, size: u64, hashes: Vec<[u8; 32]>) -> Option<Self> {
        let right = size <= SIZE_MAX && hashes.len() == groups(size) as usize && self::root(&hashes) == root;
        right.then_some(Self { root, size, hashes })
    }

    /// Reads a list as [`Tree::to_bytes`] writes it.
    pub fn from_bytes(root: Root, size: u64, bytes: &[u8]) -> Option<Self> {
        let (hashes, []) = bytes.as_chunks() else { return None };
        Self::check(root, size, hashes.to_vec())
    }

    /// The tree of a whole content.
    pub fn of(content: &[u8]) -> Self {
        let size = content.len() as u64;
        let parts = content.chunks(GROUP as usize).enumerate();
        let hashes: Vec<_> = parts.map(|(at, bytes)| hash_group(at as Group, size, bytes)).collect();
        Self { root: root(&hashes), size, hashes }
    }

    /// The root that it was checked against.
    pub fn root(&self) -> Root {
        self.root
    }

    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The groups' hashes, in their order.
    pub fn hashes(&self) -> &[[u8; 32]] {
        &self.hashes
    }

    /// The hashes one after the other, 32 bytes each: the `.tree` file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// Whether these are the bytes of this group. False for a group that the content doesn't have.
    pub fn verify(&self, group: Group, bytes: &[u8]) -> bool {
        let length = span(group, self.size);
        self.hashes.get(group as usize).is_some_and(|hash| {
            length.end - length.start == bytes.len() as u64 && hash_group(group, self.size, bytes) == *hash
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes that no other seed gives.
    pub(crate) fn content(seed: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_root_is_the_ordinary_hash_for_every_shape_of_tree() {
        let group = GROUP as usize;
        let all = content(1, 21 * group);
        let edges =
            (0..=20).flat_map(|groups| [0, 1, 1023, 1024, 1025, group - 1].map(|more| groups * group + more));
        for size in edges {
            let tree = Tree::of(&all[..size]);
            assert_eq!(tree.root(), Root::of(&all[..size]), "{size} bytes");
            assert_eq!(tree.hashes().len(), groups(size as u64) as usize);
            assert_eq!(Tree::from_bytes(tree.root(), size as u64, &tree.to_bytes()).as_ref(), Some(&tree));
        }
    }

    #[test]
    fn a_changed_byte_is_found_in_its_group_alone() {
        let size = 3 * GROUP as usize + 5;
        let mut bytes = content(2, size);
        let tree = Tree::of(&bytes);
        bytes[GROUP as usize + 17] ^= 1;
        let good = bytes.chunks(GROUP as usize).enumerate().map(|(at, part)| tree.verify(at as Group, part));
        assert_eq!(good.collect::<Vec<_>>(), [true, false, true, true]);
        // A group in another's place, cut short, and one that isn't there.
        assert!(!tree.verify(2, &bytes[..GROUP as usize]));
        assert!(!tree.verify(0, &bytes[..GROUP as usize - 1]));
        assert!(!tree.verify(4, &[]));
    }

    #[test]
    fn a_list_with_another_root_or_length_is_refused() {
        let bytes = content(3, 5 * GROUP as usize);
        let tree = Tree::of(&bytes);
        let list = tree.to_bytes();
        let mut changed = list.clone();
        changed[40] ^= 1;
        for (size, list) in [
            (tree.size(), &changed[..]),
            (tree.size(), &list[..list.len() - 1]),
            (tree.size(), &list[..list.len() - 32]),
            (tree.size() - GROUP, &list),
            (SIZE_MAX + 1, &list),
        ] {
            assert_eq!(Tree::from_bytes(tree.root(), size, list), None);
        }
    }
}

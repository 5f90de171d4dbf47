//! Look-ups of a vector of queries, their cache misses side by side.

use arrayvec::ArrayVec;

use super::message::HEADER_LEN;
use super::query::Folded;
use crate::driver::{BURST_MAX, Frame};
use crate::tables::Names;

/// Names from which on [`fetch`] is worth its second hashing: below it, the table is in the second-level cache.
const FETCH_NAMES_MIN: usize = 8192;

/// Brings what [`super::respond()`] will look up for these queries into the cache; at most [`BURST_MAX`] of them count.
///
/// In a large table a look-up waits for memory three or four times, each time for an address that the one before has
/// brought. One query after the other, all those waits add up. Here each step is taken for all queries before the
/// next, so that the waits of a vector overlap. Tables that fit into the cache are left alone.
pub fn fetch<'a, F: Frame>(names: &Names, queries: impl IntoIterator<Item = &'a [u8]>) {
    if names.len() < FETCH_NAMES_MIN {
        return;
    }
    let mut hashes = ArrayVec::<u64, BURST_MAX>::new();
    for query in queries {
        let Some(folded) = query.get(HEADER_LEN..).and_then(Folded::new) else { continue };
        if hashes.try_push(names.hash(folded.as_bytes())).is_err() {
            break;
        }
    }
    let nodes = names.nodes();
    hashes.iter().for_each(|hash| nodes.prefetch_directory::<F>(*hash));
    hashes.iter().for_each(|hash| nodes.prefetch_page::<F>(*hash));
    let probes: ArrayVec<_, BURST_MAX> = hashes.iter().map(|hash| nodes.probe(*hash)).collect();
    probes.iter().for_each(|probe| probe.prefetch_slot::<F>());
    for (node, ()) in probes.iter().filter_map(|probe| probe.peek()) {
        node.prefetch::<F>();
    }
}

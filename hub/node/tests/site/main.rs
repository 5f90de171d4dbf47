//! A sender and nodes over real sockets: a network namespace for each, joined by a bridge, losses by nftables.
//!
//! Need root, `ip`, `nft` and `openssl`.

mod lan;
mod loss;
mod oneway;
mod restart;
mod trust;

use std::path::Path;

use millrace_hub_store::Root;

/// Bytes that no other seed gives.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn assert_same(path: &Path, bytes: &[u8]) {
    let there = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(Root::of(&there), Root::of(bytes), "{}", path.display());
}

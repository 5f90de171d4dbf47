//! The store from outside: contents come, go on after restarts, faults and crashes, and are given out.

mod adopt;
mod bucket;
mod crash;
mod desk;
mod disk;
mod distribution;
mod eviction;
mod faults;
mod folder;
mod http;
mod life;
mod power;

use std::path::Path;
use std::sync::Arc;

use millrace_hub_store::{Description, GROUP, Label, Limits, Manifest, Millis, Root, Store};

const NOW: Millis = Millis(1_700_000_000_000);
/// A group's length as an index.
const G: usize = GROUP as usize;

/// The time so many milliseconds later.
fn later(ms: u64) -> Millis {
    Millis(NOW.0 + ms)
}

/// Bytes that no other seed gives.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn limits(budget_bytes: u64) -> Limits {
    Limits { budget_bytes, reserve_bytes: 0 }
}

fn open(folder: &Path) -> Arc<Store> {
    Store::open(folder, limits(1 << 30), NOW).unwrap()
}

fn label(text: &str) -> Label {
    Label::group(text).unwrap()
}

fn manifest(name: &str, version: u64, bytes: &[u8]) -> Manifest {
    let (size, root) = (bytes.len() as u64, Root::of(bytes));
    Manifest::sign(Description { name: label(name), group: label(""), version, size, root }, None)
}

/// Takes a content in, to its end.
fn put(store: &Arc<Store>, name: &str, bytes: &[u8], now: Millis) -> Root {
    let manifest = manifest(name, now.0, bytes);
    let root = manifest.description().root;
    store.begin(&manifest, now).unwrap();
    store.write(root, 0, bytes, now).unwrap();
    store.complete(root, now).unwrap();
    root
}

fn read(store: &Arc<Store>, root: Root) -> Result<Vec<u8>, millrace_hub_store::Error> {
    let mut reader = store.reader(root, NOW)?;
    let mut bytes = vec![0; reader.size() as usize];
    reader.read(0, &mut bytes, NOW)?;
    Ok(bytes)
}

fn blob(folder: &Path, root: Root, ending: &str) -> std::path::PathBuf {
    let name = root.to_string();
    folder.join("blobs").join(&name[..2]).join(format!("{name}{ending}"))
}

/// Small numbers from a seed, for tests that try many ways.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(b"dice").update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }
}

//! What a hub takes in, with virtual time and a network that loses, repeats and reorders; the disk is a real one.

mod crash;
mod disk;
mod flood;
mod flute;
mod mangled;
mod norm;
mod refused;
mod room;
mod world;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use millrace_hub_store::{Description, Label, Limits, Manifest, Millis, Root, SigningKey, Store, Trust};

/// Bytes that no other seed gives.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn store(folder: &Path) -> Arc<Store> {
    store_of(folder, 1 << 30)
}

fn store_of(folder: &Path, budget_bytes: u64) -> Arc<Store> {
    Store::open(folder, Limits { budget_bytes, reserve_bytes: 0 }, world::WALL).unwrap()
}

/// A key of its own for each number, read from a file as OpenSSL writes it.
fn key(number: u8) -> SigningKey {
    let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &[number; 32]]
        .concat();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let file = tempfile::NamedTempFile::new().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    std::fs::write(file.path(), pem).unwrap();
    SigningKey::load(file.path()).unwrap()
}

fn trust(number: u8) -> Trust {
    Trust::Keys([key(number).public()].into_iter().collect())
}

fn manifest(name: &str, version: u64, bytes: &[u8], signed_by: Option<u8>) -> Manifest {
    let what = Description {
        name: Label::name(name).unwrap(),
        group: Label::group("cameras").unwrap(),
        version,
        size: bytes.len() as u64,
        root: Root::of(bytes),
    };
    Manifest::sign(what, signed_by.map(key).as_ref())
}

/// What a store has under a root, read and verified.
fn read(store: &Arc<Store>, root: Root) -> Option<Vec<u8>> {
    let now = Millis(world::WALL.0 + 1);
    let mut reader = store.reader(root, now).ok()?;
    let mut bytes = vec![0; reader.size() as usize];
    reader.read(0, &mut bytes, now).unwrap();
    Some(bytes)
}

//! Any bytes as a manifest: what is read says the same when it is written again, its names are safe as files' names, and
//! with keys set nothing is believed but what their holder signed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millrace_hub_store::{Label, MANIFEST_LEN_MAX, Manifest, PublicKey, SIZE_MAX, Trust};

/// The public half of the key that signed some of the corpus: that of 32 bytes of 1.
const KEY: [u8; 32] = [
    138, 136, 227, 221, 116, 9, 241, 149, 253, 82, 219, 45, 60, 186, 93, 114, 202, 103, 9, 191, 29, 148, 18, 27, 243,
    116, 136, 1, 180, 15, 111, 92,
];

static KEYS: LazyLock<Trust> = LazyLock::new(|| Trust::Keys([PublicKey::new(KEY)].into_iter().collect()));

/// What the key's holder signed: the corpus, and nothing that is found.
const SIGNED: [&[u8]; 3] = [
    include_bytes!("../corpus/manifest/signed"),
    include_bytes!("../corpus/manifest/group"),
    include_bytes!("../corpus/manifest/longest"),
];

fuzz_target!(|bytes: &[u8]| {
    let believed = KEYS.check(bytes);
    assert_eq!(believed.is_ok(), SIGNED.contains(&bytes), "{believed:?}");
    let Ok(manifest) = Trust::Anybody.check(bytes) else { return };
    assert!(bytes.len() <= MANIFEST_LEN_MAX);
    assert_eq!(manifest.as_bytes(), bytes);
    if let Ok(believed) = believed {
        assert_eq!(believed, manifest);
    }
    let what = manifest.description();
    assert!(what.size <= SIZE_MAX);
    assert_eq!(Label::name(what.name.as_str()).as_ref(), Some(&what.name));
    for part in [&what.name, &what.group] {
        let text = part.as_str();
        assert!(text.len() <= Label::LEN_MAX && !text.starts_with('.') && !text.contains(['/', '\0', '\n']));
    }
    // One encoding: but for the signature it is the one that is written.
    let unsigned = Manifest::sign(what.clone(), None);
    match manifest.signed_by() {
        None => assert_eq!(unsigned.as_bytes(), bytes),
        Some(id) => {
            let (body, tail) = bytes.split_at(bytes.len() - 72);
            assert_eq!((&body[..4], &body[5..]), (&unsigned.as_bytes()[..4], &unsigned.as_bytes()[5..]));
            assert_eq!(id.0, tail[..8]);
        }
    }
});

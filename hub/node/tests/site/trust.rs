//! What isn't signed by whom it should be, or is older than what was here, isn't taken.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use millrace_hub_node::{News, Refusal};
use millrace_hub_store::{Keys, ManifestError, SigningKey, Trust};

use crate::lan::Lan;
use crate::{assert_same, content};

/// A private key's file, and that of its public half.
fn key(lan: &Lan, name: &str) -> (PathBuf, PathBuf) {
    let [private, public] = ["key", "pub"].map(|ending| lan.folder.path().join(format!("{name}.{ending}")));
    let openssl = |arguments: &[&str]| {
        let status = Command::new("openssl").args(arguments).current_dir(lan.folder.path()).status();
        assert!(status.unwrap().success());
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", private.to_str().unwrap()]);
    openssl(&["pkey", "-in", private.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()]);
    (private, public)
}

#[test]
fn the_right_signature_is_wanted_and_no_older_version() {
    let lan = Lan::new(1);
    let (private, public) = key(&lan, "right");
    let (wrong, _) = key(&lan, "wrong");
    let trust = || Trust::Keys(Keys::load([&public]).unwrap());
    let file = |seed| lan.file("image.bin", &content(seed, 100_000));
    let sign = |key: &PathBuf, version, seed| {
        let mut sending = lan.sending(&[&file(seed)], 100_000_000);
        sending.key = Some(SigningKey::load(key).unwrap());
        sending.version = version;
        sending
    };
    let refused = |sending: crate::lan::Outgoing| {
        let node = lan.receive(2, trust(), None);
        let sender = std::thread::spawn(move || {
            // It is told nothing, and so ends when we do.
            let mut seconds = 0;
            sending.run(move |told| {
                seconds += u32::from(matches!(told, millrace_hub_node::Told::Progress(_)));
                seconds == 2
            })
        });
        let news = node.wait(|news| matches!(news, News::Refused { .. }));
        let sent = sender.join().unwrap();
        let (summary, _) = node.stop();
        assert_eq!((summary.received, summary.refused), (0, 1));
        assert!(sent.outcomes.is_empty(), "nobody said that it has it: {sent:?}");
        match news {
            News::Refused { why, .. } => why,
            _ => unreachable!("it was waited for"),
        }
    };

    let why = refused(sign(&wrong, 1, 1));
    assert!(matches!(why, Refusal::Manifest(ManifestError::Key)), "{why}");
    let why = refused(lan.sending(&[&file(1)], 100_000_000));
    assert!(matches!(why, Refusal::Manifest(ManifestError::Unsigned)), "{why}");
    assert!(!lan.at(2, "image.bin").exists());

    let node = lan.receive(2, trust(), Some(1));
    sign(&private, 7, 2).run(|_| false);
    assert_eq!(node.end().0.received, 1);
    assert_same(&lan.at(2, "image.bin"), &content(2, 100_000));

    let why = refused(sign(&private, 6, 3));
    assert!(matches!(why, Refusal::Superseded { offered: 6, known: 7 }), "{why}");
    assert_same(&lan.at(2, "image.bin"), &content(2, 100_000));
}

#[test]
fn what_is_not_what_the_manifest_names_is_asked_for_anew_and_not_acknowledged() {
    let lan = Lan::new(1);
    let bytes = content(4, 1_000_000);
    let file = lan.file("image.bin", &bytes);
    let node = lan.receive(2, Trust::Anybody, Some(1));
    let sending = lan.sending(&[&file], 8_000_000);
    let sender = std::thread::spawn(move || sending.run(|_| false));
    // It is hashed by now. A byte at the end is sent in a second.
    node.wait(|news| matches!(news, News::Begun { .. }));
    let write = |at: usize, byte| {
        std::fs::File::options().write(true).open(&file).unwrap().write_at(&[byte], at as u64)
    };
    write(bytes.len() - 1, !bytes[bytes.len() - 1]).unwrap();
    let news = node.wait(|news| matches!(news, News::Refused { .. }));
    assert!(matches!(news, News::Refused { why: Refusal::WrongRoot(_), .. }), "{news:?}");
    assert!(!lan.at(2, "image.bin").exists());

    write(bytes.len() - 1, bytes[bytes.len() - 1]).unwrap();
    let sent = sender.join().unwrap();
    assert!(sent.outcomes[0].complete);
    assert_eq!(node.end().0.received, 1);
    assert_same(&lan.at(2, "image.bin"), &bytes);
}

//! A process that is killed: at every call to the disk in turn, and at random moments. After each death the store is
//! opened again and what must hold is looked at.
//!
//! The process is this test program itself, asked for the one test below that is a victim and not a test.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use millrace_hub_store::{Error, Named, NodeId, Tree};
use rustix::process::{Signal, getpid, kill_process};

use super::disk::{Call, Ruled};
use super::*;

const FOLDER: &str = "MILLRACE_STORE_VICTIM";
const SEED: &str = "MILLRACE_STORE_SEED";
const DEATH: &str = "MILLRACE_STORE_DEATH";

/// Contents of a victim's life: one arrives by pieces, one with its list of hashes, one is put in.
fn contents() -> [Vec<u8>; 3] {
    [content(11, 9 * G + 321), content(12, 7 * G + 1), content(13, 5 * G + 60_000)]
}

/// A life in a folder: whatever of it an earlier life did is found and gone on with. What is durable is said before the
/// next step.
pub(crate) fn live(store: &Arc<Store>, seed: u64, say: &mut dyn FnMut(String)) -> Result<(), Error> {
    let mut dice = Dice::new(seed);
    let all = contents();
    for (at, bytes) in all[..2].iter().enumerate() {
        let manifest = manifest(&format!("arriving {at}"), 1, bytes);
        let root = manifest.description().root;
        store.begin(&manifest, NOW)?;
        if at == 1 {
            store.learn(root, &Tree::of(bytes).to_bytes(), NOW)?;
        }
        let mut segments: Vec<_> = (0..bytes.len().div_ceil(1400)).collect();
        for place in (1..segments.len()).rev() {
            segments.swap(place, dice.below(place as u64 + 1) as usize);
        }
        for (count, segment) in segments.into_iter().enumerate() {
            let start = segment * 1400;
            let end = bytes.len().min(start + 1400);
            store.write(root, start as u64, &bytes[start..end], NOW)?;
            if count % 60 == 59 {
                store.checkpoint(NOW)?;
                say(format!("held {at} {}", store.progress(root, NOW).unwrap().held));
            }
        }
        store.complete(root, NOW)?;
        say(format!("complete {at}"));
    }
    let mut incoming = store.put(Some(all[2].len() as u64), NOW)?;
    for piece in all[2].chunks(100_000) {
        incoming.write(piece, NOW)?;
    }
    let named = Named { name: label("put"), group: label("cameras"), version: None };
    let root = incoming.finish(named, None, NOW)?.description().root;
    say("complete 2".to_owned());
    store.distribute(root, 1, (0..8).map(NodeId), NOW, NOW)?;
    say("distributed".to_owned());
    for node in 0..7 {
        store.acked(root, 1, NodeId(node), NOW);
        store.checkpoint(NOW)?;
        say(format!("acked {node}"));
    }
    Ok(())
}

/// What a victim said last, by word.
#[derive(Debug, Default)]
pub(crate) struct Said {
    held: [u64; 2],
    complete: [bool; 3],
    distributed: bool,
    acked: u32,
}

impl Said {
    pub(crate) fn hear(&mut self, lines: &str) {
        for line in lines.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "held" => self.held[number(1) as usize] = number(2),
                "complete" => self.complete[number(1) as usize] = true,
                "distributed" => self.distributed = true,
                "acked" => self.acked = self.acked.max(number(1) as u32 + 1),
                _ => panic!("{line}"),
            }
        }
    }
}

/// Runs a life until it ends or is killed: at its `death`th call to the disk, or by `after` whoever comes first.
fn victim(folder: &Path, seed: u64, death: u64, after: Option<Duration>) -> (String, ExitStatus) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::victim_of_the_others", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .env(DEATH, death.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(after) = after {
        std::thread::sleep(after);
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said =
        said.lines().filter_map(|line| line.split_once("> ")).map(|(_, line)| format!("{line}\n")).collect();
    let killed = output.status.signal() == Some(Signal::KILL.as_raw());
    assert!(output.status.success() || killed, "{}", String::from_utf8_lossy(&output.stderr));
    (said, output.status)
}

/// Not a test by itself: the process that the tests below kill.
#[test]
fn victim_of_the_others() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let mut left = number(DEATH);
    // Bytes of segments are written in between, and many times.
    let disk = Ruled::new(move |call, ending| {
        left -= u64::from((call, ending) != (Call::Write, "part"));
        if left == 0 {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
        Ok(())
    });
    let store = Store::open_on(Arc::new(disk), Path::new(&folder), limits(1 << 30), NOW).unwrap();
    live(&store, number(SEED), &mut |line| println!("> {line}")).unwrap();
}

/// What must hold after a death, with what the dead had said before it.
pub(crate) fn check(folder: &Path, said: &Said, what: &str) {
    let store = open(folder);
    assert_eq!(store.counts().ledgers_lost + store.counts().contents_lost, 0, "{what}");
    let all = contents();
    for (at, bytes) in all.iter().enumerate() {
        let root = Root::of(bytes);
        match read(&store, root) {
            Ok(read) => assert_eq!(&read, bytes, "{what}: content {at}"),
            Err(error) => assert!(!said.complete[at], "{what}: content {at}: {error}"),
        }
        if at < 2
            && let Some(progress) = store.progress(root, NOW)
        {
            assert!(progress.held >= said.held[at], "{what}: {progress:?}, {said:?}");
            let missing = store.missing(root).unwrap();
            assert_eq!(progress.held + missing.total(), progress.size);
        }
    }
    let root = Root::of(&all[2]);
    match store.distribution(root, 1) {
        None => assert!(!said.distributed, "{what}"),
        Some(distribution) => {
            let owed: Vec<_> = distribution.owed().map(|node| node.0).collect();
            // One ack more than was said may have got to the disk.
            assert!(
                (said.acked..=said.acked + 1).any(|acked| owed.iter().copied().eq(acked..8)),
                "{what}: {owed:?}"
            );
        }
    }
    // No file is there that nothing speaks of.
    assert_eq!(std::fs::read_dir(folder.join("incoming")).unwrap().count(), 0, "{what}");
    let known = store.contents().len();
    let files = std::fs::read_dir(folder.join("blobs")).unwrap();
    let files = files.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap()).count();
    assert_eq!(files, known * 2, "{what}");
}

/// After whatever happened, a life without death gets everything there.
pub(crate) fn finish(folder: &Path, seed: u64, what: &str) {
    live(&open(folder), seed, &mut |_| ()).unwrap();
    let store = open(folder);
    for bytes in contents() {
        assert_eq!(read(&store, Root::of(&bytes)).unwrap(), bytes, "{what}");
    }
    assert_eq!(store.unfinished(), [(Root::of(&contents()[2]), 1, vec![NodeId(7)])], "{what}");
}

#[test]
fn killed_at_each_call_to_the_disk() {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let whole = tempfile::tempdir().unwrap();
    assert!(victim(whole.path(), seed, u64::MAX, None).1.success());
    let mut death = 1;
    let mut deaths = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let mut said = Said::default();
        let (lines, status) = victim(folder.path(), seed, death, None);
        said.hear(&lines);
        if status.success() {
            break;
        }
        deaths += 1;
        let what = format!("seed {seed}, killed at call {death}");
        check(folder.path(), &said, &what);
        finish(folder.path(), seed, &what);
        death += 1 + dice.below(6);
    }
    println!("seed {seed}: {deaths} deaths");
    assert!(deaths > 40, "{deaths}");
}

#[test]
fn killed_again_and_again_at_any_moment() {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let (mut deaths, mut rounds) = (0, 0..200);
    // A fast machine is often done before the blow.
    while deaths <= 6 {
        let round = rounds.next().expect("some are hit within so many rounds");
        let folder = tempfile::tempdir().unwrap();
        let mut said = Said::default();
        for life in 0..25 {
            let after = Duration::from_micros(3_000 + dice.below(60_000));
            let (lines, status) = victim(folder.path(), seed + life, u64::MAX, Some(after));
            said.hear(&lines);
            let what = format!("seed {seed}, round {round}, life {life}, killed after {after:?}");
            check(folder.path(), &said, &what);
            if status.success() {
                break;
            }
            deaths += 1;
        }
        finish(folder.path(), seed, &format!("seed {seed}, round {round}"));
    }
    println!("seed {seed}: {deaths} deaths");
}

/// A new seed for each run, printed; or the one that is to be looked at again.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("MILLRACE_STORE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Millis::now().0 % 1_000_000);
    println!("MILLRACE_STORE_TEST_SEED={seed}");
    seed
}

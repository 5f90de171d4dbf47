//! One transfer: a file to all receivers, timed from its first data on the trunk until the last receiver has it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::contender::{Contender, folder};
use super::site::{Loss, NODES, Traffic};
use crate::lab::{LabError, file, unreadable, wait_until};

/// For anything that a contender does.
pub(super) const DONE_MAX: Duration = Duration::from_secs(180);
/// So much on the trunk is more than anybody says before the first data; 5 ms at the full rate.
const BEGUN_BYTES: u64 = 65_536;
/// How often the trunk is looked at until then.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What is sent. Its folder goes with it.
pub(super) struct Source {
    pub(super) folder: PathBuf,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Source {
    /// Bytes that no link could make less.
    pub(super) fn new(size: usize) -> Result<Source, LabError> {
        let folder = std::env::temp_dir().join(format!("millrace-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(file(&folder))?;
        let path = folder.join("content.bin");
        let mut state = 1u64;
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 32) as u32).to_le_bytes()
        };
        let mut bytes: Vec<u8> = (0..size.div_ceil(4)).flat_map(|_| step()).collect();
        bytes.truncate(size);
        std::fs::write(&path, &bytes).map_err(file(&path))?;
        Ok(Source { folder, path, bytes })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // What is left behind in the folder for temporary files is no error.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What came of a transfer.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// From the first data until the last receiver had all.
    pub(super) took: Duration,
    /// From the sender's start until the first data: whatever it arranges before.
    pub(super) before: Duration,
    pub(super) traffic: Traffic,
}

/// Runs one in a site of its own; every receiver must have the same bytes in the end.
pub(super) fn transfer(contender: &dyn Contender, source: &Source, loss: Loss) -> Result<Outcome, LabError> {
    let site = contender.site()?;
    site.lose(loss)?;
    let receivers = (0..NODES).map(|node| contender.receive(&site, node)).collect::<Result<Vec<_>, _>>()?;
    let counted = site.traffic()?;
    let started = Instant::now();
    let sender = contender.send(&site, &source.path)?;
    let begun = loop {
        if site.trunk()?.down - counted.trunk.down >= BEGUN_BYTES {
            break Instant::now();
        }
        if started.elapsed() > DONE_MAX || sender.exited().is_some_and(|status| !status.success()) {
            site.lab.keep();
            return Err(unreadable(contender.name(), "no data on the trunk"));
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    let mut had: [Option<Instant>; NODES] = [None; NODES];
    let all = wait_until("all receivers to have all", DONE_MAX, || {
        for (receiver, had) in receivers.iter().zip(&mut had) {
            if had.is_none() && contender.has_all(receiver) {
                *had = Some(Instant::now());
            }
        }
        had.iter().copied().collect::<Option<Vec<_>>>()
    });
    let all = all.inspect_err(|_| site.lab.keep())?;
    contender.finish(&site, &sender).inspect_err(|_| site.lab.keep())?;
    let traffic = site.traffic()?.since(&counted);
    drop((sender, receivers));
    for node in 0..NODES {
        is_same(source, &folder(&site, node)?).inspect_err(|_| site.lab.keep())?;
    }
    let last = all.into_iter().max().unwrap_or(begun);
    Ok(Outcome { took: last - begun, before: begun - started, traffic })
}

/// Whether a receiver's folder holds what was sent.
fn is_same(source: &Source, folder: &Path) -> Result<(), LabError> {
    let path = folder.join(source.path.file_name().unwrap_or_default());
    let mut got = Vec::new();
    File::open(&path).and_then(|mut opened| opened.read_to_end(&mut got)).map_err(file(&path))?;
    match got == source.bytes {
        true => Ok(()),
        false => Err(unreadable(path.display().to_string(), "isn't what was sent")),
    }
}

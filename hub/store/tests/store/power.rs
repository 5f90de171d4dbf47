//! Power that fails: what was written and not synced is on the disk in part, or not at all. A killed process doesn't
//! show that, because the kernel still writes what it had been given.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millrace_hub_store::disk::{Disk, File, Real};

use super::crash::{Said, check, finish, live, seed};
use super::*;

/// A disk that remembers what isn't durable yet, and whose power goes after so many calls.
#[derive(Debug, Clone)]
struct Power(Arc<Mutex<Supply>>);

#[derive(Debug)]
struct Supply {
    calls_left: u64,
    /// In the order in which they happened.
    loose: Vec<Loose>,
}

/// Something that a loss of power may undo.
#[derive(Debug)]
enum Loose {
    /// Bytes written to a file: what was there before.
    Bytes { file: Arc<dyn File>, id: usize, offset: u64, before: Vec<u8> },
    /// A name given in a folder.
    Name { from: PathBuf, to: PathBuf },
}

impl Power {
    fn new(calls_left: u64) -> Self {
        Self(Arc::new(Mutex::new(Supply { calls_left, loose: Vec::new() })))
    }

    fn is_on(&self) -> bool {
        self.0.lock().unwrap().calls_left > 0
    }

    fn spend(&self) -> io::Result<()> {
        let mut supply = self.0.lock().unwrap();
        supply.calls_left = supply.calls_left.saturating_sub(1);
        if supply.calls_left == 0 { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    /// Undoes some of what wasn't durable, as the dice say.
    fn lose(&self, dice: &mut Dice) {
        let loose = std::mem::take(&mut self.0.lock().unwrap().loose);
        for one in loose.into_iter().rev() {
            if dice.below(3) == 0 {
                continue;
            }
            match one {
                Loose::Bytes { file, offset, before, .. } => file.write(offset, &before).unwrap(),
                // Gone already, if the file was removed since.
                Loose::Name { from, to } => drop(std::fs::rename(to, from)),
            }
        }
    }

    fn settle(&self, durable: impl Fn(&Loose) -> bool) {
        self.0.lock().unwrap().loose.retain(|one| !durable(one));
    }
}

impl Disk for Power {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.spend()?;
        Ok(Arc::new(PoweredFile { power: self.clone(), file: Real.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.spend()?;
        Real.rename(from, to)?;
        let name = Loose::Name { from: from.to_owned(), to: to.to_owned() };
        self.0.lock().unwrap().loose.push(name);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.spend()?;
        Real.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.spend()?;
        self.settle(|one| matches!(one, Loose::Name { to, .. } if to.parent() == Some(path)));
        Real.sync_folder(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        Real.free(path)
    }
}

#[derive(Debug)]
struct PoweredFile {
    power: Power,
    file: Arc<dyn File>,
}

impl PoweredFile {
    fn id(&self) -> usize {
        Arc::as_ptr(&self.file).addr()
    }
}

impl File for PoweredFile {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.power.spend()?;
        self.file.read(offset, into)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.power.spend()?;
        let there = self.file.length()?.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let mut before = vec![0; bytes.len()];
        self.file.read(offset, &mut before[..there])?;
        let (file, id) = (Arc::clone(&self.file), self.id());
        self.power.0.lock().unwrap().loose.push(Loose::Bytes { file, id, offset, before });
        self.file.write(offset, bytes)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.power.spend()?;
        self.file.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.power.spend()?;
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn sync(&self) -> io::Result<()> {
        self.power.spend()?;
        let own = self.id();
        self.power.settle(|one| matches!(one, Loose::Bytes { id, .. } if *id == own));
        self.file.sync()
    }
}

#[test]
fn power_lost_at_any_call() {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let (mut calls, mut losses) = (1, 0);
    loop {
        calls += 1 + dice.below(50);
        let folder = tempfile::tempdir().unwrap();
        let power = Power::new(calls);
        let mut said = Said::default();
        let done =
            Store::open_on(Arc::new(power.clone()), folder.path(), limits(1 << 30), NOW).and_then(|store| {
                live(&store, seed, &mut |line| {
                    if power.is_on() {
                        said.hear(&line);
                    }
                })
            });
        if done.is_ok() && power.is_on() {
            break;
        }
        losses += 1;
        power.lose(&mut dice);
        let what = format!("seed {seed}, power lost at call {calls}");
        check(folder.path(), &said, &what);
        finish(folder.path(), seed, &what);
    }
    println!("seed {seed}: {losses} losses");
    assert!(losses > 20, "{losses}");
}

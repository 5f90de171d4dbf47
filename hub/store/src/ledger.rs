//! The ledger on disk: rows in a `redb` file, changed in batches that are there wholly or not at all.
//!
//! It is read once, when the store is opened; from then on memory leads and the ledger follows. A batch that can't be
//! written (the disk is full, an I/O error) stays here and goes in with the next one, so that the store serves on
//! meanwhile; only a crash in between loses it, and what it said is then found or fetched again. After an I/O error
//! redb touches its file no more, so it is closed and opened anew.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::disk::{Backend, Disk};

/// What a row is about. The key's first byte in the file, so that a table is a range of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Table {
    /// Root: state, size, use, manifest.
    Content = 1,
    /// Root and page: which groups are whole, a bit each.
    Whole = 2,
    /// Root and group: the pieces that have arrived of a group that isn't whole.
    Pieces = 3,
    /// Root and version: a distribution.
    Distribution = 4,
    /// Root, version and node: what the node is owed.
    Node = 5,
    /// Group of nodes and name: the newest version of what is called so.
    Name = 6,
    /// Source's path: what was taken in from there.
    Taken = 7,
}

/// Changes that belong together, later ones in place of earlier: a row's new value, or `None` to remove it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Batch(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Batch {
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.0.insert(full(table, key), Some(value));
    }

    pub(crate) fn remove(&mut self, table: Table, key: &[u8]) {
        self.0.insert(full(table, key), None);
    }

    pub(crate) fn append(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

fn full(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

/// All rows, as they are when the store is opened.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether the ledger was made just now: then it says nothing of what files there are.
    pub(crate) fresh: bool,
}

impl Rows {
    /// The rows of a table whose keys begin so, without the table's byte: key and value.
    pub(crate) fn of<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let start = full(table, prefix);
        let rows = self.rows.range(start.clone()..).take_while(move |(key, _)| key.starts_with(&start));
        rows.map(|(key, value)| (&key[1..], &value[..]))
    }
}

/// Why the ledger couldn't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has the store open.
    #[error("the store is open in another process")]
    Open,
    /// It was written by another version of this program.
    #[error("the ledger has format {0}, this program reads format {FORMAT}")]
    Format(u64),
    /// What is in the file isn't what redb wrote there.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The disk didn't do it.
    #[error("the ledger's disk: {0}")]
    Disk(#[source] io::Error),
}

/// The open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// `None` after an I/O error, until it is opened anew.
    open: Option<Database>,
    /// What a failed commit left.
    owed: Batch,
}

impl Ledger {
    /// Opens a ledger, or makes an empty one, and reads all of it.
    pub(crate) fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Rows), LedgerError> {
        let fresh = !path.exists();
        if fresh {
            make(path, &*disk)?;
        }
        let database = open(path, &*disk)?;
        let rows = Rows { rows: read(&database)?, fresh };
        Ok((Self { path: path.to_owned(), disk, open: Some(database), owed: Batch::default() }, rows))
    }

    /// Writes a batch, after whatever earlier commits couldn't. Durable when this returns.
    ///
    /// # Errors
    ///
    /// The batch is kept and written with the next one.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), LedgerError> {
        self.owed.append(batch);
        if self.owed.0.is_empty() {
            return Ok(());
        }
        let database = match self.open.take() {
            Some(database) => database,
            None => open(&self.path, &*self.disk)?,
        };
        write(&database, &self.owed.0)?;
        self.open = Some(database);
        self.owed.0.clear();
        Ok(())
    }

    /// Whether an earlier commit failed and its changes wait here.
    pub(crate) fn is_behind(&self) -> bool {
        !self.owed.0.is_empty()
    }
}

/// Makes an empty ledger under another name first: one that is there was made to the end.
fn make(path: &Path, disk: &dyn Disk) -> Result<(), LedgerError> {
    let new = path.with_extension("new");
    disk.remove(&new).map_err(LedgerError::Disk)?;
    let database = database(&new, disk)?;
    let transaction = database.begin_write().map_err(error)?;
    transaction.open_table(META).map_err(error)?.insert("format", FORMAT).map_err(error)?;
    transaction.open_table(ROWS).map_err(error)?;
    transaction.commit().map_err(error)?;
    drop(database);
    disk.rename(&new, path).map_err(LedgerError::Disk)?;
    disk.sync_folder(path.parent().unwrap_or(path)).map_err(LedgerError::Disk)
}

fn open(path: &Path, disk: &dyn Disk) -> Result<Database, LedgerError> {
    let database = database(path, disk)?;
    let format = {
        let transaction = database.begin_read().map_err(error)?;
        let meta = transaction.open_table(META).map_err(error)?;
        meta.get("format").map_err(error)?.map(|value| value.value())
    };
    match format {
        Some(FORMAT) => Ok(database),
        other => Err(LedgerError::Format(other.unwrap_or(0))),
    }
}

fn database(path: &Path, disk: &dyn Disk) -> Result<Database, LedgerError> {
    let file = disk.open(path).map_err(LedgerError::Disk)?;
    // Checked in full at each opening: it is small, and a flipped bit must be an error here and not a panic later.
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder.create_with_backend(Backend(file)).map_err(error)
}

fn read(database: &Database) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LedgerError> {
    let transaction = database.begin_read().map_err(error)?;
    let table = transaction.open_table(ROWS).map_err(error)?;
    let rows = table.iter().map_err(error)?.map(|row| {
        let (key, value) = row.map_err(error)?;
        Ok((key.value().to_vec(), value.value().to_vec()))
    });
    rows.collect()
}

fn write(database: &Database, changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), LedgerError> {
    let transaction = database.begin_write().map_err(error)?;
    {
        let mut table = transaction.open_table(ROWS).map_err(error)?;
        for (key, value) in changes {
            match value {
                Some(value) => table.insert(&key[..], &value[..]).map_err(error)?,
                None => table.remove(&key[..]).map_err(error)?,
            };
        }
    }
    transaction.commit().map_err(error)
}

fn error(from: impl Into<redb::Error>) -> LedgerError {
    match from.into() {
        redb::Error::DatabaseAlreadyOpen => LedgerError::Open,
        // A header that isn't redb's, or an end where there should be a page.
        redb::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            LedgerError::Damaged(error.to_string())
        }
        redb::Error::Io(error) => LedgerError::Disk(error),
        redb::Error::PreviousIo => LedgerError::Disk(io::ErrorKind::Other.into()),
        other => LedgerError::Damaged(other.to_string()),
    }
}

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// The format of the rows.
const FORMAT: u64 = 1;
/// Bytes of redb's page cache: the ledger of a million groups fits.
const CACHE: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Real;

    fn rows(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LedgerError> {
        let (_, rows) = Ledger::open(path, Arc::new(Real))?;
        Ok(rows.rows)
    }

    #[test]
    fn a_batch_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let (mut ledger, _) = Ledger::open(&path, Arc::new(Real)).unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Name, b"a", b"1".into());
        batch.put(Table::Name, b"b", b"2".into());
        batch.put(Table::Whole, b"a", b"3".into());
        batch.remove(Table::Name, b"a");
        ledger.commit(batch).unwrap();
        drop(ledger);
        let (_, rows) = Ledger::open(&path, Arc::new(Real)).unwrap();
        assert_eq!(rows.of(Table::Name, b"").collect::<Vec<_>>(), [(&b"b"[..], &b"2"[..])]);
        assert_eq!(rows.of(Table::Whole, b"a").count(), 1);
    }

    #[test]
    fn flipped_bits_are_an_error_or_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let (mut ledger, _) = Ledger::open(&path, Arc::new(Real)).unwrap();
        let mut batch = Batch::default();
        for at in 0_u32..200 {
            batch.put(Table::Pieces, &at.to_be_bytes(), vec![7; 40]);
        }
        ledger.commit(batch).unwrap();
        drop(ledger);
        let good = std::fs::read(&path).unwrap();
        let right = rows(&path).unwrap();
        let mut found = 0;
        // Pages of every kind, and each byte of the header that redb begins with.
        for at in (0..320).chain((320..good.len()).step_by(20_011)) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            match rows(&path) {
                Ok(rows) => assert_eq!(rows, right, "byte {at} of {}", good.len()),
                Err(LedgerError::Damaged(_)) => found += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert!(found > 0);
    }
}

//! What the store knows, in memory. It leads; the ledger follows.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::error::Error;
use crate::ledger::{Batch, Table};
use crate::manifest::{Label, Manifest};
use crate::part::Part;
use crate::read::Blob;
use crate::root::Root;
use crate::taken::Seen;
use crate::time::Millis;
use crate::tree;

/// Everything, behind one lock that is held for no longer than a look or a change takes.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) contents: HashMap<Root, Content>,
    /// Group of nodes and name: the newest manifest.
    pub(crate) names: BTreeMap<(Label, Label), Manifest>,
    /// Root and version.
    pub(crate) distributions: BTreeMap<(Root, u64), Distribution>,
    /// Where contents were taken in from.
    pub(crate) taken: HashMap<String, Seen>,
    /// Bytes promised to what is being put in and has no root yet.
    pub(crate) incoming: u64,
    /// Changes that wait for the next checkpoint.
    pub(crate) pending: Batch,
    pub(crate) pending_since: Option<Millis>,
}

/// One content.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) used: Millis,
    pub(crate) held: Held,
}

#[derive(Debug)]
pub(crate) enum Held {
    Arriving(Arc<Part>),
    /// The blob, while somebody reads it.
    Complete(Weak<Blob>),
}

/// A row of [`Table::Content`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContentRow {
    pub(crate) size: u64,
    pub(crate) used: Millis,
    pub(crate) complete: bool,
    /// Whether the list of hashes was checked against the root before anything was put in its place.
    pub(crate) known: bool,
}

impl Content {
    /// Bytes that it takes of the budget.
    pub(crate) fn cost(&self) -> u64 {
        cost(self.size)
    }

    pub(crate) fn row(&self, root: Root, batch: &mut Batch) {
        let (complete, known) = match &self.held {
            Held::Arriving(part) => (false, part.is_known()),
            Held::Complete(_) => (true, true),
        };
        let row = ContentRow { size: self.size, used: self.used, complete, known };
        batch.put(Table::Content, root.as_bytes(), json(&row));
    }
}

/// Bytes of the budget that a content of this size takes: its own and those of the list of hashes.
pub(crate) fn cost(size: u64) -> u64 {
    size + u64::from(tree::groups(size)) * 32
}

pub(crate) fn json(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows are numbers, text and lists of them")
}

impl State {
    /// Bytes of the budget that are taken.
    pub(crate) fn cost(&self) -> u64 {
        self.contents.values().map(Content::cost).sum::<u64>() + self.incoming
    }

    pub(crate) fn content(&self, root: Root) -> Result<&Content, Error> {
        self.contents.get(&root).ok_or(Error::Unknown(root))
    }

    pub(crate) fn part(&self, root: Root) -> Result<Option<Arc<Part>>, Error> {
        Ok(match &self.content(root)?.held {
            Held::Arriving(part) => Some(Arc::clone(part)),
            Held::Complete(_) => None,
        })
    }

    /// Whether a content may not be removed: nodes are still owed it, or late ones may come for it.
    pub(crate) fn is_pinned(&self, root: Root, now: Millis) -> bool {
        self.distributions.range((root, 0)..=(root, u64::MAX)).any(|(_, one)| one.pins(now))
    }

    /// Whether a manifest may stand for its name: not older than what is known, and not something else.
    pub(crate) fn admits(&self, manifest: &Manifest) -> Result<(), Error> {
        let new = manifest.description();
        let same = self.contents.get(&new.root);
        if same.is_some_and(|content| content.size != new.size) {
            return Err(Error::Conflict);
        }
        let Some(known) = self.names.get(&(new.group.clone(), new.name.clone())) else { return Ok(()) };
        let known = known.description();
        if new.version < known.version {
            return Err(Error::Superseded { offered: new.version, known: known.version });
        }
        if new.version == known.version && new.root != known.root {
            return Err(Error::Conflict);
        }
        Ok(())
    }

    pub(crate) fn name(&mut self, manifest: &Manifest, batch: &mut Batch) {
        let what = manifest.description();
        name_row(manifest, batch);
        self.names.insert((what.group.clone(), what.name.clone()), manifest.clone());
    }

    /// The rows of a content and of its name as they are known, in place of what was written ahead.
    pub(crate) fn rows(&self, manifest: &Manifest, batch: &mut Batch) {
        let what = manifest.description();
        match self.contents.get(&what.root) {
            Some(content) => content.row(what.root, batch),
            None => batch.remove(Table::Content, what.root.as_bytes()),
        }
        match self.names.get(&(what.group.clone(), what.name.clone())) {
            Some(known) => name_row(known, batch),
            None => batch.remove(Table::Name, &name_key(&what.group, &what.name)),
        }
    }

    /// Notes a change for the next checkpoint.
    pub(crate) fn later(&mut self, now: Millis) -> &mut Batch {
        self.pending_since.get_or_insert(now);
        &mut self.pending
    }

    /// Notes that a content was used.
    pub(crate) fn touch(&mut self, root: Root, now: Millis) {
        let Some(content) = self.contents.get_mut(&root) else { return };
        // To the second: a reader that comes for each segment doesn't make the ledger busy.
        if now.since(content.used) >= 1000 {
            content.used = now;
            content.row(root, &mut self.pending);
            self.pending_since.get_or_insert(now);
        }
    }
}

pub(crate) fn name_row(manifest: &Manifest, batch: &mut Batch) {
    let what = manifest.description();
    batch.put(Table::Name, &name_key(&what.group, &what.name), manifest.as_bytes().to_vec());
}

fn name_key(group: &Label, name: &Label) -> Vec<u8> {
    // No label has a zero byte in it.
    [group.as_str().as_bytes(), &[0], name.as_str().as_bytes()].concat()
}

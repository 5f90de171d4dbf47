//! The entries of the neighbour table: their states, timers and bounds. Knows nothing of ARP and ND.

use std::collections::{BTreeSet, HashMap, VecDeque};

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::{InterfaceId, Mac};

/// What an entry is found by.
pub(super) type Key = (InterfaceId, Addr);

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Configured; never asked for, never changed.
    Static,
    /// Asked for, no answer yet.
    Incomplete,
    /// Known, and heard of lately.
    Reachable,
    /// Known, and being asked whether it is still there.
    Probing,
    /// Doesn't answer.
    Failed,
}

impl State {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            State::Static => "static",
            State::Incomplete => "incomplete",
            State::Reachable => "reachable",
            State::Probing => "probing",
            State::Failed => "failed",
        }
    }
}

/// One neighbour. `P` is a packet that waits for it.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) state: State,
    /// Its link-layer address, once known.
    pub(super) mac: Option<Mac>,
    /// A route or an instance leads through it: it is kept fresh, and never evicted.
    pub(super) wanted: bool,
    /// A packet had to go there.
    pub(super) demanded: bool,
    /// The last search for it found nobody, and it hasn't been heard of since.
    pub(super) lost: bool,
    /// Requests sent in this state.
    pub(super) tries: u32,
    /// When it was last heard of, or came into this state.
    pub(super) since: Nanos,
    due: Option<Nanos>,
    parked: VecDeque<(u64, P)>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table<P> {
    entries: HashMap<Key, Entry<P>>,
    timers: BTreeSet<(Nanos, Key)>,
    /// Parked packets, oldest first; those that left in the meantime are skipped.
    order: VecDeque<(u64, Key)>,
    parked: usize,
    sequence: u64,
    max: usize,
}

impl<P> Table<P> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            order: VecDeque::new(),
            parked: 0,
            sequence: 0,
            max,
        }
    }

    /// Another bound from now on. What is there beyond it makes room as others come.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn get(&self, key: Key) -> Option<&Entry<P>> {
        self.entries.get(&key)
    }

    /// The entry, to be changed but for its timer and its parked packets.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Entry<P>> {
        self.entries.get_mut(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Entry<P>)> {
        self.entries.iter().map(|(key, entry)| (*key, entry))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Adds an entry. When the table is full, the neighbour that was silent for longest makes room, one that nobody
    /// demanded first; `Err` when there is none that may go. Gives back who had to.
    pub(super) fn insert(&mut self, key: Key, entry: Entry<P>) -> Result<Option<(Key, Entry<P>)>, Full> {
        let evicted = if self.entries.len() >= self.max {
            let evictable = |entry: &Entry<P>| entry.is_evictable();
            let oldest = self
                .entries
                .iter()
                .filter(|(_, entry)| evictable(entry))
                .min_by_key(|(key, entry)| (entry.demanded, entry.since, **key))
                .map(|(key, _)| *key)
                .ok_or(Full)?;
            self.remove(oldest).map(|entry| (oldest, entry))
        } else {
            None
        };
        self.entries.insert(key, entry);
        Ok(evicted)
    }

    /// Of the entries that `which` selects: how many there are, and which was silent for longest.
    pub(super) fn oldest(&self, which: impl Fn(&Entry<P>) -> bool) -> (usize, Option<Key>) {
        let selected = self.entries.iter().filter(|(_, entry)| which(entry));
        let count = selected.clone().count();
        let oldest = selected.min_by_key(|(key, entry)| (entry.since, **key)).map(|(key, _)| *key);
        (count, oldest)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry<P>> {
        let entry = self.entries.remove(&key)?;
        if let Some(due) = entry.due {
            self.timers.remove(&(due, key));
        }
        self.parked -= entry.parked.len();
        Some(entry)
    }

    /// Sets or clears the time at which [`Table::pop_due`] gives the entry out.
    pub(super) fn schedule(&mut self, key: Key, due: Option<Nanos>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(old) = std::mem::replace(&mut entry.due, due) {
            self.timers.remove(&(old, key));
        }
        if let Some(due) = due {
            self.timers.insert((due, key));
        }
    }

    /// The next entry whose time has come.
    pub(super) fn pop_due(&mut self, now: Nanos) -> Option<Key> {
        let (due, key) = *self.timers.first()?;
        if due > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = None;
        }
        Some(key)
    }

    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Parks a packet at an entry. Gives back the packet that had to go for it, or the packet itself when there is no
    /// such entry.
    pub(super) fn park(&mut self, key: Key, packet: P) -> Option<P> {
        let Some(entry) = self.entries.get_mut(&key) else { return Some(packet) };
        self.sequence += 1;
        entry.parked.push_back((self.sequence, packet));
        let over = entry.parked.len() > PARKED_PER_NEIGHBOUR_MAX;
        self.order.push_back((self.sequence, key));
        self.parked += 1;
        if over {
            self.parked -= 1;
            return self.entries.get_mut(&key)?.parked.pop_front().map(|(_, packet)| packet);
        }
        if self.order.len() > 2 * PARKED_MAX {
            let entries = &self.entries;
            self.order.retain(|(sequence, key)| is_parked(entries, *sequence, *key));
        }
        while self.parked > PARKED_MAX {
            let (sequence, key) = self.order.pop_front()?;
            if is_parked(&self.entries, sequence, key) {
                self.parked -= 1;
                return self.entries.get_mut(&key)?.parked.pop_front().map(|(_, packet)| packet);
            }
        }
        None
    }

    /// Takes the packets parked at an entry, oldest first.
    pub(super) fn take_parked(&mut self, key: Key) -> Vec<P> {
        let Some(entry) = self.entries.get_mut(&key) else { return Vec::new() };
        self.parked -= entry.parked.len();
        entry.parked.drain(..).map(|(_, packet)| packet).collect()
    }
}

fn is_parked<P>(entries: &HashMap<Key, Entry<P>>, sequence: u64, key: Key) -> bool {
    // Packets leave an entry from the front, so what is older than its front is gone.
    entries.get(&key).and_then(|entry| entry.parked.front()).is_some_and(|(front, _)| *front <= sequence)
}

impl<P> Entry<P> {
    pub(super) fn new(state: State, mac: Option<Mac>, now: Nanos) -> Self {
        Self {
            state,
            mac,
            wanted: false,
            demanded: false,
            lost: false,
            tries: 0,
            since: now,
            due: None,
            parked: VecDeque::new(),
        }
    }

    /// Whether it was only heard of, and nobody asked for it.
    pub(super) fn is_passive(&self) -> bool {
        !self.wanted && !self.demanded && self.state != State::Static
    }

    /// Whether it is looked for because of a packet, and not found.
    pub(super) fn is_missing(&self) -> bool {
        !self.wanted && matches!(self.state, State::Incomplete | State::Failed)
    }

    fn is_evictable(&self) -> bool {
        !self.wanted && self.state != State::Static && self.state != State::Incomplete
    }

    /// The packets that waited when the entry was removed.
    pub(super) fn into_parked(self) -> impl Iterator<Item = P> {
        self.parked.into_iter().map(|(_, packet)| packet)
    }
}

/// No entry may make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Packets that wait for one neighbour: the first segments of as many flows.
pub const PARKED_PER_NEIGHBOUR_MAX: usize = 16;
/// Packets that wait for neighbours in all; half of one worker's parcels, so that punts go on meanwhile.
pub const PARKED_MAX: usize = 256;
const _: () = assert!(PARKED_MAX * 2 <= millrace_fastpath::queue::PARCELS_MAX);

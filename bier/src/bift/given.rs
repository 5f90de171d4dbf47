//! BIFTs from rows that were written by hand: a neighbour, the routers that it leads to, and who stands in for it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::{Bift, Neighbour, NeighbourIndex, Reach, Rows, TABLES_MAX, Table};
use crate::bift_id::{BiftId, BiftIds};
use crate::id::{BfrId, BiftKey, BitPosition, Bsl, Si, SubDomain};

/// What the rows are for.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The sub-domain.
    pub sub_domain: SubDomain,
    /// How long bit strings are.
    pub bsl: Bsl,
    /// This router's own number, unless it only passes packets on.
    pub own: Option<BfrId>,
    /// Between how many tables entropy chooses, 1 to [`TABLES_MAX`].
    pub tables: usize,
    /// What makes this router's choices differ from those of others.
    pub seed: u32,
    /// The neighbours, and the BIFT-ids that each wants.
    pub neighbours: &'a [(Neighbour, BiftIds)],
    /// The rows. A router in rows of several neighbours has that many equal ways.
    pub rows: &'a [Row],
}

/// A row by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// A place in [`Given::neighbours`].
    pub neighbour: NeighbourIndex,
    /// The routers that it leads to.
    pub bfr_ids: Vec<BfrId>,
    /// Who gets this row's copies while the neighbour is down. That it doesn't send them back is for the operator to know.
    pub backup: Option<NeighbourIndex>,
}

/// What is wrong with rows. Each names the row by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// There is no neighbour with this index.
    #[error("row {row}: there is no neighbour {}", neighbour.0)]
    UnknownNeighbour {
        /// The row.
        row: usize,
        /// As it says.
        neighbour: NeighbourIndex,
    },
    /// A row stands in for itself.
    #[error("row {row}: a neighbour can't be its own backup")]
    OwnBackup {
        /// The row.
        row: usize,
    },
    /// Packets for this router itself don't leave it.
    #[error("row {row}: {id} is this router")]
    OwnId {
        /// The row.
        row: usize,
        /// The number.
        id: BfrId,
    },
    /// The number needs a set identifier above 255.
    #[error("row {row}: {id} is beyond the sets that there are")]
    BeyondSets {
        /// The row.
        row: usize,
        /// The number.
        id: BfrId,
    },
    /// A router twice by the same way.
    #[error("row {row}: {id} already goes to this neighbour, by row {first}")]
    Repeated {
        /// The row.
        row: usize,
        /// The row that has it too.
        first: usize,
        /// The number.
        id: BfrId,
    },
    /// A router has more equal ways than there are tables, so that one would never be used.
    #[error("row {row}: {id} has more ways than there are tables")]
    MoreWaysThanTables {
        /// The row.
        row: usize,
        /// The number.
        id: BfrId,
    },
    /// A number of hosts can't be anybody else's as well: those of two networks would take turns.
    #[error("row {row}: {id} is a number of hosts, or of others, by row {first}")]
    HostsAndOthers {
        /// The row.
        row: usize,
        /// The row that has it too.
        first: usize,
        /// The number.
        id: BfrId,
    },
    /// Hosts don't pass anything on.
    #[error("row {row}: hosts can't stand in for a router")]
    HostsAsBackup {
        /// The row.
        row: usize,
    },
    /// The neighbour has no BIFT-id for a set that this row needs.
    #[error("row {row}: neighbour {} has no BIFT-id for set {}", neighbour.0, si.0)]
    NoBiftId {
        /// The row.
        row: usize,
        /// The neighbour, or the backup.
        neighbour: NeighbourIndex,
        /// The set.
        si: Si,
    },
}

/// An equal way to a router: the row that says so, the neighbour, its backup.
type Way = (usize, NeighbourIndex, Option<NeighbourIndex>);

/// The BIFTs that these rows make: one for each set that a row or this router itself belongs to.
///
/// # Errors
/// All that is wrong with the rows.
///
/// # Panics
/// If the number of tables isn't 1 to [`TABLES_MAX`], or there are more neighbours than
/// [`NEIGHBOURS_MAX`](super::NEIGHBOURS_MAX).
pub fn build(given: &Given<'_>) -> Result<Vec<Bift>, Vec<RowError>> {
    build_on_ports(given, |neighbour| u32::from(neighbour.0))
}

/// The same where `port` tells by which port a neighbour is reached: those of one port fail together, and don't stand in
/// for each other.
///
/// # Errors
/// All that is wrong with the rows.
///
/// # Panics
/// As [`build`].
pub fn build_on_ports(
    given: &Given<'_>,
    port: impl Fn(NeighbourIndex) -> u32,
) -> Result<Vec<Bift>, Vec<RowError>> {
    assert!((1..=TABLES_MAX).contains(&given.tables) && given.neighbours.len() <= super::NEIGHBOURS_MAX);
    let (ways, mut errors) = ways(given);
    let own = given.own.and_then(|id| id.position(given.bsl));
    let mut sets: BTreeMap<Si, Vec<(BitPosition, &[Way])>> = BTreeMap::new();
    if let Some((si, _)) = own {
        sets.entry(si).or_default();
    }
    for (id, ways) in &ways {
        let (si, bit) = id.position(given.bsl).expect("checked with its row");
        sets.entry(si).or_default().push((bit, ways));
    }
    let neighbours: Arc<[Neighbour]> =
        given.neighbours.iter().map(|(neighbour, _)| neighbour.clone()).collect();
    let mut bifts = Vec::new();
    for (si, bits) in &sets {
        let key = BiftKey { sub_domain: given.sub_domain, si: *si, bsl: given.bsl };
        // Hosts read no BIFT-id.
        let id = |(neighbour, ids): &(Neighbour, BiftIds)| match neighbour.reach {
            Reach::Hosts(_) => Some(BiftId::static_form(key)),
            _ => ids.id(key),
        };
        let out: Box<[_]> = given.neighbours.iter().map(id).collect();
        let needed: BTreeSet<_> = bits.iter().flat_map(|(_, ways)| ways.iter()).copied().collect();
        for (row, neighbour, backup) in needed {
            for neighbour in [Some(neighbour), backup].into_iter().flatten() {
                if out[usize::from(neighbour.0)].is_none() {
                    errors.push(RowError::NoBiftId { row, neighbour, si: *si });
                }
            }
        }
        let local = own.filter(|(own_si, _)| own_si == si).map(|(_, bit)| bit);
        let tables = (0..given.tables).map(|table| one_table(given, bits, table, &port)).collect();
        bifts.push(Bift::new(key, local, neighbours.clone(), out, tables, given.seed));
    }
    if errors.is_empty() { Ok(bifts) } else { Err(errors) }
}

/// The ways to each router, and what is wrong with the rows.
fn ways(given: &Given<'_>) -> (BTreeMap<BfrId, Vec<Way>>, Vec<RowError>) {
    let mut ways: BTreeMap<BfrId, Vec<Way>> = BTreeMap::new();
    let mut errors = Vec::new();
    for (row, Row { neighbour, bfr_ids, backup }) in given.rows.iter().enumerate() {
        let unknown = |neighbour: &NeighbourIndex| usize::from(neighbour.0) >= given.neighbours.len();
        let wrong: Vec<_> = [Some(*neighbour), *backup].into_iter().flatten().filter(unknown).collect();
        errors
            .extend(wrong.iter().map(|neighbour| RowError::UnknownNeighbour { row, neighbour: *neighbour }));
        if *backup == Some(*neighbour) {
            errors.push(RowError::OwnBackup { row });
        }
        if !wrong.is_empty() {
            continue;
        }
        let are_hosts =
            |one: NeighbourIndex| matches!(given.neighbours[usize::from(one.0)].0.reach, Reach::Hosts(_));
        if backup.is_some_and(are_hosts) {
            errors.push(RowError::HostsAsBackup { row });
        }
        for id in bfr_ids.iter().copied() {
            let entry = ways.entry(id).or_default();
            if given.own == Some(id) {
                errors.push(RowError::OwnId { row, id });
            } else if id.position(given.bsl).is_none() {
                errors.push(RowError::BeyondSets { row, id });
            } else if let Some((first, ..)) = entry.iter().find(|(_, other, _)| other == neighbour) {
                errors.push(RowError::Repeated { row, first: *first, id });
            } else if let Some((first, ..)) =
                entry.iter().find(|(_, other, _)| are_hosts(*other) || are_hosts(*neighbour))
            {
                errors.push(RowError::HostsAndOthers { row, first: *first, id });
            } else if entry.len() == given.tables {
                errors.push(RowError::MoreWaysThanTables { row, id });
            } else {
                entry.push((row, *neighbour, *backup));
            }
        }
    }
    ways.retain(|_, ways| !ways.is_empty());
    (ways, errors)
}

fn one_table(
    given: &Given<'_>,
    bits: &[(BitPosition, &[Way])],
    table: usize,
    port: &impl Fn(NeighbourIndex) -> u32,
) -> Table {
    let chosen = bits.iter().map(|(bit, ways)| (*bit, ways[table % ways.len()]));
    let words = given.bsl.words();
    let rows = Rows::new(words, chosen.clone().map(|(bit, (_, neighbour, _))| (bit, neighbour)));
    let mut on_failure = vec![None; given.neighbours.len()];
    for failing in rows.neighbours() {
        let is_up = |neighbour: &NeighbourIndex| port(*neighbour) != port(*failing);
        let instead = chosen.clone().filter_map(|(bit, (_, neighbour, backup))| {
            Some((bit, if is_up(&neighbour) { neighbour } else { backup.filter(is_up)? }))
        });
        on_failure[usize::from(failing.0)] = Some(Rows::new(words, instead));
    }
    Table::new(rows, on_failure.into())
}

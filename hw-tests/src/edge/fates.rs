//! The three laws of fates, computed here from what an operator sees; shares no code with the workers that count.

use serde_json::Value;

/// The fates of all workers, summed, as `millrace show workers --json` tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fates(std::collections::BTreeMap<String, u64>);

/// A law that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// The law, from 1 to 3.
    pub law: u8,
    /// What came in, or was to be sent, or was held.
    pub left: u64,
    /// What became of it.
    pub right: u64,
}

impl std::fmt::Display for Unexplained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "law {}: {} on the left, {} on the right", self.law, self.left, self.right)
    }
}

impl Fates {
    /// Sums the `fates` of every worker. `None` where there is not one, or where it lacks what the laws need.
    #[must_use]
    pub fn of(workers: &Value) -> Option<Self> {
        let workers = workers.as_array().or_else(|| workers.get("workers")?.as_array())?;
        let mut sum = Fates::default();
        for worker in workers {
            for (name, value) in worker.get("fates")?.as_object()? {
                if let Some(value) = value.as_u64() {
                    *sum.0.entry(name.clone()).or_default() += value;
                }
            }
        }
        LAWS.iter()
            .flat_map(|(left, right)| left.iter().chain(*right))
            .all(|name| sum.0.contains_key(*name))
            .then_some(sum)
    }

    /// One of the sums, by its name; 0 for a name nobody counts.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The laws that do not hold.
    #[must_use]
    pub fn broken(&self) -> Vec<Unexplained> {
        let sum = |names: &[&str]| names.iter().map(|name| self.get(name)).sum::<u64>();
        let sides = LAWS.iter().map(|(left, right)| (sum(left), sum(right)));
        (1..)
            .zip(sides)
            .filter(|(_, (left, right))| left != right)
            .map(|(law, (left, right))| Unexplained { law, left, right })
            .collect()
    }

    /// Frames without a fate, over the three laws.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        self.broken().iter().map(|law| law.left.abs_diff(law.right)).sum()
    }
}

/// Left and right side of each law, over all workers.
const LAWS: [(&[&str], &[&str]); 3] = [
    (
        &["received", "injected", "handed_in"],
        &["forwarded", "answered", "replicated", "held", "delivered", "punted", "dropped", "handed_out"],
    ),
    (&["forwarded", "answered", "copies", "release_sent", "originated"], &["tx_accepted", "tx_refused"]),
    (&["held"], &["released", "expired", "replaced", "still_held"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(changes: &[(&str, u64)]) -> Value {
        let mut fates = serde_json::Map::new();
        for (left, right) in LAWS {
            for name in left.iter().chain(right) {
                fates.insert((*name).to_owned(), 0.into());
            }
        }
        for (name, value) in changes {
            fates.insert((*name).to_owned(), (*value).into());
        }
        serde_json::json!([{ "worker": 0, "fates": fates.clone() }, { "worker": 1, "fates": fates }])
    }

    #[test]
    fn sums_run_over_all_workers() {
        let fates =
            Fates::of(&workers(&[("received", 4), ("forwarded", 4), ("tx_accepted", 4)])).expect("fates");
        assert_eq!((fates.get("received"), fates.broken()), (8, vec![]));
    }

    #[test]
    fn a_frame_without_a_fate_is_found() {
        let lost = Fates::of(&workers(&[("received", 5), ("dropped", 4)])).expect("fates");
        assert_eq!(lost.broken(), [Unexplained { law: 1, left: 10, right: 8 }]);
        let unsent = Fates::of(&workers(&[("originated", 1)])).expect("fates");
        assert_eq!(unsent.broken()[0].law, 2);
        let vanished = Fates::of(&workers(&[("still_held", 1)])).expect("fates");
        assert_eq!((vanished.broken()[0].law, vanished.unexplained()), (3, 2));
    }

    #[test]
    fn a_worker_that_does_not_tell_is_no_witness() {
        assert_eq!(Fates::of(&serde_json::json!([{ "fates": { "received": 1 } }])), None);
        assert_eq!(Fates::of(&serde_json::json!("down")), None);
    }
}

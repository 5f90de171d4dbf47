//! The life of a wake as the appliance tells it in `millrace show wakes --json`.

use serde_json::Value;

/// One wake of one service; points in time are milliseconds since the first packet was seen, and absent where the
/// wake never passed them.
#[derive(Debug, Clone, PartialEq)]
pub struct Wake {
    /// The service's name.
    pub service: String,
    /// What woke it.
    pub trigger: String,
    /// The orchestrator has been notified: the message was handed to the link.
    pub notified_ms: Option<f64>,
    /// The first DNS answer left.
    pub answered_ms: Option<f64>,
    /// The first packet was held.
    pub held_ms: Option<f64>,
    /// The appliance made the service ready: an instance serves, and is in the tables.
    pub ready_ms: Option<f64>,
    /// The first held packet was sent on.
    pub released_ms: Option<f64>,
}

impl Wake {
    /// All wakes that the appliance remembers and saw begin. `None` where the answer lacks what is promised.
    #[must_use]
    pub fn all(shown: &Value) -> Option<Vec<Self>> {
        let rows = shown.as_array().or_else(|| shown.get("wakes")?.as_array())?;
        rows.iter().filter(|row| row.get("seen_nanos") != Some(&Value::Null)).map(Wake::of).collect()
    }

    fn of(row: &Value) -> Option<Self> {
        let seen = row.get("seen_nanos")?.as_u64()?;
        let point = |name: &str| Some((row.get(name)?.as_u64()? as f64 - seen as f64) / 1e6);
        Some(Wake {
            service: row.get("service")?.as_str()?.to_owned(),
            trigger: row.get("trigger")?.as_str().unwrap_or("unknown").to_owned(),
            notified_ms: point("handed_nanos"),
            answered_ms: point("answered_nanos"),
            held_ms: point("held_nanos"),
            ready_ms: point("ready_nanos"),
            released_ms: point("released_nanos"),
        })
    }

    /// From the first packet to the ready instance.
    #[must_use]
    pub fn wake_ms(&self) -> Option<f64> {
        self.ready_ms
    }

    /// From the ready instance to the first held packet on its way. Absent where nothing was held.
    #[must_use]
    pub fn release_ms(&self) -> Option<f64> {
        Some(self.released_ms? - self.ready_ms?)
    }

    /// The points it passed, in the order of time, with words for a person.
    #[must_use]
    pub fn timeline(&self) -> Vec<(f64, &'static str)> {
        let first = match self.trigger.as_str() {
            "dns" => "query seen",
            "flow" => "packet seen",
            _ => "SYN seen",
        };
        let points = [
            (Some(0.0), first),
            (self.notified_ms, "orchestrator notified"),
            (self.answered_ms, "query answered"),
            (self.held_ms, "SYN held"),
            (self.ready_ms, "instance ready"),
            (self.released_ms, "SYN released"),
        ];
        let mut passed: Vec<_> = points.into_iter().filter_map(|(at, what)| Some((at?, what))).collect();
        passed.sort_by(|a, b| a.0.total_cmp(&b.0));
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_told_in_the_order_of_time() {
        let shown = serde_json::json!([{ "service": "fn007", "trigger": "dns", "seen_nanos": 5_000_000,
            "handed_nanos": 5_100_000, "answered_nanos": 5_150_000, "held_nanos": 5_900_000, "ready_nanos": 8_000_000,
            "released_nanos": 8_250_000 }]);
        let wake = Wake::all(&shown).expect("one wake").remove(0);
        assert_eq!((wake.wake_ms(), wake.release_ms()), (Some(3.0), Some(0.25)));
        let words: Vec<_> = wake.timeline().into_iter().map(|(_, what)| what).collect();
        assert_eq!(
            words,
            [
                "query seen",
                "orchestrator notified",
                "query answered",
                "SYN held",
                "instance ready",
                "SYN released"
            ]
        );
    }

    #[test]
    fn what_never_happened_has_no_time() {
        let shown = serde_json::json!([{ "service": "fn007", "trigger": "syn", "seen_nanos": 5, "ready_nanos": null }]);
        let wake = Wake::all(&shown).expect("one wake").remove(0);
        assert_eq!((wake.wake_ms(), wake.release_ms(), wake.timeline().len()), (None, None, 1));
    }
}

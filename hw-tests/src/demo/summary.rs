//! Figures: percentiles, and the file that scripts read from one change to the next.

use serde_json::{Value, json};

/// Measured values of one kind, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `percent` of all values don't exceed (nearest rank); 0 for an empty sample.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        rank.checked_sub(1).and_then(|at| sorted.get(at)).copied().unwrap_or_default()
    }

    /// Median and 99th percentile, to the microsecond.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        json!({ "p50": round(self.percentile(50)), "p99": round(self.percentile(99)) })
    }
}

impl Extend<f64> for Sample {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Sample(values.into_iter().collect())
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.3} ms p50 {:8.3} ms p99", self.percentile(50), self.percentile(99))
    }
}

/// Promises, and those that did not hold.
#[derive(Debug, Default)]
pub struct Promises {
    kept: usize,
    broken: Vec<String>,
}

impl Promises {
    /// Notes whether a promise held; `what` says what was seen.
    pub fn expect(&mut self, held: bool, what: impl Into<String>) {
        if held {
            self.kept += 1;
        } else {
            self.broken.push(what.into());
        }
    }

    /// How many held.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// What was seen in place of the others.
    #[must_use]
    pub fn broken(&self) -> &[String] {
        &self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample: Sample = (1..=200).map(f64::from).collect();
        assert_eq!(
            (sample.percentile(50), sample.percentile(99), sample.percentile(100)),
            (100.0, 198.0, 200.0)
        );
        assert_eq!(Sample::from_iter([7.0]).percentile(99), 7.0);
        assert_eq!(Sample::default().percentile(50), 0.0);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(Sample::from_iter([1.23456]).to_json(), json!({ "p50": 1.235, "p99": 1.235 }));
    }
}

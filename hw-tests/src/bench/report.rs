//! `target/bench/report.json`: each figure beside what it is compared with.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use super::BenchError;

/// Whether a smaller figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Costs.
    Lower,
    /// Rates.
    Higher,
}

/// One figure.
///
/// `ratio` is the median of our rounds over the median of the peer's; `spread` is the lowest and the highest ratio of one
/// round, in which both were measured one after the other. Both are `None` where there is no peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its fixed name.
    pub name: String,
    /// The median of ours.
    pub ours: f64,
    /// The median of the peer's.
    pub peer: Option<f64>,
    /// Who the peer is.
    pub peer_name: Option<String>,
    /// What is counted.
    pub unit: &'static str,
    /// Ours over the peer's.
    pub ratio: Option<f64>,
    /// The least and the most of it.
    pub spread: Option<(f64, f64)>,
    /// Which direction is good.
    pub better: Better,
}

impl Entry {
    /// A figure with a peer, from rounds in which both were measured. Neither may be empty.
    pub fn against(
        name: &str,
        unit: &'static str,
        better: Better,
        ours: &[f64],
        peer: (&str, &[f64]),
    ) -> Entry {
        let (peer_name, peer) = peer;
        let ratios: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
        let spread = ratios.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), ratio| {
            (least.min(*ratio), most.max(*ratio))
        });
        Entry {
            name: name.to_owned(),
            ours: median(ours),
            peer: Some(median(peer)),
            peer_name: Some(peer_name.to_owned()),
            unit,
            ratio: Some(median(ours) / median(peer)),
            spread: Some(spread),
            better,
        }
    }

    /// A figure on its own.
    pub fn alone(name: &str, unit: &'static str, better: Better, ours: &[f64]) -> Entry {
        Entry {
            name: name.to_owned(),
            ours: median(ours),
            peer: None,
            peer_name: None,
            unit,
            ratio: None,
            spread: None,
            better,
        }
    }

    fn to_json(&self) -> Value {
        let better = match self.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
        };
        json!({
            "name": self.name,
            "ours": self.ours,
            "peer": self.peer,
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": self.ratio,
            "spread": self.spread.map(|(least, most)| [least, most]),
            "better": better,
        })
    }
}

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In the order they were taken.
    pub entries: Vec<Entry>,
    /// Pictures that go beside the file, by name.
    pub pictures: Vec<(&'static str, String)>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Adds a picture.
    pub fn draw(&mut self, name: &'static str, svg: String) {
        self.pictures.push((name, svg));
    }

    /// Writes the file and the pictures beside it, and the folders that it needs.
    ///
    /// # Errors
    /// [`BenchError::Report`]
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let failed = |source| BenchError::Report { path: path.to_owned(), source };
        let entries: Vec<Value> = self.entries.iter().map(Entry::to_json).collect();
        let mut text = serde_json::to_string_pretty(&entries).map_err(|error| failed(error.into()))?;
        text.push('\n');
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        for (name, svg) in &self.pictures {
            std::fs::write(path.with_file_name(name), svg).map_err(failed)?;
        }
        std::fs::write(path, text).map_err(failed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<32} {:>12} {:>12}  {:>7}  {:<15} unit, peer",
            "name", "ours", "peer", "ratio", "spread"
        )?;
        for entry in &self.entries {
            let number = |value: Option<f64>| match value {
                // Shares would be nothing but zeros.
                Some(value) if value.abs() < 0.1 => format!("{value:.5}"),
                Some(value) => format!("{value:.2}"),
                None => "-".to_owned(),
            };
            let spread =
                entry.spread.map_or("-".to_owned(), |(least, most)| format!("[{least:.2}, {most:.2}]"));
            writeln!(
                formatter,
                "{:<32} {:>12} {:>12}  {:>7}  {:<15} {}, {}",
                entry.name,
                number(Some(entry.ours)),
                number(entry.peer),
                number(entry.ratio),
                spread,
                entry.unit,
                entry.peer_name.as_deref().unwrap_or("no peer"),
            )?;
        }
        Ok(())
    }
}

/// The middle of `values`, or the mean of the two in the middle; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_medians_and_the_spread_of_rounds() {
        let entry = Entry::against(
            "x",
            "cycles/frame",
            Better::Lower,
            &[90.0, 300.0, 120.0],
            ("p", &[30.0, 60.0, 20.0]),
        );
        assert_eq!((entry.ours, entry.peer), (120.0, Some(30.0)));
        assert_eq!((entry.ratio, entry.spread), (Some(4.0), Some((3.0, 6.0))));
        assert_eq!(median(&[1.0, 4.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_file_has_the_agreed_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/report.json");
        let mut report = Report::default();
        report.add(Entry::against(
            "node.transit",
            "cycles/frame",
            Better::Lower,
            &[8.0],
            ("testpmd.5tswap", &[4.0]),
        ));
        report.add(Entry::alone("tables.publish.name", "ms", Better::Lower, &[0.5]));
        report.draw("costs.svg", "<svg/>".to_owned());
        report.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(path.with_file_name("costs.svg")).unwrap(), "<svg/>");
        let read: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            read[0],
            json!({"name": "node.transit", "ours": 8.0, "peer": 4.0, "peer_name": "testpmd.5tswap",
                "unit": "cycles/frame", "ratio": 2.0, "spread": [2.0, 2.0], "better": "lower"})
        );
        assert_eq!(
            (&read[1]["ratio"], &read[1]["spread"], &read[1]["peer"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert!(report.to_string().contains("[2.00, 2.00]"));
    }
}

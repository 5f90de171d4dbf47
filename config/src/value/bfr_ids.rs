//! Lists of BIER routers' numbers.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use millrace_bier::id::BfrId;

use super::ValueError;

/// Numbers of BIER routers: `1,2,66-70`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfrIds(BTreeSet<BfrId>);

impl BfrIds {
    /// The numbers, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = BfrId> + '_ {
        self.0.iter().copied()
    }

    /// Whether the number is among them.
    pub fn contains(&self, id: BfrId) -> bool {
        self.0.contains(&id)
    }
}

impl FromIterator<BfrId> for BfrIds {
    fn from_iter<I: IntoIterator<Item = BfrId>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl FromStr for BfrIds {
    type Err = ValueError;

    /// A number given twice and a range that runs backwards are errors: they are slips more often than wishes.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut ids = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                let hint = format!("write `{last}-{first}`");
                return Err(ValueError::new(format!("the range {part} runs backwards"), hint));
            }
            for id in (first.get()..=last.get()).filter_map(BfrId::new) {
                if !ids.insert(id) {
                    return Err(ValueError::new(format!("{id} is given twice"), "name each router once"));
                }
            }
        }
        Ok(Self(ids))
    }
}

fn number(text: &str) -> Result<BfrId, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits).and_then(BfrId::new);
    id.ok_or_else(|| {
        ValueError::new(
            "not a list of BFR-ids",
            "write numbers from 1 to 65535 and ranges of them, as in `1,2,66-70`",
        )
    })
}

impl fmt::Display for BfrIds {
    /// The shortest list, with ranges: `1,2,66-70`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u16> = self.0.iter().map(|id| id.get()).collect();
        for (at, run) in ids.chunk_by(|one, next| next - one == 1).enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, last] if last - first == 1 => write!(f, "{comma}{first},{last}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (text, written) in
            [("1,2,66-70", "1,2,66-70"), ("3, 2,1", "1-3"), ("65535", "65535"), ("7-8", "7,8")]
        {
            assert_eq!(text.parse::<BfrIds>().unwrap().to_string(), written);
        }
        for wrong in ["", "0", "65536", "1,", "2-1", "1,1-2", "+1", "a", "1--2"] {
            assert!(wrong.parse::<BfrIds>().is_err(), "{wrong}");
        }
    }
}

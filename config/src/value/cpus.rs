//! Sets of CPUs, in the spelling of the kernel's `cpulist` files.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::ValueError;
use crate::limits::CPUS_MAX;

/// The number that the kernel gives a CPU: one hardware thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuId(pub u32);

/// A set of CPUs: `2-5,18-21`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuSet(BTreeSet<CpuId>);

impl CpuSet {
    /// The CPUs, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.0.iter().copied()
    }

    /// Whether the CPU is among them.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.contains(&cpu)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest of them.
    pub fn first(&self) -> Option<CpuId> {
        self.0.first().copied()
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = ValueError;

    /// Reads a list such as `0,2-5`. The empty text is the empty set, as in the kernel's files. A CPU given twice and
    /// a range that runs backwards are errors: they are slips more often than wishes.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut cpus = BTreeSet::new();
        if text.is_empty() {
            return Ok(Self(cpus));
        }
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(ValueError::new(
                    format!("the range {part} runs backwards"),
                    format!("write `{last}-{first}`"),
                ));
            }
            for cpu in first..=last {
                if !cpus.insert(CpuId(cpu)) {
                    return Err(ValueError::new(format!("CPU {cpu} is given twice"), "name each CPU once"));
                }
            }
        }
        Ok(Self(cpus))
    }
}

fn number(text: &str) -> Result<u32, ValueError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ValueError::new("not a list of CPUs", "write numbers and ranges, as in `2-5,18-21`"));
    }
    match text.parse() {
        Ok(cpu) if cpu < CPUS_MAX => Ok(cpu),
        _ => Err(ValueError::new(
            format!("there is no CPU {text}"),
            format!("CPUs are numbered below {CPUS_MAX}"),
        )),
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CpuSet {
    /// The shortest list, with ranges: `0,2-5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().map(|cpu| cpu.0).peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_the_kernel_writes_them() {
        let set: CpuSet = "0,2-5,18".parse().unwrap();
        assert_eq!(set.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 18]);
        assert_eq!(set.to_string(), "0,2-5,18");
        assert!("".parse::<CpuSet>().unwrap().is_empty());
    }

    #[test]
    fn slips_are_refused() {
        for wrong in ["1,1", "1-3,2", "5-2", "a", "1,", "-1", "0-99999999", "+1", " 1"] {
            assert!(wrong.parse::<CpuSet>().is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(cpus in proptest::collection::btree_set(0u32..64, 0..40)) {
            let set: CpuSet = cpus.into_iter().map(CpuId).collect();
            proptest::prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }
    }
}

//! A tree as text, a line for each visit.

use alloc::string::String;
use core::fmt;

use super::{Tree, Visit, Way};
use crate::id::BfrId;

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for root in self.roots() {
            line(f, "", &self.visits()[root])?;
            branches(f, self, root, &mut String::new())?;
        }
        Ok(())
    }
}

/// The lines below a visit, after what stands before all of them.
fn branches(f: &mut fmt::Formatter<'_>, tree: &Tree, of: usize, before: &mut String) -> fmt::Result {
    let last = tree.children(of).next_back();
    for child in tree.children(of) {
        let (mark, under) = if Some(child) == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        f.write_str(before)?;
        line(f, mark, &tree.visits()[child])?;
        let len = before.len();
        before.push_str(under);
        branches(f, tree, child, before)?;
        before.truncate(len);
    }
    Ok(())
}

fn line(f: &mut fmt::Formatter<'_>, mark: &str, visit: &Visit) -> fmt::Result {
    write!(f, "{mark}{}", visit.name)?;
    match visit.from {
        Some((_, Way::Link(link))) => write!(f, " by link {}, TTL {}", link.0, visit.ttl)?,
        Some((_, Way::Tunnel)) => write!(f, " by tunnel, TTL {}", visit.ttl)?,
        None => write!(f, " sends set {}", visit.si.0)?,
    }
    write!(f, ", for {}", Ids(&visit.receivers))?;
    if visit.delivered {
        f.write_str(", delivers")?;
    }
    if !visit.unroutable.is_empty() {
        write!(f, ", no way to {}", Ids(&visit.unroutable))?;
    }
    if visit.expired {
        f.write_str(", expired")?;
    }
    writeln!(f)
}

/// Numbers, runs of them as `3-7`.
pub(super) struct Ids<'a>(pub(super) &'a [BfrId]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, run) in self.0.chunk_by(|one, next| next.get() - one.get() == 1).enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

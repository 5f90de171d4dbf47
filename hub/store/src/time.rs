//! Time comes from the caller: the store has no clock, so that tests move it by hand.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970: wall time, because it is compared with what was written before a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// The time that the system's clock shows.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(since.as_millis() as u64)
    }

    /// Milliseconds from an earlier time to this one. A clock that was set back says 0 there.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

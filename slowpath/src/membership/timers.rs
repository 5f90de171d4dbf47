//! The times of IGMP and MLD, which all follow from four (RFC 9776 section 8, RFC 9777 section 9). In nanoseconds.

use millrace_config::model::Querier;

use super::message::Query;

/// How often and how soon things are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Robustness Variable.
    pub robustness: u8,
    /// Query Interval.
    pub query_interval: u64,
    /// Query Response Interval.
    pub response: u64,
    /// Last Member Query Interval, or Last Listener Query Interval.
    pub last_member: u64,
}

impl From<&Querier> for Timers {
    fn from(querier: &Querier) -> Self {
        Self {
            robustness: querier.robustness,
            query_interval: u64::from(querier.query_interval_seconds) * SECOND,
            response: u64::from(querier.response_ms) * MILLISECOND,
            last_member: u64::from(querier.last_member_ms) * MILLISECOND,
        }
    }
}

impl Timers {
    /// Group Membership Interval, or Multicast Address Listening Interval; and Older Host Present Interval, which is as long.
    pub(super) fn membership(&self) -> u64 {
        u64::from(self.robustness) * self.query_interval + self.response
    }

    /// Other Querier Present Interval.
    pub(super) fn other_querier(&self) -> u64 {
        u64::from(self.robustness) * self.query_interval + self.response / 2
    }

    /// Last Member Query Time: how long who left still counts.
    pub(super) fn last_member_time(&self) -> u64 {
        u64::from(self.robustness) * self.last_member
    }

    /// What another router's query says, and where it says nothing, what was configured.
    pub(super) fn adopted(&self, query: &Query, configured: &Self) -> Self {
        let mut timers = *self;
        timers.robustness = if query.robustness == 0 { configured.robustness } else { query.robustness };
        timers.query_interval = match query.interval_seconds {
            0 => configured.query_interval,
            seconds => u64::from(seconds) * SECOND,
        };
        if query.group.is_none() {
            timers.response = u64::from(query.response_ms) * MILLISECOND;
        }
        timers
    }
}

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

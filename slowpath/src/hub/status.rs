//! How a site is, for operators.

use std::collections::BTreeMap;

use millrace_hub::session::{Counters, Ignored, LegCounters};
use millrace_hub_store::desk::{LegStatus, SiteStatus};

use super::site::Site;

/// A site with NORM.
pub(super) fn of_norm(site: &Site) -> SiteStatus {
    let sender = site.sender();
    let counters: &Counters = sender.counters();
    let leg = |node| {
        let name = sender.roster().node(node).id.0;
        (name, leg_status(&sender.leg(node)))
    };
    let mut ignored = BTreeMap::<_, u64>::new();
    for reason in Ignored::all() {
        *ignored.entry(reason.name().to_owned()).or_default() += counters.ignored(reason);
    }
    SiteStatus {
        site: site.name.clone(),
        trunk: leg_status(&counters.trunk),
        legs: sender.roster().indices().map(leg).collect(),
        nacks: counters.nacks,
        acks: counters.acks,
        feedback_bytes: counters.feedback_bytes,
        grtt_seconds: sender.grtt().as_secs_f64(),
        bytes_per_second: site.rates(),
        ignored,
        unsent: site.unsent().map(|(why, count)| (why.to_owned(), count)).collect(),
    }
}

pub(super) fn leg_status(leg: &LegCounters) -> LegStatus {
    LegStatus {
        first_packets: leg.first_packets,
        first_bytes: leg.first_bytes,
        repair_packets: leg.repair_packets,
        repair_bytes: leg.repair_bytes,
        control_packets: leg.control_packets,
        control_bytes: leg.control_bytes,
    }
}

//! `hub.simulated.*`: whole sites of up to 256 nodes on a virtual clock, by the sessions that the hub runs. What repairs cost the
//! trunk and the legs, beside what any protocol must pay; and the picture of it, over the number of nodes.
//!
//! The simulation is that of the hub's own tests.

#[path = "../../../../hub/tests/simulation/bound.rs"]
mod bound;
#[path = "../../../../hub/tests/simulation/costs.rs"]
mod costs;
#[expect(dead_code, reason = "the hub's tests do more with it: cuts, late nodes, forged feedback")]
#[path = "../../../../hub/tests/simulation/network.rs"]
mod network;
#[path = "../../../../hub/tests/simulation/plot.rs"]
mod plot;

use super::super::BenchOptions;
use super::super::report::{Better, Entry, Report};
use costs::{BLOCK, Costs, LOSSES, SIZES};
use network::Shares;

const PREFIX: &str = "hub.simulated";
const UNIT: &str = "repairs/segment";
/// As in the hub's own tests of single costs: 100 blocks.
const SEGMENTS: u64 = 6400;

/// Simulates, if any of it is wanted.
pub(super) fn measure(options: &BenchOptions, report: &mut Report) {
    if !PREFIX.starts_with(&options.only) && !options.only.starts_with(PREFIX) {
        return;
    }
    let costs = LOSSES.map(|loss| Costs::simulate(loss, SEGMENTS));
    for costs in &costs {
        let percent = costs.loss * 100.0;
        let nodes = SIZES[SIZES.len() - 1];
        let coded = bound::trunk_coded(nodes, costs.loss, BLOCK);
        let exact = bound::trunk_exact(nodes, costs.loss);
        let leg = bound::leg(costs.loss);
        for (losses, shares, at_least) in [
            ("random", &costs.random, ("ideal code, k = 64", coded)),
            // A burst takes from a block more than its share: there are no bounds but that of single segments.
            ("bursts", &costs.bursts, ("segments to all", exact)),
        ] {
            let last: &Shares = &shares[SIZES.len() - 1];
            let mut add = |what: &str, ours: f64, (name, bound): (&str, f64)| {
                let entry = format!("{PREFIX}.{what}.{percent:.0}pct.{losses}");
                report.add(Entry::against(&entry, UNIT, Better::Lower, &[ours], (name, &[bound])));
            };
            add("trunk", last.trunk, at_least);
            add("leg", last.leg, ("p/(1-p)", leg));
        }
    }
    report.draw("hub-repairs.svg", costs::svg(&costs));
}

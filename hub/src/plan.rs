//! Which repairs a block needs, and who gets each.
//!
//! Two ways lead to the same end. *Exact*: each segment that was named goes to those who named it. *Coded*: rows of parity that
//! nobody has yet, where row j goes to every node that lacks more than j segments, so that the bit strings are nested:
//!
//! ```text
//!   a lacks 2, 7     exact    2 ► a      coded    row 0 ► a b c
//!   b lacks 7, 9, 12          7 ► a b             row 1 ► a b
//!   c lacks 20                9 ► b               row 2 ►   b
//!                            12 ► b
//!                            20 ► c
//! ```
//!
//! A leg carries as many packets either way: what its node lacks. The trunk carries fewer with parity: as many as
//! the node that lacks most, times the sets of bit strings touched. Where both cost the same, source segments
//! are sent, since nobody has to decode them.

use crate::ledger::Wants;
use crate::nodes::NodeSet;

/// Repairs of a block, in the order they should be sent in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The number of a segment, source or parity, and who gets it.
    pub repairs: Vec<(u8, NodeSet)>,
    /// Rows of parity below this are used up.
    pub rows_used: u8,
}

/// Plans the repairs of a block of `source` segments and `rows` of parity. `packets` says how many packets leave for a set of
/// nodes.
#[must_use]
pub fn plan(wants: &Wants, source: u8, rows: u8, packets: impl Fn(&NodeSet) -> usize) -> Plan {
    let cost = |repairs: &[(u8, NodeSet)]| repairs.iter().map(|(_, nodes)| packets(nodes)).sum::<usize>();
    let exact = exact(wants);
    let all_source = exact.iter().all(|(segment, _)| *segment < source);
    match coded(wants, source, rows) {
        Some(coded) if (cost(&coded), all_source) < (cost(&exact), true) => {
            Plan { rows_used: wants.rows_used + coded.len() as u8, repairs: coded }
        }
        _ => Plan { rows_used: exact_rows(wants, source), repairs: exact },
    }
}

/// Each named segment to those who named it.
fn exact(wants: &Wants) -> Vec<(u8, NodeSet)> {
    let named = wants
        .nodes
        .iter()
        .fold(Default::default(), |all: crate::segments::SegmentSet, (_, set)| all.or(*set));
    let who =
        |segment| wants.nodes.iter().filter(move |(_, set)| set.contains(segment)).map(|(node, _)| *node);
    named.iter().map(|segment| (segment, who(segment).collect())).collect()
}

/// Rows that were named and sent exactly are used up as well.
fn exact_rows(wants: &Wants, source: u8) -> u8 {
    let highest = wants.nodes.iter().filter_map(|(_, set)| set.iter().last()).max().unwrap_or(0);
    if highest < source { wants.rows_used } else { wants.rows_used.max(highest - source + 1) }
}

/// Fresh parity with nested sets; `None` if there aren't rows enough.
fn coded(wants: &Wants, source: u8, rows: u8) -> Option<Vec<(u8, NodeSet)>> {
    let most = wants.nodes.iter().map(|(_, set)| set.len()).max()?;
    if most > u16::from(rows.saturating_sub(wants.rows_used)) {
        return None;
    }
    let nested = (0..most).map(|row| {
        let who = wants.nodes.iter().filter(|(_, set)| set.len() > row).map(|(node, _)| *node);
        (source + wants.rows_used + row as u8, who.collect())
    });
    Some(nested.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nodes::NodeIndex;
    use crate::segments::SegmentSet;

    fn wants(nodes: &[(u16, &[u8])], rows_used: u8) -> Wants {
        let nodes =
            nodes.iter().map(|(node, named)| (NodeIndex(*node), named.iter().copied().collect())).collect();
        Wants { block: 0, nodes, rows_used }
    }

    fn to(nodes: &[u16]) -> NodeSet {
        nodes.iter().copied().map(NodeIndex).collect()
    }

    /// As many packets as there are hundreds touched.
    fn packets(nodes: &NodeSet) -> usize {
        nodes.iter().map(|node| node.0 / 100).collect::<std::collections::BTreeSet<_>>().len()
    }

    #[test]
    fn different_losses_are_repaired_by_nested_parity() {
        let plan = plan(&wants(&[(1, &[2, 7]), (2, &[7, 9, 12]), (3, &[20])], 4), 64, 32, packets);
        let expected = [(68, to(&[1, 2, 3])), (69, to(&[1, 2])), (70, to(&[2]))];
        assert_eq!((plan.repairs.as_slice(), plan.rows_used), (&expected[..], 7));
    }

    #[test]
    fn the_same_losses_are_repaired_by_the_segments_themselves() {
        let plan = plan(&wants(&[(1, &[2, 7]), (2, &[2, 7]), (3, &[7])], 4), 64, 32, packets);
        let expected = [(2, to(&[1, 2])), (7, to(&[1, 2, 3]))];
        assert_eq!((plan.repairs.as_slice(), plan.rows_used), (&expected[..], 4));
    }

    #[test]
    fn nodes_in_different_sets_share_no_packet() {
        let plan = plan(&wants(&[(1, &[2]), (100, &[9])], 0), 64, 32, packets);
        assert_eq!(plan.repairs, [(2, to(&[1])), (9, to(&[100]))]);
    }

    #[test]
    fn without_rows_enough_the_segments_are_sent() {
        let named = &[(1, &[1u8, 2, 3][..]), (2, &[4])];
        assert_eq!(plan(&wants(named, 30), 64, 32, packets).repairs.len(), 4);
        assert_eq!(plan(&wants(named, 29), 64, 32, packets).repairs.len(), 3);
    }

    #[test]
    fn rows_that_are_named_are_not_taken_for_fresh_ones() {
        let named = plan(&wants(&[(1, &[66])], 0), 64, 2, packets);
        assert_eq!((named.repairs, named.rows_used), (vec![(64, to(&[1]))], 1), "any row serves");
        let none_fresh = plan(&wants(&[(1, &[66])], 3), 64, 3, packets);
        assert_eq!((none_fresh.repairs, none_fresh.rows_used), (vec![(66, to(&[1]))], 3));
    }

    proptest! {
        #[test]
        fn every_node_gets_what_it_lacks_and_no_more(
            nodes in prop::collection::btree_map(0..250u16, prop::collection::btree_set(0..20u8, 1..20), 1..12),
            rows_used in 0..20u8,
            rows in 0..40u8,
        ) {
            let set = |named: &std::collections::BTreeSet<u8>| named.iter().copied().collect::<SegmentSet>();
            let nodes: Vec<_> = nodes.iter().map(|(node, named)| (NodeIndex(*node), set(named))).collect();
            let wants = Wants { block: 0, nodes, rows_used };
            let plan = plan(&wants, 20, rows, packets);
            for (node, named) in &wants.nodes {
                let got: Vec<u8> = plan.repairs.iter().filter(|(_, to)| to.contains(*node)).map(|(s, _)| *s).collect();
                prop_assert_eq!(got.len(), usize::from(named.len()));
                let fresh = |segment: &u8| (20 + rows_used..20 + rows).contains(segment);
                prop_assert!(got.iter().all(|segment| named.contains(*segment) || fresh(segment)));
            }
            let cost = |repairs: &[(u8, NodeSet)]| repairs.iter().map(|(_, to)| packets(to)).sum::<usize>();
            prop_assert!(cost(&plan.repairs) <= cost(&exact(&wants)));
        }
    }
}

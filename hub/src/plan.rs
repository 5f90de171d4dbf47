//! Which repairs a block needs, and who gets each.
//!
//! Two ways lead to the same end. *Exact*: each segment that was named goes to those who named it. *Coded*: rows of parity that
//! their receivers don't have, where row j goes to every node that lacks more than j segments, so that the bit strings are
//! nested:
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
use crate::segments::SegmentSet;

/// A repair of a block: the number of a segment, source or parity, and who gets it.
pub type Repair = (u8, NodeSet);

/// Plans the repairs of a block of `source` segments and `rows` of parity, in the order they should be sent in. `packets`
/// says how many packets leave for a set of nodes.
#[must_use]
pub fn plan(wants: &Wants, source: u8, rows: u8, packets: impl Fn(&NodeSet) -> usize) -> Vec<Repair> {
    let cost = |repairs: &[Repair]| repairs.iter().map(|(_, nodes)| packets(nodes)).sum::<usize>();
    let exact = exact(wants);
    let all_source = exact.iter().all(|(segment, _)| *segment < source);
    match coded(wants, source, rows) {
        Some(coded) if (cost(&coded), all_source) < (cost(&exact), true) => coded,
        _ => exact,
    }
}

/// Each named segment to those who named it.
fn exact(wants: &Wants) -> Vec<Repair> {
    let named = wants.nodes.iter().fold(SegmentSet::EMPTY, |all, (_, set)| all.or(*set));
    let who =
        |segment| wants.nodes.iter().filter(move |(_, set)| set.contains(segment)).map(|(node, _)| *node);
    named.iter().map(|segment| (segment, who(segment).collect())).collect()
}

/// Parity with nested sets; `None` if there aren't rows enough that none of its receivers was sent before. Lower rows are
/// taken first: NRL's receivers name rows from the first one on, and for a late one those serve that others got before.
fn coded(wants: &Wants, source: u8, rows: u8) -> Option<Vec<Repair>> {
    let most = wants.nodes.iter().map(|(_, set)| set.len()).max()?;
    let mut left: Vec<u8> = (0..rows).collect();
    let nested = (0..most).map(|at| {
        let who: NodeSet =
            wants.nodes.iter().filter(|(_, set)| set.len() > at).map(|(node, _)| *node).collect();
        let sent = |row: &u8| wants.rows.get(usize::from(*row)).is_some_and(|sent| sent.meets(&who));
        let row = left.remove(left.iter().position(|row| !sent(row))?);
        Some((source + row, who))
    });
    nested.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nodes::NodeIndex;
    use crate::segments::SegmentSet;

    fn wants(nodes: &[(u16, &[u8])], rows: &[&[u16]]) -> Wants {
        let nodes =
            nodes.iter().map(|(node, named)| (NodeIndex(*node), named.iter().copied().collect())).collect();
        Wants { block: 0, nodes, rows: rows.iter().map(|nodes| to(nodes)).collect() }
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
        let wants = wants(&[(1, &[2, 7]), (2, &[7, 9, 12]), (3, &[20])], &[&[1, 2], &[4], &[3]]);
        // The first row was sent to two of them, the third to one; nobody of these got the second.
        let expected = [(65, to(&[1, 2, 3])), (66, to(&[1, 2])), (67, to(&[2]))];
        assert_eq!(plan(&wants, 64, 32, packets), expected);
    }

    #[test]
    fn the_same_losses_are_repaired_by_the_segments_themselves() {
        let wants = wants(&[(1, &[2, 7]), (2, &[2, 7]), (3, &[7])], &[]);
        assert_eq!(plan(&wants, 64, 32, packets), [(2, to(&[1, 2])), (7, to(&[1, 2, 3]))]);
    }

    #[test]
    fn nodes_in_different_sets_share_no_packet() {
        assert_eq!(
            plan(&wants(&[(1, &[2]), (100, &[9])], &[]), 64, 32, packets),
            [(2, to(&[1])), (9, to(&[100]))]
        );
    }

    #[test]
    fn without_rows_enough_the_segments_are_sent() {
        let named = &[(1, &[1u8, 2, 3][..]), (2, &[4])];
        assert_eq!(plan(&wants(named, &[&[1], &[], &[]]), 64, 3, packets).len(), 4);
        assert_eq!(plan(&wants(named, &[&[5], &[], &[]]), 64, 3, packets).len(), 3);
    }

    #[test]
    fn rows_that_are_named_are_sent_again_where_there_is_no_other() {
        assert_eq!(plan(&wants(&[(1, &[66])], &[]), 64, 3, packets), [(64, to(&[1]))], "any row serves");
        let none = &[&[1][..], &[1], &[1]];
        assert_eq!(plan(&wants(&[(1, &[66])], none), 64, 3, packets), [(66, to(&[1]))]);
    }

    proptest! {
        #[test]
        fn every_node_gets_what_it_lacks_and_no_more(
            nodes in prop::collection::btree_map(0..250u16, prop::collection::btree_set(0..20u8, 1..20), 1..12),
            sent in prop::collection::vec(prop::collection::vec(0..250u16, 0..20), 0..20),
            rows in 20..40u8,
        ) {
            let set = |named: &std::collections::BTreeSet<u8>| named.iter().copied().collect::<SegmentSet>();
            let nodes: Vec<_> = nodes.iter().map(|(node, named)| (NodeIndex(*node), set(named))).collect();
            let wants = Wants { block: 0, nodes, rows: sent.iter().map(|nodes| to(nodes)).collect() };
            let plan = plan(&wants, 20, rows, packets);
            let sent_before = |segment: u8, node| {
                wants.rows.get(usize::from(segment - 20)).is_some_and(|nodes: &NodeSet| nodes.contains(node))
            };
            for (node, named) in &wants.nodes {
                let got: Vec<u8> = plan.iter().filter(|(_, to)| to.contains(*node)).map(|(s, _)| *s).collect();
                let different: SegmentSet = got.iter().copied().collect();
                prop_assert_eq!((different.len(), got.len()), (named.len(), usize::from(named.len())));
                let fresh = |segment: u8| segment >= 20 && segment < 20 + rows && !sent_before(segment, *node);
                prop_assert!(got.iter().all(|segment| named.contains(*segment) || fresh(*segment)));
            }
            let cost = |repairs: &[Repair]| repairs.iter().map(|(_, to)| packets(to)).sum::<usize>();
            prop_assert!(cost(&plan) <= cost(&exact(&wants)));
        }
    }
}

//! What any protocol must send, per source segment, if `nodes` lose each packet with probability `p`, independently.

/// On a leg: every loss is repaired, and losses of repairs as well.
pub(crate) fn leg(p: f64) -> f64 {
    p / (1.0 - p)
}

/// On the trunk, with segments sent again by name: the most attempts that one of `nodes` needs for a segment, less one.
pub(crate) fn trunk_exact(nodes: usize, p: f64) -> f64 {
    // The expectation of a maximum, from the probability that all are done after so many attempts.
    (1..10_000)
        .map(|sent| 1.0 - (1.0 - p.powi(sent)).powi(nodes as i32))
        .take_while(|rest| *rest > 1e-12)
        .sum()
}

/// On the trunk, with an ideal code of blocks of `k`: the most packets that one of `nodes` needs for `k` to arrive.
pub(crate) fn trunk_coded(nodes: usize, p: f64, k: u32) -> f64 {
    // P(k arrive within n) for one node, term by term: the k-th arrives with the n-th packet.
    let mut last_is_kth = (1.0 - p).powi(k as i32);
    let (mut done, mut expected, mut n) = (last_is_kth, f64::from(k), k);
    while 1.0 - done.powi(nodes as i32) > 1e-12 && n < 100 * k {
        expected += 1.0 - done.powi(nodes as i32);
        n += 1;
        last_is_kth *= p * f64::from(n - 1) / f64::from(n - k);
        done += last_is_kth;
    }
    expected / f64::from(k) - 1.0
}

#[test]
fn bounds_are_those_that_are_known() {
    let near = |value: f64, percent: f64| (value * 100.0 - percent).abs() < percent * 0.02;
    for (nodes, p, exact, coded) in
        [(3, 0.01, 3.0, 2.05), (3, 0.05, 15.05, 7.8), (256, 0.01, 94.9, 6.0), (256, 0.05, 151.0, 15.4)]
    {
        assert!(near(trunk_exact(nodes, p), exact), "{}", trunk_exact(nodes, p));
        assert!(near(trunk_coded(nodes, p, 64), coded), "{}", trunk_coded(nodes, p, 64));
    }
    assert!(near(leg(0.05), 5.26));
}
